//! One core's driver: what the shards do with a kernel, done with chance instead. It gives the hub its inputs and carries
//! out what it wants, as unkindly as the contract between them allows.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use bytes::Bytes;
use shardcast_engine::{
    hub::{ConnectionId, Hub, Input, Lost, Output},
    message::{CoreId, Message, Parcel},
    protocol::{HTTP, RTSP},
    session::{Answer, Refusal, Session},
    time::Now,
};

use super::{
    canary::Canary,
    disk::Disk,
    judge::{Policy, Verdict},
    peer::Door,
    plain,
    reel::Stamp,
    socket::{Place, Receiving, Socket},
    tap::{Overheard, Tapped, What},
    world::World,
};

/// A hub and what surrounds it.
pub struct Core {
    /// The machine.
    pub hub: Hub,
    /// Nothing is done here before.
    pub asleep_until: Now,
    /// Words from each core.
    pub lanes: Vec<VecDeque<(Now, Message)>>,
    /// Publishers from other cores, with their sockets.
    pub parcels: VecDeque<(Now, Parcel, usize)>,
    /// Words that found their lane full.
    pub undelivered: VecDeque<(Message, CoreId)>,
    /// Wishes that somebody thinks about, and when they have thought: all are allowed.
    pub verdicts: VecDeque<(Now, ConnectionId, u64)>,
    /// Where its streams are recorded.
    pub disk: Disk,
    /// The driver stopped before the hub had said everything.
    pub has_outputs: bool,
    /// Who sits where: the socket of each slot, and how often it was used.
    slots: Vec<(Option<usize>, u32)>,
    /// Grants to resume that the hub has counted so far.
    resumes: u64,
}

impl Core {
    /// A core among `cores`.
    pub fn new(hub: Hub, cores: usize) -> Self {
        Core {
            hub,
            asleep_until: Now(0),
            lanes: (0..cores).map(|_| VecDeque::new()).collect(),
            parcels: VecDeque::new(),
            undelivered: VecDeque::new(),
            verdicts: VecDeque::new(),
            disk: Disk::default(),
            has_outputs: false,
            slots: Vec::new(),
            resumes: 0,
        }
    }

    fn seat(&mut self, socket: usize) -> ConnectionId {
        let slot = self.slots.iter().position(|(held, _)| held.is_none()).unwrap_or_else(|| {
            self.slots.push((None, 0));
            self.slots.len() - 1
        });
        let (held, generation) = &mut self.slots[slot];
        *held = Some(socket);
        *generation += 1;
        ConnectionId { slot: u32::try_from(slot).expect("a world has few peers"), generation: *generation }
    }

    fn unseat(&mut self, id: ConnectionId) -> Option<usize> {
        let (held, generation) = self.slots.get_mut(id.slot as usize)?;
        if *generation == id.generation { held.take() } else { None }
    }

    pub(super) fn sitting(&self, id: ConnectionId) -> Option<usize> {
        self.slots.get(id.slot as usize).filter(|(_, generation)| *generation == id.generation)?.0
    }

    /// True when nobody is here and no word is on its way here.
    pub fn is_empty(&self) -> bool {
        self.slots.iter().all(|(held, _)| held.is_none())
            && self.lanes.iter().all(VecDeque::is_empty)
            && self.parcels.is_empty()
    }
}

impl World {
    // When each thing can be done.

    pub(super) fn receive_at(&self, socket: &Socket) -> Option<Now> {
        match socket.receiving {
            Receiving::On => socket.up.ready(),
            // What had come when the receive was stopped is still given.
            Receiving::Stopping => socket.up.ready().filter(|at| *at < socket.quiet_at),
            Receiving::Off => None,
        }
    }

    pub(super) fn end_at(&self, socket: &Socket) -> Option<Now> {
        let (at, _) = socket.up.ended().filter(|_| !socket.end_told)?;
        match socket.receiving {
            Receiving::On => Some(at),
            Receiving::Stopping => Some(at).filter(|at| *at < socket.quiet_at),
            Receiving::Off => None,
        }
    }

