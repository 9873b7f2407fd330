//! Into the node, and never waiting for it: what a busy shard does not take is left out up to the next key frame.

use shardcast_engine::media::{Frame, Payload, TrackId};

use super::counters::Counters;
use crate::host::{PublishError, Publisher, TrySendError};

/// Gives frames to a publisher.
pub(super) struct Valve<'a> {
    publisher: Publisher,
    counters: &'a Counters,
    /// A picture was left out, and those that follow it need it.
    closed: bool,
    /// Parameters that were not taken: the newest of each track. They go before what comes next of it.
    parameters: [Option<Frame>; 2],
}

impl Valve<'_> {
    pub fn new(publisher: Publisher, counters: &Counters) -> Valve<'_> {
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
        match self.publisher.try_send(frame) {
            Ok(()) => Ok(None),
            Err(TrySendError::Full(frame)) => Ok(Some(frame)),
            Err(TrySendError::Closed(why)) => Err(why),
        }
    }
}
