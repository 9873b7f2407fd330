//! The contract between a protocol and the house: one peer's conversation, without its socket.
//!
//! A session takes bytes and the hub's answers, and is drained of bytes and wishes. What a viewer is sent once it plays
//! does not pass through its session: the hub sends it the shared blocks of the [`Form`] it asked for, and the session
//! only hears what the viewer still says.

mod ports;
mod reorder;
mod shelf;
pub mod signal;

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};

#[cfg(feature = "segment")]
use crate::segment::{Found, Item};
use crate::{
    access::Proof,
    error::Error,
    media::{Frame, StreamName, TrackId},
    stats::PathStats,
    time::{MediaTime, Now, Wall},
};

pub use self::ports::{PortOffer, Ports};
pub use self::reorder::Reorder;
pub(crate) use self::reorder::Showing;
pub use self::shelf::Shelf;
use self::signal::{Reply, Signal, Venue};

/// One peer's conversation, without its socket. A plain value that can move to another core between two calls.
///
/// ```
/// # use std::collections::VecDeque;
/// # use bytes::Bytes;
/// # use shardcast_engine::{error::Error, session::{Input, Output, Session}, time::Now};
/// # #[derive(Default)]
/// # struct Echo { received: u64, outbox: VecDeque<Output> }
/// impl Session for Echo {
///     fn handle(&mut self, input: Input<'_>, _: Now) -> Result<(), Error> {
///         let Input::Received(bytes) = input else { return Ok(()) };
///         self.received += bytes.len() as u64;
///         self.outbox.push_back(Output::Send(Bytes::copy_from_slice(bytes)));
///         Ok(())
///     }
///     fn poll(&mut self) -> Option<Output> { self.outbox.pop_front() }
///     fn deadline(&self) -> Option<Now> { None }
///     fn received(&self) -> u64 { self.received }
/// }
/// # let mut echo = Echo::default();
/// # echo.handle(Input::Received(b"hello"), Now(0))?;
/// # assert!(matches!(echo.poll(), Some(Output::Send(bytes)) if bytes == &b"hello"[..]));
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
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
    /// True when the session carries the stream to its viewer itself, because each viewer's bytes differ: its transport counts what
    /// it sends, keeps it, and sends it again. The same answer for as long as the session lives. What it is given is of the
    /// [`Form`] that it asked for.
    fn carries(&self) -> bool {
        false
    }
    /// Bytes of the stream that it can take now. While that is none the viewer lags; it is asked again after each input.
    fn room(&mut self, now: Now) -> usize {
        let _ = now;
        0
    }
    /// Takes bytes of the stream, from the first on; says how many. The rest is given again. Called only where there is
    /// [`room`](Self::room), and then takes at least what is no longer than
    /// [`CARRIED_HEADER_BYTES_MAX`](crate::limits::CARRIED_HEADER_BYTES_MAX). What it sends for them comes by [`poll`](Self::poll).
    /// What it has to keep of them for itself it takes from the `shelf`, where others on its core find the same.
    fn carry(&mut self, bytes: &Bytes, shelf: &mut Shelf, now: Now) -> usize {
        let _ = (bytes, shelf, now);
        0
    }
    /// What it has counted on its way to the peer, if its transport counts.
    fn path(&self) -> Option<PathStats> {
        None
    }
    /// Datagrams may go beside the connection, by these ports. Said before the first input, and again when the session has moved
    /// to another core; not at all where they cannot, or where the connection hides what it carries and they would not.
    fn offer_ports(&mut self, offer: PortOffer) {
        let _ = offer;
    }
    /// Where it is met, if a [`Signal`] has opened it: said before that.
    fn meets_at(&mut self, venue: Venue) {
        let _ = venue;
    }
    /// The first packets that this viewer is sent, each track's with its numbers: said right before [`Answer::Playing`], of a form
    /// that [counts](Wire::starts), if there is an entrance to begin at. Whoever is held or lags meanwhile may begin later.
    fn begins_at(&mut self, starts: &[Start]) {
        let _ = starts;
    }
}

