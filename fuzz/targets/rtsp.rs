//! A server of RTSP that our pushing client talks to. The first byte says what the hub does, the second in what pieces the bytes
//! come: whole or in pieces, the client tells its hub the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardcast_engine::{
    error::{Error, ErrorKind},
    limits::DoorLimits,
    media::StreamName,
    protocol::fuzz::{self, Plan},
    rtsp::{
        Client,
        client::{Credentials, Target},
    },
    session::Session,
    time::Now,
};

fuzz_target!(|input: &[u8]| {
    let [hub, piece, bytes @ ..] = input else { return };
    let whole = Plan { lends: false, ..Plan::of([0, *hub, 0]) };
    let cut = Plan { piece: usize::from(*piece).max(1), ..whole };
    let (mut one, mut other) = (open(), open());
    let first = fuzz::converse(&mut one, bytes, &whole);
    if first.end.is_none() {
        assert_eq!(one.received(), bytes.len() as u64, "a session counts what it was given");
    }
    let second = fuzz::converse(&mut other, bytes, &cut);
    // What waits to be sent is bounded, and who takes it more often has less of it waiting.
    let too_large = |end: &Option<Result<(), Error>>| matches!(end, Some(Err(Error { kind: ErrorKind::TooLarge, why, .. })) if why.contains("answers"));
    if !too_large(&first.end) {
        assert_eq!(first, second);
    }
});

fn open() -> Client {
    let credentials = Some(Credentials { user: "ann".into(), password: "secret".into() });
    let target = Target { url: "rtsp://host/live/cam?token=x".into(), credentials };
    let name = StreamName::new("live", "cam").expect("a legal name");
    Client::push(target, name, &DoorLimits::default(), Now(1_000_000_000))
}
