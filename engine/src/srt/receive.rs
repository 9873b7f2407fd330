//! The receiving half of a connection: packets are put in order, what is missing is asked for, and each is handed on at its time.
//! (draft-sharabayko-srt-01, 4.5 to 4.8)

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use super::{packet::Report, sequence::Sequence, stats::Counts};
use crate::{
    canary::{self, Canary},
    limits,
    time::{Now, Unwrapper},
};

/// How often what has come is acknowledged.
pub const TICK: Duration = Duration::from_millis(10);
/// After so many packets an acknowledgement goes without waiting for its time.
const LIGHT_AFTER: u32 = 64;
/// The least time between two words about the same gap.
const NAK_INTERVAL_MIN: Duration = Duration::from_millis(20);
/// Acknowledgements whose echo is still waited for.
const ECHOES_MAX: usize = 32;
/// Packets over which the sender's clock is compared with ours.
const DRIFT_PACKETS: i64 = 1000;
/// The most that a comparison moves it.
const DRIFT_STEP_MAX: i64 = 5_000_000;

/// The packets of one direction, from the one that is handed on next.
#[derive(Debug)]
pub struct Receiver {
    /// The number of the first slot.
    base: Sequence,
    slots: VecDeque<Option<Slot>>,
    /// What is missing among them, in order; no two runs touch.
    gaps: VecDeque<Gap>,
    clock: Clock,
    latency: Duration,
    rtt: Rtt,
    /// Acknowledged so far, and whether the sender has said that it knows.
    acknowledged: Sequence,
    echoed: Sequence,
    acknowledged_at: Now,
    /// The number of the last acknowledgement.
    number: u32,
    echoes: VecDeque<(u32, Sequence, Now)>,
    since_last: u32,
    /// Packets were given up before the one that was handed on last.
    gap: bool,
    counts: Counts,
}

#[derive(Debug)]
struct Slot {
    due: Now,
    payload: Bytes,
}

#[derive(Clone, Copy, Debug)]
struct Gap {
    first: Sequence,
    last: Sequence,
    /// When the sender was told last.
    told: Now,
}

/// The sender's clock against ours.
#[derive(Debug)]
struct Clock {
    unwrapper: Unwrapper,
    /// Nanoseconds from the sender's zero to ours.
    base: i64,
    drift: i64,
    samples: i64,
}

/// How long there and back, in microseconds. (4.10)
#[derive(Clone, Copy, Debug)]
pub struct Rtt {
    pub mean: u32,
    pub variance: u32,
    measured: bool,
}

impl Default for Rtt {
    fn default() -> Self {
        Rtt { mean: 100_000, variance: 50_000, measured: false }
    }
}

impl Rtt {
    /// A measurement by a word and its echo.
    pub fn measure(&mut self, taken: Duration) {
        let taken = u32::try_from(taken.as_micros()).unwrap_or(u32::MAX).min(10_000_000);
        if !std::mem::replace(&mut self.measured, true) {
            (self.mean, self.variance) = (taken, taken / 2);
            return;
        }
        self.smooth(taken);
    }

    fn smooth(&mut self, taken: u32) {
        self.variance = (self.variance * 3 + self.mean.abs_diff(taken)) / 4;
        self.mean = (self.mean * 7 + taken) / 8;
    }

    /// What the other side has measured.
    pub fn hear(&mut self, report: &Report) {
        (self.mean, self.variance) = (report.rtt.min(10_000_000), report.rtt_variance.min(10_000_000));
        self.measured = true;
    }

    /// How long an answer may take before it is taken for lost.
    pub fn patience(&self) -> Duration {
        Duration::from_micros(u64::from(self.mean) + 4 * u64::from(self.variance))
    }
}

/// An acknowledgement to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    pub number: u32,
    pub next: Sequence,
    /// `None` in a light one.
    pub report: Option<Report>,
}

impl Receiver {
    /// For packets from `first` on, of a sender whose clock shows `timestamp` (microseconds) `now`; each is handed on `latency`
    /// after it was sent.
    pub fn new(first: Sequence, timestamp: u32, latency: Duration, now: Now) -> Self {
        let mut unwrapper = Unwrapper::new(32);
        let shown = unwrapper.unwrap(timestamp.into()) * 1000;
        Receiver {
            base: first,
            slots: VecDeque::new(),
            gaps: VecDeque::new(),
            clock: Clock { unwrapper, base: now.0 as i64 - shown, drift: 0, samples: 0 },
            latency,
            rtt: Rtt::default(),
            acknowledged: first,
            echoed: first,
            acknowledged_at: now,
            number: 0,
            echoes: VecDeque::new(),
            since_last: 0,
            gap: false,
            counts: Counts::default(),
        }
    }

