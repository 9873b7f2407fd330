//! One HTTP/2 connection without its socket: bytes in, requests out; answers in, bytes out.
//!
//! What a client will take of an answer is what it has opened its windows for (RFC 9113, 5.2), and no more is taken from the hub
//! than that: a closed window is to the hub what a full socket is, so that a viewer which does not read lags and jumps like any
//! other. What `h2` keeps for a branch is at most [`BRANCH_BYTES_MAX`], and what waits for the kernel is bounded for all of them
//! together.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Buf, Bytes};
use h2::{
    Error, Reason, RecvStream, SendStream,
    server::{Builder, Connection, Handshake, SendResponse},
};

use super::{credit::Credit, pipe::Pipe, text};
use crate::{
    error::ErrorKind,
    http::{
        request::Method,
        route::{Route, route},
        session::is_end,
    },
    limits::{self, DoorLimits},
    time::Now,
};

/// A branch of one trunk: the number of its HTTP/2 stream, which is used once (RFC 9113, 5.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BranchId(pub u32);

/// One HTTP/2 connection.
pub struct Trunk {
    talk: Talk,
    pipe: Pipe,
    branches: BTreeMap<BranchId, Branch>,
    /// What is still to come of requests that are answered.
    bodies: Vec<Body>,
    outputs: VecDeque<Output>,
    /// What the kernel was given last and has not taken yet.
    given: Bytes,
    /// The kernel is at work on it.
    in_flight: bool,
    credit: Credit,
    received: u64,
    idle: Duration,
    /// A request has come.
    asked: bool,
    /// How long it may have no branch.
    until: Now,
    /// It is on its way out, and is closed then at the latest.
    ends: Option<Now>,
    /// The node goes down: it ends with its last branch.
    leaving: bool,
    /// The last output was given.
    closed: bool,
}

/// What has been said so far.
enum Talk {
    /// Our settings, and the client's preface perhaps in part.
    Greeting(Box<Handshake<Pipe, Bytes>>),
    /// Both: requests may come.
    Open(Box<Connection<Pipe, Bytes>>),
    /// We have ended it, and our last word waits for room. Nothing more is heard.
    Ending(Box<Connection<Pipe, Bytes>>),
    /// All.
    Over,
}

/// What a trunk wants done.
#[derive(Debug)]
pub enum Output {
    /// A request has come: its head, as HTTP/1.1 writes it. [`Trunk::answer`] answers it, and [`Trunk::leave`] ends it.
    Asked {
        /// The new branch.
        branch: BranchId,
        /// The head.
        head: Vec<u8>,
    },
    /// More of a request has come, whose body somebody [takes](crate::http::route::Route::takes_body): as HTTP/1.1 writes it, in
    /// chunks.
    Heard {
        /// Whose.
        branch: BranchId,
        /// Chunks of the body, or what ends it.
        bytes: Vec<u8>,
    },
    /// So many bytes have gone of those that [`Trunk::answer`] could not take at once. What is left of them is given again.
    Taken {
        /// Whose.
        branch: BranchId,
        /// How many, at least one.
        bytes: usize,
    },
    /// The client wants no more of a branch, or cannot be told more. It is still to be [left](Trunk::leave).
    Gone {
        /// Which.
        branch: BranchId,
    },
    /// The client broke a rule or a bound, or was too late. Its branches are gone and [`Output::Close`] will follow.
    Broken(Fault),
    /// All is said, or can no longer be: close the connection.
    Close,
}

/// Why a trunk cannot go on.
#[derive(Debug)]
pub struct Fault {
    why: Why,
    /// At which byte of what has come.
    pub at: u64,
}

#[derive(Debug)]
enum Why {
    Http2(Error),
    Flood,
    Deaf,
    Silent,
    Panicked,
}

/// One request and its answer.
struct Branch {
    answer: Answer,
    /// What of the answer the client has no room for yet.
    waiting: Bytes,
    /// What is still to come of the request.
    body: Option<Body>,
}

/// The body of a request. One that nobody here wants is read and dropped as far as its bound: a client that is told in the middle
/// of it that nobody listens may take that for a broken answer; curl does.
struct Body {
    stream: RecvStream,
    bytes: usize,
    /// Somebody wants it, as long as it has no answer.
    wanted: bool,
}

enum Answer {
    /// Nothing is said.
    Awaited(SendResponse<Bytes>),
    /// The head is, and perhaps some of the body.
    Begun(SendStream<Bytes>),
    /// All is, or nothing more can be.
    Done,
}

