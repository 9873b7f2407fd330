//! Who is at this core's doors: accepting within the bounds, the table of sockets, and closing so that the last word is
//! heard.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    time::Duration,
};

use shardcast_engine::{
    hub::{ConnectionId, Input, Level, Lost, Notice},
    limits::DoorLimits,
    protocol::Protocol,
    session::Session,
    time::Now,
};
use shardcast_io::{
    ring::{End, SocketId},
    tcp,
};

#[cfg(feature = "http")]
use super::trunks::Speech;
use super::{Shard, datagrams::Datagrams, relays::RELAY};
use crate::tls::Seal;

/// How long accepting rests after it failed for want of descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(200);
/// How often a door says that accepting failed. It is tried five times a second, and goes on for as long as the crowd.
const ACCEPT_ALARM_INTERVAL: Duration = Duration::from_secs(60);
/// How long a closed connection may take to hear the last word. Closing at once would reset it when bytes of its own are
/// still unread here, and the reset can overtake the word.
pub(super) const LINGER: Duration = Duration::from_millis(500);

/// One door of a shard.
pub(super) struct Door {
    pub(super) protocol: Protocol,
    pub(super) connections: usize,
    pub(super) accepted: u64,
    pub(super) refused: u64,
    pub(super) by_address: HashMap<IpAddr, usize>,
    /// What its peers say comes in records of TLS.
    pub(super) speaks_tls: bool,
    /// Its peers by address, if it is one over UDP.
    pub(super) datagrams: Option<Box<Datagrams>>,
    /// When it last said that accepting failed.
    pub(super) alarmed: Option<Now>,
}

/// A connection, as the driver knows it.
pub(super) struct Peer {
    pub(super) id: SocketId,
    pub(super) door: usize,
    pub(super) address: IpAddr,
    /// What the hub knows of it.
    pub(super) stage: Stage,
    /// Where its bytes are received.
    pub(super) receives: Receives,
    /// Who seals what is said on it.
    pub(super) seal: Seal,
    /// Whether it has one conversation or many.
    #[cfg(feature = "http")]
    pub(super) speech: Speech,
}

/// Where a connection's bytes are received.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Receives {
    /// Into the buffers that all share.
    Pool,
    /// Its session lends memory, and the receive into the pool is being stopped.
    Leaving,
    /// Into memory of its session: one receive after the other, each when it is its turn.
    Lent,
    /// By the socket of its door, which receives the datagrams of all its peers.
    Shared,
    /// It is a target of datagrams, and has a socket of its own that is only sent by.
    Nothing,
}

/// What the hub knows of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The hub talks to it.
    Open,
    /// It will move; the hub waits for its receive to end.
    Quieting,
    /// The hub has forgotten it; it may still read the last word.
    Lingering,
}

impl Peer {
    /// The hub has forgotten it.
    pub(super) fn is_lingering(&self) -> bool {
        self.stage == Stage::Lingering
    }
}

impl Door {
    /// A door that nobody has come to yet.
    pub(super) fn new(protocol: Protocol) -> Self {
        Door {
            protocol,
            connections: 0,
            accepted: 0,
            refused: 0,
            by_address: HashMap::new(),
            speaks_tls: false,
            datagrams: None,
            alarmed: None,
        }
    }

    /// Whether so many are here already, and so many of this address, that one more is refused. Each core admits its share;
    /// the kernel spreads peers evenly over the cores.
    pub(super) fn is_full(&self, here: usize, address: IpAddr, limits: &DoorLimits, cores: u16) -> bool {
        let share = |limit: usize| limit.div_ceil(usize::from(cores));
        let from_there = self.by_address.get(&address).copied().unwrap_or(0);
        here >= share(limits.connections) || from_there >= share(limits.connections_per_address)
    }

