//! WHIP and WHEP for peers that ask for what cannot be, that mean ill, and whose network fails: what they are told, and that nobody else
//! notices.

use std::{net::UdpSocket, time::Duration};

use shardcast_tests::clients::{
    browser::publish_clock,
    process::Process,
    server::{Server, Setup},
    wait_for,
    web::{Page, Web},
    webrtc::{FRAGMENT, SDP, Viewer, ask, offer, request},
};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Packets that a viewer has in a second or two.
const SOME: u64 = 60;

/// A publisher of pictures without B-frames, and its stream once that is there.
fn published(server: &Server, name: &str, between: u32, more: &str) -> Process {
    let publisher = publish_clock(&server.rtmp_url(name), between, more);
    let there = || (server.log().contains(&format!("stream={name}"))).then_some(());
    wait_for(PATIENCE, there).expect("the stream is there");
    publisher
}

/// Demands an answer with this status, and these words in it.
fn assert_said(page: &Page, status: u16, words: &str) {
    let text = page.text();
    assert!(
        page.status == status && text.contains(words),
        "{status} with {words:?} was expected: {}{text}",
        page.head
    );
}

#[test]
fn who_asks_for_what_cannot_be_is_told_why() {
    let server = Setup::new().stream("wait_for_publisher = \"0ms\"").start();
    let (_, _, watches, _) = offer(false);
    let (_, _, sends, _) = offer(true);
    let _publishers = [
        published(&server, "live/cam", 0, ""),
        published(&server, "live/film", 3, "b-adapt=0:b-pyramid=normal"),
    ];
    assert_said(&ask(&server, "POST", "/live/none/whep", SDP, &watches), 404, "no such stream");
    let typed = ask(&server, "POST", "/live/cam/whep", "Content-Type: text/plain\r\n", &watches);
    assert_said(&typed, 415, "application/sdp");
    assert_eq!(typed.field("Accept-Post"), Some("application/sdp"));
    assert_said(&ask(&server, "POST", "/live/cam/whep", SDP, "hello"), 400, "");
    assert_said(&ask(&server, "POST", "/live/cam/whip", SDP, &sends), 409, "");
    // Pictures that others refer to cannot be left out, and stand out of order.
    let film = wait_for(PATIENCE, || {
        let page = ask(&server, "POST", "/live/film/whep", SDP, &watches);
        // Until one of them has come, it is not known that there are any.
        (page.status != 201).then_some(page)
    });
    assert_said(
        &film.expect("a refusal"),
        422,
        "another order than they are shown in (B-frames that others refer to)",
    );
    // A body of more than 64 KiB.
    let mut web = Web::connect(&server);
    web.ask(&format!(
        "POST /live/cam/whep HTTP/1.1\r\nHost: localhost\r\n{SDP}Content-Length: 70000\r\n\r\n"
    ));
    assert_said(&web.answer(), 413, "");

    let mut viewer = Viewer::new(&server, "live/cam");
    assert!(viewer.take(SOME, PATIENCE), "media comes");
    let candidate = "a=candidate:1 1 udp 2130706431 192.0.2.7 5000 typ host\r\n";
    let patch = |tag: &str| {
        let tag = if tag.is_empty() { String::new() } else { format!("If-Match: {tag}\r\n") };
        ask(&server, "PATCH", &viewer.place, &format!("{FRAGMENT}{tag}"), candidate)
    };
    assert_said(&patch(&viewer.tag), 204, "");
    assert_said(&patch("\"other\""), 412, "");
    assert_said(&patch(""), 428, "If-Match");
    let (rest, secret) = viewer.place.rsplit_once('-').expect("a secret stands last");
    let other = format!("{rest}-{}", secret.chars().rev().collect::<String>());
    assert_said(&ask(&server, "DELETE", &other, "", ""), 404, "no such");
    assert!(viewer.take(SOME, PATIENCE), "media goes on");
    assert_said(&ask(&server, "DELETE", &viewer.place, "", ""), 200, "");
    assert!(!viewer.take(100_000, PATIENCE), "it is told that it is over");
    assert_said(&ask(&server, "DELETE", &viewer.place, "", ""), 404, "no such");
}

#[test]
fn keys_are_shown_as_bearers() {
    let server =
        Setup { tables: "[auth]\npublish = [\"s3nd\"]\nplay = [\"w4tch\"]\n".to_owned(), ..Setup::new() }
            .start();
    let (_, _, sends, _) = offer(true);
    let bearer = |key: &str| format!("{SDP}Authorization: Bearer {key}\r\n");
    for fields in [SDP, &bearer("w4tch")] {
        assert_said(&ask(&server, "POST", "/live/cam/whip", fields, &sends), 401, "");
    }
    let sent = ask(&server, "POST", "/live/cam/whip", &bearer("s3nd"), &sends);
    assert_said(&sent, 201, "m=video");
    let (_, _, watches, _) = offer(false);
    assert_said(&ask(&server, "POST", "/live/cam/whep", SDP, &watches), 401, "");
    // The secret in the address is enough to end it.
    let place = sent.field("Location").expect("it is somewhere");
    assert_said(&ask(&server, "DELETE", place, "", ""), 200, "");
}

