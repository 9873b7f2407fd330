//! Callers and whoever is called: greeting, handshake, wish, stream, goodbye.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;

use super::Way;
use crate::{
    datagram::Greeting,
    error::{Error, ErrorKind},
    limits::{DoorLimits, Secret, SrtSettings},
    media::StreamName,
    session::{Answer, Event, Input, Output, Refusal, Session as _},
    srt::{
        Caller, Session, Target, greet,
        handshake::{Handshake, Hello, kind},
        packet::{Control, Kind, Packet},
    },
    time::Now,
};

const MILLISECOND: u64 = 1_000_000;

fn address() -> SocketAddr {
    ([192, 0, 2, 1], 5000).into()
}

fn limits(passphrase: Option<&str>) -> DoorLimits {
    let settings = SrtSettings { passphrase: passphrase.map(str::to_owned), ..SrtSettings::default() };
    DoorLimits { secret: Secret([6; 32]), srt: Arc::new(settings), ..DoorLimits::default() }
}

/// One side, as a driver has it.
struct Side<S> {
    session: Option<S>,
    out: VecDeque<Bytes>,
    wishes: Vec<String>,
    frames: usize,
    done: bool,
    closed: Option<Result<(), Error>>,
    answer: Answer,
}

impl<S: crate::session::Session> Side<S> {
    fn new(session: Option<S>, answer: Answer) -> Self {
        let (out, wishes) = (VecDeque::new(), Vec::new());
        Side { session, out, wishes, frames: 0, done: false, closed: None, answer }
    }

    fn give(&mut self, input: Input<'_>, now: Now) {
        if self.closed.is_some() {
            return;
        }
        let Some(session) = &mut self.session else { return };
        let result = session.handle(input, now);
        self.take(now);
        if let (Err(error), None) = (result, &self.closed) {
            self.closed = Some(Err(error));
        }
    }

    fn take(&mut self, now: Now) {
        let mut asked = false;
        while let Some(output) = self.session.as_mut().and_then(|session| session.poll()) {
            match output {
                Output::Send(bytes) => self.out.push_back(bytes),
                Output::Datagrams { bytes, size } => {
                    let size = usize::from(size);
                    (0..bytes.len()).step_by(size).for_each(|start| {
                        self.out.push_back(bytes.slice(start..bytes.len().min(start + size)));
                    });
                }
                Output::Event(Event::Publish { name, query }) => {
                    asked = true;
                    self.wishes.push(format!("publish {} {query}", name.as_str()));
                }
                Output::Event(Event::Play { name, query, .. }) => {
                    asked = true;
                    self.wishes.push(format!("play {} {query}", name.as_str()));
                }
                Output::Event(Event::Frame(_)) => self.frames += 1,
                Output::Event(Event::Unpublish) => self.done = true,
                Output::Close => self.closed = Some(Ok(())),
                other => panic!("{other:?}"),
            }
        }
        if asked {
            self.give(Input::Answer(self.answer), now);
        }
    }

    fn time(&mut self, now: Now) {
        if self.session.as_ref().and_then(|session| session.deadline()).is_some_and(|due| due <= now) {
            self.give(Input::Timeout, now);
        }
    }
}

/// A caller, a door, and the way between them.
struct Call {
    caller: Side<Caller>,
    called: Side<Session>,
    limits: DoorLimits,
    there: Way,
    back: Way,
    now: Now,
}

impl Call {
    fn new(url: &str, push: bool, passphrase: Option<&str>, answer: Answer) -> Call {
        let target = Target::parse(url).unwrap();
        let name = StreamName::parse("here/cam").unwrap();
        let limits = limits(passphrase);
        let ours = if push { Answer::Playing } else { Answer::Publishing };
        let caller = if push {
            Caller::push(target, name, &limits, Now(0))
        } else {
            Caller::pull(target, name, &limits, Now(0))
        };
        Call {
            caller: Side::new(Some(caller), ours),
            called: Side::new(None, answer),
            limits,
            there: Way::good(5),
            back: Way::good(5),
            now: Now(0),
        }
    }

