//! Tests that need more than one room: the simulated world, real clients, the rules of the house.
#![forbid(unsafe_code)]

pub mod archive;
pub mod clients;
pub mod conversations;
pub mod hls_rules;
pub mod sim;
