//! A client, written here, and the session across from it; and every kind of bad input.

mod carried;
mod signal;

use proptest::prelude::*;

use super::*;
use crate::{
    flv,
    http::wire::{FLV_CHUNKED, FLV_WEBSOCKET},
    segment::{Found, Item, Rendition},
    session::Session as _,
};

const START: Now = Now(1_000_000_000);

/// A session, and all it said so far.
struct Door {
    session: Session,
    sent: Vec<u8>,
    events: Vec<Event>,
    closed: bool,
    error: Option<Error>,
    now: Now,
}

impl Door {
    fn new() -> Self {
        Door {
            session: Session::new(&DoorLimits::default(), START),
            sent: Vec::new(),
            events: Vec::new(),
            closed: false,
            error: None,
            now: START,
        }
    }

    fn give(&mut self, input: Input<'_>) {
        if self.error.is_none() && !self.closed {
            self.error = self.session.handle(input, self.now).err();
        }
        while let Some(output) = self.session.poll() {
            assert!(!self.closed, "nothing follows Close: {output:?}");
            match output {
                Output::Send(bytes) | Output::Share(bytes) | Output::Datagrams { bytes, .. } => {
                    self.sent.extend_from_slice(&bytes)
                }
                Output::Event(event) => self.events.push(event),
                Output::Ports(_) | Output::Packets(_) | Output::Datagram { .. } | Output::Address(_) => {
                    panic!("nothing goes beside this connection")
                }
                Output::Close => self.closed = true,
            }
        }
    }

    fn receive(&mut self, text: &str) {
        self.give(Input::Received(text.as_bytes()));
    }

    fn answer(&mut self, answer: Answer) {
        self.give(Input::Answer(answer));
    }

    /// As a driver does: brings the timeout when the deadline says so.
    fn wait(&mut self, duration: Duration) {
        self.now = self.now.after(duration);
        if self.session.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.give(Input::Timeout);
        }
    }

    /// What was sent since the last look.
    fn take(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.sent)).into_owned()
    }

    fn wish(&self) -> (&str, &str, &'static Form) {
        match self.events.last() {
            Some(Event::Play { name, query, form }) => (name.as_str(), query, form),
            other => panic!("the last event is a wish to play, not {other:?}"),
        }
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: door\r\n\r\n")
}

fn upgrade(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: door\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

#[test]
fn a_stream_is_asked_for_and_then_follows_its_head() {
    let mut door = Door::new();
    door.receive(&get("/live/cam.flv?token=x"));
    assert_eq!(door.wish(), ("live/cam", "token=x", &FLV_CHUNKED));
    assert_eq!(door.take(), "", "nothing is promised before the hub has answered");
    assert_eq!(door.session.deadline(), None, "the hub answers in its own time");
    door.answer(Answer::Playing);
    let head = door.take();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    for field in [
        "Content-Type: video/x-flv",
        "Transfer-Encoding: chunked",
        "Cache-Control: no-store",
        "Connection: close",
        "Access-Control-Allow-Origin: *",
    ] {
        assert!(head.contains(&format!("\r\n{field}\r\n")), "{field} in {head}");
    }
    assert_eq!(door.session.deadline(), None);
    door.give(Input::Ended);
    assert_eq!((door.take().as_str(), door.closed, door.error), ("0\r\n\r\n", true, None));
}

#[test]
fn an_old_client_gets_the_stream_unframed() {
    let mut door = Door::new();
    door.receive("GET /live/cam.flv HTTP/1.0\r\n\r\n");
    assert_eq!(door.wish().2, &flv::FORM);
    door.answer(Answer::Playing);
    assert!(!door.take().contains("Transfer-Encoding"));
    door.give(Input::Ended);
    assert_eq!((door.take().as_str(), door.closed), ("", true));
}

#[test]
fn head_looks_whether_the_stream_is_there_and_lets_it_go() {
    let mut door = Door::new();
    door.receive(&get("/live/cam.flv").replace("GET", "HEAD"));
    door.answer(Answer::Playing);
    assert!(matches!(door.events.as_slice(), [Event::Play { .. }, Event::Stop]), "{:?}", door.events);
    let head = door.take();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("video/x-flv"), "{head}");
    assert!(head.contains("Connection: keep-alive"), "{head}");
    door.receive(&get("/live/none.flv").replace("GET", "HEAD"));
    door.answer(Answer::Refused(Refusal::NotFound));
    let head = door.take();
    assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(!door.closed);
}

