//! The bridge between shards and host: a thread that is to the shards one more neighbour core, without a hub.
//!
//! It writes what comes for the streams that the host has subscribed to into their feeds. It also wakes whoever of the host
//! waits, because a waker is foreign code that must not run on a shard.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use crossbeam_queue::SegQueue;
use shardcast_engine::{
    limits::StreamLimits,
    media::StreamName,
    message::{CoreId, Message},
    observe::StreamEvent,
    time::Now,
};
use shardcast_io::{clock, lane::Doorbell};

use super::{
    feed::{Feed, SubscribeError},
    handle::{Shared, wake_all},
    unpark_here,
    way::Way,
};
use crate::mesh::{Mail, Mesh};

/// Where shards leave word for the bridge that something about a publisher has changed.
pub(super) struct Inbox {
    news: SegQueue<Arc<Way>>,
    stop: AtomicBool,
    bell: Arc<Doorbell>,
}

impl Inbox {
    pub fn new(bell: Arc<Doorbell>) -> Inbox {
        Inbox { news: SegQueue::new(), stop: AtomicBool::new(false), bell }
    }
    pub fn news_of(&self, way: &Arc<Way>) {
        self.news.push(way.clone());
        self.bell.ring();
    }
    /// Ends the bridge when it has done what there was before.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.bell.ring();
    }
    fn has_more(&self) -> bool {
        !self.news.is_empty() || self.stop.load(Ordering::Acquire)
    }
}

/// The bridge, on its thread.
pub(super) struct Bridge {
    mesh: Mesh,
    node: Arc<Shared>,
    /// Feeds with something to show, by when that is due.
    due: BTreeMap<(Now, u64), Arc<Feed>>,
    wake: Vec<Waker>,
    /// On which cores a stream has viewers. Which, and not how many: a word of a core may be lost on a full lane, and its next
    /// one puts that right.
    watched: BTreeMap<StreamName, BTreeSet<CoreId>>,
}

impl Bridge {
    pub fn new(mesh: Mesh, node: Arc<Shared>) -> Bridge {
        Bridge { mesh, node, due: BTreeMap::new(), wake: Vec::new(), watched: BTreeMap::new() }
    }

    /// Runs until it is stopped. Then every feed is over.
    pub fn run(mut self) {
        let waker = unpark_here();
        let context = Context::from_waker(&waker);
        loop {
            let stop = self.node.inbox.stop.load(Ordering::Acquire);
            while let Some(way) = self.node.inbox.news.pop() {
                self.wake.extend(way.take_waker());
            }
            self.take_mail();
            self.flush();
            wake_all(&mut self.wake);
            if stop {
                return self.end();
            }
            let (mesh, inbox) = (&self.mesh, &self.node.inbox);
            if mesh.bell().arm(&context, || mesh.has_mail() || inbox.has_more()) == Poll::Pending {
                match self.due.first_key_value() {
                    Some(((due, _), _)) => std::thread::park_timeout(due.since(now())),
                    None => std::thread::park(),
                }
                self.mesh.bell().disarm();
            }
        }
    }

    fn take_mail(&mut self) {
        let now = now();
        self.mesh.sound();
        while let Some((mail, from)) = self.mesh.take() {
            match mail {
                Mail::Word(message) => self.hear(message, now),
                Mail::Event(event) => self.tell(event, from),
                // A publisher's connection goes to the owner of its stream, which is a shard.
                Mail::Connection(..)
                | Mail::Peer(..)
                | Mail::Datagrams(_)
                | Mail::Forget { .. }
                | Mail::Signal(_)
                | Mail::Reply { .. } => {}
            }
        }
    }

    /// Tells all listeners. What cores say of their viewers becomes what is so for the node.
    fn tell(&mut self, event: StreamEvent, from: CoreId) {
        match &event {
            StreamEvent::FirstViewer { name } => {
                let cores = self.watched.entry(name.clone()).or_default();
                let first = cores.is_empty();
                cores.insert(from);
                if !first {
                    return;
                }
            }
            StreamEvent::LastViewer { name } => {
                let Some(cores) = self.watched.get_mut(name) else { return };
                cores.remove(&from);
                if !cores.is_empty() {
                    return;
                }
                self.watched.remove(name);
            }
            _ => {}
        }
        self.node.tell(&event, &mut self.wake);
    }

    fn hear(&mut self, message: Message, now: Now) {
        match message {
            Message::Opening { name, subscription, start } => {
                let Some(feed) = self.node.feed(&name, subscription) else { return };
                let limits = self.node.limits_of(&name);
                let at_once = feed.open(&start, &limits, now);
                self.show(feed, at_once, &limits, now);
            }
            Message::Frames { name, subscription, after, frames } => {
                let Some(feed) = self.node.feed(&name, subscription) else { return };
                let limits = self.node.limits_of(&name);
                let at_once = feed.push(after, &frames, &limits, now);
                self.show(feed, at_once, &limits, now);
            }
            // Only a node that goes down refuses one who is willing to wait.
            Message::Ended { name, subscription } | Message::Refused { name, subscription, .. } => {
                let Some(feed) = self.node.feed(&name, subscription) else { return };
                self.node.forget(&feed);
                let stopped = self.node.is_stopping();
                feed.end(
                    if stopped { SubscribeError::Stopped } else { SubscribeError::Ended },
                    &mut self.wake,
                );
            }
            // Nobody subscribes at the host.
            Message::Subscribe { .. }
            | Message::Unsubscribe { .. }
            | Message::Follow { .. }
            | Message::Unfollow { .. }
            | Message::KeyframeWanted { .. } => {}
            // Nor does the host ask for segments.
            Message::Cuts { .. } | Message::NotFollowed { .. } => {}
        }
    }

    /// Something has come for a feed: it is shown at once, or at the next flush of its app.
    fn show(&mut self, feed: Arc<Feed>, at_once: bool, limits: &StreamLimits, now: Now) {
        let at = if at_once { now } else { feed.next_flush(limits.flush, now) };
        if at <= now {
            self.flush_feed(feed, limits, now);
        } else {
            self.set_due(feed, Some(at));
        }
    }

    /// Shows what has come for a feed, and comes back to it where those who were woken are to wake others.
    fn flush_feed(&mut self, feed: Arc<Feed>, limits: &StreamLimits, now: Now) {
        let others = feed.flush(limits, now, &mut self.wake);
        // The next flush wakes them, too, and comes before this where the stream goes on.
        self.set_due(feed, others.then(|| now.after(limits.flush * 2)));
    }

    fn set_due(&mut self, feed: Arc<Feed>, at: Option<Now>) {
        if let Some(before) = feed.set_due(at) {
            self.due.remove(&(before, feed.subscription));
        }
        if let Some(at) = at {
            self.due.insert((at, feed.subscription), feed);
        }
    }

    /// Shows what is due.
    fn flush(&mut self) {
        let now = now();
        while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= now) {
            let feed = entry.remove();
            let limits = self.node.limits_of(&feed.name);
            self.flush_feed(feed, &limits, now);
        }
    }

    fn end(mut self) {
        self.node.end(&mut self.wake);
        wake_all(&mut self.wake);
    }
}

fn now() -> Now {
    Now(clock::monotonic())
}
