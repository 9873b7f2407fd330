//! Reading: the head of a box, the tracks of a `moov`, the samples of a `moof`.
//!
//! Each function takes one whole box, so a reader of a file of any size holds one head of a fragment at a time. Where
//! boxes stand in a file, and where the valid part of a damaged one ends, is the business of
//! [`record::scan`](crate::record::scan).

use super::{
    BOX_HEAD_BYTES,
    boxes::FourCc,
    entry::{self, SampleEntry},
};
use crate::{bits::Reader, error::Error, limits};

/// The head of a box.
///
/// ```
/// use shardcast_engine::fmp4::{BOX_HEAD_BYTES, FourCc, demux::{BOX_HEAD_BYTES_MAX, BoxHead}};
///
/// // Media of more than 4 GiB: the size says 1, and the true one follows the type.
/// let bytes = [&[0, 0, 0, 1][..], b"mdat", &5_000_000_000_u64.to_be_bytes()].concat();
/// let head = BoxHead::parse(&bytes)?;
/// assert_eq!((head.kind, head.len), (FourCc(*b"mdat"), Some(5_000_000_000)));
/// assert_eq!(head.head_len, BOX_HEAD_BYTES_MAX as u64);
/// // Others have a shorter head.
/// assert_eq!(BoxHead::parse(b"\0\0\0\x08skip")?.head_len, BOX_HEAD_BYTES as u64);
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoxHead {
    /// Its type.
    pub kind: FourCc,
    /// Bytes of the head itself: 8, or 16 where the size takes 64 bits.
    pub head_len: u64,
    /// Bytes of the whole box, or `None` when it reaches to the end of the file.
    pub len: Option<u64>,
}

/// Bytes that [`BoxHead::parse`] needs at most.
pub const BOX_HEAD_BYTES_MAX: usize = 16;

impl BoxHead {
    /// Reads the head at the start of `bytes` (ISO/IEC 14496-12, 4.2).
    ///
    /// # Errors
    /// Too few bytes, or a size that does not cover the head.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let size = reader.u32("box size")?;
        let kind = FourCc::read(&mut reader, "box type")?;
        let (head_len, len) = match size {
            0 => (8, None),
            1 => (16, Some(reader.u64("large box size")?)),
            size => (8, Some(u64::from(size))),
        };
        if len.is_some_and(|len| len < head_len) {
            return Err(Error::malformed("box shorter than its head", 0));
        }
        Ok(BoxHead { kind, head_len, len })
    }
}

/// What a `moov` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Movie {
    /// The tracks, in the order of the file.
    pub tracks: Vec<Track>,
    /// True when fragments may follow (`mvex`).
    pub fragmented: bool,
}

/// A track of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// `track_ID`.
    pub id: u32,
    /// `hdlr` type: `vide`, `soun`.
    pub handler: FourCc,
    /// Ticks per second; never 0.
    pub timescale: u32,
    /// Its first sample entry.
    pub entry: SampleEntry,
    defaults: Defaults,
}

/// What samples are when their fragment does not say (`trex`, then `tfhd`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Defaults {
    duration: u32,
    size: u32,
    flags: u32,
}

/// What a `moof` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// `sequence_number`.
    pub sequence: u32,
    /// Its samples, run by run.
    pub samples: Vec<Sample>,
    /// For each track that has samples here: its id, and when the sample after the last one would be decoded.
    pub ends: Vec<(u32, u64)>,
}

/// Where a sample is and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// `track_ID`.
    pub track: u32,
    /// When it is decoded, in ticks of its track.
    pub dts: u64,
    /// When it is shown.
    pub pts: i64,
    /// Ticks to the next.
    pub duration: u32,
    /// A decoder can begin here.
    pub key: bool,
    /// First byte in the file.
    pub offset: u64,
    /// Bytes.
    pub size: u32,
}

/// `sample_is_non_sync_sample`.
const FLAG_NON_SYNC: u32 = 0x0001_0000;

