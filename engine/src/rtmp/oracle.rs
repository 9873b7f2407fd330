//! For tests: `rml_rtmp` judges our chunks, our handshake and both halves of our conversation.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use rml_rtmp::{
    chunk_io::{ChunkDeserializer, ChunkSerializer},
    handshake::{Handshake, HandshakeProcessResult, PeerType},
    messages::MessagePayload,
    sessions::{
        ClientSession, ClientSessionConfig, ClientSessionEvent, ClientSessionResult, PublishRequestType,
        ServerSession, ServerSessionConfig, ServerSessionEvent, ServerSessionResult,
    },
    time::RtmpTimestamp,
};

use super::{
    Client, FORM, Session,
    chunk::{ChunkReader, write_message},
    handshake::{ClientKind, Scheme},
    message::{Control, route},
    pair::{End, name, target},
};
use crate::{
    codec::Codec,
    flv::{
        demux::tests::{ASC, AVCC, frame, parameters},
        mux::Body,
    },
    limits::DoorLimits,
    media::{Frame, Payload, TrackId},
    session::{Answer, Event, Input, Wire},
    time::Now,
};

/// Shakes hands; what the oracle received past its handshake is returned.
fn shake<S: crate::session::Session>(ours: &mut End<S>, peer: PeerType) -> Vec<u8> {
    let mut theirs = Handshake::new(peer);
    let mut to_us = theirs.generate_outbound_p0_and_p1().unwrap();
    let mut to_them = ours.drain();
    loop {
        to_them.extend(ours.handle(Input::Received(&to_us), Now(0)));
        match theirs.process_bytes(&std::mem::take(&mut to_them)).unwrap() {
            HandshakeProcessResult::InProgress { response_bytes } => to_us = response_bytes,
            HandshakeProcessResult::Completed { response_bytes, mut remaining_bytes } => {
                remaining_bytes.extend(ours.handle(Input::Received(&response_bytes), Now(0)));
                return remaining_bytes;
            }
        }
    }
}

fn body(frame: &Frame) -> Bytes {
    Body::of(frame).unwrap().parts().concat().into()
}

fn picture(millis: i64) -> Frame {
    let data = Bytes::from(vec![7; 100_000]);
    frame(TrackId::VIDEO, millis, Payload::Video { codec: Codec::H264, key: true, data })
}

/// Their client and our server.
struct TheirClient {
    theirs: ClientSession,
    ours: End<Session>,
    events: Vec<ClientSessionEvent>,
}

impl TheirClient {
    fn connected() -> Self {
        let mut ours = End::new(Session::new(&DoorLimits::default(), Now(0)));
        let remaining = shake(&mut ours, PeerType::Client);
        let (theirs, results) = ClientSession::new(ClientSessionConfig::new()).unwrap();
        let mut both = TheirClient { theirs, ours, events: Vec::new() };
        both.run(results);
        both.hear(&remaining);
        let request = both.theirs.request_connection("live".into()).unwrap();
        both.run(vec![request]);
        assert!(both.events.contains(&ClientSessionEvent::ConnectionRequestAccepted));
        both
    }

