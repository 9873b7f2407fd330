//! A stream on another server that speaks RTSP, as its URL says it.

use std::fmt;

use super::remote::{check_characters, host_and_port, unknown_brace};
use crate::{access::percent_decoded, error::Error, limits, media::StreamName};

/// The port of RTSP. (RFC 2326, 3.2)
const RTSP_PORT: u16 = 554;

/// A stream on another server that speaks RTSP, and who may publish it there.
///
/// ```
/// use shardcast_engine::relay::RtspRemote;
///
/// let remote = RtspRemote::parse("rtsp://ann:s3%40cret@media.example.net:8554/live/cam?token=x")?;
/// assert_eq!((remote.host.as_str(), remote.port, remote.path.as_str()), ("media.example.net", 8554, "live/cam?token=x"));
/// assert_eq!(remote.credentials, Some(("ann".to_owned(), "s3@cret".to_owned())));
/// assert_eq!(remote.url(), "rtsp://media.example.net:8554/live/cam?token=x");
/// // Neither the password nor the query is shown.
/// assert_eq!(remote.to_string(), "rtsp://media.example.net:8554/live/cam");
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RtspRemote {
    /// Its name or address; an address of IPv6 without brackets.
    pub host: String,
    /// Its port, not 0.
    pub port: u16,
    /// A user and a password, without the escapes that a URL has.
    pub credentials: Option<(String, String)>,
    /// What stands behind the host and its slash, with the query if there is one.
    pub path: String,
}

impl RtspRemote {
    /// Reads `rtsp://[USER:PASSWORD@]HOST[:PORT]/PATH[?QUERY]`. What has a meaning in URLs is percent-encoded in user and password.
    ///
    /// # Errors
    /// What is wrong with it; `at` counts from the beginning of `url`.
    pub fn parse(url: &str) -> Result<Self, Error> {
        if url.len() > limits::RELAY_URL_BYTES_MAX {
            let most = limits::RELAY_URL_BYTES_MAX as u64;
            return Err(Error::too_large("a URL of more than 1024 bytes", most));
        }
        check_characters(url)?;
        let Some(rest) = url.strip_prefix("rtsp://") else {
            return Err(Error::unsupported("rtsp:// is wanted", 0));
        };
        let at = |rest: &str| (url.len() - rest.len()) as u64;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let places = path.split('?').next().unwrap_or_default();
        if places.is_empty() || places.split('/').any(str::is_empty) || places.contains('#') {
            return Err(Error::malformed("the path of a stream is wanted, /PATH", at(path)));
        }
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let begins = at(rest) + (authority.len() - place.len()) as u64;
        let (host, port) = host_and_port(place, RTSP_PORT).map_err(|why| Error::malformed(why, begins))?;
        let credentials = user.map(credentials).transpose();
        let credentials = credentials.map_err(|why| Error::malformed(why, at(rest)))?;
        if let Some(place) = unknown_brace(path) {
            return Err(Error::malformed("{app} and {stream} are known here", at(path) + place as u64));
        }
        Ok(RtspRemote { host, port, credentials, path: path.to_owned() })
    }

    /// With the parts of a stream's name in the places of `{app}` and `{stream}`.
    #[must_use]
    pub fn for_stream(&self, name: &StreamName) -> Self {
        let path = self.path.replace("{app}", name.app()).replace("{stream}", name.stream());
        RtspRemote { path, ..self.clone() }
    }

    /// The path has `{stream}`, and not only its query.
    pub(super) fn names_stream(&self) -> bool {
        self.places().contains("{stream}")
    }

    /// The stream's name there, if it is one that a server like this one takes.
    pub fn name(&self) -> Option<StreamName> {
        StreamName::parse(self.places()).ok()
    }

    /// The URL that requests name: without user and password.
    pub fn url(&self) -> String {
        format!("{}/{}", self.server(), self.path)
    }

    fn places(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }

    fn server(&self) -> String {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        let port = if self.port == RTSP_PORT { String::new() } else { format!(":{}", self.port) };
        format!("rtsp://{open}{}{close}{port}", self.host)
    }
}

impl fmt::Display for RtspRemote {
    /// Without what may be secret: user, password and query.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.server(), self.places())
    }
}

impl fmt::Debug for RtspRemote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RtspRemote({self})")
    }
}

fn credentials(text: &str) -> Result<(String, String), &'static str> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let decode = |text: &str| {
        let text = String::from_utf8(percent_decoded(text)).map_err(|_| "user or password are not UTF-8")?;
        // They stand in a header.
        let legal = !text.chars().any(char::is_control);
        legal.then_some(text).ok_or("user or password have a control character")
    };
    Ok((decode(user)?, decode(password)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_with_and_without_its_parts() {
        let parse = |url: &str| RtspRemote::parse(url).unwrap();
        let plain = parse("rtsp://10.0.0.1/cam");
        assert_eq!((plain.host.as_str(), plain.port, plain.path.as_str()), ("10.0.0.1", 554, "cam"));
        assert_eq!((plain.credentials.as_ref(), plain.name()), (None, None));
        assert_eq!(plain.url(), "rtsp://10.0.0.1/cam");
        let whole = parse("rtsp://a%40b:c:d%2F@[::1]:8554/live/cam?key=see/@");
        assert_eq!(whole.credentials, Some(("a@b".into(), "c:d/".into())));
        assert_eq!(
            (whole.url().as_str(), whole.name()),
            ("rtsp://[::1]:8554/live/cam?key=see/@", StreamName::parse("live/cam").ok())
        );
        let shown = format!("{whole} {whole:?}");
        assert!(!shown.contains("see") && !shown.contains("c:d"), "{shown}");
        assert_eq!(parse("rtsp://user@host/cam").credentials, Some(("user".into(), String::new())));
    }

    #[test]
    fn what_is_no_such_url_is_refused_with_its_place() {
        for (url, at) in [
            ("rtsps://host/cam", 0),
            ("rtsp://host", 11),
            ("rtsp://host/", 12),
            ("rtsp://host/a//b", 12),
            ("rtsp://host/?key=x", 12),
            ("rtsp://host/a#b", 12),
            ("rtsp://host:0/cam", 7),
            ("rtsp://u:p@/cam", 11),
            ("rtsp://u:%0d%0a@host/cam", 7),
            ("rtsp://u:%ff@host/cam", 7),
            ("rtsp://host/live/{name}", 17),
            ("rtsp://ho st/cam", 9),
        ] {
            assert_eq!(RtspRemote::parse(url).unwrap_err().at, at, "{url}");
        }
    }

    #[test]
    fn parts_of_a_name_stand_where_the_url_has_their_places() {
        let remote = RtspRemote::parse("rtsp://{app}:{stream}@host/{app}/{stream}?s={stream}").unwrap();
        assert!(remote.names_stream());
        let filled = remote.for_stream(&StreamName::parse("live/cam").unwrap());
        assert_eq!(filled.path, "live/cam?s=cam");
        assert_eq!(filled.credentials, remote.credentials, "a password is what it is");
        assert!(!RtspRemote::parse("rtsp://host/cam?s={stream}").unwrap().names_stream());
    }
}
