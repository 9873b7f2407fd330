//! The hub's contract: a caller's handshake, its wish, and how it ends.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use super::{
    access::Wish,
    course::Course,
    derived,
    handshake::{Handshake, Hello, extension, flag, kind, reason},
    link::{Agreed, KEY_PACKETS, Link},
    number_of,
    packet::{Control, Kind, Packet},
    secret::{Keys, Refused},
};
use crate::{
    error::Error,
    limits::{self, DoorLimits, Secret, SrtSettings},
    mpegts::FORM,
    session::{self, Answer, Event, Input, Output, Refusal},
    stats::PathStats,
    time::Now,
};

/// The version of libsrt that has what there is here.
pub(super) const VERSION: u32 = 0x01_05_00;
/// The oldest version that speaks handshakes of version 5.
const VERSION_MIN: u32 = 0x01_03_00;
/// What we can do.
pub(super) const FLAGS: u32 =
    flag::TIMES | flag::ENCRYPTS | flag::DROPS | flag::REPORTS_AGAIN | flag::MARKS_AGAIN;
/// A caller's conversation.
///
/// What comes before its first handshake, or is none, ends it: [`greet`](super::greet) lets nothing else through.
#[derive(Debug)]
pub struct Session {
    settings: std::sync::Arc<SrtSettings>,
    secret: Secret,
    state: State,
    outbox: VecDeque<Output>,
    /// What its connection has counted, now that there is none.
    counted: Option<PathStats>,
    received: u64,
    opened: Now,
    /// How long it may take to begin.
    patience: Duration,
}

#[derive(Debug)]
enum State {
    /// Nothing has come.
    Silent,
    /// The hub has not answered.
    Asking(Box<Asking>),
    Standing(Box<Seat>),
    Over,
}

/// A caller whose wish has no answer yet.
#[derive(Debug)]
struct Asking {
    handshake: Handshake,
    /// The time on its clock when the handshake came, and when that was.
    timestamp: u32,
    heard: Now,
    keys: Option<Keys>,
    passphrase: Option<String>,
    publish: bool,
}

/// A connection, and the answer that it began with: it is given again to whoever has not heard it.
#[derive(Debug)]
struct Seat {
    course: Course,
    answer: Bytes,
    theirs: u32,
}

impl Session {
    /// For whoever has shown the cookie of its address.
    pub fn new(limits: &DoorLimits, now: Now) -> Self {
        Session {
            settings: limits.srt.clone(),
            secret: limits.secret,
            state: State::Silent,
            outbox: VecDeque::new(),
            counted: None,
            received: 0,
            opened: now,
            patience: limits.handshake,
        }
    }

    fn datagram(&mut self, bytes: &[u8], now: Now) -> Result<(), Error> {
        let packet = Packet::read(bytes);
        let at = self.received;
        self.received += bytes.len() as u64;
        match &mut self.state {
            State::Silent => match packet {
                Ok(Packet::Control(Control { kind: Kind::Handshake(body), timestamp, to: 0 })) => {
                    let handshake = Handshake::read(body).map_err(|error| error.after(at))?;
                    self.conclude(handshake, timestamp, now)
                }
                _ => Err(Error::malformed("a connection that does not begin with a handshake", at)),
            },
            State::Asking(_) | State::Over => Ok(()),
            State::Standing(seat) => {
                let done = match seat.repeats(&packet) {
                    Some(Repeated::Conclusion) => {
                        seat.course.repeat(&seat.answer, &mut self.outbox, now);
                        false
                    }
                    // It comes in with its next word.
                    Some(Repeated::Stranger) => {
                        seat.course.part(&mut self.outbox, now);
                        true
                    }
                    None => seat.course.receive(packet, at, &mut self.outbox, now)?,
                };
                if done {
                    self.close();
                }
                Ok(())
            }
        }
    }

    fn close(&mut self) {
        self.counted = session::Session::path(self).map(PathStats::closed);
        self.state = State::Over;
        self.outbox.push_back(Output::Close);
    }

    /// The second round: whoever it is says all that there is to say.
    fn conclude(&mut self, handshake: Handshake, timestamp: u32, now: Now) -> Result<(), Error> {
        let (wish, keys, passphrase) = match self.examine(&handshake) {
            Ok(examined) => examined,
            Err((reason, why)) => return self.refuse(&handshake, reason, why),
        };
        let Wish { name, publish, query } = wish;
        let asking = Asking { handshake, timestamp, heard: now, keys, passphrase, publish };
        self.state = State::Asking(Box::new(asking));
        self.outbox.push_back(Output::Event(if publish {
            Event::Publish { name, query }
        } else {
            Event::Play { name, query, form: &FORM }
        }));
        Ok(())
    }

