//! What of a packaged stream is at hand on one core, and the answers that come from it.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;

use super::{Cut, Init, Item, Packaging, Part, Rendition, Terms, Text, ticks};
use crate::{
    canary::{self, Canary},
    codec::Parameters,
    time::Now,
};

/// Texts that are kept, so that a thousand clients who ask for the same have it written once.
const TEXTS_MAX: usize = 16;
/// How far beyond the newest segment a client may ask. (RFC 8216bis, 6.2.5.2)
pub(super) const AHEAD_MAX: u64 = 2;
/// How much of one track is whole when nobody waits for another any more that was announced.
const PATIENCE: Duration = Duration::from_secs(6);
/// Whole segments of MPEG-TS that the first list has, unless they are long: GStreamer 1.22 never gets on from a list of one,
/// and who knows no parts would play that to its end before it hears of the next.
const TRANSPORT_BEGINS: usize = 2;
/// Segments that a playlist lists at least. (RFC 8216bis, 6.2.2)
const SEGMENTS_MIN: usize = 3;

/// A packaged stream as one core knows it.
#[derive(Debug, Default)]
pub struct Window {
    terms: Option<Arc<Terms>>,
    /// Of a transport stream.
    tracks: Option<Arc<[Arc<Parameters>]>>,
    shelves: Vec<Shelf>,
    ended: bool,
    texts: Vec<(Text, Arc<Written>)>,
}

/// One track's segments.
#[derive(Debug)]
pub struct Shelf {
    rendition: Rendition,
    inits: VecDeque<Arc<Init>>,
    /// Those that are still answered for, then those that are listed, then the open one.
    pub(super) segments: VecDeque<Segment>,
    /// How many are no longer listed.
    retired: usize,
}

/// A run of parts that is fetched as one.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Its Media Sequence Number.
    pub number: u64,
    /// Which [`Init`] it needs.
    pub init: u32,
    /// It does not continue the one before it.
    pub discontinuity: bool,
    /// Discontinuities of the stream so far, its own among them.
    pub period: u64,
    /// Its parts, at least one.
    pub parts: Vec<Arc<Part>>,
    /// No part will follow.
    pub whole: bool,
    /// Until when it is answered for, once it is no longer listed.
    until: Option<Now>,
}

/// The answer to a question.
#[derive(Clone, Debug)]
pub enum Found {
    /// These bytes, one after the other.
    Bytes(Vec<Bytes>),
    /// These bytes of a segment that is being made, and the number of the part that comes next.
    Open(Vec<Bytes>, u32),
    /// This text.
    Text(Arc<Written>),
    /// Not yet: ask again when something was cut.
    Later,
    /// It is not there, and will not be.
    Missing,
    /// No client that holds a playlist asks that.
    Absurd,
}

/// A text, and the same packed once somebody wants it so.
#[derive(Debug)]
pub struct Written {
    plain: Bytes,
    packed: OnceLock<Bytes>,
}

impl Written {
    /// A text that was just written.
    pub fn new(text: String) -> Self {
        Written { plain: text.into(), packed: OnceLock::new() }
    }

    /// The text.
    pub fn plain(&self) -> Bytes {
        self.plain.clone()
    }

    /// The text as `pack` packs it; all who ask pack it alike, so it is done once.
    pub fn packed(&self, pack: fn(&[u8]) -> Vec<u8>) -> Bytes {
        self.packed.get_or_init(|| pack(&self.plain).into()).clone()
    }
}

impl Segment {
    /// How long it is so far.
    pub fn duration(&self) -> Duration {
        let rate = self.parts.first().map_or(1, |part| part.rate);
        ticks(self.parts.iter().map(|part| part.duration).sum(), rate)
    }

    /// Bytes that it has so far.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.bytes.len()).sum()
    }

    /// True when it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its bytes from this part on.
    pub(super) fn bytes_from(&self, index: u32) -> impl Iterator<Item = Bytes> {
        let parts = self.parts.iter().skip(index as usize);
        parts.map(|part| part.bytes.clone()).filter(|bytes| !bytes.is_empty())
    }

    /// The track had nothing to put into it.
    pub fn is_gap(&self) -> bool {
        self.parts.iter().all(|part| part.gap)
    }
}

