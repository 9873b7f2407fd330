//! The kept group: all frames since the last entrance, so that a viewer who joins starts at once and starts whole.

use std::time::Duration;

use crate::{
    canary::{self, Canary},
    limits::StreamLimits,
    media::{Frame, Payload},
    session::{Opening, Showing},
    time::{MediaTime, Now, Wall},
};

/// A frame's number in its stream: the group it belongs to and its place in it. Groups and places count without a gap,
/// so the seam between what was kept and what is live can be checked, not hoped for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The group, counted over the life of the stream.
    pub group: u64,
    /// The place in the group; 0 is the entrance.
    pub index: u32,
}

impl Place {
    /// The first frame of a stream's life.
    pub const FIRST: Place = Place { group: 0, index: 0 };

    /// True when `self` comes right after `last`: the next of its group, or the entrance of the next.
    pub fn follows(self, last: Place) -> bool {
        (self.group == last.group && last.index.checked_add(1) == Some(self.index))
            || (last.group.checked_add(1) == Some(self.group) && self.index == 0)
    }
}

/// A frame with its number.
#[derive(Clone, Debug)]
pub struct Numbered {
    /// Its number.
    pub place: Place,
    /// The frame.
    pub frame: Frame,
}

impl Numbered {
    /// True for the first frame of a group, where a viewer may enter.
    pub const fn is_entrance(&self) -> bool {
        self.place.index == 0
    }
}

impl Opening {
    /// Takes note of `frame` if it is of a kind that new viewers must know. True when it was.
    pub fn note(&mut self, frame: &Frame) -> bool {
        match &frame.payload {
            Payload::Metadata(_) => self.metadata = Some(frame.clone()),
            Payload::ColorInfo { .. } => self.color = Some(frame.clone()),
            Payload::Parameters(_) => match self.parameters.iter_mut().find(|kept| kept.track == frame.track)
            {
                Some(kept) => *kept = frame.clone(),
                None => {
                    self.parameters.push(frame.clone());
                    self.parameters.sort_by_key(|kept| kept.track);
                }
            },
            Payload::Video { .. } | Payload::Audio { .. } | Payload::Script(_) | Payload::Discontinuity => {
                return false;
            }
        }
        true
    }

    /// True when there are parameters of pictures, or else of sound.
    pub(crate) fn has(&self, pictures: bool) -> bool {
        self.parameters.iter().any(|frame| match &frame.payload {
            Payload::Parameters(parameters) => parameters.codec.is_video() == pictures,
            _ => false,
        })
    }

    /// The frames of the opening, in the order in which a viewer wants them.
    pub fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.metadata.iter().chain(&self.parameters).chain(&self.color)
    }
}

/// The frames since the last entrance, and what a viewer must know before them.
#[derive(Debug, Default)]
pub struct Group {
    /// What held when the group began.
    opening: Opening,
    /// What holds after its last frame.
    latest: Opening,
    /// The order of the pictures, which is part of what holds.
    showing: Showing,
    frames: Vec<Numbered>,
    bytes: usize,
    began: Now,
    /// When its entrance is decoded, and how long the group before it was.
    entered: Option<MediaTime>,
    previous: Option<Duration>,
    last: Option<Place>,
    let_go: bool,
}

impl Group {
    /// An empty group.
    pub fn new() -> Self {
        Group::default()
    }

    /// A group as another core kept it: `opening` held before the first of `frames`, `last` was the last frame there was.
    pub fn from_parts(
        opening: Opening,
        latest: Opening,
        frames: &[Numbered],
        last: Option<Place>,
        now: Now,
    ) -> Self {
        let mut showing = Showing::default();
        for frame in opening.frames().chain(frames.iter().map(|numbered| &numbered.frame)) {
            showing.after(latest.reorder, frame);
        }
        // What came since a group was let go is not among its frames.
        latest.frames().for_each(|frame| {
            showing.after(latest.reorder, frame);
        });
        Group {
            opening,
            latest,
            showing,
            frames: frames.to_vec(),
            bytes: frames.iter().map(|numbered| numbered.frame.payload_bytes()).sum(),
            began: now,
            entered: frames.first().map(|numbered| numbered.frame.dts),
            previous: None,
            last,
            let_go: false,
        }
    }

    /// Takes the next frame. An entrance begins a new group; a group that outgrows a bound of `limits` is let go whole
    /// (true is returned then, once per group), and joiners wait for the next entrance: never a hole.
    pub fn push(&mut self, numbered: &Numbered, limits: &StreamLimits, now: Now) -> bool {
        debug_assert!(self.last.is_none_or(|last| numbered.place > last), "frames come in order, each once");
        self.last = Some(numbered.place);
        if numbered.is_entrance() {
            self.opening = self.latest.clone();
            self.frames.clear();
            self.bytes = 0;
            self.began = now;
            self.let_go = false;
            let dts = numbered.frame.dts;
            let length = self.entered.map(|entered| dts.as_nanos().saturating_sub(entered.as_nanos()));
            self.previous = length.and_then(|length| u64::try_from(length).ok()).map(Duration::from_nanos);
            self.entered = Some(dts);
        } else if self.let_go || self.frames.is_empty() {
            // Nothing to hang on to; the next entrance opens the door again.
            self.note(&numbered.frame);
            return false;
        }
        self.note(&numbered.frame);
        self.bytes += numbered.frame.payload_bytes();
        self.frames.push(numbered.clone());
        let outgrown = self.frames.len() > limits.group_frames
            || self.bytes > limits.group_bytes
            || now.since(self.began) > limits.group_duration;
        if outgrown && canary::is_broken(Canary::GroupLosesNewest) {
            self.frames.pop();
            self.bytes -= numbered.frame.payload_bytes();
            return false;
        }
        if outgrown {
            self.let_go = true;
            self.frames = Vec::new();
            self.bytes = 0;
        }
        outgrown
    }

