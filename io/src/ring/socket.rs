//! Connected sockets of a ring, and peers of sockets for datagrams: at most one receive (multishot into the provided buffers, or one into memory of the caller's)
//! and one send at a time.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use io_uring::opcode;

use super::completion::{Completion, End, Kind, Operation};
use super::datagram::{Peer, Shared};
use super::packets::Packets;
use super::{RECEIVE_GROUP, Ring};
use crate::slots::Key;

/// Names a socket of one ring, from `add` until `take` or `close`. Later uses do nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SocketId(pub(super) Key);

impl SocketId {
    /// The socket's place in the ring's table, for tables of the caller's beside it. Used again by a later socket.
    pub fn index(self) -> usize {
        self.0.index as usize
    }
}

/// A socket, and what the kernel has of it.
pub(super) struct Socket {
    way: Way,
    /// Where packets go that are sent beside a connection.
    pub beside: Option<Box<Packets>>,
    receive: Receive,
    /// The memory of a receive that is not multishot; the kernel writes behind its length until the completion.
    memory: Option<BytesMut>,
    /// The payload of the send in flight; the kernel reads it until its completion.
    pub send: Option<Bytes>,
    /// The caller has closed it; it goes when nothing is in flight any more.
    closing: bool,
}

/// By what its bytes come and go.
enum Way {
    /// A socket of its own.
    Connection(OwnedFd),
    /// One that it shares with the other peers of its door, which receives for all of them.
    Peer(Box<Peer>),
}

#[derive(Clone, Copy, PartialEq)]
enum Receive {
    /// A peer's datagrams come by the socket that it shares.
    Shared,
    Idle,
    Armed,
    /// Armed, and its cancellation is under way.
    Stopping,
    /// Ended for want of a buffer; armed again when there are some.
    Starved,
}

impl SocketId {
    /// The slot in the ring's table, and which user of the slot: for a caller's own tables.
    pub fn parts(self) -> (u32, u32) {
        (self.0.index, self.0.generation)
    }
}

impl Socket {
    fn new(way: Way, receive: Receive) -> Socket {
        Socket { way, beside: None, receive, memory: None, send: None, closing: false }
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        match &self.way {
            Way::Connection(descriptor) => descriptor.as_fd(),
            Way::Peer(peer) => peer.descriptor(),
        }
    }

    /// Whether the send under way goes beside the connection.
    fn is_beside(&self) -> bool {
        self.beside.as_ref().is_some_and(|packets| packets.sending)
    }

    fn in_flight(&self) -> bool {
        self.send.is_some() || matches!(self.receive, Receive::Armed | Receive::Stopping)
    }

    /// No completion of it is to be acted on any more. For the end of the whole ring.
    pub fn abandon(&mut self) {
        self.closing = true;
    }
}

impl Ring {
    /// Takes a connected socket into the ring, or gives it back when the ring is full.
    pub fn add(&mut self, socket: OwnedFd) -> Result<SocketId, (OwnedFd, io::Error)> {
        let descriptor = socket.as_raw_fd();
        let (refused, error) = match self.sockets.insert(Socket::new(Way::Connection(socket), Receive::Idle))
        {
            Ok(key) => match self.register(key.index, descriptor) {
                Ok(()) => return Ok(SocketId(key)),
                Err(error) => (self.sockets.remove(key).expect("it was inserted above"), error),
            },
            Err(socket) => (socket, table_full()),
        };
        match refused.way {
            Way::Connection(socket) => Err((socket, error)),
            Way::Peer(_) => unreachable!("a table gives back what it was given"),
        }
    }

    /// The same for a peer of a socket for datagrams. It has no place in the registered table, for it has no descriptor.
    pub(super) fn insert_peer(&mut self, peer: Box<Peer>) -> io::Result<SocketId> {
        let inserted = self.sockets.insert(Socket::new(Way::Peer(peer), Receive::Shared));
        inserted.map(SocketId).map_err(|_| table_full())
    }

    /// Where the datagrams of a peer go; `None` for a connection.
    pub fn peer_address(&self, id: SocketId) -> Option<SocketAddr> {
        match &self.sockets.get(id.0)?.way {
            Way::Connection(_) => None,
            Way::Peer(peer) => Some(peer.address),
        }
    }

