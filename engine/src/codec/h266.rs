//! H.266 (VVC): the decoder configuration record (ISO/IEC 14496-15, 11.2.4.2), the sequence parameter set (ITU-T H.266,
//! 7.3.2.4) as far as its bit depth, and what tells a picture that a decoder can begin at.
//!
//! A configuration is the record alone: that is what enhanced RTMP carries. In MP4 the same record stands in `vvcC`
//! behind the four bytes of a full box, version 0 and flags 0, which the container adds and takes off. Aspect, colour
//! and frame rate are not read: they stand behind everything else that a sequence parameter set holds.

use crate::{
    bits::{BitReader, Reader},
    codec::{
        nal::{self, LengthPrefixed, LengthSize},
        vui,
    },
    error::Error,
    limits,
};

/// The VvcDecoderConfigurationRecord. (ISO/IEC 14496-15, 11.2.4.2.2) Formats and sizes are left to the sequence parameter
/// set, which is what a decoder believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration<'a> {
    /// `LengthSizeMinusOne`: size of the length before each NAL unit of the stream.
    pub length_size: LengthSize,
    /// `native_ptl`: what the record itself says of profile, tier and level; it need not.
    pub native: Option<Profile>,
    /// Profile, tier and level of the stream, as its sequence parameter set says. One that leaves them to the video
    /// parameter set, as it may where there are layers, is answered for by [`native`](Self::native).
    pub profile: Profile,
    /// Video, sequence and picture parameter sets, each a NAL unit, in the order they stand in; at least one is a
    /// sequence parameter set. Other units (SEI, decoding capabilities, operating points) are left out.
    pub parameter_sets: Vec<&'a [u8]>,
    /// The first sequence parameter set.
    pub sps: Sps,
}

impl<'a> Configuration<'a> {
    /// Parses a record, which begins with its reserved bits and not with a full box's version:
    /// [`without_version`] takes that off.
    ///
    /// ```
    /// use shardcast_engine::codec::h266::Configuration;
    ///
    /// # let vvcc = [
    /// #     0xff, 0x00, 0x65, 0x5f, 0x01, 0x02, 0x20, 0x80, 0x00, 0x00, 0x01, 0x48, 0x00, 0xf8, 0x00,
    /// #     0x00, 0x02, 0x8f, 0x00, 0x01, 0x00, 0x96, 0x00, 0x79, 0x00, 0xab, 0x02, 0x20, 0x80, 0x00,
    /// #     0x00, 0x80, 0x29, 0x20, 0x3e, 0x72, 0x48, 0x6a, 0x00, 0x73, 0x7f, 0xfa, 0xc2, 0x13, 0x65,
    /// #     0x63, 0x04, 0x08, 0x27, 0x00, 0x32, 0x83, 0x16, 0x10, 0x86, 0x0c, 0x44, 0x20, 0x64, 0x88,
    /// #     0x35, 0x21, 0xe8, 0xf5, 0x6a, 0x4b, 0xc9, 0x26, 0xa4, 0xb2, 0x44, 0x5a, 0x88, 0xbc, 0x44,
    /// #     0x9a, 0x88, 0x91, 0x49, 0x11, 0x26, 0x48, 0x89, 0x35, 0x19, 0x64, 0x84, 0x2d, 0x42, 0x17,
    /// #     0x84, 0x2f, 0x56, 0xa4, 0xbc, 0x97, 0xa8, 0x65, 0x06, 0x2c, 0x40, 0x31, 0x62, 0x02, 0x04,
    /// #     0x20, 0x40, 0x40, 0xa8, 0x40, 0x80, 0x81, 0xa4, 0x20, 0x40, 0x40, 0xb1, 0x02, 0x02, 0x04,
    /// #     0x41, 0x01, 0x02, 0xc8, 0x20, 0x20, 0x48, 0x40, 0x41, 0x90, 0x20, 0x44, 0x20, 0x40, 0xb2,
    /// #     0x10, 0x20, 0x48, 0x81, 0x06, 0x82, 0x04, 0x90, 0x41, 0xc2, 0x0c, 0x81, 0x16, 0x84, 0x12,
    /// #     0x42, 0x1c, 0x43, 0x42, 0x5c, 0x8e, 0x54, 0x33, 0x04, 0x67, 0x14, 0x00, 0x00, 0x03, 0x00,
    /// #     0x04, 0x00, 0x00, 0x03, 0x00, 0x64, 0x62, 0x90, 0x00, 0x01, 0x00, 0x0b, 0x00, 0x81, 0x00,
    /// #     0x00, 0x14, 0x90, 0x1f, 0x22, 0x24, 0x1f, 0x41
    /// # ];
    /// let configuration = Configuration::parse(&vvcc)?;
    /// assert_eq!((configuration.sps.width, configuration.sps.height), (322, 242));
    /// assert_eq!(configuration.profile.codec_string(), "vvc1.1.L32.CQA");
    /// # Ok::<(), shardcast_engine::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// It is cut short, has no sequence parameter set or more sets than there are ids, says no profile and level, or its
    /// first sequence parameter set is broken.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let first = reader.u8("length size of vvcC")?;
        let length_size = LengthSize::from_minus_one(first >> 1)
            .ok_or(Error::malformed("vvcC asks for NAL unit lengths of three bytes", 0))?;
        let native = if first & 1 == 1 { Some(Profile::of_record(&mut reader)?) } else { None };

