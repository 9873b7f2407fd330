//! What a decoder needs to know, per codec. Containers ask [`Parameters`], so that the cost of a new codec is one file
//! here and not one in every container.

use std::borrow::Cow;

use bytes::Bytes;

use crate::{error::Error, limits};
use nal::LengthSize;

pub mod aac;
pub mod ac3;
pub mod av1;
pub mod h264;
pub mod h265;
pub mod h266;
pub mod mp3;
pub mod nal;
pub mod opus;
#[cfg(test)]
mod oracles;
#[cfg(any(feature = "mpegts", feature = "rtsp"))]
pub(crate) mod pictures;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(any(feature = "mpegts", feature = "rtsp"))]
pub(crate) mod sets;
#[cfg(any(feature = "mpegts", feature = "rtsp"))]
pub(crate) mod syntax;
#[cfg(test)]
mod tests;
pub mod vp8;
pub mod vp9;
pub mod vui;

/// A codec that the engine can carry.
///
/// ```
/// use shardcast_engine::codec::Codec;
///
/// assert!(Codec::H266.is_video() && !Codec::Opus.is_video());
/// assert_eq!(Codec::Av1.name(), "av1");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// ITU-T H.264, ISO/IEC 14496-10.
    H264,
    /// ITU-T H.265, ISO/IEC 23008-2 (HEVC).
    H265,
    /// ITU-T H.266, ISO/IEC 23090-3 (VVC).
    H266,
    /// AOMedia Video 1.
    Av1,
    /// VP8, RFC 6386.
    Vp8,
    /// VP9.
    Vp9,
    /// AAC, ISO/IEC 14496-3.
    Aac,
    /// Opus, RFC 6716.
    Opus,
    /// MPEG-1 and MPEG-2 audio layer III.
    Mp3,
    /// AC-3 (Dolby Digital), ATSC A/52.
    Ac3,
    /// ITU-T G.711 by the A-law: 8 kHz, one channel.
    PcmA,
    /// ITU-T G.711 by the mu-law: 8 kHz, one channel.
    PcmU,
    /// ITU-T G.722 at 64 kbit/s: 16 kHz, one channel.
    G722,
}

impl Codec {
    /// True for codecs of pictures.
    pub const fn is_video(self) -> bool {
        matches!(self, Codec::H264 | Codec::H265 | Codec::H266 | Codec::Av1 | Codec::Vp8 | Codec::Vp9)
    }
    /// A short lower-case name for logs, metrics and the API.
    pub const fn name(self) -> &'static str {
        match self {
            Codec::H264 => "h264",
            Codec::H265 => "h265",
            Codec::H266 => "h266",
            Codec::Av1 => "av1",
            Codec::Vp8 => "vp8",
            Codec::Vp9 => "vp9",
            Codec::Aac => "aac",
            Codec::Opus => "opus",
            Codec::Mp3 => "mp3",
            Codec::Ac3 => "ac3",
            Codec::PcmA => "pcma",
            Codec::PcmU => "pcmu",
            Codec::G722 => "g722",
        }
    }
}

/// The parameters of a track, parsed from its decoder configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// The codec.
    pub codec: Codec,
    /// The configuration as MP4 and FLV carry it: `avcC`, `hvcC`, `vvcC`, `av1C` and `vpcC` contents (`vpcC` with its four
    /// bytes of version and flags, `vvcC` without: each as it comes by FLV), the AudioSpecificConfig of AAC, `OpusHead` of
    /// Opus (RFC 7845, with its magic), `dac3` contents; empty for MP3,
    /// G.711 and G.722.
    pub configuration: Bytes,
    /// Size of the picture or shape of the sound.
    pub shape: Shape,
    /// The codec string of RFC 6381 and of the codec's own binding: `avc1.64001f`, `hvc1.1.6.L93.B0`, `vvc1.1.L51.CQA`,
    /// `av01.0.04M.08`, `vp08.00.10.08`, `vp09.00.31.08`, `mp4a.40.2`, `opus`, `mp4a.6b`, `ac-3`; `alaw` and `ulaw` of the registry of WebCodecs, and `g722`,
    /// for which nobody has one.
    pub codec_string: String,
}

