//! One core's brain: sessions and neighbours in, deliveries out. A core's work without the core.
//!
//! The hub holds every session of its core, every stream that its core owns or has viewers of, and nothing of the kernel.
//! It is driven like everything else here: one [`Input`] and the time, [`poll`](Hub::poll) until nothing is left,
//! [`deadline`](Hub::deadline). A connection is a number that the driver chose; its socket is the driver's business.
//!
//! `connection.rs` holds what one peer is to the hub and `connection/leaving.rs` how it leaves, `publish.rs` the way of a
//! frame in, `play.rs` the way out, `verdict.rs` who may, `neighbour.rs` what crosses between cores, `recording.rs` the recorder of an owned
//! stream, `packaging.rs` what is fetched of a stream by name.

mod audit;
mod connection;
mod neighbour;
#[cfg(feature = "segment")]
mod packaging;
mod play;
mod publish;
#[cfg(feature = "record")]
mod recording;
mod streams;
#[cfg(test)]
mod tests;
mod timers;
mod verdict;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    net::SocketAddr,
    sync::Arc,
};

use bytes::{Bytes, BytesMut};

#[cfg(feature = "record")]
use crate::record;
use crate::{
    access::Wish,
    error::ErrorKind,
    media::StreamName,
    message::{CoreId, Message, Parcel},
    observe::StreamEvent,
    session::{
        self, Ports, Session, Shelf,
        signal::{Reply, Signal},
    },
    settings::Settings,
    stats::{PathStats, ShardStats, StreamStats},
    time::{Now, Wall},
};
pub use audit::Census;
#[cfg(feature = "segment")]
pub use connection::Allowance;
use connection::Connection;
#[cfg(feature = "record")]
pub use recording::RecordAnswer;
use streams::Streams;
use timers::{Timer, Timers};

/// A connection, as the driver numbers it: a slot that is used again, and how often it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// The place in the driver's table.
    pub slot: u32,
    /// Which user of the place.
    pub generation: u32,
}

/// A recording, as the hub numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordingId(pub u64);

/// What the hub is told.
pub enum Input<'a> {
    /// A peer came in by a door.
    Connected {
        /// Its number.
        connection: ConnectionId,
        /// The door.
        door: &'static str,
        /// Who.
        peer: SocketAddr,
        /// Its conversation, fresh.
        session: Box<dyn Session>,
    },
    /// A publisher was moved here by the core that accepted it.
    Adopted {
        /// Its number on this core.
        connection: ConnectionId,
        /// Everything else about it.
        parcel: Parcel,
    },
    /// Bytes came.
    Received {
        /// From whom.
        connection: ConnectionId,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// A datagram came from a port that [`Output::Ports`] named.
    Datagram {
        /// Whose port it is.
        connection: ConnectionId,
        /// The port's channel.
        channel: u8,
        /// The datagram, not empty.
        bytes: &'a [u8],
    },
    /// A datagram came for a session that was opened by a [`Signal`].
    From {
        /// Whose.
        connection: ConnectionId,
        /// From where.
        address: SocketAddr,
        /// The datagram, not empty.
        bytes: &'a [u8],
    },
    /// Something is asked about a conversation that is here.
    Signal {
        /// Whose.
        connection: ConnectionId,
        /// What.
        signal: Box<Signal>,
    },
    /// The answer to [`Output::Signal`].
    Signalled {
        /// Who asked.
        connection: ConnectionId,
        /// The answer.
        reply: Box<Reply>,
    },
    /// What [`Hub::lend`] gave is back, with the bytes that came.
    Filled {
        /// From whom.
        connection: ConnectionId,
        /// The memory, the new bytes at its end.
        memory: BytesMut,
        /// How many bytes came, perhaps none.
        received: usize,
    },
    /// What [`Output::Send`] or [`Output::SendPackets`] asked for is done.
    Sent {
        /// To whom.
        connection: ConnectionId,
        /// How many bytes went (at least one), or what was wrong with the socket.
        result: Result<usize, Lost>,
    },
    /// The peer will send no more, or is gone.
    Closed {
        /// Who.
        connection: ConnectionId,
        /// How.
        how: Lost,
    },
    /// What [`Output::Quiet`] asked for is done: no byte of this connection is on its way any more.
    Quiet {
        /// Whose.
        connection: ConnectionId,
    },
    /// The answer to [`Output::Ask`]. One that comes too late is dropped.
    Judged {
        /// Who asked.
        connection: ConnectionId,
        /// Which wish of its.
        ticket: u64,
        /// Yes or no.
        allowed: bool,
    },
    /// A word from another core.
    Mail(Message, CoreId),
    /// What [`Output::Mail`] asked for could not be: the lane is full.
    Undelivered(Message, CoreId),
    /// An answer for a recorder.
    #[cfg(feature = "record")]
    Recorded {
        /// Whose.
        recording: RecordingId,
        /// The answer.
        answer: RecordAnswer,
    },
    /// The deadline has come.
    Timeout,
    /// The operator changed something.
    Settings(Arc<Settings>),
    /// The node is going down: tell the peers, finish what is being written.
    Drain,
}

