//! AV1: the decoder configuration `av1C` (AV1 Codec ISO Media File Format Binding, 2.3), open bitstream units and the
//! sequence header (AV1 Bitstream & Decoding Process Specification, 5.3 and 5.5), and what tells a key frame.

use bytes::BufMut;

use crate::{
    bits::{BitReader, Reader},
    codec::{Colour, FrameRate},
    error::Error,
    limits,
};

/// The contents of `av1C`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// `seq_profile`: 0 main, 1 high, 2 professional.
    pub profile: u8,
    /// `seq_level_idx_0`.
    pub level: u8,
    /// `seq_tier_0`: the high tier.
    pub high_tier: bool,
    /// Bits of a sample.
    pub bit_depth: u8,
    /// How chroma is sampled.
    pub chroma: Chroma,
    /// The sequence header that it carries; some encoders leave it out.
    pub sequence_header: Option<SequenceHeader>,
}

/// How chroma is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chroma {
    /// There is none.
    pub monochrome: bool,
    /// Half as many samples across.
    pub subsampling_x: bool,
    /// Half as many samples down.
    pub subsampling_y: bool,
    /// `chroma_sample_position`: 0 unknown, 1 beside luma, 2 on it.
    pub position: u8,
}

impl Configuration {
    /// Parses the contents of `av1C`.
    ///
    /// ```
    /// use shardcast_engine::codec::av1::{Chroma, Configuration};
    ///
    /// # let av1c = [
    /// #     0x81, 0x00, 0x0c, 0x00, 0x0a, 0x0b, 0x00, 0x00, 0x00, 0x04, 0x3c, 0xfe, 0xcc, 0xda, 0xf9,
    /// #     0x00, 0x40
    /// # ];
    /// let configuration = Configuration::parse(&av1c)?;
    /// assert_eq!((configuration.profile, configuration.bit_depth), (0, 8));
    /// // 4:2:0: half as many samples of chroma across, and half as many down.
    /// let chroma = Chroma { monochrome: false, subsampling_x: true, subsampling_y: true, position: 0 };
    /// assert_eq!(configuration.chroma, chroma);
    /// let header = configuration.sequence_header.as_ref().expect("this encoder gives it");
    /// assert_eq!((header.width, header.height), (320, 180));
    /// # Ok::<(), shardcast_engine::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// It is cut short or of another version, or its sequence header is broken.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        const MARKER_AND_VERSION: u64 = 0x81;
        let mut reader = BitReader::new(bytes);
        if reader.bits(8, "marker and version of av1C")? != MARKER_AND_VERSION {
            return Err(Error::malformed("av1C has a version other than 1", 0));
        }
        let profile = reader.bits(3, "seq_profile of av1C")? as u8;
        let level = reader.bits(5, "seq_level_idx_0 of av1C")? as u8;
        let high_tier = reader.bit("seq_tier_0 of av1C")?;
        let high_bit_depth = reader.bit("high_bitdepth of av1C")?;
        let twelve_bit = reader.bit("twelve_bit of av1C")?;
        let chroma = Chroma {
            monochrome: reader.bit("monochrome of av1C")?,
            subsampling_x: reader.bit("chroma_subsampling_x of av1C")?,
            subsampling_y: reader.bit("chroma_subsampling_y of av1C")?,
            position: reader.bits(2, "chroma_sample_position of av1C")? as u8,
        };
        reader.skip(8, "initial_presentation_delay of av1C")?;
        let bit_depth = match (high_bit_depth, twelve_bit) {
            (false, _) => 8,
            (true, false) => 10,
            (true, true) => 12,
        };

