//! A stream as the host's subscribers have it: its newest frames, shared by all of them.
//!
//! The bridge writes, in batches; each subscriber reads by itself, from where it stands. Nothing is copied per subscriber,
//! and one that does not read costs nothing but its own place: it goes on at the newest entrance.

use std::{
    collections::VecDeque,
    ops::Deref,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use shardcast_engine::{
    limits::StreamLimits,
    media::{Frame, Payload, StreamName, TrackId},
    stream::{Group, Numbered, Place, Start},
    time::Now,
};

use super::lock;

/// Frames in order, shared by all who were given them.
#[derive(Clone, Debug)]
pub struct Batch(Arc<[Frame]>);

impl Deref for Batch {
    type Target = [Frame];
    fn deref(&self) -> &[Frame] {
        &self.0
    }
}

impl Batch {
    /// The frames of this one without the first `taken`.
    pub(super) fn after(&self, taken: usize) -> Batch {
        Batch(self.0[taken..].into())
    }
}

impl Default for Batch {
    fn default() -> Self {
        Batch(Arc::from([]))
    }
}

/// Why there are no more frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscribeError {
    /// The stream has ended for good: its publisher went and did not come back within `reconnect_window`.
    Ended,
    /// The node goes down.
    Stopped,
}

impl std::fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SubscribeError::Ended => "the stream has ended",
            SubscribeError::Stopped => "the node has stopped",
        })
    }
}

impl std::error::Error for SubscribeError {}

/// One stream.
pub(super) struct Feed {
    pub name: StreamName,
    /// The number of the host's subscription; what carries another is of an earlier one.
    pub subscription: u64,
    /// The bridge will flush it.
    due: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    group: Group,
    live: bool,
    /// There was an entrance. The first batch begins with it.
    begun: bool,
    /// When the last frame came.
    touched: Now,
    /// What came since the last flush.
    pending: Vec<Frame>,
    kept: VecDeque<Kept>,
    /// The number of the first batch that is kept; they are numbered from 0.
    first: u64,
    bytes: usize,
    over: Option<SubscribeError>,
    /// By seat: who waits for the next batch.
    seats: Vec<Option<Waker>>,
    free: Vec<usize>,
}

struct Kept {
    batch: Batch,
    bytes: usize,
    at: Now,
}

/// Where a subscriber stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// It waits for an entrance.
    Outside,
    /// It has had all batches before this one.
    Before(u64),
}

/// What a subscriber gets.
pub(super) enum Got {
    /// Its first frames: what must be known before them, then all since the newest entrance.
    Start(Batch),
    /// The next.
    Next(Batch),
    /// What it wanted is no longer kept: it goes on with these, from the newest entrance.
    Jump(Batch),
}

impl Feed {
    pub fn new(name: StreamName, subscription: u64) -> Feed {
        Feed { name, subscription, due: AtomicBool::new(false), state: Mutex::default() }
    }

    // The subscribers' side.

    /// Takes a seat, to wait in, and a place: whoever comes before the stream's first entrance here misses nothing of it.
    pub fn sit(&self) -> (usize, At) {
        let mut state = lock(&self.state);
        let seat = state.free.pop().unwrap_or_else(|| {
            state.seats.push(None);
            state.seats.len() - 1
        });
        (seat, if state.begun { At::Outside } else { At::Before(0) })
    }

    /// Leaves the seat. True when nobody is left.
    pub fn rise(&self, seat: usize) -> bool {
        let mut state = lock(&self.state);
        state.seats[seat] = None;
        state.free.push(seat);
        state.free.len() == state.seats.len()
    }

