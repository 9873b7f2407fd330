//! Durations, bit rates and sizes as a person writes them in a scenario or an argument: `"33ms"`, `"4Mbit"`, `"8GiB"`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

/// Parses a whole number and a unit: `us`, `ms`, `s`, `m`.
///
/// # Errors
/// What a duration looks like.
pub fn duration(text: &str) -> Result<Duration, String> {
    let units = [("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000)];
    scaled(text, &units).map(Duration::from_nanos).ok_or_else(|| {
        format!("{text:?} is no duration: write a whole number and us, ms, s or m, like \"10s\"")
    })
}

/// Parses a whole number and a unit per second: `bit`, `kbit`, `Mbit`, `Gbit`.
///
/// # Errors
/// What a bit rate looks like.
pub fn bitrate(text: &str) -> Result<u64, String> {
    let units = [("bit", 1), ("kbit", 1_000), ("Mbit", 1_000_000), ("Gbit", 1_000_000_000)];
    scaled(text, &units).ok_or_else(|| {
        format!("{text:?} is no bit rate: write a whole number and bit, kbit, Mbit or Gbit, like \"4Mbit\"")
    })
}

/// Parses a whole number and a unit: `B`, `KiB`, `MiB`, `GiB`, `TiB`.
///
/// # Errors
/// What a size looks like.
pub fn size(text: &str) -> Result<u64, String> {
    let units = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
    scaled(text, &units).ok_or_else(|| {
        format!("{text:?} is no size: write a whole number and B, KiB, MiB, GiB or TiB, like \"8GiB\"")
    })
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

/// For serde: a field that [`duration`] reads.
pub fn read_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    duration(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// For serde: a field that [`bitrate`] reads.
pub fn read_bitrate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    bitrate(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_its_unit_are_read_and_nothing_else() {
        assert_eq!(duration("33ms"), Ok(Duration::from_millis(33)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(bitrate("500kbit"), Ok(500_000));
        assert_eq!(bitrate("4Mbit"), Ok(4_000_000));
        assert_eq!(size("8GiB"), Ok(8 << 30));
        for bad in ["", "4", "Mbit", "4 Mbit", "-1s", "1.5s", "99999999999999999999Gbit", "20000000000Gbit"] {
            assert!(duration(bad).is_err() && bitrate(bad).is_err() && size(bad).is_err(), "{bad}");
        }
    }
}
