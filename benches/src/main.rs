//! The binary `shardcast-bench`: see the crate's documentation, `shardcast-bench --help` and `benches/README.md`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    shardcast_bench::cli::main()
}
