//! A protocol of the host's own over UDP, by the public interface alone.

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};
use shardcast_engine::{
    access::{Action, Authenticator, Request, Verdict},
    codec::Codec,
    error::Error,
    hub::Notice,
    limits::{DATAGRAM_BYTES_MAX, DoorLimits, StreamLimits},
    media::{Frame, Payload, StreamName, TrackId},
    protocol::{Protocol, Transport},
    session::{Answer, Event, Form, Input, Opening, Output, Session, Wire},
    settings::{AppSettings, Settings},
    time::{MediaTime, Now},
};
use shardcast_shards::host::{Node, NodeBuilder, SubscribeError, Subscriber};
use shardcast_tests::clients::server::Ports;

/// How long anything here may take; far longer than it does.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long nothing must come, where nothing is to come.
const SILENCE: Duration = Duration::from_millis(150);

/// A word in each datagram: `P NAME?KEY` publishes, `V NAME` and `W NAME` play (cut into datagrams, and not), four bytes are the
/// number of a picture and come back, `?` is answered, `L` by as many bytes as it says, `B` says goodbye, `!` is a bug. Anything
/// else is a fault.
struct Words {
    publishing: bool,
    received: u64,
    idle: Duration,
    until: Now,
    outbox: VecDeque<Output>,
}

const WORDS: Protocol = Protocol {
    name: "words",
    port: 7001,
    transport: Transport::Udp,
    greet: None,
    open: |limits, now| {
        Box::new(Words {
            publishing: false,
            received: 0,
            idle: limits.idle,
            until: now.after(limits.idle),
            outbox: VecDeque::new(),
        })
    },
};

impl Words {
    fn say(&mut self, words: &'static [u8]) {
        self.outbox.push_back(Output::Send(Bytes::from_static(words)));
    }

    fn wish(&mut self, word: u8, text: &[u8]) -> Result<(), Error> {
        let text = String::from_utf8_lossy(text);
        let (name, query) = text.split_once('?').unwrap_or((&text, ""));
        let (name, query) = (StreamName::parse(name)?, query.to_owned());
        self.outbox.push_back(Output::Event(match word {
            b'P' => Event::Publish { name, query },
            b'V' => Event::Play { name, query, form: &CUT },
            _ => Event::Play { name, query, form: &WHOLE },
        }));
        Ok(())
    }

    fn word(&mut self, datagram: &[u8]) -> Result<(), Error> {
        match datagram {
            b"?" => self.say(b"here"),
            b"B" => {
                self.say(b"bye");
                self.outbox.push_back(Output::Close);
            }
            b"!" => panic!("a bug in a protocol of the host"),
            [b'L', length @ ..] => {
                let length: usize = String::from_utf8_lossy(length).parse().expect("a test's own number");
                self.outbox.push_back(Output::Send(Bytes::from(vec![b'l'; length])));
            }
            [word @ (b'P' | b'V' | b'W'), b' ', text @ ..] => self.wish(*word, text)?,
            [_, _, _, _] if self.publishing => {
                let number = u32::from_be_bytes(datagram.try_into().expect("four bytes"));
                self.outbox.push_back(Output::Event(Event::Frame(picture(number))));
                self.outbox.push_back(Output::Send(Bytes::copy_from_slice(datagram)));
            }
            _ => return Err(Error::malformed("no word of this protocol", self.received)),
        }
        Ok(())
    }
}

