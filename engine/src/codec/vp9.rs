//! VP9: the decoder configuration `vpcC` (VP Codec ISO Media File Format Binding) and the uncompressed header of a frame
//! (VP9 Bitstream & Decoding Process Specification, 6.2).

use std::borrow::Cow;

use crate::{
    bits::{BitReader, Reader},
    codec::{Codec, Colour},
    error::Error,
};

/// The contents of `vpcC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// 0 to 3: 8 bits 4:2:0, 8 bits others, more bits 4:2:0, more bits others.
    pub profile: u8,
    /// Ten times the level; 0 when the encoder did not say.
    pub level: u8,
    /// Bits of a sample.
    pub bit_depth: u8,
    /// 0 and 1 are 4:2:0 (chroma between rows, or on them), 2 is 4:2:2, 3 is 4:4:4.
    pub chroma_subsampling: u8,
    /// How samples are to be understood as colours.
    pub colour: Colour,
}

impl Configuration {
    /// Parses the contents of `vpcC`, which begin with version and flags.
    ///
    /// ```
    /// use shardcast_engine::codec::vp9::Configuration;
    ///
    /// # let vpcc = [0x01, 0x00, 0x00, 0x00, 0x00, 0x0b, 0x82, 0x02, 0x02, 0x02, 0x00, 0x00];
    /// let configuration = Configuration::parse(&vpcc)?;
    /// assert_eq!((configuration.profile, configuration.level, configuration.bit_depth), (0, 11, 8));
    /// assert_eq!(configuration.codec_string(), "vp09.00.11.08");
    /// # Ok::<(), shardcast_engine::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// It is cut short or of another version.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        if reader.u32("version and flags of vpcC")? != VERSION_AND_FLAGS {
            return Err(Error::unsupported("version of vpcC", 0));
        }
        let profile = reader.u8("profile of vpcC")?;
        if profile > 3 {
            return Err(Error::malformed("profile of vpcC", 4));
        }
        let level = reader.u8("level of vpcC")?;
        let formats = reader.u8("formats of vpcC")?;
        let (bit_depth, chroma_subsampling) = (formats >> 4, formats >> 1 & 7);
        if !matches!(bit_depth, 8 | 10 | 12) || chroma_subsampling > 3 {
            return Err(Error::malformed("formats of vpcC", 6));
        }
        let [primaries, transfer, matrix] = reader.array("colour of vpcC")?;
        let initialization_length = reader.u16("codecInitializationDataSize of vpcC")?;
        reader.skip(initialization_length.into(), "codecInitializationData of vpcC")?;
        let colour = Colour { primaries, transfer, matrix, full_range: formats & 1 == 1 };
        Ok(Configuration { profile, level, bit_depth, chroma_subsampling, colour })
    }

    /// `vp09.PP.LL.DD` of the binding, and its long form where colours or chroma are not what the short one implies.
    pub fn codec_string(&self) -> String {
        self.codec_string_of(Codec::Vp9)
    }

    /// The same for a codec that shares the binding: VP8 begins with `vp08`.
    pub(super) fn codec_string_of(&self, codec: Codec) -> String {
        let Configuration { profile, level, bit_depth, chroma_subsampling, colour } = *self;
        // Browsers refuse a level that is none, so one that nobody named is the lowest.
        let level = if level == 0 { LEVEL_LOWEST } else { level };
        let name = if codec == Codec::Vp8 { "vp08" } else { "vp09" };
        let mut text = format!("{name}.{profile:02}.{level:02}.{bit_depth:02}");
        if chroma_subsampling > 1 || !colour.is_bt709_or_unsaid() {
            let Colour { primaries, transfer, matrix, full_range } = colour;
            let full_range = u8::from(full_range);
            text.push_str(&format!(
                ".{chroma_subsampling:02}.{primaries:02}.{transfer:02}.{matrix:02}.{full_range:02}"
            ));
        }
        text
    }
}

