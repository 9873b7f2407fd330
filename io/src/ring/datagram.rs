//! Sockets for datagrams. A ring has few of them, one per door: each with one multishot receive, into buffers that hold the
//! largest datagram. Their peers are many; each has a place in the table of sockets, so that one numbering serves both, and
//! sends by the socket that it shares with all others.

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, UdpSocket};
use std::ops::{Deref, Range};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::rc::Rc;

use bytes::Bytes;
use io_uring::types::RecvMsgOut;
use io_uring::{opcode, squeue, types};

use super::completion::{Completion, Kind, Operation};
use super::message::{self, MESSAGE_BYTES_MAX, Message, SEGMENTS_MAX};
use super::socket::SocketId;
use super::{DATAGRAM_GROUP, Ring};
use crate::address::{self, ADDRESS_BYTES, RawAddress};
use crate::buffer::{ReceiveBuffer, ReceivePool};
use crate::slots::Key;

/// A datagram in the kernel's own provided buffer. Drop it soon, as a [`ReceiveBuffer`].
pub struct Datagram {
    buffer: ReceiveBuffer,
    payload: Range<usize>,
    /// Who sent it. An IPv4 peer of a socket for both families is shown as what it is.
    pub from: SocketAddr,
}

impl Deref for Datagram {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[self.payload.clone()]
    }
}

impl fmt::Debug for Datagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Datagram({} bytes from {})", self.payload.len(), self.from)
    }
}

/// A socket that the ring receives datagrams from.
pub(super) struct DatagramSocket {
    shared: Rc<Shared>,
    token: u64,
    /// Says how much room addresses and control data have; the kernel may read it until the receive's last completion.
    header: Box<libc::msghdr>,
    state: State,
    /// What the kernel had lost when it last said so; it counts on, and wraps.
    lost: u32,
}

/// What a socket and its peers share.
pub(super) struct Shared {
    socket: UdpSocket,
    pub bound: SocketAddr,
}

impl Shared {
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Receiving,
    /// Ended for want of a buffer; armed again when there are some.
    Starved,
    /// An error ended the receive; `resume_datagrams` begins it anew.
    Paused,
    /// The cancellation is under way.
    Stopping,
    /// As `Stopping`, and nobody is to be told.
    Abandoned,
}

/// Where a peer's datagrams go, and what the kernel has of the one in flight.
pub(super) struct Peer {
    shared: Rc<Shared>,
    pub address: SocketAddr,
    raw: RawAddress,
    message: Message,
    /// Bytes of a datagram at most, in the send that is under way.
    most: usize,
    /// Bytes of that send in datagrams that have gone, and those behind them that the kernel has.
    done: usize,
    flying: usize,
    /// The kernel does not cut messages that go here.
    uncut: bool,
}

impl DatagramSocket {
    /// It is not to receive again by itself. For the end of the whole ring.
    pub fn abandon(&mut self) {
        self.state = State::Abandoned;
    }
}

impl Peer {
    /// What it is sent from now on goes there. What the kernel has already goes where it was to go.
    pub fn move_to(&mut self, address: SocketAddr) {
        self.raw = RawAddress::for_socket(&address, &self.shared.bound);
        self.address = address;
    }

    pub fn shared(&self) -> &Rc<Shared> {
        &self.shared
    }

    fn new(shared: Rc<Shared>, address: SocketAddr) -> Peer {
        Peer {
            address,
            raw: RawAddress::for_socket(&address, &shared.bound),
            shared,
            message: Message::new(),
            most: 0,
            done: 0,
            flying: 0,
            uncut: false,
        }
    }

    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.shared.socket.as_fd()
    }

    /// A send begins: each datagram of it has `most` bytes, but for the last.
    pub fn begin(&mut self, most: usize) {
        (self.most, self.done, self.flying) = (most, 0, 0);
    }

    /// The next message of the send under way, whose bytes are `bytes`: a run of its datagrams, which the kernel cuts.
    pub fn entry(&mut self, bytes: &Bytes) -> squeue::Entry {
        let rest = &bytes[self.done..];
        let segment = u16::try_from(self.most).ok().filter(|_| !self.uncut);
        let count = segment.map_or(1, |_| SEGMENTS_MAX.min((MESSAGE_BYTES_MAX / self.most).max(1)));
        let piece = &rest[..rest.len().min(self.most.saturating_mul(count))];
        self.flying = piece.len();
        self.message.clear();
        self.message.push(piece);
        let segment = segment.filter(|_| piece.len() > self.most);
        self.message.entry(self.shared.descriptor(), &self.raw, segment)
    }

    /// The message in flight has ended, of a send of `length` bytes. The whole send's result when it was the last.
    pub fn went(&mut self, result: io::Result<usize>, length: usize) -> Option<io::Result<usize>> {
        match result {
            Err(error) if self.flying > self.most && message::is_uncuttable(&error) => self.uncut = true,
            Err(error) if !message::is_of_one_message(&error) => return Some(Err(error)),
            _ => self.done += self.flying,
        }
        (self.done == length).then_some(Ok(length))
    }
}

