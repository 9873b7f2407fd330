//! The server's half of RTMP: one peer that publishes or plays.
//!
//! A connection carries one stream at a time, always on message stream 1. What a viewer is sent once it plays are the
//! shared bytes of [`FORM`]; this session only listens then, and speaks between frames.

use std::time::Duration;

use bytes::BytesMut;

use super::{
    command::{Command, Connect, Status},
    handshake,
    ingest::Ingest,
    link::{Held, Link, WINDOW},
    message::{Control, MEDIA_STREAM, Message, UserEvent, kind},
    wire::FORM,
};
use crate::{
    error::Error,
    flv::amf0::Value,
    limits::DoorLimits,
    session::{self, Answer, Event, Input, Output, Refusal},
    time::Now,
};

/// One peer of the RTMP door.
#[derive(Debug)]
pub struct Session {
    link: Link,
    state: State,
    /// What `connect` said. It holds for as long as the connection.
    connect: Option<Box<Connect>>,
    received: u64,
    /// When the peer must have said what it wants; `None` once it has.
    wish_by: Option<Now>,
    idle: Duration,
    /// When the last byte came.
    heard: Now,
}

#[derive(Debug)]
enum State {
    Handshake(handshake::Server),
    /// Between streams.
    Commands,
    /// The hub has not answered yet.
    Asking(Wish, Held),
    Publishing(Box<Ingest>),
    Playing,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Publish,
    Play,
}

impl Session {
    /// A session for a peer that was accepted now.
    pub fn new(limits: &DoorLimits, now: Now) -> Self {
        Session {
            link: Link::new(now),
            state: State::Handshake(handshake::Server::new(now.0)),
            connect: None,
            received: 0,
            wish_by: Some(now.after(limits.handshake)),
            idle: limits.idle,
            heard: now,
        }
    }
}

impl session::Session for Session {
    fn handle(&mut self, input: Input<'_>, now: Now) -> Result<(), Error> {
        let result = match input {
            Input::Received(bytes) => {
                self.received += bytes.len() as u64;
                self.heard = now;
                if self.link.inbox().has_inbox() {
                    self.link.inbox().append(bytes);
                    self.read_inbox()
                } else {
                    self.read(bytes)
                }
            }
            Input::Filled { memory, received } => {
                if received > 0 {
                    self.received += received as u64;
                    self.heard = now;
                }
                self.link.inbox().give_back(memory);
                self.read_inbox()
            }
            Input::Answer(answer) => {
                self.heard = now;
                self.answer(answer)
            }
            Input::Timeout => self.timeout(now),
            // RTMP has no word to ask an encoder for a key frame.
            Input::KeyframeWanted => Ok(()),
            // Nobody has asked for any of these.
            Input::Described(_)
            | Input::Datagram { .. }
            | Input::From { .. }
            | Input::Signal(_)
            | Input::Signalled(_) => Ok(()),
            #[cfg(feature = "segment")]
            Input::Fetched(_) => Ok(()),
            Input::Ended => {
                self.ended();
                Ok(())
            }
            Input::Shutdown => {
                self.shutdown();
                Ok(())
            }
        };
        if let Err(error) = result {
            self.fail(error);
        }
        result
    }

    fn poll(&mut self) -> Option<Output> {
        let output = self.link.outbox().poll();
        if output.is_none() && !matches!(self.state, State::Publishing(_)) {
            self.link.outbox().rest();
        }
        output
    }

    fn deadline(&self) -> Option<Now> {
        match (&self.state, self.wish_by) {
            // How long a viewer may wait for its publisher is the hub's to say.
            (State::Closed | State::Asking(..), _) => None,
            (_, Some(wish_by)) => Some(wish_by),
            (_, None) => Some(self.link.ping_at().min(self.heard.after(self.idle))),
        }
    }

    fn received(&self) -> u64 {
        self.received
    }

    fn lends(&self) -> bool {
        matches!(self.state, State::Publishing(_))
    }

    fn lend(&mut self) -> BytesMut {
        self.link.inbox().lend()
    }
}

impl Session {
    /// Reads what was received into memory of this session.
    fn read_inbox(&mut self) -> Result<(), Error> {
        while matches!(self.state, State::Commands | State::Publishing(_) | State::Playing) {
            let Some(message) = self.link.next_in_inbox()? else { return Ok(()) };
            self.message(&message)?;
            self.link.check_outbox()?;
        }
        // What follows a wish waits for its answer.
        let rest = self.link.inbox().take_inbox();
        self.read(&rest)
    }

    fn read(&mut self, mut input: &[u8]) -> Result<(), Error> {
        while !input.is_empty() {
            match &mut self.state {
                State::Closed => return Ok(()),
                State::Handshake(handshake) => {
                    let before = input.len();
                    let done = handshake.receive(&mut input, self.link.outbox().bytes())?;
                    self.link.passed(before - input.len());
                    if done {
                        self.state = State::Commands;
                    }
                }
                State::Asking(_, held) => held.hold(&mut input, self.link.position())?,
                State::Commands | State::Publishing(_) | State::Playing => {
                    if let Some(message) = self.link.next(&mut input)? {
                        self.message(&message)?;
                        self.link.check_outbox()?;
                    }
                }
            }
        }
        Ok(())
    }

