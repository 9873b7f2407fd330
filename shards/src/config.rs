//! The config: one TOML file, every key optional, unknown keys refused with file and line. `shardcast.toml` at the root
//! of the repository lists every key with its meaning, unit, default and cost, and a test holds it to this struct.
//!
//! How the text is read stands in [`parse`], what may not stand together in [`check`], what it costs in [`memory`].

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use shardcast_engine::{
    access::Keys,
    limits::{DoorLimits, SrtSettings, StreamLimits},
    media::StreamName,
    protocol::{Protocol, built_in},
    segment,
    settings::{AppSettings, Settings},
    udp::Intake,
};

pub use self::{library::Library, parse::Fault, webrtc::Webrtc};
use crate::{
    disk,
    node::SHARDS_MAX,
    pull::Pull,
    tls::{self, Certificate, Refused, Secured},
};

pub mod check;
pub mod library;
pub mod memory;
pub mod parse;
pub mod relays;
pub mod reload;
pub mod units;
pub mod webrtc;

/// Everything an operator may choose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address that the media doors listen on. Loopback by default; another one needs keys in `[auth]` or
    /// `allow_anonymous = true`.
    pub bind: IpAddr,
    /// Shards, each one thread pinned to one core. 0 is one for every core. More than there are cores costs context
    /// switches and gains nothing.
    pub shards: usize,
    /// Lets peers without a key publish and play on an address that others can reach.
    pub allow_anonymous: bool,
    /// How long a stop may take: players are told, recordings are closed. What is not done by then is cut off.
    #[serde(with = "units::duration")]
    pub drain_timeout: Duration,
    /// The RTMP door.
    pub rtmp: Rtmp,
    /// The RTSP door.
    pub rtsp: Rtsp,
    /// The SRT door.
    pub srt: Srt,
    /// The HTTP door: FLV streams, WebSocket and the page that plays them.
    pub http: Http,
    /// WebRTC, which is asked for at the HTTP door.
    pub webrtc: Webrtc,
    /// HLS and DASH: how a stream is cut into segments while somebody asks for it that way.
    pub hls: Hls,
    /// What doors prove who they are with. With it the HTTP door speaks https, and the doors of RTMPS and
    /// RTSPS are open.
    pub tls: Tls,
    /// The doors of protocols that a program with a node inside brings along, by the names of their rows. The binary brings
    /// none along, and refuses these tables.
    #[serde(rename = "doors")]
    pub host_doors: BTreeMap<String, HostDoor>,
    /// The control door: metrics and health.
    pub control: Control,
    /// What the doors let in.
    pub limits: Limits,
    /// How streams are treated, unless their app says otherwise.
    pub stream: Stream,
    /// Per app, the keys of `[stream]` that differ. A key that is not given is taken from `[stream]`.
    pub apps: BTreeMap<String, Stream>,
    /// Streams that do not come in by a door or go on to other machines, by their names: where each comes from and goes to.
    pub streams: BTreeMap<String, Source>,
    /// Where and how recordings are written. Which streams are recorded is a key of `[stream]` and `[apps.NAME]`.
    pub record: Record,
    /// Who may publish and play.
    pub auth: Auth,
    /// Log lines.
    pub log: Log,
}

/// The RTMP door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rtmp {
    /// TCP port. 0 keeps the door shut.
    pub port: u16,
    /// TCP port of RTMPS, which is open where `[tls]` has a certificate. 0 keeps the door shut.
    pub tls_port: u16,
}

/// The RTSP door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rtsp {
    /// TCP port. 0 keeps the door shut.
    pub port: u16,
    /// TCP port of RTSPS, which is open where `[tls]` has a certificate. 0 keeps the door shut.
    pub tls_port: u16,
    /// UDP port of the first shard for media beside connections; each shard has this one, which is even, and the next, the
    /// second shard the two behind them. 0 is none: media goes inside the connections alone.
    pub udp_port: u16,
}

/// The SRT door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Srt {
    /// UDP port. 0 keeps the door shut.
    pub port: u16,
    /// How long a packet is held back at least, so that what was lost can be sent again. The other side may ask for more.
    #[serde(with = "units::duration")]
    pub latency: Duration,
    /// What encrypts the streams that have no passphrase of their own; `""` is none.
    pub passphrase: Passphrase,
    /// Whose machine serves the door.
    pub library: Library,
}

