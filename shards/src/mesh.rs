//! The lanes between cores, as one shard sees them: one out to each other core, one in from each, and one doorbell.

use std::{collections::VecDeque, net::SocketAddr, os::fd::OwnedFd, sync::Arc};

use shardcast_engine::{
    hub::ConnectionId,
    limits,
    message::{CoreId, Message, Parcel},
    observe::StreamEvent,
    session::signal::Reply,
};
use shardcast_io::lane::{Doorbell, Receiver, Sender, lane};

use crate::{shard::Call, tls::Seal};

/// What goes from core to core.
pub enum Mail {
    /// A word of a hub.
    Word(Message),
    /// A publisher on its way to the core that owns its stream, with who seals what is said on it.
    Connection(Parcel, OwnedFd, Seal),
    /// The same for a peer of a door over UDP, by the door's number. Its datagrams come by the core that sends this.
    Peer(Parcel, usize),
    /// Datagrams of peers that have moved.
    Datagrams(Box<Batch>),
    /// A peer that was moved here is gone: the next datagram from its address is anybody's.
    Forget {
        /// The number of its door.
        door: usize,
        /// Its address.
        peer: SocketAddr,
    },
    /// A request for a conversation that goes by datagrams, or about one that is there.
    Signal(Box<Call>),
    /// The answer to one.
    Reply {
        /// Who has asked.
        connection: ConnectionId,
        /// The answer.
        reply: Box<Reply>,
    },
    /// For the host alone: something happened to a stream.
    Event(StreamEvent),
}

/// Datagrams that cross together, in the order in which they came.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// By which door each came, from where, and where it ends.
    places: Vec<(usize, SocketAddr, usize)>,
}

impl Batch {
    fn push(&mut self, door: usize, peer: SocketAddr, datagram: &[u8]) {
        self.bytes.extend_from_slice(datagram);
        self.places.push((door, peer, self.bytes.len()));
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= limits::DATAGRAM_BATCH_BYTES
    }

    /// The number of each one's door, who sent it, what it is.
    pub fn iter(&self) -> impl Iterator<Item = (usize, SocketAddr, &[u8])> {
        let mut from = 0;
        self.places.iter().map(move |(door, peer, end)| {
            let begin = std::mem::replace(&mut from, *end);
            (*door, *peer, &self.bytes[begin..*end])
        })
    }
}

/// One shard's end of all its lanes.
pub struct Mesh {
    core: CoreId,
    out: Vec<Option<Lane>>,
    incoming: Vec<Option<Incoming>>,
    /// The lane whose turn it is.
    turn: usize,
    bell: Arc<Doorbell>,
    counts: Counts,
}

/// What one shard has put on its lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Words and connections.
    pub messages: u64,
    /// Frames in them.
    pub frames: u64,
    /// Words that found their lane full and were given back.
    pub refusals: u64,
}

/// How full one core's lanes with another core are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneDepth {
    /// The other core.
    pub core: CoreId,
    /// Messages to it that it has not taken yet.
    pub out: u64,
    /// The most messages from it that were found waiting at once.
    pub incoming_max: u64,
}

struct Lane {
    sender: Sender<Mail>,
    bell: Arc<Doorbell>,
    /// Something was pushed since the bell was last rung.
    pushed: bool,
    /// What found the lane full and cannot be left out: peers that move, and word that one is gone. There is never more of it
    /// than peers.
    waiting: VecDeque<Mail>,
    /// Datagrams that have come since the last message of them.
    batch: Batch,
}

impl Lane {
    /// Puts what waits on the lane as far as there is room, in order.
    fn push_waiting(&mut self, counts: &mut Counts) {
        // Looked at first: nearly always there is nothing.
        while !self.waiting.is_empty() && self.sender.room() > 0 {
            let Some(mail) = self.waiting.pop_front() else { break };
            self.push(mail, counts);
        }
    }

    /// The same for the datagrams, which follow the peers that sent them and leave room for the words of hubs.
    fn push_batch(&mut self, counts: &mut Counts) {
        let any = !self.batch.places.is_empty();
        if any && self.waiting.is_empty() && self.sender.room() > limits::LANE_SLOTS_KEPT {
            let batch = std::mem::take(&mut self.batch);
            self.push(Mail::Datagrams(Box::new(batch)), counts);
        }
    }

    fn push(&mut self, mail: Mail, counts: &mut Counts) {
        let pushed = self.sender.push(mail);
        debug_assert!(pushed.is_ok(), "there was room");
        self.pushed = true;
        counts.messages += 1;
    }
}

struct Incoming {
    receiver: Receiver<Mail>,
    depth_max: usize,
}

