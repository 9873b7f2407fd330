//! Carries what is whole to the storage, on a thread of its own: the storage may take its time, fail, or never answer, and
//! whoever records does not wait for it.

use std::{
    collections::VecDeque,
    fmt, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use shardcast_engine::{
    limits,
    storage::{StorageBackend, StorageError},
    time::Wall,
};

use super::spool::{Spool, Whole};

/// How long the storage is tried for after the recording is over. What it does not take by then stays in the spool, for
/// the next recording of the same prefix.
const LAST_TRIES: Duration = Duration::from_secs(60);

/// What has become of a recording.
///
/// ```
/// use shardcast_shards::storage::RecordingEvent;
///
/// fn alarms(event: &RecordingEvent) -> bool {
///     // The rest is what happens when all is well.
///     !matches!(event, RecordingEvent::Stored { .. } | RecordingEvent::Over)
/// }
/// # let event = RecordingEvent::Failing { key: "rec/1.mp4".into(), why: "no route".into() };
/// # assert!(alarms(&event) && event.to_string().contains("no route"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordingEvent {
    /// A segment is in the storage.
    Stored {
        /// Under this key.
        key: String,
        /// Its length.
        bytes: u64,
        /// How long it plays; `None` for one that an earlier process left behind.
        duration: Option<Duration>,
    },
    /// The storage refused a segment. It is kept and tried again, and again; this is told once until the storage takes
    /// something.
    Failing {
        /// What is kept.
        key: String,
        /// What the storage said.
        why: String,
    },
    /// Frames could not be kept: the spool's disk failed, or more waits for the storage than may.
    Gap {
        /// When the first of them came.
        from: Wall,
        /// When one came that was kept again, or the recording was over.
        to: Wall,
        /// How many.
        frames: u64,
    },
    /// The recording came too late for a part of the stream, which the node keeps for so long and no longer.
    Jumped,
    /// The recording is over, and what could be stored is. The last event of a sink that was dropped.
    Over,
    /// The recording is over, and the storage has not taken this in time. The next recording of this prefix stores it.
    Left {
        /// Where it is.
        file: PathBuf,
        /// What it was to be called.
        key: String,
    },
}

impl fmt::Display for RecordingEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordingEvent::Stored { key, bytes, .. } => write!(f, "stored {key}, {bytes} bytes"),
            RecordingEvent::Failing { key, why } => {
                write!(f, "the storage does not take {key}: {why}; it is kept")
            }
            RecordingEvent::Gap { from, to, frames } => {
                write!(f, "a gap in the recording: {frames} frames from {from} to {to} were lost")
            }
            RecordingEvent::Over => f.write_str("the recording is over"),
            RecordingEvent::Jumped => {
                f.write_str("the recording was too slow for the stream, and left out a part")
            }
            RecordingEvent::Left { file, key } => {
                write!(f, "{key} was not stored: it is left in {}", file.display())
            }
        }
    }
}

/// Who is told what becomes of a recording: on the recording's threads, so it must not block for long.
pub(super) type Listener = Box<dyn FnMut(&RecordingEvent) + Send>;

/// What the sink and the carrier's thread share.
pub(super) struct Carrier {
    storage: Arc<dyn StorageBackend>,
    prefix: String,
    listener: Mutex<Listener>,
    load: Mutex<Load>,
    changed: Condvar,
}

#[derive(Default)]
struct Load {
    waiting: VecDeque<Whole>,
    /// Of those that wait and the one that is being carried.
    bytes: u64,
    carrying: bool,
    /// The recording is over, since when.
    over: Option<Instant>,
}

impl Carrier {
    /// Starts the thread. It holds on to `spool`, and so to the lock of its folder, until it is done.
    ///
    /// # Errors
    /// There can be no thread.
    pub fn start(
        storage: Arc<dyn StorageBackend>,
        prefix: String,
        listener: Listener,
        left: Vec<Whole>,
        spool: Arc<Spool>,
    ) -> std::io::Result<Arc<Carrier>> {
        let bytes = left.iter().map(|whole| whole.bytes).sum();
        let load = Load { waiting: left.into(), bytes, ..Load::default() };
        let listener = Mutex::new(listener);
        let carrier =
            Arc::new(Carrier { storage, prefix, listener, load: Mutex::new(load), changed: Condvar::new() });
        let thread = carrier.clone();
        std::thread::Builder::new().name("storage".into()).spawn(move || {
            thread.run();
            drop(spool);
        })?;
        Ok(carrier)
    }

