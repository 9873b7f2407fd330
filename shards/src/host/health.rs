//! Whether everything that a host's service needs is well: its own shards, and what the host adds.

use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use shardcast_engine::storage::StorageBackend;

use super::{
    attach::{HostError, words_of},
    lock,
};

/// Says whether something is well: a storage, a licence, a camera.
///
/// ```
/// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
/// use std::time::Duration;
/// use shardcast_shards::host::{Health, HealthCheck, HostError, Node};
///
/// struct License { days: u32 }
///
/// impl HealthCheck for License {
///     fn check(&mut self) -> Result<(), HostError> {
///         if self.days > 0 { Ok(()) } else { Err("it has run out".into()) }
///     }
/// }
/// # fn main() -> Result<(), shardcast_shards::host::HostError> {
/// # let node = Node::builder().start()?;
/// # let name = StreamName::parse("live/cam1")?;
/// node.add_check("licence", License { days: 0 })?;
/// let health = node.health(Duration::from_secs(5));
/// let result = Err("it has run out".to_owned());
/// assert_eq!(health[1], Health { name: "licence".to_owned(), result });
/// # node.stop()?;
/// # Ok(())
/// # }
/// ```
pub trait HealthCheck: Send {
    /// Looks. Called on a thread of its own, one look at a time: it may take its time, but whoever asks waits no longer than
    /// they say.
    ///
    /// # Errors
    /// It is not well; why.
    fn check(&mut self) -> Result<(), HostError>;
}

/// How something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What was looked at: `shards`, or the name of a check.
    pub name: String,
    /// Well, or why not.
    pub result: Result<(), String>,
}

/// Looks whether a storage takes an object, gives it back, and lets it go.
///
/// ```
/// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
/// use std::{sync::Arc, time::Duration};
/// use shardcast_shards::{host::{Node, StorageCheck}, storage::Memory};
///
/// # fn main() -> Result<(), shardcast_shards::host::HostError> {
/// # let node = Node::builder().start()?;
/// # let name = StreamName::parse("live/cam1")?;
/// node.add_check("storage", StorageCheck::new(Arc::new(Memory::new()), "health/probe"))?;
/// assert_eq!(node.health(Duration::from_secs(5))[1].result, Ok(()));
/// # node.stop()?;
/// # Ok(())
/// # }
/// ```
pub struct StorageCheck {
    storage: Arc<dyn StorageBackend>,
    key: String,
}

impl StorageCheck {
    /// Of `storage`, with an object of this key, which nobody else may use.
    pub fn new(storage: Arc<dyn StorageBackend>, key: &str) -> Self {
        StorageCheck { storage, key: key.to_owned() }
    }
}

impl HealthCheck for StorageCheck {
    fn check(&mut self) -> Result<(), HostError> {
        const WORDS: &[u8] = b"a look at the storage's health";
        // Left behind by a look that was cut off.
        self.storage.delete(&self.key)?;
        self.storage.put(&self.key, WORDS)?;
        let found = self.storage.get(&self.key)?;
        self.storage.delete(&self.key)?;
        if found == WORDS { Ok(()) } else { Err("it gave back other bytes than it was given".into()) }
    }
}

impl fmt::Debug for StorageCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StorageCheck({})", self.key)
    }
}

/// A check, and the thread that looks.
pub(super) struct Check {
    name: String,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Looks that were asked for, and that were done.
    asked: u64,
    done: u64,
    result: Option<Result<(), String>>,
}

impl Check {
    pub fn start(name: &str, mut check: impl HealthCheck + 'static) -> io::Result<Arc<Check>> {
        let this =
            Arc::new(Check { name: name.to_owned(), state: Mutex::default(), changed: Condvar::new() });
        let weak = Arc::downgrade(&this);
        // Nobody waits for its end: a check that hangs would hold up the node's.
        std::thread::Builder::new().name("health".into()).spawn(move || {
            while let Some(number) = next_look(&weak) {
                let result = catch_unwind(AssertUnwindSafe(|| check.check()));
                let result = result.unwrap_or_else(|panic| Err(words_of(&*panic).into()));
                let Some(this) = weak.upgrade() else { return };
                let mut state = lock(&this.state);
                (state.done, state.result) = (number, Some(result.map_err(|error| error.to_string())));
                this.changed.notify_all();
            }
        })?;
        Ok(this)
    }

    /// Asks for a look. Who asks while one is under way waits for the one after it.
    pub fn ask(&self) -> u64 {
        let mut state = lock(&self.state);
        // One look for all who ask before it begins.
        if state.asked <= state.done + 1 {
            state.asked += 1;
        }
        self.changed.notify_all();
        state.asked
    }

    /// What the look has shown, if it ends by then.
    pub fn answer(&self, look: u64, until: Instant) -> Health {
        let mut state = lock(&self.state);
        loop {
            if let (true, Some(result)) = (state.done >= look, &state.result) {
                return Health { name: self.name.clone(), result: result.clone() };
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Health { name: self.name.clone(), result: Err("no answer in time".to_owned()) };
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Waits for the next look that is asked for; `None` when nobody can ask any more.
fn next_look(check: &Weak<Check>) -> Option<u64> {
    loop {
        let check = check.upgrade()?;
        let state = lock(&check.state);
        if state.asked > state.done {
            return Some(state.done + 1);
        }
        // Woken now and then, to see whether the node is still there.
        drop(check.changed.wait_timeout(state, Duration::from_millis(200)));
    }
}
