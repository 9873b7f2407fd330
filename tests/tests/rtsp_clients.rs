//! Other clients that play by RTSP, inside their connections and by UDP: the crate `retina`, MPlayer, and one written by hand that looks at what it
//! is told of where its tracks begin.

use std::{
    fs,
    io::Read as _,
    net::{Ipv4Addr, TcpStream, UdpSocket},
    path::PathBuf,
    process::Command,
    thread,
    time::Duration,
};

use futures_lite::StreamExt as _;
use retina::{
    client::{
        PlayOptions, Session, SessionOptions, SetupOptions, TcpTransportOptions, Transport,
        UdpTransportOptions,
    },
    codec::{CodecItem, FrameFormat},
};
use shardcast_tests::clients::{
    Folder,
    media::{Clip, Kind},
    packets::{Packets, Run},
    process::Process,
    program,
    rtsp::{PATIENCE, packets_without_times, play_by_hand, publish, timeless, wait_for_viewers},
    server::{Server, Setup},
};

/// Packets of sound that stand before the first picture, with which a viewer begins, and that a publisher keeps when it ends.
const SOUND_MISSED_MAX: usize = 24;

/// What retina has of `live/cam`, kept as files of pictures and of sound, until it has had so many pictures and the last of the sound.
async fn read(server: &Server, transport: Transport, pictures: usize, kept: [PathBuf; 2]) {
    let url = url::Url::parse(&server.rtsp_url("live/cam")).expect("a URL");
    let mut session = Session::describe(url, SessionOptions::default()).await.expect("it is described");
    assert_eq!(session.streams().len(), 2);
    for track in 0..2 {
        let options = SetupOptions::default().transport(transport.clone()).frame_format(FrameFormat::SIMPLE);
        session.setup(track, options).await.expect("it is set up");
    }
    // By default it wants to be told where both tracks begin.
    let session = session.play(PlayOptions::default()).await.expect("it plays");
    let mut session = session.demuxed().expect("its codecs are known");
    let (mut files, mut seen, mut last) = ([Vec::new(), Vec::new()], 0, [i64::MIN; 2]);
    loop {
        // The sound behind the last picture comes yet, and a server by UDP keeps its connection for a while.
        let patience = if seen < pictures { PATIENCE } else { Duration::from_secs(2) };
        let Ok(Some(item)) = tokio::time::timeout(patience, session.next()).await else { break };
        let (track, time, loss, data) = match item {
            Ok(CodecItem::VideoFrame(frame)) => {
                seen += 1;
                (0, None, frame.loss(), frame.data().to_vec())
            }
            Ok(CodecItem::AudioFrame(frame)) => {
                (1, Some(frame.timestamp().elapsed()), frame.loss(), frame.data().to_vec())
            }
            Ok(_) => continue,
            Err(error) => {
                assert!(seen >= pictures, "{error}");
                break;
            }
        };
        assert_eq!(loss, 0, "track {track} lacks packets");
        // Pictures come as they are decoded, and not as they are shown.
        if let Some(time) = time {
            assert!(time > last[track], "sound goes on");
            last[track] = time;
        }
        files[track].extend_from_slice(&data);
    }
    files
        .iter()
        .zip(kept)
        .for_each(|(file, path)| fs::write(path, file).expect("an own folder can be written"));
}

#[test]
fn retina_has_every_frame_inside_its_connection_and_by_udp() {
    let clip = Clip::of(Kind::H264, 4);
    let server = Setup::new().top("shards = 2\n").start();
    let folder = Folder::new("retina");
    let kept = |way: &str| ["h264", "aac"].map(|form| folder.path().join(format!("{way}.{form}")));
    let ways = [
        ("tcp", Transport::Tcp(TcpTransportOptions::default())),
        ("udp", Transport::Udp(UdpTransportOptions::default())),
    ];
    thread::scope(|scope| {
        for (way, transport) in &ways {
            let (server, kept, pictures) = (&server, kept(way), clip.packets.video.len());
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime").block_on(read(server, transport.clone(), pictures, kept));
            });
        }
        wait_for_viewers(&server, 2.0);
        clip.publish(&server.rtmp_url("live/cam")).succeed(PATIENCE);
    });
    for (way, _) in ways {
        let [pictures, sound] = kept(way);
        let video = packets_without_times(&pictures, &clip.kind.of_transport()[..2]).video;
        let audio = packets_without_times(&sound, &["-bsf:a", "aac_adtstoasc"]).audio;
        let got = Packets { video, audio };
        let source = Packets { audio: clip.packets.audio.clone(), ..clip.transport() };
        let (video, audio) = got.assert_run(&timeless(&source), 0);
        println!("{way}: pictures {video:?}, sound {audio:?}");
        assert_eq!(video, Some(Run { first: 0, count: source.video.len() }), "{way}");
        let audio = audio.expect("there is sound");
        assert!(audio.first <= SOUND_MISSED_MAX, "{way}: {audio:?}");
        assert!(audio.first + audio.count + SOUND_MISSED_MAX >= source.audio.len(), "{way}: {audio:?}");
    }
}

