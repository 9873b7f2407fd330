//! Recording for whoever embeds a node: segments of a stream as objects of a storage.
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use shardcast_engine::{
//!     codec::{Codec, Parameters},
//!     media::{Frame, Payload, TrackId},
//!     storage::StorageBackend as _,
//!     time::MediaTime,
//! };
//! use shardcast_shards::storage::{Memory, RecordingSink};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let storage = Arc::new(Memory::new());
//! # let spool = std::env::temp_dir().join(format!("shardcast-doc-{}", std::process::id()));
//! let mut sink = RecordingSink::builder(storage.clone(), "rec/radio")
//!     .segment(Duration::from_secs(60))
//!     .spool(&spool)
//!     .start()?;
//! let frame = |millis, payload| {
//!     let time = MediaTime::from_millis(millis);
//!     Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }
//! };
//! sink.frame(&frame(0, Payload::Parameters(Arc::new(Parameters::of_opus(2)))));
//! for packet in 0..100 {
//!     let data = bytes::Bytes::from_static(&[0xfc, 0, 0]);
//!     sink.frame(&frame(packet * 20, Payload::Audio { codec: Codec::Opus, data }));
//! }
//! sink.flush(Duration::from_secs(10))?;
//! assert_eq!(storage.list("rec/radio/")?.len(), 1);
//! # drop(sink);
//! # std::fs::remove_dir_all(spool)?;
//! # Ok(())
//! # }
//! ```

mod carrier;
mod folder;
mod memory;
mod sink;
mod spool;

pub use self::{
    carrier::RecordingEvent,
    folder::Folder,
    memory::Memory,
    sink::{NotStored, RecordingSink, RecordingSinkBuilder},
};
