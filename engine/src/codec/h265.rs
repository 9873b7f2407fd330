//! H.265 (HEVC): the decoder configuration `hvcC` (ISO/IEC 14496-15, 8.3.3.1), the sequence parameter set (ITU-T H.265,
//! 7.3.2.2 and annex E), and what tells a picture that a decoder can begin at.

use crate::{
    bits::{BitReader, Reader},
    codec::{
        nal::{self, LengthPrefixed, LengthSize},
        vui::{self, Vui},
    },
    error::Error,
    limits,
};

/// The contents of `hvcC`. Profile, depths and chroma format are left to the sequence parameter set, which is what a
/// decoder believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration<'a> {
    /// Size of the length before each NAL unit of the stream.
    pub length_size: LengthSize,
    /// Video, sequence and picture parameter sets, each a NAL unit, in the order they stand in; at least one is a
    /// sequence parameter set. Other units (SEI) are left out.
    pub parameter_sets: Vec<&'a [u8]>,
    /// The first sequence parameter set.
    pub sps: Sps,
}

impl<'a> Configuration<'a> {
    /// Parses the contents of `hvcC`.
    ///
    /// ```
    /// use shardcast_engine::codec::h265::Configuration;
    ///
    /// # let hvcc = [
    /// #     0x01, 0x01, 0x60, 0x00, 0x00, 0x00, 0x90, 0x00, 0x00, 0x00, 0x00, 0x00, 0x5d, 0xf0, 0x00,
    /// #     0xfc, 0xfd, 0xf8, 0xf8, 0x00, 0x00, 0x0f, 0x03, 0xa0, 0x00, 0x01, 0x00, 0x18, 0x40, 0x01,
    /// #     0x0c, 0x01, 0xff, 0xff, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00,
    /// #     0x00, 0x03, 0x00, 0x5d, 0x95, 0x98, 0x09, 0xa1, 0x00, 0x01, 0x00, 0x2b, 0x42, 0x01, 0x01,
    /// #     0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x5d,
    /// #     0xa0, 0x02, 0x80, 0x80, 0x2d, 0x16, 0x59, 0x59, 0xa4, 0x93, 0x2b, 0xc0, 0x5a, 0x02, 0x00,
    /// #     0x00, 0x03, 0x00, 0x02, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x10, 0xa2, 0x00, 0x01, 0x00, 0x07,
    /// #     0x44, 0x01, 0xc1, 0x72, 0xb4, 0x62, 0x40
    /// # ];
    /// let configuration = Configuration::parse(&hvcc)?;
    /// assert_eq!((configuration.sps.width, configuration.sps.height), (1280, 720));
    /// assert_eq!(configuration.sps.codec_string(), "hvc1.1.6.L93.90");
    /// // Of video, sequence and picture.
    /// assert_eq!(configuration.parameter_sets.len(), 3);
    /// # Ok::<(), shardcast_engine::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// It is cut short, has no sequence parameter set or more sets than there are ids, or the first one is broken.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        // Version 0 was the draft's; files and encoders with it are still about, and nothing differs.
        if reader.u8("version of hvcC")? > 1 {
            return Err(Error::malformed("hvcC has a version other than 1", 0));
        }
        reader.skip(20, "profile, level and formats of hvcC")?;
        let length_size = LengthSize::from_minus_one(reader.u8("length size of hvcC")?)
            .ok_or(Error::malformed("hvcC asks for NAL unit lengths of three bytes", 21))?;

        let mut parameter_sets = Vec::new();
        let mut sps = None;
        for _ in 0..reader.u8("count of arrays in hvcC")? {
            reader.skip(1, "type of an array in hvcC")?;
            for _ in 0..reader.u16("count of NAL units in hvcC")? {
                let length = reader.u16("length of a parameter set")?;
                let at = reader.position() as u64;
                let unit = reader.take(length.into(), "parameter set")?;
                // The unit's own header is right where an array's type is not.
                let Some(UNIT_VPS | UNIT_SPS | UNIT_PPS) = unit_type(unit) else { continue };
                if parameter_sets.len() == PARAMETER_SETS_MAX {
                    return Err(Error::too_large("more parameter sets than there are ids for them", at));
                }
                parameter_sets.push(unit);
                if sps.is_none() && unit_type(unit) == Some(UNIT_SPS) {
                    sps = Some(Sps::parse(unit).map_err(|error| error.after(at))?);
                }
            }
        }
        let sps =
            sps.ok_or(Error::malformed("hvcC has no sequence parameter set", reader.position() as u64))?;
        Ok(Configuration { length_size, parameter_sets, sps })
    }
}

