//! Frames to packets and back.

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::{
    codec::{Codec, Parameters, samples},
    rtp::{
        Demuxer, PACKET_BYTES_MAX,
        format::{Format, describe},
        rtcp::sender_reports,
    },
    rtsp::inbox::{self, Item},
    session::Event,
    time::Now,
};

/// From one picture to the next, as both configurations say.
const STEP: i64 = 3_000;

fn parameters_of(codec: Codec, configuration: &str) -> Parameters {
    Parameters::parse(codec, samples::hex(configuration).into()).unwrap()
}

fn frame(track: TrackId, dts: MediaTime, shown_after: i64, payload: Payload) -> Frame {
    let pts = MediaTime { ticks: dts.ticks + shown_after, rate: dts.rate };
    Frame { track, dts, pts, payload }
}

fn parameters_frame(track: TrackId, parameters: &Parameters) -> Frame {
    frame(track, MediaTime::from_millis(0), 0, Payload::Parameters(Arc::new(parameters.clone())))
}

/// A unit of this kind and size, behind its length.
fn unit(head: &[u8], bytes: usize) -> Vec<u8> {
    let body = (0..bytes).map(|place| (place % 251) as u8 | 1);
    let unit: Vec<u8> = head.iter().copied().chain(body).collect();
    [&(unit.len() as u32).to_be_bytes()[..], &unit].concat()
}

/// A picture whose slice has this head.
fn picture(codec: Codec, number: i64, shown_after: i64, key: bool, units: &[Vec<u8>]) -> Frame {
    let data = Bytes::from(units.concat());
    let dts = MediaTime { ticks: 90_000 + number * STEP, rate: 90_000 };
    frame(TrackId::VIDEO, dts, shown_after * STEP, Payload::Video { codec, key, data })
}

fn sound(codec: Codec, number: i64, samples: i64, rate: u32, data: Vec<u8>) -> Frame {
    let dts = MediaTime { ticks: i64::from(rate) + number * samples, rate };
    frame(TrackId::AUDIO, dts, 0, Payload::Audio { codec, data: data.into() })
}

/// What the wire writes of these frames.
fn written(form: &Form, opening: &[Frame], frames: &[Frame]) -> BytesMut {
    let mut wire = (form.open)();
    let opening = Opening { parameters: opening.to_vec(), ..Opening::default() };
    let mut out = BytesMut::new();
    wire.header(&opening, &frames[0], &mut out);
    frames.iter().for_each(|frame| wire.frame(frame, &mut out));
    out
}

/// The packets in it, by channel.
fn packets(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut packets = Vec::new();
    while let Some((item, used)) = inbox::next(bytes, 0).unwrap() {
        let Item::Packet { channel, bytes: packet } = item else { panic!("{item:?}") };
        packets.push((channel, packet.to_vec()));
        bytes = bytes.split_at(used).1;
    }
    assert!(bytes.is_empty());
    packets
}

/// The frames that a receiver makes of it.
fn read(packets: &[(u8, Vec<u8>)], tracks: &[&Parameters]) -> Vec<Frame> {
    let formats = tracks.iter().zip(0..).map(|(parameters, track)| {
        let described = describe(parameters, payload_type(TrackId(track)))?;
        Format::read(described.payload_type, Some(&described.mapping), &described.parameters)
    });
    let mut demuxer = Demuxer::new(formats);
    let mut frames = Vec::new();
    let mut emit = |event| match event {
        Event::Frame(frame) => frames.push(frame),
        other => panic!("{other:?}"),
    };
    for (channel, packet) in packets {
        match channel % 2 {
            0 => demuxer.packet(usize::from(channel / 2), packet, Now(0), &mut emit),
            _ => demuxer.control(usize::from(channel / 2), packet, Now(0)),
        }
    }
    demuxer.finish(Now(0), &mut emit);
    frames
}

fn data(frame: &Frame) -> &[u8] {
    match &frame.payload {
        Payload::Video { data, .. } | Payload::Audio { data, .. } => data,
        _ => &[],
    }
}

