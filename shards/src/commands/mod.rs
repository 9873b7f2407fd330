//! The commands of the binary, one file each.

use std::{io::Write, process::ExitCode};

use crate::{
    cli::{Cli, Command},
    config::Fault,
};

pub mod cert;
pub mod check;
pub mod doctor;
pub mod recordings;
pub mod serve;

/// It ended as asked.
pub const EXIT_DONE: u8 = 0;
/// It failed while it ran.
pub const EXIT_FAILED: u8 = 1;
/// The arguments or the config are wrong. (clap ends with the same code.)
pub const EXIT_USAGE: u8 = 2;

/// Does what the command line asks for.
pub fn run(cli: Cli) -> ExitCode {
    match cli.command {
        None => serve::run(&cli.serve),
        Some(Command::Serve(args)) => serve::run(&args),
        Some(Command::Check(args)) => check::run(&args),
        Some(Command::Doctor(args)) => doctor::run(&args),
        Some(Command::Cert(args)) => cert::run(&args),
        Some(Command::Recordings(args)) => recordings::run(&args),
    }
}

/// Prints for whoever asked. A reader that has heard enough (`| head`) is no fault.
fn say(text: std::fmt::Arguments<'_>) {
    let _ = std::io::stdout().write_fmt(text);
}

/// Says what is wrong with the config.
fn refuse(faults: &[Fault]) -> ExitCode {
    for fault in faults {
        eprintln!("{fault}");
    }
    ExitCode::from(EXIT_USAGE)
}
