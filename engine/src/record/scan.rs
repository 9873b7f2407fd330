//! Looking at a recording: what is in it, what is wrong with it, and where its valid part ends.
//!
//! A file that a crash left behind is playable as it is. Its tail may be zeros (space taken ahead of the writer) or a
//! fragment of which only some blocks arrived; [`Report::repair`] says where to cut. Works through a window, so a file
//! may be of any size.

use std::{collections::VecDeque, time::Duration};

use crate::{
    codec::{nal::LengthPrefixed, nal_length_size},
    error::Error,
    fmp4::demux::{BOX_HEAD_BYTES_MAX, BoxHead, Fragment, Movie, Sample},
    limits,
};

/// A file as a scan reads it.
///
/// ```
/// # use std::convert::Infallible;
/// # use shardcast_engine::record::scan::{Depth, ReadAt, scan};
/// struct InMemory(Vec<u8>);
///
/// impl ReadAt for InMemory {
///     type Error = Infallible;
///     fn size(&self) -> Result<u64, Infallible> { Ok(self.0.len() as u64) }
///     fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Infallible> {
///         let rest = &self.0[self.0.len().min(offset as usize)..];
///         let count = rest.len().min(buffer.len());
///         buffer[..count].copy_from_slice(&rest[..count]);
///         Ok(count)
///     }
/// }
/// # let Ok(report) = scan(&InMemory(Vec::new()), Depth::Content);
/// # assert_eq!(report.fragments, 0);
/// ```
pub trait ReadAt {
    /// Why it could not be read.
    type Error;
    /// Bytes in the file.
    ///
    /// # Errors
    /// The file cannot be asked.
    fn size(&self) -> Result<u64, Self::Error>;
    /// Reads at `offset` into `buffer`, as much as there is up to its length; 0 only at the end of the file.
    ///
    /// # Errors
    /// The file cannot be read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Self::Error>;
}

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The heads of all fragments, and the content of those that a crash may have torn. Enough to list and to repair.
    Heads,
    /// Every byte.
    Content,
}

/// What a scan found.
///
/// ```
/// # use std::sync::Arc;
/// # use shardcast_engine::{codec::{Codec, Parameters}, media::{Frame, Payload, TrackId}, time::{MediaTime, Now, Wall}};
/// # use shardcast_engine::record::{Output, Recorder, Settings};
/// use shardcast_engine::record::scan::{Depth, FINDINGS_MAX, Finding, Repair, Report, Tail, TrackReport, scan};
///
/// # let (now, mut file) = (Now(0), Vec::new());
/// # let mut recorder = Recorder::new("live/cam", &Settings::default());
/// # let data = bytes::Bytes::from_static(&[0xfc, 1, 2]);
/// # for payload in [Payload::Parameters(Arc::new(Parameters::of_opus(2))), Payload::Audio { codec: Codec::Opus, data }] {
/// #     let time = MediaTime::from_millis(0);
/// #     recorder.frame(&Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }, now, Wall(0));
/// # }
/// # recorder.finish(now);
/// # while let Some(output) = recorder.poll() {
/// #     match output {
/// #         Output::Open { segment, .. } => recorder.opened(segment, Ok(1), now),
/// #         Output::Append { segment, fragment, .. } => {
/// #             file.resize(fragment.len(), 0);
/// #             fragment.write_into(&mut file);
/// #             recorder.appended(segment, Ok(()), now);
/// #         }
/// #         Output::Finish { segment, .. } => recorder.finished(segment, Ok(())),
/// #         Output::Alarm { .. } | Output::Gap { .. } => {}
/// #     }
/// # }
/// let Ok(report): Result<Report, _> = scan(&file[..], Depth::Content);
/// assert!(report.is_sound() && report.fragments == 1);
/// let TrackReport { codec, frames, .. } = &report.tracks[0];
/// assert_eq!((codec.as_str(), *frames), ("opus", 1));
///
/// // The same file as a crash may leave it.
/// let Ok(report) = scan(&file[..file.len() - 10], Depth::Content);
/// assert!(!report.is_sound() && report.findings.len() <= FINDINGS_MAX);
/// let Finding { at, .. } = report.findings[0];
/// assert_eq!((report.tail, at), (Tail::Torn, report.valid));
/// // It had one fragment, so nothing is left that plays.
/// assert_eq!(report.repair(), Repair::Remove);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Bytes in the file.
    pub size: u64,
    /// Where the valid part ends; everything up to here plays.
    pub valid: u64,
    /// What stands behind the valid part.
    pub tail: Tail,
    /// How long the valid part plays: the longest track.
    pub duration: Duration,
    /// Its tracks; empty when the file is no MP4.
    pub tracks: Vec<TrackReport>,
    /// Whole fragments.
    pub fragments: u64,
    /// What is wrong inside the valid part and what made it end. At most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
}

