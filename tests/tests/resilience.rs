//! Publishers that go, come back, collide, and whose clocks do what clocks should not.

use std::{
    thread,
    time::{Duration, Instant},
};

use shardcast_tests::clients::{
    flv::{self, Tag},
    media::{Clip, Kind},
    packets::{Packet, Packets},
    rtmp::Peer,
    server::{Server, Setup},
    viewer::Viewer,
};

#[test]
fn a_publisher_that_is_killed_and_comes_back_keeps_its_viewers() {
    let clip = Clip::of(Kind::H264, 8);
    let server = Setup::new().stream("reconnect_window = \"6s\"\n").start();
    let url = server.rtmp_url("live/back");
    let viewer = Viewer::follow(&server, "live/back");
    let player = Packets::player("ffmpeg", &url);
    let mut publisher = clip.publish(&url);
    thread::sleep(Duration::from_secs(4));
    publisher.kill();
    thread::sleep(Duration::from_secs(2));
    clip.publish(&url).succeed(Duration::from_secs(30));

    let saved = server.folder().join("viewer.flv");
    viewer.wait().save(&saved);
    let ended = player.succeed(Duration::from_secs(30));
    for (what, got) in
        [("HTTP-FLV", Packets::of_file("ffmpeg", &saved)), ("RTMP", Packets::parse(&ended.output))]
    {
        let first = clip.packets.video.first().expect("a clip has pictures");
        let cuts: Vec<usize> = got
            .video
            .iter()
            .enumerate()
            .filter(|(_, it)| it.hash == first.hash)
            .map(|(place, _)| place)
            .collect();
        let [0, cut] = cuts.as_slice() else {
            panic!("{what}: the clip begins at {cuts:?}, not at 0 and once more")
        };
        let (before, after) = got.video.split_at(*cut);
        assert!(before.len() > 50, "{what}: {} pictures came before the kill", before.len());
        assert_same(what, before, clip.packets.video.get(..before.len()).unwrap_or_default());
        assert_same(what, after, &clip.packets.video);
        for pair in got.video.windows(2) {
            assert!(pair.iter().map(|packet| packet.dts).is_sorted(), "{what}: time goes back at {pair:?}");
        }
        for pair in got.audio.windows(2) {
            assert!(pair.iter().map(|packet| packet.dts).is_sorted(), "{what}: time goes back at {pair:?}");
        }
    }
}

#[test]
fn a_second_publisher_of_a_name_is_refused_and_not_one_frame_of_it_leaks() {
    let clip = Clip::of(Kind::H264, 8);
    let other = flv::tags_of(&Clip::of(Kind::H264, 6).path);
    let server = Setup::new().start();
    let url = server.rtmp_url("live/one");
    let players =
        [server.rtmp_url("live/one"), server.flv_url("live/one")].map(|url| Packets::player("ffmpeg", &url));
    let publisher = clip.publish(&url);
    thread::sleep(Duration::from_secs(2));
    for _ in 0..4 {
        // Both cores: one accepts it where the stream lives, the other elsewhere.
        let (mut peer, code) = Peer::publish(server.ports().rtmp, "live/one").expect("the door answers");
        assert_eq!(code, "NetStream.Publish.BadName");
        for tag in &other {
            if peer.send_tag(tag, tag.time).is_err() {
                break;
            }
        }
    }
    publisher.succeed(Duration::from_secs(30));
    for player in players {
        let ended = player.succeed(Duration::from_secs(20));
        Packets::parse(&ended.output).assert_equal(&clip.packets, 0);
    }
}

#[test]
fn where_takeover_is_on_the_newer_publisher_gets_the_name_and_the_viewers() {
    let clip = Clip::of(Kind::H264, 8);
    let server = Setup::new().stream("takeover = true\n").start();
    let url = server.rtmp_url("live/take");
    let viewer = Viewer::follow(&server, "live/take");
    let former = clip.publish(&url);
    thread::sleep(Duration::from_secs(3));
    clip.publish(&url).succeed(Duration::from_secs(30));
    assert!(!former.finish(Duration::from_secs(10)).status.success(), "the former publisher is told to go");
    let saved = server.folder().join("viewer.flv");
    viewer.wait().save(&saved);
    let got = Packets::of_file("ffmpeg", &saved);
    let first = &clip.packets.video.first().expect("a clip has pictures").hash;
    let cut = got.video.iter().rposition(|packet| packet.hash == *first).expect("the newer one begins");
    let (before, after) = got.video.split_at(cut);
    assert!(before.len() > 25, "{} pictures of the former publisher", before.len());
    assert_same("former", before, clip.packets.video.get(..before.len()).unwrap_or_default());
    assert_same("newer", after, &clip.packets.video);
}

