//! https and RTMPS: what goes in comes out, old and new peers are served, and whoever breaks TLS breaks only that.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use rustls::ClientConfig;
use shardcast_tests::clients::{
    Folder,
    media::{Clip, GROUP, Kind},
    packets::{Packets, runs},
    process::{Ended, Process, run},
    program,
    rtmp::read_until_closed,
    server::{Server, Setup, binary, make_certificate},
    tls,
    viewer::Viewer,
    wait_for,
};

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn ffmpeg_reads_by_rtmps_and_by_https_every_packet_that_ffmpeg_published_by_rtmps() {
    let clip = Clip::of(Kind::H264, 8);
    let server = Setup::new().secure().start();
    let urls = [
        server.rtmps_url("live/cam"),
        server.https_url("live/cam.flv"),
        // The plain door goes on beside it.
        server.rtmp_url("live/cam"),
    ];
    let players = urls.map(|url| Packets::player("ffmpeg", &url));
    clip.publish(&server.rtmps_url("live/cam")).succeed(Duration::from_secs(30));
    for player in players {
        let ended = player.succeed(PATIENCE);
        Packets::parse(&ended.output).assert_equal(&clip.packets, 0);
    }
}

#[test]
fn heavy_pictures_take_many_records_and_come_whole() {
    let clip = Clip::of(Kind::H264Heavy, 6);
    let server = Setup::new().secure().start();
    let players = [server.rtmps_url("live/heavy"), server.https_url("live/heavy.flv")]
        .map(|url| Packets::player("ffmpeg", &url));
    clip.publish(&server.rtmps_url("live/heavy")).succeed(Duration::from_secs(30));
    for player in players {
        Packets::parse(&player.succeed(PATIENCE).output).assert_equal(&clip.packets, 0);
    }
}

#[test]
fn two_hundred_viewers_inside_tls_receive_the_same() {
    let clip = Clip::of(Kind::H264, 6);
    let server = Setup::new().secure().start();
    let trusting = tls::trust(&server.certificate());
    let viewers: Vec<_> = (0..200).map(|_| Viewer::follow_by_tls(&server, "live/crowd", &trusting)).collect();
    let connected = wait_for(PATIENCE, || server.metric("shardcast_viewers").filter(|count| *count == 200.0));
    assert!(connected.is_some(), "{:?} of 200 viewers wait", server.metric("shardcast_viewers"));
    clip.publish(&server.rtmps_url("live/crowd")).succeed(Duration::from_secs(30));
    let viewers: Vec<Viewer> = viewers.into_iter().map(|viewer| viewer.wait()).collect();
    let first = viewers.first().expect("there are 200");
    let saved = server.folder().join("viewer.flv");
    first.save(&saved);
    Packets::of_file("ffmpeg", &saved).assert_equal(&clip.packets, 0);
    for (number, viewer) in viewers.iter().enumerate() {
        assert!(viewer.tags == first.tags, "viewer {number} got something else than the first");
    }
}

#[test]
fn publishers_inside_tls_move_to_the_core_that_owns_their_stream() {
    let clip = Clip::of(Kind::H264, 4);
    let mut server = Setup::new().secure().recording().start();
    let names: Vec<String> = (0..8).map(|number| format!("live/move{number}")).collect();
    let publishers: Vec<Process> = names.iter().map(|name| clip.publish(&server.rtmps_url(name))).collect();
    for publisher in publishers {
        publisher.succeed(Duration::from_secs(30));
    }
    // The kernel deals connections out by chance: that none of eight came to the wrong one of two cores is one in 256.
    let moves = server.metric("shardcast_moves_total").expect("a counter");
    assert!(moves > 0.0, "no publisher was moved");
    server.stop();
    for name in &names {
        let files = server.recordings(name);
        let [file] = files.as_slice() else { panic!("{name}: {files:?}") };
        Packets::of_file("ffmpeg", file).assert_equal(&clip.packets, 12);
    }
}

