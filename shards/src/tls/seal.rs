//! Who seals what is said on a connection: nobody, its [`Channel`], or the kernel.
//!
//! A connection with TLS begins with a channel. Where the kernel takes keys, the channel hands its own over once the handshake
//! is done, and is gone: from there on the connection is to the shard like one without TLS, and shared blocks go out as they
//! are. Left of it is a [`Kernel`], which knows what the kernel does not look after.

use std::{io, os::fd::BorrowedFd};

use shardcast_io::{
    ktls::{self, Key},
    tcp,
};

use super::Channel;

/// Who seals what is said on a connection. A plain value that moves to another core with its socket.
pub enum Seal {
    /// Nobody: its door speaks no TLS.
    Nobody,
    /// Its channel.
    Channel(Box<Channel>),
    /// The kernel, with the keys of what was its channel.
    Kernel(Kernel),
}

impl Seal {
    /// The channel, if there is one.
    pub fn channel(&mut self) -> Option<&mut Channel> {
        match self {
            Seal::Channel(channel) => Some(channel),
            Seal::Nobody | Seal::Kernel(_) => None,
        }
    }

    /// Whether what is said goes through a channel.
    pub fn is_channel(&self) -> bool {
        matches!(self, Seal::Channel(_))
    }

    /// Whether the kernel seals.
    pub fn is_kernel(&self) -> bool {
        matches!(self, Seal::Kernel(_))
    }
}

/// The keys of a connection, for whoever goes on with them.
pub struct Keys {
    /// Of what we send.
    pub(super) send: Key,
    /// Of what we receive.
    pub(super) receive: Key,
    /// Records that may be sealed with the first before it is used up.
    pub(super) records: u64,
}

/// A connection that the kernel seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Records that may still be sealed with its key, which the kernel does not count.
    records: u32,
    /// It has been told goodbye.
    parted: bool,
    /// How often its end was put off.
    put_off: u8,
    /// A receive has failed, and what had come before was read on.
    broken: bool,
}

/// What the end of a receive means on a connection that the kernel seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// There may be more: it is received again.
    More,
    /// The peer says no more.
    Eof,
    /// The connection broke.
    Broken,
}

impl Kernel {
    /// Gives the kernel the keys of a connection on which no receive and no send is under way.
    ///
    /// # Errors
    /// The kernel does not take them, and nothing may be sent or received any more.
    pub fn take(socket: BorrowedFd<'_>, keys: &Keys) -> io::Result<Kernel> {
        ktls::install(socket, &keys.send, &keys.receive)?;
        Ok(Kernel::counting(keys.records))
    }

    fn counting(records: u64) -> Kernel {
        // A count of 32 bits lasts for more than a year of the fastest viewer, and keeps this small.
        let records = u32::try_from(records).unwrap_or(u32::MAX);
        Kernel { records, parted: false, put_off: 0, broken: false }
    }

    /// The kernel has taken so many bytes. False when its key is used up.
    pub fn sent(&mut self, bytes: usize) -> bool {
        // The first goes on with a record that was begun and the last begins one, whatever is between them is whole.
        let records = u32::try_from(bytes / RECORD_BYTES_MAX + 2).unwrap_or(u32::MAX);
        self.records = self.records.saturating_sub(records);
        self.records > 0
    }

    /// A receive has ended by itself, and by this error if there was one.
    ///
    /// When a connection breaks a socket without TLS first brings what has come before. The kernel's TLS tells of the break first,
    /// and then, to who asks again, brings the rest: an encoder's last frames, when it closes with answers of ours unread.
    pub fn ended(&mut self, error: Option<&io::Error>) -> Ending {
        use io::ErrorKind::{BrokenPipe, ConnectionReset};
        match error {
            Some(error) if ktls::is_end(error) => Ending::Eof,
            Some(error) if !self.broken && matches!(error.kind(), ConnectionReset | BrokenPipe) => {
                self.broken = true;
                Ending::More
            }
            None if !self.broken => Ending::Eof,
            _ => Ending::Broken,
        }
    }

    /// Says goodbye behind what was sent, and once only. False when the connection is broken.
    pub fn part(&mut self, socket: BorrowedFd<'_>) -> bool {
        if self.parted {
            return true;
        }
        match ktls::goodbye(socket) {
            Ok(()) => {
                self.parted = true;
                true
            }
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    /// Whether something is still to be sent, so that closing must be put off: what the kernel has taken and found no room for
    /// in the socket is thrown away with it, where a socket without TLS would go on. Not for ever.
    pub fn holds_back(&mut self, socket: BorrowedFd<'_>) -> bool {
        if self.put_off >= PUT_OFF_MAX || !self.part(socket) {
            return false;
        }
        self.put_off += 1;
        !self.parted || tcp::unsent(socket).is_ok_and(|bytes| bytes > 0)
    }
}

/// Bytes that one record of the kernel's may carry (RFC 8446, 5.1).
const RECORD_BYTES_MAX: usize = 1 << 14;
/// How often the end of a connection is put off, each time by as long as it may linger: ten seconds in all.
const PUT_OFF_MAX: u8 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_used_up_after_as_many_records_as_it_is_good_for() {
        let mut kernel = Kernel::counting(10);
        assert!(kernel.sent(1) && kernel.sent(RECORD_BYTES_MAX - 1) && kernel.sent(3 * RECORD_BYTES_MAX));
        assert!(!kernel.sent(1));
        assert!(!kernel.sent(1));
    }

    #[test]
    fn a_key_without_a_bound_lasts() {
        let mut kernel = Kernel::counting(u64::MAX);
        assert!((0..1000).all(|_| kernel.sent(1 << 20)));
    }

    #[test]
    fn what_came_before_a_connection_broke_is_read_on_once() {
        let error = |code| io::Error::from_raw_os_error(code);
        let (eio, reset, pipe) = (error(5), error(104), error(32));
        let kernel = Kernel::counting(10);
        assert_eq!({ kernel }.ended(None), Ending::Eof);
        assert_eq!({ kernel }.ended(Some(&eio)), Ending::Eof);
        assert_eq!({ kernel }.ended(Some(&error(74))), Ending::Broken, "a record that cannot be opened");
        for how in [&reset, &pipe] {
            let mut kernel = kernel;
            assert_eq!(kernel.ended(Some(how)), Ending::More);
            assert_eq!({ kernel }.ended(Some(how)), Ending::Broken);
            assert_eq!({ kernel }.ended(Some(&eio)), Ending::Eof, "it had said goodbye before");
            assert_eq!(kernel.ended(None), Ending::Broken, "the end of TCP's stream is that of the break");
        }
    }

    #[test]
    fn a_connection_takes_two_words_for_who_seals_it() {
        assert_eq!(size_of::<Seal>(), 16);
    }
}
