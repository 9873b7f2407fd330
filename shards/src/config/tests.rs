//! The config as a whole: its file, its faults, and the example that documents it.

use std::{collections::BTreeSet, path::Path};

use super::{parse::Document, *};

const EXAMPLE: &str = include_str!("../../../shardcast.toml");

fn read(text: &str) -> Result<Document, Fault> {
    Document::parse(text, Path::new("test.toml"), &|name| (name == "KEY").then(|| "s3cret".to_owned()))
}

/// The fault of `text` as the user sees it.
fn refusal(text: &str) -> String {
    match read(text) {
        Err(fault) => fault.to_string(),
        Ok(document) => document.check().iter().map(Fault::to_string).collect::<Vec<_>>().join("\n"),
    }
}

#[test]
fn the_example_parses_to_exactly_the_defaults() {
    assert_eq!(read(EXAMPLE).unwrap().config, Config::default());
    assert_eq!(read("").unwrap().config, Config::default());
}

#[test]
fn the_example_lists_every_key() {
    fn keys(table: &toml::Table, prefix: &str, out: &mut BTreeSet<String>) {
        for (key, value) in table {
            match value {
                toml::Value::Table(table) => keys(table, &format!("{prefix}{key}."), out),
                _ => assert!(out.insert(format!("{prefix}{key}"))),
            }
        }
    }
    let (mut listed, mut known) = (BTreeSet::new(), BTreeSet::new());
    keys(&EXAMPLE.parse().unwrap(), "", &mut listed);
    keys(&toml::Table::try_from(Config::default()).unwrap(), "", &mut known);
    assert!(known.len() > 20, "{known:?}");
    assert_eq!(listed, known);
}

#[test]
fn the_apps_of_the_example_are_legal_once_they_are_uncommented() {
    let (head, tail) = EXAMPLE.split_once("# [apps.live]").unwrap();
    let (app, tail) = tail.split_once("\n\n").unwrap();
    let document = read(&format!("{head}[apps.live]{}\n\n{tail}", app.replace("\n# ", "\n"))).unwrap();
    assert_eq!(document.check(), []);
    let live = document.config.stream_of("live");
    assert!(live.record && live.takeover && live.flush == Duration::from_millis(100));
    assert!(!document.config.stream_of("other").takeover);
}

#[test]
fn the_defaults_break_no_rule_and_are_the_engines_own() {
    assert_eq!(Document::default().check(), []);
    assert_eq!(Config::default().stream.limits(), StreamLimits::default());
    assert_eq!(Config::default().limits.door(), DoorLimits::default());
}

#[test]
fn an_app_inherits_what_it_does_not_say_from_stream_and_not_from_the_defaults() {
    let config =
        read("[stream]\nflush = \"50ms\"\nviewers = 7\n[apps.live]\nviewers = 9\n[apps.b]\n").unwrap().config;
    let live = config.stream_of("live");
    assert_eq!((live.flush, live.viewers), (Duration::from_millis(50), 9));
    assert_eq!(config.stream_of("b").viewers, 7);
    let settings = config.settings();
    assert_eq!((settings.of("live").limits.viewers, settings.of("other").limits.viewers), (9, 7));
}

#[test]
fn an_unknown_key_is_refused_with_its_line() {
    let why = refusal("bind = \"127.0.0.1\"\n\n[rtmp]\nprot = 1935\n");
    assert!(why.starts_with("test.toml:4: unknown field `prot`"), "{why}");
    let why = refusal("[apps.live]\nflsh = \"1ms\"\n");
    assert!(why.starts_with("test.toml:2: unknown field `flsh`"), "{why}");
    let why = refusal("[srt]\nport = 1\n");
    assert!(why.starts_with("test.toml:1: unknown field `srt`"), "{why}");
}

#[test]
fn a_value_that_cannot_be_is_refused_with_its_line() {
    for (text, line, hint) in [
        ("[stream]\nflush = 33\n", 2, "a duration"),
        ("[stream]\nflush = \"33\"\n", 2, "ms, s, m, h or d"),
        ("[stream]\ngroup_bytes = \"32MB\"\n", 2, "MiB"),
        ("\n[rtmp]\nport = 70000\n", 3, "u16"),
        ("bind = \"localhost\"\n", 1, "IP address"),
        ("[record]\nsync = \"often\"\n", 2, "`none`, `segment`, `fragment`"),
        ("[rtmp]\nport = 1\nport = 2\n", 3, "duplicate"),
        ("[rtmp\n", 1, ""),
        ("bind = \"${NOBODY_SET_THIS}\"\n", 1, "environment"),
        ("bind = \"${KEY\"\n", 1, "without its"),
    ] {
        let why = refusal(text);
        assert!(why.starts_with(&format!("test.toml:{line}: ")) && why.contains(hint), "{text:?}: {why}");
    }
}

