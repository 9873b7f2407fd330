//! Peers of the doors that speak TLS: their bytes go through a [`Channel`] on the way between ring and hub.
//!
//! The hub knows nothing of it. What it wants sent is sealed when its turn comes, as much as may be under way at once, and the
//! hub is told that so much has gone when the last of its records has: to the hub that is a socket with little room. What a
//! publisher says is opened into the memory that its session lends.
//!
//! Where the kernel has TLS the channel gives it its keys as soon as the handshake is done, and is gone: from there on the peer
//! is like one without, but for its end ([`Kernel`]).

use std::{io, os::fd::BorrowedFd};

use bytes::Bytes;
#[cfg(feature = "http")]
use shardcast_engine::http2;
use shardcast_engine::{
    error::ErrorKind,
    hub::{ConnectionId, Input, Level, Lost, Notice},
    time::Now,
};
use shardcast_io::{ktls, ring::SocketId, tcp};

use super::{
    Shard,
    doors::{LINGER, Stage, connection_of, word_for},
};
use crate::tls::{Channel, Ending, Fault, Kernel, Leave, Seal};

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
        let Some(channel) = peer.seal.channel() else { return };
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
            Ok(()) => self.begin_hand_over(connection),
            Err(fault) => self.broken(connection, &fault, now),
        }
    }

    /// The hub, or a trunk, wants something sent to a peer with a channel.
    pub(super) fn seal(&mut self, connection: ConnectionId, bytes: &Bytes, now: Now) {
        let Some(peer) = self.peer(connection) else { return };
        let id = peer.id;
        let Some(channel) = peer.seal.channel() else { return };
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
        let (stage, Some(channel)) = (peer.stage, peer.seal.channel()) else { return };
        let count = match result {
            Ok(count) => count,
            Err(_) if stage == Stage::Lingering => return self.stop_lingering(id, now),
            Err(error) => return self.lost(connection, Lost::Failed(word_for(&error)), now),
        };
        let gone = channel.sent(count);
        let waits = channel.waits_to_leave();
        if !channel.is_idle() {
            return self.send_on(id);
        }
        match stage {
            // The last word is out.
            Stage::Lingering => {
                if self.ring.finish(id).is_err() || !self.ring.is_receiving(id) {
                    self.stop_lingering(id, now);
                }
            }
            Stage::Quieting if !self.ring.is_receiving(id) => self.quieted(connection, now),
            Stage::Open | Stage::Quieting => {
                if let Some(bytes) = gone {
                    self.gone(connection, Ok(bytes), now);
                }
                if waits {
                    self.hand_over(connection, now);
                }
            }
        }
    }

    /// Where the kernel could go on with a connection's keys its receive is ended, for no record may be taken from the socket
    /// that only the kernel can open.
    fn begin_hand_over(&mut self, connection: ConnectionId) {
        let Some(peer) = self.peer(connection).filter(|peer| peer.stage == Stage::Open) else { return };
        let id = peer.id;
        if peer.seal.channel().is_some_and(|channel| channel.may_leave(ktls::takes)) {
            self.ring.stop_receive(id);
        }
    }

    /// No receive runs on a connection whose keys are to go to the kernel. They go, or it is received from as before.
    pub(super) fn hand_over(&mut self, connection: ConnectionId, now: Now) {
        let Some(peer) = self.peer(connection) else { return };
        let id = peer.id;
        let Some(channel) = peer.seal.channel() else { return };
        match channel.leave() {
            Leave::Now => {}
            Leave::Later => return,
            Leave::NotYet => return self.ring.receive(id),
        }
        assert!(!self.ring.is_receiving(id), "the receive has ended, and its end is what brought us here");
        if self.ring.socket(id).is_none_or(|socket| ktls::begin(socket).is_err()) {
            // A peer that has gone by now, as a rule.
            if let Some(channel) = self.peer(connection).and_then(|peer| peer.seal.channel()) {
                channel.stay();
            }
            return self.ring.receive(id);
        }
        let Some(peer) = self.peer(connection) else { return };
        let Seal::Channel(channel) = std::mem::replace(&mut peer.seal, Seal::Nobody) else { return };
        let kernel = channel.into_keys().map_err(|fault| fault.word()).and_then(|keys| {
            let socket = self.ring.socket(id).ok_or("the socket failed")?;
            Kernel::take(socket, &keys).map_err(|_| "the kernel refused its keys")
        });
        match kernel {
            Ok(kernel) => {
                if let Some(peer) = self.peer(connection) {
                    peer.seal = Seal::Kernel(kernel);
                }
                self.handed_over += 1;
                if self.hub.lends(connection) {
                    self.leave_pool(connection);
                } else {
                    self.ring.receive(id);
                }
            }
            Err(why) => {
                // Nothing may go out in the clear.
                let _ = self.ring.finish(id);
                self.lost(connection, Lost::Failed(why), now);
            }
        }
    }

    /// The receive of a peer that the kernel seals for has ended by itself.
    pub(super) fn kernel_ended(&mut self, connection: ConnectionId, error: Option<&io::Error>, now: Now) {
        let Some(peer) = self.peer(connection) else { return };
        let (id, stage) = (peer.id, peer.stage);
        let Seal::Kernel(kernel) = &mut peer.seal else { return };
        match kernel.ended(error) {
            // The rest is received where it moves to.
            Ending::More if stage == Stage::Quieting => self.quieted(connection, now),
            Ending::More => self.turns.push(id),
            Ending::Eof => self.lost(connection, Lost::Eof, now),
            Ending::Broken => {
                let word = error.map_or("reset by the peer", word_for);
                self.lost(connection, Lost::Failed(word), now);
            }
        }
    }

    /// A peer that is to move is received from no more. Words of TLS's own that are under way go first; they are few and small,
    /// so that its socket has room for them.
    pub(super) fn quieted(&mut self, connection: ConnectionId, now: Now) {
        if let Some(channel) = self.peer(connection).and_then(|peer| peer.seal.channel()) {
            channel.put_off_leaving();
            if !channel.is_idle() {
                return;
            }
        }
        self.hub.handle(Input::Quiet { connection }, now);
    }

    /// The hub has forgotten a peer with TLS: it is told goodbye, after what is under way. False when there is nothing to tell
    /// it.
    pub(super) fn say_goodbye(&mut self, id: SocketId, now: Now) -> bool {
        let Some(peer) = self.peer(connection_of(id)) else { return false };
        let channel = match &mut peer.seal {
            Seal::Nobody => return false,
            Seal::Channel(channel) => channel,
            Seal::Kernel(_) => return self.say_goodbye_by_kernel(id, now),
        };
        let waits = channel.waits_to_leave();
        channel.finish();
        let speaks = !channel.is_idle();
        if waits {
            // What it still says is thrown away.
            self.ring.receive(id);
        }
        if speaks {
            self.send_on(id);
            self.lingering.push_back((now.after(LINGER), id));
        }
        speaks
    }

    /// The same where the kernel seals. The peer is not shown the end of the stream of TCP, as others are, for that could
    /// overtake what the kernel has sealed and found no room for; the goodbye cannot.
    fn say_goodbye_by_kernel(&mut self, id: SocketId, now: Now) -> bool {
        let (sending, receiving) = (self.ring.is_sending(id), self.ring.is_receiving(id));
        let lingers = !sending
            && self.with_kernel(id, |kernel, socket| {
                kernel.part(socket) && (receiving || kernel.holds_back(socket))
            });
        if lingers {
            self.lingering.push_back((now.after(LINGER), id));
        }
        lingers
    }

    /// Puts off closing what has lingered for its time, while the kernel still holds something back for it.
    pub(super) fn put_off(&mut self, id: SocketId, now: Now) -> bool {
        let put_off = !self.ring.is_sending(id) && self.with_kernel(id, Kernel::holds_back);
        if put_off {
            self.lingering.push_back((now.after(LINGER), id));
        }
        put_off
    }

    /// What `ask` says of a connection that the kernel seals; false for every other.
    fn with_kernel(&mut self, id: SocketId, ask: impl FnOnce(&mut Kernel, BorrowedFd<'_>) -> bool) -> bool {
        let Some(Seal::Kernel(kernel)) = self.peer(connection_of(id)).map(|peer| &peer.seal) else {
            return false;
        };
        let mut kernel = *kernel;
        let answer = self.ring.socket(id).is_some_and(|socket| ask(&mut kernel, socket));
        if let Some(peer) = self.peer(connection_of(id)) {
            peer.seal = Seal::Kernel(kernel);
        }
        answer
    }

    /// Gives the ring what a channel has to send next.
    fn send_on(&mut self, id: SocketId) {
        let peer = self.peer(connection_of(id));
        if let Some(bytes) = peer.and_then(|peer| peer.seal.channel()).and_then(Channel::next_send) {
            self.ring.send(id, bytes);
        }
    }

    fn stop_lingering(&mut self, id: SocketId, now: Now) {
        self.lingering.retain(|(_, lingering)| *lingering != id);
        self.forget(id, now);
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
