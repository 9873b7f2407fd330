//! RTSP with real clients: ffmpeg, GStreamer and mpv publish and play inside their connections, and every packet is where and when
//! it was.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    time::Duration,
};

use shardcast_tests::clients::{
    Folder,
    forms::{Form, Player, Reading, follow},
    media::{Clip, Kind},
    packets::{Packet, Packets, Run},
    process::Process,
    program,
    server::{Server, Setup},
    wait_for,
};

/// How long a client may take for a clip of a few seconds.
const PATIENCE: Duration = Duration::from_secs(40);
/// Sound that stands before the first picture, with which a viewer begins.
const SOUND_BEFORE_MAX: usize = 24;
/// Microseconds: FLV has milliseconds where packets have ticks of 90 kHz and samples.
const ROUNDING: i64 = 1_000;
/// Packets of sound that ffmpeg gathers for its next packet of RTP, and keeps when it ends.
const SOUND_KEPT_MAX: usize = 8;
/// Publishes inside the connection.
const INSIDE: [&str; 4] = ["-f", "rtsp", "-rtsp_transport", "tcp"];

/// An ffmpeg that publishes the clip at the pace of its clock.
fn publish(clip: &Clip, ffmpeg: &'static str, arguments: &[&str], url: &str) -> Process {
    let mut command = Command::new(program(ffmpeg));
    command.args(["-nostdin", "-v", "warning", "-re", "-i"]).arg(&clip.path);
    Process::start("ffmpeg-publisher", command.args(["-c", "copy"]).args(arguments).arg(url))
}

/// An ffmpeg that lists the packets of a stream, without the parameter sets that stand before key frames.
fn play(clip: &Clip, ffmpeg: &'static str, arguments: &[&str], url: &str) -> Process {
    let mut command = Command::new(program(ffmpeg));
    command.args(["-nostdin", "-v", "repeat+warning", "-copyts"]).args(arguments).args(["-i", url]);
    command.args(["-map", "0:v?", "-map", "0:a?"]);
    // The sound has no headers here that would have to be taken away.
    command.args(clip.kind.of_transport().into_iter().take(2));
    command.args(["-c", "copy", "-copyinkf", "-f", "framehash", "-hash", "md5", "-"]);
    Process::start("ffmpeg-player", &mut command)
}

/// RTP says when a picture is shown; when it is decoded, each client reckons for itself.
fn by_showing(packets: &Packets) -> Packets {
    let shown = |packets: &[Packet]| {
        packets.iter().map(|packet| Packet { dts: packet.pts, ..packet.clone() }).collect()
    };
    Packets { video: shown(&packets.video), audio: shown(&packets.audio) }
}

/// What stands for a time that is not known.
const NO_TIME: &str = "-9223372036854775808";
/// What ffmpeg says of itself.
const HARMLESS: [&str; 2] = [
    "Timestamps are unset in a packet for stream 0",
    // What it says when it goes on to the next transport.
    "method SETUP failed: 461 Unsupported Transport",
];

/// Of what ffmpeg has to find the packets of in a stream that it reads by RTSP, whoever sends it, the first has no time, or a wrong
/// one.
fn give_first_its_time(got: &mut [Packet], source: &[Packet]) {
    if let [first, second, ..] = got {
        let place = |hash: &str| source.iter().find(|packet| packet.hash == hash).map(|packet| packet.pts);
        let (its, next) = (place(&first.hash), place(&second.hash));
        first.pts = second.pts - its.zip(next).map_or(0, |(its, next)| next - its);
    }
}

/// Demands that a player of RTSP had all of the clip but the sound before its first picture, and complained of nothing.
fn assert_played(clip: &Clip, player: Process) {
    let ended = player.succeed(PATIENCE);
    let is_complaint =
        |line: &&str| !line.trim().is_empty() && !HARMLESS.iter().any(|harmless| line.contains(harmless));
    let complaints: Vec<&str> = ended.errors.lines().filter(is_complaint).collect();
    assert_eq!(complaints, [""; 0]);
    assert!(ended.output.matches(NO_TIME).count() <= 1, "{}", ended.output);
    let (mut got, source) = (Packets::parse(&ended.output.replace(NO_TIME, "0")), clip.transport());
    give_first_its_time(&mut got.video, &source.video);
    if clip.kind == Kind::Mp3 {
        give_first_its_time(&mut got.audio, &source.audio);
    }
    assert_whole(clip, &by_showing(&got), &by_showing(&source));
}

