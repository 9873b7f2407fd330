//! The HTTP door inside a whole hub: a publisher at one end, requests at the other, and sends that are cut short anywhere.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use shardcast_engine::{
    demo::{CLIP, Demo},
    error::Error,
    flv::{Demuxer, TagReader},
    http,
    hub::{ConnectionId, Hub, Input, Lost, Output},
    limits::DoorLimits,
    media::{Frame, Payload, StreamName},
    message::CoreId,
    session::{self, Event, Session},
    settings::Settings,
    time::{Now, Unwrapper},
};

/// One hub, its peers' ends of their connections, and a clock.
struct World {
    hub: Hub,
    now: Now,
    peers: Vec<Peer>,
    /// What an encoder has to say; its session takes it when it is poked.
    encoder: Arc<Mutex<VecDeque<Event>>>,
    demo: Demo,
    /// Frames that were published.
    published: Vec<Frame>,
    /// Bytes of each send that the kernel takes.
    appetite: usize,
    notices: Vec<String>,
}

#[derive(Default)]
struct Peer {
    received: Vec<u8>,
    closed: bool,
}

/// A publisher without a protocol.
struct Encoder(Arc<Mutex<VecDeque<Event>>>);

impl Session for Encoder {
    fn handle(&mut self, _: session::Input<'_>, _: Now) -> Result<(), Error> {
        Ok(())
    }
    fn poll(&mut self) -> Option<session::Output> {
        self.0.lock().unwrap().pop_front().map(session::Output::Event)
    }
    fn deadline(&self) -> Option<Now> {
        None
    }
    fn received(&self) -> u64 {
        0
    }
}

impl World {
    fn new(appetite: usize) -> Self {
        let encoder = Arc::default();
        let mut world = World {
            hub: Hub::new(CoreId(0), 1, Arc::new(Settings::default())),
            now: Now(1_000_000_000),
            peers: Vec::new(),
            encoder: Arc::clone(&encoder),
            demo: Demo::new(CLIP).unwrap(),
            published: Vec::new(),
            appetite,
            notices: Vec::new(),
        };
        world.connect(Box::new(Encoder(encoder)));
        world.publisher_says(Event::Publish {
            name: StreamName::parse("live/demo").unwrap(),
            query: String::new(),
        });
        world
    }

    fn id(peer: usize) -> ConnectionId {
        ConnectionId { slot: u32::try_from(peer).unwrap(), generation: 0 }
    }

    fn connect(&mut self, session: Box<dyn Session>) -> usize {
        self.peers.push(Peer::default());
        let peer = self.peers.len() - 1;
        let address = "127.0.0.1:1".parse().unwrap();
        self.give(Input::Connected { connection: Self::id(peer), door: "test", peer: address, session });
        peer
    }

    fn http(&mut self, request: &str) -> usize {
        let peer = self.connect(Box::new(http::Session::new(&DoorLimits::default(), self.now)));
        self.say(peer, request.as_bytes());
        peer
    }

    fn say(&mut self, peer: usize, bytes: &[u8]) {
        self.give(Input::Received { connection: Self::id(peer), bytes });
    }

    fn publisher_says(&mut self, event: Event) {
        self.encoder.lock().unwrap().push_back(event);
        self.say(0, b"poke");
    }

    fn give(&mut self, input: Input<'_>) {
        self.hub.handle(input, self.now);
        while let Some(output) = self.hub.poll(self.now) {
            match output {
                Output::Send { connection, bytes } => {
                    let taken = self.appetite.min(bytes.len());
                    self.peers[connection.slot as usize].received.extend_from_slice(&bytes[..taken]);
                    self.hub.handle(Input::Sent { connection, result: Ok(taken) }, self.now);
                }
                Output::Close { connection } => self.peers[connection.slot as usize].closed = true,
                Output::Notice(notice) => self.notices.push(notice.text),
                other => panic!("one hub without recordings has nothing to do with {other:?}"),
            }
        }
    }

