//! Looks at what players are told, as somebody would who sits beside the server: each playlist is held against the rules at
//! the moment at which it is given, what it lists is fetched there and then, and each word that something is not there is
//! doubted.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::BytesMut;
use shardcast_engine::{
    dash, hls,
    http::Session,
    hub::{Input, Lost, Output},
    limits::HELD_REQUEST_TIME_MAX,
    media::StreamName,
    segment::{Found, Item, Rendition, Text},
    session::Refusal,
    time::Now,
};

use super::{
    http::{Answer, Answers, Exchange, Request, file_of, renditions, templates, with_query},
    judge::{
        Verdict,
        library::moment_of,
        requests::{self, Asked, Haste, Moment, Told, What},
    },
    peer::Peer,
    tap::{self, Overheard},
    world::World,
};
use crate::hls_rules::{self, Case, playlist::Playlist};

/// A text that was given to a player and is to be looked at.
#[derive(Debug)]
pub struct Sighting {
    peer: usize,
    name: StreamName,
    question: Text,
    text: String,
    at: Now,
}

/// What a player was last shown at an address.
#[derive(Clone, Debug)]
pub struct Shown {
    core: usize,
    at: Now,
    text: String,
}

/// How long a name that was there a moment ago need not be asked for again.
const FRESH: Duration = Duration::from_millis(700);
/// How often it is looked for requests that wait too long.
const CHECK_EVERY: Duration = Duration::from_millis(20);
/// What a playlist may lack beside what belongs to the part that is open: the newest frame, and steps of a publisher's clock
/// that went back.
const LACK: Duration = Duration::from_millis(900);
/// How long sound may wait for the picture that ends its segment.
const SOUND_LACK: Duration = Duration::from_millis(1200);
/// What takes time by itself: two lanes, a verdict.
const SLACK: Duration = Duration::from_millis(250);
/// How long a core may be behind after a lane was full.
const FULL_LANE: Duration = Duration::from_secs(5);
/// One update in so many playlists is asked for only to be looked at.
const UPDATE_EVERY: u64 = 3;

impl World {
    /// Takes what passed between a player's session and its hub; gives back what concerns others.
    pub(super) fn overhear_player(
        &mut self,
        core: usize,
        overheard: Overheard,
    ) -> Result<Option<Overheard>, String> {
        let Overheard { socket, what } = overheard;
        match what {
            tap::What::WishToFetch(name, item) => {
                if self.trace {
                    eprintln!("             socket {socket} on core {core}: {item:?} of {name}");
                }
                let linger = self.settings.packaging.linger;
                self.judge.requests.asked(socket, core, name, item, linger, self.now)?;
                Ok(None)
            }
            tap::What::Found(found) => {
                if self.trace {
                    eprintln!("             socket {socket}: {}", brief(&found));
                }
                if let Some(told) = self.judge.requests.told(socket, found) {
                    self.told(socket, told)?;
                }
                Ok(None)
            }
            what => Ok(Some(Overheard { socket, what })),
        }
    }

    fn told(&mut self, socket: usize, told: Told) -> Verdict {
        let Told { asked, what } = told;
        match what {
            What::Bytes(bytes) => match requests::file_of(&asked.item) {
                Some(file) => self.judge.library.take(&asked.name, &file, &bytes),
                None => Ok(()),
            },
            What::Text(bytes) => {
                let Item::Text(question) = asked.item else { return Ok(()) };
                let text = String::from_utf8(bytes).map_err(|_| "a playlist that is no text".to_owned())?;
                let (peer, at) = (self.sockets[socket].peer, self.now);
                let sighting = Sighting { peer, name: asked.name, question, text, at };
                self.cores[asked.core].sightings.push_back(sighting);
                Ok(())
            }
            What::Missing if self.was_missed(&asked) => {
                Err(format!("a player was told that there is no {asked:?}"))
            }
            What::Absurd if self.was_near(&asked) => {
                Err(format!("a player was told that nobody asks {asked:?}"))
            }
            What::Refused(refusal) if !self.is_rightly_refused(&asked, refusal) => {
                Err(format!("a player was refused {asked:?}: {}", refusal.why()))
            }
            What::Missing | What::Absurd | What::Refused(_) => Ok(()),
        }
    }

