//! What is being built: the file with its tracks and timeline, and the fragment that is open. A [`Fragment`] that was
//! cut knows its exact length and writes itself into the buffer that goes to the disk, which is the only copy.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};

use super::SegmentId;
use crate::{
    codec::{Codec, Parameters, Shape},
    fmp4::{
        BOX_HEAD_BYTES,
        mux::{self, Run, Sample, Track},
    },
    limits,
    media::{Frame, Payload, TrackId},
    time::{MediaTime, Now, Wall},
};

/// A piece of a file that is written at once: `moof` and `mdat` (the first also `ftyp` and `moov` before them), and a
/// `free` box up to the end of a block.
#[derive(Clone)]
pub struct Fragment {
    head: Bytes,
    samples: Vec<Bytes>,
    /// Bytes without padding.
    content: usize,
    /// Bytes of the `free` box: 0, or at least its head.
    padding: usize,
    serial: u64,
    from: Wall,
    end: Duration,
    key: bool,
}

/// A file while it is built.
pub(super) struct File {
    /// Once its first fragment was cut.
    segment: Option<SegmentId>,
    tracks: Vec<TrackState>,
    /// The time of the file's first sample, from which all its times are counted.
    origin: Option<MediaTime>,
    sequence: u32,
    started: Wall,
    /// Where the last fragment began that begins with a key frame.
    key_cut: Option<MediaTime>,
    // The open fragment.
    opened: Now,
    from: Wall,
    bytes: usize,
    frames: usize,
}

struct TrackState {
    id: TrackId,
    parameters: Arc<Parameters>,
    /// Ticks per second: those of its frames, so that each of their times is exact.
    timescale: u32,
    /// The frames of the open fragment.
    pending: Vec<Pending>,
    /// Time of its last sample in the file. Times never fall below it.
    last: Option<u64>,
    last_duration: Option<u32>,
    had_frames: bool,
}

struct Pending {
    dts: MediaTime,
    pts: MediaTime,
    key: bool,
    data: Bytes,
}

/// A picture's duration where none is known: the only one of its track so far.
const PICTURE_DURATION: Duration = Duration::from_millis(40);
// The reason stands at the limit.
const _: () = assert!(mux::head_len_max(limits::RECORDING_TRACKS_MAX, limits::FRAGMENT_FRAMES_MAX) <= 4096);
/// A longer step to the next frame is a jump or a pause, and not how long the frame before it lasts.
const SAMPLE_DURATION_MAX: Duration = Duration::from_secs(10);

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
        self.samples.len() as u64
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
        let pieces =
            std::iter::once(&self.head[..]).chain(self.samples.iter().map(|data| &data[..])).chain([free]);
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
    /// is not zeros, by which a scan knows that the media before it have arrived, whatever they end with.
    pub(super) fn pad(&mut self, block: usize) {
        assert!(block.is_power_of_two());
        self.padding = (self.content + BOX_HEAD_BYTES).next_multiple_of(block) - self.content;
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
        write!(f, "Fragment({} frames, {} + {} bytes)", self.samples.len(), self.content, self.padding)
    }
}

impl File {
    pub(super) fn new(now: Now, wall: Wall) -> Self {
        File {
            segment: None,
            tracks: Vec::new(),
            origin: None,
            sequence: 0,
            started: wall,
            key_cut: None,
            opened: now,
            from: wall,
            bytes: 0,
            frames: 0,
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
        self.frames == 0
    }
    /// Frames of the open fragment.
    pub(super) fn frames(&self) -> u64 {
        self.frames as u64
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
            || self.frames >= limits::FRAGMENT_FRAMES_MAX
        {
            return true;
        }
        let Some(track) = self.tracks.iter().find(|track| track.id == frame.track) else { return false };
        let [first, .., last] = &track.pending[..] else {
            return track.pending.first().is_some_and(|only| {
                let step = nanos_between(only.dts, frame.dts);
                self.wants_key_cut(frame) || 2 * step > nanos(limits::FRAGMENT_DURATION_MAX)
            });
        };
        // The fragment would last until the end of the frame, and a frame lasts about as long as the one before it.
        let (begin, step) = (nanos_between(first.dts, frame.dts), nanos_between(last.dts, frame.dts));
        self.wants_key_cut(frame)
            || begin >= nanos(limits::FRAGMENT_CUT_AFTER)
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
        let (data, key) = match &frame.payload {
            Payload::Video { data, key, .. } => (data, *key),
            Payload::Audio { data, .. } => (data, true),
            _ => return,
        };
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
                track.timescale = frame.dts.rate;
            }
        }
        if frame.is_key() && track.pending.is_empty() {
            self.key_cut = Some(frame.dts);
        }
        track.pending.push(Pending { dts: frame.dts, pts: frame.pts, key, data: data.clone() });
        self.bytes += data.len();
        self.frames += 1;
    }

    /// Decides which tracks the file has: those with frames in its first fragment, and those of which the parameters
    /// are known. Must come before the first [`cut`](Self::cut).
    pub(super) fn seal<'a>(
        &mut self,
        segment: SegmentId,
        parameters: impl Iterator<Item = (TrackId, &'a Arc<Parameters>)>,
    ) {
        let pending = self.tracks.iter().flat_map(|track| &track.pending);
        self.origin = pending.map(|frame| frame.dts).min_by_key(|dts| dts.as_nanos());
        let rate = self.origin.map_or(1000, |origin| origin.rate);
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
        let origin = self.origin?;
        if self.is_empty() {
            return None;
        }
        let mut ready = Vec::with_capacity(self.tracks.len());
        for (number, track) in (1..).zip(&mut self.tracks) {
            let next = next.filter(|next| next.track == track.id).map(|next| next.dts);
            if let Some((base, samples)) = track.samples(origin, next) {
                ready.push((number, base, !track.parameters.codec.is_video(), samples));
            }
        }
        let runs: Vec<_> = ready
            .iter()
            .map(|(track, base, all_key, samples)| Run {
                track: *track,
                base_decode_time: *base,
                all_key: *all_key,
                samples,
            })
            .collect();
        let mut head = BytesMut::with_capacity(mux::head_len(&runs));
        if self.sequence == 0 {
            let tracks: Vec<_> = (1..)
                .zip(&self.tracks)
                .map(|(id, track)| Track {
                    id,
                    timescale: track.timescale,
                    parameters: track.parameters.clone(),
                })
                .collect();
            mux::init(&tracks, self.started, &mut head);
        }
        self.sequence += 1;
        mux::head(self.sequence, &runs, &mut head);
        let key = runs.iter().find(|run| !run.all_key).is_none_or(|run| run.samples[0].key);
        let samples: Vec<_> =
            ready.into_iter().flat_map(|(.., samples)| samples).map(|sample| sample.data).collect();
        debug_assert_eq!(samples.len(), self.frames);
        let content = head.len() + samples.iter().map(Bytes::len).sum::<usize>();
        let end = self.tracks.iter().map(TrackState::end).max().unwrap_or_default();
        (self.bytes, self.frames) = (0, 0);
        let from = self.from;
        Some(Fragment { head: head.freeze(), samples, content, padding: 0, serial: 0, from, end, key })
    }
}

