//! The clock of a file: where its times count from, and the readings of it (PCR) that a decoder's clock follows.
//!
//! A frame must have arrived before it is decoded, so no reading may be later than the decoding time of what comes after
//! it. Frames come interleaved as their publisher sent them, and one track may lag behind another: the clock stays back from
//! the foremost by as much as the hindmost needs.

use crate::time::MediaTime;

/// Ticks per second of all times here. (ISO/IEC 13818-1, 2.4.2.2 and 2.4.3.7)
const RATE: u32 = 90_000;
const SECOND: i64 = RATE as i64;
/// From a frame's arrival to its decoding, 700 ms as ffmpeg has it: what one track may lag behind another before the
/// clock has to wait for it.
pub(super) const DELAY: i64 = SECOND * 7 / 10;
/// The longest step between two readings. The bound is 100 ms. (2.7.2)
const STEP: i64 = SECOND * 9 / 100;
/// A longer step is a pause or a jump, and no readings are made up for it.
const PAUSE: i64 = 10 * SECOND;
/// The clock waits for no frame that lags by more: none may stay in a decoder's buffers for more than ten seconds
/// (2.14.3.1). Such a frame is decoded when it comes.
const LAG_MAX: i64 = 10 * SECOND;
const _: () = assert!(LAG_MAX > DELAY && PAUSE > STEP);
/// Times beyond this (3 million years) are as good as this. Sums of a few of them stay in range.
const TICKS_MAX: i64 = 1 << 60;

#[derive(Default)]
pub(super) struct Clock {
    /// The time of the file's first frame.
    zero: Option<i64>,
    /// The latest time that a frame had so far.
    front: i64,
    /// By how much a frame lagged behind the foremost at most.
    lag: i64,
    /// The last reading that was written.
    last: Option<i64>,
}

impl Clock {
    /// True before [`start`](Self::start).
    pub(super) fn stands(&self) -> bool {
        self.zero.is_none()
    }

    /// Says which time is the file's first.
    pub(super) fn start(&mut self, first: MediaTime) {
        self.zero = Some(first.ticks_at(RATE));
    }

    /// A frame's time in ticks from the file's first.
    pub(super) fn ticks(&self, time: MediaTime) -> i64 {
        let zero = self.zero.unwrap_or(0);
        time.ticks_at(RATE).saturating_sub(zero).clamp(-TICKS_MAX, TICKS_MAX)
    }

    /// Hears the times of frames that are to come, in the order in which they do.
    pub(super) fn foresee(&mut self, times: impl Iterator<Item = i64>) {
        let mut front = self.front;
        for time in times {
            front = front.max(time);
            if front - time <= LAG_MAX {
                self.lag = self.lag.max(front - time);
            }
        }
    }

    /// Goes on to a frame that is written next, and says what the clock reads there. It never falls.
    pub(super) fn advance(&mut self, time: i64) -> i64 {
        self.front = self.front.max(time);
        let waiting = (self.lag - DELAY).max(0);
        (self.front - waiting).max(self.last.unwrap_or(0))
    }

    /// The next reading that must stand on its own before the clock may read `now`. `carried` says that the frame which
    /// comes next brings that one with it.
    pub(super) fn due(&mut self, now: i64, carried: bool) -> Option<i64> {
        let reading = match self.last {
            Some(last) if now - last <= STEP => return None,
            Some(last) if now - last <= PAUSE => last + STEP,
            _ if carried => return None,
            _ => now,
        };
        self.last = Some(reading);
        Some(reading)
    }

    /// Hears that a frame brought a reading with it.
    pub(super) fn was_read(&mut self, reading: i64) {
        self.last = Some(reading);
    }
}
