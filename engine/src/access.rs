//! Who may publish and who may play. Every door asks, through the hub; no protocol can forget to.

use std::net::SocketAddr;

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
}

/// Says who may do what. Asked once per wish, before anything is given or kept.
pub trait Authenticator: Send + Sync {
    /// True when `request` is allowed. Must not block.
    fn allows(&self, request: &Request<'_>) -> bool;
}

/// Lets everyone do everything.
#[derive(Debug, Default)]
pub struct Everyone;

impl Authenticator for Everyone {
    fn allows(&self, _: &Request<'_>) -> bool {
        true
    }
}

/// Keys that peers show as `?key=SECRET` in the URL of a stream. A list without keys leaves its side open.
#[derive(Clone, Default)]
pub struct Keys {
    /// Keys that may publish.
    pub publish: Vec<String>,
    /// Keys that may play.
    pub play: Vec<String>,
}

impl Authenticator for Keys {
    fn allows(&self, request: &Request<'_>) -> bool {
        let keys = match request.action {
            Action::Publish => &self.publish,
            Action::Play => &self.play,
        };
        let shown = percent_decoded(query_value(request.query, "key").unwrap_or_default());
        // Every key is compared whole, so that the time tells nothing about how much of one was right.
        keys.is_empty() || keys.iter().fold(false, |found, key| found | same(key.as_bytes(), &shown))
    }
}

/// Compares without stopping at the first difference.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// The value of `name` in a URL's query, as it stands there.
pub fn query_value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// Undoes percent-encoding (RFC 3986, 2.1), which browsers apply to a key by themselves. What is no valid escape stays as
/// it is, and so does a `+`: base64 keys hold pluses.
fn percent_decoded(text: &str) -> Vec<u8> {
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
            })
        };
        assert!(ask(Action::Publish, "a=b&key=secret"));
        assert!(!ask(Action::Publish, "key=other"));
        assert!(!ask(Action::Publish, "key=secre"));
        assert!(!ask(Action::Publish, ""));
        assert!(ask(Action::Play, "key=third"));
        assert!(!ask(Action::Play, "key=secret"));
        assert!(Keys::default().allows(&Request {
            action: Action::Play,
            name: &name,
            query: "",
            peer: ([127, 0, 0, 1], 1).into(),
            door: "rtmp"
        }));
    }

    #[test]
    fn a_key_may_come_percent_encoded() {
        let keys = Keys { publish: vec!["a+b/c=%".into()], play: vec![] };
        let name = StreamName::parse("live/cam").unwrap();
        let ask = |query| {
            let peer = ([127, 0, 0, 1], 1).into();
            keys.allows(&Request { action: Action::Publish, name: &name, query, peer, door: "http" })
        };
        for query in ["key=a+b/c=%", "key=a%2Bb%2fc%3D%25", "key=a%2Bb/c=%"] {
            assert!(ask(query), "{query}");
        }
        for query in ["key=a b/c=%", "key=a%2Bb%2fc%3D%2", "key=", "key=%"] {
            assert!(!ask(query), "{query}");
        }
    }
}
