//! The server as its operator starts it: the real binary, a config file, ports of its own on loopback.

use std::{
    fmt::Write as _,
    fs,
    io::{Read, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::{
        OnceLock,
        atomic::{AtomicU16, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::process::Signal;

use super::{
    Folder,
    process::{Process, run, tail},
    repository, target, wait_for,
};

/// How a server is to run. Each text is lines of TOML for its table.
#[derive(Clone, Default)]
pub struct Setup {
    /// Keys before the first table.
    pub top: String,
    /// `[stream]`.
    pub stream: String,
    /// `[limits]`.
    pub limits: String,
    /// `[rtsp]`.
    pub rtsp: String,
    /// `[record]`; the directory is a folder of the test unless the text names one.
    pub record: String,
    /// `[srt]`.
    pub srt: String,
    /// Further tables, with their heads.
    pub tables: String,
    /// Arguments after `serve --config FILE`.
    pub arguments: Vec<String>,
    /// A program and its arguments that the server is started through; it must replace itself with the server.
    pub through: Vec<String>,
    /// Doors speak TLS, with a certificate that the server's own program makes.
    pub secure: bool,
    /// Its heap takes no pages of 2 MiB, whatever its size: for tests that weigh what it holds.
    pub small_pages: bool,
}

/// A server that runs. Dropping it asks it to end and demands that it does so well.
pub struct Server {
    process: Process,
    folder: Folder,
    ports: Ports,
    judged: bool,
}

/// The ports of one server.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// RTMP.
    pub rtmp: u16,
    /// RTMP inside TLS, where the server has a certificate.
    pub rtmps: u16,
    /// RTSP.
    pub rtsp: u16,
    /// RTSP inside TLS, where the server has a certificate.
    pub rtsps: u16,
    /// SRT, which is over UDP.
    pub srt: u16,
    /// The first of eight in a row for media of RTSP by UDP: two for each shard.
    pub rtsp_udp: u16,
    /// HTTP.
    pub http: u16,
    /// The first of eight in a row for media of WebRTC: one for each shard.
    pub webrtc: u16,
    /// Control.
    pub control: u16,
}

/// How long a server may take to stand, and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a server is given other ports than those that somebody took meanwhile.
const PORTS_TRIED: usize = 5;

impl Setup {
    /// Two shards, so that lanes and moves between cores take part; viewers wait for their publisher, so that they miss
    /// nothing; a publisher's absence is soon its end.
    pub fn new() -> Self {
        Setup {
            top: "shards = 2\n".to_owned(),
            stream: "wait_for_publisher = \"15s\"\nreconnect_window = \"1s\"\n".to_owned(),
            ..Setup::default()
        }
    }
    /// Records every stream.
    pub fn recording(mut self) -> Self {
        self.stream.push_str("record = true\n");
        self
    }
    /// Adds lines to `[stream]`. A key that is there already is replaced.
    pub fn stream(mut self, lines: &str) -> Self {
        self.stream = merge(&self.stream, lines);
        self
    }
    /// Adds lines to `[limits]`.
    pub fn limits(mut self, lines: &str) -> Self {
        self.limits = merge(&self.limits, lines);
        self
    }
    /// Adds lines to `[rtsp]`. A key that is there already is replaced.
    pub fn rtsp(mut self, lines: &str) -> Self {
        self.rtsp = merge(&self.rtsp, lines);
        self
    }
    /// Adds lines to `[record]`.
    pub fn record(mut self, lines: &str) -> Self {
        self.record = merge(&self.record, lines);
        self
    }
    /// Adds lines before the first table. A key that is there already is replaced.
    pub fn top(mut self, lines: &str) -> Self {
        self.top = merge(&self.top, lines);
        self
    }
    /// Gives the server a certificate for `localhost` and 127.0.0.1.
    pub fn secure(mut self) -> Self {
        self.secure = true;
        self
    }
    /// Its memory grows by what it holds, and not by pages of 2 MiB.
    pub fn small_pages(mut self) -> Self {
        self.small_pages = true;
        self
    }
    /// Starts the server through another program.
    pub fn through(mut self, words: &[&str]) -> Self {
        self.through = words.iter().map(|&word| word.to_owned()).collect();
        self
    }
    /// Starts the server and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready, with its log.
    pub fn start(self) -> Server {
        for _ in 0..PORTS_TRIED {
            let mut server = self.clone().launch(Ports::free());
            let ready = wait_for(PATIENCE, || match server.process.ended() {
                Some(status) => Some(Err(status)),
                None => server
                    .get("/readyz")
                    .is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
                    .then_some(Ok(())),
            });
            match ready {
                Some(Ok(())) => return server,
                Some(Err(status)) => {
                    server.judged = true;
                    let log = server.log();
                    // Another process that tests may have taken one of them since it was looked at.
                    let taken = log.contains("another program already listens");
                    assert!(taken, "the server ended with {status} before it was ready:\n{log}");
                }
                None => panic!("the server is not ready after {PATIENCE:?}"),
            }
        }
        panic!("others took its ports {PORTS_TRIED} times")
    }
    /// Starts the server on `ports` and does not wait.
    pub fn launch(self, ports: Ports) -> Server {
        let folder = Folder::new("server");
        if self.secure {
            make_certificate(folder.path(), &[]);
        }
        let config = folder.path().join("shardcast.toml");
        fs::write(&config, self.config(ports, folder.path())).expect("a new file in an own folder");
        let mut words: Vec<std::ffi::OsString> = self.through.iter().map(Into::into).collect();
        words.push(binary().into());
        words.extend(["serve".into(), "--config".into(), config.into()]);
        words.extend(self.arguments.iter().map(Into::into));
        let (first, rest) = words.split_first().expect("at least the binary stands there");
        let mut command = Command::new(first);
        command.args(rest).current_dir(folder.path());
        if self.small_pages {
            command.env("MIMALLOC_ALLOW_THP", "0");
        }
        let process = Process::start("shardcast", &mut command);
        Server { process, folder, ports, judged: false }
    }
    fn config(&self, ports: Ports, folder: &Path) -> String {
        let mut text = merge("drain_timeout = \"5s\"\n", &self.top);
        let mut record = self.record.clone();
        if !record.contains("dir =") {
            writeln!(record, "dir = {:?}", folder.join("recordings")).expect("a String takes any text");
        }
        let Ports { rtmp, rtmps, rtsp, rtsps, rtsp_udp, srt, http, webrtc, control } = ports;
        let tls = if self.secure {
            let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.join(name));
            format!("certificate = {certificate:?}\nkey = {key:?}\n")
        } else {
            String::new()
        };
        for (table, lines) in [
            ("rtmp", format!("port = {rtmp}\ntls_port = {rtmps}\n")),
            (
                "rtsp",
                merge(&format!("port = {rtsp}\ntls_port = {rtsps}\nudp_port = {rtsp_udp}\n"), &self.rtsp),
            ),
            ("srt", format!("port = {srt}\n{}", self.srt)),
            ("http", format!("port = {http}\n")),
            ("webrtc", format!("port = {webrtc}\n")),
            ("tls", tls),
            ("control", format!("bind = \"127.0.0.1:{control}\"\n")),
            ("stream", self.stream.clone()),
            ("limits", self.limits.clone()),
            ("record", record),
        ] {
            write!(text, "\n[{table}]\n{lines}").expect("a String takes any text");
        }
        text + "\n" + &self.tables
    }
}

impl Server {
    /// Where `APP/STREAM` is published and played by RTMP.
    pub fn rtmp_url(&self, name: &str) -> String {
        format!("rtmp://127.0.0.1:{}/{name}", self.ports.rtmp)
    }
    /// Where `APP/STREAM` is published and played by RTMP inside TLS.
    pub fn rtmps_url(&self, name: &str) -> String {
        format!("rtmps://127.0.0.1:{}/{name}", self.ports.rtmps)
    }
    /// Where `APP/STREAM` is published and played by RTSP.
    pub fn rtsp_url(&self, name: &str) -> String {
        format!("rtsp://127.0.0.1:{}/{name}", self.ports.rtsp)
    }
    /// Where `APP/STREAM` is published and played by RTSP inside TLS.
    pub fn rtsps_url(&self, name: &str) -> String {
        format!("rtsps://127.0.0.1:{}/{name}", self.ports.rtsps)
    }
    /// Where `APP/STREAM` is published (`publish`) and played (`read`) by SRT.
    pub fn srt_url(&self, mode: &str, name: &str) -> String {
        format!("srt://127.0.0.1:{}?streamid={mode}:{name}", self.ports.srt)
    }
    /// Where `path` is at the HTTP door of a server with a certificate.
    pub fn https_url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}/{path}", self.ports.http)
    }
    /// Its certificate, where it has one.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }
    /// Where `APP/STREAM` is played by HTTP-FLV.
    pub fn flv_url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}.flv", self.ports.http)
    }
    /// Where `APP/STREAM` is published by WHIP (`whip`) and played by WHEP (`whep`).
    pub fn webrtc_url(&self, name: &str, what: &str) -> String {
        format!("http://127.0.0.1:{}/{name}/{what}", self.ports.http)
    }
    /// The page that plays `APP/STREAM`.
    pub fn page_url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}/", self.ports.http)
    }
    /// Its ports.
    pub fn ports(&self) -> Ports {
        self.ports
    }
    /// What it logged so far.
    pub fn log(&self) -> String {
        self.process.said()
    }
    /// Lines of the log that hold `words`.
    pub fn log_lines(&self, words: &str) -> Vec<String> {
        self.log().lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
    }
    /// Its recordings of `APP/STREAM`, oldest first.
    pub fn recordings(&self, name: &str) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.folder.path().join("recordings").join(name))
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        files.sort();
        files
    }
    /// The folder that holds its config, its log and its recordings.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
    /// The whole answer of the control door to `GET path`, or nothing while it is shut.
    pub fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.ports.control)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        Some(String::from_utf8_lossy(&answer).into_owned())
    }
    /// The sum over all labels of one of its metrics.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let answer = self.get("/metrics")?;
        let values: Vec<f64> = answer
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }
    /// Processor time it has used since it began.
    pub fn cpu(&self) -> Duration {
        // proc(5): utime and stime are fields 14 and 15; the second, the name in brackets, may hold spaces. A tick is
        // 10 ms on every Linux that user space sees (USER_HZ).
        let text = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap_or_default();
        let ticks: u64 = text
            .rsplit(')')
            .next()
            .map(|rest| {
                rest.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<u64>().ok()).sum()
            })
            .unwrap_or_default();
        Duration::from_millis(ticks * 10)
    }
    /// Bytes of memory it holds now.
    pub fn memory(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok()).unwrap_or_default() << 10
    }
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }
    /// Sends it a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }
    /// Kills it as a crash would (SIGKILL) and leaves its folder as it was at that moment.
    pub fn crash(&mut self) {
        self.process.kill();
        self.judged = true;
    }
    /// Waits until it ends by itself.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let status = wait_for(patience, || self.process.ended());
        self.judged |= status.is_some();
        status
    }
    /// Asks it to end and demands that it does so well.
    pub fn stop(&mut self) {
        if self.judged {
            return;
        }
        self.judged = true;
        if let Some(status) = self.process.ended() {
            panic!("the server ended by itself with {status}:\n{}", tail(&self.log()));
        }
        self.process.terminate();
        match wait_for(PATIENCE, || self.process.ended()) {
            Some(status) if status.success() => {}
            Some(status) => panic!("the server ended with {status}:\n{}", tail(&self.log())),
            None => panic!("the server is still there {PATIENCE:?} after SIGTERM:\n{}", tail(&self.log())),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.stop();
        }
    }
}