/// What a session is told.
#[derive(Debug)]
pub enum Input<'a> {
    /// Bytes from the peer, cut anywhere; over UDP exactly one datagram.
    Received(&'a [u8]),
    /// A datagram from one of the ports of [`Output::Ports`].
    Datagram {
        /// The channel of the port.
        channel: u8,
        /// What came; not empty.
        bytes: &'a [u8],
    },
    /// A datagram, and where it came from: to a session that may be met at several addresses ([`Output::Datagram`]).
    From {
        /// The address. Whether it is the peer's, the session finds out.
        address: SocketAddr,
        /// What came; not empty.
        bytes: &'a [u8],
    },
    /// What [`Session::lend`] gave is back, with more bytes from the peer at its end.
    Filled {
        /// The memory.
        memory: BytesMut,
        /// How many bytes have come, perhaps none.
        received: usize,
    },
    /// The hub's answer to [`Event::Publish`] or [`Event::Play`], or its refusal of [`Event::Describe`] and [`Event::Fetch`].
    Answer(Answer),
    /// What is in the stream that [`Event::Describe`] asked for.
    Described(Box<Opening>),
    /// Something about this conversation, asked by another connection. Answered by [`Event::Reply`].
    Signal(&'a Signal),
    /// The answer to [`Event::Signal`].
    Signalled(Box<Reply>),
    /// What [`Event::Fetch`] asked for.
    #[cfg(feature = "segment")]
    Fetched(Found),
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
///
/// ```
/// use shardcast_engine::{limits::DoorLimits, protocol::HTTP, session::{Output, input_of}, time::Now};
///
/// let mut session = HTTP.begin(&DoorLimits::default(), Now(0));
/// let input = input_of(&mut *session, b"HELLO? / HTTP/1.1\r\n\r\n");
/// let result = session.handle(input, Now(0));
/// // What it says about the fault is sent all the same.
/// assert!(result.is_err() && matches!(session.poll(), Some(Output::Send(_))));
/// ```
pub fn input_of<'a>(session: &mut (impl Session + ?Sized), bytes: &'a [u8]) -> Input<'a> {
    if !session.lends() {
        return Input::Received(bytes);
    }
    let mut memory = session.lend();
    memory.extend_from_slice(bytes);
    Input::Filled { memory, received: bytes.len() }
}

/// The bytes that [`Input::Filled`] brings, for a session that keeps nothing in the memory it lends.
///
/// ```
/// use shardcast_engine::session::newest;
///
/// assert_eq!(newest(b"what was there, and what is new", 3), b"new");
/// ```
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
///
/// ```
/// use shardcast_engine::session::{Answer, Refusal};
///
/// let answer = Answer::Refused(Refusal::AlreadyLive);
/// if let Answer::Refused(refusal) = answer {
///     assert_eq!(refusal.why(), "publisher already live");
/// }
/// ```
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
    /// What was waited for did not come.
    TooLate,
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
            Refusal::TooLate => "it was not there in time",
        }
    }
}

/// What a session wants done.
#[derive(Debug)]
pub enum Output {
    /// Bytes for the peer; over UDP exactly one datagram. Between two frames when the peer is a viewer, never inside one.
    Send(Bytes),
    /// The same, of bytes that the house keeps in any case: they do not count as this peer's memory.
    Share(Bytes),
    /// Several datagrams that stand one behind the other, each of `size` bytes, but for the last, which may have less. For
    /// sessions over UDP.
    Datagrams {
        /// All of them.
        bytes: Bytes,
        /// Bytes of each.
        size: u16,
    },
    /// A datagram for this address, which has shown that it is the peer's: from here on what comes from there is brought to this
    /// session. Of sessions that were opened by a [`Signal`].
    Datagram {
        /// Where to.
        to: SocketAddr,
        /// What.
        bytes: Bytes,
    },
    /// From here on [`Output::Send`] and [`Output::Datagrams`] go to this address. Nothing is sent by those before.
    Address(SocketAddr),
    /// From here on media goes beside the connection, between these ports of the peer and those that were
    /// [offered](Session::offer_ports): what it is sent of a stream, and [`Output::Packets`]. `None` ends that. The ports of another
    /// connection are not taken from it; whoever names them is closed.
    Ports(Option<Ports>),
    /// Packets for the peer's ports, each behind four bytes: a mark, the channel, the length.
    Packets(Bytes),
    /// Something for the hub.
    Event(Event),
    /// Send what waits, then close; over UDP, forget the address.
    Close,
}

