//! What has been shown of packaged streams, and the bytes behind it. Whoever asks, on whichever core: a name stands for the
//! same bytes for ever, a segment of a number is the same, and the frames in it follow those of the one before.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use shardcast_engine::{
    hls,
    media::StreamName,
    segment::{Item, Rendition},
    time::Now,
};

use super::{Judge, Verdict, requests::Moment, verdict};
use crate::{
    hls_rules::playlist::{self, Playlist},
    sim::{archive, http::file_of},
};

/// All that was shown.
#[derive(Debug, Default)]
pub struct Library {
    bytes: BTreeMap<StreamName, BTreeMap<String, Bytes>>,
    shelves: BTreeMap<(StreamName, u64, Rendition), Shelf>,
}

/// A track of a packaging.
#[derive(Debug, Default)]
struct Shelf {
    segments: BTreeMap<u64, Listed>,
    /// EXT-X-MEDIA-SEQUENCE and EXT-X-DISCONTINUITY-SEQUENCE, by the newest whole segment that stood below them.
    sequences: BTreeMap<u64, (u64, u64)>,
    /// The first and the last frame of each segment, counted among those of their kind; none in a gap.
    frames: BTreeMap<u64, Option<(u64, u64)>>,
    /// EXT-X-TARGETDURATION, seconds.
    target: u64,
    /// Which life of the stream it is about.
    life: u32,
}

/// A segment as playlists have it.
#[derive(Debug, Default)]
struct Listed {
    head: Option<Head>,
    whole: Option<Whole>,
    parts: Vec<Part>,
    /// By core: when it was last listed there, and how long the longest playlist was that had it.
    seen: BTreeMap<usize, (Now, Duration)>,
}

/// What is said of a segment before its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Head {
    map: Option<String>,
    period: u64,
    discontinuity: bool,
    date: Option<i128>,
}

/// What is said of one that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Whole {
    file: String,
    nanos: Option<u64>,
    gap: bool,
}

/// What is said of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    file: String,
    nanos: u64,
    independent: bool,
}

impl Library {
    /// The bytes behind a name have come.
    pub fn take(&mut self, name: &StreamName, file: &str, bytes: &[u8]) -> Verdict {
        let known = self.bytes.entry(name.clone()).or_default();
        match known.get(file) {
            Some(known) => verdict(known == bytes, || format!("{file} of {name} has become something else")),
            None => {
                known.insert(file.to_owned(), Bytes::copy_from_slice(bytes));
                Ok(())
            }
        }
    }

    /// The bytes behind a name, if they have ever come.
    pub fn bytes(&self, name: &StreamName, file: &str) -> Option<&Bytes> {
        self.bytes.get(name)?.get(file)
    }

    /// A whole playlist was given on `core`, in this life of the stream.
    ///
    /// # Errors
    /// It says something else than others did.
    pub fn list(
        &mut self,
        core: usize,
        name: &StreamName,
        life: u32,
        playlist: &Playlist<'_>,
        now: Now,
    ) -> Result<Moment, String> {
        let moment = moment_of(playlist).ok_or("a playlist that names nothing")?;
        let shelf = self.shelves.entry((name.clone(), moment.id, moment.rendition)).or_default();
        if shelf.segments.is_empty() {
            shelf.life = life;
        }
        shelf.target = playlist.target.unwrap_or(0);
        let length = Duration::from_nanos(playlist.duration());
        for segment in playlist.all().filter(|segment| segment.uri.is_some() || !segment.parts.is_empty()) {
            let listed = shelf.segments.entry(segment.number).or_default();
            listed.list(segment).map_err(|what| {
                format!("segment {} of {name}, {:?}: {what}", segment.number, moment.rendition)
            })?;
            let (at, longest) = listed.seen.entry(core).or_insert((now, length));
            (*at, *longest) = (now, length.max(*longest));
        }
        if let (Some(newest), false) = (playlist.segments.last(), playlist.ended) {
            let numbers = (playlist.media_sequence, playlist.discontinuity_sequence);
            let known = *shelf.sequences.entry(newest.number).or_insert(numbers);
            verdict(known == numbers, || {
                format!(
                    "up to segment {} {name} was listed from {known:?} on, and is from {numbers:?}",
                    newest.number
                )
            })?;
        }
        Ok(moment)
    }

