//! Streams that are pulled by RTSP: from a second server of this kind, from GStreamer's, and from some that are none.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use shardcast_tests::clients::{
    forms::{Form, Player, Reading, follow},
    media::{Clip, Kind},
    packets::Run,
    process::Process,
    program, repository,
    server::{Server, Setup},
    wait_for,
};

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(40);
/// Sound that stands before the first picture, with which a viewer begins.
const SOUND_BEFORE_MAX: usize = 24;
/// Packets of sound that are still on their way when the end of their stream is told.
const SOUND_KEPT_MAX: usize = 8;
/// Microseconds: FLV has milliseconds where packets have ticks of 90 kHz and samples.
const ROUNDING: i64 = 1_000;

/// A server that pulls these streams, with further lines for each. Whoever publishes by a door needs a key there.
fn pulling(setup: Setup, streams: &[(&str, String, &str)]) -> Server {
    let mut setup = setup;
    setup.tables.push_str("[auth]\npublish = [\"secret\"]\n");
    for (name, pull, lines) in streams {
        setup.tables.push_str(&format!("[streams.{name:?}]\npull = {pull:?}\n{lines}"));
    }
    setup.start()
}

fn wait_for_viewers(server: &Server, count: f64) {
    let are_there = || server.metric("shardcast_viewers").filter(|viewers| *viewers >= count);
    wait_for(PATIENCE, are_there).expect("viewers come");
}

fn wait_until_alone(server: &Server) -> Duration {
    let began = Instant::now();
    let alone = || server.metric("shardcast_viewers").filter(|viewers| *viewers == 0.0);
    wait_for(PATIENCE, alone).expect("viewers go");
    began.elapsed()
}

fn state(server: &Server, name: &str, state: &str) -> bool {
    let line = format!("shardcast_pull_state{{stream={name:?},state={state:?}}} 1");
    server.get("/metrics").is_some_and(|answer| answer.contains(&line))
}

fn wait_for_state(server: &Server, name: &str, wanted: &str) {
    wait_for(PATIENCE, || state(server, name, wanted).then_some(()))
        .unwrap_or_else(|| panic!("{name} is not {wanted}:\n{}", server.log()));
}

/// Demands that all of the clip was read, each packet at its time, sound and pictures as far apart as they were.
fn assert_whole(clip: &Clip, reading: &Reading) {
    let got = reading.packets.as_ref().expect("it lists packets");
    let source = if reading.form.is_transport() { clip.transport() } else { clip.packets.clone() };
    println!("{:?}: {got}", reading.form);
    let (video, audio) = got.assert_run(&source, ROUNDING);
    assert_eq!(video, Some(Run { first: 0, count: source.video.len() }), "pictures");
    let audio = audio.expect("there is sound");
    assert!(audio.first <= SOUND_BEFORE_MAX, "{audio:?}");
    assert!(audio.first + audio.count + SOUND_KEPT_MAX >= source.audio.len(), "up to its end: {audio:?}");
}

fn assert_pulled_whole(kinds: &[Kind], lines: &str) {
    for kind in kinds {
        let clip = Clip::of(*kind, 6);
        let source = Setup::new().start();
        let here = pulling(Setup::new(), &[("live/here", source.rtsp_url("live/there"), lines)]);
        let players = [Form::Flv, Form::Ts].map(|form| Player::of(form, &clip));
        let readings = follow(&here, "live/here", &players, || {
            wait_for_viewers(&here, 2.0);
            wait_for_viewers(&source, 1.0);
            clip.publish(&source.rtmp_url("live/there")).succeed(PATIENCE);
        });
        readings.iter().for_each(|reading| assert_whole(&clip, reading));
        assert!(here.metric("shardcast_pull_bytes_total").is_some_and(|bytes| bytes > 10_000.0));
        assert_eq!(here.metric("shardcast_pull_packets_lost_total"), Some(0.0));
        assert_eq!(here.metric("shardcast_pull_frames_dropped_total"), Some(0.0));
    }
}

#[test]
fn what_another_server_has_comes_out_whole() {
    assert_pulled_whole(&[Kind::H264, Kind::Hevc, Kind::H264Open], "");
}

