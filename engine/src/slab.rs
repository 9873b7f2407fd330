//! Memory for what lives about as long as its neighbours: the frames of a publisher, the blocks of a wire log.
//!
//! They are made one after the other and let go together, a group at a time. A piece of the heap for each would cost more
//! than filling it, and pieces of every size that live for seconds leave a heap full of holes: with a hundred streams
//! that was a fifth of the CPU and half of the memory. So they share slabs, all of one size, and a slab goes back when
//! its last piece does.

use bytes::BytesMut;

use crate::limits;

/// Hands out pieces of memory, one behind the other.
#[cfg(any(feature = "rtmp", feature = "srt", test))]
#[derive(Debug, Default)]
pub struct Slab {
    rest: BytesMut,
}

#[cfg(any(feature = "rtmp", feature = "srt", test))]
impl Slab {
    /// An empty piece with room for exactly `bytes`, or none when so large a piece should have memory of its own.
    pub fn take(&mut self, bytes: usize) -> Option<BytesMut> {
        if bytes > limits::SLAB_PIECE_BYTES_MAX {
            return None;
        }
        if self.rest.capacity() < bytes {
            self.rest = BytesMut::with_capacity(limits::SLAB_BYTES);
        }
        let rest = self.rest.split_off(bytes);
        Some(std::mem::replace(&mut self.rest, rest))
    }
}

/// Sees to it that `piece` has room for `bytes` more without moving again: in the slab that it stands in, in a new one, or
/// in memory of its own if it grows too large for that.
pub fn grow(piece: &mut BytesMut, bytes: usize) {
    if piece.capacity() - piece.len() >= bytes {
        return;
    }
    let needed = piece.len() + bytes;
    let room = if needed > limits::SLAB_PIECE_BYTES_MAX { needed } else { limits::SLAB_BYTES };
    let mut larger = BytesMut::with_capacity(room);
    larger.extend_from_slice(piece);
    *piece = larger;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_their_room_and_stand_in_one_slab_until_it_is_full() {
        let mut slab = Slab::default();
        let mut pieces: Vec<BytesMut> = (0..10).map(|_| slab.take(10_000).unwrap()).collect();
        for (number, piece) in pieces.iter_mut().enumerate() {
            assert_eq!((piece.len(), piece.capacity()), (0, 10_000));
            piece.resize(10_000, number as u8);
            assert_eq!(piece.capacity(), 10_000, "it did not move");
        }
        for (number, piece) in pieces.iter().enumerate() {
            assert!(piece.iter().all(|byte| *byte == number as u8), "neighbours keep apart");
        }
        let places: Vec<_> = pieces.iter().map(|piece| piece.as_ptr().addr()).collect();
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] == 10_000), "one behind the other");
        assert!(slab.take(limits::SLAB_PIECE_BYTES_MAX + 1).is_none());
        for _ in 0..20 {
            assert_eq!(slab.take(30_000).unwrap().capacity(), 30_000);
        }
    }

    #[test]
    fn a_piece_grows_in_place_while_its_slab_has_room_and_keeps_its_bytes_when_it_moves() {
        let mut piece = BytesMut::new();
        grow(&mut piece, 100);
        assert_eq!(piece.capacity(), limits::SLAB_BYTES);
        piece.extend_from_slice(&[1; 100]);
        let first = piece.split().freeze();
        grow(&mut piece, 1000);
        assert_eq!(piece.as_ptr().addr(), first.as_ptr().addr() + 100, "in the same slab");
        piece.extend_from_slice(&[2; 1000]);
        grow(&mut piece, limits::SLAB_BYTES);
        assert_eq!(
            piece.capacity(),
            limits::SLAB_BYTES + 1000,
            "memory of its own, and no more than it needs"
        );
        assert!(piece.iter().all(|byte| *byte == 2) && first.iter().all(|byte| *byte == 1));
    }
}
