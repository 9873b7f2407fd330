//! Sections of tables, over as many packets as they need, and what the two tables say. (ISO/IEC 13818-1, 2.4.4)

use super::super::{
    coding,
    tables::{CRC_BYTES, SECTION_HEAD_BYTES},
};
use crate::{bits::Reader, codec::syntax::Syntax, error::Error};

use super::sound::Coding;

/// Bytes of a section of these tables. (2.4.4.5, 2.4.4.9)
const SECTION_BYTES_MAX: usize = 1024;
/// Bytes up to and with the length.
const LENGTH_END: usize = 3;
/// What follows the last section of a packet, in place of a `table_id`.
const STUFFING: u8 = 0xff;

/// Sections that come on one PID.
#[derive(Debug, Default)]
pub(super) struct Sections {
    bytes: Vec<u8>,
    /// One has begun, and no part of it is missing.
    open: bool,
}

impl Sections {
    /// Takes the payload of the next packet and gives the sections that are whole with it. True when one is broken.
    pub(super) fn push(&mut self, start: bool, payload: &[u8], take: &mut dyn FnMut(&[u8])) -> bool {
        let mut broken = false;
        if start {
            let mut reader = Reader::new(payload);
            // pointer_field: how much of the payload still belongs to the section before.
            let tail =
                reader.u8("pointer").and_then(|pointer| reader.take(pointer.into(), "end of a section"));
            let Ok(tail) = tail else {
                self.lose();
                return true;
            };
            if self.open {
                self.bytes.extend_from_slice(tail);
                broken = self.complete(take) || self.open;
            }
            self.bytes.clear();
            self.bytes.extend_from_slice(reader.rest());
            self.open = true;
        } else if self.open {
            self.bytes.extend_from_slice(payload);
        }
        self.complete(take) || broken
    }

    /// Part of what has begun is missing.
    pub(super) fn lose(&mut self) {
        self.open = false;
        self.bytes.clear();
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives what is whole. Closes what has ended, and is true when that was none.
    fn complete(&mut self, take: &mut dyn FnMut(&[u8])) -> bool {
        let mut used = 0;
        let mut broken = false;
        while self.open {
            let rest = self.bytes.split_at(used).1;
            let [table_id, high, low] = match rest.first_chunk::<LENGTH_END>() {
                Some(head) => *head,
                // Nothing follows the last, or it is too short to tell.
                None => {
                    self.open = !rest.is_empty() && rest.first() != Some(&STUFFING);
                    break;
                }
            };
            if table_id == STUFFING {
                self.open = false;
                break;
            }
            let len = LENGTH_END + usize::from(u16::from_be_bytes([high & 0x0f, low]));
            if len > SECTION_BYTES_MAX {
                (self.open, broken) = (false, true);
                break;
            }
            let Some(section) = rest.get(..len) else { break };
            take(section);
            used += len;
        }
        if self.open {
            self.bytes.drain(..used);
        } else {
            self.bytes.clear();
        }
        broken
    }
}

/// `current_next_indicator`: it holds now, and not only later.
pub(super) fn holds_now(section: &[u8]) -> bool {
    section.get(5).is_some_and(|byte| byte & 1 != 0)
}

/// A section with a head of the long kind. (2.4.4.11)
pub(super) struct Section<'a> {
    pub(super) table_id: u8,
    /// `transport_stream_id`, or `program_number`.
    pub(super) id: u16,
    /// `last_section_number` of the table.
    pub(super) last_number: u8,
    content: &'a [u8],
}

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Pictures(Syntax),
    Sound(Coding),
}

impl Kind {
    pub(super) fn is_pictures(self) -> bool {
        matches!(self, Kind::Pictures(_))
    }
}

impl<'a> Section<'a> {
    /// Reads a whole section; `None` when it is too short to be one.
    pub(super) fn parse(section: &'a [u8]) -> Option<Self> {
        let (head, rest) = section.split_at_checked(SECTION_HEAD_BYTES)?;
        let [table_id, _, _, high, low, _, _, last_number] = *head.first_chunk()?;
        let (content, _) = rest.split_at_checked(rest.len().checked_sub(CRC_BYTES)?)?;
        Some(Section { table_id, id: u16::from_be_bytes([high, low]), last_number, content })
    }

