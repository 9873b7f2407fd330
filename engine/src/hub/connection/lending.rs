//! Bytes that are received straight into memory of their session.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::BytesMut;

use super::{Connection, Role, panicked};
use crate::{
    hub::{ConnectionId, Hub},
    session,
    time::Now,
};

impl Connection {
    /// True while its bytes are best received straight into memory of its session. One whose wish has no answer keeps
    /// them as they come.
    pub fn lends(&self) -> bool {
        let publishes = matches!(self.role, Role::Publishing { .. }) && !self.closing;
        publishes && self.session.as_ref().is_some_and(|session| session.lends())
    }
}

impl Hub {
    pub(in crate::hub) fn lend_of(&mut self, id: ConnectionId, now: Now) -> Option<BytesMut> {
        let connection = self.connection(id).filter(|connection| connection.lends())?;
        let session = connection.session.as_mut()?;
        let received = session.received();
        match catch_unwind(AssertUnwindSafe(|| session.lend())) {
            Ok(memory) => Some(memory),
            Err(_) => {
                connection.session = None;
                self.fail(id, panicked(received), now);
                None
            }
        }
    }

    pub(in crate::hub) fn filled(&mut self, id: ConnectionId, memory: BytesMut, received: usize, now: Now) {
        self.stats.received_bytes += received as u64;
        let Some(connection) = self.connection(id) else { return };
        if !connection.closing {
            self.drive(id, session::Input::Filled { memory, received }, now);
        }
    }
}
