//! One core's loop: the hub, the ring, the lanes, and one sleep.
//!
//! Each round drains the lanes, lets the hub do what is due, pumps what it wants sent through the ring a hundred sends at
//! a time, and hands back what the kernel says. Then it sleeps once, for whatever comes first: the doorbell, a deadline,
//! the ring. No protocol is known here; a door is a row of the engine's table.

use std::{
    collections::{HashMap, VecDeque},
    future::{Future, poll_fn},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use glommio::timer::Timer;
use shardcast_engine::{
    hub::{ConnectionId, Hub, Input, Lost, Notice, Output},
    limits::DoorLimits,
    protocol::Protocol,
    settings::Settings,
    stats::DoorStats,
    time::{Now, Wall},
};
use shardcast_io::{
    clock,
    ring::{Completion, End, Ring, RingConfig, SocketId},
    tcp,
};

use crate::{
    control::link::{Port, Report, Request},
    disk::{Disk, Recordings},
    mesh::{Mail, Mesh},
};

/// Sends that are queued before the ring is entered and other tasks get their turn: 1000 viewers in one go would be six
/// milliseconds.
const SENDS_PER_ENTER: usize = 128;
/// How often receives are harvested while many come: a wake costs more than a receive.
const HARVEST_TICK: Duration = Duration::from_millis(4);
/// Wakes by the ring within [`HARVEST_WINDOW`] that make the loop harvest on the tick instead, and below which it goes
/// back. At this rate both cost the same.
const HARVEST_WAKES: u32 = 20;
const HARVEST_WINDOW: Duration = Duration::from_millis(80);
/// With a deadline nearer than this the bell is not armed: what comes by a lane waits for the deadline, and its producer
/// saves the system call.
const NEAR: Duration = Duration::from_millis(50);
/// How long accepting rests after it failed for want of descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(200);
/// How often a door says that accepting failed. It is tried five times a second, and goes on for as long as the crowd.
const ACCEPT_ALARM_INTERVAL: Duration = Duration::from_secs(60);
/// How long a closed connection may take to hear the last word. Closing at once would reset it when bytes of its own are
/// still unread here, and the reset can overtake the word.
const LINGER: Duration = Duration::from_millis(500);

/// What a shard is made of.
pub struct ShardParts {
    /// Its lanes to the others.
    pub mesh: Mesh,
    /// Its listeners, one per door.
    pub doors: Vec<(Protocol, TcpListener)>,
    /// Where the control thread reaches it.
    pub port: Port,
    /// What the operator chose.
    pub settings: Arc<Settings>,
    /// Where recordings go.
    pub recordings: Option<Recordings>,
    /// Where its log lines go. Must not block.
    pub notices: Box<dyn Fn(Notice) + Send>,
    /// Cores of the node.
    pub cores: u16,
    /// A publisher that lives in this process, if this shard hosts one.
    pub guest: Option<Protocol>,
}

/// One core's loop.
pub struct Shard {
    hub: Hub,
    ring: Ring,
    mesh: Mesh,
    disk: Option<Disk>,
    doors: Vec<Door>,
    port: Port,
    settings: Arc<Settings>,
    notices: Box<dyn Fn(Notice) + Send>,
    cores: u16,
    /// By slot: who is there.
    peers: Vec<Option<Peer>>,
    lingering: VecDeque<(Now, SocketId)>,
    /// The far ends of conversations without a peer, kept so that they do not end.
    hosted: Vec<OwnedFd>,
    resting_doors: Vec<(Now, usize)>,
    refused: u64,
    rounds: u64,
    draining: bool,
}

struct Door {
    protocol: Protocol,
    connections: usize,
    accepted: u64,
    refused: u64,
    by_address: HashMap<IpAddr, usize>,
    /// When it last said that accepting failed.
    alarmed: Option<Now>,
}

struct Peer {
    id: SocketId,
    door: usize,
    address: IpAddr,
    /// What the hub knows of it.
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The hub talks to it.
    Open,
    /// It will move; the hub waits for its receive to end.
    Quieting,
    /// The hub has forgotten it; it may still read the last word.
    Lingering,
}

impl Shard {
    /// Builds the shard on the thread that will run it.
    ///
    /// # Errors
    /// The ring could not be made.
    pub fn new(parts: ShardParts) -> io::Result<Shard> {
        let ShardParts { mesh, doors, port, settings, recordings, notices, cores, guest } = parts;
        let mut ring = Ring::new(&RingConfig::default())?;
        let mut rows = Vec::new();
        for (index, (protocol, listener)) in doors.into_iter().enumerate() {
            ring.listen(listener, index as u64);
            rows.push(Door {
                protocol,
                connections: 0,
                accepted: 0,
                refused: 0,
                by_address: HashMap::new(),
                alarmed: None,
            });
        }
        let disk = recordings.map(|recordings| Disk::new(recordings, mesh.bell().clone())).transpose()?;
        let hub = Hub::new(mesh.core(), cores, settings.clone());
        let mut shard = Shard {
            hub,
            ring,
            disk,
            mesh,
            doors: rows,
            port,
            settings,
            notices,
            cores,
            peers: Vec::new(),
            lingering: VecDeque::new(),
            hosted: Vec::new(),
            resting_doors: Vec::new(),
            refused: 0,
            rounds: 0,
            draining: false,
        };
        if let Some(protocol) = guest {
            shard.host(&protocol, shard.clock());
        }
        Ok(shard)
    }

    /// Runs until it is told to end.
    ///
    /// # Errors
    /// The ring failed: nothing can be done on this core any more.
    pub async fn run(mut self) -> io::Result<()> {
        let mut harvest = Harvest::new();
        loop {
            let now = self.clock();
            self.rounds += 1;
            self.hub.set_wall(Wall(clock::wall()), now);
            self.take_mail(now);
            self.take_requests(now);
            self.take_disk(now);
            self.take_due(now);
            self.pump().await?;
            self.mesh.ring();
            if self.draining && self.hub.is_drained() && self.lingering.is_empty() {
                return Ok(());
            }
            let now = self.clock();
            let mut deadline = self.deadline();
            if harvest.ticking {
                let tick = now.after(HARVEST_TICK);
                deadline = Some(deadline.map_or(tick, |deadline| deadline.min(tick)));
            }
            let woken = self.sleep(!harvest.ticking, deadline, now).await;
            harvest.note(woken, self.ring.stats().receives, self.clock());
        }
    }

    /// The one sleep.
    async fn sleep(&mut self, for_ring: bool, deadline: Option<Now>, now: Now) -> Woken {
        if self.ring.pending() > 0 || deadline.is_some_and(|deadline| deadline <= now) {
            // There is more to do; the others get their turn first.
            glommio::executor().yield_task_queue_now().await;
            return Woken::Time;
        }
        let pause = deadline.map(|deadline| deadline.since(now));
        let mut timer = pause.map(Timer::new);
        let near = pause.is_some_and(|pause| pause <= NEAR);
        let (mesh, port, disk, ring) = (&self.mesh, &self.port, &self.disk, &mut self.ring);
        let mut ring_wait = pin!(async {
            if for_ring && ring.in_flight() {
                ring.ready().await;
            } else {
                std::future::pending::<()>().await;
            }
        });
        let woken = poll_fn(|context| {
            if ring_wait.as_mut().poll(context).is_ready() {
                return Poll::Ready(Woken::Ring);
            }
            if timer.as_mut().is_some_and(|timer| Pin::new(timer).poll(context).is_ready()) {
                return Poll::Ready(Woken::Time);
            }
            if near {
                return Poll::Pending;
            }
            mesh.bell()
                .arm(context, || {
                    mesh.has_mail() || !port.is_empty() || disk.as_ref().is_some_and(Disk::has_replies)
                })
                .map(|()| Woken::Bell)
        })
        .await;
        self.mesh.bell().disarm();
        woken
    }

    fn clock(&self) -> Now {
        Now(clock::monotonic())
    }

    fn take_mail(&mut self, now: Now) {
        while let Some((mail, from)) = self.mesh.take() {
            match mail {
                Mail::Word(message) => self.hub.handle(Input::Mail(message, from), now),
                Mail::Connection(parcel, socket) => match self.ring.add(socket) {
                    Ok(id) => {
                        let door = self.doors.iter().position(|door| door.protocol.name == parcel.door);
                        let connection = self.enter(id, door.unwrap_or(0), parcel.peer.ip());
                        self.hub.handle(Input::Adopted { connection, parcel }, now);
                        self.ring.receive(id);
                    }
                    // No room: dropping the descriptor closes it, and its publisher comes again.
                    Err(_) => self.refused += 1,
                },
            }
        }
    }

    fn take_requests(&mut self, now: Now) {
        while let Some(request) = self.port.try_next() {
            match request {
                // Whoever asked may have stopped waiting.
                Request::Report(answer) => drop(answer.send(self.report())),
                Request::Settings(settings) => {
                    self.settings = settings.clone();
                    self.hub.handle(Input::Settings(settings), now);
                }
                Request::Drain => {
                    self.draining = true;
                    for door in 0..self.doors.len() {
                        self.ring.stop_listening(door as u64);
                    }
                    self.resting_doors.clear();
                    self.hub.handle(Input::Drain, now);
                }
            }
        }
    }

    fn report(&self) -> Report {
        let mut stats = self.hub.stats();
        stats.connections_refused += self.refused + self.doors.iter().map(|door| door.refused).sum::<u64>();
        stats.rounds = self.rounds;
        stats.cpu_nanoseconds = clock::thread_cpu();
        let ring = self.ring.stats();
        stats.sends_short = ring.sends_short;
        stats.receives = ring.receives;
        stats.receives_starved = ring.receives_starved;
        stats.ring_enters = ring.enters;
        let doors = self.doors.iter().map(|door| DoorStats {
            name: door.protocol.name,
            connections: door.connections as u64,
            accepted: door.accepted,
            refused: door.refused,
        });
        Report { stats, doors: doors.collect(), streams: self.hub.streams() }
    }

    /// What the disk has done, for the recorders.
    fn take_disk(&mut self, now: Now) {
        if let Some(disk) = &mut self.disk {
            disk.take_replies(&mut self.ring, &*self.notices);
        }
        self.take_answers(now);
    }

    fn take_answers(&mut self, now: Now) {
        while let Some((recording, answer)) = self.disk.as_mut().and_then(Disk::answer) {
            self.hub.handle(Input::Recorded { recording, answer }, now);
        }
    }

    /// Deadlines that have come.
    fn take_due(&mut self, now: Now) {
        if self.hub.deadline().is_some_and(|deadline| deadline <= now) {
            self.hub.handle(Input::Timeout, now);
        }
        while let Some((_, id)) = self.lingering.front().copied().filter(|(due, _)| *due <= now) {
            self.lingering.pop_front();
            self.forget(id);
        }
        let resting = std::mem::take(&mut self.resting_doors);
        for (due, door) in resting {
            if due <= now {
                self.ring.resume_accept(door as u64);
            } else {
                self.resting_doors.push((due, door));
            }
        }
        self.mesh.push_waiting();
    }

    /// When to look again if nothing happens before.
    fn deadline(&mut self) -> Option<Now> {
        let lingering = self.lingering.front().map(|(due, _)| *due);
        let resting = self.resting_doors.iter().map(|(due, _)| *due).min();
        let waiting = self.mesh.push_waiting().then(|| self.clock().after(HARVEST_TICK));
        [self.hub.deadline(), lingering, resting, waiting].into_iter().flatten().min()
    }

    /// Gives the ring what the hub wants done and the hub what the ring says, until neither has more.
    async fn pump(&mut self) -> io::Result<()> {
        loop {
            let now = self.clock();
            let mut sends = 0;
            while sends < SENDS_PER_ENTER {
                let Some(output) = self.hub.poll(now) else { break };
                sends += usize::from(matches!(output, Output::Send { .. }));
                self.act(output, now);
            }
            self.ring.submit()?;
            let mut completions = 0;
            while let Some(completion) = self.ring.next() {
                completions += 1;
                self.complete(completion, now);
                // Receives can come faster than they are worked off; sends must not wait for the last of them.
                if completions == 4 * SENDS_PER_ENTER {
                    break;
                }
            }
            if sends == 0 && completions == 0 && self.ring.pending() == 0 {
                return Ok(());
            }
            if sends == SENDS_PER_ENTER || completions >= SENDS_PER_ENTER {
                self.mesh.ring();
                glommio::executor().yield_task_queue_now().await;
            }
        }
    }

    fn act(&mut self, output: Output, now: Now) {
        match output {
            Output::Send { connection, bytes } => {
                if let Some(id) = self.socket(connection) {
                    self.ring.send(id, bytes);
                }
            }
            Output::Close { connection } => self.close(connection, now),
            Output::Quiet { connection } => {
                if let Some(peer) = self.peer(connection) {
                    peer.stage = Stage::Quieting;
                    let id = peer.id;
                    self.ring.stop_receive(id);
                }
            }
            Output::Move { connection, to, parcel } => {
                let Some(peer) = self.leave(connection) else { return };
                if let Some(socket) = self.ring.take(peer.id) {
                    self.mesh.send_connection(parcel, socket, to);
                }
            }
            Output::Mail(message, to) => {
                if let Err(message) = self.mesh.send(message, to) {
                    self.hub.handle(Input::Undelivered(message, to), now);
                }
            }
            Output::Notice(notice) => (self.notices)(notice),
            Output::Record { recording, task } => {
                if let Some(disk) = &mut self.disk {
                    disk.task(recording, task, &mut self.ring);
                }
            }
        }
    }

    fn complete(&mut self, completion: Completion, now: Now) {
        match completion {
            Completion::Accepted { token, socket } => self.accepted(token as usize, socket, now),
            Completion::AcceptStopped { token, error } => {
                if let Some(error) = error {
                    self.accept_failed(token as usize, &error, now);
                }
            }
            Completion::Received { socket, bytes } => {
                let connection = connection_of(socket);
                if self.peer(connection).is_some_and(|peer| peer.stage != Stage::Lingering) {
                    self.hub.handle(Input::Received { connection, bytes: &bytes }, now);
                }
            }
            Completion::ReceiveEnded { socket, how } => self.receive_ended(socket, how, now),
            Completion::Sent { socket, result } => {
                let result = result.map_err(|error| Lost::Failed(word_for(&error)));
                let connection = connection_of(socket);
                if self.peer(connection).is_some_and(|peer| peer.stage != Stage::Lingering) {
                    self.hub.handle(Input::Sent { connection, result }, now);
                }
            }
            Completion::Written { .. } | Completion::Synced { .. } | Completion::Allocated { .. } => {
                if let Some(disk) = &mut self.disk {
                    disk.complete(completion, &mut self.ring);
                }
                self.take_answers(now);
            }
        }
    }

    fn accepted(&mut self, door: usize, socket: OwnedFd, now: Now) {
        let Ok(peer) = tcp::peer_address(socket.as_fd()) else { return };
        let DoorLimits { connections, connections_per_address, .. } = self.settings.doors;
        // Each core admits its share; the kernel spreads connections evenly over the listeners.
        let share = |limit: usize| limit.div_ceil(usize::from(self.cores));
        let row = &mut self.doors[door];
        let from_there = row.by_address.get(&peer.ip()).copied().unwrap_or(0);
        let full = row.connections >= share(connections) || from_there >= share(connections_per_address);
        if full || self.draining {
            row.refused += 1;
            return;
        }
        let open = row.protocol.open;
        let name = row.protocol.name;
        match self.ring.add(socket) {
            Ok(id) => {
                row.accepted += 1;
                let connection = self.enter(id, door, peer.ip());
                let session = open(&self.settings.doors, now);
                self.hub.handle(Input::Connected { connection, door: name, peer, session }, now);
                self.ring.receive(id);
            }
            Err(_) => row.refused += 1,
        }
    }

    /// A conversation without a peer gets a socket whose other end nobody holds a word for: everything else about it is
    /// like any other connection.
    fn host(&mut self, protocol: &Protocol, now: Now) {
        let Ok((ours, theirs)) = UnixStream::pair() else { return };
        self.hosted.push(theirs.into());
        if let Ok(id) = self.ring.add(ours.into()) {
            let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let connection = self.enter(id, usize::MAX, peer.ip());
            let session = (protocol.open)(&self.settings.doors, now);
            self.hub.handle(Input::Connected { connection, door: protocol.name, peer, session }, now);
            self.ring.receive(id);
        }
    }

    fn accept_failed(&mut self, door: usize, error: &io::Error, now: Now) {
        // Descriptors are exhausted, as a rule. Trying again at once would spin; closing connections helps, time does.
        if self.resting_doors.iter().all(|(_, resting)| *resting != door) {
            self.resting_doors.push((now.after(ACCEPT_REST), door));
        }
        let told = &mut self.doors[door].alarmed;
        if told.is_some_and(|told| now.since(told) < ACCEPT_ALARM_INTERVAL) {
            return;
        }
        *told = Some(now);
        let text = format!("cannot accept, and tries again each {} ms: {error}", ACCEPT_REST.as_millis());
        (self.notices)(Notice {
            level: shardcast_engine::hub::Level::Alarm,
            peer: None,
            door: self.doors[door].protocol.name,
            stream: None,
            text,
            at: None,
        });
    }

    fn receive_ended(&mut self, socket: SocketId, how: End, now: Now) {
        let connection = connection_of(socket);
        let Some(peer) = self.peer(connection) else { return };
        match (peer.stage, how) {
            (Stage::Lingering, _) => {
                self.lingering.retain(|(_, id)| *id != socket);
                self.forget(socket);
            }
            (Stage::Quieting, End::Cancelled) => self.hub.handle(Input::Quiet { connection }, now),
            (_, End::Cancelled) => {}
            (_, End::Eof) => self.hub.handle(Input::Closed { connection, how: Lost::Eof }, now),
            (_, End::Failed(error)) => {
                let how = Lost::Failed(word_for(&error));
                self.hub.handle(Input::Closed { connection, how }, now);
            }
        }
    }

    /// The hub has forgotten the connection. The peer may read what was sent, but not for long.
    fn close(&mut self, connection: ConnectionId, now: Now) {
        let Some(peer) = self.peer(connection) else { return };
        let id = peer.id;
        peer.stage = Stage::Lingering;
        if self.ring.is_receiving(id) && self.ring.finish(id).is_ok() {
            self.lingering.push_back((now.after(LINGER), id));
        } else {
            self.forget(id);
        }
    }

    fn enter(&mut self, id: SocketId, door: usize, address: IpAddr) -> ConnectionId {
        let connection = connection_of(id);
        let slot = connection.slot as usize;
        if self.peers.len() <= slot {
            self.peers.resize_with(slot + 1, || None);
        }
        self.peers[slot] = Some(Peer { id, door, address, stage: Stage::Open });
        if let Some(door) = self.doors.get_mut(door) {
            door.connections += 1;
            *door.by_address.entry(address).or_default() += 1;
        }
        connection
    }

    fn leave(&mut self, connection: ConnectionId) -> Option<Peer> {
        let slot = self.peers.get_mut(connection.slot as usize)?;
        let peer = slot.take_if(|peer| connection_of(peer.id) == connection)?;
        if let Some(door) = self.doors.get_mut(peer.door) {
            door.connections -= 1;
            if let Some(count) = door.by_address.get_mut(&peer.address) {
                *count -= 1;
                if *count == 0 {
                    door.by_address.remove(&peer.address);
                }
            }
        }
        Some(peer)
    }

    fn forget(&mut self, id: SocketId) {
        self.leave(connection_of(id));
        self.ring.close(id);
    }

    fn peer(&mut self, connection: ConnectionId) -> Option<&mut Peer> {
        let peer = self.peers.get_mut(connection.slot as usize)?.as_mut()?;
        (connection_of(peer.id) == connection).then_some(peer)
    }

    fn socket(&mut self, connection: ConnectionId) -> Option<SocketId> {
        self.peer(connection).map(|peer| peer.id)
    }
}

/// The hub's number for a socket of the ring.
fn connection_of(id: SocketId) -> ConnectionId {
    let (slot, generation) = id.parts();
    ConnectionId { slot, generation }
}

/// A word for what a socket's error means, for the log.
fn word_for(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionReset => "reset by the peer",
        io::ErrorKind::BrokenPipe => "the peer reads no more",
        io::ErrorKind::TimedOut => "the network timed out",
        _ => "the socket failed",
    }
}

/// What ended a sleep.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Woken {
    Ring,
    Time,
    Bell,
}

/// Decides whether receives are taken as they come or on a tick.
struct Harvest {
    ticking: bool,
    window_began: Now,
    wakes: u32,
    receives: u64,
}

impl Harvest {
    fn new() -> Self {
        Harvest { ticking: false, window_began: Now(0), wakes: 0, receives: 0 }
    }

    fn note(&mut self, woken: Woken, receives: u64, now: Now) {
        self.wakes += u32::from(woken == Woken::Ring);
        if now.since(self.window_began) < HARVEST_WINDOW {
            return;
        }
        // In a window: waking for each event at least as often as the tick would, or receiving at least that often.
        let came = receives - self.receives;
        self.ticking =
            if self.ticking { came >= u64::from(HARVEST_WAKES) } else { self.wakes >= HARVEST_WAKES };
        (self.window_began, self.wakes, self.receives) = (now, 0, receives);
    }
}
