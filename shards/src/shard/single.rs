//! Peers of a node that is built without HTTP: each has one conversation, its session's.

use shardcast_engine::{
    hub::{ConnectionId, Input, Lost},
    time::Now,
};

use super::Shard;

impl Shard {
    /// A peer has said something, which the channel has opened where there is one.
    pub(super) fn heard(&mut self, connection: ConnectionId, bytes: &[u8], now: Now) {
        self.hub.handle(Input::Received { connection, bytes }, now);
    }

    /// The kernel has taken bytes that were sent to a peer, or will take no more.
    pub(super) fn gone(&mut self, connection: ConnectionId, result: Result<usize, Lost>, now: Now) {
        self.hub.handle(Input::Sent { connection, result }, now);
    }

    /// A peer will say no more, or is gone.
    pub(super) fn lost(&mut self, connection: ConnectionId, how: Lost, now: Now) {
        self.hub.handle(Input::Closed { connection, how }, now);
    }
}
