//! Everything that may cross between cores, and nothing else. All of it is refcounts and small values; a payload is never
//! copied for the way.

use std::{collections::VecDeque, fmt, net::SocketAddr, sync::Arc};

use bytes::Bytes;

#[cfg(feature = "segment")]
use crate::segment::{Cut, Packaging};
use crate::{
    media::StreamName,
    session::{Refusal, Session},
    stream::{Numbered, Place, Start},
    time::Now,
};

/// A core of the node: 0 to N-1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub u16);

/// One word from core to core. Lanes keep their order.
#[derive(Debug)]
pub enum Message {
    /// A core has viewers for a stream of yours.
    Subscribe {
        /// The stream.
        name: StreamName,
        /// The asking core's number for this subscription; every answer carries it.
        subscription: u64,
        /// Wait for a publisher instead of refusing.
        wait: bool,
    },
    /// It has none any more.
    Unsubscribe {
        /// The stream.
        name: StreamName,
        /// As in `Subscribe`.
        subscription: u64,
    },
    /// The answer to `Subscribe` when it cannot be.
    Refused {
        /// The stream.
        name: StreamName,
        /// As in `Subscribe`.
        subscription: u64,
        /// Why.
        refusal: Refusal,
    },
    /// The stream is live and begins here for your core; also after frames were lost on a full lane.
    Opening {
        /// The stream.
        name: StreamName,
        /// As in `Subscribe`.
        subscription: u64,
        /// The kept group.
        start: Box<Start>,
    },
    /// The next frames.
    Frames {
        /// The stream.
        name: StreamName,
        /// As in `Subscribe`.
        subscription: u64,
        /// The frame before the first of these, so that a core that missed it knows.
        after: Option<Place>,
        /// In order, without a gap.
        frames: Arc<[Numbered]>,
    },
    /// The stream has ended for good.
    Ended {
        /// The stream.
        name: StreamName,
        /// As in `Subscribe`.
        subscription: u64,
    },
    /// A core is asked for parts of a stream of yours.
    #[cfg(feature = "segment")]
    Follow {
        /// The stream.
        name: StreamName,
        /// In which form.
        packaging: Packaging,
        /// The asking core's number for this; every answer carries it.
        following: u64,
    },
    /// It is not any more.
    #[cfg(feature = "segment")]
    Unfollow {
        /// The stream.
        name: StreamName,
        /// In which form.
        packaging: Packaging,
        /// As in `Follow`.
        following: u64,
    },
    /// What was cut: first all that is at hand, then each cut as it is made.
    #[cfg(feature = "segment")]
    Cuts {
        /// The stream.
        name: StreamName,
        /// In which form.
        packaging: Packaging,
        /// As in `Follow`.
        following: u64,
        /// In order.
        cuts: Arc<[Cut]>,
    },
    /// The answer to `Follow` when nobody publishes the stream, or it has nothing that this form can say.
    #[cfg(feature = "segment")]
    NotFollowed {
        /// The stream.
        name: StreamName,
        /// In which form.
        packaging: Packaging,
        /// As in `Follow`.
        following: u64,
        /// The stream is there, but your core did not take what was cut: from here on it is told nothing, and what it has
        /// ends somewhere. It may ask again.
        lagged: bool,
    },
    /// A viewer waits for a key frame; asked of the owner, who asks the publisher.
    KeyframeWanted {
        /// The stream.
        name: StreamName,
    },
}

impl Message {
    /// True for what may be left out when the lane is full: the replica is late then, until the next entrance, and a key
    /// frame is asked for again when the next viewer wants one.
    pub const fn may_be_late(&self) -> bool {
        matches!(self, Message::Frames { .. } | Message::Opening { .. } | Message::KeyframeWanted { .. })
    }

    /// How many frames cross with it.
    pub fn frames(&self) -> usize {
        match self {
            Message::Frames { frames, .. } => frames.len(),
            Message::Opening { start, .. } => start.frames.len(),
            _ => 0,
        }
    }
}

/// A publisher's connection on its way to the core that owns its stream. Its descriptor travels beside it.
pub struct Parcel {
    /// The conversation so far.
    pub session: Box<dyn Session>,
    /// Which door it came in by.
    pub door: &'static str,
    /// Who it is.
    pub peer: SocketAddr,
    /// When it was accepted.
    pub accepted: Now,
    /// The stream it wants to publish; already allowed.
    pub name: StreamName,
    /// What it sent since.
    pub unread: Unread,
}

/// What a peer sent while its wish had no answer, in the pieces that it came in: over UDP each is a datagram.
#[derive(Debug, Default)]
pub struct Unread {
    pieces: VecDeque<Bytes>,
    weight: usize,
}

impl Unread {
    /// Keeps one more piece.
    pub fn push(&mut self, piece: &[u8]) {
        self.weight += Self::weight_of(piece);
        self.pieces.push_back(Bytes::copy_from_slice(piece));
    }

    /// The oldest piece.
    pub fn pop(&mut self) -> Option<Bytes> {
        let piece = self.pieces.pop_front()?;
        self.weight -= Self::weight_of(&piece);
        Some(piece)
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Memory that it takes, some of which is for the piece itself: bytes that come one by one are no way around a bound.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// What [`weight`](Self::weight) grows by with this piece.
    pub fn weight_of(piece: &[u8]) -> usize {
        piece.len() + PIECE_BYTES
    }
}

/// What a kept piece takes beside its bytes: its place in the queue, and what the heap needs to hold it.
const PIECE_BYTES: usize = 64;

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Parcel({} by {} from {}, {} unread pieces)",
            self.name,
            self.door,
            self.peer,
            self.unread.pieces.len()
        )
    }
}

/// The core that owns `name` among `cores` (at least 1): rendezvous hashing, so that every core knows without asking and
/// few streams move when the number changes.
pub fn owner_of(name: &StreamName, cores: u16) -> CoreId {
    assert!(cores > 0, "a node has at least one core");
    let hash = fnv1a(name.as_str().as_bytes());
    let weight = |core: u16| mix(hash ^ mix(u64::from(core) + 1));
    CoreId((0..cores).max_by_key(|core| weight(*core)).expect("there is at least one core"))
}

/// FNV-1a, 64 bits: stable across runs and machines, unlike the standard library's.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The finaliser of SplitMix64: every input bit moves every output bit.
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unread_pieces_come_back_as_they_were_and_weigh_more_than_their_bytes() {
        let mut unread = Unread::default();
        for piece in [&b"one"[..], b"", b"three"] {
            unread.push(piece);
        }
        assert_eq!(unread.weight(), 8 + 3 * PIECE_BYTES);
        assert_eq!(unread.pop().unwrap(), &b"one"[..]);
        assert_eq!(unread.pop().unwrap(), &b""[..]);
        assert_eq!(unread.pop().unwrap(), &b"three"[..]);
        assert!(unread.pop().is_none() && unread.is_empty() && unread.weight() == 0);
    }

    #[test]
    fn owners_are_spread_evenly_and_few_move_when_a_core_is_added() {
        let names: Vec<_> = (0..4000).map(|i| StreamName::new("live", &format!("cam{i}")).unwrap()).collect();
        let mut counts = [0; 8];
        let mut moved = 0;
        for name in &names {
            let owner = owner_of(name, 8);
            counts[usize::from(owner.0)] += 1;
            moved += usize::from(owner_of(name, 9) != owner);
        }
        assert!(counts.iter().all(|count| (400..600).contains(count)), "{counts:?}");
        assert!((300..600).contains(&moved), "a ninth of the streams move, not {moved}");
    }
}
