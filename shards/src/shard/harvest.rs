//! Whether receives are taken as they come or on a tick, and on which.
//!
//! Waking for each receive costs as much as the receive, so where many come they are taken together. How long the first
//! of them may wait depends on who waits for it: a peer that is still being talked to, a neighbour core, or only the
//! viewers of this core, who get nothing before the next flush anyway.

use std::time::Duration;

use shardcast_engine::{settings::Settings, time::Now};

use crate::profile::Woken;

/// The tick while somebody has just come in: handshakes go back and forth a few times before the first picture.
const GREETING_TICK: Duration = Duration::from_millis(1);
/// The tick while frames go to other cores, whose own flush must not miss them.
const NEIGHBOUR_TICK: Duration = Duration::from_millis(4);
/// The longest tick. Two frames of a publisher come in one receive on it: a bare receiver of 200 publishers takes two
/// fifths less CPU than on 4 ms.
const IDLE_TICK: Duration = Duration::from_millis(33);
/// How long somebody has just come in, or a neighbour has just been sent to.
const RECENT: Duration = Duration::from_secs(1);
/// Completions that end the sleep before the tick: fewer than half of the receive buffers, so that no socket finds them
/// used up though each may bring more than one.
pub(super) const HARVEST_COMPLETIONS: usize = 96;
/// Wakes by the ring within [`HARVEST_WINDOW`] that make the loop harvest on a tick instead: above this rate a tick is
/// cheaper. And receives within it, few as a tick makes them, below which it goes back.
const HARVEST_WAKES: u32 = 20;
const HARVEST_RECEIVES: u64 = 8;
const HARVEST_WINDOW: Duration = Duration::from_millis(80);

/// Decides whether receives are taken as they come or on a tick.
pub(super) struct Harvest {
    ticking: bool,
    window_began: Now,
    wakes: u32,
    receives: u64,
    /// What it saw last of others' counters, and when they moved.
    accepts: Moving,
    lane_messages: Moving,
}

/// A counter, and when it was last seen to rise.
struct Moving {
    count: u64,
    at: Option<Now>,
}

impl Moving {
    const fn new() -> Self {
        Moving { count: 0, at: None }
    }

    /// Whether it has risen within [`RECENT`].
    fn is_recent(&mut self, count: u64, now: Now) -> bool {
        if count != self.count {
            (self.count, self.at) = (count, Some(now));
        }
        self.at.is_some_and(|at| now.since(at) < RECENT)
    }
}

impl Harvest {
    pub(super) fn new() -> Self {
        Harvest {
            ticking: false,
            window_began: Now(0),
            wakes: 0,
            receives: 0,
            accepts: Moving::new(),
            lane_messages: Moving::new(),
        }
    }

    /// How long receives may wait; `None` when each is taken as it comes. `accepts` and `lane_messages` count since the
    /// shard began, `shortest_flush` is that of any app.
    pub(super) fn tick(
        &mut self,
        accepts: u64,
        lane_messages: u64,
        shortest_flush: Duration,
        now: Now,
    ) -> Option<Duration> {
        let greeting = self.accepts.is_recent(accepts, now);
        let neighbours = self.lane_messages.is_recent(lane_messages, now);
        if !self.ticking {
            return None;
        }
        Some(match (greeting, neighbours) {
            (true, _) => GREETING_TICK,
            (false, true) => NEIGHBOUR_TICK,
            // Viewers wait for the flush and not for the receive, as long as this is the shorter.
            (false, false) => shortest_flush.clamp(NEIGHBOUR_TICK, IDLE_TICK),
        })
    }

    /// Takes note of a sleep's end.
    pub(super) fn note(&mut self, woken: Woken, receives: u64, now: Now) {
        self.wakes += u32::from(woken == Woken::Ring);
        if now.since(self.window_began) < HARVEST_WINDOW {
            return;
        }
        let came = receives - self.receives;
        self.ticking = if self.ticking { came >= HARVEST_RECEIVES } else { self.wakes >= HARVEST_WAKES };
        (self.window_began, self.wakes, self.receives) = (now, 0, receives);
    }
}

/// The shortest flush that an operator chose for any app.
pub(super) fn shortest_flush(settings: &Settings) -> Duration {
    let apps = settings.apps.values().chain([&settings.default]);
    apps.map(|app| app.limits.flush).min().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLUSH: Duration = Duration::from_millis(33);

    fn at(millis: u64) -> Now {
        Now(10_000_000_000 + millis * 1_000_000)
    }

    /// A harvest that has seen `wakes` wakes by the ring in one window.
    fn after(wakes: u32) -> Harvest {
        let mut harvest = Harvest::new();
        harvest.note(Woken::Time, 0, at(0));
        for wake in 0..wakes {
            harvest.note(Woken::Ring, 0, at(1 + u64::from(wake) % 70));
        }
        harvest.note(Woken::Time, 1000, at(81));
        harvest
    }

    #[test]
    fn few_receives_are_taken_as_they_come_and_many_on_a_tick() {
        assert_eq!(after(HARVEST_WAKES - 1).tick(0, 0, FLUSH, at(81)), None);
        let mut harvest = after(HARVEST_WAKES);
        assert_eq!(harvest.tick(0, 0, FLUSH, at(81)), Some(FLUSH));
        harvest.note(Woken::Time, 1000 + HARVEST_RECEIVES, at(161));
        assert!(harvest.tick(0, 0, FLUSH, at(161)).is_some(), "it goes on while they come");
        harvest.note(Woken::Time, 1000 + HARVEST_RECEIVES, at(241));
        assert_eq!(harvest.tick(0, 0, FLUSH, at(241)), None, "and no longer");
    }

    #[test]
    fn whoever_waits_for_an_answer_or_sits_on_another_core_waits_less() {
        let mut harvest = after(HARVEST_WAKES);
        assert_eq!(harvest.tick(0, 0, Duration::ZERO, at(100)), Some(NEIGHBOUR_TICK));
        assert_eq!(harvest.tick(0, 0, Duration::from_secs(1), at(100)), Some(IDLE_TICK));
        assert_eq!(harvest.tick(0, 5, FLUSH, at(100)), Some(NEIGHBOUR_TICK));
        assert_eq!(harvest.tick(1, 5, FLUSH, at(200)), Some(GREETING_TICK));
        assert_eq!(harvest.tick(1, 6, FLUSH, at(1190)), Some(GREETING_TICK));
        assert_eq!(harvest.tick(1, 6, FLUSH, at(1210)), Some(NEIGHBOUR_TICK));
        assert_eq!(harvest.tick(1, 6, FLUSH, at(2300)), Some(FLUSH));
    }

    #[test]
    fn the_shortest_flush_is_that_of_any_app() {
        let mut settings = Settings::default();
        assert_eq!(shortest_flush(&settings), settings.default.limits.flush);
        let mut app = settings.default.clone();
        app.limits.flush = Duration::from_millis(5);
        settings.apps.insert("quick".to_owned(), app);
        assert_eq!(shortest_flush(&settings), Duration::from_millis(5));
    }
}
