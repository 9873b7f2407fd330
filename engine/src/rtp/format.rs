//! Payload formats: what a session's description (SDP) says of a track, both ways. (RFC 6184, 7798, 7741,
//! 9628, 3640, 7587, 3551; AOM "RTP Payload Format For AV1")

use base64::{Engine as _, alphabet, engine};
use bytes::Bytes;

use crate::{
    bits::BitReader,
    codec::{Codec, Parameters, Shape, av1, h264, h265, vp9},
};

/// Ticks per second of pictures and of MPEG audio. (RFC 3551, 6)
pub const VIDEO_RATE: u32 = 90_000;
/// Ticks per second of G.711, and of G.722 too, which has twice as many samples: an error of RFC 1890 that stayed. A byte lasts
/// one. (RFC 3551, 4.5.2)
pub const VOICE_RATE: u32 = 8_000;
/// Payload types that need no description. (RFC 3551, table 4)
pub const PCMU: u8 = 0;
/// See [`PCMU`].
pub const PCMA: u8 = 8;
/// See [`PCMU`].
pub const G722: u8 = 9;
/// MPEG audio, see [`PCMU`].
pub const MPA: u8 = 14;

/// How a track comes in packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// The number that its packets bear.
    pub payload_type: u8,
    /// Ticks per second of their timestamps. Not 0.
    pub clock_rate: u32,
    /// What is in them.
    pub coding: Coding,
}

/// What is in the packets of a track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coding {
    /// H.264, with the parameter sets that the description has (NAL units).
    H264(Vec<Vec<u8>>),
    /// HEVC, likewise.
    H265(Vec<Vec<u8>>),
    /// VP8, VP9 or AV1: all that a decoder needs is in the packets.
    Frames(Codec),
    /// AAC, behind headers whose fields have these widths in bits.
    Aac {
        /// AudioSpecificConfig.
        configuration: Bytes,
        /// Of the size of an access unit.
        size_bits: u8,
        /// Of the index of the first.
        index_bits: u8,
        /// Of the index of the others, as the difference to the one before.
        delta_bits: u8,
    },
    /// AAC, behind its length alone, as GStreamer sends it unless told otherwise. (RFC 6416)
    Latm {
        /// AudioSpecificConfig.
        configuration: Bytes,
    },
    /// Opus.
    Opus {
        /// What the sender says of its channels.
        stereo: bool,
    },
    /// MPEG audio of layer III.
    Mp3,
    /// G.711 or G.722: which of them, see [`Parameters::of_voice`].
    Voice(Codec),
}

impl Coding {
    /// True for pictures.
    pub fn is_video(&self) -> bool {
        matches!(self, Coding::H264(_) | Coding::H265(_) | Coding::Frames(_))
    }
}

/// A track as a description tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The number that its packets bear.
    pub payload_type: u8,
    /// Ticks per second of their timestamps.
    pub clock_rate: u32,
    /// What `a=rtpmap` says behind the number: `H264/90000`.
    pub mapping: String,
    /// What `a=fmtp` says behind the number; empty when there is nothing to say.
    pub parameters: String,
}

