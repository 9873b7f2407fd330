//! Conversations that another connection has asked for: WebRTC, by WHIP and WHEP. Each shard has a port of its own for them, so that the
//! address in an answer says which core the media comes to. A viewer's is on the core that its request came to, a publisher's on
//! the one that owns its stream.
//!
//! A peer may be met at several addresses. One is known once the session has answered it; what comes from any other is brought to the
//! session that it names, and nobody hears of what names none.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use shardcast_engine::{
    datagram::Greeting,
    hub::{ConnectionId, Input},
    message::{CoreId, owner_of},
    session::signal::{Fault, Reply, Request, Signal, Venue},
    time::Now,
};
use shardcast_io::ring::Datagram;

use super::{
    Shard,
    doors::{Peer, Receives},
};
use crate::mesh::Mail;

/// Addresses at which one peer is known. The oldest is forgotten for a new one.
const ADDRESSES_MAX: usize = 8;

/// A request on its way to the core that it is for.
pub struct Call {
    /// Who asks: the connection, on the core that sends this.
    pub by: ConnectionId,
    /// Its address.
    pub peer: SocketAddr,
    /// What.
    pub signal: Box<Signal>,
}

/// The conversations of one shard.
#[derive(Default)]
pub(super) struct Signalled {
    /// Their door, if it is open.
    door: Option<usize>,
    /// Where peers find this shard.
    addresses: Option<Arc<[SocketAddr]>>,
    places: HashMap<SocketAddr, ConnectionId>,
    guests: HashMap<ConnectionId, Guest>,
}

/// One of them.
#[derive(Default)]
struct Guest {
    /// Where it has been met.
    addresses: Vec<SocketAddr>,
    /// Who waits for its answer.
    asked: Option<(CoreId, ConnectionId)>,
}

impl Signalled {
    /// The door is open at `bound`; peers find it at the addresses that the operator says, or at its own.
    pub(super) fn open(&mut self, door: usize, bound: SocketAddr, public: &[IpAddr]) {
        let own = || match bound.ip() {
            ip if ip.is_unspecified() => shardcast_io::address::of_this_machine(ip.is_ipv6()),
            ip => vec![ip],
        };
        let addresses = if public.is_empty() { own() } else { public.to_vec() };
        self.door = Some(door);
        self.addresses = Some(addresses.into_iter().map(|ip| SocketAddr::new(ip, bound.port())).collect());
    }
}

/// The number that a session has for its peers, and back.
fn number_of(connection: ConnectionId) -> u64 {
    u64::from(connection.slot) << 32 | u64::from(connection.generation)
}

fn connection_of(number: u64) -> ConnectionId {
    ConnectionId { slot: (number >> 32) as u32, generation: number as u32 }
}

impl Shard {
    /// A connection of this core asks for a conversation, or about one.
    pub(super) fn signal(&mut self, by: ConnectionId, peer: SocketAddr, signal: Box<Signal>, now: Now) {
        let own = self.mesh.core();
        let to = match &signal.request {
            Request::Offer { publish: true, .. } => owner_of(&signal.name, self.cores),
            Request::Offer { publish: false, .. } => own,
            Request::Trickle { key, .. } | Request::End { key } => CoreId(key.core),
        };
        let call = Call { by, peer, signal };
        if to == own {
            self.called(call, own, now);
        } else if to.0 < self.cores {
            self.mesh.send_whole(Mail::Signal(Box::new(call)), to);
        } else {
            self.reply_to(by, own, Box::new(Reply::refused(Fault::NotFound, NO_SUCH)), now);
        }
    }

    /// A request is here that is for this core.
    pub(super) fn called(&mut self, call: Call, from: CoreId, now: Now) {
        let Call { by, peer, signal } = call;
        let refusal = match signal.request.key().map(|key| connection_of(key.number)) {
            None => match self.seat_signalled(peer, now) {
                Some(connection) => return self.ask_guest(connection, (from, by), signal, now),
                None => Reply::refused(Fault::Unavailable, "there is no room for another session"),
            },
            Some(connection) => match self.signalled.guests.get(&connection) {
                Some(guest) if guest.asked.is_none() => {
                    return self.ask_guest(connection, (from, by), signal, now);
                }
                Some(_) => Reply::refused(Fault::Unavailable, "it has not answered the last request yet"),
                None => Reply::refused(Fault::NotFound, NO_SUCH),
            },
        };
        self.reply_to(by, from, Box::new(refusal), now);
    }

    fn ask_guest(
        &mut self,
        connection: ConnectionId,
        by: (CoreId, ConnectionId),
        signal: Box<Signal>,
        now: Now,
    ) {
        if let Some(guest) = self.signalled.guests.get_mut(&connection) {
            guest.asked = Some(by);
            self.hub.handle(Input::Signal { connection, signal }, now);
        }
    }

