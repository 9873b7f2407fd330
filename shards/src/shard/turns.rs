//! Publishers whose bytes are received into memory of their sessions.
//!
//! A publisher comes in like everybody, by a receive into the buffers that all share. Once it publishes, its session lends
//! memory, and the kernel puts what comes where frames keep it. There is one receive after the other then, each begun when
//! its turn comes: at once, or on the tick, when what has come since the last one is taken in one piece.

use bytes::BytesMut;
use shardcast_engine::{
    hub::{ConnectionId, Input},
    time::Now,
};
use shardcast_io::ring::SocketId;

use super::{
    Shard,
    doors::{Receives, Stage, connection_of},
};

impl Shard {
    /// Its session has memory to lend: the receive into the pool ends, and the connection takes its turn.
    pub(super) fn leave_pool(&mut self, connection: ConnectionId) {
        let Some(peer) = self.peer(connection) else { return };
        peer.receives = Receives::Leaving;
        let id = peer.id;
        if self.ring.is_receiving(id) {
            self.ring.stop_receive(id);
        } else {
            self.turns.push(id);
        }
    }

    /// Begins the receives whose turn has come; false when there was none.
    pub(super) fn receive_in_turn(&mut self, now: Now) -> bool {
        let mut turns = std::mem::take(&mut self.turns);
        let any = !turns.is_empty();
        turns.drain(..).for_each(|id| self.receive_once(id, now));
        self.turns = turns;
        any
    }

    /// Begins the next receive of those who had more than there was room for.
    pub(super) fn receive_overfull(&mut self, now: Now) {
        let mut overfull = std::mem::take(&mut self.overfull);
        overfull.drain(..).for_each(|id| self.receive_once(id, now));
        self.overfull = overfull;
    }

    fn receive_once(&mut self, id: SocketId, now: Now) {
        let connection = connection_of(id);
        let open = self.peer(connection).is_some_and(|peer| peer.stage == Stage::Open);
        if !open || self.ring.is_receiving(id) {
            return;
        }
        let lent = self.hub.lend(connection, now);
        if let Some(peer) = self.peer(connection) {
            peer.receives = if lent.is_some() { Receives::Lent } else { Receives::Pool };
        }
        match lent {
            // What does not take the memory is closed, and needs it no more.
            Some(memory) => drop(self.ring.receive_into(id, memory)),
            None => self.ring.receive(id),
        }
    }

    /// Memory that was lent is back.
    pub(super) fn filled(&mut self, id: SocketId, memory: BytesMut, received: usize, now: Now) {
        let connection = connection_of(id);
        let Some(peer) = self.peer(connection) else { return };
        if peer.stage == Stage::Lingering {
            // The rest is thrown away.
            self.ring.receive(id);
            return;
        }
        let full = memory.len() == memory.capacity();
        self.hub.handle(Input::Filled { connection, memory, received }, now);
        match (received, full) {
            // The end follows.
            (0, _) => {}
            (_, true) => self.overfull.push(id),
            (_, false) => self.turns.push(id),
        }
    }
}
