//! A door for datagrams, as a shard has one: each datagram is greeted first, whoever is let in has a session, and closing forgets
//! the address. What comes for somebody who was moved follows to the other core.

use bytes::Bytes;
use shardcast_engine::{
    datagram::Greeting,
    hub::{Input, Lost},
    protocol::SRT,
    time::Now,
    udp,
};

use super::{
    canary::Canary,
    judge::Verdict,
    network::{Repair, Way, noise},
    peer::Door,
    socket::{Place, Receiving, Socket},
    world::World,
};

/// How often nobody says something, on average.
const NOISE_EVERY: std::time::Duration = std::time::Duration::from_millis(150);

impl World {
    /// When the next datagram of a peer can be taken.
    pub(super) fn datagram_at(&self, socket: &Socket) -> Option<Now> {
        let way = socket.way.as_ref()?;
        let core = match socket.place {
            Place::Held { core, .. } if socket.receiving == Receiving::On => core,
            Place::Held { .. } | Place::Moving => return None,
            Place::Calling | Place::Closed => way.home,
        };
        let awake = self.cores[core].asleep_until.max(self.cores[way.home].asleep_until);
        Some(way.up.ready()?.max(awake))
    }

    pub(super) fn bring_datagram(&mut self, socket: usize) -> Verdict {
        if self.datagram_at(&self.sockets[socket]).is_none_or(|at| at > self.now) {
            return Ok(());
        }
        let now = self.now;
        match self.sockets[socket].way.as_mut().and_then(|way| way.up.take(now)) {
            Some(datagram) => self.came(socket, &datagram),
            None => Ok(()),
        }
    }

    /// A datagram from the address of a peer, whoever has sent it.
    fn came(&mut self, socket: usize, datagram: &[u8]) -> Verdict {
        if self.peers[self.sockets[socket].peer].door == Door::Udp {
            return self.taken_in(socket, datagram);
        }
        let greet = SRT.greet.ok_or("the door of SRT greets nobody")?;
        match greet(datagram, Self::address_of(socket), &self.settings.doors, self.now) {
            Greeting::Answer(answer) => {
                self.set_out(socket, answer, false);
                return Ok(());
            }
            Greeting::Ignore | Greeting::For(_) => return Ok(()),
            Greeting::Begin if self.sockets[socket].place == Place::Closed && !self.draining => {
                let home = self.sockets[socket].way.as_ref().map_or(0, |way| way.home);
                let session = SRT.begin(&self.settings.doors, self.now);
                self.welcome(socket, home, Door::Srt, session)?;
            }
            Greeting::Begin | Greeting::Known => {}
        }
        match self.sockets[socket].place {
            Place::Held { core, id } => self.tell(core, Input::Received { connection: id, bytes: datagram }),
            Place::Calling | Place::Moving | Place::Closed => Ok(()),
        }
    }

    /// A datagram has come that nobody has asked for. With the first, and with the first after a silence, somebody begins to listen.
    fn taken_in(&mut self, socket: usize, datagram: &[u8]) -> Verdict {
        if self.draining {
            return Ok(());
        }
        if self.sockets[socket].place == Place::Closed {
            let peer = &self.peers[self.sockets[socket].peer];
            let wrapped = self.sockets[socket].way.as_ref().is_some_and(|way| way.repair == Repair::Ordered);
            let url = if wrapped { "rtp://192.0.2.7:5000" } else { "udp://192.0.2.7:5000" };
            let intake = udp::Intake::parse(url).map_err(|error| error.why)?;
            let (name, home) = (peer.name(), self.owner(&peer.name()));
            let session = udp::Session::new(name, &intake, &self.settings.doors, self.now);
            // Whoever listens anew must be told anew what is in the stream.
            self.unsettle(socket);
            self.welcome(socket, home, Door::Udp, Box::new(session))?;
            if let Place::Held { core, id } = self.sockets[socket].place {
                self.cores[core].hub.trust(id);
            }
        }
        match self.sockets[socket].place {
            Place::Held { core, id } => self.tell(core, Input::Received { connection: id, bytes: datagram }),
            Place::Calling | Place::Moving | Place::Closed => Ok(()),
        }
    }

    /// Who was refused waits for the next datagram, as long as the node is there; now it goes.
    pub(super) fn close_intakes(&mut self) -> Verdict {
        for socket in 0..self.sockets.len() {
            let held = &self.sockets[socket];
            if let Place::Held { core, id } = held.place
                && held.refused
                && self.peers[held.peer].door == Door::Udp
            {
                self.tell(core, Input::Closed { connection: id, how: Lost::Eof })?;
            }
        }
        Ok(())
    }

