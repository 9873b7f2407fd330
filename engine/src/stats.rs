//! Plain counters, gauges and histograms of one core. A core counts for itself; the control thread asks for a copy and merges.

use std::sync::Arc;

use crate::{codec::Parameters, error::ErrorKind, media::StreamName};

macro_rules! stats {
    ($($(#[doc = $doc:literal])+ $name:ident: $kind:ident,)+) => {
        /// Counters (they only rise) and gauges of one core, or of several merged.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct ShardStats {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl ShardStats {
            /// Adds another core's.
            pub fn merge(&mut self, other: &ShardStats) {
                $(self.$name += other.$name;)+
            }
            /// Shows what the connections by SRT have counted.
            pub fn show_path(&mut self, path: &PathStats) {
                self.srt_connections = path.connections;
                self.srt_rtt_microseconds = path.rtt_microseconds;
                self.srt_received_packets = path.received_packets;
                self.srt_missing_packets = path.missing_packets;
                self.srt_recovered_packets = path.recovered_packets;
                self.srt_lost_packets = path.lost_packets;
                self.srt_late_packets = path.late_packets;
                self.srt_duplicate_packets = path.duplicate_packets;
                self.srt_refused_packets = path.refused_packets;
                self.srt_unreadable_packets = path.unreadable_packets;
                self.srt_sent_packets = path.sent_packets;
                self.srt_sent_again_packets = path.sent_again_packets;
                self.srt_given_up_packets = path.given_up_packets;
                self.srt_receive_buffer_packets = path.receive_buffer_packets;
                self.srt_send_buffer_packets = path.send_buffer_packets;
            }
            /// Shows what the sessions by WebRTC have counted.
            pub fn show_webrtc(&mut self, path: &PathStats) {
                self.webrtc_connections = path.connections;
                self.webrtc_rtt_microseconds = path.rtt_microseconds;
                self.webrtc_received_packets = path.received_packets;
                self.webrtc_lost_packets = path.lost_packets;
                self.webrtc_sent_packets = path.sent_packets;
                self.webrtc_sent_again_packets = path.sent_again_packets;
                self.webrtc_given_up_packets = path.given_up_packets;
            }
            /// Every number with its name, whether it is a counter, and its sentence.
            pub fn fields(&self) -> Vec<Field> {
                vec![$(Field {
                    name: stringify!($name),
                    kind: Kind::$kind,
                    help: concat!($($doc),+).trim_ascii(),
                    value: self.$name,
                },)+]
            }
        }
    };
}

/// What a transport has counted that sends again what is lost: since a connection began, and how it stands now.
///
/// ```
/// use shardcast_engine::stats::PathStats;
///
/// let mut all = PathStats { sent_packets: 5, send_buffer_packets: 2, ..PathStats::default() };
/// all.merge(&PathStats { sent_packets: 7, send_buffer_packets: 1, ..PathStats::default() });
/// assert_eq!((all.sent_packets, all.send_buffer_packets), (12, 3));
/// // What stays when the connections are gone.
/// assert_eq!(all.closed(), PathStats { sent_packets: 12, ..PathStats::default() });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathStats {
    /// Connections that these are of.
    pub connections: u64,
    /// How long there and back, added up over the connections.
    pub rtt_microseconds: u64,
    /// Packets of the stream that came, with those that came more than once.
    pub received_packets: u64,
    /// Packets that were seen to be missing.
    pub missing_packets: u64,
    /// Those of them that came all the same.
    pub recovered_packets: u64,
    /// Packets that had not come when their time was there.
    pub lost_packets: u64,
    /// Packets that came after their time.
    pub late_packets: u64,
    /// Packets that were there already.
    pub duplicate_packets: u64,
    /// Packets too far ahead to be kept.
    pub refused_packets: u64,
    /// Packets that no key opens.
    pub unreadable_packets: u64,
    /// Packets of the stream that were sent, each counted once.
    pub sent_packets: u64,
    /// Packets that were sent once more.
    pub sent_again_packets: u64,
    /// Packets that were given up before they had arrived.
    pub given_up_packets: u64,
    /// Packets that wait for their time.
    pub receive_buffer_packets: u64,
    /// Packets that are kept until they have arrived.
    pub send_buffer_packets: u64,
}

