//! HLS and LL-HLS: what players, proxies and people of ill will get.

use std::{
    thread,
    time::{Duration, Instant},
};

use shardcast_tests::clients::{
    media::{Clip, Kind},
    packets::Packets,
    process::{Process, run},
    program,
    server::{Server, Setup},
    wait_for,
    web::{Web, addresses, attribute, get, get_when_there, tag},
};

fn index(server: &Server, name: &str) -> String {
    format!("http://127.0.0.1:{}/{name}/index.m3u8", server.ports().http)
}

/// Every codec that a browser may know, as its ffmpeg reads it.
fn ffmpeg_reads(kind: Kind, seconds: u32) {
    let clip = Clip::of(kind, seconds);
    let server = Setup::new().start();
    let publisher = clip.publish(&server.rtmp_url("live/cam"));
    get_when_there(&server, "/live/cam/index.m3u8");
    let player = Packets::player(clip.ffmpeg, &index(&server, "live/cam"));
    publisher.succeed(Duration::from_secs(60));
    let ended = player.succeed(Duration::from_secs(30));
    // ffmpeg says so whenever it loads a live list anew, of its own lists too.
    let harmless = |line: &&str| {
        let word = line.trim();
        word.is_empty()
            || word.contains("Found duplicated MOOV Atom")
            || word.starts_with("Last message repeated")
    };
    let complaints: Vec<&str> = ended.errors.lines().filter(|line| !harmless(line)).collect();
    assert!(complaints.is_empty(), "ffmpeg complains: {complaints:?}");
    let packets = Packets::parse(&ended.output);
    // From where it came in to the last packet, nothing lost, nothing changed. Sound stands on the clock of its samples.
    let (video, audio) = packets.assert_run(&clip.packets, 2000);
    for (run, source) in [(video, &clip.packets.video), (audio, &clip.packets.audio)] {
        if let Some(run) = run {
            assert_eq!(run.first + run.count, source.len(), "to the very end");
            assert!(run.count * 2 > source.len(), "{run:?} of {}", source.len());
        }
    }
    assert_eq!(video.is_some(), !clip.packets.video.is_empty());
    assert_eq!(audio.is_some(), !clip.packets.audio.is_empty());
}

#[test]
fn ffmpeg_reads_what_was_published_h264() {
    ffmpeg_reads(Kind::H264, 14);
}

#[test]
fn ffmpeg_reads_what_was_published_sound_alone() {
    ffmpeg_reads(Kind::Sound, 12);
}

#[test]
fn ffmpeg_reads_what_was_published_hevc() {
    ffmpeg_reads(Kind::Hevc, 12);
}

#[test]
fn ffmpeg_reads_what_was_published_av1() {
    ffmpeg_reads(Kind::Av1, 12);
}

#[test]
fn ffmpeg_reads_what_was_published_vp9() {
    ffmpeg_reads(Kind::Vp9, 12);
}

/// What MPEG-TS in segments holds, as ffmpeg reads it: every packet, and it says not a word.
fn ffmpeg_reads_transport(kind: Kind, seconds: u32) {
    let clip = Clip::of(kind, seconds);
    let server = Setup::new().start();
    let publisher = clip.publish(&server.rtmp_url("live/ts"));
    let page = get_when_there(&server, "/live/ts/index.m3u8?format=ts");
    assert_eq!(page.field("Content-Type"), Some("application/vnd.apple.mpegurl"));
    assert_eq!(addresses(page.text()), ["ts.m3u8"]);
    let mut command = std::process::Command::new(program(clip.ffmpeg));
    command.args(["-nostdin", "-v", "warning", "-copyts", "-i", &transport_index(&server, "live/ts")]);
    command.args(["-map", "0:v?", "-map", "0:a?"]).args(kind.of_transport());
    command.args(["-c", "copy", "-copyinkf", "-f", "framehash", "-hash", "md5", "-"]);
    let player = Process::start("ffmpeg-player", &mut command);
    publisher.succeed(Duration::from_secs(60));
    let ended = player.succeed(Duration::from_secs(30));
    assert_eq!(ended.errors, "", "ffmpeg complains");
    let source = clip.transport();
    let (video, audio) = Packets::parse(&ended.output).assert_run(&source, 0);
    for (run, source) in [(video, &source.video), (audio, &source.audio)] {
        assert_eq!(run.is_some(), !source.is_empty());
        if let Some(run) = run {
            assert_eq!(run.first + run.count, source.len(), "to the very end");
            assert!(run.count * 2 > source.len(), "{run:?} of {}", source.len());
        }
    }
}

