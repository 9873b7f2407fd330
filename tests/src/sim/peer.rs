//! Peers: publishers and viewers with a script of what they do and when, and with the manners that real ones have.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use shardcast_engine::{hub::Lost, media::StreamName, time::Now};

use super::{
    client::{Client, Fetched, Found, Heard, Wish},
    judge::{Excuse, Verdict},
    reel::Reel,
    socket::{Place, Receiving, Socket},
    world::World,
};

/// A publisher or a viewer.
pub struct Peer {
    /// Its half of the protocol.
    pub client: Box<dyn Client>,
    /// What it wants to do, in order of time.
    pub script: VecDeque<(Now, Act)>,
    /// What it is.
    pub role: Role,
    /// By which door it comes.
    pub door: Door,
    /// Its protocol can say and hear every word that the judge listens for.
    pub plain: bool,
    /// Its protocol passes on metadata and parameters as they were sent.
    pub knows: bool,
    /// How it reads.
    pub pace: Pace,
    /// Bytes that the kernels between hold for it.
    pub room: usize,
    socket: Option<usize>,
    reads_at: Now,
    /// It neither reads nor writes, nor does the network say that it is gone.
    vanished: bool,
    /// It did something that a server may close it for.
    blamed: bool,
    refused: bool,
    /// The server had a last word for it.
    dismissed: bool,
}

/// Which protocol a peer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// This world's own.
    Plain,
    /// HTTP/1.1.
    Http,
}

impl Door {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Door::Plain => "plain",
            Door::Http => "http",
        }
    }
}

/// What a peer is.
#[derive(Debug)]
pub enum Role {
    /// It sends a film.
    Publisher(Publisher),
    /// It watches.
    Viewer(Viewer),
}

/// A publisher.
#[derive(Debug)]
pub struct Publisher {
    /// Its number, never used twice.
    pub serial: u32,
    /// The stream it wants.
    pub name: StreamName,
    /// What it sends.
    pub reel: Reel,
    /// It sends frames before it knows whether it may.
    pub eager: bool,
    /// It goes on for a while after it was refused.
    pub stubborn: bool,
    /// Media that it sends at once at the beginning.
    pub ahead: Duration,
    /// When its film began.
    pub began: Option<Now>,
}

impl Publisher {
    /// The film begins, or goes on where it was stopped.
    fn begin(&mut self, now: Now) {
        let shown = Duration::from_millis(self.reel.next_millis());
        let began = now.0.saturating_sub(u64::try_from(shown.as_nanos()).unwrap_or(u64::MAX));
        self.began.get_or_insert(Now(began));
    }
}

/// A viewer.
#[derive(Debug)]
pub struct Viewer {
    /// The stream it wants.
    pub name: StreamName,
    /// It asks again this long after it was refused or its stream has ended.
    pub again: Option<Duration>,
    /// It watches now.
    pub playing: bool,
    /// It has asked for silence.
    pub holding: bool,
}

/// How a peer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Everything, at once.
    Prompt,
    /// So many bytes at most, so often.
    Slow(usize, Duration),
}

/// Something that a peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Calls the server and says what it wants.
    Call,
    /// Calls the server and says nothing.
    CallMutely,
    /// Says what it wants again.
    Wish,
    /// Says a word.
    Say(Wish),
    /// Reads nothing for so long.
    Stall(Duration),
    /// Sends no frames any more.
    Idle,
    /// Asks many times and does not listen.
    Flood,
    /// Closes its side.
    HangUp,
    /// Goes without a word, and the network says so.
    Reset,
    /// Goes without a word, and nobody says so.
    Vanish,
}

/// Room that never makes a sender wait.
pub const ROOM: usize = 1 << 20;

impl Peer {
    /// A peer that does what `script` says.
    pub fn new(client: Box<dyn Client>, role: Role, script: Vec<(Now, Act)>) -> Self {
        Peer {
            client,
            script: script.into(),
            role,
            door: Door::Plain,
            plain: true,
            knows: true,
            pace: Pace::Prompt,
            room: ROOM,
            socket: None,
            reads_at: Now(0),
            vanished: false,
            blamed: false,
            refused: false,
            dismissed: false,
        }
    }

    /// It was told that somebody else holds the name.
    pub fn was_refused(&self) -> bool {
        self.refused
    }

    /// It did nothing that a server may close it for.
    pub fn is_blameless(&self) -> bool {
        !self.blamed
    }

