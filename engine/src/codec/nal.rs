//! NAL units, as H.264, HEVC and VVC share them: length-prefixed (MP4, FLV), behind start codes (Annex B: MPEG-TS, RTSP, SRT),
//! and their payload without emulation prevention.
//!
//! Which of the two framings a buffer has is known from where it came, never guessed: a length of 256 to 511 bytes
//! begins with `00 00 01` and looks like a start code. What stands inside a NAL unit belongs to [`h264`](super::h264),
//! [`h265`](super::h265) and [`h266`](super::h266).

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};

use crate::{bits::Reader, error::Error};

/// The NAL units of a length-prefixed buffer, each prefix `length_size` bytes, big-endian.
///
/// A length that leads past the end is the last item, an error; after it the iterator is at its end. Empty units
/// (length 0) are left out: some encoders write them as padding, and no reader has a use for them.
///
/// ```
/// use shardcast_engine::codec::nal::{LengthPrefixed, LengthSize};
///
/// let data = [0, 0, 0, 1, 0x67, 0, 0, 0, 2, 0x65, 0x88];
/// let units: Result<Vec<&[u8]>, _> = LengthPrefixed::new(&data, LengthSize::Four).collect();
/// assert_eq!(units?, [&[0x67][..], &[0x65, 0x88]]);
/// // Where a unit ends, the length of the next one stands.
/// let mut units = LengthPrefixed::new(&data, LengthSize::Four);
/// assert_eq!((units.next(), units.position()), (Some(Ok(&[0x67][..])), 5));
/// // A length that leads past the end is an error.
/// assert!(LengthPrefixed::new(&data[..10], LengthSize::Four).any(|unit| unit.is_err()));
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LengthPrefixed<'a> {
    reader: Reader<'a>,
    length_size: LengthSize,
}

impl<'a> LengthPrefixed<'a> {
    /// Over `data`.
    pub const fn new(data: &'a [u8], length_size: LengthSize) -> Self {
        LengthPrefixed { reader: Reader::new(data), length_size }
    }
    /// Where the next unit's prefix stands, in bytes from the start.
    pub const fn position(&self) -> usize {
        self.reader.position()
    }

    fn unit(&mut self) -> Result<&'a [u8], Error> {
        let what = "length of a NAL unit";
        let length = match self.length_size {
            LengthSize::One => self.reader.u8(what)?.into(),
            LengthSize::Two => self.reader.u16(what)?.into(),
            LengthSize::Four => self.reader.u32(what)?,
        };
        // On a target with fewer than 32 bits of address a length that does not fit leads past the end all the more.
        self.reader.take(usize::try_from(length).unwrap_or(usize::MAX), "NAL unit")
    }
}

impl<'a> Iterator for LengthPrefixed<'a> {
    type Item = Result<&'a [u8], Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.reader.is_empty() {
            match self.unit() {
                Ok([]) => {}
                Ok(unit) => return Some(Ok(unit)),
                Err(error) => {
                    self.reader.rest();
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// Bytes of the length before a NAL unit. Three is ruled out by ISO/IEC 14496-15, 5.3.3.1.2.
///
/// ```
/// use shardcast_engine::codec::nal::LengthSize;
///
/// assert_eq!(LengthSize::from_minus_one(3).map(LengthSize::bytes), Some(4));
/// assert_eq!(LengthSize::from_minus_one(2), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LengthSize {
    /// Units of up to 255 bytes.
    One,
    /// Units of up to 65,535 bytes.
    Two,
    /// What everyone writes.
    #[default]
    Four,
}

impl LengthSize {
    /// From `lengthSizeMinusOne`, of which only the low two bits count; `None` for the size that is ruled out.
    pub const fn from_minus_one(bits: u8) -> Option<Self> {
        match bits & 3 {
            0 => Some(LengthSize::One),
            1 => Some(LengthSize::Two),
            3 => Some(LengthSize::Four),
            _ => None,
        }
    }
    /// The size in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            LengthSize::One => 1,
            LengthSize::Two => 2,
            LengthSize::Four => 4,
        }
    }
}

/// The NAL units of an Annex B byte stream: what stands between start codes of three bytes, without the zero bytes
/// around them. What stands before the first start code is left out, and so are empty units.
/// (ITU-T H.264, H.265 and H.266, B.2)
///
/// ```
/// use shardcast_engine::codec::nal::AnnexB;
///
/// let data = [0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x65, 0x88];
/// assert_eq!(AnnexB::new(&data).collect::<Vec<_>>(), [&[0x67, 1][..], &[0x65, 0x88]]);
/// ```
#[derive(Clone, Debug)]
pub struct AnnexB<'a> {
    rest: &'a [u8],
}

impl<'a> AnnexB<'a> {
    /// Over `data`.
    pub fn new(data: &'a [u8]) -> Self {
        AnnexB { rest: split_at_start_code(data).1 }
    }
}

