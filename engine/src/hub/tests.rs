//! In which order a hub sends, seen without sockets.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};

use super::{ConnectionId, Hub, Input, Lost, Output};
use crate::{
    access::{Action, Authenticator, Request, Verdict},
    codec::{Codec, Parameters, samples},
    error::Error,
    limits,
    media::{Frame, Payload, StreamName, TrackId},
    message::CoreId,
    observe::StreamEvent,
    session::{self, Answer, Event, Form, Opening, Session, Start, Wire},
    settings::Settings,
    time::{MediaTime, Now},
};

/// A peer that says what it wants in a word: publish, watch, ask for an answer. Anything else is the number of a frame.
#[derive(Default)]
struct Peer(VecDeque<session::Output>);

impl Session for Peer {
    fn handle(&mut self, input: session::Input<'_>, _: Now) -> Result<(), Error> {
        let said = match input {
            session::Input::Received(said) => said,
            session::Input::Described(opening) => {
                let tracks = opening.parameters.len().to_string();
                self.0.push_back(session::Output::Send(tracks.into()));
                return Ok(());
            }
            session::Input::Answer(Answer::Refused(_)) => {
                self.0.push_back(session::Output::Send(Bytes::from_static(b"no")));
                return Ok(());
            }
            _ => return Ok(()),
        };
        let name = StreamName::new("live", "cam").unwrap();
        self.0.push_back(match said {
            b"publish" => session::Output::Event(Event::Publish { name, query: String::new() }),
            b"watch" => session::Output::Event(Event::Play { name, query: String::new(), form: &FORM }),
            b"count" => session::Output::Event(Event::Play { name, query: String::new(), form: &COUNTED }),
            b"tell" => session::Output::Event(Event::Describe { name, query: String::new() }),
            b"pictures" => session::Output::Event(Event::Frame(parameters(TrackId::VIDEO))),
            b"sound" => session::Output::Event(Event::Frame(parameters(TrackId::AUDIO))),
            b"ask" => session::Output::Send(Bytes::from_static(b"answer")),
            number => session::Output::Event(Event::Frame(key_frame(number[0]))),
        });
        Ok(())
    }
    fn poll(&mut self) -> Option<session::Output> {
        self.0.pop_front()
    }
    fn deadline(&self) -> Option<Now> {
        None
    }
    fn received(&self) -> u64 {
        0
    }
    fn begins_at(&mut self, starts: &[Start]) {
        let said = starts.iter().map(|start| format!("from {} at {}.", start.sequence, start.timestamp));
        self.0.push_back(session::Output::Send(said.collect::<String>().into()));
    }
}

static COUNTED: Form = Form { name: "counted", datagram: None, prompt: false, open: || Box::new(Counted(0)) };

/// The times of frames, which are counted.
struct Counted(u16);

impl Wire for Counted {
    fn header(&mut self, _: &Opening, _: &Frame, _: &mut BytesMut) {}
    fn refresh(&mut self, _: &Opening, _: &Frame, _: &mut BytesMut) {}
    fn starts(&self, at: &Frame) -> Vec<Start> {
        vec![Start { track: at.track, sequence: self.0, timestamp: at.pts.ticks as u32 }]
    }
    fn frame(&mut self, frame: &Frame, out: &mut BytesMut) {
        out.extend_from_slice(format!("[{} at {}]", self.0, frame.pts.ticks).as_bytes());
        self.0 += 1;
    }
}

static FORM: Form = Form { name: "plain", datagram: None, prompt: false, open: || Box::new(Plain) };

/// The payloads, and nothing else.
struct Plain;

impl Wire for Plain {
    fn header(&mut self, _: &Opening, _: &Frame, out: &mut BytesMut) {
        out.extend_from_slice(b"head");
    }
    fn refresh(&mut self, _: &Opening, _: &Frame, _: &mut BytesMut) {}
    fn frame(&mut self, frame: &Frame, out: &mut BytesMut) {
        if let Payload::Video { data, .. } = &frame.payload {
            out.extend_from_slice(data);
        }
    }
}

fn key_frame(number: u8) -> Frame {
    let dts = MediaTime::from_millis(i64::from(number) * 40);
    let data = Bytes::from_static(&[0, 0, 0, 1, 0x65]);
    Frame {
        track: TrackId::VIDEO,
        dts,
        pts: dts,
        payload: Payload::Video { codec: Codec::H264, key: true, data },
    }
}

