//! The media playlist of one rendition.

use std::{fmt::Write, time::Duration};

use super::{measure::seconds, name};
use crate::segment::{Packaging, Part, Segment, Shelf, Terms, Text, Window};

/// What delta updates ask for (RFC 8216bis, 8). Everything else that is used here would do with 6, but a playlist that can be
/// asked for its updates says so from the beginning.
const VERSION: u32 = 9;
/// Decimals, all that is used where segments are MPEG-TS. (8)
const VERSION_OF_TRANSPORT: u32 = 3;
/// Parts are listed as far from the end as this, in target durations. (6.2.2)
const PARTS_LISTED: u32 = 3;
/// How far a delta update reaches back, in target durations. (4.4.3.8)
const SKIP_UNTIL: u32 = 6;
/// How far from the end a player keeps, in target durations and in part target durations. (4.4.3.8)
const HOLD_BACK: u32 = 3;
/// What a playlist takes where addresses carry nothing.
const OUT_BYTES: usize = 4096;

/// Writes it.
pub(super) fn write(window: &Window, text: &Text) -> String {
    let shelf = text.rendition.and_then(|rendition| window.shelf(rendition));
    let (Some(terms), Some(shelf)) = (window.terms(), shelf) else { return String::new() };
    let query = if text.query.is_empty() { String::new() } else { format!("?{}", text.query) };
    let parts = shelf.rendition().packaging() == Packaging::Fragments;
    let out = String::with_capacity(OUT_BYTES);
    let mut playlist = Playlist { terms, shelf, parts, ended: window.ended(), query: &query, out };
    playlist.head();
    playlist.segments(text.skip);
    if playlist.ended {
        playlist.line(format_args!("#EXT-X-ENDLIST"));
    } else if parts {
        playlist.hint();
        playlist.reports(window);
    }
    playlist.out
}

struct Playlist<'a> {
    terms: &'a Terms,
    shelf: &'a Shelf,
    /// Its segments have parts and initialisation segments, and the list its updates. Transport streams have neither: who
    /// asks for them knows of nothing newer.
    parts: bool,
    ended: bool,
    /// What addresses end with.
    query: &'a str,
    out: String,
}