/// How a connection was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The peer closed it.
    Eof,
    /// The socket failed, with the system's word for it.
    Failed(&'static str),
}

/// What the hub wants done.
#[derive(Debug)]
pub enum Output {
    /// Send these bytes; answered by [`Input::Sent`]. Never a second one for a connection before that.
    Send {
        /// To whom.
        connection: ConnectionId,
        /// What, never empty.
        bytes: Bytes,
    },
    /// Send these packets, each behind its head of four bytes, to the ports of the peer, by their channels; answered like
    /// [`Output::Send`], of which it has the place.
    SendPackets {
        /// To whom.
        connection: ConnectionId,
        /// What, never empty.
        bytes: Bytes,
    },
    /// The ports of the peer's address that datagrams come from and packets go to, from here on; `None` when there are none any more.
    Ports {
        /// Whose.
        connection: ConnectionId,
        /// Which.
        ports: Option<Ports>,
    },
    /// Send a datagram to this address at once, and bring what comes from there: it is the peer's.
    Datagram {
        /// Whose.
        connection: ConnectionId,
        /// Where to.
        to: SocketAddr,
        /// What.
        bytes: Bytes,
    },
    /// Where the peer is from here on.
    Address {
        /// Whose.
        connection: ConnectionId,
        /// The address.
        address: SocketAddr,
    },
    /// Bring this to the conversation that it is about, wherever that is, or open the one that it offers; answered by
    /// [`Input::Signalled`].
    Signal {
        /// Who asks.
        connection: ConnectionId,
        /// Its address.
        peer: SocketAddr,
        /// What.
        signal: Box<Signal>,
    },
    /// The answer to the [`Signal`] that opened a session, or to [`Input::Signal`].
    Reply {
        /// Whose session gives it.
        connection: ConnectionId,
        /// The answer.
        reply: Box<Reply>,
    },
    /// Close the connection. It is not mentioned again.
    Close {
        /// Whose.
        connection: ConnectionId,
    },
    /// Stop receiving, give what has come, then say [`Input::Quiet`].
    Quiet {
        /// Whose.
        connection: ConnectionId,
    },
    /// Move a quiet connection to another core. It is not mentioned again here.
    Move {
        /// Whose.
        connection: ConnectionId,
        /// Where to.
        to: CoreId,
        /// What goes with the descriptor.
        parcel: Parcel,
    },
    /// The authenticator wants to answer later: ask it ([`ask`](crate::access::Authenticator::ask)), and bring
    /// [`Input::Judged`].
    Ask {
        /// Who asks.
        connection: ConnectionId,
        /// Which wish of its.
        ticket: u64,
        /// What it wants.
        wish: Wish,
    },
    /// A word for another core. When its lane is full, [`Input::Undelivered`] before the next poll: words keep their order.
    Mail(Message, CoreId),
    /// Something for the driver of recordings: to open, append or finish. Answered by [`Input::Recorded`].
    #[cfg(feature = "record")]
    Record {
        /// Whose.
        recording: RecordingId,
        /// What.
        task: record::Output,
    },
    /// A line for the log.
    Notice(Notice),
    /// Something that a host wants to know; only of a hub that was asked to [`observe`](Hub::observe).
    Event(StreamEvent),
}

