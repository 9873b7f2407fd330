//! What is fetched of a stream by name: its segments, and what is written about them. The owner packages a stream while
//! somebody asks for it, here or on another core; every core that is asked keeps a window of what was cut. A stream that is
//! asked for in two forms is packaged twice, and each packaging goes its own way.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use super::{
    ConnectionId, Hub,
    connection::{Judged, Reply, Role, Wanted},
    streams::StreamId,
    timers::Timer,
};
use crate::{
    access::Action,
    canary::{self, Canary},
    limits,
    media::{Frame, StreamName},
    message::{CoreId, Message, owner_of},
    observe::StreamEvent,
    segment::{Cut, Found, Item, Numbering, Packager, Packaging, Transport, Window, Written},
    session::{Answer, Refusal},
    stats::ShardStats,
    time::{Now, Wall},
};

/// How often it is looked whether anybody still asks.
const LOOK: Duration = Duration::from_secs(1);

/// A packaged stream on this core, in one form. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackageId(u64);

/// The packaged streams of a core.
#[derive(Default)]
pub struct Packages {
    last: u64,
    by_name: [BTreeMap<StreamName, PackageId>; Packaging::ALL.len()],
    by_id: BTreeMap<PackageId, Package>,
}

/// What a stream knows of its packaging, on the core that owns it.
#[derive(Debug, Default)]
pub struct Packaged([Form; Packaging::ALL.len()]);

/// One form of it.
#[derive(Clone, Copy, Debug, Default)]
struct Form {
    /// Somebody asks for it.
    package: Option<PackageId>,
    /// Where the last packaging ended: those who paused meanwhile must not find their list gone back.
    numbering: Numbering,
}

struct Package {
    name: StreamName,
    packaging: Packaging,
    window: Window,
    source: Source,
    /// The cores that are told of each cut, with their numbers for it.
    followers: Vec<(CoreId, u64)>,
    /// Requests that wait for the next cut. A thousand may go away in one round, so each is found without a search.
    held: BTreeSet<ConnectionId>,
    /// When somebody last asked.
    asked: Now,
}

/// Where cuts come from.
enum Source {
    /// They are made here.
    Made(Maker),
    /// Another core makes them.
    Followed { owner: CoreId, following: u64 },
    /// There are no more.
    Over,
}

/// What makes the cuts of a form.
enum Maker {
    Fragments(Box<Packager>),
    Transport(Box<Transport>),
}

impl Maker {
    fn frame(&mut self, frame: &Frame, wall: Wall) {
        match self {
            Maker::Fragments(packager) => packager.frame(frame, wall),
            Maker::Transport(transport) => transport.frame(frame, wall),
        }
    }

    fn poll(&mut self) -> Option<Cut> {
        match self {
            Maker::Fragments(packager) => packager.poll(),
            Maker::Transport(transport) => transport.poll(),
        }
    }

    fn finish(&mut self) {
        match self {
            Maker::Fragments(packager) => packager.finish(),
            Maker::Transport(transport) => transport.finish(),
        }
    }

    fn numbering(&self) -> Numbering {
        match self {
            Maker::Fragments(packager) => packager.numbering(),
            Maker::Transport(transport) => transport.numbering(),
        }
    }
}

impl Packages {
    pub fn count(&self, stats: &mut ShardStats) {
        stats.packages += self.by_id.len() as u64;
        for package in self.by_id.values() {
            stats.packaged_bytes += package.window.bytes() as u64;
            stats.held_requests += package.held.len() as u64;
        }
    }

