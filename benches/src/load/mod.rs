//! The load: publishers and viewers of one scenario, on one thread and one ring.
//!
//! Publishers are paced to the microsecond and say how late they were. Every viewer parses what it is sent up to its
//! first key frame. Then a few go on parsing, and are woken for each byte; the others leave the ring, and the kernel is
//! told fifty times a second to throw away what has come for them, which costs next to nothing.

mod judge;
mod outbox;
mod publisher;
mod viewer;

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use bytes::Bytes;
use shardcast_engine::{media::StreamName, rtmp::client::Target, time::Now};
use shardcast_io::{
    clock,
    ring::{Completion, Ring, RingConfig, SocketId},
    tcp,
};

pub use judge::{Findings, Judge};
use outbox::Outbox;
pub use publisher::Publisher;
pub use viewer::{HttpFlv, Talk};

use crate::{
    clip::{Clip, Playback},
    histogram::Histogram,
    outcome::{Checks, LoadSide, Traffic, Viewers},
    scenario::{Door, Scenario},
    server::{Doors, Floor, Url},
};

/// How often what has come for a drained viewer is thrown away.
const DRAIN_INTERVAL: Duration = Duration::from_millis(20);
/// The longest sleep.
const SLEEP_MAX: Duration = Duration::from_millis(5);
/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// More than one read takes from a socket.
const DISCARD_BYTES: usize = 1 << 30;
/// What a viewer may have been delivered less than the luckiest one of its stream because of when the window began and
/// ended for it.
const SKEW: Duration = Duration::from_millis(500);

/// The load of one run.
pub struct Load {
    ring: Ring,
    owners: HashMap<SocketId, Owner>,
    publishers: Vec<(Publisher, SocketId)>,
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
    lateness: Histogram,
    rounds: Histogram,
    first_keys: Histogram,
    drained_at: Now,
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
}

/// Joins that are due.
struct Joining {
    began: Now,
    joined: usize,
}

/// What stood where when the window began.
struct Window {
    began: Now,
    delivered: u64,
    published_frames: u64,
    published_bytes: u64,
    held: u64,
    cpu: u64,
    disconnected: u64,
    closed_for_slowness: u64,
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
    /// Its bytes when the window began; `None` for one that came later.
    bytes_at_window: Option<u64>,
}

enum State {
    /// On the ring.
    Ring(SocketId),
    /// Leaving the ring.
    Leaving(SocketId),
    /// Off the ring.
    Off(OwnedFd),
    Gone,
}

/// What one run's load has to say.
#[derive(Clone, Debug)]
pub struct Report {
    /// Length of the window.
    pub seconds: f64,
    /// What was published and delivered.
    pub traffic: Traffic,
    /// Who watched.
    pub viewers: Viewers,
    /// From connecting to the first key frame.
    pub first_key: Histogram,
    /// From publisher to viewer.
    pub latency: Histogram,
    /// What viewers that parse found.
    pub checks: Checks,
    /// How well time was kept.
    pub load: LoadSide,
    /// The first few things that went wrong, in words.
    pub trouble: Vec<String>,
}

