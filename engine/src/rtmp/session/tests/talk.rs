//! What a peer says and how it is answered.

use super::*;

#[test]
fn connect_is_answered_with_the_windows_the_chunk_size_and_what_enhanced_rtmp_asks_for() {
    let mut peer = Peer::shaken();
    let object = [("app", Value::string("live")), ("objectEncoding", Value::Number(3.0))];
    peer.call("connect", 1.0, &[Value::object(object)]);
    let kinds: Vec<_> = peer.messages.iter().map(|message| message.kind).collect();
    // Set Chunk Size is obeyed by the reader and not seen here; without it the answer would not have been read.
    assert_eq!(kinds, [kind::WINDOW_ACKNOWLEDGEMENT_SIZE, kind::SET_PEER_BANDWIDTH, kind::COMMAND_AMF0]);
    let replies = peer.replies();
    let [(name, values)] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!((name.as_str(), &values[0]), ("_result", &Value::Number(1.0)));
    assert_eq!(values[2].get("code"), Some(&Value::string("NetConnection.Connect.Success")));
    assert_eq!(values[2].get("objectEncoding"), Some(&Value::Number(3.0)));
    for object in [&values[1], &values[2]] {
        let Some(Value::StrictArray(list)) = object.get("fourCcList") else { panic!("{object:?}") };
        let codecs = ["hvc1", "vvc1", "av01", "vp09", "avc1", "mp4a", "Opus"];
        assert!(codecs.iter().all(|codec| list.contains(&Value::string(*codec))));
        let forwarded = Some(&Value::Number(4.0));
        assert_eq!(object.get("videoFourCcInfoMap").and_then(|map| map.get("hvc1")), forwarded);
        assert_eq!(object.get("audioFourCcInfoMap").and_then(|map| map.get("Opus")), forwarded);
        assert_eq!(object.get("capsEx"), Some(&Value::Number(12.0)));
    }
}

#[test]
fn a_bad_application_is_rejected_in_the_protocol_and_closed() {
    let mut peer = Peer::shaken();
    peer.call("connect", 1.0, &[Value::object([("app", Value::string("a/b/c"))])]);
    assert_eq!(peer.codes(), ["NetConnection.Connect.Rejected"]);
    let error = peer.end.error.unwrap();
    assert_eq!((error.why, error.at), ("a stream's name has two parts, APP/STREAM", 3073));
}

#[test]
fn a_bad_name_is_refused_in_the_protocol_and_asks_the_hub_for_nothing() {
    let long = "x".repeat(10_000);
    for (call, code) in [("publish", "NetStream.Publish.BadName"), ("play", "NetStream.Play.Failed")] {
        for name in ["..", "a/b", "", "a\0b", "a b", &long] {
            let mut peer = Peer::connected();
            peer.call(call, 5.0, &[Value::Null, Value::string(name)]);
            assert_eq!(peer.codes(), [code], "{name:?}");
            assert_eq!(peer.end.error.unwrap().kind, ErrorKind::Malformed);
            assert!(peer.end.events.is_empty());
        }
    }
}

#[test]
fn calls_that_encoders_make_are_answered() {
    let mut peer = Peer::connected();
    let cam = Value::string("cam1");
    peer.call("releaseStream", 2.0, &[Value::Null, cam.clone()]);
    peer.call("FCPublish", 3.0, &[Value::Null, cam.clone()]);
    peer.call("createStream", 4.0, &[Value::Null]);
    peer.call("FCSubscribe", 6.0, &[Value::Null, cam.clone()]);
    peer.call("getStreamLength", 7.0, &[Value::Null, cam]);
    peer.call("_checkbw", 8.0, &[Value::Null]);
    peer.call("somethingElse", 9.0, &[Value::Null]);
    peer.call("somethingElse", 0.0, &[Value::Null]);
    peer.call("connect", 10.0, &[Value::Null]);
    let replies = peer.replies();
    let said: Vec<_> =
        replies.iter().map(|(name, values)| (name.as_str(), values[0].as_number().unwrap())).collect();
    assert_eq!(
        said,
        [
            ("_result", 2.0),
            ("_result", 3.0),
            ("onFCPublish", 0.0),
            ("_result", 4.0),
            ("_result", 6.0),
            ("onFCSubscribe", 0.0),
            ("_result", 7.0),
            ("_result", 8.0),
            ("_error", 9.0),
            ("_error", 10.0),
        ]
    );
    assert_eq!(replies[3].1[2], Value::Number(1.0), "the message stream is 1");
}