impl Shelf {
    /// Of which track.
    pub fn rendition(&self) -> Rendition {
        self.rendition
    }

    /// The segments that are listed; the last may not be whole.
    pub fn listed(&self) -> impl DoubleEndedIterator<Item = &Segment> + Clone + use<'_> {
        self.segments.range(self.retired..)
    }

    /// The listed segments that are whole.
    pub fn whole(&self) -> impl DoubleEndedIterator<Item = &Segment> + Clone + use<'_> {
        self.listed().filter(|segment| segment.whole)
    }

    /// Discontinuities before the first segment that is listed (EXT-X-DISCONTINUITY-SEQUENCE).
    pub fn discontinuities(&self) -> u64 {
        self.listed().next().map_or(0, |first| first.period - u64::from(first.discontinuity))
    }

    /// The initialisation segments that some of its segments need, or will.
    pub fn inits(&self) -> impl Iterator<Item = &Arc<Init>> {
        self.inits.iter()
    }

    /// The newest initialisation segment.
    pub fn init(&self) -> Option<&Arc<Init>> {
        self.inits.back()
    }

    /// The place of the part that will be cut next: a segment's number, and which of its parts.
    pub fn next(&self) -> (u64, u32) {
        match self.segments.back() {
            None => (0, 0),
            Some(segment) if segment.whole => (segment.number + 1, 0),
            Some(segment) => (segment.number, segment.parts.len() as u32),
        }
    }

    fn find(&self, number: u64) -> Option<&Segment> {
        let first = self.segments.front()?.number;
        self.segments.get(usize::try_from(number.checked_sub(first)?).ok()?)
    }

    fn put(&mut self, part: &Arc<Part>) {
        match self.segments.back_mut().filter(|segment| segment.number == part.segment) {
            Some(segment) => {
                segment.whole = part.last;
                segment.parts.push(part.clone());
            }
            None => self.segments.push_back(Segment {
                number: part.segment,
                init: part.init,
                discontinuity: part.discontinuity,
                period: part.period,
                parts: vec![part.clone()],
                whole: part.last,
                until: None,
            }),
        }
    }

    /// Takes what is older than the window off the list, and lets go of what nobody may ask for any more.
    fn clear(&mut self, window: Duration, target: u32, now: Now) {
        let window = window.max(Duration::from_secs(target.into()) * SEGMENTS_MIN as u32);
        loop {
            let mut listed = self.segments.range(self.retired..).filter(|segment| segment.whole);
            let count = listed.clone().count();
            let total: Duration = listed.clone().map(Segment::duration).sum();
            let Some(first) = listed.next() else { break };
            let stays = count <= SEGMENTS_MIN || total.saturating_sub(first.duration()) < window;
            if stays && !(canary::is_broken(Canary::ListTooShort) && count > 1) {
                break;
            }
            // As long as it lasts, and as the longest list did that had it. (RFC 8216bis, 6.2.2)
            let until = now.after(total + first.duration());
            let Some(segment) = self.segments.get_mut(self.retired) else { break };
            segment.until = Some(until);
            self.retired += 1;
        }
        while self.segments.front().and_then(|segment| segment.until).is_some_and(|until| until <= now) {
            self.segments.pop_front();
            self.retired -= 1;
        }
        let oldest = self.segments.front().map_or(0, |segment| segment.init);
        while self.inits.len() > 1 && self.inits.front().is_some_and(|init| init.version < oldest) {
            self.inits.pop_front();
        }
    }
}

impl Window {
    /// Of a stream about which nothing has been said yet.
    pub fn new() -> Self {
        Window::default()
    }

    /// What holds for the stream.
    pub fn terms(&self) -> Option<&Terms> {
        self.terms.as_deref()
    }

    /// What the tracks of a transport stream are, pictures first; none of a stream that is packaged otherwise.
    pub fn tracks(&self) -> &[Arc<Parameters>] {
        self.tracks.as_deref().unwrap_or_default()
    }

    /// Its tracks, pictures first.
    pub fn shelves(&self) -> &[Shelf] {
        &self.shelves
    }

