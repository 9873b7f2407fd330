//! Peers of the HTTP doors that speak HTTP/2: their bytes go through a [`Trunk`] on the way between ring and hub, behind the
//! channel where the door speaks TLS.
//!
//! To the hub each branch of a trunk is a connection, with the address and the door of the real one, and a number that no socket
//! of the ring can have. Of the real one it knows nothing from the moment on that it speaks HTTP/2: its handshake, its idling
//! and its end are the trunk's.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use bytes::Bytes;
use shardcast_engine::{
    error::ErrorKind,
    http::Session,
    http2::{BranchId, DOORS, Fault, Output, PREFACE, Trunk, trunk::BRANCH_BYTES_MAX},
    hub::{Allowance, ConnectionId, Input, Level, Lost, Notice},
    stats::ShardStats,
    time::Now,
};
use shardcast_io::{ring::RingConfig, tcp};

use super::{
    Shard,
    doors::{Peer, connection_of},
};
use crate::tls::channel::PIECE_BYTES_MAX;

/// What a trunk keeps of an answer is sealed at once.
const _: () = assert!(BRANCH_BYTES_MAX == PIECE_BYTES_MAX);

/// What a peer of a door over TCP speaks.
pub(super) enum Speech {
    /// One conversation, its session's.
    One,
    /// HTTP, of a version that its first bytes will tell, or TLS for it. So many of them are here, and are those of HTTP/2 so
    /// far. The first request must be there at `until`.
    Unknown { matched: usize, until: Now },
    /// HTTP/2.
    Many(Box<Many>),
}

impl Speech {
    /// That of a peer that has come to a door.
    pub(super) fn at(door: &str, until: Now) -> Self {
        if DOORS.contains(&door) { Speech::Unknown { matched: 0, until } } else { Speech::One }
    }
}

/// A peer's trunk, and the hub's numbers of its branches.
pub(super) struct Many {
    trunk: Trunk,
    branches: BTreeMap<BranchId, ConnectionId>,
    address: SocketAddr,
    /// What its client may fetch. It is asked for its right once, and not for each branch.
    allowance: Allowance,
    /// When its timer goes off, at its deadline or before; [`NEVER`] when none is set.
    armed: Now,
    /// It stands among those who may have something to do.
    marked: bool,
}

/// The trunks of a shard, and the numbers of their branches.
#[derive(Default)]
pub(super) struct Trunks {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Trunks that may have something to do.
    marked: Vec<ConnectionId>,
    timers: BTreeSet<(Now, ConnectionId)>,
    /// Trunks that are open.
    open: u64,
    /// Branches that were ever met.
    met: u64,
}

/// A number for a branch.
struct Slot {
    generation: u32,
    /// On which connection, and which branch of it.
    place: Option<(ConnectionId, BranchId)>,
}

impl Trunks {
    /// No trunk is left.
    pub(super) fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// When [`Shard::time_out_trunks`] has something to do.
    pub(super) fn deadline(&self) -> Option<Now> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Counts trunks instead of branches: the hub has it the other way round.
    pub(super) fn correct(&self, stats: &mut ShardStats) {
        let branches = (self.slots.len() - self.free.len()) as u64;
        stats.connections = (stats.connections + self.open).saturating_sub(branches);
        stats.accepted = stats.accepted.saturating_sub(self.met);
    }

    /// The hub's number for a new branch; `None` when this core has as many as it may.
    fn enter(&mut self, place: (ConnectionId, BranchId)) -> Option<ConnectionId> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots.len() < BRANCHES_MAX => {
                self.slots.push(Slot { generation: 0, place: None });
                u32::try_from(self.slots.len() - 1).expect("fewer than BRANCHES_MAX")
            }
            None => return None,
        };
        self.met += 1;
        let slot = &mut self.slots[index as usize];
        slot.place = Some(place);
        Some(ConnectionId { slot: first_slot() + index, generation: slot.generation })
    }

    fn place(&self, connection: ConnectionId) -> Option<(ConnectionId, BranchId)> {
        let slot = self.slots.get(connection.slot.checked_sub(first_slot())? as usize)?;
        slot.place.filter(|_| slot.generation == connection.generation)
    }

    fn leave(&mut self, connection: ConnectionId) -> Option<(ConnectionId, BranchId)> {
        let place = self.place(connection)?;
        let index = connection.slot - first_slot();
        let slot = &mut self.slots[index as usize];
        (slot.place, slot.generation) = (None, slot.generation.wrapping_add(1));
        self.free.push(index);
        Some(place)
    }
}