#[test]
fn whoever_has_no_key_may_neither_publish_nor_play() {
    let clip = Clip::of(Kind::H264, 8);
    let mut setup = Setup::new();
    setup.tables = "[auth]\npublish = [\"let-me-in\"]\nplay = [\"let-me-see\"]\n".to_owned();
    let server = setup.start();
    let url = server.rtmp_url("live/keys");
    let failing = |url: &str| {
        let ended = clip.publish(url).finish(Duration::from_secs(20));
        assert!(!ended.status.success(), "published with {url}");
    };
    failing(&url);
    failing(&format!("{url}?key=let-me-see"));
    let players = [server.rtmp_url("live/keys"), server.flv_url("live/keys")];
    for player in &players {
        for query in ["", "?key=let-me-in", "?key="] {
            let ended =
                Packets::player("ffmpeg", &format!("{player}{query}")).finish(Duration::from_secs(20));
            assert!(!ended.status.success(), "played with {player}{query}");
        }
    }
    let players = players.map(|player| Packets::player("ffmpeg", &format!("{player}?key=let-me-see")));
    clip.publish(&format!("{url}?key=let-me-in")).succeed(Duration::from_secs(30));
    for player in players {
        let ended = player.succeed(Duration::from_secs(20));
        Packets::parse(&ended.output).assert_equal(&clip.packets, 0);
    }
    assert!(!server.log().contains("let-me"), "a key stands in the log:\n{}", server.log());
}

#[test]
fn the_wrap_of_the_32_bit_clock_passes_unseen() {
    let clip = Clip::of(Kind::H264, 8);
    let mut server = Setup::new().recording().start();
    let viewer = Viewer::follow(&server, "live/wrap");
    let player = Packets::player("ffmpeg", &server.rtmp_url("live/wrap"));
    send(&server, "live/wrap", &clip, |time| time.wrapping_sub(4_000));
    let saved = server.folder().join("viewer.flv");
    viewer.wait().save(&saved);
    Packets::of_file("ffmpeg", &saved).assert_equal(&clip.packets, 0);
    let ended = player.succeed(Duration::from_secs(20));
    Packets::parse(&ended.output).assert_equal(&clip.packets, 0);
    server.stop();
    let files = server.recordings("live/wrap");
    assert_eq!(files.len(), 1, "{files:?}");
    for file in &files {
        Packets::of_file("ffmpeg", file).assert_equal(&clip.packets, 12);
    }
}

#[test]
fn a_clock_that_jumps_back_an_hour_loses_no_picture_and_viewers_see_time_go_on() {
    const HOUR: u32 = 3_600_000;
    let clip = Clip::of(Kind::H264, 8);
    let server = Setup::new().start();
    let viewer = Viewer::follow(&server, "live/jump");
    send(&server, "live/jump", &clip, |time| if time < 4_000 { time + 2 * HOUR } else { time + HOUR });
    let saved = server.folder().join("viewer.flv");
    viewer.wait().save(&saved);
    let got = Packets::of_file("ffmpeg", &saved);
    assert_same("pictures", &got.video, &clip.packets.video);
    assert_same("sound", &got.audio, &clip.packets.audio);
    for pair in got.video.windows(2) {
        let step: i64 = pair.iter().map(|packet| packet.dts).reduce(|a, b| b - a).unwrap_or_default();
        assert!((0..2_000_000).contains(&step), "time steps by {step} us at {pair:?}");
    }
}

/// Publishes a clip at its pace, with the times that `clock` makes of its own.
fn send(server: &Server, name: &str, clip: &Clip, clock: impl Fn(u32) -> u32) {
    let (mut peer, code) = Peer::publish(server.ports().rtmp, name).expect("the door answers");
    assert_eq!(code, "NetStream.Publish.Start");
    let begin = Instant::now();
    for tag in flv::tags_of(&clip.path).iter().filter(|tag: &&Tag| tag.kind != 18) {
        let due = Duration::from_millis(u64::from(tag.time));
        thread::sleep(due.saturating_sub(begin.elapsed()));
        peer.send_tag(tag, clock(tag.time)).expect("the server takes it");
    }
}

fn assert_same(what: &str, got: &[Packet], source: &[Packet]) {
    let hashes = |packets: &[Packet]| packets.iter().map(|packet| packet.hash.clone()).collect::<Vec<_>>();
    let (got, source) = (hashes(got), hashes(source));
    assert_eq!(got.len(), source.len(), "{what}");
    let first = got.iter().zip(&source).position(|(got, source)| got != source);
    assert_eq!(first, None, "{what}: first packet that differs");
}
