//! RTSP with real clients: ffmpeg, GStreamer and mpv publish and play inside their connections, and every packet is where and when
//! it was.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use shardcast_tests::clients::{
    Folder,
    forms::{Form, Player, follow},
    media::{Clip, Kind},
    packets::Packets,
    rtsp::{
        PATIENCE, assert_played, assert_read, assert_shown_by_mpv, gst, play, publish, timeless,
        wait_for_viewers, with,
    },
    server::Setup,
};

/// Publishes inside the connection.
const INSIDE: [&str; 4] = ["-f", "rtsp", "-rtsp_transport", "tcp"];

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
    let refused = publish(&clip, "ffmpeg", &INSIDE, &format!("{url}?key=see")).finish(PATIENCE);
    assert!(!refused.status.success() && refused.errors.contains("401"), "{}", refused.errors);
    let players = [format!("{url}?key=see"), with(&url, "anyone:see")]
        .map(|url| play(&clip, "ffmpeg", &["-rtsp_transport", "tcp"], &url));
    wait_for_viewers(&server, 2.0);
    publish(&clip, "ffmpeg", &INSIDE, &with(&url, "anyone:pub%3a%26key")).succeed(PATIENCE);
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
fn who_asks_for_datagrams_where_there_are_none_is_told_and_comes_inside_the_connection() {
    let clip = Clip::of(Kind::H264, 4);
    let server = Setup::new().rtsp("udp_port = 0\n").start();
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
    // Its reports put its own two clocks together more closely as it goes on.
    let (video, audio) = got.assert_run(&clip.packets, STEP_MAX);
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
    let (video, audio) = timeless(&played).assert_run(&timeless(&clip.transport()), 0);
    println!("played: {video:?} {audio:?}");
    assert!(video.is_some_and(|run| run.count + 16 >= clip.packets.video.len()), "{video:?}");
    assert!(audio.is_some_and(|run| run.count + 64 >= clip.packets.audio.len()), "{audio:?}");
}

/// Packets of sound until they stand in their place, a twentieth of their length nearer with each, and how many microseconds they may be off before.
const SOUND_MOVED: usize = 100;
/// Microseconds by which it moves a track when it knows its clocks better.
const STEP_MAX: i64 = 20_000;
const MOVED_MAX: i64 = 150_000;

#[test]
fn mpv_shows_it() {
    let clip = Clip::of(Kind::H264, 8);
    let server = Setup::new().start();
    let url = server.rtsp_url("live/cam");
    let publisher = publish(&clip, "ffmpeg", &INSIDE, &url);
    assert_shown_by_mpv(&url, "tcp");
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
