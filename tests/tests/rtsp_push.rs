//! Streams that are pushed on by RTSP: another server of this kind, ffmpeg that listens and a server of GStreamer's record them, with and
//! without a password.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    process::Command,
};

use shardcast_tests::clients::{
    Folder,
    forms::{Form, Player, follow},
    media::{Clip, Kind},
    packets::{Packets, runs},
    process::Process,
    repository,
    rtsp::{PATIENCE, assert_played, assert_read, play, with},
    server::{Ports, Server, Setup},
    wait_for,
};

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
    listener.local_addr().expect("it is bound").port()
}

/// Waits until somebody on this machine listens on the port.
fn wait_for_listener(port: u16) {
    let local = format!(":{port:04X} 00000000:0000 0A");
    let listens = || {
        let table = fs::read_to_string("/proc/net/tcp").expect("Linux has one");
        table.lines().any(|line| line.contains(&local)).then_some(())
    };
    wait_for(PATIENCE, listens).unwrap_or_else(|| panic!("nobody listens on port {port}"));
}

/// A server with so many shards that pushes `live/cam` to these.
fn pushing(shards: usize, urls: &[String]) -> Setup {
    let mut setup = Setup::new().top(&format!("shards = {shards}\n"));
    setup.tables.push_str(&format!("[streams.\"live/cam\"]\npush = {urls:?}\n"));
    setup
}

/// A server on which only those publish who have the key.
fn keyed() -> Server {
    let mut setup = Setup::new().top("shards = 2\n");
    setup.tables.push_str("[auth]\npublish = [\"s3@cret\"]\n");
    setup.start()
}

#[test]
fn a_stream_is_published_whole_on_another_server_and_on_each_ffmpeg_that_listens() {
    for (kind, shards) in [(Kind::H264, 1), (Kind::Hevc, 2)] {
        let clip = Clip::of(kind, 4);
        let other = if kind == Kind::Hevc { keyed() } else { Setup::new().start() };
        let mut urls = vec![other.rtsp_url("copies/{stream}")];
        if kind == Kind::Hevc {
            let url = |name: &str, user: &str| with(&other.rtsp_url(name), user);
            urls = vec![url("copies/cam", "anyone:s3%40cret"), url("copies/wrong", "anyone:wrong")];
        }
        let mut listeners = Vec::new();
        for ffmpeg in ["ffmpeg", "ffmpeg9"] {
            let port = free_port();
            let url = format!("rtsp://127.0.0.1:{port}/app/stream");
            listeners.push(play(&clip, ffmpeg, &["-rtsp_flags", "listen", "-listen_timeout", "40"], &url));
            wait_for_listener(port);
            urls.push(url);
        }
        let server = pushing(shards, &urls).start();
        let forms = [Form::Flv, Form::Ts].map(|form| Player::of(form, &clip));
        let readings = follow(&other, "copies/cam", &forms, || {
            clip.publish(&server.rtmp_url("live/cam")).succeed(PATIENCE);
        });
        readings.iter().for_each(|reading| assert_read(&clip, reading));
        listeners.into_iter().for_each(|listener| assert_played(&clip, listener));
        let complaints = server.log_lines("does not take our user and password");
        assert_eq!(complaints.len(), usize::from(kind == Kind::Hevc), "{}", server.log());
        assert!(!server.log().contains("s3") && !server.log().contains("wrong@"), "{}", server.log());
    }
}

/// A server of GStreamer's that keeps what is published at `/cam` by the user `ann` with the password `s3cret`.
fn recorder(port: u16, kept: &str) -> Process {
    let script = repository().join("tests/interop/rtsp_server.py");
    // Where Debian has GStreamer's modules, whichever Python comes first.
    let mut command = Command::new("/usr/bin/python3");
    let recorder =
        Process::start("gst-recorder", command.arg(script).args([&port.to_string(), "record", kept]));
    wait_for(PATIENCE, || recorder.said().contains("ready").then_some(())).expect("the recorder is ready");
    recorder
}

#[test]
fn gstreamer_records_what_is_pushed_to_it_with_a_password() {
    let clip = Clip::of(Kind::H264, 6);
    let folder = Folder::new("rtsp-push");
    let kept = folder.path().join("kept.mkv");
    let port = free_port();
    let mut recorder = recorder(port, &kept.display().to_string());
    let server = pushing(2, &[format!("rtsp://ann:s3cret@127.0.0.1:{port}/cam")]).start();
    clip.publish(&server.rtmp_url("live/cam")).succeed(PATIENCE);
    wait_for(PATIENCE, || recorder.said().contains("teardown").then_some(()))
        .unwrap_or_else(|| panic!("it is told of the end: {}\n{}", recorder.said(), server.log()));
    recorder.kill();
    let got = Packets::of_filtered_file("ffmpeg", &kept, &clip.kind.of_transport()[..2]);
    let video = runs("pictures", &got.video, &clip.transport().video);
    println!("pictures {video:?} of {}, {} packets of sound", clip.packets.video.len(), got.audio.len());
    assert!(video.len() == 1 && video[0].first == 0, "{video:?}");
    assert!(video[0].count + 8 >= clip.packets.video.len(), "{video:?}");
    assert!(got.audio.len() + 32 >= clip.packets.audio.len(), "{} packets of sound", got.audio.len());
    assert_eq!(server.metric("shardcast_relay_failures_total"), Some(0.0), "{}", server.log());
}

#[test]
fn a_stream_that_is_pushed_to_itself_is_refused_by_rtsp_too() {
    let clip = Clip::of(Kind::H264, 4);
    let ports = Ports::free();
    // Another way to write 127.0.0.1, which the check does not see through.
    let url = format!("rtsp://127.1:{}/live/cam", ports.rtsp);
    let server = pushing(1, &[url]).stream("takeover = true\n").launch(ports);
    wait_for(PATIENCE, || server.get("/readyz").filter(|answer| answer.starts_with("HTTP/1.1 200")))
        .unwrap_or_else(|| panic!("not ready:\n{}", server.log()));
    clip.publish(&server.rtmp_url("live/cam")).succeed(PATIENCE);
    assert_eq!(server.log_lines("leads back").len(), 1, "{}", server.log());
}
