//! What the sequence parameter sets of H.264, HEVC and VVC write alike: cropping, and (but for VVC) the video usability
//! information of their annexes E.

use crate::{
    bits::BitReader,
    codec::{Colour, FrameRate},
    error::Error,
};

/// The parts of the video usability information that others ask for.
///
/// ```
/// use shardcast_engine::codec::{FrameRate, h264::Sps, vui::Vui};
///
/// # let unit = [
/// #     0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03,
/// #     0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x19
/// # ];
/// let Vui { sample_aspect_ratio, colour, frame_rate } = Sps::parse(&unit)?.vui;
/// assert_eq!(sample_aspect_ratio, Some((1, 1)));
/// assert_eq!(frame_rate, Some(FrameRate { numerator: 30, denominator: 1 }));
/// // This encoder says nothing of colours.
/// assert_eq!(colour, None);
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vui {
    /// Width and height of a sample; `None` when it is not said.
    pub sample_aspect_ratio: Option<(u16, u16)>,
    /// How samples are to be understood as colours.
    pub colour: Option<Colour>,
    /// Frames per second.
    pub frame_rate: Option<FrameRate>,
}

impl Vui {
    /// Reads from `aspect_ratio_info_present_flag` to the chroma sample locations.
    pub(super) fn read_picture(&mut self, reader: &mut BitReader<'_>) -> Result<(), Error> {
        if reader.bit("aspect_ratio_info_present_flag")? {
            self.sample_aspect_ratio = sample_aspect_ratio(reader)?;
        }
        if reader.bit("overscan_info_present_flag")? {
            reader.skip(1, "overscan_appropriate_flag")?;
        }
        if reader.bit("video_signal_type_present_flag")? {
            self.colour = Some(video_signal_type(reader)?);
        }
        if reader.bit("chroma_loc_info_present_flag")? {
            reader.ue("chroma_sample_loc_type_top_field")?;
            reader.ue("chroma_sample_loc_type_bottom_field")?;
        }
        Ok(())
    }

    /// Reads `num_units_in_tick` and `time_scale`, of which a frame lasts `ticks`.
    pub(super) fn read_timing(&mut self, reader: &mut BitReader<'_>, ticks: u64) -> Result<(), Error> {
        let units_in_tick = reader.bits(32, "num_units_in_tick")?;
        let time_scale = reader.bits(32, "time_scale")?;
        self.frame_rate = FrameRate::new(time_scale, units_in_tick * ticks);
        Ok(())
    }
}

/// Luma samples that one step of a cropping offset covers, across and down, in a chroma format. Separate colour planes
/// are cropped like monochrome, whose unit is that of 4:4:4. (H.264, 7.4.2.1.1; H.265 and H.266, 6.2)
pub(super) const fn cropping_unit(chroma_format: u8) -> (u32, u32) {
    match chroma_format {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    }
}

/// Reads the cropping offsets of two opposite edges and takes them off `side`.
pub(super) fn cropped(reader: &mut BitReader<'_>, side: u32, unit: u32) -> Result<u32, Error> {
    let offsets = u64::from(reader.ue("cropping offset")?) + u64::from(reader.ue("cropping offset")?);
    match u64::from(side).checked_sub(offsets * u64::from(unit)) {
        Some(left) if left > 0 => Ok(left as u32),
        _ => Err(reader.malformed("nothing is left of the picture after cropping")),
    }
}

/// `aspect_ratio_idc` and what it brings. (H.264, table E-1; H.265, table E.1)
fn sample_aspect_ratio(reader: &mut BitReader<'_>) -> Result<Option<(u16, u16)>, Error> {
    const EXTENDED: usize = 255;
    const RATIOS: [(u16, u16); 16] = [
        (1, 1),
        (12, 11),
        (10, 11),
        (16, 11),
        (40, 33),
        (24, 11),
        (20, 11),
        (32, 11),
        (80, 33),
        (18, 11),
        (15, 11),
        (64, 33),
        (160, 99),
        (4, 3),
        (3, 2),
        (2, 1),
    ];
    let index = reader.bits(8, "aspect_ratio_idc")? as usize;
    if index == EXTENDED {
        let width = reader.bits(16, "sar_width")? as u16;
        let height = reader.bits(16, "sar_height")? as u16;
        return Ok((width != 0 && height != 0).then_some((width, height)));
    }
    // 0 says that the ratio is not known.
    Ok(index.checked_sub(1).and_then(|index| RATIOS.get(index).copied()))
}

/// What follows `video_signal_type_present_flag`.
fn video_signal_type(reader: &mut BitReader<'_>) -> Result<Colour, Error> {
    reader.skip(3, "video_format")?;
    let full_range = reader.bit("video_full_range_flag")?;
    let mut colour = Colour { full_range, ..Colour::default() };
    if reader.bit("colour_description_present_flag")? {
        colour.primaries = reader.u8("colour_primaries")?;
        colour.transfer = reader.u8("transfer_characteristics")?;
        colour.matrix = reader.u8("matrix_coefficients")?;
    }
    Ok(colour)
}
