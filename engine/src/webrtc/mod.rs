//! WebRTC: streams in by WHIP (RFC 9725), out by WHEP (draft-ietf-wish-whep). What is asked comes by HTTP
//! ([`signal`](crate::session::signal)), the media by datagrams.

pub mod wire;

pub use wire::FORM;
