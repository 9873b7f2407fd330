//! HTTP/2 for the HTTP doors (RFC 9113): one connection that carries many requests, as a machine without its socket.
//!
//! A [`Trunk`] is such a connection; each of its streams is a *branch*, which to the hub is a connection of its own with a
//! session of its own. Frames, header compression and flow control are the crate `h2`'s, which reads and writes memory here
//! (`pipe.rs`) and is polled whenever there is something for it. The way between ring, trunk and hub is the shard's
//! (`shards/src/shard/trunks.rs`).

mod credit;
mod pipe;
mod text;
pub mod trunk;

pub use self::trunk::{BranchId, Fault, Output, Trunk};

/// The doors that speak HTTP/2 to whoever does: those of the built-in row `http`.
pub const DOORS: [&str; 2] = ["http", "https"];

/// What a client that speaks HTTP/2 says first (RFC 9113, 3.4). In the clear it is the only sign of it.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
