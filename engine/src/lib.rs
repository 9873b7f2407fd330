//! The part of shardcast that decides. No socket, no clock, no thread, no file: a machine takes one input and the time,
//! is drained of outputs, and tells its next deadline.
#![forbid(unsafe_code)]

pub mod access;
pub mod bits;
pub mod canary;
pub mod codec;
pub mod container;
#[cfg(feature = "dash")]
pub mod dash;
pub mod datagram;
#[cfg(feature = "demo")]
pub mod demo;
pub mod error;
#[cfg(feature = "flv")]
pub mod flv;
#[cfg(feature = "fmp4")]
pub mod fmp4;
#[cfg(feature = "hls")]
pub mod hls;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "http2")]
pub mod http2;
pub mod hub;
pub mod limits;
pub mod media;
pub mod message;
#[cfg(feature = "mpegts")]
pub mod mpegts;
pub mod observe;
pub mod protocol;
#[cfg(feature = "record")]
pub mod record;
#[cfg(feature = "mpegts")]
pub mod relay;
#[cfg(feature = "rtmp")]
pub mod rtmp;
pub mod rtp;
#[cfg(feature = "rtsp")]
pub mod rtsp;
#[cfg(feature = "segment")]
pub mod segment;
pub mod session;
pub mod settings;
mod slab;
#[cfg(feature = "srt")]
pub mod srt;
pub mod stats;
pub mod storage;
pub mod stream;
pub mod time;
#[cfg(feature = "mpegts")]
pub mod udp;
#[cfg(feature = "webrtc")]
pub mod webrtc;
