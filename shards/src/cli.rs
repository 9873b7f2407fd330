//! The command line. What each command does stands in [`commands`](crate::commands).

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, LogFormat};

/// Live media in by RTMP, out by RTMP and HTTP-FLV to thousands of viewers, recorded as it passes.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "shardcast",
    version,
    about,
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    /// What to do; `serve` when nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The arguments of `serve` may stand alone.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Serve (what happens without a command, too)
    Serve(ServeArgs),
    /// Read the config, say what would run and what it may cost
    Check(CheckArgs),
    /// Look at this machine: what it lacks, and the remedy
    Doctor(DoctorArgs),
    /// Make a certificate that this machine signs itself, for https, RTMPS and RTSPS
    Cert(CertArgs),
    /// Look after a directory of recordings
    Recordings(RecordingsArgs),
}

/// Arguments of `serve`.
#[derive(Clone, Debug, Default, Args)]
pub struct ServeArgs {
    /// The config file; the defaults without one
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Threads that each own one core; one for every core without it
    #[arg(long, value_name = "N")]
    pub shards: Option<usize>,
    /// Address that the media doors listen on
    #[arg(long, value_name = "ADDR")]
    pub bind: Option<IpAddr>,
    /// Record every stream into this directory
    #[arg(long, value_name = "DIR")]
    pub record: Option<PathBuf>,
    /// Publish a built-in clip as live/demo
    #[arg(long)]
    pub demo: bool,
    /// How log lines are written
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub log: Option<LogFormat>,
}

impl ServeArgs {
    /// Puts what was said here over what `config` says.
    pub fn beat(&self, config: &mut Config) {
        if let Some(shards) = self.shards {
            config.shards = shards;
        }
        if let Some(bind) = self.bind {
            config.bind = bind;
        }
        if let Some(dir) = &self.record {
            config.record_all(dir.clone());
        }
        if let Some(format) = self.log {
            config.log.format = format;
        }
    }
}

/// Arguments of `check`.
#[derive(Clone, Debug, Default, Args)]
pub struct CheckArgs {
    /// The config file; the defaults without one
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Arguments of `doctor`.
#[derive(Clone, Debug, Default, Args)]
pub struct DoctorArgs {
    /// Shards that are to run; one for every core without it
    #[arg(long, value_name = "N")]
    pub shards: Option<usize>,
    /// Directory that is to be recorded into
    #[arg(long, value_name = "DIR")]
    pub record: Option<PathBuf>,
}

/// Arguments of `cert`.
#[derive(Clone, Debug, Args)]
pub struct CertArgs {
    /// Name or address that peers reach this machine by, one for each time it is given; without it those of loopback
    #[arg(long = "host", value_name = "NAME")]
    pub hosts: Vec<String>,
    /// Directory for certificate.pem and key.pem
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    /// Replace the files that are there
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `recordings`.
#[derive(Clone, Debug, Args)]
pub struct RecordingsArgs {
    /// What to do.
    #[command(subcommand)]
    pub task: RecordingsTask,
}

/// What to do with recordings.
#[derive(Clone, Debug, Subcommand)]
pub enum RecordingsTask {
    /// Every recording: how long, how large, which codecs
    List {
        /// The directory above APP/STREAM/
        dir: PathBuf,
    },
    /// Read every byte and say what is not whole; exit 1 when something is not
    Verify {
        /// The directory above APP/STREAM/
        dir: PathBuf,
    },
    /// Cut off what a crash left unfinished at the end of files
    Repair {
        /// The directory above APP/STREAM/
        dir: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_is_what_happens_without_a_command() {
        let cli = Cli::try_parse_from(["shardcast"]).unwrap();
        assert!(cli.command.is_none() && !cli.serve.demo);
        let cli = Cli::try_parse_from(["shardcast", "--demo", "--shards", "3"]).unwrap();
        assert!(cli.command.is_none() && cli.serve.demo && cli.serve.shards == Some(3));
        assert!(Cli::try_parse_from(["shardcast", "--demo", "check"]).is_err());
        assert!(Cli::try_parse_from(["shardcast", "recordings", "list"]).is_err());
        assert!(Cli::try_parse_from(["shardcast", "serve", "--bind", "localhost"]).is_err());
    }

    #[test]
    fn flags_beat_the_file() {
        let mut config = Config { shards: 1, ..Config::default() };
        let line =
            ["shardcast", "serve", "--shards", "2", "--bind", "::1", "--record", "/srv/rec", "--log", "json"];
        let Some(Command::Serve(args)) = Cli::try_parse_from(line).unwrap().command else {
            panic!("no serve")
        };
        args.beat(&mut config);
        assert_eq!((config.shards, config.bind.to_string().as_str()), (2, "::1"));
        assert!(config.stream.record && config.record.dir == *"/srv/rec");
        assert_eq!(config.log.format, LogFormat::Json);
        let unchanged = config.clone();
        ServeArgs::default().beat(&mut config);
        assert_eq!(config, unchanged);
    }
}
