//! Frames of VP8, VP9 and AV1 through packets of any size, ours and those of others: each comes out whole or not at all.

use bytes::Bytes;
use proptest::{prelude::*, sample::select};

use super::*;
use crate::{
    codec::{
        Codec, av1,
        samples::{self, hex},
    },
    rtp::{
        PACKET_BYTES_MAX,
        mux::{self, Sink},
    },
};

const CODECS: [Codec; 3] = [Codec::Vp8, Codec::Vp9, Codec::Av1];
/// Ticks from one frame to the next.
const STEP: i64 = 3_000;

/// A frame of that many bytes and a few, each different.
fn frame(codec: Codec, number: i64, key: bool, bytes: usize) -> Frame {
    let body = (0..bytes).map(|place| (number as usize * 31 + place * 7) as u8);
    let data: Bytes = match codec {
        Codec::Av1 => {
            // A sequence header where there is a key frame, metadata, and a frame.
            let mut data = if key { hex(samples::AV1_KEY)[..12].to_vec() } else { Vec::new() };
            let unit = |kind: u8, payload: &[u8], data: &mut Vec<u8>| {
                av1::Unit { kind, extension: None, payload, at: 0 }.write(data);
            };
            unit(5, b"\x04metadata", &mut data);
            let payload: Vec<u8> = [if key { 0x10 } else { 0x30 }].into_iter().chain(body).collect();
            unit(6, &payload, &mut data);
            data.into()
        }
        codec => {
            let head = match (codec, key) {
                (Codec::Vp8, true) => samples::VP8_KEY,
                (Codec::Vp8, false) => samples::VP8_INTER,
                (_, true) => samples::VP9_KEY,
                (_, false) => samples::VP9_INTER,
            };
            hex(head).into_iter().chain(body).collect()
        }
    };
    let time = MediaTime { ticks: 90_000 + number * STEP, rate: 90_000 };
    Frame { track: TrackId::VIDEO, dts: time, pts: time, payload: Payload::Video { codec, key, data } }
}

fn data(frame: &Frame) -> &Bytes {
    match &frame.payload {
        Payload::Video { data, .. } => data,
        other => panic!("{other:?}"),
    }
}

/// Keeps what is written.
#[derive(Default)]
struct Kept(Vec<BytesMut>);

impl Sink for Kept {
    fn packet(&mut self, _: bool, _: usize) -> &mut BytesMut {
        self.0.push(BytesMut::new());
        self.0.last_mut().expect("it was put there")
    }
}

/// Our packets of these frames.
fn ours(codec: Codec, frames: &[Frame]) -> Vec<Vec<u8>> {
    let parameters = Parameters::of_key_frame(codec, data(&frames[0])).expect("the first is a key frame");
    let mut track = mux::Track::new(&parameters, 96, 7).expect("it can be sent");
    let mut kept = Kept::default();
    frames.iter().for_each(|frame| track.frame(frame, &mut kept));
    kept.0.iter().map(|packet| packet.to_vec()).collect()
}

/// How somebody else writes packets.
#[derive(Clone, Copy, Debug)]
struct Manner {
    /// Bytes of a payload, beside descriptors.
    bytes: usize,
    /// With numbers of pictures, and everything else that may stand before them.
    wordy: bool,
    /// Units of AV1 keep their sizes, and delimiters stand before them.
    sized: bool,
}

/// Payloads of a frame.
fn payloads(codec: Codec, frame: &Frame, manner: Manner) -> Vec<Vec<u8>> {
    if codec == Codec::Av1 {
        return units(frame, manner);
    }
    let mut pieces = data(frame).chunks(manner.bytes).peekable();
    let (mut payloads, mut first) = (Vec::new(), true);
    while let Some(piece) = pieces.next() {
        let (begins, ends) = (std::mem::take(&mut first), pieces.peek().is_none());
        let mut payload = match (codec, manner.wordy) {
            (Codec::Vp8, false) => vec![u8::from(begins) << 4],
            (Codec::Vp8, true) => vec![0x80 | u8::from(begins) << 4, 0xf0, 0x81, 2, 9, 0x45],
            (_, false) => vec![u8::from(begins) << 3 | u8::from(ends) << 2],
            (_, true) => {
                let structure = begins && frame.is_key();
                let predicted = u8::from(!frame.is_key()) << 6;
                let first = 0xb0 | predicted | u8::from(begins) << 3 | u8::from(ends) << 2;
                let mut payload = vec![first | u8::from(structure) << 1, 0x81, 2, 0];
                payload.extend(if predicted > 0 { &[3, 4][..] } else { &[] });
                payload.extend(if structure { &[0x10, 0, 64, 0, 64][..] } else { &[] });
                payload
            }
        };
        payload.extend(piece);
        payloads.push(payload);
    }
    payloads
}

