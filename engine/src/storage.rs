//! Where finished things go: objects under keys, in a folder, in memory, or in whatever a host brings.

use std::{fmt, path::Path};

use bytes::Bytes;

/// Keeps objects under keys.
///
/// Its methods may take their time and may fail: they are called on threads that have nothing else to do, never on a
/// shard. An object is there whole or not at all, whatever happens meanwhile, and none is ever overwritten.
///
/// A key is legal as [`check_key`] says: a path of parts with slashes between them.
///
/// ```
/// # use std::path::Path;
/// # use bytes::Bytes;
/// # use shardcast_engine::storage::{Object, StorageBackend, StorageError, check_key};
/// /// Keeps nothing.
/// struct Nowhere;
///
/// impl StorageBackend for Nowhere {
///     fn put(&self, key: &str, _: &[u8]) -> Result<(), StorageError> { check_key(key) }
///     fn put_file(&self, key: &str, _: &Path) -> Result<(), StorageError> { check_key(key) }
///     fn get(&self, _: &str) -> Result<Bytes, StorageError> { Err(StorageError::NotFound) }
///     fn delete(&self, _: &str) -> Result<(), StorageError> { Ok(()) }
///     fn list(&self, _: &str) -> Result<Vec<Object>, StorageError> { Ok(Vec::new()) }
///     fn exists(&self, _: &str) -> Result<bool, StorageError> { Ok(false) }
/// }
/// # assert_eq!(Nowhere.put("rec/a.mp4", b"..."), Ok(()));
/// ```
pub trait StorageBackend: Send + Sync {
    /// Keeps bytes.
    ///
    /// # Errors
    /// [`StorageError::Exists`] when there is an object of this key; nothing has changed then.
    fn put(&self, key: &str, bytes: &[u8]) -> Result<(), StorageError>;

    /// Keeps a file, which may be larger than memory. The backend may move it; when this returns without an error, whoever
    /// gave the file needs it no more.
    ///
    /// # Errors
    /// As [`put`](Self::put); the file is still there then.
    fn put_file(&self, key: &str, file: &Path) -> Result<(), StorageError>;

    /// An object's bytes.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], or what was wrong.
    fn get(&self, key: &str) -> Result<Bytes, StorageError>;

    /// Removes an object. One that is not there is no error.
    ///
    /// # Errors
    /// What was wrong.
    fn delete(&self, key: &str) -> Result<(), StorageError>;

    /// The objects whose keys begin with `prefix`, ordered by key.
    ///
    /// # Errors
    /// What was wrong.
    fn list(&self, prefix: &str) -> Result<Vec<Object>, StorageError>;

    /// Whether there is an object of this key.
    ///
    /// # Errors
    /// What was wrong.
    fn exists(&self, key: &str) -> Result<bool, StorageError>;
}

/// An object, as [`StorageBackend::list`] finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its key.
    pub key: String,
    /// Its length.
    pub bytes: u64,
}

/// Why a storage did not do what was asked.
///
/// ```
/// use shardcast_engine::storage::{StorageBackend, StorageError};
///
/// /// Keeps bytes unless somebody has done so already.
/// fn keep(storage: &dyn StorageBackend, key: &str, bytes: &[u8]) -> Result<(), StorageError> {
///     match storage.put(key, bytes) {
///         Err(StorageError::Exists) => Ok(()),
///         kept => kept,
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageError {
    /// There is an object of this key already.
    Exists,
    /// There is no object of this key.
    NotFound,
    /// The key is not legal; why.
    IllegalKey(&'static str),
    /// Anything else, as the storage says it.
    Failed(String),
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StorageError::Exists => f.write_str("there is an object of this key already"),
            StorageError::NotFound => f.write_str("there is no object of this key"),
            StorageError::IllegalKey(why) => write!(f, "the key {why}"),
            StorageError::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for StorageError {}

/// The longest key.
pub const KEY_BYTES_MAX: usize = 1024;

/// Looks whether a key is legal: parts with single slashes between them, none of which begins with a dot, of characters
/// that every file system and every object store takes; [`KEY_BYTES_MAX`] bytes at most.
///
/// ```
/// use shardcast_engine::storage::{KEY_BYTES_MAX, StorageError, check_key};
///
/// assert_eq!(check_key("rec/live/cam/2026-11-22T07-45-00.123Z.mp4"), Ok(()));
/// assert!(matches!(check_key("../etc/passwd"), Err(StorageError::IllegalKey(_))));
/// let longest = "x".repeat(KEY_BYTES_MAX);
/// assert!(check_key(&longest).is_ok() && check_key(&format!("{longest}x")).is_err());
/// ```
///
/// # Errors
/// [`StorageError::IllegalKey`].
pub fn check_key(key: &str) -> Result<(), StorageError> {
    let illegal = |why| Err(StorageError::IllegalKey(why));
    if key.len() > KEY_BYTES_MAX {
        return illegal("is too long");
    }
    if key.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
        return illegal("has an empty part, or one that begins with a dot");
    }
    if key.chars().any(|character| {
        character.is_control() || matches!(character, '\\' | ':' | '?' | '*' | '"' | '<' | '>' | '|')
    }) {
        return illegal("has a character that not every storage takes");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_could_leave_their_folder_are_illegal() {
        for legal in ["a", "rec/live/cam/2026-11-22T07-45-00.123Z.mp4", "a b/\u{e9}"] {
            assert_eq!(check_key(legal), Ok(()), "{legal}");
        }
        let long = "x".repeat(KEY_BYTES_MAX + 1);
        for bad in ["", "/a", "a/", "a//b", "..", "a/../b", "a/.hidden", "a\\b", "a\nb", "a:b", &long] {
            assert!(check_key(bad).is_err(), "{bad:?}");
        }
    }
}
