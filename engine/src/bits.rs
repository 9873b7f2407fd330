//! Bounded reading of a peer's bytes. The only file that indexes them: everyone else asks a [`Reader`] or a [`BitReader`]
//! and gets an [`Error`] that says what was missing and where.

use crate::error::Error;

/// Reads big-endian numbers and slices from the front of a buffer; never past its end.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }
    /// Bytes read so far.
    pub const fn position(&self) -> usize {
        self.at
    }
    /// Bytes left.
    pub const fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }
    /// True when nothing is left.
    pub const fn is_empty(&self) -> bool {
        self.remaining() == 0
    }
    /// What is left, without taking it.
    pub fn peek(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }
    /// Takes all that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        let rest = self.peek();
        self.at = self.bytes.len();
        rest
    }
    /// Takes `len` bytes; an error naming `what` when fewer are left.
    pub fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], Error> {
        let end = self.at.checked_add(len).ok_or(Error::truncated(what, self.at as u64))?;
        let taken = self.bytes.get(self.at..end).ok_or(Error::truncated(what, self.at as u64))?;
        self.at = end;
        Ok(taken)
    }
    /// Takes `len` bytes as [`take`](Self::take) does, after refusing a length above `max`.
    pub fn take_at_most(&mut self, len: usize, max: usize, what: &'static str) -> Result<&'a [u8], Error> {
        if len > max {
            return Err(Error::too_large(what, self.at as u64));
        }
        self.take(len, what)
    }
    /// Leaves out `len` bytes.
    pub fn skip(&mut self, len: usize, what: &'static str) -> Result<(), Error> {
        self.take(len, what).map(|_| ())
    }
    /// Takes exactly `N` bytes.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }
    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, Error> {
        self.array::<1>(what).map(|[byte]| byte)
    }
    /// Two bytes, big-endian.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, Error> {
        self.array(what).map(u16::from_be_bytes)
    }
    /// Three bytes, big-endian.
    pub fn u24(&mut self, what: &'static str) -> Result<u32, Error> {
        self.array(what).map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }
    /// Three bytes, big-endian, signed.
    pub fn i24(&mut self, what: &'static str) -> Result<i32, Error> {
        self.u24(what).map(|value| ((value << 8) as i32) >> 8)
    }
    /// Four bytes, big-endian.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, Error> {
        self.array(what).map(u32::from_be_bytes)
    }
    /// Four bytes, little-endian.
    pub fn u32_le(&mut self, what: &'static str) -> Result<u32, Error> {
        self.array(what).map(u32::from_le_bytes)
    }
    /// Eight bytes, big-endian.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, Error> {
        self.array(what).map(u64::from_be_bytes)
    }
    /// Eight bytes as a big-endian IEEE 754 double.
    pub fn f64(&mut self, what: &'static str) -> Result<f64, Error> {
        self.array(what).map(f64::from_be_bytes)
    }
}

/// Reads bits from the most significant down, and the Exp-Golomb codes of ITU-T H.264 9.1 and H.265 9.2.
#[derive(Clone, Debug)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    /// A reader at the first bit of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        BitReader { bytes, at: 0 }
    }
    /// Bits read so far.
    pub const fn position(&self) -> usize {
        self.at
    }
    /// Bits left.
    pub const fn remaining(&self) -> usize {
        self.bytes.len() * 8 - self.at
    }
    /// One bit.
    pub fn bit(&mut self, what: &'static str) -> Result<bool, Error> {
        let byte = self.bytes.get(self.at / 8).ok_or(Error::truncated(what, (self.at / 8) as u64))?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Ok(bit == 1)
    }
    /// Up to 64 bits.
    pub fn bits(&mut self, count: u32, what: &'static str) -> Result<u64, Error> {
        assert!(count <= 64);
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | u64::from(self.bit(what)?);
        }
        Ok(value)
    }
    /// Eight bits.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, Error> {
        self.bits(8, what).map(|bits| bits as u8)
    }
    /// Leaves out `count` bits.
    pub fn skip(&mut self, count: usize, what: &'static str) -> Result<(), Error> {
        if count > self.remaining() {
            return Err(Error::truncated(what, (self.at / 8) as u64));
        }
        self.at += count;
        Ok(())
    }
    /// `ue(v)`: an unsigned Exp-Golomb code of at most 32 bits.
    pub fn ue(&mut self, what: &'static str) -> Result<u32, Error> {
        let mut zeros = 0;
        while !self.bit(what)? {
            zeros += 1;
            if zeros > 31 {
                return Err(Error::malformed(what, (self.at / 8) as u64));
            }
        }
        let tail = self.bits(zeros, what)? as u32;
        Ok(((1u32 << zeros) - 1) + tail)
    }
    /// [`ue`](Self::ue), after refusing a value above `max`.
    pub fn ue_at_most(&mut self, max: u32, what: &'static str) -> Result<u32, Error> {
        let value = self.ue(what)?;
        if value > max { Err(self.malformed(what)) } else { Ok(value) }
    }
    /// `se(v)`: a signed Exp-Golomb code.
    pub fn se(&mut self, what: &'static str) -> Result<i32, Error> {
        let code = i64::from(self.ue(what)?);
        let value = if code % 2 == 1 { (code + 1) / 2 } else { -(code / 2) };
        i32::try_from(value).map_err(|_| self.malformed(what))
    }
    /// The error that says that what was read last breaks a rule.
    pub const fn malformed(&self, why: &'static str) -> Error {
        Error::malformed(why, (self.at / 8) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn exp_golomb_reads_the_table_of_the_standard() {
        // 1 010 011 00100 00101: the first five codes of ITU-T H.264, table 9-2.
        let mut reader = BitReader::new(&[0b1010_0110, 0b0100_0010, 0b1000_0000]);
        let codes: Vec<u32> = (0..5).map(|_| reader.ue("code").unwrap()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_signed_24_bit_number_keeps_its_sign() {
        assert_eq!(Reader::new(&[0xff, 0xff, 0xfe]).i24("offset"), Ok(-2));
        assert_eq!(Reader::new(&[0, 0, 80]).i24("offset"), Ok(80));
    }

    proptest! {
        #[test]
        fn no_reader_ever_reads_past_the_end(bytes: Vec<u8>, lens in proptest::collection::vec(0usize..40, 0..20)) {
            let mut reader = Reader::new(&bytes);
            let mut bits = BitReader::new(&bytes);
            for len in lens {
                let before = reader.remaining();
                match reader.take(len, "test") {
                    Ok(taken) => prop_assert_eq!(taken.len(), len),
                    Err(_) => prop_assert!(len > before && reader.remaining() == before),
                }
                let _ = bits.ue("test");
                let _ = bits.bits(len as u32, "test");
                prop_assert!(bits.position() <= bytes.len() * 8);
            }
        }
    }
}
