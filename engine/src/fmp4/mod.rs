//! Fragmented MP4 (ISO/IEC 14496-12): initialisation segments and fragments, and reading them back.
//!
//! Here are boxes and samples only. When a fragment is cut and what a file is called is the business of
//! [`record`](crate::record); what a decoder needs to know is that of [`codec`](crate::codec).
//!
//! ```
//! use std::sync::Arc;
//! use bytes::{Bytes, BytesMut};
//! use shardcast_engine::{
//!     codec::{Codec, Parameters},
//!     fmp4::{SampleEntry, demux::{self, BoxHead, Fragment, Movie}, mux::{self, Run, Sample, Track}},
//!     time::Wall,
//! };
//!
//! let packet = Bytes::from_static(&[0xfc, 1, 2]);
//! let tracks = [Track { id: 1, timescale: 48_000, parameters: Arc::new(Parameters::of_opus(2)) }];
//! let samples = [Sample { duration: 960, composition_offset: 0, key: true, data: packet.clone() }];
//! let mut file = BytesMut::new();
//! mux::init(&tracks, Wall(0), &mut file);
//! mux::head(1, &[Run { track: 1, base_decode_time: 0, all_key: true, samples: &samples }], &mut file);
//! // Here the samples of all runs follow, in order.
//! file.extend_from_slice(&packet);
//!
//! // The way back, box by box.
//! let (mut movie, mut fragment, mut at) = (Movie::default(), Fragment::default(), 0);
//! while at < file.len() {
//!     let head = BoxHead::parse(&file[at..])?;
//!     let end = head.len.map_or(file.len(), |len| at + len as usize);
//!     let content = &file[at + head.head_len as usize..end];
//!     match &head.kind.0 {
//!         b"moov" => movie = Movie::parse(content)?,
//!         b"moof" => fragment = Fragment::parse(&movie, content, at as u64)?,
//!         _ => {}
//!     }
//!     at = end;
//! }
//! let SampleEntry { codec, shape, .. } = &movie.tracks[0].entry;
//! assert_eq!((*codec, movie.tracks[0].codec_name().as_str()), (Some(Codec::Opus), "opus"));
//! assert!(shape.is_some() && movie.fragmented);
//! let demux::Sample { dts, duration, offset, size, .. } = fragment.samples[0];
//! assert_eq!((dts, duration), (0, 960));
//! assert_eq!(file[offset as usize..][..size as usize], packet[..]);
//! # Ok::<(), shardcast_engine::error::Error>(())
//! ```

mod boxes;
pub mod demux;
mod entry;
pub mod file;
pub mod mux;
#[cfg(test)]
mod tests;

pub use boxes::FourCc;
pub use entry::{SampleEntry, carries};
pub use file::CONTAINER;

/// Bytes of the head of a box with a 32-bit size, and so of the smallest box.
pub const BOX_HEAD_BYTES: usize = 8;
