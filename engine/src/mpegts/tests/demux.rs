//! What we write, read back: cut anywhere, with packets lost, and whatever else comes.

use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;
use crate::{
    codec::Shape,
    mpegts::demux::{Counters, Demuxer},
    session::Event,
};
use scenes::{Scene, WRITERS, Writer, solid};

/// What came out.
#[derive(Debug, Default)]
pub struct Out {
    pub frames: Vec<Frame>,
    pub remarks: Vec<&'static str>,
    pub counters: Counters,
    pub held_bytes: usize,
}

/// Reads bytes in pieces that end at `cuts`.
pub fn read_in_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Out {
    let mut demuxer = Demuxer::default();
    let mut out = Out::default();
    let (frames, remarks) = (&mut out.frames, &mut out.remarks);
    let mut take = |event| match event {
        Event::Frame(frame) => frames.push(frame),
        Event::Remark(remark) => remarks.push(remark),
        other => panic!("{other:?}"),
    };
    for piece in pieces {
        demuxer.push(piece, &mut take);
        out.held_bytes = out.held_bytes.max(demuxer.held_bytes());
    }
    demuxer.finish(&mut take);
    out.counters = demuxer.counters();
    out
}

pub fn read(bytes: &[u8]) -> Out {
    read_in_pieces([bytes])
}

impl Out {
    pub fn media(&self, track: TrackId) -> Vec<&Frame> {
        self.frames.iter().filter(|frame| frame.is_media() && frame.track == track).collect()
    }

    pub fn parameters(&self, track: TrackId) -> Vec<&Parameters> {
        let of_track = self.frames.iter().filter(|frame| frame.track == track);
        of_track
            .filter_map(|frame| match &frame.payload {
                Payload::Parameters(parameters) => Some(&**parameters),
                _ => None,
            })
            .collect()
    }
}

/// Frames in words, with a check in place of their bytes.
pub fn words(frames: &[Frame]) -> Vec<String> {
    frames
        .iter()
        .map(|frame| {
            let times = [frame.dts.ticks, frame.pts.ticks];
            match &frame.payload {
                Payload::Video { codec, key, data } => {
                    format!("{codec:?} {times:?} {key} {:08x}", crc::crc(data))
                }
                Payload::Audio { codec, data } => format!("{codec:?} {times:?} {:08x}", crc::crc(data)),
                other => format!("{other:?} {times:?}"),
            }
        })
        .collect()
}

/// What is the same before and after: codec, key, and bytes.
fn content(frame: &Frame) -> (TrackId, bool, Bytes) {
    let (Payload::Video { data, .. } | Payload::Audio { data, .. }) = &frame.payload else { panic!() };
    (frame.track, frame.is_key(), data.clone())
}

/// A time as it is written: 90 kHz, behind the delay.
fn in_stream(time: MediaTime) -> i64 {
    time.ticks_at(90_000) + DELAY
}

#[test]
fn whatever_is_written_is_read_back() {
    for scene in scenes::all() {
        for writer in WRITERS {
            let bytes = scene.written_by(writer);
            let out = read(&bytes);
            let what = format!("{} by {writer:?}", scene.name);
            let counters = Counters { packets: bytes.len() as u64 / 188, ..Counters::default() };
            assert_eq!((&out.counters, &out.remarks[..]), (&counters, &[][..]), "{what}");
            // A wire begins with its first entrance, others with what came before.
            let skipped = match writer {
                Writer::Wire => scene.frames.iter().position(Frame::is_key).unwrap_or(0),
                _ => 0,
            };
            let sent: Vec<&Frame> = scene.frames[skipped..].iter().filter(|frame| frame.is_media()).collect();
            let got: Vec<&Frame> = out.frames.iter().filter(|frame| frame.is_media()).collect();
            assert_eq!(got.len(), sent.len(), "{what}");
            for (sent, got) in sent.into_iter().zip(got) {
                assert!(content(sent) == content(got), "{what}: {:?}", got.dts);
            }
            for track in &scene.tracks {
                let [parameters] = out.parameters(track.id)[..] else { panic!("{what}") };
                assert_eq!(parameters.shape, track.parameters.shape, "{what}");
            }
        }
    }
}

