//! Peers of the SRT door, without their sockets: the engine's own caller, which pushes a film there or pulls one from there. It
//! speaks the contract of a session, so this is the hub that it has at home.

use std::{collections::VecDeque, time::Duration};

use bytes::{Bytes, BytesMut};
use shardcast_engine::{
    error::ErrorKind,
    limits::DoorLimits,
    media::{Frame, Payload, StreamName},
    mpegts::FORM,
    session::{Answer, Event, Input, Opening, Output, Session as _, Shelf, Wire},
    srt::{Caller, Target},
    time::Now,
};

use super::client::{self, Heard, Wish};

/// A publisher or a viewer.
pub struct Client {
    /// How long it holds back what it receives.
    latency: Duration,
    passphrase: Option<String>,
    call: Option<Call>,
    heard: VecDeque<Heard>,
    outgoing: VecDeque<Bytes>,
    /// The connection has come to its end.
    over: bool,
}

/// A call that is under way or stands.
struct Call {
    caller: Caller,
    /// It was heard, and is granted what it wishes.
    stands: bool,
    /// When media came first, while the answer was still on its way: it was lost, perhaps again and again.
    early: Option<Now>,
    /// That was so long ago, when the answer came at last.
    late: bool,
    film: Film,
}

/// What a publisher sends, as MPEG-TS.
pub(super) struct Film {
    wire: Box<dyn Wire>,
    opening: Opening,
    begun: bool,
    /// What its connection had no room for yet.
    pub(super) waiting: BytesMut,
}

/// What makes no sense in any connection: words of no kind, and one for another socket.
const NONSENSE: [&[u8]; 3] =
    [b"?", &[0x80, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1], &[0; 40]];

impl Client {
    /// One that has not called yet.
    pub fn new(latency: Duration, passphrase: Option<String>) -> Self {
        Client {
            latency,
            passphrase,
            call: None,
            heard: VecDeque::new(),
            outgoing: VecDeque::new(),
            over: false,
        }
    }

    fn target(&self, wish: &str, name: &StreamName) -> Target {
        Target {
            host: "192.0.2.7".to_owned(),
            port: 8890,
            stream_id: format!("{wish}:{name}"),
            latency: self.latency,
            passphrase: self.passphrase.clone(),
            key_length: 16,
        }
    }

    fn begin(&mut self, caller: Caller, now: Now) {
        self.over = false;
        self.outgoing.clear();
        self.call = Some(Call { caller, stands: false, early: None, late: false, film: Film::new() });
        self.tell(Input::Timeout, now);
    }

    /// Tells the caller something, and does what it wants then.
    fn tell(&mut self, input: Input<'_>, now: Now) {
        let Some(call) = &mut self.call else { return };
        let result = call.caller.handle(input, now);
        self.carry_out(now);
        let Some(call) = &self.call else { return };
        if let Err(error) = result {
            // Who is not heard any more has lost the server, and whoever watched has lost the stream.
            self.heard.push_back(match (error.kind, call.stands) {
                (ErrorKind::Refused, _) | (_, false) => Heard::Refused(error.why.to_owned()),
                _ => Heard::Ended,
            });
            self.over = true;
        }
    }

    fn carry_out(&mut self, now: Now) {
        while let Some(call) = &mut self.call
            && let Some(output) = call.caller.poll()
        {
            let granted = match output {
                Output::Send(bytes) | Output::Share(bytes) => {
                    self.outgoing.push_back(bytes);
                    continue;
                }
                Output::Datagrams { mut bytes, size } => {
                    while !bytes.is_empty() {
                        self.outgoing.push_back(bytes.split_to(bytes.len().min(usize::from(size))));
                    }
                    continue;
                }
                Output::Event(Event::Publish { .. }) => {
                    self.heard.push_back(Heard::Playing);
                    Answer::Publishing
                }
                Output::Event(Event::Play { .. }) => {
                    self.heard.push_back(Heard::Publishing);
                    Answer::Playing
                }
                Output::Event(Event::Frame(frame)) => {
                    self.heard.push_back(Heard::Frame(frame));
                    continue;
                }
                Output::Event(Event::Unpublish) => {
                    self.heard.push_back(Heard::Ended);
                    continue;
                }
                Output::Close => {
                    self.over = true;
                    continue;
                }
                Output::Event(_) => continue,
                Output::Ports(_) | Output::Packets(_) | Output::Datagram { .. } | Output::Address(_) => {
                    self.heard.push_back(Heard::Broken("packets beside a connection that has none"));
                    continue;
                }
            };
            let third = self.latency / 3;
            call.late |= !call.stands && call.early.is_some_and(|early| now.since(early) > third);
            call.stands = true;
            if call.caller.handle(Input::Answer(granted), now).is_err() {
                self.heard.push_back(Heard::Broken("a caller that does not take what it wished for"));
            }
        }
    }

