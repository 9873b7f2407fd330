//! The mark on each picture: its number, when it left its publisher, and what the rest of it must be. It stands in an SEI
//! message of its own (user data unregistered: ITU-T H.264, D.1.6), which decoders and servers pass over.

use std::{
    hash::{DefaultHasher, Hasher},
    io::Write,
};

/// What a picture says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Counts the pictures of a stream from 0.
    pub number: u64,
    /// When it was given to the kernel, nanoseconds of CLOCK_MONOTONIC: comparable on one machine.
    pub sent: u64,
    /// A digest of the picture without the stamp.
    pub digest: u64,
}

/// Names this kind of user data; a random number.
const UUID: [u8; 16] = *b"\x5a\x8e\x1d\x31\xb2\x77\x4c\x4f\x9d\x6e\xf3\x15\x2b\x90\xc4\x68";
/// Three numbers as 16 hexadecimal digits each: text never looks like a start code, so nothing needs escaping.
const TEXT_BYTES: usize = 3 * DIGITS;
const DIGITS: usize = 16;
const NAL_SEI: u8 = 6;
const NAL_SEQUENCE: u8 = 7;
const NAL_PICTURE: u8 = 8;
const NAL_DELIMITER: u8 = 9;
const USER_DATA_UNREGISTERED: u8 = 5;
const STOP_BIT: u8 = 0x80;
/// The NAL unit: its type, the message's type and size, the name, the text, the stop bit.
const NAL_BYTES: usize = 3 + UUID.len() + TEXT_BYTES + 1;
/// Bytes that a stamp takes in an access unit whose NAL units have a length of four bytes in front.
pub const STAMP_BYTES: usize = LENGTH_BYTES + NAL_BYTES;
const LENGTH_BYTES: usize = 4;

impl Stamp {
    /// Appends the NAL unit with its length.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(NAL_BYTES as u32).to_be_bytes());
        out.extend_from_slice(&[NAL_SEI, USER_DATA_UNREGISTERED, (UUID.len() + TEXT_BYTES) as u8]);
        out.extend_from_slice(&UUID);
        let _ = write!(out, "{:016x}{:016x}{:016x}", self.number, self.sent, self.digest);
        out.push(STOP_BIT);
    }

    /// Finds the stamp of an access unit (length-prefixed NAL units), and says whether the rest is what it says.
    /// `None` when there is no stamp to be found.
    pub fn read(access_unit: &[u8]) -> Option<(Stamp, bool)> {
        let (mut stamp, mut digest) = (None, Digest::default());
        for nal in nal_units(access_unit) {
            let nal = nal?;
            match stamp {
                None => match Self::parse(nal) {
                    Some(found) => stamp = Some(found),
                    None => digest.take(nal),
                },
                Some(_) => digest.take(nal),
            }
        }
        let stamp = stamp?;
        Some((stamp, digest.finish() == stamp.digest))
    }

    fn parse(nal: &[u8]) -> Option<Stamp> {
        let text = nal
            .strip_prefix(&[NAL_SEI, USER_DATA_UNREGISTERED, (UUID.len() + TEXT_BYTES) as u8])?
            .strip_prefix(&UUID)?
            .strip_suffix(&[STOP_BIT])?;
        let number = |index: usize| {
            let digits = text.get(index * DIGITS..(index + 1) * DIGITS)?;
            u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        };
        Some(Stamp { number: number(0)?, sent: number(1)?, digest: number(2)? })
    }
}

/// The digest of a picture without a stamp. What servers add and leave out by right is not in it: access unit delimiters, and
/// parameter sets, which MPEG-TS has before each key frame and MP4 has elsewhere.
pub fn digest(access_unit: &[u8]) -> u64 {
    let mut digest = Digest::default();
    nal_units(access_unit).flatten().for_each(|nal| digest.take(nal));
    digest.finish()
}

#[derive(Default)]
struct Digest(DefaultHasher);

impl Digest {
    fn take(&mut self, nal: &[u8]) {
        const NAL_TYPE: u8 = 0x1f;
        let left_out = |byte: &u8| matches!(byte & NAL_TYPE, NAL_SEQUENCE | NAL_PICTURE | NAL_DELIMITER);
        if nal.first().is_some_and(|byte| !left_out(byte)) {
            self.0.write_usize(nal.len());
            self.0.write(nal);
        }
    }

    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

/// The NAL units of an access unit, each behind its length; `None` where one reaches past the end, which is the last then.
fn nal_units(access_unit: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = access_unit;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let nal = rest.split_first_chunk::<LENGTH_BYTES>().and_then(|(length, after)| {
            let length = u32::from_be_bytes(*length) as usize;
            Some((after.get(..length)?, after.get(length..)?))
        });
        rest = nal.map(|(_, after)| after).unwrap_or_default();
        Some(nal.map(|(nal, _)| nal))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamped(before: &[u8], after: &[u8]) -> Vec<u8> {
        let stamp = Stamp { number: 7, sent: u64::MAX, digest: digest(&[before, after].concat()) };
        let mut unit = before.to_vec();
        stamp.write(&mut unit);
        unit.extend_from_slice(after);
        unit
    }

    #[test]
    fn a_stamp_is_found_wherever_it_stands() {
        for before in [&b""[..], b"\0\0\0\x02\x09\xf0", b"\0\0\0\x02\x09\xf0\0\0\0\x03\x06\x01\x80"] {
            let unit = stamped(before, b"\0\0\0\x03\x65ab");
            assert_eq!(unit.len(), before.len() + STAMP_BYTES + 7);
            let (stamp, whole) = Stamp::read(&unit).unwrap();
            assert_eq!((stamp.number, stamp.sent, whole), (7, u64::MAX, true));
        }
    }

    #[test]
    fn delimiters_and_parameter_sets_may_come_and_go() {
        let unit = stamped(b"", b"\0\0\0\x03\x65ab");
        let more = [&b"\0\0\0\x02\x09\xf0\0\0\0\x02\x67x\0\0\0\x02\x68y"[..], &unit].concat();
        assert_eq!(Stamp::read(&more), Stamp::read(&unit));
        let other = [&unit[..], b"\0\0\0\x02\x06z"].concat();
        assert!(!Stamp::read(&other).unwrap().1, "any other unit is too much");
    }

    #[test]
    fn a_changed_byte_and_a_missing_stamp_are_seen() {
        let mut unit = stamped(b"", b"\0\0\0\x03\x65ab");
        *unit.last_mut().unwrap() = b'c';
        assert!(!Stamp::read(&unit).unwrap().1);
        assert_eq!(Stamp::read(b"\0\0\0\x03\x65ab"), None);
        assert_eq!(Stamp::read(b"\xff\xff\xff\xff\x65"), None);
        assert_eq!(Stamp::read(&unit[..STAMP_BYTES - 1]), None);
        assert_eq!(Stamp::read(&unit[..unit.len() - 1]), None);
    }
}
