//! Streams that go on to other machines, and that come from other servers: each on the core that owns the stream, for as long as
//! the operator says so.
//!
//! A push begins when its stream goes live and ends with it; a pull is always there. What fails is tried again, later each time. To
//! the hub both are connections like any other: what a target is sent are the shared bytes of a form, and one that is slow is a
//! slow viewer. Here is the one place where each kind of target is opened.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
#[cfg(feature = "rtsp")]
use shardcast_engine::rtsp;
#[cfg(feature = "srt")]
use shardcast_engine::srt;
use shardcast_engine::{
    hub::{ConnectionId, Input, Level, Lost, Notice},
    media::StreamName,
    message::owner_of,
    protocol::Transport,
    relay::{Backoff, Origin, Relays as Plan, Target},
    session::Session,
    stats::RelayStats,
    time::Now,
    udp::{Outflow, Outlet, Sender},
};
#[cfg(feature = "rtmp")]
use shardcast_engine::{relay, rtmp};
use shardcast_io::{
    clock,
    lane::Doorbell,
    ring::{Datagram, SocketId},
    tcp, udp,
};

use super::{
    Shard,
    doors::{Receives, connection_of, word_for},
};
use crate::dial::Dialer;

/// The door of connections that this node has made itself. There is none, as for those without a peer.
pub(super) const RELAY: usize = usize::MAX - 1;
/// What log lines name in place of a door.
const PUSH: &str = "push";
const PULL: &str = "pull";
/// Tokens of the ring from here on are those of relays over UDP.
pub(super) const FIRST_TOKEN: u64 = 1 << 48;
/// How soon a server is reached for when too many others are just now.
const BUSY_PAUSE: Duration = Duration::from_millis(250);

/// The relays of one shard.
pub(super) struct Relays {
    rows: BTreeMap<u64, Row>,
    by_name: BTreeMap<StreamName, Vec<u64>>,
    by_connection: HashMap<ConnectionId, u64>,
    /// When which of them is to begin.
    due: BTreeSet<(Now, u64)>,
    /// Which of them have sent enough for a moment, and until when.
    resting: BTreeSet<(Now, u64)>,
    pub(super) dialer: Dialer,
    /// Numbers rows and what is asked of the dialer.
    last: u64,
    random: u64,
    /// The ports at which this node takes streams by RTMP, by RTSP, and by SRT.
    own_ports: OwnPorts,
}

/// The ports of this node's own doors that a relay could lead back to.
#[derive(Default)]
pub(super) struct OwnPorts {
    pub(super) rtmp: Vec<u16>,
    pub(super) rtsp: Vec<u16>,
    pub(super) srt: Vec<u16>,
}

impl OwnPorts {
    /// One more of them, if the door is such a one.
    pub(super) fn add(&mut self, door: &str, port: u16) {
        match door {
            "rtmp" => self.rtmp.push(port),
            "rtsp" => self.rtsp.push(port),
            "srt" => self.srt.push(port),
            _ => {}
        }
    }
}

/// Where a server is reached.
struct Place {
    host: String,
    port: u16,
    over: Transport,
}

struct Row {
    name: StreamName,
    way: Way,
    state: State,
    /// It failed, and does not begin again before that.
    not_before: Now,
    backoff: Backoff,
    /// How it goes out, if by datagrams, and how much of what waits the last portion was.
    outflow: Option<Outflow>,
    taken: usize,
    /// Why the hub closed it.
    words: Option<String>,
    bytes: u64,
    failures: u64,
}

#[derive(Clone, PartialEq, Eq)]
enum Way {
    Push(Target),
    Pull(Origin),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    /// Its server is being reached.
    Dialing(u64),
    Up {
        connection: ConnectionId,
        peer: SocketAddr,
        since: Now,
    },
}

impl Way {
    fn door(&self) -> &'static str {
        match self {
            Way::Push(_) => PUSH,
            Way::Pull(_) => PULL,
        }
    }

    /// Where its server is reached, if it has one.
    fn place(&self) -> Option<Place> {
        let (host, port, over) = match self {
            Way::Push(Target::Rtmp(remote)) | Way::Pull(Origin::Rtmp(remote)) => {
                (&remote.host, remote.port, Transport::Tcp)
            }
            Way::Push(Target::Rtsp(remote)) => (&remote.host, remote.port, Transport::Tcp),
            #[cfg(feature = "srt")]
            Way::Push(Target::Srt(target)) | Way::Pull(Origin::Srt(target)) => {
                (&target.host, target.port, Transport::Udp)
            }
            Way::Push(Target::Datagrams(_)) => return None,
        };
        Some(Place { host: host.clone(), port, over })
    }

    fn url(&self) -> String {
        match self {
            Way::Push(target) => target.to_string(),
            Way::Pull(origin) => origin.to_string(),
        }
    }
}

