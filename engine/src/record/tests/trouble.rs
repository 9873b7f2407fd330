//! Disks that fail, fill or are slow, and names that are taken.

use super::*;

#[test]
fn a_name_that_is_taken_is_never_overwritten() {
    let mut world = World::new(Duration::from_secs(600));
    let old = "live/cam/2026-11-22T07-45-00.123Z.mp4";
    world.disk.files.insert(old.to_owned(), b"precious".to_vec());
    world.parameters(TrackId::VIDEO, h264());
    for frame in stream(0..2000, 1000).iter().filter(|frame| frame.is_video()) {
        world.live(frame);
    }
    world.finish();
    assert_eq!(world.paths(), ["live/cam/2026-11-22T07-45-00.123Z-1.mp4", old]);
    assert_eq!(world.disk.files[old], b"precious");
    assert_eq!(read_track(world.file(0), 1).len(), 50);
}

#[test]
fn a_quiet_publisher_s_fragment_is_written_by_the_deadline() {
    let mut world = World::new(Duration::from_secs(600));
    world.parameters(TrackId::VIDEO, h264());
    world.live(&picture(0, 0, true));
    assert_eq!(world.recorder.deadline(), Some(Now(0).after(limits::FRAGMENT_CUT_AFTER)));
    assert!(world.paths().is_empty());
    world.advance(Now(0).after(Duration::from_secs(1)));
    assert_eq!(read_track(world.file(0), 1).len(), 1);
    assert_eq!(world.recorder.deadline(), None);
}

#[test]
fn a_discontinuity_writes_what_is_open_and_the_file_goes_on() {
    let mut world = World::new(Duration::from_secs(600));
    world.parameters(TrackId::VIDEO, h264());
    world.live(&picture(0, 0, true));
    let zero = MediaTime::from_millis(0);
    world.frame(&Frame { track: TrackId::VIDEO, dts: zero, pts: zero, payload: Payload::Discontinuity });
    assert_eq!(read_track(world.file(0), 1).len(), 1);
    world.live(&picture(8000, 8000, true));
    world.finish();
    assert_eq!(world.paths().len(), 1);
    assert_eq!(read_track(world.file(0), 1)[1].0, 8000);
}

#[test]
fn a_full_disk_stops_the_file_tells_once_and_the_gap_is_on_record() {
    let frames = stream(0..20_000, 1000);
    let mut world = World::new(Duration::from_secs(600));
    world.parameters(TrackId::VIDEO, h264());
    world.parameters(TrackId::AUDIO, aac());
    for frame in &frames {
        world.disk.fault = (5000..12_000).contains(&frame.dts.ticks).then_some(Fault::Full);
        world.live(frame);
    }
    world.finish();
    assert_eq!(world.paths().len(), 2);
    let [Output::Alarm { fault: Fault::Full, .. }, Output::Gap { from, to, frames: lost }] = &world.told[..]
    else {
        panic!("{:?}", world.told);
    };
    let counters = world.counters();
    assert_eq!(counters.lost, *lost);
    assert_eq!(counters.frames + counters.lost, frames.len() as u64);
    assert!(counters.failures >= 2, "it tried again while the disk was full");
    // The fragment in flight when the disk filled began at 4 s or later.
    let (from, to) = ((from.0 - BEGIN.0) / 1_000_000, (to.0 - BEGIN.0) / 1_000_000);
    assert!((4000..5000).contains(&from), "{from}");
    assert!((12_000..17_000).contains(&to), "{to}");
    // Both files hold exactly what stands before and after the gap.
    let before = frames.iter().filter(|frame| frame.dts.ticks < from as i64);
    assert_eq!(read_track(world.file(0), 1), sent_track(before, TrackId::VIDEO, 0));
    let after = frames.iter().filter(|frame| frame.dts.ticks >= to as i64);
    assert_eq!(read_track(world.file(1), 1), sent_track(after, TrackId::VIDEO, to as i64));
}