        let mut parameter_sets = Vec::new();
        let mut sps = None;
        for _ in 0..reader.u8("count of arrays in vvcC")? {
            let count = match reader.u8("type of an array in vvcC")? & 0x1f {
                // There is one at most, and so no count.
                UNIT_OPI | UNIT_DCI => 1,
                _ => reader.u16("count of NAL units in vvcC")?,
            };
            for _ in 0..count {
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
        let end = reader.position() as u64;
        let sps = sps.ok_or(Error::malformed("vvcC has no sequence parameter set", end))?;
        let profile = (sps.profile.as_ref().or(native.as_ref()))
            .ok_or(Error::malformed(
                "neither vvcC nor its sequence parameter set has profile and level",
                end,
            ))?
            .clone();
        Ok(Configuration { length_size, native, profile, parameter_sets, sps })
    }
}

/// The record from what a publisher or a file has: the content of `vvcC` with the four bytes of a full box, or the record
/// without them. One is never taken for the other: a record that began with four zero bytes would say that no array
/// follows. (ISO/IEC 14496-15, 11.2.4.2.2; ISO/IEC 14496-12, 4.2)
///
/// ```
/// use shardcast_engine::codec::h266::without_version;
///
/// assert_eq!(without_version(&[0, 0, 0, 0, 0xff, 0, 0x65]), [0xff, 0, 0x65]);
/// assert_eq!(without_version(&[0xff, 0, 0x65]), [0xff, 0, 0x65]);
/// ```
pub fn without_version(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(&[0; 4]).unwrap_or(bytes)
}

/// Profile, tier and level: `profile_tier_level()` of ITU-T H.266, 7.3.3.1, and the VvcPTLRecord of ISO/IEC 14496-15,
/// 11.2.4.2.2, which says the same. The levels of sub-layers and the sub-profiles are left out.
///
/// ```
/// use shardcast_engine::codec::h266::Profile;
///
/// // Main 10, main tier, level 2.0, of frames alone.
/// let profile = Profile { profile: 1, high_tier: false, level: 32, constraints: vec![0x80] };
/// assert_eq!(profile.codec_string(), "vvc1.1.L32.CQA");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// `general_profile_idc`: 1 main 10, 2 main 12, 33 main 10 4:4:4; 16 more with layers, 64 more for a still picture. (A.3)
    pub profile: u8,
    /// `general_tier_flag`: the high tier.
    pub high_tier: bool,
    /// `general_level_idc`: sixteen times the level's first number and three times its second. (A.4)
    pub level: u8,
    /// The bytes from `ptl_frame_only_constraint_flag` to the end of `general_constraints_info()`; at least one.
    pub constraints: Vec<u8>,
}

impl Profile {
    /// Reads from `ols_idx` to `avg_frame_rate`.
    fn of_record(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let sub_layers = reader.u16("sub-layers and chroma format of vvcC")? >> 4 & 7;
        reader.skip(1, "bit depth of vvcC")?;
        let at = reader.position() as u64;
        let constraint_bytes = reader.u8("num_bytes_constraint_info")? & 0x3f;
        if constraint_bytes == 0 {
            return Err(Error::malformed("num_bytes_constraint_info", at));
        }
        let [profile, level] = reader.array("profile, tier and level of vvcC")?;
        let constraints = reader.take(constraint_bytes.into(), "constraints of vvcC")?.to_vec();
        if sub_layers > 1 {
            // ffmpeg writes these flags at the lower end of their byte, the standard has them at the upper. The other
            // bits are zero, so that how many levels follow is the same.
            let present = reader.u8("ptl_sublayer_level_present_flag")?;
            reader.skip(present.count_ones() as usize, "levels of sub-layers of vvcC")?;
        }
        let sub_profiles = usize::from(reader.u8("ptl_num_sub_profiles")?);
        reader.skip(4 * sub_profiles, "sub-profiles of vvcC")?;
        reader.skip(6, "picture size and frame rate of vvcC")?;
        Ok(Profile { profile: profile >> 1, high_tier: profile & 1 == 1, level, constraints })
    }

