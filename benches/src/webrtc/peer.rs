//! A peer of a server: the library, and the socket that it has for itself.

use std::{
    collections::VecDeque,
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::AsFd,
    time::Instant,
};

use shardcast_engine::time::Now;
use shardcast_io::{tcp, udp};
use str0m::{
    Candidate, Event, Input, Output, Rtc,
    change::{SdpAnswer, SdpPendingOffer},
    media::{Direction, MediaKind, Mid},
    net::{Protocol, Receive},
};

use super::{config, instant};

/// What may wait in a socket. The kernel caps it.
const RECEIVE_BUFFER_BYTES: u32 = 1 << 20;

/// A peer.
pub struct Peer {
    rtc: Rtc,
    socket: UdpSocket,
    local: SocketAddr,
    /// Its offer, while there is no answer.
    pending: Option<SdpPendingOffer>,
    wake: Option<Instant>,
    loss: Loss,
    /// The number of packets that are sent again.
    again: Option<u8>,
    holds: bool,
    /// What is held back, and from where it came.
    held: VecDeque<(SocketAddr, Vec<u8>)>,
}

/// What of all that comes is lost: the same datagrams in each run.
#[derive(Clone, Copy, Debug)]
struct Loss {
    /// Of 2^32.
    share: u64,
    state: u64,
}

impl Loss {
    fn takes_next(&mut self) -> bool {
        // SplitMix64.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) >> 32 < self.share
    }
}

impl Peer {
    /// A peer of the server at `address`, and its offer: which kinds of media it wants to send or receive, and what each is called.
    ///
    /// # Errors
    /// There is no way to the server.
    pub fn offer(
        address: &str,
        direction: Direction,
        kinds: &[MediaKind],
        now: Now,
    ) -> Result<(Peer, String, Vec<Mid>), String> {
        let opened = udp::connect_first(address).and_then(|way| {
            let socket = UdpSocket::bind((way.local_addr()?.ip(), 0))?;
            socket.set_nonblocking(true)?;
            tcp::set_receive_buffer(socket.as_fd(), RECEIVE_BUFFER_BYTES)?;
            Ok((socket.local_addr()?, socket))
        });
        let (local, socket) = opened.map_err(|error| format!("{address}: {error}"))?;
        let config = config().clear_codecs().enable_h264(true).enable_opus(true, false);
        let mut rtc = config.build(instant(now));
        let candidate = Candidate::host(local, "udp").map_err(|error| error.to_string())?;
        rtc.add_local_candidate(candidate);
        let mut api = rtc.sdp_api();
        let mids = kinds.iter().map(|kind| api.add_media(*kind, direction, None, None, None)).collect();
        let (offer, pending) = api.apply().ok_or("nothing is offered")?;
        let loss = Loss { share: 0, state: 0 };
        let peer = Peer {
            rtc,
            socket,
            local,
            pending: Some(pending),
            wake: None,
            loss,
            again: None,
            holds: false,
            held: VecDeque::new(),
        };
        Ok((peer, offer.to_sdp_string(), mids))
    }

    /// From here on it loses this share of what comes; `seed` says which.
    pub fn lose(&mut self, share: f64, seed: u64) {
        self.loss = Loss { share: (share * 4_294_967_296.0) as u64, state: seed << 32 };
    }

    /// The server has answered.
    ///
    /// # Errors
    /// It is no answer to this offer.
    pub fn answered(&mut self, sdp: &str) -> Result<(), String> {
        let Some(pending) = self.pending.take() else { return Err("a second answer".to_owned()) };
        let answer = SdpAnswer::from_sdp_string(sdp).map_err(|error| error.to_string())?;
        self.rtc.sdp_api().accept_answer(pending, answer).map_err(|error| error.to_string())
    }

    /// Packets with this number are sent again: they are never held back.
    pub fn knows_again(&mut self, number: u8) {
        self.again = Some(number);
    }

    /// Whether further packets of media are held back, because the library would forget what is missing before them.
    pub fn hold_back(&mut self, holds: bool) {
        self.holds = holds;
    }