/// The contents of `vpcC` from what a publisher sent: some send the record alone, without the four bytes of version and
/// flags that make it a box's contents. A record cannot be taken for the other: its third byte, the formats, is never 0.
///
/// ```
/// use shardcast_engine::codec::vp9::with_version;
///
/// let record = [0, 11, 0x82, 2, 2, 2, 0, 0];
/// assert_eq!(with_version(&record)[..4], [1, 0, 0, 0]);
/// assert_eq!(with_version(&with_version(&record)), with_version(&record));
/// ```
pub fn with_version(bytes: &[u8]) -> Cow<'_, [u8]> {
    let version_and_flags = VERSION_AND_FLAGS.to_be_bytes();
    match bytes.get(2) {
        Some(formats) if *formats != 0 => Cow::Owned([&version_and_flags, bytes].concat()),
        _ => Cow::Borrowed(bytes),
    }
}

/// What the uncompressed header of a key frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyFrame {
    /// As in [`Configuration`].
    pub profile: u8,
    /// Bits of a sample.
    pub bit_depth: u8,
    /// Luma samples across.
    pub width: u32,
    /// Luma samples down.
    pub height: u32,
    /// As in [`Configuration`]. Half as many samples down alone has no number there, and stands for 4:4:4.
    pub chroma_subsampling: u8,
    /// How samples are to be understood as colours, as far as the header says it.
    pub colour: Colour,
}

impl KeyFrame {
    /// Parses the header at the start of `frame`; `None` when it is no key frame or broken. The first frame of a
    /// superframe stands at its start, so that one is judged like any other.
    ///
    /// ```
    /// use shardcast_engine::codec::vp9::KeyFrame;
    ///
    /// # let frame = [
    /// #     0x82, 0x49, 0x83, 0x42, 0x00, 0x03, 0xf0, 0x03, 0xf6, 0x06, 0x38, 0x24, 0x1c, 0x18, 0x4a,
    /// #     0x00, 0x00, 0x20, 0x40, 0x00, 0x6b, 0x43, 0xff, 0xff, 0xe5, 0x5d, 0xbd, 0xb7, 0xfd, 0x2b,
    /// #     0x24, 0x85, 0x7a, 0xfb, 0xcd, 0xd3, 0xf2, 0xa0, 0x24, 0x72, 0x12, 0x33, 0x6e, 0x3f, 0x29,
    /// #     0xa4, 0x34, 0x94, 0x20, 0x11, 0x30, 0x51, 0xe3, 0x6e, 0x01, 0x0a, 0xff, 0xff, 0xad, 0x70,
    /// #     0x87, 0x2c, 0xa7, 0x69, 0x95, 0xda, 0x8e, 0x5c, 0x56, 0x5d, 0x69, 0x69, 0x35, 0x9d, 0x58,
    /// #     0x9b, 0x8e, 0xc9, 0x80, 0x77, 0x7a, 0x46, 0x7a, 0x3c, 0xe5, 0x3b, 0x4f, 0x9d, 0x97, 0x28,
    /// #     0x01, 0x38, 0x24, 0x80
    /// # ];
    /// let header = KeyFrame::parse(&frame).expect("a key frame");
    /// assert_eq!((header.width, header.height, header.bit_depth), (64, 64, 8));
    /// assert_eq!(KeyFrame::parse(&frame[..3]), None);
    /// ```
    pub fn parse(frame: &[u8]) -> Option<Self> {
        Self::read(&mut BitReader::new(frame)).ok().flatten()
    }

