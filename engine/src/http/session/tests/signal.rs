//! WHIP and WHEP: each request and each answer, bodies cut anywhere, and what stands before and behind them.

use super::*;
use crate::session::signal::{Fault as Why, Key, Reply, Request as Asked, Signal};

const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n";

fn key() -> Key {
    Key { core: 1, number: 0x2a, secret: 0xfeed }
}

const KEY: &str = "1-2a-0000000000000000000000000000feed";

/// A request with a body of known length.
fn request(method: &str, path: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nHost: door\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
}

fn post(path: &str) -> String {
    request("POST", path, "Content-Type: application/sdp\r\n", OFFER)
}

fn patch(fields: &str) -> String {
    let fields = format!("Content-Type: application/trickle-ice-sdpfrag\r\n{fields}");
    request("PATCH", &format!("/live/cam/whip/{KEY}"), &fields, "a=end-of-candidates\r\n")
}

fn accepted() -> Reply {
    Reply::Accepted { key: key(), tag: "t0".into(), sdp: "v=0\r\nanswer".into() }
}

impl Door {
    fn asks(&self) -> &Signal {
        match self.events.last() {
            Some(Event::Signal(signal)) => signal,
            other => panic!("the last event is a signal, not {other:?}"),
        }
    }

    fn reply(&mut self, reply: Reply) -> String {
        self.give(Input::Signalled(Box::new(reply)));
        self.take()
    }
}

/// Head and body of one answer, which has to state its length if it has a body.
fn parts(answer: &str) -> (&str, &str) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    assert_eq!(length.map_or(0, |length| length.parse().unwrap()), body.len(), "{answer}");
    assert!(head.contains("\r\nAccess-Control-Allow-Origin: *\r\n"), "{head}");
    (head, body)
}

fn has(head: &str, field: &str) -> bool {
    head.lines().any(|line| line == field)
}

#[test]
fn an_offer_is_asked_for_and_answered_with_what_it_opened() {
    for (door_name, publishes) in [("whip", true), ("whep", false)] {
        let mut door = Door::new();
        door.receive(&post(&format!("/live/cam/{door_name}?a=b")));
        let signal = door.asks();
        assert_eq!(signal.name.as_str(), "live/cam");
        let Asked::Offer { publish, query, proof: None, sdp } = &signal.request else { panic!("{signal:?}") };
        assert_eq!((*publish, query.as_str(), sdp.as_str()), (publishes, "a=b", OFFER));
        assert_eq!(
            (door.take().as_str(), door.session.deadline()),
            ("", None),
            "the hub answers in its time"
        );
        let answer = door.reply(accepted());
        let (head, body) = parts(&answer);
        assert!(head.starts_with("HTTP/1.1 201 Created\r\n"), "{head}");
        for field in [
            "Content-Type: application/sdp",
            "ETag: \"t0\"",
            "Access-Control-Expose-Headers: Location, ETag, Link",
            "Connection: keep-alive",
            &format!("Location: /live/cam/{door_name}/{KEY}"),
        ] {
            assert!(has(head, field), "{field} in {head}");
        }
        assert_eq!((body, door.closed, &door.error), ("v=0\r\nanswer", false, &None));
        // And what it opened is ended on the same connection.
        door.receive(&format!("DELETE /live/cam/{door_name}/{KEY} HTTP/1.1\r\nHost: door\r\n\r\n"));
        assert!(matches!(door.asks().request, Asked::End { key: asked } if asked == key()));
        let answer = door.reply(Reply::Ended);
        let (head, body) = parts(&answer);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && body.is_empty(), "{answer}");
    }
}

#[test]
fn what_is_said_of_addresses_is_brought_with_its_tag() {
    for (fields, expected) in [
        ("If-Match: \"t0\"\r\n", Some("t0")),
        ("If-Match: W/\"t0\"\r\n", Some("t0")),
        ("If-Match: *\r\n", Some("*")),
        ("If-Match: \"a\", W/\"b\"\r\n", Some("a,b")),
        ("", None),
    ] {
        let mut door = Door::new();
        door.receive(&patch(fields));
        let Asked::Trickle { key: asked, tag, fragment } = &door.asks().request else { panic!("{fields}") };
        assert_eq!((*asked, tag.as_deref()), (key(), expected), "{fields}");
        assert_eq!(fragment, "a=end-of-candidates\r\n");
        let answer = door.reply(Reply::Trickled { tag: "t0".into(), fragment: None });
        let (head, body) = parts(&answer);
        assert!(head.starts_with("HTTP/1.1 204 No Content\r\n") && body.is_empty(), "{answer}");
        assert!(has(head, "ETag: \"t0\"") && !head.contains("\nContent-"), "{head}");
        door.receive(&patch(fields));
        let fragment = Some("a=ice-ufrag:new\r\n".to_owned());
        let answer = door.reply(Reply::Trickled { tag: "t1".into(), fragment });
        let (head, body) = parts(&answer);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && has(head, "ETag: \"t1\""), "{head}");
        assert!(has(head, "Content-Type: application/trickle-ice-sdpfrag"), "{head}");
        assert_eq!((body, door.closed), ("a=ice-ufrag:new\r\n", false));
    }
}