    pub fn holds(&self, id: PackageId, connection: ConnectionId) -> bool {
        self.by_id.get(&id).is_some_and(|package| package.held.contains(&connection))
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Who waits, and for what.
    pub fn waiting(&self) -> impl Iterator<Item = (PackageId, ConnectionId)> {
        self.by_id.iter().flat_map(|(id, package)| package.held.iter().map(|held| (*id, *held)))
    }

    fn find(&self, name: &StreamName, packaging: Packaging) -> Option<PackageId> {
        self.by_name[packaging as usize].get(name).copied()
    }

    fn insert(&mut self, name: StreamName, packaging: Packaging, source: Source, now: Now) -> PackageId {
        self.last += 1;
        let id = PackageId(self.last);
        self.by_name[packaging as usize].insert(name.clone(), id);
        let (window, followers, held) = (Window::new(), Vec::new(), BTreeSet::new());
        self.by_id.insert(id, Package { name, packaging, window, source, followers, held, asked: now });
        id
    }

    fn remove(&mut self, id: PackageId) -> Option<Package> {
        let package = self.by_id.remove(&id)?;
        let by_name = &mut self.by_name[package.packaging as usize];
        if by_name.get(&package.name) == Some(&id) {
            by_name.remove(&package.name);
        }
        Some(package)
    }
}

impl Packaged {
    /// True when somebody asks for it in any form.
    pub fn is_wanted(&self) -> bool {
        self.packages().next().is_some()
    }

    /// The packages that its frames go into.
    fn packages(&self) -> impl Iterator<Item = PackageId> + use<> {
        self.0.map(|form| form.package).into_iter().flatten()
    }
}

impl Hub {
    // What peers ask.

    pub(super) fn wish_to_fetch(
        &mut self,
        id: ConnectionId,
        name: StreamName,
        query: &str,
        item: Box<Item>,
        now: Now,
    ) {
        let token = token(&name, query);
        let Some(connection) = self.connection(id) else { return };
        if !matches!(connection.role, Role::Talking) {
            return self.answer(id, Answer::Refused(Refusal::Full), now);
        }
        connection.wished = Some(Action::Play);
        if connection.stream.as_ref() != Some(&name) {
            connection.stream = Some(name.clone());
        }
        if connection.may_fetch == token {
            return self.fetch_allowed(id, name, item, token, now);
        }
        let judged =
            self.judge(id, Judged { ticket: 0, name, wanted: Wanted::Fetch { item, token } }, query, now);
        if let Some(Judged { name, wanted: Wanted::Fetch { item, token }, .. }) = judged {
            self.fetch_allowed(id, name, item, token, now);
        }
    }

    /// It may; whether it can is seen here.
    pub(super) fn fetch_allowed(
        &mut self,
        id: ConnectionId,
        name: StreamName,
        item: Box<Item>,
        token: u64,
        now: Now,
    ) {
        self.stats.fetches += 1;
        if *item == Item::Clock {
            let time = Written::new(self.wall(now).to_string());
            return self.reply(id, Found::Text(Arc::new(time)), now);
        }
        let is_text = matches!(*item, Item::Text(_));
        if is_text && self.must_be_awaited(&name, item.packaging(), now) {
            return self.play_allowed(id, name, Wanted::Fetch { item, token }, now);
        }
        let Some(package_id) = self.package_of(&name, item.packaging(), is_text, now) else {
            return self.answer(id, Answer::Refused(Refusal::NotFound), now);
        };
        let Some(package) = self.packages.by_id.get_mut(&package_id) else { return };
        package.asked = now;
        let name = package.name.clone();
        let found = package.window.fetch(&item);
        let waits = matches!(found, Found::Later | Found::Open(..));
        if waits && package.held.len() >= limits::HELD_REQUESTS_MAX {
            return self.answer(id, Answer::Refused(Refusal::Full), now);
        }
        if waits {
            package.held.insert(id);
        }
        let Some(connection) = self.connection(id) else { return };
        // One name for all, not the one that each has brought.
        connection.stream = Some(name.clone());
        if std::mem::replace(&mut connection.may_fetch, token) != token {
            let (peer, door) = (connection.peer, connection.door);
            self.stats.plays += 1;
            self.happened(StreamEvent::Answered { name, action: Action::Play, peer, door, refused: None });
        }
        if waits && let Some(connection) = self.connection(id) {
            let until = now.after(limits::HELD_REQUEST_TIME_MAX);
            connection.role = Role::Held { package: package_id, item, until };
        }
        self.reply(id, found, now);
    }

    /// Tells the session what was found; now if it is not being driven, else as soon as it has been.
    fn reply(&mut self, id: ConnectionId, found: Found, now: Now) {
        let driven = self.is_being_driven(id);
        let Some(connection) = self.connection(id) else { return };
        match (&found, &mut connection.role) {
            (Found::Later, _) => return self.after(id),
            // It goes on from there.
            (Found::Open(_, next), Role::Held { item, .. }) => {
                if let Item::Segment { from, .. } = &mut **item {
                    *from = Some(*next);
                }
            }
            (_, role) => *role = Role::Talking,
        }
        let reply = Reply::Found(Box::new(found));
        if driven {
            connection.tell_later(reply);
        } else {
            self.drive(id, reply.into(), now);
        }
    }

