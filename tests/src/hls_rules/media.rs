//! Rules about the bytes behind the addresses.

use std::collections::BTreeMap;

use shardcast_engine::fmp4::demux::{BoxHead, Fragment, Movie, Sample};

use super::{
    Facts, list,
    playlist::{Playlist, Segment},
    transport::{self, Run},
};

/// What is behind the addresses of a playlist.
pub(super) struct Media<'a> {
    fetch: &'a dyn Fn(&str) -> Option<Vec<u8>>,
    /// By address: bytes, or nothing.
    bytes: BTreeMap<&'a str, Option<Vec<u8>>>,
    /// By address of EXT-X-MAP.
    movies: BTreeMap<&'a str, Result<Movie, String>>,
    /// By address.
    pieces: BTreeMap<&'a str, Result<Piece, String>>,
    /// By address, where it is MPEG-TS.
    pub(super) runs: BTreeMap<&'a str, Result<Run, String>>,
}

/// A segment or part as its samples are.
#[derive(Clone, Debug)]
struct Piece {
    /// Ticks per second.
    rate: u32,
    /// When the first is decoded, ticks.
    start: u64,
    /// How long all are, ticks.
    length: u64,
    /// When the last ends, ticks: that is not the same where they do not follow each other.
    end: u64,
    /// How long the last is, ticks.
    last: u64,
    /// A decoder can begin with the first.
    independent: bool,
}

/// What a decimal is rounded by, and a tick.
const ROUNDING: u64 = 1_000;

impl<'a> Media<'a> {
    /// Everything that the playlist lists.
    pub(super) fn fetch(playlist: &Playlist<'a>, fetch: &'a dyn Fn(&str) -> Option<Vec<u8>>) -> Self {
        let (bytes, movies, pieces, runs) = Default::default();
        let mut media = Media { fetch, bytes, movies, pieces, runs };
        if playlist.is_of_transport() {
            let whole = playlist.segments.iter().filter(|segment| !segment.gap);
            whole.filter_map(|segment| segment.uri).for_each(|uri| media.run(uri));
            return media;
        }
        for segment in playlist.all() {
            let Some(map) = segment.map else { continue };
            media.movie(map);
            let whole = segment.uri.filter(|_| !segment.gap);
            let parts = segment.parts.iter().filter(|part| !part.gap).map(|part| part.uri);
            for uri in whole.into_iter().chain(parts) {
                media.piece(uri, map);
            }
        }
        media
    }

    fn movie(&mut self, uri: &'a str) {
        if !self.bytes.contains_key(uri) {
            let bytes = (self.fetch)(uri);
            if let Some(bytes) = &bytes {
                self.movies.insert(uri, movie(bytes));
            }
            self.bytes.insert(uri, bytes);
        }
    }

    fn piece(&mut self, uri: &'a str, map: &str) {
        let bytes = (self.fetch)(uri);
        if let (Some(bytes), Some(Ok(movie))) = (&bytes, self.movies.get(map)) {
            self.pieces.insert(uri, piece(bytes, movie));
        }
        self.bytes.insert(uri, bytes);
    }

    fn run(&mut self, uri: &'a str) {
        let bytes = (self.fetch)(uri);
        if let Some(bytes) = &bytes {
            self.runs.insert(uri, transport::run(bytes));
        }
        self.bytes.insert(uri, bytes);
    }

    fn of(&self, uri: &str) -> Option<&Piece> {
        self.pieces.get(uri).and_then(|piece| piece.as_ref().ok())
    }
}

impl Piece {
    fn nanos(&self) -> u64 {
        self.nanos_of(self.length)
    }

    fn nanos_of(&self, ticks: u64) -> u64 {
        let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(self.rate);
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// How long nothing is between it and one that is later, by a clock that may count otherwise, nanoseconds.
    fn until(&self, later: &Piece) -> u64 {
        later.nanos_of(later.start + 1).saturating_sub(self.nanos_of(self.end))
    }
}

/// A box: its type, where it begins, what is in it.
type Found<'a> = ([u8; 4], u64, &'a [u8]);

