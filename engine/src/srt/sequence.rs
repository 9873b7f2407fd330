//! Sequence numbers of 31 bits, which go round.

/// The number of a packet of data. (draft-sharabayko-srt-01, 3.1)
///
/// Two numbers are compared by the shorter way round, so that "before" means something as long as they are less than half a
/// circle apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sequence(u32);

/// The bits of a number.
const MASK: u32 = 0x7fff_ffff;

impl Sequence {
    /// The low 31 bits of `bits`.
    pub const fn of(bits: u32) -> Self {
        Sequence(bits & MASK)
    }

    /// As it stands in a packet.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The number `steps` further on.
    pub const fn plus(self, steps: u32) -> Self {
        Sequence(self.0.wrapping_add(steps) & MASK)
    }

    /// The number `steps` before.
    pub const fn minus(self, steps: u32) -> Self {
        Sequence(self.0.wrapping_sub(steps) & MASK)
    }

    /// How many steps it is from `earlier` to here; negative when this one is the earlier.
    pub const fn since(self, earlier: Sequence) -> i32 {
        // Both have 31 bits: shifted by one, the sign of the difference is that of the shorter way.
        (self.0.wrapping_sub(earlier.0) << 1) as i32 >> 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_go_round() {
        let last = Sequence::of(MASK);
        assert_eq!((last.plus(1), last.plus(1).since(last)), (Sequence::of(0), 1));
        assert_eq!(last.since(last.plus(5)), -5);
        assert_eq!(Sequence::of(u32::MAX), last);
    }

    proptest! {
        #[test]
        fn what_is_so_many_steps_on_is_so_many_steps_away(bits: u32, steps in 0u32..1 << 30) {
            let from = Sequence::of(bits);
            prop_assert_eq!(from.plus(steps).since(from), steps as i32);
            prop_assert_eq!(from.since(from.plus(steps)), -(steps as i32));
            prop_assert_eq!(from.plus(steps).minus(steps), from);
        }
    }
}
