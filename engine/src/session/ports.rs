//! Datagrams beside a connection: media by UDP of a peer whose conversation is a connection. (RTSP: RFC 2326, 12.39)
//!
//! A driver that can do it [offers](super::Session::offer_ports) its ports to a session, which may arrange with its peer that packets go
//! between them. What the peer is sent so is what others are sent inside their connections, each packet behind its head; the
//! driver leaves the heads out.

use crate::media::StreamName;

/// The ports that a node has for media: an even one and the odd one behind it for each shard, in the order of the shards.
///
/// ```
/// use shardcast_engine::{media::StreamName, message::owner_of, session::PortOffer};
///
/// let name = StreamName::parse("live/cam")?;
/// let offer = PortOffer { first: 8000, shard: 1, shards: 4, owner: |name, shards| owner_of(name, shards).0 };
/// // A viewer is sent to from the shard that holds its connection, and a publisher's connection goes to its stream's owner.
/// assert_eq!(offer.here(), 8002);
/// assert_eq!(offer.of_owner(&name), 8000 + 2 * owner_of(&name, 4).0);
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PortOffer {
    /// The even port of the first shard.
    pub first: u16,
    /// The shard that holds the connection.
    pub shard: u16,
    /// How many there are.
    pub shards: u16,
    /// Which of so many shards owns a stream.
    pub owner: fn(&StreamName, u16) -> u16,
}

impl PortOffer {
    /// The even port of the shard that holds the connection.
    pub fn here(&self) -> u16 {
        self.of(self.shard)
    }

    /// The even port of the shard that will hold the connection once it publishes this stream.
    pub fn of_owner(&self, name: &StreamName) -> u16 {
        self.of((self.owner)(name, self.shards))
    }

    fn of(&self, shard: u16) -> u16 {
        self.first.saturating_add(shard.saturating_mul(2))
    }
}

/// Ports of a peer, which is reached at the address of its connection and nowhere else. Datagrams from them are brought by
/// [`Input::Datagram`](super::Input::Datagram).
///
/// ```
/// use shardcast_engine::session::Ports;
///
/// // Media on channel 0, what is said about it on channel 1.
/// let ports = Ports(vec![(0, 5000), (1, 5001)]);
/// assert_eq!(ports.0[1], (1, 5001));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports(
    /// Channels, each with its port. Even channels go to and from the even port of the shard, odd ones its odd one.
    pub Vec<(u8, u16)>,
);
