//! What a server recorded: every picture that was published must be found in its files, with the bytes it had.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use shardcast_engine::fmp4::demux::{BoxHead, Fragment, Movie};

use crate::stamp::Stamp;

/// What stands in a folder of recordings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Files.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// The numbers of the whole pictures of each stream, by the name of the stream's folder.
    pub pictures: BTreeMap<String, BTreeSet<u64>>,
    /// What could not be read, in words.
    pub unreadable: Vec<String>,
}

/// Bytes of all files below a folder; 0 when there is none.
pub fn bytes_below(folder: &Path) -> u64 {
    files_below(folder).iter().filter_map(|path| Some(path.metadata().ok()?.len())).sum()
}

/// Reads every fragmented MP4 file below a folder.
pub fn read(folder: &Path) -> Found {
    let mut found = Found::default();
    for path in files_below(folder) {
        let stream =
            path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        let numbers = found.pictures.entry(stream).or_default();
        match fs::read(&path).and_then(|bytes| Ok((numbers_of(&bytes)?, bytes.len()))) {
            Ok((pictures, length)) => {
                numbers.extend(pictures);
                found.files += 1;
                found.bytes += length as u64;
            }
            Err(error) => found.unreadable.push(format!("{}: {error}", path.display())),
        }
    }
    found
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "mp4") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The numbers of the whole pictures of a file.
fn numbers_of(file: &[u8]) -> io::Result<Vec<u64>> {
    let bad = |error: shardcast_engine::error::Error| io::Error::other(error.to_string());
    let (mut at, mut movie, mut numbers) = (0, Movie::default(), Vec::new());
    while at < file.len() {
        let head = BoxHead::parse(&file[at..]).map_err(bad)?;
        let end = head.len.and_then(|length| at.checked_add(length as usize)).unwrap_or(file.len());
        let content = file
            .get(at + head.head_len as usize..end)
            .ok_or_else(|| io::Error::other(format!("a box at {at} reaches past the end of the file")))?;
        match &head.kind.0 {
            b"moov" => movie = Movie::parse(content).map_err(bad)?,
            b"moof" => {
                for sample in Fragment::parse(&movie, content, at as u64).map_err(bad)?.samples {
                    let range = sample.offset as usize..sample.offset as usize + sample.size as usize;
                    if let Some((stamp, true)) = file.get(range).and_then(Stamp::read) {
                        numbers.push(stamp.number);
                    }
                }
            }
            _ => {}
        }
        at = end;
    }
    Ok(numbers)
}
