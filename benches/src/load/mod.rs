//! The load: publishers and viewers of one scenario, on one thread and one ring.
//!
//! Publishers are paced to the microsecond and say how late they were. Every viewer parses what it is sent up to its
//! first key frame. Then a few go on parsing, and are woken for each byte; the others leave the ring, and the kernel is
//! told fifteen to fifty times a second to throw away what has come for them, which costs next to nothing.
//! Viewers that ask for one piece after the other stay on the ring, see `asking`. What comes in datagrams is looked for every few
//! milliseconds, by sockets that are on no ring, see `datagrams`.

mod asking;
mod datagrams;
mod drain;
mod judge;
mod line;
mod outbox;
mod publisher;
mod rtsp;
mod secure;
mod viewer;
mod whep;
mod window;

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use asking::{Asking, Books};
use bytes::Bytes;
use datagrams::Listeners;
use line::Line;
use shardcast_engine::{media::StreamName, rtmp::client::Target, time::Now};
use shardcast_io::{
    clock,
    ring::{Completion, Ring, RingConfig, SocketId},
    tcp,
};

pub use judge::{Findings, Judge};
use outbox::Outbox;
pub use publisher::Publisher;
pub use viewer::{HttpFlv, HttpTs, Talk};
use whep::Meeting;
pub use window::Report;
use window::Window;

use crate::{
    clip::{Clip, Filling, Playback},
    histogram::Histogram,
    scenario::{Door, Entrance, Scenario, stream_name},
    server::{Doors, Floor},
    url::Url,
};

/// How closely the place of a key frame's last byte is found.
const KEY_SEARCH_BYTES: usize = 1024;
/// The longest sleep.
const SLEEP_MAX: Duration = Duration::from_millis(5);
/// Completions that are looked at in one go, so that a publisher does not wait for a crowd.
const COMPLETIONS_PER_TURN: usize = 128;
/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// The load of one run.
pub struct Load {
    ring: Ring,
    owners: HashMap<SocketId, Owner>,
    /// Those with a socket of their own have none on the ring.
    publishers: Vec<(Publisher, Option<SocketId>)>,
    viewers: Vec<Viewer>,
    /// Viewers that are drained, in turn.
    drained: VecDeque<usize>,
    /// Viewers that can be replaced by churn, oldest first.
    replaceable: VecDeque<usize>,
    streams: Vec<String>,
    plan: Scenario,
    doors: Doors,
    floor: Floor,
    clip: Clip,
    joining: Option<Joining>,
    churned: Option<Now>,
    findings: Findings,
    books: Books,
    listeners: Listeners,
    lateness: Histogram,
    rounds: Histogram,
    first_bytes: Histogram,
    first_keys: Histogram,
    drained_at: Now,
    /// There were more to drain than one turn may.
    drains_more: bool,
    window: Option<Window>,
    delivered: u64,
    refused: u64,
    disconnected: u64,
    closed_for_slowness: u64,
    trouble: Vec<String>,
}

#[derive(Clone, Copy)]
enum Owner {
    Publisher(usize),
    Viewer(usize),
    /// A viewer that asks, and which of its connections.
    Asking(usize, usize),
}

/// Joins that are due.
struct Joining {
    began: Now,
    joined: usize,
}

/// What a viewer does after its first key frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Parse,
    Drain,
    Stall,
    Slow,
}

struct Viewer {
    kind: Kind,
    stream: usize,
    talk: Option<Talk>,
    judge: Judge,
    state: State,
    out: Outbox,
    joined: Now,
    bytes: u64,
    /// Until its first key frame: its bytes after each receive, and when that was.
    arrivals: Vec<(u64, Now)>,
    /// Its bytes when the window began; `None` for one that came later.
    bytes_at_window: Option<u64>,
    /// Nobody looks into what it is sent: any byte will do.
    unparsed: bool,
    /// When it last said something that nobody had asked it.
    spoke: Now,
}

