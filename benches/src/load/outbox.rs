//! Bytes on their way to a socket, which may take only a part of them.

use bytes::{Buf, Bytes, BytesMut};

/// What waits, and what the ring has.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: BytesMut,
    sending: Bytes,
}

impl Outbox {
    /// Where more is appended.
    pub fn waiting(&mut self) -> &mut BytesMut {
        &mut self.waiting
    }

    /// What is to be sent now, unless the last send has not ended.
    pub fn next(&mut self) -> Option<Bytes> {
        if !self.sending.is_empty() || self.waiting.is_empty() {
            return None;
        }
        self.sending = self.waiting.split().freeze();
        Some(self.sending.clone())
    }

    /// The socket has taken `bytes`; gives what is to be sent next.
    pub fn sent(&mut self, bytes: usize) -> Option<Bytes> {
        self.sending.advance(bytes.min(self.sending.len()));
        if self.sending.is_empty() { self.next() } else { Some(self.sending.clone()) }
    }

    /// Bytes that the socket has not taken.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.sending.len()
    }

    /// Whether nothing waits and nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.sending.is_empty()
    }

    /// Whether a send has not ended.
    pub fn is_sending(&self) -> bool {
        !self.sending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_socket_leaves_over_is_sent_before_anything_else() {
        let mut out = Outbox::default();
        assert_eq!(out.next(), None);
        out.waiting().extend_from_slice(b"abcdef");
        assert_eq!(out.next().as_deref(), Some(&b"abcdef"[..]));
        out.waiting().extend_from_slice(b"gh");
        assert_eq!(out.next(), None);
        assert_eq!(out.sent(2).as_deref(), Some(&b"cdef"[..]));
        assert_eq!(out.sent(4).as_deref(), Some(&b"gh"[..]));
        assert!(out.is_sending() && out.len() == 2);
        assert_eq!(out.sent(2), None);
        assert_eq!((out.is_sending(), out.is_empty(), out.len()), (false, true, 0));
    }
}
