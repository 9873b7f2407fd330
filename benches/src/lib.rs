//! Benches of the machines, and the load generator.
