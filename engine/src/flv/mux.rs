//! Frames to FLV: bodies, tags, and the wire form of HTTP-FLV.
//!
//! H.264, AAC, MP3 and G.711 are written in the classic layout, which every player knows; HEVC, VVC, AV1, VP8, VP9, Opus and AC-3
//! have only the enhanced one.

use std::marker::PhantomData;

use bytes::{BufMut, BytesMut};

use super::{
    VIDEO_AVC, VIDEO_EXTENDED, audio_packet, carries, four_cc, frame_type, packet, sound,
    tag::{self, FILE_HEAD_BYTES, TAG_HEAD_BYTES, TAIL_BYTES, TagKind},
    video_packet,
};
use crate::{
    codec::{Codec, mp3},
    media::{Frame, Payload},
    session::{Form, Opening, Wire},
};

pub use crate::session::{Envelope, Plain};

/// FLV as it stands in a file: the bytes of an HTTP body that ends when the connection does.
pub static FORM: Form =
    Form { name: "flv", datagram: None, prompt: false, open: || Box::new(FlvWire::<Plain>::default()) };

/// The muxer of FLV in envelopes of one kind. It has no state: a tag says all of itself. What must not be torn is a file's
/// head, or a tag with its tail.
///
/// ```
/// use bytes::{BufMut as _, BytesMut};
/// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, TrackId}, time::MediaTime};
/// use shardcast_engine::{flv::FlvWire, session::{Envelope, Form}};
///
/// /// Each piece behind its length.
/// struct Lengths;
///
/// impl Envelope for Lengths {
///     fn open(len: usize, out: &mut BytesMut) { out.put_u32(len as u32); }
///     fn close(_: &mut BytesMut) {}
/// }
///
/// static FORM: Form = Form { name: "flv-lengths", datagram: None, prompt: false, open: || Box::new(FlvWire::<Lengths>::default()) };
///
/// # let frame = |millis, payload| {
/// #     let time = MediaTime::from_millis(millis);
/// #     Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }
/// # };
/// # let data = bytes::Bytes::from_static(&[0xfc, 1, 2]);
/// # let packet = frame(1000, Payload::Audio { codec: Codec::Opus, data });
/// let mut out = BytesMut::new();
/// (FORM.open)().frame(&packet, &mut out);
/// // The head of a tag, a body with the name of its codec, and the size of the tag.
/// assert_eq!(out[..4], [0, 0, 0, 11 + 8 + 4]);
/// ```
#[derive(Debug)]
pub struct FlvWire<E>(PhantomData<E>);

impl<E> Default for FlvWire<E> {
    fn default() -> Self {
        FlvWire(PhantomData)
    }
}

impl<E: Envelope> Wire for FlvWire<E> {
    fn header(&mut self, opening: &Opening, at: &Frame, out: &mut BytesMut) {
        write_header::<E>(opening, at, out);
    }
    fn refresh(&mut self, opening: &Opening, at: &Frame, out: &mut BytesMut) {
        write_opening::<E>(opening, at, out);
    }
    fn frame(&mut self, frame: &Frame, out: &mut BytesMut) {
        write_tag::<E>(frame, out);
    }
}

/// Appends the head of a file with the flags of the tracks that `opening` has, and then what `opening` holds.
///
/// ```
/// # use std::sync::Arc;
/// # use shardcast_engine::{codec::{Codec, Parameters}, media::{Frame, Payload, TrackId}, time::MediaTime};
/// use shardcast_engine::{flv::mux::{Plain, write_header}, session::Opening};
///
/// # let frame = |millis, payload| {
/// #     let time = MediaTime::from_millis(millis);
/// #     Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }
/// # };
/// # let data = bytes::Bytes::from_static(&[0xfc, 1, 2]);
/// # let packet = frame(1000, Payload::Audio { codec: Codec::Opus, data });
/// # let parameters = vec![frame(0, Payload::Parameters(Arc::new(Parameters::of_opus(2))))];
/// let mut file = bytes::BytesMut::new();
/// write_header::<Plain>(&Opening { parameters, ..Opening::default() }, &packet, &mut file);
/// // Version 1, and of the flags that of sound; then the head goes on for nine bytes in all.
/// assert_eq!(file[..9], *b"FLV\x01\x04\0\0\0\x09");
/// ```
pub fn write_header<E: Envelope>(opening: &Opening, at: &Frame, out: &mut BytesMut) {
    E::open(FILE_HEAD_BYTES, out);
    let has = |video| {
        let mut tracks = opening.parameters.iter().filter_map(|frame| match &frame.payload {
            Payload::Parameters(parameters) => Some(parameters.codec),
            _ => None,
        });
        tracks.any(|codec| carries(codec) && codec.is_video() == video)
    };
    tag::write_file_head(has(false), has(true), out);
    E::close(out);
    write_opening::<E>(opening, at, out);
}

