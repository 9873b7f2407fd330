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
    process::{Process, run},
    program,
    server::Setup,
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

#[test]
fn vlc_plays_by_http() {
    let clip = Clip::of(Kind::H264, 12);
    let server = Setup::new().start();
    let publisher = clip.publish(&server.rtmp_url("live/vlc"));
    // VLC refuses to run as root, and whoever it runs as instead must be able to write its pictures.
    let folder = PublicFolder::new();
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new(program("setpriv"));
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]).arg(program("vlc"));
        command
    } else {
        Command::new(program("vlc"))
    };
    command.env("HOME", folder.path()).current_dir(folder.path());
    command.args(["-I", "dummy", "--no-dbus", "--play-and-exit", "-V", "vdummy", "-A", "adummy"]);
    // Each 25th picture that is shown is saved.
    command.args(["--video-filter=scene", "--scene-format=png", "--scene-ratio=25"]);
    command.arg(format!("--scene-path={}", folder.path().display()));
    command.args([server.flv_url("live/vlc").as_str(), "vlc://quit"]);
    let ended = Process::start("vlc", &mut command).succeed(Duration::from_secs(60));
    publisher.succeed(Duration::from_secs(30));
    let shown = pictures(folder.path());
    // It drops late pictures on a busy machine, so not all twelve are asked for.
    assert!(shown.len() >= 6, "VLC showed {} pictures of 12:\n{}", shown.len(), ended.errors);
    let mut different: Vec<Vec<u8>> =
        shown.iter().map(|path| fs::read(path).expect("a saved picture")).collect();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), shown.len(), "the picture moves");
}

fn pictures(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("an own folder").flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "png")).collect()
}

/// A folder that every user may write to, outside of folders that only root may enter.
struct PublicFolder {
    path: PathBuf,
}

impl PublicFolder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("shardcast-vlc-{}", std::process::id()));
        fs::create_dir_all(&path).expect("the folder for temporary files takes one more");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("a folder of ours");
        PublicFolder { path }
    }
    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PublicFolder {
    fn drop(&mut self) {
        // `nobody` made what lies in it; without root it is our own.
        drop(run("rm", Command::new(program("rm")).arg("-rf").arg(&self.path), Duration::from_secs(10)));
    }
}