/// The boxes of a file.
fn boxes(bytes: &[u8]) -> Result<Vec<Found<'_>>, String> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let head = BoxHead::parse(&bytes[at..]).map_err(|error| error.to_string())?;
        let length =
            head.len.and_then(|length| usize::try_from(length).ok()).ok_or("a box without an end")?;
        let start = at + usize::try_from(head.head_len).map_err(|error| error.to_string())?;
        let content = bytes.get(start..at + length).ok_or(format!("{} does not fit", head.kind))?;
        found.push((head.kind.0, at as u64, content));
        at += length;
    }
    Ok(found)
}

fn movie(bytes: &[u8]) -> Result<Movie, String> {
    let boxes = boxes(bytes)?;
    if boxes.first().is_none_or(|(kind, ..)| kind != b"ftyp") {
        return Err("it does not begin with ftyp".to_owned());
    }
    let (.., moov) = boxes.iter().find(|(kind, ..)| kind == b"moov").ok_or("there is no moov")?;
    if boxes.iter().any(|(kind, ..)| kind == b"moof" || kind == b"mdat") {
        return Err("it has media".to_owned());
    }
    let movie = Movie::parse(moov).map_err(|error| error.to_string())?;
    match (movie.tracks.len(), movie.fragmented) {
        (1, true) => Ok(movie),
        (tracks, fragmented) => Err(format!("it has {tracks} tracks, fragments may follow: {fragmented}")),
    }
}

fn piece(bytes: &[u8], movie: &Movie) -> Result<Piece, String> {
    let boxes = boxes(bytes)?;
    let mut samples: Vec<Sample> = Vec::new();
    let mut before: Option<&[u8; 4]> = None;
    for (kind, at, content) in &boxes {
        match (kind, before) {
            // The fragment and its media are neighbours, and its media is all that its samples name.
            (b"moof", _) => {
                let fragment = Fragment::parse(movie, content, *at).map_err(|error| error.to_string())?;
                samples.extend(fragment.samples);
            }
            (b"mdat", Some(b"moof")) | (b"styp" | b"prft" | b"emsg" | b"sidx", _) => {}
            _ => return Err(format!("{} stands in it", kind.escape_ascii())),
        }
        before = Some(kind);
    }
    let inside = |sample: &Sample| sample.offset + u64::from(sample.size) <= bytes.len() as u64;
    if !samples.iter().all(inside) {
        return Err("a sample is outside it".to_owned());
    }
    if samples.windows(2).any(|pair| pair[1].dts < pair[0].dts) {
        return Err("decoding times fall".to_owned());
    }
    let (first, last) = samples.first().zip(samples.last()).ok_or("it has no samples")?;
    Ok(Piece {
        rate: movie.tracks.first().map_or(1, |track| track.timescale),
        start: first.dts,
        length: samples.iter().map(|sample| u64::from(sample.duration)).sum(),
        end: last.dts + u64::from(last.duration),
        last: last.duration.into(),
        independent: first.key,
    })
}

pub(super) fn is_there(facts: &Facts<'_>) -> Vec<String> {
    let missing = facts.media.bytes.iter().filter(|(_, bytes)| facts.complete && bytes.is_none());
    missing.map(|(uri, _)| format!("{uri} cannot")).collect()
}

/// A playlist is fetched again as soon as there is more, so whoever had the one before may not have asked for all of it yet.
pub(super) fn is_still_there(facts: &Facts<'_>) -> Vec<String> {
    let Some(before) = facts.before.as_ref().filter(|_| facts.complete) else { return Vec::new() };
    let follows = before.all().any(|segment| segment.number >= facts.now.media_sequence);
    let left = |segment: &&Segment<'_>| follows && segment.number < facts.now.media_sequence && !segment.gap;
    let addresses = before.segments.iter().filter(left).flat_map(|segment| {
        segment.uri.into_iter().chain(segment.map).chain(segment.parts.iter().map(|part| part.uri))
    });
    let gone = addresses.filter(|uri| (facts.media.fetch)(uri).is_none());
    gone.map(|uri| format!("{uri} cannot")).collect()
}

