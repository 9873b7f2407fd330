//! Frames to packets and back.

use std::sync::Arc;

use bytes::Bytes;
use proptest::{prelude::*, sample::select};

use super::*;
use crate::{
    codec::{
        av1,
        samples::{self, hex},
    },
    rtp::{Demuxer, Packet, demux::Counters, format::Format},
    session::Event,
    time::{MediaTime, Now},
};

/// From one picture to the next.
const STEP: i64 = 3_000;
const PICTURES: [Codec; 5] = [Codec::H264, Codec::H265, Codec::Vp8, Codec::Vp9, Codec::Av1];
const SOUNDS: [Codec; 4] = [Codec::Opus, Codec::PcmA, Codec::PcmU, Codec::G722];

fn parameters_of(codec: Codec) -> Parameters {
    match codec {
        Codec::H264 => Parameters::parse(codec, hex(samples::H264_HIGH_720).into()).unwrap(),
        Codec::H265 => Parameters::parse(codec, hex(samples::H265_MAIN_720).into()).unwrap(),
        Codec::Vp8 => Parameters::of_key_frame(codec, &hex(samples::VP8_KEY)).unwrap(),
        Codec::Vp9 => Parameters::of_key_frame(codec, &hex(samples::VP9_KEY)).unwrap(),
        Codec::Av1 => Parameters::of_key_frame(codec, &hex(samples::AV1_KEY)).unwrap(),
        Codec::Opus => Parameters::of_opus(2),
        Codec::Aac => Parameters::parse(codec, Bytes::from_static(&[0x12, 0x10])).unwrap(),
        codec => Parameters::of_voice(codec).unwrap(),
    }
}

fn parameters_frame(track: TrackId, parameters: &Parameters) -> Frame {
    let time = MediaTime::from_millis(0);
    Frame { track, dts: time, pts: time, payload: Payload::Parameters(Arc::new(parameters.clone())) }
}

fn picture(codec: Codec, number: i64, shown: i64, key: bool, data: impl Into<Bytes>) -> Frame {
    let time = |number: i64| MediaTime { ticks: 90_000 + number * STEP, rate: 90_000 };
    let payload = Payload::Video { codec, key, data: data.into() };
    Frame { track: TrackId::VIDEO, dts: time(number), pts: time(shown), payload }
}

fn sound(codec: Codec, ticks: i64, data: impl Into<Bytes>) -> Frame {
    let time = MediaTime { ticks, rate: if codec == Codec::Opus { 48_000 } else { 8_000 } };
    let payload = Payload::Audio { codec, data: data.into() };
    Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }
}

/// A unit with this head, and so many bytes behind it that none of them is taken for anything else.
fn unit(head: &[u8], bytes: usize) -> Vec<u8> {
    [head, &vec![5; bytes]].concat()
}

/// Units behind their lengths.
fn units<'a>(units: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<u8> {
    units.into_iter().flat_map(|unit| [&(unit.len() as u32).to_be_bytes()[..], unit].concat()).collect()
}

/// The head of a slice.
fn slice_of(codec: Codec, key: bool) -> &'static [u8] {
    match (codec, key) {
        (Codec::H264, true) => &[0x65, 0x88],
        (Codec::H264, false) => &[0x41, 0x9a],
        (_, true) => &[19 << 1, 1, 0xaf],
        (_, false) => &[1 << 1, 1, 0xd0],
    }
}

/// A frame of that many bytes and a few.
fn frame(codec: Codec, number: i64, key: bool, bytes: usize) -> Frame {
    let body = vec![7; bytes];
    let data = match codec {
        Codec::H264 | Codec::H265 => units([&unit(slice_of(codec, key), bytes + 1)]),
        Codec::Av1 => {
            let mut data = if key { hex(samples::AV1_KEY)[..12].to_vec() } else { Vec::new() };
            let payload = [&[if key { 0x10 } else { 0x30 }][..], &body].concat();
            av1::Unit { kind: 6, extension: None, payload: &payload, at: 0 }.write(&mut data);
            data
        }
        Codec::Vp8 => [hex(if key { samples::VP8_KEY } else { samples::VP8_INTER }), body].concat(),
        _ => [hex(if key { samples::VP9_KEY } else { samples::VP9_INTER }), body].concat(),
    };
    picture(codec, number, number, key, data)
}

