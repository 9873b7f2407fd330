//! Where segments begin, for all tracks of a stream alike.

/// A key frame that comes so much too early or too late is the one that was expected: times of RTMP are rounded to
/// milliseconds, and encoders are not exact.
const TOLERANCE: i64 = 50_000_000;
/// A segment may be this much longer than the target: its length is rounded to seconds.
const ROUNDING: i64 = 490_000_000;
/// How far sound may be ahead of pictures that do not come, before a segment ends without them.
pub(super) const PATIENCE: i64 = 1_000_000_000;

/// Says when a segment ends. All times are nanoseconds of the stream.
#[derive(Debug)]
pub(super) struct Clock {
    /// The least length of a segment.
    segment: i64,
    /// What segments are to be no longer than, and what none is.
    target: i64,
    most: i64,
    /// When the open segment began.
    began: i64,
    /// Its number.
    number: u64,
    /// Discontinuities so far.
    period: u64,
    /// The longest time between two key frames lately, and the last of them.
    group: i64,
    key: Option<i64>,
    /// The last frame, and how long those before it lasted, as far as that is usual.
    last: Option<i64>,
    usual: i64,
}

/// The beginning of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Boundary {
    /// Of which.
    pub number: u64,
    /// When.
    pub at: i64,
    /// Discontinuities so far. One more than before says that here is one.
    pub period: u64,
}

impl Clock {
    /// The first segment begins at `at`.
    pub(super) fn new(segment: i64, target: i64, group: i64, at: i64) -> Self {
        let most = target.saturating_add(ROUNDING);
        Clock {
            segment,
            target,
            most,
            began: at,
            number: 0,
            period: 0,
            group,
            key: None,
            last: None,
            usual: 0,
        }
    }

    /// Other tracks' segments end with a frame of theirs, so they may be by this much longer than those of this clock, which
    /// leaves them the room.
    pub(super) fn leave(&mut self, room: i64) {
        self.most = self.most.min(self.target.saturating_add((ROUNDING - room).max(0)));
    }

    /// The open segment.
    pub(super) fn open(&self) -> Boundary {
        Boundary { number: self.number, at: self.began, period: self.period }
    }

    /// When the open segment ends at the latest.
    pub(super) fn latest(&self) -> i64 {
        self.began.saturating_add(self.most)
    }

    /// Whether a segment begins before a frame at `at`, which comes after a pause that no segment is long enough for; to be
    /// asked until it says no. `ended` is when the last frame of any track ended.
    pub(super) fn overdue(&mut self, at: i64, ended: i64) -> Option<Boundary> {
        if at <= self.latest() {
            return None;
        }
        // Where the frames ended, if that makes a segment.
        let ended = ended.min(self.latest());
        let elapsed = ended.saturating_sub(self.began);
        let is_segment = elapsed > 0 && elapsed >= self.segment;
        let end = if is_segment { ended } else { self.began.saturating_add(self.target) };
        // A pause says nothing of how long frames and groups are.
        (self.key, self.last) = (None, None);
        Some(self.next(end, false))
    }

    /// Whether a segment begins with a picture at `at`, or with a packet of sound where there are no pictures.
    pub(super) fn begins(&mut self, at: i64, key: bool) -> Option<Boundary> {
        let elapsed = at.saturating_sub(self.began);
        let step = self.step(at);
        if key {
            if let Some(last) = self.key {
                // Slowly forgotten, so that one long group does not count for ever.
                self.group = at.saturating_sub(last).max(self.group - self.group / 8);
            }
            self.key = Some(at);
        }
        let end = self.most;
        // The nearest of two frames to the wished length, but none that is far from it.
        let long_enough = elapsed.saturating_add((step / 2).min(TOLERANCE)) >= self.segment;
        let next_is_too_late = elapsed.saturating_add(self.group) > end && elapsed > 0;
        let due = key && (long_enough || next_is_too_late);
        // Past the target it goes on only for a key frame that is about to come.
        let awaited = self.key.map(|key| key.saturating_add(self.group));
        let comes = awaited.is_some_and(|awaited| {
            awaited.saturating_add(TOLERANCE) >= at && awaited.saturating_sub(self.began) <= end
        });
        let over = elapsed >= self.target && !comes || elapsed.saturating_add(step) > end;
        (due || over).then(|| self.next(at, false))
    }

    /// A frame of the open segment is from `at`, if that is before it began.
    pub(super) fn reaches_back(&mut self, at: i64) {
        self.began = self.began.min(at);
    }

    /// A segment begins at `at`, which does not continue what was before.
    pub(super) fn breaks(&mut self, at: i64) -> Boundary {
        (self.key, self.last) = (None, None);
        self.next(at, true)
    }

