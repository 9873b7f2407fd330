//! The library's times and ours. It counts from a moment that only a clock can give, and nothing here has one: the first time that
//! is asked for is held to be now.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use crate::time::Now;

/// What the library would call zero on our clock.
static ZERO: OnceLock<Instant> = OnceLock::new();

/// `now` as the library counts.
pub fn instant(now: Now) -> Instant {
    #[expect(clippy::disallowed_methods, reason = "the one moment that all others are counted from")]
    let zero = ZERO.get_or_init(|| {
        let at = Instant::now();
        at.checked_sub(Duration::from_nanos(now.0)).unwrap_or(at)
    });
    *zero + Duration::from_nanos(now.0.min(FAR))
}

/// A time of the library's as ours; `None` for one so far away that it means never.
pub fn time_of(instant: Instant) -> Option<Now> {
    let passed = instant.saturating_duration_since(*ZERO.get()?).as_nanos();
    u64::try_from(passed).ok().filter(|nanos| *nanos < FAR).map(Now)
}

/// A hundred years.
const FAR: u64 = 100 * 365 * 86_400 * 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back_as_they_were_and_what_means_never_is_none() {
        let now = Now(5_000_000_000);
        assert_eq!(time_of(instant(now)), Some(now));
        assert_eq!(instant(now.after(Duration::from_millis(7))) - instant(now), Duration::from_millis(7));
        assert_eq!(time_of(instant(Now(u64::MAX))), None);
    }
}
