//! The HTTP door: requests, the FLV streams that answer them, WebSocket, and the page that plays.
//!
//! | path | what stands there |
//! | --- | --- |
//! | `/APP/STREAM.flv`, `/APP/STREAM.ts` | the stream: an endless chunked answer, or a WebSocket of binary messages |
//! | `/APP/STREAM/` | a page that plays it |
//! | `/APP/STREAM/index.m3u8`, `/APP/STREAM/manifest.mpd` | the stream by segments: HLS and DASH, and what these name |
//! | `/APP/STREAM/whip`, `/APP/STREAM/whep` | conversations by WebRTC are asked for: to send the stream, to watch it |
//! | `/` | a page that says so |
//! | `/assets/...` | what those pages are made of |
//!
//! [`Session`] decides; [`request`], [`response`], [`route`] and [`websocket`] are its reading and writing; [`wire`] has
//! the forms that its viewers are sent.

#[cfg(feature = "webrtc")]
mod body;
#[cfg(feature = "segment")]
mod fetch;
pub mod page;
pub mod request;
pub mod response;
pub mod route;
pub mod session;
pub mod websocket;
pub mod wire;

pub use session::Session;