fn transport_index(server: &Server, name: &str) -> String {
    format!("{}?format=ts", index(server, name))
}

#[test]
fn ffmpeg_reads_mpeg_ts_of_h264() {
    ffmpeg_reads_transport(Kind::H264, 14);
}

#[test]
fn ffmpeg_reads_mpeg_ts_of_sound_alone() {
    ffmpeg_reads_transport(Kind::Sound, 12);
}

#[test]
fn ffmpeg_reads_mpeg_ts_of_hevc() {
    ffmpeg_reads_transport(Kind::Hevc, 12);
}

#[test]
fn each_segment_of_mpeg_ts_is_a_stream_with_pictures_and_sound() {
    let clip = Clip::of(Kind::H264, 14);
    let server = Setup::new().start();
    let publisher = clip.publish(&server.rtmp_url("live/alone"));
    let page = get_when_there(&server, "/live/alone/index.m3u8?format=ts");
    let stream = tag(page.text(), "#EXT-X-STREAM-INF").expect("a variant");
    let said = ["RESOLUTION", "FRAME-RATE", "CODECS"].map(|name| attribute(stream, name).unwrap_or_default());
    assert_eq!(said[..2], ["320x180", "25.000"]);
    assert!(said[2].starts_with("avc1.") && said[2].ends_with(",mp4a.40.2"), "{stream}");
    let list = wait_for(Duration::from_secs(20), || {
        let list = get(&server, "/live/alone/ts.m3u8");
        (addresses(list.text()).len() >= 4).then_some(list)
    })
    .expect("four segments");
    for address in addresses(list.text()) {
        let segment = get(&server, &format!("/live/alone/{address}"));
        assert_eq!((segment.status, segment.field("Content-Type")), (200, Some("video/mp2t")));
        assert!(segment.body.len() > 188 * 10 && segment.body.chunks(188).all(|packet| packet[0] == 0x47));
        let url = format!("http://127.0.0.1:{}/live/alone/{address}", server.ports().http);
        let mut command = std::process::Command::new(program("ffprobe"));
        command.args(["-v", "warning", "-count_packets", "-show_entries"]);
        command.args(["stream=codec_name,nb_read_packets,start_time", "-of", "csv=p=0"]);
        let ended = run("ffprobe", command.arg(url), Duration::from_secs(30));
        assert_eq!(ended.errors, "");
        let pictures = ended.output.lines().find(|line| line.starts_with("h264,")).unwrap_or_default();
        assert!(pictures.ends_with(",50"), "two seconds: {}", ended.output);
        assert!(ended.output.lines().any(|line| line.starts_with("aac,")), "{}", ended.output);
    }
    drop(publisher);
}

#[test]
fn of_what_mpeg_ts_has_no_place_for_the_rest_is_offered() {
    let clip = Clip::of(Kind::Vp9, 12);
    let server = Setup::new().start();
    let publisher = clip.publish(&server.rtmp_url("live/half"));
    let page = get_when_there(&server, "/live/half/index.m3u8?format=ts");
    let stream = tag(page.text(), "#EXT-X-STREAM-INF").expect("a variant");
    assert_eq!((attribute(stream, "CODECS"), attribute(stream, "RESOLUTION")), (Some("opus"), None));
    drop(publisher);
}

#[test]
fn gstreamer_and_mpv_play_it() {
    let clip = Clip::of(Kind::H264, 16);
    let server = Setup::new().start();
    let publisher = clip.publish(&server.rtmp_url("live/players"));
    get_when_there(&server, "/live/players/index.m3u8");
    get_when_there(&server, "/live/players/index.m3u8?format=ts");
    let urls = [index(&server, "live/players"), transport_index(&server, "live/players")];
    let players = urls.each_ref().map(|url| play(url));
    publisher.succeed(Duration::from_secs(60));
    for player in players.into_iter().flatten() {
        let ended = player.succeed(Duration::from_secs(60));
        let said = ended.output + &ended.errors;
        assert!(!said.to_lowercase().contains("error"), "{said}");
    }
}

fn play(url: &str) -> [Process; 2] {
    let mut gstreamer = std::process::Command::new(program("gst-launch-1.0"));
    gstreamer.args([
        "-q",
        "playbin3",
        &format!("uri={url}"),
        "video-sink=fakesink silent=false",
        "audio-sink=fakesink",
    ]);
    let mut mpv = std::process::Command::new(program("mpv"));
    mpv.args(["--no-config", "--ao=null", "--vo=null", "--msg-level=all=warn", "--untimed=no", url]);
    [Process::start("gst", &mut gstreamer), Process::start("mpv", &mut mpv)]
}

