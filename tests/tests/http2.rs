//! HTTP/2 at the HTTP door: what curl gets by it is what it gets by HTTP/1.1, in the clear and inside TLS; and many requests
//! share one connection, none of them another's trouble.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream as StdStream,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use h2::{Reason, client::Builder};
use http::StatusCode;
use shardcast_tests::clients::{
    http2::{
        Client, GET, HEADERS, SETTINGS, Way, block_on, curl, curl_command, follow, frame, read, url, whole,
    },
    media::{Clip, GROUP, Kind},
    packets::{Packets, runs},
    process::run,
    program,
    server::Setup,
    viewer::Viewer,
    wait_for,
    web::{Web, addresses, get_when_there, tag},
};
use tokio::time;

const PATIENCE: Duration = Duration::from_secs(30);

/// Every kind of answer that is the same at any time, by both versions.
fn same_answers(secure: bool) {
    let clip = Clip::of(Kind::H264, 30);
    let setup = Setup::new();
    let server = if secure { setup.secure() } else { setup }.start();
    let publisher = clip.publish(&server.rtmp_url("live/cam"));
    let playlist = wait_for(PATIENCE, || {
        let answer = curl(&server, secure, Way::Http1, "/live/cam/index.m3u8", &[]);
        (answer.status == "200").then(|| String::from_utf8(answer.body).expect("text"))
    });
    let playlist = playlist.expect("the stream is packaged");
    let media = addresses(&playlist).first().map(|name| format!("/live/cam/{name}")).expect("a playlist");
    let list = wait_for(PATIENCE, || {
        let answer = curl(&server, secure, Way::Http1, &media, &[]);
        let text = String::from_utf8(answer.body).expect("text");
        (addresses(&text).len() > 2).then_some(text)
    });
    let list = list.expect("segments");
    let map = tag(&list, "#EXT-X-MAP").and_then(|list| list.split('"').nth(1)).expect("a map");
    let segment = format!("/live/cam/{}", addresses(&list).first().expect("segments"));
    let map = format!("/live/cam/{map}");
    let long = format!("/{}", "a".repeat(9000));
    let absurd = format!("{media}?_HLS_msn=9999999");
    let asked: Vec<(&str, Vec<&str>)> = vec![
        ("/", vec![]),
        ("/", vec!["--head"]),
        ("/", vec!["--request", "OPTIONS"]),
        ("/", vec!["--request", "DELETE"]),
        ("/", vec!["--data", "something that nobody wants"]),
        ("/live/cam", vec![]),
        ("/live/cam/?token=a", vec![]),
        ("/live/cam.flv", vec!["--head"]),
        ("/live/cam.ts", vec!["--head"]),
        ("/live/../cam.flv", vec!["--path-as-is"]),
        ("/nothing/is/here", vec![]),
        (&long, vec![]),
        (&map, vec![]),
        (&map, vec!["--head"]),
        (&segment, vec![]),
        (&segment, vec!["--range", "100-4099"]),
        (&segment, vec!["--range", "-1000"]),
        (&segment, vec!["--range", "99999999-"]),
        (&segment, vec!["--header", "Origin: https://elsewhere.example"]),
        (&absurd, vec![]),
    ];
    for (path, arguments) in asked {
        let [one, other] = [Way::Http1, Way::Http2].map(|way| curl(&server, secure, way, path, &arguments));
        assert_eq!((one.version.as_str(), other.version.as_str()), ("1.1", "2"), "{path} {arguments:?}");
        assert_eq!(one.status, other.status, "{path} {arguments:?}");
        assert_eq!(one.fields(), other.fields(), "{path} {arguments:?}");
        // What is asked with HEAD curl writes there, too.
        let same = one.body == other.body || arguments.contains(&"--head");
        assert!(same, "{path} {arguments:?}: {} {}", one.body.len(), other.body.len());
    }
    // What changes from one moment to the next is there all the same, packed and plain.
    let packed = curl(&server, secure, Way::Http2, &media, &["--header", "Accept-Encoding: gzip"]);
    assert!(packed.fields().contains(&"content-encoding: gzip".to_owned()), "{}", packed.head);
    assert!(packed.body.starts_with(&[0x1f, 0x8b]));
    let plain = curl(&server, secure, Way::Http2, &media, &[]);
    assert!(plain.body.starts_with(b"#EXTM3U\n") && packed.body.len() < plain.body.len());
    let manifest = curl(&server, secure, Way::Http2, "/live/cam/manifest.mpd", &[]);
    assert!(manifest.status == "200" && manifest.body.starts_with(b"<?xml"), "{}", manifest.head);
    drop(publisher);
}

