//! `shardcast doctor`: what this machine lacks, and the remedy.

use std::{io, path::Path, process::ExitCode};

use shardcast_io::{
    file, ktls,
    ring::{Ring, RingConfig},
};

use super::{EXIT_DONE, EXIT_FAILED, say};
use crate::{
    cli::DoctorArgs,
    config::Config,
    doctor::{Disk, Machine, Weight, judge_disk, judge_kernel_tls},
};

/// Prints every finding.
pub fn run(args: &DoctorArgs) -> ExitCode {
    let shards = args.shards.unwrap_or_else(|| Config::default().shard_count());
    let mut findings = Machine::this().examine(shards, &try_ring());
    findings.push(judge_kernel_tls(ktls::refusal().as_ref()));
    if let Some(dir) = &args.record {
        findings.extend(judge_disk(dir, &try_disk(dir)));
    }
    for finding in &findings {
        say(format_args!("{finding}\n"));
    }
    let stopped = findings.iter().any(|finding| finding.weight == Weight::Stop);
    ExitCode::from(if stopped { EXIT_FAILED } else { EXIT_DONE })
}

/// Makes a ring as a shard does, and lets it go.
fn try_ring() -> io::Result<()> {
    Ring::new(&RingConfig::default()).map(drop)
}

/// Makes a file as a recording is made, and removes it. A directory that is not there yet is judged by the one it would
/// be made in.
fn try_disk(dir: &Path) -> io::Result<Disk> {
    let mut there = dir;
    while !there.exists() {
        there = match there.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
    }
    let path = there.join(format!(".shardcast-doctor-{}", std::process::id()));
    let created = file::create(&path)?;
    // A length of 0 removes it.
    file::close(created.file, &path, 0, false)?;
    Ok(Disk { direct: created.direct, available: file::space(there)?.available })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_tried_and_left_as_it_was() {
        let dir = std::env::temp_dir().join(format!("shardcast-doctor-trial-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let disk = try_disk(&dir.join("not/yet/there")).unwrap();
        assert!(disk.available > 0, "{disk:?}");
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
        std::fs::remove_dir(&dir).unwrap();
        assert!(try_disk(Path::new("/proc/shardcast")).is_err());
    }
}
