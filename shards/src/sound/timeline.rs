//! When each sample is heard: samples are counted, and the source's times only say where the count begins and whether it drifts.

use super::SAMPLE_RATE;

/// A source whose times are this far from its samples has jumped: 40 ms, from which on sound is heard apart from lips.
const JUMP: u64 = SAMPLE_RATE as u64 / 25;
/// Drift below this is left alone: 1 ms, to which RTMP rounds its times.
const DRIFT: i64 = SAMPLE_RATE as i64 / 1000;
/// Packets over which the difference of times from the count is averaged: jitter is no drift.
const AVERAGE: i64 = 32;
/// Sound in which one sample is left out or doubled when the drift is small: 20 ms.
const SLOW: u64 = SAMPLE_RATE as u64 / 50;
/// For each 10 ms of drift it is one more.
const FASTER: i64 = SAMPLE_RATE as i64 / 100;
/// Never more of them in one packet, however long it is.
const MOST: u64 = 8;

/// The count of one source's samples beside its times. Times are in samples of 48 kHz.
pub(super) struct Timeline {
    running: bool,
    /// Where the count began, and how many samples of the source's rate came since.
    began: i64,
    taken: u64,
    sample_rate: u32,
    /// Mean difference of times from the count, times [`AVERAGE`].
    drift: i64,
    /// Sound since a sample was last doubled or left out.
    calm: u64,
}

impl Timeline {
    pub(super) const fn new() -> Self {
        Timeline { running: false, began: 0, taken: 0, sample_rate: SAMPLE_RATE, drift: 0, calm: 0 }
    }

    /// True where a packet at `at` does not continue the run.
    pub(super) const fn jumps(&self, at: i64) -> bool {
        !self.running || at.saturating_sub(self.next()).unsigned_abs() > JUMP
    }

    /// A run begins, with a packet at `at`, of samples of `sample_rate`.
    pub(super) const fn begin(&mut self, at: i64, sample_rate: u32) {
        *self = Timeline { running: true, began: at, sample_rate, ..Timeline::new() };
    }

    /// The run ends. False when there is none.
    pub(super) const fn end(&mut self) -> bool {
        std::mem::replace(&mut self.running, false)
    }

    /// How many samples of a packet at `at` are to be doubled, or left out where that is negative, to keep the count at the
    /// source's times. `samples` is how many it has.
    pub(super) fn correction(&mut self, at: i64, samples: usize) -> i64 {
        // Within `JUMP`, or the run would have ended.
        self.drift += at.saturating_sub(self.next()) - self.drift / AVERAGE;
        self.calm += at_48_khz(samples as u64, self.sample_rate);
        let drift = self.drift / AVERAGE;
        if drift.abs() <= DRIFT {
            return 0;
        }
        let each = 1 + (drift.abs() / FASTER).unsigned_abs();
        let due = (self.calm.saturating_mul(each) / SLOW).min(MOST);
        i64::try_from(due).unwrap_or(0) * drift.signum()
    }

    /// Counts the samples of a packet, `corrected` of which were added to what came.
    pub(super) fn take(&mut self, samples: usize, corrected: i64) {
        self.taken += samples as u64;
        if corrected != 0 {
            self.calm = 0;
            let moved = at_48_khz(corrected.unsigned_abs(), self.sample_rate) as i64;
            self.drift -= moved * corrected.signum() * AVERAGE;
        }
    }

    /// When the next packet is due, by the count.
    const fn next(&self) -> i64 {
        self.began.saturating_add(at_48_khz(self.taken, self.sample_rate) as i64)
    }
}

/// Samples of `sample_rate` as such of 48 kHz.
const fn at_48_khz(samples: u64, sample_rate: u32) -> u64 {
    (samples as u128 * SAMPLE_RATE as u128 / sample_rate as u128) as u64
}

/// Doubles `correction` frames of interleaved `samples`, or leaves so many out where it is negative: one in each of so many
/// equal stretches, where it is heard least, at the smallest step from one frame to the next. Returns how many it was.
pub(super) fn correct(samples: &mut Vec<f32>, channels: usize, correction: i64) -> i64 {
    let count = correction.unsigned_abs() as usize;
    let frames = samples.len() / channels;
    let mut done = 0;
    // From the end, so that the stretches before stay where they are.
    for stretch in (0..count).rev() {
        let (from, to) = (frames * stretch / count, frames * (stretch + 1) / count);
        let Some(place) = calmest(samples, channels, from, to) else { continue };
        let (start, next, end) = (place * channels, (place + 1) * channels, (place + 2) * channels);
        if correction < 0 {
            samples.drain(start..next);
        } else if let Some(pair) = samples.get(start..end) {
            let (one, other) = pair.split_at(channels);
            let between: Vec<f32> = one.iter().zip(other).map(|(one, other)| (one + other) / 2.0).collect();
            samples.splice(next..next, between);
        }
        done += correction.signum();
    }
    done
}

