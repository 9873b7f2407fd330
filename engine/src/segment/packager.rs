//! Cuts a stream, on the core that owns it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::{
    Cut, Numbering, Rendition, Settings, Terms,
    clock::{self, Boundary, Clock},
    lane::{self, Anchor, Border, Lane},
    pace::{self, Pace},
};
use crate::{
    codec::{Parameters, Shape},
    fmp4::{self, file::usual_duration},
    limits,
    media::{Frame, Payload, TrackId},
    session::Opening,
    time::{MediaTime, Wall},
};

/// How much of a stream is looked at, at most, before its terms are settled.
pub(super) const LEARN_MAX: Duration = Duration::from_secs(4);
/// The same for a stream of sound alone, all of whose packets are alike.
pub(super) const LEARN_SOUND: Duration = Duration::from_millis(500);
/// No segment is longer than this, whatever the encoder's groups are.
const SEGMENT_MAX: Duration = Duration::from_secs(10);
/// How far a group may be from those before it, and how far over a whole number of seconds the groups of a segment may be: its
/// length is rounded, and other tracks need some room.
const GROUP_TOLERANCE: Duration = Duration::from_millis(50);
const OVER_TARGET_MAX: Duration = Duration::from_millis(350);
/// So many steps of the pictures' pace are seen before it is settled on.
const STEPS_MIN: usize = 8;
/// The shortest segment that a break leaves.
const BROKEN_SEGMENT_MIN: i64 = 1_000_000;
/// No stream has later times, or earlier ones than this before zero, nanoseconds: 73 years, so that sums of times are times.
const TIME_MAX: i64 = i64::MAX / 4;
/// A packet of sound lasts so long where no track of it is known yet: most encoders' do not last longer.
const PACKET: Duration = Duration::from_millis(24);

/// Takes a stream's frames, gives its [`Cut`]s.
#[derive(Debug)]
pub struct Packager {
    settings: Settings,
    id: u64,
    /// The longest group of the stream lately, if one has ended.
    group: Option<Duration>,
    parameters: Vec<(TrackId, Arc<Parameters>)>,
    /// Where numbers begin; once it is over, where the next packaging goes on.
    numbering: Numbering,
    /// The first frame that was left out because its codec has no form in MP4.
    left_out: Option<MediaTime>,
    state: State,
    cuts: VecDeque<Cut>,
}

#[derive(Debug)]
enum State {
    /// Frames wait until it is known at what pace they come.
    Learning(Vec<(Frame, Wall)>),
    Running(Box<Running>),
    Ended,
}

#[derive(Debug)]
struct Running {
    terms: Arc<Terms>,
    clock: Clock,
    /// What is added to the clock's numbers.
    numbering: Numbering,
    /// The open segment.
    open: Border,
    lanes: Vec<Lane>,
    /// The stream's first time.
    zero: MediaTime,
    /// The latest frame of any track.
    latest: i64,
    /// What comes next does not continue what was before.
    breaks: bool,
    /// Sound that is ahead of the pictures by more than a segment has room for.
    held: VecDeque<Frame>,
}

impl Packager {
    /// For a stream whose groups were this long lately, if that is known. `id` is given to no other packaging of the stream,
    /// and `numbering` is what the last one left. `opening` is what held before the first frame that will come.
    pub fn new(
        settings: Settings,
        id: u64,
        group: Option<Duration>,
        opening: &Opening,
        numbering: Numbering,
    ) -> Self {
        let mut packager = Packager {
            settings,
            id,
            group,
            parameters: Vec::new(),
            numbering,
            left_out: None,
            state: State::Learning(Vec::new()),
            cuts: VecDeque::new(),
        };
        for frame in opening.parameters.iter().filter(|frame| carries(frame)) {
            if let Payload::Parameters(parameters) = &frame.payload {
                packager.note(frame.track, parameters);
            }
        }
        packager
    }

    /// Whether anything of a stream with this opening can be packaged. One that has not said what it is made of may have it yet.
    pub fn takes(opening: &Opening) -> bool {
        opening.parameters.is_empty() || opening.parameters.iter().any(carries)
    }

    /// What it says next.
    pub fn poll(&mut self) -> Option<Cut> {
        self.cuts.pop_front()
    }

