//! Clients of RTSP: ffmpeg that publishes and plays, and what it must have had; GStreamer, mpv, and one that is written by hand.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::Command,
    time::Duration,
};

use super::{
    Folder,
    forms::Reading,
    media::{Clip, Kind},
    packets::{Packet, Packets, Run},
    process::Process,
    program,
    server::Server,
    wait_for,
};

/// How long a client may take for a clip of a few seconds.
pub const PATIENCE: Duration = Duration::from_secs(40);
/// Sound that stands before the first picture, with which a viewer begins.
const SOUND_BEFORE_MAX: usize = 24;
/// Microseconds: FLV has milliseconds where packets have ticks of 90 kHz and samples.
pub const ROUNDING: i64 = 1_000;
/// Packets of sound that ffmpeg gathers for its next packet of RTP, and keeps when it ends.
const SOUND_KEPT_MAX: usize = 8;

/// An ffmpeg that publishes the clip at the pace of its clock.
pub fn publish(clip: &Clip, ffmpeg: &'static str, arguments: &[&str], url: &str) -> Process {
    let mut command = Command::new(program(ffmpeg));
    command.args(["-nostdin", "-v", "warning", "-re", "-i"]).arg(&clip.path);
    Process::start("ffmpeg-publisher", command.args(["-c", "copy"]).args(arguments).arg(url))
}

/// An ffmpeg that lists the packets of a stream, without the parameter sets that stand before key frames.
pub fn play(clip: &Clip, ffmpeg: &'static str, arguments: &[&str], url: &str) -> Process {
    let mut command = Command::new(program(ffmpeg));
    command.args(["-nostdin", "-v", "repeat+warning", "-copyts"]).args(arguments).args(["-i", url]);
    command.args(["-map", "0:v?", "-map", "0:a?"]);
    // The sound has no headers here that would have to be taken away.
    command.args(clip.kind.of_transport().into_iter().take(2));
    command.args(["-c", "copy", "-copyinkf", "-f", "framehash", "-hash", "md5", "-"]);
    Process::start("ffmpeg-player", &mut command)
}

/// GStreamer with this pipeline, which it ends where it is told to end.
pub fn gst(name: &str, line: &str) -> Process {
    Process::start(name, Command::new(program("gst-launch-1.0")).args(["-e"]).args(line.split_whitespace()))
}

/// The same URL with a user, and perhaps a password.
pub fn with(url: &str, user: &str) -> String {
    url.replace("rtsp://", &format!("rtsp://{user}@"))
}

/// Demands that mpv shows pictures of a stream, whose packets come by `transport`.
///
/// # Panics
/// When it does not.
pub fn assert_shown_by_mpv(url: &str, transport: &str) {
    let folder = Folder::new("mpv");
    let mut command = Command::new(program("mpv"));
    command.args(["--no-config", "--vo=image", "--ao=null", "--vo-image-format=jpg", "--frames=60"]);
    command.arg(format!("--rtsp-transport={transport}"));
    command.arg(format!("--vo-image-outdir={}", folder.path().display())).arg(url);
    Process::start("mpv", &mut command).succeed(PATIENCE);
    let shown = std::fs::read_dir(folder.path()).expect("an own folder").count();
    assert!(shown >= 60, "{shown} pictures");
}

/// Says what a player of `live/cam` says up to `PLAY`, where the tracks from the first on go by these transports. Returns the
/// connection, in which nothing has been read behind the last answer, and the answers.
///
/// # Panics
/// When nothing listens.
pub fn play_by_hand(server: &Server, transports: &[&str]) -> (TcpStream, String) {
    let mut socket = TcpStream::connect(("127.0.0.1", server.ports().rtsp)).expect("the door is open");
    socket.set_read_timeout(Some(PATIENCE)).expect("a legal time");
    let (url, mut said) = (server.rtsp_url("live/cam"), String::new());
    let mut requests = vec![format!("DESCRIBE {url} RTSP/1.0\r\n")];
    for (track, transport) in transports.iter().enumerate() {
        requests.push(format!("SETUP {url}/trackID={track} RTSP/1.0\r\nTransport: {transport}\r\n"));
    }
    requests.push(format!("PLAY {url} RTSP/1.0\r\n"));
    for (number, request) in requests.iter().enumerate() {
        let request = format!("{request}CSeq: {number}\r\n\r\n");
        socket.write_all(request.as_bytes()).expect("it is taken");
        said.push_str(&answer(&mut socket));
    }
    (socket, said)
}

/// The next answer on a connection, as far as it comes.
fn answer(socket: &mut TcpStream) -> String {
    let (mut text, mut byte, mut missing) = (String::new(), [0], None);
    while missing != Some(0) && socket.read_exact(&mut byte).is_ok() {
        text.push(char::from(byte[0]));
        missing = match missing {
            Some(missing) => Some(missing - 1),
            None if text.ends_with("\r\n\r\n") => {
                let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: "));
                Some(length.map_or(0, |length| length.parse().expect("a length is a number")))
            }
            None => None,
        };
    }
    text
}

