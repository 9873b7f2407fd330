//! Players as people use them: they must show every picture, or at least go on showing them.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use shardcast_tests::clients::{
    Folder,
    media::{Clip, Kind},
    process::Process,
    program,
    server::Setup,
    wait_for,
    web::{get, get_when_there},
};

#[test]
fn mpv_shows_every_picture_by_http_and_by_rtmp() {
    let clip = Clip::of(Kind::H264, 8);
    let server = Setup::new().start();
    let folders = [Folder::new("mpv-http"), Folder::new("mpv-rtmp")];
    let urls = [server.flv_url("live/mpv"), server.rtmp_url("live/mpv")];
    let players: Vec<Process> = folders
        .iter()
        .zip(&urls)
        .map(|(folder, url)| {
            let mut command = Command::new(program("mpv"));
            command.args(["--no-config", "--untimed", "--ao=null", "--msg-level=all=warn", "--vo=image"]);
            command.args(["--vo-image-format=png", "--vo-image-png-compression=1"]);
            command.arg(format!("--vo-image-outdir={}", folder.path().display())).arg(url);
            Process::start("mpv", &mut command)
        })
        .collect();
    clip.publish(&server.rtmp_url("live/mpv")).succeed(Duration::from_secs(30));
    for (player, folder) in players.into_iter().zip(&folders) {
        let ended = player.succeed(Duration::from_secs(30));
        let said = ended.output + &ended.errors;
        assert!(!said.to_lowercase().contains("error"), "{said}");
        assert_eq!(
            pictures(folder.path()).len(),
            clip.packets.video.len(),
            "pictures that mpv showed:\n{said}"
        );
    }
}

/// Every form of a stream that a player takes by its address, and what its address ends with. VLC 3 and GStreamer 1.22 play DASH without
/// a timeline: with one VLC pauses, for it asks for the segment that is being made and has nothing in store, and GStreamer
/// reckons the place of a segment wrongly once the first of its period is no longer listed.
const FORMS: [(&str, &str); 6] = [
    ("flv", ".flv"),
    ("ts", ".ts"),
    ("hls", "/index.m3u8"),
    ("hls-ts", "/index.m3u8?format=ts"),
    (TIMELINE, "/manifest.mpd"),
    (PLAIN, "/manifest.mpd?timeline=no"),
];
const TIMELINE: &str = "dash";
const PLAIN: &str = "dash-plain";
/// How long is published, in seconds.
const SECONDS: u32 = 24;
/// The same where GStreamer plays DASH: of a live stream, too, it wants thirty seconds in store before it begins.
const SECONDS_OF_STORE: u32 = 30;
/// Some players of segments want more of them before they begin than a young stream has.
const SEGMENTS_FIRST: usize = 4;
/// Pictures that each shows at least, of some four hundred that it could: each takes a moment to start, begins where it likes, and
/// drops late pictures where the machine is busy.
const SHOWN_MIN: usize = 150;
/// How long a player may look for more after the stream is over.
const LINGER: Duration = Duration::from_secs(12);

/// What came of one player.
struct Played {
    form: &'static str,
    /// A folder of its own.
    folder: Folder,
    /// What it said while the stream was there. What players say of its end is another matter.
    said: String,
}

/// Plays so many seconds of a stream to its end, at once in each form that `takes` says, by a command that `player` makes of an
/// address and a folder.
fn play(
    name: &str,
    seconds: u32,
    takes: impl Fn(&str) -> bool,
    player: impl Fn(&str, &Path) -> Command,
) -> Vec<Played> {
    let clip = Clip::of(Kind::H264, seconds);
    let server = Setup::new().start();
    let stream = format!("live/{name}");
    let publisher = clip.publish(&server.rtmp_url(&stream));
    // A player that asks before there is a stream gives up where another waits.
    get_when_there(&server, &format!("/{stream}/index.m3u8"));
    let list = format!("/{stream}/ts.m3u8");
    let full = || (get(&server, &list).text().matches("#EXTINF").count() >= SEGMENTS_FIRST).then_some(());
    wait_for(Duration::from_secs(20), full).expect("the list grows");
    let page = server.page_url(&stream);
    let base = page.trim_end_matches('/');
    let mut addresses: Vec<_> = FORMS.iter().map(|(form, end)| (*form, format!("{base}{end}"))).collect();
    addresses.push(("rtmp", server.rtmp_url(&stream)));
    addresses.retain(|(form, _)| takes(form));
    let mut playing: Vec<_> = addresses
        .iter()
        .map(|(form, address)| {
            let folder = Folder::new(&format!("{name}-{form}"));
            // Not everybody may be who we are.
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("a folder of ours");
            let process = Process::start(form, &mut player(address, folder.path()));
            (*form, folder, process)
        })
        .collect();
    publisher.succeed(Duration::from_secs((seconds + 36).into()));
    let said: Vec<String> = playing.iter().map(|(_, _, process)| process.said()).collect();
    let all_ended = || playing.iter_mut().all(|(_, _, process)| process.ended().is_some()).then_some(());
    // Some look for more for ever.
    let _ = wait_for(LINGER, all_ended);
    playing
        .into_iter()
        .zip(said)
        .map(|((form, folder, mut process), said)| {
            process.terminate();
            process.finish(Duration::from_secs(20));
            Played { form, folder, said }
        })
        .collect()
}