    /// Takes what has come and does what is due, and tells what that brings. What `tell` says is whether to
    /// [hold back](Self::hold_back) from there on. `buffer` has room for a datagram.
    ///
    /// # Errors
    /// The server has ended it, or a socket failed.
    pub fn work(
        &mut self,
        buffer: &mut [u8],
        now: Now,
        tell: &mut dyn FnMut(Event) -> bool,
    ) -> Result<(), String> {
        if self.pending.is_some() {
            return Ok(());
        }
        loop {
            let (length, source) = match self.socket.recv_from(buffer) {
                Ok(came) => came,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // What nobody took is sent again.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return Err(format!("a socket failed: {error}")),
            };
            let datagram = &buffer[..length];
            if self.loss.takes_next() {
                continue;
            }
            if (self.holds || !self.held.is_empty()) && self.is_first_hand(datagram) {
                self.held.push_back((source, datagram.to_vec()));
            } else {
                self.take(source, datagram, now, tell)?;
            }
        }
        while !self.holds
            && let Some((source, datagram)) = self.held.pop_front()
        {
            self.take(source, &datagram, now, tell)?;
        }
        if self.wake.is_none_or(|wake| wake <= instant(now)) {
            self.flush(now, tell)?;
        }
        if self.rtc.is_alive() { Ok(()) } else { Err("the server has ended the stream".to_owned()) }
    }

    /// Media that is not sent again. (RFC 7983, 7; RFC 5761, 4)
    fn is_first_hand(&self, datagram: &[u8]) -> bool {
        let [128..=191, second, ..] = datagram else { return false };
        !(192..=223).contains(second) && self.again != Some(second & 0x7f)
    }

    fn take(
        &mut self,
        source: SocketAddr,
        datagram: &[u8],
        now: Now,
        tell: &mut dyn FnMut(Event) -> bool,
    ) -> Result<(), String> {
        let Ok(contents) = datagram.try_into() else { return Ok(()) };
        let receive = Receive { proto: Protocol::Udp, source, destination: self.local, contents };
        self.rtc.handle_input(Input::Receive(instant(now), receive)).map_err(|error| error.to_string())?;
        self.drain(tell)
    }

    /// Sends what was written.
    ///
    /// # Errors
    /// It is over.
    pub fn flush(&mut self, now: Now, tell: &mut dyn FnMut(Event) -> bool) -> Result<(), String> {
        self.rtc.handle_input(Input::Timeout(instant(now))).map_err(|error| error.to_string())?;
        self.drain(tell)
    }

    /// The library's own.
    pub fn rtc(&mut self) -> &mut Rtc {
        &mut self.rtc
    }

    /// Hangs up, and says so.
    pub fn part(&mut self, now: Now) {
        // Nobody waits for an answer any more.
        let _ = self.rtc.close();
        let _ = self.flush(now, &mut |_| false);
    }

    fn drain(&mut self, tell: &mut dyn FnMut(Event) -> bool) -> Result<(), String> {
        loop {
            match self.rtc.poll_output().map_err(|error| error.to_string())? {
                // What does not go is lost, as any datagram may be.
                Output::Transmit(transmit) => {
                    let _ = self.socket.send_to(&transmit.contents, transmit.destination);
                }
                Output::Event(event) => self.holds = tell(event),
                Output::Timeout(at) => {
                    self.wake = Some(at);
                    return Ok(());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_is_lost_as_was_said_and_the_same_each_time() {
        let lost = |seed: u64| -> Vec<bool> {
            let mut loss = Loss { share: (0.05 * 4_294_967_296.0) as u64, state: seed << 32 };
            (0..20_000).map(|_| loss.takes_next()).collect()
        };
        let count = lost(7).iter().filter(|lost| **lost).count();
        assert!((850..1150).contains(&count), "{count}");
        assert_eq!(lost(7), lost(7));
        assert_ne!(lost(7), lost(8));
        let mut none = Loss { share: 0, state: 3 };
        assert!((0..1000).all(|_| !none.takes_next()));
    }
}
