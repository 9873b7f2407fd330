//! Streams as they come: what was sent stands in the files.

use proptest::prelude::*;

use super::*;

#[test]
fn what_was_sent_stands_in_the_file_with_its_times() {
    let frames = stream(0..5000, 2000);
    let world = recorded(&frames, Duration::from_secs(600));
    assert_eq!(world.paths(), ["live/cam/2026-11-22T07-45-00.123Z.mp4"]);
    assert_eq!(read_track(world.file(0), 1), sent_track(&frames, TrackId::VIDEO, 0));
    assert_eq!(read_track(world.file(0), 2), sent_track(&frames, TrackId::AUDIO, 0));
    assert_eq!(world.counters().frames, frames.len() as u64);
    assert_eq!(world.counters().bytes, world.file(0).len() as u64);
    let report = scan::scan(world.file(0), Depth::Content).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.duration, world.disk.finished[0].1);
    assert_eq!(report.tracks[0].codec, "h264");
    assert_eq!((report.tracks[0].frames, report.tracks[0].key_frames), (125, 3));
    assert_eq!(report.tracks[0].duration, Duration::from_secs(5));
}

#[test]
fn fragments_are_whole_blocks_of_at_most_a_second_and_begin_at_key_frames() {
    let world = recorded(&stream(0..10_000, 2000), Duration::from_secs(600));
    assert!(world.disk.fragments.iter().all(|(_, _, len, _)| len % 4096 == 0));
    let keys = world.disk.fragments.iter().filter(|(.., key)| *key).count();
    assert_eq!(keys, 5, "each key frame begins a fragment");
    let file = world.file(0);
    let (movie, mut at) = (read(file).0, 0);
    while at < file.len() {
        let head = BoxHead::parse(&file[at..]).unwrap();
        let end = at + head.len.unwrap() as usize;
        if head.kind.0 == *b"moof" {
            let moof = Moof::parse(&movie, &file[at + 8..end], at as u64).unwrap();
            for (track, end) in moof.ends {
                let first = moof.samples.iter().find(|sample| sample.track == track).unwrap();
                assert!(end - first.dts <= 1000, "{} to {end}", first.dts);
            }
        }
        at = end;
    }
}

#[test]
fn each_further_segment_begins_on_the_key_frame_at_or_after_its_time() {
    let frames = stream(0..10_000, 2000);
    let world = recorded(&frames, Duration::from_secs(3));
    let expected =
        ["00.123Z", "04.123Z", "08.123Z"].map(|second| format!("live/cam/2026-11-22T07-45-{second}.mp4"));
    assert_eq!(world.paths(), expected);
    for (index, from) in [0, 4000, 8000].into_iter().enumerate() {
        let part = frames.iter().filter(|frame| (from..from + 4000).contains(&frame.dts.ticks));
        assert_eq!(
            read_track(world.file(index), 1),
            sent_track(part.clone(), TrackId::VIDEO, from),
            "{from}"
        );
        assert_eq!(read_track(world.file(index), 2), sent_track(part, TrackId::AUDIO, from), "{from}");
    }
}

#[test]
fn sound_that_comes_before_the_first_picture_shifts_both() {
    let frames: Vec<_> = stream(0..4000, 2000)
        .into_iter()
        .map(|mut frame| {
            if frame.is_video() {
                frame.dts.ticks += 300;
                frame.pts.ticks += 300;
            }
            frame
        })
        .collect();
    let mut sorted = frames;
    sorted.sort_by_key(|frame| frame.dts.ticks);
    let world = recorded(&sorted, Duration::from_secs(600));
    let video = read_track(world.file(0), 1);
    assert_eq!(video[0].0, 300);
    assert_eq!(video, sent_track(&sorted, TrackId::VIDEO, 0));
    assert_eq!(read_track(world.file(0), 2), sent_track(&sorted, TrackId::AUDIO, 0));
}

#[test]
fn pictures_before_the_first_key_frame_are_skipped() {
    let frames = stream(1000..5000, 2000);
    let world = recorded(&frames, Duration::from_secs(600));
    let video = read_track(world.file(0), 1);
    assert!(video[0].2);
    let kept: Vec<_> = frames.iter().filter(|frame| frame.is_video() && frame.dts.ticks >= 2000).collect();
    assert_eq!(video.len(), kept.len());
    assert_eq!(world.counters().skipped + world.counters().frames, frames.len() as u64);
}

