//! Sleeping until a descriptor is readable, inside a glommio executor.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;

use futures_lite::io::AsyncRead;
use glommio::net::TcpStream;
use io_uring::Submitter;

use crate::system::checked;

/// The flag that the kernel raises when a ring has something to report: an eventfd.
pub(super) struct Wakeup {
    flag: OwnedFd,
    /// Whether the ring knows of it.
    registered: bool,
}

impl Wakeup {
    pub fn new() -> io::Result<Wakeup> {
        // SAFETY: the call takes no memory.
        let flag = checked(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the kernel has just opened this descriptor for us, and nobody else has it.
        Ok(Wakeup { flag: unsafe { OwnedFd::from_raw_fd(flag) }, registered: false })
    }

    /// Has the ring raise the flag from here on.
    pub fn register(&mut self, ring: &Submitter<'_>) -> io::Result<()> {
        if !self.registered {
            ring.register_eventfd(self.flag.as_raw_fd())?;
            self.registered = true;
        }
        Ok(())
    }

    /// Has the ring leave the flag alone.
    pub fn unregister(&mut self, ring: &Submitter<'_>) -> io::Result<()> {
        if self.registered {
            ring.unregister_eventfd()?;
            self.registered = false;
        }
        Ok(())
    }

    /// Lowers the flag.
    pub fn clear(&self) {
        let mut count = 0u64;
        // SAFETY: `count` has the eight bytes that an eventfd gives, and outlives the call. That the flag was not up is
        // an error of the call and none of ours.
        let _ = unsafe { libc::read(self.flag.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) };
    }
}

impl AsFd for Wakeup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.flag.as_fd()
    }
}

/// Waits until a descriptor is readable. Must be polled inside a glommio executor; may be dropped at any time. It
/// costs about ten system calls.
///
/// glommio 0.9 has no public way to wait for a descriptor of a stranger. What it has: a `TcpStream` made from any
/// descriptor, whose read first waits for POLLIN and only then calls recv, which fails with ENOTSOCK and takes
/// nothing. This function is the only place that knows.
pub fn readable(descriptor: BorrowedFd<'_>) -> impl Future<Output = ()> + 'static {
    let duplicate = descriptor.try_clone_to_owned();
    async move {
        let Ok(duplicate) = duplicate else {
            // Out of descriptors. Coming back at once would spin, so come back at the next tick of a coarse timer.
            return glommio::timer::sleep(RETRY).await;
        };
        // SAFETY: the duplicate was made above and is handed over whole. Whether it is a socket the stream finds out
        // from an error, as intended; it neither reads nor writes before POLLIN.
        let mut stream = unsafe { TcpStream::from_raw_fd(duplicate.into_raw_fd()) };
        let mut nothing = [];
        let _ = poll_fn(|context| Pin::new(&mut stream).poll_read(context, &mut nothing)).await;
    }
}

/// How long the wait is when there is no descriptor to spare for it.
const RETRY: std::time::Duration = std::time::Duration::from_millis(5);
