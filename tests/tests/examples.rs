//! The examples of embedding, each against a real client, and each as short as it promises.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use shardcast_tests::clients::{
    Folder,
    media::{Clip, Kind},
    packets::Packets,
    process::{Process, run},
    program, repository,
    server::Ports,
    target, wait_for,
};

/// How long anything here may take; far longer than it does.
const PATIENCE: Duration = Duration::from_secs(30);

/// An example, as cargo has built it with the tests.
fn example(name: &str) -> Command {
    let profile = std::env::current_exe().expect("a running test has a path");
    let profile = profile.ancestors().nth(2).expect("cargo runs tests from TARGET/PROFILE/deps");
    let path: PathBuf = profile.join("examples").join(name);
    assert!(
        path.is_file() && path.starts_with(target()),
        "{} is not there: `cargo test --workspace` builds it, or `cargo build -p shardcast-shards --examples`",
        path.display()
    );
    Command::new(path)
}

/// Waits until something answers at a port.
fn wait_for_door(port: u16) {
    let open = || std::net::TcpStream::connect(("127.0.0.1", port)).ok();
    assert!(wait_for(PATIENCE, open).is_some(), "nobody answers at {port}");
}

fn said(process: &Process, word: &str) {
    let found = wait_for(PATIENCE, || process.said().contains(word).then_some(()));
    assert!(found.is_some(), "no {word:?} in {:?}; {}", process.said(), process.errors());
}

#[test]
fn an_example_is_no_longer_than_a_page_or_two() {
    for entry in fs::read_dir(repository().join("shards/examples")).unwrap() {
        let path = entry.unwrap().path();
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines < 120, "{}: {lines} lines", path.display());
    }
}

#[test]
fn the_smallest_ingest_takes_a_stream_of_ffmpeg() {
    let ports = Ports::free();
    let mut server = Process::start("example-ingest", example("ingest").arg(ports.rtmp.to_string()));
    wait_for_door(ports.rtmp);
    Clip::of(Kind::H264, 2).publish(&format!("rtmp://127.0.0.1:{}/live/cam", ports.rtmp)).succeed(PATIENCE);
    said(&server, "live/cam: published");
    said(&server, "live/cam: publisher gone");
    server.kill();
}

#[test]
fn rtmp_becomes_files_that_hls_players_read() {
    let (folder, ports) = (Folder::new("example-hls"), Ports::free());
    let mut command = example("hls_files");
    let mut server = Process::start("example-hls", command.arg(folder.path()).arg(ports.rtmp.to_string()));
    wait_for_door(ports.rtmp);
    let clip = Clip::of(Kind::H264, 10);
    clip.publish(&format!("rtmp://127.0.0.1:{}/live/cam", ports.rtmp)).succeed(PATIENCE);
    let playlist = folder.path().join("live/cam/index.m3u8");
    // The tail is stored when the stream ends, ten seconds after its publisher went.
    let whole = wait_for(PATIENCE, || {
        let text = fs::read_to_string(&playlist).unwrap_or_default();
        text.contains("#EXT-X-ENDLIST").then_some(text)
    });
    let text = whole.expect("the playlist has the whole clip");
    assert!(text.matches("#EXTINF").count() >= 3, "{text}");
    let mut command = Command::new(program("ffmpeg"));
    command.args(["-nostdin", "-v", "error", "-xerror", "-i"]).arg(&playlist).args(["-f", "null", "-"]);
    let decoded = run("ffmpeg-decode", &mut command, PATIENCE);
    assert!(decoded.status.success() && decoded.errors.trim().is_empty(), "{}", decoded.errors);
    let mut command = Command::new(program("ffprobe"));
    command.args(["-v", "error", "-select_streams", "v:0", "-count_packets", "-of", "csv=p=0"]);
    command.args(["-show_entries", "stream=nb_read_packets"]).arg(&playlist);
    let counted = run("ffprobe", &mut command, PATIENCE).output;
    assert_eq!(
        counted.split([',', '\n']).find(|word| !word.is_empty()),
        Some(&*clip.packets.video.len().to_string())
    );
    server.kill();
}