#[test]
fn openssl_and_curl_and_ffmpeg_trust_the_certificate_that_the_program_made() {
    let clip = Clip::of(Kind::H264, 8);
    let server = Setup::new().secure().start();
    let certificate = server.certificate();
    for (version, named) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        for port in [server.ports().http, server.ports().rtmps] {
            let seen =
                s_client(port, &[version, "-verify_return_error", "-verify_ip", "127.0.0.1"], &certificate);
            let said = seen.output;
            assert!(said.contains(&format!("New, {named}")), "{said}");
            assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
        }
    }

    let mut curl = Command::new(program("curl"));
    curl.args(["--silent", "--show-error", "--http1.1", "--include", "--cacert"]).arg(&certificate);
    curl.arg(format!("https://localhost:{}/live/cam/", server.ports().http));
    let page = run("curl", &mut curl, PATIENCE).output;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("<!doctype html>"), "{page}");

    let publisher = clip.publish(&server.rtmps_url("live/cam"));
    let mut probe = Command::new(program("ffprobe"));
    probe.args(["-v", "error", "-tls_verify", "1", "-ca_file"]).arg(&certificate);
    probe.args(["-show_entries", "stream=codec_name", "-of", "csv=p=0", &server.https_url("live/cam.flv")]);
    let found = run("ffprobe", &mut probe, PATIENCE).output;
    assert!(found.contains("h264") && found.contains("aac"), "{found}");
    drop(publisher);
}

#[test]
fn a_certificate_is_renewed_under_a_viewer_and_one_that_is_wrong_changes_nothing() {
    let clip = Clip::of(Kind::H264, 8);
    let mut server = Setup::new().secure().start();
    let port = server.ports().http;
    let old = tls::trust(&server.certificate());
    let viewer = Viewer::follow_by_tls(&server, "live/renew", &old);
    let publisher = clip.publish(&server.rtmps_url("live/renew"));
    let publishing =
        wait_for(PATIENCE, || server.metric("shardcast_publishers").filter(|count| *count == 1.0));
    assert!(publishing.is_some(), "nobody publishes");

    make_certificate(server.folder(), &["--host", "127.0.0.1", "--host", "new.example.org"]);
    reload(&mut server, "the certificate was read again", 1);
    let new = tls::trust(&server.certificate());
    shows(port, &new, &old);

    fs::write(server.folder().join("key.pem"), "no key\n").expect("an own file");
    reload(&mut server, "the old config stays", 1);
    let told = server.log_lines("the old config stays");
    assert!(told.iter().all(|line| line.contains("ERROR") && line.contains("tls.key")), "{told:?}");
    shows(port, &new, &old);

    make_certificate(server.folder(), &[]);
    reload(&mut server, "the certificate was read again", 2);
    shows(port, &tls::trust(&server.certificate()), &new);

    publisher.succeed(Duration::from_secs(30));
    let saved = server.folder().join("viewer.flv");
    viewer.wait().save(&saved);
    Packets::of_file("ffmpeg", &saved).assert_equal(&clip.packets, 0);
}

#[test]
fn a_viewer_inside_tls_that_stops_reading_comes_back_on_a_key_frame() {
    let clip = Clip::of(Kind::H264Heavy, 20);
    let server = Setup::new().secure().stream("viewer_lag = \"2s\"\n").start();
    let trusting = tls::trust(&server.certificate());
    let steady = Viewer::follow_by_tls(&server, "live/slow", &trusting);
    let publisher = clip.publish(&server.rtmps_url("live/slow"));
    let mut slow = Viewer::open_narrow_by_tls(&server, "live/slow", &trusting);
    slow.read_for(Duration::from_secs(3));
    thread::sleep(Duration::from_secs(10));
    slow.read_to_end();
    publisher.succeed(Duration::from_secs(40));

    let saved = server.folder().join("steady.flv");
    steady.wait().save(&saved);
    Packets::of_file("ffmpeg", &saved).assert_equal(&clip.packets, 0);

    let saved = server.folder().join("slow.flv");
    slow.save(&saved);
    let video = runs("video", &Packets::of_file("ffmpeg", &saved).video, &clip.packets.video);
    assert!(
        video.len() > 1,
        "after ten seconds without reading something must have been left out: {video:?}"
    );
    for run in &video {
        assert_eq!(run.first % GROUP, 0, "each return is on a key frame: {video:?}");
    }
    let last = video.last().expect("more than one");
    assert_eq!(last.first + last.count, clip.packets.video.len(), "the stream is seen to its end");
}

/// Sends SIGHUP, and waits until the log has said `words` for the `times`th time.
fn reload(server: &mut Server, words: &str, times: usize) {
    server.signal(Signal::HUP);
    let told = wait_for(PATIENCE, || (server.log_lines(words).len() == times).then_some(()));
    assert!(told.is_some(), "{words:?} is not in the log:\n{}", server.log());
}

/// Waits until every core shows the certificate that `shown` trusts, and none that `gone` does.
fn shows(port: u16, shown: &Arc<ClientConfig>, gone: &Arc<ClientConfig>) {
    // Ten connections reach both of two cores, but for one time in 512.
    let everywhere = || {
        let is_new = || tls::try_connect(port, shown.clone()).is_ok();
        (0..10).all(|_| is_new()).then_some(())
    };
    assert!(wait_for(PATIENCE, everywhere).is_some(), "the certificate is not shown");
    assert!(tls::try_connect(port, gone.clone()).is_err(), "another is shown, too");
}