        let at = reader.position() / 8;
        let mut sequence_header = None;
        for unit in Units::new(bytes.get(at..).unwrap_or_default()) {
            let unit = unit.map_err(|error| error.after(at as u64))?;
            if unit.kind == UNIT_SEQUENCE_HEADER {
                let base = (at + unit.at) as u64;
                sequence_header =
                    Some(SequenceHeader::parse(unit.payload).map_err(|error| error.after(base))?);
                break;
            }
        }
        Ok(Configuration { profile, level, high_tier, bit_depth, chroma, sequence_header })
    }

    /// `av01.P.LLT.DD` of the binding, and its long form where colours or chroma are not what the short one implies.
    /// The sequence header is believed before the fields of `av1C` itself.
    pub fn codec_string(&self) -> String {
        match &self.sequence_header {
            Some(header) => header.codec_string(),
            None => codec_string(
                self.profile,
                self.level,
                self.high_tier,
                self.bit_depth,
                self.chroma,
                Colour::default(),
            ),
        }
    }
}

/// What a sequence header says about the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceHeader {
    /// `seq_profile`: 0 main, 1 high, 2 professional.
    pub profile: u8,
    /// `seq_level_idx` of the first operating point.
    pub level: u8,
    /// `seq_tier` of the first operating point: the high tier.
    pub high_tier: bool,
    /// A still picture whose frame header says nothing of its kind.
    pub reduced_still_picture: bool,
    /// Bits of a sample.
    pub bit_depth: u8,
    /// How chroma is sampled.
    pub chroma: Chroma,
    /// How samples are to be understood as colours.
    pub colour: Colour,
    /// Luma samples across, of the largest frame.
    pub width: u32,
    /// Luma samples down, of the largest frame.
    pub height: u32,
    /// Frames per second, where they come at equal distances.
    pub frame_rate: Option<FrameRate>,
}

impl SequenceHeader {
    /// Parses the payload of an open bitstream unit of type 1.
    ///
    /// ```
    /// use shardcast_engine::codec::av1::{SequenceHeader, Units};
    ///
    /// # let key_frame = [
    /// #     0x0a, 0x0a, 0x00, 0x00, 0x00, 0x02, 0xaf, 0xff, 0x9b, 0x5f, 0x20, 0x08, 0x32, 0x0e, 0x10,
    /// #     0x00, 0x96, 0x80, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0xeb, 0xc6, 0x8e, 0xf0
    /// # ];
    /// let first = Units::new(&key_frame).next().expect("there is one")?;
    /// assert_eq!(first.kind, 1);
    /// assert_eq!(SequenceHeader::parse(first.payload)?.width, 64);
    /// # Ok::<(), shardcast_engine::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// It is cut short or uses what is reserved.
    pub fn parse(payload: &[u8]) -> Result<Self, Error> {
        let mut reader = BitReader::new(payload);
        let reader = &mut reader;
        let profile = reader.bits(3, "seq_profile")? as u8;
        if profile > 2 {
            return Err(reader.malformed("seq_profile"));
        }
        reader.skip(1, "still_picture")?;
        let reduced_still_picture = reader.bit("reduced_still_picture_header")?;
        let (frame_rate, level, high_tier) = if reduced_still_picture {
            (None, reader.bits(5, "seq_level_idx")? as u8, false)
        } else {
            let (frame_rate, decoder_model) = timing(reader)?;
            let (level, high_tier) = operating_points(reader, decoder_model)?;
            (frame_rate, level, high_tier)
        };

        let width_bits = reader.bits(4, "frame_width_bits_minus_1")? as u32 + 1;
        let height_bits = reader.bits(4, "frame_height_bits_minus_1")? as u32 + 1;
        let width = reader.bits(width_bits, "max_frame_width_minus_1")? as u32 + 1;
        let height = reader.bits(height_bits, "max_frame_height_minus_1")? as u32 + 1;
        if width > limits::PICTURE_SIDE_MAX || height > limits::PICTURE_SIDE_MAX {
            return Err(reader.malformed("picture is too large"));
        }
        skip_tools(reader, reduced_still_picture)?;
        let (bit_depth, chroma, colour) = colour_configuration(reader, profile)?;
        Ok(SequenceHeader {
            profile,
            level,
            high_tier,
            reduced_still_picture,
            bit_depth,
            chroma,
            colour,
            width,
            height,
            frame_rate,
        })
    }

