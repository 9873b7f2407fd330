//! Where a recording grows until it is whole: files of a folder that one sink has for itself.
//!
//! A file that is being written is called `NAME.part`, one that is whole and waits to be stored `NAME.whole`. Whatever a
//! process leaves behind that ended in between is found by the next sink of the same prefix.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use shardcast_engine::record::{
    Fragment,
    scan::{Depth, Repair, scan},
};

use crate::disk::OnDisk;

/// Bytes that are written at once.
const WINDOW_BYTES: usize = 256 << 10;
/// Sinks that may have the same prefix at the same time.
const SINKS_MAX: u32 = 256;

/// The folder of one sink.
pub(super) struct Spool {
    folder: PathBuf,
    /// Held for as long as this sink lives. The system lets go of it when the process ends, however it ends.
    _lock: File,
}

/// A file that is whole.
pub(super) struct Whole {
    pub path: PathBuf,
    /// What it is to be called, without a folder: `2026-11-22T07-45-00.123Z.mp4`.
    pub name: String,
    pub bytes: u64,
    /// How long it plays, where that is known.
    pub duration: Option<Duration>,
}

impl Spool {
    /// A folder below `root` for a sink of `prefix`, and what others have left there.
    ///
    /// # Errors
    /// There is none and it cannot be made.
    pub fn open(root: &Path, prefix: &str) -> io::Result<(Spool, Vec<Whole>)> {
        // No legal prefix has a colon.
        let of_prefix = root.join(prefix.replace('/', ":"));
        let mut own: Option<(PathBuf, File)> = None;
        let mut left = Vec::new();
        for number in 0..SINKS_MAX {
            let folder = of_prefix.join(number.to_string());
            if own.is_some() && !folder.try_exists()? {
                break;
            }
            fs::create_dir_all(&folder)?;
            let lock = File::create(folder.join("lock"))?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => return Err(error),
            }
            let home = own.as_ref().map_or(&folder, |(home, _)| home);
            take_over(&folder, home, &mut left)?;
            // The first is kept; of the others only what was left there is wanted.
            own.get_or_insert((folder, lock));
        }
        let Some((folder, lock)) = own else {
            return Err(io::Error::other("too many recordings have this prefix at once"));
        };
        left.sort_by(|one, other| one.name.cmp(&other.name));
        Ok((Spool { folder, _lock: lock }, left))
    }

    /// Begins a file.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when another of this name has not been stored yet, or what was wrong.
    pub fn create(&self, name: &str) -> io::Result<File> {
        if self.whole(name).try_exists()? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        File::create_new(self.part(name))
    }

    /// Writes a fragment behind what is there.
    ///
    /// # Errors
    /// What was wrong.
    pub fn append(file: &mut File, fragment: &Fragment) -> io::Result<()> {
        let mut window = vec![0; WINDOW_BYTES.min(fragment.len())];
        let mut written = 0;
        while written < fragment.len() {
            let count = fragment.write_window(written, &mut window);
            file.write_all(&window[..count])?;
            written += count;
        }
        Ok(())
    }

    /// The file is whole and `length` bytes long; `None` when that is nothing.
    ///
    /// # Errors
    /// What was wrong.
    pub fn finish(
        &self,
        name: &str,
        file: &File,
        length: u64,
        duration: Duration,
    ) -> io::Result<Option<Whole>> {
        if length == 0 {
            fs::remove_file(self.part(name))?;
            return Ok(None);
        }
        file.set_len(length)?;
        let path = self.whole(name);
        fs::rename(self.part(name), &path)?;
        Ok(Some(Whole { path, name: name.to_owned(), bytes: length, duration: Some(duration) }))
    }

    fn part(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.part"))
    }

    fn whole(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.whole"))
    }
}

/// Moves what is in `folder` to `home`, and lists it.
fn take_over(folder: &Path, home: &Path, left: &mut Vec<Whole>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let text = entry.file_name().to_string_lossy().into_owned();
        let (name, torn) = match (text.strip_suffix(".whole"), text.strip_suffix(".part")) {
            (Some(name), _) => (name, false),
            (_, Some(name)) => (name, true),
            _ => continue,
        };
        if torn && !mend(&entry.path())? {
            fs::remove_file(entry.path())?;
            continue;
        }
        let path = free_name(home, name)?;
        fs::rename(entry.path(), &path)?;
        let bytes = fs::metadata(&path)?.len();
        left.push(Whole { path, name: name.to_owned(), bytes, duration: None });
    }
    Ok(())
}

/// Cuts off what a crash has left half written. False when nothing is left. Only MP4 says where it was torn; players pass
/// over the torn end of the others.
fn mend(path: &Path) -> io::Result<bool> {
    let file = File::options().read(true).write(true).open(path)?;
    if path.to_string_lossy().ends_with(".mp4.part") {
        match scan(&OnDisk(&file), Depth::Content)?.repair() {
            Repair::None => {}
            Repair::Truncate(length) => file.set_len(length)?,
            Repair::Remove => return Ok(false),
        }
    }
    Ok(file.metadata()?.len() > 0)
}

/// A name in `home` for a whole file that nothing there has.
fn free_name(home: &Path, name: &str) -> io::Result<PathBuf> {
    for number in 0.. {
        let path =
            home.join(if number == 0 { format!("{name}.whole") } else { format!("{name}.{number}.whole") });
        if !path.try_exists()? {
            return Ok(path);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