/// The parameters of a track. What they say does not matter here but for their kind.
fn parameters(track: TrackId) -> Frame {
    let parameters = match track {
        TrackId::VIDEO => {
            let configuration = samples::hex(samples::H264_HIGH_720).into();
            Parameters::parse(Codec::H264, configuration).unwrap()
        }
        _ => Parameters::of_opus(2),
    };
    let time = MediaTime::from_millis(0);
    Frame { track, dts: time, pts: time, payload: Payload::Parameters(Arc::new(parameters)) }
}

/// A session that is always late, whatever is done about it.
#[derive(Default)]
struct Hasty(u32);

impl Session for Hasty {
    fn handle(&mut self, input: session::Input<'_>, _: Now) -> Result<(), Error> {
        self.0 += u32::from(matches!(input, session::Input::Timeout));
        assert!(self.0 < 1000, "the hub comes back from it");
        Ok(())
    }
    fn poll(&mut self) -> Option<session::Output> {
        None
    }
    fn deadline(&self) -> Option<Now> {
        Some(Now(0))
    }
    fn received(&self) -> u64 {
        u64::from(self.0)
    }
}

struct Room {
    hub: Hub,
    now: Now,
}

impl Room {
    fn peer(&mut self, slot: u32) -> ConnectionId {
        let connection = ConnectionId { slot, generation: 0 };
        let (peer, session) = (SocketAddr::from(([127, 0, 0, 1], 9)), Box::<Peer>::default());
        self.hub.handle(Input::Connected { connection, door: "test", peer, session }, self.now);
        connection
    }

    fn say(&mut self, connection: ConnectionId, bytes: &[u8]) {
        self.hub.handle(Input::Received { connection, bytes }, self.now);
    }

    /// Who is sent something next; the kernel takes it at once.
    fn next(&mut self) -> Option<u32> {
        loop {
            if let Output::Send { connection, bytes } = self.hub.poll(self.now)? {
                let result = Ok(bytes.len());
                self.hub.handle(Input::Sent { connection, result }, self.now);
                return Some(connection.slot);
            }
        }
    }

    /// A flush with all viewers in the queue.
    fn flush(&mut self, number: u8) {
        self.say(ConnectionId { slot: 0, generation: 0 }, &[number]);
        self.now = self.hub.deadline().unwrap();
        self.hub.handle(Input::Timeout, self.now);
    }
}

/// A room with a stream (by peer 0) that nine viewers watch.
fn room() -> Room {
    let hub = Hub::new(CoreId(0), 1, Arc::new(Settings::default()));
    let mut room = Room { hub, now: Now(1_000_000_000) };
    let publisher = room.peer(0);
    room.say(publisher, b"publish");
    room.flush(1);
    for slot in 1..10 {
        let viewer = room.peer(slot);
        room.say(viewer, b"watch");
    }
    while room.next().is_some() {}
    room
}

#[test]
fn whoever_comes_in_during_a_flush_is_answered_before_the_crowd() {
    let mut room = room();
    room.flush(2);
    assert!((1..10).contains(&room.next().unwrap()), "the crowd is being sent to");
    let guest = room.peer(10);
    assert!((1..10).contains(&room.next().unwrap()), "the guest has said nothing yet");
    for _ in 0..3 {
        room.say(guest, b"ask");
        assert_eq!(room.next(), Some(10));
        assert!((1..10).contains(&room.next().unwrap()), "and the crowd goes on meanwhile");
    }
    room.say(guest, b"watch");
    assert_eq!(room.next(), Some(10), "the first of the stream, too");
}

#[test]
fn a_viewer_begins_where_its_session_was_told_though_a_newer_entrance_comes_before_its_first_bytes() {
    let mut room = room();
    room.flush(2);
    let guest = room.peer(10);
    room.say(guest, b"count");
    room.flush(3);
    let mut said = Vec::new();
    while let Some(output) = room.hub.poll(room.now) {
        let Output::Send { connection, bytes } = output else { continue };
        if connection == guest {
            said.extend_from_slice(&bytes);
        }
        room.hub.handle(Input::Sent { connection, result: Ok(bytes.len()) }, room.now);
    }
    assert_eq!(String::from_utf8_lossy(&said), "from 0 at 80.[0 at 80][1 at 120]");
    // Another comes to the newest.
    let other = room.peer(11);
    room.say(other, b"count");
    let told = std::iter::from_fn(|| room.hub.poll(room.now)).find_map(|output| match output {
        Output::Send { connection, bytes } if connection == other => Some(bytes),
        _ => None,
    });
    assert_eq!(told.as_deref(), Some(&b"from 1 at 120."[..]));
}