impl PathStats {
    /// Adds another's.
    pub fn merge(&mut self, other: &PathStats) {
        self.connections += other.connections;
        self.rtt_microseconds += other.rtt_microseconds;
        self.received_packets += other.received_packets;
        self.missing_packets += other.missing_packets;
        self.recovered_packets += other.recovered_packets;
        self.lost_packets += other.lost_packets;
        self.late_packets += other.late_packets;
        self.duplicate_packets += other.duplicate_packets;
        self.refused_packets += other.refused_packets;
        self.unreadable_packets += other.unreadable_packets;
        self.sent_packets += other.sent_packets;
        self.sent_again_packets += other.sent_again_packets;
        self.given_up_packets += other.given_up_packets;
        self.receive_buffer_packets += other.receive_buffer_packets;
        self.send_buffer_packets += other.send_buffer_packets;
    }

    /// What stays of it when its connection is closed: the counters, not the gauges.
    pub const fn closed(self) -> PathStats {
        PathStats {
            connections: 0,
            rtt_microseconds: 0,
            receive_buffer_packets: 0,
            send_buffer_packets: 0,
            ..self
        }
    }
}

/// One number of a [`ShardStats`], as an exposition wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name, snake case, with its unit where it has one.
    pub name: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
    /// What it counts.
    pub help: &'static str,
    /// The number.
    pub value: u64,
}

/// How a number behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
}

