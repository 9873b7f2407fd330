//! What a host plugs into its node, by the public interface alone, and what happens when that fails: authenticators that
//! answer later or never, books that nobody keeps up with, checks that hang, relays, transcoders, sinks that panic.

use std::{
    fs::File,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use shardcast_engine::{
    access::{Action, Authenticator, Question, Request, Verdict, query_value},
    demo::{CLIP, Demo},
    flv::FORM,
    hub::Notice,
    limits::{DoorLimits, StreamLimits},
    media::{Frame, Payload, StreamName, TrackId},
    message::{CoreId, owner_of},
    protocol::{HTTP, RTMP},
    session::Refusal,
    settings::{AppSettings, Settings},
    time::{MediaTime, Now},
};
use shardcast_shards::{
    host::{
        AuditLog, AuditRecord, AuditSink, Ffmpeg, FrameRelay, Handle, HealthCheck, HostError, MediaSink,
        MediaSource, Node, PublishError, Publisher, StorageCheck, StreamEvent, SubscribeError,
    },
    storage::Memory,
};
use shardcast_tests::clients::{
    Folder,
    media::{Clip, Kind},
    packets::Packets,
    process::run,
    program,
    server::Ports,
    wait_for,
};

/// How long anything here may take; far longer than it does.
const PATIENCE: Duration = Duration::from_secs(30);

fn name(text: &str) -> StreamName {
    StreamName::parse(text).expect("a legal name")
}

/// Sound, which needs no parameters to be passed on.
fn packet(number: i64) -> Frame {
    let time = MediaTime::from_millis(number * 20);
    let data = bytes::Bytes::from(number.to_be_bytes().to_vec());
    let payload = Payload::Audio { codec: shardcast_engine::codec::Codec::Opus, data };
    Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }
}

fn number_of(frame: &Frame) -> Option<i64> {
    let Payload::Audio { data, .. } = &frame.payload else { return None };
    Some(i64::from_be_bytes(data[..].try_into().expect("a packet of this test")))
}

/// Ends a stream as soon as its publisher goes.
fn brief() -> AppSettings {
    let limits = StreamLimits { reconnect_window: Duration::ZERO, ..StreamLimits::default() };
    AppSettings { limits, record: false }
}

/// Plays the clip into a publisher, at its own pace, on a thread of its own, until nobody takes it.
fn play_clip(mut publisher: Publisher, seconds: u64) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut clip = Demo::new(CLIP).expect("the clip is sound");
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(seconds) {
            while let Some(frame) = clip.poll(Now(began.elapsed().as_nanos() as u64)) {
                if publisher.send_blocking(frame).is_err() {
                    return;
                }
            }
            thread::sleep(Duration::from_millis(10));
        }
    })
}

/// Answers by what the query says, on a thread of its own: at once, or never.
struct Slow {
    asked: Arc<AtomicUsize>,
    never: Arc<Mutex<Vec<Question>>>,
}

impl Authenticator for Slow {
    fn allows(&self, request: &Request<'_>) -> Verdict {
        match request.name.stream() {
            "known" => Verdict::Allowed,
            "banned" => Verdict::Refused,
            _ => Verdict::Later,
        }
    }
    fn ask(&self, question: Question) {
        self.asked.fetch_add(1, Ordering::SeqCst);
        match question.name.stream() {
            "panics" => panic!("an authenticator that panics"),
            "dropped" => drop(question),
            "never" => self.never.lock().expect("it is so in this test").push(question),
            stream => {
                let allowed = stream == "good" || query_value(&question.query, "token") == Some("sesame");
                thread::spawn(move || {
                    thread::sleep(Duration::from_millis(30));
                    question.answer(allowed);
                });
            }
        }
    }
}

fn slow_node(ports: Option<Ports>) -> (Node, Arc<AtomicUsize>, Arc<Mutex<Vec<Question>>>) {
    let (asked, never) = (Arc::new(AtomicUsize::new(0)), Arc::default());
    let access = Arc::new(Slow { asked: asked.clone(), never: Arc::clone(&never) });
    let doors = DoorLimits { verdict: Duration::from_secs(2), ..DoorLimits::default() };
    let mut builder = Node::builder().shards(2).settings(Settings { access, doors, ..Settings::default() });
    if let Some(ports) = ports {
        builder = builder
            .door(RTMP, ([127, 0, 0, 1], ports.rtmp).into())
            .door(HTTP, ([127, 0, 0, 1], ports.http).into());
    }
    (builder.start().expect("it is so in this test"), asked, never)
}

