//! What a peer is sent next, and what follows when that is done.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use super::{Connection, Leaving, NEVER, Piece, Role, Sending, panicked};
use crate::{
    error::Error,
    hub::{ConnectionId, Hub, Lost, Output, timers::Timer},
    observe::StreamEvent,
    session,
    stream::Next,
    time::Now,
};

impl Connection {
    /// It is sent each frame as it comes.
    pub fn is_prompt(&self) -> bool {
        matches!(&self.role, Role::Viewing { form, .. } if form.prompt)
    }

    /// A session that carries the stream has room for some of it.
    fn has_room(&mut self, now: Now) -> bool {
        match (&self.role, &mut self.session) {
            (Role::Viewing { .. }, Some(session)) => {
                catch_unwind(AssertUnwindSafe(|| session.room(now))).is_ok_and(|room| room > 0)
            }
            _ => true,
        }
    }
}

impl Hub {
    /// What this connection is to be sent now, or that it can be closed or moved.
    pub(in crate::hub) fn next_send(&mut self, id: ConnectionId, now: Now) -> Option<Output> {
        self.connection(id)?.queued = false;
        loop {
            let connection =
                self.connections.get_mut(id.slot as usize)?.as_deref_mut().filter(|found| found.id == id)?;
            if connection.sending.is_some() {
                return None;
            }
            let between = match &connection.role {
                Role::Viewing { viewer, .. } => connection.carried || viewer.at_boundary(),
                _ => true,
            };
            if between && let Some(piece) = connection.pop() {
                let (bytes, packets) = (piece.bytes.clone(), piece.packets);
                connection.sending = Some((Sending::Own(piece), now));
                return Some(send(id, bytes, packets));
            }
            if connection.closing && between {
                self.remove(id, now);
                return Some(Output::Close { connection: id });
            }
            if connection.carried && !connection.has_room(now) {
                return None;
            }
            match &mut connection.role {
                Role::Viewing { stream, form, viewer, leaving } => {
                    let (stream_id, leaving) = (*stream, *leaving);
                    let stream = self.streams.get(stream_id)?;
                    let jumps = viewer.jumps();
                    let log = stream.logs.iter().find(|log| log.form() == *form)?;
                    let mut most = usize::MAX;
                    if let Some(pace) = &mut connection.pace {
                        most = pace.room(log.newest_bytes(), now);
                        if let (0, Some(until)) = (most, pace.pause(now)) {
                            // Others may have had it out of the queue meanwhile; this brings it back.
                            if until < connection.armed {
                                connection.armed = until;
                                self.timers.set(Timer::Connection(id), Some(until));
                            }
                            return None;
                        }
                    }
                    let next = viewer.next_of(log, &stream.limits, now, most);
                    let jumps = viewer.jumps() - jumps;
                    self.stats.viewer_jumps += jumps;
                    if jumps > 0 && self.observed {
                        let name = stream.name.clone();
                        self.outputs.push_back(Output::Event(StreamEvent::Lagged { name }));
                    }
                    match next {
                        Next::Stream(bytes) if connection.carried => {
                            let taken = self.carry(id, &bytes, now)?;
                            if let Some(Role::Viewing { viewer, .. }) =
                                self.connection(id).map(|connection| &mut connection.role)
                            {
                                viewer.advance(taken);
                            }
                        }
                        Next::Ahead(bytes) | Next::Jumped(bytes) if connection.carried => {
                            self.carry_whole(id, &bytes, now);
                        }
                        Next::Stream(bytes) => {
                            connection.sending = Some((Sending::Stream, now));
                            let pace = connection.pace.as_mut().map(|pace| pace.took(bytes.len()));
                            return Some(send(id, bytes, pace.is_some()));
                        }
                        Next::Ahead(bytes) | Next::Jumped(bytes) => {
                            let packets = connection.pace.is_some();
                            connection.push_front(Piece { packets, ..Piece::own(bytes) });
                        }
                        Next::Nothing => {
                            return match leaving {
                                Leaving::No => None,
                                Leaving::Stopping => {
                                    self.stopped(id, stream_id, now);
                                    None
                                }
                                Leaving::Ended => {
                                    self.leave_stream(id, stream_id, now);
                                    self.drive(id, session::Input::Ended, now);
                                    None
                                }
                            };
                        }
                    }
                }
                Role::Moving { quiet, .. } if !*quiet => {
                    *quiet = true;
                    connection.armed = NEVER;
                    // A word that it said now would be lost on the way.
                    self.timers.set(Timer::Connection(id), None);
                    return Some(Output::Quiet { connection: id });
                }
                _ => return None,
            }
        }
    }

    /// Gives bytes of the stream to a session that carries it; says how many it took.
    fn carry(&mut self, id: ConnectionId, bytes: &Bytes, now: Now) -> Option<usize> {
        let connection = self.connection(id)?;
        let mut session = connection.session.take()?;
        let received = session.received();
        let shelf = &mut self.shelf;
        let carried = catch_unwind(AssertUnwindSafe(|| {
            let taken = session.carry(bytes, shelf, now);
            let said: Vec<_> = std::iter::from_fn(|| session.poll()).collect();
            (taken, said, session)
        }));
        let Ok((taken, said, session)) = carried else {
            self.fail(id, panicked(received), now);
            return None;
        };
        for output in said {
            self.output(id, output, received, now);
        }
        self.connection(id)?.session = Some(session);
        self.after(id);
        Some(taken)
    }

    /// The same for what stands before a frame, and cannot be taken in part.
    fn carry_whole(&mut self, id: ConnectionId, bytes: &Bytes, now: Now) {
        if !bytes.is_empty() && self.carry(id, bytes, now).is_some_and(|taken| taken < bytes.len()) {
            self.fail(
                id,
                Error::too_large("what stands before a frame is longer than its session takes", 0),
                now,
            );
        }
    }

    pub(in crate::hub) fn sent(&mut self, id: ConnectionId, result: Result<usize, Lost>, now: Now) {
        let Some(connection) = self.connection(id) else { return };
        let Some((sending, _)) = connection.sending.take() else { return };
        let count = match result {
            Ok(count) => count,
            Err(how) => return self.lost(id, how, now),
        };
        match sending {
            Sending::Own(Piece { mut bytes, shared, size, packets }) => {
                let rest = bytes.split_off(count.min(bytes.len()));
                connection.push_front(Piece { bytes: rest, shared, size, packets });
            }
            Sending::Stream => {
                if let Role::Viewing { viewer, .. } = &mut connection.role {
                    viewer.advance(count);
                }
            }
        }
        self.stats.sends += 1;
        self.stats.sent_bytes += count as u64;
        self.enqueue(id);
    }
}

/// What goes inside a connection, or beside it.
fn send(connection: ConnectionId, bytes: Bytes, packets: bool) -> Output {
    if packets { Output::SendPackets { connection, bytes } } else { Output::Send { connection, bytes } }
}