#[test]
fn a_config_with_wrong_files_is_refused_with_line_and_reason() {
    let folder = Folder::new("wrong-certificate");
    make_certificate(folder.path(), &[]);
    let inside = |name: &str| folder.path().join(name);
    let certificate = inside("certificate.pem");
    fs::write(inside("other.pem"), "other\n").expect("an own file");
    for (tls, told) in [
        (vec![("certificate", certificate.clone())], "config.toml:2: tls.key: "),
        (vec![("key", inside("key.pem"))], "config.toml:2: tls.certificate: "),
        (
            vec![("certificate", inside("none.pem")), ("key", inside("key.pem"))],
            "config.toml:3: tls.certificate: ",
        ),
        (
            vec![("certificate", certificate.clone()), ("key", inside("other.pem"))],
            "config.toml:4: tls.key: ",
        ),
        (
            vec![("certificate", certificate.clone()), ("key", certificate.clone())],
            "config.toml:4: tls.key: ",
        ),
        (
            vec![("certificate", inside("key.pem")), ("key", inside("key.pem"))],
            "config.toml:3: tls.certificate: ",
        ),
    ] {
        let lines: String = tls.iter().map(|(key, path)| format!("{key} = {path:?}\n")).collect();
        let (code, said) = check(&folder, &format!("shards = 1\n[tls]\n{lines}"));
        assert_eq!(code, Some(2), "{lines}{said}");
        assert!(said.contains(told), "{told:?} is not in {said}");
    }
    let lines = format!("certificate = {certificate:?}\nkey = {:?}\n", inside("key.pem"));
    let (code, said) = check(&folder, &format!("shards = 1\n[tls]\n{lines}"));
    assert_eq!(code, Some(0), "{said}");
    for door in ["rtmp on tcp 127.0.0.1:1935", "rtmps on tcp 127.0.0.1:1936", "https on tcp 127.0.0.1:8080"] {
        assert!(said.contains(door), "{door:?} is not in {said}");
    }
    let (code, said) = check(&folder, &format!("rtmp.tls_port = 8080\n[tls]\n{lines}"));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("http.port: port 8080 is the rtmps door's already"), "{said}");
}

/// What `check` says of a config, and its exit code.
fn check(folder: &Folder, text: &str) -> (Option<i32>, String) {
    let config = folder.path().join("config.toml");
    fs::write(&config, text).expect("an own file");
    let process =
        Process::start("shardcast-check", Command::new(binary()).args(["check", "--config"]).arg(config));
    let Ended { status, output, errors } = process.finish(PATIENCE);
    (status.code(), output + &errors)
}

