//! Every row of the table of protocols, and two that a host could bring along, all driven by one function. The first byte
//! says which row, the next three how hub and kernel behave, the rest is what the peer says.
#![no_main]

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use shardcast_engine::{
    codec::Codec,
    error::Error,
    limits,
    media::{Frame, Payload, StreamName, TrackId},
    protocol::{Protocol, Transport, built_in, fuzz},
    session::{self, Answer, Event, Form, Input, Opening, Output, Wire},
    time::{MediaTime, Now},
};

fuzz_target!(|input: &[u8]| {
    let Some((row, input)) = input.split_first() else { return };
    // A row keeps its place when others are added behind it: the corpus names them by number.
    let protocol = match row {
        255 => Some(NOTES),
        254 => Some(NOTES_BY_DATAGRAM),
        row => built_in().get(usize::from(*row)).copied(),
    };
    if let Some(protocol) = protocol {
        fuzz::drive(&protocol, input);
    }
});

/// A protocol that is nobody's: a word, a length, and so many bytes. `P` and `V` wish for a stream, `F` is a packet of sound,
/// `S` ends what was granted, `?` is answered, `B` says goodbye.
const NOTES: Protocol =
    Protocol { name: "notes", port: 0, transport: Transport::Tcp, greet: None, open: |_, now| Box::new(Notes::new(now)) };
const NOTES_BY_DATAGRAM: Protocol = Protocol { transport: Transport::Udp, ..NOTES };

struct Notes {
    unread: BytesMut,
    received: u64,
    state: State,
    until: Now,
    outbox: VecDeque<Output>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Talking,
    Asking,
    Publishing,
    Playing,
}

impl Notes {
    fn new(now: Now) -> Self {
        Notes {
            unread: BytesMut::new(),
            received: 0,
            state: State::Talking,
            until: now.after(IDLE),
            outbox: VecDeque::new(),
        }
    }

    fn event(&mut self, event: Event) {
        self.outbox.push_back(Output::Event(event));
    }

    /// Reads what is whole, until a wish waits for its answer.
    fn read(&mut self) -> Result<(), Error> {
        while self.state != State::Asking
            && let [word, length, ..] = self.unread[..]
            && self.unread.len() >= 2 + usize::from(length)
        {
            let note = self.unread.split_to(2 + usize::from(length)).freeze();
            self.note(word, note.slice(2..))?;
        }
        Ok(())
    }

    fn note(&mut self, word: u8, note: Bytes) -> Result<(), Error> {
        let at = self.received - self.unread.len() as u64;
        match (word, self.state) {
            (b'P' | b'V', State::Talking) => {
                let name = StreamName::parse(&String::from_utf8_lossy(&note))
                    .map_err(|error| Error { at, ..error })?;
                let query = String::new();
                self.event(match word {
                    b'P' => Event::Publish { name, query },
                    _ => Event::Play { name, query, form: &FORM },
                });
                self.state = State::Asking;
            }
            (b'F', State::Publishing) => {
                let time = MediaTime::from_millis(at as i64);
                let payload = Payload::Audio { codec: Codec::Opus, data: note };
                self.event(Event::Frame(Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }));
            }
            (b'S', State::Publishing) => {
                self.event(Event::Unpublish);
                self.state = State::Talking;
            }
            (b'S', State::Playing) => {
                self.event(Event::Stop);
                self.state = State::Talking;
            }
            (b'?', _) => self.outbox.push_back(Output::Send(note)),
            (b'B', _) => self.outbox.push_back(Output::Close),
            _ => return Err(Error::malformed("no word of this protocol", at)),
        }
        Ok(())
    }
}

impl session::Session for Notes {
    fn handle(&mut self, input: Input<'_>, now: Now) -> Result<(), Error> {
        match input {
            Input::Received(bytes) => {
                self.received += bytes.len() as u64;
                self.until = now.after(IDLE);
                self.unread.extend_from_slice(bytes);
                self.read()
            }
            Input::Filled { memory, received } => {
                self.received += received as u64;
                self.until = now.after(IDLE);
                self.unread = memory;
                self.read()
            }
            Input::Answer(Answer::Refused(why)) => {
                self.outbox.push_back(Output::Send(Bytes::from_static(why.why().as_bytes())));
                self.state = State::Talking;
                self.read()
            }
            Input::Answer(answer) => {
                self.state = if answer == Answer::Publishing { State::Publishing } else { State::Playing };
                self.read()
            }
            Input::Timeout if self.until <= now => {
                Err(Error::timed_out("silent for too long", self.received))
            }
            Input::Ended | Input::Shutdown => {
                self.outbox.push_back(Output::Close);
                Ok(())
            }
            _ => Ok(()),
        }
    }
    fn poll(&mut self) -> Option<Output> {
        self.outbox.pop_front()
    }
    fn deadline(&self) -> Option<Now> {
        Some(self.until)
    }
    fn received(&self) -> u64 {
        self.received
    }
    fn lends(&self) -> bool {
        self.state == State::Publishing
    }
    fn lend(&mut self) -> BytesMut {
        let mut memory = std::mem::take(&mut self.unread);
        memory.reserve(limits::RECEIVE_BYTES_MIN);
        memory
    }
}

const IDLE: std::time::Duration = std::time::Duration::from_secs(30);

static FORM: Form = Form { name: "notes", datagram: Some(1000), prompt: false, open: || Box::new(Silent) };

/// Nobody muxes anything here.
struct Silent;

impl Wire for Silent {
    fn header(&mut self, _: &Opening, _: &Frame, _: &mut BytesMut) {}
    fn refresh(&mut self, _: &Opening, _: &Frame, _: &mut BytesMut) {}
    fn frame(&mut self, _: &Frame, _: &mut BytesMut) {}
}
