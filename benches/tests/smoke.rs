//! The tool as a person runs it, against the real server: one run, one comparison, and a server that runs already.
//!
//! A machine with other work makes a run void, and rightly; what a server does wrong is a failure on any machine.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::{
    env, fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use shardcast_bench::{
    comparison::Comparison,
    outcome::Outcome,
    verdict::{Verdict, faults},
};

/// One run at a time: two would make each other late.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The server's binary, built with the profile of this test; `SHARDCAST_BINARY` names another to be judged.
fn server() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(other) = env::var_os("SHARDCAST_BINARY") {
            return other.into();
        }
        // TARGET/PROFILE/shardcast-bench
        let tool = Path::new(env!("CARGO_BIN_EXE_shardcast-bench"));
        let profile = tool.parent().unwrap();
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["build", "--quiet", "--package", "shardcast-shards", "--bin", "shardcast"]);
        if profile.ends_with("release") {
            command.arg("--release");
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        command.current_dir(root).env("CARGO_TARGET_DIR", profile.parent().unwrap());
        assert!(command.status().unwrap().success(), "the server cannot be built");
        profile.join("shardcast")
    })
}

/// A port that nobody holds now, below the range that the kernel gives to outgoing connections: only another test's
/// server could take it first, and each test process counts from a place of its own.
fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 22_000;
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let place = || u16::try_from(std::process::id() * 61 % u32::from(COUNT)).unwrap();
    let next = NEXT.get_or_init(|| AtomicU16::new(place()));
    let mut ports = (0..COUNT).map(|_| FIRST + next.fetch_add(1, Ordering::Relaxed) % COUNT);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("one of 22,000 ports is free")
}

/// Runs the tool on a short scenario with ports of its own; gives what it said and the JSON and the page that it wrote.
fn bench(name: &str, words: &[&str]) -> (Output, String, String) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (json, html) = (folder.join(format!("{name}.json")), folder.join(format!("{name}.html")));
    for path in [&json, &html] {
        let _ = fs::remove_file(path);
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardcast-bench"));
    command.args(words).arg("--json").arg(&json).arg("--html").arg(&html);
    for pair in ["time.measure=2s", "watch.viewers=12"] {
        command.args(["--set", pair]);
    }
    let out = command.stdin(Stdio::null()).output().unwrap();
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    (out, read(&json), read(&html))
}

fn own_ports() -> Vec<String> {
    let mut words = Vec::new();
    for name in ["rtmp_port", "rtmps_port", "http_port", "control_port"] {
        words.extend(["--set".to_owned(), format!("{name}={}", free_port())]);
    }
    words.extend(["--set".to_owned(), format!("binary={}", server().display())]);
    words
}

/// What the tool said, for the report of a test that fails.
fn said(out: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// The exit code must say what the verdicts say, and the server must not have done anything wrong.
fn judge(out: &Output, outcomes: &[Outcome]) {
    let counts = outcomes.iter().all(|outcome| outcome.void.is_empty());
    assert_eq!(out.status.code(), Some(i32::from(!counts)), "{}", said(out));
    for outcome in outcomes {
        let mut faults = faults(outcome);
        if !outcome.void.is_empty() {
            // How even what came was spread over viewers says nothing when the load was late in looking.
            faults.retain(|fault| !fault.starts_with("bytes missing"));
        }
        assert_eq!(faults, [""; 0], "{}", said(out));
        assert!(outcome.void.iter().all(|why| !why.contains("no viewer")), "{:?}", outcome.void);
        assert_eq!((outcome.viewers.asked, outcome.viewers.playing), (12, 12));
        assert!(outcome.traffic.delivered_bytes > 1_000_000, "{:?}", outcome.traffic);
        assert!(outcome.cpu.seconds > 0.0 && outcome.memory.last > 1 << 20);
        assert!((1.9..10.0).contains(&outcome.seconds), "{}", outcome.seconds);
    }
}

#[test]
fn a_run_against_the_server_passes_its_checks_and_writes_its_reports() {
    let _alone = alone();
    let ports = own_ports();
    let words: Vec<&str> =
        ["run", "smoke", "shardcast"].into_iter().chain(ports.iter().map(String::as_str)).collect();
    let (out, json, html) = bench("smoke-run", &words);
    let outcome: Outcome =
        serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {}", said(&out)));
    judge(&out, std::slice::from_ref(&outcome));
    assert!(outcome.checks.passed(), "{:?}", outcome.checks);
    assert_eq!((outcome.checks.missing_pictures, outcome.traffic.publishers), (0, 2));
    assert_eq!((outcome.scenario.as_str(), outcome.server.as_str()), ("smoke", "shardcast"));
    assert_eq!(outcome.about, "shardcast, flush 40ms, 1 shard(s)");
    assert!(!outcome.settings.keys().any(|name| name.ends_with("_port")), "{:?}", outcome.settings);
    assert!(outcome.latency.count > 0 && outcome.first_key.count == 12);
    assert!(outcome.metrics.get("shardcast_sent_bytes_total").is_some_and(|bytes| *bytes > 1e6));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.starts_with("smoke on shardcast") && text.contains(&outcome.about), "{text}");
    assert!(html.contains("smoke on shardcast") && html.ends_with("</html>\n"));
}

