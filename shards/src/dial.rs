//! Reaching other servers. A name's addresses are looked up and a connection is made on a thread of its own, for both may take
//! seconds and a shard never waits; what came of it is told by the shard's bell.

use std::{
    io,
    net::{TcpStream, ToSocketAddrs as _},
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    thread,
};

use crossbeam_queue::SegQueue;
use shardcast_engine::{
    limits::{RELAY_CONNECT_TIME_MAX, RELAY_CONNECTS_MAX},
    protocol::Transport,
};
use shardcast_io::{
    lane::Doorbell,
    tcp::{self, SocketOptions},
    udp,
};

use crate::node::UNSENT_BYTES_MAX;

/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;

/// Which wish it was, and what came of it.
type Answer = (u64, io::Result<OwnedFd>);

/// Reaches servers for one shard.
pub(crate) struct Dialer {
    bell: Arc<Doorbell>,
    answers: Arc<SegQueue<Answer>>,
    under_way: usize,
}

impl Dialer {
    /// For the shard that sleeps at `bell`.
    pub fn new(bell: Arc<Doorbell>) -> Dialer {
        Dialer { bell, answers: Arc::default(), under_way: 0 }
    }

    /// As much is under way as may be.
    pub fn is_busy(&self) -> bool {
        self.under_way >= RELAY_CONNECTS_MAX
    }

    /// Reaches for a server, over TCP or, with a socket that hears and tells nobody else, over UDP. The answer carries `ticket`.
    ///
    /// # Errors
    /// There is no thread for it.
    pub fn dial(&mut self, ticket: u64, host: &str, port: u16, over: Transport) -> io::Result<()> {
        let (bell, answers, host) = (self.bell.clone(), self.answers.clone(), host.to_owned());
        thread::Builder::new().name("dial".to_owned()).spawn(move || {
            let reached = match over {
                Transport::Tcp => connect(&host, port),
                Transport::Udp | Transport::Signalled => {
                    udp::connect_first((&host[..], port)).map(OwnedFd::from)
                }
            };
            answers.push((ticket, reached));
            bell.ring();
        })?;
        self.under_way += 1;
        Ok(())
    }

    /// What has come of a wish.
    pub fn answer(&mut self) -> Option<Answer> {
        let answer = self.answers.pop()?;
        self.under_way -= 1;
        Some(answer)
    }

    /// Something waits to be taken.
    pub fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }
}

/// A connection to the first of a name's addresses that takes one.
fn connect(host: &str, port: u16) -> io::Result<OwnedFd> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()?.take(ADDRESSES_MAX) {
        match TcpStream::connect_timeout(&address, RELAY_CONNECT_TIME_MAX) {
            Ok(stream) => {
                let options =
                    SocketOptions { notsent_bytes: Some(UNSENT_BYTES_MAX), ..SocketOptions::default() };
                tcp::configure(stream.as_fd(), &options)?;
                return Ok(stream.into());
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}
