//! Recording: frames to fragments of at most one second, fragments to aligned blocks of a file, of any [container](Container).
//!
//! A [`Recorder`] stands at the owner of its stream and is fed each frame. It has no file: it tells a driver to open
//! one, to append a fragment, to finish, and hears how that went. A fragment is the unit of durability: one write of
//! whole blocks, never rewritten, so a file is playable at every moment of its life and a crash loses at most the
//! fragments that were not acknowledged.
//!
//! A disk that fails or is slow never touches the stream. What could not be kept is counted and reported as a gap.

mod clock;
mod fragment;
pub mod scan;
mod sink;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use crate::{
    codec::Parameters,
    container::{Container, Muxer},
    fmp4, limits,
    media::{Frame, Payload, TrackId},
    time::{Now, Wall},
};
use fragment::File;
use sink::{Failure, Sink};

pub use clock::SegmentClock;
pub use fragment::Fragment;

/// Records one stream.
///
/// ```
/// # use std::sync::Arc;
/// # use shardcast_engine::{codec::{Codec, Parameters}, media::{Frame, Payload, TrackId}, time::{MediaTime, Now, Wall}};
/// # use shardcast_engine::record::{Output, Recorder, Settings};
/// # fn room(file: &mut Vec<u8>, more: usize) -> &mut [u8] {
/// #     let end = file.len();
/// #     file.resize(end + more, 0);
/// #     &mut file[end..]
/// # }
/// # let (now, mut file) = (Now(0), Vec::new());
/// # let mut recorder = Recorder::new("live/cam", &Settings::default());
/// # let data = bytes::Bytes::from_static(&[0xfc, 1, 2]);
/// # for payload in [Payload::Parameters(Arc::new(Parameters::of_opus(2))), Payload::Audio { codec: Codec::Opus, data }] {
/// #     let time = MediaTime::from_millis(0);
/// #     recorder.frame(&Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }, now, Wall(0));
/// # }
/// # recorder.finish(now);
/// while let Some(output) = recorder.poll() {
///     match output {
///         Output::Open { segment, .. } => recorder.opened(segment, Ok(1), now),
///         Output::Append { segment, fragment, .. } => {
///             fragment.write_into(room(&mut file, fragment.len()));
///             recorder.appended(segment, Ok(()), now);
///         }
///         Output::Finish { segment, .. } => recorder.finished(segment, Ok(())),
///         Output::Alarm { .. } | Output::Gap { .. } => {}
///     }
/// }
/// assert!(recorder.is_done());
/// # assert!(recorder.counters().frames == 1 && file[4..8] == *b"ftyp");
/// ```
pub struct Recorder {
    container: &'static Container,
    /// Says what the container has a form for. No file is written by it.
    judge: Box<dyn Muxer>,
    clock: SegmentClock,
    /// The tracks of the stream, by id.
    tracks: Vec<Known>,
    /// What is being built, and the segment it goes to once its first fragment was cut.
    file: Option<File>,
    sink: Sink,
    presence: Presence,
    trouble: Option<Trouble>,
    /// What comes is not taken until a frame that a file can begin or go on at.
    dropping: bool,
    /// A frame did not fit the file's tracks: the next entrance begins a new one.
    stale: bool,
    finished: bool,
    /// When the latest frame came.
    latest: Wall,
    counters: Counters,
}

/// How a stream is recorded.
///
/// ```
/// use std::time::Duration;
/// use shardcast_engine::{mpegts, record::Settings};
///
/// let settings = Settings { segment: Duration::from_secs(6), container: &mpegts::CONTAINER };
/// assert_ne!(settings, Settings::default());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A new file begins on the first key frame at or after this much media.
    pub segment: Duration,
    /// What kind of file.
    pub container: &'static Container,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { segment: Duration::from_secs(600), container: &fmp4::CONTAINER }
    }
}

/// A file of one recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u64);

