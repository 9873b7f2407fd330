//! The binary `shardcast`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use shardcast_io::heap::{self, Heap};
use shardcast_shards::{cli::Cli, commands};

// The binary alone chooses: whoever embeds the library keeps the heap of their own.
#[global_allocator]
static HEAP: Heap = Heap;

fn main() -> ExitCode {
    heap::keep_freed_memory();
    commands::run(Cli::parse())
}