    /// A segment begins where the open one must end at the latest: nothing came that it could begin with.
    pub(super) fn forced(&mut self) -> Boundary {
        self.next(self.latest(), false)
    }

    /// How long a frame at `at` lasts, most likely. A single long step is a pause.
    fn step(&mut self, at: i64) -> i64 {
        let step = self.last.replace(at).map_or(0, |last| at.saturating_sub(last)).max(0);
        let most = if self.usual > 0 { self.usual.saturating_mul(2) } else { i64::MAX };
        self.usual = step.min(most);
        self.usual
    }

    fn next(&mut self, at: i64, breaks: bool) -> Boundary {
        self.number += 1;
        self.period += u64::from(breaks);
        self.began = at;
        self.open()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    /// Where segments begin, milliseconds, of pictures each 40 ms with these key frames.
    fn cut(segment: i64, target: i64, group: i64, keys: &[i64], until: i64) -> Vec<i64> {
        let mut clock = Clock::new(segment * MS, target * MS, group * MS, 0);
        let pictures = (0..until).step_by(40);
        let begins = |at: i64| clock.begins(at * MS, keys.contains(&at)).map(|boundary| boundary.at / MS);
        pictures.filter_map(begins).collect()
    }

    #[test]
    fn a_segment_ends_with_the_first_key_frame_from_its_least_length_on() {
        assert_eq!(cut(2000, 2000, 1000, &[0, 1000, 2000, 3000, 4000], 5000), [2000, 4000]);
        assert_eq!(cut(2000, 3000, 1520, &[0, 1520, 3040, 4560, 6080], 7000), [3040, 6080]);
        assert_eq!(cut(2000, 8000, 8320, &[0, 8320, 16_640], 18_000), [8320, 16_640]);
    }

    #[test]
    fn a_key_frame_before_that_ends_it_when_the_next_would_come_too_late() {
        assert_eq!(cut(2000, 2000, 2000, &[0, 1200, 3200], 4000), [1200, 3200]);
    }

    #[test]
    fn a_segment_without_a_key_frame_ends_at_its_target() {
        assert_eq!(
            cut(2000, 2000, 2000, &[0], 7000),
            [2080, 4080, 6080],
            "the second key frame is waited for"
        );
    }

    #[test]
    fn frames_that_are_far_apart_end_it_before_it_is_too_long() {
        let mut clock = Clock::new(2000 * MS, 2000 * MS, 2000 * MS, 0);
        let begins = |at: i64| clock.begins(at * MS, at == 0).map(|boundary| boundary.at / MS);
        assert_eq!((0..10).map(|number| number * 400).filter_map(begins).collect::<Vec<_>>(), [2400]);
    }

    #[test]
    fn a_pause_makes_no_segment_too_long() {
        let mut clock = Clock::new(1000 * MS, 1000 * MS, 1000 * MS, 0);
        let mut cut = Vec::new();
        for at in (0..1000).step_by(20).chain((4000..5000).step_by(20)) {
            while let Some(boundary) = clock.overdue(at * MS, 1000 * MS) {
                cut.push(boundary.at / MS);
            }
            cut.extend(clock.begins(at * MS, true).map(|boundary| boundary.at / MS));
        }
        assert_eq!(
            cut,
            [1000, 2000, 3000, 4000],
            "the first where the frames end, the last where they begin"
        );
    }

    #[test]
    fn a_pause_within_a_segment_does_not_end_it() {
        assert_eq!(cut(2000, 2000, 2000, &[0, 2000], 2100), [2000]);
        let mut clock = Clock::new(2000 * MS, 2000 * MS, 2000 * MS, 0);
        let pictures = [0, 40, 80, 1500, 1540, 1580, 2000];
        let begins = |at: &i64| clock.begins(at * MS, at % 2000 == 0).map(|boundary| boundary.at / MS);
        assert_eq!(pictures.iter().filter_map(begins).collect::<Vec<_>>(), [2000]);
    }

    #[test]
    fn room_that_is_left_ends_segments_earlier() {
        let mut clock = Clock::new(2000 * MS, 2000 * MS, 2000 * MS, 0);
        clock.leave(60 * MS);
        assert_eq!(clock.latest(), 2430 * MS);
        clock.leave(20 * MS);
        assert_eq!(clock.latest(), 2430 * MS, "another track wants more");
        clock.leave(900 * MS);
        assert_eq!(clock.latest(), 2000 * MS);
    }

    #[test]
    fn a_break_counts() {
        let mut clock = Clock::new(2000 * MS, 2000 * MS, 2000 * MS, 0);
        assert_eq!(clock.breaks(500 * MS), Boundary { number: 1, at: 500 * MS, period: 1 });
        assert_eq!(clock.forced(), Boundary { number: 2, at: 2990 * MS, period: 1 });
    }
}
