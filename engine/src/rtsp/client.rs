//! The client's half of RTSP: it publishes a stream of here on another server (*push*), inside its connection.
//!
//! It speaks the same contract as a session that was accepted: it asks what is in the stream, announces that, sets each track up and
//! records; then it wishes to *play*, and the hub sends its server the shared bytes of [`FORMS`](super::FORMS), those that viewers of
//! these tracks get. Pulling by RTSP is not here.

mod login;

use std::{collections::VecDeque, fmt, time::Duration};

use bytes::Bytes;
use rtsp_types::{Method, Request, Response, StatusCode, headers};

use self::login::Login;
use super::{
    inbox::{self, Inbox, Item},
    sdp, transport,
    wire::{channel_of, form_of, goodbyes},
};
use crate::{
    error::Error,
    limits::{DoorLimits, RTSP_REFUSALS_MAX},
    media::{StreamName, TrackId},
    session::{self, Answer, Event, Input, Opening, Output, newest},
    time::Now,
};

/// How long a session lasts without a request, where its server does not say. (RFC 2326, 12.37)
const SESSION_TIME: Duration = Duration::from_secs(60);
/// The most and the least that is let pass between two requests: half of what the server allows.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(30);
const KEEP_ALIVE_MIN: Duration = Duration::from_secs(1);
/// Bytes of what a server calls its session. No server has more than a hundred.
const SESSION_BYTES_MAX: usize = 256;

/// A stream on another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its URL, without user and password: `rtsp://host:8554/live/cam?token=x`.
    pub url: String,
    /// Who publishes it there.
    pub credentials: Option<Credentials>,
}

/// A user and a password. Neither has a control character.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// Its password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// One connection to another server, made by us.
#[derive(Debug)]
pub struct Client {
    inbox: Inbox,
    outbox: VecDeque<Output>,
    state: State,
    url: String,
    login: Login,
    /// The stream's name here.
    name: StreamName,
    /// What is announced.
    description: String,
    tracks: Vec<TrackId>,
    /// Of the request that was said last.
    number: u32,
    /// It has no answer yet.
    waits: bool,
    /// How often what is asked for was answered by asking who we are.
    challenges: u32,
    /// What the server calls the session.
    session: Option<String>,
    keep_alive: Duration,
    /// It knows requests that ask for nothing. (`GET_PARAMETER`)
    knows_parameters: bool,
    /// Bytes that came, and those of them that were read.
    received: u64,
    passed: u64,
    handshake: Duration,
}

/// Where the conversation is. Until a stream goes, the server has time up to `by`; the hub keeps its own time.
#[derive(Clone, Copy, Debug)]
enum State {
    /// The server is asked what it can.
    Greeting {
        by: Now,
    },
    /// The hub is asked what is in the stream.
    Describing,
    Announcing {
        by: Now,
    },
    /// The track at this place of `tracks` is set up.
    SettingUp {
        by: Now,
        place: usize,
    },
    Recording {
        by: Now,
    },
    /// The hub is asked for the stream.
    Asking,
    Pushing {
        keep_alive_at: Now,
    },
    Closed,
}

impl Client {
    /// A client that publishes `name` of here as `target`.
    pub fn push(target: Target, name: StreamName, limits: &DoorLimits, now: Now) -> Self {
        let mut client = Client {
            inbox: Inbox::default(),
            outbox: VecDeque::new(),
            state: State::Greeting { by: now.after(limits.handshake) },
            url: target.url,
            login: Login::new(target.credentials, limits.secret),
            name,
            description: String::new(),
            tracks: Vec::new(),
            number: 0,
            waits: false,
            challenges: 0,
            session: None,
            keep_alive: keep_alive_of(SESSION_TIME),
            knows_parameters: false,
            received: 0,
            passed: 0,
            handshake: limits.handshake,
        };
        client.ask(now);
        client
    }
}

impl session::Session for Client {
    fn handle(&mut self, input: Input<'_>, now: Now) -> Result<(), Error> {
        let result = match input {
            Input::Received(bytes) => {
                self.received += bytes.len() as u64;
                self.receive(bytes, now)
            }
            Input::Filled { memory, received } => {
                self.received += received as u64;
                self.receive(newest(&memory, received), now)
            }
            Input::Described(opening) => self.described(&opening, now),
            Input::Answer(answer) => self.answer(answer, now),
            Input::Timeout => self.timeout(now),
            Input::Ended | Input::Shutdown => {
                self.farewell(now);
                Ok(())
            }
            // A publisher is asked for key frames by nobody here, and nobody has asked for the others.
            _ => Ok(()),
        };
        if result.is_err() {
            self.state = State::Closed;
        }
        result
    }

