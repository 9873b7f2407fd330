//! Packets that go to ports of a connection's peer, beside the connection. What is sent holds one packet after the other, each
//! behind four bytes: a mark, the channel, the length in two bytes, the higher first. The bytes are shared with those who take
//! them whole inside their connection; here the heads are left out as the kernel gathers the rest, and a run of packets of one
//! size and channel goes as one message.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use io_uring::squeue;

use super::Ring;
use super::completion::Completion;
use super::datagram::Shared;
use super::message::{self, MESSAGE_BYTES_MAX, Message, SEGMENTS_MAX};
use super::socket::SocketId;
use crate::address::RawAddress;

/// Bytes before each packet.
const HEAD_BYTES: usize = 4;

/// Where a connection's packets go, and what the kernel has of those in flight.
pub(super) struct Packets {
    /// Those of even channels, and those of odd ones.
    sockets: [Rc<Shared>; 2],
    /// By channel.
    ports: Vec<(u8, RawAddress)>,
    message: Message,
    /// A send is under way.
    pub sending: bool,
    /// Nothing more goes here once it has ended.
    leaving: bool,
    /// Bytes of the send that have gone, and those behind them that the kernel has.
    done: usize,
    flying: usize,
    /// Packets that the kernel has.
    count: usize,
    /// The kernel does not cut messages that go here.
    uncut: bool,
}

impl Packets {
    fn begin(&mut self) {
        (self.sending, self.done, self.flying) = (true, 0, 0);
    }

    /// Passes over what no port was named for, a track that nobody asked for; gives the next packet that goes somewhere, and
    /// the place of its port.
    fn next_of<'b>(&mut self, bytes: &'b [u8]) -> Option<(usize, u8, &'b [u8])> {
        loop {
            let (channel, packet) = packet_at(bytes, self.done)?;
            let port = self.ports.iter().position(|(found, _)| *found == channel && !packet.is_empty());
            match port {
                Some(port) => return Some((port, channel, packet)),
                None => self.done += HEAD_BYTES + packet.len(),
            }
        }
    }

    /// The next message of the send under way; `None` when nothing is left of it.
    pub fn entry(&mut self, bytes: &Bytes) -> Option<squeue::Entry> {
        let (port, channel, first) = self.next_of(bytes)?;
        self.message.clear();
        (self.flying, self.count) = (0, 0);
        let most = if self.uncut { 1 } else { SEGMENTS_MAX.min((MESSAGE_BYTES_MAX / first.len()).max(1)) };
        while self.count < most
            && let Some((next, packet)) = packet_at(bytes, self.done + self.flying)
            && next == channel
            && (1..=first.len()).contains(&packet.len())
        {
            self.message.push(packet);
            self.flying += HEAD_BYTES + packet.len();
            self.count += 1;
            // A shorter one can only be the last.
            if packet.len() < first.len() {
                break;
            }
        }
        let segment = u16::try_from(first.len()).ok().filter(|_| self.count > 1);
        let socket = &self.sockets[usize::from(channel & 1)];
        Some(self.message.entry(socket.descriptor(), &self.ports[port].1, segment))
    }

    /// The message in flight has ended, of a send of `bytes`. The whole send's result when it was the last.
    pub fn went(&mut self, result: io::Result<usize>, bytes: &Bytes) -> Option<io::Result<usize>> {
        match result {
            Err(error) if self.count > 1 && message::is_uncuttable(&error) => self.uncut = true,
            Err(error) if !message::is_of_one_message(&error) => return Some(Err(error)),
            _ => self.done += self.flying,
        }
        self.next_of(bytes).is_none().then_some(Ok(bytes.len()))
    }

    /// The send is over. True when it was the last for this peer.
    pub fn end(&mut self) -> bool {
        self.sending = false;
        self.leaving
    }
}

/// The channel and the packet whose head is at `at`. What is not whole is none.
fn packet_at(bytes: &[u8], at: usize) -> Option<(u8, &[u8])> {
    let [_, channel, high, low] = *bytes.get(at..)?.first_chunk::<HEAD_BYTES>()?;
    let from = at + HEAD_BYTES;
    Some((channel, bytes.get(from..from + usize::from(u16::from_be_bytes([high, low])))?))
}

impl Ring {
    /// Says where [`send_packets`](Self::send_packets) sends a connection's packets, by their channel: by the datagram socket with
    /// the first token those of even channels, by that with the second those of odd ones.
    ///
    /// # Errors
    /// There are no such sockets, the connection is closed, or packets of it are still under way.
    pub fn set_ports(
        &mut self,
        id: SocketId,
        tokens: [u64; 2],
        ports: &[(u8, SocketAddr)],
    ) -> io::Result<()> {
        let gone = || io::Error::new(io::ErrorKind::NotConnected, "its sockets receive no more");
        let [even, odd] = tokens.map(|token| self.shared_of(token));
        let sockets = [even.ok_or_else(gone)?, odd.ok_or_else(gone)?];
        let raw = |(channel, address): &(u8, SocketAddr)| {
            (*channel, RawAddress::for_socket(address, &sockets[usize::from(channel & 1)].bound))
        };
        let ports = ports.iter().map(raw).collect();
        let Some(beside) = self.beside_of(id) else { return Err(gone()) };
        if beside.as_ref().is_some_and(|packets| packets.sending) {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "packets are under way"));
        }
        *beside = Some(Box::new(Packets {
            sockets,
            ports,
            message: Message::new(),
            sending: false,
            leaving: false,
            done: 0,
            flying: 0,
            count: 0,
            uncut: false,
        }));
        Ok(())
    }

    /// Nothing more goes to a connection's ports, but what is under way.
    pub fn forget_ports(&mut self, id: SocketId) {
        let Some(beside) = self.beside_of(id) else { return };
        match beside {
            Some(packets) if packets.sending => packets.leaving = true,
            _ => *beside = None,
        }
    }

    /// Sends packets, each behind its head of four bytes, to the ports of a connection's peer, and keeps them until
    /// [`Completion::Sent`] says that all are gone. One send per socket at a time, whichever way it goes. What no port was
    /// named for is left out.
    pub fn send_packets(&mut self, id: SocketId, bytes: Bytes) {
        let length = bytes.len();
        let Some(socket) = self.open_socket(id) else { return };
        assert!(socket.send.is_none(), "one send per socket at a time");
        let entry = socket.beside.as_mut().filter(|packets| !packets.leaving).and_then(|packets| {
            packets.begin();
            packets.entry(&bytes)
        });
        match entry {
            Some(entry) => {
                // What the entry points to is in the box of `beside`, which stays where it is until the last completion, and
                // in the payload, which `send` keeps as long: moving a `Bytes` moves none of its bytes.
                socket.send = Some(bytes);
                self.push_entry(entry, id);
            }
            None => {
                if let Some(packets) = &mut socket.beside {
                    packets.sending = false;
                }
                self.ready.push_back(Completion::Sent { socket: id, result: Ok(length) });
            }
        }
    }
}

#[cfg(test)]
mod tests;
