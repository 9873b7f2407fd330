//! Other people's readers as judges of ours: on what real encoders wrote, on random changes of it (but for HEVC, whose
//! judge panics on those), and on parameter sets that use corners of the standard which the encoders at hand never do.

use h264_reader::{
    nal::sps::SeqParameterSet,
    rbsp::{BitReader as OracleBits, decode_nal},
};
use proptest::{prelude::*, sample::Index, sample::select};
use scuffle_av1::{ObuHeader, ObuType, seq::SequenceHeaderObu};
use scuffle_h265::SpsNALUnit;

use super::{
    FrameRate, av1, h264, h265,
    samples::{self, hex},
};

const H264: [&str; 5] = [
    samples::H264_HIGH_720,
    samples::H264_BASELINE_1080,
    samples::H264_444_SAR,
    samples::H264_576I,
    samples::H264_422_10_HDR,
];
const H265: [&str; 3] = [samples::H265_MAIN_720, samples::H265_MAIN10_1080_HDR, samples::H265_444_SAR];
const AV1: [&str; 3] = [samples::AV1_MAIN_180, samples::AV1_MAIN_10_720, samples::AV1_HIGH_444];

fn h264_unit(configuration: &str) -> Vec<u8> {
    let bytes = hex(configuration);
    h264::Configuration::parse(&bytes).unwrap().sequence_parameter_sets[0].to_vec()
}

fn h265_unit(configuration: &str) -> Vec<u8> {
    let bytes = hex(configuration);
    let configuration = h265::Configuration::parse(&bytes).unwrap();
    let is_sps = |unit: &&&[u8]| h265::unit_type(unit) == Some(33);
    configuration.parameter_sets.iter().find(is_sps).unwrap().to_vec()
}

fn av1_payload(configuration: &str) -> Vec<u8> {
    let bytes = hex(configuration);
    av1::Units::new(&bytes[4..]).next().unwrap().unwrap().payload.to_vec()
}

/// True when both could read the unit, and then they agree.
fn h264_agrees(unit: &[u8]) -> bool {
    let (Ok(ours), Ok(payload)) = (h264::Sps::parse(unit), decode_nal(unit)) else { return false };
    let Ok(theirs) = SeqParameterSet::from_bits(OracleBits::new(&*payload)) else { return false };
    let Ok(size) = theirs.pixel_dimensions() else { return false };
    assert_eq!((ours.width, ours.height), size);
    assert_eq!((ours.profile, ours.level), (u8::from(theirs.profile_idc), theirs.level_idc));
    assert_eq!(ours.chroma_format, theirs.chroma_info.chroma_format.to_u32() as u8);
    assert_eq!(ours.bit_depth_luma, theirs.chroma_info.bit_depth_luma_minus8 + 8);
    assert_eq!(ours.bit_depth_chroma, theirs.chroma_info.bit_depth_chroma_minus8 + 8);
    if let Some(vui) = theirs.vui_parameters {
        let timing = vui.timing_info.and_then(|timing| {
            FrameRate::new(timing.time_scale.into(), u64::from(timing.num_units_in_tick) * 2)
        });
        assert_eq!(ours.vui.frame_rate, timing);
        assert_eq!(ours.vui.sample_aspect_ratio, vui.aspect_ratio_info.and_then(|ratio| ratio.get()));
        assert_eq!(
            ours.vui.colour.map(|colour| colour.full_range),
            vui.video_signal_type.map(|signal| signal.video_full_range_flag)
        );
    }
    true
}

fn h265_agrees(unit: &[u8]) -> bool {
    let (Ok(ours), Ok(theirs)) = (h265::Sps::parse(unit), SpsNALUnit::parse(unit)) else { return false };
    let theirs = theirs.rbsp;
    assert_eq!(
        (u64::from(ours.width), u64::from(ours.height)),
        (theirs.cropped_width(), theirs.cropped_height())
    );
    assert_eq!(ours.chroma_format, theirs.chroma_format_idc);
    assert_eq!((ours.bit_depth_luma, ours.bit_depth_chroma), (theirs.bit_depth_y(), theirs.bit_depth_c()));
    let profile = theirs.profile_tier_level.general_profile;
    assert_eq!((ours.profile.space, ours.profile.high_tier), (profile.profile_space, profile.tier_flag));
    assert_eq!((ours.profile.profile, Some(ours.profile.level)), (profile.profile_idc, profile.level_idc));
    if let Some(vui) = theirs.vui_parameters {
        let timing = vui.vui_timing_info.and_then(|timing| {
            FrameRate::new(timing.time_scale.get().into(), timing.num_units_in_tick.get().into())
        });
        assert_eq!(ours.vui.frame_rate, timing);
        let signal = vui.video_signal_type;
        let colour = ours.vui.colour.unwrap_or_default();
        assert_eq!(
            (colour.primaries, colour.transfer),
            (signal.colour_primaries, signal.transfer_characteristics)
        );
        assert_eq!((colour.matrix, colour.full_range), (signal.matrix_coeffs, signal.video_full_range_flag));
    }
    true
}

