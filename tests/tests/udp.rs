//! MPEG transport streams that are sent here unasked, by ffmpeg and GStreamer: to one address and to a group, plain and inside RTP.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    process::Command,
    thread,
    time::Duration,
};

use shardcast_tests::clients::{
    Folder,
    forms::{Form, Player, Reading, follow},
    media::{Clip, Kind},
    packets::{Packets, Run},
    process::{Process, run},
    program,
    server::{Server, Setup},
    wait_for,
};

/// How long a sender may take that sends a clip of a few seconds.
const PATIENCE: Duration = Duration::from_secs(40);
/// Packets of sound that stand before the first picture in a transport stream, whose viewers begin with the picture.
const SOUND_BEFORE_MAX: usize = 24;
/// Microseconds: a PES packet holds several packets of sound and the time of the first, where the clip has milliseconds for each.
const ROUNDING: i64 = 1_500;
/// Bytes of seven packets, which is what fits into a datagram nearly everywhere.
const DATAGRAM_BYTES: usize = 7 * 188;

/// A port that nobody listens on.
fn free_port() -> u16 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
    socket.local_addr().expect("it is bound").port()
}

/// A server that takes in these streams, and notices soon when they are over. Whoever publishes by a door needs a key there.
fn server(streams: &[(&str, String)]) -> Server {
    let mut setup = Setup::new().stream("publisher_idle = \"3s\"\n").top("allow_anonymous = true\n");
    setup.tables.push_str("[auth]\npublish = [\"secret\"]\n");
    for (name, pull) in streams {
        setup.tables.push_str(&format!("[streams.{name:?}]\npull = {pull:?}\n"));
    }
    setup.start()
}

/// An ffmpeg that sends the clip at the pace of its clock.
fn send(clip: &Clip, words: &str, url: &str) -> Process {
    let mut command = Command::new(program(clip.ffmpeg));
    command.args(["-nostdin", "-v", "warning", "-re", "-i"]).arg(&clip.path);
    command.args(words.split_whitespace()).arg(url);
    Process::start("ffmpeg-sender", &mut command)
}

const PLAIN: &str = "-c copy -f mpegts";
const INSIDE_RTP: &str = "-c copy -f rtp_mpegts";

/// What ffmpeg 9 says at the end of any body in chunks, whoever sends it.
const HARMLESS: &str = "Error during demuxing: Input/output error";

/// Demands that a viewer by MPEG-TS had all of the clip but the sound before its first picture.
fn assert_whole(clip: &Clip, reading: &Reading) {
    let complaints = reading.complaints.iter().filter(|line| !line.contains(HARMLESS));
    assert_eq!(complaints.count(), 0, "{:?}", reading.complaints);
    let (got, source) = (reading.packets.as_ref().expect("it lists packets"), clip.transport());
    assert_ends(got, &source, "from its beginning");
}

/// Demands that these are packets of the source up to its end, without a hole, and from its beginning.
fn assert_ends(got: &Packets, source: &Packets, what: &str) {
    let (video, audio) = got.assert_run(source, ROUNDING);
    println!("{what}: pictures {video:?}, sound {audio:?}");
    if !source.video.is_empty() {
        assert_eq!(video, Some(Run { first: 0, count: source.video.len() }), "pictures {what}");
    }
    let audio = audio.expect("there is sound");
    assert!(audio.first <= SOUND_BEFORE_MAX, "sound {what}: {audio:?}");
    assert_eq!(audio.first + audio.count, source.audio.len(), "sound {what}");
}

/// Follows the stream by MPEG-TS while `publish` sends it, which does not begin before the viewer is there: some senders here are
/// much faster than their clip.
fn followed(server: &Server, name: &str, clip: &Clip, publish: impl FnOnce()) -> Vec<Reading> {
    follow(server, name, &[Player::of(Form::Ts, clip)], || {
        wait_for_viewers(server, 1.0);
        publish();
    })
}

fn wait_for_viewers(server: &Server, count: f64) {
    let are_there = || server.metric("shardcast_viewers").filter(|viewers| *viewers >= count);
    wait_for(PATIENCE, are_there).expect("viewers come");
}

#[test]
fn what_ffmpeg_sends_plain_to_one_address_comes_out_whole() {
    for kind in [Kind::H264, Kind::Hevc] {
        let clip = Clip::of(kind, 6);
        let url = format!("udp://127.0.0.1:{}", free_port());
        let server = server(&[("live/news", url.clone())]);
        let readings = followed(&server, "live/news", &clip, || {
            send(&clip, PLAIN, &format!("{url}?pkt_size={DATAGRAM_BYTES}")).succeed(PATIENCE);
        });
        assert_whole(&clip, &readings[0]);
    }
}