impl Trunk {
    /// The trunk of a client that speaks HTTP/2, with all its bytes still to come, the preface first. Its first request must be
    /// there at `until`.
    pub fn new(limits: &DoorLimits, until: Now, now: Now) -> Self {
        let pipe = Pipe::default();
        Trunk {
            talk: Talk::Greeting(Box::new(rules().handshake(pipe.clone()))),
            pipe,
            branches: BTreeMap::new(),
            bodies: Vec::new(),
            outputs: VecDeque::new(),
            given: Bytes::new(),
            in_flight: false,
            credit: Credit::new(now),
            received: 0,
            idle: limits.idle,
            asked: false,
            until,
            ends: None,
            leaving: false,
            closed: false,
        }
    }

    /// Takes what has come, cut anywhere. Drain [`poll`](Self::poll) then.
    pub fn receive(&mut self, bytes: &[u8], now: Now) {
        self.received += bytes.len() as u64;
        if matches!(self.talk, Talk::Ending(_) | Talk::Over) {
            return;
        }
        self.pipe.put(bytes);
        self.work(now);
        if !self.credit.spend(bytes.len(), now) {
            self.fail(Why::Flood, now);
        } else if self.pipe.unread() > UNREAD_BYTES_MAX {
            self.fail(Why::Deaf, now);
        }
    }

    /// Takes the next bytes of an answer, from their beginning, as a [carried](crate::http::Session::carried) session
    /// says them: how many. When it is none they wait, and [`Output::Taken`] follows; until then the branch is given nothing
    /// more. [`work`](Self::work) sends them on.
    pub fn answer(&mut self, branch: BranchId, bytes: &Bytes, now: Now) -> usize {
        // A panic here is a bug that this peer has brought out. It must cost this peer and nobody else.
        catch_unwind(AssertUnwindSafe(|| self.say(branch, bytes))).unwrap_or_else(|_| {
            self.fail(Why::Panicked, now);
            0
        })
    }

    /// Forgets a branch. An answer that is not whole is cut off, so that the client can tell.
    pub fn leave(&mut self, branch: BranchId, now: Now) {
        let Some(left) = self.branches.remove(&branch) else { return };
        match catch_unwind(AssertUnwindSafe(|| left.cut())) {
            Ok(body) => self.bodies.extend(body),
            Err(_) => self.fail(Why::Panicked, now),
        }
        if self.branches.is_empty() {
            self.until = now.after(self.idle);
            self.end_if_left(now);
        }
    }

    /// Does what can be done now: after bytes were given to it or taken from it. Drain [`poll`](Self::poll) then.
    pub fn work(&mut self, now: Now) {
        match catch_unwind(AssertUnwindSafe(|| self.advance(now))) {
            Ok(Ok(())) => {}
            Ok(Err(why)) => self.fail(why, now),
            Err(_) => self.fail(Why::Panicked, now),
        }
        self.settle(now);
    }

    /// The next thing to do, or `None` when there is nothing left.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What to give the kernel now, to be answered by [`sent`](Self::sent). `None` while it is at work, and when there is
    /// nothing.
    pub fn next_send(&mut self) -> Option<Bytes> {
        if self.in_flight {
            return None;
        }
        if self.given.is_empty() {
            self.given = Bytes::from(self.pipe.take());
        }
        self.in_flight = !self.given.is_empty();
        self.in_flight.then(|| self.given.clone())
    }

    /// The kernel has taken so many bytes of what it was given. There is room for more: [`work`](Self::work).
    pub fn sent(&mut self, count: usize) {
        self.in_flight = false;
        self.given.advance(count.min(self.given.len()));
        if self.given.is_empty() {
            // An empty slice would hold on to the memory.
            self.given = Bytes::new();
        }
    }

    /// When to say [`time_out`](Self::time_out) if nothing happens before.
    pub fn deadline(&self) -> Option<Now> {
        let idle = self.branches.is_empty().then_some(self.until);
        self.ends.or(idle).filter(|_| !self.closed)
    }

    /// Ends it if its time has come. Drain [`poll`](Self::poll) then.
    pub fn time_out(&mut self, now: Now) {
        if self.ends.is_some_and(|ends| ends <= now) {
            self.over();
            self.close();
        } else if self.ends.is_none() && self.branches.is_empty() && self.until <= now {
            if !self.asked {
                self.outputs.push_back(Output::Broken(Fault { why: Why::Silent, at: self.received }));
            }
            self.end(Reason::NO_ERROR, now);
        }
    }

