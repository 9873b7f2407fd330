//! RTMP in and RTMP out with real programs: what comes out is what went in.

use std::{process::Command, time::Duration};

use shardcast_tests::clients::{
    media::{Clip, Kind},
    packets::Packets,
    process::Process,
    program,
    server::Setup,
};

#[test]
fn ffmpeg_reads_by_rtmp_every_packet_that_ffmpeg_published() {
    let clip = Clip::of(Kind::H264, 8);
    assert!(
        clip.packets.video.iter().any(|packet| packet.pts - packet.dts > 40_000),
        "the clip has no B-frames, so it would not show that they keep their order"
    );
    let server = Setup::new().start();
    let url = server.rtmp_url("live/cam");
    let player = Packets::player("ffmpeg", &url);
    let publisher = clip.publish(&url);
    publisher.succeed(Duration::from_secs(30));
    let ended = player.succeed(Duration::from_secs(20));
    Packets::parse(&ended.output).assert_equal(&clip.packets, 0);
}

#[test]
fn eight_players_on_two_shards_get_every_packet() {
    let clip = Clip::of(Kind::H264, 8);
    let server = Setup::new().start();
    let url = server.rtmp_url("live/many");
    let players: Vec<Process> = (0..8)
        .map(|number| {
            let flv = server.flv_url("live/many");
            Packets::player("ffmpeg", if number % 2 == 0 { &url } else { &flv })
        })
        .collect();
    clip.publish(&url).succeed(Duration::from_secs(30));
    for player in players {
        let ended = player.succeed(Duration::from_secs(20));
        Packets::parse(&ended.output).assert_equal(&clip.packets, 0);
    }
}

#[test]
fn mp3_and_sound_alone_come_back_as_they_were_published_and_are_recorded() {
    let mut server = Setup::new().recording().start();
    for (kind, name) in [(Kind::Mp3, "live/mp3"), (Kind::Sound, "live/sound")] {
        let clip = Clip::of(kind, 6);
        let players =
            [server.rtmp_url(name), server.flv_url(name)].map(|url| Packets::player("ffmpeg", &url));
        clip.publish(&server.rtmp_url(name)).succeed(Duration::from_secs(30));
        for player in players {
            let ended = player.succeed(Duration::from_secs(20));
            Packets::parse(&ended.output).assert_equal(&clip.packets, 0);
        }
    }
    server.stop();
    for (kind, name) in [(Kind::Mp3, "live/mp3"), (Kind::Sound, "live/sound")] {
        let files = server.recordings(name);
        assert_eq!(files.len(), 1, "{files:?}");
        for file in &files {
            Packets::of_file("ffmpeg", file).assert_equal(&Clip::of(kind, 6).packets, 12);
        }
    }
}

#[test]
fn librtmp_saves_by_rtmpdump_every_packet_that_ffmpeg_published() {
    let clip = Clip::of(Kind::H264, 8);
    let server = Setup::new().start();
    let url = server.rtmp_url("live/dump");
    let mut command = Command::new(program("rtmpdump"));
    let player = Process::start("rtmpdump", command.args(["--quiet", "--live", "-r", &url, "-o", "-"]));
    clip.publish(&url).succeed(Duration::from_secs(30));
    let saved = player.folder().path().join("stdout");
    let kept = saved.with_extension("flv");
    // A hard link keeps the file when the player's folder goes.
    std::fs::hard_link(&saved, &kept).expect("one folder, one disk");
    let packets = |path| Packets::of_file("ffmpeg", path);
    let mut player = player;
    let ended = shardcast_tests::clients::wait_for(Duration::from_secs(20), || player.ended());
    assert!(ended.is_some(), "rtmpdump did not notice that the stream ended");
    packets(&kept).assert_equal(&clip.packets, 0);
}

#[test]
fn gstreamer_publishes_and_reads_back_what_it_sent() {
    let server = Setup::new().start();
    let url = server.rtmp_url("live/gst");
    let folder = shardcast_tests::clients::Folder::new("gstreamer");
    let [sent, got] = ["sent.flv", "got.flv"].map(|name| folder.path().join(name));
    let player =
        gstreamer("gst-player", &format!("rtmp2src location={url} ! filesink location={}", got.display()));
    // What goes into the tee is FLV, made once: the file is what rtmp2sink was given.
    let publisher = gstreamer(
        "gst-publisher",
        &format!(
            "flvmux name=mux streamable=true ! tee name=both \
             both. ! queue ! filesink location={} \
             both. ! queue ! rtmp2sink location={url} \
             videotestsrc pattern=ball is-live=true num-buffers=200 ! video/x-raw,width=320,height=180,framerate=25/1 \
             ! x264enc key-int-max=50 bframes=0 speed-preset=veryfast bitrate=500 tune=zerolatency ! h264parse ! queue ! mux. \
             audiotestsrc is-live=true num-buffers=344 ! audio/x-raw,rate=44100,channels=2 ! avenc_aac ! aacparse ! queue ! mux.",
            sent.display()
        ),
    );
    publisher.succeed(Duration::from_secs(40));
    player.succeed(Duration::from_secs(20));
    let source = Packets::of_file("ffmpeg", &sent);
    assert!(source.video.len() > 150 && source.audio.len() > 150, "{source}");
    Packets::of_file("ffmpeg", &got).assert_equal(&source, 0);
}

fn gstreamer(name: &str, pipeline: &str) -> Process {
    let mut command = Command::new(program("gst-launch-1.0"));
    Process::start(name, command.arg("-q").args(pipeline.split_whitespace()))
}