/// The frame from `from`, and before `to`, from which it is the smallest step to the next.
fn calmest(samples: &[f32], channels: usize, from: usize, to: usize) -> Option<usize> {
    let step = |frame: usize| -> f32 {
        let pair = samples.get(frame * channels..(frame + 2) * channels).unwrap_or_default();
        let (one, other) = pair.split_at(pair.len() / 2);
        one.iter().zip(other).map(|(one, other)| (one - other).abs()).sum()
    };
    (from..to.saturating_sub(1)).min_by(|&one, &other| step(one).total_cmp(&step(other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets of 1024 at `sample_rate` whose times are `time(packet)`: how far the count is from an exact clock in the end.
    fn left(
        sample_rate: u32,
        packets: i64,
        time: impl Fn(i64) -> i64,
        exact: impl Fn(i64) -> i64,
    ) -> (i64, i64) {
        let mut timeline = Timeline::new();
        timeline.begin(time(0), sample_rate);
        let mut corrections = 0;
        for packet in 0..packets {
            assert!(!timeline.jumps(time(packet)), "packet {packet}");
            let correction = timeline.correction(time(packet), 1024);
            timeline.take((1024 + correction) as usize, correction);
            corrections += correction.abs();
        }
        (timeline.next() - exact(packets), corrections)
    }

    #[test]
    fn times_in_milliseconds_leave_the_samples_alone() {
        let exact = |packet: i64| packet * 1024 * 48_000 / 44_100;
        // Rounded down, as ffmpeg and OBS do, and to the nearest.
        for half in [0, 500] {
            let rounded = |packet: i64| (packet * 1_024_000_000 / 44_100 + half) / 1000 * 48;
            let (left, corrections) = left(44_100, 155_000, rounded, exact);
            assert!(left.abs() <= 48, "{left}");
            assert_eq!(corrections, 0);
        }
    }

    #[test]
    fn jitter_of_ten_milliseconds_leaves_the_samples_alone() {
        let exact = |packet: i64| packet * 1024;
        let jitter = |packet: i64| packet * 1024 + (packet * 7919 % 21 - 10) * 48 + 480;
        let (left, corrections) = left(48_000, 20_000, jitter, exact);
        assert!(left.abs() <= 960 && corrections <= 480, "{left} after {corrections} corrections");
    }

    #[test]
    fn a_clock_that_drifts_is_followed_a_sample_at_a_time() {
        // 200 ppm fast and slow, for an hour.
        for ppm in [200, -200] {
            let drifting = |packet: i64| packet * 1024 + packet * 1024 * ppm / 1_000_000;
            let (left, _) = left(48_000, 168_750, drifting, drifting);
            assert!(left.abs() <= 96, "{left} samples at {ppm} ppm");
        }
    }

    #[test]
    fn a_packet_that_was_lost_is_made_good_within_seconds() {
        let late = |packet: i64| (packet + i64::from(packet > 0)) * 1024;
        let (left, _) = left(48_000, 47 * 20, late, late);
        assert!(left.abs() <= 96, "{left}");
    }

    #[test]
    fn a_jump_of_more_than_forty_milliseconds_ends_the_run() {
        let mut timeline = Timeline::new();
        assert!(timeline.jumps(0));
        timeline.begin(i64::MAX, 8_000);
        timeline.take(160, 0);
        assert!(!timeline.jumps(i64::MAX) && timeline.jumps(i64::MIN));
        timeline.begin(0, 48_000);
        timeline.take(1024, 0);
        assert!(!timeline.jumps(1024 + 1920) && timeline.jumps(1024 + 1921));
        assert!(!timeline.jumps(1024 - 1920) && timeline.jumps(1024 - 1921));
        assert!(timeline.end() && !timeline.end() && timeline.jumps(1024));
    }

    #[test]
    fn samples_are_doubled_and_left_out_where_the_sound_is_calm() {
        let steps = [0.0, 1.0, 2.0, 2.1, 4.0, 6.0, 6.2, 8.0];
        let stereo: Vec<f32> = steps.iter().flat_map(|&value| [value, -value]).collect();
        let mut longer = stereo.clone();
        assert_eq!(correct(&mut longer, 2, 2), 2);
        let left: Vec<f32> = longer.iter().step_by(2).copied().collect();
        assert_eq!(left, [0.0, 1.0, 2.0, 2.05, 2.1, 4.0, 6.0, 6.1, 6.2, 8.0]);
        let mut shorter = stereo;
        assert_eq!(correct(&mut shorter, 2, -1), -1);
        assert_eq!(shorter.len(), 14);
        // There is nothing to double in a single sample.
        assert_eq!(correct(&mut vec![1.0], 1, 1), 0);
        assert_eq!(correct(&mut Vec::new(), 2, -3), 0);
    }
}