#[test]
fn a_key_never_shows_in_debug_output() {
    let config = read("[auth]\npublish = [\"${KEY}\"]\n").unwrap().config;
    assert!(!format!("{config:?}{:?}", config.settings()).contains("s3cret"));
}

#[test]
fn the_environment_stands_in_for_its_name_in_any_string() {
    let document =
        read("[auth]\npublish = [\"${KEY}\", \"a${KEY}b\"]\n[record]\ndir = \"/x/${KEY}\"\n").unwrap();
    assert_eq!(document.config.auth.publish, ["s3cret", "as3cretb"]);
    assert_eq!(document.config.record.dir, Path::new("/x/s3cret"));
}

#[test]
fn an_open_address_needs_keys_for_both_sides_or_a_word_that_it_is_meant() {
    let why = refusal("shards = 1\nbind = \"0.0.0.0\"\n");
    assert!(why.starts_with("test.toml:2: bind: "), "{why}");
    assert!(
        why.contains("publish and play") && why.contains("[auth]") && why.contains("allow_anonymous = true"),
        "{why}"
    );
    let why = refusal("bind = \"0.0.0.0\"\n[auth]\npublish = [\"x\"]\n");
    assert!(why.contains("anyone could play:"), "{why}");
    assert_eq!(refusal("bind = \"0.0.0.0\"\nallow_anonymous = true\n"), "");
    assert_eq!(refusal("bind = \"::\"\n[auth]\npublish = [\"x\"]\nplay = [\"y\"]\n"), "");
    for loopback in ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(refusal(&format!("bind = \"{loopback}\"\n")), "", "{loopback}");
    }
    let why = refusal("[control]\nbind = \"0.0.0.0:9090\"\n[auth]\npublish = [\"x\"]\nplay = [\"y\"]\n");
    assert!(why.starts_with("test.toml:2: control.bind: "), "{why}");
}

#[test]
fn two_doors_cannot_share_a_port() {
    let why = refusal("[rtmp]\nport = 8080\n");
    assert!(why.starts_with("test.toml: http.port: port 8080 is the rtmp door's"), "{why}");
    let why = refusal("[control]\nbind = \"127.0.0.1:1935\"\n");
    assert!(why.starts_with("test.toml:2: control.bind: port 1935 is the rtmp door's"), "{why}");
    assert_eq!(refusal("[control]\nbind = \"127.0.0.2:1935\"\n"), "");
    let why = refusal("[rtmp]\nport = 0\n[http]\nport = 0\n");
    assert!(why.contains("every media door is shut"), "{why}");
}

#[test]
fn keys_that_depend_on_each_other_are_held_against_each_other() {
    for (text, key) in [
        ("[stream]\nviewer_lag = \"20ms\"\n", "stream.viewer_lag"),
        ("[stream]\nviewer_stall = \"2s\"\n", "stream.viewer_stall"),
        ("[stream]\nwait_for_publisher = \"60s\"\n", "stream.wait_for_publisher"),
        ("[stream]\ngroup_bytes = \"1KiB\"\n", "stream.group_bytes"),
        ("[stream]\nflush = \"2s\"\n", "stream.flush"),
        ("[stream]\nviewers = 0\n", "stream.viewers"),
        ("[apps.live]\nviewer_stall = \"2s\"\n", "apps.live.viewer_stall"),
        ("[limits]\nconnections_per_address = 200000\n", "limits.connections_per_address"),
        ("[limits]\nhandshake = \"0ms\"\n", "limits.handshake"),
        ("[record]\nsegment = \"500ms\"\n", "record.segment"),
        ("[auth]\nplay = [\"\"]\n", "auth.play"),
    ] {
        let why = refusal(text);
        assert!(why.starts_with(&format!("test.toml:2: {key}: ")), "{text:?}: {why}");
    }
    let why = refusal("[apps.\"a/b\"]\n");
    assert!(why.starts_with("test.toml:1: apps.a/b: "), "{why}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let fault = Document::load(Some(Path::new("/nowhere/shardcast.toml"))).unwrap_err();
    assert!(fault.to_string().starts_with("/nowhere/shardcast.toml: cannot be read"), "{fault}");
}
