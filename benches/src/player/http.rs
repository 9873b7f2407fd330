//! What is said to an HTTP server, and its answers as they come over one connection, one after the other (RFC 9112).
//!
//! [`Responses`] takes bytes cut anywhere. Of a body that nobody looks into it says how much may be left out, so that the
//! kernel can throw it away unread.

use std::{fmt::Write, io::Read};

use bytes::{BufMut, BytesMut};
use flate2::read::GzDecoder;

use crate::url::Url;

/// What a request says beside where it goes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms<'a> {
    /// The first and the last byte that are wanted, if not all are.
    pub range: Option<(u64, u64)>,
    /// The body may come packed.
    pub gzip: bool,
    /// The value of the field of that name, or empty.
    pub cookies: &'a str,
}

/// Appends a request for `url`.
pub fn write_request(out: &mut BytesMut, url: &Url, terms: Terms<'_>) {
    let Url { path, address, .. } = url;
    for part in ["GET ", path, " HTTP/1.1\r\nHost: ", address, "\r\n"] {
        out.put_slice(part.as_bytes());
    }
    out.put_slice(b"User-Agent: shardcast-bench\r\nAccept: */*\r\n");
    let Terms { range, gzip, cookies } = terms;
    if gzip {
        out.put_slice(b"Accept-Encoding: gzip\r\n");
    }
    if let Some((first, last)) = range {
        let _ = write!(out, "Range: bytes={first}-{last}\r\n");
    }
    if !cookies.is_empty() {
        let _ = write!(out, "Cookie: {cookies}\r\n");
    }
    out.put_slice(b"\r\n");
}

/// Reads the answers of one connection.
#[derive(Debug, Default)]
pub struct Responses {
    state: State,
    /// What of a head has come that is not whole.
    head: Vec<u8>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    /// So many bytes of the body are still to come.
    Length(u64),
    /// RFC 9112, 7.1: the line with a chunk's size so far.
    Size(Vec<u8>),
    /// So many bytes of the chunk are still to come.
    Chunk(u64),
    /// So many bytes of the line end behind the chunk are.
    ChunkEnd(u64),
    /// Fields behind the last chunk: how much of the line there is.
    Trailer(usize),
    /// Everything until the connection ends.
    Rest,
    /// The answer is whole, and nobody has been told.
    Whole,
}

/// What an answer's head says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// What the server calls it; empty for a success.
    pub reason: String,
    /// The connection ends with this answer.
    pub closes: bool,
    /// Bytes of the body, where they are known before.
    pub length: Option<u64>,
    /// The body is packed.
    pub gzip: bool,
    /// Where to go instead.
    pub location: Option<String>,
    /// Names and values of cookies.
    pub cookies: Vec<(String, String)>,
}

/// What comes of an answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// It begins.
    Head(Head),
    /// Bytes of its body.
    Body(&'a [u8]),
    /// It is whole.
    End,
}

/// More than any server's head and any chunk's size line have.
const HEAD_BYTES_MAX: usize = 16 << 10;
const LINE_BYTES_MAX: usize = 256;
/// Fields of a head that are looked at.
const FIELDS_MAX: usize = 64;
const LINE_END: u64 = 2;

