//! A player of HLS. With low latency it asks for parts and for playlists that the server holds back until there is something
//! new (draft-pantos-hls-rfc8216bis, 6.2.5.2 and 6.3); without, it reloads by the clock (RFC 8216, 6.3.4) and knows segments
//! only.
//!
//! It takes the first variant, and the sound that belongs to it by a second connection. Each connection is a circle of its
//! own: a playlist, the pieces in it that are new one after the other, the next playlist.

use std::{rc::Rc, time::Duration};

use shardcast_engine::time::Now;

use super::{
    Answer, Ask, Desk, Item, Place, RETRY_NANOS, Request, Resource, TRIES_MAX,
    fetch::{Fetch, Wanted},
    m3u8, uri,
};
use crate::{outcome::Checks, url::Url};

/// A viewer by HLS.
#[derive(Debug)]
pub struct Player {
    low_latency: bool,
    parses: bool,
    /// By connection: pictures (or all there is), and sound.
    renditions: Vec<Rendition>,
    /// How far from the end of what was listed the first rendition began, in seconds. The others begin there too.
    behind: Option<f64>,
}

#[derive(Debug)]
struct Rendition {
    playlist: Rc<Url>,
    /// Whether it is known that this is a media playlist.
    is_media: bool,
    listing: Option<Rc<Listing>>,
    /// The place of the next piece, once it is decided where to begin.
    next: Option<Place>,
    /// It knows what there is, and begins where the first rendition does, which does not know yet.
    waits: bool,
    fetch: Fetch,
    asked: Option<Asked>,
    /// When the playlist may be asked for again, and when it was last.
    due: Now,
    began: Now,
    /// How often it was not to be had, one time after the other.
    tries: u32,
}

#[derive(Debug)]
enum Asked {
    /// The playlist; held back until it has the piece at this place.
    Playlist(Option<Place>),
    /// A piece or what it needs, and the place behind the piece.
    Piece(Wanted, Place),
}

/// What a media playlist lists, ready to be asked for.
#[derive(Debug)]
pub struct Listing {
    target: Duration,
    part_target: Option<Duration>,
    /// Seconds from the end at which a player begins.
    hold_back: f64,
    part_hold_back: f64,
    ended: bool,
    first: u64,
    /// The place behind all that is listed.
    end: Place,
    segments: Vec<Item>,
    parts: Vec<Item>,
    /// Where the next playlist is, for those who let the server hold it back.
    reload: Option<Rc<Url>>,
}

/// What stands at a place.
enum At<'a> {
    /// This, and behind it that place.
    Item(&'a Item, Place),
    /// Nothing, and it is not waited for: the next is there.
    Nothing(Place),
    /// It has not come.
    Later,
}

/// How long an answer that brought nothing new is not asked for again.
const IDLE: Duration = Duration::from_millis(50);
/// The least pause between playlists by the clock, whatever their target is.
const RELOAD_MIN: Duration = Duration::from_millis(100);
/// Target durations from the end at which a player begins, where the server says nothing (6.3.3), and parts likewise.
const TARGETS_BEHIND: f64 = 3.0;
/// What sums of doubles may be off.
const ROUNDING: f64 = 1e-4;

impl Player {
    /// A viewer of `url`, a multivariant playlist or a media playlist.
    pub fn new(url: Url, low_latency: bool, parses: bool, now: Now) -> Player {
        let rendition = Rendition::new(Rc::new(url), parses, now);
        Player { low_latency, parses, renditions: vec![rendition], behind: None }
    }

    /// See [`Player::poll`](super::Player::poll).
    pub fn poll(&mut self, now: Now) -> Option<Ask> {
        for (connection, rendition) in self.renditions.iter_mut().enumerate() {
            if rendition.asked.is_some() {
                continue;
            }
            rendition.choose(self.low_latency, connection == 0, &mut self.behind);
            if let Some(request) = rendition.wish(self.low_latency, now) {
                return Some(Ask { connection, request });
            }
        }
        None
    }

    /// See [`Player::deadline`](super::Player::deadline).
    pub fn deadline(&self) -> Option<Now> {
        let waiting = self.renditions.iter().filter(|rendition| rendition.asked.is_none());
        waiting.filter(|rendition| !rendition.waits).map(|rendition| rendition.due).min()
    }

