//! HTTP-FLV: what players, scripts and pages of another origin get.

use std::time::Duration;

use shardcast_tests::clients::{
    flv,
    media::{Clip, GROUP, Kind},
    packets::{Packets, runs},
    server::{Server, Setup},
    viewer::Viewer,
};

#[test]
fn ffmpeg_reads_by_http_every_packet_that_ffmpeg_published() {
    let clip = Clip::of(Kind::H264, 8);
    let server = Setup::new().start();
    let player = Packets::player("ffmpeg", &server.flv_url("live/cam"));
    clip.publish(&server.rtmp_url("live/cam")).succeed(Duration::from_secs(30));
    let ended = player.succeed(Duration::from_secs(20));
    Packets::parse(&ended.output).assert_equal(&clip.packets, 0);
}

#[test]
fn a_websocket_carries_every_packet_that_ffmpeg_published() {
    let clip = Clip::of(Kind::H264, 8);
    let server = Setup::new().start();
    let viewers: Vec<_> = (0..3).map(|_| Viewer::follow_by_websocket(&server, "live/socket")).collect();
    clip.publish(&server.rtmp_url("live/socket")).succeed(Duration::from_secs(30));
    for (number, viewer) in viewers.into_iter().enumerate() {
        let saved = server.folder().join(format!("viewer{number}.flv"));
        viewer.wait().save(&saved);
        Packets::of_file("ffmpeg", &saved).assert_equal(&clip.packets, 0);
    }
}

#[test]
fn a_viewer_that_joins_in_mid_group_starts_on_a_key_frame_and_misses_nothing_after() {
    let clip = Clip::of(Kind::H264, 12);
    let server = Setup::new().start();
    let publisher = clip.publish(&server.rtmp_url("live/join"));
    let mut first = Viewer::open(&server, "live/join");
    // Once the first viewer is one second into a group, the others join: on both cores, in the middle of it.
    while let Some(tag) = first.next_tag() {
        if tag.is_media() && tag.kind == flv::VIDEO && tag.time >= 5_000 {
            break;
        }
    }
    let joiners: Vec<Viewer> = (0..4).map(|_| Viewer::open(&server, "live/join")).collect();
    let readers: Vec<_> = joiners
        .into_iter()
        .map(|mut joiner| {
            std::thread::spawn(move || {
                joiner.read_to_end();
                joiner
            })
        })
        .collect();
    first.read_to_end();
    publisher.succeed(Duration::from_secs(30));
    let mut viewers = vec![first];
    viewers.extend(readers.into_iter().map(|reader| reader.join().expect("a viewer reads to its end")));
    for (number, viewer) in viewers.iter().enumerate() {
        let saved = server.folder().join(format!("viewer{number}.flv"));
        viewer.save(&saved);
        let (video, audio) = Packets::of_file("ffmpeg", &saved).assert_run(&clip.packets, 0);
        let (video, audio) = (video.expect("pictures came"), audio.expect("sound came"));
        assert_eq!(video.first % GROUP, 0, "viewer {number} starts on a key frame");
        assert_eq!(video.first + video.count, clip.packets.video.len(), "viewer {number} sees the end");
        assert_eq!(audio.first + audio.count, clip.packets.audio.len(), "viewer {number} hears the end");
        let (seen, heard) = (clip.packets.video.get(video.first), clip.packets.audio.get(audio.first));
        let gap = heard.expect("a place in the source").dts - seen.expect("a place in the source").dts;
        assert!(gap.abs() < 100_000, "viewer {number}: sound begins {gap} us after the pictures");
        if number > 0 {
            assert_eq!(video.first, 2 * GROUP, "viewer {number} starts on the newest key frame");
        }
    }
}

