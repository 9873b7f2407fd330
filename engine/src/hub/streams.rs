//! The streams of one core: those it owns and those it has viewers of.

use std::{collections::BTreeMap, sync::Arc};

use super::ConnectionId;
use crate::{
    limits::StreamLimits,
    media::{Payload, StreamName},
    message::CoreId,
    session::Form,
    stats::{ShardStats, StreamStats},
    stream::{Group, Log, Publication},
    time::Now,
};

/// A stream on this core. The number is never used again, so a late word about one that ended meets nobody; the slot is,
/// and saves each frame a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId {
    number: u64,
    slot: u32,
}

/// A stream as one core holds it.
pub struct Stream {
    pub name: StreamName,
    pub limits: Arc<StreamLimits>,
    pub source: Source,
    pub group: Group,
    pub logs: Vec<Log>,
    /// Connections that play it or wait for it.
    pub viewers: Vec<ConnectionId>,
    /// Since when a replica has had no viewer.
    pub lonely: Option<Now>,
    /// It has ended; its viewers still get what the logs hold.
    pub ended: bool,
    /// The host has been told that somebody watches it.
    pub watched: bool,
    /// A batch for other cores waits to be posted.
    pub in_batches: bool,
    /// Its flush has a timer that no frame need look for.
    pub flush_armed: bool,
    #[cfg(feature = "record")]
    pub recording: Option<super::RecordingId>,
    /// How it is packaged here, in each form.
    #[cfg(feature = "segment")]
    pub packaged: super::packaging::Packaged,
    pub keyframe_asked: Option<Now>,
    /// Payload bytes taken from its publishers.
    pub bytes: u64,
}

/// Where a stream's frames come from.
pub enum Source {
    /// This core owns it.
    Owned(Box<Publication<ConnectionId>>),
    /// Another core does.
    Replica {
        owner: CoreId,
        subscription: u64,
        /// The opening has come.
        live: bool,
    },
}

impl Stream {
    fn new(name: StreamName, limits: Arc<StreamLimits>, source: Source) -> Self {
        Stream {
            name,
            limits,
            source,
            group: Group::new(),
            logs: Vec::new(),
            viewers: Vec::new(),
            lonely: None,
            ended: false,
            watched: false,
            in_batches: false,
            flush_armed: false,
            #[cfg(feature = "record")]
            recording: None,
            #[cfg(feature = "segment")]
            packaged: super::packaging::Packaged::default(),
            keyframe_asked: None,
            bytes: 0,
        }
    }

    /// The stream as this core sees it.
    pub fn stats(&self) -> StreamStats {
        let (published, tracks) = match &self.source {
            Source::Owned(publication) => {
                let tracks = self.group.latest().parameters.iter().filter_map(|frame| match &frame.payload {
                    Payload::Parameters(parameters) => Some(parameters.clone()),
                    _ => None,
                });
                (publication.publisher.is_some(), tracks.collect())
            }
            Source::Replica { .. } => (false, Vec::new()),
        };
        let viewers = self.viewers.len() as u64;
        StreamStats { name: self.name.clone(), published, viewers, bytes: self.bytes, tracks }
    }

    /// True when viewers can be served.
    pub fn is_live(&self) -> bool {
        !self.ended
            && match &self.source {
                Source::Owned(publication) => publication.is_live(),
                Source::Replica { live, .. } => *live,
            }
    }

    /// True when it is cut for those who fetch it.
    pub fn is_cut(&self) -> bool {
        #[cfg(feature = "segment")]
        let cut = self.packaged.is_wanted();
        #[cfg(not(feature = "segment"))]
        let cut = false;
        cut
    }

    /// True when it is live and this core owns it.
    pub fn is_live_here(&self) -> bool {
        matches!(self.source, Source::Owned(_)) && self.is_live()
    }

    /// The owner's side, if this core is the owner.
    pub fn publication(&mut self) -> Option<&mut Publication<ConnectionId>> {
        match &mut self.source {
            Source::Owned(publication) => Some(publication),
            Source::Replica { .. } => None,
        }
    }

