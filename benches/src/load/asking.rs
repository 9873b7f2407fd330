//! Viewers that ask for one piece after the other: sockets and times for the machines of [`player`](crate::player).
//!
//! Each connection receives once per answer, into a small buffer: that brings the head and, of a playlist, all there is. What
//! follows of a piece that nobody looks into the kernel throws away unread. So a thousand viewers that fetch parts are
//! twenty thousand answers a second, and fit on one core.

use std::{cmp::Reverse, collections::BinaryHeap, io, rc::Rc, time::Duration};

use bytes::BytesMut;
use shardcast_engine::time::Now;
use shardcast_io::{
    clock,
    ring::{Ring, SocketId},
    tcp,
};

use super::{Kind, Load, Owner, State, Viewer, connect, now, outbox::Outbox, send};
use crate::{
    histogram::Histogram,
    outcome::{Asked, Checks, Requests, Trace},
    player::{
        Answer, Ask, Body, Desk, Player, Request, What, dash, hls,
        http::{Cookies, Event, Head, Responses, Terms, write_request},
        replay::{self, Script},
        shelf::Shelves,
        uri,
    },
    scenario::Door,
    url::Url,
};

/// What a receive has room for until it is known what comes: a head, and most playlists.
const ROOM_BYTES: usize = 4 << 10;
/// And at most, for those who look into pieces.
const ROOM_BYTES_MAX: usize = 64 << 10;
/// More than any piece of a stream has.
const BODY_BYTES_MAX: usize = 64 << 20;
/// More than one read takes from a socket.
const DISCARD_BYTES: u64 = 1 << 30;
/// How often a viewer is sent elsewhere before it gives up.
const REDIRECTS_MAX: u8 = 5;
/// Viewers whose time has come that are looked at in one go, so that a publisher does not wait for a crowd.
const ALARMS_PER_TURN: usize = 64;
/// What is kept of what a viewer asked for: some minutes of parts.
const TRACE_MAX: usize = 8192;

/// A viewer that asks.
pub(super) struct Asking {
    player: Player,
    connections: Vec<Connection>,
    cookies: Cookies,
    /// When it will be looked at.
    alarm: Option<Now>,
    /// Its first key frame was there; or, where nobody looks for one, anything.
    has_begun: bool,
}

#[derive(Default)]
struct Connection {
    /// Host and port that it leads to; empty before the first time.
    address: String,
    socket: Option<SocketId>,
    responses: Responses,
    /// Lent to the ring while a receive is running.
    memory: BytesMut,
    out: Outbox,
    exchange: Option<Exchange>,
    body: Vec<u8>,
    /// It has brought an answer: a server may close such a connection between two.
    used: bool,
}

/// A request that has gone out.
struct Exchange {
    /// By which of the connections.
    by: usize,
    request: Request,
    asked: Now,
    /// The answer's head, and when it came.
    head: Option<(Head, Now)>,
    /// Of the body, so far.
    bytes: u64,
    redirects: u8,
    /// It was sent before, by a connection that the server had closed.
    again: bool,
}

/// What is kept for all viewers that ask.
#[derive(Default)]
pub(super) struct Books {
    shelves: Shelves,
    alarms: BinaryHeap<Reverse<(Now, usize)>>,
    checks: Checks,
    counts: Counts,
    /// Those of the beginning of the window.
    window: Counts,
    holds: Histogram,
    /// Bytes of the largest piece.
    largest: u64,
    /// What is to be repeated, and since when.
    repeat: Option<(Trace, Now)>,
    script: Option<Rc<Script>>,
    tracing: Option<Tracing>,
}

/// What one viewer is asking for.
struct Tracing {
    viewer: usize,
    began: Now,
    asked: Vec<Asked>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    answered: u64,
    playlists: u64,
    playlist_bytes: u64,
    pieces: u64,
    reconnects: u64,
}

impl Books {
    /// What is measured begins; one of the viewers is followed.
    pub(super) fn begin(&mut self, began: Now, viewer: Option<usize>) {
        self.window = self.counts;
        self.holds = Histogram::default();
        self.tracing = viewer.map(|viewer| Tracing { viewer, began, asked: Vec::new() });
    }

