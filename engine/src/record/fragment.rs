//! What is being built: the file with its tracks, and the fragment that is open. A [`Fragment`] that was cut knows its exact
//! length and writes itself into the buffer that goes to the disk, which is the only copy.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::SegmentId;
use crate::{
    codec::Parameters,
    container::{Container, Muxer, Pieces, Track},
    fmp4::{self, BOX_HEAD_BYTES, mux},
    limits,
    media::{Frame, TrackId},
    time::{MediaTime, Now, Wall},
};

/// A piece of a file that is written at once. In fMP4 that is `moof` and `mdat` (the first also `ftyp` and `moov` before
/// them), and a `free` box up to the end of a block.
///
/// ```
/// # use std::sync::Arc;
/// # use shardcast_engine::{codec::{Codec, Parameters}, media::{Frame, Payload, TrackId}, time::{MediaTime, Now, Wall}};
/// use shardcast_engine::record::Fragment;
/// # use shardcast_engine::record::{Output, Recorder, Settings};
///
/// /// What a driver does whose buffers are smaller than a fragment.
/// fn append(fragment: &Fragment, file: &mut Vec<u8>) {
///     let (mut buffer, mut written) = ([0; 512], 0);
///     while written < fragment.len() {
///         let count = fragment.write_window(written, &mut buffer);
///         file.extend_from_slice(&buffer[..count]);
///         written += count;
///     }
/// }
/// # let now = Now(0);
/// # let mut recorder = Recorder::new("live/cam", &Settings::default());
/// # let data = bytes::Bytes::from_static(&[0xfc, 1, 2]);
/// # for payload in [Payload::Parameters(Arc::new(Parameters::of_opus(2))), Payload::Audio { codec: Codec::Opus, data }] {
/// #     let time = MediaTime::from_millis(0);
/// #     recorder.frame(&Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }, now, Wall(0));
/// # }
/// # recorder.finish(now);
/// # let Some(Output::Open { segment, .. }) = recorder.poll() else { panic!("a file is opened first") };
/// # recorder.opened(segment, Ok(4096), now);
/// # let Some(Output::Append { fragment, .. }) = recorder.poll() else { panic!("then it is written") };
/// let mut file = Vec::new();
/// append(&fragment, &mut file);
/// // Whole blocks, and the first fragment of a file has the file's head.
/// assert!(file.len() % 4096 == 0 && file[4..8] == *b"ftyp");
/// assert!(fragment.is_key() && fragment.frames() == 1);
/// ```
#[derive(Clone)]
pub struct Fragment {
    pieces: Vec<Bytes>,
    /// Bytes without padding.
    content: usize,
    /// Bytes of the `free` box: 0, or at least its head.
    padding: usize,
    /// Its container can be padded.
    pads: bool,
    frames: u64,
    serial: u64,
    from: Wall,
    end: Duration,
    key: bool,
}

/// A file while it is built.
pub(super) struct File {
    /// Once its first fragment was cut.
    segment: Option<SegmentId>,
    muxer: Box<dyn Muxer>,
    pads: bool,
    tracks: Vec<TrackState>,
    /// The muxer knows the tracks.
    begun: bool,
    started: Wall,
    /// Where the last fragment began that begins with a key frame.
    key_cut: Option<MediaTime>,
    // The open fragment.
    opened: Now,
    from: Wall,
    bytes: usize,
    frames: Vec<Frame>,
}

struct TrackState {
    id: TrackId,
    parameters: Arc<Parameters>,
    /// Ticks per second: those of its frames, so that each of their times is exact.
    rate: u32,
    /// Its frames in the open fragment.
    open: Option<Open>,
    had_frames: bool,
    played: Played,
}

/// Frames of one track in the open fragment.
#[derive(Clone, Copy)]
struct Open {
    first: MediaTime,
    last: MediaTime,
    count: usize,
}

/// How long a track has played, step by step, so that a clock that jumps does not count as hours.
#[derive(Clone, Copy, Default)]
struct Played {
    last: Option<MediaTime>,
    nanos: i64,
    step: i64,
}