/// Size of the picture or shape of the sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A picture.
    Video {
        /// Luma samples across, after cropping. 0 when the configuration does not say (VP8, VP9).
        width: u32,
        /// Luma samples down, after cropping. 0 when the configuration does not say (VP8, VP9).
        height: u32,
    },
    /// Sound.
    Audio {
        /// Samples per second.
        sample_rate: u32,
        /// Channels.
        channels: u8,
        /// Samples per channel in one packet; 0 when it varies (Opus, G.711, G.722).
        packet_samples: u32,
    },
}

impl Parameters {
    /// From a track's decoder configuration, in the form that [`configuration`](Self::configuration) describes.
    ///
    /// ```
    /// use shardcast_engine::codec::{Codec, Parameters};
    ///
    /// # let avcc = [
    /// #     0x01, 0x64, 0x00, 0x1f, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40,
    /// #     0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc0,
    /// #     0xf1, 0x83, 0x19, 0x60, 0x01, 0x00, 0x06, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8,
    /// #     0xf8, 0x00
    /// # ];
    /// let parameters = Parameters::parse(Codec::H264, avcc.to_vec().into())?;
    /// assert_eq!(parameters.width_height(), Some((1280, 720)));
    /// assert_eq!(parameters.codec_string, "avc1.64001f");
    /// // The configuration says how long the length before each NAL unit is.
    /// assert!(parameters.is_key(&[0, 0, 0, 2, 0x65, 0x88]));
    /// # Ok::<(), shardcast_engine::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// The configuration is broken, too large or asks for something that is not supported; `at` counts from its start.
    pub fn parse(codec: Codec, configuration: Bytes) -> Result<Self, Error> {
        if configuration.len() > limits::CONFIGURATION_BYTES_MAX {
            return Err(Error::too_large("decoder configuration", limits::CONFIGURATION_BYTES_MAX as u64));
        }
        let (shape, codec_string) = match codec {
            Codec::Vp8 | Codec::Vp9 => return Self::parse_vp(codec, configuration),
            Codec::H266 => return Self::parse_h266(configuration),
            Codec::H264 => {
                let sps = h264::Configuration::parse(&configuration)?.sps;
                (Shape::Video { width: sps.width, height: sps.height }, sps.codec_string())
            }
            Codec::H265 => {
                let sps = h265::Configuration::parse(&configuration)?.sps;
                (Shape::Video { width: sps.width, height: sps.height }, sps.codec_string())
            }
            Codec::Av1 => {
                let config = av1::Configuration::parse(&configuration)?;
                let (width, height) =
                    config.sequence_header.as_ref().map_or((0, 0), |header| (header.width, header.height));
                (Shape::Video { width, height }, config.codec_string())
            }
            Codec::Aac => {
                let config = aac::AudioSpecificConfig::parse(&configuration)?;
                let shape = Shape::Audio {
                    sample_rate: config.sample_rate,
                    channels: config.channels,
                    packet_samples: config.packet_samples,
                };
                (shape, config.codec_string())
            }
            Codec::Opus => (Shape::of_opus(opus::Head::parse(&configuration)?.channels), "opus".to_owned()),
            Codec::Ac3 => {
                (Shape::of_ac3(ac3::Configuration::parse(&configuration)?), AC3_CODEC_STRING.to_owned())
            }
            Codec::Mp3 | Codec::PcmA | Codec::PcmU | Codec::G722 => {
                return Err(Error::unsupported("a decoder configuration of a codec that has none", 0));
            }
        };
        Ok(Parameters { codec, configuration, shape, codec_string })
    }

    fn parse_h266(configuration: Bytes) -> Result<Self, Error> {
        let added = configuration.len() - h266::without_version(&configuration).len();
        let configuration = configuration.slice(added..);
        // A place counts in what the publisher sent.
        let config = h266::Configuration::parse(&configuration).map_err(|error| error.after(added as u64))?;
        let shape = Shape::Video { width: config.sps.width, height: config.sps.height };
        let codec_string = config.profile.codec_string();
        Ok(Parameters { codec: Codec::H266, configuration, shape, codec_string })
    }

