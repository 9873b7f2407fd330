//! AAC: the AudioSpecificConfig. (ISO/IEC 14496-3, 1.6)

use crate::{bits::BitReader, error::Error};

/// What an AudioSpecificConfig says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioSpecificConfig {
    /// The audio object type that stands first, which is what RFC 6381 names: 5 and 29 when spectral band replication
    /// and parametric stereo are announced there.
    pub announced_type: u8,
    /// The audio object type of the core coder: 2 is AAC-LC.
    pub object_type: u8,
    /// Samples per second of the core coder.
    pub core_sample_rate: u32,
    /// Samples per second of the sound that comes out.
    pub sample_rate: u32,
    /// `channelConfiguration`: 0 when a program config element tells the channels.
    pub channel_configuration: u8,
    /// Channels of the sound that comes out.
    pub channels: u8,
    /// Samples per channel that one packet makes, at [`sample_rate`](Self::sample_rate).
    pub packet_samples: u32,
    /// What is known of spectral band replication. A stream that says nothing may still carry it, and the decoder finds
    /// out (implicit signalling); its times are right either way, at the core's rate.
    pub spectral_band_replication: Option<bool>,
    /// What is known of parametric stereo.
    pub parametric_stereo: Option<bool>,
}

impl AudioSpecificConfig {
    /// Parses the configuration.
    ///
    /// ```
    /// use shardcast_engine::codec::aac::AudioSpecificConfig;
    ///
    /// let config = AudioSpecificConfig::parse(&[0x11, 0x90, 0x56, 0xe5, 0x00])?;
    /// assert_eq!((config.sample_rate, config.channels, config.packet_samples), (48_000, 2, 1024));
    /// assert_eq!(config.codec_string(), "mp4a.40.2");
    /// # Ok::<(), shardcast_engine::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// It is cut short, breaks a rule, or belongs to an object type whose sound is not AAC.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = BitReader::new(bytes);
        let announced_type = object_type(&mut reader)?;
        let core_sample_rate = sample_rate(&mut reader)?;
        let channel_configuration = reader.bits(4, "channelConfiguration")? as u8;
        let mut extension = Extension::default();
        let mut object_type = announced_type;
        if matches!(announced_type, TYPE_SBR | TYPE_PS) {
            extension.spectral_band_replication = Some(true);
            extension.parametric_stereo = (announced_type == TYPE_PS).then_some(true);
            extension.sample_rate = Some(sample_rate(&mut reader)?);
            object_type = self::object_type(&mut reader)?;
            if object_type == TYPE_BSAC {
                reader.skip(4, "extensionChannelConfiguration")?;
            }
        }

        let core = Core::parse(&mut reader, object_type, channel_configuration)?;
        if matches!(object_type, 17 | 19..=23) && reader.bits(2, "epConfig")? > 1 {
            return Err(Error::unsupported("AAC with error protection", (reader.position() / 8) as u64));
        }
        if extension.spectral_band_replication.is_none() && object_type != TYPE_ENHANCED_LOW_DELAY {
            // What follows the core's configuration was added in a way that old decoders skip. Whatever does not read
            // as such an extension is padding, and no error.
            extension = Extension::parse_compatible(&mut reader).unwrap_or_default();
        }

        let sample_rate = extension.sample_rate.unwrap_or(core_sample_rate);
        let packet_samples = match sample_rate {
            rate if rate == core_sample_rate => core.frame_samples,
            rate if Some(rate) == core_sample_rate.checked_mul(2) => core.frame_samples * 2,
            _ => return Err(reader.malformed("SBR's sample rate is neither the core's nor twice that")),
        };
        let stereo_of_mono = extension.parametric_stereo == Some(true) && core.channels == 1;
        Ok(AudioSpecificConfig {
            announced_type,
            object_type,
            core_sample_rate,
            sample_rate,
            channel_configuration,
            channels: if stereo_of_mono { 2 } else { core.channels },
            packet_samples,
            spectral_band_replication: extension.spectral_band_replication,
            parametric_stereo: extension.parametric_stereo,
        })
    }

    /// `mp4a.40.` and the announced object type. (RFC 6381, 3.3)
    pub fn codec_string(&self) -> String {
        format!("mp4a.40.{}", self.announced_type)
    }
}

const TYPE_SBR: u8 = 5;
const TYPE_SCALABLE: u8 = 6;
const TYPE_ER_SCALABLE: u8 = 20;
const TYPE_BSAC: u8 = 22;
const TYPE_LOW_DELAY: u8 = 23;
const TYPE_PS: u8 = 29;
const TYPE_ENHANCED_LOW_DELAY: u8 = 39;

/// `GetAudioObjectType`: five bits, or 31 and six bits more. (table 1.16)
fn object_type(reader: &mut BitReader<'_>) -> Result<u8, Error> {
    const ESCAPE: u64 = 31;
    let short = reader.bits(5, "audioObjectType")?;
    let kind = if short == ESCAPE { 32 + reader.bits(6, "audioObjectTypeExt")? } else { short };
    Ok(kind as u8)
}

