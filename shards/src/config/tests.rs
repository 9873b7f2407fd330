//! The config as a whole: its file, its faults, and the example that documents it.

use std::{collections::BTreeSet, path::Path};

use shardcast_engine::protocol::{HTTP, RTMP, Transport};

use super::{check::Host, parse::Document, *};

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
    assert_eq!(document.config.relays().apps["live"].len(), 1);
    assert!(!document.config.stream_of("other").takeover);
}

#[test]
fn the_streams_of_the_example_are_legal_once_they_are_uncommented() {
    let (head, tail) = EXAMPLE.split_once("# [streams.\"live/news\"]").unwrap();
    let (stream, tail) = tail.split_once("\n\n").unwrap();
    let text = format!("{head}[streams.\"live/news\"]{}\n\n{tail}", stream.replace("\n# ", "\n"));
    let document = read(&text).unwrap();
    assert_eq!(document.check(), []);
    assert_eq!(document.config.pulls()[0].to_string(), "rtsp://10.0.0.9:554/main");
    let [(name, intake)] = &document.config.intakes()[..] else { panic!("there is one") };
    assert_eq!((name.as_str(), intake.address), ("live/news", "239.1.1.1:5000".parse().unwrap()));
    assert!(intake.interface.is_some() && intake.source.is_some() && intake.program.is_some());
    assert_eq!(document.config.relays().streams[name].len(), 2);
}

#[test]
fn what_is_sent_here_unasked_is_taken_from_this_machine_or_from_whom_the_operator_named() {
    let of = |name: &str, pull: &str| format!("[streams.\"{name}\"]\npull = \"{pull}\"\n");
    for pull in ["udp://127.0.0.1:5000", "udp://[::1]:5000", "udp://0.0.0.0:5000?source=10.0.0.7"] {
        assert_eq!(refusal(&of("live/a", pull)), "", "{pull}");
    }
    for pull in ["udp://0.0.0.0:5000", "rtp://239.1.1.1:5000", "udp://10.0.0.1:5000?program=1"] {
        let why = refusal(&of("live/a", pull));
        assert!(why.starts_with("test.toml:2: streams.live/a.pull: ") && why.contains("?source="), "{why}");
        assert!(why.contains("allow_anonymous"), "{why}");
        assert_eq!(refusal(&format!("allow_anonymous = true\n{}", of("live/a", pull))), "");
    }
    let why = refusal(&of("live/a", "http://camera/"));
    assert!(why.contains("udp://, rtp:// or rtmp://"), "{why}");
    let why = refusal(&of("live/a/b", "udp://127.0.0.1:5000"));
    assert!(why.starts_with("test.toml:1: streams.live/a/b: "), "{why}");
    let why = refusal("[streams.\"live/a\"]\n");
    assert!(why.starts_with("test.toml:1: streams.live/a.pull: "), "{why}");
    let twice = |one: &str, other: &str| of("live/a", one) + &of("live/b", other);
    let why = refusal(&twice("udp://127.0.0.1:5000", "udp://127.0.0.1:5000?program=2"));
    assert!(why.contains("127.0.0.1:5000 is what live/a takes already"), "{why}");
    let group = "udp://239.1.1.1:5000?source=10.0.0.7";
    assert_eq!(refusal(&twice(group, &format!("{group}&program=2"))), "", "each has its copy");
}

