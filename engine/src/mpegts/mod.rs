//! MPEG transport streams (ISO/IEC 13818-1) as files.
//!
//! A file is packets of 188 bytes. Two tables say what it holds, and stand again before each fragment, so that a player can
//! enter there; each frame is one PES packet, spread over as many packets as it needs. What cannot be said in one is left out:
//!
//! | codec | in the file |
//! | --- | --- |
//! | H.264, HEVC | stream types 0x1b and 0x24: Annex B, parameter sets before each key frame |
//! | AAC | 0x0f: ADTS, for what its header can say; sound of program config elements or of 960 samples is left out |
//! | MP3 | 0x03 (MPEG-1) and 0x04 (the generations after it), as it is |
//! | Opus | 0x06 and the registration `Opus`, for the channel orders of Vorbis |
//! | VVC | left out with its frames: not written here yet |
//! | AV1, VP9, others | left out with their frames: no mapping is agreed on that players read |
//!
//! Here are packets, tables and times. What a decoder needs to know is the business of [`codec`](crate::codec), and when a
//! fragment is cut that of [`record`](crate::record).

mod annex_b;
mod clock;
mod coding;
mod file;
mod packet;
mod pes;
mod tables;
#[cfg(test)]
mod tests;

pub use file::CONTAINER;