    fn poll(&mut self) -> Option<Output> {
        self.outbox.pop_front()
    }

    fn deadline(&self) -> Option<Now> {
        match self.state {
            State::Closed | State::Describing | State::Asking => None,
            State::Greeting { by }
            | State::Announcing { by }
            | State::SettingUp { by, .. }
            | State::Recording { by } => Some(by),
            State::Pushing { keep_alive_at } => Some(keep_alive_at),
        }
    }

    fn received(&self) -> u64 {
        self.received
    }
}

impl Client {
    fn receive(&mut self, mut bytes: &[u8], now: Now) -> Result<(), Error> {
        while self.inbox.len() > 0 && !bytes.is_empty() && self.listens() {
            self.inbox.fill(&mut bytes);
            self.read_inbox(now)?;
        }
        let used = if self.inbox.len() == 0 { self.read(bytes, now)? } else { 0 };
        let rest = bytes.split_at(used).1;
        if !rest.is_empty() && !matches!(self.state, State::Closed) {
            self.inbox.append(rest);
        }
        Ok(())
    }

    /// Reads what waits.
    fn read_inbox(&mut self, now: Now) -> Result<(), Error> {
        let held = self.inbox.take();
        let used = self.read(&held, now)?;
        self.inbox.keep(held, used);
        Ok(())
    }

    /// Reads whole items, and returns how many bytes they took. What follows a wish waits for its answer.
    fn read(&mut self, bytes: &[u8], now: Now) -> Result<usize, Error> {
        let mut used = 0;
        while self.listens() {
            let Some((item, len)) = inbox::next(bytes.split_at(used).1, self.passed)? else { break };
            match item {
                Item::Response(response) => self.response(&response, now)?,
                Item::Request(request) => self.request(&request)?,
                // Reports on what has come of our packets.
                Item::Packet { .. } | Item::Other => {}
            }
            used += len;
            self.passed += len as u64;
        }
        Ok(used)
    }

    fn listens(&self) -> bool {
        !matches!(self.state, State::Describing | State::Asking | State::Closed)
    }

    /// Says the request of the state that we are in.
    fn ask(&mut self, now: Now) {
        let url = self.url.clone();
        match self.state {
            State::Greeting { .. } => self.say("OPTIONS", &url, "", "", now),
            State::Announcing { .. } => {
                let description = std::mem::take(&mut self.description);
                self.say("ANNOUNCE", &url, "Content-Type: application/sdp\r\n", &description, now);
                self.description = description;
            }
            State::SettingUp { place, .. } => {
                let Some(track) = self.tracks.get(place).copied() else { return };
                let channel = channel_of(track);
                let transport = format!(
                    "Transport: RTP/AVP/TCP;unicast;interleaved={channel}-{};mode=record\r\n",
                    channel + 1
                );
                // Servers look for the track behind the query, too, and there alone.
                self.say("SETUP", &format!("{url}/{}", sdp::control_of(track)), &transport, "", now);
            }
            State::Recording { .. } => self.say("RECORD", &url, "Range: npt=0.000-\r\n", "", now),
            State::Pushing { .. } => {
                let method = if self.knows_parameters { "GET_PARAMETER" } else { "OPTIONS" };
                self.say(method, &url, "", "", now);
            }
            State::Describing | State::Asking | State::Closed => {}
        }
    }

    fn say(&mut self, method: &str, url: &str, more: &str, body: &str, now: Now) {
        self.number = self.number.wrapping_add(1);
        self.waits = true;
        let mut text =
            format!("{method} {url} RTSP/1.0\r\nCSeq: {}\r\nUser-Agent: shardcast\r\n{more}", self.number);
        if let Some(session) = &self.session {
            text.push_str(&format!("Session: {session}\r\n"));
        }
        if let Some(shown) = self.login.header(method, url, now) {
            text.push_str(&format!("Authorization: {shown}\r\n"));
        }
        if !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        text.push_str(body);
        self.send(text.into());
    }

