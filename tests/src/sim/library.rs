//! What was fetched of packaged streams, by everyone: whether each playlist keeps to the rules, as far as what is behind its
//! addresses was fetched, and whether that is what was published.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use shardcast_engine::{
    hls::name,
    media::{Frame, StreamName},
    mpegts::Demuxer,
    segment::{Item, Packaging, Rendition},
    session::Event,
    time::Now,
};

use super::{
    archive,
    client::{Fetched, Found},
    judge::{Judge, Verdict},
    reel::Stamp,
};
use crate::hls_rules::{
    self, Case,
    playlist::{Playlist, Segment},
};

/// Keeps what was fetched until the world is over: the more is known then, the more can be said of each playlist.
#[derive(Debug, Default)]
pub struct Library {
    /// By stream and address.
    media: BTreeMap<(StreamName, String), Bytes>,
    /// What each connection was last told, by address.
    last: BTreeMap<(usize, String), Arc<str>>,
    /// When each connection was last told of an address, and how long the list was that had it.
    listed: BTreeMap<(usize, String), (Now, Duration)>,
    kept: BTreeSet<Kept>,
    missing: Vec<Missing>,
    /// What was compared.
    pub count: Count,
}

/// How much was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Playlists, each with the one before it.
    pub playlists: u64,
    /// Updates that came with the whole of them.
    pub updates: u64,
    /// Segments and parts.
    pub pieces: u64,
    /// Frames in them.
    pub frames: u64,
}

impl Count {
    /// Adds another world's.
    pub fn add(&mut self, other: &Count) {
        self.playlists += other.playlists;
        self.updates += other.updates;
        self.pieces += other.pieces;
        self.frames += other.frames;
    }
}

/// A playlist and what was told around it. Many who are told the same need one look.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kept {
    stream: StreamName,
    text: Arc<str>,
    before: Option<Arc<str>>,
    update: Option<Arc<str>>,
    others: Vec<(String, Arc<str>)>,
}

/// Something that was listed and was not there.
#[derive(Clone, Debug)]
struct Missing {
    stream: StreamName,
    uri: String,
    /// The stream's life when it was not there.
    life: u32,
}

/// Which packaging, and which of its renditions.
type Of = (StreamName, u64, Rendition);

/// What is had of a rendition.
#[derive(Debug, Default)]
struct Shelf<'a> {
    init: Option<&'a Bytes>,
    /// By number; the whole stands before the parts of it.
    segments: BTreeMap<u64, BTreeMap<Option<u32>, &'a Bytes>>,
}

impl Library {
    /// Something was fetched on a connection, when the stream was in this life. `prompt` says that it was asked for as soon as
    /// it was listed, and how long what is said may be on its way.
    ///
    /// # Errors
    /// It had another content before.
    pub fn take(
        &mut self,
        socket: usize,
        fetched: &Fetched,
        life: u32,
        prompt: Option<Duration>,
        now: Now,
    ) -> Verdict {
        let Fetched { name, uri, found } = fetched;
        match found {
            Found::Playlist { text, update } => {
                self.list(socket, fetched, text, update.as_deref());
                self.remember(socket, text, now);
            }
            Found::Media(bytes) => {
                let held = self.media.entry((name.clone(), uri.clone())).or_insert_with(|| bytes.clone());
                if held != bytes {
                    return Err(format!("{uri} of {name} is not what it was"));
                }
            }
            Found::Missing if prompt.is_some_and(|way| self.is_promised(socket, uri, way, now)) => {
                self.missing.push(Missing { stream: name.clone(), uri: uri.clone(), life });
            }
            Found::Missing => {}
        }
        Ok(())
    }

    fn list(&mut self, socket: usize, fetched: &Fetched, text: &str, update: Option<&str>) {
        let (text, id): (Arc<str>, _) = (text.into(), id_of(text));
        let of_connection = (socket, String::new())..(socket + 1, String::new());
        let others = self.last.range(of_connection);
        let others = others.filter(|((_, uri), held)| *uri != fetched.uri && id_of(held) == id);
        let others = others.map(|((_, uri), held)| (uri.clone(), held.clone())).collect();
        let before = self.last.insert((socket, fetched.uri.clone()), text.clone());
        self.kept.insert(Kept {
            stream: fetched.name.clone(),
            text,
            // Another packaging has terms of its own.
            before: before.filter(|before| id_of(before) == id),
            update: update.map(Arc::from),
            others,
        });
    }

    fn remember(&mut self, socket: usize, text: &str, now: Now) {
        let playlist = Playlist::read(text);
        let length = Duration::from_nanos(playlist.segments.iter().map(Segment::length).sum());
        // Nothing leaves a list that has no more than three target durations without it.
        let length = length.max(Duration::from_secs(3 * playlist.target.unwrap_or(0)));
        for segment in playlist.all() {
            let parts = segment.parts.iter().map(|part| part.uri);
            for uri in segment.uri.into_iter().chain(segment.map).chain(parts) {
                self.listed.insert((socket, uri.to_owned()), (now, length));
            }
        }
    }

