//! What is sent to an intake: datagrams, each behind its length in two bytes, some milliseconds apart; and the text of its address.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardcast_engine::{
    limits::DoorLimits,
    media::StreamName,
    relay::Target,
    rtp::{Order, Packet},
    session::{Answer, Event, Input, Output, Session as _},
    time::Now,
    udp::{Intake, Session},
};

fuzz_target!(|input: &[u8]| {
    if let Ok(text) = std::str::from_utf8(input) {
        // What is read is written as it was meant.
        let _ = Intake::parse(text);
        if let Ok(target) = Target::parse(text) {
            let _ = target.for_stream(&StreamName::parse("live/cam").expect("a legal name")).to_string();
        }
    }
    let intake = Intake::parse("udp://127.0.0.1:5000").expect("a legal address");
    let name = StreamName::parse("live/cam").expect("a legal name");
    let mut now = Now(0);
    let mut session = Session::new(name, &intake, &DoorLimits::default(), now);
    let mut order = Order::default();
    let mut rest = input;
    while let [high, low, later, more @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(more.len());
        let (datagram, more) = more.split_at(length);
        rest = more;
        now = Now(now.0 + u64::from(*later) * 1_000_000);
        if session.deadline().is_some_and(|due| due <= now) && session.handle(Input::Timeout, now).is_err() {
            return;
        }
        session.handle(Input::Received(datagram), now).expect("no datagram is a fault of its peer");
        drain(&mut session, now);
        if let Ok(packet) = Packet::parse(datagram) {
            assert!(packet.payload.len() + 12 <= datagram.len());
            let mut given = 0;
            order.push(packet.sequence, packet.payload, now, &mut |_| given += 1);
            assert!(given <= 1 + shardcast_engine::rtp::order::HELD_MAX);
        }
    }
    session.handle(Input::Shutdown, now).expect("it ends");
    drain(&mut session, now);
});

fn drain(session: &mut Session, now: Now) {
    while let Some(output) = session.poll() {
        if matches!(output, Output::Event(Event::Publish { .. })) {
            session.handle(Input::Answer(Answer::Publishing), now).expect("it may");
        }
    }
}
