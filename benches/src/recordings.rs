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

impl Found {
    /// How many of the first `pictures` pictures of a stream are there.
    pub fn of_first(&self, stream: &str, pictures: u64) -> u64 {
        self.pictures.get(stream).map_or(0, |numbers| numbers.range(..pictures).count() as u64)
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use shardcast_engine::{
        record::{Output, Recorder, Settings},
        time::{Now, Wall},
    };

    use crate::clip::{Clip, Playback};

    /// A folder that goes with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Folder {
            let name =
                format!("shardcast-bench-test-{}-{}", std::process::id(), shardcast_io::clock::monotonic());
            Folder(std::env::temp_dir().join(name))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Does at once what the recorder asks for.
    fn serve(recorder: &mut Recorder, folder: &Path, paths: &mut Vec<PathBuf>, now: Now) {
        while let Some(output) = recorder.poll() {
            match output {
                Output::Open { segment, path, .. } => {
                    let path = folder.join(path);
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(&path, []).unwrap();
                    paths.push(path);
                    recorder.opened(segment, Ok(4096), now);
                }
                Output::Append { segment, offset, fragment } => {
                    let path = paths.last().unwrap();
                    let mut file = fs::read(path).unwrap();
                    assert_eq!(file.len() as u64, offset);
                    let mut bytes = vec![0; fragment.len()];
                    fragment.write_into(&mut bytes);
                    file.extend(bytes);
                    fs::write(path, file).unwrap();
                    recorder.appended(segment, Ok(()), now);
                }
                Output::Finish { segment, .. } => recorder.finished(segment, Ok(())),
                Output::Alarm { .. } | Output::Gap { .. } => panic!("nothing failed: {output:?}"),
            }
        }
    }

    /// Records so many pictures of the clip but one, in segments of two seconds.
    fn record(folder: &Path, pictures: u64, left_out: Option<u64>) -> Vec<PathBuf> {
        let mut playback = Playback::new(Clip::built_in().at_bitrate(1_000_000).unwrap());
        let settings = Settings { segment: Duration::from_secs(2), ..Settings::default() };
        let mut recorder = Recorder::new("live/bench0", &settings);
        let mut paths = Vec::new();
        for frame in &playback.clip().opening().parameters.clone() {
            recorder.frame(frame, Now(0), Wall(1_795_333_500_000_000_000));
        }
        while playback.pictures() < pictures {
            let (due, number) = (playback.due(), playback.pictures());
            let frame = playback.take(due);
            if !(frame.is_video() && left_out == Some(number)) {
                recorder.frame(&frame, Now(due), Wall(1_795_333_500_000_000_000 + due));
            }
            serve(&mut recorder, folder, &mut paths, Now(due));
        }
        recorder.finish(Now(playback.due()));
        serve(&mut recorder, folder, &mut paths, Now(playback.due()));
        assert!(recorder.is_done());
        paths
    }

    #[test]
    fn exactly_the_picture_that_was_not_recorded_is_missing() {
        let folder = Folder::new();
        let files = record(&folder.0, 150, Some(77));
        let found = read(&folder.0);
        assert_eq!(found.unreadable, [""; 0]);
        assert_eq!((found.files, files.len() > 1), (files.len() as u64, true));
        assert_eq!(found.bytes, bytes_below(&folder.0));
        let all: BTreeSet<u64> = (0..150).filter(|number| *number != 77).collect();
        assert_eq!(found.pictures["bench0"], all);
        assert_eq!(found.of_first("bench0", 150), 149);
        assert_eq!(found.of_first("bench0", 77), 77);
        assert_eq!(found.of_first("another", 150), 0);
    }

    #[test]
    fn a_damaged_picture_is_missing_and_a_torn_file_is_told() {
        let folder = Folder::new();
        let files = record(&folder.0, 60, None);
        assert_eq!(read(&folder.0).of_first("bench0", 60), 60);
        let mut bytes = fs::read(&files[0]).unwrap();
        // Filler of the first key frame, behind the file's head and the stamp.
        let filler = bytes.windows(64).position(|window| window == [0xff; 64]).unwrap();
        bytes[filler] = 0;
        fs::write(&files[0], &bytes).unwrap();
        let found = read(&folder.0);
        assert_eq!(found.of_first("bench0", 60), 59);
        fs::write(&files[0], &bytes[..bytes.len() / 2]).unwrap();
        let found = read(&folder.0);
        assert_eq!(found.unreadable.len(), 1, "{:?}", found.unreadable);
        assert!(found.of_first("bench0", 60) < 59);
    }
}