/// What the form writes of these frames for a stream with these tracks.
fn written(tracks: &[Parameters], frames: &[Frame]) -> BytesMut {
    let mut wire = (FORM.open)();
    let id =
        |parameters: &Parameters| if parameters.codec.is_video() { TrackId::VIDEO } else { TrackId::AUDIO };
    let parameters = tracks.iter().map(|parameters| parameters_frame(id(parameters), parameters)).collect();
    let opening = Opening { parameters, ..Opening::default() };
    let mut out = BytesMut::new();
    wire.header(&opening, &frames[0], &mut out);
    wire.refresh(&opening, &frames[0], &mut out);
    assert!(out.is_empty());
    frames.iter().for_each(|frame| wire.frame(frame, &mut out));
    out
}

/// The packets in it.
fn packets(bytes: &[u8]) -> Vec<(Kind, Vec<u8>)> {
    let mut read = 0;
    let packets = Packets::new(bytes).map(|(kind, range)| {
        read = range.end;
        let packet = bytes[range].to_vec();
        assert!(packet.len() <= PACKET_BYTES_MAX, "{}", packet.len());
        match kind {
            Kind::OutOfOrder => assert!(packet.is_empty()),
            _ => assert!(!Packet::parse(&packet).unwrap().payload.is_empty()),
        }
        (kind, packet)
    });
    let packets: Vec<_> = packets.collect();
    assert_eq!(read, bytes.len(), "all of it is packets");
    packets
}

/// The packets of a track, and the numbers that they bear.
fn of(kind: Kind, packets: &[(Kind, Vec<u8>)]) -> Vec<Packet<'_>> {
    let of_kind = packets.iter().filter(|(of, _)| *of == kind);
    let packets: Vec<Packet<'_>> = of_kind.map(|(_, packet)| Packet::parse(packet).unwrap()).collect();
    assert!(packets.iter().zip(0..).all(|(packet, number)| packet.sequence == number), "without a gap");
    packets
}

/// The frames that a receiver makes of them.
fn read(packets: &[(Kind, Vec<u8>)], tracks: &[Parameters]) -> Vec<Frame> {
    let format = |video: bool| {
        let parameters = tracks.iter().find(|parameters| parameters.codec.is_video() == video)?;
        let described = describe(parameters, DYNAMIC + u8::from(!video))?;
        Format::read(described.payload_type, Some(&described.mapping), &described.parameters)
    };
    let mut demuxer = Demuxer::new([format(true), format(false)]);
    let mut frames = Vec::new();
    let mut emit = |event| match event {
        Event::Frame(frame) if frame.is_media() => frames.push(frame),
        Event::Frame(_) => {}
        other => panic!("{other:?}"),
    };
    for (kind, packet) in packets {
        demuxer.packet(kind.byte().into(), packet, Now(0), &mut emit);
    }
    let expected = Counters { packets: packets.len() as u64, ..Counters::default() };
    assert_eq!(demuxer.counters(), expected, "no fault, nothing waits for more");
    frames
}

fn data(frame: &Frame) -> &Bytes {
    match &frame.payload {
        Payload::Video { data, .. } | Payload::Audio { data, .. } => data,
        other => panic!("{other:?}"),
    }
}

/// Demands that these are the frames of a track, at the same distances.
fn assert_same(got: &[Frame], sent: &[Frame]) {
    let shift = got.first().map_or(0, |first| first.pts.ticks - sent[0].pts.ticks);
    assert_eq!(got.len(), sent.len());
    for (got, sent) in got.iter().zip(sent) {
        assert_eq!((data(got), got.is_key()), (data(sent), sent.is_key()));
        assert_eq!((got.pts.ticks - shift, got.pts.rate), (sent.pts.ticks, sent.pts.rate));
    }
}

