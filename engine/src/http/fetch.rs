//! What is fetched of a packaged stream: which path names what, and how it is answered.

use std::io::Write;

use bytes::{Bytes, BytesMut};

use super::{
    request::{Fault, Method, Range, Request, Version},
    response::{self, After, Framing, Head, Status},
};
#[cfg(feature = "dash")]
use crate::dash;
#[cfg(feature = "hls")]
use crate::hls;
use crate::segment::{Found, Item, Rendition};

/// A name and its content never part, so a copy may be used for as long as anybody might ask.
const CACHE_MEDIA: &str = "public, max-age=600";
/// What was waited for has an address of its own.
const CACHE_AWAITED: &str = "public, max-age=10";
/// The next one may be there a moment later.
const CACHE_TEXT: &str = "public, max-age=1";

/// A body of no more bytes than this is copied behind its head: a second send would cost more.
const COPIED_BYTES_MAX: usize = 16 << 10;

/// How an answer is to be written once it is there.
#[derive(Debug)]
pub(super) struct Fetch {
    content_type: &'static str,
    cache: &'static str,
    with_body: bool,
    gzip: bool,
    range: Option<Range>,
    framing: Framing,
    /// The answer has begun, in chunks: more of it is to come.
    pub(super) begun: bool,
}

impl Fetch {
    /// How to answer `request` for `item`.
    pub(super) fn new(item: &Item, request: &Request, with_body: bool, framing: Framing) -> Self {
        let media = |rendition: &Rendition| match rendition {
            Rendition::Video => "video/mp4",
            Rendition::Audio => "audio/mp4",
            Rendition::Transport => "video/mp2t",
        };
        let (content_type, cache) = match item {
            Item::Init { rendition, .. }
            | Item::Segment { rendition, .. }
            | Item::Slot { rendition, .. }
            | Item::Part { rendition, .. } => (media(rendition), CACHE_MEDIA),
            Item::Text(text) => {
                let cache = if text.until.is_some() { CACHE_AWAITED } else { CACHE_TEXT };
                (text.form.content_type, cache)
            }
            Item::Clock => ("text/plain; charset=utf-8", "no-store"),
        };
        let (gzip, range) = (request.gzip, request.range);
        Fetch { content_type, cache, with_body, gzip, range, framing, begun: false }
    }

    /// Whether a client of this kind takes a segment while it is made: by chunks, and all of it.
    pub(super) fn takes_chunks(request: &Request) -> bool {
        request.method == Method::Get && request.version >= Version::Http11 && request.range.is_none()
    }