/// Payloads of a temporal unit of AV1: as many units in one as there is room for.
fn units(frame: &Frame, manner: Manner) -> Vec<Vec<u8>> {
    let mut elements: Vec<Vec<u8>> = if manner.sized { vec![vec![0x12, 0]] } else { Vec::new() };
    for unit in av1::Units::new(data(frame)).map(Result::unwrap) {
        let mut element = Vec::new();
        if manner.sized {
            unit.write(&mut element);
        } else {
            let (head, len) = unit.head(false);
            element = [&head[..len], unit.payload].concat();
        }
        elements.push(element);
    }
    let (mut payloads, mut open, mut continues) = (Vec::new(), Vec::<Vec<u8>>::new(), false);
    let mut begins = u8::from(frame.is_key()) << 3;
    let mut close = |open: &mut Vec<Vec<u8>>, continues: bool, goes_on: bool| {
        let count = if manner.wordy || open.len() > 3 { 0 } else { open.len() };
        let flags = u8::from(continues) << 7 | u8::from(goes_on) << 6 | (count as u8) << 4;
        let mut payload = vec![flags | std::mem::take(&mut begins)];
        for (number, element) in open.drain(..).enumerate() {
            if number + 1 != count {
                let mut size = element.len();
                while size > 0x7f {
                    payload.push(0x80 | (size & 0x7f) as u8);
                    size >>= 7;
                }
                payload.push(size as u8);
            }
            payload.extend(element);
        }
        payloads.push(payload);
    };
    for element in &elements {
        let mut rest = &element[..];
        while !rest.is_empty() {
            let room = manner.bytes.saturating_sub(open.iter().map(Vec::len).sum());
            let (piece, after) = rest.split_at(room.min(rest.len()));
            if !piece.is_empty() {
                open.push(piece.to_vec());
            }
            let cut = !after.is_empty();
            if cut {
                // Where nothing more fits, the unit that was put in last may be whole.
                let goes_on = !piece.is_empty() || after.len() < element.len();
                close(&mut open, continues, goes_on && !piece.is_empty());
                continues = after.len() < element.len();
            }
            rest = after;
        }
    }
    if !open.is_empty() {
        close(&mut open, continues, false);
    }
    payloads
}

/// Somebody else's packets of these frames.
fn theirs(codec: Codec, frames: &[Frame], manner: Manner) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for frame in frames {
        let payloads = payloads(codec, frame, manner);
        let count = payloads.len();
        for (number, payload) in payloads.into_iter().enumerate() {
            let marker = u8::from(number + 1 == count) << 7;
            let mut packet = vec![0x80, marker | 96];
            packet.extend((packets.len() as u16).to_be_bytes());
            packet.extend((frame.pts.ticks as u32).to_be_bytes());
            packet.extend([0, 0, 0, 7]);
            packet.extend(payload);
            packets.push(packet);
        }
    }
    packets
}

/// What is made of packets, and what was counted.
fn read<'a>(codec: Codec, packets: impl IntoIterator<Item = &'a Vec<u8>>) -> (Vec<Frame>, Counters) {
    let format = Format { payload_type: 96, clock_rate: 90_000, coding: Coding::Frames(codec) };
    let (mut demuxer, mut frames, mut said) = (Demuxer::new([Some(format)]), Vec::new(), 0);
    for packet in packets {
        demuxer.packet(0, packet, Now(0), &mut |event| match event {
            Event::Frame(Frame { payload: Payload::Parameters(parameters), .. }) => {
                said += 1;
                assert_eq!((parameters.codec, parameters.width_height()), (codec, Some((64, 64))));
            }
            Event::Frame(frame) => frames.push(frame),
            other => panic!("{other:?}"),
        });
    }
    demuxer.finish(Now(0), &mut |event| panic!("{event:?}"));
    assert!(said == 1 || frames.is_empty());
    (frames, demuxer.counters())
}