/// What the driver is to do, or to tell.
#[derive(Debug)]
pub enum Output {
    /// Create a file, never overwriting one, and answer with [`Recorder::opened`]. Asked again with another path when
    /// the answer is [`Fault::Exists`].
    Open {
        /// What its outputs will be marked with.
        segment: SegmentId,
        /// Below the recordings' directory: its folder and `2026-11-22T07-45-00.123Z.mp4`, UTC of the first frame.
        path: String,
        /// When its first frame came.
        started: Wall,
    },
    /// Write a fragment at `offset`, which is always where the one before it ended, and answer with
    /// [`Recorder::appended`]. Answers of one segment come in the order of its fragments.
    Append {
        /// The file.
        segment: SegmentId,
        /// Where the fragment begins: a multiple of the file's block.
        offset: u64,
        /// What to write.
        fragment: Fragment,
    },
    /// Cut the file to `length`, make it durable, close it and answer with [`Recorder::finished`]. A `length` of 0 says
    /// that nothing was kept: remove the file.
    Finish {
        /// The file.
        segment: SegmentId,
        /// Bytes that are valid: up to the end of the last fragment that was acknowledged before any failed.
        length: u64,
        /// How long it plays.
        duration: Duration,
    },
    /// The disk failed: recording pauses and tries again by itself. Told once until it works again.
    Alarm {
        /// The file that was being written.
        segment: SegmentId,
        /// What the driver said.
        fault: Fault,
    },
    /// Frames were lost to the disk. Told when recording goes on, or at the end.
    Gap {
        /// When the first lost frame came.
        from: Wall,
        /// When the first frame came that was kept again, or the stream ended.
        to: Wall,
        /// How many were lost.
        frames: u64,
    },
}

/// How a driver's work failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The file exists already.
    Exists,
    /// No space, or the quota is reached.
    Full,
    /// Anything else; the driver has logged what.
    Failed,
}

/// What a recorder has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Files begun.
    pub segments: u64,
    /// Fragments that the disk has acknowledged.
    pub fragments: u64,
    /// Bytes that the disk has acknowledged.
    pub bytes: u64,
    /// Frames in acknowledged fragments.
    pub frames: u64,
    /// Frames left out because no file could begin at them, before the first key frame or between a change of
    /// parameters and the next key frame; and those of a codec that the container does not take.
    pub skipped: u64,
    /// Frames lost to a slow or failing disk.
    pub lost: u64,
    /// Gaps reported.
    pub gaps: u64,
    /// Files given up because the disk failed.
    pub failures: u64,
}

/// What is known of a track.
struct Known {
    id: TrackId,
    /// As the publisher said, which it may say again at any time.
    announced: Arc<Parameters>,
    /// With what its key frames add.
    parameters: Arc<Parameters>,
}

/// When pictures were last seen, to tell a stream of sound from one whose pictures are yet to come.
#[derive(Clone, Copy, Debug, Default)]
struct Presence {
    /// The first frame of any kind.
    first: Option<Now>,
    /// The last picture.
    video: Option<Now>,
}

/// The disk failed or was too slow, and frames were lost.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    from: Wall,
    lost: u64,
    /// The first fragment after the loss and when its first frame came. Once the disk has it the trouble is over.
    resumed: Option<(u64, Wall)>,
}

impl Recorder {
    /// A recorder whose files lie in `folder`, as [`Output::Open`] gives it: `APP/STREAM` for a stream.
    pub fn new(folder: &str, settings: &Settings) -> Self {
        Recorder {
            container: settings.container,
            judge: (settings.container.open)(),
            clock: SegmentClock::new(settings.segment),
            sink: Sink::new(folder, settings.container.extension),
            tracks: Vec::new(),
            file: None,
            presence: Presence::default(),
            trouble: None,
            dropping: false,
            stale: false,
            finished: false,
            latest: Wall::default(),
            counters: Counters::default(),
        }
    }

