//! The table of protocols: a name, how long a peer may take, how a conversation is opened. Listeners, config, metrics
//! and tests walk the rows; a stranger's row is handled like a built-in one.

use crate::{limits::DoorLimits, session::Session, time::Now};

/// A row of the table.
#[derive(Clone, Copy)]
pub struct Protocol {
    /// The door's name: in the config, in log lines, in metrics.
    pub name: &'static str,
    /// The TCP port it usually has.
    pub port: u16,
    /// Opens the conversation with a peer that has just connected.
    pub open: fn(&DoorLimits, Now) -> Box<dyn Session>,
}

impl std::fmt::Debug for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Protocol({})", self.name)
    }
}
