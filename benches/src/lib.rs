//! `shardcast-bench`: what any live-media server costs, measured from outside.
//!
//! A *scenario* says what is published and who watches; a *server file* says how a server is started and where its doors
//! are. `run` starts the server on its cores and the load on another, and gives an [`outcome::Outcome`]; `compare`
//! does so for several servers in turn. The *floors* are servers too: they send the same bytes with no server logic, so
//! that every figure has something to be a ratio of.
//!
//! - [`cli`] is the command line. [`scenario`] and [`server`] are the two kinds of file, [`units`] how durations, rates and
//!   sizes are written in them, [`url`] where doors are.
//! - [`clip`] and [`stamp`] are what is published: a recorded clip, each picture with its number and the time it left.
//! - [`load`] is one thread with one ring: publishers, viewers that are only drained, and viewers that parse everything.
//!   [`player`] is what viewers decide that ask for one piece after the other: HLS and DASH.
//!   [`webrtc`] is both of them by WHIP and WHEP, with str0m.
//! - [`measure`] makes one run and [`progress`] tells how it goes on; [`process`] reads from `/proc` what the server takes,
//!   [`prometheus`] what it says of itself, [`recordings`] what it has written.
//! - [`floor`] is the bare kernel: senders, relay, receiver, writer.
//! - [`outcome`] is what comes of a run, with its quantiles by [`histogram`]; [`verdict`] says what it is worth,
//!   [`comparison`] sets several side by side, [`report`] shows both as text and as a page.
//! - [`room`] is a hub without sockets, for the micro benches.
#![forbid(unsafe_code)]

pub mod cli;
pub mod clip;
pub mod comparison;
pub mod floor;
pub mod histogram;
pub mod load;
pub mod measure;
pub mod outcome;
pub mod player;
pub mod process;
pub mod progress;
pub mod prometheus;
pub mod recordings;
pub mod report;
pub mod room;
pub mod scenario;
pub mod server;
pub mod stamp;
pub mod units;
pub mod url;
pub mod verdict;
pub mod webrtc;