    /// What is measured ends after so many seconds. `None` where nobody asked for anything.
    pub(super) fn end(&mut self, seconds: f64) -> Option<Requests> {
        let Counts { answered, playlists, playlist_bytes, pieces, reconnects } = self.counts;
        let asked = self.tracing.take().map(|tracing| tracing.asked).unwrap_or_default();
        (answered > 0).then(|| Requests {
            answered: answered - self.window.answered,
            per_second: (answered - self.window.answered) as f64 / seconds,
            playlists: playlists - self.window.playlists,
            playlist_bytes: playlist_bytes - self.window.playlist_bytes,
            pieces: pieces - self.window.pieces,
            reconnects: reconnects - self.window.reconnects,
            hold: self.holds.quantiles(),
            trace: Trace { seconds, asked },
        })
    }

    /// Answers so far.
    pub(super) fn answered(&self) -> u64 {
        self.counts.answered
    }

    /// Bytes of the largest piece so far.
    pub(super) fn largest(&self) -> u64 {
        self.largest
    }

    /// Adds what was wrong with lists and what they promise.
    pub(super) fn add_to(&self, checks: &mut Checks) {
        checks.sequence_backwards += self.checks.sequence_backwards;
        checks.not_found += self.checks.not_found;
        checks.durations_wrong += self.checks.durations_wrong;
        checks.reloads_unanswered += self.checks.reloads_unanswered;
    }

    pub(super) fn next_alarm(&self) -> Option<Now> {
        self.alarms.peek().map(|Reverse((at, _))| *at)
    }

    fn count(&mut self, viewer: usize, exchange: &Exchange, status: u16, moment: Now) {
        let Exchange { request, asked, bytes, .. } = exchange;
        let playlist = request.what == What::Playlist;
        self.counts.answered += 1;
        self.counts.playlists += u64::from(playlist);
        self.counts.pieces += u64::from(!playlist);
        self.counts.playlist_bytes += if playlist { *bytes } else { 0 };
        if !playlist {
            self.largest = self.largest.max(*bytes);
        }
        if request.held && status == 200 {
            self.holds.record(moment.since(*asked));
        }
        if let Some(tracing) = &mut self.tracing
            && tracing.viewer == viewer
            && tracing.asked.len() < TRACE_MAX
        {
            let at = if request.held { moment } else { *asked };
            let connection = u8::try_from(exchange.by).unwrap_or(u8::MAX);
            let at = at.since(tracing.began).as_secs_f64();
            tracing.asked.push(Asked { at, connection, playlist, bytes: *bytes });
        }
    }
}

impl Asking {
    /// The sockets that it has.
    pub(super) fn sockets(&self) -> impl Iterator<Item = SocketId> {
        self.connections.iter().filter_map(|connection| connection.socket)
    }
}

impl Exchange {
    /// What is done with the body: that of a refusal is not looked at.
    fn body(&self) -> Body {
        let refused = self.head.as_ref().is_some_and(|(head, _)| !head.is_success());
        if refused { Body::Count } else { self.request.body }
    }
}

impl Connection {
    /// Receives once, with room for so much.
    fn listen(&mut self, ring: &mut Ring, socket: SocketId, room: usize) {
        let mut memory = std::mem::take(&mut self.memory);
        memory.clear();
        // A buffer that was for a whole segment is not kept for playlists by each of thousands.
        if memory.capacity() > 4 * room {
            memory = BytesMut::new();
        }
        memory.reserve(room);
        if let Err(memory) = ring.receive_into(socket, memory) {
            self.memory = memory;
        }
    }

    /// How much room the next receive should have.
    fn room(&self) -> usize {
        let Some(Exchange { head: Some((head, _)), bytes, .. }) = &self.exchange else { return ROOM_BYTES };
        match self.exchange.as_ref().map(Exchange::body) {
            Some(Body::Keep | Body::Pass) => {
                let left = head.length.map_or(ROOM_BYTES_MAX as u64, |length| length.saturating_sub(*bytes));
                usize::try_from(left).unwrap_or(ROOM_BYTES_MAX).clamp(ROOM_BYTES, ROOM_BYTES_MAX)
            }
            _ => ROOM_BYTES,
        }
    }
}