    fn step(&mut self) {
        let now = self.now;
        while let Some(datagram) = self.there.next(now) {
            match greet(&datagram, address(), &self.limits, now) {
                Greeting::Answer(answer) => self.back.send(&answer, now),
                Greeting::Begin => {
                    let limits = &self.limits;
                    self.called.session.get_or_insert_with(|| Session::new(limits, now));
                    self.called.give(Input::Received(&datagram), now);
                }
                Greeting::Known => self.called.give(Input::Received(&datagram), now),
                Greeting::Ignore | Greeting::For(_) => {}
            }
        }
        while let Some(datagram) = self.back.next(now) {
            self.caller.give(Input::Received(&datagram), now);
        }
        self.caller.time(now);
        self.called.time(now);
        while let Some(datagram) = self.caller.out.pop_front() {
            self.there.send(&datagram, now);
        }
        while let Some(datagram) = self.called.out.pop_front() {
            self.back.send(&datagram, now);
        }
        self.now = Now(now.0 + MILLISECOND);
    }

    fn run(&mut self, millis: u64) {
        (0..millis).for_each(|_| self.step());
    }
}

/// Packets of sound with the tables before each.
fn stream(packets: u8) -> Bytes {
    use crate::{
        codec::{Codec, Parameters},
        container::Track,
        media::{Frame, Payload, TrackId},
        mpegts::Segmenter,
        time::MediaTime,
    };
    let parameters = Arc::new(Parameters::of_opus(2));
    let track = Track { id: TrackId::AUDIO, parameters, rate: 48_000 };
    let mut segmenter = Segmenter::new(&[track], MediaTime::from_millis(0));
    let mut out = bytes::BytesMut::new();
    for number in 0..packets {
        let time = MediaTime { ticks: i64::from(number) * 960, rate: 48_000 };
        let payload = Payload::Audio { codec: Codec::Opus, data: Bytes::from(vec![0xfc, number]) };
        segmenter.write(&[Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }], &mut out);
    }
    out.freeze()
}

fn carry(side: &mut Side<impl crate::session::Session>, mut bytes: Bytes, now: Now) {
    let session = side.session.as_mut().unwrap();
    while !bytes.is_empty() {
        assert!(session.room(now) > 0);
        let taken = session.carry(&bytes, &mut crate::session::Shelf::default(), now);
        bytes = bytes.slice(taken..);
    }
    side.take(now);
}

#[test]
fn a_stream_is_pushed_with_and_without_a_passphrase_and_ends_where_its_publisher_does() {
    for (query, passphrase) in [
        ("", None),
        ("&passphrase=a%20long%20passphrase", Some("a long passphrase")),
        ("&passphrase=a%20long%20passphrase&pbkeylen=32", Some("a long passphrase")),
    ] {
        let url = format!("srt://origin:9000?streamid=publish:live/cam{query}");
        let mut call = Call::new(&url, true, passphrase, Answer::Publishing);
        call.run(100);
        assert_eq!(
            (&call.called.wishes[..], &call.caller.wishes[..]),
            (&["publish live/cam ".to_owned()][..], &["play here/cam ".to_owned()][..])
        );
        carry(&mut call.caller, stream(50), call.now);
        call.run(1000);
        let heard = call.called.frames;
        assert!(heard >= 49, "{heard}: all but the one that another could go on");
        call.caller.give(Input::Ended, call.now);
        call.run(1000);
        assert_eq!((call.caller.closed, call.called.closed), (Some(Ok(())), Some(Ok(()))));
        assert!(call.called.done);
        let path = call.called.session.unwrap().path().unwrap();
        assert!(path.received_packets > 0 && path.connections == 0, "what it has counted stays: {path:?}");
    }
}

#[test]
fn a_stream_is_pulled_through_a_network_that_loses_handshakes_too() {
    let url =
        "srt://origin:9000?streamid=%23!::r=live/cam,m=request&latency=400&passphrase=a%20long%20passphrase";
    let mut call = Call::new(url, false, Some("a long passphrase"), Answer::Playing);
    call.there = Way::bad(5, 300, 100, 20, 5);
    call.back = Way::bad(6, 300, 100, 20, 5);
    call.run(3000);
    assert_eq!(call.called.wishes, ["play live/cam "]);
    assert_eq!(call.caller.wishes, ["publish here/cam "]);
    for _ in 0..10 {
        carry(&mut call.called, stream(50), call.now);
        call.run(100);
    }
    call.run(2000);
    let (ours, theirs) =
        (call.called.session.as_ref().unwrap().path(), call.caller.session.as_ref().unwrap().path());
    let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
    assert!(theirs.recovered_packets > 5, "{theirs:?}");
    assert_eq!((theirs.lost_packets, theirs.unreadable_packets, ours.given_up_packets), (0, 0, 0));
    assert!(call.caller.frames > 490);
}