#[test]
fn a_publisher_may_end_its_stream_and_begin_another() {
    for farewell in ["FCUnpublish", "deleteStream", "closeStream"] {
        let mut peer = Peer::publishing();
        peer.call(farewell, 0.0, &[Value::Null, Value::string("cam1")]);
        assert!(peer.codes().contains(&"NetStream.Unpublish.Success".to_owned()));
        peer.call("deleteStream", 0.0, &[Value::Null, Value::Number(1.0)]);
        // Sound that was on its way belongs to nobody.
        peer.send(kind::AUDIO, 20, b"\xaf\x01late");
        peer.call("publish", 6.0, &[Value::Null, Value::string("cam2")]);
        assert!(matches!(&peer.end.events[..], [Event::Unpublish, Event::Publish { name, .. }]
            if name.as_str() == "live/cam2"));
    }
}

#[test]
fn a_connection_carries_one_stream_at_a_time() {
    let mut peer = Peer::publishing();
    peer.call("publish", 6.0, &[Value::Null, Value::string("cam2")]);
    assert_eq!(peer.codes(), ["NetStream.Publish.BadName"]);
    assert_eq!(peer.end.error.unwrap().kind, ErrorKind::Refused);
    let mut peer = Peer::publishing();
    peer.call("play", 6.0, &[Value::Null, Value::string("cam2")]);
    assert_eq!(peer.codes(), ["NetStream.Play.Failed"]);
    assert!(peer.end.events.is_empty());
}

#[test]
fn not_one_frame_of_a_refused_publisher_comes_through() {
    let mut peer = Peer::connected();
    // All in one buffer, so that the frames are there before the answer.
    let mut out = BytesMut::new();
    let publish = command("publish", 5.0, &[Value::Null, Value::string("cam1")]);
    write_message(route::STREAM_COMMAND, 0, [&publish, &[]], 128, &mut out);
    write_message(route::AUDIO, 0, [&[0xaf, 0], ASC], 128, &mut out);
    write_message(route::AUDIO, 0, [&[0xaf, 1], b"sound"], 128, &mut out);
    peer.tell(Input::Received(&out));
    assert!(matches!(peer.end.events.pop(), Some(Event::Publish { .. })));
    peer.tell(Input::Answer(Answer::Refused(Refusal::AlreadyLive)));
    let replies = peer.replies();
    let info = replies[0].1.last().unwrap();
    assert_eq!(info.get("code"), Some(&Value::string("NetStream.Publish.BadName")));
    assert_eq!(info.get("description"), Some(&Value::string("publisher already live")));
    assert!(peer.end.closed);
    // Even from a driver that goes on after the close.
    peer.end.closed = false;
    peer.send(kind::AUDIO, 20, b"\xaf\x01more");
    assert!(peer.end.events.is_empty(), "{:?}", peer.end.events);
}

