//! Frames to packets, one track at a time: a frame becomes one packet or several of a bounded size. (RFC 3550, 5.1; payload
//! formats: RFC 6184, 7798, 7741, 9628, 3640, 7587, 2250, 3551; AOM "RTP Payload Format For AV1")

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    format::{INDEX_BITS, SIZE_BITS, numbers},
    rtcp::{NtpTime, SenderReport},
};
use crate::{
    codec::{
        Codec, Parameters, av1, h264, h265,
        nal::{LengthPrefixed, LengthSize},
        syntax::{Kind, Syntax},
        vp9,
    },
    media::{Frame, Payload},
    time::MediaTime,
};

/// Bytes of a packet with its head. It fits into a datagram nearly everywhere, inside a tunnel as well.
pub const PACKET_BYTES_MAX: usize = 1_400;
/// Bytes of a packet's head.
pub const HEAD_BYTES: usize = 12;

/// Bytes of an Opus packet: six frames of 1275 bytes and their lengths. There is no way to cut one. (RFC 6716, 3.4)
const OPUS_BYTES_MAX: usize = 7_680;

/// How frames are cut into packets.
///
/// ```
/// use shardcast_engine::rtp::{PACKET_BYTES_MAX, mux::Packing};
///
/// let packing = Packing::default();
/// assert!(packing.packet_bytes_max == PACKET_BYTES_MAX && !packing.together);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    /// Bytes of a packet with its head, at most, and 64 at least. Only a packet of Opus may be longer: there is no way to cut one.
    pub packet_bytes_max: usize,
    /// NAL units that follow each other go together in one packet as long as they fit, and delimiters and fillers are left out:
    /// then a picture that is one slice has packets of one size, but for the first and the last.
    /// (RFC 6184, 5.7.1; RFC 7798, 4.4.2)
    pub together: bool,
}

impl Default for Packing {
    /// Each NAL unit as it comes, in packets of [`PACKET_BYTES_MAX`].
    fn default() -> Self {
        Packing { packet_bytes_max: PACKET_BYTES_MAX, together: false }
    }
}

/// Where packets are put, each as a piece that is announced with its length.
pub trait Sink {
    /// A packet of `len` bytes follows; it is control information (RTCP) or media. They are appended to what this gives.
    fn packet(&mut self, control: bool, len: usize) -> &mut BytesMut;
}

/// Packets behind a head each: a dollar sign, a channel, the length. What is control information has the next channel.
/// (RFC 2326, 10.12)
pub struct Framed<'a> {
    /// The channel.
    pub channel: u8,
    /// Where they are put.
    pub out: &'a mut BytesMut,
}

impl Sink for Framed<'_> {
    fn packet(&mut self, control: bool, len: usize) -> &mut BytesMut {
        self.out.put_u8(b'$');
        self.out.put_u8(self.channel + u8::from(control));
        self.out.put_u16(u16::try_from(len).unwrap_or(u16::MAX));
        self.out
    }
}

/// The packets of one track, numbered.
#[derive(Debug)]
pub struct Track {
    head: Head,
    coding: Coding,
    /// Packets and bytes of payload so far, for reports.
    packets: u32,
    octets: u32,
}

/// What the heads of a track's packets say.
#[derive(Debug)]
struct Head {
    payload_type: u8,
    clock_rate: u32,
    ssrc: u32,
    sequence: u16,
    packing: Packing,
}

#[derive(Debug)]
enum Coding {
    Pictures {
        syntax: Syntax,
        length_size: LengthSize,
        /// The parameter sets of the configuration. They stand before each key frame that has none of its own: whoever enters
        /// there may have been told of others.
        sets: Vec<Bytes>,
    },
    Vp8,
    Vp9,
    /// With the sequence header of the configuration, which a key frame is sent that has none of its own.
    Av1(Bytes),
    Aac,
    Opus,
    Mp3,
    Voice(Codec),
}

impl Track {
    /// For a track with these parameters, whose packets come from `ssrc` and bear `payload_type`. `None` for what no payload
    /// format here can carry; see [`describe`](super::format::describe).
    pub fn new(parameters: &Parameters, payload_type: u8, ssrc: u32) -> Option<Self> {
        let (payload_type, clock_rate) = numbers(parameters, payload_type)?;
        let coding = Coding::new(parameters)?;
        let head = Head { payload_type, clock_rate, ssrc, sequence: 0, packing: Packing::default() };
        Some(Track { head, coding, packets: 0, octets: 0 })
    }