impl Ring {
    /// Receives datagrams from a socket, until it is stopped or something stops it. Its completions carry `token`.
    ///
    /// # Errors
    /// The kernel does not take the buffers, or does not say what the socket is bound to.
    pub fn receive_datagrams(&mut self, socket: UdpSocket, token: u64) -> io::Result<()> {
        if self.datagram_buffers.is_none() {
            let pool = ReceivePool::new(self.datagram_buffer_count, DATAGRAM_BUFFER_BYTES)?;
            pool.register(&self.uring.submitter(), DATAGRAM_GROUP)?;
            self.datagram_buffers = Some(pool);
        }
        let bound = socket.local_addr()?;
        let mut header = Box::new(empty_header());
        header.msg_namelen = ADDRESS_BYTES as libc::socklen_t;
        header.msg_controllen = CONTROL_BYTES;
        let shared = Rc::new(Shared { socket, bound });
        let datagrams = DatagramSocket { shared, token, header, state: State::Paused, lost: 0 };
        let Ok(key) = self.datagrams.insert(datagrams) else {
            return Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                "a ring has a few sockets for datagrams",
            ));
        };
        self.arm_datagrams(key);
        Ok(())
    }

    /// Receives again after [`Completion::DatagramsStopped`] with an error. Does nothing for a socket that receives or is
    /// gone.
    pub fn resume_datagrams(&mut self, token: u64) {
        if let Some(key) = self.datagrams.find(|held| held.token == token && held.state == State::Paused) {
            self.arm_datagrams(key);
        }
    }

    /// Stops receiving; the socket is closed when its last peer is. Ends with [`Completion::DatagramsStopped`].
    pub fn stop_datagrams(&mut self, token: u64) {
        let open = |held: &DatagramSocket| held.token == token && held.state != State::Stopping;
        let Some(key) = self.datagrams.find(open) else { return };
        let Some(held) = self.datagrams.get_mut(key) else { return };
        match held.state {
            State::Receiving => {
                held.state = State::Stopping;
                self.cancel(Operation { kind: Kind::Datagram, key });
            }
            State::Starved | State::Paused => {
                self.datagrams_starved -= usize::from(held.state == State::Starved);
                self.datagrams.remove(key);
                self.ready.push_back(Completion::DatagramsStopped { token, error: None });
            }
            State::Stopping | State::Abandoned => {}
        }
    }

    /// Gives a peer of the datagram socket with this token a place in the table of sockets: it is sent to by
    /// [`send_datagrams`](Self::send_datagrams), and closing it forgets it.
    ///
    /// # Errors
    /// The table is full, or there is no such socket.
    pub fn add_peer(&mut self, token: u64, address: SocketAddr) -> io::Result<SocketId> {
        let Some(shared) = self.shared_of(token) else {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "its socket receives no more"));
        };
        self.insert_peer(Box::new(Peer::new(shared, address)))
    }

    /// Takes a socket that nothing is received from, and gives the one address that it sends to a place in the table of sockets:
    /// it is sent to by [`send_datagrams`](Self::send_datagrams), and closing it closes the socket.
    ///
    /// # Errors
    /// The table is full, or the kernel does not say what the socket is bound to.
    pub fn add_outlet(&mut self, socket: UdpSocket, address: SocketAddr) -> io::Result<SocketId> {
        let bound = socket.local_addr()?;
        self.insert_peer(Box::new(Peer::new(Rc::new(Shared { socket, bound }), address)))
    }

    /// Sends one datagram to whoever has no place here, by the socket with this token. It is gone or lost when this returns: such
    /// an answer is not waited for.
    pub fn answer(&self, token: u64, address: SocketAddr, datagram: &[u8]) {
        let Some(shared) = self.shared_of(token) else { return };
        let raw = RawAddress::for_socket(&address, &shared.bound);
        address::send_now(shared.descriptor(), &raw, datagram);
    }

    /// The same by the socket of a peer, to any address: it goes though the socket receives no more. Does nothing for a connection.
    pub fn send_now(&self, id: SocketId, address: SocketAddr, datagram: &[u8]) {
        if let Some(shared) = self.shared_with(id) {
            let raw = RawAddress::for_socket(&address, &shared.bound);
            address::send_now(shared.descriptor(), &raw, datagram);
        }
    }

    /// What a datagram socket shares with those who send by it, while it receives.
    pub(super) fn shared_of(&self, token: u64) -> Option<Rc<Shared>> {
        let found = self.datagrams.find(|held| held.token == token)?;
        self.datagrams.get(found).map(|held| held.shared.clone())
    }

    /// Arms the receives that ended for want of buffers, if there are some.
    pub(super) fn receive_datagrams_where_starved(&mut self) {
        while self.datagrams_starved > 0 && self.has_datagram_buffers() {
            let Some(key) = self.datagrams.find(|held| held.state == State::Starved) else { return };
            self.datagrams_starved -= 1;
            self.arm_datagrams(key);
        }
    }

    pub(super) fn has_datagram_buffers(&self) -> bool {
        self.datagram_buffers.as_ref().is_some_and(|pool| pool.free() > 0)
    }

    fn arm_datagrams(&mut self, key: Key) {
        let Some(held) = self.datagrams.get_mut(key) else { return };
        held.state = State::Receiving;
        let socket = types::Fd(held.shared.socket.as_raw_fd());
        // The header's memory stays where it is while its socket is in the table: until the receive's last completion.
        let entry = opcode::RecvMsgMulti::new(socket, &raw const *held.header, DATAGRAM_GROUP).build();
        self.push(entry, Operation { kind: Kind::Datagram, key });
    }

    pub(super) fn datagram(
        &mut self,
        key: Key,
        result: io::Result<usize>,
        buffer: Option<u16>,
        more: bool,
    ) -> Option<Completion> {
        // Made even when nobody wants it, for dropping it is what gives it back to the kernel.
        let length = *result.as_ref().unwrap_or(&0);
        let pool = self.datagram_buffers.as_ref().expect("they are there before the first receive");
        let buffer = buffer.map(|id| pool.take(id, length));
        let held = self.datagrams.get_mut(key).expect("a socket stays until its receive has ended");
        let token = held.token;
        let read = buffer.and_then(|buffer| read(buffer, &held.header));
        let completion = read.filter(|_| held.state == State::Receiving).map(|(datagram, lost)| {
            let before = lost.map_or(0, |lost| lost.wrapping_sub(std::mem::replace(&mut held.lost, lost)));
            self.stats.receives += 1;
            self.stats.receive_bytes += datagram.len() as u64;
            Completion::Datagram { token, datagram, lost: before }
        });
        if !more {
            self.datagrams_ended(key, result);
        }
        completion
    }

    /// What the last completion of a multishot receive means: its end, or only the end of one shot.
    fn datagrams_ended(&mut self, key: Key, result: io::Result<usize>) {
        let held = self.datagrams.get_mut(key).expect("the caller has just looked it up");
        let token = held.token;
        match (held.state, result) {
            (State::Abandoned, _) => drop(self.datagrams.remove(key)),
            (State::Stopping, _) => {
                self.datagrams.remove(key);
                self.ready.push_back(Completion::DatagramsStopped { token, error: None });
            }
            // The kernel ends a multishot now and then, for instance when the completion queue is full.
            (_, Ok(_)) => self.arm_datagrams(key),
            (_, Err(error)) => match error.raw_os_error() {
                Some(libc::ENOBUFS) => {
                    held.state = State::Starved;
                    self.datagrams_starved += 1;
                    self.stats.receives_starved += 1;
                }
                Some(libc::EINTR | libc::EAGAIN) => self.arm_datagrams(key),
                _ => {
                    held.state = State::Paused;
                    self.ready.push_back(Completion::DatagramsStopped { token, error: Some(error) });
                }
            },
        }
    }
}