enum State {
    /// On the ring.
    Ring(SocketId),
    /// Leaving the ring.
    Leaving(SocketId),
    /// Off the ring.
    Off(OwnedFd),
    /// It asks, by connections of its own.
    Asking(Box<Asking>),
    /// By SRT, with a socket of its own.
    Calling(Line),
    /// By WHEP, likewise.
    Meeting(Box<Meeting>),
    Gone,
}

impl Load {
    /// The load of `plan` against a server at `doors`. Nothing is connected yet.
    ///
    /// # Errors
    /// The ring cannot be made, or the clip not be brought to the bit rate.
    pub fn new(plan: Scenario, doors: Doors, floor: Floor, clip: &Clip) -> Result<Load, String> {
        let by_webrtc = plan.publish.by == Entrance::Webrtc || plan.watch.by == Door::Webrtc;
        // Where what comes is taken out of MPEG-TS, and where a browser gets it, filler is no load.
        let is_left_out = matches!(plan.publish.by, Entrance::Srt | Entrance::Udp)
            || plan.watch.by == Door::Srt
            || by_webrtc;
        let filling = if is_left_out { Filling::Reserved } else { Filling::Filler };
        let clip = if by_webrtc { &clip.in_order() } else { clip };
        let clip = clip.filled(plan.publish.bitrate, filling)?;
        let config = RingConfig { receive_buffers: 1024, write_buffer_bytes: 0, ..RingConfig::default() };
        let ring = Ring::new(&config).map_err(|error| format!("the load's ring: {error}"))?;
        let streams = (0..plan.publish.streams).map(stream_name).collect();
        Ok(Load {
            ring,
            owners: HashMap::new(),
            publishers: Vec::new(),
            viewers: Vec::new(),
            drained: VecDeque::new(),
            replaceable: VecDeque::new(),
            streams,
            plan,
            doors,
            floor,
            clip,
            joining: None,
            churned: None,
            findings: Findings::default(),
            books: Books::default(),
            listeners: Listeners::default(),
            lateness: Histogram::default(),
            rounds: Histogram::default(),
            first_bytes: Histogram::default(),
            first_keys: Histogram::default(),
            drained_at: Now(clock::monotonic()),
            drains_more: false,
            window: None,
            delivered: 0,
            refused: 0,
            disconnected: 0,
            closed_for_slowness: 0,
            trouble: Vec::new(),
        })
    }