    /// Sends of the film what there is room for.
    fn send(&mut self, now: Now) {
        while let Some(call) = &mut self.call
            && !call.film.waiting.is_empty()
            && call.caller.room(now) > 0
        {
            let waiting = call.film.waiting.split().freeze();
            let taken = call.caller.carry(&waiting, &mut Shelf::default(), now);
            call.film.waiting.extend_from_slice(&waiting[taken..]);
            self.carry_out(now);
        }
    }
}

impl Film {
    pub(super) fn new() -> Self {
        Film { wire: (FORM.open)(), opening: Opening::default(), begun: false, waiting: BytesMut::new() }
    }

    pub(super) fn take(&mut self, frame: &Frame) {
        if frame.is_media() && !std::mem::replace(&mut self.begun, true) {
            self.wire.header(&self.opening, frame, &mut self.waiting);
        }
        if !self.begun && matches!(frame.payload, Payload::Parameters(_)) {
            self.opening.parameters.push(frame.clone());
        }
        self.wire.frame(frame, &mut self.waiting);
    }
}

impl client::Client for Client {
    fn publish(&mut self, name: &StreamName, now: Now) {
        let target = self.target("publish", name);
        self.begin(Caller::push(target, name.clone(), &DoorLimits::default(), now), now);
    }

    fn play(&mut self, name: &StreamName, now: Now) {
        let target = self.target("read", name);
        self.begin(Caller::pull(target, name.clone(), &DoorLimits::default(), now), now);
    }

    fn frame(&mut self, frame: &Frame, now: Now) {
        if let Some(call) = &mut self.call {
            call.film.take(frame);
            self.send(now);
        }
    }

    fn say(&mut self, wish: Wish) -> bool {
        if wish == Wish::Nonsense {
            self.outgoing.extend(NONSENSE.map(Bytes::from_static));
        }
        wish == Wish::Nonsense
    }

    fn hear(&mut self, bytes: &[u8], now: Now) {
        // Packets of media, of all that begins with a zero bit.
        if let Some(call) =
            self.call.as_mut().filter(|call| !call.stands && bytes.first().is_some_and(|first| *first < 0x80))
        {
            call.early.get_or_insert(now);
        }
        self.tell(Input::Received(bytes), now);
        self.send(now);
    }

    fn act(&mut self, now: Now) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.tell(Input::Timeout, now);
            self.send(now);
        }
    }

    fn deadline(&self) -> Option<Now> {
        self.call.as_ref().filter(|_| !self.over)?.caller.deadline()
    }

    fn leave(&mut self, now: Now) {
        self.tell(Input::Shutdown, now);
    }

    fn is_over(&self) -> bool {
        self.over
    }

    fn began_late(&self) -> bool {
        self.call.as_ref().is_some_and(|call| call.late)
    }

    fn end(&mut self, _: Now) -> Option<&'static str> {
        self.call = None;
        self.over = false;
        None
    }

    fn heard(&mut self) -> Option<Heard> {
        self.heard.pop_front()
    }

    fn outgoing(&mut self) -> Option<Bytes> {
        self.outgoing.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use shardcast_engine::mpegts::Demuxer;

    use super::*;
    use crate::sim::reel::{Reel, Shape, Stamp};

    #[test]
    fn a_film_is_in_its_transport_stream_whole() {
        for publisher in 1..200 {
            let shape = Shape {
                group_pictures: publisher % 31,
                sound: publisher % 3 > 0 || publisher % 31 == 0,
                begins_with_key: true,
                sound_first_millis: 0,
                interval_millis: [20, 40, 66][publisher as usize % 3],
                picture_bytes: [50, 300, 2000][publisher as usize / 3 % 3],
                clock_millis: [0, 1_000_000, 4_294_960_000][publisher as usize / 9 % 3],
                jump: None,
                change_groups: publisher % 4,
            };
            let (mut reel, mut film, mut demuxer) =
                (Reel::new(publisher, shape.clone()), Film::new(), Demuxer::default());
            let (mut sent, mut came) = (Vec::new(), Vec::new());
            for _ in 0..600 {
                let frame = reel.take();
                sent.extend(Stamp::read(&frame));
                film.take(&frame);
                demuxer.push(&film.waiting.split(), &mut |event| {
                    if let Event::Frame(frame) = event
                        && frame.is_media()
                    {
                        came.push(Stamp::read(&frame));
                    }
                });
            }
            let came: Vec<_> = came.into_iter().flatten().collect();
            let missing: Vec<_> = sent.iter().filter(|stamp| !came.contains(stamp)).collect();
            assert_eq!(sent, came, "{missing:?} {shape:?} {:?}", demuxer.counters());
        }
    }
}
