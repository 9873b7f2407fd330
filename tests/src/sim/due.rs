//! By when what peers send by datagrams has been taken, where the network loses nothing of it for good.

use std::time::Duration;

use shardcast_engine::media::Frame;

use super::{
    judge::Order,
    peer::{Door, PATIENCE, Role},
    reel::Stamp,
    world::World,
};

/// How long a stream comes unasked until all of it must come.
const SETTLED: Duration = Duration::from_millis(1500);

impl World {
    /// What is sent by datagrams, and is never missing, has a time by which it has been taken.
    pub(super) fn promise(&mut self, socket: usize, stamp: Stamp, frame: &Frame) {
        let mended = self.is_mended(socket) && !self.draining;
        let held = &self.sockets[socket];
        if held.beside.is_some() {
            self.judge.films.sent(stamp, frame.is_video());
        }
        let heard = self.peers[held.peer].door != Door::Udp || self.is_settled(socket, frame);
        let Some(way) = self.sockets[socket].datagrams().filter(|_| mended && heard) else { return };
        let takes = way.latency + way.weather.round_trip() + self.climate.core_pause * 2 + PATIENCE;
        let by = self.now.after(takes);
        if self.sockets[socket].beside.is_some() {
            let overtakes = way.weather.jitter;
            self.judge.promises.promise_of_track(stamp, frame, by, overtakes);
        } else {
            let unasked = self.peers[self.sockets[socket].peer].door == Door::Udp;
            let order = if unasked { Order::Unasked } else { Order::All };
            self.judge.promises.promise(stamp, order, by);
        }
    }

    /// Who sends unasked is heard no more, or by somebody new.
    pub(super) fn unsettle(&mut self, socket: usize) {
        let peer = &mut self.peers[self.sockets[socket].peer];
        peer.heard_since = None;
        if let Role::Publisher(publisher) = &peer.role {
            self.judge.promises.release(Some(publisher.serial));
        }
    }

    /// Who sends unasked has had its stream for long enough that it is known what is in it, and which datagram was the first.
    fn is_settled(&mut self, socket: usize, frame: &Frame) -> bool {
        let peer = &mut self.peers[self.sockets[socket].peer];
        let Role::Publisher(publisher) = &peer.role else { return false };
        if self.judge.publisher_of(&publisher.name) != Some(socket) {
            self.unsettle(socket);
            return false;
        }
        let (since, keys) = peer.heard_since.get_or_insert((self.now, 0));
        let long = since.after(SETTLED) <= self.now;
        *keys += u32::from(long && frame.is_key());
        long && (*keys > 0 || !publisher.reel.has_pictures())
    }
}
