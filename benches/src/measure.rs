//! One run: a server is started, loaded, measured for a while and ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use shardcast_engine::time::{Now, Wall};
use shardcast_io::clock;

use crate::{
    clip::Clip,
    load::{Load, Report},
    outcome::{Cpu, LoadSide, Machine, Memory, Outcome, Recording, Second, Trace},
    process::{self, Sample, Watched},
    prometheus, recordings,
    scenario::{Door, Entrance, Scenario},
    server::{self, Place, Server, ServerFile},
};

/// How a run is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where and how the server runs.
    pub place: Place,
    /// The core of the load.
    pub load_core: usize,
    /// A server that runs already and is measured in place of the one that the file would start.
    pub attach: Option<u32>,
    /// What viewers repeat, where the server knows no stream. Otherwise the variable `trace` names a run's JSON with it.
    pub trace: Option<Trace>,
}

/// What a run tells while it goes on.
#[derive(Clone, Copy, Debug)]
pub struct Live<'a> {
    /// What it is doing.
    pub phase: &'a str,
    /// Viewers that play.
    pub viewers: u64,
    /// Delivered in the last second, 10^9 bits.
    pub gbit: f64,
    /// The server's CPU share in the last second.
    pub cpu: f64,
}

/// How long publishers may take until all publish.
const PUBLISH_MAX: Duration = Duration::from_secs(10);
/// How long the last viewers may take until they have a picture.
const JOIN_MAX: Duration = Duration::from_secs(8);
/// How long a server is left alone before its memory is looked at.
const SETTLE: Duration = Duration::from_millis(800);
/// From when all publish until memory is looked at: as long as the clip's groups, so that one is kept of each stream.
const PUBLISHED_SETTLE: Duration = Duration::from_millis(2500);
const SECOND: Duration = Duration::from_secs(1);

/// Bounds of a load side that can be believed: how late publishers may be, how much of its core it may need, how much
/// others may take of the server's cores.
const LATENESS_P99_MAX_MS: f64 = 5.0;
const LATENESS_MAX_MS: f64 = 100.0;
/// Where viewers come by SRT: each acknowledges a hundred times a second on the load's one thread (or, by libsrt, on threads beside it); or by
/// WHEP: each decrypts all it gets there. A publisher waits for a round of them. What a server's CPU is per GB does not hang on that.
const LATENESS_ANSWERED_P99_MAX_MS: f64 = 25.0;
const LOAD_SHARE_MAX: f64 = 0.95;
const OTHERS_SHARE_MAX: f64 = 0.10;
const PUBLISHED_SHARE_MIN: f64 = 0.98;