    /// Whether a name is promised at `now`: somebody has seen it in a playlist, and it is not so long ago that it may be gone.
    /// (RFC 8216bis, 6.2.2) What nobody asks for is let go of after `linger`, what belongs to another `life` of the stream or
    /// was packaged anew at any time, and a core may be late by `slack`.
    pub fn is_promised(
        &self,
        name: &StreamName,
        item: &Item,
        life: u32,
        linger: Duration,
        slack: Duration,
        now: Now,
    ) -> bool {
        let (id, rendition, number) = match item {
            Item::Segment { id, rendition, number, .. } | Item::Part { id, rendition, number, .. } => {
                (*id, *rendition, *number)
            }
            _ => return false,
        };
        let newer = self.shelves.keys().any(|(known, other, _)| known == name && *other > id);
        let shelf = self.shelves.get(&(name.clone(), id, rendition));
        let Some(shelf) = shelf.filter(|shelf| shelf.life == life && !newer) else { return false };
        let Some(listed) = shelf.segments.get(&number) else { return false };
        let known = match (item, &listed.whole) {
            (_, Some(whole)) if whole.gap => false,
            (Item::Segment { .. }, whole) => whole.is_some(),
            (Item::Part { index, .. }, _) => listed.parts.len() > *index as usize,
            _ => false,
        };
        let least = |(at, longest): &(Now, Duration)| {
            let kept = (listed.length() + *longest).min(linger).saturating_sub(slack);
            at.after(kept)
        };
        known && listed.seen.values().map(least).max().is_some_and(|until| now < until)
    }

    /// Until when what was listed on `core` must be there, although it is listed no more.
    pub fn kept_until(&self, core: usize, name: &StreamName, file: &str) -> Option<Now> {
        let (id, rendition, number) = match hls::name::parse(file)? {
            Item::Segment { id, rendition, number, .. } | Item::Part { id, rendition, number, .. } => {
                (id, rendition, number)
            }
            _ => return None,
        };
        let listed = self.shelves.get(&(name.clone(), id, rendition))?.segments.get(&number)?;
        let (at, longest) = listed.seen.get(&core)?;
        Some(at.after(listed.length() + *longest))
    }

    /// Whether a segment was listed, in whole or in part.
    pub fn has_listed(&self, name: &StreamName, moment: Moment, number: u64) -> bool {
        let shelf = self.shelves.get(&(name.clone(), moment.id, moment.rendition));
        shelf.is_some_and(|shelf| shelf.segments.contains_key(&number))
    }

    /// The longest target duration of a stream.
    pub fn target(&self, name: &StreamName) -> Duration {
        let targets =
            self.shelves.iter().filter(|((known, ..), _)| known == name).map(|(_, shelf)| shelf.target);
        Duration::from_secs(targets.max().unwrap_or(0))
    }
}

impl Listed {
    fn list(&mut self, segment: &playlist::Segment<'_>) -> Verdict {
        let head = Head {
            map: segment.map.map(|map| file_of(map).to_owned()),
            period: segment.period,
            discontinuity: segment.discontinuity,
            date: segment.date,
        };
        same(&mut self.head, head)?;
        if let Some(uri) = segment.uri {
            let whole = Whole { file: file_of(uri).to_owned(), nanos: segment.duration, gap: segment.gap };
            same(&mut self.whole, whole)?;
        }
        for (index, part) in segment.parts.iter().enumerate() {
            let part = Part {
                file: file_of(part.uri).to_owned(),
                nanos: part.duration,
                independent: part.independent,
            };
            match self.parts.get(index) {
                Some(known) if *known == part => {}
                Some(known) => return Err(format!("part {index} was {known:?} and is {part:?}")),
                None => self.parts.push(part),
            }
        }
        Ok(())
    }

    fn length(&self) -> Duration {
        let parts = self.parts.iter().map(|part| part.nanos).sum();
        Duration::from_nanos(self.whole.as_ref().and_then(|whole| whole.nanos).unwrap_or(parts))
    }
}

