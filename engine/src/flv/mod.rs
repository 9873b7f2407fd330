//! FLV (Adobe "Video File Format Specification" 10.1, annex E) and its enhancement ("Enhanced RTMP" v2): the container of
//! HTTP-FLV, and what RTMP messages carry.
//!
//! A tag's *body* is the same in both: [`Demuxer`] makes frames of bodies and [`mux`] makes bodies of frames. The framing
//! of tags in a byte stream is [`TagReader`] on the way in and [`mux::write_tag`] on the way out. RTMP frames bodies as
//! messages instead.
//!
//! ```
//! # use std::sync::Arc;
//! use bytes::BytesMut;
//! # use shardcast_engine::{codec::{Codec, Parameters}, media::{Frame, Payload, TrackId}, time::MediaTime};
//! use shardcast_engine::{
//!     flv::{Demuxer, TagReader, mux::{self, Plain}},
//!     session::{Event, Opening},
//!     time::Unwrapper,
//! };
//!
//! # let frame = |millis, payload| {
//! #     let time = MediaTime::from_millis(millis);
//! #     Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }
//! # };
//! # let data = bytes::Bytes::from_static(&[0xfc, 1, 2]);
//! # let packet = frame(1000, Payload::Audio { codec: Codec::Opus, data });
//! # let parameters = vec![frame(0, Payload::Parameters(Arc::new(Parameters::of_opus(2))))];
//! // What a viewer must know comes before the first frame.
//! let opening = Opening { parameters, ..Opening::default() };
//! let mut file = BytesMut::new();
//! mux::write_header::<Plain>(&opening, &packet, &mut file);
//! mux::write_tag::<Plain>(&packet, &mut file);
//!
//! // The way back.
//! let (mut reader, mut demuxer, mut clock) = (TagReader::default(), Demuxer::default(), Unwrapper::new(32));
//! let (mut input, mut frames) = (&file[..], Vec::new());
//! while let Some(tag) = reader.read(&mut input)? {
//!     demuxer.tag(&tag, &mut clock, &mut |event| if let Event::Frame(frame) = event { frames.push(frame) })?;
//! }
//! assert!(matches!(frames[0].payload, Payload::Parameters(_)));
//! assert!(frames[1].is_audio() && frames[1].dts.as_millis() == 1000);
//! # Ok::<(), shardcast_engine::error::Error>(())
//! ```

pub mod amf0;
pub mod demux;
mod file;
mod gather;
pub mod mux;
pub mod tag;

pub use demux::Demuxer;
pub use file::CONTAINER;
pub(crate) use gather::Gather;
pub use mux::{FORM, FlvWire};
pub use tag::{Tag, TagKind, TagReader};

use crate::codec::Codec;

/// The first byte of a video body in the enhanced format has this bit.
const VIDEO_EXTENDED: u8 = 0x80;
/// Classic codec numbers of video bodies (table E.4.3.1).
const VIDEO_AVC: u8 = 7;
/// HEVC as some encoders write it in the classic layout of AVC. Not in any specification; read, never written.
const VIDEO_HEVC_UNOFFICIAL: u8 = 12;

/// Classic sound formats (table E.4.2.1), and 9, which the enhanced format takes for itself.
mod sound {
    pub const MP3: u8 = 2;
    pub const PCMA: u8 = 7;
    pub const PCMU: u8 = 8;
    pub const EXTENDED: u8 = 9;
    pub const AAC: u8 = 10;
    pub const MP3_8_KHZ: u8 = 14;
}

/// The upper four (three in the enhanced format) bits of a video body.
mod frame_type {
    pub const KEY: u8 = 1;
    pub const INTER: u8 = 2;
    pub const GENERATED_KEY: u8 = 4;
    pub const COMMAND: u8 = 5;
}

/// Classic packet types, the same numbers for AVC and AAC.
mod packet {
    pub const SEQUENCE_HEADER: u8 = 0;
    pub const FRAME: u8 = 1;
}

/// Packet types of enhanced video.
mod video_packet {
    pub const SEQUENCE_START: u8 = 0;
    pub const CODED_FRAMES: u8 = 1;
    pub const CODED_FRAMES_X: u8 = 3;
    pub const METADATA: u8 = 4;
    pub const MPEG2TS_SEQUENCE_START: u8 = 5;
    pub const MULTITRACK: u8 = 6;
    pub const MOD_EX: u8 = 7;
}

/// Packet types of enhanced audio.
mod audio_packet {
    pub const SEQUENCE_START: u8 = 0;
    pub const CODED_FRAMES: u8 = 1;
    pub const MULTITRACK: u8 = 5;
    pub const MOD_EX: u8 = 7;
}

/// The four characters that name a codec in the enhanced format; `None` for G.711, which has a number of its own in the classic
/// one, and for G.722, which FLV cannot say.
///
/// ```
/// use shardcast_engine::{codec::Codec, flv::four_cc};
///
/// assert_eq!(four_cc(Codec::H265), Some(*b"hvc1"));
/// assert_eq!((four_cc(Codec::Av1), four_cc(Codec::G722)), (Some(*b"av01"), None));
/// ```
pub const fn four_cc(codec: Codec) -> Option<[u8; 4]> {
    Some(match codec {
        Codec::H264 => *b"avc1",
        Codec::H265 => *b"hvc1",
        Codec::H266 => *b"vvc1",
        Codec::Av1 => *b"av01",
        Codec::Vp8 => *b"vp08",
        Codec::Vp9 => *b"vp09",
        Codec::Aac => *b"mp4a",
        Codec::Opus => *b"Opus",
        Codec::Mp3 => *b".mp3",
        Codec::Ac3 => *b"ac-3",
        Codec::PcmA | Codec::PcmU | Codec::G722 => return None,
    })
}

/// Whether FLV can say frames of a codec. What it cannot is left out.
///
/// ```
/// use shardcast_engine::{codec::Codec, flv::carries};
///
/// assert!(carries(Codec::PcmA) && !carries(Codec::G722));
/// ```
pub const fn carries(codec: Codec) -> bool {
    !matches!(codec, Codec::G722)
}

/// Codecs of the enhanced format, for the lists in which both sides of RTMP say what they know.
///
/// ```
/// use shardcast_engine::{codec::Codec, flv::{CODECS, four_cc}};
///
/// // The `fourCcList` that an encoder shows when it connects.
/// let shown = [*b"hvc1", *b"vp10", *b"Opus"];
/// let common: Vec<Codec> = CODECS.into_iter().filter(|codec| four_cc(*codec).is_some_and(|name| shown.contains(&name))).collect();
/// assert_eq!(common, [Codec::H265, Codec::Opus]);
/// ```
pub const CODECS: [Codec; 10] = [
    Codec::H264,
    Codec::H265,
    Codec::H266,
    Codec::Av1,
    Codec::Vp8,
    Codec::Vp9,
    Codec::Aac,
    Codec::Opus,
    Codec::Mp3,
    Codec::Ac3,
];

fn codec_of(four_cc: [u8; 4]) -> Option<Codec> {
    CODECS.into_iter().find(|codec| self::four_cc(*codec) == Some(four_cc))
}