/// Two for each of four shards.
const MEDIA_PORTS: u16 = 8;

impl Ports {
    /// Ports that nobody holds now. They lie below the range that the kernel gives to outgoing connections, so only
    /// another test's server could take them first, and each test process counts from a place of its own, as far as there are
    /// places.
    pub fn free() -> Self {
        const FIRST: u16 = 10_000;
        const COUNT: u16 = 22_000;
        static NEXT: OnceLock<AtomicU16> = OnceLock::new();
        let place = || u16::try_from(std::process::id() * 61 % u32::from(COUNT)).expect("less than COUNT");
        let next = NEXT.get_or_init(|| AtomicU16::new(place()));
        let take = || {
            wait_for(PATIENCE, || {
                let port = FIRST + next.fetch_add(1, Ordering::Relaxed) % COUNT;
                let free = TcpListener::bind(("127.0.0.1", port)).is_ok()
                    && UdpSocket::bind(("127.0.0.1", port)).is_ok();
                free.then_some(port)
            })
            .expect("one of 22,000 ports is free")
        };
        let take_row = || {
            wait_for(PATIENCE, || {
                let place = next.fetch_add(MEDIA_PORTS + 1, Ordering::Relaxed) % (COUNT - MEDIA_PORTS);
                let first = (FIRST + place).next_multiple_of(2);
                let free = |port| UdpSocket::bind(("127.0.0.1", port)).is_ok();
                (first..first + MEDIA_PORTS).all(free).then_some(first)
            })
            .expect("eight of 22,000 ports are free in a row")
        };
        Ports {
            rtmp: take(),
            rtmps: take(),
            rtsp: take(),
            rtsps: take(),
            srt: take(),
            rtsp_udp: take_row(),
            http: take(),
            webrtc: take_row(),
            control: take(),
        }
    }
}

