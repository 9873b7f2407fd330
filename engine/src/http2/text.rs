//! Heads: of HTTP/2 to text and back, as the sessions of the HTTP door read and write them.

use http::{Request, Response, header};

/// Fields of one connection, which say nothing in HTTP/2 and must not stand there (RFC 9113, 8.2.2).
const OF_A_CONNECTION: [header::HeaderName; 4] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TE];

/// The head of a request as HTTP/1.1 writes it (RFC 9112, 2.1). Its parts were checked when they were read: none holds a line
/// break. `chunked` says so of the body, whose length is whatever comes then.
pub(super) fn head_of<T>(request: &Request<T>, chunked: bool) -> Vec<u8> {
    let (uri, authority) = (request.uri(), request.uri().authority());
    // CONNECT alone has no path. The session refuses it, whatever it names.
    let target = uri.path_and_query().map_or("*", |target| target.as_str());
    let mut head = Vec::with_capacity(HEAD_BYTES_USUAL);
    let mut line = |parts: [&[u8]; 3]| {
        parts.iter().for_each(|part| head.extend_from_slice(part));
        head.extend_from_slice(b"\r\n");
    };
    line([request.method().as_str().as_bytes(), b" ", format!("{target} HTTP/1.1").as_bytes()]);
    if let Some(authority) = authority {
        // In the place of a field of that name. (RFC 9113, 8.3.1)
        line([b"host", b": ", authority.as_str().as_bytes()]);
    }
    for (name, value) in request.headers() {
        let stands = authority.is_some() && name == header::HOST;
        let counted = chunked && name == header::CONTENT_LENGTH;
        if !stands && !counted && !OF_A_CONNECTION.contains(name) {
            line([name.as_str().as_bytes(), b": ", value.as_bytes()]);
        }
    }
    if chunked {
        line([b"transfer-encoding", b": ", b"chunked"]);
    }
    line([b"", b"", b""]);
    head
}

/// A piece of a body as a chunk (RFC 9112, 7.1). It is not empty: that would be the end.
pub(super) fn chunk_of(piece: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()
}

/// The end of a body in chunks.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The answer whose head stands at the front of `bytes`, and how long the head is. `None` when no whole one does.
pub(super) fn response_of(bytes: &[u8]) -> Option<(Response<()>, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let mut lines = std::str::from_utf8(bytes.get(..end)?).ok()?.split("\r\n");
    // "HTTP/1.1 200 OK"
    let status: u16 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let mut response = Response::builder().status(status);
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let name = header::HeaderName::from_bytes(name.as_bytes()).ok()?;
        if !OF_A_CONNECTION.contains(&name) {
            response = response.header(name, value.trim());
        }
    }
    Some((response.body(()).ok()?, end + 4))
}

/// Room for a head as browsers send it.
const HEAD_BYTES_USUAL: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_written_as_the_session_reads_it() {
        let request = Request::get("https://door.example:8080/live/cam.flv?token=a%20b")
            .header("range", "bytes=0-")
            .header("host", "another.example")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let head = head_of(&request, false);
        assert_eq!(
            String::from_utf8_lossy(&head),
            "GET /live/cam.flv?token=a%20b HTTP/1.1\r\nhost: door.example:8080\r\nrange: bytes=0-\r\n\r\n"
        );
        let (read, length) = crate::http::request::parse(&head).unwrap().unwrap();
        assert_eq!((read.path.as_str(), length), ("/live/cam.flv", head.len()));
    }

    #[test]
    fn a_request_that_names_no_authority_keeps_its_host_and_one_for_a_tunnel_is_none_that_is_served() {
        let request = Request::get("/").header("host", "door").body(()).unwrap();
        assert_eq!(head_of(&request, false), b"GET / HTTP/1.1\r\nhost: door\r\n\r\n");
        let request = Request::connect("door:443").body(()).unwrap();
        assert_eq!(head_of(&request, false), b"CONNECT * HTTP/1.1\r\nhost: door:443\r\n\r\n");
    }

    #[test]
    fn a_body_that_is_passed_on_comes_in_chunks_and_has_no_other_length() {
        let request = Request::post("http://door/live/cam/whip")
            .header("content-type", "application/sdp")
            .header("content-length", "5")
            .body(())
            .unwrap();
        let text = [head_of(&request, true), chunk_of(b"v=0\r\n"), LAST_CHUNK.to_vec()].concat();
        assert_eq!(
            String::from_utf8_lossy(&text),
            "POST /live/cam/whip HTTP/1.1\r\nhost: door\r\ncontent-type: application/sdp\r\n\
             transfer-encoding: chunked\r\n\r\n5\r\nv=0\r\n\r\n0\r\n\r\n"
        );
        let (read, _) = crate::http::request::parse(&text).unwrap().unwrap();
        assert!(read.chunked && read.body == 0);
    }

    #[test]
    fn an_answer_loses_what_is_of_a_connection_and_nothing_else() {
        let text = b"HTTP/1.1 206 Partial Content\r\nConnection: close\r\nContent-Type: video/mp4\r\n\
                     Transfer-Encoding: chunked\r\nETag: \"a:b\"\r\n\r\nbody";
        let (response, length) = response_of(text).unwrap();
        assert_eq!((response.status().as_u16(), &text[length..]), (206, &b"body"[..]));
        let fields: Vec<_> = response.headers().iter().map(|(name, value)| (name.as_str(), value)).collect();
        assert_eq!(fields.len(), 2, "{fields:?}");
        assert_eq!(response.headers()["content-type"], "video/mp4");
        assert_eq!(response.headers()["etag"], "\"a:b\"");
    }

    #[test]
    fn half_a_head_and_what_is_none_are_no_answer() {
        for text in
            ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 2x0 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nno field\r\n\r\n"]
        {
            assert!(response_of(text.as_bytes()).is_none(), "{text:?}");
        }
    }
}