impl Relays {
    /// None yet. `own_ports` are those of this node's own doors.
    pub(super) fn new(bell: Arc<Doorbell>, own_ports: OwnPorts) -> Relays {
        Relays {
            rows: BTreeMap::new(),
            by_name: BTreeMap::new(),
            by_connection: HashMap::new(),
            due: BTreeSet::new(),
            resting: BTreeSet::new(),
            dialer: Dialer::new(bell),
            last: 0,
            random: clock::wall(),
            own_ports,
        }
    }

    /// When something of them is due.
    pub(super) fn deadline(&self) -> Option<Now> {
        let first = |set: &BTreeSet<(Now, u64)>| set.first().map(|(due, _)| *due);
        first(&self.due).into_iter().chain(first(&self.resting)).min()
    }

    /// What the metrics show.
    pub(super) fn stats(&self) -> Vec<RelayStats> {
        let numbered = self.by_name.values().flat_map(|rows| rows.iter().zip(0..));
        let stats = numbered.filter_map(|(id, number)| {
            let row = self.rows.get(id)?;
            Some(RelayStats {
                name: row.name.clone(),
                way: row.way.door(),
                number,
                url: row.way.url(),
                connected: matches!(row.state, State::Up { .. }),
                bytes: row.bytes,
                failures: row.failures,
            })
        });
        stats.collect()
    }

    /// Counts what has come from a server.
    pub(super) fn count(&mut self, connection: ConnectionId, bytes: usize) {
        if let Some(row) = self.by_connection.get(&connection).and_then(|id| self.rows.get_mut(id))
            && matches!(row.way, Way::Pull(_))
        {
            row.bytes += bytes as u64;
        }
    }

    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// A number by chance: a step of splitmix64.
    fn chance(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn remove(&mut self, id: u64) -> Option<Row> {
        let row = self.rows.remove(&id)?;
        if let Some(ids) = self.by_name.get_mut(&row.name) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_name.remove(&row.name);
            }
        }
        self.due.retain(|(_, other)| *other != id);
        self.resting.retain(|(_, other)| *other != id);
        if let State::Up { connection, .. } = row.state {
            self.by_connection.remove(&connection);
        }
        Some(row)
    }
}

impl Shard {
    /// The operator has said what is pushed and pulled, or has said something else.
    pub(super) fn plan_relays(&mut self, now: Now) {
        let settings = self.settings.clone();
        let plan = &settings.relays;
        // From here on it says which go live.
        self.hub.take_news();
        let mut names: BTreeSet<StreamName> = self.relays.by_name.keys().cloned().collect();
        names.extend(plan.pulls.keys().chain(plan.streams.keys()).cloned());
        if !plan.is_empty() {
            names.extend(self.hub.live().cloned());
        }
        names.into_iter().for_each(|name| self.plan_stream(&name, plan, now));
    }

    /// What goes live now is pushed, and what has ended is not any more.
    pub(super) fn take_relay_news(&mut self, now: Now) {
        let news = self.hub.take_news();
        if !news.is_empty() {
            let settings = self.settings.clone();
            news.iter().for_each(|name| self.plan_stream(name, &settings.relays, now));
        }
    }

    fn plan_stream(&mut self, name: &StreamName, plan: &Plan, now: Now) {
        if self.draining || owner_of(name, self.cores) != self.mesh.core() {
            return;
        }
        let live = self.hub.is_live_here(name);
        let pushes = plan.pushes_of(name).into_iter().map(Way::Push);
        let said: Vec<Way> = plan.pulls.get(name).cloned().map(Way::Pull).into_iter().chain(pushes).collect();
        // The rows of a stream that is named stay, so that metrics show them; those of others come and go with it.
        let stays = live || plan.streams.contains_key(name);
        for id in self.relays.by_name.get(name).cloned().unwrap_or_default() {
            let Some(row) = self.relays.rows.get(&id) else { continue };
            let ends_by_itself = row.state != State::Idle || stays || matches!(row.way, Way::Pull(_));
            if said.contains(&row.way) && ends_by_itself {
                continue;
            }
            let Some(row) = self.relays.remove(id) else { continue };
            if let State::Up { connection, .. } = row.state {
                self.hub.handle(Input::Closed { connection, how: Lost::Eof }, now);
            }
        }
        for way in said.into_iter().filter(|way| stays || matches!(way, Way::Pull(_))) {
            let known = self.relays.by_name.get(name).into_iter().flatten();
            if known.filter_map(|id| self.relays.rows.get(id)).any(|row| row.way == way) {
                continue;
            }
            let id = self.relays.number();
            let row = Row {
                name: name.clone(),
                way,
                state: State::Idle,
                not_before: now,
                backoff: Backoff::default(),
                outflow: None,
                taken: 0,
                words: None,
                bytes: 0,
                failures: 0,
            };
            self.relays.rows.insert(id, row);
            self.relays.by_name.entry(name.clone()).or_default().push(id);
        }
        for id in self.relays.by_name.get(name).cloned().unwrap_or_default() {
            self.relay_again(id, now);
        }
    }

