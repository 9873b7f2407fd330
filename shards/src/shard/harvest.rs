//! Whether receives are taken as they come or on a tick, and on which.
//!
//! Waking for each receive costs as much as the receive, so where many come they are taken together. How long the first
//! of them may wait depends on who waits for it: a peer that is still being talked to, a neighbour core, or only the
//! viewers of this core, who get nothing before the next flush anyway.

use std::time::Duration;

use shardcast_engine::{settings::Settings, time::Now};

use crate::profile::Woken;

/// The tick while frames go to other cores, whose own flush must not miss them.
const NEIGHBOUR_TICK: Duration = Duration::from_millis(4);
/// The longest tick. Two frames of a publisher come in one receive on it: a bare receiver of 200 publishers takes two
/// fifths less CPU than on 4 ms.
pub(super) const IDLE_TICK: Duration = Duration::from_millis(40);
/// How long before a flush the receives that it waits for are taken.
pub(super) const BEFORE_FLUSH: Duration = Duration::from_millis(2);
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

    /// Until when receives may wait; `None` when each is taken as it comes. `lane_messages` counts since the shard began,
    /// `shortest_flush` is that of any app.
    pub(super) fn tick(&mut self, lane_messages: u64, shortest_flush: Duration, now: Now) -> Option<Now> {
        let neighbours = self.lane_messages.is_recent(lane_messages, now);
        if !self.ticking {
            return None;
        }
        Some(match shortest_flush {
            _ if neighbours => now.after(NEIGHBOUR_TICK),
            // Just before the flush, which takes along what has come by then: a frame has only one of them to wait for.
            flush if (NEIGHBOUR_TICK..=IDLE_TICK).contains(&flush) => {
                let next = now.after(BEFORE_FLUSH + Duration::from_nanos(1)).on_grid(flush);
                Now(next.0 - BEFORE_FLUSH.as_nanos() as u64)
            }
            flush => now.after(flush.clamp(NEIGHBOUR_TICK, IDLE_TICK)),
        })
    }

    /// Whether somebody has just come in: handshakes go back and forth a few times before the first picture, and nobody
    /// waits for a tick there. `accepts` counts since the shard began.
    pub(super) fn is_greeting(&mut self, accepts: u64, now: Now) -> bool {
        self.accepts.is_recent(accepts, now)
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
        assert_eq!(after(HARVEST_WAKES - 1).tick(0, FLUSH, at(81)), None);
        let mut harvest = after(HARVEST_WAKES);
        assert!(harvest.tick(0, FLUSH, at(81)).is_some());
        harvest.note(Woken::Time, 1000 + HARVEST_RECEIVES, at(161));
        assert!(harvest.tick(0, FLUSH, at(161)).is_some(), "it goes on while they come");
        harvest.note(Woken::Time, 1000 + HARVEST_RECEIVES, at(241));
        assert_eq!(harvest.tick(0, FLUSH, at(241)), None, "and no longer");
    }

    #[test]
    fn whoever_sits_on_another_core_waits_less() {
        let mut harvest = after(HARVEST_WAKES);
        assert_eq!(harvest.tick(0, Duration::ZERO, at(100)), Some(at(104)));
        assert_eq!(harvest.tick(0, Duration::from_secs(1), at(100)), Some(at(140)));
        assert_eq!(harvest.tick(5, FLUSH, at(100)), Some(at(104)));
        assert_eq!(harvest.tick(6, FLUSH, at(1000)), Some(at(1004)));
    }

    #[test]
    fn receives_are_taken_just_before_each_flush() {
        let mut harvest = after(HARVEST_WAKES);
        let flush = Duration::from_millis(20);
        for (now, turn) in [(100, 118), (117, 118), (118, 138), (120, 138)] {
            assert_eq!(harvest.tick(0, flush, at(now)), Some(at(turn)), "at {now}");
        }
    }

    #[test]
    fn whoever_comes_in_is_greeted_for_a_second() {
        let mut harvest = after(HARVEST_WAKES);
        assert!(!harvest.is_greeting(0, at(100)));
        assert!(harvest.is_greeting(1, at(200)));
        assert!(harvest.is_greeting(1, at(1190)));
        assert!(!harvest.is_greeting(1, at(1210)));
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
