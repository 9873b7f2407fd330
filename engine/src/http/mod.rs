//! The HTTP door: requests, the FLV streams that answer them, WebSocket, and the page that plays.
//!
//! | path | what stands there |
//! | --- | --- |
//! | `/APP/STREAM.flv` | the stream: an endless chunked answer, or a WebSocket of binary messages |
//! | `/APP/STREAM/` | a page that plays it |
//! | `/` | a page that says so |
//! | `/assets/...` | what those pages are made of |
//!
//! [`Session`] decides; [`request`], [`response`], [`route`] and [`websocket`] are its reading and writing; [`wire`] has
//! the forms that its viewers are sent.

pub mod page;
pub mod request;
pub mod response;
pub mod route;
pub mod session;
pub mod websocket;
pub mod wire;

pub use session::Session;