/// What a sequence parameter set says about the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sps {
    /// Profile, tier and level of the whole stream.
    pub profile: Profile,
    /// `chroma_format_idc`: 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format: u8,
    /// Bits of a luma sample.
    pub bit_depth_luma: u8,
    /// Bits of a chroma sample.
    pub bit_depth_chroma: u8,
    /// Luma samples across, inside the conformance window.
    pub width: u32,
    /// Luma samples down, inside the conformance window.
    pub height: u32,
    /// Pictures that may be decoded before one that is shown earlier than they; `None` when it cannot be read. (7.4.3.2.1,
    /// `sps_max_num_reorder_pics` of the highest sub-layer)
    pub reorder_frames: Option<u8>,
    /// What annex E adds.
    pub vui: Vui,
}

/// `general_` profile, tier and level. (7.3.3)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// `general_profile_space`.
    pub space: u8,
    /// `general_tier_flag`: the high tier.
    pub high_tier: bool,
    /// `general_profile_idc`: 1 main, 2 main 10, 4 range extensions.
    pub profile: u8,
    /// `general_profile_compatibility_flag`, the first in the most significant bit.
    pub compatibility: u32,
    /// The six bytes from `general_progressive_source_flag` on.
    pub constraints: [u8; 6],
    /// `general_level_idc`: thirty times the level.
    pub level: u8,
}

impl Sps {
    /// Parses a NAL unit of type 33, its header included.
    ///
    /// ```
    /// use shardcast_engine::codec::h265::{Configuration, Profile, Sps};
    ///
    /// # let hvcc = [
    /// #     0x01, 0x01, 0x60, 0x00, 0x00, 0x00, 0x90, 0x00, 0x00, 0x00, 0x00, 0x00, 0x5d, 0xf0, 0x00,
    /// #     0xfc, 0xfd, 0xf8, 0xf8, 0x00, 0x00, 0x0f, 0x03, 0xa0, 0x00, 0x01, 0x00, 0x18, 0x40, 0x01,
    /// #     0x0c, 0x01, 0xff, 0xff, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00,
    /// #     0x00, 0x03, 0x00, 0x5d, 0x95, 0x98, 0x09, 0xa1, 0x00, 0x01, 0x00, 0x2b, 0x42, 0x01, 0x01,
    /// #     0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x5d,
    /// #     0xa0, 0x02, 0x80, 0x80, 0x2d, 0x16, 0x59, 0x59, 0xa4, 0x93, 0x2b, 0xc0, 0x5a, 0x02, 0x00,
    /// #     0x00, 0x03, 0x00, 0x02, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x10, 0xa2, 0x00, 0x01, 0x00, 0x07,
    /// #     0x44, 0x01, 0xc1, 0x72, 0xb4, 0x62, 0x40
    /// # ];
    /// # let configuration = Configuration::parse(&hvcc)?;
    /// # let unit = configuration.parameter_sets[1];
    /// let sps = Sps::parse(unit)?;
    /// // Main profile, main tier, level 3.1.
    /// let Profile { profile, high_tier, level, .. } = sps.profile;
    /// assert_eq!((profile, high_tier, level, sps.bit_depth_luma), (1, false, 93, 8));
    /// assert_eq!(Sps::parse(&unit[..1]).unwrap_err().why, "header of a sequence parameter set");
    /// # Ok::<(), shardcast_engine::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// It is cut short before the formats of the samples are known, or says something the standard rules out. What
    /// follows them is read only to reach the usability information, and when that cannot be read it is as if absent.
    pub fn parse(unit: &[u8]) -> Result<Self, Error> {
        let payload = nal::without_emulation_prevention(unit);
        Self::parse_payload(&payload)
            .map_err(|error| Error { at: nal::place_in_unit(unit, error.at), ..error })
    }

