//! A frame that reached a viewer, and what excuses the viewer for having missed another.

use std::{fmt, time::Duration};

use shardcast_engine::{media::StreamName, time::Now};

use super::{Stamp, Taken, Verdict, verdict};

/// What excuses a viewer for having missed something.
#[derive(Clone, Copy, Debug)]
pub struct Excuse {
    /// It always took at once whatever came, and its core never slept for long.
    pub prompt: bool,
    /// When the lane from the owner of the stream to the viewer's core was last full.
    pub lane_full: Option<Now>,
    /// Its core, and how many jumps that core has counted, while it is known.
    pub counted: Option<(usize, u64)>,
    /// What it misses may be lost on the way.
    pub lossy: bool,
    /// How long after a frame was taken it has it, if that was agreed on.
    pub within: Option<Duration>,
    /// No bound makes a stream leave out what a viewer has not seen yet.
    pub whole: bool,
    /// Its protocol says every word that the plain one has.
    pub plain: bool,
    /// Its protocol passes on metadata and parameters as they were sent.
    pub knows: bool,
    /// It hears nothing of a track whose parameters have not come.
    pub deaf: bool,
    /// Each track comes by packets of its own: whether it hears pictures, and sound.
    pub tracks: Option<[bool; 2]>,
}

/// A frame that reached a viewer of its stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived<'a> {
    pub(super) stream: &'a StreamName,
    pub(super) stamp: Stamp,
    /// Which of the stream's frames it is.
    pub(super) index: usize,
    /// When it is to be decoded, as the viewer was told.
    pub(super) dts_millis: i64,
    pub(super) excuse: Excuse,
    pub(super) now: Now,
}

impl fmt::Display for Arrived<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, frame {} of {}", self.stamp, self.index, self.stream)
    }
}

impl Arrived<'_> {
    /// To a viewer that has watched since then it comes no later than was agreed on.
    pub(super) fn in_time(&self, taken: &Taken, since: Now) -> Verdict {
        let takes = self.now.since(taken.at);
        let late = self.excuse.within.filter(|within| taken.at > since && takes > *within);
        verdict(late.is_none() || self.excuse.lane_full.is_some(), || {
            format!("{self} came {takes:?} after it was taken, and {late:?} were agreed on")
        })
    }
}