    /// Where the next packaging of the stream goes on: the number of a segment that has not begun, and the period that follows.
    pub fn numbering(&self) -> Numbering {
        match &self.state {
            State::Running(running) => running.following(),
            State::Learning(_) | State::Ended => self.numbering,
        }
    }

    /// The next frame of the stream, which came at `wall`. What MP4 does not [carry](fmp4::carries) is left out, and a stream of nothing
    /// else has [ended](Cut::Ended), here, as soon as that is known.
    pub fn frame(&mut self, frame: &Frame, wall: Wall) {
        if !carries(frame) {
            return self.leave_out(frame);
        }
        match &mut self.state {
            State::Ended => {}
            State::Learning(frames) => {
                if let Payload::Parameters(parameters) = &frame.payload
                    && frames.is_empty()
                {
                    let (track, parameters) = (frame.track, parameters.clone());
                    return self.note(track, &parameters);
                }
                // What was before the first picture, where pictures were announced, belongs to no segment.
                let begins = frame.is_key() || (frame.is_audio() && !self.has_pictures());
                if let State::Learning(frames) = &mut self.state
                    && (begins || !frames.is_empty())
                {
                    frames.push((frame.clone(), wall));
                }
                self.settle();
            }
            State::Running(_) => self.package(frame, wall),
        }
    }

    /// The stream is over.
    pub fn finish(&mut self) {
        if let State::Learning(_) = self.state {
            self.begin();
        }
        if let State::Running(running) = &mut self.state {
            running.release(0, i64::MAX, &mut self.cuts);
            let end = running.end();
            for lane in &mut running.lanes {
                lane.finish(end, &mut self.cuts);
            }
            self.numbering = running.following();
        }
        self.cuts.push_back(Cut::Ended);
        self.state = State::Ended;
    }

    fn leave_out(&mut self, frame: &Frame) {
        if !frame.is_media() || !self.parameters.is_empty() || !matches!(self.state, State::Learning(_)) {
            return;
        }
        let first = *self.left_out.get_or_insert(frame.dts);
        if since(first, frame.dts) >= LEARN_MAX {
            self.finish();
        }
    }

    fn note(&mut self, track: TrackId, parameters: &Arc<Parameters>) {
        match self.parameters.iter_mut().find(|(known, _)| *known == track) {
            // Encoders say the same again and again: one is kept, so that it is seen at once that nothing changes.
            Some((_, known)) if known == parameters => {}
            Some((_, known)) => *known = parameters.clone(),
            None => self.parameters.push((track, parameters.clone())),
        }
    }

    fn has_pictures(&self) -> bool {
        self.parameters.iter().any(|(_, parameters)| parameters.codec.is_video())
    }

    /// The first track of sound that was announced.
    fn sound(&self) -> Option<&(TrackId, Arc<Parameters>)> {
        self.parameters.iter().find(|(_, parameters)| !parameters.codec.is_video())
    }

    fn announced(&self) -> Vec<Rendition> {
        let pictures = self.has_pictures().then_some(Rendition::Video);
        pictures.into_iter().chain(self.sound().map(|_| Rendition::Audio)).collect()
    }

    /// Begins to cut once enough is known.
    fn settle(&mut self) {
        let State::Learning(frames) = &self.state else { return };
        let media = || frames.iter().map(|(frame, _)| frame).filter(|frame| frame.is_media());
        let (Some(first), Some(last)) = (media().next(), media().next_back()) else { return };
        let seen = since(first.dts, last.dts);
        let pictures = media().filter(|frame| frame.is_video()).count();
        let groups = media().filter(|frame| frame.is_key()).count();
        let known = if pictures > 0 {
            pictures > STEPS_MIN && (self.group.is_some() || groups > 1)
        } else {
            !self.has_pictures() && seen >= LEARN_SOUND
        };
        if known || seen >= LEARN_MAX || frames.len() >= limits::HLS_LEARN_FRAMES_MAX {
            self.begin();
        }
    }

