//! Paths to what stands there. The only place that knows the shape of this door's URLs.

use super::{
    page::{self, Asset},
    request::{Fault, Method},
    response::Status,
    wire::{STREAMED, Streamed},
};
use crate::media::StreamName;

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// A file that the binary carries: the landing page, scripts, styles.
    Asset(&'static Asset),
    /// `/APP/STREAM.flv` and the like: the stream itself.
    Stream(StreamName, &'static Streamed),
    /// `/APP/STREAM/`: the page that plays it.
    Player,
    /// `/APP/STREAM/FILE`: something of the packaged stream.
    #[cfg(feature = "segment")]
    File(StreamName, String),
    /// `/APP/STREAM/whip`, `/APP/STREAM/whep`, and what was opened there.
    #[cfg(feature = "webrtc")]
    Signal(StreamName, Place),
    /// `/APP/STREAM`: the page's address without its slash.
    Unslashed(StreamName),
}

/// Where conversations about a stream are asked for, or one of them.
#[cfg(feature = "webrtc")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// WHIP, to send the stream; else WHEP, to watch it.
    pub publish: bool,
    /// What the conversation is called, as it stands there. `None` where they are asked for.
    pub key: Option<String>,
}

impl Route {
    /// Whether the body of a request of this `method` is read here. All others are dropped.
    pub fn takes_body(&self, method: Method) -> bool {
        match (self, method) {
            #[cfg(feature = "webrtc")]
            (Route::Signal(_, Place { key: None, .. }), Method::Post)
            | (Route::Signal(_, Place { key: Some(_), .. }), Method::Patch) => true,
            _ => false,
        }
    }
}

/// What stands at `path`.
///
/// # Errors
/// 404 for what is not here, 400 for a name that no stream can have.
pub fn route(path: &str) -> Result<Route, Fault> {
    if let Some(asset) = page::asset(path) {
        return Ok(Route::Asset(asset));
    }
    let path = unescape(path)?;
    #[cfg(feature = "webrtc")]
    if let Some(route) = signal(&path) {
        return route;
    }
    let mut parts = path.strip_prefix('/').unwrap_or(&path).split('/');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(app), Some(stream), None, None) => {
            let streamed = |kind: &&'static Streamed| Some((stream.strip_suffix(kind.suffix)?, *kind));
            match STREAMED.iter().find_map(streamed) {
                Some((stream, kind)) => name(app, stream).map(|name| Route::Stream(name, kind)),
                None => name(app, stream).map(Route::Unslashed),
            }
        }
        (Some(app), Some(stream), Some(""), None) => name(app, stream).map(|_| Route::Player),
        #[cfg(feature = "segment")]
        (Some(app), Some(stream), Some(file), None) => {
            name(app, stream).map(|name| Route::File(name, file.into()))
        }
        _ => {
            Err(Fault { status: Status::NotFound, why: "nothing here: try /APP/STREAM.flv or /APP/STREAM/" })
        }
    }
}

/// What stands at `path`, if it is where conversations are asked for.
#[cfg(feature = "webrtc")]
fn signal(path: &str) -> Option<Result<Route, Fault>> {
    let mut parts = path.strip_prefix('/')?.split('/');
    let (app, stream, door) = (parts.next()?, parts.next()?, parts.next()?);
    let publish = match door {
        "whip" => true,
        "whep" => false,
        _ => return None,
    };
    let key = parts.next().map(str::to_owned);
    let is_place = parts.next().is_none();
    is_place.then(|| name(app, stream).map(|name| Route::Signal(name, Place { publish, key })))
}

fn name(app: &str, stream: &str) -> Result<StreamName, Fault> {
    StreamName::new(app, stream).map_err(|error| Fault { status: Status::BadRequest, why: error.why })
}