#[test]
fn frames_of_every_size_come_out_as_they_went_in_and_packets_have_one_size() {
    for codec in PICTURES {
        let sizes = [60_000, 0, 1_100, 1_183, 1_184, 1_185, 1_186, 1_187, 1_188, 2_370, 5_000, 3];
        let frames: Vec<Frame> = (0..24)
            .map(|number| frame(codec, number, number % 12 == 0, sizes[number as usize % 12]))
            .collect();
        let tracks = [parameters_of(codec)];
        let packets = packets(&written(&tracks, &frames));
        assert_same(&read(&packets, &tracks), &frames);
        let packets = of(Kind::Video, &packets);
        for frame in &frames {
            let of_it = packets.iter().filter(|packet| i64::from(packet.timestamp) == frame.pts.ticks);
            let of_it: Vec<&Packet<'_>> = of_it.collect();
            let (last, others) = of_it.split_last().expect("each frame is sent");
            assert!(last.marker && others.iter().all(|packet| !packet.marker));
            let sizes: Vec<usize> = others.iter().skip(1).map(|packet| packet.payload.len()).collect();
            assert!(sizes.iter().all(|size| *size == ROOM), "{codec:?}: {sizes:?}");
        }
    }
}

#[test]
fn sound_comes_out_as_it_went_in_beside_pictures() {
    for codec in SOUNDS {
        let tracks = [parameters_of(Codec::H264), parameters_of(codec)];
        let sounds: Vec<Frame> = [160, 1, ROOM, 77]
            .iter()
            .zip(0..)
            .map(|(bytes, at)| sound(codec, at * 1_188, vec![9; *bytes]))
            .collect();
        let pictures = [frame(Codec::H264, 0, true, 30)];
        let frames = [&pictures[..], &sounds].concat();
        let packets = packets(&written(&tracks, &frames));
        let got = read(&packets, &tracks);
        assert_same(&got[..1], &pictures);
        assert_same(&got[1..], &sounds);
        assert_eq!(of(Kind::Audio, &packets).len(), sounds.len());
    }
}

#[test]
fn what_no_browser_decodes_is_left_out_and_a_track_that_becomes_another_goes_on_counting() {
    let (aac, opus) = (parameters_of(Codec::Aac), parameters_of(Codec::Opus));
    assert!(!carries(&aac) && carries(&opus) && !carries(&Parameters::of_opus(6)));
    let packet = |at: i64| sound(Codec::Opus, at * 960, vec![0xfc; 20]);
    let raw = |at: i64| sound(Codec::Aac, at * 960, vec![0x21; 20]);
    let told = |parameters| parameters_frame(TrackId::AUDIO, parameters);
    let other = Frame { track: TrackId(5), ..packet(9) };
    let voice = parameters_of(Codec::PcmA);
    let frames = [
        raw(0),
        told(&opus),
        packet(1),
        told(&aac),
        raw(2),
        told(&opus),
        packet(3),
        other,
        told(&voice),
        sound(Codec::PcmA, 9_000, vec![0xd5; 160]),
    ];
    let packets = packets(&written(std::slice::from_ref(&aac), &frames));
    assert_eq!(of(Kind::Audio, &packets).len(), 3);
    // What cannot be cut and is too long.
    let long = [packet(0), sound(Codec::Opus, 960, vec![0xfc; ROOM + 1]), packet(2)];
    let packets = super::tests::packets(&written(&[opus], &long));
    assert_eq!(of(Kind::Audio, &packets).len(), 2);
}

