//! What stands before a piece of a frame in a packet: the payload descriptors of VP8 and VP9. (RFC 7741, 4.2; RFC 9628, 4.2)

use crate::{bits::Reader, error::Error};

/// A piece of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    /// It is the first of a frame.
    pub begins: bool,
    /// Of a layer that adds samples to those of another one.
    pub enhances: bool,
    /// The frame's bytes.
    pub data: &'a [u8],
}

/// Reads a packet of VP8.
pub(super) fn vp8(payload: &[u8]) -> Result<Piece<'_>, Error> {
    let mut reader = Reader::new(payload);
    let first = reader.u8("payload descriptor of VP8")?;
    if first & 0x80 != 0 {
        let extension = reader.u8("extension of a payload descriptor")?;
        if extension & 0x80 != 0 {
            picture_id(&mut reader)?;
        }
        if extension & 0x40 != 0 {
            reader.skip(1, "TL0PICIDX")?;
        }
        if extension & 0x30 != 0 {
            reader.skip(1, "TID and KEYIDX")?;
        }
    }
    // A frame begins with its first partition.
    Ok(Piece { begins: first & 0x17 == 0x10, enhances: false, data: data(reader)? })
}

/// Reads a packet of VP9.
pub(super) fn vp9(payload: &[u8]) -> Result<Piece<'_>, Error> {
    /// Pictures that one may be predicted from.
    const REFERENCES_MAX: usize = 3;
    let mut reader = Reader::new(payload);
    let first = reader.u8("payload descriptor of VP9")?;
    let [has_id, is_predicted, has_layers, is_flexible, begins, _, has_structure, _] =
        std::array::from_fn(|place| first << place & 0x80 != 0);
    if has_id {
        picture_id(&mut reader)?;
    }
    let mut layer = 0;
    if has_layers {
        layer = reader.u8("layers")? >> 1 & 7;
        if !is_flexible {
            reader.skip(1, "TL0PICIDX")?;
        }
    }
    if is_flexible && is_predicted {
        for number in 1.. {
            if reader.u8("P_DIFF")? & 1 == 0 {
                break;
            }
            if number == REFERENCES_MAX {
                return Err(Error::malformed("a fourth reference", reader.position() as u64));
            }
        }
    }
    if has_structure {
        scalability_structure(&mut reader)?;
    }
    Ok(Piece { begins, enhances: layer > 0, data: data(reader)? })
}

fn picture_id(reader: &mut Reader<'_>) -> Result<(), Error> {
    let first = reader.u8("picture id")?;
    reader.skip(usize::from(first >> 7), "picture id")
}

/// RFC 9628, 4.2.1.
fn scalability_structure(reader: &mut Reader<'_>) -> Result<(), Error> {
    let first = reader.u8("scalability structure")?;
    if first & 0x10 != 0 {
        reader.skip(4 * (usize::from(first >> 5) + 1), "sizes of layers")?;
    }
    if first & 0x08 != 0 {
        for _ in 0..reader.u8("pictures of a group")? {
            let references = reader.u8("picture of a group")? >> 2 & 3;
            reader.skip(references.into(), "P_DIFF")?;
        }
    }
    Ok(())
}

/// The rest, which must be something.
fn data<'a>(mut reader: Reader<'a>) -> Result<&'a [u8], Error> {
    let at = reader.position() as u64;
    let data = reader.rest();
    if data.is_empty() { Err(Error::truncated("piece of a frame", at)) } else { Ok(data) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(begins: bool, enhances: bool) -> Result<Piece<'static>, Error> {
        Ok(Piece { begins, enhances, data: b"data" })
    }

    #[test]
    fn descriptors_of_vp8_are_as_long_as_their_flags_say() {
        for (payload, begins) in [
            (&b"\x10data"[..], true),
            (b"\x00data", false),
            // The second partition begins: of a frame that has begun.
            (b"\x11data", false),
            (b"\x30data", true),
            (b"\x90\x00data", true),
            (b"\x90\x80\x7fdata", true),
            (b"\x90\x80\x81\x02data", true),
            (b"\x80\x40\x09data", false),
            (b"\x90\x20\x40data", true),
            (b"\x90\x10\x05data", true),
            (b"\x90\xf0\x81\x02\x09\x45data", true),
        ] {
            assert_eq!(vp8(payload), piece(begins, false), "{payload:x?}");
        }
        for payload in [&b""[..], b"\x10", b"\x90", b"\x90\x80", b"\x90\x80\x81", b"\x90\xf0\x01\x09\x45"] {
            assert!(vp8(payload).is_err(), "{payload:x?}");
        }
    }

    #[test]
    fn descriptors_of_vp9_are_as_long_as_their_flags_say() {
        for (payload, begins, enhances) in [
            (&b"\x08data"[..], true, false),
            (b"\x44data", false, false),
            (b"\x88\x05data", true, false),
            (b"\x88\x85\x06data", true, false),
            // Layers, not flexible: TL0PICIDX follows.
            (b"\x28\x00\x09data", true, false),
            (b"\x28\x22\x09data", true, true),
            (b"\x38\x42data", true, true),
            // Flexible and predicted: up to three references.
            (b"\x58\x02data", true, false),
            (b"\x58\x03\x05\x06data", true, false),
            (b"\x18data", true, false),
            // Structures: one layer with its size, two layers and a group of two pictures.
            (b"\x0a\x10\x01\x40\x00\xb4data", true, false),
            (b"\x0a\x38\0\xa0\0\x5a\x01\x40\0\xb4\x02\x00\x08\x01\x02data", true, false),
            (b"\xaa\x81\x07\x20\x03\x00data", true, false),
        ] {
            assert_eq!(vp9(payload), piece(begins, enhances), "{payload:x?}");
        }
        for payload in [
            &b""[..],
            b"\x08",
            b"\x88",
            b"\x88\x80",
            b"\x28\x00",
            b"\x58\x03\x03\x03\x02data",
            b"\x58\x03",
            b"\x0a\x10\x01\x40\x00",
            b"\x0a\x08\x02\x0c\x01",
        ] {
            assert!(vp9(payload).is_err(), "{payload:x?}");
        }
    }
}
