//! Recordings: every file is whole, plays with no complaint, and a crash takes at most its last second.

use std::{
    path::Path,
    process::Command,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use shardcast_tests::clients::{
    media::{Clip, GROUP, Kind},
    packets::{Packets, Run},
    process::{Ended, run},
    program,
    server::Setup,
    viewer::Viewer,
};

/// A container's clock may not divide a millisecond: half a tick of the coarsest, 1/44100, in microseconds.
const TICK: i64 = 12;

#[test]
fn a_recording_holds_every_packet_and_ffprobe_has_nothing_to_say() {
    let clip = Clip::of(Kind::H264, 8);
    let mut server = Setup::new().recording().start();
    clip.publish(&server.rtmp_url("live/rec")).succeed(Duration::from_secs(30));
    server.stop();
    let files = server.recordings("live/rec");
    assert_eq!(files.len(), 1, "{files:?}");
    for file in &files {
        plays_in_silence(file);
        Packets::of_file("ffmpeg", file).assert_equal(&clip.packets, TICK);
    }
}

#[test]
fn segments_begin_on_key_frames_and_together_hold_every_packet() {
    let clip = Clip::of(Kind::H264, 12);
    let mut server = Setup::new().recording().record("segment = \"3s\"\n").start();
    clip.publish(&server.rtmp_url("live/cut")).succeed(Duration::from_secs(30));
    server.stop();
    let files = server.recordings("live/cut");
    // A key frame each two seconds: segments of three seconds are cut at 4 and 8.
    assert_eq!(files.len(), 3, "{files:?}");
    let mut next = Run { first: 0, count: 0 };
    let mut heard = Run { first: 0, count: 0 };
    for file in &files {
        plays_in_silence(file);
        let (video, audio) = Packets::of_file("ffmpeg", file).assert_run(&clip.packets, TICK);
        let (video, audio) = (video.expect("pictures"), audio.expect("sound"));
        assert_eq!(video.first % GROUP, 0, "{} begins on a key frame", file.display());
        assert_eq!(
            video.first,
            next.first + next.count,
            "no picture is missing or doubled before {}",
            file.display()
        );
        assert_eq!(
            audio.first,
            heard.first + heard.count,
            "no sound is missing or doubled before {}",
            file.display()
        );
        (next, heard) = (video, audio);
    }
    assert_eq!(next.first + next.count, clip.packets.video.len());
    assert_eq!(heard.first + heard.count, clip.packets.audio.len());
}

#[test]
fn a_stop_in_mid_stream_closes_the_recording() {
    let clip = Clip::of(Kind::H264, 12);
    let mut server = Setup::new().recording().start();
    let publisher = clip.publish(&server.rtmp_url("live/stop"));
    let mut viewer = Viewer::open(&server, "live/stop");
    viewer.read_for(Duration::from_secs(4));
    server.stop();
    viewer.read_to_end();
    drop(publisher);
    let files = server.recordings("live/stop");
    assert_eq!(files.len(), 1, "{files:?}");
    for file in &files {
        plays_in_silence(file);
        let (video, _) = Packets::of_file("ffmpeg", file).assert_run(&clip.packets, TICK);
        let seen = server.folder().join("seen.flv");
        viewer.save(&seen);
        let (shown, _) = Packets::of_file("ffmpeg", &seen).assert_run(&clip.packets, 0);
        assert!(
            video.expect("pictures").count >= shown.expect("pictures").count,
            "what a viewer saw before the stop is recorded: {video:?}, {shown:?}"
        );
    }
}

#[test]
fn after_a_kill_at_any_moment_every_file_plays_to_within_a_second_of_it() {
    const KILLS: usize = 50;
    const AT_ONCE: usize = 10;
    let clip = &Clip::of(Kind::H264, 8);
    let begin = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let mut seed = begin.as_nanos();
    println!("seed {seed}");
    let mut random = |bound: u64| {
        // Knuth's MMIX generator; its high bits are good enough to spread fifty moments.
        seed = (seed * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) & u128::from(u64::MAX);
        u64::try_from(seed >> 33).expect("31 bits") % bound
    };
    let (mut judged, mut played) = (0, 0);
    for _ in 0..KILLS / AT_ONCE {
        let moments: Vec<Duration> =
            (0..AT_ONCE).map(|_| Duration::from_millis(300 + random(5_000))).collect();
        thread::scope(|scope| {
            let kills: Vec<_> =
                moments.into_iter().map(|moment| scope.spawn(move || kill_and_judge(clip, moment))).collect();
            for kill in kills {
                if let Ok(plays) = kill.join() {
                    judged += 1;
                    played += usize::from(plays);
                }
            }
        });
    }
    assert_eq!(judged, KILLS, "the others are told above");
    // A sixth of the moments lie in the first second, whose fragment may have been in flight.
    assert!(played > KILLS / 2, "only {played} files of {KILLS} had anything to play");
}

/// Kills a server in mid-recording and judges what it left. True when there was something to play.
fn kill_and_judge(clip: &Clip, moment: Duration) -> bool {
    let mut server = Setup::new().top("shards = 1\n").recording().start();
    let publisher = clip.publish(&server.rtmp_url("live/crash"));
    let mut viewer = Viewer::open(&server, "live/crash");
    while viewer.newest().is_none() && viewer.next_tag().is_some() {}
    viewer.read_for(moment);
    server.crash();
    viewer.read_to_end();
    drop(publisher);

    let seen = server.folder().join("seen.flv");
    viewer.save(&seen);
    let (shown, _) = Packets::of_file("ffmpeg", &seen).assert_run(&clip.packets, 0);
    let time = |run: Option<Run>| {
        let run = run.expect("pictures came");
        clip.packets.video.get(run.first + run.count - 1).expect("a place in the source").dts
    };
    let files = server.recordings("live/crash");
    assert!(files.len() <= 1, "{files:?}");
    let begin = clip.packets.video.first().expect("a clip has pictures").dts;
    let lived = time(shown) - begin;
    let Some(file) = files.first().filter(|file| holds_media(file)) else {
        assert!(lived <= 1_000_000, "killed after {lived} us there is nothing to play");
        return false;
    };
    plays_in_silence(file);
    let (video, _) = Packets::of_file("ffmpeg", file).assert_run(&clip.packets, TICK);
    let lost = time(shown) - time(video);
    assert!(lost <= 1_000_000, "killed after {lived} us, {lost} us are lost of {}", file.display());
    true
}

/// True when a first fragment was written. Until then a file is empty, or room that was set aside for it.
fn holds_media(file: &Path) -> bool {
    let bytes = std::fs::read(file).expect("a file of ours");
    bytes.windows(4).any(|window| window == b"moof")
}

/// Demands that ffprobe reads the file, and ffmpeg decodes it, without a word.
fn plays_in_silence(file: &Path) {
    let silent = |name: &str, ended: Ended| {
        assert!(ended.errors.is_empty(), "{name} says of {}:\n{}", file.display(), ended.errors);
    };
    let mut command = Command::new(program("ffprobe"));
    command.args(["-v", "warning", "-show_format", "-show_streams", "-show_packets"]).arg(file);
    silent("ffprobe", run("ffprobe", &mut command, Duration::from_secs(60)));
    let mut command = Command::new(program("ffmpeg"));
    command.args(["-nostdin", "-v", "warning", "-i"]).arg(file).args(["-f", "null", "-"]);
    silent("ffmpeg", run("ffmpeg", &mut command, Duration::from_secs(60)));
}
