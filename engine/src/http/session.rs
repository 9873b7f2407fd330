//! The door's server session: requests in, answers out, and a stream where one was asked for.
//!
//! Requests are answered in the order they come, as many as a connection brings, until one of them becomes a stream:
//! an endless body, or a WebSocket. From then on the bytes are the hub's, and the session only listens.
//!
//! HTTP/2 carries each exchange in a stream of its own, and so each has a session of its own ([`Session::carried`]), which is
//! asked once, as HTTP/1.1 asks, and leaves the framing to whoever carries it.

#[cfg(feature = "segment")]
mod fetched;
#[cfg(feature = "webrtc")]
mod signal;

use std::{collections::VecDeque, time::Duration};

use bytes::{Buf, Bytes, BytesMut};

#[cfg(feature = "segment")]
use super::fetch::{self, Fetch};
use super::{
    page::{self, Asset},
    request::{self, Fault, Method, Request, Upgrade, Version},
    response::{self, After, Framing, Head, Status},
    route::{Route, route},
    websocket::{self, Code, Heard},
    wire::Streamed,
};
use crate::{
    error::{Error, ErrorKind},
    limits::{self, DoorLimits},
    media::StreamName,
    session::{self, Answer, Event, Form, Input, Output, Refusal, newest},
    time::Now,
};

/// One connection of the HTTP door, or one exchange of a connection that carries many.
#[derive(Debug)]
pub struct Session {
    framing: Framing,
    handshake: Duration,
    idle: Duration,
    /// Bytes taken from the peer.
    received: u64,
    /// Those of them that were not understood yet.
    unread: BytesMut,
    /// Bytes of the last request's body that are still to come, and to be dropped.
    body: usize,
    state: State,
    outbox: VecDeque<Output>,
    outbox_bytes: usize,
}

#[derive(Debug)]
enum State {
    /// No byte of the next request has come. `first` until there was a request.
    Idle { until: Now, first: bool },
    /// A request has begun and is not whole.
    Request { until: Now },
    /// A request whose body is wanted, which has not come whole.
    #[cfg(feature = "webrtc")]
    Body { until: Now, pending: Box<signal::Pending> },
    /// A request waits for the hub; what comes meanwhile waits unread.
    Asking(Wish),
    /// The answer's body is the stream.
    Streaming {
        chunked: bool,
        /// Bytes that the viewer sent, to no purpose, since it began.
        stray: usize,
    },
    /// The connection became a WebSocket.
    Socket(websocket::Frames),
    /// The last word is in the outbox, or there was an error.
    Closed,
}

/// What to do when the hub says yes.
#[derive(Debug)]
struct Wish {
    manner: Manner,
    /// What becomes of the connection if there will be no stream on it.
    after: After,
}

#[derive(Debug)]
enum Manner {
    /// `HEAD`: it is there, and that was the question.
    Look {
        chunked: bool,
        kind: &'static Streamed,
    },
    Stream {
        chunked: bool,
        kind: &'static Streamed,
    },
    /// With the answer to the client's key.
    Socket {
        accept: String,
        kind: &'static Streamed,
    },
    /// Something of a packaged stream.
    #[cfg(feature = "segment")]
    Fetch(Fetch),
    /// Something about a conversation by WebRTC. Those that are opened so have their addresses below `folder`.
    #[cfg(feature = "webrtc")]
    Signal {
        folder: String,
    },
}

impl Manner {
    /// Whether an answer to it has a body.
    fn with_body(&self) -> bool {
        match self {
            Manner::Look { .. } => false,
            Manner::Stream { .. } | Manner::Socket { .. } => true,
            #[cfg(feature = "segment")]
            Manner::Fetch(fetch) => fetch.with_body(),
            #[cfg(feature = "webrtc")]
            Manner::Signal { .. } => true,
        }
    }
}

impl Session {
    /// A connection that was accepted at `now`.
    pub fn new(limits: &DoorLimits, now: Now) -> Self {
        Self::framed(Framing::Own, limits, now)
    }

