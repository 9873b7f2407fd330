//! What a NAL unit of H.264, HEVC or VVC is to whoever takes access units apart or puts them together.

use super::{h264, h265, h266};

/// Whose NAL units they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "mpegts"), allow(dead_code, reason = "no payload format of RTP carries VVC here"))]
pub(crate) enum Syntax {
    H264,
    H265,
    H266,
}

/// What matters of a NAL unit here.
#[cfg_attr(
    not(feature = "mpegts"),
    allow(dead_code, reason = "a delimiter promises where a decoder can begin")
)]
pub(crate) enum Kind {
    /// An access unit delimiter.
    Delimiter,
    /// A parameter set: a bit for its kind. One of a higher bit builds upon those of lower ones.
    Set(u8),
    /// Supplemental information (SEI) that may stand in a configuration: the colours of an HDR master, say.
    Information,
    /// A slice.
    Slice {
        /// Of a picture at which a decoder can begin, at once or by and by.
        random_access: bool,
    },
    Other,
}

impl Syntax {
    /// What `unit` is.
    pub(crate) fn kind(self, unit: &[u8]) -> Kind {
        match self {
            // ITU-T H.264, table 7-1.
            Syntax::H264 => match h264::unit_type(unit) {
                Some(kind @ 1..=5) => Kind::Slice { random_access: kind == 5 },
                Some(7) => Kind::Set(1),
                Some(8) => Kind::Set(2),
                Some(9) => Kind::Delimiter,
                _ => Kind::Other,
            },
            // ITU-T H.265, table 7-1.
            // Sets of higher layers stay where they are: configurations are of the lowest.
            Syntax::H265 => match h265::unit_type(unit) {
                Some(32..=34) if !is_of_base_layer(self, unit) => Kind::Other,
                Some(kind @ 0..=31) => Kind::Slice { random_access: (16..=21).contains(&kind) },
                Some(32) => Kind::Set(1),
                Some(33) => Kind::Set(2),
                Some(34) => Kind::Set(4),
                Some(35) => Kind::Delimiter,
                // What a user adds (payload type 5) is said once if ever: x265's is its command line.
                Some(39) if unit.get(2) != Some(&5) => Kind::Information,
                _ => Kind::Other,
            },
            // ITU-T H.266, table 5.
            Syntax::H266 => match h266::unit_type(unit) {
                Some(14..=16) if !is_of_base_layer(self, unit) => Kind::Other,
                Some(kind @ 0..=11) => Kind::Slice { random_access: (7..=10).contains(&kind) },
                Some(14) => Kind::Set(1),
                Some(15) => Kind::Set(2),
                Some(16) => Kind::Set(4),
                Some(20) => Kind::Delimiter,
                _ => Kind::Other,
            },
        }
    }

    /// Bytes of a unit's head.
    #[cfg(feature = "rtsp")]
    pub(crate) const fn head_bytes(self) -> usize {
        match self {
            Syntax::H264 => 1,
            Syntax::H265 | Syntax::H266 => 2,
        }
    }

    /// True for a unit that only fills the stream up.
    pub(crate) fn is_filler(self, unit: &[u8]) -> bool {
        match self {
            Syntax::H264 => h264::unit_type(unit) == Some(12),
            Syntax::H265 => h265::unit_type(unit) == Some(38),
            Syntax::H266 => h266::unit_type(unit) == Some(25),
        }
    }
}

/// `nuh_layer_id` is 0. (H.265, 7.3.1.2; H.266, 7.3.1.2)
fn is_of_base_layer(syntax: Syntax, unit: &[u8]) -> bool {
    match (syntax, unit) {
        (Syntax::H264, _) => true,
        (Syntax::H265, [first, second, ..]) => first & 1 == 0 && second >> 3 == 0,
        (Syntax::H266, [first, ..]) => first & 0x3f == 0,
        _ => false,
    }
}