#[test]
fn what_comes_with_the_wish_is_read_after_its_answer() {
    let mut peer = Peer::connected();
    let mut out = BytesMut::new();
    let publish = command("publish", 5.0, &[Value::Null, Value::string("cam1")]);
    write_message(route::STREAM_COMMAND, 0, [&publish, &[]], 128, &mut out);
    write_message(route::AUDIO, 0, [&[0xaf, 0], ASC], 128, &mut out);
    write_message(route::AUDIO, 20, [&[0xaf, 1], b"sound"], 128, &mut out);
    let (first, second) = out.split_at(out.len() - 5);
    peer.tell(Input::Received(first));
    peer.tell(Input::Received(second));
    assert!(matches!(peer.end.events.pop(), Some(Event::Publish { .. })));
    peer.tell(Input::Answer(Answer::Publishing));
    assert_eq!(peer.end.frames().len(), 2);
    assert_eq!(peer.end.session.received(), peer.end.session.link.position());
}

#[test]
fn every_refusal_of_a_viewer_has_its_status() {
    for (refusal, code) in [
        (Refusal::NotFound, "NetStream.Play.StreamNotFound"),
        (Refusal::Forbidden, "NetStream.Play.Failed"),
        (Refusal::Full, "NetStream.Play.Failed"),
        (Refusal::ShuttingDown, "NetStream.Play.Failed"),
    ] {
        let mut peer = Peer::connected();
        peer.call("play", 5.0, &[Value::Null, Value::string("cam1")]);
        peer.tell(Input::Answer(Answer::Refused(refusal)));
        assert_eq!(peer.codes(), [code]);
        assert!(peer.end.closed && peer.end.error.is_none());
    }
}

#[test]
fn a_viewer_may_pause_seek_and_stop() {
    let mut peer = Peer::playing();
    peer.call("pause", 6.0, &[Value::Null, Value::Boolean(true), Value::Number(0.0)]);
    peer.call("pause", 7.0, &[Value::Null, Value::Boolean(false), Value::Number(0.0)]);
    peer.call("seek", 8.0, &[Value::Null, Value::Number(0.0)]);
    peer.call("receiveAudio", 0.0, &[Value::Null, Value::Boolean(false)]);
    peer.call("receiveVideo", 0.0, &[Value::Null, Value::Boolean(true)]);
    peer.call("closeStream", 0.0, &[Value::Null]);
    let expected = [
        "NetStream.Pause.Notify",
        "NetStream.Unpause.Notify",
        "NetStream.Seek.Failed",
        "NetStream.Seek.Notify",
        "NetStream.Play.Start",
        "NetStream.Play.Stop",
    ];
    assert_eq!(peer.codes(), expected);
    assert!(matches!(peer.end.events[..], [Event::Pause(true), Event::Pause(false), Event::Stop]));
}

#[test]
fn a_viewer_may_go_to_another_stream() {
    let mut peer = Peer::playing();
    peer.call("play", 6.0, &[Value::Null, Value::string("cam2")]);
    let goes_to = |events: &[Event], to: &str| matches!(events, [Event::Stop, Event::Play { name, .. }] if name.stream() == to);
    assert!(goes_to(&peer.end.events, "cam2"));
    peer.tell(Input::Answer(Answer::Playing));
    peer.end.events.clear();
    peer.codes();
    peer.call("play2", 7.0, &[Value::Null, Value::object([("streamName", Value::string("cam3"))])]);
    assert!(goes_to(&peer.end.events, "cam3"));
    peer.tell(Input::Answer(Answer::Playing));
    assert_eq!(peer.codes(), ["NetStream.Play.Transition", "NetStream.Play.Reset", "NetStream.Play.Start"]);
}

#[test]
fn the_end_of_a_stream_and_of_the_node_is_said() {
    let mut peer = Peer::playing();
    peer.messages.clear();
    peer.tell(Input::Ended);
    let control = peer.messages.iter().find(|message| message.kind == kind::USER_CONTROL).unwrap();
    assert_eq!(UserEvent::parse(&control.payload), Ok(UserEvent::StreamEof(1)));
    assert_eq!(peer.codes(), ["NetStream.Play.UnpublishNotify"]);
    assert!(peer.end.closed);

    let mut peer = Peer::playing();
    peer.tell(Input::Shutdown);
    assert_eq!(peer.codes(), ["NetStream.Play.UnpublishNotify", "NetConnection.Connect.AppShutdown"]);
    let mut peer = Peer::connected();
    peer.call("play", 5.0, &[Value::Null, Value::string("cam1")]);
    peer.tell(Input::Shutdown);
    assert_eq!(peer.codes(), ["NetStream.Play.Failed", "NetConnection.Connect.AppShutdown"]);
    assert!(peer.end.closed);
}

