//! The host's door into one shard: words from any thread, and the shard's bell.

#[cfg(feature = "libsrt")]
use std::net::SocketAddr;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crossbeam_queue::SegQueue;
use shardcast_engine::{hub::ConnectionId, message::Message, session::Session};
use shardcast_io::lane::Doorbell;

/// What the host says to a shard.
pub enum Word {
    /// A publisher of the host wants in.
    Enter {
        /// The number by which it is spoken of.
        number: u64,
        /// Its conversation.
        session: Box<dyn Session>,
        /// How it comes in.
        entry: Entry,
    },
    /// There are frames of this one.
    Look(u64),
    /// This one has gone; it is not spoken of again.
    Leave(u64),
    /// This one, who came by a door that another library serves, is gone: what came of it before is taken.
    #[cfg(feature = "libsrt")]
    Gone(u64),
    /// Somebody may do what they wished for, or may not.
    Verdict {
        /// Who.
        connection: ConnectionId,
        /// Which wish.
        ticket: u64,
        /// Yes or no.
        allowed: bool,
    },
    /// What a core with viewers would say: the host subscribes, or no more, or wants a key frame.
    Mail(Message),
}

/// How somebody of the host's comes in.
pub enum Entry {
    /// By the host's own door: the authenticator is asked.
    Host,
    /// The operator has named it: no authenticator is asked.
    #[cfg(feature = "server")]
    Trusted,
    /// By a door that another library serves: its name, and who has come.
    #[cfg(feature = "libsrt")]
    Door(&'static str, SocketAddr),
}

/// Where words wait. Their number is bounded by that of the host's handles and of the connections: a publisher has at most one
/// `Look` here at a time, a subscriber says at most three in its life, a connection waits for one verdict.
pub struct Door {
    words: SegQueue<Word>,
    bell: Arc<Doorbell>,
    /// The shard has ended: whatever is said is dropped, and with it the conversation that it brought.
    shut: AtomicBool,
    /// Events that found the lane to the host full.
    missed: AtomicU64,
}

impl Door {
    /// A door to the shard that sleeps at `bell`.
    pub fn new(bell: Arc<Doorbell>) -> Door {
        Door { words: SegQueue::new(), bell, shut: AtomicBool::new(false), missed: AtomicU64::new(0) }
    }

    /// Says a word. Never waits.
    pub fn say(&self, word: Word) {
        self.words.push(word);
        self.bell.ring();
        if self.shut.load(Ordering::SeqCst) {
            self.clear();
        }
    }

    /// Whether the shard has ended.
    pub fn is_shut(&self) -> bool {
        self.shut.load(Ordering::SeqCst)
    }

    /// The shard has lost an event on its way to the host.
    pub fn miss(&self) {
        self.missed.fetch_add(1, Ordering::Relaxed);
    }

    /// How many it has lost since the last call.
    pub fn take_missed(&self) -> u64 {
        self.missed.swap(0, Ordering::Relaxed)
    }

    fn clear(&self) {
        while self.words.pop().is_some() {}
    }

    /// The next word, for the shard.
    pub fn hear(&self) -> Option<Word> {
        self.words.pop()
    }

    /// Whether nothing waits, for the last look before the shard sleeps.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }
}

/// The host's publishers on one shard.
pub struct Guests {
    /// Where words about them come from.
    pub door: Arc<Door>,
    /// Which connection each is.
    pub connections: HashMap<u64, ConnectionId>,
}

impl Guests {
    /// Nobody is here yet.
    pub fn new(door: Arc<Door>) -> Guests {
        Guests { door, connections: HashMap::new() }
    }
}

impl Drop for Guests {
    fn drop(&mut self) {
        self.door.shut.store(true, Ordering::SeqCst);
        self.door.clear();
    }
}
