//! What is pulled: the stream, whom it is asked of, and how.

use std::{fmt, time::Duration};

use shardcast_engine::{access::percent_decoded, media::StreamName};
use url::Url;

use crate::config::{Source, Transport};

/// A stream that another server or a camera is asked for. Its secrets are not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Pull {
    /// What it is called here.
    pub name: StreamName,
    /// What it is called there, without user and password.
    pub(super) url: Url,
    /// What is shown to whoever asks for it.
    pub credentials: Option<Credentials>,
    /// How its packets come.
    pub transport: Transport,
    /// It is pulled while somebody wants it, and so long after; `None` for always.
    pub linger: Option<Duration>,
}

/// Who asks.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// Its password.
    pub password: String,
}

impl Pull {
    /// Reads what a config says of the stream `name`: `rtsp://USER:PASSWORD@HOST:PORT/PATH?QUERY`, where user and password may be
    /// left out and have their special characters percent-encoded, and the port is 554 if it is left out.
    ///
    /// ```
    /// use shardcast_shards::{config::Source, pull::Pull};
    ///
    /// let source = |pull: &str| Source { pull: pull.to_owned(), ..Source::default() };
    /// let pull = Pull::parse("cam/yard", &source("rtsp://admin:s3%40cret@10.0.0.9/main?token=x"))?;
    /// assert_eq!(pull.credentials.as_ref().map(|shown| shown.password.as_str()), Some("s3@cret"));
    /// assert_eq!(pull.to_string(), "rtsp://10.0.0.9/main");
    /// assert!(Pull::parse("cam/yard", &source("rtsps://10.0.0.9/main")).is_err());
    /// # Ok::<(), &'static str>(())
    /// ```
    ///
    /// # Errors
    /// A sentence that says what is wrong, without the secrets that are in it.
    pub fn parse(name: &str, source: &Source) -> Result<Pull, &'static str> {
        let name = StreamName::parse(name).map_err(|error| error.why)?;
        if source.pull.starts_with("rtsps:") {
            return Err("RTSP inside TLS cannot be pulled: write rtsp://");
        }
        let mut url = Url::parse(&source.pull).map_err(|_| "not rtsp://USER:PASSWORD@HOST/PATH")?;
        if url.scheme() != "rtsp" {
            return Err("begins with none of udp://, rtp:// and rtsp://");
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err("names no host: rtsp://HOST/PATH");
        }
        if url.fragment().is_some() {
            return Err("has a #: write %23 for one in a password");
        }
        let text = |part: &str| {
            String::from_utf8(percent_decoded(part)).map_err(|_| "user or password are not UTF-8")
        };
        let (user, password) = (text(url.username())?, text(url.password().unwrap_or_default())?);
        let shown = !user.is_empty() || !password.is_empty();
        // A URL with a host takes both.
        url.set_username("").and_then(|()| url.set_password(None)).map_err(|()| "names no host")?;
        Ok(Pull {
            name,
            url,
            credentials: shown.then_some(Credentials { user, password }),
            transport: source.transport,
            linger: source.on_demand.then_some(source.linger),
        })
    }

    /// What may not be written: the password, and a query, which may hold a key.
    pub(super) fn secrets(&self) -> Vec<String> {
        let password = self.credentials.iter().map(|shown| shown.password.clone());
        let query = self.url.query().map(str::to_owned);
        password.chain(query).filter(|secret| !secret.is_empty()).collect()
    }
}

impl fmt::Display for Pull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.url.clone();
        url.set_query(None);
        f.write_str(url.as_str())?;
        match (self.transport, self.linger.is_some()) {
            (Transport::Tcp, false) => Ok(()),
            (Transport::Tcp, true) => f.write_str(", on demand"),
            (Transport::Udp, false) => f.write_str(", by UDP"),
            (Transport::Udp, true) => f.write_str(", by UDP, on demand"),
        }
    }
}

impl fmt::Debug for Pull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pull({} from {self})", self.name)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pull: &str) -> Result<Pull, &'static str> {
        Pull::parse("cam/yard", &Source { pull: pull.to_owned(), on_demand: true, ..Source::default() })
    }

    #[test]
    fn no_secret_is_shown() {
        let pull = parse("rtsp://admin:hunter2@[::1]:8554/a/b?key=see").unwrap();
        assert_eq!(pull.url.as_str(), "rtsp://[::1]:8554/a/b?key=see");
        let shown = format!("{pull} {pull:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("see"), "{shown}");
        assert_eq!(pull.secrets(), ["hunter2", "key=see"]);
        assert!(parse("rtsp://10.0.0.9").unwrap().credentials.is_none());
    }

    #[test]
    fn what_is_no_such_address_is_refused() {
        for pull in [
            "rtsp://",
            "rtsp:///x",
            "rtsp:x",
            "rtsps://h/x",
            "rtspx://h/x",
            "rtsp://h:99999/x",
            "rtsp://u:p#x@h/",
        ] {
            assert!(parse(pull).is_err(), "{pull}");
        }
        assert!(Pull::parse("yard", &Source::default()).is_err());
    }
}
