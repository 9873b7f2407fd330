//! Enhanced RTMP with ffmpeg 9: the codecs that RTMP of 2012 has no number for.

use std::time::Duration;

use shardcast_tests::clients::{
    media::{Clip, Kind},
    packets::Packets,
    server::Setup,
};

#[test]
fn hevc_comes_back_by_rtmp_and_http_as_it_was_published() {
    comes_back(Kind::Hevc, "live/hevc");
}

#[test]
fn vvc_comes_back_by_rtmp_and_http_as_it_was_published() {
    comes_back(Kind::Vvc, "live/vvc");
}

#[test]
fn av1_and_opus_come_back_by_rtmp_and_http_as_they_were_published() {
    comes_back(Kind::Av1, "live/av1");
}

#[test]
fn vp9_and_opus_come_back_by_rtmp_and_http_as_they_were_published() {
    comes_back(Kind::Vp9, "live/vp9");
}

fn comes_back(kind: Kind, name: &str) {
    let clip = Clip::of(kind, 6);
    let mut server = Setup::new().recording().start();
    let players = [server.rtmp_url(name), server.flv_url(name)].map(|url| Packets::player("ffmpeg9", &url));
    clip.publish(&server.rtmp_url(name)).succeed(Duration::from_secs(30));
    for player in players {
        let ended = player.succeed(Duration::from_secs(20));
        Packets::parse(&ended.output).assert_equal(&clip.packets, 0);
    }
    server.stop();
    let recordings = server.recordings(name);
    assert_eq!(recordings.len(), 1, "{recordings:?}");
    for file in &recordings {
        // A container's clock may not divide a millisecond: half a tick of the coarsest, 1/44100.
        Packets::of_file("ffmpeg9", file).assert_equal(&clip.packets, 12);
    }
}
