//! SRT with real clients: ffmpeg, libsrt's own tool and GStreamer publish and play, in good weather and bad, with and without
//! passphrases, and every packet is where and when it was.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    process::Command,
    thread,
    time::Duration,
};

use rustix::process::Signal;
use shardcast_tests::clients::{
    Folder,
    forms::{Form, Player, Reading, follow},
    media::{Clip, Kind},
    network::{Network, Weather},
    packets::{Packets, Run},
    process::Process,
    program,
    server::{Server, Setup},
    srt::{
        PASSPHRASE, PATIENCE, ROUNDING, SOUND_BEFORE_MAX, assert_packets, free_port, publish, transmit,
        wait_for_viewers,
    },
    wait_for,
};

/// What ffmpeg says at the end of any connection by SRT, whoever it is to, and ffmpeg 9 of any body in chunks.
const HARMLESS: &str = "Input/output error";
/// Takes from HEVC what stands beside its pictures.
const HEVC_ALONE: [&str; 2] = ["-bsf:v", "hevc_mp4toannexb,filter_units=remove_types=32-35|39"];
const BAD: Weather = Weather {
    seed: 7,
    lost: 30,
    doubled: 20,
    delay: Duration::from_millis(15),
    jitter: Duration::from_millis(10),
};

/// Demands that a viewer had all of the clip but the sound before its first picture.
fn assert_whole(clip: &Clip, reading: &Reading) {
    let complaints: Vec<_> = reading.complaints.iter().filter(|line| !line.contains(HARMLESS)).collect();
    assert!(complaints.is_empty(), "{:?}: {complaints:?}", reading.form);
    // x265 says in its pictures, too, what a transport stream has before key frames.
    let bare = reading.form.is_transport() || clip.kind == Kind::Hevc;
    let source = if bare { clip.transport() } else { clip.packets.clone() };
    let got = reading.packets.as_ref().expect("it lists packets");
    assert_packets(got, &source, &format!("{:?}", reading.form));
}

/// A server whose `[srt]` has these lines.
fn server(srt: &str, tables: &str) -> Server {
    let mut setup = Setup::new().stream("wait_for_publisher = \"20s\"\n");
    setup.srt.push_str(srt);
    setup.tables.push_str(tables);
    setup.start()
}

/// Viewers in these forms follow what `publish` publishes, from its beginning to its end.
fn followed(server: &Server, forms: &[Form], clip: &Clip, publish: impl FnOnce()) -> Vec<Reading> {
    let player = |form: &Form| {
        let player = Player::of(*form, clip);
        if clip.kind != Kind::Hevc || form.is_transport() {
            return player;
        }
        Player { filters: HEVC_ALONE.to_vec(), ..player }
    };
    let players: Vec<Player> = forms.iter().map(player).collect();
    let waiting = forms.iter().filter(|form| !form.is_packaged()).count();
    follow(server, "live/cam", &players, || {
        wait_for_viewers(server, waiting as f64);
        publish();
    })
}

#[test]
fn what_ffmpeg_publishes_comes_out_by_every_door_and_in_the_recording() {
    // The other pairs stand in the matrix of all doors.
    let clip = Clip::of(Kind::H264, 6);
    let mut server = Setup::new().stream("wait_for_publisher = \"20s\"\nrecord = true\n").start();
    let readings = followed(&server, &[Form::Rtmp, Form::Flv, Form::Ts, Form::Srt], &clip, || {
        publish(&clip, "ffmpeg9", &server.srt_url("publish", "live/cam")).succeed(PATIENCE);
    });
    readings.iter().for_each(|reading| assert_whole(&clip, reading));
    let written = || server.recordings("live/cam").into_iter().next();
    let path = wait_for(PATIENCE, written).expect("it is recorded");
    server.stop();
    assert_packets(&Packets::of_file(clip.ffmpeg, &path), &clip.packets, "recording");
}