/// Demands that these are the frames, in order for each track, at the same distances: the line of time of a receiver begins
/// with the first picture, and nothing else is moved.
fn assert_same(got: &[Frame], sent: &[Frame]) {
    let first = got.iter().find(|frame| frame.is_video()).expect("there is a picture");
    let shift = MediaTime { ticks: sent[0].pts.ticks - first.pts.ticks, rate: 90_000 };
    let later = |time: MediaTime| MediaTime { ticks: time.ticks + shift.ticks_at(time.rate), ..time };
    for track in [TrackId::VIDEO, TrackId::AUDIO] {
        let of_it = |frames: &[Frame]| -> Vec<Frame> {
            frames.iter().filter(|frame| frame.track == track && frame.is_media()).cloned().collect()
        };
        let (got, sent) = (of_it(got), of_it(sent));
        assert_eq!(got.len(), sent.len(), "of track {track:?}");
        for (ours, theirs) in got.iter().zip(&sent) {
            assert_eq!(data(ours), data(theirs));
            assert_eq!(ours.is_key(), theirs.is_key());
            assert_eq!((later(ours.dts), later(ours.pts)), (theirs.dts, theirs.pts));
        }
    }
}

#[test]
fn pictures_of_every_size_come_out_as_they_went_in() {
    for (codec, configuration, key, other) in [
        (Codec::H264, samples::H264_HIGH_720, &[0x65, 0x88][..], &[0x41, 0x9a][..]),
        (Codec::H265, samples::H265_MAIN_720, &[20 << 1, 1, 0xaf], &[1 << 1, 1, 0xd0]),
    ] {
        let parameters = parameters_of(codec, configuration);
        let most = PACKET_BYTES_MAX - 12;
        // A pyramid of B-frames, two deep, as both configurations say.
        let mut frames = vec![picture(codec, 0, 2, true, &[unit(key, 60_000)])];
        for (number, (shown_after, bytes)) in [
            (5, 2 * most),
            (2, most - 1),
            (0, most - key.len()),
            (1, most),
            (5, 3),
            (2, 7_000),
            (0, 1),
            (1, 1),
        ]
        .iter()
        .enumerate()
        {
            let units = [unit(other, *bytes), unit(other, 10)];
            frames.push(picture(codec, number as i64 + 1, *shown_after, false, &units));
        }
        let opening = parameters_frame(TrackId::VIDEO, &parameters);
        let packets = packets(&written(&FORMS[0], &[opening], &frames));
        assert!(packets.iter().all(|(_, packet)| packet.len() <= PACKET_BYTES_MAX));
        assert_eq!(packets[0].0, 1, "a report first");
        let marked = packets.iter().filter(|(channel, packet)| channel % 2 == 0 && packet[1] & 0x80 != 0);
        assert_eq!(marked.count(), frames.len(), "{codec:?}");
        assert_same(&read(&packets, &[&parameters]), &frames);
    }
}

#[test]
fn sound_of_every_kind_comes_out_as_it_went_in_and_in_step_with_the_pictures() {
    let video = parameters_of(Codec::H264, samples::H264_HIGH_720);
    let mp3: Vec<u8> = [&[0xff, 0xfb, 0x94, 0x00][..], &[7; 380]].concat();
    let aac = Parameters::parse(Codec::Aac, Bytes::from_static(&[0x12, 0x10])).unwrap();
    for (parameters, samples, rate, packets_of) in [
        (aac, 1024, 44_100, vec![vec![1; 300], vec![2; 3_000], vec![3; 8_191], vec![4]]),
        (Parameters::of_opus(2), 960, 48_000, vec![vec![0xfc, 1], vec![0xfc; 1_500]]),
        (Parameters::from_mp3_frame(&mp3).unwrap(), 2_160, 90_000, vec![mp3.clone(), mp3]),
        (Parameters::of_voice(Codec::PcmA).unwrap(), 160, 8_000, vec![vec![0xd5; 160], vec![1]]),
        (Parameters::of_voice(Codec::PcmU).unwrap(), 1_388, 8_000, vec![vec![0xff; 1_388], vec![1; 1_000]]),
        (Parameters::of_voice(Codec::G722).unwrap(), 160, 8_000, vec![vec![0xfa; 160], vec![2; 160]]),
    ] {
        let codec = parameters.codec;
        let mut frames = vec![picture(Codec::H264, 0, 2, true, &[unit(&[0x65, 0x88], 10)])];
        for (number, packet) in packets_of.into_iter().enumerate() {
            frames.push(sound(codec, number as i64, samples, rate, packet));
        }
        let opening =
            [parameters_frame(TrackId::VIDEO, &video), parameters_frame(TrackId::AUDIO, &parameters)];
        let packets = packets(&written(&FORMS[2], &opening, &frames));
        assert_same(&read(&packets, &[&video, &parameters]), &frames);
        // Whoever wants the sound alone is sent nothing else.
        let alone = super::tests::packets(&written(&FORMS[1], &opening, &frames));
        assert!(alone.iter().all(|(channel, _)| [2, 3].contains(channel)));
        assert_eq!(form_of(false, true), Some(&FORMS[1]));
    }
    assert_eq!(form_of(false, false), None);
}