    fn parse_payload(payload: &[u8]) -> Result<Self, Error> {
        let mut reader = BitReader::new(payload);
        if reader.bits(16, "header of a sequence parameter set")? >> 9 & 0x3f != UNIT_SPS.into() {
            return Err(Error::malformed("NAL unit is not a sequence parameter set", 0));
        }
        reader.skip(4, "sps_video_parameter_set_id")?;
        let sub_layers_minus1 = reader.bits(3, "sps_max_sub_layers_minus1")? as usize;
        reader.skip(1, "sps_temporal_id_nesting_flag")?;
        let profile = Profile::parse(&mut reader, sub_layers_minus1)?;
        reader.ue_at_most(15, "sps_seq_parameter_set_id")?;

        let chroma_format = reader.ue_at_most(3, "chroma_format_idc")? as u8;
        if chroma_format == 3 {
            reader.skip(1, "separate_colour_plane_flag")?;
        }
        let coded_width = reader.ue_at_most(limits::PICTURE_SIDE_MAX, "pic_width_in_luma_samples")?;
        let coded_height = reader.ue_at_most(limits::PICTURE_SIDE_MAX, "pic_height_in_luma_samples")?;
        let (mut width, mut height) = (coded_width, coded_height);
        if reader.bit("conformance_window_flag")? {
            let (across, down) = vui::cropping_unit(chroma_format);
            width = vui::cropped(&mut reader, coded_width, across)?;
            height = vui::cropped(&mut reader, coded_height, down)?;
        }
        if width == 0 || height == 0 {
            return Err(reader.malformed("picture without samples"));
        }
        let bit_depth_luma = 8 + reader.ue_at_most(8, "bit_depth_luma_minus8")? as u8;
        let bit_depth_chroma = 8 + reader.ue_at_most(8, "bit_depth_chroma_minus8")? as u8;

        let mut reorder_frames = None;
        let vui = match skip_to_vui(&mut reader, sub_layers_minus1, &mut reorder_frames) {
            Ok(true) => read_vui(&mut reader),
            Ok(false) | Err(_) => Vui::default(),
        };
        Ok(Sps {
            profile,
            chroma_format,
            bit_depth_luma,
            bit_depth_chroma,
            width,
            height,
            reorder_frames,
            vui,
        })
    }

    /// `hvc1.1.6.L93.B0` of ISO/IEC 14496-15, annex E.3.
    pub fn codec_string(&self) -> String {
        let Profile { space, high_tier, profile, compatibility, constraints, level } = self.profile;
        let space = ["", "A", "B", "C"].get(usize::from(space)).copied().unwrap_or_default();
        let tier = if high_tier { 'H' } else { 'L' };
        let mut text = format!("hvc1.{space}{profile}.{:X}.{tier}{level}", compatibility.reverse_bits());
        let kept = constraints.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        for byte in constraints.iter().take(kept) {
            text.push_str(&format!(".{byte:X}"));
        }
        text
    }
}

impl Profile {
    fn parse(reader: &mut BitReader<'_>, sub_layers_minus1: usize) -> Result<Self, Error> {
        let space = reader.bits(2, "general_profile_space")? as u8;
        let high_tier = reader.bit("general_tier_flag")?;
        let profile = reader.bits(5, "general_profile_idc")? as u8;
        let compatibility = reader.bits(32, "general_profile_compatibility_flag")? as u32;
        let mut constraints = [0; 6];
        for byte in &mut constraints {
            *byte = reader.u8("general constraint flags")?;
        }
        let level = reader.u8("general_level_idc")?;

        let mut sub_layer_bits = 0;
        for _ in 0..sub_layers_minus1 {
            sub_layer_bits += if reader.bit("sub_layer_profile_present_flag")? { 88 } else { 0 };
            sub_layer_bits += if reader.bit("sub_layer_level_present_flag")? { 8 } else { 0 };
        }
        if sub_layers_minus1 > 0 {
            reader.skip(2 * (8 - sub_layers_minus1), "reserved_zero_2bits")?;
        }
        reader.skip(sub_layer_bits, "profiles and levels of sub-layers")?;
        Ok(Profile { space, high_tier, profile, compatibility, constraints, level })
    }
}