impl TrackState {
    fn new(id: TrackId, parameters: Arc<Parameters>, timescale: u32) -> Self {
        TrackState {
            id,
            parameters,
            timescale,
            pending: Vec::new(),
            last: None,
            last_duration: None,
            had_frames: false,
        }
    }

    /// The pending frames on the file's clock, and the time of the first of them.
    fn samples(&mut self, origin: MediaTime, next: Option<MediaTime>) -> Option<(u64, Vec<Sample>)> {
        let zero = origin.ticks_at(self.timescale);
        let timescale = self.timescale;
        let relative = |time: MediaTime| time.ticks_at(timescale).saturating_sub(zero);
        // Encoders step back by a tick now and then, and sound may be older than the picture that opened the file. The
        // times of a track in a file can only rise, so such a frame comes at the time of the one before it.
        let mut floor = self.last.unwrap_or(0);
        let times: Vec<u64> = self
            .pending
            .iter()
            .map(|frame| {
                floor = u64::try_from(relative(frame.dts)).unwrap_or(0).max(floor);
                floor
            })
            .collect();
        let (&first, &last) = (times.first()?, times.last()?);
        let next = next
            .map(relative)
            .and_then(|next| u64::try_from(next).ok())
            .and_then(|next| next.checked_sub(last));
        let longest = ticks(SAMPLE_DURATION_MAX, timescale);
        let mut samples = Vec::with_capacity(self.pending.len());
        for (index, frame) in self.pending.drain(..).enumerate() {
            let dts = times[index];
            let step = match times.get(index + 1) {
                Some(after) => Some(after - dts),
                None => next.filter(|step| *step <= longest),
            };
            let duration = match step.and_then(|step| u32::try_from(step).ok()) {
                Some(step) => {
                    if step > 0 {
                        self.last_duration = Some(step);
                    }
                    step
                }
                None => self.last_duration.unwrap_or_else(|| usual_duration(&self.parameters, timescale)),
            };
            let offset = relative(frame.pts).saturating_sub_unsigned(dts);
            // Where the decoding time had to be moved past the time of showing, the showing moves with it.
            let moved = relative(frame.dts).saturating_sub_unsigned(dts) != 0;
            let offset = if moved { offset.max(0) } else { offset };
            let composition_offset = offset.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
            samples.push(Sample { duration, composition_offset, key: frame.key, data: frame.data });
        }
        self.last = Some(last);
        let tail = samples.last().map_or(0, |sample| sample.duration);
        self.last_duration = self.last_duration.or(Some(tail));
        Some((first, samples))
    }

    /// How long the track plays so far.
    fn end(&self) -> Duration {
        let ticks = self.last.map_or(0, |last| last.saturating_add(self.last_duration.unwrap_or(0).into()));
        let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(self.timescale.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

fn usual_duration(parameters: &Parameters, timescale: u32) -> u32 {
    let duration = match parameters.shape {
        Shape::Video { .. } => PICTURE_DURATION,
        Shape::Audio { sample_rate, packet_samples, .. } if sample_rate > 0 && packet_samples > 0 => {
            Duration::from_secs(packet_samples.into()) / sample_rate
        }
        Shape::Audio { .. } if parameters.codec == Codec::Opus => Duration::from_millis(20),
        Shape::Audio { .. } => Duration::from_millis(23),
    };
    u32::try_from(ticks(duration, timescale)).unwrap_or(u32::MAX)
}

fn ticks(duration: Duration, timescale: u32) -> u64 {
    let ticks = (duration.as_nanos() * u128::from(timescale) + 500_000_000) / 1_000_000_000;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// From `earlier` to `later`; half the range at most, so that sums of two do not overflow.
fn nanos_between(earlier: MediaTime, later: MediaTime) -> i64 {
    later.as_nanos().saturating_sub(earlier.as_nanos()).clamp(i64::MIN / 4, i64::MAX / 4)
}
