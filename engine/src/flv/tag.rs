//! The framing of tags in an FLV file or HTTP body (annex E.2 and E.4.1): what stands around a body.

use bytes::{BufMut, Bytes, BytesMut};

use super::Gather;
use crate::{bits::Reader, error::Error};

/// What a tag's body is.
///
/// ```
/// use shardcast_engine::flv::TagKind;
///
/// // A body of sound comes by RTMP as a message of type 8.
/// assert_eq!(TagKind::of(8), Some(TagKind::Audio));
/// assert_eq!(TagKind::Script.number(), 18);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagKind {
    /// Sound.
    Audio,
    /// A picture.
    Video,
    /// AMF0 values.
    Script,
}

impl TagKind {
    /// Its number, which is also the type of the RTMP message that carries such a body.
    pub const fn number(self) -> u8 {
        match self {
            TagKind::Audio => 8,
            TagKind::Video => 9,
            TagKind::Script => 18,
        }
    }
    /// The kind with that number.
    pub const fn of(number: u8) -> Option<Self> {
        match number {
            8 => Some(TagKind::Audio),
            9 => Some(TagKind::Video),
            18 => Some(TagKind::Script),
            _ => None,
        }
    }
}

/// One tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// What it is.
    pub kind: TagKind,
    /// Its time in milliseconds, modulo 2^32.
    pub time: u32,
    /// Its body.
    pub body: Bytes,
    /// Bytes of the file before the tag, for errors.
    pub at: u64,
}

/// Bytes of the head of a tag.
pub const TAG_HEAD_BYTES: usize = 11;
/// Bytes of the size that follows each tag.
pub const TAIL_BYTES: usize = 4;
/// Bytes of the head of a file, with the size of the tag that is not before the first.
pub const FILE_HEAD_BYTES: usize = 9 + TAIL_BYTES;

/// Appends the head of a file.
pub fn write_file_head(audio: bool, video: bool, out: &mut BytesMut) {
    out.put_slice(b"FLV\x01");
    out.put_u8(u8::from(audio) << 2 | u8::from(video));
    out.put_u32(9);
    out.put_u32(0);
}

/// Appends the 11 bytes before a body.
pub fn write_tag_head(kind: TagKind, time: u32, body_len: u32, out: &mut BytesMut) {
    assert!(body_len <= 0xff_ffff, "a body's length has 24 bits");
    out.put_u8(kind.number());
    out.put_uint(u64::from(body_len), 3);
    // The upper byte of the time stands after the lower three, where it was added later.
    out.put_uint(u64::from(time & 0xff_ffff), 3);
    out.put_u8((time >> 24) as u8);
    out.put_uint(0, 3);
}

/// Reads tags from bytes cut anywhere.
///
/// ```
/// use bytes::{BufMut as _, Bytes, BytesMut};
/// use shardcast_engine::flv::tag::{
///     FILE_HEAD_BYTES, TAG_HEAD_BYTES, TAIL_BYTES, Tag, TagKind, TagReader, write_file_head, write_tag_head,
/// };
///
/// let body = b"\x02\x00\x0aonTextData\x05";
/// let mut file = BytesMut::new();
/// write_file_head(true, true, &mut file);
/// write_tag_head(TagKind::Script, 40, body.len() as u32, &mut file);
/// file.put_slice(body);
/// // Behind each tag stands its size.
/// file.put_u32((TAG_HEAD_BYTES + body.len()) as u32);
/// assert_eq!(file.len(), FILE_HEAD_BYTES + TAG_HEAD_BYTES + body.len() + TAIL_BYTES);
///
/// let (mut first, mut rest) = file.split_at(30);
/// let mut reader = TagReader::default();
/// assert_eq!(reader.read(&mut first)?, None);
/// let tag = Tag { kind: TagKind::Script, time: 40, body: Bytes::from_static(body), at: FILE_HEAD_BYTES as u64 };
/// assert_eq!(reader.read(&mut rest)?, Some(tag));
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
#[derive(Debug)]
pub struct TagReader {
    state: State,
    position: u64,
}

