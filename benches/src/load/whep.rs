//! Viewers by WHEP: what they ask by HTTP goes by the ring, what they are sent comes by sockets of their own, see `datagrams`.

use shardcast_engine::time::Now;
use shardcast_io::ring::SocketId;

use super::{Kind, Load, Owner, State, connect, now, send};
use crate::{url::Url, webrtc::Whep};

/// A viewer's conversation.
pub(super) struct Meeting {
    pub whep: Whep,
    /// The connection that brings the answer.
    pub asks: Option<SocketId>,
}

impl Load {
    /// A viewer offers to receive.
    pub(super) fn enter_by_whep(&mut self, index: usize, url: &Url, joined: Now) -> Result<(), String> {
        let (whep, request) = Whep::call(url, self.plan.watch.loss, index as u64, joined)?;
        let socket = match connect(url) {
            Ok(socket) => socket,
            Err(error) => {
                self.refused += 1;
                self.complain(format!("a viewer cannot connect: {error}"));
                return Ok(());
            }
        };
        let id = self.ring.add(socket).map_err(|(_, error)| error.to_string())?;
        self.ring.receive(id);
        let viewer = &mut self.viewers[index];
        viewer.out.waiting().extend_from_slice(&request);
        send(&mut self.ring, id, viewer.out.next());
        viewer.state = State::Meeting(Box::new(Meeting { whep, asks: Some(id) }));
        self.owners.insert(id, Owner::Viewer(index));
        // Those that look into all they get come first: they tell when it came.
        match viewer.kind {
            Kind::Parse => self.listeners.viewers.insert(0, index),
            _ => self.listeners.viewers.push(index),
        }
        Ok(())
    }

    /// The server says something by HTTP. Once it has answered, the connection is not needed any more.
    pub(super) fn answered_by_http(&mut self, index: usize, socket: SocketId, bytes: &[u8]) {
        let State::Meeting(meeting) = &mut self.viewers[index].state else { return };
        match meeting.whep.answered(bytes) {
            Ok(false) => {}
            Ok(true) => {
                meeting.asks = None;
                self.owners.remove(&socket);
                self.ring.close(socket);
                // What follows is quicker than the next look.
                self.listeners.look_at(now());
            }
            Err(why) => {
                self.refused += 1;
                self.complain(format!("a viewer: {why}"));
                self.leave(index);
            }
        }
    }
}
