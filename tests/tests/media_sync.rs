//! Sound and pictures that belong together come out together, in every form.

use std::{process::Command, time::Duration};

use shardcast_tests::clients::{
    Folder,
    forms::{Form, Player, follow},
    media::{Clip, Kind},
    process::run,
    program,
    server::Setup,
    sync,
};

/// How far a beep may be from its flash, microseconds: less than anybody notices, and than a packet of AAC lasts.
const APART_MAX: i64 = 20_000;

#[test]
fn each_beep_stays_with_its_flash() {
    let clip = Clip::of(Kind::H264Flash, 8);
    assert!(
        clip.packets.video.iter().any(|packet| packet.pts - packet.dts > 40_000),
        "the clip has no B-frames, so it would not show that they are shown when they should be"
    );
    let source = Folder::new("sync-clip");
    let mut command = Command::new(program("ffmpeg"));
    command.args(["-nostdin", "-v", "warning", "-copyts", "-i"]).arg(&clip.path);
    run("ffmpeg-decoder", command.args(sync::arguments(source.path())), Duration::from_secs(60));
    let offsets = sync::offsets(source.path());
    assert_eq!(offsets.len(), 8, "each second has its own: {offsets:?}");
    assert!(offsets.iter().all(|offset| offset.abs() <= APART_MAX), "in the clip itself {offsets:?}");

    let server = Setup::new().start();
    let folders = Form::ALL.map(|form| Folder::new(&format!("sync-{form:?}")));
    let players: Vec<Player> = Form::ALL
        .into_iter()
        .zip(&folders)
        .map(|(form, folder)| Player::with(form, "ffmpeg", sync::arguments(folder.path())))
        .collect();
    let readings = follow(&server, "live/sync", &players, || {
        clip.publish(&server.rtmp_url("live/sync")).succeed(Duration::from_secs(60));
    });
    let complaints: Vec<String> = readings.into_iter().flat_map(|reading| reading.complaints).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    let mut apart = Vec::new();
    for (form, folder) in Form::ALL.into_iter().zip(&folders) {
        let got = sync::offsets(folder.path());
        println!("{form:?}: {got:?} us, in the clip {offsets:?}");
        assert_eq!(got.len(), offsets.len(), "{form:?}: one for each second");
        let near = |mine: &i64, theirs: &i64| mine.abs() <= APART_MAX && (mine - theirs).abs() <= APART_MAX;
        if !got.iter().zip(&offsets).all(|(mine, theirs)| near(mine, theirs)) {
            apart.push((form, got));
        }
    }
    assert!(apart.is_empty(), "{apart:?}");
}