/// One track of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackReport {
    /// `track_ID`.
    pub id: u32,
    /// The codec's name, or the sample entry's type when it is none of ours.
    pub codec: String,
    /// Frames.
    pub frames: u64,
    /// Frames that a decoder can begin at.
    pub key_frames: u64,
    /// From the beginning of the file to the end of the track's last frame.
    pub duration: Duration,
}

/// What stands behind the valid part of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tail {
    /// Nothing: the file ends with its last fragment.
    #[default]
    None,
    /// Zeros: space that was taken and never written.
    Zeros,
    /// A part of a fragment, with or without zeros behind it.
    Torn,
    /// Something that is no part of a recording; the file is not ours to cut.
    Foreign,
}

/// Something that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The byte of the file.
    pub at: u64,
    /// What.
    pub what: &'static str,
}

/// What makes a file whole again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Nothing is to be done, or nothing can be.
    None,
    /// Cut the file to this length.
    Truncate(u64),
    /// Nothing in it can be played: remove it.
    Remove,
}

/// Findings that a report holds; further ones are left out.
pub const FINDINGS_MAX: usize = 100;

/// Bytes that are read at once.
const WINDOW: usize = 64 << 10;
/// The unit in which a write that a crash cut off is there or not. Disks promise less (512), but what lies above them
/// moves whole pages.
const TORN_UNIT: u64 = 4096;
/// Bytes of the head of the box that pads a fragment; every fragment of ours has one.
const PADDING_HEAD_BYTES: u64 = 8;
const TORN: &str = "a part of a fragment is missing";
/// Fragments at the end of a file that a crash may have torn: those in flight and the one before them.
const SUSPECTS: usize = limits::FRAGMENTS_IN_FLIGHT_MAX + 1;

impl Report {
    /// What makes the file whole again.
    pub fn repair(&self) -> Repair {
        match self.tail {
            Tail::None | Tail::Foreign => Repair::None,
            Tail::Zeros | Tail::Torn if self.fragments == 0 => Repair::Remove,
            Tail::Zeros | Tail::Torn => Repair::Truncate(self.valid),
        }
    }
    /// True when nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty() && self.tail == Tail::None
    }
}

/// Looks at a file.
///
/// ```
/// use shardcast_engine::record::scan::{Depth, Repair, Tail, scan};
///
/// // Space that was taken ahead of the writer, and nothing in it.
/// let Ok(report) = scan(&[0; 4096][..], Depth::Content);
/// assert_eq!((report.tail, report.repair()), (Tail::Zeros, Repair::Remove));
/// ```
///
/// # Errors
/// The file cannot be read. What is wrong inside it is in the report.
pub fn scan<F: ReadAt + ?Sized>(file: &F, depth: Depth) -> Result<Report, F::Error> {
    let size = file.size()?;
    let mut scan = Scan::new(file, depth, size);
    scan.run()?;
    Ok(scan.report)
}

