//! The other half: we call. A stream of another server is pulled, or one of ours is pushed there.
//! (draft-sharabayko-srt-01, 4.3.1)
//!
//! It speaks the same contract as a session that was called, so a hub drives both alike: a caller that pulls wishes to *publish*
//! what it plays elsewhere, and one that pushes wishes to *play*.

use std::{collections::VecDeque, fmt, time::Duration};

use bytes::Bytes;

use super::{
    PASSPHRASE_BYTES,
    access::Wish,
    course::Course,
    decoded, derived,
    handshake::{Handshake, Hello, MAGIC, STREAM_ID_BYTES_MAX, extension, flag, kind, reason},
    link::{Agreed, KEY_PACKETS, Link},
    number_of,
    packet::{Control, Kind, Packet, stamped},
    secret::Keys,
    session::{FLAGS, VERSION},
};
use crate::{
    error::Error,
    limits::{self, DoorLimits},
    media::StreamName,
    mpegts::FORM,
    session::{self, Answer, Event, Input, Output},
    stats::PathStats,
    time::Now,
};

/// How often a word is said that has no answer.
const REPEAT: Duration = Duration::from_millis(250);

/// What is called.
///
/// ```
/// use shardcast_engine::srt::Target;
///
/// let target = Target::parse("srt://origin.example:8890?streamid=read:live/cam&latency=300")?;
/// assert_eq!((&target.host[..], target.port), ("origin.example", 8890));
/// assert_eq!((&target.stream_id[..], target.latency.as_millis()), ("read:live/cam", 300));
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// A name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What is said there about who wants what.
    pub stream_id: String,
    /// How long packets are held back at least.
    pub latency: Duration,
    /// What encrypts the stream.
    pub passphrase: Option<String>,
    /// Bytes of a key: 16, 24 or 32.
    pub key_length: usize,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

impl fmt::Display for Target {
    /// Without what may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "srt://{}:{}", self.host, self.port)
    }
}

impl Target {
    /// From `srt://HOST:PORT?streamid=...&latency=MILLISECONDS&passphrase=...&pbkeylen=16`, as other programs write it. What stands
    /// in the query may be percent-encoded.
    ///
    /// # Errors
    /// It is no such URL. The error says where, in bytes.
    pub fn parse(url: &str) -> Result<Target, Error> {
        let at = |part: &str| (part.as_ptr() as usize).saturating_sub(url.as_ptr() as usize) as u64;
        if let Some(place) = url.bytes().position(|byte| !byte.is_ascii_graphic()) {
            return Err(Error::malformed("a URL has no spaces and only ASCII", place as u64));
        }
        let rest = url.strip_prefix("srt://").ok_or(Error::malformed("srt://HOST:PORT is wanted", 0))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let place = place.trim_end_matches('/');
        let (host, port) =
            place.rsplit_once(':').ok_or(Error::malformed("a port is wanted behind the host", at(place)))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(Error::malformed("a host is wanted", at(place)));
        }
        let port = port.parse().ok().filter(|port| *port != 0);
        let port = port.ok_or(Error::malformed("a port is a number from 1 to 65535", at(place)))?;
        let mut target = Target {
            host: host.to_owned(),
            port,
            stream_id: String::new(),
            latency: Duration::from_millis(120),
            passphrase: None,
            key_length: 16,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) =
                pair.split_once('=').ok_or(Error::malformed("KEY=VALUE is wanted", at(pair)))?;
            target.set(key, &decoded(value)).map_err(|why| Error::malformed(why, at(pair)))?;
        }
        Ok(target)
    }

    /// The target for one of the streams that it is for: `{app}` and `{stream}` stand for the parts of its name.
    #[must_use]
    pub fn for_stream(&self, name: &StreamName) -> Self {
        let stream_id = self.stream_id.replace("{app}", name.app()).replace("{stream}", name.stream());
        Target { stream_id, ..self.clone() }
    }

    /// Each stream has a place of its own there.
    pub fn names_stream(&self) -> bool {
        self.stream_id.contains("{stream}")
    }

    /// The stream that it names, if it is named as streams are here.
    pub fn name(&self) -> Option<StreamName> {
        Wish::read(self.stream_id.as_bytes()).ok().map(|wish| wish.name)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        match key {
            "streamid" if value.len() <= STREAM_ID_BYTES_MAX => self.stream_id = value.to_owned(),
            "streamid" => return Err("a stream id has 512 bytes at most"),
            "latency" => {
                let millis: u16 = value.parse().map_err(|_| "latency is milliseconds, 65535 at most")?;
                self.latency = Duration::from_millis(millis.into());
            }
            "passphrase" if PASSPHRASE_BYTES.contains(&value.len()) => {
                self.passphrase = Some(value.to_owned())
            }
            "passphrase" => return Err("a passphrase has 10 to 79 bytes"),
            "pbkeylen" => {
                let length = value.parse().ok().filter(|length| [16, 24, 32].contains(length));
                self.key_length = length.ok_or("pbkeylen is 16, 24 or 32")?;
            }
            "mode" if value == "caller" => {}
            "mode" => return Err("only mode=caller is to be had: other servers call at the door"),
            _ => return Err("known are streamid, latency, passphrase, pbkeylen and mode"),
        }
        Ok(())
    }
}