#[test]
fn each_refusal_has_its_status_and_the_connection_goes_on() {
    for (refusal, status, goes_on) in [
        (Refusal::NotFound, "404", true),
        (Refusal::Forbidden, "403", true),
        (Refusal::AlreadyLive, "409", true),
        (Refusal::Full, "503", true),
        (Refusal::ShuttingDown, "503", false),
    ] {
        let mut door = Door::new();
        door.receive(&get("/live/cam.flv"));
        door.answer(Answer::Refused(refusal));
        let answer = door.take();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.ends_with(&format!("{}\n", refusal.why())), "{answer}");
        assert_eq!(door.closed, !goes_on, "{refusal:?}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_and_wait_for_the_hub() {
    let mut door = Door::new();
    let requests = [get("/live/cam"), get("/live/a.flv"), get("/nothing"), get("/live/b.flv")].concat();
    door.receive(&requests);
    assert!(door.take().contains("Location: /live/cam/\r\n"));
    assert_eq!(door.wish().0, "live/a");
    door.answer(Answer::Refused(Refusal::NotFound));
    let answers = door.take();
    assert_eq!(answers.matches("HTTP/1.1 404 Not Found").count(), 2, "{answers}");
    assert_eq!(door.wish().0, "live/b");
    door.answer(Answer::Playing);
    assert!(door.take().contains("200 OK"));
}

#[test]
fn a_preflight_is_allowed_what_the_door_can_do() {
    let mut door = Door::new();
    door.receive(
        "OPTIONS /live/cam.flv HTTP/1.1\r\nHost: door\r\nOrigin: http://other\r\nAccess-Control-Request-Method: GET\r\n\
         Access-Control-Request-Private-Network: true\r\n\r\nOPTIONS * HTTP/1.1\r\nHost: door\r\n\r\n",
    );
    let answers = door.take();
    assert_eq!(answers.matches("HTTP/1.1 204 No Content\r\n").count(), 2, "{answers}");
    for field in [
        "Access-Control-Allow-Origin: *",
        "Access-Control-Allow-Methods: GET, HEAD, OPTIONS",
        "Access-Control-Allow-Private-Network: true",
        "Access-Control-Max-Age: 86400",
    ] {
        assert!(answers.contains(&format!("\r\n{field}\r\n")), "{field} in {answers}");
    }
    assert!(!door.closed);
}

#[test]
fn pages_are_served_with_a_policy_and_a_tag_that_saves_the_second_answer() {
    let mut door = Door::new();
    door.receive(&get("/live/cam/"));
    let page = door.take();
    assert!(page.contains("Content-Type: text/html") && page.ends_with("</html>\n"), "{page}");
    assert!(page.contains("\r\nContent-Security-Policy: default-src 'none';"), "{page}");
    let tag = page.split("ETag: ").nth(1).unwrap().split("\r\n").next().unwrap();
    let strong = tag.strip_prefix("W/").unwrap();
    for held in [tag.to_owned(), format!("\"other\", {tag}"), strong.to_owned(), "*".to_owned()] {
        door.receive(&format!("GET /live/cam/ HTTP/1.1\r\nHost: door\r\nIf-None-Match: {held}\r\n\r\n"));
        let answer = door.take();
        assert!(answer.starts_with("HTTP/1.1 304 Not Modified\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }
    door.receive(&get("/assets/mpegts.js").replace("GET", "HEAD"));
    let head = door.take();
    assert!(head.contains(&format!(
        "Content-Length: {}\r\n",
        page::asset("/assets/mpegts.js").unwrap().body().len()
    )));
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    door.receive("HEAD /assets/mpegts.js HTTP/1.1\r\nHost: door\r\nAccept-Encoding: gzip, br\r\n\r\n");
    let head = door.take();
    let packed = page::asset("/assets/mpegts.js").unwrap().packed().len();
    assert!(head.contains("\r\nContent-Encoding: gzip\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nContent-Length: {packed}\r\n")), "{head}");
    assert!(head.contains("\r\nVary: Accept-Encoding\r\n"), "{head}");
    door.receive(&get("/live/cam?key=a%2Fb"));
    let answer = door.take();
    assert!(
        answer.starts_with("HTTP/1.1 307 ") && answer.contains("Location: /live/cam/?key=a%2Fb\r\n"),
        "{answer}"
    );
    assert!(!door.closed);
}

#[test]
fn a_body_is_dropped_and_the_next_request_is_found_behind_it() {
    let mut door = Door::new();
    let body = "GET /not/a/request HTTP/1.1\r\n\r\n";
    door.receive(&format!(
        "POST /live/cam HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let answer = door.take();
    assert!(
        answer.starts_with("HTTP/1.1 405 ") && answer.contains("Allow: GET, HEAD, OPTIONS\r\n"),
        "{answer}"
    );
    door.receive(&format!("\r\n{}", get("/live/cam.flv")));
    assert_eq!(door.wish().0, "live/cam");
    assert_eq!(door.take(), "");
}

#[test]
fn bad_requests_are_answered_and_closed_and_name_their_place() {
    for (bytes, status, kind) in [
        ("\x16\x03\x01\x02\x00", "400", ErrorKind::Malformed),
        ("\x03garbage that is RTMP", "400", ErrorKind::Malformed),
        ("GET /a HTTP/1.1\r\n\r\n", "400", ErrorKind::Malformed),
        ("GET /a HTTP/3.0\r\n", "505", ErrorKind::Unsupported),
        ("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "411", ErrorKind::Unsupported),
        ("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n", "413", ErrorKind::TooLarge),
        (&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(9000)), "414", ErrorKind::TooLarge),
        (&format!("GET /{}", "x".repeat(20_000)), "414", ErrorKind::TooLarge),
        (&format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}", "x".repeat(20_000)), "431", ErrorKind::TooLarge),
    ] {
        let mut door = Door::new();
        door.receive(&get("/nothing"));
        let at = get("/nothing").len() as u64;
        door.take();
        door.receive(bytes);
        let answer = door.take();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes:?}: {answer}");
        assert!(answer.contains("Connection: close"), "{answer}");
        let error = door.error.expect("a fault of the peer");
        assert_eq!((error.kind, error.at), (kind, at), "{bytes:?}");
    }
}

#[test]
fn names_that_no_stream_can_have_are_refused_before_the_hub_hears_of_them() {
    for path in ["/live/...flv", "/../x.flv", "/a%00/b.flv", &format!("/{}/x.flv", "y".repeat(129))] {
        let mut door = Door::new();
        door.receive(&get(path));
        assert!(door.take().starts_with("HTTP/1.1 400 "), "{path}");
        assert!(door.events.is_empty() && !door.closed, "{path}");
    }
}

#[test]
fn a_silent_peer_a_slow_one_and_an_idle_one_are_closed_in_time() {
    let limits = DoorLimits::default();
    let mut silent = Door::new();
    silent.wait(limits.handshake);
    assert_eq!(silent.error.map(|error| error.kind), Some(ErrorKind::TimedOut));
    assert_eq!(silent.take(), "", "a client that asked nothing gets no answer");

    let mut slow = Door::new();
    for byte in get("/nothing").split("").take(20) {
        slow.receive(byte);
        slow.wait(Duration::from_secs(1));
    }
    assert_eq!(slow.error.map(|error| error.kind), Some(ErrorKind::TimedOut));
    assert!(slow.take().starts_with("HTTP/1.1 408 "));

    let mut idle = Door::new();
    idle.receive(&get("/nothing"));
    idle.wait(limits.idle - Duration::from_secs(1));
    assert!(!idle.closed);
    idle.receive(&get("/nothing"));
    idle.wait(limits.idle - Duration::from_secs(1));
    assert!(!idle.closed, "a request begins the wait anew");
    idle.wait(Duration::from_secs(1));
    assert_eq!((idle.closed, idle.error), (true, None));

    let mut dripping = Door::new();
    dripping.receive("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n");
    for _ in 0..20 {
        dripping.receive("x");
        dripping.wait(Duration::from_secs(1));
    }
    assert_eq!(dripping.error.map(|error| error.kind), Some(ErrorKind::TimedOut));
}

#[test]
fn a_viewer_may_not_send_without_end() {
    let mut door = Door::new();
    door.receive(&get("/live/cam.flv"));
    door.answer(Answer::Playing);
    for _ in 0..64 {
        door.give(Input::Received(&[b'x'; 1024]));
    }
    assert_eq!((door.error, door.closed), (None, false));
    door.receive("x");
    assert_eq!(door.error.map(|error| error.kind), Some(ErrorKind::TooLarge));
}

#[test]
fn a_peer_cannot_make_the_session_hold_more_than_its_bounds() {
    let mut door = Door::new();
    door.receive(&get("/live/cam.flv"));
    for _ in 0..17 {
        door.give(Input::Received(&[b'x'; 1024]));
    }
    assert_eq!(door.error.map(|error| error.kind), Some(ErrorKind::TooLarge), "too much before the answer");

    let mut greedy = Door::new();
    greedy.receive(&get("/assets/mpegts.js").repeat(20));
    assert_eq!(greedy.error.map(|error| error.kind), Some(ErrorKind::TooLarge), "too many answers at once");
    assert!(greedy.sent.len() < 2 * limits::OUTBOX_BYTES_MAX);
}

#[test]
fn a_websocket_opens_plays_pongs_and_closes() {
    let mut door = Door::new();
    door.receive(&upgrade("/live/cam.flv?token=x"));
    assert_eq!(door.wish(), ("live/cam", "token=x", &FLV_WEBSOCKET));
    // A client that does not wait for the answer.
    door.give(Input::Received(&[0x89, 0x82, 0, 0, 0, 0, b'h', b'i']));
    door.answer(Answer::Playing);
    let answer = door.take();
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    assert!(answer.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
    assert!(answer.contains("\r\nConnection: Upgrade\r\n") && answer.contains("\r\nUpgrade: websocket\r\n"));
    assert!(answer.ends_with("\r\n\r\n\u{fffd}\u{2}hi"), "the pong follows the head: {answer:?}");
    door.give(Input::Received(&[0x88, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xe9 ^ 2]));
    assert_eq!(door.sent, [0x88, 2, 0x03, 0xe9], "the client's own code comes back");
    assert_eq!((door.closed, door.error), (true, None));
}

#[test]
fn a_websocket_hears_why_it_ends() {
    for (input, code) in [(Input::Ended, 1000u16), (Input::Shutdown, 1001)] {
        let mut door = Door::new();
        door.receive(&upgrade("/live/cam.flv"));
        door.answer(Answer::Playing);
        door.sent.clear();
        door.give(input);
        let [high, low] = code.to_be_bytes();
        assert_eq!((door.sent.as_slice(), door.closed), (&[0x88, 2, high, low][..], true));
    }
    let mut door = Door::new();
    door.receive(&upgrade("/live/cam.flv"));
    door.answer(Answer::Playing);
    door.sent.clear();
    door.give(Input::Received(&[0x81, 0x01, b'x']));
    assert_eq!(door.sent, [0x88, 2, 0x03, 0xea]);
    assert_eq!(door.error.map(|error| error.kind), Some(ErrorKind::Malformed));
}

#[test]
fn an_upgrade_that_breaks_its_rules_is_told_so_in_http() {
    for (bad, status) in [
        (upgrade("/live/cam.flv").replace("Version: 13", "Version: 8"), "426"),
        (upgrade("/live/cam.flv").replace("dGhlIHNhbXBsZSBub25jZQ==", "short"), "400"),
        (upgrade("/live/cam.flv").replace("Sec-WebSocket-Key", "X-Key"), "400"),
        (upgrade("/live/"), "400"),
    ] {
        let mut door = Door::new();
        door.receive(&bad);
        let answer = door.take();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{bad}: {answer}");
        assert!(door.events.is_empty());
    }
    let mut door = Door::new();
    door.receive(&upgrade("/live/cam.flv"));
    door.answer(Answer::Refused(Refusal::NotFound));
    assert!(door.take().starts_with("HTTP/1.1 404 ") && !door.closed);
}

#[test]
fn a_shutdown_says_so_where_it_can() {
    let mut idle = Door::new();
    idle.give(Input::Shutdown);
    assert_eq!((idle.take().as_str(), idle.closed), ("", true));
    let mut asking = Door::new();
    asking.receive(&get("/live/cam.flv"));
    asking.give(Input::Shutdown);
    assert!(asking.take().starts_with("HTTP/1.1 503 ") && asking.closed);
    asking.closed = false;
    asking.answer(Answer::Playing);
    assert_eq!(
        (asking.take().as_str(), asking.events.len()),
        ("", 1),
        "an answer that comes too late is let pass"
    );
    let mut playing = Door::new();
    playing.receive(&get("/live/cam.flv"));
    playing.answer(Answer::Playing);
    playing.sent.clear();
    playing.give(Input::Shutdown);
    assert_eq!((playing.take().as_str(), playing.closed), ("0\r\n\r\n", true));
}

/// A long conversation, with the hub's answers brought as soon as they are asked for.
fn converse(bytes: &[u8], cut: usize) -> (Vec<u8>, String, bool, Option<Error>) {
    let mut door = Door::new();
    let mut answered = 0;
    for piece in bytes.chunks(cut) {
        door.give(Input::Received(piece));
        while answered < door.events.len() {
            let wish = format!("{:?}", door.events[answered]);
            answered += 1;
            if wish.contains("missing") {
                door.answer(Answer::Refused(Refusal::NotFound));
            } else if wish.contains("Play") {
                door.answer(Answer::Playing);
            }
        }
    }
    (door.sent, format!("{:?}", door.events), door.closed, door.error)
}

#[test]
fn what_is_answered_does_not_depend_on_where_the_bytes_are_cut() {
    let mut bytes = [
        get("/"),
        get("/live/missing.flv"),
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello\r\n\r\nxx".to_owned(),
        get("/live/cam.flv").replace("GET", "HEAD"),
        "OPTIONS * HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned(),
        upgrade("/live/cam.flv?a=b"),
    ]
    .concat()
    .into_bytes();
    bytes.extend([
        0x81, 0x83, 1, 2, 3, 4, 5, 6, 7, 0x89, 0x82, 0, 0, 0, 0, b'h', b'i', 0x88, 0x80, 0, 0, 0, 0,
    ]);
    let whole = converse(&bytes, bytes.len());
    assert!(whole.2 && whole.3.is_none(), "{whole:?}");
    for cut in 1..bytes.len() {
        assert_eq!(converse(&bytes, cut), whole, "cut at each {cut}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic_the_session_or_grow_it(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8),
        opening in 0usize..4,
        yes: bool,
    ) {
        let mut door = Door::new();
        let openings = [String::new(), get("/live/cam.flv"), upgrade("/live/cam.flv"), "GET / HT".to_owned()];
        door.receive(&openings[opening]);
        if !door.events.is_empty() {
            door.answer(if yes { Answer::Playing } else { Answer::Refused(Refusal::NotFound) });
        }
        for piece in pieces {
            door.give(Input::Received(&piece));
            door.wait(Duration::from_millis(700));
            prop_assert!(door.session.unread.len() <= limits::HTTP_HEAD_BYTES_MAX);
        }
        door.give(Input::Ended);
        door.give(Input::Shutdown);
        prop_assert!(door.closed || door.error.is_some());
    }

    #[test]
    fn requests_made_of_likely_words_never_panic_it(
        words in proptest::collection::vec(proptest::sample::select(vec![
            "GET ", "HEAD ", "OPTIONS ", "POST ", "/", "/live/cam", ".flv", "?q", "%2e", "%", "*", " HTTP/1.1", " HTTP/1.0",
            "\r\n", "\n", "Host: a\r\n", "Connection: close\r\n", "Connection: upgrade\r\n", "Upgrade: websocket\r\n",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "Sec-WebSocket-Version: 13\r\n", "Content-Length: 3\r\n",
            "Transfer-Encoding: chunked\r\n", "If-None-Match: *\r\n", "\r\n\r\n", "x: \u{e9}\r\n",
        ]), 0..24),
    ) {
        let mut door = Door::new();
        door.receive(&words.concat());
        if matches!(door.events.last(), Some(Event::Play { .. })) {
            door.answer(Answer::Playing);
        }
        door.give(Input::Shutdown);
        prop_assert!(door.closed || door.error.is_some());
    }
}

/// What the last event asks for of a packaged stream.
fn fetched(door: &Door) -> (&str, &str, &Item) {
    match door.events.last() {
        Some(Event::Fetch { name, query, item }) => (name.as_str(), query, item),
        other => panic!("the last event is a fetch, not {other:?}"),
    }
}

#[test]
fn a_segment_is_asked_for_and_sent_as_it_is_kept() {
    let mut door = Door::new();
    door.receive(&get("/live/cam/video-abc-7.m4s?key=x&_HLS_msn=1"));
    let item = Item::Segment { id: 0xabc, rendition: Rendition::Video, number: 7, from: Some(0) };
    assert_eq!(fetched(&door), ("live/cam", "key=x", &item));
    assert_eq!(
        (door.take().as_str(), door.session.deadline()),
        ("", None),
        "the hub answers in its own time"
    );
    // The next request waits for its turn.
    door.receive(&get("/live/cam/nothing.txt"));
    let pieces = vec![Bytes::from(vec![b'a'; 20_000]), Bytes::from_static(b"end")];
    door.give(Input::Fetched(Found::Bytes(pieces)));
    let sent = door.take();
    let (head, rest) = sent.split_once("\r\n\r\n").unwrap();
    let lines: Vec<&str> = head.lines().collect();
    assert!(lines[0] == "HTTP/1.1 200 OK" && lines.contains(&"Content-Length: 20003"), "{head}");
    assert!(
        rest[19_990..].starts_with("aaaaaaaaaaendHTTP/1.1 404 Not Found\r\n"),
        "{}",
        &rest[19_990..20_050]
    );
}

#[test]
fn a_segment_that_is_being_made_comes_in_chunks() {
    let mut door = Door::new();
    door.receive(&get("/live/cam/video-abc-7.m4s"));
    door.give(Input::Fetched(Found::Open(vec![Bytes::from_static(b"one"), Bytes::from_static(b"three")], 2)));
    let sent = door.take();
    assert!(
        sent.contains("\r\nTransfer-Encoding: chunked\r\n")
            && sent.ends_with("\r\n\r\n3\r\none\r\n5\r\nthree"),
        "{sent}"
    );
    door.give(Input::Fetched(Found::Bytes(vec![Bytes::from_static(b"last")])));
    assert_eq!(door.take(), "\r\n4\r\nlast\r\n0\r\n\r\n");
    door.receive(&get("/live/cam.flv"));
    assert_eq!(door.wish().0, "live/cam", "the connection goes on");
}

#[test]
fn half_a_segment_is_not_passed_off_as_a_whole_one() {
    let half = || {
        let mut door = Door::new();
        door.receive(&get("/live/cam/video-abc-7.m4s"));
        door.give(Input::Fetched(Found::Open(vec![Bytes::from_static(b"one")], 1)));
        door.take();
        door
    };
    for ending in
        [Input::Fetched(Found::Missing), Input::Answer(Answer::Refused(Refusal::TooLate)), Input::Shutdown]
    {
        let mut door = half();
        door.give(ending);
        assert_eq!((door.take().as_str(), door.closed), ("", true));
    }
}

#[test]
fn an_old_client_and_one_that_wants_a_range_get_a_segment_when_it_is_whole() {
    for request in [
        "GET /live/cam/video-abc-7.m4s HTTP/1.0\r\n\r\n".to_owned(),
        get("/live/cam/video-abc-7.m4s").replace("Host", "Range: bytes=0-5\r\nHost"),
        get("/live/cam/video-abc-7.m4s").replace("GET", "HEAD"),
    ] {
        let mut door = Door::new();
        door.receive(&request);
        assert!(matches!(fetched(&door).2, Item::Segment { from: None, .. }), "{request}");
    }
}

#[test]
fn each_answer_to_a_fetch_has_its_status() {
    for (found, status) in [(Found::Missing, "404"), (Found::Absurd, "400")] {
        let mut door = Door::new();
        door.receive(&get("/live/cam/video.m3u8?_HLS_msn=9"));
        door.give(Input::Fetched(found));
        let sent = door.take();
        assert!(sent.starts_with(&format!("HTTP/1.1 {status} ")), "{sent}");
        assert!(!door.closed);
    }
    let mut door = Door::new();
    door.receive(&get("/live/cam/video.m3u8"));
    door.answer(Answer::Refused(Refusal::TooLate));
    assert!(door.take().starts_with("HTTP/1.1 503 "));
}