    /// What comes next for whoever sits in `seat` and stands at `at`.
    pub fn poll(&self, seat: usize, at: &mut At, context: &Context<'_>) -> Poll<Result<Got, SubscribeError>> {
        let mut state = lock(&self.state);
        let lagged = matches!(at, At::Before(number) if *number < state.first);
        if let At::Before(number) = at
            && !lagged
        {
            let place = usize::try_from(*number - state.first).unwrap_or(usize::MAX);
            if let Some(kept) = state.kept.get(place) {
                *number += 1;
                return Poll::Ready(Ok(Got::Next(kept.batch.clone())));
            }
        } else if let Some(batch) = state.start(lagged) {
            // The group holds what waits for the flush; what comes after it is this subscriber's next.
            state.seal();
            *at = At::Before(state.first + state.kept.len() as u64);
            return Poll::Ready(Ok(if lagged { Got::Jump(batch) } else { Got::Start(batch) }));
        }
        if let Some(over) = state.over {
            return Poll::Ready(Err(over));
        }
        let waiting = &mut state.seats[seat];
        if waiting.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
            *waiting = Some(context.waker().clone());
        }
        Poll::Pending
    }

    /// Whether the stream is live and shows no way in, so that a key frame would help.
    pub fn wants_keyframe(&self) -> bool {
        let state = lock(&self.state);
        state.live && state.group.frames().is_empty()
    }

    // The bridge's side.

    /// Notes whether a flush is due. True when that is news.
    pub fn is_due(&self, due: bool) -> bool {
        self.due.swap(due, Ordering::Relaxed) != due
    }

    /// The stream begins here, or goes on after frames were lost on the way. True when somebody may have waited for this,
    /// so that it is to be shown at once.
    pub fn open(&self, start: &Start, limits: &StreamLimits, now: Now) -> bool {
        let mut state = lock(&self.state);
        if !std::mem::replace(&mut state.live, true) {
            state.group = start.group(now);
            state.touched = now;
            if let Some(first) = state.start(false) {
                state.begun = true;
                state.pending.extend_from_slice(&first);
            }
            return true;
        }
        let last = state.group.last();
        if let (Some(last), Some(first)) = (last, start.frames.first())
            && first.place > last
            && state.begun
        {
            // What the opening holds may have changed in the gap.
            state.pending.push(discontinuity(&first.frame));
            state.pending.extend(start.opening.frames().cloned());
        }
        for frame in start.opening.frames() {
            state.group.note(frame);
        }
        state.take(&start.frames, last, limits, now)
    }

    /// The next frames, the first of which comes after the one numbered `after`. True when they are to be shown at once.
    pub fn push(&self, after: Option<Place>, frames: &[Numbered], limits: &StreamLimits, now: Now) -> bool {
        let mut state = lock(&self.state);
        let last = state.group.last();
        // When something was lost on the way the owner knows, and opens anew with its next entrance.
        after <= last && state.take(frames, last, limits, now)
    }

    /// Shows the subscribers what has come. Whom that wakes is put into `wake`, to be woken when the lock is free.
    pub fn flush(&self, limits: &StreamLimits, now: Now, wake: &mut Vec<Waker>) {
        let mut state = lock(&self.state);
        state.seal();
        state.let_go(limits.viewer_lag, limits.group_bytes.saturating_mul(2), now);
        state.wake(wake);
    }

    /// There will be no more.
    pub fn end(&self, why: SubscribeError, wake: &mut Vec<Waker>) {
        let mut state = lock(&self.state);
        state.seal();
        state.over.get_or_insert(why);
        state.wake(wake);
    }
}

impl State {
    /// True when there was no way in before these, and now there is.
    fn take(&mut self, numbered: &[Numbered], last: Option<Place>, limits: &StreamLimits, now: Now) -> bool {
        let shut = self.group.frames().is_empty();
        self.touched = now;
        // What came with the opening already is passed over.
        for numbered in numbered.iter().filter(|numbered| last.is_none_or(|last| numbered.place > last)) {
            self.group.push(numbered, limits, now);
            if !self.begun && !self.group.frames().is_empty() {
                self.begun = true;
                self.pending.extend(self.group.opening().frames().cloned());
            }
            if self.begun {
                self.pending.push(numbered.frame.clone());
            }
        }
        shut && !self.group.frames().is_empty()
    }

    /// Makes a batch of what waits.
    fn seal(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let bytes = self.pending.iter().map(Frame::payload_bytes).sum();
        self.bytes += bytes;
        let batch = Batch(self.pending.drain(..).collect());
        self.kept.push_back(Kept { batch, bytes, at: self.touched });
    }

    /// Lets go of what is older than a viewer may lag, or more than may be kept; never of the newest batch.
    fn let_go(&mut self, lag: Duration, bytes_max: usize, now: Now) {
        while self.kept.len() > 1
            && let Some(oldest) = self.kept.front()
            && (now.since(oldest.at) > lag || self.bytes > bytes_max)
        {
            self.bytes -= oldest.bytes;
            self.kept.pop_front();
            self.first += 1;
        }
    }

    /// The kept group with all that must be known before it, if there is a way in.
    fn start(&self, lagged: bool) -> Option<Batch> {
        let first = self.group.frames().first()?;
        let mark = lagged.then(|| discontinuity(&first.frame));
        let opening = self.group.opening().frames().cloned();
        let frames = self.group.frames().iter().map(|numbered| numbered.frame.clone());
        Some(Batch(mark.into_iter().chain(opening).chain(frames).collect()))
    }

    fn wake(&mut self, wake: &mut Vec<Waker>) {
        wake.extend(self.seats.iter_mut().filter_map(Option::take));
    }
}

/// Says that frames are missing before `next`.
fn discontinuity(next: &Frame) -> Frame {
    Frame { track: TrackId::DATA, dts: next.dts, pts: next.dts, payload: Payload::Discontinuity }
}
