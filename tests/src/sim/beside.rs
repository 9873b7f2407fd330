//! Datagrams beside a connection, as a shard has them: two ports of each core, by which packets come for its sessions and go to their
//! peers. Whose a datagram is tell the ports that it comes from and goes to, and nothing else.

use bytes::{Buf as _, Bytes};
use shardcast_engine::{
    hub::{ConnectionId, Input},
    message::owner_of,
    session::{PortOffer, Ports},
    time::Now,
};

use super::{
    canary::Canary,
    judge::Verdict,
    network::Way,
    random::Random,
    rtsp::{HEAD_BYTES, head, parts},
    socket::{Place, Receiving, Socket},
    world::World,
};

/// The even port of the first core.
const FIRST_PORT: u16 = 8000;
/// Bytes of a packet of RTP before its payload.
const RTP_HEAD_BYTES: usize = 12;

/// The ports of a peer and how datagrams go between them and the server's.
#[derive(Debug)]
pub struct Beside {
    /// How they go.
    pub way: Way,
    /// Those that the session has named.
    pub ports: Option<Ports>,
}

impl World {
    /// What a session is told of a core's ports.
    pub(super) fn port_offer(&self, core: usize) -> PortOffer {
        let number = |cores: usize| u16::try_from(cores).expect("a world has few cores");
        PortOffer {
            first: FIRST_PORT,
            shard: number(core),
            shards: number(self.cores.len()),
            owner: |name, cores| owner_of(name, cores).0,
        }
    }

    /// When the next datagram beside a connection can be taken.
    pub(super) fn packet_at(&self, socket: &Socket) -> Option<Now> {
        let ready = socket.beside.as_ref()?.way.up.ready()?;
        match socket.place {
            Place::Held { core, .. } => Some(ready.max(self.cores[core].asleep_until)),
            Place::Calling | Place::Moving | Place::Closed => Some(ready),
        }
    }

    pub(super) fn bring_packet(&mut self, socket: usize) -> Verdict {
        if self.packet_at(&self.sockets[socket]).is_none_or(|at| at > self.now) {
            return Ok(());
        }
        let now = self.now;
        match self.sockets[socket].beside.as_mut().and_then(|beside| beside.way.up.take(now)) {
            Some(datagram) => self.packet_came(socket, &datagram),
            None => Ok(()),
        }
    }

    /// A datagram from an address of this peer's. What comes for nobody is dropped.
    fn packet_came(&mut self, socket: usize, datagram: &[u8]) -> Verdict {
        let held = &self.sockets[socket];
        let Some((from, to, bytes)) = parts(datagram).filter(|(_, _, bytes)| !bytes.is_empty()) else {
            return Ok(());
        };
        let Place::Held { core, id } = held.place else { return Ok(()) };
        let is_here = to.checked_sub(FIRST_PORT).is_some_and(|port| usize::from(port / 2) == core);
        let named = held.beside.as_ref().and_then(|beside| beside.ports.as_ref());
        let channel = named.filter(|_| is_here).and_then(|ports| {
            let is_it = |(channel, port): &&(u8, u16)| *port == from && u16::from(channel & 1) == to & 1;
            ports.0.iter().find(is_it)
        });
        match channel {
            Some((channel, _)) => {
                let channel = *channel;
                self.tell(core, Input::Datagram { connection: id, channel, bytes })
            }
            None => Ok(()),
        }
    }

    /// A session has named ports of its peer's, or has done with them.
    pub(super) fn name_ports(&mut self, core: usize, id: ConnectionId, ports: Option<Ports>) -> Verdict {
        let socket = self.cores[core].sitting(id).ok_or("a hub names ports of a stranger")?;
        let Some(beside) = &mut self.sockets[socket].beside else {
            return Err("a hub wants datagrams beside a connection that was offered none".to_owned());
        };
        beside.ports = ports;
        Ok(())
    }

