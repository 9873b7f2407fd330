//! G.711: each byte is one sample, on a scale of steps that grow with the value. (ITU-T G.711)

/// A sample by the A-law.
pub(super) fn a_law(byte: u8) -> i16 {
    let bits = byte ^ 0x55;
    let (segment, step) = (bits >> 4 & 7, i16::from(bits & 15));
    let value = match segment {
        0 => step << 4 | 8,
        segment => (step << 4 | 0x108) << (segment - 1),
    };
    // The sign of this law is that of its numbers: set for those above zero.
    if bits & 0x80 == 0 { -value } else { value }
}

/// A sample by the mu-law.
pub(super) fn mu_law(byte: u8) -> i16 {
    /// What the law adds before it takes the segment.
    const BIAS: i16 = 0x84;
    let bits = !byte;
    let value = ((i16::from(bits & 15) << 3 | BIAS) << (bits >> 4 & 7)) - BIAS;
    if bits & 0x80 == 0 { value } else { -value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_and_the_middle_of_the_scales_are_those_of_the_recommendation() {
        // Table 1a and 2a: 4096 and 8159 are the largest decision values, on scales of 13 and 14 bits.
        assert_eq!([a_law(0xaa), a_law(0x2a), a_law(0xd5), a_law(0x55)], [32_256, -32_256, 8, -8]);
        assert_eq!([mu_law(0x80), mu_law(0x00), mu_law(0xff), mu_law(0x7f)], [32_124, -32_124, 0, 0]);
    }

    #[test]
    fn the_scales_rise_without_a_break() {
        let rising = |law: fn(u8) -> i16, flip: u8| {
            let mut values: Vec<i16> = (0..128).map(|byte: u8| law(byte ^ flip)).collect();
            values.sort_unstable();
            values.windows(2).all(|pair| pair[0] < pair[1])
        };
        assert!(rising(a_law, 0xd5) && rising(mu_law, 0xff));
    }
}