#[test]
fn what_is_pushed_where_nothing_could_arrive_or_what_would_come_back_is_refused_with_its_line() {
    let push = |name: &str, url: &str| format!("[streams.\"{name}\"]\npush = [\"{url}\"]\n");
    for url in [
        "udp://10.0.0.7:5000",
        "rtp://239.1.1.1:5000?interface=lo&ttl=3",
        "rtmp://a.example/app/key",
        "rtsp://ann:hunter2@a.example:8554/app/key",
        "srt://10.0.0.7:5000?streamid=publish:{app}/{stream}&passphrase=0123456789",
    ] {
        assert_eq!(refusal(&push("live/a", url)), "", "{url}");
    }
    for (url, hint) in [
        ("http://10.0.0.7:5000", "udp://, rtp://, rtmp://, rtsp:// or srt://"),
        ("rtsps://ann:hunter2@10.0.0.7/live/a", "udp://, rtp://, rtmp://, rtsp:// or srt://"),
        ("rtsp://ann:hunter2@10.0.0.7", "at character 27"),
        ("rtsp://ann:hunter2@127.0.0.1:8554/live/a?key=x", "is this server"),
        ("srt://10.0.0.7:5000?passphrase=hunter2", "10 to 79 bytes"),
        ("srt://127.0.0.1:8890?streamid=publish:live/a", "is this server"),
        ("udp://0.0.0.0:5000", "nobody has this address"),
        ("rtmp://a.example/app", "at character 17"),
        ("rtmp://127.0.0.1/live/a?key=x", "is this server"),
        ("rtmp://localhost:1935/{app}/{stream}", "is this server"),
    ] {
        let why = refusal(&push("live/a", url));
        assert!(why.starts_with("test.toml:2: streams.live/a.push: ") && why.contains(hint), "{url}: {why}");
        assert!(!why.contains("hunter2"), "{why}");
    }
    assert_eq!(refusal(&push("live/a", "rtmp://127.0.0.1/live/b")), "", "another stream");
    assert_eq!(refusal(&push("live/a", "rtmp://127.0.0.1:1999/live/a")), "", "another server");
    let why = refusal("[streams.\"live/a\"]\npull = \"rtmp://127.0.0.1/live/a\"\n");
    assert!(why.starts_with("test.toml:2: streams.live/a.pull: ") && why.contains("is this server"), "{why}");
    let why = refusal("[streams.\"live/a\"]\npull = \"rtmp://host\"\n");
    assert!(
        why.starts_with("test.toml:2: streams.live/a.pull: ") && why.contains("at character 11"),
        "{why}"
    );
    assert_eq!(refusal("[streams.\"live/a\"]\npull = \"rtmp://host/live/a\"\n"), "");
    let circle = format!("{}pull = \"udp://127.0.0.1:5000\"\n", push("live/a", "udp://127.0.0.1:5000"));
    assert!(refusal(&circle).contains("comes in here again"), "{}", refusal(&circle));
    let two = push("live/a", "udp://127.0.0.1:5000") + &push("live/b", "rtp://127.0.0.1:5000");
    assert!(refusal(&two).contains("127.0.0.1:5000 is what live/a is sent to already"), "{}", refusal(&two));
    let many: Vec<String> = (1..=17).map(|port| format!("\"udp://127.0.0.1:{port}\"")).collect();
    let why = refusal(&format!("[streams.\"live/a\"]\npush = [{}]\n", many.join(", ")));
    assert!(why.starts_with("test.toml:2: ") && why.contains("16 targets at most"), "{why}");
}

#[test]
fn what_the_streams_of_an_app_are_pushed_to_tells_them_apart_and_is_another_server() {
    for (table, app) in [("stream", false), ("apps.live", true)] {
        let push = |url: &str| format!("[{table}]\npush = [\"{url}\"]\n");
        assert_eq!(refusal(&push("rtmp://a.example/{app}/{stream}?key=x")), "");
        for (url, hint) in [
            ("udp://10.0.0.7:5000", "write {stream}"),
            ("rtmp://a.example/live/cam", "write {stream}"),
            ("rtmp://a.example/live/cam?name={stream}", "write {stream}"),
            ("rtmp://a.example/{stream}/{name}", "{app} and {stream} are known"),
            ("rtmp://127.0.0.1/copies/{stream}", "without end"),
            ("rtsp://127.0.0.1:8554/copies/{stream}", "without end"),
            ("rtsp://ann:hunter2@a.example/live/cam", "\"rtsp://a.example/live/cam\": all streams"),
        ] {
            let why = refusal(&push(url));
            assert!(why.starts_with(&format!("test.toml:2: {table}.push: ")), "{url}: {why}");
            assert!(why.contains(hint) && why.lines().count() == 1, "{url}: {why}");
        }
        let config = read(&push("rtmp://a.example/{app}/{stream}")).unwrap().config;
        let settings = config.settings();
        let of = |name: &str| settings.relays.pushes_of(&StreamName::parse(name).unwrap()).len();
        assert_eq!((of("live/cam"), of("talk/cam")), (1, usize::from(!app)));
    }
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
    let why = refusal("[sctp]\nport = 1\n");
    assert!(why.starts_with("test.toml:1: unknown field `sctp`"), "{why}");
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
    let why = refusal("[rtmp]\nport = 0\n[rtsp]\nport = 0\n[srt]\nport = 0\n[http]\nport = 0\n");
    assert!(why.contains("every media door is shut"), "{why}");
}