    /// How far one core may be behind another.
    fn lag(&self) -> Duration {
        self.climate.core_pause * 2 + self.climate.lane_delay * 2 + SLACK
    }

    fn lane_was_full(&self, core: usize, name: &StreamName) -> bool {
        let owner = self.owner(name);
        let full = [self.lane_full[owner][core], self.lane_full[core][owner]];
        full.into_iter().flatten().any(|at| at.after(FULL_LANE) > self.now)
    }

    /// What was asked for should have been there.
    fn was_missed(&self, asked: &Asked) -> bool {
        let life = self.judge.life_of(&asked.name);
        if self.draining || self.lane_was_full(asked.core, &asked.name) {
            return false;
        }
        match &asked.item {
            Item::Text(Text { rendition: Some(rendition), .. }) => {
                let same = self
                    .judge
                    .requests
                    .known(asked.core, &asked.name)
                    .is_some_and(|(_, known)| known == life);
                same && self.judge.requests.has_shown(asked.core, &asked.name, *rendition)
            }
            item => {
                let linger = self.settings.packaging.linger;
                self.judge.library.is_promised(&asked.name, item, life, linger, self.lag(), self.now)
            }
        }
    }

    fn was_near(&self, asked: &Asked) -> bool {
        let life = self.judge.life_of(&asked.name);
        let Item::Text(Text { rendition: Some(rendition), until: Some((number, _)), .. }) = &asked.item
        else {
            return false;
        };
        let same = self.judge.requests.known(asked.core, &asked.name).is_some_and(|(_, known)| known == life);
        same && self.judge.requests.is_near(asked.core, &asked.name, *rendition, *number)
    }

    fn is_rightly_refused(&self, asked: &Asked, refusal: Refusal) -> bool {
        match refusal {
            Refusal::NotFound => {
                let idle = self.settings.default.limits.publisher_idle;
                let since = self.judge.live_since(&asked.name, idle, self.now);
                let long_live = since.is_some_and(|since| since.after(self.lag()) < asked.at);
                !long_live || self.draining || self.lane_was_full(asked.core, &asked.name)
            }
            Refusal::TooLate => self.now.since(asked.at) >= HELD_REQUEST_TIME_MAX,
            Refusal::ShuttingDown => self.draining,
            Refusal::AlreadyLive | Refusal::Forbidden | Refusal::Full | Refusal::Unsupported => false,
        }
    }

    /// A player has heard the answer to its request.
    pub(super) fn answered(&mut self, socket: usize, exchange: &Exchange) -> Verdict {
        // Who is told that the node goes down is told so by its session.
        if self.draining && exchange.answer.status == 503 {
            return Ok(());
        }
        self.judge.tally.answers += 1;
        self.judge.requests.heard(socket, exchange)
    }

    /// Looks at what a core has just said. Its hub has nothing left to do.
    pub(super) fn inspect(&mut self, core: usize) -> Verdict {
        while let Some(sighting) = self.cores[core].sightings.pop_front() {
            // Later it may be otherwise.
            if sighting.at == self.now && !self.draining {
                self.look_at(core, &sighting).map_err(|broken| {
                    let texts = if self.trace { format!("\n{}", sighting.text) } else { String::new() };
                    format!("core {core}, {}: {broken}{texts}", sighting.name)
                })?;
            }
        }
        if self.now.since(self.cores[core].checked) >= CHECK_EVERY {
            self.cores[core].checked = self.now;
            let here = self.climate.core_pause + SLACK;
            let full = self.lane_full.iter().flatten().flatten().any(|at| at.after(FULL_LANE) > self.now);
            let haste = Haste { here, elsewhere: (!full).then(|| self.lag()) };
            self.judge.requests.check(core, haste, self.now)?;
        }
        Ok(())
    }

    fn look_at(&mut self, core: usize, sighting: &Sighting) -> Verdict {
        let Sighting { name, question, text, .. } = sighting;
        if question.form == &hls::MEDIA {
            let Some(rendition) = question.rendition else { return Err("a playlist of nothing".to_owned()) };
            return self.look_at_playlist(core, sighting, rendition);
        }
        if question.form == &hls::MULTIVARIANT {
            let named = renditions(text);
            if named.is_empty() {
                return Err(format!("a playlist without a rendition: {text}"));
            }
            for address in named {
                self.probe_text(core, name, address)?.ok_or_else(|| format!("{address} is not there"))?;
            }
            return Ok(());
        }
        if question.form == &dash::MANIFEST {
            return self.look_at_manifest(core, name, text);
        }
        Ok(())
    }