    /// It takes at once whatever comes.
    pub fn is_prompt(&self) -> bool {
        self.pace == Pace::Prompt && self.room >= ROOM && !self.blamed
    }

    /// Puts something into its script.
    fn remember(&mut self, at: Now, act: Act) {
        let place = self.script.partition_point(|(scripted, _)| *scripted <= at);
        self.script.insert(place, (at, act));
    }

    fn name(&self) -> StreamName {
        match &self.role {
            Role::Publisher(publisher) => publisher.name.clone(),
            Role::Viewer(viewer) => viewer.name.clone(),
        }
    }
}

impl World {
    pub(super) fn act_at(&self, peer: usize) -> Option<Now> {
        let peer = &self.peers[peer];
        if peer.vanished {
            return None;
        }
        let scripted = peer.script.front().map(|(at, _)| *at);
        let film = match &peer.role {
            Role::Publisher(Publisher { began: Some(began), reel, ahead, .. }) if peer.socket.is_some() => {
                let due = Duration::from_millis(reel.next_millis()).saturating_sub(*ahead);
                Some(began.after(due))
            }
            _ => None,
        };
        let own = peer.client.deadline().filter(|_| peer.socket.is_some());
        [scripted, film, own].into_iter().flatten().min()
    }

    pub(super) fn read_at(&self, peer: usize) -> Option<Now> {
        let peer = &self.peers[peer];
        let socket = &self.sockets[peer.socket.filter(|_| !peer.vanished)?];
        let ready = socket.down.ready().or_else(|| socket.down.ended().map(|(at, _)| at))?;
        Some(ready.max(peer.reads_at))
    }

    pub(super) fn act(&mut self, index: usize) -> Verdict {
        if self.act_at(index).is_none_or(|at| at > self.now) {
            return Ok(());
        }
        let peer = &mut self.peers[index];
        if let Some((_, act)) = peer.script.front().copied().filter(|(at, _)| *at <= self.now) {
            peer.script.pop_front();
            self.do_one(index, act);
        } else if let Role::Publisher(publisher) = &mut peer.role {
            let frame = publisher.reel.take();
            peer.client.frame(&frame);
        } else {
            peer.client.act(self.now);
        }
        self.flush(index);
        Ok(())
    }

    fn do_one(&mut self, index: usize, act: Act) {
        if self.trace {
            eprintln!("             peer {index}: {act:?}");
        }
        let now = self.now;
        if matches!(act, Act::Call | Act::CallMutely) {
            if self.peers[index].socket.is_some() {
                return;
            }
            let called = now.after(self.up_to(self.climate.network_delay));
            self.peers[index].socket = Some(self.sockets.len());
            self.sockets.push(Socket::new(index, called, self.peers[index].room));
            let socket = self.sockets.len() - 1;
            if let Role::Publisher(publisher) = &self.peers[index].role {
                self.judge.bind(socket, publisher.serial);
            }
        }
        let peer = &mut self.peers[index];
        let Some(socket) = peer.socket else { return };
        let name = peer.name();
        match act {
            Act::Call | Act::Wish => match &mut peer.role {
                Role::Publisher(publisher) => {
                    peer.client.publish(&name);
                    if publisher.eager {
                        publisher.begin(now);
                    }
                }
                Role::Viewer(_) => peer.client.play(&name),
            },
            Act::CallMutely => peer.blamed = true,
            Act::Say(wish) => {
                match (&mut peer.role, wish) {
                    (_, Wish::Nonsense) => peer.blamed = true,
                    (_, Wish::Break) => {
                        peer.blamed = true;
                        self.breaks += 1;
                    }
                    (Role::Viewer(viewer), Wish::Pause) => viewer.holding = true,
                    (Role::Viewer(viewer), Wish::Resume) => viewer.holding = false,
                    (Role::Viewer(viewer), Wish::Stop) => {
                        viewer.playing = false;
                        viewer.holding = false;
                    }
                    (Role::Publisher(publisher), Wish::Unpublish) => publisher.began = None,
                    _ => {}
                }
                peer.client.say(wish);
            }
            Act::Stall(time) => {
                peer.blamed = true;
                peer.reads_at = now.after(time);
            }
            Act::Idle => {
                peer.blamed = true;
                if let Role::Publisher(publisher) = &mut peer.role {
                    publisher.began = None;
                }
            }
            Act::Flood => {
                peer.blamed = true;
                peer.reads_at = now.after(Duration::from_secs(3));
                for _ in 0..2000 {
                    peer.client.say(Wish::Ping);
                }
            }
            Act::HangUp => self.hang_up(index),
            Act::Reset => {
                peer.blamed = true;
                peer.socket = None;
                let at = now.after(self.up_to(self.climate.network_delay));
                let held = &mut self.sockets[socket];
                held.up.reset(Lost::Failed("connection reset"), at);
                held.broken = true;
                if held.place == Place::Calling {
                    held.place = Place::Closed;
                }
            }
            Act::Vanish => {
                peer.blamed = true;
                peer.vanished = true;
            }
        }
    }