    /// Connects every publisher. They begin to publish when the server lets them.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub fn publish(&mut self) -> Result<(), String> {
        if self.floor.feeds_itself {
            return Ok(());
        }
        let by = self.plan.publish.by;
        let door = self.doors.for_publishers(by).map(str::to_owned);
        let door = door.ok_or_else(|| format!("the server has no door to publish by {}", by.name()))?;
        // Key frames of many publishers do not fall together in life either.
        let spread = Duration::from_millis(2000 / self.streams.len().max(1) as u64);
        for index in 0..self.streams.len() {
            let mut url = url_of(&door, &self.streams[index])?;
            if by == Entrance::Udp {
                url = url.at_port(index).ok_or("there are not as many ports as streams")?;
            }
            let stagger = spread * u32::try_from(index).unwrap_or(0);
            let playback = Playback::new(self.clip.clone());
            let mut publisher = Publisher::new(&url, self.plan.publish.srt, playback, stagger, now())?;
            if publisher.has_line() {
                self.publishers.push((publisher, None));
                self.turn()?;
                continue;
            }
            let socket = connect(&url).map_err(|error| format!("{}: {error}", url.address))?;
            let id = self.ring.add(socket).map_err(|(_, error)| error.to_string())?;
            self.ring.receive(id);
            send(&mut self.ring, id, publisher.take());
            self.owners.insert(id, Owner::Publisher(self.publishers.len()));
            self.publishers.push((publisher, Some(id)));
            self.turn()?;
        }
        Ok(())
    }

    /// True when every publisher publishes.
    pub fn is_published(&self) -> bool {
        self.publishers.iter().all(|(publisher, _)| publisher.is_publishing())
    }

    /// Lets viewers join from now on, at the scenario's rate.
    pub fn join(&mut self) {
        self.joining = Some(Joining { began: now(), joined: 0 });
    }

    /// True when all viewers have been connected, refused or not.
    pub fn is_joined(&self) -> bool {
        self.joining.as_ref().is_some_and(|joining| joining.joined >= self.plan.watch.viewers)
    }

    /// Viewers that have had a key frame (or, of a floor that sends no stream, anything) and are still there.
    pub fn playing(&self) -> u64 {
        self.viewers.iter().filter(|viewer| viewer.is_playing()).count() as u64
    }

    /// Bytes delivered so far.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Pictures published so far, by the last part of the stream's name.
    pub fn pictures_by_stream(&self) -> Vec<(String, u64)> {
        self.streams
            .iter()
            .zip(&self.publishers)
            .map(|(stream, (publisher, _))| (stream.clone(), publisher.pictures()))
            .collect()
    }

    /// Publishes no more frames. What is on its way is still sent; connections stay.
    pub fn stop_publishing(&mut self) {
        self.publishers.iter_mut().for_each(|(publisher, _)| publisher.stop());
    }

    /// True when the kernel has taken all that was published.
    pub fn is_sent(&self) -> bool {
        self.publishers.iter().all(|(publisher, _)| publisher.is_sent())
    }

    /// The latencies since the last call.
    pub fn second(&mut self) -> Histogram {
        std::mem::take(&mut self.findings.second)
    }

    /// One round: what is due, what has come, and a sleep until more is due or comes.
    ///
    /// # Errors
    /// The ring failed, or a publisher was lost: the run means nothing.
    pub fn turn(&mut self) -> Result<(), String> {
        let began = now();
        self.join_due(began)?;
        self.churn_due(began)?;
        self.publish_due(began)?;
        self.listen_due(began)?;
        self.alarms_due(began);
        self.ring.submit().map_err(|error| error.to_string())?;
        for _ in 0..COMPLETIONS_PER_TURN {
            let Some(completion) = self.ring.next() else { break };
            self.complete(completion)?;
        }
        self.drain_due(now());
        let over = now();
        self.rounds.record(over.since(began));
        let pause = self.pause(over);
        if self.ring.pending() > 0 || pause.is_zero() {
            return self.ring.submit().map_err(|error| error.to_string());
        }
        self.ring.wait(1, pause).map_err(|error| error.to_string())
    }

    fn pause(&self, now: Now) -> Duration {
        if self.drains_more {
            return Duration::ZERO;
        }
        let frames = self.publishers.iter().filter_map(|(publisher, _)| publisher.due());
        let next =
            frames.chain(self.next_join()).chain(self.books.next_alarm()).chain(self.next_listen()).min();
        next.map_or(SLEEP_MAX, |next| next.since(now)).min(SLEEP_MAX)
    }

    fn next_join(&self) -> Option<Now> {
        let joining = self.joining.as_ref().filter(|joining| joining.joined < self.plan.watch.viewers)?;
        let after = joining.joined as f64 / f64::from(self.plan.watch.join_rate);
        Some(joining.began.after(Duration::from_secs_f64(after)))
    }

    fn join_due(&mut self, now: Now) -> Result<(), String> {
        // A few per round, or publishers would wait for a crowd.
        for _ in 0..8 {
            if self.next_join().is_none_or(|due| due > now) {
                break;
            }
            let Some(joining) = &mut self.joining else { break };
            let index = joining.joined;
            joining.joined += 1;
            self.enter(self.kind_of(index), index % self.streams.len())?;
        }
        Ok(())
    }

    /// Those that parse are spread over all; those that stall and are slow come last.
    fn kind_of(&self, index: usize) -> Kind {
        let watch = &self.plan.watch;
        let healthy = watch.viewers - watch.stall - watch.slow;
        if index >= healthy + watch.slow {
            return Kind::Stall;
        }
        if index >= healthy {
            return Kind::Slow;
        }
        // One more than even steps, so that they do not all fall on the same streams.
        let parse = watch.parse.min(healthy);
        let parses = (0..parse).any(|nth| (nth * healthy / parse + nth) % healthy == index);
        if parses && !self.floor.unparsed { Kind::Parse } else { Kind::Drain }
    }

    fn churn_due(&mut self, now: Now) -> Result<(), String> {
        let rate = self.plan.watch.churn;
        let Some(last) = self.churned.filter(|_| rate > 0) else { return Ok(()) };
        let step = Duration::from_secs(1) / rate;
        if now.since(last) < step {
            return Ok(());
        }
        self.churned = Some(last.after(step));
        let Some(oldest) = self.replaceable.pop_front() else { return Ok(()) };
        let stream = self.viewers[oldest].stream;
        self.leave(oldest);
        self.enter(Kind::Drain, stream)
    }

    fn enter(&mut self, kind: Kind, stream: usize) -> Result<(), String> {
        let by = self.plan.watch.by;
        let door = self.doors.for_viewers(by);
        let door = door.ok_or_else(|| format!("the server has no door {} for viewers", by.name()))?;
        let url = url_of(door, &self.streams[stream])?;
        let joined = now();
        let index = self.viewers.len();
        let mut viewer = Viewer {
            kind,
            stream,
            talk: None,
            judge: Judge::new(joined),
            state: State::Gone,
            out: Outbox::default(),
            joined,
            bytes: 0,
            arrivals: Vec::new(),
            bytes_at_window: None,
            unparsed: self.floor.unparsed,
            spoke: joined,
        };
        if by.asks() {
            self.viewers.push(viewer);
            return self.enter_asking(index, url, joined);
        }
        if by == Door::Srt || url.scheme == "udp" {
            self.viewers.push(viewer);
            return self.enter_by_datagrams(index, &url, joined);
        }
        if by == Door::Webrtc {
            self.viewers.push(viewer);
            return self.enter_by_whep(index, &url, joined);
        }
        match connect(&url) {
            Err(error) => {
                self.refused += 1;
                self.complain(format!("a viewer cannot connect: {error}"));
            }
            Ok(socket) if self.floor.unparsed => {
                // It is drained from its first byte on.
                let stream = TcpStream::from(socket);
                io::Write::write_all(&mut &stream, &viewer::request(&url))
                    .map_err(|error| error.to_string())?;
                viewer.state = State::Off(stream.into());
                self.drained.push_back(index);
            }
            Ok(socket) => {
                let (talk, first) = Talk::new(&url, by, joined)?;
                let id = self.ring.add(socket).map_err(|(_, error)| error.to_string())?;
                viewer.out.waiting().extend_from_slice(&first);
                self.ring.receive(id);
                send(&mut self.ring, id, viewer.out.next());
                viewer.talk = Some(talk);
                viewer.state = State::Ring(id);
                self.owners.insert(id, Owner::Viewer(index));
                if by == Door::RtspUdp {
                    self.listeners.viewers.push(index);
                }
            }
        }
        self.viewers.push(viewer);
        Ok(())
    }

    fn publish_due(&mut self, now: Now) -> Result<(), String> {
        for (publisher, id) in &mut self.publishers {
            if publisher.due().is_none_or(|due| due > now) {
                continue;
            }
            publisher.work(now, &mut self.lateness).map_err(|why| format!("a publisher: {why}"))?;
            if let Some(id) = id {
                send(&mut self.ring, *id, publisher.take());
            }
        }
        Ok(())
    }

    fn complete(&mut self, completion: Completion) -> Result<(), String> {
        match completion {
            Completion::Received { socket, bytes } => match self.owners.get(&socket) {
                Some(Owner::Publisher(index)) => {
                    let (publisher, _) = &mut self.publishers[*index];
                    publisher.received(&bytes, now()).map_err(|why| format!("a publisher: {why}"))?;
                    send(&mut self.ring, socket, publisher.take());
                }
                Some(Owner::Viewer(index)) => self.viewer_received(*index, socket, &bytes),
                Some(Owner::Asking(..)) | None => {}
            },
            Completion::Filled { socket, memory, .. } => {
                if let Some(Owner::Asking(index, by)) = self.owners.get(&socket).copied() {
                    self.asking_filled(index, by, socket, memory);
                }
            }
            Completion::Sent { socket, result } => match (self.owners.get(&socket), result) {
                (Some(Owner::Publisher(index)), Ok(taken)) => {
                    let next = self.publishers[*index].0.sent(taken);
                    send(&mut self.ring, socket, next);
                }
                (Some(Owner::Publisher(_)), Err(error)) => {
                    return Err(format!("a publisher was cut off: {error}"));
                }
                (Some(Owner::Viewer(index)), result) => {
                    self.viewer_sent(*index, socket, result.unwrap_or(usize::MAX));
                }
                (Some(Owner::Asking(index, by)), result) => {
                    self.asking_sent(*index, *by, socket, result.unwrap_or(usize::MAX));
                }
                (None, _) => {}
            },
            Completion::ReceiveEnded { socket, .. } => match self.owners.get(&socket) {
                Some(Owner::Publisher(_)) => return Err("the server has closed a publisher".to_owned()),
                Some(Owner::Viewer(index)) => {
                    let index = *index;
                    match self.viewers[index].state {
                        State::Leaving(_) => self.let_go(index, socket),
                        _ => self.lost(index, "the server has closed a viewer"),
                    }
                }
                Some(Owner::Asking(index, by)) => {
                    let (index, by) = (*index, *by);
                    self.asking_ended(index, by, socket);
                }
                None => {}
            },
            _ => {}
        }
        Ok(())
    }

    fn viewer_received(&mut self, index: usize, socket: SocketId, bytes: &[u8]) {
        if self.plan.watch.by == Door::RtspUdp {
            return self.answered_beside(index, socket, bytes);
        }
        if self.plan.watch.by == Door::Webrtc {
            return self.answered_by_http(index, socket, bytes);
        }
        let viewer = &mut self.viewers[index];
        viewer.bytes += bytes.len() as u64;
        self.delivered += bytes.len() as u64;
        // What still came while it leaves the ring is only counted.
        if matches!(viewer.state, State::Leaving(_)) {
            return;
        }
        let (Some(talk), findings, judge) = (&mut viewer.talk, &mut self.findings, &mut viewer.judge) else {
            return;
        };
        let moment = now();
        let had_key = judge.first_key().is_some();
        if !had_key {
            viewer.arrivals.push((viewer.bytes, moment));
        }
        // In small pieces until the first key frame is whole, so that it shows where it ended.
        let pieces = bytes.chunks(if had_key { bytes.len() } else { KEY_SEARCH_BYTES });
        let mut position = viewer.bytes - bytes.len() as u64;
        let mut key_began = None;
        for piece in pieces {
            position += piece.len() as u64;
            match talk.received(piece, moment, &mut |frame, at| judge.frame(frame, at, findings)) {
                Ok(answer) => viewer.out.waiting().extend_from_slice(&answer),
                Err(why) => {
                    self.findings.checks.unreadable += u64::from(had_key);
                    self.refused += u64::from(!had_key);
                    self.complain(format!("a viewer: {why}"));
                    return self.leave(index);
                }
            }
            if !had_key && key_began.is_none() {
                key_began = judge.first_key().map(|(_, bytes)| position.saturating_sub(bytes as u64));
            }
        }
        if let (Some((key, _)), Some(began)) = (judge.first_key(), key_began) {
            self.first_keys.record(key.since(viewer.joined));
            let arrival = viewer.arrivals.iter().find(|(bytes, _)| *bytes > began);
            self.first_bytes.record(arrival.map_or(key, |(_, at)| *at).since(viewer.joined));
            viewer.arrivals = Vec::new();
            if viewer.kind != Kind::Parse {
                viewer.talk = None;
                viewer.state = State::Leaving(socket);
                self.ring.stop_receive(socket);
                return;
            }
        }
        send(&mut self.ring, socket, viewer.out.next());
    }

    /// A socket that fails says so again when it is read.
    fn viewer_sent(&mut self, index: usize, socket: SocketId, taken: usize) {
        let viewer = &mut self.viewers[index];
        let next = viewer.out.sent(taken);
        if matches!(viewer.state, State::Ring(_) | State::Meeting(_)) {
            send(&mut self.ring, socket, next);
        } else if matches!(viewer.state, State::Leaving(_)) && !self.ring.is_receiving(socket) {
            self.let_go(index, socket);
        }
    }

    /// Takes a viewer off the ring, when nothing of it is in flight any more.
    fn let_go(&mut self, index: usize, socket: SocketId) {
        if self.ring.is_sending(socket) || self.ring.is_receiving(socket) {
            return;
        }
        self.owners.remove(&socket);
        let viewer = &mut self.viewers[index];
        let Some(descriptor) = self.ring.take(socket) else {
            viewer.state = State::Gone;
            return;
        };
        viewer.state = State::Off(descriptor);
        if viewer.kind != Kind::Stall {
            self.drained.push_back(index);
        }
        if viewer.kind == Kind::Drain {
            self.replaceable.push_back(index);
        }
    }

    fn lost(&mut self, index: usize, why: &str) {
        match self.viewers[index].kind {
            Kind::Stall | Kind::Slow => self.closed_for_slowness += 1,
            Kind::Parse | Kind::Drain if self.viewers[index].is_playing() => {
                self.disconnected += 1;
                self.complain(why.to_owned());
            }
            Kind::Parse | Kind::Drain => {
                self.refused += 1;
                self.complain(format!("{why} before its first key frame"));
            }
        }
        self.leave(index);
    }

    fn leave(&mut self, index: usize) {
        match std::mem::replace(&mut self.viewers[index].state, State::Gone) {
            State::Ring(id) | State::Leaving(id) => {
                self.owners.remove(&id);
                self.ring.close(id);
            }
            State::Asking(asking) => {
                for socket in asking.sockets() {
                    self.owners.remove(&socket);
                    self.ring.close(socket);
                }
            }
            State::Calling(mut line) => line.part(now()),
            State::Meeting(mut meeting) => {
                meeting.whep.part(now());
                if let Some(id) = meeting.asks {
                    self.owners.remove(&id);
                    self.ring.close(id);
                }
            }
            State::Off(_) | State::Gone => {}
        }
        self.viewers[index].talk = None;
    }

    fn complain(&mut self, what: String) {
        const TOLD_MAX: usize = 5;
        if self.trouble.len() < TOLD_MAX && !self.trouble.contains(&what) {
            self.trouble.push(what);
        }
    }
}

