//! Bit rates, durations and sizes as a person writes them: `"4Mbit"`, `"33ms"`, `"8GiB"`. A whole number and a unit.

use std::time::Duration;

/// Bits per second of a rate: `"500kbit"`, `"4Mbit"`.
///
/// # Errors
/// A phrase that says what a rate looks like.
pub fn bitrate(text: &str) -> Result<u64, String> {
    scaled(text, BITS, "a bit rate: write a whole number and bit, kbit, Mbit or Gbit, like \"4Mbit\"")
        .and_then(|bits| if bits == 0 { Err("a bit rate of nothing".into()) } else { Ok(bits) })
}

/// A duration: `"33ms"`, `"0ms"`, `"2s"`.
///
/// # Errors
/// A phrase that says what a duration looks like.
pub fn duration(text: &str) -> Result<Duration, String> {
    scaled(text, NANOS, "a duration: write a whole number and us, ms, s or m, like \"33ms\"")
        .map(Duration::from_nanos)
}

/// A size in bytes: `"64MiB"`.
///
/// # Errors
/// A phrase that says what a size looks like.
pub fn size(text: &str) -> Result<u64, String> {
    scaled(text, BYTES, "a size: write a whole number and B, KiB, MiB, GiB or TiB, like \"8GiB\"")
}

fn scaled(text: &str, units: &[(&str, u64)], what: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not {what}");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let (_, scale) = units.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    number.checked_mul(*scale).ok_or_else(wrong)
}

const BITS: &[(&str, u64)] = &[("bit", 1), ("kbit", 1000), ("Mbit", 1_000_000), ("Gbit", 1_000_000_000)];
const NANOS: &[(&str, u64)] = &[("us", 1000), ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000)];
const BYTES: &[(&str, u64)] =
    &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_unit_are_understood() {
        assert_eq!(bitrate("4Mbit"), Ok(4_000_000));
        assert_eq!(bitrate("500kbit"), Ok(500_000));
        assert_eq!(duration("33ms"), Ok(Duration::from_millis(33)));
        assert_eq!(duration("0ms"), Ok(Duration::ZERO));
        assert_eq!(size("8GiB"), Ok(8 << 30));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_in_words() {
        for text in ["", "4", "Mbit", "4mbit", "-4Mbit", "4.5Mbit", "0Mbit", "99999999999999999999bit"] {
            assert!(bitrate(text).unwrap_err().contains("bit rate"), "{text:?}");
        }
        assert!(duration("33").unwrap_err().contains("33ms"));
        assert!(size("18446744073709551615KiB").unwrap_err().contains("size"));
    }
}
