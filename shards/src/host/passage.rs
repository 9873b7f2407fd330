//! Somebody of the host's inside a shard, as the one outside has it who speaks for it.

use std::sync::Arc;

use super::door::{Door, Word};

/// Leads to the session of one who came to a door that another library serves. Dropping it tells the session that he has gone.
pub(crate) struct Passage {
    number: u64,
    door: Arc<Door>,
}

impl Passage {
    pub(super) fn new(number: u64, door: Arc<Door>) -> Passage {
        Passage { number, door }
    }

    /// Has the session look what has come, or whether there is room again.
    pub(crate) fn look(&self) {
        self.door.say(Word::Look(self.number));
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.door.say(Word::Gone(self.number));
    }
}
