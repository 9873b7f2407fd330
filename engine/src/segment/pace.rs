//! How long parts are: as long as whole frames of every track are, as far as frames come at a pace.

use std::time::Duration;

use crate::time::MediaTime;

/// What of the longest part every part but a segment's last has, in percent. (RFC 8216bis, 4.4.4.9)
pub(super) const PART_SHARE_MIN: u32 = 85;
/// No part is longer, unless a frame is.
const PART_MAX: Duration = Duration::from_secs(1);
/// Times of one pace differ by so much where they are rounded to milliseconds.
const JITTER: Duration = Duration::from_millis(2);
/// What the length of a run of packets that have as many samples each is rounded by.
const ROUNDING: Duration = Duration::from_micros(1);
/// Lengths of one track that are looked at. Where frames are so short that there are more, any length will do.
const LENGTHS_MAX: u32 = 1000;
/// So many of a hundred steps are alike where there is a pace, and so many steps tell.
const STEPS_ALIKE_PERCENT: usize = 90;
const STEPS_TELL: usize = 3;

/// How the frames of a track follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Each lasts so long, and a run of them may be longer or shorter by `rounding`.
    Even { frame: Duration, rounding: Duration },
    /// Anything up to this.
    Uneven { most: Duration },
}

impl Pace {
    /// Of packets that all last so long.
    pub(super) const fn exact(frame: Duration) -> Self {
        Pace::Even { frame, rounding: ROUNDING }
    }

    /// Of packets that are said to last so long.
    pub(super) const fn near(frame: Duration) -> Self {
        Pace::Even { frame, rounding: JITTER }
    }

    /// Of a track with frames at these times; `None` when they are too few.
    pub(super) fn of(times: impl Iterator<Item = MediaTime>) -> Option<Self> {
        let nanos: Vec<i64> = times.map(MediaTime::as_nanos).collect();
        let step =
            |pair: &[i64]| Duration::from_nanos(u64::try_from(pair[1].saturating_sub(pair[0])).unwrap_or(0));
        let mut steps: Vec<Duration> = nanos.windows(2).map(step).collect();
        steps.sort_unstable();
        let (&usual, &most) = (steps.get(steps.len() / 2)?, steps.last()?);
        if steps.len() < STEPS_TELL {
            return None;
        }
        let alike = steps.iter().filter(|step| step.abs_diff(usual) <= JITTER);
        let count = alike.clone().count();
        let all: Duration = alike.sum();
        let frame = all / u32::try_from(count).unwrap_or(u32::MAX);
        if count * 100 >= steps.len() * STEPS_ALIKE_PERCENT && !frame.is_zero() {
            Some(Pace::near(frame))
        } else {
            Some(Pace::Uneven { most })
        }
    }

    /// Whether a part that is as full as it can be, and no longer than this, is close enough to it.
    fn fills(self, part: Duration) -> bool {
        match self {
            Pace::Even { frame, rounding } => {
                let room = part.saturating_sub(rounding).as_nanos();
                let count = room / frame.as_nanos().max(1);
                let least = (count * frame.as_nanos()).saturating_sub(rounding.as_nanos());
                count > 0 && least * 100 >= part.as_nanos() * u128::from(PART_SHARE_MIN)
            }
            Pace::Uneven { .. } => part >= self.least(),
        }
    }

    /// The shortest part worth a thought.
    fn least(self) -> Duration {
        match self {
            Pace::Even { frame, rounding } => frame + rounding,
            // So long that what one frame leaves of it is small.
            Pace::Uneven { most } => (most * 100 / (100 - PART_SHARE_MIN)).min(PART_MAX).max(most),
        }
    }

    /// Lengths that whole frames have.
    fn lengths(self) -> Vec<Duration> {
        match self {
            Pace::Even { frame, rounding } => {
                let most = PART_MAX.max(self.least());
                let count = (most.saturating_sub(rounding).as_nanos() / frame.as_nanos().max(1)).max(1);
                let count = u32::try_from(count).unwrap_or(u32::MAX).min(LENGTHS_MAX);
                (1..=count).map(|count| frame * count + rounding).collect()
            }
            Pace::Uneven { .. } => vec![self.least()],
        }
    }
}