    /// Takes a file to be stored.
    pub fn take(&self, whole: Whole) {
        let mut load = self.load();
        load.bytes += whole.bytes;
        load.waiting.push_back(whole);
        self.changed.notify_all();
    }

    /// How many files are not stored yet, and their bytes.
    pub fn waiting(&self) -> (usize, u64) {
        let load = self.load();
        (load.waiting.len() + usize::from(load.carrying), load.bytes)
    }

    /// Returns when everything is stored, or `patience` is over; how many files are not stored then.
    pub fn wait(&self, patience: Duration) -> usize {
        let until = Instant::now() + patience;
        let mut load = self.load();
        loop {
            let count = load.waiting.len() + usize::from(load.carrying);
            let left = until.saturating_duration_since(Instant::now());
            if count == 0 || left.is_zero() {
                return count;
            }
            load = self.changed.wait_timeout(load, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// No more will come.
    pub fn end(&self) {
        self.load().over.get_or_insert_with(Instant::now);
        self.changed.notify_all();
    }

    /// Tells the listener. What goes wrong in it is its own business.
    pub fn tell(&self, event: &RecordingEvent) {
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = catch_unwind(AssertUnwindSafe(|| listener(event)));
    }

    fn load(&self) -> MutexGuard<'_, Load> {
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut pause = Duration::ZERO;
        while let Some(whole) = self.next() {
            loop {
                match self.store(&whole) {
                    Ok(key) => {
                        pause = Duration::ZERO;
                        // Some storages move a file, others copy it.
                        let _ = fs::remove_file(&whole.path);
                        let (bytes, duration) = (whole.bytes, whole.duration);
                        self.tell(&RecordingEvent::Stored { key, bytes, duration });
                        break;
                    }
                    Err(error) => {
                        let key = self.key(&whole.name, 0);
                        if pause.is_zero() {
                            self.tell(&RecordingEvent::Failing { key: key.clone(), why: error.to_string() });
                        }
                        pause = (pause * 2).clamp(limits::RECORDING_RETRY_MIN, limits::RECORDING_RETRY_MAX);
                        if !self.pause(pause) {
                            self.tell(&RecordingEvent::Left { file: whole.path.clone(), key });
                            break;
                        }
                    }
                }
            }
            let mut load = self.load();
            load.carrying = false;
            load.bytes -= whole.bytes;
            self.changed.notify_all();
        }
        self.tell(&RecordingEvent::Over);
    }

    /// The next file; `None` when there will be none.
    fn next(&self) -> Option<Whole> {
        let mut load = self.load();
        loop {
            if let Some(whole) = load.waiting.pop_front() {
                load.carrying = true;
                return Some(whole);
            }
            if load.over.is_some() {
                return None;
            }
            load = self.changed.wait(load).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits before the next try. False when there shall be none.
    fn pause(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut load = self.load();
        loop {
            if load.over.is_some_and(|over| over.elapsed() > LAST_TRIES) {
                return false;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            load = self.changed.wait_timeout(load, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Stores a file under the first name that is free.
    fn store(&self, whole: &Whole) -> Result<String, StorageError> {
        for number in 0..limits::RECORDING_NAMES_MAX {
            let key = self.key(&whole.name, number);
            let stored = catch_unwind(AssertUnwindSafe(|| self.storage.put_file(&key, &whole.path)));
            match stored.unwrap_or_else(|_| Err(StorageError::Failed("it panicked".to_owned()))) {
                Ok(()) => return Ok(key),
                Err(StorageError::Exists) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StorageError::Exists)
    }

    fn key(&self, name: &str, number: u32) -> String {
        let prefix = &self.prefix;
        match (number, name.rsplit_once('.')) {
            (0, _) | (_, None) => format!("{prefix}/{name}"),
            (number, Some((stem, extension))) => format!("{prefix}/{stem}-{number}.{extension}"),
        }
    }
}
