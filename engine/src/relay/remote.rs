//! A stream on another server, as its URL says it.

use std::{fmt, net::IpAddr};

use crate::{error::Error, limits, media::StreamName};

/// The port of RTMP.
const RTMP_PORT: u16 = 1935;
/// Bytes of a host's name (RFC 1035, 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// A stream on another server that speaks RTMP.
///
/// ```
/// use shardcast_engine::relay::Remote;
///
/// let remote = Remote::parse("rtmp://cdn.example.net:1936/live/region/cam?token=x")?;
/// assert_eq!((remote.host.as_str(), remote.port), ("cdn.example.net", 1936));
/// assert_eq!((remote.app.as_str(), remote.stream.as_str()), ("live/region", "cam?token=x"));
/// assert_eq!(remote.app_url(), "rtmp://cdn.example.net:1936/live/region");
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remote {
    /// Its name or address; an address of IPv6 without brackets.
    pub host: String,
    /// Its port, not 0.
    pub port: u16,
    /// The application: all of the path but its last part.
    pub app: String,
    /// The last part of the path, with the query if there is one.
    pub stream: String,
}

impl Remote {
    /// Reads `rtmp://HOST[:PORT]/APP/STREAM[?QUERY]`.
    ///
    /// # Errors
    /// What is wrong with it; `at` counts from the beginning of `url`.
    pub fn parse(url: &str) -> Result<Self, Error> {
        if url.len() > limits::RELAY_URL_BYTES_MAX {
            return Err(Error::too_large(
                "a URL of more than 1024 bytes",
                limits::RELAY_URL_BYTES_MAX as u64,
            ));
        }
        check_characters(url)?;
        let Some(rest) = url.strip_prefix("rtmp://") else {
            return Err(Error::unsupported("rtmp:// is wanted", 0));
        };
        let at = |rest: &str| (url.len() - rest.len()) as u64;
        let Some((authority, path)) = rest.split_once('/') else {
            return Err(Error::malformed("an application and a stream are wanted, /APP/STREAM", at("")));
        };
        if authority.contains('@') {
            return Err(Error::unsupported("RTMP has no place for a user and a password", at(rest)));
        }
        let (host, port) =
            host_and_port(authority, RTMP_PORT).map_err(|why| Error::malformed(why, at(rest)))?;
        let (places, query) = path.split_at(path.find('?').unwrap_or(path.len()));
        let Some((app, stream)) = places.rsplit_once('/').filter(|(app, stream)| {
            !stream.is_empty() && !app.is_empty() && app.split('/').all(|part| !part.is_empty())
        }) else {
            return Err(Error::malformed("an application and a stream are wanted, /APP/STREAM", at(path)));
        };
        if let Some(place) = unknown_brace(path) {
            return Err(Error::malformed("{app} and {stream} are known here", at(path) + place as u64));
        }
        Ok(Remote { host, port, app: app.to_owned(), stream: format!("{stream}{query}") })
    }

    /// With the parts of a stream's name in the places of `{app}` and `{stream}`.
    #[must_use]
    pub fn for_stream(&self, name: &StreamName) -> Self {
        let fill = |text: &str| text.replace("{app}", name.app()).replace("{stream}", name.stream());
        Remote { app: fill(&self.app), stream: fill(&self.stream), ..self.clone() }
    }

    /// The path has `{stream}`, and not only its query.
    pub(super) fn names_stream(&self) -> bool {
        let path = self.stream.split('?').next().unwrap_or_default();
        self.app.contains("{stream}") || path.contains("{stream}")
    }

    /// It has a place for a part of a name.
    pub fn is_template(&self) -> bool {
        self.app.contains('{') || self.stream.contains('{')
    }

    /// The stream's name there, if it is one that a server like this one takes.
    pub fn name(&self) -> Option<StreamName> {
        StreamName::new(&self.app, self.stream.split('?').next()?).ok()
    }

    /// The URL up to the application: what RTMP calls `tcUrl`.
    pub fn app_url(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Remote {
    /// Without the stream, which is a secret with many services.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "rtmp://{open}{}{close}", self.host)?;
        if self.port != RTMP_PORT {
            write!(f, ":{}", self.port)?;
        }
        write!(f, "/{}", self.app)
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote({self})")
    }
}

/// # Errors
/// A character that no URL has, and its place.
pub(super) fn check_characters(url: &str) -> Result<(), Error> {
    let place = url.bytes().position(|byte| !byte.is_ascii_graphic());
    place.map_or(Ok(()), |place| Err(Error::malformed("a URL has no spaces and only ASCII", place as u64)))
}

/// A host, and its port, which is `usual` where none is said.
pub(super) fn host_and_port(authority: &str, usual: u16) -> Result<(String, u16), &'static str> {
    let usual = usual.to_string();
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or("a \"[\" without its \"]\"")?;
            let address: IpAddr = host.parse().map_err(|_| "an address of IPv6 is wanted in [...]")?;
            if !address.is_ipv6() {
                return Err("an address of IPv6 is wanted in [...]");
            }
            (host, rest.strip_prefix(':').or(rest.is_empty().then_some(&*usual)))
        }
        None => {
            let (host, port) = authority.split_once(':').unwrap_or((authority, &usual));
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            if host.is_empty() || host.len() > HOST_BYTES_MAX || !host.bytes().all(legal) {
                return Err("the name or the address of a machine is wanted");
            }
            (host, Some(port))
        }
    };
    let port = port.and_then(|port| port.parse().ok()).filter(|port| *port != 0);
    Ok((host.to_owned(), port.ok_or("a port from 1 to 65535 is wanted")?))
}

