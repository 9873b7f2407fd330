//! When what has failed is tried again, and how often it is told.

use std::time::Duration;

use crate::{
    limits::{RELAY_RETRY_MAX, RELAY_RETRY_MIN},
    time::Now,
};

/// A fault of one kind is told once in so long.
const TOLD_INTERVAL: Duration = Duration::from_secs(60);
const _: () = assert!(TOLD_INTERVAL.as_secs() == 2 * RELAY_RETRY_MAX.as_secs());
/// Kinds of faults that are remembered. The one that was told longest ago makes room.
const KINDS_MAX: usize = 8;

/// The patience with one target: twice as long after each failure, with a quarter more or less by chance, so that those who
/// lost the same server do not all come back at once.
///
/// ```
/// use std::time::Duration;
/// use shardcast_engine::{relay::Backoff, time::Now};
///
/// let (mut backoff, short) = (Backoff::default(), Duration::from_millis(20));
/// let pauses: Vec<u64> = (0..7).map(|chance| backoff.failed(short, chance << 60).as_secs()).collect();
/// assert!(pauses[0] <= 1 && pauses[6] >= 22 && pauses[6] <= 37);
/// // One line in a minute for what is wrong each time.
/// assert!(backoff.is_news("the server refused the stream", Now(0)));
/// assert!(!backoff.is_news("the server refused the stream", Now(59_000_000_000)));
/// let mut wrong_password = Backoff::default();
/// wrong_password.give_up_hope();
/// assert!(wrong_password.failed(short, 0).as_secs() >= 22);
/// ```
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
    told: Vec<(String, Now)>,
}

impl Backoff {
    /// It has failed after it had lasted for so long. How long to wait; `random` is any number.
    pub fn failed(&mut self, lasted: Duration, random: u64) -> Duration {
        if lasted >= RELAY_RETRY_MAX {
            self.failures = 0;
        }
        let pause = RELAY_RETRY_MIN.saturating_mul(1 << self.failures.min(16)).min(RELAY_RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        let chance = (random >> 11) as f64 / (1_u64 << 53) as f64;
        pause.mul_f64(0.75 + chance / 2.0)
    }

    /// Trying again soon is of no use: the next pause is the longest.
    pub fn give_up_hope(&mut self) {
        self.failures = self.failures.max(16);
    }

    /// Whether a fault is to be told, which is not so when the same was told a moment ago.
    pub fn is_news(&mut self, what: &str, now: Now) -> bool {
        self.told.retain(|(_, at)| now.since(*at) < TOLD_INTERVAL);
        if self.told.iter().any(|(told, _)| told == what) {
            return false;
        }
        if self.told.len() == KINDS_MAX {
            self.told.remove(0);
        }
        self.told.push((what.to_owned(), now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_half_a_minute_and_begin_anew_after_what_lasted() {
        for (random, share) in [(0, 0.75), (u64::MAX, 1.25)] {
            let mut backoff = Backoff::default();
            for seconds in [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
                let pause = backoff.failed(Duration::from_secs(2), random).as_secs_f64();
                assert!((pause - seconds * share).abs() < 0.01, "{pause} for {seconds}");
            }
            for _ in 0..100 {
                backoff.failed(Duration::ZERO, random);
            }
            assert!(backoff.failed(Duration::from_secs(30), random) < Duration::from_secs(2));
            backoff.give_up_hope();
            assert!(backoff.failed(Duration::ZERO, random) >= Duration::from_secs(22));
        }
    }

    #[test]
    fn each_kind_of_fault_is_told_once_in_a_minute_and_few_are_remembered() {
        let at = |seconds: u64| Now(seconds * 1_000_000_000);
        let mut backoff = Backoff::default();
        assert!(backoff.is_news("one", at(1)) && backoff.is_news("other", at(2)));
        assert!(!backoff.is_news("one", at(60)) && backoff.is_news("one", at(61)));
        for number in 0..1000 {
            backoff.is_news(&number.to_string(), at(62));
        }
        assert_eq!(backoff.told.len(), KINDS_MAX);
    }
}