/// Describes a track by its parameters, whose packets bear `payload_type` unless they have one of their own. `None` for what
/// no payload format here can carry.
///
/// ```
/// use shardcast_engine::{codec::Parameters, rtp::format::describe};
///
/// let description = describe(&Parameters::of_opus(2), 97).expect("there is a payload format");
/// assert_eq!((description.mapping.as_str(), description.parameters.as_str()), ("opus/48000/2", "sprop-stereo=1"));
/// ```
pub fn describe(parameters: &Parameters, payload_type: u8) -> Option<Description> {
    let (payload_type, clock_rate) = numbers(parameters, payload_type)?;
    let configuration = &parameters.configuration[..];
    let (name, text) = match (parameters.codec, parameters.shape) {
        (Codec::H264, _) => {
            let config = h264::Configuration::parse(configuration).ok()?;
            let sets = config.sequence_parameter_sets.iter().chain(&config.picture_parameter_sets);
            let sets: Vec<String> = sets.map(|set| BASE64.encode(set)).collect();
            let h264::Sps { profile, constraints, level, .. } = config.sps;
            let text = format!(
                "packetization-mode=1; profile-level-id={profile:02X}{constraints:02X}{level:02X}; sprop-parameter-sets={}",
                sets.join(",")
            );
            ("H264", text)
        }
        (Codec::H265, _) => {
            let config = h265::Configuration::parse(configuration).ok()?;
            let of_kind = |kind: u8| {
                let sets = config.parameter_sets.iter().filter(|set| h265::unit_type(set) == Some(kind));
                sets.map(|set| BASE64.encode(set)).collect::<Vec<_>>().join(",")
            };
            let text =
                format!("sprop-vps={}; sprop-sps={}; sprop-pps={}", of_kind(32), of_kind(33), of_kind(34));
            ("H265", text)
        }
        (Codec::Vp9, _) => {
            let vp9::Configuration { profile, .. } = vp9::Configuration::parse(configuration).ok()?;
            ("VP9", format!("profile-id={profile}"))
        }
        (Codec::Av1, _) => {
            let av1::Configuration { profile, level, high_tier, .. } =
                av1::Configuration::parse(configuration).ok()?;
            ("AV1", format!("profile={profile}; level-idx={level}; tier={}", u8::from(high_tier)))
        }
        (Codec::Aac, _) => {
            let hex: String = configuration.iter().map(|byte| format!("{byte:02X}")).collect();
            let text = format!(
                "streamtype=5; profile-level-id=1; mode=AAC-hbr; sizelength={SIZE_BITS}; indexlength={INDEX_BITS}; \
                 indexdeltalength={INDEX_BITS}; config={hex}"
            );
            ("MPEG4-GENERIC", text)
        }
        (Codec::Opus, Shape::Audio { channels, .. }) => {
            ("opus", format!("sprop-stereo={}", u8::from(channels == 2)))
        }
        (Codec::Vp8, _) => ("VP8", String::new()),
        (Codec::Mp3, _) => ("MPA", String::new()),
        (Codec::PcmA, _) => ("PCMA", String::new()),
        (Codec::PcmU, _) => ("PCMU", String::new()),
        (Codec::G722, _) => ("G722", String::new()),
        _ => return None,
    };
    let channels = match (parameters.codec, parameters.shape) {
        (Codec::Aac, Shape::Audio { channels, .. }) => format!("/{channels}"),
        // Two channels stand there whatever they are. (RFC 7587, 7)
        (Codec::Opus, _) => "/2".to_owned(),
        _ => String::new(),
    };
    let mapping = format!("{name}/{clock_rate}{channels}");
    Some(Description { payload_type, clock_rate, mapping, parameters: text })
}

/// The number that packets of a track bear, `payload_type` unless they have one of their own, and how many ticks a second their
/// timestamps have. `None` for what no payload format here can carry.
pub(super) fn numbers(parameters: &Parameters, payload_type: u8) -> Option<(u8, u32)> {
    Some(match (parameters.codec, parameters.shape) {
        (Codec::H264 | Codec::H265 | Codec::Vp8 | Codec::Vp9 | Codec::Av1, _) => (payload_type, VIDEO_RATE),
        (Codec::Aac, Shape::Audio { sample_rate, .. }) => (payload_type, sample_rate),
        // One stream holds no more than two channels. (RFC 7587, 7)
        (Codec::Opus, Shape::Audio { sample_rate, channels: 1..=2, .. }) => (payload_type, sample_rate),
        (Codec::Mp3, _) => (MPA, VIDEO_RATE),
        (Codec::PcmA, _) => (PCMA, VOICE_RATE),
        (Codec::PcmU, _) => (PCMU, VOICE_RATE),
        (Codec::G722, _) => (G722, VOICE_RATE),
        _ => return None,
    })
}

/// Bits of a size and of an index in the header of each access unit. (RFC 3640, 3.3.6)
pub(super) const SIZE_BITS: u8 = 13;
pub(super) const INDEX_BITS: u8 = 3;

