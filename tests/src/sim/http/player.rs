//! A player: what it wants next, of what it has been told.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use shardcast_engine::{
    hls, http,
    limits::DoorLimits,
    media::{Frame, StreamName},
    segment::Item,
    session::Session,
    time::Now,
};

use super::{
    Exchange,
    answer::{Answer, Answers},
    nonsense::nonsense,
    request::{Method, Request, file_of},
};
use crate::{
    hls_rules::playlist::Playlist,
    sim::{
        client::{Client, Heard, Wish},
        random::Random,
    },
};

/// How a player goes about it.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// What it fetches.
    pub manner: Manner,
    /// It asks for what is new in a playlist, where it can.
    pub updates: bool,
    /// It watches the sound as well.
    pub both: bool,
    /// It asks for the next thing before it has the last one.
    pub ahead: bool,
    /// What its addresses carry.
    pub query: &'static str,
    /// How often it asks nonsense, in percent.
    pub nonsense: u64,
}

/// What a player fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Parts, each as soon as it is there: it asks for playlists that are not there yet.
    Parts,
    /// Segments, once they are whole: it looks at the playlist now and then.
    Segments,
    /// Segments while they are made, as a manifest names them.
    Manifest,
}

/// One player.
#[derive(Debug)]
pub struct Player {
    habits: Habits,
    name: StreamName,
    random: Random,
    answers: Answers,
    /// Requests of this connection that have no answer yet.
    asked: VecDeque<Request>,
    /// What it will ask.
    wants: VecDeque<Request>,
    /// What it has asked for already.
    had: BTreeSet<String>,
    /// The playlists that it watches.
    lists: Vec<List>,
    turn: usize,
    /// How long it waits before it looks again, and until when that is.
    pause: Option<Duration>,
    until: Option<Now>,
    /// Nothing more is said on this connection.
    done: bool,
    broken: bool,
    outgoing: BytesMut,
    heard: VecDeque<Heard>,
}

/// A media playlist as a player knows it.
#[derive(Debug)]
struct List {
    address: String,
    /// The part that comes next, as its hint says.
    next: Option<(u64, u32)>,
    /// There are updates of it.
    skips: bool,
}

/// Requests that may be under way at once.
const ASKED_MAX: usize = 3;
/// A player that comes in has no use for more than the newest few.
const NEWEST: usize = 4;

impl Player {
    /// A player of `name` with these habits.
    pub fn new(name: StreamName, habits: Habits, random: Random) -> Self {
        Player {
            habits,
            name,
            random,
            answers: Answers::default(),
            asked: VecDeque::new(),
            wants: VecDeque::new(),
            had: BTreeSet::new(),
            lists: Vec::new(),
            turn: 0,
            pause: None,
            until: None,
            done: false,
            broken: false,
            outgoing: BytesMut::new(),
            heard: VecDeque::new(),
        }
    }

    fn most(&self) -> usize {
        if self.habits.ahead { ASKED_MAX } else { 1 }
    }

    fn ask(&mut self, request: Request) {
        request.write(&self.name, &mut self.outgoing);
        self.done |= request.is_last();
        self.asked.push_back(request);
    }

    /// What it wants when nothing else is on its mind.
    fn plan(&mut self) -> Request {
        let query = self.habits.query;
        if self.random.chance(self.habits.nonsense) {
            return nonsense(query, &mut self.random);
        }
        if self.habits.manner == Manner::Manifest {
            return Request::get(with_query("manifest.mpd", query));
        }
        if self.lists.is_empty() {
            return Request::get(with_query(hls::name::MULTIVARIANT, query));
        }
        self.turn += 1;
        let place = self.turn % self.lists.len();
        let list = &self.lists[place];
        let mut directives = Vec::new();
        if let Some((number, index)) = list.next {
            match (self.habits.manner, self.random.below(10)) {
                (Manner::Parts, 0..=7) => directives.push(format!("_HLS_msn={number}&_HLS_part={index}")),
                (Manner::Parts, 8) | (_, 9) => directives.push(format!("_HLS_msn={number}")),
                _ => {}
            }
        }
        if list.skips && self.habits.updates {
            directives.push("_HLS_skip=YES".to_owned());
        }
        Request::get(with_query(&list.address, &directives.join("&")))
    }

