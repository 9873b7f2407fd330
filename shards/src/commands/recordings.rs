//! `shardcast recordings`: what is in a directory of recordings, whether it is whole, and making it so.
//!
//! A file that a crash left behind plays as it is; to repair it is to cut off the space that was taken ahead of the
//! writer, and a fragment of which only a part arrived. A file that is being written is never touched.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use shardcast_engine::{
    media::StreamName,
    record::scan::{Depth, Repair, Report, Tail, scan},
};

use super::{EXIT_DONE, EXIT_FAILED, say};
use crate::{
    cli::{RecordingsArgs, RecordingsTask},
    config::units::about_size,
    disk::OnDisk,
};

/// Does what was asked with each recording of the directory.
pub fn run(args: &RecordingsArgs) -> ExitCode {
    let (RecordingsTask::List { dir } | RecordingsTask::Verify { dir } | RecordingsTask::Repair { dir }) =
        &args.task;
    let files = match find(dir) {
        Ok(files) => files,
        Err(error) => {
            eprintln!("{}: {error}", dir.display());
            return ExitCode::from(EXIT_FAILED);
        }
    };
    let mut sound = true;
    for file in &files {
        let shown = file.strip_prefix(dir).unwrap_or(file).display();
        let done = match &args.task {
            RecordingsTask::List { .. } => list(file).map(|text| (true, text)),
            RecordingsTask::Verify { .. } => verify(file),
            RecordingsTask::Repair { .. } => repair(file),
        };
        match done {
            Ok((good, text)) => {
                say(format_args!("{shown}  {text}\n"));
                sound &= good;
            }
            Err(error) => {
                say(format_args!("{shown}  cannot be read: {error}\n"));
                sound = false;
            }
        }
    }
    ExitCode::from(if sound { EXIT_DONE } else { EXIT_FAILED })
}

/// Every `APP/STREAM/*.mp4` below `dir`, in order. Links are not followed: they may lead out of it.
fn find(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for app in entries(dir, fs::FileType::is_dir)? {
        for stream in entries(&app, fs::FileType::is_dir)? {
            let (Some(app), Some(name)) = (name(&app), name(&stream)) else { continue };
            if StreamName::new(app, name).is_err() {
                continue;
            }
            let of_stream = entries(&stream, fs::FileType::is_file)?;
            files.extend(
                of_stream.into_iter().filter(|file| file.extension().is_some_and(|end| end == "mp4")),
            );
        }
    }
    Ok(files)
}

fn entries(dir: &Path, wanted: impl Fn(&fs::FileType) -> bool) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if wanted(&entry.file_type()?) {
            paths.push(entry.path());
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

fn list(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    let report = scan(&OnDisk(&file), Depth::Heads)?;
    let mut text = describe(&report);
    if in_use(&file)? {
        text.push_str("  being written");
    } else if !report.is_sound() {
        text.push_str("  not whole");
    }
    Ok(text)
}

fn verify(path: &Path) -> io::Result<(bool, String)> {
    let file = File::open(path)?;
    if in_use(&file)? {
        return Ok((true, "being written".to_owned()));
    }
    let report = scan(&OnDisk(&file), Depth::Content)?;
    let verdict = if report.is_sound() { "whole".to_owned() } else { complaints(&report) };
    Ok((report.is_sound(), format!("{}  {verdict}", describe(&report))))
}

fn repair(path: &Path) -> io::Result<(bool, String)> {
    let file = File::options().read(true).write(true).open(path)?;
    if in_use(&file)? {
        return Ok((true, "being written, left alone".to_owned()));
    }
    let report = scan(&OnDisk(&file), Depth::Content)?;
    match report.repair() {
        Repair::None if report.is_sound() => Ok((true, "whole".to_owned())),
        Repair::None => Ok((false, format!("cannot be repaired: {}", complaints(&report)))),
        Repair::Truncate(length) => {
            file.set_len(length)?;
            file.sync_all()?;
            Ok((
                true,
                format!("cut from {} to {} bytes, plays {}", report.size, length, clock(report.duration)),
            ))
        }
        Repair::Remove => {
            fs::remove_file(path)?;
            Ok((true, format!("removed: nothing in its {} bytes can be played", report.size)))
        }
    }
}

/// True while a server holds its lock on the file. The lock ends with that process, however it ends.
fn in_use(file: &File) -> io::Result<bool> {
    match file.try_lock_shared() {
        Ok(()) => file.unlock().map(|()| false),
        Err(TryLockError::WouldBlock) => Ok(true),
        // Without locks nothing can be known; a server on such a file system is not told apart from none.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn describe(report: &Report) -> String {
    let tracks: Vec<&str> = report.tracks.iter().map(|track| track.codec.as_str()).collect();
    let tracks = if tracks.is_empty() { "no tracks".to_owned() } else { tracks.join("+") };
    format!("{}  {}  {tracks}", clock(report.duration), about_size(report.size))
}

fn complaints(report: &Report) -> String {
    let mut all: Vec<String> =
        report.findings.iter().map(|finding| format!("{} at byte {}", finding.what, finding.at)).collect();
    if report.tail == Tail::Zeros {
        all.push(format!("{} zero bytes at the end", report.size - report.valid));
    }
    all.join(", ")
}

/// `1:02:03.4`.
fn clock(duration: Duration) -> String {
    let tenths = duration.as_millis() / 100;
    let seconds = tenths / 10;
    format!("{}:{:02}:{:02}.{}", seconds / 3600, seconds / 60 % 60, seconds % 60, tenths % 10)
}