fn assert_same(got: &[Frame], sent: &[Frame]) {
    assert_eq!(got.len(), sent.len());
    let shift = got.first().map_or(0, |first| first.pts.ticks - sent[0].pts.ticks);
    for (got, sent) in got.iter().zip(sent) {
        assert_eq!((data(got), got.is_key()), (data(sent), sent.is_key()));
        assert_eq!((got.pts.ticks - shift, got.dts), (sent.pts.ticks, got.pts));
    }
}

/// Three groups of these sizes.
fn groups(codec: Codec, sizes: &[usize]) -> Vec<Frame> {
    let of_group = |group: usize| {
        sizes
            .iter()
            .enumerate()
            .map(move |(place, bytes)| frame(codec, (group * sizes.len() + place) as i64, place == 0, *bytes))
    };
    (0..3).flat_map(of_group).collect()
}

#[test]
fn our_packets_are_small_and_the_last_of_a_frame_is_marked() {
    for codec in CODECS {
        let frames = groups(codec, &[60_000, 0, 1_300, 1_387, 1_388, 1_389, 2_775, 3]);
        let packets = ours(codec, &frames);
        assert!(packets.iter().all(|packet| packet.len() <= PACKET_BYTES_MAX));
        assert_eq!(packets.iter().filter(|packet| packet[1] & 0x80 != 0).count(), frames.len());
        let (got, counters) = read(codec, &packets);
        assert_same(&got, &frames);
        assert_eq!(counters, Counters { packets: packets.len() as u64, ..Counters::default() });
    }
}

#[test]
fn our_first_bytes_are_those_of_the_specifications() {
    let payloads = |codec, key| -> Vec<u8> {
        let packets = ours(codec, &[frame(codec, 0, true, 10), frame(codec, 1, key, 3_000)]);
        packets.iter().map(|packet| packet[12]).collect()
    };
    assert_eq!(payloads(Codec::Vp8, false), [0x10, 0x10, 0, 0]);
    assert_eq!(payloads(Codec::Vp9, false), [0x0e, 0x48, 0x40, 0x44]);
    assert_eq!(payloads(Codec::Vp9, true), [0x0e, 0x0a, 0x00, 0x04]);
    let packets = ours(Codec::Vp9, &[frame(Codec::Vp9, 0, true, 10)]);
    assert_eq!(packets[0][13..18], [0x10, 0, 64, 0, 64], "one layer of this size");
    // A sequence header, metadata and a frame each; one element in each packet.
    assert_eq!(payloads(Codec::Av1, true), [0x18, 0x10, 0x10, 0x18, 0x10, 0x50, 0xd0, 0x90]);
}

#[test]
fn a_key_frame_of_av1_without_a_sequence_header_is_sent_that_of_the_configuration() {
    let whole = frame(Codec::Av1, 0, true, 20);
    let mut bare = whole.clone();
    let Payload::Video { data, .. } = &mut bare.payload else { panic!("{bare:?}") };
    *data = data.slice(12..);
    let parameters = Parameters::of_key_frame(Codec::Av1, super::tests::data(&whole)).unwrap();
    let mut track = mux::Track::new(&parameters, 96, 7).unwrap();
    let mut kept = Kept::default();
    track.frame(&bare, &mut kept);
    let packets: Vec<Vec<u8>> = kept.0.iter().map(|packet| packet.to_vec()).collect();
    assert_same(&read(Codec::Av1, &packets).0, &[whole]);
}

#[test]
fn of_a_frame_in_layers_the_smallest_goes_on() {
    let packet = |sequence: u8, marker: bool, head: &[u8], data: &[u8]| {
        let fixed = [0x80, u8::from(marker) << 7 | 96, 0, sequence, 0, 0, 0, sequence / 2, 0, 0, 0, 7];
        [&fixed[..], head, data].concat()
    };
    let (key, other) = (hex(samples::VP9_KEY), hex(samples::VP9_INTER));
    let packets = [
        packet(0, false, &[0x2c, 0x00, 1], &key),
        packet(1, true, &[0x2c, 0x03, 1], b"twice as large"),
        packet(2, false, &[0x6c, 0x10, 2], &other),
        packet(3, true, &[0x6c, 0x13, 2], b"twice as large"),
    ];
    let (got, counters) = read(Codec::Vp9, &packets);
    assert_eq!(got.iter().map(data).collect::<Vec<_>>(), [&key, &other]);
    assert_eq!(counters.malformed_packets, 0);
}