/// One call.
#[derive(Debug)]
pub struct Caller {
    target: Target,
    /// The stream's name here.
    name: StreamName,
    push: bool,
    seed: [u8; 32],
    socket: u32,
    state: State,
    outbox: VecDeque<Output>,
    /// What its connection has counted, now that there is none.
    counted: Option<PathStats>,
    received: u64,
    began: Now,
    /// When it is given up, if it is not answered.
    until: Now,
}

#[derive(Debug)]
enum State {
    /// The first word is said again and again.
    Induction {
        next: Now,
    },
    /// The second.
    Conclusion {
        word: Bytes,
        keys: Option<Keys>,
        next: Now,
    },
    /// The other side has agreed; the hub has not answered.
    Asking(Box<Course>),
    Standing(Box<Course>),
    Over,
}

impl Caller {
    /// Publishes here, as `name`, what it plays there.
    pub fn pull(target: Target, name: StreamName, limits: &DoorLimits, now: Now) -> Self {
        Caller::new(target, name, false, limits, now)
    }

    /// Publishes there what it plays here.
    pub fn push(target: Target, name: StreamName, limits: &DoorLimits, now: Now) -> Self {
        Caller::new(target, name, true, limits, now)
    }

    fn new(target: Target, name: StreamName, push: bool, limits: &DoorLimits, now: Now) -> Self {
        let parts: [&[u8]; 3] = [b"caller", name.as_str().as_bytes(), &now.0.to_be_bytes()];
        let seed = derived(&limits.secret.0, &parts);
        Caller {
            target,
            name,
            push,
            seed,
            socket: number_of(seed) >> 2 | 1,
            state: State::Induction { next: now },
            outbox: VecDeque::new(),
            counted: None,
            received: 0,
            began: now,
            until: now.after(limits.handshake),
        }
    }

    fn timestamp(&self, now: Now) -> u32 {
        now.since(self.began).as_micros() as u32
    }

    /// The number of our first packet of data.
    fn first(&self) -> u32 {
        number_of(derived(&self.seed, &[b"first"])) >> 1
    }

    fn word(&self, handshake: &Handshake, now: Now) -> Bytes {
        let body = handshake.write(false);
        Control { kind: Kind::Handshake(&body), timestamp: self.timestamp(now), to: 0 }.write()
    }

    fn induction(&self, now: Now) -> Bytes {
        let handshake = Handshake {
            version: 4,
            // A datagram, as it was called before there was version 5.
            extension: 2,
            first: self.first(),
            mtu: limits::SRT_MTU,
            window: limits::SRT_WINDOW_PACKETS as u32,
            kind: kind::INDUCTION,
            socket: self.socket,
            ..Handshake::default()
        };
        self.word(&handshake, now)
    }