#[test]
fn viewers_by_every_other_door_find_the_stream_whole() {
    let _alone = alone();
    for door in ["http-ts", "hls", "ll-hls", "dash"] {
        let (ports, by) = (own_ports(), format!("watch.by={door}"));
        let words = ["run", "smoke", "shardcast", "--set", &by];
        let words: Vec<&str> = words.into_iter().chain(ports.iter().map(String::as_str)).collect();
        let (out, json, _) = bench(&format!("smoke-{door}"), &words);
        let outcome: Outcome =
            serde_json::from_str(&json).unwrap_or_else(|error| panic!("{door}: {error}: {}", said(&out)));
        judge(&out, std::slice::from_ref(&outcome));
        assert!(outcome.checks.passed() && outcome.latency.count > 0, "{door}: {:?}", outcome.checks);
        assert_eq!(outcome.settings["viewers by"], door);
        let requests = outcome.requests.map(|requests| (requests.pieces, requests.hold.count));
        match door {
            "http-ts" => assert_eq!(requests, None),
            "ll-hls" => {
                assert!(requests.is_some_and(|(pieces, held)| pieces > 0 && held > 0), "{requests:?}")
            }
            _ => assert!(requests.is_some_and(|(pieces, held)| pieces > 0 && held == 0), "{requests:?}"),
        }
    }
}

#[test]
fn publishers_and_viewers_by_other_protocols_find_the_stream_whole() {
    let _alone = alone();
    for (published, watched, peer) in
        [("srt", "srt", "libsrt"), ("srt", "srt", "own"), ("rtsp", "rtsp-udp", "own"), ("udp", "rtsp", "own")]
    {
        let mut ports = own_ports();
        // Two that follow on each other, the first of them even, and both of them nobody else's.
        let [first, ..] = [free_port(), free_port(), free_port()];
        let [for_streams, _] = [free_port(), free_port()];
        let beside = first.next_multiple_of(2);
        for pair in [
            format!("publish.by={published}"),
            format!("watch.by={watched}"),
            format!("publish.srt={peer}"),
            format!("watch.srt={peer}"),
            format!("srt_port={}", free_port()),
            // On a machine with other work what comes late is still in time.
            "srt_latency=1s".to_owned(),
            format!("rtsp_port={}", free_port()),
            format!("rtsp_udp_port={beside}"),
            format!("udp_port={}", if published == "udp" { for_streams } else { 0 }),
        ] {
            ports.extend(["--set".to_owned(), pair]);
        }
        let words = ["run", "smoke", "shardcast"].into_iter().chain(ports.iter().map(String::as_str));
        let (out, json, _) = bench(&format!("smoke-{watched}"), &words.collect::<Vec<_>>());
        let outcome: Outcome =
            serde_json::from_str(&json).unwrap_or_else(|error| panic!("{watched}: {error}: {}", said(&out)));
        judge(&out, std::slice::from_ref(&outcome));
        assert!(outcome.checks.passed() && outcome.latency.count > 0, "{watched}: {:?}", outcome.checks);
        assert_eq!((outcome.checks.missing_pictures, outcome.traffic.publishers), (0, 2), "{watched}");
        assert_eq!(
            (&outcome.settings["published by"][..], &outcome.settings["viewers by"][..]),
            (published, watched)
        );
        for side in ["publishers by srt", "viewers by srt"] {
            let told = outcome.settings.get(side).map(String::as_str);
            assert_eq!(told, (watched == "srt").then_some(peer), "{side}");
        }
    }
}

#[test]
fn publishers_by_whip_and_viewers_by_whep_find_the_stream_whole_and_a_floor_serves_as_many() {
    let _alone = alone();
    for server in ["shardcast", "floor-str0m"] {
        let mut ports = own_ports();
        for pair in [
            "publish.streams=1".to_owned(),
            "time.warm=100ms".to_owned(),
            "publish.by=webrtc".to_owned(),
            "watch.by=webrtc".to_owned(),
            format!("webrtc_port={}", free_port()),
        ] {
            ports.extend(["--set".to_owned(), pair]);
        }
        let words = ["run", "smoke", server].into_iter().chain(ports.iter().map(String::as_str));
        let (out, json, _) = bench(&format!("smoke-webrtc-{server}"), &words.collect::<Vec<_>>());
        let outcome: Outcome =
            serde_json::from_str(&json).unwrap_or_else(|error| panic!("{server}: {error}: {}", said(&out)));
        judge(&out, std::slice::from_ref(&outcome));
        assert!(outcome.checks.passed() && outcome.latency.count > 0, "{server}: {:?}", outcome.checks);
        assert_eq!((outcome.checks.missing_pictures, outcome.first_key.count), (0, 12), "{server}");
        assert_eq!(outcome.traffic.publishers, u64::from(server == "shardcast"));
    }
}