#[test]
fn vlc_plays_every_form() {
    // Each fifth picture that is shown is saved.
    const SAVED: usize = 5;
    let played = play(
        "vlc",
        SECONDS,
        |form| form != TIMELINE,
        |address, folder| {
            // VLC refuses to run as root.
            let mut command = if rustix::process::geteuid().is_root() {
                let mut command = Command::new(program("setpriv"));
                command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]).arg(program("vlc"));
                command
            } else {
                Command::new(program("vlc"))
            };
            command.env("HOME", folder).current_dir(folder);
            command.args(["-I", "dummy", "--no-dbus", "--play-and-exit", "-V", "vdummy", "-A", "adummy"]);
            command.args(["--video-filter=scene", "--scene-format=png", "--scene-width=160"]);
            command.arg(format!("--scene-ratio={SAVED}")).arg(format!("--scene-path={}", folder.display()));
            command.args([address, "vlc://quit"]);
            command
        },
    );
    for Played { form, folder, said } in played {
        let shown = pictures(folder.path());
        assert!(
            shown.len() * SAVED >= SHOWN_MIN,
            "{form}: VLC showed {} times {SAVED} pictures:\n{said}",
            shown.len()
        );
        let mut different: Vec<Vec<u8>> =
            shown.iter().map(|path| fs::read(path).expect("a saved picture")).collect();
        different.sort();
        different.dedup();
        // A picture that is shown for long is saved again.
        assert!(
            different.len() * 2 >= shown.len(),
            "{form}: {} of {} pictures",
            different.len(),
            shown.len()
        );
    }
}

#[test]
fn mpv_plays_every_form() {
    let played = play(
        "mpv",
        SECONDS,
        |_| true,
        |address, folder| {
            let mut command = Command::new(program("mpv"));
            command.args(["--no-config", "--ao=null", "--untimed=no", "--msg-level=all=warn", "--vo=image"]);
            command.args([
                "--vo-image-format=jpg",
                &format!("--vo-image-outdir={}", folder.display()),
                address,
            ]);
            command
        },
    );
    for Played { form, folder, said } in played {
        let shown = pictures(folder.path()).len();
        assert!(shown >= SHOWN_MIN, "{form}: mpv showed {shown} pictures:\n{said}");
        assert!(!said.to_lowercase().contains("error"), "{form}: {said}");
    }
}

#[test]
fn gstreamer_plays_every_form_but_dash() {
    shown_by_gstreamer(&play("gst", SECONDS, |form| ![TIMELINE, PLAIN].contains(&form), gstreamer));
}

#[test]
fn gstreamer_plays_dash_without_a_timeline() {
    shown_by_gstreamer(&play("gst-dash", SECONDS + SECONDS_OF_STORE, |form| form == PLAIN, gstreamer));
}

fn shown_by_gstreamer(played: &[Played]) {
    assert!(!played.is_empty());
    for Played { form, said, .. } in played {
        let shown = said.lines().filter(|line| line.contains("(pictures:sink)")).count();
        let errors: Vec<&str> = said.lines().filter(|line| line.contains("ERROR")).collect();
        assert!(shown >= SHOWN_MIN, "{form}: GStreamer showed {shown} pictures; {errors:?}");
        assert!(errors.is_empty(), "{form}: {errors:?}");
    }
}

fn gstreamer(address: &str, _: &Path) -> Command {
    let mut command = Command::new(program("gst-launch-1.0"));
    command.args(["-v", "playbin3", &format!("uri={address}")]);
    command.args(["video-sink=fakesink name=pictures sync=true silent=false", "audio-sink=fakesink"]);
    command
}

fn pictures(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("an own folder").flatten().map(|entry| entry.path());
    let is_picture = |path: &PathBuf| path.extension().is_some_and(|end| end == "png" || end == "jpg");
    entries.filter(is_picture).collect()
}
