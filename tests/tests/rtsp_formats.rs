//! The payload formats that cameras, telephones and browsers have, by RTSP with real clients: what is published comes out packet by
//! packet as it was.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use shardcast_tests::clients::{
    Folder,
    packets::{Packet, Packets, Run},
    process::{Process, run},
    program,
    rtsp::{HARMLESS, NO_TIME, PATIENCE, ROUNDING, by_showing, give_first_its_time, wait_for_viewers},
    server::{Server, Setup},
    target, wait_for,
};

/// Microseconds that sound and pictures may be out of step: a publisher's reports may come behind its first packets, and a track is moved to
/// its place then.
const STEP_MAX: i64 = 20_000;
/// Microseconds of a stream of one track that a player may miss: whether it has another, too, is waited for a second, and pictures begin with
/// the newest key frame.
const ALONE_MISSED_MAX: i64 = 2_500_000;
/// What ffmpeg says of a body that ends when the connection does.
const ENDED: &str = "Error during demuxing: Input/output error";
/// Sound that stands before the first picture, with which a viewer begins.
const SOUND_BEFORE_MAX: usize = 24;
/// Packets of sound that may still be on their way when a publisher ends.
const SOUND_KEPT_MAX: usize = 8;
/// Takes from AV1 what stands between its temporal units, which neither packets nor samples have.
const UNITS_ALONE: [&str; 2] = ["-bsf:v", "av1_metadata=td=remove"];

/// A clip of one kind, and its packets.
struct Source {
    name: &'static str,
    path: PathBuf,
    /// What its packets are changed by before they are compared.
    filters: &'static [&'static str],
    /// FLV has a form for it that ffmpeg reads, and that ffmpeg writes.
    by_flv: bool,
    /// It is not read by UDP: ffmpeg 9 loses what it has of a temporal unit when a packet of sound comes between two of its packets, as
    /// they do by datagrams.
    inside_alone: bool,
    packets: Packets,
}