    /// Settles the terms and cuts what has come so far.
    fn begin(&mut self) {
        let State::Learning(frames) = std::mem::replace(&mut self.state, State::Ended) else { return };
        let mut media = frames.iter().filter(|(frame, _)| frame.is_media());
        let Some((first, wall)) = media.next() else {
            self.state = State::Learning(frames);
            return;
        };
        let (zero, anchor) = (first.dts, Anchor { at: first.dts.as_nanos(), wall: *wall });
        let group = self.group.or_else(|| longest_group(&frames));
        let target = target(self.settings.segment, group, self.has_pictures());
        let terms = Arc::new(Terms {
            id: self.id,
            target: u32::try_from(target.as_secs()).unwrap_or(u32::MAX),
            part: pace::part(self.settings.part, &self.paces(&frames)),
            window: self.settings.window,
            began: self.numbering.began(*wall),
            renditions: self.announced(),
        });
        let mut clock = Clock::new(
            nanos(self.settings.segment.min(target)),
            nanos(target),
            nanos(group.unwrap_or(target)),
            anchor.at,
        );
        let packet = self.sound().map_or(PACKET, |(_, parameters)| usual_duration(parameters));
        clock.leave(nanos(lane::bridge(packet)));
        self.cuts.push_back(Cut::Terms(terms.clone()));
        let numbering = self.numbering;
        let open = Border {
            number: numbering.segment,
            at: anchor.at,
            ends: anchor.at,
            breaks: numbering.period > 0,
            period: numbering.period,
            anchor,
        };
        self.state = State::Running(Box::new(Running {
            terms,
            clock,
            numbering,
            open,
            lanes: Vec::new(),
            zero,
            latest: anchor.at,
            breaks: false,
            held: VecDeque::new(),
        }));
        for (frame, wall) in &frames {
            self.package(frame, *wall);
        }
    }

    /// How the frames of the tracks follow each other, as far as that is known.
    fn paces(&self, frames: &[(Frame, Wall)]) -> Vec<Pace> {
        let of = |wanted: fn(&Frame) -> bool| {
            Pace::of(
                frames.iter().map(|(frame, _)| frame).filter(|frame| wanted(frame)).map(|frame| frame.dts),
            )
        };
        let packets = self.sound().map(|(_, parameters)| match parameters.shape {
            Shape::Audio { packet_samples, .. } if packet_samples > 0 => {
                Pace::exact(usual_duration(parameters))
            }
            _ => of(Frame::is_audio).unwrap_or(Pace::near(usual_duration(parameters))),
        });
        of(Frame::is_video).into_iter().chain(packets).collect()
    }

    fn package(&mut self, frame: &Frame, wall: Wall) {
        let State::Running(running) = &mut self.state else { return };
        match &frame.payload {
            Payload::Discontinuity => running.breaks = true,
            Payload::Parameters(parameters) => {
                let period = running.open.period;
                let lane = running.lanes.iter_mut().find(|lane| lane.track == frame.track);
                // Where the other track has broken already, and this one has sent nothing since, it is one break for both.
                // Else the next frame of this one does not continue those before it.
                if let Some(lane) =
                    lane.filter(|lane| lane.is_before(period) && lane.parameters() != parameters)
                    && !running.breaks
                {
                    lane.change(parameters.clone(), frame.dts.rate, running.zero, None, &mut self.cuts);
                    self.cuts.push_back(lane.init(wall));
                }
                let (track, parameters) = (frame.track, parameters.clone());
                self.note(track, &parameters);
            }
            Payload::Video { key, .. } => self.media(frame, Rendition::Video, *key, wall),
            Payload::Audio { .. } => self.media(frame, Rendition::Audio, true, wall),
            Payload::Metadata(_) | Payload::ColorInfo { .. } | Payload::Script(_) => {}
        }
    }

