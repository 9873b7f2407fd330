//! Viewers that ask for one piece after the other, over sockets: against files that ffmpeg made, against a small server with low
//! latency, and the repetition of what one of them asked for.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod origin;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use shardcast_bench::{
    clip::{Clip, Playback},
    floor::files,
    load::{Load, Report},
    scenario::Scenario,
    server::{Doors, Floor},
};
use shardcast_engine::flv;

fn scenario(by: &str, viewers: usize, parse: usize) -> Scenario {
    let text = format!(
        "name = \"x\"\nabout = \"X.\"\n[publish]\nstreams = 1\nbitrate = \"1Mbit\"\n\
         [watch]\nviewers = {viewers}\nby = \"{by}\"\njoin-rate = 100\nparse = {parse}\n[time]\nmeasure = \"2s\"\n"
    );
    Scenario::parse(&text).unwrap()
}

/// Lets viewers join what is there, and watch for so long once all play.
fn watch(mut load: Load, viewers: u64, time: Duration) -> Report {
    load.join();
    let deadline = Instant::now() + Duration::from_secs(30);
    while load.playing() < viewers && Instant::now() < deadline {
        load.turn().unwrap();
    }
    // Those who came last have the beginning to catch up with.
    turn_for(&mut load, Duration::from_secs(u64::from(viewers > 0)));
    load.begin_window();
    turn_for(&mut load, time);
    load.end_window()
}

fn turn_for(load: &mut Load, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        load.turn().unwrap();
    }
}

fn url(address: SocketAddr, path: &str) -> Option<String> {
    Some(format!("http://{address}/{path}"))
}

/// A folder for what a test makes; empty.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Sixteen seconds of stamped pictures, as a publisher would have sent them.
fn recording(folder: &Path) -> PathBuf {
    let mut playback = Playback::new(Clip::built_in());
    let (mut wire, mut out) = ((flv::FORM.open)(), BytesMut::new());
    let clip = playback.clip().clone();
    wire.header(clip.opening(), &clip.parts()[0].frame, &mut out);
    for _ in clip.parts() {
        wire.frame(&playback.take(1), &mut out);
    }
    let path = folder.join("stamped.flv");
    fs::write(&path, &out).unwrap();
    path
}

/// Has ffmpeg make what `words` say in `folder`; false where there is none.
fn ffmpeg(folder: &Path, words: &str) -> bool {
    let input = recording(folder);
    let found = Command::new("ffmpeg")
        .args(["-loglevel", "error", "-i"])
        .arg(input)
        .args(["-c", "copy"])
        .args(words.split(' '))
        .current_dir(folder)
        .output();
    let Ok(out) = found else {
        assert!(std::env::var_os("CI").is_none(), "no ffmpeg here: tests/setup.sh installs it");
        eprintln!("no ffmpeg here: {words} was not made");
        return false;
    };
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    true
}

/// Watches files: two viewers look at all from where they begin to the end, three or four segments of two seconds; four look
/// at one segment, which has their first key frame.
fn watch_files(by: &str, folder: &Path, doors: impl FnOnce(SocketAddr) -> Doors) {
    let doors = doors(origin::files(folder.to_owned()));
    let load = Load::new(scenario(by, 6, 2), doors, Floor::default(), &Clip::built_in()).unwrap();
    let report = watch(load, 6, Duration::from_secs(1));
    assert_eq!((report.viewers.playing, report.viewers.refused), (6, 0), "{:?}", report.trouble);
    assert!(report.checks.passed(), "{:?} {:?}", report.checks, report.trouble);
    let pictures = (report.checks.pictures - 4 * 60) / 2;
    assert!(matches!(pictures, 180 | 240), "{:?}", report.checks);
    assert_eq!(report.first_key.count(), 6);
}

/// Takes the last segment out of a list: of that ffmpeg says how long its sound is, which is 20 ms shorter than its pictures.
fn without_last(list: &Path) {
    let text = fs::read_to_string(list).unwrap();
    let end = text.rfind("#EXTINF").unwrap();
    fs::write(list, &text[..end]).unwrap();
}

#[test]
fn segments_of_fragmented_mp4_and_of_mpegts_that_ffmpeg_made_are_read_whole() {
    for (name, words) in [
        (
            "hls-fmp4",
            "-f hls -hls_time 2 -hls_segment_type fmp4 -hls_list_size 0 -hls_flags omit_endlist index.m3u8",
        ),
        ("hls-ts", "-f hls -hls_time 2 -hls_list_size 0 -hls_flags omit_endlist index.m3u8"),
        (
            "hls-master",
            "-f hls -hls_time 2 -hls_segment_type fmp4 -hls_list_size 0 -hls_flags omit_endlist -master_pl_name index.m3u8 list.m3u8",
        ),
    ] {
        let folder = folder(name);
        if ffmpeg(&folder, words) {
            without_last(&folder.join(words.rsplit(' ').next().unwrap()));
            let doors = |address| Doors { hls: url(address, "index.m3u8"), ..Doors::default() };
            watch_files("hls", &folder, doors);
        }
    }
}

#[test]
fn a_manifest_and_segments_that_ffmpeg_made_are_read_whole() {
    let folder = folder("dash");
    if !ffmpeg(&folder, "-f dash -seg_duration 2 -use_timeline 1 -use_template 1 -window_size 0 manifest.mpd")
    {
        return;
    }
    let path = folder.join("manifest.mpd");
    // What it was while it was live.
    let text = fs::read_to_string(&path)
        .unwrap()
        .replace("type=\"static\"", "type=\"dynamic\" minimumUpdatePeriod=\"PT1S\"");
    fs::write(&path, text).unwrap();
    let doors = |address| Doors { dash: url(address, "manifest.mpd"), ..Doors::default() };
    watch_files("dash", &folder, doors);
}

