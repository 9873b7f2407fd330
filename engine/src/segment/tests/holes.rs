//! Pauses, breaks and late tracks: what is listed adds up to the time that has passed, and no frame lasts longer than it did.

use super::*;

const MS: u64 = 1_000_000;

/// When a part begins and ends, milliseconds since the first frame.
fn span(part: &Part) -> (u64, u64) {
    let begin = (part.wall.0 - START.0) / MS;
    (begin, begin + part.lasts().as_millis() as u64)
}

/// The parts of a segment: how long each is, and whether it has something.
fn shape(core: &Core, rendition: Rendition, number: u64) -> Vec<(u64, bool)> {
    let parts = &core.segments(rendition)[&number];
    parts.iter().map(|part| (part.lasts().as_millis() as u64, !part.gap)).collect()
}

/// A pause of both tracks from 5 s to 8 s, with a break; the sound that follows is older than the pictures by `early`.
fn broken(early: i64, straggler: Option<i64>) -> Core {
    let mut core = Core::usual(&[h264(), aac()]);
    core.give(&woven(&[pictures(30, 60, 150), sounds(0, 5000)]));
    core.give(&[discontinuity(5000)]);
    let rest: Vec<Frame> =
        (0..120).map(|number| picture(8000 + number * 1000 / 30, number % 60 == 0)).collect();
    core.give(&rest[..1]);
    core.give(&straggler.map(sound).into_iter().collect::<Vec<_>>());
    let packets: Vec<Frame> =
        (0..190).map(|number| sound(8000 - early + (number * 1024 + 24) / 48)).collect();
    core.give(&woven(&[rest[1..].to_vec(), packets])).finish().check();
    core
}

#[test]
fn a_packet_that_is_a_little_older_than_the_break_is_behind_it() {
    let core = broken(15, None);
    let audio = core.segments(Rendition::Audio);
    let last = audio[&2].last().unwrap();
    assert!(span(last).1.abs_diff(5000) <= 22, "the pause is nothing that lasts: {last:?}");
    assert_eq!((audio[&3][0].period, audio[&3][0].gap), (1, false));
    let samples = core.samples(Rendition::Audio);
    assert!(samples.iter().all(|(_, length, _)| *length <= 1500), "{samples:?}");
}

#[test]
fn a_late_part_of_the_old_period_keeps_its_time() {
    // The last packet from before the pause comes when the pictures have gone on already.
    let core = broken(0, Some(5013));
    let audio = core.segments(Rendition::Audio);
    let last = audio[&2].last().unwrap();
    assert_eq!(last.period, 0);
    assert!(span(last).1.abs_diff(5034) <= 2, "{:?}", span(last));
    assert_eq!(last.origin.wall, START);
    assert_eq!(audio[&3][0].origin.wall, Wall(START.0 + 8_000 * MS));
}

#[test]
fn a_wall_that_was_set_back_does_not_take_the_stream_back() {
    let mut core = Core::usual(&[h264()]);
    core.give(&pictures(30, 60, 150));
    core.packager.frame(&discontinuity(5000), START);
    for number in 0..120 {
        let frame = picture(8000 + number * 1000 / 30, number % 60 == 0);
        core.packager.frame(&frame, Wall(START.0 + number as u64 * 33 * MS));
    }
    core.finish().check();
    let video = core.segments(Rendition::Video);
    assert_eq!(span(&video[&3][0]).0, span(video[&2].last().unwrap()).1, "right behind what was");
}

#[test]
fn sound_that_pauses_within_a_segment_has_parts_without_media_for_it() {
    let mut core = Core::usual(&[h264(), aac()]);
    let packets = [sounds(0, 2600), sounds(3300, 8000)].concat();
    core.give(&woven(&[pictures(30, 60, 240), packets])).finish().check();
    let shape = shape(&core, Rendition::Audio, 1);
    let missing: u64 = shape.iter().filter(|(_, there)| !there).map(|(length, _)| length).sum();
    assert!(missing.abs_diff(690) <= 25, "{shape:?}");
    let runs = shape.chunk_by(|one, next| one.1 == next.1).count();
    assert_eq!(runs, 3, "something, nothing, something: {shape:?}");
    let total: u64 = shape.iter().map(|(length, _)| length).sum();
    assert!(total.abs_diff(2000) <= 35, "{shape:?}");
    // The media has a hole there, and not a packet that lasts.
    assert!(core.samples(Rendition::Audio).iter().all(|(_, length, _)| *length <= 1024));
}

