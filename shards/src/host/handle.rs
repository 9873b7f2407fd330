//! What all handles to a running node share, and the one that makes the others.

#[cfg(feature = "libsrt")]
use std::net::SocketAddr;
use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Waker,
};

#[cfg(feature = "libsrt")]
use shardcast_engine::session::Session;
use shardcast_engine::{
    limits::StreamLimits,
    media::StreamName,
    message::{CoreId, Message, owner_of},
    observe::StreamEvent,
    session::Form,
    settings::Settings,
};
use shardcast_io::lane::{self, Doorbell};

#[cfg(feature = "libsrt")]
use super::Passage;
use super::{
    Events, Publisher, Subscriber, WireSubscriber,
    bridge::{Bridge, Inbox},
    door::{Door, Entry, Word},
    events::Queue,
    feed::{Feed, SubscribeError},
    lock,
    way::{FRAMES_MAX, Guest, Way},
};
use crate::mesh::Mesh;

/// A way to a running node, for any thread. When the node has stopped, publishers are closed and subscribers have had all.
///
/// ```
/// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
/// use std::thread;
/// use shardcast_shards::host::Node;
///
/// # fn main() -> Result<(), shardcast_shards::host::HostError> {
/// # let node = Node::builder().start()?;
/// # let name = StreamName::parse("live/cam1")?;
/// let handle = node.handle();
/// let publishing = thread::spawn(move || handle.publish(&name).granted_blocking());
/// assert_eq!(publishing.join().expect("it does not panic"), Ok(()));
/// # node.stop()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Shared>);

/// What the handles share.
pub(super) struct Shared {
    /// Into each shard.
    doors: Vec<Arc<Door>>,
    pub inbox: Arc<Inbox>,
    /// The streams that somebody has subscribed to; `None` once the node has stopped.
    feeds: Mutex<Option<BTreeMap<StreamName, Arc<Feed>>>>,
    /// Who wants to be told what happens; likewise.
    listeners: Mutex<Option<Vec<Weak<Queue>>>>,
    settings: Mutex<Arc<Settings>>,
    publishers: AtomicU64,
    subscriptions: AtomicU64,
    /// The node goes down.
    stopping: AtomicBool,
}

impl Handle {
    /// Publishes a stream. Never waits: what became of the wish is told by [`Publisher::granted`], and by the first frame
    /// that cannot be sent. The authenticator of the settings is asked, with the door `host` and no query.
    pub fn publish(&self, name: &StreamName) -> Publisher {
        self.enter(name, Entry::Host)
    }

    /// As [`publish`](Self::publish), for what the operator has named: no authenticator is asked.
    #[cfg(feature = "server")]
    pub(crate) fn publish_trusted(&self, name: &StreamName) -> Publisher {
        self.enter(name, Entry::Trusted)
    }

    fn enter(&self, name: &StreamName, entry: Entry) -> Publisher {
        let shared = &self.0;
        let number = shared.publishers.fetch_add(1, Ordering::Relaxed);
        let way = Arc::new(Way::new(number));
        let (sender, receiver) = lane::lane(FRAMES_MAX);
        let guest = Guest::new(way.clone(), receiver, shared.inbox.clone(), name.clone());
        let door = shared.door_of(name).clone();
        door.say(Word::Enter { number, session: Box::new(guest), entry });
        Publisher::new(name.clone(), way, sender, door)
    }

    /// Lets somebody in who has come to a door that another library serves. A publisher comes to the owner of its stream; viewers to
    /// all shards, one after the other.
    #[cfg(feature = "libsrt")]
    pub(crate) fn enter_by(
        &self,
        door: &'static str,
        peer: SocketAddr,
        publishes: Option<&StreamName>,
        session: Box<dyn Session>,
    ) -> Passage {
        let shared = &self.0;
        let number = shared.publishers.fetch_add(1, Ordering::Relaxed);
        let way = match publishes {
            Some(name) => shared.door_of(name),
            None => &shared.doors[usize::try_from(number).unwrap_or(0) % shared.doors.len()],
        };
        way.say(Word::Enter { number, session, entry: Entry::Door(door, peer) });
        Passage::new(number, way.clone())
    }

