//! Peers: publishers and viewers with a script of what they do and when, and with the manners that real ones have.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use shardcast_engine::{hub::Lost, media::StreamName, rtp::order::WAIT_MAX, time::Now};

use super::{
    beside::Beside,
    client::{Client, Fetched, Found, Heard, Wish},
    judge::{Excuse, Verdict},
    network::{Repair, Way, Weather},
    reel::{Reel, Stamp},
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
    /// How its datagrams go, if it is one of those, and how long it and the server hold back what they receive.
    pub way: Option<(Weather, Duration)>,
    /// How its datagrams go that go beside its connection.
    pub beside: Option<Weather>,
    /// What its protocol does about the network.
    pub repair: Repair,
    /// Since when it has had its stream, where nobody tells it so, and how many key frames it has sent since.
    pub heard_since: Option<(Now, u32)>,
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
    /// SRT, by datagrams.
    Srt,
    /// RTSP, its media by datagrams.
    Rtsp,
    /// None: datagrams that come unasked.
    Udp,
}

impl Door {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Door::Plain => "plain",
            Door::Http => "http",
            Door::Srt => "srt",
            Door::Rtsp => "rtsp",
            Door::Udp => "udp",
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

/// What a publisher's frame may take on top of what was agreed: to be cut and put together, and to move to another core.
pub const PATIENCE: Duration = Duration::from_millis(120);

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
            way: None,
            beside: None,
            repair: Repair::Resent,
            heard_since: None,
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

    /// When the next frame of its film is to be sent.
    fn film_at(&self) -> Option<Now> {
        match &self.role {
            Role::Publisher(Publisher { began: Some(began), reel, ahead, .. }) if self.socket.is_some() => {
                let due = Duration::from_millis(reel.next_millis()).saturating_sub(*ahead);
                Some(began.after(due))
            }
            _ => None,
        }
    }

    /// It has done what a server may close it for.
    pub fn blame(&mut self) {
        self.blamed = true;
    }