#[test]
fn curl_gets_by_http2_what_it_gets_by_http1() {
    same_answers(false);
}

#[test]
fn curl_gets_by_http2_inside_tls_what_it_gets_by_http1() {
    same_answers(true);
}

fn same_streams(secure: bool) {
    let clip = Clip::of(Kind::H264, 8);
    let setup = Setup::new();
    let server = if secure { setup.secure() } else { setup }.start();
    let file = |name: &str| server.folder().join(name);
    let asked = [
        ("/live/cam.flv", Way::Http1, "one.flv"),
        ("/live/cam.flv", Way::Http2, "two.flv"),
        ("/live/cam.ts", Way::Http1, "one.ts"),
        ("/live/cam.ts", Way::Http2, "two.ts"),
    ];
    let curls = asked.map(|(path, way, name)| follow(&server, secure, way, path, &file(name)));
    let waiting = wait_for(PATIENCE, || server.metric("shardcast_viewers").filter(|count| *count >= 4.0));
    assert!(waiting.is_some(), "four wait for their stream");
    clip.publish(&server.rtmp_url("live/cam")).succeed(PATIENCE);
    // By HTTP/2 curl fails when an answer was cut off.
    curls.into_iter().for_each(|curl| drop(curl.succeed(PATIENCE)));
    let read = |name: &str| fs::read(file(name)).expect("curl wrote it");
    assert!(read("one.flv") == read("two.flv"), "FLV differs");
    Packets::of_file("ffmpeg", &file("two.flv")).assert_equal(&clip.packets, 0);
    let [one, two] = ["one.ts", "two.ts"].map(|name| Packets::of_file("ffmpeg", &file(name)));
    two.assert_equal(&one, 0);
    assert!(one.video.len() == clip.packets.video.len(), "{} pictures", one.video.len());
}

#[test]
fn curl_watches_by_http2_what_it_watches_by_http1() {
    same_streams(false);
}

#[test]
fn curl_watches_by_http2_inside_tls_what_it_watches_by_http1() {
    same_streams(true);
}

#[test]
fn heavy_pictures_take_many_frames_and_come_whole() {
    let clip = Clip::of(Kind::H264Heavy, 6);
    let server = Setup::new().secure().start();
    let file = server.folder().join("heavy.flv");
    let watching = follow(&server, true, Way::Http2, "/live/heavy.flv", &file);
    clip.publish(&server.rtmp_url("live/heavy")).succeed(PATIENCE);
    watching.succeed(PATIENCE);
    Packets::of_file("ffmpeg", &file).assert_equal(&clip.packets, 0);
}

#[test]
fn a_segment_that_is_being_made_comes_as_it_is_made() {
    let clip = Clip::of(Kind::H264, 30);
    let server = Setup::new().start();
    let publisher = clip.publish(&server.rtmp_url("live/cam"));
    let index = get_when_there(&server, "/live/cam/index.m3u8");
    let media = format!("/live/cam/{}", addresses(index.text()).first().expect("a playlist"));
    let newest = || {
        let list = get_when_there(&server, &media);
        addresses(list.text()).last().map(|name| (*name).to_owned())
    };
    let newest = wait_for(PATIENCE, newest).expect("segments");
    // "video-ID-7.m4s": the next is being made.
    let (before, number) = newest.trim_end_matches(".m4s").rsplit_once('-').expect("a number");
    let next: u64 = number.parse::<u64>().expect("a number") + 1;
    let path = format!("/live/cam/{before}-{next}.m4s");
    let began = Instant::now();
    let open = curl(&server, false, Way::Http2, &path, &[]);
    assert_eq!((open.status.as_str(), open.version.as_str()), ("200", "2"));
    assert!(!open.fields().iter().any(|field| field.starts_with("content-length")), "{}", open.head);
    assert!(began.elapsed() > Duration::from_millis(200), "it was there already");
    let whole = curl(&server, false, Way::Http1, &path, &[]);
    assert!(open.body == whole.body && !whole.body.is_empty());
    drop(publisher);
}

