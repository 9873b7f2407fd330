//! One core's loop: the hub, the ring, the lanes, and one sleep.
//!
//! Each round drains the lanes, lets the hub do what is due, pumps what it wants sent through the ring a hundred sends at
//! a time, and hands back what the kernel says. Then it sleeps once, for whatever comes first: the doorbell, a deadline,
//! the ring. No protocol is known here; a door is a row of the engine's table.

mod datagrams;
mod doors;
mod guests;
mod harvest;
mod intakes;
mod media;
mod relays;
mod requests;
mod secure;
mod signalled;
#[cfg(not(feature = "http"))]
mod single;
#[cfg(feature = "http")]
mod trunks;
mod turns;

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    io,
    net::{TcpListener, UdpSocket},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use glommio::timer::Timer;
use shardcast_engine::{
    hub::{ConnectionId, Hub, Input, Level, Notice, Output},
    media::StreamName,
    observe::StreamEvent,
    protocol::{Protocol, Transport},
    session::PortOffer,
    settings::Settings,
    stats::ShardStats,
    time::{Now, Wall},
    udp::Intake,
};
use shardcast_io::{
    cache, clock,
    ring::{Completion, Ring, RingConfig, SocketId},
};

pub use self::signalled::Call;
use self::{
    doors::{Door, Peer, Receives, Stage, connection_of},
    guests::next_look,
    harvest::{HARVEST_COMPLETIONS, Harvest, shortest_flush},
    intakes::Intakes,
    media::MediaPorts,
    relays::{OwnPorts, RELAY, Relays},
    signalled::Signalled,
};
use crate::{
    control::link::Port,
    disk::{Disk, Recordings},
    host::Guests,
    mesh::{Mail, Mesh},
    profile::{LoopStats, Woken},
    tls::{Certificate, Seal, Secured},
};

/// Sends that are queued before the ring is entered and other tasks get their turn: 1000 viewers in one go would be six
/// milliseconds.
const SENDS_PER_ENTER: usize = 128;
/// How far ahead of its turn the memory of a connection is fetched: each takes less than half of the time of a fetch.
const FETCH_AHEAD: usize = 3;
/// The same while somebody has just come in, who waits for one answer after the other and would wait for as many sends each
/// time.
const SENDS_PER_ENTER_GREETING: usize = 24;
/// With a deadline nearer than this the thread sleeps in the ring itself, and the bell is not armed: what comes by a lane
/// waits for the deadline, and its producer saves the system call.
const NEAR: Duration = Duration::from_millis(50);
/// Datagrams after which a round ends though the ring has more. They may come faster than they are worked off, without end; mail
/// and what is due get their turn all the same.
const DATAGRAMS_PER_ROUND: u64 = 1024;
/// How soon a full lane is tried again for a connection that waits for it.
const WAITING_LANE_RETRY: Duration = Duration::from_millis(4);
/// Where the peers of a door come in.
pub enum Listener {
    /// A connection each.
    Tcp(TcpListener),
    /// An address each.
    Udp(UdpSocket),
}

/// What a shard is made of.
pub struct ShardParts {
    /// Its lanes to the others.
    pub mesh: Mesh,
    /// Its doors, the same on all shards, and its own socket of each.
    pub doors: Vec<(Protocol, Listener)>,
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
    /// The built-in publisher, if it is this shard's.
    pub demo: Option<Protocol>,
    /// Publishers of the program that this node lives in, if it lives in one.
    pub guests: Option<Guests>,
    /// Which of the doors speak TLS, if any do.
    pub secured: Option<Secured>,
    /// Streams of this core that are sent to it unasked, and the socket of each.
    pub intakes: Vec<(StreamName, Intake, UdpSocket)>,
    /// Its two ports for media beside connections, the even one first, and what sessions are told of them.
    pub media_ports: Option<(PortOffer, [UdpSocket; 2])>,
}