    /// One exchange of a connection that carries many (RFC 9113, 8.1), which begins at `now`. The request's head is given to
    /// it at once, as HTTP/1.1 writes it, and of the request's body nothing, unless it is one that its [route](Route::takes_body)
    /// takes: that comes in chunks, and the head says so. The answer begins with its head, in one piece that
    /// may have more behind it; what follows is the body as it is. [`is_end`] knows the piece that says that the answer is
    /// whole: one that is closed without it was cut off.
    pub fn carried(limits: &DoorLimits, now: Now) -> Self {
        Self::framed(Framing::Carried, limits, now)
    }

    fn framed(framing: Framing, limits: &DoorLimits, now: Now) -> Self {
        Session {
            framing,
            handshake: limits.handshake,
            idle: limits.idle,
            received: 0,
            unread: BytesMut::new(),
            body: 0,
            state: State::Idle { until: now.after(limits.handshake), first: true },
            outbox: VecDeque::new(),
            outbox_bytes: 0,
        }
    }
}

impl session::Session for Session {
    fn handle(&mut self, input: Input<'_>, now: Now) -> Result<(), Error> {
        match input {
            Input::Received(bytes) => self.receive(bytes, now),
            Input::Filled { memory, received } => self.receive(newest(&memory, received), now),
            Input::Answer(Answer::Playing) => self.begin(now),
            #[cfg(feature = "segment")]
            Input::Fetched(found) => self.fetched(&found, now),
            Input::Answer(Answer::Refused(refusal)) => self.refuse(refusal, now),
            #[cfg(feature = "webrtc")]
            Input::Signalled(reply) => self.signalled(*reply, now),
            // What only publishers are told, and what FLV has no word for.
            Input::Answer(Answer::Publishing)
            | Input::KeyframeWanted
            | Input::Described(_)
            | Input::Datagram { .. }
            | Input::From { .. }
            | Input::Signal(_) => Ok(()),
            #[cfg(not(feature = "webrtc"))]
            Input::Signalled(_) => Ok(()),
            Input::Ended => {
                self.end(Code::Normal);
                Ok(())
            }
            Input::Shutdown => {
                self.shut_down();
                Ok(())
            }
            Input::Timeout => self.time_out(now),
        }
    }

    fn poll(&mut self) -> Option<Output> {
        let output = self.outbox.pop_front()?;
        if let Output::Send(bytes) = &output {
            self.outbox_bytes -= bytes.len();
        }
        if self.outbox.is_empty() {
            // A viewer says nothing more for hours, and there are thousands of them.
            self.outbox = VecDeque::new();
        }
        Some(output)
    }

    fn deadline(&self) -> Option<Now> {
        match self.state {
            State::Idle { until, .. } | State::Request { until } => Some(until),
            #[cfg(feature = "webrtc")]
            State::Body { until, .. } => Some(until),
            State::Asking(_) | State::Streaming { .. } | State::Socket(_) | State::Closed => None,
        }
    }

    fn received(&self) -> u64 {
        self.received
    }
}