    /// The peer of a socket for datagrams is elsewhere from now on. Does nothing for a connection.
    pub fn move_peer(&mut self, id: SocketId, address: SocketAddr) {
        if let Some(Socket { way: Way::Peer(peer), .. }) = self.sockets.get_mut(id.0) {
            peer.move_to(address);
        }
    }

    /// What a peer has in common with the others of its socket.
    pub(super) fn shared_with(&self, id: SocketId) -> Option<&Rc<Shared>> {
        match &self.sockets.get(id.0)?.way {
            Way::Connection(_) => None,
            Way::Peer(peer) => Some(peer.shared()),
        }
    }

    /// Sockets in the ring, those included that wait for their last completion.
    pub fn sockets(&self) -> usize {
        self.sockets.len()
    }

    /// Begins to receive: [`Completion::Received`] as bytes come, then exactly one [`Completion::ReceiveEnded`]. Does
    /// nothing while a receive is running, and for a peer of a socket for datagrams.
    pub fn receive(&mut self, id: SocketId) {
        if let Some(socket) = self.open_socket(id)
            && socket.receive == Receive::Idle
        {
            self.arm_receive(id.0);
        }
    }

    /// Receives once, behind what stands in `memory`, which must have room: [`Completion::Filled`] brings it back as soon as
    /// anything has come. What is received this way needs no copy, and as much comes at once as there is room for. Gives
    /// the memory back while another receive is running.
    ///
    /// # Errors
    /// The memory, when the socket is closed or a receive is running.
    pub fn receive_into(&mut self, id: SocketId, memory: BytesMut) -> Result<(), BytesMut> {
        assert!(memory.capacity() > memory.len(), "a receive into no room cannot be told from the end");
        match self.open_socket(id) {
            Some(socket) if socket.receive == Receive::Idle => {
                socket.memory = Some(memory);
                self.push_receive_into(id.0);
                Ok(())
            }
            _ => Err(memory),
        }
    }

    /// Ends a receive, which then says so with [`End::Cancelled`], after all that it had taken from the socket. Does
    /// nothing when no receive is running.
    pub fn stop_receive(&mut self, id: SocketId) {
        let Some(socket) = self.open_socket(id) else { return };
        match socket.receive {
            Receive::Shared | Receive::Idle | Receive::Stopping => {}
            Receive::Armed => {
                socket.receive = Receive::Stopping;
                self.cancel(Operation { kind: Kind::Receive, key: id.0 });
            }
            Receive::Starved => {
                socket.receive = Receive::Idle;
                self.ready.push_back(Completion::ReceiveEnded { socket: id, how: End::Cancelled });
            }
        }
    }

    /// Whether a receive is running.
    pub fn is_receiving(&self, id: SocketId) -> bool {
        self.sockets
            .get(id.0)
            .is_some_and(|socket| !matches!(socket.receive, Receive::Idle | Receive::Shared))
    }

    /// Sends bytes, and keeps them until [`Completion::Sent`] says how many the socket took. One send per socket at a
    /// time, or the order of bytes would be anyone's guess.
    pub fn send(&mut self, id: SocketId, bytes: Bytes) {
        assert!(!bytes.is_empty(), "a send of nothing cannot be told from one that took nothing");
        let Some(socket) = self.open_socket(id) else { return };
        assert!(socket.send.is_none(), "one send per socket at a time");
        socket.send = Some(bytes);
        self.push_send(id.0);
    }

    /// Sends bytes to a peer of a socket for datagrams, cut into datagrams of `most` bytes each, the last one shorter, and keeps
    /// them until [`Completion::Sent`] says that all are gone. One such send per peer at a time, which keeps their order. The
    /// kernel does the cutting where it can.
    /// Does nothing for a connection.
    pub fn send_datagrams(&mut self, id: SocketId, bytes: Bytes, most: usize) {
        assert!(!bytes.is_empty() && most > 0, "a datagram has something in it");
        let Some(socket) = self.open_socket(id) else { return };
        assert!(socket.send.is_none(), "one send per peer at a time");
        let Way::Peer(peer) = &mut socket.way else { return };
        peer.begin(most);
        socket.send = Some(bytes);
        self.push_datagrams(id.0);
    }

    /// Whether a send is in flight.
    pub fn is_sending(&self, id: SocketId) -> bool {
        self.sockets.get(id.0).is_some_and(|socket| socket.send.is_some())
    }

