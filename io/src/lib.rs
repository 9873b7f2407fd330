//! Touches the kernel and the neighbour core; the only room with unsafe code. Never sees a frame.
//!
//! - [`ring`] is the hot path: one raw io_uring per shard for accept, receive, send and file writes.
//! - [`ktls`] gives a connection's keys to the kernel, which then seals and opens by itself.
//! - [`tcp`] opens listening sockets and sets socket options, [`udp`] opens sockets for datagrams.
//! - [`mod@file`] creates what is recorded into, with a helper thread for what would block a shard.
//! - [`buffer`] is the memory that the kernel reads and writes.
//! - `heap`, with the feature of that name, is where the binaries have their memory from.
//! - `libsrt`, with the feature of that name, is the system's library of that name.
//! - [`lane`] carries messages to another core and wakes it.
//! - [`cpu`] says which cores there are, and which of them shards take.
//! - [`clock`] and [`probe`] say when it is and what this kernel offers.

pub mod address;
pub mod buffer;
pub mod cache;
pub mod clock;
pub mod cpu;
pub mod file;
#[cfg(feature = "heap")]
pub mod heap;
pub mod ktls;
pub mod lane;
#[cfg(feature = "libsrt")]
pub mod libsrt;
pub mod probe;
pub mod ring;
mod slots;
mod system;
pub mod tcp;
pub mod udp;