    /// The node is going down: the client is told (RFC 9113, 6.8), answers that have begun are finished, and then it ends.
    pub fn shut_down(&mut self, now: Now) {
        self.leaving = true;
        match &mut self.talk {
            Talk::Open(connection) => connection.graceful_shutdown(),
            Talk::Greeting(_) => self.over(),
            Talk::Ending(_) | Talk::Over => {}
        }
        self.end_if_left(now);
        self.work(now);
    }

    /// Lets `h2` read and write, until neither it nor an answer that waits can go on.
    fn advance(&mut self, now: Now) -> Result<(), Why> {
        let mut context = Context::from_waker(Waker::noop());
        loop {
            match &mut self.talk {
                Talk::Greeting(handshake) => match Pin::new(handshake.as_mut()).poll(&mut context) {
                    Poll::Ready(connection) => {
                        self.talk = Talk::Open(Box::new(connection.map_err(Why::Http2)?));
                    }
                    Poll::Pending => return Ok(()),
                },
                Talk::Open(connection) => match connection.poll_accept(&mut context) {
                    Poll::Ready(Some(asked)) => {
                        let (request, respond) = asked.map_err(Why::Http2)?;
                        self.begin(request, respond);
                    }
                    Poll::Ready(None) => self.over(),
                    Poll::Pending => {
                        if !self.go_on(&mut context, now)? {
                            return Ok(());
                        }
                    }
                },
                Talk::Ending(connection) => match connection.poll_closed(&mut context) {
                    Poll::Ready(_) => self.over(),
                    Poll::Pending => return Ok(()),
                },
                Talk::Over => return Ok(()),
            }
        }
    }

    /// A request has come.
    fn begin(&mut self, request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let id = BranchId(respond.stream_id().as_u32());
        self.asked = true;
        let method = Method::named(request.method().as_str());
        let takes_body = |route: &Route| route.takes_body(method);
        let wanted =
            !request.body().is_end_stream() && route(request.uri().path()).as_ref().is_ok_and(takes_body);
        if wanted && request.headers().contains_key(http::header::EXPECT) {
            // Where it cannot be sent, nothing can. (RFC 9110, 10.1.1)
            let mut leave = http::Response::new(());
            *leave.status_mut() = http::StatusCode::CONTINUE;
            let _ = respond.send_informational(leave);
        }
        self.outputs.push_back(Output::Asked { branch: id, head: text::head_of(&request, wanted) });
        let stream = request.into_body();
        let body = (!stream.is_end_stream()).then_some(Body { stream, bytes: 0, wanted });
        self.branches.insert(id, Branch { answer: Answer::Awaited(respond), waiting: Bytes::new(), body });
    }

    /// Looks which branches the client has reset, and goes on with answers that it has room for again; whether there was one.
    fn go_on(&mut self, context: &mut Context<'_>, now: Now) -> Result<bool, Why> {
        let mut moved = false;
        self.bodies.retain_mut(|body| body.goes_on(context, |_| ()));
        for (&id, branch) in &mut self.branches {
            if branch.is_reset(context) {
                branch.end();
                self.outputs.push_back(Output::Gone { branch: id });
                if !self.credit.spend_on_reset(now) {
                    return Err(Why::Flood);
                }
                continue;
            }
            let hear = |bytes| self.outputs.push_back(Output::Heard { branch: id, bytes });
            if branch.body.as_mut().is_some_and(|body| !body.goes_on(context, hear)) {
                branch.body = None;
            }
            let bytes = branch.say_what_waits();
            if bytes > 0 {
                moved = true;
                self.credit.earn(bytes);
                self.outputs.push_back(Output::Taken { branch: id, bytes });
            }
        }
        Ok(moved)
    }

    fn say(&mut self, id: BranchId, bytes: &Bytes) -> usize {
        let Some(branch) = self.branches.get_mut(&id) else { return 0 };
        let taken = if is_end(bytes) {
            if branch.say_end() {
                self.credit.earn_answer();
                bytes.len()
            } else {
                0
            }
        } else {
            branch.say(bytes)
        };
        if taken == 0 && matches!(branch.answer, Answer::Done) {
            self.outputs.push_back(Output::Gone { branch: id });
        }
        self.credit.earn(taken);
        taken
    }