#[test]
fn a_slow_disk_costs_whole_fragments_up_to_a_key_frame_and_memory_stays_bounded() {
    let frames = stream(0..20_000, 1000);
    let mut world = World::new(Duration::from_secs(600));
    world.parameters(TrackId::VIDEO, h264());
    world.parameters(TrackId::AUDIO, aac());
    for frame in &frames {
        if frame.dts.ticks == 3000 {
            world.disk.slow = Some(Vec::new());
        }
        if frame.dts.ticks == 12_000 {
            world.catch_up();
        }
        world.live(frame);
        let waiting = world.disk.slow.as_ref().map_or(0, Vec::len);
        assert!(waiting <= limits::FRAGMENTS_IN_FLIGHT_MAX);
    }
    world.finish();
    assert_eq!(world.paths().len(), 1, "the same file goes on");
    let counters = world.counters();
    assert!(counters.lost > 0);
    assert_eq!(counters.frames + counters.lost, frames.len() as u64);
    assert!(
        matches!(&world.told[..], [Output::Gap { frames, .. }] if *frames == counters.lost),
        "{:?}",
        world.told
    );
    let video = read_track(world.file(0), 1);
    let seam = video.windows(2).find(|pair| pair[1].0 - pair[0].0 > 40).unwrap();
    assert!(seam[1].2, "what follows a gap begins with a key frame");
    assert!(scan::scan(world.file(0), Depth::Content).unwrap().is_sound());
}

#[test]
fn a_disk_that_fails_to_the_end_leaves_no_file_and_a_gap() {
    let mut world = World::new(Duration::from_secs(600));
    world.disk.fault = Some(Fault::Failed);
    world.parameters(TrackId::VIDEO, h264());
    let frames: Vec<_> = stream(0..5000, 1000).into_iter().filter(Frame::is_video).collect();
    for frame in &frames {
        world.live(frame);
    }
    world.finish();
    assert!(world.paths().is_empty());
    assert_eq!(world.counters().lost, frames.len() as u64);
    assert!(matches!(world.told.last(), Some(Output::Gap { frames: 125, .. })), "{:?}", world.told);
}

#[test]
fn a_file_begins_with_its_head_however_slowly_files_are_closed() {
    let settings = Settings { segment: Duration::from_secs(2), ..Settings::default() };
    let mut recorder = Recorder::new("live/cam", &settings);
    let zero = MediaTime::from_millis(0);
    let payload = Payload::Parameters(Arc::new(h264()));
    recorder.frame(&Frame { track: TrackId::VIDEO, dts: zero, pts: zero, payload }, Now(0), BEGIN);
    let mut begun = 0;
    let mut closing = Vec::new();
    for frame in stream(0..60_000, 500).iter().filter(|frame| frame.is_video()) {
        let now = Now(u64::try_from(frame.dts.as_nanos()).unwrap());
        recorder.frame(frame, now, Wall(BEGIN.0 + now.0));
        while let Some(output) = recorder.poll() {
            match output {
                Output::Open { segment, .. } => recorder.opened(segment, Ok(4096), now),
                Output::Append { segment, offset, fragment } => {
                    let mut bytes = vec![0; fragment.len()];
                    fragment.write_into(&mut bytes);
                    assert_eq!(offset == 0, &bytes[4..8] == b"ftyp", "at {offset} of {segment:?}");
                    begun += u32::from(offset == 0);
                    recorder.appended(segment, Ok(()), now);
                }
                Output::Finish { segment, .. } => {
                    closing.push((now.after(Duration::from_millis(8300)), segment))
                }
                Output::Alarm { .. } | Output::Gap { .. } => {}
            }
        }
        if let Some(at) = closing.iter().position(|(due, _)| *due <= now) {
            recorder.finished(closing.remove(at).1, Ok(()));
        }
    }
    assert!(begun > 10, "{begun} files were begun");
}
