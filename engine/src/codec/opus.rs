//! Opus: the identification header `OpusHead` (RFC 7845, 5.1) and the length of a packet (RFC 6716, 3).

use crate::{bits::Reader, error::Error};

/// The decoder's rate, whatever the rate of what was recorded: Opus times count in it. (RFC 7845, 4)
pub const SAMPLE_RATE: u32 = 48_000;

/// What an `OpusHead` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// Channels of the sound that comes out.
    pub channels: u8,
    /// Samples at 48 kHz to leave out at the start.
    pub pre_skip: u16,
    /// Samples per second of what was recorded; only a hint, and 0 when nobody knows.
    pub input_sample_rate: u32,
    /// Gain to apply, in dB times 256.
    pub output_gain: i16,
    /// How channels are spread over streams.
    pub mapping: Mapping<'a>,
}

/// How channels are spread over the streams of a packet. (RFC 7845, 5.1.1)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping<'a> {
    /// Family 0: one stream, mono or stereo.
    One,
    /// Any other family, which has a table.
    Table {
        /// The family: 1 for the orders of Vorbis, 255 for channels without a meaning.
        family: u8,
        /// Streams in a packet.
        streams: u8,
        /// How many of them, from the first, are stereo.
        coupled: u8,
        /// Per channel the decoded channel it takes; 255 is silence.
        channels: &'a [u8],
    },
}

impl<'a> Head<'a> {
    /// Parses an `OpusHead`, its magic included. Bytes after it are ignored, as the RFC asks.
    ///
    /// ```
    /// use shardcast_engine::codec::opus::{Head, Mapping};
    ///
    /// let head = b"OpusHead\x01\x02\x38\x01\x80\xbb\x00\x00\x00\x00\x00";
    /// let head = Head::parse(head)?;
    /// assert_eq!((head.channels, head.pre_skip, head.input_sample_rate), (2, 312, 48_000));
    /// assert_eq!(head.mapping, Mapping::One);
    /// # Ok::<(), shardcast_engine::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// It is cut short or breaks a rule of the RFC.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        if reader.take(MAGIC.len(), "magic of OpusHead")? != MAGIC {
            return Err(Error::malformed("configuration of Opus does not begin with OpusHead", 0));
        }
        // The low half of the version may grow without breaking readers.
        if reader.u8("version of OpusHead")? & 0xf0 != 0 {
            return Err(Error::unsupported("version of OpusHead", 8));
        }
        let channels = reader.u8("channel count of OpusHead")?;
        if channels == 0 {
            return Err(Error::malformed("OpusHead without channels", 9));
        }
        let pre_skip = u16::from_le_bytes(reader.array("pre-skip of OpusHead")?);
        let input_sample_rate = reader.u32_le("sample rate of OpusHead")?;
        let output_gain = i16::from_le_bytes(reader.array("output gain of OpusHead")?);
        let mapping = match reader.u8("mapping family of OpusHead")? {
            0 if channels <= 2 => Mapping::One,
            0 => return Err(Error::malformed("OpusHead of family 0 with more than two channels", 18)),
            family => Self::table(&mut reader, family, channels)?,
        };
        Ok(Head { channels, pre_skip, input_sample_rate, output_gain, mapping })
    }

    fn table(reader: &mut Reader<'a>, family: u8, channels: u8) -> Result<Mapping<'a>, Error> {
        if family == 1 && channels > 8 {
            return Err(Error::malformed("OpusHead of family 1 with more than eight channels", 18));
        }
        let streams = reader.u8("stream count of OpusHead")?;
        let coupled = reader.u8("coupled count of OpusHead")?;
        if streams == 0 || coupled > streams || u16::from(streams) + u16::from(coupled) > 255 {
            return Err(Error::malformed("stream counts of OpusHead", 19));
        }
        let table = reader.take(channels.into(), "channel mapping of OpusHead")?;
        let decoded = streams + coupled;
        if let Some(place) = table.iter().position(|&index| index >= decoded && index != 255) {
            return Err(Error::malformed("channel mapping of OpusHead", 21 + place as u64));
        }
        Ok(Mapping::Table { family, streams, coupled, channels: table })
    }
}