#[test]
fn whoever_is_refused_is_told_why() {
    let url = "srt://origin:9000?streamid=read:live/cam";
    for (refusal, why) in [
        (Refusal::NotFound, "refused there: no such stream"),
        (Refusal::AlreadyLive, "refused there: publisher already live"),
        (Refusal::Forbidden, "refused there: not allowed"),
        (Refusal::Full, "refused there: a limit is reached"),
    ] {
        let mut call = Call::new(url, false, None, Answer::Refused(refusal));
        call.run(100);
        let error = call.caller.closed.unwrap().unwrap_err();
        assert_eq!((error.kind, error.why), (ErrorKind::Refused, why));
        assert!(call.called.closed.unwrap().is_err());
    }
    for (url, passphrase, why) in [
        ("srt://o:1?streamid=cam", None, "refused there: the stream id says nothing to it"),
        ("srt://o:1", None, "refused there: the stream id says nothing to it"),
        ("srt://o:1?streamid=write:live/cam", None, "refused there: the mode is not to be had"),
        (
            "srt://o:1?streamid=live/cam",
            Some("a long passphrase"),
            "refused there: one side has a passphrase and the other has none",
        ),
        (
            "srt://o:1?streamid=live/cam&passphrase=0123456789",
            None,
            "refused there: one side has a passphrase and the other has none",
        ),
        (
            "srt://o:1?streamid=live/cam&passphrase=0123456789",
            Some("a long passphrase"),
            "refused there: the passphrase is another one",
        ),
    ] {
        let mut call = Call::new(url, false, passphrase, Answer::Playing);
        call.run(100);
        let error = call.caller.closed.unwrap().unwrap_err();
        assert_eq!((error.kind, error.why), (ErrorKind::Refused, why), "{url}");
        assert_eq!(call.called.wishes, [""; 0]);
    }
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let mut call = Call::new("srt://o:1?streamid=live/cam", false, None, Answer::Playing);
    call.there = Way::bad(1, 1000, 0, 5, 0);
    call.run(10_100);
    assert_eq!(call.caller.closed.unwrap().unwrap_err().kind, ErrorKind::TimedOut);
    assert!((39..=42).contains(&call.there.dropped), "four words a second: {}", call.there.dropped);
}

#[test]
fn silence_ends_both_sides_and_an_idle_connection_stays() {
    let mut call = Call::new("srt://o:1?streamid=live/cam", false, None, Answer::Playing);
    call.run(30_000);
    assert!(call.caller.closed.is_none() && call.called.closed.is_none(), "they keep each other awake");
    (call.there, call.back) = (Way::bad(1, 1000, 0, 5, 0), Way::bad(1, 1000, 0, 5, 0));
    call.run(5_100);
    for closed in [call.caller.closed, call.called.closed] {
        assert_eq!(closed.unwrap().unwrap_err().kind, ErrorKind::TimedOut);
    }
}

#[test]
fn a_shutdown_of_the_node_is_said() {
    let mut call = Call::new("srt://o:1?streamid=live/cam", false, None, Answer::Playing);
    call.run(100);
    call.called.give(Input::Shutdown, call.now);
    call.run(20);
    assert_eq!((call.caller.closed, call.caller.done), (Some(Ok(())), true));
}

fn word(handshake: &Handshake) -> Bytes {
    let body = handshake.write(false);
    Control { kind: Kind::Handshake(&body), timestamp: 0, to: 0 }.write()
}

fn conclusion(cookie: u32, socket: u32) -> Handshake {
    Handshake {
        version: 5,
        extension: 5,
        first: 9,
        mtu: 1500,
        window: 8192,
        kind: kind::CONCLUSION,
        socket,
        cookie,
        hello: Some(Hello { version: 0x10500, flags: 0x3f, receiver_latency: 120, sender_latency: 120 }),
        stream_id: Some(b"publish:live/cam".to_vec()),
        ..Handshake::default()
    }
}