    /// Reads `profile_tier_level(1, sub_layers_minus1)`, which begins on a byte's border. (7.3.3.1)
    fn parse(reader: &mut BitReader<'_>, sub_layers_minus1: usize) -> Result<Self, Error> {
        let profile = reader.bits(7, "general_profile_idc")? as u8;
        let high_tier = reader.bit("general_tier_flag")?;
        let level = reader.u8("general_level_idc")?;

        let mut constraints_reader = reader.clone();
        reader.skip(2, "ptl_frame_only_constraint_flag and ptl_multilayer_enabled_flag")?;
        if reader.bit("gci_present_flag")? {
            reader.skip(GENERAL_CONSTRAINT_BITS, "general constraint flags")?;
            let more = reader.u8("gci_num_additional_bits")?;
            reader.skip(more.into(), "additional constraint flags")?;
        }
        align(reader)?;
        let mut constraints = Vec::new();
        while constraints_reader.position() < reader.position() {
            constraints.push(constraints_reader.u8("general constraint flags")?);
        }

        let mut sub_layer_levels = 0;
        for _ in 0..sub_layers_minus1 {
            sub_layer_levels += usize::from(reader.bit("ptl_sublayer_level_present_flag")?);
        }
        align(reader)?;
        reader.skip(8 * sub_layer_levels, "levels of sub-layers")?;
        let sub_profiles = usize::from(reader.u8("ptl_num_sub_profiles")?);
        reader.skip(32 * sub_profiles, "general_sub_profile_idc")?;
        Ok(Profile { profile, high_tier, level, constraints })
    }

    /// `vvc1.1.L51.CQA` of ISO/IEC 14496-15, annex E.6: profile, tier and level, and the constraints in the base 32 of
    /// RFC 4648 without its padding and without trailing zero bytes. Sub-profiles, output layer set and highest
    /// sub-layer, which may follow, are left out.
    pub fn codec_string(&self) -> String {
        let Profile { profile, high_tier, level, constraints } = self;
        let tier = if *high_tier { 'H' } else { 'L' };
        let mut text = format!("vvc1.{profile}.{tier}{level}.C");
        // The first byte stays: some readers want the element to be there and not to be empty.
        let kept = constraints.iter().rposition(|&byte| byte != 0).map_or(1, |last| last + 1);
        push_base32(constraints.iter().copied().take(kept), &mut text);
        text
    }
}

/// Appends bytes in the base 32 of RFC 4648, 6, without padding.
fn push_base32(bytes: impl Iterator<Item = u8>, text: &mut String) {
    let letter = |bits: u16| match (bits & 0x1f) as u8 {
        number @ 0..26 => char::from(b'A' + number),
        number => char::from(b'2' + (number - 26)),
    };
    let (mut held, mut count) = (0u16, 0);
    for byte in bytes {
        held = held << 8 | u16::from(byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            text.push(letter(held >> count));
        }
    }
    if count > 0 {
        text.push(letter(held << (5 - count)));
    }
}

/// What a sequence parameter set says about the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sps {
    /// Profile, tier and level; `None` when they are left to the video parameter set.
    pub profile: Option<Profile>,
    /// `sps_chroma_format_idc`: 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format: u8,
    /// Bits of a sample, luma and chroma alike.
    pub bit_depth: u8,
    /// Luma samples across the largest picture, inside the conformance window.
    pub width: u32,
    /// Luma samples down the largest picture, inside the conformance window.
    pub height: u32,
}