/// True when the first slice of the access unit belongs to an intra random access point picture (IDR, BLA, CRA): a
/// decoder can begin here. A CRA picture may have leading pictures that a decoder which begins there leaves out.
/// (7.4.2.2, table 7-1: types 16 to 21)
///
/// ```
/// use shardcast_engine::codec::{h265::is_random_access_point, nal::LengthSize};
///
/// // Types 20 (IDR) and 1 (trailing): the type is in the upper bits of the first byte.
/// assert!(is_random_access_point(&[0, 0, 0, 3, 20 << 1, 1, 0xaf], LengthSize::Four));
/// assert!(!is_random_access_point(&[0, 0, 0, 3, 1 << 1, 1, 0xd0], LengthSize::Four));
/// ```
pub fn is_random_access_point(data: &[u8], length_size: LengthSize) -> bool {
    for unit in LengthPrefixed::new(data, length_size) {
        match unit.ok().and_then(unit_type) {
            Some(UNIT_BLA_W_LP..=UNIT_CRA) => return true,
            Some(..UNIT_VPS) | None => return false,
            Some(_) => {}
        }
    }
    false
}

/// True for an access unit that can be left out together with all others that are shown before one that was sent earlier: no picture
/// of its sub-layer refers to it, or it leads a picture at which a decoder can begin, and then only others that lead that one do. (7.4.2.2)
///
/// ```
/// use shardcast_engine::codec::{h265::is_disposable, nal::LengthSize};
///
/// // Types 0 and 1 (trailing), 9 (leading).
/// assert!(is_disposable(&[0, 0, 0, 3, 0 << 1, 1, 0xe0], LengthSize::Four));
/// assert!(!is_disposable(&[0, 0, 0, 3, 1 << 1, 1, 0xe0], LengthSize::Four));
/// assert!(is_disposable(&[0, 0, 0, 3, 9 << 1, 1, 0xe0], LengthSize::Four));
/// ```
pub fn is_disposable(data: &[u8], length_size: LengthSize) -> bool {
    let is_needed = |unit: &[u8]| match unit_type(unit) {
        Some(UNIT_RADL_N..=UNIT_RASL_R) => false,
        Some(kind @ ..UNIT_BLA_W_LP) => kind % 2 == 1,
        Some(kind) => kind < UNIT_VPS,
        None => false,
    };
    !LengthPrefixed::new(data, length_size).map_while(Result::ok).any(is_needed)
}

/// `nal_unit_type` of a NAL unit; `None` when it is empty.
pub fn unit_type(unit: &[u8]) -> Option<u8> {
    unit.first().map(|header| header >> 1 & 0x3f)
}

const UNIT_RADL_N: u8 = 6;
const UNIT_RASL_R: u8 = 9;
const UNIT_BLA_W_LP: u8 = 16;
const UNIT_CRA: u8 = 21;
/// The types below are slices.
const UNIT_VPS: u8 = 32;
const UNIT_SPS: u8 = 33;
const UNIT_PPS: u8 = 34;
/// Pictures that a decoder has room for. (A.4.2)
const FRAMES_MAX: u32 = 16;
/// Ids of video, sequence and picture parameter sets. (7.4.3)
const PARAMETER_SETS_MAX: usize = 16 + 16 + 64;

/// Reads what stands between the bit depths and the usability information; true when there is one. On the way it learns
/// `sps_max_num_reorder_pics`. (7.3.2.2.1)
fn skip_to_vui(
    reader: &mut BitReader<'_>,
    sub_layers_minus1: usize,
    reorder_frames: &mut Option<u8>,
) -> Result<bool, Error> {
    let poc_lsb_bits = 4 + reader.ue_at_most(12, "log2_max_pic_order_cnt_lsb_minus4")? as usize;
    let each_sub_layer = reader.bit("sps_sub_layer_ordering_info_present_flag")?;
    for _ in 0..if each_sub_layer { sub_layers_minus1 + 1 } else { 1 } {
        reader.ue("sps_max_dec_pic_buffering_minus1")?;
        *reorder_frames = Some(reader.ue_at_most(FRAMES_MAX, "sps_max_num_reorder_pics")? as u8);
        reader.ue("sps_max_latency_increase_plus1")?;
    }
    skip_codes(reader, 6, "sizes of coding and transform blocks")?;
    if reader.bit("scaling_list_enabled_flag")? && reader.bit("sps_scaling_list_data_present_flag")? {
        skip_scaling_lists(reader)?;
    }
    reader.skip(2, "amp_enabled_flag and sample_adaptive_offset_enabled_flag")?;
    if reader.bit("pcm_enabled_flag")? {
        reader.skip(8, "bit depths of PCM samples")?;
        skip_codes(reader, 2, "sizes of PCM blocks")?;
        reader.skip(1, "pcm_loop_filter_disabled_flag")?;
    }
    let mut pictures = PictureSet::default();
    for index in 0..reader.ue_at_most(64, "num_short_term_ref_pic_sets")? {
        pictures = if index > 0 && reader.bit("inter_ref_pic_set_prediction_flag")? {
            pictures.predicted(reader)?
        } else {
            PictureSet::parse(reader)?
        };
    }
    if reader.bit("long_term_ref_pics_present_flag")? {
        let count = reader.ue_at_most(32, "num_long_term_ref_pics_sps")? as usize;
        reader.skip(count * (poc_lsb_bits + 1), "long-term reference pictures")?;
    }
    reader.skip(2, "sps_temporal_mvp_enabled_flag and strong_intra_smoothing_enabled_flag")?;
    reader.bit("vui_parameters_present_flag")
}

