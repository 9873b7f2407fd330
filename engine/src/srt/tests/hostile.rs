//! Peers that lie: sizes, numbers and ranges that cannot be.

use std::time::Duration;

use proptest::prelude::*;

use super::Chance;
use crate::{
    limits,
    srt::{
        link::{Agreed, Heard, KEY_PACKETS, Link},
        packet::{self, Control, Data, Kind, Packet, Report},
        receive::Receiver,
        send::{PAYLOAD_BYTES, Sender},
        sequence::Sequence,
    },
    time::Now,
};

pub(super) fn link() -> Link {
    let latency = Duration::from_millis(120);
    Link::new(
        Agreed {
            theirs: 1,
            ours: 2,
            first: Sequence::of(100),
            window: 8192,
            latency,
            peer_latency: latency,
            timestamp: 0,
            heard: Now(0),
            keys: None,
            passphrase: None,
            seed: [0; 32],
            key_packets: KEY_PACKETS,
        },
        Now(0),
    )
}

fn told(link: &mut Link, kind: Kind<'_>) -> Heard {
    link.receive(&Packet::Control(Control { kind, timestamp: 0, to: 2 }), Now(1))
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_changes_nothing() {
    let mut link = link();
    link.send(&[0x47; 3 * PAYLOAD_BYTES], Now(0));
    for next in [104, 105, 5000, 100 + (1 << 29)] {
        let kind = Kind::Acknowledge { number: 1, next: Sequence::of(next), report: None };
        assert_eq!(told(&mut link, kind), Heard::Stray, "{next}");
    }
    assert_eq!(link.path().send_buffer_packets, 3);
    // One of the past is late, and nothing else.
    let kind = Kind::Acknowledge { number: 1, next: Sequence::of(90), report: None };
    assert_eq!((told(&mut link, kind), link.path().send_buffer_packets), (Heard::Fine, 3));
    let kind = Kind::Acknowledge { number: 1, next: Sequence::of(103), report: None };
    assert_eq!((told(&mut link, kind), link.path().send_buffer_packets), (Heard::Fine, 0));
}

#[test]
fn a_report_of_no_room_does_not_stop_a_stream_for_good() {
    let mut link = link();
    let report = Report { rtt: u32::MAX, rtt_variance: u32::MAX, room: 0, rates: None };
    let kind = Kind::Acknowledge { number: 1, next: Sequence::of(100), report: Some(report) };
    assert_eq!(told(&mut link, kind), Heard::Fine);
    assert!(link.room(Now(2)) > 0);
}

#[test]
fn what_was_never_sent_cannot_be_missed() {
    let mut link = link();
    link.send(&[0x47; 3 * PAYLOAD_BYTES], Now(0));
    while link.poll().is_some() {}
    let run = |first: u32, last: u32| (Sequence::of(first), Sequence::of(last));
    for bad in [run(103, 103), run(100, 103), run(102, 101), run(100, 100 + (1 << 29)), run(5, 4)] {
        let list = packet::write_missing([bad]);
        assert_eq!(told(&mut link, Kind::Missing(packet::ranges(&list))), Heard::Stray, "{bad:?}");
    }
    assert!(link.poll().is_none(), "nobody makes us send by lying");
    // What is older than anything kept is said to be gone.
    let list = packet::write_missing([run(90, 95)]);
    assert_eq!(told(&mut link, Kind::Missing(packet::ranges(&list))), Heard::Fine);
    let gone = link.poll().unwrap();
    let Ok(Packet::Control(Control { kind: Kind::Drop { first, last, .. }, .. })) = Packet::read(&gone.bytes)
    else {
        panic!("{gone:?}")
    };
    assert_eq!((first.bits(), last.bits()), (90, 95));
}

#[test]
fn a_packet_is_not_sent_again_as_often_as_it_is_asked_for() {
    let mut link = link();
    link.send(&[0x47; 60 * PAYLOAD_BYTES], Now(0));
    while link.poll().is_some() {}
    let list = packet::write_missing([(Sequence::of(100), Sequence::of(159))]);
    for _ in 0..1000 {
        told(&mut link, Kind::Missing(packet::ranges(&list)));
    }
    let sent = std::iter::from_fn(|| link.poll()).count();
    assert!(sent <= 64, "{sent} for 1000 words");
}

#[test]
fn drops_of_ranges_that_cannot_be_cost_nothing() {
    let mut receiver = Receiver::new(Sequence::of(100), 0, Duration::from_millis(120), Now(0));
    let numbers = |receiver: &Receiver| receiver.held();
    for (first, last) in [(200, 100), (100, 100 + (1 << 29)), (5, 90), (100, 100 + 8192)] {
        receiver.give_up(Sequence::of(first), Sequence::of(last));
        assert_eq!(numbers(&receiver), 0, "{first} to {last}");
    }
    receiver.give_up(Sequence::of(90), Sequence::of(104));
    assert_eq!(numbers(&receiver), 5);
    assert!(receiver.acknowledge(true, Now(0)).is_some_and(|word| word.next.bits() == 105));
}

#[test]
fn packets_far_ahead_are_not_kept() {
    let mut receiver = Receiver::new(Sequence::of(100), 0, Duration::from_millis(120), Now(0));
    assert!(receiver.wants(Sequence::of(100)));
    receiver.take(Sequence::of(100), 0, bytes::Bytes::from_static(b"one"), Now(0));
    let far = Sequence::of(100 + limits::SRT_WINDOW_PACKETS as u32);
    assert!(!receiver.wants(far) && receiver.wants(far.minus(1)));
    assert_eq!(receiver.counts().beyond, 1);
}

#[test]
fn a_timestamp_far_ahead_does_not_hold_a_packet_for_long() {
    let mut receiver = Receiver::new(Sequence::of(100), 0, Duration::from_millis(120), Now(0));
    receiver.take(Sequence::of(100), 1 << 30, bytes::Bytes::from_static(b"one"), Now(0));
    assert!(receiver.next(Now(241_000_000)).is_some());
}

#[test]
fn a_viewer_that_acknowledges_nothing_holds_no_more_than_the_window() {
    let mut sender = Sender::new(Sequence::of(1), 1, Duration::from_secs(60), u32::MAX, Now(0));
    for step in 0..20_000_u64 {
        let now = Now(step * 10_000_000);
        let room = sender.room(now);
        if room > 0 {
            sender.send(&vec![0x47; room], 0, None, now);
        }
        assert!(sender.held() <= limits::SRT_WINDOW_PACKETS);
        if step > 5000 {
            break;
        }
    }
    assert_eq!(sender.held(), limits::SRT_WINDOW_PACKETS);
}

#[test]
fn what_a_sender_asks_to_be_woken_for_is_done_then() {
    let mut sender = Sender::new(Sequence::of(1), 1, Duration::from_millis(120), 8192, Now(0));
    sender.send(&[0x47; 3 * PAYLOAD_BYTES], 0, None, Now(0));
    // Nobody acknowledges anything: they are sent again now and then, and in the end given up.
    let mut now = Now(0);
    while let Some(deadline) = sender.deadline(now) {
        assert!(deadline > now, "it would be woken for ever at {now:?}");
        now = deadline;
        sender.tick(now);
        while sender.again(now).is_some() {}
    }
    assert_eq!((now, sender.held(), sender.dropped), (Now(1_000_000_000), 0, 3));
}

/// A step of a peer that says whatever it likes.
#[derive(Clone, Debug)]
enum Step {
    Data(u32, u32),
    Acknowledge(u32, u32),
    Echo(u32),
    Missing(Vec<(u32, u32)>),
    Drop(u32, u32),
    Send(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let near = prop_oneof![Just(0u32), 0u32..300, any::<u32>(), 8000u32..8400];
    prop_oneof![
        (near.clone(), any::<u32>()).prop_map(|(number, time)| Step::Data(number, time)),
        (near.clone(), any::<u32>()).prop_map(|(number, room)| Step::Acknowledge(number, room)),
        (0u32..40).prop_map(Step::Echo),
        proptest::collection::vec((near.clone(), near.clone()), 0..4).prop_map(Step::Missing),
        (near.clone(), near).prop_map(|(first, last)| Step::Drop(first, last)),
        (1usize..20).prop_map(Step::Send),
        (0u64..300).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn whatever_a_peer_says_its_connection_stays_within_its_bounds(steps in proptest::collection::vec(step(), 0..200)) {
        let mut link = link();
        let mut now = Now(0);
        let base = 100_u32;
        for step in steps {
            let kind = match step {
                Step::Data(number, timestamp) => {
                    let sequence = Sequence::of(base.wrapping_add(number));
                    let data = Data { sequence, key: None, again: false, timestamp, to: 2, payload: b"data" };
                    link.receive(&Packet::Data(data), now);
                    None
                }
                Step::Acknowledge(number, room) => {
                    let report = Report { rtt: room, rtt_variance: room, room, rates: None };
                    let next = Sequence::of(base.wrapping_add(number));
                    Some(Kind::Acknowledge { number: 1, next, report: Some(report) })
                }
                Step::Echo(number) => Some(Kind::Acknowledged(number)),
                Step::Missing(runs) => {
                    let runs = runs.into_iter().map(|(first, last)| {
                        (Sequence::of(base.wrapping_add(first)), Sequence::of(base.wrapping_add(last)))
                    });
                    let list = packet::write_missing(runs);
                    told_at(&mut link, Kind::Missing(packet::ranges(&list)), now);
                    None
                }
                Step::Drop(first, last) => Some(Kind::Drop {
                    message: 0,
                    first: Sequence::of(base.wrapping_add(first)),
                    last: Sequence::of(base.wrapping_add(last)),
                }),
                Step::Send(count) => {
                    let room = link.room(now) / PAYLOAD_BYTES;
                    if room > 0 {
                        link.send(&vec![0x47; count.min(room) * PAYLOAD_BYTES], now);
                    }
                    None
                }
                Step::Wait(millis) => {
                    now = Now(now.0 + millis * 1_000_000);
                    link.time_out(now);
                    None
                }
            };
            if let Some(kind) = kind {
                told_at(&mut link, kind, now);
            }
            while link.deliver(now).is_some() {}
            while link.poll().is_some() {}
            let path = link.path();
            prop_assert!(path.receive_buffer_packets <= limits::SRT_WINDOW_PACKETS as u64);
            prop_assert!(path.send_buffer_packets <= limits::SRT_WINDOW_PACKETS as u64);
        }
        // In the end it goes on as if nothing had been.
        let mut chance = Chance(1);
        let _ = chance.below(2);
        prop_assert!(link.deadline() > Now(0));
    }
}

fn told_at(link: &mut Link, kind: Kind<'_>, now: Now) {
    link.receive(&Packet::Control(Control { kind, timestamp: 0, to: 2 }), now);
}