impl Format {
    /// From what a description says of `payload_type`: its `a=rtpmap`, which may be left out where the number alone says it (G.711,
    /// G.722, MPEG audio), and its `a=fmtp`, each without the number. `None` for what is not known here, or lacks what a decoder needs.
    ///
    /// ```
    /// use shardcast_engine::rtp::format::{Coding, Format};
    ///
    /// let format = Format::read(96, Some("opus/48000/2"), "sprop-stereo=1; useinbandfec=0").expect("it is Opus");
    /// assert_eq!((format.clock_rate, format.coding), (48_000, Coding::Opus { stereo: true }));
    /// assert!(Format::read(96, Some("theora/90000"), "").is_none());
    /// ```
    pub fn read(payload_type: u8, mapping: Option<&str>, parameters: &str) -> Option<Self> {
        let mapping = match (mapping, payload_type) {
            (Some(mapping), _) => mapping,
            (None, PCMU) => "PCMU/8000",
            (None, PCMA) => "PCMA/8000",
            (None, G722) => "G722/8000",
            (None, MPA) => "MPA/90000",
            (None, _) => return None,
        };
        let mut parts = mapping.trim().split('/');
        let name = parts.next()?.to_ascii_uppercase();
        let clock_rate: u32 = parts.next()?.trim().parse().ok().filter(|rate| CLOCK_RATES.contains(rate))?;
        let parameter = |name: &str| {
            parameters.split(';').find_map(|parameter| {
                let (key, value) = parameter.split_once('=')?;
                key.trim().eq_ignore_ascii_case(name).then_some(value.trim())
            })
        };
        let sets = |names: &[&str]| -> Vec<Vec<u8>> {
            let texts = names.iter().filter_map(|name| parameter(name)).flat_map(|text| text.split(','));
            texts.filter_map(|text| BASE64.decode(text.trim()).ok()).collect()
        };
        let coding = match name.as_str() {
            "H264" => Coding::H264(sets(&["sprop-parameter-sets"])),
            "H265" => Coding::H265(sets(&["sprop-vps", "sprop-sps", "sprop-pps"])),
            "VP8" => Coding::Frames(Codec::Vp8),
            "VP9" => Coding::Frames(Codec::Vp9),
            "AV1" => Coding::Frames(Codec::Av1),
            "MPEG4-GENERIC" => {
                let bits = |name| {
                    parameter(name).map_or(Some(0), |text| text.parse().ok()).filter(|bits| *bits <= 32)
                };
                Coding::Aac {
                    configuration: from_hex(parameter("config")?)?,
                    size_bits: bits("sizelength").filter(|bits| *bits > 0)?,
                    index_bits: bits("indexlength")?,
                    delta_bits: bits("indexdeltalength")?,
                }
            }
            // What says in each packet again what is in it is nobody's.
            "MP4A-LATM" if parameter("cpresent") == Some("0") => {
                Coding::Latm { configuration: of_stream_mux(&from_hex(parameter("config")?)?)? }
            }
            "OPUS" => Coding::Opus { stereo: parameter("sprop-stereo") == Some("1") },
            "MPA" => Coding::Mp3,
            // What some send at other rates, or of two channels, nothing else here has a form for.
            "PCMA" | "PCMU" | "G722"
                if clock_rate == VOICE_RATE && parts.next().is_none_or(|channels| channels.trim() == "1") =>
            {
                Coding::Voice(match name.as_str() {
                    "PCMA" => Codec::PcmA,
                    "PCMU" => Codec::PcmU,
                    _ => Codec::G722,
                })
            }
            _ => return None,
        };
        Some(Format { payload_type, clock_rate, coding })
    }
}

/// Whatever a sender may mean by a clock.
const CLOCK_RATES: std::ops::RangeInclusive<u32> = 1_000..=1_000_000;

