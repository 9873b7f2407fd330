//! The binary as a person meets it: exit codes, what it says, and how it ends.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(30);

fn shardcast(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardcast"));
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = shardcast(args).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A directory with a config of ports that nobody holds, gone when dropped.
struct Place {
    dir: PathBuf,
    rtmp: SocketAddr,
    http: SocketAddr,
    control: SocketAddr,
}

impl Place {
    fn new(name: &str) -> Place {
        let dir = std::env::temp_dir().join(format!("shardcast-command-line-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        // Held all at once, so that the three differ.
        let free = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [rtmp, http, control] = free.map(|listener| listener.local_addr().unwrap());
        let place = Place { dir, rtmp, http, control };
        place.configure("");
        place
    }

    fn configure(&self, more: &str) {
        let (rtmp, http, control) = (self.rtmp.port(), self.http.port(), self.control);
        let text = format!(
            "shards = 2\ndrain_timeout = \"5s\"\n[rtmp]\nport = {rtmp}\n[rtsp]\nport = 0\n[srt]\nport = 0\n[webrtc]\nport = 0\n[http]\nport = {http}\n[control]\n\
             bind = \"{control}\"\n{more}"
        );
        fs::write(self.dir.join("test.toml"), text).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn serve(&self, more: &[&str]) -> Server {
        let log = self.dir.join("log");
        let config = self.path("test.toml");
        let mut args = vec!["serve", "--config", &config];
        args.extend(more);
        let child = shardcast(&args).stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
        Server { child, log, control: self.control }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

struct Server {
    child: Child,
    log: PathBuf,
    control: SocketAddr,
}

impl Server {
    fn wait_until_ready(&mut self) {
        self.wait_for("ready", |server| {
            get(server.control, "/readyz").is_some_and(|reply| reply.contains(" 200 "))
        });
    }

    fn wait_for(&mut self, what: &str, holds: impl Fn(&Server) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(self.child.try_wait().unwrap().is_none(), "ended before {what}: {}", self.log());
            assert!(Instant::now() < deadline, "never {what}: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// The exit code; none after a signal that cannot be caught.
    fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "never ended: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
        .ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    Some(reply)
}

/// The only recording below `dir`.
fn recording(dir: &Path) -> Option<PathBuf> {
    let mut files = fs::read_dir(dir.join("live/demo")).ok()?.map(|entry| entry.unwrap().path());
    let file = files.next()?;
    assert!(files.next().is_none());
    Some(file)
}

#[test]
fn wrong_arguments_and_configs_end_with_2_and_say_where() {
    let place = Place::new("wrong");
    let config = place.path("test.toml");
    assert_eq!(run(&["--nonsense"]).0, 2);
    assert_eq!(run(&["serve", "--config", "/nowhere"]).0, 2);
    place.configure("nonsense = 1\n");
    for command in ["serve", "check"] {
        let (code, _, said) = run(&[command, "--config", &config]);
        assert_eq!(code, 2);
        assert!(said.starts_with(&format!("{config}:15: unknown field `nonsense`")), "{said}");
    }
    let (code, _, said) = run(&["--bind", "0.0.0.0"]);
    assert_eq!(code, 2);
    assert!(said.contains("[auth]") && said.contains("allow_anonymous = true"), "{said}");
}

#[test]
fn check_says_what_would_run() {
    let place = Place::new("check");
    let (code, said, _) = run(&["check", "--config", &place.path("test.toml")]);
    assert_eq!(code, 0);
    assert!(
        said.contains(&format!("rtmp on tcp {}", place.rtmp)) && said.contains("a stream at most"),
        "{said}"
    );
}

#[test]
fn doctor_finds_nothing_that_would_stop_a_machine_that_runs_these_tests() {
    let place = Place::new("doctor");
    let (code, said, _) = run(&["doctor", "--record", &place.path("recordings")]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("io_uring") && said.contains("recordings"), "{said}");
}

#[test]
fn a_port_that_another_program_holds_is_a_failure_that_names_it() {
    let place = Place::new("port");
    for address in [place.rtmp, place.http, place.control] {
        let _taken = TcpListener::bind(address).unwrap();
        let mut server = place.serve(&[]);
        assert_eq!(server.wait(), Some(1));
        assert!(server.log().contains(&address.to_string()), "{}", server.log());
    }
}

#[test]
fn a_term_signal_drains_and_leaves_a_whole_recording() {
    let place = Place::new("drain");
    let recordings = place.path("recordings");
    let mut server = place.serve(&["--demo", "--record", &recordings, "--log", "json"]);
    server.wait_until_ready();
    server.wait_for("recorded", |server| {
        get(server.control, "/metrics").is_some_and(|metrics| {
            metrics
                .lines()
                .any(|line| line.starts_with("shardcast_recorded_fragments_total{") && !line.ends_with(" 0"))
        })
    });
    let (_, said, _) = run(&["recordings", "list", &recordings]);
    assert!(said.contains("h264+aac") && said.contains("being written"), "{said}");
    // What is being written is left alone.
    assert_eq!(run(&["recordings", "repair", &recordings]).0, 0);

    let mut viewer = TcpStream::connect(place.http).unwrap();
    viewer.write_all(b"GET /live/demo.flv HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut head = [0; 15];
    viewer.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");

    server.signal("-TERM");
    let mut rest = Vec::new();
    viewer.read_to_end(&mut rest).unwrap();
    assert_eq!(server.wait(), Some(0), "{}", server.log());
    for line in server.log().lines() {
        assert!(line.starts_with("{\"time\":\"") && line.ends_with('}'), "{line}");
    }
    let (code, said, _) = run(&["recordings", "verify", &recordings]);
    assert!(code == 0 && said.contains("whole"), "{said}");
}

#[test]
fn a_reload_takes_what_it_can_and_names_what_waits() {
    let place = Place::new("reload");
    let mut server = place.serve(&["--demo"]);
    server.wait_until_ready();
    place.configure("[auth]\nplay = [\"s3cret\"]\n[limits]\nstreams = 7\n");
    server.signal("-HUP");
    server.wait_for("reloaded", |server| server.log().contains("reload: changed"));
    let said = server.log();
    assert!(said.contains("auth.play") && said.contains("restart detail=\"limits.streams\""), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
    // The shards hear of it by their lanes, a moment later.
    server.wait_for("closed to strangers", |_| {
        let mut viewer = TcpStream::connect(place.http).unwrap();
        viewer.write_all(b"GET /live/demo.flv HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut head = [0; 12];
        viewer.read_exact(&mut head).is_ok() && &head != b"HTTP/1.1 200"
    });
    let mut viewer = TcpStream::connect(place.http).unwrap();
    viewer.write_all(b"GET /live/demo.flv?key=s3cret HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut head = [0; 12];
    viewer.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    place.configure("nonsense = 1\n");
    server.signal("-HUP");
    server.wait_for("refused", |server| server.log().contains("reload refused"));
    server.signal("-INT");
    assert_eq!(server.wait(), Some(0), "{}", server.log());
}

#[test]
fn what_a_crash_leaves_behind_is_listed_and_repaired() {
    let place = Place::new("crash");
    let recordings = place.path("recordings");
    let mut server = place.serve(&["--demo", "--record", &recordings]);
    server.wait_for("recorded", |server| {
        get(server.control, "/metrics").is_some_and(|metrics| {
            let count = |line: &str| {
                let value = line.strip_prefix("shardcast_recorded_fragments_total{")?.rsplit(' ').next()?;
                value.parse::<u64>().ok()
            };
            metrics.lines().filter_map(count).sum::<u64>() >= 2
        })
    });
    server.signal("-KILL");
    assert_eq!(server.wait(), None);
    // The kernel lets go of the ring, and of the file's lock with it, a moment after the process is gone.
    let deadline = Instant::now() + PATIENCE;
    let (code, said) = loop {
        let (code, said, _) = run(&["recordings", "verify", &recordings]);
        if !said.contains("being written") || Instant::now() > deadline {
            break (code, said);
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(code == 1 && said.contains("h264+aac"), "{said}");
    let (code, said, _) = run(&["recordings", "repair", &recordings]);
    assert!(code == 0 && said.contains("cut from"), "{said}");
    let (code, said, _) = run(&["recordings", "verify", &recordings]);
    assert!(code == 0 && said.contains("whole"), "{said}");
    assert!(recording(Path::new(&recordings)).is_some_and(|file| fs::metadata(file).unwrap().len() > 10_000));
}
