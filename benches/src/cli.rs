//! The command line of `shardcast-bench`.

use std::{
    fs,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};

use crate::{
    clip::Clip,
    measure::{self, Options},
    outcome::Outcome,
    scenario::{BUILT_IN, Scenario},
    server::{Place, ServerFile},
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
        Command::Run { scenario, server, how } => run(&scenario, &server, &how),
        Command::Compare { scenario, servers, rounds, base, how } => {
            compare(&scenario, &servers, rounds, base.as_deref(), &how)
        }
        Command::Scenarios => list(),
    };
    match result {
        Ok(code) => code,
        Err(why) => {
            eprintln!("shardcast-bench: {why}");
            ExitCode::from(2)
        }
    }
}

fn list() -> Result<ExitCode, String> {
    for (name, _) in BUILT_IN {
        println!("{name:<14} {}", Scenario::load(name)?.about);
    }
    Ok(ExitCode::SUCCESS)
}

fn run(scenario: &str, server: &str, how: &How) -> Result<ExitCode, String> {
    let mut scenario = Scenario::load(scenario)?;
    how.change(&mut scenario)?;
    let (file, variables) = how.server(server)?;
    scenario.server.extend(variables);
    let options = how.options(&scenario)?;
    raise_limits();
    file.prepare(&options.place)?;
    let outcome = one(&scenario, &file, &options, &how.clip()?)?;
    how.write(&serde_json::to_string_pretty(&outcome).map_err(|error| error.to_string())?)?;
    println!("{outcome:#?}");
    Ok(verdict(std::slice::from_ref(&outcome)))
}

fn one(scenario: &Scenario, file: &ServerFile, options: &Options, clip: &Clip) -> Result<Outcome, String> {
    let terminal = io::stderr().is_terminal();
    measure::run(scenario, file, options, clip, &mut |live| {
        let end = if terminal { "\r" } else { "\n" };
        eprint!("{} {} viewers {:.2} Gbit/s {:.2}{end}", live.phase, live.viewers, live.gbit, live.cpu);
        let _ = io::stderr().flush();
    })
}

fn compare(
    _scenario: &str,
    _servers: &[String],
    _rounds: usize,
    _base: Option<&str>,
    _how: &How,
) -> Result<ExitCode, String> {
    Err("".into())
}

fn verdict(outcomes: &[Outcome]) -> ExitCode {
    let good = outcomes.iter().all(|outcome| outcome.void.is_empty());
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
            false => Path::new(env!("CARGO_MANIFEST_DIR")).join("servers").join(format!("{name}.toml")),
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
        Ok(Options { place: Place { cores, address: self.address.clone(), wrapper }, load_core })
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

    fn write(&self, json: &str) -> Result<(), String> {
        if let Some(path) = &self.json {
            fs::write(path, json).map_err(|error| format!("{}: {error}", path.display()))?;
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