    /// Whether a packet with this number has a place here that is still empty. Counts it where it has none.
    pub fn wants(&mut self, sequence: Sequence) -> bool {
        let place = sequence.since(self.base);
        let wanted = match usize::try_from(place) {
            Err(_) => {
                self.counts.late += 1;
                false
            }
            // A sender that has gone on without us: where nothing is held there is nothing to lose.
            Ok(place) if place >= limits::SRT_WINDOW_PACKETS => {
                let leaps = self.slots.is_empty();
                if leaps {
                    self.counts.lost += place as u64;
                    self.gap = true;
                    self.restart(sequence);
                } else {
                    self.counts.beyond += 1;
                }
                leaps
            }
            Ok(place) => {
                let taken = self.slots.get(place).is_some_and(Option::is_some);
                self.counts.duplicates += u64::from(taken);
                !taken
            }
        };
        self.counts.packets += 1;
        wanted
    }

    fn restart(&mut self, at: Sequence) {
        self.gaps.clear();
        (self.base, self.acknowledged, self.echoed) = (at, at, at);
    }

    /// Takes a packet that is [wanted](Self::wants). The run of packets that is seen to be missing by it, which the sender is to
    /// be told at once.
    pub fn take(
        &mut self,
        sequence: Sequence,
        timestamp: u32,
        payload: Bytes,
        now: Now,
    ) -> Option<(Sequence, Sequence)> {
        let due = self.clock.due(timestamp, self.latency, now);
        let place = usize::try_from(sequence.since(self.base)).ok()?;
        self.counts.bytes += payload.len() as u64;
        self.since_last += 1;
        let slot = Slot { due, payload };
        let end = self.slots.len();
        if let Some(empty) = self.slots.get_mut(place) {
            *empty = Some(slot);
            self.counts.recovered += 1;
            self.fill(sequence);
            return None;
        }
        self.slots.resize_with(place, || None);
        self.slots.push_back(Some(slot));
        if place == end {
            return None;
        }
        let (first, last) = (self.base.plus(end as u32), sequence.minus(1));
        self.gaps.push_back(Gap { first, last, told: now });
        self.counts.missing += (place - end) as u64;
        self.counts.told += 1;
        Some((first, last))
    }

    /// One that was missing has come.
    fn fill(&mut self, sequence: Sequence) {
        let Some(number) = self.gaps.iter().position(|gap| gap.last.since(sequence) >= 0) else { return };
        let Some(gap) = self.gaps.get_mut(number).filter(|gap| gap.first.since(sequence) <= 0) else {
            return;
        };
        match (gap.first == sequence, gap.last == sequence) {
            (true, true) => drop(self.gaps.remove(number)),
            (true, false) => gap.first = sequence.plus(1),
            (false, true) => gap.last = sequence.minus(1),
            (false, false) => {
                let after = Gap { first: sequence.plus(1), last: gap.last, told: gap.told };
                gap.last = sequence.minus(1);
                self.gaps.insert(number + 1, after);
            }
        }
    }

    /// The sender no longer has these.
    pub fn give_up(&mut self, first: Sequence, last: Sequence) {
        let length = last.since(first);
        let reach = last.since(self.base);
        if length < 0 || reach < 0 || reach >= limits::SRT_WINDOW_PACKETS as i32 {
            return;
        }
        // Those that nobody here knew of are not asked for either.
        let slots = self.slots.len().max(reach as usize + 1);
        self.slots.resize_with(slots, || None);
        let first = if first.since(self.base) < 0 { self.base } else { first };
        let mut kept = VecDeque::with_capacity(self.gaps.len());
        for gap in self.gaps.drain(..) {
            let length = gap.last.since(gap.first) + 1;
            // What of it stands before the run, and what behind.
            let before = first.since(gap.first).min(length);
            let after = gap.last.since(last).min(length);
            if before > 0 {
                kept.push_back(Gap { last: gap.first.plus(before as u32 - 1), ..gap });
            }
            // A gap that lies wholly before the run, or behind it, is kept once.
            if after > 0 && before < length {
                kept.push_back(Gap { first: gap.last.minus(after as u32 - 1), ..gap });
            }
        }
        self.gaps = kept;
    }

    /// The next packet whose time has come. What is missing before it is given up: it could only come too late.
    pub fn next(&mut self, now: Now) -> Option<Bytes> {
        let place = self.slots.iter().position(Option::is_some)?;
        let due = self.slots.get(place).and_then(Option::as_ref).is_some_and(|slot| slot.due <= now);
        if due { self.hand_on(place) } else { None }
    }

    /// The next packet, whatever its time: nothing more will come.
    pub fn rest(&mut self) -> Option<Bytes> {
        let place = self.slots.iter().position(Option::is_some)?;
        self.hand_on(place)
    }