impl<'a> Iterator for AnnexB<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let (unit, rest) = split_at_start_code(self.rest);
            self.rest = rest;
            // A NAL unit never ends in a zero byte (7.4.1): zeros here are trailing_zero_8bits or the fourth byte of
            // the next start code.
            let unit = trim_zeros(unit);
            if !unit.is_empty() {
                return Some(unit);
            }
        }
        None
    }
}

/// Appends the units of an Annex B stream to `out`, each with a length of four bytes before it.
///
/// ```
/// use shardcast_engine::codec::nal::annex_b_to_length_prefixed;
///
/// let mut out = bytes::BytesMut::new();
/// annex_b_to_length_prefixed(&[0, 0, 1, 0x65, 0x88], &mut out)?;
/// assert_eq!(out[..], [0, 0, 0, 2, 0x65, 0x88]);
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
///
/// # Errors
/// A unit is longer than four bytes can say.
pub fn annex_b_to_length_prefixed(data: &[u8], out: &mut BytesMut) -> Result<(), Error> {
    for unit in AnnexB::new(data) {
        let length = u32::try_from(unit.len()).map_err(|_| Error::too_large("NAL unit", 0))?;
        out.put_u32(length);
        out.put_slice(unit);
    }
    Ok(())
}

/// Appends the units of a length-prefixed buffer to `out`, each behind a start code of four bytes.
///
/// ```
/// use shardcast_engine::codec::nal::{LengthSize, length_prefixed_to_annex_b};
///
/// let mut out = bytes::BytesMut::new();
/// length_prefixed_to_annex_b(&[0, 2, 0x65, 0x88], LengthSize::Two, &mut out)?;
/// assert_eq!(out[..], [0, 0, 0, 1, 0x65, 0x88]);
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
///
/// # Errors
/// A length leads past the end. The units before it have been appended.
pub fn length_prefixed_to_annex_b(
    data: &[u8],
    length_size: LengthSize,
    out: &mut BytesMut,
) -> Result<(), Error> {
    for unit in LengthPrefixed::new(data, length_size) {
        let unit = unit?;
        out.put_u32(1);
        out.put_slice(unit);
    }
    Ok(())
}

/// A NAL unit without its emulation prevention: each `00 00 03` becomes `00 00`. (ITU-T H.264, 7.3.1; H.265 and
/// H.266, 7.3.1.1)
/// Copies only when there is something to remove.
///
/// ```
/// use shardcast_engine::codec::nal::{place_in_unit, without_emulation_prevention};
///
/// let unit = [0x67, 0, 0, 3, 1];
/// assert_eq!(*without_emulation_prevention(&unit), [0x67, 0, 0, 1]);
/// // The last byte of the payload is the fifth of the unit.
/// assert_eq!(place_in_unit(&unit, 3), 4);
/// ```
pub fn without_emulation_prevention(unit: &[u8]) -> Cow<'_, [u8]> {
    if !unit.windows(3).any(|window| window == [0, 0, 3]) {
        return Cow::Borrowed(unit);
    }
    let mut out = Vec::with_capacity(unit.len());
    let mut zeros = 0;
    for &byte in unit {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    Cow::Owned(out)
}

/// Where byte `at` of [`without_emulation_prevention`]'s result stands in the unit itself, so that an error can name
/// the place that a person sees in a capture.
pub fn place_in_unit(unit: &[u8], at: u64) -> u64 {
    let mut zeros = 0;
    let mut kept = 0;
    for (place, &byte) in (0u64..).zip(unit) {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        if kept == at {
            return place;
        }
        kept += 1;
    }
    unit.len() as u64
}

/// Where the first start code is. Most blocks have no zero, and are passed over as fast as the processor can look.
fn find_start_code(data: &[u8]) -> Option<usize> {
    const BLOCK: usize = 32;
    let find = |bytes: &[u8]| bytes.windows(3).position(|window| window == [0, 0, 1]);
    let mut at = 0;
    while let Some(block) = data.get(at..at + BLOCK) {
        if block.iter().fold(false, |zero, byte| zero | (*byte == 0)) {
            // One that begins in this block ends in it, or two bytes behind it.
            let end = data.len().min(at + BLOCK + 2);
            if let Some(found) = data.get(at..end).and_then(find) {
                return Some(at + found);
            }
        }
        at += BLOCK;
    }
    data.get(at..).and_then(find).map(|found| at + found)
}

fn split_at_start_code(data: &[u8]) -> (&[u8], &[u8]) {
    match find_start_code(data) {
        Some(at) => {
            let (before, code) = data.split_at(at);
            (before, code.split_at(3).1)
        }
        None => (data, &[]),
    }
}

