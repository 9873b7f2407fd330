//! Parameter sets as they come by in a byte stream, and the configuration of a track that they make: `avcC`, `hvcC` and the
//! record in `vvcC`. (ISO/IEC 14496-15, 5.3.3.1, 8.3.3.1 and 11.2.4.2)

use bytes::BufMut;

use super::{Codec, Parameters, h264, h265, h266, nal, syntax::Syntax};
use crate::{bits::BitReader, error::Error, limits};

/// Bytes of a parameter set. A longer one is left out; those of real encoders have a few hundred.
const SET_BYTES_MAX: usize = 8 << 10;
/// Bytes of all sets of a track. When one more does not fit, the others are forgotten: whoever sends so many sends those
/// again that count.
const SETS_BYTES_MAX: usize = limits::CONFIGURATION_BYTES_MAX / 2;
/// Sets of a track, likewise. A configuration counts some of them in five bits.
const SETS_MAX: usize = 31;

/// The parameter sets of a track, the latest of each id.
#[derive(Debug)]
pub(crate) struct Sets {
    syntax: Syntax,
    sets: Vec<Set>,
    changed: bool,
}

#[derive(Debug)]
struct Set {
    /// A bit for its kind; those of lower ones stand first in a configuration.
    kind: u8,
    id: u32,
    unit: Vec<u8>,
}

impl Sets {
    pub(crate) fn new(syntax: Syntax) -> Self {
        Sets { syntax, sets: Vec::new(), changed: false }
    }

    /// Takes a set. One that is known already, which is what nearly all are, costs a comparison.
    pub(crate) fn take(&mut self, kind: u8, unit: &[u8]) {
        if unit.len() > SET_BYTES_MAX || self.sets.iter().any(|set| set.unit == unit) {
            return;
        }
        let Ok(id) = id(self.syntax, kind, unit) else { return };
        self.sets.retain(|set| (set.kind, set.id) != (kind, id));
        if self.sets.len() == SETS_MAX || self.held_bytes() + unit.len() > SETS_BYTES_MAX {
            self.sets.clear();
        }
        let place = self.sets.partition_point(|set| (set.kind, set.id) < (kind, id));
        self.sets.insert(place, Set { kind, id, unit: unit.to_vec() });
        self.changed = true;
    }

    /// The parameters that the sets make, if any has changed since they were asked for last. `None` too while some are
    /// missing, or when they are broken.
    pub(crate) fn changed_parameters(&mut self) -> Option<Parameters> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let (codec, configuration) = match self.syntax {
            Syntax::H264 => (Codec::H264, self.avcc()?),
            Syntax::H265 => (Codec::H265, self.hvcc()?),
            Syntax::H266 => (Codec::H266, self.vvcc()?),
        };
        Parameters::parse(codec, configuration.into()).ok()
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.sets.iter().map(|set| set.unit.capacity()).sum()
    }

    fn of_kind(&self, kind: u8) -> Vec<&[u8]> {
        self.sets.iter().filter(|set| set.kind == kind).map(|set| &set.unit[..]).collect()
    }

    fn avcc(&self) -> Option<Vec<u8>> {
        let (sequence, picture) = (self.of_kind(AVC_SPS), self.of_kind(AVC_PPS));
        let [_, profile, constraints, level] = *sequence.first()?.first_chunk()?;
        picture.first()?;
        let mut out = vec![1, profile, constraints, level, 0xff];
        out.put_u8(0xe0 | sequence.len() as u8);
        put_units(&sequence, &mut out);
        out.put_u8(picture.len() as u8);
        put_units(&picture, &mut out);
        // The profiles of old have nothing more to say. (5.3.3.1.2)
        if !matches!(profile, 66 | 77 | 88) {
            let sps = h264::Sps::parse(sequence.first()?).ok()?;
            out.extend([0xfc | sps.chroma_format, 0xf8 | (sps.bit_depth_luma - 8)]);
            out.extend([0xf8 | (sps.bit_depth_chroma - 8), 0]);
        }
        Some(out)
    }

    fn hvcc(&self) -> Option<Vec<u8>> {
        let sequence = self.of_kind(SPS);
        let first = sequence.first()?;
        let sps = h265::Sps::parse(first).ok()?;
        // Behind the id of the video parameter set: how many sub-layers there are, less one, and whether they nest.
        let layers = first.get(2)?;
        let h265::Profile { space, high_tier, profile, compatibility, constraints, level } = sps.profile;
        let mut out = vec![1, space << 6 | u8::from(high_tier) << 5 | profile];
        out.put_u32(compatibility);
        out.put_slice(&constraints);
        out.put_u8(level);
        out.put_u16(0xf000); // min_spatial_segmentation_idc: nothing is known
        out.put_u8(0xfc); // parallelismType: likewise
        out.put_u8(0xfc | sps.chroma_format);
        out.put_u8(0xf8 | (sps.bit_depth_luma - 8));
        out.put_u8(0xf8 | (sps.bit_depth_chroma - 8));
        out.put_u16(0); // avgFrameRate
        let (sub_layers, nested) = ((layers >> 1 & 7) + 1, layers & 1);
        out.put_u8(sub_layers << 3 | nested << 2 | 3); // and lengths of four bytes
        // Whole arrays: no other sets come with the frames.
        self.put_arrays([0xa0, 0xa1, 0xa2], &mut out);
        Some(out)
    }

    fn vvcc(&self) -> Option<Vec<u8>> {
        let sequence = self.of_kind(SPS);
        let first = sequence.first()?;
        let sps = h266::Sps::parse(first).ok()?;
        let mut out = Vec::new();
        match &sps.profile {
            None => out.put_u8(0xfe), // lengths of four bytes, and no profile
            Some(profile) => {
                let sub_layers = u16::from(first.get(3)? >> 5) + 1;
                let constraint_bytes =
                    u8::try_from(profile.constraints.len()).ok().filter(|len| *len < 64)?;
                out.put_u8(0xff);
                out.put_u16(sub_layers << 4 | u16::from(sps.chroma_format)); // the only output layer set
                out.put_u8((sps.bit_depth - 8) << 5 | 0x1f);
                out.put_u8(constraint_bytes);
                out.extend([profile.profile << 1 | u8::from(profile.high_tier), profile.level]);
                out.put_slice(&profile.constraints);
                if sub_layers > 1 {
                    out.put_u8(0); // no levels of sub-layers
                }
                out.put_u8(0); // no sub-profiles
                out.put_u16(u16::try_from(sps.width).ok()?);
                out.put_u16(u16::try_from(sps.height).ok()?);
                out.put_u16(0); // avg_frame_rate
            }
        }
        self.put_arrays([0x8e, 0x8f, 0x90], &mut out);
        Some(out)
    }

    /// Appends an array for each kind of which there are sets.
    fn put_arrays(&self, heads: [u8; 3], out: &mut Vec<u8>) {
        let arrays = [VPS, SPS, PPS].map(|kind| self.of_kind(kind));
        out.put_u8(arrays.iter().filter(|units| !units.is_empty()).count() as u8);
        for (head, units) in heads.into_iter().zip(&arrays).filter(|(_, units)| !units.is_empty()) {
            out.put_u8(head);
            out.put_u16(units.len() as u16);
            put_units(units, out);
        }
    }
}

