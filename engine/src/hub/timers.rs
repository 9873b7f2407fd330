//! Every deadline of a hub in one ordered set, one per owner.

use std::collections::{BTreeMap, BTreeSet};

use super::{ConnectionId, streams::StreamId};
use crate::time::Now;

/// Whose deadline it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A session's.
    Connection(ConnectionId),
    /// A stream's next flush.
    Flush(StreamId),
    /// A stream's reconnect window, idle publisher, waiting viewers or lingering replica.
    Stream(StreamId),
    /// Another try at a full lane.
    Backlog,
    /// A look at peers that take nothing.
    Sweep,
    /// A look at the packaged streams.
    #[cfg(feature = "segment")]
    Packages,
    /// A recorder's.
    #[cfg(feature = "record")]
    Recording(super::RecordingId),
}

/// The set.
#[derive(Debug, Default)]
pub struct Timers {
    order: BTreeSet<(Now, Timer)>,
    set: BTreeMap<Timer, Now>,
}

impl Timers {
    /// Sets, moves or clears a deadline.
    pub fn set(&mut self, timer: Timer, at: Option<Now>) {
        let before = match at {
            Some(at) => self.set.insert(timer, at),
            None => self.set.remove(&timer),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.order.remove(&(before, timer));
        }
        if let Some(at) = at {
            self.order.insert((at, timer));
        }
    }

    /// Sets a deadline unless an earlier one is set.
    pub fn set_earlier(&mut self, timer: Timer, at: Now) {
        if self.set.get(&timer).is_none_or(|set| at < *set) {
            self.set(timer, Some(at));
        }
    }

    /// True when this deadline is set.
    pub fn is_set(&self, timer: Timer) -> bool {
        self.set.contains_key(&timer)
    }

    /// The first deadline.
    pub fn first(&self) -> Option<Now> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Whether a flush is among the deadlines that have come.
    pub fn is_flush_due(&self, now: Now) -> bool {
        let mut due = self.order.iter().take_while(|(at, _)| *at <= now);
        due.any(|(_, timer)| matches!(timer, Timer::Flush(_)))
    }

    /// Takes one deadline that has come.
    pub fn expire(&mut self, now: Now) -> Option<Timer> {
        let (at, timer) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.order.pop_first();
        self.set.remove(&timer);
        Some(timer)
    }
}
