//! Listens in between a session and its hub, whatever protocol it speaks: what was wished, what was answered, which frames
//! came out. It also holds the hub to the session's contract.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};

use shardcast_engine::{
    error::Error,
    limits::CARRIED_HEADER_BYTES_MAX,
    media::{Frame, StreamName},
    segment::{Found, Item},
    session::{Answer, Event, Input, Output, PortOffer, Session, Shelf, Start},
    stats::PathStats,
    time::Now,
};

/// A session that is listened to.
pub struct Tapped {
    inner: Box<dyn Session>,
    socket: usize,
    tap: Tap,
    asking: Option<Asked>,
    publishing: bool,
    lent: bool,
    /// Nothing is left to poll since the last input.
    drained: bool,
    /// The session has failed; it is told once what it still had to say is out.
    failed: Option<Error>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Publish,
    Play,
    Describe,
    Fetch,
}

/// Where all sessions of a world are heard. Filled while a hub works, emptied by the world after that.
#[derive(Clone, Debug, Default)]
pub struct Tap(Arc<Mutex<Vec<Overheard>>>);

/// Something that passed between a session and its hub.
#[derive(Debug)]
pub struct Overheard {
    /// Whose session.
    pub socket: usize,
    /// What.
    pub what: What,
}

/// What passed.
#[derive(Debug)]
pub enum What {
    /// The peer wishes to publish.
    WishToPublish(StreamName),
    /// The peer wishes to play.
    WishToPlay(StreamName),
    /// The peer wishes to know what is in a stream.
    WishToDescribe(StreamName),
    /// The peer wishes to have something of a packaged stream.
    WishToFetch(StreamName, Item),
    /// The hub's answer.
    Answer(Answer),
    /// A frame came out of the session.
    Frame(Frame),
    /// The publisher is done.
    Unpublish,
    /// The viewer is done.
    Stop,
    /// The viewer holds (true) or goes on.
    Pause(bool),
    /// The stream has ended for this viewer.
    Ended,
    /// The session said that its peer broke the protocol.
    Failed(Error),
    /// The session's own code panicked.
    Panicked,
    /// The hub broke the contract.
    Broken(&'static str),
}

impl Tap {
    /// What was heard since the last call, in order.
    pub fn take(&self) -> Vec<Overheard> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push(&self, socket: usize, what: What) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Overheard { socket, what });
    }
}

impl Tapped {
    /// Listens to `inner`, the session of `socket`.
    pub fn new(inner: Box<dyn Session>, socket: usize, tap: &Tap) -> Self {
        Tapped {
            inner,
            socket,
            tap: tap.clone(),
            asking: None,
            publishing: false,
            lent: false,
            drained: true,
            failed: None,
        }
    }

    fn check(&mut self, input: &Input<'_>, now: Now) {
        if !self.drained {
            self.broken("a session was given an input before it was drained");
        }
        match input {
            Input::Received(_) | Input::Filled { .. } if self.asking.is_some() => {
                self.broken("a session was given bytes while its wish had no answer");
            }
            Input::Received(_) if self.lent => {
                self.broken("a session was given bytes while it had lent memory")
            }
            Input::Filled { .. } if !std::mem::take(&mut self.lent) => {
                self.broken("a session was given memory back that it had not lent");
            }
            Input::Answer(answer) => {
                match (self.asking.take(), answer) {
                    (None, _) => self.broken("a session was answered that had asked nothing"),
                    (Some(Asked::Play | Asked::Describe | Asked::Fetch), Answer::Publishing)
                    | (Some(Asked::Publish | Asked::Describe | Asked::Fetch), Answer::Playing) => {
                        self.broken("the answer to another question");
                    }
                    _ => {}
                }
                self.publishing = *answer == Answer::Publishing;
                self.tap.push(self.socket, What::Answer(*answer));
            }
            Input::Described(_) if self.asking.take() != Some(Asked::Describe) => {
                self.broken("a session was told of a stream that it had not asked about");
            }
            Input::Fetched(_) if self.asking != Some(Asked::Fetch) => {
                self.broken("a session was given what it had not asked for");
            }
            // More of it will come.
            Input::Fetched(Found::Open(..)) => {}
            Input::Fetched(_) => self.asking = None,
            Input::KeyframeWanted if !self.publishing => {
                self.broken("a key frame was asked of a session that does not publish");
            }
            Input::Ended => self.tap.push(self.socket, What::Ended),
            Input::Timeout if self.inner.deadline().is_none_or(|deadline| deadline > now) => {
                self.broken("a session's timeout came before its deadline");
            }
            _ => {}
        }
    }