    /// As [`Configuration::codec_string`].
    pub fn codec_string(&self) -> String {
        codec_string(self.profile, self.level, self.high_tier, self.bit_depth, self.chroma, self.colour)
    }
}

/// The first sequence header of a temporal unit.
///
/// ```
/// use shardcast_engine::codec::av1::{is_key, sequence_header};
///
/// # let key_frame = [
/// #     0x0a, 0x0a, 0x00, 0x00, 0x00, 0x02, 0xaf, 0xff, 0x9b, 0x5f, 0x20, 0x08, 0x32, 0x0e, 0x10,
/// #     0x00, 0x96, 0x80, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0xeb, 0xc6, 0x8e, 0xf0
/// # ];
/// let header = sequence_header(&key_frame)?.expect("a key frame has one");
/// assert_eq!((header.width, header.height), (64, 64));
/// assert!(is_key(&key_frame));
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
///
/// # Errors
/// The units before it, or the header, are broken.
pub fn sequence_header(data: &[u8]) -> Result<Option<SequenceHeader>, Error> {
    for unit in Units::new(data) {
        let unit = unit?;
        if unit.kind == UNIT_SEQUENCE_HEADER {
            return SequenceHeader::parse(unit.payload)
                .map(Some)
                .map_err(|error| error.after(unit.at as u64));
        }
    }
    Ok(None)
}

/// The contents of `av1C` of a track that begins with this temporal unit: what its sequence header says, and that itself. `None`
/// where it has none, or a broken one. (AV1-ISOBMFF, 2.3)
///
/// ```
/// use shardcast_engine::codec::av1::{Configuration, configuration_of};
///
/// # let key_frame = [
/// #     0x0a, 0x0a, 0x00, 0x00, 0x00, 0x02, 0xaf, 0xff, 0x9b, 0x5f, 0x20, 0x08, 0x32, 0x0e, 0x10,
/// #     0x00, 0x96, 0x80, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0xeb, 0xc6, 0x8e, 0xf0
/// # ];
/// let av1c = configuration_of(&key_frame).expect("a key frame has a sequence header");
/// let header = Configuration::parse(&av1c)?.sequence_header.expect("it is in it");
/// assert_eq!((header.width, header.height), (64, 64));
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
pub fn configuration_of(data: &[u8]) -> Option<Vec<u8>> {
    let mut units = Units::new(data).map_while(Result::ok);
    let unit = units.find(|unit| unit.kind == UNIT_SEQUENCE_HEADER)?;
    let header = SequenceHeader::parse(unit.payload).ok()?;
    let Chroma { monochrome, subsampling_x, subsampling_y, position } = header.chroma;
    let flags = [
        header.high_tier,
        header.bit_depth > 8,
        header.bit_depth == 12,
        monochrome,
        subsampling_x,
        subsampling_y,
    ];
    let flags = flags.iter().fold(0, |flags, flag| flags << 1 | u8::from(*flag)) << 2 | position;
    let mut bytes = vec![0x81, header.profile << 5 | header.level, flags, 0];
    unit.write(&mut bytes);
    Some(bytes)
}

/// True when the temporal unit has a sequence header and after it, as its first frame, a key frame that is shown: what
/// the binding asks of a sync sample (2.4). A key frame that is shown later (a forward key frame) is no place to begin.
pub fn is_key(data: &[u8]) -> bool {
    let mut reduced_still_picture = None;
    for unit in Units::new(data) {
        let Ok(unit) = unit else { return false };
        match (unit.kind, reduced_still_picture) {
            (UNIT_SEQUENCE_HEADER, _) => {
                // seq_profile (3), still_picture (1), reduced_still_picture_header (1)
                let Some(first) = unit.payload.first() else { return false };
                reduced_still_picture = Some(first & 0x08 != 0);
            }
            (UNIT_FRAME_HEADER | UNIT_FRAME, Some(true)) => return true,
            (UNIT_FRAME_HEADER | UNIT_FRAME, Some(false)) => {
                // show_existing_frame (1) is 0, frame_type (2) is KEY_FRAME, show_frame (1) is 1
                return unit.payload.first().is_some_and(|first| first & 0xf0 == 0x10);
            }
            (UNIT_FRAME_HEADER | UNIT_FRAME, None) => return false,
            _ => {}
        }
    }
    false
}

