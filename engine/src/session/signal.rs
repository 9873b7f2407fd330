//! Signalling: what is asked by one connection about a conversation that goes by datagrams of its own. (WHIP: RFC 9725; WHEP:
//! draft-ietf-wish-whep)
//!
//! Whoever speaks HTTP asks ([`Event::Signal`](super::Event::Signal)) and is told the [`Reply`]
//! ([`Input::Signalled`](super::Input::Signalled)). An offer opens a session on the core whose address its answer will name; what is
//! asked about that later goes to the same core, which the [`Key`] names, and there to the session
//! ([`Input::Signal`](super::Input::Signal)).

use std::{borrow::Cow, fmt, net::SocketAddr, sync::Arc};

use crate::{access::Proof, media::StreamName, session::Refusal};

/// A request.
#[derive(Debug)]
pub struct Signal {
    /// The stream that it is about.
    pub name: StreamName,
    /// What is asked.
    pub request: Request,
}

/// What is asked.
#[derive(Debug)]
pub enum Request {
    /// A conversation. It asks the hub for its stream like any other.
    Offer {
        /// To send the stream; else to watch it.
        publish: bool,
        /// The query of the URL without its `?`.
        query: String,
        /// What the peer proves for its wish.
        proof: Option<Box<Proof>>,
        /// The session description that it offers. (RFC 8866)
        sdp: String,
    },
    /// More about the addresses of the peer, or that it begins anew with other credentials. (RFC 8840)
    Trickle {
        /// Which conversation.
        key: Key,
        /// The tags that the peer holds it to have, as `If-Match` has them; `None` when it says nothing.
        tag: Option<String>,
        /// The fragment of a session description.
        fragment: String,
    },
    /// The end.
    End {
        /// Which conversation.
        key: Key,
    },
}

impl Request {
    /// The conversation that it is about, if there is one already.
    pub fn key(&self) -> Option<Key> {
        match self {
            Request::Offer { .. } => None,
            Request::Trickle { key, .. } | Request::End { key } => Some(*key),
        }
    }
}

/// The name of a conversation: where it is, and a secret, so that only whoever was told it may speak about it.
///
/// ```
/// use shardcast_engine::session::signal::Key;
///
/// let key = Key { core: 3, number: 0x1a, secret: 0xfeed };
/// assert_eq!(key.to_string(), "3-1a-0000000000000000000000000000feed");
/// assert_eq!(Key::parse(&key.to_string()), Some(key));
/// assert_eq!(Key::parse("3-1a-feed"), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// The core that holds its session.
    pub core: u16,
    /// Which of the core's it is: its [`Venue::number`].
    pub number: u64,
    /// The secret.
    pub secret: u128,
}

impl Key {
    /// Reads what [`Display`](fmt::Display) writes, and nothing else.
    pub fn parse(text: &str) -> Option<Key> {
        let (core, rest) = text.split_once('-')?;
        let (number, secret) = rest.split_once('-')?;
        let key = Key {
            core: core.parse().ok()?,
            number: u64::from_str_radix(number, 16).ok()?,
            secret: u128::from_str_radix(secret, 16).ok()?,
        };
        (key.to_string() == text).then_some(key)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}-{:032x}", self.core, self.number, self.secret)
    }
}

/// Without the secret: it may stand in a log.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:x} of core {})", self.number, self.core)
    }
}

/// Where a session is met that a request has opened.
///
/// ```
/// use std::sync::Arc;
/// use shardcast_engine::session::signal::Venue;
///
/// let venue = Venue { core: 0, number: 7, addresses: Arc::from(["203.0.113.7:8189".parse()?]) };
/// assert_eq!(venue.addresses[0].port(), 8189);
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Venue {
    /// The core.
    pub core: u16,
    /// Which session of the core it is. Datagrams from addresses that nobody knows are brought to it by that
    /// ([`Greeting::For`](crate::datagram::Greeting::For)).
    pub number: u64,
    /// The addresses at which the core's datagrams arrive; at least one.
    pub addresses: Arc<[SocketAddr]>,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Reply {
    /// The offer is taken.
    Accepted {
        /// What the conversation is called.
        key: Key,
        /// The tag of its present credentials, without quotation marks.
        tag: String,
        /// The answer to what was offered. (RFC 3264)
        sdp: String,
    },
    /// What was said about addresses is noted.
    Trickled {
        /// The tag of its present credentials.
        tag: String,
        /// Our own, where the peer has begun anew.
        fragment: Option<String>,
    },
    /// It has ended.
    Ended,
    /// No.
    Refused {
        /// Of which kind the fault is.
        fault: Fault,
        /// A sentence for the peer.
        why: Cow<'static, str>,
    },
}

impl Reply {
    /// No, for this reason.
    pub fn refused(fault: Fault, why: impl Into<Cow<'static, str>>) -> Reply {
        Reply::Refused { fault, why: why.into() }
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Reply {
        let fault = match refusal {
            Refusal::AlreadyLive => Fault::Conflict,
            Refusal::NotFound => Fault::NotFound,
            Refusal::Forbidden => Fault::Forbidden,
            Refusal::Unsupported => Fault::Unsuited,
            Refusal::Full | Refusal::ShuttingDown | Refusal::TooLate => Fault::Unavailable,
        };
        Reply::refused(fault, refusal.why())
    }
}

/// Kinds of refusals; each has its status in HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It cannot be read. (400)
    Malformed,
    /// The credentials do not allow it. (401)
    Forbidden,
    /// There is no such stream, or no such conversation. (404)
    NotFound,
    /// Another publisher holds the name. (409)
    Conflict,
    /// The tag is one of earlier credentials. (412)
    Outdated,
    /// It says no tag where one is needed. (428)
    Untagged,
    /// It can be read, and what it asks for cannot be: no codec in common, pictures that its kind of player cannot show. (422)
    Unsuited,
    /// A bound is reached, or the node goes down. (503)
    Unavailable,
}