fn assert_whole(clip: &Clip, got: &Packets, source: &Packets) {
    let (video, audio) = got.assert_run(source, ROUNDING);
    println!("{:?}: pictures {video:?}, sound {audio:?}", clip.kind);
    assert_eq!(video, Some(Run { first: 0, count: source.video.len() }), "pictures");
    let audio = audio.expect("there is sound");
    assert!(audio.first <= SOUND_BEFORE_MAX, "{audio:?}");
    assert!(
        audio.first + audio.count + SOUND_KEPT_MAX >= source.audio.len(),
        "sound up to its end: {audio:?}"
    );
}

fn wait_for_viewers(server: &Server, count: f64) {
    let are_there = || server.metric("shardcast_viewers").filter(|viewers| *viewers >= count);
    wait_for(PATIENCE, are_there).expect("viewers come");
}

#[test]
fn what_is_published_by_rtmp_is_played_by_each_ffmpeg() {
    for kind in [Kind::H264, Kind::Hevc] {
        let clip = Clip::of(kind, 6);
        let server = Setup::new().start();
        let url = server.rtsp_url("live/cam");
        let players =
            ["ffmpeg", "ffmpeg9"].map(|ffmpeg| play(&clip, ffmpeg, &["-rtsp_transport", "tcp"], &url));
        wait_for_viewers(&server, 2.0);
        clip.publish(&server.rtmp_url("live/cam")).succeed(PATIENCE);
        players.into_iter().for_each(|player| assert_played(&clip, player));
    }
}

#[test]
fn what_each_ffmpeg_publishes_comes_out_by_every_door() {
    for (kind, ffmpeg) in [(Kind::H264, "ffmpeg"), (Kind::H264, "ffmpeg9"), (Kind::Hevc, "ffmpeg9")] {
        let clip = Clip::of(kind, 6);
        let server = Setup::new().start();
        let url = server.rtsp_url("live/cam");
        let player = play(&clip, clip.ffmpeg, &["-rtsp_transport", "tcp"], &url);
        let forms = [Form::Flv, Form::Ts].map(|form| Player::of(form, &clip));
        let readings = follow(&server, "live/cam", &forms, || {
            wait_for_viewers(&server, 3.0);
            publish(&clip, ffmpeg, &INSIDE, &url).succeed(PATIENCE);
        });
        assert_played(&clip, player);
        for reading in &readings {
            assert_read(&clip, reading);
        }
    }
}

/// Demands that all of the clip was read, decoding times too: the encoder's own are found again.
fn assert_read(clip: &Clip, reading: &Reading) {
    let got = reading.packets.as_ref().expect("it lists packets");
    let harmless = |line: &&String| !line.contains("Error during demuxing: Input/output error");
    let complaints: Vec<_> = reading.complaints.iter().filter(harmless).collect();
    assert!(complaints.is_empty(), "{:?}: {complaints:?}", reading.form);
    // FLV has the sets in its configuration, and MPEG-TS before key frames.
    let source = if reading.form.is_transport() { clip.transport() } else { clip.packets.clone() };
    println!("{:?}: {got}", reading.form);
    assert_whole(clip, got, &source);
}

#[test]
fn sound_of_other_codecs_goes_both_ways() {
    let clip = Clip::of(Kind::Mp3, 4);
    let server = Setup::new().start();
    let url = server.rtsp_url("live/cam");
    let player = play(&clip, clip.ffmpeg, &["-rtsp_transport", "tcp"], &url);
    let forms = [Player::of(Form::Flv, &clip)];
    let readings = follow(&server, "live/cam", &forms, || {
        wait_for_viewers(&server, 2.0);
        publish(&clip, "ffmpeg", &INSIDE, &url).succeed(PATIENCE);
    });
    assert_played(&clip, player);
    assert_read(&clip, &readings[0]);
}

