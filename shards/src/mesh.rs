//! The lanes between cores, as one shard sees them: one out to each other core, one in from each, and one doorbell.

use std::{collections::VecDeque, os::fd::OwnedFd, sync::Arc};

use shardcast_engine::{
    limits,
    message::{CoreId, Message, Parcel},
    observe::StreamEvent,
};
use shardcast_io::lane::{Doorbell, Receiver, Sender, lane};

/// What goes from core to core.
pub enum Mail {
    /// A word of a hub.
    Word(Message),
    /// A publisher on its way to the core that owns its stream.
    Connection(Parcel, OwnedFd),
    /// For the host alone: something happened to a stream.
    Event(StreamEvent),
}

/// One shard's end of all its lanes.
pub struct Mesh {
    core: CoreId,
    out: Vec<Option<Lane>>,
    incoming: Vec<Option<Incoming>>,
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
    /// Connections that found the lane full. They cannot be left out, and there are never more of them than sockets.
    waiting: VecDeque<(Parcel, OwnedFd)>,
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
                bell: bells[usize::from(core)].clone(),
                counts: Counts::default(),
            })
            .collect();
        for from in 0..usize::from(cores) {
            for to in (0..usize::from(cores)).filter(|to| *to != from) {
                let (sender, receiver) = lane(limits::LANE_SLOTS);
                let bell = bells[to].clone();
                meshes[from].out[to] = Some(Lane { sender, bell, pushed: false, waiting: VecDeque::new() });
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
            Err(Mail::Connection(..) | Mail::Event(_)) => {
                unreachable!("a lane gives back what it was given")
            }
        }
    }

    /// Tells the host, which is at the end of the lane to `host`. False when it is lost, for the lane is full.
    pub fn send_event(&mut self, event: StreamEvent, host: CoreId) -> bool {
        let Some(Some(lane)) = self.out.get_mut(usize::from(host.0)) else { return true };
        lane.pushed = true;
        lane.sender.push(Mail::Event(event)).is_ok()
    }

    /// Sends a connection; it waits here while the lane is full.
    pub fn send_connection(&mut self, parcel: Parcel, socket: OwnedFd, to: CoreId) {
        if let Some(Some(lane)) = self.out.get_mut(usize::from(to.0)) {
            lane.waiting.push_back((parcel, socket));
        }
        self.push_waiting();
    }

    /// Tries again what waits. True when something still does.
    pub fn push_waiting(&mut self) -> bool {
        let mut waiting = false;
        for lane in self.out.iter_mut().flatten() {
            while lane.sender.room() > 0 {
                let Some((parcel, socket)) = lane.waiting.pop_front() else { break };
                let pushed = lane.sender.push(Mail::Connection(parcel, socket));
                debug_assert!(pushed.is_ok(), "there was room");
                lane.pushed = true;
                self.counts.messages += 1;
            }
            waiting |= !lane.waiting.is_empty();
        }
        waiting
    }

    /// Wakes the cores that were sent something since the last call, if they sleep.
    pub fn ring(&mut self) {
        for lane in self.out.iter_mut().flatten() {
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

    /// The next thing from another core.
    pub fn take(&mut self) -> Option<(Mail, CoreId)> {
        let mut lanes = self.incoming.iter_mut().zip(0..);
        lanes.find_map(|(lane, from)| Some((lane.as_mut()?.receiver.pop()?, CoreId(from))))
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
}