impl Movie {
    /// Reads the content of a `moov` box.
    ///
    /// # Errors
    /// A track without its time scale or sample entry, or boxes that do not fit into each other.
    pub fn parse(moov: &[u8]) -> Result<Self, Error> {
        let mut movie = Movie::default();
        let mut defaults = Vec::new();
        for child in children(moov) {
            let (kind, content) = child?;
            match &kind.0 {
                b"trak" if movie.tracks.len() == limits::RECORDING_TRACKS_MAX => {
                    return Err(Error::too_large("tracks in moov", 0));
                }
                b"trak" => movie.tracks.push(Track::parse(content)?),
                b"mvex" => {
                    movie.fragmented = true;
                    for child in children(content) {
                        if let (FourCc(kind), trex) = child?
                            && kind == *b"trex"
                            && defaults.len() < limits::RECORDING_TRACKS_MAX
                        {
                            defaults.push(parse_trex(trex)?);
                        }
                    }
                }
                _ => {}
            }
        }
        for track in &mut movie.tracks {
            if let Some((_, found)) = defaults.iter().find(|(id, _)| *id == track.id) {
                track.defaults = *found;
            }
        }
        Ok(movie)
    }

    /// The track with this id.
    pub fn track(&self, id: u32) -> Option<&Track> {
        self.tracks.iter().find(|track| track.id == id)
    }
}

impl Track {
    fn parse(trak: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(find(trak, b"tkhd")?);
        let version = reader.u32("tkhd version")? >> 24;
        reader.skip(if version == 1 { 16 } else { 8 }, "tkhd times")?;
        let id = reader.u32("track_ID")?;

        let mdia = find(trak, b"mdia")?;
        let mut reader = Reader::new(find(mdia, b"mdhd")?);
        let version = reader.u32("mdhd version")? >> 24;
        reader.skip(if version == 1 { 16 } else { 8 }, "mdhd times")?;
        let timescale = reader.u32("timescale")?;
        if timescale == 0 {
            return Err(Error::malformed("timescale of 0", 0));
        }
        let mut reader = Reader::new(find(mdia, b"hdlr")?);
        reader.skip(8, "hdlr head")?;
        let handler = FourCc::read(&mut reader, "handler type")?;
        let stsd = find(find(find(mdia, b"minf")?, b"stbl")?, b"stsd")?;
        Ok(Track { id, handler, timescale, entry: entry::read(stsd)?, defaults: Defaults::default() })
    }

    /// The codec's name, or the sample entry's type when it is none of ours.
    pub fn codec_name(&self) -> String {
        self.entry.codec.map_or_else(|| self.entry.kind.to_string(), |codec| codec.name().to_owned())
    }
}

fn parse_trex(trex: &[u8]) -> Result<(u32, Defaults), Error> {
    let mut reader = Reader::new(trex);
    reader.skip(4, "trex head")?;
    let id = reader.u32("trex track_ID")?;
    reader.skip(4, "trex sample description")?;
    let duration = reader.u32("trex duration")?;
    let size = reader.u32("trex size")?;
    Ok((id, Defaults { duration, size, flags: reader.u32("trex flags")? }))
}

impl Fragment {
    /// Reads the content of a `moof` box that begins at byte `at` of its file.
    ///
    /// # Errors
    /// Boxes that do not fit into each other, a track that `movie` does not have, offsets outside any file, or more
    /// samples than [`limits::MP4_SAMPLES_MAX`].
    pub fn parse(movie: &Movie, moof: &[u8], at: u64) -> Result<Self, Error> {
        let mut fragment = Fragment::default();
        // Without a base offset a run's data follows that of the run before it (8.8.7.1); we always write one.
        let mut data_end = at;
        for child in children(moof) {
            let (kind, content) = child?;
            match &kind.0 {
                b"mfhd" => {
                    let mut reader = Reader::new(content);
                    reader.skip(4, "mfhd head")?;
                    fragment.sequence = reader.u32("sequence_number")?;
                }
                b"traf" => data_end = fragment.traf(movie, content, at, data_end)?,
                _ => {}
            }
        }
        Ok(fragment)
    }

