//! Streams that are pushed on and pulled: ffmpeg and GStreamer receive datagrams, other servers are published to and fetched from, and
//! whoever is lost on the way is come back to.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use shardcast_tests::clients::{
    Folder,
    forms::{Expected, Form, Player, follow},
    media::{Clip, Kind},
    packets::{Packets, Run, runs},
    process::Process,
    program,
    server::{Server, Setup},
    viewer::Viewer,
    wait_for,
};

/// How long a client may take for a clip of a few seconds.
const PATIENCE: Duration = Duration::from_secs(40);
/// Packets of sound that stand before the first picture, with which a viewer of a transport stream begins.
const SOUND_BEFORE_MAX: usize = 24;
/// Microseconds: a PES packet holds several packets of sound and the time of the first, where the clip has milliseconds for each.
const ROUNDING: i64 = 1_500;
/// Both that are installed.
const FFMPEGS: [&str; 2] = ["ffmpeg", "ffmpeg9"];

/// A port that nobody listens on.
fn free_port() -> u16 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
    socket.local_addr().expect("it is bound").port()
}

/// A server with so many shards that pushes `name` to these, with further keys of the stream.
fn pushing(shards: usize, name: &str, urls: &[String], keys: &str) -> Setup {
    let mut setup = Setup::new().top(&format!("shards = {shards}\n"));
    setup.tables.push_str(&format!("[streams.{name:?}]\npush = {urls:?}\n{keys}\n"));
    setup
}

/// Waits until somebody on this machine listens on the port, over `udp` or `tcp`.
fn wait_for_listener(transport: &str, port: u16) {
    let listens = || {
        let table = fs::read_to_string(format!("/proc/net/{transport}")).expect("Linux has one");
        let local = format!(":{port:04X} ");
        let lines = table.lines().filter(|line| line.split("  ").next().is_some() && line.contains(&local));
        lines.into_iter().next().map(|_| ())
    };
    wait_for(PATIENCE, listens).unwrap_or_else(|| panic!("nobody listens on {transport} port {port}"));
}

/// A receiver of datagrams that lists packets until it is told to end.
struct Receiver {
    what: String,
    process: Process,
}

impl Receiver {
    /// ffmpeg, which reads what `input` says, and listens on `port`.
    fn start(clip: &Clip, ffmpeg: &str, what: &str, input: &[&str], port: u16) -> Self {
        let mut command = Command::new(program(ffmpeg));
        command.args(["-nostdin", "-v", "warning", "-copyts"]).args(input);
        command.args(["-map", "0:v?", "-map", "0:a?"]).args(clip.kind.of_transport());
        command.args(["-c", "copy", "-copyinkf", "-f", "framehash", "-hash", "md5", "-"]);
        let process = Process::start("ffmpeg-receiver", &mut command);
        wait_for_listener("udp", port);
        Receiver { what: format!("{what} to {ffmpeg}"), process }
    }

    /// Plain, to this machine or a group.
    fn plain(clip: &Clip, ffmpeg: &str, address: &str, port: u16) -> Self {
        let local = if address.starts_with("239.") { "&localaddr=127.0.0.1" } else { "" };
        // It ends by itself after a silence, and so reads what was begun to its end.
        let url = format!("udp://{address}:{port}?timeout=4000000{local}");
        Self::start(clip, ffmpeg, &format!("plain by {address}"), &["-i", &url], port)
    }

    /// Inside RTP. Without a description ffmpeg would take its first datagram for a look at it alone.
    fn inside_rtp(clip: &Clip, ffmpeg: &str, folder: &Folder, port: u16) -> Self {
        let path = folder.path().join(format!("{port}.sdp"));
        let text = format!(
            "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 33\n"
        );
        fs::write(&path, text).expect("an own folder can be written");
        let path = path.to_str().expect("paths of tests are ASCII");
        let input = ["-protocol_whitelist", "file,udp,rtp", "-i", path];
        Self::start(clip, ffmpeg, "inside RTP", &input, port)
    }

    /// What it has had when it is told to end.
    fn end(mut self) -> Packets {
        self.process.terminate();
        Packets::parse(&self.process.finish(PATIENCE).output)
    }

    /// Demands that it has had all of the clip but the sound before its first picture; `kept` packets of each kind at the end may be
    /// missing, which it has begun to read when it is told to end.
    fn assert_whole(self, clip: &Clip, kept: usize) {
        let what = self.what.clone();
        let (got, source) = (self.end(), clip.transport());
        let (video, audio) = got.assert_run(&source, ROUNDING);
        println!("{what}: pictures {video:?}, sound {audio:?}");
        let (video, audio) = (video.expect("there are pictures"), audio.expect("there is sound"));
        assert!(video.first == 0 && video.count + kept >= source.video.len(), "{what}: {video:?}");
        assert!(audio.first <= SOUND_BEFORE_MAX, "{what}: {audio:?}");
        assert!(audio.first + audio.count + 8 * kept >= source.audio.len(), "{what}: {audio:?}");
    }
}

