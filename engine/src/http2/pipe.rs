//! What `h2` takes for its socket: memory. What has come stands in it until `h2` reads it; what `h2` writes stands in it until
//! the kernel is given it, and when that is much `h2` has to wait, as at a socket that is full.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One end of the memory; both are the same.
#[derive(Clone, Default)]
pub(super) struct Pipe(Rc<RefCell<Memory>>);

#[derive(Default)]
struct Memory {
    incoming: BytesMut,
    outgoing: Vec<u8>,
}

impl Pipe {
    /// Bytes have come.
    pub(super) fn put(&self, bytes: &[u8]) {
        self.0.borrow_mut().incoming.extend_from_slice(bytes);
    }

    /// Bytes that have come and were not read.
    pub(super) fn unread(&self) -> usize {
        self.0.borrow().incoming.len()
    }

    /// All that was written since the last time.
    pub(super) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.borrow_mut().outgoing)
    }

    /// Nothing was written since the last time.
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().outgoing.is_empty()
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut memory = self.0.borrow_mut();
        if memory.incoming.is_empty() {
            return Poll::Pending;
        }
        let count = buffer.remaining().min(memory.incoming.len());
        buffer.put_slice(memory.incoming.get(..count).unwrap_or_default());
        memory.incoming.advance(count);
        if memory.incoming.is_empty() {
            // A peer that says nothing should take no memory for it.
            memory.incoming = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut memory = self.0.borrow_mut();
        if memory.outgoing.len() >= OUTGOING_BYTES_MAX {
            return Poll::Pending;
        }
        slices.iter().for_each(|slice| memory.outgoing.extend_from_slice(slice));
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    /// Else a frame's head and what it carries would be copied together first, and then here.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Whoever drives the trunk sees by itself when all is said.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Bytes that may wait for the kernel beside what it has, before the last frame that is written: what one send takes under TLS.
pub(super) const OUTGOING_BYTES_MAX: usize = super::trunk::BRANCH_BYTES_MAX;