#[test]
fn a_transport_stream_over_http_is_read_whole() {
    let folder = folder("http-ts");
    if !ffmpeg(&folder, "-f mpegts stream.ts") {
        return;
    }
    let doors = Doors { http_ts: url(origin::files(folder), "stream.ts"), ..Doors::default() };
    let load = Load::new(scenario("http-ts", 1, 1), doors, Floor::default(), &Clip::built_in()).unwrap();
    let report = watch(load, 0, Duration::from_millis(1500));
    // A file ends, which a stream does not.
    assert!(report.trouble.iter().all(|why| why.contains("ended")), "{:?}", report.trouble);
    let checks = &report.checks;
    assert_eq!((checks.gaps, checks.damaged, checks.out_of_order, checks.time_backwards), (0, 0, 0, 0));
    // The last picture is not known to be whole before another begins.
    assert!((479..=480).contains(&checks.pictures), "{checks:?}");
}

/// Watches the small server with low latency, and what one of its viewers asked for by files of the same sizes.
#[test]
fn viewers_with_low_latency_keep_up_and_what_one_asked_for_can_be_repeated() {
    let doors = Doors { ll_hls: url(origin::low_latency(), "live/cam/index.m3u8"), ..Doors::default() };
    let clip = Clip::built_in();
    let load = Load::new(scenario("ll-hls", 12, 4), doors, Floor::default(), &clip).unwrap();
    let report = watch(load, 12, Duration::from_secs(3));
    assert_eq!((report.viewers.playing, report.viewers.refused), (12, 0), "{:?}", report.trouble);
    assert!(report.checks.passed(), "{:?} {:?}", report.checks, report.trouble);
    assert!(
        report.latency.count() > 0 && report.latency.quantile(0.5) > 50.0,
        "{:?}",
        report.latency.quantiles()
    );
    assert_eq!((report.traffic.missing_bytes, report.first_key.count()), (0, 12));
    let requests = report.requests.unwrap();
    // Five parts a second of two renditions, and a playlist for each.
    let (wanted, found) = (12.0 * 5.0 * 2.0 * 2.0, requests.per_second);
    assert!((wanted * 0.7..wanted * 1.3).contains(&found), "{found} requests a second, not {wanted}");
    assert!(requests.playlists.abs_diff(requests.pieces) * 5 < requests.pieces, "{requests:?}");
    assert!(
        requests.hold.count > 0 && requests.hold.p50 > 50.0 && requests.hold.p50 < 400.0,
        "{:?}",
        requests.hold
    );
    assert_eq!(requests.reconnects, 0);
    let trace = requests.trace;
    assert!(
        trace.asked.iter().any(|asked| asked.connection == 1) && trace.asked.len() > 30,
        "{}",
        trace.asked.len()
    );
    let bytes: u64 = trace.asked.iter().filter(|asked| !asked.playlist).map(|asked| asked.bytes).sum();
    let each = report.traffic.delivered_bytes / 12;
    assert!(bytes.abs_diff(each) < each / 4, "{bytes} of the one, {each} of each");

    let folder = folder("static");
    let mut sizes: Vec<u64> = trace.asked.iter().map(|asked| asked.bytes).collect();
    sizes.sort_unstable();
    sizes.dedup();
    files::write(&files::Options { dir: folder.clone(), sizes, command: Vec::new() }).unwrap();
    let doors = Doors { ll_hls: url(origin::files(folder), ""), ..Doors::default() };
    let floor = Floor { feeds_itself: true, unparsed: true, replays: true, ..Floor::default() };
    let mut load = Load::new(scenario("ll-hls", 12, 4), doors, floor, &clip).unwrap();
    load.repeat(trace.clone());
    let repeated = watch(load, 12, Duration::from_secs_f64(trace.seconds));
    assert_eq!((repeated.viewers.playing, repeated.viewers.refused), (12, 0), "{:?}", repeated.trouble);
    let found = repeated.requests.unwrap().answered as f64 / (12 * trace.asked.len()) as f64;
    assert!((0.9..1.1).contains(&found), "{found} of the requests");
    let found = repeated.traffic.delivered_bytes as f64 / (12 * bytes) as f64;
    assert!((0.9..1.1).contains(&found), "{found} of the bytes");
}

#[test]
fn a_server_that_has_nothing_refuses_each_viewer_and_says_why() {
    let doors = Doors { hls: url(origin::files(folder("nothing")), "index.m3u8"), ..Doors::default() };
    fs::write(folder("nothing").join("index.m3u8"), "<html>").unwrap();
    let load = Load::new(scenario("hls", 3, 1), doors, Floor::default(), &Clip::built_in()).unwrap();
    let report = watch(load, 0, Duration::from_millis(500));
    assert_eq!((report.viewers.playing, report.viewers.refused), (0, 3));
    assert!(report.trouble[0].contains("EXTM3U"), "{:?}", report.trouble);
    let mut load =
        Load::new(scenario("dash", 1, 1), Doors::default(), Floor::default(), &Clip::built_in()).unwrap();
    load.join();
    assert!(load.turn().unwrap_err().contains("no door dash"));
}