/// A camera of GStreamer's with sound of this kind.
fn camera(port: u16, sound: &str) -> Process {
    let script = repository().join("tests/interop/rtsp_server.py");
    // Where Debian has GStreamer's modules, whichever Python comes first.
    let mut command = Command::new("/usr/bin/python3");
    let camera = Process::start("gst-camera", command.arg(script).args([&port.to_string(), sound]));
    wait_for(PATIENCE, || camera.said().contains("ready").then_some(())).expect("the camera is ready");
    camera
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has ports");
    listener.local_addr().expect("it is bound").port()
}

/// Reads a stream by HTTP-FLV for so long, and says how many pictures and packets of sound there were.
fn watch(server: &Server, name: &str, time: Duration) -> (usize, usize) {
    let mut command = Command::new(program("ffmpeg"));
    command.args(["-nostdin", "-v", "error", "-i", &server.flv_url(name), "-t"]);
    command.arg(time.as_secs().to_string()).args(["-c", "copy", "-f", "framehash", "-hash", "md5", "-"]);
    let ended = Process::start("ffmpeg-viewer", &mut command).finish(PATIENCE);
    let lines = |track: &str| ended.output.lines().filter(|line| line.starts_with(track)).count();
    (lines("0,"), lines("1,"))
}

#[test]
fn a_camera_that_is_killed_comes_back_by_itself() {
    let port = free_port();
    let mut source = camera(port, "aac");
    let url = format!("rtsp://127.0.0.1:{port}/cam");
    let setup = Setup::new().stream("reconnect_window = \"20s\"\n");
    let server = pulling(setup, &[("cam/gst", url, "")]);
    let watching = thread::scope(|scope| {
        let viewer = scope.spawn(|| watch(&server, "cam/gst", Duration::from_secs(15)));
        wait_for_state(&server, "cam/gst", "playing");
        wait_for_viewers(&server, 1.0);
        thread::sleep(Duration::from_secs(3));
        source.kill();
        wait_for_state(&server, "cam/gst", "waiting");
        source = camera(port, "aac");
        wait_for_state(&server, "cam/gst", "playing");
        viewer.join().expect("it does not panic")
    });
    println!("pictures and sound: {watching:?}");
    // One viewer saw all of it: it stayed while the camera was away.
    assert!(watching.0 > 200 && watching.1 > 200, "{watching:?}");
    assert!(server.metric("shardcast_pull_reconnects_total").is_some_and(|count| count >= 1.0));
    assert_eq!(server.log_lines("has closed the connection").len(), 1, "{}", server.log());
}

#[test]
fn a_track_that_nobody_can_carry_is_told_and_the_others_come() {
    let ports = [free_port(), free_port()];
    let _cameras = [camera(ports[0], "l16"), camera(ports[1], "pcmu")];
    let url = |port| format!("rtsp://127.0.0.1:{port}/cam");
    let streams = [("cam/gst", url(ports[0]), ""), ("cam/voice", url(ports[1]), "")];
    let server = pulling(Setup::new(), &streams);
    let (pictures, sound) = watch(&server, "cam/gst", Duration::from_secs(3));
    assert!(pictures >= 50 && sound == 0, "{pictures} {sound}");
    let (pictures, sound) = watch(&server, "cam/voice", Duration::from_secs(3));
    assert!(pictures >= 50 && sound >= 10, "{pictures} {sound}");
    let told = server.log_lines("left out");
    assert!(told.len() == 1 && told[0].contains("audio l16"), "{told:?}");
}

#[test]
fn opus_and_datagrams_come_from_a_camera() {
    let port = free_port();
    let _camera = camera(port, "opus");
    let url = format!("rtsp://127.0.0.1:{port}/cam");
    let server = pulling(Setup::new(), &[("cam/gst", url, "transport = \"udp\"\n")]);
    wait_for_state(&server, "cam/gst", "playing");
    let metrics = || {
        let answer = server.get("/metrics")?;
        (answer.contains("codec=\"opus\"") && answer.contains("codec=\"avc1.")).then_some(())
    };
    wait_for(PATIENCE, metrics).expect("both tracks are there");
    thread::sleep(Duration::from_secs(2));
    assert_eq!(server.metric("shardcast_pull_packets_lost_total"), Some(0.0));
}