    /// A relay that is idle begins when it may, if there is something for it to do.
    fn relay_again(&mut self, id: u64, now: Now) {
        let Some(row) = self.relays.rows.get(&id).filter(|row| row.state == State::Idle) else { return };
        if !self.draining && (matches!(row.way, Way::Pull(_)) || self.hub.is_live_here(&row.name)) {
            let at = row.not_before.max(now);
            self.relays.due.retain(|(_, other)| *other != id);
            self.relays.due.insert((at, id));
        }
    }

    /// What is due of them, and what has come of reaching for servers.
    pub(super) fn take_relays(&mut self, now: Now) {
        while let Some((at, id)) = self.relays.resting.first().copied().filter(|(at, _)| *at <= now) {
            self.relays.resting.remove(&(at, id));
            if let Some(Row { state: State::Up { connection, .. }, taken, .. }) = self.relays.rows.get(&id) {
                self.hub.handle(Input::Sent { connection: *connection, result: Ok(*taken) }, now);
            }
        }
        while let Some((ticket, result)) = self.relays.dialer.answer() {
            self.dialed(ticket, result, now);
        }
        while let Some((at, id)) = self.relays.due.first().copied().filter(|(at, _)| *at <= now) {
            self.relays.due.remove(&(at, id));
            self.begin_relay(id, now);
        }
    }

    /// No relay begins any more.
    pub(super) fn stop_relays(&mut self) {
        self.relays.due.clear();
    }

    /// Opens a relay, each kind in its way.
    fn begin_relay(&mut self, id: u64, now: Now) {
        let Some(row) = self.relays.rows.get(&id).filter(|row| row.state == State::Idle) else { return };
        match row.way.clone() {
            Way::Push(_) if !self.hub.is_live_here(&row.name) => {}
            Way::Push(Target::Datagrams(outlet)) => {
                let opened = self.open_outlet(id, &outlet, now);
                if let Err(error) = opened {
                    self.relay_failed(id, &format!("cannot send: {error}"), Duration::ZERO, now);
                }
            }
            way => {
                if let Some(place) = way.place() {
                    self.reach(id, &place, now);
                }
            }
        }
    }

    fn open_outlet(&mut self, id: u64, outlet: &Outlet, now: Now) -> io::Result<()> {
        let socket = udp::open_sender(outlet.address, outlet.interface.as_deref(), outlet.ttl)?;
        let socket = self.ring.add_outlet(socket, outlet.address)?;
        let chance = self.relays.chance();
        let Some(row) = self.relays.rows.get_mut(&id) else { return Ok(()) };
        row.outflow = Some(Outflow::new(outlet, chance));
        let session = Box::new(Sender::new(row.name.clone()));
        self.seat_relay(id, socket, outlet.address, Receives::Nothing, session, now);
        Ok(())
    }

    fn reach(&mut self, id: u64, place: &Place, now: Now) {
        if self.relays.dialer.is_busy() {
            self.relays.due.insert((now.after(BUSY_PAUSE), id));
            return;
        }
        let ticket = self.relays.number();
        match self.relays.dialer.dial(ticket, &place.host, place.port, place.over) {
            Ok(()) => {
                if let Some(row) = self.relays.rows.get_mut(&id) {
                    row.state = State::Dialing(ticket);
                }
            }
            Err(error) => self.relay_failed(id, &format!("no thread: {error}"), Duration::ZERO, now),
        }
    }