    fn response(&mut self, response: &Response<Vec<u8>>, now: Now) -> Result<(), Error> {
        let number = response.header(&headers::CSEQ).and_then(|number| number.as_str().trim().parse().ok());
        let status = u16::from(response.status());
        // The answer to an older request, or that it is being worked at.
        if !self.waits || number != Some(self.number) || (100..200).contains(&status) {
            return Ok(());
        }
        self.waits = false;
        if response.status() == StatusCode::Unauthorized {
            return self.challenged(response, now);
        }
        self.challenges = 0;
        match self.state {
            // A server need not know this one. What it can is seen by asking for it.
            State::Greeting { .. } => {
                self.greeted(response);
                return Ok(());
            }
            State::Pushing { .. } if response.status() == StatusCode::SessionNotFound => {
                return Err(Error::refused("the server knows our session no more", self.passed));
            }
            // Whatever it says to that, we were heard.
            State::Pushing { .. } => return Ok(()),
            _ => {}
        }
        if !(200..300).contains(&status) {
            return Err(Error::refused(refusal(response.status()), self.passed));
        }
        self.note_session(response)?;
        match self.state {
            State::Announcing { by } => {
                self.state = State::SettingUp { by, place: 0 };
                self.ask(now);
            }
            State::SettingUp { by, place } => {
                self.set_up(response, place)?;
                let next = place + 1;
                let last = next >= self.tracks.len();
                self.state =
                    if last { State::Recording { by } } else { State::SettingUp { by, place: next } };
                self.ask(now);
            }
            State::Recording { .. } => self.wish()?,
            _ => {}
        }
        Ok(())
    }

    /// The server wants to know who we are.
    fn challenged(&mut self, response: &Response<Vec<u8>>, now: Now) -> Result<(), Error> {
        self.challenges += 1;
        let wanted = response.header(&headers::WWW_AUTHENTICATE).map_or("", |header| header.as_str());
        if !self.login.is_somebody() {
            return Err(Error::refused("the server wants a user and a password", self.passed));
        }
        // The first time we may have shown nothing yet, and the second a number that was too old.
        if self.challenges >= RTSP_REFUSALS_MAX {
            return Err(Error::refused("the server does not take our user and password", self.passed));
        }
        if !self.login.challenged(wanted) {
            let why = "the server wants a proof of the password that is not known here";
            return Err(Error::unsupported(why, self.passed));
        }
        self.ask(now);
        Ok(())
    }

    fn greeted(&mut self, response: &Response<Vec<u8>>) {
        let public = response.header(&headers::PUBLIC).map_or("", |header| header.as_str());
        self.knows_parameters =
            public.split(',').any(|method| method.trim().eq_ignore_ascii_case("GET_PARAMETER"));
        self.state = State::Describing;
        let event = Event::Describe { name: self.name.clone(), query: String::new() };
        self.outbox.push_back(Output::Event(event));
    }

    fn described(&mut self, opening: &Opening, now: Now) -> Result<(), Error> {
        if !matches!(self.state, State::Describing) {
            return Ok(());
        }
        (self.description, self.tracks) = sdp::announce(&self.name, opening);
        if self.tracks.is_empty() {
            let why = "no payload format carries what is in this stream";
            return Err(Error::unsupported(why, self.received));
        }
        self.state = State::Announcing { by: now.after(self.handshake) };
        self.ask(now);
        self.read_inbox(now)
    }

    /// Learns what the server calls the session, which some say earlier than others, and how long it lasts. (RFC 2326, 12.37)
    fn note_session(&mut self, response: &Response<Vec<u8>>) -> Result<(), Error> {
        let Some(header) = response.header(&headers::SESSION) else { return Ok(()) };
        let mut parts = header.as_str().split(';').map(str::trim);
        let id = parts.next().unwrap_or_default();
        if id.len() > SESSION_BYTES_MAX || !id.bytes().all(|byte| byte.is_ascii_graphic()) || id.is_empty() {
            return Err(Error::malformed("a session's name that is none", self.passed));
        }
        self.session = Some(id.to_owned());
        let timeout = parts.find_map(|part| {
            let (key, value) = part.split_once('=')?;
            let seconds = value.trim().parse().ok()?;
            key.trim().eq_ignore_ascii_case("timeout").then_some(Duration::from_secs(seconds))
        });
        if let Some(timeout) = timeout {
            self.keep_alive = keep_alive_of(timeout);
        }
        Ok(())
    }

    /// The bytes that all receivers share name their channels, and a server may choose others than were asked for. (RFC 2326, 12.39)
    fn set_up(&self, response: &Response<Vec<u8>>, place: usize) -> Result<(), Error> {
        let header = response.header(&headers::TRANSPORT).map_or("", |header| header.as_str());
        let channel = self.tracks.get(place).map_or(0, |track| channel_of(*track));
        let agreed = transport::read(header).into_iter().find(|transport| transport.tcp);
        let Some(agreed) = agreed else {
            return Err(Error::unsupported("the server takes no packets inside the connection", self.passed));
        };
        if agreed.interleaved.is_some_and(|channels| channels != (channel, channel + 1)) {
            return Err(Error::unsupported("the server wants other channels than were offered", self.passed));
        }
        Ok(())
    }

