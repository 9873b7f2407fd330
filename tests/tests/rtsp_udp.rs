//! RTSP by UDP with real clients: ffmpeg, GStreamer and mpv publish and play by ports beside their connections. And proofs of keys,
//! which go by any transport.

use std::{
    io::Read as _,
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

use shardcast_tests::clients::{
    Folder,
    forms::{Form, Player, follow},
    lossy::{Lossy, Weather},
    media::{Clip, GROUP, Kind},
    packets::{Packets, Run, runs},
    rtsp::{
        PATIENCE, assert_played, assert_read, assert_shown_by_mpv, gst, play, play_by_hand, publish,
        timeless, wait_for_viewers, with,
    },
    server::{Server, Setup},
};

const BY_UDP: [&str; 2] = ["-rtsp_transport", "udp"];
const PUBLISH_BY_UDP: [&str; 4] = ["-f", "rtsp", "-rtsp_transport", "udp"];

/// A server with little time between two flushes, and so many shards.
fn server(shards: u16) -> Server {
    Setup::new().top(&format!("shards = {shards}\n")).start()
}

#[test]
fn what_is_published_by_rtmp_is_played_by_udp_by_each_ffmpeg() {
    for kind in [Kind::H264, Kind::Hevc] {
        let clip = Clip::of(kind, 6);
        let server = server(2);
        let url = server.rtsp_url("live/cam");
        let players = ["ffmpeg", "ffmpeg9"].map(|ffmpeg| play(&clip, ffmpeg, &BY_UDP, &url));
        wait_for_viewers(&server, 2.0);
        clip.publish(&server.rtmp_url("live/cam")).succeed(PATIENCE);
        players.into_iter().for_each(|player| assert_played(&clip, player));
    }
}

#[test]
fn what_each_ffmpeg_publishes_by_udp_comes_out_by_every_door() {
    for (kind, ffmpeg) in [(Kind::H264, "ffmpeg"), (Kind::H264, "ffmpeg9"), (Kind::Hevc, "ffmpeg9")] {
        let clip = Clip::of(kind, 6);
        let server = server(2);
        let url = server.rtsp_url("live/cam");
        let inside = play(&clip, clip.ffmpeg, &["-rtsp_transport", "tcp"], &url);
        let beside = play(&clip, clip.ffmpeg, &BY_UDP, &url);
        let forms = [Form::Flv, Form::Ts].map(|form| Player::of(form, &clip));
        let readings = follow(&server, "live/cam", &forms, || {
            wait_for_viewers(&server, 4.0);
            publish(&clip, ffmpeg, &PUBLISH_BY_UDP, &url).succeed(PATIENCE);
        });
        assert_played(&clip, inside);
        assert_played(&clip, beside);
        readings.iter().for_each(|reading| assert_read(&clip, reading));
    }
}

#[test]
fn whichever_core_accepts_a_publisher_its_packets_reach_the_owner_of_its_stream() {
    let clip = Clip::of(Kind::H264, 4);
    for shards in [1, 2, 4] {
        let server = server(shards);
        // Names of several owners, connections to several cores.
        let streams: Vec<_> = (0..4)
            .map(|number| {
                let url = server.rtsp_url(&format!("live/cam{number}"));
                (play(&clip, "ffmpeg", &BY_UDP, &url), url)
            })
            .collect();
        wait_for_viewers(&server, 4.0);
        let publishers: Vec<_> =
            streams.iter().map(|(_, url)| publish(&clip, "ffmpeg", &PUBLISH_BY_UDP, url)).collect();
        publishers.into_iter().for_each(|publisher| drop(publisher.succeed(PATIENCE)));
        streams.into_iter().for_each(|(player, _)| assert_played(&clip, player));
        let moved = server.log_lines("publishing").len();
        println!("{shards} shards: {moved} publishers, {:?} moved", server.metric("shardcast_moves_total"));
    }
}

#[test]
fn who_joins_a_running_stream_gets_its_group_without_a_hole() {
    let clip = Clip::of(Kind::H264, 8);
    let server = server(2);
    let url = server.rtsp_url("live/cam");
    let publisher = publish(&clip, "ffmpeg", &PUBLISH_BY_UDP, &url);
    std::thread::sleep(Duration::from_secs(3));
    let players = ["ffmpeg", "ffmpeg9"].map(|ffmpeg| play(&clip, ffmpeg, &BY_UDP, &url));
    publisher.succeed(PATIENCE);
    for player in players {
        let ended = player.succeed(PATIENCE);
        let got = Packets::parse(&ended.output.replace("-9223372036854775808", "0"));
        let found = runs("pictures", &got.video, &clip.transport().video);
        assert!(found.len() == 1 && found[0].first > 0 && found[0].first.is_multiple_of(GROUP), "{found:?}");
        assert_eq!(found[0].first + found[0].count, clip.packets.video.len());
    }
}

#[test]
fn datagrams_of_strangers_disturb_nobody() {
    let clip = Clip::of(Kind::H264, 6);
    let server = server(2);
    let url = server.rtsp_url("live/cam");
    let player = play(&clip, "ffmpeg", &BY_UDP, &url);
    wait_for_viewers(&server, 1.0);
    let publisher = publish(&clip, "ffmpeg", &PUBLISH_BY_UDP, &url);
    let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let first = server.ports().rtsp_udp;
    let mut packet = [0x5a; 1400];
    packet[..12].copy_from_slice(&[0x80, 96, 0, 1, 0, 0, 0, 1, 1, 2, 3, 4]);
    for number in 0..2000_u16 {
        packet[2..4].copy_from_slice(&number.to_be_bytes());
        for port in first..first + 4 {
            stranger
                .send_to(&packet[..usize::from(number % 1400)], (Ipv4Addr::LOCALHOST, port))
                .expect("it goes");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    publisher.succeed(PATIENCE);
    assert_played(&clip, player);
    let refused = server.get("/metrics").expect("metrics");
    let counted: f64 = refused
        .lines()
        .filter(|line| line.starts_with("shardcast_door_refused_total") && line.contains("rtsp-udp"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    assert!(counted >= 7_000.0, "{counted} were counted");
}

#[test]
fn ports_of_another_session_are_not_taken_from_it() {
    let clip = Clip::of(Kind::H264, 6);
    let server = server(1);
    let publisher = publish(&clip, "ffmpeg", &PUBLISH_BY_UDP, &server.rtsp_url("live/cam"));
    let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    port.set_read_timeout(Some(PATIENCE)).expect("a legal time");
    let first = port.local_addr().expect("it is bound").port();
    let transport = format!("RTP/AVP;unicast;client_port={first}-{first}");
    let (kept, said) = play_by_hand(&server, &[&transport]);
    assert_eq!(said.matches("200 OK").count(), 3, "{said}");
    let (mut other, said) = play_by_hand(&server, &[&transport]);
    let mut rest = Vec::new();
    assert!(other.read_to_end(&mut rest).is_ok(), "it is closed after {said}");
    // The first goes on.
    let (mut buffer, mut came) = ([0; 2048], 0);
    while came < 50 {
        came += usize::from(port.recv(&mut buffer).expect("packets come") > 0);
    }
    drop(kept);
    publisher.succeed(PATIENCE);
}

#[test]
fn packets_that_come_twice_and_out_of_order_are_put_right() {
    let clip = Clip::of(Kind::H264, 6);
    let server = server(2);
    let player = play(&clip, "ffmpeg", &["-rtsp_transport", "tcp"], &server.rtsp_url("live/cam"));
    wait_for_viewers(&server, 1.0);
    let weather = Weather { lost: 0, twice: 30, late: 30 };
    let lossy = Lossy::before((Ipv4Addr::LOCALHOST, server.ports().rtsp).into(), weather, 7);
    publish(&clip, "ffmpeg", &PUBLISH_BY_UDP, &lossy.url("live/cam")).succeed(PATIENCE);
    assert_played(&clip, player);
}

#[test]
fn a_picture_with_a_hole_is_left_out_with_all_that_need_it() {
    let clip = Clip::of(Kind::H264, 8);
    let source = clip.transport();
    let server = server(2);
    // The same weather over two publishers at once, of different seeds.
    let ways = [2, 5].map(|seed| {
        let name = format!("live/cam{seed}");
        let player = play(&clip, "ffmpeg", &["-rtsp_transport", "tcp"], &server.rtsp_url(&name));
        let weather = Weather { lost: 8, twice: 20, late: 20 };
        let lossy = Lossy::before((Ipv4Addr::LOCALHOST, server.ports().rtsp).into(), weather, 100 * seed);
        (name, player, lossy)
    });
    wait_for_viewers(&server, 2.0);
    let publishers =
        ways.each_ref().map(|(name, _, lossy)| publish(&clip, "ffmpeg", &PUBLISH_BY_UDP, &lossy.url(name)));
    publishers.into_iter().for_each(|publisher| drop(publisher.succeed(PATIENCE)));
    let mut holes = 0;
    for (name, player, lossy) in ways {
        let ended = player.succeed(PATIENCE);
        let got = Packets::parse(&ended.output.replace("-9223372036854775808", "0"));
        let video = runs("pictures", &got.video, &source.video);
        let audio = runs("sound", &got.audio, &source.audio);
        let lost = lossy.lost() as usize;
        println!("{name}: {lost} packets lost: pictures {video:?}, sound {audio:?}");
        assert!(lost > 0, "the seed has lost nothing");
        // Each picture is whole, or `runs` would not know it. After a hole the next is a key frame.
        assert!(video.iter().all(|run| run.first.is_multiple_of(GROUP)), "{video:?}");
        let count = |runs: &[Run]| runs.iter().map(|run| run.count).sum::<usize>();
        // A lost packet takes at most the rest of its group with it, or the packets of sound that are in it.
        assert!(count(&video) + lost * GROUP >= source.video.len() && !video.is_empty(), "{video:?}");
        assert!(
            count(&audio) + lost * SOUND_IN_PACKET_MAX + SOUND_MISSED_MAX >= source.audio.len(),
            "{audio:?}"
        );
        holes += usize::from(count(&video) < source.video.len());
    }
    assert!(holes > 0, "no picture had a hole");
}

/// Packets of sound that ffmpeg puts into one of RTP, and those that a player misses before the first picture and at the end.
const SOUND_IN_PACKET_MAX: usize = 8;
const SOUND_MISSED_MAX: usize = 32;

#[test]
fn gstreamer_publishes_and_plays_by_udp() {
    let clip = Clip::of(Kind::H264, 6);
    let server = server(2);
    let url = server.rtsp_url("live/cam");
    let folder = Folder::new("rtsp-udp");
    let kept = folder.path().join("kept.mkv");
    let read = format!(
        "rtspsrc location={url} protocols=udp buffer-mode=none name=s  matroskamux name=m ! filesink location={}  \
         s. ! queue ! rtph264depay ! h264parse ! m.  s. ! queue ! rtpmp4gdepay ! aacparse ! m.",
        kept.display()
    );
    let write = format!(
        "filesrc location={} ! flvdemux name=d  rtspclientsink location={url} protocols=udp name=r  \
         d.video ! queue ! h264parse ! identity sync=true ! r.  d.audio ! queue ! aacparse ! identity sync=true ! r.",
        clip.path.display()
    );
    let reader = gst("gst-player", &read);
    wait_for_viewers(&server, 1.0);
    let mut publisher = gst("gst-publisher", &write);
    // GStreamer 1.22 often does not notice its own end.
    std::thread::sleep(Duration::from_secs(8));
    publisher.kill();
    reader.succeed(PATIENCE);
    let played = Packets::of_filtered_file("ffmpeg", &kept, &clip.kind.of_transport()[..2]);
    let (video, audio) = timeless(&played).assert_run(&timeless(&clip.transport()), 0);
    println!("played: {video:?} {audio:?}");
    assert!(video.is_some_and(|run| run.count + 16 >= clip.packets.video.len()), "{video:?}");
    assert!(audio.is_some_and(|run| run.count + 64 >= clip.packets.audio.len()), "{audio:?}");
}

#[test]
fn mpv_shows_it_by_udp() {
    let clip = Clip::of(Kind::H264, 8);
    let server = server(2);
    let url = server.rtsp_url("live/cam");
    let publisher = publish(&clip, "ffmpeg", &PUBLISH_BY_UDP, &url);
    assert_shown_by_mpv(&url, "udp");
    publisher.succeed(PATIENCE);
}

fn keyed() -> Server {
    let mut setup = Setup::new();
    setup.tables.push_str("[auth]\npublish = [\"pub:&key\"]\nplay = [\"see\"]\n");
    setup.start()
}

#[test]
fn ffmpeg_proves_its_key_and_a_wrong_one_is_refused() {
    for ffmpeg in ["ffmpeg", "ffmpeg9"] {
        let clip = Clip::of(Kind::H264, 4);
        let server = keyed();
        let url = server.rtsp_url("live/cam");
        let refused = publish(&clip, ffmpeg, &PUBLISH_BY_UDP, &with(&url, "anyone:see")).finish(PATIENCE);
        assert!(!refused.status.success() && refused.errors.contains("401"), "{}", refused.errors);
        let refused = play(&clip, ffmpeg, &BY_UDP, &with(&url, "anyone:pub")).finish(PATIENCE);
        assert!(!refused.status.success() && refused.errors.contains("401"), "{}", refused.errors);
        let player =
            play(&clip, ffmpeg, &[&BY_UDP[..], &["-v", "verbose"]].concat(), &with(&url, "anyone:see"));
        wait_for_viewers(&server, 1.0);
        publish(&clip, ffmpeg, &PUBLISH_BY_UDP, &with(&url, "anyone:pub%3a%26key")).succeed(PATIENCE);
        let ended = player.succeed(PATIENCE);
        let got = Packets::parse(&ended.output.replace("-9223372036854775808", "0"));
        assert_eq!(runs("pictures", &got.video, &clip.transport().video).len(), 1);
        assert_eq!(got.video.len(), clip.packets.video.len());
    }
}

#[test]
fn gstreamer_proves_its_key_and_a_wrong_one_is_refused() {
    let clip = Clip::of(Kind::H264, 6);
    let server = keyed();
    let url = server.rtsp_url("live/cam");
    let folder = Folder::new("rtsp-digest");
    let kept = folder.path().join("kept.mkv");
    let read = |password: &str, to: &str| {
        format!(
            "rtspsrc location={url} protocols=udp buffer-mode=none user-id=anyone user-pw={password} name=s \
             s. ! queue ! rtph264depay ! h264parse ! matroskamux ! filesink location={to}"
        )
    };
    let refused = gst("gst-refused", &read("pub", "/dev/null")).finish(PATIENCE);
    let said = format!("{}{}", refused.output, refused.errors);
    assert!(!refused.status.success() && said.contains("nauthorized"), "{said}");
    let reader = gst("gst-player", &read("see", &kept.display().to_string()));
    wait_for_viewers(&server, 1.0);
    publish(&clip, "ffmpeg", &PUBLISH_BY_UDP, &with(&url, "anyone:pub%3a%26key")).succeed(PATIENCE);
    reader.succeed(PATIENCE);
    let played = Packets::of_filtered_file("ffmpeg", &kept, &clip.kind.of_transport()[..2]);
    let found = runs("pictures", &played.video, &clip.transport().video);
    assert!(found.len() == 1 && found[0].count + 16 >= clip.packets.video.len(), "{found:?}");
}