#[test]
fn a_hundred_requests_are_held_on_one_connection_and_all_answered() {
    let clip = Clip::of(Kind::H264, 30);
    let server = Setup::new().start();
    let publisher = clip.publish(&server.rtmp_url("live/cam"));
    let index = get_when_there(&server, "/live/cam/index.m3u8");
    let media = format!("/live/cam/{}", addresses(index.text()).first().expect("a playlist"));
    let next = wait_for(PATIENCE, || {
        let list = get_when_there(&server, &media);
        let first: usize = tag(list.text(), "#EXT-X-MEDIA-SEQUENCE")?.parse().ok()?;
        let count = addresses(list.text()).len();
        (count > 0).then_some(first + count + 1)
    });
    let path = format!("{media}?_HLS_msn={}", next.expect("segments"));
    block_on(async {
        let mut client = Client::connect(&server, &Builder::new()).await;
        let mut answers = Vec::new();
        for _ in 0..100 {
            answers.push(client.ask(&path).await);
        }
        let mut seen = None;
        let begin = Instant::now();
        while seen.is_none() && begin.elapsed() < Duration::from_secs(5) {
            time::sleep(Duration::from_millis(20)).await;
            seen = server.metric("shardcast_held_requests").filter(|count| *count == 100.0);
        }
        assert!(seen.is_some(), "{:?} are held", server.metric("shardcast_held_requests"));
        let http = |line: &str| line.starts_with("shardcast_door_connections") && line.contains("\"http\"");
        let metrics = server.get("/metrics").expect("metrics");
        let doors: f64 = metrics
            .lines()
            .filter(|line| http(line))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum();
        assert_eq!(doors, 1.0, "one connection has come by the door");
        // The publisher is the other.
        assert_eq!(server.metric("shardcast_connections"), Some(2.0));
        // Read side by side: those that are not read hold the window of the connection.
        let answers: Vec<_> = answers.into_iter().map(|answer| tokio::spawn(whole(answer))).collect();
        let mut first = None;
        for answer in answers {
            let (status, body) = answer.await.expect("a task that ends well");
            assert_eq!(status, StatusCode::OK);
            assert_eq!(&body, first.get_or_insert(body.clone()), "all were told the same");
        }
        // It goes on, and is not asked again for its right to the stream.
        let plays = server.metric("shardcast_plays_total");
        for _ in 0..5 {
            assert_eq!(client.get(&media).await.0, StatusCode::OK);
        }
        assert_eq!(server.metric("shardcast_plays_total"), plays);
    });
    drop(publisher);
}

/// A viewer by HTTP/2 whose windows for the stream are small, and for the connection large.
fn narrow() -> Builder {
    let mut rules = Builder::new();
    rules.initial_window_size(256 << 10).initial_connection_window_size(8 << 20);
    rules
}