    /// What it wants, and the keys; or the reason it is refused for.
    #[allow(clippy::type_complexity)]
    fn examine(
        &self,
        handshake: &Handshake,
    ) -> Result<(Wish, Option<Keys>, Option<String>), (u32, &'static str)> {
        if handshake.version < 5 {
            return Err((reason::VERSION, "a handshake of version 4"));
        }
        let hello = handshake.hello.ok_or((reason::ROGUE, "a handshake without a hello"))?;
        if hello.version < VERSION_MIN {
            return Err((reason::VERSION, "a version of SRT before 1.3"));
        }
        if hello.flags & flag::BYTES != 0 {
            return Err((reason::MESSAGES, "a file, and not a live stream"));
        }
        if hello.flags & flag::MARKS_AGAIN == 0 || hello.flags & flag::TIMES == 0 {
            return Err((reason::ROGUE, "a handshake without the times of packets"));
        }
        if handshake.congestion.as_ref().is_some_and(|name| name != b"live") {
            return Err((reason::CONGESTION, "a congestion controller that is not for live streams"));
        }
        let stream_id = handshake.stream_id.as_deref().unwrap_or_default();
        let wish = Wish::read(stream_id).map_err(|fault| (fault.reason(), fault.why()))?;
        let passphrase = self.settings.passphrase_of(wish.name.as_str()).map(str::to_owned);
        let keys = match (&handshake.keys, &passphrase) {
            (None, None) => None,
            (None, Some(_)) => return Err((reason::UNSECURE, "no passphrase, where there must be one")),
            (Some(_), None) => return Err((reason::UNSECURE, "a passphrase, where there is none")),
            (Some(message), Some(passphrase)) => match Keys::open(message, passphrase) {
                Ok(keys) => Some(keys),
                Err(Refused::WrongSecret) => return Err((reason::BAD_SECRET, "another passphrase")),
                Err(Refused::Malformed(error)) => return Err((reason::UNSECURE, error.why)),
            },
        };
        Ok((wish, keys, passphrase))
    }

    /// Tells the caller why not.
    fn refuse(&mut self, asked: &Handshake, reason: u32, why: &'static str) -> Result<(), Error> {
        let body = Handshake {
            version: 5,
            first: asked.first,
            mtu: asked.mtu,
            window: asked.window,
            kind: kind::REFUSED + reason,
            cookie: asked.cookie,
            address: asked.address,
            ..Handshake::default()
        }
        .write(true);
        let answer = Control { kind: Kind::Handshake(&body), timestamp: 0, to: asked.socket }.write();
        self.state = State::Over;
        self.outbox.push_back(Output::Send(answer));
        Err(Error::refused(why, self.received))
    }

    fn answer(&mut self, answer: Answer, now: Now) -> Result<(), Error> {
        let State::Asking(asking) = std::mem::replace(&mut self.state, State::Over) else { return Ok(()) };
        if let Answer::Refused(refusal) = answer {
            return self.refuse(&asking.handshake, reason_of(refusal), refusal.why());
        }
        let (seat, answer) = self.settle(*asking, now);
        self.outbox.push_back(Output::Send(answer));
        self.state = State::Standing(Box::new(seat));
        Ok(())
    }