#[derive(Debug)]
enum State {
    /// The fixed part of the file's head.
    FileHead(Staged<9>),
    /// Bytes to leave out: the rest of the file's head, or a tag's tail.
    Skipping(u32),
    TagHead(Staged<TAG_HEAD_BYTES>),
    Body {
        head: TagHead,
        gather: Gather,
    },
}

#[derive(Clone, Copy, Debug)]
struct TagHead {
    /// `None` for a tag of a kind that is not defined, which is left out.
    kind: Option<TagKind>,
    time: u32,
    at: u64,
}

/// A fixed number of bytes that may come in pieces.
#[derive(Debug)]
struct Staged<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Staged<N> {
    const EMPTY: Self = Staged { bytes: [0; N], len: 0 };

    fn fill(&mut self, input: &mut &[u8]) -> Option<[u8; N]> {
        let (taken, rest) = input.split_at(input.len().min(N - self.len));
        self.bytes.iter_mut().skip(self.len).zip(taken).for_each(|(place, byte)| *place = *byte);
        self.len += taken.len();
        *input = rest;
        (self.len == N).then_some(self.bytes)
    }
}

impl Default for TagReader {
    fn default() -> Self {
        TagReader { state: State::FileHead(Staged::EMPTY), position: 0 }
    }
}

impl TagReader {
    /// Reads from the front of `input` until a tag is whole or nothing is left.
    ///
    /// # Errors
    /// It is not an FLV file, or its tags are encrypted.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Tag>, Error> {
        while !input.is_empty() {
            let before = input.len();
            let tag = self.step(input)?;
            self.position += (before - input.len()) as u64;
            if tag.is_some() {
                return Ok(tag);
            }
        }
        Ok(None)
    }

    fn step(&mut self, input: &mut &[u8]) -> Result<Option<Tag>, Error> {
        match &mut self.state {
            State::FileHead(staged) => {
                if let Some(head) = staged.fill(input) {
                    self.state = State::Skipping(after_file_head(&head)?);
                }
            }
            State::Skipping(left) => {
                let taken = input.len().min(*left as usize);
                *input = input.split_at(taken).1;
                *left -= taken as u32;
                if *left == 0 {
                    self.state = State::TagHead(Staged::EMPTY);
                }
            }
            State::TagHead(staged) => {
                let at = self.position - staged.len as u64;
                if let Some(head) = staged.fill(input) {
                    return self.begin_tag(&head, at, input.len());
                }
            }
            State::Body { gather, .. } => {
                gather.take(input, usize::MAX);
                if gather.missing() == 0 {
                    return Ok(self.finish_tag());
                }
            }
        }
        Ok(None)
    }

    fn begin_tag(
        &mut self,
        head: &[u8; TAG_HEAD_BYTES],
        at: u64,
        arrived: usize,
    ) -> Result<Option<Tag>, Error> {
        let mut reader = Reader::new(head);
        let flags = reader.u8("tag type")?;
        if flags & 0x20 != 0 {
            return Err(Error::unsupported("an encrypted FLV tag", at));
        }
        let len = reader.u24("tag length")? as usize;
        let time = reader.u24("tag timestamp")? | u32::from(reader.u8("tag timestamp")?) << 24;
        let head = TagHead { kind: TagKind::of(flags & 0x1f), time, at };
        self.state = State::Body { head, gather: Gather::new(len, arrived) };
        // An empty body is whole at once, and no further byte need come to say so.
        Ok(if len == 0 { self.finish_tag() } else { None })
    }

    fn finish_tag(&mut self) -> Option<Tag> {
        let after = State::Skipping(TAIL_BYTES as u32);
        let State::Body { head: TagHead { kind, time, at }, gather } =
            std::mem::replace(&mut self.state, after)
        else {
            return None;
        };
        Some(Tag { kind: kind?, time, body: gather.finish(), at })
    }
}

