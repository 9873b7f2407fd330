//! A subscriber in this process.

use std::{
    fmt,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use shardcast_engine::media::{Frame, StreamName};

use super::{
    block_on,
    feed::{At, Batch, Feed, Got, SubscribeError},
    handle::Shared,
};

/// Receives the frames of one stream from a running node, on any thread, with or without an async runtime.
///
/// It begins like any viewer: with what must be known (metadata, parameters), then all frames since the newest key frame,
/// then the stream as it comes. A stream that nobody publishes yet is waited for.
///
/// One that reads too slowly, so that what it wants next is older than `viewer_lag` or more than twice `group_bytes`,
/// goes on at the newest key frame: a [`Discontinuity`](shardcast_engine::media::Payload::Discontinuity) comes first, then
/// the parameters anew, and [`jumps`](Self::jumps) counts it. No shard ever waits for a subscriber.
///
/// ```
/// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
/// use shardcast_shards::host::Node;
///
/// # fn packet(number: i64) -> Frame {
/// #     let time = MediaTime::from_millis(number * 20);
/// #     let payload = Payload::Audio { codec: Codec::Opus, data: bytes::Bytes::from_static(&[0xfc, 0, 0]) };
/// #     Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }
/// # }
/// # fn main() -> Result<(), shardcast_shards::host::HostError> {
/// # let node = Node::builder().start()?;
/// # let name = StreamName::parse("live/cam1")?;
/// # let mut publisher = node.publish(&name);
/// # publisher.send_blocking(packet(0))?;
/// let mut subscriber = node.subscribe(&name);
/// // In a task: `subscriber.next_batch().await?`.
/// let batch = subscriber.next_batch_blocking()?;
/// assert_eq!(batch.iter().filter(|frame| frame.is_audio()).count(), 1);
/// assert_eq!(subscriber.jumps(), 0);
/// # node.stop()?;
/// # Ok(())
/// # }
/// ```
pub struct Subscriber {
    feed: Arc<Feed>,
    node: Arc<Shared>,
    seat: usize,
    at: At,
    /// What was given and is not taken yet.
    batch: Batch,
    taken: usize,
    jumps: u64,
    /// A key frame was asked for, so that it can begin.
    asked: bool,
}

impl Subscriber {
    pub(super) fn new(feed: Arc<Feed>, node: Arc<Shared>) -> Self {
        let (seat, at) = feed.sit();
        let batch = Batch::default();
        Subscriber { feed, node, seat, at, batch, taken: 0, jumps: 0, asked: false }
    }

    /// The stream.
    pub fn name(&self) -> &StreamName {
        &self.feed.name
    }

    /// How many times it was too slow, and went on at the newest key frame.
    pub fn jumps(&self) -> u64 {
        self.jumps
    }

    /// The next frame.
    ///
    /// # Errors
    /// There will be no more. What came before has been given by then.
    pub async fn next(&mut self) -> Result<Frame, SubscribeError> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`next`](Self::next), on a thread that may wait.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn next_blocking(&mut self) -> Result<Frame, SubscribeError> {
        block_on(self.next())
    }

    /// The next frame if there is one already.
    ///
    /// ```
    /// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
    /// use std::{thread, time::Duration};
    /// use shardcast_shards::host::Node;
    ///
    /// # fn packet(number: i64) -> Frame {
    /// #     let time = MediaTime::from_millis(number * 20);
    /// #     let payload = Payload::Audio { codec: Codec::Opus, data: bytes::Bytes::from_static(&[0xfc, 0, 0]) };
    /// #     Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }
    /// # }
    /// # fn main() -> Result<(), shardcast_shards::host::HostError> {
    /// # let node = Node::builder().start()?;
    /// # let name = StreamName::parse("live/cam1")?;
    /// let mut subscriber = node.subscribe(&name);
    /// // Nobody publishes yet.
    /// assert!(subscriber.try_next()?.is_none());
    /// # let mut publisher = node.publish(&name);
    /// # publisher.send_blocking(packet(0))?;
    /// // A loop that has other things to do as well.
    /// let frame = loop {
    ///     match subscriber.try_next()? {
    ///         Some(frame) => break frame,
    ///         None => thread::sleep(Duration::from_millis(1)),
    ///     }
    /// };
    /// assert!(frame.is_audio());
    /// # node.stop()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn try_next(&mut self) -> Result<Option<Frame>, SubscribeError> {
        match self.poll_next(&Context::from_waker(Waker::noop())) {
            Poll::Ready(next) => next.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// All frames that come next at once, shared with all other subscribers: the cheapest way to have every frame.
    ///
    /// ```
    /// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
    /// use shardcast_shards::host::{Node, Subscriber};
    ///
    /// # fn packet(number: i64) -> Frame {
    /// #     let time = MediaTime::from_millis(number * 20);
    /// #     let payload = Payload::Audio { codec: Codec::Opus, data: bytes::Bytes::from_static(&[0xfc, 0, 0]) };
    /// #     Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }
    /// # }
    /// /// Packets of sound from here to the end of the stream.
    /// async fn packets(mut subscriber: Subscriber) -> usize {
    ///     let mut packets = 0;
    ///     while let Ok(batch) = subscriber.next_batch().await {
    ///         packets += batch.iter().filter(|frame| frame.is_audio()).count();
    ///     }
    ///     packets
    /// }
    /// # fn main() -> Result<(), shardcast_shards::host::HostError> {
    /// # let node = Node::builder().start()?;
    /// # let name = StreamName::parse("live/cam1")?;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # let mut publisher = node.publish(&name);
    /// # publisher.send_blocking(packet(0))?;
    /// # let mut first = node.subscribe(&name);
    /// # first.next_blocking()?;
    /// let subscriber = node.subscribe(&name);
    /// node.stop()?;
    /// // What came before the end is given first.
    /// assert_eq!(runtime.block_on(packets(subscriber)), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn next_batch(&mut self) -> Result<Batch, SubscribeError> {
        poll_fn(|context| self.poll_batch(context)).await
    }

    /// As [`next_batch`](Self::next_batch), on a thread that may wait.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn next_batch_blocking(&mut self) -> Result<Batch, SubscribeError> {
        block_on(self.next_batch())
    }

    /// As [`next`](Self::next), for futures written by hand.
    ///
    /// ```
    /// use std::task::{Context, Poll, Waker};
    /// # use shardcast_engine::media::StreamName;
    /// use shardcast_shards::host::{Node, SubscribeError};
    ///
    /// # fn main() -> Result<(), shardcast_shards::host::HostError> {
    /// # let node = Node::builder().start()?;
    /// # let name = StreamName::parse("live/cam1")?;
    /// let mut subscriber = node.subscribe(&name);
    /// // The waker is woken when it is worth another look.
    /// let context = Context::from_waker(Waker::noop());
    /// assert!(subscriber.poll_next(&context).is_pending());
    /// node.stop()?;
    /// assert!(matches!(subscriber.poll_next(&context), Poll::Ready(Err(SubscribeError::Stopped))));
    /// # Ok(())
    /// # }
    /// ```
    pub fn poll_next(&mut self, context: &Context<'_>) -> Poll<Result<Frame, SubscribeError>> {
        loop {
            if let Some(frame) = self.batch.get(self.taken) {
                self.taken += 1;
                return Poll::Ready(Ok(frame.clone()));
            }
            match self.poll_feed(context) {
                Poll::Ready(Ok(batch)) => (self.batch, self.taken) = (batch, 0),
                Poll::Ready(Err(over)) => return Poll::Ready(Err(over)),
                Poll::Pending => {
                    // What has been given is not kept while the stream pauses.
                    (self.batch, self.taken) = (Batch::default(), 0);
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_batch(&mut self, context: &Context<'_>) -> Poll<Result<Batch, SubscribeError>> {
        let rest = std::mem::take(&mut self.batch);
        match std::mem::take(&mut self.taken) {
            _ if rest.is_empty() => self.poll_feed(context),
            0 => Poll::Ready(Ok(rest)),
            taken if taken < rest.len() => Poll::Ready(Ok(rest.after(taken))),
            _ => self.poll_feed(context),
        }
    }

    fn poll_feed(&mut self, context: &Context<'_>) -> Poll<Result<Batch, SubscribeError>> {
        let polled = self.feed.poll(self.seat, &mut self.at, context);
        let has_begun = !matches!(self.at, At::Outside | At::Before(0));
        if polled.is_pending() && !has_begun && !self.asked && self.feed.wants_keyframe() {
            self.asked = true;
            self.node.want_keyframe(&self.feed.name);
        }
        polled.map_ok(|got| match got {
            Got::Start(batch) | Got::Next(batch) => batch,
            Got::Jump(batch) => {
                self.jumps += 1;
                batch
            }
        })
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.node.unsubscribe(&self.feed, self.seat);
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscriber({}, {:?}, {} jumps)", self.feed.name, self.at, self.jumps)
    }
}