impl Load {
    /// Viewers that come from here on repeat what one of another server asked for.
    pub fn repeat(&mut self, trace: Trace) {
        self.books.repeat = Some((trace, now()));
    }

    /// Answers that viewers have had so far.
    pub fn answered(&self) -> u64 {
        self.books.answered()
    }

    /// A viewer that asks comes in.
    pub(super) fn enter_asking(&mut self, index: usize, url: Url, moment: Now) -> Result<(), String> {
        let parses = !self.floor.unparsed;
        let player = match (&self.books.repeat, self.plan.watch.by) {
            (Some((trace, origin)), _) => {
                let script = match &self.books.script {
                    Some(script) => script.clone(),
                    None => Rc::new(Script::new(trace, &url)?),
                };
                self.books.script = Some(script.clone());
                Player::Replay(replay::Player::new(script, *origin, moment))
            }
            (None, Door::Dash) => {
                let wall = Duration::from_nanos(clock::wall()).as_secs_f64();
                Player::Dash(dash::Player::new(url, parses, moment, wall))
            }
            (None, door) => Player::Hls(hls::Player::new(url, door == Door::LlHls, parses, moment)),
        };
        let (connections, cookies) = (Vec::new(), Cookies::default());
        let asking = Asking { player, connections, cookies, alarm: None, has_begun: false };
        self.viewers[index].state = State::Asking(Box::new(asking));
        self.ask(index);
        Ok(())
    }

    /// Looks at those whose time has come.
    pub(super) fn alarms_due(&mut self, now: Now) {
        for _ in 0..ALARMS_PER_TURN {
            let Some(Reverse((at, index))) = self.books.alarms.peek().copied() else { return };
            if at > now {
                return;
            }
            self.books.alarms.pop();
            if let State::Asking(asking) = &mut self.viewers[index].state
                && asking.alarm == Some(at)
            {
                asking.alarm = None;
                self.ask(index);
            }
        }
    }

    /// Asks for all that a viewer wants now.
    fn ask(&mut self, index: usize) {
        loop {
            let State::Asking(asking) = &mut self.viewers[index].state else { return };
            let moment = now();
            let Some(Ask { connection, request }) = asking.player.poll(moment) else { break };
            let exchange = Exchange {
                by: connection,
                request,
                asked: moment,
                head: None,
                bytes: 0,
                redirects: 0,
                again: false,
            };
            if let Err(why) = self.start(index, exchange) {
                return self.lost(index, &why);
            }
        }
        let State::Asking(asking) = &mut self.viewers[index].state else { return };
        if let Some(deadline) = asking.player.deadline()
            && asking.alarm.is_none_or(|alarm| deadline < alarm)
        {
            asking.alarm = Some(deadline);
            self.books.alarms.push(Reverse((deadline, index)));
        }
    }

    /// Sends a request, by a new connection if there is none that leads there.
    fn start(&mut self, index: usize, exchange: Exchange) -> Result<(), String> {
        let Load { viewers, ring, owners, books, .. } = self;
        let State::Asking(asking) = &mut viewers[index].state else { return Ok(()) };
        let Asking { connections, cookies, .. } = &mut **asking;
        let by = exchange.by;
        if connections.len() <= by {
            connections.resize_with(by + 1, Connection::default);
        }
        let connection = &mut connections[by];
        let url = exchange.request.url.clone();
        if let Some(socket) = connection.socket.filter(|_| connection.address != url.address) {
            owners.remove(&socket);
            ring.close(socket);
            connection.socket = None;
        }
        let socket = match connection.socket {
            Some(socket) => socket,
            None => {
                let descriptor =
                    connect(&url).map_err(|error| format!("a viewer cannot connect: {error}"))?;
                let socket = ring.add(descriptor).map_err(|(_, error)| error.to_string())?;
                owners.insert(socket, Owner::Asking(index, by));
                books.counts.reconnects += u64::from(!connection.address.is_empty());
                let (memory, body) =
                    (std::mem::take(&mut connection.memory), std::mem::take(&mut connection.body));
                *connection = Connection {
                    address: url.address.clone(),
                    socket: Some(socket),
                    memory,
                    body,
                    ..Connection::default()
                };
                socket
            }
        };
        let gzip = exchange.request.what == What::Playlist;
        let terms = Terms { range: exchange.request.range, gzip, cookies: cookies.line() };
        write_request(connection.out.waiting(), &url, terms);
        send(ring, socket, connection.out.next());
        connection.exchange = Some(exchange);
        connection.body.clear();
        connection.listen(ring, socket, ROOM_BYTES);
        Ok(())
    }

