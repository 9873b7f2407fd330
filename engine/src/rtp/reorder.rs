//! Decoding times: packets say when a picture is shown, and come in the order in which pictures are decoded.

use std::collections::VecDeque;

/// Pictures that may stand before one that is shown earlier, where the track does not say it: encoders use two at most
/// unless told otherwise.
const DEPTH_UNKNOWN: u8 = 2;
/// No standard has more.
const DEPTH_MAX: u8 = 16;
/// Steps from one picture to the next that a clock goes on or back by when it has jumped. Back it is far more than pictures can be
/// out of order: GStreamer's server begins its clock anew whenever another client comes.
const JUMP_ON: u64 = 1_000;
const JUMP_BACK: u64 = 50;

/// Gives each picture its decoding time.
///
/// A picture is decoded when as many are shown as may be out of order before it: at the time of the picture that is so many
/// places earlier in the order of showing. That rises with each picture and never lies behind its own time.
#[derive(Debug)]
pub struct Reorder {
    depth: u8,
    /// Ticks from one picture to the next, for the first ones: there is nothing before them.
    step: i64,
    /// Times of showing, ascending; at most one more than the depth.
    shown: VecDeque<i64>,
    /// The time of showing that was taken last, and the decoding time that was made of it.
    given: Option<i64>,
    last: Option<i64>,
}

impl Reorder {
    /// For pictures of which `depth` may be out of order, where that is known, `step` ticks apart.
    pub fn new(depth: Option<u8>, step: i64) -> Self {
        let depth = depth.unwrap_or(DEPTH_UNKNOWN).min(DEPTH_MAX);
        Reorder { depth, step: step.max(1), shown: VecDeque::new(), given: None, last: None }
    }

    /// When the next picture is decoded that is shown at `ticks`.
    pub fn decoded(&mut self, ticks: i64) -> i64 {
        // A clock that jumps has nothing to do with what came before.
        let steps = |count: u64| self.step.unsigned_abs().saturating_mul(count);
        let jumped = self.shown.back().is_some_and(|latest| latest.abs_diff(ticks) > steps(JUMP_ON));
        if jumped
            || self.given.is_some_and(|given| given.saturating_sub(ticks).max(0) as u64 > steps(JUMP_BACK))
        {
            self.shown.clear();
            (self.given, self.last) = (None, None);
        }
        if self.shown.is_empty() {
            let before = |place| ticks.saturating_sub(self.step.saturating_mul(place));
            self.shown.extend((1..=i64::from(self.depth)).rev().map(before));
        }
        // One that is shown before a time that was given away already tells that more may be out of order.
        if let Some(given) = self.given.filter(|given| ticks < *given)
            && self.depth < DEPTH_MAX
        {
            self.depth += 1;
            self.insert(given);
        }
        self.insert(ticks);
        let decoded = self.shown.pop_front().unwrap_or(ticks);
        self.given = Some(decoded);
        let least = self.last.map_or(i64::MIN, |last| last.saturating_add(1));
        let decoded = decoded.max(least);
        self.last = Some(decoded);
        decoded
    }

    fn insert(&mut self, ticks: i64) {
        let place = self.shown.partition_point(|shown| *shown <= ticks);
        self.shown.insert(place, ticks);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(depth: Option<u8>, shown: &[i64]) -> Vec<i64> {
        let mut reorder = Reorder::new(depth, 40);
        shown.iter().map(|ticks| reorder.decoded(*ticks)).collect()
    }

    #[test]
    fn in_order_a_picture_is_decoded_when_it_is_shown() {
        assert_eq!(decoded(Some(0), &[0, 40, 80, 140]), [0, 40, 80, 140]);
    }

    #[test]
    fn out_of_order_times_are_those_of_the_encoder() {
        // I P B B P B B, one deep; and a pyramid, two deep.
        assert_eq!(decoded(Some(1), &[40, 160, 80, 120, 280, 200, 240]), [0, 40, 80, 120, 160, 200, 240]);
        assert_eq!(decoded(Some(2), &[80, 240, 160, 120, 200, 400]), [0, 40, 80, 120, 160, 200]);
    }

    #[test]
    fn where_nothing_is_said_it_is_learned() {
        let times = decoded(Some(0), &[0, 120, 40, 80, 240, 160, 200, 360, 280, 320, 480]);
        assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
        assert_eq!(times[5..], [160, 200, 240, 280, 320, 360]);
        assert_eq!(decoded(None, &[0, 40, 80]), [-80, -40, 0]);
    }

    #[test]
    fn a_clock_that_jumps_begins_anew() {
        assert_eq!(decoded(Some(1), &[0, 40, 9_000_000, 9_000_040, 0]), [-40, 0, 8_999_960, 9_000_000, -40]);
    }

    #[test]
    fn a_clock_that_steps_back_by_seconds_begins_anew() {
        assert_eq!(decoded(Some(0), &[4_000, 4_040, 0, 40, 80]), [4_000, 4_040, 0, 40, 80]);
        assert_eq!(decoded(Some(1), &[4_040, 4_080, 40, 80, 120]), [4_000, 4_040, 0, 40, 80]);
    }

    proptest! {
        #[test]
        fn any_times_are_taken_and_memory_stays_bounded(shown: Vec<i64>, depth in proptest::option::of(0u8..40)) {
            let mut reorder = Reorder::new(depth, 3_000);
            for ticks in shown {
                reorder.decoded(ticks);
                prop_assert!(reorder.shown.len() <= usize::from(DEPTH_MAX) + 1);
            }
        }
    }
}
