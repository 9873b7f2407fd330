//! Two sides of a connection, and a network between them that loses, doubles and shuffles.

mod calls;
mod hostile;
mod losses;

use std::collections::BTreeMap;

use crate::time::Now;

/// Chance that is the same in each run.
pub struct Chance(pub u64);

impl Chance {
    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }
}

/// One direction of a way: what is under way, by the time it arrives.
pub struct Way {
    chance: Chance,
    under_way: BTreeMap<(u64, u64), Vec<u8>>,
    number: u64,
    /// Of a thousand datagrams.
    lost: u64,
    doubled: u64,
    /// Milliseconds.
    delay: u64,
    jitter: u64,
    pub dropped: u64,
}

impl Way {
    /// Loses nothing.
    pub fn good(delay: u64) -> Way {
        Way::bad(1, 0, 0, delay, 0)
    }

    pub fn bad(seed: u64, lost: u64, doubled: u64, delay: u64, jitter: u64) -> Way {
        let under_way = BTreeMap::new();
        Way { chance: Chance(seed), under_way, number: 0, lost, doubled, delay, jitter, dropped: 0 }
    }

    pub fn send(&mut self, datagram: &[u8], now: Now) {
        if self.chance.below(1000) < self.lost {
            self.dropped += 1;
            return;
        }
        let copies = 1 + u64::from(self.chance.below(1000) < self.doubled);
        for _ in 0..copies {
            self.number += 1;
            let jitter = self.chance.below(self.jitter * 1_000_000 + 1);
            let arrives = now.0 + self.delay * 1_000_000 + jitter;
            self.under_way.insert((arrives, self.number), datagram.to_vec());
        }
    }

    /// The next that has arrived.
    pub fn next(&mut self, now: Now) -> Option<Vec<u8>> {
        let first = self.under_way.first_entry().filter(|first| first.key().0 <= now.0)?;
        Some(first.remove())
    }
}