#[test]
fn what_breaks_a_rule_takes_its_frame_along() {
    for codec in CODECS {
        let frames = groups(codec, &[100, 100]);
        for payload in [&b""[..], &[0xff; 3], &[0x10], &[0x90, 3, 1], &[0x20, 5, 1], &[0x50]] {
            let mut packets = ours(codec, &frames);
            let place = packets.iter().position(|packet| packet[1] & 0x80 != 0).unwrap();
            packets[place].truncate(12);
            packets[place].extend_from_slice(payload);
            let (got, counters) = read(codec, &packets);
            // What cannot be seen to be broken goes on.
            if counters.malformed_packets > 0 {
                assert_same(&got, &frames[2..]);
            }
        }
    }
}

proptest! {
    #[test]
    fn packets_of_any_size_and_manner_make_the_same_frames(
        codec in select(&CODECS[..]),
        sizes in proptest::collection::vec(0usize..3_000, 1..6),
        bytes in 1usize..1_500,
        wordy: bool,
        sized: bool,
    ) {
        let frames = groups(codec, &sizes);
        let packets = theirs(codec, &frames, Manner { bytes: bytes.max(20), wordy, sized });
        let (got, counters) = read(codec, &packets);
        assert_same(&got, &frames);
        prop_assert_eq!(counters.malformed_packets + counters.broken_frames + counters.early_frames, 0);
    }

    #[test]
    fn whatever_is_lost_what_comes_out_is_whole_and_can_be_decoded(
        codec in select(&CODECS[..]),
        sizes in proptest::collection::vec(0usize..2_000, 2..6),
        bytes in 50usize..1_500,
        mine: bool,
        lost in proptest::collection::vec(any::<proptest::sample::Index>(), 1..4),
    ) {
        let frames = groups(codec, &sizes);
        let packets = if mine {
            ours(codec, &frames)
        } else {
            theirs(codec, &frames, Manner { bytes, wordy: false, sized: false })
        };
        let lost: Vec<usize> = lost.iter().map(|index| index.index(packets.len())).collect();
        // Which frame each packet is of.
        let number = |packet: &Vec<u8>| {
            let stamp = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
            (i64::from(stamp) - 90_000) / STEP
        };
        let hit: Vec<i64> = lost.iter().map(|place| number(&packets[*place])).collect();
        let kept = packets.iter().enumerate().filter(|(place, _)| !lost.contains(place));
        let (got, _) = read(codec, kept.map(|(_, packet)| packet));
        // A frame comes out when it and those before it in its group have all that they had.
        let group = sizes.len() as i64;
        let expected = |frame: &&Frame| {
            let number = (frame.pts.ticks - 90_000) / STEP;
            !hit.iter().any(|hit| *hit <= number && hit / group == number / group)
        };
        let expected: Vec<Frame> = frames.iter().filter(expected).cloned().collect();
        let (got, expected): (Vec<&Bytes>, Vec<&Bytes>) =
            (got.iter().map(data).collect(), expected.iter().map(data).collect());
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn no_bytes_make_it_panic(
        codec in select(&CODECS[..]),
        packets in proptest::collection::vec((any::<u8>(), any::<bool>(), proptest::collection::vec(any::<u8>(), 0..80)), 0..40),
    ) {
        let format = Format { payload_type: 96, clock_rate: 90_000, coding: Coding::Frames(codec) };
        let mut demuxer = Demuxer::new([Some(format)]);
        for (number, (stamp, marker, payload)) in packets.iter().enumerate() {
            let head = [0x80, u8::from(*marker) << 7 | 96, 0, number as u8, 0, 0, 0, stamp & 3, 0, 0, 0, 7];
            let packet = [&head[..], payload].concat();
            demuxer.packet(0, &packet, Now(0), &mut |event| match event {
                Event::Frame(frame) if frame.is_media() => assert!(!data(&frame).is_empty()),
                _ => {}
            });
        }
    }
}