    fn hand_on(&mut self, place: usize) -> Option<Bytes> {
        if canary::is_broken(Canary::PacketTwice) && self.counts.duplicates % 2 == 1 {
            self.counts.duplicates += 1;
            return Some(self.slots.get(place)?.as_ref()?.payload.clone());
        }
        let slot = self.slots.drain(..=place).next_back().flatten()?;
        self.base = self.base.plus(place as u32 + 1);
        self.counts.lost += place as u64;
        self.gap |= place > 0;
        while let Some(gap) = self.gaps.front_mut() {
            if gap.last.since(self.base) < 0 {
                self.gaps.pop_front();
                continue;
            }
            if gap.first.since(self.base) < 0 {
                gap.first = self.base;
            }
            break;
        }
        Some(slot.payload)
    }

    /// Whether packets were given up before the one that was handed on last.
    pub fn take_gap(&mut self) -> bool {
        std::mem::take(&mut self.gap)
    }

    /// The number before which everything has come or was given up.
    fn next_expected(&self) -> Sequence {
        self.gaps.front().map_or(self.base.plus(self.slots.len() as u32), |gap| gap.first)
    }

    /// What is to be acknowledged now; `tick` says that it is time for a whole one.
    pub fn acknowledge(&mut self, tick: bool, now: Now) -> Option<Acknowledgement> {
        let next = self.next_expected();
        if !tick {
            if self.since_last < LIGHT_AFTER {
                return None;
            }
            self.since_last = 0;
            return Some(Acknowledgement { number: 0, next, report: None });
        }
        let again = now.since(self.acknowledged_at) >= self.rtt.patience();
        if next == self.echoed || (next == self.acknowledged && !again) {
            return None;
        }
        (self.acknowledged, self.acknowledged_at, self.since_last) = (next, now, 0);
        self.number = self.number.wrapping_add(1).max(1);
        if self.echoes.len() == ECHOES_MAX {
            self.echoes.pop_front();
        }
        self.echoes.push_back((self.number, next, now));
        let room = limits::SRT_WINDOW_PACKETS - self.slots.len().min(limits::SRT_WINDOW_PACKETS - 2);
        let report =
            Report { rtt: self.rtt.mean, rtt_variance: self.rtt.variance, room: room as u32, rates: None };
        Some(Acknowledgement { number: self.number, next, report: Some(report) })
    }

    /// The sender has heard an acknowledgement, and its clock shows `timestamp`.
    pub fn echo(&mut self, number: u32, timestamp: u32, now: Now) {
        let Some(place) = self.echoes.iter().position(|(known, ..)| *known == number) else { return };
        if let Some((_, next, sent)) = self.echoes.drain(..=place).next_back() {
            self.rtt.measure(now.since(sent));
            if next.since(self.echoed) > 0 {
                self.echoed = next;
            }
        }
        self.clock.compare(timestamp, now);
    }

    /// What has been missing for so long that the sender is told once more.
    pub fn missing(&mut self, now: Now) -> Vec<(Sequence, Sequence)> {
        let interval = (self.rtt.patience() / 2).max(NAK_INTERVAL_MIN);
        let overdue = self.gaps.iter_mut().filter(|gap| now.since(gap.told) >= interval);
        let runs: Vec<_> = overdue
            .map(|gap| {
                gap.told = now;
                (gap.first, gap.last)
            })
            .collect();
        self.counts.told += u64::from(!runs.is_empty());
        runs
    }

    /// Whether anything waits for its time, to come, or to be acknowledged.
    pub fn is_idle(&self) -> bool {
        self.slots.is_empty() && self.next_expected() == self.echoed
    }

    /// How long there and back.
    pub const fn rtt(&self) -> Rtt {
        self.rtt
    }

    /// Packets that are held.
    pub fn held(&self) -> usize {
        self.slots.len()
    }

    /// What was counted.
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The same, to count what only the caller sees.
    pub const fn counts_mut(&mut self) -> &mut Counts {
        &mut self.counts
    }
}

impl Clock {
    /// When a packet is to be handed on that was sent at `timestamp`.
    fn due(&mut self, timestamp: u32, latency: Duration, now: Now) -> Now {
        let sent = self.unwrapper.unwrap(timestamp.into()).saturating_mul(1000).saturating_add(self.base);
        // A sender whose clock leaps must not have us hold what it sends for an hour.
        let latest = now.after(latency + latency);
        Now(u64::try_from(sent).unwrap_or(0)).after(latency).min(latest)
    }

    /// Follows the sender's clock where it goes faster or slower than ours. (4.7)
    fn compare(&mut self, timestamp: u32, now: Now) {
        let shown = self.unwrapper.unwrap(timestamp.into()).saturating_mul(1000).saturating_add(self.base);
        self.drift = self.drift.saturating_add((now.0 as i64).saturating_sub(shown));
        self.samples += 1;
        if self.samples == DRIFT_PACKETS {
            let step = (self.drift / DRIFT_PACKETS).clamp(-DRIFT_STEP_MAX, DRIFT_STEP_MAX);
            self.base = self.base.saturating_add(step);
            (self.drift, self.samples) = (0, 0);
        }
    }
}
