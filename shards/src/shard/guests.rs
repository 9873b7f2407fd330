//! Publishers of the program that the node lives in. Each is a connection like any other, whose socket nobody reads: its
//! session has the frames by itself, and is told when to look.

use std::{
    net::{Ipv4Addr, SocketAddr},
    os::unix::net::UnixDatagram,
};

use shardcast_engine::{
    hub::{ConnectionId, Input},
    message::CoreId,
    session::Session,
    time::Now,
};

use super::Shard;
use crate::host::Word;

/// The name of the host's door: in log lines, and what the authenticator is told.
const DOOR: &str = "host";
/// Words that are taken in one round; those of a crowd must not hold up the sends.
const WORDS_PER_ROUND: usize = 256;

impl Shard {
    /// What the host has said since the last round.
    pub(super) fn take_guests(&mut self, now: Now) {
        for _ in 0..WORDS_PER_ROUND {
            let Some(word) = self.guests.as_ref().and_then(|guests| guests.door.hear()) else { return };
            match word {
                Word::Enter { number, session } => {
                    // What the host asked for before it brought this one holds for it.
                    self.take_requests(now);
                    let Some(connection) = self.seat(session, now) else { continue };
                    if let Some(guests) = &mut self.guests {
                        guests.connections.insert(number, connection);
                    }
                    self.look(connection, now);
                }
                Word::Mail(message) => {
                    // To the shards the host is the core after the last of them.
                    self.hub.handle(Input::Mail(message, CoreId(self.cores)), now);
                }
                Word::Look(number) => {
                    let known = self.guests.as_ref().and_then(|guests| guests.connections.get(&number));
                    if let Some(connection) = known.copied() {
                        self.look(connection, now);
                    }
                }
                Word::Leave(number) => {
                    let known = self.guests.as_mut().and_then(|guests| guests.connections.remove(&number));
                    if let Some(connection) = known {
                        self.look(connection, now);
                    }
                }
            }
        }
    }

    /// Gives a session a connection. Without a descriptor for it there is none, and dropping the session says so.
    fn seat(&mut self, session: Box<dyn Session>, now: Now) -> Option<ConnectionId> {
        let socket = UnixDatagram::unbound().ok()?;
        let id = self.ring.add(socket.into()).ok()?;
        let address = Ipv4Addr::LOCALHOST;
        let connection = self.enter(id, usize::MAX, address.into());
        let peer = SocketAddr::from((address, 0));
        self.hub.handle(Input::Connected { connection, door: DOOR, peer, session }, now);
        Some(connection)
    }

    /// Lets the session look what has come for it.
    fn look(&mut self, connection: ConnectionId, now: Now) {
        if self.peer(connection).is_some() {
            self.hub.handle(Input::Received { connection, bytes: &[] }, now);
        }
    }
}