    /// Lets time pass, with the demo publishing or silent.
    fn run(&mut self, duration: Duration, publishing: bool) {
        let end = self.now.after(duration);
        loop {
            if publishing {
                while let Some(frame) = self.demo.poll(self.now) {
                    self.published.push(frame.clone());
                    self.publisher_says(Event::Frame(frame));
                }
            }
            let frame_due = self.demo.deadline().filter(|_| publishing);
            let next = [self.hub.deadline(), frame_due].into_iter().flatten().min().unwrap_or(end).min(end);
            self.now = self.now.max(next);
            if self.hub.deadline().is_some_and(|due| due <= self.now) {
                self.give(Input::Timeout);
            }
            if self.now >= end {
                return;
            }
        }
    }

    fn text(&self, peer: usize) -> String {
        String::from_utf8_lossy(&self.peers[peer].received).into_owned()
    }

    /// What followed the answer's head.
    fn body(&self, peer: usize) -> &[u8] {
        let bytes = &self.peers[peer].received;
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head ends");
        &bytes[end + 4..]
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: door\r\n\r\n")
}

/// The data of a chunked body, and whether it has ended.
fn unchunk(mut body: &[u8]) -> (Vec<u8>, bool) {
    let mut data = Vec::new();
    while !body.is_empty() {
        let line = body.windows(2).position(|pair| pair == b"\r\n").expect("a size ends its line");
        let size = usize::from_str_radix(std::str::from_utf8(&body[..line]).unwrap(), 16).unwrap();
        if size == 0 {
            assert_eq!(&body[line..], b"\r\n\r\n", "nothing follows the last chunk");
            return (data, true);
        }
        data.extend_from_slice(&body[line + 2..line + 2 + size]);
        body = &body[line + 2 + size + 2..];
    }
    (data, false)
}

/// The payloads of a server's binary messages, and the code of its close frame.
fn unmessage(mut bytes: &[u8]) -> (Vec<Vec<u8>>, Option<u16>) {
    let mut messages = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        let (length, rest) = match second {
            126 => (u16::from_be_bytes([rest[0], rest[1]]) as usize, &rest[2..]),
            127 => (u64::from_be_bytes(rest[..8].try_into().unwrap()) as usize, &rest[8..]),
            short => (*short as usize, rest),
        };
        if *first == 0x88 {
            return (messages, Some(u16::from_be_bytes([rest[0], rest[1]])));
        }
        assert_eq!(*first, 0x82);
        messages.push(rest[..length].to_vec());
        bytes = &rest[length..];
    }
    (messages, None)
}

/// Time, key and data of each picture and sound in an FLV file that may end anywhere between tags.
fn media(flv: &[u8]) -> Vec<(i64, i64, bool, bytes::Bytes)> {
    let (mut reader, mut demuxer, mut clock) = (TagReader::default(), Demuxer::default(), Unwrapper::new(32));
    let (mut rest, mut frames) = (flv, Vec::new());
    while let Some(tag) = reader.read(&mut rest).unwrap() {
        let take = |event| {
            if let Event::Frame(frame) = event {
                frames.push(frame)
            }
        };
        demuxer.tag(&tag, &mut clock, &mut { take }).unwrap();
    }
    assert!(rest.is_empty());
    key_facts(&frames)
}

fn key_facts(frames: &[Frame]) -> Vec<(i64, i64, bool, bytes::Bytes)> {
    let facts = frames.iter().filter_map(|frame| match &frame.payload {
        Payload::Video { data, .. } | Payload::Audio { data, .. } => {
            Some((frame.dts.as_millis(), frame.pts.as_millis(), frame.is_key(), data.clone()))
        }
        _ => None,
    });
    facts.collect()
}

const UPGRADE: &str = "GET /live/demo.flv HTTP/1.1\r\nHost: door\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