    /// A server was reached, or was not.
    fn dialed(&mut self, ticket: u64, result: io::Result<OwnedFd>, now: Now) {
        let waiting = self.relays.rows.iter().find(|(_, row)| row.state == State::Dialing(ticket));
        // One that nobody waits for any more is closed by being dropped.
        let Some(id) = waiting.map(|(id, _)| *id).filter(|_| !self.draining) else { return };
        let Some(row) = self.relays.rows.get_mut(&id) else { return };
        row.state = State::Idle;
        let (name, way) = (row.name.clone(), row.way.clone());
        if matches!(way, Way::Push(_)) && !self.hub.is_live_here(&name) {
            return self.let_go(id);
        }
        let opened = result.map_err(|error| format!("cannot be reached: {error}")).and_then(|socket| {
            let peer = tcp::peer_address(socket.as_fd()).map_err(|error| error.to_string())?;
            if self.leads_back(&socket, peer, &name, &way) {
                return Err("refused: it leads back to this server and this stream".to_owned());
            }
            let session = conversation(&name, &way, self.settings.as_ref(), now)?;
            let over = way.place().map_or(Transport::Tcp, |place| place.over);
            let socket = match over {
                Transport::Tcp => self.ring.add(socket).map_err(|(_, error)| error.to_string())?,
                Transport::Udp | Transport::Signalled => {
                    self.hear(id, socket.into(), peer).map_err(|error| error.to_string())?
                }
            };
            Ok((socket, peer, over, session))
        });
        match opened {
            Ok((socket, peer, Transport::Udp | Transport::Signalled, session)) => {
                self.seat_relay(id, socket, peer, Receives::Shared, session, now);
            }
            Ok((socket, peer, Transport::Tcp, session)) => {
                self.seat_relay(id, socket, peer, Receives::Pool, session, now);
                self.ring.receive(socket);
            }
            Err(why) => self.relay_failed(id, &why, Duration::ZERO, now),
        }
    }

    /// Receives by a socket that speaks with one server alone, and gives that a place to be sent to.
    fn hear(&mut self, id: u64, socket: UdpSocket, peer: SocketAddr) -> io::Result<SocketId> {
        let sender = socket.try_clone()?;
        self.ring.receive_datagrams(socket, FIRST_TOKEN + id)?;
        self.ring.add_outlet(sender, peer)
    }

    /// A datagram has come from a server.
    pub(super) fn relay_heard(&mut self, id: u64, datagram: &Datagram, now: Now) {
        let Some(row) = self.relays.rows.get_mut(&id) else { return };
        let State::Up { connection, .. } = row.state else { return };
        if matches!(row.way, Way::Pull(_)) {
            row.bytes += datagram.len() as u64;
        }
        if !datagram.is_empty() {
            self.hub.handle(Input::Received { connection, bytes: datagram }, now);
        }
    }

    /// Nothing more comes from a server: nobody listens there.
    pub(super) fn relay_deaf(&mut self, id: u64, error: &io::Error, now: Now) {
        let Some(row) = self.relays.rows.get_mut(&id) else {
            return self.ring.stop_datagrams(FIRST_TOKEN + id);
        };
        row.words.get_or_insert_with(|| error.to_string());
        if let State::Up { connection, .. } = row.state {
            self.hub.handle(Input::Closed { connection, how: Lost::Failed(word_for(error)) }, now);
        }
    }

    /// Whether a connection ends at a door of this node, where the stream would feed itself, or an app's streams one another.
    fn leads_back(&self, socket: &OwnedFd, peer: SocketAddr, name: &StreamName, way: &Way) -> bool {
        // From an address of this machine to the same one, there is no one else at the other end.
        let here = tcp::local_address(socket.as_fd()).is_ok_and(|local| local.ip() == peer.ip());
        let own = &self.relays.own_ports;
        let (own, named) = match way {
            Way::Push(Target::Rtmp(remote)) | Way::Pull(Origin::Rtmp(remote)) => (&own.rtmp, remote.name()),
            Way::Push(Target::Rtsp(remote)) => (&own.rtsp, remote.name()),
            #[cfg(feature = "srt")]
            Way::Push(Target::Srt(target)) | Way::Pull(Origin::Srt(target)) => (&own.srt, target.name()),
            Way::Push(Target::Datagrams(_)) => return false,
        };
        if !here || !own.contains(&peer.port()) {
            return false;
        }
        let of_app = || {
            let own = self.settings.relays.streams.get(name).into_iter().flatten();
            let mut own = own.map(|target| target.for_stream(name));
            matches!(way, Way::Push(target) if own.all(|other| other != *target))
        };
        named.as_ref() == Some(name) || of_app()
    }

