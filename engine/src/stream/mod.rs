//! One stream: numbering, the kept group, wire logs of blocks, the policy for slow viewers.
//!
//! A stream stands on its owner's core, where the publisher's frames are numbered ([`Publication`]), and as a replica on
//! every core that has viewers of it. Both hold the same two things: the [`Group`] of frames since the last entrance, and
//! one [`Log`] per wire form. No protocol is known here; a form is a `Wire` from elsewhere.

mod group;
mod log;
mod publication;
mod timeline;
mod viewer;

pub use group::{Group, Numbered, Place};
pub use log::{Block, Log};
pub use publication::{Numbering, Placed, Publication, Start, Subscriber, window_end};
pub use timeline::Timeline;
pub use viewer::{Next, Viewer};