    pub(super) fn send_at(&self, socket: &Socket) -> Option<Now> {
        let (_, at) = socket.sending.as_ref()?;
        (socket.broken || socket.packets || socket.free() > 0).then_some(*at)
    }

    pub(super) fn quiet_at(&self, socket: &Socket) -> Option<Now> {
        let waits = self.receive_at(socket).is_some() || self.end_at(socket).is_some();
        (socket.receiving == Receiving::Stopping && !waits).then_some(socket.quiet_at)
    }

    // What a hub is told.

    pub(super) fn bring_deadline(&mut self, core: usize) -> Verdict {
        self.tell(core, Input::Timeout)
    }

    pub(super) fn bring_drain(&mut self, core: usize) -> Verdict {
        self.tell(core, Input::Drain)
    }

    pub(super) fn bring_undelivered(&mut self, core: usize) -> Verdict {
        match self.cores[core].undelivered.pop_front() {
            Some((message, to)) => self.tell(core, Input::Undelivered(message, to)),
            None => Ok(()),
        }
    }

    pub(super) fn bring_verdict(&mut self, core: usize) -> Verdict {
        match self.cores[core].verdicts.pop_front() {
            Some((_, connection, ticket)) => {
                self.tell(core, Input::Judged { connection, ticket, allowed: true })
            }
            None => Ok(()),
        }
    }

    pub(super) fn bring_letter(&mut self, to: usize, from: usize) -> Verdict {
        let Some((_, message)) = self.cores[to].lanes[from].pop_front() else { return Ok(()) };
        self.tell(to, Input::Mail(message, CoreId(u16::try_from(from).expect("a world has few cores"))))
    }

    pub(super) fn bring_parcel(&mut self, core: usize) -> Verdict {
        let Some((_, mut parcel, socket)) = self.cores[core].parcels.pop_front() else { return Ok(()) };
        if self.sockets[socket].beside.is_some() {
            parcel.session.offer_ports(self.port_offer(core));
        }
        let id = self.cores[core].seat(socket);
        let held = &mut self.sockets[socket];
        held.place = Place::Held { core, id };
        held.receiving = Receiving::On;
        self.tell(core, Input::Adopted { connection: id, parcel })
    }

    pub(super) fn answer_call(&mut self, socket: usize) -> Verdict {
        let core = self.random.index(self.cores.len());
        let door = self.peers[self.sockets[socket].peer].door;
        let session: Box<dyn Session> = match door {
            Door::Plain => Box::new(plain::Session::new(self.now)),
            Door::Http => HTTP.begin(&self.settings.doors, self.now),
            Door::Rtsp => {
                let mut session = RTSP.begin(&self.settings.doors, self.now);
                session.offer_ports(self.port_offer(core));
                session
            }
            Door::Srt | Door::Udp => return Err("nobody calls by datagrams before one has come".to_owned()),
        };
        self.welcome(socket, core, door, session)
    }

    /// A core takes somebody in.
    pub(super) fn welcome(
        &mut self,
        socket: usize,
        core: usize,
        door: Door,
        session: Box<dyn Session>,
    ) -> Verdict {
        let id = self.cores[core].seat(socket);
        let held = &mut self.sockets[socket];
        held.place = Place::Held { core, id };
        held.receiving = Receiving::On;
        held.refused = false;
        let session = Box::new(Tapped::new(session, socket, &self.tap));
        let peer = Self::address_of(socket);
        self.tell(core, Input::Connected { connection: id, door: door.name(), peer, session })
    }

    /// Where a peer is.
    pub(super) fn address_of(socket: usize) -> SocketAddr {
        let port = u16::try_from(10_000 + socket % 50_000).expect("it is below 60,000");
        ([192, 0, 2, 1], port).into()
    }