    /// It is not there any more where it had this address.
    pub fn has_left(&self, number: usize, socket: &Socket) -> bool {
        socket.way.is_some() && self.socket != Some(number)
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

    /// The stream that it wants.
    pub fn name(&self) -> StreamName {
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
        let film = peer.film_at();
        let own = peer.client.deadline().filter(|_| peer.socket.is_some());
        [scripted, film, own].into_iter().flatten().min()
    }

    pub(super) fn read_at(&self, peer: usize) -> Option<Now> {
        let peer = &self.peers[peer];
        let socket = &self.sockets[peer.socket.filter(|_| !peer.vanished)?];
        if let Some(way) = &socket.way {
            return Some(way.down.ready()?.max(peer.reads_at));
        }
        let beside = socket.beside.as_ref().and_then(|beside| beside.way.down.ready());
        let ready = socket.down.ready().or_else(|| socket.down.ended().map(|(at, _)| at));
        Some(ready.into_iter().chain(beside).min()?.max(peer.reads_at))
    }

    pub(super) fn act(&mut self, index: usize) -> Verdict {
        if self.act_at(index).is_none_or(|at| at > self.now) {
            return Ok(());
        }
        let peer = &mut self.peers[index];
        if let Some((_, act)) = peer.script.front().copied().filter(|(at, _)| *at <= self.now) {
            peer.script.pop_front();
            self.do_one(index, act);
        } else if peer.film_at().is_some_and(|at| at <= self.now)
            && let Role::Publisher(publisher) = &mut peer.role
        {
            let frame = publisher.reel.take();
            peer.client.frame(&frame, self.now);
            let socket = peer.socket;
            if let Some((socket, stamp)) = socket.zip(Stamp::read(&frame)) {
                self.promise(socket, stamp, &frame);
            }
        } else {
            peer.client.act(self.now);
        }
        self.digest(index)
    }

    /// Goes on with what a peer has heard, or what it does by itself has brought about.
    fn digest(&mut self, index: usize) -> Verdict {
        if let Some(socket) = self.peers[index].socket {
            while let Some(heard) = self.peers[index].client.heard() {
                self.understand(index, socket, &heard)?;
            }
        }
        self.flush(index);
        let peer = &self.peers[index];
        let Some(socket) = peer.socket.filter(|_| peer.client.is_over()) else { return Ok(()) };
        if self.sockets[socket].way.is_none() {
            self.end_side(socket);
        }
        self.hear_the_end(index)
    }

    fn do_one(&mut self, index: usize, act: Act) {
        if self.trace {
            eprintln!("             peer {index}: {act:?} {:?}", self.peers[index].way);
        }
        let now = self.now;
        if matches!(act, Act::Call | Act::CallMutely) {
            if self.peers[index].socket.is_some() {
                return;
            }
            self.peers[index].socket = Some(self.sockets.len());
            let socket = match self.peers[index].way {
                Some((weather, latency)) => {
                    let home = self.random.index(self.cores.len());
                    let way = Way { repair: self.peers[index].repair, ..Way::new(weather, latency, home) };
                    Socket::by_datagrams(index, now, way)
                }
                None => {
                    let called = now.after(self.up_to(self.climate.network_delay));
                    Socket::new(index, called, self.peers[index].room)
                }
            };
            self.sockets.push(socket);
            if let (Some(weather), Some(socket)) = (self.peers[index].beside, self.sockets.last_mut()) {
                let way = Way { repair: self.peers[index].repair, ..Way::new(weather, WAIT_MAX, 0) };
                socket.beside = Some(Box::new(Beside { way, ports: None }));
            }
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
                    peer.client.publish(&name, now);
                    if publisher.eager {
                        publisher.begin(now);
                    }
                }
                Role::Viewer(_) => peer.client.play(&name, now),
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
                if let Role::Publisher(publisher) = &peer.role {
                    self.judge.promises.release(Some(publisher.serial));
                }
            }
        }
    }

    /// A peer closes its side and is gone.
    pub(super) fn hang_up(&mut self, index: usize) {
        let gone = self.peers[index].vanished;
        if self.peers[index].socket.is_some() && !gone {
            self.peers[index].client.leave(self.now);
            if let Role::Publisher(publisher) = &self.peers[index].role {
                self.judge.promises.release(Some(publisher.serial));
            }
        }
        self.flush(index);
        let peer = &mut self.peers[index];
        peer.blamed = true;
        peer.script.clear();
        let socket = peer.socket.take().filter(|socket| self.sockets[*socket].way.is_none());
        if let Some(socket) = socket {
            self.end_side(socket);
        }
    }

    fn end_side(&mut self, socket: usize) {
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
            if self.sockets[socket].way.is_some() {
                self.set_out(socket, bytes, true);
                continue;
            }
            let mut rest: Bytes = bytes;
            while !rest.is_empty() {
                let piece =
                    if self.random.chance(70) { rest.len() } else { 1 + self.random.index(rest.len()) };
                let at = self.now.after(self.up_to(self.climate.network_delay));
                self.sockets[socket].up.push(rest.split_to(piece), at);
            }
        }
        while let Some(packet) = self.peers[index].client.packet() {
            if let Some(socket) = self.peers[index].socket {
                self.set_out_beside(socket, packet, true);
            }
        }
    }

    pub(super) fn read(&mut self, index: usize) -> Verdict {
        if self.read_at(index).is_none_or(|at| at > self.now) {
            return Ok(());
        }
        let Some(socket) = self.peers[index].socket else { return Ok(()) };
        if let Some(way) = &mut self.sockets[socket].way {
            if let Some(datagram) = way.down.take(self.now) {
                self.peers[index].client.hear(&datagram, self.now);
            }
            return self.digest(index);
        }
        let now = self.now;
        if let Some(packet) =
            self.sockets[socket].beside.as_mut().and_then(|beside| beside.way.down.take(now))
        {
            self.peers[index].client.hear_packet(&packet, now);
            return self.digest(index);
        }
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
        self.digest(index)
    }

    /// A peer has read all that the server had for it.
    fn hear_the_end(&mut self, index: usize) -> Verdict {
        let (now, draining) = (self.now, self.draining);
        let peer = &mut self.peers[index];
        peer.socket = None;
        let undone = peer.client.end(now);
        if let (Role::Viewer(viewer), Door::Http | Door::Srt | Door::Rtsp) = (&mut peer.role, peer.door) {
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
                Heard::Frame(frame) if frame.is_media() && Stamp::read(frame).is_none() => {
                    eprintln!("             peer {index} hears {frame:?}")
                }
                Heard::Frame(frame) => eprintln!(
                    "             peer {index} hears {:?} of {:?} at {}",
                    Stamp::read(frame),
                    frame.track,
                    frame.dts.as_millis()
                ),
                other => eprintln!("             peer {index} hears {other:?}"),
            }
        }
        let excuse = self.excuse(&self.peers[index], socket);
        if let Heard::Fetched(fetched) = heard {
            let life = self.judge.life_of(&fetched.name);
            let way = (self.climate.network_delay + self.climate.core_pause + self.climate.tick) * 2;
            let prompt = (excuse.prompt && !self.draining).then_some(way);
            return self.library.take(socket, fetched, life, prompt, self.now);
        }
        // By HTTP nobody is told that the server stops: what it sends has an end. By SRT there is one word for both.
        let untold = self.peers[index].door != Door::Plain;
        let heard =
            if untold && self.draining && matches!(heard, Heard::Ended) { &Heard::Bye } else { heard };
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
                // By HTTP, what has ended takes the connection with it; by SRT, so does what was refused.
                let is_over = match peer.door {
                    Door::Plain => false,
                    Door::Http => matches!(heard, Heard::Ended),
                    Door::Srt | Door::Rtsp | Door::Udp => true,
                };
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
        let way = self.sockets[socket].datagrams();
        let there = way.map_or(self.climate.network_delay * 4, |way| way.weather.round_trip() * 2);
        let quick = self.climate.core_pause + there + self.climate.tick < lag / 2;
        // Whoever listened to nothing for a while has lost what could only have come then.
        let lossy = !self.is_mended(socket)
            || way.is_some() && (peer.blamed || self.draining)
            || peer.client.began_late();
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
            prompt: peer.is_prompt() && quick && !self.tight && !lossy,
            lossy,
            within: way.filter(|_| !lossy && quick).map(|way| self.agreed(way)),
            counted: held.map(|core| (core, self.cores[core].hub.stats().viewer_jumps)),
            whole: !self.tight,
            lane_full,
            plain: peer.plain,
            knows: peer.knows,
            deaf: peer.door != Door::Plain,
            tracks: peer.client.tracks(),
        }
    }

    /// How long after it was taken a viewer has a frame that comes by `way`.
    fn agreed(&self, way: &Way) -> Duration {
        let lanes = self.climate.lane_delay * 2 + self.climate.core_pause * 4 + self.climate.tick * 4;
        way.latency + way.weather.round_trip() + self.settings.default.limits.flush + lanes + PATIENCE
    }

    /// The server has closed a connection.
    pub(super) fn closed(&mut self, socket: usize, told: bool) -> Verdict {
        let index = self.sockets[socket].peer;
        let peer = &self.peers[index];
        // By HTTP the peer can tell by what it was answered whether there was a reason.
        let judges = peer.door == Door::Http;
        // By SRT what was refused is over, a viewer tells by what it had, and who has gone may have said so.
        let by_datagrams = matches!(peer.role, Role::Viewer(_))
            || self.sockets[socket].refused
            || !self.is_mended(socket)
            || peer.has_left(socket, &self.sockets[socket]);
        let judges = judges || matches!(peer.door, Door::Srt | Door::Rtsp | Door::Udp) && by_datagrams;
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
            let prompt = |socket: &usize| peer.is_prompt() && self.is_mended(*socket);
            let Some(socket) = peer.socket.filter(prompt) else { continue };
            let held = &self.sockets[socket];
            match &peer.role {
                Role::Viewer(viewer) if viewer.playing && !viewer.holding => {
                    self.judge.has_all(socket, until, self.excuse(peer, socket))?;
                }
                Role::Viewer(_) => {}
                Role::Publisher(publisher) => {
                    if self.judge.publisher_of(&publisher.name) == Some(socket) {
                        self.judge.promises.are_kept(publisher.serial, self.now)?;
                    }
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
