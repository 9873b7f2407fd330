//! Frames as elementary streams of a transport stream have them: what stands before a frame's own bytes, and these.

use super::{
    annex_b::{AnnexB, Units},
    pes,
};
use crate::codec::{Codec, Parameters, Shape, aac, opus, syntax::Syntax};

/// How the frames of a track are written.
pub(super) enum Coding {
    /// H.264, HEVC and VVC.
    AnnexB(AnnexB),
    /// AAC.
    Adts(Adts),
    /// MP3, each frame with its own header.
    Mp3 {
        /// `stream_type`.
        stream_type: u8,
    },
    /// Opus. (ETSI TS draft "Opus audio in MPEG-2 transport streams", which ffmpeg follows)
    Opus {
        /// `channel_config_code`: the number of channels, in the orders of Vorbis.
        channels: u8,
    },
    /// AC-3, each frame with its own head. (ATSC A/52, annex A)
    Ac3,
}

/// What of a frame is written after its head.
pub(super) enum Body<'a> {
    /// All of it, as it is.
    Whole(&'a [u8]),
    /// Its NAL units, each behind a start code.
    Units(Units<'a>),
}

/// `stream_type`s. (ISO/IEC 13818-1, table 2-34)
pub(super) const STREAM_MPEG1_AUDIO: u8 = 0x03;
pub(super) const STREAM_MPEG2_AUDIO: u8 = 0x04;
pub(super) const STREAM_PRIVATE: u8 = 0x06;
pub(super) const STREAM_ADTS: u8 = 0x0f;
pub(super) const STREAM_H264: u8 = 0x1b;
pub(super) const STREAM_H265: u8 = 0x24;
pub(super) const STREAM_H266: u8 = 0x33;
/// Of AC-3, among the numbers that are the user's to choose. (ATSC A/52, annex A)
pub(super) const STREAM_AC3: u8 = 0x81;
/// The lowest rate of MPEG-1 audio. The generations after it halve its rates.
const MPEG1_SAMPLE_RATE_MIN: u32 = 32_000;

impl Coding {
    /// Of a track with these parameters; `None` where there is no mapping that players read.
    pub(super) fn of(parameters: &Parameters) -> Option<Self> {
        let configuration = &parameters.configuration;
        match parameters.codec {
            Codec::H264 => AnnexB::of_h264(configuration).map(Coding::AnnexB),
            Codec::H265 => AnnexB::of_h265(configuration).map(Coding::AnnexB),
            Codec::H266 => AnnexB::of_h266(configuration).map(Coding::AnnexB),
            Codec::Aac => Adts::of(configuration).map(Coding::Adts),
            Codec::Mp3 => {
                let stream_type = match parameters.shape {
                    Shape::Audio { sample_rate: MPEG1_SAMPLE_RATE_MIN.., .. } => STREAM_MPEG1_AUDIO,
                    _ => STREAM_MPEG2_AUDIO,
                };
                Some(Coding::Mp3 { stream_type })
            }
            Codec::Opus => usual_channels(configuration).map(|channels| Coding::Opus { channels }),
            Codec::Ac3 => Some(Coding::Ac3),
            Codec::Av1 | Codec::Vp8 | Codec::Vp9 | Codec::PcmA | Codec::PcmU | Codec::G722 => None,
        }
    }

    /// True for pictures.
    pub(super) fn is_pictures(&self) -> bool {
        matches!(self, Coding::AnnexB(_))
    }

    /// `stream_type` in the map.
    pub(super) fn stream_type(&self) -> u8 {
        match self {
            Coding::AnnexB(annex_b) => match annex_b.syntax() {
                Syntax::H264 => STREAM_H264,
                Syntax::H265 => STREAM_H265,
                Syntax::H266 => STREAM_H266,
            },
            Coding::Adts(_) => STREAM_ADTS,
            Coding::Mp3 { stream_type } => *stream_type,
            Coding::Opus { .. } => STREAM_PRIVATE,
            Coding::Ac3 => STREAM_AC3,
        }
    }

    /// `stream_id` of its PES packets.
    pub(super) fn stream_id(&self) -> u8 {
        match self {
            Coding::AnnexB(_) => pes::PICTURES,
            Coding::Adts(_) | Coding::Mp3 { .. } => pes::SOUND,
            Coding::Opus { .. } | Coding::Ac3 => pes::PRIVATE_STREAM_1,
        }
    }

    /// Descriptors in the map.
    pub(super) fn descriptors(&self) -> Vec<u8> {
        match self {
            Coding::Opus { channels } => {
                // A registration, and an extension descriptor of DVB with a tag that is the user's to choose.
                let mut descriptors = b"\x05\x04Opus\x7f\x02\x80".to_vec();
                descriptors.push(*channels);
                descriptors
            }
            Coding::Ac3 => b"\x05\x04AC-3".to_vec(),
            _ => Vec::new(),
        }
    }

    /// Appends what stands before the frame's own bytes to `head`, and gives these. `None` when there is nothing to write: an
    /// empty frame, or one that its head cannot be made for.
    pub(super) fn prepare<'a>(&self, data: &'a [u8], key: bool, head: &mut Vec<u8>) -> Option<Body<'a>> {
        if data.is_empty() {
            return None;
        }
        match self {
            Coding::AnnexB(annex_b) => return annex_b.prepare(data, key, head).map(Body::Units),
            Coding::Adts(adts) => head.extend(adts.header(data.len())?),
            Coding::Mp3 { .. } | Coding::Ac3 => {}
            Coding::Opus { .. } => write_opus_control(data.len(), head),
        }
        Some(Body::Whole(data))
    }
}