    /// Says that no more will be sent: the peer sees the end of the stream after what was sent, and can still answer.
    pub fn finish(&mut self, id: SocketId) -> io::Result<()> {
        let Some(Socket { way: Way::Connection(descriptor), .. }) = self.open_socket(id) else {
            return Ok(());
        };
        // SAFETY: the descriptor is open, for the table owns it; the call takes no memory.
        crate::system::checked(unsafe { libc::shutdown(descriptor.as_raw_fd(), libc::SHUT_WR) }).map(drop)
    }

    /// The socket's descriptor, to set options on or ask for its peer; that of a peer is shared by all of its door.
    pub fn socket(&self, id: SocketId) -> Option<BorrowedFd<'_>> {
        self.sockets.get(id.0).filter(|socket| !socket.closing).map(Socket::descriptor)
    }

    /// Hands the socket out, to move it to another core. Nothing may be in flight: first `stop_receive`, and wait for
    /// its end and that of a send. `None` when the id names nothing, or a peer of a socket for datagrams, which is closed then.
    pub fn take(&mut self, id: SocketId) -> Option<OwnedFd> {
        let socket = self.open_socket(id)?;
        assert!(
            socket.send.is_none() && matches!(socket.receive, Receive::Idle | Receive::Shared),
            "a socket moves when nothing is in flight"
        );
        match self.remove_socket(id.0) {
            Way::Connection(descriptor) => Some(descriptor),
            Way::Peer(_) => None,
        }
    }

    /// Cancels what is in flight and closes the socket as soon as the kernel has let go of it. Nothing more is
    /// reported for it.
    pub fn close(&mut self, id: SocketId) {
        let Some(socket) = self.open_socket(id) else { return };
        socket.closing = true;
        let (receive, sending) = (socket.receive, socket.send.is_some());
        if receive == Receive::Armed {
            self.cancel(Operation { kind: Kind::Receive, key: id.0 });
        }
        if sending {
            self.cancel(Operation { kind: Kind::Send, key: id.0 });
        }
        // What is already on its way to the caller has been overtaken.
        self.ready.retain(
            |completion| !matches!(completion, Completion::ReceiveEnded { socket, .. } if *socket == id),
        );
        self.close_when_idle(id.0);
    }

    /// Arms the receives that ended for want of buffers: as many as there are buffers, so that a socket which is
    /// armed finds one.
    pub(super) fn receive_again_where_starved(&mut self) {
        if self.datagrams_starved > 0 {
            self.receive_datagrams_where_starved();
        }
        for _ in 0..self.starved.len().min(self.receive_buffers.free()) {
            let Some(key) = self.starved.pop_front() else { return };
            if self
                .sockets
                .get(key)
                .is_some_and(|socket| socket.receive == Receive::Starved && !socket.closing)
            {
                self.arm_receive(key);
            }
        }
    }

    fn arm_receive(&mut self, key: Key) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        socket.receive = Receive::Armed;
        let socket = self.sockets.get(key).expect("it was there a line above");
        let (target, flags) = self.address(key.index, socket.descriptor());
        let entry = opcode::RecvMulti::new(target, RECEIVE_GROUP).build().flags(flags);
        self.push(entry, Operation { kind: Kind::Receive, key });
    }

    fn push_receive_into(&mut self, key: Key) {
        let socket = self.sockets.get_mut(key).expect("the caller has just looked it up");
        socket.receive = Receive::Armed;
        let memory = socket.memory.as_mut().expect("the caller has just stored it");
        // The kernel takes lengths of 32 bits.
        let room = memory.spare_capacity_mut();
        let (start, length) = (room.as_mut_ptr().cast::<u8>(), u32::try_from(room.len()).unwrap_or(u32::MAX));
        let socket = self.sockets.get(key).expect("it was there a line above");
        let (target, flags) = self.address(key.index, socket.descriptor());
        // The heap memory stays where it is while the `BytesMut` is moved, and `socket.memory` keeps it until the
        // completion. Nobody else reads or writes behind its length.
        let entry = opcode::Recv::new(target, start, length).build().flags(flags);
        self.receiving_once += 1;
        self.push(entry, Operation { kind: Kind::Receive, key });
    }

    /// A receive into the caller's memory has ended.
    fn filled(&mut self, key: Key, result: io::Result<usize>) -> Option<Completion> {
        let socket = self.sockets.get_mut(key).expect("a socket stays until its operations have ended");
        self.receiving_once -= 1;
        let was = std::mem::replace(&mut socket.receive, Receive::Idle);
        if socket.closing {
            socket.memory = None;
            self.close_when_idle(key);
            return None;
        }
        let received = *result.as_ref().unwrap_or(&0);
        let end = match result {
            Ok(0) => Some(End::Eof),
            Err(error) if was != Receive::Stopping && is_worth_another_try(&error) => {
                self.push_receive_into(key);
                return None;
            }
            Err(error) if was != Receive::Stopping || is_of_the_connection(&error) => {
                Some(End::Failed(error))
            }
            _ => (was == Receive::Stopping).then_some(End::Cancelled),
        };
        let mut memory = socket.memory.take().expect("a receive keeps its memory until its completion");
        let length = memory.len() + received;
        assert!(length <= memory.capacity(), "the kernel writes no more than there is room for");
        // SAFETY: the kernel has initialised `received` bytes behind the old length, and they are within the capacity.
        unsafe { memory.set_len(length) };
        if received > 0 {
            self.stats.receives += 1;
            self.stats.receive_bytes += received as u64;
        }
        let socket = SocketId(key);
        self.ready.extend(end.map(|how| Completion::ReceiveEnded { socket, how }));
        Some(Completion::Filled { socket, memory, received })
    }

    pub(super) fn received(
        &mut self,
        key: Key,
        result: io::Result<usize>,
        buffer: Option<u16>,
        more: bool,
    ) -> Option<Completion> {
        if self.sockets.get(key).is_some_and(|socket| socket.memory.is_some()) {
            return self.filled(key, result);
        }
        // Made even when it is empty or nobody wants it, for dropping it is what gives it back to the kernel.
        let length = *result.as_ref().unwrap_or(&0);
        let bytes = buffer.map(|id| self.receive_buffers.take(id, length));
        let id = SocketId(key);
        let socket = self.sockets.get_mut(key).expect("a socket stays until its operations have ended");
        let was = socket.receive;
        if !more {
            socket.receive = Receive::Idle;
        }
        if socket.closing {
            self.close_when_idle(key);
            return None;
        }
        let end = if more { None } else { self.receive_ended(key, was, &result) };
        match bytes {
            Some(bytes) if length > 0 => {
                self.stats.receives += 1;
                self.stats.receive_bytes += length as u64;
                // First the bytes, then their end.
                self.ready.extend(end.map(|how| Completion::ReceiveEnded { socket: id, how }));
                Some(Completion::Received { socket: id, bytes })
            }
            _ => end.map(|how| Completion::ReceiveEnded { socket: id, how }),
        }
    }

    /// What the last completion of a multishot receive means: its end, or only the end of one shot, which the caller
    /// need not know about.
    fn receive_ended(&mut self, key: Key, was: Receive, result: &io::Result<usize>) -> Option<End> {
        match result {
            Ok(0) => return Some(End::Eof),
            _ if was == Receive::Stopping => match result {
                Err(error) if is_of_the_connection(error) => {}
                _ => return Some(End::Cancelled),
            },
            // The kernel ends a multishot now and then, for instance when the completion queue is full.
            Ok(_) => {
                self.arm_receive(key);
                return None;
            }
            Err(_) => {}
        }
        let error = result.as_ref().expect_err("success was dealt with above");
        match error.raw_os_error() {
            Some(libc::ENOBUFS) => {
                self.stats.receives_starved += 1;
                let socket = self.sockets.get_mut(key).expect("the caller has just looked it up");
                socket.receive = Receive::Starved;
                self.starved.push_back(key);
                None
            }
            Some(libc::EINTR | libc::EAGAIN) => {
                self.arm_receive(key);
                None
            }
            Some(code) => Some(End::Failed(io::Error::from_raw_os_error(code))),
            None => Some(End::Failed(io::Error::other("a receive without an error code"))),
        }
    }

    fn push_send(&mut self, key: Key) {
        let socket = self.sockets.get(key).expect("the caller has just stored the payload in it");
        let bytes = socket.send.as_ref().expect("the caller has just stored it");
        // The kernel takes lengths of 32 bits. A longer payload ends as a short send, which callers handle anyway.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let Way::Connection(descriptor) = &socket.way else { return self.push_datagrams(key) };
        if socket.is_beside() {
            return self.push_datagrams(key);
        }
        let (target, flags) = self.address(key.index, descriptor.as_fd());
        // The payload's heap memory stays where it is while the `Bytes` is moved or cloned, and `socket.send` keeps
        // it until the completion.
        let entry =
            opcode::Send::new(target, bytes.as_ptr(), length).flags(libc::MSG_NOSIGNAL).build().flags(flags);
        self.push(entry, Operation { kind: Kind::Send, key });
    }

    /// The next message of a send that goes by datagrams.
    fn push_datagrams(&mut self, key: Key) {
        let socket = self.sockets.get_mut(key).expect("the caller has just looked it up");
        let bytes = socket.send.as_ref().expect("the caller has stored it");
        // What the entry points to is in a box, which stays where it is until its last completion, and in the payload, which
        // `socket.send` keeps as long.
        let entry = match (&mut socket.way, &mut socket.beside) {
            (Way::Peer(peer), _) => Some(peer.entry(bytes)),
            (Way::Connection(_), Some(packets)) => packets.entry(bytes),
            (Way::Connection(_), None) => None,
        };
        let entry = entry.expect("there is more of it, or it would have ended");
        self.push_entry(entry, SocketId(key));
    }

    pub(super) fn push_entry(&mut self, entry: io_uring::squeue::Entry, id: SocketId) {
        self.push(entry, Operation { kind: Kind::Send, key: id.0 });
    }

    pub(super) fn sent(&mut self, key: Key, result: io::Result<usize>) -> Option<Completion> {
        let socket = self.sockets.get_mut(key).expect("a socket stays until its operations have ended");
        let interrupted = matches!(&result, Err(error) if is_worth_another_try(error));
        if interrupted && !socket.closing {
            self.push_send(key);
            return None;
        }
        let mut result = result;
        let payload = socket.send.as_ref().expect("a send keeps its payload until its completion");
        if !socket.closing {
            let whole = match (&mut socket.way, &mut socket.beside) {
                (Way::Peer(peer), _) => peer.went(result, payload.len()),
                (_, Some(packets)) if packets.sending => packets.went(result, payload),
                _ => Some(result),
            };
            let Some(whole) = whole else {
                self.push_datagrams(key);
                return None;
            };
            result = whole;
            socket.beside.take_if(|packets| packets.sending && packets.end());
        }
        let bytes = socket.send.take().expect("a send keeps its payload until its completion");
        if socket.closing {
            self.close_when_idle(key);
            return None;
        }
        if let Ok(taken) = result {
            self.stats.sends += 1;
            self.stats.send_bytes += taken as u64;
            self.stats.sends_short += u64::from(taken < bytes.len());
        }
        Some(Completion::Sent { socket: SocketId(key), result })
    }

    /// Where a connection's packets go.
    pub(super) fn beside_of(&mut self, id: SocketId) -> Option<&mut Option<Box<Packets>>> {
        let socket = self.open_socket(id)?;
        matches!(socket.way, Way::Connection(_)).then_some(&mut socket.beside)
    }

    pub(super) fn open_socket(&mut self, id: SocketId) -> Option<&mut Socket> {
        self.sockets.get_mut(id.0).filter(|socket| !socket.closing)
    }

    fn close_when_idle(&mut self, key: Key) {
        if self.sockets.get(key).is_some_and(|socket| !socket.in_flight()) {
            drop(self.remove_socket(key));
        }
    }

    fn remove_socket(&mut self, key: Key) -> Way {
        let way = self.sockets.remove(key).expect("the caller has just looked it up").way;
        if let Way::Connection(_) = way {
            // First out of the registered table, then closed: the table's own reference would keep the connection open.
            self.unregister(key.index);
        }
        way
    }
}

fn table_full() -> io::Error {
    io::Error::new(io::ErrorKind::QuotaExceeded, "this shard's table of sockets is full")
}

fn is_worth_another_try(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN))
}

/// Whether a receive that was to stop had met a broken connection by itself.
fn is_of_the_connection(error: &io::Error) -> bool {
    !matches!(error.raw_os_error(), Some(libc::ECANCELED | libc::ENOBUFS | libc::EINTR | libc::EAGAIN))
}
