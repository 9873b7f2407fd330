//! The lanes between cores, as one shard sees them: one out to each other core, one in from each, and one doorbell.

use std::{collections::VecDeque, os::fd::OwnedFd, sync::Arc};

use shardcast_engine::{
    limits,
    message::{CoreId, Message, Parcel},
};
use shardcast_io::lane::{Doorbell, Receiver, Sender, lane};

/// What goes from core to core.
pub enum Mail {
    /// A word of a hub.
    Word(Message),
    /// A publisher on its way to the core that owns its stream.
    Connection(Parcel, OwnedFd),
}

/// One shard's end of all its lanes.
pub struct Mesh {
    core: CoreId,
    out: Vec<Option<Lane>>,
    incoming: Vec<Option<Receiver<Mail>>>,
    bell: Arc<Doorbell>,
}

struct Lane {
    sender: Sender<Mail>,
    bell: Arc<Doorbell>,
    /// Something was pushed since the bell was last rung.
    pushed: bool,
    /// Connections that found the lane full. They cannot be left out, and there are never more of them than sockets.
    waiting: VecDeque<(Parcel, OwnedFd)>,
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
            })
            .collect();
        for from in 0..usize::from(cores) {
            for to in (0..usize::from(cores)).filter(|to| *to != from) {
                let (sender, receiver) = lane(limits::LANE_SLOTS);
                let bell = bells[to].clone();
                meshes[from].out[to] = Some(Lane { sender, bell, pushed: false, waiting: VecDeque::new() });
                meshes[to].incoming[from] = Some(receiver);
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
        let Some(lane) = self.lane(to) else { return Ok(()) };
        match lane.sender.push(Mail::Word(message)) {
            Ok(()) => {
                lane.pushed = true;
                Ok(())
            }
            Err(Mail::Word(message)) => Err(message),
            Err(Mail::Connection(..)) => unreachable!("a lane gives back what it was given"),
        }
    }

    /// Sends a connection; it waits here while the lane is full.
    pub fn send_connection(&mut self, parcel: Parcel, socket: OwnedFd, to: CoreId) {
        if let Some(lane) = self.lane(to) {
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

    /// The next thing from another core.
    pub fn take(&mut self) -> Option<(Mail, CoreId)> {
        self.incoming.iter_mut().zip(0..).find_map(|(lane, from)| Some((lane.as_mut()?.pop()?, CoreId(from))))
    }

    /// True when something has come.
    pub fn has_mail(&self) -> bool {
        self.incoming.iter().flatten().any(|lane| !lane.is_empty())
    }

    fn lane(&mut self, to: CoreId) -> Option<&mut Lane> {
        self.out.get_mut(usize::from(to.0))?.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardcast_engine::media::StreamName;

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
        assert!(meshes[0].take().is_some());
        assert!(meshes[2].send(word(1), CoreId(0)).is_ok());
    }
}
