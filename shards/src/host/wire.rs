//! A subscriber that wants bytes.

use std::{
    fmt,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use shardcast_engine::{media::StreamName, session::Form};

use super::{
    block_on,
    feed::{At, Feed, SubscribeError},
    handle::Shared,
};

/// Receives one stream in a wire form, as a viewer of a door would: FLV, say, for the pipe of a child process.
///
/// It begins with the form's head and what must be known, at the newest key frame. What is muxed is shared by all who want
/// the same form of the same stream. One that reads too slowly goes on at the newest key frame, like a
/// [`Subscriber`](super::Subscriber): the bytes between two frames stay whole, and [`jumps`](Self::jumps) counts it.
///
/// ```
/// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
/// use std::io::{self, Write};
/// use shardcast_engine::flv;
/// use shardcast_shards::host::{Node, WireSubscriber};
///
/// /// Writes a stream to a pipe until it ends.
/// fn pipe(mut wire: WireSubscriber, mut out: impl Write) -> io::Result<()> {
///     while let Ok(bytes) = wire.next_blocking() {
///         out.write_all(&bytes)?;
///     }
///     Ok(())
/// }
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
/// let mut wire = node.subscribe_wire(&name, &flv::FORM);
/// let bytes = wire.next_blocking()?;
/// assert!(bytes.starts_with(b"FLV"));
/// let wire = node.subscribe_wire(&name, &flv::FORM);
/// node.stop()?;
/// pipe(wire, io::sink())?;
/// # Ok(())
/// # }
/// ```
pub struct WireSubscriber {
    feed: Arc<Feed>,
    node: Arc<Shared>,
    form: &'static Form,
    seat: usize,
    at: At,
    jumps: u64,
    asked: bool,
}

impl WireSubscriber {
    pub(super) fn new(feed: Arc<Feed>, node: Arc<Shared>, form: &'static Form) -> Self {
        let (seat, at) = feed.sit_outside();
        feed.mux(form);
        WireSubscriber { feed, node, form, seat, at, jumps: 0, asked: false }
    }

    /// The stream.
    pub fn name(&self) -> &StreamName {
        &self.feed.name
    }

    /// How many times it was too slow, and went on at the newest key frame.
    pub fn jumps(&self) -> u64 {
        self.jumps
    }

    /// The next bytes, whole frames of the form; never empty.
    ///
    /// # Errors
    /// There will be no more. What came before has been given by then.
    pub async fn next(&mut self) -> Result<Bytes, SubscribeError> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`next`](Self::next), on a thread that may wait.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn next_blocking(&mut self) -> Result<Bytes, SubscribeError> {
        block_on(self.next())
    }

    /// As [`next`](Self::next), for futures written by hand.
    ///
    /// ```
    /// use std::task::{Context, Poll, Waker};
    /// # use shardcast_engine::media::StreamName;
    /// use shardcast_engine::flv;
    /// use shardcast_shards::host::{Node, SubscribeError};
    ///
    /// # fn main() -> Result<(), shardcast_shards::host::HostError> {
    /// # let node = Node::builder().start()?;
    /// # let name = StreamName::parse("live/cam1")?;
    /// let mut wire = node.subscribe_wire(&name, &flv::FORM);
    /// // The waker is woken when it is worth another look.
    /// let context = Context::from_waker(Waker::noop());
    /// assert!(wire.poll_next(&context).is_pending());
    /// node.stop()?;
    /// assert_eq!(wire.poll_next(&context), Poll::Ready(Err(SubscribeError::Stopped)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn poll_next(&mut self, context: &Context<'_>) -> Poll<Result<Bytes, SubscribeError>> {
        loop {
            match self.feed.poll_wire(self.seat, &mut self.at, self.form, context) {
                Poll::Ready(Ok((bytes, jumped))) => {
                    self.jumps += u64::from(jumped);
                    if !bytes.is_empty() {
                        return Poll::Ready(Ok(bytes));
                    }
                }
                Poll::Ready(Err(over)) => return Poll::Ready(Err(over)),
                Poll::Pending => {
                    if self.at == At::Outside && !self.asked && self.feed.wants_keyframe() {
                        self.asked = true;
                        self.node.want_keyframe(&self.feed.name);
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}

impl Drop for WireSubscriber {
    fn drop(&mut self) {
        self.feed.stop_mux(self.form);
        self.node.unsubscribe(&self.feed, self.seat);
    }
}

impl fmt::Debug for WireSubscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "WireSubscriber({} as {:?}, {:?}, {} jumps)",
            self.feed.name, self.form, self.at, self.jumps
        )
    }
}