struct Scan<'f, F: ?Sized> {
    file: &'f F,
    depth: Depth,
    size: u64,
    report: Report,
    movie: Option<Movie>,
    /// The last fragment's head, whose `mdat` is to follow.
    moof: Option<(u64, Fragment)>,
    /// Whole by their heads, oldest first; a crash may have torn their content.
    suspects: VecDeque<Suspect>,
    /// Where each track's samples have come to, in the order of the movie's tracks.
    ends: Vec<u64>,
    buffer: Vec<u8>,
}

struct Suspect {
    /// Where its `moof` begins.
    start: u64,
    /// The content of its `mdat`.
    media: (u64, u64),
    fragment: Fragment,
}

/// What was found where a box should begin.
enum Step {
    /// The next box begins here.
    Next(u64),
    /// The valid part has ended.
    Stop(Tail, &'static str),
}

impl<'f, F: ReadAt + ?Sized> Scan<'f, F> {
    fn new(file: &'f F, depth: Depth, size: u64) -> Self {
        Scan {
            file,
            depth,
            size,
            report: Report { size, ..Report::default() },
            movie: None,
            moof: None,
            suspects: VecDeque::new(),
            ends: Vec::new(),
            buffer: Vec::new(),
        }
    }

    fn run(&mut self) -> Result<(), F::Error> {
        let mut at = 0;
        let stop = loop {
            if at == self.size {
                break self.moof.is_some().then_some((Tail::Torn, "the file ends inside a fragment"));
            }
            match self.step(at)? {
                Step::Next(next) => at = next,
                Step::Stop(tail, what) => break Some((tail, what)),
            }
            // Boxes between fragments belong to the fragment before them once they are whole.
            if self.moof.is_none() {
                self.report.valid = at;
            }
        };
        if let Some((tail, what)) = stop {
            self.report.tail = tail;
            if tail != Tail::Zeros {
                self.find(self.report.valid, what);
            }
        }
        while let Some(suspect) = self.suspects.pop_front() {
            if self.is_torn(&suspect)? {
                self.tear(&suspect);
                break;
            }
            self.keep(&suspect)?;
        }
        if self.report.fragments == 0 && self.report.tail == Tail::None {
            // Nothing but an initialisation segment, or nothing at all, came of it.
            let ours = self.size == 0 || self.movie.is_some();
            self.report.tail = if ours { Tail::Torn } else { Tail::Foreign };
            self.find(0, if ours { "no fragment" } else { "no MP4 file" });
        }
        Ok(())
    }

