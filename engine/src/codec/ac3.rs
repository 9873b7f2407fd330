//! AC-3 (ATSC A/52; ETSI TS 102 366): the header of a frame, and the same as MP4 carries it in `dac3`. A stream has no
//! configuration of its own: each frame says all.

use crate::{
    bits::{BitReader, Reader},
    error::Error,
};

/// Samples per channel that each frame makes: six blocks of 256. (A/52, 2.3)
pub const FRAME_SAMPLES: u32 = 1536;
/// Bytes of the longest frame: 640 kbit/s at 32 kHz.
pub const FRAME_BYTES_MAX: usize = 3840;

/// What the head of a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What all frames of a stream have in common.
    pub configuration: Configuration,
    /// Bytes of the whole frame.
    pub frame_bytes: usize,
}

impl Header {
    /// Parses the head at the start of `frame`: `syncinfo` and the beginning of `bsi`. (A/52, 5.3.1 and 5.3.2)
    ///
    /// ```
    /// use shardcast_engine::codec::ac3::{FRAME_BYTES_MAX, FRAME_SAMPLES, Header};
    ///
    /// let header = Header::parse(&[0x0b, 0x77, 0xfe, 0x95, 0x14, 0x40, 0x43, 0xe1])?;
    /// let configuration = header.configuration;
    /// assert_eq!((configuration.sample_rate(), configuration.channels()), (48_000, 2));
    /// assert_eq!((configuration.bit_rate(), header.frame_bytes), (192_000, 768));
    /// // A frame lasts 32 ms here, and none is longer than this.
    /// assert_eq!(FRAME_SAMPLES * 1000 / configuration.sample_rate(), 32);
    /// assert!(header.frame_bytes <= FRAME_BYTES_MAX);
    /// # Ok::<(), shardcast_engine::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// There is none, it says something reserved, or the frame is one of enhanced AC-3.
    pub fn parse(frame: &[u8]) -> Result<Self, Error> {
        let mut head = Reader::new(frame);
        if head.u16("sync word of an AC-3 frame")? != SYNC_WORD {
            return Err(Error::malformed("AC-3 frame does not begin with its sync word", 0));
        }
        head.skip(2, "checksum of an AC-3 frame")?;
        let base = head.position() as u64;
        Self::parse_behind_checksum(head.peek()).map_err(|error| error.after(base))
    }

    fn parse_behind_checksum(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = BitReader::new(bytes);
        let sample_rate_code = reader.bits(2, "fscod")? as u8;
        let frame_size_code = reader.bits(6, "frmsizecod")? as u8;
        let bitstream_id = reader.bits(5, "bsid")? as u8;
        let bitstream_mode = reader.bits(3, "bsmod")? as u8;
        let coding_mode = reader.bits(3, "acmod")? as u8;
        // Levels of the mix to two channels, where there is a centre, where there are surrounds, and how it was made.
        let has_centre = coding_mode & 1 != 0 && coding_mode != 1;
        for present in [has_centre, coding_mode & 4 != 0, coding_mode == 2] {
            if present {
                reader.skip(2, "cmixlev, surmixlev and dsurmod")?;
            }
        }
        let configuration = Configuration {
            sample_rate_code,
            bitstream_id,
            bitstream_mode,
            coding_mode,
            low_frequency: reader.bit("lfeon")?,
            bit_rate_code: frame_size_code >> 1,
        };
        configuration.check()?;
        Ok(Header { configuration, frame_bytes: configuration.frame_bytes(frame_size_code & 1) })
    }
}

/// The content of `dac3`. (ETSI TS 102 366, F.4)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// `fscod`: 0, 1 and 2 for 48, 44.1 and 32 kHz.
    pub sample_rate_code: u8,
    /// `bsid`: which version of the standard a decoder must know, 8 or less.
    pub bitstream_id: u8,
    /// `bsmod`: what the sound is for, 0 for a complete main service.
    pub bitstream_mode: u8,
    /// `acmod`: which channels there are beside that of low frequencies.
    pub coding_mode: u8,
    /// `lfeon`: there is a channel of low frequencies.
    pub low_frequency: bool,
    /// `bit_rate_code`, the upper five bits of `frmsizecod`.
    pub bit_rate_code: u8,
}