impl Head {
    /// True for the status codes of success.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Responses {
    /// Takes from the front of `bytes` what the next event is made of; `None` when more bytes are needed.
    ///
    /// # Errors
    /// What came is no HTTP.
    pub fn read<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Event<'a>>, String> {
        loop {
            if matches!(self.state, State::Whole) {
                self.state = State::Head;
                return Ok(Some(Event::End));
            }
            if bytes.is_empty() {
                return Ok(None);
            }
            match &mut self.state {
                State::Head => {
                    let Some(head) = self.read_head(bytes)? else { return Ok(None) };
                    // Of an interim answer there is nothing but the head. (RFC 9110, 15.2)
                    if head.status >= 200 {
                        return Ok(Some(Event::Head(head)));
                    }
                    self.state = State::Head;
                }
                State::Length(left) => {
                    let piece = take(bytes, *left);
                    self.skipped(piece.len() as u64);
                    return Ok(Some(Event::Body(piece)));
                }
                State::Chunk(left) => {
                    let piece = take(bytes, *left);
                    self.skipped(piece.len() as u64);
                    return Ok(Some(Event::Body(piece)));
                }
                State::Rest => return Ok(Some(Event::Body(take(bytes, u64::MAX)))),
                State::Size(line) => {
                    let byte = take(bytes, 1);
                    line.extend_from_slice(byte);
                    if byte == b"\n" {
                        let size = chunk_size(line)?;
                        self.state = if size == 0 { State::Trailer(0) } else { State::Chunk(size) };
                    } else if line.len() > LINE_BYTES_MAX {
                        return Err("a chunk's size has no end".to_owned());
                    }
                }
                State::ChunkEnd(left) => {
                    *left -= take(bytes, *left).len() as u64;
                    if *left == 0 {
                        self.state = State::Size(Vec::new());
                    }
                }
                State::Trailer(length) => match take(bytes, 1) {
                    b"\n" if *length == 0 => self.state = State::Whole,
                    b"\n" => *length = 0,
                    b"\r" => {}
                    _ if *length > HEAD_BYTES_MAX => {
                        return Err("the last chunk's fields have no end".to_owned());
                    }
                    _ => *length += 1,
                },
                State::Whole => unreachable!("it was looked at above"),
            }
        }
    }

    /// How many bytes come next that are the body's and nothing else, so that they need not be shown to [`read`](Self::read).
    pub fn skippable(&self) -> u64 {
        match self.state {
            State::Length(left) | State::Chunk(left) => left,
            State::Rest => u64::MAX,
            _ => 0,
        }
    }

    /// So many of the [`skippable`](Self::skippable) bytes have come, and nobody looked at them.
    pub fn skipped(&mut self, bytes: u64) {
        match &mut self.state {
            State::Length(left) => {
                *left = left.saturating_sub(bytes);
                if *left == 0 {
                    self.state = State::Whole;
                }
            }
            State::Chunk(left) => {
                *left = left.saturating_sub(bytes);
                if *left == 0 {
                    self.state = State::ChunkEnd(LINE_END);
                }
            }
            _ => {}
        }
    }

    /// The connection has ended. True when that makes an answer whole.
    pub fn ended(&mut self) -> bool {
        let whole = matches!(self.state, State::Rest | State::Whole);
        *self = Responses { state: if whole { State::Whole } else { State::Head }, head: Vec::new() };
        whole
    }

    /// Whether nothing of an answer has come.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Head) && self.head.is_empty()
    }

    fn read_head(&mut self, bytes: &mut &[u8]) -> Result<Option<Head>, String> {
        let before = self.head.len();
        // A head that comes in one piece, as nearly every one does, is read where it stands.
        let parsed = if before == 0 {
            parse_head(bytes)?
        } else {
            self.head.extend_from_slice(bytes);
            parse_head(&self.head)?
        };
        let Some((head, state, length)) = parsed else {
            if before == 0 {
                self.head.extend_from_slice(bytes);
            }
            *bytes = &[];
            if self.head.len() > HEAD_BYTES_MAX {
                return Err("the answer's head has no end".to_owned());
            }
            return Ok(None);
        };
        *bytes = bytes.get(length.saturating_sub(before)..).unwrap_or_default();
        self.head.clear();
        self.state = state;
        Ok(Some(head))
    }
}

/// Splits off at most `most` bytes.
fn take<'a>(bytes: &mut &'a [u8], most: u64) -> &'a [u8] {
    let most = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
    let (taken, rest) = bytes.split_at(most);
    *bytes = rest;
    taken
}

fn chunk_size(line: &[u8]) -> Result<u64, String> {
    let text = String::from_utf8_lossy(line);
    let digits = text.split([';', '\r', '\n']).next().unwrap_or_default().trim();
    u64::from_str_radix(digits, 16).map_err(|_| format!("{digits:?} is no size of a chunk"))
}

