//! What is asked of hubs for by name, and what they answer, seen without sockets.

use std::collections::VecDeque;

use bytes::Bytes;

use super::*;
use crate::{
    codec::{
        Codec, Parameters,
        samples::{self, hex},
    },
    error::Error,
    hub::{Input, Lost, Output},
    media::{Payload, TrackId},
    segment::{self, Rendition, Text, TextForm},
    session::{self, Event, Session},
    settings::Settings,
    time::MediaTime,
};

/// Says what a list is about, in three numbers: its first segment, the next that will be whole, and discontinuities before it.
static NUMBERS: TextForm = TextForm {
    name: "numbers",
    content_type: "text/plain",
    write: |window, text| {
        let shelf = text.rendition.and_then(|rendition| window.shelf(rendition)).expect("it was asked for");
        let numbers: Vec<u64> = shelf.whole().map(|segment| segment.number).collect();
        let (first, last) = (numbers[0], numbers[numbers.len() - 1]);
        assert_eq!(last - first + 1, numbers.len() as u64, "none is missing: {numbers:?}");
        let ended = if window.ended() { " ended" } else { "" };
        format!("{first} {} {}{ended}", last + 1, shelf.discontinuities())
    },
};

/// A peer that does as it is told, and says what it hears. Of several wishes it makes each when the one before it is answered.
#[derive(Default)]
struct Peer {
    outputs: VecDeque<session::Output>,
    wishes: VecDeque<Event>,
}

impl Session for Peer {
    fn handle(&mut self, input: session::Input<'_>, _: Now) -> Result<(), Error> {
        match input {
            session::Input::Received(told) => {
                let told = std::str::from_utf8(told).expect("the tests write text");
                self.wishes
                    .extend(told.split("; ").map(|wish| event(&wish.split(' ').collect::<Vec<&str>>())));
                self.wish();
            }
            session::Input::Answer(Answer::Refused(refusal)) => self.say(format!("{refusal:?}")),
            session::Input::Fetched(found) => {
                match found {
                    Found::Text(written) => self.say_bytes(written.plain()),
                    other => self.say(format!("{other:?}")),
                }
                self.wish();
            }
            _ => {}
        }
        Ok(())
    }
    fn poll(&mut self) -> Option<session::Output> {
        self.outputs.pop_front()
    }
    fn deadline(&self) -> Option<Now> {
        None
    }
    fn received(&self) -> u64 {
        0
    }
}

impl Peer {
    fn wish(&mut self) {
        self.outputs.extend(self.wishes.pop_front().map(session::Output::Event));
    }

    fn say(&mut self, text: String) {
        self.say_bytes(text.into());
    }

    fn say_bytes(&mut self, bytes: Bytes) {
        self.outputs.push_back(session::Output::Send(bytes));
    }
}

fn event(words: &[&str]) -> Event {
    let number = |word: &str| word.parse().expect("the tests write numbers");
    match words {
        ["publish", name] => {
            let name = StreamName::parse(name).expect("the tests write names");
            Event::Publish { name, query: String::new() }
        }
        ["describe", "pcma"] => {
            let parameters = Parameters::of_voice(Codec::PcmA).expect("it is G.711");
            Event::Frame(frame(0, Payload::Parameters(Arc::new(parameters))))
        }
        ["describe", codec] => {
            let (codec, configuration) = match *codec {
                "h264" => (Codec::H264, samples::H264_HIGH_720),
                _ => (Codec::Vp9, samples::VP9_180),
            };
            let parameters = Parameters::parse(codec, hex(configuration).into()).expect("it was captured");
            Event::Frame(frame(0, Payload::Parameters(Arc::new(parameters))))
        }
        ["picture", millis] => {
            let millis = number(millis);
            let key = millis % 2000 == 0;
            let data = Bytes::from(vec![0, 0, 0, 3, if key { 0x65 } else { 0x41 }, 0x88, 7]);
            Event::Frame(frame(millis, Payload::Video { codec: Codec::H264, key, data }))
        }
        ["list", name, rendition, until @ ..] => {
            let rendition = match *rendition {
                "ts" => Rendition::Transport,
                _ => Rendition::Video,
            };
            let until = until.first().map(|word| (number(word) as u64, None));
            let (skip, query) = (false, String::new());
            let text = Text { form: &NUMBERS, rendition: Some(rendition), skip, until, query };
            let name = StreamName::parse(name).expect("the tests write names");
            Event::Fetch { name, query: String::new(), item: Box::new(Item::Text(text)) }
        }
        other => panic!("{other:?} means nothing"),
    }
}

fn frame(millis: i64, payload: Payload) -> Frame {
    let time = MediaTime::from_millis(millis);
    Frame { track: TrackId::VIDEO, dts: time, pts: time, payload }
}

