//! What bad input gets: a word where the protocol has one, a closed connection and one line of the log. Beside each of
//! these peers a healthy stream runs, and its viewer must not lose a packet.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::{Duration, Instant},
};

use shardcast_tests::clients::{
    flv,
    media::{Clip, Kind},
    packets::Packets,
    rtmp::{self, Peer, Value},
    server::{Ports, Server, Setup},
    viewer::Viewer,
};

/// A server on which `live/healthy` is published and watched while `trouble` has its way.
///
/// # Panics
/// When the healthy viewer lost a packet, or the server holds `memory` bytes more than before.
fn beside(setup: Setup, memory: u64, trouble: impl FnOnce(&Server)) -> Server {
    let clip = Clip::of(Kind::H264, 12);
    let server = setup.small_pages().start();
    let viewers: Vec<_> = (0..4).map(|_| Viewer::follow(&server, "live/healthy")).collect();
    let publisher = clip.publish(&server.rtmp_url("live/healthy"));
    thread::sleep(Duration::from_secs(2));
    let before = server.memory();
    trouble(&server);
    let after = server.memory();
    publisher.succeed(Duration::from_secs(30));
    for (number, viewer) in viewers.into_iter().enumerate() {
        let saved = server.folder().join(format!("healthy{number}.flv"));
        viewer.wait().save(&saved);
        Packets::of_file("ffmpeg", &saved).assert_equal(&clip.packets, 0);
    }
    assert!(before > 0, "the memory of the server can be read");
    assert!(after < before + memory, "the server grew from {before} to {after} bytes");
    server
}

/// True when the server closes within ten seconds.
fn closes(peer: &mut Peer) -> bool {
    peer.read_until_closed(Duration::from_secs(10)).is_ok()
}

fn door(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the door is open");
    stream.set_nodelay(true).expect("any TCP socket");
    stream
}

