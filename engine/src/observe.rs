//! What a host is told of the life of its streams: as data, so that whoever listens may be as slow as they like.

use std::{fmt, net::SocketAddr};

use crate::{access::Action, media::StreamName};

/// Something that happened. Told once per node, whichever core saw it.
///
/// ```
/// use shardcast_engine::{media::StreamName, observe::StreamEvent};
///
/// let event = StreamEvent::Published { name: StreamName::parse("live/cam")?, resumed: false };
/// assert_eq!(event.to_string(), "live/cam: published");
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// A stream has a publisher: its first, or (`resumed`) one that came back or took over.
    Published {
        /// The stream.
        name: StreamName,
        /// It goes on with the same stream.
        resumed: bool,
    },
    /// Its publisher has gone; the stream waits for `reconnect_window`.
    Unpublished {
        /// The stream.
        name: StreamName,
    },
    /// It is over.
    Ended {
        /// The stream.
        name: StreamName,
    },
    /// Somebody watches it or fetches it by segments, or waits for it to be published, and nobody did before.
    FirstViewer {
        /// The stream.
        name: StreamName,
    },
    /// Nobody watches it any more, or fetches it.
    LastViewer {
        /// The stream.
        name: StreamName,
    },
    /// A viewer was too slow, and has gone on at a newer key frame.
    Lagged {
        /// The stream.
        name: StreamName,
    },
    /// The publisher's clock has jumped, or another publisher goes on: what follows does not continue what came before.
    Discontinuity {
        /// The stream.
        name: StreamName,
    },
    /// A peer's wish was answered.
    Answered {
        /// The stream.
        name: StreamName,
        /// What was wanted.
        action: Action,
        /// Who.
        peer: SocketAddr,
        /// By which door.
        door: &'static str,
        /// Why not, if it was refused.
        refused: Option<&'static str>,
    },
    /// Something that an operator must look at.
    Alarm {
        /// The stream, if it is about one.
        name: Option<StreamName>,
        /// What happened.
        text: String,
    },
}

impl fmt::Display for StreamEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, what) = match self {
            StreamEvent::Published { name, resumed: false } => (name, "published"),
            StreamEvent::Published { name, resumed: true } => (name, "published again"),
            StreamEvent::Unpublished { name } => (name, "publisher gone"),
            StreamEvent::Ended { name } => (name, "ended"),
            StreamEvent::FirstViewer { name } => (name, "first viewer"),
            StreamEvent::LastViewer { name } => (name, "last viewer gone"),
            StreamEvent::Lagged { name } => (name, "a viewer was too slow"),
            StreamEvent::Discontinuity { name } => (name, "discontinuity"),
            StreamEvent::Answered { name, action, peer, door, refused } => {
                let wanted = match action {
                    Action::Publish => "publish",
                    Action::Play => "play",
                };
                let answer = refused.unwrap_or("granted");
                return write!(f, "{name}: {peer} wants to {wanted} by {door}: {answer}");
            }
            StreamEvent::Alarm { name: Some(name), text } => return write!(f, "{name}: {text}"),
            StreamEvent::Alarm { name: None, text } => return f.write_str(text),
        };
        write!(f, "{name}: {what}")
    }
}