#[test]
fn ffprobe_sees_both_renditions_in_the_multivariant_playlist() {
    let clip = Clip::of(Kind::H264, 10);
    let server = Setup::new().start();
    let publisher = clip.publish(&server.rtmp_url("live/probe"));
    let page = get_when_there(&server, "/live/probe/index.m3u8");
    assert_eq!(page.field("Content-Type"), Some("application/vnd.apple.mpegurl"));
    assert_eq!(page.field("Access-Control-Allow-Origin"), Some("*"));
    let stream = tag(page.text(), "#EXT-X-STREAM-INF").expect("a variant");
    assert_eq!(attribute(stream, "RESOLUTION"), Some("320x180"));
    assert!(
        attribute(stream, "CODECS")
            .is_some_and(|codecs| codecs.contains("avc1.") && codecs.contains("mp4a.40.2"))
    );
    let bandwidth: u64 = attribute(stream, "BANDWIDTH").and_then(|text| text.parse().ok()).expect("a number");
    assert!((20_000..3_000_000).contains(&bandwidth), "{bandwidth}");
    let mut command = std::process::Command::new(program("ffprobe"));
    command.args(["-v", "warning", "-show_entries", "stream=codec_name,width", "-of", "csv=p=0"]);
    let ended = run("ffprobe", command.arg(index(&server, "live/probe")), Duration::from_secs(30));
    let mut lines: Vec<&str> = ended.output.lines().filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines, ["aac", "h264,320"], "{}", ended.errors);
    drop(publisher);
}

/// The newest segment and part that a media playlist lists.
fn newest(playlist: &str) -> (u64, usize) {
    let first: u64 =
        tag(playlist, "#EXT-X-MEDIA-SEQUENCE").and_then(|text| text.parse().ok()).expect("a number");
    let whole = playlist.lines().filter(|line| line.starts_with("#EXTINF")).count() as u64;
    let tail = playlist.rsplit("#EXTINF").next().unwrap_or_default();
    (first + whole, tail.lines().filter(|line| line.starts_with("#EXT-X-PART:")).count())
}

#[test]
fn a_request_for_the_next_part_is_held_until_it_is_there() {
    let clip = Clip::of(Kind::H264, 20);
    let server = Setup::new().start();
    let publisher = clip.publish(&server.rtmp_url("live/low"));
    get_when_there(&server, "/live/low/index.m3u8");
    let mut web = Web::connect(&server);
    let mut playlist = web.get("/live/low/video.m3u8");
    let began = Instant::now();
    let mut parts = 0;
    while parts < 25 {
        let (number, index) = newest(playlist.text());
        let next = web.get(&format!("/live/low/video.m3u8?_HLS_msn={number}&_HLS_part={index}"));
        assert_eq!(next.status, 200, "{}", next.head);
        assert!(newest(next.text()) > (number, index), "it has what was asked for:\n{}", next.text());
        // The part that has just been listed can be fetched.
        let line = next.text().lines().rfind(|line| line.starts_with("#EXT-X-PART:")).expect("parts");
        let address = attribute(line.split_once(':').expect("a tag").1, "URI").expect("an address");
        let part = web.get(&format!("/live/low/{address}"));
        assert_eq!((part.status, part.field("Content-Type")), (200, Some("video/mp4")));
        assert!(part.body.windows(4).any(|four| four == b"moof"), "{address}");
        playlist = next;
        parts += 1;
    }
    // Five a second: held, and neither answered at once nor forgotten.
    let spent = began.elapsed();
    assert!(spent > Duration::from_millis(3500) && spent < Duration::from_secs(8), "{spent:?}");
    drop(publisher);
}

#[test]
fn a_preload_hint_is_answered_as_soon_as_its_part_is_cut() {
    let clip = Clip::of(Kind::H264, 12);
    let server = Setup::new().start();
    let publisher = clip.publish(&server.rtmp_url("live/hint"));
    get_when_there(&server, "/live/hint/index.m3u8");
    let mut web = Web::connect(&server);
    let playlist = web.get("/live/hint/video.m3u8");
    let hint =
        tag(playlist.text(), "#EXT-X-PRELOAD-HINT").and_then(|hint| attribute(hint, "URI")).expect("a hint");
    let part = web.get(&format!("/live/hint/{hint}"));
    assert_eq!(part.status, 200);
    let after = web.get("/live/hint/video.m3u8");
    assert!(after.text().contains(&format!("URI=\"{hint}\"")), "{}", after.text());
    assert!(!after.text().contains(&format!("TYPE=PART,URI=\"{hint}\"")), "another is hinted at now");
    drop(publisher);
}

