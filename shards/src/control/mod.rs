//! What is not on the frame path: how a shard is asked and told ([`link`]), what is made of its answers ([`metrics`]), and, for
//! the binary, the control thread with its door, its log and its signals.

#[cfg(feature = "server")]
pub mod http;
pub mod link;
#[cfg(feature = "server")]
pub mod log;
pub mod metrics;
#[cfg(feature = "server")]
mod shards;
#[cfg(feature = "server")]
pub mod signals;
#[cfg(feature = "server")]
mod thread;

#[cfg(feature = "server")]
pub use self::{
    shards::Shards,
    thread::{Control, End, announce},
};
