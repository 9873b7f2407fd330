//! A stream as the host's subscribers have it: its newest frames, shared by all of them.
//!
//! The bridge writes, in batches; each subscriber reads by itself, from where it stands. Nothing is copied per subscriber,
//! and one that does not read costs nothing but its own place: it goes on at the newest entrance.

use std::{
    collections::VecDeque,
    ops::Deref,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use shardcast_engine::{
    limits::StreamLimits,
    media::{Frame, Payload, StreamName, TrackId},
    session::{Form, Wire},
    stream::{Group, Numbered, Place, Start},
    time::Now,
};

use super::{handle::wake_all, lock};

/// Frames in order, shared by all who were given them.
///
/// ```
/// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
/// use std::thread;
/// use shardcast_shards::host::{Batch, Node};
///
/// # fn packet(number: i64) -> Frame {
/// #     let time = MediaTime::from_millis(number * 20);
/// #     let payload = Payload::Audio { codec: Codec::Opus, data: bytes::Bytes::from_static(&[0xfc, 0, 0]) };
/// #     Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }
/// # }
/// /// Bytes of payload.
/// fn bytes_of(batch: &Batch) -> usize {
///     batch.iter().map(Frame::payload_bytes).sum()
/// }
/// # fn main() -> Result<(), shardcast_shards::host::HostError> {
/// # let node = Node::builder().start()?;
/// # let name = StreamName::parse("live/cam1")?;
/// # let mut publisher = node.publish(&name);
/// # publisher.send_blocking(packet(0))?;
/// # let mut subscriber = node.subscribe(&name);
/// let batch = subscriber.next_batch_blocking()?;
/// // For another thread, too, no frame is copied.
/// let same = batch.clone();
/// assert!(std::ptr::eq(&batch[0], &same[0]));
/// let counting = thread::spawn(move || bytes_of(&same));
/// assert_eq!(counting.join().expect("it does not panic"), bytes_of(&batch));
/// # node.stop()?;
/// # Ok(())
/// # }
/// ```
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
///
/// ```
/// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
/// use shardcast_shards::host::{Node, SubscribeError};
///
/// # fn main() -> Result<(), shardcast_shards::host::HostError> {
/// # let node = Node::builder().start()?;
/// # let name = StreamName::parse("live/cam1")?;
/// let mut subscriber = node.subscribe(&name);
/// node.stop()?;
/// assert_eq!(subscriber.next_blocking().err(), Some(SubscribeError::Stopped));
/// # Ok(())
/// # }
/// ```
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

/// How many of those who wait for a flush the bridge wakes itself. More than one, so that one that does not look at once holds
/// up nobody.
const HEADS: usize = 2;
/// How much earlier than an interval after the last flush the next may be.
const EARLY_MAX: Duration = Duration::from_millis(5);
/// How many of the others a subscriber wakes each time that it looks.
const CALLS: usize = 16;

/// One stream.
pub(super) struct Feed {
    pub name: StreamName,
    /// The number of the host's subscription; what carries another is of an earlier one.
    pub subscription: u64,
    /// When the bridge will flush it, nanoseconds; 0 when nothing is due. The bridge's alone.
    due: AtomicU64,
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
    /// There is something that those who wait have not been woken for.
    news: bool,
    /// When they were woken last.
    shown: Now,
    kept: VecDeque<Kept>,
    /// The number of the first batch that is kept; they are numbered from 0.
    first: u64,
    bytes: usize,
    over: Option<SubscribeError>,
    /// By seat: who waits for the next batch.
    seats: Vec<Option<Waker>>,
    free: Vec<usize>,
    /// Those who waited, and whom whoever looks next wakes.
    called: Vec<Waker>,
    /// The wire forms that somebody has asked for.
    wires: Vec<Muxing>,
}

struct Kept {
    batch: Batch,
    /// The same in the wire forms that there were.
    wires: Vec<(&'static Form, Bytes)>,
    bytes: usize,
    at: Now,
}

/// One wire form, muxed once for all who want it.
struct Muxing {
    form: &'static Form,
    wire: Box<dyn Wire>,
    users: usize,
}

impl Muxing {
    fn mux(&mut self, frames: &[Frame], out: &mut BytesMut) {
        frames.iter().for_each(|frame| self.wire.frame(frame, out));
    }
}

/// Where a subscriber goes on.
enum Step {
    /// With this batch of those that are kept.
    Kept(usize),
    /// From the newest entrance; whether it has left something out.
    Entrance { jumped: bool },
    /// Nowhere yet.
    Nowhere,
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
        Feed { name, subscription, due: AtomicU64::new(0), state: Mutex::default() }
    }

    // The subscribers' side.

    /// Takes a seat, to wait in, and a place: whoever comes before the stream's first entrance here misses nothing of it.
    pub fn sit(&self) -> (usize, At) {
        let (seat, begun) = self.take_seat();
        (seat, if begun { At::Outside } else { At::Before(0) })
    }

    /// Takes a seat. Says whether the stream has had an entrance here.
    fn take_seat(&self) -> (usize, bool) {
        let mut state = lock(&self.state);
        let seat = state.free.pop().unwrap_or_else(|| {
            state.seats.push(None);
            state.seats.len() - 1
        });
        (seat, state.begun)
    }

    /// As [`sit`](Self::sit), for one who wants bytes: these begin with a head, so it always enters by an entrance.
    pub fn sit_outside(&self) -> (usize, At) {
        (self.take_seat().0, At::Outside)
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
        self.look(|state| match state.step(at) {
            Step::Kept(place) => Poll::Ready(Ok(Got::Next(state.kept[place].batch.clone()))),
            Step::Entrance { jumped } => {
                let batch = state.start(jumped).expect("there is an entrance");
                Poll::Ready(Ok(if jumped { Got::Jump(batch) } else { Got::Start(batch) }))
            }
            Step::Nowhere => state.wait(seat, context),
        })
    }

    /// As [`poll`](Self::poll), in a wire form that was [asked for](Self::mux). The flag says that something was left out.
    pub fn poll_wire(
        &self,
        seat: usize,
        at: &mut At,
        form: &'static Form,
        context: &Context<'_>,
    ) -> Poll<Result<(Bytes, bool), SubscribeError>> {
        self.look(|state| match state.step(at) {
            Step::Kept(place) => Poll::Ready(Ok((state.wire_of(place, form), false))),
            Step::Entrance { jumped } => Poll::Ready(Ok((state.enter(form, jumped), jumped))),
            Step::Nowhere => state.wait(seat, context),
        })
    }

    /// Looks at the state for a subscriber, who then wakes some of the others: on its own thread, where that costs a fraction
    /// of what it does from the bridge's.
    fn look<T>(&self, what: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.state);
        let got = what(&mut state);
        let place = state.called.len().saturating_sub(CALLS);
        let mut called = state.called.split_off(place);
        drop(state);
        wake_all(&mut called);
        got
    }

    /// Somebody wants this wire form, from its entrance on.
    pub fn mux(&self, form: &'static Form) {
        let mut state = lock(&self.state);
        state.muxing(form).users += 1;
    }

    /// Somebody wants it no more.
    pub fn stop_mux(&self, form: &'static Form) {
        let mut state = lock(&self.state);
        state.muxing(form).users -= 1;
        state.wires.retain(|muxing| muxing.users > 0);
    }

    /// Whether the stream is live and shows no way in, so that a key frame would help.
    pub fn wants_keyframe(&self) -> bool {
        let state = lock(&self.state);
        state.live && state.group.frames().is_empty()
    }

    // The bridge's side.

    /// Notes when a flush is due, if one is. When one was until now, if so.
    pub fn set_due(&self, due: Option<Now>) -> Option<Now> {
        let before = self.due.swap(due.map_or(0, |due| due.0), Ordering::Relaxed);
        (before > 0).then_some(Now(before))
    }

    /// When what comes next may be shown, so that there is a flush each `interval`. What has come a little before that need not
    /// wait for it: shards send in time with their flushes.
    pub fn next_flush(&self, interval: Duration, now: Now) -> Now {
        let shown = lock(&self.state).shown;
        let early = shown.after(interval.saturating_sub(EARLY_MAX.min(interval / 4)));
        if early <= now { now } else { shown.after(interval) }
    }

    /// The stream begins here, or goes on after frames were lost on the way. True when somebody may have waited for this,
    /// so that it is to be shown at once.
    pub fn open(&self, start: &Start, limits: &StreamLimits, now: Now) -> bool {
        let mut state = lock(&self.state);
        if !std::mem::replace(&mut state.live, true) {
            state.group = start.group(now);
            state.touched = now;
            state.news = true;
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

    /// Shows the subscribers what has come. Whom that wakes is put into `wake`, to be woken when the lock is free; of many it
    /// is a few, who wake the others. Then it says true, and is to be flushed again a little later: who has not been woken by
    /// then, because those few did not look, is in `wake` too.
    pub fn flush(&self, limits: &StreamLimits, now: Now, wake: &mut Vec<Waker>) -> bool {
        let mut state = lock(&self.state);
        state.seal();
        state.let_go(limits.viewer_lag, limits.group_bytes.saturating_mul(2), now);
        if std::mem::take(&mut state.news) {
            state.shown = now;
            state.wake(if limits.flush.is_zero() { usize::MAX } else { HEADS }, wake);
        } else {
            wake.append(&mut state.called);
        }
        !state.called.is_empty()
    }

    /// There will be no more.
    pub fn end(&self, why: SubscribeError, wake: &mut Vec<Waker>) {
        let mut state = lock(&self.state);
        state.seal();
        state.over.get_or_insert(why);
        state.wake(usize::MAX, wake);
    }
}

impl State {
    /// Moves on from `at`, if there is something to move on to.
    fn step(&mut self, at: &mut At) -> Step {
        let jumped = matches!(at, At::Before(number) if *number < self.first);
        if let At::Before(number) = at
            && !jumped
        {
            let place = usize::try_from(*number - self.first).unwrap_or(usize::MAX);
            if place < self.kept.len() {
                *number += 1;
                return Step::Kept(place);
            }
            return Step::Nowhere;
        }
        if self.group.frames().is_empty() {
            return Step::Nowhere;
        }
        // The group holds what waits for the flush; what comes after it is this subscriber's next.
        self.seal();
        *at = At::Before(self.first + self.kept.len() as u64);
        Step::Entrance { jumped }
    }

    fn wait<T>(&mut self, seat: usize, context: &Context<'_>) -> Poll<Result<T, SubscribeError>> {
        if let Some(over) = self.over {
            return Poll::Ready(Err(over));
        }
        let waiting = &mut self.seats[seat];
        if waiting.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
            *waiting = Some(context.waker().clone());
        }
        Poll::Pending
    }

    fn muxing(&mut self, form: &'static Form) -> &mut Muxing {
        let place = self.wires.iter().position(|muxing| muxing.form == form);
        let place = place.unwrap_or_else(|| {
            self.wires.push(Muxing { form, wire: (form.open)(), users: 0 });
            self.wires.len() - 1
        });
        &mut self.wires[place]
    }

    /// A kept batch in a wire form.
    fn wire_of(&mut self, place: usize, form: &'static Form) -> Bytes {
        let kept = &self.kept[place];
        if let Some((_, bytes)) = kept.wires.iter().find(|(kept, _)| *kept == form) {
            return bytes.clone();
        }
        // It was made before anybody wanted this form.
        let (batch, mut out) = (kept.batch.clone(), BytesMut::new());
        self.muxing(form).mux(&batch, &mut out);
        out.freeze()
    }

    /// What a viewer in this form begins with, or goes on with after it has left something out.
    fn enter(&mut self, form: &'static Form, jumped: bool) -> Bytes {
        self.muxing(form);
        let State { group, wires, .. } = self;
        let (frames, mut out) = (group.frames(), BytesMut::new());
        let muxing = wires.iter_mut().find(|muxing| muxing.form == form);
        if let (Some(muxing), Some(first)) = (muxing, frames.first()) {
            if jumped {
                muxing.wire.refresh(group.opening(), &first.frame, &mut out);
            } else {
                muxing.wire.header(group.opening(), &first.frame, &mut out);
            }
            frames.iter().for_each(|numbered| muxing.wire.frame(&numbered.frame, &mut out));
        }
        out.freeze()
    }

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
        self.news = true;
        let bytes = self.pending.iter().map(Frame::payload_bytes).sum();
        self.bytes += bytes;
        let batch = Batch(self.pending.drain(..).collect());
        let mux = |muxing: &mut Muxing| {
            let mut out = BytesMut::with_capacity(bytes + batch.len() * 32);
            muxing.mux(&batch, &mut out);
            (muxing.form, out.freeze())
        };
        let wires = self.wires.iter_mut().map(mux).collect();
        self.kept.push_back(Kept { batch, wires, bytes, at: self.touched });
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

    /// Wakes who waits, the first `heads` of them directly.
    fn wake(&mut self, heads: usize, wake: &mut Vec<Waker>) {
        wake.append(&mut self.called);
        let mut waiting = self.seats.iter_mut().filter_map(Option::take);
        wake.extend(waiting.by_ref().take(heads));
        self.called.extend(waiting);
    }
}

/// Says that frames are missing before `next`.
fn discontinuity(next: &Frame) -> Frame {
    Frame { track: TrackId::DATA, dts: next.dts, pts: next.dts, payload: Payload::Discontinuity }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, task::Wake};

    use shardcast_engine::{codec::Codec, session::Opening, time::MediaTime};

    use super::*;

    /// Counts how often it was woken.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    struct Scene {
        feed: Feed,
        count: Arc<Count>,
        seats: Vec<(usize, At)>,
        limits: StreamLimits,
        groups: std::ops::RangeFrom<u64>,
    }

    impl Scene {
        /// A stream, and so many who have had all of it and wait.
        fn new(subscribers: usize) -> Scene {
            let feed = Feed::new(StreamName::new("live", "cam").expect("a legal name"), 1);
            let seats = (0..subscribers).map(|_| feed.sit()).collect();
            let mut scene =
                Scene { feed, count: Arc::default(), seats, limits: StreamLimits::default(), groups: 1.. };
            let opening = Opening::default();
            let start = Start { latest: opening.clone(), opening, frames: Arc::from([]), last: None };
            scene.feed.open(&start, &scene.limits, Now(0));
            scene.push();
            scene.flush();
            (0..subscribers).for_each(|who| while scene.look(who) {});
            scene.count.0.store(0, Ordering::SeqCst);
            scene
        }
        fn push(&mut self) {
            let number = self.groups.next().expect("there is always one more");
            let dts = MediaTime::from_millis(number.cast_signed() * 40);
            let payload =
                Payload::Video { codec: Codec::H264, key: true, data: Bytes::from_static(b"picture") };
            let frame = Frame { track: TrackId::VIDEO, dts, pts: dts, payload };
            let numbered = Numbered { place: Place { group: number, index: 0 }, frame };
            self.feed.push(None, &[numbered], &self.limits, Now(number));
        }
        /// How many the bridge wakes, and whether others are left.
        fn flush(&self) -> (usize, bool) {
            let mut wake = Vec::new();
            let left = self.feed.flush(&self.limits, Now(0), &mut wake);
            (wake.len(), left)
        }
        /// True when there was something new for that one.
        fn look(&mut self, who: usize) -> bool {
            let waker = Waker::from(self.count.clone());
            let (seat, at) = &mut self.seats[who];
            self.feed.poll(*seat, at, &Context::from_waker(&waker)).is_ready()
        }
        fn woken(&self) -> usize {
            self.count.0.load(Ordering::SeqCst)
        }
    }

    #[test]
    fn who_is_woken_wakes_the_others() {
        let mut scene = Scene::new(100);
        scene.push();
        assert_eq!(scene.flush(), (HEADS, true));
        for who in 0..100 {
            assert!(scene.look(who));
            assert_eq!(scene.woken(), (CALLS * (who + 1)).min(100 - HEADS), "by those who have looked");
        }
        assert_eq!(scene.flush(), (0, false), "nobody waits");
        (0..100).for_each(|who| assert!(!scene.look(who)));
        assert_eq!(scene.flush(), (0, false), "nothing is new");
    }

    #[test]
    fn what_comes_in_time_with_the_flushes_is_shown_at_once() {
        let mut scene = Scene::new(1);
        let at = |millis: u64| Now(millis * 1_000_000);
        let flush = Duration::from_millis(33);
        scene.push();
        scene.feed.flush(&scene.limits, at(100), &mut Vec::new());
        assert_eq!(scene.feed.next_flush(flush, at(110)), at(133));
        assert_eq!(scene.feed.next_flush(flush, at(131)), at(131), "two milliseconds before it is due");
        assert_eq!(scene.feed.next_flush(flush, at(500)), at(500));
        assert_eq!(scene.feed.next_flush(Duration::ZERO, at(100)), at(100));
    }

    #[test]
    fn who_is_woken_and_does_not_look_holds_up_nobody_for_longer_than_a_flush() {
        let mut scene = Scene::new(100);
        scene.push();
        assert_eq!(scene.flush(), (HEADS, true));
        assert_eq!(scene.flush(), (100 - HEADS, false), "all that are left");
    }

    #[test]
    fn without_a_flush_to_wait_for_all_are_woken_at_once() {
        let mut scene = Scene::new(100);
        scene.limits.flush = Duration::ZERO;
        scene.push();
        assert_eq!(scene.flush(), (100, false));
    }
}