/// What a session tells the hub.
///
/// ```
/// use shardcast_engine::{media::StreamName, session::{Event, Output}};
///
/// let (name, query) = (StreamName::parse("live/cam")?, "key=secret".to_owned());
/// let wish = Output::Event(Event::Publish { name, query });
/// # drop(wish);
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
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
    /// The peer wants to know what is in a stream before it plays it. Answered by [`Input::Described`] once that is known, or by
    /// [`Input::Answer`] with a refusal. The right to play it is asked for.
    Describe {
        /// The stream.
        name: StreamName,
        /// As for [`Event::Publish`].
        query: String,
    },
    /// The peer wants something of a packaged stream. Answered by [`Input::Fetched`], perhaps only when it has been made, or
    /// by [`Input::Answer`] with a refusal.
    #[cfg(feature = "segment")]
    Fetch {
        /// The stream.
        name: StreamName,
        /// As for [`Event::Publish`].
        query: String,
        /// What of it.
        item: Box<Item>,
    },
    /// What the peer proves for the wish that follows.
    Prove(Box<Proof>),
    /// A frame of the stream that this peer publishes.
    Frame(Frame),
    /// The publisher says that it is done. The connection may go on.
    Unpublish,
    /// The viewer wants no more. The connection may go on.
    Stop,
    /// The viewer wants the stream held (true), or to go on from the newest key frame (false).
    Pause(bool),
    /// The viewer cannot go on without a key frame. Its publisher is asked for one, if it can be asked, and not too often.
    KeyframeWanted,
    /// Something worth one log line that is not an error: what the peer did, and what was done about it.
    Remark(&'static str),
    /// A request about a conversation that goes by datagrams of its own. Answered by [`Input::Signalled`]; no second one before that.
    Signal(Box<Signal>),
    /// The answer to the request that opened this session, or to [`Input::Signal`].
    Reply(Box<Reply>),
}