#[test]
fn a_viewer_whose_window_is_closed_comes_back_on_a_key_frame_and_holds_nobody_up() {
    let clip = Clip::of(Kind::H264Heavy, 20);
    let server = Setup::new().stream("viewer_lag = \"2s\"\n").start();
    let steady = Viewer::follow(&server, "live/slow");
    let publisher = clip.publish(&server.rtmp_url("live/slow"));
    let (slow, beside) = block_on(async {
        let mut client = Client::connect(&server, &narrow()).await;
        let slow = client.ask("/live/slow.flv").await;
        let mut body = time::timeout(PATIENCE, slow).await.expect("in time").expect("it plays").into_body();
        let mut bytes = Vec::new();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(3) {
            bytes
                .extend_from_slice(&read(&mut body).await.expect("the stream goes on").expect("not the end"));
        }
        // The other stream of the same connection goes on meanwhile, and so do its requests.
        let beside = client.ask("/live/slow.flv").await;
        let mut beside =
            time::timeout(PATIENCE, beside).await.expect("in time").expect("it plays").into_body();
        let mut watched = 0;
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(10) {
            watched += read(&mut beside).await.expect("it goes on").map_or(0, |data| data.len());
        }
        assert_eq!(client.get("/").await.0, StatusCode::OK);
        drop(beside);
        while let Some(data) = read(&mut body).await.expect("the stream ends well") {
            bytes.extend_from_slice(&data);
        }
        (bytes, watched)
    });
    publisher.succeed(Duration::from_secs(40));
    assert!(beside > 4 << 20, "{beside} bytes came beside a stream that was not read");

    let saved = server.folder().join("steady.flv");
    steady.wait().save(&saved);
    Packets::of_file("ffmpeg", &saved).assert_equal(&clip.packets, 0);
    let saved = server.folder().join("slow.flv");
    fs::write(&saved, slow).expect("an own folder can be written");
    let video = runs("video", &Packets::of_file("ffmpeg", &saved).video, &clip.packets.video);
    assert!(video.len() > 1, "after ten seconds something must have been left out: {video:?}");
    for run in &video {
        assert_eq!(run.first % GROUP, 0, "each return is on a key frame: {video:?}");
    }
    let last = video.last().expect("more than one");
    assert_eq!(last.first + last.count, clip.packets.video.len(), "the stream is seen to its end");
}

#[test]
fn viewers_that_read_nothing_take_little_memory_and_are_closed_in_time() {
    let clip = Clip::of(Kind::H264Heavy, 20);
    let server = Setup::new().small_pages().stream("viewer_lag = \"2s\"\nviewer_stall = \"6s\"\n").start();
    let steady = Viewer::follow(&server, "live/stall");
    let publisher = clip.publish(&server.rtmp_url("live/stall"));
    let ended = block_on(async {
        let mut rules = narrow();
        // Room for all that will come, as the client has it: what is kept is up to the server.
        rules.initial_window_size(1 << 20).initial_connection_window_size(1 << 20);
        let mut clients = Vec::new();
        let mut bodies = Vec::new();
        for _ in 0..10 {
            let mut client = Client::connect(&server, &rules).await;
            for _ in 0..10 {
                let answer = client.ask("/live/stall.flv").await;
                bodies.push(
                    time::timeout(PATIENCE, answer).await.expect("in time").expect("it plays").into_body(),
                );
            }
            clients.push(client);
        }
        time::sleep(Duration::from_secs(2)).await;
        let before = server.memory();
        time::sleep(Duration::from_secs(3)).await;
        let after = server.memory();
        assert!(before > 0 && after < before + (24 << 20), "the server grew from {before} to {after} bytes");
        let mut ended = Vec::new();
        for mut body in bodies {
            loop {
                match time::timeout(PATIENCE, body.data()).await.expect("in time") {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        ended.push(error.reason());
                        break;
                    }
                    None => panic!("an answer that was cut off has no good end"),
                }
            }
        }
        for client in &mut clients {
            assert_eq!(client.get("/").await.0, StatusCode::OK, "the connection goes on");
        }
        ended
    });
    assert_eq!(ended, vec![Some(Reason::INTERNAL_ERROR); 100]);
    assert_eq!(server.metric("shardcast_stalls_total"), Some(100.0));
    publisher.succeed(Duration::from_secs(40));
    let saved = server.folder().join("steady.flv");
    steady.wait().save(&saved);
    Packets::of_file("ffmpeg", &saved).assert_equal(&clip.packets, 0);
}