    fn traf(&mut self, movie: &Movie, traf: &[u8], moof_at: u64, data_end: u64) -> Result<u64, Error> {
        let mut tfhd = Reader::new(find(traf, b"tfhd")?);
        let flags = tfhd.u32("tfhd flags")?;
        let id = tfhd.u32("tfhd track_ID")?;
        let track =
            movie.track(id).ok_or(Error::malformed("fragment of a track that moov does not have", 0))?;
        let mut defaults = track.defaults;
        let mut base = if flags & 0x02_0000 != 0 { moof_at } else { data_end };
        if flags & 0x01 != 0 {
            base = tfhd.u64("base_data_offset")?;
        }
        if flags & 0x02 != 0 {
            tfhd.skip(4, "sample description")?;
        }
        for (bit, field) in
            [(0x08, &mut defaults.duration), (0x10, &mut defaults.size), (0x20, &mut defaults.flags)]
        {
            if flags & bit != 0 {
                *field = tfhd.u32("tfhd default")?;
            }
        }
        let mut dts = match find(traf, b"tfdt") {
            Ok(content) => {
                let mut reader = Reader::new(content);
                let version = reader.u32("tfdt version")? >> 24;
                if version == 1 { reader.u64("tfdt")? } else { u64::from(reader.u32("tfdt")?) }
            }
            // Optional in the standard: then the track goes on where it ended, which only the caller could know.
            Err(_) => return Err(Error::unsupported("fragment without tfdt", 0)),
        };
        let mut data_at = base;
        for child in children(traf) {
            let (kind, content) = child?;
            if kind.0 == *b"trun" {
                (dts, data_at) = self.trun(id, content, defaults, base, dts, data_at)?;
            }
        }
        if self.samples.last().is_some_and(|sample| sample.track == id) {
            self.ends.push((id, dts));
        }
        Ok(data_at)
    }

    fn trun(
        &mut self,
        track: u32,
        trun: &[u8],
        defaults: Defaults,
        base: u64,
        mut dts: u64,
        mut data_at: u64,
    ) -> Result<(u64, u64), Error> {
        let outside = Error::malformed("sample outside any file", 0);
        let mut reader = Reader::new(trun);
        let flags = reader.u32("trun flags")?;
        let version = flags >> 24;
        let count = reader.u32("sample_count")? as usize;
        // A run may leave out every field of its samples, so the count alone must not make us take memory.
        if count > limits::MP4_SAMPLES_MAX - self.samples.len() {
            return Err(Error::too_large("samples in a fragment", 0));
        }
        if flags & 0x01 != 0 {
            let offset = reader.u32("data_offset")? as i32;
            data_at = base.checked_add_signed(i64::from(offset)).ok_or(outside)?;
        }
        let first_flags = if flags & 0x04 != 0 { Some(reader.u32("first_sample_flags")?) } else { None };
        for index in 0..count {
            let mut field = |bit: u32, default: u32| {
                if flags & bit != 0 { reader.u32("trun sample") } else { Ok(default) }
            };
            let duration = field(0x100, defaults.duration)?;
            let size = field(0x200, defaults.size)?;
            let mut sample_flags = field(0x400, defaults.flags)?;
            let composition = field(0x800, 0)?;
            if index == 0
                && let Some(flags) = first_flags
            {
                sample_flags = flags;
            }
            let composition =
                if version == 0 { i64::from(composition) } else { i64::from(composition as i32) };
            let pts = i64::try_from(dts).ok().and_then(|dts| dts.checked_add(composition)).ok_or(outside)?;
            let key = sample_flags & FLAG_NON_SYNC == 0;
            self.samples.push(Sample { track, dts, pts, duration, key, offset: data_at, size });
            dts = dts.checked_add(u64::from(duration)).ok_or(outside)?;
            data_at = data_at.checked_add(u64::from(size)).ok_or(outside)?;
        }
        Ok((dts, data_at))
    }
}

/// The boxes inside `bytes`, in order; ends after the first fault.
fn children(bytes: &[u8]) -> impl Iterator<Item = Result<(FourCc, &[u8]), Error>> {
    let mut reader = Reader::new(bytes);
    let mut broken = false;
    std::iter::from_fn(move || {
        if broken || reader.is_empty() {
            return None;
        }
        let at = reader.position() as u64;
        let child = BoxHead::parse(reader.peek()).map_err(|error| error.after(at)).and_then(|head| {
            let len = match head.len {
                Some(len) => usize::try_from(len).map_err(|_| Error::truncated("box", at))?,
                None => reader.remaining(),
            };
            let content = reader.take(len, "box")?;
            Ok((head.kind, content.get(head.head_len as usize..).unwrap_or_default()))
        });
        broken = child.is_err();
        Some(child)
    })
}

/// The content of the first box of type `kind` inside `bytes`.
fn find<'a>(bytes: &'a [u8], kind: &'static [u8; 4]) -> Result<&'a [u8], Error> {
    for child in children(bytes) {
        let (found, content) = child?;
        if found.0 == *kind {
            return Ok(content);
        }
    }
    Err(Error::malformed("a box that must be there is missing", bytes.len().max(BOX_HEAD_BYTES) as u64))
}