    fn parse_vp(codec: Codec, configuration: Bytes) -> Result<Self, Error> {
        let (configuration, added) = match vp9::with_version(&configuration) {
            Cow::Borrowed(_) => (configuration, 0),
            Cow::Owned(with_version) => (with_version.into(), vp9::VERSION_BYTES),
        };
        // A place counts in what the publisher sent.
        let config = vp9::Configuration::parse(&configuration)
            .map_err(|error| Error { at: error.at.saturating_sub(added), ..error })?;
        let codec_string = config.codec_string_of(codec);
        Ok(Parameters { codec, configuration, shape: Shape::Video { width: 0, height: 0 }, codec_string })
    }

    /// These parameters and what a key frame of the track adds to them, or `None` when that is nothing: the size of the
    /// picture where the configuration does not say it (VP8 and VP9 never do, AV1 need not), and with it VP9's level.
    ///
    /// ```
    /// use shardcast_engine::codec::{Codec, Parameters};
    ///
    /// # let vpcc = [0x01, 0x00, 0x00, 0x00, 0x00, 0x0b, 0x82, 0x02, 0x02, 0x02, 0x00, 0x00];
    /// # let key_frame = [
    /// #     0x82, 0x49, 0x83, 0x42, 0x00, 0x03, 0xf0, 0x03, 0xf6, 0x06, 0x38, 0x24, 0x1c, 0x18, 0x4a,
    /// #     0x00, 0x00, 0x20, 0x40, 0x00, 0x6b, 0x43, 0xff, 0xff, 0xe5, 0x5d, 0xbd, 0xb7, 0xfd, 0x2b,
    /// #     0x24, 0x85, 0x7a, 0xfb, 0xcd, 0xd3, 0xf2, 0xa0, 0x24, 0x72, 0x12, 0x33, 0x6e, 0x3f, 0x29,
    /// #     0xa4, 0x34, 0x94, 0x20, 0x11, 0x30, 0x51, 0xe3, 0x6e, 0x01, 0x0a, 0xff, 0xff, 0xad, 0x70,
    /// #     0x87, 0x2c, 0xa7, 0x69, 0x95, 0xda, 0x8e, 0x5c, 0x56, 0x5d, 0x69, 0x69, 0x35, 0x9d, 0x58,
    /// #     0x9b, 0x8e, 0xc9, 0x80, 0x77, 0x7a, 0x46, 0x7a, 0x3c, 0xe5, 0x3b, 0x4f, 0x9d, 0x97, 0x28,
    /// #     0x01, 0x38, 0x24, 0x80
    /// # ];
    /// let parameters = Parameters::parse(Codec::Vp9, vpcc.to_vec().into())?;
    /// assert_eq!(parameters.width_height(), None);
    /// let better = parameters.with_key_frame(&key_frame).expect("a key frame says the size");
    /// assert_eq!(better.width_height(), Some((64, 64)));
    /// # Ok::<(), shardcast_engine::error::Error>(())
    /// ```
    pub fn with_key_frame(&self, data: &[u8]) -> Option<Self> {
        let mut better = self.clone();
        let (width, height) = match self.codec {
            Codec::Vp9 => {
                let frame = vp9::KeyFrame::parse(data)?;
                let mut config = vp9::Configuration::parse(&self.configuration).ok()?;
                if config.level == 0 {
                    config.level = frame.level();
                    better.codec_string = config.codec_string();
                }
                (frame.width, frame.height)
            }
            Codec::Vp8 => {
                let frame = vp8::KeyFrame::parse(data)?;
                (frame.width, frame.height)
            }
            Codec::Av1 if self.width_height().is_none() => {
                let header = av1::sequence_header(data).ok().flatten()?;
                better.codec_string = header.codec_string();
                (header.width, header.height)
            }
            _ => return None,
        };
        if width > limits::PICTURE_SIDE_MAX || height > limits::PICTURE_SIDE_MAX {
            return None;
        }
        better.shape = Shape::Video { width, height };
        (better != *self).then_some(better)
    }