/// Appends what `opening` holds, as of the time of `at`.
///
/// ```
/// # use std::sync::Arc;
/// # use shardcast_engine::{codec::{Codec, Parameters}, media::{Frame, Payload, TrackId}, time::MediaTime};
/// use shardcast_engine::{flv::mux::{Plain, opening_frames, write_opening}, session::Opening};
///
/// # let frame = |millis, payload| {
/// #     let time = MediaTime::from_millis(millis);
/// #     Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }
/// # };
/// # let data = bytes::Bytes::from_static(&[0xfc, 1, 2]);
/// # let packet = frame(1000, Payload::Audio { codec: Codec::Opus, data });
/// # let parameters = vec![frame(0, Payload::Parameters(Arc::new(Parameters::of_opus(2))))];
/// let opening = Opening { parameters, ..Opening::default() };
/// // What a viewer is sent that goes on at another place.
/// let mut tags = bytes::BytesMut::new();
/// write_opening::<Plain>(&opening, &packet, &mut tags);
/// // They have the time of the frame that follows, 1,000 ms, and not their own.
/// assert_eq!(tags[4..7], [0, 0x03, 0xe8]);
/// assert!(opening_frames(&opening).all(|frame| frame.dts.as_millis() == 0));
/// ```
pub fn write_opening<E: Envelope>(opening: &Opening, at: &Frame, out: &mut BytesMut) {
    let time = millis(at);
    for frame in opening_frames(opening) {
        if let Some(body) = Body::of(frame) {
            write_body::<E>(&body, time, out);
        }
    }
}

/// Appends one frame as a tag; nothing for what FLV cannot say.
pub fn write_tag<E: Envelope>(frame: &Frame, out: &mut BytesMut) {
    if let Some(body) = Body::of(frame) {
        write_body::<E>(&body, millis(frame), out);
    }
}

/// As [`write_tag`], at another time than the frame's own: milliseconds modulo 2^32.
///
/// ```
/// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, TrackId}, time::MediaTime};
/// use shardcast_engine::flv::mux::{Plain, write_tag, write_tag_at};
///
/// # let frame = |millis, payload| {
/// #     let time = MediaTime::from_millis(millis);
/// #     Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }
/// # };
/// # let data = bytes::Bytes::from_static(&[0xfc, 1, 2]);
/// # let packet = frame(1000, Payload::Audio { codec: Codec::Opus, data });
/// let (mut live, mut recorded) = (bytes::BytesMut::new(), bytes::BytesMut::new());
/// write_tag::<Plain>(&packet, &mut live);
/// // A recording counts from its own first frame.
/// write_tag_at::<Plain>(&packet, 0, &mut recorded);
/// assert_eq!((&live[4..7], &recorded[4..7]), (&[0, 0x03, 0xe8][..], &[0, 0, 0][..]));
/// assert_eq!(live[7..], recorded[7..]);
/// ```
pub fn write_tag_at<E: Envelope>(frame: &Frame, time: u32, out: &mut BytesMut) {
    if let Some(body) = Body::of(frame) {
        write_body::<E>(&body, time, out);
    }
}

fn write_body<E: Envelope>(body: &Body<'_>, time: u32, out: &mut BytesMut) {
    let tag_len = TAG_HEAD_BYTES as u32 + body.len();
    E::open(tag_len as usize + TAIL_BYTES, out);
    tag::write_tag_head(body.kind, time, body.len(), out);
    let [head, data] = body.parts();
    out.put_slice(head);
    out.put_slice(data);
    out.put_u32(tag_len);
    E::close(out);
}

/// The frames of an opening in the order in which a viewer gets them.
pub fn opening_frames(opening: &Opening) -> impl Iterator<Item = &Frame> {
    opening.metadata.iter().chain(&opening.parameters).chain(&opening.color)
}

/// A frame's time as FLV and RTMP write it: milliseconds modulo 2^32.
pub const fn millis(frame: &Frame) -> u32 {
    frame.dts.as_millis() as u32
}

