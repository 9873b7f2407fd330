//! A node inside this program, by its public interface alone.

use std::{
    collections::VecDeque,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use shardcast_engine::{
    access::{Action, Authenticator, Request, Verdict},
    codec::Codec,
    demo::{CLIP, Demo},
    error::Error,
    limits::StreamLimits,
    media::{Frame, Payload, StreamName, TrackId},
    protocol::{HTTP, Protocol, RTMP, Transport},
    session::{Answer, Event, Input, Output, Refusal, Session},
    settings::{AppSettings, Settings},
    time::{MediaTime, Now},
};
use shardcast_shards::host::{
    Node, Observer, PublishError, StreamEvent, SubscribeError, Subscriber, TrySendError,
};
use shardcast_tests::clients::{
    media::{Clip, Kind},
    packets::Packets,
    server::Ports,
    wait_for,
};

/// How long anything here may take; far longer than it does.
const PATIENCE: Duration = Duration::from_secs(20);

fn name(text: &str) -> StreamName {
    StreamName::parse(text).expect("a legal name")
}

/// A picture of a stream with a key frame each second; its number is in its data.
fn picture(number: u32) -> Frame {
    let dts = MediaTime::from_millis(i64::from(number) * 40);
    let data = Bytes::from([&[0, 0, 0, 5, 0x65][..], &number.to_be_bytes()].concat());
    let key = number.is_multiple_of(25);
    Frame { track: TrackId::VIDEO, dts, pts: dts, payload: Payload::Video { codec: Codec::H264, key, data } }
}

fn here(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn number_of(frame: &Frame) -> Option<u32> {
    let Payload::Video { data, .. } = &frame.payload else { return None };
    Some(u32::from_be_bytes(data[data.len() - 4..].try_into().expect("a picture of this test")))
}

/// The numbers of the pictures that come until the stream is over.
fn read_to_end(mut subscriber: Subscriber) -> (Vec<u32>, SubscribeError) {
    let mut numbers = Vec::new();
    loop {
        match subscriber.next_blocking() {
            Ok(frame) => numbers.extend(number_of(&frame)),
            Err(over) => return (numbers, over),
        }
    }
}

/// Settings under which a stream ends as soon as its publisher goes.
fn brief() -> Settings {
    let limits = StreamLimits { reconnect_window: Duration::ZERO, ..StreamLimits::default() };
    Settings { default: AppSettings { limits, record: false }, ..Settings::default() }
}

#[test]
fn every_frame_reaches_every_subscriber_in_order_whichever_shard_owns_the_stream() {
    let node = Node::builder().shards(2).settings(brief()).start().unwrap();
    let streams: Vec<StreamName> = (0..6).map(|stream| name(&format!("live/cam{stream}"))).collect();
    let readers: Vec<_> = (0..3)
        .flat_map(|_| &streams)
        .map(|stream| {
            let subscriber = node.subscribe(stream);
            thread::spawn(move || read_to_end(subscriber))
        })
        .collect();
    let writers: Vec<_> = streams
        .iter()
        .map(|stream| {
            let mut publisher = node.publish(stream);
            thread::spawn(move || {
                for number in 0..3000 {
                    publisher.send_blocking(picture(number)).unwrap();
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    for reader in readers {
        let (numbers, over) = reader.join().unwrap();
        assert_eq!(over, SubscribeError::Ended);
        assert_eq!(numbers.len(), 3000);
        assert!(numbers.iter().copied().eq(0..3000));
    }
    node.stop().unwrap();
}

#[test]
fn whoever_comes_later_begins_at_the_newest_key_frame_with_what_must_be_known() {
    let node = Node::builder().start().unwrap();
    let stream = name("live/demo");
    let mut publisher = node.publish(&stream);
    let mut first = node.subscribe(&stream);
    let mut clip = Demo::new(CLIP).unwrap();
    let mut now = Now(0);
    let mut sent = Vec::new();
    // Some three groups, as fast as they are taken.
    while sent.iter().filter(|frame: &&Frame| frame.is_key()).count() < 4 {
        match clip.poll(now) {
            Some(frame) => {
                publisher.send_blocking(frame.clone()).unwrap();
                sent.push(frame);
            }
            None => now = clip.deadline().unwrap(),
        }
    }
    let newest = sent.last().unwrap().dts;
    while first.next_blocking().unwrap().dts != newest {}
    let mut late = node.subscribe(&stream);
    let mut opening = Vec::new();
    let entrance = loop {
        let frame = late.next_blocking().unwrap();
        if frame.is_media() {
            break frame;
        }
        opening.push(frame);
    };
    assert!(entrance.is_key() && entrance.dts == newest);
    let parameters = opening.iter().filter(|frame| matches!(frame.payload, Payload::Parameters(_))).count();
    assert_eq!(parameters, 2, "of pictures and sound: {opening:?}");
    assert_eq!(late.jumps(), 0);
}

#[test]
fn a_name_has_one_publisher_and_dropping_it_ends_nothing_of_another() {
    let stream = name("live/cam");
    let node = Node::builder().settings(brief()).start().unwrap();
    let mut holder = node.publish(&stream);
    holder.granted_blocking().unwrap();
    let mut second = node.publish(&stream);
    assert_eq!(second.granted_blocking(), Err(PublishError::Refused(Refusal::AlreadyLive)));
    assert!(matches!(second.try_send(picture(0)), Err(TrySendError::Closed(PublishError::Refused(_)))));
    holder.send_blocking(picture(0)).unwrap();

    let limits = StreamLimits { takeover: true, ..StreamLimits::default() };
    node.set_settings(Settings { default: AppSettings { limits, record: false }, ..Settings::default() });
    let mut heir = node.publish(&stream);
    heir.granted_blocking().unwrap();
    let mut subscriber = node.subscribe(&stream);
    heir.send_blocking(picture(25)).unwrap();
    while number_of(&subscriber.next_blocking().unwrap()) != Some(25) {}
    let gone = Instant::now();
    while holder.send_blocking(picture(1)).is_ok() {
        assert!(gone.elapsed() < PATIENCE, "the former publisher is told");
    }
    drop(holder);
    heir.send_blocking(picture(50)).unwrap();
    while number_of(&subscriber.next_blocking().unwrap()) != Some(50) {}
}

#[test]
fn an_app_has_as_many_streams_as_its_limit_says_at_the_time() {
    let with = |streams| {
        let limits = StreamLimits { streams, reconnect_window: Duration::ZERO, ..StreamLimits::default() };
        let apps = [("small".to_owned(), AppSettings { limits, record: false })].into();
        Settings { apps, ..Settings::default() }
    };
    let node = Node::builder().settings(with(2)).start().unwrap();
    let granted = |text: &str| {
        let mut publisher = node.publish(&name(text));
        publisher.granted_blocking().map(|()| publisher)
    };
    let (first, _second) = (granted("small/a").unwrap(), granted("small/b").unwrap());
    assert_eq!(granted("small/c").unwrap_err(), PublishError::Refused(Refusal::Full));
    let _other = granted("large/c").unwrap();
    drop(first);
    // Its stream ends a moment later.
    let _third = wait_for(PATIENCE, || granted("small/c").ok()).expect("there is room again");
    node.set_settings(with(3));
    let _fourth = granted("small/d").unwrap();
    assert_eq!(granted("small/e").unwrap_err(), PublishError::Refused(Refusal::Full));
}

#[test]
fn a_publisher_that_comes_back_goes_on_with_the_same_stream() {
    let stream = name("live/cam");
    let node = Node::builder().start().unwrap();
    let mut subscriber = node.subscribe(&stream);
    for _ in 0..3 {
        let mut publisher = node.publish(&stream);
        for number in 0..10 {
            publisher.send_blocking(picture(number)).unwrap();
        }
    }
    let (mut numbers, mut marks, mut times) = (Vec::new(), 0, Vec::new());
    while numbers.len() < 30 {
        let frame = subscriber.next_blocking().unwrap();
        marks += usize::from(matches!(frame.payload, Payload::Discontinuity));
        numbers.extend(number_of(&frame));
        times.extend(number_of(&frame).map(|_| frame.dts.as_nanos()));
    }
    assert!(numbers.iter().copied().eq((0..3).flat_map(|_| 0..10)));
    assert_eq!(marks, 2);
    assert!(times.is_sorted_by(|a, b| a < b), "one timeline: {times:?}");
}

/// Lets in what is called `open`.
struct OpenOnly;

impl Authenticator for OpenOnly {
    fn allows(&self, request: &Request<'_>) -> Verdict {
        assert_eq!((request.action, request.door), (Action::Publish, "host"));
        (request.name.stream() == "open").into()
    }
}

#[test]
fn the_authenticator_is_asked_about_the_hosts_publishers_too() {
    let node = Node::builder()
        .settings(Settings { access: Arc::new(OpenOnly), ..Settings::default() })
        .start()
        .unwrap();
    assert_eq!(node.publish(&name("live/open")).granted_blocking(), Ok(()));
    let refused = node.publish(&name("live/shut")).granted_blocking();
    assert_eq!(refused, Err(PublishError::Refused(Refusal::Forbidden)));
}

#[test]
fn a_subscriber_that_does_not_read_goes_on_at_a_key_frame_and_holds_up_nobody() {
    let limits = StreamLimits { viewer_lag: Duration::from_millis(50), ..StreamLimits::default() };
    let settings = Settings { default: AppSettings { limits, record: false }, ..Settings::default() };
    let node = Node::builder().settings(settings).start().unwrap();
    let stream = name("live/cam");
    let mut publisher = node.publish(&stream);
    let (mut idle, mut reader) = (node.subscribe(&stream), node.subscribe(&stream));
    publisher.send_blocking(picture(0)).unwrap();
    assert_eq!(number_of(&idle.next_blocking().unwrap()), Some(0));
    for number in 1..60 {
        publisher.send_blocking(picture(number)).unwrap();
        while number_of(&reader.next_blocking().unwrap()) != Some(number) {}
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(reader.jumps(), 0);
    let mark = idle.next_blocking().unwrap();
    assert!(matches!(mark.payload, Payload::Discontinuity), "{mark:?}");
    let entrance = idle.next_blocking().unwrap();
    assert_eq!((number_of(&entrance), entrance.is_key()), (Some(50), true));
    assert_eq!(idle.jumps(), 1);
    for number in 51..60 {
        assert_eq!(number_of(&idle.next_blocking().unwrap()), Some(number));
    }
}

/// Panics when it is woken, and counts.
struct Bad(AtomicUsize);

impl Wake for Bad {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic!("a waker that panics");
    }
}

#[test]
fn a_waker_that_panics_costs_nobody_else_a_frame() {
    let node = Node::builder().start().unwrap();
    let stream = name("live/cam");
    let mut publisher = node.publish(&stream);
    let (mut broken, mut sound) = (node.subscribe(&stream), node.subscribe(&stream));
    let bad = Arc::new(Bad(AtomicUsize::new(0)));
    let waker = Waker::from(bad.clone());
    for number in 0..50 {
        while let Poll::Ready(frame) = broken.poll_next(&Context::from_waker(&waker)) {
            frame.unwrap();
        }
        publisher.send_blocking(picture(number)).unwrap();
        while number_of(&sound.next_blocking().unwrap()) != Some(number) {}
    }
    assert!(bad.0.load(Ordering::SeqCst) > 0, "it was woken at all");
}

#[test]
fn a_publisher_hears_that_a_subscriber_waits_for_a_key_frame() {
    let limits = StreamLimits { group_frames: 5, ..StreamLimits::default() };
    let settings = Settings { default: AppSettings { limits, record: false }, ..Settings::default() };
    let node = Node::builder().settings(settings).start().unwrap();
    let stream = name("live/cam");
    let mut first = node.subscribe(&stream);
    let mut publisher = node.publish(&stream);
    for number in 0..10 {
        publisher.send_blocking(picture(number)).unwrap();
    }
    while number_of(&first.next_blocking().unwrap()) != Some(9) {}
    // Whoever was there before the first key frame may have asked for it.
    publisher.take_keyframe_wanted();
    // The group has outgrown its bound: nobody can begin in it.
    let mut late = node.subscribe(&stream);
    assert!(late.try_next().unwrap().is_none());
    let (told, tells) = mpsc::channel();
    let waiting = thread::spawn(move || {
        let began = Instant::now();
        while !publisher.take_keyframe_wanted() {
            assert!(began.elapsed() < PATIENCE, "a key frame is wanted");
            thread::sleep(Duration::from_millis(2));
        }
        told.send(()).unwrap();
        publisher.send_blocking(picture(25)).unwrap();
        publisher
    });
    tells.recv_timeout(PATIENCE).unwrap();
    assert_eq!(number_of(&late.next_blocking().unwrap()), Some(25));
    drop(waiting.join().unwrap());
}

#[test]
fn what_is_too_much_waits_and_nothing_is_lost() {
    let node = Node::builder().settings(brief()).start().unwrap();
    let stream = name("live/large");
    let mut publisher = node.publish(&stream);
    let subscriber = node.subscribe(&stream);
    let reader = thread::spawn(move || read_to_end(subscriber));
    let large = |number: u32| {
        let mut frame = picture(number);
        if let Payload::Video { data, .. } = &mut frame.payload {
            *data = Bytes::from([&vec![0; 1 << 20][..], &number.to_be_bytes()].concat());
        }
        frame
    };
    let mut full = 0;
    for number in 0..200 {
        match publisher.try_send(large(number)) {
            Ok(()) => {}
            Err(TrySendError::Full(frame)) => {
                full += 1;
                publisher.send_blocking(frame).unwrap();
            }
            Err(TrySendError::Closed(why)) => panic!("{why}"),
        }
    }
    drop(publisher);
    let (numbers, _) = reader.join().unwrap();
    assert!(numbers.iter().copied().eq(0..200), "{full} waits, {numbers:?}");
}

#[test]
fn a_node_that_stops_tells_all_and_others_in_the_process_go_on() {
    let (one, two) = (Node::builder().start().unwrap(), Node::builder().shards(2).start().unwrap());
    let stream = name("live/cam");
    let (mut publisher, mut other) = (one.publish(&stream), two.publish(&stream));
    let (watched, waiting) = (one.subscribe(&stream), one.subscribe(&name("live/nobody")));
    let mut remaining = two.subscribe(&stream);
    publisher.send_blocking(picture(0)).unwrap();
    let readers = [watched, waiting].map(|subscriber| thread::spawn(move || read_to_end(subscriber)));
    thread::sleep(Duration::from_millis(50));
    one.stop().unwrap();
    let [watched, waiting] = readers.map(|reader| reader.join().unwrap());
    assert_eq!(watched, (vec![0], SubscribeError::Stopped));
    assert_eq!(waiting, (vec![], SubscribeError::Stopped));
    assert_eq!(publisher.send_blocking(picture(1)), Err(PublishError::Closed));
    other.send_blocking(picture(7 * 25)).unwrap();
    assert_eq!(number_of(&remaining.next_blocking().unwrap()), Some(175));
}

#[test]
fn handles_come_and_go_by_the_hundred() {
    let node = Node::builder().settings(brief()).start().unwrap();
    for round in 0..60 {
        let stream = name(&format!("live/cam{}", round % 7));
        let subscribers: Vec<_> = (0..10).map(|_| node.subscribe(&stream)).collect();
        let mut publisher = node.publish(&stream);
        match publisher.granted_blocking() {
            Ok(()) => publisher.send_blocking(picture(0)).unwrap(),
            // The one of seven rounds before has not left yet.
            Err(PublishError::Refused(Refusal::AlreadyLive)) => continue,
            Err(other) => panic!("{other}"),
        }
        for mut subscriber in subscribers {
            subscriber.next_blocking().unwrap();
        }
    }
    node.stop().unwrap();
}

#[test]
fn what_ffmpeg_publishes_goes_through_the_host_and_comes_to_another_as_it_was() {
    let clip = Clip::of(Kind::H264, 8);
    let ports = Ports::free();
    let limits = StreamLimits {
        wait_for_publisher: Duration::from_secs(15),
        reconnect_window: Duration::from_secs(1),
        ..StreamLimits::default()
    };
    let settings = Settings { default: AppSettings { limits, record: false }, ..Settings::default() };
    let doors = [(RTMP, here(ports.rtmp)), (HTTP, here(ports.http))];
    let builder = doors.iter().fold(Node::builder().shards(2), |node, (door, at)| node.door(*door, *at));
    let node = builder.settings(settings).start().unwrap();
    let mut subscriber = node.subscribe(&name("live/in"));
    let mut publisher = node.publish(&name("live/out"));
    let relay = thread::spawn(move || {
        while let Ok(frame) = subscriber.next_blocking() {
            publisher.send_blocking(frame).unwrap();
        }
        subscriber.jumps()
    });
    let player = Packets::player("ffmpeg", &format!("http://{}/live/out.flv", here(ports.http)));
    clip.publish(&format!("rtmp://{}/live/in", here(ports.rtmp))).succeed(Duration::from_secs(30));
    let ended = player.succeed(Duration::from_secs(20));
    Packets::parse(&ended.output).assert_equal(&clip.packets, 0);
    assert_eq!(relay.join().unwrap(), 0);
}

/// A protocol of nobody else's: the stream's name and a line end, then the number of a picture in each four bytes. `!`
/// in place of a name is a bug.
#[derive(Default)]
struct Numbers {
    unread: Vec<u8>,
    named: bool,
    received: u64,
    outbox: VecDeque<Output>,
}

const NUMBERS: Protocol = Protocol {
    name: "numbers",
    port: 7000,
    transport: Transport::Tcp,
    greet: None,
    open: |_, _| Box::<Numbers>::default(),
};

impl Session for Numbers {
    fn handle(&mut self, input: Input<'_>, _: Now) -> Result<(), Error> {
        match input {
            Input::Received(bytes) => {
                self.received += bytes.len() as u64;
                self.unread.extend_from_slice(bytes);
            }
            Input::Answer(Answer::Refused(why)) => {
                self.outbox.push_back(Output::Send(Bytes::from_static(why.why().as_bytes())));
                self.outbox.push_back(Output::Close);
            }
            Input::Ended | Input::Shutdown => self.outbox.push_back(Output::Close),
            _ => {}
        }
        if !self.named
            && let Some(end) = self.unread.iter().position(|byte| *byte == b'\n')
        {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            assert_ne!(line, b"!\n", "a bug in a protocol of the host");
            let text = String::from_utf8_lossy(&line[..end]).into_owned();
            self.named = true;
            let wish = Event::Publish { name: StreamName::parse(&text)?, query: String::new() };
            self.outbox.push_back(Output::Event(wish));
        }
        while self.named && self.unread.len() >= 4 {
            let number: Vec<u8> = self.unread.drain(..4).collect();
            let number = u32::from_be_bytes(number.try_into().expect("four bytes"));
            self.outbox.push_back(Output::Event(Event::Frame(picture(number))));
        }
        Ok(())
    }
    fn poll(&mut self) -> Option<Output> {
        self.outbox.pop_front()
    }
    /// Always late: it must not cost the others their turn.
    fn deadline(&self) -> Option<Now> {
        Some(Now(0))
    }
    fn received(&self) -> u64 {
        self.received
    }
}

#[test]
fn a_protocol_of_the_hosts_own_stands_beside_the_others_and_its_bugs_cost_its_peer_alone() {
    let ports = Ports::free();
    let (told, notices) = mpsc::channel();
    let node = Node::builder()
        .shards(2)
        .door(NUMBERS, here(ports.rtmp))
        .on_notice(move |_, notice| drop(told.send((notice.door, notice.text))))
        .start()
        .unwrap();
    let mut subscriber = node.subscribe(&name("live/cam"));
    let mut peer = TcpStream::connect(here(ports.rtmp)).unwrap();
    peer.write_all(b"live/cam\n").unwrap();
    for number in 0..100_u32 {
        peer.write_all(&number.to_be_bytes()).unwrap();
        if number == 50 {
            // The standard library says on standard error that a thread panicked; the shard goes on.
            TcpStream::connect(here(ports.rtmp)).unwrap().write_all(b"!\n").unwrap();
        }
    }
    // The door may have been faster than the subscription: then that begins at a later key frame.
    let first = number_of(&subscriber.next_blocking().unwrap()).unwrap();
    assert!(first.is_multiple_of(25));
    for number in first + 1..100 {
        assert_eq!(number_of(&subscriber.next_blocking().unwrap()), Some(number));
    }
    let said = |what: &str| {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            match notices.recv_timeout(PATIENCE) {
                Ok((door, text)) if text.contains(what) => return assert_eq!(door, "numbers"),
                _ => {}
            }
        }
        panic!("nobody said {what}");
    };
    said("a bug in this server");
    TcpStream::connect(here(ports.rtmp)).unwrap().write_all(b"no/such/name\n").unwrap();
    said("malformed");
    peer.write_all(&100_u32.to_be_bytes()).unwrap();
    assert_eq!(number_of(&subscriber.next_blocking().unwrap()), Some(100));
}

/// A viewer by HTTP that has had the first bytes of the stream.
fn watch(port: u16, stream: &str) -> TcpStream {
    let mut viewer = TcpStream::connect(here(port)).expect("the door is open");
    write!(viewer, "GET /{stream}.flv HTTP/1.1\r\nHost: here\r\n\r\n").expect("it reads");
    viewer.read_exact(&mut [0; 300]).expect("the stream comes");
    viewer
}

#[test]
fn what_happens_to_a_stream_is_told_once_whichever_shard_sees_it() {
    let ports = Ports::free();
    let node = Node::builder().shards(2).door(HTTP, here(ports.http)).settings(brief()).start().unwrap();
    let stream = name("live/demo");
    let mut events = node.events();
    // What each peer was answered comes in between.
    let mut next = || loop {
        match events.next_blocking().unwrap() {
            StreamEvent::Answered { .. } => {}
            event => break event.to_string(),
        }
    };
    let mut clip = Demo::new(CLIP).unwrap();
    let mut publisher = node.publish(&stream);
    publisher.granted_blocking().unwrap();
    assert_eq!(next(), "live/demo: published");
    let mut now = Now(0);
    for _ in 0..200 {
        match clip.poll(now) {
            Some(frame) => publisher.send_blocking(frame).unwrap(),
            None => now = clip.deadline().unwrap(),
        }
    }
    // Whichever core each is accepted on, the first and the last are told.
    let viewers: Vec<TcpStream> = (0..12).map(|_| watch(ports.http, "live/demo")).collect();
    assert_eq!(next(), "live/demo: first viewer");
    drop(viewers);
    assert_eq!(next(), "live/demo: last viewer gone");
    drop(publisher);
    assert_eq!(next(), "live/demo: publisher gone");
    assert_eq!(next(), "live/demo: ended");
    drop(node);
    assert_eq!(events.next_blocking(), None);
    assert_eq!(events.take_missed(), 0);
}

/// Panics at each event, and counts them.
struct Panics(mpsc::Sender<StreamEvent>);

impl Observer for Panics {
    fn happened(&mut self, event: &StreamEvent) {
        self.0.send(event.clone()).expect("the test waits for it");
        panic!("an observer that panics");
    }
}

/// Never comes back.
struct Hangs;

impl Observer for Hangs {
    fn happened(&mut self, _: &StreamEvent) {
        loop {
            thread::park();
        }
    }
}

#[test]
fn observers_that_panic_or_hang_cost_nobody_else_anything() {
    let node = Node::builder().start().unwrap();
    let (told, hears) = mpsc::channel();
    node.observe(Hangs).unwrap();
    node.observe(Panics(told)).unwrap();
    let mut events = node.events();
    let mut subscriber = node.subscribe(&name("live/cam"));
    for number in 0..10 {
        let mut publisher = node.publish(&name("live/cam"));
        publisher.send_blocking(picture(number * 25)).unwrap();
        drop(publisher);
        while number_of(&subscriber.next_blocking().unwrap()) != Some(number * 25) {}
        // Published (again), a discontinuity but for the first, and gone.
        let expected = if number == 0 { 2 } else { 3 };
        for _ in 0..expected {
            assert_eq!(events.next_blocking().unwrap(), hears.recv_timeout(PATIENCE).unwrap());
        }
    }
    node.stop().unwrap();
}