/// Words that keys are made of. They must never reach a log.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Passphrase(pub String);

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "None" } else { "Passphrase" })
    }
}

/// The HTTP door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// TCP port. 0 keeps the door shut.
    pub port: u16,
}

/// How a stream is cut into segments while somebody asks for it that way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hls {
    /// The least length of a segment: it ends with the first key frame from there on.
    #[serde(with = "units::duration")]
    pub segment: Duration,
    /// The length that parts of segments come close to, for players that want low latency.
    #[serde(with = "units::duration")]
    pub part: Duration,
    /// How much of a stream a playlist lists. About twice as much is kept.
    #[serde(with = "units::duration")]
    pub window: Duration,
    /// How long a stream is cut that nobody asks for any more.
    #[serde(with = "units::duration")]
    pub linger: Duration,
}

/// What doors prove who they are with: two files in PEM, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// The chain of certificates, the server's own first.
    pub certificate: PathBuf,
    /// The key of the first of them, not encrypted.
    pub key: PathBuf,
}

/// The door of a protocol that a program with a node inside brings along.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostDoor {
    /// Port, of TCP or UDP as the protocol says. 0 keeps the door shut; without this key it is the protocol's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Address, where it is not that of all doors; the same rules hold for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind: Option<IpAddr>,
}

/// The control door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Control {
    /// Address and port. It asks nobody for a key, so it should stay on loopback. Port 0 keeps it shut.
    pub bind: SocketAddr,
}

/// What the doors let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections per door, all cores together. The next one is closed at once, and counted.
    pub connections: usize,
    /// Connections per address and door. The next one is closed at once, and counted.
    pub connections_per_address: usize,
    /// Time from accept until the peer has said what it wants. Then it is closed.
    #[serde(with = "units::duration")]
    pub handshake: Duration,
    /// Time without a byte from a peer that neither publishes nor plays. Then it is closed.
    #[serde(with = "units::duration")]
    pub idle: Duration,
    /// Streams on the whole node. A publisher of one more is refused.
    pub streams: usize,
}

/// How a stream is treated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stream {
    /// Frames kept since the last key frame, for viewers that join. A group that outgrows this is let go whole, and
    /// joiners wait for the next key frame.
    pub group_frames: usize,
    /// Bytes kept since the last key frame. This is most of what a stream can cost in memory.
    #[serde(with = "units::size")]
    pub group_bytes: usize,
    /// Time kept since the last key frame.
    #[serde(with = "units::duration")]
    pub group_duration: Duration,
    /// How often what was muxed is sent on. `"0ms"` sends each frame at once (about twice the CPU), `"100ms"` is the
    /// cheapest that still feels live.
    #[serde(with = "units::duration")]
    pub flush: Duration,
    /// A viewer that is further behind than this jumps to the newest key frame.
    #[serde(with = "units::duration")]
    pub viewer_lag: Duration,
    /// A viewer that takes no byte for this long is closed.
    #[serde(with = "units::duration")]
    pub viewer_stall: Duration,
    /// How long a stream waits for its publisher to come back. Its viewers stay attached meanwhile.
    #[serde(with = "units::duration")]
    pub reconnect_window: Duration,
    /// A publisher that sends no frame for this long is closed.
    #[serde(with = "units::duration")]
    pub publisher_idle: Duration,
    /// How long a viewer may wait for a name that nobody publishes. `"0s"` refuses at once.
    #[serde(with = "units::duration")]
    pub wait_for_publisher: Duration,
    /// A second publisher takes the name from the first instead of being refused.
    pub takeover: bool,
    /// Viewers of one stream on one core. One more is refused.
    pub viewers: usize,
    /// Streams of one app at once, on the whole node; each core admits its share. A publisher of one more is refused.
    pub streams: usize,
    /// Record these streams to `[record] dir`.
    pub record: bool,
    /// Where these streams are pushed to: URLs [as said](shardcast_engine::relay::Target::parse), in which `{app}` and `{stream}` stand
    /// for the parts of a stream's name.
    pub push: Vec<String>,
}