    fn message(&mut self, message: &Message) -> Result<(), Error> {
        match message.kind {
            kind::COMMAND_AMF0 | kind::COMMAND_AMF3 => self.command(message),
            _ => match &mut self.state {
                State::Publishing(ingest) => ingest.message(message, self.link.outbox()),
                // Media of a stream that was not granted, or is over: a publisher learns so only after it sent it.
                _ => Ok(()),
            },
        }
    }

    fn command(&mut self, message: &Message) -> Result<(), Error> {
        let command = Command::parse(message)?;
        let at = message.at;
        if self.connect.is_none() {
            return match command.name.as_str() {
                "connect" => self.connect(&command, at),
                _ => Err(Error::malformed("a command before connect", at)),
            };
        }
        match command.name.as_str() {
            "createStream" => self.result(&command, Value::Number(MEDIA_STREAM.into())),
            "getStreamLength" => self.result(&command, Value::Number(0.0)),
            "releaseStream" | "_checkbw" => self.result(&command, Value::Undefined),
            "FCPublish" => {
                self.result(&command, Value::Undefined);
                self.echo("onFCPublish", Status::PublishStart, &command);
            }
            "FCSubscribe" => {
                self.result(&command, Value::Undefined);
                self.echo("onFCSubscribe", Status::PlayStart, &command);
            }
            "FCUnpublish" => {
                self.result(&command, Value::Undefined);
                self.echo("onFCUnpublish", Status::UnpublishSuccess, &command);
                self.leave();
            }
            "deleteStream" | "closeStream" => self.leave(),
            "publish" => {
                let stream = command.argument(0).as_str().unwrap_or_default();
                return self.wish(Wish::Publish, stream, at);
            }
            "play" => {
                let stream = command.argument(0).as_str().unwrap_or_default();
                return self.wish(Wish::Play, stream, at);
            }
            "play2" => {
                let stream = command.argument(0).get("streamName").and_then(Value::as_str);
                let stream = stream.unwrap_or_default().to_owned();
                if matches!(self.state, State::Playing) {
                    self.link.status(Status::PlayTransition, &stream);
                }
                return self.wish(Wish::Play, &stream, at);
            }
            "pause" => self.pause(command.argument(0).as_bool().unwrap_or_default()),
            "seek" => self.link.status(Status::SeekFailed, "A live stream has one place only."),
            "receiveAudio" | "receiveVideo" => self.receive(&command),
            // What only a server is asked, and answers to what we did not ask.
            "_result" | "_error" | "onStatus" => {}
            _ if command.transaction != 0.0 => {
                let info = Status::CallFailed.info("This server has no such method.");
                self.link.command("_error", command.transaction, &[Value::Null, info]);
            }
            _ => {}
        }
        Ok(())
    }

    /// Answers a call that expects it.
    fn result(&mut self, command: &Command, value: Value) {
        if command.transaction != 0.0 {
            self.link.command("_result", command.transaction, &[Value::Null, value]);
        }
    }

    /// What Flash Media Server says besides the answer; some encoders wait for it.
    fn echo(&mut self, name: &str, status: Status, command: &Command) {
        let stream = command.argument(0).as_str().unwrap_or_default();
        self.link.command(name, 0.0, &[Value::Null, status.info(stream)]);
    }

    fn connect(&mut self, command: &Command, at: u64) -> Result<(), Error> {
        match Connect::parse(command) {
            Ok(connect) => {
                self.link.control(Control::WindowAcknowledgementSize(WINDOW));
                self.link.control(Control::SetPeerBandwidth(WINDOW));
                self.link.announce_chunk_size();
                self.link.command("_result", command.transaction, &connect.answer());
                self.connect = Some(Box::new(connect));
                Ok(())
            }
            Err(why) => {
                let info = Status::ConnectRejected.info(why);
                self.link.command("_error", command.transaction, &[Value::Null, info]);
                Err(Error::malformed(why, at))
            }
        }
    }

    /// Asks the hub for what the peer wants.
    fn wish(&mut self, wish: Wish, stream: &str, at: u64) -> Result<(), Error> {
        let refused = match wish {
            Wish::Publish => Status::PublishBadName,
            Wish::Play => Status::PlayFailed,
        };
        match (&self.state, wish) {
            (State::Commands, _) => {}
            // A player may go to another stream without a word of farewell.
            (State::Playing, Wish::Play) => {
                self.link.outbox().event(Event::Stop);
            }
            _ => {
                let why = "a connection carries one stream at a time";
                self.link.status(refused, why);
                self.state = State::Closed;
                return Err(Error::refused(why, at));
            }
        }
        let connect = self.connect.as_ref().expect("no command but connect is read before it");
        match connect.stream(stream) {
            Ok((name, query)) => {
                let event = match wish {
                    Wish::Publish => Event::Publish { name, query },
                    Wish::Play => Event::Play { name, query, form: &FORM },
                };
                self.link.outbox().event(event);
                self.wish_by = None;
                self.state = State::Asking(wish, Held::default());
                Ok(())
            }
            Err(why) => {
                self.link.status(refused, why);
                Err(Error::malformed(why, at))
            }
        }
    }

