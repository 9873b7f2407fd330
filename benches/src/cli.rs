//! The command line of `shardcast-bench`.

use std::{
    fs,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::{
    clip::Clip,
    comparison::Comparison,
    floor::{self, Floor},
    measure::{self, Options, TRACE},
    outcome::{Outcome, Trace},
    progress::Progress,
    report::{html, text},
    scenario::{BUILT_IN, Scenario},
    server::{Place, ServerFile},
    verdict::Verdict,
};

/// Measures what a live-media server costs: publishers and viewers in, CPU, memory, latency and every lost frame out.
#[derive(Debug, Parser)]
#[command(name = "shardcast-bench", version, about, long_about = None)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a scenario against one server.
    Run {
        /// A built-in scenario (see `scenarios`) or a TOML file.
        scenario: String,
        /// A server file, or the name of one in benches/servers.
        #[arg(default_value = "shardcast")]
        server: String,
        /// Measures this process, which runs already: the file's command is not started, nothing is ended.
        #[arg(long, conflicts_with_all = ["server_cores", "wrap"])]
        pid: Option<u32>,
        #[command(flatten)]
        how: How,
    },
    /// Runs a scenario against several servers in turn, A B A B, and prints ratios with their spread.
    Compare {
        /// A built-in scenario (see `scenarios`) or a TOML file.
        scenario: String,
        /// Server files, or names of files in benches/servers. `NAME:KEY=VALUE,KEY=VALUE` changes variables of one.
        #[arg(required = true, num_args = 2..)]
        servers: Vec<String>,
        /// How many times each server is measured.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// The server that the ratios are relative to; the first one otherwise.
        #[arg(long)]
        base: Option<String>,
        #[command(flatten)]
        how: How,
    },
    /// Lists the scenarios that come with the tool.
    Scenarios,
    /// Lists the server files that come with the tool.
    Servers,
    /// Is a floor: a bare sender, relay, receiver or writer, to be measured like a server.
    #[command(subcommand)]
    Floor(Floor),
}

/// How and where runs are made, and where their results go.
#[derive(Clone, Debug, Args)]
struct How {
    /// Changes a key of the scenario (`watch.viewers=200`) or a variable of the server (`flush=100ms`).
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Cores that the server may use; by default the first ones, as many as it has shards.
    #[arg(long, value_delimiter = ',')]
    server_cores: Vec<usize>,
    /// The core of the load; by default the last one.
    #[arg(long)]
    load_core: Option<usize>,
    /// The address that servers listen on.
    #[arg(long, default_value = "127.0.0.1")]
    address: String,
    /// Words before the server's command, for instance "ip netns exec server".
    #[arg(long, default_value = "")]
    wrap: String,
    /// An FLV file with H.264 to publish in place of the built-in clip.
    #[arg(long)]
    clip: Option<PathBuf>,
    /// Writes the result as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Writes the result as a page that opens without a network.
    #[arg(long)]
    html: Option<PathBuf>,
}

/// Runs the tool with the process's arguments. 0 when everything was measured and counts, 1 when a run failed, is void
/// or found a fault, 2 for wrong arguments.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run { scenario, server, pid, how } => run(&scenario, &server, pid, &how),
        Command::Compare { scenario, servers, rounds, base, how } => {
            compare(&scenario, &servers, rounds, base.as_deref(), &how)
        }
        Command::Scenarios => scenarios(),
        Command::Servers => servers(),
        Command::Floor(floor) => {
            floor::run(floor).map(|()| ExitCode::SUCCESS).map_err(|error| format!("floor: {error}"))
        }
    };
    match result {
        Ok(code) => code,
        Err(why) => {
            eprintln!("shardcast-bench: {why}");
            ExitCode::from(2)
        }
    }
}

fn scenarios() -> Result<ExitCode, String> {
    let mut page = String::new();
    for (name, _) in BUILT_IN {
        page.push_str(&format!("{name:<14} {}\n", Scenario::load(name)?.about));
    }
    print(&page);
    Ok(ExitCode::SUCCESS)
}

fn servers() -> Result<ExitCode, String> {
    let folder = servers_folder();
    let entries = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    let place = Place { cores: Vec::new(), address: "127.0.0.1".to_owned(), wrapper: Vec::new() };
    let mut page = String::new();
    for path in paths {
        let file = ServerFile::load(&path)?;
        page.push_str(&format!("{:<18} {}\n", file.name, file.describe(&place)?));
    }
    print(&page);
    Ok(ExitCode::SUCCESS)
}

fn servers_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("servers")
}

fn run(scenario: &str, server: &str, pid: Option<u32>, how: &How) -> Result<ExitCode, String> {
    let mut scenario = Scenario::load(scenario)?;
    how.change(&mut scenario)?;
    let (file, variables) = how.server(server)?;
    scenario.server.extend(variables);
    let options = Options { attach: pid, ..how.options(&scenario)? };
    raise_limits();
    if pid.is_none() {
        file.prepare(&options.place)?;
    }
    let mut progress = Progress::new(scenario.length(), io::stderr().is_terminal());
    let outcome = one(&scenario, &file, &options, &how.clip()?, &mut progress)?;
    progress.finish();
    how.write(&outcome, || html::run(&outcome))?;
    print(&text::run(&outcome, io::stdout().is_terminal()));
    Ok(code_of([&outcome]))
}

