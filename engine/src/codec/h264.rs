//! H.264: the decoder configuration `avcC` (ISO/IEC 14496-15, 5.3.3.1), the sequence parameter set (ITU-T H.264, 7.3.2.1.1
//! and annex E), and what tells a picture that a decoder can begin at.

use crate::{
    bits::{BitReader, Reader},
    codec::{
        nal::{self, LengthPrefixed, LengthSize},
        vui::{self, Vui},
    },
    error::Error,
    limits,
};

/// The contents of `avcC`. What follows the parameter sets (chroma format and depths of the high profiles) is not read:
/// the sequence parameter set says the same, and some encoders leave it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration<'a> {
    /// Size of the length before each NAL unit of the stream.
    pub length_size: LengthSize,
    /// Sequence parameter sets, each a NAL unit; at least one.
    pub sequence_parameter_sets: Vec<&'a [u8]>,
    /// Picture parameter sets, each a NAL unit.
    pub picture_parameter_sets: Vec<&'a [u8]>,
    /// The first sequence parameter set.
    pub sps: Sps,
}

impl<'a> Configuration<'a> {
    /// Parses the contents of `avcC`.
    ///
    /// ```
    /// use shardcast_engine::codec::h264::Configuration;
    ///
    /// # let avcc = [
    /// #     0x01, 0x64, 0x00, 0x1f, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40,
    /// #     0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc0,
    /// #     0xf1, 0x83, 0x19, 0x60, 0x01, 0x00, 0x06, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8,
    /// #     0xf8, 0x00
    /// # ];
    /// let configuration = Configuration::parse(&avcc)?;
    /// assert_eq!((configuration.sps.width, configuration.sps.height), (1280, 720));
    /// assert_eq!(configuration.sps.vui.frame_rate.map(|rate| rate.numerator), Some(30));
    /// assert_eq!(configuration.picture_parameter_sets.len(), 1);
    /// # Ok::<(), shardcast_engine::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// It is cut short, has no sequence parameter set, or the first one is broken.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        if reader.u8("version of avcC")? != 1 {
            return Err(Error::malformed("avcC has a version other than 1", 0));
        }
        // Profile, compatibility and level: the sequence parameter set has them too, and it is what a decoder believes.
        reader.skip(3, "profile and level of avcC")?;
        let length_size = LengthSize::from_minus_one(reader.u8("length size of avcC")?)
            .ok_or(Error::malformed("avcC asks for NAL unit lengths of three bytes", 4))?;

        let sps_count = reader.u8("count of sequence parameter sets")? & 0x1f;
        let first_sps_at = reader.position() as u64 + 2;
        let sequence_parameter_sets = parameter_sets(&mut reader, sps_count)?;
        let pps_count = reader.u8("count of picture parameter sets")?;
        let picture_parameter_sets = parameter_sets(&mut reader, pps_count)?;

        let first = sequence_parameter_sets
            .first()
            .ok_or(Error::malformed("avcC has no sequence parameter set", first_sps_at - 3))?;
        let sps = Sps::parse(first).map_err(|error| error.after(first_sps_at))?;
        Ok(Configuration { length_size, sequence_parameter_sets, picture_parameter_sets, sps })
    }
}

/// What a sequence parameter set says about the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sps {
    /// `profile_idc`: 66 baseline, 77 main, 100 high, 110 high 10, 122 high 4:2:2, 244 high 4:4:4 predictive.
    pub profile: u8,
    /// The byte of `constraint_set0_flag` to `constraint_set5_flag` and two zero bits.
    pub constraints: u8,
    /// `level_idc`: ten times the level.
    pub level: u8,
    /// `chroma_format_idc`: 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format: u8,
    /// Bits of a luma sample.
    pub bit_depth_luma: u8,
    /// Bits of a chroma sample.
    pub bit_depth_chroma: u8,
    /// Luma samples across, after cropping.
    pub width: u32,
    /// Luma samples down, of a whole frame, after cropping.
    pub height: u32,
    /// True when pictures may be fields.
    pub interlaced: bool,
    /// Frames that may be decoded before one that is shown earlier than they; `None` when nothing is said of it. (E.2.1,
    /// `max_num_reorder_frames`)
    pub reorder_frames: Option<u8>,
    /// What annex E adds.
    pub vui: Vui,
}