/// The datagram in a buffer that the kernel has filled, and how many the socket has lost since it was made, if the kernel
/// says so. `None` for what was cut, and for a family that we did not open.
fn read(buffer: ReceiveBuffer, header: &libc::msghdr) -> Option<(Datagram, Option<u32>)> {
    let (payload, from, lost) = {
        let out = RecvMsgOut::parse(&buffer, header).ok().filter(|out| !out.is_payload_truncated())?;
        let payload = out.payload_data();
        let start = payload.as_ptr() as usize - buffer.as_ptr() as usize;
        (start..start + payload.len(), address::parse(out.name_data()).ok()?, lost(out.control_data()))
    };
    Some((Datagram { buffer, payload, from }, lost))
}

/// What SO_RXQ_OVFL says in the control data: a `cmsghdr` (length, level, type), then a number. The kernel leaves it out while
/// nothing was lost.
fn lost(control: &[u8]) -> Option<u32> {
    const LEVEL: usize = size_of::<usize>();
    let level = i32::from_ne_bytes(address::field(control, LEVEL)?);
    let kind = i32::from_ne_bytes(address::field(control, LEVEL + 4)?);
    let count = u32::from_ne_bytes(address::field(control, size_of::<libc::cmsghdr>())?);
    (level == libc::SOL_SOCKET && kind == libc::SO_RXQ_OVFL).then_some(count)
}

fn empty_header() -> libc::msghdr {
    // SAFETY: the structure is integers and raw pointers, for which zeros are valid.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

/// Room for what SO_RXQ_OVFL says, in the alignment of control data.
const CONTROL_BYTES: usize = size_of::<libc::cmsghdr>() + size_of::<usize>();
/// The largest datagram, what the kernel writes before it, and up to whole pages.
const DATAGRAM_BUFFER_BYTES: u32 = 68 << 10;
const _: () =
    assert!(DATAGRAM_BUFFER_BYTES as usize >= 16 + ADDRESS_BYTES + CONTROL_BYTES + u16::MAX as usize);
/// Sockets for datagrams of one ring: a door each, an address that is listened to, a server that is called.
pub(super) const DATAGRAM_SOCKETS_MAX: u32 = 1024;

#[cfg(test)]
mod tests;
