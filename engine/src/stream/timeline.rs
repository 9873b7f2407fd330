//! One timeline per stream, across publishers that come back and clocks that jump: what goes out never steps back by
//! more than an encoder's own jitter.

use std::time::Duration;

use crate::{
    limits,
    media::Frame,
    time::{MediaTime, Now},
};

/// Places frames on the stream's timeline.
///
/// The first publisher's times are the timeline's. When its clock jumps, or another publisher takes over, an offset joins
/// the new times to the old ones, so that viewers see a discontinuity and no step.
#[derive(Debug, Default)]
pub struct Timeline {
    /// Nanoseconds added to every time. The former offset is kept too: when sound and pictures jump, the frames of one
    /// still come with the old clock while the other already has the new one.
    offset: i64,
    former: Option<i64>,
    last: Option<Last>,
    rejoin: bool,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    /// Of the latest frame on the timeline, any track.
    dts_nanos: i64,
    arrived: Now,
}

impl Timeline {
    /// An empty timeline.
    pub fn new() -> Self {
        Timeline::default()
    }

    /// The next media frame is another publisher's: join it to what was sent.
    pub fn rejoin(&mut self) {
        self.rejoin = self.last.is_some();
    }

    /// Moves `frame` onto the timeline; true when it does not continue what came before (say so to the viewers first).
    pub fn place(&mut self, frame: &mut Frame, now: Now) -> bool {
        if !frame.is_media() {
            // A configuration's own time says nothing about the clock (often it is 0 while the media begin elsewhere).
            if let Some(last) = self.last {
                let time = MediaTime { ticks: last.dts_nanos, rate: 1_000_000_000 };
                frame.dts.ticks = time.ticks_at(frame.dts.rate);
                frame.pts = frame.dts;
            }
            return false;
        }
        let nanos = frame.dts.as_nanos();
        let joined = match self.last {
            None => false,
            Some(_) if !self.rejoin && self.fits(nanos, self.offset) => false,
            Some(_) if !self.rejoin && self.former.is_some_and(|former| self.fits(nanos, former)) => {
                let former = self.former.expect("just matched");
                return self.put(frame, former, now, false);
            }
            Some(last) => {
                // What comes next stands as far behind the last frame as it arrived after it, at least a millisecond.
                // Whole milliseconds, so that the offset is a whole number of ticks on every common clock.
                let pause = now.since(last.arrived).max(Duration::from_millis(1));
                let pause = i64::try_from(pause.as_nanos()).unwrap_or(i64::MAX);
                let target = last.dts_nanos.saturating_add(pause);
                self.former = (!self.rejoin).then_some(self.offset);
                self.offset = target.saturating_sub(nanos).div_euclid(1_000_000).saturating_mul(1_000_000);
                self.rejoin = false;
                true
            }
        };
        self.put(frame, self.offset, now, joined)
    }

    fn put(&mut self, frame: &mut Frame, offset: i64, now: Now, joined: bool) -> bool {
        frame.dts = frame.dts.plus_nanos(offset);
        frame.pts = frame.pts.plus_nanos(offset);
        let dts_nanos = frame.dts.as_nanos();
        let latest = self
            .last
            .map_or(dts_nanos, |last| if joined { dts_nanos } else { last.dts_nanos.max(dts_nanos) });
        self.last = Some(Last { dts_nanos: latest, arrived: now });
        joined
    }

    fn fits(&self, nanos: i64, offset: i64) -> bool {
        let Some(last) = self.last else { return true };
        let step = nanos.saturating_add(offset).saturating_sub(last.dts_nanos);
        let back = i64::try_from(limits::CLOCK_STEP_BACK_MAX.as_nanos()).unwrap_or(i64::MAX);
        let forward = i64::try_from(limits::CLOCK_STEP_FORWARD_MAX.as_nanos()).unwrap_or(i64::MAX);
        (-back..=forward).contains(&step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        codec::Codec,
        media::{Payload, TrackId},
    };
    use bytes::Bytes;

    fn video(millis: i64) -> Frame {
        let dts = MediaTime::from_millis(millis);
        let payload = Payload::Video { codec: Codec::H264, key: false, data: Bytes::from_static(b"x") };
        Frame { track: TrackId::VIDEO, dts, pts: dts.plus_nanos(80_000_000), payload }
    }

    #[test]
    fn a_clock_that_jumps_back_an_hour_goes_on_where_it_was() {
        let mut timeline = Timeline::new();
        let mut frame = video(3_600_000);
        assert!(!timeline.place(&mut frame, Now(0)));
        let mut frame = video(0);
        assert!(timeline.place(&mut frame, Now(40_000_000)));
        assert_eq!((frame.dts.as_millis(), frame.pts.as_millis()), (3_600_040, 3_600_120));
        // A straggler of the other track still carries the old clock, and keeps its place.
        let mut frame = video(3_600_020);
        assert!(!timeline.place(&mut frame, Now(41_000_000)));
        assert_eq!(frame.dts.as_millis(), 3_600_020);
        let mut frame = video(40);
        assert!(!timeline.place(&mut frame, Now(80_000_000)));
        assert_eq!(frame.dts.as_millis(), 3_600_080);
    }

    #[test]
    fn a_publisher_that_comes_back_joins_after_the_pause() {
        let mut timeline = Timeline::new();
        timeline.place(&mut video(5000), Now(0));
        timeline.rejoin();
        let mut frame = video(0);
        assert!(timeline.place(&mut frame, Now(3_000_000_000)));
        assert_eq!(frame.dts.as_millis(), 8000);
    }

    #[test]
    fn equal_and_slightly_older_times_pass_as_they_are() {
        let mut timeline = Timeline::new();
        for millis in [100, 100, 90, 140] {
            let mut frame = video(millis);
            assert!(!timeline.place(&mut frame, Now(0)));
            assert_eq!(frame.dts.as_millis(), millis);
        }
    }
}
