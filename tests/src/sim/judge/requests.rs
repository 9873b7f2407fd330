//! Requests for what is fetched of a stream by name: each is answered once, in order, with what the hub found; what is there
//! is answered at once, and nothing waits longer than it may.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use shardcast_engine::{
    hls,
    limits::HELD_REQUEST_TIME_MAX,
    media::StreamName,
    segment::{Found, Item, Rendition, Text},
    session::Refusal,
    time::Now,
};

use super::{Verdict, verdict};
use crate::sim::http::{Answer, Exchange, Method};

/// What is known of all requests of a world.
#[derive(Debug, Default)]
pub struct Requests {
    conversations: BTreeMap<usize, Conversation>,
    windows: BTreeMap<(usize, StreamName), Seen>,
}

/// The requests of one connection.
#[derive(Debug, Default)]
struct Conversation {
    /// The one that the hub has not answered yet.
    open: Option<Asked>,
    /// What it was told, and its peer has not heard yet.
    told: VecDeque<Told>,
}

/// A question, as the hub has it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The core whose hub it is.
    pub core: usize,
    /// Of which stream.
    pub name: StreamName,
    /// What it asks for.
    pub item: Item,
    /// Since when.
    pub at: Now,
    /// What came of a segment that is being made, and how many parts of it.
    body: Vec<u8>,
    parts: u32,
}

/// What a session was told.
#[derive(Clone, Debug)]
pub struct Told {
    /// The question.
    pub asked: Asked,
    /// The answer.
    pub what: What,
}

/// An answer of the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// These bytes.
    Bytes(Vec<u8>),
    /// This text.
    Text(Vec<u8>),
    /// It is not there.
    Missing,
    /// Nobody asks that.
    Absurd,
    /// No.
    Refused(Refusal),
}

/// What those who ask on a core have been shown of a packaged stream there.
#[derive(Debug)]
struct Seen {
    /// Which packaging, of which life of the stream.
    id: u64,
    life: u32,
    /// The part that comes next, each time that it was another one, and since when.
    next: BTreeMap<(Rendition, u64, u32), Now>,
    /// When somebody last asked.
    asked: Now,
}

/// A moment of a media playlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The packaging.
    pub id: u64,
    /// The track.
    pub rendition: Rendition,
    /// The part that comes next; after all when nothing does.
    pub next: (u64, u32),
}

/// How long an answer may take that could be given.
#[derive(Clone, Copy, Debug)]
pub struct Haste {
    /// On the core where what is asked for is at hand.
    pub here: Duration,
    /// Where it is at hand on another core; `None` when lanes are full.
    pub elsewhere: Option<Duration>,
}

impl Requests {
    /// A session asks its hub.
    pub fn asked(
        &mut self,
        socket: usize,
        core: usize,
        name: StreamName,
        item: Item,
        linger: Duration,
        now: Now,
    ) -> Verdict {
        // What nobody asked for any more may have been let go of, and packaged anew by now.
        if let Some(seen) = self.windows.get_mut(&(core, name.clone())) {
            if now.since(seen.asked) > linger {
                self.windows.remove(&(core, name.clone()));
            } else {
                seen.asked = now;
            }
        }
        let asked = Asked { core, name, item, at: now, body: Vec::new(), parts: 0 };
        let former = self.conversations.entry(socket).or_default().open.replace(asked);
        verdict(former.is_none(), || "a session asks before it has an answer".to_owned())
    }

    /// A session was told what its hub found. Gives it back, unless there is more to come.
    pub fn told(&mut self, socket: usize, found: Result<Found, Refusal>) -> Option<Told> {
        let conversation = self.conversations.get_mut(&socket)?;
        let asked = conversation.open.as_mut()?;
        let what = match found {
            Ok(Found::Open(pieces, next)) => {
                asked.body.extend(pieces.concat());
                asked.parts = next;
                return None;
            }
            Ok(Found::Bytes(pieces)) => {
                asked.body.extend(pieces.concat());
                What::Bytes(std::mem::take(&mut asked.body))
            }
            Ok(Found::Text(text)) => What::Text(text.plain().to_vec()),
            Ok(Found::Missing | Found::Later) => What::Missing,
            Ok(Found::Absurd) => What::Absurd,
            Err(refusal) => What::Refused(refusal),
        };
        let asked = conversation.open.take()?;
        let told = Told { asked, what };
        conversation.told.push_back(told.clone());
        Some(told)
    }