    /// A socket has taken bytes. One that fails says so again when it is read.
    pub(super) fn asking_sent(&mut self, index: usize, by: usize, socket: SocketId, taken: usize) {
        if let Some(connection) = connection_of(&mut self.viewers[index], by) {
            send(&mut self.ring, socket, connection.out.sent(taken));
        }
    }

    /// A receive has brought something, or its end, which is told by itself.
    pub(super) fn asking_filled(&mut self, index: usize, by: usize, socket: SocketId, memory: BytesMut) {
        let result =
            if memory.is_empty() { Ok(Taken::Nothing) } else { self.take_answer(index, by, socket, &memory) };
        let connection = connection_of(&mut self.viewers[index], by);
        if let Some(connection) = connection.filter(|connection| connection.memory.capacity() == 0) {
            connection.memory = memory;
        }
        match result {
            Ok(Taken::Nothing) => {}
            Ok(Taken::Part) => {
                if let Some(connection) = connection_of(&mut self.viewers[index], by) {
                    let room = connection.room();
                    connection.listen(&mut self.ring, socket, room);
                }
            }
            Ok(Taken::Whole) => self.ask(index),
            Err(why) => self.gave_up(index, &why),
        }
    }

    /// A connection has ended.
    pub(super) fn asking_ended(&mut self, index: usize, by: usize, socket: SocketId) {
        self.owners.remove(&socket);
        self.ring.close(socket);
        let Some(connection) = connection_of(&mut self.viewers[index], by) else { return };
        connection.socket = None;
        let idle = connection.responses.is_idle();
        let whole = connection.responses.ended();
        let Some(exchange) = &mut connection.exchange else { return };
        if whole && exchange.head.is_some() {
            return match self.answered_whole(index, by, now()) {
                Ok(()) => self.ask(index),
                Err(why) => self.gave_up(index, &why),
            };
        }
        // It was closed while the request was on its way, which is no refusal of it. (RFC 9112, 9.3.1)
        if idle && connection.used && !exchange.again {
            exchange.again = true;
            let exchange = connection.exchange.take().expect("it was looked at a line above");
            if let Err(why) = self.start(index, exchange) {
                self.lost(index, &why);
            }
            return;
        }
        self.lost(index, "the server has closed a viewer");
    }

    /// Reads what has come of an answer.
    fn take_answer(
        &mut self,
        index: usize,
        by: usize,
        socket: SocketId,
        bytes: &[u8],
    ) -> Result<Taken, String> {
        let (mut bytes, moment) = (bytes, now());
        loop {
            let Load { viewers, ring, books, findings, .. } = self;
            let Viewer { state: State::Asking(asking), judge, .. } = &mut viewers[index] else {
                return Ok(Taken::Nothing);
            };
            let Asking { player, connections, .. } = &mut **asking;
            let Some(connection) = connections.get_mut(by) else { return Ok(Taken::Nothing) };
            let Some(exchange) = &mut connection.exchange else {
                return Err("the server has sent what nobody asked for".to_owned());
            };
            match connection.responses.read(&mut bytes)? {
                Some(Event::Head(head)) => exchange.head = Some((head, moment)),
                Some(Event::Body(piece)) => {
                    exchange.bytes += piece.len() as u64;
                    match exchange.body() {
                        Body::Count => {}
                        Body::Keep if connection.body.len() + piece.len() > BODY_BYTES_MAX => {
                            return Err("an answer has no end".to_owned());
                        }
                        Body::Keep => connection.body.extend_from_slice(piece),
                        Body::Pass => {
                            let emit = &mut |frame: &_| judge.frame(frame, moment, findings);
                            let Books { shelves, checks, .. } = books;
                            player.passed(by, piece, &mut Desk { shelves, checks, emit })?;
                        }
                    }
                }
                Some(Event::End) => return self.answered_whole(index, by, moment).map(|()| Taken::Whole),
                None => {
                    let skippable = connection.responses.skippable().min(DISCARD_BYTES);
                    if exchange.body() != Body::Count || exchange.head.is_none() || skippable == 0 {
                        return Ok(Taken::Part);
                    }
                    let taken = discard(ring, socket, skippable)?;
                    connection.responses.skipped(taken);
                    exchange.bytes += taken;
                    // Less than there is room for: more has not come.
                    if taken < skippable {
                        return Ok(Taken::Part);
                    }
                }
            }
        }
    }