/// An `OpusHead` for `channels` channels, for a publisher that sent none: mono and stereo as one stream, up to eight in
/// the orders of Vorbis with the streams that libopus makes of them, more as a stream each. 0 counts as mono.
///
/// ```
/// use shardcast_engine::codec::opus::{Head, head_of};
///
/// let surround = head_of(6);
/// assert_eq!(Head::parse(&surround)?.channels, 6);
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
pub fn head_of(channels: u8) -> Vec<u8> {
    /// What libopus's encoders need at 48 kHz to warm up.
    const PRE_SKIP: u16 = 312;
    let channels = channels.max(1);
    let mut head = Vec::from(MAGIC);
    head.extend([1, channels]);
    head.extend(PRE_SKIP.to_le_bytes());
    head.extend(SAMPLE_RATE.to_le_bytes());
    head.extend(0i16.to_le_bytes());
    match channels {
        0..=2 => head.push(0),
        3 => head.extend([1, 2, 1, 0, 2, 1]),
        4 => head.extend([1, 2, 2, 0, 1, 2, 3]),
        5 => head.extend([1, 3, 2, 0, 4, 1, 2, 3]),
        6 => head.extend([1, 4, 2, 0, 4, 1, 2, 3, 5]),
        7 => head.extend([1, 4, 3, 0, 4, 1, 2, 3, 5, 6]),
        8 => head.extend([1, 5, 3, 0, 6, 1, 2, 3, 4, 5, 7]),
        _ => {
            head.extend([255, channels, 0]);
            head.extend(0..channels);
        }
    }
    head
}

/// Samples at 48 kHz that a packet makes; `None` when it is empty or longer than the 120 ms a packet may hold.
/// (RFC 6716, 3.1 and 3.2)
///
/// ```
/// use shardcast_engine::codec::opus::{SAMPLE_RATE, packet_samples};
///
/// // CELT, two frames of 20 ms.
/// assert_eq!(packet_samples(&[0x99]), Some(2 * SAMPLE_RATE / 50));
/// assert_eq!(packet_samples(&[]), None);
/// ```
pub fn packet_samples(packet: &[u8]) -> Option<u32> {
    let mut reader = Reader::new(packet);
    let toc = reader.u8("table of contents").ok()?;
    let frame = match toc >> 3 {
        config @ 0..12 => [480, 960, 1920, 2880].get(usize::from(config & 3)).copied()?,
        config @ 12..16 => 480 << (config & 1),
        config => 120 << (config & 3),
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(reader.u8("frame count").ok()? & 0x3f),
    };
    let samples = frame * frames;
    (1..=SAMPLE_RATE * 120 / 1000).contains(&samples).then_some(samples)
}

const MAGIC: &[u8] = b"OpusHead";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::samples::{self, hex};

    #[test]
    fn what_libopus_writes_has_the_channels_that_ffprobe_says() {
        let mono = hex(samples::OPUS_MONO);
        let head = Head::parse(&mono).unwrap();
        assert_eq!((head.channels, head.pre_skip, head.input_sample_rate), (1, 312, 48000));
        assert_eq!((head.output_gain, head.mapping), (0, Mapping::One));
        let surround = hex(samples::OPUS_51);
        let table = Mapping::Table { family: 1, streams: 4, coupled: 2, channels: &[0, 4, 1, 2, 3, 5] };
        assert_eq!(Head::parse(&surround).unwrap().mapping, table);
    }

    #[test]
    fn a_head_that_we_make_is_what_libopus_makes() {
        assert_eq!(head_of(1), hex(samples::OPUS_MONO));
        assert_eq!(head_of(2), hex(samples::OPUS_STEREO));
        assert_eq!(head_of(6), hex(samples::OPUS_51));
        for channels in 0..=255 {
            let head = head_of(channels);
            assert_eq!(Head::parse(&head).map(|head| head.channels), Ok(channels.max(1)));
        }
    }

    #[test]
    fn a_head_that_breaks_a_rule_says_where() {
        let change = |place: usize, value| {
            let mut head = hex(samples::OPUS_51);
            head[place] = value;
            Head::parse(&head).unwrap_err().at
        };
        assert_eq!([change(3, b'X'), change(8, 0x11), change(9, 0), change(18, 0)], [0, 8, 9, 18]);
        assert_eq!([change(19, 0), change(20, 5), change(22, 6)], [19, 19, 22]);
        assert_eq!(
            Head::parse(b"OpusHead\x01").unwrap_err(),
            Error::truncated("channel count of OpusHead", 9)
        );
    }

    #[test]
    fn the_length_of_a_packet_is_in_its_first_byte_or_two() {
        // Configurations of table 2: SILK 20 ms, hybrid 10 ms, CELT 2.5 ms and 20 ms.
        assert_eq!(
            [0x08, 0x60, 0x80, 0x98].map(|toc| packet_samples(&[toc])),
            [960, 480, 120, 960].map(Some)
        );
        assert_eq!(packet_samples(&[0x99]), Some(1920));
        assert_eq!(packet_samples(&[0x9b, 0x83]), Some(2880));
        // No frames, more than 120 ms, no count, no packet.
        for bad in [&[0x9b, 0][..], &[0x9b, 7], &[0x9b], &[]] {
            assert_eq!(packet_samples(bad), None);
        }
    }
}