impl Load {
    /// The load of `plan` against a server at `doors`. Nothing is connected yet.
    ///
    /// # Errors
    /// The ring cannot be made, or the clip not be brought to the bit rate.
    pub fn new(plan: Scenario, doors: Doors, floor: Floor, clip: &Clip) -> Result<Load, String> {
        let clip = clip.at_bitrate(plan.publish.bitrate)?;
        let config = RingConfig { receive_buffers: 1024, write_buffer_bytes: 0, ..RingConfig::default() };
        let ring = Ring::new(&config).map_err(|error| format!("the load's ring: {error}"))?;
        let streams = (0..plan.publish.streams).map(|index| format!("bench{index}")).collect();
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
            lateness: Histogram::default(),
            rounds: Histogram::default(),
            first_keys: Histogram::default(),
            drained_at: Now(clock::monotonic()),
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
        let door = self.doors.publish.clone().ok_or("the server has no door to publish by")?;
        // Key frames of many publishers do not fall together in life either.
        let spread = Duration::from_millis(2000 / self.streams.len().max(1) as u64);
        for index in 0..self.streams.len() {
            let url = url_of(&door, &self.streams[index])?;
            let socket = connect(&url).map_err(|error| format!("{}: {error}", url.address))?;
            let stagger = spread * u32::try_from(index).unwrap_or(0);
            let playback = Playback::new(self.clip.clone());
            let mut publisher = Publisher::new(&url, playback, stagger, now())?;
            let id = self.ring.add(socket).map_err(|(_, error)| error.to_string())?;
            self.ring.receive(id);
            send(&mut self.ring, id, publisher.next());
            self.owners.insert(id, Owner::Publisher(self.publishers.len()));
            self.publishers.push((publisher, id));
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

    /// What is measured begins.
    pub fn begin_window(&mut self) {
        self.drain_all();
        for viewer in &mut self.viewers {
            viewer.bytes_at_window = Some(viewer.bytes);
        }
        self.findings.latency = Histogram::default();
        self.findings.second = Histogram::default();
        self.lateness = Histogram::default();
        self.rounds = Histogram::default();
        self.churned = Some(now());
        self.window = Some(Window {
            began: now(),
            delivered: self.delivered,
            published_frames: self.published(|publisher| publisher.frames),
            published_bytes: self.published(|publisher| publisher.bytes),
            held: self.published(|publisher| publisher.held),
            cpu: clock::thread_cpu(),
            disconnected: self.disconnected,
            closed_for_slowness: self.closed_for_slowness,
        });
    }

    /// What is measured ends.
    ///
    /// # Panics
    /// When it has not begun.
    pub fn end_window(&mut self) -> Report {
        self.drain_all();
        let window = self.window.take().expect("a window that ends has begun");
        let seconds = now().since(window.began).as_secs_f64();
        let delivered = self.delivered - window.delivered;
        self.look_at_stalled();
        let count = |kind: Kind| self.viewers.iter().filter(|viewer| viewer.kind == kind).count() as u64;
        let mut checks = self.findings.checks.clone();
        checks.viewers = count(Kind::Parse);
        Report {
            seconds,
            traffic: Traffic {
                publishers: self.publishers.iter().filter(|(publisher, _)| publisher.is_publishing()).count()
                    as u64,
                published_frames: self.published(|publisher| publisher.frames) - window.published_frames,
                published_bytes: self.published(|publisher| publisher.bytes) - window.published_bytes,
                delivered_bytes: delivered,
                delivered_gbit_per_second: delivered as f64 * 8.0 / 1e9 / seconds,
                missing_bytes: self.missing_bytes(),
            },
            viewers: Viewers {
                asked: self.plan.watch.viewers as u64,
                joined: self.viewers.len() as u64,
                playing: self.playing(),
                parsing: count(Kind::Parse),
                stalling: count(Kind::Stall),
                slow: count(Kind::Slow),
                refused: self.refused,
                disconnected: self.disconnected - window.disconnected,
                closed_for_slowness: self.closed_for_slowness - window.closed_for_slowness,
            },
            first_key: self.first_keys.clone(),
            latency: self.findings.latency.clone(),
            checks,
            load: LoadSide {
                cpu_share: (clock::thread_cpu() - window.cpu) as f64 / 1e9 / seconds,
                publisher_lateness: self.lateness.quantiles(),
                publisher_held: self.published(|publisher| publisher.held) - window.held,
                round: self.rounds.quantiles(),
                others_share: 0.0,
            },
            trouble: self.trouble.clone(),
        }
    }

    /// One round: what is due, what has come, and a sleep until more is due or comes.
    ///
    /// # Errors
    /// The ring failed, or a publisher was lost: the run means nothing.
    pub fn turn(&mut self) -> Result<(), String> {
        let began = now();
        self.join_due(began)?;
        self.churn_due(began)?;
        self.publish_due(began);
        self.ring.submit().map_err(|error| error.to_string())?;
        while let Some(completion) = self.ring.next() {
            self.complete(completion)?;
        }
        self.drain_due(now());
        let over = now();
        self.rounds.record(over.since(began));
        let pause = self.pause(over);
        if self.ring.pending() > 0 || pause.is_zero() {
            return self.ring.submit().map_err(|error| error.to_string());
        }
        self.ring.wait(pause).map_err(|error| error.to_string())
    }

    fn pause(&self, now: Now) -> Duration {
        let frames = self.publishers.iter().filter_map(|(publisher, _)| publisher.due());
        let next = frames.chain(self.next_join()).min();
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
        let door = match self.plan.watch.by {
            Door::Rtmp => &self.doors.rtmp,
            Door::HttpFlv => &self.doors.http_flv,
        };
        let door = door.as_ref().ok_or("the server has no door of the scenario's kind for viewers")?;
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
            bytes_at_window: None,
        };
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
                let (talk, first) = Talk::new(&url, joined)?;
                let id = self.ring.add(socket).map_err(|(_, error)| error.to_string())?;
                viewer.out.waiting().extend_from_slice(&first);
                self.ring.receive(id);
                send(&mut self.ring, id, viewer.out.next());
                viewer.talk = Some(talk);
                viewer.state = State::Ring(id);
                self.owners.insert(id, Owner::Viewer(index));
            }
        }
        self.viewers.push(viewer);
        Ok(())
    }

    fn publish_due(&mut self, now: Now) {
        for (publisher, id) in &mut self.publishers {
            if publisher.due().is_none_or(|due| due > now) {
                continue;
            }
            publisher.work(now, &mut self.lateness);
            send(&mut self.ring, *id, publisher.next());
        }
    }

    fn complete(&mut self, completion: Completion) -> Result<(), String> {
        match completion {
            Completion::Received { socket, bytes } => match self.owners.get(&socket) {
                Some(Owner::Publisher(index)) => {
                    let (publisher, id) = &mut self.publishers[*index];
                    publisher.received(&bytes, now()).map_err(|why| format!("a publisher: {why}"))?;
                    send(&mut self.ring, *id, publisher.next());
                }
                Some(Owner::Viewer(index)) => self.viewer_received(*index, socket, &bytes),
                None => {}
            },
            Completion::Sent { socket, result } => match (self.owners.get(&socket), result) {
                (Some(Owner::Publisher(index)), Ok(taken)) => {
                    let (publisher, id) = &mut self.publishers[*index];
                    let next = publisher.sent(taken);
                    send(&mut self.ring, *id, next);
                }
                (Some(Owner::Publisher(_)), Err(error)) => {
                    return Err(format!("a publisher was cut off: {error}"));
                }
                (Some(Owner::Viewer(index)), result) => {
                    self.viewer_sent(*index, socket, result.unwrap_or(usize::MAX));
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
                None => {}
            },
            _ => {}
        }
        Ok(())
    }

    fn viewer_received(&mut self, index: usize, socket: SocketId, bytes: &[u8]) {
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
        match talk.received(bytes, moment, &mut |frame| judge.frame(frame, moment, findings)) {
            Ok(answer) => viewer.out.waiting().extend_from_slice(&answer),
            Err(why) => {
                self.findings.checks.unreadable += u64::from(had_key);
                self.refused += u64::from(!had_key);
                self.complain(format!("a viewer: {why}"));
                return self.leave(index);
            }
        }
        if !had_key && let Some(key) = judge.first_key() {
            self.first_keys.record(key.since(viewer.joined));
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
        if matches!(viewer.state, State::Ring(_)) {
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

    /// As many drained viewers as their turn is by now.
    fn drain_due(&mut self, now: Now) {
        let passed = now.since(self.drained_at);
        let share = passed.as_secs_f64() / DRAIN_INTERVAL.as_secs_f64();
        let count = (self.drained.len() as f64 * share.min(1.0)) as usize;
        if count == 0 {
            if self.drained.is_empty() {
                self.drained_at = now;
            }
            return;
        }
        self.drained_at = now;
        for _ in 0..count {
            let Some(index) = self.drained.pop_front() else { return };
            if self.drain(index) {
                self.drained.push_back(index);
            }
        }
    }

    fn drain_all(&mut self) {
        for _ in 0..self.drained.len() {
            let Some(index) = self.drained.pop_front() else { return };
            if self.drain(index) {
                self.drained.push_back(index);
            }
        }
    }

    /// Throws away what has come for a viewer; false when it is gone.
    fn drain(&mut self, index: usize) -> bool {
        let viewer = &mut self.viewers[index];
        let State::Off(socket) = &viewer.state else { return false };
        let most = match viewer.kind {
            Kind::Slow => {
                // Half of what its stream has had since it joined.
                let time = now().since(viewer.joined).as_secs_f64();
                let due = (time * self.plan.publish.bitrate as f64 / 16.0) as u64;
                usize::try_from(due.saturating_sub(viewer.bytes)).unwrap_or(0)
            }
            _ => DISCARD_BYTES,
        };
        if most == 0 {
            return true;
        }
        match tcp::discard(socket.as_fd(), most) {
            Ok(0) => {
                self.lost(index, "the server has closed a viewer");
                false
            }
            Ok(taken) => {
                viewer.bytes += taken as u64;
                self.delivered += taken as u64;
                true
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                true
            }
            Err(error) => {
                self.lost(index, &format!("a viewer was cut off: {error}"));
                false
            }
        }
    }

    /// Whether those that stall were closed can only be seen by reading.
    fn look_at_stalled(&mut self) {
        for index in 0..self.viewers.len() {
            if self.viewers[index].kind != Kind::Stall {
                continue;
            }
            loop {
                let before = self.delivered;
                if !self.drain(index) || self.delivered == before {
                    break;
                }
            }
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

    fn published(&self, number: impl Fn(&Publisher) -> u64) -> u64 {
        self.publishers.iter().map(|(publisher, _)| number(publisher)).sum()
    }

    /// What healthy viewers that were there for the whole window are short of, against the one of their stream that was
    /// delivered most.
    fn missing_bytes(&self) -> u64 {
        let healthy = |viewer: &&Viewer| {
            matches!(viewer.kind, Kind::Parse | Kind::Drain) && !matches!(viewer.state, State::Gone)
        };
        let mut most = vec![0; self.streams.len()];
        let delivered = |viewer: &Viewer| Some(viewer.bytes - viewer.bytes_at_window?);
        for viewer in self.viewers.iter().filter(healthy) {
            most[viewer.stream] = delivered(viewer).unwrap_or(0).max(most[viewer.stream]);
        }
        let skew = (self.plan.publish.bitrate as f64 / 8.0 * SKEW.as_secs_f64()) as u64;
        let short = |viewer: &Viewer| {
            let short = most[viewer.stream].saturating_sub(delivered(viewer)?);
            (short > skew).then_some(short)
        };
        // When they join within the window the first of them would be the measure of all others.
        if self.plan.time.join_within {
            return 0;
        }
        self.viewers.iter().filter(healthy).filter_map(short).sum()
    }
}

impl Viewer {
    fn is_playing(&self) -> bool {
        !matches!(self.state, State::Gone)
            && (self.judge.first_key().is_some() || (self.talk.is_none() && self.bytes > 0))
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
