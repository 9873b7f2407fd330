//! What is true of a stream's frames, for those who judge how it was packaged.

use std::time::Duration;

use shardcast_engine::{media::StreamName, time::Now};

use super::{Judge, Stamp};

impl Judge {
    /// Which life the stream is in. Packagings of one life are about the same frames.
    pub fn life_of(&self, stream: &StreamName) -> u32 {
        self.streams.get(stream).map_or(0, |truth| truth.life)
    }

    /// Whether a frame is a picture, and its place among all of its kind.
    pub fn ordinal_of(&self, stream: &StreamName, stamp: Stamp) -> Option<(bool, u64)> {
        let index = self.place_of(stream, stamp)?;
        let truth = self.streams.get(stream)?;
        let ordinal = truth.frames[index].ordinal;
        let video = truth.kinds[1].get(usize::try_from(ordinal).ok()?) == Some(&index);
        Some((video, ordinal))
    }

    /// Frames of a kind that came after one of them, in the same life.
    fn after(&self, stream: &StreamName, video: bool, ordinal: u64) -> &[usize] {
        let Some(truth) = self.streams.get(stream) else { return &[] };
        let kind = &truth.kinds[usize::from(video)];
        let Some(place) = usize::try_from(ordinal).ok().filter(|place| *place < kind.len()) else {
            return &[];
        };
        let life = truth.frames[kind[place]].life;
        let rest = &kind[place + 1..];
        let count = rest.iter().take_while(|index| truth.frames[**index].life == life).count();
        &rest[..count]
    }

    /// How many frames of a kind came after one of them, in the same life.
    pub fn count_after(&self, stream: &StreamName, video: bool, ordinal: u64) -> usize {
        self.after(stream, video, ordinal).len()
    }

    /// How long those frames are, as far as one publisher's clock tells.
    pub fn length_after(&self, stream: &StreamName, video: bool, ordinal: u64) -> Option<Duration> {
        let after = self.after(stream, video, ordinal);
        let (first, last) = (after.first()?, after.last()?);
        let frames = &self.streams.get(stream)?.frames;
        let (first, last) = (&frames[*first], &frames[*last]);
        let millis = u64::try_from(last.dts_millis - first.dts_millis).ok()?;
        let jumped = first.stamp.publisher != last.stamp.publisher || millis > JUMP_MILLIS;
        (!jumped).then(|| Duration::from_millis(millis))
    }

    /// Bytes and frames of a stream that came while it was busy for the last `time`. A pause is not counted.
    pub fn newest(&self, stream: &StreamName, time: Duration) -> (usize, usize) {
        let Some(truth) = self.streams.get(stream) else { return (0, 0) };
        let (mut bytes, mut frames, mut busy) = (0, 0, Duration::ZERO);
        let mut later: Option<Now> = None;
        for taken in truth.frames.iter().rev() {
            let step = later.map_or(Duration::ZERO, |later| later.since(taken.at));
            busy += step.min(STEP_MAX);
            if busy > time {
                break;
            }
            later = Some(taken.at);
            bytes += taken.bytes;
            frames += 1;
        }
        (bytes, frames)
    }

    /// The streams that there are or were.
    pub fn names(&self) -> impl Iterator<Item = &StreamName> {
        self.streams.keys()
    }
}

/// A longer step of a publisher's clock says nothing about how long its frames are.
const JUMP_MILLIS: u64 = 60_000;
/// Frames that are further apart have a pause between them.
const STEP_MAX: Duration = Duration::from_millis(100);