#[test]
fn playlists_come_packed_and_media_by_ranges() {
    let clip = Clip::of(Kind::H264, 12);
    let server = Setup::new().start();
    let publisher = clip.publish(&server.rtmp_url("live/http"));
    get_when_there(&server, "/live/http/index.m3u8");
    let mut web = Web::connect(&server);
    let plain = web.get("/live/http/video.m3u8");
    let packed = web.get_with("/live/http/video.m3u8", "Accept-Encoding: gzip, deflate, br\r\n");
    assert_eq!(packed.field("Content-Encoding"), Some("gzip"));
    assert!(packed.body.starts_with(&[0x1f, 0x8b]) && packed.body.len() * 2 < plain.body.len());
    let segment = addresses(plain.text())[0].to_owned();
    let path = format!("/live/http/{segment}");
    let whole = web.get(&path);
    assert_eq!(whole.field("Cache-Control"), Some("public, max-age=600"));
    let some = web.get_with(&path, "Range: bytes=100-299\r\n");
    assert_eq!((some.status, some.body.as_slice()), (206, &whole.body[100..300]));
    assert_eq!(some.field("Content-Range"), Some(format!("bytes 100-299/{}", whole.body.len()).as_str()));
    let past = web.get_with(&path, "Range: bytes=99999999-\r\n");
    assert_eq!(past.status, 416);
    web.ask(&format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\nGET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    // The answer to HEAD has a length and no body; the next answer follows at once.
    let mut twice = Web::connect(&server);
    twice.ask(&format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\n\r\nGET /live/http/index.m3u8 HTTP/1.1\r\nHost: a\r\n\r\n"
    ));
    assert_eq!(twice.answer().body, whole.body, "two requests at once have two answers");
    assert!(twice.answer().text().starts_with("#EXTM3U"));
    drop(publisher);
}

#[test]
fn a_publisher_that_comes_back_goes_on_behind_a_discontinuity() {
    let clip = Clip::of(Kind::H264, 7);
    let server = Setup::new().stream("reconnect_window = \"10s\"\n").start();
    let first = clip.publish(&server.rtmp_url("live/back"));
    get_when_there(&server, "/live/back/index.m3u8");
    get_when_there(&server, "/live/back/ts.m3u8");
    first.succeed(Duration::from_secs(30));
    let (before, _) = newest(get(&server, "/live/back/video.m3u8").text());
    let second = clip.publish(&server.rtmp_url("live/back"));
    let playlist = wait_for(Duration::from_secs(20), || {
        let playlist = get(&server, "/live/back/video.m3u8");
        (newest(playlist.text()).0 >= before + 3).then_some(playlist)
    })
    .expect("numbers go on");
    for rendition in ["video", "audio", "ts"] {
        let playlist = get(&server, &format!("/live/back/{rendition}.m3u8"));
        let marks = playlist.text().lines().filter(|line| *line == "#EXT-X-DISCONTINUITY").count();
        assert_eq!(marks, 1, "{}", playlist.text());
    }
    assert!(!playlist.text().contains("ENDLIST"));
    second.succeed(Duration::from_secs(30));
}

#[test]
fn the_end_is_said_and_a_name_that_is_published_again_begins_anew() {
    let clip = Clip::of(Kind::H264, 6);
    let server = Setup::new().start();
    let publisher = clip.publish(&server.rtmp_url("live/end"));
    get_when_there(&server, "/live/end/index.m3u8");
    publisher.succeed(Duration::from_secs(30));
    let ended = wait_for(Duration::from_secs(10), || {
        let playlist = get(&server, "/live/end/video.m3u8");
        playlist.text().contains("#EXT-X-ENDLIST").then_some(playlist)
    })
    .expect("the end is said");
    let last = addresses(ended.text()).last().copied().expect("segments").to_owned();
    assert_eq!(get(&server, &format!("/live/end/{last}")).status, 200);
    let again = clip.publish(&server.rtmp_url("live/end"));
    let anew = wait_for(Duration::from_secs(15), || {
        let playlist = get(&server, "/live/end/video.m3u8");
        (playlist.status == 200 && !playlist.text().contains("#EXT-X-ENDLIST")).then_some(playlist)
    })
    .expect("the next stream of that name is listed");
    assert!(!anew.text().contains(&last), "names of segments are not used again");
    again.succeed(Duration::from_secs(30));
}