/// Makes one run.
///
/// # Errors
/// The server cannot be started or ends, a publisher is lost, or the load cannot be made: there is nothing to report.
pub fn run(
    scenario: &Scenario,
    file: &ServerFile,
    options: &Options,
    clip: &Clip,
    tell: &mut dyn FnMut(Live<'_>),
) -> Result<Outcome, String> {
    let mut variables = scenario.server.clone();
    variables.insert("bitrate".to_owned(), format!("{}bit", scenario.publish.bitrate));
    variables.insert("streams".to_owned(), scenario.publish.streams.to_string());
    let trace = if file.floor.replays { Some(trace_for(file, options, &variables)?) } else { None };
    if let Some(trace) = &trace {
        variables.insert(SIZES.to_owned(), sizes(trace));
    }
    let (server, cores) = match options.attach {
        None => (file.start(&variables, &options.place)?, options.place.cores.clone()),
        Some(pid) => (file.attach(&variables, &options.place, pid)?, server::cores_of(pid)),
    };
    server::pin(&[options.load_core])?;
    let mut load = Load::new(scenario.clone(), server.doors.clone(), file.floor, clip)?;
    if let Some(trace) = trace {
        load.repeat(trace);
    }
    let watched = Watched::new(server.pid());
    let shares_cores = cores.contains(&options.load_core);
    let mut run = Run { scenario, server, load, watched, cores, shares_cores, tell, seen: Seen::default() };
    let outcome = run.go(file.floor.viewers_first);
    let mut outcome = outcome.map_err(|why| {
        let said = run.server.output();
        let ended =
            run.server.ended().map(|how| format!("; the server has ended: {how}")).unwrap_or_default();
        format!("{}: {why}{ended}\n{}", file.name, server::last_lines(&said))
    })?;
    outcome.server.clone_from(&file.name);
    outcome.about.clone_from(&run.server.about);
    outcome.machine = machine(&options.place);
    Ok(outcome)
}

/// The variables with the sizes of the files that a replaying floor has, and with the file that names them.
const SIZES: &str = "sizes";
/// See `SIZES`.
pub const TRACE: &str = "trace";

/// What viewers of a server are to repeat that knows no stream.
fn trace_for(
    file: &ServerFile,
    options: &Options,
    variables: &BTreeMap<String, String>,
) -> Result<Trace, String> {
    let path = variables.get(TRACE).or(file.variables.get(TRACE)).filter(|path| !path.is_empty());
    let trace = match (&options.trace, path) {
        (Some(trace), _) => trace.clone(),
        (None, Some(path)) => {
            let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
            let outcome: Outcome = serde_json::from_str(&text)
                .map_err(|error| format!("{path} is not what a run writes by --json: {error}"))?;
            outcome.requests.map(|requests| requests.trace).unwrap_or_default()
        }
        (None, None) => {
            return Err(format!(
                "{0} repeats what a viewer of another server asked for: name that one before it in a comparison, or \
                 write a run of it by --json and name the file, {0}:trace=FILE",
                file.name
            ));
        }
    };
    if trace.asked.is_empty() {
        return Err(format!("{} has nothing to repeat: no viewer has asked for anything", file.name));
    }
    Ok(trace)
}

/// Each size that is asked for, once.
fn sizes(trace: &Trace) -> String {
    let sizes: BTreeSet<u64> =
        trace.asked.iter().map(|asked| asked.bytes).filter(|bytes| *bytes > 0).collect();
    sizes.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
}

struct Run<'a> {
    scenario: &'a Scenario,
    server: Server,
    load: Load,
    watched: Watched,
    cores: Vec<usize>,
    /// Whether the load runs on one of them: then what others take cannot be told from what the load takes.
    shares_cores: bool,
    tell: &'a mut dyn FnMut(Live<'_>),
    /// The last look, for what is told while the run goes on.
    seen: Seen,
}

/// What stood where at some moment.
#[derive(Clone, Copy, Default)]
struct Seen {
    at: Now,
    delivered: u64,
    answered: u64,
    cpu: Duration,
    resident: u64,
}

