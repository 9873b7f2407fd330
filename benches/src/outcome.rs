//! What one run has shown: one scenario, one server, one window of measuring. As JSON it is the tool's interface for
//! machines, so a name here is never given another meaning.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One run of one scenario against one server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: String,
    /// The server's name.
    pub server: String,
    /// What the server's file says of it: version, origin, what was chosen.
    #[serde(default)]
    pub about: String,
    /// When measuring began, UTC, RFC 3339.
    pub began: String,
    /// Where it ran.
    pub machine: Machine,
    /// What the scenario, the server file and the command line chose together: bitrate, viewers, flush and the like.
    pub settings: BTreeMap<String, String>,
    /// Why the figures mean nothing, one sentence each. Empty for a run that counts.
    pub void: Vec<String>,
    /// What went wrong with publishers, viewers or recordings, the first few of it, in words.
    #[serde(default)]
    pub trouble: Vec<String>,
    /// Length of the window in which everything below was measured, seconds.
    pub seconds: f64,
    /// What was published and delivered.
    pub traffic: Traffic,
    /// Who watched.
    pub viewers: Viewers,
    /// From the start of connecting until the first key frame was there whole, milliseconds, over all viewers.
    pub first_key: Quantiles,
    /// Until its first byte was there, likewise.
    #[serde(default)]
    pub first_byte: Quantiles,
    /// From when a picture left its publisher until a viewer had it whole, milliseconds, over the viewers that parse.
    pub latency: Quantiles,
    /// The same as a histogram: upper bound in milliseconds, pictures. Bounds rise; buckets without pictures are left out.
    pub latency_histogram: Vec<(f64, u64)>,
    /// What the viewers that parse found.
    pub checks: Checks,
    /// What viewers asked for, where they ask for one piece after the other.
    #[serde(default)]
    pub requests: Option<Requests>,
    /// CPU of the server, all its threads and children.
    pub cpu: Cpu,
    /// Memory of the server, all its processes.
    pub memory: Memory,
    /// What it wrote to disk, where the scenario records.
    pub recording: Option<Recording>,
    /// What the server says of itself, where it has metrics: name and how much it grew in the window.
    pub metrics: BTreeMap<String, f64>,
    /// How well the load side kept its own time.
    pub load: LoadSide,
    /// One entry per second of the window.
    pub series: Vec<Second>,
}

/// Where a run was made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Machine {
    /// The kernel's release.
    pub kernel: String,
    /// The processor's name.
    pub processor: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// The address that the server listened on, and the MTU of the interface that has it.
    pub network: String,
}

/// What was published and delivered in the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Traffic {
    /// Publishers that were publishing.
    pub publishers: u64,
    /// Pictures and packets of sound that they sent.
    pub published_frames: u64,
    /// Bytes that they sent.
    pub published_bytes: u64,
    /// Bytes that viewers were delivered. Of those who ask, the bodies of segments and parts, and nothing else.
    pub delivered_bytes: u64,
    /// The same in 10^9 bits per second.
    pub delivered_gbit_per_second: f64,
    /// Bytes that healthy viewers were delivered less than the viewer of the same stream that was delivered most, where it
    /// is more than half a second of the stream (and, of those who ask, two of its largest pieces) can explain.
    pub missing_bytes: u64,
}

/// Who watched. A viewer that stalls or is slow on purpose is counted in `stalling` and `slow` and nowhere else but in
/// `asked`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Viewers {
    /// How many the scenario wanted to be there at once.
    pub asked: u64,
    /// How many came in all, those that were replaced by churn included.
    pub joined: u64,
    /// How many were there at the end and had had a key frame.
    pub playing: u64,
    /// How many parsed everything.
    pub parsing: u64,
    /// How many took nothing after their first key frame, on purpose.
    pub stalling: u64,
    /// How many took less than the stream's rate, on purpose.
    pub slow: u64,
    /// How many the server refused, or could not be connected.
    pub refused: u64,
    /// How many healthy viewers the server closed while they played.
    pub disconnected: u64,
    /// How many of those that stall or are slow the server closed, as it may.
    pub closed_for_slowness: u64,
}

/// What the viewers that parse found. All zero but `viewers` and `pictures` is as it should be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Checks {
    /// Viewers that parsed.
    pub viewers: u64,
    /// Pictures that they were delivered.
    pub pictures: u64,
    /// Holes: places where the number of a picture is not its predecessor's plus one.
    pub gaps: u64,
    /// Pictures missing in them.
    pub missing_pictures: u64,
    /// Pictures that came twice or out of order.
    pub out_of_order: u64,
    /// Viewers whose first picture was no key frame.
    pub began_without_key: u64,
    /// Pictures whose bytes are not those that were published.
    pub damaged: u64,
    /// Times that went backwards within a track.
    pub time_backwards: u64,
    /// Viewers that were sent something that is no frame.
    pub unreadable: u64,
    /// Playlists and manifests that list less than the one before: their numbers or times went back.
    #[serde(default)]
    pub sequence_backwards: u64,
    /// Segments, parts and playlists that were to be there and could not be fetched.
    #[serde(default)]
    pub not_found: u64,
    /// Segments and parts that are longer or shorter than their list says, by more than a millisecond or a tick.
    #[serde(default)]
    pub durations_wrong: u64,
    /// Playlists that the server was to hold back until they have a piece, and that came without it or did not come.
    #[serde(default)]
    pub reloads_unanswered: u64,
}

