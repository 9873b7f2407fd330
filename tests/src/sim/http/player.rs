//! A player of HLS: it fetches playlists again and again, and what they list. It says what it was given and judges nothing.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use shardcast_engine::{media::StreamName, time::Now};

use super::{
    NONSENSE,
    answers::{Answers, Piece},
    get, list,
};
use crate::{
    clients::packaged::multivariant,
    hls_rules::{
        are_of_one_moment,
        playlist::{Playlist, Segment},
    },
    sim::client::{Client, Fetched, Found, Heard, Wish},
};

/// What a player fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Whole segments of fragmented MP4.
    Whole,
    /// Their parts, as soon as they are there.
    LowLatency,
    /// Whole segments of MPEG-TS.
    Transport,
}

/// How a player goes about it.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// What it fetches.
    pub sort: Sort,
    /// How often it looks for what is new, where it does not have the server wait for it.
    pub every: Duration,
    /// Requests that it sends before the first of them is answered.
    pub at_once: usize,
    /// It asks for what has changed in the playlist that it holds.
    pub updates: bool,
    /// It asks for what has changed right after each whole playlist.
    pub compares: bool,
    /// It asks for the part that is hinted at.
    pub hints: bool,
    /// Now and then it asks for what is far ahead of all there is.
    pub absurd: bool,
}

/// A player.
#[derive(Debug)]
pub struct Player {
    habits: Habits,
    name: Option<StreamName>,
    /// When it asks which playlists there are, if it does not know.
    next: Now,
    lists: Vec<List>,
    /// What it wants beside them, in this order, and what it has ever wanted.
    wanted: VecDeque<Ask>,
    known: BTreeSet<String>,
    reloads: u64,
    /// What has been asked and not been answered, and when something was last said.
    asked: VecDeque<Ask>,
    spoke: Now,
    /// The answer that is coming.
    answers: Answers,
    status: u16,
    body: Vec<u8>,
    outgoing: BytesMut,
    heard: VecDeque<Heard>,
}

/// A playlist that it follows.
#[derive(Debug)]
struct List {
    uri: String,
    /// As it was last, whole.
    text: Option<String>,
    due: Now,
    asked: bool,
    ended: bool,
}

#[derive(Clone, Debug)]
enum Ask {
    Index,
    List(String),
    /// An update of what has just been asked for whole.
    Comparison(String),
    Media(String),
    /// What is hinted at need not come.
    Hint(String),
    Absurd(String),
    /// Whatever comes back.
    Nonsense,
}

/// Between two playlists of which the server chooses the time.
const LOW_LATENCY_PAUSE: Duration = Duration::from_millis(5);
/// A playlist that has ended may be followed by another of the same name.
const ENDED_PAUSE: Duration = Duration::from_secs(1);
/// From so far before the end on it plays what it has not seen yet, in segments.
const BEHIND: usize = 3;
/// So many playlists to each absurd request.
const ABSURD_EVERY: u64 = 7;
/// A connection on which nothing was said for so long may be closed at any moment, whatever is on its way.
const QUIET: Duration = Duration::from_millis(2500);

impl Player {
    /// One that has asked for nothing yet.
    pub fn new(habits: Habits) -> Self {
        Player {
            habits,
            name: None,
            next: Now(0),
            lists: Vec::new(),
            wanted: VecDeque::new(),
            known: BTreeSet::new(),
            reloads: 0,
            asked: VecDeque::new(),
            spoke: Now(0),
            answers: Answers::default(),
            status: 0,
            body: Vec::new(),
            outgoing: BytesMut::new(),
            heard: VecDeque::new(),
        }
    }

    // What it asks.

    fn next_ask(&mut self, now: Now) -> Option<Ask> {
        if let Some(ask) = self.wanted.pop_front() {
            return Some(ask);
        }
        if self.lists.is_empty() {
            return (!self.asks_which() && self.next <= now).then_some(Ask::Index);
        }
        let due = |list: &&mut List| !list.asked && !list.ended && list.due <= now;
        let list = self.lists.iter_mut().filter(due).min_by_key(|list| list.due)?;
        list.asked = true;
        self.reloads += 1;
        if self.habits.compares {
            self.wanted.push_back(Ask::Comparison(list.uri.clone()));
        }
        if self.habits.absurd && self.reloads.is_multiple_of(ABSURD_EVERY) {
            self.wanted.push_back(Ask::Absurd(list.uri.clone()));
        }
        Some(Ask::List(list.uri.clone()))
    }