/// Where a stream comes from and goes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Source {
    /// `udp://ADDRESS:PORT` or `rtp://ADDRESS:PORT`: an MPEG transport stream that is sent there, [as said](Intake::parse).
    /// `rtsp://USER:PASSWORD@HOST/PATH`: a camera or server that is asked for it, [as said](Pull::parse).
    /// `rtmp://HOST/APP/STREAM`, `srt://HOST:PORT?streamid=...`: a stream of another server. Without this key it comes in by a door.
    pub pull: String,
    /// Where it is pushed to, beside what is said of its app.
    pub push: Vec<String>,
    /// What encrypts it by SRT, both ways; `""` leaves that to the door.
    pub passphrase: Passphrase,
    /// It is pulled while somebody watches it, and not always. Of `rtsp://` alone, as are the next two.
    pub on_demand: bool,
    /// How long it is still pulled when nobody watches it any more.
    #[serde(with = "units::duration")]
    pub linger: Duration,
    /// How its packets come.
    pub transport: Transport,
}

/// How packets come from who is asked for a stream by RTSP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Inside the connection: none is lost.
    #[default]
    Tcp,
    /// As datagrams, for a network of one's own: what is lost or comes late is left out.
    Udp,
}

/// Where and how recordings are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Record {
    /// Directory; a recording is `DIR/APP/STREAM/TIME.mp4`. Made at the start when streams are recorded, else when the first
    /// recording needs it.
    pub dir: PathBuf,
    /// Length of one file. The next one begins on the first key frame at or after this.
    #[serde(with = "units::duration")]
    pub segment: Duration,
    /// When written data is forced to the disk.
    pub sync: Sync,
}

/// When recorded data is forced to the disk (fdatasync).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sync {
    /// Never: the kernel decides. A power cut may lose what it had not written yet.
    None,
    /// At the end of each file.
    #[default]
    Segment,
    /// After each fragment of at most a second. Costs one flush of the disk per recording and second.
    Fragment,
}

/// Who may publish and play. A peer gives its key in the URL: `rtmp://host/APP/STREAM?key=SECRET`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// Keys that let a peer publish. An empty list lets everyone, on loopback or with `allow_anonymous`.
    pub publish: Vec<String>,
    /// Keys that let a peer play. An empty list lets everyone, on loopback or with `allow_anonymous`.
    pub play: Vec<String>,
}

/// Log lines: one per connection's end, and what an operator should know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// How a line is written.
    pub format: LogFormat,
    /// The least important lines that are still written.
    pub level: LogLevel,
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people: time, level, message, `key=value` pairs.
    #[default]
    Text,
    /// For machines: one JSON object per line.
    Json,
}

/// How important a log line is, from the least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What happens in the ordinary course: a publisher came, a connection ended.
    #[default]
    Info,
    /// A peer broke its protocol, a limit was reached.
    Warn,
    /// Something an operator must look at: a recording failed, a disk is full.
    Error,
}

