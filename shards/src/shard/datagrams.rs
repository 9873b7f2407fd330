//! Peers of the doors over UDP. Each shard has a socket of its own per door, and the kernel gives it the datagrams of its share
//! of the addresses; the shard that an address belongs to is its *home*. There the first datagram opens a session.
//!
//! A publisher whose stream another core owns moves there like any other, but its datagrams go on coming home: the home sends
//! them on, and the owner answers by its own socket of the door, which has the same address. When the owner has closed the
//! peer it tells the home, which forgets the address then.

use std::{collections::HashMap, io, net::SocketAddr};

use shardcast_engine::{
    datagram::Greeting,
    hub::{ConnectionId, Input},
    message::{CoreId, Parcel},
    time::Now,
};
use shardcast_io::ring::Datagram;

use super::{
    Shard,
    doors::{Peer, Receives},
    intakes, media, relays,
};
use crate::mesh::Mail;

/// The peers of one door over UDP, as one shard knows them.
#[derive(Default)]
pub(super) struct Datagrams {
    places: HashMap<SocketAddr, Place>,
    /// Those of them whose home this is. They count for the bounds of the door, wherever their session is.
    at_home: usize,
    /// Datagrams that came and were lost.
    pub(super) lost: u64,
}

/// What a socket is for that receives datagrams.
enum Heard {
    Door(usize),
    Intake(usize),
    /// One of the two for media beside connections of RTSP.
    Media(usize),
    Relay(u64),
}

impl Heard {
    /// By the token that the ring was given with it.
    fn by(token: u64) -> Heard {
        if let Some(side) = media::side_of(token) {
            return Heard::Media(side);
        }
        match token.checked_sub(relays::FIRST_TOKEN) {
            Some(id) => Heard::Relay(id),
            None => intakes::number_of(token).map_or(Heard::Door(token as usize), Heard::Intake),
        }
    }
}

/// Where a peer's session is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// On this core. Its home is another one if it was moved here.
    Here { connection: ConnectionId, home: Option<CoreId> },
    /// It was moved to that core, and this is its home.
    Away(CoreId),
}

impl Shard {
    /// A datagram has come, by a door or by a socket that has another use.
    pub(super) fn datagram(&mut self, token: u64, datagram: &Datagram, lost: u32, now: Now) {
        match Heard::by(token) {
            Heard::Door(door) => self.came(door, datagram, lost, now),
            Heard::Intake(number) => self.taken_in(number, datagram, lost, now),
            Heard::Media(side) => self.media_came(side, datagram, lost, now),
            Heard::Relay(id) => self.relay_heard(id, datagram, now),
        }
    }

    /// A socket receives nothing more: because it was told to, or for an error.
    pub(super) fn deaf(&mut self, token: u64, error: Option<&io::Error>, now: Now) {
        let Some(error) = error else { return };
        match Heard::by(token) {
            Heard::Door(door) => self.accept_failed(door, error, now),
            Heard::Intake(number) => self.intake_failed(number, error, now),
            // It is tried again in a moment. Who has packets there is closed for silence where that does not help.
            Heard::Media(_) => self.rest(token as usize, now),
            Heard::Relay(id) => self.relay_deaf(id, error, now),
        }
    }

    /// A datagram has come by a door, and `lost` before it that the kernel had no room for.
    pub(super) fn came(&mut self, door: usize, datagram: &Datagram, lost: u32, now: Now) {
        self.datagrams_taken += 1;
        let Some(row) = self.datagrams(door) else { return };
        row.lost += u64::from(lost);
        // It says nothing; routers are kept awake with it.
        if datagram.is_empty() {
            return;
        }
        if self.is_signalled(door) {
            return self.guest_came(door, datagram, now);
        }
        let greeting = self.greet(door, datagram, now);
        match &greeting {
            Greeting::Begin | Greeting::Known => {}
            Greeting::Answer(answer) => return self.ring.answer(door as u64, datagram.from, answer),
            Greeting::Ignore | Greeting::For(_) => {
                self.doors[door].refused += 1;
                return;
            }
        }
        let Some(row) = self.datagrams(door) else { return };
        let connection = match row.places.get(&datagram.from) {
            Some(Place::Here { connection, .. }) => *connection,
            Some(Place::Away(core)) => {
                let core = *core;
                if !self.mesh.forward(door, datagram.from, datagram, core) {
                    self.lose(door);
                }
                return;
            }
            // Nobody whom the door has let in.
            None if greeting == Greeting::Known => {
                self.doors[door].refused += 1;
                return;
            }
            None => match self.meet(door, datagram.from, now) {
                Some(connection) => connection,
                None => return,
            },
        };
        self.hub.handle(Input::Received { connection, bytes: datagram }, now);
    }

    /// What the door's protocol says to a datagram before anybody hears of it.
    pub(super) fn greet(&self, door: usize, datagram: &Datagram, now: Now) -> Greeting {
        match self.doors.get(door).and_then(|row| row.protocol.greet) {
            Some(greet) => greet(datagram, datagram.from, &self.settings.doors, now),
            None => Greeting::Begin,
        }
    }