    fn ask(&mut self, ask: Ask, now: Now) {
        let Some(name) = &self.name else { return };
        let path = match &ask {
            Ask::Nonsense => return,
            Ask::Index if self.habits.sort == Sort::Transport => "/index.m3u8?format=ts".to_owned(),
            Ask::Index => "/index.m3u8".to_owned(),
            Ask::List(uri) => format!("/{uri}{}", self.directives(uri)),
            Ask::Comparison(uri) => format!("/{uri}?_HLS_skip=YES"),
            Ask::Media(uri) | Ask::Hint(uri) => format!("/{uri}"),
            Ask::Absurd(uri) => format!("/{uri}?_HLS_msn=4000000000"),
        };
        get(name, &path, &mut self.outgoing);
        self.asked.push_back(ask);
        self.spoke = now;
    }

    /// It has asked which playlists there are.
    fn asks_which(&self) -> bool {
        self.asked.iter().any(|ask| matches!(ask, Ask::Index))
    }

    /// What is said of how a playlist is wanted.
    fn directives(&self, uri: &str) -> String {
        let held = self.lists.iter().find(|list| list.uri == uri).and_then(|list| list.text.as_deref());
        let Some(text) = held else { return String::new() };
        let mut words = Vec::new();
        if self.habits.sort == Sort::LowLatency {
            let Playlist { open, .. } = Playlist::read(text);
            words.push(format!("_HLS_msn={}&_HLS_part={}", open.number, open.parts.len()));
        }
        if self.habits.updates && text.contains("CAN-SKIP-UNTIL=") {
            words.push("_HLS_skip=YES".to_owned());
        }
        if words.is_empty() { String::new() } else { format!("?{}", words.join("&")) }
    }

    // What it is told.

    fn piece(&mut self, piece: Piece, now: Now) -> Result<(), &'static str> {
        match piece {
            Piece::Head(status) => self.status = status,
            Piece::Body(body) => self.body.extend_from_slice(&body),
            Piece::End => {
                let ask = self.asked.pop_front().ok_or("an answer to nothing")?;
                let body = std::mem::take(&mut self.body);
                self.spoke = now;
                return self.answer(ask, self.status, body, now);
            }
        }
        Ok(())
    }

    fn answer(&mut self, ask: Ask, status: u16, body: Vec<u8>, now: Now) -> Result<(), &'static str> {
        match (ask, status) {
            (Ask::Index, 200) => {
                let text = text_of(body)?;
                let index = multivariant(&text);
                let variants = index.variants.into_iter().map(|variant| variant.uri);
                let uris = variants.chain(index.alternatives.into_iter().filter_map(|media| media.uri));
                let list = |uri| List { uri, text: None, due: now, asked: false, ended: false };
                self.lists = uris.map(list).collect();
            }
            (Ask::List(uri), 200) => self.listed(&uri, text_of(body)?, now),
            // A stream that has begun anew counts from zero, so even what was the next may be absurd.
            (Ask::Index | Ask::List(_), 400 | 404 | 503) => {
                self.lists.clear();
                self.wanted.clear();
                self.next = now.after(self.habits.every);
            }
            (Ask::Comparison(uri), 200) => {
                let update = text_of(body)?;
                let held = self.lists.iter().find(|list| list.uri == uri).and_then(|list| list.text.clone());
                if let Some(text) = held
                    && update.contains("#EXT-X-SKIP:")
                    && are_of_one_moment(&text, &update)
                {
                    self.tell(uri, Found::Playlist { text, update: Some(update) });
                }
            }
            (Ask::Media(uri) | Ask::Hint(uri), 200) => self.tell(uri, Found::Media(body.into())),
            (Ask::Media(uri), 404) => self.tell(uri, Found::Missing),
            (Ask::Absurd(_), 400) | (Ask::Nonsense, 400..) => {}
            (Ask::Absurd(_) | Ask::Comparison(_) | Ask::Media(_) | Ask::Hint(_), 404 | 503) => {}
            _ => return Err("an answer that nobody would give to what was asked"),
        }
        Ok(())
    }

    fn tell(&mut self, uri: String, found: Found) {
        if let Some(name) = self.name.clone() {
            self.heard.push_back(Heard::Fetched(Fetched { name, uri, found }));
        }
    }

    fn listed(&mut self, uri: &str, text: String, now: Now) {
        let Habits { sort, every, .. } = self.habits;
        let Some(list) = self.lists.iter_mut().find(|list| list.uri == uri) else { return };
        list.asked = false;
        list.due = now.after(if sort == Sort::LowLatency { LOW_LATENCY_PAUSE } else { every });
        let held = list.text.take();
        let text = match text.contains("#EXT-X-SKIP:") {
            true => held.as_deref().and_then(|held| list::whole(held, &text)),
            false => Some(text),
        };
        // Who lacks what was skipped asks for all of it.
        let Some(text) = text else { return };
        let playlist = Playlist::read(&text);
        list.ended = playlist.ended;
        list.text = Some(text.clone());
        self.want(&playlist, held.is_none());
        self.tell(uri.to_owned(), Found::Playlist { text, update: None });
        if self.lists.iter().all(|list| list.ended) {
            self.lists.clear();
            self.next = now.after(every.max(ENDED_PAUSE));
        }
    }

    /// Wants what is new in a playlist; of the first, what is near its end.
    fn want(&mut self, playlist: &Playlist<'_>, first: bool) {
        let skipped = if first { playlist.segments.len().saturating_sub(BEHIND) } else { 0 };
        for segment in playlist.all().skip(skipped).filter(|segment| !segment.gap) {
            let media: Vec<&str> = match self.habits.sort {
                Sort::LowLatency => parts_of(segment),
                Sort::Whole | Sort::Transport => segment.uri.into_iter().collect(),
            };
            let map = segment.map.filter(|_| !media.is_empty());
            for uri in map.into_iter().chain(media) {
                if self.known.insert(uri.to_owned()) {
                    self.wanted.push_back(Ask::Media(uri.to_owned()));
                }
            }
        }
        if self.habits.hints
            && let Some(hint) = playlist.hint()
            && self.known.insert(hint.to_owned())
        {
            self.wanted.push_back(Ask::Hint(hint.to_owned()));
        }
    }
}

