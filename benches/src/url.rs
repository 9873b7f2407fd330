//! URLs of doors.

/// The parts of a URL that a client needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Url {
    /// `rtmp`, `http`, `flv`.
    pub scheme: String,
    /// Host and port.
    pub address: String,
    /// From the first slash on; `/` when there is none.
    pub path: String,
}

impl Url {
    /// Splits a URL whose port stands there.
    pub fn parse(url: &str) -> Option<Url> {
        let (scheme, rest) = url.split_once("://")?;
        let (address, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        address.contains(':').then(|| Url {
            scheme: scheme.to_owned(),
            address: address.to_owned(),
            path: path.to_owned(),
        })
    }
    /// The same with another port, so many behind this one; `None` where there are none any more.
    #[must_use]
    pub fn at_port(&self, behind: usize) -> Option<Url> {
        let (host, port) = self.address.rsplit_once(':')?;
        let port = port.parse::<u16>().ok()?.checked_add(u16::try_from(behind).ok()?)?;
        Some(Url { address: format!("{host}:{port}"), ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_its_parts() {
        let url = Url::parse("http://127.0.0.1:8080/live/{stream}.flv").unwrap();
        assert_eq!((url.address.as_str(), url.path.as_str()), ("127.0.0.1:8080", "/live/{stream}.flv"));
        assert_eq!(Url::parse("flv://127.0.0.1:8071").unwrap().path, "/");
        assert_eq!(Url::parse("rtmp://host/live"), None);
        let url = Url::parse("udp://127.0.0.1:5000").unwrap();
        assert_eq!(url.at_port(7).unwrap().address, "127.0.0.1:5007");
        assert_eq!(url.at_port(60_536), None);
    }
}
