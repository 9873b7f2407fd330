//! Time as an argument: [`Now`] for waiting, [`Wall`] for names of files, [`MediaTime`] for frames.
//!
//! The clock itself is read in `shardcast-io` and nowhere else.

use std::{fmt, time::Duration};

/// Monotonic nanoseconds since an origin that only the driver knows. Machines compare and add; they never read a clock.
///
/// ```
/// use std::time::Duration;
/// use shardcast_engine::time::Now;
///
/// let now = Now(5_000_000_000);
/// let deadline = now.after(Duration::from_millis(250));
/// assert_eq!(deadline.since(now), Duration::from_millis(250));
/// assert_eq!(now.since(deadline), Duration::ZERO);
/// assert_eq!(Now(70).on_grid(Duration::from_nanos(33)), Now(99));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Now(pub u64);

impl Now {
    /// This instant plus `duration`; saturates at the end of time.
    pub const fn after(self, duration: Duration) -> Now {
        let nanos = duration.as_nanos();
        if nanos > u64::MAX as u128 { Now(u64::MAX) } else { Now(self.0.saturating_add(nanos as u64)) }
    }
    /// The next whole multiple of `interval`, or this instant if it is one or there is no interval. All who share an interval
    /// share its instants, so that one wake serves them all.
    pub const fn on_grid(self, interval: Duration) -> Now {
        let interval = interval.as_nanos();
        if interval == 0 || interval > u64::MAX as u128 {
            return self;
        }
        let interval = interval as u64;
        Now(self.0.div_ceil(interval).saturating_mul(interval))
    }
    /// How long ago `earlier` was; zero when it is not earlier.
    pub const fn since(self, earlier: Now) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// UTC as nanoseconds since 1970-01-01T00:00:00Z.
///
/// ```
/// use shardcast_engine::time::Wall;
///
/// assert_eq!(Wall(1_795_333_500_123_000_000).to_string(), "2026-11-22T07:45:00.123Z");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub u64);

impl fmt::Display for Wall {
    /// RFC 3339 in UTC with milliseconds, `2026-11-22T07:45:00.123Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0 / 1_000_000;
        let (seconds, millis) = (millis / 1000, millis % 1000);
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = date_of(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

/// The date that is `days` after 1970-01-01, in the Gregorian calendar. A year is taken to begin on 1 March, so that the
/// leap day is its last, and a cycle of 400 years to begin with the year 0 (Hinnant, "chrono-compatible low-level date
/// algorithms").
const fn date_of(days: u64) -> (u64, u64, u64) {
    const DAYS_PER_400_YEARS: u64 = 146_097;
    const DAYS_BEFORE_1970: u64 = 719_468;
    let days = days + DAYS_BEFORE_1970;
    let (cycle, day_of_cycle) = (days / DAYS_PER_400_YEARS, days % DAYS_PER_400_YEARS);
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let months_since_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * months_since_march + 2) / 5 + 1;
    let month = if months_since_march < 10 { months_since_march + 3 } else { months_since_march - 9 };
    (cycle * 400 + year_of_cycle + (month <= 2) as u64, month, day)
}

/// A frame's time: `ticks` of a clock that runs at `rate` ticks per second. Exact; nothing is rounded until a container
/// with another clock asks for it.
///
/// ```
/// use shardcast_engine::time::MediaTime;
///
/// let time = MediaTime { ticks: 3003, rate: 90_000 };
/// assert_eq!((time.as_millis(), time.ticks_at(48_000)), (33, 1602));
/// assert_eq!(MediaTime::from_millis(33).plus_nanos(-3_000_000), MediaTime::from_millis(30));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MediaTime {
    /// Ticks since the origin of the stream's timeline. May be negative (a B-frame before the first key frame's time).
    pub ticks: i64,
    /// Ticks per second, never 0: 1000 for RTMP, 90000 for MPEG-TS and most RTP video, the sample rate for RTP audio.
    pub rate: u32,
}

impl MediaTime {
    /// `millis` on the millisecond clock (RTMP, FLV).
    pub const fn from_millis(millis: i64) -> Self {
        MediaTime { ticks: millis, rate: 1000 }
    }
    /// The ticks of the nearest instant on a clock of `rate` ticks per second (ties go up).
    pub const fn ticks_at(self, rate: u32) -> i64 {
        if self.rate == rate {
            return self.ticks;
        }
        if rate.is_multiple_of(self.rate) {
            return self.ticks.saturating_mul((rate / self.rate) as i64);
        }
        // Each frame is asked for its time a few times, and a division of 128 bits is slow.
        if let Some(product) = self.ticks.checked_mul(rate as i64 * 2)
            && let Some(scaled) = product.checked_add(self.rate as i64)
        {
            return scaled.div_euclid(self.rate as i64 * 2);
        }
        let scaled = self.ticks as i128 * rate as i128 * 2 + self.rate as i128;
        let ticks = scaled.div_euclid(self.rate as i128 * 2);
        if ticks > i64::MAX as i128 {
            i64::MAX
        } else if ticks < i64::MIN as i128 {
            i64::MIN
        } else {
            ticks as i64
        }
    }
    /// The same instant on the millisecond clock, as RTMP, FLV and logs want it.
    pub const fn as_millis(self) -> i64 {
        self.ticks_at(1000)
    }
    /// The same instant in nanoseconds.
    pub const fn as_nanos(self) -> i64 {
        self.ticks_at(1_000_000_000)
    }
    /// This time plus `nanos` (which may be negative), on the same clock, rounded to the nearest tick.
    pub const fn plus_nanos(self, nanos: i64) -> Self {
        let delta = MediaTime { ticks: nanos, rate: 1_000_000_000 }.ticks_at(self.rate);
        MediaTime { ticks: self.ticks.saturating_add(delta), rate: self.rate }
    }
}

/// Makes a counter of 32 or 33 bits into one that never wraps: each value is taken as the one nearest to the last.
///
/// ```
/// use shardcast_engine::time::Unwrapper;
///
/// let mut clock = Unwrapper::new(32);
/// assert_eq!(clock.unwrap(0xffff_fff0), 0xffff_fff0);
/// assert_eq!(clock.unwrap(0x10), 0x1_0000_0010);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Unwrapper {
    bits: u32,
    last: Option<i64>,
}

