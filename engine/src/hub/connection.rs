//! What one peer is to the hub: its session, what it is doing, what waits to be sent to it.

mod leaving;
mod lending;
mod pace;
mod role;
mod sending;
mod talk;

use std::{
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
};

pub(super) use self::role::{Awaited, Judged, Leaving, Role, Wanted};
pub(super) use self::talk::Reply;
use self::talk::{Piece, Talk};
use super::{ConnectionId, Hub, Level, Lost, Notice, Output, timers::Timer};
use crate::{
    access::Action,
    error::{Error, ErrorKind},
    limits,
    media::StreamName,
    message::Unread,
    observe::StreamEvent,
    session::{self, Answer, Event, Session},
    stats::PathStats,
    time::Now,
};

/// Whose sessions count apart from those of other doors that count.
const SIGNALLED_DOOR: &str = "webrtc";

/// One peer.
pub struct Connection {
    pub id: ConnectionId,
    pub door: &'static str,
    pub peer: SocketAddr,
    pub accepted: Now,
    /// `None` while it is being driven, and for good after it panicked.
    session: Option<Box<dyn Session>>,
    pub role: Role,
    /// Which stream its log lines are about.
    pub stream: Option<StreamName>,
    /// What is said beside the stream. A viewer of a running stream says nothing for hours, and there are thousands of them.
    talk: Option<Box<Talk>>,
    /// How fast packets go to its ports, while media goes beside the connection.
    pace: Option<Box<pace::Pace>>,
    /// The send that is under way, and since when.
    sending: Option<(Sending, Now)>,
    /// Close as soon as the outbox is empty.
    closing: bool,
    /// When its timer goes off, at its deadline or before; [`NEVER`] when none is set.
    armed: Now,
    /// Its session carries the stream itself.
    carried: bool,
    /// It stands in the queue of those who may have something to send.
    queued: bool,
    /// The log knows that its wish was refused; a session that ends over it says nothing new.
    refused: bool,
    /// The operator has said what it publishes or plays: nobody need be asked.
    pub trusted: bool,
    /// What it wished for last.
    pub wished: Option<Action>,
    /// Which stream it may fetch by which credentials; asked once, not for each segment.
    #[cfg(feature = "segment")]
    pub may_fetch: u64,
}

/// What a connection has been allowed to fetch, for the next one of the same peer.
#[cfg(feature = "segment")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance(u64);

/// What the send under way is made of.
#[derive(Clone, Debug)]
enum Sending {
    /// Bytes that must go whole; the rest goes back to the front of the outbox.
    Own(Piece),
    /// Bytes of the wire log; the viewer decides how to go on.
    Stream,
}

impl Connection {
    /// True while the session's wish has no answer.
    fn is_asking(&self) -> bool {
        #[cfg(feature = "segment")]
        if matches!(self.role, Role::Held { .. }) {
            return true;
        }
        matches!(self.role, Role::Moving { .. } | Role::Waiting { .. } | Role::Judged { .. })
            || self.talk.as_ref().is_some_and(|talk| talk.next_wish.is_some())
    }

    /// Keeps the answer to its wish until its session has done what it is at.
    pub fn tell_later(&mut self, reply: Reply) {
        self.talk().answer = Some(reply);
    }

    /// Closes it as soon as the outbox is empty, whatever its session thinks.
    pub fn close_now(&mut self) {
        self.closing = true;
    }

