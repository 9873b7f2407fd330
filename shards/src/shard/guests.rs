//! Publishers of the program that the node lives in. Each is a connection like any other, whose socket nobody reads: its
//! session has the frames by itself, and is told when to look.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use shardcast_engine::{
    access::{Question, Wish},
    hub::{ConnectionId, Input},
    message::CoreId,
    observe::StreamEvent,
    time::Now,
};

#[cfg(feature = "libsrt")]
use shardcast_engine::hub::Lost;

use super::{
    Shard,
    harvest::{BEFORE_FLUSH, IDLE_TICK},
};
use crate::host::{Entry, Word};

/// The name of the host's door: in log lines, and what the authenticator is told.
const DOOR: &str = "host";
/// What stands there for a stream that the operator has others asked for.
#[cfg(feature = "server")]
const PULLED: &str = "pull";
/// Words that are taken in one round; those of a crowd must not hold up the sends.
const WORDS_PER_ROUND: usize = 256;

impl Shard {
    /// What the host has said since the last round. True when it has said something.
    pub(super) fn take_guests(&mut self, now: Now) -> bool {
        let Some(mut guests) = self.guests.take() else { return false };
        let mut words = 0;
        while words < WORDS_PER_ROUND
            && let Some(word) = guests.door.hear()
        {
            words += 1;
            match word {
                Word::Enter { number, session, entry } => {
                    // What the host asked for before it brought this one holds for it.
                    self.take_requests(now);
                    let (door, peer, trusted) = match entry {
                        Entry::Host => (DOOR, Self::NOBODY, false),
                        #[cfg(feature = "server")]
                        Entry::Trusted => (PULLED, Self::NOBODY, true),
                        #[cfg(feature = "libsrt")]
                        Entry::Door(door, peer) => (door, peer, false),
                    };
                    let Some(connection) = self.seat(session, door, peer, now) else { continue };
                    if trusted {
                        self.hub.trust(connection);
                    }
                    guests.connections.insert(number, connection);
                    self.look(connection, now);
                }
                Word::Look(number) => {
                    if let Some(connection) = guests.connections.get(&number) {
                        self.look(*connection, now);
                    }
                }
                Word::Leave(number) => {
                    if let Some(connection) = guests.connections.remove(&number) {
                        self.look(connection, now);
                    }
                }
                #[cfg(feature = "libsrt")]
                Word::Gone(number) => {
                    if let Some(connection) = guests.connections.remove(&number) {
                        self.look(connection, now);
                        // It may have waited for an answer until now.
                        self.hub.handle(Input::Closed { connection, how: Lost::Eof }, now);
                    }
                }
                Word::Verdict { connection, ticket, allowed } => {
                    self.hub.handle(Input::Judged { connection, ticket, allowed }, now);
                }
                // To the shards the host is the core after the last of them.
                Word::Mail(message) => self.hub.handle(Input::Mail(message, CoreId(self.cores)), now),
            }
        }
        self.guests = Some(guests);
        words > 0
    }

    /// Has the authenticator answer a wish in its own time. Without a program around there is nobody who could.
    pub(super) fn ask(&mut self, connection: ConnectionId, ticket: u64, wish: Wish, now: Now) {
        let Some(guests) = &self.guests else {
            return self.hub.handle(Input::Judged { connection, ticket, allowed: false }, now);
        };
        let door = guests.door.clone();
        let question = Question::new(wish, move |allowed| {
            door.say(Word::Verdict { connection, ticket, allowed });
        });
        // The host's code. One that panics has dropped the question, which refuses it.
        let _ = catch_unwind(AssertUnwindSafe(|| self.settings.access.ask(question)));
    }

    /// Tells the program that this node lives in, if it lives in one, what has happened.
    pub(super) fn tell_host(&mut self, event: StreamEvent) {
        if let Some(guests) = &self.guests
            && !self.mesh.send_event(event, CoreId(self.cores))
        {
            guests.door.miss();
        }
    }

    /// Lets the session look what has come for it.
    fn look(&mut self, connection: ConnectionId, now: Now) {
        if self.peer(connection).is_some() {
            self.hub.handle(Input::Received { connection, bytes: &[] }, now);
        }
    }
}

/// When to look again after the host has spoken: whoever sends frames goes on, and waking for each costs several times what
/// the frame does. So the bell is left alone until just before the next flush, which is when viewers and subscribers get
/// what has come by then. `None` where each frame is sent on at once.
pub(super) fn next_look(shortest_flush: Duration, now: Now) -> Option<Now> {
    let tick = shortest_flush.min(IDLE_TICK);
    let flush = now.after(BEFORE_FLUSH + Duration::from_nanos(1)).on_grid(tick);
    (tick > BEFORE_FLUSH).then(|| Now(flush.0.saturating_sub(BEFORE_FLUSH.as_nanos() as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_heard_before_each_flush_and_at_once_where_nothing_waits_for_one() {
        let millis = |at: u64| Now(at * 1_000_000);
        let flush = Duration::from_millis(33);
        assert_eq!(next_look(flush, millis(5)), Some(millis(31)));
        assert_eq!(next_look(flush, millis(31)), Some(millis(64)), "not again for the same flush");
        assert_eq!(next_look(flush, millis(33)), Some(millis(64)));
        assert_eq!(
            next_look(Duration::from_millis(100), millis(0)),
            Some(millis(38)),
            "short enough to sleep in the ring"
        );
        assert_eq!(next_look(Duration::ZERO, millis(5)), None);
    }
}