impl Sps {
    /// Parses a NAL unit of type 7, its header included.
    ///
    /// ```
    /// use shardcast_engine::codec::h264::Sps;
    ///
    /// # let unit = [
    /// #     0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03,
    /// #     0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x19
    /// # ];
    /// let sps = Sps::parse(&unit)?;
    /// assert_eq!((sps.profile, sps.level, sps.codec_string().as_str()), (100, 31, "avc1.64001f"));
    /// // The error says at which byte of the unit.
    /// assert_eq!(Sps::parse(&unit[..3]).unwrap_err().at, 3);
    /// # Ok::<(), shardcast_engine::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// It is cut short before the size of the picture is known, or says something the standard rules out. Broken
    /// usability information is no error: some cameras cut it short, and a decoder does not need it.
    pub fn parse(unit: &[u8]) -> Result<Self, Error> {
        let payload = nal::without_emulation_prevention(unit);
        Self::parse_payload(&payload)
            .map_err(|error| Error { at: nal::place_in_unit(unit, error.at), ..error })
    }

    fn parse_payload(payload: &[u8]) -> Result<Self, Error> {
        let mut reader = BitReader::new(payload);
        let header = reader.u8("header of a sequence parameter set")?;
        if header & 0x1f != UNIT_SPS {
            return Err(Error::malformed("NAL unit is not a sequence parameter set", 0));
        }
        let profile = reader.u8("profile_idc")?;
        let constraints = reader.u8("constraint flags")?;
        let level = reader.u8("level_idc")?;
        reader.ue_at_most(31, "seq_parameter_set_id")?;

        let format = if has_chroma_format(profile) { Format::parse(&mut reader)? } else { Format::default() };

        reader.ue_at_most(12, "log2_max_frame_num_minus4")?;
        let order = skip_picture_order(&mut reader)?;
        reader.ue("max_num_ref_frames")?;
        reader.skip(1, "gaps_in_frame_num_value_allowed_flag")?;
        let size = Size::parse(&mut reader, format)?;

        let (vui, reorder_frames) = match reader.bit("vui_parameters_present_flag") {
            Ok(true) => read_vui(&mut reader),
            Ok(false) | Err(_) => (Vui::default(), None),
        };
        // Neither can have frames in another order: the one has no B slices, the other counts frames as they come. (A.2.1,
        // 8.2.1.3)
        let in_order = profile == PROFILE_BASELINE || order == ORDER_OF_DECODING;
        let reorder_frames = if in_order { Some(0) } else { reorder_frames };
        Ok(Sps {
            reorder_frames,
            profile,
            constraints,
            level,
            chroma_format: format.chroma,
            bit_depth_luma: format.bit_depth_luma,
            bit_depth_chroma: format.bit_depth_chroma,
            width: size.width,
            height: size.height,
            interlaced: size.interlaced,
            vui,
        })
    }

    /// `avc1.PPCCLL` of RFC 6381, 3.3.
    pub fn codec_string(&self) -> String {
        format!("avc1.{:02x}{:02x}{:02x}", self.profile, self.constraints, self.level)
    }
}

/// True when the first slice of the access unit belongs to an IDR picture: every decoder can begin here.
///
/// ```
/// use shardcast_engine::codec::{h264::is_idr, nal::LengthSize};
///
/// assert!(is_idr(&[0, 0, 0, 2, 0x65, 0x88], LengthSize::Four));
/// assert!(!is_idr(&[0, 0, 0, 2, 0x41, 0x9a], LengthSize::Four));
/// ```
pub fn is_idr(data: &[u8], length_size: LengthSize) -> bool {
    for unit in LengthPrefixed::new(data, length_size) {
        match unit.ok().and_then(unit_type) {
            Some(UNIT_SLICE_IDR) => return true,
            Some(UNIT_SLICE..UNIT_SLICE_IDR) | None => return false,
            Some(_) => {}
        }
    }
    false
}