impl Run<'_> {
    fn go(&mut self, viewers_first: bool) -> Result<Outcome, String> {
        let mut memory = Memory::default();
        self.pass("starting", SETTLE)?;
        memory.idle = self.watched.sample().resident;
        if viewers_first {
            self.join()?;
            self.pass("joining", SETTLE)?;
            self.publish()?;
            memory.published = memory.idle;
        } else {
            self.publish()?;
            self.pass("publishing", PUBLISHED_SETTLE)?;
            memory.published = self.watched.sample().resident;
            if self.scenario.time.join_within {
                self.load.join();
            } else {
                self.join()?;
            }
        }
        self.pass("warming up", self.scenario.time.warm)?;
        let mut outcome = self.measure(&mut memory)?;
        if self.server.variables.get("record").is_some_and(|record| record == "true") {
            self.check_recordings(&mut outcome)?;
        }
        Ok(outcome)
    }

    fn publish(&mut self) -> Result<(), String> {
        self.load.publish()?;
        self.until("publishing", PUBLISH_MAX, |load| load.is_published())?;
        if self.load.is_published() {
            Ok(())
        } else {
            Err("the server has not let all publishers publish".into())
        }
    }

    fn join(&mut self) -> Result<(), String> {
        self.load.join();
        let asked = self.scenario.watch.viewers as u64;
        let rate = f64::from(self.scenario.watch.join_rate);
        let limit = Duration::from_secs_f64(asked as f64 / rate) + JOIN_MAX;
        self.until("joining", limit, |load| load.is_joined() && load.playing() >= asked)
    }

    fn measure(&mut self, memory: &mut Memory) -> Result<Outcome, String> {
        let recordings = self.recordings_folder();
        let written = |folder: &Option<PathBuf>| folder.as_deref().map_or(0, recordings::bytes_below);
        let metrics = self.scrape();
        let (written_before, cache_before) = (written(&recordings), process::page_cache_bytes());
        let first = self.watched.sample();
        let (busy, softirq) = (process::busy(&self.cores), process::softirq(&self.cores));
        let began = Wall(clock::wall());
        self.load.begin_window();
        let (delivered, answered) = (self.load.delivered(), self.load.answered());
        self.seen = Seen { at: now(), delivered, answered, cpu: first.cpu, resident: 0 };
        let start = now();
        let mut series = Vec::new();
        while now().since(start) < self.scenario.time.measure {
            let left = self.scenario.time.measure.saturating_sub(now().since(start));
            self.turn_for(SECOND.min(left))?;
            // A short rest at the end says little by itself.
            if left >= SECOND / 2 {
                let second = self.load.second();
                let Rates { gbit, cpu, requests } = self.look("measuring");
                series.push(Second {
                    at: now().since(start).as_secs_f64(),
                    gbit,
                    cpu,
                    requests,
                    memory: self.seen.resident,
                    viewers: self.load.playing(),
                    latency_p50: second.quantile(0.5),
                    latency_p99: second.quantile(0.99),
                });
            }
        }
        let report = self.load.end_window();
        let last = self.watched.sample();
        let softirq = process::softirq(&self.cores).saturating_sub(softirq);
        let taken = last.cpu - first.cpu + softirq;
        let others = process::busy(&self.cores).saturating_sub(busy).saturating_sub(taken);
        let cache = process::page_cache_bytes() as i64 - cache_before as i64;
        let grown = grown(&metrics, &self.scrape());
        (memory.first, memory.last, memory.peak) = (first.resident, last.resident, self.watched.peak());
        let cpu = (last.cpu - first.cpu).as_secs_f64();
        let per_gb = |bytes: u64| if bytes == 0 { 0.0 } else { cpu * 1e9 / bytes as f64 };
        let recording = recordings.as_deref().map(|folder| {
            let written_bytes = grown.get("shardcast_recorded_bytes_total").map_or_else(
                || recordings::bytes_below(folder).saturating_sub(written_before),
                |n| *n as u64,
            );
            Recording {
                written_bytes,
                cpu_per_written_gb: per_gb(written_bytes),
                page_cache_growth: cache,
                ..Recording::default()
            }
        });
        if report.viewers.playing > 0 && !self.scenario.time.join_within {
            memory.per_viewer =
                memory.first.saturating_sub(memory.published) as f64 / report.viewers.playing as f64;
        }
        let Report { seconds, traffic, viewers, first_key, first_byte, latency, checks, requests, .. } =
            report;
        let Report { mut load, trouble, due_bytes, .. } = report;
        load.others_share = others.as_secs_f64() / seconds;
        load.softirq_share = softirq.as_secs_f64() / seconds;
        let mut outcome = Outcome {
            scenario: self.scenario.name.clone(),
            began: began.to_string(),
            settings: self.settings(),
            seconds,
            cpu: Cpu {
                seconds: cpu,
                share: cpu / seconds,
                per_delivered_gb: per_gb(traffic.delivered_bytes),
                per_published_gb: per_gb(traffic.published_bytes),
            },
            traffic,
            viewers,
            first_key: first_key.quantiles(),
            first_byte: first_byte.quantiles(),
            latency: latency.quantiles(),
            latency_histogram: latency.filled(),
            checks,
            requests,
            memory: *memory,
            recording,
            metrics: grown,
            load,
            series,
            ..Outcome::default()
        };
        outcome.void = self.reasons_to_doubt(&outcome, due_bytes);
        outcome.trouble = trouble;
        Ok(outcome)
    }

    fn reasons_to_doubt(&self, outcome: &Outcome, due_bytes: u64) -> Vec<String> {
        let mut void = Vec::new();
        let LoadSide { publisher_lateness, cpu_share, others_share, .. } = outcome.load;
        let by = self.scenario.watch.by;
        let answers = matches!(by, Door::Srt | Door::Webrtc) && self.scenario.watch.viewers > 0;
        let p99_max = if answers { LATENESS_ANSWERED_P99_MAX_MS } else { LATENESS_P99_MAX_MS };
        if publisher_lateness.p99 > p99_max || publisher_lateness.max > LATENESS_MAX_MS {
            void.push(format!(
                "the load's publishers were late: {:.1} ms at p99, {:.1} ms at most",
                publisher_lateness.p99, publisher_lateness.max
            ));
        }
        if cpu_share > LOAD_SHARE_MAX {
            void.push(format!("the load needed {:.0} % of its core", cpu_share * 100.0));
        }
        if others_share > OTHERS_SHARE_MAX * self.cores.len() as f64 && !self.shares_cores {
            void.push(format!("other programs took {:.0} % of the server's cores", others_share * 100.0));
        }
        let published = outcome.traffic.published_bytes as f64;
        if published < due_bytes as f64 * PUBLISHED_SHARE_MIN {
            void.push(format!(
                "publishers could send only {:.0} % of what was due",
                100.0 * published / due_bytes as f64
            ));
        }
        if outcome.viewers.asked > 0 && outcome.viewers.playing == 0 {
            void.push("no viewer was sent a picture".to_owned());
        }
        void
    }

    fn settings(&self) -> BTreeMap<String, String> {
        let Scenario { publish, watch, time, .. } = self.scenario;
        let own = ["here", "dir", "cache", "bin", "binary", "record_dir", SIZES, TRACE];
        let mut settings: BTreeMap<String, String> = self
            .server
            .variables
            .iter()
            .filter(|(name, value)| {
                !own.contains(&name.as_str()) && !name.ends_with("_port") && !value.is_empty()
            })
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        settings.extend([
            ("streams".to_owned(), publish.streams.to_string()),
            ("bitrate".to_owned(), format!("{} Mbit/s", publish.bitrate as f64 / 1e6)),
            ("viewers".to_owned(), watch.viewers.to_string()),
            ("published by".to_owned(), publish.by.name().to_owned()),
            ("viewers by".to_owned(), watch.by.name().to_owned()),
            ("measured".to_owned(), format!("{} s", time.measure.as_secs_f64())),
        ]);
        if publish.by == Entrance::Srt {
            settings.insert("publishers by srt".to_owned(), publish.srt.name().to_owned());
        }
        if watch.by == Door::Srt && watch.viewers > 0 {
            settings.insert("viewers by srt".to_owned(), watch.srt.name().to_owned());
        }
        if watch.loss > 0.0 {
            settings.insert("lost of what viewers are sent".to_owned(), format!("{} %", watch.loss * 100.0));
        }
        settings
    }

    /// All that was published must be in the files once the publishers have gone and the server has ended.
    fn check_recordings(&mut self, outcome: &mut Outcome) -> Result<(), String> {
        let Some(folder) = self.recordings_folder() else { return Ok(()) };
        if self.server.is_attached() {
            outcome.trouble.push("recordings are not looked at: the server goes on writing them".to_owned());
            return Ok(());
        }
        self.load.stop_publishing();
        self.until("ending", JOIN_MAX, |load| load.is_sent())?;
        // What the kernel has taken, the server still has to read.
        self.pass("ending", SETTLE)?;
        let published = self.load.pictures_by_stream();
        self.server.stop();
        let found = recordings::read(&folder);
        let recording = outcome.recording.get_or_insert_default();
        (recording.files, recording.bytes) = (found.files, found.bytes);
        for (stream, pictures) in published {
            let there = found.of_first(&stream, pictures);
            recording.pictures += there;
            recording.missing_pictures += pictures - there;
        }
        outcome.trouble.extend(found.unreadable);
        Ok(())
    }

    fn recordings_folder(&self) -> Option<PathBuf> {
        let variables = &self.server.variables;
        variables.get("record").filter(|record| *record == "true")?;
        variables.get("record_dir").map(PathBuf::from)
    }

    fn scrape(&self) -> BTreeMap<String, f64> {
        self.server.doors.metrics.as_deref().map(prometheus::scrape).unwrap_or_default()
    }

    /// Lets the load go on for some time.
    fn pass(&mut self, phase: &str, time: Duration) -> Result<(), String> {
        self.until(phase, time, |_| false)
    }

    /// Lets the load go on until something holds, or for some time.
    fn until(&mut self, phase: &str, most: Duration, holds: impl Fn(&Load) -> bool) -> Result<(), String> {
        let deadline = now().after(most);
        self.look(phase);
        while now() < deadline && !holds(&self.load) {
            self.load.turn()?;
            if now().since(self.seen.at) >= SECOND {
                self.look(phase);
            }
        }
        Ok(())
    }

    fn turn_for(&mut self, time: Duration) -> Result<(), String> {
        let deadline = now().after(time);
        while now() < deadline {
            self.load.turn()?;
        }
        Ok(())
    }

    /// Tells how things stand; gives the rates since the last look.
    fn look(&mut self, phase: &str) -> Rates {
        let Sample { cpu, resident, .. } = self.watched.sample();
        let (delivered, answered) = (self.load.delivered(), self.load.answered());
        let before =
            std::mem::replace(&mut self.seen, Seen { at: now(), delivered, answered, cpu, resident });
        let time = self.seen.at.since(before.at).as_secs_f64().max(1e-9);
        let rates = Rates {
            gbit: (delivered - before.delivered) as f64 * 8.0 / 1e9 / time,
            cpu: cpu.saturating_sub(before.cpu).as_secs_f64() / time,
            requests: (answered - before.answered) as f64 / time,
        };
        let rates = if before.at == Now(0) { Rates::default() } else { rates };
        (self.tell)(Live { phase, viewers: self.load.playing(), gbit: rates.gbit, cpu: rates.cpu });
        rates
    }
}

