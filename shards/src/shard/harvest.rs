//! Whether receives are taken as they come or on a tick.

use std::time::Duration;

use shardcast_engine::time::Now;

use crate::profile::Woken;

/// How often receives are harvested while many come: a wake costs more than a receive.
pub(super) const HARVEST_TICK: Duration = Duration::from_millis(4);
/// Completions that end the sleep before the tick: half of the receive buffers, so that no socket finds them used up.
pub(super) const HARVEST_COMPLETIONS: usize = 128;
/// Wakes by the ring within [`HARVEST_WINDOW`] that make the loop harvest on the tick instead, and below which it goes
/// back. At this rate both cost the same.
const HARVEST_WAKES: u32 = 20;
const HARVEST_WINDOW: Duration = Duration::from_millis(80);

/// Decides whether receives are taken as they come or on a tick.
pub(super) struct Harvest {
    /// On a tick.
    pub(super) ticking: bool,
    window_began: Now,
    wakes: u32,
    receives: u64,
}

impl Harvest {
    pub(super) fn new() -> Self {
        Harvest { ticking: false, window_began: Now(0), wakes: 0, receives: 0 }
    }

    /// Takes note of a sleep's end.
    pub(super) fn note(&mut self, woken: Woken, receives: u64, now: Now) {
        self.wakes += u32::from(woken == Woken::Ring);
        if now.since(self.window_began) < HARVEST_WINDOW {
            return;
        }
        // In a window: waking for each event at least as often as the tick would, or receiving at least that often.
        let came = receives - self.receives;
        self.ticking =
            if self.ticking { came >= u64::from(HARVEST_WAKES) } else { self.wakes >= HARVEST_WAKES };
        (self.window_began, self.wakes, self.receives) = (now, 0, receives);
    }
}