fn compare(
    scenario: &str,
    servers: &[String],
    rounds: usize,
    base: Option<&str>,
    how: &How,
) -> Result<ExitCode, String> {
    let mut scenario = Scenario::load(scenario)?;
    how.change(&mut scenario)?;
    let clip = how.clip()?;
    raise_limits();
    let mut field = Vec::new();
    for word in servers {
        let (file, variables) = how.server(word)?;
        let mut scenario = scenario.clone();
        scenario.server.extend(variables);
        let options = how.options(&scenario)?;
        if file.floor.replays && !scenario.server.contains_key(TRACE) && field.is_empty() {
            return Err(format!(
                "{} repeats what viewers of the server before it ask for: name one before it",
                file.name
            ));
        }
        eprintln!("preparing {}", file.name);
        file.prepare(&options.place)?;
        field.push((file, scenario, options));
    }
    let total = field.iter().map(|(_, scenario, _)| scenario.length()).sum::<Duration>();
    let mut progress =
        Progress::new(total * u32::try_from(rounds).unwrap_or(u32::MAX), io::stderr().is_terminal());
    let mut outcomes: Vec<Outcome> = Vec::new();
    for _ in 0..rounds {
        for (file, scenario, options) in &field {
            let (mut scenario, mut options) = (scenario.clone(), options.clone());
            if file.floor.replays {
                options.trace = outcomes.iter().rev().find_map(trace_of).cloned();
            }
            if file.variables.contains_key(SENDS_LIKE)
                && let Some(bytes) = outcomes.iter().rev().find_map(bytes_per_send)
            {
                scenario.server.entry(SENDS_LIKE.to_owned()).or_insert_with(|| format!("{bytes:.0}"));
            }
            outcomes.push(one(&scenario, file, &options, &clip, &mut progress)?);
        }
    }
    progress.finish();
    let base = base.unwrap_or(&field[0].0.name);
    let comparison = Comparison::of(outcomes, base);
    how.write(&comparison, || html::comparison(&comparison))?;
    print(&text::comparison(&comparison, io::stdout().is_terminal()));
    Ok(code_of(&comparison.outcomes))
}

/// The variable of a floor that is to put as many bytes into a send as the server that was measured before it did.
const SENDS_LIKE: &str = "bytes_per_send";

fn bytes_per_send(outcome: &Outcome) -> Option<f64> {
    let number = |name: &str| outcome.metrics.get(name).copied().filter(|number| *number > 0.0);
    Some(number("shardcast_sent_bytes_total")? / number("shardcast_sends_total")?)
}

/// What a viewer asked for in a run of a server that knows streams.
fn trace_of(outcome: &Outcome) -> Option<&Trace> {
    let requests = outcome.requests.as_ref().filter(|_| outcome.traffic.publishers > 0)?;
    Some(&requests.trace).filter(|trace| !trace.asked.is_empty())
}

fn one(
    scenario: &Scenario,
    file: &ServerFile,
    options: &Options,
    clip: &Clip,
    progress: &mut Progress,
) -> Result<Outcome, String> {
    measure::run(scenario, file, options, clip, &mut |live| {
        progress.phase(&format!("{}: {}", file.name, live.phase));
        progress.tick(live.viewers, live.gbit, live.cpu);
    })
}

/// A reader that has gone away, as `head` does, is no reason to fail.
fn print(page: &str) {
    let _ = io::stdout().write_all(page.as_bytes());
}

/// 0 when every run counts and found no fault.
fn code_of<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> ExitCode {
    let good = |outcome| matches!(Verdict::of(outcome), Verdict::Passed | Verdict::Unchecked);
    if outcomes.into_iter().all(good) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl How {
    fn change(&self, scenario: &mut Scenario) -> Result<(), String> {
        for word in &self.set {
            let (key, value) = word.split_once('=').ok_or_else(|| format!("--set {word}: KEY=VALUE"))?;
            scenario.set(key, value)?;
        }
        Ok(())
    }

    /// The server's file, and the variables that stand behind its name.
    fn server(&self, word: &str) -> Result<(ServerFile, Vec<(String, String)>), String> {
        let (name, rest) = word.split_once(':').unwrap_or((word, ""));
        let path = match name.ends_with(".toml") {
            true => PathBuf::from(name),
            false => servers_folder().join(format!("{name}.toml")),
        };
        let mut file = ServerFile::load(&path)?;
        let mut variables = Vec::new();
        for word in rest.split(',').filter(|word| !word.is_empty()) {
            let (key, value) = word.split_once('=').ok_or_else(|| format!("{word}: NAME:KEY=VALUE"))?;
            variables.push((key.to_owned(), value.to_owned()));
        }
        if !rest.is_empty() {
            file.name = format!("{} {}", file.name, rest.replace(',', " "));
        }
        Ok((file, variables))
    }

    fn options(&self, scenario: &Scenario) -> Result<Options, String> {
        let allowed = shardcast_io::cpu::allowed();
        let shards = scenario.server.get("shards").and_then(|text| text.parse().ok()).unwrap_or(1usize);
        let cores = match self.server_cores.as_slice() {
            [] => allowed.iter().copied().take(shards.max(1)).collect(),
            cores => cores.to_vec(),
        };
        let load_core = self.load_core.or(allowed.last().copied()).ok_or("this process may use no core")?;
        let wrapper = self.wrap.split_whitespace().map(str::to_owned).collect();
        Ok(Options {
            place: Place { cores, address: self.address.clone(), wrapper },
            load_core,
            attach: None,
            trace: None,
        })
    }

    fn clip(&self) -> Result<Clip, String> {
        match &self.clip {
            None => Ok(Clip::built_in()),
            Some(path) => {
                let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
                Clip::read(&bytes).map_err(|why| format!("{}: {why}", path.display()))
            }
        }
    }

    fn write(&self, result: &impl Serialize, page: impl FnOnce() -> String) -> Result<(), String> {
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(result).map_err(|error| error.to_string())?;
            fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        if let Some(path) = &self.html {
            fs::write(path, page()).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }
}

/// As many descriptors as the system lets us have; servers that we start inherit it.
fn raise_limits() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