    /// Opens a conversation that nobody has said anything in yet, within the bounds of the door.
    fn seat_signalled(&mut self, peer: SocketAddr, now: Now) -> Option<ConnectionId> {
        let (door, addresses) = (self.signalled.door?, self.signalled.addresses.clone()?);
        let row = self.doors.get_mut(door)?;
        if self.draining || row.is_full(row.connections, peer.ip(), &self.settings.doors, self.cores) {
            row.refused += 1;
            return None;
        }
        let protocol = row.protocol;
        // Where it is, it has yet to show: nothing is sent before.
        let id = self.ring.add_peer(door as u64, peer).ok()?;
        let connection = self.enter(id, door, peer.ip());
        self.peer(connection)?.receives = Receives::Shared;
        self.doors[door].accepted += 1;
        self.met += 1;
        self.signalled.guests.insert(connection, Guest::default());
        let mut session = protocol.begin(&self.settings.doors, now);
        session.meets_at(Venue { core: self.mesh.core().0, number: number_of(connection), addresses });
        self.hub.handle(Input::Connected { connection, door: protocol.name, peer, session }, now);
        Some(connection)
    }

    /// A session answers whoever has asked.
    pub(super) fn signal_reply(&mut self, connection: ConnectionId, reply: Box<Reply>, now: Now) {
        let asked = self.signalled.guests.get_mut(&connection).and_then(|guest| guest.asked.take());
        if let Some((core, by)) = asked {
            self.reply_to(by, core, reply, now);
        }
    }

    fn reply_to(&mut self, connection: ConnectionId, core: CoreId, reply: Box<Reply>, now: Now) {
        if core == self.mesh.core() {
            self.hub.handle(Input::Signalled { connection, reply }, now);
        } else {
            self.mesh.send_whole(Mail::Reply { connection, reply }, core);
        }
    }

    /// A datagram goes to an address that has shown that it is the peer's.
    pub(super) fn send_to(&mut self, connection: ConnectionId, to: SocketAddr, bytes: &[u8]) {
        let Some(id) = self.peer(connection).map(|peer| peer.id) else { return };
        let Some(guest) = self.signalled.guests.get_mut(&connection) else { return };
        if self.signalled.places.get(&to) != Some(&connection) {
            guest.addresses.retain(|known| *known != to);
            if guest.addresses.len() == ADDRESSES_MAX {
                self.signalled.places.remove(&guest.addresses.remove(0));
            }
            guest.addresses.push(to);
            self.signalled.places.insert(to, connection);
        }
        self.ring.send_now(id, to, bytes);
    }

    /// The peer is there from here on.
    pub(super) fn move_to(&mut self, connection: ConnectionId, address: SocketAddr) {
        if let Some(id) = self.peer(connection).map(|peer| peer.id) {
            self.ring.move_peer(id, address);
        }
    }

    /// Whether datagrams of this door are for sessions that were asked for.
    pub(super) fn is_signalled(&self, door: usize) -> bool {
        self.signalled.door == Some(door)
    }

    /// A datagram has come to the port.
    pub(super) fn guest_came(&mut self, door: usize, datagram: &Datagram, now: Now) {
        let address = datagram.from;
        let known = self.signalled.places.get(&address).copied();
        let named = match self.greet(door, datagram, now) {
            // It may have a new session at an old address.
            Greeting::For(number) => Some(connection_of(number)),
            _ => None,
        };
        let named = named.filter(|named| self.signalled.guests.contains_key(named));
        match named.or(known) {
            Some(connection) => {
                self.hub.handle(Input::From { connection, address, bytes: datagram }, now);
            }
            None => self.doors[door].refused += 1,
        }
    }

    /// The hub has forgotten a conversation.
    pub(super) fn forget_guest(&mut self, peer: &Peer, now: Now) {
        let connection = super::doors::connection_of(peer.id);
        let Some(guest) = self.signalled.guests.remove(&connection) else { return };
        for address in guest.addresses {
            if self.signalled.places.get(&address) == Some(&connection) {
                self.signalled.places.remove(&address);
            }
        }
        if let Some(row) = self.doors.get_mut(peer.door) {
            row.uncount(peer.address);
        }
        // It has ended without an answer.
        if let Some((core, by)) = guest.asked {
            self.reply_to(
                by,
                core,
                Box::new(Reply::refused(Fault::Unavailable, "the session has ended")),
                now,
            );
        }
    }
}

/// What is said of a key that is nobody's.
const NO_SUCH: &str = "no such session";