impl Configuration {
    /// Parses the content of `dac3`. Bytes after it are ignored.
    ///
    /// # Errors
    /// It is cut short, says something reserved, or is that of enhanced AC-3.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = BitReader::new(bytes);
        let configuration = Configuration {
            sample_rate_code: reader.bits(2, "fscod of dac3")? as u8,
            bitstream_id: reader.bits(5, "bsid of dac3")? as u8,
            bitstream_mode: reader.bits(3, "bsmod of dac3")? as u8,
            coding_mode: reader.bits(3, "acmod of dac3")? as u8,
            low_frequency: reader.bit("lfeon of dac3")?,
            bit_rate_code: reader.bits(5, "bit_rate_code of dac3")? as u8,
        };
        reader.skip(5, "reserved bits of dac3")?;
        configuration.check()?;
        Ok(configuration)
    }

    /// Its bytes, as `dac3` has them.
    pub fn bytes(&self) -> [u8; 3] {
        let low_frequency = u32::from(self.low_frequency);
        let bits = u32::from(self.sample_rate_code) << 22
            | u32::from(self.bitstream_id) << 17
            | u32::from(self.bitstream_mode) << 14
            | u32::from(self.coding_mode) << 11
            | low_frequency << 10
            | u32::from(self.bit_rate_code) << 5;
        let [_, bytes @ ..] = bits.to_be_bytes();
        bytes
    }

    /// Samples per second.
    pub fn sample_rate(&self) -> u32 {
        SAMPLE_RATES.get(usize::from(self.sample_rate_code)).copied().unwrap_or_default()
    }

    /// Channels, that of low frequencies included. (A/52, table 5.8)
    pub fn channels(&self) -> u8 {
        let full = match self.coding_mode {
            0 => 2, // two programmes of one channel each
            1 => 1,
            2 => 2,
            3 | 4 => 3,
            5 | 6 => 4,
            _ => 5,
        };
        full + u8::from(self.low_frequency)
    }

    /// Bits per second.
    pub fn bit_rate(&self) -> u32 {
        1000 * BIT_RATES.get(usize::from(self.bit_rate_code)).copied().unwrap_or_default()
    }

    /// Bytes of a frame. At 44.1 kHz some are a word longer than others, and `longer` is 1 for them. (A/52, table 5.18)
    fn frame_bytes(&self, longer: u8) -> usize {
        const WORD_BITS: u32 = 16;
        let longer = if self.sample_rate() == 44_100 { u32::from(longer) } else { 0 };
        // 1536 samples last 96 times 16 bits of a stream of one bit per sample.
        let words = self.bit_rate() * (FRAME_SAMPLES / WORD_BITS) / self.sample_rate() + longer;
        2 * words as usize
    }

    fn check(&self) -> Result<(), Error> {
        if self.bitstream_id > BITSTREAM_ID_MAX {
            return Err(Error::unsupported("bsid of enhanced AC-3, or of a rate outside the standard", 0));
        }
        if self.sample_rate() == 0 {
            return Err(Error::malformed("fscod of AC-3", 0));
        }
        if self.bit_rate() == 0 {
            return Err(Error::malformed("bit rate of AC-3", 0));
        }
        Ok(())
    }
}