/// The AudioSpecificConfig in a StreamMuxConfig of one programme and layer. (ISO/IEC 14496-3, 1.7.3)
fn of_stream_mux(bytes: &[u8]) -> Option<Bytes> {
    const HEAD_BITS: usize = 15;
    const RATE_FOLLOWS: u64 = 15;
    let mut reader = BitReader::new(bytes);
    let (version, same_framing) = (reader.bit("audioMuxVersion").ok()?, reader.bit("framing").ok()?);
    reader.skip(6, "numSubFrames").ok()?;
    let (programs, layers) = (reader.bits(4, "numProgram").ok()?, reader.bits(3, "numLayer").ok()?);
    if version || !same_framing || programs > 0 || layers > 0 {
        return None;
    }
    let rate = |reader: &mut BitReader<'_>| {
        let index = reader.bits(4, "samplingFrequencyIndex").ok()?;
        reader.skip(if index == RATE_FOLLOWS { 24 } else { 0 }, "samplingFrequency").ok()
    };
    let kind = reader.bits(5, "audioObjectType").ok()?;
    rate(&mut reader)?;
    reader.skip(4, "channelConfiguration").ok()?;
    // Spectral band replication and parametric stereo, announced.
    if matches!(kind, 5 | 29) {
        rate(&mut reader)?;
        reader.skip(5, "audioObjectType").ok()?;
    }
    reader.skip(3, "GASpecificConfig").ok()?;
    let bits = reader.position() - HEAD_BITS;
    let mut reader = BitReader::new(bytes);
    reader.skip(HEAD_BITS, "head of StreamMuxConfig").ok()?;
    let mut config = Vec::new();
    for place in (0..bits).step_by(8) {
        let count = (bits - place).min(8);
        let byte = reader.bits(count as u32, "AudioSpecificConfig").ok()?;
        config.push((byte << (8 - count)) as u8);
    }
    Some(config.into())
}

/// Some leave the padding out.
const BASE64: engine::GeneralPurpose = engine::GeneralPurpose::new(
    &alphabet::STANDARD,
    engine::GeneralPurposeConfig::new().with_decode_padding_mode(engine::DecodePaddingMode::Indifferent),
);

