//! Segments and parts: each readable by itself, and all together one stream.

use bytes::BytesMut;

use super::*;
use crate::mpegts::Segmenter;
use scenes::Scene;

fn runs(scene: &Scene, frames_of_part: usize) -> Vec<Vec<u8>> {
    let mut segmenter = Segmenter::new(&scene.tracks, MediaTime::from_millis(0));
    let groups = scene.frames.chunk_by(|_, next| !next.is_key());
    groups
        .flat_map(|group| group.chunks(frames_of_part))
        .map(|run| {
            let mut out = BytesMut::new();
            segmenter.write(run, &mut out);
            out.to_vec()
        })
        .collect()
}

#[test]
fn each_run_begins_with_the_tables_and_a_reading_and_can_be_read_alone() {
    let mut read = 0;
    for scene in scenes::all() {
        for frames_of_part in [1, 10, usize::MAX >> 1] {
            for run in runs(&scene, frames_of_part).iter().filter(|run| !run.is_empty()) {
                let pid = |place: usize| {
                    u16::from(run[place * 188 + 1] & 0x1f) << 8 | u16::from(run[place * 188 + 2])
                };
                assert_eq!([pid(0), pid(1)], [0, 0x1000], "{}", scene.name);
                let file = reader::read(run);
                assert_eq!((file.readings[0].0, file.streams.len()), (0, scene.tracks.len()));
                read += file.units.len();
            }
        }
    }
    assert!(read > 1000);
}

#[test]
fn runs_that_follow_each_other_are_one_stream() {
    for scene in scenes::all() {
        let media = scene.frames.iter().filter(|frame| frame.is_media()).count();
        for frames_of_part in [1, 10, usize::MAX >> 1] {
            // Its reader holds that counters go on.
            let file = reader::read(&runs(&scene, frames_of_part).concat());
            assert_eq!(file.units.len(), media, "{}", scene.name);
            assert_eq!(file.versions, [0]);
        }
    }
}

#[test]
fn times_count_from_the_zero_that_was_said() {
    let mut segmenter = Segmenter::new(&[h264()], MediaTime::from_millis(60_000));
    let mut out = BytesMut::new();
    segmenter.write(&[picture(61_000, 0, true, hex(samples::H264_IDR))], &mut out);
    // What is older than zero has its own time, too.
    let file = reader::read(&out);
    assert_eq!((file.units[0].dts, file.readings[0].1), (DELAY + 90_000, 90_000));
    let mut segmenter = Segmenter::new(&[h264()], MediaTime::from_millis(60_000));
    out.clear();
    segmenter.write(&[picture(59_900, 0, true, hex(samples::H264_IDR))], &mut out);
    assert_eq!(reader::read(&out).units[0].dts, DELAY - 9_000);
}

#[test]
fn parameters_in_a_run_hold_from_there_on() {
    let time = MediaTime::from_millis(40);
    let change = Frame {
        track: VIDEO,
        dts: time,
        pts: time,
        payload: Payload::Parameters(parameters(Codec::H264, samples::H264_BASELINE_1080)),
    };
    let frames =
        [picture(0, 0, true, hex(samples::H264_IDR)), change, picture(40, 0, true, hex(samples::H264_IDR))];
    let mut segmenter = Segmenter::new(&[h264()], MediaTime::from_millis(0));
    let mut out = BytesMut::new();
    segmenter.write(&frames, &mut out);
    let file = reader::read(&out);
    assert_eq!(file.versions, [0, 1]);
    let sps = |text: &str| hex(text)[8..20].to_vec();
    let has = |unit: &reader::Unit, sps: Vec<u8>| unit.payload.windows(sps.len()).any(|window| window == sps);
    assert!(has(&file.units[0], sps(samples::H264_HIGH_720)));
    assert!(has(&file.units[1], sps(samples::H264_BASELINE_1080)));
}

#[test]
fn a_run_of_which_nothing_can_be_said_is_empty() {
    let mut segmenter = Segmenter::new(&[h264()], MediaTime::from_millis(0));
    let mut out = BytesMut::new();
    segmenter.write(&[], &mut out);
    segmenter.write(&[sound(0, noise(90, 1))], &mut out);
    assert!(out.is_empty());
}
