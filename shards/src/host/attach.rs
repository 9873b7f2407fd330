//! What a host lets run beside its node, each on a thread of its own: sources and sinks of frames.

use std::{
    any::Any,
    error::Error,
    fmt,
    future::{Future, poll_fn},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
    thread::JoinHandle,
};

use shardcast_engine::media::{Frame, StreamName};

use super::{Handle, Publisher, Subscriber, block_on, lock};

/// What goes wrong in a host's own code.
pub type HostError = Box<dyn Error + Send + Sync>;

/// Gives the frames of a stream, one after the other, when it is asked for the next.
///
/// It has a thread of its own, and may wait as long as it likes. The node asks no faster than it takes frames; a source
/// that would rather push has a [`Publisher`].
///
/// ```
/// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
/// use shardcast_shards::host::{HostError, MediaSource, Node};
///
/// # fn packet(number: i64) -> Frame {
/// #     let time = MediaTime::from_millis(number * 20);
/// #     let payload = Payload::Audio { codec: Codec::Opus, data: bytes::Bytes::from_static(&[0xfc, 0, 0]) };
/// #     Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }
/// # }
/// /// So many packets of silence.
/// struct Silence(i64);
///
/// impl MediaSource for Silence {
///     fn next(&mut self) -> Result<Option<Frame>, HostError> {
///         self.0 -= 1;
///         Ok((self.0 >= 0).then(|| packet(50 - self.0)))
///     }
/// }
/// # fn main() -> Result<(), shardcast_shards::host::HostError> {
/// # let node = Node::builder().start()?;
/// # let name = StreamName::parse("live/cam1")?;
/// # let mut subscriber = node.subscribe(&name);
/// node.pull(&name, Silence(50))?.wait()?;
/// # for _ in 0..50 {
/// #     assert!(subscriber.next_blocking()?.is_audio());
/// # }
/// # node.stop()?;
/// # Ok(())
/// # }
/// ```
pub trait MediaSource: Send {
    /// The next frame; `None` when there will be no more.
    ///
    /// # Errors
    /// It cannot go on. The node's observers are told why, and the stream waits for another publisher.
    fn next(&mut self) -> Result<Option<Frame>, HostError>;

    /// Somebody waits for a key frame: one that can make one should.
    fn keyframe_wanted(&mut self) {}
}

/// Takes the frames of a stream.
///
/// It has a thread of its own. One that is too slow goes on at the newest key frame, as every viewer does, and is told.
///
/// ```
/// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
/// use std::sync::mpsc;
/// use shardcast_shards::host::{HostError, MediaSink, Node};
///
/// # fn packet(number: i64) -> Frame {
/// #     let time = MediaTime::from_millis(number * 20);
/// #     let payload = Payload::Audio { codec: Codec::Opus, data: bytes::Bytes::from_static(&[0xfc, 0, 0]) };
/// #     Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }
/// # }
/// struct Sizes(mpsc::Sender<usize>);
///
/// impl MediaSink for Sizes {
///     fn frame(&mut self, frame: &Frame) -> Result<(), HostError> {
///         Ok(self.0.send(frame.payload_bytes())?)
///     }
/// }
/// # fn main() -> Result<(), shardcast_shards::host::HostError> {
/// # let node = Node::builder().start()?;
/// # let name = StreamName::parse("live/cam1")?;
/// # let (told, sizes) = mpsc::channel();
/// let sink = node.feed(&name, Sizes(told))?;
/// # let mut publisher = node.publish(&name);
/// # publisher.send_blocking(packet(0))?;
/// # assert_eq!(sizes.recv()?, 3);
/// sink.stop()?;
/// # node.stop()?;
/// # Ok(())
/// # }
/// ```
pub trait MediaSink: Send {
    /// The next frame. The first ones say what must be known: metadata and parameters.
    ///
    /// # Errors
    /// It cannot go on. The node's observers are told why, and it is given no more.
    fn frame(&mut self, frame: &Frame) -> Result<(), HostError>;

    /// It was too slow: what comes next is a discontinuity, and what lay before it was left out.
    fn jumped(&mut self) {}

    /// There will be no more: the stream has ended, or the node, or whoever attached it wants no more.
    fn ended(&mut self) {}
}

