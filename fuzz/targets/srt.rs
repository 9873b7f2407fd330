//! Datagrams to the SRT door, from strangers and from a caller that has been let in, some milliseconds apart; and the text of a
//! target. The first byte says which.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use shardcast_engine::{
    datagram::Greeting,
    limits::{self, DoorLimits},
    session::{Answer, Event, Input, Output, Session as _, Shelf},
    srt::{Session, Target, greet},
    time::Now,
};

/// Frames that one input may bring about.
const FRAMES_MAX: usize = 100_000;

fuzz_target!(|input: &[u8]| {
    let Some((how, rest)) = input.split_first() else { return };
    match how & 3 {
        0 => stranger(rest),
        1 => caller(true, rest),
        2 => caller(false, rest),
        _ => target(rest),
    }
});

/// Nobody is answered at greater length than he spoke, and nobody comes in without a cookie.
fn stranger(datagram: &[u8]) {
    let from = ([192, 0, 2, 1], 5000).into();
    match greet(datagram, from, &DoorLimits::default(), Now(1)) {
        Greeting::Answer(answer) => assert!(answer.len() <= datagram.len()),
        Greeting::Begin => assert!(datagram.len() >= 64, "a whole handshake"),
        Greeting::Known | Greeting::Ignore => {}
        Greeting::For(_) => unreachable!("a caller is known by its address"),
    }
}

fn target(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    match Target::parse(text) {
        Ok(target) => assert!(!target.to_string().contains('?'), "what may be secret is not shown"),
        Err(error) => assert!(error.at <= text.len() as u64),
    }
}

/// The second word of a handshake: a publisher's or a viewer's.
fn conclusion(publish: bool) -> Vec<u8> {
    let mut word = vec![0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut number = |value: u32| word.extend(value.to_be_bytes());
    // Version, extensions, first number, size, window, round, socket, cookie, address.
    [5, 5, 100, 1500, 8192, u32::MAX, 7, 1, 0, 0, 0, 0].into_iter().for_each(&mut number);
    // What the two can do, and how long they hold packets back.
    [0x0001_0003, 0x0001_0500, 0x3f, 120 << 16 | 120].into_iter().for_each(&mut number);
    let id = if publish { &b"publish:live/cam"[..] } else { b"read:live/cam\0\0\0" };
    number(0x0005_0004);
    for letters in id.chunks(4) {
        word.extend(letters.iter().rev());
    }
    word
}

/// Each datagram stands behind its length (two bytes) and the milliseconds before it (one). Most are for the right socket.
fn caller(publish: bool, mut rest: &[u8]) {
    let mut now = Now(1_000_000);
    let mut session = Session::new(&DoorLimits::default(), now);
    session.handle(Input::Received(&conclusion(publish)), now).expect("it is legal");
    let asked = matches!(session.poll(), Some(Output::Event(Event::Publish { .. } | Event::Play { .. })));
    assert!(asked && session.poll().is_none());
    let granted = if publish { Answer::Publishing } else { Answer::Playing };
    session.handle(Input::Answer(granted), now).expect("nothing is wrong");
    let Some(Output::Send(answer)) = session.poll() else { panic!("it is answered") };
    let socket: [u8; 4] = answer[40..44].try_into().expect("four bytes");
    let stream = Bytes::from(vec![0x47; 60_000]);
    let mut frames = 0;
    while let [high, low, wait, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high & 7, *low])).min(after.len());
        let (datagram, others) = after.split_at(length);
        rest = others;
        now = Now(now.0 + u64::from(*wait) * 1_000_000);
        let mut datagram = datagram.to_vec();
        if let (Some(to), false) = (datagram.get_mut(12..16), high & 0x80 != 0) {
            to.copy_from_slice(&socket);
        }
        let late = session.deadline().is_some_and(|due| due <= now);
        let mut result = if late { session.handle(Input::Timeout, now) } else { Ok(()) };
        if result.is_ok() {
            result = session.handle(Input::Received(&datagram), now);
        }
        if result.is_ok() && session.room(now) > 0 {
            let taken = session.carry(&stream, &mut Shelf::default(), now);
            assert!((1..=stream.len()).contains(&taken));
        }
        let mut waiting = 0;
        while let Some(output) = session.poll() {
            match output {
                Output::Send(bytes) | Output::Share(bytes) => waiting += bytes.len(),
                Output::Datagrams { bytes, size } => {
                    assert!(size > 0);
                    waiting += bytes.len();
                }
                Output::Event(_) => frames += 1,
                Output::Packets(_) | Output::Ports(_) | Output::Datagram { .. } | Output::Address(_) => panic!("they are for those who have a connection beside"),
                Output::Close => return,
            }
        }
        assert!(waiting <= limits::OUTBOX_BYTES_MAX && frames <= FRAMES_MAX);
        let path = session.path().expect("it stands");
        assert!(path.receive_buffer_packets <= limits::SRT_WINDOW_PACKETS as u64);
        assert!(path.send_buffer_packets <= limits::SRT_WINDOW_PACKETS as u64);
        if result.is_err() {
            return;
        }
    }
}
