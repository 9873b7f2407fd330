//! A node inside another program: frames in and out of it, from the program's own threads or async runtime.
//!
//! ```
//! use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
//! use shardcast_shards::host::Node;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let node = Node::builder().start()?;
//! let name = StreamName::parse("live/cam1")?;
//! let mut publisher = node.publish(&name);
//! let mut subscriber = node.subscribe(&name);
//! let data = bytes::Bytes::from_static(&[0xfc, 1, 2, 3]);
//! let time = MediaTime::from_millis(0);
//! let payload = Payload::Audio { codec: Codec::Opus, data: data.clone() };
//! publisher.send_blocking(Frame { track: TrackId::AUDIO, dts: time, pts: time, payload })?;
//! let frame = subscriber.next_blocking()?;
//! assert!(matches!(frame.payload, Payload::Audio { data: heard, .. } if heard == data));
//! node.stop()?;
//! # Ok(())
//! # }
//! ```
//!
//! Whatever comes in here can be watched by every door of the node, and whatever comes in by a door can be had here. A
//! node has no global state: several may live in one process.

mod attach;
mod audit;
#[cfg(feature = "server")]
mod beside;
mod bridge;
mod builder;
mod door;
mod events;
mod feed;
mod handle;
mod health;
#[cfg(feature = "libsrt")]
mod passage;
mod publisher;
mod relay;
mod subscriber;
mod transcoder;
mod way;
mod wire;

use std::{
    fmt,
    future::Future,
    io,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
    thread::{JoinHandle, Thread},
    time::{Duration, Instant},
};

use shardcast_engine::{media::StreamName, session::Form, settings::Settings};
use tokio::sync::oneshot::{self, error::TryRecvError};

#[cfg(feature = "server")]
pub(crate) use self::beside::Beside;
pub(crate) use self::door::{Door, Entry, Guests, Word};
#[cfg(feature = "libsrt")]
pub(crate) use self::passage::Passage;
use self::{attach::words_of, health::Check};
pub use self::{
    attach::{Attached, HostError, MediaSink, MediaSource, Stop},
    audit::{AuditLog, AuditRecord, AuditSink},
    builder::NodeBuilder,
    events::{EVENTS_MAX, Events, Observer, StreamEvent},
    feed::{Batch, SubscribeError},
    handle::Handle,
    health::{Health, HealthCheck, StorageCheck},
    publisher::{PublishError, Publisher, TrySendError},
    relay::{FrameRelay, Relay},
    subscriber::Subscriber,
    transcoder::{Ffmpeg, Transcoder},
    way::{BYTES_MAX, FRAMES_MAX},
    wire::WireSubscriber,
};
use crate::chance;
use crate::control::{
    link::{Link, Phase, Report, Request, ShardThread, Snapshot},
    metrics,
};

/// How long [`Node::stop`] tries to reach a shard that takes no requests.
const TELL_RETRY: Duration = Duration::from_millis(5);

/// A running node.
///
/// Dropping it is like [`stop`](Self::stop): it waits until recordings are closed and all threads have ended.
///
/// ```
/// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
/// use std::time::Duration;
/// use shardcast_shards::host::Node;
///
/// # fn main() -> Result<(), shardcast_shards::host::HostError> {
/// # let node = Node::builder().start()?;
/// # let name = StreamName::parse("live/cam1")?;
/// let health = node.health(Duration::from_secs(2));
/// assert!(health[0].name == "shards" && health[0].result.is_ok());
/// assert!(node.metrics(Duration::from_secs(2)).contains("shardcast_shards 1"));
/// # node.stop()?;
/// # Ok(())
/// # }
/// ```
pub struct Node {
    handle: Handle,
    links: Mutex<Vec<Link>>,
    shards: Vec<ShardThread>,
    bridge: Option<JoinHandle<()>>,
    /// Waits for the shards' ends, and ends with the last of them.
    ends: Option<JoinHandle<()>>,
    checks: Mutex<Vec<Arc<Check>>>,
}

