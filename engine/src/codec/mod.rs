//! What a decoder needs to know, per codec. Containers ask [`Parameters`], so that the cost of a new codec is one file
//! here and not one in every container.

use bytes::Bytes;

/// A codec that the engine can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// ITU-T H.264, ISO/IEC 14496-10.
    H264,
    /// ITU-T H.265, ISO/IEC 23008-2 (HEVC).
    H265,
    /// AOMedia Video 1.
    Av1,
    /// VP9.
    Vp9,
    /// AAC, ISO/IEC 14496-3.
    Aac,
    /// Opus, RFC 6716.
    Opus,
    /// MPEG-1 and MPEG-2 audio layer III.
    Mp3,
}

impl Codec {
    /// True for codecs of pictures.
    pub const fn is_video(self) -> bool {
        matches!(self, Codec::H264 | Codec::H265 | Codec::Av1 | Codec::Vp9)
    }
    /// A short lower-case name for logs, metrics and the API.
    pub const fn name(self) -> &'static str {
        match self {
            Codec::H264 => "h264",
            Codec::H265 => "h265",
            Codec::Av1 => "av1",
            Codec::Vp9 => "vp9",
            Codec::Aac => "aac",
            Codec::Opus => "opus",
            Codec::Mp3 => "mp3",
        }
    }
}

/// The parameters of a track, parsed from its decoder configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// The codec.
    pub codec: Codec,
    /// The configuration as MP4 and FLV carry it: `avcC`, `hvcC`, `av1C` and `vpcC` contents (`vpcC` with its four bytes
    /// of version and flags), the AudioSpecificConfig of AAC, `OpusHead` of Opus (RFC 7845, with its magic); empty for MP3.
    pub configuration: Bytes,
    /// Size of the picture or shape of the sound.
    pub shape: Shape,
    /// The codec string of RFC 6381 and of the codec's own binding: `avc1.64001f`, `hvc1.1.6.L93.B0`, `av01.0.04M.08`,
    /// `vp09.00.31.08`, `mp4a.40.2`, `opus`, `mp4a.6b`.
    pub codec_string: String,
}

/// Size of the picture or shape of the sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A picture.
    Video {
        /// Luma samples across, after cropping. 0 when the configuration does not say (VP9).
        width: u32,
        /// Luma samples down, after cropping. 0 when the configuration does not say (VP9).
        height: u32,
    },
    /// Sound.
    Audio {
        /// Samples per second.
        sample_rate: u32,
        /// Channels.
        channels: u8,
        /// Samples per channel in one packet; 0 when it varies (Opus).
        packet_samples: u32,
    },
}