/// What goes on per second.
#[derive(Clone, Copy, Default)]
struct Rates {
    /// Delivered, 10^9 bits.
    gbit: f64,
    /// The server's CPU share.
    cpu: f64,
    /// Answers.
    requests: f64,
}

fn grown(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let growth = |(name, value): (&String, &f64)| {
        // What does not only grow is given as it stood at the end.
        let counts = ["_total", "_sum", "_count"].iter().any(|suffix| name.ends_with(suffix));
        (name.clone(), if counts { value - before.get(name).copied().unwrap_or(0.0) } else { *value })
    };
    after.iter().map(growth).collect()
}

fn now() -> Now {
    Now(clock::monotonic())
}

/// Where this runs.
fn machine(place: &Place) -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
    let kilobytes: u64 = memory.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0);
    let loopback = place.address.parse::<IpAddr>().map_or_else(
        |_| place.address.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback()),
        |address| address.is_loopback(),
    );
    let mtu =
        if loopback { read("/sys/class/net/lo/mtu") } else { mtu_of_others(Path::new("/sys/class/net")) };
    Machine {
        kernel: read("/proc/sys/kernel/osrelease"),
        processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
        // Not those of this thread, which has been pinned to one.
        cores: read("/proc/cpuinfo").lines().filter(|line| line.starts_with("processor")).count(),
        memory_bytes: kilobytes * 1024,
        network: format!("{}, MTU {mtu}", place.address),
    }
}

/// The MTU of the first interface that is not loopback.
fn mtu_of_others(folder: &Path) -> String {
    let interfaces = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut others = interfaces.filter(|entry| entry.file_name() != "lo");
    let mtu = others.next().and_then(|entry| fs::read_to_string(entry.path().join("mtu")).ok());
    mtu.map_or_else(|| "unknown".to_owned(), |mtu| mtu.trim().to_owned())
}