impl Node {
    /// A node with one shard, no doors, default settings and no recordings, unless the builder is told otherwise.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::new()
    }

    /// What threads and tasks of the host use the node by: as many of it as they like, and none keeps the node alive.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// See [`Handle::publish`].
    pub fn publish(&self, name: &StreamName) -> Publisher {
        self.handle.publish(name)
    }

    /// See [`Handle::subscribe`].
    pub fn subscribe(&self, name: &StreamName) -> Subscriber {
        self.handle.subscribe(name)
    }

    /// See [`Handle::subscribe_wire`].
    pub fn subscribe_wire(&self, name: &StreamName, form: &'static Form) -> WireSubscriber {
        self.handle.subscribe_wire(name, form)
    }

    /// See [`Handle::events`].
    pub fn events(&self) -> Events {
        self.handle.events()
    }

    /// Tells `observer` what happens, on a thread of its own, until the node stops. Any number may observe.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn observe(&self, observer: impl Observer + 'static) -> io::Result<()> {
        let events = self.events();
        let observer = Box::new(observer);
        // Nobody waits for its end: an observer that hangs would hold up the node's.
        std::thread::Builder::new().name("observer".into()).spawn(move || events.tell(observer))?;
        Ok(())
    }

    /// Has `sink` keep the books of who did what, on a thread of its own, until the node stops.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn audit(&self, sink: impl AuditSink + 'static) -> io::Result<()> {
        audit::start(self.handle.listen(audit::is_for_the_books), sink)
    }

    /// Publishes what `source` gives, until it gives no more or what this returns is dropped.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn pull(&self, name: &StreamName, mut source: impl MediaSource + 'static) -> io::Result<Attached> {
        let publisher = self.publish(name);
        Attached::start(&self.handle, name, "source", move |stop| attach::pull(&mut source, publisher, stop))
    }

    /// Gives `sink` the frames of a stream, until that ends or what this returns is dropped.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn feed(&self, name: &StreamName, mut sink: impl MediaSink + 'static) -> io::Result<Attached> {
        let subscriber = self.subscribe(name);
        Attached::start(&self.handle, name, "sink", move |stop| attach::feed(&mut sink, subscriber, stop))
    }

    /// Has `transcoder` make the stream `to` of the stream `from`.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn transcode(
        &self,
        from: &StreamName,
        to: &StreamName,
        mut transcoder: impl Transcoder + 'static,
    ) -> io::Result<Attached> {
        let (node, from, to) = (self.handle(), from.clone(), to.clone());
        let about = to.clone();
        Attached::start(&self.handle, &about, "transcoder", move |stop| {
            transcoder.run(&node, &from, &to, stop)
        })
    }

    /// Has `relay` carry the stream `from` on to another node, as `to`.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn relay(
        &self,
        from: &StreamName,
        node: &Handle,
        to: &StreamName,
        mut relay: impl Relay + 'static,
    ) -> io::Result<Attached> {
        let (subscriber, publisher) = (self.subscribe(from), node.publish(to));
        Attached::start(&self.handle, from, "relay", move |stop| relay.run(subscriber, publisher, stop))
    }

    /// Adds something that [`health`](Self::health) looks at.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn add_check(&self, name: &str, check: impl HealthCheck + 'static) -> io::Result<()> {
        lock(&self.checks).push(Check::start(name, check)?);
        Ok(())
    }

    /// How everything is: first the node's own shards, then the checks in the order in which they were added. Waits at most
    /// `patience`; what has not answered by then is not well.
    pub fn health(&self, patience: Duration) -> Vec<Health> {
        let until = Instant::now() + patience;
        let checks: Vec<_> = lock(&self.checks).iter().map(|check| (check.clone(), check.ask())).collect();
        let mut healths = vec![Health { name: "shards".to_owned(), result: self.health_of_shards(until) }];
        healths.extend(checks.iter().map(|(check, look)| check.answer(*look, until)));
        healths
    }

    /// The node's metrics as Prometheus reads them (text format 0.0.4). Waits at most `patience` for the shards.
    pub fn metrics(&self, patience: Duration) -> String {
        let reports = self.reports(Instant::now() + patience);
        let reports = reports.into_iter().map(Result::ok).collect();
        let phase = if self.handle.0.is_stopping() { Phase::Draining } else { Phase::Serving };
        metrics::expose(&Snapshot { reports }, phase, 0)
    }

    /// Whether each shard answers.
    fn health_of_shards(&self, until: Instant) -> Result<(), String> {
        for (shard, report) in self.reports(until).into_iter().enumerate() {
            report.map_err(|why| format!("shard {shard} {why}"))?;
        }
        Ok(())
    }

    /// What each shard says of itself, or why it says nothing.
    fn reports(&self, until: Instant) -> Vec<Result<Report, &'static str>> {
        let ask = |link: &mut Link| {
            let (answer, waiting) = oneshot::channel();
            link.send(Request::Report(answer)).then_some(waiting)
        };
        let waiting: Vec<_> = lock(&self.links).iter_mut().map(ask).collect();
        let hear = |waiting: Option<oneshot::Receiver<Report>>| {
            let mut waiting = waiting.ok_or("takes no requests")?;
            loop {
                match waiting.try_recv() {
                    Ok(report) => return Ok(report),
                    Err(TryRecvError::Closed) => return Err("has ended"),
                    Err(TryRecvError::Empty) if Instant::now() >= until => return Err("does not answer"),
                    Err(TryRecvError::Empty) => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        };
        waiting.into_iter().map(hear).collect()
    }

    /// Changes the settings of the running node: limits of apps, who may publish and play, what is recorded.
    ///
    /// ```
    /// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
    /// # use shardcast_engine::{limits::StreamLimits, settings::{AppSettings, Settings}};
    /// # use shardcast_shards::host::{Node, PublishError};
    /// # fn main() -> Result<(), shardcast_shards::host::HostError> {
    /// # let node = Node::builder().start()?;
    /// # let name = StreamName::parse("live/cam1")?;
    /// let limits = StreamLimits { streams: 1, ..StreamLimits::default() };
    /// let default = AppSettings { limits, ..AppSettings::default() };
    /// node.set_settings(Settings { default, ..Settings::default() });
    /// // Whoever publishes from here on finds it in force.
    /// let mut first = node.publish(&name);
    /// assert_eq!(first.granted_blocking(), Ok(()));
    /// assert!(node.publish(&StreamName::parse("live/cam2")?).granted_blocking().is_err());
    /// # node.stop()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_settings(&self, settings: Settings) {
        let settings = chance::with_secret(Arc::new(settings));
        self.handle.0.set_settings(settings.clone());
        self.tell(|| Request::Settings(settings.clone()));
    }

    /// Takes no new peers, tells those that are there, closes recordings, and returns when all threads have ended. Waits:
    /// an async program calls it where it may.
    ///
    /// # Errors
    /// A shard had failed; the text says how.
    pub fn stop(mut self) -> io::Result<()> {
        self.end()
    }

    fn tell(&self, request: impl Fn() -> Request) {
        for (link, shard) in lock(&self.links).iter_mut().zip(&self.shards) {
            while !link.send(request()) && !shard.is_finished() {
                std::thread::sleep(TELL_RETRY);
            }
        }
    }

    fn end(&mut self) -> io::Result<()> {
        self.handle.0.set_stopping();
        self.tell(|| Request::Drain);
        let mut failed = Ok(());
        for (index, shard) in self.shards.drain(..).enumerate() {
            let result = shard.join().unwrap_or_else(|panic| Err(words_of(&*panic)));
            if let Err(why) = result {
                failed = Err(io::Error::other(format!("shard {index}: {why}")));
            }
        }
        self.handle.0.inbox.stop();
        for thread in [self.bridge.take(), self.ends.take()].into_iter().flatten() {
            // They catch what the host's wakers do; a panic of their own would be a bug, and costs nobody anything now.
            let _ = thread.join();
        }
        failed
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !self.shards.is_empty() {
            // Nobody is there to be told of a shard that had failed.
            let _ = self.end();
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({} shards)", self.shards.len())
    }
}

/// Nothing under the locks of this room can panic half-way, so what a poisoned one holds is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes a thread that has parked itself.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Wakes the calling thread.
fn unpark_here() -> Waker {
    Waker::from(Arc::new(Unpark(std::thread::current())))
}

/// Runs a future on a thread that may wait.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = unpark_here();
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}