#[test]
fn whoever_speaks_no_tls_is_told_so_in_one_line_and_disturbs_nobody() {
    let clip = Clip::of(Kind::H264, 8);
    let server = Setup::new().secure().start();
    let trusting = tls::trust(&server.certificate());
    let viewer = Viewer::follow_by_tls(&server, "live/healthy", &trusting);
    let publisher = clip.publish(&server.rtmps_url("live/healthy"));

    let noise: Vec<u8> =
        (0..4000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8 | 0x80).collect();
    let mut rtmp = vec![3];
    rtmp.resize(1537, 0);
    let long_record = [22, 3, 3, 0x49, 0];
    for port in [server.ports().http, server.ports().rtmps] {
        for bytes in [noise.as_slice(), &rtmp, &long_record] {
            let (answer, lines) = meet(&server, port, bytes);
            assert_eq!(answer.first(), Some(&21), "an alert, and not {answer:?}");
            assert!(lines.iter().all(|line| line.contains("TLS")), "{lines:?}");
        }
        let (answer, lines) =
            meet(&server, port, b"GET /live/healthy.flv HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(answer.starts_with(b"HTTP/1.1 400 "), "{}", String::from_utf8_lossy(&answer));
        assert!(lines.iter().all(|line| line.contains("without")), "{lines:?}");
    }
    // Whoever does not trust the certificate says so, and goes.
    let stranger = Folder::new("stranger");
    make_certificate(stranger.path(), &["--host", "127.0.0.1"]);
    let mistrusting = tls::trust(&stranger.path().join("certificate.pem"));
    assert!(tls::try_connect(server.ports().rtmps, mistrusting).is_err());
    let told = wait_for(PATIENCE, || {
        let lines = server.log_lines("does not trust the certificate");
        (!lines.is_empty()).then_some(lines)
    });
    assert_eq!(told.map(|lines| lines.len()), Some(1));

    publisher.succeed(Duration::from_secs(30));
    let saved = server.folder().join("viewer.flv");
    viewer.wait().save(&saved);
    Packets::of_file("ffmpeg", &saved).assert_equal(&clip.packets, 0);
}

/// Says `bytes` to a door, reads until it closes, and finds the one line of the log about that.
fn meet(server: &Server, port: u16, bytes: &[u8]) -> (Vec<u8>, Vec<String>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the door is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let own = stream.local_addr().expect("it is connected");
    stream.write_all(bytes).expect("it fits the buffers");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer, and the end");
    let about = format!("peer={own}");
    let lines = wait_for(PATIENCE, || {
        let lines = server.log_lines(&about);
        (!lines.is_empty()).then_some(lines)
    });
    let lines = lines.unwrap_or_else(|| panic!("no line about {own}:\n{}", server.log()));
    assert_eq!(lines.len(), 1, "{lines:?}");
    (answer, lines)
}

#[test]
fn a_handshake_has_its_time_from_accept_however_slowly_it_comes() {
    let server = Setup::new().secure().limits("handshake = \"2s\"\n").start();
    // A hello of 512 bytes, as TLS 1.3 sends it, of which a byte comes each fifth of a second; and one who says nothing.
    let slow = |port: u16, speaks: bool| {
        thread::spawn(move || {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the door is open");
            let began = Instant::now();
            let hello = [22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
            let bytes = if speaks { 60 } else { 0 };
            for byte in hello.iter().chain(std::iter::repeat(&7)).take(bytes) {
                if began.elapsed() > Duration::from_secs(4) || stream.write_all(&[*byte]).is_err() {
                    break;
                }
                thread::sleep(Duration::from_millis(200));
            }
            let read = read_until_closed(&mut stream, PATIENCE).expect("the door closes");
            (began.elapsed(), read)
        })
    };
    let ports = server.ports();
    let peers = [(ports.http, true), (ports.rtmps, true), (ports.http, false), (ports.rtmps, false)]
        .map(|(port, speaks)| slow(port, speaks));
    for peer in peers {
        let (elapsed, read) = peer.join().expect("a peer waits for the end");
        assert!(elapsed > Duration::from_secs(1) && elapsed < Duration::from_secs(10), "{elapsed:?}");
        assert_eq!(read, 0, "nothing can be said before the handshake has ended");
    }
    let told = server.log_lines("timed_out");
    assert_eq!(told.len(), 4, "{told:?}");
}

#[test]
fn a_peer_that_wants_to_shake_hands_again_is_refused_and_the_server_goes_on() {
    let server = Setup::new().secure().start();
    let said = {
        let mut command = Command::new(program("sh"));
        let openssl = program("openssl");
        command.arg("-c").arg(format!(
            "(sleep 1; echo R; sleep 1) | {} s_client -connect 127.0.0.1:{} -tls1_2 2>&1",
            openssl.display(),
            server.ports().http
        ));
        Process::start("openssl", &mut command).finish(PATIENCE).output
    };
    assert!(said.contains("RENEGOTIATING") && said.contains("no renegotiation"), "{said}");
    let page = tls::get(server.ports().http, tls::trust(&server.certificate()), "live/cam/");
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
}

#[test]
fn the_end_of_an_answer_is_a_goodbye_and_a_stop_of_the_server_too() {
    let clip = Clip::of(Kind::H264, 8);
    let mut server = Setup::new().secure().start();
    let trusting = tls::trust(&server.certificate());
    let answer = tls::get(server.ports().http, trusting.clone(), "live/nobody.flv");
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");

    let mut watching = tls::connect(server.ports().http, trusting);
    watching.write_all(b"GET /live/stop.flv HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a short request");
    let publisher = clip.publish(&server.rtmps_url("live/stop"));
    let mut beginning = [0; 1000];
    watching.read_exact(&mut beginning).expect("the stream comes");
    let reader = thread::spawn(move || watching.read_to_end(&mut Vec::new()));
    server.stop();
    // Without a goodbye rustls takes the end for a cut.
    reader.join().expect("it reads to the end").expect("the server says goodbye");
    drop(publisher);
}

/// What openssl says of a door.
fn s_client(port: u16, arguments: &[&str], trusted: &Path) -> Ended {
    let mut command = Command::new(program("openssl"));
    command.args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-CAfile"]).arg(trusted);
    run("openssl", command.args(arguments), PATIENCE)
}
