//! The server's half of RTSP: one peer that publishes or plays inside its connection.
//!
//! A connection carries one stream at a time. What a viewer is sent once it plays are the shared bytes of [`FORMS`]; this
//! session only listens then, and answers between packets.

mod publishing;
mod reply;
mod setup;

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use rtsp_types::{Method, Request, StatusCode, Version, headers};

use self::{
    publishing::Publishing,
    reply::Reply,
    setup::{Setup, Stream},
};
use super::{
    address::Address,
    auth::{Nonce, Shown},
    inbox::{self, Inbox, Item},
    sdp,
    wire::{form_of, goodbyes},
};
use crate::{
    access::Proof,
    error::Error,
    limits::{DoorLimits, RTSP_REFUSALS_MAX},
    media::{StreamName, TrackId},
    rtp::rtcp,
    session::{self, Answer, Event, Input, Opening, Output, PortOffer, Refusal, Start},
    time::Now,
};

/// How long the session of a peer lasts that gives no sign of life. Inside a connection nothing hangs on it; a viewer that is sent to
/// beside it may long be gone otherwise.
const SESSION_TIME: Duration = Duration::from_secs(60);
/// How long a viewer inside its connection has after the end of its stream until that is closed.
const FAREWELL: Duration = Duration::from_secs(1);

/// One peer of the RTSP door.
#[derive(Debug)]
pub struct Session {
    inbox: Inbox,
    outbox: VecDeque<Output>,
    state: State,
    /// What the peer calls its session.
    id: String,
    /// Bytes that came, and those of them that were read.
    received: u64,
    passed: u64,
    refusals: u32,
    /// When the peer must have said what it wants; `None` once it has.
    wish_by: Option<Now>,
    handshake: Duration,
    idle: Duration,
    /// When the last byte came.
    heard: Now,
    /// Where datagrams may go.
    offer: Option<PortOffer>,
    nonce: Nonce,
    /// What the request that is answered proves.
    proof: Option<Box<Proof>>,
    /// Where the stream begins that is about to be played.
    starts: Vec<Start>,
}

#[derive(Debug)]
enum State {
    /// Between streams.
    Talking(Setup),
    /// The hub has not answered yet.
    Asking(Box<Asked>),
    Publishing(Box<Publishing>),
    /// Whether it is held, of which tracks, whether they go beside the connection, and when it is closed if its stream has ended.
    Playing {
        paused: bool,
        tracks: [bool; 2],
        beside: bool,
        ended: Option<Now>,
    },
    Closed,
}

/// A wish and what is needed when it is answered.
#[derive(Debug)]
struct Asked {
    reply: Reply,
    setup: Setup,
    name: StreamName,
}

impl Session {
    /// A session for a peer that was accepted now.
    pub fn new(limits: &DoorLimits, now: Now) -> Self {
        Session {
            inbox: Inbox::default(),
            outbox: VecDeque::new(),
            state: State::Talking(Setup::default()),
            // Inside a connection nobody else can use it, and nobody need be kept from guessing it.
            id: format!("{:016x}", now.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            received: 0,
            passed: 0,
            refusals: 0,
            wish_by: Some(now.after(limits.handshake)),
            handshake: limits.handshake,
            idle: limits.idle,
            heard: now,
            offer: None,
            nonce: Nonce::new(limits.secret),
            proof: None,
            starts: Vec::new(),
        }
    }
}

impl session::Session for Session {
    fn handle(&mut self, input: Input<'_>, now: Now) -> Result<(), Error> {
        let result = match input {
            Input::Received(bytes) => {
                self.received += bytes.len() as u64;
                self.heard = now;
                self.receive(bytes, now)
            }
            Input::Answer(answer) => {
                self.heard = now;
                self.answer(answer, now)
            }
            Input::Described(opening) => {
                self.heard = now;
                self.described(&opening, now)
            }
            Input::Datagram { channel, bytes } => {
                self.datagram(channel, bytes, now);
                Ok(())
            }
            Input::Timeout => self.timeout(now),
            Input::Ended if matches!(self.state, State::Playing { .. }) => {
                self.end(now);
                Ok(())
            }
            Input::Ended | Input::Shutdown => {
                self.say_goodbye();
                self.close();
                Ok(())
            }
            // Inside a connection nobody asks for a key frame, and nothing is lent or fetched.
            _ => Ok(()),
        };
        if let Err(error) = result {
            self.fail(error);
        }
        result
    }