    /// Reads the box at `at`.
    fn step(&mut self, at: u64) -> Result<Step, F::Error> {
        let mut head = [0; BOX_HEAD_BYTES_MAX];
        let len = self.read(at, &mut head)?;
        let (head, _) = head.split_at(len);
        if head.iter().all(|byte| *byte == 0) {
            return Ok(match self.all_zeros(at, self.size)? {
                true if self.moof.is_none() => Step::Stop(Tail::Zeros, "zeros"),
                _ => Step::Stop(Tail::Torn, "the head of a fragment is missing"),
            });
        }
        let Ok(head) = BoxHead::parse(head) else {
            return Ok(self.broken("a box that is cut off"));
        };
        let known = matches!(
            &head.kind.0,
            b"ftyp"
                | b"styp"
                | b"moov"
                | b"moof"
                | b"mdat"
                | b"free"
                | b"skip"
                | b"sidx"
                | b"mfra"
                | b"uuid"
                | b"emsg"
                | b"prft"
        );
        if !known {
            return Ok(self.broken("no box of a recording"));
        }
        let end = head.len.map_or(Some(self.size), |len| at.checked_add(len)).unwrap_or(u64::MAX);
        if end > self.size {
            return Ok(self.broken("the file ends inside a box"));
        }
        let content = at + head.head_len;
        match &head.kind.0 {
            b"moov" => match self.head_box(content, end)?.map(|moov| Movie::parse(&moov)) {
                Some(Ok(movie)) if movie.fragmented => self.begin(movie),
                Some(Ok(_)) => return Ok(Step::Stop(Tail::Foreign, "not a fragmented file")),
                Some(Err(error)) => return Ok(self.broken(error.why)),
                None => return Ok(self.broken("moov is too large")),
            },
            b"moof" => {
                if self.moof.is_some() {
                    return Ok(self.broken("a fragment without its media"));
                }
                let Some(moof) = self.head_box(content, end)? else {
                    return Ok(self.broken("moof is too large"));
                };
                let Some(movie) = &self.movie else {
                    return Ok(self.broken("a fragment before moov"));
                };
                match Fragment::parse(movie, &moof, at) {
                    Ok(fragment) => self.moof = Some((at, fragment)),
                    Err(Error { why, .. }) => return Ok(self.broken(why)),
                }
            }
            b"mdat" => {
                if let Some((start, fragment)) = self.moof.take() {
                    let inside = |sample: &Sample| {
                        sample.offset >= content && sample.offset.saturating_add(sample.size.into()) <= end
                    };
                    if !fragment.samples.iter().all(inside) {
                        self.moof = Some((start, fragment));
                        return Ok(self.broken("samples outside the media of their fragment"));
                    }
                    self.suspects.push_back(Suspect { start, media: (content, end), fragment });
                    if self.suspects.len() > SUSPECTS
                        && let Some(oldest) = self.suspects.pop_front()
                    {
                        if self.depth == Depth::Content && self.is_torn(&oldest)? {
                            self.suspects.clear();
                            self.report.valid = oldest.start;
                            return Ok(Step::Stop(Tail::Torn, TORN));
                        }
                        self.keep(&oldest)?;
                    }
                }
            }
            _ => {}
        }
        Ok(Step::Next(end))
    }

    /// What a fault means at this place: behind our own head it is what a crash left, else the file is not ours.
    fn broken(&self, what: &'static str) -> Step {
        Step::Stop(if self.movie.is_some() { Tail::Torn } else { Tail::Foreign }, what)
    }

    fn begin(&mut self, movie: Movie) {
        self.report.tracks = movie
            .tracks
            .iter()
            .map(|track| TrackReport {
                id: track.id,
                codec: track.codec_name(),
                frames: 0,
                key_frames: 0,
                duration: Duration::ZERO,
            })
            .collect();
        self.ends = vec![0; movie.tracks.len()];
        self.movie = Some(movie);
    }

    /// The valid part ends where this fragment begins.
    fn tear(&mut self, suspect: &Suspect) {
        self.report.valid = suspect.start;
        self.report.tail = Tail::Torn;
        // What was found behind it followed from that.
        self.report.findings.retain(|finding| finding.at < suspect.start);
        self.find(suspect.start, TORN);
    }

    /// Counts a fragment that is whole.
    fn keep(&mut self, suspect: &Suspect) -> Result<(), F::Error> {
        let Some(movie) = &self.movie else { return Ok(()) };
        self.report.fragments += 1;
        let mut findings = Vec::new();
        for sample in &suspect.fragment.samples {
            let Some(place) = movie.tracks.iter().position(|track| track.id == sample.track) else {
                continue;
            };
            let (track, end) = (&movie.tracks[place], &mut self.ends[place]);
            let report = &mut self.report.tracks[place];
            if report.frames == 0 && !sample.key {
                findings.push(Finding { at: sample.offset, what: "a track does not begin with a key frame" });
            }
            if sample.dts < *end {
                findings.push(Finding { at: sample.offset, what: "a frame is older than the one before it" });
            }
            *end = sample.dts;
            report.frames += 1;
            report.key_frames += u64::from(sample.key);
            let ticks = u128::from(sample.dts.saturating_add(sample.duration.into()));
            let nanos = ticks * 1_000_000_000 / u128::from(track.timescale);
            report.duration = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            self.report.duration = self.report.duration.max(report.duration);
        }
        for finding in findings {
            self.find(finding.at, finding.what);
        }
        if self.depth == Depth::Content {
            for sample in &suspect.fragment.samples {
                self.check_units(sample)?;
            }
        }
        Ok(())
    }