    /// An answer is there whole.
    fn answered_whole(&mut self, index: usize, by: usize, moment: Now) -> Result<(), String> {
        let Load { viewers, ring, owners, books, findings, .. } = self;
        let Viewer { state: State::Asking(asking), judge, bytes, kind, joined, .. } = &mut viewers[index]
        else {
            return Ok(());
        };
        let Asking { player, connections, cookies, has_begun, .. } = &mut **asking;
        let Some(connection) = connections.get_mut(by) else { return Ok(()) };
        let Some(exchange) = connection.exchange.take() else { return Ok(()) };
        let Some((head, began)) = &exchange.head else { return Ok(()) };
        connection.used = true;
        cookies.keep(&head.cookies);
        if let Some(socket) = connection.socket.filter(|_| head.closes) {
            owners.remove(&socket);
            ring.close(socket);
            connection.socket = None;
        }
        books.count(index, &exchange, head.status, moment);
        if let Some(location) = head.location.as_ref().filter(|_| (300..400).contains(&head.status)) {
            if exchange.redirects == REDIRECTS_MAX {
                return Err("the server sends viewers in circles".to_owned());
            }
            let url = Rc::new(uri::resolve(&exchange.request.url, location)?);
            let request = Request { url, ..exchange.request };
            let redirects = exchange.redirects + 1;
            return self.start(index, Exchange { request, head: None, bytes: 0, redirects, ..exchange });
        }
        let Exchange { request, bytes: length, .. } = &exchange;
        let delivered = if head.is_success() && request.what != What::Playlist { *length } else { 0 };
        *bytes += delivered;
        self.delivered += delivered;
        let answer = Answer {
            status: head.status,
            reason: &head.reason,
            url: &request.url,
            body: if exchange.body() == Body::Keep { &connection.body } else { &[] },
            gzip: head.gzip,
        };
        let emit = &mut |frame: &_| judge.frame(frame, moment, findings);
        let Books { shelves, checks, .. } = books;
        let result = player.answered(by, &answer, moment, &mut Desk { shelves, checks, emit });
        let first_key = judge.first_key().map(|(key, _)| key);
        let begins = first_key.is_some() || (self.floor.unparsed && delivered > 0);
        if begins && !*has_begun {
            *has_begun = true;
            if let Some(key) = first_key {
                self.first_keys.record(key.since(*joined));
                self.first_bytes.record(began.since(*joined));
            }
            if *kind != Kind::Parse {
                player.stop_parsing();
                self.replaceable.push_back(index);
            }
        }
        result
    }

    fn gave_up(&mut self, index: usize, why: &str) {
        let played = self.viewers[index].is_playing();
        self.findings.checks.unreadable += u64::from(played);
        self.refused += u64::from(!played);
        self.complain(format!("a viewer: {why}"));
        self.leave(index);
    }
}

/// What has come of an answer.
enum Taken {
    /// Nothing that anybody waits for.
    Nothing,
    /// A part of it.
    Part,
    /// All of it.
    Whole,
}

fn connection_of(viewer: &mut Viewer, by: usize) -> Option<&mut Connection> {
    match &mut viewer.state {
        State::Asking(asking) => asking.connections.get_mut(by),
        _ => None,
    }
}

/// Throws away up to `most` bytes that have come.
fn discard(ring: &Ring, socket: SocketId, most: u64) -> Result<u64, String> {
    let Some(descriptor) = ring.socket(socket) else { return Ok(0) };
    match tcp::discard(descriptor, usize::try_from(most).unwrap_or(usize::MAX)) {
        Ok(taken) => Ok(taken as u64),
        // The next receive says what is the matter.
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
        Err(error) => Err(format!("a viewer was cut off: {error}")),
    }
}