/// How long a part may be (PART-TARGET), close to `wanted`, so that every track of these paces fills it: all parts of theirs
/// but a segment's last have [`PART_SHARE_MIN`] of it.
pub(super) fn part(wanted: Duration, paces: &[Pace]) -> Duration {
    let mut lengths: Vec<Duration> = paces.iter().flat_map(|pace| pace.lengths()).collect();
    lengths.push(wanted);
    lengths.sort_unstable();
    let fit = lengths.iter().filter(|length| paces.iter().all(|pace| pace.fills(**length)));
    let nearest = fit.min_by_key(|length| length.abs_diff(wanted));
    // Where nothing fits a frame is longer than parts are to be. Each is a part then.
    nearest.copied().unwrap_or_else(|| paces.iter().map(|pace| pace.least()).fold(wanted, Duration::max))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn frames(per_1000_seconds: u32) -> Pace {
        Pace::near(Duration::from_secs(1000) / per_1000_seconds)
    }

    fn packets(samples: u32, rate: u32) -> Pace {
        Pace::exact(Duration::from_secs(samples.into()) / rate)
    }

    #[test]
    fn a_part_has_whole_frames() {
        let of = |paces: &[Pace]| part(millis(200), paces).as_micros();
        assert_eq!(of(&[frames(30_000)]), 201_999);
        assert_eq!(of(&[frames(25_000)]), 202_000);
        assert_eq!(of(&[frames(24_000)]), 210_333);
        assert_eq!(of(&[frames(2_000)]), 502_000);
        assert_eq!(of(&[packets(1024, 48_000)]), 200_000, "nine packets are enough of it");
    }

    #[test]
    fn a_part_has_whole_frames_of_both_tracks() {
        let sound = packets(1024, 44_100);
        let of = |wanted, pictures| part(millis(wanted), &[frames(pictures), sound]).as_micros();
        // Six pictures and eight packets, of 186 ms.
        assert_eq!(of(200, 30_000), 201_999);
        // A picture and two packets, where one would be too little of it.
        assert_eq!(of(20, 23_976), 46_440);
    }

    #[test]
    fn frames_at_no_pace_leave_little_of_a_part() {
        assert_eq!(
            part(millis(200), &[Pace::Uneven { most: millis(50) }]),
            Duration::from_nanos(333_333_333)
        );
        assert_eq!(part(millis(500), &[Pace::Uneven { most: millis(50) }]), millis(500));
        assert_eq!(part(millis(200), &[Pace::Uneven { most: millis(400) }]), millis(1000));
        assert_eq!(part(millis(200), &[Pace::Uneven { most: millis(2000) }]), millis(2000));
    }

    #[test]
    fn of_nothing_known_a_part_is_as_wanted() {
        assert_eq!(part(millis(200), &[]), millis(200));
    }

    #[test]
    fn a_pace_is_what_most_steps_have() {
        let of = |steps: &[i64]| {
            let mut at = 0;
            let mut times = vec![MediaTime::from_millis(0)];
            for step in steps {
                at += step;
                times.push(MediaTime::from_millis(at));
            }
            Pace::of(times.into_iter())
        };
        assert_eq!(of(&[33, 33]), None);
        assert_eq!(
            of(&[33, 34, 33, 33, 34, 33, 33, 34, 33, 34]),
            Some(Pace::near(Duration::from_micros(33_400)))
        );
        let one_is_lost = [40, 40, 40, 40, 40, 80, 40, 40, 40, 40, 40];
        assert_eq!(of(&one_is_lost), Some(Pace::near(millis(40))));
        assert_eq!(of(&[17, 50, 33, 41, 22]), Some(Pace::Uneven { most: millis(50) }));
        assert_eq!(of(&[0, 0, 0, 0]), Some(Pace::Uneven { most: millis(0) }));
    }

    #[test]
    fn every_usual_pair_of_paces_fills_parts_of_every_length() {
        let sounds = [(1024, 44_100), (1024, 48_000), (960, 48_000), (1024, 22_050), (2048, 24_000)];
        for pictures in [23_976, 24_000, 25_000, 29_970, 30_000, 50_000, 59_940, 60_000] {
            for (samples, rate) in sounds {
                let paces = [frames(pictures), packets(samples, rate)];
                for wanted in 20..=1000 {
                    let part = part(millis(wanted), &paces);
                    assert!(paces.iter().all(|pace| pace.fills(part)), "{paces:?} {wanted}: {part:?}");
                    assert!(part <= PART_MAX, "{paces:?} {wanted}: {part:?}");
                    // From where a picture and a packet leave little of any part.
                    let near = wanted < 570 || part.abs_diff(millis(wanted)) <= millis(wanted) * 8 / 100;
                    assert!(near, "{paces:?} {wanted}: {part:?}");
                }
            }
        }
    }
}