/// A line for the log: once per connection's end that has a cause, and for what an operator should know.
#[derive(Clone, Debug)]
pub struct Notice {
    /// How bad it is.
    pub level: Level,
    /// Who, if it was a peer.
    pub peer: Option<SocketAddr>,
    /// By which door.
    pub door: &'static str,
    /// About which stream.
    pub stream: Option<StreamName>,
    /// What happened.
    pub text: String,
    /// At which byte of what the peer sent.
    pub at: Option<u64>,
}

/// How bad a [`Notice`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something began or ended as it should.
    Info,
    /// A peer did something wrong, or a bound was reached.
    Warning,
    /// Something that an operator must look at.
    Alarm,
}

/// One core's brain.
pub struct Hub {
    core: CoreId,
    cores: u16,
    settings: Arc<Settings>,
    connections: Vec<Option<Box<Connection>>>,
    streams: Streams,
    /// Connections that may have something to send.
    ready: VecDeque<ConnectionId>,
    outputs: VecDeque<Output>,
    /// Streams with a batch for other cores.
    batches: Vec<streams::StreamId>,
    /// Words that wait for room in a full lane, per core.
    backlog: BTreeMap<CoreId, neighbour::Backlog>,
    timers: Timers,
    /// When peers that take nothing were last looked for.
    swept: Now,
    /// What connections have counted on their ways that are closed by now.
    paths: [PathStats; 2],
    subscriptions: u64,
    /// Numbers the wishes that wait for a verdict.
    tickets: u64,
    #[cfg(feature = "record")]
    recordings: recording::Recordings,
    #[cfg(feature = "segment")]
    packages: packaging::Packages,
    /// What the sessions of this core share that carry streams themselves.
    shelf: Shelf,
    stats: ShardStats,
    /// Wall-clock nanoseconds at monotonic zero.
    wall_offset: i128,
    draining: bool,
    observed: bool,
    /// Streams of this core that went live or ended since the driver asked, if it asks.
    news: Option<Vec<StreamName>>,
}

impl Hub {
    /// The hub of `core` among `cores`.
    pub fn new(core: CoreId, cores: u16, settings: Arc<Settings>) -> Self {
        assert!(core.0 < cores, "a core is one of the node's");
        Hub {
            core,
            cores,
            settings,
            connections: Vec::new(),
            streams: Streams::default(),
            ready: VecDeque::new(),
            outputs: VecDeque::new(),
            batches: Vec::new(),
            backlog: BTreeMap::new(),
            timers: Timers::default(),
            swept: Now(0),
            paths: [PathStats::default(); 2],
            subscriptions: 0,
            tickets: 0,
            #[cfg(feature = "record")]
            recordings: recording::Recordings::default(),
            #[cfg(feature = "segment")]
            packages: packaging::Packages::default(),
            shelf: Shelf::default(),
            stats: ShardStats::default(),
            wall_offset: 0,
            draining: false,
            observed: false,
            news: None,
        }
    }

    /// From here on it says what happens to its streams ([`Output::Event`]). What it says of viewers is about those of this
    /// core.
    pub fn observe(&mut self) {
        self.observed = true;
    }

    /// Which streams that this core owns went live or ended since this was asked last; from the first time on. Whether one is
    /// live now, [`is_live_here`](Self::is_live_here) says.
    pub fn take_news(&mut self) -> Vec<StreamName> {
        self.news.replace(Vec::new()).unwrap_or_default()
    }

    /// This core owns the stream and it is live: it has a publisher, or waits for it to come back.
    pub fn is_live_here(&self, name: &StreamName) -> bool {
        let found = self.streams.find(name).and_then(|found| self.streams.look(found));
        found.is_some_and(streams::Stream::is_live_here)
    }

    /// This connection is closed, or is only sent what is left for it.
    pub fn is_ending(&self, id: ConnectionId) -> bool {
        let found = self.connections.get(id.slot as usize).and_then(Option::as_deref);
        found.filter(|connection| connection.id == id).is_none_or(Connection::is_closing)
    }

    /// The streams that this core owns and that are live.
    pub fn live(&self) -> impl Iterator<Item = &StreamName> {
        self.streams.iter().filter(|(_, stream)| stream.is_live_here()).map(|(_, stream)| &stream.name)
    }

