//! The video usability information that H.264 (annex E) and HEVC (annex E) write alike.

use crate::{bits::BitReader, codec::Colour, error::Error};

/// `aspect_ratio_idc` and what it brings; the same in H.264 (table E-1) and HEVC (table E.1).
pub fn sample_aspect_ratio(reader: &mut BitReader<'_>) -> Result<Option<(u16, u16)>, Error> {
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

/// What follows `video_signal_type_present_flag`; the same in H.264 and HEVC.
pub fn video_signal_type(reader: &mut BitReader<'_>) -> Result<Colour, Error> {
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
