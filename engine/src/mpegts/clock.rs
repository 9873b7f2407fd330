//! The clock of a program: where its times count from, and the readings of it (PCR) that a decoder's clock follows.
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
/// The longest step between two readings. The bound is 100 ms (2.7.2), but receivers are measured by 40. (ETSI TR 101 290,
/// 5.2.2, 2.3a)
pub(super) const STEP: i64 = SECOND * 4 / 100;
/// A longer step is a pause or a jump, and no readings are made up for it.
const PAUSE: i64 = 10 * SECOND;
/// The clock waits for no frame that lags by more: none may stay in a decoder's buffers for more than ten seconds
/// (2.14.3.1). Such a frame is decoded when it comes.
const LAG_MAX: i64 = 10 * SECOND;
const _: () = assert!(LAG_MAX > DELAY && PAUSE > STEP);
/// Times beyond this (400,000 years) are as good as this. Sums of a few of them stay in range.
const TICKS_MAX: i64 = 1 << 60;

#[derive(Clone, Copy)]
pub(super) struct Clock {
    /// The time that is 0 here.
    zero: Option<i64>,
    /// No time is earlier.
    floor: i64,
    /// The latest time that a frame had so far.
    front: Option<i64>,
    /// By how much a frame lagged behind the foremost at most.
    lag: i64,
    /// The last reading that was written.
    last: Option<i64>,
}

impl Clock {
    /// One that counts from the first frame, which is still to come.
    pub(super) fn of_file() -> Self {
        Clock { zero: None, floor: 0, front: None, lag: 0, last: None }
    }

    /// One that counts from `zero`; frames may be earlier.
    pub(super) fn from(zero: MediaTime) -> Self {
        Clock { zero: Some(zero.ticks_at(RATE)), floor: -TICKS_MAX, ..Self::of_file() }
    }

    /// True before [`start`](Self::start).
    pub(super) fn stands(&self) -> bool {
        self.zero.is_none()
    }

    /// Says which time is the first.
    pub(super) fn start(&mut self, first: MediaTime) {
        self.zero = Some(first.ticks_at(RATE));
    }

    /// A frame's time in ticks from the first.
    pub(super) fn ticks(&self, time: MediaTime) -> i64 {
        let zero = self.zero.unwrap_or(0);
        time.ticks_at(RATE).saturating_sub(zero).clamp(-TICKS_MAX, TICKS_MAX)
    }

    /// The earliest time that a frame may have.
    pub(super) fn floor(&self) -> i64 {
        self.floor
    }

    /// Hears the times of frames that are to come, in the order in which they do.
    pub(super) fn foresee(&mut self, times: impl Iterator<Item = i64>) {
        let mut front = self.front;
        for time in times {
            let foremost = front.map_or(time, |front| front.max(time));
            if foremost - time <= LAG_MAX {
                self.lag = self.lag.max(foremost - time);
            }
            front = Some(foremost);
        }
    }

    /// Goes on to a frame that is written next, and says what the clock reads there. It never falls.
    pub(super) fn advance(&mut self, time: i64) -> i64 {
        let front = self.front.map_or(time, |front| front.max(time));
        self.front = Some(front);
        let waiting = (self.lag - DELAY).max(0);
        (front - waiting).max(self.last.unwrap_or(self.floor))
    }

    /// True when there is a pause before `now`, over which the clock leaps.
    pub(super) fn leaps(&self, now: i64) -> bool {
        self.last.is_some_and(|last| now - last > PAUSE)
    }

    /// The first reading that is written on the way to `now`.
    pub(super) fn first_on_the_way(&self, now: i64) -> i64 {
        self.made_up(now).unwrap_or(now)
    }

    /// The next reading that must stand on its own before the clock may read `now`. `carried` says that the frame which
    /// comes next brings that one with it.
    pub(super) fn due(&mut self, now: i64, carried: bool) -> Option<i64> {
        let reading = match self.made_up(now) {
            Some(reading) => reading,
            // The first of all, or the first after a pause.
            None if !carried && (self.last.is_none() || self.leaps(now)) => now,
            None => return None,
        };
        self.last = Some(reading);
        Some(reading)
    }

    /// The reading that a frame which comes late must have before it.
    fn made_up(&self, now: i64) -> Option<i64> {
        let last = self.last.filter(|last| (STEP + 1..=PAUSE).contains(&(now - last)))?;
        Some(last + STEP)
    }

    /// The last reading.
    pub(super) fn last(&self) -> Option<i64> {
        self.last
    }

    /// Hears that a reading was written.
    pub(super) fn was_read(&mut self, reading: i64) {
        self.last = Some(reading);
    }

    /// Hears that what follows does not continue what came before: who lagged then says nothing of who lags now, and the
    /// clock may even fall.
    pub(super) fn restart(&mut self) {
        (self.front, self.lag, self.last) = (None, 0, None);
    }
}
