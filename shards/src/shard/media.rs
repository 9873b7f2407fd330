//! Media beside connections: a pair of ports of this shard's own, the packets that come there for a session of this core, and those
//! that go from there. Whose they are is told by the address of the peer's connection and the port that it has named, and by nothing else;
//! what comes from anybody else is counted and dropped.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
};

use shardcast_engine::{
    hub::{ConnectionId, Input, Lost},
    session::{PortOffer, Ports, Session},
    stats::DoorStats,
    time::Now,
};
use shardcast_io::ring::{Datagram, Ring};

use super::Shard;

/// The name in metrics.
const DOOR: &str = "rtsp-udp";
/// Tokens of the ring from here on are those of the two ports.
const FIRST_TOKEN: u64 = 1 << 33;
const TOKENS: [u64; 2] = [FIRST_TOKEN, FIRST_TOKEN + 1];

/// The two ports of a shard, and who has packets there.
#[derive(Default)]
pub(super) struct MediaPorts {
    /// What sessions are told of them; `None` where there are none.
    pub(super) offer: Option<PortOffer>,
    /// Of the even port and of the odd one: whose channel an address and port of a peer are.
    places: [HashMap<(IpAddr, u16), (ConnectionId, u8)>; 2],
    /// What those have named.
    named: HashMap<ConnectionId, (IpAddr, Ports)>,
    /// How many have named some so far.
    accepted: u64,
    /// Datagrams of others.
    strangers: u64,
    /// Datagrams that the kernel had no room for.
    lost: u64,
}

impl MediaPorts {
    /// Receives by these sockets from now on, the even port's first.
    pub(super) fn open(
        ports: Option<(PortOffer, [UdpSocket; 2])>,
        ring: &mut Ring,
    ) -> io::Result<MediaPorts> {
        let Some((offer, sockets)) = ports else { return Ok(MediaPorts::default()) };
        for (socket, token) in sockets.into_iter().zip(TOKENS) {
            ring.receive_datagrams(socket, token)?;
        }
        Ok(MediaPorts { offer: Some(offer), ..MediaPorts::default() })
    }

    /// Receives nothing more.
    pub(super) fn stop(&self, ring: &mut Ring) {
        TOKENS.into_iter().for_each(|token| ring.stop_datagrams(token));
    }

    /// What the metrics show.
    pub(super) fn stats(&self) -> Option<DoorStats> {
        self.offer.map(|_| DoorStats {
            name: DOOR,
            connections: self.named.len() as u64,
            accepted: self.accepted,
            refused: self.strangers,
            datagrams_lost: self.lost,
        })
    }
}

/// Which of the two ports a token is of: 0 the even one.
pub(super) fn side_of(token: u64) -> Option<usize> {
    TOKENS.iter().position(|own| *own == token)
}

impl Shard {
    /// Tells a session of this core's two ports. What TLS hides does not go in the clear beside it.
    pub(super) fn offer_ports(&self, session: &mut dyn Session, in_the_clear: bool) {
        if let (Some(offer), true) = (self.media.offer, in_the_clear) {
            session.offer_ports(offer);
        }
    }

    /// A datagram has come to one of the two ports, and `lost` before it that the kernel had no room for.
    pub(super) fn media_came(&mut self, side: usize, datagram: &Datagram, lost: u32, now: Now) {
        self.datagrams_taken += 1;
        self.media.lost += u64::from(lost);
        let from = (datagram.from.ip(), datagram.from.port());
        match self.media.places[side].get(&from) {
            // An empty one says nothing; routers are kept awake with it.
            Some(_) if datagram.is_empty() => {}
            Some((connection, channel)) => {
                let (connection, channel) = (*connection, *channel);
                self.hub.handle(Input::Datagram { connection, channel, bytes: datagram }, now);
            }
            None => self.media.strangers += 1,
        }
    }

    /// A session has named ports of its peer, or has done with them.
    pub(super) fn name_ports(&mut self, connection: ConnectionId, ports: Option<Ports>, now: Now) {
        self.unname_ports(connection);
        let Some(peer) = self.peer(connection) else { return };
        let (id, address) = (peer.id, peer.address);
        let Some(ports) = ports else { return self.ring.forget_ports(id) };
        let places = &self.media.places;
        let taken =
            ports.0.iter().any(|(channel, port)| places[side(*channel)].contains_key(&(address, *port)));
        if taken {
            return self.lost(connection, Lost::Failed("its ports are those of another session"), now);
        }
        let addresses: Vec<(u8, SocketAddr)> =
            ports.0.iter().map(|(channel, port)| (*channel, SocketAddr::new(address, *port))).collect();
        if self.ring.set_ports(id, TOKENS, &addresses).is_err() {
            return self.lost(connection, Lost::Failed("there are no ports for its media"), now);
        }
        for (channel, port) in &ports.0 {
            self.media.places[side(*channel)].insert((address, *port), (connection, *channel));
        }
        self.media.accepted += 1;
        self.media.named.insert(connection, (address, ports));
    }

    /// Nothing that comes is this connection's any more.
    pub(super) fn unname_ports(&mut self, connection: ConnectionId) {
        let Some((address, ports)) = self.media.named.remove(&connection) else { return };
        for (channel, port) in ports.0 {
            self.media.places[side(channel)].remove(&(address, port));
        }
    }
}

fn side(channel: u8) -> usize {
    usize::from(channel & 1)
}