#[test]
fn what_ffmpeg_sends_inside_rtp_comes_out_whole() {
    let clip = Clip::of(Kind::H264, 6);
    let url = format!("rtp://127.0.0.1:{}", free_port());
    let server = server(&[("live/news", url.clone())]);
    let readings =
        followed(&server, "live/news", &clip, || drop(send(&clip, INSIDE_RTP, &url).succeed(PATIENCE)));
    // It keeps what does not fill its last datagram, the end of the sound.
    let got = readings[0].packets.as_ref().expect("it lists packets");
    let (video, audio) = got.assert_run(&clip.transport(), ROUNDING);
    assert_eq!(video, Some(Run { first: 0, count: clip.packets.video.len() }));
    assert!(
        audio.is_some_and(|run| run.count + 2 * SOUND_BEFORE_MAX >= clip.packets.audio.len()),
        "{audio:?}"
    );
}

#[test]
fn a_group_is_joined_and_two_streams_take_a_program_each() {
    let clip = Clip::of(Kind::H264, 6);
    let group = format!("udp://239.255.70.{}:{}", 1 + std::process::id() % 250, free_port());
    let joined = format!("{group}?interface=lo&source=127.0.0.1");
    let server = server(&[
        ("live/first", joined.clone()),
        ("live/second", format!("{joined}&program=2")),
        ("live/stranger", format!("{group}?interface=lo&source=127.0.0.9")),
    ]);
    let programs = "-map 0:v -map 0:a -map 0:a -c copy -program program_num=1:st=0:st=1 -program program_num=2:st=2 -f mpegts";
    let url = format!("{group}?pkt_size={DATAGRAM_BYTES}&localaddr=127.0.0.1&ttl=0");
    let (first, second) = thread::scope(|scope| {
        let second =
            scope.spawn(|| follow(&server, "live/second", &[Player::of(Form::Ts, &clip)], || {}).remove(0));
        let first = followed(&server, "live/first", &clip, || {
            wait_for_viewers(&server, 2.0);
            send(&clip, programs, &url).succeed(PATIENCE);
        });
        (first, second.join().expect("the player comes to the end"))
    });
    assert_whole(&clip, &first[0]);
    let (got, source) = (second.packets.expect("it lists packets"), clip.transport());
    assert!(got.video.is_empty());
    assert_ends(&got, &Packets { video: Vec::new(), ..source }, "of the second program");
    assert!(
        server.log_lines("live/stranger").iter().all(|line| line.contains("listening")),
        "{}",
        server.log()
    );
}

/// The clip in datagrams, as ffmpeg muxes it.
fn datagrams(clip: &Clip) -> Vec<Vec<u8>> {
    let folder = Folder::new("udp");
    let path = folder.path().join("clip.ts");
    let mut command = Command::new(program(clip.ffmpeg));
    command.args(["-nostdin", "-v", "error", "-i"]).arg(&clip.path).args(PLAIN.split_whitespace()).arg(&path);
    run("ffmpeg-mux", &mut command, PATIENCE);
    let bytes = fs::read(&path).expect("it was just written");
    bytes.chunks(DATAGRAM_BYTES).map(<[u8]>::to_vec).collect()
}

fn inside_rtp(sequence: u16, payload: &[u8]) -> Vec<u8> {
    let [high, low] = sequence.to_be_bytes();
    [&[0x80, 33, high, low, 0, 0, 0, 0, 0, 0, 0, 7], payload].concat()
}

#[test]
fn inside_rtp_what_the_network_shuffled_and_doubled_comes_out_whole() {
    let clip = Clip::of(Kind::H264, 6);
    let port = free_port();
    let server = server(&[("live/news", format!("rtp://127.0.0.1:{port}"))]);
    let mut packets: Vec<(usize, Vec<u8>)> = Vec::new();
    for (number, payload) in datagrams(&clip).iter().enumerate() {
        // By up to nine places, and the number wraps on the way.
        let sequence = 65_500_u16.wrapping_add(number as u16);
        let late = if number == 0 { 0 } else { number * 7 % 10 };
        packets.push((number + late, inside_rtp(sequence, payload)));
        if number % 11 == 0 {
            packets.push((number + 5, inside_rtp(sequence, payload)));
        }
    }
    packets.sort_by_key(|(place, _)| *place);
    let readings = followed(&server, "live/news", &clip, || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
        for (_, datagram) in &packets {
            socket.send_to(datagram, (Ipv4Addr::LOCALHOST, port)).expect("loopback takes it");
            thread::sleep(Duration::from_millis(2));
        }
    });
    assert_whole(&clip, &readings[0]);
}

