//! PES packets, put together from the packets that carry them. (ISO/IEC 13818-1, 2.4.3.6 and 2.4.3.7)

use super::{TIME_BITS, packet::Packet};
use crate::{bits::Reader, error::Error, limits, time::Unwrapper};

/// Bytes of a PES packet of pictures: as much as the largest picture that comes by RTMP.
const PICTURES_BYTES_MAX: usize = limits::RTMP_MESSAGE_BYTES_MAX;
/// Bytes of one of sound: ten times what its length can say, which it need not.
const SOUND_BYTES_MAX: usize = 640 << 10;
/// Memory that is kept for the next one. That of a larger one is let go with it.
const KEPT_BYTES_MAX: usize = 256 << 10;
/// Bytes up to and with the length.
const LENGTH_END: usize = 6;

/// A PES packet that is coming.
#[derive(Debug)]
pub(super) struct Pes {
    bytes: Vec<u8>,
    bytes_max: usize,
    /// It has begun, and no part of it is missing.
    open: bool,
    /// How long it will be, where it says so.
    len: Option<usize>,
}

/// How far a PES packet has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Gathered {
    /// More is to come, or none has begun.
    Part,
    /// All is there: read it, then clear it.
    Whole,
    /// It is none, or it ended before its end.
    Broken,
    /// It is longer than its bound.
    Oversized,
}

/// What a whole PES packet says.
pub(super) struct Unit<'a> {
    pub(super) scrambled: bool,
    /// `None` when it has none.
    pub(super) times: Option<RawTimes>,
    pub(super) payload: &'a [u8],
}

/// Times as they stand there: modulo 2^33.
#[derive(Clone, Copy)]
pub(super) struct RawTimes {
    pts: u64,
    dts: u64,
}

/// When a frame is shown and when it is decoded, in ticks of 90 kHz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) pts: i64,
    pub(super) dts: i64,
}

impl Pes {
    pub(super) fn new(of_pictures: bool) -> Self {
        let bytes_max = if of_pictures { PICTURES_BYTES_MAX } else { SOUND_BYTES_MAX };
        Pes { bytes: Vec::new(), bytes_max, open: false, len: None }
    }

    /// Takes the payload of the next packet. What comes before the first start belongs to nothing.
    pub(super) fn push(&mut self, start: bool, payload: &[u8]) -> Gathered {
        if start {
            self.clear();
            self.open = true;
        }
        if !self.open {
            return Gathered::Part;
        }
        if payload.len() > self.bytes_max - self.bytes.len() {
            self.clear();
            return Gathered::Oversized;
        }
        self.bytes.extend_from_slice(payload);
        if self.len.is_none()
            && let Some([0, 0, 1, _, high, low]) = self.bytes.first_chunk::<LENGTH_END>()
        {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            // 0 leaves it open, as pictures may.
            self.len = (len > 0).then_some(LENGTH_END + len);
        } else if self.len.is_none() && self.bytes.len() >= LENGTH_END {
            self.clear();
            return Gathered::Broken;
        }
        match self.len {
            Some(len) if self.bytes.len() >= len => {
                // Stuffing stands in adaptation fields, but some put it here.
                self.bytes.truncate(len);
                Gathered::Whole
            }
            _ => Gathered::Part,
        }
    }

    /// Nothing more comes of it.
    pub(super) fn end(&mut self) -> Gathered {
        match (self.open, self.len) {
            (false, _) => Gathered::Part,
            (true, None) => Gathered::Whole,
            (true, Some(_)) => {
                self.clear();
                Gathered::Broken
            }
        }
    }

    /// Reads what is whole; `None` when it breaks a rule.
    pub(super) fn read(&self) -> Option<Unit<'_>> {
        parse(&self.bytes).ok().flatten()
    }

    pub(super) fn clear(&mut self) {
        (self.open, self.len) = (false, None);
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES_MAX);
    }

    /// True while one has begun.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// True when a packet with the counter of the last may be that one again.
    pub(super) fn may_repeat(&self, packet: &Packet<'_>) -> bool {
        !self.open || packet.payload.is_some_and(|payload| self.bytes.ends_with(payload))
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

fn parse(bytes: &[u8]) -> Result<Option<Unit<'_>>, Error> {
    let mut reader = Reader::new(bytes);
    let [0, 0, 1, stream_id, _, _] = reader.array("head of a PES packet")? else { return Ok(None) };
    // Maps, padding and what else has no times. (Table 2-21)
    if matches!(stream_id, 0xbc | 0xbe | 0xbf | 0xf0 | 0xf1 | 0xf2 | 0xf8 | 0xff) {
        return Ok(None);
    }
    let [flags, has, header_len] = reader.array("flags of a PES packet")?;
    if flags & 0xc0 != 0x80 {
        return Ok(None);
    }
    let mut header = Reader::new(reader.take(header_len.into(), "header of a PES packet")?);
    let mut times = None;
    if has & 0x80 != 0 {
        let pts = time(header.array("PTS")?);
        let dts = if has & 0x40 != 0 { time(header.array("DTS")?) } else { pts };
        times = Some(RawTimes { pts, dts });
    }
    Ok(Some(Unit { scrambled: flags & 0x30 != 0, times, payload: reader.rest() }))
}

/// A time in parts of 3, 15 and 15 bits, each before a bit of 1.
fn time(bytes: [u8; 5]) -> u64 {
    let [a, b, c, d, e] = bytes.map(u64::from);
    (a >> 1 & 7) << 30 | b << 22 | c >> 1 << 15 | d << 7 | e >> 1
}

impl Times {
    /// The times nearest to those that came before.
    pub(super) fn unwrap(raw: RawTimes, clock: &mut Unwrapper) -> Self {
        const RANGE: i64 = 1 << TIME_BITS;
        let dts = clock.unwrap(raw.dts);
        let later = (raw.pts as i64 - raw.dts as i64).rem_euclid(RANGE);
        let later = if later >= RANGE / 2 { later - RANGE } else { later };
        Times { pts: dts.saturating_add(later), dts }
    }
}