fn parts_of<'a>(segment: &Segment<'a>) -> Vec<&'a str> {
    segment.parts.iter().filter(|part| !part.gap).map(|part| part.uri).collect()
}

fn text_of(body: Vec<u8>) -> Result<String, &'static str> {
    String::from_utf8(body).map_err(|_| "a playlist that is no text")
}

impl Client for Player {
    fn play(&mut self, name: &StreamName, _: Now) {
        self.name = Some(name.clone());
    }

    fn say(&mut self, wish: Wish) -> bool {
        match wish {
            Wish::Nonsense => {
                self.outgoing.extend_from_slice(NONSENSE);
                self.asked.push_back(Ask::Nonsense);
            }
            // There is nothing that it can say and go on.
            _ => return false,
        }
        true
    }

    fn hear(&mut self, bytes: &[u8], now: Now) {
        let mut answers = std::mem::take(&mut self.answers);
        let heard = answers.hear(bytes, |piece| self.piece(piece, now));
        self.answers = answers;
        self.heard.extend(heard.err().map(Heard::Broken));
    }

    fn heard(&mut self) -> Option<Heard> {
        self.heard.pop_front()
    }

    fn outgoing(&mut self) -> Option<Bytes> {
        (!self.outgoing.is_empty()).then(|| self.outgoing.split().freeze())
    }

    fn act(&mut self, now: Now) {
        while self.asked.len() < self.habits.at_once
            && let Some(ask) = self.next_ask(now)
        {
            self.ask(ask, now);
        }
    }

    fn deadline(&self) -> Option<Now> {
        if self.name.is_none() || self.asked.len() >= self.habits.at_once {
            return None;
        }
        if !self.wanted.is_empty() {
            return Some(Now(0));
        }
        if self.lists.is_empty() {
            return (!self.asks_which()).then_some(self.next);
        }
        self.lists.iter().filter(|list| !list.asked && !list.ended).map(|list| list.due).min()
    }

    fn end(&mut self, now: Now) -> Option<&'static str> {
        let (between, in_length) = (self.answers.is_between(), self.answers.is_in_length());
        let waited = !self.asked.is_empty();
        let idle = now.since(self.spoke) >= QUIET;
        self.answers = Answers::default();
        self.body.clear();
        self.outgoing.clear();
        // Another core may not be as far.
        self.asked.clear();
        self.wanted.clear();
        self.lists.clear();
        self.next = now;
        match (between, in_length) {
            (false, true) => Some("an answer was cut off"),
            // What is made while it is sent may turn out not to come.
            (false, false) => None,
            (true, _) => (waited && !idle).then_some("a request was not answered"),
        }
    }
}