/// The open bitstream units of a buffer. A unit without a size takes all that is left. A broken unit is the last item,
/// an error. (5.3)
///
/// ```
/// use shardcast_engine::codec::av1::Units;
///
/// # let key_frame = [
/// #     0x0a, 0x0a, 0x00, 0x00, 0x00, 0x02, 0xaf, 0xff, 0x9b, 0x5f, 0x20, 0x08, 0x32, 0x0e, 0x10,
/// #     0x00, 0x96, 0x80, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0xeb, 0xc6, 0x8e, 0xf0
/// # ];
/// // A sequence header and a frame.
/// let kinds: Result<Vec<u8>, _> = Units::new(&key_frame).map(|unit| unit.map(|unit| unit.kind)).collect();
/// assert_eq!(kinds?, [1, 6]);
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Units<'a> {
    reader: Reader<'a>,
}

/// An open bitstream unit.
///
/// ```
/// use shardcast_engine::codec::av1::{Unit, Units};
///
/// // A temporal delimiter, which MP4 leaves out: type 2, and nothing in it.
/// let delimiter = Units::new(&[0x12, 0x00]).next().expect("there is one")?;
/// assert_eq!(delimiter, Unit { kind: 2, extension: None, payload: &[], at: 2 });
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit<'a> {
    /// `obu_type`.
    pub kind: u8,
    /// The byte that says of which layer it is, if there is one.
    pub extension: Option<u8>,
    /// What follows header and size.
    pub payload: &'a [u8],
    /// Where the payload stands, in bytes from the start of the buffer.
    pub at: usize,
}

impl<'a> Units<'a> {
    /// Over `data`.
    pub const fn new(data: &'a [u8]) -> Self {
        Units { reader: Reader::new(data) }
    }

    fn unit(&mut self) -> Result<Unit<'a>, Error> {
        let start = self.reader.position() as u64;
        let header = self.reader.u8("header of an open bitstream unit")?;
        if header & 0x80 != 0 {
            return Err(Error::malformed("forbidden bit of an open bitstream unit", start));
        }
        let extension = if header & 0x04 != 0 {
            Some(self.reader.u8("extension header of an open bitstream unit")?)
        } else {
            None
        };
        let length = if header & 0x02 != 0 { leb128(&mut self.reader)? } else { self.reader.remaining() };
        let at = self.reader.position();
        let payload = self.reader.take(length, "open bitstream unit")?;
        Ok(Unit { kind: header >> 3 & 15, extension, payload, at })
    }
}

impl Unit<'_> {
    /// Appends the unit, with its size.
    pub(crate) fn write(&self, out: &mut impl BufMut) {
        let (head, head_len) = self.head(true);
        out.put_slice(head.split_at(head_len).0);
        let mut size = self.payload.len();
        while size > 0x7f {
            out.put_u8(0x80 | (size & 0x7f) as u8);
            size >>= 7;
        }
        out.put_u8(size as u8);
        out.put_slice(self.payload);
    }

    /// Its header, and how many of these bytes that is.
    pub(crate) fn head(&self, has_size: bool) -> ([u8; 2], usize) {
        let flags = u8::from(self.extension.is_some()) << 2 | u8::from(has_size) << 1;
        let len = 1 + usize::from(self.extension.is_some());
        ([self.kind << 3 | flags, self.extension.unwrap_or(0)], len)
    }

    /// True for what stands between temporal units, and for what no stream has: packets carry neither. (RTP Payload Format For AV1, 5)
    #[cfg(feature = "rtsp")]
    pub(crate) fn is_left_out(&self) -> bool {
        matches!(self.kind, UNIT_DELIMITER | UNIT_TILE_LIST)
    }

    /// True for a sequence header.
    #[cfg(feature = "rtsp")]
    pub(crate) fn is_sequence_header(&self) -> bool {
        self.kind == UNIT_SEQUENCE_HEADER
    }

    /// True for what something is shown by.
    #[cfg(feature = "rtsp")]
    pub(crate) fn is_picture(&self) -> bool {
        matches!(self.kind, UNIT_FRAME_HEADER | UNIT_FRAME)
    }
}

