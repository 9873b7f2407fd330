//! MPEG-DASH (ISO/IEC 23009-1): the manifest of a packaged stream. It names the same segments as the playlists of
//! [`hls`](crate::hls) do, so a cache keeps them once for both.
//!
//! All times count from when the stream was first packaged (`availabilityStartTime`), which whoever packages it anew is told,
//! so that every manifest of a stream has the same timeline. (1970 would be simpler to keep, but VLC looks for the segments of
//! the first period as if it began with the presentation.) A run of segments without a discontinuity is a period. Its start
//! says when its media was there on this server's clock, and so when a segment can be fetched; players set their clocks by
//! the file `time` beside it (`UTCTiming`).
//!
//! The segment that is being made is in the timeline already, as long as others are: who asks for it is sent its parts as
//! they are cut (`availabilityTimeComplete="false"`).
//!
//! Segments have numbers, which count all that are in the timeline. So one that a track has nothing for is left out at an end
//! of it alone. In its middle it stays, and is a fragment without samples: to wait for a segment, and to pass over a hole in
//! the media, is something that players know; a hole in the timeline keeps dash.js waiting for ever.
//!
//! Players that are not good at timelines ask for a manifest without one (`timeline=no` in its query): VLC 3 runs dry behind the
//! segment that is being made, and GStreamer 1.22 reckons places wrongly once the first segment of a period is no longer in the
//! timeline. There segments are asked for by when they are due, slot by slot, and one that is not whole yet is waited for.
//! A slot is as long as the target duration, so what is listed follows from the clock alone. (5.3.9.5.3)
//!
//! A stream that is over is a presentation of what is left of it, and that begins with zero. Who has followed it while it was
//! live is told the same in the times that it knows, for those may not change (5.4.1): its requests are marked
//! (`Location`, 5.3.1.2).

#[cfg(test)]
mod tests;

use std::{
    fmt::{Arguments, Write},
    sync::Arc,
    time::Duration,
};

use crate::{
    codec::Shape,
    hls::{Query, bits_per_second, name, seconds},
    segment::{Init, Item, Segment, Shelf, Terms, Text, TextForm, Window, ticks},
    time::Wall,
};

/// The name of the manifest in a stream's folder.
pub const NAME: &str = "manifest.mpd";
/// Where players ask for the time, from the manifest's folder: what is answered is the server's, in UTC, as `xs:dateTime`
/// (ISO/IEC 23009-1, 5.8.4.11).
pub const TIME: &str = "time";

/// The manifest of a stream.
pub static MANIFEST: TextForm = TextForm { name: "manifest", content_type: "application/dash+xml", write };

/// The same without a timeline.
pub static PLAIN_MANIFEST: TextForm = TextForm {
    name: "manifest without a timeline",
    content_type: "application/dash+xml",
    write: write_plain,
};

/// What a GET of `file` in a stream's folder asks for; `None` when it is nothing of ours, or its query, without the `?`,
/// is such that addresses cannot carry it.
pub fn request(file: &str, query: &str) -> Option<Item> {
    if file == TIME {
        return Some(Item::Clock);
    }
    if file != NAME {
        return name::parse(file);
    }
    let carried = Query::parse(query).ok()?.carried;
    let (marks, query): (Vec<&str>, Vec<&str>) =
        carried.split('&').partition(|pair| [FOLLOWS, PLAIN].contains(pair));
    let form = if marks.contains(&PLAIN) { &PLAIN_MANIFEST } else { &MANIFEST };
    let (skip, query) = (marks.contains(&FOLLOWS), query.join("&"));
    Some(Item::Text(Text { form, rendition: None, skip, until: None, query }))
}

/// Stands in the query of who has a manifest of the stream already.
const FOLLOWS: &str = "_DASH_follows=YES";
/// Stands in the query of who wants no timeline.
const PLAIN: &str = "timeline=no";

/// How a manifest says which segments there are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Listing {
    /// One by one.
    Timeline,
    /// By slots of this length, in seconds.
    Slots(u32),
}

/// A manifest is fetched anew as often as this at least: each segment is in one soon after it began.
const UPDATE_MAX: Duration = Duration::from_secs(1);
/// How far behind a player is to be, beyond the length of a segment, in part target durations.
const PARTS_BEHIND: u32 = 3;
/// The same, in target durations, for one that has whole slots only.
const SLOTS_BEHIND: u32 = 3;

