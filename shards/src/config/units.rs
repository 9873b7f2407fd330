//! Durations and sizes as a person writes them in the config: `"33ms"`, `"10s"`, `"5m"`, `"64MiB"`.
//!
//! One number and one unit. A bare number is refused, because nobody remembers whether it was seconds.

use std::time::Duration;

/// Serde for a [`Duration`] field: `#[serde(with = "units::duration")]`.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserializer, Serializer, de::Error};

    /// Reads `"10s"`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        super::text(deserializer, "a duration, \"10s\"")
            .and_then(|text| super::parse_duration(&text).map_err(D::Error::custom))
    }

    /// Writes it back in the largest unit that leaves no rest.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::show_duration(*duration))
    }
}

/// Serde for a `usize` field that counts bytes: `#[serde(with = "units::size")]`.
pub mod size {
    use serde::{Deserializer, Serializer, de::Error};

    /// Reads `"64MiB"`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
        super::text(deserializer, "a size, \"64MiB\"")
            .and_then(|text| super::parse_size(&text).map_err(D::Error::custom))
    }

    /// Writes it back in the largest unit that leaves no rest.
    pub fn serialize<S: Serializer>(size: &usize, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::show_size(*size))
    }
}

/// Parses a duration of one number and one unit.
///
/// # Errors
/// A phrase that says what a duration looks like.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let expected =
        || format!("{text:?} is not a duration: write a whole number and ms, s, m, h or d, like \"10s\"");
    let (_, nanos) = DURATION_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(expected)?;
    let number: u64 = number.parse().map_err(|_| expected())?;
    number
        .checked_mul(*nanos)
        .map(Duration::from_nanos)
        .ok_or_else(|| format!("{text:?} is longer than a clock can count"))
}

/// Parses a size of one number and one unit.
///
/// # Errors
/// A phrase that says what a size looks like.
pub fn parse_size(text: &str) -> Result<usize, String> {
    let (number, unit) = split(text);
    let expected = || {
        format!("{text:?} is not a size: write a whole number and B, KiB, MiB, GiB or TiB, like \"64MiB\"")
    };
    let (_, bytes) = SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(expected)?;
    let number: usize = number.parse().map_err(|_| expected())?;
    number.checked_mul(*bytes).ok_or_else(|| format!("{text:?} is larger than memory can be"))
}

/// The duration in the largest unit that leaves no rest.
pub fn show_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    DURATION_UNITS
        .iter()
        .rev()
        .find(|(_, unit)| nanos > 0 && nanos.is_multiple_of(u128::from(*unit)))
        .map_or_else(
            || format!("{}ms", duration.as_millis()),
            |(name, unit)| format!("{}{name}", nanos / u128::from(*unit)),
        )
}

/// The size in the largest unit that leaves no rest.
pub fn show_size(size: usize) -> String {
    SIZE_UNITS
        .iter()
        .rev()
        .find(|(_, unit)| size > 0 && size.is_multiple_of(*unit))
        .map_or_else(|| format!("{size}B"), |(name, unit)| format!("{}{name}", size / unit))
}

/// The size for a reader who wants its magnitude: three digits and a unit.
pub fn about_size(size: u64) -> String {
    let (name, unit) =
        SIZE_UNITS.iter().rev().find(|(_, unit)| size >= *unit as u64).unwrap_or(&SIZE_UNITS[0]);
    let value = size as f64 / *unit as f64;
    if *unit == 1 || value >= 99.95 { format!("{value:.0} {name}") } else { format!("{value:.1} {name}") }
}

/// From the smallest to the largest, in nanoseconds.
const DURATION_UNITS: [(&str, u64); 5] = [
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3600 * 1_000_000_000),
    ("d", 86_400 * 1_000_000_000),
];

/// From the smallest to the largest, in bytes.
const SIZE_UNITS: [(&str, usize); 5] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

fn split(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at(digits)
}

/// Takes a string and nothing else. A number is met with the way to write it instead of with a type's name.
fn text<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
    expected: &'static str,
) -> Result<String, D::Error> {
    struct Text(&'static str);
    impl serde::de::Visitor<'_> for Text {
        type Value = String;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }
    }
    deserializer.deserialize_str(Text(expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_one_number_and_one_unit() {
        assert_eq!(parse_duration("33ms"), Ok(Duration::from_millis(33)));
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(parse_duration("1d"), Ok(Duration::from_secs(86_400)));
        for bad in ["", "10", "s", "1.5s", "-1s", "10 s", "10S", "1m30s", "99999999999999d"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_size_is_one_number_and_one_unit() {
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("0B"), Ok(0));
        for bad in ["64", "64MB", "64 MiB", "-1B", "99999999TiB"] {
            assert!(parse_size(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_shown_reads_back_as_the_same() {
        for text in ["0ms", "33ms", "10s", "90s", "5m", "36h", "1d"] {
            let shown = show_duration(parse_duration(text).unwrap());
            assert_eq!(parse_duration(&shown), parse_duration(text), "{text}");
        }
        assert_eq!(show_duration(Duration::from_secs(600)), "10m");
        for text in ["0B", "1B", "64MiB", "1536KiB"] {
            assert_eq!(show_size(parse_size(text).unwrap()), text);
        }
    }

    #[test]
    fn a_magnitude_has_three_digits() {
        assert_eq!(about_size(512), "512 B");
        assert_eq!(about_size(33 << 20), "33.0 MiB");
        assert_eq!(about_size(1234 << 20), "1.2 GiB");
        assert_eq!(about_size(500 << 20), "500 MiB");
    }
}
