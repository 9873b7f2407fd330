//! Cuts a stream into segments of MPEG-TS, on the core that owns it: one rendition with all tracks, for players that know
//! nothing newer.
//!
//! Segments begin where those of fragments do. In one is what came from its first frame on until the first of the next: sound
//! that is a little ahead of the pictures, or behind them, stands where it came, for a player reads segments that follow each
//! other as one stream. How long a segment is, the pictures say.

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::BytesMut;

use super::{
    Cut, Numbering, Origin, Part, Rendition, Settings, Terms,
    clock::{self, Boundary, Clock},
    lane::Anchor,
    packager::{LEARN_MAX, LEARN_SOUND, longest_group, nanos, since, target},
};
use crate::{
    codec::Parameters,
    container::Track,
    fmp4::file::usual_duration,
    limits,
    media::{Frame, Payload, TrackId},
    mpegts::Segmenter,
    session::Opening,
    time::{MediaTime, Wall},
};

/// Ticks per second of what is said of segments: those of the stream that is in them. (ISO/IEC 13818-1, 2.4.2.2)
const RATE: u32 = 90_000;
/// Frames and bytes that wait for their segment's end, at most: ten seconds of a hundred Mbit/s. What has more breaks there.
const OPEN_FRAMES_MAX: usize = 1 << 14;
const OPEN_BYTES_MAX: usize = 128 << 20;
/// A longer step to the next frame is a pause, and not how long the frame lasts.
const STEP_MAX: Duration = Duration::from_secs(1);

/// Takes a stream's frames, gives its [`Cut`]s: whole segments, each as one part.
///
/// What MPEG-TS cannot say is left out ([`mpegts`](crate::mpegts) lists it); of each kind, the first track is taken. A stream
/// of which nothing can be said has [ended](Cut::Ended), here, as soon as that is known.
#[derive(Debug)]
pub struct Transport {
    settings: Settings,
    id: u64,
    /// The longest group of the stream lately, if one has ended.
    group: Option<Duration>,
    tracks: Tracks,
    /// What the next segment is called.
    next: Numbering,
    state: State,
    cuts: VecDeque<Cut>,
}

#[derive(Debug)]
enum State {
    /// Frames wait until it is known how long groups are.
    Learning {
        /// From the first that a segment can begin with.
        frames: Vec<(Frame, Wall)>,
        /// The first picture or sound of all.
        first: Option<MediaTime>,
    },
    Running(Box<Running>),
    Ended,
}

struct Running {
    segmenter: Segmenter,
    clock: Clock,
    /// What is added to the clock's numbers.
    numbering: Numbering,
    /// Where the times of the period stand on the wall.
    anchor: Anchor,
    /// What comes next does not continue what was before.
    breaks: bool,
    /// The publisher's clock begins anew there, too.
    mark: Option<Frame>,
    open: Open,
}

/// The open segment.
#[derive(Debug)]
struct Open {
    begins: Boundary,
    discontinuity: bool,
    frames: Vec<Frame>,
    bytes: usize,
    /// Whether a decoder can begin with its first picture, or its first packet of sound where there are no pictures.
    independent: Option<bool>,
    /// When the last of its frames ends, nanoseconds.
    end: i64,
}

/// The first track of each kind.
#[derive(Debug, Default)]
struct Tracks {
    pictures: Option<Known>,
    sound: Option<Known>,
}

/// What is known of a track.
#[derive(Debug)]
struct Known {
    track: TrackId,
    parameters: Arc<Parameters>,
    /// MPEG-TS has a mapping for it.
    carried: bool,
    /// The muxer has heard of these parameters.
    said: bool,
    /// The period of its last frame.
    period: Option<u64>,
    /// When its last frame was, nanoseconds, and how long those before it lasted.
    last: Option<i64>,
    usual: i64,
}

impl Transport {
    /// For a stream whose groups were this long lately, if that is known. `id` is given to no other packaging of the stream,
    /// and `numbering` is what the last one left of this kind. `opening` is what held before the first frame that will come.
    pub fn new(
        settings: Settings,
        id: u64,
        group: Option<Duration>,
        opening: &Opening,
        numbering: Numbering,
    ) -> Self {
        let mut tracks = Tracks::default();
        for frame in &opening.parameters {
            if let Payload::Parameters(parameters) = &frame.payload {
                tracks.note(frame.track, parameters);
            }
        }
        let state = State::Learning { frames: Vec::new(), first: None };
        Transport { settings, id, group, tracks, next: numbering, state, cuts: VecDeque::new() }
    }