/// A frame as the body of a tag or of an RTMP message: a few bytes of head, and data that is not copied.
///
/// ```
/// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, TrackId}, time::MediaTime};
/// use shardcast_engine::flv::{TagKind, mux::Body};
///
/// # let data = bytes::Bytes::from_static(&[0, 0, 0, 2, 0x65, 0x88]);
/// # let (dts, payload) = (MediaTime::from_millis(0), Payload::Video { codec: Codec::H264, key: true, data });
/// # let frame = Frame { track: TrackId::VIDEO, dts, pts: MediaTime::from_millis(80), payload };
/// let body = Body::of(&frame).expect("FLV can say it");
/// let [head, data] = body.parts();
/// // A key frame of AVC that is shown 80 ms after it is decoded, and its NAL units as they are.
/// assert_eq!((head, data), (&[0x17, 1, 0, 0, 80][..], &[0, 0, 0, 2, 0x65, 0x88][..]));
/// assert_eq!((body.kind, body.len()), (TagKind::Video, 11));
/// ```
#[derive(Debug)]
pub struct Body<'a> {
    /// What it is.
    pub kind: TagKind,
    head: Head,
    data: &'a [u8],
}

/// The longest head is the name `onMetaData` as an AMF0 string.
#[derive(Debug)]
struct Head {
    bytes: [u8; 13],
    len: usize,
}

const ON_META_DATA: &[u8; 13] = b"\x02\x00\x0aonMetaData";

impl<'a> Body<'a> {
    /// The body of a frame; `None` for what FLV cannot say: a discontinuity, a codec that it does not know
    /// ([`carries`]), and a body longer than its 24-bit length.
    pub fn of(frame: &'a Frame) -> Option<Self> {
        let body = match &frame.payload {
            Payload::Audio { codec, .. } if !carries(*codec) => return None,
            Payload::Video { codec, key, data } => {
                let kind = if *key { frame_type::KEY } else { frame_type::INTER };
                let offset = composition_offset(frame);
                Body { kind: TagKind::Video, head: video_head(*codec, kind, offset), data }
            }
            Payload::Audio { codec, data } => {
                Body { kind: TagKind::Audio, head: audio_head(*codec, false, data), data }
            }
            Payload::Parameters(parameters) => {
                let data = &*parameters.configuration;
                // These have no configuration, and so nothing to say. AC-3 has one in MP4 alone, which its frames say too.
                match parameters.codec {
                    Codec::Mp3 | Codec::Ac3 | Codec::PcmA | Codec::PcmU | Codec::G722 => return None,
                    Codec::H264 => {
                        let first = frame_type::KEY << 4 | VIDEO_AVC;
                        let head = Head::new(&[first, packet::SEQUENCE_HEADER, 0, 0, 0]);
                        Body { kind: TagKind::Video, head, data }
                    }
                    codec if codec.is_video() => {
                        let head = enhanced_head(frame_type::KEY, video_packet::SEQUENCE_START, codec, &[]);
                        Body { kind: TagKind::Video, head, data }
                    }
                    codec => Body { kind: TagKind::Audio, head: audio_head(codec, true, data), data },
                }
            }
            Payload::Metadata(data) => Body { kind: TagKind::Script, head: Head::new(ON_META_DATA), data },
            Payload::ColorInfo { codec, data } => {
                let head = enhanced_head(frame_type::COMMAND, video_packet::METADATA, *codec, &[]);
                Body { kind: TagKind::Video, head, data }
            }
            Payload::Script(data) => Body { kind: TagKind::Script, head: Head::new(&[]), data },
            Payload::Discontinuity => return None,
        };
        (body.head.len + body.data.len() <= 0xff_ffff).then_some(body)
    }

    /// The body in its two parts.
    pub fn parts(&self) -> [&[u8]; 2] {
        [self.head.bytes.split_at(self.head.len).0, self.data]
    }

    /// Bytes of both parts.
    #[expect(clippy::len_without_is_empty, reason = "a body always has a head or data")]
    pub const fn len(&self) -> u32 {
        (self.head.len + self.data.len()) as u32
    }
}

impl Head {
    fn new(bytes: &[u8]) -> Self {
        let mut head = Head { bytes: [0; 13], len: bytes.len() };
        head.bytes.split_at_mut(bytes.len()).0.copy_from_slice(bytes);
        head
    }
}

/// How much later than its decoding time a picture is shown, as far as 24 bits can say it (2 hours and 20 minutes).
fn composition_offset(frame: &Frame) -> [u8; 3] {
    let offset = frame.pts.as_millis().saturating_sub(frame.dts.as_millis()).clamp(-0x80_0000, 0x7f_ffff);
    let [.., high, middle, low] = offset.to_be_bytes();
    [high, middle, low]
}