    /// What is listed can be had for as long as the list plays, whatever becomes of it. (RFC 8216bis, 6.2.2) Who takes much longer
    /// to fetch segments than to play them comes too late for some.
    fn is_promised(&self, socket: usize, uri: &str, way: Duration, now: Now) -> bool {
        let told = self.listed.get(&(socket, uri.to_owned()));
        told.is_some_and(|(told, length)| now.since(*told) + way <= *length)
    }

    /// Looks at everything.
    ///
    /// # Errors
    /// The first thing that was promised and does not hold.
    pub fn check(&mut self, judge: &Judge) -> Verdict {
        let pieces = self.media.len() as u64;
        self.put_together();
        let updates = self.kept.iter().filter(|kept| kept.update.is_some()).count() as u64;
        let mut count = Count { playlists: self.kept.len() as u64, updates, pieces, frames: 0 };
        self.kept.iter().try_for_each(|kept| self.check_rules(kept))?;
        // The first frame of each, and the numbers that are known.
        let mut begun = BTreeMap::new();
        for (of, shelf) in self.shelves() {
            let (stream, id, rendition) = &of;
            let fault = |why: String| format!("{} {id:x} of {stream}: {why}", rendition.name());
            let (frames, first) = check_frames(stream, *rendition, &shelf, judge).map_err(fault)?;
            count.frames += frames;
            let numbers = shelf.segments.first_key_value().zip(shelf.segments.last_key_value());
            if let (Some(first), Some(((first_number, _), (last_number, _)))) = (first, numbers) {
                begun.insert(of.clone(), (judge.life_at(stream, first), *first_number, *last_number));
            }
        }
        check_numbers(&begun)?;
        self.missing.iter().try_for_each(|missing| check_missing(missing, &begun))?;
        self.count = count;
        Ok(())
    }

    /// Makes segments of their parts, where nobody has fetched the whole.
    fn put_together(&mut self) {
        for kept in &self.kept {
            for segment in Playlist::read(&kept.text).segments {
                let key = |uri: &str| (kept.stream.clone(), uri.to_owned());
                let lacks = |uri: &&str| !segment.parts.is_empty() && !self.media.contains_key(&key(uri));
                let Some(uri) = segment.uri.filter(lacks) else { continue };
                let media = segment.parts.iter().filter(|part| !part.gap);
                let parts: Option<Vec<Bytes>> =
                    media.map(|part| self.media.get(&key(part.uri)).cloned()).collect();
                if let Some(parts) = parts.filter(|parts| !parts.is_empty()) {
                    self.media.insert(key(uri), parts.concat().into());
                }
            }
        }
    }

    fn check_rules(&self, kept: &Kept) -> Verdict {
        let Kept { stream, text, before, update, others } = kept;
        let others: Vec<(&str, &str)> = others.iter().map(|(uri, text)| (uri.as_str(), &**text)).collect();
        let faults = hls_rules::check(&Case {
            text,
            before: before.as_deref(),
            update: update.as_deref(),
            others: &others,
            fetch: &|uri| self.media.get(&(stream.clone(), uri.to_owned())).map(|bytes| bytes.to_vec()),
            complete: false,
        });
        let Some(fault) = faults.first() else { return Ok(()) };
        let before = before.as_deref().unwrap_or("nothing");
        let update = update.as_deref().map(|update| format!("\nan update of it:\n{update}"));
        let update = update.unwrap_or_default();
        Err(format!("a playlist of {stream} breaks {fault}\n{text}\nbefore that:\n{before}{update}"))
    }

    fn shelves(&self) -> BTreeMap<Of, Shelf<'_>> {
        let mut shelves: BTreeMap<Of, Shelf<'_>> = BTreeMap::new();
        for ((stream, uri), bytes) in &self.media {
            let (id, rendition, number, index) = match name::parse(uri) {
                Some(Item::Init { id, rendition, .. }) => (id, rendition, None, None),
                Some(Item::Segment { id, rendition, number, .. }) => (id, rendition, Some(number), None),
                Some(Item::Part { id, rendition, number, index }) => {
                    (id, rendition, Some(number), Some(index))
                }
                _ => continue,
            };
            let shelf = shelves.entry((stream.clone(), id, rendition)).or_default();
            match number {
                Some(number) => drop(shelf.segments.entry(number).or_default().insert(index, bytes)),
                None => shelf.init = Some(bytes),
            }
        }
        shelves
    }
}

/// The packaging that a playlist is of.
fn id_of(text: &str) -> Option<u64> {
    match name::parse(Playlist::read(text).segments.first()?.uri?)? {
        Item::Segment { id, .. } => Some(id),
        _ => None,
    }
}