stats! {
    /// Connections that are open.
    connections: Gauge,
    /// Connections that were accepted.
    accepted: Counter,
    /// Connections that were closed at once because a bound was reached.
    connections_refused: Counter,
    /// Streams that are live on the core that owns them.
    streams: Gauge,
    /// Publishers that are there now.
    publishers: Gauge,
    /// Viewers that play or wait.
    viewers: Gauge,
    /// Streams that are packaged into segments, or whose segments are kept here.
    packages: Gauge,
    /// Bytes of their segments.
    packaged_bytes: Gauge,
    /// Requests for parts and playlists that wait until these are made.
    held_requests: Gauge,
    /// Requests for something of a packaged stream.
    fetches: Counter,
    /// Payload bytes of the kept groups.
    kept_bytes: Gauge,
    /// Bytes of the wire logs.
    log_bytes: Gauge,
    /// Wishes to publish that were granted.
    publishes: Counter,
    /// Wishes to play that were granted.
    plays: Counter,
    /// Wishes that were refused.
    refusals: Counter,
    /// Connections with TLS that gave the kernel their keys, which seals and opens for them since.
    tls_kernel_connections: Counter,
    /// Connections by SRT that stand.
    srt_connections: Gauge,
    /// How long there and back by SRT, added up over its connections; by their number it is the mean.
    srt_rtt_microseconds: Gauge,
    /// Packets of streams that came by SRT, with those that came more than once.
    srt_received_packets: Counter,
    /// Packets by SRT that were seen to be missing.
    srt_missing_packets: Counter,
    /// Missing packets by SRT that came all the same.
    srt_recovered_packets: Counter,
    /// Packets by SRT that had not come when their time was there: they are gaps in their streams.
    srt_lost_packets: Counter,
    /// Packets by SRT that came after their time.
    srt_late_packets: Counter,
    /// Packets by SRT that were there already.
    srt_duplicate_packets: Counter,
    /// Packets by SRT too far ahead to be kept.
    srt_refused_packets: Counter,
    /// Packets by SRT that no key opens.
    srt_unreadable_packets: Counter,
    /// Packets of streams that were sent by SRT, each counted once.
    srt_sent_packets: Counter,
    /// Packets by SRT that were sent once more.
    srt_sent_again_packets: Counter,
    /// Packets by SRT that were given up before they had arrived.
    srt_given_up_packets: Counter,
    /// Packets by SRT that wait for their time.
    srt_receive_buffer_packets: Gauge,
    /// Packets by SRT that are kept until they have arrived.
    srt_send_buffer_packets: Gauge,
    /// Sessions by WebRTC whose media flows.
    webrtc_connections: Gauge,
    /// How long there and back by WebRTC, added up over its sessions; by their number it is the mean.
    webrtc_rtt_microseconds: Gauge,
    /// Packets of streams that came by WebRTC, those included that were sent again.
    webrtc_received_packets: Counter,
    /// Packets by WebRTC that had not come when they were given up: they are gaps in their streams.
    webrtc_lost_packets: Counter,
    /// Packets of streams that were sent by WebRTC, each counted once.
    webrtc_sent_packets: Counter,
    /// Packets by WebRTC that were sent once more.
    webrtc_sent_again_packets: Counter,
    /// Packets by WebRTC that their viewers say they never had.
    webrtc_given_up_packets: Counter,
    /// Bytes received from peers.
    received_bytes: Counter,
    /// Bytes sent to peers.
    sent_bytes: Counter,
    /// Sends that were completed.
    sends: Counter,
    /// Sends that the peer's socket took only a part of.
    sends_short: Counter,
    /// Receives that were completed.
    receives: Counter,
    /// Times that a connection found no free receive buffer and had to wait for one.
    receives_starved: Counter,
    /// System calls into the ring.
    ring_enters: Counter,
    /// Frames taken from publishers.
    frames: Counter,
    /// Frames that no viewer could use, before a key frame.
    frames_left_out: Counter,
    /// Groups that outgrew their bound and were let go.
    groups_let_go: Counter,
    /// Jumps of viewers that lagged.
    viewer_jumps: Counter,
    /// Peers that were closed because they took nothing.
    stalls: Counter,
    /// Times that another core's copy of a stream became late because a lane was full.
    replicas_late: Counter,
    /// Publishers that were moved to the core that owns their stream.
    moves: Counter,
    /// Publishers that came back to their stream.
    resumes: Counter,
    /// Jumps of a publisher's clock, and joins after one came back.
    discontinuities: Counter,
    /// Connections closed because the bytes ended too soon.
    errors_truncated: Counter,
    /// Connections closed because the peer broke a rule.
    errors_malformed: Counter,
    /// Connections closed because the peer wanted what is not supported.
    errors_unsupported: Counter,
    /// Connections closed because a bound was passed.
    errors_too_large: Counter,
    /// Connections closed because the peer was too late.
    errors_timed_out: Counter,
    /// Connections closed because the peer asked for what it may not have.
    errors_refused: Counter,
    /// Sessions ended by a panic of our own code.
    errors_panicked: Counter,
    /// Recordings that are being written.
    recordings: Gauge,
    /// Fragments that are on the disk.
    recorded_fragments: Counter,
    /// Bytes that are on the disk.
    recorded_bytes: Counter,
    /// Gaps in recordings, for want of space or speed.
    recording_gaps: Counter,
    /// Messages that were put on the lanes to other cores.
    lane_messages: Counter,
    /// Frames that were put on the lanes, once per frame and interested core.
    lane_frames: Counter,
    /// Messages that found their lane full.
    lane_refusals: Counter,
    /// Rounds of the shard's loop; with nothing to do it makes none.
    rounds: Counter,
    /// Sleeps of the shard's loop that the ring ended: a peer did something.
    sleeps_ring: Counter,
    /// Sleeps that a deadline ended: a flush, a harvest of receives, a timeout.
    sleeps_time: Counter,
    /// Sleeps that the doorbell ended: another core or the control thread had something to say.
    sleeps_bell: Counter,
    /// CPU time of the shard's thread, in nanoseconds.
    cpu_nanoseconds: Counter,
}

/// One door of one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoorStats {
    /// Its name.
    pub name: &'static str,
    /// Connections that are open and came in by it on this core.
    pub connections: u64,
    /// Connections that were accepted.
    pub accepted: u64,
    /// Connections that were closed at once because a bound was reached; over UDP, datagrams of peers that were not let in.
    pub refused: u64,
    /// Over UDP: datagrams that came and were lost here, because this core had not read in time, or the lane to the core that
    /// their peer has moved to was full.
    pub datagrams_lost: u64,
}

/// A push or a pull of one core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayStats {
    /// The stream.
    pub name: StreamName,
    /// `push` or `pull`.
    pub way: &'static str,
    /// Which of the stream's relays, from 0 on.
    pub number: u64,
    /// Where to or where from, without what may be secret.
    pub url: String,
    /// It has its connection; over UDP, it sends.
    pub connected: bool,
    /// Bytes that were pushed, or pulled.
    pub bytes: u64,
    /// How often it has failed.
    pub failures: u64,
}

