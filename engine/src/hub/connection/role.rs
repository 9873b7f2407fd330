//! What a peer is doing, and what it waits for.

#[cfg(feature = "segment")]
use crate::segment::Item;
use crate::{
    hub::streams::StreamId,
    media::StreamName,
    message::CoreId,
    session::{Answer, Form, Input, Start},
    stream::Viewer,
    time::Now,
};

/// What a peer is doing.
// Most peers are viewers, and a box of their own would be another line of memory to fetch for each send.
#[allow(clippy::large_enum_variant)]
pub enum Role {
    /// It has asked for nothing, or is done with what it asked for.
    Talking,
    /// It wants to publish a stream that another core owns; it moves there when its outbox is empty.
    Moving { to: CoreId, name: StreamName, quiet: bool },
    /// It publishes.
    Publishing { stream: StreamId, epoch: u64 },
    /// Somebody else is asked whether it may do what it wants.
    Judged { wish: Box<Judged>, until: Now },
    /// It waits for a stream that is not here yet.
    Waiting { stream: StreamId, awaited: Awaited, until: Option<Now> },
    /// It has asked for something that has not been made yet.
    #[cfg(feature = "segment")]
    Held { package: crate::hub::packaging::PackageId, item: Box<Item>, until: Now },
    /// It plays.
    Viewing { stream: StreamId, form: &'static Form, viewer: Viewer, leaving: Leaving },
}

impl Role {
    /// Where a viewer begins that is told by `input` that it plays, if that is chosen and its form has numbers for it.
    pub fn starts_for(&self, input: &Input<'_>) -> Option<Vec<Start>> {
        match (self, input) {
            (Role::Viewing { viewer, .. }, Input::Answer(Answer::Playing)) => {
                Some(viewer.starts().to_vec()).filter(|starts| !starts.is_empty())
            }
            _ => None,
        }
    }
}

/// What somebody waits for who waits for a stream.
#[derive(Clone)]
pub enum Awaited {
    /// To play it.
    Play(&'static Form),
    /// To be told what is in it, by this time. It is looked at again and again until that is known.
    Description { by: Now },
    /// To be given something of it that is cut, by this time. Likewise.
    #[cfg(feature = "segment")]
    Fetch {
        item: Box<Item>,
        /// Stands for stream and credentials.
        token: u64,
        by: Now,
    },
}

impl Awaited {
    /// Until when it is looked at again and again, if it is.
    pub fn looks_until(&self) -> Option<Now> {
        match self {
            Awaited::Play(_) => None,
            Awaited::Description { by } => Some(*by),
            #[cfg(feature = "segment")]
            Awaited::Fetch { by, .. } => Some(*by),
        }
    }
}

/// A wish that waits for a verdict.
pub struct Judged {
    /// Which verdict is its own.
    pub ticket: u64,
    pub name: StreamName,
    pub wanted: Wanted,
}

/// What a wish is.
pub enum Wanted {
    Publish,
    Play(&'static Form),
    Describe,
    #[cfg(feature = "segment")]
    Fetch {
        item: Box<Item>,
        /// Stands for stream and credentials.
        token: u64,
    },
}

/// Whether a viewer is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// No.
    No,
    /// At the end of the frame it is in; the connection stays.
    Stopping,
    /// When it has had everything: the stream has ended.
    Ended,
}
