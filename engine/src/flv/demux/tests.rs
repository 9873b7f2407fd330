//! Bodies as real encoders write them, and what the muxer writes read back.

use super::*;
use crate::codec::samples::{self, hex};
use crate::flv::mux::Body;
use proptest::prelude::*;

/// An avcC of 320 by 180 pixels as x264 writes it.
pub(crate) const AVCC: &[u8] = &[
    0x01, 0x42, 0xc0, 0x0d, 0xff, 0xe1, 0x00, 0x18, 0x67, 0x42, 0xc0, 0x0d, 0xd9, 0x01, 0x41, 0x9f, 0x9e,
    0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0x20, 0xf1, 0x42, 0x99, 0x20, 0x01, 0x00,
    0x04, 0x68, 0xcb, 0x83, 0xcb, 0x20,
];
/// AAC-LC, 44.1 kHz, stereo.
pub(crate) const ASC: &[u8] = &[0x12, 0x10];

/// A frame shown when it is decoded.
pub(crate) fn frame(track: TrackId, millis: i64, payload: Payload) -> Frame {
    let time = MediaTime::from_millis(millis);
    Frame { track, dts: time, pts: time, payload }
}

/// A frame of parameters.
pub(crate) fn parameters(codec: Codec) -> Frame {
    let parameters = match codec {
        Codec::H264 => Parameters::parse(codec, Bytes::from_static(AVCC)),
        Codec::H266 => Parameters::parse(codec, hex(samples::H266_MAIN10_242).into()),
        Codec::Aac => Parameters::parse(codec, Bytes::from_static(ASC)),
        Codec::Opus => Ok(Parameters::of_opus(2)),
        _ => panic!("no sample of {codec:?}"),
    };
    let track = if codec.is_video() { TrackId::VIDEO } else { TrackId::AUDIO };
    frame(track, 0, Payload::Parameters(Arc::new(parameters.unwrap())))
}

/// What is emitted for bodies at times 0, 10, 20 and so on.
fn demux(bodies: &[(TagKind, &'static [u8])]) -> Result<Vec<Event>, Error> {
    let mut demuxer = Demuxer::default();
    let mut events = Vec::new();
    for (index, (kind, body)) in bodies.iter().enumerate() {
        demuxer.body(*kind, index as i64 * 10, &Bytes::from_static(body), &mut |event| events.push(event))?;
    }
    Ok(events)
}

fn frames(events: &[Event]) -> Vec<&Frame> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Frame(frame) => Some(frame),
            _ => None,
        })
        .collect()
}

const AVC_HEADER: &[u8] = &[
    0x17, 0, 0, 0, 0, 0x01, 0x42, 0xc0, 0x0d, 0xff, 0xe1, 0x00, 0x18, 0x67, 0x42, 0xc0, 0x0d, 0xd9, 0x01,
    0x41, 0x9f, 0x9e, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0x20, 0xf1, 0x42, 0x99,
    0x20, 0x01, 0x00, 0x04, 0x68, 0xcb, 0x83, 0xcb, 0x20,
];

#[test]
fn classic_bodies_become_parameters_and_frames() {
    use TagKind::{Audio, Video};
    let events = demux(&[
        (Video, AVC_HEADER),
        (Audio, b"\xaf\x00\x12\x10"),
        (Video, b"\x17\x01\x00\x00\x50key"),
        (Video, b"\x27\x01\xff\xff\xffinter"),
        (Audio, b"\xaf\x01sound"),
    ])
    .unwrap();
    let frames = frames(&events);
    assert_eq!(frames.len(), 5);
    assert!(
        matches!(&frames[0].payload, Payload::Parameters(p) if p.codec == Codec::H264 && p.configuration == AVCC)
    );
    assert!(
        matches!(&frames[1].payload, Payload::Parameters(p) if p.codec == Codec::Aac && p.configuration == ASC)
    );
    assert!(matches!(&frames[2].payload, Payload::Video { key: true, data, .. } if data == "key"));
    assert_eq!((frames[2].dts.as_millis(), frames[2].pts.as_millis()), (20, 100));
    assert!(matches!(&frames[3].payload, Payload::Video { key: false, data, .. } if data == "inter"));
    assert_eq!((frames[3].dts.as_millis(), frames[3].pts.as_millis()), (30, 29));
    assert!(matches!(&frames[4].payload, Payload::Audio { data, .. } if data == "sound"));
    assert_eq!(frames[4].track, TrackId::AUDIO);
}

