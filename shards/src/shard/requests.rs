//! What the control thread asks of a shard.

use shardcast_engine::{hub::Input, stats::DoorStats, time::Now};
use shardcast_io::clock;

use super::{Shard, harvest::shortest_flush};
use crate::control::link::{Report, Request};

impl Shard {
    pub(super) fn take_requests(&mut self, now: Now) {
        while let Some(request) = self.port.try_next() {
            match request {
                // Whoever asked may have stopped waiting.
                Request::Report(answer) => drop(answer.send(self.report())),
                Request::Settings(settings) => {
                    self.settings = settings.clone();
                    self.shortest_flush = shortest_flush(&settings);
                    self.hub.handle(Input::Settings(settings), now);
                    self.plan_relays(now);
                }
                Request::Certificate(certificate) => self.certificate = Some(certificate),
                Request::Drain => {
                    self.draining = true;
                    for door in 0..self.doors.len() {
                        self.ring.stop_listening(door as u64);
                        self.ring.stop_datagrams(door as u64);
                    }
                    self.intakes.stop(&mut self.ring);
                    self.stop_relays();
                    self.media.stop(&mut self.ring);
                    self.resting_doors.clear();
                    self.hub.handle(Input::Drain, now);
                    #[cfg(feature = "http")]
                    self.shut_trunks_down(now);
                }
            }
        }
    }

    fn report(&self) -> Report {
        let mut stats = self.hub.stats();
        stats.connections_refused += self.refused + self.doors.iter().map(|door| door.refused).sum::<u64>();
        stats.merge(&self.faults);
        stats.tls_kernel_connections = self.handed_over;
        #[cfg(feature = "http")]
        self.trunks.correct(&mut stats);
        stats.rounds = self.profile.rounds.count();
        stats.sleeps_ring = self.profile.sleeps_ring;
        stats.sleeps_time = self.profile.sleeps_time;
        stats.sleeps_bell = self.profile.sleeps_bell;
        let lanes = self.mesh.counts();
        stats.lane_messages = lanes.messages;
        stats.lane_frames = lanes.frames;
        stats.lane_refusals = lanes.refusals;
        stats.cpu_nanoseconds = clock::thread_cpu();
        let ring = self.ring.stats();
        stats.sends_short = ring.sends_short;
        stats.receives = ring.receives;
        stats.receives_starved = ring.receives_starved;
        stats.ring_enters = ring.enters;
        let doors = self.doors.iter().map(|door| DoorStats {
            name: door.protocol.name,
            connections: door.connections as u64,
            accepted: door.accepted,
            refused: door.refused,
            datagrams_lost: door.datagrams.as_ref().map_or(0, |datagrams| datagrams.lost),
        });
        Report {
            stats,
            profile: self.profile.clone(),
            doors: doors
                .chain(self.intakes.stats(|held| self.is_here(held)))
                .chain(self.media.stats())
                .collect(),
            relays: self.relays.stats(),
            lanes: self.mesh.depths().collect(),
            streams: self.hub.streams(),
        }
    }
}
