//! What WHEP viewers are sent, before it is theirs: packets of RTP, the same for all of a stream. They are cut once per stream and
//! core. A viewer's session writes its own head over that of each packet, and encrypts it.
//!
//! In place of its source a packet says when its frame is shown, in milliseconds of the stream's time: tracks have clocks of their own,
//! and who sends them on says which of their times belong together.
//!
//! Each packet stands behind four bytes, as in RTSP (RFC 2326, 10.12): a dollar sign, a [`Kind`], the length. [`Packets`] reads that.
//!
//! Browsers show each picture as it comes, and a B-frame comes late. So those are left out, which costs a part of the pictures and
//! nothing else, as long as no other refers to them. Where others do, no more pictures are sent, and it is said so
//! ([`Kind::OutOfOrder`]).

use std::ops::Range;

use bytes::BytesMut;

use crate::{
    bits::Reader,
    codec::{Codec, Parameters},
    media::{Frame, Payload, TrackId},
    rtp::{
        format::describe,
        mux::{Framed, HEAD_BYTES, Packing, Sink as _, Track},
    },
    session::{Form, Opening, Reorder, Showing, Wire},
    slab,
};

/// The form. Tracks other than the first of pictures and the first of sound are left out, and so is what browsers do not decode
/// ([`carries`]).
pub static FORM: Form =
    Form { name: "webrtc", datagram: None, prompt: true, open: || Box::new(Packetised::new()) };

/// Bytes of a packet with its head of 12 bytes, at most: what is usual among browsers. It leaves room for extensions of the head and
/// the tag of SRTP in what every path carries.
pub const PACKET_BYTES_MAX: usize = 1_200;

/// How the packets are cut: most of a picture's have one size, so that they are sent as the segments of one datagram.
const PACKING: Packing = Packing { packet_bytes_max: PACKET_BYTES_MAX, together: true };

/// True for a track that can be sent. Of all else in a stream there are no packets.
///
/// ```
/// use shardcast_engine::{codec::{Codec, Parameters}, webrtc::wire};
///
/// assert!(wire::carries(&Parameters::of_opus(2)));
/// let aac = Parameters::parse(Codec::Aac, bytes::Bytes::from_static(&[0x12, 0x10]))?;
/// assert!(!wire::carries(&aac));
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
pub fn carries(parameters: &Parameters) -> bool {
    is_known(parameters.codec) && describe(parameters, DYNAMIC).is_some()
}

/// True for what browsers decode.
const fn is_known(codec: Codec) -> bool {
    let video = matches!(codec, Codec::H264 | Codec::H265 | Codec::Vp8 | Codec::Vp9 | Codec::Av1);
    video || matches!(codec, Codec::Opus | Codec::PcmA | Codec::PcmU | Codec::G722)
}

/// What a packet is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The pictures.
    Video,
    /// The sound.
    Audio,
    /// No packet, and empty: from here on there are none of the pictures, which come out of order and refer to each other, until the
    /// track has other parameters. In place of each key frame it is said again. See [`Reorder::Needed`].
    OutOfOrder,
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Kind::Video => 0,
            Kind::Audio => 1,
            Kind::OutOfOrder => 0xff,
        }
    }

    const fn of(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Kind::Video),
            1 => Some(Kind::Audio),
            0xff => Some(Kind::OutOfOrder),
            _ => None,
        }
    }
}

/// The packets in a piece of the form, and where each is: its head of 12 bytes and its payload.
///
/// ```
/// use shardcast_engine::webrtc::wire::{Kind, Packets};
///
/// let bytes = b"$\x01\0\x0d\x80\x60\0\x07\0\0\x03\xc0\0\0\0\x01\xfc";
/// let packets: Vec<_> = Packets::new(bytes).collect();
/// assert_eq!(packets, [(Kind::Audio, 4..17)]);
/// ```
#[derive(Clone, Debug)]
pub struct Packets<'a> {
    reader: Reader<'a>,
}

impl<'a> Packets<'a> {
    /// Over what the form wrote for whole frames.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Packets { reader: Reader::new(bytes) }
    }

    fn packet(&mut self) -> Option<(Kind, Range<usize>)> {
        self.reader.skip(1, "mark of a packet").ok()?;
        let kind = Kind::of(self.reader.u8("kind of a packet").ok()?)?;
        let len = self.reader.u16("length of a packet").ok()?;
        let begin = self.reader.position();
        self.reader.skip(len.into(), "packet").ok()?;
        Some((kind, begin..self.reader.position()))
    }
}

