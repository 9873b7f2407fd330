//! The owner's side of a stream: who publishes it, how its frames are numbered, which cores want them.

use std::sync::Arc;

use super::{
    group::{Group, Numbered, Place},
    timeline::Timeline,
};
use crate::{
    limits::{self, StreamLimits},
    media::{Frame, Payload, TrackId},
    message::CoreId,
    session::Opening,
    time::{MediaTime, Now},
};

/// Gives each frame its place, and decides where viewers may enter.
#[derive(Debug, Default)]
pub struct Numbering {
    last: Option<Place>,
    has_video: bool,
    /// Pictures are left out until a key frame comes: nobody could decode them.
    needs_key: bool,
    group_began: Option<MediaTime>,
}

impl Numbering {
    /// For a stream that has sent nothing yet.
    pub fn new() -> Self {
        Numbering { needs_key: true, ..Numbering::default() }
    }

    /// What follows comes from another publisher, or after a jump: pictures need a key frame before they make sense.
    pub fn restart(&mut self, same_publisher: bool) {
        if !same_publisher {
            self.needs_key = true;
            self.has_video = false;
        }
    }

    /// The place of `frame`, or `None` when no viewer could use it (a picture before the first key frame).
    pub fn number(&mut self, frame: &Frame) -> Option<Place> {
        let entrance = match &frame.payload {
            Payload::Video { key, .. } => {
                self.has_video = true;
                if *key {
                    self.needs_key = false;
                } else if self.needs_key {
                    return None;
                }
                *key
            }
            // Sound alone: any packet is an entrance, and one is made each second. Sound that comes before the first
            // picture opens a group too, so that those who already watch lose nothing.
            Payload::Audio { .. } => match self.group_began {
                None => true,
                Some(began) => {
                    let age = frame.dts.as_nanos().saturating_sub(began.as_nanos());
                    !self.has_video
                        && u128::try_from(age).unwrap_or(0) >= limits::AUDIO_GROUP_DURATION.as_nanos()
                }
            },
            Payload::Parameters(_) => {
                self.has_video |= frame.track == TrackId::VIDEO;
                false
            }
            Payload::Metadata(_)
            | Payload::ColorInfo { .. }
            | Payload::Script(_)
            | Payload::Discontinuity => false,
        };
        let place = match (self.last, entrance) {
            (None, true) => Place::FIRST,
            // Before the first entrance nothing is numbered; what must be known is in the opening.
            (None, false) => return None,
            (Some(last), true) => Place { group: last.group + 1, index: 0 },
            (Some(last), false) => Place { group: last.group, index: last.index.checked_add(1)? },
        };
        if entrance {
            self.group_began = Some(frame.dts);
        }
        self.last = Some(place);
        Some(place)
    }
}

/// Another core that wants the stream.
#[derive(Debug)]
pub struct Subscriber {
    /// The core.
    pub core: CoreId,
    /// Its own number for this subscription, so that an answer to an earlier one is not mistaken.
    pub subscription: u64,
    /// It gets the frames as they come. Before the stream's first entrance, and after a full lane, it waits for an
    /// entrance and gets an opening with it: what the publisher said before the first entrance has no number, so it
    /// cannot travel as a frame.
    pub live: bool,
}

/// What became of a frame.
#[derive(Debug)]
pub enum Placed {
    /// It has its place.
    Numbered(Numbered),
    /// It came before the first entrance and says something that viewers must know; part of the opening.
    Noted(Frame),
    /// No viewer could use it: a picture before the first key frame.
    LeftOut,
}

/// The owner's side of a stream.
#[derive(Debug)]
pub struct Publication<C> {
    /// Counts the publishes of this name; only its own epoch can end one.
    pub epoch: u64,
    /// Who publishes, `None` while nobody does.
    pub publisher: Option<C>,
    /// When the last publisher went, `None` while one is there or none ever was.
    pub gone: Option<Now>,
    /// When the last frame came.
    pub last_frame: Now,
    /// The cores that want it.
    pub subscribers: Vec<Subscriber>,
    timeline: Timeline,
    numbering: Numbering,
    batch: Vec<Numbered>,
    /// The frame before the first of the batch.
    batch_after: Option<Place>,
}

