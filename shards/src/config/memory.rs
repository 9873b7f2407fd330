//! What a config may cost in memory, worked out before anything runs.
//!
//! These are bounds, not guesses: a stream that reaches its bound lets go of its group. What a stream takes in ordinary
//! life is its bit rate times its key frame interval, which is far less.

use std::mem::size_of;

use shardcast_engine::{limits, media::Frame};

use super::{Config, Stream};

/// Wire forms that viewers can ask for, each muxed once per stream and core: RTMP chunks and FLV tags.
pub const WIRE_FORMS: usize = 2;
/// What a connection takes beside the stream it plays: its session, its place in the tables of shard and hub, and the
/// outbox of an ordinary conversation.
pub const VIEWER_BYTES: usize = 4 << 10;

/// Bounds in bytes that follow from a config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// One stream on the core that owns it: the kept group.
    pub stream_owner: u64,
    /// One stream on a core that has viewers of it, for each wire form they ask for: the wire log.
    pub stream_log: u64,
    /// One stream at worst: the owner, and a log of every form on every core.
    pub stream: u64,
    /// One viewer, without the kernel's socket buffers.
    pub viewer: u64,
    /// One peer of ill will at worst: unfinished messages, or answers that it does not read.
    pub peer: u64,
    /// All lanes between the shards, when full of messages.
    pub lanes: u64,
}

impl Memory {
    /// The bounds of a stream that is treated as `stream` says, on a node that runs as `config` says.
    pub fn of(config: &Config, stream: &Stream) -> Memory {
        let shards = config.shard_count() as u64;
        let stream_owner = stream.group_bytes as u64 + (stream.group_frames * size_of::<Frame>()) as u64;
        // Muxing adds a few bytes to each frame: at most one RTMP chunk header per chunk, less than one byte in a hundred.
        let stream_log = stream_owner + stream.group_bytes as u64 / 100;
        Memory {
            stream_owner,
            stream_log,
            stream: stream_owner + stream_log * WIRE_FORMS as u64 * shards,
            viewer: VIEWER_BYTES as u64,
            peer: (limits::RTMP_PARTIAL_BYTES_MAX + limits::OUTBOX_BYTES_MAX) as u64,
            lanes: shards * shards.saturating_sub(1) * (limits::LANE_SLOTS * LANE_MESSAGE_BYTES) as u64,
        }
    }
}

/// A message between cores is a handful of words; frames travel as references.
const LANE_MESSAGE_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_costs_its_group_once_and_a_log_per_form_and_core() {
        let config = Config { shards: 4, ..Config::default() };
        let memory = Memory::of(&config, &config.stream);
        assert!(memory.stream_owner > 32 << 20 && memory.stream_owner < 34 << 20, "{memory:?}");
        assert_eq!(memory.stream, memory.stream_owner + 8 * memory.stream_log);
        assert_eq!(Memory::of(&Config { shards: 1, ..config.clone() }, &config.stream).lanes, 0);
    }
}
