//! The way of a host's publisher into its shard: a lane of frames, and what its two ends must know of each other.
//!
//! The shard's end is a [`Session`] like any other, so that a publisher in this process is named, limited, recorded and
//! ended like one that came by a door. It never waits for the host: it takes what is there, and what it has to say it
//! leaves for the bridge, which is not on a shard.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering, fence},
    },
    task::Waker,
};

use shardcast_engine::{
    error::Error,
    media::{Frame, StreamName},
    session::{Answer, Event, Input, Output, Refusal, Session},
    time::Now,
};
use shardcast_io::lane::{Receiver, Sender};

use super::{bridge::Inbox, lock};

/// Frames that may wait between a publisher and its shard; more make it wait.
///
/// ```
/// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
/// use shardcast_shards::host::{BYTES_MAX, FRAMES_MAX, Node};
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
/// // So many go at once, however busy the node is.
/// for number in 0..FRAMES_MAX {
///     assert!(publisher.try_send(packet(number as i64)).is_ok());
/// }
/// // Pictures of 100 kB meet the other bound first.
/// assert!(FRAMES_MAX * 100_000 > BYTES_MAX);
/// # node.stop()?;
/// # Ok(())
/// # }
/// ```
pub const FRAMES_MAX: usize = 256;
/// Payload bytes that may wait; more make it wait. A frame that is larger by itself goes alone.
pub const BYTES_MAX: usize = 8 << 20;
/// Frames that a shard takes from one publisher before others get their turn.
const FRAMES_PER_TURN: usize = 128;

/// What both ends know.
pub(super) struct Way {
    /// Its number with its shard.
    pub number: u64,
    /// Payload bytes in the lane.
    bytes: AtomicUsize,
    /// The shard has been told that there is something, and has not looked yet.
    told: AtomicBool,
    /// The publisher waits for room.
    wants_room: AtomicBool,
    keyframe_wanted: AtomicBool,
    standing: AtomicU8,
    /// Of the publisher, while it waits. Never touched by a shard: whoever holds the lock may have been put to sleep.
    waker: Mutex<Option<Waker>>,
}

/// How a publisher stands with the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The node has not answered.
    Asking,
    /// The stream is the publisher's.
    Granted,
    /// It is not, and will not be.
    Refused(Refusal),
    /// It was, and is no more.
    Closed,
}

impl Standing {
    const REFUSALS: [Refusal; 5] =
        [Refusal::AlreadyLive, Refusal::NotFound, Refusal::Forbidden, Refusal::Full, Refusal::ShuttingDown];

    fn to_byte(self) -> u8 {
        match self {
            Standing::Asking => 0,
            Standing::Granted => 1,
            Standing::Closed => 2,
            Standing::Refused(why) => {
                let place = Self::REFUSALS.iter().position(|refusal| *refusal == why);
                3 + u8::try_from(place.unwrap_or(0)).unwrap_or(0)
            }
        }
    }

    fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Standing::Asking,
            1 => Standing::Granted,
            2 => Standing::Closed,
            refused => Standing::Refused(Self::REFUSALS[usize::from(refused - 3)]),
        }
    }
}

impl Way {
    pub fn new(number: u64) -> Way {
        Way {
            number,
            bytes: AtomicUsize::new(0),
            told: AtomicBool::new(false),
            wants_room: AtomicBool::new(false),
            keyframe_wanted: AtomicBool::new(false),
            standing: AtomicU8::new(Standing::Asking.to_byte()),
            waker: Mutex::new(None),
        }
    }

    pub fn standing(&self) -> Standing {
        Standing::from_byte(self.standing.load(Ordering::Acquire))
    }

    /// A refusal is the last word.
    pub fn set_standing(&self, standing: Standing) {
        if !matches!(self.standing(), Standing::Refused(_)) {
            self.standing.store(standing.to_byte(), Ordering::Release);
        }
    }

    pub fn take_keyframe_wanted(&self) -> bool {
        self.keyframe_wanted.swap(false, Ordering::AcqRel)
    }

    // The publisher's end.

    /// Whether a frame of so many bytes may go.
    pub fn has_room(&self, lane: &Sender<Frame>, bytes: usize) -> bool {
        let waiting = self.bytes.load(Ordering::Acquire);
        lane.room() > 0 && (waiting == 0 || waiting + bytes <= BYTES_MAX)
    }

