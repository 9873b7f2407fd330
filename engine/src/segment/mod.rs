//! A live stream cut into segments and parts, which are fetched by name: what HLS and DASH are made of.
//!
//! The core that owns a stream packages it once ([`Packager`]): frames go in, [`Cut`]s come out. A cut is a part of a track
//! as bytes (a CMAF chunk, ISO/IEC 23000-19), or a word about what follows. Every core that is asked for the stream keeps a
//! [`Window`] of its cuts, the payload bytes shared, and answers from there. What a playlist or a manifest looks like is not
//! known here: its writer is part of the question ([`Text`]).
//!
//! Each track is a rendition of its own, and all are cut at the same places, so that segments of one number belong together.
//! For players that know nothing newer there is MPEG-TS: one rendition with all tracks, cut by another machine at the same
//! kind of places ([`Transport`]). A stream is packaged in either form only while somebody asks for that form ([`Packaging`]).

mod clock;
#[cfg(test)]
pub(crate) mod kit;
mod lane;
mod pace;
mod packager;
mod slot;
#[cfg(test)]
mod tests;
mod transport;
mod window;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;

pub use self::{
    packager::Packager,
    transport::Transport,
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
    /// No part is longer than this (PART-TARGET), but one with a single frame that is; and only the last of a segment, and one
    /// that parts without media follow, is shorter than 85 % of it.
    pub part: Duration,
    /// How much of the stream a playlist lists.
    pub window: Duration,
    /// When what was first packaged of the stream was there, to the millisecond: times of a presentation count from it.
    pub began: Wall,
    /// Tracks that were announced. What is in them may come late.
    pub renditions: Vec<Rendition>,
}

/// Where the numbers of a stream that is packaged begin: after those of its last packaging, so that no list goes back that
/// somebody holds. A stream that is packaged for the first time begins with the default, all zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbering {
    /// The Media Sequence Number of the first segment.
    pub segment: u64,
    /// Its [period](Part::period). Where that is not 0 it begins with a discontinuity, which is counted in it.
    pub period: u64,
    /// [`Terms::began`] of the last packaging, for this one too.
    pub began: Option<Wall>,
}

impl Numbering {
    /// [`Terms::began`] of a packaging whose first frame came at `wall`.
    const fn began(&self, wall: Wall) -> Wall {
        match self.began {
            Some(began) => began,
            None => Wall(wall.0 - wall.0 % 1_000_000),
        }
    }
}

/// What segments are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Packaging {
    /// Fragmented MP4 (CMAF), a track by itself, in parts.
    Fragments,
    /// MPEG-TS, all tracks together, in whole segments.
    Transport,
}

impl Packaging {
    /// Both.
    pub const ALL: [Packaging; 2] = [Packaging::Fragments, Packaging::Transport];
}

/// Which of a stream's tracks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rendition {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
    /// Both, in one transport stream.
    Transport,
}

impl Rendition {
    /// Lower case, for names.
    pub const fn name(self) -> &'static str {
        match self {
            Rendition::Video => "video",
            Rendition::Audio => "audio",
            Rendition::Transport => "ts",
        }
    }

    /// In which form it is packaged.
    pub const fn packaging(self) -> Packaging {
        match self {
            Rendition::Video | Rendition::Audio => Packaging::Fragments,
            Rendition::Transport => Packaging::Transport,
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
    /// Where its period began, the same for all parts of it.
    pub origin: Origin,
    /// When its first frame is decoded, in ticks of the track. Within a period it is where the part before it ends.
    pub start: u64,
    /// How long it lasts, in ticks of the track.
    pub duration: u64,
    /// Ticks per second.
    pub rate: u32,
    /// A decoder can begin here.
    pub independent: bool,
    /// It is the last of its segment.
    pub last: bool,
    /// The track had nothing for so long. Where that is a whole segment there are bytes, a fragment without samples.
    pub gap: bool,
    /// When its first frame was there.
    pub wall: Wall,
    /// Whole boxes, `moof` and `mdat`; the first part of a segment that has any has `styp` and `prft` before them. Of a
    /// transport stream, whole packets that begin with its tables.
    pub bytes: Bytes,
}

impl Part {
    /// How long it lasts.
    pub fn lasts(&self) -> Duration {
        ticks(self.duration, self.rate)
    }
}

/// The beginning of a period, by which its times can be told when its first segment is no longer listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// In ticks of the track.
    pub time: u64,
    /// When that was.
    pub wall: Wall,
}

/// What a packager says. All that the cores know of a packaged stream is a run of these.
#[derive(Clone, Debug)]
pub enum Cut {
    /// Before anything else.
    Terms(Arc<Terms>),
    /// Parts of this track from here on need it.
    Init(Arc<Init>),
    /// A transport stream has these tracks from here on, pictures first. What their decoders need is in it.
    Tracks(Arc<[Arc<Parameters>]>),
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
    /// The segments that begin nearest to so many target durations after their period did, whole: usually one. Who asks
    /// for them so need not know what there is. The next one is waited for.
    Slot {
        /// [`Terms::id`].
        id: u64,
        /// Of which track; of those that come in fragments.
        rendition: Rendition,
        /// [`Part::period`].
        period: u64,
        /// How many target durations.
        slot: u64,
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

impl Item {
    /// In which form the stream must be packaged for it. A text about no rendition is about those of their own.
    pub fn packaging(&self) -> Packaging {
        let rendition = match self {
            Item::Init { rendition, .. }
            | Item::Segment { rendition, .. }
            | Item::Slot { rendition, .. }
            | Item::Part { rendition, .. } => Some(*rendition),
            Item::Text(text) => text.rendition,
            Item::Clock => None,
        };
        rendition.map_or(Packaging::Fragments, Rendition::packaging)
    }
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
