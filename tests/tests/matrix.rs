//! Whatever publishes, by whatever door, comes out by every other and in the recording: the same packets, and sound and pictures in
//! step.

use std::{
    net::{Ipv4Addr, UdpSocket},
    process::Command,
    time::Duration,
};

use shardcast_tests::clients::{
    forms::{Form, Player, follow},
    media::{Clip, Kind},
    packets::{Packets, Run},
    process::Process,
    program, rtsp,
    server::{Server, Setup},
    wait_for,
};

/// How long a publisher may take for a clip of a few seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// Microseconds that sound and pictures may be out of step, beside what they are in the clip.
const STEP_MAX: i64 = 20_000;
/// Packets of sound that stand before the first picture, with which a viewer begins.
const SOUND_BEFORE_MAX: usize = 24;
/// Packets of sound that a publisher gathers for its next packet, and may keep when it ends.
const SOUND_KEPT_MAX: usize = 18;
/// Pictures at the beginning that a player of HLS may do without.
const HLS_MISSED_MAX: usize = 60;
/// Takes from HEVC what stands beside its pictures: x265 says there, too, what a transport stream has before key frames.
const HEVC_ALONE: [&str; 2] = ["-bsf:v", "hevc_mp4toannexb,filter_units=remove_types=32-35|39"];
const FORMS: [Form; 5] = [Form::Rtmp, Form::Flv, Form::Ts, Form::Srt, Form::Hls];

/// An ffmpeg that publishes the clip at the pace of its clock, its packets as they are.
fn ffmpeg(clip: &Clip, arguments: &[&str]) -> Process {
    let mut command = Command::new(program(clip.ffmpeg));
    command
        .args(["-nostdin", "-v", "warning", "-re", "-i"])
        .arg(&clip.path)
        .args(["-c", "copy"])
        .args(arguments);
    Process::start("ffmpeg-publisher", &mut command)
}

/// Publishes a clip of each kind by `publish`, on a server with these tables, and looks at everything that comes out.
fn assert_everywhere(tables: &str, publish: impl Fn(&Clip, &Server) -> Process) {
    for kind in [Kind::H264, Kind::Hevc] {
        let clip = Clip::of(kind, 6);
        let mut setup = Setup::new().stream("wait_for_publisher = \"20s\"\nrecord = true\n");
        setup.tables = tables.to_owned();
        let mut server = setup.start();
        let player = |form: &Form| {
            let player = Player::of(*form, &clip);
            if kind != Kind::Hevc || form.is_transport() {
                return player;
            }
            Player { filters: HEVC_ALONE.to_vec(), ..player }
        };
        let players: Vec<Player> = FORMS.iter().map(player).collect();
        let url = server.rtsp_url("live/cam");
        let by_rtsp = ["tcp", "udp"]
            .map(|transport| rtsp::play(&clip, clip.ffmpeg, &["-rtsp_transport", transport], &url));
        let readings = follow(&server, "live/cam", &players, || {
            let viewers = || server.metric("shardcast_viewers").filter(|count| *count >= 6.0);
            wait_for(PATIENCE, viewers).expect("all but HLS wait for the stream");
            publish(&clip, &server).succeed(PATIENCE);
        });
        let bare = if kind == Kind::Hevc { clip.transport() } else { clip.packets.clone() };
        for reading in &readings {
            let source = if reading.form.is_transport() { &clip.transport() } else { &bare };
            let got = reading.packets.as_ref().expect("it lists packets");
            let missed = if reading.form == Form::Hls { HLS_MISSED_MAX } else { 0 };
            assert_packets(got, source, missed, &format!("{kind:?} by {:?}", reading.form));
        }
        for (player, transport) in by_rtsp.into_iter().zip(["TCP", "UDP"]) {
            let (got, source) = rtsp::packets_of(&clip, player);
            assert_packets(&got, &source, 0, &format!("{kind:?} by RTSP over {transport}"));
        }
        let written = || server.recordings("live/cam").into_iter().next();
        let path = wait_for(PATIENCE, written).expect("it is recorded");
        server.stop();
        let filters = if kind == Kind::Hevc { &HEVC_ALONE[..] } else { &[] };
        let recorded = Packets::of_filtered_file(clip.ffmpeg, &path, filters);
        assert_packets(&recorded, &bare, 0, &format!("{kind:?} in the recording"));
    }
}

fn assert_packets(got: &Packets, source: &Packets, missed_max: usize, what: &str) {
    let (video, audio) = got.assert_run(source, STEP_MAX);
    println!("{what}: pictures {video:?}, sound {audio:?}");
    let Run { first, count } = video.unwrap_or_else(|| panic!("no pictures: {what}"));
    assert!(first <= missed_max && first + count == source.video.len(), "{what}: pictures {first}, {count}");
    let Run { first, count } = audio.unwrap_or_else(|| panic!("no sound: {what}"));
    assert!(first <= SOUND_BEFORE_MAX + 2 * missed_max, "{what}: sound from {first} on");
    assert!(first + count + SOUND_KEPT_MAX >= source.audio.len(), "{what}: sound {first}, {count}");
}

#[test]
fn published_by_rtmp() {
    assert_everywhere("", |clip, server| clip.publish(&server.rtmp_url("live/cam")));
}

#[test]
fn published_by_rtsp() {
    assert_everywhere("", |clip, server| {
        ffmpeg(clip, &["-f", "rtsp", "-rtsp_transport", "tcp", &server.rtsp_url("live/cam")])
    });
}

#[test]
fn published_by_srt() {
    assert_everywhere("", |clip, server| {
        // Without lingering libsrt throws away what has not gone when it is closed.
        ffmpeg(clip, &["-f", "mpegts", &format!("{}&linger=3", server.srt_url("publish", "live/cam"))])
    });
}

#[test]
fn sent_here_by_udp() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
    let port = socket.local_addr().expect("it is bound").port();
    drop(socket);
    let table = format!("[streams.\"live/cam\"]\npull = \"udp://127.0.0.1:{port}\"\n");
    assert_everywhere(&table, |clip, _| {
        ffmpeg(clip, &["-f", "mpegts", &format!("udp://127.0.0.1:{port}?pkt_size=1316")])
    });
}
