//! A publisher in this process.

use std::{
    fmt,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use shardcast_engine::{
    media::{Frame, StreamName},
    session::Refusal,
};
use shardcast_io::lane::Sender;

use super::{
    block_on,
    door::{Door, Word},
    way::{Standing, Way},
};

/// Sends the frames of one stream into a running node, from any thread, with or without an async runtime.
///
/// The stream is this publisher's until it is dropped: what it has sent by then is still delivered, then the stream waits
/// for its `reconnect_window`, as for any publisher that went. Dropping it ends nothing that another has begun since.
///
/// A node that cannot keep up makes [`send`](Self::send) wait, once [`FRAMES_MAX`](super::FRAMES_MAX) frames or
/// [`BYTES_MAX`](super::BYTES_MAX) bytes are on their way. No shard ever waits for a publisher.
///
/// ```
/// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
/// # use shardcast_engine::session::Refusal;
/// use shardcast_shards::host::{Node, PublishError, TrySendError};
///
/// # fn packet(number: i64) -> Frame {
/// #     let time = MediaTime::from_millis(number * 20);
/// #     let payload = Payload::Audio { codec: Codec::Opus, data: bytes::Bytes::from_static(&[0xfc, 0, 0]) };
/// #     Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }
/// # }
/// # fn main() -> Result<(), shardcast_shards::host::HostError> {
/// # let node = Node::builder().start()?;
/// # let name = StreamName::parse("live/cam1")?;
/// let mut publisher = node.publish(&name);
/// publisher.granted_blocking()?;
/// match publisher.try_send(packet(0)) {
///     Ok(()) => {}
///     // Too much is on its way already: this waits for room, and `send` does so in a task.
///     Err(TrySendError::Full(frame)) => publisher.send_blocking(frame)?,
///     Err(TrySendError::Closed(why)) => return Err(why.into()),
/// }
/// let second = node.publish(&name).granted_blocking();
/// assert_eq!(second, Err(PublishError::Refused(Refusal::AlreadyLive)));
/// # node.stop()?;
/// # Ok(())
/// # }
/// ```
pub struct Publisher {
    name: StreamName,
    way: Arc<Way>,
    /// `None` only while it is dropped.
    lane: Option<Sender<Frame>>,
    door: Arc<Door>,
}

/// Why a publisher cannot send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// The node did not grant the stream.
    Refused(Refusal),
    /// The stream was this publisher's and is no more: another took over, it sent nothing for `publisher_idle`, or the
    /// node goes down.
    Closed,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PublishError::Refused(why) => write!(f, "refused: {}", why.why()),
            PublishError::Closed => f.write_str("the node has closed this publisher"),
        }
    }
}

impl std::error::Error for PublishError {}

/// Why a frame was not taken at once.
#[derive(Debug)]
pub enum TrySendError {
    /// Too much is on its way; here is the frame back.
    Full(Frame),
    /// It never will be.
    Closed(PublishError),
}

impl Publisher {
    pub(super) fn new(name: StreamName, way: Arc<Way>, lane: Sender<Frame>, door: Arc<Door>) -> Self {
        Publisher { name, way, lane: Some(lane), door }
    }

    /// The stream.
    pub fn name(&self) -> &StreamName {
        &self.name
    }

    /// Returns when the stream is this publisher's. Sending need not wait for it: frames are taken before, and kept until
    /// the node has answered.
    ///
    /// # Errors
    /// It is not to be.
    pub async fn granted(&mut self) -> Result<(), PublishError> {
        poll_fn(|context| self.poll_granted(context)).await
    }

    /// As [`granted`](Self::granted), on a thread that may wait.
    ///
    /// # Errors
    /// As [`granted`](Self::granted).
    pub fn granted_blocking(&mut self) -> Result<(), PublishError> {
        block_on(self.granted())
    }

    /// Sends a frame; waits while too much is on its way. What it waits for is given up when the future is dropped, and
    /// the frame with it.
    ///
    /// # Errors
    /// The stream is not this publisher's, or no more. The frame is lost.
    pub async fn send(&mut self, frame: Frame) -> Result<(), PublishError> {
        let mut frame = Some(frame);
        poll_fn(|context| self.poll_send(&mut frame, context)).await
    }