impl Body<'_> {
    /// Bytes that it has.
    pub(super) fn len(&self) -> usize {
        match self {
            Body::Whole(data) => data.len(),
            Body::Units(units) => units.len(),
        }
    }

    /// Gives its bytes in order.
    pub(super) fn write(&self, mut put: impl FnMut(&[u8])) {
        match self {
            Body::Whole(data) => put(data),
            Body::Units(units) => units.write(put),
        }
    }
}

/// The header before each frame of AAC. (ISO/IEC 14496-3, 1.A.2.2)
pub(super) struct Adts {
    /// `profile_ObjectType`: the audio object type less one.
    profile: u8,
    /// `sampling_frequency_index`.
    rate_index: u8,
    /// `channel_configuration`.
    channels: u8,
}

const ADTS_HEADER_BYTES: usize = 7;
/// `aac_frame_length` has 13 bits.
const ADTS_FRAME_BYTES_MAX: usize = 0x1fff;

impl Adts {
    /// `None` for what the header has no room for. Band replication and parametric stereo are not said in it; decoders find
    /// them in the frames.
    fn of(configuration: &[u8]) -> Option<Self> {
        const FRAME_SAMPLES: u32 = 1024;
        /// The highest index that stands for a rate; 15 says that the rate itself follows.
        const RATE_INDEX_MAX: u8 = 12;
        let config = aac::AudioSpecificConfig::parse(configuration).ok()?;
        let core_samples = config.packet_samples / (config.sample_rate / config.core_sample_rate).max(1);
        // The type and the index stand first: five bits and four. A type of more bits has no place in a header.
        let first = u16::from_be_bytes(*configuration.first_chunk()?);
        let rate_index = (first >> 7 & 0x0f) as u8;
        let fits = matches!(config.object_type, 1..=4)
            && core_samples == FRAME_SAMPLES
            && matches!(config.channel_configuration, 1..=7)
            && rate_index <= RATE_INDEX_MAX;
        fits.then(|| Adts {
            profile: config.object_type - 1,
            rate_index,
            channels: config.channel_configuration,
        })
    }

    /// Before a frame of `len` bytes; `None` when its length cannot be said.
    fn header(&self, len: usize) -> Option<[u8; ADTS_HEADER_BYTES]> {
        let len = len + ADTS_HEADER_BYTES;
        if len > ADTS_FRAME_BYTES_MAX {
            return None;
        }
        let Adts { profile, rate_index, channels } = *self;
        Some([
            0xff,
            0xf1, // the rest of the sync word, MPEG-4, no CRC
            profile << 6 | rate_index << 2 | channels >> 2,
            channels << 6 | (len >> 11) as u8,
            (len >> 3) as u8,
            (len << 5) as u8 | 0x1f, // the buffer's fullness is all ones: the rate varies
            0xfc,
        ])
    }
}

/// The channels of an `OpusHead` if they stand in the order that is usual for their number. A descriptor has room for others
/// too, but ffmpeg does not read it.
fn usual_channels(configuration: &[u8]) -> Option<u8> {
    let head = opus::Head::parse(configuration).ok()?;
    let usual = opus::head_of(head.channels);
    let is_usual = match head.mapping {
        opus::Mapping::One => true,
        // Family 1 with one stream is family 0 in more words.
        opus::Mapping::Table { family: 1, streams: 1, coupled: 0, channels: [0] }
        | opus::Mapping::Table { family: 1, streams: 1, coupled: 1, channels: [0, 1] } => true,
        table @ opus::Mapping::Table { family: 1, .. } => {
            opus::Head::parse(&usual).is_ok_and(|usual| usual.mapping == table)
        }
        opus::Mapping::Table { .. } => false,
    };
    is_usual.then_some(head.channels)
}

/// `opus_control_header`: eleven bits of sync, no trimming, and the length as a run of bytes, each adding itself, that ends
/// with the first below 255. The samples that `pre_skip` names are not trimmed: a file may begin in mid-stream, where
/// nothing must be left out, and where it does not they are 6 ms of silence.
fn write_opus_control(len: usize, head: &mut Vec<u8>) {
    head.extend([0x7f, 0xe0]);
    head.resize(head.len() + len / 255, 255);
    head.push((len % 255) as u8);
}