impl Mesh {
    /// The meshes of `cores` shards, each joined to each.
    pub fn new(cores: u16) -> Vec<Mesh> {
        let bells: Vec<Arc<Doorbell>> = (0..cores).map(|_| Arc::new(Doorbell::new())).collect();
        let mut meshes: Vec<Mesh> = (0..cores)
            .map(|core| Mesh {
                core: CoreId(core),
                out: (0..cores).map(|_| None).collect(),
                incoming: (0..cores).map(|_| None).collect(),
                turn: 0,
                bell: bells[usize::from(core)].clone(),
                counts: Counts::default(),
            })
            .collect();
        for from in 0..usize::from(cores) {
            for to in (0..usize::from(cores)).filter(|to| *to != from) {
                let (sender, receiver) = lane(limits::LANE_SLOTS);
                let bell = bells[to].clone();
                let (waiting, batch) = (VecDeque::new(), Batch::default());
                meshes[from].out[to] = Some(Lane { sender, bell, pushed: false, waiting, batch });
                meshes[to].incoming[from] = Some(Incoming { receiver, depth_max: 0 });
            }
        }
        meshes
    }

    /// The core whose end this is.
    pub fn core(&self) -> CoreId {
        self.core
    }

    /// The bell of this shard, for others that have lanes into it.
    pub fn bell(&self) -> &Arc<Doorbell> {
        &self.bell
    }

    /// Sends a word, or gives it back when the lane is full.
    pub fn send(&mut self, message: Message, to: CoreId) -> Result<(), Message> {
        let Some(Some(lane)) = self.out.get_mut(usize::from(to.0)) else { return Ok(()) };
        let frames = message.frames() as u64;
        match lane.sender.push(Mail::Word(message)) {
            Ok(()) => {
                lane.pushed = true;
                self.counts.messages += 1;
                self.counts.frames += frames;
                Ok(())
            }
            Err(Mail::Word(message)) => {
                self.counts.refusals += 1;
                Err(message)
            }
            Err(_) => unreachable!("a lane gives back what it was given"),
        }
    }

    /// Tells the host, which is at the end of the lane to `host`. False when it is lost, for the lane is full.
    pub fn send_event(&mut self, event: StreamEvent, host: CoreId) -> bool {
        let Some(Some(lane)) = self.out.get_mut(usize::from(host.0)) else { return true };
        lane.pushed = true;
        lane.sender.push(Mail::Event(event)).is_ok()
    }

    /// Sends what cannot be left out: a peer that moves, or word that one is gone. It waits here while the lane is full.
    pub fn send_whole(&mut self, mail: Mail, to: CoreId) {
        if let Some(Some(lane)) = self.out.get_mut(usize::from(to.0)) {
            lane.waiting.push_back(mail);
            lane.push_waiting(&mut self.counts);
        }
    }

    /// Sends a datagram on to the core that its peer has moved to, with the next [`ring`](Self::ring). False when it is lost,
    /// for too many wait already.
    pub fn forward(&mut self, door: usize, peer: SocketAddr, datagram: &[u8], to: CoreId) -> bool {
        let Some(Some(lane)) = self.out.get_mut(usize::from(to.0)) else { return false };
        if lane.batch.is_full() {
            lane.push_batch(&mut self.counts);
            if lane.batch.is_full() {
                return false;
            }
        }
        lane.batch.push(door, peer, datagram);
        true
    }

    /// True when something waits for room in a lane.
    pub fn is_waiting(&self) -> bool {
        self.out.iter().flatten().any(|lane| !lane.waiting.is_empty() || !lane.batch.places.is_empty())
    }

    /// Sends on what waits and the datagrams that have come, and wakes the cores that were sent something since the last call,
    /// if they sleep.
    pub fn ring(&mut self) {
        for lane in self.out.iter_mut().flatten() {
            lane.push_waiting(&mut self.counts);
            lane.push_batch(&mut self.counts);
            if std::mem::take(&mut lane.pushed) {
                lane.bell.ring();
            }
        }
    }

    /// Takes note of how much waits. Called before taking: a lane is never fuller than then.
    pub fn sound(&mut self) {
        for lane in self.incoming.iter_mut().flatten() {
            lane.depth_max = lane.depth_max.max(lane.receiver.len());
        }
    }

    /// The next thing from another core; each in turn, so that none is kept waiting by one that never stops.
    pub fn take(&mut self) -> Option<(Mail, CoreId)> {
        let lanes = self.incoming.len();
        for from in (self.turn..lanes).chain(0..self.turn) {
            if let Some(mail) = self.incoming[from].as_mut().and_then(|lane| lane.receiver.pop()) {
                self.turn = if from + 1 == lanes { 0 } else { from + 1 };
                return Some((mail, CoreId(from as u16)));
            }
        }
        None
    }

    /// True when something has come.
    pub fn has_mail(&self) -> bool {
        self.incoming.iter().flatten().any(|lane| !lane.receiver.is_empty())
    }