/// `recovery_frame_cnt` of a recovery point message before the first slice: a decoder that begins here shows correct
/// pictures after that many frames. 0 marks an I picture of an open group; more, an encoder that refreshes the picture
/// in stripes (x264's `intra-refresh`) and may never send an IDR picture again. (ITU-T H.264, D.2.8)
///
/// ```
/// use shardcast_engine::codec::{h264::recovery_point, nal::LengthSize};
///
/// // A recovery point message (kind 6, one byte long, the count 2 in it) before a slice.
/// let unit = [0, 0, 0, 5, 0x06, 6, 1, 0x71, 0x80, 0, 0, 0, 2, 0x41, 0x9a];
/// assert_eq!(recovery_point(&unit, LengthSize::Four), Some(2));
/// ```
pub fn recovery_point(data: &[u8], length_size: LengthSize) -> Option<u32> {
    for unit in LengthPrefixed::new(data, length_size) {
        let unit = unit.ok()?;
        match unit_type(unit)? {
            UNIT_SLICE..=UNIT_SLICE_IDR => return None,
            UNIT_SEI => {
                if let Some(frames) = recovery_point_in_sei(&nal::without_emulation_prevention(unit)) {
                    return Some(frames);
                }
            }
            _ => {}
        }
    }
    None
}

/// True for an access unit that no other refers to: one that is left out is missed by nobody. (7.4.1, `nal_ref_idc`)
///
/// ```
/// use shardcast_engine::codec::{h264::is_disposable, nal::LengthSize};
///
/// assert!(is_disposable(&[0, 0, 0, 2, 0x01, 0x9e], LengthSize::Four));
/// assert!(!is_disposable(&[0, 0, 0, 2, 0x41, 0x9e], LengthSize::Four));
/// ```
pub fn is_disposable(data: &[u8], length_size: LengthSize) -> bool {
    let is_referred_to = |unit: &[u8]| {
        let is_slice = matches!(unit_type(unit), Some(UNIT_SLICE..=UNIT_SLICE_IDR));
        is_slice && unit.first().is_some_and(|header| header & 0x60 != 0)
    };
    !LengthPrefixed::new(data, length_size).map_while(Result::ok).any(is_referred_to)
}

/// `nal_unit_type` of a NAL unit; `None` when it is empty.
pub fn unit_type(unit: &[u8]) -> Option<u8> {
    unit.first().map(|header| header & 0x1f)
}

const UNIT_SLICE: u8 = 1;
const UNIT_SLICE_IDR: u8 = 5;
const UNIT_SEI: u8 = 6;
const UNIT_SPS: u8 = 7;
const SEI_RECOVERY_POINT: usize = 6;
const PROFILE_BASELINE: u8 = 66;
/// `pic_order_cnt_type` of frames that are shown as they are decoded.
const ORDER_OF_DECODING: u32 = 2;
/// Frames that a decoder has room for. (A.3.1)
const FRAMES_MAX: u32 = 16;

fn parameter_sets<'a>(reader: &mut Reader<'a>, count: u8) -> Result<Vec<&'a [u8]>, Error> {
    let mut sets = Vec::new();
    for _ in 0..count {
        let length = reader.u16("length of a parameter set")?;
        sets.push(reader.take(length.into(), "parameter set")?);
    }
    Ok(sets)
}

/// Profiles whose sequence parameter set says its chroma format and bit depths. (7.3.2.1.1)
const fn has_chroma_format(profile: u8) -> bool {
    matches!(profile, 44 | 83 | 86 | 100 | 110 | 118 | 122 | 128 | 134 | 135 | 138 | 139 | 244)
}

#[derive(Clone, Copy)]
struct Format {
    chroma: u8,
    bit_depth_luma: u8,
    bit_depth_chroma: u8,
}

impl Default for Format {
    fn default() -> Self {
        Format { chroma: 1, bit_depth_luma: 8, bit_depth_chroma: 8 }
    }
}