// The reason stands at the limit.
const _: () = assert!(mux::head_len_max(limits::RECORDING_TRACKS_MAX, limits::FRAGMENT_FRAMES_MAX) <= 4096);

// A fragment is never empty: it has at least one sample.
#[allow(clippy::len_without_is_empty)]
impl Fragment {
    /// Bytes to write: a multiple of the block of its file.
    pub fn len(&self) -> usize {
        self.content + self.padding
    }
    /// True when it begins with a key frame, or has no pictures.
    pub fn is_key(&self) -> bool {
        self.key
    }
    /// When its first frame came.
    pub fn from(&self) -> Wall {
        self.from
    }
    /// How long the file plays up to its end.
    pub fn end(&self) -> Duration {
        self.end
    }
    /// Its frames.
    pub fn frames(&self) -> u64 {
        self.frames
    }
    /// Writes the whole into `out`, which must have its length.
    pub fn write_into(&self, out: &mut [u8]) {
        assert_eq!(out.len(), self.len(), "a fragment is written whole");
        self.write_window(0, out);
    }
    /// Writes the bytes from `start` on into `out`, for a driver whose buffers are smaller than a fragment. Returns how
    /// many there were; what follows them in `out` is left alone.
    pub fn write_window(&self, start: usize, out: &mut [u8]) -> usize {
        let free = mux::free_head(self.padding.max(BOX_HEAD_BYTES));
        let free = if self.padding == 0 { &[][..] } else { &free[..] };
        let pieces = self.pieces.iter().map(|data| &data[..]).chain([free]);
        let (mut at, mut written) = (0, 0);
        for piece in pieces {
            let (_, wanted) = piece.split_at(start.saturating_sub(at).min(piece.len()));
            at += piece.len();
            let (wanted, _) = wanted.split_at(wanted.len().min(out.len() - written));
            out[written..written + wanted.len()].copy_from_slice(wanted);
            written += wanted.len();
        }
        let len = self.len().saturating_sub(start).min(out.len());
        out[written..len].fill(0);
        len
    }

    /// Pads to a multiple of `block`. There is always room for the head of a box: it is the last thing of a fragment that
    /// is not zeros, by which a scan knows that the media before it have arrived, whatever they end with. A container that
    /// has no such box is written as it is.
    pub(super) fn pad(&mut self, block: usize) {
        assert!(block.is_power_of_two());
        if self.pads {
            self.padding = (self.content + BOX_HEAD_BYTES).next_multiple_of(block) - self.content;
        }
    }
    /// Bytes that it keeps alive.
    pub(super) fn held_bytes(&self) -> usize {
        self.content
    }
    /// Its place among the fragments of its recorder.
    pub(super) fn serial(&self) -> u64 {
        self.serial
    }
    pub(super) fn set_serial(&mut self, serial: u64) {
        self.serial = serial;
    }
}

impl std::fmt::Debug for Fragment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fragment({} frames, {} + {} bytes)", self.frames, self.content, self.padding)
    }
}