    /// What both sides have, and the answer that says so.
    fn settle(&self, asking: Asking, now: Now) -> (Seat, Bytes) {
        let Asking { handshake, timestamp: theirs_shows, heard, keys, passphrase, publish } = asking;
        let hello = handshake.hello.unwrap_or_default();
        let ours = u16::try_from(self.settings.latency.as_millis()).unwrap_or(u16::MAX);
        let receiver_latency = ours.max(hello.sender_latency);
        let sender_latency = ours.max(hello.receiver_latency);
        let parts: [&[u8]; 3] =
            [&handshake.cookie.to_be_bytes(), &handshake.socket.to_be_bytes(), &now.0.to_be_bytes()];
        let seed = derived(&self.secret.0, &parts);
        // Never 0, which stands for nobody.
        let socket = number_of(seed) >> 2 | 1;
        let answer = Handshake {
            version: 5,
            key_length: keys.as_ref().map_or(0, |keys| (keys.length() / 8) as u16),
            extension: extension::HELLO | if keys.is_some() { extension::KEYS } else { 0 },
            first: handshake.first,
            mtu: handshake.mtu.min(limits::SRT_MTU),
            window: limits::SRT_WINDOW_PACKETS as u32,
            kind: kind::CONCLUSION,
            socket,
            cookie: handshake.cookie,
            address: handshake.address,
            hello: Some(Hello {
                version: VERSION,
                flags: if keys.is_some() { FLAGS } else { FLAGS & !flag::ENCRYPTS },
                receiver_latency,
                sender_latency,
            }),
            // What opened is said back: so the other side knows that it did.
            keys: handshake.keys.clone(),
            stream_id: None,
            congestion: None,
        };
        let body = answer.write(true);
        // Our clock began when the handshake came, however long the hub has thought about it.
        let timestamp = now.since(heard).as_micros() as u32;
        let answer = Control { kind: Kind::Handshake(&body), timestamp, to: handshake.socket }.write();
        let [latency, peer_latency] =
            [receiver_latency, sender_latency].map(|millis| Duration::from_millis(millis.into()));
        let first = handshake.first_sequence();
        let agreed = Agreed {
            theirs: handshake.socket,
            ours: socket,
            first,
            window: handshake.window,
            latency,
            peer_latency,
            timestamp: theirs_shows,
            heard,
            keys,
            passphrase,
            seed,
            key_packets: KEY_PACKETS,
        };
        let theirs = handshake.socket;
        let link = Link::new(agreed, now);
        let course = if publish { Course::of_publisher(link) } else { Course::of_viewer(link, peer_latency) };
        (Seat { course, answer: answer.clone(), theirs }, answer)
    }

    fn time_out(&mut self, now: Now) -> Result<(), Error> {
        match &mut self.state {
            State::Silent if self.opened.after(self.patience) <= now => {
                Err(Error::timed_out("nothing came", self.received))
            }
            State::Standing(seat) => {
                if seat.course.time_out(self.received, &mut self.outbox, now)? {
                    self.close();
                }
                Ok(())
            }
            State::Silent | State::Asking(_) | State::Over => Ok(()),
        }
    }
}

/// What a handshake is that comes when the connection stands already.
enum Repeated {
    /// Its own: it has not heard the answer.
    Conclusion,
    /// Of another caller at its address.
    Stranger,
}

impl Seat {
    fn repeats(&self, packet: &Result<Packet<'_>, Error>) -> Option<Repeated> {
        let Ok(Packet::Control(Control { kind: Kind::Handshake(body), to: 0, .. })) = packet else {
            return None;
        };
        let handshake = Handshake::read(body).ok().filter(|handshake| handshake.kind == kind::CONCLUSION)?;
        Some(if handshake.socket == self.theirs { Repeated::Conclusion } else { Repeated::Stranger })
    }
}

/// What a caller is told of a refusal: a number of libsrt's access control.
///
/// ```
/// use shardcast_engine::{session::Refusal, srt::reason_of};
///
/// assert_eq!(reason_of(Refusal::NotFound), 1404);
/// ```
pub const fn reason_of(refusal: Refusal) -> u32 {
    match refusal {
        Refusal::AlreadyLive => reason::CONFLICT,
        Refusal::NotFound => reason::NOT_FOUND,
        Refusal::Forbidden => reason::FORBIDDEN,
        Refusal::Full => reason::OVERLOAD,
        Refusal::ShuttingDown | Refusal::TooLate => reason::UNAVAILABLE,
        Refusal::Unsupported => reason::BAD_REQUEST,
    }
}

impl session::Session for Session {
    fn handle(&mut self, input: Input<'_>, now: Now) -> Result<(), Error> {
        match input {
            Input::Received(bytes) => self.datagram(bytes, now),
            Input::Filled { memory, received } => self.datagram(session::newest(&memory, received), now),
            Input::Answer(answer) => self.answer(answer, now),
            Input::Timeout => self.time_out(now),
            Input::Ended => {
                if let State::Standing(seat) = &mut self.state {
                    seat.course.leave(now);
                }
                Ok(())
            }
            Input::Shutdown => {
                if let State::Standing(seat) = &mut self.state {
                    seat.course.part(&mut self.outbox, now);
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
            State::Silent => Some(self.opened.after(self.patience)),
            State::Standing(seat) => Some(seat.course.deadline()),
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
            State::Standing(seat) => seat.course.room(now),
            _ => 0,
        }
    }

    fn carry(&mut self, bytes: &Bytes, _: &mut session::Shelf, now: Now) -> usize {
        match &mut self.state {
            State::Standing(seat) => seat.course.carry(bytes, &mut self.outbox, now),
            _ => 0,
        }
    }

    fn path(&self) -> Option<PathStats> {
        match &self.state {
            State::Standing(seat) => Some(seat.course.path()),
            _ => self.counted,
        }
    }
}
