//! A request's head: bytes to the few facts that the door looks at (RFC 9112). What is asked for is
//! [`route`](super::route)'s; what is answered is [`response`](super::response)'s.

use super::response::Status;
use crate::{access, limits};

/// A request whose head is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub method: Method,
    /// The client's version.
    pub version: Version,
    /// The path as the client wrote it, beginning with `/`; `*` for the whole server.
    pub path: String,
    /// The query without its `?`. Empty when there is none.
    pub query: String,
    /// Bytes of body that follow the head, if it is not in chunks.
    pub body: usize,
    /// The body comes in chunks (RFC 9112, 7.1).
    pub chunked: bool,
    /// The client lets the connection go on after the answer.
    pub keep_alive: bool,
    /// The client waits for our leave to send its body; one of HTTP/1.0 does not, whatever it says. It may or may not send it after a final answer, and then nobody knows
    /// where the next request begins. (RFC 9110, 10.1.1)
    pub expects: bool,
    /// What the body is (`Content-Type`).
    pub content_type: Option<String>,
    /// The tags of what the client means to change (`If-Match`).
    pub matches: Option<String>,
    /// What it shows by `Authorization`, as the query that says the same.
    pub shown: Option<String>,
    /// The tag of what the client holds already (`If-None-Match`).
    pub held: Option<String>,
    /// The client takes what is packed by gzip.
    pub gzip: bool,
    /// The part of the thing that is wanted, if not all of it.
    pub range: Option<Range>,
    /// The client asks for a WebSocket instead of an answer.
    pub upgrade: Option<Upgrade>,
}

impl Request {
    /// The query of its URL, and behind it what it shows by `Authorization`.
    pub fn wish(&self) -> String {
        match &self.shown {
            None => self.query.clone(),
            Some(shown) if self.query.is_empty() => shown.clone(),
            Some(shown) => format!("{}&{shown}", self.query),
        }
    }
}

/// A part of a thing, in bytes (RFC 9110, 14.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// From the first of these to the second, which is in it, or to the end.
    From(u64, Option<u64>),
    /// So many at the end.
    Last(u64),
}

impl Range {
    /// Where it begins, and where what follows it does, in a thing of `len` bytes. `None` when nothing of it is there.
    pub fn within(self, len: usize) -> Option<(usize, usize)> {
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let (from, to) = match self {
            Range::From(first, last) => (size(first), last.map_or(len, |last| size(last).saturating_add(1))),
            Range::Last(count) => (len.saturating_sub(size(count)), len),
        };
        let to = to.min(len);
        (from < to).then_some((from, to))
    }

    /// One range of bytes. More of them, and units that nobody knows, ask for the whole. (RFC 9110, 14.2)
    fn parse(value: &str) -> Option<Self> {
        let (first, last) = value.strip_prefix("bytes=")?.trim().split_once('-')?;
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
        };
        match (first, last) {
            ("", last) => number(last).map(Range::Last),
            (first, "") => number(first).map(|first| Range::From(first, None)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Range::From(first, Some(last)))
            }
        }
    }
}

/// Whether a list of codings has gzip, and not with the weight of zero (RFC 9110, 12.5.3).
fn takes_gzip(value: &str) -> bool {
    value.split(',').any(|item| {
        let mut words = item.split(';').map(str::trim);
        let named = words.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip") || name == "*");
        let refused = words.any(|word| {
            word.strip_prefix("q=")
                .and_then(|weight| weight.parse::<f32>().ok())
                .is_some_and(|weight| weight <= 0.0)
        });
        named && !refused
    })
}

/// The methods that this door knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The thing.
    Get,
    /// Only the answer's head.
    Head,
    /// What is allowed: the preflight of a page of another origin.
    Options,
    /// Something new, made of the body.
    Post,
    /// A change.
    Patch,
    /// The end.
    Delete,
    /// Anything else. Answered 405.
    Other,
}