fn cookie_of(limits: &DoorLimits, from: SocketAddr, now: Now) -> u32 {
    let asked = Handshake {
        version: 4,
        extension: 2,
        kind: kind::INDUCTION,
        socket: 5,
        mtu: 1500,
        ..Handshake::default()
    };
    let asked = word(&asked);
    let Greeting::Answer(answer) = greet(&asked, from, limits, now) else { panic!("it is answered") };
    assert!(answer.len() <= asked.len(), "nobody is flooded by way of us");
    let Ok(Packet::Control(Control { kind: Kind::Handshake(body), to: 5, .. })) = Packet::read(&answer)
    else {
        panic!("it goes to the caller's socket")
    };
    Handshake::read(body).unwrap().cookie
}

#[test]
fn only_who_shows_the_cookie_of_its_address_has_a_session_and_for_a_while_only() {
    let (limits, now) = (limits(None), Now(31_000_000_000));
    let cookie = cookie_of(&limits, address(), now);
    let shown = word(&conclusion(cookie, 5));
    assert_eq!(greet(&shown, address(), &limits, now), Greeting::Begin);
    assert_eq!(greet(&shown, address(), &limits, Now(60_000_000_000)), Greeting::Begin);
    assert_eq!(greet(&shown, address(), &limits, Now(91_000_000_000)), Greeting::Ignore);
    for other in [([192, 0, 2, 1], 5001).into(), ([192, 0, 2, 2], 5000).into()] {
        assert_eq!(greet(&shown, other, &limits, now), Greeting::Ignore, "{other}");
    }
    let forged = word(&conclusion(cookie ^ 1, 5));
    assert_eq!(greet(&forged, address(), &limits, now), Greeting::Ignore);
    let unlike = DoorLimits { secret: Secret([7; 32]), ..limits };
    assert_eq!(greet(&shown, address(), &unlike, now), Greeting::Ignore);
    for nothing in [&b""[..], b"hello", &[0x80; 16], &[0; 1000], &shown[..40]] {
        assert!(matches!(greet(nothing, address(), &unlike, now), Greeting::Known | Greeting::Ignore));
    }
}

fn answered(session: &mut Session) -> u32 {
    let Some(Output::Send(answer)) = session.poll() else { panic!("an answer") };
    let Ok(Packet::Control(Control { kind: Kind::Handshake(body), .. })) = Packet::read(&answer) else {
        panic!("a handshake")
    };
    Handshake::read(body).unwrap().kind
}

#[test]
fn a_handshake_that_was_not_heard_is_answered_again_and_another_caller_ends_the_old_one() {
    let mut session = Session::new(&limits(None), Now(0));
    session.handle(Input::Received(&word(&conclusion(1, 5))), Now(0)).unwrap();
    assert!(matches!(session.poll(), Some(Output::Event(Event::Publish { .. }))));
    session.handle(Input::Answer(Answer::Publishing), Now(0)).unwrap();
    assert_eq!(answered(&mut session), kind::CONCLUSION);
    session.handle(Input::Received(&word(&conclusion(1, 5))), Now(1)).unwrap();
    assert_eq!(answered(&mut session), kind::CONCLUSION);
    session.handle(Input::Received(&word(&conclusion(1, 6))), Now(2)).unwrap();
    let outputs: Vec<Output> = std::iter::from_fn(|| session.poll()).collect();
    assert!(matches!(outputs.last(), Some(Output::Close)), "{outputs:?}");
}

#[test]
fn what_cannot_be_agreed_on_is_refused_with_its_number() {
    let refused = |change: &dyn Fn(&mut Handshake)| {
        let mut session = Session::new(&limits(None), Now(0));
        let mut handshake = conclusion(1, 5);
        change(&mut handshake);
        session.handle(Input::Received(&word(&handshake)), Now(0)).unwrap_err();
        answered(&mut session) - kind::REFUSED
    };
    assert_eq!(refused(&|handshake| handshake.hello = None), 4);
    assert_eq!(refused(&|handshake| handshake.hello.as_mut().unwrap().version = 0x10200), 8);
    assert_eq!(refused(&|handshake| handshake.hello.as_mut().unwrap().flags |= 0x40), 12);
    assert_eq!(refused(&|handshake| handshake.hello.as_mut().unwrap().flags = 0), 4);
    assert_eq!(refused(&|handshake| handshake.congestion = Some(b"file".to_vec())), 13);
    assert_eq!(refused(&|handshake| handshake.stream_id = None), 1400);
    assert_eq!(refused(&|handshake| handshake.keys = Some(vec![0; 72])), 11);
}