impl<'a> Iterator for Units<'a> {
    type Item = Result<Unit<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let unit = self.unit();
        if unit.is_err() {
            self.reader.rest();
        }
        Some(unit)
    }
}

const UNIT_SEQUENCE_HEADER: u8 = 1;
const UNIT_FRAME_HEADER: u8 = 3;
const UNIT_FRAME: u8 = 6;
#[cfg(feature = "rtsp")]
const UNIT_DELIMITER: u8 = 2;
#[cfg(feature = "rtsp")]
const UNIT_TILE_LIST: u8 = 8;

/// A number in up to eight bytes of seven bits, which has to fit 32 bits. (4.10.5)
pub(crate) fn leb128(reader: &mut Reader<'_>) -> Result<usize, Error> {
    let at = reader.position() as u64;
    let mut value = 0u64;
    for place in 0..8 {
        let byte = reader.u8("size of an open bitstream unit")?;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return u32::try_from(value)
                .ok()
                .and_then(|value| usize::try_from(value).ok())
                .ok_or(Error::malformed("size of an open bitstream unit", at));
        }
    }
    Err(Error::malformed("size of an open bitstream unit", at))
}

/// Bits of the delays in `operating_parameters_info`, when the sequence has a decoder model.
type DecoderModel = Option<usize>;

/// `timing_info` and `decoder_model_info`. (5.5.3, 5.5.4)
fn timing(reader: &mut BitReader<'_>) -> Result<(Option<FrameRate>, DecoderModel), Error> {
    if !reader.bit("timing_info_present_flag")? {
        return Ok((None, None));
    }
    let units_in_tick = reader.bits(32, "num_units_in_display_tick")?;
    let time_scale = reader.bits(32, "time_scale")?;
    let frame_rate = if reader.bit("equal_picture_interval")? {
        let ticks = u64::from(reader.ue("num_ticks_per_picture_minus_1")?) + 1;
        units_in_tick.checked_mul(ticks).and_then(|units| FrameRate::new(time_scale, units))
    } else {
        None
    };
    let decoder_model = if reader.bit("decoder_model_info_present_flag")? {
        let delay_bits = reader.bits(5, "buffer_delay_length_minus_1")? as usize + 1;
        reader.skip(32 + 5 + 5, "decoder_model_info")?;
        Some(delay_bits)
    } else {
        None
    };
    Ok((frame_rate, decoder_model))
}

/// Level and tier of the first operating point; the others are read past. (5.5.1)
fn operating_points(reader: &mut BitReader<'_>, decoder_model: DecoderModel) -> Result<(u8, bool), Error> {
    /// Levels above 3.3 have two tiers.
    const LEVEL_WITHOUT_TIER_MAX: u8 = 7;
    let initial_display_delay_present = reader.bit("initial_display_delay_present_flag")?;
    let mut first = None;
    for _ in 0..=reader.bits(5, "operating_points_cnt_minus_1")? {
        reader.skip(12, "operating_point_idc")?;
        let level = reader.bits(5, "seq_level_idx")? as u8;
        let high_tier = level > LEVEL_WITHOUT_TIER_MAX && reader.bit("seq_tier")?;
        if let Some(delay_bits) = decoder_model
            && reader.bit("decoder_model_present_for_this_op")?
        {
            reader.skip(2 * delay_bits + 1, "operating_parameters_info")?;
        }
        if initial_display_delay_present && reader.bit("initial_display_delay_present_for_this_op")? {
            reader.skip(4, "initial_display_delay_minus_1")?;
        }
        first = first.or(Some((level, high_tier)));
    }
    Ok(first.expect("a count that is written less one is at least one"))
}