fn video_head(codec: Codec, kind: u8, offset: [u8; 3]) -> Head {
    let [high, middle, low] = offset;
    match codec {
        Codec::H264 => Head::new(&[kind << 4 | VIDEO_AVC, packet::FRAME, high, middle, low]),
        // A frame without an offset is three bytes shorter in this type.
        Codec::H265 | Codec::H266 if offset == [0; 3] => {
            enhanced_head(kind, video_packet::CODED_FRAMES_X, codec, &[])
        }
        Codec::H265 | Codec::H266 => enhanced_head(kind, video_packet::CODED_FRAMES, codec, &offset),
        codec => enhanced_head(kind, video_packet::CODED_FRAMES, codec, &[]),
    }
}

fn enhanced_head(kind: u8, packet: u8, codec: Codec, offset: &[u8]) -> Head {
    let mut head = Head::new(&[VIDEO_EXTENDED | kind << 4 | packet]);
    for byte in four_cc(codec).iter().flatten().chain(offset) {
        head.push(*byte);
    }
    head
}

fn audio_head(codec: Codec, parameters: bool, data: &[u8]) -> Head {
    match codec {
        // E.4.2.1: AAC always says 44.1 kHz, 16 bits, stereo; its configuration says what is true.
        Codec::Aac => {
            let packet = if parameters { packet::SEQUENCE_HEADER } else { packet::FRAME };
            Head::new(&[sound::AAC << 4 | 0x0f, packet])
        }
        Codec::Mp3 => Head::new(&[mp3_head(data)]),
        // 5.5 kHz is the least that there is a number for, and 16 bits are what it becomes: so does ffmpeg. (E.4.2.1)
        Codec::PcmA => Head::new(&[sound::PCMA << 4 | SIXTEEN_BITS]),
        Codec::PcmU => Head::new(&[sound::PCMU << 4 | SIXTEEN_BITS]),
        codec => {
            let packet = if parameters { audio_packet::SEQUENCE_START } else { audio_packet::CODED_FRAMES };
            let mut head = Head::new(&[sound::EXTENDED << 4 | packet]);
            four_cc(codec).into_iter().flatten().for_each(|byte| head.push(byte));
            head
        }
    }
}

/// Of the classic byte: the size of samples.
const SIXTEEN_BITS: u8 = 2;

/// The classic byte for an MP3 frame. FLV has no number for 48, 32, 24, 16 and 12 kHz; players take the frame's own word,
/// and the nearest rate stands here.
fn mp3_head(frame: &[u8]) -> u8 {
    let (rate, channels) =
        mp3::Header::parse(frame).map_or((44_100, 2), |header| (header.sample_rate, header.channels));
    let (format, rate) = match rate {
        ..=8_000 => (sound::MP3_8_KHZ, 0),
        8_001..=16_000 => (sound::MP3, 1),
        16_001..=24_000 => (sound::MP3, 2),
        _ => (sound::MP3, 3),
    };
    format << 4 | rate << 2 | SIXTEEN_BITS | u8::from(channels > 1)
}

impl Head {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::samples::{self, hex};
    use crate::flv::demux::tests::{frame, parameters};
    use crate::{media::TrackId, time::MediaTime};
    use bytes::Bytes;

    fn body(frame: &Frame) -> Vec<u8> {
        Body::of(frame).unwrap().parts().concat()
    }

    fn video(codec: Codec, key: bool, offset: i64) -> Frame {
        let mut frame =
            frame(TrackId::VIDEO, 40, Payload::Video { codec, key, data: Bytes::from_static(b"data") });
        frame.pts = MediaTime::from_millis(40 + offset);
        frame
    }