impl Sps {
    /// Parses a NAL unit of type 15, its header included. (7.3.2.4)
    ///
    /// ```
    /// use shardcast_engine::codec::h266::{Configuration, Sps, unit_type};
    ///
    /// # let vvcc = [
    /// #     0xff, 0x00, 0x65, 0x5f, 0x01, 0x02, 0x20, 0x80, 0x00, 0x00, 0x01, 0x48, 0x00, 0xf8, 0x00,
    /// #     0x00, 0x02, 0x8f, 0x00, 0x01, 0x00, 0x96, 0x00, 0x79, 0x00, 0xab, 0x02, 0x20, 0x80, 0x00,
    /// #     0x00, 0x80, 0x29, 0x20, 0x3e, 0x72, 0x48, 0x6a, 0x00, 0x73, 0x7f, 0xfa, 0xc2, 0x13, 0x65,
    /// #     0x63, 0x04, 0x08, 0x27, 0x00, 0x32, 0x83, 0x16, 0x10, 0x86, 0x0c, 0x44, 0x20, 0x64, 0x88,
    /// #     0x35, 0x21, 0xe8, 0xf5, 0x6a, 0x4b, 0xc9, 0x26, 0xa4, 0xb2, 0x44, 0x5a, 0x88, 0xbc, 0x44,
    /// #     0x9a, 0x88, 0x91, 0x49, 0x11, 0x26, 0x48, 0x89, 0x35, 0x19, 0x64, 0x84, 0x2d, 0x42, 0x17,
    /// #     0x84, 0x2f, 0x56, 0xa4, 0xbc, 0x97, 0xa8, 0x65, 0x06, 0x2c, 0x40, 0x31, 0x62, 0x02, 0x04,
    /// #     0x20, 0x40, 0x40, 0xa8, 0x40, 0x80, 0x81, 0xa4, 0x20, 0x40, 0x40, 0xb1, 0x02, 0x02, 0x04,
    /// #     0x41, 0x01, 0x02, 0xc8, 0x20, 0x20, 0x48, 0x40, 0x41, 0x90, 0x20, 0x44, 0x20, 0x40, 0xb2,
    /// #     0x10, 0x20, 0x48, 0x81, 0x06, 0x82, 0x04, 0x90, 0x41, 0xc2, 0x0c, 0x81, 0x16, 0x84, 0x12,
    /// #     0x42, 0x1c, 0x43, 0x42, 0x5c, 0x8e, 0x54, 0x33, 0x04, 0x67, 0x14, 0x00, 0x00, 0x03, 0x00,
    /// #     0x04, 0x00, 0x00, 0x03, 0x00, 0x64, 0x62, 0x90, 0x00, 0x01, 0x00, 0x0b, 0x00, 0x81, 0x00,
    /// #     0x00, 0x14, 0x90, 0x1f, 0x22, 0x24, 0x1f, 0x41
    /// # ];
    /// # let configuration = Configuration::parse(&vvcc)?;
    /// # let unit = configuration.parameter_sets.iter().find(|unit| unit_type(unit) == Some(15)).expect("there is one");
    /// let sps = Sps::parse(unit)?;
    /// assert_eq!((sps.width, sps.height, sps.bit_depth, sps.chroma_format), (322, 242, 10, 1));
    /// # Ok::<(), shardcast_engine::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// It is cut short before the bit depth is known, or says something the standard rules out.
    pub fn parse(unit: &[u8]) -> Result<Self, Error> {
        let payload = nal::without_emulation_prevention(unit);
        Self::parse_payload(&payload)
            .map_err(|error| Error { at: nal::place_in_unit(unit, error.at), ..error })
    }

    fn parse_payload(payload: &[u8]) -> Result<Self, Error> {
        let mut reader = BitReader::new(payload);
        if reader.bits(16, "header of a sequence parameter set")? >> 3 & 0x1f != UNIT_SPS.into() {
            return Err(Error::malformed("NAL unit is not a sequence parameter set", 0));
        }
        reader.skip(8, "sps_seq_parameter_set_id and sps_video_parameter_set_id")?;
        let sub_layers_minus1 = reader.bits(3, "sps_max_sublayers_minus1")? as usize;
        if sub_layers_minus1 > SUB_LAYERS_MINUS1_MAX {
            return Err(reader.malformed("sps_max_sublayers_minus1"));
        }
        let chroma_format = reader.bits(2, "sps_chroma_format_idc")? as u8;
        let coding_tree_unit = 32u32 << reader.bits(2, "sps_log2_ctu_size_minus5")?;
        let profile = if reader.bit("sps_ptl_dpb_hrd_params_present_flag")? {
            Some(Profile::parse(&mut reader, sub_layers_minus1)?)
        } else {
            None
        };
        reader.skip(1, "sps_gdr_enabled_flag")?;
        if reader.bit("sps_ref_pic_resampling_enabled_flag")? {
            reader.skip(1, "sps_res_change_in_clvs_allowed_flag")?;
        }

        let coded_width = reader.ue_at_most(limits::PICTURE_SIDE_MAX, "sps_pic_width_max_in_luma_samples")?;
        let coded_height =
            reader.ue_at_most(limits::PICTURE_SIDE_MAX, "sps_pic_height_max_in_luma_samples")?;
        let (mut width, mut height) = (coded_width, coded_height);
        if reader.bit("sps_conformance_window_flag")? {
            let (across, down) = vui::cropping_unit(chroma_format);
            width = vui::cropped(&mut reader, coded_width, across)?;
            height = vui::cropped(&mut reader, coded_height, down)?;
        }
        if width == 0 || height == 0 {
            return Err(reader.malformed("picture without samples"));
        }
        if reader.bit("sps_subpic_info_present_flag")? {
            let units = |side: u32| side.div_ceil(coding_tree_unit);
            skip_subpictures(&mut reader, units(coded_width), units(coded_height))?;
        }
        let bit_depth = 8 + reader.ue_at_most(8, "sps_bitdepth_minus8")? as u8;
        Ok(Sps { profile, chroma_format, bit_depth, width, height })
    }
}