/// Packets as who has them that makes times of its own, and moves them as it goes on: what is compared is in its order.
pub fn timeless(packets: &Packets) -> Packets {
    let timeless = |packets: &[Packet]| {
        packets.iter().map(|packet| Packet { dts: 0, pts: 0, ..packet.clone() }).collect()
    };
    Packets { video: timeless(&packets.video), audio: timeless(&packets.audio) }
}

/// The packets of a file whose form has no times, by ffmpeg, which changes them by `filters`.
///
/// # Panics
/// When ffmpeg cannot read it.
pub fn packets_without_times(path: &Path, filters: &[&str]) -> Packets {
    let mut command = Command::new(program("ffmpeg"));
    command.args(["-nostdin", "-v", "error", "-i"]).arg(path).args(filters);
    command.args(["-c", "copy", "-copyinkf", "-f", "framehash", "-hash", "md5", "-"]);
    let ended = Process::start("ffmpeg", &mut command).succeed(PATIENCE);
    timeless(&Packets::parse(&ended.output.replace(NO_TIME, "0")))
}

/// RTP says when a picture is shown; when it is decoded, each client reckons for itself.
pub fn by_showing(packets: &Packets) -> Packets {
    let shown = |packets: &[Packet]| {
        packets.iter().map(|packet| Packet { dts: packet.pts, ..packet.clone() }).collect()
    };
    Packets { video: shown(&packets.video), audio: shown(&packets.audio) }
}

/// What stands for a time that is not known.
pub const NO_TIME: &str = "-9223372036854775808";
/// What ffmpeg says of itself.
pub const HARMLESS: [&str; 4] = [
    "Timestamps are unset in a packet for stream 0",
    // It draws its ports by lot, and draws again.
    "bind failed: Address already in use",
    // What it says when it goes on to the next transport.
    "method SETUP failed: 461 Unsupported Transport",
    "RTP/VP9 support is still experimental",
];

/// Of what ffmpeg has to find the packets of in a stream that it reads by RTSP, whoever sends it, the first has no time, or a wrong
/// one.
pub fn give_first_its_time(got: &mut [Packet], source: &[Packet]) {
    if let [first, second, ..] = got {
        let place = |hash: &str| source.iter().find(|packet| packet.hash == hash).map(|packet| packet.pts);
        let (its, next) = (place(&first.hash), place(&second.hash));
        first.pts = second.pts - its.zip(next).map_or(0, |(its, next)| next - its);
    }
}

/// What a player of RTSP had, and the clip as such a player has it.
///
/// # Panics
/// When it complained of anything.
pub fn packets_of(clip: &Clip, player: Process) -> (Packets, Packets) {
    let ended = player.succeed(PATIENCE);
    let is_complaint =
        |line: &&str| !line.trim().is_empty() && !HARMLESS.iter().any(|harmless| line.contains(harmless));
    let complaints: Vec<&str> = ended.errors.lines().filter(is_complaint).collect();
    assert_eq!(complaints, [""; 0]);
    assert!(ended.output.matches(NO_TIME).count() <= 1, "{}", ended.output);
    let (mut got, source) = (Packets::parse(&ended.output.replace(NO_TIME, "0")), clip.transport());
    give_first_its_time(&mut got.video, &source.video);
    if clip.kind == Kind::Mp3 {
        give_first_its_time(&mut got.audio, &source.audio);
    }
    (by_showing(&got), by_showing(&source))
}

/// Demands that a player of RTSP had all of the clip but the sound before its first picture, and complained of nothing.
///
/// # Panics
/// When it had not.
pub fn assert_played(clip: &Clip, player: Process) {
    let (got, source) = packets_of(clip, player);
    assert_whole(clip, &got, &source);
}

fn assert_whole(clip: &Clip, got: &Packets, source: &Packets) {
    let (video, audio) = got.assert_run(source, ROUNDING);
    println!("{:?}: pictures {video:?}, sound {audio:?}", clip.kind);
    assert_eq!(video, Some(Run { first: 0, count: source.video.len() }), "pictures");
    let audio = audio.expect("there is sound");
    assert!(audio.first <= SOUND_BEFORE_MAX, "{audio:?}");
    assert!(
        audio.first + audio.count + SOUND_KEPT_MAX >= source.audio.len(),
        "sound up to its end: {audio:?}"
    );
}

/// Waits until so many viewers are there, or wait for their stream.
///
/// # Panics
/// When they do not come.
pub fn wait_for_viewers(server: &Server, count: f64) {
    let are_there = || server.metric("shardcast_viewers").filter(|viewers| *viewers >= count);
    wait_for(PATIENCE, are_there).expect("viewers come");
}

/// Demands that all of the clip was read, decoding times too: the encoder's own are found again.
///
/// # Panics
/// When it was not.
pub fn assert_read(clip: &Clip, reading: &Reading) {
    let got = reading.packets.as_ref().expect("it lists packets");
    let harmless = |line: &&String| !line.contains("Error during demuxing: Input/output error");
    let complaints: Vec<_> = reading.complaints.iter().filter(harmless).collect();
    assert!(complaints.is_empty(), "{:?}: {complaints:?}", reading.form);
    // FLV has the sets in its configuration, and MPEG-TS before key frames.
    let source = if reading.form.is_transport() { clip.transport() } else { clip.packets.clone() };
    println!("{:?}: {got}", reading.form);
    assert_whole(clip, got, &source);
}