    /// Whether anything of a stream with this opening can be said. One that has not said what it is made of may have it yet.
    pub fn takes(opening: &Opening) -> bool {
        let mut parameters = opening.parameters.iter().filter_map(|frame| match &frame.payload {
            Payload::Parameters(parameters) => Some(parameters),
            _ => None,
        });
        opening.parameters.is_empty() || parameters.any(|parameters| Segmenter::takes(parameters))
    }

    /// How many pictures are in a part that one of these has made.
    pub fn pictures(part: &Part) -> usize {
        Segmenter::pictures(&part.bytes)
    }

    /// What it says next.
    pub fn poll(&mut self) -> Option<Cut> {
        self.cuts.pop_front()
    }

    /// Where the next packaging of this kind goes on.
    pub fn numbering(&self) -> Numbering {
        self.next
    }

    /// The next frame of the stream, which came at `wall`.
    pub fn frame(&mut self, frame: &Frame, wall: Wall) {
        match &self.state {
            State::Ended => {}
            State::Learning { .. } => self.learn(frame, wall),
            State::Running(_) => self.package(frame, wall),
        }
    }

    /// The stream is over.
    pub fn finish(&mut self) {
        if let State::Learning { .. } = self.state {
            self.begin();
        }
        if let State::Running(mut running) = std::mem::replace(&mut self.state, State::Ended)
            && !running.open.frames.is_empty()
        {
            let end = running.end_of_open();
            self.next = running.cut(end, &mut self.cuts);
        }
        self.cuts.push_back(Cut::Ended);
    }

    fn learn(&mut self, frame: &Frame, wall: Wall) {
        let State::Learning { frames, first } = &mut self.state else { return };
        if let (Payload::Parameters(parameters), true) = (&frame.payload, frames.is_empty()) {
            self.tracks.note(frame.track, parameters);
            return;
        }
        let waited = frame.is_media() && since(*first.get_or_insert(frame.dts), frame.dts) >= LEARN_MAX;
        if !frames.is_empty() {
            frames.push((frame.clone(), wall));
        } else if self.tracks.carried(frame).is_some() {
            // What was before the first picture, where pictures were announced, belongs to no segment, unless none comes.
            if frame.is_key() || (frame.is_audio() && (waited || !self.tracks.has_pictures())) {
                frames.push((frame.clone(), wall));
            }
        } else if waited && self.tracks.is_empty() {
            return self.finish();
        }
        let media = || frames.iter().map(|(frame, _)| frame).filter(|frame| frame.is_media());
        let (Some(first), Some(last)) = (media().next(), media().next_back()) else { return };
        let seen = since(first.dts, last.dts);
        let known = if self.tracks.has_pictures() {
            self.group.is_some() || media().filter(|frame| frame.is_key()).count() > 1
        } else {
            seen >= LEARN_SOUND
        };
        if known || seen >= LEARN_MAX || frames.len() >= limits::HLS_LEARN_FRAMES_MAX {
            self.begin();
        }
    }

    /// Settles the terms and cuts what has come so far.
    fn begin(&mut self) {
        let State::Learning { frames, .. } = std::mem::replace(&mut self.state, State::Ended) else { return };
        // The first that was kept is the first of a segment.
        let Some((first, wall)) = frames.first() else { return };
        // A track that was announced a moment later is there from the beginning.
        for (frame, _) in &frames {
            if let Payload::Parameters(parameters) = &frame.payload
                && self.tracks.known(frame.track).is_none()
            {
                self.tracks.note(frame.track, parameters);
            }
        }
        let at = first.dts.as_nanos();
        let group = self.group.or_else(|| longest_group(&frames));
        let target = target(self.settings.segment, group, self.tracks.has_pictures());
        let clock = Clock::new(
            nanos(self.settings.segment.min(target)),
            nanos(target),
            nanos(group.unwrap_or(target)),
            at,
        );
        let began = self.next.began(*wall);
        self.cuts.push_back(Cut::Terms(Arc::new(Terms {
            id: self.id,
            target: u32::try_from(target.as_secs()).unwrap_or(u32::MAX),
            part: target,
            window: self.settings.window,
            began,
            renditions: vec![Rendition::Transport],
        })));
        self.cuts.push_back(self.tracks.cut());
        let tracks = self.tracks.say(first.dts.rate);
        let open = Open::new(clock.open(), self.next.period > 0);
        self.state = State::Running(Box::new(Running {
            // Times are those of the stream, whenever it was packaged, and those of whoever plays it by MPEG-TS alone.
            segmenter: Segmenter::new(&tracks, MediaTime::from_millis(0)),
            clock,
            numbering: Numbering { began: Some(began), ..self.next },
            anchor: Anchor { at, wall: *wall },
            breaks: false,
            mark: None,
            open,
        }));
        for (frame, wall) in &frames {
            self.package(frame, *wall);
        }
    }