#[test]
fn a_viewer_that_stops_reading_for_ten_seconds_comes_back_on_a_key_frame() {
    let clip = Clip::of(Kind::H264Heavy, 20);
    let server = Setup::new().stream("viewer_lag = \"2s\"\n").start();
    let publisher = clip.publish(&server.rtmp_url("live/slow"));
    let mut slow = Viewer::open_narrow(&server, "live/slow");
    let steady = Viewer::open(&server, "live/slow");
    let steady = std::thread::spawn(move || {
        let mut steady = steady;
        steady.read_to_end();
        steady
    });
    slow.read_for(Duration::from_secs(3));
    std::thread::sleep(Duration::from_secs(10));
    slow.read_to_end();
    let steady = steady.join().expect("the other viewer reads to its end");
    publisher.succeed(Duration::from_secs(30));

    let saved = server.folder().join("steady.flv");
    steady.save(&saved);
    Packets::of_file("ffmpeg", &saved).assert_equal(&clip.packets, 0);

    let saved = server.folder().join("slow.flv");
    slow.save(&saved);
    let got = Packets::of_file("ffmpeg", &saved);
    let video = runs("video", &got.video, &clip.packets.video);
    assert!(
        video.len() > 1,
        "after ten seconds without reading something must have been left out: {video:?}"
    );
    for run in &video {
        assert_eq!(run.first % GROUP, 0, "each return is on a key frame: {video:?}");
    }
    let last = video.last().expect("more than one");
    assert_eq!(last.first + last.count, clip.packets.video.len(), "the stream is seen to its end");
    // Sound comes back with the pictures, not before and not after.
    for run in runs("audio", &got.audio, &clip.packets.audio).iter().skip(1) {
        let heard = clip.packets.audio.get(run.first).expect("a place in the source").dts;
        let near = video.iter().any(|run| {
            let seen = clip.packets.video.get(run.first).expect("a place in the source").dts;
            (heard - seen).abs() < 100_000
        });
        assert!(near, "sound comes back at {heard} us, pictures in {video:?}");
    }
}

#[test]
fn a_viewer_that_takes_nothing_for_too_long_is_closed() {
    let clip = Clip::of(Kind::H264Heavy, 20);
    let server = Setup::new().stream("viewer_stall = \"2s\"\nviewer_lag = \"1s\"\n").start();
    let publisher = clip.publish(&server.rtmp_url("live/stall"));
    let mut stalled = Viewer::open_narrow(&server, "live/stall");
    stalled.read_for(Duration::from_secs(2));
    std::thread::sleep(Duration::from_secs(9));
    // What the kernel still holds comes, and then the end, while the publisher goes on.
    stalled.read_to_end();
    let newest = stalled.newest().expect("it saw the beginning");
    assert!(newest < 8_000, "it was served up to {newest} ms");
    let told = server.log_lines("live/stall");
    assert!(told.iter().any(|line| line.contains("stall")), "{told:?}");
    drop(publisher);
}

#[test]
fn a_name_that_nobody_publishes_is_404_and_pages_of_other_origins_may_ask() {
    let server = Setup::new().stream("wait_for_publisher = \"0s\"\n").start();
    let nobody = curl(&server, "live/nobody.flv", &[]);
    assert!(nobody.starts_with("HTTP/1.1 404"), "{nobody}");
    assert!(header(&nobody, "access-control-allow-origin").is_some(), "{nobody}");

    let preflight = curl(
        &server,
        "live/nobody.flv",
        &["OPTIONS", "Origin: http://other.example", "Access-Control-Request-Method: GET"],
    );
    assert!(preflight.starts_with("HTTP/1.1 20"), "{preflight}");
    assert!(
        header(&preflight, "access-control-allow-methods").is_some_and(|list| list.contains("GET")),
        "{preflight}"
    );

    for bad in ["live/%2e%2e.flv", "live/a/b/c.flv", "live/a%00b.flv", "live.flv", "../../etc/passwd"] {
        let answer = curl(&server, bad, &[]);
        assert!(answer.starts_with("HTTP/1.1 4"), "{bad}: {answer}");
    }
}

#[test]
fn head_says_what_get_would() {
    let clip = Clip::of(Kind::H264, 8);
    let server = Setup::new().start();
    let publisher = clip.publish(&server.rtmp_url("live/head"));
    drop(Viewer::open(&server, "live/head"));
    let head = curl(&server, "live/head.flv", &["HEAD"]);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(header(&head, "content-type").as_deref(), Some("video/x-flv"), "{head}");
    assert!(header(&head, "access-control-allow-origin").is_some(), "{head}");
    drop(publisher);
}

/// What the HTTP door answers to a request of one line and a few headers; the first word may be a method.
fn curl(server: &Server, path: &str, words: &[&str]) -> String {
    use std::io::{Read, Write};
    let (method, headers) = match words.split_first() {
        Some((method, headers)) => (*method, headers),
        None => ("GET", words),
    };
    let mut stream =
        std::net::TcpStream::connect(("127.0.0.1", server.ports().http)).expect("the door is open");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("not zero");
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    write!(stream, "{method} /{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")
        .expect("a request fits the buffers");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the door answers and closes");
    String::from_utf8_lossy(&answer).into_owned()
}

fn header(answer: &str, name: &str) -> Option<String> {
    let lines = answer.split("\r\n\r\n").next().unwrap_or_default().lines();
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    Some(value.trim().to_owned())
}
