//! A server and a client against each other, and a server against hand-made messages.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::{
    codec::Codec,
    error::ErrorKind,
    flv::{
        amf0,
        demux::tests::{ASC, AVCC, frame, parameters},
    },
    limits,
    media::{Frame, Payload, TrackId},
    rtmp::{
        chunk::{ChunkReader, Route, write_message},
        handshake::{ClientKind, Scheme},
        message::route,
        pair::{End, Pair},
    },
    session::{Opening, Session as _},
    time::MediaTime,
};

mod captures;
mod hostile;
mod talk;

/// Twenty frames, 20 ms apart from `start`: pictures with the offsets of B-frames, and packets of sound between them.
fn media(start: i64) -> Vec<Frame> {
    (0..20)
        .map(|index| {
            let dts = start + index * 20;
            let data = Bytes::from(vec![index as u8 + 1; 1 + 35_000 * (index as usize % 3)]);
            if index % 2 == 1 {
                return frame(TrackId::AUDIO, dts, Payload::Audio { codec: Codec::Aac, data });
            }
            let payload = Payload::Video { codec: Codec::H264, key: index == 0, data };
            let mut picture = frame(TrackId::VIDEO, dts, payload);
            picture.pts = MediaTime::from_millis(dts + index % 4 * 40);
            picture
        })
        .collect()
}

fn opening() -> Opening {
    let metadata = Payload::Metadata(Bytes::from_static(b"\x08\0\0\0\0\0\0\x09"));
    Opening {
        metadata: Some(frame(TrackId::DATA, 0, metadata)),
        parameters: vec![parameters(Codec::H264), parameters(Codec::Aac)],
        ..Opening::default()
    }
}

/// What should come out: the opening as of the first frame's time, then the frames.
fn expected(frames: &[Frame]) -> Vec<Frame> {
    let opening = opening();
    let first = frames.first().unwrap();
    let opened = opening.metadata.into_iter().chain(opening.parameters);
    let opened = opened.map(|frame| Frame { dts: first.dts, pts: first.dts, ..frame });
    opened.chain(frames.iter().cloned()).collect()
}

fn assert_same(got: &[&Frame], want: &[Frame]) {
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        assert_eq!(format!("{got:?}"), format!("{want:?}"));
    }
}

#[test]
fn a_publisher_and_a_player_get_every_frame_at_any_split() {
    for piece in [1, 2, 3, 5, 11, 12, 13, 128, 1000, 1537, 4096, 65_536, 1 << 20] {
        let frames = media(1000);
        let bytes = Pair::wire(&opening(), &frames);
        let mut pair = Pair::push();
        pair.piece = piece;
        pair.start();
        pair.server.inbox.extend(&bytes);
        pair.run();
        assert_same(&pair.server.frames(), &expected(&frames));

        let mut pair = Pair::pull();
        pair.piece = piece;
        pair.start();
        pair.client.inbox.extend(&bytes);
        pair.run();
        assert_same(&pair.client.frames(), &expected(&frames));
    }
}

#[test]
fn every_kind_of_handshake_leads_to_a_stream() {
    for kind in [ClientKind::Simple, ClientKind::Complex(Scheme::First), ClientKind::Complex(Scheme::Second)]
    {
        let mut pair = Pair::pull().handshake(kind);
        pair.run();
        assert!(matches!(
            pair.server.events.as_slice(),
            [Event::Play { name, query, form }]
                if name.as_str() == "live/cam1" && query == "token=x" && *form == &FORM
        ));
    }
}

#[test]
fn the_wrap_of_the_clock_passes_unseen_though_sound_and_pictures_cross_it_apart() {
    let mut frames = media((1 << 32) - 130);
    // Sound lags pictures by 50 ms, so that the clock goes back and forth over the wrap.
    for frame in frames.iter_mut().filter(|frame| frame.is_audio()) {
        frame.dts = frame.dts.plus_nanos(-50_000_000);
        frame.pts = frame.dts;
    }
    let mut pair = Pair::push();
    pair.start();
    pair.server.inbox.extend(&Pair::wire(&opening(), &frames));
    pair.run();
    assert_same(&pair.server.frames(), &expected(&frames));
}

#[test]
fn a_refused_push_and_a_refused_pull_close_both_ends() {
    for (mut pair, why) in [
        (Pair::push(), "the server says that the name is taken or bad"),
        (Pair::pull(), "the server has no such stream"),
    ] {
        pair.run();
        pair.server.events.clear();
        let refusal = if why.contains("name") { Refusal::AlreadyLive } else { Refusal::NotFound };
        pair.tell_server(Input::Answer(Answer::Refused(refusal)));
        assert!(pair.server.closed && pair.server.error.is_none() && pair.server.events.is_empty());
        assert_eq!(pair.client.error.unwrap().why, why);
    }
}

