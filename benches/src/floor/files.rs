//! Files that are there before anybody asks for them, and a web server that has nothing else to do: what it takes to answer
//! requests when every byte of every answer is known.
//!
//! The floor writes one file for each size, whose name is its size, and then becomes the web server that it was told: the same
//! process, so that the server is measured and nothing else. What is asked for when is the load's business, whose viewers
//! repeat what one of a real server asked for.

use std::{fs, io, os::unix::process::CommandExt, path::PathBuf, process::Command};

/// Which files, and who serves them.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where the files are written
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// The size of each file, in bytes
    #[arg(long, value_name = "BYTES,BYTES", value_delimiter = ',', required = true)]
    pub sizes: Vec<u64>,
    /// The web server, in the foreground
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// What all files together may take: far more than the pieces of a minute.
const FILES_BYTES_MAX: u64 = 1 << 30;

/// Writes the files.
///
/// # Errors
/// They are too large together, or the disk does not take them.
pub fn write(options: &Options) -> io::Result<()> {
    let sum = options.sizes.iter().fold(0_u64, |sum, size| sum.saturating_add(*size));
    if sum > FILES_BYTES_MAX {
        let why = format!("files of {sum} bytes, more than the {FILES_BYTES_MAX} that are allowed");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    fs::create_dir_all(&options.dir)?;
    for size in &options.sizes {
        // No two bytes in a row are alike, so that no server finds something to pack.
        let content: Vec<u8> = (0..*size).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect();
        fs::write(options.dir.join(size.to_string()), content)?;
    }
    Ok(())
}

/// Writes the files and becomes the web server. Comes back only when that cannot be started.
///
/// # Errors
/// As [`write()`]; or there is no such program.
pub fn run(options: &Options) -> io::Result<()> {
    write(options)?;
    let (program, words) = options.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let error = Command::new(program).args(words).exec();
    Err(io::Error::new(error.kind(), format!("{program}: {error}")))
}