    /// The shelf of a track.
    pub fn shelf(&self, rendition: Rendition) -> Option<&Shelf> {
        self.shelves.iter().find(|shelf| shelf.rendition == rendition)
    }

    /// Nothing more will come.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Payload and heads that are kept, in bytes.
    pub fn bytes(&self) -> usize {
        let segments = self.shelves.iter().flat_map(|shelf| &shelf.segments);
        segments.map(Segment::len).sum()
    }

    /// Takes what the packager said next.
    pub fn take(&mut self, cut: &Cut, now: Now) {
        self.texts.clear();
        match cut {
            Cut::Terms(terms) => self.terms = Some(terms.clone()),
            Cut::Init(init) => {
                let shelf = self.shelf_of(init.rendition);
                if shelf.inits.back().is_none_or(|last| last.version < init.version) {
                    shelf.inits.push_back(init.clone());
                }
            }
            Cut::Tracks(tracks) => {
                self.tracks = Some(tracks.clone());
                // It is there from now on, though its first segment is not.
                self.shelf_of(Rendition::Transport);
            }
            Cut::Part(part) => {
                let Some(terms) = self.terms.clone() else { return };
                let shelf = self.shelf_of(part.rendition);
                shelf.put(part);
                if part.last {
                    shelf.clear(terms.window, terms.target, now);
                }
            }
            Cut::Ended => self.ended = true,
        }
    }

    fn shelf_of(&mut self, rendition: Rendition) -> &mut Shelf {
        let place = self.shelves.partition_point(|shelf| shelf.rendition < rendition);
        if self.shelves.get(place).is_none_or(|shelf| shelf.rendition != rendition) {
            let shelf = Shelf { rendition, inits: VecDeque::new(), segments: VecDeque::new(), retired: 0 };
            self.shelves.insert(place, shelf);
        }
        &mut self.shelves[place]
    }

    /// What another core needs to have the same window: all that was said and is still of use. Retired segments are not:
    /// their clients are served where they have been.
    pub fn cuts(&self) -> Vec<Cut> {
        let mut cuts: Vec<Cut> = self.terms.iter().map(|terms| Cut::Terms(terms.clone())).collect();
        cuts.extend(self.tracks.iter().map(|tracks| Cut::Tracks(tracks.clone())));
        for shelf in &self.shelves {
            cuts.extend(shelf.inits.iter().map(|init| Cut::Init(init.clone())));
        }
        for shelf in &self.shelves {
            let parts = shelf.segments.iter().flat_map(|segment| &segment.parts);
            cuts.extend(parts.map(|part| Cut::Part(part.clone())));
        }
        if self.ended {
            cuts.push(Cut::Ended);
        }
        cuts
    }

    /// Whether somebody who asks can begin to play: each track has a whole segment, those that were only announced among them,
    /// or the one that is asked about. A player would never hear of a track that the first list lacks, but it does not wait
    /// for ever either.
    fn is_ready(&self, rendition: Option<Rendition>) -> bool {
        let whole = |shelf: &Shelf| shelf.whole().count();
        let is_long = |shelf: &Shelf| shelf.whole().map(Segment::duration).sum::<Duration>() >= PATIENCE;
        match rendition {
            Some(rendition) => self.shelf(rendition).is_some_and(|shelf| match rendition.packaging() {
                Packaging::Transport if !self.ended => whole(shelf) >= TRANSPORT_BEGINS || is_long(shelf),
                _ => whole(shelf) > 0,
            }),
            None => {
                let announced = self.terms.iter().flat_map(|terms| &terms.renditions);
                let mut absent = announced.filter(|rendition| self.shelf(**rendition).is_none());
                let all = !self.shelves.is_empty()
                    && absent.next().is_none()
                    && self.shelves.iter().all(|shelf| whole(shelf) > 0);
                let late = self.shelves.iter().any(|shelf| whole(shelf) >= SEGMENTS_MIN || is_long(shelf));
                all || late || (self.ended && self.shelves.iter().any(|shelf| whole(shelf) > 0))
            }
        }
    }

