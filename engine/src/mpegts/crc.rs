//! The check of a section: CRC-32/MPEG-2, the polynomial of ISO/IEC 13818-1, annex A, from all ones, neither mirrored nor
//! inverted at the end.

const POLYNOMIAL: u32 = 0x04c1_1db7;

/// What eight steps of the division make of each byte.
static REMAINDERS: [u32; 256] = remainders();

const fn remainders() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut remainder = (byte as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            remainder = remainder << 1 ^ if remainder >> 31 == 1 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        table[byte] = remainder;
        byte += 1;
    }
    table
}

/// The CRC of these bytes. That of a section with its own CRC behind it is 0.
pub(super) fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        let [high, ..] = crc.to_be_bytes();
        crc << 8 ^ REMAINDERS.get(usize::from(high ^ byte)).copied().unwrap_or_default()
    })
}