    /// The server has closed a connection. What it had said may still be on its way.
    pub fn closed(&mut self, socket: usize) {
        if let Some(conversation) = self.conversations.get_mut(&socket) {
            conversation.open = None;
        }
    }

    /// A connection whose request waits for its hub.
    pub fn is_waiting(&self, socket: usize) -> bool {
        self.conversations.get(&socket).is_some_and(|conversation| conversation.open.is_some())
    }

    /// Somebody was shown a playlist on a core.
    pub fn shown(&mut self, core: usize, name: &StreamName, life: u32, moment: Moment, now: Now) {
        let Moment { id, rendition, next } = moment;
        let place = (core, name.clone());
        let seen =
            self.windows.entry(place).or_insert_with(|| Seen { id, life, next: BTreeMap::new(), asked: now });
        if (seen.id, seen.life) != (id, life) {
            *seen = Seen { id, life, next: BTreeMap::new(), asked: now };
        }
        seen.asked = now;
        seen.next.entry((rendition, next.0, next.1)).or_insert(now);
    }

    /// The peer has heard the answer to its request.
    pub fn heard(&mut self, socket: usize, exchange: &Exchange) -> Verdict {
        let Exchange { request, answer } = exchange;
        let fault = |why: &str| Err(format!("{request:?} was answered {}: {why}", answer.status));
        if let Some(status) = request.status {
            return if answer.status == status { Ok(()) } else { fault("it should be another status") };
        }
        let told = self.conversations.get_mut(&socket).and_then(|conversation| conversation.told.pop_front());
        let Some(Told { asked, what }) = told else { return fault("the hub has said nothing") };
        let (status, body) = match &what {
            What::Text(text) => (200, Some(text.as_slice())),
            What::Bytes(bytes) => match request.range.filter(|_| request.method == Method::Get) {
                None => (200, Some(bytes.as_slice())),
                Some((first, _)) if first >= bytes.len() => (416, None),
                Some((first, last)) => (206, bytes.get(first..bytes.len().min(last + 1))),
            },
            What::Missing | What::Refused(Refusal::NotFound) => (404, None),
            What::Absurd => (400, None),
            What::Refused(Refusal::Full | Refusal::ShuttingDown | Refusal::TooLate) => (503, None),
            What::Refused(_) => (403, None),
        };
        if answer.status != status {
            return fault(&format!("it should be {status}"));
        }
        let Some(body) = body else { return Ok(()) };
        if request.method == Method::Head {
            let length = answer.field("content-length").and_then(|length| length.parse().ok());
            return if length == Some(body.len()) { Ok(()) } else { fault("its length is another one") };
        }
        if answer.body != body {
            return fault("its body is not what was found");
        }
        check_type(&asked.item, answer).or_else(|why| fault(&why))
    }

    /// No request on `core` waits that could be answered.
    pub fn check(&self, core: usize, haste: Haste, now: Now) -> Verdict {
        for (socket, conversation) in &self.conversations {
            let Some(asked) = conversation.open.as_ref().filter(|asked| asked.core == core) else { continue };
            let waits = now.since(asked.at);
            verdict(waits <= HELD_REQUEST_TIME_MAX + haste.here, || {
                format!("the request of socket {socket} waits for ever: {asked:?}")
            })?;
            let late = |since: Option<Now>, most: Duration| {
                since.is_some_and(|since| now.since(since.max(asked.at)) > most)
            };
            verdict(!late(self.there_since(asked, core), haste.here), || {
                format!("the request of socket {socket} waits for what is there: {asked:?}")
            })?;
            let Some(most) = haste.elsewhere else { continue };
            let others = self.windows.keys().filter(|(_, name)| *name == asked.name);
            let first = others.filter_map(|(other, _)| self.there_since(asked, *other)).min();
            verdict(!late(first, most), || {
                format!("the request of socket {socket} waits for what another core has: {asked:?}")
            })?;
        }
        Ok(())
    }