    /// What `item` names.
    pub fn fetch(&mut self, item: &Item) -> Found {
        match item {
            Item::Text(text) => self.text(text),
            // Whoever has a clock answers that.
            Item::Clock => Found::Missing,
            // Nothing has come from the owner yet, so nobody can say that it is not there.
            _ if self.terms.is_none() && !self.ended => Found::Later,
            Item::Init { id, rendition, version } => {
                let inits = self.of(*id, *rendition).map(|shelf| &shelf.inits);
                let init = inits.and_then(|inits| inits.iter().find(|init| init.version == *version));
                init.map_or(Found::Missing, |init| Found::Bytes(vec![init.bytes.clone()]))
            }
            Item::Segment { id, rendition, number, from } => {
                let Some(shelf) = self.of(*id, *rendition) else { return Found::Missing };
                let Some(segment) = shelf.find(*number) else {
                    // Whoever takes it as it is made may be a moment early.
                    let next = from.is_some() && shelf.next() == (*number, 0) && !self.ended;
                    return if next { Found::Later } else { Found::Missing };
                };
                let bytes: Vec<Bytes> = segment.bytes_from(from.unwrap_or(0)).collect();
                match from {
                    _ if segment.whole || self.ended => {
                        if segment.is_empty() {
                            Found::Missing
                        } else {
                            Found::Bytes(bytes)
                        }
                    }
                    Some(_) if !bytes.is_empty() => Found::Open(bytes, segment.parts.len() as u32),
                    _ => Found::Later,
                }
            }
            Item::Slot { id, rendition, period, slot } => {
                let Some(terms) = self.terms() else { return Found::Missing };
                let shelf = self.of(*id, *rendition);
                shelf
                    .map_or(Found::Missing, |shelf| shelf.of_slot((*period, *slot), terms.target, self.ended))
            }
            Item::Part { id, rendition, number, index } => {
                let Some(shelf) = self.of(*id, *rendition) else { return Found::Missing };
                let part = shelf.find(*number).and_then(|segment| segment.parts.get(*index as usize));
                match part {
                    Some(part) if part.bytes.is_empty() => Found::Missing,
                    Some(part) => Found::Bytes(vec![part.bytes.clone()]),
                    // What a preload hint names.
                    None if shelf.next() == (*number, *index) && !self.ended => Found::Later,
                    None => Found::Missing,
                }
            }
        }
    }

    /// The shelf of a track, if it is of this packaging.
    fn of(&self, id: u64, rendition: Rendition) -> Option<&Shelf> {
        self.terms.as_ref().filter(|terms| terms.id == id)?;
        self.shelf(rendition)
    }

    fn text(&mut self, text: &Text) -> Found {
        let known = text.rendition.is_none_or(|rendition| self.shelf(rendition).is_some());
        if !self.is_ready(text.rendition) {
            // Before the terms nobody knows which tracks there will be.
            let never = self.ended || (self.terms.is_some() && !known);
            return if never { Found::Missing } else { Found::Later };
        }
        if let Some(rendition) = text.rendition {
            let Some(shelf) = self.shelf(rendition) else { return Found::Missing };
            if let Some((number, index)) = text.until {
                let next = shelf.next();
                if number > next.0.saturating_add(AHEAD_MAX) {
                    return Found::Absurd;
                }
                // A part beyond the last of its segment is the first of the next.
                let there = match index {
                    None => number < next.0,
                    Some(index) => (number, index) < next,
                };
                if !there && !self.ended {
                    return Found::Later;
                }
            }
        }
        let held = self.texts.iter().find(|(held, _)| held.says_the_same(text));
        if let Some((_, written)) = held {
            return Found::Text(written.clone());
        }
        let written = Arc::new(Written::new((text.form.write)(self, text)));
        if self.texts.len() < TEXTS_MAX {
            self.texts.push((text.clone(), written.clone()));
        }
        Found::Text(written)
    }
}

impl Text {
    /// Whether the same bytes answer both, once they can be answered.
    fn says_the_same(&self, other: &Text) -> bool {
        let key = |text: &Text| (text.form, text.rendition, text.skip);
        key(self) == key(other) && self.query == other.query
    }
}
