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

mod bridge;
mod door;
mod events;
mod feed;
mod publisher;
mod subscriber;
mod way;

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{JoinHandle, Thread},
};

use shardcast_engine::{
    hub::Notice,
    limits::StreamLimits,
    media::StreamName,
    message::{CoreId, Message, owner_of},
    protocol::Protocol,
    settings::Settings,
};
use shardcast_io::lane;

pub(crate) use self::door::{Door, Guests, Word};
use self::{
    bridge::{Bridge, Inbox},
    events::Queue,
    feed::Feed,
    way::{Guest, Way},
};
pub use self::{
    events::{EVENTS_MAX, Events, Observer, StreamEvent},
    feed::{Batch, SubscribeError},
    publisher::{PublishError, Publisher, TrySendError},
    subscriber::Subscriber,
    way::{BYTES_MAX, FRAMES_MAX},
};
use crate::{
    control::link::{Link, Request, ShardThread},
    disk::Recordings,
    node::{self, NodeOptions},
};

/// How long [`Node::stop`] tries to reach a shard that takes no requests.
const TELL_RETRY: std::time::Duration = std::time::Duration::from_millis(5);

/// A running node.
///
/// Dropping it is like [`stop`](Self::stop): it waits until recordings are closed and all threads have ended.
pub struct Node {
    shared: Arc<Shared>,
    links: Mutex<Vec<Link>>,
    shards: Vec<ShardThread>,
    bridge: Option<JoinHandle<()>>,
}

/// How a node is started; see [`Node::builder`].
pub struct NodeBuilder {
    options: NodeOptions,
}

/// What the handles share.
struct Shared {
    /// Into each shard.
    doors: Vec<Arc<Door>>,
    inbox: Arc<Inbox>,
    /// The streams that somebody has subscribed to.
    feeds: Mutex<BTreeMap<StreamName, Arc<Feed>>>,
    /// Who wants to be told what happens.
    listeners: Mutex<Vec<Weak<Queue>>>,
    settings: Mutex<Arc<Settings>>,
    publishers: AtomicU64,
    subscriptions: AtomicU64,
    /// The node goes down.
    stopping: AtomicBool,
}

impl Node {
    /// A node with one shard, no doors, default settings and no recordings, unless the builder is told otherwise.
    pub fn builder() -> NodeBuilder {
        NodeBuilder {
            options: NodeOptions {
                shards: 1,
                doors: Vec::new(),
                settings: Arc::new(Settings::default()),
                recordings: None,
                notices: Arc::new(|_, _| {}),
                demo: None,
                hosted: true,
            },
        }
    }

    /// Publishes a stream. Never waits: what became of the wish is told by [`Publisher::granted`], and by the first frame
    /// that cannot be sent. The authenticator of the settings is asked, with the door `host` and no query.
    pub fn publish(&self, name: &StreamName) -> Publisher {
        let number = self.shared.publishers.fetch_add(1, Ordering::Relaxed);
        let way = Arc::new(Way::new(number));
        let (sender, receiver) = lane::lane(FRAMES_MAX);
        let guest = Guest::new(way.clone(), receiver, self.shared.inbox.clone(), name.clone());
        let owner = owner_of(name, self.shared.cores());
        let door = self.shared.doors[usize::from(owner.0)].clone();
        door.say(Word::Enter { number, session: Box::new(guest) });
        Publisher::new(name.clone(), way, sender, door)
    }

    /// Subscribes to a stream, which need not be there yet. Never waits. The program is trusted: no authenticator is asked.
    pub fn subscribe(&self, name: &StreamName) -> Subscriber {
        self.shared.subscribe(name)
    }