const SYNC_WORD: u16 = 0x0b77;
/// What is above is read another way. (A/52, 5.4.2.1)
const BITSTREAM_ID_MAX: u8 = 8;
const SAMPLE_RATES: [u32; 3] = [48_000, 44_100, 32_000];
/// In kbit/s.
const BIT_RATES: [u32; 19] =
    [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        codec::samples::{self, hex},
        error::ErrorKind,
    };

    #[test]
    fn what_ffmpeg_writes_has_the_rate_channels_and_length_that_ffprobe_says() {
        for (text, sample_rate, channels, bit_rate, frame_bytes, dac3) in [
            (samples::AC3_48000_STEREO, 48_000, 2, 192_000, 768, "101140"),
            (samples::AC3_44100_51, 44_100, 6, 448_000, 1950, "503de0"),
        ] {
            let header = Header::parse(&hex(text)).unwrap();
            let configuration = header.configuration;
            assert_eq!((configuration.sample_rate(), configuration.channels()), (sample_rate, channels));
            assert_eq!((configuration.bit_rate(), header.frame_bytes), (bit_rate, frame_bytes));
            assert_eq!(configuration.bytes()[..], hex(dac3));
            assert_eq!(Configuration::parse(&hex(dac3)), Ok(configuration));
        }
    }

    #[test]
    fn frames_are_as_long_as_the_table_of_the_standard_says() {
        let bytes = |sample_rate_code: u8, frame_size_code: u8| {
            let head = [0x0b, 0x77, 0, 0, sample_rate_code << 6 | frame_size_code, 8 << 3, 2 << 5, 0];
            Header::parse(&head).unwrap().frame_bytes
        };
        // Table 5.18, in words: 32, 192 and 640 kbit/s.
        for (code, words) in [(0, [64, 69, 96]), (20, [384, 417, 576]), (36, [1280, 1393, 1920])] {
            assert_eq!([0, 1, 2].map(|rate| bytes(rate, code)), words.map(|words| 2 * words));
            assert_eq!(bytes(1, code + 1), 2 * (words[1] + 1));
            assert_eq!([bytes(0, code + 1), bytes(2, code + 1)], [2 * words[0], 2 * words[2]]);
        }
        assert_eq!(bytes(2, 37), FRAME_BYTES_MAX);
    }

    #[test]
    fn each_coding_mode_has_its_channels_and_the_low_frequencies_behind_its_levels() {
        // How many bits stand between acmod and lfeon.
        let levels = [0, 0, 2, 2, 2, 4, 2, 4];
        let channels = [2, 1, 2, 3, 3, 4, 4, 5];
        for mode in 0..8u8 {
            for low_frequency in [0u8, 1] {
                let behind =
                    u16::from(mode) << 13 | u16::from(low_frequency) << (12 - levels[usize::from(mode)]);
                let [first, second] = behind.to_be_bytes();
                let header = Header::parse(&[0x0b, 0x77, 0, 0, 0, 8 << 3, first, second]).unwrap();
                let expected = channels[usize::from(mode)] + low_frequency;
                assert_eq!(header.configuration.channels(), expected, "mode {mode}");
            }
        }
    }

    #[test]
    fn what_is_no_frame_of_ac3_says_so_and_where() {
        let fault = |text: &str| {
            let error = Header::parse(&hex(text)).unwrap_err();
            (error.kind, error.at)
        };
        assert_eq!(fault("0b78000014404000"), (ErrorKind::Malformed, 0));
        assert_eq!(fault("0b7700"), (ErrorKind::Truncated, 2));
        assert_eq!(fault("0b7700001440"), (ErrorKind::Truncated, 6));
        // A reserved rate, a reserved bit rate, enhanced AC-3.
        assert_eq!(fault("0b770000c0404000"), (ErrorKind::Malformed, 4));
        assert_eq!(fault("0b77000026404000"), (ErrorKind::Malformed, 4));
        assert_eq!(fault("0b77000014804000"), (ErrorKind::Unsupported, 4));
        assert_eq!(Configuration::parse(&hex("1011")).unwrap_err().kind, ErrorKind::Truncated);
        assert_eq!(Configuration::parse(&hex("201140")).unwrap_err().kind, ErrorKind::Unsupported);
    }
}