#[test]
fn after_a_loss_the_stream_goes_on_and_what_was_hit_is_left_out() {
    let clip = Clip::of(Kind::H264, 6);
    let port = free_port();
    let server = server(&[("live/news", format!("udp://127.0.0.1:{port}"))]);
    let readings = followed(&server, "live/news", &clip, || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
        for (number, datagram) in datagrams(&clip).iter().enumerate() {
            if number % 100 != 50 {
                socket.send_to(datagram, (Ipv4Addr::LOCALHOST, port)).expect("loopback takes it");
            }
            thread::sleep(Duration::from_millis(2));
        }
    });
    let (got, source) = (readings[0].packets.as_ref().expect("it lists packets"), clip.transport());
    let hashes: Vec<&str> = source.video.iter().map(|packet| packet.hash.as_str()).collect();
    assert!(
        got.video.iter().all(|packet| hashes.contains(&packet.hash.as_str())),
        "a picture that nobody sent"
    );
    assert!((source.video.len() / 2..source.video.len()).contains(&got.video.len()), "{}", got.video.len());
    assert_eq!(got.video.last().map(|packet| &packet.hash), source.video.last().map(|packet| &packet.hash));
}

#[test]
fn what_gstreamer_sends_inside_rtp_is_played() {
    let clip = Clip::of(Kind::H264, 6);
    let port = free_port();
    let server = server(&[("live/news", format!("rtp://127.0.0.1:{port}"))]);
    let line = format!(
        "filesrc location={} ! flvdemux name=d  mpegtsmux name=m alignment=7 ! rtpmp2tpay ! udpsink host=127.0.0.1 port={port}  \
         d.video ! queue ! h264parse ! m.  d.audio ! queue ! aacparse ! m.",
        clip.path.display()
    );
    let readings = followed(&server, "live/news", &clip, || {
        let mut command = Command::new(program("gst-launch-1.0"));
        Process::start("gst-sender", command.args(line.split_whitespace())).succeed(PATIENCE);
    });
    let got = readings[0].packets.as_ref().expect("it lists packets");
    let (video, audio) = got.assert_run(&clip.transport(), ROUNDING);
    // It drops what is before its first time, and keeps its last packets when it ends.
    assert!(video.is_some_and(|run| run.count + 8 >= clip.packets.video.len()), "{video:?}");
    assert!(audio.is_some_and(|run| run.count + 48 >= clip.packets.audio.len()), "{audio:?}");
}

#[test]
fn a_sender_that_pauses_goes_on_with_its_stream_and_strangers_and_garbage_disturb_nobody() {
    let clip = Clip::of(Kind::H264, 4);
    let port = free_port();
    let url = format!("udp://127.0.0.1:{port}");
    let server = server(&[("live/news", format!("{url}?source=127.0.0.1"))]);
    let stranger = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 9), 0)).expect("all of 127/8 is loopback");
    let neighbour = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
    let disturb = || {
        for _ in 0..50 {
            stranger.send_to(&[0x47; 1316], (Ipv4Addr::LOCALHOST, port)).expect("loopback takes it");
            neighbour
                .send_to(b"no transport stream", (Ipv4Addr::LOCALHOST, port))
                .expect("loopback takes it");
        }
    };
    disturb();
    // Twice the clip, with a pause shorter than the silence that ends a stream.
    let readings = followed(&server, "live/news", &clip, || {
        for _ in 0..2 {
            send(&clip, PLAIN, &format!("{url}?pkt_size={DATAGRAM_BYTES}")).succeed(PATIENCE);
            disturb();
            thread::sleep(Duration::from_millis(1_500));
        }
    });
    let got = readings[0].packets.as_ref().expect("it lists packets");
    assert_eq!(got.video.len(), 2 * clip.packets.video.len());
    let refused = server.metric("shardcast_door_refused_total").expect("it is shown");
    assert!(refused >= 150.0, "{refused}");
    let remarks = server.log_lines("a datagram without a transport stream");
    assert!((1..=3).contains(&remarks.len()), "{remarks:?}");
    let over = || (!server.log_lines("timed_out").is_empty()).then_some(());
    wait_for(Duration::from_secs(20), over).expect("the silence is told");
}