impl Session for Words {
    fn handle(&mut self, input: Input<'_>, now: Now) -> Result<(), Error> {
        match input {
            Input::Received(datagram) => {
                self.received += datagram.len() as u64;
                self.until = now.after(self.idle);
                self.word(datagram)?;
            }
            Input::Answer(Answer::Publishing) => {
                self.publishing = true;
                self.say(b"publishing");
            }
            Input::Answer(Answer::Playing) => self.say(b"playing"),
            Input::Answer(Answer::Refused(why)) => {
                self.say(why.why().as_bytes());
                self.outbox.push_back(Output::Close);
            }
            Input::Ended | Input::Shutdown => {
                self.say(b"over");
                self.outbox.push_back(Output::Close);
            }
            Input::Timeout if self.until <= now => {
                return Err(Error::timed_out("silent for too long", self.received));
            }
            _ => {}
        }
        Ok(())
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
}

/// Eight bytes for each picture: its number twice, so that a cut in the wrong place shows.
struct Twice;

static CUT: Form = Form { name: "cut", datagram: Some(64), prompt: false, open: || Box::new(Twice) };
static WHOLE: Form = Form { name: "whole", datagram: None, prompt: false, open: || Box::new(Twice) };

impl Wire for Twice {
    fn header(&mut self, _: &Opening, _: &Frame, out: &mut BytesMut) {
        out.put_u64(u64::MAX);
    }
    fn refresh(&mut self, _: &Opening, _: &Frame, _: &mut BytesMut) {}
    fn frame(&mut self, frame: &Frame, out: &mut BytesMut) {
        if let Some(number) = number_of(frame) {
            out.put_u32(number);
            out.put_u32(number);
        }
    }
}

/// A picture of a stream with a key frame each second; its number is in its data.
fn picture(number: u32) -> Frame {
    let dts = MediaTime::from_millis(i64::from(number) * 40);
    let data = Bytes::from([&[0, 0, 0, 5, 0x65][..], &number.to_be_bytes()].concat());
    let key = number.is_multiple_of(25);
    Frame { track: TrackId::VIDEO, dts, pts: dts, payload: Payload::Video { codec: Codec::H264, key, data } }
}

fn number_of(frame: &Frame) -> Option<u32> {
    let Payload::Video { data, .. } = &frame.payload else { return None };
    Some(u32::from_be_bytes(data[data.len() - 4..].try_into().expect("a picture of this test")))
}

fn name(text: &str) -> StreamName {
    StreamName::parse(text).expect("a legal name")
}

/// An address of this machine with a port that nobody has, nor is given by chance.
fn free() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, Ports::free().rtmp).into()
}

/// Settings under which a stream ends as soon as its publisher goes.
fn brief() -> Settings {
    let limits = StreamLimits { reconnect_window: Duration::ZERO, ..StreamLimits::default() };
    Settings { default: AppSettings { limits, record: false }, ..Settings::default() }
}

/// A node with such a door, and what it says.
fn node(
    door: SocketAddr,
    settings: Settings,
    with: impl FnOnce(NodeBuilder) -> NodeBuilder,
) -> (Node, mpsc::Receiver<Notice>) {
    let (told, notices) = mpsc::channel();
    let builder = Node::builder().shards(2).settings(settings).door(WORDS, door);
    let builder = builder.on_notice(move |_, notice| drop(told.send(notice)));
    (with(builder).start().expect("it starts"), notices)
}

fn plain(builder: NodeBuilder) -> NodeBuilder {
    builder
}

/// Waits for a line that has these words.
fn said(notices: &mpsc::Receiver<Notice>, what: &str) -> Notice {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        match notices.recv_timeout(PATIENCE) {
            Ok(notice) if notice.text.contains(what) => {
                assert_eq!(notice.door, "words");
                return notice;
            }
            _ => {}
        }
    }
    panic!("nobody said {what}");
}

/// One peer.
struct Peer(UdpSocket);

