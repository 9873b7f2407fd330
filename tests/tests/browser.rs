//! The page that plays, in a real browser.

use std::{env, fs, path::PathBuf, process::Command, time::Duration};

use shardcast_tests::clients::{
    media::{Clip, Kind},
    process::run,
    program, repository,
    server::Setup,
    target,
};

#[test]
fn a_page_in_chromium_plays_and_its_picture_is_not_black() {
    let clip = Clip::of(Kind::H264, 30);
    let server = Setup::new().start();
    let publisher = clip.publish(&server.rtmp_url("live/page"));
    let folder = target().join("interop");
    let screenshot = folder.join("player.png");
    drop(fs::remove_file(&screenshot));
    let interop = repository().join("tests/interop");
    assert!(
        interop.join("node_modules").is_dir(),
        "the browser's driver is not installed; tests/setup.sh installs it"
    );
    let mut command = Command::new(program("node"));
    command.arg(interop.join("player.mjs")).arg(server.page_url("live/page"));
    command.args(["--seconds", "6", "--screenshot"]).arg(&screenshot).env("CHROMIUM", chromium());
    // player.mjs is the judge: time advances at its pace, nothing is black, nothing is still, nobody complains.
    run("player.mjs", &mut command, Duration::from_secs(90));
    assert!(fs::metadata(&screenshot).is_ok_and(|file| file.len() > 10_000), "a screenshot was taken");
    drop(publisher);
}

fn chromium() -> PathBuf {
    let own = target().join("interop").join("chromium");
    if own.exists() {
        own
    } else {
        env::var_os("CHROMIUM").map_or_else(|| program("chromium"), PathBuf::from)
    }
}
