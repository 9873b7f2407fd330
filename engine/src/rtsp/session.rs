//! The server's half of RTSP: one peer that publishes or plays inside its connection.
//!
//! A connection carries one stream at a time. What a viewer is sent once it plays are the shared bytes of [`FORMS`]; this
//! session only listens then, and answers between packets.

mod reply;

use std::{collections::VecDeque, time::Duration};

use bytes::{Bytes, BytesMut};
use rtsp_types::{Method, Request, StatusCode, Version, headers};

use self::reply::{Reply, credentials};
use super::{
    address::Address,
    inbox::{self, Inbox, Item},
    sdp, transport,
    wire::{channel_of, form_of, ssrc_of},
};
use crate::{
    error::Error,
    limits::{DoorLimits, RTSP_REFUSALS_MAX},
    media::{StreamName, TrackId},
    rtp::{Demuxer, rtcp},
    session::{self, Answer, Event, Input, Opening, Output, Refusal},
    time::Now,
};

/// How long a peer that says nothing is told that its session lasts. Inside a connection nothing hangs on it.
const SESSION_TIME: Duration = Duration::from_secs(60);
/// How often a publisher hears what has come of its packets.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

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
}

#[derive(Debug)]
enum State {
    /// Between streams.
    Talking(Setup),
    /// The hub has not answered yet.
    Asking(Box<Asked>),
    Publishing(Box<Publishing>),
    /// Whether it is held.
    Playing {
        paused: bool,
        tracks: [bool; 2],
    },
    Closed,
}

/// What has been arranged for the next stream.
#[derive(Debug, Default)]
struct Setup {
    stream: Option<Stream>,
    channels: Vec<Channel>,
}

/// The stream that is arranged.
#[derive(Debug)]
enum Stream {
    /// Its description was given, with these tracks.
    Described(StreamName, Vec<TrackId>),
    Announced(StreamName, String, Vec<sdp::Announced>),
}

/// A track that was set up: its place in the description, and the channel of its media.
#[derive(Clone, Copy, Debug)]
struct Channel {
    track: usize,
    media: u8,
    control: u8,
}

/// A wish and what is needed when it is answered.
#[derive(Debug)]
struct Asked {
    reply: Reply,
    setup: Setup,
    name: StreamName,
}

/// A stream that comes in.
#[derive(Debug)]
struct Publishing {
    channels: Vec<Channel>,
    demuxer: Demuxer,
    report_at: Now,
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
            Input::Timeout => self.timeout(now),
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
            (State::Publishing(publishing), _) => Some(publishing.report_at.min(self.heard.after(self.idle))),
            // A viewer need not say anything: one that takes nothing is closed by the hub.
            (State::Playing { .. }, _) => None,
            (State::Talking(_), wish_by) => wish_by,
        }
    }

    fn received(&self) -> u64 {
        self.received
    }
}