#[test]
fn sound_of_telephones_that_is_too_long_is_cut_and_each_piece_has_its_time() {
    for codec in [Codec::PcmA, Codec::PcmU, Codec::G722] {
        let parameters = Parameters::of_voice(codec).unwrap();
        let bytes: Vec<u8> = (0..3_000).map(|place| (place % 251) as u8).collect();
        let sent = [sound(codec, 0, 3_000, 8_000, bytes.clone()), sound(codec, 1, 3_000, 8_000, vec![7])];
        let packets = packets(&written(&FORMS[1], &[parameters_frame(TrackId::AUDIO, &parameters)], &sent));
        assert!(packets.iter().all(|(_, packet)| packet.len() <= PACKET_BYTES_MAX));
        let tracks: Vec<_> = vec![None, Some(&parameters)];
        let formats = tracks.into_iter().map(|track| {
            let described = describe(track?, 97)?;
            Format::read(described.payload_type, None, "")
        });
        let (mut demuxer, mut got) = (Demuxer::new(formats), Vec::new());
        for (channel, packet) in packets.iter().filter(|(channel, _)| channel % 2 == 0) {
            demuxer.packet(usize::from(channel / 2), packet, Now(0), &mut |event| match event {
                Event::Frame(frame) if frame.is_media() => got.push(frame),
                _ => {}
            });
        }
        let joined: Vec<u8> = got.iter().flat_map(data).copied().collect();
        assert_eq!(joined, [&bytes[..], &[7]].concat());
        let mut at = got[0].dts.ticks;
        for frame in &got {
            assert_eq!((frame.dts.ticks, frame.dts.rate), (at, 8_000), "a byte lasts a tick");
            at += data(frame).len() as i64;
        }
        assert_eq!(got.len(), 4);
    }
}