    fn broken(&self, why: &'static str) {
        self.tap.push(self.socket, What::Broken(why));
    }
}

/// Tells of a panic on its way up to the hub.
struct Alarm {
    tap: Tap,
    socket: usize,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tap.push(self.socket, What::Panicked);
        }
    }
}

impl Session for Tapped {
    fn handle(&mut self, input: Input<'_>, now: Now) -> Result<(), Error> {
        self.check(&input, now);
        self.drained = false;
        let alarm = Alarm { tap: self.tap.clone(), socket: self.socket };
        let result = self.inner.handle(input, now);
        drop(alarm);
        self.failed = result.err();
        result
    }

    fn poll(&mut self) -> Option<Output> {
        let output = self.inner.poll();
        self.drained = output.is_none();
        if self.drained
            && let Some(error) = self.failed.take()
        {
            self.tap.push(self.socket, What::Failed(error));
        }
        let Some(Output::Event(event)) = &output else { return output };
        let what = match event {
            Event::Publish { name, .. } => {
                self.asking = Some(Asked::Publish);
                What::WishToPublish(name.clone())
            }
            Event::Play { name, .. } => {
                self.asking = Some(Asked::Play);
                What::WishToPlay(name.clone())
            }
            Event::Describe { name, .. } => {
                self.asking = Some(Asked::Describe);
                What::WishToDescribe(name.clone())
            }
            Event::Frame(frame) => What::Frame(frame.clone()),
            Event::Unpublish => {
                self.publishing = false;
                What::Unpublish
            }
            Event::Stop => What::Stop,
            Event::Pause(paused) => What::Pause(*paused),
            Event::Fetch { name, item, .. } => {
                self.asking = Some(Asked::Fetch);
                What::WishToFetch(name.clone(), (**item).clone())
            }
            Event::Remark(_)
            | Event::Prove(_)
            | Event::Signal(_)
            | Event::Reply(_)
            | Event::KeyframeWanted => return output,
        };
        self.tap.push(self.socket, what);
        output
    }

    fn deadline(&self) -> Option<Now> {
        self.inner.deadline()
    }

    fn received(&self) -> u64 {
        self.inner.received()
    }

    fn lends(&self) -> bool {
        self.inner.lends()
    }

    fn carries(&self) -> bool {
        self.inner.carries()
    }

    fn room(&mut self, now: Now) -> usize {
        self.inner.room(now)
    }

    fn carry(&mut self, bytes: &Bytes, shelf: &mut Shelf, now: Now) -> usize {
        let room = self.inner.room(now);
        if !self.drained || room == 0 || !self.inner.carries() {
            self.broken("a session was given a stream that it could not take");
        }
        self.drained = false;
        let taken = self.inner.carry(bytes, shelf, now);
        if taken > room.max(CARRIED_HEADER_BYTES_MAX) || taken > bytes.len() {
            self.broken("a session took more of a stream than it had room for, or than there was");
        }
        taken
    }

    fn offer_ports(&mut self, offer: PortOffer) {
        self.inner.offer_ports(offer);
    }

    fn begins_at(&mut self, starts: &[Start]) {
        self.inner.begins_at(starts);
    }

    fn path(&self) -> Option<PathStats> {
        self.inner.path()
    }

    fn lend(&mut self) -> BytesMut {
        if !self.drained || self.lent || !self.inner.lends() {
            self.broken("a session was asked for memory that it does not lend");
        }
        self.lent = true;
        self.inner.lend()
    }
}