pub(super) fn form(facts: &Facts<'_>) -> Vec<String> {
    let movies = facts.media.movies.iter().filter_map(|(uri, movie)| Some((uri, movie.as_ref().err()?)));
    let pieces = facts.media.pieces.iter().filter_map(|(uri, piece)| Some((uri, piece.as_ref().err()?)));
    movies.chain(pieces).map(|(uri, why)| format!("{uri}: {why}")).collect()
}

/// How long the parts of a segment are that have no media, nanoseconds. Where they are not listed, what is left of EXTINF.
fn without_media(segment: &Segment<'_>, piece: Option<&Piece>) -> u64 {
    if segment.parts.is_empty() {
        return segment.length().saturating_sub(piece.map_or(0, Piece::nanos));
    }
    segment.parts.iter().filter(|part| part.gap).map(|part| part.duration).sum()
}

/// Whether nothing continues a segment, as far as is known.
fn ends_a_period(facts: &Facts<'_>, place: usize) -> bool {
    let next = facts.now.segments.get(place + 1).unwrap_or(&facts.now.open);
    next.discontinuity || (next.uri.is_none() && next.parts.is_empty())
}

/// Whether what follows a segment begins with nothing of its track.
fn precedes_a_gap(facts: &Facts<'_>, place: usize) -> bool {
    let next = facts.now.segments.get(place + 1).unwrap_or(&facts.now.open);
    // Where its parts are not listed any more, it is longer than what is in it.
    let listed = next.uri.and_then(|uri| facts.media.of(uri)).filter(|_| next.parts.is_empty());
    let short = listed.is_some_and(|piece| without_media(next, Some(piece)) > ROUNDING);
    next.gap || short || next.parts.first().is_some_and(|part| part.gap)
}

/// Whether a length that is said is that of the samples, and `without` more. The last picture before a discontinuity or a gap may
/// be shown for longer than it counts: until the next one comes.
fn agree(said: u64, piece: &Piece, without: u64, rounding: u64, ends: bool) -> bool {
    let most = piece.nanos() + without;
    let least = most - if ends { piece.nanos_of(piece.last) } else { 0 };
    (least.saturating_sub(rounding)..=most + rounding).contains(&said)
}

pub(super) fn segment_length(facts: &Facts<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let of = |segment: Option<&Segment<'_>>| segment.and_then(|segment| facts.media.of(segment.uri?));
    let segments = &facts.now.segments;
    for (place, segment) in segments.iter().enumerate() {
        let Some(piece) = of(Some(segment)) else { continue };
        let (said, without) = (segment.length(), without_media(segment, Some(piece)));
        let rounding = ROUNDING * (segment.parts.len() as u64 + 1);
        let ends = ends_a_period(facts, place) || precedes_a_gap(facts, place);
        let mut wrong = !agree(said, piece, without, rounding, ends);
        if segment.parts.is_empty() {
            // There must be such holes, as far as the segments around it are known.
            let before = of(place.checked_sub(1).and_then(|place| segments.get(place)));
            let after = of(segments.get(place + 1));
            let holes = [before.map(|before| before.until(piece)), after.map(|after| piece.until(after))];
            let inside = (piece.end - piece.start).abs_diff(piece.length);
            let known = holes.iter().all(Option::is_some);
            // The picture before a hole is shown through it.
            let former = place.checked_sub(1).and_then(|place| segments.get(place));
            let shown = former
                .and_then(|former| Some(of(Some(former))?.nanos().saturating_sub(former.length())))
                .unwrap_or(0);
            let all = holes.into_iter().flatten().sum::<u64>() + piece.nanos_of(inside) + shown;
            wrong |= known && without > all + ROUNDING;
        }
        if wrong {
            found.push(format!("{:?} has {said} ns, its samples {}", segment.uri, piece.nanos()));
        }
    }
    found
}