/// What stands between the size of the frames and their colours: which tools the encoder may use. (5.5.1)
fn skip_tools(reader: &mut BitReader<'_>, reduced_still_picture: bool) -> Result<(), Error> {
    if !reduced_still_picture && reader.bit("frame_id_numbers_present_flag")? {
        reader.skip(4 + 3, "lengths of frame ids")?;
    }
    reader.skip(3, "use_128x128_superblock, enable_filter_intra, enable_intra_edge_filter")?;
    if !reduced_still_picture {
        reader.skip(4, "compound and warped motion tools")?;
        let order_hint = reader.bit("enable_order_hint")?;
        if order_hint {
            reader.skip(2, "enable_jnt_comp and enable_ref_frame_mvs")?;
        }
        let choose_screen_content = reader.bit("seq_choose_screen_content_tools")?;
        let screen_content = choose_screen_content || reader.bit("seq_force_screen_content_tools")?;
        if screen_content && !reader.bit("seq_choose_integer_mv")? {
            reader.skip(1, "seq_force_integer_mv")?;
        }
        if order_hint {
            reader.skip(3, "order_hint_bits_minus_1")?;
        }
    }
    reader.skip(3, "enable_superres, enable_cdef, enable_restoration")
}

/// `color_config`, as far as it is needed. (5.5.2)
fn colour_configuration(reader: &mut BitReader<'_>, profile: u8) -> Result<(u8, Chroma, Colour), Error> {
    const PRIMARIES_BT709: u8 = 1;
    const TRANSFER_SRGB: u8 = 13;
    const MATRIX_IDENTITY: u8 = 0;
    let high_bit_depth = reader.bit("high_bitdepth")?;
    let bit_depth = match (high_bit_depth, profile) {
        (false, _) => 8,
        (true, 2) => {
            if reader.bit("twelve_bit")? {
                12
            } else {
                10
            }
        }
        (true, _) => 10,
    };
    let monochrome = profile != 1 && reader.bit("mono_chrome")?;
    let mut colour = Colour::default();
    if reader.bit("color_description_present_flag")? {
        colour.primaries = reader.u8("color_primaries")?;
        colour.transfer = reader.u8("transfer_characteristics")?;
        colour.matrix = reader.u8("matrix_coefficients")?;
    }
    let is_rgb = (colour.primaries, colour.transfer, colour.matrix)
        == (PRIMARIES_BT709, TRANSFER_SRGB, MATRIX_IDENTITY);
    let mut chroma = Chroma { monochrome, subsampling_x: false, subsampling_y: false, position: 0 };
    if is_rgb && !monochrome {
        colour.full_range = true;
        return Ok((bit_depth, chroma, colour));
    }
    colour.full_range = reader.bit("color_range")?;
    (chroma.subsampling_x, chroma.subsampling_y) = match profile {
        _ if monochrome => (true, true),
        0 => (true, true),
        1 => (false, false),
        _ if bit_depth == 12 => {
            let across = reader.bit("subsampling_x")?;
            (across, across && reader.bit("subsampling_y")?)
        }
        _ => (true, false),
    };
    if !monochrome && chroma.subsampling_x && chroma.subsampling_y {
        chroma.position = reader.bits(2, "chroma_sample_position")? as u8;
    }
    Ok((bit_depth, chroma, colour))
}

