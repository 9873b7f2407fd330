//! Peers that break the protocol, by mistake or on purpose.

use super::*;

/// The bytes of a whole publisher, from the handshake to a few frames.
fn whole_publisher() -> Vec<u8> {
    let mut out = BytesMut::new();
    handshake::Client::new(ClientKind::Simple, 1, &mut out);
    out.extend_from_slice(&[0; 1536]);
    let app = Value::object([("app", Value::string("live"))]);
    for (name, transaction, values) in [
        ("connect", 1.0, vec![app]),
        ("releaseStream", 2.0, vec![Value::Null, Value::string("cam1")]),
        ("createStream", 3.0, vec![Value::Null]),
        ("publish", 4.0, vec![Value::Null, Value::string("cam1"), Value::string("live")]),
    ] {
        write_message(route::COMMAND, 0, [&command(name, transaction, &values), &[]], 128, &mut out);
    }
    Control::SetChunkSize(crate::rtmp::CHUNK_SIZE).write(&mut out);
    let frames = media(0);
    out.extend_from_slice(&Pair::wire(&opening(), &frames[..3]));
    out.to_vec()
}

/// Feeds bytes to a new session whose hub grants everything, until it closes. The events, and the error.
pub(super) fn feed(bytes: &[u8], piece: usize) -> (Vec<Event>, Option<Error>) {
    let mut end = End::new(Session::new(&DoorLimits::default(), Now(0)));
    for part in bytes.chunks(piece.max(1)) {
        end.handle(Input::Received(part), Now(1));
        while !end.closed {
            let answer = match end.events.last() {
                Some(Event::Publish { .. }) => Answer::Publishing,
                Some(Event::Play { .. }) => Answer::Playing,
                _ => break,
            };
            end.events.push(Event::Remark("answered"));
            end.handle(Input::Answer(answer), Now(1));
        }
    }
    (end.events, end.error)
}

#[test]
fn a_whole_publisher_comes_through_at_any_split() {
    let bytes = whole_publisher();
    let (whole, error) = feed(&bytes, bytes.len());
    assert_eq!(error, None);
    assert_eq!(whole.iter().filter(|event| matches!(event, Event::Frame(_))).count(), 6);
    for piece in [1, 7, 100, 1536, 3073, 4000] {
        let (events, error) = feed(&bytes, piece);
        assert_eq!(error, None);
        assert_eq!(format!("{events:?}"), format!("{whole:?}"), "in pieces of {piece}");
    }
}

#[test]
fn what_is_not_rtmp_is_refused_at_its_first_byte() {
    for bytes in [b"GET / HTTP/1.1\r\n\r\n" as &[u8], b"\x16\x03\x01\x02\x00\x01", b"\0\0\0\0", b"\x06xyz"] {
        let (events, error) = feed(bytes, 1);
        assert!(events.is_empty());
        assert_eq!(error.unwrap().at, 0);
    }
}

#[test]
fn a_handshake_that_is_cut_off_or_garbage_asks_for_nothing() {
    let (events, error) = feed(&[3; 1000], 10);
    assert!(events.is_empty() && error.is_none());
    let (events, error) = feed(&[3; 300_000], 1000);
    assert!(events.is_empty());
    // 3073 bytes of 3 pass for a handshake. What follows reads as a chunk whose type is 3 and whose length is 0x030303;
    // the next chunk of that message has a header of type 0, which it may not.
    assert!(error.unwrap().at >= 3073);
}

#[test]
fn commands_before_connect_and_messages_without_a_name_are_refused_with_their_place() {
    let mut peer = Peer::shaken();
    peer.call("publish", 1.0, &[Value::Null, Value::string("cam1")]);
    assert_eq!(peer.end.error.unwrap(), Error::malformed("a command before connect", 3073));
    let mut peer = Peer::shaken();
    peer.send(kind::COMMAND_AMF0, 0, b"\x05");
    assert_eq!(peer.end.error.unwrap(), Error::malformed("a command does not begin with its name", 3073));
}

#[test]
fn amf_that_nests_without_end_is_refused() {
    for (first, unit) in [
        (&b""[..], &b"\x03\x00\x01a"[..]),
        (b"", b"\x0a\x00\x00\x00\x01"),
        (b"", b"\x08\0\0\0\0\0\x01a"),
        (b"\x11", b"\x09\x03\x01"),
    ] {
        let mut peer = Peer::connected();
        let bomb = [&command("x", 2.0, &[]), first, &unit.repeat(20_000)].concat();
        peer.send(kind::COMMAND_AMF0, 0, &bomb);
        let error = peer.end.error.unwrap();
        assert_eq!(error.kind, ErrorKind::TooLarge);
        assert!(error.at > 3073);
    }
}