fn av1_agrees(payload: &[u8]) -> bool {
    let header = ObuHeader { obu_type: ObuType::SequenceHeader, size: None, extension_header: None };
    let (Ok(ours), Ok(theirs)) =
        (av1::SequenceHeader::parse(payload), SequenceHeaderObu::parse(header, &mut &*payload))
    else {
        return false;
    };
    assert_eq!(
        (u64::from(ours.width), u64::from(ours.height)),
        (theirs.max_frame_width, theirs.max_frame_height)
    );
    assert_eq!(
        (ours.profile, ours.reduced_still_picture),
        (theirs.seq_profile, theirs.reduced_still_picture_header)
    );
    let point = &theirs.operating_points[0];
    assert_eq!((ours.level, ours.high_tier), (point.seq_level_idx, point.seq_tier));
    let colour = theirs.color_config;
    assert_eq!((i32::from(ours.bit_depth), ours.chroma.monochrome), (colour.bit_depth, colour.mono_chrome));
    assert_eq!(
        (ours.chroma.subsampling_x, ours.chroma.subsampling_y),
        (colour.subsampling_x, colour.subsampling_y)
    );
    assert_eq!(ours.chroma.position, colour.chroma_sample_position);
    assert_eq!(
        (ours.colour.primaries, ours.colour.transfer),
        (colour.color_primaries, colour.transfer_characteristics)
    );
    assert_eq!(
        (ours.colour.matrix, ours.colour.full_range),
        (colour.matrix_coefficients, colour.full_color_range)
    );
    true
}

#[test]
fn on_real_parameter_sets_all_judges_agree() {
    assert!(H264.iter().all(|text| h264_agrees(&h264_unit(text))));
    assert!(H265.iter().all(|text| h265_agrees(&h265_unit(text))));
    assert!(AV1.iter().all(|text| av1_agrees(&av1_payload(text))));
}

/// Flips a few bits, none of them in the first `spared` bytes.
fn flip(mut bytes: Vec<u8>, flips: &[Index], spared: usize) -> Vec<u8> {
    for flip in flips {
        let bit = flip.index((bytes.len() - spared) * 8);
        bytes[spared + bit / 8] ^= 1 << (bit % 8);
    }
    bytes
}

proptest! {
    #[test]
    fn on_changed_h264_we_and_the_judge_agree(text in select(&H264[..]), flips: [Index; 2]) {
        h264_agrees(&flip(h264_unit(text), &flips, 1));
    }

    #[test]
    fn on_changed_av1_we_and_the_judge_agree(text in select(&AV1[..]), flips: [Index; 2]) {
        av1_agrees(&flip(av1_payload(text), &flips, 0));
    }

    /// x265 writes reference picture sets into slices alone; other encoders write them here, some predicted from others.
    #[test]
    fn usability_information_behind_reference_picture_sets_is_found(
        before in proptest::collection::vec(1u32..9, 0..5),
        after in proptest::collection::vec(1u32..9, 0..5),
        steps in proptest::collection::vec((-12i64..=12).prop_filter("not 0", |&step| step != 0), 0..4),
        keep: u64,
        long_term in proptest::collection::vec(any::<u8>(), 0..4),
        frames in 1u32..100,
    ) {
        let mut bits = Bits::default();
        write_h265_to_sets(&mut bits);
        bits.ue(1 + steps.len() as u32);
        let mut distances = write_explicit_set(&mut bits, &before, &after);
        for step in steps {
            distances = write_predicted_set(&mut bits, &distances, step, keep);
            if distances.len() > 16 {
                return Ok(());
            }
        }
        bits.write(u64::from(!long_term.is_empty()), 1);
        if !long_term.is_empty() {
            bits.ue(long_term.len() as u32);
            for lsb in &long_term {
                bits.write((*lsb).into(), 8);
                bits.write(1, 1);
            }
        }
        bits.write(0b01, 2); // temporal motion vectors, strong intra smoothing
        bits.write(1, 1);
        write_h265_vui(&mut bits, frames);
        let unit = bits.unit();
        let sps = h265::Sps::parse(&unit).unwrap();
        prop_assert_eq!(sps.vui.frame_rate, FrameRate::new(frames.into(), 1));
        prop_assert!(h265_agrees(&unit));
    }
}