fn write(window: &Window, text: &Text) -> String {
    let terms = window.terms();
    terms.map(|terms| write_listing(window, terms, text, Listing::Timeline)).unwrap_or_default()
}

fn write_plain(window: &Window, text: &Text) -> String {
    let terms = window.terms();
    terms.map(|terms| write_listing(window, terms, text, Listing::Slots(terms.target))).unwrap_or_default()
}

fn write_listing(window: &Window, terms: &Terms, text: &Text, listing: Listing) -> String {
    let mut periods = periods(window, terms.began);
    if window.ended() && !text.skip {
        rewind(&mut periods, listing);
    }
    let mut out = Xml { text: String::with_capacity(4096) };
    out.line(0, format_args!(r#"<?xml version="1.0" encoding="utf-8"?>"#));
    let profiles = "urn:mpeg:dash:profile:isoff-live:2011,urn:mpeg:dash:profile:cmaf:2019";
    let head = format!(r#"<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="{profiles}""#);
    let longest = segments(&periods).map(Segment::duration).max().unwrap_or_default();
    let target = Duration::from_secs(terms.target.into());
    let lasting = format!(
        r#"minBufferTime="PT{}S" maxSegmentDuration="PT{}S""#,
        seconds(terms.part * PARTS_BEHIND),
        seconds(longest.max(target))
    );
    if window.ended() {
        let end = periods.last().map(Period::end).unwrap_or_default();
        out.line(
            0,
            format_args!(
                r#"{head} type="static" mediaPresentationDuration="PT{}S" {lasting}>"#,
                seconds(end)
            ),
        );
    } else {
        let published = segments(&periods).flat_map(|segment| &segment.parts);
        let published =
            published.map(|part| Wall(part.wall.0 + nanos(part.lasts()))).max().unwrap_or_default();
        let behind = match listing {
            Listing::Timeline => target + terms.part * PARTS_BEHIND,
            Listing::Slots(_) => target * SLOTS_BEHIND,
        };
        out.line(
            0,
            format_args!(
                r#"{head} type="dynamic" availabilityStartTime="{}" publishTime="{published}" minimumUpdatePeriod="PT{}S" timeShiftBufferDepth="PT{}S" suggestedPresentationDelay="PT{}S" {lasting}>"#,
                terms.began,
                seconds(UPDATE_MAX.min(target / 2)),
                seconds(terms.window.max(target * 3)),
                seconds(behind),
            ),
        );
        let marks: &[&str] = match listing {
            Listing::Timeline => &[FOLLOWS],
            Listing::Slots(_) => &[PLAIN, FOLLOWS],
        };
        let pairs = text.query.split('&').filter(|pair| !pair.is_empty()).chain(marks.iter().copied());
        let query = pairs.collect::<Vec<_>>().join("&amp;");
        out.line(1, format_args!("<Location>{NAME}?{query}</Location>"));
        out.line(1, format_args!(r#"<ServiceDescription id="0">"#));
        let (latency, part) = (behind.as_millis(), terms.part.as_millis());
        let nearest = match listing {
            Listing::Timeline => part * 3,
            Listing::Slots(_) => target.as_millis(),
        };
        let (min, max) = (latency.min(nearest), latency * 3);
        out.line(2, format_args!(r#"<Latency target="{latency}" min="{min}" max="{max}"/>"#));
        out.line(2, format_args!(r#"<PlaybackRate min="0.96" max="1.04"/>"#));
        out.line(1, format_args!("</ServiceDescription>"));
    }
    let query = template(&text.query);
    let last = periods.len().saturating_sub(1);
    for (place, period) in periods.iter().enumerate() {
        let open = !window.ended() && (place == last || period.is_open());
        out.period(terms, period, listing, open, &query);
    }
    if !window.ended() {
        let scheme = "urn:mpeg:dash:utc:http-xsdate:2014";
        out.line(1, format_args!(r#"<UTCTiming schemeIdUri="{scheme}" value="{TIME}"/>"#));
    }
    out.line(0, format_args!("</MPD>"));
    out.text
}

/// A run of segments without a discontinuity.
struct Period<'a> {
    number: u64,
    /// Since [`Terms::began`], or since the beginning of a stream that is over.
    start: Duration,
    /// The slot that it begins with.
    first_slot: u64,
    sets: Vec<Set<'a>>,
}

/// The segments of one track in it.
struct Set<'a> {
    shelf: &'a Shelf,
    init: Arc<Init>,
    /// The media time that was when the period began.
    offset: u64,
    segments: Vec<&'a Segment>,
}

/// The listed segments by period.
fn periods(window: &Window, began: Wall) -> Vec<Period<'_>> {
    let mut periods: Vec<Period<'_>> = Vec::new();
    for shelf in window.shelves() {
        for segment in shelf.listed() {
            let Some(origin) = segment.parts.first().map(|part| part.origin) else { continue };
            let place = periods.partition_point(|period| period.number < segment.period);
            if periods.get(place).is_none_or(|period| period.number != segment.period) {
                let start = Duration::from_nanos(origin.wall.0.saturating_sub(began.0));
                periods
                    .insert(place, Period { number: segment.period, start, first_slot: 0, sets: Vec::new() });
            }
            let sets = &mut periods[place].sets;
            let known = sets.iter_mut().find(|set| set.shelf.rendition() == shelf.rendition());
            match known {
                Some(set) => set.segments.push(segment),
                None => {
                    let needed = shelf.inits().find(|init| init.version == segment.init);
                    let Some(init) = needed.cloned() else { continue };
                    sets.push(Set { shelf, init, offset: origin.time, segments: vec![segment] });
                }
            }
        }
    }
    for period in &mut periods {
        period.sets.iter_mut().for_each(Set::trim);
        // A track that has had nothing is not there.
        period.sets.retain(|set| !set.segments.is_empty());
    }
    periods.retain(|period| !period.sets.is_empty());
    periods
}

/// Has what is left of a stream that is over begin with zero, and its periods follow each other.
fn rewind(periods: &mut [Period<'_>], listing: Listing) {
    let mut start = Duration::ZERO;
    for (place, period) in periods.iter_mut().enumerate() {
        if place == 0 {
            let left = match listing {
                Listing::Timeline => period.sets.iter().map(Set::begins).min().unwrap_or_default(),
                Listing::Slots(length) => {
                    period.first_slot = period.sets.iter().map(|set| set.left(length)).max().unwrap_or(0);
                    Duration::from_secs(period.first_slot * u64::from(length))
                }
            };
            for set in &mut period.sets {
                set.offset += nearest(left, set.init.rate);
            }
        }
        period.start = start;
        start = period.end();
    }
}

fn segments<'a>(periods: &'a [Period<'a>]) -> impl Iterator<Item = &'a Segment> {
    periods.iter().flat_map(|period| &period.sets).flat_map(|set| set.segments.iter().copied())
}

impl Period<'_> {
    /// A track has not come to its end yet, though another is past it.
    fn is_open(&self) -> bool {
        self.sets.iter().flat_map(|set| &set.segments).any(|segment| !segment.whole)
    }

    /// How long it is: until the last of its segments ends.
    fn length(&self) -> Duration {
        self.sets.iter().map(Set::ends).max().unwrap_or_default()
    }

    fn end(&self) -> Duration {
        self.start + self.length()
    }
}

impl Set<'_> {
    /// Leaves out what it has nothing for, at both ends.
    fn trim(&mut self) {
        let first = self.segments.iter().position(|segment| !segment.is_gap());
        let last = self.segments.iter().rposition(|segment| !segment.is_gap());
        self.segments.truncate(last.map_or(0, |last| last + 1));
        self.segments.drain(..first.unwrap_or(0));
    }

    /// When the first of its segments begins, since the beginning of its period.
    fn begins(&self) -> Duration {
        self.segments.first().map_or(Duration::ZERO, |segment| self.place_of(segment))
    }

    /// The first slot of which nothing is gone, where each lasts `length` seconds.
    fn left(&self, length: u32) -> u64 {
        match self.segments.first().map_or(0, |segment| segment.slot(length)) {
            0 => 0,
            slot => slot + 1,
        }
    }

    /// When the last ends.
    fn ends(&self) -> Duration {
        self.segments.last().map_or(Duration::ZERO, |segment| self.place_of(segment) + segment.duration())
    }

    fn place_of(&self, segment: &Segment) -> Duration {
        let start = segment.parts.first().map_or(0, |part| part.start);
        ticks(start.saturating_sub(self.offset), self.init.rate)
    }
}

/// The manifest as it is written.
struct Xml {
    text: String,
}

impl Xml {
    fn line(&mut self, depth: usize, line: Arguments<'_>) {
        self.text.extend(std::iter::repeat_n("  ", depth));
        self.text.write_fmt(line).expect("a String takes all that is written to it");
        self.text.push('\n');
    }

    fn period(&mut self, terms: &Terms, period: &Period<'_>, listing: Listing, open: bool, query: &str) {
        let start = seconds(period.start);
        // Between two periods nothing was there: a player that knows when the first ends does not wait for more of it.
        let duration =
            if open { String::new() } else { format!(r#" duration="PT{}S""#, seconds(period.length())) };
        self.line(1, format_args!(r#"<Period id="{}" start="PT{start}S"{duration}>"#, period.number));
        for set in &period.sets {
            self.set_head(set);
            match listing {
                Listing::Timeline => self.numbered(terms, set, open, query),
                Listing::Slots(length) => self.slotted(terms, period, set, length, query),
            }
            self.representation(terms, set);
            self.line(2, format_args!("</AdaptationSet>"));
        }
        self.line(1, format_args!("</Period>"));
    }

    fn set_head(&mut self, set: &Set<'_>) {
        let rendition = set.shelf.rendition();
        let kind = rendition.name();
        let id = rendition as usize;
        // Without startWithSAP: a segment without a key frame is possible at any time.
        self.line(
            2,
            format_args!(r#"<AdaptationSet id="{id}" contentType="{kind}" mimeType="{kind}/mp4" segmentAlignment="true">"#),
        );
    }

    /// By slots: which of them there are by now is reckoned from the clock.
    fn slotted(&mut self, terms: &Terms, period: &Period<'_>, set: &Set<'_>, length: u32, query: &str) {
        let (rate, offset) = (set.init.rate, set.offset);
        let (id, rendition) = (terms.id, set.shelf.rendition());
        let initialization = name::init(id, rendition, set.init.version);
        let media = name::slot(id, rendition, period.number, 0).replace("-0.", "-$Number$.");
        let (number, duration) = (period.first_slot, u64::from(length) * u64::from(rate));
        self.line(
            3,
            format_args!(
                r#"<SegmentTemplate timescale="{rate}" presentationTimeOffset="{offset}" startNumber="{number}" duration="{duration}" initialization="{initialization}{query}" media="{media}{query}"/>"#
            ),
        );
    }

    fn numbered(&mut self, terms: &Terms, set: &Set<'_>, open: bool, query: &str) {
        let Some(number) = set.segments.first().map(|first| first.number) else { return };
        let (rate, offset) = (set.init.rate, set.offset);
        let (id, rendition) = (terms.id, set.shelf.rendition());
        let initialization = name::init(id, rendition, set.init.version);
        // The name of a segment with its number left open.
        let media = name::segment(id, rendition, 0).replace("-0.", "-$Number$.");
        let early = if open {
            let early = Duration::from_secs(terms.target.into()).saturating_sub(terms.part);
            format!(r#" availabilityTimeOffset="{}" availabilityTimeComplete="false""#, seconds(early))
        } else {
            String::new()
        };
        self.line(
            3,
            format_args!(
                r#"<SegmentTemplate timescale="{rate}" presentationTimeOffset="{offset}" startNumber="{number}" initialization="{initialization}{query}" media="{media}{query}"{early}>"#
            ),
        );
        self.line(4, format_args!("<SegmentTimeline>"));
        self.timeline(&timeline(set, open));
        self.line(4, format_args!("</SegmentTimeline>"));
        self.line(3, format_args!("</SegmentTemplate>"));
    }

    /// Segments of one length that follow each other are one element. (5.3.9.6)
    fn timeline(&mut self, segments: &[(u64, u64)]) {
        let mut expected = None;
        for run in segments.chunk_by(|one, next| one.1 == next.1 && one.0 + one.1 == next.0) {
            let Some((start, duration)) = run.first() else { continue };
            let time = if expected == Some(*start) { String::new() } else { format!(r#" t="{start}""#) };
            let repeat = match run.len() - 1 {
                0 => String::new(),
                more => format!(r#" r="{more}""#),
            };
            self.line(5, format_args!(r#"<S{time} d="{duration}"{repeat}/>"#));
            expected = run.last().map(|last| last.0 + last.1);
        }
    }

    fn representation(&mut self, terms: &Terms, set: &Set<'_>) {
        let parameters = &set.init.parameters;
        let (id, codecs) = (set.shelf.rendition().name(), &parameters.codec_string);
        let bandwidth = bits_per_second(set.shelf, terms.target).peak;
        let head = format!(r#"<Representation id="{id}" bandwidth="{bandwidth}" codecs="{codecs}""#);
        match parameters.shape {
            Shape::Video { .. } => {
                let size = parameters.width_height();
                let size = size.map(|(width, height)| format!(r#" width="{width}" height="{height}""#));
                self.line(3, format_args!("{head}{}/>", size.unwrap_or_default()));
            }
            Shape::Audio { sample_rate, channels, .. } => {
                let rate = format!(r#" audioSamplingRate="{sample_rate}""#);
                let Some(configuration) = channel_configuration(channels) else {
                    return self.line(3, format_args!("{head}{rate}/>"));
                };
                let scheme = "urn:mpeg:dash:23003:3:audio_channel_configuration:2011";
                self.line(3, format_args!("{head}{rate}>"));
                self.line(
                    4,
                    format_args!(
                        r#"<AudioChannelConfiguration schemeIdUri="{scheme}" value="{configuration}"/>"#
                    ),
                );
                self.line(3, format_args!("</Representation>"));
            }
        }
    }
}

/// Start and duration of each segment, without a hole between two: dash.js waits in one for ever.
fn timeline(set: &Set<'_>, open: bool) -> Vec<(u64, u64)> {
    let starts = set.segments.iter().skip(1).map(|segment| segment.parts.first().map(|part| part.start));
    let entry = |(segment, next): (&&Segment, Option<u64>)| {
        let start = segment.parts.first()?.start;
        let so_far = segment.parts.iter().map(|part| part.duration).sum::<u64>();
        let lasts = match next {
            Some(next) => next.saturating_sub(start),
            None if open && !segment.whole => nearest(usual_length(set.shelf), set.init.rate),
            None => 0,
        };
        Some((start, lasts.max(so_far).max(1)))
    };
    set.segments.iter().zip(starts.chain([None])).filter_map(entry).collect()
}

/// How long the open segment will be, most likely. Players ask for one after the other by their times: one that is said to
/// be shorter than it is they fetch twice, and one that is said to be much longer makes them pass over the next. So it is
/// the longest of those that are near the middle of all.
fn usual_length(shelf: &Shelf) -> Duration {
    let mut lengths: Vec<Duration> =
        shelf.whole().filter(|segment| !segment.is_gap()).map(Segment::duration).collect();
    lengths.sort_unstable();
    let middle = lengths.get(lengths.len() / 2).copied().unwrap_or_default();
    lengths.into_iter().filter(|length| *length <= middle + middle / 8).max().unwrap_or_default()
}

/// The nearest count of ticks.
fn nearest(duration: Duration, rate: u32) -> u64 {
    let ticks = (duration.as_nanos() * u128::from(rate) + 500_000_000) / 1_000_000_000;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// ChannelConfiguration of ISO/IEC 23001-8 for the usual speakers of so many channels.
const fn channel_configuration(channels: u8) -> Option<u8> {
    match channels {
        1..=6 => Some(channels),
        7 => Some(11),
        8 => Some(7),
        _ => None,
    }
}

/// `query` as it stands behind an address in a template, inside an attribute. (5.3.9.4.4)
fn template(query: &str) -> String {
    if query.is_empty() {
        return String::new();
    }
    let escaped = query.replace('$', "$$").replace('&', "&amp;").replace('\'', "&apos;");
    format!("?{escaped}")
}
