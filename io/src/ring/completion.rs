//! What a ring reports, and how an operation's identity travels through the kernel.

use std::io;
use std::os::fd::OwnedFd;

use bytes::BytesMut;

use super::datagram::Datagram;
use super::file::FileId;
use super::socket::SocketId;
use crate::buffer::ReceiveBuffer;
use crate::slots::{GENERATION_BITS, Key};

/// One thing that happened. A socket that was closed, and a file that was taken, are never heard of again.
#[derive(Debug)]
pub enum Completion {
    /// A peer connected. The socket belongs to the caller, who may add it to this ring or pass it on.
    Accepted {
        /// The listener's token.
        token: u64,
        /// The connection.
        socket: OwnedFd,
    },
    /// A listener accepts no more.
    AcceptStopped {
        /// The listener's token.
        token: u64,
        /// Why, for instance that descriptors are exhausted: `resume_accept` when that may have changed, and not at
        /// once. `None` after `stop_listening`.
        error: Option<io::Error>,
    },
    /// Bytes from a peer, in order. There is at least one.
    Received {
        /// From where.
        socket: SocketId,
        /// Drop it soon: it goes back to those that all sockets share.
        bytes: ReceiveBuffer,
    },
    /// A datagram, from a peer that the ring need not know. It may be empty.
    Datagram {
        /// The socket's token.
        token: u64,
        /// Drop it soon: its buffer goes back to those that all sockets for datagrams share.
        datagram: Datagram,
        /// How many the kernel has dropped before it since the last that said so, because the socket was full.
        lost: u32,
    },
    /// A socket for datagrams receives no more.
    DatagramsStopped {
        /// The socket's token.
        token: u64,
        /// Why: `resume_datagrams` when that may have changed, and not at once. `None` after `stop_datagrams`.
        error: Option<io::Error>,
    },
    /// A receive into the caller's own memory has ended, see `receive_into`. If the peer sends no more, the receive was
    /// stopped or the connection broke, [`ReceiveEnded`](Self::ReceiveEnded) follows.
    Filled {
        /// From where.
        socket: SocketId,
        /// The memory, with what came behind what stood in it.
        memory: BytesMut,
        /// How many bytes came, perhaps none.
        received: usize,
    },
    /// A receive that `receive` or `receive_into` began has ended. Everything that came before it has been reported.
    ReceiveEnded {
        /// Whose.
        socket: SocketId,
        /// Why.
        how: End,
    },
    /// A send has ended.
    Sent {
        /// Whose.
        socket: SocketId,
        /// How many bytes the socket took; perhaps not all.
        result: io::Result<usize>,
    },
    /// A write has ended: all of it is with the kernel, or it failed and an unknown part is. Its buffer is back in
    /// the pool.
    Written {
        /// To where.
        file: FileId,
        /// The caller's.
        token: u64,
        /// What came of it.
        result: io::Result<()>,
    },
    /// A sync has ended: what was written before it is on the disk, or it failed.
    Synced {
        /// Whose.
        file: FileId,
        /// The caller's.
        token: u64,
        /// What came of it.
        result: io::Result<()>,
    },
    /// Room ahead of the writer is there, or it failed, for instance because the disk is full.
    Allocated {
        /// Whose.
        file: FileId,
        /// The caller's.
        token: u64,
        /// What came of it.
        result: io::Result<()>,
    },
}

/// Why a receive ended.
#[derive(Debug)]
pub enum End {
    /// The peer sends no more.
    Eof,
    /// `stop_receive` asked for it. What the peer sends from here on waits in the socket.
    Cancelled,
    /// The connection broke.
    Failed(io::Error),
}

/// Which operation a completion belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Operation {
    pub kind: Kind,
    pub key: Key,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Cancel = 0,
    Accept = 1,
    Receive = 2,
    Send = 3,
    File = 4,
    Datagram = 5,
}

impl Operation {
    /// Eight bits of kind, the generation, the index: 64 bits that the kernel carries without looking.
    pub fn to_bits(self) -> u64 {
        let Key { index, generation } = self.key;
        (self.kind as u64) << (32 + GENERATION_BITS) | u64::from(generation) << 32 | u64::from(index)
    }

    pub fn from_bits(bits: u64) -> Operation {
        let kind = match bits >> (32 + GENERATION_BITS) {
            0 => Kind::Cancel,
            1 => Kind::Accept,
            2 => Kind::Receive,
            3 => Kind::Send,
            4 => Kind::File,
            5 => Kind::Datagram,
            _ => unreachable!("the kernel brings back what it was given"),
        };
        let generation = (bits >> 32) as u32 & ((1 << GENERATION_BITS) - 1);
        Operation { kind, key: Key { index: bits as u32, generation } }
    }
}

const _: () = assert!(GENERATION_BITS + 32 + 8 == u64::BITS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_survives_its_way_through_the_kernel() {
        for kind in [Kind::Cancel, Kind::Accept, Kind::Receive, Kind::Send, Kind::File, Kind::Datagram] {
            for key in [
                Key { index: 0, generation: 0 },
                Key { index: u32::MAX, generation: (1 << GENERATION_BITS) - 1 },
                Key { index: 7, generation: 1 },
            ] {
                let operation = Operation { kind, key };
                assert_eq!(Operation::from_bits(operation.to_bits()), operation);
            }
        }
    }
}