impl Session {
    fn receive(&mut self, mut bytes: &[u8], now: Now) -> Result<(), Error> {
        while self.inbox.len() > 0 && !bytes.is_empty() {
            self.inbox.fill(&mut bytes);
            self.read_inbox(now)?;
            // What follows a wish waits for its answer.
            if matches!(self.state, State::Asking(_)) {
                break;
            }
        }
        let used = if self.inbox.len() == 0 { self.read(bytes, now)? } else { 0 };
        let rest = bytes.split_at(used).1;
        if !rest.is_empty() && !matches!(self.state, State::Closed) {
            let mut held = self.inbox.take();
            held.extend_from_slice(rest);
            self.inbox.keep(held, 0);
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
                Item::Other => {}
            }
            used += len;
            self.passed += len as u64;
        }
        Ok(used)
    }

    /// A packet on a channel. One of a track that was not set up says nothing, as does a viewer's report.
    fn packet(&mut self, channel: u8, bytes: &[u8], now: Now) {
        let State::Publishing(publishing) = &mut self.state else { return };
        let Publishing { channels, demuxer, .. } = &mut **publishing;
        let outbox = &mut self.outbox;
        for found in channels.iter() {
            if found.media == channel {
                demuxer.packet(found.track, bytes, now, &mut |event| outbox.push_back(Output::Event(event)));
            } else if found.control == channel {
                demuxer.control(found.track, bytes, now);
            }
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
            Method::Describe => self.describe(request, reply),
            Method::Announce => self.announce(request, reply),
            Method::Setup => self.set_up(request, reply),
            Method::Play => self.play(request, reply),
            Method::Record => self.record(request, reply),
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
    fn address(&mut self, request: &Request<Vec<u8>>, reply: &Reply) -> Option<Address> {
        let url = request.request_uri().map_or("", |url| url.as_str());
        match Address::read(url) {
            Ok(mut address) => {
                let header = request.header(&headers::AUTHORIZATION).map(|header| header.as_str());
                if let Some(shown) = header.and_then(credentials) {
                    if !address.query.is_empty() {
                        address.query.push('&');
                    }
                    address.query.push_str(&shown);
                }
                Some(address)
            }
            Err(why) => {
                self.say(reply.clone().status(StatusCode::BadRequest).reason(why));
                None
            }
        }
    }

    fn describe(&mut self, request: &Request<Vec<u8>>, reply: Reply) {
        let State::Talking(_) = self.state else { return self.say(reply.status(WRONG_STATE)) };
        let Some(Address { name, query, .. }) = self.address(request, &reply) else { return };
        let event = Event::Describe { name: name.clone(), query };
        self.ask(reply, Setup::default(), name, event);
    }

    fn announce(&mut self, request: &Request<Vec<u8>>, reply: Reply) {
        let State::Talking(_) = self.state else { return self.say(reply.status(WRONG_STATE)) };
        let Some(Address { name, query, .. }) = self.address(request, &reply) else { return };
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

    fn set_up(&mut self, request: &Request<Vec<u8>>, reply: Reply) {
        let State::Talking(_) = self.state else { return self.say(reply.status(WRONG_STATE)) };
        let url = request.request_uri().map_or("", |url| url.as_str()).to_owned();
        let header = request.header(&headers::TRANSPORT).map_or("", |header| header.as_str());
        let offers = transport::read(header);
        let Some(offer) = offers.iter().find(|offer| offer.tcp && offer.unicast) else {
            return self.say(reply.status(StatusCode::UnsupportedTransport));
        };
        // Some players set a stream up that they have not asked about.
        let State::Talking(setup) = &mut self.state else { return };
        let (channel, mode) = match &setup.stream {
            None => return self.say(reply.status(WRONG_STATE)),
            Some(Stream::Described(name, tracks)) => {
                let address = Address::read(&url).ok().filter(|address| address.name == *name);
                let number = address.and_then(|address| match (address.track, &tracks[..]) {
                    (None, [only]) => Some(usize::from(only.0)),
                    (number, _) => number,
                });
                let Some(track) = tracks.iter().find(|track| Some(usize::from(track.0)) == number) else {
                    return self.say(reply.status(StatusCode::NotFound).reason("no such track"));
                };
                let media = channel_of(*track);
                (Channel { track: track.0.into(), media, control: media + 1 }, "")
            }
            Some(Stream::Announced(_, _, medias)) => {
                let named =
                    |media: &sdp::Announced| !media.control.is_empty() && url.ends_with(&media.control);
                let Some(track) = medias
                    .iter()
                    .position(named)
                    .or((setup.channels.len() < medias.len()).then_some(setup.channels.len()))
                else {
                    return self.say(reply.status(StatusCode::NotFound).reason("no such track"));
                };
                let free = |channel: u8| {
                    setup.channels.iter().all(|held| held.media != channel && held.control != channel)
                };
                let pair = offer
                    .interleaved
                    .filter(|(media, control)| media != control && free(*media) && free(*control));
                let place = u8::try_from(2 * track).unwrap_or(0);
                let (media, control) = pair.unwrap_or((place, place + 1));
                if !free(media) || !free(control) {
                    return self.say(reply.status(StatusCode::BadRequest).reason("these channels are taken"));
                }
                (Channel { track, media, control }, ";mode=record")
            }
        };
        setup.channels.retain(|held| held.track != channel.track);
        setup.channels.push(channel);
        let transport =
            format!("RTP/AVP/TCP;unicast;interleaved={}-{}{mode}", channel.media, channel.control);
        let transport = if mode.is_empty() {
            format!("{transport};ssrc={:08X}", ssrc_of(TrackId(channel.track as u8)))
        } else {
            transport
        };
        let reply = reply.header(headers::TRANSPORT, &transport).session(&self.id, SESSION_TIME);
        self.say(reply);
    }

    fn play(&mut self, request: &Request<Vec<u8>>, reply: Reply) {
        if let State::Playing { paused, .. } = &mut self.state {
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
        let has = |track: TrackId| channels.iter().any(|channel| channel.track == usize::from(track.0));
        let Some(form) = form_of(has(TrackId::VIDEO), has(TrackId::AUDIO)) else {
            return self.say(reply.status(WRONG_STATE));
        };
        let name = name.clone();
        let Some(address) = self.address(request, &reply) else { return };
        if address.name != name {
            return self.say(reply.status(StatusCode::NotFound).reason("another stream was set up"));
        }
        let State::Talking(setup) = std::mem::replace(&mut self.state, State::Closed) else { return };
        let event = Event::Play { name: name.clone(), query: address.query, form };
        self.ask(reply, setup, name, event);
    }

    fn record(&mut self, request: &Request<Vec<u8>>, reply: Reply) {
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
        let Some(address) = self.address(request, &reply) else { return };
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
        if matches!(self.state, State::Playing { .. }) {
            self.outbox.push_back(Output::Event(Event::Stop));
        }
        self.state = State::Talking(Setup::default());
        self.wish_by = Some(now.after(self.handshake));
        let reply = reply.session(&self.id, SESSION_TIME);
        self.say(reply);
    }

    /// Gives what is left, and ends the stream that comes in.
    fn stop_publishing(&mut self, now: Now) {
        let State::Publishing(publishing) = &mut self.state else { return };
        let outbox = &mut self.outbox;
        publishing.demuxer.finish(now, &mut |event| outbox.push_back(Output::Event(event)));
        self.outbox.push_back(Output::Event(Event::Unpublish));
    }

    fn ask(&mut self, reply: Reply, setup: Setup, name: StreamName, event: Event) {
        self.wish_by = None;
        self.state = State::Asking(Box::new(Asked { reply, setup, name }));
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
                let Setup { stream, channels } = setup;
                let formats = match stream {
                    Some(Stream::Announced(_, _, medias)) => medias,
                    _ => Vec::new(),
                };
                let mut demuxer = Demuxer::new(formats.into_iter().map(|media| media.format));
                let outbox = &mut self.outbox;
                demuxer.begin(&mut |event| outbox.push_back(Output::Event(event)));
                let report_at = now.after(REPORT_INTERVAL);
                self.state = State::Publishing(Box::new(Publishing { channels, demuxer, report_at }));
                let reply = reply.session(&self.id, SESSION_TIME);
                self.say(reply);
            }
            Answer::Playing => {
                let has = |track: TrackId| {
                    setup.channels.iter().any(|channel| channel.track == usize::from(track.0))
                };
                let tracks = [has(TrackId::VIDEO), has(TrackId::AUDIO)];
                self.state = State::Playing { paused: false, tracks };
                let reply = reply.session(&self.id, SESSION_TIME).header(headers::RANGE, NOW);
                self.say(reply);
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
            Refusal::Forbidden => {
                reply.status(StatusCode::Unauthorized).header(headers::WWW_AUTHENTICATE, CHALLENGE)
            }
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
            State::Publishing(publishing) if publishing.report_at <= now => {
                publishing.report_at = now.after(REPORT_INTERVAL);
                let mut report = BytesMut::new();
                let mut bytes = BytesMut::new();
                for channel in &publishing.channels {
                    report.clear();
                    publishing.demuxer.report(
                        channel.track,
                        ssrc_of(TrackId(channel.track as u8)),
                        now,
                        &mut report,
                    );
                    if !report.is_empty() {
                        put_packet(channel.control, &report, &mut bytes);
                    }
                }
                self.send(bytes.freeze());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A viewer hears that the sources of its tracks have gone; RTSP itself has no word for it. (RFC 3550, 6.6)
    fn say_goodbye(&mut self) {
        let State::Playing { tracks, .. } = self.state else { return };
        let mut bytes = BytesMut::new();
        for (track, _) in
            [TrackId::VIDEO, TrackId::AUDIO].into_iter().zip(tracks).filter(|(_, set_up)| *set_up)
        {
            put_packet(channel_of(track) + 1, &rtcp::goodbye(ssrc_of(track)), &mut bytes);
        }
        self.send(bytes.freeze());
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
/// How a peer may show that it may: the password of any user is a key.
const CHALLENGE: &str = "Basic realm=\"shardcast\"";
/// All that a live stream has.
const NOW: &str = "npt=now-";

/// A packet inside the connection.
fn put_packet(channel: u8, packet: &[u8], out: &mut BytesMut) {
    let Ok(len) = u16::try_from(packet.len()) else { return };
    out.extend_from_slice(&[b'$', channel]);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(packet);
}

#[cfg(test)]
mod tests;
