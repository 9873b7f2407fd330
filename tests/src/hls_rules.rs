//! What a media playlist has to keep to, as a table: the rules of draft-pantos-hls-rfc8216bis (RFC 8216bis) for a live
//! playlist of fragmented MP4 with parts, or of MPEG-TS without. Each row names its section and says what it demands.
//!
//! [`check`] holds one answer against them: its text, what the same address answered before, an update of the same moment,
//! the playlists of the other renditions, and the bytes behind the addresses. It does not know where they come from, so it
//! judges a window in memory and a server over HTTP alike. Playlists are read anew here; boxes by `fmp4::demux`.

mod change;
mod list;
mod media;
pub mod playlist;
mod text;
mod transport;

use std::fmt;

use media::Media;
use playlist::Playlist;

/// A playlist and what is known around it.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// The playlist as it came, whole.
    pub text: &'a str,
    /// What the same address answered earlier, whole.
    pub before: Option<&'a str>,
    /// The delta update that was answered at the same moment: see [`are_of_one_moment`].
    pub update: Option<&'a str>,
    /// The playlists of the other renditions, fetched just before, and their addresses as EXT-X-RENDITION-REPORT is to have
    /// them.
    pub others: &'a [(&'a str, &'a str)],
    /// The bytes behind an address, as it stands in a playlist; `None` when there are none.
    pub fetch: &'a dyn Fn(&str) -> Option<Vec<u8>>,
    /// All that there is can be had here. If not, only what is had is judged: other renditions may have been fetched long
    /// before or never, and of bytes that are not there nobody knows.
    pub complete: bool,
}

/// A rule.
pub struct Rule {
    /// Where it stands in RFC 8216bis.
    pub section: &'static str,
    /// What it demands.
    pub what: &'static str,
    /// Says where it is broken.
    check: fn(&Facts<'_>) -> Vec<String>,
}

/// A rule that is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where it stands in RFC 8216bis.
    pub section: &'static str,
    /// What it demands.
    pub what: &'static str,
    /// What was found instead.
    pub found: String,
}

/// A case that was read.
struct Facts<'a> {
    text: &'a str,
    now: Playlist<'a>,
    before: Option<Playlist<'a>>,
    update: Option<Playlist<'a>>,
    others: Vec<(&'a str, Playlist<'a>)>,
    media: Media<'a>,
    complete: bool,
}

/// Holds a playlist against every rule, and gives those that are broken.
pub fn check(case: &Case<'_>) -> Vec<Fault> {
    let now = Playlist::read(case.text);
    let facts = Facts {
        text: case.text,
        media: Media::fetch(&now, case.fetch),
        before: case.before.map(Playlist::read),
        update: case.update.map(Playlist::read),
        others: case.others.iter().map(|(uri, text)| (*uri, Playlist::read(text))).collect(),
        complete: case.complete,
        now,
    };
    let broken = |rule: &'static Rule| {
        let fault = |found| Fault { section: rule.section, what: rule.what, found };
        (rule.check)(&facts).into_iter().map(fault)
    };
    RULES.iter().flat_map(broken).collect()
}

/// Demands that every rule is kept.
///
/// # Panics
/// When one is not, with what was found and the playlist.
pub fn demand(case: &Case<'_>) {
    let faults = check(case);
    let said: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
    assert!(faults.is_empty(), "{said}{}\nbefore that:\n{}", case.text, case.before.unwrap_or("nothing"));
}

/// True when a playlist and an update of it, fetched one after the other, tell of the same moment.
pub fn are_of_one_moment(text: &str, update: &str) -> bool {
    let moment = |text| {
        let playlist = Playlist::read(text);
        (playlist.newest(), playlist.hint(), playlist.ended)
    };
    moment(text) == moment(update)
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.section, self.what, self.found)
    }
}