#[test]
fn what_is_published_by_rtmp_is_played_by_each_ffmpeg() {
    for kind in [Kind::H264, Kind::Hevc] {
        let clip = Clip::of(kind, 6);
        let server = server("", "");
        let mut players = vec![Player::of(Form::Srt, &clip)];
        if kind == Kind::H264 {
            players.push(Player { ffmpeg: "ffmpeg9", ..players[0].clone() });
        }
        let readings = follow(&server, "live/cam", &players, || {
            wait_for_viewers(&server, players.len() as f64);
            clip.publish(&server.rtmp_url("live/cam")).succeed(PATIENCE);
        });
        readings.iter().for_each(|reading| assert_whole(&clip, reading));
    }
}

#[test]
fn in_bad_weather_everything_is_delivered_within_the_latency() {
    let clip = Clip::of(Kind::H264, 6);
    let server = server("latency = \"400ms\"\n", "");
    let port = server.ports().srt.to_string();
    let through = |url: String, network: &Network| url.replace(&port, &network.port().to_string());
    let coming = Network::new(server.ports().srt, BAD);
    let going = Network::new(server.ports().srt, Weather { seed: 8, ..BAD });
    let played = through(Form::Srt.url(&server, "live/cam"), &going);
    let player = Player::of(Form::Srt, &clip);
    let viewer = player.start(&played);
    let readings = follow(&server, "live/cam", &[Player::of(Form::Ts, &clip)], || {
        wait_for_viewers(&server, 2.0);
        let url = through(server.srt_url("publish", "live/cam"), &coming);
        publish(&clip, "ffmpeg", &url).succeed(PATIENCE);
    });
    assert_whole(&clip, &readings[0]);
    let viewer = viewer.succeed(PATIENCE);
    assert_packets(&Packets::parse(&viewer.output), &clip.transport(), "SRT through a bad network");
    let count =
        |what: &str| server.metric(&format!("shardcast_srt_{what}_packets_total")).unwrap_or_default();
    println!("lost on the way: {} and {}", coming.dropped(), going.dropped());
    let [missing, recovered, again] = ["missing", "recovered", "sent_again"].map(count);
    println!("missing {missing}, recovered {recovered}, sent again {again}");
    assert!(coming.dropped() > 5 && going.dropped() > 5);
    assert!(missing >= 3.0 && recovered >= 3.0 && again >= 3.0);
    assert_eq!((count("lost"), count("given_up"), count("unreadable")), (0.0, 0.0, 0.0));
}

#[test]
fn a_passphrase_encrypts_both_ways_and_who_has_another_is_told_so() {
    let clip = Clip::of(Kind::H264, 4);
    let own = format!("[streams.\"live/cam\"]\npassphrase = {PASSPHRASE:?}\n");
    for (length, server) in [
        (16, server(&format!("passphrase = {PASSPHRASE:?}\n"), "")),
        (24, server("passphrase = \"of the whole door\"\n", &own)),
        (32, server("", &own)),
    ] {
        let with = |url: String, passphrase: &str| format!("{url}&passphrase={passphrase}&pbkeylen={length}");
        let publishing = server.srt_url("publish", "live/cam");
        for (url, why) in [
            (publishing.clone(), "no passphrase, where there must be one"),
            (with(publishing.clone(), "something-else"), "another passphrase"),
        ] {
            let refused = publish(&clip, "ffmpeg", &url).finish(PATIENCE);
            assert!(!refused.status.success());
            assert!(!server.log_lines(why).is_empty(), "{}", server.log());
        }
        let player = Player::of(Form::Srt, &clip);
        let viewer = player.start(&with(Form::Srt.url(&server, "live/cam"), PASSPHRASE));
        wait_for_viewers(&server, 1.0);
        publish(&clip, "ffmpeg", &with(publishing, PASSPHRASE)).succeed(PATIENCE);
        let viewer = viewer.succeed(PATIENCE);
        assert_packets(&Packets::parse(&viewer.output), &clip.transport(), "SRT, encrypted");
    }
}

