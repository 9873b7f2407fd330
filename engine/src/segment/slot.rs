//! Segments by when they are due: what is fetched without a list of what there is.
//!
//! A period of a track is divided into slots of one target duration each, and a segment is in the slot whose beginning is nearest
//! to its own. So who knows when a period began can reckon what to ask for, now and later (ISO/IEC 23009-1, 5.3.9.5.3: the
//! times of segments that are numbered by `@duration` may be half a duration from where they are due). Each segment is in exactly
//! one slot. Groups that are as long as the target fill one each; of others a slot has several segments now and then, or
//! none, which is a fragment without samples.

use bytes::{Bytes, BytesMut};

use super::{Found, Segment, Shelf, window::AHEAD_MAX};
use crate::fmp4::mux::{self, Run};

/// A slot: its [period](super::Part::period), and which of that.
pub(super) type Slot = (u64, u64);

impl Segment {
    /// Which slot of its period it is in, where each lasts `target` seconds.
    pub fn slot(&self, target: u32) -> u64 {
        self.nearest(0, target)
    }

    /// The slot that is nearest to `after` its beginning, in ticks.
    fn nearest(&self, after: u64, target: u32) -> u64 {
        let Some(first) = self.parts.first() else { return 0 };
        let length = u64::from(target.max(1)) * u64::from(first.rate.max(1));
        let since = first.start.saturating_sub(first.origin.time).saturating_add(after);
        since.saturating_add(length / 2) / length
    }

    /// The slot of what follows it, if that belongs to the same period.
    fn next_slot(&self, target: u32) -> u64 {
        self.nearest(self.parts.iter().map(|part| part.duration).sum(), target)
    }

    /// When it ends, in ticks of its track.
    fn end(&self) -> u64 {
        self.parts.last().map_or(0, |last| last.start.saturating_add(last.duration))
    }
}

impl Shelf {
    /// The segments of `slot`, one after the other, once no further one can be in it.
    pub(super) fn of_slot(&self, slot: Slot, target: u32, ended: bool) -> Found {
        let place = |segment: &Segment| (segment.period, segment.slot(target));
        let (Some(front), Some(newest)) = (self.segments.front(), self.segments.back()) else {
            return if ended { Found::Missing } else { Found::Later };
        };
        // What was before the first that is left may have been in the same slot as that. A name is always for the same bytes.
        if slot < place(front) || (slot == place(front) && slot.1 > 0) {
            return Found::Missing;
        }
        let follows = (newest.period, newest.next_slot(target));
        if place(newest) <= slot && !ended && !(newest.whole && slot < follows) {
            let soon = slot.0 == newest.period && slot.1 <= newest.slot(target).saturating_add(AHEAD_MAX);
            return if soon { Found::Later } else { Found::Missing };
        }
        let of_slot = self.segments.iter().filter(|segment| place(segment) == slot);
        let bytes: Vec<Bytes> = of_slot.flat_map(|segment| segment.bytes_from(0)).collect();
        if !bytes.is_empty() {
            return Found::Bytes(bytes);
        }
        let before = self.segments.iter().rfind(|segment| place(segment) < slot);
        match before.filter(|before| before.period == slot.0) {
            // Whoever counts the slots of a period by its length rounds up.
            Some(before) if self.is_within(before, slot, target) => Found::Bytes(vec![nothing(before)]),
            _ => Found::Missing,
        }
    }

    /// Whether the period of `before`, the last segment that is earlier than `slot`, has anything in the slot or behind it, be it
    /// the end of that segment.
    fn is_within(&self, before: &Segment, slot: Slot, target: u32) -> bool {
        let goes_on = self.segments.iter().any(|later| later.period == slot.0 && later.slot(target) > slot.1);
        goes_on || slot.1 <= before.next_slot(target)
    }
}

/// A fragment without samples, behind this segment.
fn nothing(before: &Segment) -> Bytes {
    let sequence = u32::try_from(before.number).unwrap_or(u32::MAX);
    let run = Run { track: 1, base_decode_time: before.end(), all_key: false, samples: &[] };
    let mut bytes = BytesMut::new();
    mux::head(sequence, &[run], &mut bytes);
    bytes.freeze()
}