/// Has the server's program write a certificate and its key into `folder`, in the place of those that are there.
///
/// # Panics
/// When it does not.
pub fn make_certificate(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new(binary());
    command.args(["cert", "--force", "--out"]).arg(folder).args(arguments);
    run("shardcast-cert", &mut command, PATIENCE);
}

/// The server's binary, built with the profile of this test; `SHARDCAST_BINARY` names another to be judged.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(other) = std::env::var_os("SHARDCAST_BINARY") {
            return other.into();
        }
        let profile = std::env::current_exe().expect("a running test has a path");
        let release = profile.starts_with(target().join("release"));
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["build", "--quiet", "--package", "shardcast-shards", "--bin", "shardcast"]);
        command.args(["--features", "libsrt"]);
        if release {
            command.arg("--release");
        }
        command.current_dir(repository()).env("CARGO_TARGET_DIR", target());
        run("cargo", &mut command, Duration::from_secs(1800));
        target().join(if release { "release" } else { "debug" }).join("shardcast")
    })
}

/// `lines` after those lines of `text` whose key they do not set anew.
fn merge(text: &str, lines: &str) -> String {
    let key = |line: &str| line.split('=').next().map(|key| key.trim().to_owned()).unwrap_or_default();
    let anew: Vec<String> = lines.lines().map(key).collect();
    let kept = text.lines().filter(|line| !anew.contains(&key(line)));
    kept.chain(lines.lines().map(str::trim)).map(|line| format!("{line}\n")).collect()
}
