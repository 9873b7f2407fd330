//! Cuts a stream, on the core that owns it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::{
    Cut, Rendition, Settings, Terms,
    clock::{self, Clock},
    lane::{Anchor, Lane},
};
use crate::{
    codec::Parameters,
    fmp4::file::usual_duration,
    limits,
    media::{Frame, Payload, TrackId},
    session::Opening,
    time::{MediaTime, Wall},
};

/// How much of a stream is looked at, at most, before its terms are settled.
const LEARN_MAX: Duration = Duration::from_secs(4);
/// The same for a stream of sound alone, all of whose packets are alike.
const LEARN_SOUND: Duration = Duration::from_millis(500);
/// No segment is longer than this, whatever the encoder's groups are.
const SEGMENT_MAX: Duration = Duration::from_secs(10);
/// No part is, unless a frame is.
const PART_MAX: Duration = Duration::from_secs(1);
/// What of the longest part every part but a segment's last has, in percent.
const PART_SHARE_MIN: u32 = 85;
/// Times of one pace differ by so much where they are rounded to milliseconds.
const JITTER: Duration = Duration::from_millis(2);
/// So many steps of the pictures' pace are seen before it is settled on, and so many of a hundred are alike where there is one.
const STEPS_MIN: usize = 8;
const STEPS_ALIKE_PERCENT: usize = 90;

/// Takes a stream's frames, gives its [`Cut`]s.
#[derive(Debug)]
pub struct Packager {
    settings: Settings,
    id: u64,
    /// The longest group of the stream lately, if one has ended.
    group: Option<Duration>,
    parameters: Vec<(TrackId, Arc<Parameters>)>,
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
    lanes: Vec<Lane>,
    /// The stream's first time.
    zero: MediaTime,
    anchor: Anchor,
    /// What comes next does not continue what was before.
    breaks: bool,
    /// Sound that is ahead of the pictures by more than a segment has room for.
    held: VecDeque<Frame>,
}

impl Packager {
    /// For a stream whose groups were this long lately, if that is known. `id` is given to no other packaging of the stream.
    /// `opening` is what held before the first frame that will come.
    pub fn new(settings: Settings, id: u64, group: Option<Duration>, opening: &Opening) -> Self {
        let mut packager = Packager {
            settings,
            id,
            group,
            parameters: Vec::new(),
            state: State::Learning(Vec::new()),
            cuts: VecDeque::new(),
        };
        for frame in &opening.parameters {
            if let Payload::Parameters(parameters) = &frame.payload {
                packager.note(frame.track, parameters);
            }
        }
        packager
    }

    /// What it says next.
    pub fn poll(&mut self) -> Option<Cut> {
        self.cuts.pop_front()
    }

