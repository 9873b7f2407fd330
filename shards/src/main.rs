//! The binary `shardcast`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use shardcast_shards::{cli::Cli, commands};

fn main() -> ExitCode {
    commands::run(Cli::parse())
}
