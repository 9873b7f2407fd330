//! Packets in the order in which they were sent: one that is missing is waited for, so long and no longer.

use std::{collections::VecDeque, time::Duration};

use crate::time::Now;

/// How long a packet that is missing is waited for.
pub const WAIT_MAX: Duration = Duration::from_millis(100);
/// Packets that wait for one that is missing. One more, and it is taken for lost.
pub const HELD_MAX: usize = 512;
/// A packet so far from the one that is due begins a new count: its sender was restarted, or the network was away for long.
/// (RFC 3550, appendix A.1, has 3000 ahead and 100 behind.)
const AHEAD_MAX: u16 = 3000;
const BEHIND_MAX: u16 = 100;

/// Puts the packets of one source in order. In order they pass through without a copy.
///
/// ```
/// use shardcast_engine::{rtp::Order, time::Now};
///
/// let (mut order, mut out) = (Order::default(), Vec::new());
/// for (sequence, payload) in [(7, b"a"), (9, b"c"), (8, b"b"), (8, b"b"), (10, b"d")] {
///     order.push(sequence, payload, Now(0), &mut |payload| out.extend_from_slice(payload.unwrap_or(b"...")));
/// }
/// assert_eq!(out, b"abcd");
/// ```
#[derive(Debug, Default)]
pub struct Order {
    /// The number that is due; `None` before the first packet.
    due: Option<u16>,
    /// What came before its turn, in order.
    held: VecDeque<Held>,
    /// What was left out so far.
    counters: Counters,
}

/// What was left out, and what was put right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that did not come in time.
    pub lost: u64,
    /// Packets that came a second time, or after they were given up.
    pub late: u64,
    /// Packets that came before their turn.
    pub early: u64,
    /// Times that counting began anew.
    pub restarts: u64,
}

#[derive(Debug)]
struct Held {
    sequence: u16,
    came: Now,
    payload: Vec<u8>,
}

impl Order {
    /// Takes a packet, and gives all whose turn has come with it; `None` where some are missing that were given up.
    pub fn push(&mut self, sequence: u16, payload: &[u8], now: Now, out: &mut dyn FnMut(Option<&[u8]>)) {
        let due = *self.due.get_or_insert(sequence);
        let (ahead, behind) = (sequence.wrapping_sub(due), due.wrapping_sub(sequence));
        match ahead {
            0 => {
                out(Some(payload));
                self.due = Some(due.wrapping_add(1));
                self.give(out);
            }
            1..=AHEAD_MAX => self.hold(Held { sequence, came: now, payload: payload.to_vec() }, due, out),
            _ if behind <= BEHIND_MAX => self.counters.late += 1,
            _ => {
                self.counters.restarts += 1;
                for held in self.held.drain(..) {
                    out(None);
                    out(Some(&held.payload));
                }
                out(None);
                out(Some(payload));
                self.due = Some(sequence.wrapping_add(1));
            }
        }
    }

    /// Gives up what has been waited for too long, and gives what waited for it.
    pub fn expire(&mut self, now: Now, out: &mut dyn FnMut(Option<&[u8]>)) {
        while self.deadline().is_some_and(|deadline| deadline <= now) {
            self.give_up(out);
        }
    }

    /// When to call [`expire`](Self::expire) if nothing comes before.
    pub fn deadline(&self) -> Option<Now> {
        // One that came later may stand before another.
        self.held.iter().map(|held| held.came).min().map(|came| came.after(WAIT_MAX))
    }

    /// What was left out so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Bytes that wait for their turn.
    pub fn held_bytes(&self) -> usize {
        self.held.iter().map(|held| held.payload.capacity()).sum()
    }

    fn hold(&mut self, packet: Held, due: u16, out: &mut dyn FnMut(Option<&[u8]>)) {
        let distance = |held: &Held| held.sequence.wrapping_sub(due);
        let place = self.held.partition_point(|held| distance(held) < distance(&packet));
        if self.held.get(place).is_some_and(|held| held.sequence == packet.sequence) {
            self.counters.late += 1;
            return;
        }
        self.counters.early += 1;
        self.held.insert(place, packet);
        if self.held.len() > HELD_MAX {
            self.give_up(out);
        }
    }

    /// Takes what is due for lost, up to the first packet that is there.
    fn give_up(&mut self, out: &mut dyn FnMut(Option<&[u8]>)) {
        let (Some(due), Some(first)) = (self.due, self.held.front()) else { return };
        self.counters.lost += u64::from(first.sequence.wrapping_sub(due));
        self.due = Some(first.sequence);
        out(None);
        self.give(out);
    }

