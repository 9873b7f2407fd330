//! The client's half of RTMP: it plays a stream of another server (*pull*), or publishes one there (*push*).
//!
//! It speaks the same contract as a session that was accepted, so a hub drives both alike: a client that pulls wishes to
//! *publish* what it plays elsewhere, and its frames come as [`Event::Frame`]; a client that pushes wishes to *play*, and
//! is sent the shared bytes of [`FORM`].

use std::time::Duration;

use super::{
    command::{Command, Status, enhanced_capabilities},
    handshake::{self, ClientKind},
    ingest::Ingest,
    link::{Held, Link, WINDOW},
    message::{Control, MEDIA_STREAM, Message, UserEvent, kind},
    wire::FORM,
};
use crate::{
    error::Error,
    flv::amf0::Value,
    limits::DoorLimits,
    media::StreamName,
    session::{self, Answer, Event, Input, Output, newest},
    time::Now,
};

/// A stream on another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The URL up to and with the application, `rtmp://host/live`.
    pub tc_url: String,
    /// The application, `live`.
    pub app: String,
    /// The stream, with its query if it has one: `cam1?token=x`.
    pub stream: String,
}

/// One connection to another server, made by us.
#[derive(Debug)]
pub struct Client {
    link: Link,
    state: State,
    wish: Wish,
    target: Target,
    /// The stream's name here.
    name: StreamName,
    received: u64,
    started_by: Option<Now>,
    idle: Duration,
    heard: Now,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Pull,
    Push,
}

#[derive(Debug)]
enum State {
    Handshake(handshake::Client),
    /// `connect` was said.
    Connecting,
    /// `createStream` was said.
    Creating,
    /// `publish` or `play` was said.
    Starting,
    /// The server has granted the stream; the hub has not answered yet.
    Asking(Held),
    Pulling(Box<Ingest>),
    Pushing,
    Closed,
}

/// Numbers of our calls.
mod call {
    pub const CONNECT: f64 = 1.0;
    pub const RELEASE_STREAM: f64 = 2.0;
    pub const FC_PUBLISH: f64 = 3.0;
    pub const CREATE_STREAM: f64 = 4.0;
    pub const START: f64 = 5.0;
    pub const FC_UNPUBLISH: f64 = 6.0;
    pub const DELETE_STREAM: f64 = 7.0;
}

impl Client {
    /// A client that plays `target` and brings it here as `name`.
    pub fn pull(target: Target, name: StreamName, limits: &DoorLimits, now: Now) -> Self {
        Self::new(Wish::Pull, ClientKind::Simple, target, name, limits, now)
    }

    /// A client that publishes `name` of here as `target`.
    pub fn push(target: Target, name: StreamName, limits: &DoorLimits, now: Now) -> Self {
        Self::new(Wish::Push, ClientKind::Simple, target, name, limits, now)
    }

    fn new(
        wish: Wish,
        kind: ClientKind,
        target: Target,
        name: StreamName,
        limits: &DoorLimits,
        now: Now,
    ) -> Self {
        let mut link = Link::new(now);
        let handshake = handshake::Client::new(kind, now.0, link.outbox().bytes());
        Client {
            link,
            state: State::Handshake(handshake),
            wish,
            target,
            name,
            received: 0,
            started_by: Some(now.after(limits.handshake)),
            idle: limits.idle,
            heard: now,
        }
    }

    /// The same, with another handshake. Only for a connection that has not begun.
    #[must_use]
    pub fn with_handshake(self, kind: ClientKind, limits: &DoorLimits, now: Now) -> Self {
        assert!(self.received == 0, "the handshake has begun");
        Self::new(self.wish, kind, self.target, self.name, limits, now)
    }
}

impl session::Session for Client {
    fn handle(&mut self, input: Input<'_>, now: Now) -> Result<(), Error> {
        let result = match input {
            Input::Received(bytes) => {
                self.received += bytes.len() as u64;
                self.heard = now;
                self.read(bytes)
            }
            Input::Filled { memory, received } => {
                self.received += received as u64;
                self.heard = now;
                self.read(newest(&memory, received))
            }
            Input::Answer(answer) => {
                self.heard = now;
                self.answer(answer)
            }
            Input::Timeout => self.timeout(now),
            Input::KeyframeWanted => Ok(()),
            // Nobody has asked for any of these.
            Input::Described(_)
            | Input::Datagram { .. }
            | Input::From { .. }
            | Input::Signal(_)
            | Input::Signalled(_) => Ok(()),
            #[cfg(feature = "segment")]
            Input::Fetched(_) => Ok(()),
            Input::Ended | Input::Shutdown => {
                self.farewell();
                Ok(())
            }
        };
        if result.is_err() {
            self.state = State::Closed;
        }
        result
    }