    fn poll(&mut self) -> Option<Output> {
        let output = self.outbox.pop_front();
        if output.is_none() && matches!(self.state, State::Playing { .. }) {
            // A viewer says hardly anything more for hours, and there are thousands of them.
            self.outbox = VecDeque::new();
        }
        output
    }

    fn deadline(&self) -> Option<Now> {
        match (&self.state, self.wish_by) {
            (State::Closed | State::Asking(_), _) => None,
            (State::Publishing(publishing), _) => {
                Some(publishing.deadline().min(self.heard.after(self.idle)))
            }
            (State::Playing { ended: Some(until), .. }, _) => Some(*until),
            (State::Playing { beside: true, .. }, _) => Some(self.heard.after(SESSION_TIME)),
            // A viewer need not say anything: one that takes nothing is closed by the hub.
            (State::Playing { .. }, _) => None,
            (State::Talking(_), wish_by) => wish_by,
        }
    }

    fn received(&self) -> u64 {
        self.received
    }

    fn offer_ports(&mut self, offer: PortOffer) {
        self.offer = Some(offer);
    }

    fn begins_at(&mut self, starts: &[Start]) {
        self.starts = starts.to_vec();
    }
}

impl Session {
    fn receive(&mut self, mut bytes: &[u8], now: Now) -> Result<(), Error> {
        while self.inbox.len() > 0 && !bytes.is_empty() {
            self.inbox.fill(&mut bytes);
            self.read_inbox(now)?;
            // What follows a wish waits for its answer, and what follows the last word is not read.
            if matches!(self.state, State::Asking(_) | State::Closed) {
                break;
            }
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

    /// Reads whole items, and returns how many bytes they took.
    fn read(&mut self, bytes: &[u8], now: Now) -> Result<usize, Error> {
        let mut used = 0;
        while !matches!(self.state, State::Asking(_) | State::Closed) {
            let Some((item, len)) = inbox::next(bytes.split_at(used).1, self.passed)? else { break };
            match item {
                Item::Packet { channel, bytes } => self.packet(channel, bytes, now),
                Item::Request(request) => self.request(&request, now)?,
                // Nothing has been asked.
                Item::Response(_) | Item::Other => {}
            }
            used += len;
            self.passed += len as u64;
        }
        Ok(used)
    }

    /// A packet on a channel. One of a track that was not set up says nothing, as does a viewer's report.
    fn packet(&mut self, channel: u8, bytes: &[u8], now: Now) {
        let State::Publishing(publishing) = &mut self.state else { return };
        publishing.packet(channel, bytes, now, &mut self.outbox);
    }

    /// A datagram from a port of the peer's: of its stream, or a viewer's sign of life. To open the way through routers clients
    /// send others, which say nothing.
    fn datagram(&mut self, channel: u8, bytes: &[u8], now: Now) {
        match &mut self.state {
            State::Publishing(publishing) => {
                self.heard = now;
                publishing.datagram(channel, bytes, now, &mut self.outbox);
            }
            State::Playing { .. } if channel % 2 == 1 && rtcp::is_report(bytes) => self.heard = now,
            _ => {}
        }
    }

    fn request(&mut self, request: &Request<Vec<u8>>, now: Now) -> Result<(), Error> {
        let Some(reply) = Reply::to(request) else {
            self.say(Reply::without_number().status(StatusCode::BadRequest).reason("CSeq is missing"));
            return Err(Error::malformed("a request without CSeq", self.passed));
        };
        if request.version() != Version::V1_0 {
            self.say(reply.status(StatusCode::RTSPVersionNotSupported));
            return Ok(());
        }
        if let Some(options) = request.header(&headers::REQUIRE) {
            self.say(
                reply.status(StatusCode::OptionNotSupported).header(headers::UNSUPPORTED, options.as_str()),
            );
            return Ok(());
        }
        let foreign = request.header(&headers::SESSION).is_some_and(|session| {
            session.as_str().split(';').next().map(str::trim) != Some(self.id.as_str())
        });
        if foreign {
            self.say(reply.status(StatusCode::SessionNotFound));
            return Ok(());
        }
        match request.method() {
            Method::Options => self.say(reply.header(headers::PUBLIC, METHODS)),
            Method::Describe => self.describe(request, reply, now),
            Method::Announce => self.announce(request, reply, now),
            Method::Setup => self.set_up(request, reply),
            Method::Play => self.play(request, reply, now),
            Method::Record => self.record(request, reply, now),
            Method::Pause => self.pause(reply),
            Method::Teardown => self.tear_down(reply, now),
            // Either serves as a sign of life. There are no parameters.
            Method::GetParameter | Method::SetParameter => {
                let reply = reply.session(&self.id, SESSION_TIME);
                self.say(reply);
            }
            _ => self.say(reply.status(StatusCode::NotImplemented).header(headers::ALLOW, METHODS)),
        }
        Ok(())
    }

    /// The stream that a request is about, with whatever the peer shows that it may. `None` when it was refused.
    fn address(&mut self, request: &Request<Vec<u8>>, reply: &Reply, now: Now) -> Option<Address> {
        let url = request.request_uri().map_or("", |url| url.as_str());
        let mut address = match Address::read(url) {
            Ok(address) => address,
            Err(why) => {
                self.say(reply.clone().status(StatusCode::BadRequest).reason(why));
                return None;
            }
        };
        let header = request.header(&headers::AUTHORIZATION).map_or("", |header| header.as_str());
        let method: &str = request.method().into();
        self.proof = None;
        match self.nonce.shown(header, method, &address.name, now) {
            Shown::Nothing => {}
            Shown::Query(shown) => {
                if !address.query.is_empty() {
                    address.query.push('&');
                }
                address.query.push_str(&shown);
            }
            Shown::Proof(proof) => self.proof = Some(proof),
            Shown::Stale => {
                self.refusals += 1;
                let challenges = self.nonce.challenges(true, now);
                self.say(reply.clone().challenges(challenges));
                if self.refusals >= RTSP_REFUSALS_MAX {
                    self.close();
                }
                return None;
            }
        }
        Some(address)
    }

    fn describe(&mut self, request: &Request<Vec<u8>>, reply: Reply, now: Now) {
        let State::Talking(_) = self.state else { return self.say(reply.status(WRONG_STATE)) };
        let Some(Address { name, query, .. }) = self.address(request, &reply, now) else { return };
        let event = Event::Describe { name: name.clone(), query };
        self.ask(reply, Setup::default(), name, event);
    }

    fn announce(&mut self, request: &Request<Vec<u8>>, reply: Reply, now: Now) {
        let State::Talking(_) = self.state else { return self.say(reply.status(WRONG_STATE)) };
        let Some(Address { name, query, .. }) = self.address(request, &reply, now) else { return };
        let medias = match sdp::read(request.body()) {
            Ok(medias) => medias,
            Err(why) => return self.say(reply.status(StatusCode::BadRequest).reason(why)),
        };
        if medias.iter().all(|media| media.format.is_none()) {
            return self.say(reply.status(StatusCode::UnsupportedMediaType));
        }
        let stream = Some(Stream::Announced(name, query, medias));
        self.state = State::Talking(Setup { stream, channels: Vec::new() });
        self.say(reply);
    }

    fn play(&mut self, request: &Request<Vec<u8>>, reply: Reply, now: Now) {
        if let State::Playing { paused, ended: None, .. } = &mut self.state {
            // Without a pause before it, it is a sign of life.
            if std::mem::take(paused) {
                self.outbox.push_back(Output::Event(Event::Pause(false)));
            }
            let reply = reply.session(&self.id, SESSION_TIME).header(headers::RANGE, NOW);
            return self.say(reply);
        }
        let State::Talking(Setup { stream: Some(Stream::Described(name, _)), channels }) = &self.state else {
            return self.say(reply.status(WRONG_STATE));
        };
        let [video, audio] = setup::tracks(channels);
        let Some(form) = form_of(video, audio) else {
            return self.say(reply.status(WRONG_STATE));
        };
        let name = name.clone();
        let Some(address) = self.address(request, &reply, now) else { return };
        if address.name != name {
            return self.say(reply.status(StatusCode::NotFound).reason("another stream was set up"));
        }
        let State::Talking(setup) = std::mem::replace(&mut self.state, State::Closed) else { return };
        let event = Event::Play { name: name.clone(), query: address.query, form };
        self.ask(reply, setup, name, event);
    }

    fn record(&mut self, request: &Request<Vec<u8>>, reply: Reply, now: Now) {
        if matches!(self.state, State::Publishing(_)) {
            let reply = reply.session(&self.id, SESSION_TIME);
            return self.say(reply);
        }
        let State::Talking(Setup { stream: Some(Stream::Announced(name, query, _)), channels }) = &self.state
        else {
            return self.say(reply.status(WRONG_STATE));
        };
        if channels.is_empty() {
            return self.say(reply.status(WRONG_STATE));
        }
        let (name, announced) = (name.clone(), query.clone());
        let Some(address) = self.address(request, &reply, now) else { return };
        if address.name != name {
            return self.say(reply.status(StatusCode::NotFound).reason("another stream was announced"));
        }
        let query = if address.query.is_empty() { announced } else { address.query };
        let State::Talking(setup) = std::mem::replace(&mut self.state, State::Closed) else { return };
        let event = Event::Publish { name: name.clone(), query };
        self.ask(reply, setup, name, event);
    }

    fn pause(&mut self, reply: Reply) {
        match &mut self.state {
            State::Playing { paused, .. } => {
                *paused = true;
                self.outbox.push_back(Output::Event(Event::Pause(true)));
            }
            // It sends nothing for a while, as it may.
            State::Publishing(_) => {}
            _ => return self.say(reply.status(WRONG_STATE)),
        }
        let reply = reply.session(&self.id, SESSION_TIME);
        self.say(reply);
    }

    fn tear_down(&mut self, reply: Reply, now: Now) {
        self.stop_publishing(now);
        if let State::Playing { beside, .. } = self.state {
            self.outbox.push_back(Output::Event(Event::Stop));
            self.outbox.extend(beside.then_some(Output::Ports(None)));
        }
        self.state = State::Talking(Setup::default());
        self.wish_by = Some(now.after(self.handshake));
        let reply = reply.session(&self.id, SESSION_TIME);
        self.say(reply);
    }

    /// Gives what is left, and ends the stream that comes in.
    fn stop_publishing(&mut self, now: Now) {
        let State::Publishing(publishing) = &mut self.state else { return };
        publishing.finish(now, &mut self.outbox);
        self.outbox.push_back(Output::Event(Event::Unpublish));
        self.outbox.extend(publishing.is_beside().then_some(Output::Ports(None)));
    }

    fn ask(&mut self, reply: Reply, setup: Setup, name: StreamName, event: Event) {
        self.wish_by = None;
        self.state = State::Asking(Box::new(Asked { reply, setup, name }));
        self.outbox.extend(self.proof.take().map(|proof| Output::Event(Event::Prove(proof))));
        self.outbox.push_back(Output::Event(event));
    }

    fn answer(&mut self, answer: Answer, now: Now) -> Result<(), Error> {
        if !matches!(self.state, State::Asking(_)) {
            // The peer was closed while the hub thought.
            return Ok(());
        }
        let State::Asking(asked) = std::mem::replace(&mut self.state, State::Closed) else { return Ok(()) };
        let Asked { reply, setup, .. } = *asked;
        match answer {
            Answer::Refused(refusal) => {
                self.refuse(reply, setup, refusal, now);
            }
            Answer::Publishing => {
                self.outbox.extend(setup.ports().map(|ports| Output::Ports(Some(ports))));
                let mut publishing = Publishing::new(setup, now);
                publishing.begin(&mut self.outbox);
                self.state = State::Publishing(Box::new(publishing));
                let reply = reply.session(&self.id, SESSION_TIME);
                self.say(reply);
            }
            Answer::Playing => {
                let ports = setup.ports();
                let (tracks, beside) = (setup::tracks(&setup.channels), ports.is_some());
                self.outbox.extend(ports.map(|ports| Output::Ports(Some(ports))));
                self.state = State::Playing { paused: false, tracks, beside, ended: None };
                let places = setup.places(&std::mem::take(&mut self.starts));
                let reply = reply.session(&self.id, SESSION_TIME).header(headers::RANGE, NOW);
                self.say(
                    places.into_iter().fold(reply, |reply, places| reply.header(headers::RTP_INFO, &places)),
                );
            }
        }
        self.read_inbox(now)
    }

    fn described(&mut self, opening: &Opening, now: Now) -> Result<(), Error> {
        if !matches!(self.state, State::Asking(_)) {
            return Ok(());
        }
        let State::Asking(asked) = std::mem::replace(&mut self.state, State::Closed) else { return Ok(()) };
        let Asked { reply, name, .. } = *asked;
        self.wish_by = Some(now.after(self.handshake));
        let (text, tracks) = sdp::write(&name, opening, reply.url());
        if tracks.is_empty() {
            self.state = State::Talking(Setup::default());
            let why = "no payload format carries what is in this stream";
            self.say(reply.status(StatusCode::UnsupportedMediaType).reason(why));
        } else {
            let stream = Some(Stream::Described(name, tracks));
            self.state = State::Talking(Setup { stream, channels: Vec::new() });
            self.say(reply.body("application/sdp", text));
        }
        self.read_inbox(now)
    }

    /// Says why not. Whoever may only have lacked credentials may ask again.
    fn refuse(&mut self, reply: Reply, setup: Setup, refusal: Refusal, now: Now) {
        self.refusals += 1;
        let again = refusal == Refusal::Forbidden && self.refusals < RTSP_REFUSALS_MAX;
        let reply = match refusal {
            Refusal::Forbidden => reply.challenges(self.nonce.challenges(false, now)),
            Refusal::NotFound => reply.status(StatusCode::NotFound),
            Refusal::AlreadyLive => reply.status(StatusCode::Forbidden),
            Refusal::Full | Refusal::ShuttingDown => reply.status(StatusCode::ServiceUnavailable),
            Refusal::Unsupported => reply.status(StatusCode::UnsupportedTransport),
            Refusal::TooLate => reply.status(StatusCode::GatewayTimeout),
        };
        self.say(reply.reason(refusal.why()));
        if again {
            self.state = State::Talking(setup);
            self.wish_by = Some(now.after(self.handshake));
        } else {
            self.close();
        }
    }

    fn timeout(&mut self, now: Now) -> Result<(), Error> {
        match &mut self.state {
            State::Talking(_) if self.wish_by.is_some_and(|by| by <= now) => {
                Err(Error::timed_out("the peer did not say in time what it wants", self.received))
            }
            State::Publishing(_) if self.heard.after(self.idle) <= now => {
                Err(Error::timed_out("the peer sends nothing", self.received))
            }
            State::Publishing(publishing) => {
                publishing.timeout(now, &mut self.outbox);
                Ok(())
            }
            State::Playing { ended: Some(until), .. } if *until <= now => {
                self.close();
                Ok(())
            }
            State::Playing { beside: true, .. } if self.heard.after(SESSION_TIME) <= now => {
                Err(Error::timed_out("a viewer by UDP gives no sign of life", self.received))
            }
            _ => Ok(()),
        }
    }

    /// A viewer hears that the sources of its tracks have gone; RTSP itself has no word for it. (RFC 3550, 6.6)
    fn say_goodbye(&mut self) {
        let State::Playing { tracks, beside, .. } = self.state else { return };
        let ended = [TrackId::VIDEO, TrackId::AUDIO].into_iter().zip(tracks).filter(|(_, set_up)| *set_up);
        let bytes = goodbyes(ended.map(|(track, _)| track));
        self.outbox.push_back(packets(bytes, beside));
    }

    /// A viewer is told that its stream has ended, and closes by itself. GStreamer takes an end of the connection for a fault of the
    /// network then: by ports it comes again, and complains that nothing is known of it; inside the connection it has no answer to the
    /// last that it says. There others wait for that end.
    fn end(&mut self, now: Now) {
        self.say_goodbye();
        if let State::Playing { ended, beside, .. } = &mut self.state {
            *ended = Some(now.after(if *beside { self.handshake } else { FAREWELL }));
        }
    }

    /// Whoever broke a rule before it had a stream is told so; inside one there is no place for it.
    fn fail(&mut self, error: Error) {
        if matches!(self.state, State::Talking(_)) {
            let status = match error.kind {
                crate::error::ErrorKind::TooLarge => StatusCode::RequestMessageBodyTooLarge,
                crate::error::ErrorKind::TimedOut => StatusCode::RequestTimeout,
                _ => StatusCode::BadRequest,
            };
            self.say(Reply::without_number().status(status).reason(error.why));
        }
        self.state = State::Closed;
    }

    fn say(&mut self, reply: Reply) {
        self.send(reply.write());
    }

    fn send(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.outbox.push_back(Output::Send(bytes));
        }
    }

    fn close(&mut self) {
        self.outbox.push_back(Output::Close);
        self.state = State::Closed;
    }
}

/// What can be asked for here.
const METHODS: &str =
    "OPTIONS, DESCRIBE, ANNOUNCE, SETUP, PLAY, RECORD, PAUSE, TEARDOWN, GET_PARAMETER, SET_PARAMETER";
/// Not now.
const WRONG_STATE: StatusCode = StatusCode::MethodNotValidInThisState;
/// All that a live stream has.
const NOW: &str = "npt=now-";

/// Packets that go inside the connection, or beside it.
fn packets(bytes: Bytes, beside: bool) -> Output {
    if beside { Output::Packets(bytes) } else { Output::Send(bytes) }
}

#[cfg(test)]
mod tests;