    pub(super) fn bring_bytes(&mut self, socket: usize) -> Verdict {
        let Place::Held { core, id } = self.sockets[socket].place else { return Ok(()) };
        if self.receive_at(&self.sockets[socket]).is_none_or(|at| at > self.now) {
            return Ok(());
        }
        let most = if self.random.chance(20) { 1 + self.random.index(9) } else { self.climate.receive_bytes };
        let mut lent = self.sockets[socket].lent.take();
        let room = lent.as_ref().map_or(usize::MAX, |memory| memory.capacity() - memory.len());
        let bytes = self.sockets[socket].up.take(most.min(room), self.now);
        if bytes.is_empty() {
            self.sockets[socket].lent = lent;
            return Ok(());
        }
        if self.canary == Some(Canary::RefusedLeaks)
            && let Some(other) = self.holder_against(socket)
            && let Place::Held { core, id } = self.sockets[other].place
        {
            self.sung = true;
            // It is the bytes that leak, whatever they are received into.
            match self.sockets[other].lent.take() {
                None => self.tell(core, Input::Received { connection: id, bytes: &bytes })?,
                Some(mut memory) => {
                    memory.extend_from_slice(&bytes);
                    self.tell(core, Input::Filled { connection: id, memory, received: bytes.len() })?;
                }
            }
        }
        match lent.take() {
            None => self.tell(core, Input::Received { connection: id, bytes: &bytes })?,
            Some(mut memory) => {
                memory.extend_from_slice(&bytes);
                self.tell(core, Input::Filled { connection: id, memory, received: bytes.len() })?;
            }
        }
        // Every other publisher goes on this way. The memory is out while whatever may happens to its session.
        let stays = matches!(self.sockets[socket].place, Place::Held { .. });
        let receives = self.sockets[socket].receiving == Receiving::On;
        if socket.is_multiple_of(2) && stays && receives && !self.cores[core].has_outputs {
            self.sockets[socket].lent = self.cores[core].hub.lend(id, self.now);
        }
        Ok(())
    }

    /// Who holds the name that this publisher was refused.
    fn holder_against(&self, socket: usize) -> Option<usize> {
        if !self.peers[self.sockets[socket].peer].was_refused() {
            return None;
        }
        let (name, _) = self.judge.wish_of(socket)?;
        self.judge.publisher_of(&name).filter(|holder| *holder != socket)
    }

    pub(super) fn bring_end(&mut self, socket: usize) -> Verdict {
        let Place::Held { core, id } = self.sockets[socket].place else { return Ok(()) };
        let Some((at, how)) = self.sockets[socket].up.ended() else { return Ok(()) };
        if at > self.now || self.end_at(&self.sockets[socket]).is_none() {
            return Ok(());
        }
        self.sockets[socket].end_told = true;
        self.judge.left(socket, self.now);
        self.tell(core, Input::Closed { connection: id, how })
    }

    pub(super) fn bring_answer(&mut self, core: usize) -> Verdict {
        let (now, canary) = (self.now, self.canary);
        let disk = &mut self.cores[core].disk;
        match disk.answer(now, &mut self.random, canary, &mut self.sung) {
            Some((recording, answer)) => self.tell(core, Input::Recorded { recording, answer }),
            None => Ok(()),
        }
    }

    pub(super) fn bring_quiet(&mut self, socket: usize) -> Verdict {
        let Place::Held { core, id } = self.sockets[socket].place else { return Ok(()) };
        if self.quiet_at(&self.sockets[socket]).is_none_or(|at| at > self.now) {
            return Ok(());
        }
        self.sockets[socket].receiving = Receiving::Off;
        self.tell(core, Input::Quiet { connection: id })
    }