    /// The same track, cut otherwise.
    #[must_use]
    pub fn packed(mut self, packing: Packing) -> Self {
        assert!(packing.packet_bytes_max >= 64, "there is room behind every head");
        self.head.packing = packing;
        self
    }

    /// The same track as one that was there before, with another clock or another coding: its numbers go on, for they are of the
    /// source. (RFC 3550, 5.1)
    #[must_use]
    pub fn following(mut self, before: Option<&Track>) -> Self {
        self.head.sequence = before.map_or(0, |before| before.head.sequence);
        self
    }

    /// The packets that follow come from this source.
    pub fn set_source(&mut self, ssrc: u32) {
        self.head.ssrc = ssrc;
    }

    /// Takes other parameters, from here on. False when they are of another kind: then it is another track.
    pub fn change(&mut self, parameters: &Parameters) -> bool {
        let Some(track) = Track::new(parameters, self.head.payload_type, self.head.ssrc) else {
            return false;
        };
        let same = std::mem::discriminant(&track.coding) == std::mem::discriminant(&self.coding);
        let (ours, theirs) = (&self.head, &track.head);
        if !same || (theirs.clock_rate, theirs.payload_type) != (ours.clock_rate, ours.payload_type) {
            return false;
        }
        self.coding = track.coding;
        true
    }

    /// The number of the next packet, and what `at` is on the track's clock.
    pub fn start(&self, at: MediaTime) -> (u16, u32) {
        (self.head.sequence, at.ticks_at(self.head.clock_rate) as u32)
    }

    /// Says which time of the track is which on the sender's own clock. (RFC 3550, 6.4.1)
    pub fn report(&self, at: MediaTime, ntp: NtpTime, sink: &mut impl Sink) {
        let report = SenderReport {
            ssrc: self.head.ssrc,
            ntp,
            timestamp: at.ticks_at(self.head.clock_rate) as u32,
            packets: self.packets,
            octets: self.octets,
        };
        report.write(sink.packet(true, SenderReport::BYTES));
    }

    /// Writes the packets of a frame.
    pub fn frame(&mut self, frame: &Frame, sink: &mut impl Sink) {
        let timestamp = frame.pts.ticks_at(self.head.clock_rate) as u32;
        let mut writer = Writer { track: &mut self.head, timestamp, packets: 0, octets: 0, sink };
        match (&self.coding, &frame.payload) {
            (Coding::Pictures { syntax, length_size, sets }, Payload::Video { key, data, .. }) => {
                writer.picture(*syntax, *length_size, if *key { &sets[..] } else { &[] }, data);
            }
            (Coding::Vp8, Payload::Video { codec: Codec::Vp8, data, .. }) => {
                writer.pieces(data, &[], |first, _| if first { VP8_BEGINS } else { 0 });
            }
            (Coding::Vp9, Payload::Video { codec: Codec::Vp9, key, data }) => writer.vp9(*key, data),
            (Coding::Av1(sequence), Payload::Video { codec: Codec::Av1, key, data }) => {
                writer.units(if *key { Some(sequence) } else { None }, data);
            }
            (Coding::Aac, Payload::Audio { data, .. }) => writer.aac(data),
            (Coding::Opus, Payload::Audio { data, .. }) if data.len() <= OPUS_BYTES_MAX => {
                writer.packet(false, &[data]);
            }
            (Coding::Mp3, Payload::Audio { data, .. }) => writer.mp3(data),
            (Coding::Voice(of), Payload::Audio { codec, data }) if codec == of => writer.voice(data),
            _ => {}
        }
        let Writer { packets, octets, .. } = writer;
        self.packets = self.packets.wrapping_add(packets);
        self.octets = self.octets.wrapping_add(octets);
    }
}

