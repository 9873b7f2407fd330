//! One connection by libsrt, as the thread has it that speaks with the library.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf as _, Bytes, BytesMut};
use shardcast_engine::{srt::Wish, stats::PathStats};
use shardcast_io::{
    lane::{Receiver, Sender},
    libsrt::{Epoll, MESSAGE_BYTES_MAX, Socket, Stats},
};

use super::{
    crossing::{Between, DATAGRAM_BYTES, Outside, PIECE_BYTES, Standing},
    desk::{Entered, Seat},
};
use crate::host::Passage;

/// Pieces that are taken of one publisher before others get their turn.
const PIECES_PER_TURN: usize = 8;
/// Messages of a viewer that are thrown away in one turn.
const MESSAGES_PER_TURN: usize = 64;
/// What is added to the latency before a connection ends: what is held back until then is still delivered.
const FAREWELL: Duration = Duration::from_millis(100);
/// No longer than this, whatever the latency is.
const FAREWELL_MAX: Duration = Duration::from_secs(3);

/// A connection.
pub struct Link {
    // Dropped in this order: the end of the lane before the shard is told to look.
    side: Side,
    between: Arc<Between>,
    passage: Passage,
    socket: Socket,
    /// The epoll looks at it.
    watched: bool,
    /// When it ends, once that is known.
    ends: Option<Instant>,
    /// How long it ends.
    farewell: Duration,
    wish: Wish,
    _seat: Seat,
}

enum Side {
    Publisher { lane: Sender<Bytes>, held: Bytes },
    Viewer { lane: Receiver<Bytes>, piece: Bytes },
}

/// What became of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    GoesOn,
    /// The connection is to be forgotten.
    Over,
}

/// How far the taking of what a publisher has sent has come.
enum Taken {
    /// There is more of it.
    More,
    /// There is none now.
    All,
    /// The shard has no room.
    Full,
    /// There will be no more.
    Broken,
}

impl Link {
    /// Of somebody whom libsrt has connected.
    pub fn new(socket: Socket, wish: Wish, entered: Entered, seat: Seat) -> Link {
        let Entered { passage, outside, between } = entered;
        let [receive, send] = socket.latencies().unwrap_or_default();
        let (side, latency) = match outside {
            Outside::Publisher(lane) => (Side::Publisher { lane, held: Bytes::new() }, receive),
            Outside::Viewer(lane) => (Side::Viewer { lane, piece: Bytes::new() }, send),
        };
        let farewell = (latency + FAREWELL).min(FAREWELL_MAX);
        Link { side, between, passage, socket, watched: false, ends: None, farewell, wish, _seat: seat }
    }

    /// What it wants.
    pub fn wish(&self) -> &Wish {
        &self.wish
    }

    /// Something has come for it.
    pub fn ready(&mut self, epoll: &Epoll, now: Instant) -> Turn {
        match self.side {
            Side::Publisher { .. } => self.turn(epoll, now),
            Side::Viewer { .. } => self.hear_viewer(),
        }
    }

    /// Its turn has come, whether or not anything has.
    pub fn turn(&mut self, epoll: &Epoll, now: Instant) -> Turn {
        match self.between.standing() {
            Standing::Refused(_) => return Turn::Over,
            Standing::Over if matches!(self.side, Side::Publisher { .. }) => return Turn::Over,
            // What comes of a publisher waits in the library.
            Standing::Asking if matches!(self.side, Side::Publisher { .. }) => return self.live(),
            Standing::Asking | Standing::Granted | Standing::Over => {}
        }
        if self.ends.is_some_and(|ends| ends <= now) {
            self.count();
            return Turn::Over;
        }
        match self.side {
            Side::Publisher { .. } => {
                let taken = self.take();
                let watch = matches!(taken, Taken::More | Taken::All);
                self.watch(watch && self.ends.is_none(), epoll);
                if matches!(taken, Taken::Broken) {
                    // What it had sent before comes when its time is there.
                    self.ends.get_or_insert(now + self.farewell);
                }
                Turn::GoesOn
            }
            Side::Viewer { .. } => {
                self.watch(true, epoll);
                self.give(now)
            }
        }
    }

