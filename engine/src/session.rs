//! The contract between a protocol and the house: one peer's conversation, without its socket.
//!
//! A session takes bytes and the hub's answers, and is drained of bytes and wishes. What a viewer is sent once it plays
//! does not pass through its session: the hub sends it the shared blocks of the [`Form`] it asked for, and the session
//! only hears what the viewer still says.

use bytes::{Bytes, BytesMut};

use crate::{
    error::Error,
    media::{Frame, StreamName},
    time::Now,
};

/// One peer's conversation, without its socket. A plain value that can move to another core between two calls.
pub trait Session: Send {
    /// Takes one input. Drain [`poll`](Self::poll) before giving the next.
    ///
    /// # Errors
    /// The peer broke its protocol, or was too late. What [`poll`](Self::poll) still holds is sent (a protocol that has
    /// a word for the fault says it there), then the connection is closed.
    fn handle(&mut self, input: Input<'_>, now: Now) -> Result<(), Error>;
    /// The next thing to do, or `None` when there is nothing left.
    fn poll(&mut self) -> Option<Output>;
    /// When to bring [`Input::Timeout`] if nothing happens before.
    fn deadline(&self) -> Option<Now>;
    /// Bytes taken from the peer so far, for the place in a log line.
    fn received(&self) -> u64;
    /// True while the peer's bytes are best received straight into memory of the session, because it keeps most of them: a
    /// publisher's. The driver then brings [`Input::Filled`] instead of [`Input::Received`]; one that cannot may go on as
    /// before.
    fn lends(&self) -> bool {
        false
    }
    /// Memory for the peer's next bytes: room behind what stands in it already. Asked for only while
    /// [`lends`](Self::lends), and not again before it came back by [`Input::Filled`]; until then no bytes are brought in
    /// another way.
    fn lend(&mut self) -> BytesMut {
        BytesMut::new()
    }
}

/// What a session is told.
#[derive(Debug)]
pub enum Input<'a> {
    /// Bytes from the peer, cut anywhere; over UDP exactly one datagram.
    Received(&'a [u8]),
    /// What [`Session::lend`] gave is back, with more bytes from the peer at its end.
    Filled {
        /// The memory.
        memory: BytesMut,
        /// How many bytes have come, perhaps none.
        received: usize,
    },
    /// The hub's answer to [`Event::Publish`] or [`Event::Play`].
    Answer(Answer),
    /// The stream that this viewer plays has ended for good. Say goodbye and close.
    Ended,
    /// A viewer waits for a key frame. A publisher's protocol that has a word for it asks; others pass over it.
    KeyframeWanted,
    /// The deadline has come.
    Timeout,
    /// The node is going down. Say so where the protocol can, and close.
    Shutdown,
}

/// `bytes` from the peer as the input that `session` wants them by: as they are, or in memory that it lends.
pub fn input_of<'a>(session: &mut (impl Session + ?Sized), bytes: &'a [u8]) -> Input<'a> {
    if !session.lends() {
        return Input::Received(bytes);
    }
    let mut memory = session.lend();
    memory.extend_from_slice(bytes);
    Input::Filled { memory, received: bytes.len() }
}

/// The bytes that [`Input::Filled`] brings, for a session that keeps nothing in the memory it lends.
pub fn newest(memory: &[u8], received: usize) -> &[u8] {
    memory.get(memory.len().saturating_sub(received)..).unwrap_or_default()
}

/// The hub's answer to a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The stream is yours: frames may come ([`Event::Frame`]). Also told to a publisher that resumes its stream.
    Publishing,
    /// The stream is live: what is sent after this drains is the wire header and then the stream itself.
    Playing,
    /// No, and why.
    Refused(Refusal),
}

/// Why a wish was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another publisher holds the name.
    AlreadyLive,
    /// Nobody publishes this name.
    NotFound,
    /// The credentials do not allow it.
    Forbidden,
    /// A bound is reached (streams, viewers).
    Full,
    /// The node is going down.
    ShuttingDown,
    /// The form that was asked for cannot go over the peer's transport.
    Unsupported,
}

