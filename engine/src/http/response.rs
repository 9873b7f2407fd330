//! Answers: status lines and head fields to bytes. Every answer may be read by a page of another origin (CORS), since
//! players are pages of another origin.

use bytes::{Bytes, BytesMut};

/// The statuses that this door answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is RFC 9110's reason phrase, or RFC 6585's")]
pub enum Status {
    SwitchingProtocols,
    Ok,
    Created,
    NoContent,
    PartialContent,
    NotModified,
    TemporaryRedirect,
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    Conflict,
    LengthRequired,
    PreconditionFailed,
    BodyTooLarge,
    TargetTooLong,
    UnsupportedMediaType,
    RangeNotSatisfiable,
    Unprocessable,
    UpgradeRequired,
    PreconditionRequired,
    HeadTooLarge,
    ServiceUnavailable,
    VersionNotSupported,
}

impl Status {
    /// Number and phrase, as the status line has them.
    pub const fn line(self) -> &'static str {
        match self {
            Status::SwitchingProtocols => "101 Switching Protocols",
            Status::Ok => "200 OK",
            Status::Created => "201 Created",
            Status::NoContent => "204 No Content",
            Status::PartialContent => "206 Partial Content",
            Status::NotModified => "304 Not Modified",
            Status::TemporaryRedirect => "307 Temporary Redirect",
            Status::BadRequest => "400 Bad Request",
            Status::Unauthorized => "401 Unauthorized",
            Status::Forbidden => "403 Forbidden",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::RequestTimeout => "408 Request Timeout",
            Status::Conflict => "409 Conflict",
            Status::LengthRequired => "411 Length Required",
            Status::PreconditionFailed => "412 Precondition Failed",
            Status::BodyTooLarge => "413 Content Too Large",
            Status::TargetTooLong => "414 URI Too Long",
            Status::UnsupportedMediaType => "415 Unsupported Media Type",
            Status::RangeNotSatisfiable => "416 Range Not Satisfiable",
            Status::Unprocessable => "422 Unprocessable Content",
            Status::UpgradeRequired => "426 Upgrade Required",
            Status::PreconditionRequired => "428 Precondition Required",
            Status::HeadTooLarge => "431 Request Header Fields Too Large",
            Status::ServiceUnavailable => "503 Service Unavailable",
            Status::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }
}

/// The methods that a resource here answers, if it has no others.
pub const ALLOWED: &str = "GET, HEAD, OPTIONS";

/// Whether the connection goes on after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The next request may come.
    KeepAlive,
    /// The answer is the last thing on this connection.
    Close,
    /// The connection stops being HTTP.
    Upgrade,
}

/// Who tells where the body of an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// The answer itself: by its length, by chunks, or by the connection's end (RFC 9112, 6.3).
    Own,
    /// Whoever carries it, in a stream that it has alone (RFC 9113, 8.1).
    Carried,
}

/// The head of an answer in the making.
#[derive(Debug)]
pub struct Head {
    bytes: BytesMut,
}

impl Head {
    /// Begins with the status line and what every answer has.
    pub fn new(status: Status, after: After) -> Self {
        Self::exposing("*", status, after)
    }

    /// The same, with the names of the fields that a page of another origin may read. Older browsers know no `*`.
    pub(super) fn exposing(names: &str, status: Status, after: After) -> Self {
        let connection = match after {
            After::KeepAlive => "keep-alive",
            After::Close => "close",
            After::Upgrade => "Upgrade",
        };
        let head = Head { bytes: BytesMut::with_capacity(512) };
        // Always HTTP/1.1, also to an older client: the version is the server's. (RFC 9110, 2.5)
        head.text("HTTP/1.1 ")
            .text(status.line())
            .text("\r\n")
            .field("Connection", connection)
            .field("Access-Control-Allow-Origin", "*")
            .field("Access-Control-Expose-Headers", names)
            // Some players sniff, and would find scripts where there are none.
            .field("X-Content-Type-Options", "nosniff")
    }

    /// One field. Neither part may hold a line break; ours are constants, numbers, and text that was checked.
    pub fn field(self, name: &str, value: &str) -> Self {
        debug_assert!(!value.contains(['\r', '\n']), "a field is one line");
        self.text(name).text(": ").text(value).text("\r\n")
    }

    /// Ends the head. Nothing follows it, or a stream does.
    pub fn end(self) -> Bytes {
        self.with("")
    }

    /// Ends the head, and has this text behind it. Its length is a field like others.
    pub fn with(self, body: &str) -> Bytes {
        self.text("\r\n").text(body).bytes.freeze()
    }

    fn text(mut self, text: &str) -> Self {
        self.bytes.extend_from_slice(text.as_bytes());
        self
    }
}

/// A whole answer of one line of text: what went wrong, for the person who reads it in a terminal.
pub fn text(status: Status, why: &str, after: After, with_body: bool) -> Bytes {
    let fields: &[(&str, &str)] = match status {
        Status::MethodNotAllowed => &[("Allow", ALLOWED)],
        Status::Unauthorized => &[("WWW-Authenticate", "Bearer realm=\"shardcast\"")],
        Status::ServiceUnavailable => &[("Retry-After", "5")],
        Status::UpgradeRequired => &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")],
        _ => &[],
    };
    text_with(fields, status, why, after, with_body)
}

/// The same with these fields, and no others that its status may have.
pub(super) fn text_with(
    fields: &[(&str, &str)],
    status: Status,
    why: &str,
    after: After,
    with_body: bool,
) -> Bytes {
    let body = format!("{}: {why}\n", status.line());
    let head = Head::new(status, after)
        .field("Content-Type", "text/plain; charset=utf-8")
        .field("Cache-Control", "no-store")
        .field("Content-Length", &body.len().to_string());
    let head = fields.iter().fold(head, |head, (name, value)| head.field(name, value));
    if with_body { head.with(&body) } else { head.end() }
}

/// The answer to `OPTIONS`, preflight or not: all is allowed that this door can do.
pub fn options(after: After) -> Bytes {
    allowing(ALLOWED, ALLOWED, "Authorization, Content-Type, If-None-Match, Range", after).end()
}

/// The head of an answer to `OPTIONS`: the methods of this resource, and the methods and fields that a page of another origin may
/// use (Fetch, CORS-preflight; and the allowance that browsers ask for when a public page reaches into a private network).
pub(super) fn allowing(allowed: &str, methods: &str, fields: &str, after: After) -> Head {
    Head::new(Status::NoContent, after)
        .field("Allow", allowed)
        .field("Access-Control-Allow-Methods", methods)
        .field("Access-Control-Allow-Headers", fields)
        .field("Access-Control-Allow-Private-Network", "true")
        .field("Access-Control-Max-Age", "86400")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_answer_states_the_length_of_its_one_line() {
        let answer = text(Status::NotFound, "no such stream", After::KeepAlive, true);
        let answer = std::str::from_utf8(&answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "404 Not Found: no such stream\n");
        assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "{head}");
        assert!(head.contains("\r\nAccess-Control-Allow-Origin: *\r\n"), "{head}");
    }

    #[test]
    fn an_answer_to_head_differs_in_nothing_but_the_body() {
        let whole = text(Status::MethodNotAllowed, "no", After::Close, true);
        let head = text(Status::MethodNotAllowed, "no", After::Close, false);
        assert!(whole.starts_with(&head));
        assert!(head.ends_with(b"\r\n\r\n"));
    }
}
