//! How much a client of HTTP/2 may say. Most of its frames cost it nothing and ask for nothing, so it earns what it says by
//! what it takes, and by time: a flood of frames of any kind uses its credit up.

use std::time::Duration;

use crate::{limits, time::Now};

/// What one client may still say.
#[derive(Debug)]
pub(super) struct Credit {
    bytes: u64,
    since: Now,
}

impl Credit {
    /// That of a client that has just come.
    pub(super) fn new(now: Now) -> Self {
        Credit { bytes: CREDIT_BYTES_MAX, since: now }
    }

    /// It has said so many bytes. False when that was more than it may.
    pub(super) fn spend(&mut self, bytes: usize, now: Now) -> bool {
        let passed = u64::try_from(now.since(self.since).as_millis()).unwrap_or(u64::MAX);
        self.since = self.since.after(Duration::from_millis(passed));
        self.add(passed.saturating_mul(CREDIT_BYTES_PER_MILLISECOND));
        let enough = bytes as u64 <= self.bytes;
        self.bytes = self.bytes.saturating_sub(bytes as u64);
        enough
    }

    /// It has called a request off. False when it has done so too often.
    pub(super) fn spend_on_reset(&mut self, now: Now) -> bool {
        self.spend(RESET_BYTES, now)
    }

    /// It has taken so many bytes of an answer. It says at most one window update for each few of them.
    pub(super) fn earn(&mut self, bytes: usize) {
        self.add(bytes as u64);
    }

    /// It has had a whole answer.
    pub(super) fn earn_answer(&mut self) {
        self.add(limits::HTTP_HEAD_BYTES_MAX as u64);
    }

    fn add(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes).min(CREDIT_BYTES_MAX);
    }
}

/// The most that a client may have saved up: every branch of a trunk with a large head, several times over.
const CREDIT_BYTES_MAX: u64 = 1 << 20;
/// What it gets in any case: 64 KB a second, which is four thousand pings.
const CREDIT_BYTES_PER_MILLISECOND: u64 = 64;
/// What a request costs that is called off: so that few bytes cannot make us begin and end a session again and again (CVE-2023-44487).
/// A player that leaves one stream for another does so once in a while.
const RESET_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    const START: Now = Now(1_000_000_000);

    fn at(millis: u64) -> Now {
        Now(START.0 + millis * 1_000_000)
    }

    #[test]
    fn a_flood_uses_the_credit_up_and_time_gives_some_of_it_back() {
        let mut credit = Credit::new(START);
        assert!(credit.spend(CREDIT_BYTES_MAX as usize, START));
        assert!(!credit.spend(1, START));
        assert!(credit.spend(64_000, at(1000)));
        assert!(!credit.spend(1, at(1000)));
        // A look in between takes nothing away.
        assert!((1001..=2000).all(|millis| credit.spend(60, at(millis))));
        assert!(credit.spend(CREDIT_BYTES_MAX as usize, at(1 << 30)), "no more is saved up than the most");
        assert!(!credit.spend(1, at(1 << 30)));
    }

    #[test]
    fn whoever_takes_answers_may_go_on_asking() {
        let mut credit = Credit::new(START);
        for _ in 0..10_000 {
            assert!(credit.spend(limits::HTTP_HEAD_BYTES_MAX, START));
            credit.earn_answer();
            assert!(credit.spend(26, START), "a window update for the branch and one for the trunk");
            credit.earn(300);
        }
    }

    #[test]
    fn requests_that_are_called_off_are_dear() {
        let mut credit = Credit::new(START);
        let count = (0..).take_while(|_| credit.spend(60, START) && credit.spend_on_reset(START)).count();
        assert!((200..300).contains(&count), "{count}");
    }
}
