//! The table of protocols: a name, how long a peer may take, how a conversation is opened. Listeners, config, metrics
//! and tests walk the rows; a stranger's row is handled like a built-in one.

use crate::{limits::DoorLimits, session::Session, time::Now};

/// A row of the table.
#[derive(Clone, Copy)]
pub struct Protocol {
    /// The door's name: in the config, in log lines, in metrics.
    pub name: &'static str,
    /// The TCP port it usually has.
    pub port: u16,
    /// Opens the conversation with a peer that has just connected.
    pub open: fn(&DoorLimits, Now) -> Box<dyn Session>,
}

impl std::fmt::Debug for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Protocol({})", self.name)
    }
}

/// The built-in rows that this build has.
pub fn built_in() -> Vec<Protocol> {
    vec![
        #[cfg(feature = "rtmp")]
        RTMP,
        #[cfg(feature = "http")]
        HTTP,
    ]
}

/// RTMP: publish and play.
#[cfg(feature = "rtmp")]
pub const RTMP: Protocol = Protocol {
    name: "rtmp",
    port: 1935,
    open: |limits, now| Box::new(crate::rtmp::Session::new(limits, now)),
};

/// HTTP: FLV streams, WebSocket, the page that plays.
#[cfg(feature = "http")]
pub const HTTP: Protocol = Protocol {
    name: "http",
    port: 8080,
    open: |limits, now| Box::new(crate::http::Session::new(limits, now)),
};

/// The built-in clip, published by nobody; it has no door.
#[cfg(feature = "demo")]
pub const DEMO: Protocol =
    Protocol { name: "demo", port: 0, open: |_, now| Box::new(crate::demo::Session::new(now)) };