/// Resolves percent escapes (RFC 3986, 2.1). An escaped slash becomes one that parts the path, which can only make a
/// legal name into another legal name or an illegal one.
fn unescape(path: &str) -> Result<String, Fault> {
    if !path.contains('%') {
        return Ok(path.into());
    }
    let malformed = Fault { status: Status::BadRequest, why: "the path has a broken percent escape" };
    let mut bytes = path.bytes();
    let mut plain = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            plain.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (high, low) = (digit(bytes.next()).ok_or(malformed)?, digit(bytes.next()).ok_or(malformed)?);
        plain.push(u8::try_from(high << 4 | low).expect("two hexadecimal digits are a byte"));
    }
    String::from_utf8(plain).map_err(|_| malformed)
}

#[cfg(test)]
mod tests {
    use super::{super::wire::FLV, *};

    fn stream(text: &str) -> StreamName {
        StreamName::parse(text).unwrap()
    }

    #[test]
    fn each_shape_of_path_has_its_place() {
        assert_eq!(route("/live/cam.flv"), Ok(Route::Stream(stream("live/cam"), &FLV)));
        assert_eq!(route("/live/cam.flv.flv"), Ok(Route::Stream(stream("live/cam.flv"), &FLV)));
        assert_eq!(route("/live/cam/"), Ok(Route::Player));
        assert_eq!(route("/live/cam"), Ok(Route::Unslashed(stream("live/cam"))));
        assert_eq!(route("/live/c%61m%2Eflv"), Ok(Route::Stream(stream("live/cam"), &FLV)));
        assert!(matches!(route("/"), Ok(Route::Asset(_))));
        #[cfg(feature = "mpegts")]
        assert_eq!(route("/live/cam.ts"), Ok(Route::Stream(stream("live/cam"), &crate::http::wire::TS)));
        #[cfg(feature = "segment")]
        for path in ["/live/cam/a.m3u8", "/live%2fcam/a.m3u8"] {
            assert_eq!(route(path), Ok(Route::File(stream("live/cam"), "a.m3u8".into())));
        }
    }

    #[cfg(feature = "webrtc")]
    #[test]
    fn conversations_are_asked_for_beside_a_streams_page() {
        for (path, publish, key) in [
            ("/live/cam/whip", true, None),
            ("/live/cam/whep", false, None),
            ("/live/c%61m/wh%69p/0-1-2", true, Some("0-1-2")),
            ("/live/cam/whep/", false, Some("")),
        ] {
            let place = Place { publish, key: key.map(str::to_owned) };
            let found = route(path).unwrap();
            assert_eq!(found, Route::Signal(stream("live/cam"), place), "{path}");
            assert_eq!(found.takes_body(Method::Post), key.is_none());
            assert_eq!(found.takes_body(Method::Patch), key.is_some());
            assert!(!found.takes_body(Method::Get) && !found.takes_body(Method::Delete));
        }
        assert_eq!(route("/live/../whip").unwrap_err().status, Status::BadRequest);
        assert_eq!(route("/live/cam/whip/a/b").unwrap_err().status, Status::NotFound);
        assert_eq!(route("/live/whip"), Ok(Route::Unslashed(stream("live/whip"))));
        assert!(!route("/live/cam/").unwrap().takes_body(Method::Post));
    }

    #[test]
    fn what_no_stream_can_be_called_is_a_bad_request() {
        let long = format!("/live/{}.flv", "x".repeat(129));
        for path in [
            "/live/.flv",
            "/../x.flv",
            "/live/..",
            "/live/../",
            "/%2e%2e/x.flv",
            "/live/a%00b",
            "/l/%",
            &long,
        ] {
            assert_eq!(route(path).unwrap_err().status, Status::BadRequest, "{path}");
        }
    }

    #[test]
    fn what_is_not_here_is_not_found() {
        for path in ["*", "/favicon.txt/a/b/c", "/live", "/a/b/c/", "/a%2fb/c/d.flv"] {
            assert_eq!(route(path).unwrap_err().status, Status::NotFound, "{path}");
        }
    }
}