    fn read(reader: &mut BitReader<'_>) -> Result<Option<Self>, Error> {
        const FRAME_MARKER: u64 = 2;
        const SYNC_CODE: u64 = 0x49_83_42;
        const COLOUR_SPACE_RGB: u64 = 7;
        if reader.bits(2, "frame_marker")? != FRAME_MARKER {
            return Ok(None);
        }
        let profile =
            u8::from(reader.bit("profile_low_bit")?) | u8::from(reader.bit("profile_high_bit")?) << 1;
        if profile == 3 {
            reader.skip(1, "reserved_zero")?;
        }
        if reader.bit("show_existing_frame")? || reader.bit("frame_type")? {
            return Ok(None);
        }
        reader.skip(2, "show_frame and error_resilient_mode")?;
        if reader.bits(24, "frame_sync_code")? != SYNC_CODE {
            return Ok(None);
        }
        let bit_depth = match profile {
            0 | 1 => 8,
            _ => {
                if reader.bit("ten_or_twelve_bit")? {
                    12
                } else {
                    10
                }
            }
        };
        let colour_space = reader.bits(3, "color_space")?;
        let is_rgb = colour_space == COLOUR_SPACE_RGB;
        let has_subsampling = matches!(profile, 1 | 3);
        let full_range = is_rgb || reader.bit("color_range")?;
        let chroma_subsampling = match (has_subsampling, is_rgb) {
            (false, _) => CHROMA_420,
            (true, true) => {
                reader.skip(1, "reserved_zero")?;
                CHROMA_444
            }
            (true, false) => {
                let across = reader.bit("subsampling_x")?;
                reader.skip(2, "subsampling_y and reserved_zero")?;
                if across { CHROMA_422 } else { CHROMA_444 }
            }
        };
        // BT.601 in either of its forms, BT.709, SMPTE 240M, BT.2020. (7.2.2)
        let matrix = match colour_space {
            1 => 5,
            2 => 1,
            3 => 6,
            4 => 7,
            5 => 9,
            COLOUR_SPACE_RGB => 0,
            _ => 2,
        };
        let colour = Colour { matrix, full_range, ..Colour::default() };
        let width = 1 + reader.bits(16, "frame_width_minus_1")? as u32;
        let height = 1 + reader.bits(16, "frame_height_minus_1")? as u32;
        Ok(Some(KeyFrame { profile, bit_depth, width, height, chroma_subsampling, colour }))
    }

    /// The contents of `vpcC` that a track gets which begins with this frame.
    ///
    /// ```
    /// use shardcast_engine::codec::{Colour, vp9::{Configuration, KeyFrame}};
    ///
    /// let frame = KeyFrame {
    ///     profile: 0, bit_depth: 8, width: 1280, height: 720, chroma_subsampling: 1, colour: Colour::default(),
    /// };
    /// assert_eq!(Configuration::parse(&frame.configuration())?.codec_string(), "vp09.00.31.08");
    /// # Ok::<(), shardcast_engine::error::Error>(())
    /// ```
    pub fn configuration(&self) -> [u8; 12] {
        let Colour { primaries, transfer, matrix, full_range } = self.colour;
        let formats = self.bit_depth << 4 | self.chroma_subsampling << 1 | u8::from(full_range);
        [1, 0, 0, 0, self.profile, self.level(), formats, primaries, transfer, matrix, 0, 0]
    }

    /// The lowest level whose pictures are as large as this; the rate, which would raise it, is not known here.
    /// (Levels of the VP9 specification, annex A)
    pub fn level(&self) -> u8 {
        const LEVELS: [(u8, u32, u32); 8] = [
            (10, 36_864, 512),
            (11, 73_728, 768),
            (20, 122_880, 960),
            (21, 245_760, 1344),
            (30, 552_960, 2048),
            (31, 983_040, 2752),
            (40, 2_228_224, 4160),
            (50, 8_912_896, 8384),
        ];
        const LEVEL_HIGHEST: u8 = 60;
        let samples = u64::from(self.width) * u64::from(self.height);
        let side = self.width.max(self.height);
        let fits = |&&(_, samples_max, side_max): &&(u8, u32, u32)| {
            samples <= samples_max.into() && side <= side_max
        };
        LEVELS.iter().find(fits).map_or(LEVEL_HIGHEST, |&(level, _, _)| level)
    }
}