    /// Gives a relay its connection, and its session the word to begin.
    fn seat_relay(
        &mut self,
        id: u64,
        socket: SocketId,
        peer: SocketAddr,
        receives: Receives,
        session: Box<dyn Session>,
        now: Now,
    ) {
        let connection = self.enter(socket, RELAY, peer.ip());
        if let Some(peer) = self.peer(connection) {
            peer.receives = receives;
        }
        let Some(row) = self.relays.rows.get_mut(&id) else { return };
        row.state = State::Up { connection, peer, since: now };
        let (door, name) = (row.way.door(), row.name.clone());
        let what = if row.outflow.is_some() { "sending to" } else { "connected to" };
        let text = format!("{what} {}", row.way.url());
        let news = row.backoff.is_news(&text, now);
        self.relays.by_connection.insert(connection, id);
        if news {
            let (peer, stream) = (Some(peer), Some(name));
            self.notice(Notice { level: Level::Info, peer, door, stream, text, at: None });
        }
        self.hub.handle(Input::Connected { connection, door, peer, session }, now);
        self.hub.trust(connection);
        self.hub.handle(Input::Received { connection, bytes: &[] }, now);
    }

    /// What a target of datagrams is to be sent: as much of it as may go now.
    pub(super) fn relay_send(&mut self, connection: ConnectionId, socket: SocketId, bytes: &Bytes, now: Now) {
        let row = self.relays.by_connection.get(&connection).and_then(|id| self.relays.rows.get_mut(id));
        let Some(Row { outflow: Some(outflow), taken, .. }) = row else { return };
        let portion = outflow.next(bytes, now);
        *taken = portion.taken;
        self.ring.send_datagrams(socket, portion.bytes, portion.most);
    }

    /// The kernel has taken what a relay was sent, or will take no more. The hub hears of datagrams when the next may go.
    pub(super) fn relay_sent(&mut self, socket: SocketId, result: io::Result<usize>, now: Now) {
        let connection = connection_of(socket);
        let id = self.relays.by_connection.get(&connection).copied();
        let mut sent = result.as_ref().map_or(0, |sent| *sent);
        if let Some((id, row)) = id.and_then(|id| Some((id, self.relays.rows.get_mut(&id)?))) {
            match (&result, &row.outflow) {
                (Err(error), _) => {
                    row.words.get_or_insert_with(|| format!("cannot send: {error}"));
                }
                (Ok(_), Some(outflow)) => {
                    sent = row.taken;
                    row.bytes += row.taken as u64;
                    if let Some(until) = outflow.rests_until(now) {
                        self.relays.resting.insert((until, id));
                        return;
                    }
                }
                (Ok(sent), None) if matches!(row.way, Way::Push(_)) => row.bytes += *sent as u64,
                (Ok(_), None) => {}
            }
        }
        let result = result.map(|_| sent).map_err(|error| Lost::Failed(word_for(&error)));
        if self.peer(connection).is_some_and(|peer| !peer.is_lingering()) {
            self.hub.handle(Input::Sent { connection, result }, now);
        }
    }

    /// The hub has closed a relay's connection.
    pub(super) fn relay_closed(&mut self, connection: ConnectionId, now: Now) {
        let Some(id) = self.relays.by_connection.remove(&connection) else { return };
        self.relays.resting.retain(|(_, other)| *other != id);
        let Some(row) = self.relays.rows.get_mut(&id) else { return };
        let State::Up { since, .. } = row.state else { return };
        row.state = State::Idle;
        row.outflow = None;
        if row.way.place().is_some_and(|place| place.over == Transport::Udp) {
            self.ring.stop_datagrams(FIRST_TOKEN + id);
        }
        let Some(row) = self.relays.rows.get_mut(&id) else { return };
        let words = row.words.take();
        if self.draining {
            return;
        }
        // A push that its stream has ended has not failed.
        let over = matches!(row.way, Way::Push(_)) && !self.hub.is_live_here(&row.name);
        if over {
            return self.let_go(id);
        }
        let why = words.unwrap_or_else(|| "closed by the other side".to_owned());
        self.relay_failed(id, &why, now.since(since), now);
    }

    /// A push whose stream has ended has nothing to do. That of a stream which is named stays for the metrics.
    fn let_go(&mut self, id: u64) {
        let Some(row) = self.relays.rows.get(&id) else { return };
        if !self.settings.relays.streams.contains_key(&row.name) {
            self.relays.remove(id);
        }
    }