/// One core's loop.
pub struct Shard {
    hub: Hub,
    ring: Ring,
    mesh: Mesh,
    disk: Option<Disk>,
    doors: Vec<Door>,
    intakes: Intakes,
    media: MediaPorts,
    signalled: Signalled,
    port: Port,
    settings: Arc<Settings>,
    shortest_flush: Duration,
    notices: Box<dyn Fn(Notice) + Send>,
    cores: u16,
    /// By slot: who is there.
    peers: Vec<Option<Peer>>,
    /// Connections whose next bytes go into memory of their session, and whose turn to receive has come. While receives are
    /// taken on a tick, that is once per tick: what has come by then comes in one piece, and wakes nobody before.
    turns: Vec<SocketId>,
    /// Those of them that had more than there was room for: it is their turn again.
    overfull: Vec<SocketId>,
    /// Receives are taken on a tick, the next time then.
    next_turn: Option<Now>,
    sends_per_enter: usize,
    /// Peers whose first datagram has come.
    met: u64,
    /// Datagrams that have come by its sockets, or from other cores.
    datagrams_taken: u64,
    lingering: VecDeque<(Now, SocketId)>,
    guests: Option<Guests>,
    /// What is pushed and pulled.
    relays: Relays,
    /// What the doors that speak TLS prove who they are with.
    certificate: Option<Certificate>,
    /// Counts the connections whose TLS or HTTP/2 could not go on, which the hub has no fault of.
    faults: ShardStats,
    /// Connections whose keys the kernel has been given.
    handed_over: u64,
    /// Who speaks HTTP/2.
    #[cfg(feature = "http")]
    trunks: trunks::Trunks,
    resting_doors: Vec<(Now, usize)>,
    refused: u64,
    profile: LoopStats,
    draining: bool,
}

impl Shard {
    /// Builds the shard on the thread that will run it.
    ///
    /// # Errors
    /// The ring could not be made.
    pub fn new(parts: ShardParts) -> io::Result<Shard> {
        let ShardParts { mesh, doors, port, settings, recordings, notices, .. } = parts;
        let ShardParts { cores, demo, guests, secured, intakes, media_ports, .. } = parts;
        let mut ring = Ring::new(&RingConfig::default())?;
        let (mut rows, mut own_ports) = (Vec::new(), OwnPorts::default());
        let mut signalled = Signalled::default();
        for (index, (protocol, listener)) in doors.into_iter().enumerate() {
            let mut row = Door::new(protocol);
            row.speaks_tls = secured.as_ref().is_some_and(|secured| secured.doors.contains(&protocol.name));
            match listener {
                Listener::Tcp(listener) => {
                    own_ports.add(protocol.name, listener.local_addr()?.port());
                    ring.listen(listener, index as u64);
                }
                Listener::Udp(socket) => {
                    let bound = socket.local_addr()?;
                    own_ports.add(protocol.name, bound.port());
                    ring.receive_datagrams(socket, index as u64)?;
                    if protocol.transport == Transport::Signalled {
                        signalled.open(index, bound, &settings.doors.webrtc.public);
                    }
                    row.datagrams = Some(Box::default());
                }
            }
            rows.push(row);
        }
        let intakes = Intakes::open(intakes, &mut ring)?;
        let relays = Relays::new(mesh.bell().clone(), own_ports);
        let media = MediaPorts::open(media_ports, &mut ring)?;
        let disk = recordings.map(|recordings| Disk::new(recordings, mesh.bell().clone())).transpose()?;
        let mut hub = Hub::new(mesh.core(), cores, settings.clone());
        if guests.is_some() {
            hub.observe();
        }
        let mut shard = Shard {
            hub,
            ring,
            disk,
            mesh,
            doors: rows,
            intakes,
            media,
            signalled,
            port,
            shortest_flush: shortest_flush(&settings),
            settings,
            notices,
            cores,
            peers: Vec::new(),
            turns: Vec::new(),
            overfull: Vec::new(),
            next_turn: None,
            sends_per_enter: SENDS_PER_ENTER,
            met: 0,
            datagrams_taken: 0,
            lingering: VecDeque::new(),
            guests,
            relays,
            certificate: secured.map(|secured| secured.certificate),
            faults: ShardStats::default(),
            handed_over: 0,
            #[cfg(feature = "http")]
            trunks: trunks::Trunks::default(),
            resting_doors: Vec::new(),
            refused: 0,
            profile: LoopStats::default(),
            draining: false,
        };
        let now = shard.clock();
        shard.plan_relays(now);
        if let Some(protocol) = demo {
            let session = protocol.begin(&shard.settings.doors, now);
            if let Some(connection) = shard.seat(session, protocol.name, Self::NOBODY, now) {
                shard.hub.trust(connection);
            }
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
            let began = self.clock();
            let now = began;
            self.hub.set_wall(Wall(clock::wall()), now);
            // First what has come, then what is due: a flush takes along what was received while the shard slept.
            let turn_has_come = self.next_turn.is_none_or(|turn| turn <= now) || self.hub.is_flush_due(now);
            if turn_has_come && self.receive_in_turn(now) {
                self.ring.submit()?;
            }
            self.take_completions(now);
            let all = self.take_mail(now);
            let guests_spoke = self.take_guests(now);
            self.take_requests(now);
            self.take_disk(now);
            self.take_due(now);
            let done = self.pump().await? && all;
            self.mesh.ring();
            if self.draining && self.hub.is_drained() && self.is_alone() {
                return Ok(());
            }
            let now = self.clock();
            self.take_relay_news(now);
            self.profile.round(now.since(began));
            let mut deadline = self.deadline();
            let greeting = harvest.is_greeting(self.ring.stats().accepts + self.met, now);
            self.sends_per_enter = if greeting { SENDS_PER_ENTER_GREETING } else { SENDS_PER_ENTER };
            let tick = harvest.tick(self.mesh.counts().messages, self.shortest_flush, now);
            let kept = self.next_turn.filter(|_| !turn_has_come);
            self.next_turn = tick.map(|tick| kept.map_or(tick, |kept| kept.min(tick)));
            let guests = guests_spoke.then(|| next_look(self.shortest_flush, now)).flatten();
            deadline = deadline.into_iter().chain(self.next_turn).chain(guests).min();
            if self.next_turn.is_none() {
                self.receive_in_turn(now);
            }
            self.receive_overfull(now);
            if !done {
                deadline = Some(now);
            }
            let woken = self.sleep(tick.is_none() || greeting, deadline, now).await?;
            self.profile.woken(woken);
            harvest.note(woken, self.ring.stats().receives, self.clock());
        }
    }