#[test]
fn what_makes_no_sense_is_refused_and_nobody_else_notices() {
    let clip = Clip::of(Kind::H264, 20);
    let server = Setup::new().start();
    let publisher = clip.publish(&server.rtmp_url("live/bad"));
    get_when_there(&server, "/live/bad/index.m3u8");
    let mut web = Web::connect(&server);
    for (path, status) in [
        ("/live/bad/video.m3u8?_HLS_msn=99999", 400),
        ("/live/bad/video.m3u8?_HLS_msn=18446744073709551615&_HLS_part=4294967295", 400),
        ("/live/bad/video.m3u8?_HLS_msn=18446744073709551616", 400),
        ("/live/bad/video.m3u8?_HLS_msn=-1", 400),
        ("/live/bad/video.m3u8?_HLS_part=1", 400),
        ("/live/bad/video.m3u8?_HLS_msn=x", 400),
        ("/live/bad/video-0-0.m4s", 404),
        ("/live/bad/video-ffffffffffffffff-0.m4s", 404),
        ("/live/bad/secret.txt", 404),
        ("/live/bad/..%2f..%2fetc%2fpasswd", 404),
        ("/live/../index.m3u8", 400),
        ("/live/nobody/index.m3u8", 404),
        ("/live/bad/subtitles.m3u8", 404),
    ] {
        let answer = web.get(path);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
    }
    // A thousand that wait for what is not there yet, and one that is served meanwhile.
    let playlist = web.get("/live/bad/video.m3u8");
    let (number, _) = newest(playlist.text());
    let mut held: Vec<Web> = (0..1000).map(|_| Web::connect(&server)).collect();
    for waiting in &mut held {
        waiting.ask(&format!("GET /live/bad/video.m3u8?_HLS_msn={} HTTP/1.1\r\nHost: a\r\n\r\n", number + 1));
    }
    thread::sleep(Duration::from_millis(200));
    assert!(server.metric("shardcast_held_requests").is_some_and(|held| held >= 900.0));
    assert!(held.iter_mut().take(100).all(Web::is_quiet));
    assert_eq!(web.get("/live/bad/index.m3u8").status, 200);
    for waiting in &mut held {
        assert_eq!(waiting.answer().status, 200);
    }
    drop(publisher);
}

#[test]
fn nobody_asks_and_so_nothing_is_kept() {
    let clip = Clip::of(Kind::H264, 20);
    let server =
        Setup { tables: "[hls]\nsegment = \"1s\"\nlinger = \"3s\"\n".into(), ..Setup::new() }.start();
    let publisher = clip.publish(&server.rtmp_url("live/idle"));
    get_when_there(&server, "/live/idle/index.m3u8");
    assert!(server.metric("shardcast_packaged_bytes").is_some_and(|bytes| bytes > 0.0));
    let (before, _) = newest(get(&server, "/live/idle/video.m3u8").text());
    let gone = wait_for(Duration::from_secs(12), || {
        server.metric("shardcast_packaged_bytes").is_some_and(|bytes| bytes == 0.0).then_some(())
    });
    assert!(gone.is_some(), "it is let go of");
    assert_eq!(get_when_there(&server, "/live/idle/index.m3u8").status, 200, "and made again");
    // Whoever paused meanwhile finds a list that goes on.
    let after = get(&server, "/live/idle/video.m3u8");
    let first: u64 =
        tag(after.text(), "#EXT-X-MEDIA-SEQUENCE").and_then(|text| text.parse().ok()).unwrap_or(0);
    assert!(first >= before, "{first} after {before}");
    assert!(after.text().contains("\n#EXT-X-DISCONTINUITY\n"), "{}", after.text());
    drop(publisher);
}

#[test]
fn who_has_no_key_gets_no_playlist_and_no_segment() {
    let clip = Clip::of(Kind::H264, 14);
    let server = Setup { tables: "[auth]\nplay = [\"sesame\"]\n".into(), ..Setup::new() }.start();
    let publisher = clip.publish(&server.rtmp_url("live/locked"));
    let page = get_when_there(&server, "/live/locked/index.m3u8?key=sesame");
    assert_eq!(get(&server, "/live/locked/index.m3u8").status, 403);
    let media = addresses(page.text())[0].to_owned();
    assert!(media.ends_with("?key=sesame"), "the credentials go on: {media}");
    let playlist = get(&server, &format!("/live/locked/{media}"));
    let segment = addresses(playlist.text())[0].to_owned();
    assert_eq!(get(&server, &format!("/live/locked/{segment}")).status, 200);
    let bare = segment.split('?').next().expect("a path");
    assert_eq!(get(&server, &format!("/live/locked/{bare}")).status, 403);
    drop(publisher);
}