impl Unwrapper {
    /// For a counter of `bits` bits (8 to 62).
    pub const fn new(bits: u32) -> Self {
        assert!(bits >= 8 && bits <= 62);
        Unwrapper { bits, last: None }
    }
    /// The unwrapped value of `raw` (only its low `bits` count). The first value stands for itself. A step of up to
    /// half the range in either direction is a step; so a jump back over the wrap comes back as a value before it.
    pub const fn unwrap(&mut self, raw: u64) -> i64 {
        let range = 1i64 << self.bits;
        let raw = (raw as i64) & (range - 1);
        let value = match self.last {
            None => raw,
            Some(last) => {
                let step = (raw.wrapping_sub(last)) & (range - 1);
                if step >= range / 2 { last.saturating_add(step - range) } else { last.saturating_add(step) }
            }
        };
        self.last = Some(value);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wrap_of_a_32_bit_clock_passes_unseen() {
        let mut clock = Unwrapper::new(32);
        assert_eq!(clock.unwrap(0xffff_fff0), 0xffff_fff0);
        assert_eq!(clock.unwrap(0x10), 0x1_0000_0010);
        assert_eq!(clock.unwrap(0xffff_fff8), 0xffff_fff8);
        assert_eq!(clock.unwrap(0x20), 0x1_0000_0020);
    }

    #[test]
    fn a_wall_time_shows_as_utc() {
        let shown = |seconds: u64, millis: u64| Wall((seconds * 1000 + millis) * 1_000_000).to_string();
        assert_eq!(shown(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(shown(951_782_400, 1), "2000-02-29T00:00:00.001Z");
        assert_eq!(shown(951_868_799, 999), "2000-02-29T23:59:59.999Z");
        assert_eq!(shown(951_868_800, 0), "2000-03-01T00:00:00.000Z");
        assert_eq!(shown(1_709_164_800, 0), "2024-02-29T00:00:00.000Z");
        assert_eq!(shown(1_735_689_599, 0), "2024-12-31T23:59:59.000Z");
        assert_eq!(shown(1_795_333_500, 123), "2026-11-22T07:45:00.123Z");
        assert_eq!(shown(4_107_542_400, 0), "2100-03-01T00:00:00.000Z");
        assert_eq!(Wall(u64::MAX).to_string(), "2554-07-21T23:34:33.709Z");
    }

    #[test]
    fn rescaling_rounds_to_the_nearest_tick() {
        assert_eq!(MediaTime { ticks: 1024, rate: 48000 }.as_millis(), 21);
        assert_eq!(MediaTime { ticks: -1, rate: 2 }.ticks_at(1000), -500);
        assert_eq!(MediaTime::from_millis(33).ticks_at(90000), 2970);
        assert_eq!(MediaTime { ticks: i64::MAX, rate: 1 }.ticks_at(1000), i64::MAX);
        assert_eq!(MediaTime { ticks: i64::MIN, rate: 1 }.ticks_at(1000), i64::MIN);
        assert_eq!(MediaTime { ticks: i64::MAX, rate: 7 }.ticks_at(1000), i64::MAX);
        assert_eq!(MediaTime { ticks: i64::MAX - 1, rate: 1000 }.ticks_at(999), 9_214_148_664_817_921_030);
        assert_eq!(MediaTime { ticks: 500_000, rate: 1_000_000_000 }.ticks_at(1000), 1);
        assert_eq!(MediaTime { ticks: -500_000, rate: 1_000_000_000 }.ticks_at(1000), 0);
    }
}
