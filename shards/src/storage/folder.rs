//! Objects as files below a folder: the key is the path.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use shardcast_engine::storage::{Object, StorageBackend, StorageError, check_key};

/// Objects as files below a folder.
///
/// An object is written beside its place under a name of its own, forced to the disk, and then given its name in one step,
/// which fails when the name is taken. Files whose names begin with a dot are no objects.
///
/// ```
/// use shardcast_engine::storage::{StorageBackend as _, StorageError};
/// use shardcast_shards::storage::Folder;
///
/// # let root = std::env::temp_dir().join(format!("shardcast-doc-folder-{}", std::process::id()));
/// let storage = Folder::new(&root)?;
/// storage.put("rec/live/cam/1.mp4", b"...")?;
/// assert_eq!(storage.path("rec/live/cam/1.mp4")?, root.join("rec/live/cam/1.mp4"));
/// // Nothing is ever overwritten.
/// assert_eq!(storage.put("rec/live/cam/1.mp4", b"other"), Err(StorageError::Exists));
/// assert_eq!(storage.list("rec/live/")?.len(), 1);
/// # std::fs::remove_dir_all(root)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
}

/// Numbers the files that are being written by this process.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

impl Folder {
    /// The objects below `root`, which is made when there is none.
    ///
    /// # Errors
    /// It is not there and cannot be made.
    pub fn new(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        fs::create_dir_all(&root)?;
        Ok(Folder { root })
    }

    /// Where the object of this key is, or would be.
    ///
    /// # Errors
    /// [`StorageError::IllegalKey`].
    pub fn path(&self, key: &str) -> Result<PathBuf, StorageError> {
        check_key(key)?;
        Ok(self.root.join(key))
    }

    /// Has `write` make a file beside the object's place, then gives it the object's name.
    fn keep(&self, key: &str, write: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), StorageError> {
        let path = self.path(key)?;
        let folder = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder).map_err(failed)?;
        if path.exists() {
            return Err(StorageError::Exists);
        }
        let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
        let beside = folder.join(format!(".{}-{number}", std::process::id()));
        let kept = write(&beside).and_then(|()| name_it(&beside, &path));
        // Under its own name it is another link, or it is of no use.
        let _ = fs::remove_file(&beside);
        kept.map_err(failed)?;
        // So that a crash does not take the name away again.
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }

    fn find(&self, folder: &Path, found: &mut Vec<Object>) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let (name, kind) = (entry.file_name(), entry.file_type()?);
            if name.to_string_lossy().starts_with('.') {
                continue;
            }
            if kind.is_dir() {
                self.find(&entry.path(), found)?;
            } else if kind.is_file()
                && let Ok(key) = entry.path().strip_prefix(&self.root)
                && let Some(key) = key.to_str()
            {
                found.push(Object { key: key.to_owned(), bytes: entry.metadata()?.len() });
            }
        }
        Ok(())
    }
}

impl StorageBackend for Folder {
    fn put(&self, key: &str, bytes: &[u8]) -> Result<(), StorageError> {
        self.keep(key, |beside| {
            fs::write(beside, bytes)?;
            File::open(beside)?.sync_all()
        })
    }

    fn put_file(&self, key: &str, file: &Path) -> Result<(), StorageError> {
        self.keep(key, |beside| {
            // On the same file system nothing is copied.
            match fs::hard_link(file, beside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => fs::copy(file, beside).map(drop)?,
                linked => linked?,
            }
            File::open(beside)?.sync_all()
        })
    }

    fn get(&self, key: &str) -> Result<Bytes, StorageError> {
        fs::read(self.path(key)?).map(Bytes::from).map_err(failed)
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        match fs::remove_file(self.path(key)?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(failed),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<Object>, StorageError> {
        // Only what can hold such keys is walked.
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let folder = if folder.is_empty() { self.root.clone() } else { self.path(folder)? };
        let mut found = Vec::new();
        match self.find(&folder, &mut found) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            walked => walked.map_err(failed)?,
        }
        found.retain(|object| object.key.starts_with(prefix));
        found.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(found)
    }

    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        self.path(key)?.try_exists().map_err(failed)
    }
}

/// Gives the file at `from` the name `to`, unless that is taken.
fn name_it(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        // A file system without links: the name is taken first, and what it names is replaced in one step.
        Err(error) if !matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
            File::create_new(to)?;
            fs::rename(from, to)
        }
        named => named,
    }
}

fn failed(error: io::Error) -> StorageError {
    match error.kind() {
        io::ErrorKind::AlreadyExists => StorageError::Exists,
        io::ErrorKind::NotFound => StorageError::NotFound,
        _ => StorageError::Failed(error.to_string()),
    }
}