#[test]
fn a_repeated_header_is_not_a_frame_and_a_changed_one_is() {
    use TagKind::Audio;
    let events =
        demux(&[(Audio, b"\xaf\x00\x12\x10"), (Audio, b"\xaf\x00\x12\x10"), (Audio, b"\xaf\x00\x11\x90")]);
    assert_eq!(frames(&events.unwrap()).iter().map(|f| f.dts.as_millis()).collect::<Vec<_>>(), [0, 20]);
}

#[test]
fn a_payload_is_a_slice_of_its_body() {
    let mut demuxer = Demuxer::default();
    let body = Bytes::from(b"\xaf\x01sound".to_vec());
    let mut events = Vec::new();
    let mut emit = |event| events.push(event);
    demuxer.body(TagKind::Audio, 0, &Bytes::from_static(b"\xaf\x00\x12\x10"), &mut emit).unwrap();
    demuxer.body(TagKind::Audio, 0, &body, &mut emit).unwrap();
    let Some(Event::Frame(Frame { payload: Payload::Audio { data, .. }, .. })) = events.pop() else {
        panic!("no sound")
    };
    assert_eq!(data.as_ptr(), body[2..].as_ptr());
}

#[test]
fn what_says_nothing_makes_no_frame() {
    use TagKind::{Audio, Video};
    let events = demux(&[
        (Video, b""),
        (Audio, b""),
        (Video, AVC_HEADER),
        (Video, b"\x17\x01\x00\x00\x00"),
        (Video, b"\x17\x02\x00\x00\x00"),
        (Video, b"\x57\x00"),
        (Audio, b"\xaf\x00\x12\x10"),
        (Audio, b"\xaf\x01"),
        (Video, b"\xd1\x00"),
        (Video, b"\x92avc1"),
        (Audio, b"\x92mp4a"),
        (Audio, b"\x94mp4a\x00\x02"),
    ])
    .unwrap();
    assert_eq!(events.len(), 2, "the two headers: {events:?}");
}

#[test]
fn frames_before_their_parameters_are_left_out_with_one_remark() {
    use TagKind::Video;
    let events = demux(&[
        (Video, b"\x17\x01\0\0\0a"),
        (Video, b"\x27\x01\0\0\0b"),
        (Video, AVC_HEADER),
        (Video, b"\x27\x01\0\0\0c"),
    ])
    .unwrap();
    assert!(matches!(events[..], [Event::Remark(_), Event::Frame(_), Event::Frame(_)]), "{events:?}");
}

#[test]
fn opus_without_a_head_gets_one_that_has_its_channels() {
    let channels = |body| {
        let events = demux(&[(TagKind::Audio, body)]).unwrap();
        let frames = frames(&events);
        assert_eq!(frames.len(), 2);
        let Payload::Parameters(parameters) = &frames[0].payload else { panic!("no parameters first") };
        parameters.configuration[9]
    };
    assert_eq!((channels(b"\x91Opus\xfc\x00"), channels(b"\x91Opus\x78\x00")), (2, 1));
}

#[test]
fn mp3_gets_its_parameters_from_its_first_frame() {
    for body in [b"\x2f\xff\xfb\x90\x64" as &[u8], b"\x91.mp3\xff\xfb\x90\x64"] {
        let events = demux(&[(TagKind::Audio, body), (TagKind::Audio, body)]).unwrap();
        let frames = frames(&events);
        assert_eq!(frames.len(), 3);
        assert!(matches!(&frames[0].payload, Payload::Parameters(p) if p.codec == Codec::Mp3));
        assert!(matches!(&frames[2].payload, Payload::Audio { data, .. } if data == &body[body.len() - 4..]));
    }
}