/// True when the access unit is of an intra random access point picture (IDR, CRA): a decoder can begin here. A CRA
/// picture may have leading pictures that a decoder which begins there leaves out. (7.4.2.2, table 5: types 7 to 9)
///
/// A picture of gradual decoding refresh (type 10) is none for us, though a decoder may begin there: it shows whole
/// pictures only some pictures later, and a viewer would see what was not refreshed yet. How many, only the picture's
/// header says, and to read that takes its parameter sets.
///
/// All slices of the lowest layer are asked and not the first alone: the parts of one picture may be of different types
/// (`pps_mixed_nalu_types_in_pic_flag`), and then it is no entrance.
///
/// ```
/// use shardcast_engine::codec::{h266::is_random_access_point, nal::LengthSize};
///
/// // Types 7 (IDR) and 0 (trailing): the type is in the upper bits of the second byte.
/// assert!(is_random_access_point(&[0, 0, 0, 3, 0, 7 << 3 | 1, 0xc4], LengthSize::Four));
/// assert!(!is_random_access_point(&[0, 0, 0, 3, 0, 1, 0xd4], LengthSize::Four));
/// ```
pub fn is_random_access_point(data: &[u8], length_size: LengthSize) -> bool {
    let mut lowest = None;
    for unit in LengthPrefixed::new(data, length_size) {
        let Some((layer, kind)) = unit.ok().and_then(header) else { return false };
        // An access unit's pictures come from the lowest layer up.
        let is_lowest = kind < UNIT_OPI && *lowest.get_or_insert(layer) == layer;
        if is_lowest && !matches!(kind, UNIT_IDR_W_RADL..=UNIT_CRA) {
            return false;
        }
    }
    lowest.is_some()
}

/// `nal_unit_type` of a NAL unit; `None` when it is shorter than its header. (7.3.1.2)
pub fn unit_type(unit: &[u8]) -> Option<u8> {
    header(unit).map(|(_, kind)| kind)
}

/// `nuh_layer_id` and `nal_unit_type`. (7.3.1.2)
fn header(unit: &[u8]) -> Option<(u8, u8)> {
    match unit {
        [first, second, ..] => Some((first & 0x3f, second >> 3)),
        _ => None,
    }
}

const UNIT_IDR_W_RADL: u8 = 7;
const UNIT_CRA: u8 = 9;
/// The types below are slices.
const UNIT_OPI: u8 = 12;
const UNIT_DCI: u8 = 13;
const UNIT_VPS: u8 = 14;
const UNIT_SPS: u8 = 15;
const UNIT_PPS: u8 = 16;
/// Ids of video, sequence and picture parameter sets. (7.4.3.3 to 7.4.3.5)
const PARAMETER_SETS_MAX: usize = 16 + 16 + 64;
/// 7.4.3.4.
const SUB_LAYERS_MINUS1_MAX: usize = 6;
/// Bits between `gci_present_flag` and the count of additional ones. (7.3.3.2)
const GENERAL_CONSTRAINT_BITS: usize = 71;
/// No level but the one without limits (15.5) allows more slices, of which a subpicture has at least one. (A.4.1)
const SUBPICTURES_MAX: u32 = 1000;

/// Leaves out the bits up to a byte's border.
fn align(reader: &mut BitReader<'_>) -> Result<(), Error> {
    reader.skip(reader.position().next_multiple_of(8) - reader.position(), "bits up to a byte's border")
}