impl Coding {
    fn new(parameters: &Parameters) -> Option<Self> {
        let configuration = &parameters.configuration;
        // The slices are of the configuration: no set is copied.
        let shared = |sets: Vec<&[u8]>| -> Vec<Bytes> {
            sets.into_iter().map(|set| configuration.slice_ref(set)).collect()
        };
        Some(match parameters.codec {
            Codec::H264 => {
                let config = h264::Configuration::parse(configuration).ok()?;
                let sets = [config.sequence_parameter_sets, config.picture_parameter_sets].concat();
                Coding::Pictures { syntax: Syntax::H264, length_size: config.length_size, sets: shared(sets) }
            }
            Codec::H265 => {
                let config = h265::Configuration::parse(configuration).ok()?;
                let mut sets = config.parameter_sets;
                sets.sort_by_key(|set| h265::unit_type(set));
                Coding::Pictures { syntax: Syntax::H265, length_size: config.length_size, sets: shared(sets) }
            }
            Codec::Vp8 => Coding::Vp8,
            Codec::Vp9 => Coding::Vp9,
            // Behind four bytes of fields. (AV1-ISOBMFF, 2.3.3)
            Codec::Av1 => Coding::Av1(configuration.slice(configuration.len().min(4)..)),
            Codec::Aac => Coding::Aac,
            Codec::Opus => Coding::Opus,
            Codec::Mp3 => Coding::Mp3,
            codec @ (Codec::PcmA | Codec::PcmU | Codec::G722) => Coding::Voice(codec),
            _ => return None,
        })
    }
}

/// Writes the packets of one frame.
struct Writer<'a, S> {
    track: &'a mut Head,
    timestamp: u32,
    packets: u32,
    octets: u32,
    sink: &'a mut S,
}