#[test]
fn ac3_gets_its_parameters_from_its_first_frame_and_needs_no_sequence_header() {
    let body = [&b"\x91ac-3"[..], &hex(samples::AC3_48000_STEREO)].concat().leak();
    let events = demux(&[
        (TagKind::Audio, b"\x90ac-3"),
        (TagKind::Audio, b"\x90ac-3\x10\x11\x40"),
        (TagKind::Audio, body),
        (TagKind::Audio, body),
    ])
    .unwrap();
    let frames = frames(&events);
    assert_eq!(frames.len(), 3);
    assert!(matches!(&frames[0].payload, Payload::Parameters(p) if p.configuration[..] == *b"\x10\x11\x40"));
    assert!(matches!(&frames[2].payload, Payload::Audio { codec: Codec::Ac3, data } if data == &body[5..]));
}

#[test]
fn enhanced_bodies_are_read_in_all_their_packet_types() {
    use TagKind::{Audio, Video};
    let start = [b"\x90avc1", AVCC].concat().leak();
    let events = demux(&[
        (Video, start),
        (Video, b"\x91avc1\x00\x00\x50key"),
        (Video, b"\xa3avc1inter"),
        // A modifier of three bytes (nanoseconds) before coded frames.
        (Video, b"\xa7\x02\x00\x00\x07\x03avc1nano"),
        // A modifier of 256 bytes has its length in two more.
        (Video, [b"\xa7\xff\x00\xff" as &[u8], &[9; 256], b"\x13avc1long"].concat().leak()),
        (Audio, b"\x90mp4a\x12\x10"),
        (Audio, b"\x91mp4asound"),
        (Video, b"\xd4avc1\x02\x00\x09colorInfo\x03\x00\x00\x09"),
    ])
    .unwrap();
    let frames = frames(&events);
    let data: Vec<&[u8]> = frames
        .iter()
        .filter_map(|frame| match &frame.payload {
            Payload::Video { data, .. } | Payload::Audio { data, .. } => Some(&data[..]),
            _ => None,
        })
        .collect();
    assert_eq!(data, [b"key" as &[u8], b"inter", b"nano", b"long", b"sound"]);
    assert_eq!(frames[1].pts.as_millis() - frames[1].dts.as_millis(), 80);
    assert!(frames[1].is_key() && !frames[2].is_key());
    assert!(matches!(&frames.last().unwrap().payload, Payload::ColorInfo { codec: Codec::H264, data }
        if &data[..] == b"\x02\x00\x09colorInfo\x03\x00\x00\x09"));
}

#[test]
fn a_configuration_that_is_spelled_shorter_says_nothing_new() {
    use TagKind::Video;
    // vpcC without its four bytes of version and flags: profile 0, level 3.1, 8 bits, 4:2:0.
    let events = demux(&[
        (Video, b"\x90vp09\x00\x1f\x80\x02\x02\x02\x00\x00"),
        (Video, b"\x90vp09\x00\x1f\x80\x02\x02\x02\x00\x00"),
    ]);
    assert_eq!(frames(&events.unwrap()).len(), 1);
}

#[test]
fn a_vvc_configuration_is_a_record_with_or_without_the_version_of_a_full_box() {
    use TagKind::Video;
    let record = hex(samples::H266_MAIN10_242);
    let events = demux(&[
        (Video, [b"\x90vvc1", &record[..]].concat().leak()),
        (Video, [b"\x90vvc1\0\0\0\0", &record[..]].concat().leak()),
        (Video, b"\x91vvc1\x00\x00\x50key"),
        (Video, b"\xa3vvc1inter"),
    ])
    .unwrap();
    let frames = frames(&events);
    assert_eq!(frames.len(), 3);
    assert!(matches!(&frames[0].payload, Payload::Parameters(p) if p.configuration == record));
    let key = Payload::Video { codec: Codec::H266, key: true, data: Bytes::from_static(b"key") };
    assert_eq!(format!("{:?}", frames[1].payload), format!("{key:?}"));
    assert_eq!(frames[1].pts.as_millis() - frames[1].dts.as_millis(), 80);
    assert!(!frames[2].is_key() && frames[2].pts == frames[2].dts);
}

#[test]
fn temporal_delimiters_are_not_part_of_an_av1_sample_however_many_there_are() {
    use TagKind::Video;
    let events =
        demux(&[(Video, b"\x90av01\x81\x04\x0c\x00"), (Video, b"\x91av01\x12\x00\x12\x00\x32\x01\x10")])
            .unwrap();
    let last = frames(&events).pop().unwrap();
    assert!(matches!(&last.payload, Payload::Video { data, .. } if &data[..] == b"\x32\x01\x10"), "{last:?}");
}