impl Peer {
    fn new(door: SocketAddr) -> Peer {
        let socket = match door {
            SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)),
            SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)),
        };
        let socket = socket.expect("loopback is there");
        socket.connect(door).expect("the address is one of this machine");
        // It keeps its port to the end of the process: another peer with it would be the same peer to the node.
        std::mem::forget(socket.try_clone().expect("there are descriptors left"));
        Peer(socket)
    }

    fn say(&self, datagram: &[u8]) {
        self.0.send(datagram).expect("loopback takes it");
    }

    fn hear_within(&self, time: Duration) -> Option<Vec<u8>> {
        self.0.set_read_timeout(Some(time)).expect("a time that is not zero");
        let mut datagram = vec![0; 1 << 16];
        match self.0.recv(&mut datagram) {
            Ok(length) => {
                datagram.truncate(length);
                Some(datagram)
            }
            Err(error) => {
                let silent = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
                assert!(silent, "{error}");
                None
            }
        }
    }

    fn hear(&self) -> String {
        let datagram = self.hear_within(PATIENCE).expect("an answer in time");
        String::from_utf8(datagram).expect("a word")
    }

    fn ask(&self, datagram: &[u8]) -> String {
        self.say(datagram);
        self.hear()
    }

    /// Asks until it is answered: what comes before another's end is taken note of is lost.
    fn call(&self) {
        let began = Instant::now();
        while self.hear_within(Duration::from_millis(20)).is_none_or(|word| word != b"here") {
            assert!(began.elapsed() < PATIENCE, "it is let in");
            self.say(b"?");
        }
    }

    /// Publishes its first picture, and waits until the subscribers have it: they miss nothing of what follows.
    fn reach(&self, subscribers: &mut [Subscriber]) {
        self.pictures(0..1);
        for subscriber in subscribers {
            while number_of(&subscriber.next_blocking().expect("the stream is live")) != Some(0) {}
        }
    }

    fn publish(&self, stream: &str) {
        assert_eq!(self.ask(format!("P {stream}").as_bytes()), "publishing");
    }

    /// Sends pictures, a few at a time, and waits until each has come back.
    fn pictures(&self, numbers: std::ops::Range<u32>) {
        let numbers: Vec<u32> = numbers.collect();
        for few in numbers.chunks(16) {
            few.iter().for_each(|number| self.say(&number.to_be_bytes()));
            for number in few {
                assert_eq!(self.hear_within(PATIENCE), Some(number.to_be_bytes().to_vec()));
            }
        }
    }
}

/// The numbers of the pictures that come until the stream is over.
fn read_to_end(mut subscriber: Subscriber) -> Vec<u32> {
    let mut numbers = Vec::new();
    loop {
        match subscriber.next_blocking() {
            Ok(frame) => numbers.extend(number_of(&frame)),
            Err(over) => {
                assert_eq!(over, SubscribeError::Ended);
                return numbers;
            }
        }
    }
}

#[test]
fn every_frame_reaches_every_subscriber_in_order_whichever_shard_owns_the_stream_and_hears_the_peer() {
    let door = free();
    let (node, _) = node(door, brief(), plain);
    // The kernel gives each peer to a shard by its port, and the streams are owned by either: all four cases are there.
    let both: Vec<_> = (0..10)
        .map(|stream| {
            let stream = format!("live/cam{stream}");
            let mut subscribers = [node.subscribe(&name(&stream)), node.subscribe(&name(&stream))];
            thread::spawn(move || {
                let peer = Peer::new(door);
                peer.publish(&stream);
                peer.reach(&mut subscribers);
                let readers = subscribers.map(|subscriber| thread::spawn(move || read_to_end(subscriber)));
                peer.pictures(1..600);
                peer.say(b"B");
                for reader in readers {
                    let numbers = reader.join().unwrap();
                    assert!(numbers.iter().copied().eq(1..600), "{numbers:?}");
                }
            })
        })
        .collect();
    both.into_iter().for_each(|stream| stream.join().unwrap());
    node.stop().unwrap();
}

#[test]
fn datagrams_that_follow_a_wish_at_once_come_one_by_one_and_in_order() {
    let door = free();
    // Whoever comes goes on with the stream of the one before.
    let limits = StreamLimits { takeover: true, ..StreamLimits::default() };
    let settings = Settings { default: AppSettings { limits, record: false }, ..Settings::default() };
    let (node, _) = node(door, settings, plain);
    for stream in 0..12 {
        let stream = format!("live/cam{stream}");
        let mut reader = node.subscribe(&name(&stream));
        let former = Peer::new(door);
        former.publish(&stream);
        former.reach(std::slice::from_mut(&mut reader));
        let peer = Peer::new(door);
        // The answer has not come, and half of these peers have to move first.
        peer.say(format!("P {stream}").as_bytes());
        (0..40_u32).for_each(|number| peer.say(&number.to_be_bytes()));
        assert_eq!(peer.hear(), "publishing");
        for number in 0..40_u32 {
            assert_eq!(peer.hear_within(PATIENCE), Some(number.to_be_bytes().to_vec()));
        }
        let numbers = std::iter::from_fn(|| Some(number_of(&reader.next_blocking().unwrap())));
        assert!(numbers.flatten().take(40).eq(0..40));
    }
}

