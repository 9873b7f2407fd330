//! Who may publish and who may play. Every door asks, through the hub; no protocol can forget to.

mod proof;
#[cfg(any(feature = "http", feature = "rtsp"))]
mod shown;

use std::{fmt, net::SocketAddr};

pub use self::proof::{Algorithm, Proof};
#[cfg(any(feature = "http", feature = "rtsp"))]
pub use self::shown::credentials;
use crate::media::StreamName;

/// What somebody wants to do with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send it.
    Publish,
    /// Watch it.
    Play,
}

/// Who wants what.
#[derive(Debug)]
pub struct Request<'a> {
    /// What.
    pub action: Action,
    /// Of which stream.
    pub name: &'a StreamName,
    /// The query of the URL without its `?`.
    pub query: &'a str,
    /// Who.
    pub peer: SocketAddr,
    /// By which door.
    pub door: &'static str,
    /// That it knows its password, where it shows so in place of a key.
    pub proof: Option<&'a Proof>,
}

/// Says who may do what. Asked once per wish, before anything is given or kept.
///
/// One that knows at once says so. One that has to ask somebody else says [`Verdict::Later`], and has the same wish once
/// more as a [`Question`], which may be taken anywhere and answered from any thread: a task of an async runtime, say.
///
/// ```
/// use std::thread;
/// use shardcast_engine::access::{Action, Authenticator, Question, Request, Verdict};
///
/// struct Directory;
///
/// impl Authenticator for Directory {
///     fn allows(&self, request: &Request<'_>) -> Verdict {
///         if request.action == Action::Play { Verdict::Allowed } else { Verdict::Later }
///     }
///     fn ask(&self, question: Question) {
///         // In place of a request to another machine.
///         thread::spawn(move || {
///             let allowed = is_known(&question.query);
///             question.answer(allowed);
///         });
///     }
/// }
///
/// fn is_known(query: &str) -> bool {
///     query == "token=good"
/// }
/// ```
pub trait Authenticator: Send + Sync {
    /// What holds for `request`. Called on a shard: it must not block.
    fn allows(&self, request: &Request<'_>) -> Verdict;

    /// Answers what [`allows`](Self::allows) left for later. Called on a shard: it must not block, but hand the question to
    /// whoever may. One that is dropped is refused, and so is one that has no answer after
    /// [`verdict`](crate::limits::DoorLimits::verdict).
    fn ask(&self, question: Question) {
        drop(question);
    }
}

/// What an [`Authenticator`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Allowed,
    /// No.
    Refused,
    /// It will be known later: [`Authenticator::ask`].
    Later,
}

impl From<bool> for Verdict {
    fn from(allowed: bool) -> Self {
        if allowed { Verdict::Allowed } else { Verdict::Refused }
    }
}

/// A wish that waits for an answer; see [`Authenticator`]. The peer's further bytes wait meanwhile, and nobody else does.
///
/// ```
/// use std::sync::mpsc;
/// use shardcast_engine::access::{Action, Question, Wish};
/// # use shardcast_engine::media::StreamName;
///
/// # let (action, name, peer) = (Action::Publish, StreamName::parse("live/cam")?, ([127, 0, 0, 1], 1).into());
/// # let wish = Wish { action, name, query: String::new(), peer, door: "rtmp", proof: None };
/// let (told, answers) = mpsc::channel();
/// let question = |told: mpsc::Sender<bool>| Question::new(wish.clone(), move |allowed| drop(told.send(allowed)));
/// question(told.clone()).answer(true);
/// assert_eq!(answers.recv(), Ok(true));
/// // One that nobody answers is refused.
/// drop(question(told));
/// assert_eq!(answers.recv(), Ok(false));
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
pub struct Question {
    /// What is wanted.
    pub action: Action,
    /// Of which stream.
    pub name: StreamName,
    /// The query of the URL without its `?`.
    pub query: String,
    /// Who.
    pub peer: SocketAddr,
    /// By which door.
    pub door: &'static str,
    /// As in [`Request`].
    pub proof: Option<Box<Proof>>,
    answer: Option<Box<dyn FnOnce(bool) + Send>>,
}

impl Question {
    /// The question of `wish`; `answer` is told the answer, once.
    pub fn new(wish: Wish, answer: impl FnOnce(bool) + Send + 'static) -> Self {
        let Wish { action, name, query, peer, door, proof } = wish;
        Question { action, name, query, peer, door, proof, answer: Some(Box::new(answer)) }
    }

    /// Answers it. Never blocks.
    pub fn answer(mut self, allowed: bool) {
        if let Some(answer) = self.answer.take() {
            answer(allowed);
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            answer(false);
        }
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the query: it may hold a secret.
        write!(f, "Question({:?} {} from {} by {})", self.action, self.name, self.peer, self.door)
    }
}

/// A [`Request`] that owns what it says.
#[derive(Clone, PartialEq, Eq)]
pub struct Wish {
    /// What.
    pub action: Action,
    /// Of which stream.
    pub name: StreamName,
    /// The query of the URL without its `?`.
    pub query: String,
    /// Who.
    pub peer: SocketAddr,
    /// By which door.
    pub door: &'static str,
    /// As in [`Request`].
    pub proof: Option<Box<Proof>>,
}

impl fmt::Debug for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wish({:?} {} from {} by {})", self.action, self.name, self.peer, self.door)
    }
}

