//! RTMP, server and client half, as machines without a socket (Adobe "Real Time Messaging Protocol" 1.0, and "Enhanced
//! RTMP" v2).
//!
//! From the bytes up: [`handshake`], [`chunk`] (bytes to messages), [`message`], [`amf3`] beside the AMF0 of
//! [`flv`](crate::flv), and on top the two halves of a conversation, [`Session`] and [`Client`]. What messages carry is
//! FLV. [`FORM`] is what viewers are sent.

pub mod amf3;
pub mod chunk;
pub mod client;
mod command;
pub mod handshake;
mod ingest;
mod link;
pub mod message;
mod session;
mod wire;

pub use client::Client;
pub use session::Session;
pub use wire::{CHUNK_SIZE, FORM};

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod pair;
