//! Marries the machines of the engine with the kernel of io: one executor per core, drivers, mesh, control thread.
#![forbid(unsafe_code)]

pub mod cli;
pub mod commands;
pub mod config;
pub mod control;
pub mod disk;
pub mod doctor;
pub mod host;
pub mod mesh;
pub mod node;
pub mod profile;
pub mod shard;
pub mod status;
