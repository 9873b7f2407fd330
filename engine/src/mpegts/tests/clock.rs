//! Times: where they count from, that none is garbage, and the readings of the clock.

use super::*;
use reader::{CLOCK_RANGE, unwrap};

fn p() -> Vec<u8> {
    hex(samples::H264_P)
}

fn times(file: &File, pid: u16) -> Vec<(i64, i64)> {
    file.of(pid).iter().map(|unit| (unit.dts - DELAY, unit.pts - DELAY)).collect()
}

/// As times of a file: 90 to a millisecond.
fn of_millis<const N: usize>(millis: [(i64, i64); N]) -> Vec<(i64, i64)> {
    millis.map(|(dts, pts)| (90 * dts, 90 * pts)).to_vec()
}

#[test]
fn times_count_from_the_first_frame_behind_a_delay() {
    let frames = [
        picture(5000, 0, true, p()),
        sound(4990, noise(9, 1)),
        picture(5040, 0, false, p()),
        sound(5013, noise(9, 2)),
    ];
    let file = read(&[h264(), aac()], &[&frames[..2], &frames[2..]]);
    assert_eq!(times(&file, FIRST), of_millis([(10, 10), (50, 50)]));
    assert_eq!(times(&file, SECOND), of_millis([(0, 0), (23, 23)]));
    assert_eq!(file.readings.first(), Some(&(0, 900)));
    assert_eq!(file.leaps, [0; 0]);
}

#[test]
fn pictures_that_are_reordered_have_both_times() {
    let offsets = [(0, 80), (40, 160), (80, 40), (120, 0), (160, 80)];
    let frames: Vec<Frame> = offsets.map(|(dts, offset)| picture(dts, offset, dts == 0, p())).to_vec();
    let file = read(&[h264()], &[&frames]);
    assert_eq!(times(&file, FIRST), offsets.map(|(dts, offset)| (90 * dts, 90 * (dts + offset))).to_vec());
}

#[test]
fn where_pictures_are_shown_before_they_are_decoded_the_whole_track_is_decoded_earlier() {
    let offsets = [(0, 0), (40, 80), (80, -40), (120, -40), (160, 0)];
    let frames: Vec<Frame> = offsets.map(|(dts, offset)| picture(dts, offset, dts == 0, p())).to_vec();
    let mut all = vec![sound(0, noise(9, 1))];
    all.extend(frames);
    let file = read(&[h264(), aac()], &[&all]);
    let expected = offsets.map(|(dts, offset)| (90 * (dts - 40), 90 * (dts + offset)));
    assert_eq!(times(&file, FIRST), expected);
    assert_eq!(times(&file, SECOND), of_millis([(0, 0)]));
}

#[test]
fn a_time_that_steps_back_is_that_of_the_frame_before_it() {
    let frames: Vec<Frame> =
        [0, 40, 80, 50, 60, 120, 119, 160].map(|dts| picture(dts, 20, dts == 0, p())).to_vec();
    let expected =
        of_millis([(0, 20), (40, 60), (80, 100), (80, 80), (80, 80), (120, 140), (120, 139), (160, 180)]);
    assert_eq!(times(&read(&[h264()], &[&frames]), FIRST), expected);
    // Wherever the file is cut.
    assert_eq!(times(&read(&[h264()], &[&frames[..3], &frames[3..5], &frames[5..]]), FIRST), expected);
    // What is older than the file comes at its beginning.
    let file = read(&[h264(), aac()], &[&[picture(1000, 0, true, p())], &[sound(300, noise(9, 1))]]);
    assert_eq!(times(&file, SECOND), of_millis([(0, 0)]));
}

#[test]
fn the_clock_of_33_bits_wraps_unseen() {
    let at = |ticks: i64| {
        let time = MediaTime { ticks, rate: 90_000 };
        Frame { dts: time, pts: MediaTime { ticks: ticks + 7200, ..time }, ..picture(0, 0, true, p()) }
    };
    // In steps of less than half the range, as a reader needs them; then from picture to picture over the wrap.
    let mut ticks = vec![0, CLOCK_RANGE / 3, CLOCK_RANGE / 3 * 2];
    ticks.extend((0..60).map(|picture| CLOCK_RANGE - DELAY - 30 * 3600 + picture * 3600));
    let frames: Vec<Frame> = ticks.iter().map(|&ticks| at(ticks)).collect();
    let file = read(&[h264()], &[&frames[..20], &frames[20..]]);
    assert_eq!(file.units.len(), ticks.len());
    let mut last = 0;
    for (unit, ticks) in file.units.iter().zip(ticks) {
        last = unwrap(unit.dts, last);
        assert_eq!(last, ticks + DELAY);
        assert_eq!(unit.pts, (ticks + 7200 + DELAY) % CLOCK_RANGE);
    }
    assert!(last > CLOCK_RANGE && file.readings.last().is_some_and(|(_, reading)| *reading > CLOCK_RANGE));
}