#[test]
fn times_come_back_with_the_delay_on_a_clock_that_does_not_wrap() {
    let mut compared = 0;
    for scene in scenes::all() {
        // The clock waits for one that lags so much, and a pause in a file has no mark of its own.
        if scene.name == "sound that lags too much" {
            continue;
        }
        let out = read(&scene.written_by(Writer::Wire));
        let first = scene.frames.iter().position(Frame::is_key).unwrap_or(0);
        let sent: Vec<&Frame> = scene.frames[first..].iter().filter(|frame| frame.is_media()).collect();
        let got: Vec<&Frame> = out.frames.iter().filter(|frame| frame.is_media()).collect();
        // What is before zero is written modulo 2^33.
        let shift = got[0].dts.ticks - in_stream(sent[0].dts);
        assert!(shift == 0 || shift == 1 << 33 && sent[0].dts.ticks < 0, "{}: {shift}", scene.name);
        for (sent, got) in sent.into_iter().zip(got) {
            let expected = [sent.dts, sent.pts].map(|time| in_stream(time) + shift);
            assert_eq!([got.dts.ticks, got.pts.ticks], expected, "{}", scene.name);
            compared += 1;
        }
    }
    assert!(compared > 5000, "{compared}");
}

#[test]
fn each_codec_comes_back_with_its_configuration() {
    let key = |unit: &str| hex(unit);
    for (track, data, whole) in [
        (h264(), key(samples::H264_IDR), true),
        (track(VIDEO, parameters(Codec::H264, samples::H264_444_SAR)), key(samples::H264_IDR), true),
        (track(VIDEO, parameters(Codec::H264, samples::H264_BASELINE_1080)), key(samples::H264_IDR), true),
        (h265(), key(samples::H265_IDR), true),
        (track(VIDEO, parameters(Codec::H265, samples::H265_444_SAR)), key(samples::H265_CRA), true),
        // Sizes and pace in the record are ffmpeg's guesses.
        (h266(), key(samples::H266_IDR)[7..].to_vec(), false),
        (
            track(VIDEO, parameters(Codec::H266, samples::H266_MAIN10_1080_HDR)),
            key(samples::H266_CRA)[7..].to_vec(),
            false,
        ),
    ] {
        let mut segmenter =
            crate::mpegts::Segmenter::new(std::slice::from_ref(&track), MediaTime::from_millis(0));
        let mut bytes = bytes::BytesMut::new();
        segmenter.write(&[picture(0, 40, true, data.clone())], &mut bytes);
        let out = read(&bytes);
        let [parameters] = out.parameters(VIDEO)[..] else { panic!("{out:?}") };
        let wanted = &track.parameters;
        assert_eq!((parameters.shape, &parameters.codec_string), (wanted.shape, &wanted.codec_string));
        assert_eq!(parameters.nal_length_size(), wanted.nal_length_size());
        if whole {
            assert_eq!(parameters.configuration, wanted.configuration, "{}", wanted.codec_string);
        } else {
            use crate::codec::h266::Configuration;
            let [ours, theirs] = [parameters, wanted]
                .map(|parameters| Configuration::parse(&parameters.configuration).unwrap());
            assert_eq!((ours.parameter_sets, ours.native), (theirs.parameter_sets, theirs.native));
        }
        let [frame] = out.media(VIDEO)[..] else { panic!("{out:?}") };
        assert_eq!(content(frame), (VIDEO, true, data.into()));
        assert_eq!((frame.dts.ticks, frame.pts.ticks), (DELAY, DELAY + 3600));
    }
}

