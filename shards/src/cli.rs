//! The command line. What each command does stands in [`commands`](crate::commands).

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Live media in by RTMP, out by RTMP and HTTP-FLV to thousands of viewers, recorded as it passes.
#[derive(Clone, Debug, Parser)]
#[command(name = "shardcast", version, about, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Read the config, say what would run and what it may cost
    Check(CheckArgs),
    /// Look at this machine: what it lacks, and the remedy
    Doctor(DoctorArgs),
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
}