    /// A datagram from an address that nobody here knows: a new peer, within the bounds of the door.
    fn meet(&mut self, door: usize, peer: SocketAddr, now: Now) -> Option<ConnectionId> {
        let row = self.doors.get_mut(door)?;
        let at_home = row.datagrams.as_ref().map_or(0, |datagrams| datagrams.at_home);
        if self.draining || row.is_full(at_home, peer.ip(), &self.settings.doors, self.cores) {
            row.refused += 1;
            return None;
        }
        let protocol = row.protocol;
        let Some(connection) = self.seat_peer(door, peer, None) else {
            self.doors[door].refused += 1;
            return None;
        };
        self.doors[door].accepted += 1;
        self.met += 1;
        let session = protocol.begin(&self.settings.doors, now);
        self.hub.handle(Input::Connected { connection, door: protocol.name, peer, session }, now);
        Some(connection)
    }

    /// Gives a peer a number, and its address a place. `None` when there is no room.
    fn seat_peer(&mut self, door: usize, peer: SocketAddr, home: Option<CoreId>) -> Option<ConnectionId> {
        let id = self.ring.add_peer(door as u64, peer).ok()?;
        let connection = self.enter(id, door, peer.ip());
        self.peer(connection)?.receives = Receives::Shared;
        let row = self.datagrams(door)?;
        row.places.insert(peer, Place::Here { connection, home });
        row.at_home += usize::from(home.is_none());
        if home.is_some() {
            self.doors[door].uncount(peer.ip());
        }
        Some(connection)
    }

    /// A publisher goes to the core that owns its stream. From here on its datagrams follow it.
    pub(super) fn send_away(&mut self, peer: &Peer, parcel: Parcel, to: CoreId) {
        let address = parcel.peer;
        self.ring.close(peer.id);
        let Some(row) = self.datagrams(peer.door) else { return };
        row.places.insert(address, Place::Away(to));
        self.mesh.send_whole(Mail::Peer(parcel, peer.door), to);
    }

    /// A publisher comes from its home.
    pub(super) fn take_in(&mut self, parcel: Parcel, door: usize, home: CoreId, now: Now) {
        let peer = parcel.peer;
        let known = self.datagrams(door).is_none_or(|row| row.places.contains_key(&peer));
        let seated = if known { None } else { self.seat_peer(door, peer, Some(home)) };
        match seated {
            Some(connection) => self.hub.handle(Input::Adopted { connection, parcel }, now),
            // Its session ends here; with its next datagram the publisher begins anew.
            None => {
                self.refused += 1;
                self.mesh.send_whole(Mail::Forget { door, peer }, home);
            }
        }
    }

    /// A datagram of a peer that was moved here.
    pub(super) fn forwarded(&mut self, door: usize, peer: SocketAddr, datagram: &[u8], now: Now) {
        self.datagrams_taken += 1;
        let Some(row) = self.datagrams(door) else { return };
        match row.places.get(&peer) {
            Some(Place::Here { connection, .. }) => {
                let connection = *connection;
                self.hub.handle(Input::Received { connection, bytes: datagram }, now);
            }
            // It was closed while this was on its way; its home has been told.
            _ => self.lose(door),
        }
    }

    /// The hub has forgotten a peer: so does the door, and so does the home.
    pub(super) fn forget_here(&mut self, peer: &Peer) {
        let Some(address) = self.ring.peer_address(peer.id) else { return };
        let Some(row) = self.datagrams(peer.door) else { return };
        match row.places.remove(&address) {
            Some(Place::Here { home: Some(home), .. }) => {
                self.mesh.send_whole(Mail::Forget { door: peer.door, peer: address }, home);
            }
            Some(Place::Here { home: None, .. }) => self.leave_home(peer.door, address),
            Some(Place::Away(_)) | None => {}
        }
    }

    /// A peer that was moved from here to `owner` is gone.
    pub(super) fn forget_moved(&mut self, door: usize, peer: SocketAddr, owner: CoreId) {
        let Some(row) = self.datagrams(door) else { return };
        if row.places.get(&peer) == Some(&Place::Away(owner)) {
            row.places.remove(&peer);
            self.leave_home(door, peer);
        }
    }

    /// One less of those whose home this is.
    fn leave_home(&mut self, door: usize, peer: SocketAddr) {
        if let Some(row) = self.datagrams(door) {
            row.at_home -= 1;
            self.doors[door].uncount(peer.ip());
        }
    }

    fn datagrams(&mut self, door: usize) -> Option<&mut Datagrams> {
        self.doors.get_mut(door)?.datagrams.as_deref_mut()
    }

    fn lose(&mut self, door: usize) {
        if let Some(row) = self.datagrams(door) {
            row.lost += 1;
        }
    }
}