    /// Makes what it can of an answer.
    fn learn(&mut self, request: &Request, answer: &Answer) {
        if request.method != Method::Get || request.status.is_some() {
            return;
        }
        let file = request.file();
        let is_text = file.ends_with(".m3u8") || file.ends_with(".mpd");
        if !is_text {
            return;
        }
        let text = std::str::from_utf8(&answer.body).unwrap_or_default();
        if answer.status != 200 {
            // It begins anew after a while, as whoever sits before it would.
            self.lists.clear();
            self.wants.clear();
            self.pause = Some(Duration::from_millis(self.random.between(100, 900)));
        } else if file == hls::name::MULTIVARIANT {
            self.choose(text);
        } else if file.ends_with(".m3u8") {
            self.read_list(request, text);
        } else {
            self.read_manifest(text);
            self.pause = Some(Duration::from_millis(self.random.between(50, 500)));
        }
    }

    fn choose(&mut self, text: &str) {
        let addresses = renditions(text).into_iter().map(str::to_owned);
        self.lists = addresses.map(|address| List { address, next: None, skips: false }).collect();
        if !self.habits.both && self.lists.len() > 1 {
            let kept = self.random.index(self.lists.len());
            self.lists.swap(0, kept);
            self.lists.truncate(1);
        }
    }

    fn read_list(&mut self, request: &Request, text: &str) {
        let playlist = Playlist::read(text);
        let named = playlist.hint().and_then(|hint| hls::name::parse(file_of(hint)));
        let next = match named {
            Some(Item::Part { number, index, .. }) => Some((number, index)),
            _ => None,
        };
        let skips = playlist.control.as_ref().is_some_and(|control| control.get("CAN-SKIP-UNTIL").is_some());
        if let Some(list) = self.lists.iter_mut().find(|list| file_of(&list.address) == request.file()) {
            (list.next, list.skips) = (next, skips);
        }
        let mut media = Vec::new();
        for segment in playlist.all() {
            if let Some(map) = segment.map {
                self.want(map);
            }
            if segment.gap {
                continue;
            }
            match self.habits.manner {
                Manner::Parts => {
                    media.extend(segment.parts.iter().filter(|part| !part.gap).map(|part| part.uri));
                }
                _ => media.extend(segment.uri),
            }
        }
        for address in media.iter().rev().take(NEWEST).rev() {
            self.want(address);
        }
        if self.habits.manner == Manner::Parts
            && let Some(hint) = playlist.hint().filter(|_| self.random.chance(40))
        {
            self.want(hint);
        }
        if playlist.ended {
            self.lists.clear();
            self.pause = Some(Duration::from_millis(self.random.between(300, 1500)));
        } else if self.habits.manner == Manner::Segments {
            self.pause = Some(Duration::from_millis(self.random.between(100, 1000)));
        }
    }

    fn read_manifest(&mut self, text: &str) {
        for template in templates(text) {
            self.want(&template.initialization);
            let numbers = template.numbers();
            let newest = numbers.end.saturating_sub(2).max(numbers.start)..numbers.end;
            for number in newest {
                self.want(&template.media(number));
            }
        }
    }

    /// Wants what stands at `address`, unless it has wanted it before.
    fn want(&mut self, address: &str) {
        if !self.had.insert(address.to_owned()) {
            return;
        }
        let mut request = Request::get(address);
        match self.random.below(40) {
            0 => request.method = Method::Head,
            1 => request.old = true,
            2 => {
                let first = self.random.index(2000);
                request.range = Some((first, first + self.random.index(3000)));
            }
            _ => {}
        }
        self.wants.push_back(request);
    }
}