#[test]
fn the_version_is_told_by_the_first_bytes_however_they_come() {
    let server = Setup::new().start();
    // The beginning of one is that of the other.
    let mut stream = StdStream::connect(("127.0.0.1", server.ports().http)).expect("the door is open");
    stream.set_nodelay(true).expect("any TCP socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    for byte in b"PRINT / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" {
        stream.write_all(&[*byte]).expect("the kernel takes it");
        thread::sleep(Duration::from_millis(2));
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer, and the end");
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");

    let mut stream = StdStream::connect(("127.0.0.1", server.ports().http)).expect("the door is open");
    stream.set_nodelay(true).expect("any TCP socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let hello =
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[]), frame(HEADERS, 5, 1, GET)];
    for byte in hello.concat() {
        stream.write_all(&[byte]).expect("the kernel takes it");
        thread::sleep(Duration::from_millis(2));
    }
    let mut answer = vec![0; 64 << 10];
    let found = wait_for(PATIENCE, || {
        let count = stream.read(&mut answer).expect("an answer");
        let text = String::from_utf8_lossy(answer.get(..count)?).into_owned();
        text.contains("<!doctype html>").then_some(())
    });
    assert!(found.is_some(), "no page came");

    // And an upgrade in the clear, which HTTP/2 no longer has, is passed over.
    let mut web = Web::connect(&server);
    let page = web
        .get_with("/", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n");
    assert_eq!(page.status, 200);
}

#[test]
fn inside_tls_the_version_is_agreed_on_in_the_handshake() {
    let server = Setup::new().secure().start();
    let offered = |port: u16, protocols: &str| {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!(
            "{} s_client -connect 127.0.0.1:{port} -alpn {protocols} </dev/null 2>&1 || true",
            program("openssl").display()
        ));
        run("openssl", &mut command, PATIENCE).output
    };
    let http = server.ports().http;
    assert!(offered(http, "h2,http/1.1").contains("ALPN protocol: h2"));
    assert!(offered(http, "http/1.1").contains("ALPN protocol: http/1.1"));
    assert!(offered(server.ports().rtmps, "h2,http/1.1").contains("No ALPN negotiated"));
    // Whoever offers nothing speaks HTTP/1.1.
    let mut command = curl_command(&server, true, Way::Http2);
    command.args(["--no-alpn", "--include", &url(&server, true, "/")]);
    let page = run("curl", &mut command, PATIENCE).output;
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
}

#[test]
fn a_stop_of_the_server_ends_what_is_watched_and_says_so() {
    let clip = Clip::of(Kind::H264, 12);
    let mut server = Setup::new().start();
    let file = server.folder().join("stopped.flv");
    let watching = follow(&server, false, Way::Http2, "/live/stop.flv", &file);
    let publisher = clip.publish(&server.rtmp_url("live/stop"));
    let (end, connection) = block_on(async {
        let mut client = Client::connect(&server, &Builder::new()).await;
        let answer = client.ask("/live/stop.flv").await;
        let mut body = time::timeout(PATIENCE, answer).await.expect("in time").expect("it plays").into_body();
        let idle = Client::connect(&server, &Builder::new()).await;
        let mut watched = 0;
        while watched < 50_000 {
            watched += read(&mut body).await.expect("it goes on").expect("not the end").len();
        }
        server.signal(rustix::process::Signal::TERM);
        let end = loop {
            match read(&mut body).await {
                Ok(Some(_)) => {}
                end => break end.map(drop),
            }
        };
        let ended = |client: Client| async {
            time::timeout(PATIENCE, client.connection).await.expect("in time").expect("a task that ends well")
        };
        assert!(ended(idle).await.is_ok());
        (end, ended(client).await)
    });
    assert!(end.is_ok() && connection.is_ok(), "{end:?} {connection:?}");
    watching.succeed(PATIENCE);
    assert!(fs::metadata(&file).is_ok_and(|file| file.len() > 1000));
    let status = server.wait(Duration::from_secs(5)).expect("it ends in time");
    assert!(status.success(), "{status}");
    drop(publisher);
}
