//! What a browser, a player or a stranger sends to the HTTP door: a request's head and its path, the frames of a
//! WebSocket, and a whole conversation. The first byte says which.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use shardcast_engine::{
    http::{
        self, request, route,
        websocket::{self, Frames, Heard},
    },
    limits::{self, DoorLimits},
    session::{
        Answer, Event, Input, Output, Refusal, Session,
        signal::{Fault, Key, Reply, Request},
    },
    time::Now,
};

fuzz_target!(|input: &[u8]| {
    match input.split_first() {
        Some((0, bytes)) => head(bytes),
        Some((1, bytes)) => frames(bytes),
        Some((2, bytes)) => {
            if let Ok(text) = std::str::from_utf8(bytes) {
                let _ = route::route(text);
                websocket::accept(text);
            }
        }
        Some((3, bytes)) => conversation(bytes),
        _ => {}
    }
});

/// A peer whose bytes come in pieces, across from a hub that knows every stream but those of the app `none`. The first
/// byte is the size of the pieces.
fn conversation(bytes: &[u8]) {
    let Some((&cut, bytes)) = bytes.split_first() else { return };
    let mut session = http::Session::new(&DoorLimits::default(), Now(0));
    for piece in bytes.chunks(usize::from(cut) + 1) {
        if !tell(&mut session, Input::Received(piece)) {
            return;
        }
    }
    assert_eq!(session.received(), bytes.len() as u64);
    tell(&mut session, Input::KeyframeWanted);
    assert!(!tell(&mut session, Input::Shutdown), "a session that is told to go goes");
}

/// Gives one input and answers the wishes that follow. False when the connection is over.
fn tell(session: &mut http::Session, input: Input<'_>) -> bool {
    let mut going = session.handle(input, Now(1)).is_ok();
    let (mut wish, mut asked, mut bytes) = (None, None, 0);
    while let Some(output) = session.poll() {
        match output {
            Output::Send(sent) | Output::Share(sent) => bytes += sent.len(),
            Output::Event(Event::Play { name, .. }) => wish = Some(name),
            Output::Event(Event::Signal(signal)) => asked = Some(signal),
            Output::Event(_) | Output::Ports(_) | Output::Packets(_) | Output::Datagrams { .. } => {}
            Output::Datagram { .. } | Output::Address(_) => unreachable!("it is a connection"),
            Output::Close => going = false,
        }
    }
    assert!(bytes < 2 * limits::OUTBOX_BYTES_MAX, "what waits to be sent is bounded");
    if let Some(signal) = asked {
        let reply = match signal.request {
            _ if signal.name.app() == "none" => Reply::refused(Fault::NotFound, "no such stream"),
            Request::Offer { sdp, .. } => {
                assert!((1..=limits::HTTP_BODY_BYTES_MAX).contains(&sdp.len()));
                Reply::Accepted { key: Key { core: 0, number: 1, secret: 2 }, tag: "t".into(), sdp }
            }
            Request::Trickle { tag, fragment, .. } => {
                Reply::Trickled { tag: "t".into(), fragment: tag.map(|_| fragment) }
            }
            Request::End { .. } => Reply::Ended,
        };
        return going && tell(session, Input::Signalled(Box::new(reply)));
    }
    match wish {
        Some(name) if going && name.app() == "none" => {
            tell(session, Input::Answer(Answer::Refused(Refusal::NotFound)))
        }
        Some(_) if going => tell(session, Input::Answer(Answer::Playing)),
        _ => going,
    }
}

fn head(bytes: &[u8]) {
    if let Ok(Some((request, length))) = request::parse(bytes) {
        assert!(length <= bytes.len());
        let _ = route::route(&request.path);
        if let Some(key) = request.upgrade.and_then(|upgrade| upgrade.key) {
            websocket::accept(&key);
        }
        // The head alone says the same: what follows it is not looked at.
        let alone = request::parse(bytes.get(..length).expect("checked above"));
        assert!(matches!(alone, Ok(Some((_, same))) if same == length));
    }
}

/// Frames that come all at once say what they say a byte at a time.
fn frames(bytes: &[u8]) {
    let mut whole = BytesMut::from(bytes);
    let (mut one, mut other) = (Frames::default(), Frames::default());
    let (mut heard_whole, mut heard_bytes) = (Vec::new(), Vec::new());
    let end_whole = drain(&mut one, &mut whole, &mut heard_whole);
    let mut trickle = BytesMut::new();
    let mut end_bytes = None;
    for byte in bytes {
        trickle.extend_from_slice(&[*byte]);
        end_bytes = drain(&mut other, &mut trickle, &mut heard_bytes);
        if end_bytes.is_some() {
            break;
        }
    }
    assert_eq!((heard_whole, end_whole), (heard_bytes, end_bytes));
}

fn drain(frames: &mut Frames, unread: &mut BytesMut, heard: &mut Vec<Heard>) -> Option<websocket::Violation> {
    loop {
        match frames.next(unread) {
            Ok(Some(said)) => heard.push(said),
            Ok(None) => return None,
            Err(violation) => return Some(violation),
        }
    }
}
