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
        let shown = query_value(request.query, "key").unwrap_or_default();
        // Every key is compared whole, so that the time tells nothing about how much of one was right.
        keys.is_empty()
            || keys.iter().fold(false, |found, key| found | same(key.as_bytes(), shown.as_bytes()))
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
}