/// Writes a sequence parameter set of 64 by 64 samples up to the reference picture sets.
fn write_h265_to_sets(bits: &mut Bits) {
    bits.write(0x4201, 16); // header: type 33, layer 0
    bits.write(0b0000_0001, 8); // ids, one sub-layer, nested
    bits.write(0x01, 8); // main profile
    bits.write(0x6000_0000, 32);
    bits.write(0x9000_0000_0000, 48);
    bits.write(93, 8); // level
    for code in [0, 1, 64, 64] {
        bits.ue(code); // id, 4:2:0, size
    }
    bits.write(0, 1); // no conformance window
    for code in [0, 0, 4] {
        bits.ue(code); // depths, eight bits of picture order
    }
    bits.write(1, 1);
    for code in [15, 2, 0, 0, 3, 0, 3, 0, 0] {
        bits.ue(code); // buffering; block sizes
    }
    bits.write(0, 1 + 2 + 1); // no scaling lists, tools, PCM
}

/// Writes a set from the steps between its distances and returns the distances.
fn write_explicit_set(bits: &mut Bits, before: &[u32], after: &[u32]) -> Vec<i64> {
    bits.ue(before.len() as u32);
    bits.ue(after.len() as u32);
    let mut distances = Vec::new();
    for (steps, sign) in [(before, -1), (after, 1)] {
        let mut distance = 0;
        for step in steps {
            bits.ue(step - 1);
            bits.write(1, 1);
            distance += sign * i64::from(*step);
            distances.push(distance);
        }
    }
    distances
}

/// Writes a set that is predicted from the one with `distances`, of which `keep` says which go on, and returns its own.
fn write_predicted_set(bits: &mut Bits, distances: &[i64], step: i64, keep: u64) -> Vec<i64> {
    bits.write(1, 1);
    bits.write(u64::from(step < 0), 1);
    bits.ue(step.unsigned_abs() as u32 - 1);
    let mut next = Vec::new();
    for (place, distance) in distances.iter().copied().chain([0]).enumerate() {
        match keep >> (2 * place) & 3 {
            0 => bits.write(0b00, 2),
            1 => {
                bits.write(0b01, 2);
                next.push(distance + step);
            }
            _ => {
                bits.write(1, 1);
                next.push(distance + step);
            }
        }
    }
    next.retain(|&distance| distance != 0);
    // Nearest first, those before the picture ahead of those after it. (H.265, 7-61 and 7-62)
    next.sort_by_key(|&distance| (distance > 0, distance.abs()));
    next
}

/// Writes usability information that has timing alone, and the end of the parameter set.
fn write_h265_vui(bits: &mut Bits, frames: u32) {
    bits.write(0, 8); // aspect, overscan, signal, chroma, neutral, fields (2), window
    bits.write(1, 1);
    bits.write(1, 32);
    bits.write(frames.into(), 32);
    bits.write(0, 4); // picture order, hypothetical decoder, restrictions; extensions
    bits.write(1, 1);
}

/// Writes bits from the most significant down.
#[derive(Default)]
pub(super) struct Bits {
    bits: Vec<bool>,
}

impl Bits {
    pub(super) fn write(&mut self, value: u64, count: u32) {
        self.bits.extend((0..count).rev().map(|place| value >> place & 1 == 1));
    }

    /// Writes fields, each a value and its bits.
    pub(super) fn fields(&mut self, fields: &[(u64, u32)]) {
        fields.iter().for_each(|&(value, count)| self.write(value, count));
    }

    pub(super) fn ue(&mut self, value: u32) {
        let code = u64::from(value) + 1;
        let length = 64 - code.leading_zeros();
        self.write(code, 2 * length - 1);
    }

    /// The bits as a NAL unit, with emulation prevention.
    pub(super) fn unit(&self) -> Vec<u8> {
        let mut unit = Vec::new();
        let mut zeros = 0;
        for chunk in self.bits.chunks(8) {
            let byte =
                chunk.iter().enumerate().fold(0, |byte, (place, &bit)| byte | u8::from(bit) << (7 - place));
            if zeros >= 2 && byte <= 3 {
                unit.push(3);
                zeros = 0;
            }
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            unit.push(byte);
        }
        unit
    }
}