    fn poll(&mut self) -> Option<Output> {
        self.link.outbox().poll()
    }

    fn deadline(&self) -> Option<Now> {
        match (&self.state, self.started_by) {
            (State::Closed | State::Asking(_), _) => None,
            (_, Some(started_by)) => Some(started_by),
            (_, None) => Some(self.link.ping_at().min(self.heard.after(self.idle))),
        }
    }

    fn received(&self) -> u64 {
        self.received
    }
}

impl Client {
    fn read(&mut self, mut input: &[u8]) -> Result<(), Error> {
        while !input.is_empty() {
            match &mut self.state {
                State::Closed => return Ok(()),
                State::Handshake(handshake) => {
                    let before = input.len();
                    let done = handshake.receive(&mut input, self.link.outbox().bytes())?;
                    self.link.passed(before - input.len());
                    if done {
                        self.connect();
                    }
                }
                State::Asking(held) => held.hold(&mut input, self.link.position())?,
                _ => {
                    if let Some(message) = self.link.next(&mut input)? {
                        self.message(&message)?;
                        self.link.check_outbox()?;
                    }
                }
            }
        }
        Ok(())
    }

    fn connect(&mut self) {
        let mut object = vec![
            ("app".to_owned(), Value::string(&self.target.app)),
            ("type".to_owned(), Value::string("nonprivate")),
            ("flashVer".to_owned(), Value::string("FMLE/3.0 (compatible; shardcast)")),
            ("tcUrl".to_owned(), Value::string(&self.target.tc_url)),
        ];
        object.extend(enhanced_capabilities());
        self.link.announce_chunk_size();
        self.link.command("connect", call::CONNECT, &[Value::Object(object)]);
        self.state = State::Connecting;
    }

    fn message(&mut self, message: &Message) -> Result<(), Error> {
        match message.kind {
            kind::COMMAND_AMF0 | kind::COMMAND_AMF3 => self.command(&Command::parse(message)?, message.at),
            _ => match &mut self.state {
                State::Pulling(ingest) => ingest.message(message, self.link.outbox()),
                _ => Ok(()),
            },
        }
    }

    fn command(&mut self, command: &Command, at: u64) -> Result<(), Error> {
        match (command.name.as_str(), &self.state) {
            ("_result", State::Connecting) if command.transaction == call::CONNECT => {
                self.create();
                Ok(())
            }
            ("_result", State::Creating) if command.transaction == call::CREATE_STREAM => {
                // The bytes that all receivers share name this stream. Every server gives the first stream of a
                // connection this number.
                if command.argument(0).as_number() != Some(MEDIA_STREAM.into()) {
                    return Err(Error::unsupported(
                        "the server numbers its message streams unlike others",
                        at,
                    ));
                }
                self.start();
                Ok(())
            }
            ("_error", State::Connecting) if command.transaction == call::CONNECT => {
                Err(Error::refused("the server refused the connection", at))
            }
            ("_error", State::Creating | State::Starting)
                if command.transaction == call::CREATE_STREAM || command.transaction == call::START =>
            {
                Err(Error::refused("the server refused the stream", at))
            }
            ("onStatus", _) => self.status(command, at),
            _ => Ok(()),
        }
    }

    fn create(&mut self) {
        if self.wish == Wish::Push {
            let stream = Value::string(&self.target.stream);
            self.link.command("releaseStream", call::RELEASE_STREAM, &[Value::Null, stream.clone()]);
            self.link.command("FCPublish", call::FC_PUBLISH, &[Value::Null, stream]);
        } else {
            self.link.control(Control::WindowAcknowledgementSize(WINDOW));
        }
        self.link.command("createStream", call::CREATE_STREAM, &[Value::Null]);
        self.state = State::Creating;
    }

