//! Frames that set out by datagrams of which none is lost for good, and until when each has been taken.

use std::collections::BTreeMap;

use shardcast_engine::time::Now;

use super::{Stamp, Verdict, verdict};

/// What has been promised and not been kept yet.
#[derive(Debug, Default)]
pub struct Promises(BTreeMap<Stamp, Now>);

impl Promises {
    /// A frame sets out; it has been taken by then.
    pub fn promise(&mut self, stamp: Stamp, by: Now) {
        self.0.insert(stamp, by);
    }

    /// What still waits for what was lost is let go: of one publisher that says goodbye, or of all.
    pub fn release(&mut self, publisher: Option<u32>) {
        self.0.retain(|stamp, _| publisher.is_some_and(|publisher| stamp.publisher != publisher));
    }

    /// Of a publisher that is there, all has been taken that was promised for before `now`.
    ///
    /// # Errors
    /// Something has not.
    pub fn are_kept(&self, publisher: u32, now: Now) -> Verdict {
        match self.0.range(first_of(publisher)..).next() {
            Some((stamp, by)) if stamp.publisher == publisher && *by < now => {
                Err(format!("{stamp:?} has not been taken in time, nor what followed"))
            }
            _ => Ok(()),
        }
    }

    /// A frame has been taken. True when it was promised: then it is the next one of its film, and in time.
    pub(super) fn keep(&mut self, stamp: Stamp, now: Now) -> Result<bool, String> {
        let Some(by) = self.0.remove(&stamp) else { return Ok(false) };
        if let Some((missing, _)) = self.0.range(first_of(stamp.publisher)..stamp).next() {
            return Err(format!("{stamp:?} was taken and {missing:?} before it never was"));
        }
        verdict(now <= by, || format!("{stamp:?} was taken {:?} later than it had to be", now.since(by)))?;
        Ok(true)
    }
}

const fn first_of(publisher: u32) -> Stamp {
    Stamp { publisher, sequence: 0 }
}
