//! Access units of H.264 and HEVC out of packets. (RFC 6184, 5; RFC 7798, 4)

use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};

use super::{super::Packet, Context};
use crate::{
    bits::Reader,
    codec::{
        Codec, Parameters, h264, h265,
        pictures::{Fate, Pictures},
        syntax::Syntax,
    },
    limits,
    media::Payload,
    rtp::reorder::Reorder,
    slab,
    time::MediaTime,
};

/// Bytes of a picture that is put together. A larger one is left out.
const PICTURE_BYTES_MAX: usize = limits::RTMP_MESSAGE_BYTES_MAX;
/// Between two pictures where nobody says how long: a 25th of a second, in ticks.
const STEP_UNKNOWN: i64 = 3_600;
/// Bytes of the length before each NAL unit, and room for those of an aggregate.
const LENGTH_BYTES: usize = 4;
const ROOM_FOR_LENGTHS_BYTES: usize = 256;

/// What is put together of one track.
#[derive(Debug)]
pub(super) struct Assembly {
    syntax: Syntax,
    pictures: Pictures,
    reorder: Option<Reorder>,
    /// The time of the picture that is being put together.
    timestamp: Option<u32>,
    /// Its NAL units. What is left of this memory takes the next picture.
    unit: BytesMut,
    /// Where the NAL unit begins that comes in fragments.
    fragment: Option<usize>,
    has_slice: bool,
    /// A part of it is missing.
    damaged: bool,
    /// Packets are missing before the next one.
    lost: bool,
    /// A picture was left out, and no decoder can go on before the next key frame.
    waiting: bool,
}