    fn media(&mut self, frame: &Frame, rendition: Rendition, key: bool, wall: Wall) {
        let Packager { state: State::Running(running), parameters, cuts, .. } = self else { return };
        let Some((_, known)) = parameters.iter().find(|(track, _)| *track == frame.track) else { return };
        let at = frame.dts.as_nanos();
        // Only the first track of each kind is packaged, from where a decoder can begin, and from the first frame on.
        let old = at.saturating_add(nanos(lane::bridge(usual_duration(known)))) < running.open.at;
        match running.lanes.iter().find(|lane| lane.rendition == rendition) {
            Some(lane) if lane.track != frame.track => return,
            None if !key || old => return,
            _ if at.saturating_abs() > TIME_MAX => return,
            _ => {}
        }
        // The stream's clock has no such steps; who gives them must not have a segment made for each second of one.
        let step_max = nanos(limits::CLOCK_STEP_FORWARD_MAX);
        running.breaks |= at.saturating_sub(running.latest) > step_max || running.changes(frame.track, known);
        running.latest = running.latest.max(at);
        running.reach_back(at);
        let leads = rendition == Rendition::Video || !running.has(Rendition::Video);
        if std::mem::take(&mut running.breaks) {
            running.break_at(frame, wall, parameters, cuts);
        } else if leads {
            while let Some(boundary) = running.clock.overdue(at, running.end()) {
                running.expect(boundary);
            }
            if let Some(boundary) = running.clock.begins(at, key) {
                running.expect(boundary);
            }
        }
        if !running.has(rendition) {
            running.admit(frame, rendition, known.clone(), wall, cuts);
        }
        if leads {
            running.push(frame, rendition, cuts);
        } else {
            running.held.push_back(frame.clone());
        }
        running.release(clock::PATIENCE, i64::MAX, cuts);
        for lane in &mut running.lanes {
            lane.catch_up(cuts);
        }
    }
}

impl Running {
    fn has(&self, rendition: Rendition) -> bool {
        self.lanes.iter().any(|lane| lane.rendition == rendition)
    }

    /// Whether a track has other parameters than before.
    fn changes(&self, track: TrackId, parameters: &Arc<Parameters>) -> bool {
        let lane = self.lanes.iter().find(|lane| lane.track == track);
        lane.is_some_and(|lane| {
            !Arc::ptr_eq(lane.parameters(), parameters) && lane.parameters() != parameters
        })
    }

    /// Hears of a frame at `at`: one that is a little older than the period that has just begun may be of it.
    fn reach_back(&mut self, at: i64) {
        let (begins, apart) = (self.open.at, nanos(lane::APART));
        let is_first = self.open.breaks || self.open.number == self.numbering.segment;
        if is_first && (1..=2 * apart).contains(&begins.saturating_sub(at)) {
            self.clock.reaches_back(at.max(begins - apart));
        }
    }

    /// What comes after all that has begun.
    fn following(&self) -> Numbering {
        Numbering {
            segment: self.open.number + 1,
            period: self.open.period + 1,
            began: Some(self.terms.began),
        }
    }

    /// A track that was not there before.
    fn admit(
        &mut self,
        frame: &Frame,
        rendition: Rendition,
        parameters: Arc<Parameters>,
        wall: Wall,
        out: &mut VecDeque<Cut>,
    ) {
        let (terms, rate) = (self.terms.clone(), frame.dts.rate);
        let lane = Lane::new(frame.track, rendition, terms, parameters, rate, self.zero, self.open);
        if rendition == Rendition::Audio {
            self.clock.leave(nanos(lane.bridge()));
        }
        out.push_back(lane.init(wall));
        self.lanes.push(lane);
    }

    /// A segment begins that continues the open one.
    fn expect(&mut self, boundary: Boundary) {
        let number = self.numbering.segment + boundary.number;
        self.open = Border { number, at: boundary.at, ends: boundary.at, breaks: false, ..self.open };
        self.lanes.iter_mut().for_each(|lane| lane.expect(self.open));
    }

    /// A segment begins with `frame` that does not continue the open one. `parameters` hold from there on.
    fn break_at(
        &mut self,
        frame: &Frame,
        wall: Wall,
        parameters: &[(TrackId, Arc<Parameters>)],
        out: &mut VecDeque<Cut>,
    ) {
        let at = frame.dts.as_nanos();
        // Sound that is ahead of it is behind the break.
        self.release(0, at, out);
        let least = self.open.at.saturating_add(BROKEN_SEGMENT_MIN);
        let ends = self.end().min(at).max(least);
        let boundary = self.clock.breaks(at.max(ends));
        // A wall that was set back must not have two things at one time.
        let wall = wall.max(self.open.anchor.wall(ends));
        self.open = Border {
            number: self.numbering.segment + boundary.number,
            at: boundary.at,
            ends,
            breaks: true,
            period: self.numbering.period + boundary.period,
            anchor: Anchor { at: boundary.at, wall },
        };
        for lane in &mut self.lanes {
            let wanted = parameters.iter().find(|(known, _)| *known == lane.track);
            match wanted.filter(|(_, wanted)| **wanted != **lane.parameters()) {
                None => lane.expect(self.open),
                Some((_, wanted)) => {
                    let rate = if lane.track == frame.track { frame.dts.rate } else { lane.rate() };
                    lane.change(wanted.clone(), rate, self.zero, Some(self.open), out);
                    out.push_back(lane.init(wall));
                }
            }
            if lane.track == frame.track {
                lane.arrive(out);
            }
        }
    }