/// The table.
pub static RULES: &[Rule] = &[
    // Its text.
    Rule {
        section: "4.1",
        what: "lines end with a line feed and hold no control characters and no blanks around them",
        check: text::lines,
    },
    Rule { section: "4.1", what: "every tag is one that a media playlist may have", check: text::tags },
    Rule {
        section: "4.2",
        what: "attributes are those of their tag, of their type, and all that must be",
        check: text::attributes,
    },
    Rule { section: "4.4.1.1", what: "EXTM3U is the first line and no other", check: text::first },
    Rule {
        section: "4.4.1.2",
        what: "EXT-X-VERSION is there once and high enough for what is used",
        check: text::version,
    },
    Rule { section: "4.4.3", what: "a tag about the whole playlist stands in it once", check: text::once },
    Rule {
        section: "4.4.3.2",
        what: "both sequence numbers stand before the first segment",
        check: text::numbers_first,
    },
    // What it lists.
    Rule {
        section: "4.4.3.1",
        what: "no segment is longer than EXT-X-TARGETDURATION when rounded",
        check: list::target,
    },
    Rule { section: "4.4.3.7", what: "EXT-X-PART-INF is there where parts are", check: list::part_inf },
    Rule {
        section: "4.4.3.8",
        what: "distances in EXT-X-SERVER-CONTROL are within their bounds",
        check: list::control,
    },
    Rule { section: "4.4.4.1", what: "every segment has one EXTINF", check: list::extinf },
    Rule {
        section: "4.4.4.5",
        what: "EXT-X-MAP stands before the first segment and part of fragmented MP4",
        check: list::map,
    },
    Rule {
        section: "4.4.4.6",
        what: "EXT-X-PROGRAM-DATE-TIME is a date and goes on as durations say",
        check: list::dates,
    },
    Rule {
        section: "4.4.4.9",
        what: "what applies to a segment stands before its parts",
        check: list::late_tags,
    },
    Rule { section: "4.4.4.9", what: "no part is longer than PART-TARGET", check: list::part_most },
    Rule {
        section: "4.4.4.9",
        what: "only the last part of a segment is shorter than 85 % of PART-TARGET",
        check: list::part_least,
    },
    Rule { section: "4.4.4.9", what: "the parts of a segment are as long as it is", check: list::part_sum },
    Rule {
        section: "4.4.4.9",
        what: "parts are listed within three target durations of the end, and no others",
        check: list::part_place,
    },
    Rule {
        section: "4.4.5.3",
        what: "one part is hinted at until the end, and it is not listed yet",
        check: list::hint,
    },
    Rule {
        section: "4.4.5.4",
        what: "every other rendition is reported, and how far it is",
        check: list::reports,
    },
    // What an update of it says.
    Rule {
        section: "6.2.5.1",
        what: "an update skips what is older than CAN-SKIP-UNTIL and says the rest alike",
        check: change::update,
    },
    // What it was before.
    Rule { section: "6.2.1", what: "a segment stays as it was listed", check: change::segments },
    Rule { section: "6.2.1", what: "a part stays as it was listed", check: change::parts },
    Rule {
        section: "6.2.2",
        what: "segments leave from the beginning, and EXT-X-MEDIA-SEQUENCE counts them",
        check: change::media_sequence,
    },
    Rule {
        section: "6.2.2",
        what: "EXT-X-DISCONTINUITY-SEQUENCE counts the discontinuities that left",
        check: change::discontinuity_sequence,
    },
    Rule {
        section: "6.2.2",
        what: "three target durations are left when segments leave",
        check: change::length,
    },
    Rule {
        section: "6.2.1",
        what: "EXT-X-TARGETDURATION and PART-TARGET never change",
        check: change::targets,
    },
    Rule { section: "6.2.1", what: "nothing follows EXT-X-ENDLIST", check: change::end },
    Rule { section: "6.2.6", what: "what was hinted at is what came", check: change::hint },
    // The media.
    Rule { section: "6.2.1", what: "everything that is listed can be fetched", check: media::is_there },
    Rule {
        section: "6.2.2",
        what: "what has just left the list can still be fetched",
        check: media::is_still_there,
    },
    Rule {
        section: "3.1.2",
        what: "segments and parts are fragments of the one track of their EXT-X-MAP",
        check: media::form,
    },
    Rule {
        section: "4.4.4.1",
        what: "EXTINF is how long the samples of the segment are, and what its track had nothing for",
        check: media::segment_length,
    },
    Rule {
        section: "4.4.4.9",
        what: "DURATION is how long the samples of the part are",
        check: media::part_length,
    },
    Rule { section: "3.2", what: "the parts of a segment are its bytes", check: media::part_bytes },
    Rule {
        section: "4.4.4.9",
        what: "INDEPENDENT=YES stands with the parts that a decoder can begin with",
        check: media::independent,
    },
    Rule {
        section: "4.4.4.3",
        what: "decoding times go on from segment to segment where no discontinuity and no gap is said",
        check: media::continuity,
    },
    // The media, where it is MPEG-TS.
    Rule {
        section: "3.1.1",
        what: "a segment of MPEG-TS begins with its tables and a key frame and can be read by itself",
        check: transport::form,
    },
    Rule {
        section: "4.4.4.1",
        what: "EXTINF of a segment of MPEG-TS is how much later the next one begins",
        check: transport::length,
    },
    Rule {
        section: "4.4.4.3",
        what: "counters of MPEG-TS go on from segment to segment where no discontinuity is said",
        check: transport::continuity,
    },
];