impl Format {
    fn parse(reader: &mut BitReader<'_>) -> Result<Self, Error> {
        let chroma = reader.ue_at_most(3, "chroma_format_idc")? as u8;
        if chroma == 3 {
            reader.skip(1, "separate_colour_plane_flag")?;
        }
        let bit_depth_luma = 8 + reader.ue_at_most(6, "bit_depth_luma_minus8")? as u8;
        let bit_depth_chroma = 8 + reader.ue_at_most(6, "bit_depth_chroma_minus8")? as u8;
        reader.skip(1, "qpprime_y_zero_transform_bypass_flag")?;
        if reader.bit("seq_scaling_matrix_present_flag")? {
            let lists = if chroma == 3 { 12 } else { 8 };
            for list in 0..lists {
                if reader.bit("seq_scaling_list_present_flag")? {
                    skip_scaling_list(reader, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
        Ok(Format { chroma, bit_depth_luma, bit_depth_chroma })
    }
}

/// 7.3.2.1.1.1: a list ends early when the next scale becomes 0.
fn skip_scaling_list(reader: &mut BitReader<'_>, length: usize) -> Result<(), Error> {
    let mut scale = 8;
    for _ in 0..length {
        let delta = reader.se("delta_scale")?;
        if !(-128..=127).contains(&delta) {
            return Err(reader.malformed("delta_scale"));
        }
        scale = (scale + delta + 256) % 256;
        if scale == 0 {
            break;
        }
    }
    Ok(())
}

/// Returns `pic_order_cnt_type`.
fn skip_picture_order(reader: &mut BitReader<'_>) -> Result<u32, Error> {
    let kind = reader.ue_at_most(2, "pic_order_cnt_type")?;
    match kind {
        0 => {
            reader.ue_at_most(12, "log2_max_pic_order_cnt_lsb_minus4")?;
        }
        1 => {
            reader.skip(1, "delta_pic_order_always_zero_flag")?;
            reader.se("offset_for_non_ref_pic")?;
            reader.se("offset_for_top_to_bottom_field")?;
            for _ in 0..reader.ue_at_most(255, "num_ref_frames_in_pic_order_cnt_cycle")? {
                reader.se("offset_for_ref_frame")?;
            }
        }
        _ => {}
    }
    Ok(kind)
}

struct Size {
    width: u32,
    height: u32,
    interlaced: bool,
}

impl Size {
    fn parse(reader: &mut BitReader<'_>, format: Format) -> Result<Self, Error> {
        const MACROBLOCK: u32 = 16;
        const MACROBLOCKS_MAX: u32 = limits::PICTURE_SIDE_MAX / MACROBLOCK;
        let columns = 1 + reader.ue_at_most(MACROBLOCKS_MAX - 1, "pic_width_in_mbs_minus1")?;
        let rows = 1 + reader.ue_at_most(MACROBLOCKS_MAX - 1, "pic_height_in_map_units_minus1")?;
        let interlaced = !reader.bit("frame_mbs_only_flag")?;
        if interlaced {
            reader.skip(1, "mb_adaptive_frame_field_flag")?;
        }
        reader.skip(1, "direct_8x8_inference_flag")?;

        // In an interlaced sequence a map unit, and so a cropping unit, covers two rows. (7.4.2.1.1)
        let rows_per_unit = if interlaced { 2 } else { 1 };
        let (coded_width, coded_height) = (columns * MACROBLOCK, rows * MACROBLOCK * rows_per_unit);
        let (mut width, mut height) = (coded_width, coded_height);
        if reader.bit("frame_cropping_flag")? {
            let (across, down) = vui::cropping_unit(format.chroma);
            width = vui::cropped(reader, coded_width, across)?;
            height = vui::cropped(reader, coded_height, down * rows_per_unit)?;
        }
        if height > limits::PICTURE_SIDE_MAX {
            return Err(reader.malformed("picture is too high"));
        }
        Ok(Size { width, height, interlaced })
    }
}

/// Reads as far as the bits last and make sense: with it `max_num_reorder_frames`. (E.1.1)
fn read_vui(reader: &mut BitReader<'_>) -> (Vui, Option<u8>) {
    let (mut vui, mut reorder_frames) = (Vui::default(), None);
    let mut read = || -> Result<(), Error> {
        vui.read_picture(reader)?;
        if reader.bit("timing_info_present_flag")? {
            // A tick is a field's time, and a frame has two, in progressive sequences as well. (E.2.1)
            vui.read_timing(reader, 2)?;
            reader.skip(1, "fixed_frame_rate_flag")?;
        }
        let nal = reader.bit("nal_hrd_parameters_present_flag")?;
        if nal {
            skip_hrd(reader)?;
        }
        let vcl = reader.bit("vcl_hrd_parameters_present_flag")?;
        if vcl {
            skip_hrd(reader)?;
        }
        if nal || vcl {
            reader.skip(1, "low_delay_hrd_flag")?;
        }
        reader.skip(1, "pic_struct_present_flag")?;
        if reader.bit("bitstream_restriction_flag")? {
            reader.skip(1, "motion_vectors_over_pic_boundaries_flag")?;
            for _ in 0..4 {
                reader.ue("sizes and lengths of bitstream restrictions")?;
            }
            reorder_frames = Some(reader.ue_at_most(FRAMES_MAX, "max_num_reorder_frames")? as u8);
        }
        Ok(())
    };
    // The result says only where reading stopped; what was read before that is kept.
    let _ = read();
    (vui, reorder_frames)
}

/// `hrd_parameters`. (E.1.2)
fn skip_hrd(reader: &mut BitReader<'_>) -> Result<(), Error> {
    let buffers = 1 + reader.ue_at_most(31, "cpb_cnt_minus1")?;
    reader.skip(8, "bit_rate_scale and cpb_size_scale")?;
    for _ in 0..buffers {
        reader.ue("bit_rate_value_minus1")?;
        reader.ue("cpb_size_value_minus1")?;
        reader.skip(1, "cbr_flag")?;
    }
    reader.skip(20, "lengths of delays and of the time offset")
}

fn recovery_point_in_sei(payload: &[u8]) -> Option<u32> {
    let mut reader = Reader::new(payload);
    reader.skip(1, "header of an SEI unit").ok()?;
    // A message takes at least two bytes, so that the stop bit's byte alone is the end. (7.3.2.3.1)
    while reader.remaining() >= 2 {
        let kind = sei_number(&mut reader).ok()?;
        let length = sei_number(&mut reader).ok()?;
        let message = reader.take(length, "SEI message").ok()?;
        if kind == SEI_RECOVERY_POINT {
            return BitReader::new(message).ue("recovery_frame_cnt").ok();
        }
    }
    None
}

/// A number as a run of bytes, each adding itself, that ends with the first below 255.
fn sei_number(reader: &mut Reader<'_>) -> Result<usize, Error> {
    let mut number = 0usize;
    loop {
        let byte = reader.u8("SEI message")?;
        number = number.saturating_add(byte.into());
        if byte < 255 {
            return Ok(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        codec::{
            Colour, FrameRate,
            samples::{self, hex},
        },
        error::ErrorKind,
    };

    fn sps(configuration: &str) -> Sps {
        Configuration::parse(&hex(configuration)).unwrap().sps
    }

    #[test]
    fn what_x264_writes_has_the_size_and_profile_that_ffprobe_says() {
        for (configuration, width, height, codec_string) in [
            (samples::H264_HIGH_720, 1280, 720, "avc1.64001f"),
            (samples::H264_BASELINE_1080, 1920, 1080, "avc1.42c028"),
            (samples::H264_444_SAR, 322, 242, "avc1.f4000d"),
            (samples::H264_576I, 720, 576, "avc1.64001e"),
            (samples::H264_422_10_HDR, 320, 240, "avc1.7a000d"),
        ] {
            let sps = sps(configuration);
            assert_eq!((sps.width, sps.height), (width, height));
            assert_eq!(sps.codec_string(), codec_string);
        }
    }

    #[test]
    fn formats_depths_and_fields_come_from_the_sequence_parameter_set() {
        let plain = sps(samples::H264_HIGH_720);
        assert_eq!((plain.chroma_format, plain.bit_depth_luma, plain.interlaced), (1, 8, false));
        let deep = sps(samples::H264_422_10_HDR);
        assert_eq!((deep.chroma_format, deep.bit_depth_luma, deep.bit_depth_chroma), (2, 10, 10));
        assert_eq!(sps(samples::H264_444_SAR).chroma_format, 3);
        assert!(sps(samples::H264_576I).interlaced);
    }

    #[test]
    fn the_usability_information_gives_rate_aspect_and_colour() {
        let rate = |numerator, denominator| Some(FrameRate { numerator, denominator });
        assert_eq!(sps(samples::H264_HIGH_720).vui.frame_rate, rate(30, 1));
        assert_eq!(sps(samples::H264_BASELINE_1080).vui.frame_rate, rate(30000, 1001));
        assert_eq!(sps(samples::H264_444_SAR).vui.sample_aspect_ratio, Some((4, 3)));
        assert_eq!(
            sps(samples::H264_422_10_HDR).vui.colour,
            Some(Colour { primaries: 9, transfer: 16, matrix: 9, full_range: false })
        );
    }

    #[test]
    fn how_far_frames_are_out_of_order_is_known_where_it_is_said() {
        // x264 with B-frames in a pyramid, and without any.
        assert_eq!(sps(samples::H264_HIGH_720).reorder_frames, Some(2));
        assert_eq!(sps(samples::H264_BASELINE_1080).reorder_frames, Some(0));
        let whole = hex(samples::H264_HIGH_720);
        let unit = Configuration::parse(&whole).unwrap().sequence_parameter_sets[0];
        assert_eq!(Sps::parse(&unit[..13]).unwrap().reorder_frames, None);
    }

    #[test]
    fn usability_information_that_ends_early_costs_only_itself() {
        let whole = hex(samples::H264_HIGH_720);
        let unit = Configuration::parse(&whole).unwrap().sequence_parameter_sets[0];
        let cut = Sps::parse(&unit[..13]).unwrap();
        assert_eq!((cut.width, cut.height, cut.vui.frame_rate), (1280, 720, None));
    }

    #[test]
    fn an_error_counts_from_the_start_of_the_configuration() {
        let whole = hex(samples::H264_HIGH_720);
        let error = |bytes: &[u8]| Configuration::parse(bytes).unwrap_err();
        assert_eq!(error(&whole[..3]), Error::truncated("profile and level of avcC", 1));
        assert_eq!(error(&whole[..20]), Error::truncated("parameter set", 8));
        let mut bad = whole.clone();
        bad[8] = 0x68;
        assert_eq!(error(&bad), Error::malformed("NAL unit is not a sequence parameter set", 8));
        // A length of five for the sequence parameter set cuts it before its size.
        let mut short = whole[..6].to_vec();
        short.extend([0, 5]);
        short.extend(&whole[8..13]);
        short.push(0);
        assert_eq!((error(&short).kind, error(&short).at), (ErrorKind::Truncated, 13));
        let mut three = whole.clone();
        three[4] = 0xfe;
        assert_eq!(error(&three).at, 4);
        let mut none = whole;
        none[5] = 0xe0;
        none[6] = 0;
        assert_eq!(error(&none), Error::malformed("avcC has no sequence parameter set", 5));
    }

    #[test]
    fn an_idr_picture_is_told_from_others_and_from_a_recovery_point() {
        assert!(is_idr(&hex(samples::H264_IDR), LengthSize::Four));
        assert!(!is_idr(&hex(samples::H264_P), LengthSize::Four));
        assert!(!is_idr(&hex(samples::H264_REFRESH), LengthSize::Four));
        assert_eq!(recovery_point(&hex(samples::H264_REFRESH), LengthSize::Four), Some(2));
        assert_eq!(recovery_point(&hex(samples::H264_IDR), LengthSize::Four), None);
        assert_eq!(recovery_point(&hex(samples::H264_P), LengthSize::Four), None);
        // A frame cut short is no key frame.
        assert!(!is_idr(&hex(samples::H264_IDR)[..20], LengthSize::Four));
    }
}