    /// The peer no longer waits.
    pub(super) fn let_go(&mut self, id: ConnectionId, package: PackageId) {
        if let Some(package) = self.packages.by_id.get_mut(&package) {
            package.held.remove(&id);
        }
        if let Some(connection) = self.connection(id) {
            connection.role = Role::Talking;
        }
    }

    /// The packaged stream of this name and form; made or asked for if there is none. `None` when nobody publishes it, or
    /// nothing of it can be said in this form.
    fn package_of(
        &mut self,
        name: &StreamName,
        packaging: Packaging,
        is_text: bool,
        now: Now,
    ) -> Option<PackageId> {
        let owner = owner_of(name, self.cores);
        if let Some(id) = self.packages.find(name, packaging) {
            let over = self.packages.by_id.get(&id).is_some_and(|package| package.window.ended());
            // What is written about a stream that is over may be about another one of its name by now.
            if !over || !is_text || (owner == self.core && !self.is_live(name)) {
                return Some(id);
            }
            self.drop_package(id, now);
        }
        if owner == self.core {
            return self.begin_packaging(name, packaging, now);
        }
        let source = self.ask_to_follow(name, packaging, owner)?;
        let id = self.packages.insert(name.clone(), packaging, source, now);
        self.watch_packages(now);
        Some(id)
    }

    /// Whether whoever asks for the lists of a stream waits for it first, as its viewers do: it is fetched when somebody wants it,
    /// and is not here.
    fn must_be_awaited(&mut self, name: &StreamName, packaging: Packaging, now: Now) -> bool {
        if !self.settings.on_demand.contains(name) || self.is_live(name) {
            return false;
        }
        let Some(id) = self.packages.find(name, packaging) else { return true };
        let over = self.packages.by_id.get(&id).is_some_and(|package| package.window.ended());
        if over {
            self.drop_package(id, now);
        }
        over
    }

    /// Asks the owner of a stream for what is cut of it.
    fn ask_to_follow(&mut self, name: &StreamName, packaging: Packaging, owner: CoreId) -> Option<Source> {
        if self.is_cut_off(owner) || self.draining {
            return None;
        }
        self.subscriptions += 1;
        let following = self.subscriptions;
        self.post(Message::Follow { name: name.clone(), packaging, following }, owner);
        Some(Source::Followed { owner, following })
    }

    fn is_live(&self, name: &StreamName) -> bool {
        let stream = self.streams.find(name).and_then(|id| self.streams.look(id));
        stream.is_some_and(super::streams::Stream::is_live)
    }

    // As the owner.

    /// Packages a stream that is live here, from the kept group on.
    fn begin_packaging(&mut self, name: &StreamName, packaging: Packaging, now: Now) -> Option<PackageId> {
        let wall = self.wall(now);
        let settings = self.settings.packaging.clone();
        let stream_id = self.streams.find(name)?;
        let stream = self.streams.get(stream_id).filter(|stream| stream.is_live())?;
        let group = &stream.group;
        let opening = if group.frames().is_empty() { group.latest() } else { group.opening() };
        let (milliseconds, previous) = (wall.0 / 1_000_000, group.previous());
        let form = &mut stream.packaged.0[packaging as usize];
        let mut maker = match packaging {
            Packaging::Fragments if !Packager::takes(opening) => return None,
            Packaging::Fragments => Maker::Fragments(Box::new(Packager::new(
                settings,
                milliseconds,
                previous,
                opening,
                form.numbering,
            ))),
            Packaging::Transport if !Transport::takes(opening) => return None,
            Packaging::Transport => Maker::Transport(Box::new(Transport::new(
                settings,
                milliseconds,
                previous,
                opening,
                form.numbering,
            ))),
        };
        let newest = group.frames().last().map_or(0, |numbered| numbered.frame.dts.as_nanos());
        for numbered in group.frames() {
            // Live frames come as they are decoded, so the newest says when the others came.
            let age = newest.saturating_sub(numbered.frame.dts.as_nanos());
            let came = wall.0.saturating_sub(u64::try_from(age).unwrap_or(0));
            maker.frame(&numbered.frame, Wall(came));
        }
        let id = self.packages.insert(stream.name.clone(), packaging, Source::Made(maker), now);
        form.package = Some(id);
        self.wanted(stream_id);
        self.watch_packages(now);
        self.spread_cuts(id, now);
        Some(id)
    }