/// The head, how the body is framed and the head's length, once the head is whole.
fn parse_head(bytes: &[u8]) -> Result<Option<(Head, State, usize)>, String> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let parsed = response.parse(bytes).map_err(|error| format!("the answer is no HTTP: {error}"))?;
    let httparse::Status::Complete(length) = parsed else { return Ok(None) };
    let mut head = Head {
        status: response.code.unwrap_or_default(),
        closes: response.version == Some(0),
        ..Head::default()
    };
    if !head.is_success() {
        response.reason.unwrap_or_default().clone_into(&mut head.reason);
    }
    let mut chunked = false;
    for field in response.headers.iter() {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let text = std::str::from_utf8(field.value).unwrap_or_default().trim();
            head.length = Some(text.parse().map_err(|_| format!("{text:?} is no length of a body"))?);
        } else if is("transfer-encoding") {
            chunked |= field.value.trim_ascii().to_ascii_lowercase().ends_with(b"chunked");
        } else if is("connection") {
            let value = field.value.to_ascii_lowercase();
            let mut words = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            if let Some(word) = words.find(|word| matches!(*word, b"close" | b"keep-alive")) {
                head.closes = word == b"close";
            }
        } else if is("content-encoding") {
            head.gzip = field.value.trim_ascii().eq_ignore_ascii_case(b"gzip");
        } else if is("location") {
            head.location = Some(String::from_utf8_lossy(field.value).into_owned());
        } else if is("set-cookie") {
            let text = String::from_utf8_lossy(field.value);
            let pair = text.split(';').next().unwrap_or_default();
            if let Some((name, value)) = pair.split_once('=') {
                head.cookies.push((name.trim().to_owned(), value.trim().to_owned()));
            }
        }
    }
    let state = match head.length {
        _ if head.status < 200 || matches!(head.status, 204 | 304) => State::Whole,
        // Where both are said, the chunks hold. (RFC 9112, 6.3)
        _ if chunked => {
            head.length = None;
            State::Size(Vec::new())
        }
        Some(0) => State::Whole,
        Some(length) => State::Length(length),
        None => {
            head.closes = true;
            State::Rest
        }
    };
    Ok(Some((head, state, length)))
}

/// The content of a packed body (RFC 1952).
///
/// # Errors
/// It is none, or has more than `most` bytes.
pub fn unpack(body: &[u8], most: u64) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    let unpacked = GzDecoder::new(body).take(most + 1).read_to_end(&mut content);
    unpacked.map_err(|error| format!("the body is not packed by gzip: {error}"))?;
    if content.len() as u64 > most { Err("the body unpacks to too much".to_owned()) } else { Ok(content) }
}

/// What a server wants to be told with each request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cookies {
    pairs: Vec<(String, String)>,
    line: String,
}

/// More than any server sets, and as long as a name with its value may be.
const COOKIES_MAX: usize = 16;
const COOKIE_BYTES_MAX: usize = 4096;

impl Cookies {
    /// Keeps what a head sets.
    pub fn keep(&mut self, set: &[(String, String)]) {
        for (name, value) in set {
            if name.len() + value.len() > COOKIE_BYTES_MAX {
                continue;
            }
            self.pairs.retain(|(known, _)| known != name);
            if self.pairs.len() < COOKIES_MAX {
                self.pairs.push((name.clone(), value.clone()));
            }
        }
        if !set.is_empty() {
            let pairs: Vec<_> = self.pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
            self.line = pairs.join("; ");
        }
    }

