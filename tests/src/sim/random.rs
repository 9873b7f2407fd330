//! The only source of chance in the world. The same seed gives the same numbers on every machine, for ever.

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of `seed`.
    pub const fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// Any number.
    pub const fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// 0 to `end` - 1; `end` is at least 1.
    pub const fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0, "there is nothing below zero");
        // The high half of a product: no division, and a bias far below what a test could see.
        ((self.any() as u128 * end as u128) >> 64) as u64
    }

    /// As [`below`](Self::below), for places in a list.
    pub const fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// `least` to `most`, both included.
    pub const fn between(&mut self, least: u64, most: u64) -> u64 {
        assert!(least <= most, "a range begins before it ends");
        least + self.below(most - least + 1)
    }

    /// True in `percent` of 100 cases.
    pub const fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of `choices`.
    pub const fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }

    /// Another source whose numbers have nothing to do with what this one gives later.
    pub const fn fork(&mut self) -> Random {
        Random(self.any())
    }
}

/// The finaliser of SplitMix64: a number that looks like chance and is not.
pub const fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_published_numbers() {
        // The first outputs for the seed 1234567, as the reference implementation prints them.
        let mut random = Random::new(1_234_567);
        let numbers = [random.any(), random.any(), random.any()];
        assert_eq!(
            numbers,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn ranges_reach_both_ends_and_nothing_beyond() {
        let mut random = Random::new(1);
        let mut seen = [false; 4];
        for _ in 0..1000 {
            let number = random.between(3, 6);
            seen[usize::try_from(number - 3).unwrap()] = true;
        }
        assert_eq!(seen, [true; 4]);
    }
}