/// Bytes between the fixed part of a file's head and the first tag.
fn after_file_head(head: &[u8; 9]) -> Result<u32, Error> {
    let mut reader = Reader::new(head);
    if reader.take(3, "FLV signature")? != b"FLV" {
        return Err(Error::malformed("not an FLV file", 0));
    }
    if reader.u8("FLV version")? != 1 {
        return Err(Error::unsupported("an FLV version other than 1", 3));
    }
    reader.skip(1, "FLV flags")?;
    let offset = reader.u32("FLV data offset")?;
    let more =
        offset.checked_sub(9).ok_or(Error::malformed("the FLV data offset points into the head", 5))?;
    more.checked_add(TAIL_BYTES as u32).ok_or(Error::malformed("the FLV data offset is beyond reason", 5))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_all(bytes: &[u8], piece: usize) -> Result<Vec<Tag>, Error> {
        let mut reader = TagReader::default();
        let mut tags = Vec::new();
        for mut part in bytes.chunks(piece) {
            while let Some(tag) = reader.read(&mut part)? {
                tags.push(tag);
            }
        }
        Ok(tags)
    }

    fn file(bodies: &[(TagKind, u32, Vec<u8>)]) -> BytesMut {
        let mut out = BytesMut::new();
        write_file_head(true, true, &mut out);
        for (kind, time, body) in bodies {
            write_tag_head(*kind, *time, body.len() as u32, &mut out);
            out.put_slice(body);
            out.put_u32(TAG_HEAD_BYTES as u32 + body.len() as u32);
        }
        out
    }

    #[test]
    fn the_head_of_a_file_says_which_tracks_come() {
        let mut out = BytesMut::new();
        write_file_head(true, false, &mut out);
        assert_eq!(&out[..], b"FLV\x01\x04\0\0\0\x09\0\0\0\0");
    }

    #[test]
    fn a_time_above_24_bits_has_its_upper_byte_last() {
        let mut out = BytesMut::new();
        write_tag_head(TagKind::Video, 0x8112_3456, 5, &mut out);
        assert_eq!(&out[..], b"\x09\0\0\x05\x12\x34\x56\x81\0\0\0");
    }

    #[test]
    fn what_is_not_flv_is_refused_with_its_place() {
        assert_eq!(read_all(b"RIFF\0\0\0\0\0", 4).unwrap_err(), Error::malformed("not an FLV file", 0));
        let encrypted = [&file(&[])[..], b"\x28\0\0\x05\0\0\0\0\0\0\0"].concat();
        assert_eq!(read_all(&encrypted, 100).unwrap_err(), Error::unsupported("an encrypted FLV tag", 13));
    }

    #[test]
    fn a_tag_of_an_unknown_kind_is_left_out() {
        let mut bytes = file(&[
            (TagKind::Video, 1, vec![1; 9]),
            (TagKind::Audio, 2, vec![]),
            (TagKind::Script, 3, vec![2]),
        ]);
        bytes[FILE_HEAD_BYTES] = 10;
        let tags = read_all(&bytes, 7).unwrap();
        assert_eq!(tags.iter().map(|tag| tag.time).collect::<Vec<_>>(), [2, 3]);
    }

    proptest! {
        #[test]
        fn tags_come_back_at_any_split(
            bodies in proptest::collection::vec(
                (
                    prop_oneof![Just(TagKind::Audio), Just(TagKind::Video), Just(TagKind::Script)],
                    any::<u32>(),
                    proptest::collection::vec(any::<u8>(), 0..300),
                ),
                0..20,
            ),
            piece in 1usize..400,
        ) {
            let tags = read_all(&file(&bodies), piece).unwrap();
            let read: Vec<_> = tags.into_iter().map(|tag| (tag.kind, tag.time, tag.body.to_vec())).collect();
            prop_assert_eq!(read, bodies);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, piece in 1usize..40) {
            let _ = read_all(&bytes, piece);
            let _ = read_all(&[&file(&[])[..], &bytes].concat(), piece);
        }
    }
}