#[test]
fn commands_may_come_in_amf3() {
    let mut peer = Peer::shaken();
    let connect = b"\x00\x02\x00\x07connect\x00\x3f\xf0\0\0\0\0\0\0\x11\x0a\x0b\x01\x07app\x06\x09live\x01";
    peer.send(kind::COMMAND_AMF3, 0, connect);
    assert_eq!(peer.codes(), ["NetConnection.Connect.Success"]);
    let publish = [&[0][..], &command("publish", 2.0, &[Value::Null, Value::string("cam1")])].concat();
    peer.send(kind::COMMAND_AMF3, 0, &publish);
    assert!(matches!(peer.end.events.pop(), Some(Event::Publish { .. })));
    peer.tell(Input::Answer(Answer::Publishing));
    let data = b"\x00\x02\x00\x0aonMetaData\x11\x0a\x0b\x01\x0bwidth\x04\x05\x01";
    peer.send(kind::DATA_AMF3, 0, data);
    let frames = peer.end.frames();
    let Payload::Metadata(values) = &frames[0].payload else { panic!("{frames:?}") };
    let metadata = amf0::Decoder::new(values).value().unwrap();
    assert_eq!(metadata, Value::object([("width", Value::Number(5.0))]));
}

#[test]
fn an_aggregate_is_the_messages_in_it() {
    let mut peer = Peer::publishing();
    let mut aggregate = Vec::new();
    for (time, body) in [(700u32, b"\xaf\x01one" as &[u8]), (720, b"\xaf\x01two")] {
        aggregate.extend([8, 0, 0, body.len() as u8]);
        aggregate.extend(&time.to_be_bytes()[1..]);
        aggregate.extend([0, 0, 0, 0]);
        aggregate.extend(body);
        aggregate.extend((body.len() as u32 + 11).to_be_bytes());
    }
    peer.send(kind::AGGREGATE, 5000, &aggregate);
    let frames = peer.end.frames();
    assert_eq!(frames.iter().map(|frame| frame.dts.as_millis()).collect::<Vec<_>>(), [5000, 5020]);
    assert!(matches!(&frames[1].payload, Payload::Audio { data, .. } if data == "two"));
}

#[test]
fn metadata_without_a_time_does_not_move_the_clock() {
    let mut peer = Peer::publishing();
    peer.send(kind::AUDIO, 0x7000_0000, b"\xaf\x01a");
    peer.send(kind::AUDIO, 0xe000_0000, b"\xaf\x01b");
    peer.send(kind::DATA_AMF0, 0, b"\x02\x00\x0aonMetaData\x05");
    peer.send(kind::AUDIO, 0x6fff_ffff, b"\xaf\x01c");
    let times: Vec<_> = peer.end.frames().iter().map(|frame| frame.dts.as_millis()).collect();
    // Had the metadata been believed, the last step would be counted from 2^32 and go forward.
    assert_eq!(times, [0x7000_0000, 0xe000_0000, 0x1_0000_0000, 0x6fff_ffff]);
}

