//! A live stream cut into segments and parts, which are fetched by name: what HLS and DASH are made of.
//!
//! The core that owns a stream packages it once ([`Packager`]): frames go in, [`Cut`]s come out. A cut is a part of a track
//! as bytes (a CMAF chunk, ISO/IEC 23000-19), or a word about what follows. Every core that is asked for the stream keeps a
//! [`Window`] of its cuts, the payload bytes shared, and answers from there. What a playlist or a manifest looks like is not
//! known here: its writer is part of the question ([`Text`]).
//!
//! Each track is a rendition of its own, and all are cut at the same places, so that segments of one number belong together.

mod clock;
mod lane;
mod packager;
#[cfg(test)]
mod tests;
mod window;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;

pub use self::{
    packager::Packager,
    window::{Found, Segment, Shelf, Window, Written},
};
use crate::{codec::Parameters, time::Wall};

/// What an operator chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The least length of a segment: it ends with the first key frame from there on.
    pub segment: Duration,
    /// The length that parts come close to. What they may not exceed follows from it and the stream's pace.
    pub part: Duration,
    /// How much of the stream a playlist lists, at least three segments. As much again is kept, for those who hold an older
    /// playlist.
    pub window: Duration,
    /// How long a stream is packaged that nobody asks for any more.
    pub linger: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            segment: Duration::from_secs(2),
            part: Duration::from_millis(200),
            window: Duration::from_secs(16),
            linger: Duration::from_secs(30),
        }
    }
}

/// What holds for as long as a stream is packaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Tells this packaging from every other of the same stream: names of segments have it, so that no cache mistakes one
    /// for another.
    pub id: u64,
    /// No segment is longer than this, rounded to whole seconds (EXT-X-TARGETDURATION).
    pub target: u32,
    /// No part is longer than this, and only the last of a segment is shorter than 85 % of it (PART-TARGET).
    pub part: Duration,
    /// How much of the stream a playlist lists.
    pub window: Duration,
}

/// Which of a stream's tracks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rendition {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
}

impl Rendition {
    /// Lower case, for names.
    pub const fn name(self) -> &'static str {
        match self {
            Rendition::Video => "video",
            Rendition::Audio => "audio",
        }
    }
}

/// What a decoder needs before the segments that name it: an initialisation segment.
#[derive(Clone, Debug)]
pub struct Init {
    /// Of which track.
    pub rendition: Rendition,
    /// Counts the track's from 0.
    pub version: u32,
    /// What it says.
    pub parameters: Arc<Parameters>,
    /// Ticks per second of the track's times.
    pub rate: u32,
    /// `ftyp` and `moov`.
    pub bytes: Bytes,
}

/// The smallest thing that can be fetched: some frames of one track.
#[derive(Clone, Debug)]
pub struct Part {
    /// Of which track.
    pub rendition: Rendition,
    /// Of which segment (the Media Sequence Number).
    pub segment: u64,
    /// Counts the segment's from 0.
    pub index: u32,
    /// Which [`Init`] it needs.
    pub init: u32,
    /// The segment does not continue the one before it; said by its first part.
    pub discontinuity: bool,
    /// Discontinuities of the stream so far, the same for all its tracks.
    pub period: u64,
    /// When its first frame is decoded, in ticks of the track.
    pub start: u64,
    /// How long it lasts, in ticks of the track.
    pub duration: u64,
    /// Ticks per second.
    pub rate: u32,
    /// A decoder can begin here.
    pub independent: bool,
    /// It is the last of its segment.
    pub last: bool,
    /// The track had nothing for so long: there are no bytes.
    pub gap: bool,
    /// When its first frame was there.
    pub wall: Wall,
    /// Whole boxes, `moof` and `mdat`; a segment's first part has `styp` and `prft` before them.
    pub bytes: Bytes,
}

impl Part {
    /// How long it lasts.
    pub fn lasts(&self) -> Duration {
        ticks(self.duration, self.rate)
    }
}

/// What a packager says. All that the cores know of a packaged stream is a run of these.
#[derive(Clone, Debug)]
pub enum Cut {
    /// Before anything else.
    Terms(Arc<Terms>),
    /// Parts of this track from here on need it.
    Init(Arc<Init>),
    /// The next part of its track.
    Part(Arc<Part>),
    /// There is nothing more.
    Ended,
}

/// A thing that can be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An initialisation segment.
    Init {
        /// [`Terms::id`].
        id: u64,
        /// Of which track.
        rendition: Rendition,
        /// Which.
        version: u32,
    },
    /// A segment. One that is not whole yet is waited for, or comes as it is made.
    Segment {
        /// [`Terms::id`].
        id: u64,
        /// Of which track.
        rendition: Rendition,
        /// Its number.
        number: u64,
        /// The client takes it as it is made, and has so many parts of it already. `None` when it wants it whole.
        from: Option<u32>,
    },
    /// A part. The next one that will be cut is waited for.
    Part {
        /// [`Terms::id`].
        id: u64,
        /// Of which track.
        rendition: Rendition,
        /// Its segment's number.
        number: u64,
        /// Which of the segment's.
        index: u32,
    },
    /// What is written about the window.
    Text(Text),
    /// What the server's clock says, for players that reckon from the times of a manifest. (ISO/IEC 23009-1, 5.8.4.11)
    Clock,
}

/// A playlist or a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Which kind.
    pub form: &'static TextForm,
    /// Of which track, where it is about one.
    pub rendition: Option<Rendition>,
    /// The client holds the last one and wants what is new (`_HLS_skip`).
    pub skip: bool,
    /// It is to have this segment, or this part of it (`_HLS_msn`, `_HLS_part`).
    pub until: Option<(u64, Option<u32>)>,
    /// What addresses in it carry, without a `?`: the client's own query, less what was meant for this request.
    pub query: String,
}

/// A kind of [`Text`]. One `static` per kind.
pub struct TextForm {
    /// For log lines.
    pub name: &'static str,
    /// What it is to HTTP.
    pub content_type: &'static str,
    /// Writes it. The window has its terms and at least one whole segment.
    pub write: fn(&Window, &Text) -> String,
}

impl PartialEq for TextForm {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for TextForm {}

impl fmt::Debug for TextForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TextForm({})", self.name)
    }
}

/// So many ticks as time.
pub fn ticks(count: u64, rate: u32) -> Duration {
    let nanos = u128::from(count) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