impl Shard {
    /// A peer has said something, which the channel has opened where there is one.
    pub(super) fn heard(&mut self, connection: ConnectionId, bytes: &[u8], now: Now) {
        let Some(peer) = self.peer(connection) else { return };
        match &mut peer.speech {
            Speech::One => self.hub.handle(Input::Received { connection, bytes }, now),
            Speech::Many(many) => {
                many.trunk.receive(bytes, now);
                self.attend(connection, now);
                self.mark(connection);
            }
            Speech::Unknown { matched, until } => {
                let (before, until) = (*matched, *until);
                let expected = PREFACE.get(before..).unwrap_or_default();
                let same = expected.iter().zip(bytes).take_while(|(one, other)| one == other).count();
                let (said, rest) = (PREFACE.get(..before).unwrap_or_default(), bytes.get(same..));
                if same == expected.len() {
                    if self.begin_trunk(connection, until, now) {
                        self.heard(connection, PREFACE, now);
                        self.heard(connection, rest.unwrap_or_default(), now);
                    }
                } else if same == bytes.len() {
                    *matched += same;
                } else {
                    peer.speech = Speech::One;
                    if !said.is_empty() {
                        self.hub.handle(Input::Received { connection, bytes: said }, now);
                    }
                    self.hub.handle(Input::Received { connection, bytes }, now);
                }
            }
        }
    }

    /// A peer and we have agreed on what is spoken inside TLS.
    pub(super) fn agreed(&mut self, connection: ConnectionId, http2: bool, now: Now) {
        let Some(peer) = self.peer(connection) else { return };
        let Speech::Unknown { until, .. } = peer.speech else { return };
        if http2 {
            self.begin_trunk(connection, until, now);
        } else {
            peer.speech = Speech::One;
        }
    }

    /// The kernel has taken bytes that were sent to a peer, or will take no more.
    pub(super) fn gone(&mut self, connection: ConnectionId, result: Result<usize, Lost>, now: Now) {
        let Some(many) = self.many(connection) else {
            return self.hub.handle(Input::Sent { connection, result }, now);
        };
        match result {
            Ok(count) => {
                many.trunk.sent(count);
                self.mark(connection);
            }
            Err(how) => self.end_trunk(connection, how, now),
        }
    }

    /// A peer will say no more, or is gone.
    pub(super) fn lost(&mut self, connection: ConnectionId, how: Lost, now: Now) {
        if self.many(connection).is_some() {
            self.end_trunk(connection, how, now);
        } else {
            self.hub.handle(Input::Closed { connection, how }, now);
        }
    }

    /// The hub wants something sent to whom no socket belongs: a branch.
    pub(super) fn answer(&mut self, connection: ConnectionId, bytes: &Bytes, now: Now) {
        let Some((trunk, branch)) = self.trunks.place(connection) else { return };
        let allowance = self.hub.allowance(connection);
        // Where the trunk has gone the hub has been told, too.
        let Some(many) = self.many(trunk) else { return };
        if allowance != Allowance::default() {
            many.allowance = allowance;
        }
        let taken = many.trunk.answer(branch, bytes, now);
        self.mark(trunk);
        if taken > 0 {
            self.hub.handle(Input::Sent { connection, result: Ok(taken) }, now);
        }
    }

    /// The hub has forgotten a branch.
    pub(super) fn leave_branch(&mut self, connection: ConnectionId, now: Now) {
        let Some((trunk, branch)) = self.trunks.leave(connection) else { return };
        let Some(many) = self.many(trunk) else { return };
        many.branches.remove(&branch);
        many.trunk.leave(branch, now);
        self.mark(trunk);
    }