    /// The one sleep.
    async fn sleep(&mut self, for_ring: bool, deadline: Option<Now>, now: Now) -> io::Result<Woken> {
        if self.ring.pending() > 0 || deadline.is_some_and(|deadline| deadline <= now) {
            // There is more to do; the others get their turn first.
            glommio::executor().yield_task_queue_now().await;
            return Ok(Woken::Busy);
        }
        let pause = deadline.map(|deadline| deadline.since(now));
        if let Some((pause, deadline)) = pause.zip(deadline).filter(|(pause, _)| *pause <= NEAR) {
            // Short of that the executor has nothing to do that could not wait, and its own sleep costs ten times this one.
            // On a tick, those who receive once do not count: they wait for their turn anyway.
            let enough = HARVEST_COMPLETIONS + self.ring.receiving_once();
            self.ring.wait(if for_ring { 1 } else { enough }, pause)?;
            return Ok(if self.clock() < deadline { Woken::Ring } else { Woken::Time });
        }
        let mut timer = pause.map(Timer::new);
        let (mesh, port, disk, guests, relays, ring) =
            (&self.mesh, &self.port, &self.disk, &self.guests, &self.relays, &mut self.ring);
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
            mesh.bell()
                .arm(context, || {
                    mesh.has_mail()
                        || !port.is_empty()
                        || disk.as_ref().is_some_and(Disk::has_replies)
                        || relays.dialer.has_answers()
                        || guests.as_ref().is_some_and(|guests| !guests.door.is_empty())
                })
                .map(|()| Woken::Bell)
        })
        .await;
        self.mesh.bell().disarm();
        Ok(woken)
    }

    fn clock(&self) -> Now {
        Now(clock::monotonic())
    }

    /// What other cores have sent. False when there is more of it, and others get their turn first.
    fn take_mail(&mut self, now: Now) -> bool {
        self.mesh.sound();
        let datagrams = self.datagrams_taken;
        while self.datagrams_taken - datagrams < DATAGRAMS_PER_ROUND {
            let Some((mail, from)) = self.mesh.take() else { return true };
            match mail {
                Mail::Word(message) => self.hub.handle(Input::Mail(message, from), now),
                // Nobody sends a shard one.
                Mail::Event(_) => {}
                Mail::Connection(mut parcel, socket, seal) => match self.ring.add(socket) {
                    Ok(id) => {
                        self.offer_ports(&mut *parcel.session, matches!(seal, Seal::Nobody));
                        let door = self.doors.iter().position(|door| door.protocol.name == parcel.door);
                        let connection = self.enter(id, door.unwrap_or(0), parcel.peer.ip());
                        if let Some(peer) = self.peer(connection) {
                            peer.seal = seal;
                        }
                        self.hub.handle(Input::Adopted { connection, parcel }, now);
                        self.ring.receive(id);
                    }
                    // No room: dropping the descriptor closes it, and its publisher comes again.
                    Err(_) => self.refused += 1,
                },
                Mail::Peer(parcel, door) => self.take_in(parcel, door, from, now),
                Mail::Datagrams(batch) => {
                    for (door, peer, datagram) in batch.iter() {
                        self.forwarded(door, peer, datagram, now);
                    }
                }
                Mail::Forget { door, peer } => self.forget_moved(door, peer, from),
                Mail::Signal(call) => self.called(*call, from, now),
                Mail::Reply { connection, reply } => {
                    self.hub.handle(Input::Signalled { connection, reply }, now);
                }
            }
        }
        false
    }

    /// What the disk has done, for the recorders.
    fn take_disk(&mut self, now: Now) {
        let mut notices = Vec::new();
        if let Some(disk) = &mut self.disk {
            disk.take_replies(&mut self.ring, &mut notices);
        }
        notices.into_iter().for_each(|notice| self.notice(notice));
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
        self.take_relays(now);
        #[cfg(feature = "http")]
        self.time_out_trunks(now);
        while let Some((_, id)) = self.lingering.front().copied().filter(|(due, _)| *due <= now) {
            self.lingering.pop_front();
            if !self.put_off(id, now) {
                self.forget(id, now);
            }
        }
        let resting = std::mem::take(&mut self.resting_doors);
        for (due, door) in resting {
            if due <= now {
                self.ring.resume_accept(door as u64);
                self.ring.resume_datagrams(door as u64);
            } else {
                self.resting_doors.push((due, door));
            }
        }
    }

    /// When to look again if nothing happens before.
    fn deadline(&mut self) -> Option<Now> {
        let lingering = self.lingering.front().map(|(due, _)| *due);
        let resting = self.resting_doors.iter().map(|(due, _)| *due).min();
        let waiting = self.mesh.is_waiting().then(|| self.clock().after(WAITING_LANE_RETRY));
        #[cfg(feature = "http")]
        let trunks = self.trunks.deadline();
        #[cfg(not(feature = "http"))]
        let trunks = None;
        [self.hub.deadline(), lingering, resting, waiting, trunks, self.relays.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// No peer is left that the hub has forgotten.
    fn is_alone(&self) -> bool {
        #[cfg(feature = "http")]
        if !self.trunks.is_empty() {
            return false;
        }
        self.lingering.is_empty()
    }

    /// Gives the ring what the hub wants done and the hub what the ring says, until neither has more. False when they have,
    /// and others get their turn first.
    async fn pump(&mut self) -> io::Result<bool> {
        if self.next_turn.is_none() {
            self.receive_in_turn(self.clock());
        }
        let mut unyielding = 0;
        let datagrams = self.datagrams_taken;
        loop {
            let now = self.clock();
            let mut sends = 0;
            while sends < self.sends_per_enter {
                let Some(output) = self.hub.poll(now) else { break };
                sends += usize::from(matches!(output, Output::Send { .. } | Output::SendPackets { .. }));
                self.fetch(self.hub.in_line(FETCH_AHEAD));
                self.act(output, now);
            }
            #[cfg(feature = "http")]
            (sends += self.serve_trunks(now));
            let enters = self.ring.stats().enters;
            self.ring.submit()?;
            if self.ring.stats().enters > enters {
                self.profile.sends_per_enter.record(sends as u64);
            }
            let mut completions = 0;
            while let Some(completion) = self.ring.next() {
                completions += 1;
                self.fetch(self.ring.upcoming(FETCH_AHEAD).map(connection_of));
                self.complete(completion, now);
                // Receives can come faster than they are worked off; sends must not wait for the last of them.
                if completions == 4 * SENDS_PER_ENTER {
                    break;
                }
            }
            if sends == 0 && completions == 0 && self.ring.pending() == 0 {
                return Ok(true);
            }
            if self.datagrams_taken - datagrams >= DATAGRAMS_PER_ROUND {
                return Ok(false);
            }
            unyielding += sends + completions;
            if unyielding >= 2 * SENDS_PER_ENTER {
                unyielding = 0;
                self.mesh.ring();
                glommio::executor().yield_task_queue_now().await;
            }
        }
    }

    /// Fetches what the hub keeps of a connection into the cache: its turn comes soon.
    fn fetch(&self, connection: Option<ConnectionId>) {
        if let Some(memory) = connection.and_then(|connection| self.hub.memory_of(connection)) {
            cache::fetch(memory);
        }
    }

    /// Hands on what the kernel has done; says how much of it.
    fn take_completions(&mut self, now: Now) -> usize {
        let mut completions = 0;
        // Receives can come faster than they are worked off; sends must not wait for the last of them.
        while completions < 4 * SENDS_PER_ENTER
            && let Some(completion) = self.ring.next()
        {
            completions += 1;
            self.complete(completion, now);
        }
        completions
    }

    fn act(&mut self, output: Output, now: Now) {
        match output {
            Output::Send { connection, bytes } => {
                let Some(peer) = self.peer(connection) else {
                    #[cfg(feature = "http")]
                    self.answer(connection, &bytes, now);
                    return;
                };
                let (id, receives) = (peer.id, peer.receives);
                if peer.seal.is_channel() {
                    self.seal(connection, &bytes, now);
                } else if receives == Receives::Nothing {
                    self.relay_send(connection, id, &bytes, now);
                } else if receives == Receives::Shared {
                    let most = self.hub.datagram(connection).map_or(bytes.len(), usize::from);
                    self.ring.send_datagrams(id, bytes, most);
                } else {
                    self.ring.send(id, bytes);
                }
            }
            Output::SendPackets { connection, bytes } => {
                if let Some(id) = self.peer(connection).map(|peer| peer.id) {
                    self.ring.send_packets(id, bytes);
                }
            }
            Output::Ports { connection, ports } => self.name_ports(connection, ports, now),
            Output::Datagram { connection, to, bytes } => self.send_to(connection, to, &bytes),
            Output::Address { connection, address } => self.move_to(connection, address),
            Output::Signal { connection, peer, signal } => self.signal(connection, peer, signal, now),
            Output::Reply { connection, reply } => self.signal_reply(connection, reply, now),
            Output::Close { connection } => self.close(connection, now),
            Output::Quiet { connection } => {
                if let Some(peer) = self.peer(connection) {
                    peer.stage = Stage::Quieting;
                    let id = peer.id;
                    if self.ring.is_receiving(id) {
                        self.ring.stop_receive(id);
                    } else {
                        // Between two receives into memory of its session.
                        self.quieted(connection, now);
                    }
                }
            }
            Output::Move { connection, to, parcel } => {
                let Some(peer) = self.leave(connection) else { return };
                if peer.receives == Receives::Shared {
                    return self.send_away(&peer, parcel, to);
                }
                if let Some(socket) = self.ring.take(peer.id) {
                    self.mesh.send_whole(Mail::Connection(parcel, socket, peer.seal), to);
                }
            }
            Output::Mail(message, to) => {
                if let Err(message) = self.mesh.send(message, to) {
                    self.hub.handle(Input::Undelivered(message, to), now);
                }
            }
            Output::Ask { connection, ticket, wish } => self.ask(connection, ticket, wish, now),
            Output::Notice(notice) => self.notice(notice),
            Output::Event(event) => self.tell_host(event),
            Output::Record { recording, task } => {
                if let Some(disk) = &mut self.disk {
                    disk.task(recording, task, &mut self.ring);
                }
            }
        }
    }

    /// A line for the log; what an operator must look at is told to the host, too.
    fn notice(&mut self, notice: Notice) {
        if self.keep_words(&notice) {
            return;
        }
        if notice.level == Level::Alarm {
            self.tell_host(StreamEvent::Alarm { name: notice.stream.clone(), text: notice.text.clone() });
        }
        (self.notices)(notice);
    }

    fn complete(&mut self, completion: Completion, now: Now) {
        match completion {
            Completion::Accepted { token, socket } => self.accepted(token as usize, socket, now),
            Completion::AcceptStopped { token, error } => {
                if let Some(error) = error {
                    self.accept_failed(token as usize, &error, now);
                }
            }
            Completion::Datagram { token, datagram, lost } => self.datagram(token, &datagram, lost, now),
            Completion::DatagramsStopped { token, error } => self.deaf(token, error.as_ref(), now),
            Completion::Received { socket, bytes } => {
                let connection = connection_of(socket);
                let Some(peer) = self.peer(connection).filter(|peer| peer.stage != Stage::Lingering) else {
                    return;
                };
                if peer.seal.is_channel() {
                    return self.unseal(connection, &bytes, now);
                }
                let pooled = peer.receives == Receives::Pool;
                if peer.door == RELAY {
                    self.relays.count(connection, bytes.len());
                }
                self.heard(connection, &bytes, now);
                if pooled && self.hub.lends(connection) {
                    self.leave_pool(connection);
                }
            }
            Completion::Filled { socket, memory, received } => self.filled(socket, memory, received, now),
            Completion::ReceiveEnded { socket, how } => self.receive_ended(socket, how, now),
            Completion::Sent { socket, result } => self.sent(socket, result, now),
            Completion::Written { .. } | Completion::Synced { .. } | Completion::Allocated { .. } => {
                if let Some(disk) = &mut self.disk {
                    disk.complete(completion, &mut self.ring);
                }
                self.take_answers(now);
            }
        }
    }
}