    fn fail(&mut self, why: Why, now: Now) {
        // The client has ended it, for reasons of its own.
        let theirs = matches!(&why, Why::Http2(error) if error.is_remote() || error.is_io());
        let ours = matches!(why, Why::Flood | Why::Deaf);
        if matches!(self.talk, Talk::Ending(_) | Talk::Over) {
            return;
        }
        if !theirs {
            self.outputs.push_back(Output::Broken(Fault { why, at: self.received }));
        }
        if ours {
            self.end(Reason::ENHANCE_YOUR_CALM, now);
        } else {
            // `h2` has said what it has to say.
            self.over();
            self.settle(now);
        }
    }

    /// Tells the client that it is over, whatever waits.
    fn end(&mut self, reason: Reason, now: Now) {
        self.ends = Some(now.after(FAREWELL));
        self.talk = match mem::replace(&mut self.talk, Talk::Over) {
            Talk::Open(mut connection) => {
                connection.abrupt_shutdown(reason);
                Talk::Ending(connection)
            }
            Talk::Ending(connection) => Talk::Ending(connection),
            Talk::Greeting(_) | Talk::Over => Talk::Over,
        };
        self.lose_branches();
        self.work(now);
    }

    /// Nothing more is said but what is written already.
    fn over(&mut self) {
        self.lose_branches();
        let (talk, bodies) = (mem::replace(&mut self.talk, Talk::Over), mem::take(&mut self.bodies));
        let _ = catch_unwind(AssertUnwindSafe(|| drop(talk)));
        bodies.into_iter().for_each(|body| drop(catch_unwind(AssertUnwindSafe(|| drop(body)))));
    }

    fn lose_branches(&mut self) {
        for (&id, branch) in &mut self.branches {
            if !matches!(branch.answer, Answer::Done) {
                self.outputs.push_back(Output::Gone { branch: id });
            }
            // After a panic `h2` may panic once more when something of it is dropped.
            let _ = catch_unwind(AssertUnwindSafe(|| branch.end()));
            let body = branch.body.take();
            let _ = catch_unwind(AssertUnwindSafe(|| drop(body)));
        }
    }

    fn end_if_left(&mut self, now: Now) {
        if self.leaving && self.branches.is_empty() && self.ends.is_none() {
            self.ends = Some(now.after(FAREWELL));
        }
    }

    /// Closes it when all is said.
    fn settle(&mut self, now: Now) {
        if !matches!(self.talk, Talk::Over) {
            return;
        }
        if self.given.is_empty() && self.pipe.is_empty() {
            self.close();
        } else if self.ends.is_none() {
            self.ends = Some(now.after(FAREWELL));
        }
    }

    fn close(&mut self) {
        if !mem::replace(&mut self.closed, true) {
            self.outputs.push_back(Output::Close);
        }
    }
}

impl Branch {
    fn is_reset(&mut self, context: &mut Context<'_>) -> bool {
        match &mut self.answer {
            Answer::Awaited(respond) => respond.poll_reset(context).is_ready(),
            Answer::Begun(stream) => stream.poll_reset(context).is_ready(),
            Answer::Done => false,
        }
    }

    /// Says as much of `bytes` as the client has room for; the head goes in any case.
    fn say(&mut self, bytes: &Bytes) -> usize {
        let mut length = 0;
        if let Answer::Awaited(respond) = &mut self.answer {
            let begun = text::response_of(bytes).and_then(|(response, head)| {
                length = head;
                respond.send_response(response, false).ok()
            });
            match begun {
                Some(stream) => self.answer = Answer::Begun(stream),
                None => {
                    respond.send_reset(Reason::INTERNAL_ERROR);
                    self.end();
                    return 0;
                }
            }
        }
        let body = bytes.slice(length..);
        if let (Answer::Begun(stream), false) = (&mut self.answer, body.is_empty()) {
            stream.reserve_capacity(body.len().min(BRANCH_BYTES_MAX));
            self.waiting = body;
            length += self.say_what_waits();
        }
        if length > 0 {
            // What is left comes again.
            self.waiting = Bytes::new();
        }
        length
    }

    /// Says as much of what waits as the client has room for; it no longer waits then.
    fn say_what_waits(&mut self) -> usize {
        let Answer::Begun(stream) = &mut self.answer else { return 0 };
        let room = stream.capacity().min(self.waiting.len());
        if room == 0 {
            return 0;
        }
        let piece = mem::take(&mut self.waiting).split_to(room);
        if stream.send_data(piece, false).is_err() {
            // It was reset, and that will be seen.
            return 0;
        }
        room
    }