#[test]
fn small_units_go_together_behind_a_head_that_says_the_most_of_them() {
    let tracks = [parameters_of(Codec::H264)];
    // A delimiter, information, two slices of which one is of no picture that others need, filler.
    let data = [&[9, 0xf0][..], &[6, 5, 1, 9, 0x80], &[0x01, 0x9a, 1], &[0x41, 0x9a, 2], &[12, 0xff, 0x80]];
    let data = data.map(<[u8]>::to_vec);
    let frames = [frame(Codec::H264, 0, true, 4_000), picture(Codec::H264, 1, 1, false, units(&data))];
    let packets = packets(&written(&tracks, &frames));
    let packets = of(Kind::Video, &packets);
    let kinds: Vec<u8> = packets.iter().map(|packet| packet.payload[0]).collect();
    // The parameter sets, the slice in pieces, the second picture.
    assert_eq!(kinds, [0x78, 0x7c, 0x7c, 0x7c, 0x7c, 0x58]);
    assert_eq!(packets[0].payload[1..4], [0, 26, 0x67]);
    let expected = [0x58, 0, 5, 6, 5, 1, 9, 0x80, 0, 3, 0x01, 0x9a, 1, 0, 3, 0x41, 0x9a, 2];
    assert_eq!(packets[5].payload, expected);

    let tracks = [parameters_of(Codec::H265)];
    // One of another layer, the other of a higher one in time.
    let data = [
        &[35 << 1, 1, 0x50][..],
        &[0x80 | 1 << 1, 3 << 3 | 3, 7],
        &[1 << 1, 2 << 3 | 2, 8],
        &[38 << 1, 1, 9],
    ];
    let data = data.map(<[u8]>::to_vec);
    let frames = [frame(Codec::H265, 0, true, 0), picture(Codec::H265, 1, 1, false, units(&data))];
    let packets = super::tests::packets(&written(&tracks, &frames));
    let packets = of(Kind::Video, &packets);
    assert_eq!(packets[0].payload[..4], [48 << 1, 1, 0, 24], "sets and slice");
    assert_eq!(packets[1].payload, [0x80 | 48 << 1, 2 << 3 | 2, 0, 3, 0x82, 0x1b, 7, 0, 3, 2, 0x12, 8]);
    assert_eq!(packets.len(), 2);
}

/// What an encoder wrote, with the parameters of it. A decoder can begin at the keys that a container would name.
fn reel(codec: Codec, configuration: &str, units: &[(i64, &str)]) -> (Parameters, Vec<Frame>) {
    let parameters = Parameters::parse(codec, hex(configuration).into()).unwrap();
    let frames = units.iter().zip(0..).map(|((shown, data), number)| {
        let data = hex(data);
        picture(codec, number, *shown, parameters.is_key(&data), data)
    });
    let frames = frames.collect();
    (parameters, frames)
}

/// When the pictures are shown.
fn shown(packets: &[(Kind, Vec<u8>)]) -> Vec<i64> {
    let packets = of(Kind::Video, packets);
    assert!(packets.iter().all(|packet| packet.marker), "they are small");
    packets.iter().map(|packet| (i64::from(packet.timestamp) - 90_000) / STEP).collect()
}

#[test]
fn pictures_that_jump_and_that_none_refers_to_are_left_out() {
    for (codec, configuration, units) in [
        (Codec::H264, samples::X264_B_ALONE_CONFIGURATION, samples::X264_B_ALONE),
        (Codec::H265, samples::X265_B_ALONE_CONFIGURATION, samples::X265_B_ALONE),
    ] {
        let (parameters, frames) = reel(codec, configuration, units);
        let tracks = [parameters];
        let packets = packets(&written(&tracks, &frames));
        let at = shown(&packets);
        assert!(at.is_sorted() && at.starts_with(&[0, 3, 6, 9]) && at.ends_with(&[12, 13]), "{at:?}");
        let kept: Vec<Frame> = frames
            .iter()
            .filter(|frame| at.contains(&((frame.pts.ticks - 90_000) / STEP)))
            .cloned()
            .collect();
        assert_same(&read(&packets, &tracks), &kept);
        // Of a picture whose slices are not all alike, one is enough.
        let slices = units_of_two(codec);
        let early = [
            picture(codec, 0, 0, true, units_of_key(codec)),
            picture(codec, 1, 2, false, slices.clone()),
            picture(codec, 2, 1, false, slices),
        ];
        let found = super::tests::packets(&written(&tracks, &early));
        assert!(found.iter().any(|(kind, _)| *kind == Kind::OutOfOrder), "one of the slices is referred to");
    }
}