#[test]
fn flushes_that_nobody_has_time_to_send_do_not_make_the_queue_longer_and_longer() {
    let mut room = room();
    for number in 2..202 {
        room.flush(number);
    }
    assert!(room.hub.ready.len() <= 3 * 10, "{} in the queue, of nine viewers", room.hub.ready.len());
    let mut sent: Vec<_> = std::iter::from_fn(|| room.next()).filter(|slot| *slot > 0).collect();
    sent.sort();
    sent.dedup();
    assert!(sent.into_iter().eq(1..10), "each has its turn");
}

#[test]
fn a_session_that_is_always_late_holds_up_nobody() {
    let mut room = room();
    let connection = ConnectionId { slot: 10, generation: 0 };
    let (peer, session) = (SocketAddr::from(([127, 0, 0, 1], 9)), Box::<Hasty>::default());
    room.hub.handle(Input::Connected { connection, door: "test", peer, session }, room.now);
    for number in 2..20 {
        let before = room.now;
        room.say(ConnectionId { slot: 0, generation: 0 }, &[number]);
        while room.next().is_none() {
            room.now = room.hub.deadline().unwrap().max(room.now);
            room.hub.handle(Input::Timeout, room.now);
            assert!(room.hub.deadline().unwrap() > room.now, "there is a pause");
        }
        assert!(room.now.since(before) <= Duration::from_millis(41), "the others are flushed as ever");
        while room.next().is_some() {}
    }
    assert_eq!(room.hub.stats().errors_panicked, 0);
}

impl Room {
    /// An empty room whose viewers wait so long for a publisher.
    fn patient(patience: Duration) -> Self {
        let mut settings = Settings::default();
        settings.default.limits.wait_for_publisher = patience;
        Room { hub: Hub::new(CoreId(0), 1, Arc::new(settings)), now: Now(1_000_000_000) }
    }

    /// What peer 9 is told, and how long after `since`; nothing if it is not told within two seconds.
    fn told(&mut self, since: Now) -> Option<(Bytes, Duration)> {
        while self.now.since(since) < Duration::from_secs(2) {
            while let Some(output) = self.hub.poll(self.now) {
                let Output::Send { connection, bytes } = output else { continue };
                let result = Ok(bytes.len());
                self.hub.handle(Input::Sent { connection, result }, self.now);
                if connection.slot == 9 {
                    return Some((bytes, self.now.since(since)));
                }
            }
            self.hub.audit().unwrap();
            self.now = self.hub.deadline()?.max(self.now);
            self.hub.handle(Input::Timeout, self.now);
        }
        None
    }
}

#[test]
fn a_stream_is_described_when_both_its_tracks_are_known_or_no_other_is_to_come() {
    for (sound_comes, tracks, least, most) in [(true, "2", 0, 50), (false, "1", 500, 600)] {
        let mut room = Room::patient(Duration::from_secs(5));
        let curious = room.peer(9);
        room.say(curious, b"tell");
        let publisher = room.peer(0);
        room.say(publisher, b"publish");
        room.say(publisher, b"pictures");
        let began = room.now;
        room.say(publisher, &[1]);
        if sound_comes {
            room.say(publisher, b"sound");
        }
        let (told, after) = room.told(began).expect("it is told");
        assert_eq!(told, tracks);
        assert!((least..=most).contains(&(after.as_millis() as u64)), "{after:?}");
        // It watches nothing, and may ask again: then it is known at once.
        let asked = room.now;
        room.say(curious, b"tell");
        assert_eq!(room.told(asked), Some((Bytes::from_static(tracks.as_bytes()), Duration::ZERO)));
        room.say(curious, b"watch");
        assert_eq!(room.told(asked).expect("the stream begins").0, "head");
    }
}

#[test]
fn what_nobody_publishes_is_not_described() {
    let mut room = Room::patient(Duration::ZERO);
    let curious = room.peer(9);
    room.say(curious, b"tell");
    assert_eq!(room.told(room.now), Some((Bytes::from_static(b"no"), Duration::ZERO)));
    let mut room = Room::patient(Duration::from_secs(1));
    let curious = room.peer(9);
    room.say(curious, b"tell");
    let (told, after) = room.told(room.now).expect("it is told");
    assert_eq!((&told[..], after), (&b"no"[..], Duration::from_secs(1)));
    room.hub.audit().unwrap();
}

