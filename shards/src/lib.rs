//! Marries the machines of the engine with the kernel of io: one executor per core, drivers, mesh, control thread.
//!
//! A program that embeds a node finds all it needs in [`host`] and [`storage`]; the feature `server` adds what only the binary
//! has.
#![forbid(unsafe_code)]

mod chance;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod commands;
#[cfg(feature = "server")]
pub mod config;
pub mod control;
mod dial;
pub mod disk;
#[cfg(feature = "server")]
pub mod doctor;
pub mod host;
#[cfg(feature = "libsrt")]
mod libsrt;
pub mod mesh;
pub mod node;
pub mod profile;
#[cfg(feature = "server")]
pub mod pull;
pub mod shard;
#[cfg(feature = "sound")]
pub mod sound;
#[cfg(feature = "server")]
pub mod status;
pub mod storage;
pub mod tls;
