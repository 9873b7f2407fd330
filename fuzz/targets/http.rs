//! What a browser, a player or a stranger sends to the HTTP door: a request's head and its path, and the frames of a
//! WebSocket. The first byte says which.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use shardcast_engine::http::{
    request, route,
    websocket::{self, Frames, Heard},
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
        _ => {}
    }
});

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