    /// A peer closes its side and is gone.
    pub(super) fn hang_up(&mut self, index: usize) {
        self.flush(index);
        let peer = &mut self.peers[index];
        peer.blamed = true;
        peer.script.clear();
        let Some(socket) = peer.socket.take() else { return };
        let at = self.now.after(self.up_to(self.climate.network_delay));
        let held = &mut self.sockets[socket];
        held.up.end(Lost::Eof, at);
        // What is still sent to it is thrown away by its kernel.
        held.room = usize::MAX;
    }

    /// Puts what a peer has to say on its way, cut anywhere.
    fn flush(&mut self, index: usize) {
        while let Some(bytes) = self.peers[index].client.outgoing() {
            let Some(socket) = self.peers[index].socket else { continue };
            let mut rest: Bytes = bytes;
            while !rest.is_empty() {
                let piece =
                    if self.random.chance(70) { rest.len() } else { 1 + self.random.index(rest.len()) };
                let at = self.now.after(self.up_to(self.climate.network_delay));
                self.sockets[socket].up.push(rest.split_to(piece), at);
            }
        }
    }

    pub(super) fn read(&mut self, index: usize) -> Verdict {
        if self.read_at(index).is_none_or(|at| at > self.now) {
            return Ok(());
        }
        let Some(socket) = self.peers[index].socket else { return Ok(()) };
        let most = match self.peers[index].pace {
            Pace::Prompt => usize::MAX,
            Pace::Slow(bytes, every) => {
                self.peers[index].reads_at = self.now.after(every);
                bytes
            }
        };
        let bytes = self.sockets[socket].down.take(most, self.now);
        if bytes.is_empty() {
            // The server has closed it and everything was read.
            if self.sockets[socket].down.ended().is_some_and(|(at, _)| at <= self.now) {
                return self.hear_the_end(index);
            }
            return Ok(());
        }
        self.peers[index].client.hear(&bytes, self.now);
        while let Some(heard) = self.peers[index].client.heard() {
            self.understand(index, socket, &heard)?;
        }
        self.flush(index);
        Ok(())
    }

    /// A peer has read all that the server had for it.
    fn hear_the_end(&mut self, index: usize) -> Verdict {
        let (now, draining) = (self.now, self.draining);
        let peer = &mut self.peers[index];
        peer.socket = None;
        let undone = peer.client.end(now);
        if let (Role::Viewer(viewer), Door::Http) = (&mut peer.role, peer.door) {
            // By this door a connection ends with its stream, or because nothing was asked for a while.
            viewer.playing = false;
            if let Some(again) = viewer.again.filter(|_| !draining) {
                peer.remember(now.after(again), Act::Call);
            }
        }
        // Who reads slowly asks when the server has long been waiting for it.
        let excused = draining || peer.blamed || peer.pace != Pace::Prompt;
        match undone.filter(|_| !excused) {
            Some(why) => Err(format!("peer {index} was closed: {why}")),
            None => Ok(()),
        }
    }