#[test]
fn what_is_not_supported_says_what_it_is() {
    use TagKind::{Audio, Video};
    for (kind, body, why) in [
        (Video, b"\x12\x00\x00\x00\x00" as &[u8], "Sorenson H.263 video"),
        (Video, b"\x14\x00\x00\x00\x00", "On2 VP6 video"),
        (Video, b"\x13\x00\x00\x00\x00", "Screen video"),
        (Video, b"\x91vp10\x00\x00\x00x", "a video FourCC other than avc1, hvc1, vvc1, av01, vp08 and vp09"),
        (Video, b"\x91Opusx", "a video FourCC other than avc1, hvc1, vvc1, av01, vp08 and vp09"),
        (Video, b"\x96\x10avc1\x00", "multitrack video"),
        (Video, b"\x95av01\x00", "AV1 configured by an MPEG-2 TS descriptor"),
        (Audio, b"\x95\x10mp4a\x00", "multitrack audio"),
        (Audio, b"\x91ec-3x", "an audio FourCC other than mp4a, Opus, .mp3 and ac-3"),
        (Audio, b"\xb2x", "Speex audio"),
        (Audio, b"\x62x", "Nellymoser audio"),
        (Audio, b"\x73x", "G.711 audio of two channels"),
        (Audio, b"\x12x", "ADPCM audio"),
    ] {
        let error = demux(&[(kind, body)]).unwrap_err();
        assert_eq!((error.kind, error.why), (ErrorKind::Unsupported, why));
    }
}

#[test]
fn a_key_frame_of_vp8_needs_no_configuration_before_it() {
    let key: &[u8] = b"\x91vp08\xf0\x02\x00\x9d\x01\x2a\x40\x01\xb4\x00\x00";
    let said: &[u8] = b"\x90vp08\x01\x00\x00\x00\x00\x00\x82\x02\x02\x02\x00\x00";
    let bare = demux(&[(TagKind::Video, key.to_vec().leak())]).unwrap();
    let Payload::Parameters(parameters) = &frames(&bare)[0].payload else { panic!("{bare:?}") };
    assert_eq!((parameters.codec, parameters.width_height()), (Codec::Vp8, Some((320, 180))));
    assert!(frames(&bare)[1].is_key());
    let told =
        demux(&[(TagKind::Video, said.to_vec().leak()), (TagKind::Video, key.to_vec().leak())]).unwrap();
    let Payload::Parameters(known) = &frames(&told)[0].payload else { panic!("{told:?}") };
    assert_eq!((known.configuration.clone(), frames(&told).len()), (parameters.configuration.clone(), 2));
}

#[test]
fn sound_of_telephones_says_all_in_its_first_byte() {
    for (body, codec) in [(b"\x72xy", Codec::PcmA), (b"\x82xy", Codec::PcmU)] {
        let events = demux(&[(TagKind::Audio, body), (TagKind::Audio, body)]).unwrap();
        let frames = frames(&events);
        let Payload::Parameters(parameters) = &frames[0].payload else { panic!("{frames:?}") };
        assert_eq!(**parameters, Parameters::of_voice(codec).unwrap());
        for frame in &frames[1..] {
            assert!(
                matches!(&frame.payload, Payload::Audio { codec: of, data } if *of == codec && data == "xy")
            );
        }
        assert_eq!(frames.len(), 3);
    }
}