    /// Counts a frame that is about to be pushed.
    pub fn count(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// True when the shard must be told that there is something; it was not since it looked last.
    pub fn must_tell(&self) -> bool {
        !self.told.swap(true, Ordering::SeqCst)
    }

    /// Whom to wake when the standing changes, a key frame is wanted, or (after [`want_room`](Self::want_room)) there is
    /// room. Look again after this call.
    pub fn wait(&self, waker: &Waker) {
        *lock(&self.waker) = Some(waker.clone());
    }

    /// Says that the publisher waits for room. Look once more after this call.
    pub fn want_room(&self) {
        self.wants_room.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    // The bridge's.

    /// The publisher's waker, if it waits.
    pub fn take_waker(&self) -> Option<Waker> {
        lock(&self.waker).take()
    }
}

/// The shard's end.
pub(super) struct Guest {
    way: Arc<Way>,
    frames: Receiver<Frame>,
    bridge: Arc<Inbox>,
    name: StreamName,
    state: State,
    outbox: VecDeque<Output>,
    /// There was more than one turn takes; the next is due.
    more: Option<Now>,
    taken: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Entered,
    Asking,
    Publishing,
    Over,
}

impl Guest {
    pub fn new(way: Arc<Way>, frames: Receiver<Frame>, bridge: Arc<Inbox>, name: StreamName) -> Guest {
        Guest {
            way,
            frames,
            bridge,
            name,
            state: State::Entered,
            outbox: VecDeque::new(),
            more: None,
            taken: 0,
        }
    }

    fn stand(&mut self, standing: Standing) {
        self.way.set_standing(standing);
        self.bridge.news_of(&self.way);
    }

    fn end(&mut self) {
        self.state = State::Over;
        self.outbox.push_back(Output::Close);
    }

    /// Takes what has come, as much as one turn may.
    fn take(&mut self, now: Now) {
        // Cleared first: what is pushed from here on tells again, and what was pushed before is seen below.
        self.way.told.store(false, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        // Looked at before the lane: what was pushed before the publisher went is taken.
        let gone = self.frames.is_abandoned();
        let mut bytes = 0;
        for _ in 0..FRAMES_PER_TURN {
            let Some(frame) = self.frames.pop() else { break };
            bytes += frame.payload_bytes();
            self.outbox.push_back(Output::Event(Event::Frame(frame)));
        }
        self.taken += bytes as u64;
        self.way.bytes.fetch_sub(bytes, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        if self.way.wants_room.load(Ordering::Relaxed) && self.way.wants_room.swap(false, Ordering::AcqRel) {
            self.bridge.news_of(&self.way);
        }
        let more = !self.frames.is_empty();
        self.more = more.then_some(now);
        if gone && !more {
            self.outbox.push_back(Output::Event(Event::Unpublish));
            self.end();
        }
    }
}

impl Session for Guest {
    fn handle(&mut self, input: Input<'_>, now: Now) -> Result<(), Error> {
        match input {
            Input::Received(_) | Input::Filled { .. } | Input::Timeout => {
                if self.state == State::Entered {
                    self.state = State::Asking;
                    let wish = Event::Publish { name: self.name.clone(), query: String::new() };
                    self.outbox.push_back(Output::Event(wish));
                }
            }
            Input::Answer(Answer::Refused(why)) => {
                self.stand(Standing::Refused(why));
                self.end();
            }
            Input::Answer(_) => {
                self.state = State::Publishing;
                self.stand(Standing::Granted);
            }
            Input::KeyframeWanted => {
                self.way.keyframe_wanted.store(true, Ordering::Release);
                self.bridge.news_of(&self.way);
            }
            // It asks for neither.
            Input::Described(_) | Input::Fetched(_) | Input::Datagram { .. } => {}
            Input::From { .. } | Input::Signal(_) | Input::Signalled(_) => {}
            Input::Ended | Input::Shutdown => self.end(),
        }
        if self.state == State::Publishing {
            self.take(now);
        }
        Ok(())
    }

    fn poll(&mut self) -> Option<Output> {
        self.outbox.pop_front()
    }

    fn deadline(&self) -> Option<Now> {
        if self.state == State::Publishing { self.more } else { None }
    }

    fn received(&self) -> u64 {
        self.taken
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.stand(Standing::Closed);
    }
}
