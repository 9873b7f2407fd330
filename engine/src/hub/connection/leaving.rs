//! How a peer leaves this core other than by itself: moved to the owner of its stream, closed because it takes nothing, told
//! that the node goes down. And how one arrives that was moved.

use super::{Connection, ErrorKind, SWEEP};
use crate::{
    access::Action,
    hub::{ConnectionId, Hub, Level, Output, connection::Role, timers::Timer},
    media::StreamName,
    message::Parcel,
    session,
    time::Now,
};

impl Hub {
    /// The driver has stopped receiving: the publisher can move.
    pub(in crate::hub) fn quiet(&mut self, id: ConnectionId) {
        let Some(slot) = self.connections.get_mut(id.slot as usize) else { return };
        // One that was told to close meanwhile stays, and closes here once its farewell is out.
        let moves = |connection: &mut Box<Connection>| connection.id == id && !connection.closing;
        let Some(connection) = slot.take_if(moves) else { return };
        self.timers.set(Timer::Connection(id), None);
        self.stats.connections -= 1;
        let Connection {
            role: Role::Moving { to, name, .. },
            session: Some(session),
            talk,
            door,
            peer,
            accepted,
            ..
        } = *connection
        else {
            // It was closed while it became quiet; there is nothing to move.
            self.outputs.push_back(Output::Close { connection: id });
            return;
        };
        self.stats.moves += 1;
        let unread = talk.map(|talk| talk.unread).unwrap_or_default();
        let parcel = Parcel { session, door, peer, accepted, name, unread };
        self.outputs.push_back(Output::Move { connection: id, to, parcel });
    }

    pub(in crate::hub) fn adopted(&mut self, id: ConnectionId, parcel: Parcel, now: Now) {
        let Parcel { session, door, peer, accepted, name, unread } = parcel;
        self.insert(id, door, peer, session, accepted, now);
        let draining = self.draining;
        let connection = self.connection(id).expect("just inserted");
        connection.stream = Some(name.clone());
        connection.wished = Some(Action::Publish);
        if draining {
            return self.dismiss(id, now);
        }
        if !unread.is_empty() {
            connection.talk().unread = unread;
        }
        self.publish_here(id, name, now);
        self.after(id);
    }

    /// Closes peers that have taken nothing for too long.
    pub(in crate::hub) fn sweep(&mut self, now: Now) {
        // A core that slept (a process that was stopped, a starved machine) has seen nobody take anything. That is not its
        // peers' fault: the time that this look is late does not count.
        let late = now.since(std::mem::replace(&mut self.swept, now).after(SWEEP));
        for connection in self.connections.iter_mut().flatten() {
            if let Some((_, since)) = &mut connection.sending {
                *since = since.after(late).min(now);
            }
        }
        let idle = self.settings.doors.idle;
        let mut stalled = Vec::new();
        for connection in self.connections.iter().flatten() {
            let Some((_, since)) = &connection.sending else { continue };
            let patience = match &connection.role {
                Role::Viewing { .. } => {
                    let app = connection.stream.as_ref().map_or("", StreamName::app);
                    self.settings.of(app).limits.viewer_stall
                }
                _ => idle,
            };
            if now.since(*since) > patience {
                stalled.push((
                    connection.id,
                    connection.session.as_ref().map_or(0, |session| session.received()),
                ));
            }
        }
        for (id, received) in stalled {
            self.stats.stalls += 1;
            self.count_error(ErrorKind::TimedOut);
            self.remark(id, Level::Warning, "took nothing for too long", Some(received));
            self.remove(id, now);
            self.outputs.push_back(Output::Close { connection: id });
        }
        if self.connections.iter().any(Option::is_some) {
            self.timers.set(Timer::Sweep, Some(now.after(SWEEP)));
        }
    }

    pub(in crate::hub) fn drain(&mut self, now: Now) {
        self.draining = true;
        let ids: Vec<ConnectionId> =
            self.connections.iter().flatten().map(|connection| connection.id).collect();
        for id in ids {
            self.dismiss(id, now);
        }
        self.end_owned_streams(now);
    }

    /// Lets a peer say goodbye because the node goes down.
    fn dismiss(&mut self, id: ConnectionId, now: Now) {
        self.drive(id, session::Input::Shutdown, now);
        if let Some(connection) = self.connection(id) {
            connection.closing = true;
        }
        self.enqueue(id);
    }
}