    /// The next chunks of an answer that is made while it is sent (RFC 9112, 7.1), each before bytes that are shared. What
    /// ends a chunk stands before the next. A carried answer has its head before the first of them, and nothing before others.
    pub(super) fn chunks(&mut self, pieces: &[Bytes], after: After, mut put: impl FnMut(Bytes, Bytes)) {
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            let length = format!("{:x}\r\n", piece.len());
            let begun = std::mem::replace(&mut self.begun, true);
            let before = match (self.framing, begun) {
                (Framing::Own, true) => format!("\r\n{length}").into(),
                (Framing::Carried, true) => Bytes::new(),
                (Framing::Carried, false) => self.open_head(after).end(),
                (Framing::Own, false) => {
                    let head = self.open_head(after).field("Transfer-Encoding", "chunked");
                    let mut head = BytesMut::from(head.end());
                    head.extend_from_slice(length.as_bytes());
                    head.freeze()
                }
            };
            put(before, piece.clone());
        }
    }

    /// The head of an answer whose length is not known yet.
    fn open_head(&self, after: After) -> Head {
        Head::new(Status::Ok, after)
            .field("Content-Type", self.content_type)
            .field("Cache-Control", self.cache)
    }

    /// Whether an answer to it has a body.
    pub(super) fn with_body(&self) -> bool {
        self.with_body
    }

    /// The answer: its head, and then what of the body is shared.
    pub(super) fn answer(&self, found: &Found, after: After) -> (Bytes, Vec<Bytes>) {
        let (head, body) = self.head_and_body(found, after);
        if body.iter().map(Bytes::len).sum::<usize>() > COPIED_BYTES_MAX {
            return (head, body);
        }
        let mut whole = BytesMut::from(head);
        body.iter().for_each(|piece| whole.extend_from_slice(piece));
        (whole.freeze(), Vec::new())
    }

    fn head_and_body(&self, found: &Found, after: After) -> (Bytes, Vec<Bytes>) {
        match found {
            Found::Bytes(pieces) => self.media(pieces, after),
            Found::Text(text) => self.text(text, after),
            Found::Absurd => {
                let why = "far ahead of what there is";
                (response::text(Status::BadRequest, why, after, self.with_body), Vec::new())
            }
            Found::Missing | Found::Later | Found::Open(..) => {
                let why = "not here, or no longer";
                (response::text(Status::NotFound, why, after, self.with_body), Vec::new())
            }
        }
    }

    fn media(&self, pieces: &[Bytes], after: After) -> (Bytes, Vec<Bytes>) {
        let total: usize = pieces.iter().map(Bytes::len).sum();
        let head = |status| {
            Head::new(status, after)
                .field("Content-Type", self.content_type)
                .field("Cache-Control", self.cache)
                .field("Accept-Ranges", "bytes")
        };
        let Some(range) = self.range else {
            let head = head(Status::Ok).field("Content-Length", &total.to_string());
            return (head.end(), self.body(pieces.to_vec()));
        };
        let Some((from, to)) = range.within(total) else {
            let head = head(Status::RangeNotSatisfiable)
                .field("Content-Range", &format!("bytes */{total}"))
                .field("Content-Length", "0");
            return (head.end(), Vec::new());
        };
        let head = head(Status::PartialContent)
            .field("Content-Range", &format!("bytes {from}-{}/{total}", to - 1))
            .field("Content-Length", &(to - from).to_string());
        let mut start = 0;
        let mut wanted = Vec::new();
        for piece in pieces {
            let end = start + piece.len();
            let (first, last) = (from.max(start), to.min(end));
            if first < last {
                wanted.push(piece.slice(first - start..last - start));
            }
            start = end;
        }
        (head.end(), self.body(wanted))
    }

    fn text(&self, text: &crate::segment::Written, after: After) -> (Bytes, Vec<Bytes>) {
        let head = Head::new(Status::Ok, after)
            .field("Content-Type", self.content_type)
            .field("Cache-Control", self.cache)
            .field("Vary", "Accept-Encoding");
        let (head, body) = if self.gzip {
            (head.field("Content-Encoding", "gzip"), text.packed(pack))
        } else {
            (head, text.plain())
        };
        let head = head.field("Content-Length", &body.len().to_string());
        (head.end(), self.body(vec![body]))
    }

    fn body(&self, pieces: Vec<Bytes>) -> Vec<Bytes> {
        if self.with_body { pieces } else { Vec::new() }
    }
}

/// What `file` of a stream's folder is, and the credentials in its query.
///
/// # Errors
/// 400 for directives that make no sense.
#[cfg(feature = "hls")]
pub(super) fn item(file: &str, query: &str) -> Result<Option<Item>, Fault> {
    match hls::request(file, query) {
        Ok(None) => {}
        Ok(found) => return Ok(found),
        Err(why) => return Err(Fault { status: Status::BadRequest, why }),
    }
    #[cfg(feature = "dash")]
    if let Some(item) = dash::request(file, query) {
        return Ok(Some(item));
    }
    Ok(None)
}

/// Nothing is named in a build without HLS and DASH.
#[cfg(not(feature = "hls"))]
pub(super) fn item(_: &str, _: &str) -> Result<Option<Item>, Fault> {
    Ok(None)
}

