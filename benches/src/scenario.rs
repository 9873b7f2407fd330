//! What is published, who watches, and for how long: a small TOML file.

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde::Deserialize;

use crate::units::{read_bitrate, read_duration};

/// A scenario as its file says it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Scenario {
    /// Its name, for reports.
    pub name: String,
    /// One sentence: what it shows.
    pub about: String,
    /// What is published.
    pub publish: Publish,
    /// Who watches.
    #[serde(default)]
    pub watch: Watch,
    /// For how long.
    #[serde(default)]
    pub time: Time,
    /// Variables for the server file, in place of its own.
    #[serde(default)]
    pub server: BTreeMap<String, String>,
}

/// What is published.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Publish {
    /// Publishers, each with a stream of its own.
    pub streams: usize,
    /// Bits per second of each.
    #[serde(deserialize_with = "read_bitrate")]
    pub bitrate: u64,
    /// By which door.
    #[serde(default)]
    pub by: Entrance,
    /// By SRT, what calls there.
    #[serde(default)]
    pub srt: SrtPeer,
}

/// What calls a server by SRT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SrtPeer {
    /// The engine's own machine.
    Own,
    /// The system's libsrt, what nearly every sender and player of SRT has. Only where this was built with the feature `libsrt`.
    Libsrt,
}

/// A door that publishers come by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entrance {
    /// `rtmp://`, or what a floor has in its place.
    #[default]
    Rtmp,
    /// `rtsp://`, inside the connection.
    Rtsp,
    /// `srt://`
    Srt,
    /// `udp://`, MPEG-TS in datagrams, a port for each stream.
    Udp,
    /// By WHIP.
    Webrtc,
}

/// Who watches.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Watch {
    /// Viewers that are there at once, over all streams in turn.
    pub viewers: usize,
    /// By which door.
    pub by: Door,
    /// By SRT, what calls there.
    pub srt: SrtPeer,
    /// Viewers that join per second.
    pub join_rate: u32,
    /// How many of them, at most, parse everything and measure latency; the others are drained.
    pub parse: usize,
    /// How many take nothing after their first key frame.
    pub stall: usize,
    /// How many take bytes at half of their stream's rate.
    pub slow: usize,
    /// Viewers per second that leave and are replaced by new ones.
    pub churn: u32,
    /// By WHEP, the share of the datagrams to each that is lost, from 0 to 1.
    pub loss: f64,
}

/// A door that viewers come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Door {
    /// `rtmp://`
    Rtmp,
    /// `rtsp://`, inside the connection.
    Rtsp,
    /// `rtsp://`, by UDP beside the connection.
    RtspUdp,
    /// `srt://`
    Srt,
    /// `http://....flv`
    HttpFlv,
    /// `http://....ts`
    HttpTs,
    /// HLS as players without low latency watch it.
    Hls,
    /// HLS with parts and playlists that the server holds back.
    LlHls,
    /// DASH.
    Dash,
    /// By WHEP.
    Webrtc,
}

/// For how long.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Time {
    /// From when everyone is there until measuring begins.
    #[serde(deserialize_with = "read_duration")]
    pub warm: Duration,
    /// How long is measured.
    #[serde(deserialize_with = "read_duration")]
    pub measure: Duration,
    /// Whether viewers join within what is measured instead of before it.
    pub join_within: bool,
}

impl Door {
    /// All of them.
    pub const ALL: [Door; 10] = [
        Door::Rtmp,
        Door::Rtsp,
        Door::RtspUdp,
        Door::Srt,
        Door::HttpFlv,
        Door::HttpTs,
        Door::Hls,
        Door::LlHls,
        Door::Dash,
        Door::Webrtc,
    ];

    /// As a scenario and a server file name it.
    pub const fn name(self) -> &'static str {
        match self {
            Door::Rtmp => "rtmp",
            Door::Rtsp => "rtsp",
            Door::RtspUdp => "rtsp-udp",
            Door::Srt => "srt",
            Door::HttpFlv => "http-flv",
            Door::HttpTs => "http-ts",
            Door::Hls => "hls",
            Door::LlHls => "ll-hls",
            Door::Dash => "dash",
            Door::Webrtc => "webrtc",
        }
    }

    /// Whether viewers ask for one piece after the other, and are not sent a stream.
    pub const fn asks(self) -> bool {
        matches!(self, Door::Hls | Door::LlHls | Door::Dash)
    }

    /// Whether the stream comes in datagrams.
    pub const fn is_datagrams(self) -> bool {
        matches!(self, Door::RtspUdp | Door::Srt | Door::Webrtc)
    }
}