#[test]
fn a_passphrase_that_is_changed_holds_for_those_who_come_after() {
    let clip = Clip::of(Kind::H264, 8);
    let mut server = server(&format!("passphrase = {PASSPHRASE:?}\n"), "");
    let (playing, newer) = (Form::Srt.url(&server, "live/cam"), "close-sesame-please");
    let with = |url: &str, passphrase: &str| format!("{url}&passphrase={passphrase}");
    let player = Player::of(Form::Srt, &clip);
    let before = player.start(&with(&playing, PASSPHRASE));
    wait_for_viewers(&server, 1.0);
    let publisher = publish(&clip, "ffmpeg", &with(&server.srt_url("publish", "live/cam"), PASSPHRASE));
    wait_for(PATIENCE, || (server.metric("shardcast_publishers") == Some(1.0)).then_some(()))
        .expect("it is live");
    let path = server.folder().join("shardcast.toml");
    let text = fs::read_to_string(&path).expect("it was read before");
    fs::write(&path, text.replace(PASSPHRASE, newer)).expect("an own folder can be written");
    server.signal(Signal::HUP);
    let told = || (!server.log_lines("reload: changed").is_empty()).then_some(());
    wait_for(PATIENCE, told).unwrap_or_else(|| panic!("nothing has changed:\n{}", server.log()));
    let refused = player.start(&with(&playing, PASSPHRASE)).finish(PATIENCE);
    assert!(!refused.status.success() && !server.log_lines("another passphrase").is_empty());
    let after = player.start(&with(&playing, newer));
    wait_for_viewers(&server, 2.0);
    publisher.succeed(PATIENCE);
    let source = clip.transport();
    assert_packets(&Packets::parse(&before.succeed(PATIENCE).output), &source, "who came before");
    let (video, _) = Packets::parse(&after.succeed(PATIENCE).output).assert_run(&source, ROUNDING);
    assert!(video.is_some_and(|run| run.first + run.count == source.video.len()), "{video:?}");
    assert!(!server.log().contains(newer), "nothing shows a passphrase");
}

#[test]
fn a_key_is_shown_in_the_stream_id_and_who_has_none_is_told() {
    let clip = Clip::of(Kind::H264, 4);
    let server = server("", "[auth]\npublish = [\"secret\"]\nplay = [\"other\"]\n");
    let port = server.ports().srt;
    let refused = publish(&clip, "ffmpeg", &server.srt_url("publish", "live/cam")).finish(PATIENCE);
    assert!(!refused.status.success() && !server.log_lines("refused: not allowed").is_empty());
    let player = Player::of(Form::Srt, &clip);
    let viewer = player.start(&format!("srt://127.0.0.1:{port}?streamid=read:live/cam:ann:other"));
    wait_for_viewers(&server, 1.0);
    let standard = "%23!::r=live/cam,m=publish,key=secret";
    publish(&clip, "ffmpeg", &format!("srt://127.0.0.1:{port}?streamid={standard}")).succeed(PATIENCE);
    assert_packets(&Packets::parse(&viewer.succeed(PATIENCE).output), &clip.transport(), "SRT with a key");
}

#[test]
fn libsrts_own_tool_publishes_and_plays() {
    let clip = Clip::of(Kind::H264, 6);
    let server = server(&format!("passphrase = {PASSPHRASE:?}\n"), "");
    let port = server.ports().srt;
    let source = free_port();
    let folder = Folder::new("srt");
    let kept = folder.path().join("kept.ts");
    let url = |mode: &str| {
        format!(
            "srt://127.0.0.1:{port}?streamid=#!::r=live/cam,m={mode}&passphrase={PASSPHRASE}&pbkeylen=32&conntimeo=20000"
        )
    };
    // What it reads it writes to where it says what else there is to say, so a shell puts that into a file.
    let mut reading = Command::new("sh");
    reading.args(["-c", "exec \"$0\" -q -a:no \"$1\" file://con > \"$2\""]);
    reading.arg(program("srt-live-transmit")).arg(url("request")).arg(&kept);
    let mut reader = Process::start("srt-live-transmit", &mut reading);
    wait_for_viewers(&server, 1.0);
    let mut carrier = transmit(&format!("udp://127.0.0.1:{source}"), &url("publish"));
    let mut command = Command::new(program(clip.ffmpeg));
    command
        .args(["-nostdin", "-v", "warning", "-re", "-i"])
        .arg(&clip.path)
        .args(["-c", "copy", "-f", "mpegts"]);
    let target = format!("udp://127.0.0.1:{source}?pkt_size=1316");
    // Its socket is there before it has called.
    wait_for(PATIENCE, || server.metric("shardcast_srt_connections").filter(|count| *count >= 1.0));
    thread::sleep(Duration::from_millis(500));
    Process::start("ffmpeg-sender", command.arg(target)).succeed(PATIENCE);
    thread::sleep(Duration::from_millis(500));
    carrier.terminate();
    carrier.finish(PATIENCE);
    wait_for(PATIENCE, || reader.ended()).expect("it ends when the stream does");
    let played = Packets::of_filtered_file("ffmpeg", &kept, &clip.kind.of_transport());
    assert_packets(&played, &clip.transport(), "libsrt's tool");
}