    pub(super) fn send_some(&mut self, socket: usize) -> Verdict {
        let Place::Held { core, id } = self.sockets[socket].place else { return Ok(()) };
        let now = self.now;
        if self.send_at(&self.sockets[socket]).is_none_or(|at| at > now) {
            return Ok(());
        }
        if self.sockets[socket].way.is_some() {
            return self.send_datagrams(socket);
        }
        if self.sockets[socket].packets && !self.sockets[socket].broken {
            return self.send_packets(socket);
        }
        let Some((bytes, _)) = self.sockets[socket].sending.take() else { return Ok(()) };
        if self.sockets[socket].broken {
            self.judge.left(socket, self.now);
            return self
                .tell(core, Input::Sent { connection: id, result: Err(Lost::Failed("connection reset")) });
        }
        let fits = bytes.len().min(self.sockets[socket].free());
        let count = if self.climate.partial_sends && self.random.chance(40) {
            1 + self.random.index(fits)
        } else {
            fits
        };
        let arrives = now.after(self.up_to(self.climate.network_delay));
        let mut gone = bytes.slice(..count);
        match self.canary {
            Some(Canary::ByteChanges) if self.random.chance(5) => {
                self.sung = true;
                let mut changed = gone.to_vec();
                let place = self.random.index(changed.len());
                changed[place] ^= 0x40;
                gone = changed.into();
            }
            Some(Canary::SentTooMuch) if count > 1 && self.random.chance(5) => {
                self.sung = true;
                gone = gone.slice(..count - 1);
            }
            _ => {}
        }
        self.sockets[socket].down.push(gone, arrives);
        self.tell(core, Input::Sent { connection: id, result: Ok(count) })
    }

    pub(super) fn tell(&mut self, core: usize, input: Input<'_>) -> Verdict {
        self.cores[core].hub.handle(input, self.now);
        self.listen(core)?;
        if self.climate.halting && self.random.chance(20) {
            // Another input may come before the outputs of this one are looked at.
            self.cores[core].has_outputs = true;
            return Ok(());
        }
        self.carry_out(core)
    }

    // What a hub wants.

    pub(super) fn carry_out(&mut self, core: usize) -> Verdict {
        self.cores[core].has_outputs = false;
        loop {
            if self.climate.halting && self.random.chance(10) {
                self.cores[core].has_outputs = true;
                return Ok(());
            }
            let output = self.cores[core].hub.poll(self.now);
            self.listen(core)?;
            match output {
                Some(output) => self.execute(core, output)?,
                None => break,
            }
        }
        self.cores[core].hub.audit()
    }

    fn execute(&mut self, core: usize, output: Output) -> Verdict {
        if self.trace {
            eprintln!("             core {core}: {output:?}");
        }
        match output {
            Output::Send { connection, bytes } => self.send(core, connection, bytes, false),
            Output::SendPackets { connection, bytes } => self.send(core, connection, bytes, true),
            Output::Ports { connection, ports } => self.name_ports(core, connection, ports),
            Output::Close { connection } => self.close(core, connection),
            Output::Quiet { connection } => {
                let socket = self.cores[core].sitting(connection).ok_or("a hub wants a stranger quiet")?;
                let delay = self.up_to(self.climate.quiet_delay);
                let socket = &mut self.sockets[socket];
                if socket.lent.is_some() {
                    return Err("a hub wants a connection quiet that has lent memory".to_owned());
                }
                if socket.receiving != Receiving::On {
                    return Err("a hub wants a connection quiet that is".to_owned());
                }
                socket.receiving = Receiving::Stopping;
                // What receives datagrams is the door, and that goes on.
                let delay = if socket.way.is_some() { Duration::ZERO } else { delay };
                socket.quiet_at = self.now.after(delay);
                Ok(())
            }
            Output::Move { connection, to, parcel } => self.hand_over(core, connection, to, parcel),
            Output::Mail(message, to) => self.mail(core, message, to),
            Output::Record { recording, task } => {
                self.cores[core].disk.ask(recording, task, &mut self.random, self.now);
                Ok(())
            }
            Output::Ask { connection, ticket, .. } => {
                // Not drawn by lot, so that the same seed is the same world whoever says who may.
                let at = self.now.after(Duration::from_millis(ticket * 7 % 40));
                self.cores[core].verdicts.push_back((at, connection, ticket));
                Ok(())
            }
            Output::Notice(_) | Output::Event(_) => Ok(()),
            Output::Datagram { .. }
            | Output::Address { .. }
            | Output::Signal { .. }
            | Output::Reply { .. } => Err("a hub answers a signal that nobody has given".to_owned()),
        }
    }