    fn understand(&mut self, index: usize, socket: usize, heard: &Heard) -> Verdict {
        if self.trace {
            match heard {
                Heard::Fetched(Fetched { uri, found: Found::Playlist { text, .. }, .. }) => {
                    eprintln!("             peer {index} reads {uri}:\n{text}")
                }
                Heard::Fetched(Fetched { uri, found, .. }) => {
                    let missing = matches!(found, Found::Missing);
                    eprintln!("             peer {index} fetches {uri}, which is missing: {missing}")
                }
                Heard::Frame(frame) if frame.is_media() && super::reel::Stamp::read(frame).is_none() => {
                    eprintln!("             peer {index} hears {frame:?}")
                }
                Heard::Frame(frame) => eprintln!(
                    "             peer {index} hears {:?} of {:?} at {}",
                    super::reel::Stamp::read(frame),
                    frame.track,
                    frame.dts.as_millis()
                ),
                other => eprintln!("             peer {index} hears {other:?}"),
            }
        }
        let excuse = self.excuse(&self.peers[index], socket);
        if let Heard::Fetched(fetched) = heard {
            let life = self.judge.life_of(&fetched.name);
            return self.library.take(socket, fetched, life, excuse.prompt && !self.draining);
        }
        // By HTTP nobody is told that the server stops: what it sends has an end.
        let by_http = self.peers[index].door == Door::Http;
        let heard =
            if by_http && self.draining && matches!(heard, Heard::Ended) { &Heard::Bye } else { heard };
        self.judge.hear(socket, heard, excuse, self.now)?;
        let now = self.now;
        let peer = &mut self.peers[index];
        match (&mut peer.role, heard) {
            (Role::Publisher(publisher), Heard::Publishing) => {
                publisher.begin(now);
            }
            (Role::Publisher(publisher), Heard::Refused(_)) => {
                peer.refused = true;
                let patience = if publisher.stubborn { 500 } else { 0 };
                peer.script = VecDeque::from([(now.after(Duration::from_millis(patience)), Act::HangUp)]);
            }
            (Role::Viewer(viewer), Heard::Playing) => viewer.playing = true,
            (Role::Viewer(viewer), Heard::Refused(_) | Heard::Ended) => {
                viewer.playing = false;
                viewer.holding = false;
                // By HTTP, what has ended takes the connection with it.
                let is_over = peer.door == Door::Http && matches!(heard, Heard::Ended);
                if let Some(again) = viewer.again.filter(|_| !is_over) {
                    peer.remember(now.after(again), Act::Wish);
                }
            }
            (_, Heard::Bye) => peer.dismissed = true,
            _ => {}
        }
        Ok(())
    }

    fn excuse(&self, peer: &Peer, socket: usize) -> Excuse {
        let lag = self.settings.default.limits.viewer_lag;
        let quick = self.climate.core_pause + self.climate.network_delay * 4 + self.climate.tick < lag / 2;
        let held = match self.sockets[socket].place {
            Place::Held { core, .. } => Some(core),
            _ => None,
        };
        let lane_full = match (held, self.judge.watched_by(socket)) {
            (Some(core), Some(name)) => self.lane_full[self.owner(name)][core],
            // The server has closed it meanwhile, and with it went the place; any full lane excuses it.
            _ => self.lane_full.iter().flatten().flatten().max().copied(),
        };
        Excuse {
            prompt: peer.is_prompt() && quick && !self.tight,
            counted: held.map(|core| (core, self.cores[core].hub.stats().viewer_jumps)),
            whole: !self.tight,
            lane_full,
            plain: peer.plain,
            knows: peer.knows,
            deaf: peer.door == Door::Http,
        }
    }

    /// The server has closed a connection.
    pub(super) fn closed(&mut self, socket: usize, told: bool) -> Verdict {
        let index = self.sockets[socket].peer;
        let peer = &self.peers[index];
        // By HTTP the peer can tell by what it was answered whether there was a reason.
        let judges = peer.door == Door::Http;
        let excused = judges || peer.blamed || peer.dismissed || self.judge.is_superseded(socket);
        if told || self.draining || excused {
            return Ok(());
        }
        Err(format!("peer {index} was closed and had done nothing wrong"))
    }

    /// In a calm world every viewer that takes what comes has had what is older than `age`.
    ///
    /// # Errors
    /// One has not.
    pub fn check_calm(&self, age: Duration) -> Verdict {
        if self.tight {
            return Ok(());
        }
        let until = Now(self.now.0.saturating_sub(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)));
        for peer in &self.peers {
            let Some(socket) = peer.socket.filter(|_| peer.is_prompt()) else { continue };
            let held = &self.sockets[socket];
            match &peer.role {
                Role::Viewer(viewer) if viewer.playing && !viewer.holding => {
                    let lane_full = self.excuse(peer, socket).lane_full;
                    self.judge.has_all(socket, until, lane_full)?;
                }

                Role::Viewer(_) => {}
                Role::Publisher(_) => {
                    let stuck = held.receiving != Receiving::On || held.place == Place::Moving;
                    if stuck {
                        return Err("a publisher that was to move is still on its way".to_owned());
                    }
                }
            }
        }
        Ok(())
    }
}