    /// The NAL units of a sample must fill it exactly.
    fn check_units(&mut self, sample: &Sample) -> Result<(), F::Error> {
        let Some(track) = self.movie.as_ref().and_then(|movie| movie.track(sample.track)) else {
            return Ok(());
        };
        let Some(length_size) =
            track.entry.codec.and_then(|codec| nal_length_size(codec, &track.entry.configuration))
        else {
            return Ok(());
        };
        let len = sample.size as usize;
        if len > limits::RTMP_MESSAGE_BYTES_MAX {
            return Ok(());
        }
        let mut data = std::mem::take(&mut self.buffer);
        data.resize(len, 0);
        self.read(sample.offset, &mut data)?;
        if LengthPrefixed::new(&data, length_size).any(|unit| unit.is_err()) {
            self.find(sample.offset, "a NAL unit that leads past the end of its frame");
        }
        self.buffer = data;
        Ok(())
    }

    /// True when what a block holds of the fragment is zeros: it never reached the disk. No codec makes that many zeros in
    /// a row (H.264, HEVC and VVC cannot at all), and our own fragments have no block without media or a head. What another
    /// fragment has in the same block says nothing: it may have come with another write.
    fn is_torn(&self, suspect: &Suspect) -> Result<bool, F::Error> {
        let (start, end) = suspect.media;
        let own = suspect.start..end.saturating_add(PADDING_HEAD_BYTES);
        let mut block = start / TORN_UNIT * TORN_UNIT;
        let mut window = vec![0; WINDOW];
        while block < end {
            let len = self.read(block, &mut window)?;
            let (read, _) = window.split_at(len);
            if len == 0 {
                break;
            }
            // The heads of the fragment and of its padding, before and behind the media, count too.
            let mut blocks = read.chunks(TORN_UNIT as usize).zip(0..);
            let missing = |(bytes, index): (&[u8], u64)| {
                let at = block + index * TORN_UNIT;
                let zeros = bytes.iter().zip(at..).all(|(byte, at)| *byte == 0 || !own.contains(&at));
                at < end && zeros
            };
            if blocks.any(missing) {
                return Ok(true);
            }
            block += len as u64;
        }
        Ok(false)
    }

    /// The content of a `moov` or `moof`, if it is small enough to be taken into memory.
    fn head_box(&self, start: u64, end: u64) -> Result<Option<Vec<u8>>, F::Error> {
        let Some(len) = usize::try_from(end - start).ok().filter(|len| *len <= limits::MP4_HEAD_BYTES_MAX)
        else {
            return Ok(None);
        };
        let mut content = vec![0; len];
        let read = self.read(start, &mut content)?;
        content.truncate(read);
        Ok(Some(content))
    }

    fn all_zeros(&self, start: u64, end: u64) -> Result<bool, F::Error> {
        let mut window = vec![0; WINDOW];
        let mut at = start;
        while at < end {
            let len = self.read(at, &mut window)?;
            if len == 0 {
                break;
            }
            if window.split_at(len).0.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += len as u64;
        }
        Ok(true)
    }

    /// Fills `buffer` as far as the file goes.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, F::Error> {
        let mut filled = 0;
        while filled < buffer.len() {
            let (_, rest) = buffer.split_at_mut(filled);
            match self.file.read_at(offset.saturating_add(filled as u64), rest)? {
                0 => break,
                len => filled += len.min(rest.len()),
            }
        }
        Ok(filled)
    }

    fn find(&mut self, at: u64, what: &'static str) {
        if self.report.findings.len() < FINDINGS_MAX {
            self.report.findings.push(Finding { at, what });
        }
    }
}

impl ReadAt for [u8] {
    type Error = std::convert::Infallible;

    fn size(&self) -> Result<u64, Self::Error> {
        Ok(self.len() as u64)
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
}