#[test]
fn gstreamer_publishes_and_plays() {
    let clip = Clip::of(Kind::H264, 6);
    let server = server("", "");
    let port = server.ports().srt;
    let folder = Folder::new("srt");
    let kept = folder.path().join("kept.ts");
    let gst = |name: &str, line: &str| {
        Process::start(
            name,
            Command::new(program("gst-launch-1.0")).args(["-e"]).args(line.split_whitespace()),
        )
    };
    let write = format!(
        "filesrc location={} ! flvdemux name=d  mpegtsmux name=m alignment=7 ! srtsink \
         uri=srt://127.0.0.1:{port}?mode=caller&streamid=publish:live/cam wait-for-connection=true  \
         d.video ! queue ! h264parse ! identity sync=true ! m.  d.audio ! queue ! aacparse ! identity sync=true ! m.",
        clip.path.display()
    );
    let read = format!(
        "srtsrc uri=srt://127.0.0.1:{port}?mode=caller&streamid=read:live/cam ! filesink location={}",
        kept.display()
    );
    let readings = follow(&server, "live/cam", &[Player::of(Form::Ts, &clip)], || {
        wait_for_viewers(&server, 1.0);
        let publisher = gst("gst-publisher", &write);
        wait_for(PATIENCE, || server.metric("shardcast_publishers").filter(|count| *count >= 1.0))
            .expect("it publishes");
        let mut reader = gst("gst-player", &read);
        publisher.succeed(PATIENCE);
        thread::sleep(Duration::from_secs(2));
        // At a key of its user it ends its file.
        reader.signal(Signal::INT);
        reader.finish(PATIENCE);
    });
    // The times of its muxer are its own, all of them moved alike; what is compared is what there is, in its order.
    let timeless = |packets: &Packets| {
        let mut packets = packets.clone();
        for packet in packets.video.iter_mut().chain(&mut packets.audio) {
            (packet.dts, packet.pts) = (0, 0);
        }
        packets
    };
    let got = readings[0].packets.as_ref().expect("it lists packets");
    let (video, audio) = timeless(got).assert_run(&timeless(&clip.transport()), 0);
    println!("published: {video:?} {audio:?}");
    assert_eq!(video, Some(Run { first: 0, count: clip.packets.video.len() }));
    assert!(audio.is_some_and(|run| run.count + SOUND_BEFORE_MAX >= clip.packets.audio.len()), "{audio:?}");
    let played = Packets::of_filtered_file("ffmpeg", &kept, &clip.kind.of_transport());
    let (video, audio) = timeless(&played).assert_run(&timeless(&clip.transport()), 0);
    println!("played: {video:?} {audio:?}");
    assert!(video.is_some_and(|run| run.first + run.count + 2 >= clip.packets.video.len()), "{video:?}");
    assert!(audio.is_some_and(|run| run.count > 100), "{audio:?}");
}