    /// The server records: now for the stream.
    fn wish(&mut self) -> Result<(), Error> {
        let has = |track| self.tracks.contains(&track);
        let Some(form) = form_of(has(TrackId::VIDEO), has(TrackId::AUDIO)) else {
            return Err(Error::unsupported("nothing was announced", self.passed));
        };
        self.state = State::Asking;
        self.description = String::new();
        let event = Event::Play { name: self.name.clone(), query: String::new(), form };
        self.outbox.push_back(Output::Event(event));
        Ok(())
    }

    fn answer(&mut self, answer: Answer, now: Now) -> Result<(), Error> {
        if !matches!(self.state, State::Asking | State::Describing) {
            return Ok(());
        }
        match answer {
            Answer::Refused(refusal) => {
                self.farewell(now);
                Err(Error::refused(refusal.why(), self.received))
            }
            Answer::Playing | Answer::Publishing => {
                assert!(matches!((self.state, answer), (State::Asking, Answer::Playing)), "it was asked for");
                self.state = State::Pushing { keep_alive_at: now.after(self.keep_alive) };
                self.read_inbox(now)
            }
        }
    }

    /// A server that records may ask, too, if we live. (RFC 2326, 10)
    fn request(&mut self, request: &Request<Vec<u8>>) -> Result<(), Error> {
        let number = request.header(&headers::CSEQ).map_or("", |number| number.as_str().trim());
        if number.is_empty() || number.len() > 20 || !number.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(Error::malformed("a request without CSeq", self.passed));
        }
        let status = match request.method() {
            Method::Options => "200 OK\r\nPublic: OPTIONS, GET_PARAMETER, SET_PARAMETER, TEARDOWN",
            Method::GetParameter | Method::SetParameter | Method::Teardown => "200 OK",
            Method::Redirect => return Err(Error::unsupported("the server sends us elsewhere", self.passed)),
            _ => "501 Not Implemented",
        };
        self.send(format!("RTSP/1.0 {status}\r\nCSeq: {number}\r\n\r\n").into());
        if matches!(request.method(), Method::Teardown) {
            self.over();
        }
        Ok(())
    }

    /// The server has ended the stream.
    fn over(&mut self) {
        if matches!(self.state, State::Pushing { .. }) {
            self.outbox.push_back(Output::Event(Event::Stop));
        }
        self.close();
    }

    /// We end the stream.
    fn farewell(&mut self, now: Now) {
        if matches!(self.state, State::Closed) {
            return;
        }
        if matches!(self.state, State::Pushing { .. }) {
            self.send(goodbyes(self.tracks.iter().copied()));
        }
        if self.session.is_some() {
            let url = self.url.clone();
            self.say("TEARDOWN", &url, "", "", now);
        }
        self.close();
    }

    fn timeout(&mut self, now: Now) -> Result<(), Error> {
        if self.deadline_has_come(now) {
            let State::Pushing { .. } = self.state else {
                return Err(Error::timed_out("the server did not take the stream in time", self.received));
            };
            // One that takes no more is left by the hub, so an answer is not insisted on: not every server gives one.
            self.state = State::Pushing { keep_alive_at: now.after(self.keep_alive) };
            self.challenges = 0;
            self.ask(now);
        }
        Ok(())
    }

    fn deadline_has_come(&self, now: Now) -> bool {
        session::Session::deadline(self).is_some_and(|deadline| deadline <= now)
    }

    fn send(&mut self, bytes: Bytes) {
        self.outbox.push_back(Output::Send(bytes));
    }

    fn close(&mut self) {
        self.outbox.push_back(Output::Close);
        self.state = State::Closed;
    }
}

/// How often a server must hear of us that forgets us after `timeout`.
fn keep_alive_of(timeout: Duration) -> Duration {
    (timeout / 2).clamp(KEEP_ALIVE_MIN, KEEP_ALIVE_MAX)
}

/// Why a server says no, as far as its number tells. (RFC 2326, 7.1.1)
fn refusal(status: StatusCode) -> &'static str {
    match u16::from(status) {
        300..400 => "the server sends us elsewhere",
        403 => "the server forbids it, or the name is taken (403)",
        404 => "the server has no place for this stream (404)",
        405 | 501 => "the server takes no streams by RTSP",
        408 => "the server did not wait for us (408)",
        415 => "the server does not take what is in this stream (415)",
        453 => "the server has no bandwidth left (453)",
        454 => "the server knows our session no more (454)",
        455 => "the server does not take the stream now (455)",
        461 => "the server takes no packets inside the connection (461)",
        500 => "the server has failed (500)",
        503 => "the server is full or going down (503)",
        400..500 => "the server does not understand us",
        _ => "the server has failed",
    }
}

#[cfg(test)]
mod tests;