impl Method {
    /// The one that is called so.
    pub fn named(name: &str) -> Self {
        match name {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "OPTIONS" => Method::Options,
            "POST" => Method::Post,
            "PATCH" => Method::Patch,
            "DELETE" => Method::Delete,
            _ => Method::Other,
        }
    }
}

/// HTTP's version. The parser refuses all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0: no chunks, and the connection closes unless asked.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// What a client sends to open a WebSocket (RFC 6455, 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// `Sec-WebSocket-Key`, unchecked.
    pub key: Option<String>,
    /// `Sec-WebSocket-Version` is 13.
    pub version_13: bool,
}

/// A head that cannot be served: what to answer before closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The answer.
    pub status: Status,
    /// The sentence in it.
    pub why: &'static str,
}

const fn fault(status: Status, why: &'static str) -> Fault {
    Fault { status, why }
}

/// Reads one head from the front of `bytes`: the request and the head's length, or `None` when it is not whole yet.
///
/// # Errors
/// The head breaks a rule or a bound; nothing after it can be trusted.
pub fn parse(bytes: &[u8]) -> Result<Option<(Request, usize)>, Fault> {
    // A TLS client opens with a handshake record (RFC 8446, 5.1). Tell the person who forgot the certificate.
    if bytes.first() == Some(&0x16) {
        return Err(fault(Status::BadRequest, "a TLS handshake on a plain HTTP door"));
    }
    let mut fields = [httparse::EMPTY_HEADER; limits::HTTP_HEADERS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    let status = head.parse(bytes).map_err(|error| match error {
        httparse::Error::TooManyHeaders => fault(Status::HeadTooLarge, "too many header fields"),
        httparse::Error::Version => {
            fault(Status::VersionNotSupported, "this door speaks HTTP/1.0 and HTTP/1.1")
        }
        _ => fault(Status::BadRequest, "not an HTTP request"),
    })?;
    let httparse::Status::Complete(length) = status else {
        return match bytes.len() {
            0..=limits::HTTP_HEAD_BYTES_MAX => Ok(None),
            _ if !bytes.contains(&b'\n') => {
                Err(fault(Status::TargetTooLong, "the request's target is too long"))
            }
            _ => Err(fault(Status::HeadTooLarge, "the request's head is too large")),
        };
    };
    if length > limits::HTTP_HEAD_BYTES_MAX {
        return Err(fault(Status::HeadTooLarge, "the request's head is too large"));
    }
    let version = if head.version == Some(0) { Version::Http10 } else { Version::Http11 };
    let method = Method::named(head.method.unwrap_or_default());
    let (path, query) = split_target(head.path.unwrap_or_default())?;
    let fields = Fields::read(head.headers)?;
    if fields.hosts > 1 || (fields.hosts == 0 && version == Version::Http11) {
        return Err(fault(Status::BadRequest, "a request names one host"));
    }
    let keep_alive = match version {
        Version::Http11 => !fields.close,
        Version::Http10 => fields.keep_alive && !fields.close,
    };
    let upgrade = (fields.upgrade && fields.websocket && method == Method::Get && version == Version::Http11)
        .then_some(Upgrade { key: fields.key, version_13: fields.version_13 });
    if upgrade.is_some() && (fields.chunked || fields.body.is_some_and(|body| body > 0)) {
        return Err(fault(Status::BadRequest, "an upgrade has no body"));
    }
    if fields.chunked && version == Version::Http10 {
        return Err(fault(Status::LengthRequired, "HTTP/1.0 knows no chunks"));
    }
    let request = Request {
        method,
        version,
        path,
        query,
        body: fields.body.unwrap_or(0),
        chunked: fields.chunked,
        keep_alive,
        expects: fields.expects && version == Version::Http11,
        content_type: fields.content_type,
        matches: fields.matches,
        shown: fields.shown,
        held: fields.held,
        gzip: fields.gzip,
        range: fields.range.filter(|_| method == Method::Get),
        upgrade,
    };
    Ok(Some((request, length)))
}

/// The target's path and query (RFC 9112, 3.2). The absolute form that proxies use is taken, its host is not looked at.
fn split_target(target: &str) -> Result<(String, String), Fault> {
    if target.len() > limits::HTTP_TARGET_BYTES_MAX {
        return Err(fault(Status::TargetTooLong, "the request's target is too long"));
    }
    if !target.is_ascii() {
        return Err(fault(Status::BadRequest, "the request's target has bytes outside ASCII"));
    }
    let local = match target.split_once("://") {
        Some((scheme, rest))
            if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") =>
        {
            rest.find(['/', '?']).and_then(|start| rest.get(start..)).unwrap_or("/")
        }
        _ => target,
    };
    let local = local.split('#').next().unwrap_or_default();
    let (path, query) = local.split_once('?').unwrap_or((local, ""));
    match path {
        "" if target != local => Ok(("/".into(), query.into())),
        _ if path == "*" || path.starts_with('/') => Ok((path.into(), query.into())),
        _ => Err(fault(Status::BadRequest, "the request's target is not a path")),
    }
}

/// The fields that matter, gathered in one pass.
#[derive(Default)]
struct Fields {
    hosts: usize,
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    websocket: bool,
    expects: bool,
    body: Option<usize>,
    chunked: bool,
    content_type: Option<String>,
    matches: Option<String>,
    shown: Option<String>,
    held: Option<String>,
    gzip: bool,
    range: Option<Range>,
    key: Option<String>,
    version_13: bool,
}

impl Fields {
    fn read(headers: &[httparse::Header<'_>]) -> Result<Self, Fault> {
        let mut fields = Fields::default();
        let mut codings = Vec::new();
        for header in headers {
            let name = header.name;
            // Values outside UTF-8 are legal in fields that nobody here reads.
            let value = std::str::from_utf8(header.value).unwrap_or_default().trim();
            let lists = |word: &str| value.split(',').any(|item| item.trim().eq_ignore_ascii_case(word));
            if name.eq_ignore_ascii_case("host") {
                fields.hosts += 1;
            } else if name.eq_ignore_ascii_case("connection") {
                fields.close |= lists("close");
                fields.keep_alive |= lists("keep-alive");
                fields.upgrade |= lists("upgrade");
            } else if name.eq_ignore_ascii_case("upgrade") {
                fields.websocket |= lists("websocket");
            } else if name.eq_ignore_ascii_case("expect") {
                fields.expects = true;
            } else if name.eq_ignore_ascii_case("content-length") {
                fields.body = Some(body_length(value, fields.body)?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                codings.extend(value.split(',').map(str::trim));
            } else if name.eq_ignore_ascii_case("content-type") {
                fields.content_type = Some(value.into());
            } else if name.eq_ignore_ascii_case("if-match") {
                // More than one are a list. (RFC 9110, 5.3)
                let before = fields.matches.take().map(|before| before + ",");
                fields.matches = Some(before.unwrap_or_default() + value);
            } else if name.eq_ignore_ascii_case("authorization") {
                fields.shown = access::credentials(value);
            } else if name.eq_ignore_ascii_case("if-none-match") {
                fields.held = Some(value.into());
            } else if name.eq_ignore_ascii_case("accept-encoding") {
                fields.gzip |= takes_gzip(value);
            } else if name.eq_ignore_ascii_case("range") {
                fields.range = Range::parse(value);
            } else if name.eq_ignore_ascii_case("sec-websocket-key") {
                fields.key = Some(value.into());
            } else if name.eq_ignore_ascii_case("sec-websocket-version") {
                fields.version_13 = value == "13";
            }
        }
        match codings.as_slice() {
            [] => {}
            // Two lengths are how requests are smuggled past a proxy. (RFC 9112, 6.1)
            _ if fields.body.is_some() => return Err(fault(Status::BadRequest, "a body with two lengths")),
            [coding] if coding.eq_ignore_ascii_case("chunked") => fields.chunked = true,
            _ => return Err(NO_LENGTH),
        }
        Ok(fields)
    }
}

/// What is answered to a body whose end cannot be told.
pub(super) const NO_LENGTH: Fault = fault(Status::LengthRequired, "a body needs a Content-Length");

fn body_length(value: &str, before: Option<usize>) -> Result<usize, Fault> {
    let malformed = fault(Status::BadRequest, "the Content-Length is not a number");
    // `parse` would let a `+` pass, and a proxy before us might not.
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed);
    }
    let length = value.parse::<usize>().unwrap_or(usize::MAX);
    if before.is_some_and(|before| before != length) {
        return Err(fault(Status::BadRequest, "a body with two lengths"));
    }
    if length > limits::HTTP_BODY_BYTES_MAX {
        return Err(fault(Status::BodyTooLarge, "this door takes no body that is so large"));
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Request, Fault> {
        parse(text.as_bytes()).map(|whole| {
            let (request, length) = whole.expect("the head is whole");
            assert_eq!(length, text.len());
            request
        })
    }

    fn refused(text: &str) -> Status {
        parse(text.as_bytes()).expect_err(text).status
    }

    #[test]
    fn a_plain_get_is_read() {
        let request = read("GET /live/cam.flv?token=a%20b HTTP/1.1\r\nHost: example\r\n\r\n").unwrap();
        assert_eq!(
            request,
            Request {
                method: Method::Get,
                version: Version::Http11,
                path: "/live/cam.flv".into(),
                query: "token=a%20b".into(),
                body: 0,
                chunked: false,
                keep_alive: true,
                expects: false,
                content_type: None,
                matches: None,
                shown: None,
                held: None,
                gzip: false,
                range: None,
                upgrade: None,
            }
        );
    }

    #[test]
    fn what_is_taken_of_a_thing_is_read() {
        let get = |field: &str| read(&format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n")).unwrap();
        for (value, range) in [
            ("bytes=0-9", Some(Range::From(0, Some(9)))),
            ("bytes=5-", Some(Range::From(5, None))),
            ("bytes=-5", Some(Range::Last(5))),
            ("bytes=9-0", None),
            ("bytes=0-1,5-6", None),
            ("bytes=-", None),
            ("pages=1-2", None),
            ("bytes=+1-2", None),
        ] {
            assert_eq!(get(&format!("Range: {value}")).range, range, "{value}");
        }
        for (value, gzip) in [
            ("gzip, br", true),
            ("br;q=1, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("br", false),
            ("*", true),
        ] {
            assert_eq!(get(&format!("Accept-Encoding: {value}")).gzip, gzip, "{value}");
        }
    }

    #[test]
    fn the_connection_goes_on_as_version_and_field_say() {
        let keeps = |head: &str| read(head).unwrap().keep_alive;
        assert!(keeps("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.1\r\nHost: a\r\nConnection: foo, Close\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.0\r\n\r\n"));
        assert!(keeps("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
    }

    #[test]
    fn what_is_said_of_a_body_is_read() {
        let post = |fields: &str| read(&format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).unwrap();
        let plain =
            post("Content-Length: 3\r\nExpect: 100-continue\r\nContent-Type: application/sdp; a=b\r\n");
        assert_eq!((plain.method, plain.body, plain.chunked, plain.expects), (Method::Post, 3, false, true));
        assert_eq!(plain.content_type.as_deref(), Some("application/sdp; a=b"));
        let old = read("POST /a HTTP/1.0\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n").unwrap();
        assert!(!old.expects);
        let coded = post("Transfer-Encoding: Chunked\r\nIf-Match: \"a\"\r\nIf-Match: W/\"b\"\r\n");
        assert_eq!((coded.body, coded.chunked, coded.expects), (0, true, false));
        assert_eq!(coded.matches.as_deref(), Some("\"a\",W/\"b\""));
        assert_eq!(post("Authorization: Bearer a&b\r\n").shown.as_deref(), Some("key=a%26b"));
        assert_eq!(post("Authorization: Bearer t\r\n").wish(), "key=t");
        assert_eq!(post("Authorization: Digest a=b\r\n").shown, None);
        let both = read("GET /a?b=c HTTP/1.0\r\nAuthorization: Bearer t\r\n\r\n").unwrap();
        assert_eq!((both.wish().as_str(), both.query.as_str()), ("b=c&key=t", "b=c"));
        for (name, method) in [("PATCH", Method::Patch), ("DELETE", Method::Delete), ("post", Method::Other)]
        {
            assert_eq!(Method::named(name), method);
        }
    }

    #[test]
    fn targets_of_every_form_come_to_a_path() {
        let path = |target: &str| {
            let request = read(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).unwrap();
            (request.path, request.query)
        };
        let pair = |path: &str, query: &str| (path.to_owned(), query.to_owned());
        assert_eq!(path("/a/b?c?d"), pair("/a/b", "c?d"));
        assert_eq!(path("http://host:80/a?b"), pair("/a", "b"));
        assert_eq!(path("HTTPS://host"), pair("/", ""));
        assert_eq!(path("http://host?x"), pair("/", "x"));
        assert_eq!(path("/a?u=http://b/c"), pair("/a", "u=http://b/c"));
        assert_eq!(path("*"), pair("*", ""));
    }

    #[test]
    fn an_upgrade_is_seen_only_when_both_fields_ask_for_it() {
        let head = |extra: &str| read(&format!("GET /a HTTP/1.1\r\nHost: a\r\n{extra}\r\n")).unwrap().upgrade;
        assert_eq!(
            head(
                "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: k\r\n"
            ),
            Some(Upgrade { key: Some("k".into()), version_13: true })
        );
        assert_eq!(head("Upgrade: websocket\r\n"), None);
        assert_eq!(head("Connection: upgrade\r\nUpgrade: h2c\r\n"), None);
    }

    #[test]
    fn what_breaks_a_rule_gets_the_status_that_says_so() {
        for (head, status) in [
            ("\x16\x03\x01\x02\x00", Status::BadRequest),
            ("GET / HTTP/1.1\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Status::BadRequest),
            ("GET live HTTP/1.1\r\nHost: a\r\n\r\n", Status::BadRequest),
            ("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", Status::BadRequest),
            ("G\0T / HTTP/1.1\r\nHost: a\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Status::BadRequest),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Status::VersionNotSupported),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", Status::BadRequest),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", Status::BadRequest),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                Status::BadRequest,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                Status::BadRequest,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                Status::LengthRequired,
            ),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", Status::LengthRequired),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                Status::LengthRequired,
            ),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Status::LengthRequired),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n", Status::BodyTooLarge),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n",
                Status::BodyTooLarge,
            ),
        ] {
            assert_eq!(refused(head), status, "{head:?}");
        }
    }

    #[test]
    fn a_head_past_its_bounds_is_refused_before_it_ends() {
        let long = format!("GET /{}", "x".repeat(limits::HTTP_TARGET_BYTES_MAX));
        assert_eq!(
            refused(&format!("{long}{}", "x".repeat(limits::HTTP_HEAD_BYTES_MAX))),
            Status::TargetTooLong
        );
        assert_eq!(refused(&format!("{long} HTTP/1.1\r\nHost: a\r\n\r\n")), Status::TargetTooLong);
        let fat = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {}", "x".repeat(limits::HTTP_HEAD_BYTES_MAX));
        assert_eq!(refused(&fat), Status::HeadTooLarge);
        assert_eq!(refused(&format!("{fat}\r\n\r\n")), Status::HeadTooLarge);
        let many = "a: b\r\n".repeat(limits::HTTP_HEADERS_MAX + 1);
        assert_eq!(refused(&format!("GET / HTTP/1.1\r\n{many}")), Status::HeadTooLarge);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_parser(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn heads_that_are_nearly_right_do_not_panic_it(
            target in "[ -~]{0,40}",
            name in "[ -~]{0,20}",
            value in "[ -~]{0,40}",
        ) {
            let _ = parse(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{name}: {value}\r\n\r\n").as_bytes());
        }
    }
}
