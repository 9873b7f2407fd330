//! What a publisher, a player or another server sends over RTMP. The first byte says which half hears it, whether the
//! handshake is done, and how the bytes are cut.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use shardcast_engine::{
    error::Error,
    flv::amf0,
    limits::DoorLimits,
    media::StreamName,
    rtmp::{
        self, amf3,
        client::{Client, Target},
        handshake::{self, ClientKind},
    },
    session::{Answer, Event, Input, Output, Session},
    time::Now,
};

fuzz_target!(|input: &[u8]| {
    let Some((first, bytes)) = input.split_first() else { return };
    let piece = usize::from(first >> 3) + 1;
    match first & 7 {
        0 => server(bytes, false, piece),
        1..=3 => server(bytes, true, piece),
        4..=6 => client(bytes, first & 1 == 1),
        _ => amf(bytes),
    }
});

/// The same comes out, however the bytes are cut.
fn server(bytes: &[u8], shaken: bool, piece: usize) {
    let open = || {
        let mut session = rtmp::Session::new(&DoorLimits::default(), Now(0));
        if shaken {
            let mut hello = BytesMut::new();
            handshake::Client::new(ClientKind::Simple, 1, &mut hello);
            hello.extend_from_slice(&[0; 1536]);
            session.handle(Input::Received(&hello), Now(0)).expect("a handshake is legal");
        }
        session
    };
    let whole = feed(open(), bytes, bytes.len());
    let cut = feed(open(), bytes, piece);
    // How much a peer may ask for at once depends on the cut.
    if !whole.1.is_some_and(|error| error.why.contains("answers")) {
        assert_eq!(whole, cut);
    }
}

fn client(bytes: &[u8], push: bool) {
    let target = Target { tc_url: "rtmp://h/live".into(), app: "live".into(), stream: "cam1".into() };
    let name = StreamName::parse("live/cam1").expect("a legal name");
    let limits = DoorLimits::default();
    let mut client = if push {
        Client::push(target, name, &limits, Now(0))
    } else {
        Client::pull(target, name, &limits, Now(0))
    };
    let mut answer = vec![3];
    answer.resize(1 + 2 * 1536, 0);
    client.handle(Input::Received(&answer), Now(0)).expect("a handshake is legal");
    feed(client, bytes, 1000);
}

/// Feeds a session whose hub grants everything. What it told the hub, and how it ended.
fn feed(mut session: impl Session, bytes: &[u8], piece: usize) -> (Vec<String>, Option<Error>) {
    let mut events = Vec::new();
    for part in bytes.chunks(piece.max(1)) {
        let mut input = Input::Received(part);
        loop {
            let result = session.handle(input, Now(1));
            let mut answer = None;
            let mut closed = false;
            while let Some(output) = session.poll() {
                match output {
                    Output::Event(event) => {
                        match &event {
                            Event::Publish { .. } => answer = Some(Answer::Publishing),
                            Event::Play { .. } => answer = Some(Answer::Playing),
                            _ => {}
                        }
                        events.push(format!("{event:?}"));
                    }
                    Output::Close => closed = true,
                    Output::Send(_) => {}
                }
            }
            if result.is_err() || closed {
                return (events, result.err());
            }
            match answer {
                Some(answer) => input = Input::Answer(answer),
                None => break,
            }
        }
    }
    (events, None)
}

/// What AMF0 writes it reads; AMF3 stays within its bounds.
fn amf(bytes: &[u8]) {
    let values = amf0::Decoder::new(bytes).values();
    if let Ok(values) = &values {
        let mut out = BytesMut::new();
        values.iter().for_each(|value| value.encode(&mut out));
        let again = amf0::Decoder::new(&out).values();
        // NaN is not itself.
        assert_eq!(format!("{values:?}"), format!("{:?}", again.expect("our own writing")));
    }
    let _ = amf3::message_values(bytes);
    let _ = amf3::message_values(&[b"\x11", bytes].concat());
}
