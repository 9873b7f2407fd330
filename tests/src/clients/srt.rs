//! Peers by SRT: ffmpeg, and libsrt's own tool.

use std::{
    net::{Ipv4Addr, UdpSocket},
    process::Command,
    time::Duration,
};

use super::{
    media::Clip,
    packets::{Packets, Run},
    process::Process,
    program,
    server::Server,
    wait_for,
};

/// How long a client may take for a clip of a few seconds.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Packets of sound that stand before the first picture in a transport stream, whose viewers begin with the picture.
pub const SOUND_BEFORE_MAX: usize = 24;
/// Packets of sound that stand in ffmpeg's last PES packet. ffmpeg 9 sometimes ends before its libsrt has sent that, and says no
/// goodbye either.
pub const SOUND_KEPT_MAX: usize = 18;
/// Microseconds: a PES packet holds several packets of sound and the time of the first, where the clip has milliseconds for each.
pub const ROUNDING: i64 = 1_500;
/// A passphrase. ffmpeg takes it from the URL as it stands there.
pub const PASSPHRASE: &str = "open-sesame-please";

/// An ffmpeg that publishes the clip as a transport stream at the pace of its clock.
pub fn publish(clip: &Clip, ffmpeg: &str, url: &str) -> Process {
    let mut command = Command::new(program(ffmpeg));
    command.args(["-nostdin", "-v", "warning", "-re", "-i"]).arg(&clip.path);
    // Without this libsrt throws away what has not gone when it is closed.
    command.args(["-c", "copy", "-f", "mpegts", &format!("{url}&linger=3")]);
    Process::start("ffmpeg-publisher", &mut command)
}

/// Demands that there are all pictures of `source`, and its sound from the first of them on.
///
/// # Panics
/// When something is missing.
pub fn assert_packets(got: &Packets, source: &Packets, what: &str) {
    let (video, audio) = got.assert_run(source, ROUNDING);
    println!("{what}: pictures {video:?}, sound {audio:?}");
    assert_eq!(video, Some(Run { first: 0, count: source.video.len() }), "pictures by {what}");
    let audio = audio.expect("there is sound");
    assert!(audio.first <= SOUND_BEFORE_MAX, "sound by {what}: {audio:?}");
    let end = audio.first + audio.count;
    assert!(end + SOUND_KEPT_MAX >= source.audio.len(), "sound by {what} up to its end: {audio:?}");
}

/// Waits until so many watch.
///
/// # Panics
/// When they do not come.
pub fn wait_for_viewers(server: &Server, count: f64) {
    let are_there = || server.metric("shardcast_viewers").filter(|viewers| *viewers >= count);
    wait_for(PATIENCE, are_there).expect("viewers come");
}

/// libsrt's own tool carries datagrams on.
pub fn transmit(from: &str, to: &str) -> Process {
    let mut command = Command::new(program("srt-live-transmit"));
    Process::start("srt-live-transmit", command.args(["-q", "-chunk:1316", from, to]))
}

/// A port of UDP that nobody listens on.
///
/// # Panics
/// When loopback has none.
pub fn free_port() -> u16 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
    socket.local_addr().expect("it is bound").port()
}
