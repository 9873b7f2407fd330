//! Whether a peer may do what it wants: said at once, or asked for elsewhere and waited for.

use super::{
    ConnectionId, Hub, Output,
    connection::{Judged, Role, Wanted},
};
use crate::{
    access::{Action, Request, Verdict, Wish},
    session::{Answer, Refusal},
    time::Now,
};

impl Hub {
    /// Asks the authenticator. Gives the wish back when it is allowed; else it is refused by now, or waits.
    pub(super) fn judge(&mut self, id: ConnectionId, wish: Judged, query: &str, now: Now) -> Option<Judged> {
        let connection = self.connection(id)?;
        let proof = connection.take_proof();
        let (peer, door) = (connection.peer, connection.door);
        if connection.trusted {
            return Some(wish);
        }
        let action = match &wish.wanted {
            Wanted::Publish => Action::Publish,
            _ => Action::Play,
        };
        let request = Request { action, name: &wish.name, query, peer, door, proof: proof.as_deref() };
        match self.settings.access.allows(&request) {
            Verdict::Allowed => return Some(wish),
            Verdict::Refused => self.answer(id, Answer::Refused(Refusal::Forbidden), now),
            Verdict::Later => {
                self.tickets += 1;
                let (ticket, until) = (self.tickets, now.after(self.settings.doors.verdict));
                let asked =
                    Wish { action, name: wish.name.clone(), query: query.to_owned(), peer, door, proof };
                self.outputs.push_back(Output::Ask { connection: id, ticket, wish: asked });
                if let Some(connection) = self.connection(id) {
                    connection.role = Role::Judged { wish: Box::new(Judged { ticket, ..wish }), until };
                }
            }
        }
        None
    }

    /// The verdict on a wish has come. It may be too late.
    pub(super) fn judged(&mut self, id: ConnectionId, ticket: u64, allowed: bool, now: Now) {
        let Some(connection) = self.connection(id) else { return };
        match &connection.role {
            Role::Judged { wish, .. } if wish.ticket == ticket && !connection.is_closing() => {}
            _ => return,
        }
        let Role::Judged { wish, .. } = std::mem::replace(&mut connection.role, Role::Talking) else {
            return;
        };
        if !allowed {
            return self.answer(id, Answer::Refused(Refusal::Forbidden), now);
        }
        match wish.wanted {
            wanted @ (Wanted::Play(_) | Wanted::Describe) => self.play_allowed(id, wish.name, wanted, now),
            Wanted::Publish => self.publish_allowed(id, wish.name, now),
            #[cfg(feature = "segment")]
            Wanted::Fetch { item, token } => self.fetch_allowed(id, wish.name, item, token, now),
        }
        // It may have moved to the owner of its stream meanwhile, or wait: its deadlines are other ones now.
        self.after(id);
    }
}
