//! From one node to another of the same process.

use super::{
    Publisher, Subscriber,
    attach::{HostError, Stop},
};

/// Carries a stream on from one node to another.
///
/// ```
/// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
/// use shardcast_shards::host::{HostError, Publisher, Relay, Stop, Subscriber};
///
/// # struct SoundOnly;
/// impl Relay for SoundOnly {
///     fn run(&mut self, mut from: Subscriber, mut to: Publisher, stop: &Stop) -> Result<(), HostError> {
///         while let Some(Ok(frame)) = stop.until(from.next()) {
///             if !frame.is_video() {
///                 stop.until(to.send(frame)).unwrap_or(Ok(()))?;
///             }
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait Relay: Send {
    /// Runs until the stream ends, or `stop` says so. Called on a thread that has nothing else to do.
    ///
    /// # Errors
    /// It cannot go on; the observers of the node that it takes the stream from are told.
    fn run(&mut self, from: Subscriber, to: Publisher, stop: &Stop) -> Result<(), HostError>;
}

/// Carries every frame on as it is: payloads are shared by both nodes, not copied. A node that cannot keep up makes the
/// relay wait, and then leave out what the other no longer keeps.
///
/// ```
/// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
/// use shardcast_shards::host::{FrameRelay, Node};
///
/// # fn packet(number: i64) -> Frame {
/// #     let time = MediaTime::from_millis(number * 20);
/// #     let payload = Payload::Audio { codec: Codec::Opus, data: bytes::Bytes::from_static(&[0xfc, 0, 0]) };
/// #     Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }
/// # }
/// # fn main() -> Result<(), shardcast_shards::host::HostError> {
/// # let node = Node::builder().start()?;
/// # let name = StreamName::parse("live/cam1")?;
/// let other = Node::builder().start()?;
/// let relay = node.relay(&name, &other.handle(), &name, FrameRelay)?;
/// # let mut subscriber = other.subscribe(&name);
/// # let mut publisher = node.publish(&name);
/// # publisher.send_blocking(packet(0))?;
/// # assert!(subscriber.next_blocking()?.is_audio());
/// relay.stop()?;
/// other.stop()?;
/// # node.stop()?;
/// # Ok(())
/// # }
/// ```
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