    /// Lets the trunks that may have something to do go on, and gives the ring what they have to say; how many there were. Where
    /// the hub was told something, what it says to that goes along, and is waited for.
    pub(super) fn serve_trunks(&mut self, now: Now) -> usize {
        let marked = std::mem::take(&mut self.trunks.marked);
        for &trunk in &marked {
            let Some(many) = self.many(trunk) else { continue };
            many.marked = false;
            many.trunk.work(now);
            if self.attend(trunk, now) {
                self.mark(trunk);
            } else {
                self.send_trunk(trunk, now);
            }
        }
        marked.len()
    }

    /// Ends what has had its time.
    pub(super) fn time_out_trunks(&mut self, now: Now) {
        while let Some((due, trunk)) = self.trunks.timers.first().copied().filter(|(due, _)| *due <= now) {
            self.trunks.timers.remove(&(due, trunk));
            let Some(many) = self.many(trunk) else { continue };
            many.armed = NEVER;
            many.trunk.time_out(now);
            self.attend(trunk, now);
            self.mark(trunk);
        }
    }

    /// Tells every client of HTTP/2 that the node is going down.
    pub(super) fn shut_trunks_down(&mut self, now: Now) {
        let many = |peer: &&Peer| matches!(peer.speech, Speech::Many(_));
        let trunks: Vec<ConnectionId> =
            self.peers.iter().flatten().filter(many).map(|peer| connection_of(peer.id)).collect();
        for trunk in trunks {
            let Some(many) = self.many(trunk) else { continue };
            many.trunk.shut_down(now);
            self.attend(trunk, now);
            self.mark(trunk);
        }
    }

    fn many(&mut self, connection: ConnectionId) -> Option<&mut Many> {
        match &mut self.peer(connection)?.speech {
            Speech::Many(many) => Some(many),
            Speech::One | Speech::Unknown { .. } => None,
        }
    }

    /// A peer speaks HTTP/2. False when it cannot be served.
    fn begin_trunk(&mut self, connection: ConnectionId, until: Now, now: Now) -> bool {
        let Some(id) = self.peer(connection).map(|peer| peer.id) else { return false };
        let address = self.ring.socket(id).and_then(|socket| tcp::peer_address(socket).ok());
        let mut trunk = Trunk::new(&self.settings.doors, until, now);
        if self.draining {
            trunk.shut_down(now);
        }
        let Some(peer) = self.peer(connection) else { return false };
        if let Some(address) = address {
            let (branches, allowance) = (BTreeMap::new(), Allowance::default());
            let many = Many { trunk, branches, address, allowance, armed: NEVER, marked: false };
            peer.speech = Speech::Many(Box::new(many));
            self.trunks.open += 1;
        }
        // What the hub says to this is to close the connection. One with a trunk stays all the same: the hub knows its branches
        // from here on. A socket without an address has lost its peer, and goes.
        self.hub.handle(Input::Closed { connection, how: Lost::Failed("it speaks HTTP/2") }, now);
        self.mark(connection);
        address.is_some()
    }

    /// Does what a trunk wants done; whether the hub was told something.
    fn attend(&mut self, trunk: ConnectionId, now: Now) -> bool {
        let mut told = false;
        while let Some(many) = self.many(trunk) {
            let Some(output) = many.trunk.poll() else { break };
            told = true;
            match output {
                Output::Asked { branch, head } => self.meet_branch(trunk, branch, &head, now),
                Output::Heard { branch, bytes } => {
                    if let Some(&connection) = many.branches.get(&branch) {
                        self.hub.handle(Input::Received { connection, bytes: &bytes }, now);
                    }
                }
                Output::Taken { branch, bytes } => {
                    if let Some(&connection) = many.branches.get(&branch) {
                        self.hub.handle(Input::Sent { connection, result: Ok(bytes) }, now);
                    }
                }
                Output::Gone { branch } => {
                    if let Some(&connection) = many.branches.get(&branch) {
                        let how = Lost::Failed("called off by the peer");
                        self.hub.handle(Input::Closed { connection, how }, now);
                    }
                }
                Output::Broken(fault) => self.trunk_broken(trunk, &fault),
                Output::Close => {
                    self.end_trunk(trunk, Lost::Failed("its connection has ended"), now);
                    return true;
                }
            }
        }
        if let Some(many) = self.many(trunk) {
            let wanted = many.trunk.deadline().unwrap_or(NEVER);
            // One that is armed for an earlier time is left alone: it finds nothing due, and arms the one that holds then.
            if wanted < many.armed {
                let armed = std::mem::replace(&mut many.armed, wanted);
                self.trunks.timers.remove(&(armed, trunk));
                self.trunks.timers.insert((wanted, trunk));
            }
        }
        told
    }