    /// Takes a frame of the stream, in the order of the stream. `wall` is when it came.
    pub fn frame(&mut self, frame: &Frame, now: Now, wall: Wall) {
        if self.finished {
            return;
        }
        self.latest = wall;
        match &frame.payload {
            Payload::Video { .. } | Payload::Audio { .. } => self.media(frame, now, wall),
            Payload::Parameters(parameters) => self.learn(frame.track, parameters),
            Payload::Discontinuity => self.cut(None, now),
            Payload::Metadata(_) | Payload::ColorInfo { .. } | Payload::Script(_) => {}
        }
    }

    /// The next thing to do, or `None` when there is nothing left.
    pub fn poll(&mut self) -> Option<Output> {
        self.sink.poll()
    }

    /// When to call [`timeout`](Self::timeout) if nothing happens before.
    pub fn deadline(&self) -> Option<Now> {
        self.file.as_ref().and_then(File::deadline)
    }

    /// The deadline may have come: what is open is written even if no frame comes any more.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use shardcast_engine::{codec::{Codec, Parameters}, media::{Frame, Payload, TrackId}, time::{MediaTime, Now, Wall}};
    /// use std::collections::BTreeMap;
    /// use shardcast_engine::record::{Counters, Output, Recorder, SegmentId, Settings};
    ///
    /// # let now = Now(0);
    /// let mut recorder = Recorder::new("live/cam", &Settings::default());
    /// # let data = bytes::Bytes::from_static(&[0xfc, 1, 2]);
    /// # for payload in [Payload::Parameters(Arc::new(Parameters::of_opus(2))), Payload::Audio { codec: Codec::Opus, data }] {
    /// #     let time = MediaTime::from_millis(0);
    /// #     recorder.frame(&Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }, now, Wall(0));
    /// # }
    /// // A frame has come, and then none for as long as a fragment may take.
    /// let deadline = recorder.deadline().expect("a fragment is open");
    /// recorder.timeout(deadline);
    /// let mut files: BTreeMap<SegmentId, Vec<u8>> = BTreeMap::new();
    /// while let Some(output) = recorder.poll() {
    ///     match output {
    ///         Output::Open { segment, .. } => {
    ///             files.insert(segment, Vec::new());
    ///             recorder.opened(segment, Ok(1), deadline);
    ///         }
    ///         Output::Append { segment, fragment, .. } => {
    ///             let file = files.get_mut(&segment).expect("it was opened");
    ///             file.resize(fragment.len(), 0);
    ///             fragment.write_into(file);
    ///             recorder.appended(segment, Ok(()), deadline);
    ///         }
    ///         other => panic!("the disk does not fail: {other:?}"),
    ///     }
    /// }
    /// let Counters { fragments, frames, lost, .. } = recorder.counters();
    /// assert_eq!((files.len(), fragments, frames, lost), (1, 1, 1, 0));
    /// // The file is still open.
    /// assert!(!recorder.is_idle());
    /// ```
    pub fn timeout(&mut self, now: Now) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.cut(None, now);
        }
    }

    /// What has come so far becomes a file, as if the stream ended here. What follows begins another, at its next entrance.
    /// Done twice, the second time changes nothing.
    pub fn flush(&mut self, now: Now) {
        if !self.finished {
            self.cut(None, now);
            self.close();
            self.settle();
        }
    }

    /// True when nothing is left to do or to wait for, until another frame comes.
    pub fn is_idle(&self) -> bool {
        self.file.is_none() && self.sink.is_empty()
    }

    /// The stream is over. When [`is_done`](Self::is_done) says so after that, nothing is left to do or to wait for.
    pub fn finish(&mut self, now: Now) {
        if self.finished {
            return;
        }
        self.finished = true;
        self.cut(None, now);
        self.close();
        self.settle();
    }

    /// True when the stream is over and every file is closed.
    pub fn is_done(&self) -> bool {
        self.finished && self.sink.is_empty()
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Answers [`Output::Open`]. `block` is the file's alignment: each fragment is padded to a multiple of it, and it
    /// is a power of two (1 for none). Only fMP4 can be padded: fragments of other containers are as long as they are.
    pub fn opened(&mut self, segment: SegmentId, result: Result<u32, Fault>, now: Now) {
        if let Some(failure) = self.sink.opened(segment, result) {
            self.fail(segment, failure, now);
        }
        self.settle();
    }

    /// Answers [`Output::Append`].
    pub fn appended(&mut self, segment: SegmentId, result: Result<(), Fault>, now: Now) {
        match self.sink.appended(segment, result) {
            Ok(Some(written)) => {
                self.counters.fragments += 1;
                self.counters.bytes += written.len;
                self.counters.frames += written.frames;
                if let Some((serial, _)) = self.trouble.and_then(|trouble| trouble.resumed)
                    && written.serial >= serial
                {
                    self.end_trouble();
                }
            }
            Ok(None) => {}
            Err(failure) => self.fail(segment, failure, now),
        }
        self.settle();
    }

    /// Answers [`Output::Finish`].
    pub fn finished(&mut self, segment: SegmentId, result: Result<(), Fault>) {
        if let Err(fault) = result {
            self.sink.alarm(segment, fault);
        }
        self.sink.finished(segment);
        self.settle();
    }

    fn learn(&mut self, id: TrackId, announced: &Arc<Parameters>) {
        if !self.judge.takes(announced) {
            return self.tracks.retain(|track| track.id != id);
        }
        let known = Known { id, announced: announced.clone(), parameters: announced.clone() };
        match self.tracks.binary_search_by_key(&id, |track| track.id) {
            Ok(place) if self.tracks[place].announced == *announced => return,
            Ok(place) => self.tracks[place] = known,
            Err(place) if self.tracks.len() < limits::RECORDING_TRACKS_MAX => {
                self.tracks.insert(place, known)
            }
            // Frames of a track whose parameters are not known are left out, and counted.
            Err(_) => return,
        }
        // Known now and not only at the track's next frame, a new file begins at the very next entrance, and nothing that
        // comes behind that has to be left out.
        self.stale |= self.file.as_ref().is_some_and(|file| !file.takes(id, announced));
    }

    /// The parameters of a frame's track, with what the frame itself adds to them.
    fn parameters_at(&mut self, frame: &Frame) -> Option<Arc<Parameters>> {
        let known = self.tracks.iter_mut().find(|track| track.id == frame.track)?;
        if let Payload::Video { key: true, data, .. } = &frame.payload
            && let Some(better) = known.parameters.with_key_frame(data)
        {
            known.parameters = Arc::new(better);
        }
        Some(known.parameters.clone())
    }

    /// True when pictures were announced.
    fn has_video(&self) -> bool {
        self.tracks.iter().any(|track| track.parameters.codec.is_video())
    }

    fn media(&mut self, frame: &Frame, now: Now, wall: Wall) {
        self.presence.first.get_or_insert(now);
        let entrance = self.is_entrance(frame, now);
        if frame.is_video() {
            self.presence.video = Some(now);
        }
        let Some(parameters) = self.parameters_at(frame) else {
            self.counters.skipped += 1;
            return;
        };

        if let Some(file) = &mut self.file {
            self.clock.advance(frame);
            self.stale |= !file.takes(frame.track, &parameters);
            if entrance && (self.stale || self.clock.is_due()) {
                self.cut(Some(frame), now);
                self.close();
            } else if file.must_cut(frame, now) {
                self.cut(Some(frame), now);
            }
        }
        if self.dropping {
            if !(entrance && self.sink.has_room(now)) {
                return self.lose(1, wall);
            }
            self.dropping = false;
        }
        match &mut self.file {
            // Sound that comes before the first picture is kept: the pictures may be on their way.
            None if entrance || (frame.is_audio() && self.counters.segments == 0) => {
                if !self.sink.has_room(now) {
                    self.dropping = true;
                    return self.lose(1, wall);
                }
                let mut file = File::new(self.container, now, wall);
                file.push(frame, &parameters, now, wall);
                self.clock.start(frame);
                self.stale = false;
                self.file = Some(file);
            }
            // A file without pictures so far can take them only from a key frame on.
            Some(file)
                if file.takes(frame.track, &parameters)
                    && (!frame.is_video() || frame.is_key() || file.has_frames_of(frame.track)) =>
            {
                file.push(frame, &parameters, now, wall);
            }
            _ => self.counters.skipped += 1,
        }
    }

    /// True for a frame that a file can begin at: a key frame, or any sound where there are no pictures to wait for.
    fn is_entrance(&self, frame: &Frame, now: Now) -> bool {
        if frame.is_video() {
            return frame.is_key();
        }
        let since = self.presence.video.or(self.presence.first).unwrap_or(now);
        !self.has_video() || now.since(since) > limits::RECORDING_VIDEO_WAIT
    }

    /// Cuts the open fragment and hands it to the sink. `next` is the frame that comes after it, if it is known.
    fn cut(&mut self, next: Option<&Frame>, now: Now) {
        let Some(file) = &mut self.file else { return };
        if file.is_empty() {
            return;
        }
        let begins = file.segment().is_none();
        if begins {
            let since = self.presence.video.or(self.presence.first).unwrap_or(now);
            let waiting = now.since(since) <= limits::RECORDING_VIDEO_WAIT && !self.finished;
            let announced = self.tracks.iter().any(|track| track.parameters.codec.is_video());
            if announced && !file.has_video() && waiting {
                // The sound of this second began no file, because pictures are announced and may still come.
                self.counters.skipped += file.frames();
                self.file = None;
                return;
            }
            if !self.sink.has_room(now) {
                return self.drop_file();
            }
            let segment = self.sink.open(file.started());
            file.seal(segment, self.tracks.iter().map(|track| (track.id, &track.parameters)));
            self.counters.segments += 1;
        }
        let segment = file.segment().expect("sealed above");
        let Some(fragment) = file.cut(next) else { return };
        // The first fragment holds the head of the file: whoever opened a file for it has room for it.
        if !begins && !self.sink.has_room(now) {
            self.dropping = true;
            return self.lose(fragment.frames(), fragment.from());
        }
        let from = fragment.from();
        let serial = self.sink.append(segment, fragment);
        if let Some(trouble) = &mut self.trouble {
            trouble.resumed.get_or_insert((serial, from));
        }
        self.settle();
    }

    /// The file gets no more frames.
    fn close(&mut self) {
        if let Some(segment) = self.file.take().and_then(|file| file.segment()) {
            self.sink.end(segment);
        }
    }

    /// The file is given up before anything of it reached the disk.
    fn drop_file(&mut self) {
        let Some(file) = self.file.take() else { return };
        self.dropping = true;
        self.lose(file.frames(), file.from());
    }

    fn lose(&mut self, frames: u64, from: Wall) {
        self.counters.lost += frames;
        let trouble = self.trouble.get_or_insert(Trouble { from, lost: 0, resumed: None });
        trouble.lost += frames;
        // What was kept in between did not end the trouble: it is still the same gap, with an island in it.
        trouble.resumed = None;
    }

    /// The disk failed at `segment`.
    fn fail(&mut self, segment: SegmentId, failure: Failure, now: Now) {
        self.counters.failures += 1;
        self.sink.back_off(now);
        self.sink.alarm(segment, failure.fault);
        if failure.lost > 0 {
            self.lose(failure.lost, failure.from);
        }
        if self.file.as_ref().is_some_and(|file| file.segment() == Some(segment)) {
            self.drop_file();
        }
        self.dropping = true;
    }

    /// Reports the gap, if there is one.
    fn end_trouble(&mut self) {
        let Some(trouble) = self.trouble.take() else { return };
        let to = trouble.resumed.map_or(self.latest, |(_, wall)| wall);
        self.counters.gaps += 1;
        self.sink.tell(Output::Gap { from: trouble.from, to, frames: trouble.lost });
    }

    /// Lets the sink say what follows from what it heard.
    fn settle(&mut self) {
        self.sink.settle();
        if self.is_done() {
            self.end_trouble();
        }
    }
}
