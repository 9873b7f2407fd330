//! What a config may cost in memory, worked out before anything runs.
//!
//! These are bounds, not guesses: a stream that reaches its bound lets go of its group. What a stream takes in ordinary
//! life follows from its bit rate, and is far less.

use std::time::Duration;

use shardcast_engine::{limits, stream::Numbered};
use shardcast_io::ring::RingConfig;

use super::{Config, Hls, Stream};

/// Wire forms that viewers can ask for, each muxed once per stream and core while somebody does: RTMP chunks; FLV and MPEG-TS, each bare, in
/// chunks and in messages of WebSocket; packets of RTP of both tracks and of each alone.
pub const WIRE_FORMS: usize = 1 + 2 * 3 + 3;
/// What a viewer takes beside the stream it plays: its session, its places in the tables of shard, ring and hub. Thousands
/// of them were measured at 1.0 KiB each by HTTP-FLV and at 1.6 by RTMP.
pub const VIEWER_BYTES: usize = 2 << 10;

/// Bounds in bytes that follow from a config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// One stream on the core that owns it: the kept group. Other cores share its payload.
    pub stream_owner: u64,
    /// One stream in one wire form on one core with viewers: the wire log.
    pub stream_log: u64,
    /// One stream at worst: the owner, and a log of every form on every core.
    pub stream: u64,
    /// What a recorded stream may hold for a disk that is slow.
    pub recording: u64,
    /// One viewer, without the kernel's socket buffers.
    pub viewer: u64,
    /// One peer of ill will: unfinished messages, or answers that it does not read.
    pub peer: u64,
    /// Receive and write buffers of one shard, taken at the start.
    pub shard: u64,
}

impl Memory {
    /// The bounds of a stream that is treated as `stream` says, on a node that runs as `config` says.
    pub fn of(config: &Config, stream: &Stream) -> Memory {
        let shards = config.shard_count() as u64;
        let group_bytes = stream.group_bytes as u64;
        let group_frames = (stream.group_frames * size_of::<Numbered>()) as u64;
        let stream_owner = group_bytes + group_frames + limits::SLAB_BYTES as u64;
        // A log keeps blocks for joiners and for those who lag, up to twice the group's bound.
        let stream_log = 2 * group_bytes + limits::SLAB_BYTES as u64;
        let ring = RingConfig::default();
        let receive = u64::from(ring.receive_buffers) * u64::from(ring.receive_buffer_bytes);
        Memory {
            stream_owner,
            stream_log,
            stream: stream_owner + (shards - 1) * group_frames + shards * WIRE_FORMS as u64 * stream_log,
            recording: limits::FRAGMENT_BYTES_IN_FLIGHT_MAX as u64,
            viewer: VIEWER_BYTES as u64,
            peer: (limits::RTMP_PARTIAL_BYTES_MAX + limits::OUTBOX_BYTES_MAX) as u64,
            shard: receive + ring.write_buffer_bytes as u64,
        }
    }
}

/// What a stream of `bits_per_second` takes while it is cut as `hls` says: the segments that are listed, those that lists of
/// before may still name, and the open one.
pub fn segments(bits_per_second: u64, hls: &Hls) -> u64 {
    let kept = hls.window * 2 + hls.segment * 2;
    bits_per_second * kept.as_millis() as u64 / 8000
}

/// What a stream of `bits_per_second` with a key frame each `group` takes in ordinary life: where it is owned, and in each
/// wire log. Both hold the newest group, and a slab that is not full yet. A viewer who lags makes a log keep more, up to
/// what it may lag.
pub fn ordinary(bits_per_second: u64, group: Duration) -> (u64, u64) {
    let bytes = bits_per_second * group.as_millis() as u64 / 8000 + limits::SLAB_BYTES as u64;
    (bytes, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_costs_its_group_once_and_a_log_per_form_and_core() {
        let config = Config { shards: 4, ..Config::default() };
        let memory = Memory::of(&config, &config.stream);
        assert!(memory.stream_owner > 32 << 20 && memory.stream_owner < 34 << 20, "{memory:?}");
        let one = Memory::of(&Config { shards: 1, ..config.clone() }, &config.stream);
        assert_eq!(one.stream, memory.stream_owner + WIRE_FORMS as u64 * memory.stream_log);
        assert!(memory.stream > one.stream + 6 * memory.stream_log);
    }

    #[test]
    fn an_ordinary_stream_keeps_its_newest_group_once_more_per_form() {
        assert_eq!(ordinary(4_000_000, Duration::from_secs(2)), (1_131_072, 1_131_072));
        assert_eq!(ordinary(4_000_000, Duration::from_secs(10)), (5_131_072, 5_131_072));
    }
}