impl Iterator for Packets<'_> {
    type Item = (Kind, Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        self.packet()
    }
}

/// The muxer.
struct Packetised {
    video: Line,
    audio: Line,
    showing: Showing,
    /// Pictures came out of order that others refer to.
    out_of_order: bool,
}

struct Line {
    kind: Kind,
    /// The track as it was last sent, so that its numbers go on.
    track: Option<Track>,
    /// It is sent: not while the track has a codec that browsers do not know.
    carried: bool,
}

impl Packetised {
    fn new() -> Self {
        let line = |kind| Line { kind, track: None, carried: false };
        Packetised {
            video: line(Kind::Video),
            audio: line(Kind::Audio),
            showing: Showing::default(),
            out_of_order: false,
        }
    }

    /// The line of a track: the first of pictures, the first of sound.
    fn line(&mut self, track: TrackId) -> Option<&mut Line> {
        match track {
            TrackId::VIDEO => Some(&mut self.video),
            TrackId::AUDIO => Some(&mut self.audio),
            _ => None,
        }
    }

    fn learn(&mut self, frame: &Frame) {
        let Payload::Parameters(parameters) = &frame.payload else { return };
        if let Some(line) = self.line(frame.track) {
            line.learn(parameters);
        }
        if frame.track == TrackId::VIDEO && self.showing.change(parameters) {
            self.out_of_order = false;
        }
    }

    fn picture(&mut self, frame: &Frame, out: &mut BytesMut) {
        if !self.video.carried {
            return;
        }
        let order = self.showing.picture(frame);
        if !self.out_of_order && order != Reorder::Needed {
            if order == Reorder::None {
                self.video.write(frame, out);
            }
            return;
        }
        if !std::mem::replace(&mut self.out_of_order, true) || frame.is_key() {
            Framed { channel: Kind::OutOfOrder.byte(), out }.packet(false, 0);
        }
    }
}

impl Line {
    fn learn(&mut self, parameters: &Parameters) {
        let byte = self.kind.byte();
        self.carried = is_known(parameters.codec);
        if !self.carried || self.track.as_mut().is_some_and(|track| track.change(parameters)) {
            return;
        }
        let track = Track::new(parameters, DYNAMIC + byte, byte.into());
        self.carried = track.is_some();
        if let Some(track) = track {
            self.track = Some(track.packed(PACKING).following(self.track.as_ref()));
        }
    }

    fn write(&mut self, frame: &Frame, out: &mut BytesMut) {
        let Some(track) = self.track.as_mut().filter(|_| self.carried) else { return };
        let bytes = frame.payload_bytes();
        // A packet of Opus cannot be cut.
        if matches!(frame.payload, Payload::Audio { codec: Codec::Opus, .. }) && bytes > ROOM {
            return;
        }
        slab::grow(out, bytes + bytes / FRAMING_SHARE);
        track.set_source(frame.pts.as_nanos().div_euclid(NANOS_PER_MILLI) as u32);
        track.frame(frame, &mut Framed { channel: self.kind.byte(), out });
    }
}

impl Wire for Packetised {
    /// Nothing: what a viewer must know is in its description, and parameter sets are before each key frame.
    fn header(&mut self, opening: &Opening, _: &Frame, _: &mut BytesMut) {
        opening.parameters.iter().for_each(|frame| self.learn(frame));
        self.out_of_order |= opening.reorder == Reorder::Needed;
    }

    fn refresh(&mut self, _: &Opening, _: &Frame, _: &mut BytesMut) {}

    fn frame(&mut self, frame: &Frame, out: &mut BytesMut) {
        if !frame.is_media() {
            if matches!(frame.payload, Payload::Discontinuity) {
                self.showing.restart();
            }
            return self.learn(frame);
        }
        match frame.track {
            TrackId::VIDEO => self.picture(frame, out),
            TrackId::AUDIO => self.audio.write(frame, out),
            _ => {}
        }
    }
}

const NANOS_PER_MILLI: i64 = 1_000_000;
/// Bytes of what a packet carries.
const ROOM: usize = PACKET_BYTES_MAX - HEAD_BYTES;
/// What stands around the pieces of a large frame is no more than this part of it.
const FRAMING_SHARE: usize = 32;
/// The first payload type that an offer may give a meaning of its own. Sessions write over it. (RFC 3551, 6)
const DYNAMIC: u8 = 96;

#[cfg(test)]
mod tests;
