//! MP3: the header of a frame (ISO/IEC 11172-3, 2.4.1.3; ISO/IEC 13818-3, 2.4.2.3; and the unofficial MPEG-2.5). It has no
//! configuration: the first frame says all.

use crate::{bits::Reader, error::Error};

/// What the four bytes before each frame say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The generation, which halves the rates.
    pub version: Version,
    /// Bits per second; 0 for the free format, whose frames say nothing of their length.
    pub bit_rate: u32,
    /// Samples per second.
    pub sample_rate: u32,
    /// Channels.
    pub channels: u8,
    /// Samples per channel in the frame.
    pub frame_samples: u32,
    /// Bytes of the frame with its header; 0 for the free format. (ISO/IEC 11172-3, 2.4.3.1)
    pub frame_bytes: usize,
}

/// Generation of MPEG audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// ISO/IEC 11172-3: 32, 44.1 and 48 kHz.
    Mpeg1,
    /// ISO/IEC 13818-3: half of those.
    Mpeg2,
    /// A quarter of those.
    Mpeg25,
}

impl Header {
    /// Parses the header at the start of `frame`.
    ///
    /// ```
    /// use shardcast_engine::codec::mp3::{Header, Version};
    ///
    /// let header = Header::parse(&[0xff, 0xfb, 0x94, 0x00])?;
    /// assert_eq!((header.sample_rate, header.channels, header.bit_rate), (48_000, 2, 128_000));
    /// assert_eq!((header.version, header.codec_string()), (Version::Mpeg1, "mp4a.6b"));
    /// # Ok::<(), shardcast_engine::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// There is none, or it is of another layer.
    pub fn parse(frame: &[u8]) -> Result<Self, Error> {
        const BIT_RATES_MPEG1: [u32; 15] = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
        const BIT_RATES_MPEG2: [u32; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
        const LAYER_III: u32 = 1;
        const MONO: u32 = 3;

        let bits = Reader::new(frame).u32("header of an MP3 frame")?;
        if bits >> 21 != 0x7ff {
            return Err(Error::malformed("MP3 frame does not begin with its sync word", 0));
        }
        let version = match bits >> 19 & 3 {
            0 => Version::Mpeg25,
            2 => Version::Mpeg2,
            3 => Version::Mpeg1,
            _ => return Err(Error::malformed("version of an MP3 frame", 1)),
        };
        if bits >> 17 & 3 != LAYER_III {
            return Err(Error::unsupported("MPEG audio of another layer than III", 1));
        }
        let rates = if version == Version::Mpeg1 { BIT_RATES_MPEG1 } else { BIT_RATES_MPEG2 };
        let bit_rate =
            rates.get((bits >> 12 & 15) as usize).ok_or(Error::malformed("bit rate of an MP3 frame", 2))?;
        let sample_rate = [44_100, 48_000, 32_000]
            .get((bits >> 10 & 3) as usize)
            .ok_or(Error::malformed("sample rate of an MP3 frame", 2))?
            / match version {
                Version::Mpeg1 => 1,
                Version::Mpeg2 => 2,
                Version::Mpeg25 => 4,
            };
        let (bit_rate, frame_samples) = (bit_rate * 1000, if version == Version::Mpeg1 { 1152 } else { 576 });
        let padding = if bit_rate > 0 { bits >> 9 & 1 } else { 0 };
        Ok(Header {
            version,
            bit_rate,
            sample_rate,
            channels: if bits >> 6 & 3 == MONO { 1 } else { 2 },
            frame_samples,
            frame_bytes: (frame_samples / 8 * bit_rate / sample_rate + padding) as usize,
        })
    }

    /// `mp4a.6b` for MPEG-1, `mp4a.69` for the generations after it: the object types of ISO/IEC 14496-1, table 5.
    pub const fn codec_string(&self) -> &'static str {
        match self.version {
            Version::Mpeg1 => "mp4a.6b",
            Version::Mpeg2 | Version::Mpeg25 => "mp4a.69",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::samples::{self, hex};

    #[test]
    fn what_lame_writes_has_the_rate_and_channels_that_ffprobe_says() {
        let full = Header::parse(&hex(samples::MP3_48000_STEREO)).unwrap();
        assert_eq!(
            (full.sample_rate, full.channels, full.bit_rate, full.frame_samples),
            (48000, 2, 128_000, 1152)
        );
        assert_eq!(full.codec_string(), "mp4a.6b");
        let half = Header::parse(&hex(samples::MP3_22050_MONO)).unwrap();
        assert_eq!((half.version, half.sample_rate, half.channels), (Version::Mpeg2, 22050, 1));
        assert_eq!((half.frame_samples, half.codec_string()), (576, "mp4a.69"));
    }

    #[test]
    fn what_is_not_a_frame_of_layer_three_says_where() {
        let at = |text| Header::parse(&hex(text)).unwrap_err().at;
        assert_eq!([at("fffb"), at("49443303"), at("ffeb9400"), at("fffd9400")], [0, 0, 1, 1]);
        assert_eq!([at("fffbf400"), at("fffb9c00")], [2, 2]);
    }
}
