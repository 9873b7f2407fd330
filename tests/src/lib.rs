//! Tests that need more than one room: the simulated world, real clients, the rules of the house.

pub mod clients;
pub mod sim;