    /// The next frame of the stream, which came at `wall`.
    pub fn frame(&mut self, frame: &Frame, wall: Wall) {
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
            running.release(&mut self.cuts);
            for lane in &mut running.lanes {
                lane.finish(running.anchor, &mut self.cuts);
            }
        }
        self.cuts.push_back(Cut::Ended);
        self.state = State::Ended;
    }

    fn note(&mut self, track: TrackId, parameters: &Arc<Parameters>) {
        match self.parameters.iter_mut().find(|(known, _)| *known == track) {
            Some((_, known)) => *known = parameters.clone(),
            None => self.parameters.push((track, parameters.clone())),
        }
    }

    fn has_pictures(&self) -> bool {
        self.parameters.iter().any(|(_, parameters)| parameters.codec.is_video())
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
            part: self.part(&frames),
            window: self.settings.window,
        });
        let clock = Clock::new(
            nanos(self.settings.segment.min(target)),
            nanos(target),
            nanos(group.unwrap_or(target)),
            anchor.at,
        );
        self.cuts.push_back(Cut::Terms(terms.clone()));
        self.state = State::Running(Box::new(Running {
            terms,
            clock,
            lanes: Vec::new(),
            zero,
            anchor,
            breaks: false,
            held: VecDeque::new(),
        }));
        for (frame, wall) in &frames {
            self.package(frame, *wall);
        }
    }

    /// How long a part may be, so that parts of whole frames come close to it.
    fn part(&self, frames: &[(Frame, Wall)]) -> Duration {
        let wanted = self.settings.part;
        let pictures: Vec<MediaTime> =
            frames.iter().filter(|(frame, _)| frame.is_video()).map(|(frame, _)| frame.dts).collect();
        let mut steps: Vec<Duration> = pictures.windows(2).map(|pair| since(pair[0], pair[1])).collect();
        steps.sort_unstable();
        let (Some(&usual), Some(&most)) = (steps.get(steps.len() / 2), steps.last()) else {
            let sound = self.parameters.iter().find(|(_, parameters)| !parameters.codec.is_video());
            return whole_frames(wanted, sound.map_or(wanted, |(_, parameters)| usual_duration(parameters)));
        };
        let alike: Vec<Duration> =
            steps.iter().copied().filter(|step| step.abs_diff(usual) <= JITTER).collect();
        if alike.len() * 100 >= steps.len() * STEPS_ALIKE_PERCENT {
            let all: Duration = alike.iter().sum();
            return whole_frames(wanted, all / u32::try_from(alike.len()).unwrap_or(u32::MAX));
        }
        // At no pace: long enough that what one frame leaves of it is small.
        wanted.max(most * 100 / (100 - PART_SHARE_MIN)).min(PART_MAX).max(most)
    }

    fn package(&mut self, frame: &Frame, wall: Wall) {
        let State::Running(running) = &mut self.state else { return };
        match &frame.payload {
            Payload::Discontinuity => running.breaks = true,
            Payload::Parameters(parameters) => {
                let (track, parameters) = (frame.track, parameters.clone());
                let open = running.clock.open();
                let changed = running
                    .lanes
                    .iter_mut()
                    .find(|lane| lane.track == track && **lane.parameters() != *parameters);
                match changed {
                    // The other track has broken already, and this one has sent nothing since: it is one break for both.
                    Some(lane) if lane.is_before(open) && !running.breaks => {
                        let (rate, anchor) = (frame.dts.rate, running.anchor);
                        lane.change(parameters.clone(), rate, running.zero, None, anchor, &mut self.cuts);
                        self.cuts.push_back(lane.init(wall));
                    }
                    changed => running.breaks |= changed.is_some(),
                }
                self.note(track, &parameters);
            }
            Payload::Video { key, .. } => self.media(frame, Rendition::Video, *key, wall),
            Payload::Audio { .. } => self.media(frame, Rendition::Audio, true, wall),
            Payload::Metadata(_) | Payload::ColorInfo { .. } | Payload::Script(_) => {}
        }
    }

    fn media(&mut self, frame: &Frame, rendition: Rendition, key: bool, wall: Wall) {
        let State::Running(running) = &mut self.state else { return };
        let Some((_, parameters)) = self.parameters.iter().find(|(track, _)| *track == frame.track) else {
            return;
        };
        let at = frame.dts.as_nanos();
        let leads = rendition == Rendition::Video || !running.has(Rendition::Video);
        if std::mem::take(&mut running.breaks) {
            running.release(&mut self.cuts);
            let boundary = running.clock.breaks(at);
            for lane in &mut running.lanes {
                let (track, now) = (lane.track, lane.parameters().clone());
                let wanted = self.parameters.iter().find(|(known, _)| *known == track);
                let wanted = wanted.map_or(&now, |(_, wanted)| wanted);
                if **wanted == *now {
                    lane.expect(boundary);
                } else {
                    let (rate, anchor) = (frame.dts.rate, running.anchor);
                    lane.change(wanted.clone(), rate, running.zero, Some(boundary), anchor, &mut self.cuts);
                    self.cuts.push_back(lane.init(wall));
                }
            }
            running.anchor = Anchor { at, wall };
        } else if leads && let Some(boundary) = running.clock.begins(at, key) {
            running.expect(boundary);
            running.release(&mut self.cuts);
        } else if !leads && at >= running.clock.latest() {
            // A segment must end before this, and the picture that ends it has not come yet.
            running.held.push_back(frame.clone());
            let waited = at.saturating_sub(running.clock.latest());
            if waited >= clock::PATIENCE || running.held.len() >= limits::HLS_HELD_FRAMES_MAX {
                let boundary = running.clock.forced();
                running.expect(boundary);
                running.release(&mut self.cuts);
            }
            return;
        }
        if !running.has(rendition) {
            if !key {
                return;
            }
            let open = running.clock.open();
            let lane =
                Lane::new(frame.track, rendition, parameters.clone(), frame.dts.rate, running.zero, open);
            self.cuts.push_back(lane.init(wall));
            running.lanes.push(lane);
        }
        running.push(frame, rendition, &mut self.cuts);
        for lane in &mut running.lanes {
            lane.catch_up(running.anchor, &mut self.cuts);
        }
    }
}