/// Demands that a rendition has the frames of its stream, each track without a hole, as far as what is had goes on. Says how
/// many there were, and which was the first.
fn check_frames(
    stream: &StreamName,
    rendition: Rendition,
    shelf: &Shelf<'_>,
    judge: &Judge,
) -> Result<(u64, Option<usize>), String> {
    let mut run = Run::new(stream, rendition, shelf, judge);
    let mut next = None;
    for (number, pieces) in &shelf.segments {
        if next != Some(*number) {
            run.restart();
        }
        let whole = pieces.get(&None);
        next = whole.map(|_| number + 1);
        let (mut index, parts) = (0, pieces.iter().filter(|_| whole.is_none()));
        for (place, bytes) in whole.map(|whole| (&None, whole)).into_iter().chain(parts) {
            if place.is_some_and(|place| place != index) {
                run.restart();
            }
            index = place.map_or(0, |place| place + 1);
            run.read(bytes).map_err(|why| format!("segment {number}, part {place:?}: {why}"))?;
        }
    }
    Ok((run.frames, run.first))
}

/// Segments and parts that follow each other.
struct Run<'a> {
    stream: &'a StreamName,
    rendition: Rendition,
    init: Option<&'a Bytes>,
    judge: &'a Judge,
    demuxer: Demuxer,
    /// The last picture, and the last packet of sound.
    last: [Option<usize>; 2],
    first: Option<usize>,
    frames: u64,
}

impl<'a> Run<'a> {
    fn new(stream: &'a StreamName, rendition: Rendition, shelf: &Shelf<'a>, judge: &'a Judge) -> Self {
        let (demuxer, last, first) = Default::default();
        Run { stream, rendition, init: shelf.init, judge, demuxer, last, first, frames: 0 }
    }

    /// What comes next does not continue what came before.
    fn restart(&mut self) {
        self.demuxer = Demuxer::default();
        self.last = [None; 2];
    }

    fn read(&mut self, bytes: &Bytes) -> Result<(), String> {
        let stamps = match (self.rendition.packaging(), self.init) {
            (Packaging::Transport, _) => self.packets(bytes)?,
            (Packaging::Fragments, Some(init)) => {
                archive::fragments(&[&init[..], &bytes[..]].concat())?.into_iter().flatten().collect()
            }
            (Packaging::Fragments, None) => return Ok(()),
        };
        for stamp in stamps {
            let place = self.judge.place_of(self.stream, stamp);
            let place = place.ok_or_else(|| format!("{stamp:?} was never taken for it"))?;
            let last = &mut self.last[usize::from(!self.judge.is_picture(self.stream, place))];
            if let Some(last) = last.filter(|last| !self.judge.is_next_of_track(self.stream, *last, place)) {
                return Err(format!("frame {place} stands behind frame {last}"));
            }
            *last = Some(place);
            self.first.get_or_insert(place);
            self.frames += 1;
        }
        Ok(())
    }

    /// The frames of a transport stream.
    fn packets(&mut self, bytes: &[u8]) -> Result<Vec<Stamp>, String> {
        let mut frames: Vec<Frame> = Vec::new();
        self.demuxer.push(bytes, &mut |event| {
            if let Event::Frame(frame) = event {
                frames.extend(frame.is_media().then_some(frame));
            }
        });
        let stamps: Option<Vec<Stamp>> = frames.iter().map(Stamp::read).collect();
        stamps.ok_or_else(|| "a frame is not as it was sent".to_owned())
    }
}

/// What is known of renditions: in which life they began, their first number and their last.
type Begun = BTreeMap<Of, (u32, u64, u64)>;

/// Who goes on watching when a stream is packaged anew must not see its numbers go back.
fn check_numbers(begun: &Begun) -> Verdict {
    for ((stream, id, rendition), (life, first, _)) in begun {
        let same = |(other, _, kind): &Of| other == stream && kind == rendition;
        let before = begun.iter().filter(|(of, (lived, ..))| same(of) && of.1 < *id && lived == life);
        if let Some((of, (_, _, last))) = before.into_iter().find(|(_, (_, _, last))| last >= first) {
            let name = rendition.name();
            let former = of.1;
            return Err(format!("{name} {id:x} of {stream} begins with {first}, {former:x} went to {last}"));
        }
    }
    Ok(())
}

/// What is listed can be had, unless its packaging is over.
fn check_missing(missing: &Missing, begun: &Begun) -> Verdict {
    let Missing { stream, uri, life } = missing;
    let item = name::parse(uri).ok_or_else(|| format!("{uri} is no name"))?;
    let (Item::Init { id, .. } | Item::Segment { id, .. } | Item::Part { id, .. }) = item else {
        return Ok(());
    };
    let packaging = item.packaging();
    let mut same = begun.iter().filter(|((of, _, kind), _)| of == stream && kind.packaging() == packaging);
    let followed = same.clone().any(|((_, other, _), _)| *other > id);
    let lives = same.any(|((_, other, _), (lived, ..))| *other == id && lived == life);
    if lives && !followed { Err(format!("{uri} of {stream} was listed and is not there")) } else { Ok(()) }
}