impl Source {
    /// Made by ffmpeg 9 with these arguments.
    fn of(name: &'static str, arguments: &str, filters: &'static [&'static str]) -> Self {
        let folder = target().join("interop").join("media");
        fs::create_dir_all(&folder).expect("a folder below the target directory can be made");
        let path = folder.join(format!("format-{name}.nut"));
        // Several tests have the same.
        static MAKING: Mutex<()> = Mutex::new(());
        let making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        if !path.exists() {
            let draft = path.with_extension(format!("{}.nut", std::process::id()));
            let mut command = Command::new(program("ffmpeg9"));
            command.args(["-nostdin", "-v", "error", "-y"]).args(arguments.split_whitespace()).arg(&draft);
            run("ffmpeg-clip", &mut command, Duration::from_secs(120));
            fs::rename(&draft, &path).expect("a rename inside a folder");
        }
        drop(making);
        let packets = by_showing(&Packets::of_filtered_file("ffmpeg9", &path, filters));
        // ffmpeg knows no VP8 in FLV.
        let by_flv = !name.contains("vp8") && name != "g722";
        let inside_alone = name == "av1";
        Source { name, path, filters, by_flv, inside_alone, packets }
    }

    /// G.711 or G.722, four seconds of a tone that rises.
    fn voice(name: &'static str, coder: &str, rate: u32) -> Self {
        let wave = format!("-f lavfi -i aevalsrc=exprs=0.3*sin(2*PI*(200+20*t)*t):s={rate}:d=4");
        Source::of(name, &format!("{wave} -c:a {coder}"), &[])
    }

    /// Publishes it at the pace of its clock.
    fn publish(&self, ffmpeg: &str, arguments: &[&str], url: &str) -> Process {
        let mut command = Command::new(program(ffmpeg));
        command.args(["-nostdin", "-v", "warning", "-re", "-i"]).arg(&self.path).args(["-c", "copy"]);
        Process::start("ffmpeg-publisher", command.args(arguments).arg(url))
    }

    /// Demands that a player had all of it.
    fn assert_played(&self, player: Process, what: &str) {
        let ended = player.succeed(PATIENCE);
        let known = || HARMLESS.into_iter().chain([ENDED]);
        let harmless = |line: &str| line.trim().is_empty() || known().any(|one| line.contains(one));
        let complaints: Vec<&str> = ended.errors.lines().filter(|line| !harmless(line)).collect();
        assert_eq!(complaints, [""; 0], "{} {what}", self.name);
        let times_missing = ended.output.matches(NO_TIME).count();
        let mut got = Packets::parse(&ended.output.replace(NO_TIME, "0"));
        if times_missing > 0 {
            give_first_its_time(&mut got.video, &self.packets.video);
        }
        // That of decoding, and that of showing.
        assert!(times_missing <= 2, "{}", ended.output);
        let got = by_showing(&got);
        println!("{} {what}: {got}", self.name);
        let (video, audio) = got.assert_run(&self.packets, STEP_MAX);
        let (pictures, sounds) = (&self.packets.video, &self.packets.audio);
        let is_whole = |run: Option<Run>, all: &[Packet], kept: usize| {
            let Run { first, count } = run.unwrap_or(Run { first: 0, count: 0 });
            let alone = pictures.is_empty() || sounds.is_empty();
            let missed = all.get(first).map_or(0, |packet| packet.pts - all[0].pts);
            let before = if std::ptr::eq(all, &**sounds) { SOUND_BEFORE_MAX } else { 0 };
            (first <= before || alone && missed <= ALONE_MISSED_MAX) && first + count + kept >= all.len()
        };
        assert!(is_whole(video, pictures, 0), "{} {what}: pictures {video:?}", self.name);
        assert!(is_whole(audio, sounds, SOUND_KEPT_MAX), "{} {what}: sound {audio:?}", self.name);
    }
}

/// An ffmpeg that lists the packets of a stream, changed as those of the source are.
fn play(source: &Source, ffmpeg: &str, transport: &str, server: &Server, name: &str) -> Process {
    let mut command = Command::new(program(ffmpeg));
    command.args(["-nostdin", "-v", "repeat+warning", "-copyts", "-rtsp_transport", transport]);
    command.args(["-i", &server.rtsp_url(name), "-map", "0:v?", "-map", "0:a?"]).args(source.filters);
    command.args(["-c", "copy", "-copyinkf"]);
    Process::start("ffmpeg-player", command.args(["-f", "framehash", "-hash", "md5", "-"]))
}

/// The same by HTTP-FLV.
fn follow_flv(source: &Source, server: &Server, name: &str) -> Process {
    let mut command = Command::new(program("ffmpeg9"));
    command.args(["-nostdin", "-v", "warning", "-copyts", "-i", &server.flv_url(name)]);
    command.args(["-map", "0:v?", "-map", "0:a?"]).args(source.filters).args(["-c", "copy", "-copyinkf"]);
    Process::start("ffmpeg-player", command.args(["-f", "framehash", "-hash", "md5", "-"]))
}

/// A server whose viewers may come long before who they wait for: there are many of them.
fn patient() -> Setup {
    Setup::new().stream("wait_for_publisher = \"40s\"\n")
}

/// Who publishes by RTSP, and how.
const PUBLISHERS: [(&str, &str); 2] = [("ffmpeg", "udp"), ("ffmpeg9", "tcp")];
/// Who plays by RTSP, and how.
const PLAYERS: [(&str, &str); 2] = [("ffmpeg", "tcp"), ("ffmpeg9", "udp")];

/// Publishes the sources by RTSP, each by each publisher under a name of its own, and demands that each player has all.
fn assert_both_ways(
    sources: &[Source],
    publishers: &[(&str, &str)],
    readers: &[(&str, &str)],
    arguments: &[&str],
) {
    let server = patient().start();
    let (mut players, mut viewers) = (Vec::new(), 0.0);
    let names: Vec<(&Source, String, (&str, &str))> = sources
        .iter()
        .flat_map(|source| {
            publishers.iter().map(move |by| (source, format!("live/{}-{}", source.name, by.0), *by))
        })
        .collect();
    for (source, name, by) in &names {
        let readers = readers.iter().filter(|(_, transport)| !source.inside_alone || *transport == "tcp");
        for (ffmpeg, transport) in readers {
            let what = format!("from {by:?} to {ffmpeg} by {transport}");
            players.push((*source, play(source, ffmpeg, transport, &server, name), what));
            viewers += 1.0;
        }
        if source.by_flv {
            let player = follow_flv(source, &server, name);
            players.push((*source, player, format!("from {by:?} by FLV")));
            viewers += 1.0;
        }
    }
    wait_for_viewers(&server, viewers);
    let publishers: Vec<Process> = names
        .iter()
        .map(|(source, name, (ffmpeg, transport))| {
            let words = [arguments, &["-f", "rtsp", "-rtsp_transport", transport]].concat();
            source.publish(ffmpeg, &words, &server.rtsp_url(name))
        })
        .collect();
    publishers.into_iter().for_each(|publisher| drop(publisher.succeed(PATIENCE)));
    players.into_iter().for_each(|(source, player, what)| source.assert_played(player, &what));
}

/// Publishes by RTMP, and demands that who plays by HTTP-FLV and by RTSP has all.
fn assert_by_flv(sources: &[Source]) {
    let server = patient().start();
    let mut players = Vec::new();
    for source in sources {
        let name = format!("live/{}", source.name);
        players.push((source, follow_flv(source, &server, &name), "by FLV"));
        players.push((source, play(source, "ffmpeg9", "tcp", &server, &name), "by RTSP"));
    }
    wait_for_viewers(&server, players.len() as f64);
    let publish = |source: &Source| {
        let words = ["-f", "flv", "-flvflags", "no_duration_filesize"];
        source.publish("ffmpeg9", &words, &server.rtmp_url(&format!("live/{}", source.name)))
    };
    let publishers: Vec<Process> = sources.iter().map(publish).collect();
    publishers.into_iter().for_each(|publisher| drop(publisher.succeed(PATIENCE)));
    players.into_iter().for_each(|(source, player, what)| source.assert_played(player, what));
}

#[test]
fn sound_of_telephones_goes_both_ways_as_it_is() {
    let [pcma, pcmu] = [Source::voice("pcma", "pcm_alaw", 8_000), Source::voice("pcmu", "pcm_mulaw", 8_000)];
    assert_by_flv(&[pcma, pcmu]);
    let sources = [("pcma", "pcm_alaw", 8_000), ("pcmu", "pcm_mulaw", 8_000), ("g722", "g722", 16_000)]
        .map(|(name, coder, rate)| Source::voice(name, coder, rate));
    assert_both_ways(&sources, &PUBLISHERS, &PLAYERS, &[]);
}

#[test]
fn a_recording_has_vp8_as_it_is() {
    let source = pictures("vp8", VP8, &[]);
    let mut server = Setup::new().recording().start();
    let words = ["-f", "rtsp", "-rtsp_transport", "tcp"];
    source.publish("ffmpeg9", &words, &server.rtsp_url("live/cam")).succeed(PATIENCE);
    let written = || server.recordings("live/cam").into_iter().next();
    let path = wait_for(PATIENCE, written).expect("it is recorded");
    server.stop();
    let recorded = by_showing(&Packets::of_file("ffmpeg9", &path));
    let (video, audio) = recorded.assert_run(&source.packets, ROUNDING);
    assert_eq!(video.map(|run| run.count), Some(source.packets.video.len()));
    assert!(audio.is_some_and(|run| run.count > 100), "{audio:?}");
}

#[test]
fn a_recording_has_the_pictures_and_not_the_sound_that_mp4_has_no_form_for() {
    let source = Source::of(
        "h264-pcma",
        "-f lavfi -i testsrc2=size=320x180:rate=25:duration=4 -f lavfi -i aevalsrc=exprs=0.3*sin(2*PI*(200+20*t)*t):s=8000:d=4 \
         -c:v libx264 -preset veryfast -bf 0 -g 25 -c:a pcm_alaw -bsf:v filter_units=remove_types=6-9",
        &[],
    );
    let mut server = Setup::new().recording().start();
    source
        .publish("ffmpeg9", &["-f", "rtsp", "-rtsp_transport", "tcp"], &server.rtsp_url("live/cam"))
        .succeed(PATIENCE);
    let written = || server.recordings("live/cam").into_iter().next();
    let path = wait_for(PATIENCE, written).expect("it is recorded");
    server.stop();
    let recorded = by_showing(&Packets::of_filtered_file(
        "ffmpeg9",
        &path,
        &["-bsf:v", "h264_mp4toannexb,filter_units=remove_types=6-9"],
    ));
    assert!(recorded.audio.is_empty());
    assert_eq!(recorded.video.len(), source.packets.video.len());
    let pictures = Packets { video: source.packets.video.clone(), audio: Vec::new() };
    recorded.assert_equal(&pictures, ROUNDING);
}

const VP8: &str = "-c:v libvpx -deadline realtime -cpu-used 8 -b:v 1M";
/// With frames that are not shown, each in one packet with one that is.
const VP9: &str = "-c:v libvpx-vp9 -cpu-used 5 -lag-in-frames 16 -auto-alt-ref 1 -b:v 1M";
/// With temporal units that show a frame which came before.
const AV1: &str = "-c:v libsvtav1 -preset 10";

/// Four seconds of pictures and Opus, a key frame each second.
fn pictures(name: &'static str, coder: &str, filters: &'static [&'static str]) -> Source {
    Source::of(
        name,
        &format!(
            "-f lavfi -i testsrc2=size=320x180:rate=25:duration=4 \
             -f lavfi -i aevalsrc=exprs=0.3*sin(2*PI*(200+20*t)*t):s=48000:d=4 -pix_fmt yuv420p -g 25 {coder} -c:a libopus"
        ),
        filters,
    )
}

#[test]
fn vp8_and_vp9_go_both_ways_as_they_are() {
    let sources = [pictures("vp8", VP8, &[]), pictures("vp9", VP9, &[])];
    assert_both_ways(&sources, &PUBLISHERS, &PLAYERS, &["-strict", "experimental"]);
    assert_by_flv(&sources[1..]);
}

#[test]
fn av1_goes_both_ways_as_it_is() {
    let mute = format!("-f lavfi -i testsrc2=size=320x180:rate=25:duration=4 -pix_fmt yuv420p -g 25 {AV1}");
    let sources = [pictures("av1", AV1, &UNITS_ALONE), Source::of("av1-mute", &mute, &UNITS_ALONE)];
    // ffmpeg 5.1 knows no such packets.
    let new = [("ffmpeg9", "tcp"), ("ffmpeg9", "udp")];
    assert_both_ways(&sources, &new[..1], &new, &["-strict", "experimental"]);
    assert_by_flv(&sources[..1]);
}

/// Four seconds of VP8 and G.711, a key frame each second.
fn vp8_with_voice() -> Source {
    Source::of(
        "vp8-pcma",
        &format!(
            "-f lavfi -i testsrc2=size=320x180:rate=25:duration=4 \
             -f lavfi -i aevalsrc=exprs=0.3*sin(2*PI*(200+20*t)*t):s=8000:d=4 -pix_fmt yuv420p -g 25 {VP8} -c:a pcm_alaw"
        ),
        &[],
    )
}

#[test]
fn cameras_may_send_all_of_them_and_they_are_pushed_on() {
    let sources = [
        Source::voice("pcmu", "pcm_mulaw", 8_000),
        Source::voice("g722", "g722", 16_000),
        vp8_with_voice(),
        pictures("vp9", VP9, &[]),
        pictures("av1", AV1, &UNITS_ALONE),
    ];
    let [camera, there] = [(); 2].map(|()| patient().start());
    let mut setup = patient();
    for Source { name, .. } in &sources {
        let (pull, push) = (camera.rtsp_url(&format!("live/{name}")), there.rtsp_url(&format!("far/{name}")));
        setup.tables.push_str(&format!("[streams.\"cam/{name}\"]\npull = {pull:?}\npush = [{push:?}]\n"));
    }
    let here = setup.start();
    let reader = |server: &Server, app: &str, source: &Source| {
        play(source, "ffmpeg9", "tcp", server, &format!("{app}/{}", source.name))
    };
    let mut players: Vec<(&Source, Process, &str)> =
        sources.iter().map(|source| (source, reader(&here, "cam", source), "pulled")).collect();
    // Of one that has sound alone each server has to see first that no pictures come.
    let with_pictures = || sources.iter().filter(|source| !source.packets.video.is_empty());
    players.extend(with_pictures().map(|source| (source, reader(&there, "far", source), "pushed on")));
    wait_for_viewers(&here, sources.len() as f64);
    wait_for_viewers(&camera, sources.len() as f64);
    wait_for_viewers(&there, with_pictures().count() as f64);
    let words = ["-strict", "experimental", "-f", "rtsp", "-rtsp_transport", "tcp"];
    let publish = |source: &Source| {
        source.publish("ffmpeg9", &words, &camera.rtsp_url(&format!("live/{}", source.name)))
    };
    let publishers: Vec<Process> = sources.iter().map(publish).collect();
    publishers.into_iter().for_each(|publisher| drop(publisher.succeed(PATIENCE)));
    players.into_iter().for_each(|(source, player, what)| source.assert_played(player, what));
}

#[test]
fn gstreamer_publishes_and_plays_them() {
    let voice = vp8_with_voice();
    let music = pictures("vp9", VP9, &[]);
    let folder = Folder::new("gst-formats");
    let clip = folder.path().join("clip.mkv");
    let mut command = Command::new(program("ffmpeg9"));
    command.args(["-nostdin", "-v", "error", "-i"]).arg(&voice.path).args(["-c", "copy"]).arg(&clip);
    run("ffmpeg-clip", &mut command, PATIENCE);
    let server = patient().start();
    let gst = |name: &str, line: String| {
        let mut command = Command::new(program("gst-launch-1.0"));
        Process::start(name, command.arg("-e").args(line.split_whitespace()))
    };
    let read = |source: &Source, video: &str, audio: &str| {
        let path = folder.path().join(format!("{}.mkv", source.name));
        let url = server.rtsp_url(&format!("live/{}", source.name));
        let line = format!(
            "rtspsrc location={url} protocols=tcp buffer-mode=none name=s  matroskamux name=m ! filesink location={}  \
             s. ! queue ! {video} ! m.  s. ! queue ! {audio} ! m.",
            path.display()
        );
        (gst("gst-player", line), path)
    };
    let readers = [
        (&voice, read(&voice, "rtpvp8depay", "rtppcmadepay")),
        (&music, read(&music, "rtpvp9depay", "rtpopusdepay ! opusparse")),
    ];
    let player = play(&voice, "ffmpeg", "tcp", &server, "live/gst");
    wait_for_viewers(&server, 3.0);
    let words = ["-strict", "experimental", "-f", "rtsp", "-rtsp_transport", "tcp"];
    let publishers = [&voice, &music]
        .map(|source| source.publish("ffmpeg9", &words, &server.rtsp_url(&format!("live/{}", source.name))));
    let mut publisher = gst(
        "gst-publisher",
        format!(
            "filesrc location={} ! matroskademux name=d  rtspclientsink location={} protocols=tcp name=r  \
             d.video_0 ! queue ! identity sync=true ! r.  d.audio_0 ! queue ! identity sync=true ! r.",
            clip.display(),
            server.rtsp_url("live/gst")
        ),
    );
    publishers.into_iter().for_each(|publisher| drop(publisher.succeed(PATIENCE)));
    // GStreamer 1.22 often does not notice its own end: its queues and its socket are empty then, and it waits.
    std::thread::sleep(Duration::from_secs(3));
    publisher.kill();
    let assert_most = |got: &Packets, source: &Source, what: &str| {
        let (video, audio) = timeless(got).assert_run(&timeless(&source.packets), 0);
        println!("{} {what}: pictures {video:?}, sound {audio:?}", source.name);
        assert!(video.is_some_and(|run| run.count >= 80), "{video:?}");
        assert!(audio.is_some_and(|run| run.count * 10 >= source.packets.audio.len() * 8), "{audio:?}");
    };
    for (source, (reader, path)) in readers {
        // It says that it cannot read any more, or that this is the end, as the end of the connection finds it.
        reader.finish(PATIENCE);
        assert_most(&Packets::of_file("ffmpeg9", &path), source, "to GStreamer");
    }
    let published = player.succeed(PATIENCE);
    assert_most(&Packets::parse(&published.output), &voice, "from GStreamer");
}

/// GStreamer makes times of its own of when packets come.
fn timeless(packets: &Packets) -> Packets {
    let timeless = |packets: &[Packet]| {
        packets.iter().map(|packet| Packet { dts: 0, pts: 0, ..packet.clone() }).collect()
    };
    Packets { video: timeless(&packets.video), audio: timeless(&packets.audio) }
}