    fn send(&mut self, core: usize, id: ConnectionId, bytes: Bytes, packets: bool) -> Verdict {
        let socket = self.cores[core].sitting(id).ok_or("a hub sends to a stranger")?;
        // A kernel with room takes bytes almost at once; what makes a send slow is a peer that leaves no room.
        let delay = self.up_to(std::time::Duration::from_millis(1));
        let size = self.cores[core].hub.datagram(id).map_or(bytes.len(), usize::from);
        let socket = &mut self.sockets[socket];
        if bytes.is_empty() {
            return Err("a hub sends nothing".to_owned());
        }
        if let Some(way) = &mut socket.way {
            way.size = size;
        }
        if socket.sending.is_some() {
            return Err("a hub sends before the last send was answered".to_owned());
        }
        socket.sending = Some((bytes, self.now.after(delay)));
        socket.packets = packets;
        Ok(())
    }

    fn close(&mut self, core: usize, id: ConnectionId) -> Verdict {
        let socket = self.cores[core].unseat(id).ok_or("a hub closes a stranger, or somebody twice")?;
        self.judge.left(socket, self.now);
        let delay = self.up_to(self.climate.network_delay);
        let held = &mut self.sockets[socket];
        held.place = Place::Closed;
        held.sending = None;
        held.lent = None;
        held.beside.iter_mut().for_each(|beside| beside.ports = None);
        held.down.end(Lost::Eof, self.now.after(delay));
        let told = held.end_told || held.broken;
        self.closed(socket, told)
    }

    fn hand_over(&mut self, core: usize, id: ConnectionId, to: CoreId, mut parcel: Parcel) -> Verdict {
        let socket = self.cores[core].unseat(id).ok_or("a hub moves a stranger")?;
        let delay = self.up_to(self.climate.lane_delay * 4);
        let held = &mut self.sockets[socket];
        if held.sending.is_some() {
            return Err("a hub moves a connection with a send under way".to_owned());
        }
        if held.receiving != Receiving::Off {
            return Err("a hub moves a connection that is not quiet".to_owned());
        }
        if usize::from(to.0) == core {
            return Err("a hub moves a connection to itself".to_owned());
        }
        held.place = Place::Moving;
        held.moves += 1;
        if self.canary == Some(Canary::MoveLosesBytes) && !parcel.unread.is_empty() {
            self.sung = true;
            let _ = parcel.unread.pop();
        }
        let parcels = &mut self.cores[usize::from(to.0)].parcels;
        let ready = parcels.back().map_or(self.now, |(last, _, _)| *last).max(self.now.after(delay));
        parcels.push_back((ready, parcel, socket));
        Ok(())
    }

    fn mail(&mut self, core: usize, message: Message, to: CoreId) -> Verdict {
        let there = usize::from(to.0);
        if there == core {
            return Err("a hub writes to itself".to_owned());
        }
        let delay = self.up_to(self.climate.lane_delay);
        // What must not be overtaken is told before the hub is asked for the next.
        let immediate = self.random.chance(70) || !message.may_be_late();
        if self.cores[there].lanes[core].len() >= self.climate.lane_slots {
            self.lane_full[core][there] = Some(self.now);
            if immediate {
                self.cores[core].hub.handle(Input::Undelivered(message, to), self.now);
                return self.listen(core);
            }
            self.cores[core].undelivered.push_back((message, to));
            return Ok(());
        }
        let frames = matches!(message, Message::Frames { .. });
        if self.canary == Some(Canary::LaneLosesFrames) && frames && self.random.chance(5) {
            self.sung = true;
            return Ok(());
        }
        let swap = self.canary == Some(Canary::LaneSwapsFrames) && frames && self.random.chance(20);
        let lane = &mut self.cores[there].lanes[core];
        let ready = lane.back().map_or(self.now, |(last, _)| *last).max(self.now.after(delay));
        lane.push_back((ready, message));
        let last = lane.len() - 1;
        if swap && last > 0 && matches!(lane[last - 1].1, Message::Frames { .. }) {
            self.sung = true;
            lane.swap(last, last - 1);
        }
        Ok(())
    }