    /// From a key frame of VP8, VP9 or AV1, whose publisher sent no configuration: their key frames say all. `None` for other
    /// codecs, and for what is no key frame.
    ///
    /// ```
    /// use shardcast_engine::codec::{Codec, Parameters};
    ///
    /// # let frame = [0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x00, 0x00];
    /// let parameters = Parameters::of_key_frame(Codec::Vp8, &frame).expect("a key frame");
    /// assert_eq!(parameters.width_height(), Some((320, 180)));
    /// // What a player is told of it.
    /// assert_eq!(parameters.codec_string, "vp08.00.10.08");
    /// ```
    pub fn of_key_frame(codec: Codec, data: &[u8]) -> Option<Self> {
        let configuration: Bytes = match codec {
            Codec::Vp8 => Bytes::copy_from_slice(&vp8::KeyFrame::parse(data)?.configuration()),
            Codec::Vp9 => Bytes::copy_from_slice(&vp9::KeyFrame::parse(data)?.configuration()),
            Codec::Av1 => av1::configuration_of(data)?.into(),
            _ => return None,
        };
        let parameters = Parameters::parse(codec, configuration).ok()?;
        let parameters = parameters.with_key_frame(data).unwrap_or(parameters);
        parameters.width_height().is_some().then_some(parameters)
    }

    /// From the first frame of an MP3 track.
    ///
    /// ```
    /// use shardcast_engine::codec::{Parameters, Shape};
    ///
    /// let parameters = Parameters::from_mp3_frame(&[0xff, 0xfb, 0x94, 0x00])?;
    /// assert_eq!(parameters.shape, Shape::Audio { sample_rate: 48_000, channels: 2, packet_samples: 1152 });
    /// # Ok::<(), shardcast_engine::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// It does not begin with a header of layer III.
    pub fn from_mp3_frame(frame: &[u8]) -> Result<Self, Error> {
        let header = mp3::Header::parse(frame)?;
        Ok(Parameters {
            codec: Codec::Mp3,
            configuration: Bytes::new(),
            shape: Shape::Audio {
                sample_rate: header.sample_rate,
                channels: header.channels,
                packet_samples: header.frame_samples,
            },
            codec_string: header.codec_string().to_owned(),
        })
    }

    /// From the first frame of an AC-3 track.
    ///
    /// ```
    /// use shardcast_engine::codec::{Parameters, Shape};
    ///
    /// let parameters = Parameters::from_ac3_frame(&[0x0b, 0x77, 0xfe, 0x95, 0x14, 0x40, 0x43, 0xe1])?;
    /// assert_eq!(parameters.shape, Shape::Audio { sample_rate: 48_000, channels: 2, packet_samples: 1536 });
    /// // What MP4 has in `dac3`; the stream itself needs it nowhere.
    /// assert_eq!((parameters.codec_string.as_str(), parameters.configuration.len()), ("ac-3", 3));
    /// # Ok::<(), shardcast_engine::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// It does not begin with the head of such a frame.
    pub fn from_ac3_frame(frame: &[u8]) -> Result<Self, Error> {
        let configuration = ac3::Header::parse(frame)?.configuration;
        Ok(Parameters {
            codec: Codec::Ac3,
            configuration: Bytes::copy_from_slice(&configuration.bytes()),
            shape: Shape::of_ac3(configuration),
            codec_string: AC3_CODEC_STRING.to_owned(),
        })
    }

