//! RTSP 1.0 (RFC 2326): publish by `ANNOUNCE` and `RECORD`, play by `DESCRIBE` and `PLAY`, the media inside the connection.
//!
//! What viewers are sent is the same for all of a stream ([`FORMS`]): packets of RTP behind the head of RFC 2326, 10.12, on
//! channels that the server chooses.

mod address;
mod auth;
mod inbox;
pub mod sdp;
mod session;
mod transport;
mod wire;

pub use session::Session;
pub use wire::FORMS;