#[test]
fn each_picture_brings_a_reading_and_no_other_is_needed() {
    let frames: Vec<Frame> = (0..50).map(|number| picture(40 * number, 0, number == 0, p())).collect();
    let bytes = mux(&[h264()], &[&frames]);
    let file = reader::read(&bytes);
    let expected: Vec<_> = (0..50).map(|number| (number as usize, 3600 * number)).collect();
    assert_eq!(file.readings, expected);
    // Both tables at the file's beginning, and then each 480 ms, and one packet for each picture.
    assert_eq!(bytes.len() / 188, 2 + 2 * 5 + 50);
}

#[test]
fn a_slow_picture_leaves_the_clock_to_be_read_between_its_frames() {
    let frames: Vec<Frame> = (0..4).map(|number| picture(1000 * number, 0, number == 0, p())).collect();
    let file = read(&[h264()], &[&frames[..2], &frames[2..]]);
    assert_eq!(file.readings.len(), 3 * 25 + 1);
    // With sound beside it, or with nothing but sound on a track of pictures.
    let sounds: Vec<Frame> = (0..100).map(|number| sound(21 * number, noise(200, 1))).collect();
    let file = read(&[h264(), aac()], &[&sounds]);
    assert_eq!((file.of(FIRST).len(), file.of(SECOND).len()), (0, 100));
    assert_eq!(file.readings.len(), 99 * 21 / 40 + 1);
    assert_eq!(file.readings.first(), Some(&(0, 0)));
}

#[test]
fn over_a_pause_the_clock_leaps_and_says_so() {
    let frames = [0, 40, 3_600_000, 3_600_040].map(|dts| picture(dts, 0, dts == 0, p()));
    let file = read(&[h264()], &[&frames]);
    assert_eq!((file.readings.len(), file.leaps), (4 + 1, vec![2]));
    let frames = [0, 21, 3_600_000, 3_600_021].map(|dts| sound(dts, noise(9, 1)));
    let file = read(&[h264(), aac()], &[&frames]);
    assert_eq!((file.readings.len(), file.leaps), (2, vec![1]));
}

#[test]
fn the_clock_waits_for_a_track_that_lags() {
    let both = |lag: i64| {
        let pair =
            |number: i64| [picture(40 * number + lag, 0, number == 0, p()), sound(40 * number, noise(90, 1))];
        (0..200).flat_map(pair).collect::<Vec<Frame>>()
    };
    for lag in [0, 300, 699, 700, 701, 3000, 10_000] {
        let frames = both(lag);
        let file = read(&[h264(), aac()], &[&frames[..31], &frames[31..]]);
        for (number, time) in (0..).zip(times(&file, SECOND)) {
            assert_eq!(time, (3600 * number, 3600 * number), "lag of {lag} ms");
        }
        for (number, time) in (0..).zip(times(&file, FIRST)) {
            assert_eq!(time.0, 3600 * number + 90 * lag, "lag of {lag} ms");
        }
    }
}

#[test]
fn a_track_that_comes_far_too_late_costs_the_others_nothing() {
    // One packet of sound from the file's beginning after a minute: it is decoded when it comes.
    let mut frames: Vec<Frame> = (0..1500).map(|number| picture(40 * number, 0, number == 0, p())).collect();
    frames.push(sound(0, noise(9, 1)));
    frames.extend((1500..3000).map(|number| picture(40 * number, 0, false, p())));
    let file = read(&[h264(), aac()], &[&frames[..1000], &frames[1000..2000], &frames[2000..]]);
    for (number, time) in (0..).zip(times(&file, FIRST)) {
        assert_eq!(time.0, 3600 * number);
    }
    assert_eq!(file.of(SECOND).len(), 1);
    assert_eq!(file.readings.last(), Some(&(3000, 3600 * 2999)));
}

#[test]
fn no_time_makes_it_panic() {
    let times = [i64::MIN, i64::MIN + 1, -1, 0, 1, 1 << 33, 1 << 62, i64::MAX - 1, i64::MAX];
    for rate in [1, 1000, 90_000, u32::MAX] {
        for first in times {
            let frames: Vec<Frame> = times
                .iter()
                .flat_map(|&dts| times.map(|pts| (dts, pts)))
                .flat_map(|(dts, pts)| {
                    let (dts, pts) = (MediaTime { ticks: dts, rate }, MediaTime { ticks: pts, rate });
                    [
                        Frame { dts, pts, ..picture(0, 0, true, p()) },
                        Frame { dts, pts, ..sound(0, noise(9, 1)) },
                    ]
                })
                .collect();
            let first = Frame { dts: MediaTime { ticks: first, rate }, ..picture(0, 0, true, p()) };
            let bytes = mux(&[h264(), aac()], &[&[first], &frames]);
            assert_eq!(bytes.len() % 188, 0);
        }
    }
}