    /// Gives a frame of an owned stream to whatever packages it.
    pub(super) fn package(&mut self, stream_id: StreamId, frame: &Frame, now: Now) {
        let Some(stream) = self.streams.look(stream_id) else { return };
        let is_other = || frame.is_media() && !frame.is_key() && frame.payload_bytes().is_multiple_of(16);
        if canary::is_broken(Canary::PackageLoses) && is_other() {
            return;
        }
        for id in stream.packaged.packages() {
            let wall = self.wall(now);
            if let Some(Package { source: Source::Made(maker), .. }) = self.packages.by_id.get_mut(&id) {
                maker.frame(frame, wall);
                self.spread_cuts(id, now);
            }
        }
    }

    /// What packages a stream that ends now: to be finished once its name is free.
    pub(super) fn take_packaging(&mut self, stream_id: StreamId) -> Packaged {
        let taken = self.streams.get(stream_id).map(|stream| std::mem::take(&mut stream.packaged));
        self.unwatched(stream_id);
        taken.unwrap_or_default()
    }

    /// The stream is over, and stands for its name no longer. Whoever is answered with the end may ask on in the same breath, and would
    /// have a stream that is still there packaged anew: what is left of this one would be gone, and the other never end.
    pub(super) fn finish_packaging(&mut self, packaged: &Packaged, now: Now) {
        for id in packaged.packages() {
            if let Some(Package { source: Source::Made(maker), .. }) = self.packages.by_id.get_mut(&id) {
                maker.finish();
            }
            self.spread_cuts(id, now);
            if let Some(package) = self.packages.by_id.get_mut(&id) {
                package.source = Source::Over;
                // They have been told, and have nothing to take back.
                package.followers.clear();
                package.asked = now;
            }
        }
    }

    /// Takes what was cut into the window, tells the other cores, and answers who waits.
    fn spread_cuts(&mut self, id: PackageId, now: Now) {
        let Some(package) = self.packages.by_id.get_mut(&id) else { return };
        let Source::Made(maker) = &mut package.source else { return };
        let mut cuts = Vec::new();
        while let Some(cut) = maker.poll() {
            cuts.push(cut);
        }
        if cuts.is_empty() {
            return;
        }
        for cut in &cuts {
            package.window.take(cut, now);
        }
        let cuts: Arc<[Cut]> = cuts.into();
        let (name, packaging, followers) =
            (package.name.clone(), package.packaging, package.followers.clone());
        for (core, following) in followers {
            self.post(Message::Cuts { name: name.clone(), packaging, following, cuts: cuts.clone() }, core);
        }
        self.answer_held(id, now);
    }

    pub(super) fn follow(
        &mut self,
        name: &StreamName,
        packaging: Packaging,
        following: u64,
        from: CoreId,
        now: Now,
    ) {
        let found = self.package_of(name, packaging, true, now);
        let Some(package) = found.and_then(|id| self.packages.by_id.get_mut(&id)) else {
            let name = name.clone();
            return self.post(Message::NotFollowed { name, packaging, following, lagged: false }, from);
        };
        package.followers.retain(|(core, _)| *core != from);
        if matches!(package.source, Source::Made(_)) {
            package.followers.push((from, following));
        }
        let cuts = package.window.cuts().into();
        self.post(Message::Cuts { name: name.clone(), packaging, following, cuts }, from);
    }

    pub(super) fn unfollow(&mut self, name: &StreamName, packaging: Packaging, following: u64, from: CoreId) {
        let found = self.packages.find(name, packaging).and_then(|id| self.packages.by_id.get_mut(&id));
        if let Some(package) = found {
            package.followers.retain(|follower| *follower != (from, following));
        }
    }

    // As a core that was asked.