impl Config {
    /// Shards that will run: the number asked for, or one for every core this process may use, up to [`SHARDS_MAX`].
    pub fn shard_count(&self) -> usize {
        if self.shards > 0 {
            self.shards
        } else {
            std::thread::available_parallelism().map_or(1, usize::from).min(SHARDS_MAX.into())
        }
    }
    /// How the streams of `app` are treated.
    pub fn stream_of(&self, app: &str) -> &Stream {
        self.apps.get(app).unwrap_or(&self.stream)
    }
    /// True when any stream may be recorded.
    pub fn records(&self) -> bool {
        self.stream.record || self.apps.values().any(|app| app.record)
    }
    /// Records every stream into `dir`, whatever the file says.
    pub fn record_all(&mut self, dir: PathBuf) {
        self.record.dir = dir;
        self.stream.record = true;
        for app in self.apps.values_mut() {
            app.record = true;
        }
    }
    /// What the hubs read.
    pub fn settings(&self) -> Settings {
        Settings {
            default: self.stream.app(),
            apps: self.apps.iter().map(|(name, app)| (name.clone(), app.app())).collect(),
            doors: DoorLimits {
                srt: Arc::new(self.srt_settings()),
                webrtc: Arc::new(self.webrtc.settings()),
                ..self.limits.door()
            },
            access: Arc::new(Keys { publish: self.auth.publish.clone(), play: self.auth.play.clone() }),
            segment: self.record.segment,
            packaging: segment::Settings {
                segment: self.hls.segment,
                part: self.hls.part,
                window: self.hls.window,
                linger: self.hls.linger,
            },
            relays: self.relays(),
            on_demand: self
                .pulls()
                .into_iter()
                .filter(|pull| pull.linger.is_some())
                .map(|pull| pull.name)
                .collect(),
        }
    }
    fn srt_settings(&self) -> SrtSettings {
        let given = |passphrase: &Passphrase| Some(passphrase.0.clone()).filter(|words| !words.is_empty());
        let own =
            self.streams.iter().filter_map(|(name, source)| Some((name.clone(), given(&source.passphrase)?)));
        SrtSettings {
            latency: self.srt.latency,
            passphrase: given(&self.srt.passphrase),
            passphrases: own.collect(),
        }
    }
    /// The streams that are sent to this node unasked, and where to. What [`check`] finds wrong is left out.
    pub fn intakes(&self) -> Vec<(StreamName, Intake)> {
        let parse = |(name, source): (&String, &Source)| {
            Some((StreamName::parse(name).ok()?, Intake::parse(&source.pull).ok()?))
        };
        self.streams.iter().filter_map(parse).collect()
    }
    /// The streams that others are asked for. What [`check`] finds wrong is left out.
    pub fn pulls(&self) -> Vec<Pull> {
        self.streams.iter().filter_map(|(name, source)| Pull::parse(name, source).ok()).collect()
    }
    /// Where media goes beside connections of RTSP, if it may: the first port of the first shard.
    pub fn media_ports(&self) -> Option<SocketAddr> {
        let open = self.rtsp.port != 0 && self.rtsp.udp_port != 0;
        open.then(|| SocketAddr::new(self.bind, self.rtsp.udp_port))
    }
    /// Where recordings go.
    pub fn recordings(&self) -> disk::Recordings {
        disk::Recordings { directory: self.record.dir.clone(), sync: self.record.sync.into() }
    }
    /// The built-in media doors that are open, by name.
    pub fn doors(&self) -> Vec<(&'static str, SocketAddr)> {
        let secured = |port| if self.tls.is_set() { port } else { 0 };
        let http = if self.tls.is_set() { "https" } else { "http" };
        let doors = [
            ("rtmp", self.rtmp.port),
            ("rtmps", secured(self.rtmp.tls_port)),
            ("rtsp", self.rtsp.port),
            ("rtsps", secured(self.rtsp.tls_port)),
            ("srt", self.srt.port),
            (http, self.http.port),
            ("webrtc", if self.http.port == 0 { 0 } else { self.webrtc.port }),
        ];
        doors
            .into_iter()
            .filter(|(_, port)| *port != 0)
            .map(|(name, port)| (name, SocketAddr::new(self.bind, port)))
            .collect()
    }
    /// The doors of `rows`, which a host brings along, as far as they are open: each where the config puts it, or at its own
    /// port.
    pub fn doors_of(&self, rows: &[Protocol]) -> Vec<(Protocol, SocketAddr)> {
        let place = |row: &Protocol| {
            let door = self.host_doors.get(row.name);
            let port = door.and_then(|door| door.port).unwrap_or(row.port);
            let bind = door.and_then(|door| door.bind).unwrap_or(self.bind);
            (port != 0).then_some((*row, SocketAddr::new(bind, port)))
        };
        rows.iter().filter_map(place).collect()
    }
    /// Every media door that shards open: the built-in ones, and those of `rows`, which a host brings along.
    pub fn open_doors(&self, rows: &[Protocol]) -> Vec<(Protocol, SocketAddr)> {
        let own = built_in();
        let row = |name: &str| tls::row_of(name, &own);
        let doors = self.doors().into_iter().filter(|(name, _)| !self.is_of_libsrt(name));
        let doors = doors.filter_map(|(name, address)| Some((row(name)?, address)));
        doors.chain(self.doors_of(rows)).collect()
    }
    /// The doors that speak TLS, with what they prove who they are with; none without a certificate.
    ///
    /// # Errors
    /// One of the two files is not what it should be.
    pub fn secured(&self) -> Result<Option<Secured>, Refused> {
        if !self.tls.is_set() {
            return Ok(None);
        }
        let certificate = Certificate::load(&self.tls.certificate, &self.tls.key)?;
        Ok(Some(Secured { doors: tls::DOORS.map(|(door, _)| door).to_vec(), certificate }))
    }
    /// Where the control door listens, if it is open.
    pub fn control_door(&self) -> Option<SocketAddr> {
        Some(self.control.bind).filter(|address| address.port() != 0)
    }
}

impl Tls {
    /// True when there is a certificate.
    pub fn is_set(&self) -> bool {
        !self.certificate.as_os_str().is_empty()
    }
}