#[test]
fn ffmpeg_receives_datagrams_plain_and_inside_rtp_by_address_and_by_group() {
    for (kind, shards) in [(Kind::H264, 1), (Kind::Hevc, 2)] {
        let (clip, folder) = (Clip::of(kind, 6), Folder::new("relays"));
        let group = format!("239.255.72.{}", 1 + std::process::id() % 250);
        let (mut urls, mut receivers) = (Vec::new(), Vec::new());
        for ffmpeg in FFMPEGS {
            let (plain, inside, joined) = (free_port(), free_port(), free_port());
            urls.push(format!("udp://127.0.0.1:{plain}"));
            urls.push(format!("rtp://127.0.0.1:{inside}"));
            urls.push(format!("udp://{group}:{joined}?interface=lo&ttl=0"));
            receivers.push((Receiver::plain(&clip, ffmpeg, "127.0.0.1", plain), 0));
            receivers.push((Receiver::plain(&clip, ffmpeg, &group, joined), 0));
            receivers.push((Receiver::inside_rtp(&clip, ffmpeg, &folder, inside), 2));
        }
        let server = pushing(shards, "live/news", &urls, "").start();
        clip.publish(&server.rtmp_url("live/news")).succeed(PATIENCE);
        // What ends by itself ends with the silence.
        thread::sleep(Duration::from_secs(6));
        receivers.into_iter().for_each(|(receiver, kept)| receiver.assert_whole(&clip, kept));
        let sent = server.metric("shardcast_relay_bytes_total").expect("it is shown");
        assert!(sent > 6.0 * 100_000.0, "{sent}");
        assert_eq!(server.metric("shardcast_relay_failures_total"), Some(0.0));
    }
}

#[test]
fn a_receiver_that_comes_in_the_middle_and_one_that_comes_back_begin_at_a_key_frame() {
    let clip = Clip::of(Kind::H264, 8);
    let port = free_port();
    let server = pushing(2, "live/news", &[format!("udp://127.0.0.1:{port}")], "").start();
    let publisher = clip.publish(&server.rtmp_url("live/news"));
    thread::sleep(Duration::from_secs(1));
    let mut first = Receiver::plain(&clip, "ffmpeg", "127.0.0.1", port);
    thread::sleep(Duration::from_millis(2_500));
    first.process.kill();
    let second = Receiver::plain(&clip, "ffmpeg9", "127.0.0.1", port);
    publisher.succeed(PATIENCE);
    thread::sleep(Duration::from_secs(5));
    let video = runs("video", &second.end().video, &clip.transport().video);
    let last = video.last().expect("there are pictures");
    assert_eq!(last.first + last.count, clip.packets.video.len(), "to its end: {video:?}");
    assert!(last.count >= 50, "from a key frame on: {video:?}");
}

#[test]
fn gstreamer_receives_datagrams() {
    let (clip, folder) = (Clip::of(Kind::H264, 6), Folder::new("relays-gst"));
    for (scheme, depay) in [
        ("udp", ""),
        ("rtp", "application/x-rtp,media=video,clock-rate=90000,encoding-name=MP2T ! rtpmp2tdepay !"),
    ] {
        let (port, path) = (free_port(), folder.path().join(scheme));
        let line = format!(
            "-e udpsrc port={port} ! {depay} tsdemux ! h264parse ! matroskamux ! filesink \
             location={}",
            path.display()
        );
        let mut command = Command::new(program("gst-launch-1.0"));
        let mut receiver = Process::start("gst-receiver", command.args(line.split_whitespace()));
        wait_for_listener("udp", port);
        let server = pushing(2, "live/news", &[format!("{scheme}://127.0.0.1:{port}")], "").start();
        clip.publish(&server.rtmp_url("live/news")).succeed(PATIENCE);
        thread::sleep(Duration::from_secs(2));
        receiver.signal(Signal::INT);
        let said = receiver.finish(PATIENCE);
        let got = Packets::of_file("ffmpeg", &path).video.len();
        println!("{scheme}: {got} of {} pictures", clip.packets.video.len());
        assert!(got + 4 >= clip.packets.video.len(), "{got}: {}", said.errors);
    }
}

