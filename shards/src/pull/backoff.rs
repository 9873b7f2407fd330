//! How long a pull waits before it tries again.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

/// The first pause, and the longest one.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// A pause is longer or shorter by up to one part in so many, so that many cameras of one switch do not come all at once.
const SPREAD: u64 = 5;

/// Pauses that double.
#[derive(Debug)]
pub(super) struct Backoff {
    due: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { due: FIRST }
    }
}

impl Backoff {
    /// The next pause; the longest at once where trying again is of little use.
    pub fn next(&mut self, is_slow: bool) -> Duration {
        let pause = if is_slow { LONGEST } else { self.due };
        self.due = (pause * 2).min(LONGEST);
        spread(pause, RandomState::new().hash_one(0))
    }
}

fn spread(pause: Duration, random: u64) -> Duration {
    let millis = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    let most = millis / SPREAD;
    Duration::from_millis(millis - most + random % (2 * most + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_are_spread() {
        let mut backoff = Backoff::default();
        for seconds in [1_u64, 2, 4, 8, 16, 30, 30] {
            let pause = backoff.next(false).as_millis() as u64;
            assert!((seconds * 800..=seconds * 1_200).contains(&pause), "{seconds} s: {pause} ms");
        }
        assert!(Backoff::default().next(true) >= LONGEST * 4 / 5);
        assert_eq!(spread(FIRST, 0), Duration::from_millis(800));
        assert_eq!(spread(FIRST, 400), Duration::from_millis(1_200));
    }
}