#[test]
fn an_address_is_forgotten_with_its_session_and_may_begin_anew() {
    let door = free();
    let (node, _) = node(door, brief(), plain);
    let peer = Peer::new(door);
    for round in 0..20 {
        // With each name it may have to move, to either core.
        let stream = format!("live/round{round}");
        let mut reader = node.subscribe(&name(&stream));
        peer.publish(&stream);
        peer.reach(std::slice::from_mut(&mut reader));
        peer.pictures(1..3);
        peer.say(b"B");
        assert_eq!(read_to_end(reader), [1, 2]);
        // Its home may not have been told yet.
        peer.call();
        while peer.hear_within(Duration::from_millis(20)).is_some() {}
    }
}

/// Lets in whoever has the key.
struct Key;

impl Authenticator for Key {
    fn allows(&self, request: &Request<'_>) -> Verdict {
        assert_eq!(request.door, "words");
        (request.action == Action::Play || request.query == "good").into()
    }
}

#[test]
fn the_authenticator_is_asked() {
    let door = free();
    let (_node, notices) = node(door, Settings { access: Arc::new(Key), ..brief() }, plain);
    let peer = Peer::new(door);
    assert_eq!(peer.ask(b"P live/cam?bad"), "not allowed");
    let notice = said(&notices, "refused: not allowed");
    assert_eq!(notice.peer, Some(peer.0.local_addr().unwrap()));
    assert_eq!(peer.ask(b"P live/cam?good"), "publishing");
}

#[test]
fn a_peer_that_breaks_the_protocol_or_brings_out_a_bug_is_closed_and_nobody_else_notices() {
    let door = free();
    let (node, notices) = node(door, brief(), plain);
    let streams = ["live/one", "live/two", "live/three"];
    let peers: Vec<_> = streams
        .iter()
        .map(|stream| {
            let (mut reader, peer) = (node.subscribe(&name(stream)), Peer::new(door));
            peer.publish(stream);
            peer.reach(std::slice::from_mut(&mut reader));
            (reader, peer)
        })
        .collect();
    for round in 0..10 {
        peers.iter().for_each(|(_, peer)| peer.pictures(1 + round * 20..21 + round * 20));
        let other = Peer::new(door);
        if round % 2 == 0 {
            other.say(b"garbage");
            assert_eq!(said(&notices, "malformed").at, Some(7));
        } else {
            // The standard library says on standard error that a thread panicked; the shard goes on.
            other.say(b"!");
            said(&notices, "a bug in this server");
        }
        assert_eq!(other.ask(b"?"), "here", "what it was is forgotten");
    }
    // One in the middle of its stream, which may have been moved.
    let (_, peer) = &peers[0];
    peer.say(b"more than four bytes");
    assert_eq!(said(&notices, "malformed").peer, Some(peer.0.local_addr().unwrap()));
    for (_, peer) in &peers[1..] {
        peer.pictures(201..221);
        peer.say(b"B");
    }
    for ((reader, _), frames) in peers.into_iter().zip([201, 221, 221]) {
        assert!(read_to_end(reader).into_iter().eq(1..frames));
    }
}

#[test]
fn peers_beyond_the_limit_are_not_answered_until_another_has_gone() {
    let limits = DoorLimits { connections_per_address: 3, ..DoorLimits::default() };
    let door = free();
    let (_node, _) = node(door, Settings { doors: limits, ..brief() }, |builder| builder.shards(1));
    let peers: Vec<Peer> = (0..3).map(|_| Peer::new(door)).collect();
    peers.iter().for_each(|peer| assert_eq!(peer.ask(b"?"), "here"));
    let late = Peer::new(door);
    for _ in 0..3 {
        late.say(b"?");
        assert_eq!(late.hear_within(SILENCE), None);
    }
    assert_eq!(peers[1].ask(b"B"), "bye");
    late.call();
    assert_eq!(peers[0].ask(b"?"), "here");
    peers[1].say(b"?");
    assert_eq!(peers[1].hear_within(SILENCE), None);
}