    /// As [`send`](Self::send), on a thread that may wait.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_blocking(&mut self, frame: Frame) -> Result<(), PublishError> {
        block_on(self.send(frame))
    }

    /// Sends a frame if it may go at once.
    ///
    /// # Errors
    /// Too much is on its way, or the stream is not this publisher's.
    pub fn try_send(&mut self, frame: Frame) -> Result<(), TrySendError> {
        if let Err(error) = self.standing() {
            return Err(TrySendError::Closed(error));
        }
        self.push(frame).map_err(TrySendError::Full)
    }

    /// Whether a viewer waits for a key frame, since the last call. An encoder that can make one at any time should.
    ///
    /// ```
    /// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
    /// use std::{thread, time::{Duration, Instant}};
    /// use shardcast_shards::host::Node;
    ///
    /// # fn key_frame() -> Frame {
    /// #     let time = MediaTime::from_millis(0);
    /// #     let data = bytes::Bytes::from_static(&[0, 0, 0, 2, 0x65, 0x88]);
    /// #     let payload = Payload::Video { codec: Codec::H264, key: true, data };
    /// #     Frame { track: TrackId::VIDEO, dts: time, pts: time, payload }
    /// # }
    /// # fn main() -> Result<(), shardcast_shards::host::HostError> {
    /// # let node = Node::builder().start()?;
    /// # let name = StreamName::parse("live/cam1")?;
    /// let mut publisher = node.publish(&name);
    /// publisher.granted_blocking()?;
    /// let mut subscriber = node.subscribe(&name);
    /// # let began = Instant::now();
    /// while !publisher.take_keyframe_wanted() {
    ///     // There is nothing yet that it could begin at.
    ///     assert!(subscriber.try_next()?.is_none());
    ///     # assert!(began.elapsed() < Duration::from_secs(30), "a key frame is wanted");
    ///     thread::sleep(Duration::from_millis(1));
    /// }
    /// publisher.send_blocking(key_frame())?;
    /// while !subscriber.next_blocking()?.is_key() {}
    /// # node.stop()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn take_keyframe_wanted(&mut self) -> bool {
        self.way.take_keyframe_wanted()
    }

    /// Returns when a viewer waits for a key frame.
    ///
    /// ```
    /// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
    /// # use shardcast_engine::session::Refusal;
    /// use shardcast_shards::host::{Node, PublishError, Publisher};
    ///
    /// /// Sends a key frame whenever somebody waits for one, for as long as the node takes it.
    /// async fn on_demand(mut publisher: Publisher, key_frame: fn() -> Frame) -> Result<(), PublishError> {
    ///     publisher.granted().await?;
    ///     loop {
    ///         publisher.keyframe_wanted().await?;
    ///         publisher.send(key_frame()).await?;
    ///     }
    /// }
    /// # fn main() -> Result<(), shardcast_shards::host::HostError> {
    /// # let node = Node::builder().start()?;
    /// # let name = StreamName::parse("live/cam1")?;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # let mut first = node.publish(&name);
    /// # first.granted_blocking()?;
    /// # fn key_frame() -> Frame { unreachable!("the stream is another's") }
    /// // The stream is another's.
    /// let sent = runtime.block_on(on_demand(node.publish(&name), key_frame));
    /// assert_eq!(sent, Err(PublishError::Refused(Refusal::AlreadyLive)));
    /// # node.stop()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The stream is not this publisher's, or no more.
    pub async fn keyframe_wanted(&mut self) -> Result<(), PublishError> {
        poll_fn(|context| {
            self.way.wait(context.waker());
            if self.way.take_keyframe_wanted() {
                return Poll::Ready(Ok(()));
            }
            match self.standing() {
                Ok(_) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            }
        })
        .await
    }

    /// Whether the stream is granted already.
    fn standing(&self) -> Result<bool, PublishError> {
        match self.way.standing() {
            Standing::Asking => Ok(false),
            Standing::Granted => Ok(true),
            Standing::Refused(why) => Err(PublishError::Refused(why)),
            Standing::Closed => Err(PublishError::Closed),
        }
    }

    fn poll_granted(&mut self, context: &Context<'_>) -> Poll<Result<(), PublishError>> {
        self.way.wait(context.waker());
        match self.standing() {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_send(
        &mut self,
        frame: &mut Option<Frame>,
        context: &Context<'_>,
    ) -> Poll<Result<(), PublishError>> {
        // Twice: the second look comes after the node knows that this publisher waits.
        for waits in [false, true] {
            if waits {
                self.way.wait(context.waker());
                self.way.want_room();
            }
            if let Err(error) = self.standing() {
                return Poll::Ready(Err(error));
            }
            let Some(waiting) = frame.take() else { return Poll::Ready(Ok(())) };
            match self.push(waiting) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(full) => *frame = Some(full),
            }
        }
        Poll::Pending
    }

    fn push(&mut self, frame: Frame) -> Result<(), Frame> {
        let Some(lane) = &mut self.lane else { return Err(frame) };
        let bytes = frame.payload_bytes();
        if !self.way.has_room(lane, bytes) {
            return Err(frame);
        }
        self.way.count(bytes);
        let pushed = lane.push(frame);
        debug_assert!(pushed.is_ok(), "there was room, and nobody else pushes");
        if self.way.must_tell() {
            self.door.say(Word::Look(self.way.number));
        }
        Ok(())
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // The lane first, so that the shard finds it left when it looks.
        self.lane = None;
        // Nobody is to be woken any more, and the host's waker is not kept until the shard has looked.
        self.way.take_waker();
        self.door.say(Word::Leave(self.way.number));
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Publisher({}, {:?})", self.name, self.way.standing())
    }
}