#[test]
fn a_stream_is_published_whole_on_another_server_and_on_ffmpeg() {
    for (kind, shards) in [(Kind::H264, 1), (Kind::Hevc, 2)] {
        let clip = Clip::of(kind, 6);
        let other = Setup::new().start();
        let port = free_port();
        let mut command = Command::new(program(clip.ffmpeg));
        command.args(["-nostdin", "-v", "warning", "-copyts", "-listen", "1"]);
        command.args(["-i", &format!("rtmp://127.0.0.1:{port}/app/stream"), "-map", "0"]);
        command.args(["-c", "copy", "-copyinkf", "-f", "framehash", "-hash", "md5", "-"]);
        let listener = Process::start("ffmpeg-listener", &mut command);
        wait_for_listener("tcp", port);
        let urls = [other.rtmp_url("copies/{stream}?key=x"), format!("rtmp://127.0.0.1:{port}/app/stream")];
        let server = pushing(shards, "live/cam", &urls, "").start();
        let readings = follow(&other, "copies/cam", &[Player::of(Form::Rtmp, &clip)], || {
            clip.publish(&server.rtmp_url("live/cam")).succeed(PATIENCE);
        });
        Expected::of(&clip).assert_all_read(&readings);
        let got = Packets::parse(&listener.finish(PATIENCE).output);
        println!("ffmpeg that listens: {got}");
        got.assert_equal(&clip.packets, 0);
    }
}

#[test]
fn the_streams_of_an_app_are_pushed_each_to_its_name_and_a_reload_changes_that() {
    let clip = Clip::of(Kind::H264, 8);
    let other = Setup::new().start();
    let target = other.rtmp_url("copies/{app}-{stream}");
    let mut setup = Setup::new();
    setup.tables.push_str(&format!("[apps.live]\npush = [{target:?}]\n"));
    let mut server = setup.start();
    let one = clip.publish(&server.rtmp_url("live/one"));
    let two = clip.publish(&server.rtmp_url("live/two"));
    let talk = clip.publish(&server.rtmp_url("talk/one"));
    let published = |count: f64| {
        let are = || (other.metric("shardcast_publishers") == Some(count)).then_some(());
        wait_for(PATIENCE, are).unwrap_or_else(|| panic!("not {count} publishers:\n{}", other.log()));
    };
    published(2.0);
    for name in ["live-one", "live-two"] {
        assert_eq!(other.log_lines(&format!("copies/{name}")).len(), 1, "{}", other.log());
    }
    // The other app is pushed from here on, and this one no more.
    let path = server.folder().join("shardcast.toml");
    let text = fs::read_to_string(&path).expect("it was read before");
    let port = free_port();
    let receiver = Receiver::plain(&clip, "ffmpeg", "127.0.0.1", port);
    let single = format!("[streams.\"live/two\"]\npush = [\"udp://127.0.0.1:{port}\"]\n");
    fs::write(&path, text.replace("[apps.live]", "[apps.talk]") + &single)
        .expect("an own folder can be written");
    server.signal(Signal::HUP);
    let gone = || (!other.log_lines("talk-one").is_empty()).then_some(());
    wait_for(PATIENCE, gone).unwrap_or_else(|| panic!("nothing has changed:\n{}", server.log()));
    published(1.0);
    [one, two, talk].into_iter().for_each(|publisher| drop(publisher.succeed(PATIENCE)));
    thread::sleep(Duration::from_secs(5));
    let video = runs("video", &receiver.end().video, &clip.transport().video);
    assert!(video.last().is_some_and(|run| run.first + run.count == clip.packets.video.len()), "{video:?}");
}

#[test]
fn a_server_that_is_killed_is_pushed_to_again_when_it_is_back() {
    let clip = Clip::of(Kind::H264, 14);
    let mut other = Setup::new().start();
    let urls = [other.rtmp_url("copies/cam"), other.rtsp_url("copies/rtsp")];
    let server = pushing(2, "live/cam", &urls, "").start();
    let beside = Viewer::follow(&server, "live/cam");
    let publisher = clip.publish(&server.rtmp_url("live/cam"));
    let is_live = |other: &Server| (other.metric("shardcast_publishers") == Some(2.0)).then_some(());
    wait_for(PATIENCE, || is_live(&other)).expect("the copies are live");
    let ports = other.ports();
    other.crash();
    thread::sleep(Duration::from_secs(1));
    let other = Setup::new().launch(ports);
    wait_for(PATIENCE, || is_live(&other)).unwrap_or_else(|| panic!("not again:\n{}", server.log()));
    let mut viewer = Viewer::open(&other, "copies/cam");
    publisher.succeed(PATIENCE);
    viewer.read_to_end();
    let saved = server.folder().join("copy.flv");
    viewer.save(&saved);
    let video = Packets::of_file("ffmpeg", &saved).video;
    let Run { first, count } =
        runs("video", &video, &clip.packets.video)[..].first().copied().expect("pictures");
    assert_eq!((first % 50, first + count), (0, clip.packets.video.len()), "from a key frame to the end");
    assert!(server.metric("shardcast_relay_failures_total").is_some_and(|failures| failures >= 1.0));
    beside.wait().save(&saved);
    Packets::of_file("ffmpeg", &saved).assert_equal(&clip.packets, 0);
}

