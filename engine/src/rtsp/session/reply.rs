//! Answers to requests, and the credentials that requests show.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use rtsp_types::{HeaderName, Request, Response, StatusCode, Version, headers};

/// The answer to one request, while it is being made.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Of the request.
    number: Option<String>,
    url: String,
    status: StatusCode,
    reason: Option<&'static str>,
    headers: Vec<(HeaderName, String)>,
    body: String,
}

impl Reply {
    /// The answer to `request`, which is that all is well. `None` when it has no number to answer to.
    pub fn to(request: &Request<Vec<u8>>) -> Option<Self> {
        let number = request.header(&headers::CSEQ)?.as_str().trim().to_owned();
        let url = request.request_uri().map_or("", |url| url.as_str()).to_owned();
        let number = Some(number).filter(|number| !number.is_empty() && number.len() <= 20);
        Some(Reply { number: Some(number?), url, ..Reply::without_number() })
    }

    /// To what was no request.
    pub fn without_number() -> Self {
        Reply {
            number: None,
            url: String::new(),
            status: StatusCode::Ok,
            reason: None,
            headers: Vec::new(),
            body: String::new(),
        }
    }

    /// The URL of the request.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn status(self, status: StatusCode) -> Self {
        Reply { status, ..self }
    }

    /// A sentence of ours in place of the usual one.
    pub fn reason(self, reason: &'static str) -> Self {
        Reply { reason: Some(reason), ..self }
    }

    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub fn session(self, id: &str, timeout: Duration) -> Self {
        self.header(headers::SESSION, &format!("{id};timeout={}", timeout.as_secs()))
    }

    pub fn body(self, kind: &str, body: String) -> Self {
        let base = super::super::address::join(&self.url, "");
        Reply { body, ..self.header(headers::CONTENT_TYPE, kind).header(headers::CONTENT_BASE, &base) }
    }

    pub fn write(self) -> Bytes {
        let mut builder = Response::builder(Version::V1_0, self.status);
        // Some clients read the word and not the number.
        let usual = (self.status == StatusCode::Ok).then_some("OK");
        if let Some(reason) = self.reason.or(usual) {
            builder = builder.reason_phrase(reason);
        }
        if let Some(number) = self.number {
            builder = builder.header(headers::CSEQ, number);
        }
        builder = builder.header(headers::SERVER, "shardcast");
        for (name, value) in self.headers {
            builder = builder.header(name, value);
        }
        let mut bytes = Vec::new();
        builder.build(self.body).write(&mut bytes).expect("a vector takes everything");
        bytes.into()
    }
}

/// What a peer shows by `Authorization: Basic`, as the query that says the same: the password is the key. (RFC 7617)
pub fn credentials(header: &str) -> Option<String> {
    let (scheme, rest) = header.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(rest.trim()).ok()?;
    let split = decoded.iter().position(|byte| *byte == b':')?;
    let (user, password) = decoded.split_at(split);
    let password = password.split_first().map_or(&[][..], |(_, password)| password);
    Some(format!("user={}&key={}", percent_encoded(user), percent_encoded(password)))
}

/// RFC 3986, 2.1: whatever is not unreserved.
fn percent_encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(*byte))
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_a_key() {
        assert_eq!(credentials("Basic dXNlcjpzZWM6cmV0Jg==").as_deref(), Some("user=user&key=sec%3Aret%26"));
        for bad in ["", "Basic", "Basic !", "Basic dXNlcg==", "Digest dXNlcjpz"] {
            assert_eq!(credentials(bad), None, "{bad}");
        }
    }
}