impl Viewer {
    fn is_playing(&self) -> bool {
        !matches!(self.state, State::Gone)
            && (self.judge.first_key().is_some() || (self.unparsed && self.bytes > 0))
    }
}

fn send(ring: &mut Ring, id: SocketId, bytes: Option<Bytes>) {
    if let Some(bytes) = bytes {
        ring.send(id, bytes);
    }
}

fn now() -> Now {
    Now(clock::monotonic())
}

fn url_of(door: &str, stream: &str) -> Result<Url, String> {
    let text = door.replace("{stream}", stream);
    Url::parse(&text).ok_or_else(|| format!("{text} is no URL with a port"))
}

fn connect(url: &Url) -> io::Result<OwnedFd> {
    let address: SocketAddr =
        url.address.to_socket_addrs()?.next().ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("{} has no address", url.address))
        })?;
    let socket = TcpStream::connect_timeout(&address, CONNECT_MAX)?;
    tcp::configure(socket.as_fd(), &tcp::SocketOptions::default())?;
    Ok(socket.into())
}

/// What an RTMP client is told of a URL, and the name that the engine knows the stream by.
fn target_of(url: &Url) -> Result<(Target, StreamName), String> {
    let path = url.path.trim_start_matches('/');
    let (app, stream) = path.split_once('/').ok_or_else(|| format!("{path} is not APP/STREAM"))?;
    let name = StreamName::new(app, stream).map_err(|error| error.to_string())?;
    let target = Target {
        tc_url: format!("{}://{}/{app}", url.scheme, url.address),
        app: app.to_owned(),
        stream: stream.to_owned(),
    };
    Ok((target, name))
}