    fn conclusion(&self, cookie: u32, keys: Option<&Keys>, now: Now) -> Bytes {
        let latency = self.target.latency.as_millis() as u16;
        let message = keys.zip(self.target.passphrase.as_deref());
        let handshake = Handshake {
            version: 5,
            key_length: keys.map_or(0, |keys| (keys.length() / 8) as u16),
            extension: extension::HELLO
                | if keys.is_some() { extension::KEYS } else { 0 }
                | if self.target.stream_id.is_empty() { 0 } else { extension::MORE },
            first: self.first(),
            mtu: limits::SRT_MTU,
            window: limits::SRT_WINDOW_PACKETS as u32,
            kind: kind::CONCLUSION,
            socket: self.socket,
            cookie,
            hello: Some(Hello {
                version: VERSION,
                flags: if keys.is_some() { FLAGS } else { FLAGS & !flag::ENCRYPTS },
                receiver_latency: latency,
                sender_latency: latency,
            }),
            keys: message.map(|(keys, passphrase)| keys.message(passphrase)),
            stream_id: Some(self.target.stream_id.clone().into_bytes()).filter(|text| !text.is_empty()),
            ..Handshake::default()
        };
        self.word(&handshake, now)
    }

    fn datagram(&mut self, bytes: &[u8], now: Now) -> Result<(), Error> {
        let at = self.received;
        self.received += bytes.len() as u64;
        let packet = Packet::read(bytes);
        match &mut self.state {
            State::Induction { .. } | State::Conclusion { .. } => match packet {
                Ok(Packet::Control(Control { kind: Kind::Handshake(body), timestamp, to }))
                    if to == self.socket =>
                {
                    let handshake = Handshake::read(body).map_err(|error| error.after(at))?;
                    self.answered(&handshake, timestamp, now)
                }
                // What belongs to an earlier call from this address.
                _ => Ok(()),
            },
            State::Asking(course) | State::Standing(course) => {
                if course.receive(packet, at, &mut self.outbox, now)? {
                    self.close();
                }
                Ok(())
            }
            State::Over => Ok(()),
        }
    }

    fn answered(&mut self, handshake: &Handshake, timestamp: u32, now: Now) -> Result<(), Error> {
        match &self.state {
            State::Induction { .. } if handshake.kind == kind::INDUCTION => {
                if handshake.version < 5 || handshake.extension != MAGIC {
                    return Err(Error::unsupported("a server that does not know version 5", self.received));
                }
                let keys = self.target.passphrase.as_ref().and_then(|_| {
                    let [salt, key] = [&b"salt"[..], b"key"].map(|what| derived(&self.seed, &[what]));
                    Keys::new(self.target.key_length, salt.first_chunk().copied()?, &key)
                });
                let word = self.conclusion(handshake.cookie, keys.as_ref(), now);
                self.outbox.push_back(Output::Send(word.clone()));
                self.state = State::Conclusion { word, keys, next: now.after(REPEAT) };
                Ok(())
            }
            State::Conclusion { .. } if handshake.kind == kind::CONCLUSION => {
                self.agree(handshake, timestamp, now)
            }
            _ if (kind::REFUSED..1 << 31).contains(&handshake.kind) => {
                self.state = State::Over;
                Err(Error::refused(why(handshake.kind - kind::REFUSED), self.received))
            }
            _ => Ok(()),
        }
    }

    fn agree(&mut self, handshake: &Handshake, timestamp: u32, now: Now) -> Result<(), Error> {
        let State::Conclusion { keys, .. } = std::mem::replace(&mut self.state, State::Over) else {
            return Ok(());
        };
        let hello = handshake.hello.ok_or(Error::malformed("an answer without a hello", self.received))?;
        // The message of keys is said back whole by whoever could open it, else a word that says why not.
        if keys.is_some() && handshake.keys.as_ref().is_none_or(|keys| keys.len() <= 4) {
            return Err(Error::refused("the other side could not open our keys", self.received));
        }
        let latency = |theirs: u16| self.target.latency.max(Duration::from_millis(theirs.into()));
        let peer_latency = latency(hello.receiver_latency);
        let agreed = Agreed {
            theirs: handshake.socket,
            ours: self.socket,
            first: handshake.first_sequence(),
            window: handshake.window,
            latency: latency(hello.sender_latency),
            peer_latency,
            timestamp,
            heard: now,
            keys,
            passphrase: self.target.passphrase.clone(),
            seed: derived(&self.seed, &[b"later keys"]),
            key_packets: KEY_PACKETS,
        };
        let link = Link::begun(agreed, self.began, now);
        let (name, query) = (self.name.clone(), String::new());
        let (course, event) = if self.push {
            (Course::of_viewer(link, peer_latency), Event::Play { name, query, form: &FORM })
        } else {
            (Course::of_publisher(link), Event::Publish { name, query })
        };
        self.state = State::Asking(Box::new(course));
        self.outbox.push_back(Output::Event(event));
        Ok(())
    }