impl Playlist<'_> {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.out.write_fmt(line).expect("a String takes all that is written to it");
        self.out.push('\n');
    }

    /// What stands before the first segment. EXT-X-INDEPENDENT-SEGMENTS does not: a segment without a key frame is possible
    /// at any time, and a playlist cannot take the tag back. (4.4.2.1, 6.2.1)
    fn head(&mut self) {
        self.line(format_args!("#EXTM3U"));
        let version = if self.parts { VERSION } else { VERSION_OF_TRANSPORT };
        self.line(format_args!("#EXT-X-VERSION:{version}"));
        self.line(format_args!("#EXT-X-TARGETDURATION:{}", self.terms.target));
        if self.parts {
            self.control();
        }
        let first = self.shelf.listed().next().map_or(0, |segment| segment.number);
        self.line(format_args!("#EXT-X-MEDIA-SEQUENCE:{first}"));
        self.line(format_args!("#EXT-X-DISCONTINUITY-SEQUENCE:{}", self.shelf.discontinuities()));
    }

    /// What can be asked of the server, and how far behind players are to be. (4.4.3.7, 4.4.3.8)
    fn control(&mut self) {
        let target = self.target();
        let part = round_up(self.terms.part);
        let mut control = format!(
            "CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={},HOLD-BACK={}",
            seconds(part * HOLD_BACK),
            seconds(target * HOLD_BACK)
        );
        if self.can_skip() {
            control.push_str(&format!(",CAN-SKIP-UNTIL={}", seconds(target * SKIP_UNTIL)));
        }
        self.line(format_args!("#EXT-X-SERVER-CONTROL:{control}"));
        self.line(format_args!("#EXT-X-PART-INF:PART-TARGET={}", seconds(part)));
    }

    fn target(&self) -> Duration {
        Duration::from_secs(self.terms.target.into())
    }

    /// A list that is no longer than what a delta update has is asked for whole.
    fn can_skip(&self) -> bool {
        self.parts && self.terms.window > self.target() * SKIP_UNTIL
    }

    fn segments(&mut self, skip: bool) {
        let shelf = self.shelf;
        let mut left: Duration = shelf.listed().map(Segment::duration).sum();
        let (mut skipped, mut init) = (0, None);
        // A playlist that has ended is fetched once more, and then never again.
        let mut skips = skip && self.can_skip() && !self.ended;
        for segment in shelf.listed() {
            let begins = left;
            left = left.saturating_sub(segment.duration());
            if skips && segment.whole && left >= self.target() * SKIP_UNTIL {
                skipped += 1;
                continue;
            }
            if std::mem::take(&mut skips) && skipped > 0 {
                // Whoever asks for an update has what applied to the skipped segments. The EXT-X-MAP in force is said again
                // all the same, which it may be anywhere (4.4.4.5): Shaka Player forgets it otherwise, and plays no further.
                self.line(format_args!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}"));
            }
            self.segment(segment, init, begins);
            init = Some(segment.init);
        }
    }

    /// A segment with what applies to it, which stands before its parts (4.4.4.9). `init` is in force so far; `begins` says
    /// how far the segment's first picture is from the end.
    fn segment(&mut self, segment: &Segment, init: Option<u32>, begins: Duration) {
        let (id, rendition, query) = (self.terms.id, self.shelf.rendition(), self.query);
        if segment.discontinuity {
            self.line(format_args!("#EXT-X-DISCONTINUITY"));
        }
        if self.parts && init != Some(segment.init) {
            let name = name::init(id, rendition, segment.init);
            self.line(format_args!("#EXT-X-MAP:URI=\"{name}{query}\""));
        }
        // On every segment, not on the first alone: which is first changes, and what a segment says may not.
        if let Some(first) = segment.parts.first() {
            self.line(format_args!("#EXT-X-PROGRAM-DATE-TIME:{}", first.wall));
        }
        let is_gap = segment.whole && segment.is_gap();
        if self.parts && begins <= self.target() * PARTS_LISTED && !is_gap {
            segment.parts.iter().for_each(|part| self.part(part));
        }
        if !segment.whole && !self.ended {
            return;
        }
        // A gap is one part, as long as its segment and so longer than parts may be. It is not listed as a part.
        if is_gap {
            self.line(format_args!("#EXT-X-GAP"));
        }
        let name = name::segment(id, rendition, segment.number);
        self.line(format_args!("#EXTINF:{},", seconds(segment.duration())));
        self.line(format_args!("{name}{query}"));
    }

    fn part(&mut self, part: &Part) {
        let name = name::part(self.terms.id, part.rendition, part.segment, part.index);
        let independent = if part.independent { ",INDEPENDENT=YES" } else { "" };
        let gap = if part.gap { ",GAP=YES" } else { "" };
        // A picture that stays may last longer than a part may be. What is said of its segment has all of it. A gap behind it
        // would add up, but there is none: browsers and hls.js take no picture behind one before a key frame.
        let lasts = seconds(part.lasts().min(self.terms.part));
        let query = self.query;
        self.line(format_args!("#EXT-X-PART:DURATION={lasts},URI=\"{name}{query}\"{independent}{gap}"));
    }

    /// What will be cut next can be asked for now. (4.4.5.3)
    fn hint(&mut self) {
        let (number, index) = self.shelf.next();
        let name = name::part(self.terms.id, self.shelf.rendition(), number, index);
        let query = self.query;
        self.line(format_args!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{name}{query}\""));
    }

    /// How far the other rendition is, for who changes to it. (4.4.5.4)
    fn reports(&mut self, window: &Window) {
        let query = self.query;
        let other =
            |shelf: &&Shelf| shelf.rendition() != self.shelf.rendition() && shelf.whole().next().is_some();
        for shelf in window.shelves().iter().filter(other) {
            let Some(last) = shelf.listed().next_back() else { continue };
            let name = name::playlist(shelf.rendition());
            let (number, part) = (last.number, last.parts.len().saturating_sub(1));
            self.line(format_args!(
                "#EXT-X-RENDITION-REPORT:URI=\"{name}{query}\",LAST-MSN={number},LAST-PART={part}"
            ));
        }
    }
}

/// To whole microseconds, so that no part is written longer than the longest.
fn round_up(duration: Duration) -> Duration {
    Duration::from_micros(u64::try_from(duration.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX))
}