impl Entrance {
    /// As a scenario names it.
    pub const fn name(self) -> &'static str {
        match self {
            Entrance::Rtmp => "rtmp",
            Entrance::Rtsp => "rtsp",
            Entrance::Srt => "srt",
            Entrance::Udp => "udp",
            Entrance::Webrtc => "webrtc",
        }
    }
}

impl SrtPeer {
    /// As a scenario names it.
    pub const fn name(self) -> &'static str {
        match self {
            SrtPeer::Own => "own",
            SrtPeer::Libsrt => "libsrt",
        }
    }

    fn parse(text: &str) -> Result<SrtPeer, String> {
        let known = [SrtPeer::Own, SrtPeer::Libsrt].into_iter().find(|peer| peer.name() == text);
        known.ok_or_else(|| format!("{text}: one of own, libsrt"))
    }
}

impl Default for SrtPeer {
    /// A peer that is not ours, where there is one.
    fn default() -> Self {
        if cfg!(feature = "libsrt") { SrtPeer::Libsrt } else { SrtPeer::Own }
    }
}

/// Why `libsrt` is refused.
pub const WITHOUT_LIBSRT: &str = "srt is libsrt: this build has no libsrt. Build with the feature: \
     cargo build --release --bins --features shardcast-bench/libsrt";

/// What a stream of a run is called, behind the application.
pub fn stream_name(index: usize) -> String {
    format!("bench{index}")
}

impl Default for Watch {
    fn default() -> Self {
        Watch {
            viewers: 0,
            by: Door::HttpFlv,
            srt: SrtPeer::default(),
            join_rate: 500,
            parse: 8,
            stall: 0,
            slow: 0,
            churn: 0,
            loss: 0.0,
        }
    }
}

impl Default for Time {
    fn default() -> Self {
        Time { warm: Duration::from_secs(3), measure: Duration::from_secs(10), join_within: false }
    }
}

/// Scenarios that come with the tool: name and file.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("hot-stream", include_str!("../scenarios/hot-stream.toml")),
    ("many-streams", include_str!("../scenarios/many-streams.toml")),
    ("stall", include_str!("../scenarios/stall.toml")),
    ("join-storm", include_str!("../scenarios/join-storm.toml")),
    ("churn", include_str!("../scenarios/churn.toml")),
    ("record", include_str!("../scenarios/record.toml")),
    ("record-watch", include_str!("../scenarios/record-watch.toml")),
    ("two-shards", include_str!("../scenarios/two-shards.toml")),
    ("publish", include_str!("../scenarios/publish.toml")),
    ("srt-publish", include_str!("../scenarios/srt-publish.toml")),
    ("srt-watch", include_str!("../scenarios/srt-watch.toml")),
    ("rtsp-udp", include_str!("../scenarios/rtsp-udp.toml")),
    ("latency", include_str!("../scenarios/latency.toml")),
    ("memory", include_str!("../scenarios/memory.toml")),
    ("http-ts", include_str!("../scenarios/http-ts.toml")),
    ("hls", include_str!("../scenarios/hls.toml")),
    ("ll-hls", include_str!("../scenarios/ll-hls.toml")),
    ("dash", include_str!("../scenarios/dash.toml")),
    ("hot-webrtc", include_str!("../scenarios/hot-webrtc.toml")),
    ("join-webrtc", include_str!("../scenarios/join-webrtc.toml")),
    ("memory-webrtc", include_str!("../scenarios/memory-webrtc.toml")),
    ("publish-webrtc", include_str!("../scenarios/publish-webrtc.toml")),
    ("smoke", include_str!("../scenarios/smoke.toml")),
];

impl Scenario {
    /// Reads a built-in scenario by its name, or a file.
    ///
    /// # Errors
    /// There is no such file, or what is wrong in it and where.
    pub fn load(name: &str) -> Result<Scenario, String> {
        let text = match BUILT_IN.iter().find(|(known, _)| *known == name) {
            Some((_, text)) => (*text).to_owned(),
            None => std::fs::read_to_string(Path::new(name)).map_err(|error| {
                let known: Vec<_> = BUILT_IN.iter().map(|(name, _)| *name).collect();
                format!("{name}: {error}. Built in are: {}", known.join(", "))
            })?,
        };
        Self::parse(&text).map_err(|error| format!("{name}: {error}"))
    }