    #[test]
    fn bodies_are_the_bytes_of_the_specifications() {
        assert_eq!(body(&video(Codec::H264, true, 80)), b"\x17\x01\0\0\x50data");
        assert_eq!(body(&video(Codec::H264, false, -2)), b"\x27\x01\xff\xff\xfedata");
        assert_eq!(body(&video(Codec::H265, true, 80)), b"\x91hvc1\0\0\x50data");
        assert_eq!(body(&video(Codec::H265, false, 0)), b"\xa3hvc1data");
        assert_eq!(body(&video(Codec::H266, true, 80)), b"\x91vvc1\0\0\x50data");
        assert_eq!(body(&video(Codec::H266, false, 0)), b"\xa3vvc1data");
        assert_eq!(body(&video(Codec::Av1, true, 0)), b"\x91av01data");
        assert_eq!(body(&video(Codec::Vp9, false, 0)), b"\xa1vp09data");
        let audio = |codec, data: &'static [u8]| {
            body(&frame(TrackId::AUDIO, 0, Payload::Audio { codec, data: Bytes::from_static(data) }))
        };
        assert_eq!(audio(Codec::Aac, b"data"), b"\xaf\x01data");
        assert_eq!(audio(Codec::Opus, b"data"), b"\x91Opusdata");
        assert_eq!(audio(Codec::Ac3, b"data"), b"\x91ac-3data");
        assert_eq!(audio(Codec::PcmA, b"data"), b"\x72data");
        assert_eq!(audio(Codec::PcmU, b"data"), b"\x82data");
        // MPEG-1 layer III, 128 kbit/s, 44.1 kHz, joint stereo.
        assert_eq!(audio(Codec::Mp3, b"\xff\xfb\x90\x64"), b"\x2f\xff\xfb\x90\x64");
        let color = Payload::ColorInfo { codec: Codec::H265, data: Bytes::from_static(b"amf") };
        assert_eq!(body(&frame(TrackId::VIDEO, 0, color)), b"\xd4hvc1amf");
        let metadata = Payload::Metadata(Bytes::from_static(b"\x08\0\0\0\0\0\0\x09"));
        assert_eq!(body(&frame(TrackId::DATA, 0, metadata)), b"\x02\0\x0aonMetaData\x08\0\0\0\0\0\0\x09");
    }

    #[test]
    fn a_tag_is_followed_by_its_size_and_stands_in_one_envelope() {
        struct Bracket;
        impl Envelope for Bracket {
            fn open(len: usize, out: &mut BytesMut) {
                out.put_slice(&[b'[', len as u8]);
            }
            fn close(out: &mut BytesMut) {
                out.put_u8(b']');
            }
        }
        let mut out = BytesMut::new();
        FlvWire::<Bracket>::default().frame(&video(Codec::H264, true, 0), &mut out);
        assert_eq!(&out[..], b"[\x18\x09\0\0\x09\0\0\x28\0\0\0\0\x17\x01\0\0\0data\0\0\0\x14]");
        out.clear();
        let opening = Opening { parameters: vec![parameters(Codec::Aac)], ..Opening::default() };
        FlvWire::<Bracket>::default().header(&opening, &video(Codec::H264, true, 0), &mut out);
        assert_eq!(
            &out[..],
            b"[\x0dFLV\x01\x04\0\0\0\x09\0\0\0\0][\x13\x08\0\0\x04\0\0\x28\0\0\0\0\xaf\0\x12\x10\0\0\0\x0f]"
        );
    }

    #[test]
    fn a_codec_that_says_all_in_its_frames_has_no_body_of_parameters() {
        let ac3 = crate::codec::Parameters::from_ac3_frame(&hex(samples::AC3_48000_STEREO)).unwrap();
        let ac3 = frame(TrackId::AUDIO, 0, Payload::Parameters(std::sync::Arc::new(ac3)));
        assert!(Body::of(&ac3).is_none());
    }

    #[test]
    fn a_track_that_cannot_be_said_is_left_out_with_its_frames() {
        let parameters = crate::codec::Parameters::of_voice(Codec::G722).unwrap();
        let parameters = frame(TrackId::AUDIO, 0, Payload::Parameters(std::sync::Arc::new(parameters)));
        let data = Bytes::from_static(b"data");
        let sound = frame(TrackId::AUDIO, 40, Payload::Audio { codec: Codec::G722, data });
        let mut out = BytesMut::new();
        write_header::<Plain>(
            &Opening { parameters: vec![parameters], ..Opening::default() },
            &sound,
            &mut out,
        );
        write_tag::<Plain>(&sound, &mut out);
        assert_eq!(&out[..], b"FLV\x01\0\0\0\0\x09\0\0\0\0", "there is no sound");
    }

    #[test]
    fn a_discontinuity_and_a_body_that_is_too_long_write_nothing() {
        let mut out = BytesMut::new();
        write_tag::<Plain>(&frame(TrackId::DATA, 0, Payload::Discontinuity), &mut out);
        let data = Bytes::from(vec![0; 0xff_ffff - 1]);
        write_tag::<Plain>(&frame(TrackId::AUDIO, 0, Payload::Audio { codec: Codec::Aac, data }), &mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn a_time_past_2_to_the_32_milliseconds_is_written_modulo_that() {
        let mut late = video(Codec::H264, true, 0);
        (late.dts, late.pts) = (MediaTime::from_millis(0x1_0000_0010), MediaTime::from_millis(0x1_0000_0020));
        let mut out = BytesMut::new();
        write_tag::<Plain>(&late, &mut out);
        assert_eq!(out[4..8], [0, 0, 0x10, 0]);
        assert_eq!(body(&late)[..5], *b"\x17\x01\0\0\x10");
    }
}