    /// For a track of a codec of which all is known by its name, G.711 or G.722; `None` for any other.
    ///
    /// ```
    /// use shardcast_engine::codec::{Codec, Parameters, Shape};
    ///
    /// let parameters = Parameters::of_voice(Codec::PcmA).expect("it is G.711");
    /// assert_eq!(parameters.shape, Shape::Audio { sample_rate: 8_000, channels: 1, packet_samples: 0 });
    /// assert!(parameters.configuration.is_empty() && Parameters::of_voice(Codec::Aac).is_none());
    /// ```
    pub fn of_voice(codec: Codec) -> Option<Self> {
        let is_voice = matches!(codec, Codec::PcmA | Codec::PcmU | Codec::G722);
        is_voice.then(|| Parameters {
            codec,
            configuration: Bytes::new(),
            shape: Shape::of_voice(codec),
            codec_string: voice_codec_string(codec).to_owned(),
        })
    }

    /// For an Opus track whose publisher sent no `OpusHead`: the one [`opus::head_of`] makes.
    ///
    /// ```
    /// use shardcast_engine::codec::{Parameters, Shape};
    ///
    /// let shape = Shape::Audio { sample_rate: 48_000, channels: 2, packet_samples: 0 };
    /// assert_eq!(Parameters::of_opus(2).shape, shape);
    /// ```
    pub fn of_opus(channels: u8) -> Self {
        Parameters {
            codec: Codec::Opus,
            configuration: opus::head_of(channels).into(),
            shape: Shape::of_opus(channels.max(1)),
            codec_string: "opus".to_owned(),
        }
    }

    /// Width and height in luma samples; `None` for sound and where the configuration does not say.
    pub fn width_height(&self) -> Option<(u32, u32)> {
        match self.shape {
            Shape::Video { width, height } if width > 0 && height > 0 => Some((width, height)),
            Shape::Video { .. } | Shape::Audio { .. } => None,
        }
    }

    /// Size of the length before each NAL unit of this track's frames; four bytes for codecs that have none.
    pub fn nal_length_size(&self) -> LengthSize {
        nal_length_size(self.codec, &self.configuration).unwrap_or_default()
    }

    /// [`is_key`] for a frame of this track.
    pub fn is_key(&self, data: &[u8]) -> bool {
        is_key(self.codec, self.nal_length_size(), data)
    }
}

impl Shape {
    const fn of_opus(channels: u8) -> Self {
        Shape::Audio { sample_rate: opus::SAMPLE_RATE, channels, packet_samples: 0 }
    }

    /// Of G.711 and G.722. (RFC 3551, 4.5.14 and 4.5.2)
    const fn of_voice(codec: Codec) -> Self {
        let sample_rate = if matches!(codec, Codec::G722) { 16_000 } else { 8_000 };
        Shape::Audio { sample_rate, channels: 1, packet_samples: 0 }
    }

    fn of_ac3(configuration: ac3::Configuration) -> Self {
        Shape::Audio {
            sample_rate: configuration.sample_rate(),
            channels: configuration.channels(),
            packet_samples: ac3::FRAME_SAMPLES,
        }
    }
}

/// ETSI TS 102 366, F.3, and RFC 6381.
const AC3_CODEC_STRING: &str = "ac-3";

const fn voice_codec_string(codec: Codec) -> &'static str {
    match codec {
        Codec::PcmA => "alaw",
        Codec::PcmU => "ulaw",
        codec => codec.name(),
    }
}

/// Size of the length before each NAL unit of frames that have this configuration; `None` for codecs without NAL units. A
/// configuration that does not say it, or says three, counts as four.
///
/// ```
/// use shardcast_engine::codec::{Codec, nal::LengthSize, nal_length_size};
///
/// assert_eq!(nal_length_size(Codec::H264, &[1, 100, 0, 31, 0xfd]), Some(LengthSize::Two));
/// assert_eq!(nal_length_size(Codec::Vp9, &[]), None);
/// ```
pub fn nal_length_size(codec: Codec, configuration: &[u8]) -> Option<LengthSize> {
    let (place, shift) = match codec {
        Codec::H264 => (4, 0),
        Codec::H265 => (21, 0),
        Codec::H266 => (0, 1),
        _ => return None,
    };
    let said = configuration.get(place).and_then(|byte| LengthSize::from_minus_one(byte >> shift));
    Some(said.unwrap_or_default())
}

