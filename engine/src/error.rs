//! What went wrong with a peer's bytes: small, without allocation, enough to find the packet in a capture.
//!
//! Only a peer's, a disk's or a config's fault is an [`Error`]. Our own broken promise is an assert.

use std::fmt;

/// A fault that is not ours. The driver logs it once, adding peer, protocol and stream.
///
/// ```
/// use shardcast_engine::error::{Error, ErrorKind};
///
/// /// What is in a message of a type, a length, and so many bytes.
/// fn content(message: &[u8]) -> Result<&[u8], Error> {
///     match message {
///         [1, 0, ..] => Err(Error::malformed("a message of no length", 1)),
///         [1, 101..=255, ..] => Err(Error::too_large("a message", 1)),
///         [1, len, rest @ ..] => rest.get(..usize::from(*len)).ok_or(Error::truncated("a message", 2)),
///         [2, ..] => Err(Error::refused("a message that only operators may send", 0)),
///         [] | [1] => Err(Error::truncated("head of a message", message.len() as u64)),
///         _ => Err(Error::unsupported("a message of an unknown type", 0)),
///     }
/// }
///
/// assert_eq!(content(&[1, 2, 7, 8])?, [7, 8]);
/// // Whoever calls it knows where in the connection the message stands.
/// let error = content(&[3, 0]).unwrap_err().after(400);
/// assert_eq!((error.kind, error.at), (ErrorKind::Unsupported, 400));
/// assert_eq!(error.to_string(), "unsupported: a message of an unknown type (at byte 400)");
/// // What counters are labelled with.
/// assert_eq!(error.kind.word(), "unsupported");
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// What to do about it.
    pub kind: ErrorKind,
    /// What was wrong, as a phrase that can stand in a log line.
    pub why: &'static str,
    /// Where: bytes from the start of what the peer sent (or of the buffer that was parsed).
    pub at: u64,
}

/// What kind of fault it was, and so what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The bytes end before the thing they began.
    Truncated,
    /// The bytes break the rules of their format or protocol.
    Malformed,
    /// Legal, but not something this server does.
    Unsupported,
    /// Larger or more than a bound in [`limits`](crate::limits) or the config allows.
    TooLarge,
    /// The peer did not do in time what its protocol asks for.
    TimedOut,
    /// The peer asked for something it may not have.
    Refused,
    /// A panic inside the session's own code. It ends that session and nothing else.
    Panicked,
}

impl Error {
    /// The bytes end before `what`.
    pub const fn truncated(what: &'static str, at: u64) -> Self {
        Error { kind: ErrorKind::Truncated, why: what, at }
    }
    /// The bytes break a rule.
    pub const fn malformed(why: &'static str, at: u64) -> Self {
        Error { kind: ErrorKind::Malformed, why, at }
    }
    /// Legal, but not supported here.
    pub const fn unsupported(why: &'static str, at: u64) -> Self {
        Error { kind: ErrorKind::Unsupported, why, at }
    }
    /// Past a bound.
    pub const fn too_large(why: &'static str, at: u64) -> Self {
        Error { kind: ErrorKind::TooLarge, why, at }
    }
    /// Too late.
    pub const fn timed_out(why: &'static str, at: u64) -> Self {
        Error { kind: ErrorKind::TimedOut, why, at }
    }
    /// Not allowed.
    pub const fn refused(why: &'static str, at: u64) -> Self {
        Error { kind: ErrorKind::Refused, why, at }
    }
    /// The same error, counted from `base` bytes earlier: a parser of a message knows its place in the message, its
    /// caller the message's place in the connection.
    pub const fn after(self, base: u64) -> Self {
        Error { at: base.saturating_add(self.at), ..self }
    }
}

impl ErrorKind {
    /// A word for logs and metric labels.
    pub const fn word(self) -> &'static str {
        match self {
            ErrorKind::Truncated => "truncated",
            ErrorKind::Malformed => "malformed",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::TooLarge => "too_large",
            ErrorKind::TimedOut => "timed_out",
            ErrorKind::Refused => "refused",
            ErrorKind::Panicked => "panicked",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (at byte {})", self.kind.word(), self.why, self.at)
    }
}

impl std::error::Error for Error {}
