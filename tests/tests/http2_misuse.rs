//! What misuse of HTTP/2 gets: it costs its own connection, with one line in the log, and nobody else notices.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use h2::{Reason, client::Builder};
use http::Request;
use shardcast_tests::clients::{
    http2::{
        CONTINUATION, Client, GET, HEADERS, PING, RST_STREAM, SETTINGS, Way, block_on, follow, frame, raw,
    },
    media::{Clip, Kind},
    packets::Packets,
    rtmp::read_until_closed,
    server::{Server, Setup},
    viewer::Viewer,
    wait_for,
};
use tokio::time;

const PATIENCE: Duration = Duration::from_secs(30);

/// What becomes of people of ill will while a healthy stream is watched by both versions.
fn beside(setup: Setup, trouble: impl FnOnce(&Server)) -> Server {
    let clip = Clip::of(Kind::H264, 12);
    let server = setup.small_pages().start();
    let one = Viewer::follow(&server, "live/healthy");
    let file: PathBuf = server.folder().join("two.flv");
    let two = follow(&server, false, Way::Http2, "/live/healthy.flv", &file);
    let publisher = clip.publish(&server.rtmp_url("live/healthy"));
    thread::sleep(Duration::from_secs(1));
    let before = server.memory();
    trouble(&server);
    let after = server.memory();
    assert!(before > 0 && after < before + (24 << 20), "the server grew from {before} to {after} bytes");
    publisher.succeed(PATIENCE);
    two.succeed(PATIENCE);
    let saved = server.folder().join("one.flv");
    one.wait().save(&saved);
    for file in [saved, file] {
        Packets::of_file("ffmpeg", &file).assert_equal(&clip.packets, 0);
    }
    server
}

#[test]
fn requests_that_are_called_off_again_and_again_cost_their_connection() {
    let server = beside(Setup::new(), |server| {
        for path in ["/live/healthy.flv", "/live/nobody.flv"] {
            let error = block_on(async {
                let client = Client::connect(server, &Builder::new()).await;
                for _ in 0..100_000 {
                    let request =
                        Request::get(format!("http://localhost{path}")).body(()).expect("a request");
                    let Ok(mut ready) = client.requests.clone().ready().await else { break };
                    let Ok((_, mut stream)) = ready.send_request(request, false) else { break };
                    // Now and then it looks what the server says.
                    time::sleep(Duration::ZERO).await;
                    stream.send_reset(Reason::CANCEL);
                }
                time::timeout(PATIENCE, client.connection)
                    .await
                    .expect("in time")
                    .expect("a task that ends well")
            });
            let error = error.expect_err("such a client is sent away");
            assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM), "{error}");
        }
    });
    let told = server.log_lines("HTTP/2:");
    assert_eq!(told.len(), 2, "one line each: {told:?}");
    assert!(told.iter().all(|line| line.contains("peer=127.0.0.1:")), "{told:?}");
}

/// Says `flood` again and again until the server has closed; whether it did so in time.
fn pour(stream: &mut TcpStream, flood: &[u8]) -> bool {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        if stream.write_all(flood).is_err() {
            return true;
        }
    }
    false
}

#[test]
fn floods_of_every_kind_of_frame_cost_their_connection() {
    let fields: Vec<u8> = (0..200_u8)
        .flat_map(|at| [&[0, 4, b'x', b'-', b'a' + at % 26, b'a'], [1, b'v'].as_slice()].concat())
        .collect();
    let floods: Vec<(&str, Vec<u8>, Vec<u8>)> = vec![
        ("pings", vec![], frame(PING, 0, 0, &[7; 8]).repeat(100)),
        ("settings", vec![], frame(SETTINGS, 0, 0, &[]).repeat(100)),
        ("a head without an end", frame(HEADERS, 1, 1, GET), frame(CONTINUATION, 0, 1, &fields)),
        ("a head of nothing", frame(HEADERS, 1, 1, GET), frame(CONTINUATION, 0, 1, &[])),
        ("data of nobody", vec![], frame(0, 0, 1, &[0; 100])),
        ("noise", vec![], vec![0xff; 1000]),
    ];
    let count = floods.len();
    let server = beside(Setup::new(), |server| {
        for (name, opening, flood) in floods {
            let mut stream = raw(server);
            stream.write_all(&opening).expect("the kernel takes it");
            // The answers are read, so that they are no reason.
            let mut other = stream.try_clone().expect("a descriptor");
            let reader = thread::spawn(move || {
                let mut bytes = [0; 4096];
                while matches!(other.read(&mut bytes), Ok(1..)) {}
            });
            assert!(pour(&mut stream, &flood), "{name}: it goes on listening");
            reader.join().expect("it reads to the end");
        }
        // And resets, as bytes: requests that are called off in the same breath.
        let mut stream = raw(server);
        let pairs: Vec<u8> = (0..1000)
            .flat_map(|at| {
                let id = 2 * at + 1;
                [frame(HEADERS, 5, id, GET), frame(RST_STREAM, 0, id, &8_u32.to_be_bytes())].concat()
            })
            .collect();
        // It may be closed before the last of it.
        drop(stream.write_all(&pairs));
        assert!(read_until_closed(&mut stream, PATIENCE).is_ok());
    });
    let told = server.log_lines("HTTP/2:");
    assert_eq!(told.len(), count + 1, "one line each: {told:?}");
}

#[test]
fn whoever_asks_and_does_not_take_the_answers_is_closed() {
    let server = beside(Setup::new(), |server| {
        let mut stream = raw(server);
        // Nothing is read: pings are answered until there is no more room for it.
        assert!(pour(&mut stream, &frame(PING, 0, 0, &[7; 8]).repeat(300)), "it goes on listening");
    });
    assert_eq!(server.log_lines("HTTP/2:").len(), 1);
}

#[test]
fn whoever_says_hello_and_nothing_more_has_its_time() {
    let server = Setup::new()
        .stream("wait_for_publisher = \"1s\"\n")
        .limits("handshake = \"2s\"\nidle = \"3s\"\n")
        .start();
    let closes_after = |stream: &mut TcpStream| {
        let began = Instant::now();
        assert!(read_until_closed(stream, PATIENCE).is_ok());
        began.elapsed()
    };
    let silent = closes_after(&mut raw(&server));
    assert!(silent > Duration::from_millis(1500) && silent < Duration::from_secs(4), "{silent:?}");
    let mut half = TcpStream::connect(("127.0.0.1", server.ports().http)).expect("the door is open");
    half.write_all(b"PRI * HTTP/2").expect("the kernel takes it");
    let half = closes_after(&mut half);
    assert!(half > Duration::from_millis(1500) && half < Duration::from_secs(4), "{half:?}");
    // Lines are written by a thread of their own.
    let told = wait_for(PATIENCE, || (server.log_lines("no request came").len() == 2).then_some(()));
    assert!(told.is_some(), "{}", server.log());
    // Whoever has had an answer may think about the next for longer, and nobody says a word about it.
    let mut idle = raw(&server);
    idle.write_all(&frame(HEADERS, 5, 1, GET)).expect("the kernel takes it");
    let idle = closes_after(&mut idle);
    assert!(idle > Duration::from_millis(2500) && idle < Duration::from_secs(6), "{idle:?}");
    assert_eq!(server.log_lines("WARN").len(), 2, "{}", server.log());
}