/// A wire form: frames to bytes that are the same for all viewers of a stream. One `static` per form; two forms are the
/// same when they are the same static.
///
/// ```
/// use shardcast_engine::{flv, session::Form};
///
/// // Two forms are the same when they are the same static.
/// let form: &'static Form = &flv::FORM;
/// assert!(*form == flv::FORM && form.name == "flv" && form.datagram.is_none());
/// ```
pub struct Form {
    /// A short name for metrics, `rtmp`, `flv`.
    pub name: &'static str,
    /// Bytes of a datagram, when the form may be cut into datagrams: what [`Wire`] writes for a header and for each frame is
    /// cut each so many bytes, and whoever is sent a run of such pieces can use each of them. MPEG-TS has 1316, seven of its
    /// packets. `None` keeps the form off UDP.
    pub datagram: Option<u16>,
    /// Viewers are sent each frame as it comes, and not what has come since the last flush: for players that show it at once.
    pub prompt: bool,
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
///
/// ```
/// # use bytes::{BufMut as _, BytesMut};
/// # use shardcast_engine::{media::{Frame, Payload}, session::{Form, Opening, Wire}};
/// /// Each packet of sound behind its length.
/// struct Packets;
///
/// impl Wire for Packets {
///     fn header(&mut self, _: &Opening, _: &Frame, out: &mut BytesMut) { out.put_slice(b"PKTS"); }
///     fn refresh(&mut self, _: &Opening, _: &Frame, _: &mut BytesMut) {}
///     fn frame(&mut self, frame: &Frame, out: &mut BytesMut) {
///         let Payload::Audio { data, .. } = &frame.payload else { return };
///         out.put_u32(data.len() as u32);
///         out.put_slice(data);
///     }
/// }
/// # static PACKETS: Form = Form { name: "packets", datagram: None, prompt: false, open: || Box::new(Packets) };
/// # (PACKETS.open)();
/// ```
pub trait Wire: Send {
    /// What a new viewer gets before its first frame: the container's head, then what `opening` holds (metadata,
    /// parameters, colour), in the form's own framing. `at` is the time of the first frame that follows.
    fn header(&mut self, opening: &Opening, at: &Frame, out: &mut BytesMut);
    /// What a viewer gets that jumped to another key frame and may have missed a change of parameters: as
    /// [`header`](Self::header), without the container's head.
    fn refresh(&mut self, opening: &Opening, at: &Frame, out: &mut BytesMut);
    /// Whether whoever jumps is sent [`refresh`](Self::refresh) in any case, and not only when something has changed: a form
    /// that counts has to say that its count goes on elsewhere.
    fn marks_jumps(&self) -> bool {
        false
    }
    /// The numbers of each track's first packet from here on, of a form whose packets have such and whose sessions tell them before
    /// the packets come. Asked behind [`header`](Self::header), before the frame `at`.
    fn starts(&self, at: &Frame) -> Vec<Start> {
        let _ = at;
        Vec::new()
    }
    /// One frame. Writes nothing for what the form cannot say.
    fn frame(&mut self, frame: &Frame, out: &mut BytesMut);
}

/// Where the packets of a track begin for a viewer. (RFC 2326, 12.33)
///
/// ```
/// use shardcast_engine::{media::TrackId, session::Start};
///
/// let start = Start { track: TrackId::VIDEO, sequence: 7, timestamp: 90_000 };
/// assert_eq!(format!("seq={};rtptime={}", start.sequence, start.timestamp), "seq=7;rtptime=90000");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The track.
    pub track: TrackId,
    /// The number of its first packet.
    pub sequence: u16,
    /// When the stream begins for the viewer, on the track's clock: the time of showing of the frame that it enters at.
    pub timestamp: u32,
}

/// What a transport puts around a piece of a form that must not be torn: an HTTP chunk, a WebSocket message. What a piece is,
/// the form says: a tag of FLV, a frame's packets of MPEG-TS. So one muxer serves all of a form's transports.
///
/// ```
/// use bytes::{BufMut as _, BytesMut};
/// use shardcast_engine::session::{Envelope, Plain};
///
/// /// A chunk of an HTTP body. (RFC 9112, 7.1)
/// struct Chunk;
///
/// impl Envelope for Chunk {
///     fn open(len: usize, out: &mut BytesMut) { out.put_slice(format!("{len:x}\r\n").as_bytes()); }
///     fn close(out: &mut BytesMut) { out.put_slice(b"\r\n"); }
/// }
///
/// /// What a muxer does with each piece.
/// fn write<E: Envelope>(piece: &[u8], out: &mut BytesMut) {
///     E::open(piece.len(), out);
///     out.put_slice(piece);
///     E::close(out);
/// }
///
/// let (mut body, mut file) = (BytesMut::new(), BytesMut::new());
/// write::<Chunk>(b"ten bytes.", &mut body);
/// write::<Plain>(b"ten bytes.", &mut file);
/// assert_eq!(body, "a\r\nten bytes.\r\n");
/// assert_eq!(file, "ten bytes.");
/// ```
pub trait Envelope: Send {
    /// Writes what stands before a piece of `len` bytes. `len` is not 0.
    fn open(len: usize, out: &mut BytesMut);
    /// Writes what stands after it.
    fn close(out: &mut BytesMut);
}

/// No envelope.
#[derive(Debug)]
pub struct Plain;

impl Envelope for Plain {
    fn open(_: usize, _: &mut BytesMut) {}
    fn close(_: &mut BytesMut) {}
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
    /// A time of the stream, and when that was by the clock on the wall: for forms that say it.
    pub clock: Option<(MediaTime, Wall)>,
    /// Whether the pictures of [`TrackId::VIDEO`] are sent in the order in which they are shown, as far as is known.
    pub reorder: Reorder,
}
