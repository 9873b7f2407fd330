//! One line of time for the tracks of a sender, each of which counts from a number of its own.
//!
//! Which times of two tracks belong together, the sender's reports say (RFC 3550, 6.4.1). Until both have been reported, a track
//! stands where it came; when it turns out to stand elsewhere it is moved there slowly. So it is when the sender's clocks drift
//! apart.

use std::time::Duration;

use super::rtcp::SenderReport;
use crate::time::{MediaTime, Now, Unwrapper};

/// Where the line begins: pictures are decoded before they are shown, and nothing stands before 0.
const BEGINNING: Duration = Duration::from_secs(1);
/// A track is moved by one part in so many of its own length.
const SLOWNESS: i64 = 20;
/// What is further off did not drift: its clock was set anew, or the sender is wrong.
const DRIFT_MAX: Duration = Duration::from_secs(5);
/// A clock that goes back by more was set anew, and what was reported of before says nothing of after.
const STEP_BACK_MAX: Duration = Duration::from_secs(2);

/// The line of time of a sender's tracks.
#[derive(Debug)]
pub struct Timeline {
    tracks: Vec<Track>,
    /// The track that came first: the others are placed by it.
    first: Option<usize>,
}

#[derive(Debug)]
struct Track {
    rate: u32,
    clock: Unwrapper,
    /// Ticks that are added to what the track counts; `None` before its first frame.
    offset: Option<i64>,
    /// The last time on the line, and when that came.
    last: (i64, Now),
    /// The sender's clock in nanoseconds, and the track's time then.
    report: Option<(i64, i64)>,
    /// Ticks that it is to be moved yet.
    error: i64,
}

impl Timeline {
    /// For tracks with these clock rates, none of them 0.
    pub fn new(rates: impl IntoIterator<Item = u32>) -> Self {
        let track = |rate| Track {
            rate,
            clock: Unwrapper::new(32),
            offset: None,
            last: (0, Now(0)),
            report: None,
            error: 0,
        };
        Timeline { tracks: rates.into_iter().map(track).collect(), first: None }
    }

    /// The ticks that a timestamp of a track stands for, counted on across its wrap.
    pub fn ticks(&mut self, track: usize, timestamp: u32) -> i64 {
        self.tracks.get_mut(track).map_or(0, |track| track.clock.unwrap(timestamp.into()))
    }

    /// What is to be added to a track's ticks: asked for with each frame, at its ticks, when it comes.
    pub fn offset(&mut self, track: usize, ticks: i64, now: Now) -> i64 {
        let Some((rate, known)) = self.tracks.get(track).map(|found| (found.rate, found.offset)) else {
            return 0;
        };
        let offset = match (known, self.first) {
            (Some(offset), _) => offset,
            (None, None) => {
                self.first = Some(track);
                MediaTime { ticks: BEGINNING.as_secs() as i64, rate: 1 }.ticks_at(rate).saturating_sub(ticks)
            }
            (None, Some(first)) => {
                self.reported(track).unwrap_or_else(|| self.arrived(track, first, ticks, now))
            }
        };
        let Some(found) = self.tracks.get_mut(track) else { return 0 };
        let back = MediaTime { ticks: STEP_BACK_MAX.as_secs() as i64, rate: 1 }.ticks_at(rate);
        if found.offset.is_some() && ticks.saturating_add(offset) < found.last.0.saturating_sub(back) {
            found.last.0 = ticks.saturating_add(offset);
            self.tracks.iter_mut().for_each(|track| (track.report, track.error) = (None, 0));
        }
        let Some(found) = self.tracks.get_mut(track) else { return 0 };
        // No step is so large that times would go backwards.
        let passed = ticks.saturating_add(offset).saturating_sub(found.last.0).max(0);
        let most = if found.offset.is_some() { passed / SLOWNESS } else { 0 };
        let step = found.error.clamp(-most, most);
        found.error -= step;
        let offset = offset.saturating_add(step);
        found.offset = Some(offset);
        found.last = (ticks.saturating_add(offset), now);
        offset
    }

    /// Takes note of what the sender says of a track.
    pub fn report(&mut self, track: usize, report: &SenderReport) {
        let Some(found) = self.tracks.get_mut(track) else { return };
        // Its time lies near those of the packets, and is not the last of them.
        let mut clock = found.clock;
        let ticks = clock.unwrap(report.timestamp.into());
        if found.offset.is_none() {
            found.clock = clock;
        }
        found.report = Some((report.ntp.as_nanos(), ticks));
        for other in 0..self.tracks.len() {
            let wanted = if Some(other) == self.first { None } else { self.reported(other) };
            let Some(found) = self.tracks.get_mut(other) else { continue };
            let (Some(wanted), Some(offset)) = (wanted, found.offset) else { continue };
            let error = wanted.saturating_sub(offset);
            let most = MediaTime { ticks: DRIFT_MAX.as_secs() as i64, rate: 1 }.ticks_at(found.rate);
            found.error = if (-most..=most).contains(&error) { error } else { 0 };
        }
    }