impl Running {
    fn has(&self, rendition: Rendition) -> bool {
        self.lanes.iter().any(|lane| lane.rendition == rendition)
    }

    fn expect(&mut self, boundary: clock::Boundary) {
        self.lanes.iter_mut().for_each(|lane| lane.expect(boundary));
    }

    /// Sound that waited for a segment to begin.
    fn release(&mut self, out: &mut VecDeque<Cut>) {
        for frame in std::mem::take(&mut self.held) {
            self.push(&frame, Rendition::Audio, out);
        }
    }

    /// Only the first track of each kind is packaged.
    fn push(&mut self, frame: &Frame, rendition: Rendition, out: &mut VecDeque<Cut>) {
        let lane =
            self.lanes.iter_mut().find(|lane| lane.rendition == rendition && lane.track == frame.track);
        if let Some(lane) = lane {
            lane.push(frame, &self.terms, self.anchor, out);
        }
    }
}

/// What no segment is longer than, whole seconds: as many groups as a segment has at least.
fn target(segment: Duration, group: Option<Duration>, has_pictures: bool) -> Duration {
    let most = match group {
        _ if !has_pictures => segment,
        Some(group) if !group.is_zero() => {
            let groups = segment.saturating_sub(Duration::from_millis(50)).as_nanos() / group.as_nanos() + 1;
            group * u32::try_from(groups).unwrap_or(u32::MAX).min(1000)
        }
        // Not even one group has ended.
        _ => segment * 2,
    };
    // A length is rounded to the nearest second before it is held against the target.
    let seconds = (most.min(SEGMENT_MAX).max(segment) + Duration::from_millis(600)).as_secs();
    Duration::from_secs(seconds.max(1))
}

/// As many whole frames as fit into `wanted`, at least one.
fn whole_frames(wanted: Duration, frame: Duration) -> Duration {
    if frame.is_zero() {
        return wanted;
    }
    let count = ((wanted + JITTER).as_nanos() / frame.as_nanos()).max(1);
    frame * u32::try_from(count).unwrap_or(1) + JITTER
}

fn longest_group(frames: &[(Frame, Wall)]) -> Option<Duration> {
    let keys: Vec<MediaTime> =
        frames.iter().filter(|(frame, _)| frame.is_key()).map(|(frame, _)| frame.dts).collect();
    keys.windows(2).map(|pair| since(pair[0], pair[1])).max()
}

fn since(earlier: MediaTime, later: MediaTime) -> Duration {
    let nanos = later.as_nanos().saturating_sub(earlier.as_nanos());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

fn nanos(duration: Duration) -> i64 {
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

    #[test]
    fn a_part_has_whole_frames() {
        let of =
            |nanos: u64| whole_frames(Duration::from_millis(200), Duration::from_nanos(nanos)).as_millis();
        assert_eq!(of(33_333_333), 201);
        assert_eq!(of(40_000_000), 202);
        assert_eq!(of(41_666_667), 168);
        assert_eq!(of(500_000_000), 502);
    }
}
