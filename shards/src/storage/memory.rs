//! Objects in memory: for tests, and for what is small and need not outlive the process.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use shardcast_engine::storage::{Object, StorageBackend, StorageError, check_key};

/// Objects in memory.
///
/// ```
/// use shardcast_engine::storage::{StorageBackend as _, StorageError};
/// use shardcast_shards::storage::Memory;
///
/// let storage = Memory::new();
/// storage.put("rec/1.mp4", b"...")?;
/// assert_eq!(storage.get("rec/1.mp4")?, &b"..."[..]);
/// storage.delete("rec/1.mp4")?;
/// assert_eq!(storage.get("rec/1.mp4"), Err(StorageError::NotFound));
/// # Ok::<(), StorageError>(())
/// ```
#[derive(Default)]
pub struct Memory(Mutex<BTreeMap<String, Bytes>>);

impl Memory {
    /// Without an object.
    pub fn new() -> Self {
        Memory::default()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, key: &str, bytes: Bytes) -> Result<(), StorageError> {
        check_key(key)?;
        let mut objects = self.objects();
        if objects.contains_key(key) {
            return Err(StorageError::Exists);
        }
        objects.insert(key.to_owned(), bytes);
        Ok(())
    }
}

impl StorageBackend for Memory {
    fn put(&self, key: &str, bytes: &[u8]) -> Result<(), StorageError> {
        self.keep(key, Bytes::copy_from_slice(bytes))
    }

    fn put_file(&self, key: &str, file: &Path) -> Result<(), StorageError> {
        if self.objects().contains_key(key) {
            return Err(StorageError::Exists);
        }
        let bytes = fs::read(file).map_err(|error| StorageError::Failed(error.to_string()))?;
        self.keep(key, bytes.into())
    }

    fn get(&self, key: &str) -> Result<Bytes, StorageError> {
        self.objects().get(key).cloned().ok_or(StorageError::NotFound)
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.objects().remove(key);
        Ok(())
    }

    fn list(&self, prefix: &str) -> Result<Vec<Object>, StorageError> {
        let objects = self.objects();
        let found = objects.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        Ok(found.map(|(key, bytes)| Object { key: key.clone(), bytes: bytes.len() as u64 }).collect())
    }

    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        Ok(self.objects().contains_key(key))
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({} objects)", self.objects().len())
    }
}
