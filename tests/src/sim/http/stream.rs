//! A viewer that has a stream sent: FLV or MPEG-TS in an endless body.

use std::{collections::VecDeque, io::ErrorKind};

use bytes::{Buf, Bytes, BytesMut};
use shardcast_engine::{
    flv::{Demuxer, TagKind},
    media::StreamName,
    mpegts,
    session::Event,
    time::{Now, Unwrapper},
};

use super::{
    NONSENSE,
    answers::{Answers, Piece},
    get,
};
use crate::{
    clients::flv::{Tag, read_head},
    sim::client::{Client, Heard, Wish},
};

/// What a stream is sent in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// `/APP/STREAM.flv`.
    Flv,
    /// `/APP/STREAM.ts`.
    Ts,
}

/// A viewer.
#[derive(Debug)]
pub struct Stream {
    container: Container,
    state: State,
    answers: Answers,
    outgoing: BytesMut,
    heard: VecDeque<Heard>,
    /// It has said what makes no sense, and is answered accordingly.
    nonsense: bool,
}

#[derive(Debug)]
enum State {
    Idle,
    /// It has asked. What it is told so far, if the answer has begun and is no.
    Asking(Option<String>),
    Playing(Box<Reader>),
    /// The stream has ended, and with it what this connection is good for.
    Over,
}

#[derive(Debug)]
enum Reader {
    Flv { bytes: BytesMut, headed: bool, clock: Unwrapper, demuxer: Demuxer },
    Ts(Box<mpegts::Demuxer>),
}

/// Bytes of the head of an FLV file, and the size of the tag that is not before the first.
const FLV_HEAD_BYTES: usize = 13;

impl Stream {
    /// A viewer that has asked for nothing yet.
    pub fn new(container: Container) -> Self {
        let (answers, outgoing, heard) = Default::default();
        Stream { container, state: State::Idle, answers, outgoing, heard, nonsense: false }
    }

    fn piece(&mut self, piece: Piece) -> Result<(), &'static str> {
        match (&mut self.state, piece) {
            (State::Asking(None), Piece::Head(200)) => {
                self.heard.push_back(Heard::Playing);
                self.state = State::Playing(Box::new(Reader::new(self.container)));
            }
            (State::Asking(said @ None), Piece::Head(status)) => *said = Some(format!("{status} ")),
            (State::Asking(Some(said)), Piece::Body(body)) => said.push_str(&String::from_utf8_lossy(&body)),
            (State::Asking(Some(said)), Piece::End) => {
                self.heard.push_back(Heard::Refused(std::mem::take(said)));
                self.state = State::Idle;
            }
            (State::Playing(reader), Piece::Body(body)) => reader.read(&body, &mut self.heard)?,
            (State::Playing(reader), Piece::End) => {
                reader.finish(&mut self.heard);
                self.heard.push_back(Heard::Ended);
                self.state = State::Over;
            }
            _ if self.nonsense => {}
            _ => return Err("an answer to nothing"),
        }
        Ok(())
    }
}

impl Client for Stream {
    fn play(&mut self, name: &StreamName, _: Now) {
        if matches!(self.state, State::Idle) {
            let suffix = match self.container {
                Container::Flv => ".flv",
                Container::Ts => ".ts",
            };
            get(name, suffix, &mut self.outgoing);
            self.state = State::Asking(None);
        }
    }

    fn say(&mut self, wish: Wish) -> bool {
        match wish {
            Wish::Nonsense => {
                self.outgoing.extend_from_slice(NONSENSE);
                self.nonsense = true;
            }
            // There is nothing that it can say and go on.
            _ => return false,
        }
        true
    }

    fn hear(&mut self, bytes: &[u8], _: Now) {
        let mut answers = std::mem::take(&mut self.answers);
        let heard = answers.hear(bytes, |piece| self.piece(piece));
        self.answers = answers;
        self.heard.extend(heard.err().map(Heard::Broken));
    }

    fn heard(&mut self) -> Option<Heard> {
        self.heard.pop_front()
    }

    fn outgoing(&mut self) -> Option<Bytes> {
        (!self.outgoing.is_empty()).then(|| self.outgoing.split().freeze())
    }

    fn end(&mut self, _: Now) -> Option<&'static str> {
        self.answers = Answers::default();
        self.outgoing.clear();
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle | State::Over => None,
            State::Asking(_) => Some("a request for a stream was not answered"),
            State::Playing(_) => Some("a stream was cut off"),
        }
    }
}

impl Reader {
    fn new(container: Container) -> Self {
        match container {
            Container::Flv => Reader::Flv {
                bytes: BytesMut::new(),
                headed: false,
                clock: Unwrapper::new(32),
                demuxer: Demuxer::default(),
            },
            Container::Ts => Reader::Ts(Box::default()),
        }
    }

    /// A picture of MPEG-TS does not say how long it is, so the last one is whole when nothing comes any more.
    fn finish(&mut self, heard: &mut VecDeque<Heard>) {
        if let Reader::Ts(demuxer) = self {
            demuxer.finish(&mut frames_into(heard));
        }
    }

    fn read(&mut self, body: &[u8], heard: &mut VecDeque<Heard>) -> Result<(), &'static str> {
        let mut emit = frames_into(heard);
        let (bytes, headed, clock, demuxer) = match self {
            Reader::Flv { bytes, headed, clock, demuxer } => (bytes, headed, clock, demuxer),
            Reader::Ts(demuxer) => {
                demuxer.push(body, &mut emit);
                return Ok(());
            }
        };
        bytes.extend_from_slice(body);
        if !*headed {
            if bytes.len() < FLV_HEAD_BYTES {
                return Ok(());
            }
            read_head(&mut &bytes.split_to(FLV_HEAD_BYTES)[..])
                .map_err(|_| "it does not begin as FLV does")?;
            *headed = true;
        }
        loop {
            let mut rest = &bytes[..];
            let tag = match Tag::read(&mut rest) {
                Ok(Some(tag)) => tag,
                Ok(None) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
                Err(_) => return Err("what should be a tag of FLV is none"),
            };
            let taken = bytes.len() - rest.len();
            bytes.advance(taken);
            let kind = TagKind::of(tag.kind).ok_or("a tag of no kind")?;
            let dts = clock.unwrap(tag.time.into());
            demuxer.body(kind, dts, &Bytes::from(tag.body), &mut emit).map_err(|error| error.why)?;
        }
    }
}

fn frames_into(heard: &mut VecDeque<Heard>) -> impl FnMut(Event) {
    |event| {
        if let Event::Frame(frame) = event {
            heard.push_back(Heard::Frame(frame));
        }
    }
}
