//! `shardcast doctor`: what this machine lacks, and the remedy.

use std::{io, process::ExitCode};

use shardcast_io::ring::{Ring, RingConfig};

use super::{EXIT_DONE, EXIT_FAILED};
use crate::{
    cli::DoctorArgs,
    config::Config,
    doctor::{Machine, Weight},
};

/// Prints every finding.
pub fn run(args: &DoctorArgs) -> ExitCode {
    let shards = args.shards.unwrap_or_else(|| Config::default().shard_count());
    let findings = Machine::this().examine(shards, &try_ring());
    for finding in &findings {
        println!("{finding}");
    }
    let stopped = findings.iter().any(|finding| finding.weight == Weight::Stop);
    ExitCode::from(if stopped { EXIT_FAILED } else { EXIT_DONE })
}

/// Makes a ring as a shard does, and lets it go.
fn try_ring() -> io::Result<()> {
    Ring::new(&RingConfig::default()).map(drop)
}