    /// The offset of a track as the reports have it.
    fn reported(&self, track: usize) -> Option<i64> {
        let (track, first) = (self.tracks.get(track)?, self.tracks.get(self.first?)?);
        let ((ntp, ticks), (first_ntp, first_ticks)) = (track.report?, first.report?);
        let first_time = MediaTime { ticks: first_ticks.saturating_add(first.offset?), rate: first.rate };
        let time = first_time.as_nanos().saturating_add(ntp.saturating_sub(first_ntp));
        Some(MediaTime { ticks: time, rate: 1_000_000_000 }.ticks_at(track.rate).saturating_sub(ticks))
    }

    /// The offset of a track whose first frame comes now, beside what came last of the first track.
    fn arrived(&self, track: usize, first: usize, ticks: i64, now: Now) -> i64 {
        let (Some(track), Some(first)) = (self.tracks.get(track), self.tracks.get(first)) else { return 0 };
        let (last, came) = first.last;
        let passed = i64::try_from(now.since(came).as_nanos()).unwrap_or(0);
        let time = MediaTime { ticks: last, rate: first.rate }.plus_nanos(passed);
        time.ticks_at(track.rate).saturating_sub(ticks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{rtp::rtcp::NtpTime, time::Wall};

    const MILLI: u64 = 1_000_000;

    fn report(millis: u64, timestamp: u32) -> SenderReport {
        let ntp: NtpTime = Wall(1_000_000_000_000 + millis * MILLI).into();
        SenderReport { ntp, timestamp, ..SenderReport::default() }
    }

    /// Where a frame of sound stands, in ticks of 48 kHz.
    fn sound(line: &mut Timeline, timestamp: u32, millis: u64) -> i64 {
        let ticks = line.ticks(1, timestamp);
        ticks + line.offset(1, ticks, Now(millis * MILLI))
    }

    #[test]
    fn reports_say_which_times_belong_together_whatever_comes_first() {
        let mut line = Timeline::new([90_000, 48_000]);
        line.report(0, &report(0, u32::MAX - 89_999));
        let picture = line.ticks(0, u32::MAX - 89_999);
        assert_eq!(picture + line.offset(0, picture, Now(0)), 90_000);
        // The sound began half a second before the pictures, and comes half a second after them.
        line.report(1, &report(0, 24_000));
        assert_eq!(sound(&mut line, 0, 500), 24_000);
        // The wrap of the one clock moves nothing.
        let picture = line.ticks(0, 90_000);
        assert_eq!(picture + line.offset(0, picture, Now(2_000 * MILLI)), 270_000);
    }

    #[test]
    fn without_reports_a_track_stands_where_it_came_and_is_moved_slowly_once_they_come() {
        let mut line = Timeline::new([90_000, 48_000]);
        let picture = line.ticks(0, 7_000);
        line.offset(0, picture, Now(0));
        assert_eq!(sound(&mut line, 9_600, 100), 48_000 + 4_800);
        line.report(0, &report(0, 7_000));
        // In truth it belongs 60 ms later.
        line.report(1, &report(160, 9_600));
        let (mut before, mut frames) = (52_800, 0);
        loop {
            frames += 1;
            let time = sound(&mut line, 9_600 + frames * 960, 100 + u64::from(frames) * 20);
            let step = time - before;
            assert!((960..=1_008).contains(&step), "{step}");
            before = time;
            if step == 960 {
                break;
            }
        }
        assert_eq!(before, 48_000 + 7_680 + i64::from(frames) * 960);
        assert!((59..=64).contains(&frames), "60 ms, a twentieth of 20 ms each: {frames}");
        // A clock that begins anew: what was reported before says nothing of it.
        let place = |count: u32| before + (i64::from(count) - i64::from(frames)) * 960;
        assert_eq!(sound(&mut line, 9_600 + 400 * 960, 8_000), place(400));
        line.report(0, &report(4_000, 7_000));
        assert_eq!(sound(&mut line, 9_600, 8_020), place(0));
        line.report(1, &report(4_000, 9_600));
        assert_eq!(sound(&mut line, 9_600 + 50 * 960, 9_000), place(50));
        line.report(0, &report(0, 7_000));
        line.report(1, &report(160, 9_600));
        assert_eq!(sound(&mut line, 9_600 + frames * 960, 9_300), before);
        // Nobody believes a sender whose clock was set anew for one track alone.
        line.report(1, &report(60_000, 9_600));
        assert_eq!(sound(&mut line, 9_600 + (frames + 1) * 960, 0) - before, 960);
    }
}