/// Kinds of sets, as [`Syntax::kind`] gives them.
const AVC_SPS: u8 = 1;
const AVC_PPS: u8 = 2;
const VPS: u8 = 1;
const SPS: u8 = 2;
const PPS: u8 = 4;

/// Appends units, each behind a length of two bytes.
fn put_units(units: &[&[u8]], out: &mut Vec<u8>) {
    for unit in units {
        out.put_u16(u16::try_from(unit.len()).expect("a parameter set is bounded"));
        out.put_slice(unit);
    }
}

/// The id that a set is asked for by. (ITU-T H.264, 7.3.2.1.1 and 7.3.2.2; H.265, 7.3.2.1 to 7.3.2.3; H.266, 7.3.2.3 to
/// 7.3.2.5)
fn id(syntax: Syntax, kind: u8, unit: &[u8]) -> Result<u32, Error> {
    let payload = nal::without_emulation_prevention(unit);
    let mut reader = BitReader::new(&payload);
    let bits = |reader: &mut BitReader<'_>, count| reader.bits(count, "id of a set").map(|id| id as u32);
    match (syntax, kind) {
        (Syntax::H264, AVC_SPS) => {
            reader.skip(8 + 24, "header, profile and level")?;
            reader.ue_at_most(31, "seq_parameter_set_id")
        }
        (Syntax::H264, _) => {
            reader.skip(8, "header")?;
            reader.ue_at_most(255, "pic_parameter_set_id")
        }
        (Syntax::H265, SPS) => {
            reader.skip(16 + 4, "header and sps_video_parameter_set_id")?;
            let sub_layers_minus1 = reader.bits(3, "sps_max_sub_layers_minus1")? as usize;
            reader.skip(1 + 96, "profile, tier and level")?;
            let mut more = 0;
            for _ in 0..sub_layers_minus1 {
                more += if reader.bit("sub_layer_profile_present_flag")? { 88 } else { 0 };
                more += if reader.bit("sub_layer_level_present_flag")? { 8 } else { 0 };
            }
            if sub_layers_minus1 > 0 {
                more += 2 * (8 - sub_layers_minus1);
            }
            reader.skip(more, "profiles and levels of sub-layers")?;
            reader.ue_at_most(15, "sps_seq_parameter_set_id")
        }
        (Syntax::H265, PPS) => {
            reader.skip(16, "header")?;
            reader.ue_at_most(63, "pps_pic_parameter_set_id")
        }
        (Syntax::H266, PPS) => {
            reader.skip(16, "header")?;
            bits(&mut reader, 6)
        }
        _ => {
            reader.skip(16, "header")?;
            bits(&mut reader, 4)
        }
    }
}