#[test]
fn viewers_of_every_form_get_the_same_frames_from_a_key_frame_to_the_end() {
    for appetite in [usize::MAX, 1000, 7] {
        let mut world = World::new(appetite);
        // In the middle of the second group.
        world.run(Duration::from_millis(3300), true);
        let chunked = world.http(&get("/live/demo.flv"));
        let plain = world.http("GET /live/demo.flv HTTP/1.0\r\n\r\n");
        let socket = world.http(UPGRADE);
        world.run(Duration::from_secs(3), true);
        // A viewer's ping is answered between two frames.
        world.say(socket, &[0x8a, 0x80, 0, 0, 0, 0]);
        world.publisher_says(Event::Unpublish);
        world.run(Duration::from_secs(20), false);

        let published = key_facts(&world.published);
        let entrance = published.iter().rposition(|(dts, _, key, _)| *key && *dts <= 3300).unwrap();
        let flv = world.body(plain).to_vec();
        let got = media(&flv);
        assert_eq!(got.first().unwrap().0, 2000, "the key frame of the group");
        assert_eq!(got, published[entrance..], "at an appetite of {appetite}");

        let (data, ended) = unchunk(world.body(chunked));
        assert!(data == flv && ended);
        assert!(world.text(socket).starts_with("HTTP/1.1 101 "));
        let (messages, code) = unmessage(world.body(socket));
        assert!(messages.concat() == flv && code == Some(1000));
        assert!(messages.len() > got.len(), "each tag is a message: {} {}", messages.len(), got.len());
        assert!(messages[0].starts_with(b"FLV") && messages[0].len() == 13);
        for viewer in [chunked, plain, socket] {
            assert!(world.peers[viewer].closed, "what has ended is closed");
        }
    }
}

#[test]
fn a_connection_that_only_looked_goes_on_to_look_again_and_to_play() {
    let mut world = World::new(usize::MAX);
    world.run(Duration::from_secs(1), true);
    let head = get("/live/demo.flv").replace("GET", "HEAD");
    let missing = get("/live/none.flv");
    let viewer = world.http(&[head.clone(), missing, head, get("/live/demo.flv")].concat());
    world.run(Duration::from_secs(1), true);
    let text = world.text(viewer);
    let statuses: Vec<_> = text.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "404", "200", "200"]);
    let heads: Vec<_> = text.split("\r\n\r\n").collect();
    assert!(
        heads[0].contains("video/x-flv") && heads[1].starts_with("HTTP/1.1 404"),
        "nothing follows a look"
    );
    let stream = text.rfind("HTTP/1.1 200").unwrap();
    assert!(text[stream..].contains("\r\n\r\nd\r\nFLV"), "the first chunk is the file's head, 13 bytes");
}

#[test]
fn what_breaks_the_rules_is_told_so_logged_once_and_closed() {
    let mut world = World::new(usize::MAX);
    let bad = world.http("GET /a HTTP/1.1\r\n\r\n");
    assert!(world.text(bad).starts_with("HTTP/1.1 400 Bad Request\r\n") && world.peers[bad].closed);
    assert_eq!(world.notices.iter().filter(|text| text.contains("a request names one host")).count(), 1);
    let silent = world.http("");
    let slow = world.http("GET /a HT");
    world.run(Duration::from_secs(11), false);
    assert!(world.peers[silent].closed && world.text(silent).is_empty());
    assert!(world.peers[slow].closed && world.text(slow).starts_with("HTTP/1.1 408 "));
    let watching = world.http(UPGRADE);
    world.run(Duration::from_millis(100), true);
    world.say(watching, &[0x81, 0x00]);
    assert!(world.peers[watching].closed);
    assert_eq!(
        world.notices.iter().filter(|text| text.contains("not masked")).count(),
        1,
        "{:?}",
        world.notices
    );
    world.hub.handle(Input::Closed { connection: World::id(watching), how: Lost::Eof }, world.now);
}

#[test]
fn many_requests_of_one_connection_are_each_answered() {
    let mut world = World::new(3);
    let mut expected = BTreeMap::new();
    let mut requests = String::new();
    for (path, status) in
        [("/", "200"), ("/nothing", "404"), ("/live/x", "307"), ("/live/x/", "200"), ("/live/x.flv", "404")]
    {
        requests.push_str(&get(path));
        *expected.entry(status).or_insert(0) += 1;
    }
    let viewer = world.http(&requests.repeat(3));
    let text = world.text(viewer);
    for (status, count) in expected {
        assert_eq!(text.matches(&format!("HTTP/1.1 {status} ")).count(), 3 * count, "{status}");
    }
    assert!(!world.peers[viewer].closed);
}