#[test]
fn a_viewer_goes_on_from_another_address() {
    let server = Setup::new().start();
    let _publisher = published(&server, "live/cam", 0, "");
    let mut viewer = Viewer::new(&server, "live/cam");
    assert!(viewer.take(SOME, PATIENCE), "media comes");
    for _ in 0..2 {
        viewer.move_away(&server);
        assert!(viewer.take(SOME, PATIENCE), "media comes to the other address");
    }
}

#[test]
fn a_crowd_that_means_ill_is_nobody_elses_concern() {
    const MOST: usize = 40;
    const OFFERS: usize = 1_000;
    let limits = format!("connections_per_address = {MOST}\nhandshake = \"2s\"\n");
    let server = Setup::new().limits(&limits).start();
    let _publisher = published(&server, "live/cam", 0, "");
    let mut viewer = Viewer::new(&server, "live/cam");
    assert!(viewer.take(SOME, PATIENCE), "media comes");
    let before = server.memory();

    // Offers of which no media comes, one connection for all of them.
    let (_, _, watches, _) = offer(false);
    let mut web = Web::connect(&server);
    let (mut taken, mut refused) = (0, 0);
    for number in 0..OFFERS {
        web.ask(&request("POST", "/live/cam/whep", SDP, &watches));
        match web.answer().status {
            201 => taken += 1,
            503 => refused += 1,
            other => panic!("{other}"),
        }
        if number % 50 == 0 {
            assert!(viewer.take(1, PATIENCE), "the viewer plays on");
        }
    }
    println!("{taken} were taken, {refused} refused");
    assert!(taken > 0 && refused > 0);

    // Requests for bindings that name nobody, or somebody without the password; beginnings of DTLS; media; noise.
    let own = viewer
        .answer
        .lines()
        .find_map(|line| line.strip_prefix("a=ice-ufrag:"))
        .expect("it has one")
        .to_owned();
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("loopback has ports");
    let port = viewer.port();
    for number in 0..4_000_u32 {
        let bytes = match number % 5 {
            0 => binding(&format!("{number:016x}abcdefgh:theirs")),
            1 => binding(&format!("{own}:theirs")),
            2 => [&[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0][..], &[1; 200]].concat(),
            3 => [&[0x80, 96][..], &number.to_be_bytes(), &[7; 300]].concat(),
            _ => number.to_le_bytes().repeat(1 + number as usize % 300),
        };
        stranger.send_to(&bytes, ("127.0.0.1", port)).expect("loopback takes it");
        viewer.blurt(&bytes, port);
        if number % 50 == 0 {
            assert!(viewer.take(1, PATIENCE), "the viewer plays on");
        }
    }
    assert!(viewer.take(SOME, PATIENCE), "the viewer plays on");
    assert_eq!(viewer.missing, 0, "pictures are missing");

    // Those that were taken go after a while, each with a line, and there is room again.
    let gone = || (server.log_lines("no media came of it").len() >= taken).then_some(());
    let mut waited = wait_for(Duration::ZERO, gone);
    for _ in 0..200 {
        if waited.is_some() {
            break;
        }
        assert!(viewer.take(5, PATIENCE), "the viewer plays on");
        waited = wait_for(Duration::ZERO, gone);
    }
    assert_eq!(server.log_lines("no media came of it").len(), taken, "{}", server.log());
    let mut next = Viewer::new(&server, "live/cam");
    assert!(next.take(SOME, PATIENCE), "there is room again");
    let grown = server.memory().saturating_sub(before);
    println!("{} KiB more", grown >> 10);
    assert!(grown < 64 << 20, "{grown} bytes more");
    assert!(server.log().lines().count() < 2 * taken + 60, "{}", server.log());
}

/// A request for a binding with this user name, whose integrity is none. (RFC 8489)
fn binding(user: &str) -> Vec<u8> {
    let mut attributes = vec![0, 6];
    attributes.extend((user.len() as u16).to_be_bytes());
    attributes.extend(user.as_bytes());
    attributes.resize(attributes.len().next_multiple_of(4), 0);
    attributes.extend([0, 8, 0, 20]);
    attributes.extend([9; 20]);
    let mut message = vec![0, 1];
    message.extend((attributes.len() as u16).to_be_bytes());
    message.extend(0x2112_a442_u32.to_be_bytes());
    message.extend([5; 12]);
    message.extend(attributes);
    message
}