    /// A manifest names what the playlists of the same moment list.
    fn look_at_manifest(&mut self, core: usize, name: &StreamName, text: &str) -> Verdict {
        let templates = templates(text);
        if templates.is_empty() {
            return Err(format!("a manifest of nothing: {text}"));
        }
        for template in templates {
            let init = file_of(&template.initialization);
            let Some(Item::Init { id, rendition, .. }) = hls::name::parse(init) else {
                return Err(format!("a manifest names {init}"));
            };
            self.look_for(core, name, &template.initialization)?
                .ok_or_else(|| format!("{init} is not there"))?;
            let address = hls::name::playlist(rendition);
            let list =
                self.probe_text(core, name, address)?.ok_or_else(|| format!("{address} is not there"))?;
            let life = self.judge.life_of(name);
            let list = Playlist::read(&list);
            let moment = self.judge.library.list(core, name, life, &list, self.now)?;
            for number in template.numbers() {
                let listed = moment.id == id && self.judge.library.has_listed(name, moment, number);
                let named = hls::name::parse(file_of(&template.media(number)));
                let whole = Item::Segment { id, rendition, number, from: None };
                if !listed || named != Some(whole) {
                    return Err(format!("a manifest names {}, which is not listed", template.media(number)));
                }
            }
        }
        Ok(())
    }

    fn look_at_playlist(&mut self, core: usize, sighting: &Sighting, rendition: Rendition) -> Verdict {
        let Sighting { peer, name, question, text, at } = sighting;
        let address = with_query(hls::name::playlist(rendition), &question.query);
        let given = Playlist::read(text);
        let missing = || format!("{address} was there and is not");
        let mut update = None;
        let whole = if given.skipped > 0 {
            update = Some(text.clone());
            self.probe_text(core, name, &address)?.ok_or_else(missing)?
        } else {
            if !given.ended && self.judge.tally.playlists.is_multiple_of(UPDATE_EVERY) {
                let address = with_query(&address, "_HLS_skip=YES");
                let text = self.probe_text(core, name, &address)?.ok_or_else(missing)?;
                update = Some(text).filter(|text| Playlist::read(text).skipped > 0);
            }
            text.clone()
        };
        let list = Playlist::read(&whole);
        let life = self.judge.life_of(name);
        let moment = self.judge.library.list(core, name, life, &list, *at)?;
        self.judge.requests.shown(core, name, life, moment, *at);

        let key = (*peer, name.clone(), address.clone());
        let before = self.shown.remove(&key).filter(|before| is_of(&before.text, moment));
        if let Some(before) = &before
            && self.is_behind(core, moment, before)?
        {
            self.shown.insert(key, before.clone());
            return Ok(());
        }
        let before = before.map(|before| before.text);
        self.shown.insert(key, Shown { core, at: *at, text: whole.clone() });
        self.hold_against_the_rules(core, name, &whole, before.as_deref(), update.as_deref())?;
        self.judge.tally.playlists += 1;
        for segment in &list.segments {
            self.judge.check_segment(name, moment, segment)?;
        }
        self.check_end(core, name, moment, &list)
    }

    /// Whether another core has shown more already, which it may for a moment.
    fn is_behind(&self, core: usize, moment: Moment, before: &Shown) -> Result<bool, String> {
        let former = Playlist::read(&before.text);
        let newer = moment_of(&former).is_some_and(|former| former.next > moment.next);
        if !newer || before.core == core {
            return Ok(false);
        }
        let full = self.lane_full.iter().flatten().flatten().any(|at| at.after(FULL_LANE) > self.now);
        if full || self.now.since(before.at) <= self.lag() {
            return Ok(true);
        }
        Err(format!("it is at {:?}, and core {} was further long ago", moment.next, before.core))
    }

