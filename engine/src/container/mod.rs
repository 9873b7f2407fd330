//! Containers: frames to the bytes of a file. A container of a host's own stands beside the built-in ones.
//!
//! A file is built in fragments: some frames, in the order in which they came. What was written is never changed, so a file
//! is whole after each fragment, and nobody needs more memory than one of them.
//!
//! ```
//! use shardcast_engine::{
//!     container::{Container, Muxer, Pieces, Track},
//!     media::{Frame, Payload},
//!     time::Wall,
//! };
//!
//! /// Sound as it comes, each packet behind its length.
//! static LENGTHS: Container = Container { name: "lengths", extension: "bin", open: || Box::new(Lengths) };
//!
//! struct Lengths;
//!
//! impl Muxer for Lengths {
//!     fn begin(&mut self, _tracks: &[Track], _started: Wall, _out: &mut Pieces) {}
//!     fn fragment(&mut self, frames: &[Frame], _next: Option<&Frame>, out: &mut Pieces) {
//!         for frame in frames {
//!             let Payload::Audio { data, .. } = &frame.payload else { continue };
//!             out.bytes().extend_from_slice(&(data.len() as u32).to_be_bytes());
//!             out.share(data.clone());
//!         }
//!     }
//! }
//! # assert_eq!(LENGTHS.extension, "bin");
//! ```

pub mod raw;

use std::{fmt, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};

use crate::{
    codec::Parameters,
    media::{Frame, TrackId},
    time::Wall,
};

/// A kind of file. One `static` per container.
///
/// ```
/// use shardcast_engine::{container::Container, fmp4, mpegts};
///
/// let known: [&'static Container; 2] = [&fmp4::CONTAINER, &mpegts::CONTAINER];
/// assert_eq!(known.map(|container| container.extension), ["mp4", "ts"]);
/// ```
pub struct Container {
    /// A short lower-case name, for config and log lines.
    pub name: &'static str,
    /// Of its files, without a dot.
    pub extension: &'static str,
    /// Makes the muxer of one file.
    pub open: fn() -> Box<dyn Muxer>,
}

/// A track of a file.
#[derive(Clone, Debug)]
pub struct Track {
    /// Which of the stream's.
    pub id: TrackId,
    /// They hold for the whole file: a change of them begins another.
    pub parameters: Arc<Parameters>,
    /// Ticks per second of its frames.
    pub rate: u32,
}

/// Writes one file.
///
/// ```
/// # use std::sync::Arc;
/// # use shardcast_engine::{codec::{Codec, Parameters}, media::{Frame, Payload, TrackId}, time::{MediaTime, Wall}};
/// use shardcast_engine::container::{Pieces, Track, raw};
///
/// # let data = bytes::Bytes::from_static(&[0xfc, 1, 2]);
/// # let time = MediaTime { ticks: 0, rate: 48_000 };
/// # let frame = Frame { track: TrackId::AUDIO, dts: time, pts: time, payload: Payload::Audio { codec: Codec::Opus, data } };
/// let parameters = Arc::new(Parameters::of_opus(2));
/// let tracks = [Track { id: TrackId::AUDIO, parameters, rate: 48_000 }];
/// let (mut muxer, mut file) = ((raw::CONTAINER.open)(), Pieces::new());
/// muxer.begin(&tracks, Wall(0), &mut file);
/// muxer.fragment(&[frame], None, &mut file);
/// assert!(file.finish().concat().ends_with(&[0xfc, 1, 2]));
/// ```
pub trait Muxer: Send {
    /// Whether the container has a form for tracks of these parameters. Those of others are no tracks of the file, and a recording of
    /// nothing else is none. Asked at any time, also before the beginning.
    fn takes(&self, _parameters: &Parameters) -> bool {
        true
    }

    /// What a file begins with. Called once, before anything else. `tracks` are ordered by id and are all that the file
    /// will have; some of them may have no frame yet. `started` is when the first frame came.
    fn begin(&mut self, tracks: &[Track], started: Wall, out: &mut Pieces);

    /// What comes next: pictures and sound of the file's tracks in the order in which they came, at least one. `next` is the
    /// frame that follows, where it is known. Times of a track may step back, as encoders do.
    fn fragment(&mut self, frames: &[Frame], next: Option<&Frame>, out: &mut Pieces);

    /// How long the file plays so far, where the container says so itself; `None` to have it added up from the frames.
    fn played(&self) -> Option<Duration> {
        None
    }
}

/// Bytes that were written here and bytes that are shared with a frame, in order; none of the latter is copied.
///
/// ```
/// use shardcast_engine::container::Pieces;
///
/// let mut pieces = Pieces::new();
/// pieces.bytes().extend_from_slice(b"head");
/// pieces.share(bytes::Bytes::from_static(b"payload"));
/// assert_eq!(pieces.len(), 11);
/// assert_eq!(pieces.finish().concat(), b"headpayload");
/// ```
#[derive(Debug, Default)]
pub struct Pieces {
    pieces: Vec<Bytes>,
    open: BytesMut,
    len: usize,
}

impl Pieces {
    /// Nothing yet.
    pub fn new() -> Self {
        Pieces::default()
    }

    /// Where bytes are written that come next.
    pub fn bytes(&mut self) -> &mut BytesMut {
        &mut self.open
    }

    /// Adds bytes that exist already.
    pub fn share(&mut self, bytes: Bytes) {
        self.close();
        if !bytes.is_empty() {
            self.len += bytes.len();
            self.pieces.push(bytes);
        }
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.len + self.open.len()
    }

    /// True while there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, in order.
    pub fn finish(mut self) -> Vec<Bytes> {
        self.close();
        self.pieces
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.len += self.open.len();
            self.pieces.push(self.open.split().freeze());
        }
    }
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Container({})", self.name)
    }
}

impl PartialEq for Container {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Container {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_out_in_the_order_in_which_they_were_written() {
        let mut pieces = Pieces::new();
        assert!(pieces.is_empty());
        pieces.bytes().extend_from_slice(b"ab");
        pieces.share(Bytes::from_static(b"cd"));
        pieces.share(Bytes::new());
        pieces.bytes().extend_from_slice(b"e");
        pieces.bytes().extend_from_slice(b"f");
        assert_eq!(pieces.len(), 6);
        assert_eq!(pieces.finish(), ["ab", "cd", "ef"].map(|piece| Bytes::from_static(piece.as_bytes())));
    }
}