#[test]
fn numbers_go_on_where_sound_has_another_clock() {
    let [first, other] = [&[0x12, 0x10], &[0x11, 0x90]]
        .map(|configuration| Parameters::parse(Codec::Aac, Bytes::from_static(configuration)).unwrap());
    let mut frames: Vec<Frame> =
        (0..3).map(|number| sound(Codec::Aac, number, 1024, 44_100, vec![1; 300])).collect();
    frames.push(parameters_frame(TrackId::AUDIO, &other));
    frames.extend((4..7).map(|number| sound(Codec::Aac, number, 1024, 48_000, vec![2; 300])));
    let packets = packets(&written(&FORMS[1], &[parameters_frame(TrackId::AUDIO, &first)], &frames));
    let media = packets.iter().filter(|(channel, _)| *channel == 2);
    let numbers: Vec<u16> = media.map(|(_, packet)| u16::from_be_bytes([packet[2], packet[3]])).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_key_frame_brings_the_parameter_sets_that_hold() {
    let before = parameters_of(Codec::H264, samples::H264_HIGH_720);
    let after = parameters_of(Codec::H264, samples::H264_BASELINE_1080);
    let key = |number| picture(Codec::H264, number, 0, true, &[unit(&[0x65, 0x88], 10)]);
    let frames = [key(0), parameters_frame(TrackId::VIDEO, &after), key(1)];
    let packets = packets(&written(&FORMS[0], &[parameters_frame(TrackId::VIDEO, &before)], &frames));
    let kinds: Vec<u8> =
        packets.iter().filter(|(channel, _)| *channel == 0).map(|(_, packet)| packet[12] & 0x1f).collect();
    assert_eq!(kinds, [7, 8, 5, 7, 8, 5]);
    // A receiver that was told of the first ones learns of the others.
    let got = read(&packets, &[&before]);
    let told: Vec<&Arc<Parameters>> = got
        .iter()
        .filter_map(|frame| match &frame.payload {
            Payload::Parameters(parameters) => Some(parameters),
            _ => None,
        })
        .collect();
    assert_eq!((told.len(), told[1].width_height()), (2, Some((1920, 1080))));
}

#[test]
fn what_was_lost_takes_its_group_along_and_nothing_else() {
    let parameters = parameters_of(Codec::H264, samples::H264_BASELINE_1080);
    let frames: Vec<Frame> = (0..30)
        .map(|number| {
            let key = number % 10 == 0;
            let head = if key { [0x65, 0x88] } else { [0x41, 0x9a] };
            picture(Codec::H264, number, 0, key, &[unit(&head, 4_000)])
        })
        .collect();
    let all = packets(&written(&FORMS[0], &[parameters_frame(TrackId::VIDEO, &parameters)], &frames));
    let numbers = |got: &[Frame]| -> Vec<i64> {
        got.iter()
            .filter(|frame| frame.is_video())
            .map(|frame| (frame.dts.ticks - got[0].dts.ticks) / STEP)
            .collect()
    };
    let media: Vec<usize> = (0..all.len()).filter(|place| all[*place].0 == 0).collect();
    for lost in media.iter().copied().filter(|place| *place > 20) {
        let mut packets = all.clone();
        packets.remove(lost);
        let got = numbers(&read(&packets, &[&parameters]));
        // The picture that it belonged to, by the marks before it.
        let hit =
            all[..lost].iter().filter(|(channel, packet)| *channel == 0 && packet[1] & 0x80 != 0).count()
                as i64;
        // Behind a picture's last packet the next one may be hit, too.
        let last_hit = hit + i64::from(all[lost].1[1] & 0x80 != 0);
        let expected = (0..30).filter(|number| *number < hit || number / 10 > last_hit / 10);
        assert_eq!(got, expected.collect::<Vec<i64>>(), "packet {lost} of picture {hit}");
    }
}

#[test]
fn reports_are_repeated_and_say_the_same() {
    let parameters = parameters_of(Codec::H264, samples::H264_BASELINE_1080);
    let frames: Vec<Frame> =
        (0..400).map(|number| picture(Codec::H264, number, 0, true, &[unit(&[0x65, 0x88], 10)])).collect();
    let packets = packets(&written(&FORMS[0], &[parameters_frame(TrackId::VIDEO, &parameters)], &frames));
    let reports: Vec<_> = packets
        .iter()
        .filter(|(channel, _)| *channel == 1)
        .flat_map(|(_, packet)| sender_reports(packet))
        .collect();
    assert_eq!(reports.len(), 3, "at the beginning, and each five seconds of thirteen");
    for report in &reports {
        let passed = report.ntp.as_nanos() - reports[0].ntp.as_nanos();
        assert_eq!(passed * 9 / 100_000, i64::from(report.timestamp - reports[0].timestamp));
    }
    assert!(reports[1].packets > 0 && reports[1].octets > reports[1].packets);
}

#[test]
fn aac_behind_its_length_alone_is_read_whole_and_in_pieces() {
    let format = Format::read(97, Some("MP4A-LATM/44100"), "cpresent=0;config=40002420");
    let mut demuxer = Demuxer::new([format]);
    let mut got = Vec::new();
    let packet = |sequence: u8, timestamp: u8, marker: bool, payload: &[u8]| {
        [&[0x80, u8::from(marker) << 7 | 97, 0, sequence, 0, 0, 0, timestamp, 0, 0, 0, 7][..], payload]
            .concat()
    };
    let long = [&[255, 45][..], &[9; 300]].concat();
    for packet in [
        packet(1, 0, true, b"\x03one"),
        packet(2, 1, false, long.split_at(100).0),
        packet(3, 1, true, long.split_at(100).1),
        packet(4, 2, true, b"\x05cut"),
        packet(5, 3, true, b"\x01a\x02bc"),
    ] {
        demuxer.packet(0, &packet, Now(0), &mut |event| match event {
            Event::Frame(frame) if frame.is_media() => got.push(data(&frame).to_vec()),
            _ => {}
        });
    }
    assert_eq!(got, [&b"one"[..], &[9; 300], b"a", b"bc"]);
    assert_eq!(demuxer.counters().malformed_packets, 1);
}

#[test]
fn the_end_of_a_fragment_of_a_picture_that_is_over_is_none_of_the_next_one() {
    let format = Format::read(96, Some("H264/90000"), "");
    let mut demuxer = Demuxer::new([format]);
    let packet = |sequence: u8, timestamp: u8, payload: &[u8]| {
        [&[0x80, 96, 0, sequence, 0, 0, 0, timestamp, 0, 0, 0, 7][..], payload].concat()
    };
    for packet in [
        packet(1, 0, &[0x41; 30]),
        // One is missing before it, and the picture is over.
        packet(3, 0, &[0x7c, 0x85, 1]),
        packet(4, 1, &[0x7c, 0x45, 2]),
        packet(5, 2, &[0x41, 1]),
    ] {
        demuxer.packet(0, &packet, Now(0), &mut |event| panic!("{event:?}"));
    }
    assert_eq!(demuxer.counters().malformed_packets, 1);
}