#[test]
fn sound_alone_is_recorded_and_cut_by_time() {
    let mut world = World::new(Duration::from_secs(3));
    world.parameters(TrackId::AUDIO, aac());
    let frames: Vec<_> = stream(0..7000, 2000).into_iter().filter(Frame::is_audio).collect();
    for frame in &frames {
        world.live(frame);
    }
    world.finish();
    assert_eq!(world.paths().len(), 3);
    assert_eq!(world.counters().frames, frames.len() as u64);
    assert_eq!(world.counters().skipped, 0);
}

#[test]
fn pictures_that_were_announced_and_never_come_do_not_hold_back_the_sound_for_ever() {
    let mut world = World::new(Duration::from_secs(600));
    world.parameters(TrackId::VIDEO, h264());
    world.parameters(TrackId::AUDIO, aac());
    for frame in stream(0..10_000, 2000).iter().filter(|frame| frame.is_audio()) {
        world.live(frame);
    }
    world.finish();
    assert_eq!(world.paths().len(), 1);
    let kept = Duration::from_millis(world.counters().frames * 1024 / 48);
    assert!(kept >= Duration::from_secs(4), "{kept:?}");
}

#[test]
fn a_change_of_parameters_begins_a_new_file_at_its_key_frame() {
    let mut world = World::new(Duration::from_secs(600));
    world.parameters(TrackId::VIDEO, h264());
    for frame in stream(0..3000, 1000).iter().filter(|frame| frame.is_video()) {
        world.live(frame);
    }
    let mut changed = h264();
    changed.shape = Shape::Video { width: 640, height: 360 };
    world.parameters(TrackId::VIDEO, changed);
    for frame in stream(3000..5000, 1000).iter().filter(|frame| frame.is_video()) {
        world.live(frame);
    }
    world.finish();
    assert_eq!(world.paths().len(), 2);
    let sizes: Vec<_> =
        (0..2).map(|index| read(world.file(index)).0.tracks[0].entry.shape.unwrap()).collect();
    let expected = [(1280, 720), (640, 360)].map(|(width, height)| Shape::Video { width, height });
    assert_eq!(sizes, expected);
    assert_eq!(world.counters().skipped, 0);
}

#[test]
fn parameters_that_are_repeated_change_nothing() {
    let mut world = World::new(Duration::from_secs(600));
    for frame in stream(0..5000, 1000) {
        if frame.is_key() {
            world.parameters(TrackId::VIDEO, h264());
            world.parameters(TrackId::AUDIO, aac());
        }
        world.live(&frame);
    }
    world.finish();
    assert_eq!(world.paths().len(), 1);
}

#[test]
fn a_track_that_comes_late_is_taken_from_the_next_key_frame_on() {
    let mut world = World::new(Duration::from_secs(600));
    world.parameters(TrackId::VIDEO, h264());
    for frame in stream(0..6000, 2000) {
        if frame.is_audio() && frame.dts.ticks < 2500 {
            continue;
        }
        if frame.dts.ticks == 2520 {
            world.parameters(TrackId::AUDIO, aac());
        }
        world.live(&frame);
    }
    world.finish();
    assert_eq!(world.paths().len(), 2);
    assert_eq!(read(world.file(0)).0.tracks.len(), 1);
    assert_eq!(read(world.file(1)).0.tracks.len(), 2);
    let audio = read_track(world.file(1), 2);
    assert_eq!(audio.first().unwrap().0, 10, "4010 ms, and the file begins at 4000");
}

#[test]
fn times_that_stand_still_or_step_back_never_fall_in_the_file() {
    let mut world = World::new(Duration::from_secs(600));
    world.parameters(TrackId::VIDEO, h264());
    for (dts, key) in
        [(100, true), (140, false), (140, false), (137, false), (180, false), (1180, true), (1170, false)]
    {
        world.live(&picture(dts, dts + 40, key));
    }
    world.finish();
    let times: Vec<_> = read_track(world.file(0), 1).iter().map(|frame| (frame.0, frame.1)).collect();
    assert_eq!(times, [(0, 40), (40, 80), (40, 80), (40, 77), (80, 120), (1080, 1120), (1080, 1110)]);
    assert!(scan::scan(world.file(0), Depth::Content).unwrap().is_sound());
}