/// A rate from the table of 1.6.3.4, or index 15 and the rate itself.
fn sample_rate(reader: &mut BitReader<'_>) -> Result<u32, Error> {
    const RATES: [u32; 13] =
        [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350];
    const ESCAPE: usize = 15;
    let index = reader.bits(4, "samplingFrequencyIndex")? as usize;
    let rate = match index {
        ESCAPE => reader.bits(24, "samplingFrequency")? as u32,
        _ => RATES.get(index).copied().unwrap_or(0),
    };
    if rate == 0 { Err(reader.malformed("samplingFrequency")) } else { Ok(rate) }
}

/// What the part of the configuration that belongs to the object type says.
struct Core {
    frame_samples: u32,
    channels: u8,
}

impl Core {
    fn parse(reader: &mut BitReader<'_>, object_type: u8, channel_configuration: u8) -> Result<Self, Error> {
        let at = (reader.position() / 8) as u64;
        let (long, short) = match object_type {
            1..=4 | TYPE_SCALABLE | 7 | 17 | 19..=22 => (1024, 960),
            TYPE_LOW_DELAY | TYPE_ENHANCED_LOW_DELAY => (512, 480),
            _ => return Err(Error::unsupported("audio object type is not one of AAC's", at)),
        };
        let frame_samples = if reader.bit("frameLengthFlag")? { short } else { long };
        if object_type == TYPE_ENHANCED_LOW_DELAY {
            // ELDSpecificConfig has no program config element, and nothing that we need in what follows: its own band
            // replication is left to the decoder, and times count at the core's rate. (4.6.20.2)
            return Ok(Core { frame_samples, channels: channels_of(reader, channel_configuration)? });
        }

        // GASpecificConfig (4.4.1)
        if reader.bit("dependsOnCoreCoder")? {
            reader.skip(14, "coreCoderDelay")?;
        }
        let extended = reader.bit("extensionFlag")?;
        let channels = match channel_configuration {
            0 => program_config_channels(reader)?,
            _ => channels_of(reader, channel_configuration)?,
        };
        if matches!(object_type, TYPE_SCALABLE | TYPE_ER_SCALABLE) {
            reader.skip(3, "layerNr")?;
        }
        if extended {
            match object_type {
                TYPE_BSAC => reader.skip(16, "numOfSubFrame and layer_length")?,
                17 | 19 | TYPE_ER_SCALABLE | TYPE_LOW_DELAY => reader.skip(3, "resilience flags")?,
                _ => {}
            }
            reader.skip(1, "extensionFlag3")?;
        }
        Ok(Core { frame_samples, channels })
    }
}

/// Channels of a `channelConfiguration` other than 0. (table 1.19)
fn channels_of(reader: &BitReader<'_>, channel_configuration: u8) -> Result<u8, Error> {
    match channel_configuration {
        1..=6 => Ok(channel_configuration),
        7 | 12 | 14 => Ok(8),
        11 => Ok(7),
        13 => Ok(24),
        _ => Err(reader.malformed("channelConfiguration")),
    }
}

/// Channels of a `program_config_element` (4.4.1.1), which is read to its end.
fn program_config_channels(reader: &mut BitReader<'_>) -> Result<u8, Error> {
    reader.skip(4 + 2 + 4, "program_config_element")?;
    let [front, side, back] = [4, 4, 4].map(|bits| reader.bits(bits, "count of channel elements"));
    let (front, side, back) = (front?, side?, back?);
    let low_frequency = reader.bits(2, "num_lfe_channel_elements")?;
    let associated_data = reader.bits(3, "num_assoc_data_elements")?;
    let coupling = reader.bits(4, "num_valid_cc_elements")?;
    for _ in ["mono_mixdown_present", "stereo_mixdown_present"] {
        if reader.bit("mixdown_present")? {
            reader.skip(4, "mixdown_element_number")?;
        }
    }
    if reader.bit("matrix_mixdown_idx_present")? {
        reader.skip(3, "matrix_mixdown_idx")?;
    }

    let mut channels = low_frequency as u8;
    for _ in 0..front + side + back {
        let is_pair = reader.bit("element_is_cpe")?;
        reader.skip(4, "element_tag_select")?;
        channels += if is_pair { 2 } else { 1 };
    }
    reader.skip((low_frequency * 4 + associated_data * 4 + coupling * 5) as usize, "element tags")?;

    // In a configuration the alignment counts from its first bit. (4.5.1.2)
    reader.skip(reader.position().wrapping_neg() % 8, "byte_alignment")?;
    let comment_bytes = reader.bits(8, "comment_field_bytes")? as usize;
    reader.skip(comment_bytes * 8, "comment_field_data")?;
    if channels == 0 {
        Err(reader.malformed("program_config_element without channels"))
    } else {
        Ok(channels)
    }
}

/// Spectral band replication and parametric stereo on top of the core.
#[derive(Default)]
struct Extension {
    spectral_band_replication: Option<bool>,
    parametric_stereo: Option<bool>,
    sample_rate: Option<u32>,
}