#[test]
fn a_target_that_stops_reading_disturbs_neither_the_publisher_nor_a_viewer_beside_it() {
    let clip = Clip::of(Kind::H264Heavy, 12);
    let mut other = Setup::new().start();
    let urls = [other.rtmp_url("copies/cam"), other.rtsp_url("copies/rtsp")];
    let server = pushing(2, "live/cam", &urls, "").stream("viewer_lag = \"1s\"\n").start();
    let beside = Viewer::follow(&server, "live/cam");
    let began = Instant::now();
    let publisher = clip.publish(&server.rtmp_url("live/cam"));
    let is_live = || (other.metric("shardcast_publishers") == Some(2.0)).then_some(());
    wait_for(PATIENCE, is_live).expect("the copies are live");
    other.signal(Signal::STOP);
    publisher.succeed(PATIENCE);
    let took = began.elapsed();
    other.signal(Signal::CONT);
    assert!(took < Duration::from_secs(15), "{took:?}");
    let saved = server.folder().join("beside.flv");
    beside.wait().save(&saved);
    Packets::of_file("ffmpeg", &saved).assert_equal(&clip.packets, 0);
}

#[test]
fn a_stream_is_pulled_whole_and_again_when_its_server_is_back() {
    for shards in [1, 2] {
        let clip = Clip::of(Kind::H264, 6);
        let mut origin = Setup::new().start();
        let mut setup = Setup::new().top(&format!("shards = {shards}\n"));
        let url = origin.rtmp_url("live/cam");
        setup.tables.push_str(&format!("[streams.\"far/cam\"]\npull = {url:?}\n"));
        // Whoever publishes by a door needs a key here; the operator's own pull does not.
        setup.tables.push_str("[auth]\npublish = [\"secret\"]\n");
        let server = setup.start();
        let waits = |origin: &Server| (origin.metric("shardcast_viewers") == Some(1.0)).then_some(());
        for round in 0..2 {
            wait_for(PATIENCE, || waits(&origin))
                .unwrap_or_else(|| panic!("not pulled:\n{}\n{}", server.log(), origin.log()));
            let readings = follow(&server, "far/cam", &[Player::of(Form::Flv, &clip)], || {
                clip.publish(&origin.rtmp_url("live/cam")).succeed(PATIENCE);
            });
            Expected::of(&clip).assert_all_read(&readings);
            if round == 0 {
                let ports = origin.ports();
                origin.crash();
                // The kernel takes a moment to let go of what a ring had, its doors among them.
                thread::sleep(Duration::from_secs(1));
                origin = Setup::new().launch(ports);
            }
        }
    }
}

#[test]
fn a_stream_that_is_pushed_to_itself_is_refused_and_not_in_a_storm() {
    let clip = Clip::of(Kind::H264, 6);
    let mut setup = Setup::new().stream("takeover = true\n");
    let ports = shardcast_tests::clients::server::Ports::free();
    // Another way to write 127.0.0.1, which the check does not see through.
    let url = format!("rtmp://127.1:{}/live/cam", ports.rtmp);
    setup.tables.push_str(&format!("[streams.\"live/cam\"]\npush = [{url:?}]\n"));
    let server = setup.launch(ports);
    wait_for(PATIENCE, || server.get("/readyz").filter(|answer| answer.starts_with("HTTP/1.1 200")))
        .unwrap_or_else(|| panic!("not ready:\n{}", server.log()));
    let readings = follow(&server, "live/cam", &[Player::of(Form::Flv, &clip)], || {
        clip.publish(&server.rtmp_url("live/cam")).succeed(PATIENCE);
    });
    Expected::of(&clip).assert_all_read(&readings);
    assert_eq!(server.log_lines("leads back").len(), 1, "{}", server.log());
    let failures = server.metric("shardcast_relay_failures_total").expect("it is shown");
    assert!((1.0..=5.0).contains(&failures), "{failures}");
    assert_eq!(server.log_lines("took over").len(), 0);
}