fn skip_codes(reader: &mut BitReader<'_>, count: usize, what: &'static str) -> Result<(), Error> {
    for _ in 0..count {
        reader.ue(what)?;
    }
    Ok(())
}

/// `scaling_list_data`. (7.3.4)
fn skip_scaling_lists(reader: &mut BitReader<'_>) -> Result<(), Error> {
    for size in 0..4 {
        let matrices = if size == 3 { 2 } else { 6 };
        for _ in 0..matrices {
            if !reader.bit("scaling_list_pred_mode_flag")? {
                reader.ue("scaling_list_pred_matrix_id_delta")?;
                continue;
            }
            let dc = if size > 1 { 1 } else { 0 };
            let coefficients = if size == 0 { 16 } else { 64 };
            skip_codes(reader, dc + coefficients, "scaling list")?;
        }
    }
    Ok(())
}

/// A short-term reference picture set: distances in output order to the pictures before and after, nearest first. The
/// next set may be written as its difference to this one, so that its length is known only to who follows the distances.
/// (7.3.7, 7.4.8)
#[derive(Default)]
struct PictureSet {
    before: Vec<i32>,
    after: Vec<i32>,
}

/// No decoded picture buffer holds more. (A.4.2)
const REFERENCES_MAX: u32 = 16;

impl PictureSet {
    fn parse(reader: &mut BitReader<'_>) -> Result<Self, Error> {
        let before = reader.ue_at_most(REFERENCES_MAX, "num_negative_pics")?;
        let after = reader.ue_at_most(REFERENCES_MAX - before, "num_positive_pics")?;
        let mut distances = |count, sign| -> Result<Vec<i32>, Error> {
            let mut distance = 0;
            let mut distances = Vec::new();
            for _ in 0..count {
                distance += sign * (1 + reader.ue_at_most(0x7fff, "delta_poc_minus1")? as i32);
                reader.skip(1, "used_by_curr_pic_flag")?;
                distances.push(distance);
            }
            Ok(distances)
        };
        Ok(PictureSet { before: distances(before, -1)?, after: distances(after, 1)? })
    }

    fn predicted(&self, reader: &mut BitReader<'_>) -> Result<Self, Error> {
        let negative = reader.bit("delta_rps_sign")?;
        let magnitude = 1 + reader.ue_at_most(0x7fff, "abs_delta_rps_minus1")? as i32;
        let step = if negative { -magnitude } else { magnitude };
        let mut next = PictureSet::default();
        // The step itself stands last, as the distance of the picture whose set this was.
        for distance in self.before.iter().chain(&self.after).copied().chain([0]) {
            let used = reader.bit("used_by_curr_pic_flag")?;
            let kept = used || reader.bit("use_delta_flag")?;
            match distance + step {
                distance if kept && distance < 0 => next.before.push(distance),
                distance if kept && distance > 0 => next.after.push(distance),
                _ => {}
            }
        }
        if next.before.len() + next.after.len() > REFERENCES_MAX as usize {
            return Err(reader.malformed("short-term reference picture set"));
        }
        next.before.sort_unstable_by(|a, b| b.cmp(a));
        next.after.sort_unstable();
        Ok(next)
    }
}