    fn start(&mut self) {
        let stream = Value::string(&self.target.stream);
        match self.wish {
            Wish::Push => {
                let values = [Value::Null, stream, Value::string("live")];
                self.link.stream_command("publish", call::START, &values);
            }
            Wish::Pull => {
                // 7.2.2.1: -2 is "live, or else recorded"; clients send thousandths.
                let values = [Value::Null, stream, Value::Number(-2000.0)];
                self.link.stream_command("play", call::START, &values);
                self.link.stream_event(|stream| UserEvent::SetBufferLength(stream, 3000));
            }
        }
        self.state = State::Starting;
    }

    fn status(&mut self, command: &Command, at: u64) -> Result<(), Error> {
        let info = command.argument(0);
        let text = |name| info.get(name).and_then(Value::as_str).unwrap_or_default();
        let code = text("code");
        if text("level") == "error" {
            return Err(Error::refused(refusal(code), at));
        }
        let granted = match self.wish {
            Wish::Push => Status::PublishStart,
            Wish::Pull => Status::PlayStart,
        };
        let over = [Status::PlayUnpublished, Status::PlayStop, Status::UnpublishSuccess];
        if matches!(self.state, State::Starting) && code == granted.code() {
            self.granted();
        } else if over.iter().any(|status| status.code() == code) {
            self.over();
        }
        Ok(())
    }

    fn granted(&mut self) {
        let (name, query) = (self.name.clone(), String::new());
        let event = match self.wish {
            Wish::Pull => Event::Publish { name, query },
            Wish::Push => Event::Play { name, query, form: &FORM },
        };
        self.link.outbox().event(event);
        self.started_by = None;
        self.state = State::Asking(Held::default());
    }

    fn answer(&mut self, answer: Answer) -> Result<(), Error> {
        if !matches!(self.state, State::Asking(_)) {
            return Ok(());
        }
        let State::Asking(held) = std::mem::replace(&mut self.state, State::Closed) else { return Ok(()) };
        self.state = match (answer, self.wish) {
            (Answer::Refused(_), _) => {
                self.link.outbox().close();
                return Ok(());
            }
            (Answer::Publishing, wish) => {
                assert_eq!(wish, Wish::Pull, "the hub answers the wish that it was told");
                State::Pulling(Box::default())
            }
            (Answer::Playing, wish) => {
                assert_eq!(wish, Wish::Push, "the hub answers the wish that it was told");
                State::Pushing
            }
        };
        self.read(held.bytes())
    }

    /// The server has ended the stream.
    fn over(&mut self) {
        match self.state {
            State::Pulling(_) => self.link.outbox().event(Event::Unpublish),
            State::Pushing => self.link.outbox().event(Event::Stop),
            _ => {}
        }
        self.link.outbox().close();
        self.state = State::Closed;
    }

    /// We end the stream.
    fn farewell(&mut self) {
        if matches!(self.state, State::Closed) {
            return;
        }
        if matches!(self.state, State::Pushing) {
            let stream = Value::string(&self.target.stream);
            self.link.command("FCUnpublish", call::FC_UNPUBLISH, &[Value::Null, stream]);
        }
        if matches!(self.state, State::Pushing | State::Pulling(_)) {
            let values = [Value::Null, Value::Number(MEDIA_STREAM.into())];
            self.link.command("deleteStream", call::DELETE_STREAM, &values);
        }
        self.link.outbox().close();
        self.state = State::Closed;
    }

    fn timeout(&mut self, now: Now) -> Result<(), Error> {
        if matches!(self.state, State::Closed | State::Asking(_)) {
            return Ok(());
        }
        match self.started_by {
            Some(started_by) if now >= started_by => {
                Err(Error::timed_out("the server did not start the stream in time", self.received))
            }
            Some(_) => Ok(()),
            None if now >= self.heard.after(self.idle) => {
                Err(Error::timed_out("the server neither sends anything nor answers pings", self.received))
            }
            None => {
                self.link.ping(now);
                Ok(())
            }
        }
    }
}

/// Why a server says no, as far as its code tells.
fn refusal(code: &str) -> &'static str {
    match code {
        "NetStream.Publish.BadName" => "the server says that the name is taken or bad",
        "NetStream.Play.StreamNotFound" => "the server has no such stream",
        "NetConnection.Connect.Rejected" => "the server refused the connection",
        "NetConnection.Connect.AppShutdown" => "the server is shutting down",
        _ => "the server refused the stream",
    }
}