/// Where a brace stands that belongs to nothing known.
pub(super) fn unknown_brace(path: &str) -> Option<usize> {
    let mut at = 0;
    loop {
        let place = at + path.get(at..)?.find(['{', '}'])?;
        let rest = path.get(place..)?;
        let known = ["{app}", "{stream}"].into_iter().find(|known| rest.starts_with(known));
        let Some(known) = known else { return Some(place) };
        at = place + known.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(url: &str) -> (&'static str, u64) {
        let error = Remote::parse(url).unwrap_err();
        (error.why, error.at)
    }

    #[test]
    fn a_url_is_read_in_the_ways_in_which_services_write_it() {
        let parts = |url: &str| {
            let Remote { host, port, app, stream } = Remote::parse(url).unwrap();
            (host, port, app, stream)
        };
        let of = |host: &str, port, app: &str, stream: &str| (host.into(), port, app.into(), stream.into());
        assert_eq!(
            parts("rtmp://a.rtmp.example.com/live2/abcd-1234"),
            of("a.rtmp.example.com", 1935, "live2", "abcd-1234")
        );
        assert_eq!(parts("rtmp://10.0.0.1:1936/a/b/c?x=/y&z"), of("10.0.0.1", 1936, "a/b", "c?x=/y&z"));
        assert_eq!(parts("rtmp://[::1]/live/cam"), of("::1", 1935, "live", "cam"));
        assert_eq!(parts("rtmp://[::1]:7000/live/cam"), of("::1", 7000, "live", "cam"));
        assert_eq!(Remote::parse("rtmp://[::1]:7000/live/cam").unwrap().app_url(), "rtmp://[::1]:7000/live");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place_and_nothing_secret_is_shown() {
        assert_eq!(why("rtmps://host/live/cam").1, 0);
        assert_eq!(why("rtmp://host").1, 11);
        assert_eq!(why("rtmp://host/live").1, 12);
        assert_eq!(why("rtmp://host/live/").1, 12);
        assert_eq!(why("rtmp://host//cam").1, 12);
        assert_eq!(why("rtmp://host/live/?key=x").1, 12);
        assert_eq!(why("rtmp://user:word@host/live/cam").1, 7);
        assert_eq!(why("rtmp:///live/cam").1, 7);
        assert_eq!(why("rtmp://host:0/live/cam").0, "a port from 1 to 65535 is wanted");
        assert_eq!(why("rtmp://host:70000/live/cam").1, 7);
        assert_eq!(why("rtmp://[::1/live/cam").1, 7);
        assert_eq!(why("rtmp://[10.0.0.1]/live/cam").1, 7);
        assert_eq!(why("rtmp://[::1]x/live/cam").1, 7);
        assert_eq!(why("rtmp://host/live/ca m").1, 19);
        assert_eq!(why("rtmp://host/live/{name}"), ("{app} and {stream} are known here", 17));
        assert_eq!(why("rtmp://host/{app}/{stream}}").1, 26);
        let remote = Remote::parse("rtmp://host/live/secret?key=secret").unwrap();
        assert!(!format!("{remote} {remote:?}").contains("secret"));
    }

    #[test]
    fn parts_of_a_name_stand_where_the_url_has_their_places() {
        let remote = Remote::parse("rtmp://host/{app}/of/{stream}-copy?s={stream}").unwrap();
        assert!(remote.is_template() && remote.names_stream());
        let filled = remote.for_stream(&StreamName::parse("live/cam").unwrap());
        assert_eq!((filled.app.as_str(), filled.stream.as_str()), ("live/of", "cam-copy?s=cam"));
        assert!(!filled.is_template() && filled.name().is_none());
        assert!(!Remote::parse("rtmp://host/live/cam?s={stream}").unwrap().names_stream());
        let plain = Remote::parse("rtmp://host/live/cam?key=x").unwrap();
        assert_eq!(plain.name(), StreamName::parse("live/cam").ok());
    }
}
