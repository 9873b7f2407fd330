//! Frames that set out by datagrams of which none is lost for good, and until when each has been taken.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use shardcast_engine::{media::Frame, time::Now};

use super::{Stamp, Verdict, verdict};

/// What has been promised and not been kept yet.
#[derive(Debug, Default)]
pub struct Promises {
    held: BTreeMap<Stamp, Promise>,
    /// Films that come by packets of their tracks, each track's beginning.
    beginnings: BTreeMap<(u32, Order), Beginning>,
    /// Tracks of which something was kept.
    kept: BTreeSet<(u32, Order)>,
}

#[derive(Clone, Copy, Debug)]
struct Promise {
    by: Now,
    order: Order,
    /// It stands so near to the first packet of its track that that may have been overtaken: what came first is where counting
    /// begins.
    overtaken: bool,
}

/// Among which frames one has its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// All of its film.
    All,
    /// The same, of a film that is sent unasked.
    Unasked,
    /// Pictures.
    Pictures,
    /// Packets of sound.
    Sound,
}

#[derive(Clone, Copy, Debug)]
struct Beginning {
    /// When the first frame has been taken, and how many key frames there were.
    by: Now,
    keys: u32,
}

impl Promises {
    /// A frame sets out; it has been taken by then, and all before it.
    pub fn promise(&mut self, stamp: Stamp, order: Order, by: Now) {
        self.held.insert(stamp, Promise { by, order, overtaken: false });
    }

    /// A frame sets out among those of its track alone, where one packet overtakes another by so much at most.
    pub fn promise_of_track(&mut self, stamp: Stamp, frame: &Frame, by: Now, overtakes: Duration) {
        let order = if frame.is_video() { Order::Pictures } else { Order::Sound };
        let begun = self.beginnings.entry((stamp.publisher, order)).or_insert(Beginning { by, keys: 0 });
        begun.keys += u32::from(frame.is_key());
        // Pictures that need one that was left out wait for the next one that needs none.
        let overtaken = by <= begun.by.after(overtakes) || frame.is_video() && begun.keys < 2;
        self.held.insert(stamp, Promise { by, order, overtaken });
    }

    /// What still waits for what was lost is let go: of one publisher that says goodbye, or of all.
    pub fn release(&mut self, publisher: Option<u32>) {
        self.held.retain(|stamp, _| publisher.is_some_and(|publisher| stamp.publisher != publisher));
    }

    /// Of a publisher that is there, all has been taken that was promised for before `now`.
    ///
    /// # Errors
    /// Something has not.
    pub fn are_kept(&self, publisher: u32, now: Now) -> Verdict {
        match self.held.range(first_of(publisher)..).next() {
            Some((stamp, Promise { by, .. })) if stamp.publisher == publisher && *by < now => {
                Err(format!("{stamp:?} has not been taken in time, nor what followed"))
            }
            _ => Ok(()),
        }
    }

    /// A frame has been taken. Says among which it was promised, if it was: then it is the next one of its film, and in time.
    pub(super) fn keep(&mut self, stamp: Stamp, now: Now) -> Result<Option<Order>, String> {
        let Some(Promise { by, order, .. }) = self.held.remove(&stamp) else { return Ok(None) };
        let before = |other: &Stamp, promise: &Promise| {
            other.publisher == stamp.publisher && *other < stamp && promise.order == order
        };
        if self.kept.insert((stamp.publisher, order)) {
            self.held.retain(|other, promise| !(promise.overtaken && before(other, promise)));
        }
        let mut missing = self.held.range(first_of(stamp.publisher)..stamp);
        if let Some((missing, _)) = missing.find(|(other, promise)| before(other, promise)) {
            return Err(format!("{stamp:?} was taken and {missing:?} before it never was"));
        }
        verdict(now <= by, || format!("{stamp:?} was taken {:?} later than it had to be", now.since(by)))?;
        Ok(Some(order))
    }
}

const fn first_of(publisher: u32) -> Stamp {
    Stamp { publisher, sequence: 0 }
}