/// Lets everyone do everything.
///
/// ```
/// use shardcast_engine::access::{Action, Authenticator as _, Everyone, Request, Verdict};
/// # use shardcast_engine::media::StreamName;
///
/// # let name = StreamName::parse("live/cam")?;
/// // Nobody shows a key, and nobody needs one.
/// let peer = ([192, 0, 2, 7], 4000).into();
/// let request = Request { action: Action::Publish, name: &name, query: "", peer, door: "rtmp", proof: None };
/// assert_eq!(Everyone.allows(&request), Verdict::Allowed);
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Everyone;

impl Authenticator for Everyone {
    fn allows(&self, _: &Request<'_>) -> Verdict {
        Verdict::Allowed
    }
}

/// Keys that peers show as `?key=SECRET` in the URL of a stream, or prove that they know ([`Proof`]). A list without keys leaves its side open.
///
/// ```
/// use shardcast_engine::access::{Action, Authenticator as _, Keys, Request, Verdict};
/// # use shardcast_engine::media::StreamName;
///
/// # let name = StreamName::parse("live/cam")?;
/// let keys = Keys { publish: vec!["secret".into()], play: vec![] };
/// let ask = |action, query| {
///     let peer = ([192, 0, 2, 7], 4000).into();
///     keys.allows(&Request { action, name: &name, query, peer, door: "rtmp", proof: None })
/// };
/// assert_eq!(ask(Action::Publish, "key=secret"), Verdict::Allowed);
/// assert_eq!(ask(Action::Publish, "key=guess"), Verdict::Refused);
/// assert_eq!(ask(Action::Play, ""), Verdict::Allowed);
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Keys {
    /// Keys that may publish.
    pub publish: Vec<String>,
    /// Keys that may play.
    pub play: Vec<String>,
}

impl Authenticator for Keys {
    fn allows(&self, request: &Request<'_>) -> Verdict {
        let keys = match request.action {
            Action::Publish => &self.publish,
            Action::Play => &self.play,
        };
        let shown = percent_decoded(query_value(request.query, "key").unwrap_or_default());
        let is_it = |key: &String| {
            same(key.as_bytes(), &shown) | request.proof.is_some_and(|proof| proof.proves(key))
        };
        // Every key is compared whole, so that the time tells nothing about how much of one was right.
        let allowed = keys.is_empty() || keys.iter().fold(false, |found, key| found | is_it(key));
        allowed.into()
    }
}

/// Compares without stopping at the first difference.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// The value of `name` in a URL's query, as it stands there.
///
/// ```
/// use shardcast_engine::access::query_value;
///
/// assert_eq!(query_value("token=abc&user=7", "user"), Some("7"));
/// assert_eq!(query_value("token=abc", "user"), None);
/// ```
pub fn query_value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// Undoes percent-encoding (RFC 3986, 2.1), which browsers apply to a key by themselves. What is no valid escape stays as
/// it is, and so does a `+`: base64 keys hold pluses.
///
/// ```
/// assert_eq!(shardcast_engine::access::percent_decoded("p%40ss+%zz"), b"p@ss+%zz");
/// ```
pub fn percent_decoded(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut ahead = rest.clone();
        let escaped = (byte == b'%')
            .then(|| Some(hex_digit(ahead.next()?)? << 4 | hex_digit(ahead.next()?)?))
            .flatten();
        if escaped.is_some() {
            rest = ahead;
        }
        decoded.push(escaped.unwrap_or(byte));
    }
    decoded
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_opens_its_own_side_only() {
        let keys = Keys { publish: vec!["secret".into()], play: vec!["other".into(), "third".into()] };
        let name = StreamName::parse("live/cam").unwrap();
        let ask = |action, query| {
            keys.allows(&Request {
                action,
                name: &name,
                query,
                peer: ([127, 0, 0, 1], 1).into(),
                door: "rtmp",
                proof: None,
            }) == Verdict::Allowed
        };
        assert!(ask(Action::Publish, "a=b&key=secret"));
        assert!(!ask(Action::Publish, "key=other"));
        assert!(!ask(Action::Publish, "key=secre"));
        assert!(!ask(Action::Publish, ""));
        assert!(ask(Action::Play, "key=third"));
        assert!(!ask(Action::Play, "key=secret"));
        assert!(
            Keys::default().allows(&Request {
                action: Action::Play,
                name: &name,
                query: "",
                peer: ([127, 0, 0, 1], 1).into(),
                door: "rtmp",
                proof: None,
            }) == Verdict::Allowed
        );
    }

    #[test]
    fn a_key_may_come_percent_encoded() {
        let keys = Keys { publish: vec!["a+b/c=%".into()], play: vec![] };
        let name = StreamName::parse("live/cam").unwrap();
        let ask = |query| {
            let peer = ([127, 0, 0, 1], 1).into();
            keys.allows(&Request {
                action: Action::Publish,
                name: &name,
                query,
                peer,
                door: "http",
                proof: None,
            }) == Verdict::Allowed
        };
        for query in ["key=a+b/c=%", "key=a%2Bb%2fc%3D%25", "key=a%2Bb/c=%"] {
            assert!(ask(query), "{query}");
        }
        for query in ["key=a b/c=%", "key=a%2Bb%2fc%3D%2", "key=", "key=%"] {
            assert!(!ask(query), "{query}");
        }
    }
}