    fn run(&mut self, results: Vec<ClientSessionResult>) {
        for result in results {
            match result {
                ClientSessionResult::OutboundResponse(packet) => {
                    let answer = self.ours.handle(Input::Received(&packet.bytes), Now(1));
                    assert_eq!(self.ours.error, None);
                    self.hear(&answer);
                }
                ClientSessionResult::RaisedEvent(event) => self.events.push(event),
                ClientSessionResult::UnhandleableMessageReceived(_) => {}
            }
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        let results = self.theirs.handle_input(bytes).unwrap();
        self.run(results);
    }

    fn answer(&mut self, answer: Answer) {
        let said = self.ours.handle(Input::Answer(answer), Now(1));
        self.hear(&said);
    }
}

#[test]
fn their_client_publishes_here() {
    let mut both = TheirClient::connected();
    let request = both.theirs.request_publishing("cam1".into(), PublishRequestType::Live).unwrap();
    both.run(vec![request]);
    assert!(matches!(both.ours.events.pop(), Some(Event::Publish { .. })));
    both.answer(Answer::Publishing);
    assert!(both.events.contains(&ClientSessionEvent::PublishRequestAccepted));
    for (millis, frame) in
        [(0, parameters(Codec::H264)), (40, picture(40)), (0x0100_0000, picture(0x0100_0000))]
    {
        let time = RtmpTimestamp::new(millis);
        let result = both.theirs.publish_video_data(body(&frame), time, false).unwrap();
        both.run(vec![result]);
    }
    let frames = both.ours.frames();
    assert_eq!(frames.iter().map(|frame| frame.dts.as_millis()).collect::<Vec<_>>(), [0, 40, 0x0100_0000]);
    assert!(frames[2].is_key() && frames[2].payload_bytes() == 100_000);
}

#[test]
fn their_client_plays_from_here() {
    let mut both = TheirClient::connected();
    let request = both.theirs.request_playback("cam1".into()).unwrap();
    both.run(vec![request]);
    assert!(matches!(both.ours.events.pop(), Some(Event::Play { .. })));
    both.answer(Answer::Playing);
    assert!(both.events.contains(&ClientSessionEvent::PlaybackRequestAccepted));
    let mut wire: Box<dyn Wire> = (FORM.open)();
    let mut out = BytesMut::new();
    let frames = [parameters(Codec::H264), picture(40), picture(80)];
    frames.iter().for_each(|frame| wire.frame(frame, &mut out));
    both.hear(&out);
    let pictures: Vec<_> = both
        .events
        .iter()
        .filter_map(|event| match event {
            ClientSessionEvent::VideoDataReceived { timestamp, data } => {
                Some((timestamp.value, data.clone()))
            }
            _ => None,
        })
        .collect();
    let want: Vec<_> = frames.iter().map(|frame| (frame.dts.as_millis() as u32, body(frame))).collect();
    assert_eq!(pictures, want);
}

/// Their server, which grants everything, and our client. The events it raised, and our end.
fn their_server(client: Client) -> (Vec<ServerSessionEvent>, End<Client>) {
    let mut ours = End::new(client);
    let remaining = shake(&mut ours, PeerType::Server);
    let (mut theirs, mut results) = ServerSession::new(ServerSessionConfig::new()).unwrap();
    results.extend(theirs.handle_input(&remaining).unwrap());
    let mut events = Vec::new();
    while !results.is_empty() {
        let mut next = Vec::new();
        for result in results {
            match result {
                ServerSessionResult::OutboundResponse(packet) => {
                    let mut said = ours.handle(Input::Received(&packet.bytes), Now(1));
                    assert_eq!(ours.error, None);
                    // The hub grants what the client asks it for; a client that pushes then sends the stream.
                    match ours.events.last() {
                        Some(Event::Publish { .. }) => {
                            said.extend(ours.handle(Input::Answer(Answer::Publishing), Now(1)));
                            ours.events.push(Event::Remark("answered"));
                        }
                        Some(Event::Play { .. }) => {
                            said.extend(ours.handle(Input::Answer(Answer::Playing), Now(1)));
                            ours.events.push(Event::Remark("answered"));
                            let mut wire = (FORM.open)();
                            let mut out = BytesMut::new();
                            wire.frame(&picture(40), &mut out);
                            said.extend_from_slice(&out);
                        }
                        _ => {}
                    }
                    next.extend(theirs.handle_input(&said).unwrap());
                }
                ServerSessionResult::RaisedEvent(event) => {
                    match &event {
                        ServerSessionEvent::ConnectionRequested { request_id, .. }
                        | ServerSessionEvent::PublishStreamRequested { request_id, .. } => {
                            next.extend(theirs.accept_request(*request_id).unwrap());
                        }
                        ServerSessionEvent::PlayStreamRequested { request_id, stream_id, .. } => {
                            next.extend(theirs.accept_request(*request_id).unwrap());
                            let video = Bytes::from([&[0x17, 0, 0, 0, 0], AVCC].concat());
                            let audio = Bytes::from([&[0xaf, 0], ASC].concat());
                            let time = RtmpTimestamp::new(0);
                            for packet in [
                                theirs.send_video_data(*stream_id, video, time, false),
                                theirs.send_audio_data(*stream_id, audio, time, false),
                                theirs.send_video_data(*stream_id, body(&picture(0)), time, false),
                            ] {
                                next.push(ServerSessionResult::OutboundResponse(packet.unwrap()));
                            }
                        }
                        _ => {}
                    }
                    events.push(event);
                }
                ServerSessionResult::UnhandleableMessageReceived(_) => {}
            }
        }
        results = next;
    }
    (events, ours)
}

#[test]
fn our_client_publishes_to_their_server_after_any_handshake() {
    for kind in [ClientKind::Simple, ClientKind::Complex(Scheme::First), ClientKind::Complex(Scheme::Second)]
    {
        let limits = DoorLimits::default();
        let client = Client::push(target(), name(), &limits, Now(0)).with_handshake(kind, &limits, Now(0));
        let (events, _) = their_server(client);
        let data = events.iter().find_map(|event| match event {
            ServerSessionEvent::VideoDataReceived { data, timestamp, .. } => {
                Some((timestamp.value, data.clone()))
            }
            _ => None,
        });
        assert_eq!(data, Some((40, body(&picture(40)))), "{kind:?}");
    }
}

#[test]
fn our_client_plays_from_their_server() {
    let (_, ours) = their_server(Client::pull(target(), name(), &DoorLimits::default(), Now(0)));
    let frames = ours.frames();
    assert_eq!(frames.len(), 3, "{:?}", ours.events);
    assert!(frames[2].is_key() && frames[2].payload_bytes() == 100_000);
}

proptest! {
    #[test]
    fn chunks_that_they_write_are_read(
        messages in proptest::collection::vec(
            (8u8..10, 1u32..0x100_0010, proptest::collection::vec(any::<u8>(), 1..700)), 1..20,
        ),
        chunk_size in 1u32..500,
        piece in 1usize..300,
        uncompressed: bool,
    ) {
        let mut writer = ChunkSerializer::new();
        let mut bytes = writer.set_max_chunk_size(chunk_size, RtmpTimestamp::new(0)).unwrap().bytes;
        // No two messages have the same time: after a header of type 0 they take the delta to be 0, where the
        // specification (5.3.1.2.4) takes it to be the time.
        let mut now = 0;
        let messages: Vec<_> = messages
            .into_iter()
            .map(|(kind, step, data)| {
                now += step;
                (kind, now, data)
            })
            .collect();
        for (kind, time, data) in &messages {
            let message = MessagePayload {
                timestamp: RtmpTimestamp::new(*time),
                type_id: *kind,
                message_stream_id: 1,
                data: Bytes::from(data.clone()),
            };
            bytes.extend(writer.serialize(&message, uncompressed, false).unwrap().bytes);
        }
        let mut reader = ChunkReader::default();
        let mut read = Vec::new();
        for mut part in bytes.chunks(piece) {
            while let Some(message) = reader.read(&mut part).unwrap() {
                read.push((message.kind, message.time, message.payload.to_vec()));
            }
        }
        prop_assert_eq!(read, messages);
    }

    #[test]
    fn chunks_that_we_write_are_read_by_them(
        // Above 24 bits they and we differ: they do not expect the extended time in headers of type 3, where the
        // specification wants it and ffmpeg sends it.
        time in 0u32..0xff_ffff,
        head: Vec<u8>,
        data in proptest::collection::vec(any::<u8>(), 1..2000),
        chunk_size in 128u32..500,
    ) {
        let mut out = BytesMut::new();
        Control::SetChunkSize(chunk_size).write(&mut out);
        let control_len = out.len();
        for _ in 0..2 {
            write_message(route::VIDEO, time, [&head, &data], chunk_size, &mut out);
        }
        let mut theirs = ChunkDeserializer::new();
        let (control, media) = out.split_at(control_len);
        prop_assert!(theirs.get_next_message(control).unwrap().is_some());
        theirs.set_max_chunk_size(chunk_size as usize).unwrap();
        let mut rest = media;
        for _ in 0..2 {
            let message = theirs.get_next_message(std::mem::take(&mut rest)).unwrap().unwrap();
            prop_assert_eq!((message.timestamp.value, message.type_id, message.message_stream_id), (time, 9, 1));
            prop_assert_eq!(&message.data[..], [head.clone(), data.clone()].concat());
        }
    }
}