    /// What the operator has chosen.
    #[cfg(feature = "libsrt")]
    pub(crate) fn settings(&self) -> Arc<Settings> {
        lock(&self.0.settings).clone()
    }

    /// Subscribes to a stream, which need not be there yet. Never waits. The program is trusted: no authenticator is asked.
    pub fn subscribe(&self, name: &StreamName) -> Subscriber {
        self.0.seat(name, |feed| Subscriber::new(feed, self.0.clone()))
    }

    /// As [`subscribe`](Self::subscribe), for the bytes that a viewer would get in the wire form `form`:
    /// [`flv`](shardcast_engine::flv::FORM), say, or one of the host's own.
    pub fn subscribe_wire(&self, name: &StreamName, form: &'static Form) -> WireSubscriber {
        self.0.seat(name, |feed| WireSubscriber::new(feed, self.0.clone(), form))
    }

    /// What happens to the streams of this node from here on. Any number may listen.
    pub fn events(&self) -> Events {
        self.listen(|_| true)
    }

    /// Tells everybody who listens of something that an operator must look at: the host's own trouble, told like the node's.
    ///
    /// ```
    /// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
    /// use shardcast_shards::host::{Node, StreamEvent};
    ///
    /// # fn main() -> Result<(), shardcast_shards::host::HostError> {
    /// # let node = Node::builder().start()?;
    /// # let name = StreamName::parse("live/cam1")?;
    /// let mut events = node.events();
    /// node.handle().alarm(Some(&name), "the camera is too hot");
    /// let event = events.next_blocking().expect("the node runs");
    /// assert_eq!(event.to_string(), "live/cam1: the camera is too hot");
    /// # node.stop()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn alarm(&self, stream: Option<&StreamName>, text: &str) {
        let event = StreamEvent::Alarm { name: stream.cloned(), text: text.to_owned() };
        let mut wake = Vec::new();
        self.0.tell(&event, &mut wake);
        wake_all(&mut wake);
    }

    pub(crate) fn listen(&self, wanted: fn(&StreamEvent) -> bool) -> Events {
        let (events, queue) = Events::new(wanted);
        match &mut *lock(&self.0.listeners) {
            Some(listeners) => listeners.push(queue),
            None => events.end(),
        }
        events
    }
}

/// The host's two sides of a node whose end of the lanes this is: what its threads have, and what a thread is to run.
pub(super) fn meet(mesh: Mesh, doors: Vec<Arc<Door>>, settings: Arc<Settings>) -> (Handle, Bridge) {
    let shared = Arc::new(Shared::new(doors, mesh.bell().clone(), settings));
    (Handle(shared.clone()), Bridge::new(mesh, shared))
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({} shards)", self.0.doors.len())
    }
}

impl Shared {
    pub fn new(doors: Vec<Arc<Door>>, bell: Arc<Doorbell>, settings: Arc<Settings>) -> Shared {
        Shared {
            doors,
            inbox: Arc::new(Inbox::new(bell)),
            feeds: Mutex::new(Some(BTreeMap::new())),
            listeners: Mutex::new(Some(Vec::new())),
            settings: Mutex::new(settings),
            publishers: AtomicU64::new(0),
            subscriptions: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        }
    }

    pub fn limits_of(&self, name: &StreamName) -> StreamLimits {
        lock(&self.settings).of(name.app()).limits.clone()
    }