    fn followed_package(&self, name: &StreamName, packaging: Packaging, following: u64) -> Option<PackageId> {
        let id = self.packages.find(name, packaging)?;
        let package = self.packages.by_id.get(&id)?;
        matches!(package.source, Source::Followed { following: held, .. } if held == following).then_some(id)
    }

    pub(super) fn followed(
        &mut self,
        name: &StreamName,
        packaging: Packaging,
        following: u64,
        cuts: &[Cut],
        now: Now,
    ) {
        let Some(id) = self.followed_package(name, packaging, following) else { return };
        let Some(package) = self.packages.by_id.get_mut(&id) else { return };
        for cut in cuts {
            package.window.take(cut, now);
        }
        if package.window.ended() {
            package.source = Source::Over;
            package.asked = now;
        }
        self.answer_held(id, now);
    }

    pub(super) fn not_followed(
        &mut self,
        name: &StreamName,
        packaging: Packaging,
        following: u64,
        lagged: bool,
        now: Now,
    ) {
        let Some(id) = self.followed_package(name, packaging, following) else { return };
        let again = lagged.then(|| self.ask_to_follow(name, packaging, owner_of(name, self.cores)));
        match (again.flatten(), self.packages.by_id.get_mut(&id)) {
            (Some(source), Some(package)) => {
                // What is sent now begins with all that is at hand. Whoever waits goes on waiting.
                package.window = Window::new();
                package.source = source;
            }
            _ => self.drop_package(id, now),
        }
    }

    // For both.

    /// Answers those whose time has come.
    fn answer_held(&mut self, id: PackageId, now: Now) {
        let Some(package) = self.packages.by_id.get_mut(&id) else { return };
        let (connections, window) = (&self.connections, &mut package.window);
        let mut answers = Vec::new();
        package.held.retain(|connection| {
            let held = connections.get(connection.slot as usize).and_then(Option::as_deref);
            let Some(Role::Held { item, .. }) =
                held.filter(|held| held.id == *connection).map(|held| &held.role)
            else {
                return false;
            };
            let found = window.fetch(item);
            let waits = matches!(found, Found::Later | Found::Open(..));
            if !matches!(found, Found::Later) {
                answers.push((*connection, found));
            }
            waits
        });
        if !answers.is_empty() {
            package.asked = now;
        }
        for (connection, found) in answers {
            self.reply(connection, found, now);
        }
    }

    /// Forgets a packaged stream. Whoever still waits for something of it is told that there is nothing.
    fn drop_package(&mut self, id: PackageId, now: Now) {
        let Some(package) = self.packages.remove(id) else { return };
        match package.source {
            Source::Followed { owner, following } => {
                let (name, packaging) = (package.name.clone(), package.packaging);
                self.post(Message::Unfollow { name, packaging, following }, owner);
            }
            Source::Made(maker) => {
                let stream_id = self.streams.find(&package.name);
                if let Some(stream_id) = stream_id
                    && let Some(stream) = self.streams.get(stream_id)
                {
                    let numbering = maker.numbering();
                    stream.packaged.0[package.packaging as usize] = Form { package: None, numbering };
                    self.unwatched(stream_id);
                }
            }
            Source::Over => {}
        }
        for connection in package.held {
            self.let_go(connection, id);
            self.answer(connection, Answer::Refused(Refusal::NotFound), now);
        }
    }

    fn watch_packages(&mut self, now: Now) {
        self.timers.set_earlier(Timer::Packages, now.after(LOOK));
    }

    /// Lets go of what nobody asks for any more.
    pub(super) fn sweep_packages(&mut self, now: Now) {
        let linger = self.settings.packaging.linger;
        let forgotten = |package: &Package| {
            let asked = !package.held.is_empty() || !package.followers.is_empty();
            !asked && now.since(package.asked) > linger
        };
        let ids: Vec<PackageId> =
            self.packages.by_id.iter().filter(|(_, package)| forgotten(package)).map(|(id, _)| *id).collect();
        for id in ids {
            self.drop_package(id, now);
        }
        if self.packages.len() > 0 {
            self.watch_packages(now);
        }
    }
}

/// Stands for a stream and the credentials that it was asked for with; never 0.
fn token(name: &StreamName, query: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (name, query).hash(&mut hasher);
    hasher.finish() | 1
}