#[test]
fn garbage_and_cut_off_handshakes_are_closed_and_disturb_nobody() {
    let mut broken = Vec::new();
    let server = beside(Setup::new().limits("handshake = \"2s\"\n"), 16 << 20, |server| {
        let Ports { rtmp, http, .. } = server.ports();
        let mut hello = vec![3];
        hello.extend([7; 1536]);
        let openings: Vec<(u16, Vec<u8>)> = vec![
            (rtmp, Vec::new()),
            (rtmp, vec![3]),
            (rtmp, hello.get(..700).unwrap_or_default().to_vec()),
            (rtmp, hello.clone()),
            (rtmp, vec![0xff; 4000]),
            (rtmp, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
            (rtmp, (0..8000_u32).map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()),
            (http, vec![0; 4000]),
            (http, hello.clone()),
            (http, b"GET /live/healthy.flv HTTP/1.1\r\nHost: a\r\nX: ".to_vec()),
            (http, [b"GET /".to_vec(), vec![b'a'; 40_000]].concat()),
            (http, [b"GET / HTTP/1.1\r\n".to_vec(), b"a: b\r\n".repeat(500)].concat()),
        ];
        for (port, bytes) in &openings {
            // Once cut off by the peer, once left hanging until the server has had enough.
            let mut cut = door(*port);
            cut.write_all(bytes).expect("the kernel takes it");
            drop(cut.shutdown(Shutdown::Both));
            let mut hanging = door(*port);
            broken.push(hanging.local_addr().expect("a connected socket"));
            drop(hanging.write_all(bytes));
            let closed = rtmp::read_until_closed(&mut hanging, Duration::from_secs(6));
            assert!(closed.is_ok(), "{:?}... on port {port}: {closed:?}", bytes.get(..bytes.len().min(8)));
        }
    });
    assert!(!broken.is_empty());
    for peer in broken {
        let told = server.log_lines(&format!("peer={peer} "));
        assert_eq!(told.len(), 1, "the log says once what became of {peer}:\n{}", server.log());
        assert!(told.iter().all(|line| line.contains("protocol=")), "{told:?}");
    }
}

#[test]
fn a_publisher_that_sends_one_byte_at_a_time_is_understood() {
    beside(Setup::new(), 8 << 20, |server| {
        let mut peer = Peer::connect_slowly(server.ports().rtmp).expect("a handshake byte by byte");
        let code = peer.say_publish("live/bytes").expect("commands byte by byte");
        assert_eq!(code, "NetStream.Publish.Start");
        for tag in flv::tags_of(&Clip::of(Kind::H264, 6).path).iter().take(10) {
            peer.send_tag(tag, tag.time).expect("media byte by byte");
        }
        let mut viewer = Viewer::open(server, "live/bytes");
        assert!(viewer.next_tag().is_some());
    });
}

#[test]
fn messages_that_are_announced_and_never_come_take_no_memory() {
    beside(Setup::new(), 64 << 20, |server| {
        let mut peers: Vec<Peer> = (0..100)
            .map(|_| {
                let mut peer = Peer::connect(server.ports().rtmp).expect("the door answers");
                let head = rtmp::message_header(6, 9, 0, 1, 0xff_ffff);
                peer.send_raw(&head).and_then(|()| peer.send_raw(&[0; 128])).expect("the kernel takes it");
                peer
            })
            .collect();
        thread::sleep(Duration::from_secs(1));
        // They hold 100 times 128 bytes, and were promised 1.6 GB.
        assert!(peers.iter_mut().all(|peer| peer.send_raw(&[0xc6]).is_ok()));
    });
}

#[test]
fn whoever_uses_65_599_chunk_streams_is_closed() {
    let server = beside(Setup::new(), 16 << 20, |server| {
        let mut peer = Peer::connect(server.ports().rtmp).expect("the door answers");
        for chunk_stream in 2..=65_599 {
            let mut chunk = rtmp::message_header(chunk_stream, 9, 0, 1, 1000);
            chunk.extend([0; 128]);
            if peer.send_raw(&chunk).is_err() {
                break;
            }
        }
        assert!(closes(&mut peer), "it goes on listening");
    });
    let told = server.log_lines("chunk streams");
    assert_eq!(told.len(), 1, "the log says once what was wrong:\n{}", server.log());
}

#[test]
fn a_message_that_is_aborted_leaves_no_trace() {
    beside(Setup::new(), 8 << 20, |server| {
        let mut peer = Peer::connect(server.ports().rtmp).expect("the door answers");
        // Half of a command on chunk stream 3, taken back (5.4.2), and then a whole conversation on the same.
        let mut half = rtmp::message_header(3, 20, 0, 0, 4000);
        half.extend([0xaa; 128]);
        peer.send_raw(&half).expect("the kernel takes it");
        peer.send(2, 2, 0, 0, &3_u32.to_be_bytes()).expect("the kernel takes it");
        let code = peer.say_publish("live/abort").expect("the server understands what comes after");
        assert_eq!(code, "NetStream.Publish.Start");
    });
}

#[test]
fn amf_that_nests_without_end_is_closed() {
    let server = beside(Setup::new(), 16 << 20, |server| {
        let mut body = rtmp::amf0(&[Value::Text("connect"), Value::Number(1.0)]);
        // An object whose one property is an object whose one property ...
        body.extend(b"\x03\x00\x01a".repeat(20_000));
        let mut peer = Peer::connect(server.ports().rtmp).expect("the door answers");
        drop(peer.send(3, 20, 0, 0, &body));
        assert!(closes(&mut peer), "it goes on listening");
        // A strict array that says it has four thousand million values.
        let mut body = rtmp::amf0(&[Value::Text("connect"), Value::Number(1.0)]);
        body.extend([0x0a, 0xff, 0xff, 0xff, 0xff]);
        let mut peer = Peer::connect(server.ports().rtmp).expect("the door answers");
        drop(peer.send(3, 20, 0, 0, &body));
        assert!(closes(&mut peer), "it goes on listening");
    });
    let told = server.log_lines("AMF");
    assert_eq!(told.len(), 2, "the log says once of each what was wrong:\n{}", server.log());
}

#[test]
fn names_that_could_hurt_are_refused_by_a_status_and_reach_no_disk() {
    let long = format!("live/{}", "x".repeat(10_000));
    let server = beside(Setup::new().recording(), 16 << 20, |server| {
        for name in [
            "live/..",
            "live/../x",
            "live/a/b",
            "live/a\0b",
            "live/",
            "../x",
            "live/a b",
            "live/\u{1b}[31m",
            &long,
        ] {
            let mut peer = Peer::connect(server.ports().rtmp).expect("the door answers");
            let answer = peer.say_publish(name);
            if let Ok(code) = answer {
                assert!(
                    !code.contains("Start") && code.starts_with("Net"),
                    "{:?} got {code}",
                    name.get(..20).unwrap_or(name)
                );
            }
        }
    });
    let recordings = server.folder().join("recordings");
    let apps: Vec<_> =
        std::fs::read_dir(&recordings).expect("the healthy stream is recorded").flatten().collect();
    assert_eq!(apps.len(), 1, "{apps:?}");
    let streams: Vec<_> = std::fs::read_dir(recordings.join("live")).expect("its app").flatten().collect();
    assert_eq!(streams.len(), 1, "{streams:?}");
    assert!(!server.log().contains('\u{1b}'), "a name's escape sequence reached the log");
    assert!(server.log().lines().all(|line| line.len() < 2000), "a name of 10 kB reached the log");
}

#[test]
fn two_thousand_connections_that_say_nothing_are_closed_in_time() {
    const SILENT: usize = 2_000;
    raise_descriptors(2 * SILENT as u64 + 500);
    let server = beside(Setup::new().limits("handshake = \"3s\"\n"), 64 << 20, |server| {
        let Ports { rtmp, http, .. } = server.ports();
        let mut silent: Vec<TcpStream> =
            (0..SILENT).map(|number| door(if number % 2 == 0 { rtmp } else { http })).collect();
        let begin = Instant::now();
        for stream in &mut silent {
            assert!(
                rtmp::read_until_closed(stream, Duration::from_secs(8)).is_ok(),
                "a silent peer is still there"
            );
        }
        assert!(begin.elapsed() < Duration::from_secs(7), "all were told to speak within three seconds");
    });
    assert!(!server.log().is_empty());
}

#[test]
fn running_out_of_descriptors_does_not_make_the_server_spin() {
    raise_descriptors(2_000);
    let limit = "--nofile=200:200";
    let server = beside(
        Setup::new().through(&["prlimit", limit, "--"]).limits("handshake = \"60s\"\n"),
        16 << 20,
        |server| {
            let crowd: Vec<TcpStream> = (0..500).map(|_| door(server.ports().rtmp)).collect();
            thread::sleep(Duration::from_secs(1));
            let (begin, used) = (Instant::now(), server.cpu());
            thread::sleep(Duration::from_secs(3));
            let share = (server.cpu() - used).as_secs_f64() / begin.elapsed().as_secs_f64();
            assert!(share < 0.3, "it uses {share:.2} of a core while it cannot accept");
            drop(crowd);
            // Once there is room again the door is open again.
            let mut late = door(server.ports().http);
            late.set_read_timeout(Some(Duration::from_secs(10))).expect("not zero");
            write!(late, "GET /live/nobody/x/y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                .expect("it fits");
            let mut answer = String::new();
            late.read_to_string(&mut answer).expect("the door answers again");
            assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
        },
    );
    let told = server.log_lines("open files");
    assert!((1..=4).contains(&told.len()), "the log says it, and not for every attempt:\n{}", server.log());
}

#[test]
fn a_port_that_another_program_holds_is_a_clear_error() {
    let ports = Ports::free();
    for (what, held) in [("rtmp", ports.rtmp), ("http", ports.http), ("control", ports.control)] {
        let holder = std::net::TcpListener::bind(("127.0.0.1", held)).expect("it was free");
        let mut server = Setup::new().launch(ports);
        let status = server.wait(Duration::from_secs(20)).expect("it does not stay");
        assert_eq!(status.code(), Some(1), "{what}:\n{}", server.log());
        let told = server.log();
        assert!(told.contains(&format!(":{held}")), "{what}: {told}");
        assert!(told.contains("already listens") || told.contains("already in use"), "{what}: {told}");
        drop(holder);
    }
    // A holder that allows sharing (SO_REUSEPORT) must not be joined in silence either.
    let holder = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)
        .expect("a TCP socket");
    rustix::net::sockopt::set_socket_reuseport(&holder, true).expect("Linux knows it");
    let address = std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, ports.rtmp);
    rustix::net::bind(&holder, &address).expect("it was free");
    rustix::net::listen(&holder, 8).expect("a bound socket");
    let mut server = Setup::new().launch(ports);
    let status = server.wait(Duration::from_secs(20)).expect("it does not share");
    assert_eq!(status.code(), Some(1), "{}", server.log());
}