#[test]
fn whom_the_operator_sends_a_stream_to_needs_no_leave_and_is_nobody_who_watches() {
    /// Lets nobody play.
    struct Strict;
    impl Authenticator for Strict {
        fn allows(&self, request: &Request<'_>) -> Verdict {
            if request.action == Action::Publish || request.query == "key" {
                Verdict::Allowed
            } else {
                Verdict::Refused
            }
        }
    }
    let settings = Settings { access: Arc::new(Strict), ..Settings::default() };
    let mut room = Room { hub: Hub::new(CoreId(0), 1, Arc::new(settings)), now: Now(1_000_000_000) };
    room.hub.observe();
    assert!(room.hub.take_news().is_empty());
    let name = StreamName::new("live", "cam").unwrap();
    let publisher = room.peer(0);
    room.say(publisher, b"publish");
    room.say(publisher, &[1]);
    assert_eq!(room.hub.take_news(), std::slice::from_ref(&name));
    assert!(room.hub.is_live_here(&name) && room.hub.live().eq([&name]));
    // A stranger is refused; the target is not.
    let stranger = room.peer(1);
    room.say(stranger, b"watch");
    let target = room.peer(2);
    room.hub.trust(target);
    room.say(target, b"watch");
    let mut told = Vec::new();
    while let Some(output) = room.hub.poll(room.now) {
        match output {
            Output::Send { connection, bytes } => {
                told.push((connection.slot, bytes.clone()));
                let result = Ok(bytes.len());
                room.hub.handle(Input::Sent { connection, result }, room.now);
            }
            Output::Event(event) => {
                assert!(!matches!(event, StreamEvent::FirstViewer { .. }), "nobody watches");
            }
            _ => {}
        }
    }
    assert!(told.contains(&(1, Bytes::from_static(b"no"))), "{told:?}");
    assert!(told.contains(&(2, Bytes::from_static(b"head"))), "{told:?}");
    room.hub.handle(Input::Drain, room.now);
    assert_eq!(room.hub.take_news(), [name]);
}

#[test]
fn the_last_who_watches_goes_though_a_target_is_still_sent_to() {
    let mut room = room();
    room.hub.observe();
    let target = room.peer(10);
    room.hub.trust(target);
    room.say(target, b"watch");
    let mut said = Vec::new();
    for slot in 1..10 {
        let connection = ConnectionId { slot, generation: 0 };
        room.hub.handle(Input::Closed { connection, how: Lost::Eof }, room.now);
        while let Some(output) = room.hub.poll(room.now) {
            if let Output::Event(StreamEvent::LastViewer { .. }) = output {
                said.push(slot);
            }
        }
    }
    assert_eq!(said, [9]);
    assert_eq!(room.hub.streams()[0].viewers, 1, "it is a viewer all the same");
}

#[test]
fn a_stream_that_is_fetched_on_demand_is_waited_for_whatever_its_app_says() {
    let mut settings = Settings::default();
    let name = StreamName::parse("live/cam").expect("a legal name");
    settings.on_demand.insert(name.clone());
    for words in [&b"watch"[..], b"tell"] {
        let hub = Hub::new(CoreId(0), 1, Arc::new(settings.clone()));
        let mut room = Room { hub, now: Now(1_000_000_000) };
        room.hub.observe();
        let viewer = room.peer(9);
        room.say(viewer, words);
        let first = StreamEvent::FirstViewer { name: name.clone() };
        assert!(
            std::iter::from_fn(|| room.hub.poll(room.now))
                .any(|output| matches!(output, Output::Event(event) if event == first))
        );
        let began = room.now;
        // What does not come is not waited for without end.
        room.now = room.now.after(limits::ON_DEMAND_TIME_MAX - Duration::from_millis(1));
        room.hub.handle(Input::Timeout, room.now);
        assert!(room.hub.audit().is_ok() && room.hub.stats().viewers == 1);
        room.now = began.after(limits::ON_DEMAND_TIME_MAX);
        room.hub.handle(Input::Timeout, room.now);
        assert_eq!(room.told(room.now).expect("it is told").0, "no");
        assert_eq!(room.hub.stats().viewers, 0);
    }
}
