//! MPEG transport streams (ISO/IEC 13818-1): as files, as segments, live for all viewers of a stream, and read back.
//!
//! A stream is packets of 188 bytes. Two tables say what it holds, and stand again before each key frame and twice a second, so
//! that a player can enter there; each frame is one PES packet, spread over as many packets as it needs; the clock is read
//! 25 times a second. What cannot be said in one is left out:
//!
//! | codec | in the stream |
//! | --- | --- |
//! | H.264, HEVC, VVC | stream types 0x1b, 0x24 and 0x33: Annex B, parameter sets before each key frame |
//! | AAC | 0x0f: ADTS, for what its header can say; sound of program config elements or of 960 samples is left out |
//! | MP3 | 0x03 (MPEG-1) and 0x04 (the generations after it), as it is |
//! | Opus | 0x06 and the registration `Opus`, for the channel orders of Vorbis |
//! | AC-3 | 0x81 and the registration `AC-3`, as it is |
//! | AV1, VP8, VP9, G.711, G.722 | left out with their frames: no mapping is agreed on that players read |
//!
//! Here are packets, tables and times. What a decoder needs to know is the business of [`codec`](crate::codec), and when a
//! fragment is cut that of [`record`](crate::record).

mod annex_b;
mod clock;
mod coding;
mod crc;
pub mod demux;
mod file;
mod packet;
mod pes;
mod program;
#[cfg(test)]
pub(crate) mod samples;
mod segment;
mod tables;
#[cfg(test)]
pub(crate) mod tests;
mod wire;

pub use demux::Demuxer;
pub use file::CONTAINER;
pub(crate) use packet::{PACKET_BYTES, SYNC_BYTE};
pub use segment::Segmenter;
pub use wire::{FORM, TsWire};