impl File {
    pub(super) fn new(container: &Container, now: Now, wall: Wall) -> Self {
        File {
            segment: None,
            muxer: (container.open)(),
            pads: *container == fmp4::CONTAINER,
            tracks: Vec::new(),
            begun: false,
            started: wall,
            key_cut: None,
            opened: now,
            from: wall,
            bytes: 0,
            frames: Vec::new(),
        }
    }
    /// The segment it goes to, once it was sealed.
    pub(super) fn segment(&self) -> Option<SegmentId> {
        self.segment
    }
    /// When its first frame came.
    pub(super) fn started(&self) -> Wall {
        self.started
    }
    /// When the open fragment's first frame came.
    pub(super) fn from(&self) -> Wall {
        self.from
    }
    /// True when the open fragment has no frame.
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
    /// Frames of the open fragment.
    pub(super) fn frames(&self) -> u64 {
        self.frames.len() as u64
    }
    /// When the open fragment is to be cut even if no frame comes.
    pub(super) fn deadline(&self) -> Option<Now> {
        (!self.is_empty()).then(|| self.opened.after(limits::FRAGMENT_CUT_AFTER))
    }
    pub(super) fn has_frames_of(&self, track: TrackId) -> bool {
        self.tracks.iter().any(|known| known.id == track && known.had_frames)
    }
    pub(super) fn has_video(&self) -> bool {
        self.tracks.iter().any(|track| track.had_frames && track.parameters.codec.is_video())
    }
    /// True when a frame of `track` with these parameters can stand in this file.
    pub(super) fn takes(&self, track: TrackId, parameters: &Arc<Parameters>) -> bool {
        match self.tracks.iter().find(|known| known.id == track) {
            Some(known) if Arc::ptr_eq(&known.parameters, parameters) || known.parameters == *parameters => {
                true
            }
            Some(known) => self.segment.is_none() && !known.had_frames,
            None => self.segment.is_none() && self.tracks.len() < limits::RECORDING_TRACKS_MAX,
        }
    }

    /// True when the open fragment must be cut before `frame`.
    pub(super) fn must_cut(&self, frame: &Frame, now: Now) -> bool {
        if self.is_empty() {
            return false;
        }
        if self.deadline().is_some_and(|deadline| deadline <= now)
            || self.bytes + frame.payload_bytes() > limits::FRAGMENT_BYTES_CUT
            || self.frames.len() >= limits::FRAGMENT_FRAMES_MAX
        {
            return true;
        }
        let open = self.tracks.iter().find(|track| track.id == frame.track).and_then(|track| track.open);
        let Some(open) = open else { return false };
        // The fragment would last until the end of the frame, and a frame lasts about as long as the one before it.
        let (begin, step) = (nanos_between(open.first, frame.dts), nanos_between(open.last, frame.dts));
        self.wants_key_cut(frame)
            || (open.count > 1 && begin >= nanos(limits::FRAGMENT_CUT_AFTER))
            || begin + step > nanos(limits::FRAGMENT_DURATION_MAX)
    }

    /// Fragments begin at key frames, so that a player can begin at most of them.
    fn wants_key_cut(&self, frame: &Frame) -> bool {
        let spacing = nanos(limits::FRAGMENT_KEY_SPACING_MIN);
        frame.is_key()
            && self.key_cut.is_none_or(|last| !(0..spacing).contains(&nanos_between(last, frame.dts)))
    }

    /// Adds a frame that the file [`takes`](Self::takes).
    pub(super) fn push(&mut self, frame: &Frame, parameters: &Arc<Parameters>, now: Now, wall: Wall) {
        debug_assert!(self.takes(frame.track, parameters));
        if !frame.is_media() {
            return;
        }
        if self.is_empty() {
            self.opened = now;
            self.from = wall;
        }
        let track = match self.tracks.iter().position(|known| known.id == frame.track) {
            Some(known) => &mut self.tracks[known],
            None => {
                let place = self.tracks.partition_point(|known| known.id < frame.track);
                self.tracks.insert(place, TrackState::new(frame.track, parameters.clone(), frame.dts.rate));
                &mut self.tracks[place]
            }
        };
        if !track.had_frames {
            track.had_frames = true;
            track.parameters = parameters.clone();
            if self.segment.is_none() {
                track.rate = frame.dts.rate;
            }
        }
        if frame.is_key() && track.open.is_none() {
            self.key_cut = Some(frame.dts);
        }
        let open = track.open.get_or_insert(Open { first: frame.dts, last: frame.dts, count: 0 });
        (open.last, open.count) = (frame.dts, open.count + 1);
        self.bytes += frame.payload_bytes();
        self.frames.push(frame.clone());
    }

