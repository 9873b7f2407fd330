//! OBS itself, on a screen that is only memory.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, time::Duration};

use shardcast_tests::clients::{
    Folder,
    packets::Packets,
    process::{Process, run},
    program, repository,
    server::{Server, Setup},
    viewer::Viewer,
};

#[test]
fn obs_publishes_and_its_red_scene_is_seen_and_recorded() {
    assert_published(|server| (format!("rtmp://127.0.0.1:{}/live", server.ports().rtmp), "obs"));
}

#[test]
fn by_srt_it_is_the_same() {
    assert_published(|server| (server.srt_url("publish", "live/obs"), ""));
}

/// Has OBS publish to a server, whose URL and key `target` says, and looks at what came of it.
fn assert_published(target: impl FnOnce(&Server) -> (String, &'static str)) {
    let mut server = Setup::new().recording().start();
    let home = Folder::new("obs-home");
    let (url, key) = target(&server);
    prepare(home.path(), &url, key);
    let (_screen, display) = screen();
    let mut command = Command::new(program("obs"));
    command.args(["--startstreaming", "--multi", "--minimize-to-tray", "--disable-missing-files-check"]);
    command.args(["--collection", "Test", "--profile", "Test"]);
    command.env("HOME", home.path()).env("XDG_RUNTIME_DIR", home.path().join("run")).env("DISPLAY", display);
    command.env("LIBGL_ALWAYS_SOFTWARE", "1").env("QT_QPA_PLATFORM", "xcb");
    command.env_remove("XDG_CONFIG_HOME").env_remove("WAYLAND_DISPLAY");
    let mut obs = Process::start("obs", &mut command);

    let mut viewer = Viewer::open(&server, "live/obs");
    viewer.read_for(Duration::from_secs(8));
    obs.terminate();
    obs.finish(Duration::from_secs(20));
    viewer.read_to_end();
    server.stop();

    let seen = server.folder().join("seen.flv");
    viewer.save(&seen);
    let recordings = server.recordings("live/obs");
    assert_eq!(recordings.len(), 1, "{recordings:?}");
    for file in [seen].iter().chain(&recordings) {
        let packets = Packets::of_file("ffmpeg", file);
        assert!(packets.video.len() >= 30 && packets.audio.len() >= 100, "{}: {packets}", file.display());
        // One pixel that is the mean of the fifth picture: red, as OBS draws it and x264 leaves it.
        let pixel = home.path().join("pixel.rgb");
        let mut command = Command::new(program("ffmpeg"));
        command.args(["-nostdin", "-v", "error", "-y", "-i"]).arg(file);
        command.args(["-vf", "select=eq(n\\,5),scale=1:1", "-frames:v", "1", "-pix_fmt", "rgb24"]);
        command.args(["-f", "rawvideo"]).arg(&pixel);
        run("ffmpeg", &mut command, Duration::from_secs(30));
        let pixel = fs::read(&pixel).expect("a picture came");
        assert!(
            matches!(pixel.as_slice(), [red, green, blue] if *red > 200 && *green < 60 && *blue < 60),
            "{}: {pixel:?} is not red",
            file.display()
        );
    }
}

/// A home in which OBS finds a profile that streams to us and a scene that is red.
fn prepare(home: &Path, url: &str, key: &str) {
    let configs = home.join(".config/obs-studio");
    let profile = configs.join("basic/profiles/Test");
    let scenes = configs.join("basic/scenes");
    let run = home.join("run");
    for folder in [&profile, &scenes, &run] {
        fs::create_dir_all(folder).expect("an own folder");
    }
    fs::set_permissions(&run, fs::Permissions::from_mode(0o700)).expect("an own folder");
    let templates = repository().join("tests/interop/obs");
    for (from, to) in [
        ("global.ini", configs.join("global.ini")),
        ("basic.ini", profile.join("basic.ini")),
        ("scene.json", scenes.join("Test.json")),
    ] {
        fs::copy(templates.join(from), to).expect("templates stand in the repository");
    }
    let service =
        format!(r#"{{"type":"rtmp_custom","settings":{{"server":"{url}","key":"{key}","use_auth":false}}}}"#);
    fs::write(profile.join("service.json"), service).expect("an own folder");
}

/// A screen in memory, and its name. The server picks a free number and says which.
fn screen() -> (Process, String) {
    let mut command = Command::new(program("Xvfb"));
    command.args(["-displayfd", "1", "-screen", "0", "800x600x24", "-nolisten", "tcp"]);
    let screen = Process::start("xvfb", &mut command);
    let number = shardcast_tests::clients::wait_for(Duration::from_secs(20), || {
        let said = screen.said();
        said.lines().find_map(|line| line.trim().parse::<u32>().ok())
    });
    (screen, format!(":{}", number.expect("Xvfb says which screen it is")))
}
