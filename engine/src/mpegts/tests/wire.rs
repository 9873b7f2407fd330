//! The live form: what stands before an entrance, what changes in mid-stream, and the envelopes.

use bytes::{BufMut, BytesMut};

use super::*;
use crate::{
    mpegts::{FORM, TsWire},
    session::Envelope,
};
use scenes::{Live, Scene, slice, solid};

fn word(track: TrackId, payload: Payload) -> Frame {
    let time = MediaTime::from_millis(0);
    Frame { track, dts: time, pts: time, payload }
}

fn told(track: &Track) -> Frame {
    word(track.id, Payload::Parameters(track.parameters.clone()))
}

fn at(millis: i64, key: bool) -> Frame {
    slice(MediaTime::from_millis(millis), MediaTime::from_millis(millis), key, 300)
}

/// What a wire writes for each of these frames, one after the other.
fn written(frames: &[Frame]) -> Vec<Vec<u8>> {
    let mut wire = (FORM.open)();
    let write = |frame: &Frame| {
        let mut out = BytesMut::new();
        wire.frame(frame, &mut out);
        out.to_vec()
    };
    frames.iter().map(write).collect()
}

fn pids(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks(188).map(|packet| u16::from(packet[1] & 0x1f) << 8 | u16::from(packet[2])).collect()
}

#[test]
fn each_entrance_can_be_read_alone() {
    let mut entrances = 0;
    for scene in scenes::all() {
        let live = Live::of(&scene);
        for place in live.entrances() {
            let Some([header, refresh]) = &live.calls[place].entrance else { panic!() };
            assert!(header.is_empty() && !refresh.is_empty(), "{}", scene.name);
            // The tables stand first, and what a decoder can begin at follows.
            let bytes = live.watched_from(place);
            assert_eq!(pids(&bytes)[..2], [0, 0x1000], "{}", scene.name);
            let file = reader::read(&bytes);
            assert_eq!(file.streams.len(), scene.tracks.len());
            assert!(file.units[0].random_access, "{}", scene.name);
            assert_eq!(file.readings[0].0, 0, "the clock is read before the first frame");
            entrances += 1;
        }
    }
    assert!(entrances > 50, "{entrances}");
}

#[test]
fn times_are_those_of_the_stream_wherever_a_wire_begins() {
    let frames = [told(&h264()), at(5000, true), at(5040, false)];
    let early = written(&frames);
    let late = written(&[told(&h264()), at(5040, true)]);
    let times = |bytes: &[u8]| {
        let file = reader::read(bytes);
        (file.units[0].dts, file.readings[0].1)
    };
    assert_eq!(times(&early[1]), (DELAY + 5000 * 90, 5000 * 90));
    assert_eq!(times(&late[1]), (DELAY + 5040 * 90, 5040 * 90));
    let both = reader::read(&early.concat());
    assert_eq!(both.units[1].dts, DELAY + 5040 * 90);
}

#[test]
fn whole_packets_are_written_so_that_a_datagram_never_ends_inside_one() {
    assert_eq!((FORM.name, FORM.datagram), ("ts", Some(1316)));
    for scene in scenes::all() {
        for call in Live::of(&scene).calls {
            let [header, refresh] = call.entrance.unwrap_or_default();
            assert!([call.bytes, header, refresh].iter().all(|bytes| bytes.len() % 188 == 0));
        }
    }
}

#[test]
fn each_call_is_one_piece_in_an_envelope_of_its_length() {
    struct Bracket;
    impl Envelope for Bracket {
        fn open(len: usize, out: &mut BytesMut) {
            assert!(len > 0);
            out.put_u64(len as u64);
        }
        fn close(out: &mut BytesMut) {
            out.put_u8(b']');
        }
    }
    let unwrapped = |bytes: &[u8]| {
        if bytes.is_empty() {
            return Vec::new();
        }
        let (len, rest) = bytes.split_at(8);
        let (piece, tail) = rest.split_at(u64::from_be_bytes(len.try_into().unwrap()) as usize);
        assert_eq!(tail, b"]");
        piece.to_vec()
    };
    for scene in scenes::all() {
        let plain = Live::of(&scene);
        let wrapped = Live::through(&mut TsWire::<Bracket>::default(), &scene);
        for (plain, wrapped) in plain.calls.iter().zip(&wrapped.calls) {
            assert_eq!(plain.bytes, unwrapped(&wrapped.bytes), "{}", scene.name);
            let refresh = |entrance: &Option<[Vec<u8>; 2]>| entrance.clone().unwrap_or_default()[1].clone();
            assert_eq!(refresh(&plain.entrance), unwrapped(&refresh(&wrapped.entrance)), "{}", scene.name);
        }
    }
}