#[test]
fn a_key_is_shown_in_the_url_or_as_a_password_and_who_has_none_is_told() {
    let clip = Clip::of(Kind::H264, 4);
    let mut setup = Setup::new();
    setup.tables.push_str("[auth]\npublish = [\"pub:&key\"]\nplay = [\"see\"]\n");
    let server = setup.start();
    let url = server.rtsp_url("live/cam");
    let with = |user: &str| url.replace("rtsp://", &format!("rtsp://{user}@"));
    let refused = publish(&clip, "ffmpeg", &INSIDE, &format!("{url}?key=see")).finish(PATIENCE);
    assert!(!refused.status.success() && refused.errors.contains("401"), "{}", refused.errors);
    let players = [format!("{url}?key=see"), with("anyone:see")]
        .map(|url| play(&clip, "ffmpeg", &["-rtsp_transport", "tcp"], &url));
    wait_for_viewers(&server, 2.0);
    publish(&clip, "ffmpeg", &INSIDE, &with("anyone:pub%3a%26key")).succeed(PATIENCE);
    players.into_iter().for_each(|player| assert_played(&clip, player));
}

#[test]
fn inside_tls_it_is_the_same() {
    let clip = Clip::of(Kind::H264, 4);
    let server = Setup::new().secure().start();
    let url = server.rtsps_url("live/cam");
    let player = play(&clip, "ffmpeg", &["-rtsp_transport", "tcp"], &url);
    wait_for_viewers(&server, 1.0);
    publish(&clip, "ffmpeg", &INSIDE, &url).succeed(PATIENCE);
    assert_played(&clip, player);
}

#[test]
fn who_asks_for_datagrams_is_told_and_comes_inside_the_connection() {
    let clip = Clip::of(Kind::H264, 4);
    let server = Setup::new().start();
    let url = server.rtsp_url("live/cam");
    let player = play(&clip, "ffmpeg", &[], &url);
    wait_for_viewers(&server, 1.0);
    publish(&clip, "ffmpeg", &["-f", "rtsp"], &url).succeed(PATIENCE);
    assert_played(&clip, player);
}

#[test]
fn gstreamer_publishes_and_plays() {
    let clip = Clip::of(Kind::H264, 6);
    let server = Setup::new().start();
    let url = server.rtsp_url("live/cam");
    let folder = Folder::new("rtsp");
    let kept = folder.path().join("kept.mkv");
    let read = format!(
        "rtspsrc location={url} protocols=tcp buffer-mode=none name=s  matroskamux name=m ! filesink location={}  \
         s. ! queue ! rtph264depay ! h264parse ! m.  s. ! queue ! rtpmp4gdepay ! aacparse ! m.",
        kept.display()
    );
    let write = format!(
        "filesrc location={} ! flvdemux name=d  rtspclientsink location={url} protocols=tcp name=r  \
         d.video ! queue ! h264parse ! identity sync=true ! r.  d.audio ! queue ! aacparse ! identity sync=true ! r.",
        clip.path.display()
    );
    let gst = |name: &str, line: &str| {
        Process::start(
            name,
            Command::new(program("gst-launch-1.0")).args(["-e"]).args(line.split_whitespace()),
        )
    };
    let players = [Player::of(Form::Flv, &clip)];
    let mut readings = follow(&server, "live/cam", &players, || {
        let reader = gst("gst-player", &read);
        wait_for_viewers(&server, 2.0);
        let mut publisher = gst("gst-publisher", &write);
        // GStreamer 1.22 often does not notice its own end: its queues and its socket are empty then, and it waits.
        std::thread::sleep(Duration::from_secs(8));
        publisher.kill();
        reader.succeed(PATIENCE);
    });
    // Its first reports come behind its first packets: until then sound stands where it came, and is moved then.
    let mut got = readings.remove(0).packets.expect("it lists packets");
    let early = got.audio.drain(..SOUND_MOVED).collect();
    let (video, audio) = got.assert_run(&clip.packets, ROUNDING);
    println!("published: {video:?} {audio:?}");
    assert!(
        video.is_some_and(|run| run.first == 0 && run.count + 8 >= clip.packets.video.len()),
        "{video:?}"
    );
    assert!(
        audio.is_some_and(
            |run| run.first == SOUND_MOVED && run.first + run.count + 8 >= clip.packets.audio.len()
        ),
        "{audio:?}"
    );
    Packets { video: got.video, audio: early }.assert_run(&clip.packets, MOVED_MAX);
    let played = Packets::of_filtered_file("ffmpeg", &kept, &clip.kind.of_transport()[..2]);
    // GStreamer makes times of its own of when packets come, and moves them as it goes on. What it has is compared, in its order.
    let timeless = |packets: &[Packet]| {
        packets.iter().map(|packet| Packet { dts: 0, pts: 0, ..packet.clone() }).collect()
    };
    let timeless =
        |packets: &Packets| Packets { video: timeless(&packets.video), audio: timeless(&packets.audio) };
    let (video, audio) = timeless(&played).assert_run(&timeless(&clip.transport()), 0);
    println!("played: {video:?} {audio:?}");
    assert!(video.is_some_and(|run| run.count + 16 >= clip.packets.video.len()), "{video:?}");
    assert!(audio.is_some_and(|run| run.count + 64 >= clip.packets.audio.len()), "{audio:?}");
}