    /// Parses a scenario's text.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(text: &str) -> Result<Scenario, String> {
        let scenario: Scenario = toml::from_str(text).map_err(|error| error.to_string())?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Changes one key, written as in the file with a dot: `watch.viewers=2000`. Without a dot it is a variable of the
    /// server.
    ///
    /// # Errors
    /// There is no such key, or the value does not fit.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let count = || value.parse::<usize>().map_err(|_| format!("{key}={value}: not a whole number"));
        let rate = || value.parse::<u32>().map_err(|_| format!("{key}={value}: not a whole number"));
        match key {
            "publish.streams" => self.publish.streams = count()?,
            "publish.bitrate" => self.publish.bitrate = crate::units::bitrate(value)?,
            "publish.by" => {
                self.publish.by = match value {
                    "rtmp" => Entrance::Rtmp,
                    "rtsp" => Entrance::Rtsp,
                    "srt" => Entrance::Srt,
                    "udp" => Entrance::Udp,
                    "webrtc" => Entrance::Webrtc,
                    _ => return Err(format!("{key}={value}: one of rtmp, rtsp, srt, udp, webrtc")),
                }
            }
            "publish.srt" => {
                self.publish.srt = SrtPeer::parse(value).map_err(|why| format!("{key}={why}"))?
            }
            "watch.srt" => self.watch.srt = SrtPeer::parse(value).map_err(|why| format!("{key}={why}"))?,
            "watch.viewers" => self.watch.viewers = count()?,
            "watch.by" => {
                let known = Door::ALL.into_iter().find(|door| door.name() == value);
                self.watch.by = known.ok_or_else(|| {
                    format!("{key}={value}: one of {}", Door::ALL.map(Door::name).join(", "))
                })?;
            }
            "watch.join-rate" => self.watch.join_rate = rate()?,
            "watch.parse" => self.watch.parse = count()?,
            "watch.stall" => self.watch.stall = count()?,
            "watch.slow" => self.watch.slow = count()?,
            "watch.churn" => self.watch.churn = rate()?,
            "watch.loss" => {
                self.watch.loss = value.parse().map_err(|_| format!("{key}={value}: not a number"))?;
            }
            "time.warm" => self.time.warm = crate::units::duration(value)?,
            "time.measure" => self.time.measure = crate::units::duration(value)?,
            _ if key.contains('.') => return Err(format!("{key}: a scenario has no such key")),
            _ => drop(self.server.insert(key.to_owned(), value.to_owned())),
        }
        self.check()
    }

    fn check(&self) -> Result<(), String> {
        let Watch { viewers, stall, slow, join_rate, by, loss, .. } = self.watch;
        if self.publish.streams == 0 {
            return Err("publish.streams is 0: there is nothing to measure".into());
        }
        self.check_peers(cfg!(feature = "libsrt"))?;
        if self.time.measure < Duration::from_secs(1) {
            return Err("time.measure is less than a second".into());
        }
        if viewers > 0 && join_rate == 0 {
            return Err("watch.join-rate is 0: nobody would ever join".into());
        }
        if !(0.0..1.0).contains(&loss) {
            return Err("watch.loss is a share: from 0 up to, but not, 1".into());
        }
        if loss > 0.0 && by != Door::Webrtc {
            return Err(format!("watch.loss is for viewers by webrtc; by {} nothing is lost", by.name()));
        }
        if stall + slow > viewers {
            return Err("watch.stall and slow together are more than watch.viewers".into());
        }
        if stall + slow > 0 && by.is_datagrams() {
            return Err(format!("watch.stall and slow: datagrams, as by {}, wait for nobody", by.name()));
        }
        if stall + slow > 0 && by.asks() {
            return Err(format!(
                "watch.stall and slow are for viewers that are sent a stream; by {} they ask for what they take",
                by.name()
            ));
        }
        Ok(())
    }

    fn check_peers(&self, built_in: bool) -> Result<(), String> {
        let peers = [("publish", self.publish.srt), ("watch", self.watch.srt)];
        let wants = peers.into_iter().find(|(_, peer)| *peer == SrtPeer::Libsrt);
        wants.filter(|_| !built_in).map_or(Ok(()), |(key, _)| Err(format!("{key}.{WITHOUT_LIBSRT}")))
    }

    /// How long a run takes at least.
    pub fn length(&self) -> Duration {
        let joining = match self.watch.viewers {
            0 => Duration::ZERO,
            viewers => Duration::from_secs_f64(viewers as f64 / f64::from(self.watch.join_rate)),
        };
        let before = if self.time.join_within { Duration::ZERO } else { joining };
        before + self.time.warm + self.time.measure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_scenario_is_read_and_named_as_its_file() {
        for (name, _) in BUILT_IN {
            let scenario = Scenario::load(name).unwrap();
            assert_eq!(scenario.name, *name);
            assert!(scenario.about.ends_with('.'), "{name}: {}", scenario.about);
            let row = format!("| `{name}` |");
            assert!(include_str!("../README.md").contains(&row), "README.md has no row for {name}");
            assert!(scenario.length() < Duration::from_secs(120), "{name}");
        }
    }

    #[test]
    fn a_key_that_is_not_known_is_refused_with_its_place() {
        let text = "name = \"x\"\nabout = \"y\"\n[publish]\nstreams = 1\nbitrate = \"4Mbit\"\nbitrat = 3\n";
        let error = Scenario::parse(text).unwrap_err();
        assert!(error.contains("bitrat") && error.contains("line 6"), "{error}");
        assert!(Scenario::load("/no/such/file").unwrap_err().contains("hot-stream"));
    }

    #[test]
    fn who_asks_for_what_he_takes_cannot_be_slow_in_taking_it() {
        for (key, others) in [("watch.stall", "watch.slow"), ("watch.slow", "watch.stall")] {
            let mut scenario = Scenario::load("ll-hls").unwrap();
            assert!(scenario.set(key, "1").unwrap_err().contains("by ll-hls"), "{key}");
            let mut scenario = Scenario::load("srt-watch").unwrap();
            assert!(scenario.set(key, "1").unwrap_err().contains("by srt"), "{key}");
            let mut scenario = Scenario::load("http-ts").unwrap();
            scenario.set(key, "1").unwrap();
            scenario.set(others, "1").unwrap();
        }
    }

    #[test]
    fn keys_can_be_changed_one_by_one_and_nonsense_is_refused() {
        let mut scenario = Scenario::load("hot-stream").unwrap();
        scenario.set("watch.viewers", "77").unwrap();
        scenario.set("publish.bitrate", "500kbit").unwrap();
        scenario.set("watch.by", "rtmp").unwrap();
        scenario.set("flush", "100ms").unwrap();
        assert_eq!((scenario.watch.viewers, scenario.publish.bitrate), (77, 500_000));
        assert_eq!((scenario.watch.by, scenario.server["flush"].as_str()), (Door::Rtmp, "100ms"));
        for (key, value) in [("watch.by", "smoke"), ("watch.colour", "1"), ("time.measure", "10")] {
            assert!(scenario.clone().set(key, value).is_err(), "{key}={value}");
        }
        for door in Door::ALL {
            scenario.set("watch.by", door.name()).unwrap();
            assert_eq!(scenario.watch.by, door);
            let text = format!("by = \"{}\"", door.name());
            assert_eq!(toml::from_str::<Watch>(&text).unwrap().by, door);
        }
        assert!(scenario.set("watch.by", "hsl").unwrap_err().contains("ll-hls"));
        for entrance in [Entrance::Srt, Entrance::Rtsp, Entrance::Udp, Entrance::Rtmp] {
            scenario.set("publish.by", entrance.name()).unwrap();
            assert_eq!(scenario.publish.by, entrance);
        }
        assert!(scenario.set("publish.by", "http-flv").unwrap_err().contains("rtmp, rtsp, srt"));
    }

    #[test]
    fn callers_by_srt_are_libsrt_where_it_is_built_in_and_it_is_refused_elsewhere() {
        let mut scenario = Scenario::load("srt-watch").unwrap();
        assert_eq!((scenario.publish.srt, scenario.watch.srt), (SrtPeer::Libsrt, SrtPeer::Libsrt));
        assert!(scenario.check_peers(true).is_ok());
        let text =
            "name = \"x\"\nabout = \"y\"\n[publish]\nstreams = 1\nbitrate = \"4Mbit\"\nsrt = \"own\"\n";
        assert_eq!(Scenario::parse(text).unwrap().publish.srt, SrtPeer::Own);
        for key in ["publish.srt", "watch.srt"] {
            let why = scenario.check_peers(false).unwrap_err();
            assert!(why.starts_with(key) && why.contains("--features shardcast-bench/libsrt"), "{why}");
            assert!(scenario.set(key, "haivision").unwrap_err().contains("own, libsrt"));
            scenario.set(key, "own").unwrap();
        }
        assert!(scenario.check_peers(false).is_ok());
    }
}