    /// The log of `form`, made when it is first wanted.
    pub fn log(&mut self, form: &'static Form, now: Now) -> &mut Log {
        let index = self.logs.iter().position(|log| log.form() == form).unwrap_or_else(|| {
            self.logs.push(Log::new(form, &self.group, &self.limits, now));
            self.logs.len() - 1
        });
        &mut self.logs[index]
    }

    /// A viewer has left its log. One that nobody reads is let go: the kept group is enough to make it again.
    pub fn release(&mut self, form: &'static Form) {
        let Some(index) = self.logs.iter().position(|log| log.form() == form) else { return };
        self.logs[index].readers -= 1;
        if self.logs[index].readers == 0 {
            self.logs.swap_remove(index);
        }
    }
}

/// All streams of a core.
#[derive(Default)]
pub struct Streams {
    by_name: BTreeMap<StreamName, StreamId>,
    slots: Vec<Option<(u64, Box<Stream>)>>,
    free: Vec<u32>,
    last: u64,
}

impl Streams {
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn find(&self, name: &StreamName) -> Option<StreamId> {
        self.by_name.get(name).copied()
    }

    pub fn look(&self, id: StreamId) -> Option<&Stream> {
        let (number, stream) = self.slots.get(id.slot as usize)?.as_ref()?;
        (*number == id.number).then_some(&**stream)
    }

    pub fn get(&mut self, id: StreamId) -> Option<&mut Stream> {
        let (number, stream) = self.slots.get_mut(id.slot as usize)?.as_mut()?;
        (*number == id.number).then_some(&mut **stream)
    }

    pub fn insert(&mut self, name: StreamName, limits: Arc<StreamLimits>, source: Source) -> StreamId {
        self.last += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("streams are bounded far below 2^32")
        });
        let id = StreamId { number: self.last, slot };
        let former = self.by_name.insert(name.clone(), id);
        assert!(former.is_none(), "a name stands for one stream");
        self.slots[slot as usize] = Some((self.last, Box::new(Stream::new(name, limits, source))));
        id
    }

    /// Frees the name; the stream stays until its viewers have gone.
    pub fn retire(&mut self, id: StreamId) {
        let Some(stream) = self.get(id) else { return };
        stream.ended = true;
        let (name, lonely) = (stream.name.clone(), stream.viewers.is_empty());
        if self.by_name.get(&name) == Some(&id) {
            self.by_name.remove(&name);
        }
        if lonely {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: StreamId) {
        self.slots[id.slot as usize] = None;
        self.free.push(id.slot);
    }

    /// Removes a retired stream that nobody watches any more.
    pub fn sweep(&mut self, id: StreamId) {
        if self.look(id).is_some_and(|stream| stream.ended && stream.viewers.is_empty()) {
            self.remove(id);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (StreamId, &Stream)> {
        let held = self.slots.iter().zip(0..).filter_map(|(held, slot)| Some((held.as_ref()?, slot)));
        held.map(|((number, stream), slot)| (StreamId { number: *number, slot }, &**stream))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.slots.iter_mut().flatten().map(|(_, stream)| &mut **stream)
    }

    /// Streams that this core owns and that are live.
    pub fn owned(&self) -> usize {
        self.iter().filter(|(_, stream)| stream.is_live_here()).count()
    }

    /// Those of them whose app is `app`.
    pub fn owned_in(&self, app: &str) -> usize {
        self.iter().filter(|(_, stream)| stream.is_live_here() && stream.name.app() == app).count()
    }

    /// Adds the gauges that follow from the streams.
    pub fn count(&self, stats: &mut ShardStats) {
        for (_, stream) in self.iter() {
            if let Source::Owned(publication) = &stream.source {
                stats.streams += u64::from(publication.is_live());
                stats.publishers += u64::from(publication.publisher.is_some());
            }
            stats.viewers += stream.viewers.len() as u64;
            stats.kept_bytes += stream.group.bytes() as u64;
            stats.log_bytes += stream.logs.iter().map(|log| log.bytes() as u64).sum::<u64>();
        }
    }
}
