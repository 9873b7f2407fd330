//! Peers of the doors that speak TLS: their bytes go through a [`Channel`] on the way between ring and hub.
//!
//! The hub knows nothing of it. What it wants sent is sealed when its turn comes, as much as may be under way at once, and the
//! hub is told that so much has gone when the last of its records has: to the hub that is a socket with little room. What a
//! publisher says is opened into the memory that its session lends.

use std::io;

use bytes::Bytes;
#[cfg(feature = "http")]
use shardcast_engine::http2;
use shardcast_engine::{
    error::ErrorKind,
    hub::{ConnectionId, Input, Level, Lost, Notice},
    time::Now,
};
use shardcast_io::{ring::SocketId, tcp};

use super::{
    Shard,
    doors::{LINGER, Stage, connection_of, word_for},
};
use crate::tls::{Channel, Fault};

impl Shard {
    /// A channel for whoever has just come in by a door that speaks TLS.
    pub(super) fn open_channel(&self, door: &str) -> Option<Box<Channel>> {
        let certificate = self.certificate.as_ref()?;
        #[cfg(feature = "http")]
        if http2::DOORS.contains(&door) {
            return Channel::for_http(certificate).ok().map(Box::new);
        }
        let _ = door;
        Channel::new(certificate).ok().map(Box::new)
    }

    /// Records have come.
    pub(super) fn unseal(&mut self, connection: ConnectionId, records: &[u8], now: Now) {
        let lent = self.hub.lend(connection, now);
        let lends = lent.is_some();
        let mut heard = lent.unwrap_or_default();
        let before = heard.len();
        let Some(peer) = self.peer(connection) else { return };
        let id = peer.id;
        let Some(channel) = &mut peer.channel else { return };
        let result = channel.receive(records, &mut heard);
        let ended = channel.has_ended();
        #[cfg(feature = "http")]
        if let Some(http2) = channel.speaks_http2() {
            self.agreed(connection, http2, now);
        }
        let received = heard.len() - before;
        if lends {
            self.hub.handle(Input::Filled { connection, memory: heard, received }, now);
        } else if received > 0 {
            self.heard(connection, &heard, now);
        }
        self.send_on(id);
        match result {
            Ok(()) if ended => self.lost(connection, Lost::Eof, now),
            Ok(()) => {}
            Err(fault) => self.broken(connection, &fault, now),
        }
    }

    /// The hub, or a trunk, wants something sent to a peer with a channel.
    pub(super) fn seal(&mut self, connection: ConnectionId, bytes: &Bytes, now: Now) {
        let Some(peer) = self.peer(connection) else { return };
        let id = peer.id;
        let Some(channel) = &mut peer.channel else { return };
        match channel.seal(bytes) {
            Ok(true) => self.send_on(id),
            // A farewell to a peer that is not done with its handshake: it could not read it.
            Ok(false) => self.gone(connection, Ok(bytes.len()), now),
            Err(fault) => self.broken(connection, &fault, now),
        }
    }

    /// The kernel has taken records, or will take no more.
    pub(super) fn sealed_sent(&mut self, id: SocketId, result: io::Result<usize>, now: Now) {
        let connection = connection_of(id);
        let Some(peer) = self.peer(connection) else { return };
        let (stage, Some(channel)) = (peer.stage, &mut peer.channel) else { return };
        let count = match result {
            Ok(count) => count,
            Err(_) if stage == Stage::Lingering => return self.stop_lingering(id),
            Err(error) => return self.lost(connection, Lost::Failed(word_for(&error)), now),
        };
        let gone = channel.sent(count);
        if !channel.is_idle() {
            return self.send_on(id);
        }
        match stage {
            // The last word is out.
            Stage::Lingering => {
                if self.ring.finish(id).is_err() || !self.ring.is_receiving(id) {
                    self.stop_lingering(id);
                }
            }
            Stage::Quieting if !self.ring.is_receiving(id) => self.quieted(connection, now),
            Stage::Open | Stage::Quieting => {
                if let Some(bytes) = gone {
                    self.gone(connection, Ok(bytes), now);
                }
            }
        }
    }

    /// A peer that is to move is received from no more. Words of TLS's own that are under way go first; they are few and small,
    /// so that its socket has room for them.
    pub(super) fn quieted(&mut self, connection: ConnectionId, now: Now) {
        let busy = |channel: &Channel| !channel.is_idle();
        if !self.peer(connection).and_then(|peer| peer.channel.as_deref()).is_some_and(busy) {
            self.hub.handle(Input::Quiet { connection }, now);
        }
    }

    /// The hub has forgotten a peer with a channel: it is told goodbye, after what is under way. False when there is nothing to
    /// tell it.
    pub(super) fn say_goodbye(&mut self, id: SocketId, now: Now) -> bool {
        let peer = self.peer(connection_of(id));
        let Some(channel) = peer.and_then(|peer| peer.channel.as_deref_mut()) else { return false };
        channel.finish();
        let speaks = !channel.is_idle();
        if speaks {
            self.send_on(id);
            self.lingering.push_back((now.after(LINGER), id));
        }
        speaks
    }

    /// Gives the ring what a channel has to send next.
    fn send_on(&mut self, id: SocketId) {
        let peer = self.peer(connection_of(id));
        if let Some(bytes) =
            peer.and_then(|peer| peer.channel.as_mut()).and_then(|channel| channel.next_send())
        {
            self.ring.send(id, bytes);
        }
    }

    fn stop_lingering(&mut self, id: SocketId) {
        self.lingering.retain(|(_, lingering)| *lingering != id);
        self.forget(id);
    }

    /// TLS with this peer cannot go on. One line says so: the hub's, where a publisher is lost, else ours.
    fn broken(&mut self, connection: ConnectionId, fault: &Fault, now: Now) {
        self.faults.count_error(fault.kind());
        let Some(peer) = self.peer(connection) else { return };
        let (id, door) = (peer.id, peer.door);
        if !self.hub.lends(connection) {
            let address = self.ring.socket(id).and_then(|socket| tcp::peer_address(socket).ok());
            self.notice(Notice {
                level: if fault.kind() == ErrorKind::Panicked { Level::Alarm } else { Level::Warning },
                peer: address,
                door: self.doors.get(door).map_or("", |door| door.protocol.name),
                stream: None,
                text: fault.to_string(),
                at: Some(fault.at),
            });
        }
        self.lost(connection, Lost::Failed(fault.word()), now);
    }
}