    /// Tells the judge what passed between the sessions and their hub.
    fn listen(&mut self, core: usize) -> Verdict {
        let heard = self.tap.take();
        if heard.is_empty() {
            return Ok(());
        }
        // Several grants at once are one publisher's that stopped and began again; it is the later ones that resume.
        let resumes = self.cores[core].hub.stats().resumes;
        let resuming = resumes - std::mem::replace(&mut self.cores[core].resumes, resumes);
        let granting = |overheard: &Overheard| matches!(overheard.what, What::Answer(Answer::Publishing));
        let mut grants = heard.iter().filter(|overheard| granting(overheard)).count() as u64;
        for overheard in heard {
            if self.trace {
                match &overheard.what {
                    What::Frame(frame) if frame.is_media() => {
                        let (track, stamp) = (frame.track, Stamp::read(frame));
                        eprintln!("             socket {}: {track:?} {stamp:?}", overheard.socket);
                    }
                    what => eprintln!("             socket {}: {what:?}", overheard.socket),
                }
            }
            let resumed = granting(&overheard) && grants <= resuming;
            grants -= u64::from(granting(&overheard));
            if let What::Answer(Answer::Refused(refusal)) = overheard.what {
                self.sockets[overheard.socket].refused = true;
                self.check_refusal(core, overheard.socket, refusal)?;
            }
            if let What::Failed(_) = overheard.what {
                self.check_failure(overheard.socket)?;
            }
            let limits = &self.settings.default.limits;
            // A core that sleeps brings its deadlines late, and a peer's end is heard late.
            let slack = self.climate.core_pause + self.climate.network_delay + SLACK;
            let policy = Policy { window: limits.reconnect_window, idle: limits.publisher_idle, slack };
            self.judge.overhear(overheard.socket, overheard.what, resumed, policy, self.now)?;
        }
        Ok(())
    }

    /// A viewer is not refused a stream that has been live all the time.
    fn check_refusal(&mut self, core: usize, socket: usize, refusal: Refusal) -> Verdict {
        let Some((name, wished)) = self.judge.wish_of(socket) else { return Ok(()) };
        let idle = self.settings.default.limits.publisher_idle;
        let Some(since) = self.judge.live_since(&name, idle, self.now) else { return Ok(()) };
        let owner = self.owner(&name);
        let patience = self.settings.default.limits.wait_for_publisher;
        let patience = if patience.is_zero() { std::time::Duration::from_secs(5) } else { patience };
        let slack = self.climate.core_pause + self.climate.lane_delay + SLACK;
        // A core that sleeps for longer than a viewer has patience answers too late.
        let awake = self.climate.core_pause * 2 < patience;
        let long_live = since.after(slack) < wished && awake;
        let lane_full = self.lane_full[owner][core].is_some() || self.lane_full[core][owner].is_some();
        // Nobody can set up what nobody has said anything of, or what has not begun.
        let by_tracks = self.peers[self.sockets[socket].peer].door == Door::Rtsp;
        let untold = by_tracks && !self.judge.is_described(&name, slack, self.now);
        if refusal == Refusal::NotFound && long_live && !lane_full && !untold {
            return Err(format!(
                "a viewer was told that {name} is not there, and it has been there all the time"
            ));
        }
        let limits = &self.settings.default.limits;
        let scarce = limits.viewers < self.peers.len() || self.settings.doors.streams < self.peers.len();
        if refusal == Refusal::Full && !scarce && !self.judge.is_greedy(socket) {
            return Err("a peer was told that a limit is reached, and none is".to_owned());
        }
        Ok(())
    }

    /// A session fails only where its peer gave it a reason.
    fn check_failure(&self, socket: usize) -> Verdict {
        let peer = &self.peers[self.sockets[socket].peer];
        // Over datagrams a peer can be gone without a word, and one that is there can be out of reach.
        let out_of_reach = !self.is_mended(socket) || peer.has_left(socket, &self.sockets[socket]);
        if peer.is_blameless() && !out_of_reach && !self.sockets[socket].refused {
            Err("the session of a blameless peer failed".to_owned())
        } else {
            Ok(())
        }
    }
}

/// For what takes time by itself: two lanes, a flush, a move.
const SLACK: std::time::Duration = std::time::Duration::from_millis(200);
