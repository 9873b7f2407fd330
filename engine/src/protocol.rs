//! The table of protocols: a name, what carries it, how a conversation is opened. Listeners, config, metrics
//! and tests walk the rows; a stranger's row is handled like a built-in one.

#[cfg(all(test, feature = "rtsp"))]
mod conversations;
pub mod fuzz;

use crate::{
    datagram::{Datagrams, Greet},
    limits::DoorLimits,
    session::Session,
    time::Now,
};

/// A row of the table.
///
/// ```
/// # use std::collections::VecDeque;
/// # use shardcast_engine::{error::Error, limits::DoorLimits, session::{Input, Output, Session}, time::Now};
/// use shardcast_engine::protocol::{Protocol, Transport};
///
/// # struct Hello(Now);
/// # impl Session for Hello {
/// #     fn handle(&mut self, _: Input<'_>, _: Now) -> Result<(), Error> { Ok(()) }
/// #     fn poll(&mut self) -> Option<Output> { None }
/// #     fn deadline(&self) -> Option<Now> { Some(self.0) }
/// #     fn received(&self) -> u64 { 0 }
/// # }
/// const HELLO: Protocol = Protocol {
///     name: "hello",
///     port: 7000,
///     transport: Transport::Udp,
///     greet: None,
///     open: |limits, now| Box::new(Hello(now.after(limits.idle))),
/// };
/// let session = HELLO.begin(&DoorLimits::default(), Now(0));
/// assert_eq!(session.deadline(), Some(Now(60_000_000_000)));
/// ```
#[derive(Clone, Copy)]
pub struct Protocol {
    /// The door's name: in the config, in log lines, in metrics.
    pub name: &'static str,
    /// The port it usually has.
    pub port: u16,
    /// What carries its bytes.
    pub transport: Transport,
    /// Looks at each datagram before anybody else does, where a peer has to show that its address is its own before it is given a
    /// session. Without it the first datagram opens one.
    pub greet: Option<Greet>,
    /// Opens the conversation with a peer that has just connected, or whose first datagram has come.
    pub open: fn(&DoorLimits, Now) -> Box<dyn Session>,
}

/// What carries a protocol's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A connection; its bytes come cut anywhere.
    Tcp,
    /// Datagrams. A peer is the address that they come from: the first one opens its session, and closing forgets the
    /// address. [`datagram`](crate::datagram) says what holds for such a session.
    Udp,
    /// Datagrams, by a port of each shard's own: the usual one and the shard's number. A session is opened by a
    /// [`Signal`](crate::session::signal::Signal) that came by another door; it is told where it
    /// [is met](Session::meets_at), then the signal, and may be met at several addresses of its peer.
    Signalled,
}

impl Protocol {
    /// Opens the conversation with a peer that has just come.
    pub fn begin(&self, limits: &DoorLimits, now: Now) -> Box<dyn Session> {
        let session = (self.open)(limits, now);
        match self.transport {
            Transport::Tcp | Transport::Signalled => session,
            Transport::Udp => Box::new(Datagrams::new(session)),
        }
    }
}

impl std::fmt::Debug for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Protocol({})", self.name)
    }
}

/// The built-in rows that this build has.
///
/// ```
/// use shardcast_engine::protocol::built_in;
///
/// let rtmp = built_in().into_iter().find(|row| row.name == "rtmp");
/// assert_eq!(rtmp.map(|row| row.port), Some(1935));
/// ```
pub fn built_in() -> Vec<Protocol> {
    vec![
        #[cfg(feature = "rtmp")]
        RTMP,
        #[cfg(feature = "http")]
        HTTP,
        #[cfg(feature = "rtsp")]
        RTSP,
        #[cfg(feature = "srt")]
        SRT,
        #[cfg(feature = "webrtc")]
        WEBRTC,
    ]
}

/// RTMP: publish and play.
#[cfg(feature = "rtmp")]
pub const RTMP: Protocol = Protocol {
    name: "rtmp",
    port: 1935,
    transport: Transport::Tcp,
    greet: None,
    open: |limits, now| Box::new(crate::rtmp::Session::new(limits, now)),
};

/// RTSP: publish and play, the media inside the connection.
///
/// ```
/// use shardcast_engine::{limits::DoorLimits, protocol::RTSP, session::{Input, Output}, time::Now};
///
/// let mut session = RTSP.begin(&DoorLimits::default(), Now(0));
/// session.handle(Input::Received(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n"), Now(0))?;
/// let Some(Output::Send(answer)) = session.poll() else { panic!("it is answered") };
/// assert!(answer.starts_with(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n"));
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
#[cfg(feature = "rtsp")]
pub const RTSP: Protocol = Protocol {
    name: "rtsp",
    port: 8554,
    transport: Transport::Tcp,
    greet: None,
    open: |limits, now| Box::new(crate::rtsp::Session::new(limits, now)),
};

/// SRT: publish and play MPEG-TS over UDP, with what is lost sent again.
///
/// ```
/// use shardcast_engine::{limits::DoorLimits, protocol::SRT, session::Input, time::Now};
///
/// let mut session = SRT.begin(&DoorLimits::default(), Now(0));
/// let error = session.handle(Input::Received(b"no handshake"), Now(0)).unwrap_err();
/// assert_eq!(error.why, "a connection that does not begin with a handshake");
/// ```
#[cfg(feature = "srt")]
pub const SRT: Protocol = Protocol {
    name: "srt",
    port: 8890,
    transport: Transport::Udp,
    greet: Some(crate::srt::greet),
    open: |limits, now| Box::new(crate::srt::Session::new(limits, now)),
};

/// WebRTC: what WHIP and WHEP ask for at the HTTP door.
///
/// ```
/// use shardcast_engine::{limits::DoorLimits, protocol::WEBRTC, session::Input, time::Now};
///
/// // One that nothing is offered to does not stay.
/// let limits = DoorLimits::default();
/// let mut session = WEBRTC.begin(&limits, Now(0));
/// assert_eq!(session.deadline(), Some(Now(0).after(limits.handshake)));
/// ```
#[cfg(feature = "webrtc")]
pub const WEBRTC: Protocol = Protocol {
    name: "webrtc",
    port: 8189,
    transport: Transport::Signalled,
    greet: Some(crate::webrtc::greet),
    open: |limits, now| Box::new(crate::webrtc::Session::new(limits, now)),
};

/// HTTP: FLV streams, WebSocket, the page that plays.
#[cfg(feature = "http")]
pub const HTTP: Protocol = Protocol {
    name: "http",
    port: 8080,
    transport: Transport::Tcp,
    greet: None,
    open: |limits, now| Box::new(crate::http::Session::new(limits, now)),
};

/// The built-in clip, published by nobody; it has no door.
///
/// ```
/// use shardcast_engine::{limits::DoorLimits, protocol::DEMO, session::{Event, Input, Output}, time::Now};
///
/// let mut session = DEMO.begin(&DoorLimits::default(), Now(0));
/// session.handle(Input::Timeout, Now(0))?;
/// // It asks for its name; its frames come once that is granted.
/// let asked = session.poll();
/// assert!(matches!(asked, Some(Output::Event(Event::Publish { name, .. })) if name.as_str() == "live/demo"));
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
#[cfg(feature = "demo")]
pub const DEMO: Protocol = Protocol {
    name: "demo",
    port: 0,
    transport: Transport::Tcp,
    greet: None,
    open: |_, now| Box::new(crate::demo::Session::new(now)),
};