    /// Takes one input. Drain [`poll`](Self::poll) before waiting for the next.
    pub fn handle(&mut self, input: Input<'_>, now: Now) {
        match input {
            Input::Connected { connection, door, peer, session } => {
                self.connected(connection, door, peer, session, now);
            }
            Input::Adopted { connection, parcel } => self.adopted(connection, parcel, now),
            Input::Received { connection, bytes } => self.received(connection, bytes, now),
            Input::Datagram { connection, channel, bytes } => {
                self.datagram_came(connection, channel, bytes, now)
            }
            Input::From { connection, address, bytes } => {
                self.stats.received_bytes += bytes.len() as u64;
                self.drive(connection, session::Input::From { address, bytes }, now);
            }
            Input::Signal { connection, signal } => {
                self.drive(connection, session::Input::Signal(&signal), now);
            }
            Input::Signalled { connection, reply } => {
                self.drive(connection, session::Input::Signalled(reply), now);
            }
            Input::Filled { connection, memory, received } => {
                self.filled(connection, memory, received, now);
            }
            Input::Sent { connection, result } => self.sent(connection, result, now),
            Input::Closed { connection, how } => self.lost(connection, how, now),
            Input::Quiet { connection } => self.quiet(connection),
            Input::Judged { connection, ticket, allowed } => self.judged(connection, ticket, allowed, now),
            Input::Mail(message, from) => self.mail(message, from, now),
            Input::Undelivered(message, to) => self.undelivered(message, to, now),
            #[cfg(feature = "record")]
            Input::Recorded { recording, answer } => self.recorded(recording, answer, now),
            Input::Timeout => self.timeout(now),
            Input::Settings(settings) => self.set_settings(settings),
            Input::Drain => self.drain(now),
        }
    }