/// The cores of a node, with lanes between them.
struct World {
    hubs: Vec<Hub>,
    now: Now,
    /// The lane to this core is full.
    full: Option<CoreId>,
    slots: u32,
    /// What peers were told, newest last.
    heard: BTreeMap<(u16, ConnectionId), String>,
    /// Milliseconds of pictures that the publisher has sent.
    sent: i64,
}

impl World {
    fn new(cores: u16, linger: Duration) -> Self {
        let packaging = segment::Settings { linger, ..segment::Settings::default() };
        World::of(cores, Settings { packaging, ..Settings::default() })
    }

    fn of(cores: u16, settings: Settings) -> Self {
        let settings = Arc::new(settings);
        let hubs = (0..cores).map(|core| Hub::new(CoreId(core), cores, settings.clone())).collect();
        let (now, heard) = (Now(1_000_000_000), BTreeMap::new());
        World { hubs, now, full: None, slots: 0, heard, sent: 0 }
    }

    fn peer(&mut self, core: u16) -> (u16, ConnectionId) {
        let connection = ConnectionId { slot: self.slots, generation: 0 };
        self.slots += 1;
        // Each has an address of its own.
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + self.slots);
        let (peer, session) = ((address, 1).into(), Box::<Peer>::default());
        self.hubs[usize::from(core)]
            .handle(Input::Connected { connection, door: "test", peer, session }, self.now);
        (core, connection)
    }

    fn tell(&mut self, (core, connection): (u16, ConnectionId), words: &str) {
        let bytes = words.as_bytes();
        self.hubs[usize::from(core)].handle(Input::Received { connection, bytes }, self.now);
        self.settle();
    }

    /// What a peer was told since it was last asked.
    fn heard(&mut self, peer: (u16, ConnectionId)) -> Option<String> {
        self.heard.remove(&peer)
    }

    /// Asks for a list by a peer of its own, and waits for it.
    fn list(&mut self, core: u16, what: &str) -> String {
        let peer = self.peer(core);
        self.tell(peer, &format!("list {what}"));
        self.heard(peer).expect("it is answered at once")
    }

    /// Lets the publisher send for so long.
    fn send(&mut self, publisher: (u16, ConnectionId), millis: i64) {
        for _ in (0..millis).step_by(40) {
            self.tell(publisher, &format!("picture {}", self.sent));
            self.sent += 40;
            self.pass(Duration::from_millis(40));
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        for core in 0..self.hubs.len() {
            if self.hubs[core].deadline().is_some_and(|deadline| deadline <= self.now) {
                self.hubs[core].handle(Input::Timeout, self.now);
            }
        }
        self.settle();
    }

    fn settle(&mut self) {
        let mut core = 0;
        while core < self.hubs.len() {
            let Some(output) = self.hubs[core].poll(self.now) else {
                core += 1;
                continue;
            };
            let from = CoreId(core as u16);
            match output {
                Output::Send { connection, bytes } => {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    self.heard.insert((from.0, connection), text);
                    let sent = Input::Sent { connection, result: Ok(bytes.len()) };
                    self.hubs[core].handle(sent, self.now);
                }
                Output::Mail(message, to) if self.full == Some(to) => {
                    self.hubs[core].handle(Input::Undelivered(message, to), self.now);
                }
                Output::Mail(message, to) => {
                    self.hubs[usize::from(to.0)].handle(Input::Mail(message, from), self.now);
                    core = 0;
                }
                _ => {}
            }
        }
        for hub in &self.hubs {
            hub.audit().expect("the books agree");
        }
    }

    /// A stream that core `core` owns, and its publisher there, which has sent for so long.
    fn publish(&mut self, core: u16, codec: &str, millis: i64) -> (String, (u16, ConnectionId)) {
        let cores = self.hubs.len() as u16;
        let mut names = (0..).map(|number| format!("live/cam{number}"));
        let owned = |name: &String| owner_of(&StreamName::parse(name).unwrap(), cores) == CoreId(core);
        let name = names.find(owned).unwrap();
        let publisher = self.peer(core);
        self.tell(publisher, &format!("publish {name}"));
        self.tell(publisher, &format!("describe {codec}"));
        self.send(publisher, millis);
        (name, publisher)
    }

    fn packages(&self, core: usize) -> usize {
        self.hubs[core].census().packages
    }
}

const LINGER: Duration = Duration::from_secs(30);