#[test]
fn a_full_disk_stops_recordings_with_an_alarm_and_no_viewer_notices() {
    let clip = Clip::of(Kind::H264Heavy, 20);
    // A disk of 16 MiB that is nearly full: three seconds of this stream fit.
    let script = "mkdir -p recordings && mount -t tmpfs -o size=16m recordings recordings \
                  && head -c 13M /dev/zero > recordings/other && exec \"$0\" \"$@\"";
    let root = rustix::process::geteuid().is_root();
    let mut words = vec!["unshare", "--mount"];
    if !root {
        words.extend(["--user", "--map-root-user"]);
    }
    words.extend(["sh", "-c", script]);
    let server = Setup::new().recording().through(&words).start();
    let viewer = Viewer::follow(&server, "live/full");
    let publisher = clip.publish(&server.rtmp_url("live/full"));
    let told = shardcast_tests::clients::wait_for(Duration::from_secs(15), || {
        Some(server.log_lines("recording"))
            .filter(|lines| lines.iter().any(|line| line.contains("disk is full")))
    });
    assert!(told.is_some(), "the log raises no alarm:\n{}", server.log());
    // Its own mount namespace is seen through its root.
    let disk = std::path::PathBuf::from(format!("/proc/{}/root", server.id()))
        .join(server.folder().strip_prefix("/").expect("an absolute path"))
        .join("recordings");
    let files = || {
        std::fs::read_dir(disk.join("live/full")).map(|entries| entries.flatten().count()).unwrap_or_default()
    };
    let before = files();
    std::fs::remove_file(disk.join("other")).expect("the other program's file");
    let back =
        shardcast_tests::clients::wait_for(Duration::from_secs(12), || (files() > before).then_some(()));
    assert!(back.is_some(), "with room again there is no new recording:\n{}", server.log());
    publisher.succeed(Duration::from_secs(40));
    let saved = server.folder().join("viewer.flv");
    viewer.wait().save(&saved);
    Packets::of_file("ffmpeg", &saved).assert_equal(&clip.packets, 0);
    let alarms = server.log_lines("disk is full").len();
    assert!(alarms <= 3, "the log says it {alarms} times:\n{}", server.log());
}

/// Lets this process, and the servers it starts, have so many descriptors.
fn raise_descriptors(count: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < count) {
        let raised = Rlimit { current: Some(count), maximum: limit.maximum };
        setrlimit(Resource::Nofile, raised).expect("the hard limit is high enough for this test");
    }
}