impl Extension {
    /// The backward compatible way: sync words after the core's configuration. (1.6.2.1, 1.6.5)
    fn parse_compatible(reader: &mut BitReader<'_>) -> Result<Self, Error> {
        const SYNC_SBR: u64 = 0x2b7;
        const SYNC_PS: u64 = 0x548;
        let mut extension = Extension::default();
        if reader.bits(11, "syncExtensionType")? != SYNC_SBR || object_type(reader)? != TYPE_SBR {
            return Ok(extension);
        }
        let present = reader.bit("sbrPresentFlag")?;
        if present {
            extension.sample_rate = Some(sample_rate(reader)?);
        }
        extension.spectral_band_replication = Some(present);
        if present && reader.remaining() >= 12 && reader.bits(11, "syncExtensionType")? == SYNC_PS {
            extension.parametric_stereo = Some(reader.bit("psPresentFlag")?);
        }
        Ok(extension)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::samples::{self, hex};

    fn parse(text: &str) -> AudioSpecificConfig {
        AudioSpecificConfig::parse(&hex(text)).unwrap()
    }

    #[test]
    fn what_ffmpeg_writes_has_the_rate_and_channels_that_ffprobe_says() {
        for (config, sample_rate, channels, codec_string) in [
            (samples::AAC_LC_48000_STEREO, 48000, 2, "mp4a.40.2"),
            (samples::AAC_LC_44100_MONO, 44100, 1, "mp4a.40.2"),
            (samples::AAC_LC_51, 48000, 6, "mp4a.40.2"),
            (samples::AAC_LC_71, 48000, 8, "mp4a.40.2"),
            (samples::AAC_LC_31_BY_ELEMENTS, 48000, 4, "mp4a.40.2"),
            (samples::AAC_LC_QUAD_BY_ELEMENTS, 48000, 4, "mp4a.40.2"),
            (samples::AAC_LTP_48000_STEREO, 48000, 2, "mp4a.40.4"),
        ] {
            let parsed = parse(config);
            assert_eq!((parsed.sample_rate, parsed.channels), (sample_rate, channels), "{config}");
            assert_eq!(
                (parsed.packet_samples, parsed.spectral_band_replication),
                (1024, Some(false)),
                "{config}"
            );
            assert_eq!(parsed.codec_string(), codec_string);
        }
    }

    #[test]
    fn band_replication_doubles_rate_and_packet_however_it_is_signalled() {
        // Explicit and hierarchical (type 5 first), and backward compatible (a sync word after the core's part).
        for (config, codec_string) in [("2b920800", "mp4a.40.5"), ("139056e5a0", "mp4a.40.2")] {
            let parsed = parse(config);
            assert_eq!(
                (parsed.core_sample_rate, parsed.sample_rate, parsed.packet_samples),
                (22050, 44100, 2048)
            );
            assert_eq!((parsed.object_type, parsed.channels), (2, 2));
            assert_eq!(parsed.spectral_band_replication, Some(true));
            assert_eq!(parsed.codec_string(), codec_string);
        }
    }

    #[test]
    fn a_stream_that_says_nothing_of_band_replication_keeps_the_rate_of_its_core() {
        let parsed = parse("1390");
        assert_eq!((parsed.sample_rate, parsed.packet_samples), (22050, 1024));
        assert_eq!((parsed.spectral_band_replication, parsed.parametric_stereo), (None, None));
    }

    #[test]
    fn parametric_stereo_makes_two_channels_of_one() {
        for (config, codec_string) in [("eb8a0800", "mp4a.40.29"), ("138856e5a54880", "mp4a.40.2")] {
            let parsed = parse(config);
            assert_eq!((parsed.channel_configuration, parsed.channels), (1, 2), "{config}");
            assert_eq!(parsed.parametric_stereo, Some(true));
            assert_eq!(parsed.codec_string(), codec_string);
        }
    }

    #[test]
    fn escape_values_reach_rates_and_types_outside_the_tables() {
        assert_eq!(parse("1780181c88").sample_rate, 12345);
        let low_delay = parse("f8e64000");
        assert_eq!(
            (low_delay.object_type, low_delay.sample_rate, low_delay.packet_samples),
            (39, 48000, 512)
        );
        assert_eq!(low_delay.codec_string(), "mp4a.40.39");
    }

    #[test]
    fn what_is_not_aac_or_cut_short_says_so_and_where() {
        let error = |text| AudioSpecificConfig::parse(&hex(text)).unwrap_err();
        assert_eq!(error(""), Error::truncated("audioObjectType", 0));
        assert_eq!(error("12"), Error::truncated("samplingFrequencyIndex", 1));
        // Type 36, ALS.
        assert_eq!(error("f8864000").kind, crate::error::ErrorKind::Unsupported);
        // Index 13 of the rates and channel configuration 8 are reserved.
        assert_eq!(error("1690"), Error::malformed("samplingFrequency", 1));
        assert_eq!(error("11c0"), Error::malformed("channelConfiguration", 2));
    }
}