/// Steps of a stream: which track, how far its time goes on, how far the showing is from the decoding, key, bytes.
fn steps() -> impl Strategy<Value = Vec<(bool, i64, i64, bool, usize)>> {
    let step = (any::<bool>(), 0i64..200, 0i64..160, prop::bool::weighted(0.1), 0usize..6000);
    prop::collection::vec(step, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_stream_comes_back_as_it_was_sent(steps in steps(), begin in -100_000i64..1 << 40, segment in 1u64..20) {
        let mut times = [begin; 2];
        let mut frames = Vec::new();
        for (index, (video, step, offset, key, len)) in steps.into_iter().enumerate() {
            let key = key || index == 0;
            let video = video || index == 0;
            times[usize::from(video)] += step;
            let dts = times[usize::from(video)];
            let mut frame = if video { picture(dts, dts + offset, key) } else { sound(dts) };
            match &mut frame.payload {
                Payload::Video { data, .. } | Payload::Audio { data, .. } => *data = unit(dts, len),
                _ => {}
            }
            frames.push(frame);
        }
        let mut world = World::new(Duration::from_secs(segment));
        world.parameters(TrackId::VIDEO, h264());
        world.parameters(TrackId::AUDIO, aac());
        for frame in &frames {
            world.now = world.now.after(Duration::from_millis(10));
            world.frame(frame);
        }
        world.finish();
        prop_assert_eq!(world.counters().frames, frames.len() as u64);
        for (track, id) in [(1, TrackId::VIDEO), (2, TrackId::AUDIO)] {
            // Files in the order of their names, which is that of their times.
            let mut found = Vec::new();
            for index in 0..world.paths().len() {
                let file = world.file(index);
                let report = scan::scan(file, Depth::Content).unwrap();
                prop_assert!(report.is_sound(), "{:?}", report);
                prop_assert!(read_track(file, 1).first().is_some_and(|first| first.2));
                found.extend(read_track(file, track));
            }
            let sent = sent_track(&frames, id, 0);
            prop_assert_eq!(found.len(), sent.len());
            for (found, sent) in found.iter().zip(&sent) {
                prop_assert_eq!(&found.3, &sent.3);
                if id == TrackId::VIDEO {
                    // Sound may be moved up to the picture that opened its file; pictures never are.
                    prop_assert_eq!(found.1 - found.0 as i64, sent.1 - sent.0 as i64);
                }
            }
        }
    }
}

#[test]
fn sound_that_the_container_has_no_form_for_is_left_out_and_alone_it_is_no_file() {
    let voice = |millis| Frame {
        track: TrackId::AUDIO,
        dts: MediaTime::from_millis(millis),
        pts: MediaTime::from_millis(millis),
        payload: Payload::Audio { codec: Codec::PcmA, data: Bytes::from_static(&[0xd5; 160]) },
    };
    let mut world = World::new(Duration::from_secs(600));
    world.parameters(TrackId::AUDIO, Parameters::of_voice(Codec::PcmA).unwrap());
    (0..100).for_each(|number| world.live(&voice(number * 20)));
    assert!(world.paths().is_empty());
    world.parameters(TrackId::VIDEO, h264());
    let pictures: Vec<Frame> =
        (50..150).map(|number| picture(number * 40, number * 40, number % 50 == 0)).collect();
    for picture in &pictures {
        world.live(picture);
        world.live(&voice(picture.dts.ticks + 1));
    }
    world.finish();
    let (movie, _) = read(world.file(0));
    assert_eq!((world.paths().len(), movie.tracks.len()), (1, 1));
    assert_eq!(read_track(world.file(0), 1), sent_track(&pictures, TrackId::VIDEO, 2000));
    assert_eq!((world.counters().frames, world.counters().skipped), (100, 200));
}
