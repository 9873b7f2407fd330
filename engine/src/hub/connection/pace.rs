//! How fast datagrams go to a peer that cannot say how much it takes, and how they come from one.

use crate::{
    hub::{ConnectionId, Hub},
    limits::{PACE_BYTES, PACE_TIME},
    session,
    time::Now,
};

/// What may go to a peer's ports within a short time.
#[derive(Debug, Default)]
pub(super) struct Pace {
    until: Now,
    left: usize,
}

impl Pace {
    /// How many bytes may go now, where `newest` are what comes between two flushes.
    pub fn room(&mut self, newest: usize, now: Now) -> usize {
        if self.until <= now {
            (self.until, self.left) = (now.after(PACE_TIME), newest.max(PACE_BYTES));
        }
        self.left
    }

    /// When more may go, where nothing may now.
    pub fn pause(&self, now: Now) -> Option<Now> {
        (self.left == 0 && now < self.until).then_some(self.until)
    }

    /// So many go.
    pub fn took(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }
}

impl Hub {
    /// A datagram from a port of a peer's. While its session waits for an answer it has named none.
    pub(in crate::hub) fn datagram_came(&mut self, id: ConnectionId, channel: u8, bytes: &[u8], now: Now) {
        self.stats.received_bytes += bytes.len() as u64;
        if self.connection(id).is_some_and(|connection| !connection.is_asking()) {
            self.drive(id, session::Input::Datagram { channel, bytes }, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_spread_and_a_fast_stream_keeps_its_pace() {
        let (mut pace, now) = (Pace::default(), Now(1_000_000_000));
        assert_eq!(pace.room(100, now), PACE_BYTES);
        pace.took(PACE_BYTES - 1);
        assert_eq!((pace.room(100, now), pace.pause(now)), (1, None));
        // A frame that is larger goes whole.
        pace.took(70_000);
        let later = now.after(PACE_TIME);
        assert_eq!((pace.room(100, now), pace.pause(now)), (0, Some(later)));
        assert_eq!((pace.room(200_000, later), pace.pause(later)), (200_000, None));
    }
}