#[test]
fn parameters_that_change_and_tracks_that_come_make_a_new_version_of_the_map() {
    let other = track(VIDEO, parameters(Codec::H264, samples::H264_BASELINE_1080));
    let frames = [
        told(&aac()),
        sound(0, noise(200, 1)),
        told(&h264()),
        at(30, true),
        sound(50, noise(200, 2)),
        // The same again is no change.
        told(&h264()),
        told(&aac()),
        at(70, false),
        told(&other),
        at(110, true),
        // Two changes before the next frame are one.
        told(&h265()),
        told(&mp3()),
        at(150, false),
    ];
    let calls = written(&frames);
    let words = [0, 2, 5, 6, 8, 10, 11];
    assert!(words.iter().all(|place| calls[*place].is_empty()), "only frames are written");
    let file = reader::read(&calls.concat());
    assert_eq!(file.versions, [0, 1, 2, 3]);
    // The track that came first keeps its PID, and pictures carry the clock as soon as there are some.
    let version = |calls: &[Vec<u8>]| {
        let file = reader::read(&calls.concat());
        let streams: Vec<_> = file.streams.iter().map(|stream| (stream.pid, stream.kind)).collect();
        (streams, file.clock_pid)
    };
    assert_eq!(version(&calls[..3]), (vec![(FIRST, 0x0f)], FIRST));
    assert_eq!(version(&calls[3..9]), (vec![(FIRST, 0x0f), (SECOND, 0x1b)], SECOND));
    assert_eq!(version(&calls[12..]), (vec![(FIRST, 0x03), (SECOND, 0x24)], SECOND));
    // The first frame after a change stands behind the tables.
    for place in [1, 3, 9, 12] {
        assert_eq!(pids(&calls[place])[..2], [0, 0x1000], "frame {place}");
    }
}

#[test]
fn a_codec_that_cannot_be_said_any_more_leaves_and_comes_back_to_its_pid() {
    let av1 = track(VIDEO, parameters(Codec::Av1, samples::AV1_MAIN_180));
    let frames = [
        told(&h264()),
        told(&aac()),
        at(0, true),
        sound(0, noise(90, 1)),
        told(&av1),
        picture(40, 0, true, hex(samples::AV1_KEY)),
        sound(40, noise(90, 2)),
        told(&h264()),
        at(80, true),
        sound(80, noise(90, 3)),
    ];
    let calls = written(&frames);
    let kinds = |calls: &[Vec<u8>]| {
        let file = reader::read(&calls.concat());
        file.streams.iter().map(|stream| (stream.pid, stream.kind)).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&calls[..4]), [(FIRST, 0x1b), (SECOND, 0x0f)]);
    assert_eq!(kinds(&calls[6..7]), [(SECOND, 0x0f)]);
    assert_eq!(kinds(&calls[8..]), [(FIRST, 0x1b), (SECOND, 0x0f)]);
    assert_eq!(reader::read(&calls.concat()).versions, [0, 1, 2]);
}

#[test]
fn sound_can_be_entered_where_its_pictures_cannot_be_said() {
    let av1 = track(VIDEO, parameters(Codec::Av1, samples::AV1_MAIN_180));
    let frames: Vec<Frame> = (0..100)
        .flat_map(|number| {
            [
                picture(40 * number, 0, number % 25 == 0, hex(samples::AV1_KEY)),
                sound(40 * number, noise(200, 1)),
            ]
        })
        .collect();
    let live = Live::of(&Scene { name: "", tracks: vec![av1.clone(), aac()], frames: frames.clone() });
    assert_eq!(live.entrances(), [0, 50, 100, 150]);
    for place in live.entrances() {
        let bytes = live.watched_from(place);
        assert_eq!(reader::read(&bytes).units.len(), (200 - place) / 2);
        rules::assert_lawful(&bytes, true, "sound without its pictures");
    }
    // Nothing at all can be entered where nothing can be said.
    let live = Live::of(&Scene { name: "", tracks: vec![av1], frames });
    assert!(live.entrances().is_empty() && live.calls.iter().all(|call| call.bytes.is_empty()));
}

#[test]
fn a_discontinuity_is_marked_on_all_streams_and_readings_begin_anew() {
    let notice = word(TrackId::DATA, Payload::Discontinuity);
    let frames = [
        // Nothing was there that could be continued.
        notice.clone(),
        told(&h264()),
        told(&aac()),
        at(0, true),
        sound(0, noise(90, 1)),
        at(40, false),
        notice,
        at(3_000_000, true),
        sound(3_000_000, noise(90, 1)),
    ];
    let calls = written(&frames);
    let marked: Vec<Vec<u16>> = calls
        .iter()
        .map(|bytes| {
            let marks = |packet: &&[u8]| packet[3] & 0x20 != 0 && packet[4] > 0 && packet[5] & 0x80 != 0;
            bytes.chunks(188).filter(marks).flat_map(pids).collect()
        })
        .collect();
    assert_eq!(marked[7], [FIRST, SECOND]);
    assert_eq!(marked.concat().len(), 2);
    let file = reader::read(&calls.concat());
    // The last before, the mark itself, and the picture behind it.
    assert_eq!(file.leaps, [2]);
    assert_eq!(file.readings[1..], [(2, 3600), (3, 270_000_000), (3, 270_000_000)]);
}

#[test]
fn frames_of_which_nothing_can_be_said_write_nothing() {
    let frames = [
        at(0, true),
        told(&h264()),
        picture(40, 0, true, Vec::new()),
        word(TrackId::DATA, Payload::Metadata(Bytes::from_static(b"\x08"))),
        word(TrackId::DATA, Payload::Script(Bytes::from_static(b"x"))),
        sound(40, noise(90, 1)),
    ];
    assert!(written(&frames).iter().all(Vec::is_empty));
}

#[test]
fn pictures_without_a_length_are_as_long_as_they_like() {
    let long = slice(MediaTime::from_millis(0), MediaTime::from_millis(0), true, 3_000_000);
    let calls = written(&[told(&h264()), long, at(40, false)]);
    let file = reader::read(&calls.concat());
    assert!(file.units[0].open_end && !file.units[1].open_end);
    assert!(file.units[0].payload.ends_with(&solid(3_000_000, 0)));
}