#[test]
fn sound_that_comes_back_within_a_segment_does_not_begin_it() {
    let mut core = Core::usual(&[h264(), aac()]);
    let packets = [sounds(0, 5000), sounds(11_200, 16_000)].concat();
    core.give(&woven(&[pictures(30, 60, 480), packets])).finish().check();
    for (number, (begin, length)) in
        [(2, (4000, 2000)), (3, (6000, 2000)), (4, (8000, 2000)), (5, (10_000, 2000))]
    {
        let parts = &core.segments(Rendition::Audio)[&number];
        let (first, last) = (span(&parts[0]), span(parts.last().unwrap()));
        assert!(
            first.0.abs_diff(begin) <= 24 && (last.1 - first.0).abs_diff(length) <= 35,
            "{first:?} {last:?}"
        );
    }
    let (gone, back) = (shape(&core, Rendition::Audio, 2), shape(&core, Rendition::Audio, 5));
    assert!(gone[0].1 && !gone.last().unwrap().1, "{gone:?}");
    assert!(!back[0].1 && back.last().unwrap().1, "{back:?}");
    assert_eq!(shape(&core, Rendition::Audio, 3).len(), 1, "a whole segment of nothing is one part");
}

#[test]
fn sound_that_comes_late_has_nothing_before_it() {
    let mut core = Core::usual(&[h264()]);
    let mut frames = woven(&[pictures(30, 60, 300), sounds(4700, 10_000)]);
    let place = frames.iter().position(Frame::is_audio).unwrap();
    frames.insert(place, aac());
    core.give(&frames).finish().check();
    let first = &core.segments(Rendition::Audio)[&2];
    assert_eq!(span(&first[0]).0, 4000);
    assert!(first[0].gap && !first.last().unwrap().gap);
}

#[test]
fn a_picture_that_stays_lasts_until_the_next() {
    let mut core = Core::usual(&[h264(), aac()]);
    // Twenty-four pictures are missing from 2.4 s on.
    let kept = |frame: &Frame| !(2401..3200).contains(&frame.dts.as_millis());
    let shown: Vec<Frame> = pictures(30, 60, 240).into_iter().filter(kept).collect();
    core.give(&woven(&[shown, sounds(0, 8000)])).finish().check();
    let shape = shape(&core, Rendition::Video, 1);
    assert!(shape.iter().all(|(_, there)| *there), "a browser takes no picture behind a hole: {shape:?}");
    let long: Vec<&(u64, bool)> = shape.iter().filter(|(length, _)| *length > 202).collect();
    assert_eq!(long.len(), 1, "only the one that has it: {shape:?}");
    assert_eq!(core.lengths(Rendition::Video)[..3], [(1000, 2000), (3000, 2000), (5000, 2000)]);
}

#[test]
fn one_picture_that_is_missing_makes_no_part_too_short() {
    let mut core = Core::usual(&[h264()]);
    for missing in 61..66 {
        let mut frames = pictures(30, 60, 240);
        frames.remove(missing);
        core = Core::usual(&[h264()]);
        core.give(&frames).finish().check();
    }
    assert_eq!(core.terms().part.as_millis(), 201);
}

#[test]
fn pictures_that_pause_for_longer_than_a_segment_leave_gaps() {
    let mut core = Core::usual(&[h264()]);
    let kept = |frame: &Frame| !(2401..9000).contains(&frame.dts.as_millis());
    core.give(&pictures(30, 60, 450).into_iter().filter(kept).collect::<Vec<_>>()).finish().check();
    let video = core.segments(Rendition::Video);
    let gaps = video.values().filter(|parts| parts.iter().all(|part| part.gap)).count();
    assert_eq!(gaps, 2, "{video:?}");
    let total: u64 = core.lengths(Rendition::Video).iter().map(|(_, length)| length).sum();
    assert!(total.abs_diff(15_000) <= 1, "{total}");
    // Who plays the last picture before the pause shows it until the next.
    let samples = core.samples(Rendition::Video);
    assert!(samples.windows(2).all(|pair| pair[0].0 + pair[0].1 == pair[1].0), "{samples:?}");
}

