//! Holds back repetition, so that a flood of bad peers cannot fill a disk with log lines.

use std::{borrow::Cow, collections::HashMap};

use shardcast_engine::time::Wall;

use super::LogLine;
use crate::config::LogLevel;

/// Lines of one cause that are written per second. The rest are counted, and the count is one more line.
pub const REPEATS_PER_SECOND: u64 = 20;

/// Causes that are told apart within one second. Lines of further ones count as one cause together, so that the table
/// cannot grow without bound.
pub const CAUSES_MAX: usize = 1024;

/// Counts the lines of each cause within the present second of the wall clock.
#[derive(Default)]
pub struct Limiter {
    second: u64,
    causes: HashMap<Cause, u64>,
}

/// What to do with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Write it.
    Write,
    /// It was counted.
    HoldBack,
}

/// What makes two lines the same.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Cause {
    level: LogLevel,
    message: Cow<'static, str>,
    protocol: Option<&'static str>,
}

impl Limiter {
    /// Counts `line`. Call [`settle`](Self::settle) with its time before.
    pub fn judge(&mut self, line: &LogLine) -> Verdict {
        let mut cause = Cause { level: line.level, message: line.message.clone(), protocol: line.protocol };
        if self.causes.len() >= CAUSES_MAX && !self.causes.contains_key(&cause) {
            cause = Cause {
                level: LogLevel::Warn,
                message: Cow::Borrowed("many different lines"),
                protocol: None,
            };
        }
        let count = self.causes.entry(cause).or_insert(0);
        *count += 1;
        if *count > REPEATS_PER_SECOND { Verdict::HoldBack } else { Verdict::Write }
    }

    /// When a new second has begun (or with `all`), forgets the counts and gives a line for each cause of which some were
    /// held back.
    pub fn settle(&mut self, now: Wall, all: bool) -> Vec<LogLine> {
        let second = now.0 / 1_000_000_000;
        if second == self.second && !all {
            return Vec::new();
        }
        self.second = second;
        let held_back = |(cause, count): (Cause, u64)| {
            (count > REPEATS_PER_SECOND).then(|| LogLine {
                protocol: cause.protocol,
                ..LogLine::new(cause.level, cause.message).repeated(count - REPEATS_PER_SECOND)
            })
        };
        self.causes.drain().filter_map(held_back).collect()
    }

    /// True when some lines of this second were held back, so that [`settle`](Self::settle) will have something to say.
    pub fn holds_back(&self) -> bool {
        self.causes.values().any(|count| *count > REPEATS_PER_SECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_different_lines_cannot_grow_the_table() {
        let mut limiter = Limiter::default();
        let mut written = 0;
        for i in 0..10 * CAUSES_MAX {
            let line = LogLine::new(LogLevel::Info, format!("line {i}").into());
            written += usize::from(limiter.judge(&line) == Verdict::Write);
        }
        assert_eq!(limiter.causes.len(), CAUSES_MAX + 1);
        assert_eq!(written, CAUSES_MAX + REPEATS_PER_SECOND as usize);
        let told = limiter.settle(Wall(1_000_000_000), false);
        assert_eq!(told.len(), 1);
        assert_eq!(
            told.first().and_then(|line| line.repeated),
            Some(9 * CAUSES_MAX as u64 - REPEATS_PER_SECOND)
        );
    }
}