#[test]
fn the_end_of_a_stream_reaches_the_other_end() {
    let mut pair = Pair::pull();
    pair.start();
    pair.tell_server(Input::Ended);
    assert!(pair.server.closed && pair.client.closed && pair.client.error.is_none());
    assert!(matches!(pair.client.events.last(), Some(Event::Unpublish)));

    let mut pair = Pair::push();
    pair.start();
    pair.tell_client(Input::Ended);
    assert!(pair.client.closed);
    assert!(matches!(pair.server.events.as_slice(), [Event::Unpublish]));
    assert!(!pair.server.closed, "the connection may carry another stream");

    for mut pair in [Pair::pull(), Pair::push()] {
        pair.start();
        pair.tell_server(Input::Shutdown);
        assert!(pair.server.closed && pair.client.closed);
    }
}

/// A peer that says what a test wants it to say.
struct Peer {
    end: End<Session>,
    now: Now,
    /// What the server says, as far as it is not yet read.
    heard: ChunkReader,
    messages: Vec<Message>,
}

impl Peer {
    /// A peer that has shaken hands.
    fn shaken() -> Self {
        let mut end = End::new(Session::new(&DoorLimits::default(), Now(0)));
        let mut out = BytesMut::new();
        let mut client = crate::rtmp::handshake::Client::new(ClientKind::Simple, 1, &mut out);
        let answer = end.handle(Input::Received(&out), Now(0));
        out.clear();
        assert!(client.receive(&mut &answer[..], &mut out).unwrap());
        assert!(end.handle(Input::Received(&out), Now(0)).is_empty());
        Peer { end, now: Now(0), heard: ChunkReader::default(), messages: Vec::new() }
    }

    /// A peer that has connected to the application `live`.
    fn connected() -> Self {
        let mut peer = Self::shaken();
        peer.call("connect", 1.0, &[Value::object([("app", Value::string("live"))])]);
        assert!(peer.replies().iter().any(|(name, _)| name == "_result"));
        peer
    }

    fn publishing() -> Self {
        let mut peer = Self::connected();
        peer.call("publish", 5.0, &[Value::Null, Value::string("cam1"), Value::string("live")]);
        assert!(matches!(peer.end.events.pop(), Some(Event::Publish { .. })));
        peer.tell(Input::Answer(Answer::Publishing));
        assert_eq!(peer.codes(), ["NetStream.Publish.Start"]);
        peer.send(kind::VIDEO, 0, &[&[0x17, 0, 0, 0, 0], AVCC].concat());
        peer.send(kind::AUDIO, 0, &[&[0xaf, 0], ASC].concat());
        assert_eq!(peer.end.frames().len(), 2);
        peer.end.events.clear();
        peer
    }

    fn playing() -> Self {
        let mut peer = Self::connected();
        peer.call("play", 5.0, &[Value::Null, Value::string("cam1"), Value::Number(-2000.0)]);
        assert!(matches!(peer.end.events.pop(), Some(Event::Play { .. })));
        peer.tell(Input::Answer(Answer::Playing));
        assert_eq!(peer.codes(), ["NetStream.Play.Reset", "NetStream.Play.Start"]);
        peer
    }

    fn tell(&mut self, input: Input<'_>) {
        let said = self.end.handle(input, self.now);
        let mut said = &said[..];
        while let Some(message) = self.heard.read(&mut said).unwrap() {
            self.messages.push(message);
        }
    }

    fn send(&mut self, kind: u8, time: u32, payload: &[u8]) {
        let mut out = BytesMut::new();
        write_message(Route { kind, ..route::DATA }, time, [payload, &[]], 128, &mut out);
        self.tell(Input::Received(&out));
    }

    fn call(&mut self, name: &str, transaction: f64, values: &[Value]) {
        self.send(kind::COMMAND_AMF0, 0, &command(name, transaction, values));
    }

    /// The commands that the server has said since the last look.
    fn replies(&mut self) -> Vec<(String, Vec<Value>)> {
        let messages = self.messages.drain(..).filter(|message| message.kind == kind::COMMAND_AMF0);
        messages
            .map(|message| {
                let mut values = amf0::Decoder::new(&message.payload).values().unwrap();
                let name = values.remove(0);
                (name.as_str().unwrap().to_owned(), values)
            })
            .collect()
    }

    /// The codes of all statuses since the last look.
    fn codes(&mut self) -> Vec<String> {
        let code = |values: &[Value]| values.last()?.get("code")?.as_str().map(str::to_owned);
        self.replies().iter().filter_map(|(_, values)| code(values)).collect()
    }

    fn controls(&mut self) -> Vec<Message> {
        self.messages.drain(..).filter(|message| message.kind != kind::COMMAND_AMF0).collect()
    }
}

fn command(name: &str, transaction: f64, values: &[Value]) -> BytesMut {
    let mut payload = BytesMut::new();
    Command::encode(name, transaction, values, &mut payload);
    payload
}