/// True when a decoder can begin at this access unit, judged by its own bits and not by what a container says of it.
/// Broken data is no key frame. Every packet of sound is one.
///
/// ```
/// use shardcast_engine::codec::{Codec, is_key, nal::LengthSize};
///
/// assert!(is_key(Codec::H264, LengthSize::Four, &[0, 0, 0, 2, 0x65, 0x88]));
/// assert!(!is_key(Codec::H264, LengthSize::Four, &[0, 0, 0, 2, 0x41, 0x9a]));
/// ```
pub fn is_key(codec: Codec, length_size: LengthSize, data: &[u8]) -> bool {
    match codec {
        Codec::H264 => h264::is_idr(data, length_size),
        Codec::H265 => h265::is_random_access_point(data, length_size),
        Codec::H266 => h266::is_random_access_point(data, length_size),
        Codec::Av1 => av1::is_key(data),
        Codec::Vp8 => vp8::KeyFrame::parse(data).is_some(),
        Codec::Vp9 => vp9::KeyFrame::parse(data).is_some(),
        Codec::Aac | Codec::Opus | Codec::Mp3 | Codec::Ac3 | Codec::PcmA | Codec::PcmU | Codec::G722 => true,
    }
}

/// How samples are to be understood as colours, in the code points of ITU-T H.273 (CICP), which H.264, HEVC, AV1 and VP9
/// share. 2 means that nobody said.
///
/// ```
/// use shardcast_engine::codec::{Colour, vp9::Configuration};
///
/// # let vpcc = [0x01, 0x00, 0x00, 0x00, 0x00, 0x0b, 0xa2, 0x09, 0x10, 0x09, 0x00, 0x00];
/// // BT.2020 with the transfer function of HDR10.
/// let hdr = Configuration::parse(&vpcc)?;
/// assert_eq!(hdr.colour, Colour { primaries: 9, transfer: 16, matrix: 9, full_range: false });
/// assert_eq!(hdr.codec_string(), "vp09.00.11.10.01.09.16.09.00");
/// // What is not said is 2 each.
/// assert_eq!(Colour::default().primaries, 2);
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour {
    /// Colour primaries.
    pub primaries: u8,
    /// Transfer characteristics.
    pub transfer: u8,
    /// Matrix coefficients.
    pub matrix: u8,
    /// Samples use their whole range, as in JPEG.
    pub full_range: bool,
}

impl Default for Colour {
    fn default() -> Self {
        Colour { primaries: 2, transfer: 2, matrix: 2, full_range: false }
    }
}

impl Colour {
    /// True when these are the colours that codec strings imply when they name none.
    pub(crate) fn is_bt709_or_unsaid(self) -> bool {
        !self.full_range
            && [self.primaries, self.transfer, self.matrix].iter().all(|point| matches!(point, 1 | 2))
    }
}

/// Frames per second as a fraction in lowest terms, `30000/1001`.
///
/// ```
/// use shardcast_engine::codec::FrameRate;
///
/// assert_eq!(FrameRate::new(60_000, 2002), Some(FrameRate { numerator: 30_000, denominator: 1001 }));
/// assert_eq!(FrameRate::new(25, 0), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRate {
    /// Frames in [`denominator`](Self::denominator) seconds; not 0.
    pub numerator: u32,
    /// Seconds; not 0.
    pub denominator: u32,
}

impl FrameRate {
    /// The fraction in lowest terms; `None` when a part is 0 or has no room.
    pub fn new(numerator: u64, denominator: u64) -> Option<Self> {
        let (mut divisor, mut rest) = (numerator, denominator);
        while rest != 0 {
            (divisor, rest) = (rest, divisor % rest);
        }
        let numerator = u32::try_from(numerator.checked_div(divisor)?).ok()?;
        let denominator = u32::try_from(denominator.checked_div(divisor)?).ok()?;
        (numerator > 0 && denominator > 0).then_some(FrameRate { numerator, denominator })
    }
}