pub(super) fn part_length(facts: &Facts<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for (place, segment) in facts.now.all().enumerate() {
        for (number, part) in segment.parts.iter().enumerate() {
            let Some(piece) = facts.media.of(part.uri) else { continue };
            let is_last = segment.uri.is_some() && segment.parts.last() == Some(part);
            if list::is_cut(facts, part) && piece.nanos() > part.duration {
                continue;
            }
            let before_gap = segment.parts.get(number + 1).is_some_and(|next| next.gap);
            let ends = before_gap || is_last && (ends_a_period(facts, place) || precedes_a_gap(facts, place));
            if !agree(part.duration, piece, 0, ROUNDING, ends) {
                found.push(format!("{} has {} ns, its samples {}", part.uri, part.duration, piece.nanos()));
            }
        }
    }
    found
}

pub(super) fn part_bytes(facts: &Facts<'_>) -> Vec<String> {
    let bytes = |uri: &str| facts.media.bytes.get(uri).cloned().flatten();
    let mut found = Vec::new();
    for segment in facts.now.segments.iter().filter(|segment| !segment.gap && !segment.parts.is_empty()) {
        let Some(whole) = segment.uri.and_then(bytes) else { continue };
        let parts: Option<Vec<Vec<u8>>> = segment.parts.iter().map(|part| bytes(part.uri)).collect();
        if parts.is_some_and(|parts| parts.concat() != whole) {
            found.push(format!("those of {:?} are not", segment.uri));
        }
    }
    found
}

pub(super) fn independent(facts: &Facts<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for part in facts.now.all().flat_map(|segment| &segment.parts) {
        let is = facts.media.of(part.uri).map(|piece| piece.independent);
        if is.is_some_and(|is| is != part.independent) {
            found.push(format!("{} says {} and is {is:?}", part.uri, part.independent));
        }
    }
    found
}

/// A gap may have been as long as it was, and a part without media is one.
pub(super) fn continuity(facts: &Facts<'_>) -> Vec<String> {
    let mut found = Vec::new();
    // Where the last one ended, and how much later the next may begin, nanoseconds.
    let mut end: Option<(u64, u64)> = None;
    for segment in facts.now.all() {
        let pieces: Vec<&Piece> = match segment.uri {
            Some(uri) => facts.media.of(uri).into_iter().collect(),
            // Behind one that is not had nobody knows what is missing.
            None => {
                let parts = segment.parts.iter().filter(|part| !part.gap);
                parts.map_while(|part| facts.media.of(part.uri)).collect()
            }
        };
        // Each of the lengths that it is said by was rounded.
        let gaps = segment.parts.iter().filter(|part| part.gap).count() as u64;
        let hole = without_media(segment, pieces.first().copied()) + ROUNDING * gaps;
        let mut expected = end.filter(|_| !segment.discontinuity);
        for piece in &pieces {
            // One tick may be lost where a server rounds.
            let (tick, room) = (piece.nanos_of(1), expected.map_or(0, |(_, room)| room) + hole);
            let (start, end) = (piece.nanos_of(piece.start), piece.nanos_of(piece.end));
            let follows = |(end, _): (u64, u64)| start + tick >= end && start <= end + room + tick + ROUNDING;
            if !expected.is_none_or(follows) {
                found.push(format!(
                    "{} begins at {start} ns, and {expected:?} is where it belongs",
                    segment.number
                ));
            }
            if piece.nanos_of((piece.end - piece.start).abs_diff(piece.length)) > hole + ROUNDING {
                found.push(format!("{}: its samples do not follow each other", segment.number));
            }
            expected = Some((end, hole));
        }
        end = expected.filter(|_| !segment.gap && !pieces.is_empty());
    }
    found
}