    /// Gives the packets whose turn it is.
    fn give(&mut self, out: &mut dyn FnMut(Option<&[u8]>)) {
        while let Some(held) = self.held.pop_front_if(|held| Some(held.sequence) == self.due) {
            out(Some(&held.payload));
            self.due = Some(held.sequence.wrapping_add(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What comes out of packets whose payload is their number.
    #[derive(Default)]
    struct Room {
        order: Order,
        out: Vec<u16>,
        gaps: usize,
    }

    impl Room {
        fn push(&mut self, sequence: u16, millis: u64) -> &mut Self {
            let (out, gaps) = (&mut self.out, &mut self.gaps);
            let mut put = |payload: Option<&[u8]>| match payload {
                Some(payload) => out.push(u16::from_be_bytes(payload.try_into().unwrap())),
                None => *gaps += 1,
            };
            self.order.expire(Now(millis * 1_000_000), &mut put);
            self.order.push(sequence, &sequence.to_be_bytes(), Now(millis * 1_000_000), &mut put);
            self
        }
    }

    #[test]
    fn numbers_wrap_and_what_comes_twice_comes_out_once() {
        let mut room = Room::default();
        room.push(65_534, 0).push(0, 0).push(65_535, 0).push(0, 0).push(1, 0).push(65_535, 0);
        assert_eq!((&room.out[..], room.gaps), (&[65_534, 65_535, 0, 1][..], 0));
        assert_eq!(room.order.counters(), Counters { late: 2, early: 1, ..Counters::default() });
    }

    #[test]
    fn what_is_missing_is_waited_for_and_then_given_up() {
        let mut room = Room::default();
        room.push(1, 0).push(4, 10).push(3, 50).push(5, 109);
        assert_eq!(room.out, [1]);
        assert_eq!(room.order.deadline(), Some(Now(110_000_000)), "since the first that had to wait");
        room.push(6, 110);
        assert_eq!((&room.out[..], room.gaps), (&[1, 3, 4, 5, 6][..], 1));
        room.push(2, 111);
        assert_eq!((room.out.len(), room.order.counters().lost, room.order.counters().late), (5, 1, 1));
        assert_eq!(room.order.deadline(), None);
    }

    #[test]
    fn no_more_wait_than_their_bound() {
        let mut room = Room::default();
        room.push(0, 0);
        for sequence in 2..2 + HELD_MAX as u16 {
            room.push(sequence, 0);
        }
        assert_eq!(room.out, [0]);
        room.push(2 + HELD_MAX as u16, 0);
        assert!(room.out.iter().copied().eq((0..3 + HELD_MAX as u16).filter(|sequence| *sequence != 1)));
        assert_eq!(room.order.held_bytes(), 0);
    }

    #[test]
    fn a_sender_that_was_restarted_is_followed() {
        let mut room = Room::default();
        room.push(100, 0).push(102, 0).push(40_000, 1).push(40_001, 1).push(7, 2);
        assert_eq!((&room.out[..], room.gaps), (&[100, 102, 40_000, 40_001, 7][..], 3));
        assert_eq!(room.order.counters().restarts, 2);
    }

    proptest! {
        #[test]
        fn shuffled_by_less_than_the_window_all_come_out_in_order(
            first: u16,
            shifts in proptest::collection::vec(0usize..40, 1..300),
        ) {
            let mut packets: Vec<(usize, u16)> = shifts
                .iter()
                .enumerate()
                .map(|(place, shift)| (place + shift, first.wrapping_add(place as u16)))
                .collect();
            // The first one says where counting begins.
            packets[0].0 = 0;
            packets.sort_by_key(|(place, _)| *place);
            let mut room = Room::default();
            for (_, sequence) in &packets {
                room.push(*sequence, 0);
            }
            prop_assert!(room.out.iter().copied().eq((0..shifts.len()).map(|place| first.wrapping_add(place as u16))));
        }

        #[test]
        fn whatever_comes_is_bounded_and_never_comes_out_twice(
            packets in proptest::collection::vec((any::<u16>(), 0u64..50), 1..400),
        ) {
            let (mut room, mut millis) = (Room::default(), 0);
            for (sequence, later) in &packets {
                millis += later;
                room.push(*sequence, millis);
                prop_assert!(room.order.held.len() <= HELD_MAX);
            }
            prop_assert!(room.out.len() <= packets.len());
        }
    }
}