    /// Since when somebody on `core` knows that what is asked for is there.
    fn there_since(&self, asked: &Asked, core: usize) -> Option<Now> {
        let seen = self.windows.get(&(core, asked.name.clone()))?;
        let (id, rendition, place) = match &asked.item {
            Item::Text(Text { rendition: Some(rendition), until: Some((number, index)), .. }) => {
                // The first place that is beyond it.
                let place =
                    index.map_or((number.saturating_add(1), 0), |index| (*number, index.saturating_add(1)));
                (seen.id, *rendition, place)
            }
            Item::Part { id, rendition, number, index } => {
                (*id, *rendition, (*number, index.saturating_add(1)))
            }
            Item::Segment { id, rendition, number, from: None } => {
                (*id, *rendition, (number.saturating_add(1), 0))
            }
            Item::Segment { id, rendition, number, from: Some(_) } => {
                (*id, *rendition, (*number, asked.parts.saturating_add(1)))
            }
            Item::Text(_) | Item::Init { .. } | Item::Clock => return None,
        };
        if id != seen.id {
            return None;
        }
        let from = (rendition, place.0, place.1);
        let to = (rendition, u64::MAX, u32::MAX);
        if from > to {
            return None;
        }
        seen.next.range(from..=to).map(|(_, at)| *at).min()
    }

    /// Whether a playlist of `rendition` on `core` has shown this segment, or said that it is near. (RFC 8216bis, 6.2.5.2)
    pub fn is_near(&self, core: usize, name: &StreamName, rendition: Rendition, number: u64) -> bool {
        let Some(seen) = self.windows.get(&(core, name.clone())) else { return false };
        let newest =
            seen.next.keys().filter(|(known, ..)| *known == rendition).map(|(_, number, _)| *number).max();
        newest.is_some_and(|newest| number <= newest.saturating_add(2))
    }

    /// The packaging, and the life of the stream, that those who ask on `core` know of.
    pub fn known(&self, core: usize, name: &StreamName) -> Option<(u64, u32)> {
        self.windows.get(&(core, name.clone())).map(|seen| (seen.id, seen.life))
    }

    /// Whether a playlist of this track was given on `core` by the packaging that is there.
    pub fn has_shown(&self, core: usize, name: &StreamName, rendition: Rendition) -> bool {
        let seen = self.windows.get(&(core, name.clone()));
        seen.is_some_and(|seen| seen.next.keys().any(|(known, ..)| *known == rendition))
    }
}

fn check_type(item: &Item, answer: &Answer) -> Result<(), String> {
    let wanted = match item {
        Item::Text(text) => text.form.content_type,
        Item::Init { rendition: Rendition::Video, .. }
        | Item::Segment { rendition: Rendition::Video, .. }
        | Item::Part { rendition: Rendition::Video, .. } => "video/mp4",
        Item::Init { .. } | Item::Segment { .. } | Item::Part { .. } => "audio/mp4",
        Item::Clock => "text/plain; charset=utf-8",
    };
    match answer.field("content-type") {
        Some(found) if found == wanted => Ok(()),
        found => Err(format!("its type is {found:?}")),
    }
}

/// The name of what is asked for in its stream's folder, where it has one that stands for nothing else.
pub fn file_of(item: &Item) -> Option<String> {
    match item {
        Item::Init { id, rendition, version } => Some(hls::name::init(*id, *rendition, *version)),
        Item::Segment { id, rendition, number, .. } => Some(hls::name::segment(*id, *rendition, *number)),
        Item::Part { id, rendition, number, index } => {
            Some(hls::name::part(*id, *rendition, *number, *index))
        }
        Item::Text(_) | Item::Clock => None,
    }
}