/// One stream as one core sees it; several merged are the stream on the whole node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamStats {
    /// Its name.
    pub name: StreamName,
    /// A publisher is there. Only the owner knows.
    pub published: bool,
    /// Viewers that play or wait.
    pub viewers: u64,
    /// Payload bytes taken from its publishers. Only the owner counts.
    pub bytes: u64,
    /// What its tracks hold, in their order. Only the owner says.
    pub tracks: Vec<Arc<Parameters>>,
}

impl StreamStats {
    /// Adds what another core says about the same stream.
    pub fn merge(&mut self, other: StreamStats) {
        self.published |= other.published;
        self.viewers += other.viewers;
        self.bytes += other.bytes;
        if self.tracks.is_empty() {
            self.tracks = other.tracks;
        }
    }
}

impl ShardStats {
    /// Counts a connection that was closed for a fault.
    pub fn count_error(&mut self, kind: ErrorKind) {
        let counter = match kind {
            ErrorKind::Truncated => &mut self.errors_truncated,
            ErrorKind::Malformed => &mut self.errors_malformed,
            ErrorKind::Unsupported => &mut self.errors_unsupported,
            ErrorKind::TooLarge => &mut self.errors_too_large,
            ErrorKind::TimedOut => &mut self.errors_timed_out,
            ErrorKind::Refused => &mut self.errors_refused,
            ErrorKind::Panicked => &mut self.errors_panicked,
        };
        *counter += 1;
    }
}

/// How often a number was how large: `N` bounds, a count for each, and one for what is beyond the last.
///
/// To record is a search among a dozen numbers and two additions, so it may stand on the path of a send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    counts: [u64; N],
    beyond: u64,
    sum: u64,
}

impl<const N: usize> Histogram<N> {
    /// An empty one. The bounds rise, and each is the largest number that its bucket takes.
    pub const fn new(bounds: &'static [u64; N]) -> Self {
        let mut index = 1;
        while index < N {
            assert!(bounds[index - 1] < bounds[index], "bounds rise");
            index += 1;
        }
        Histogram { bounds, counts: [0; N], beyond: 0, sum: 0 }
    }

    /// Takes note of a number.
    #[inline]
    pub fn record(&mut self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        *self.counts.get_mut(bucket).unwrap_or(&mut self.beyond) += 1;
        self.sum = self.sum.wrapping_add(value);
    }

    /// Adds another's, which has the same bounds.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.bounds, other.bounds, "numbers of one kind have the same bounds");
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.beyond += other.beyond;
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// Each bound, and how many numbers were not above it: what an exposition wants.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        self.bounds.iter().zip(&self.counts).scan(0, |below, (bound, count)| {
            *below += count;
            Some((*bound, *below))
        })
    }

    /// How many numbers there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.beyond
    }

    /// What they add up to.
    pub fn sum(&self) -> u64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static BOUNDS: [u64; 3] = [0, 10, 1000];

    #[test]
    fn a_number_at_a_bound_belongs_below_it_and_none_is_lost_beyond_the_last() {
        let mut histogram = Histogram::new(&BOUNDS);
        for value in [0, 1, 10, 11, 1000, 1001, 1 << 40] {
            histogram.record(value);
        }
        assert_eq!(histogram.cumulative().collect::<Vec<_>>(), [(0, 1), (10, 3), (1000, 5)]);
        assert_eq!((histogram.count(), histogram.sum()), (7, 2023 + (1 << 40)));
    }

    #[test]
    fn histograms_merged_are_one_that_saw_everything() {
        let (mut one, mut other, mut both) =
            (Histogram::new(&BOUNDS), Histogram::new(&BOUNDS), Histogram::new(&BOUNDS));
        for value in 0..3000 {
            if value % 3 == 0 {
                one.record(value)
            } else {
                other.record(value)
            }
            both.record(value);
        }
        one.merge(&other);
        assert_eq!(one, both);
        assert_eq!(one.count(), 3000);
    }

    #[test]
    fn merging_adds_every_number() {
        let one = ShardStats { frames: 2, errors_panicked: 1, ..ShardStats::default() };
        let mut sum = one.clone();
        sum.merge(&one);
        assert_eq!((sum.frames, sum.errors_panicked), (4, 2));
        let field = sum.fields().into_iter().find(|field| field.name == "frames").unwrap();
        assert_eq!(
            (field.kind, field.value, field.help),
            (Kind::Counter, 4, "Frames taken from publishers.")
        );
    }
}
