//! Answers of HTTP/1.1 as their bytes come, cut anywhere. (RFC 9112)

use bytes::{Bytes, BytesMut};

/// Reads what a server says.
#[derive(Debug, Default)]
pub struct Answers {
    bytes: BytesMut,
    state: State,
}

/// The next thing of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// It begins, with this status.
    Head(u16),
    /// More of its body.
    Body(Bytes),
    /// It is whole.
    End,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The next answer has not begun, or its head is not whole.
    #[default]
    Head,
    /// So much is left of a body that has said its length.
    Length(usize),
    /// The line before a chunk.
    ChunkHead,
    /// So much is left of a chunk.
    Chunk(usize),
    /// The line's end behind a chunk.
    ChunkTail,
    /// The line's end behind the last chunk.
    LastTail,
}

/// A longer line or head is none of this server's.
const HEAD_BYTES_MAX: usize = 16 << 10;

impl Answers {
    /// Takes bytes, and gives away what they say, up to the first thing that makes no sense.
    ///
    /// # Errors
    /// That thing, or what `take` says of another.
    pub fn hear(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(Piece) -> Result<(), &'static str>,
    ) -> Result<(), &'static str> {
        self.push(bytes);
        while let Some(piece) = self.next()? {
            take(piece)?;
        }
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// True when no answer has begun that is not whole.
    pub fn is_between(&self) -> bool {
        self.state == State::Head && self.bytes.is_empty()
    }

    /// True in the midst of a body that has said its length.
    pub fn is_in_length(&self) -> bool {
        matches!(self.state, State::Length(_))
    }

    /// What comes next, if it is there.
    fn next(&mut self) -> Result<Option<Piece>, &'static str> {
        loop {
            match self.state {
                State::Head => {
                    let Some(head) = self.until(b"\r\n\r\n")? else { return Ok(None) };
                    let (status, state) = read_head(&head)?;
                    self.state = state;
                    return Ok(Some(Piece::Head(status)));
                }
                State::Length(0) => {
                    self.state = State::Head;
                    return Ok(Some(Piece::End));
                }
                State::Length(left) => {
                    let Some(piece) = self.up_to(left) else { return Ok(None) };
                    self.state = State::Length(left - piece.len());
                    return Ok(Some(Piece::Body(piece)));
                }
                State::ChunkHead => {
                    let Some(line) = self.until(b"\r\n")? else { return Ok(None) };
                    let line = std::str::from_utf8(&line).map_err(|_| "a length that is no text")?;
                    self.state =
                        match usize::from_str_radix(line, 16).map_err(|_| "a chunk without a length")? {
                            0 => State::LastTail,
                            length => State::Chunk(length),
                        };
                }
                State::Chunk(0) => self.state = State::ChunkTail,
                State::Chunk(left) => {
                    let Some(piece) = self.up_to(left) else { return Ok(None) };
                    self.state = State::Chunk(left - piece.len());
                    return Ok(Some(Piece::Body(piece)));
                }
                State::ChunkTail | State::LastTail => {
                    if self.bytes.len() < 2 {
                        return Ok(None);
                    }
                    if &self.bytes.split_to(2)[..] != b"\r\n" {
                        return Err("a chunk is longer than it says");
                    }
                    if self.state == State::LastTail {
                        self.state = State::Head;
                        return Ok(Some(Piece::End));
                    }
                    self.state = State::ChunkHead;
                }
            }
        }
    }

    /// What stands before `mark`, which is taken, too.
    fn until(&mut self, mark: &[u8]) -> Result<Option<BytesMut>, &'static str> {
        let Some(place) = self.bytes.windows(mark.len()).position(|window| window == mark) else {
            return if self.bytes.len() > HEAD_BYTES_MAX { Err("a head without an end") } else { Ok(None) };
        };
        let mut taken = self.bytes.split_to(place + mark.len());
        taken.truncate(place);
        Ok(Some(taken))
    }

    fn up_to(&mut self, most: usize) -> Option<Bytes> {
        let count = most.min(self.bytes.len());
        (count > 0).then(|| self.bytes.split_to(count).freeze())
    }
}

/// The status of an answer, and how its body is told from what follows it. (6.3)
fn read_head(head: &[u8]) -> Result<(u16, State), &'static str> {
    let head = std::str::from_utf8(head).map_err(|_| "a head that is no text")?;
    let mut lines = head.split("\r\n");
    let first =
        lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).ok_or("no answer of HTTP/1.1")?;
    let status = first.get(..3).and_then(|digits| digits.parse().ok()).ok_or("an answer without a status")?;
    let (mut chunked, mut length) = (false, None);
    for line in lines {
        let (name, value) = line.split_once(": ").ok_or("a field without a value")?;
        match name.to_ascii_lowercase().as_str() {
            "transfer-encoding" => chunked = value == "chunked",
            "content-length" => length = Some(value.parse().map_err(|_| "a length that is no number")?),
            _ => {}
        }
    }
    match (chunked, length) {
        (true, None) => Ok((status, State::ChunkHead)),
        (false, Some(length)) => Ok((status, State::Length(length))),
        (true, Some(_)) => Err("an answer with a length that comes in chunks"),
        (false, None) => Err("an answer whose end nobody can tell"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_wherever_they_are_cut() {
        let said = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n\
                     HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n1\r\nf\r\n0\r\n\r\n";
        for step in 1..said.len() {
            let mut answers = Answers::default();
            let (mut heads, mut body, mut ends) = (Vec::new(), Vec::new(), 0);
            for piece in said.chunks(step) {
                answers.push(piece);
                while let Some(piece) = answers.next().unwrap() {
                    match piece {
                        Piece::Head(status) => heads.push(status),
                        Piece::Body(bytes) => body.extend_from_slice(&bytes),
                        Piece::End => ends += 1,
                    }
                }
            }
            assert_eq!((heads, &body[..], ends), (vec![200, 404, 200], &b"abcdef"[..], 3));
            assert!(answers.is_between());
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for said in [
            "RTMP\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
        ] {
            let mut answers = Answers::default();
            answers.push(said.as_bytes());
            let fault = std::iter::repeat_with(|| answers.next()).take(9).find(Result::is_err);
            assert!(fault.is_some(), "{said}");
        }
    }
}