/// Reads what follows `sps_subpic_info_present_flag`, in a picture of so many coding tree units. (7.3.2.4)
fn skip_subpictures(reader: &mut BitReader<'_>, columns: u32, rows: u32) -> Result<(), Error> {
    // Ceil(Log2(count)): a place among so many.
    let bits_of = |count: u32| (u32::BITS - (count - 1).leading_zeros()) as usize;
    let place_bits = bits_of(columns) + bits_of(rows);
    let count = 1 + reader.ue_at_most(SUBPICTURES_MAX - 1, "sps_num_subpics_minus1")?;
    if count > 1 {
        let independent = reader.bit("sps_independent_subpics_flag")?;
        let same_size = reader.bit("sps_subpic_same_size_flag")?;
        for index in 0..count {
            // The first begins at the corner, and the last ends at the other.
            if index > 0 && !same_size {
                reader.skip(place_bits, "place of a subpicture")?;
            }
            if index == 0 || !same_size && index < count - 1 {
                reader.skip(place_bits, "size of a subpicture")?;
            }
            if !independent {
                reader.skip(2, "borders of a subpicture")?;
            }
        }
    }
    let id_bits = 1 + reader.ue_at_most(15, "sps_subpic_id_len_minus1")? as usize;
    if reader.bit("sps_subpic_id_mapping_explicitly_signalled_flag")?
        && reader.bit("sps_subpic_id_mapping_present_flag")?
    {
        reader.skip(id_bits * count as usize, "sps_subpic_id")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        codec::{
            oracles::Bits,
            samples::{self, hex},
        },
        error::ErrorKind,
    };

    #[test]
    fn what_vvenc_writes_has_the_size_profile_and_level_that_ffprobe_says() {
        for (text, size, high_tier, level, codec_string) in [
            (samples::H266_MAIN10_242, (322, 242), false, 32, "vvc1.1.L32.CQA"),
            (samples::H266_MAIN10_1080_HDR, (1920, 1080), true, 99, "vvc1.1.H99.CQA"),
        ] {
            let whole = hex(text);
            let Configuration { sps, profile, native, .. } = Configuration::parse(&whole).unwrap();
            assert_eq!(((sps.width, sps.height), sps.chroma_format, sps.bit_depth), (size, 1, 10));
            assert_eq!((profile.profile, profile.high_tier, profile.level), (1, high_tier, level));
            assert_eq!(profile.codec_string(), codec_string);
            // ffmpeg made the record's own words from the same sequence parameter set.
            assert_eq!(native, Some(profile));
        }
    }

    #[test]
    fn the_configuration_gives_all_parameter_sets() {
        let whole = hex(samples::H266_MAIN10_242);
        let configuration = Configuration::parse(&whole).unwrap();
        let kinds: Vec<_> = configuration.parameter_sets.iter().filter_map(|unit| unit_type(unit)).collect();
        assert_eq!((kinds, configuration.length_size), (vec![UNIT_SPS, UNIT_PPS], LengthSize::Four));
    }

    #[test]
    fn the_version_of_a_full_box_is_taken_off_and_nothing_else() {
        let record = hex(samples::H266_MAIN10_242);
        assert_eq!(without_version(&[&[0; 4], &record[..]].concat()), record);
        assert_eq!(without_version(&record), record);
        assert_eq!([without_version(&[]), without_version(&[0; 3])], [&[0u8; 0][..], &[0; 3]]);
    }

    #[test]
    fn what_a_standard_for_base_32_says_of_foobar_is_what_is_written() {
        // RFC 4648, 10, without the padding.
        let words = ["", "MY", "MZXQ", "MZXW6", "MZXW6YQ", "MZXW6YTB", "MZXW6YTBOI"];
        for (length, word) in words.into_iter().enumerate() {
            let mut text = String::new();
            push_base32(b"foobar".iter().copied().take(length), &mut text);
            assert_eq!(text, word);
        }
    }

    #[test]
    fn trailing_zero_bytes_of_the_constraints_stay_out_of_the_codec_string() {
        let profile = |constraints: &[u8]| Profile {
            profile: 17,
            high_tier: true,
            level: 83,
            constraints: constraints.to_vec(),
        };
        assert_eq!(profile(&[0xc0]).codec_string(), "vvc1.17.H83.CYA");
        assert_eq!(profile(&[0x80, 0, 0]).codec_string(), "vvc1.17.H83.CQA");
        assert_eq!(profile(&[0, 0]).codec_string(), "vvc1.17.H83.CAA");
        assert_eq!(profile(&[0xa0, 0, 1, 0]).codec_string(), "vvc1.17.H83.CUAAAC");
    }

    /// A sequence parameter set written field by field after the tables of 7.3.2.4 and 7.3.3, with what vvenc never
    /// writes: general constraints, sub-profiles, a conformance window on all sides, subpictures. ffmpeg 9's
    /// `trace_headers` was asked about both forms, and names the same fields up to the bit depth.
    fn rich_sps(same_size: bool) -> Vec<u8> {
        let mut bits = Bits::default();
        // Header (layer 0, type 15), ids, three sub-layers, 4:2:2, units of 64, profile and more follow.
        bits.fields(&[(0x79, 16), (0, 8), (2, 3), (2, 2), (1, 2), (1, 1)]);
        bits.fields(&[(33, 7), (1, 1), (83, 8)]);
        // Frames only, one layer, general constraints, three additional ones, up to a byte's border.
        bits.fields(&[(0b101, 3), (0, 64), (0x7f, 7), (3, 8), (0b101, 3), (0, 3)]);
        // The second sub-layer has a level of its own, the first has not. Two sub-profiles.
        bits.fields(&[(0b10, 2), (0, 6), (67, 8), (2, 8), (0x0102_0304_0506_0708, 64)]);
        // No gradual refresh; resampling, but not inside a sequence.
        bits.fields(&[(0, 1), (1, 1), (0, 1)]);
        bits.ue(1920);
        bits.ue(1088);
        bits.write(1, 1);
        for offset in [1, 3, 2, 6] {
            bits.ue(offset);
        }
        bits.write(1, 1);
        bits.ue(2); // three subpictures
        bits.write(u64::from(same_size), 1); // independent
        bits.write(u64::from(same_size), 1);
        if same_size {
            bits.fields(&[(9, 5), (16, 5)]); // size of the first, in a picture of 30 by 17 units
        } else {
            bits.fields(&[(9, 5), (16, 5), (0b11, 2)]);
            bits.fields(&[(10, 5), (0, 5), (9, 5), (16, 5), (0b11, 2)]);
            bits.fields(&[(20, 5), (0, 5), (0b11, 2)]);
        }
        bits.ue(6); // ids of seven bits
        bits.write(0b11, 2);
        bits.fields(&[(1, 7), (2, 7), (3, 7)]);
        bits.ue(2); // ten bits
        bits.write(0x5555, 16); // what follows is not read
        bits.unit()
    }

    #[test]
    fn what_stands_before_the_bit_depth_is_read_or_left_out_whole() {
        for same_size in [false, true] {
            let sps = Sps::parse(&rich_sps(same_size)).unwrap();
            assert_eq!(((sps.width, sps.height), sps.chroma_format, sps.bit_depth), ((1912, 1080), 2, 10));
            let profile = sps.profile.unwrap();
            assert_eq!((profile.profile, profile.high_tier, profile.level), (33, true, 83));
            assert_eq!(profile.constraints, [0xa0, 0, 0, 0, 0, 0, 0, 0, 0x1f, 0xc0, 0xe8]);
        }
    }

    /// A record around one sequence parameter set, with what [`samples::H266_MAIN10_242`] says of its own.
    fn record(native: bool, unit: &[u8]) -> Vec<u8> {
        let whole = hex(samples::H266_MAIN10_242);
        let head = if native { &whole[..ARRAYS] } else { &[0xfe] };
        let length = (unit.len() as u16).to_be_bytes();
        [head, &[1, 0x80 | UNIT_SPS, 0, 1], &length, unit].concat()
    }

    /// Where the count of arrays stands in [`samples::H266_MAIN10_242`].
    const ARRAYS: usize = 16;

    #[test]
    fn profile_and_level_are_the_parameter_sets_own_or_else_the_records() {
        let with = rich_sps(true);
        let mut bits = Bits::default();
        // Header, ids (there is a video parameter set), one sub-layer, 4:2:0, units of 64, no profile.
        bits.fields(&[(0x79, 16), (0x01, 8), (0, 3), (1, 2), (1, 2), (0, 1), (0, 2)]);
        bits.ue(64);
        bits.ue(48);
        bits.write(0b00, 2);
        bits.ue(0);
        bits.write(1, 1);
        let without = bits.unit();
        let level = |bytes: &[u8]| Configuration::parse(bytes).map(|parsed| parsed.profile.level);
        assert_eq!([level(&record(true, &with)), level(&record(false, &with))], [Ok(83), Ok(83)]);
        assert_eq!(level(&record(true, &without)), Ok(32));
        let bytes = record(false, &without);
        let error = level(&bytes).unwrap_err();
        assert_eq!((error.kind, error.at), (ErrorKind::Malformed, bytes.len() as u64));
    }

    #[test]
    fn an_array_of_what_there_is_only_one_of_has_no_count() {
        let mut bytes = hex(samples::H266_MAIN10_242);
        let arrays = bytes.split_off(ARRAYS + 1);
        bytes[ARRAYS] = 4;
        bytes.extend([0x80 | UNIT_OPI, 0, 3, 0, UNIT_OPI << 3 | 1, 0x80]);
        bytes.extend([0x80 | UNIT_DCI, 0, 3, 0, UNIT_DCI << 3 | 1, 0x80]);
        bytes.extend(arrays);
        assert_eq!(Configuration::parse(&bytes).unwrap().parameter_sets.len(), 2);
    }

    #[test]
    fn levels_of_sub_layers_and_sub_profiles_of_the_record_are_left_out_whole() {
        let whole = hex(samples::H266_MAIN10_242);
        let plain = Configuration::parse(&whole).unwrap();
        // Flags at the upper end of their byte, as the standard has them, and at the lower.
        for flags in [0b1010_0000, 0b0001_0100] {
            let [head, rest] = [&whole[..8], &whole[10..]];
            let bytes = [head, &[flags, 16, 32, 1, 1, 2, 3, 4], rest].concat();
            assert_eq!(Configuration::parse(&bytes).as_ref(), Ok(&plain));
        }
    }

    #[test]
    fn a_configuration_that_breaks_a_rule_says_where() {
        let whole = hex(samples::H266_MAIN10_242);
        let error = |bytes: &[u8]| Configuration::parse(bytes).unwrap_err();
        let change = |place: usize, value| {
            let mut bytes = whole.clone();
            bytes[place] = value;
            error(&bytes)
        };
        assert_eq!(error(&[]), Error::truncated("length size of vvcC", 0));
        assert_eq!(error(&whole[..ARRAYS]), Error::truncated("count of arrays in vvcC", 16));
        assert_eq!(error(&whole[..40]), Error::truncated("parameter set", 22));
        assert_eq!(change(0, 0xfd).at, 0);
        assert_eq!(change(4, 0), Error::malformed("num_bytes_constraint_info", 4));
        assert_eq!(change(ARRAYS, 0), Error::malformed("vvcC has no sequence parameter set", 17));
        // Seven sub-layers are the most; the fault is told by its place in the whole.
        assert_eq!(change(22 + 3, 0xff), Error::malformed("sps_max_sublayers_minus1", 22 + 3));
        let mut many = whole[..ARRAYS].to_vec();
        many.extend([1, UNIT_PPS, 0, 200]);
        many.extend([0, 2, 0, UNIT_PPS << 3].repeat(200));
        let error = error(&many);
        assert_eq!((error.kind, error.at), (ErrorKind::TooLarge, 20 + 96 * 4 + 2));
    }

    #[test]
    fn a_parameter_set_of_too_many_subpictures_is_refused() {
        let mut bits = Bits::default();
        bits.fields(&[(0x79, 16), (0, 8), (0, 3), (1, 2), (0, 2), (0, 1), (0, 2)]);
        bits.ue(4096);
        bits.ue(4096);
        bits.write(0b01, 2); // no window; subpictures
        bits.ue(SUBPICTURES_MAX);
        bits.write(!0, 64);
        assert_eq!(Sps::parse(&bits.unit()).unwrap_err().why, "sps_num_subpics_minus1");
    }

    /// An access unit of units with these layers and types.
    fn access_unit(units: &[(u8, u8)]) -> Vec<u8> {
        units.iter().flat_map(|(layer, kind)| [3, *layer, kind << 3 | 1, 0x80]).collect()
    }

    #[test]
    fn a_decoder_begins_where_the_whole_lowest_layer_is_an_intra_random_access_point() {
        let is_entrance = |units: &[(u8, u8)]| is_random_access_point(&access_unit(units), LengthSize::One);
        const TRAIL: u8 = 0;
        const GDR: u8 = 10;
        const PREFIX_SEI: u8 = 23;
        assert!(is_entrance(&[(0, PREFIX_SEI), (0, UNIT_SPS), (0, 7), (0, 7), (0, PREFIX_SEI + 1)]));
        assert!(is_entrance(&[(0, 8)]) && is_entrance(&[(3, 9)]));
        // The layers above need not begin anew.
        assert!(is_entrance(&[(0, 9), (1, TRAIL)]));
        assert!(!is_entrance(&[(0, TRAIL), (1, 9)]));
        // Two subpictures of one picture.
        assert!(!is_entrance(&[(0, 9), (0, TRAIL)]));
        assert!(!is_entrance(&[(0, GDR)]) && !is_entrance(&[(0, 11)]));
        assert!(!is_entrance(&[(0, UNIT_SPS), (0, PREFIX_SEI)]));
        // Cut short inside the second slice, and a unit shorter than its header.
        let whole = access_unit(&[(0, 7), (0, 7)]);
        assert!(!is_random_access_point(&whole[..7], LengthSize::One));
        assert!(!is_random_access_point(&[1, 0], LengthSize::One));
    }
}