#[test]
fn on_demand_it_begins_with_the_first_viewer_and_ends_after_the_last() {
    let clip = Clip::of(Kind::H264, 60);
    let source = Setup::new().start();
    let publisher = clip.publish(&source.rtmp_url("live/there"));
    wait_for(PATIENCE, || source.metric("shardcast_streams").filter(|streams| *streams == 1.0))
        .expect("it is published");
    let lines = "on_demand = true\nlinger = \"2s\"\n";
    let url = source.rtsp_url("live/there");
    // Nobody waits for what is not pulled, and streams end at once: what is on demand is waited for all the same.
    let setup = Setup::new().stream("wait_for_publisher = \"0s\"\nreconnect_window = \"0s\"\n");
    let setup = Setup { tables: "[hls]\nsegment = \"1s\"\nlinger = \"3s\"\n".to_owned(), ..setup };
    let names: Vec<String> = (0..4).map(|number| format!("live/here{number}")).collect();
    let streams: Vec<_> = names.iter().map(|name| (name.as_str(), url.clone(), lines)).collect();
    let here = pulling(setup, &streams);
    assert!(state(&here, "live/here0", "idle"));
    thread::sleep(Duration::from_secs(1));
    assert_eq!(source.metric("shardcast_viewers"), Some(0.0), "nobody has asked");
    assert_eq!(watch(&here, "live/other", Duration::from_secs(1)), (0, 0), "this one is refused");

    // By each door, of streams of both shards, and of the first a second time.
    for round in 0..2 {
        let (pictures, sound) = watch(&here, "live/here0", Duration::from_secs(2));
        assert!(pictures >= 40 && sound >= 40, "round {round}: {pictures} {sound}");
        assert!(source.metric("shardcast_viewers").is_some_and(|viewers| viewers >= 1.0));
        let alone = wait_until_alone(&source);
        assert!(alone >= Duration::from_secs(1), "it lingers: {alone:?}");
        wait_for_state(&here, "live/here0", "idle");
    }
    let urls = [
        ("live/here1", here.rtmp_url("live/here1")),
        ("live/here2", here.rtsp_url("live/here2")),
        ("live/here3", Form::Ts.url(&here, "live/here3")),
        ("live/here0", Form::Hls.url(&here, "live/here0")),
        ("live/here1", Form::Hls.url(&here, "live/here1")),
        ("live/here2", format!("{}?format=ts", Form::Hls.url(&here, "live/here2"))),
        ("live/here3", Form::Dash.url(&here, "live/here3")),
    ];
    for (name, url) in urls {
        wait_for_state(&here, name, "idle");
        let mut command = Command::new(program("ffmpeg"));
        command.args(["-nostdin", "-v", "error"]);
        if url.starts_with("rtsp") {
            command.args(["-rtsp_transport", "tcp"]);
        }
        command.args(["-i", &url, "-t", "2", "-c", "copy", "-f", "framehash", "-hash", "md5", "-"]);
        let ended = Process::start("ffmpeg-viewer", &mut command).finish(PATIENCE);
        let pictures = ended.output.lines().filter(|line| line.starts_with("0,")).count();
        assert!(pictures >= 40, "{url}: {pictures} pictures, {}\n{}", ended.errors, here.log());
    }
    wait_until_alone(&source);
    names.iter().for_each(|name| wait_for_state(&here, name, "idle"));
    drop(publisher);
}

#[test]
fn who_shows_a_wrong_password_is_told_once_and_without_it() {
    let clip = Clip::of(Kind::H264, 4);
    let mut setup = Setup::new();
    setup.tables.push_str("[auth]\nplay = [\"see:&it\"]\n");
    let source = setup.start();
    let url = source.rtsp_url("live/there");
    let with = |user: &str| url.replace("rtsp://", &format!("rtsp://{user}@"));
    let here = pulling(
        Setup::new(),
        &[
            ("live/wrong", with("me:hunter2"), ""),
            ("live/none", format!("{url}?key=hunter2"), ""),
            ("live/right", with("me:see%3a%26it"), ""),
        ],
    );
    let player = [Player::of(Form::Flv, &clip)];
    let readings = follow(&here, "live/right", &player, || {
        wait_for_viewers(&source, 1.0);
        clip.publish(&source.rtmp_url("live/there")).succeed(PATIENCE);
    });
    assert_whole(&clip, &readings[0]);
    let told = here.log_lines("refuses user and password");
    assert_eq!(told.len(), 2, "one for each: {told:?}");
    assert!(!here.log().contains("hunter2") && !here.log().contains("see"), "{}", here.log());
    assert!(state(&here, "live/wrong", "waiting"));
}