/// What a packet has in it. (RFC 6184, table 1; RFC 7798, 4.4)
enum Structure<'a> {
    /// One NAL unit.
    Single,
    /// Several, each behind its length.
    Aggregate(&'a [u8]),
    /// A part of one: its head, and whether the part is the first and the last.
    Fragment { head: [u8; 2], start: bool, end: bool, piece: &'a [u8] },
}

impl Assembly {
    pub(super) fn new(syntax: Syntax, sets: &[Vec<u8>]) -> Self {
        let mut pictures = Pictures::new(syntax);
        for set in sets {
            pictures.unit(set);
        }
        Assembly {
            syntax,
            pictures,
            reorder: None,
            timestamp: None,
            unit: BytesMut::new(),
            fragment: None,
            has_slice: false,
            damaged: false,
            lost: false,
            // Until the first key frame nothing can be decoded.
            waiting: true,
        }
    }

    /// The parameters that the description's sets make.
    pub(super) fn known_parameters(&mut self) -> Option<Arc<Parameters>> {
        self.pictures.changed_parameters()
    }

    /// Takes a packet; `None` when it breaks a rule.
    pub(super) fn packet(&mut self, packet: &Packet<'_>, context: &mut Context<'_>) -> Option<()> {
        // Nobody can tell which of two pictures the packets between them were of.
        let lost = std::mem::take(&mut self.lost);
        self.damaged |= lost && self.timestamp.is_some();
        // A picture ends with the packet that is marked, or where another one begins.
        if self.timestamp.is_some_and(|timestamp| timestamp != packet.timestamp) {
            self.end(context);
        }
        self.timestamp = Some(packet.timestamp);
        self.damaged |= lost;
        let result = self.payload(packet.payload);
        if result.is_none() {
            self.damage();
        }
        if packet.marker {
            self.end(context);
        }
        result
    }

    fn payload(&mut self, payload: &[u8]) -> Option<()> {
        if self.unit.len() + payload.len() > PICTURE_BYTES_MAX {
            return None;
        }
        // A large picture grows by as much as it has, or it would be moved with each packet.
        let room = (payload.len() + ROOM_FOR_LENGTHS_BYTES).max(self.unit.len());
        slab::grow(&mut self.unit, room);
        match self.structure(payload)? {
            Structure::Single => self.whole(payload),
            Structure::Aggregate(units) => {
                let mut reader = Reader::new(units);
                while !reader.is_empty() {
                    let len = reader.u16("length of a NAL unit").ok()?;
                    self.whole(reader.take(len.into(), "NAL unit").ok()?);
                }
            }
            Structure::Fragment { head, start, end, piece } => {
                if start {
                    self.fragment = Some(self.unit.len());
                    self.unit.put_u32(0);
                    self.unit.put_slice(head.split_at(self.syntax.head_bytes()).0);
                }
                // Without its beginning it is nothing.
                self.fragment?;
                self.unit.put_slice(piece);
                if end {
                    self.close_fragment();
                }
            }
        }
        Some(())
    }

    fn structure<'a>(&self, payload: &'a [u8]) -> Option<Structure<'a>> {
        let first = *payload.first()?;
        let (start, end) = (|flags: u8| flags & 0x80 != 0, |flags: u8| flags & 0x40 != 0);
        match self.syntax {
            Syntax::H264 => match first & 0x1f {
                1..=23 => Some(Structure::Single),
                24 => Some(Structure::Aggregate(payload.split_at(1).1)),
                28 => {
                    let [_, flags, piece @ ..] = payload else { return None };
                    let head = [first & 0xe0 | flags & 0x1f, 0];
                    Some(Structure::Fragment { head, start: start(*flags), end: end(*flags), piece })
                }
                _ => None,
            },
            _ => match (first >> 1 & 0x3f, payload) {
                (0..=47, [_, _, ..]) => Some(Structure::Single),
                (48, [_, _, units @ ..]) => Some(Structure::Aggregate(units)),
                (49, [_, second, flags, piece @ ..]) => {
                    let head = [first & 0x81 | (flags & 0x3f) << 1, *second];
                    Some(Structure::Fragment { head, start: start(*flags), end: end(*flags), piece })
                }
                _ => None,
            },
        }
    }

    /// Takes a whole NAL unit.
    fn whole(&mut self, unit: &[u8]) {
        if unit.is_empty() {
            return;
        }
        let fate = self.pictures.unit(unit);
        if fate != Fate::LeftOut {
            self.has_slice |= fate == Fate::Kept { slice: true };
            self.unit.put_u32(unit.len() as u32);
            self.unit.put_slice(unit);
        }
    }

    /// The NAL unit that came in fragments is whole.
    fn close_fragment(&mut self) {
        let Some(begin) = self.fragment.take() else { return };
        let (_, rest) = self.unit.split_at_mut(begin);
        let (length, unit) = rest.split_at_mut(LENGTH_BYTES);
        length.copy_from_slice(&(unit.len() as u32).to_be_bytes());
        match self.pictures.unit(unit) {
            Fate::Kept { slice } => self.has_slice |= slice,
            // What an encoder fills its stream up with to keep a rate goes along, as by RTMP.
            Fate::Filler => {}
            Fate::LeftOut => self.unit.truncate(begin),
        }
    }

    /// The picture that has come so far is all there is of it.
    pub(super) fn end(&mut self, context: &mut Context<'_>) {
        let Some(timestamp) = self.timestamp.take() else { return };
        let cut = self.fragment.take().is_some();
        let damaged = std::mem::take(&mut self.damaged) || cut;
        let has_slice = std::mem::take(&mut self.has_slice);
        if damaged {
            self.waiting = true;
            context.counters.broken_frames += 1;
        } else if has_slice {
            // Parameter sets may come without a picture.
            self.picture(timestamp, context);
        }
        self.unit.clear();
    }

    fn picture(&mut self, timestamp: u32, context: &mut Context<'_>) {
        let ticks = context.timeline.ticks(context.track, timestamp);
        let changed = self.pictures.changed_parameters();
        let Some(parameters) = self.pictures.parameters() else {
            context.counters.early_frames += 1;
            return;
        };
        let (codec, key) = (parameters.codec, self.pictures.is_key(&self.unit));
        if changed.is_some() || self.reorder.is_none() {
            self.reorder = Some(reorder_of(parameters));
        }
        let Some(reorder) = &mut self.reorder else { return };
        let decoded = reorder.decoded(ticks);
        let offset = context.timeline.offset(context.track, ticks, context.now);
        let time = |ticks: i64| MediaTime { ticks: ticks.saturating_add(offset), rate: context.rate };
        let (dts, pts) = (time(decoded), time(ticks));
        if let Some(parameters) = changed {
            context.frame(dts, dts, Payload::Parameters(parameters));
        }
        if self.waiting && !key {
            context.counters.broken_frames += 1;
            return;
        }
        self.waiting = false;
        let data = self.unit.split().freeze();
        context.frame(dts, pts, Payload::Video { codec, key, data });
    }

    /// Packets are missing before the next one.
    pub(super) fn lose(&mut self) {
        self.lost = true;
        self.fragment = None;
    }

    /// A packet of the picture that is being put together breaks a rule.
    fn damage(&mut self) {
        self.damaged = true;
        self.fragment = None;
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.unit.capacity() + self.pictures.held_bytes()
    }
}

/// How the pictures of a track are out of order, as its parameters say.
fn reorder_of(parameters: &Parameters) -> Reorder {
    let configuration = &parameters.configuration;
    let (depth, rate) = match parameters.codec {
        Codec::H264 => {
            let sps = h264::Configuration::parse(configuration).map(|config| config.sps).ok();
            sps.map_or((None, None), |sps| (sps.reorder_frames, sps.vui.frame_rate))
        }
        _ => {
            let sps = h265::Configuration::parse(configuration).map(|config| config.sps).ok();
            sps.map_or((None, None), |sps| (sps.reorder_frames, sps.vui.frame_rate))
        }
    };
    let step =
        rate.map(|rate| MediaTime { ticks: rate.denominator.into(), rate: rate.numerator }.ticks_at(90_000));
    Reorder::new(depth, step.filter(|step| (1..=90_000).contains(step)).unwrap_or(STEP_UNKNOWN))
}