#[test]
fn each_fault_has_its_status_and_the_connection_goes_on() {
    for (fault, status, field) in [
        (Why::Malformed, "400 Bad Request", ""),
        (Why::Forbidden, "401 Unauthorized", "WWW-Authenticate: Bearer realm=\"shardcast\""),
        (Why::NotFound, "404 Not Found", ""),
        (Why::Conflict, "409 Conflict", ""),
        (Why::Outdated, "412 Precondition Failed", ""),
        (Why::Untagged, "428 Precondition Required", ""),
        (Why::Unsuited, "422 Unprocessable Content", ""),
        (Why::Unavailable, "503 Service Unavailable", "Retry-After: 5"),
    ] {
        let mut door = Door::new();
        door.receive(&post("/live/cam/whip"));
        let answer = door.reply(Reply::refused(fault, "it is so"));
        let (head, body) = parts(&answer);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{fault:?}: {head}");
        assert_eq!(body, format!("{status}: it is so\n"));
        assert!(field.is_empty() || has(head, field), "{field} in {head}");
        door.receive(&get("/live/cam.flv"));
        assert_eq!(door.wish().0, "live/cam");
    }
    // The hub's own words are no others.
    let mut door = Door::new();
    door.receive(&post("/live/cam/whip"));
    door.answer(Answer::Refused(Refusal::AlreadyLive));
    assert!(door.take().starts_with("HTTP/1.1 409 ") && !door.closed);
    door.answer(Answer::Playing);
    assert_eq!(door.reply(Reply::Ended), "", "an answer to nothing is let pass");
}

#[test]
fn other_methods_are_refused_and_told_which_there_are() {
    let resource = format!("/live/cam/whep/{KEY}");
    for (path, method, allow) in [
        ("/live/cam/whip", "GET", "POST, OPTIONS"),
        ("/live/cam/whip", "HEAD", "POST, OPTIONS"),
        ("/live/cam/whep", "PUT", "POST, OPTIONS"),
        ("/live/cam/whep", "PATCH", "POST, OPTIONS"),
        ("/live/cam/whep", "DELETE", "POST, OPTIONS"),
        (&resource, "GET", "PATCH, DELETE, OPTIONS"),
        (&resource, "HEAD", "PATCH, DELETE, OPTIONS"),
        (&resource, "PUT", "PATCH, DELETE, OPTIONS"),
        (&resource, "POST", "PATCH, DELETE, OPTIONS"),
    ] {
        let mut door = Door::new();
        let fields = "Content-Type: application/sdp\r\n";
        door.receive(&request(method, path, fields, if method == "HEAD" { "" } else { OFFER }));
        let answer = door.take();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{method} {path}: {head}");
        assert!(has(head, &format!("Allow: {allow}")), "{head}");
        assert_eq!(body.is_empty(), method == "HEAD", "{answer}");
        door.receive(&get("/live/cam.flv"));
        assert_eq!((door.wish().0, door.events.len()), ("live/cam", 1), "its body is dropped");
    }
}

#[test]
fn a_page_of_another_origin_is_told_what_it_may_do() {
    for (path, field) in [
        ("/live/cam/whip".to_owned(), "Accept-Post: application/sdp"),
        (format!("/live/cam/whep/{KEY}"), "Accept-Patch: application/trickle-ice-sdpfrag"),
    ] {
        let mut door = Door::new();
        door.receive(&get(&path).replace("GET", "OPTIONS"));
        let answer = door.take();
        let (head, body) = parts(&answer);
        assert!(head.starts_with("HTTP/1.1 204 No Content\r\n") && body.is_empty(), "{answer}");
        for field in [
            field,
            "Access-Control-Allow-Methods: POST, PATCH, DELETE, OPTIONS",
            "Access-Control-Allow-Headers: Accept, Authorization, Content-Type, If-Match",
            "Access-Control-Max-Age: 86400",
        ] {
            assert!(has(head, field), "{field} in {head}");
        }
        assert!(!door.closed && door.events.is_empty());
    }
}