#[test]
fn peers_that_were_moved_count_at_the_door_that_they_came_in_by() {
    let limits = DoorLimits { connections: 8, ..DoorLimits::default() };
    let door = free();
    let (_node, _) = node(door, Settings { doors: limits, ..brief() }, plain);
    // Each shard lets in four, and moves those whose stream is not its own.
    let mut outside: Vec<Peer> = (0..32).map(|_| Peer::new(door)).collect();
    for (stream, peer) in outside.iter().enumerate() {
        peer.say(format!("P live/cam{stream}").as_bytes());
    }
    let mut inside = Vec::new();
    let began = Instant::now();
    while inside.len() < 8 {
        assert!(began.elapsed() < PATIENCE, "each shard has its share");
        inside.extend(outside.extract_if(.., |peer| peer.hear_within(Duration::from_millis(5)).is_some()));
    }
    inside.iter().for_each(|peer| peer.pictures(0..10));
    for peer in outside {
        assert_eq!(peer.hear_within(Duration::from_millis(10)), None);
    }
}

#[test]
fn a_silent_peer_is_closed_by_its_session_and_says_so_in_the_log() {
    let limits = DoorLimits { idle: Duration::from_millis(50), ..DoorLimits::default() };
    let door = free();
    let (_node, notices) = node(door, Settings { doors: limits, ..brief() }, plain);
    let peer = Peer::new(door);
    assert_eq!(peer.ask(b"?"), "here");
    let notice = said(&notices, "timed_out: silent for too long");
    assert_eq!((notice.peer, notice.at), (Some(peer.0.local_addr().unwrap()), Some(1)));
}

#[test]
fn a_form_that_is_cut_into_datagrams_is_played_and_another_is_refused_with_a_remark() {
    let door = free();
    let (_node, notices) = node(door, brief(), plain);
    for stream in ["live/one", "live/two", "live/three"] {
        let publisher = Peer::new(door);
        publisher.publish(stream);
        publisher.pictures(0..100);
        // On both shards, as the kernel spreads them.
        let viewers: Vec<Peer> = (0..4).map(|_| Peer::new(door)).collect();
        for viewer in &viewers {
            assert_eq!(viewer.ask(format!("V {stream}").as_bytes()), "playing");
        }
        publisher.pictures(100..200);
        for viewer in &viewers {
            let mut numbers = Vec::new();
            while numbers.last() != Some(&199) {
                let datagram = viewer.hear_within(PATIENCE).expect("the stream goes on");
                assert!(datagram.len() <= 64 && datagram.len().is_multiple_of(8), "{}", datagram.len());
                for picture in datagram.chunks(8) {
                    assert_eq!(picture[..4], picture[4..]);
                    numbers.push(u32::from_be_bytes(picture[..4].try_into().expect("four bytes")));
                }
            }
            assert_eq!(numbers[0], u32::MAX, "the header comes first");
            assert!(numbers[1].is_multiple_of(25), "then a key frame: {numbers:?}");
            assert!(numbers[1..].iter().copied().eq(numbers[1]..200), "{numbers:?}");
        }
        let other = Peer::new(door);
        assert_eq!(other.ask(format!("W {stream}").as_bytes()), "this form cannot be sent in datagrams");
        said(&notices, "cannot be played over UDP");
        publisher.say(b"B");
        assert!(viewers.iter().all(|viewer| viewer.hear() == "over"));
    }
}

#[test]
fn the_largest_datagram_goes_both_ways_and_a_larger_one_closes_its_peer() {
    let door = free();
    let (_node, notices) = node(door, brief(), plain);
    let peer = Peer::new(door);
    let answer = peer.ask(format!("L{DATAGRAM_BYTES_MAX}").as_bytes());
    assert_eq!(answer, "l".repeat(DATAGRAM_BYTES_MAX));
    peer.say(format!("L{}", DATAGRAM_BYTES_MAX + 1).as_bytes());
    said(&notices, "too_large: its session sent more than a datagram carries");
    assert_eq!(peer.hear_within(SILENCE), None);
    peer.say(&vec![b'x'; DATAGRAM_BYTES_MAX]);
    assert_eq!(said(&notices, "malformed").at, Some(DATAGRAM_BYTES_MAX as u64));
    // Empty ones are nothing, both ways.
    assert_eq!(peer.ask(b"?"), "here");
    peer.say(b"");
    peer.say(b"L0");
    assert_eq!(peer.ask(b"?"), "here");
}

