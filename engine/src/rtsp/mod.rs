//! RTSP 1.0 (RFC 2326): publish by `ANNOUNCE` and `RECORD`, play by `DESCRIBE` and `PLAY`, the media inside the connection.
//!
//! [`Client`] is the other side of it: it publishes a stream of here on another server.
//!
//! What viewers are sent is the same for all of a stream ([`FORMS`]): packets of RTP behind the head of RFC 2326, 10.12, on
//! channels that the server chooses.

mod address;
mod auth;
pub mod client;
mod inbox;
pub mod sdp;
mod session;
mod transport;
mod wire;

pub use client::Client;
pub use session::Session;
pub use wire::FORMS;
