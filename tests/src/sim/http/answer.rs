//! Reads answers as strictly as RFC 9112 allows: every byte that comes belongs to the answer of one request.

use bytes::{Buf, BytesMut};

/// The answer to one request.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// The fields of its head, names in lower case.
    pub fields: Vec<(String, String)>,
    /// Its body, out of its chunks if it came in any.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a field of its head, by its name in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Nothing more comes on the connection.
    pub fn closes(&self) -> bool {
        self.field("connection") == Some("close")
    }
}

/// Cuts what comes on a connection into answers.
#[derive(Debug, Default)]
pub struct Answers {
    buffer: BytesMut,
    begun: Option<(Answer, Rest)>,
}

/// What of an answer is still to come.
#[derive(Clone, Copy, Debug)]
enum Rest {
    /// So many bytes.
    Bytes(usize),
    /// A line that says how long the next chunk is.
    Length,
    /// So many bytes of a chunk, and a line break.
    Chunk(usize),
}

/// A longer head is none of this server's.
const HEAD_BYTES_MAX: usize = 4096;

impl Answers {
    /// Takes what came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Nothing came that no answer was made of.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.begun.is_none()
    }

    /// The next whole answer. `with_body` says whether its request lets it have a body.
    ///
    /// # Errors
    /// What came is no answer.
    pub fn next(&mut self, with_body: bool) -> Result<Option<Answer>, &'static str> {
        if self.begun.is_none() {
            let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") else {
                let too_long = self.buffer.len() > HEAD_BYTES_MAX;
                return if too_long { Err("a head without an end") } else { Ok(None) };
            };
            let head = self.buffer.split_to(end + 4);
            let head = std::str::from_utf8(&head[..end]).map_err(|_| "a head that is no text")?;
            let answer = read_head(head)?;
            let rest = rest_of(&answer, with_body)?;
            self.begun = Some((answer, rest));
        }
        loop {
            let Some((answer, rest)) = &mut self.begun else { return Ok(None) };
            match rest {
                Rest::Bytes(count) => {
                    let taken = (*count).min(self.buffer.len());
                    answer.body.extend_from_slice(&self.buffer.split_to(taken));
                    *count -= taken;
                    let whole = *count == 0;
                    return Ok(self.begun.take_if(|_| whole).map(|(answer, _)| answer));
                }
                Rest::Length => {
                    let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") else {
                        return Ok(None);
                    };
                    let line = self.buffer.split_to(end + 2);
                    let digits = std::str::from_utf8(&line[..end]).unwrap_or_default();
                    let count = usize::from_str_radix(digits, 16).map_err(|_| "a chunk of no length")?;
                    *rest = Rest::Chunk(count);
                }
                Rest::Chunk(count) => {
                    let count = *count;
                    if self.buffer.len() < count + 2 {
                        return Ok(None);
                    }
                    answer.body.extend_from_slice(&self.buffer.split_to(count));
                    if !self.buffer.starts_with(b"\r\n") {
                        return Err("a chunk that is longer than it said");
                    }
                    self.buffer.advance(2);
                    *rest = Rest::Length;
                    if count == 0 {
                        return Ok(self.begun.take().map(|(answer, _)| answer));
                    }
                }
            }
        }
    }
}

fn read_head(head: &str) -> Result<Answer, &'static str> {
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).ok_or("no status line")?;
    let status = status.get(..3).and_then(|digits| digits.parse().ok()).ok_or("no status")?;
    let mut answer = Answer { status, ..Answer::default() };
    for line in lines {
        let (name, value) = line.split_once(": ").ok_or("a field without a value")?;
        let name = name.to_ascii_lowercase();
        if answer.field(&name).is_some() {
            return Err("a field that stands there twice");
        }
        answer.fields.push((name, value.to_owned()));
    }
    Ok(answer)
}

fn rest_of(answer: &Answer, with_body: bool) -> Result<Rest, &'static str> {
    if answer.field("access-control-allow-origin") != Some("*") {
        return Err("an answer that a page may not read");
    }
    let length = answer.field("content-length").map(|length| length.parse().map_err(|_| "no length"));
    let length = length.transpose()?;
    match (answer.field("transfer-encoding"), length) {
        (Some("chunked"), None) if with_body => Ok(Rest::Length),
        (Some(_), _) => Err("chunks that nobody can read"),
        (None, Some(length)) => Ok(Rest::Bytes(if with_body { length } else { 0 })),
        (None, None) if answer.status == 204 => Ok(Rest::Bytes(0)),
        (None, None) => Err("a body without an end"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nAccess-Control-Allow-Origin: *\r\n";

    fn read(bytes: &str, with_body: bool) -> Result<Vec<Answer>, &'static str> {
        let mut answers = Answers::default();
        let mut found = Vec::new();
        for byte in bytes.as_bytes() {
            answers.push(&[*byte]);
            found.extend(answers.next(with_body)?);
        }
        assert!(answers.is_empty(), "{answers:?}");
        Ok(found)
    }

    #[test]
    fn answers_follow_each_other_however_they_are_cut() {
        let text = format!(
            "{HEAD}Content-Length: 3\r\n\r\nabc{HEAD}Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\na\r\n0123456789\r\n0\r\n\r\n"
        );
        let found = read(&text, true).unwrap();
        let bodies: Vec<&[u8]> = found.iter().map(|answer| &answer.body[..]).collect();
        assert_eq!(bodies, [&b"abc"[..], b"ab0123456789"]);
        assert!(found.iter().all(|answer| answer.status == 200 && !answer.closes()));
        assert_eq!(read(&format!("{HEAD}Content-Length: 3\r\n\r\n"), false).unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_answer_is_said_to_be_none() {
        for broken in [
            "HTTP/1.0 200 OK\r\n\r\n".to_owned(),
            format!("{HEAD}\r\n"),
            format!("{HEAD}Content-Length: x\r\n\r\n"),
            format!("{HEAD}Content-Length: 3\r\nContent-Length: 3\r\n\r\n"),
            format!("{HEAD}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
            format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n"),
            format!("{HEAD}Transfer-Encoding: chunked\r\n\r\nz\r\n"),
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
        ] {
            assert!(read(&broken, true).is_err(), "{broken:?}");
        }
    }
}
