//! Answers to requests.

use std::time::Duration;

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
    /// What the peer may show, each on a line of its own: clients know no list of these.
    challenges: Vec<String>,
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
            challenges: Vec::new(),
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

    pub fn challenges(self, challenges: [String; 3]) -> Self {
        Reply { challenges: challenges.into(), ..self.status(StatusCode::Unauthorized) }
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
        if !self.challenges.is_empty() {
            let first = bytes.windows(2).position(|end| end == b"\r\n").map_or(bytes.len(), |end| end + 2);
            let lines = self.challenges.iter().map(|text| format!("WWW-Authenticate: {text}\r\n"));
            bytes.splice(first..first, lines.collect::<String>().into_bytes());
        }
        bytes.into()
    }
}