#[test]
fn a_flood_of_datagrams_holds_up_nobody() {
    let door = free();
    let (node, _) = node(door, brief(), |builder| builder.shards(1));
    let calm = Arc::new(AtomicBool::new(false));
    let flood = thread::spawn({
        let (peer, calm, began) = (Peer::new(door), calm.clone(), Instant::now());
        move || {
            // More than a shard can answer; what it cannot is lost.
            while !calm.load(Ordering::SeqCst) && began.elapsed() < PATIENCE {
                peer.say(b"?");
            }
            calm.load(Ordering::SeqCst)
        }
    });
    let mut reader = node.subscribe(&name("live/cam"));
    let mut publisher = node.publish(&name("live/cam"));
    for number in 0..50 {
        publisher.send_blocking(picture(number)).unwrap();
        while number_of(&reader.next_blocking().unwrap()) != Some(number) {}
    }
    calm.store(true, Ordering::SeqCst);
    assert!(flood.join().unwrap(), "it went on until all was heard");
    Peer::new(door).call();
}

#[test]
fn publishers_that_send_more_than_can_be_taken_hold_up_nobody_on_either_shard() {
    let door = free();
    let (node, _) = node(door, brief(), plain);
    let peers: Vec<Peer> = (0..4).map(|_| Peer::new(door)).collect();
    for (number, peer) in peers.iter().enumerate() {
        peer.publish(&format!("live/flood{number}"));
    }
    let calm = Arc::new(AtomicBool::new(false));
    let flood = thread::spawn({
        let (calm, began) = (calm.clone(), Instant::now());
        move || {
            for number in 0_u32.. {
                peers.iter().for_each(|peer| peer.say(&number.to_be_bytes()));
                if calm.load(Ordering::SeqCst) || began.elapsed() > PATIENCE {
                    break;
                }
            }
            (calm.load(Ordering::SeqCst), peers)
        }
    });
    // Their owners are both shards.
    let streams = ["live/a", "live/b", "live/c", "live/d", "live/e"].map(name);
    for stream in &streams {
        let (mut reader, mut publisher) = (node.subscribe(stream), node.publish(stream));
        for number in 0..10 {
            publisher.send_blocking(picture(number)).unwrap();
            while number_of(&reader.next_blocking().unwrap()) != Some(number) {}
        }
    }
    calm.store(true, Ordering::SeqCst);
    let (calm, peers) = flood.join().unwrap();
    assert!(calm, "it went on until all was heard");
    for peer in peers {
        // What is still on its way comes back first.
        peer.say(&[255; 4]);
        let began = Instant::now();
        while peer.hear_within(Duration::from_millis(50)).is_none_or(|word| word != [255; 4]) {
            assert!(began.elapsed() < PATIENCE, "it is still there");
            peer.say(&[255; 4]);
        }
    }
}

#[test]
fn ipv6_and_several_doors_of_one_protocol_are_kept_apart() {
    let (four, other) = (free(), free());
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, Ports::free().rtmp));
    let (node, _) = node(four, brief(), |builder| builder.door(WORDS, six).door(WORDS, other));
    let mut readers = Vec::new();
    let mut peers = Vec::new();
    for (number, door) in [four, six, other, four, six, other, six].into_iter().enumerate() {
        let stream = format!("live/cam{number}");
        let mut reader = node.subscribe(&name(&stream));
        // A connected socket hears nothing from another address: what was moved still answers from this door's.
        let peer = Peer::new(door);
        peer.publish(&stream);
        peer.reach(std::slice::from_mut(&mut reader));
        peer.pictures(1..50);
        readers.push(reader);
        peers.push(peer);
    }
    peers.iter().for_each(|peer| peer.say(b"B"));
    for reader in readers {
        assert!(read_to_end(reader).into_iter().eq(1..50));
    }
}

#[test]
fn a_node_that_stops_tells_its_peers_and_frees_the_port_and_a_taken_port_is_refused() {
    let door = free();
    let (first, _) = node(door, brief(), plain);
    let peers: Vec<Peer> = (0..6).map(|_| Peer::new(door)).collect();
    for (number, peer) in peers.iter().enumerate() {
        peer.publish(&format!("live/cam{number}"));
    }
    let taken = Node::builder().door(WORDS, door).start().expect_err("the port is taken");
    assert!(taken.to_string().contains("words door: another program already listens on"), "{taken}");
    first.stop().unwrap();
    peers.iter().for_each(|peer| assert_eq!(peer.hear(), "over"));
    let (_second, _) = node(door, brief(), plain);
    assert_eq!(Peer::new(door).ask(b"?"), "here");
}
