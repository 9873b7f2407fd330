//! Times, counted by size: constant memory, three significant digits, and nothing is thrown away. An average would hide
//! what a viewer feels, and a list of every time would grow with the run.

use std::time::Duration;

use crate::outcome::Quantiles;

/// Counts of durations in buckets whose width is 1/64 of their size (1.6 %), from 1 microsecond to over an hour.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

/// Buckets per power of two.
const PARTS: u64 = 64;
const PARTS_BITS: u32 = PARTS.trailing_zeros();
/// 2^32 microseconds are 71 minutes; what is longer counts as that.
const MICROSECONDS_MAX: u64 = u32::MAX as u64;
const BUCKETS: usize = (32 - PARTS_BITS as usize + 1) * PARTS as usize;

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: vec![0; BUCKETS], count: 0, max: 0 }
    }
}

impl Histogram {
    /// Counts one.
    pub fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket((nanos / 1000).min(MICROSECONDS_MAX))] += 1;
        self.count += 1;
        self.max = self.max.max(nanos);
    }

    /// Adds all that another one counted.
    pub fn merge(&mut self, other: &Histogram) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(mine, theirs)| *mine += theirs);
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The time that `share` of all are at most, in milliseconds; 0 when nothing was counted.
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = ((self.count as f64 * share).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                // No bucket reaches further than the largest time that was seen.
                return (upper(index) as f64 / 1e3).min(self.max as f64 / 1e6);
            }
        }
        0.0
    }

    /// The usual ones.
    pub fn quantiles(&self) -> Quantiles {
        Quantiles {
            count: self.count,
            p50: self.quantile(0.5),
            p99: self.quantile(0.99),
            p999: self.quantile(0.999),
            max: self.max as f64 / 1e6,
        }
    }

    /// The buckets that hold something: upper bound in milliseconds, how many.
    pub fn filled(&self) -> Vec<(f64, u64)> {
        let filled = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        filled.map(|(index, count)| (upper(index) as f64 / 1e3, *count)).collect()
    }
}

fn bucket(microseconds: u64) -> usize {
    if microseconds < PARTS {
        return microseconds as usize;
    }
    let shift = 63 - microseconds.leading_zeros() - PARTS_BITS;
    let row = u64::from(shift + 1) * PARTS;
    (row + (microseconds >> shift) - PARTS) as usize
}

/// The first microsecond that is past the bucket.
fn upper(index: usize) -> u64 {
    let (row, place) = (index as u64 / PARTS, index as u64 % PARTS);
    match row {
        0 => place + 1,
        row => (PARTS + place + 1) << (row - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_falls_below_its_buckets_upper_bound_and_at_most_2_percent_below() {
        for microseconds in
            (0..5000).chain((5000..4_000_000_000).step_by(1_234_567)).chain([MICROSECONDS_MAX])
        {
            let bound = upper(bucket(microseconds));
            assert!(bound > microseconds, "{microseconds} in {bound}");
            assert!(bound - microseconds <= 1 + microseconds / 60, "{microseconds} in {bound}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_times_that_were_counted() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantiles(), Quantiles::default());
        for milliseconds in 1..=1000 {
            histogram.record(Duration::from_millis(milliseconds));
        }
        let close = |found: f64, wanted: f64| (found - wanted).abs() <= wanted * 0.02;
        let found = histogram.quantiles();
        assert!(close(found.p50, 500.0) && close(found.p99, 990.0) && close(found.p999, 999.0), "{found:?}");
        assert_eq!((found.count, found.max), (1000, 1000.0));
        let mut twice = histogram.clone();
        twice.merge(&histogram);
        assert_eq!(twice.count(), 2000);
        assert!(close(twice.quantile(0.5), 500.0));
        assert_eq!(twice.filled().iter().map(|(_, count)| count).sum::<u64>(), 2000);
    }
}
