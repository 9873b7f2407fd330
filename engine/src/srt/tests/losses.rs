//! What goes in at one side comes out at the other, whole and in order, whatever the network does to it within the latency.

use std::{collections::VecDeque, time::Duration};

use super::Way;
use crate::{
    media::{Frame, Payload},
    mpegts::samples::two_pictures,
    session::{Event, Output},
    srt::{
        course::Course,
        link::{Agreed, Heard, KEY_PACKETS, Link},
        packet::{Data, Packet},
        secret::Keys,
        send::PAYLOAD_BYTES,
        sequence::Sequence,
    },
    time::Now,
};

const MILLISECOND: u64 = 1_000_000;

struct Pair {
    sender: Link,
    receiver: Link,
    there: Way,
    back: Way,
    now: Now,
    /// Numbers of the payloads that came out, and when.
    out: Vec<(u32, Now)>,
    unreadable: usize,
    sent: u32,
}

fn link(first: u32, ours: u32, theirs: u32, latency: u64, keys: Option<&Keys>, key_packets: u32) -> Link {
    let latency = Duration::from_millis(latency);
    let agreed = Agreed {
        theirs,
        ours,
        first: Sequence::of(first),
        window: 8192,
        latency,
        peer_latency: latency,
        timestamp: 0,
        heard: Now(MILLISECOND),
        keys: keys.cloned(),
        passphrase: keys.map(|_| "a long passphrase".to_owned()),
        seed: [3; 32],
        key_packets,
    };
    Link::new(agreed, Now(MILLISECOND))
}

impl Pair {
    fn new(latency: u64, there: Way, back: Way, keys: Option<&Keys>, key_packets: u32) -> Pair {
        // Near the end of the circle, so that it goes round.
        let first = 0x7fff_ffff - 500;
        Pair {
            sender: link(first, 1, 2, latency, keys, key_packets),
            receiver: link(first, 2, 1, latency, keys, key_packets),
            there,
            back,
            now: Now(MILLISECOND),
            out: Vec::new(),
            unreadable: 0,
            sent: 0,
        }
    }

    fn payload(number: u32) -> Vec<u8> {
        let mut payload = vec![0x47; PAYLOAD_BYTES];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        payload
    }

    /// Sends so many payloads, as far as there is room for them.
    fn feed(&mut self, count: u32) {
        let room = (self.sender.room(self.now) / PAYLOAD_BYTES) as u32;
        let count = count.min(room);
        let stream: Vec<u8> = (self.sent..self.sent + count).flat_map(Pair::payload).collect();
        if count > 0 {
            self.sender.send(&stream, self.now);
        }
        self.sent += count;
    }

    /// A millisecond goes by.
    fn step(&mut self) {
        self.now = Now(self.now.0 + MILLISECOND);
        let now = self.now;
        while let Some(datagram) = self.there.next(now) {
            let packet = Packet::read(&datagram).unwrap();
            assert_eq!(self.receiver.receive(&packet, now), Heard::Fine);
        }
        while let Some(datagram) = self.back.next(now) {
            let packet = Packet::read(&datagram).unwrap();
            assert_eq!(self.sender.receive(&packet, now), Heard::Fine);
        }
        for link in [&mut self.sender, &mut self.receiver] {
            if link.deadline() <= now {
                assert!(link.time_out(now), "the other side is there");
            }
        }
        while let Some(payload) = self.receiver.deliver(now) {
            match payload.first_chunk() {
                Some(number) => self.out.push((u32::from_be_bytes(*number), now)),
                None => self.unreadable += 1,
            }
        }
        for (link, way) in [(&mut self.sender, &mut self.there), (&mut self.receiver, &mut self.back)] {
            while let Some(batch) = link.poll() {
                batch.bytes.chunks(batch.packet).for_each(|datagram| way.send(datagram, now));
            }
        }
    }

    /// A stream of 400 packets a second for so long, then silence until all has come out that will.
    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds * 100 {
            self.feed(4);
            (0..10).for_each(|_| self.step());
        }
        (0..2000).for_each(|_| self.step());
    }

    fn numbers(&self) -> Vec<u32> {
        self.out.iter().map(|(number, _)| *number).collect()
    }
}

#[test]
fn three_in_a_hundred_lost_each_way_doubled_and_shuffled_and_everything_arrives_in_order_within_the_latency()
{
    for seed in 1..=5 {
        let there = Way::bad(seed, 30, 20, 20, 15);
        let mut pair = Pair::new(250, there, Way::bad(seed + 100, 30, 20, 20, 15), None, KEY_PACKETS);
        pair.run(10);
        assert!(pair.sent > 3900 && pair.there.dropped > 60, "{} {}", pair.sent, pair.there.dropped);
        assert!(pair.numbers().into_iter().eq(0..pair.sent), "seed {seed}: {:?}", pair.receiver.path());
        let (ours, theirs) = (pair.sender.path(), pair.receiver.path());
        assert_eq!(theirs.lost_packets, 0);
        assert!(theirs.recovered_packets > 60 && ours.sent_again_packets > 60, "{ours:?} {theirs:?}");
        // What was lost is sent again, and not much else.
        assert!(ours.sent_again_packets < 3 * theirs.missing_packets, "{ours:?} {theirs:?}");
        assert_eq!((ours.send_buffer_packets, theirs.receive_buffer_packets), (0, 0));
    }
}

#[test]
fn packets_come_out_with_the_distances_they_went_in_with() {
    let mut pair = Pair::new(400, Way::bad(4, 20, 0, 30, 40), Way::good(30), None, KEY_PACKETS);
    pair.run(5);
    assert!(pair.numbers().into_iter().eq(0..pair.sent));
    // Four go in together each ten milliseconds, and come out on the receiver's tick.
    for (group, four) in pair.out.chunks(4).enumerate() {
        let due = MILLISECOND + group as u64 * 10 * MILLISECOND + 400 * MILLISECOND;
        for (_, came) in four {
            assert!((due..due + 13 * MILLISECOND).contains(&came.0), "group {group}: {} for {due}", came.0);
        }
    }
}