fn trim_zeros(unit: &[u8]) -> &[u8] {
    let end = unit.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    unit.split_at(end).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use proptest::prelude::*;

    fn units(data: &[u8], length_size: LengthSize) -> Result<Vec<&[u8]>, Error> {
        LengthPrefixed::new(data, length_size).collect()
    }

    #[test]
    fn each_length_size_cuts_the_units_it_names() {
        assert_eq!(units(&[1, 7, 2, 8, 9], LengthSize::One), Ok(vec![&[7u8][..], &[8, 9]]));
        assert_eq!(units(&[0, 1, 7, 0, 2, 8, 9], LengthSize::Two), Ok(vec![&[7u8][..], &[8, 9]]));
        assert_eq!(units(&[0, 0, 0, 1, 7, 0, 0, 0, 0], LengthSize::Four), Ok(vec![&[7u8][..]]));
    }

    #[test]
    fn a_length_past_the_end_is_an_error_once_and_then_the_end() {
        let mut iterator = LengthPrefixed::new(&[0, 0, 0, 1, 7, 0, 0, 0, 9, 8], LengthSize::Four);
        assert_eq!(iterator.next(), Some(Ok(&[7u8][..])));
        let error = iterator.next().unwrap().unwrap_err();
        assert_eq!((error.kind, error.at), (ErrorKind::Truncated, 9));
        assert_eq!(iterator.next(), None);
    }

    #[test]
    fn a_unit_whose_length_looks_like_a_start_code_is_cut_by_its_length() {
        let mut data = vec![0, 0, 1, 4];
        data.resize(4 + 260, 0x65);
        assert_eq!(units(&data, LengthSize::Four).unwrap().len(), 1);
        assert_eq!(units(&data, LengthSize::Four).unwrap()[0].len(), 260);
    }

    #[test]
    fn start_codes_of_three_and_four_bytes_and_stray_zeros_all_part_units() {
        let data = [9, 0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 2, 0, 0, 0, 0, 1, 0, 0, 1, 0x65, 3, 0, 0];
        let found: Vec<&[u8]> = AnnexB::new(&data).collect();
        assert_eq!(found, [&[0x67u8, 1][..], &[0x68, 2], &[0x65, 3]]);
        assert_eq!(AnnexB::new(&[1, 2, 3]).count(), 0);
    }

    #[test]
    fn emulation_prevention_goes_and_what_only_looks_like_it_stays() {
        assert_eq!(&*without_emulation_prevention(&[1, 0, 0, 3, 1, 0, 0, 3]), [1, 0, 0, 1, 0, 0]);
        assert_eq!(&*without_emulation_prevention(&[0, 0, 3, 0, 0, 3, 0]), [0, 0, 0, 0, 0]);
        assert_eq!(&*without_emulation_prevention(&[0, 3, 0, 0, 4, 3]), [0, 3, 0, 0, 4, 3]);
        assert_eq!(place_in_unit(&[1, 0, 0, 3, 1, 2], 3), 4);
        assert_eq!(place_in_unit(&[1, 0, 0, 3, 1, 2], 9), 6);
    }

    proptest! {
        #[test]
        fn a_start_code_is_found_wherever_it_is(
            bytes in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..200),
        ) {
            let plain = bytes.windows(3).position(|window| window == [0, 0, 1]);
            prop_assert_eq!(find_start_code(&bytes), plain);
        }

        #[test]
        fn any_bytes_are_cut_without_a_panic(data: Vec<u8>) {
            for size in [LengthSize::One, LengthSize::Two, LengthSize::Four] {
                for unit in LengthPrefixed::new(&data, size) {
                    if let Err(error) = unit {
                        prop_assert!(error.at <= data.len() as u64);
                    }
                }
            }
            prop_assert!(AnnexB::new(&data).map(<[u8]>::len).sum::<usize>() <= data.len());
            prop_assert!(without_emulation_prevention(&data).len() <= data.len());
        }

        #[test]
        fn units_that_hold_no_start_code_survive_both_framings(
            units in proptest::collection::vec(proptest::collection::vec(1u8.., 1..40), 0..8),
        ) {
            let mut prefixed = Vec::new();
            for unit in &units {
                prefixed.extend((unit.len() as u32).to_be_bytes());
                prefixed.extend(unit);
            }
            let (mut annex_b, mut back) = (BytesMut::new(), BytesMut::new());
            length_prefixed_to_annex_b(&prefixed, LengthSize::Four, &mut annex_b).unwrap();
            annex_b_to_length_prefixed(&annex_b, &mut back).unwrap();
            prop_assert_eq!(back, prefixed);
        }

        #[test]
        fn the_place_of_each_kept_byte_holds_that_byte(data in proptest::collection::vec(0u8..5, 0..40)) {
            let kept = without_emulation_prevention(&data);
            for (at, byte) in kept.iter().enumerate() {
                prop_assert_eq!(data[place_in_unit(&data, at as u64) as usize], *byte);
            }
        }
    }
}
