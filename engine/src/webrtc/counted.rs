//! What a session has counted on its way to the peer: what the library tells every few seconds, of each kind of media.

use std::time::Duration;

use str0m::{
    media::Mid,
    stats::{MediaEgressStats, MediaIngressStats},
};

use crate::stats::PathStats;

/// What was told last.
#[derive(Debug, Default)]
pub struct Counted {
    media: Vec<Media>,
    rtt: Duration,
}

#[derive(Debug)]
struct Media {
    mid: Mid,
    /// Packets that went or came, those included that were sent again.
    packets: u64,
    /// Packets that the peer says it never had.
    lost: u64,
}

impl Counted {
    fn of(&mut self, mid: Mid) -> Option<&mut Media> {
        if self.media.iter().all(|media| media.mid != mid) {
            self.media.push(Media { mid, packets: 0, lost: 0 });
        }
        self.media.iter_mut().find(|media| media.mid == mid)
    }

    /// What was sent.
    pub fn egress(&mut self, stats: &MediaEgressStats) {
        self.rtt(stats.rtt);
        if let Some(media) = self.of(stats.mid) {
            media.packets = stats.packets;
            media.lost = stats.remote.as_ref().map_or(media.lost, |remote| remote.packets_lost);
        }
    }

    /// What came.
    pub fn ingress(&mut self, stats: &MediaIngressStats) {
        self.rtt(stats.rtt);
        if let Some(media) = self.of(stats.mid) {
            media.packets = stats.packets;
        }
    }

    /// How long there and back, if that is known.
    pub fn rtt(&mut self, rtt: Option<Duration>) {
        self.rtt = rtt.unwrap_or(self.rtt);
    }

    fn path(&self) -> PathStats {
        PathStats { connections: 1, rtt_microseconds: self.rtt.as_micros() as u64, ..PathStats::default() }
    }

    fn packets(&self) -> u64 {
        self.media.iter().map(|media| media.packets).sum()
    }

    /// Of a publisher, of which so many packets were given up.
    pub fn of_publisher(&self, lost: u64) -> PathStats {
        PathStats { received_packets: self.packets(), lost_packets: lost, ..self.path() }
    }

    /// Of a viewer that was sent so many packets.
    pub fn of_viewer(&self, sent: u64) -> PathStats {
        PathStats {
            sent_packets: sent,
            sent_again_packets: self.packets().saturating_sub(sent),
            given_up_packets: self.media.iter().map(|media| media.lost).sum(),
            ..self.path()
        }
    }
}