impl Client for Player {
    fn door(&self) -> &'static str {
        "http"
    }

    fn session(&self, limits: &DoorLimits, now: Now) -> Box<dyn Session> {
        Box::new(http::Session::new(limits, now))
    }

    fn called(&mut self) {
        self.answers = Answers::default();
        self.asked.clear();
        self.outgoing.clear();
        (self.done, self.broken) = (false, false);
    }

    // What it says is said by `wake`.
    fn publish(&mut self, _: &StreamName) {}
    fn play(&mut self, _: &StreamName) {}
    fn frame(&mut self, _: &Frame) {}

    fn say(&mut self, wish: Wish) -> bool {
        match wish {
            Wish::Nonsense => {
                // The answer is the last thing that it hears.
                self.asked.push_back(Request { status: Some(400), old: true, ..Request::get("") });
                self.done = true;
                self.outgoing.extend_from_slice(b"what?\r\n\r\n");
            }
            Wish::Ping => {
                self.ask(Request { method: Method::Options, status: Some(204), ..Request::get("index.m3u8") })
            }
            _ => return false,
        }
        true
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.answers.push(bytes);
        while !self.broken {
            let Some(request) = self.asked.front() else {
                if !self.answers.is_empty() {
                    self.broken = true;
                    self.heard.push_back(Heard::Broken("an answer to nothing"));
                }
                break;
            };
            match self.answers.next(request.method != Method::Head) {
                Ok(None) => break,
                Ok(Some(answer)) => {
                    let Some(request) = self.asked.pop_front() else { break };
                    self.learn(&request, &answer);
                    self.done |= answer.closes();
                    self.heard.push_back(Heard::Answered(Box::new(Exchange { request, answer })));
                }
                Err(why) => {
                    self.broken = true;
                    self.heard.push_back(Heard::Broken(why));
                }
            }
        }
    }

    fn heard(&mut self) -> Option<Heard> {
        self.heard.pop_front()
    }

    fn outgoing(&mut self) -> Option<Bytes> {
        (!self.outgoing.is_empty()).then(|| self.outgoing.split().freeze())
    }

    fn wake(&mut self, now: Now) {
        if let Some(pause) = self.pause.take() {
            self.until = Some(now.after(pause));
        }
        while self.asked.len() < self.most() && !self.done {
            if let Some(request) = self.wants.pop_front() {
                self.ask(request);
                continue;
            }
            if !self.asked.is_empty() || self.until.is_some_and(|until| until > now) {
                break;
            }
            self.until = None;
            let request = self.plan();
            self.ask(request);
        }
    }

    fn deadline(&self) -> Option<Now> {
        if self.done || self.broken || self.asked.len() >= self.most() {
            return None;
        }
        let at_once = !self.wants.is_empty() || self.pause.is_some();
        if !at_once && !self.asked.is_empty() {
            return None;
        }
        Some(if at_once { Now(0) } else { self.until.unwrap_or(Now(0)) })
    }

    fn is_done(&self) -> bool {
        self.done
    }
}

/// An address with more behind it.
pub fn with_query(address: &str, query: &str) -> String {
    match (query, address.contains('?')) {
        ("", _) => address.to_owned(),
        (query, false) => format!("{address}?{query}"),
        (query, true) => format!("{address}&{query}"),
    }
}

/// The addresses of the media playlists that a multivariant playlist names.
pub fn renditions(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("#EXT-X-MEDIA:") {
            Some(attributes) => {
                let uri = attributes.split_once("URI=\"").and_then(|(_, rest)| rest.split_once('"'));
                found.extend(uri.map(|(uri, _)| uri));
            }
            None if !line.starts_with('#') && !line.is_empty() => found.push(line),
            None => {}
        }
    }
    found
}

/// A SegmentTemplate of a manifest.
#[derive(Clone, Debug)]
pub struct Template {
    /// The address of its initialisation segment.
    pub initialization: String,
    media: String,
    start: u64,
    count: u64,
}

impl Template {
    /// The numbers of its segments.
    pub fn numbers(&self) -> std::ops::Range<u64> {
        self.start..self.start + self.count
    }

    /// The address of a segment.
    pub fn media(&self, number: u64) -> String {
        self.media.replace("$Number$", &number.to_string()).replace("$$", "$")
    }
}

/// The SegmentTemplates of a manifest of this engine, which has each element in a line.
pub fn templates(manifest: &str) -> Vec<Template> {
    let mut found: Vec<Template> = Vec::new();
    for line in manifest.lines().map(str::trim) {
        let attribute = |name: &str| {
            let (_, rest) = line.split_once(&format!(" {name}=\""))?;
            Some(rest.split_once('"')?.0.replace("&amp;", "&"))
        };
        let number = |name: &str| attribute(name).and_then(|digits| digits.parse::<u64>().ok());
        if line.starts_with("<SegmentTemplate ") {
            found.push(Template {
                initialization: attribute("initialization").unwrap_or_default(),
                media: attribute("media").unwrap_or_default(),
                start: number("startNumber").unwrap_or(0),
                count: 0,
            });
        } else if line.starts_with("<S ")
            && let Some(template) = found.last_mut()
        {
            template.count += 1 + number("r").unwrap_or(0);
        }
    }
    found
}