impl<S: Sink> Writer<'_, S> {
    /// Bytes of what a packet carries.
    fn room(&self) -> usize {
        self.track.packing.packet_bytes_max - HEAD_BYTES
    }

    /// One packet whose payload is these pieces.
    fn packet(&mut self, marker: bool, pieces: &[&[u8]]) {
        let len = pieces.iter().map(|piece| piece.len()).sum();
        let out = self.begin(marker, len);
        pieces.iter().for_each(|piece| out.put_slice(piece));
    }

    /// The head of a packet with this many bytes of payload, which are put behind it.
    fn begin(&mut self, marker: bool, len: usize) -> &mut BytesMut {
        let out = self.sink.packet(false, HEAD_BYTES + len);
        out.put_u8(0x80);
        out.put_u8(u8::from(marker) << 7 | self.track.payload_type);
        out.put_u16(self.track.sequence);
        out.put_u32(self.timestamp);
        out.put_u32(self.track.ssrc);
        self.track.sequence = self.track.sequence.wrapping_add(1);
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(len as u32);
        out
    }

    /// The NAL units of an access unit, `sets` first unless it brings its own. The last packet is marked. (RFC 6184, 5; RFC
    /// 7798, 4)
    fn picture(&mut self, syntax: Syntax, length_size: LengthSize, sets: &[Bytes], data: &[u8]) {
        let together = self.track.packing.together;
        let says_something = move |unit: &&[u8]| {
            // Of less than its head, a unit says nothing.
            unit.len() > syntax.head_bytes()
                && !(together && (matches!(syntax.kind(unit), Kind::Delimiter) || syntax.is_filler(unit)))
        };
        let units = || LengthPrefixed::new(data, length_size).map_while(Result::ok).filter(says_something);
        let brings_its_own = units().any(|unit| matches!(syntax.kind(unit), Kind::Set(_)));
        let sets: &[Bytes] = if brings_its_own { &[] } else { sets };
        let mut all = sets.iter().map(|set| &set[..]).chain(units()).peekable();
        while all.peek().is_some() {
            let run = if together { run_of(syntax, self.room(), all.clone()) } else { 1 };
            if run > 1 {
                let units = all.clone().take(run);
                all.by_ref().take(run).for_each(drop);
                self.aggregate(syntax, units, all.peek().is_none());
            } else if let Some(unit) = all.next() {
                self.unit(syntax, unit, all.peek().is_none());
            }
        }
    }

    /// Several NAL units, each behind its length. Their common head says whether one of them may be damaged, how much the most
    /// needed one is, and which is the lowest of their layers. (RFC 6184, 5.7.1; RFC 7798, 4.4.2)
    fn aggregate<'u>(&mut self, syntax: Syntax, units: impl Iterator<Item = &'u [u8]> + Clone, last: bool) {
        let len: usize = units.clone().map(|unit| LENGTH_BYTES + unit.len()).sum();
        let out = self.begin(last, syntax.head_bytes() + len);
        if syntax == Syntax::H264 {
            let heads = units.clone().filter_map(|unit| unit.first().copied());
            let (damaged, needed) = heads
                .fold((0, 0), |(damaged, needed), head| (damaged | head & 0x80, needed.max(head & 0x60)));
            out.put_u8(damaged | needed | STAP_A);
        } else {
            let heads = units.clone().filter_map(|unit| unit.first_chunk().copied().map(u16::from_be_bytes));
            let (damaged, layer, temporal) =
                heads.fold((0, 0x01f8, 0x0007), |(damaged, layer, temporal), head| {
                    (damaged | head & 0x8000, layer.min(head & 0x01f8), temporal.min(head & 0x0007))
                });
            out.put_u16(damaged | AP << 9 | layer | temporal);
        }
        for unit in units {
            out.put_u16(unit.len() as u16);
            out.put_slice(unit);
        }
    }

    /// A NAL unit: as it is, or cut where it is too long. (RFC 6184, 5.6 and 5.8; RFC 7798, 4.4.1 and 4.4.3)
    fn unit(&mut self, syntax: Syntax, unit: &[u8], last: bool) {
        if unit.len() <= self.room() {
            return self.packet(last, &[unit]);
        }
        let (head, body) = unit.split_at(syntax.head_bytes());
        let mut pieces = body.chunks(self.room() - head.len() - 1).peekable();
        let mut start = START;
        while let Some(piece) = pieces.next() {
            let end = pieces.peek().is_none();
            let flags = std::mem::take(&mut start) | if end { END } else { 0 };
            match head {
                [first] => self.packet(end && last, &[&[first & 0xe0 | FU_A, flags | first & 0x1f], piece]),
                [first, second] => {
                    let kind = first >> 1 & 0x3f;
                    self.packet(end && last, &[&[first & 0x81 | FU << 1, *second, flags | kind], piece]);
                }
                _ => {}
            }
        }
    }

    /// A frame of VP8 or VP9, its pieces behind a byte of descriptor each, by whether one is the first and the last; behind that of the first
    /// stands `head`. The last packet is marked. (RFC 7741, 4; RFC 9628, 4)
    fn pieces(&mut self, data: &[u8], head: &[u8], descriptor: impl Fn(bool, bool) -> u8) {
        let room = self.room() - 1;
        if data.is_empty() {
            return;
        }
        let (first, rest) = data.split_at(data.len().min(room - head.len()));
        self.packet(rest.is_empty(), &[&[descriptor(true, rest.is_empty())], head, first]);
        let mut pieces = rest.chunks(room).peekable();
        while let Some(piece) = pieces.next() {
            let last = pieces.peek().is_none();
            self.packet(last, &[&[descriptor(false, last)], piece]);
        }
    }

    /// A frame of VP9. With a key frame goes its size, as the structure of one layer: there are receivers that look nowhere else. (RFC
    /// 9628, 4.2.1)
    fn vp9(&mut self, key: bool, data: &[u8]) {
        let side = |side: u32| u16::try_from(side).unwrap_or(u16::MAX).to_be_bytes();
        let frame = if key { vp9::KeyFrame::parse(data) } else { None };
        let structure = frame.map(|frame| {
            let ([a, b], [c, d]) = (side(frame.width), side(frame.height));
            [VP9_ONE_SIZE, a, b, c, d]
        });
        let all = if key { 0 } else { VP9_PREDICTED };
        self.pieces(data, structure.as_ref().map_or(&[], |structure| structure), |first, last| {
            let begins = if structure.is_some() { VP9_BEGINS | VP9_STRUCTURE } else { VP9_BEGINS };
            all | if first { begins } else { 0 } | if last { VP9_ENDS } else { 0 }
        });
    }

    /// A temporal unit of AV1, a packet for each of its units, or several where that is too long. `sequence` is what a key frame gets
    /// that has no sequence header. The last packet is marked. (RTP Payload Format For AV1, 4)
    fn units(&mut self, sequence: Option<&Bytes>, data: &[u8]) {
        let units = || av1::Units::new(data).map_while(Result::ok).filter(|unit| !unit.is_left_out());
        let brings_its_own = units().any(|unit| unit.is_sequence_header());
        let others = sequence.filter(|_| !brings_its_own).map_or(&[][..], |sequence| sequence);
        let others = av1::Units::new(others).map_while(Result::ok).filter(av1::Unit::is_sequence_header);
        let mut all = others.chain(units()).peekable();
        let mut begins = if sequence.is_some() { NEW_SEQUENCE } else { 0 };
        while let Some(unit) = all.next() {
            self.av1(std::mem::take(&mut begins), &unit, all.peek().is_none());
        }
    }

    /// One unit, without its size. (RTP Payload Format For AV1, 4.4 and 5)
    fn av1(&mut self, begins: u8, unit: &av1::Unit<'_>, last: bool) {
        let room = self.room() - 1;
        let (head, head_len) = unit.head(false);
        let head = head.split_at(head_len).0;
        let (first, rest) = unit.payload.split_at(unit.payload.len().min(room - head.len()));
        let goes_on = if rest.is_empty() { 0 } else { GOES_ON };
        self.packet(last && rest.is_empty(), &[&[begins | goes_on | ONE_ELEMENT], head, first]);
        let mut pieces = rest.chunks(room).peekable();
        while let Some(piece) = pieces.next() {
            let end = pieces.peek().is_none();
            let goes_on = if end { 0 } else { GOES_ON };
            self.packet(end && last, &[&[CONTINUES | goes_on | ONE_ELEMENT], piece]);
        }
    }

    /// An access unit behind its one header, in pieces where it is too long, each behind the size of the whole. (RFC 3640,
    /// 3.2.1 and 3.2.3)
    fn aac(&mut self, data: &[u8]) {
        let Some(size) = u16::try_from(data.len()).ok().filter(|size| *size < 1 << SIZE_BITS) else { return };
        let [high, low] = (size << INDEX_BITS).to_be_bytes();
        let head = [0, SIZE_BITS + INDEX_BITS, high, low];
        let mut pieces = data.chunks(self.room() - head.len()).peekable();
        while let Some(piece) = pieces.next() {
            let last = pieces.peek().is_none();
            self.packet(last, &[&head, piece]);
        }
    }

    /// As it is, in pieces where it is too long: each has its own time, and a byte lasts a tick. (RFC 3551, 4.3 and 4.5)
    fn voice(&mut self, data: &[u8]) {
        for piece in data.chunks(self.room()) {
            self.packet(false, &[piece]);
            self.timestamp = self.timestamp.wrapping_add(piece.len() as u32);
        }
    }

    /// A frame behind its place. (RFC 2250, 3.5)
    fn mp3(&mut self, data: &[u8]) {
        let room = self.room() - 4;
        for (number, piece) in data.chunks(room).enumerate() {
            let Ok(place) = u16::try_from(number * room) else { return };
            let [high, low] = place.to_be_bytes();
            self.packet(false, &[&[0, 0, high, low], piece]);
        }
    }
}

