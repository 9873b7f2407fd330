//! A body whose length is declared before it comes, put together as its bytes arrive.

use bytes::{Bytes, BytesMut};

#[cfg(feature = "rtmp")]
use crate::slab::Slab;

/// Memory taken before any byte is seen, so that small bodies in small pieces do not allocate for each piece.
const FIRST_BYTES: usize = 4096;

/// The only copy of a payload in user space is made here: from the buffer that was received into one of its own.
///
/// The declared length is not believed: memory doubles as bytes arrive, and never passes the declared length. So a whole
/// body wastes nothing, and one that never comes costs at most twice what did come. Short bodies that are kept with their
/// neighbours share a [`Slab`], which costs a peer that lies no more than the slab.
#[derive(Debug)]
pub(crate) struct Gather {
    bytes: Memory,
    len: usize,
}

#[derive(Debug)]
enum Memory {
    Own(Vec<u8>),
    /// With room for the whole body.
    #[cfg_attr(not(feature = "rtmp"), allow(dead_code, reason = "only RTMP puts bodies together in slabs"))]
    Shared(BytesMut),
}

impl Gather {
    /// For a body of `len` bytes of which `arrived` are at hand.
    pub(crate) fn new(len: usize, arrived: usize) -> Self {
        Gather { bytes: Memory::Own(Vec::with_capacity(len.min(arrived.max(FIRST_BYTES)))), len }
    }
    /// As [`new`](Self::new), in a slab if it is not too long for one.
    #[cfg(feature = "rtmp")]
    pub(crate) fn in_slab(slab: &mut Slab, len: usize, arrived: usize) -> Self {
        match slab.take(len) {
            Some(piece) => Gather { bytes: Memory::Shared(piece), len },
            None => Gather::new(len, arrived),
        }
    }
    /// Bytes that have come.
    pub(crate) fn gathered(&self) -> usize {
        match &self.bytes {
            Memory::Own(bytes) => bytes.len(),
            Memory::Shared(bytes) => bytes.len(),
        }
    }
    /// Bytes that are missing.
    pub(crate) fn missing(&self) -> usize {
        self.len - self.gathered()
    }
    /// Takes up to `max` missing bytes from the front of `input`, and says how many.
    pub(crate) fn take(&mut self, input: &mut &[u8], max: usize) -> usize {
        let taken = input.len().min(max).min(self.missing());
        let (part, rest) = input.split_at(taken);
        match &mut self.bytes {
            Memory::Shared(bytes) => bytes.extend_from_slice(part),
            Memory::Own(bytes) => {
                if bytes.capacity() - bytes.len() < taken {
                    let target = (bytes.len() + taken).max(bytes.len() * 2).min(self.len);
                    bytes.reserve_exact(target - bytes.len());
                }
                bytes.extend_from_slice(part);
            }
        }
        *input = rest;
        taken
    }
    /// What has come, to be shared.
    pub(crate) fn finish(self) -> Bytes {
        match self.bytes {
            Memory::Own(bytes) => Bytes::from(bytes),
            Memory::Shared(bytes) => bytes.freeze(),
        }
    }
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        match &self.bytes {
            Memory::Own(bytes) => bytes.capacity(),
            Memory::Shared(bytes) => bytes.capacity(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_never_comes_costs_no_more_than_twice_what_came() {
        let mut gather = Gather::new(16 << 20, 10);
        assert_eq!(gather.capacity(), FIRST_BYTES);
        for _ in 0..1000 {
            gather.take(&mut &[7; 100][..], usize::MAX);
        }
        assert_eq!(gather.gathered(), 100_000);
        assert!(gather.capacity() <= 200_000);
    }

    #[test]
    fn a_whole_body_takes_exactly_its_length() {
        let mut gather = Gather::new(10_000, 3);
        while gather.missing() > 0 {
            gather.take(&mut &[1; 64][..], 64);
        }
        assert_eq!((gather.gathered(), gather.capacity()), (10_000, 10_000));
        assert_eq!(gather.finish().len(), 10_000);
    }
}
