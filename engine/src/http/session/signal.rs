//! WHIP and WHEP: somebody offers a stream by WebRTC, or offers to take one, and speaks about that later (RFC 9725;
//! draft-ietf-wish-whep). What is asked goes to the hub as a [`Signal`]; here it is read and answered as HTTP has it.

use super::{
    super::{
        body::Body,
        request::{Fault, Method, Request},
        response::{self, After, Framing, Head, Status},
        route::Place,
    },
    Manner, Session, State, Wish,
};
use crate::{
    error::Error,
    media::StreamName,
    session::{
        Event, Output,
        signal::{self, Key, Reply, Signal},
    },
    time::Now,
};

/// A request whose body is still to come.
#[derive(Debug)]
pub(super) struct Pending {
    body: Body,
    wanted: Wanted,
    name: StreamName,
    folder: String,
    after: After,
}

/// What it asks for, once its body is there.
#[derive(Debug)]
enum Wanted {
    Offer { publish: bool, query: String },
    Trickle { key: Key, tag: Option<String> },
}

impl Wanted {
    /// What its body has to be.
    fn content_type(&self) -> &'static str {
        match self {
            Wanted::Offer { .. } => SDP,
            Wanted::Trickle { .. } => FRAGMENT,
        }
    }

    fn with(self, body: String) -> signal::Request {
        match self {
            Wanted::Offer { publish, query } => {
                signal::Request::Offer { publish, query, proof: None, sdp: body }
            }
            Wanted::Trickle { key, tag } => signal::Request::Trickle { key, tag, fragment: body },
        }
    }
}

impl Session {
    /// The head of a request has come.
    pub(super) fn signal(&mut self, name: StreamName, place: &Place, request: &Request, now: Now) {
        let keeps = request.keep_alive && self.framing == Framing::Own;
        // Where the body of one that is refused at once ends is known if its length is.
        let skips = keeps && !request.expects && !request.chunked;
        let after = if skips { After::KeepAlive } else { After::Close };
        if request.method == Method::Options {
            return self.send(options(place, after), after);
        }
        let key = match place.key.as_deref().map(Key::parse) {
            None => None,
            Some(Some(key)) => Some(key),
            Some(None) => return self.say_no(Status::NotFound, "no such conversation", request, after),
        };
        let folder = format!("/{name}/{}", if place.publish { "whip" } else { "whep" });
        let wanted = match (request.method, key) {
            (Method::Post, None) => Wanted::Offer { publish: place.publish, query: request.wish() },
            (Method::Patch, Some(key)) => Wanted::Trickle { key, tag: request.matches.as_deref().map(tags) },
            (Method::Delete, Some(key)) => {
                return self.ask_about(name, signal::Request::End { key }, folder, after);
            }
            _ => {
                let (why, allow) = (methods_why(place), [("Allow", methods(place))]);
                let with_body = request.method != Method::Head;
                let answer = response::text_with(&allow, Status::MethodNotAllowed, why, after, with_body);
                return self.send(answer, after);
            }
        };
        if !is_of_type(request, wanted.content_type()) {
            let (why, accept) = match wanted {
                Wanted::Offer { .. } => ("an offer is application/sdp", ("Accept-Post", SDP)),
                Wanted::Trickle { .. } => {
                    ("a change is application/trickle-ice-sdpfrag", ("Accept-Patch", FRAGMENT))
                }
            };
            let answer = response::text_with(&[accept], Status::UnsupportedMediaType, why, after, true);
            return self.send(answer, after);
        }
        if request.body == 0 && !request.chunked {
            return self.say_no(Status::BadRequest, EMPTY, request, after);
        }
        // The body is taken from here on by whoever wants it.
        self.body = 0;
        if request.expects && self.framing == Framing::Own {
            self.push(CONTINUE.into());
        }
        let after = if keeps { After::KeepAlive } else { After::Close };
        let pending = Box::new(Pending { body: Body::of(request), wanted, name, folder, after });
        self.state = State::Body { until: now.after(self.handshake), pending };
    }

    fn say_no(&mut self, status: Status, why: &str, request: &Request, after: After) {
        self.send(response::text(status, why, after, request.method != Method::Head), after);
    }

    /// Takes what has come of a body that is wanted, and asks the hub when that is all. Nothing when none is.
    pub(super) fn gather(&mut self, now: Now) -> Result<(), Error> {
        let State::Body { pending, .. } = &mut self.state else { return Ok(()) };
        match pending.body.take(&mut self.unread) {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(fault) => return Err(self.reject(fault)),
        }
        let idle = State::Idle { until: now.after(self.idle), first: false };
        if let State::Body { pending, .. } = std::mem::replace(&mut self.state, idle) {
            let Pending { body, wanted, name, folder, after } = *pending;
            match read(body) {
                Ok(body) => self.ask_about(name, wanted.with(body), folder, after),
                Err(Fault { status, why }) => {
                    self.send(response::text(status, why, after, true), after);
                }
            }
        }
        Ok(())
    }