#[test]
fn mplayer_shows_it_inside_its_connection_and_by_udp() {
    let clip = Clip::of(Kind::H264, 8);
    let server = Setup::new().top("shards = 2\n").start();
    let url = server.rtsp_url("live/cam");
    let publisher = publish(&clip, "ffmpeg", &["-f", "rtsp", "-rtsp_transport", "tcp"], &url);
    let players = ["tcp", "udp"].map(|transport| {
        let folder = Folder::new("mplayer");
        let mut command = Command::new(program("mplayer"));
        command.args(["-noconfig", "all", "-nolirc", "-quiet", "-nosound", "-frames", "60"]);
        command.arg("-vo").arg(format!("jpeg:outdir={}", folder.path().display()));
        command.arg("-lavfdopts").arg(format!("o=rtsp_transport={transport}"));
        // The system's is built without live555.
        let player = Process::start("mplayer", command.arg(format!("ffmpeg://{url}")));
        (transport, folder, player)
    });
    for (transport, folder, player) in players {
        player.succeed(PATIENCE);
        let shown = fs::read_dir(folder.path()).expect("an own folder").count();
        assert!(shown >= 60, "{shown} pictures by {transport}");
    }
    publisher.succeed(PATIENCE);
}

/// What the answer to `PLAY` says of a track: the number of its first packet, and its time.
fn told(said: &str, track: usize) -> (u16, u32) {
    let line = said.lines().find_map(|line| line.strip_prefix("RTP-Info: "));
    let line = line.unwrap_or_else(|| panic!("no RTP-Info in {said}"));
    let place = line.split(',').find(|place| place.contains(&format!("/trackID={track};")));
    let place = place.unwrap_or_else(|| panic!("nothing of track {track} in {line}"));
    let value = |name: &str| place.split(';').find_map(|part| part.strip_prefix(name)).expect(name);
    (value("seq=").parse().expect("a number"), value("rtptime=").parse().expect("a number"))
}

/// The same of a packet.
fn place_of(packet: &[u8]) -> (u16, u32) {
    let number = u16::from_be_bytes([packet[2], packet[3]]);
    (number, u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]))
}

/// Demands that the first packets are those that were told of. The time of showing of the picture is the beginning; sound that stands behind it in
/// the stream may be due somewhat earlier.
fn assert_told(said: &str, first: [(u16, u32); 2]) {
    assert_eq!(told(said, 0), first[0], "{said}");
    let ((number, begin), (came, time)) = (told(said, 1), first[1]);
    println!("pictures {:?}, sound from {number} at {begin}, came {came} at {time}", first[0]);
    assert_eq!(number, came, "{said}");
    let apart = time.wrapping_sub(begin).cast_signed();
    assert!(apart.abs() < 24_000, "half a second of sound and no more: {apart}");
}

/// The first packet of each track inside a connection.
fn first_packets(mut socket: TcpStream) -> [(u16, u32); 2] {
    let mut first = [None; 2];
    while first.contains(&None) {
        let mut head = [0; 4];
        socket.read_exact(&mut head).expect("packets come");
        assert_eq!(head[0], b'$');
        let mut packet = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]]))];
        socket.read_exact(&mut packet).expect("packets come whole");
        if head[1] % 2 == 0 {
            first[usize::from(head[1] / 2)].get_or_insert(place_of(&packet));
        }
    }
    first.map(|place| place.expect("both have come"))
}

#[test]
fn the_first_packets_bear_the_numbers_that_the_answer_to_play_told() {
    let clip = Clip::of(Kind::H264, 8);
    let server = Setup::new().top("shards = 1\n").start();
    let publisher = clip.publish(&server.rtmp_url("live/cam"));
    // One that stays keeps the numbers going on, and whoever comes later comes at another place.
    let (_stays, _) = play_by_hand(&server, &["RTP/AVP/TCP;unicast"; 2]);
    for _ in 0..6 {
        let (socket, said) = play_by_hand(&server, &["RTP/AVP/TCP;unicast"; 2]);
        assert_told(&said, first_packets(socket));
        let sockets = [(); 2].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free"));
        let transports = sockets.each_ref().map(|socket| {
            socket.set_read_timeout(Some(PATIENCE)).expect("a legal time");
            let port = socket.local_addr().expect("it is bound").port();
            // Reports go where nobody listens.
            format!("RTP/AVP;unicast;client_port={port}-9")
        });
        let transports = [&transports[0][..], &transports[1].replace("-9", "-7")];
        let (kept, said) = play_by_hand(&server, &transports);
        let first = sockets.map(|socket| {
            let mut packet = [0; 2048];
            let length = socket.recv(&mut packet).expect("packets come");
            place_of(&packet[..length])
        });
        assert_told(&said, first);
        drop(kept);
        thread::sleep(Duration::from_millis(700));
    }
    publisher.succeed(PATIENCE);
}
