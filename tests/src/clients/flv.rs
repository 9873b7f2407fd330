//! FLV, as far as a judge needs it: the tags of a file, to send them by hand, and of a stream, to see their times.

use std::{io, io::Read, path::Path};

/// One FLV tag (Video File Format Specification 10.1, E.4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// 8 sound, 9 pictures, 18 script data.
    pub kind: u8,
    /// Milliseconds, 32 bits.
    pub time: u32,
    /// What stands behind the header.
    pub body: Vec<u8>,
}

/// The kind of a tag of sound.
pub const AUDIO: u8 = 8;
/// The kind of a tag of pictures.
pub const VIDEO: u8 = 9;

impl Tag {
    /// Reads the next tag and the length that follows it; nothing at a clean end.
    ///
    /// # Errors
    /// The source's own, or `InvalidData` when what is read is no FLV tag.
    pub fn read(source: &mut impl Read) -> io::Result<Option<Tag>> {
        let mut head = [0; 11];
        let mut filled = 0;
        while let Some(room) = head.get_mut(filled..).filter(|room| !room.is_empty()) {
            match source.read(room)? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
        }
        let [kind, l2, l1, l0, t2, t1, t0, t3, ..] = head;
        if ![AUDIO, VIDEO, 18].contains(&kind) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{head:?} begins no FLV tag")));
        }
        let length = u32::from_be_bytes([0, l2, l1, l0]);
        let mut body = vec![0; usize::try_from(length).expect("24 bits")];
        source.read_exact(&mut body)?;
        let mut previous = [0; 4];
        source.read_exact(&mut previous)?;
        if u32::from_be_bytes(previous) != length + 11 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "PreviousTagSize is not the tag's"));
        }
        Ok(Some(Tag { kind, time: u32::from_be_bytes([t3, t2, t1, t0]), body }))
    }

    /// True for a picture or a packet of sound; false for parameters, ends of sequences and script data.
    pub fn is_media(&self) -> bool {
        match (self.kind, self.body.as_slice()) {
            // AVCVIDEOPACKET and AACAUDIODATA say in their second byte whether they are parameters (0) or media (1).
            (VIDEO, [first, packet, ..]) if first & 0x0f == 7 => *packet == 1,
            (AUDIO, [first, packet, ..]) if first >> 4 == 10 => *packet == 1,
            _ => false,
        }
    }
    /// True for a picture that a decoder can begin at.
    pub fn is_key(&self) -> bool {
        self.kind == VIDEO && self.is_media() && self.body.first().is_some_and(|first| first >> 4 == 1)
    }
}

/// Reads the head of an FLV stream.
///
/// # Errors
/// The source's own, or `InvalidData` when it does not begin with FLV.
pub fn read_head(source: &mut impl Read) -> io::Result<()> {
    let mut head = [0; 13];
    source.read_exact(&mut head)?;
    if head.starts_with(b"FLV\x01") && head.ends_with(&[0, 0, 0, 9, 0, 0, 0, 0]) {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("{head:?} begins no FLV stream")))
    }
}

/// All tags of a file.
///
/// # Panics
/// When it is no whole FLV file.
pub fn tags_of(path: &Path) -> Vec<Tag> {
    let bytes = std::fs::read(path).expect("a clip can be read");
    let mut rest = bytes.as_slice();
    read_head(&mut rest).expect("a clip is FLV");
    std::iter::from_fn(|| Tag::read(&mut rest).expect("a clip is whole")).collect()
}