impl Checks {
    /// True when nothing was wrong, and something was looked at.
    pub fn passed(&self) -> bool {
        self.viewers > 0
            && self.pictures > 0
            && [
                self.gaps,
                self.missing_pictures,
                self.out_of_order,
                self.began_without_key,
                self.damaged,
                self.time_backwards,
                self.unreadable,
                self.sequence_backwards,
                self.not_found,
                self.durations_wrong,
                self.reloads_unanswered,
            ]
            .iter()
            .all(|count| *count == 0)
    }
}

/// What viewers asked for in the window, where they ask for one piece after the other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Requests {
    /// Answers that came, whatever they were.
    pub answered: u64,
    /// The same per second.
    pub per_second: f64,
    /// Playlists and manifests among them.
    pub playlists: u64,
    /// Bytes of their bodies, as they came.
    pub playlist_bytes: u64,
    /// Segments, parts and initialisation sections among them.
    pub pieces: u64,
    /// Connections that were made anew because the server had closed one between two answers.
    pub reconnects: u64,
    /// How long the server held playlists back that it was asked to hold back, milliseconds.
    pub hold: Quantiles,
    /// All that one of the viewers asked for.
    pub trace: Trace,
}

/// What one viewer asked for, so that it can be repeated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Trace {
    /// In so many seconds.
    pub seconds: f64,
    /// In the order in which the answers were whole.
    pub asked: Vec<Asked>,
}

/// One thing that a viewer asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Asked {
    /// When, in seconds from the beginning of the window. Of what the server held back, when the answer was there.
    pub at: f64,
    /// By which of the viewer's connections.
    pub connection: u8,
    /// Whether it was a playlist or a manifest.
    pub playlist: bool,
    /// Bytes of the body.
    pub bytes: u64,
}

/// Quantiles of something measured in milliseconds. All zero when nothing was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Quantiles {
    /// How many were measured.
    pub count: u64,
    /// Half are at most this.
    pub p50: f64,
    /// 99 of 100 are at most this.
    pub p99: f64,
    /// 999 of 1000 are at most this.
    pub p999: f64,
    /// The largest.
    pub max: f64,
}

/// CPU of the server in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cpu {
    /// CPU seconds of all its threads and children.
    pub seconds: f64,
    /// The same per second of the window: 1 is one core.
    pub share: f64,
    /// CPU seconds per 10^9 bytes delivered; 0 when nothing was.
    pub per_delivered_gb: f64,
    /// CPU seconds per 10^9 bytes published; 0 when nothing was.
    pub per_published_gb: f64,
}

/// Resident memory of the server, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Memory {
    /// Before the first publisher.
    pub idle: u64,
    /// With publishers, before the first viewer.
    pub published: u64,
    /// At the beginning of the window.
    pub first: u64,
    /// At its end.
    pub last: u64,
    /// The most that was seen.
    pub peak: u64,
    /// What each viewer that plays takes: `first` less `published`, per viewer.
    pub per_viewer: f64,
}

/// What was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Recording {
    /// Files found.
    pub files: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Bytes written in the window.
    pub written_bytes: u64,
    /// CPU seconds per 10^9 bytes written.
    pub cpu_per_written_gb: f64,
    /// How much the page cache grew in the window, bytes.
    pub page_cache_growth: i64,
    /// Pictures found in the files.
    pub pictures: u64,
    /// Pictures that were published while the recording ran and are in no file.
    pub missing_pictures: u64,
}

/// How well the load side kept its own time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LoadSide {
    /// CPU seconds of the load's thread per second.
    pub cpu_share: f64,
    /// How much later than due publishers gave their frames to the kernel, milliseconds.
    pub publisher_lateness: Quantiles,
    /// Frames that could not be sent when they were due because the server did not take the ones before.
    pub publisher_held: u64,
    /// How long one round of the load's loop took, milliseconds.
    pub round: Quantiles,
    /// CPU seconds per second that neither the server nor an idle core can account for: what other programs took of the
    /// server's cores.
    pub others_share: f64,
    /// CPU seconds per second of the kernel's threads for network work on the server's cores: neither in the server's CPU nor
    /// in what others took.
    #[serde(default)]
    pub softirq_share: f64,
}

/// One second of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Second {
    /// Seconds since the window began, at the end of this one.
    pub at: f64,
    /// Delivered in it, 10^9 bits per second.
    pub gbit: f64,
    /// The server's CPU share.
    pub cpu: f64,
    /// The server's resident memory, bytes.
    pub memory: u64,
    /// Viewers that play.
    pub viewers: u64,
    /// Answers to viewers that ask.
    #[serde(default)]
    pub requests: f64,
    /// Median latency, milliseconds.
    pub latency_p50: f64,
    /// 99 of 100, milliseconds.
    pub latency_p99: f64,
}
