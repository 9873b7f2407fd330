//! A connection between a peer and the server: two queues of bytes with delay and bounded room, and how each ends.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use shardcast_engine::{
    hub::{ConnectionId, Lost},
    time::Now,
};

use super::{beside::Beside, network::Way};

/// One direction. What was put in first comes out first, and never before its time.
#[derive(Debug, Default)]
pub struct Pipe {
    segments: VecDeque<(Now, Bytes)>,
    bytes: usize,
    /// The last thing that comes out.
    end: Option<(Now, Lost)>,
}

impl Pipe {
    /// Puts bytes in; they come out at `ready` or after what is in front of them.
    pub fn push(&mut self, bytes: Bytes, ready: Now) {
        if bytes.is_empty() || self.end.is_some() {
            return;
        }
        let ready = self.segments.back().map_or(ready, |(last, _)| ready.max(*last));
        self.bytes += bytes.len();
        self.segments.push_back((ready, bytes));
    }

    /// Nothing comes after what is in it.
    pub fn end(&mut self, how: Lost, ready: Now) {
        if self.end.is_none() {
            let ready = self.segments.back().map_or(ready, |(last, _)| ready.max(*last));
            self.end = Some((ready, how));
        }
    }

    /// What is in it is lost, and nothing comes but the end.
    pub fn reset(&mut self, how: Lost, ready: Now) {
        self.segments.clear();
        self.bytes = 0;
        self.end = Some((ready, how));
    }

    /// Up to `most` of the bytes that have arrived.
    pub fn take(&mut self, most: usize, now: Now) -> Bytes {
        let mut taken = BytesMut::new();
        while taken.len() < most
            && let Some((_, bytes)) = self.segments.front_mut().filter(|(ready, _)| *ready <= now)
        {
            let piece = bytes.split_to(bytes.len().min(most - taken.len()));
            if bytes.is_empty() {
                self.segments.pop_front();
            }
            self.bytes -= piece.len();
            taken.extend_from_slice(&piece);
        }
        taken.freeze()
    }

    /// When the next bytes come out, if there are any.
    pub fn ready(&self) -> Option<Now> {
        self.segments.front().map(|(ready, _)| *ready)
    }

    /// When the end comes out, once nothing is in front of it.
    pub fn ended(&self) -> Option<(Now, Lost)> {
        self.end.filter(|_| self.segments.is_empty())
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.bytes
    }
}

/// Where a connection is on the server's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The peer has called, and no core has taken it yet.
    Calling,
    /// A core has it.
    Held {
        /// Which core.
        core: usize,
        /// How the hub knows it.
        id: ConnectionId,
    },
    /// From one core to another.
    Moving,
    /// The server has closed it.
    Closed,
}

/// How far receiving is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiving {
    /// What comes is given to the hub.
    On,
    /// The hub wants silence; it is told when the receive has stopped.
    Stopping,
    /// Nothing is given any more: it is quiet, or the end was told.
    Off,
}

/// A connection.
#[derive(Debug)]
pub struct Socket {
    /// Who called.
    pub peer: usize,
    /// When the call reaches the server.
    pub called: Now,
    /// Where it is.
    pub place: Place,
    /// From the peer.
    pub up: Pipe,
    /// To the peer.
    pub down: Pipe,
    /// Bytes that the kernel takes before the peer has to read.
    pub room: usize,
    /// What the hub wants sent, and when the kernel takes the next piece of it.
    pub sending: Option<(Bytes, Now)>,
    /// That goes beside the connection.
    pub packets: bool,
    /// How far receiving is.
    pub receiving: Receiving,
    /// Memory of its session that the next bytes go into.
    pub lent: Option<BytesMut>,
    /// When a stopping receive has stopped.
    pub quiet_at: Now,
    /// The peer is not there any more, and the network has said so.
    pub broken: bool,
    /// The hub was told that the peer's side has ended.
    pub end_told: bool,
    /// How often it was moved.
    pub moves: u32,
    /// The server has refused what it wished for.
    pub refused: bool,
    /// How datagrams go, if it is no connection but an address that they come from.
    pub way: Option<Box<Way>>,
    /// How datagrams go beside the connection, if they may.
    pub beside: Option<Box<Beside>>,
}

impl Socket {
    /// A call of `peer` that reaches the server at `called`.
    pub fn new(peer: usize, called: Now, room: usize) -> Self {
        Socket {
            peer,
            called,
            place: Place::Calling,
            up: Pipe::default(),
            down: Pipe::default(),
            room,
            sending: None,
            packets: false,
            receiving: Receiving::On,
            lent: None,
            quiet_at: Now(0),
            broken: false,
            end_told: false,
            moves: 0,
            refused: false,
            way: None,
            beside: None,
        }
    }

    /// An address of `peer`, which is nobody to the server until it lets it in.
    pub fn by_datagrams(peer: usize, called: Now, way: Way) -> Self {
        let place = Place::Closed;
        Socket { place, way: Some(Box::new(way)), ..Socket::new(peer, called, usize::MAX) }
    }

    /// Bytes that the kernel would take now.
    pub fn free(&self) -> usize {
        self.room.saturating_sub(self.down.len())
    }

    /// How its datagrams go, those that it has.
    pub fn datagrams(&self) -> Option<&Way> {
        self.way.as_deref().or(self.beside.as_ref().map(|beside| &beside.way))
    }
}
