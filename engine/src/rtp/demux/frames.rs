//! Frames of VP8, VP9 and AV1 out of packets. (RFC 7741, 4; RFC 9628, 4; AOM "RTP Payload Format For AV1", 4)
//!
//! They are shown in the order in which they come, and all that a decoder must know stands in each key frame.

use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};

use super::{
    super::Packet,
    Context,
    descriptor::{Piece, vp8, vp9},
};
use crate::{
    bits::Reader,
    codec::{Codec, Parameters, av1, is_key, nal::LengthSize},
    limits,
    media::Payload,
    slab,
    time::MediaTime,
};

/// Bytes of a frame that is put together. A larger one is left out.
const FRAME_BYTES_MAX: usize = limits::RTMP_MESSAGE_BYTES_MAX;
/// Bytes of the sizes in a packet that have to be written longer than they came.
const ROOM_FOR_SIZES_BYTES: usize = 256;

/// What is put together of one track.
#[derive(Debug)]
pub(super) struct Frames {
    codec: Codec,
    parameters: Option<Arc<Parameters>>,
    /// The time of the frame that is being put together.
    timestamp: Option<u32>,
    /// What has come of it. What is left of this memory takes the next frame.
    data: BytesMut,
    /// The unit of AV1 that goes on in the next packet; empty when none does.
    unit: Vec<u8>,
    /// A unit of AV1 with something to be shown is in it.
    has_picture: bool,
    /// A part of it is missing.
    damaged: bool,
    /// Packets are missing before the next one.
    lost: bool,
    /// A frame was left out, and no decoder can go on before the next key frame.
    waiting: bool,
}

impl Frames {
    pub(super) fn new(codec: Codec) -> Self {
        Frames {
            codec,
            parameters: None,
            timestamp: None,
            data: BytesMut::new(),
            unit: Vec::new(),
            has_picture: false,
            damaged: false,
            lost: false,
            // Until the first key frame nothing can be decoded.
            waiting: true,
        }
    }

    /// Takes a packet; `None` when it breaks a rule.
    pub(super) fn packet(&mut self, packet: &Packet<'_>, context: &mut Context<'_>) -> Option<()> {
        let lost = std::mem::take(&mut self.lost);
        // What is missing may have been a frame of its own, which those behind it need.
        self.waiting |= lost;
        self.damaged |= lost && self.timestamp.is_some();
        // A frame ends with the packet that is marked, or where another one begins.
        if self.timestamp.is_some_and(|timestamp| timestamp != packet.timestamp) {
            self.end(context);
        }
        let result = match self.codec {
            Codec::Av1 => self.units(packet, lost),
            codec => {
                let piece = if codec == Codec::Vp8 { vp8(packet.payload) } else { vp9(packet.payload) };
                piece.ok().and_then(|piece| self.piece(piece, packet.timestamp, context))
            }
        };
        self.timestamp = Some(packet.timestamp);
        self.damaged |= result.is_none();
        if packet.marker {
            self.end(context);
        }
        result
    }

    /// A piece of a frame of VP8 or VP9.
    fn piece(&mut self, piece: Piece<'_>, timestamp: u32, context: &mut Context<'_>) -> Option<()> {
        // Of a frame that has layers of several sizes the smallest goes on: it stands for itself, and what all of them make no
        // container has a form for.
        if piece.enhances {
            return Some(());
        }
        // Two frames may have one time, and the first of them no mark.
        if piece.begins && self.timestamp.is_some() {
            self.end(context);
        }
        self.timestamp = Some(timestamp);
        if !piece.begins && self.data.is_empty() {
            // Without its beginning it is nothing.
            return None;
        }
        self.room(piece.data.len())?;
        self.data.put_slice(piece.data);
        self.has_picture = true;
        Some(())
    }

