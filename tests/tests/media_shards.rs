//! A viewer of each form on each shard: whichever core a connection reaches, it is sent the same stream; and what it is told
//! of a packaged one can be read by parsers of others.

use std::{collections::BTreeMap, process::Command, thread, time::Duration};

use shardcast_tests::clients::{
    forms::{Expected, Form, Player},
    media::{Clip, Kind},
    packaged::{self, Kept, Piece},
    packets::Packets,
    process::{Process, run},
    program,
    server::{Server, Setup},
    wait_for,
    web::Web,
};

const PATIENCE: Duration = Duration::from_secs(60);
const SHARDS: usize = 2;
/// Connections in a row that the kernel would give to one of two shards once in a million times.
const TRIES: usize = 20;

/// How many connections each shard has accepted at a door.
fn accepted(server: &Server, door: &str) -> BTreeMap<String, u64> {
    let answer = server.get("/metrics").expect("the control door answers");
    let lines = answer.lines().filter_map(|line| line.strip_prefix("shardcast_door_accepted_total{shard=\""));
    lines
        .filter(|rest| rest.contains(&format!("door=\"{door}\"")))
        .filter_map(|rest| {
            let shard = rest.split('"').next()?;
            Some((shard.to_owned(), rest.rsplit(' ').next()?.parse().ok()?))
        })
        .collect()
}

/// Opens connections at a door, one after the other, until each shard has one: the first that each has.
fn one_on_each<T>(server: &Server, door: &str, mut open: impl FnMut() -> T) -> Vec<T> {
    let mut found = BTreeMap::new();
    for _ in 0..TRIES {
        let before = accepted(server, door);
        let opened = open();
        let shard = wait_for(Duration::from_secs(10), || {
            let now = accepted(server, door);
            let mut more = now.into_iter().filter(|(shard, count)| before.get(shard).unwrap_or(&0) < count);
            more.next()
        });
        let (shard, _) = shard.expect("a connection is accepted");
        found.entry(shard).or_insert(opened);
        if found.len() == SHARDS {
            return found.into_values().collect();
        }
    }
    panic!("{TRIES} connections to the {door} door reached one shard")
}

#[test]
fn a_viewer_of_each_form_on_each_shard_gets_the_stream() {
    let clip = Clip::of(Kind::H264, 8);
    let expected = Expected::of(&clip);
    let server = Setup::new().start();
    let url = server.rtmp_url("live/both");

    // Connections that are kept, and players that wait for their stream.
    let mut web = Vec::new();
    for form in [Form::Hls, Form::Dash] {
        let connect = || {
            let mut web = Web::connect(&server);
            // Who says nothing for long is closed.
            assert_eq!(web.get(&form.path("live/both")).status, 404, "nobody publishes yet");
            web
        };
        web.extend(one_on_each(&server, "http", connect).into_iter().map(|web| (form, web)));
    }
    let mut sent: Vec<(Form, Process)> = Vec::new();
    for (form, door) in [(Form::Rtmp, "rtmp"), (Form::Flv, "http"), (Form::Ts, "http")] {
        let player = Player::of(form, &clip);
        let players = one_on_each(&server, door, || player.start(&form.url(&server, "live/both")));
        sent.extend(players.into_iter().map(|player| (form, player)));
    }
    let publisher = clip.publish(&url);
    let kept: Vec<(Form, Kept)> = thread::scope(|scope| {
        let keeping: Vec<_> = web
            .into_iter()
            .map(|(form, mut web)| scope.spawn(move || (form, packaged::keep(&mut web, form, "live/both"))))
            .collect();
        keeping.into_iter().map(|keeper| keeper.join().expect("it was kept to its end")).collect()
    });
    publisher.succeed(PATIENCE);

    for (form, player) in sent {
        let ended = player.succeed(PATIENCE);
        assert_eq!(ended.errors, "", "{form:?}");
        Packets::parse(&ended.output).assert_equal(expected.form(form), 0);
    }
    for (form, kept) in kept {
        // Each was parsed when it came.
        assert!(kept.texts.len() > 3, "{form:?}: {} texts were read", kept.texts.len());
        let filters = if form.is_transport() { clip.kind.of_transport() } else { Vec::new() };
        expected.assert_whole(form, &kept.packets(clip.ffmpeg, &filters));
        kept.pieces.iter().for_each(assert_plays);
    }
}

/// Has ffmpeg decode all of it; it may not say a word.
fn assert_plays(piece: &Piece) {
    let mut command = Command::new(program("ffmpeg"));
    command.args(["-nostdin", "-v", "warning", "-xerror", "-i"]).arg(&piece.path).args(["-f", "null", "-"]);
    let ended = run("ffmpeg-decoder", &mut command, PATIENCE);
    assert_eq!(ended.errors, "", "{piece:?}");
}
