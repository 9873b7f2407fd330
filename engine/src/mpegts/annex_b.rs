//! Access units of H.264, HEVC and VVC as a byte stream: NAL units behind start codes, a delimiter first, parameter sets
//! before what a decoder can begin at. (ISO/IEC 13818-1, 2.14.1, 2.17.1 and 2.23.1; ITU-T H.264, H.265 and H.266, annex B)

use crate::{
    bits::Reader,
    codec::{
        h264, h265, h266,
        nal::{LengthPrefixed, LengthSize},
        syntax::{Kind, Syntax},
    },
    error::Error,
};

/// How the pictures of one track are written.
pub(super) struct AnnexB {
    syntax: Syntax,
    length_size: LengthSize,
    /// The parameter sets of the configuration behind start codes, and what else it says of every picture.
    sets: Vec<u8>,
    /// A bit for each kind of them.
    set_kinds: u8,
}

/// The NAL units of one access unit, without its own delimiter.
pub(super) struct Units<'a> {
    syntax: Syntax,
    length_size: LengthSize,
    data: &'a [u8],
    len: usize,
}

/// With the zero byte that the first unit of an access unit and parameter sets must have (B.1.2); the others may.
static START_CODE: [u8; 4] = [0, 0, 0, 1];

impl AnnexB {
    pub(super) fn of_h264(configuration: &[u8]) -> Option<Self> {
        let config = h264::Configuration::parse(configuration).ok()?;
        let sets = config.sequence_parameter_sets.iter().chain(&config.picture_parameter_sets);
        Some(Self::new(Syntax::H264, config.length_size, sets.copied().collect()))
    }

    pub(super) fn of_h265(configuration: &[u8]) -> Option<Self> {
        let config = h265::Configuration::parse(configuration).ok()?;
        Some(Self::new(Syntax::H265, config.length_size, units_of_hvcc(configuration).ok()?))
    }

    pub(super) fn of_h266(configuration: &[u8]) -> Option<Self> {
        let config = h266::Configuration::parse(configuration).ok()?;
        Some(Self::new(Syntax::H266, config.length_size, config.parameter_sets))
    }

    fn new(syntax: Syntax, length_size: LengthSize, mut units: Vec<&[u8]>) -> Self {
        // A configuration may have them in any order, a stream may not: information stands behind parameter sets.
        let order = |unit: &[u8]| match syntax.kind(unit) {
            Kind::Set(kind) => Some(kind),
            Kind::Information => Some(u8::MAX),
            _ => None,
        };
        units.retain(|unit| order(unit).is_some());
        units.sort_by_key(|unit| order(unit));
        let set_kinds = units.iter().fold(0, |kinds, unit| match syntax.kind(unit) {
            Kind::Set(kind) => kinds | kind,
            _ => kinds,
        });
        let sets = units.iter().flat_map(|unit| START_CODE.iter().chain(*unit)).copied().collect();
        AnnexB { syntax, length_size, sets, set_kinds }
    }

    pub(super) fn syntax(&self) -> Syntax {
        self.syntax
    }

    /// Appends what stands before the access unit's own NAL units to `head`, and gives these. `None` when none of them is
    /// whole; what is cut short, and what follows it, is left out.
    pub(super) fn prepare<'a>(&self, data: &'a [u8], key: bool, head: &mut Vec<u8>) -> Option<Units<'a>> {
        let mut units = Units { syntax: self.syntax, length_size: self.length_size, data, len: 0 };
        let (mut set_kinds, mut slice, mut all_random_access) = (0, None, true);
        let mut len = 0;
        for unit in units.units() {
            len += START_CODE.len() + unit.len();
            match self.syntax.kind(unit) {
                Kind::Set(kind) => set_kinds |= kind,
                Kind::Slice { random_access } => {
                    slice = slice.or(Some(unit));
                    all_random_access &= random_access;
                }
                Kind::Delimiter | Kind::Information | Kind::Other => {}
            }
        }
        if len == 0 {
            return None;
        }
        units.len = len;
        let random_access = all_random_access && slice.is_some();
        write_delimiter(self.syntax, slice.unwrap_or_default(), random_access, head);
        // An encoder repeats either all kinds or none. If it left one out, all are written: one of a later kind may not
        // stand without those of the earlier ones before it.
        if key && set_kinds & self.set_kinds != self.set_kinds {
            head.extend(&self.sets);
        }
        Some(units)
    }
}

impl<'a> Units<'a> {
    /// Bytes with their start codes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Gives their bytes in order.
    pub(super) fn write(&self, mut put: impl FnMut(&[u8])) {
        for unit in self.units() {
            put(&START_CODE);
            put(unit);
        }
    }

    /// Its whole units. A delimiter of its own is left out, since ours stands there already: another would begin another
    /// access unit.
    fn units(&self) -> impl Iterator<Item = &'a [u8]> {
        let syntax = self.syntax;
        LengthPrefixed::new(self.data, self.length_size)
            .map_while(Result::ok)
            .filter(move |unit| !matches!(syntax.kind(unit), Kind::Delimiter))
    }
}

/// Appends a delimiter that promises nothing of the picture that follows but what it must. `slice` is its first.
fn write_delimiter(syntax: Syntax, slice: &[u8], random_access: bool, head: &mut Vec<u8>) {
    // It belongs to the temporal sub-layer of its picture (7.4.2.2 of both), in the lowest layer.
    let temporal_id_plus1 = slice.get(1).map_or(1, |byte| (byte & 0x07).max(1));
    head.extend(START_CODE);
    match syntax {
        Syntax::H264 => head.extend([0x09, 0xf0]),
        Syntax::H265 => head.extend([0x46, temporal_id_plus1, 0x50]),
        // aud_irap_or_gdr_flag says neither more nor less than what is true (7.4.3.10).
        Syntax::H266 => {
            let flag = if random_access { 0x80 } else { 0 };
            head.extend([0x00, 0xa0 | temporal_id_plus1, flag | 0x28]);
        }
    }
}

/// All NAL units of an `hvcC`. (ISO/IEC 14496-15, 8.3.3.1.2)
fn units_of_hvcc(bytes: &[u8]) -> Result<Vec<&[u8]>, Error> {
    let mut units = Vec::new();
    let mut reader = Reader::new(bytes);
    reader.skip(22, "head of hvcC")?;
    for _ in 0..reader.u8("count of arrays in hvcC")? {
        reader.skip(1, "type of an array in hvcC")?;
        for _ in 0..reader.u16("count of NAL units in hvcC")? {
            let length = reader.u16("length of a NAL unit in hvcC")?;
            units.push(reader.take(length.into(), "NAL unit in hvcC")?);
        }
    }
    Ok(units)
}