impl Refusal {
    /// A sentence for the peer and the log.
    pub const fn why(self) -> &'static str {
        match self {
            Refusal::AlreadyLive => "publisher already live",
            Refusal::NotFound => "no such stream",
            Refusal::Forbidden => "not allowed",
            Refusal::Full => "a limit of this server is reached",
            Refusal::ShuttingDown => "the server is shutting down",
            Refusal::Unsupported => "this form cannot be sent in datagrams",
        }
    }
}

/// What a session wants done.
#[derive(Debug)]
pub enum Output {
    /// Bytes for the peer; over UDP exactly one datagram. Between two frames when the peer is a viewer, never inside one.
    Send(Bytes),
    /// Something for the hub.
    Event(Event),
    /// Send what waits, then close; over UDP, forget the address.
    Close,
}

/// What a session tells the hub.
#[derive(Debug)]
pub enum Event {
    /// The peer wants to publish. Answered by [`Input::Answer`]; until then the hub keeps what the peer sends.
    Publish {
        /// The stream.
        name: StreamName,
        /// The query of the URL without its `?`, where tokens and keys stand. May be empty.
        query: String,
    },
    /// The peer wants to play. Answered by [`Input::Answer`].
    Play {
        /// The stream.
        name: StreamName,
        /// As for [`Event::Publish`].
        query: String,
        /// The bytes it wants.
        form: &'static Form,
    },
    /// A frame of the stream that this peer publishes.
    Frame(Frame),
    /// The publisher says that it is done. The connection may go on.
    Unpublish,
    /// The viewer wants no more. The connection may go on.
    Stop,
    /// The viewer wants the stream held (true), or to go on from the newest key frame (false).
    Pause(bool),
    /// Something worth one log line that is not an error: what the peer did, and what was done about it.
    Remark(&'static str),
}

/// A wire form: frames to bytes that are the same for all viewers of a stream. One `static` per form; two forms are the
/// same when they are the same static.
pub struct Form {
    /// A short name for metrics, `rtmp`, `flv`.
    pub name: &'static str,
    /// Bytes of a datagram, when the form may be cut into datagrams: what [`Wire`] writes for a header and for each frame is
    /// cut each so many bytes, and whoever is sent a run of such pieces can use each of them. MPEG-TS has 1316, seven of its
    /// packets. `None` keeps the form off UDP.
    pub datagram: Option<u16>,
    /// Makes the muxer of one log.
    pub open: fn() -> Box<dyn Wire>,
}

impl PartialEq for Form {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl std::fmt::Debug for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Form({})", self.name)
    }
}

/// Muxes the frames of one stream to the bytes of one wire form, once for all viewers on a core.
///
/// What [`frame`](Self::frame) writes must be whole and stand alone: a viewer may enter before any key frame, and may
/// leave out any run of frames that ends before one.
pub trait Wire: Send {
    /// What a new viewer gets before its first frame: the container's head, then what `opening` holds (metadata,
    /// parameters, colour), in the form's own framing. `at` is the time of the first frame that follows.
    fn header(&mut self, opening: &Opening, at: &Frame, out: &mut BytesMut);
    /// What a viewer gets that jumped to another key frame and may have missed a change of parameters: as
    /// [`header`](Self::header), without the container's head.
    fn refresh(&mut self, opening: &Opening, at: &Frame, out: &mut BytesMut);
    /// One frame. Writes nothing for what the form cannot say.
    fn frame(&mut self, frame: &Frame, out: &mut BytesMut);
}

/// What a viewer must know before its first frame: the latest frames of each kind that is kept, in the order metadata,
/// parameters of each track, colour.
#[derive(Clone, Debug, Default)]
pub struct Opening {
    /// `onMetaData` of the publisher.
    pub metadata: Option<Frame>,
    /// Parameters per track, ordered by track.
    pub parameters: Vec<Frame>,
    /// Colour and HDR metadata.
    pub color: Option<Frame>,
}