/// Reads as far as the bits last and make sense. (E.2.1)
fn read_vui(reader: &mut BitReader<'_>) -> Vui {
    let mut vui = Vui::default();
    let mut read = || -> Result<(), Error> {
        vui.read_picture(reader)?;
        reader.skip(3, "neutral_chroma_indication_flag, field_seq_flag, frame_field_info_present_flag")?;
        if reader.bit("default_display_window_flag")? {
            skip_codes(reader, 4, "default display window")?;
        }
        if reader.bit("vui_timing_info_present_flag")? {
            vui.read_timing(reader, 1)?;
        }
        Ok(())
    };
    // The result says only where reading stopped; what was read before that is kept.
    let _ = read();
    vui
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{
        Colour, FrameRate,
        samples::{self, hex},
    };

    fn sps(configuration: &str) -> Sps {
        Configuration::parse(&hex(configuration)).unwrap().sps
    }

    #[test]
    fn what_x265_writes_has_the_size_profile_and_level_that_ffprobe_says() {
        for (configuration, size, profile, level, codec_string) in [
            (samples::H265_MAIN_720, (1280, 720), 1, 93, "hvc1.1.6.L93.90"),
            (samples::H265_MAIN10_1080_HDR, (1920, 1080), 2, 123, "hvc1.2.4.L123.90"),
            (samples::H265_444_SAR, (322, 242), 4, 60, "hvc1.4.10.L60.9E.8"),
        ] {
            let sps = sps(configuration);
            assert_eq!(
                ((sps.width, sps.height), sps.profile.profile, sps.profile.level),
                (size, profile, level)
            );
            assert_eq!(sps.codec_string(), codec_string);
        }
    }

    #[test]
    fn formats_rate_aspect_and_colour_come_from_the_sequence_parameter_set() {
        let rate = |numerator, denominator| Some(FrameRate { numerator, denominator });
        let plain = sps(samples::H265_MAIN_720);
        assert_eq!((plain.chroma_format, plain.bit_depth_luma, plain.vui.frame_rate), (1, 8, rate(30, 1)));
        let deep = sps(samples::H265_MAIN10_1080_HDR);
        assert_eq!((deep.bit_depth_luma, deep.bit_depth_chroma), (10, 10));
        assert_eq!(deep.vui.frame_rate, rate(60000, 1001));
        assert_eq!(
            deep.vui.colour,
            Some(Colour { primaries: 9, transfer: 16, matrix: 9, full_range: false })
        );
        // This one has scaling lists and reaches its usability information behind them.
        let full = sps(samples::H265_444_SAR);
        assert_eq!((full.chroma_format, full.vui.sample_aspect_ratio), (3, Some((4, 3))));
        assert_eq!(full.vui.frame_rate, rate(25, 1));
    }

    #[test]
    fn the_configuration_gives_all_parameter_sets() {
        let whole = hex(samples::H265_MAIN_720);
        let configuration = Configuration::parse(&whole).unwrap();
        let kinds: Vec<_> = configuration.parameter_sets.iter().filter_map(|unit| unit_type(unit)).collect();
        assert_eq!((kinds, configuration.length_size), (vec![32, 33, 34], LengthSize::Four));
    }

    #[test]
    fn a_configuration_that_breaks_a_rule_says_where() {
        let whole = hex(samples::H265_MAIN_720);
        let error = |bytes: &[u8]| Configuration::parse(bytes).unwrap_err();
        assert_eq!(error(&whole[..22]), Error::truncated("count of arrays in hvcC", 22));
        assert_eq!(error(&whole[..40]), Error::truncated("parameter set", 28));
        let mut none = whole.clone();
        none[22] = 0;
        assert_eq!(error(&none), Error::malformed("hvcC has no sequence parameter set", 23));
        let mut many = whole[..23].to_vec();
        many[22] = 1;
        many.extend([0x20, 0, 200]);
        many.extend([0, 1, 0x40].repeat(200));
        assert_eq!(
            (error(&many).kind, error(&many).at),
            (crate::error::ErrorKind::TooLarge, 26 + 96 * 3 + 2)
        );
    }

    #[test]
    fn trailing_zero_bytes_of_the_constraints_stay_out_of_the_codec_string() {
        let mut sps = sps(samples::H265_MAIN_720);
        sps.profile.constraints = [0xb0, 0, 0, 0, 0, 0];
        assert_eq!(sps.codec_string(), "hvc1.1.6.L93.B0");
        sps.profile = Profile { space: 1, high_tier: true, constraints: [0; 6], ..sps.profile };
        assert_eq!(sps.codec_string(), "hvc1.A1.6.H93");
    }
}