#[test]
fn sound_alone_that_pauses_keeps_segments_within_the_target() {
    let settings = Settings { segment: Duration::from_secs(1), ..Settings::default() };
    let mut core = Core::new(settings, None, &[aac()]);
    core.give(&[sounds(0, 2980), sounds(3904, 8000), sounds(13_100, 15_000)].concat()).finish().check();
    assert_eq!(core.terms().target, 1);
    let total: u64 = core.lengths(Rendition::Audio).iter().map(|(_, length)| length).sum();
    assert!(total.abs_diff(15_000) <= 40, "{total}");
}

#[test]
fn sound_that_waited_for_pictures_keeps_to_the_target_as_well() {
    let mut core = Core::usual(&[h264(), aac()]);
    // The pictures stop; then the sound pauses, and goes on at once with three seconds.
    core.give(&woven(&[pictures(30, 60, 70), [sounds(0, 2500), sounds(5900, 9000)].concat()]));
    core.finish().check();
}

#[test]
fn numbers_go_on_where_another_packaging_has_ended() {
    let mut first = Core::usual(&[h264(), aac()]);
    first.give(&woven(&[pictures(30, 60, 150), sounds(0, 5000)]));
    let running = first.packager.numbering();
    let began = Some(first.terms().began);
    assert_eq!(running, Numbering { segment: 3, period: 1, began });
    first.finish();
    assert_eq!(first.packager.numbering(), running, "when it is over");
    let settings = Settings::default();
    let mut second = Core::from(running, settings, Some(Duration::from_secs(2)), &[h264(), aac()]);
    second.give(&woven(&[pictures(30, 60, 150), sounds(0, 5000)])).finish().check();
    for rendition in [Rendition::Video, Rendition::Audio] {
        let segments = second.segments(rendition);
        assert_eq!(segments.keys().copied().collect::<Vec<_>>(), [3, 4, 5]);
        assert!(segments[&3][0].discontinuity && !segments[&4][0].discontinuity);
        assert!(segments.values().all(|parts| parts[0].period == 1));
        assert_eq!(second.window.shelf(rendition).unwrap().discontinuities(), 0, "one, its own, is listed");
    }
    assert_eq!(second.packager.numbering(), Numbering { segment: 6, period: 2, began });
    let unused = Core::from(running, Settings::default(), None, &[]);
    assert_eq!(unused.packager.numbering(), running);
}

#[test]
fn what_was_before_the_first_picture_belongs_to_no_segment() {
    let mut core = Core::usual(&[h264(), aac()]);
    // Sound that comes later than pictures of its time.
    let frames = pictures(30, 60, 120);
    core.give(&frames[..1]).give(&[-400, -300, -200, -100].map(sound));
    core.give(&woven(&[frames[1..].to_vec(), sounds(0, 4000)])).finish().check();
    let first = &core.parts(Rendition::Audio)[0];
    assert_eq!(span(first).0, 0);
    assert_eq!(core.samples(Rendition::Audio).len(), sounds(0, 4000).len());
}

#[test]
fn other_parameters_hold_from_the_break_on_for_a_track_that_comes_to_it_late() {
    let mut core = Core::usual(&[h264(), aac()]);
    core.give(&woven(&[pictures(30, 60, 120), sounds(0, 4000)]));
    core.give(&[discontinuity(4000)]);
    let rest: Vec<Frame> =
        (0..150).map(|number| picture(5000 + number * 1000 / 30, number % 60 == 0)).collect();
    core.give(&rest[..50]);
    core.give(&[described(TrackId::AUDIO, Parameters::of_opus(2))]);
    core.give(&rest[50..]).finish().check();
    let audio = core.segments(Rendition::Audio);
    assert!(audio.values().all(|parts| (parts[0].period == 1) == (parts[0].init == 1)), "{audio:?}");
    assert!(audio.values().any(|parts| parts[0].period == 1));
}