    fn package(&mut self, frame: &Frame, wall: Wall) {
        let State::Running(running) = &mut self.state else { return };
        match &frame.payload {
            Payload::Discontinuity => {
                running.breaks = true;
                running.mark = Some(frame.clone());
            }
            Payload::Parameters(parameters) => {
                // Where one track has broken already and the other has sent nothing since, it is one break for both.
                let open = running.clock.open().period;
                let follows = self.tracks.last_period(frame.track).is_some_and(|period| period < open);
                match self.tracks.note(frame.track, parameters) {
                    true if self.tracks.is_empty() => self.finish(),
                    true if follows => self.cuts.push_back(self.tracks.cut()),
                    true => running.breaks = true,
                    false => {}
                }
            }
            Payload::Video { .. } | Payload::Audio { .. } => self.media(frame, wall),
            Payload::Metadata(_) | Payload::ColorInfo { .. } | Payload::Script(_) => {}
        }
    }

    fn media(&mut self, frame: &Frame, wall: Wall) {
        let State::Running(running) = &mut self.state else { return };
        let leads = frame.is_video() || !self.tracks.has_pictures();
        let Some(known) = self.tracks.carried(frame) else { return };
        let at = frame.dts.as_nanos();
        let lasts = known.lasts(at);
        let key = frame.is_key() || frame.is_audio();
        if std::mem::take(&mut running.breaks) || running.open.is_full() || running.leaps(at) {
            let end = running.end_of_open();
            self.next = running.cut(end, &mut self.cuts);
            running.open = Open::new(running.clock.breaks(at), true);
            running.anchor = Anchor { at, wall };
            self.cuts.push_back(self.tracks.cut());
        } else {
            while let Some(boundary) = running.overdue(at, leads) {
                self.next = running.cut(boundary.at, &mut self.cuts);
                running.open = Open::new(boundary, false);
            }
            if leads && let Some(boundary) = running.clock.begins(at, key) {
                self.next = running.cut(boundary.at, &mut self.cuts);
                running.open = Open::new(boundary, false);
            }
        }
        running.open.frames.extend(running.mark.take());
        running.open.frames.extend(self.tracks.unsaid(frame));
        if let Some(known) = self.tracks.known(frame.track) {
            (known.last, known.usual) = (Some(at), lasts);
            known.period = Some(running.open.begins.period);
        }
        running.open.push(frame, leads.then_some(key), at.saturating_add(lasts));
    }
}

impl Running {
    /// Whether there is a pause before `at` that no stream has inside: its timeline would have been joined anew.
    fn leaps(&self, at: i64) -> bool {
        at.saturating_sub(self.clock.latest()) > nanos(limits::CLOCK_STEP_FORWARD_MAX)
    }

    /// Whether a segment begins before a frame at `at`, which the open one has no room for: there is a pause, or the picture
    /// that ends it has not come. Sound waits for that a moment. To be asked until it says no.
    fn overdue(&mut self, at: i64, leads: bool) -> Option<Boundary> {
        if leads {
            return self.clock.overdue(at, self.open.end);
        }
        let waited = at > self.clock.latest().saturating_add(clock::PATIENCE);
        waited.then(|| self.clock.forced())
    }

    /// When the open segment ends if nothing continues it.
    fn end_of_open(&self) -> i64 {
        self.open.end.min(self.clock.latest())
    }

    /// Makes a segment of what is open, which ends at `end`. Says what the next is called if nothing continues it.
    fn cut(&mut self, end: i64, out: &mut VecDeque<Cut>) -> Numbering {
        let Open { begins, discontinuity, ref frames, independent, .. } = self.open;
        let mut bytes = BytesMut::new();
        self.segmenter.write(frames, &mut bytes);
        let start = ticks(begins.at);
        let (segment, period) =
            (self.numbering.segment + begins.number, self.numbering.period + begins.period);
        out.push_back(Cut::Part(Arc::new(Part {
            rendition: Rendition::Transport,
            segment,
            index: 0,
            init: 0,
            discontinuity,
            period,
            origin: Origin {
                time: u64::try_from(ticks(self.anchor.at)).unwrap_or(0),
                wall: self.anchor.wall,
            },
            start: u64::try_from(start).unwrap_or(0),
            duration: u64::try_from(ticks(end).saturating_sub(start)).unwrap_or(0).max(1),
            rate: RATE,
            independent: independent.unwrap_or(false),
            last: true,
            gap: bytes.is_empty(),
            wall: self.anchor.wall(begins.at),
            bytes: bytes.freeze(),
        })));
        Numbering { segment: segment + 1, period: period + 1, ..self.numbering }
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Running({:?})", self.open.begins)
    }
}