fn codec_string(
    profile: u8,
    level: u8,
    high_tier: bool,
    bit_depth: u8,
    chroma: Chroma,
    colour: Colour,
) -> String {
    let tier = if high_tier { 'H' } else { 'M' };
    let mut text = format!("av01.{profile}.{level:02}{tier}.{bit_depth:02}");
    let is_plain_420 = !chroma.monochrome && chroma.subsampling_x && chroma.subsampling_y;
    if !is_plain_420 || !colour.is_bt709_or_unsaid() {
        let monochrome = u8::from(chroma.monochrome);
        let (across, down) = (u8::from(chroma.subsampling_x), u8::from(chroma.subsampling_y));
        let position = chroma.position;
        let Colour { primaries, transfer, matrix, full_range } = colour;
        let full_range = u8::from(full_range);
        text.push_str(&format!(
            ".{monochrome}.{across}{down}{position}.{primaries:02}.{transfer:02}.{matrix:02}.{full_range}"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::samples::{self, hex};

    #[test]
    fn what_libaom_and_svt_write_has_the_size_and_profile_that_ffprobe_says() {
        for (configuration, size, profile, bit_depth, codec_string) in [
            (samples::AV1_MAIN_180, (320, 180), 0, 8, "av01.0.00M.08"),
            (samples::AV1_MAIN_10_720, (1280, 720), 0, 10, "av01.0.05M.10"),
            (samples::AV1_HIGH_444, (640, 360), 1, 8, "av01.1.01M.08.0.000.01.01.01.0"),
        ] {
            let configuration = Configuration::parse(&hex(configuration)).unwrap();
            assert_eq!(configuration.codec_string(), codec_string);
            assert_eq!((configuration.profile, configuration.bit_depth), (profile, bit_depth));
            let header = configuration.sequence_header.unwrap();
            assert_eq!(
                ((header.width, header.height), header.profile, header.bit_depth),
                (size, profile, bit_depth)
            );
            assert_eq!((header.level, header.high_tier), (configuration.level, configuration.high_tier));
            assert_eq!(header.chroma.subsampling_x, configuration.chroma.subsampling_x);
        }
    }

    #[test]
    fn a_configuration_without_a_sequence_header_says_what_its_own_fields_say() {
        let bare = Configuration::parse(&hex(samples::AV1_MAIN_10_720)[..4]).unwrap();
        assert_eq!((bare.codec_string().as_str(), bare.sequence_header), ("av01.0.05M.10", None));
    }

    #[test]
    fn a_configuration_that_breaks_a_rule_says_where() {
        let whole = hex(samples::AV1_MAIN_180);
        let error = |bytes: &[u8]| Configuration::parse(bytes).unwrap_err();
        assert_eq!(error(&whole[..3]), Error::truncated("initial_presentation_delay of av1C", 3));
        assert_eq!(error(&whole[..10]), Error::truncated("open bitstream unit", 6));
        assert_eq!(error(&[&whole[..4], &[0x8a, 0]].concat()).at, 4);
        assert_eq!(error(&[&whole[..4], &[0x0a], &[0xff; 8]].concat()).at, 5);
        // A sequence header of two bytes ends before its size is said.
        assert_eq!(error(&[&whole[..4], &[0x0a, 2, 0, 0]].concat()).at, 7);
    }

    #[test]
    fn only_a_shown_key_frame_behind_its_sequence_header_is_a_place_to_begin() {
        let key = hex(samples::AV1_KEY);
        let sequence_header = &key[..12];
        assert!(is_key(&key));
        assert!(!is_key(&key[12..]), "the sequence header is missing");
        assert!(!is_key(sequence_header), "the frame is missing");
        let with_frame = |header: u8| is_key(&[sequence_header, &[0x32, 1, header]].concat());
        assert!(with_frame(0x10));
        assert!(!with_frame(0x00), "a forward key frame is shown later");
        assert!(!with_frame(0x30), "an inter frame");
        assert!(!with_frame(0x90), "an old frame is shown again");
    }
}