/// What a server that is none does when it has answered.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Closes,
    Waits,
    /// Answers the same again and again, as fast as it can.
    Floods,
}

/// A server that answers whoever comes with `head`, and then `body`.
fn hostile(head: &[u8], body: &[u8], then: Then) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has ports");
    let port = listener.local_addr().expect("it is bound").port();
    let (head, body) = (head.to_vec(), body.to_vec());
    thread::spawn(move || {
        let mut kept: Vec<TcpStream> = Vec::new();
        for mut peer in listener.incoming().flatten() {
            let _ = peer.set_read_timeout(Some(Duration::from_millis(200)));
            let _ = peer.set_write_timeout(Some(Duration::from_secs(1)));
            let _ = peer.read(&mut [0; 1024]);
            let _ = peer.write_all(&head).and_then(|()| peer.write_all(&body));
            while then == Then::Floods && peer.write_all(&body).is_ok() {}
            if then != Then::Closes {
                kept.push(peer);
            }
        }
    });
    format!("rtsp://127.0.0.1:{port}/cam")
}

/// The most memory that a server has had which four others have flooded.
const FLOODED_KIB_MAX: u64 = 512 << 10;

#[test]
fn servers_that_are_none_disturb_nothing() {
    let clip = Clip::of(Kind::H264, 12);
    let source = Setup::new().start();
    let description = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n";
    let described = format!(
        "RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{description}",
        description.len()
    );
    let large = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 40000000000\r\n\r\n";
    let packets = [&b"$\x05\xff\xf0"[..], &[0x80; 0xfff0]].concat();
    let nobody = format!("rtsp://127.0.0.1:{}/cam", free_port());
    let broken = [
        ("bad/closes", hostile(b"", b"", Then::Closes)),
        ("bad/silent", hostile(b"", b"", Then::Waits)),
        ("bad/garbage", hostile(b"", &[0xff; 100_000], Then::Waits)),
        ("bad/endless", hostile(b"RTSP/1.0 200 OK\r\nX: ", &[b'y'; 50_000], Then::Floods)),
        (
            "bad/headers",
            hostile(b"RTSP/1.0 200 OK\r\n", &b"X: and another one\r\n".repeat(3_000), Then::Floods),
        ),
        ("bad/large", hostile(large, &[b'y'; 50_000], Then::Floods)),
        ("bad/packets", hostile(b"", &packets, Then::Floods)),
        ("bad/nothing", hostile(described.as_bytes(), b"", Then::Waits)),
        ("bad/nobody", nobody),
        ("bad/unknown", "rtsp://no.such.host.invalid/cam".to_owned()),
        ("bad/missing", source.rtsp_url("live/missing")),
    ];
    let mut streams: Vec<(&str, String, &str)> =
        broken.iter().map(|(name, url)| (*name, url.clone(), "")).collect();
    streams.push(("live/here", source.rtsp_url("live/there"), ""));
    let here = pulling(Setup::new(), &streams);
    let readings = follow(&here, "live/here", &[Player::of(Form::Flv, &clip)], || {
        wait_for_viewers(&source, 1.0);
        clip.publish(&source.rtmp_url("live/there")).succeed(PATIENCE);
    });
    assert_whole(&clip, &readings[0]);
    for (name, _) in &broken {
        let told = here.log_lines("tries again").len() + here.log_lines("can be carried").len();
        assert!(told >= 1 && !here.log_lines(name).is_empty(), "{name}:\n{}", here.log());
    }
    assert!(!here.log().contains("panicked"), "{}", here.log());
    assert!(here.log_lines("sends without end").len() >= 3, "{}", here.log());
    let status = std::fs::read_to_string(format!("/proc/{}/status", here.id())).expect("it runs");
    let most = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the most memory it has had");
    let most: u64 = most.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("KiB");
    println!("{}\n{most} KiB", here.log());
    assert!(most < FLOODED_KIB_MAX, "{most} KiB");
}