/// What was said once is said for ever.
fn same<T: PartialEq + std::fmt::Debug>(known: &mut Option<T>, said: T) -> Verdict {
    match known {
        Some(known) => verdict(*known == said, || format!("it was {known:?} and is {said:?}")),
        None => {
            *known = Some(said);
            Ok(())
        }
    }
}

/// What a playlist is about and how far it goes.
pub fn moment_of(playlist: &Playlist<'_>) -> Option<Moment> {
    let map = playlist.all().find_map(|segment| segment.map)?;
    let Item::Init { id, rendition, .. } = hls::name::parse(file_of(map))? else { return None };
    let next = match playlist.hint().and_then(|hint| hls::name::parse(file_of(hint))) {
        Some(Item::Part { number, index, .. }) => (number, index),
        _ if playlist.ended => (u64::MAX, u32::MAX),
        _ => return None,
    };
    Some(Moment { id, rendition, next })
}

impl Judge {
    /// The bytes of a whole segment are known: its frames are those that were sent, and follow those of the one before.
    ///
    /// # Errors
    /// They do not.
    pub fn check_segment(
        &mut self,
        name: &StreamName,
        moment: Moment,
        segment: &playlist::Segment<'_>,
    ) -> Verdict {
        let key = (name.clone(), moment.id, moment.rendition);
        let shelf = self.library.shelves.entry(key.clone()).or_default();
        if shelf.frames.contains_key(&segment.number) {
            return Ok(());
        }
        let place = || format!("segment {} of {name}, {:?}", segment.number, moment.rendition);
        let frames = match (segment.gap, segment.map, segment.uri) {
            (false, Some(map), Some(uri)) => {
                let file = |address| self.library.bytes(name, file_of(address));
                let (Some(init), Some(media)) = (file(map), file(uri)) else { return Ok(()) };
                let movie = [&init[..], &media[..]].concat();
                let stamps = archive::read(&movie).map_err(|why| format!("{}: {why}", place()))?;
                Some(
                    self.run_of(name, moment.rendition, &stamps.concat())
                        .map_err(|why| format!("{}: {why}", place()))?,
                )
            }
            _ => None,
        };
        let shelf = self.library.shelves.entry(key).or_default();
        let before = shelf.frames.range(..segment.number).rev();
        let mut expected = segment.number;
        for (number, former) in before {
            expected -= 1;
            if *number != expected {
                break;
            }
            let (Some((_, last)), Some((first, _))) = (former, frames) else { continue };
            verdict(first == last + 1, || {
                format!("{} begins with frame {first} of its kind, the one before ended with {last}", place())
            })?;
            break;
        }
        shelf.frames.insert(segment.number, frames);
        let count = frames.map_or(0, |(first, last)| last + 1 - first);
        self.tally.packaged += count;
        Ok(())
    }

    /// The first and the last of frames that follow each other, counted among those of their kind.
    fn run_of(
        &self,
        name: &StreamName,
        rendition: Rendition,
        stamps: &[super::Stamp],
    ) -> Result<(u64, u64), String> {
        let mut run: Option<(u64, u64)> = None;
        for stamp in stamps {
            let (video, ordinal) =
                self.ordinal_of(name, *stamp).ok_or_else(|| format!("{stamp:?} was never taken"))?;
            verdict(video == (rendition == Rendition::Video), || format!("{stamp:?} is of another kind"))?;
            verdict(run.is_none_or(|(_, last)| ordinal == last + 1), || {
                format!("frame {ordinal} of its kind follows {run:?}")
            })?;
            run = Some((run.map_or(ordinal, |(first, _)| first), ordinal));
        }
        run.ok_or_else(|| "it has no frames".to_owned())
    }

    /// The last frame that is known to be in a segment of this track, counted among those of its kind.
    pub fn last_packaged(&self, name: &StreamName, moment: Moment) -> Option<u64> {
        let shelf = self.library.shelves.get(&(name.clone(), moment.id, moment.rendition))?;
        shelf.frames.values().rev().find_map(|frames| *frames).map(|(_, last)| last)
    }
}
