//! From one node to another of the same process.

use super::{
    Publisher, Subscriber,
    attach::{HostError, Stop},
};

/// Carries a stream on from one node to another.
pub trait Relay: Send {
    /// Runs until the stream ends, or `stop` says so. Called on a thread that has nothing else to do.
    ///
    /// # Errors
    /// It cannot go on; the observers of the node that it takes the stream from are told.
    fn run(&mut self, from: Subscriber, to: Publisher, stop: &Stop) -> Result<(), HostError>;
}

/// Carries every frame on as it is: payloads are shared by both nodes, not copied. A node that cannot keep up makes the
/// relay wait, and then leave out what the other no longer keeps.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameRelay;

impl Relay for FrameRelay {
    fn run(&mut self, mut from: Subscriber, mut to: Publisher, stop: &Stop) -> Result<(), HostError> {
        while let Some(Ok(batch)) = stop.until(from.next_batch()) {
            for frame in batch.iter() {
                match stop.until(to.send(frame.clone())) {
                    Some(sent) => sent?,
                    None => return Ok(()),
                }
            }
        }
        Ok(())
    }
}