    /// Takes note of what a frame says of those that follow, or of something that is not numbered (the opening of a stream before its
    /// first frame).
    pub fn note(&mut self, frame: &Frame) {
        self.latest.note(frame);
        self.latest.reorder = self.showing.after(self.latest.reorder, frame);
    }

    /// Says that it is `wall` at `time` of the stream. What was said before holds on, unless it is far off: the sender's clock may
    /// drift, and jumps when it begins anew.
    pub fn set_clock(&mut self, time: MediaTime, wall: Wall) {
        const OFF_MAX: i64 = 1_000_000_000;
        let off = self.latest.clock.map(|(then, was)| {
            let passed = i64::try_from(wall.0).unwrap_or(i64::MAX) - i64::try_from(was.0).unwrap_or(i64::MAX);
            passed.saturating_sub(time.as_nanos().saturating_sub(then.as_nanos()))
        });
        if off.is_none_or(|off| off.abs() > OFF_MAX) {
            self.latest.clock = Some((time, wall));
        }
    }

    /// The kept frames, the entrance first; empty when there is no entrance.
    pub fn frames(&self) -> &[Numbered] {
        &self.frames
    }
    /// What held before the first kept frame.
    pub fn opening(&self) -> &Opening {
        &self.opening
    }
    /// What holds now.
    pub fn latest(&self) -> &Opening {
        &self.latest
    }
    /// How long the group before this one was, by its frames' times; `None` when this is the first.
    pub fn previous(&self) -> Option<Duration> {
        self.previous
    }
    /// True when the stream began longer ago than `duration`, as far as is known here.
    pub fn is_older_than(&self, duration: Duration, now: Now) -> bool {
        self.previous.is_some() || now.since(self.began) >= duration
    }
    /// The number of the last frame taken, kept or not.
    pub fn last(&self) -> Option<Place> {
        self.last
    }
    /// Payload bytes that the group keeps alive.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        codec::{
            Codec, Parameters,
            samples::{self, hex},
        },
        media::TrackId,
        session::Reorder,
    };

    fn told(configuration: &str) -> Frame {
        let parameters = Parameters::parse(Codec::H264, hex(configuration).into()).unwrap();
        let time = MediaTime::from_millis(0);
        let payload = Payload::Parameters(Arc::new(parameters));
        Frame { track: TrackId::VIDEO, dts: time, pts: time, payload }
    }

    /// What an encoder wrote, numbered, from the group with this number on.
    fn numbered(units: &[(i64, &str)], mut group: u64) -> Vec<Numbered> {
        let (mut index, mut frames) = (0, Vec::new());
        for ((shown, data), dts) in units.iter().zip(0..) {
            let data = hex(data);
            let key = data[4] == 0x65;
            if key && dts > 0 {
                (group, index) = (group + 1, 0);
            }
            let time = |ticks| MediaTime { ticks, rate: 25 };
            let payload = Payload::Video { codec: Codec::H264, key, data: data.into() };
            let frame = Frame { track: TrackId::VIDEO, dts: time(dts), pts: time(*shown), payload };
            frames.push(Numbered { place: Place { group, index }, frame });
            index += 1;
        }
        frames
    }

    #[test]
    fn the_order_of_pictures_is_learned_here_and_from_what_another_core_kept() {
        let limits = StreamLimits::default();
        for (configuration, units, reorder, learned_at) in [
            (samples::X264_B_ALONE_CONFIGURATION, samples::X264_B_ALONE, Reorder::Disposable, 2),
            (samples::X264_B_REFERRED_CONFIGURATION, samples::X264_B_REFERRED, Reorder::Needed, 2),
        ] {
            let mut group = Group::new();
            group.note(&told(configuration));
            for (place, numbered) in numbered(units, 0).iter().enumerate() {
                group.push(numbered, &limits, Now(0));
                let known = if place < learned_at { Reorder::None } else { reorder };
                assert_eq!(group.latest().reorder, known, "picture {place}");
                // Before the second group it was known.
                let before = if numbered.place.group == 0 { Reorder::None } else { reorder };
                assert_eq!(group.opening().reorder, before);
                let (opening, latest) = (group.opening().clone(), group.latest().clone());
                let mut replica = Group::from_parts(opening, latest, group.frames(), group.last(), Now(0));
                assert_eq!(replica.latest().reorder, known);
                if let (1, 0) = (place, numbered.place.group) {
                    replica.push(&numbered_next(units), &limits, Now(0));
                    assert_eq!(replica.latest().reorder, reorder, "it goes on where the other is");
                }
            }
            group.note(&told(configuration));
            assert_eq!(group.latest().reorder, reorder, "nothing has changed");
            group.note(&told(samples::H264_BASELINE_1080));
            assert_eq!(group.latest().reorder, Reorder::None);
        }
    }

    /// The third picture.
    fn numbered_next(units: &[(i64, &str)]) -> Numbered {
        numbered(units, 0).swap_remove(2)
    }

    #[test]
    fn the_order_is_learned_of_a_group_that_is_let_go_too() {
        let limits = StreamLimits { group_frames: 1, ..StreamLimits::default() };
        let mut group = Group::new();
        group.note(&told(samples::X264_B_REFERRED_CONFIGURATION));
        for numbered in numbered(samples::X264_B_REFERRED, 0) {
            group.push(&numbered, &limits, Now(0));
        }
        assert_eq!(group.latest().reorder, Reorder::Needed);
    }
}
