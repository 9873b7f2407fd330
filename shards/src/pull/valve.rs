//! Into the node, and never waiting for it: what a busy shard does not take is left out up to the next key frame.

use shardcast_engine::media::{Frame, Payload, TrackId};

use super::counters::Counters;
use crate::host::{PublishError, Publisher, TrySendError};

/// Whoever takes frames, or has no room.
pub(super) trait Taker {
    fn take(&mut self, frame: Frame) -> Result<(), TrySendError>;
}

impl Taker for Publisher {
    fn take(&mut self, frame: Frame) -> Result<(), TrySendError> {
        self.try_send(frame)
    }
}

/// Gives frames to a publisher.
pub(super) struct Valve<'a, T> {
    publisher: T,
    counters: &'a Counters,
    /// A picture was left out, and those that follow it need it.
    closed: bool,
    /// Parameters that were not taken: the newest of each track. They go before what comes next of it.
    parameters: [Option<Frame>; 2],
}

impl<'a, T: Taker> Valve<'a, T> {
    pub fn new(publisher: T, counters: &'a Counters) -> Self {
        Valve { publisher, counters, closed: false, parameters: [None, None] }
    }

    /// Gives the frame, or leaves it out.
    ///
    /// # Errors
    /// The stream is not this publisher's any more.
    pub fn give(&mut self, frame: Frame) -> Result<(), PublishError> {
        let place = usize::from(frame.track != TrackId::VIDEO);
        if matches!(frame.payload, Payload::Parameters(_)) {
            self.parameters[place] = Some(frame);
            self.give_parameters(place)?;
            return Ok(());
        }
        let (is_video, is_key) = (frame.is_video(), frame.is_key());
        let wanted = !is_video || is_key || !self.closed;
        let taken = wanted && self.give_parameters(place)? && self.push(frame)?.is_none();
        if is_video {
            self.closed = !taken;
        }
        if !taken {
            self.counters.dropped();
        }
        Ok(())
    }

    /// True when none of the track wait any more.
    fn give_parameters(&mut self, place: usize) -> Result<bool, PublishError> {
        let Some(frame) = self.parameters[place].take() else { return Ok(true) };
        self.parameters[place] = self.push(frame)?;
        Ok(self.parameters[place].is_none())
    }

    /// The frame again if there is no room.
    fn push(&mut self, frame: Frame) -> Result<Option<Frame>, PublishError> {
        match self.publisher.take(frame) {
            Ok(()) => Ok(None),
            Err(TrySendError::Full(frame)) => Ok(Some(frame)),
            Err(TrySendError::Closed(why)) => Err(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use shardcast_engine::{
        codec::{Codec, Parameters},
        media::StreamName,
        time::MediaTime,
    };

    use super::*;

    /// Has room for so many frames, and writes down what it takes.
    #[derive(Default)]
    struct Shelf {
        room: usize,
        taken: String,
    }

    impl Taker for &mut Shelf {
        fn take(&mut self, frame: Frame) -> Result<(), TrySendError> {
            if self.room == 0 {
                return Err(TrySendError::Full(frame));
            }
            self.room -= 1;
            self.taken.push(match &frame.payload {
                Payload::Parameters(_) => 'P',
                Payload::Video { key: true, .. } => 'K',
                Payload::Video { .. } => 'v',
                _ => 'a',
            });
            Ok(())
        }
    }

    fn frame(word: char) -> Frame {
        let time = MediaTime::from_millis(0);
        let data = Bytes::from_static(&[0, 0, 0, 2, 0x65, 0x88]);
        let (track, payload) = match word {
            'P' => (TrackId::VIDEO, Payload::Parameters(Arc::new(Parameters::of_opus(2)))),
            'a' => (TrackId::AUDIO, Payload::Audio { codec: Codec::Opus, data }),
            word => (TrackId::VIDEO, Payload::Video { codec: Codec::H264, key: word == 'K', data }),
        };
        Frame { track, dts: time, pts: time, payload }
    }

    #[test]
    fn what_is_not_taken_is_left_out_up_to_the_next_key_frame_and_parameters_are_not() {
        let counters = Counters::new(StreamName::parse("cam/yard").unwrap());
        let mut shelf = Shelf::default();
        let mut valve = Valve::new(&mut shelf, &counters);
        // A number is how much room there is from there on.
        for word in "4PKvavPa9vaKva".chars() {
            match word.to_digit(10) {
                Some(room) => valve.publisher.room = room as usize,
                None => valve.give(frame(word)).unwrap(),
            }
        }
        assert_eq!(shelf.taken, "PKvaaPKva");
        assert_eq!(counters.read().frames_dropped, 3);
    }
}
