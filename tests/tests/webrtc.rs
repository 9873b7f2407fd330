//! WHIP and WHEP with real clients: what browsers, ffmpeg and others publish comes out as it was, and they play what others publish.

use std::{
    fs,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use shardcast_tests::clients::{
    browser::{LATE, LOOKS, publish_clock, script, watch_seconds},
    forms::Form,
    media::{Clip, Kind},
    network::{Network, Weather},
    packets::{Packet, Packets, Run},
    process::{Ended, Process},
    program, repository,
    server::{Server, Setup},
    target, wait_for,
};

/// How long a client may take for a few seconds of a stream.
const PATIENCE: Duration = Duration::from_secs(60);
/// Microseconds: FLV has milliseconds where packets have ticks of 90 kHz and 48 kHz.
const ROUNDING: i64 = 1_000;

/// Packets of sound that may still be on their way when a publisher ends.
const SOUND_KEPT_MAX: usize = 8;

/// Who codes pictures takes a core: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The script that has browsers publish and play `live/cam`, with these arguments. What it found is kept beside the clips.
fn browsers(server: &Server, name: &str, arguments: &[&str]) -> Process {
    let url = server.webrtc_url("live", "cam");
    let report = target().join("interop").join(format!("webrtc-{name}.json"));
    let seconds = watch_seconds().unwrap_or(5).to_string();
    let mut command = script("webrtc.mjs");
    command.arg(url).args(["--seconds", &seconds]).args(arguments).arg("--report").arg(report);
    Process::start(name, &mut command)
}

/// Waits for what a script found. False when the machine may have been too busy for it.
fn is_well(script: Process, name: &str) -> bool {
    let Ended { status, output, errors } =
        script.finish(PATIENCE + Duration::from_secs(watch_seconds().unwrap_or(0)));
    println!("{name}: {output}");
    assert!(status.success() || status.code() == Some(LATE), "{name}: {output}\n{errors}");
    status.success()
}

/// Looks until it is well.
fn looking(name: &str, look: impl Fn() -> bool) {
    assert!((0..LOOKS).any(|_| look()), "{name}: the picture stood each time");
}

/// An ffmpeg that decodes three seconds of what is at `url`, or all of a file.
fn decoder(url: &str) -> (String, Process) {
    let mut command = Command::new(program("ffmpeg9"));
    command.args(["-nostdin", "-v", "warning", "-t", "3", "-i", url]);
    command.args(["-map", "0:v", "-map", "0:a", "-f", "framehash", "-hash", "md5", "-"]);
    (url.to_owned(), Process::start("ffmpeg9-player", &mut command))
}

/// Demands that pictures and sound were decoded and nothing was wrong with them.
fn assert_decoded((url, decoder): (String, Process)) {
    let ended = decoder.succeed(PATIENCE);
    let decoded = Packets::parse(&ended.output);
    println!("{url}: {decoded}");
    assert!(decoded.video.len() >= 20, "{url}: {decoded}\n{}", ended.errors);
    assert!(decoded.audio.len() >= 50, "{url}: {decoded}\n{}", ended.errors);
    let grows = |all: &[Packet]| all.windows(2).all(|two| two[0].pts < two[1].pts);
    assert!(grows(&decoded.video) && grows(&decoded.audio), "{url}: times go back");
    assert!(!ended.errors.contains("error while decoding"), "{url}: {}", ended.errors);
}

/// A camera in a browser, watched in a browser, by RTSP and by HTTP-FLV, and recorded.
fn a_camera_is_watched(codec: &str) {
    let _alone = alone();
    let name = format!("camera-{codec}");
    looking(&name, || {
        let server = Setup::new().recording().start();
        let over = server.folder().join("seen");
        let until = over.to_str().expect("paths of tests are ASCII");
        let mut camera = browsers(&server, &name, &["--camera", "--codec", codec, "--until", until]);
        let plays = wait_for(PATIENCE, || {
            let plays = camera.said().contains("playing").then_some(true);
            plays.or_else(|| camera.ended().map(|_| false))
        });
        if plays == Some(true) {
            let mut urls = vec![server.rtsp_url("live/cam")];
            // ffmpeg knows no VP8 in FLV.
            urls.extend((codec == "H264").then(|| server.flv_url("live/cam")));
            let players: Vec<_> = urls.iter().map(|url| decoder(url)).collect();
            players.into_iter().for_each(assert_decoded);
        }
        fs::write(&over, "").expect("the folder is there");
        let well = is_well(camera, &name);
        let recordings = server.recordings("live/cam");
        assert!(!recordings.is_empty(), "nothing was recorded");
        for recording in recordings {
            assert_decoded(decoder(recording.to_str().expect("paths of tests are ASCII")));
        }
        well
    });
}

#[test]
fn a_browser_publishes_its_camera_by_h264_and_all_others_watch() {
    a_camera_is_watched("H264");
}

#[test]
fn a_browser_publishes_its_camera_by_vp8_and_all_others_watch() {
    a_camera_is_watched("VP8");
}

#[test]
fn pictures_that_nothing_refers_to_are_left_out_for_a_browser() {
    let _alone = alone();
    looking("without-b", || {
        let server = Setup::new().start();
        let _publisher = publish_clock(&server.rtmp_url("live/cam"), 2, "b-adapt=0:b-pyramid=none");
        // 25 a second, of which two of three are such.
        is_well(browsers(&server, "without-b", &["--frames", "8:10"]), "without-b")
    });
}

#[test]
fn a_picture_is_soon_back_where_the_network_loses_every_twentieth_packet() {
    let _alone = alone();
    looking("lossy", || {
        // One shard has one port, which is the one that the answer names.
        let server = Setup::new().top("shards = 1").start();
        let bad = Weather {
            seed: 7,
            lost: 50,
            doubled: 0,
            delay: Duration::from_millis(10),
            jitter: Duration::from_millis(2),
        };
        let network = Network::new(server.ports().webrtc, bad);
        let _publisher = publish_clock(&server.rtmp_url("live/cam"), 0, "");
        let well = is_well(browsers(&server, "lossy", &["--through", &network.port().to_string()]), "lossy");
        println!("{} datagrams were lost", network.dropped());
        well
    });
}

/// ffmpeg 9 publishes by WHIP, and players of other forms have every packet.
#[test]
fn ffmpeg_publishes_by_whip_what_comes_out_by_rtmp_and_flv() {
    let _alone = alone();
    let clip = Clip::of(Kind::H264Plain, 6);
    let server = Setup::new().start();
    let players = [Form::Rtmp, Form::Flv]
        .map(|form| (form, Packets::player("ffmpeg9", &form.url(&server, "live/cam"))));
    let mut command = Command::new(program("ffmpeg9"));
    command
        .args(["-nostdin", "-v", "warning", "-re", "-i"])
        .arg(&clip.path)
        .args(["-c", "copy", "-f", "whip"]);
    let whip = Process::start("ffmpeg9-whip", command.arg(server.webrtc_url("live/cam", "whip")));
    whip.succeed(PATIENCE);
    for (form, player) in players {
        let got = Packets::parse(&player.succeed(PATIENCE).output);
        println!("{form:?}: {got}");
        let (video, audio) = got.assert_run(&clip.packets, ROUNDING);
        let whole = |run: Option<Run>, all: &[Packet], kept: usize| {
            run.is_some_and(|run| run.first == 0 && run.count + kept >= all.len())
        };
        assert!(whole(video, &clip.packets.video, 0), "{form:?}: pictures {video:?}");
        assert!(whole(audio, &clip.packets.audio, SOUND_KEPT_MAX), "{form:?}: sound {audio:?}");
    }
}

/// One of the peers in Python: aiortc of its own environment, or GStreamer of the system's.
fn peer(script: &str, arguments: &[&str]) -> Process {
    let own = target().join("interop/python/bin/python");
    let python = if script.starts_with("aiortc") { own } else { "/usr/bin/python3".into() };
    assert!(python.is_file(), "{} is not installed; tests/setup.sh installs it", python.display());
    let path = repository().join("tests/interop/webrtc").join(script);
    Process::start(script, Command::new(python).arg(path).args(arguments))
}

/// Demands that one such peer publishes, and that another and ffmpeg play what it does.
fn is_published_and_played(script: &str, codec: &str) {
    let _alone = alone();
    // libnice pairs no address of an interface with one of loopback.
    let server = Setup::new().top("bind = \"0.0.0.0\"\nallow_anonymous = true\n").start();
    let over = server.folder().join("seen");
    let until = over.to_str().expect("paths of tests are ASCII");
    let publisher = peer(script, &["publish", &server.webrtc_url("live/cam", "whip"), codec, until]);
    let connected = wait_for(PATIENCE, || publisher.said().contains("connected").then_some(()));
    connected.unwrap_or_else(|| panic!("{script} does not publish {codec}"));
    let codecs: &[&str] = if script.starts_with("gst") { &[codec] } else { &[] };
    let url = server.webrtc_url("live/cam", "whep");
    let arguments = [&["play", &url], codecs, &["60", "80"]].concat();
    let (viewer, player) = (peer(script, &arguments), decoder(&server.rtsp_url("live/cam")));
    println!("{script} {codec}: {}", viewer.succeed(PATIENCE).output.trim());
    assert_decoded(player);
    fs::write(&over, "").expect("the folder is there");
    publisher.succeed(PATIENCE);
    // Its DELETE has ended it.
    assert_eq!(server.log_lines("publisher done").len(), 1, "{}", server.log());
}

#[test]
fn aiortc_publishes_and_plays_h264() {
    is_published_and_played("aiortc_peer.py", "H264");
}

#[test]
fn aiortc_publishes_and_plays_vp8() {
    is_published_and_played("aiortc_peer.py", "VP8");
}

#[test]
fn gstreamer_publishes_and_plays_h264() {
    is_published_and_played("gst_peer.py", "H264");
}

#[test]
fn gstreamer_publishes_and_plays_vp8() {
    is_published_and_played("gst_peer.py", "VP8");
}
