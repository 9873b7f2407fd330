//! Exchanges of a connection that carries many: one request, one answer without framing, and a word that it is whole.

use super::*;

/// What was sent, up to the word that the answer is whole, and whether that came.
fn said(door: &mut Door) -> (String, bool) {
    let text = door.take();
    match text.strip_suffix(std::str::from_utf8(&END).unwrap()) {
        Some(said) => (said.to_owned(), true),
        None => (text, false),
    }
}

fn carried(request: &str) -> Door {
    let session = Session::carried(&DoorLimits::default(), START);
    let mut door = Door { session, ..Door::new() };
    door.receive(request);
    door
}

#[test]
fn each_answer_is_one_and_whole_and_the_last() {
    for (request, status) in [
        (get("/"), "200"),
        (get("/live/cam/"), "200"),
        (get("/live/cam"), "307"),
        (get("/nothing"), "404"),
        (get("/").replace("GET", "HEAD"), "200"),
        (get("/").replace("GET", "OPTIONS"), "204"),
        (get("/").replace("GET", "DELETE"), "405"),
        (get("/").replace("Host: door\r\n", ""), "400"),
        (get("/").replace("\r\n\r\n", "\r\nContent-Length: 65537\r\n\r\n"), "413"),
        // What the client says of a body is not waited for: the carrier passes over it.
        (get("/nothing").replace("\r\n\r\n", "\r\nContent-Length: 10\r\n\r\n"), "404"),
    ] {
        let mut door = carried(&request);
        let (text, whole) = said(&mut door);
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{request}{text}");
        assert!(whole && (door.closed || door.error.is_some()), "{request}{text}");
        assert!(door.events.is_empty() && door.session.deadline().is_none());
    }
}

#[test]
fn a_stream_is_bare_and_its_end_is_a_word_of_its_own() {
    let mut door = carried(&get("/live/cam.flv"));
    assert_eq!(door.wish(), ("live/cam", "", &flv::FORM));
    door.answer(Answer::Playing);
    let (head, whole) = said(&mut door);
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(!head.contains("Transfer-Encoding") && !whole, "{head}");
    door.give(Input::Ended);
    assert_eq!((said(&mut door), door.closed), ((String::new(), true), true));

    let mut door = carried(&get("/live/cam.flv").replace("GET", "HEAD"));
    door.answer(Answer::Playing);
    assert!(matches!(door.events.last(), Some(Event::Stop)) && door.closed);
    assert!(said(&mut door).1);

    let mut door = carried(&get("/live/cam.flv"));
    door.give(Input::Shutdown);
    let (text, whole) = said(&mut door);
    assert!(text.starts_with("HTTP/1.1 503 ") && whole && door.closed, "{text}");
}

#[test]
fn a_segment_that_is_being_made_comes_bare_and_half_a_one_has_no_end() {
    let half = || {
        let mut door = carried(&get("/live/cam/video-abc-7.m4s"));
        door.give(Input::Fetched(Found::Open(
            vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")],
            2,
        )));
        let (text, whole) = said(&mut door);
        assert!(text.ends_with("\r\n\r\nonetwo") && !text.contains("chunked") && !whole, "{text}");
        door
    };
    let mut door = half();
    door.give(Input::Fetched(Found::Bytes(vec![Bytes::from_static(b"last")])));
    assert_eq!((said(&mut door), door.closed), (("last".to_owned(), true), true));
    for ending in
        [Input::Fetched(Found::Missing), Input::Answer(Answer::Refused(Refusal::TooLate)), Input::Shutdown]
    {
        let mut door = half();
        door.give(ending);
        assert_eq!((said(&mut door), door.closed), ((String::new(), false), true));
    }
}

#[test]
fn the_end_is_known_by_its_place_and_not_by_what_it_holds() {
    let mut session = Session::carried(&DoorLimits::default(), START);
    session.handle(Input::Received(get("/nothing").as_bytes()), START).unwrap();
    let mut ends = Vec::new();
    while let Some(output) = session.poll() {
        if let Output::Send(bytes) = output {
            ends.push(is_end(&bytes));
        }
    }
    assert_eq!(ends, [false, true]);
    assert!(!is_end(&Bytes::copy_from_slice(&END)));
}