#[test]
fn a_stream_is_packaged_in_the_forms_that_are_asked_for() {
    let mut world = World::new(1, LINGER);
    let (name, publisher) = world.publish(0, "h264", 6000);
    let early = world.peer(0);
    world.tell(early, &format!("list {name} ts"));
    assert_eq!((world.heard(early), world.packages(0)), (None, 1), "segments must be whole first");
    world.send(publisher, 6040);
    assert_eq!(world.heard(early).as_deref(), Some("0 2 0"));
    assert_eq!(world.list(0, &format!("{name} ts")), "0 4 0");
    let other = world.peer(0);
    world.tell(other, &format!("list {name} video"));
    assert_eq!((world.heard(other), world.packages(0)), (None, 2));
    world.send(publisher, 2000);
    assert_eq!(world.heard(other).as_deref(), Some("0 1 0"));
    assert_eq!(world.list(0, &format!("{name} ts")), "0 5 0", "each goes its own way");
}

#[test]
fn what_no_transport_stream_can_say_is_not_there() {
    let mut world = World::new(2, LINGER);
    let (name, publisher) = world.publish(0, "vp9", 6000);
    for core in 0..2 {
        assert_eq!(world.list(core, &format!("{name} ts")), "NotFound");
        assert_eq!(world.packages(usize::from(core)), 0);
        let other = world.peer(core);
        world.tell(other, &format!("list {name} video"));
        world.send(publisher, 4040);
        assert!(world.heard(other).is_some_and(|text| text.ends_with(" 0")), "fragments can");
    }
}

#[test]
fn what_no_fragment_can_say_is_not_there() {
    let mut world = World::new(1, LINGER);
    let (name, _) = world.publish(0, "pcma", 6000);
    for form in ["ts", "video"] {
        assert_eq!(world.list(0, &format!("{name} {form}")), "NotFound");
    }
    assert_eq!(world.packages(0), 0);
}

#[test]
fn numbers_go_on_when_a_stream_is_packaged_again() {
    for form in ["ts", "video"] {
        let mut world = World::new(1, LINGER);
        let (name, publisher) = world.publish(0, "h264", 2000);
        let what = format!("{name} {form}");
        let first = world.peer(0);
        world.tell(first, &format!("list {what}"));
        world.send(publisher, 8040);
        let list = world.list(0, &what);
        assert!(["0 4 0", "0 5 0"].contains(&&*list), "{list}");
        let next: u64 = list.split(' ').nth(1).and_then(|number| number.parse().ok()).unwrap();
        // It went on until nobody had asked for a while.
        world.send(publisher, 40_000);
        assert_eq!(world.packages(0), 0, "nobody asks");
        let back = world.peer(0);
        world.tell(back, &format!("list {what}"));
        world.send(publisher, 8040);
        let numbers: Vec<u64> =
            world.list(0, &what).split(' ').map(|number| number.parse().unwrap()).collect();
        let [begins, ends, before] = numbers[..] else { panic!("{numbers:?}") };
        assert!(begins >= next + 10 && ends >= begins + 3, "{form}: {numbers:?} after {next}");
        assert_eq!(before, 0, "the discontinuity that it begins with is listed");
        world.send(publisher, 40_000);
        let again = world.peer(0);
        world.tell(again, &format!("list {what}"));
        world.send(publisher, 8040);
        let list = world.list(0, &what);
        assert!(list.ends_with(" 1"), "{form}: the one that left is counted: {list}");
    }
}

#[test]
fn a_core_that_takes_nothing_is_told_that_it_lags_and_asks_again() {
    for form in ["ts", "video"] {
        let mut world = World::new(2, Duration::from_secs(10_000));
        let (name, publisher) = world.publish(1, "h264", 4000);
        let what = format!("{name} {form}");
        let first = world.peer(0);
        world.tell(first, &format!("list {what}"));
        world.send(publisher, 8040);
        assert!(world.heard(first).is_some());
        world.full = Some(CoreId(0));
        // A run of cuts for each part, or each segment.
        let seconds = if form == "ts" { 600 } else { 120 };
        world.send(publisher, seconds * 1000);
        let waits = world.hubs[1].census().backlog;
        assert!(waits <= 256, "{form}: {waits} words wait");
        assert_eq!(world.hubs[1].stats().replicas_late, 1, "{form}");
        world.full = None;
        world.pass(Duration::from_secs(1));
        world.send(publisher, 4040);
        let list = world.list(0, &what);
        assert_eq!(list, world.list(1, &what), "{form}: both cores list the same again");
        let next: u64 = list.split(' ').nth(1).and_then(|number| number.parse().ok()).unwrap();
        assert!(next as i64 >= seconds / 2 + 4, "{form}: {list}");
        assert_eq!(world.hubs[1].census().backlog, 0);
    }
}