    /// Whether its bounds hold and whatever it has to do will be done; asked when the hub has nothing left to do.
    pub(super) fn audit(&self) -> Result<(), &'static str> {
        let nothing = Talk::default();
        let talk = self.talk.as_deref().unwrap_or(&nothing);
        let own = talk.outbox.iter().filter(|piece| !piece.shared);
        let outbox: usize = own.map(|piece| piece.bytes.len()).sum();
        if outbox != talk.outbox_bytes {
            return Err("has an outbox that does not add up");
        }
        if self.talk.as_ref().is_some_and(|talk| talk.is_over()) {
            return Err("keeps memory for saying nothing");
        }
        // A header may stand in front of what the session wants to say.
        if !self.closing && outbox > 2 * limits::OUTBOX_BYTES_MAX {
            return Err("has an outbox beyond its bound");
        }
        if talk.unread.weight() > limits::UNREAD_BYTES_MAX {
            return Err("has more unread than its bound");
        }
        if talk.answer.is_some() {
            return Err("has an answer that its session was not told");
        }
        if !talk.unread.is_empty() && !self.is_asking() && !self.closing {
            return Err("has bytes that its session was not given");
        }
        if self.sending.is_none() && (self.closing || !talk.outbox.is_empty()) {
            return Err("has something to send or to close, and nothing will bring it about");
        }
        Ok(())
    }

    /// True once its receive is being stopped, so that it can move.
    fn is_leaving(&self) -> bool {
        matches!(self.role, Role::Moving { quiet: true, .. })
    }

    /// True for a viewer that wants no more and is still in the middle of a frame.
    fn is_stopping(&self) -> bool {
        matches!(self.role, Role::Viewing { leaving: Leaving::Stopping, .. })
    }

    /// True when it is only sent what is left.
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// There may be something to send, or it is to be closed or moved.
    fn has_more(&self) -> bool {
        let goes_on = matches!(self.role, Role::Viewing { .. } | Role::Moving { .. });
        goes_on || self.closing || !self.has_said_all()
    }

    /// No frame of a stream has gone in part.
    pub fn is_between_frames(&self) -> bool {
        let on_its_way = matches!(self.sending, Some((Sending::Stream, _)));
        match &self.role {
            Role::Viewing { viewer, .. } => viewer.at_boundary() && !on_its_way,
            _ => true,
        }
    }

    /// How what it is sent now is cut into datagrams; `None` for one that goes whole.
    pub fn datagram(&self) -> Option<u16> {
        if let Some((Sending::Own(Piece { size: size @ Some(_), .. }), _)) = &self.sending {
            return *size;
        }
        match &self.role {
            Role::Viewing { form, .. } if !self.carried => form.datagram,
            _ => None,
        }
    }

    /// What its session has counted on its way.
    pub fn path(&self) -> Option<PathStats> {
        self.session.as_ref().filter(|_| self.carried)?.path()
    }

    /// Which sum that goes to: of WebRTC, or of all others that count.
    pub fn path_of(&self) -> usize {
        usize::from(self.door == SIGNALLED_DOOR)
    }

    /// Nothing waits and nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.sending.is_none() && self.has_said_all()
    }
}