    fn ask_about(&mut self, name: StreamName, request: signal::Request, folder: String, after: After) {
        let signal = Box::new(Signal { name, request });
        self.outbox.push_back(Output::Event(Event::Signal(signal)));
        self.state = State::Asking(Wish { manner: Manner::Signal { folder }, after });
    }

    /// The hub knows what becomes of it.
    pub(super) fn signalled(&mut self, reply: Reply, now: Now) -> Result<(), Error> {
        let State::Asking(Wish { manner: Manner::Signal { folder }, after }) = &mut self.state else {
            return Ok(());
        };
        let (folder, after) = (std::mem::take(folder), *after);
        self.state = State::Idle { until: now.after(self.idle), first: false };
        self.send(answer(&reply, &folder, after), after);
        self.requests(now)
    }
}

/// The whole body as text.
fn read(body: Body) -> Result<String, Fault> {
    match String::from_utf8(body.into_bytes()) {
        Ok(text) if text.is_empty() => Err(Fault { status: Status::BadRequest, why: EMPTY }),
        Ok(text) => Ok(text),
        Err(_) => Err(Fault { status: Status::BadRequest, why: "the body is not UTF-8" }),
    }
}

/// What is answered to a request; conversations have their addresses below `folder`.
fn answer(reply: &Reply, folder: &str, after: After) -> bytes::Bytes {
    let head = |status| Head::exposing(EXPOSED, status, after).field("Cache-Control", "no-store");
    let described = |head: Head, content_type, text: &str| {
        let head = head.field("Content-Type", content_type).field("Content-Length", &text.len().to_string());
        head.with(text)
    };
    match reply {
        Reply::Accepted { key, tag, sdp } => {
            let head = head(Status::Created)
                .field("Location", &format!("{folder}/{key}"))
                .field("ETag", &format!("\"{tag}\""));
            described(head, SDP, sdp)
        }
        Reply::Trickled { tag, fragment: Some(fragment) } => {
            described(head(Status::Ok).field("ETag", &format!("\"{tag}\"")), FRAGMENT, fragment)
        }
        Reply::Trickled { tag, fragment: None } => {
            head(Status::NoContent).field("ETag", &format!("\"{tag}\"")).end()
        }
        Reply::Ended => head(Status::Ok).field("Content-Length", "0").end(),
        Reply::Refused { fault, why } => response::text(status(*fault), why, after, true),
    }
}

fn status(fault: signal::Fault) -> Status {
    match fault {
        signal::Fault::Malformed => Status::BadRequest,
        signal::Fault::Forbidden => Status::Unauthorized,
        signal::Fault::NotFound => Status::NotFound,
        signal::Fault::Conflict => Status::Conflict,
        signal::Fault::Outdated => Status::PreconditionFailed,
        signal::Fault::Untagged => Status::PreconditionRequired,
        signal::Fault::Unsuited => Status::Unprocessable,
        signal::Fault::Unavailable => Status::ServiceUnavailable,
    }
}

/// The answer to `OPTIONS`. A page asks it of both places before it does anything, and is told of all methods at once.
fn options(place: &Place, after: After) -> bytes::Bytes {
    const FIELDS: &str = "Accept, Authorization, Content-Type, If-Match";
    let head = response::allowing(methods(place), "POST, PATCH, DELETE, OPTIONS", FIELDS, after);
    match place.key {
        None => head.field("Accept-Post", SDP).end(),
        Some(_) => head.field("Accept-Patch", FRAGMENT).end(),
    }
}

/// The methods of a place. The RFC keeps GET, HEAD and PUT for later. (RFC 9725, 4)
fn methods(place: &Place) -> &'static str {
    if place.key.is_none() { "POST, OPTIONS" } else { "PATCH, DELETE, OPTIONS" }
}

fn methods_why(place: &Place) -> &'static str {
    if place.key.is_none() {
        "a conversation is asked for by POST"
    } else {
        "a conversation is changed by PATCH and ended by DELETE"
    }
}

/// Whether the body is what it has to be, whatever its parameters say.
fn is_of_type(request: &Request, wanted: &str) -> bool {
    let said = request.content_type.as_deref().unwrap_or_default();
    said.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(wanted)
}

/// The tags of a list without their quotation marks, and without the `W/` that proxies give them which pack an answer. Ours
/// hold no comma. (RFC 9110, 13.1.1)
fn tags(list: &str) -> String {
    let bare = |tag: &str| {
        let tag = tag.trim();
        tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"').to_owned()
    };
    list.split(',').map(bare).filter(|tag| !tag.is_empty()).collect::<Vec<_>>().join(",")
}

/// A session description. (RFC 8866)
const SDP: &str = "application/sdp";
/// A part of one. (RFC 8840, 9)
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// What a page of another origin has to read of an answer.
const EXPOSED: &str = "Location, ETag, Link";
const EMPTY: &str = "the body is empty: it has to hold a session description";
/// Our leave to send the body. (RFC 9110, 15.2.1)
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
