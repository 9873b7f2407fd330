//! What sessions of one core make of the same bytes, made once.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;

use crate::limits;

/// Pieces of shared blocks, in the form in which sessions that [carry](super::Session::carry) a stream keep them: the first who
/// needs a piece copies it, and the others take the same. So what is kept of a stream for sending it again is there once per core.
///
/// ```
/// use std::sync::Arc;
/// use bytes::Bytes;
/// use shardcast_engine::session::Shelf;
///
/// let mut shelf = Shelf::default();
/// let block = Bytes::from_static(b"a packet and another");
/// let (one, two) = (shelf.piece(&block, 2..8), shelf.piece(&block.clone(), 2..8));
/// assert_eq!(&one[..], b"packet");
/// assert!(Arc::ptr_eq(&one, &two));
/// ```
#[derive(Debug, Default)]
pub struct Shelf {
    /// By the address of its first byte and its length.
    pieces: BTreeMap<(usize, usize), Arc<[u8]>>,
    /// The bytes that they are copies of, oldest first. While one is held here its address is no other's.
    held: VecDeque<Bytes>,
    bytes: usize,
}

impl Shelf {
    /// What stands in `range` of `block`. It is found again as long as no more than
    /// [`SHELF_BYTES_MAX`](crate::limits::SHELF_BYTES_MAX) were asked for since.
    pub fn piece(&mut self, block: &Bytes, range: Range<usize>) -> Arc<[u8]> {
        let source = block.slice(range);
        let place = (source.as_ptr() as usize, source.len());
        if let Some(piece) = self.pieces.get(&place) {
            return piece.clone();
        }
        let piece: Arc<[u8]> = Arc::from(&source[..]);
        self.bytes += source.len();
        self.pieces.insert(place, piece.clone());
        self.held.push_back(source);
        while self.bytes > limits::SHELF_BYTES_MAX
            && let Some(oldest) = self.held.pop_front()
        {
            self.bytes -= oldest.len();
            self.pieces.remove(&(oldest.as_ptr() as usize, oldest.len()));
        }
        piece
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_bounded_and_a_piece_is_its_bytes_wherever_they_lie() {
        let mut shelf = Shelf::default();
        for round in 0..3_000_usize {
            // Memory that is given back is given out again: the same addresses with other bytes.
            let block = Bytes::from(vec![round as u8; 4096]);
            let piece = shelf.piece(&block, 0..4096);
            assert!(piece.iter().all(|byte| *byte == round as u8));
            assert!(shelf.bytes <= limits::SHELF_BYTES_MAX);
            assert_eq!((shelf.pieces.len(), shelf.bytes), (shelf.held.len(), 4096 * shelf.held.len()));
        }
    }

    #[test]
    fn a_piece_longer_than_the_shelf_is_given_and_not_kept() {
        let mut shelf = Shelf::default();
        let block = Bytes::from(vec![7; limits::SHELF_BYTES_MAX + 1]);
        assert_eq!(shelf.piece(&block, 0..block.len()).len(), block.len());
        assert_eq!((shelf.pieces.len(), shelf.bytes), (0, 0));
    }
}
