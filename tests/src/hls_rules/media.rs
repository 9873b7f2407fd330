//! Rules about the bytes behind the addresses.

use std::collections::BTreeMap;

use shardcast_engine::fmp4::demux::{BoxHead, Fragment, Movie, Sample};

use super::{
    Facts,
    playlist::{Playlist, Segment},
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
    /// A decoder can begin with the first.
    independent: bool,
}

/// What a decimal is rounded by, and a tick.
const ROUNDING: u64 = 1_000;

impl<'a> Media<'a> {
    /// Everything that the playlist lists.
    pub(super) fn fetch(playlist: &Playlist<'a>, fetch: &'a dyn Fn(&str) -> Option<Vec<u8>>) -> Self {
        let mut media =
            Media { fetch, bytes: BTreeMap::new(), movies: BTreeMap::new(), pieces: BTreeMap::new() };
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
        if !self.movies.contains_key(uri) {
            let bytes = (self.fetch)(uri);
            let movie = bytes.as_deref().ok_or("it is not there".to_owned()).and_then(movie);
            self.movies.insert(uri, movie);
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

    fn of(&self, uri: &str) -> Option<&Piece> {
        self.pieces.get(uri).and_then(|piece| piece.as_ref().ok())
    }
}

impl Piece {
    fn nanos(&self) -> u64 {
        let nanos = u128::from(self.length) * 1_000_000_000 / u128::from(self.rate);
        u64::try_from(nanos).unwrap_or(u64::MAX)
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
        independent: first.key,
    })
}

pub(super) fn is_there(facts: &Facts<'_>) -> Vec<String> {
    let missing = facts.media.bytes.iter().filter(|(_, bytes)| bytes.is_none());
    missing.map(|(uri, _)| format!("{uri} cannot")).collect()
}

/// A playlist is fetched again as soon as there is more, so whoever had the one before may not have asked for all of it yet.
pub(super) fn is_still_there(facts: &Facts<'_>) -> Vec<String> {
    let Some(before) = &facts.before else { return Vec::new() };
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

pub(super) fn segment_length(facts: &Facts<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for segment in &facts.now.segments {
        let Some(piece) = segment.uri.and_then(|uri| facts.media.of(uri)) else { continue };
        let said = segment.duration.unwrap_or(0);
        if said.abs_diff(piece.nanos()) > ROUNDING {
            found.push(format!("{:?} has {said} ns, its samples {}", segment.uri, piece.nanos()));
        }
    }
    found
}

pub(super) fn part_length(facts: &Facts<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for part in facts.now.all().flat_map(|segment| &segment.parts) {
        let Some(piece) = facts.media.of(part.uri) else { continue };
        if part.duration.abs_diff(piece.nanos()) > ROUNDING {
            found.push(format!("{} has {} ns, its samples {}", part.uri, part.duration, piece.nanos()));
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

/// A gap may have been as long as it was.
pub(super) fn continuity(facts: &Facts<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut end: Option<u64> = None;
    for segment in facts.now.all() {
        let pieces: Vec<&Piece> = match segment.uri {
            Some(uri) => facts.media.of(uri).into_iter().collect(),
            None => segment.parts.iter().filter_map(|part| facts.media.of(part.uri)).collect(),
        };
        let mut expected = end.filter(|_| !segment.discontinuity);
        for piece in &pieces {
            // One tick may be lost where a server rounds.
            if expected.is_some_and(|expected| piece.start.abs_diff(expected) > 1) {
                found.push(format!(
                    "{} begins at {}, and {expected:?} is where it belongs",
                    segment.number, piece.start
                ));
            }
            if piece.end - piece.start != piece.length {
                found.push(format!("{}: its samples do not follow each other", segment.number));
            }
            expected = Some(piece.end);
        }
        end = pieces.last().map(|piece| piece.end).filter(|_| !segment.gap);
    }
    found
}