impl Limits {
    /// In the engine's terms.
    pub fn door(&self) -> DoorLimits {
        DoorLimits {
            connections: self.connections,
            connections_per_address: self.connections_per_address,
            handshake: self.handshake,
            idle: self.idle,
            streams: self.streams,
            ..DoorLimits::default()
        }
    }
}

impl Stream {
    /// In the engine's terms.
    pub fn app(&self) -> AppSettings {
        AppSettings { limits: self.limits(), record: self.record }
    }
    /// In the engine's terms, the bounds alone.
    pub fn limits(&self) -> StreamLimits {
        StreamLimits {
            group_frames: self.group_frames,
            group_bytes: self.group_bytes,
            group_duration: self.group_duration,
            flush: self.flush,
            viewer_lag: self.viewer_lag,
            viewer_stall: self.viewer_stall,
            reconnect_window: self.reconnect_window,
            publisher_idle: self.publisher_idle,
            wait_for_publisher: self.wait_for_publisher,
            takeover: self.takeover,
            viewers: self.viewers,
            streams: self.streams,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            shards: 0,
            allow_anonymous: false,
            drain_timeout: Duration::from_secs(10),
            rtmp: Rtmp::default(),
            rtsp: Rtsp::default(),
            srt: Srt::default(),
            http: Http::default(),
            webrtc: Webrtc::default(),
            hls: Hls::default(),
            tls: Tls::default(),
            host_doors: BTreeMap::new(),
            control: Control::default(),
            limits: Limits::default(),
            stream: Stream::default(),
            apps: BTreeMap::new(),
            streams: BTreeMap::new(),
            record: Record::default(),
            auth: Auth::default(),
            log: Log::default(),
        }
    }
}

impl Default for Rtmp {
    fn default() -> Self {
        Rtmp { port: 1935, tls_port: 1936 }
    }
}

impl Default for Rtsp {
    fn default() -> Self {
        Rtsp { port: 8554, tls_port: 8322, udp_port: 8000 }
    }
}

impl Default for Srt {
    fn default() -> Self {
        let SrtSettings { latency, .. } = SrtSettings::default();
        Srt { port: 8890, latency, passphrase: Passphrase::default(), library: Library::Own }
    }
}

impl Default for Http {
    fn default() -> Self {
        Http { port: 8080 }
    }
}

impl Default for Hls {
    fn default() -> Self {
        let segment::Settings { segment, part, window, linger } = segment::Settings::default();
        Hls { segment, part, window, linger }
    }
}

impl Default for Control {
    fn default() -> Self {
        Control { bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)) }
    }
}

// The engine's own defaults are the defaults: a number stands in one place.
impl Default for Limits {
    fn default() -> Self {
        let DoorLimits { connections, connections_per_address, handshake, idle, streams, .. } =
            DoorLimits::default();
        Limits { connections, connections_per_address, handshake, idle, streams }
    }
}

impl Default for Stream {
    fn default() -> Self {
        let StreamLimits {
            group_frames,
            group_bytes,
            group_duration,
            flush,
            viewer_lag,
            viewer_stall,
            reconnect_window,
            publisher_idle,
            wait_for_publisher,
            takeover,
            viewers,
            streams,
        } = StreamLimits::default();
        Stream {
            group_frames,
            group_bytes,
            group_duration,
            flush,
            viewer_lag,
            viewer_stall,
            reconnect_window,
            publisher_idle,
            wait_for_publisher,
            takeover,
            viewers,
            streams,
            record: false,
            push: Vec::new(),
        }
    }
}

impl Default for Source {
    fn default() -> Self {
        Source {
            push: Vec::new(),
            passphrase: Passphrase::default(),
            pull: String::new(),
            on_demand: false,
            linger: Duration::from_secs(10),
            transport: Transport::default(),
        }
    }
}

impl Default for Record {
    fn default() -> Self {
        Record { dir: PathBuf::from("recordings"), segment: Duration::from_secs(600), sync: Sync::default() }
    }
}

impl From<Sync> for disk::Sync {
    fn from(sync: Sync) -> Self {
        match sync {
            Sync::None => disk::Sync::None,
            Sync::Segment => disk::Sync::Segment,
            Sync::Fragment => disk::Sync::Fragment,
        }
    }
}

impl std::fmt::Debug for Auth {
    /// Counts the keys; a key itself must never reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("publish", &self.publish.len()).field("play", &self.play.len()).finish()
    }
}

#[cfg(test)]
mod tests;