    /// What happens to the streams of this node from here on. Any number may listen.
    pub fn events(&self) -> Events {
        let (events, queue) = Events::new();
        lock(&self.shared.listeners).push(queue);
        events
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

    /// Changes the settings of the running node: limits of apps, who may publish and play, what is recorded.
    pub fn set_settings(&self, settings: Settings) {
        let settings = Arc::new(settings);
        *lock(&self.shared.settings) = settings.clone();
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
        self.shared.stopping.store(true, Ordering::Release);
        self.tell(|| Request::Drain);
        let mut failed = Ok(());
        for (index, shard) in self.shards.drain(..).enumerate() {
            let result = shard.join().unwrap_or_else(|_| Err("it panicked".to_owned()));
            if let Err(why) = result {
                failed = Err(io::Error::other(format!("shard {index}: {why}")));
            }
        }
        self.shared.inbox.stop();
        if let Some(bridge) = self.bridge.take() {
            // It catches what the host's wakers do; a panic of its own would be a bug, and costs nobody anything now.
            let _ = bridge.join();
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
        write!(f, "Node({} shards)", self.shared.doors.len())
    }
}

impl NodeBuilder {
    /// How many shards: threads, each pinned to a core. At least 1.
    #[must_use]
    pub fn shards(mut self, shards: u16) -> Self {
        self.options.shards = shards;
        self
    }

    /// Opens a door: a row of [`built_in`](shardcast_engine::protocol::built_in), or one of your own.
    #[must_use]
    pub fn door(mut self, protocol: Protocol, address: SocketAddr) -> Self {
        self.options.doors.push((protocol, address));
        self
    }

    /// Limits, access, and what is recorded.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.options.settings = Arc::new(settings);
        self
    }

    /// Where recordings go, of the apps that the settings record.
    #[must_use]
    pub fn recordings(mut self, recordings: Recordings) -> Self {
        self.options.recordings = Some(recordings);
        self
    }

    /// Takes the lines for a log: one per connection's end that has a cause, and what an operator should know. Called on
    /// the shards' threads, so it must not block.
    #[must_use]
    pub fn on_notice(mut self, notices: impl Fn(CoreId, Notice) + Send + Sync + 'static) -> Self {
        self.options.notices = Arc::new(notices);
        self
    }

    /// Starts the node. When this returns, every door accepts.
    ///
    /// # Errors
    /// No shard was asked for, an address is in use or may not be used, or a shard could not be started; the text says
    /// which.
    pub fn start(self) -> io::Result<Node> {
        if self.options.shards == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a node has at least one shard"));
        }
        let settings = self.options.settings.clone();
        let mut started = node::start(self.options)?;
        let (mesh, doors) = started.host.take().expect("the options say that the node has a host");
        let shared = Arc::new(Shared {
            doors,
            inbox: Arc::new(Inbox::new(mesh.bell().clone())),
            feeds: Mutex::default(),
            listeners: Mutex::default(),
            settings: Mutex::new(settings),
            publishers: AtomicU64::new(0),
            subscriptions: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        });
        let bridge = Bridge::new(mesh, shared.clone());
        let (links, shards) = (Mutex::new(started.links), started.threads);
        let mut node = Node { shared, links, shards, bridge: None };
        // When this fails the node is dropped, and its shards end.
        node.bridge = Some(std::thread::Builder::new().name("host".into()).spawn(move || bridge.run())?);
        Ok(node)
    }
}

impl fmt::Debug for NodeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeBuilder({} shards, {} doors)", self.options.shards, self.options.doors.len())
    }
}

impl Shared {
    fn cores(&self) -> u16 {
        u16::try_from(self.doors.len()).expect("a node has as many shards as were asked for, a u16")
    }

    fn limits_of(&self, name: &StreamName) -> StreamLimits {
        lock(&self.settings).of(name.app()).limits.clone()
    }

    fn subscribe(self: &Arc<Self>, name: &StreamName) -> Subscriber {
        let mut feeds = lock(&self.feeds);
        let feed = feeds.entry(name.clone()).or_insert_with(|| {
            let subscription = self.subscriptions.fetch_add(1, Ordering::Relaxed);
            self.say(name, Message::Subscribe { name: name.clone(), subscription, wait: true });
            Arc::new(Feed::new(name.clone(), subscription))
        });
        Subscriber::new(feed.clone(), self.clone())
    }

    fn unsubscribe(&self, feed: &Arc<Feed>, seat: usize) {
        // Under the lock, so that nobody sits down in a feed that is being given up.
        let mut feeds = lock(&self.feeds);
        let here = feeds.get(&feed.name).is_some_and(|held| Arc::ptr_eq(held, feed));
        if feed.rise(seat) && here {
            feeds.remove(&feed.name);
            let (name, subscription) = (feed.name.clone(), feed.subscription);
            self.say(&feed.name, Message::Unsubscribe { name, subscription });
        }
    }

    /// The feed of this subscription, if it is still wanted.
    fn feed(&self, name: &StreamName, subscription: u64) -> Option<Arc<Feed>> {
        lock(&self.feeds).get(name).filter(|feed| feed.subscription == subscription).cloned()
    }

    /// The stream of this feed has ended: whoever subscribes to its name from here on waits for another.
    fn forget(&self, feed: &Arc<Feed>) {
        let mut feeds = lock(&self.feeds);
        if feeds.get(&feed.name).is_some_and(|held| Arc::ptr_eq(held, feed)) {
            feeds.remove(&feed.name);
        }
    }

    /// To the owner of a stream.
    fn say(&self, name: &StreamName, message: Message) {
        self.doors[usize::from(owner_of(name, self.cores()).0)].say(Word::Mail(message));
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn want_keyframe(&self, name: &StreamName) {
        self.say(name, Message::KeyframeWanted { name: name.clone() });
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
