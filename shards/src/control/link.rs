//! The lane from the control thread to each shard, and the answers' way back.
//!
//! A request is a message on a lane and a ring of the shard's doorbell, as from any neighbour core. The answer comes by a
//! channel that never makes the shard wait.

use std::{collections::BTreeMap, sync::Arc, thread::JoinHandle};

use shardcast_engine::{
    media::StreamName,
    message::CoreId,
    settings::Settings,
    stats::{DoorStats, RelayStats, ShardStats, StreamStats},
};
use shardcast_io::lane::{self, Doorbell, Receiver, Sender};
use tokio::sync::{mpsc, oneshot};

use crate::{
    host::Door,
    mesh::{LaneDepth, Mesh},
    profile::LoopStats,
    tls::Certificate,
};

/// Requests that may wait for one shard. A shard that has left so many unread is stuck, and is told no more.
pub const REQUESTS_MAX: usize = 32;

/// What the control thread asks of a shard.
#[derive(Debug)]
pub enum Request {
    /// Say how it stands.
    Report(oneshot::Sender<Report>),
    /// The operator changed something.
    Settings(Arc<Settings>),
    /// Doors that speak TLS prove who they are with this from here on. Whoever is connected stays as it is.
    Certificate(Certificate),
    /// Take no new peers, tell those that are there, close recordings, then end.
    Drain,
}

/// How a shard stands.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Its counters and gauges.
    pub stats: ShardStats,
    /// Where its loop's time goes.
    pub profile: LoopStats,
    /// Its doors.
    pub doors: Vec<DoorStats>,
    /// What it pushes and pulls.
    pub relays: Vec<RelayStats>,
    /// Its lanes with every other core.
    pub lanes: Vec<LaneDepth>,
    /// The streams that it owns or has viewers of.
    pub streams: Vec<StreamStats>,
}

/// The shard's end of its lane.
pub struct Port {
    requests: Receiver<Request>,
}

impl Port {
    /// The next request, if one waits. Never blocks. The doorbell that was given to [`link`] rings for it.
    pub fn try_next(&mut self) -> Option<Request> {
        self.requests.pop()
    }
    /// Whether nothing waits, for the last look before the shard sleeps.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }
}

/// The control thread's end of the lane to one shard.
pub struct Link {
    requests: Sender<Request>,
    bell: Arc<Doorbell>,
}

/// A lane to the shard that sleeps at `bell`.
pub fn link(bell: Arc<Doorbell>) -> (Link, Port) {
    let (sender, receiver) = lane::lane(REQUESTS_MAX);
    (Link { requests: sender, bell }, Port { requests: receiver })
}

impl Link {
    /// False when the shard is stuck or gone.
    pub fn send(&mut self, request: Request) -> bool {
        let sent = !self.requests.is_abandoned() && self.requests.push(request).is_ok();
        self.bell.ring();
        sent
    }
}

/// The thread of a shard, which says at its end what [`Ended`] says.
pub type ShardThread = JoinHandle<Result<(), String>>;

/// What starting the shards gives to whoever controls them.
pub struct Started {
    /// One per shard, in the order of their cores.
    pub links: Vec<Link>,
    /// Each shard says here how it ended.
    pub ended: mpsc::UnboundedReceiver<Ended>,
    /// Their threads, which end with the same word.
    pub threads: Vec<ShardThread>,
    /// For a node inside another program: its end of the lanes with all shards, and its door into each.
    pub host: Option<(Mesh, Vec<Arc<Door>>)>,
}

/// A shard's end.
#[derive(Debug)]
pub struct Ended {
    /// Which one.
    pub core: CoreId,
    /// Drained, or what went wrong.
    pub result: Result<(), String>,
}

/// Where the node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Not every shard is up.
    Starting,
    /// Peers are welcome.
    Serving,
    /// Peers are told to go.
    Draining,
}

/// All shards at (nearly) one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// One per shard; nothing from a shard that did not answer in time.
    pub reports: Vec<Option<Report>>,
}

impl Snapshot {
    /// True when every shard has answered.
    pub fn is_whole(&self) -> bool {
        self.reports.iter().all(Option::is_some)
    }
    /// All counters and gauges of all shards added up.
    pub fn total(&self) -> ShardStats {
        let mut total = ShardStats::default();
        self.reports.iter().flatten().for_each(|report| total.merge(&report.stats));
        total
    }
    /// Each stream once, with what all its cores say about it.
    pub fn streams(&self) -> BTreeMap<StreamName, StreamStats> {
        let mut streams = BTreeMap::<StreamName, StreamStats>::new();
        for stream in self.reports.iter().flatten().flat_map(|report| &report.streams) {
            match streams.get_mut(&stream.name) {
                Some(known) => known.merge(stream.clone()),
                None => {
                    streams.insert(stream.name.clone(), stream.clone());
                }
            }
        }
        streams
    }
}