    /// One less of this address.
    pub(super) fn uncount(&mut self, address: IpAddr) {
        if let Some(count) = self.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

impl Shard {
    /// A peer has come in by a door.
    pub(super) fn accepted(&mut self, door: usize, socket: OwnedFd, now: Now) {
        let Ok(peer) = tcp::peer_address(socket.as_fd()) else { return };
        let row = &mut self.doors[door];
        if self.draining || row.is_full(row.connections, peer.ip(), &self.settings.doors, self.cores) {
            row.refused += 1;
            return;
        }
        let (protocol, speaks_tls) = (row.protocol, row.speaks_tls);
        let channel = if speaks_tls { self.open_channel(protocol.name) } else { None };
        let row = &mut self.doors[door];
        if speaks_tls && channel.is_none() {
            row.refused += 1;
            return;
        }
        let seal = channel.map_or(Seal::Nobody, Seal::Channel);
        match self.ring.add(socket) {
            Ok(id) => {
                row.accepted += 1;
                let connection = self.enter(id, door, peer.ip());
                #[cfg(feature = "http")]
                let speech = Speech::at(protocol.name, now.after(self.settings.doors.handshake));
                if let Some(peer) = self.peer(connection) {
                    peer.seal = seal;
                    #[cfg(feature = "http")]
                    (peer.speech = speech);
                }
                let mut session = protocol.begin(&self.settings.doors, now);
                self.offer_ports(&mut *session, !speaks_tls);
                let door = protocol.name;
                self.hub.handle(Input::Connected { connection, door, peer, session }, now);
                self.ring.receive(id);
            }
            Err(_) => row.refused += 1,
        }
    }

    /// Gives a conversation without a peer a connection: its socket leads nowhere and nobody reads it, and everything else about
    /// it is like any other. Log lines name `peer`. Without a descriptor there is none, and dropping the session says so.
    pub(super) fn seat(
        &mut self,
        session: Box<dyn Session>,
        door: &'static str,
        peer: SocketAddr,
        now: Now,
    ) -> Option<ConnectionId> {
        let id = self.ring.add(UnixDatagram::unbound().ok()?.into()).ok()?;
        let connection = self.enter(id, usize::MAX, peer.ip());
        self.hub.handle(Input::Connected { connection, door, peer, session }, now);
        Some(connection)
    }

    /// Whom log lines name where there is nobody.
    pub(super) const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    /// Tries again in a moment what has failed for want of descriptors, as a rule. At once it would spin; closing connections
    /// helps, time does.
    pub(super) fn rest(&mut self, token: usize, now: Now) {
        if self.resting_doors.iter().all(|(_, resting)| *resting != token) {
            self.resting_doors.push((now.after(ACCEPT_REST), token));
        }
    }

    pub(super) fn accept_failed(&mut self, door: usize, error: &io::Error, now: Now) {
        self.rest(door, now);
        let told = &mut self.doors[door].alarmed;
        if told.is_some_and(|told| now.since(told) < ACCEPT_ALARM_INTERVAL) {
            return;
        }
        *told = Some(now);
        let what = if self.doors[door].datagrams.is_some() { "receive" } else { "accept" };
        let text = format!("cannot {what}, and tries again each {} ms: {error}", ACCEPT_REST.as_millis());
        (self.notices)(Notice {
            level: Level::Alarm,
            peer: None,
            door: self.doors[door].protocol.name,
            stream: None,
            text,
            at: None,
        });
    }

    /// A peer sends no more, or its receive was stopped.
    pub(super) fn receive_ended(&mut self, socket: SocketId, how: End, now: Now) {
        let connection = connection_of(socket);
        let Some(peer) = self.peer(connection) else { return };
        let (by_channel, by_kernel) = (peer.seal.is_channel(), peer.seal.is_kernel());
        match (peer.stage, how) {
            // It was to be received from in another way, and is heard out as it is.
            (Stage::Lingering, End::Cancelled) => self.ring.receive(socket),
            (Stage::Lingering, _) => {
                self.lingering.retain(|(_, id)| *id != socket);
                self.forget(socket, now);
            }
            (Stage::Quieting, End::Cancelled) => self.quieted(connection, now),
            (Stage::Open, End::Cancelled) if by_channel => self.hand_over(connection, now),
            // It receives into memory of its session from here on.
            (Stage::Open, End::Cancelled) => self.turns.push(socket),
            (_, End::Eof) if by_kernel => self.kernel_ended(connection, None, now),
            (_, End::Eof) => self.lost(connection, Lost::Eof, now),
            (_, End::Failed(error)) if by_kernel => self.kernel_ended(connection, Some(&error), now),
            (_, End::Failed(error)) => self.lost(connection, Lost::Failed(word_for(&error)), now),
        }
    }

    /// The kernel has taken what a connection was sent, or will take no more.
    pub(super) fn sent(&mut self, socket: SocketId, result: io::Result<usize>, now: Now) {
        if let Ok(bytes) = result {
            self.profile.send_bytes.record(bytes as u64);
        }
        let connection = connection_of(socket);
        match self.peer(connection).map(|peer| (peer.door, &mut peer.seal)) {
            Some((RELAY, _)) => return self.relay_sent(socket, result, now),
            Some((_, Seal::Channel(_))) => return self.sealed_sent(socket, result, now),
            Some((_, Seal::Kernel(kernel))) => {
                if result.as_ref().is_ok_and(|bytes| !kernel.sent(*bytes)) {
                    return self.lost(connection, Lost::Failed("its keys are used up"), now);
                }
            }
            Some((_, Seal::Nobody)) | None => {}
        }
        let result = result.map_err(|error| Lost::Failed(word_for(&error)));
        if self.peer(connection).is_some_and(|peer| peer.stage != Stage::Lingering) {
            self.gone(connection, result, now);
        }
    }

    /// The hub has forgotten the connection.
    pub(super) fn close(&mut self, connection: ConnectionId, now: Now) {
        #[cfg(feature = "http")]
        match self.peer(connection).map(|peer| &peer.speech) {
            None => return self.leave_branch(connection, now),
            // It lives on for its branches.
            Some(Speech::Many(_)) => return,
            Some(Speech::One | Speech::Unknown { .. }) => {}
        }
        self.part(connection, now);
        self.relay_closed(connection, now);
    }

    /// Nobody has anything more for the connection. The peer may read what was sent, but not for long.
    pub(super) fn part(&mut self, connection: ConnectionId, now: Now) {
        let Some(peer) = self.peer(connection) else { return };
        let id = peer.id;
        peer.stage = Stage::Lingering;
        if peer.receives == Receives::Lent {
            // What it still says is thrown away. Nothing happens if a receive is running; then this follows its end.
            self.ring.receive(id);
        }
        if self.say_goodbye(id, now) {
            return;
        }
        if self.ring.is_receiving(id) && self.ring.finish(id).is_ok() {
            self.lingering.push_back((now.after(LINGER), id));
        } else {
            self.forget(id, now);
        }
    }

    pub(super) fn enter(&mut self, id: SocketId, door: usize, address: IpAddr) -> ConnectionId {
        let connection = connection_of(id);
        let slot = connection.slot as usize;
        if self.peers.len() <= slot {
            self.peers.resize_with(slot + 1, || None);
        }
        let (stage, receives) = (Stage::Open, Receives::Pool);
        self.peers[slot] = Some(Peer {
            id,
            door,
            address,
            stage,
            receives,
            seal: Seal::Nobody,
            #[cfg(feature = "http")]
            speech: Speech::One,
        });
        if let Some(door) = self.doors.get_mut(door) {
            door.connections += 1;
            *door.by_address.entry(address).or_default() += 1;
        }
        connection
    }

    pub(super) fn leave(&mut self, connection: ConnectionId) -> Option<Peer> {
        let slot = self.peers.get_mut(connection.slot as usize)?;
        let peer = slot.take_if(|peer| connection_of(peer.id) == connection)?;
        self.unname_ports(connection);
        if let Some(door) = self.doors.get_mut(peer.door) {
            door.connections -= 1;
            // Over UDP the address counts for as long as it is known here.
            if peer.receives != Receives::Shared {
                door.uncount(peer.address);
            }
        }
        Some(peer)
    }

    pub(super) fn forget(&mut self, id: SocketId, now: Now) {
        if let Some(peer) = self.leave(connection_of(id)).filter(|peer| peer.receives == Receives::Shared) {
            if self.is_signalled(peer.door) {
                self.forget_guest(&peer, now);
            } else {
                self.forget_here(&peer);
            }
        }
        self.ring.close(id);
    }

    /// Whether the connection is still there.
    pub(super) fn is_here(&self, connection: ConnectionId) -> bool {
        let peer = self.peers.get(connection.slot as usize).and_then(Option::as_ref);
        peer.is_some_and(|peer| connection_of(peer.id) == connection)
    }

    pub(super) fn peer(&mut self, connection: ConnectionId) -> Option<&mut Peer> {
        let peer = self.peers.get_mut(connection.slot as usize)?.as_mut()?;
        (connection_of(peer.id) == connection).then_some(peer)
    }
}

/// The hub's number for a socket of the ring.
pub(super) fn connection_of(id: SocketId) -> ConnectionId {
    let (slot, generation) = id.parts();
    ConnectionId { slot, generation }
}

/// A word for what a socket's error means, for the log.
pub(super) fn word_for(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionReset => "reset by the peer",
        io::ErrorKind::BrokenPipe => "the peer reads no more",
        io::ErrorKind::TimedOut => "the network timed out",
        _ => "the socket failed",
    }
}