    /// Says that the answer is whole; false when it cannot.
    fn say_end(&mut self) -> bool {
        let Answer::Begun(stream) = &mut self.answer else { return false };
        let said = stream.send_data(Bytes::new(), true).is_ok();
        self.end();
        said
    }

    /// Nothing more is said.
    fn end(&mut self) {
        self.answer = Answer::Done;
        self.waiting = Bytes::new();
    }

    /// Cuts the answer off, if it is not whole; if it is, what is still to come of the request is left.
    fn cut(self) -> Option<Body> {
        match self.answer {
            Answer::Awaited(mut respond) => respond.send_reset(Reason::REFUSED_STREAM),
            Answer::Begun(mut stream) => stream.send_reset(Reason::INTERNAL_ERROR),
            Answer::Done => return self.body.map(|body| Body { wanted: false, ..body }),
        }
        None
    }
}

impl Body {
    /// Takes what has come, and lets it be heard if it is wanted. False when there will be no more, or too much has come.
    fn goes_on(&mut self, context: &mut Context<'_>, mut hear: impl FnMut(Vec<u8>)) -> bool {
        while let Poll::Ready(data) = self.stream.poll_data(context) {
            if self.wanted && data.is_none() {
                hear(text::LAST_CHUNK.to_vec());
            }
            let Some(Ok(data)) = data else { return false };
            self.bytes += data.len();
            // What is too much is heard, too, so that it is not taken for the end.
            if self.wanted && !data.is_empty() {
                hear(text::chunk_of(&data));
            }
            let released = self.stream.flow_control().release_capacity(data.len());
            if self.bytes > limits::HTTP_BODY_BYTES_MAX || released.is_err() {
                return false;
            }
        }
        true
    }
}

impl Fault {
    /// What kind of fault it is.
    pub fn kind(&self) -> ErrorKind {
        match &self.why {
            Why::Http2(error) if error.reason() == Some(Reason::ENHANCE_YOUR_CALM) => ErrorKind::TooLarge,
            Why::Http2(_) => ErrorKind::Malformed,
            Why::Flood | Why::Deaf => ErrorKind::TooLarge,
            Why::Silent => ErrorKind::TimedOut,
            Why::Panicked => ErrorKind::Panicked,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: HTTP/2: ", self.kind().word())?;
        match &self.why {
            Why::Http2(error) => write!(f, "{error}"),
            Why::Flood => f.write_str("frames that ask for nothing, or requests that are called off again"),
            Why::Deaf => f.write_str("goes on asking and does not take the answers"),
            Why::Silent => f.write_str("no request came"),
            Why::Panicked => f.write_str("a bug in this server"),
        }
    }
}

impl fmt::Debug for Trunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trunk({} branches, {} bytes received)", self.branches.len(), self.received)
    }
}

/// What a client is told that it may do.
fn rules() -> Builder {
    let head = u32::try_from(limits::HTTP_HEAD_BYTES_MAX).expect("it is a constant of 16 KiB");
    let mut rules = Builder::new();
    rules
        .max_concurrent_streams(BRANCHES_MAX)
        // `h2` answers 431 to more, and closes whoever goes on with it (CVE-2024-27316).
        .max_header_list_size(head)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(Some(RESETS_FOR_ERRORS_MAX))
        .max_send_buffer_size(BRANCH_BYTES_MAX);
    rules
}

/// Branches of one trunk. A browser opens no more at once than this, and RFC 9113, 6.5.2, advises against fewer.
pub const BRANCHES_MAX: u32 = 100;
/// Bytes of one answer that `h2` keeps until trunk and windows have room. They are shared with the stream's log, and what is
/// sealed at once under TLS is as much.
pub const BRANCH_BYTES_MAX: usize = 64 << 10;
/// Requests that may have been called off before we have looked at them (CVE-2023-44487). Whoever sends more at once is closed.
const PENDING_RESETS_MAX: usize = 20;
/// Requests of one client that are reset because they break a rule (CVE-2025-8671). Whoever sends more is closed.
const RESETS_FOR_ERRORS_MAX: usize = 100;
/// Bytes that may wait unread while the client takes nothing, which is when `h2` does not read either. Whoever sends more is
/// closed.
const UNREAD_BYTES_MAX: usize = 128 << 10;
/// How long the last word may wait for room.
const FAREWELL: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