    /// The units of AV1 in a packet, of which the first may have begun in the one before it and the last may go on in the next.
    /// (4.4)
    fn units(&mut self, packet: &Packet<'_>, lost: bool) -> Option<()> {
        let mut reader = Reader::new(packet.payload);
        let first = reader.u8("aggregation header").ok()?;
        let (continues, goes_on, count) = (first & 0x80 != 0, first & 0x40 != 0, first >> 4 & 3);
        let begins_sequence = first & 0x08 != 0;
        // Nobody can tell what else of this temporal unit was among the packets that are missing, but where it says that it
        // begins a sequence: then it is the first of its unit.
        self.damaged |= lost && !begins_sequence;
        if continues == self.unit.is_empty() || reader.is_empty() {
            self.unit.clear();
            return None;
        }
        let mut number = 0;
        while !reader.is_empty() {
            number += 1;
            let size = if number == count { reader.remaining() } else { av1::leb128(&mut reader).ok()? };
            let element = reader.take(size, "unit of AV1").ok().filter(|element| !element.is_empty())?;
            let (is_rest, is_cut) = (continues && number == 1, goes_on && reader.is_empty());
            if !is_rest && !is_cut {
                self.unit(element)?;
                continue;
            }
            if self.data.len() + self.unit.len() + element.len() > FRAME_BYTES_MAX {
                self.unit.clear();
                return None;
            }
            self.unit.extend(element);
            if !is_cut {
                let unit = std::mem::take(&mut self.unit);
                self.unit(&unit)?;
            }
        }
        (count == 0 || number == count).then_some(())
    }

    /// Takes a whole unit of AV1, and gives it a size: samples have one. (AV1-ISOBMFF, 2.4)
    fn unit(&mut self, unit: &[u8]) -> Option<()> {
        let mut units = av1::Units::new(unit);
        let unit = units.next()?.ok()?;
        if unit.is_left_out() {
            return Some(());
        }
        self.room(unit.payload.len())?;
        self.has_picture |= unit.is_picture();
        unit.write(&mut self.data);
        Some(())
    }

    /// Makes room for so much more; `None` when the frame is too large.
    fn room(&mut self, bytes: usize) -> Option<()> {
        if self.data.len() + bytes > FRAME_BYTES_MAX {
            return None;
        }
        // A large frame grows by as much as it has, or it would be moved with each packet.
        let room = (bytes + ROOM_FOR_SIZES_BYTES).max(self.data.len());
        slab::grow(&mut self.data, room);
        Some(())
    }

    /// What has come of the frame so far is all there is of it.
    fn end(&mut self, context: &mut Context<'_>) {
        let Some(timestamp) = self.timestamp.take() else { return };
        let cut = !std::mem::take(&mut self.unit).is_empty();
        let damaged = std::mem::take(&mut self.damaged) || cut;
        let has_picture = std::mem::take(&mut self.has_picture);
        if damaged {
            self.waiting = true;
            context.counters.broken_frames += 1;
        } else if has_picture {
            self.frame(timestamp, context);
        }
        self.data.clear();
    }

    fn frame(&mut self, timestamp: u32, context: &mut Context<'_>) {
        let ticks = context.timeline.ticks(context.track, timestamp);
        let ticks = ticks.saturating_add(context.timeline.offset(context.track, ticks, context.now));
        let time = MediaTime { ticks, rate: context.rate };
        let (codec, key) = (self.codec, is_key(self.codec, LengthSize::Four, &self.data));
        let said = if key { Parameters::of_key_frame(codec, &self.data) } else { None };
        if let Some(parameters) = said.filter(|said| self.parameters.as_deref() != Some(said)) {
            let parameters = Arc::new(parameters);
            self.parameters = Some(Arc::clone(&parameters));
            context.frame(time, time, Payload::Parameters(parameters));
        }
        if self.parameters.is_none() {
            context.counters.early_frames += 1;
            return;
        }
        if self.waiting && !key {
            context.counters.broken_frames += 1;
            return;
        }
        self.waiting = false;
        let data = self.data.split().freeze();
        context.frame(time, time, Payload::Video { codec, key, data });
    }

    /// Packets are missing before the next one.
    pub(super) fn lose(&mut self) {
        self.lost = true;
        self.unit.clear();
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.data.capacity() + self.unit.capacity()
    }
}