#[test]
fn packets_for_another_socket_are_passed_over_and_too_many_of_them_end_it() {
    let mut session = Session::new(&limits(None), Now(0));
    session.handle(Input::Received(&word(&conclusion(1, 5))), Now(0)).unwrap();
    session.poll();
    session.handle(Input::Answer(Answer::Publishing), Now(0)).unwrap();
    while session.poll().is_some() {}
    let stray = Control { kind: Kind::Shutdown, timestamp: 0, to: 77 }.write();
    let ended = (0..2000).find(|_| session.handle(Input::Received(&stray), Now(0)).is_err());
    assert_eq!(ended, Some(999));
}

#[test]
fn targets_are_read_as_others_write_them_and_show_no_secret() {
    let target = Target::parse("srt://[::1]:9000?passphrase=0123456789&pbkeylen=32&mode=caller").unwrap();
    assert_eq!((&target.host[..], target.port, target.key_length), ("::1", 9000, 32));
    assert_eq!(format!("{target:?}"), "Target(srt://::1:9000)");
    assert_eq!(target.latency, Duration::from_millis(120));
    for (url, at) in [
        ("rtmp://a:1", 0),
        ("srt://a", 6),
        ("srt://:1", 6),
        ("srt://a:0", 6),
        ("srt://a:99999", 6),
        ("srt://a:1?latency=x", 10),
        ("srt://a:1?latency=9&passphrase=short", 20),
        ("srt://a:1?mode=listener", 10),
        ("srt://a:1?maxbw=1", 10),
        ("srt://a:1?streamid", 10),
    ] {
        assert_eq!(Target::parse(url).map_err(|error| error.at), Err(at), "{url}");
    }
}

/// What the clock of whoever sent this datagram shows, in microseconds.
fn shown(output: Option<Output>) -> (Bytes, u32) {
    let Some(Output::Send(bytes)) = output else { panic!("{output:?}") };
    let timestamp = u32::from_be_bytes(bytes[8..12].try_into().unwrap());
    (bytes, timestamp)
}

#[test]
fn a_handshake_that_comes_late_or_again_shows_what_the_clock_shows_by_then() {
    let limits = limits(None);
    let at = |millis: u64| Now((1000 + millis) * MILLISECOND);
    let target = Target::parse("srt://192.0.2.7:8890?streamid=read:live/cam").unwrap();
    let mut caller = Caller::pull(target, StreamName::new("live", "cam").unwrap(), &limits, at(0));
    caller.handle(Input::Timeout, at(0)).unwrap();
    let Greeting::Answer(cookie) = greet(&shown(caller.poll()).0, address(), &limits, at(0)) else {
        panic!()
    };
    caller.handle(Input::Received(&cookie), at(40)).unwrap();
    let (first, time) = shown(caller.poll());
    assert_eq!(time, 40_000);
    // It was lost. What goes instead is the same word at another time.
    caller.handle(Input::Timeout, at(290)).unwrap();
    let (again, time) = shown(caller.poll());
    assert_eq!((time, &again[12..]), (290_000, &first[12..]));

    // The stream begins only later: the clock has begun with the handshake.
    let mut session = Session::new(&limits, at(300));
    session.handle(Input::Received(&again), at(300)).unwrap();
    assert!(matches!(session.poll(), Some(Output::Event(Event::Play { .. }))));
    session.handle(Input::Answer(Answer::Playing), at(3300)).unwrap();
    assert_eq!(shown(session.poll()).1, 3_000_000);
    // The answer was lost, too.
    session.handle(Input::Received(&again), at(3500)).unwrap();
    assert_eq!(shown(session.poll()).1, 3_200_000);
}