/// Packets of sound until they stand in their place, a twentieth of their length nearer with each, and how many microseconds they may be off before.
const SOUND_MOVED: usize = 100;
const MOVED_MAX: i64 = 150_000;

#[test]
fn mpv_shows_it() {
    let clip = Clip::of(Kind::H264, 8);
    let server = Setup::new().start();
    let url = server.rtsp_url("live/cam");
    let publisher = publish(&clip, "ffmpeg", &INSIDE, &url);
    let folder = Folder::new("mpv");
    let mut command = Command::new(program("mpv"));
    command.args([
        "--no-config",
        "--vo=image",
        "--ao=null",
        "--vo-image-format=jpg",
        "--frames=60",
        "--rtsp-transport=tcp",
    ]);
    command.arg(format!("--vo-image-outdir={}", folder.path().display())).arg(&url);
    Process::start("mpv", &mut command).succeed(PATIENCE);
    let shown = std::fs::read_dir(folder.path()).expect("an own folder").count();
    assert!(shown >= 60, "{shown} pictures");
    publisher.succeed(PATIENCE);
}

#[test]
fn peers_that_break_the_protocol_are_told_and_disturb_nobody() {
    let clip = Clip::of(Kind::H264, 6);
    let server = Setup::new().limits("handshake = \"2s\"\n").start();
    let url = server.rtsp_url("live/cam");
    let player = play(&clip, "ffmpeg", &["-rtsp_transport", "tcp"], &url);
    wait_for_viewers(&server, 1.0);
    let publisher = publish(&clip, "ffmpeg", &INSIDE, &url);
    let rtsp = ("127.0.0.1", server.ports().rtsp);
    let say = |bytes: &[u8]| {
        let mut socket = TcpStream::connect(rtsp).expect("the door is open");
        socket.set_read_timeout(Some(PATIENCE)).expect("a legal time");
        // It may be closed before all is taken.
        let _ = socket.write_all(bytes);
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let endless = [&b"OPTIONS * RTSP/1.0\r\n"[..], &b"X-Header: and another one\r\n".repeat(10_000)].concat();
    assert!(say(&endless).starts_with("RTSP/1.0 413"));
    assert!(say(b"\x16\x03\x01\x02\x00\x01\x00").starts_with("RTSP/1.0 400"));
    assert!(say(b"OPTIONS * RTSP/1.0\r\n\r\n").starts_with("RTSP/1.0 400"));
    assert!(
        say(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n").contains("RTSP/1.0 408"),
        "who says no more is not kept"
    );
    // Packets of a stream that nobody has, and a flood of tracks.
    let packets = [&b"$\x05\xff\xff"[..], &[0x80; 65_535]].concat().repeat(20);
    assert!(say(&packets).starts_with("RTSP/1.0 408"));
    let setup = "SETUP rtsp://h/live/cam/trackID=0 RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP/TCP;interleaved=0-1;mode=\"\r\n\r\n";
    assert!(say(setup.repeat(20_000).as_bytes()).starts_with("RTSP/1.0 455"));
    publisher.succeed(PATIENCE);
    assert_played(&clip, player);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}
