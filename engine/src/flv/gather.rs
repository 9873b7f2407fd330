//! A body whose length is declared before it comes, put together as its bytes arrive.

use bytes::Bytes;

/// Memory taken before any byte is seen, so that small bodies in small pieces do not allocate for each piece.
const FIRST_BYTES: usize = 4096;

/// The only copy of a payload in user space is made here: from the buffer that was received into one of its own.
///
/// The declared length is not believed: memory doubles as bytes arrive, and never passes the declared length. So a whole
/// body wastes nothing, and one that never comes costs at most twice what did come.
#[derive(Debug)]
pub(crate) struct Gather {
    bytes: Vec<u8>,
    len: usize,
}

impl Gather {
    /// For a body of `len` bytes of which `arrived` are at hand.
    pub(crate) fn new(len: usize, arrived: usize) -> Self {
        Gather { bytes: Vec::with_capacity(len.min(arrived.max(FIRST_BYTES))), len }
    }
    /// Bytes that have come.
    #[cfg(feature = "rtmp")]
    pub(crate) const fn gathered(&self) -> usize {
        self.bytes.len()
    }
    /// Bytes that are missing.
    pub(crate) const fn missing(&self) -> usize {
        self.len - self.bytes.len()
    }
    /// Takes up to `max` missing bytes from the front of `input`, and says how many.
    pub(crate) fn take(&mut self, input: &mut &[u8], max: usize) -> usize {
        let taken = input.len().min(max).min(self.missing());
        let (part, rest) = input.split_at(taken);
        if self.bytes.capacity() - self.bytes.len() < taken {
            let target = (self.bytes.len() + taken).max(self.bytes.len() * 2).min(self.len);
            self.bytes.reserve_exact(target - self.bytes.len());
        }
        self.bytes.extend_from_slice(part);
        *input = rest;
        taken
    }
    /// What has come, to be shared.
    pub(crate) fn finish(self) -> Bytes {
        Bytes::from(self.bytes)
    }
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
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