/// The query without what directs this one request: the same for all requests of a player.
pub(super) fn credentials(query: &str) -> String {
    const DIRECTIVES: [&str; 4] = ["_HLS_", "_DASH_", "format=", "timeline="];
    let directs = |pair: &str| DIRECTIVES.iter().any(|directive| pair.starts_with(directive));
    let lasting = |pair: &&str| !directs(pair) && !pair.is_empty();
    query.split('&').filter(lasting).collect::<Vec<_>>().join("&")
}

/// `text` in gzip's format.
fn pack(text: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(text).and_then(|()| packer.finish()).expect("memory takes all that is written to it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch(range: Option<Range>) -> Fetch {
        Fetch {
            content_type: "video/mp4",
            cache: CACHE_MEDIA,
            with_body: true,
            gzip: false,
            range,
            framing: Framing::Own,
            begun: false,
        }
    }

    fn pieces() -> Found {
        Found::Bytes(vec![Bytes::from_static(b"abc"), Bytes::from_static(b"de"), Bytes::from_static(b"fgh")])
    }

    fn answer(range: Option<Range>) -> (String, Vec<u8>) {
        let (head, body) = fetch(range).head_and_body(&pieces(), After::KeepAlive);
        (String::from_utf8(head.to_vec()).unwrap(), body.concat())
    }

    #[test]
    fn pieces_are_one_body() {
        let (head, body) = answer(None);
        assert!(
            head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("\r\nContent-Length: 8\r\n"),
            "{head}"
        );
        assert_eq!(body, b"abcdefgh");
    }

    #[test]
    fn a_small_body_goes_with_its_head_and_a_large_one_is_shared() {
        let (whole, rest) = fetch(None).answer(&pieces(), After::KeepAlive);
        assert!(whole.ends_with(b"\r\n\r\nabcdefgh") && rest.is_empty());
        let large = Bytes::from(vec![7; COPIED_BYTES_MAX + 1]);
        let (head, rest) = fetch(None).answer(&Found::Bytes(vec![large.clone()]), After::KeepAlive);
        assert!(head.ends_with(b"\r\n\r\n") && rest.len() == 1 && rest[0].as_ptr() == large.as_ptr());
    }

    #[test]
    fn a_range_is_cut_out_of_the_pieces() {
        for (range, bytes, field) in [
            (Range::From(2, Some(5)), &b"cdef"[..], "bytes 2-5/8"),
            (Range::From(4, None), b"efgh", "bytes 4-7/8"),
            (Range::From(7, Some(700)), b"h", "bytes 7-7/8"),
            (Range::Last(3), b"fgh", "bytes 5-7/8"),
            (Range::Last(30), b"abcdefgh", "bytes 0-7/8"),
        ] {
            let (head, body) = answer(Some(range));
            assert!(head.starts_with("HTTP/1.1 206 "), "{head}");
            assert!(head.contains(&format!("\r\nContent-Range: {field}\r\n")), "{head}");
            assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", bytes.len())), "{head}");
            assert_eq!(body, bytes);
        }
        let (head, body) = answer(Some(Range::From(8, None)));
        assert!(head.starts_with("HTTP/1.1 416 ") && head.contains("bytes */8"), "{head}");
        assert!(body.is_empty());
    }

    #[test]
    fn credentials_are_the_query_without_directives() {
        assert_eq!(credentials("_HLS_msn=3&token=a&_HLS_part=1&format=ts&b=c"), "token=a&b=c");
        assert_eq!(credentials("token=a&timeline=no&_DASH_follows=YES"), "token=a");
        assert_eq!(credentials(""), "");
    }

    #[test]
    fn a_packed_text_is_the_text() {
        use std::io::Read;
        let mut unpacked = String::new();
        flate2::read::GzDecoder::new(&pack(b"#EXTM3U\n")[..]).read_to_string(&mut unpacked).unwrap();
        assert_eq!(unpacked, "#EXTM3U\n");
    }
}