/// Something that runs beside a node. Dropping it stops it, and does not wait for its end: what it is in the middle of may
/// take as long as it will.
///
/// ```
/// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
/// # use shardcast_shards::host::{HostError, MediaSink, Node};
/// use shardcast_shards::host::Attached;
///
/// # struct Ignore;
/// # impl MediaSink for Ignore {
/// #     fn frame(&mut self, _: &Frame) -> Result<(), HostError> { Ok(()) }
/// # }
/// # fn main() -> Result<(), shardcast_shards::host::HostError> {
/// # let node = Node::builder().start()?;
/// # let name = StreamName::parse("live/cam1")?;
/// // They run for as long as the program keeps them.
/// let running: Vec<Attached> = vec![node.feed(&name, Ignore)?, node.feed(&name, Ignore)?];
/// assert!(running.iter().all(|attached| !attached.is_finished()));
/// for attached in running {
///     // What went wrong in it comes back.
///     attached.stop()?;
/// }
/// # node.stop()?;
/// # Ok(())
/// # }
/// ```
pub struct Attached {
    stop: Stop,
    thread: Option<JoinHandle<Result<(), HostError>>>,
}

/// Tells something that runs beside a node that it shall end.
///
/// ```
/// use shardcast_shards::host::Stop;
///
/// let stop = Stop::default();
/// assert!(!stop.is_set());
/// assert_eq!(stop.until(std::future::ready(7)), Some(7));
/// ```
#[derive(Clone, Default)]
pub struct Stop(Arc<Stopping>);

#[derive(Default)]
struct Stopping {
    set: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Stop {
    /// Whether it shall end.
    pub fn is_set(&self) -> bool {
        self.0.set.load(Ordering::Acquire)
    }

    /// Waits for `future` on a thread that may; `None` when it shall end before. One thread at a time.
    pub fn until<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        block_on(poll_fn(|context| {
            *lock(&self.0.waker) = Some(context.waker().clone());
            if self.is_set() {
                return Poll::Ready(None);
            }
            future.as_mut().poll(context).map(Some)
        }))
    }

    fn set(&self) {
        self.0.set.store(true, Ordering::Release);
        if let Some(waker) = lock(&self.0.waker).take() {
            waker.wake();
        }
    }
}

impl Attached {
    /// Runs `work` on a thread of this name. What goes wrong in it is told to the node's observers, as an alarm about
    /// `stream`.
    pub(crate) fn start(
        node: &Handle,
        stream: &StreamName,
        name: &str,
        work: impl FnOnce(&Stop) -> Result<(), HostError> + Send + 'static,
    ) -> io::Result<Attached> {
        let stop = Stop::default();
        let (told, node, stream, what) = (stop.clone(), node.clone(), stream.clone(), name.to_owned());
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(|| work(&told)));
            let result = result.unwrap_or_else(|panic| Err(words_of(&*panic).into()));
            if let Err(error) = &result {
                node.alarm(Some(&stream), &format!("the {what} has failed: {error}"));
            }
            result
        })?;
        Ok(Attached { stop, thread: Some(thread) })
    }

    /// Whether it has ended by itself, or has stopped.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// What went wrong in it.
    pub fn wait(mut self) -> Result<(), HostError> {
        self.join()
    }

    /// Stops it, and waits for its end.
    ///
    /// # Errors
    /// What went wrong in it.
    pub fn stop(mut self) -> Result<(), HostError> {
        self.stop.set();
        self.join()
    }

    fn join(&mut self) -> Result<(), HostError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|panic| Err(words_of(&*panic).into()))
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.stop.set();
    }
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_finished() { "Attached(finished)" } else { "Attached" })
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stop({})", self.is_set())
    }
}

/// Publishes what a source gives, until it gives no more.
pub(super) fn pull(
    source: &mut dyn MediaSource,
    mut publisher: Publisher,
    stop: &Stop,
) -> Result<(), HostError> {
    while !stop.is_set() {
        if publisher.take_keyframe_wanted() {
            source.keyframe_wanted();
        }
        let Some(frame) = source.next()? else { break };
        match stop.until(publisher.send(frame)) {
            Some(sent) => sent?,
            None => break,
        }
    }
    Ok(())
}

/// Gives a sink what is published, until it is stopped.
pub(super) fn feed(
    sink: &mut dyn MediaSink,
    mut subscriber: Subscriber,
    stop: &Stop,
) -> Result<(), HostError> {
    let mut jumps = 0;
    while let Some(Ok(batch)) = stop.until(subscriber.next_batch()) {
        if subscriber.jumps() > jumps {
            jumps = subscriber.jumps();
            sink.jumped();
        }
        for frame in batch.iter() {
            sink.frame(frame)?;
        }
    }
    sink.ended();
    Ok(())
}

/// What a panic said.
pub(super) fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", text.unwrap_or("no word"))
}