    /// Decides which tracks the file has: those with frames in its first fragment, and those of which the parameters
    /// are known. Must come before the first [`cut`](Self::cut).
    pub(super) fn seal<'a>(
        &mut self,
        segment: SegmentId,
        parameters: impl Iterator<Item = (TrackId, &'a Arc<Parameters>)>,
    ) {
        let first = self.frames.iter().min_by_key(|frame| frame.dts.as_nanos());
        let rate = first.map_or(1000, |frame| frame.dts.rate);
        for (id, parameters) in parameters {
            if !self.tracks.iter().any(|track| track.id == id)
                && self.tracks.len() < limits::RECORDING_TRACKS_MAX
            {
                self.tracks.push(TrackState::new(id, parameters.clone(), rate));
            }
        }
        self.tracks.sort_by_key(|track| track.id);
        self.segment = Some(segment);
    }

    /// Makes a fragment of the open frames. `next` is the frame that follows, if it is known.
    pub(super) fn cut(&mut self, next: Option<&Frame>) -> Option<Fragment> {
        assert!(self.segment.is_some(), "a file is sealed before it is cut");
        if self.is_empty() {
            return None;
        }
        let mut pieces = Pieces::new();
        if !std::mem::replace(&mut self.begun, true) {
            let track = |track: &TrackState| Track {
                id: track.id,
                parameters: track.parameters.clone(),
                rate: track.rate,
            };
            let tracks: Vec<_> = self.tracks.iter().map(track).collect();
            self.muxer.begin(&tracks, self.started, &mut pieces);
        }
        self.muxer.fragment(&self.frames, next, &mut pieces);
        let key = self.begins_with_key();
        let end = self.muxer.played().unwrap_or_else(|| self.played());
        let frames = self.frames.len() as u64;
        self.frames.clear();
        self.bytes = 0;
        for track in &mut self.tracks {
            track.open = None;
        }
        let (content, pads, from) = (pieces.len(), self.pads, self.from);
        let pieces = pieces.finish();
        Some(Fragment { pieces, content, padding: 0, pads, frames, serial: 0, from, end, key })
    }

    /// How long the file plays up to the end of the open fragment, added up from its frames.
    fn played(&mut self) -> Duration {
        for frame in &self.frames {
            if let Some(track) = self.tracks.iter_mut().find(|track| track.id == frame.track) {
                track.played.advance(frame.dts);
            }
        }
        self.tracks.iter().map(TrackState::played).max().unwrap_or_default()
    }

    /// Whether the first picture of the open fragment is a key frame; true where there are none.
    fn begins_with_key(&self) -> bool {
        let pictures =
            self.tracks.iter().find(|track| track.open.is_some() && track.parameters.codec.is_video());
        pictures.is_none_or(|track| {
            self.frames.iter().find(|frame| frame.track == track.id).is_some_and(Frame::is_key)
        })
    }
}

impl TrackState {
    fn new(id: TrackId, parameters: Arc<Parameters>, rate: u32) -> Self {
        TrackState { id, parameters, rate, open: None, had_frames: false, played: Played::default() }
    }

    /// How long the track plays so far: its last frame as long as the one before it.
    fn played(&self) -> Duration {
        if !self.had_frames {
            return Duration::ZERO;
        }
        let last = if self.played.step > 0 {
            self.played.step
        } else {
            nanos(fmp4::file::usual_duration(&self.parameters))
        };
        Duration::from_nanos(u64::try_from(self.played.nanos.saturating_add(last)).unwrap_or(0))
    }
}

impl Played {
    fn advance(&mut self, to: MediaTime) {
        let step = self.last.map_or(0, |last| nanos_between(last, to));
        let step = step.clamp(0, nanos(limits::CLOCK_STEP_FORWARD_MAX));
        self.last = Some(to);
        self.nanos = self.nanos.saturating_add(step);
        if step > 0 {
            self.step = step;
        }
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// From `earlier` to `later`; half the range at most, so that sums of two do not overflow.
fn nanos_between(earlier: MediaTime, later: MediaTime) -> i64 {
    later.as_nanos().saturating_sub(earlier.as_nanos()).clamp(i64::MIN / 4, i64::MAX / 4)
}