fn from_hex(text: &str) -> Option<Bytes> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| !digits.is_empty() && digits.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::samples::{self, hex};

    fn parameters(codec: Codec, configuration: &str) -> Parameters {
        Parameters::parse(codec, hex(configuration).into()).unwrap()
    }

    #[test]
    fn a_track_is_described_as_ffmpeg_does_and_read_back() {
        let video = parameters(Codec::H264, samples::H264_HIGH_720);
        let description = describe(&video, 96).unwrap();
        assert_eq!(description.mapping, "H264/90000");
        assert!(
            description.parameters.starts_with("packetization-mode=1; profile-level-id=64001F; sprop-parameter-sets=Z2QAH6zZQFAFuwEQAAADABAAAAMDwPGDGWA=,aOvjyyLA"),
            "{}", description.parameters
        );
        let format = Format::read(96, Some(&description.mapping), &description.parameters).unwrap();
        let config = h264::Configuration::parse(&video.configuration).unwrap();
        let sets = [config.sequence_parameter_sets[0].to_vec(), config.picture_parameter_sets[0].to_vec()];
        assert_eq!(
            format,
            Format { payload_type: 96, clock_rate: 90_000, coding: Coding::H264(sets.into()) }
        );

        let description = describe(&parameters(Codec::H265, samples::H265_MAIN_720), 96).unwrap();
        let format = Format::read(96, Some(&description.mapping), &description.parameters).unwrap();
        let Coding::H265(sets) = format.coding else { panic!("{format:?}") };
        assert_eq!(
            sets.iter().map(|set| h265::unit_type(set)).collect::<Vec<_>>(),
            [Some(32), Some(33), Some(34)]
        );

        let sound = Parameters::parse(Codec::Aac, Bytes::from_static(&[0x12, 0x10])).unwrap();
        let description = describe(&sound, 97).unwrap();
        assert_eq!((description.mapping.as_str(), description.clock_rate), ("MPEG4-GENERIC/44100/2", 44_100));
        let format = Format::read(97, Some(&description.mapping), &description.parameters).unwrap();
        let configuration = Bytes::from_static(&[0x12, 0x10]);
        assert_eq!(format.coding, Coding::Aac { configuration, size_bits: 13, index_bits: 3, delta_bits: 3 });

        assert!(describe(&Parameters::of_opus(6), 97).is_none());
        let mono = describe(&Parameters::of_opus(1), 97).unwrap();
        let format = Format::read(97, Some(&mono.mapping), &mono.parameters).unwrap();
        assert_eq!(format.coding, Coding::Opus { stereo: false });
    }

    #[test]
    fn what_senders_leave_out_or_write_in_their_own_way_is_understood() {
        // Of GStreamer's rtpmp4apay: AAC-LC of 44.1 kHz, stereo.
        let latm = Format::read(97, Some("MP4A-LATM/44100"), "cpresent=0;config=40002420").unwrap();
        let configuration = Bytes::from_static(&[0x12, 0x10]);
        assert_eq!(latm.coding, Coding::Latm { configuration });
        assert!(Format::read(97, Some("MP4A-LATM/44100"), "cpresent=1;config=40002420").is_none());
        assert_eq!(Format::read(14, None, "").unwrap().coding, Coding::Mp3);
        assert!(Format::read(96, None, "").is_none());
        let unpadded =
            Format::read(96, Some("h264/90000"), " Sprop-Parameter-Sets = Z2QAHw,!!, aO4").unwrap();
        assert_eq!(unpadded.coding, Coding::H264(vec![vec![0x67, 0x64, 0, 0x1f], vec![0x68, 0xee]]));
        for (mapping, parameters) in [
            ("H264/0", ""),
            ("H264/x", ""),
            ("H264", ""),
            ("mpeg4-generic/48000", "sizelength=13"),
            ("mpeg4-generic/48000", "config=119;sizelength=13"),
            ("mpeg4-generic/48000", "config=1190"),
            ("mpeg4-generic/48000", "config=1190;sizelength=99"),
            ("VP10/90000", ""),
            ("PCMA/16000", ""),
            ("PCMU/8000/2", ""),
            ("G722/16000", ""),
        ] {
            assert!(Format::read(96, Some(mapping), parameters).is_none(), "{mapping} {parameters}");
        }
    }

    #[test]
    fn pictures_that_say_all_in_their_packets_are_described_by_little() {
        for (codec, key, mapping, text) in [
            (Codec::Vp8, samples::VP8_KEY, "VP8/90000", ""),
            (Codec::Vp9, samples::VP9_KEY, "VP9/90000", "profile-id=0"),
            (Codec::Av1, samples::AV1_KEY, "AV1/90000", "profile=0; level-idx=0; tier=0"),
        ] {
            let parameters = Parameters::of_key_frame(codec, &hex(key)).unwrap();
            let description = describe(&parameters, 96).unwrap();
            assert_eq!((&*description.mapping, &*description.parameters), (mapping, text));
            let format = Format { payload_type: 96, clock_rate: 90_000, coding: Coding::Frames(codec) };
            assert_eq!(Format::read(96, Some(mapping), text), Some(format));
        }
    }

    #[test]
    fn sound_of_telephones_needs_no_word_but_its_number() {
        for (codec, number, mapping) in
            [(Codec::PcmU, 0, "PCMU/8000"), (Codec::PcmA, 8, "PCMA/8000"), (Codec::G722, 9, "G722/8000")]
        {
            let description = describe(&Parameters::of_voice(codec).unwrap(), 97).unwrap();
            assert_eq!((description.payload_type, &*description.mapping), (number, mapping));
            let format = Format { payload_type: number, clock_rate: 8_000, coding: Coding::Voice(codec) };
            assert_eq!(Format::read(number, None, ""), Some(format.clone()));
            let dynamic = Format::read(98, Some(&format!("{}/1", mapping.to_lowercase())), "");
            assert_eq!(dynamic, Some(Format { payload_type: 98, ..format }));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(
            name in "(H264|H265|VP8|VP9|AV1|mpeg4-generic|MP4A-LATM|opus|MPA|PCMA|PCMU|G722)?",
            rest in ".{0,12}",
            parameters in "([a-z-]{0,12}=[A-Za-z0-9+/=]{0,9};?){0,5}.{0,20}",
        ) {
            let _ = Format::read(96, Some(&format!("{name}/{rest}")), &parameters);
        }
    }
}
