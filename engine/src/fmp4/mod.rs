//! Fragmented MP4 (ISO/IEC 14496-12): initialisation segments and fragments, and reading them back.
//!
//! Here are boxes and samples only. When a fragment is cut and what a file is called is the business of
//! [`record`](crate::record); what a decoder needs to know is that of [`codec`](crate::codec).

mod boxes;
pub mod demux;
mod entry;
pub mod file;
pub mod mux;
#[cfg(test)]
mod tests;

pub use boxes::FourCc;
pub use file::CONTAINER;

/// Bytes of the head of a box with a 32-bit size, and so of the smallest box.
pub const BOX_HEAD_BYTES: usize = 8;