    /// The next thing to do, or `None` when there is nothing left. What is sent depends on `now` (a viewer may lag), so
    /// a driver may stop anywhere and go on later.
    pub fn poll(&mut self, now: Now) -> Option<Output> {
        if !self.batches.is_empty() {
            self.post_batches();
        }
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            let connection = self.ready.pop_front()?;
            if let Some(output) = self.next_send(connection, now) {
                return Some(output);
            }
        }
    }

    /// What the hub keeps of a connection, to be fetched into the processor's cache and for nothing else: a thousand viewers
    /// do not stay there while the kernel sends to them all.
    pub fn memory_of(&self, connection: ConnectionId) -> Option<&(impl Sized + use<>)> {
        self.connections.get(connection.slot as usize)?.as_deref()
    }

    /// Whose turn is so many after the next that [`Hub::poll`] gives.
    pub fn in_line(&self, after: usize) -> Option<ConnectionId> {
        self.ready.get(after).copied()
    }

    /// Whether the next bytes of a connection are best received straight into memory of its session.
    pub fn lends(&self, connection: ConnectionId) -> bool {
        self.look(connection).is_some_and(Connection::lends)
    }

    /// Memory for the next bytes of a connection, to be brought back by [`Input::Filled`] even if nothing came; `None` when
    /// they are to be brought by [`Input::Received`]. A connection that has lent memory is not asked to be quiet.
    pub fn lend(&mut self, connection: ConnectionId, now: Now) -> Option<BytesMut> {
        self.lend_of(connection, now)
    }

    /// Into datagrams of how many bytes what this connection is sent is cut, while it plays a form that says so. Otherwise
    /// each [`Output::Send`] is one datagram, for a driver that sends datagrams.
    pub fn datagram(&self, connection: ConnectionId) -> Option<u16> {
        self.look(connection)?.datagram()
    }

    /// When to bring [`Input::Timeout`] if nothing happens before.
    pub fn deadline(&self) -> Option<Now> {
        self.timers.first()
    }

    /// Whether viewers are about to be sent what has come: what waits to be received is best received now.
    pub fn is_flush_due(&self, now: Now) -> bool {
        self.timers.is_flush_due(now)
    }

    /// Tells the hub what the wall clock says; names of recordings come from it.
    pub fn set_wall(&mut self, wall: Wall, now: Now) {
        self.wall_offset = i128::from(wall.0) - i128::from(now.0);
    }

    /// True when [`Input::Drain`] is done: every peer is gone and every recording is closed.
    pub fn is_drained(&self) -> bool {
        #[cfg(feature = "record")]
        if !self.recordings.is_empty() {
            return false;
        }
        self.draining && self.connections.iter().all(Option::is_none) && self.outputs.is_empty()
    }

    /// The counters and gauges of this core.
    pub fn stats(&self) -> ShardStats {
        let mut stats = self.stats.clone();
        self.streams.count(&mut stats);
        #[cfg(feature = "record")]
        self.recordings.count(&mut stats);
        #[cfg(feature = "segment")]
        self.packages.count(&mut stats);
        let mut paths = self.paths;
        for connection in self.connections.iter().flatten() {
            if let Some(open) = connection.path() {
                paths[connection.path_of()].merge(&open);
            }
        }
        stats.show_path(&paths[0]);
        stats.show_webrtc(&paths[1]);
        stats
    }

    /// The streams that this core owns or has viewers of, as it sees them.
    pub fn streams(&self) -> Vec<StreamStats> {
        self.streams.iter().map(|(_, stream)| stream.stats()).collect()
    }

    fn wall(&self, now: Now) -> Wall {
        Wall(u64::try_from(i128::from(now.0) + self.wall_offset).unwrap_or(0))
    }

    fn timeout(&mut self, now: Now) {
        while let Some(timer) = self.timers.expire(now) {
            match timer {
                Timer::Connection(id) => self.connection_timeout(id, now),
                Timer::Flush(id) => self.flush(id, now),
                Timer::Stream(id) => self.stream_timeout(id, now),
                Timer::Backlog => self.retry_backlog(now),
                Timer::Sweep => self.sweep(now),
                #[cfg(feature = "segment")]
                Timer::Packages => self.sweep_packages(now),
                #[cfg(feature = "record")]
                Timer::Recording(id) => self.recording_timeout(id, now),
            }
        }
    }

    fn set_settings(&mut self, settings: Arc<Settings>) {
        for stream in self.streams.iter_mut() {
            stream.limits = Arc::new(settings.limits_of(&stream.name));
        }
        self.settings = settings;
    }

    fn notice(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Notice(notice));
    }

    fn happened(&mut self, event: StreamEvent) {
        if let Some(news) = &mut self.news
            && let StreamEvent::Published { name, resumed: false } | StreamEvent::Ended { name } = &event
        {
            news.push(name.clone());
        }
        if self.observed {
            self.outputs.push_back(Output::Event(event));
        }
    }

    /// Somebody watches the stream, or waits for it. Whom the operator sends it to does not.
    fn watched(&mut self, stream_id: streams::StreamId, by: ConnectionId) {
        if self.look(by).is_some_and(|connection| !connection.trusted) {
            self.wanted(stream_id);
        }
    }

    /// Somebody watches the stream, or fetches it by names.
    fn wanted(&mut self, stream_id: streams::StreamId) {
        let Some(stream) = self.streams.get(stream_id) else { return };
        if !std::mem::replace(&mut stream.watched, true) {
            let name = stream.name.clone();
            self.happened(StreamEvent::FirstViewer { name });
        }
    }

    /// Somebody watches it no more. Perhaps nobody does.
    fn unwatched(&mut self, stream_id: streams::StreamId) {
        let viewers = &self.connections;
        let watches = |viewer: &ConnectionId| {
            let found = viewers.get(viewer.slot as usize).and_then(Option::as_deref);
            found.is_some_and(|found| found.id == *viewer && !found.trusted)
        };
        let Some(stream) = self.streams.get(stream_id) else { return };
        // As a rule the first that is looked at watches.
        let watched = stream.is_cut() || stream.viewers.iter().any(watches);
        if !watched && std::mem::take(&mut stream.watched) {
            let name = stream.name.clone();
            self.happened(StreamEvent::LastViewer { name });
        }
    }

    fn count_error(&mut self, kind: ErrorKind) {
        self.stats.count_error(kind);
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connections = self.connections.iter().flatten().count();
        write!(
            f,
            "Hub({:?} of {}, {connections} connections, {} streams)",
            self.core,
            self.cores,
            self.streams.len()
        )
    }
}