    /// What a hub wants sent beside a connection sets out, each packet by itself.
    pub(super) fn send_packets(&mut self, socket: usize) -> Verdict {
        let Place::Held { core, id } = self.sockets[socket].place else { return Ok(()) };
        let Some((mut bytes, _)) = self.sockets[socket].sending.take() else { return Ok(()) };
        let (mut sent, partly) = (0, self.climate.partial_sends);
        while let [b'$', channel, high, low, ..] = bytes[..] {
            let length = usize::from(u16::from_be_bytes([high, low]));
            bytes.advance(HEAD_BYTES);
            if bytes.len() < length {
                return Err("a hub sends a part of a packet".to_owned());
            }
            let packet = bytes.split_to(length);
            sent += HEAD_BYTES + length;
            let named = self.sockets[socket].beside.as_ref().and_then(|beside| beside.ports.as_ref());
            let port = named.and_then(|ports| ports.0.iter().find(|(named, _)| *named == channel));
            // What no port was named for is left out.
            if let Some((_, port)) = port {
                let own = self.port_offer(core).here() + u16::from(channel & 1);
                let mut datagram = head(own, *port);
                datagram.extend_from_slice(&packet);
                self.set_out_beside(socket, datagram.freeze(), false);
            }
            if partly && self.random.chance(10) {
                break;
            }
        }
        if sent == 0 {
            return Err("a hub sends packets that are none".to_owned());
        }
        self.tell(core, Input::Sent { connection: id, result: Ok(sent) })
    }

    /// Puts a datagram beside a connection on its way, to the server or to the peer.
    pub(super) fn set_out_beside(&mut self, socket: usize, mut datagram: Bytes, up: bool) {
        let payload = HEAD_BYTES + RTP_HEAD_BYTES;
        let is_media = datagram.len() > payload && parts(&datagram).is_some_and(|(_, to, _)| to % 2 == 0);
        if self.canary == Some(Canary::PacketChanges) && is_media && self.random.chance(3) {
            self.sung = true;
            let place = payload + self.random.index(datagram.len() - payload);
            let mut changed = datagram.to_vec();
            changed[place] ^= 0x40;
            datagram = changed.into();
        }
        let (calm, now, trace) = (self.calm, self.now, self.trace);
        let Some(beside) = &mut self.sockets[socket].beside else { return };
        let Way { weather, up: there, down: back, .. } = &mut beside.way;
        let weather = if calm { weather.calm() } else { *weather };
        let (flight, whom) = if up { (there, "the server") } else { (back, "the peer") };
        let comes = flight.send(&datagram, &weather, &mut self.random, now);
        if trace {
            let (begin, _) = datagram.split_at(datagram.len().min(payload + 2));
            let length = datagram.len();
            eprintln!(
                "             socket {socket} to {whom}, {length} bytes, lost {}: {begin:02x?}",
                !comes
            );
        }
    }

    /// Sockets that noise can come to beside their connections.
    pub(super) fn hear_strays(&self) -> Vec<usize> {
        let hears = |socket: &Socket| match (socket.place, &socket.beside) {
            (Place::Held { core, .. }, Some(_)) => {
                socket.receiving == Receiving::On && self.cores[core].asleep_until <= self.now
            }
            _ => false,
        };
        (0..self.sockets.len()).filter(|socket| hears(&self.sockets[*socket])).collect()
    }

    /// Something that is not of the stream comes to the server, from the peer's own ports or from others of its address.
    pub(super) fn stray(&mut self, socket: usize) -> Verdict {
        let Place::Held { core, .. } = self.sockets[socket].place else { return Ok(()) };
        let to = self.port_offer(core).here() + u16::from(self.random.chance(50));
        let ports = self.sockets[socket].beside.as_ref().and_then(|beside| beside.ports.clone());
        let named: Vec<u16> = ports.into_iter().flat_map(|ports| ports.0).map(|(_, port)| port).collect();
        let from = if named.is_empty() || self.random.chance(30) { 9 } else { self.random.pick(&named) };
        let mut datagram = head(from, to);
        datagram.extend_from_slice(&stray(&mut self.random));
        self.packet_came(socket, &datagram)
    }
}

/// What is no packet of the stream: nothing, noise, packets of another kind, and what clients send to open the way through routers.
fn stray(random: &mut Random) -> Vec<u8> {
    let most = random.pick(&[1, 12, 64, 1400]);
    let length = random.index(most + 1);
    let mut bytes: Vec<u8> = (0..length).map(|_| random.any() as u8).collect();
    match random.below(3) {
        // Of no version.
        0 => bytes.iter_mut().take(1).for_each(|first| *first &= 0x3f),
        // Of a payload type that nobody announced, which is no kind of control information either.
        1 => bytes.iter_mut().take(2).zip([0x80, 35]).for_each(|(byte, value)| *byte = value),
        _ => bytes = vec![0xce, 0xfa, 0xed, 0xfe],
    }
    bytes
}