    /// See [`Player::answered`](super::Player::answered).
    ///
    /// # Errors
    /// As there.
    pub fn answered(
        &mut self,
        connection: usize,
        answer: &Answer<'_>,
        now: Now,
        desk: &mut Desk<'_>,
    ) -> Result<(), String> {
        let Some(rendition) = self.renditions.get_mut(connection) else { return Ok(()) };
        match rendition.asked.take() {
            None => Ok(()),
            Some(Asked::Piece(wanted, next)) => {
                if matches!(wanted, Wanted::Item(..)) {
                    rendition.next = Some(next);
                }
                rendition.fetch.answered(&wanted, next, answer, desk)
            }
            Some(Asked::Playlist(until)) if !answer.is_success() => {
                rendition.refused(until, answer, now, desk.checks)
            }
            Some(Asked::Playlist(until)) => {
                if !rendition.is_media {
                    rendition.is_media = true;
                    if let m3u8::Playlist::Multivariant(found) = m3u8::parse(&answer.text()?)? {
                        return self.follow(&found, answer.url, now);
                    }
                }
                rendition.listed(self.low_latency, until, answer, now, desk)
            }
        }
    }

    /// See [`Player::stop_parsing`](super::Player::stop_parsing).
    pub fn stop_parsing(&mut self) {
        self.parses = false;
        self.renditions.iter_mut().for_each(|rendition| rendition.fetch.stop_parsing());
    }

    fn follow(&mut self, found: &m3u8::Multivariant, base: &Url, now: Now) -> Result<(), String> {
        let names = [Some(&found.variant), found.audio.as_ref()];
        let mut renditions = Vec::new();
        for name in names.into_iter().flatten() {
            let url = Rc::new(uri::resolve(base, name)?);
            renditions.push(Rendition { is_media: true, ..Rendition::new(url, self.parses, now) });
        }
        self.renditions = renditions;
        Ok(())
    }
}

impl Rendition {
    fn new(playlist: Rc<Url>, parses: bool, now: Now) -> Rendition {
        Rendition {
            playlist,
            is_media: false,
            listing: None,
            next: None,
            waits: false,
            fetch: Fetch::new(parses),
            asked: None,
            due: now,
            began: now,
            tries: 0,
        }
    }

    /// Decides where to begin, if that is to be done and can be.
    fn choose(&mut self, low_latency: bool, is_first: bool, behind: &mut Option<f64>) {
        let Some(listing) = self.listing.as_ref().filter(|_| self.next.is_none()) else { return };
        self.waits = !is_first && behind.is_none() && !listing.is_empty();
        let found = match *behind {
            _ if is_first => listing.start(low_latency),
            Some(behind) => listing.start_at(low_latency, behind),
            None => None,
        };
        if let Some((place, from_end)) = found {
            self.next = Some(place);
            behind.get_or_insert(from_end);
        }
    }

    fn wish(&mut self, low_latency: bool, now: Now) -> Option<Request> {
        if self.waits {
            return None;
        }
        let listing = self.listing.clone();
        while let (Some(listing), Some(place)) = (&listing, self.next) {
            match listing.at(place, low_latency) {
                At::Item(item, next) if !item.gap => {
                    let (wanted, request) = self.fetch.want(item, false);
                    self.asked = Some(Asked::Piece(wanted, next));
                    return Some(request);
                }
                At::Item(_, next) | At::Nothing(next) => self.next = Some(next),
                At::Later => break,
            }
        }
        if self.due > now {
            return None;
        }
        self.began = now;
        let held =
            listing.filter(|_| low_latency).and_then(|listing| Some((listing.reload.clone()?, listing.end)));
        let (url, until) =
            held.map_or_else(|| (self.playlist.clone(), None), |(url, until)| (url, Some(until)));
        self.asked = Some(Asked::Playlist(until));
        Some(Request::playlist(url, until.is_some()))
    }

