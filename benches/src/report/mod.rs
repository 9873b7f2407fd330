//! What people read: [`text`] for a terminal, [`html`] for a browser. Both show an
//! [`Outcome`](crate::outcome::Outcome) or a [`Comparison`](crate::comparison::Comparison) and decide nothing.

pub mod html;
pub mod text;

/// `value` with about three digits that mean something, and commas between thousands.
pub fn number(value: f64) -> String {
    // Adding a positive zero takes the sign from a negative one.
    let value = value + 0.0;
    let size = value.abs();
    let decimals = match size {
        0.0 => 0,
        _ if size >= 99.95 => 0,
        _ if size >= 9.995 => 1,
        _ if size >= 0.9995 => 2,
        _ if size >= 0.0995 => 3,
        _ => 4,
    };
    grouped(&format!("{value:.decimals$}"))
}

/// A count: no decimals, unless it is the median of an even number of counts.
pub fn whole(value: f64) -> String {
    let decimals = usize::from(value.fract() != 0.0);
    grouped(&format!("{value:.decimals$}"))
}

/// A ratio: two decimals, because a hundredth is about what runs of one server differ by.
pub fn ratio(value: f64) -> String {
    let decimals = if value.abs() >= 100.0 { 0 } else { 2 };
    grouped(&format!("{value:.decimals$}"))
}

/// Memory: bytes in the binary unit that fits.
pub fn bytes(count: f64) -> String {
    sized(count, 1024.0, ["B", "KiB", "MiB", "GiB", "TiB"])
}

/// Traffic: bytes in the decimal unit that fits, because costs are given per 10^9 of them.
pub fn volume(count: f64) -> String {
    sized(count, 1000.0, ["B", "kB", "MB", "GB", "TB"])
}

fn sized(count: f64, step: f64, units: [&str; 5]) -> String {
    let mut value = count;
    let mut unit = 0;
    while value.abs() >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let shown = if unit == 0 { whole(value.round()) } else { number(value) };
    format!("{shown} {}", units[unit])
}

/// Puts a comma between thousands.
fn grouped(plain: &str) -> String {
    let (sign, rest) = plain.strip_prefix('-').map_or(("", plain), |rest| ("-", rest));
    let (integer, fraction) =
        rest.split_once('.').map_or((rest, None), |(integer, fraction)| (integer, Some(fraction)));
    let mut out = String::from(sign);
    for (place, digit) in integer.chars().enumerate() {
        if place > 0 && (integer.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_mean_something() {
        let shown = [0.0, 0.01234, 0.3604, 1.0, 9.999, 34.06, 99.96, 1234.5, -1_234_567.0].map(number);
        assert_eq!(shown, ["0", "0.0123", "0.360", "1.00", "10.0", "34.1", "100", "1,234", "-1,234,567"]);
        assert_eq!([0.0, 3.0, 1.5, 12_000.0].map(whole), ["0", "3", "1.5", "12,000"]);
        assert_eq!([1.0, 0.333, 1234.0].map(ratio), ["1.00", "0.33", "1,234"]);
        let sizes = [0.0, 512.0, 1843.2, -2048.0, 47_395_635.0, 8.0e9].map(bytes);
        assert_eq!(sizes, ["0 B", "512 B", "1.80 KiB", "-2.00 KiB", "45.2 MiB", "7.45 GiB"]);
        assert_eq!([999.0, 1500.0, 14.9e9].map(volume), ["999 B", "1.50 kB", "14.9 GB"]);
    }
}
