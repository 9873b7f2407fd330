//! WebRTC: streams in by WHIP (RFC 9725), out by WHEP (draft-ietf-wish-whep). What is asked comes by HTTP
//! ([`signal`](crate::session::signal)), the media by datagrams.
//!
//! `session.rs` is the hub's contract; `offer.rs` reads what is offered, `peer.rs` holds the library that does ICE, DTLS, SRTP and
//! RTCP, `publisher.rs` makes frames of packets, `viewer.rs` sends the packets that `wire.rs` makes of frames.

mod counted;
mod epoch;
mod fragment;
mod greeting;
mod offer;
mod peer;
mod publisher;
mod runs;
mod session;
#[cfg(test)]
mod tests;
mod viewer;
pub mod wire;

pub use greeting::greet;
pub use session::Session;