    fn refused(
        &mut self,
        until: Option<Place>,
        answer: &Answer<'_>,
        now: Now,
        checks: &mut Checks,
    ) -> Result<(), String> {
        // Not there yet, too early, too busy, and not in the time that a server holds a request.
        let passes = matches!(answer.status, 404 | 425 | 503 | 504);
        self.tries += 1;
        if !passes || self.tries > TRIES_MAX {
            return Err(answer.refusal("a playlist"));
        }
        if until.is_some() {
            checks.reloads_unanswered += 1;
        } else if self.listing.is_some() {
            checks.not_found += 1;
        }
        self.due = Now(now.0 + RETRY_NANOS);
        Ok(())
    }

    fn listed(
        &mut self,
        low_latency: bool,
        until: Option<Place>,
        answer: &Answer<'_>,
        now: Now,
        desk: &mut Desk<'_>,
    ) -> Result<(), String> {
        if self.listing.is_none() {
            // It may have been found elsewhere than it was looked for.
            self.playlist = answer.url.clone();
        }
        let read = || match m3u8::parse(&answer.text()?)? {
            m3u8::Playlist::Media(media) => Listing::new(&media, &self.playlist),
            m3u8::Playlist::Multivariant(_) => Err("a variant is a multivariant playlist".to_owned()),
        };
        let listing = desk.shelves.listings.get(&self.playlist, answer.body, read)?;
        self.tries = 0;
        let before = self.listing.replace(listing.clone());
        if let Some(before) = &before {
            let back = listing.first < before.first || listing.end < before.end;
            desk.checks.sequence_backwards += u64::from(back);
        }
        let unchanged =
            before.is_some_and(|before| Rc::ptr_eq(&before, &listing) || before.end == listing.end);
        if listing.ended && unchanged {
            return Err("the server has ended the stream".to_owned());
        }
        let has_news = until.is_none_or(|place| listing.end > place);
        desk.checks.reloads_unanswered += u64::from(!has_news);
        self.due = match listing.part_target.filter(|_| low_latency) {
            _ if low_latency && listing.reload.is_some() && !listing.is_empty() => {
                if has_news {
                    now
                } else {
                    now.after(IDLE)
                }
            }
            Some(part) => self.began.after(part.max(IDLE)),
            // RFC 8216, 6.3.4: as long as the target after one that brought something, half of it after one that did not.
            None if unchanged || listing.is_empty() => self.began.after((listing.target / 2).max(RELOAD_MIN)),
            None => self.began.after(listing.target.max(RELOAD_MIN)),
        };
        Ok(())
    }
}

impl Listing {
    fn new(media: &m3u8::Media, base: &Url) -> Result<Listing, String> {
        let resource = |resource: &m3u8::Resource| -> Result<Resource, String> {
            let url = Rc::new(uri::resolve(base, &resource.uri)?);
            // There is at least one byte in a range.
            let range = resource.range.map(|(first, length)| (first, first.saturating_add(length - 1)));
            Ok(Resource { url, range })
        };
        let maps: Vec<Rc<Resource>> =
            media.maps.iter().map(|map| resource(map).map(Rc::new)).collect::<Result<_, _>>()?;
        let flagged = media.segments.iter().any(|segment| segment.parts.iter().any(|part| part.independent));
        let (mut segments, mut parts) = (Vec::new(), Vec::new());
        for segment in &media.segments {
            let init = segment.map.and_then(|map| maps.get(map)).cloned();
            for (index, part) in segment.parts.iter().enumerate() {
                parts.push(Item {
                    place: Place(segment.number, index as u64),
                    resource: resource(&part.resource)?,
                    init: init.clone(),
                    begins: part.begins,
                    duration: part.duration,
                    // Where no part is said to be an entrance, as with sound, each segment is one.
                    entrance: part.independent || (index == 0 && (media.independent || !flagged)),
                    gap: part.gap,
                    discontinuity: segment.discontinuity && index == 0,
                });
            }
            if let Some(whole) = &segment.resource {
                segments.push(Item {
                    place: Place(segment.number, 0),
                    resource: resource(whole)?,
                    init,
                    begins: segment.begins,
                    duration: segment.duration,
                    entrance: true,
                    gap: segment.gap,
                    discontinuity: segment.discontinuity,
                });
            }
        }
        let end = match media.segments.last() {
            None => Place(media.first, 0),
            Some(last) if last.resource.is_none() => Place(last.number, last.parts.len() as u64),
            Some(last) => Place(last.number + 1, 0),
        };
        let part_target = media.part_target.map(Duration::from_secs_f64);
        let reload = media.can_block.then(|| {
            let joint = if base.path.contains('?') { '&' } else { '?' };
            let part = part_target.map(|_| format!("&_HLS_part={}", end.1)).unwrap_or_default();
            let skip = if media.can_skip { "&_HLS_skip=YES" } else { "" };
            Rc::new(Url {
                path: format!("{}{joint}_HLS_msn={}{part}{skip}", base.path, end.0),
                ..base.clone()
            })
        });
        Ok(Listing {
            target: Duration::from_secs_f64(media.target),
            part_target,
            hold_back: media.hold_back.unwrap_or(TARGETS_BEHIND * media.target),
            part_hold_back: media
                .part_hold_back
                .or(media.part_target.map(|part| TARGETS_BEHIND * part))
                .unwrap_or_default(),
            ended: media.ended,
            first: media.first,
            end,
            segments,
            parts,
            reload,
        })
    }

    fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.parts.is_empty()
    }

    /// Where the first rendition begins, and how far that is from the end: at the last entrance that is not nearer to the end
    /// than the server wants players to be. (RFC 8216, 6.3.3)
    fn start(&self, low_latency: bool) -> Option<(Place, f64)> {
        let by_parts = low_latency && !self.parts.is_empty();
        let behind = if by_parts { self.part_hold_back } else { self.hold_back };
        self.last_behind(behind, self.candidates(by_parts), |item| item.entrance)
    }

    /// Where a rendition begins that goes with one that began so far from the end.
    fn start_at(&self, low_latency: bool, behind: f64) -> Option<(Place, f64)> {
        self.last_behind(behind, self.candidates(low_latency && !self.parts.is_empty()), |_| true)
    }

    /// What a player may begin with, in order: parts, and segments whose parts are not listed.
    fn candidates(&self, by_parts: bool) -> Vec<&Item> {
        let has_parts =
            |segment: &Item| self.parts.binary_search_by_key(&segment.place, |part| part.place).is_ok();
        let segments = self.segments.iter().filter(|segment| !by_parts || !has_parts(segment));
        let mut items: Vec<&Item> = segments.chain(self.parts.iter().filter(|_| by_parts)).collect();
        items.sort_by_key(|item| item.place);
        items
    }

    /// The last of `items` that `may` be taken and begins so many seconds before their end, or else the first.
    fn last_behind(&self, behind: f64, items: Vec<&Item>, may: fn(&Item) -> bool) -> Option<(Place, f64)> {
        let end = items.last().map(|last| last.begins + last.duration)?;
        let may = |item: &&&Item| may(item) && !item.gap;
        let found = items.iter().rev().filter(may).find(|item| item.begins <= end - behind + ROUNDING);
        let found = found.or(items.iter().find(may))?;
        Some((found.place, end - found.begins))
    }

    fn at(&self, place: Place, by_parts: bool) -> At<'_> {
        let Place(number, part) = place;
        if by_parts && let Ok(found) = self.parts.binary_search_by_key(&place, |item| item.place) {
            return At::Item(&self.parts[found], Place(number, part + 1));
        }
        let oldest = [self.segments.first(), self.parts.first().filter(|_| by_parts)];
        let oldest = oldest.into_iter().flatten().map(|item| item.place.0).min();
        match self.segments.binary_search_by_key(&number, |item| item.place.0) {
            Ok(found) if part == 0 => At::Item(&self.segments[found], Place(number + 1, 0)),
            // All its parts were had, or what is left of them is listed no more.
            Ok(_) => At::Nothing(Place(number + 1, 0)),
            // Everything up to here has left the list.
            Err(_) if oldest.is_some_and(|oldest| number < oldest) => {
                At::Nothing(Place(oldest.unwrap_or_default(), 0))
            }
            Err(_) => At::Later,
        }
    }
}

#[cfg(test)]
mod tests;
