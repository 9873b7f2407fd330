//! URLs of RTSP: whose stream, which track of it. (RFC 2326, 3.2)

use crate::media::StreamName;

/// What a URL names.
#[derive(Debug, PartialEq, Eq)]
pub struct Address {
    /// The stream.
    pub name: StreamName,
    /// Its query without the `?`.
    pub query: String,
    /// The number behind [`TRACK`].
    pub track: Option<usize>,
}

/// What stands before the number of a track in the URLs that this server gives.
pub const TRACK: &str = "trackID=";

impl Address {
    /// Reads a URL. Clients append the name of a track to whatever they were given, behind a query too.
    ///
    /// # Errors
    /// A sentence for the peer.
    pub fn read(url: &str) -> Result<Self, &'static str> {
        let (_, rest) = url.split_once("://").ok_or("a URL begins with rtsp://")?;
        let (_, rest) = rest.split_once('/').ok_or(TWO_PARTS)?;
        let (rest, track) = match rest.rsplit_once(TRACK) {
            Some((rest, number)) => {
                let (number, behind) =
                    number.split_at(number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len()));
                let number = number.parse().map_err(|_| "no such track")?;
                // What this server gives has its query at the end.
                (format!("{}{behind}", rest.trim_end_matches('/')), Some(number))
            }
            None => (rest.to_owned(), None),
        };
        let (path, query) = rest.split_once('?').unwrap_or((&rest, ""));
        let path = path.trim_matches('/');
        if path.split('/').count() != 2 {
            return Err(TWO_PARTS);
        }
        let name = StreamName::parse(path).map_err(|error| error.why)?;
        Ok(Address { name, query: query.trim_end_matches('/').to_owned(), track })
    }
}

const TWO_PARTS: &str = "a stream's URL is rtsp://HOST/APP/STREAM";

/// A URL with `part` at the end of its path, before its query.
pub fn join(url: &str, part: &str) -> String {
    let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
    let mut joined = format!("{}/{part}", path.trim_end_matches('/'));
    if let Some(query) = query {
        joined.push('?');
        joined.push_str(query);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_track_is_found_wherever_clients_put_it() {
        let address = |url| Address::read(url).unwrap();
        let whole = address("rtsp://127.0.0.1:8554/live/cam?key=a/b");
        assert_eq!((whole.name.as_str(), whole.query.as_str(), whole.track), ("live/cam", "key=a/b", None));
        let plain = join("rtsp://h/live/cam", "trackID=1");
        assert_eq!(plain, "rtsp://h/live/cam/trackID=1");
        let asked = join("rtsp://h/live/cam/?key=secret", "trackID=0");
        assert_eq!(asked, "rtsp://h/live/cam/trackID=0?key=secret");
        for (url, query, track) in [
            (plain.as_str(), "", 1),
            (&asked, "key=secret", 0),
            ("rtsp://h/live/cam?key=secret/trackID=0", "key=secret", 0),
            ("rtsp://h/live/cam/?key=secret/trackID=12", "key=secret", 12),
        ] {
            let found = address(url);
            assert_eq!(
                (found.name.as_str(), found.query.as_str(), found.track),
                ("live/cam", query, Some(track)),
                "{url}"
            );
        }
        for bad in [
            "",
            "live/cam",
            "rtsp://h",
            "rtsp://h/live",
            "rtsp://h/a/b/c",
            "rtsp://h/live/../x",
            "rtsp://h/live/cam/trackID=x",
        ] {
            assert!(Address::read(bad).is_err(), "{bad}");
        }
    }
}