/// Protocols that a host brings along.
const RADIO: Protocol = Protocol { name: "radio", port: 8100, ..RTMP };
const CALLS: Protocol = Protocol { name: "calls", port: 8100, transport: Transport::Udp, ..HTTP };

/// The faults of `text` for a program that brings these along.
fn refusal_to_host(text: &str, host: Host<'_>) -> String {
    let document = read(text).unwrap();
    document.check_for(host).iter().map(Fault::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn doors_of_a_hosts_protocols_stand_where_the_file_puts_them_or_at_their_own_port() {
    let doors = |text: &str| -> Vec<String> {
        let doors = read(text).unwrap().config.doors_of(&[RADIO, CALLS]);
        doors.iter().map(|(row, address)| format!("{} {:?} {address}", row.name, row.transport)).collect()
    };
    assert_eq!(doors(""), ["radio Tcp 127.0.0.1:8100", "calls Udp 127.0.0.1:8100"]);
    assert_eq!(
        doors("bind = \"::1\"\n[doors.radio]\nport = 7000\n[doors.calls]\nport = 0\n"),
        ["radio Tcp [::1]:7000"]
    );
    assert_eq!(
        doors("[doors.calls]\nbind = \"127.0.0.2\"\n[doors.radio]\n"),
        ["radio Tcp 127.0.0.1:8100", "calls Udp 127.0.0.2:8100"]
    );
    let all =
        read("[http]\nport = 0\n[rtsp]\nport = 0\n[srt]\nport = 0\n").unwrap().config.open_doors(&[CALLS]);
    let names: Vec<_> = all.iter().map(|(row, address)| (row.name, address.port())).collect();
    assert_eq!(names, [("rtmp", 1935), ("calls", 8100)]);
}

#[test]
fn a_door_of_no_protocol_is_refused_with_its_line_and_the_names_that_there_are() {
    let text = "[rtmp]\nport = 1\n[doors.raido]\nport = 7000\n";
    let host = Host { rows: &[RADIO, CALLS], authenticates: false };
    let why = refusal_to_host(text, host);
    assert!(why.starts_with("test.toml:3: doors.raido: no protocol of this program has that name"), "{why}");
    assert!(why.ends_with("there are radio, calls"), "{why}");
    // The binary brings nothing along, and says so.
    let why = refusal(text);
    assert!(why.starts_with("test.toml:3: doors.raido: ") && why.contains("this one brings none"), "{why}");
    for why in [refusal("[doors.rtmp]\n"), refusal_to_host("[doors.rtmp]\n", host)] {
        assert!(why.starts_with("test.toml:1: ") && why.contains("a table of its own, [rtmp]"), "{why}");
    }
    let why = refusal("[doors.radio]\n\nprot = 1\n");
    assert!(why.starts_with("test.toml:3: unknown field `prot`"), "{why}");
    let why = refusal("[doors.radio]\nport = 70000\n");
    assert!(why.starts_with("test.toml:2: ") && why.contains("u16"), "{why}");
}

#[test]
fn the_rules_of_doors_hold_for_those_of_a_host() {
    let host = Host { rows: &[RADIO, CALLS], authenticates: false };
    let refusal = |text: &str| refusal_to_host(text, host);
    // The same port over UDP is another one, and a host need not have a door at all.
    assert_eq!(refusal(""), "");
    assert_eq!(refusal("rtmp.port = 0\nhttp.port = 0\ndoors.radio.port = 0\ndoors.calls.port = 0\n"), "");
    let why = refusal("[doors.radio]\nport = 1935\n");
    assert!(why.starts_with("test.toml:2: doors.radio.port: port 1935 is the rtmp door's already"), "{why}");
    let why = refusal("[rtmp]\nport = 8100\n");
    assert!(why.starts_with("test.toml: doors.radio.port: port 8100 is the rtmp door's already"), "{why}");
    assert_eq!(refusal("[doors.radio]\nport = 1935\nbind = \"127.0.0.2\"\n"), "");
    // The node has no control door, whoever listens there.
    assert_eq!(refusal("[doors.radio]\nport = 9090\n"), "");
    let open = "[doors.radio]\nport = 7000\nbind = \"0.0.0.0\"\n";
    let why = refusal(open);
    assert!(why.starts_with("test.toml:3: doors.radio.bind: 0.0.0.0 can be reached by others"), "{why}");
    assert_eq!(refusal(&format!("allow_anonymous = true\n{open}")), "");
    assert_eq!(refusal_to_host(open, Host { authenticates: true, ..host }), "");
    assert_eq!(refusal("[doors.radio]\nport = 0\nbind = \"0.0.0.0\"\n"), "");
}

#[test]
fn the_door_of_the_example_is_legal_for_a_host_once_it_is_uncommented() {
    let (head, tail) = EXAMPLE.split_once("# [doors.radio]\n").unwrap();
    let (door, tail) = tail.split_once("\n\n").unwrap();
    let keys: Vec<&str> =
        door.lines().filter_map(|line| line.strip_prefix("# ")).filter(|line| line.contains(" = ")).collect();
    let document = read(&format!("{head}[doors.radio]\n{}\n\n{tail}", keys.join("\n"))).unwrap();
    assert_eq!(document.check_for(Host { rows: &[RADIO], authenticates: false }), []);
    let door = &document.config.host_doors["radio"];
    assert_eq!((door.port, door.bind), (Some(8100), Some(Ipv4Addr::LOCALHOST.into())));
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
fn a_pull_by_rtsp_is_held_against_its_rules_and_its_password_is_not_shown() {
    let table = "[streams.\"cam/yard\"]\n";
    let read = |lines: &str| read(&format!("{table}{lines}"));
    let config = read("pull = \"rtsp://me:hunter2@10.0.0.9/main\"\non_demand = true\ntransport = \"udp\"\n")
        .unwrap()
        .config;
    let pulls = config.pulls();
    assert_eq!(pulls[0].to_string(), "rtsp://10.0.0.9/main, by UDP, on demand");
    assert_eq!(pulls[0].linger, Some(std::time::Duration::from_secs(10)));
    assert!(config.settings().on_demand.contains(&pulls[0].name) && config.intakes().is_empty());
    for (lines, key, why) in [
        ("pull = \"rtsps://me:hunter2@10.0.0.9/main\"\n", "pull", "inside TLS"),
        ("pull = \"rtsp://me:hunter2@/main\"\n", "pull", "rtsp://"),
        ("pull = \"rtsp://h/main\"\nlinger = \"10ms\"\n", "linger", "between \"1s\" and \"1h\""),
        ("pull = \"udp://127.0.0.1:5000\"\non_demand = true\n", "on_demand", "of rtsp:// alone"),
        ("pull = \"rtsp://h/main\"\ntransport = \"tls\"\n", "", "unknown variant `tls`"),
    ] {
        let refused = refusal(&format!("{table}{lines}"));
        assert!(
            refused.starts_with("test.toml:") && refused.contains(key) && refused.contains(why),
            "{refused}"
        );
        assert!(!refused.contains("hunter2"), "{refused}");
    }
    let host = Host { rows: &[], authenticates: false };
    let refused = refusal_to_host(&format!("{table}pull = \"rtsp://h/main\"\n"), host);
    assert!(refused.contains("the binary's alone"), "{refused}");
    // What is pulled is decided at the start.
    let changes = super::reload::Changes::between(&Config::default(), &config);
    assert_eq!((changes.now.len(), changes.restart), (0, vec!["streams.cam/yard".to_owned()]));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let fault = Document::load(Some(Path::new("/nowhere/shardcast.toml"))).unwrap_err();
    assert!(fault.to_string().starts_with("/nowhere/shardcast.toml: cannot be read"), "{fault}");
}