#[test]
fn whoever_sends_nonsense_disturbs_nobody_and_has_no_session() {
    let clip = Clip::of(Kind::H264, 6);
    let server = server("", "");
    let forms = [Form::Ts, Form::Srt];
    let memory = server.memory();
    let readings = followed(&server, &forms, &clip, || {
        let publisher = publish(&clip, "ffmpeg", &server.srt_url("publish", "live/cam"));
        let mut sent = 0_u32;
        for round in 0..300_u32 {
            // Each from an address of its own.
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
            socket.connect((Ipv4Addr::LOCALHOST, server.ports().srt)).expect("a port on loopback");
            for datagram in nonsense(round) {
                // Its port is open, so nothing is refused.
                sent += u32::from(socket.send(&datagram).is_ok());
            }
            thread::sleep(Duration::from_millis(10));
        }
        assert!(sent > 3000);
        publisher.succeed(PATIENCE);
    });
    readings.iter().for_each(|reading| assert_whole(&clip, reading));
    let accepted = server.metric("shardcast_door_accepted_total{door=\"srt\"}");
    println!("accepted {accepted:?}, memory {} KiB", server.memory().saturating_sub(memory) >> 10);
    assert!(server.memory() < memory + (64 << 20), "nothing is kept for them");
    assert_eq!(server.metric("shardcast_connections"), Some(0.0), "{}", server.log());
}