#[test]
fn an_authenticator_may_answer_later_and_one_that_does_not_refuses() {
    let (node, asked, never) = slow_node(None);
    let granted = |stream: &str| node.publish(&name(&format!("live/{stream}"))).granted_blocking();
    assert_eq!(granted("known"), Ok(()));
    assert_eq!(granted("good"), Ok(()));
    let forbidden = Err(PublishError::Refused(Refusal::Forbidden));
    for stream in ["banned", "bad", "dropped", "panics", "never"] {
        assert_eq!(granted(stream), forbidden, "{stream}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 5);
    // An answer that comes too late changes nothing.
    never.lock().unwrap().drain(..).for_each(|question| question.answer(true));
    assert_eq!(granted("good"), Ok(()), "and the shards go on");
}

#[test]
fn frames_that_come_before_the_verdict_are_kept() {
    let (node, ..) = slow_node(None);
    let stream = name("live/good");
    let mut publisher = node.publish(&stream);
    for number in 0..100 {
        publisher.send_blocking(packet(number)).unwrap();
    }
    let mut subscriber = node.subscribe(&stream);
    let mut numbers = Vec::new();
    while numbers.len() < 100 {
        numbers.extend(number_of(&subscriber.next_blocking().unwrap()));
    }
    assert!(numbers.into_iter().eq(0..100));
}

#[test]
fn real_peers_wait_for_their_verdict() {
    let ports = Ports::free();
    let (node, asked, _) = slow_node(Some(ports));
    let clip = Clip::of(Kind::H264, 4);
    let refused = clip.publish(&format!("rtmp://127.0.0.1:{}/live/cam?token=wrong", ports.rtmp));
    assert!(!refused.finish(PATIENCE).status.success(), "a publisher without the token");
    let url = format!("http://127.0.0.1:{}/live/cam.flv?token=sesame", ports.http);
    let publisher = clip.publish(&format!("rtmp://127.0.0.1:{}/live/cam?token=sesame", ports.rtmp));
    let published = node.events();
    let mut events = published;
    while !matches!(events.next_blocking(), Some(StreamEvent::Published { .. })) {}
    let player = Packets::player("ffmpeg", &url);
    publisher.succeed(PATIENCE);
    drop(node);
    let packets = Packets::parse(&player.finish(PATIENCE).output);
    packets.assert_run(&clip.packets, 1000);
    assert!(packets.video.len() > 50, "{}", packets.video.len());
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[test]
fn the_books_say_who_asked_for_what_and_what_the_answer_was() {
    let folder = Folder::new("seams-audit");
    let path = folder.path().join("audit.jsonl");
    let (node, ..) = slow_node(None);
    node.audit(AuditLog::new(File::create(&path).unwrap())).unwrap();
    node.publish(&name("live/good")).granted_blocking().unwrap();
    node.publish(&name("live/bad")).granted_blocking().unwrap_err();
    node.handle().alarm(None, "a \"word\"\nof the host's");
    let lines = wait_for(PATIENCE, || {
        let text = std::fs::read_to_string(&path).unwrap();
        text.contains("alarm").then(|| text.lines().map(str::to_owned).collect::<Vec<_>>())
    });
    let lines = lines.expect("the books are kept");
    let has = |words: &[&str]| lines.iter().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(
        has(&["\"what\":\"publish\"", "live/good", "\"granted\":true", "\"door\":\"host\"", "\"at\":\"20"]),
        "{lines:?}"
    );
    assert!(has(&["\"what\":\"publish\"", "live/bad", "\"granted\":false"]), "{lines:?}");
    assert!(has(&["\"what\":\"published\"", "live/good"]), "{lines:?}");
    assert!(has(&[r#"a \"word\"\nof the host's"#]), "{lines:?}");
}

/// Keeps no books before it may.
struct Blocked(mpsc::Receiver<()>, mpsc::Sender<u64>);

impl AuditSink for Blocked {
    fn record(&mut self, _: &AuditRecord) {
        let _ = self.0.recv();
    }
    fn dropped(&mut self, records: u64) {
        let _ = self.1.send(records);
    }
}

#[test]
fn books_that_nobody_keeps_up_with_are_bounded_and_what_is_dropped_is_counted() {
    let node = Node::builder().start().unwrap();
    let (go, gate) = mpsc::channel();
    let (dropped, told) = mpsc::channel();
    node.audit(Blocked(gate, dropped)).unwrap();
    let handle = node.handle();
    for number in 0..3000 {
        handle.alarm(None, &number.to_string());
    }
    drop(go);
    // Some may have been dropped, and told, before the first was taken in hand.
    let mut count = 0;
    while count < 3000 - 1 - 1024 {
        count += told.recv_timeout(PATIENCE).unwrap();
    }
    assert!(count <= 3000 - 1024, "all but those that wait, and the one in hand if there was one: {count}");
}

/// Is well, or panics, or never comes back.
struct Patient(&'static str);

impl HealthCheck for Patient {
    fn check(&mut self) -> Result<(), HostError> {
        match self.0 {
            "well" => Ok(()),
            "ill" => Err("a cold".into()),
            "panics" => panic!("a fit"),
            _ => loop {
                thread::park();
            },
        }
    }
}

#[test]
fn health_is_told_in_time_whatever_a_check_does() {
    let node = Node::builder().shards(2).start().unwrap();
    for what in ["well", "ill", "panics", "hangs"] {
        node.add_check(what, Patient(what)).unwrap();
    }
    node.add_check("storage", StorageCheck::new(Arc::new(Memory::new()), "probe")).unwrap();
    for _ in 0..2 {
        let healths = node.health(Duration::from_secs(2));
        let of = |what: &str| {
            healths.iter().find(|health| health.name == what).map(|health| health.result.clone()).unwrap()
        };
        assert_eq!(of("shards"), Ok(()));
        assert_eq!(of("well"), Ok(()));
        assert_eq!(of("storage"), Ok(()));
        assert_eq!(of("ill"), Err("a cold".to_owned()));
        assert_eq!(of("panics"), Err("it panicked: a fit".to_owned()));
        assert_eq!(of("hangs"), Err("no answer in time".to_owned()));
    }
    let metrics = node.metrics(Duration::from_secs(2));
    assert!(
        metrics.contains("shardcast_shards 2") && metrics.contains("shardcast_shards_silent 0"),
        "{metrics}"
    );
}

#[test]
fn a_relay_carries_every_frame_to_another_node() {
    let settings = Settings { default: brief(), ..Settings::default() };
    let [here, there] = [0, 1].map(|_| Node::builder().settings(settings.clone()).start().unwrap());
    let (from, to) = (name("live/here"), name("live/there"));
    let mut subscriber = there.subscribe(&to);
    let relay = here.relay(&from, &there.handle(), &to, FrameRelay).unwrap();
    let mut publisher = here.publish(&from);
    for number in 0..2000 {
        publisher.send_blocking(packet(number)).unwrap();
        // No faster than a relay can follow: it is a viewer like any other.
        if number % 50 == 0 {
            thread::sleep(Duration::from_millis(5));
        }
    }
    drop(publisher);
    relay.wait().unwrap();
    let mut numbers = Vec::new();
    while let Ok(frame) = subscriber.next_blocking() {
        numbers.extend(number_of(&frame));
    }
    assert!(numbers.into_iter().eq(0..2000));
    let refused = here.relay(&from, &there.handle(), &to, FrameRelay).unwrap();
    assert!(!refused.is_finished(), "it waits for its stream");
    drop(refused);
}

/// Counts what it is given, and fails as it is told to.
struct Counting {
    frames: Arc<AtomicUsize>,
    fail: Option<&'static str>,
}

impl MediaSink for Counting {
    fn frame(&mut self, frame: &Frame) -> Result<(), HostError> {
        self.frames.fetch_add(usize::from(frame.is_media()), Ordering::SeqCst);
        match self.fail {
            Some("panics") => panic!("a sink that panics"),
            Some("hangs") => loop {
                thread::park();
            },
            Some(why) => Err(why.into()),
            None => Ok(()),
        }
    }
}

/// Gives numbered packets without end.
struct Endless(i64);

impl MediaSource for Endless {
    fn next(&mut self) -> Result<Option<Frame>, HostError> {
        thread::sleep(Duration::from_millis(2));
        self.0 += 1;
        Ok(Some(packet(self.0)))
    }
}

#[test]
fn a_sink_that_fails_costs_nobody_else_a_frame_and_is_told_of() {
    let node = Node::builder().start().unwrap();
    let stream = name("live/numbers");
    let mut events = node.events();
    let frames = Arc::new(AtomicUsize::new(0));
    let sink = |fail: Option<&'static str>| Counting {
        frames: if fail.is_none() { frames.clone() } else { Arc::default() },
        fail,
    };
    let bad: Vec<_> = ["panics", "hangs", "is full"]
        .into_iter()
        .map(|fail| node.feed(&stream, sink(Some(fail))).unwrap())
        .collect();
    let good = node.feed(&stream, sink(None)).unwrap();
    let source = node.pull(&stream, Endless(0)).unwrap();
    let mut alarms = Vec::new();
    while alarms.len() < 2 {
        match events.next_blocking() {
            Some(StreamEvent::Alarm { text, .. }) => alarms.push(text),
            Some(_) => {}
            None => panic!("the node stopped"),
        }
    }
    alarms.sort();
    assert_eq!(
        alarms,
        ["the sink has failed: is full", "the sink has failed: it panicked: a sink that panics"]
    );
    let before = frames.load(Ordering::SeqCst);
    assert!(wait_for(PATIENCE, || (frames.load(Ordering::SeqCst) > before + 200).then_some(())).is_some());
    assert_eq!(bad.iter().filter(|sink| sink.is_finished()).count(), 2);
    source.stop().unwrap();
    good.stop().unwrap();
    // The one that hangs is left behind, and holds up neither this nor the node's end.
    drop(bad);
    node.stop().unwrap();
}

#[test]
fn a_node_that_has_stopped_tells_whoever_comes_later() {
    let node = Node::builder().start().unwrap();
    let handle: Handle = node.handle();
    node.stop().unwrap();
    assert_eq!(handle.subscribe(&name("live/cam")).next_blocking().unwrap_err(), SubscribeError::Stopped);
    assert_eq!(handle.subscribe_wire(&name("live/cam"), &FORM).next_blocking(), Err(SubscribeError::Stopped));
    assert!(handle.publish(&name("live/cam")).granted_blocking().is_err());
    assert_eq!(handle.events().next_blocking(), None);
}

#[test]
fn a_shard_that_fails_ends_its_own_streams_and_the_others_go_on() {
    let [doomed, spared] = [0, 1].map(|core| {
        let mut names = (0..).map(|number| name(&format!("live/cam{number}")));
        names.find(|name| owner_of(name, 2) == CoreId(core)).expect("hashing spreads the names")
    });
    let fatal = doomed.clone();
    // What a host gives to the log runs on the shards; a panic in it is one of theirs.
    let log = move |_, notice: Notice| assert!(notice.stream != Some(fatal.clone()), "a log that panics");
    let node = Node::builder().shards(2).on_notice(log).start().unwrap();
    let mut events = node.events();
    let (mut lost, mut kept) = (node.subscribe(&doomed), node.subscribe(&spared));
    let mut publisher = node.publish(&spared);
    publisher.send_blocking(packet(1)).unwrap();
    let mut ill_fated = node.publish(&doomed);
    let closed = wait_for(PATIENCE, || ill_fated.send_blocking(packet(1)).err());
    assert_eq!(closed, Some(PublishError::Closed));
    assert_eq!(lost.next_blocking().unwrap_err(), SubscribeError::Stopped);
    let alarm = loop {
        match events.next_blocking() {
            Some(StreamEvent::Alarm { text, .. }) => break text,
            Some(_) => {}
            None => panic!("the node stopped"),
        }
    };
    assert!(alarm.contains("shard 0 has failed"), "{alarm}");
    assert_eq!(node.subscribe(&doomed).next_blocking().unwrap_err(), SubscribeError::Stopped);
    publisher.send_blocking(packet(2)).unwrap();
    while number_of(&kept.next_blocking().unwrap()) != Some(2) {}
    assert!(node.health(Duration::from_secs(2))[0].result.is_err());
    assert!(node.stop().is_err(), "and the end says so once more");
}

#[test]
fn bytes_of_a_form_are_what_a_viewer_of_a_door_gets() {
    let folder = Folder::new("seams-wire");
    let settings = Settings { default: brief(), ..Settings::default() };
    let node = Node::builder().settings(settings).start().unwrap();
    let stream = name("live/clip");
    let read = |file: &str| {
        let (mut wire, file) = (node.subscribe_wire(&stream, &FORM), folder.path().join(file));
        thread::spawn(move || {
            let mut bytes = Vec::new();
            while let Ok(more) = wire.next_blocking() {
                bytes.extend_from_slice(&more);
            }
            assert_eq!(wire.jumps(), 0);
            std::fs::write(&file, bytes).unwrap();
            file
        })
    };
    let early = read("early.flv");
    let playing = play_clip(node.publish(&stream), 5);
    thread::sleep(Duration::from_millis(2500));
    let files = [early, read("late.flv")];
    playing.join().unwrap();
    let counts = files.map(|file| {
        let file = file.join().unwrap();
        let mut command = Command::new(program("ffmpeg"));
        command.args(["-nostdin", "-v", "error", "-xerror", "-i"]).arg(&file).args(["-f", "null", "-"]);
        let ended = run("ffmpeg-decode", &mut command, PATIENCE);
        assert!(ended.status.success() && ended.errors.trim().is_empty(), "{}", ended.errors);
        Packets::of_file("ffmpeg", &file).video.len()
    });
    assert!(counts[0] > counts[1] && counts[1] > 50, "{counts:?}");
}

#[test]
fn a_transcoder_makes_a_second_stream_and_outlives_its_child() {
    let limits = StreamLimits { reconnect_window: Duration::from_secs(8), ..StreamLimits::default() };
    let default = AppSettings { limits, record: false };
    let node = Node::builder().settings(Settings { default, ..Settings::default() }).start().unwrap();
    let (from, to) = (name("live/clip"), name("live/small"));
    let mut events = node.events();
    let arguments = "-c:v libx264 -preset ultrafast -tune zerolatency -g 25 -s 160x90 -c:a copy";
    let transcoder = node.transcode(&from, &to, Ffmpeg::new(arguments.split(' '))).unwrap();
    let playing = play_clip(node.publish(&from), 12);
    let mut small = node.subscribe(&to);
    let mut read = |pictures: usize| {
        let mut size = None;
        let mut count = 0;
        while count < pictures {
            let frame = small.next_blocking().expect("the second stream goes on");
            if let Payload::Parameters(parameters) = &frame.payload {
                size = size.or(parameters.width_height());
            }
            count += usize::from(frame.is_video());
        }
        size
    };
    assert_eq!(read(25), Some((160, 90)));
    // The encoder dies; only a child of this test's own is ended, by its id.
    let child = encoders();
    assert_eq!(child.len(), 1, "{child:?}");
    let killed = Command::new("kill").args(["-9", &child[0].to_string()]).status().unwrap();
    assert!(killed.success());
    let alarm = loop {
        match events.next_blocking() {
            Some(StreamEvent::Alarm { text, .. }) => break text,
            Some(_) => {}
            None => panic!("the node stopped"),
        }
    };
    assert!(alarm.contains("started anew"), "{alarm}");
    read(50);
    playing.join().unwrap();
    transcoder.wait().unwrap();
    assert!(encoders().is_empty(), "nothing is left behind");
}

/// The encoders that this process has started: of all its children those that write to a pipe.
fn encoders() -> Vec<u32> {
    let own = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").expect("it is so in this test").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        // PID (NAME) STATE PARENT
        let stat = read("stat");
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        parent == Some(own.as_str()) && read("cmdline").contains("pipe:1")
    })
    .collect()
}

#[test]
fn an_encoder_that_is_not_there_is_an_error_and_not_a_loop() {
    let node = Node::builder().start().unwrap();
    let transcoder = Ffmpeg::new([""; 0]).program("/nowhere/ffmpeg");
    let attached = node.transcode(&name("live/a"), &name("live/b"), transcoder).unwrap();
    let why = attached.wait().unwrap_err().to_string();
    assert!(why.contains("/nowhere/ffmpeg"), "{why}");
}

#[test]
fn an_action_of_a_viewer_is_asked_about_as_such() {
    struct NoViewers;
    impl Authenticator for NoViewers {
        fn allows(&self, request: &Request<'_>) -> Verdict {
            (request.action == Action::Publish).into()
        }
    }
    let ports = Ports::free();
    let settings = Settings { access: Arc::new(NoViewers), ..Settings::default() };
    let node =
        Node::builder().settings(settings).door(HTTP, ([127, 0, 0, 1], ports.http).into()).start().unwrap();
    let playing = play_clip(node.publish(&name("live/clip")), 3);
    thread::sleep(Duration::from_millis(300));
    let url = format!("http://127.0.0.1:{}/live/clip.flv", ports.http);
    let said = run(
        "curl",
        Command::new("curl").args(["-s", "-o", "/dev/null", "-w", "%{http_code}", &url]),
        PATIENCE,
    );
    assert_eq!(said.output.trim(), "403");
    node.stop().unwrap();
    playing.join().unwrap();
}