impl Open {
    fn new(begins: Boundary, discontinuity: bool) -> Self {
        Open { begins, discontinuity, frames: Vec::new(), bytes: 0, independent: None, end: begins.at }
    }

    fn is_full(&self) -> bool {
        self.frames.len() >= OPEN_FRAMES_MAX || self.bytes >= OPEN_BYTES_MAX
    }

    /// `enters` says whether a decoder can begin with the frame, where it is one that counts.
    fn push(&mut self, frame: &Frame, enters: Option<bool>, end: i64) {
        self.independent = self.independent.or(enters);
        self.bytes += frame.payload_bytes();
        self.end = self.end.max(end);
        self.frames.push(frame.clone());
    }
}

impl Tracks {
    /// Hears what a track is. True when what the transport stream has of it changes.
    fn note(&mut self, track: TrackId, parameters: &Arc<Parameters>) -> bool {
        let carried = Segmenter::takes(parameters);
        let place = if parameters.codec.is_video() { &mut self.pictures } else { &mut self.sound };
        match place {
            Some(known) if known.track == track => {
                if known.parameters == *parameters {
                    return false;
                }
                let was = std::mem::replace(&mut known.carried, carried);
                (known.parameters, known.said) = (parameters.clone(), false);
                was || carried
            }
            // Only the first of each kind, but for one that cannot be said.
            Some(known) if known.carried || !carried => false,
            _ => {
                *place = Some(Known {
                    track,
                    parameters: parameters.clone(),
                    carried,
                    said: false,
                    period: None,
                    last: None,
                    usual: nanos(usual_duration(parameters)),
                });
                carried
            }
        }
    }

    fn both(&mut self) -> impl Iterator<Item = &mut Known> {
        [&mut self.pictures, &mut self.sound].into_iter().flatten()
    }

    /// Those that the transport stream has, pictures first.
    fn all_carried(&self) -> impl Iterator<Item = &Known> {
        [&self.pictures, &self.sound].into_iter().flatten().filter(|known| known.carried)
    }

    fn known(&mut self, track: TrackId) -> Option<&mut Known> {
        self.both().find(|known| known.track == track)
    }

    /// The track of a picture or packet of sound, if it can be said.
    fn carried(&self, frame: &Frame) -> Option<&Known> {
        self.all_carried().find(|known| frame.is_media() && known.track == frame.track)
    }

    fn has_pictures(&self) -> bool {
        self.pictures.as_ref().is_some_and(|known| known.carried)
    }

    /// Nothing can be said.
    fn is_empty(&self) -> bool {
        self.all_carried().next().is_none()
    }

    /// The period of the last frame of a track.
    fn last_period(&self, track: TrackId) -> Option<u64> {
        self.all_carried().find(|known| known.track == track)?.period
    }

    fn cut(&self) -> Cut {
        Cut::Tracks(self.all_carried().map(|known| known.parameters.clone()).collect())
    }

    /// The tracks for a muxer that has not heard of any.
    fn say(&mut self, rate: u32) -> Vec<Track> {
        self.both().for_each(|known| known.said = true);
        let track = |known: &Known| Track { id: known.track, parameters: known.parameters.clone(), rate };
        self.all_carried().map(track).collect()
    }

    /// What a muxer must hear before `frame`.
    fn unsaid(&mut self, frame: &Frame) -> Vec<Frame> {
        let (dts, pts) = (frame.dts, frame.pts);
        let word = |known: &mut Known| {
            let said = std::mem::replace(&mut known.said, true);
            let payload = || Payload::Parameters(known.parameters.clone());
            (!said).then(|| Frame { track: known.track, dts, pts, payload: payload() })
        };
        self.both().filter_map(word).collect()
    }
}

impl Known {
    /// How long a frame at `at` most likely lasts, nanoseconds: as long as the one before it did.
    fn lasts(&self, at: i64) -> i64 {
        let step = self.last.map(|last| at.saturating_sub(last));
        step.filter(|step| (1..=nanos(STEP_MAX)).contains(step)).unwrap_or(self.usual)
    }
}

/// Nanoseconds of the stream as ticks.
fn ticks(at: i64) -> i64 {
    MediaTime { ticks: at, rate: 1_000_000_000 }.ticks_at(RATE)
}