#[test]
fn viewers_inside_tls_find_the_stream_whole_and_a_floor_seals_as_much() {
    let _alone = alone();
    let ports = own_ports();
    for by in ["rtmp", "http-flv"] {
        let by = format!("watch.by={by}");
        let words = ["run", "smoke", "shardcast-tls", "--set", &by];
        let words: Vec<&str> = words.into_iter().chain(ports.iter().map(String::as_str)).collect();
        let (out, json, _) = bench("smoke-tls", &words);
        let outcome: Outcome =
            serde_json::from_str(&json).unwrap_or_else(|error| panic!("{by}: {error}: {}", said(&out)));
        judge(&out, std::slice::from_ref(&outcome));
        assert!(outcome.checks.passed() && outcome.latency.count > 0, "{by}: {:?}", outcome.checks);
    }
    let words = ["run", "smoke", "floor-seal"].into_iter().chain(ports.iter().map(String::as_str));
    let (out, json, _) = bench("smoke-seal", &words.collect::<Vec<_>>());
    let outcome: Outcome =
        serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {}", said(&out)));
    judge(&out, std::slice::from_ref(&outcome));
}

#[test]
fn a_comparison_with_a_floor_gives_ratios() {
    let _alone = alone();
    let ports = own_ports();
    let words: Vec<&str> = ["compare", "smoke", "shardcast", "floor-send", "--rounds", "1"]
        .into_iter()
        .chain(ports.iter().map(String::as_str))
        .collect();
    let (out, json, html) = bench("smoke-compare", &words);
    let comparison: Comparison =
        serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {}", said(&out)));
    judge(&out, &comparison.outcomes);
    let names: Vec<_> = comparison.servers.iter().map(|standing| standing.server.as_str()).collect();
    assert_eq!((names, comparison.base.as_str()), (vec!["shardcast", "floor-send"], "shardcast"));
    let floor = comparison.outcomes.iter().find(|outcome| outcome.server == "floor-send").unwrap();
    assert_eq!((floor.checks.viewers, floor.traffic.publishers), (0, 0), "a floor's bytes are no stream");
    if comparison.outcomes.iter().all(|outcome| outcome.void.is_empty()) {
        assert!(comparison.rows.iter().any(|row| row.ratio.is_some()), "{:?}", comparison.rows);
    }
    assert!(html.contains("no server logic"));
}

/// A floor that somebody else has started. It ends with the test.
struct Running(Child);

impl Running {
    fn floor(port: u16) -> Running {
        let child = Command::new(env!("CARGO_BIN_EXE_shardcast-bench"))
            .args(["floor", "send", "--bitrate", "1Mbit", "--flush", "33ms"])
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut running = Running(child);
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline && !running.ended(), "the floor does not listen");
            thread::sleep(Duration::from_millis(10));
        }
        running
    }

    fn ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_server_that_runs_already_is_measured_and_left_alone() {
    let _alone = alone();
    let port = free_port();
    let mut floor = Running::floor(port);
    let (pid, door) = (floor.0.id().to_string(), format!("http_port={port}"));
    let words = ["run", "smoke", "floor-send", "--pid", &pid, "--set", &door];
    let (out, json, _) = bench("smoke-attached", &words);
    let outcome: Outcome =
        serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {}", said(&out)));
    judge(&out, std::slice::from_ref(&outcome));
    assert_eq!(Verdict::of(&Outcome { void: Vec::new(), ..outcome.clone() }), Verdict::Unchecked);
    assert!(outcome.about.contains(&format!("process {pid}")), "{}", outcome.about);
    assert!(!floor.ended(), "it is not ours to end");

    drop(floor);
    let (out, json, _) = bench("smoke-gone", &words);
    assert_eq!((out.status.code(), json.as_str()), (Some(2), ""), "{}", said(&out));
    assert!(said(&out).contains(&format!("no process {pid}")), "{}", said(&out));
}

#[test]
fn what_comes_with_the_tool_is_listed() {
    for (command, known) in [("scenarios", "hot-stream"), ("servers", "nginx-rtmp")] {
        let out = Command::new(env!("CARGO_BIN_EXE_shardcast-bench")).arg(command).output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(out.status.success() && text.lines().any(|line| line.starts_with(known)), "{text}");
        assert!(!text.contains(['{', '}']), "{text}");
    }
}