/// Frames of sound that are whole in the eyes of a reader.
pub fn framed(codec: Codec, number: u32) -> Vec<u8> {
    match codec {
        Codec::Mp3 => {
            // 128 kbit/s at 48 kHz are 384 bytes.
            let mut frame = hex(samples::MP3_48000_STEREO);
            frame.extend(solid(384 - frame.len(), number));
            frame
        }
        Codec::Ac3 => {
            let mut frame = hex(samples::AC3_48000_STEREO);
            frame.extend(solid(768 - frame.len(), number));
            frame
        }
        // CELT, 20 ms.
        Codec::Opus => [&[0xfc][..], &noise(100 + (number % 300) as usize, number)].concat(),
        _ => noise(200 + (number % 300) as usize, number),
    }
}

#[test]
fn each_kind_of_sound_comes_back_with_its_shape() {
    let shape =
        |sample_rate, channels, packet_samples| Shape::Audio { sample_rate, channels, packet_samples };
    for (track, expected) in [
        (aac(), shape(48_000, 2, 1024)),
        (track(AUDIO, parameters(Codec::Aac, samples::AAC_LC_51)), shape(48_000, 6, 1024)),
        (mp3(), shape(48_000, 2, 1152)),
        (ac3(), shape(48_000, 2, 1536)),
        (opus(1), shape(48_000, 1, 0)),
        (opus(6), shape(48_000, 6, 0)),
    ] {
        let codec = track.parameters.codec;
        let frames: Vec<Frame> =
            (0..40u32).map(|number| sound(i64::from(number) * 20, framed(codec, number))).collect();
        let out = read(&mux(&[track], &[&frames]));
        let [parameters] = out.parameters(AUDIO)[..] else { panic!("{codec:?}: {:?}", out.counters) };
        assert_eq!((parameters.codec, parameters.shape), (codec, expected));
        let got = out.media(AUDIO);
        assert_eq!(got.len(), frames.len());
        for (sent, got) in frames.iter().zip(got) {
            assert!(content(sent) == content(got));
            assert!(matches!(got.payload, Payload::Audio { codec: got, .. } if got == codec));
            assert_eq!(got.dts.ticks, in_stream(sent.dts));
        }
    }
}

#[derive(Clone, Debug)]
struct Choice {
    kind: Option<bool>,
    step: i64,
    size: usize,
    offset: i64,
}

fn choice() -> impl Strategy<Value = Choice> {
    let size =
        prop_oneof![8 => 1..600usize, 3 => 150..200usize, 2 => 600..9000usize, 1 => 65_000..70_000usize];
    (any::<Option<bool>>(), 0..120i64, size, 0..200i64).prop_map(|(kind, step, size, offset)| Choice {
        kind,
        step,
        size,
        offset,
    })
}

fn scene_of(choices: &[Choice], codec: Codec) -> Scene {
    let sound_track = match codec {
        Codec::Mp3 => mp3(),
        Codec::Ac3 => ac3(),
        Codec::Opus => opus(2),
        _ => aac(),
    };
    let mut millis = 0;
    let frames = choices.iter().zip(0u32..).map(|(choice, number)| {
        millis += choice.step;
        match choice.kind {
            Some(key) => {
                let key = key || number == 0;
                let time = MediaTime::from_millis(millis);
                scenes::slice(time, time.plus_nanos(choice.offset * 1_000_000), key, choice.size)
            }
            None if codec == Codec::Aac => sound(millis, noise(choice.size.min(8000), number)),
            None => sound(millis, framed(codec, number)),
        }
    });
    Scene { name: "by chance", frames: frames.collect(), tracks: vec![h264(), sound_track] }
}

fn any_codec() -> impl Strategy<Value = Codec> {
    prop_oneof![Just(Codec::Aac), Just(Codec::Mp3), Just(Codec::Ac3), Just(Codec::Opus)]
}