/// A picture of two slices, of which one is referred to.
fn units_of_two(codec: Codec) -> Vec<u8> {
    let alone: &[u8] = if codec == Codec::H264 { &[0x01, 0x9a] } else { &[0, 1, 0xd0] };
    units([&unit(alone, 9), &unit(slice_of(codec, false), 9)])
}

fn units_of_key(codec: Codec) -> Vec<u8> {
    units([&unit(slice_of(codec, true), 9)])
}

#[test]
fn where_others_refer_to_pictures_that_jump_it_is_said_and_no_more_are_sent() {
    for (codec, configuration, units) in [
        (Codec::H264, samples::X264_B_REFERRED_CONFIGURATION, samples::X264_B_REFERRED),
        (Codec::H265, samples::X265_B_REFERRED_CONFIGURATION, samples::X265_B_REFERRED),
    ] {
        let (parameters, frames) = reel(codec, configuration, units);
        let other = parameters_of(codec);
        let tracks = [parameters.clone(), parameters_of(Codec::Opus)];
        let more = [
            sound(Codec::Opus, 48_000, vec![0xfc; 9]),
            parameters_frame(TrackId::VIDEO, &parameters),
            picture(codec, 20, 20, false, units_of_two(codec)),
            parameters_frame(TrackId::VIDEO, &other),
            picture(codec, 21, 21, true, units_of_key(codec)),
        ];
        let packets = packets(&written(&tracks, &[&frames[..], &more].concat()));
        let kinds: Vec<Kind> = packets.iter().map(|(kind, _)| *kind).collect();
        // Two pictures, the third jumps; the key frame; sound; other parameters.
        use Kind::{Audio, OutOfOrder, Video};
        assert_eq!(kinds, [Video, Video, OutOfOrder, OutOfOrder, Audio, Video], "{codec:?}");
        assert_eq!(shown(&packets), [0, 4, 21]);

        // Whoever begins where it is known is told at the first key frame, and can enter there.
        let mut wire = (FORM.open)();
        let parameters = vec![parameters_frame(TrackId::VIDEO, &parameters)];
        let opening = Opening { parameters, reorder: Reorder::Needed, ..Opening::default() };
        let mut out = BytesMut::new();
        wire.header(&opening, &frames[0], &mut out);
        wire.frame(&frames[0], &mut out);
        wire.frame(&frames[1], &mut out);
        assert_eq!(out[..], [b'$', 0xff, 0, 0]);
        assert_eq!(Packets::new(&out).collect::<Vec<_>>(), [(Kind::OutOfOrder, 4..4)]);
    }
}