#[test]
fn a_peer_that_asks_for_answers_without_end_is_closed() {
    let mut peer = Peer::connected();
    let mut out = BytesMut::new();
    let question = command("what", 2.0, &[]);
    while out.len() < 1 << 20 {
        write_message(route::COMMAND, 0, [&question, &[]], 128, &mut out);
    }
    peer.tell(Input::Received(&out));
    assert_eq!(peer.end.error.unwrap().kind, ErrorKind::TooLarge);
    let said: usize = peer.messages.iter().map(|message| message.payload.len()).sum();
    assert!(said < 2 * limits::OUTBOX_BYTES_MAX);
}

#[test]
fn a_peer_that_does_not_wait_for_its_answer_is_kept_within_a_bound() {
    let mut peer = Peer::connected();
    peer.call("play", 5.0, &[Value::Null, Value::string("cam1")]);
    let part = vec![0; 1 << 20];
    let mut parts = 0;
    while !peer.end.closed {
        peer.tell(Input::Received(&part));
        parts += 1;
    }
    assert_eq!(parts, limits::UNREAD_BYTES_MAX / part.len() + 1);
    assert_eq!(peer.end.error.unwrap().kind, ErrorKind::TooLarge);
}

#[test]
fn a_codec_that_is_not_supported_closes_its_publisher_with_the_place() {
    let mut peer = Peer::publishing();
    let at = peer.end.session.received();
    peer.send(kind::VIDEO, 0, b"\x12sorenson");
    assert_eq!(peer.end.error.unwrap(), Error::unsupported("Sorenson H.263 video", at));
    assert_eq!(peer.end.session.deadline(), None);
    let mut peer = Peer::publishing();
    peer.send(kind::VIDEO, 0, b"\x96\x01avc1\x00");
    let error = peer.end.error.unwrap();
    assert_eq!((error.kind, error.why), (ErrorKind::Unsupported, "multitrack video"));
    let replies = peer.replies();
    let info = replies[0].1.last().unwrap();
    assert_eq!(info.get("code"), Some(&Value::string("NetStream.Failed")));
    assert_eq!(info.get("description"), Some(&Value::string("multitrack video")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_session_with_bytes_changed_never_panics(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        piece in 1usize..5000,
    ) {
        let mut bytes = whole_publisher();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        feed(&bytes, piece);
    }

    #[test]
    fn commands_with_bytes_changed_never_panic(
        changes in proptest::collection::vec((3073usize..3500, any::<u8>()), 1..6),
    ) {
        let mut bytes = whole_publisher();
        for (place, byte) in changes {
            bytes[place] = byte;
        }
        feed(&bytes, 1000);
    }

    #[test]
    fn arbitrary_bytes_after_the_handshake_never_panic(tail: Vec<u8>, piece in 1usize..40) {
        let mut bytes = whole_publisher();
        bytes.truncate(3073);
        bytes.extend(tail);
        feed(&bytes, piece);
    }

    #[test]
    fn arbitrary_messages_never_panic(
        messages in proptest::collection::vec((0u8..24, any::<u32>(), any::<Vec<u8>>()), 0..10),
        playing: bool,
    ) {
        let mut peer = if playing { Peer::playing() } else { Peer::publishing() };
        for (kind, time, payload) in messages {
            peer.send(kind, time, &payload);
        }
        peer.tell(Input::Timeout);
        peer.tell(Input::Ended);
    }

    #[test]
    fn arbitrary_calls_never_panic(
        calls in proptest::collection::vec(
            (
                prop_oneof![
                    Just("connect"), Just("publish"), Just("play"), Just("play2"), Just("pause"), Just("seek"),
                    Just("FCPublish"), Just("FCUnpublish"), Just("deleteStream"), Just("receiveAudio"), Just("x"),
                ],
                any::<u8>(),
                proptest::collection::vec(amf0::tests::any_value(), 0..4),
            ),
            0..8,
        ),
    ) {
        let mut peer = Peer::connected();
        for (name, transaction, values) in calls {
            peer.call(name, transaction.into(), &values);
            match peer.end.events.pop() {
                Some(Event::Publish { .. }) => peer.tell(Input::Answer(Answer::Publishing)),
                Some(Event::Play { .. }) => peer.tell(Input::Answer(Answer::Playing)),
                _ => {}
            }
        }
    }
}
