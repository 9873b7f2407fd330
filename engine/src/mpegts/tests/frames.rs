//! Frames of chance: whatever goes in comes out, in packets without a fault.

use proptest::{collection::vec, prelude::*};

use super::*;

#[derive(Clone, Debug)]
struct Choice {
    kind: Kind,
    /// Milliseconds from the frame of its track before it.
    step: i64,
    /// A fragment ends after it.
    cut: bool,
    seed: u32,
}

#[derive(Clone, Debug)]
enum Kind {
    Picture { key: bool, offset: i64, units: Vec<usize>, broken: bool },
    Sound(usize),
}

/// Mostly few bytes, around the borders of the first packets; now and then a lot.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => 0..600usize,
        4 => 130..200usize,
        2 => 600..9000usize,
        1 => 60_000..70_000usize,
        1 => 0..200_000usize,
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        (any::<bool>(), -100..300i64, vec(size(), 0..4), any::<bool>())
            .prop_map(|(key, offset, units, broken)| Kind::Picture { key, offset, units, broken }),
        size().prop_map(Kind::Sound),
    ]
}

fn choice(step: std::ops::Range<i64>) -> impl Strategy<Value = Choice> {
    (kind(), step, any::<bool>(), any::<u32>()).prop_map(|(kind, step, cut, seed)| Choice {
        kind,
        step,
        cut,
        seed,
    })
}

/// A frame of the time `millis`, and the payload that is to come of it.
fn frame(choice: &Choice, millis: i64, sound_track: &Track) -> (Frame, Option<Vec<u8>>) {
    match &choice.kind {
        Kind::Picture { key, offset, units, broken } => {
            let units: Vec<Vec<u8>> = units
                .iter()
                .zip(0u32..)
                .map(|(&len, number)| {
                    // A slice, and no other unit.
                    let mut unit = noise(len, choice.seed.wrapping_add(number));
                    if let Some(first) = unit.first_mut() {
                        *first = if *key { 0x65 } else { 0x41 };
                    }
                    unit
                })
                .collect();
            let units: Vec<&[u8]> = units.iter().map(|unit| &unit[..]).collect();
            let mut data = prefixed(&units);
            if *broken {
                data.extend([0, 9, 0, 0, 7]);
            }
            let config = hex(samples::H264_HIGH_720);
            let whole: Vec<&[u8]> = units.into_iter().filter(|unit| !unit.is_empty()).collect();
            let mut expected = vec![&[9, 0xf0][..]];
            if *key {
                expected.extend([&config[8..8 + 0x1a], &config[8 + 0x1a + 3..][..6]]);
            }
            expected.extend(&whole);
            let expected = (!whole.is_empty()).then(|| annex_b(&expected));
            (picture(millis, *offset, *key, data), expected)
        }
        Kind::Sound(len) => {
            let data = noise(*len, choice.seed);
            let mut expected = Vec::new();
            match sound_track.parameters.codec {
                Codec::Aac => {
                    let len = len + 7;
                    expected.extend([0xff, 0xf1, 0x4c, 0x80 | (len >> 11) as u8]);
                    expected.extend([(len >> 3) as u8, (len << 5) as u8 | 0x1f, 0xfc]);
                }
                Codec::Opus => {
                    expected.extend([0x7f, 0xe0]);
                    expected.extend(vec![255; len / 255]);
                    expected.push((len % 255) as u8);
                }
                _ => {}
            }
            let bound = if sound_track.parameters.codec == Codec::Aac { 8184 } else { usize::MAX };
            expected.extend(&data);
            let fits = (1..=bound).contains(len) && expected.len() <= 0xffff - 8;
            (sound(millis, data), fits.then_some(expected))
        }
    }
}

/// Writes frames with the payloads that are to come of them as one file, cut where `cuts` says so, and holds that all come out
/// in order.
fn round_trip(sound_track: &Track, frames: &[(Frame, Option<Vec<u8>>)], cuts: &[bool]) -> File {
    let mut fragments = vec![Vec::new()];
    for ((frame, _), cut) in frames.iter().zip(cuts) {
        fragments.last_mut().expect("there is always one").push(frame.clone());
        if *cut {
            fragments.push(Vec::new());
        }
    }
    fragments.retain(|fragment| !fragment.is_empty());
    let fragments: Vec<&[Frame]> = fragments.iter().map(|fragment| &fragment[..]).collect();
    let file = read(&[h264(), sound_track.clone()], &fragments);
    assert!(file.tables > 0 && file.versions == [0]);

    let expected: Vec<_> =
        frames.iter().filter_map(|(frame, payload)| Some((frame, payload.as_ref()?))).collect();
    assert_eq!(file.units.len(), expected.len());
    for (unit, (frame, payload)) in file.units.iter().zip(expected) {
        let pid = if frame.is_video() { FIRST } else { SECOND };
        assert_eq!((unit.pid, unit.random_access), (pid, frame.is_key()));
        assert!(unit.payload == *payload, "{} bytes came out of {}", unit.payload.len(), payload.len());
    }
    file
}

fn any_sound() -> impl Strategy<Value = Track> {
    (0..3).prop_map(|kind| match kind {
        0 => aac(),
        1 => mp3(),
        _ => opus(2),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn all_frames_come_out_whatever_their_sizes_and_times(
        choices in vec(choice(-3000..3000), 0..40),
        sound_track in any_sound(),
    ) {
        let (mut of_pictures, mut of_sound) = (0, 0);
        let frames: Vec<_> = choices
            .iter()
            .map(|choice| {
                let time =
                    if matches!(choice.kind, Kind::Sound(_)) { &mut of_sound } else { &mut of_pictures };
                *time += choice.step;
                frame(choice, *time, &sound_track)
            })
            .collect();
        let cuts: Vec<bool> = choices.iter().map(|choice| choice.cut).collect();
        round_trip(&sound_track, &frames, &cuts);
    }

    #[test]
    fn times_that_rise_come_out_as_they_went_in(
        choices in vec(choice(0..200), 1..40),
        sound_track in any_sound(),
    ) {
        let mut time = 0;
        let frames: Vec<_> = choices
            .iter()
            .map(|choice| {
                time += choice.step;
                let (mut frame, payload) = frame(choice, time, &sound_track);
                frame.pts.ticks = frame.pts.ticks.max(frame.dts.ticks);
                (frame, payload)
            })
            .collect();
        let cuts: Vec<bool> = choices.iter().map(|choice| choice.cut).collect();
        let file = round_trip(&sound_track, &frames, &cuts);
        let in_file = |time: MediaTime| DELAY + 90 * (time.as_millis() - choices[0].step);
        for (unit, (frame, _)) in file.units.iter().zip(frames.iter().filter(|frame| frame.1.is_some())) {
            prop_assert_eq!((unit.dts, unit.pts), (in_file(frame.dts), in_file(frame.pts)));
        }
    }
}
