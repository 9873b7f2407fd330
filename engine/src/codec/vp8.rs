//! VP8: the header of a key frame (RFC 6386, 9.1), and the configuration `vpcC` that follows from it (VP Codec ISO Media File Format
//! Binding). The stream itself has no other.

/// What the header of a key frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyFrame {
    /// `version`, 0 to 3: which filters a decoder needs.
    pub profile: u8,
    /// Luma samples across.
    pub width: u32,
    /// Luma samples down.
    pub height: u32,
}

impl KeyFrame {
    /// Parses the header at the start of `frame`; `None` when it is no key frame, or broken.
    ///
    /// ```
    /// use shardcast_engine::codec::vp8::KeyFrame;
    ///
    /// # let frame = [0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x00, 0x00];
    /// let header = KeyFrame::parse(&frame).expect("a key frame");
    /// assert_eq!((header.profile, header.width, header.height), (0, 320, 180));
    /// assert_eq!(KeyFrame::parse(&[0x11, 0x02, 0x00]), None);
    /// ```
    pub fn parse(frame: &[u8]) -> Option<Self> {
        const START_CODE: [u8; 3] = [0x9d, 0x01, 0x2a];
        /// Behind the size of a side stands how it is to be scaled when it is shown.
        const SIDE: u16 = 0x3fff;
        let &[first, _, _, a, b, c, width_low, width_high, height_low, height_high, ..] = frame else {
            return None;
        };
        let profile = first >> 1 & 7;
        // The lowest bit is 0 for key frames alone.
        if first & 1 != 0 || profile > 3 || [a, b, c] != START_CODE {
            return None;
        }
        let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & SIDE);
        let (width, height) = (side(width_low, width_high), side(height_low, height_high));
        (width > 0 && height > 0).then_some(KeyFrame { profile, width, height })
    }

    /// The contents of `vpcC`: 8 bits, 4:2:0, and nothing said of colours or of a level, which VP8 has none of.
    ///
    /// ```
    /// use shardcast_engine::codec::{vp8::KeyFrame, vp9::Configuration};
    ///
    /// let configuration = KeyFrame { profile: 1, width: 320, height: 180 }.configuration();
    /// assert_eq!(Configuration::parse(&configuration)?.profile, 1);
    /// # Ok::<(), shardcast_engine::error::Error>(())
    /// ```
    pub const fn configuration(&self) -> [u8; 12] {
        [1, 0, 0, 0, self.profile, 0, 0x82, 2, 2, 2, 0, 0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::samples::{self, hex};

    #[test]
    fn the_header_of_a_key_frame_says_its_size() {
        let parse = |text| KeyFrame::parse(&hex(text));
        assert_eq!(parse(samples::VP8_KEY), Some(KeyFrame { profile: 0, width: 64, height: 64 }));
        assert_eq!([parse(samples::VP8_INTER), parse(""), parse("1002009d012a4000")], [None; 3]);
        let mut bytes = hex(samples::VP8_KEY);
        bytes[0] |= 6;
        assert_eq!(KeyFrame::parse(&bytes).map(|frame| frame.profile), Some(3));
        bytes[0] |= 8;
        assert_eq!(KeyFrame::parse(&bytes), None, "no such version");
        let mut scaled = hex(samples::VP8_KEY);
        scaled[7] |= 0x40;
        assert_eq!(KeyFrame::parse(&scaled).map(|frame| frame.width), Some(64));
    }
}