/// Handshakes with forged cookies, packets of no connection, and sizes that cannot be.
fn nonsense(round: u32) -> Vec<Vec<u8>> {
    let control = |kind: u16, body: &[u8]| {
        let head = [0x80 | (kind >> 8) as u8, kind as u8, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        [&head[..], body].concat()
    };
    let mut conclusion = vec![0; 48];
    conclusion[3] = 5;
    conclusion[20..24].fill(0xff);
    conclusion[28..32].copy_from_slice(&round.to_be_bytes());
    let mut induction = vec![0; 48];
    (induction[3], induction[23]) = (4, 1);
    let mut datagrams = vec![
        control(0, &conclusion),
        control(0, &conclusion[..round as usize % 48]),
        control(0, &induction),
        control(0, &induction),
        vec![0; round as usize % 1500],
        vec![0xff; 1 + round as usize % 1500],
    ];
    datagrams.extend((1..9).map(|kind| control(kind, &vec![round as u8; round as usize % 64])));
    datagrams
}

#[test]
fn a_publisher_that_vanishes_comes_back_to_its_stream_and_viewers_stay() {
    let clip = Clip::of(Kind::H264, 6);
    let server = server("", "");
    let url = server.srt_url("publish", "live/cam");
    let kept = Folder::new("srt");
    let path = kept.path().join("kept.ts");
    let viewer = Player::keeping(Form::Srt, &path).start(&Form::Srt.url(&server, "live/cam"));
    wait_for_viewers(&server, 1.0);
    let mut first = publish(&clip, "ffmpeg", &url);
    wait_for(PATIENCE, || server.metric("shardcast_publishers").filter(|count| *count >= 1.0))
        .expect("it publishes");
    thread::sleep(Duration::from_secs(2));
    first.kill();
    // Nobody says goodbye: five seconds of silence do.
    wait_for(PATIENCE, || server.log_lines("nothing came for 5 seconds").first().cloned())
        .expect("it is missed");
    publish(&clip, "ffmpeg", &url).succeed(PATIENCE);
    assert!(!server.log_lines("publishing again").is_empty(), "{}", server.log());
    viewer.succeed(PATIENCE);
    let pictures = Packets::of_filtered_file("ffmpeg", &path, &clip.kind.of_transport()).video.len();
    assert!(pictures > clip.packets.video.len() + 30, "{pictures}: of both");
}

#[test]
fn a_stream_is_pushed_to_who_listens_and_pulled_from_another_server() {
    let clip = Clip::of(Kind::H264, 6);
    let listens = free_port();
    let mut origin = Setup::new().stream("wait_for_publisher = \"20s\"\nreconnect_window = \"1s\"\n");
    origin.srt = format!("passphrase = {PASSPHRASE:?}\n");
    origin.tables = format!(
        "[streams.\"live/cam\"]\npush = [\"srt://127.0.0.1:{listens}?streamid=publish:x/y&passphrase={PASSPHRASE}&pbkeylen=24\"]\n"
    );
    let origin = origin.start();
    let mut edge = Setup::new().stream("wait_for_publisher = \"20s\"\nreconnect_window = \"1s\"\n");
    let from = origin.srt_url("read", "live/cam");
    edge.tables =
        format!("[streams.\"far/cam\"]\npull = \"{from}&latency=200&passphrase={PASSPHRASE}&pbkeylen=32\"\n");
    let edge = edge.start();
    // It is ffmpeg that listens here, and is called.
    let player = Player::of(Form::Srt, &clip);
    let listener =
        player.start(&format!("srt://127.0.0.1:{listens}?mode=listener&passphrase={PASSPHRASE}&pbkeylen=24"));
    wait_for(PATIENCE, || origin.metric("shardcast_viewers").filter(|count| *count >= 1.0))
        .expect("the edge waits");
    let readings = follow(&edge, "far/cam", &[Player::of(Form::Ts, &clip)], || {
        wait_for_viewers(&edge, 1.0);
        clip.publish(&origin.rtmp_url("live/cam")).succeed(PATIENCE);
    });
    assert_whole(&clip, &readings[0]);
    let heard = listener.succeed(PATIENCE);
    let (got, source) = (Packets::parse(&heard.output), clip.transport());
    let (video, audio) = got.assert_run(&source, ROUNDING);
    println!("pushed: {video:?} {audio:?}");
    // It begins with the newest key frame there is when its call is taken.
    assert!(
        video.is_some_and(|run| run.first + run.count == source.video.len() && run.count > 100),
        "{video:?}"
    );
    assert!(audio.is_some_and(|run| run.first + run.count == source.audio.len()), "{audio:?}");
    for (server, way) in [(&origin, "push"), (&edge, "pull")] {
        let bytes = server.metric("shardcast_relay_bytes_total");
        assert!(bytes.is_some_and(|bytes| bytes > 100_000.0), "{way}: {bytes:?}");
        assert!(!server.log().contains(PASSPHRASE), "nothing shows a passphrase");
    }
}

#[test]
fn a_source_that_listens_is_called_again_when_it_comes_back() {
    let clip = Clip::of(Kind::H264, 4);
    let (listens, source) = (free_port(), free_port());
    let mut setup = Setup::new().stream("wait_for_publisher = \"20s\"\nreconnect_window = \"20s\"\n");
    setup.tables =
        format!("[streams.\"live/cam\"]\npull = \"srt://127.0.0.1:{listens}?passphrase={PASSPHRASE}\"\n");
    let server = setup.start();
    let carrier = || {
        transmit(
            &format!("udp://127.0.0.1:{source}"),
            &format!("srt://127.0.0.1:{listens}?mode=listener&passphrase={PASSPHRASE}"),
        )
    };
    let send = || {
        let mut command = Command::new(program(clip.ffmpeg));
        command.args(["-nostdin", "-v", "warning", "-re", "-i"]).arg(&clip.path);
        command.args(["-c", "copy", "-f", "mpegts", &format!("udp://127.0.0.1:{source}?pkt_size=1316")]);
        Process::start("ffmpeg-sender", &mut command)
    };
    let connected =
        |server: &Server| server.metric("shardcast_relay_connected").filter(|count| *count >= 1.0);
    let kept = Folder::new("srt");
    let path = kept.path().join("kept.ts");
    let mut viewer = Player::keeping(Form::Ts, &path).start(&Form::Ts.url(&server, "live/cam"));
    for round in 0..2 {
        let mut carrier = carrier();
        wait_for(PATIENCE, || connected(&server)).expect("it is called");
        send().succeed(PATIENCE);
        thread::sleep(Duration::from_millis(500));
        carrier.kill();
        let gone = || server.metric("shardcast_relay_connected").filter(|count| *count < 1.0);
        wait_for(PATIENCE, gone).unwrap_or_else(|| panic!("its end is seen, round {round}"));
    }
    viewer.terminate();
    viewer.finish(PATIENCE);
    let pictures = Packets::of_filtered_file("ffmpeg", &path, &clip.kind.of_transport()).video.len();
    assert!(pictures > clip.packets.video.len() * 3 / 2, "{pictures}: of both rounds");
}