/// How much [`with_version`] adds.
pub(super) const VERSION_BYTES: u64 = 4;
const VERSION_AND_FLAGS: u32 = 1 << 24;
const LEVEL_LOWEST: u8 = 10;
/// Of `chromaSubsampling`. 4:2:0 is taken for that with chroma on the rows, as libvpx's own writer does.
const CHROMA_420: u8 = 1;
const CHROMA_422: u8 = 2;
const CHROMA_444: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::samples::{self, hex};

    #[test]
    fn what_libvpx_writes_has_the_profile_and_depth_that_ffprobe_says() {
        let plain = Configuration::parse(&hex(samples::VP9_180)).unwrap();
        assert_eq!((plain.profile, plain.level, plain.bit_depth, plain.chroma_subsampling), (0, 11, 8, 1));
        assert_eq!(plain.codec_string(), "vp09.00.11.08");
        let deep = Configuration::parse(&hex(samples::VP9_444_10_HDR)).unwrap();
        assert_eq!((deep.profile, deep.bit_depth, deep.chroma_subsampling), (3, 10, 3));
        assert_eq!(deep.codec_string(), "vp09.03.21.10.03.09.16.09.00");
        assert_eq!(Configuration { level: 0, ..plain }.codec_string(), "vp09.00.10.08");
        assert_eq!(Configuration { level: 31, ..plain }.codec_string(), "vp09.00.31.08");
    }

    #[test]
    fn a_configuration_that_breaks_a_rule_says_where() {
        let change = |place: usize, value| {
            let mut bytes = hex(samples::VP9_180);
            bytes[place] = value;
            Configuration::parse(&bytes).unwrap_err().at
        };
        assert_eq!([change(0, 2), change(4, 4), change(6, 0x90), change(11, 1)], [0, 4, 6, 12]);
        assert_eq!(Configuration::parse(&[]).unwrap_err(), Error::truncated("version and flags of vpcC", 0));
    }

    fn of(width: u32, height: u32) -> KeyFrame {
        let colour = Colour::default();
        KeyFrame { profile: 0, bit_depth: 8, width, height, chroma_subsampling: 1, colour }
    }

    #[test]
    fn a_key_frame_makes_the_configuration_that_an_encoder_writes() {
        let parse = |text| KeyFrame::parse(&hex(text)).unwrap().configuration();
        // Of a larger picture, and so of another level.
        let [before @ .., _, _, _, _, _, _, _] = parse(samples::VP9_KEY);
        assert_eq!(before, [1, 0, 0, 0, 0]);
        assert_eq!(parse(samples::VP9_KEY)[6..], hex(samples::VP9_180)[6..]);
        // What the header does not say of colours, MP4 alone has.
        let deep = hex(samples::VP9_444_10_HDR);
        let made = parse(samples::VP9_KEY_444_10);
        assert_eq!((&made[..7], made[9]), (&deep[..7], deep[9]));
    }

    #[test]
    fn the_header_of_a_key_frame_says_its_size() {
        let parse = |text| KeyFrame::parse(&hex(text));
        let small = of(64, 64);
        assert_eq!(parse(samples::VP9_KEY), Some(small));
        let colour = Colour { matrix: 9, ..Colour::default() };
        let large = KeyFrame { profile: 3, bit_depth: 10, chroma_subsampling: 3, colour, ..of(640, 360) };
        assert_eq!(parse(samples::VP9_KEY_444_10), Some(large));
        assert_eq!([parse(samples::VP9_INTER), parse(""), parse("8249834300"), parse("82")], [None; 4]);
    }

    #[test]
    fn the_level_follows_from_the_size() {
        let level = |width, height| of(width, height).level();
        assert_eq!(
            [level(256, 144), level(1280, 720), level(1920, 1080), level(3840, 2160)],
            [10, 31, 40, 50]
        );
        assert_eq!([level(4000, 16), level(65_535, 65_535)], [40, 60]);
    }
}