    pub fn set_settings(&self, settings: Arc<Settings>) {
        *lock(&self.settings) = settings;
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub fn want_keyframe(&self, name: &StreamName) {
        self.say(name, Message::KeyframeWanted { name: name.clone() });
    }

    /// Lets somebody `sit` down in the feed of a stream. Under the lock, so that it is not given up meanwhile.
    fn seat<T>(&self, name: &StreamName, sit: impl FnOnce(Arc<Feed>) -> T) -> T {
        let mut feeds = lock(&self.feeds);
        // A node that has stopped has no streams, and neither has a shard that failed.
        let Some(feeds) = feeds.as_mut().filter(|_| !self.door_of(name).is_shut()) else {
            let feed = Feed::new(name.clone(), u64::MAX);
            feed.end(SubscribeError::Stopped, &mut Vec::new());
            return sit(Arc::new(feed));
        };
        let feed = feeds.entry(name.clone()).or_insert_with(|| {
            let subscription = self.subscriptions.fetch_add(1, Ordering::Relaxed);
            self.say(name, Message::Subscribe { name: name.clone(), subscription, wait: true });
            Arc::new(Feed::new(name.clone(), subscription))
        });
        sit(feed.clone())
    }

    /// Leaves a seat; the last one gives the stream up.
    pub fn unsubscribe(&self, feed: &Arc<Feed>, seat: usize) {
        // Under the lock, so that nobody sits down in a feed that is being given up.
        let mut feeds = lock(&self.feeds);
        if feed.rise(seat)
            && let Some(feeds) = feeds.as_mut()
            && feeds.get(&feed.name).is_some_and(|held| Arc::ptr_eq(held, feed))
        {
            feeds.remove(&feed.name);
            let (name, subscription) = (feed.name.clone(), feed.subscription);
            self.say(&feed.name, Message::Unsubscribe { name, subscription });
        }
    }

    /// The feed of this subscription, if it is still wanted.
    pub fn feed(&self, name: &StreamName, subscription: u64) -> Option<Arc<Feed>> {
        let feeds = lock(&self.feeds);
        feeds.as_ref()?.get(name).filter(|feed| feed.subscription == subscription).cloned()
    }

    /// The stream of this feed has ended: whoever subscribes to its name from here on waits for another.
    pub fn forget(&self, feed: &Arc<Feed>) {
        if let Some(feeds) = lock(&self.feeds).as_mut()
            && feeds.get(&feed.name).is_some_and(|held| Arc::ptr_eq(held, feed))
        {
            feeds.remove(&feed.name);
        }
    }

    /// Tells all listeners. Whom that wakes is put into `wake`.
    pub fn tell(&self, event: &StreamEvent, wake: &mut Vec<Waker>) {
        let missed = self.doors.iter().map(|door| door.take_missed()).sum();
        if let Some(listeners) = lock(&self.listeners).as_mut() {
            listeners.retain(|listener| {
                let Some(listener) = listener.upgrade() else { return false };
                listener.miss(missed);
                listener.push(event, wake);
                true
            });
        }
    }

    /// A shard has failed: its streams are over.
    pub fn lose(&self, core: CoreId) {
        let cores = self.cores();
        let mut wake = Vec::new();
        if let Some(feeds) = lock(&self.feeds).as_mut() {
            feeds.retain(|name, feed| {
                let lost = owner_of(name, cores) == core;
                if lost {
                    feed.end(SubscribeError::Stopped, &mut wake);
                }
                !lost
            });
        }
        wake_all(&mut wake);
    }

    /// Nothing more will come, of any stream. Whom that wakes is put into `wake`.
    pub fn end(&self, wake: &mut Vec<Waker>) {
        for feed in lock(&self.feeds).take().unwrap_or_default().values() {
            feed.end(SubscribeError::Stopped, wake);
        }
        let listeners = lock(&self.listeners).take().unwrap_or_default();
        for listener in listeners.iter().filter_map(Weak::upgrade) {
            listener.end(wake);
        }
    }

    fn cores(&self) -> u16 {
        u16::try_from(self.doors.len()).expect("a node has as many shards as were asked for, a u16")
    }

    fn door_of(&self, name: &StreamName) -> &Arc<Door> {
        &self.doors[usize::from(owner_of(name, self.cores()).0)]
    }

    /// To the owner of a stream.
    fn say(&self, name: &StreamName, message: Message) {
        self.door_of(name).say(Word::Mail(message));
    }
}

/// Wakes whom it says. This is the host's own code; what goes wrong in it must not cost the others anything.
pub(super) fn wake_all(wake: &mut Vec<Waker>) {
    for waker in wake.drain(..) {
        let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
    }
}
