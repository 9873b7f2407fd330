//! Viewers that are only drained: the kernel is told to throw away what has come for them.

use std::{io, ops::RangeInclusive, os::fd::AsFd, time::Duration};

use shardcast_engine::time::Now;
use shardcast_io::tcp;

use super::{Kind, Load, State, now};

/// How often what has come for a drained viewer is thrown away, at least and at most; in between, each time it is about
/// [`DRAIN_BYTES`]. Looking more often at thousands of thin streams would take the load's whole core.
const DRAIN_INTERVAL: RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_millis(66);
const DRAIN_BYTES: u64 = 4096;
/// So many in one go: a peer that waits for an answer of the load should not wait for a crowd.
const DRAINS_PER_TURN: usize = 32;
/// More than one read takes from a socket.
const DISCARD_BYTES: usize = 1 << 30;

impl Load {
    /// As many drained viewers as their turn is by now.
    pub(super) fn drain_due(&mut self, now: Now) {
        let passed = now.since(self.drained_at);
        let interval = interval(self.plan.publish.bitrate);
        let share = passed.as_secs_f64() / interval.as_secs_f64();
        let due = (self.drained.len() as f64 * share.min(1.0)) as usize;
        let count = due.min(DRAINS_PER_TURN);
        self.drains_more = false;
        if count == 0 {
            if self.drained.is_empty() {
                self.drained_at = now;
            }
            return;
        }
        // Those whose turn it is and who were left out are the next ones.
        let behind = interval.mul_f64((due - count) as f64 / self.drained.len() as f64);
        self.drained_at = Now(now.0.saturating_sub(behind.as_nanos() as u64));
        self.drains_more = due > count;
        for _ in 0..count {
            let Some(index) = self.drained.pop_front() else { return };
            if self.drain(index) {
                self.drained.push_back(index);
            }
        }
    }

    pub(super) fn drain_all(&mut self) {
        for _ in 0..self.drained.len() {
            let Some(index) = self.drained.pop_front() else { return };
            if self.drain(index) {
                self.drained.push_back(index);
            }
        }
    }

    /// Throws away what has come for a viewer; false when it is gone.
    pub(super) fn drain(&mut self, index: usize) -> bool {
        if self.plan.watch.by.is_datagrams() {
            return self.drain_datagrams(index);
        }
        let viewer = &mut self.viewers[index];
        let State::Off(socket) = &viewer.state else { return false };
        let most = match viewer.kind {
            Kind::Slow => {
                // Half of what its stream has had since it joined.
                let time = now().since(viewer.joined).as_secs_f64();
                let due = (time * self.plan.publish.bitrate as f64 / 16.0) as u64;
                usize::try_from(due.saturating_sub(viewer.bytes)).unwrap_or(0)
            }
            _ => DISCARD_BYTES,
        };
        if most == 0 {
            return true;
        }
        match tcp::discard(socket.as_fd(), most) {
            Ok(0) => {
                self.lost(index, "the server has closed a viewer");
                false
            }
            Ok(taken) => {
                viewer.bytes += taken as u64;
                self.delivered += taken as u64;
                true
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                true
            }
            Err(error) => {
                self.lost(index, &format!("a viewer was cut off: {error}"));
                false
            }
        }
    }

    /// Whether those that stall were closed can only be seen by reading.
    pub(super) fn look_at_stalled(&mut self) {
        for index in 0..self.viewers.len() {
            if self.viewers[index].kind != Kind::Stall {
                continue;
            }
            loop {
                let before = self.delivered;
                if !self.drain(index) || self.delivered == before {
                    break;
                }
            }
        }
    }
}

/// How long one round over all drained viewers of a stream of `bitrate` (bits per second) takes.
fn interval(bitrate: u64) -> Duration {
    let time = Duration::from_secs_f64((8 * DRAIN_BYTES) as f64 / bitrate.max(1) as f64);
    time.clamp(*DRAIN_INTERVAL.start(), *DRAIN_INTERVAL.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thin_streams_are_looked_at_less_often() {
        let of = |bitrate| interval(bitrate).as_millis();
        assert_eq!([of(4_000_000), of(2_000_000), of(1_000_000), of(500_000), of(1)], [20, 20, 32, 65, 66]);
    }
}