#[test]
fn metadata_is_kept_without_its_name_and_other_scripts_with_it() {
    use TagKind::Script;
    let events = demux(&[
        (Script, b"\x02\x00\x0d@setDataFrame\x02\x00\x0aonMetaData\x08\x00\x00\x00\x00\x00\x00\x09"),
        (Script, b"\x02\x00\x0aonMetaData\x03\x00\x00\x09"),
        (Script, b"\x02\x00\x0d@setDataFrame\x02\x00\x0aonTextData\x05"),
        (Script, b"\x02\x00\x0aonCuePoint\x05"),
        (Script, b"\x02\x00\x11|RtmpSampleAccess\x01\x01\x01\x01"),
        (Script, b"\x02\x00\x08onStatus\x05"),
        (Script, b"\x02\x00\x0f@clearDataFrame\x02\x00\x0aonMetaData"),
    ])
    .unwrap();
    let frames = frames(&events);
    assert!(matches!(&frames[0].payload, Payload::Metadata(data) if &data[..] == b"\x08\0\0\0\0\0\0\x09"));
    assert!(matches!(&frames[1].payload, Payload::Metadata(data) if &data[..] == b"\x03\0\0\x09"));
    assert!(
        matches!(&frames[2].payload, Payload::Script(data) if &data[..] == b"\x02\x00\x0aonTextData\x05")
    );
    assert!(
        matches!(&frames[3].payload, Payload::Script(data) if &data[..] == b"\x02\x00\x0aonCuePoint\x05")
    );
    assert!(matches!(&frames[4].payload, Payload::Metadata(data) if data == NO_METADATA));
    assert!(frames.len() == 5 && frames.iter().all(|frame| frame.track == TrackId::DATA));
}

#[test]
fn metadata_that_viewers_could_not_read_is_left_out_with_one_remark() {
    use TagKind::Script;
    let deep = [b"\x02\x00\x0aonMetaData" as &[u8], &b"\x0a\0\0\0\x01".repeat(1000)].concat().leak();
    let large = [b"\x02\x00\x0aonMetaData\x0c\x00\x01\x00\x00" as &[u8], &[b'x'; 65_536]].concat().leak();
    let events =
        demux(&[(Script, deep), (Script, large), (Script, b"\x02\x00\x0aonMeta"), (Script, b"\x05")])
            .unwrap();
    assert!(matches!(events[..], [Event::Remark(_)]), "{events:?}");
}

#[test]
fn what_the_muxer_writes_is_read_back() {
    let media = |codec: Codec, key, offset: i64| {
        let data = Bytes::from_static(b"\x0a\x0bpayload");
        let payload = if codec.is_video() {
            Payload::Video { codec, key, data }
        } else {
            Payload::Audio { codec, data }
        };
        let track = if codec.is_video() { TrackId::VIDEO } else { TrackId::AUDIO };
        let mut media = frame(track, 50, payload);
        media.pts = MediaTime::from_millis(50 + offset);
        media
    };
    for (codec, key, offset) in [
        (Codec::H264, true, 80),
        (Codec::H264, false, -40),
        (Codec::H266, true, 80),
        (Codec::H266, false, 0),
        (Codec::Aac, true, 0),
        (Codec::Opus, true, 0),
    ] {
        let sent = [parameters(codec), media(codec, key, offset)];
        let mut demuxer = Demuxer::default();
        let mut events = Vec::new();
        for frame in &sent {
            let body = Body::of(frame).unwrap();
            let bytes = Bytes::from(body.parts().concat());
            demuxer.body(body.kind, frame.dts.ticks, &bytes, &mut |event| events.push(event)).unwrap();
        }
        assert_eq!(format!("{:?}", frames(&events)), format!("{:?}", sent.iter().collect::<Vec<_>>()));
    }
}

proptest! {
    #[test]
    fn arbitrary_bodies_never_panic(bodies in proptest::collection::vec((0u8..3, any::<Vec<u8>>()), 0..8)) {
        let mut demuxer = Demuxer::default();
        for (kind, body) in bodies {
            let kind = [TagKind::Audio, TagKind::Video, TagKind::Script][usize::from(kind)];
            let _ = demuxer.body(kind, 0, &Bytes::from(body), &mut |_| {});
        }
    }

    #[test]
    fn bodies_with_a_plausible_head_never_panic(
        first in any::<u8>(),
        four_cc in prop_oneof![Just(*b"avc1"), Just(*b"hvc1"), Just(*b"vvc1"), Just(*b"av01"), Just(*b"vp08"), Just(*b"vp09"), Just(*b"Opus"), Just(*b"mp4a"), Just(*b"ac-3")],
        rest: Vec<u8>,
    ) {
        let body = Bytes::from([&[first][..], &four_cc, &rest].concat());
        for kind in [TagKind::Audio, TagKind::Video] {
            let _ = Demuxer::default().body(kind, 0, &body, &mut |_| {});
        }
    }
}