    /// Whether the connection of one who waits is still there.
    fn live(&self) -> Turn {
        if shardcast_io::libsrt::is_there(self.socket.number()) { Turn::GoesOn } else { Turn::Over }
    }

    fn watch(&mut self, watch: bool, epoll: &Epoll) {
        if watch && !self.watched {
            // One that is gone is found out when it is received from.
            self.watched = epoll.add(&self.socket).is_ok();
        } else if !watch && self.watched {
            epoll.remove(&self.socket);
            self.watched = false;
        }
    }

    /// Takes what a publisher has sent.
    fn take(&mut self) -> Taken {
        let Side::Publisher { lane, held } = &mut self.side else { return Taken::All };
        let mut pushed = false;
        let mut taken = Taken::More;
        for _ in 0..PIECES_PER_TURN {
            if held.is_empty() {
                let broken = receive(&self.socket, held).is_err();
                if held.is_empty() {
                    taken = if broken { Taken::Broken } else { Taken::All };
                    break;
                }
            }
            match lane.push(std::mem::take(held)) {
                Ok(()) => pushed = true,
                Err(full) => {
                    *held = full;
                    taken = Taken::Full;
                    break;
                }
            }
        }
        if pushed && self.between.must_tell() {
            self.passage.look();
        }
        taken
    }

    /// Sends a viewer what there is for it.
    fn give(&mut self, now: Instant) -> Turn {
        let Side::Viewer { lane, piece } = &mut self.side else { return Turn::GoesOn };
        // Looked at before the lane: what was pushed before the stream ended is sent.
        let ended = lane.is_abandoned();
        let mut wanted = false;
        loop {
            if piece.is_empty() {
                let Some(next) = lane.pop() else { break };
                wanted |= self.between.took(next.len());
                *piece = next;
                continue;
            }
            match self.socket.send(&piece[..piece.len().min(DATAGRAM_BYTES)]) {
                Ok(true) => piece.advance(piece.len().min(DATAGRAM_BYTES)),
                // The network takes no more now.
                Ok(false) => break,
                Err(_) => return Turn::Over,
            }
        }
        if wanted {
            self.passage.look();
        }
        if ended && piece.is_empty() && self.ends.is_none() {
            // It still plays what it holds back, and what it has missed is sent again meanwhile.
            self.ends = Some(now + self.farewell);
        }
        Turn::GoesOn
    }

    /// A viewer has nothing to say; but this is how it is found out that it is gone.
    fn hear_viewer(&self) -> Turn {
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        for _ in 0..MESSAGES_PER_TURN {
            match self.socket.receive(&mut buffer) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return Turn::Over,
            }
        }
        Turn::GoesOn
    }

    /// Shows the shard what the library has counted.
    pub fn count(&self) {
        if let Some(stats) = self.socket.stats() {
            self.between.show(&path_of(&stats));
        }
    }
}

/// Receives messages into one piece, until there is none now or the piece is long enough.
fn receive(socket: &Socket, piece: &mut Bytes) -> std::io::Result<()> {
    let mut bytes = BytesMut::new();
    let mut buffer = [0; MESSAGE_BYTES_MAX];
    let mut result = Ok(());
    while bytes.len() < PIECE_BYTES {
        match socket.receive(&mut buffer) {
            Ok(Some(length)) => bytes.extend_from_slice(&buffer[..length]),
            Ok(None) => break,
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    *piece = bytes.freeze();
    result
}

/// In the words of the machine of our own.
fn path_of(stats: &Stats) -> PathStats {
    PathStats {
        connections: 1,
        rtt_microseconds: u64::try_from(stats.rtt.as_micros()).unwrap_or(u64::MAX),
        received_packets: stats.received,
        missing_packets: stats.missing.max(stats.rebuilt),
        recovered_packets: stats.came_again + stats.rebuilt,
        lost_packets: stats.lost,
        late_packets: stats.late,
        unreadable_packets: stats.unreadable,
        sent_packets: stats.sent,
        sent_again_packets: stats.sent_again,
        given_up_packets: stats.given_up,
        receive_buffer_packets: stats.receive_buffer,
        send_buffer_packets: stats.send_buffer,
        ..PathStats::default()
    }
}