    /// When the last frame of any track ends, as far as the open segment may reach.
    fn end(&self) -> i64 {
        let ends = self.lanes.iter().map(Lane::until).max();
        ends.unwrap_or(self.open.at).min(self.clock.latest())
    }

    /// Gives sound that waited to its track, if it is from before `end`, as far as the open segment may reach. A segment ends
    /// without the picture that should end it when sound is ahead of it by more than `patience`.
    fn release(&mut self, patience: i64, end: i64, out: &mut VecDeque<Cut>) {
        let first = |held: &VecDeque<Frame>| held.front().map(|frame| frame.dts.as_nanos());
        while let Some(first) = first(&self.held).filter(|first| *first < end) {
            let latest = self.clock.latest();
            if first < latest {
                if let Some(frame) = self.held.pop_front() {
                    self.push(&frame, Rendition::Audio, out);
                }
                continue;
            }
            let newest = self.held.back().map_or(first, |frame| frame.dts.as_nanos());
            let waited = newest.max(first).saturating_sub(latest);
            if waited < patience && self.held.len() < limits::HLS_HELD_FRAMES_MAX {
                break;
            }
            let boundary = self.clock.forced();
            self.expect(boundary);
        }
    }

    fn push(&mut self, frame: &Frame, rendition: Rendition, out: &mut VecDeque<Cut>) {
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.rendition == rendition) {
            lane.push(frame, out);
        }
    }
}

/// Whether MP4 has a form for what the frame is of.
fn carries(frame: &Frame) -> bool {
    match &frame.payload {
        Payload::Video { codec, .. } | Payload::Audio { codec, .. } => fmp4::carries(*codec),
        Payload::Parameters(parameters) => fmp4::carries(parameters.codec),
        _ => true,
    }
}

/// What no segment is longer than, whole seconds: as many groups as a segment has at least.
pub(super) fn target(segment: Duration, group: Option<Duration>, has_pictures: bool) -> Duration {
    let most = match group {
        _ if !has_pictures => segment,
        Some(group) if !group.is_zero() => {
            let groups = segment.saturating_sub(GROUP_TOLERANCE).as_nanos() / group.as_nanos() + 1;
            group * u32::try_from(groups).unwrap_or(u32::MAX).min(1000)
        }
        // Not even one group has ended.
        _ => segment * 2,
    };
    let seconds = (most.min(SEGMENT_MAX).max(segment) + Duration::from_secs(1) - OVER_TARGET_MAX).as_secs();
    Duration::from_secs(seconds.max(1))
}

pub(super) fn longest_group(frames: &[(Frame, Wall)]) -> Option<Duration> {
    let keys: Vec<MediaTime> =
        frames.iter().filter(|(frame, _)| frame.is_key()).map(|(frame, _)| frame.dts).collect();
    keys.windows(2).map(|pair| since(pair[0], pair[1])).max()
}

pub(super) fn since(earlier: MediaTime, later: MediaTime) -> Duration {
    let nanos = later.as_nanos().saturating_sub(earlier.as_nanos());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

pub(super) fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn the_target_holds_as_many_groups_as_a_segment_has() {
        let of = |segment: u64, group: Option<u64>| {
            let group = group.map(Duration::from_millis);
            target(Duration::from_millis(segment), group, true).as_secs()
        };
        assert_eq!(of(2000, Some(2000)), 2);
        assert_eq!(of(2000, Some(2002)), 2);
        assert_eq!(of(2000, Some(1000)), 2);
        assert_eq!(of(2000, Some(1500)), 3);
        assert_eq!(of(2000, Some(8333)), 8);
        assert_eq!(of(2000, Some(60_000)), 10);
        assert_eq!(of(2000, None), 4);
    }
}