    fn relay_failed(&mut self, id: u64, why: &str, lasted: Duration, now: Now) {
        let chance = self.relays.chance();
        let Some(row) = self.relays.rows.get_mut(&id) else { return };
        row.failures += 1;
        let pause = row.backoff.failed(lasted, chance);
        row.not_before = now.after(pause);
        if row.backoff.is_news(why, now) {
            let (door, stream) = (row.way.door(), Some(row.name.clone()));
            let text = format!("{}: {why}; next try in {:.1} s", row.way.url(), pause.as_secs_f64());
            self.notice(Notice { level: Level::Warning, peer: None, door, stream, text, at: None });
        }
        let Some(row) = self.relays.rows.get(&id) else { return };
        if matches!(row.way, Way::Pull(_)) || self.hub.is_live_here(&row.name) {
            self.relay_again(id, now);
        } else {
            self.let_go(id);
        }
    }

    /// Keeps what the hub says of a relay that it closes, which is told with what follows from it. True when it was kept.
    pub(super) fn keep_words(&mut self, notice: &Notice) -> bool {
        if notice.level != Level::Warning || ![PUSH, PULL].contains(&notice.door) {
            return false;
        }
        // What ends a connection has its place in what came, or is a refusal. Other remarks are told as ever.
        if notice.at.is_none() && !notice.text.starts_with("refused") {
            return false;
        }
        let of = |row: &&mut Row| {
            matches!(row.state, State::Up { peer, .. } if Some(peer) == notice.peer)
                && row.way.door() == notice.door
                && notice.stream.as_ref().is_none_or(|stream| *stream == row.name)
        };
        let hub = &self.hub;
        // Several may have one server: it is of the one that ends and does not know why yet.
        let goes_on = |row: &&mut Row| {
            let ends = matches!(row.state, State::Up { connection, .. } if hub.is_ending(connection));
            (!ends, row.words.is_some())
        };
        // Its own lines name no peer.
        let Some(row) = self.relays.rows.values_mut().filter(of).min_by_key(goes_on) else { return false };
        row.words.get_or_insert_with(|| notice.text.clone());
        true
    }
}

/// The client's half of a conversation.
fn conversation(
    name: &StreamName,
    way: &Way,
    settings: &shardcast_engine::settings::Settings,
    now: Now,
) -> Result<Box<dyn Session>, String> {
    #[cfg(feature = "rtmp")]
    let of_rtmp = |remote: &relay::Remote| rtmp::client::Target {
        tc_url: remote.app_url(),
        app: remote.app.clone(),
        stream: remote.stream.clone(),
    };
    let (name, doors) = (name.clone(), &settings.doors);
    match way {
        #[cfg(feature = "rtmp")]
        Way::Push(Target::Rtmp(remote)) => {
            Ok(Box::new(rtmp::Client::push(of_rtmp(remote), name, doors, now)))
        }
        #[cfg(feature = "rtmp")]
        Way::Pull(Origin::Rtmp(remote)) => {
            Ok(Box::new(rtmp::Client::pull(of_rtmp(remote), name, doors, now)))
        }
        #[cfg(not(feature = "rtmp"))]
        Way::Push(Target::Rtmp(_)) | Way::Pull(Origin::Rtmp(_)) => {
            Err("this program was built without RTMP".to_owned())
        }
        #[cfg(feature = "rtsp")]
        Way::Push(Target::Rtsp(remote)) => {
            let credentials = remote.credentials.clone();
            let credentials =
                credentials.map(|(user, password)| rtsp::client::Credentials { user, password });
            let target = rtsp::client::Target { url: remote.url(), credentials };
            Ok(Box::new(rtsp::Client::push(target, name, doors, now)))
        }
        #[cfg(not(feature = "rtsp"))]
        Way::Push(Target::Rtsp(_)) => Err("this program was built without RTSP".to_owned()),
        #[cfg(feature = "srt")]
        Way::Push(Target::Srt(target)) => Ok(Box::new(srt::Caller::push(target.clone(), name, doors, now))),
        #[cfg(feature = "srt")]
        Way::Pull(Origin::Srt(target)) => Ok(Box::new(srt::Caller::pull(target.clone(), name, doors, now))),
        Way::Push(Target::Datagrams(_)) => {
            // All that a build without any of the others leaves over.
            let _ = (name, doors, now);
            Err("datagrams have no connection".to_owned())
        }
    }
}
