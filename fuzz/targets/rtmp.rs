//! An RTMP peer, from its first byte or from behind its handshake, against our server and our client. The first byte
//! says which of these, the second what the hub does, the third in what pieces the bytes come: whole or in pieces, or received
//! into its own memory, a session tells its hub the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardcast_engine::{
    error::{Error, ErrorKind},
    limits::DoorLimits,
    media::StreamName,
    protocol::fuzz::{self, Last, Plan},
    rtmp::{Client, Session, client::Target},
    session::{self, Input, Output},
    time::Now,
};

fuzz_target!(|input: &[u8]| {
    let [mode, hub, piece, bytes @ ..] = input else { return };
    let whole = Plan { lends: false, ..Plan::of([0, *hub, 0]) };
    let cut = Plan { piece: usize::from(*piece), ..whole };
    let (mut one, mut other) = (open(*mode), open(*mode));
    let before = one.received();
    let first = fuzz::converse(&mut *one, bytes, &whole);
    if first.end.is_none() {
        assert_eq!(one.received() - before, bytes.len() as u64, "a session counts what it was given");
    }
    let second = fuzz::converse(&mut *other, bytes, &cut);
    // What waits to be sent is bounded, and who takes it more often has less of it waiting.
    let too_large = |end: &Option<Result<(), Error>>| matches!(end, Some(Err(Error { kind: ErrorKind::TooLarge, why, .. })) if why.contains("answers"));
    if !too_large(&first.end) {
        assert_eq!(first, second);
        same_when_lent(*mode, bytes, &cut);
    }
});

/// What is received into memory of the session is told in the same order, and not more of it: a message that is pushed into the
/// midst of another waits for as many bytes as the other has.
fn same_when_lent(mode: u8, bytes: &[u8], plan: &Plan) {
    let plan = Plan { last: Last::Silence, ..*plan };
    let copied = fuzz::converse(&mut *open(mode), bytes, &plan);
    let lent = fuzz::converse(&mut *open(mode), bytes, &Plan { lends: true, ..plan });
    assert!(copied.events.starts_with(&lent.events), "{copied:?}\n{lent:?}");
    assert!(lent.end.is_none() || lent == copied, "{copied:?}\n{lent:?}");
}

/// Bytes of C1, C2, S1 and S2.
const PACKET_BYTES: usize = 1536;

fn open(mode: u8) -> Box<dyn session::Session> {
    let limits = DoorLimits::default();
    let now = Now(1_000_000_000);
    let target =
        || Target { tc_url: "rtmp://host/live".into(), app: "live".into(), stream: "cam?token=x".into() };
    let name = || StreamName::new("live", "cam").expect("a legal name");
    let mut session: Box<dyn session::Session> = match mode % 6 {
        0 | 1 => Box::new(Session::new(&limits, now)),
        2 | 3 => Box::new(Client::pull(target(), name(), &limits, now)),
        _ => Box::new(Client::push(target(), name(), &limits, now)),
    };
    if mode % 2 == 1 {
        shake_hands(&mut *session, now);
    }
    session
}

/// Plays the peer's half of a simple handshake.
fn shake_hands(session: &mut dyn session::Session, now: Now) {
    let mut bytes = vec![3];
    bytes.resize(1 + 2 * PACKET_BYTES, 0);
    // A client's first words are C0 and C1, and S2 gives C1 back.
    while let Some(output) = session.poll() {
        if let Output::Send(sent) = output
            && let (Some(packet), Some(echo)) =
                (sent.get(1..1 + PACKET_BYTES), bytes.get_mut(1 + PACKET_BYTES..))
        {
            echo.copy_from_slice(packet);
        }
    }
    session.handle(Input::Received(&bytes), now).expect("a legal handshake");
    while session.poll().is_some() {}
}