#[test]
fn windows_are_acknowledged_and_bandwidth_and_pings_are_answered() {
    let mut peer = Peer::publishing();
    peer.send(kind::WINDOW_ACKNOWLEDGEMENT_SIZE, 0, &1000u32.to_be_bytes());
    peer.controls();
    for _ in 0..5 {
        peer.send(kind::AUDIO, 0, &[&[0xaf, 1][..], &[0; 400]].concat());
    }
    let controls = peer.controls();
    assert!(!controls.is_empty() && controls.len() < 5);
    assert!(controls.iter().all(|message| message.kind == kind::ACKNOWLEDGEMENT));
    let told: Vec<_> = controls.iter().map(|message| message.u32("bytes").unwrap()).collect();
    assert!(told.windows(2).all(|pair| pair[1] - pair[0] >= 1000), "{told:?}");
    assert!(told.iter().all(|bytes| u64::from(*bytes) <= peer.end.session.received()));

    for _ in 0..2 {
        peer.send(kind::SET_PEER_BANDWIDTH, 0, &[0, 0, 4, 0, 1]);
    }
    let controls = peer.controls();
    assert_eq!(controls.len(), 1, "said once: {controls:?}");
    assert_eq!((controls[0].kind, controls[0].u32("")), (kind::WINDOW_ACKNOWLEDGEMENT_SIZE, Ok(1024)));

    peer.send(kind::WINDOW_ACKNOWLEDGEMENT_SIZE, 0, &[0; 4]);
    peer.send(kind::USER_CONTROL, 0, b"\x00\x06\x00\x00\x12\x34");
    peer.send(kind::USER_CONTROL, 0, b"\x00\x03\x00\x00\x00\x01\x00\x00\x0b\xb8");
    peer.send(kind::ACKNOWLEDGEMENT, 0, &[0, 0, 1, 0]);
    let controls = peer.controls();
    assert_eq!(controls.len(), 1, "{controls:?}");
    assert_eq!(UserEvent::parse(&controls[0].payload), Ok(UserEvent::PingResponse(0x1234)));
}

#[test]
fn a_peer_that_says_nothing_in_time_is_closed() {
    let second = 1_000_000_000;
    let mut silent = End::new(Session::new(&DoorLimits::default(), Now(0)));
    assert_eq!(silent.session.deadline(), Some(Now(10 * second)));
    silent.handle(Input::Timeout, Now(9 * second));
    assert!(!silent.closed);
    silent.handle(Input::Timeout, Now(10 * second));
    assert_eq!(silent.error.unwrap().kind, ErrorKind::TimedOut);
    assert_eq!(silent.session.deadline(), None);

    // Shaking hands and connecting buys no time.
    let mut peer = Peer::connected();
    peer.now = Now(10 * second);
    peer.tell(Input::Timeout);
    assert_eq!(peer.end.error.unwrap().kind, ErrorKind::TimedOut);

    // Waiting for the hub does.
    let mut peer = Peer::connected();
    peer.call("play", 5.0, &[Value::Null, Value::string("cam1")]);
    assert_eq!(peer.end.session.deadline(), None);
}

#[test]
fn a_peer_is_pinged_and_closed_when_it_does_not_answer() {
    let second = 1_000_000_000;
    let mut peer = Peer::playing();
    peer.controls();
    assert_eq!(peer.end.session.deadline(), Some(Now(30 * second)));
    peer.now = Now(30 * second);
    peer.tell(Input::Timeout);
    let controls = peer.controls();
    assert_eq!(UserEvent::parse(&controls[0].payload), Ok(UserEvent::PingRequest(30_000)));
    peer.now = Now(31 * second);
    peer.send(kind::USER_CONTROL, 0, b"\x00\x07\x00\x00\x75\x30");
    for seconds in [60, 90] {
        peer.now = Now(seconds * second);
        assert_eq!(peer.end.session.deadline(), Some(peer.now));
        peer.tell(Input::Timeout);
        assert!(!peer.end.closed);
    }
    peer.now = peer.end.session.deadline().unwrap();
    assert_eq!(peer.now, Now(91 * second));
    peer.tell(Input::Timeout);
    let error = peer.end.error.unwrap();
    assert_eq!((error.kind, error.at), (ErrorKind::TimedOut, peer.end.session.received()));
}
