//! Requests whose body somebody wants: it is passed on as it comes, as far as its bound.

use super::*;
use crate::session::signal::{Key, Reply, Request as Asked};

impl Pair {
    /// Asks with a body that is still to be sent.
    fn post(&mut self, path: &str, fields: &[(&'static str, &'static str)]) -> (Got, SendStream<Bytes>) {
        let mut request = Request::post(format!("http://door{path}")).body(()).unwrap();
        for (name, value) in fields {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (head, stream) = self.requests.send_request(request, false).unwrap();
        let got =
            Got { head, body: None, status: None, fields: HeaderMap::new(), bytes: Vec::new(), end: None };
        self.talk();
        (got, stream)
    }

    /// What is heard of the newest request: its head, and what has come of its body since the last time.
    fn heard(&mut self) -> String {
        let mut heard = Vec::new();
        for output in self.outputs.drain(..) {
            match output {
                Output::Asked { head: bytes, .. } | Output::Heard { bytes, .. } => heard.extend(bytes),
                other => panic!("{other:?}"),
            }
        }
        String::from_utf8(heard).unwrap()
    }
}

const OFFERS: (&str, &str) = ("content-type", "application/sdp");

#[test]
fn a_body_that_is_wanted_is_passed_on_in_chunks_as_it_comes() {
    let mut pair = Pair::new();
    let (mut got, mut stream) = pair.post("/live/cam/whip?a=b", &[OFFERS, ("content-length", "5")]);
    let head = "POST /live/cam/whip?a=b HTTP/1.1\r\nhost: door\r\ncontent-type: application/sdp\r\n\
                transfer-encoding: chunked\r\n\r\n";
    assert_eq!(pair.heard(), head);
    stream.send_data(Bytes::from_static(b"v=0"), false).unwrap();
    pair.talk();
    assert_eq!(pair.heard(), "3\r\nv=0\r\n");
    // An empty piece is not the end.
    stream.send_data(Bytes::new(), false).unwrap();
    pair.talk();
    assert_eq!(pair.heard(), "");
    stream.send_data(Bytes::from_static(b"\r\n"), true).unwrap();
    pair.talk();
    assert_eq!(pair.heard(), "2\r\n\r\n\r\n0\r\n\r\n");
    let answer = "HTTP/1.1 201 Created\r\nLocation: /live/cam/whip/k\r\n\r\nv=0";
    assert_eq!(pair.answer(BranchId(1), answer), answer.len());
    pair.end(BranchId(1));
    pair.talk();
    got.read(true);
    assert_eq!((got.status, got.end), (Some(StatusCode::CREATED), Some(Ok(()))));
    assert_eq!(got.bytes, b"v=0");
    assert_eq!(got.fields["location"], "/live/cam/whip/k");
    // Nobody wants the body of another request, or of one that has none.
    let mut kept = Vec::new();
    for (path, fields) in [("/live/cam", &[OFFERS]), ("/live/cam/whip/1-2-3", &[OFFERS])] {
        let (got, mut stream) = pair.post(path, fields);
        stream.send_data(Bytes::from_static(b"v=0"), true).unwrap();
        pair.talk();
        kept.push(got);
        assert!(pair.heard().ends_with("application/sdp\r\n\r\n"), "{path}");
    }
    let request = Request::post("http://door/live/cam/whip").body(()).unwrap();
    let _got = pair.requests.send_request(request, true).unwrap();
    pair.talk();
    assert_eq!(pair.heard(), "POST /live/cam/whip HTTP/1.1\r\nhost: door\r\n\r\n");
}

#[test]
fn who_waits_for_leave_to_send_a_body_that_is_wanted_has_it() {
    for (path, wanted) in [("/live/cam/whip", true), ("/live/cam", false)] {
        let mut pair = Pair::new();
        let (mut got, _stream) = pair.post(path, &[OFFERS, ("expect", "100-continue")]);
        assert!(pair.heard().contains("expect: 100-continue\r\n"));
        match got.head.poll_informational(&mut context()) {
            Poll::Ready(Some(Ok(leave))) => assert!(wanted && leave.status() == StatusCode::CONTINUE),
            other => assert!(!wanted && other.is_pending(), "{path}: {other:?}"),
        }
    }
}

#[test]
fn a_wanted_body_that_is_too_large_is_heard_to_be_and_one_that_is_called_off_is_gone() {
    let mut pair = Pair::new();
    let (mut got, mut stream) = pair.post("/live/cam/whep", &[OFFERS]);
    stream.send_data(Bytes::from(vec![b'x'; 10 * limits::HTTP_BODY_BYTES_MAX]), true).unwrap();
    pair.talk();
    let mut session = crate::http::Session::carried(&DoorLimits::default(), START);
    let text = pair.heard();
    assert!(text.len() < 2 * limits::HTTP_BODY_BYTES_MAX, "{} bytes were passed on", text.len());
    assert!(session.handle(session::Input::Received(text.as_bytes()), START).is_err());
    while let Some(output) = session.poll() {
        if let session::Output::Send(bytes) = output {
            assert_eq!(pair.trunk.answer(BranchId(1), &bytes, START), bytes.len());
        }
    }
    pair.trunk.leave(BranchId(1), START);
    pair.trunk.work(START);
    pair.talk();
    got.read(true);
    assert_eq!((got.status, got.end), (Some(StatusCode::PAYLOAD_TOO_LARGE), Some(Ok(()))));
    assert!(pair.trunk.bodies.is_empty() && !pair.is_closed());

    let (got, mut stream) = pair.post("/live/cam/whep", &[OFFERS]);
    stream.send_data(Bytes::from_static(b"v=0"), false).unwrap();
    pair.talk();
    pair.heard();
    stream.send_reset(Reason::CANCEL);
    drop(got);
    pair.talk();
    assert!(matches!(pair.outputs.as_slice(), [Output::Gone { branch: BranchId(3) }]), "{:?}", pair.outputs);
}

#[test]
fn an_offer_and_its_answer_go_through_a_trunk_and_a_session() {
    let mut pair = Pair::new();
    let (mut got, mut stream) = pair.post("/live/cam/whip", &[OFFERS, ("authorization", "Bearer t")]);
    stream.send_data(Bytes::from_static(b"v=0\r\n"), true).unwrap();
    pair.talk();
    let mut session = crate::http::Session::carried(&DoorLimits::default(), START);
    for output in std::mem::take(&mut pair.outputs) {
        let (Output::Asked { head: bytes, .. } | Output::Heard { bytes, .. }) = output else { continue };
        session.handle(session::Input::Received(&bytes), START).unwrap();
    }
    let Some(session::Output::Event(session::Event::Signal(signal))) = session.poll() else {
        panic!("it is asked for")
    };
    assert!(
        matches!(&signal.request, Asked::Offer { publish: true, query, sdp, .. } if query == "key=t" && sdp == "v=0\r\n")
    );
    let reply = Reply::Accepted {
        key: Key { core: 0, number: 1, secret: 2 },
        tag: "t".into(),
        sdp: "v=0\r\nanswer".into(),
    };
    session.handle(session::Input::Signalled(Box::new(reply)), START).unwrap();
    while let Some(output) = session.poll() {
        if let session::Output::Send(bytes) = output {
            assert_eq!(pair.trunk.answer(BranchId(1), &bytes, START), bytes.len());
        }
    }
    pair.trunk.leave(BranchId(1), START);
    pair.trunk.work(START);
    pair.talk();
    got.read(true);
    assert_eq!((got.status, got.bytes.as_slice()), (Some(StatusCode::CREATED), &b"v=0\r\nanswer"[..]));
    assert_eq!(got.fields["location"], "/live/cam/whip/0-1-00000000000000000000000000000002");
    assert_eq!((&got.fields["etag"], got.end), (&http::HeaderValue::from_static("\"t\""), Some(Ok(()))));
}
