//! When a new file begins.

use std::time::Duration;

use crate::{
    limits,
    media::{Frame, TrackId},
    time::MediaTime,
};

/// Tells when a segment has lasted long enough. It adds up steps instead of looking at the distance to the beginning, so
/// that a publisher whose clock jumps back an hour does not keep its file open for an hour more.
///
/// ```
/// # use shardcast_engine::{media::{Frame, Payload, TrackId}, time::MediaTime};
/// # let at = |millis| {
/// #     let time = MediaTime::from_millis(millis);
/// #     Frame { track: TrackId::VIDEO, dts: time, pts: time, payload: Payload::Discontinuity }
/// # };
/// use std::time::Duration;
/// use shardcast_engine::record::SegmentClock;
///
/// let mut clock = SegmentClock::new(Duration::from_secs(2));
/// clock.start(&at(500));
/// clock.advance(&at(2499));
/// assert!(!clock.is_due());
/// clock.advance(&at(2500));
/// assert!(clock.is_due());
/// ```
#[derive(Clone, Debug)]
pub struct SegmentClock {
    segment: Duration,
    tracks: Vec<Elapsed>,
}

/// How much of one track the segment holds.
#[derive(Clone, Copy, Debug)]
struct Elapsed {
    track: TrackId,
    last: MediaTime,
    nanos: u64,
}

impl SegmentClock {
    /// A clock of segments that last `segment`.
    pub const fn new(segment: Duration) -> Self {
        SegmentClock { segment, tracks: Vec::new() }
    }

    /// A segment begins with `frame`.
    pub fn start(&mut self, frame: &Frame) {
        self.tracks.clear();
        self.advance(frame);
    }

    /// The stream has come to `frame`.
    pub fn advance(&mut self, frame: &Frame) {
        let Some(elapsed) = self.tracks.iter_mut().find(|elapsed| elapsed.track == frame.track) else {
            if self.tracks.len() < limits::RECORDING_TRACKS_MAX {
                self.tracks.push(Elapsed { track: frame.track, last: frame.dts, nanos: 0 });
            }
            return;
        };
        // Both on the clock of the frame: one track keeps its rate but for a publisher that came back as another.
        let rate = frame.dts.rate;
        let step = MediaTime { ticks: frame.dts.ticks.saturating_sub(elapsed.last.ticks_at(rate)), rate };
        let step = u64::try_from(step.as_nanos()).unwrap_or(0);
        elapsed.nanos += step.min(limits::CLOCK_STEP_FORWARD_MAX.as_nanos() as u64);
        elapsed.last = frame.dts;
    }

    /// True when the next frame that can begin a segment shall do so. The longest track decides: one of them may have
    /// stopped.
    pub fn is_due(&self) -> bool {
        self.tracks.iter().any(|elapsed| u128::from(elapsed.nanos) >= self.segment.as_nanos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Payload;

    fn at(millis: i64) -> Frame {
        let time = MediaTime::from_millis(millis);
        Frame { track: TrackId::VIDEO, dts: time, pts: time, payload: Payload::Discontinuity }
    }

    #[test]
    fn a_segment_is_due_when_its_media_has_lasted() {
        let mut clock = SegmentClock::new(Duration::from_secs(2));
        clock.start(&at(500));
        clock.advance(&at(2499));
        assert!(!clock.is_due());
        clock.advance(&at(2500));
        assert!(clock.is_due());
        clock.start(&at(2500));
        assert!(!clock.is_due());
    }

    #[test]
    fn a_clock_that_jumps_back_an_hour_does_not_stall_the_segment() {
        let mut clock = SegmentClock::new(Duration::from_secs(2));
        clock.start(&at(3_600_000));
        clock.advance(&at(3_601_000));
        clock.advance(&at(1000));
        assert!(!clock.is_due());
        clock.advance(&at(2000));
        assert!(clock.is_due());
    }
}