impl Hub {
    /// The connection with this number, unless the number is of an earlier user of the slot.
    pub(super) fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.get_mut(id.slot as usize)?.as_deref_mut().filter(|connection| connection.id == id)
    }

    pub(super) fn connected(
        &mut self,
        id: ConnectionId,
        door: &'static str,
        peer: SocketAddr,
        session: Box<dyn Session>,
        now: Now,
    ) {
        self.stats.accepted += 1;
        if self.draining {
            self.outputs.push_back(Output::Close { connection: id });
            return;
        }
        self.insert(id, door, peer, session, now, now);
        self.after(id);
    }

    pub(super) fn insert(
        &mut self,
        id: ConnectionId,
        door: &'static str,
        peer: SocketAddr,
        session: Box<dyn Session>,
        accepted: Now,
        now: Now,
    ) {
        let slot = id.slot as usize;
        if self.connections.len() <= slot {
            self.connections.resize_with(slot + 1, || None);
        }
        let carried = session.carries();
        let connection = Connection {
            id,
            door,
            peer,
            accepted,
            session: Some(session),
            role: Role::Talking,
            stream: None,
            talk: None,
            pace: None,
            sending: None,
            closing: false,
            armed: NEVER,
            carried,
            queued: false,
            refused: false,
            trusted: false,
            wished: None,
            #[cfg(feature = "segment")]
            may_fetch: 0,
        };
        let former = self.connections[slot].replace(Box::new(connection));
        assert!(former.is_none(), "the driver used a slot twice");
        self.stats.connections += 1;
        if !self.timers.is_set(Timer::Sweep) {
            self.swept = now;
            self.timers.set(Timer::Sweep, Some(now.after(SWEEP)));
        }
    }

    /// Lets a connection publish and play without asking whether it may: the operator has said so. One that plays is nobody who
    /// watches: a host that begins a stream for its first viewer does not begin it for this one, and ends it though it is there.
    pub fn trust(&mut self, connection: ConnectionId) {
        if let Some(connection) = self.connection(connection) {
            connection.trusted = true;
        }
    }

    /// What a connection has been allowed to fetch so far. A peer whose requests come as a connection each is asked for its right
    /// once, if the driver hands this on to the next ([`allow`](Self::allow)).
    #[cfg(feature = "segment")]
    pub fn allowance(&self, connection: ConnectionId) -> Allowance {
        Allowance(self.look(connection).map_or(0, |connection| connection.may_fetch))
    }

    /// Lets a connection fetch what another of the same peer was allowed to.
    #[cfg(feature = "segment")]
    pub fn allow(&mut self, connection: ConnectionId, allowance: Allowance) {
        if let Some(connection) = self.connection(connection) {
            connection.may_fetch = allowance.0;
        }
    }

    /// The connection, to look at.
    pub(super) fn look(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.get(id.slot as usize)?.as_deref().filter(|connection| connection.id == id)
    }

    pub(super) fn received(&mut self, id: ConnectionId, bytes: &[u8], now: Now) {
        self.stats.received_bytes += bytes.len() as u64;
        let Some(connection) = self.connection(id) else { return };
        if connection.closing {
            return;
        }
        if connection.is_asking() {
            // A viewer has little to say while it waits; a publisher on its way to another core sends its stream.
            let most = match connection.role {
                Role::Waiting { .. } => limits::UNREAD_VIEWER_BYTES_MAX,
                #[cfg(feature = "segment")]
                Role::Held { .. } => limits::UNREAD_VIEWER_BYTES_MAX,
                Role::Judged { ref wish, .. } if !matches!(wish.wanted, Wanted::Publish) => {
                    limits::UNREAD_VIEWER_BYTES_MAX
                }
                _ => limits::UNREAD_BYTES_MAX,
            };
            let unread = connection.talk.as_ref().map_or(0, |talk| talk.unread.weight());
            if unread + Unread::weight_of(bytes) > most {
                let at = connection.session.as_ref().map_or(0, |session| session.received());
                let error = Error::too_large("sent too much before its wish was answered", at);
                self.fail(id, error, now);
                return;
            }
            connection.talk().unread.push(bytes);
            return;
        }
        self.drive(id, session::Input::Received(bytes), now);
    }

    /// True while this connection's session works on an input, and for good after it panicked.
    pub(super) fn is_being_driven(&mut self, id: ConnectionId) -> bool {
        self.connection(id).is_some_and(|connection| connection.session.is_none())
    }

    /// Gives the session one input, then whatever follows from it, until it wants nothing more.
    pub(super) fn drive(&mut self, id: ConnectionId, input: session::Input<'_>, now: Now) {
        if self.connection(id).is_none_or(|connection| connection.closing) {
            return;
        }
        self.step(id, input, now);
        // What the hub answers at once is told at once; what came in the meantime follows.
        loop {
            let Some(connection) = self.connection(id) else { return };
            if connection.closing {
                break;
            }
            if let Some(answer) = connection.take_answer() {
                self.step(id, answer.into(), now);
                continue;
            }
            if connection.is_asking() {
                break;
            }
            let Some(unread) = connection.take_unread() else { break };
            self.step(id, session::Input::Received(&unread), now);
        }
        self.after(id);
    }

    /// One input, and what the session makes of it.
    fn step(&mut self, id: ConnectionId, input: session::Input<'_>, now: Now) {
        let Some(connection) = self.connection(id) else { return };
        let Some(mut session) = connection.session.take() else { return };
        let starts = connection.role.starts_for(&input);
        // A panic here is a bug of ours, brought out by this peer's bytes. It must cost this peer and nobody else.
        let handled = catch_unwind(AssertUnwindSafe(|| {
            starts.iter().for_each(|starts| session.begins_at(starts));
            session.handle(input, now)
        }));
        let received = session.received();
        let Ok(result) = handled else { return self.fail(id, panicked(received), now) };
        // Whoever is being closed has nothing more to say, and gets nothing more.
        while self.connection(id).is_some_and(|connection| !connection.closing) {
            match catch_unwind(AssertUnwindSafe(|| session.poll())) {
                Ok(Some(output)) => self.output(id, output, received, now),
                Ok(None) => break,
                Err(_) => return self.fail(id, panicked(received), now),
            }
        }
        if let Some(connection) = self.connection(id) {
            connection.session = Some(session);
        }
        if let Err(error) = result {
            self.fail(id, error, now);
        }
    }

    fn output(&mut self, id: ConnectionId, output: session::Output, received: u64, now: Now) {
        match output {
            session::Output::Send(bytes) => {
                let Some(connection) = self.connection(id) else { return };
                connection.push(Piece::own(bytes));
                self.bound_outbox(id, received, now);
            }
            session::Output::Datagrams { bytes, size } => {
                let Some(connection) = self.connection(id) else { return };
                connection.push(Piece::datagrams(bytes, size));
                self.bound_outbox(id, received, now);
            }
            session::Output::Share(bytes) => {
                if let Some(connection) = self.connection(id) {
                    connection.push(Piece::shared(bytes));
                }
            }
            session::Output::Packets(bytes) => {
                if let Some(connection) = self.connection(id) {
                    connection.push(Piece { packets: true, ..Piece::own(bytes) });
                }
            }
            session::Output::Ports(ports) => {
                if let Some(connection) = self.connection(id) {
                    connection.pace = ports.is_some().then(Box::default);
                    self.outputs.push_back(Output::Ports { connection: id, ports });
                }
            }
            session::Output::Datagram { to, bytes } => {
                self.stats.sent_bytes += bytes.len() as u64;
                self.outputs.push_back(Output::Datagram { connection: id, to, bytes });
            }
            session::Output::Address(address) => {
                self.outputs.push_back(Output::Address { connection: id, address });
            }
            session::Output::Close => {
                if let Some(connection) = self.connection(id) {
                    connection.closing = true;
                }
            }
            session::Output::Event(event) => self.event(id, event, now),
        }
    }

    fn bound_outbox(&mut self, id: ConnectionId, received: u64, now: Now) {
        if self.connection(id).is_some_and(|connection| connection.outbox_bytes() > limits::OUTBOX_BYTES_MAX)
        {
            self.fail(id, Error::too_large("asks for more answers than it reads", received), now);
        }
    }

    pub(super) fn event(&mut self, id: ConnectionId, event: Event, now: Now) {
        match event {
            Event::Publish { .. } | Event::Play { .. } | Event::Describe { .. }
                if self.connection(id).is_some_and(|connection| connection.is_stopping()) =>
            {
                if let Some(connection) = self.connection(id) {
                    connection.talk().next_wish = Some(event);
                }
            }
            Event::Frame(frame) => self.frame(id, frame, now),
            Event::Prove(proof) => {
                if let Some(connection) = self.connection(id) {
                    connection.talk().proof = Some(proof);
                }
            }
            Event::Publish { name, query } => self.wish_to_publish(id, name, &query, now),
            Event::Play { name, query, form } => self.wish_to_play(id, name, &query, Wanted::Play(form), now),
            Event::Describe { name, query } => self.wish_to_play(id, name, &query, Wanted::Describe, now),
            #[cfg(feature = "segment")]
            Event::Fetch { name, query, item } => self.wish_to_fetch(id, name, &query, item, now),
            Event::Unpublish => {
                self.remark(id, Level::Info, "publisher done", None);
                self.unpublish(id, now);
            }
            Event::Stop => self.stop(id, now),
            Event::Pause(paused) => {
                if let Some(Connection { role: Role::Viewing { viewer, .. }, .. }) = self.connection(id) {
                    viewer.pause(paused, now);
                }
            }
            Event::Remark(text) => self.remark(id, Level::Info, text, None),
            Event::KeyframeWanted => {
                if let Some(Role::Viewing { stream, .. }) = self.connection(id).map(|found| &found.role) {
                    let stream = *stream;
                    self.want_keyframe(stream, now);
                }
            }
            Event::Signal(signal) => {
                if let Some(peer) = self.connection(id).map(|connection| connection.peer) {
                    self.outputs.push_back(Output::Signal { connection: id, peer, signal });
                }
            }
            Event::Reply(reply) => self.outputs.push_back(Output::Reply { connection: id, reply }),
        }
    }

    /// Tells the session the answer to its wish; now if it is not being driven, else as soon as it has been.
    pub(super) fn answer(&mut self, id: ConnectionId, answer: Answer, now: Now) {
        if let Answer::Refused(refusal) = answer {
            self.stats.refusals += 1;
            let text = format!("refused: {}", refusal.why());
            self.remark(id, Level::Warning, &text, None);
        }
        let Some(connection) = self.connection(id) else { return };
        connection.refused |= matches!(answer, Answer::Refused(_));
        if let (Some(action), Some(name)) = (connection.wished, connection.stream.clone()) {
            let refused = if let Answer::Refused(refusal) = answer { Some(refusal.why()) } else { None };
            let (peer, door) = (connection.peer, connection.door);
            self.happened(StreamEvent::Answered { name, action, peer, door, refused });
        }
        let Some(connection) = self.connection(id) else { return };
        if connection.session.is_some() {
            self.drive(id, session::Input::Answer(answer), now);
        } else {
            connection.talk().answer = Some(Reply::Answer(answer));
        }
    }

    /// A line for the log about this peer.
    pub(super) fn remark(&mut self, id: ConnectionId, level: Level, text: &str, at: Option<u64>) {
        let Some(connection) = self.connection(id) else { return };
        let notice = Notice {
            level,
            peer: Some(connection.peer),
            door: connection.door,
            stream: connection.stream.clone(),
            text: text.to_owned(),
            at,
        };
        self.notice(notice);
    }

    /// The peer did something wrong: what its session still had to say is sent, then it is closed.
    fn fail(&mut self, id: ConnectionId, error: Error, now: Now) {
        let Some(connection) = self.connection(id) else { return };
        if connection.closing && error.kind != ErrorKind::Panicked {
            return;
        }
        connection.closing = true;
        // In the middle of a frame there is no place for a word of farewell.
        let inside = match &connection.role {
            Role::Viewing { viewer, .. } => !viewer.at_boundary() || connection.sending.is_some(),
            _ => false,
        };
        if inside {
            connection.say_nothing_more();
        }
        let told = connection.refused && error.kind == ErrorKind::Refused;
        let level = if error.kind == ErrorKind::Panicked { Level::Alarm } else { Level::Warning };
        self.count_error(error.kind);
        if !told {
            self.remark(id, level, &format!("{}: {}", error.kind.word(), error.why), Some(error.at));
        }
        self.detach(id, now);
        self.enqueue(id);
    }

    /// What follows any input: its deadline, and whether there is something to send or to close.
    pub(super) fn after(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection(id) else { return };
        let mut deadline = connection.session.as_ref().and_then(|session| session.deadline());
        if let Role::Waiting { until: Some(until), .. } | Role::Judged { until, .. } = connection.role {
            deadline = Some(deadline.map_or(until, |deadline| deadline.min(until)));
        }
        #[cfg(feature = "segment")]
        if let Role::Held { until, .. } = connection.role {
            deadline = Some(deadline.map_or(until, |deadline| deadline.min(until)));
        }
        // Whoever is closed is past its deadlines; one that is to move must say nothing on the way, and its deadline holds
        // again where it arrives.
        if connection.closing || connection.is_leaving() {
            deadline = None;
        }
        // Most deadlines move away with each byte that comes. One that is armed for an earlier time is left alone: it
        // finds nothing due, and arms the one that holds then.
        let wanted = deadline.unwrap_or(NEVER);
        let kept = wanted != NEVER && connection.armed <= wanted;
        if !kept && connection.armed != wanted {
            connection.armed = wanted;
            self.timers.set(Timer::Connection(id), deadline);
        }
        self.enqueue(id);
    }

    /// Puts the connection into the queue of those who may have something to send.
    pub(super) fn enqueue(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection(id) else { return };
        // Whoever has nothing to be sent stays out: its next answer would find it queued already, behind the crowd.
        if !connection.queued && connection.sending.is_none() && connection.has_more() {
            connection.queued = true;
            // An answer goes before the crowd of viewers that a flush has put here, and so does the beginning of a stream:
            // whoever comes in waits for several, one after the other.
            let enters = matches!(&connection.role, Role::Viewing { viewer, .. } if !viewer.has_begun());
            if connection.has_said_all() && !enters {
                self.ready.push_back(id);
            } else {
                self.ready.push_front(id);
            }
        }
    }

    /// The peer has gone. What it published waits for it; what it watched does not.
    pub(super) fn lost(&mut self, id: ConnectionId, how: Lost, now: Now) {
        let Some(connection) = self.connection(id) else { return };
        // A peer that has said all it wants to say may still be listening to the answer.
        if how == Lost::Eof && matches!(connection.role, Role::Talking) && !connection.is_idle() {
            connection.closing = true;
            return self.enqueue(id);
        }
        let what = match &connection.role {
            Role::Publishing { .. } => Some("publisher gone"),
            _ => None,
        };
        if let (Some(what), false) = (what, connection.closing) {
            let text = match how {
                Lost::Eof => format!("{what}: closed by the peer"),
                Lost::Failed(why) => format!("{what}: {why}"),
            };
            self.remark(id, Level::Info, &text, None);
        }
        self.remove(id, now);
        self.outputs.push_back(Output::Close { connection: id });
    }

    /// Forgets the connection; the driver is told by the caller.
    fn remove(&mut self, id: ConnectionId, now: Now) {
        self.detach(id, now);
        self.timers.set(Timer::Connection(id), None);
        if let Some(connection) = self.look(id)
            && let Some(path) = connection.path()
        {
            let of = connection.path_of();
            self.paths[of].merge(&path.closed());
        }
        if let Some(slot) = self.connections.get_mut(id.slot as usize)
            && slot.as_ref().is_some_and(|connection| connection.id == id)
        {
            *slot = None;
            self.stats.connections -= 1;
        }
    }

    /// Ends whatever the connection was doing with a stream. A viewer in mid-frame is only left by closing.
    fn detach(&mut self, id: ConnectionId, now: Now) {
        let Some(connection) = self.connection(id) else { return };
        match connection.role {
            Role::Publishing { .. } => self.unpublish(id, now),
            Role::Waiting { stream, .. } | Role::Viewing { stream, .. } => self.leave_stream(id, stream, now),
            #[cfg(feature = "segment")]
            Role::Held { package, .. } => self.let_go(id, package),
            Role::Talking | Role::Moving { .. } | Role::Judged { .. } => {}
        }
    }

    pub(super) fn connection_timeout(&mut self, id: ConnectionId, now: Now) {
        let Some(connection) = self.connection(id) else { return };
        connection.armed = NEVER;
        if let Role::Waiting { until: Some(until), stream, awaited } = &connection.role
            && *until <= now
        {
            let stream = *stream;
            if awaited.looks_until().is_some_and(|by| now < by) {
                let awaited = awaited.clone();
                return self.begin(id, stream, awaited, now);
            }
            self.leave_stream(id, stream, now);
            return self.answer(id, Answer::Refused(session::Refusal::NotFound), now);
        }
        if let Role::Judged { until, .. } = connection.role
            && until <= now
        {
            connection.role = Role::Talking;
            self.remark(id, Level::Warning, "nobody has said in time whether it may", None);
            return self.answer(id, Answer::Refused(session::Refusal::Forbidden), now);
        }
        #[cfg(feature = "segment")]
        if let Role::Held { until, package, .. } = connection.role
            && until <= now
        {
            self.let_go(id, package);
            return self.answer(id, Answer::Refused(session::Refusal::TooLate), now);
        }
        let Some(connection) = self.connection(id) else { return };
        if connection
            .session
            .as_ref()
            .and_then(|session| session.deadline())
            .is_some_and(|deadline| deadline <= now)
        {
            self.drive(id, session::Input::Timeout, now);
        } else {
            self.after(id);
        }
        // One that is late again at once would be given turn after turn, and nobody else any.
        if let Some(connection) = self.connection(id)
            && connection.armed <= now
        {
            let later = now.after(HASTE_MIN);
            connection.armed = later;
            self.timers.set(Timer::Connection(id), Some(later));
        }
    }
}

/// The deadline of whoever has none.
const NEVER: Now = Now(u64::MAX);

/// How soon a session has its next turn whose deadline had come again when the last one ended.
const HASTE_MIN: std::time::Duration = std::time::Duration::from_millis(1);

/// A session's panic, as the error that its peer is closed for.
const fn panicked(at: u64) -> Error {
    Error { kind: ErrorKind::Panicked, why: "a bug in this server", at }
}

/// How often peers that take nothing are looked for.
const SWEEP: std::time::Duration = std::time::Duration::from_secs(1);