    /// A client of HTTP/2 did something wrong. This is the one line about it.
    fn trunk_broken(&mut self, trunk: ConnectionId, fault: &Fault) {
        let kind = fault.kind();
        self.faults.count_error(kind);
        let Some(peer) = self.peer(trunk) else { return };
        let (door, Speech::Many(many)) = (peer.door, &peer.speech) else { return };
        let peer = Some(many.address);
        let door = self.doors[door].protocol.name;
        let level = if kind == ErrorKind::Panicked { Level::Alarm } else { Level::Warning };
        let (text, at) = (fault.to_string(), Some(fault.at));
        self.notice(Notice { level, peer, door, stream: None, text, at });
    }

    /// A request has come: to the hub, somebody who has just connected.
    fn meet_branch(&mut self, trunk: ConnectionId, branch: BranchId, head: &[u8], now: Now) {
        let Some(connection) = self.trunks.enter((trunk, branch)) else {
            self.refused += 1;
            if let Some(many) = self.many(trunk) {
                many.trunk.leave(branch, now);
            }
            return;
        };
        let Some(peer) = self.peer(trunk) else { return };
        let (door, Speech::Many(many)) = (peer.door, &mut peer.speech) else { return };
        many.branches.insert(branch, connection);
        let (peer, allowance) = (many.address, many.allowance);
        let door = self.doors[door].protocol.name;
        let session = Box::new(Session::carried(&self.settings.doors, now));
        self.hub.handle(Input::Connected { connection, door, peer, session }, now);
        self.hub.allow(connection, allowance);
        self.hub.handle(Input::Received { connection, bytes: head }, now);
    }

    /// Gives the ring what a trunk has to say.
    fn send_trunk(&mut self, trunk: ConnectionId, now: Now) {
        let Some(peer) = self.peer(trunk) else { return };
        let (id, sealed) = (peer.id, peer.seal.is_channel());
        let Speech::Many(many) = &mut peer.speech else { return };
        let Some(bytes) = many.trunk.next_send() else { return };
        if sealed {
            self.seal(trunk, &bytes, now);
        } else {
            self.ring.send(id, bytes);
        }
    }

    /// A trunk is over: its branches are lost, and the peer may read the last word.
    fn end_trunk(&mut self, trunk: ConnectionId, how: Lost, now: Now) {
        let Some(peer) = self.peer(trunk) else { return };
        let Speech::Many(many) = std::mem::replace(&mut peer.speech, Speech::One) else { return };
        self.trunks.open -= 1;
        self.trunks.timers.remove(&(many.armed, trunk));
        // A branch cannot go on, whatever has become of its connection.
        let how = if how == Lost::Eof { Lost::Failed("closed by the peer") } else { how };
        for &connection in many.branches.values() {
            self.hub.handle(Input::Closed { connection, how }, now);
        }
        self.part(trunk, now);
    }

    /// Has the trunk looked after when the hub has said some more.
    fn mark(&mut self, trunk: ConnectionId) {
        if let Some(many) = self.many(trunk)
            && !std::mem::replace(&mut many.marked, true)
        {
            self.trunks.marked.push(trunk);
        }
    }
}

/// The first number of a branch: no socket of the ring has it.
fn first_slot() -> u32 {
    RingConfig::default().sockets
}

/// Branches of all trunks of one core. One more request is refused, and may be tried again. As many as sockets.
const BRANCHES_MAX: usize = 1 << 16;

/// The deadline of whoever has none.
const NEVER: Now = Now(u64::MAX);