    /// What a hub wants sent goes out, cut as it said.
    pub(super) fn send_datagrams(&mut self, socket: usize) -> Verdict {
        let Place::Held { core, id } = self.sockets[socket].place else { return Ok(()) };
        let Some((mut bytes, _)) = self.sockets[socket].sending.take() else { return Ok(()) };
        let size = self.sockets[socket].way.as_ref().map_or(bytes.len(), |way| way.size).min(bytes.len());
        let all = bytes.len().div_ceil(size);
        let some = self.climate.partial_sends && self.random.chance(20);
        let count = if some { 1 + self.random.index(all) } else { all };
        let mut sent = 0;
        for _ in 0..count {
            let datagram = bytes.split_to(size.min(bytes.len()));
            sent += datagram.len();
            self.set_out(socket, datagram, false);
        }
        self.tell(core, Input::Sent { connection: id, result: Ok(sent) })
    }

    /// Puts a datagram on its way, to the server or to the peer.
    pub(super) fn set_out(&mut self, socket: usize, mut datagram: Bytes, up: bool) {
        // The first bit says that it is no word but part of the stream.
        let is_stream =
            datagram.first().is_some_and(|first| first & 0x80 == 0) && datagram.len() > HEAD_BYTES;
        if self.canary == Some(Canary::DatagramChanges) && is_stream && self.random.chance(3) {
            self.sung = true;
            let place = HEAD_BYTES + self.random.index(datagram.len() - HEAD_BYTES);
            let mut changed = datagram.to_vec();
            changed[place] ^= 0x40;
            datagram = changed.into();
        }
        let (calm, now, trace) = (self.calm, self.now, self.trace);
        let Some(way) = &mut self.sockets[socket].way else { return };
        let Way { weather, up: there, down: back, .. } = &mut **way;
        let weather = if calm { weather.calm() } else { *weather };
        let (flight, to) = if up { (there, "the server") } else { (back, "the peer") };
        let comes = flight.send(&datagram, &weather, &mut self.random, now);
        if trace {
            let (head, _) = datagram.split_at(datagram.len().min(HEAD_BYTES + 4));
            let length = datagram.len();
            eprintln!("             socket {socket} to {to}, {length} bytes, lost {}: {head:02x?}", !comes);
        }
    }

    /// Somebody who is nobody sends something: from an address of its own, or as if it came from a peer's, or to a peer as if it
    /// came from the server.
    pub(super) fn make_noise(&mut self) -> Verdict {
        let gap = self.up_to(NOISE_EVERY * 2);
        self.next_noise = Some(self.now.after(gap));
        let besides = self.hear_strays();
        if !besides.is_empty() {
            let socket = besides[self.random.index(besides.len())];
            self.stray(socket)?;
        }
        let datagram = noise(&mut self.random);
        let known: Vec<usize> = (0..self.sockets.len()).filter(|socket| self.hears_noise(*socket)).collect();
        if known.is_empty() || self.random.chance(30) {
            let greet = SRT.greet.ok_or("the door of SRT greets nobody")?;
            let stranger = ([198, 51, 100, 7], 4000).into();
            return match greet(&datagram, stranger, &self.settings.doors, self.now) {
                Greeting::Begin => Err("somebody was let in who has shown no cookie".to_owned()),
                Greeting::Answer(answer) if answer.len() > datagram.len() => {
                    Err("somebody can be flooded by way of this server".to_owned())
                }
                _ => Ok(()),
            };
        }
        let socket = known[self.random.index(known.len())];
        if self.peers[self.sockets[socket].peer].door == Door::Udp {
            // Whatever is a packet of a transport stream is heard, whoever has sent it.
            let others: Vec<u8> = datagram.iter().map(|byte| if *byte == 0x47 { 0 } else { *byte }).collect();
            return self.came(socket, &others);
        }
        if self.random.chance(30) {
            self.set_out(socket, datagram, false);
            return Ok(());
        }
        self.came(socket, &datagram)
    }

    fn hears_noise(&self, socket: usize) -> bool {
        let socket = &self.sockets[socket];
        let here = match socket.place {
            Place::Held { core, .. } => Some(core).filter(|_| socket.receiving == Receiving::On),
            Place::Closed => socket.way.as_ref().map(|way| way.home),
            Place::Calling | Place::Moving => None,
        };
        socket.way.is_some() && here.is_some_and(|core| self.cores[core].asleep_until <= self.now)
    }

    /// All that was sent by this address arrives in time, or it is a connection, which loses nothing.
    pub(super) fn is_mended(&self, socket: usize) -> bool {
        let awake = self.climate.core_pause <= std::time::Duration::from_millis(20);
        let held = &self.sockets[socket];
        held.datagrams().is_none_or(|way| awake && way.is_mended())
    }
}

/// Bytes of a packet of SRT before its payload.
const HEAD_BYTES: usize = 16;
