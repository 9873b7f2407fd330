//! What a pull says of itself, for the metrics.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use shardcast_engine::{media::StreamName, rtp};

/// What a pull is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PullState {
    /// Nobody wants its stream.
    Idle,
    /// It asks for it.
    Connecting,
    /// The stream comes.
    Playing,
    /// It has failed, and tries again in a while.
    Waiting,
}

impl PullState {
    /// All of them, in the order of their numbers.
    pub const ALL: [PullState; 4] =
        [PullState::Idle, PullState::Connecting, PullState::Playing, PullState::Waiting];

    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            PullState::Idle => "idle",
            PullState::Connecting => "connecting",
            PullState::Playing => "playing",
            PullState::Waiting => "waiting",
        }
    }
}

/// A pull's numbers at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullStats {
    /// The stream.
    pub name: StreamName,
    /// What it is at.
    pub state: PullState,
    /// Times that it was tried again.
    pub reconnects: u64,
    /// Bytes of packets that came.
    pub bytes: u64,
    /// Packets that did not come, as far as their numbers tell.
    pub packets_lost: u64,
    /// Frames that were left out, because a part of them or of what they need did not come.
    pub frames_broken: u64,
    /// Frames that were left out, because the shard was too busy.
    pub frames_dropped: u64,
}

/// Where a pull counts.
#[derive(Debug)]
pub struct Counters {
    name: StreamName,
    state: AtomicU8,
    reconnects: AtomicU64,
    bytes: AtomicU64,
    packets_lost: AtomicU64,
    frames_broken: AtomicU64,
    frames_dropped: AtomicU64,
}

impl Counters {
    /// Nothing has come yet.
    pub fn new(name: StreamName) -> Counters {
        Counters {
            name,
            state: AtomicU8::new(PullState::Idle as u8),
            reconnects: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            packets_lost: AtomicU64::new(0),
            frames_broken: AtomicU64::new(0),
            frames_dropped: AtomicU64::new(0),
        }
    }

    /// As it is now.
    pub fn read(&self) -> PullStats {
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PullStats {
            name: self.name.clone(),
            state: self.state(),
            reconnects: number(&self.reconnects),
            bytes: number(&self.bytes),
            packets_lost: number(&self.packets_lost),
            frames_broken: number(&self.frames_broken),
            frames_dropped: number(&self.frames_dropped),
        }
    }

    pub(super) fn state(&self) -> PullState {
        let state = usize::from(self.state.load(Ordering::Relaxed));
        PullState::ALL.get(state).copied().unwrap_or(PullState::Idle)
    }

    pub(super) fn set(&self, state: PullState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    pub(super) fn reconnect(&self) {
        self.reconnects.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn came(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// What has been left out since `before`, of what one conversation has counted.
    pub(super) fn left_out(&self, before: rtp::demux::Counters, now: rtp::demux::Counters) {
        self.packets_lost.fetch_add(now.lost_packets - before.lost_packets, Ordering::Relaxed);
        self.frames_broken.fetch_add(now.broken_frames - before.broken_frames, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self) {
        self.frames_dropped.fetch_add(1, Ordering::Relaxed);
    }
}