#[test]
fn what_cannot_be_an_offer_is_refused_before_the_hub_hears_of_it() {
    let fat = "x".repeat(limits::HTTP_BODY_BYTES_MAX + 1);
    let sdp = "Content-Type: application/sdp\r\n";
    for (bad, status, field) in [
        (request("POST", "/live/cam/whip", "", OFFER), "415", "Accept-Post: application/sdp"),
        (request("POST", "/live/cam/whip", "Content-Type: application/json\r\n", "{}"), "415", ""),
        (
            request("PATCH", &format!("/live/cam/whip/{KEY}"), sdp, OFFER),
            "415",
            "Accept-Patch: application/trickle-ice-sdpfrag",
        ),
        (request("POST", "/live/cam/whip", sdp, ""), "400", ""),
        (format!("POST /live/cam/whip HTTP/1.1\r\nHost: a\r\n{sdp}\r\n"), "400", ""),
        (
            format!(
                "POST /live/cam/whip HTTP/1.1\r\nHost: a\r\n{sdp}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            "400",
            "",
        ),
        (request("POST", "/live/c%20m/whip", sdp, OFFER), "400", ""),
        (request("PATCH", "/live/cam/whip/1-2-3", sdp, OFFER), "404", ""),
        (request("DELETE", "/live/cam/whip/", "", ""), "404", ""),
        (request("GET", "/live/cam/whip/x", "", ""), "404", ""),
    ] {
        let mut door = Door::new();
        door.receive(&bad);
        let answer = door.take();
        let (head, _) = parts(&answer);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{bad}{answer}");
        assert!(field.is_empty() || has(head, field), "{field} in {head}");
        assert!(door.events.is_empty() && !door.closed, "{bad}");
        door.receive(&get("/live/cam.flv"));
        assert_eq!(door.wish().0, "live/cam", "{bad}");
    }
    for (bad, status) in [
        (request("POST", "/live/cam/whip", sdp, &fat), "413"),
        (
            format!(
                "POST /live/cam/whip HTTP/1.1\r\nHost: a\r\n{sdp}Transfer-Encoding: chunked\r\n\r\n10001\r\n"
            ),
            "413",
        ),
        (
            format!(
                "POST /live/cam/whip HTTP/1.1\r\nHost: a\r\n{sdp}Transfer-Encoding: chunked\r\n\r\nno\r\n"
            ),
            "400",
        ),
        (
            format!(
                "DELETE /live/cam/whip/{KEY} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            "411",
        ),
    ] {
        let mut door = Door::new();
        door.receive(&bad);
        assert!(door.take().starts_with(&format!("HTTP/1.1 {status} ")), "{status}");
        assert!(door.events.is_empty() && door.error.is_some(), "{status}");
    }
    let mut door = Door::new();
    door.receive(&post("/live/cam/whip").replace(OFFER, ""));
    door.give(Input::Received(&vec![0xff; OFFER.len()]));
    assert!(door.take().contains("400 Bad Request: the body is not UTF-8") && !door.closed);
    // One whose end nobody would find is the last.
    let mut door = Door::new();
    door.receive("POST /live/cam/whip HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nv=0\r\n");
    assert!(door.take().starts_with("HTTP/1.1 415 ") && door.closed);
}

#[test]
fn a_type_may_have_parameters_and_any_case_and_a_body_its_whole_bound() {
    let mut door = Door::new();
    let most = "x".repeat(limits::HTTP_BODY_BYTES_MAX);
    door.receive(&request(
        "POST",
        "/live/cam/whip",
        "Content-Type: Application/SDP ; charset=utf-8\r\n",
        &most,
    ));
    assert!(matches!(&door.asks().request, Asked::Offer { sdp, .. } if *sdp == most));
}

#[test]
fn a_token_is_a_key_here_and_for_streams() {
    let asked = |fields: &str, path: &str| {
        let mut door = Door::new();
        door.receive(&post(path).replace("Host", &format!("{fields}\r\nHost")));
        match &door.asks().request {
            Asked::Offer { query, .. } => query.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(asked("Authorization: Bearer s=1", "/live/cam/whip"), "key=s%3D1");
    assert_eq!(asked("Authorization: bearer s", "/live/cam/whip?a=b"), "a=b&key=s");
    assert_eq!(asked("Authorization: Basic dTpwOnE=", "/live/cam/whip"), "user=u&key=p%3Aq");
    for nothing in ["Authorization: Bearer", "Authorization: Basic !", "Authorization: Digest a=b", "X: y"] {
        assert_eq!(asked(nothing, "/live/cam/whip?a=b"), "a=b", "{nothing}");
    }
    let mut door = Door::new();
    door.receive(&get("/live/cam.flv?a=b").replace("Host", "Authorization: Bearer t\r\nHost"));
    assert_eq!(door.wish(), ("live/cam", "a=b&key=t", &FLV_CHUNKED));
    let mut door = Door::new();
    door.receive(&get("/live/cam/video.m3u8?_HLS_msn=1").replace("Host", "Authorization: Bearer t\r\nHost"));
    assert_eq!(fetched(&door).1, "key=t");
    let mut door = Door::new();
    door.receive(&get("/live/cam").replace("Host", "Authorization: Bearer t\r\nHost"));
    assert!(door.take().contains("\r\nLocation: /live/cam/\r\n"), "it stands in no address");
}

#[test]
fn leave_to_send_is_given_only_to_what_may_be_read() {
    let mut door = Door::new();
    let expecting = post("/live/cam/whip").replace("Host", "Expect: 100-continue\r\nHost");
    let (head, body) = expecting.split_at(expecting.len() - OFFER.len());
    door.receive(head);
    assert_eq!(door.take(), "HTTP/1.1 100 Continue\r\n\r\n");
    door.receive(body);
    assert!(has(parts(&door.reply(accepted())).0, "Connection: keep-alive"));
    assert!(!door.closed);
    // Whoever is refused may send its body all the same, or not.
    door.receive(&head.replace("application/sdp", "text/plain"));
    let answer = door.take();
    assert!(
        answer.starts_with("HTTP/1.1 415 ") && has(&answer, "Connection: close") && door.closed,
        "{answer}"
    );
}

#[test]
fn a_body_has_the_time_of_a_head() {
    let limits = DoorLimits::default();
    let mut door = Door::new();
    door.receive(&post("/live/cam/whip").replace(OFFER, ""));
    assert_eq!(door.session.deadline(), Some(START.after(limits.handshake)));
    for byte in OFFER.split("").take(20) {
        door.receive(byte);
        door.wait(Duration::from_secs(1));
    }
    assert_eq!(door.error.map(|error| error.kind), Some(ErrorKind::TimedOut));
    assert!(door.take().starts_with("HTTP/1.1 408 ") && door.events.is_empty());
}

#[test]
fn who_waits_is_told_of_a_shutdown_and_who_sends_is_closed() {
    let mut asking = Door::new();
    asking.receive(&post("/live/cam/whip"));
    asking.give(Input::Shutdown);
    assert!(asking.take().starts_with("HTTP/1.1 503 ") && asking.closed);
    let mut sending = Door::new();
    sending.receive(&post("/live/cam/whip").replace(OFFER, "v=0"));
    sending.give(Input::Ended);
    assert!(!sending.closed);
    sending.give(Input::Shutdown);
    assert_eq!((sending.take().as_str(), sending.closed), ("", true));
}

/// Many requests in one piece, or in pieces of `cut` bytes, each answered by the hub at once.
fn converse(bytes: &[u8], cut: usize) -> (String, String) {
    let mut door = Door::new();
    let mut answered = 0;
    for piece in bytes.chunks(cut) {
        door.give(Input::Received(piece));
        while answered < door.events.len() {
            let reply = match &door.events[answered] {
                Event::Signal(signal) => match &signal.request {
                    Asked::Offer { publish: true, .. } => accepted(),
                    Asked::Offer { publish: false, .. } => Reply::refused(Why::NotFound, "no such stream"),
                    Asked::Trickle { tag, .. } => {
                        Reply::Trickled { tag: tag.clone().unwrap_or_default(), fragment: None }
                    }
                    Asked::End { .. } => Reply::Ended,
                },
                other => panic!("{other:?}"),
            };
            answered += 1;
            door.give(Input::Signalled(Box::new(reply)));
        }
        assert!(door.session.unread.len() <= limits::HTTP_HEAD_BYTES_MAX);
    }
    assert_eq!((door.closed, &door.error), (false, &None));
    let events = format!("{:?}", door.events);
    (door.take(), events)
}

#[test]
fn requests_behind_each_other_are_answered_in_order_wherever_their_bytes_are_cut() {
    let chunked = "POST /live/cam/whip?c HTTP/1.1\r\nHost: a\r\nContent-Type: application/sdp\r\n\
                   Transfer-Encoding: chunked\r\n\r\n5\r\nv=0\r\n\r\n3;x=y\r\ns=-\r\n0\r\nA: b\r\n\r\n";
    let bytes = [
        get("/nothing"),
        post("/live/cam/whip?a"),
        patch("If-Match: \"t0\"\r\nExpect: 100-continue\r\n"),
        chunked.to_owned(),
        request("POST", "/live/cam/whip", "", "not read"),
        "\r\n".to_owned(),
        post("/live/none/whep"),
        get("/live/cam/whip").replace("GET", "OPTIONS"),
        format!("DELETE /live/cam/whip/{KEY} HTTP/1.1\r\nHost: a\r\n\r\n"),
    ]
    .concat()
    .into_bytes();
    let whole = converse(&bytes, bytes.len());
    let statuses: Vec<&str> = whole.0.split("HTTP/1.1 ").skip(1).map(|answer| answer.split_at(3).0).collect();
    assert_eq!(statuses, ["404", "201", "100", "204", "201", "415", "404", "204", "200"], "{}", whole.0);
    assert!(whole.1.contains("query: \"c\"") && whole.1.contains("v=0\\r\\ns=-"), "{}", whole.1);
    for cut in 1..bytes.len() {
        assert_eq!(converse(&bytes, cut), whole, "cut at each {cut}");
    }
}

#[test]
fn a_request_behind_one_that_waits_waits_too() {
    let mut door = Door::new();
    door.receive(&[post("/live/a/whip"), post("/live/b/whep")].concat());
    assert_eq!((door.asks().name.as_str(), door.events.len()), ("live/a", 1));
    assert!(door.reply(accepted()).starts_with("HTTP/1.1 201 "));
    assert_eq!((door.asks().name.as_str(), door.events.len()), ("live/b", 2));
    for _ in 0..16 {
        door.give(Input::Received(&[b'x'; 1024]));
    }
    assert_eq!(door.error, None);
    door.receive("x");
    assert_eq!(door.error.map(|error| error.kind), Some(ErrorKind::TooLarge));
}

#[test]
fn a_carried_offer_comes_in_chunks_and_its_answer_is_whole() {
    let session = Session::carried(&DoorLimits::default(), START);
    let mut door = Door { session, ..Door::new() };
    door.receive(
        "POST /live/cam/whep HTTP/1.1\r\nhost: a\r\ncontent-type: application/sdp\r\nexpect: 100-continue\r\n\
         transfer-encoding: chunked\r\n\r\n",
    );
    door.receive("3\r\nv=0\r\n");
    assert_eq!(door.take(), "", "leave to send is the carrier's to give");
    door.receive("0\r\n\r\n");
    assert!(matches!(&door.asks().request, Asked::Offer { publish: false, sdp, .. } if sdp == "v=0"));
    let answer = door.reply(accepted());
    let answer = answer.strip_suffix(std::str::from_utf8(&END).unwrap()).expect("it is whole");
    assert!(parts(answer).0.starts_with("HTTP/1.1 201 ") && door.closed, "{answer}");
}

proptest! {
    #[test]
    fn requests_made_of_likely_words_never_panic_it_or_grow_it(
        words in proptest::collection::vec(proptest::sample::select(vec![
            "POST ", "PATCH ", "DELETE ", "OPTIONS ", "GET ", "/live/cam/whip", "/live/cam/whep", "/", KEY, "?q", " HTTP/1.1",
            "\r\n", "\n", "Host: a\r\n", "Content-Type: application/sdp\r\n", "Content-Type: application/trickle-ice-sdpfrag\r\n",
            "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n", "Expect: 100-continue\r\n", "If-Match: \"a\"\r\n",
            "Authorization: Bearer x\r\n", "\r\n\r\n", "3\r\n", "v=0", "0\r\n", "\u{e9}",
            "POST /live/cam/whip HTTP/1.1\r\nHost: a\r\nContent-Type: application/sdp\r\n",
        ]), 0..40),
        cut in 1..60_usize,
        yes: bool,
    ) {
        let mut door = Door::new();
        let mut answered = 0;
        for piece in words.concat().as_bytes().chunks(cut) {
            door.give(Input::Received(piece));
            prop_assert!(door.session.unread.len() <= limits::HTTP_HEAD_BYTES_MAX);
            while answered < door.events.len() {
                answered += 1;
                let reply = if yes { accepted() } else { Reply::refused(Why::Untagged, "no") };
                door.give(Input::Signalled(Box::new(reply)));
            }
        }
        door.give(Input::Shutdown);
        prop_assert!(door.closed || door.error.is_some());
    }
}