#[test]
fn a_radio_encoder_is_heard_by_a_player_of_another_protocol() {
    let ports = Ports::free();
    let mut command = example("protocol");
    let mut server =
        Process::start("example-protocol", command.args([ports.rtmp.to_string(), ports.http.to_string()]));
    wait_for_door(ports.http);
    let mut encoder = Command::new(program("ffmpeg"));
    encoder
        .args("-nostdin -v error -re -f lavfi -i sine=frequency=440:duration=4 -c:a libmp3lame".split(' '));
    encoder.args("-write_xing 0 -id3v2_version 0 -f mp3".split(' '));
    let encoder = Process::start("ffmpeg-radio", encoder.arg(format!("tcp://127.0.0.1:{}", ports.rtmp)));
    said(&server, "radio/live: published");
    let player = Packets::player("ffmpeg", &format!("http://127.0.0.1:{}/radio/live.flv", ports.http));
    encoder.succeed(PATIENCE);
    said(&server, "radio/live: ended");
    let heard = Packets::parse(&player.finish(PATIENCE).output);
    assert!(heard.audio.len() > 50, "{} packets", heard.audio.len());
    // Something that is no MP3 is an error of its own, and of nobody else.
    let mut stranger = std::net::TcpStream::connect(("127.0.0.1", ports.rtmp)).unwrap();
    std::io::Write::write_all(&mut stranger, b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut stranger, &mut rest).unwrap_or(0);
    assert!(rest.is_empty());
    server.kill();
}

#[test]
fn a_gateway_asks_for_a_token_records_and_keeps_books() {
    let (folder, ports) = (Folder::new("example-gateway"), Ports::free());
    let mut command = example("gateway");
    command.arg(folder.path()).args([ports.rtmp, ports.http, ports.control].map(|port| port.to_string()));
    let mut server = Process::start("example-gateway", &mut command);
    wait_for_door(ports.control);
    let clip = Clip::of(Kind::H264, 3);
    let rtmp = format!("rtmp://127.0.0.1:{}/live/cam", ports.rtmp);
    assert!(!clip.publish(&format!("{rtmp}?token=guess")).finish(PATIENCE).status.success());
    clip.publish(&format!("{rtmp}?token=sesame")).succeed(PATIENCE);
    said(&server, "stored rec/live/cam/");
    let page = run(
        "curl",
        Command::new("curl").args(["-s", &format!("http://127.0.0.1:{}/", ports.control)]),
        PATIENCE,
    );
    assert!(page.output.contains("gateway_well{what=\"storage\"} 1"), "{}", page.output);
    assert!(page.output.contains("shardcast_publishes_total"), "{}", page.output);
    let books = fs::read_to_string(folder.path().join("audit.jsonl")).unwrap();
    assert!(books.contains("\"granted\":false") && books.contains("\"granted\":true"), "{books}");
    let files: Vec<_> =
        fs::read_dir(folder.path().join("recordings/rec/live/cam")).unwrap().flatten().collect();
    assert_eq!(files.len(), 1);
    Packets::of_file("ffmpeg", &files[0].path()).assert_equal(&clip.packets, 1000);
    server.kill();
}

#[test]
fn the_parsers_alone_say_what_is_in_a_file() {
    let clip = Clip::of(Kind::H264, 2);
    let seen = run("example-codecs", example("codecs").arg(&clip.path), PATIENCE);
    assert!(seen.status.success(), "{}", seen.errors);
    for words in ["h264, avc1.", "320 x 180, profile", "aac, mp4a.40.2", "44100 Hz", "50 frames"] {
        assert!(seen.output.contains(words), "{words}: {}", seen.output);
    }
}

#[test]
fn frames_go_in_and_come_out_of_a_program() {
    let ports = Ports::free();
    let mut command = example("frames");
    let mut server =
        Process::start("example-frames", command.args([ports.rtmp.to_string(), ports.http.to_string()]));
    said(&server, "/live/clip.flv");
    let mut command = Command::new(program("ffprobe"));
    command.args("-v error -read_intervals %+2 -show_entries packet=codec_type -of csv=p=0".split(' '));
    let player =
        run("ffprobe", command.arg(format!("http://127.0.0.1:{}/live/clip.flv", ports.http)), PATIENCE);
    assert!(player.output.matches("video").count() > 20, "{} {}", player.output, player.errors);
    said(&server, " frames, ");
    server.kill();
}