/// Pieces between these places.
fn pieces<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn frames_of_chance_come_back_whoever_wrote_them_and_wherever_they_are_cut(
        choices in vec(choice(), 1..40),
        codec in any_codec(),
        writer in prop_oneof![Just(WRITERS[0]), Just(WRITERS[1]), Just(WRITERS[2])],
        cuts in vec(any::<Index>(), 0..60),
    ) {
        let scene = scene_of(&choices, codec);
        let bytes = scene.written_by(writer);
        let out = read_in_pieces(pieces(&bytes, &cuts));
        // Pictures before the first key frame come before their parameters.
        let early = scene.frames.iter().take_while(|frame| !frame.is_key()).filter(|frame| frame.is_video()).count();
        let packets = bytes.len() as u64 / 188;
        let expected = Counters { packets, early_frames: early as u64, ..Counters::default() };
        prop_assert_eq!(&out.counters, &expected);
        let whole = read(&bytes);
        prop_assert_eq!(words(&out.frames), words(&whole.frames));
        for track in [VIDEO, AUDIO] {
            let sent: Vec<&Frame> = scene.frames.iter().filter(|frame| frame.track == track).collect();
            let skipped = if track == VIDEO { early } else { 0 };
            let got = out.media(track);
            prop_assert_eq!(got.len() + skipped, sent.len());
            for (sent, got) in sent[skipped..].iter().zip(got) {
                prop_assert!(content(sent) == content(got));
                if !matches!(writer, Writer::File(_)) {
                    prop_assert_eq!([got.dts.ticks, got.pts.ticks], [sent.dts, sent.pts].map(in_stream));
                }
            }
        }
    }

    #[test]
    fn of_what_is_lost_nothing_comes_out_and_the_rest_does(
        lost in vec(any::<Index>(), 1..12),
    ) {
        let Some(scene) = scenes::all().into_iter().find(|scene| scene.name == "both") else { panic!() };
        let bytes = scene.written_by(Writer::Wire);
        let packets = bytes.len() / 188;
        // Without the first tables and the first key frame nothing is known until the next.
        let lost: Vec<usize> = lost.iter().map(|place| 60 + place.index(packets - 60)).collect();
        let kept = bytes.chunks(188).enumerate().filter(|(place, _)| !lost.contains(place)).map(|(_, packet)| packet);
        let out = read_in_pieces(kept);
        // Each packet that is lost costs the frame it was part of, and the one before if that has not ended yet.
        let mut sent = scene.frames.iter().map(content);
        let got: Vec<_> = out.frames.iter().filter(|frame| frame.is_media()).map(content).collect();
        prop_assert!(got.len() + 2 * lost.len() + 2 >= scene.frames.len(), "{} of {}", got.len(), scene.frames.len());
        for frame in got {
            prop_assert!(sent.any(|sent| sent == frame), "a frame came out that did not go in");
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_grow_and_what_follows_is_read(
        garbage in vec(prop_oneof![
            vec(any::<u8>(), 0..700),
            // Packets whose heads mean something.
            (0u8..4, prop_oneof![Just(0u16), Just(0x1000), Just(FIRST), Just(SECOND), 0..0x2000u16], any::<u8>(), vec(any::<u8>(), 184))
                .prop_map(|(start, pid, control, rest)| {
                    let [high, low] = (pid | u16::from(start) << 13).to_be_bytes();
                    [&[0x47, high, low, control][..], &rest].concat()
                }),
        ], 0..40),
        piece in 1..1000usize,
    ) {
        let garbage = garbage.concat();
        let Some(scene) = scenes::all().into_iter().find(|scene| scene.name == "both") else { panic!() };
        let sound = scene.written_by(Writer::Wire);
        let bytes = [&garbage[..], &sound[..]].concat();
        let out = read_in_pieces(bytes.chunks(piece));
        prop_assert!(out.held_bytes < 1 << 20, "{} bytes", out.held_bytes);
        prop_assert_eq!(words(&out.frames), words(&read(&bytes).frames));
        // From the second key frame on there is no trace of it. Bytes that look like a map with a right CRC are beyond chance.
        let second = scene.frames.iter().rposition(Frame::is_key).unwrap_or(0);
        let sent: Vec<_> = scene.frames[second..].iter().map(content).collect();
        let got: Vec<_> = out.frames.iter().filter(|frame| frame.is_media()).map(content).collect();
        prop_assert!(got.ends_with(&sent));
    }
}