    /// What this shard has put on its lanes since the start.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How full the lanes are.
    pub fn depths(&self) -> impl Iterator<Item = LaneDepth> {
        let lanes = self.out.iter().zip(&self.incoming).zip(0..);
        lanes.filter_map(|((out, incoming), core)| {
            let (out, incoming) = (out.as_ref()?, incoming.as_ref()?);
            Some(LaneDepth {
                core: CoreId(core),
                out: (limits::LANE_SLOTS - out.sender.room()) as u64,
                incoming_max: incoming.depth_max as u64,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use shardcast_engine::{
        media::{Frame, Payload, StreamName, TrackId},
        stream::{Numbered, Place},
        time::MediaTime,
    };

    #[test]
    fn every_core_reaches_every_other_and_a_full_lane_gives_back() {
        let mut meshes = Mesh::new(3);
        let word = |index: usize| Message::KeyframeWanted {
            name: StreamName::new("live", &format!("cam{index}")).expect("a legal name"),
        };
        for to in [1, 2] {
            assert!(meshes[0].send(word(0), CoreId(to)).is_ok());
            assert!(meshes[usize::from(to)].has_mail());
            let (mail, from) = meshes[usize::from(to)].take().expect("it was sent");
            assert!(matches!(mail, Mail::Word(Message::KeyframeWanted { .. })) && from == CoreId(0));
        }
        for index in 0..limits::LANE_SLOTS {
            assert!(meshes[2].send(word(index), CoreId(0)).is_ok());
        }
        let returned = meshes[2].send(word(9999), CoreId(0)).expect_err("the lane is full");
        assert!(matches!(returned, Message::KeyframeWanted { name } if name.stream() == "cam9999"));
        let slots = limits::LANE_SLOTS as u64;
        assert_eq!(meshes[2].counts(), Counts { messages: slots, frames: 0, refusals: 1 });
        meshes[0].sound();
        assert!(meshes[0].take().is_some());
        let depths: Vec<_> = meshes[2].depths().map(|lane| (lane.core.0, lane.out)).collect();
        assert_eq!(depths, [(0, slots - 1), (1, 0)]);
        let depths: Vec<_> = meshes[0].depths().map(|lane| (lane.core.0, lane.incoming_max)).collect();
        assert_eq!(depths, [(1, 0), (2, slots)]);
        assert!(meshes[2].send(word(1), CoreId(0)).is_ok());
    }

    #[test]
    fn a_frame_is_counted_once_for_each_core_that_it_goes_to() {
        let mut meshes = Mesh::new(3);
        let name = StreamName::new("live", "cam").expect("a legal name");
        let payload = Payload::Metadata(Bytes::new());
        let frame = Numbered {
            place: Place { group: 1, index: 0 },
            frame: Frame {
                track: TrackId(0),
                dts: MediaTime::from_millis(0),
                pts: MediaTime::from_millis(0),
                payload,
            },
        };
        let frames: Arc<[Numbered]> = Arc::from(vec![frame.clone(), frame]);
        for to in [1, 2] {
            let (name, frames) = (name.clone(), frames.clone());
            let message = Message::Frames { name, subscription: 1, after: None, frames };
            assert!(meshes[0].send(message, CoreId(to)).is_ok());
        }
        assert_eq!(meshes[0].counts(), Counts { messages: 2, frames: 4, refusals: 0 });
    }

    #[test]
    fn datagrams_cross_by_the_round_leave_room_for_words_and_are_lost_when_there_is_none() {
        let mut meshes = Mesh::new(2);
        let (here, there) = (CoreId(0), CoreId(1));
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        assert!(meshes[0].forward(3, peer, b"one", there) && meshes[0].forward(4, peer, b"", there));
        assert!(!meshes[1].has_mail() && meshes[0].is_waiting());
        meshes[0].ring();
        assert!(!meshes[0].is_waiting());
        let Some((Mail::Datagrams(batch), from)) = meshes[1].take() else { panic!("they cross") };
        assert_eq!(from, here);
        assert_eq!(batch.iter().collect::<Vec<_>>(), [(3, peer, &b"one"[..]), (4, peer, b"")]);

        let large = vec![7; limits::DATAGRAM_BATCH_BYTES];
        let forwarded =
            (0..2 * limits::LANE_SLOTS).take_while(|_| meshes[0].forward(3, peer, &large, there)).count();
        assert_eq!(forwarded, limits::LANE_SLOTS - limits::LANE_SLOTS_KEPT + 1, "one message waits");
        let word = Message::KeyframeWanted { name: StreamName::new("live", "cam").expect("a legal name") };
        assert!(meshes[0].send(word, there).is_ok(), "a word finds room");
        assert!(!meshes[0].forward(3, peer, &large, there));
        // Once there is room they go on, behind what cannot be left out.
        assert_eq!((0..3).filter_map(|_| meshes[1].take()).count(), 3);
        meshes[0].send_whole(Mail::Forget { door: 3, peer }, there);
        meshes[0].ring();
        let mut rest: Vec<Mail> = std::iter::from_fn(|| meshes[1].take()).map(|(mail, _)| mail).collect();
        assert!(matches!(rest.pop(), Some(Mail::Datagrams(_))));
        assert!(matches!(rest.pop(), Some(Mail::Forget { door: 3, .. })));
    }
}