    /// Of a program association table: numbers of programs and the PIDs of their maps. (2.4.4.3)
    pub(super) fn programs(&self) -> impl Iterator<Item = (u16, u16)> + use<'a> {
        self.content.chunks_exact(4).filter_map(|entry| {
            let [number, pid] = [entry.get(..2)?, entry.get(2..)?].map(|two| two.first_chunk().copied());
            let (number, pid) = (u16::from_be_bytes(number?), u16::from_be_bytes(pid?) & 0x1fff);
            // Number 0 is the network's own table.
            (number != 0).then_some((number, pid))
        })
    }

    /// Of a program's map: its streams, each with what it carries, if that is carried on. `None` when it is not whole.
    /// (2.4.4.8)
    pub(super) fn streams(&self) -> Option<Vec<(u16, Option<Kind>)>> {
        let mut reader = Reader::new(self.content);
        let read = |reader: &mut Reader<'a>| -> Result<Vec<_>, Error> {
            reader.skip(2, "PCR_PID")?;
            let len = reader.u16("length of a program's descriptors")? & 0x0fff;
            reader.skip(len.into(), "descriptors of a program")?;
            let mut streams = Vec::new();
            while !reader.is_empty() {
                let stream_type = reader.u8("stream_type")?;
                let pid = reader.u16("PID of a stream")? & 0x1fff;
                let len = reader.u16("length of a stream's descriptors")? & 0x0fff;
                let descriptors = reader.take(len.into(), "descriptors of a stream")?;
                streams.push((pid, kind(stream_type, descriptors)));
            }
            Ok(streams)
        };
        read(&mut reader).ok()
    }
}

fn kind(stream_type: u8, descriptors: &[u8]) -> Option<Kind> {
    Some(match stream_type {
        coding::STREAM_H264 => Kind::Pictures(Syntax::H264),
        coding::STREAM_H265 => Kind::Pictures(Syntax::H265),
        coding::STREAM_H266 => Kind::Pictures(Syntax::H266),
        coding::STREAM_ADTS => Kind::Sound(Coding::Adts),
        coding::STREAM_MPEG1_AUDIO | coding::STREAM_MPEG2_AUDIO => Kind::Sound(Coding::Mp3),
        coding::STREAM_AC3 => Kind::Sound(Coding::Ac3),
        coding::STREAM_PRIVATE => Kind::Sound(private(descriptors)?),
        _ => return None,
    })
}

/// What a stream of private data carries, by its descriptors.
fn private(descriptors: &[u8]) -> Option<Coding> {
    const REGISTRATION: u8 = 0x05;
    /// EN 300 468, annex D: AC-3 as broadcasters in Europe say it.
    const DVB_AC3: u8 = 0x6a;
    /// Of DVB, and in it the tag that those who carry Opus chose.
    const EXTENSION: u8 = 0x7f;
    const OPUS: u8 = 0x80;
    let (mut is_opus, mut channels) = (false, None);
    let mut reader = Reader::new(descriptors);
    while let (Ok(tag), Ok(len)) = (reader.u8("descriptor_tag"), reader.u8("descriptor_length")) {
        let content = reader.take(len.into(), "descriptor").ok()?;
        match (tag, content) {
            (REGISTRATION, [b'A', b'C', b'-', b'3', ..]) | (DVB_AC3, _) => return Some(Coding::Ac3),
            (REGISTRATION, [b'O', b'p', b'u', b's', ..]) => is_opus = true,
            // Channels in the order of Vorbis; 0 is two of one channel each.
            (EXTENSION, [OPUS, code @ 0..=8, ..]) => channels = Some(if *code == 0 { 2 } else { *code }),
            _ => {}
        }
    }
    channels.filter(|_| is_opus).map(|channels| Coding::Opus { channels })
}