    fn close(&mut self) {
        self.counted = session::Session::path(self).map(PathStats::closed);
        self.state = State::Over;
        self.outbox.push_back(Output::Close);
    }

    fn time_out(&mut self, now: Now) -> Result<(), Error> {
        match &mut self.state {
            State::Induction { .. } | State::Conclusion { .. } if self.until <= now => {
                return Err(Error::timed_out("the other side does not answer", self.received));
            }
            State::Induction { next } if *next <= now => {
                *next = now.after(REPEAT);
                let word = self.induction(now);
                self.outbox.push_back(Output::Send(word));
            }
            State::Conclusion { word, next, .. } if *next <= now => {
                *next = now.after(REPEAT);
                // By what it shows the other side knows our clock.
                let shown = now.since(self.began).as_micros() as u32;
                self.outbox.push_back(Output::Send(stamped(word, shown)));
            }
            State::Standing(course) => {
                if course.time_out(self.received, &mut self.outbox, now)? {
                    self.close();
                }
            }
            State::Induction { .. } | State::Conclusion { .. } | State::Asking(_) | State::Over => {}
        }
        Ok(())
    }

    fn answer(&mut self, answer: Answer, now: Now) -> Result<(), Error> {
        let State::Asking(mut course) = std::mem::replace(&mut self.state, State::Over) else {
            return Ok(());
        };
        if let Answer::Refused(refusal) = answer {
            course.part(&mut self.outbox, now);
            return Err(Error::refused(refusal.why(), self.received));
        }
        self.state = State::Standing(course);
        Ok(())
    }
}

/// What a refusal says. (libsrt's access control, and table 7 of the draft)
const fn why(number: u32) -> &'static str {
    match number {
        reason::VERSION => "refused there: another version of SRT is wanted",
        reason::BAD_SECRET => "refused there: the passphrase is another one",
        reason::UNSECURE => "refused there: one side has a passphrase and the other has none",
        reason::CONGESTION | reason::MESSAGES => "refused there: it does not take live streams",
        reason::BAD_REQUEST => "refused there: the stream id says nothing to it",
        1401 => "refused there: credentials are wanted",
        reason::OVERLOAD => "refused there: a limit is reached",
        reason::FORBIDDEN => "refused there: not allowed",
        reason::NOT_FOUND => "refused there: no such stream",
        reason::BAD_MODE => "refused there: the mode is not to be had",
        reason::CONFLICT => "refused there: publisher already live",
        reason::UNAVAILABLE => "refused there: the server is shutting down",
        _ => "refused there",
    }
}

impl session::Session for Caller {
    fn handle(&mut self, input: Input<'_>, now: Now) -> Result<(), Error> {
        match input {
            Input::Received(bytes) => self.datagram(bytes, now),
            Input::Filled { memory, received } => self.datagram(session::newest(&memory, received), now),
            Input::Answer(answer) => self.answer(answer, now),
            Input::Timeout => self.time_out(now),
            Input::Ended => {
                if let State::Standing(course) = &mut self.state {
                    course.leave(now);
                }
                Ok(())
            }
            Input::Shutdown => {
                if let State::Asking(course) | State::Standing(course) = &mut self.state {
                    course.part(&mut self.outbox, now);
                }
                self.close();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outbox.pop_front()
    }

    fn deadline(&self) -> Option<Now> {
        match &self.state {
            State::Induction { next } | State::Conclusion { next, .. } => Some((*next).min(self.until)),
            State::Standing(course) => Some(course.deadline()),
            State::Asking(_) | State::Over => None,
        }
    }

    fn received(&self) -> u64 {
        self.received
    }

    fn carries(&self) -> bool {
        true
    }

    fn room(&mut self, now: Now) -> usize {
        match &mut self.state {
            State::Standing(course) => course.room(now),
            _ => 0,
        }
    }

    fn carry(&mut self, bytes: &Bytes, _: &mut session::Shelf, now: Now) -> usize {
        match &mut self.state {
            State::Standing(course) => course.carry(bytes, &mut self.outbox, now),
            _ => 0,
        }
    }

    fn path(&self) -> Option<PathStats> {
        match &self.state {
            State::Standing(course) => Some(course.path()),
            _ => self.counted,
        }
    }
}