    fn answer(&mut self, answer: Answer) -> Result<(), Error> {
        if !matches!(self.state, State::Asking(..)) {
            // The peer was closed while the hub thought.
            return Ok(());
        }
        let State::Asking(wish, held) = std::mem::replace(&mut self.state, State::Closed) else {
            return Ok(());
        };
        self.state = match (answer, wish) {
            // The hub knows why, and logs it; here the peer is told.
            (Answer::Refused(refusal), wish) => {
                self.refuse(wish, refusal);
                self.close();
                return Ok(());
            }
            (Answer::Publishing, _) => {
                assert_eq!(wish, Wish::Publish, "the hub answers the wish that it was told");
                self.link.stream_event(UserEvent::StreamBegin);
                self.link.status(Status::PublishStart, "The stream is yours.");
                State::Publishing(Box::default())
            }
            (Answer::Playing, _) => {
                assert_eq!(wish, Wish::Play, "the hub answers the wish that it was told");
                self.link.stream_event(UserEvent::StreamBegin);
                self.link.status(Status::PlayReset, "Playing and resetting the stream.");
                self.link.status(Status::PlayStart, "The stream begins.");
                State::Playing
            }
        };
        self.read(held.bytes())
    }

    fn refuse(&mut self, wish: Wish, refusal: Refusal) {
        let status = match (wish, refusal) {
            (Wish::Publish, _) => Status::PublishBadName,
            (Wish::Play, Refusal::NotFound) => Status::PlayNotFound,
            (Wish::Play, _) => Status::PlayFailed,
        };
        self.link.status(status, refusal.why());
    }

    /// The peer is done with its stream, and may begin another.
    fn leave(&mut self) {
        match self.state {
            State::Publishing(_) => {
                self.link.outbox().event(Event::Unpublish);
                self.link.status(Status::UnpublishSuccess, "The stream is over.");
            }
            State::Playing => {
                self.link.outbox().event(Event::Stop);
                self.link.status(Status::PlayStop, "The stream was stopped.");
            }
            _ => return,
        }
        self.state = State::Commands;
    }

    fn pause(&mut self, pause: bool) {
        if !matches!(self.state, State::Playing) {
            return;
        }
        self.link.outbox().event(Event::Pause(pause));
        if pause {
            self.link.status(Status::PauseNotify, "The stream is held.");
        } else {
            self.link.status(Status::UnpauseNotify, "The stream goes on from its newest key frame.");
        }
    }

    /// 7.2.2.4 and 7.2.2.5. All viewers get the same bytes, so a track cannot be left out; the specification has words
    /// for a track that is wanted again and none for one that is not.
    fn receive(&mut self, command: &Command) {
        self.result(command, Value::Undefined);
        if command.argument(0).as_bool() == Some(true) && matches!(self.state, State::Playing) {
            self.link.status(Status::SeekNotify, "The stream goes on.");
            self.link.status(Status::PlayStart, "The stream goes on.");
        }
    }

    fn timeout(&mut self, now: Now) -> Result<(), Error> {
        if matches!(self.state, State::Closed | State::Asking(..)) {
            return Ok(());
        }
        match self.wish_by {
            Some(wish_by) if now >= wish_by => {
                Err(Error::timed_out("the peer did not say in time what it wants", self.received))
            }
            Some(_) => Ok(()),
            None if now >= self.heard.after(self.idle) => {
                Err(Error::timed_out("the peer neither sends anything nor answers pings", self.received))
            }
            None => {
                self.link.ping(now);
                Ok(())
            }
        }
    }

    fn ended(&mut self) {
        match self.state {
            State::Closed => return,
            State::Playing => self.say_unpublished("The stream has ended."),
            State::Publishing(_) => self.link.status(Status::UnpublishSuccess, "The stream was ended."),
            _ => {}
        }
        self.close();
    }

    fn shutdown(&mut self) {
        match self.state {
            State::Closed => return,
            State::Playing => self.say_unpublished(Refusal::ShuttingDown.why()),
            State::Asking(wish, _) => self.refuse(wish, Refusal::ShuttingDown),
            _ => {}
        }
        if self.connect.is_some() {
            let info = Status::ConnectShutdown.info(Refusal::ShuttingDown.why());
            self.link.command("onStatus", 0.0, &[Value::Null, info]);
        }
        self.close();
    }

    /// Whoever has a stream is told why it ends; who has none was told in answer to what it asked for.
    fn fail(&mut self, error: Error) {
        if matches!(self.state, State::Publishing(_) | State::Playing) {
            self.link.status(Status::Failed, error.why);
        }
        self.state = State::Closed;
    }

    fn say_unpublished(&mut self, why: &str) {
        self.link.stream_event(UserEvent::StreamEof);
        self.link.status(Status::PlayUnpublished, why);
    }

    fn close(&mut self) {
        self.link.outbox().close();
        self.state = State::Closed;
    }
}

#[cfg(test)]
mod tests;