proptest! {
    #[test]
    fn whatever_the_order_the_times_of_what_is_sent_rise(
        codec in select(&[Codec::H264, Codec::H265][..]),
        frames in proptest::collection::vec((0i64..12, 0u8..8), 1..40),
    ) {
        let pictures = frames.iter().zip(0..).map(|((shown, kind), number)| {
            let (at, key) = (number + shown, *kind == 0);
            // One of eight is a key frame, four are referred to.
            let head: &[u8] = match (codec, kind) {
                (_, 0) => slice_of(codec, true),
                (_, 1..=4) => slice_of(codec, false),
                (Codec::H264, _) => &[0x01, 0x9a],
                _ => &[0, 1, 0xd0],
            };
            picture(codec, number, at, key, units([&unit(head, 9)]))
        });
        let first = picture(codec, 0, 0, true, units_of_key(codec));
        let pictures: Vec<Frame> = [first].into_iter().chain(pictures).collect();
        let packets = packets(&written(&[parameters_of(codec)], &pictures));
        // What the rule says, in its own words.
        let (mut latest, mut expected, mut said) = (i64::MIN, Vec::new(), 0);
        for frame in &pictures {
            let at = (frame.pts.ticks - 90_000) / STEP;
            let referred = data(frame)[4] != if codec == Codec::H264 { 0x01 } else { 0 };
            let early = at < latest && !frame.is_key();
            if said > 0 || early && referred {
                said += usize::from(said == 0 || frame.is_key());
            } else if !early {
                expected.push(at);
            }
            latest = if early { latest } else { at };
        }
        prop_assert_eq!(shown(&packets), expected);
        prop_assert_eq!(packets.iter().filter(|(kind, _)| *kind == Kind::OutOfOrder).count(), said);
    }

    #[test]
    fn units_of_any_sizes_come_out_as_they_went_in(
        codec in select(&[Codec::H264, Codec::H265][..]),
        frames in proptest::collection::vec(
            proptest::collection::vec((0u8..5, prop_oneof![0usize..40, 500usize..1_300, 0usize..9_000]), 0..8),
            1..6,
        ),
    ) {
        let (mut sent, mut expected) = (Vec::new(), Vec::new());
        for (number, sizes) in frames.iter().enumerate() {
            let key = number % 3 == 0;
            let slice = slice_of(codec, key);
            let heads: [&[u8]; 5] = match codec {
                Codec::H264 => [slice, &[9, 0xf0], &[6, 5, 1], &[12, 0xff], slice],
                _ => [slice, &[35 << 1, 1, 0x50], &[39 << 1, 1, 5], &[38 << 1, 1, 0xff], slice],
            };
            let heads = &heads;
            let all = || sizes.iter().map(|(kind, bytes)| (*kind, *bytes)).chain([(0, 9)]);
            let cut = |(kind, bytes)| unit(heads[usize::from(kind)], bytes);
            let whole: Vec<Vec<u8>> = all().map(cut).collect();
            let kept: Vec<Vec<u8>> = all().filter(|(kind, _)| ![1, 3].contains(kind)).map(cut).collect();
            sent.push(picture(codec, number as i64, number as i64, key, units(&whole)));
            expected.push(picture(codec, number as i64, number as i64, key, units(&kept)));
        }
        let tracks = [parameters_of(codec)];
        let packets = packets(&written(&tracks, &sent));
        assert_same(&read(&packets, &tracks), &expected);
        let marks = of(Kind::Video, &packets).iter().filter(|packet| packet.marker).count();
        prop_assert_eq!(marks, sent.len());
    }

    #[test]
    fn frames_and_sound_of_any_sizes_come_out_as_they_went_in(
        codec in select(&PICTURES[..]),
        of_sound in select(&SOUNDS[..]),
        frames in proptest::collection::vec((0usize..6_000, 1usize..=ROOM), 1..10),
    ) {
        let tracks = [parameters_of(codec), parameters_of(of_sound)];
        let (mut pictures, mut sounds, mut sent) = (Vec::new(), Vec::new(), Vec::new());
        for ((bytes, of_packet), number) in frames.iter().zip(0..) {
            pictures.push(frame(codec, number, number == 0, *bytes));
            sounds.push(sound(of_sound, number * 1_188, vec![3; *of_packet]));
            sent.extend([pictures[number as usize].clone(), sounds[number as usize].clone()]);
        }
        let got = read(&packets(&written(&tracks, &sent)), &tracks);
        let (video, audio): (Vec<Frame>, Vec<Frame>) = got.into_iter().partition(Frame::is_video);
        assert_same(&video, &pictures);
        assert_same(&audio, &sounds);
    }

    #[test]
    fn no_frame_makes_it_panic_and_what_it_writes_is_packets(
        codec in select(&PICTURES[..]),
        of_sound in select(&SOUNDS[..]),
        frames in proptest::collection::vec((any::<bool>(), any::<bool>(), proptest::collection::vec(any::<u8>(), 0..3_000)), 1..10),
    ) {
        let mut sent = Vec::new();
        for ((video, key, bytes), number) in frames.into_iter().zip(0..) {
            let data = Bytes::from(bytes);
            sent.push(if video {
                picture(codec, number, number, key, data)
            } else {
                sound(of_sound, number * 960, data)
            });
        }
        let written = written(&[parameters_of(codec), parameters_of(of_sound)], &sent);
        for (_, range) in Packets::new(&written) {
            prop_assert!(range.len() <= PACKET_BYTES_MAX);
            prop_assert!(Packet::parse(&written[range]).is_ok());
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
        for (_, range) in Packets::new(&bytes) {
            prop_assert!(range.end <= bytes.len());
        }
    }
}