    fn hold_against_the_rules(
        &mut self,
        core: usize,
        name: &StreamName,
        text: &str,
        before: Option<&str>,
        update: Option<&str>,
    ) -> Verdict {
        let list = Playlist::read(text);
        let mut bytes: BTreeMap<String, Option<Vec<u8>>> = BTreeMap::new();
        for address in addresses(&list, None) {
            let found = self.look_for(core, name, address)?;
            bytes.insert(address.to_owned(), found);
        }
        let former = before.map(Playlist::read).unwrap_or_default();
        for address in addresses(&former, Some(list.media_sequence)) {
            if bytes.contains_key(address) {
                continue;
            }
            let found = match self.look_for(core, name, address)? {
                // It need not be there for ever.
                None if !self.must_be_kept(core, name, address) => {
                    self.judge.library.bytes(name, file_of(address)).map(|bytes| bytes.to_vec())
                }
                found => found,
            };
            bytes.insert(address.to_owned(), found);
        }
        let mut others = Vec::new();
        let reports = list.reports.iter().filter_map(|report| report.quoted("URI"));
        for address in reports {
            if let Some(text) = self.probe_text(core, name, address)? {
                others.push((address, text));
            }
        }
        let others: Vec<(&str, &str)> =
            others.iter().map(|(address, text)| (*address, text.as_str())).collect();
        let faults = hls_rules::check(&Case {
            text,
            before,
            update,
            others: &others,
            fetch: &|address| bytes.get(address).cloned().flatten(),
        });
        match faults.first() {
            None => Ok(()),
            Some(fault) => {
                let texts = if self.trace { format!("\n{text}\nbefore:\n{before:?}") } else { String::new() };
                Err(format!("{fault}{texts}"))
            }
        }
    }

    fn must_be_kept(&self, core: usize, name: &StreamName, address: &str) -> bool {
        self.judge.library.kept_until(core, name, file_of(address)).is_some_and(|until| self.now < until)
    }

    /// What a playlist lacks is not old, and one that has ended lacks nothing.
    fn check_end(&mut self, core: usize, name: &StreamName, moment: Moment, list: &Playlist<'_>) -> Verdict {
        let Some(last) = self.judge.last_packaged(name, moment) else { return Ok(()) };
        let video = moment.rendition == Rendition::Video;
        if list.ended {
            let missing = self.judge.count_after(name, video, last);
            self.judge.tally.ended_lists += 1;
            return match missing {
                0 => Ok(()),
                _ => Err(format!(
                    "it has ended, and {missing} frames of {:?} are in no segment",
                    moment.rendition
                )),
            };
        }
        if self.lane_was_full(core, name) {
            return Ok(());
        }
        let Some(lacks) = self.judge.length_after(name, video, last) else { return Ok(()) };
        let parts = Duration::from_nanos(list.open.length() + list.part_target.unwrap_or(0));
        let most = parts + LACK + self.lag() + if video { Duration::ZERO } else { SOUND_LACK };
        if lacks > most {
            return Err(format!("it lacks {lacks:?} of {:?}, and {most:?} are the most", moment.rendition));
        }
        Ok(())
    }

    /// The bytes behind an address, which are asked for now unless they were a moment ago.
    fn look_for(&mut self, core: usize, name: &StreamName, address: &str) -> Result<Option<Vec<u8>>, String> {
        let file = file_of(address);
        let key = (name.clone(), file.to_owned());
        let fresh = self.cores[core].probed.get(&key).is_some_and(|at| self.now.since(*at) < FRESH);
        if fresh && let Some(bytes) = self.judge.library.bytes(name, file) {
            return Ok(Some(bytes.to_vec()));
        }
        let Some(answer) = self.probe(core, name, address)? else { return Ok(None) };
        if answer.status != 200 {
            return Ok(None);
        }
        self.judge.library.take(name, file, &answer.body)?;
        self.cores[core].probed.insert(key, self.now);
        Ok(Some(answer.body))
    }

    fn probe_text(
        &mut self,
        core: usize,
        name: &StreamName,
        address: &str,
    ) -> Result<Option<String>, String> {
        let answer = self.probe(core, name, address)?.filter(|answer| answer.status == 200);
        answer.map(|answer| String::from_utf8(answer.body).map_err(|error| error.to_string())).transpose()
    }