impl Session {
    fn receive(&mut self, bytes: &[u8], now: Now) -> Result<(), Error> {
        // In pieces, so that what waits unread is bounded whatever the size of the driver's buffer.
        for piece in bytes.chunks(limits::HTTP_HEAD_BYTES_MAX) {
            self.received += piece.len() as u64;
            match &mut self.state {
                State::Closed => {}
                State::Streaming { stray, .. } => {
                    *stray += piece.len();
                    if *stray > limits::HTTP_BODY_BYTES_MAX {
                        return Err(Error::too_large("a viewer goes on sending", self.received));
                    }
                }
                State::Asking(_) => {
                    self.unread.extend_from_slice(piece);
                    if self.unread.len() > limits::HTTP_HEAD_BYTES_MAX {
                        return Err(Error::too_large("too much before the answer", self.place()));
                    }
                }
                State::Socket(_) => {
                    self.unread.extend_from_slice(piece);
                    self.listen()?;
                }
                #[cfg(feature = "webrtc")]
                State::Body { .. } => {
                    self.unread.extend_from_slice(piece);
                    self.requests(now)?;
                }
                State::Idle { .. } | State::Request { .. } => {
                    // A head is whole only after a line break: looking again at each byte of a slow one would cost the
                    // square of its length. The first bytes are looked at, so that another protocol is told at once.
                    let due = self.body > 0
                        || self.unread.is_empty()
                        || piece.contains(&b'\n')
                        || self.unread.len() + piece.len() > limits::HTTP_HEAD_BYTES_MAX;
                    self.unread.extend_from_slice(piece);
                    if due {
                        self.requests(now)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Answers every request that is whole, until one must wait for the hub.
    fn requests(&mut self, now: Now) -> Result<(), Error> {
        loop {
            #[cfg(feature = "webrtc")]
            self.gather(now)?;
            if !matches!(self.state, State::Idle { .. } | State::Request { .. }) {
                break;
            }
            let dropped = self.body.min(self.unread.len());
            self.unread.advance(dropped);
            self.body -= dropped;
            // Some clients end a body with a line break that they do not count. (RFC 9112, 2.2)
            let blank = self.unread.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            self.unread.advance(blank);
            if self.unread.is_empty() {
                break;
            }
            match request::parse(&self.unread) {
                Ok(None) => break,
                Ok(Some((request, length))) => {
                    let route = route(&request.path);
                    if request.chunked && !route.as_ref().is_ok_and(|route| route.takes_body(request.method))
                    {
                        return Err(self.reject(request::NO_LENGTH));
                    }
                    self.unread.advance(length);
                    self.body = request.body;
                    self.state = State::Idle { until: now.after(self.idle), first: false };
                    match route {
                        #[cfg(feature = "webrtc")]
                        Ok(Route::Signal(name, place)) => self.signal(name, &place, &request, now),
                        route => self.answer(route, request),
                    }
                    if self.outbox_bytes > limits::OUTBOX_BYTES_MAX {
                        return Err(Error::too_large("more requests at once than answers fit", self.place()));
                    }
                }
                Err(fault) => return Err(self.reject(fault)),
            }
        }
        if let State::Idle { until, first } = self.state
            && (self.body > 0 || !self.unread.is_empty())
        {
            // The first request's time runs from accept on; a client cannot stretch it by a byte.
            self.state = State::Request { until: if first { until } else { now.after(self.handshake) } };
        } else if let State::Request { .. } = self.state
            && self.body == 0
            && self.unread.is_empty()
        {
            // A body's end, or line breaks alone.
            self.state = State::Idle { until: now.after(self.idle), first: false };
        }
        Ok(())
    }

    fn answer(&mut self, route: Result<Route, Fault>, request: Request) {
        let goes_on = request.keep_alive && !request.expects && self.framing == Framing::Own;
        let after = if goes_on { After::KeepAlive } else { After::Close };
        let with_body = request.method == Method::Get;
        match request.method {
            Method::Options => return self.send(response::options(after), after),
            Method::Post | Method::Patch | Method::Delete | Method::Other => {
                let fault = match route {
                    // What is wrong may be the name, where another would have that method.
                    Err(fault) if cfg!(feature = "webrtc") && fault.status == Status::BadRequest => fault,
                    _ => {
                        let why = "what stands here answers GET, HEAD and OPTIONS";
                        Fault { status: Status::MethodNotAllowed, why }
                    }
                };
                return self.send(response::text(fault.status, fault.why, after, true), after);
            }
            Method::Get | Method::Head => {}
        }
        match route {
            Ok(Route::Asset(asset)) => self.send_asset(asset, &request, after),
            Ok(Route::Player) => self.send_asset(page::player(), &request, after),
            Ok(Route::Unslashed(name)) => self.send(redirect(&name, &request.query, after), after),
            // Answered by whoever knows its methods.
            #[cfg(feature = "webrtc")]
            Ok(Route::Signal(..)) => {}
            Ok(Route::Stream(name, kind)) => match &request.upgrade {
                None => {
                    let chunked = request.version >= Version::Http11 && self.framing == Framing::Own;
                    let manner = if with_body {
                        Manner::Stream { chunked, kind }
                    } else {
                        Manner::Look { chunked, kind }
                    };
                    self.ask(name, request.wish(), Wish { manner, after });
                }
                Some(upgrade) => match check_upgrade(upgrade) {
                    Ok(accept) => {
                        let manner = Manner::Socket { accept, kind };
                        self.ask(name, request.wish(), Wish { manner, after });
                    }
                    Err(fault) => self.send(response::text(fault.status, fault.why, after, true), after),
                },
            },
            #[cfg(feature = "segment")]
            Ok(Route::File(name, file)) => match fetch::item(&file, &request.query) {
                Ok(Some(item)) => self.fetch(name, item, &request, after),
                Ok(None) => {
                    let why = "nothing here: try index.m3u8 or manifest.mpd";
                    self.send(response::text(Status::NotFound, why, after, with_body), after);
                }
                Err(fault) => self.send(response::text(fault.status, fault.why, after, with_body), after),
            },
            Err(fault) => self.send(response::text(fault.status, fault.why, after, with_body), after),
        }
    }

    fn send_asset(&mut self, asset: &'static Asset, request: &Request, after: After) {
        let fresh = request.held.as_deref().is_some_and(|held| names_tag(held, asset.tag()));
        let status = if fresh { Status::NotModified } else { Status::Ok };
        // The binary may be another one tomorrow: keep the copy, but ask each time.
        let mut head = Head::new(status, after)
            .field("ETag", &format!("W/{}", asset.tag()))
            .field("Cache-Control", "no-cache")
            .field("Vary", "Accept-Encoding");
        if let Some(policy) = asset.policy() {
            head = head.field("Content-Security-Policy", policy).field("Referrer-Policy", "no-referrer");
        }
        if fresh {
            return self.send(head.end(), after);
        }
        let body = if request.gzip {
            head = head.field("Content-Encoding", "gzip");
            asset.packed()
        } else {
            asset.body()
        };
        let head = head
            .field("Content-Type", asset.content_type())
            .field("Content-Length", &body.len().to_string())
            .end();
        if request.method == Method::Get {
            self.push(head);
            self.send(Bytes::from_static(body), after);
        } else {
            self.send(head, after);
        }
    }

    fn ask(&mut self, name: StreamName, query: String, wish: Wish) {
        let form: &'static Form = match wish.manner {
            Manner::Look { chunked: true, kind } | Manner::Stream { chunked: true, kind } => kind.chunked,
            Manner::Look { chunked: false, kind } | Manner::Stream { chunked: false, kind } => kind.plain,
            Manner::Socket { kind, .. } => kind.websocket,
            #[cfg(feature = "segment")]
            Manner::Fetch(_) => return,
            #[cfg(feature = "webrtc")]
            Manner::Signal { .. } => return,
        };
        self.outbox.push_back(Output::Event(Event::Play { name, query, form }));
        self.state = State::Asking(wish);
    }

    /// The hub said yes.
    fn begin(&mut self, now: Now) -> Result<(), Error> {
        let Some(wish) = self.take_wish(now) else { return Ok(()) };
        match wish.manner {
            Manner::Look { chunked, kind } => {
                // The stream is let go before a byte of it is sent.
                self.outbox.push_back(Output::Event(Event::Stop));
                self.send(stream_head(kind, chunked, wish.after), wish.after);
                self.requests(now)
            }
            Manner::Stream { chunked, kind } => {
                // An endless answer has no next request.
                self.push(stream_head(kind, chunked, After::Close));
                let stray = self.unread.len();
                self.unread = BytesMut::new();
                self.state = State::Streaming { chunked, stray };
                Ok(())
            }
            Manner::Socket { accept, .. } => {
                let head = Head::new(Status::SwitchingProtocols, After::Upgrade)
                    .field("Upgrade", "websocket")
                    .field("Sec-WebSocket-Accept", &accept);
                self.push(head.end());
                self.state = State::Socket(websocket::Frames::default());
                self.listen()
            }
            // Nobody plays it.
            #[cfg(feature = "segment")]
            Manner::Fetch(_) => Ok(()),
            #[cfg(feature = "webrtc")]
            Manner::Signal { .. } => Ok(()),
        }
    }

    /// The hub said no.
    fn refuse(&mut self, refusal: Refusal, now: Now) -> Result<(), Error> {
        #[cfg(feature = "webrtc")]
        if matches!(self.state, State::Asking(Wish { manner: Manner::Signal { .. }, .. })) {
            return self.signalled(refusal.into(), now);
        }
        let Some(wish) = self.take_wish(now) else { return Ok(()) };
        let status = match refusal {
            Refusal::NotFound => Status::NotFound,
            Refusal::Forbidden | Refusal::Unsupported => Status::Forbidden,
            Refusal::AlreadyLive => Status::Conflict,
            Refusal::Full | Refusal::ShuttingDown | Refusal::TooLate => Status::ServiceUnavailable,
        };
        #[cfg(feature = "segment")]
        if matches!(&wish.manner, Manner::Fetch(fetch) if fetch.begun) {
            self.close();
            return Ok(());
        }
        let with_body = wish.manner.with_body();
        let after = if refusal == Refusal::ShuttingDown { After::Close } else { wish.after };
        self.send(response::text(status, refusal.why(), after, with_body), after);
        self.requests(now)
    }

    /// The wish that the hub has answered. `None` when the session closed while it was asking.
    fn take_wish(&mut self, now: Now) -> Option<Wish> {
        if !matches!(self.state, State::Asking(_)) {
            return None;
        }
        let idle = State::Idle { until: now.after(self.idle), first: false };
        match std::mem::replace(&mut self.state, idle) {
            State::Asking(wish) => Some(wish),
            _ => unreachable!("the state was looked at a moment ago"),
        }
    }

    /// Hears what a WebSocket viewer says.
    fn listen(&mut self) -> Result<(), Error> {
        while let State::Socket(frames) = &mut self.state {
            match frames.next(&mut self.unread) {
                Ok(None) => break,
                Ok(Some(Heard::Ping(payload))) => self.push(websocket::pong(&payload)),
                Ok(Some(Heard::Close(code))) => self.send(websocket::close(code), After::Close),
                Err(violation) => {
                    self.push(websocket::close(Some(violation.code as u16)));
                    self.state = State::Closed;
                    return Err(match violation.code {
                        Code::TooBig => Error::too_large(violation.why, self.place()),
                        _ => Error::malformed(violation.why, self.place()),
                    });
                }
            }
            if self.outbox_bytes > limits::OUTBOX_BYTES_MAX {
                return Err(Error::too_large("more pings at once than answers fit", self.place()));
            }
        }
        Ok(())
    }

    /// Ends a stream as its form ends. What plays nothing is left alone.
    fn end(&mut self, code: Code) {
        match self.state {
            State::Streaming { chunked, .. } => {
                if chunked {
                    self.push(Bytes::from_static(b"0\r\n\r\n"));
                }
                self.finish();
            }
            State::Socket(_) => self.send(websocket::close(Some(code as u16)), After::Close),
            #[cfg(feature = "webrtc")]
            State::Body { .. } => {}
            State::Idle { .. } | State::Request { .. } | State::Asking(_) | State::Closed => {}
        }
    }

    fn shut_down(&mut self) {
        match &self.state {
            State::Idle { .. } | State::Request { .. } => self.close(),
            #[cfg(feature = "webrtc")]
            State::Body { .. } => self.close(),
            #[cfg(feature = "segment")]
            State::Asking(Wish { manner: Manner::Fetch(fetch), .. }) if fetch.begun => self.close(),
            State::Asking(wish) => {
                let with_body = wish.manner.with_body();
                let why = Refusal::ShuttingDown.why();
                let answer = response::text(Status::ServiceUnavailable, why, After::Close, with_body);
                self.send(answer, After::Close);
            }
            State::Streaming { .. } | State::Socket(_) => self.end(Code::GoingAway),
            State::Closed => {}
        }
    }

    fn time_out(&mut self, now: Now) -> Result<(), Error> {
        let slow = Fault { status: Status::RequestTimeout, why: "the request came too slowly" };
        match self.state {
            State::Idle { until, first: true } if now >= until => {
                self.state = State::Closed;
                Err(Error::timed_out("no request came", self.place()))
            }
            State::Idle { until, first: false } if now >= until => {
                self.close();
                Ok(())
            }
            State::Request { until } if now >= until => Err(self.reject(slow)),
            #[cfg(feature = "webrtc")]
            State::Body { until, .. } if now >= until => Err(self.reject(slow)),
            _ => Ok(()),
        }
    }

    /// Answers a request that cannot be read. Where the next one begins, nobody knows, so it is the last: the error
    /// closes the connection.
    fn reject(&mut self, fault: Fault) -> Error {
        let kind = match fault.status {
            Status::RequestTimeout => ErrorKind::TimedOut,
            Status::HeadTooLarge | Status::TargetTooLong | Status::BodyTooLarge => ErrorKind::TooLarge,
            Status::VersionNotSupported | Status::LengthRequired => ErrorKind::Unsupported,
            _ => ErrorKind::Malformed,
        };
        self.push(response::text(fault.status, fault.why, After::Close, true));
        self.say_end();
        self.state = State::Closed;
        Error { kind, why: fault.why, at: self.place() }
    }

    /// Where in what the peer sent the unread begins.
    fn place(&self) -> u64 {
        self.received - self.unread.len() as u64
    }

    fn send(&mut self, bytes: Bytes, after: After) {
        self.push(bytes);
        if after == After::Close {
            self.finish();
        }
    }

    fn push(&mut self, bytes: Bytes) {
        self.outbox_bytes += bytes.len();
        self.outbox.push_back(Output::Send(bytes));
    }

    /// The answer is whole, and there will be no other.
    fn finish(&mut self) {
        self.say_end();
        self.close();
    }

    fn say_end(&mut self) {
        if self.framing == Framing::Carried {
            self.push(Bytes::from_static(&END));
        }
    }

    fn close(&mut self) {
        self.outbox.push_back(Output::Close);
        self.unread = BytesMut::new();
        self.state = State::Closed;
    }
}

/// Whether `bytes`, as a [carried](Session::carried) session has sent them, are its word that the answer is whole. They are no
/// part of the answer.
pub fn is_end(bytes: &[u8]) -> bool {
    std::ptr::eq(bytes, END.as_slice())
}

/// The piece that ends the answer of a carried session. A body may hold the same bytes; their place in memory is what tells
/// them. A word of another kind would have to pass the hub, which knows nothing of answers.
static END: [u8; 19] = *b"the answer is whole";

/// The head of an answer whose body is the stream.
fn stream_head(kind: &Streamed, chunked: bool, after: After) -> Bytes {
    let mut head = Head::new(Status::Ok, after)
        .field("Content-Type", kind.content_type)
        .field("Cache-Control", "no-store")
        // Else nginx, as a proxy before us, saves the stream up.
        .field("X-Accel-Buffering", "no");
    if chunked {
        head = head.field("Transfer-Encoding", "chunked");
    }
    head.end()
}

/// The way to a page from its address without the slash. Not a lasting one: a browser would remember it for whatever
/// else stands on this port tomorrow.
fn redirect(name: &StreamName, query: &str, after: After) -> Bytes {
    let mark = if query.is_empty() { "" } else { "?" };
    Head::new(Status::TemporaryRedirect, after)
        .field("Location", &format!("/{name}/{mark}{query}"))
        .field("Cache-Control", "no-store")
        .field("Content-Length", "0")
        .end()
}

fn check_upgrade(upgrade: &Upgrade) -> Result<String, Fault> {
    if !upgrade.version_13 {
        return Err(Fault { status: Status::UpgradeRequired, why: "this door speaks WebSocket version 13" });
    }
    upgrade
        .key
        .as_deref()
        .and_then(websocket::accept)
        .ok_or(Fault { status: Status::BadRequest, why: "the WebSocket key is not 16 bytes in base64" })
}

/// True when `If-None-Match` names `tag`: compared weakly, as a cache may have weakened it (RFC 9110, 13.1.2).
fn names_tag(held: &str, tag: &str) -> bool {
    held.split(',').map(str::trim).any(|item| item == "*" || item.strip_prefix("W/").unwrap_or(item) == tag)
}

#[cfg(test)]
mod tests;