    /// The value of the field in a request; empty when there are none.
    pub fn line(&self) -> &str {
        &self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Statuses and bodies of all answers in `bytes`, which come in pieces.
    fn answers(bytes: &[u8], piece: usize) -> Result<Vec<(u16, Vec<u8>)>, String> {
        let mut responses = Responses::default();
        let (mut found, mut body, mut status) = (Vec::new(), Vec::new(), 0);
        for mut piece in bytes.chunks(piece.max(1)) {
            while let Some(event) = responses.read(&mut piece)? {
                match event {
                    Event::Head(head) => status = head.status,
                    Event::Body(bytes) => body.extend_from_slice(bytes),
                    Event::End => found.push((status, std::mem::take(&mut body))),
                }
            }
        }
        if responses.ended() {
            found.push((status, body));
        }
        Ok(found)
    }

    const FIVE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc\
        HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n\
        HTTP/1.1 206 Partial Content\r\ntransfer-encoding: Chunked\r\n\r\n2;x=1\r\nde\r\n1\r\nf\r\n0\r\nA: b\r\n\r\n\
        HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\nHTTP/1.0 200 OK\r\n\r\nghi";

    #[test]
    fn answers_follow_each_other_however_they_are_cut() {
        let wanted: Vec<(u16, Vec<u8>)> = vec![
            (200, b"abc".to_vec()),
            (404, vec![]),
            (206, b"def".to_vec()),
            (304, vec![]),
            (200, b"ghi".to_vec()),
        ];
        for piece in 1..FIVE.len() {
            assert_eq!(answers(FIVE, piece).as_ref(), Ok(&wanted), "cut each {piece} bytes");
        }
    }

    #[test]
    fn a_body_that_nobody_looks_at_is_left_out() {
        for (head, rest) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx", 999),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\nx", 999),
        ] {
            let (mut responses, mut bytes, mut seen) = (Responses::default(), head.as_bytes(), 0);
            while let Some(event) = responses.read(&mut bytes).unwrap() {
                if let Event::Body(body) = event {
                    seen += body.len();
                }
            }
            assert_eq!((seen, responses.skippable()), (1, rest));
            responses.skipped(rest - 1);
            responses.skipped(1);
            assert_eq!(responses.skippable(), 0);
            let mut tail = if head.contains("chunked") { &b"\r\n0\r\n\r\n"[..] } else { b"" };
            assert_eq!(responses.read(&mut tail).unwrap(), Some(Event::End));
            assert!(responses.is_idle());
        }
    }

    #[test]
    fn a_head_says_what_a_client_must_know() {
        let mut bytes =
            &b"HTTP/1.1 302 Found\r\nLocation: /x?a=1\r\nSet-Cookie: s=1; Path=/\r\nset-cookie: t=2\r\n\
                           Connection: close\r\nContent-Length: 0\r\n\r\n"[..];
        let Some(Event::Head(head)) = Responses::default().read(&mut bytes).unwrap() else {
            panic!("no head")
        };
        assert_eq!((head.status, head.reason.as_str(), head.closes), (302, "Found", true));
        assert_eq!(head.location.as_deref(), Some("/x?a=1"));
        let mut cookies = Cookies::default();
        cookies.keep(&head.cookies);
        cookies.keep(&[("s".into(), "3".into())]);
        assert_eq!(cookies.line(), "t=2; s=3");
    }

    #[test]
    fn a_request_says_what_it_is_for() {
        let url = Url::parse("http://h:80/a/b?c=d").unwrap();
        let mut out = BytesMut::new();
        write_request(&mut out, &url, Terms { range: Some((5, 9)), gzip: true, cookies: "s=1" });
        let text = String::from_utf8(out.to_vec()).unwrap();
        assert!(text.starts_with("GET /a/b?c=d HTTP/1.1\r\nHost: h:80\r\n"), "{text}");
        assert!(
            text.contains("\r\nRange: bytes=5-9\r\nCookie: s=1\r\n") && text.ends_with("\r\n\r\n"),
            "{text}"
        );
        assert!(text.contains("\r\nAccept-Encoding: gzip\r\n"), "{text}");
        out.clear();
        write_request(&mut out, &url, Terms::default());
        assert_eq!(
            &out[..],
            b"GET /a/b?c=d HTTP/1.1\r\nHost: h:80\r\nUser-Agent: shardcast-bench\r\nAccept: */*\r\n\r\n"
        );
    }

    #[test]
    fn an_end_in_the_middle_is_no_answer() {
        assert_eq!(answers(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", 99), Ok(vec![]));
        assert!(answers(b"SSH-2.0-x\r\n\r\n", 99).is_err());
        assert!(answers(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", 99).is_err());
        assert!(answers(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 9).is_err());
        let endless = [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; 20_000]].concat();
        assert!(answers(&endless, 1000).is_err());
    }

    #[test]
    fn a_packed_body_is_unpacked_up_to_a_bound() {
        use std::io::Write as _;
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(&[b'#'; 5000]).unwrap();
        let packed = packer.finish().unwrap();
        assert_eq!(unpack(&packed, 5000), Ok(vec![b'#'; 5000]));
        assert!(
            unpack(&packed, 4999).is_err()
                && unpack(&packed[..20], 5000).is_err()
                && unpack(b"#EXTM3U", 9).is_err()
        );
        let head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n";
        let Some(Event::Head(head)) = Responses::default().read(&mut &head[..]).unwrap() else {
            panic!("no head")
        };
        assert!(head.gzip);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), piece in 1usize..50) {
            let _ = answers(&bytes, piece);
            let _ = answers(&[&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"[..], &bytes].concat(), piece);
        }
    }
}