impl<C> Publication<C> {
    /// A name that somebody waits for, or is about to publish.
    pub fn new(now: Now) -> Self {
        Publication {
            epoch: 0,
            publisher: None,
            gone: None,
            last_frame: now,
            subscribers: Vec::new(),
            timeline: Timeline::new(),
            numbering: Numbering::new(),
            batch: Vec::new(),
            batch_after: None,
        }
    }

    /// True once somebody has published, until the reconnect window ends.
    pub fn is_live(&self) -> bool {
        self.publisher.is_some() || self.gone.is_some()
    }

    /// `publisher` begins or resumes; returns its epoch.
    pub fn begin(&mut self, publisher: C, now: Now) -> u64 {
        if self.is_live() {
            self.timeline.rejoin();
            self.numbering.restart(false);
        }
        self.epoch += 1;
        self.publisher = Some(publisher);
        self.gone = None;
        self.last_frame = now;
        self.epoch
    }

    /// The publisher of `epoch` has gone. False when another has taken its place since: then nothing happens.
    pub fn leave(&mut self, epoch: u64, now: Now) -> bool {
        if self.epoch != epoch || self.publisher.is_none() {
            return false;
        }
        self.publisher = None;
        self.gone = Some(now);
        true
    }

    /// Puts `frame` on the timeline and numbers it. A discontinuity may come out before it.
    pub fn number(&mut self, mut frame: Frame, now: Now) -> (Option<Numbered>, Placed) {
        self.last_frame = now;
        let mut mark = None;
        if self.timeline.place(&mut frame, now) {
            let notice = Frame {
                track: TrackId::DATA,
                dts: frame.dts,
                pts: frame.dts,
                payload: Payload::Discontinuity,
            };
            mark = self.numbering.number(&notice).map(|place| Numbered { place, frame: notice });
        }
        let placed = match self.numbering.number(&frame) {
            Some(place) => Placed::Numbered(Numbered { place, frame }),
            None if frame.is_media() => Placed::LeftOut,
            None => Placed::Noted(frame),
        };
        (mark, placed)
    }

    /// Remembers `numbered`, which comes after the frame numbered `last`, for the other cores, if any wants it.
    pub fn batch(&mut self, numbered: &Numbered, last: Option<Place>) {
        if self.subscribers.is_empty() {
            return;
        }
        if self.batch.is_empty() {
            self.batch_after = last;
        }
        self.batch.push(numbered.clone());
    }

    /// Frames of the batch.
    pub fn batch_len(&self) -> usize {
        self.batch.len()
    }

    /// The batch for the other cores, all at once, and the number of the frame before it.
    pub fn take_batch(&mut self) -> Option<(Option<Place>, Arc<[Numbered]>)> {
        if self.batch.is_empty() {
            return None;
        }
        let batch = self.batch.as_slice().into();
        self.batch.clear();
        Some((self.batch_after, batch))
    }
}

/// Where a replica that joins or was late begins: everything that a core needs to serve viewers from here on.
#[derive(Clone, Debug)]
pub struct Start {
    /// What held before the first of `frames`.
    pub opening: Opening,
    /// What holds after the last of them.
    pub latest: Opening,
    /// The kept group; empty when it was let go or has not begun.
    pub frames: Arc<[Numbered]>,
    /// The number of the last frame there was, kept or not.
    pub last: Option<Place>,
}

impl Start {
    /// The start that `group` gives.
    pub fn of(group: &Group) -> Self {
        Start {
            opening: group.opening().clone(),
            latest: group.latest().clone(),
            frames: group.frames().into(),
            last: group.last(),
        }
    }
    /// The group on the other core.
    pub fn group(&self, now: Now) -> Group {
        Group::from_parts(self.opening.clone(), self.latest.clone(), &self.frames, self.last, now)
    }
}

/// What [`StreamLimits`] allow a publisher that went: until when its stream waits for it.
pub fn window_end(gone: Now, limits: &StreamLimits) -> Now {
    gone.after(limits.reconnect_window)
}