/// How many of the units from the first on fit into one packet together.
fn run_of<'u>(syntax: Syntax, room: usize, units: impl Iterator<Item = &'u [u8]>) -> usize {
    let mut len = syntax.head_bytes();
    let fits = |unit: &&[u8]| {
        len += LENGTH_BYTES + unit.len();
        len <= room
    };
    units.take_while(fits).count()
}

/// Bytes of the length before each NAL unit of an aggregate.
const LENGTH_BYTES: usize = 2;
/// Flags of a fragment. (RFC 6184, 5.8)
const START: u8 = 0x80;
const END: u8 = 0x40;
/// Flags of a piece of VP8 and of VP9. (RFC 7741, 4.2; RFC 9628, 4.2)
const VP8_BEGINS: u8 = 0x10;
const VP9_PREDICTED: u8 = 0x40;
const VP9_BEGINS: u8 = 0x08;
const VP9_ENDS: u8 = 0x04;
const VP9_STRUCTURE: u8 = 0x02;
/// Of a structure: one layer, and its size follows.
const VP9_ONE_SIZE: u8 = 0x10;
/// Of an aggregation header of AV1. (4.4)
const CONTINUES: u8 = 0x80;
const GOES_ON: u8 = 0x40;
const ONE_ELEMENT: u8 = 0x10;
const NEW_SEQUENCE: u8 = 0x08;
/// Types of a packet with several units, and of one with a fragment. (RFC 6184, table 1; RFC 7798, 4.4.2 and 4.4.3)
const STAP_A: u8 = 24;
const AP: u16 = 48;
const FU_A: u8 = 28;
const FU: u8 = 49;