#[test]
fn what_never_comes_is_passed_over_in_time_and_the_rest_is_whole() {
    // Nothing gets back, so nothing can be asked for.
    let there = Way::bad(7, 50, 0, 20, 0);
    let mut pair = Pair::new(120, there, Way::bad(8, 1000, 0, 20, 0), None, KEY_PACKETS);
    for _ in 0..300 {
        pair.feed(4);
        (0..10).for_each(|_| pair.step());
        if pair.now.0 > 4_000 * MILLISECOND {
            break;
        }
    }
    (0..1500).for_each(|_| pair.step());
    let numbers = pair.numbers();
    assert!(numbers.is_sorted_by(|one, next| one < next), "in order, and each once");
    let path = pair.receiver.path();
    assert_eq!(numbers.len() as u64 + path.lost_packets, u64::from(*numbers.last().unwrap()) + 1);
    assert!(path.lost_packets > 0 && path.recovered_packets < 200, "{path:?}");
}

#[test]
fn a_whole_group_at_once_goes_at_a_pace_that_receivers_keep_up_with() {
    let mut pair = Pair::new(120, Way::good(5), Way::good(5), None, KEY_PACKETS);
    let mut most = 0;
    while pair.sent < 2000 {
        let before = pair.sent;
        pair.feed(2000 - before);
        most = most.max(pair.sent - before);
        pair.step();
        assert!(pair.now.0 < 2_000 * MILLISECOND, "{}", pair.sent);
    }
    assert!(most <= 64, "{most} at once");
    assert!(pair.now.0 > 150 * MILLISECOND, "2.6 MB in {} ms", pair.now.0 / MILLISECOND);
    (0..2000).for_each(|_| pair.step());
    assert!(pair.numbers().into_iter().eq(0..2000));
}

#[test]
fn keys_are_changed_while_packets_are_lost_and_no_packet_is_unreadable() {
    for length in [16, 24, 32] {
        let keys = Keys::new(length, [9; 16], &[4; 32]).unwrap();
        let there = Way::bad(11, 30, 10, 20, 10);
        let mut pair = Pair::new(250, there, Way::bad(12, 30, 10, 20, 10), Some(&keys), 1000);
        pair.run(10);
        assert!(pair.numbers().into_iter().eq(0..pair.sent), "{:?}", pair.receiver.path());
        assert_eq!((pair.unreadable, pair.receiver.path().unreadable_packets), (0, 0));
    }
}

#[test]
fn what_comes_in_the_clear_where_it_may_not_is_no_part_of_the_stream() {
    let keys = Keys::new(16, [9; 16], &[4; 32]).unwrap();
    let mut pair = Pair::new(100, Way::good(5), Way::good(5), None, KEY_PACKETS);
    pair.receiver = link(0x7fff_ffff - 500, 2, 1, 100, Some(&keys), KEY_PACKETS);
    pair.run(1);
    assert_eq!(pair.out, []);
    assert_eq!(pair.receiver.path().unreadable_packets, pair.unreadable as u64);
    assert!(pair.unreadable > 300);
}

#[test]
fn a_sender_whose_clock_goes_slower_is_followed() {
    let mut pair = Pair::new(100, Way::good(5), Way::good(5), None, KEY_PACKETS);
    // One in five thousand, more than any clock that is in order: more than the whole latency in ten minutes.
    for _ in 0..60_000 {
        pair.feed(4);
        (0..10).for_each(|_| pair.step());
        pair.sender.begin_at(Now(MILLISECOND + pair.now.0 / 5000));
    }
    let path = pair.receiver.path();
    assert_eq!((path.lost_packets, path.late_packets), (0, 0));
    assert!((25..50).contains(&path.receive_buffer_packets), "held for a tenth of a second: {path:?}");
}

#[test]
fn of_two_pictures_with_sixteen_packets_missing_between_them_none_is_made_of_both() {
    let (stream, sent) = two_pictures();
    let packets: Vec<&[u8]> = stream.chunks(188).collect();
    // Whose counter goes on behind the gap as if nothing were missing.
    let of_pictures = |packet: &&[u8]| packet[1] & 0x1f == 1 && packet[2] == 0;
    for first in 8..30 {
        let gone: Vec<usize> =
            (first..packets.len()).filter(|place| of_pictures(&packets[*place])).take(16).collect();
        let parts = [&packets[..first], &packets[*gone.last().unwrap() + 1..]].map(<[&[u8]]>::concat);
        let mut course = Course::of_publisher(super::hostile::link());
        let mut out = VecDeque::new();
        let mut number = 100;
        for (part, leap) in parts.iter().zip([3, 0]) {
            for payload in part.chunks(PAYLOAD_BYTES) {
                let sequence = Sequence::of(number);
                let data = Data { sequence, key: None, again: false, timestamp: 0, to: 2, payload };
                course.receive(Ok(Packet::Data(data)), 0, &mut out, Now(1)).unwrap();
                number += 1;
            }
            number += leap;
        }
        course.time_out(0, &mut out, Now(2_000 * MILLISECOND)).unwrap();
        course.part(&mut out, Now(2_000 * MILLISECOND));
        for output in out {
            if let Output::Event(Event::Frame(Frame { payload: Payload::Video { data, .. }, .. })) = output {
                assert!(sent.contains(&data), "{first}: a picture of {} bytes that nobody sent", data.len());
            }
        }
    }
}
