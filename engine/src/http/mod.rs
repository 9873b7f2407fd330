//! The HTTP door: requests, the FLV streams that answer them, WebSocket, and the page that plays.
//!
//! | path | what stands there |
//! | --- | --- |
//! | `/APP/STREAM.flv` | the stream |
//! | `/APP/STREAM/` | a page that plays it |
//! | `/` | a page that says so |
//! | `/assets/...` | what those pages are made of |

pub mod page;
pub mod request;
pub mod response;
pub mod route;
pub mod websocket;