    /// Asks a core for something, as a player whose bytes need no time. `None` when it has no answer at once.
    fn probe(&mut self, core: usize, name: &StreamName, address: &str) -> Result<Option<Answer>, String> {
        let now = self.now;
        let connection = self.cores[core].seat(usize::MAX);
        let session = Box::new(Session::new(&self.settings.doors, now));
        let peer = ([192, 0, 2, 2], 1).into();
        let mut bytes = BytesMut::new();
        Request { old: true, ..Request::get(address) }.write(name, &mut bytes);
        self.cores[core].hub.handle(Input::Connected { connection, door: "http", peer, session }, now);
        self.cores[core].hub.handle(Input::Received { connection, bytes: &bytes }, now);
        let mut answers = Answers::default();
        let (mut open, mut given_up) = (true, false);
        loop {
            let output = self.cores[core].hub.poll(now);
            self.listen(core)?;
            match output {
                Some(Output::Send { connection: to, bytes }) if to == connection => {
                    answers.push(&bytes);
                    self.cores[core].hub.handle(Input::Sent { connection, result: Ok(bytes.len()) }, now);
                }
                Some(Output::Close { connection: to }) if to == connection => {
                    self.cores[core].unseat(connection);
                    open = false;
                }
                Some(Output::Ask { connection: to, ticket, .. }) if to == connection => {
                    self.cores[core].hub.handle(Input::Judged { connection, ticket, allowed: true }, now);
                }
                Some(output) => self.execute(core, output)?,
                None if !open => break,
                None if given_up => return Err("a connection that was lost is not closed".to_owned()),
                None => {
                    given_up = true;
                    self.cores[core].hub.handle(Input::Closed { connection, how: Lost::Eof }, now);
                }
            }
        }
        self.cores[core].hub.audit()?;
        if given_up { Ok(None) } else { answers.next(true).map_err(str::to_owned) }
    }

    /// What is packaged takes no more memory than its window and what is kept beside it.
    ///
    /// # Errors
    /// It does.
    pub fn check_packages(&self) -> Verdict {
        let names: BTreeSet<StreamName> = self.peers.iter().map(Peer::name).collect();
        for (index, core) in self.cores.iter().enumerate() {
            let packages = core.hub.census().packages;
            if packages > names.len() {
                return Err(format!("core {index} packages {packages} streams of {}", names.len()));
            }
            let held = core.hub.stats().packaged_bytes;
            let most: usize = self.judge.names().map(|name| self.window_bytes_max(name)).sum();
            if held > most as u64 {
                return Err(format!(
                    "core {index} holds {held} bytes of packaged streams, {most} are the most"
                ));
            }
        }
        Ok(())
    }

    fn window_bytes_max(&self, name: &StreamName) -> usize {
        let target = self.judge.library.target(name).max(Duration::from_secs(1));
        // What is listed, as much again for who holds an older list, and the segments that are open or on their way out.
        let listed = self.settings.packaging.window.max(target * 3) + target * 2;
        let time = listed * 2 + target * 3 + self.climate.core_pause + Duration::from_secs(2);
        // One that has ended is kept beside its successor.
        let time = if self.judge.life_of(name) > 1 { Duration::MAX } else { time };
        let (bytes, frames) = self.judge.newest(name, time);
        bytes + frames * HEAD_BYTES
    }
}

/// What a part of a single frame has beside it.
const HEAD_BYTES: usize = 320;

/// The addresses of what a playlist lists; with a number, of what stands before that segment only.
fn addresses<'a>(list: &Playlist<'a>, before: Option<u64>) -> Vec<&'a str> {
    let mut found = Vec::new();
    for segment in list.all().filter(|segment| before.is_none_or(|before| segment.number < before)) {
        found.extend(segment.map);
        if !segment.gap {
            found.extend(segment.uri);
            found.extend(segment.parts.iter().filter(|part| !part.gap).map(|part| part.uri));
        }
    }
    found
}

fn is_of(text: &str, moment: Moment) -> bool {
    moment_of(&Playlist::read(text)).is_some_and(|former| former.id == moment.id)
}

fn brief(found: &Result<Found, Refusal>) -> String {
    match found {
        Ok(Found::Bytes(pieces)) => {
            format!("{} bytes", pieces.iter().map(|piece| piece.len()).sum::<usize>())
        }
        Ok(Found::Open(pieces, next)) => format!("{} bytes up to part {next}", pieces.concat().len()),
        Ok(Found::Text(text)) => format!("{} bytes of text", text.plain().len()),
        other => format!("{other:?}"),
    }
}
