//! What the host is told of the life of its streams.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, Weak},
    task::{Context, Poll, Waker},
};

pub use shardcast_engine::observe::StreamEvent;
use shardcast_engine::time::Wall;
use shardcast_io::clock;

use super::{block_on, lock};

/// Events that wait for one listener. One more drops the oldest, and is counted.
///
/// ```
/// use shardcast_shards::host::{EVENTS_MAX, Node};
///
/// # fn main() -> Result<(), shardcast_shards::host::HostError> {
/// # let node = Node::builder().start()?;
/// let mut events = node.events();
/// for _ in 0..EVENTS_MAX + 10 {
///     node.handle().alarm(None, "the disk is too hot");
/// }
/// // Nobody has listened meanwhile: the oldest ten are lost.
/// assert_eq!(events.take_missed(), 10);
/// # node.stop()?;
/// # Ok(())
/// # }
/// ```
pub const EVENTS_MAX: usize = 1024;

/// Hears what happens to the streams of a node, from when it was asked for.
///
/// ```
/// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
/// use shardcast_shards::host::{Node, StreamEvent};
///
/// # fn main() -> Result<(), shardcast_shards::host::HostError> {
/// # let node = Node::builder().start()?;
/// # let name = StreamName::parse("live/cam1")?;
/// let mut events = node.events();
/// let publisher = node.publish(&name);
/// let mut published = false;
/// while !published {
///     let event = events.next_blocking().ok_or("the node has stopped")?;
///     published = matches!(event, StreamEvent::Published { resumed: false, .. });
/// }
/// assert_eq!(events.take_missed(), 0);
/// # drop(publisher);
/// # node.stop()?;
/// # Ok(())
/// # }
/// ```
pub struct Events(Arc<Queue>);

/// Is told what happens to the streams of a node, on a thread of its own: it may take its time. One that panics is told the
/// next event as if nothing had been; one that hangs misses what is more than [`EVENTS_MAX`], and nobody else notices.
///
/// ```
/// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
/// use std::sync::mpsc;
/// use shardcast_shards::host::{Node, Observer, StreamEvent};
///
/// struct Teller(mpsc::Sender<String>);
///
/// impl Observer for Teller {
///     fn happened(&mut self, event: &StreamEvent) {
///         let _ = self.0.send(event.to_string());
///     }
/// }
/// # fn main() -> Result<(), shardcast_shards::host::HostError> {
/// # let node = Node::builder().start()?;
/// # let name = StreamName::parse("live/cam1")?;
/// # let (told, hears) = mpsc::channel();
/// node.observe(Teller(told))?;
/// # let publisher = node.publish(&name);
/// # assert!(hears.recv()?.starts_with("live/cam1: "));
/// # drop(publisher);
/// # node.stop()?;
/// # Ok(())
/// # }
/// ```
pub trait Observer: Send {
    /// Something happened.
    fn happened(&mut self, event: &StreamEvent);
    /// So many events were dropped since the last time, because this observer was too slow.
    fn missed(&mut self, events: u64) {
        let _ = events;
    }
}

/// Where events wait for one listener. Between the bridge and the listener alone.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Which events this listener wants.
    wanted: fn(&StreamEvent) -> bool,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<(StreamEvent, Wall)>,
    missed: u64,
    over: bool,
    waker: Option<Waker>,
}

impl Queue {
    /// Adds an event, and puts whom it wakes into `wake`.
    pub fn push(&self, event: &StreamEvent, wake: &mut Vec<Waker>) {
        if !(self.wanted)(event) {
            return;
        }
        let mut waiting = lock(&self.waiting);
        if waiting.events.len() == EVENTS_MAX {
            waiting.events.pop_front();
            waiting.missed += 1;
        }
        waiting.events.push_back((event.clone(), Wall(clock::wall())));
        wake.extend(waiting.waker.take());
    }

    /// Counts events that were lost on the way here.
    pub fn miss(&self, events: u64) {
        lock(&self.waiting).missed += events;
    }

    /// There will be no more.
    pub fn end(&self, wake: &mut Vec<Waker>) {
        let mut waiting = lock(&self.waiting);
        waiting.over = true;
        wake.extend(waiting.waker.take());
    }
}

impl Events {
    /// A listener to what is `wanted`, and where its events are to be put for as long as it lives.
    pub(super) fn new(wanted: fn(&StreamEvent) -> bool) -> (Events, Weak<Queue>) {
        let queue = Arc::new(Queue { waiting: Mutex::default(), wanted });
        let weak = Arc::downgrade(&queue);
        (Events(queue), weak)
    }

    /// The next event; `None` when the node has stopped.
    pub async fn next(&mut self) -> Option<StreamEvent> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// There is nothing to be heard: the node has stopped.
    pub(super) fn end(&self) {
        self.0.end(&mut Vec::new());
    }

    /// As [`next_blocking`](Self::next_blocking), with when it was told.
    pub(super) fn next_stamped(&mut self) -> Option<(StreamEvent, Wall)> {
        block_on(poll_fn(|context| self.poll_stamped(context)))
    }

    /// As [`next`](Self::next), on a thread that may wait.
    pub fn next_blocking(&mut self) -> Option<StreamEvent> {
        block_on(self.next())
    }

    /// As [`next`](Self::next), for futures written by hand.
    ///
    /// ```
    /// use std::task::{Context, Poll, Waker};
    /// use shardcast_shards::host::{Events, Node, StreamEvent};
    ///
    /// /// The next event of either node.
    /// fn poll_either(one: &mut Events, other: &mut Events, context: &Context<'_>) -> Poll<Option<StreamEvent>> {
    ///     match one.poll_next(context) {
    ///         Poll::Pending => other.poll_next(context),
    ///         ready => ready,
    ///     }
    /// }
    /// # fn main() -> Result<(), shardcast_shards::host::HostError> {
    /// # let node = Node::builder().start()?;
    /// # let second = Node::builder().start()?;
    /// let (mut first_events, mut second_events) = (node.events(), second.events());
    /// let context = Context::from_waker(Waker::noop());
    /// assert!(poll_either(&mut first_events, &mut second_events, &context).is_pending());
    /// second.handle().alarm(None, "the disk is too hot");
    /// let event = poll_either(&mut first_events, &mut second_events, &context);
    /// assert!(matches!(event, Poll::Ready(Some(StreamEvent::Alarm { name: None, .. }))));
    /// # second.stop()?;
    /// # node.stop()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn poll_next(&mut self, context: &Context<'_>) -> Poll<Option<StreamEvent>> {
        self.poll_stamped(context).map(|stamped| stamped.map(|(event, _)| event))
    }

    fn poll_stamped(&self, context: &Context<'_>) -> Poll<Option<(StreamEvent, Wall)>> {
        let mut waiting = lock(&self.0.waiting);
        match waiting.events.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None if waiting.over => Poll::Ready(None),
            None => {
                waiting.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// How many events were dropped since the last call, because they were not taken in time.
    pub fn take_missed(&mut self) -> u64 {
        std::mem::take(&mut lock(&self.0.waiting).missed)
    }

    /// Tells an observer all of them, until the node stops.
    pub(super) fn tell(mut self, mut observer: Box<dyn Observer>) {
        while let Some(event) = self.next_blocking() {
            let missed = self.take_missed();
            // The host's code; what it was about is over, and the next event is news.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                if missed > 0 {
                    observer.missed(missed);
                }
                observer.happened(&event);
            }));
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Events({} waiting)", lock(&self.0.waiting).events.len())
    }
}
