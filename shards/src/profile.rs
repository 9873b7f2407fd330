//! What a shard counts about its own loop, so that one can see where its time goes without stopping it.
//!
//! Everything here is plain: the shard alone writes, and gives a copy away when the control thread asks. What the
//! figures mean for who runs a server is in `docs/PROFILING.md`.

use std::time::Duration;

use shardcast_engine::stats::Histogram;

/// How long rounds last, in nanoseconds: from far below a flush to where viewers notice.
static ROUND_BOUNDS: [u64; 12] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
];
/// How many sends one enter carries. The loop stops at 128.
static SENDS_BOUNDS: [u64; 9] = [0, 1, 2, 4, 8, 16, 32, 64, 128];
/// How much one send carries: from less than a packet to more than a socket's buffer takes at once.
static BYTES_BOUNDS: [u64; 12] = [
    512,
    1 << 10,
    2 << 10,
    4 << 10,
    8 << 10,
    16 << 10,
    32 << 10,
    64 << 10,
    128 << 10,
    256 << 10,
    512 << 10,
    1 << 20,
];

/// What ended a sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// The ring: a peer did something.
    Ring,
    /// A deadline.
    Time,
    /// The doorbell: another core or the control thread.
    Bell,
    /// Nothing, for there was more to do and it was no sleep: the others got their turn.
    Busy,
}

/// What one shard's loop has done since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoopStats {
    /// Busy time of each round: from waking to the next sleep. The clock goes on while another thread has the core.
    pub rounds: Histogram<12>,
    /// Sends that the kernel got with each enter of the ring.
    pub sends_per_enter: Histogram<9>,
    /// Bytes that a socket took with each send.
    pub send_bytes: Histogram<12>,
    /// Sleeps that the ring ended.
    pub sleeps_ring: u64,
    /// Sleeps that a deadline ended.
    pub sleeps_time: u64,
    /// Sleeps that the doorbell ended.
    pub sleeps_bell: u64,
}

impl Default for LoopStats {
    fn default() -> Self {
        LoopStats {
            rounds: Histogram::new(&ROUND_BOUNDS),
            sends_per_enter: Histogram::new(&SENDS_BOUNDS),
            send_bytes: Histogram::new(&BYTES_BOUNDS),
            sleeps_ring: 0,
            sleeps_time: 0,
            sleeps_bell: 0,
        }
    }
}

impl LoopStats {
    /// A round has ended.
    pub fn round(&mut self, busy: Duration) {
        self.rounds.record(u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX));
    }

    /// A sleep has ended.
    pub fn woken(&mut self, woken: Woken) {
        match woken {
            Woken::Ring => self.sleeps_ring += 1,
            Woken::Time => self.sleeps_time += 1,
            Woken::Bell => self.sleeps_bell += 1,
            Woken::Busy => {}
        }
    }
}