#[test]
fn whoever_waits_at_a_core_that_lagged_is_answered_when_it_has_caught_up() {
    let mut world = World::new(2, Duration::from_secs(10_000));
    let (name, publisher) = world.publish(1, "h264", 4000);
    let what = format!("{name} video");
    let first = world.peer(0);
    world.tell(first, &format!("list {what}"));
    world.send(publisher, 8040);
    world.full = Some(CoreId(0));
    world.send(publisher, 55_000);
    // The newest that there is, and the core has not heard of it.
    let newest: u64 = world.list(1, &what).split(' ').nth(1).and_then(|number| number.parse().ok()).unwrap();
    let waiting = world.peer(0);
    world.tell(waiting, &format!("list {what} 7"));
    assert_eq!(world.heard(waiting), None);
    world.full = None;
    world.pass(Duration::from_secs(1));
    world.send(publisher, 40);
    let heard = world.heard(waiting).expect("it is answered");
    assert!(heard.split(' ').nth(1).and_then(|number| number.parse().ok()) >= Some(newest), "{heard}");
}

#[test]
fn thousands_that_wait_may_all_leave_at_once() {
    const COUNT: usize = 20_000;
    let mut world = World::new(1, LINGER);
    let (name, publisher) = world.publish(0, "h264", 6000);
    let first = world.peer(0);
    world.tell(first, &format!("list {name} video"));
    world.send(publisher, 4040);
    let words = format!("list {name} video 4");
    let held: Vec<ConnectionId> = (0..COUNT).map(|_| world.peer(0).1).collect();
    let (hub, now) = (&mut world.hubs[0], world.now);
    for connection in &held {
        hub.handle(Input::Received { connection: *connection, bytes: words.as_bytes() }, now);
        while hub.poll(now).is_some() {}
    }
    assert_eq!(hub.stats().held_requests, COUNT as u64);
    for connection in held.iter().rev().skip(10) {
        hub.handle(Input::Closed { connection: *connection, how: Lost::Eof }, now);
        while hub.poll(now).is_some() {}
    }
    assert_eq!(hub.stats().held_requests, 10);
    world.send(publisher, 4040);
    assert_eq!(world.hubs[0].stats().held_requests, 0);
    let told = held.iter().filter(|held| world.heard.contains_key(&(0, **held))).count();
    assert_eq!(told, 10, "whoever stayed is answered");
}

/// A stream is over as soon as its publisher has gone.
fn settings_without_patience() -> Settings {
    let packaging = segment::Settings { linger: LINGER, ..segment::Settings::default() };
    let mut settings = Settings { packaging, ..Settings::default() };
    settings.default.limits.reconnect_window = Duration::ZERO;
    settings
}

#[test]
fn whoever_asks_again_while_a_stream_ends_finds_what_is_left_of_it() {
    let mut world = World::of(1, settings_without_patience());
    let (name, publisher) = world.publish(0, "h264", 2_000);
    let early = world.peer(0);
    world.tell(early, &format!("list {name} video"));
    world.send(publisher, 8040);
    let list = world.list(0, &format!("{name} video"));
    let next = list.split(' ').nth(1).expect("three numbers");
    // The answer to the first comes with the end, and the second is asked at once.
    let waits = world.peer(0);
    world.tell(waits, &format!("list {name} video {next}; list {name} video"));
    assert_eq!(world.heard(waits), None);
    world.tell(publisher, "done");
    world.pass(Duration::from_millis(1));
    let list = world.heard(waits).expect("both are answered");
    assert!(list.ends_with(" ended"), "{list}");
    assert_eq!(world.list(0, &format!("{name} video")), list);
    assert_eq!(world.packages(0), 1);
}

#[test]
fn the_list_of_a_stream_on_demand_is_waited_for_on_every_core_and_again_after_its_end() {
    for core in 0..2 {
        let name = {
            let mut world = World::new(2, LINGER);
            world.publish(0, "h264", 0).0
        };
        let mut settings = settings_without_patience();
        settings.on_demand.insert(StreamName::parse(&name).expect("a legal name"));
        let mut world = World::of(2, settings);
        // Twice: what the first time has left is over, and says nothing of the second.
        for _ in 0..2 {
            let early = world.peer(core);
            world.tell(early, &format!("list {name} video"));
            assert_eq!(world.heard(early), None, "it waits, though nobody publishes");
            let viewers: u64 = world.hubs.iter().map(|hub| hub.stats().viewers).sum();
            assert_eq!(viewers, 1, "and is counted as one who does");
            let (found, publisher) = world.publish(0, "h264", 12_000);
            assert_eq!(found, name);
            let list = world.heard(early).expect("it is answered");
            assert!(list.ends_with(" 0"), "a list that goes on: {list}");
            world.tell(publisher, "done");
            world.pass(Duration::from_millis(1));
        }
    }
}
