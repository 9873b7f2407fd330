//! The body of a request that somebody wants to read: taken as it comes, by its length or in chunks (RFC 9112, 6 and 7.1), as far
//! as its bound. Bodies that nobody wants are dropped by the [session](super::session).

use bytes::{Buf, BytesMut};

use super::{
    request::{Fault, Request},
    response::Status,
};
use crate::limits;

/// A body, as far as it has come.
#[derive(Debug)]
pub(super) struct Body {
    bytes: Vec<u8>,
    rest: Rest,
}

/// What is still to come.
#[derive(Debug)]
enum Rest {
    /// So many bytes.
    Length(usize),
    /// The line that says how long the next chunk is.
    ChunkSize,
    /// So many bytes of a chunk.
    Chunk(usize),
    /// The line break behind a chunk.
    ChunkEnd,
    /// Lines of fields behind the last chunk, of which so many bytes have come, and the empty line behind those.
    Trailer(usize),
    /// Nothing.
    Nothing,
}

impl Body {
    /// That of `request`, with nothing of it here. Its length is known to be within the bound.
    pub fn of(request: &Request) -> Self {
        let rest = if request.chunked { Rest::ChunkSize } else { Rest::Length(request.body) };
        Body { bytes: Vec::new(), rest }
    }

    /// All of it, or what there is.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Takes what is its own from the front of `unread`; true when it is whole.
    ///
    /// # Errors
    /// 413 for one that is too large, 400 for chunks that break a rule. Where it ends cannot be told then.
    pub fn take(&mut self, unread: &mut BytesMut) -> Result<bool, Fault> {
        loop {
            self.rest = match self.rest {
                Rest::Length(left) => match self.copy(left, unread) {
                    0 => Rest::Nothing,
                    left => {
                        self.rest = Rest::Length(left);
                        return Ok(false);
                    }
                },
                Rest::ChunkSize => {
                    let Some(size) = chunk_size(unread)? else { return Ok(false) };
                    if size > (limits::HTTP_BODY_BYTES_MAX - self.bytes.len()) as u64 {
                        return Err(Fault { status: Status::BodyTooLarge, why: "the body is too large" });
                    }
                    match usize::try_from(size).expect("it is within the bound") {
                        0 => Rest::Trailer(0),
                        size => Rest::Chunk(size),
                    }
                }
                Rest::Chunk(left) => match self.copy(left, unread) {
                    0 => Rest::ChunkEnd,
                    left => {
                        self.rest = Rest::Chunk(left);
                        return Ok(false);
                    }
                },
                Rest::ChunkEnd => match unread.get(..2) {
                    None if b"\r\n".starts_with(unread) => return Ok(false),
                    Some(b"\r\n") => {
                        unread.advance(2);
                        Rest::ChunkSize
                    }
                    _ => return Err(BAD_CHUNK),
                },
                // Nobody reads them.
                Rest::Trailer(before) => match unread.iter().position(|byte| *byte == b'\n') {
                    None if unread.len() > TRAILER_BYTES_MAX - before => return Err(BAD_CHUNK),
                    None => return Ok(false),
                    Some(1) if unread.starts_with(b"\r") => {
                        unread.advance(2);
                        Rest::Nothing
                    }
                    Some(end) if before + end < TRAILER_BYTES_MAX => {
                        unread.advance(end + 1);
                        Rest::Trailer(before + end + 1)
                    }
                    Some(_) => return Err(BAD_CHUNK),
                },
                Rest::Nothing => return Ok(true),
            };
        }
    }

    /// Copies up to `wanted` bytes; how many of them are still to come.
    fn copy(&mut self, wanted: usize, unread: &mut BytesMut) -> usize {
        let piece = unread.split_to(wanted.min(unread.len()));
        self.bytes.extend_from_slice(&piece);
        wanted - piece.len()
    }
}

/// Reads the line before a chunk, with whatever stands behind the number in it; `None` when it is not whole.
fn chunk_size(unread: &mut BytesMut) -> Result<Option<u64>, Fault> {
    let Some(end) = unread.iter().take(CHUNK_LINE_BYTES_MAX).position(|byte| *byte == b'\n') else {
        return if unread.len() < CHUNK_LINE_BYTES_MAX { Ok(None) } else { Err(BAD_CHUNK) };
    };
    // `httparse` takes a line without a number for one with a zero, and a line break in what stands behind it. Others do not,
    // and whoever is between us and them would see other requests than we do.
    let line = unread.split_to(end + 1);
    match httparse::parse_chunk_size(&line) {
        Ok(httparse::Status::Complete((length, size)))
            if length == line.len() && line.first().is_some_and(u8::is_ascii_hexdigit) =>
        {
            Ok(Some(size))
        }
        _ => Err(BAD_CHUNK),
    }
}

const BAD_CHUNK: Fault = Fault { status: Status::BadRequest, why: "the body's chunks break a rule" };

/// Bytes of the line before a chunk. It says a number; nobody here knows an extension.
const CHUNK_LINE_BYTES_MAX: usize = 256;
/// Bytes of all fields behind the last chunk.
const TRAILER_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A body and what stood behind it, if it was whole.
    type Taken = Result<Option<(Vec<u8>, Vec<u8>)>, Fault>;

    /// Gives `text` in pieces of `cut` bytes.
    fn read(rest: Rest, text: &[u8], cut: usize) -> Taken {
        let mut body = Body { bytes: Vec::new(), rest };
        let mut unread = BytesMut::new();
        let (mut at, mut whole) = (0, false);
        while !whole && at < text.len() {
            let to = (at + cut).min(text.len());
            unread.extend_from_slice(&text[at..to]);
            at = to;
            whole = body.take(&mut unread)?;
            assert!(body.bytes.len() <= limits::HTTP_BODY_BYTES_MAX);
            assert!(whole || unread.len() <= TRAILER_BYTES_MAX, "{} bytes wait", unread.len());
        }
        unread.extend_from_slice(&text[at..]);
        Ok(whole.then(|| (body.bytes, unread.to_vec())))
    }

    fn chunks(text: &str, cut: usize) -> Taken {
        read(Rest::ChunkSize, text.as_bytes(), cut)
    }

    #[test]
    fn a_body_is_the_same_wherever_its_bytes_are_cut() {
        let text = "3\r\nv=0\r\n00A ;a=\"b\"\r\n0123456789\r\n0;x\r\nA: b\r\nC: d\r\n\r\nGET ";
        for cut in 1..text.len() {
            assert_eq!(chunks(text, cut), Ok(Some((b"v=00123456789".into(), b"GET ".into()))), "{cut}");
            assert_eq!(
                read(Rest::Length(5), b"v=0\r\nGET ", cut),
                Ok(Some((b"v=0\r\n".into(), b"GET ".into())))
            );
        }
        assert_eq!(chunks("0\r\n\r\n", 1), Ok(Some((Vec::new(), Vec::new()))));
    }

    #[test]
    fn half_a_body_is_waited_for() {
        let text = "3\r\nv=0\r\n0\r\nA: b\r\n\r\n";
        for end in 1..text.len() {
            assert_eq!(chunks(&text[..end], 1), Ok(None), "{end}");
        }
        assert_eq!(read(Rest::Length(5), b"v=0", 2), Ok(None));
    }

    #[test]
    fn chunks_that_break_a_rule_or_a_bound_are_refused_wherever_they_are_cut() {
        let long = format!("1;{}\r\n", "x".repeat(CHUNK_LINE_BYTES_MAX));
        let trailer = format!("0\r\nA: {}\r\n\r\n", "x".repeat(TRAILER_BYTES_MAX));
        let trailers = format!("0\r\n{}\r\n", "A: b\r\n".repeat(TRAILER_BYTES_MAX / 6 + 1));
        for cut in [1, 2, 3, 1000, 100_000] {
            for bad in [
                "x\r\n",
                "\r\n0\r\n",
                ";0\r\n",
                "1;a\nb\r\n",
                "1\n",
                "-1\r\n",
                "1\r\nab\r\n",
                "1\r\na\n0\r\n",
                "1\r\na\rb",
                &long,
                &trailer,
                &trailers,
            ] {
                assert_eq!(chunks(bad, cut), Err(BAD_CHUNK), "{bad} {cut}");
            }
        }
        let large = |taken: Taken| taken.unwrap_err().status;
        assert_eq!(large(chunks("10001\r\n", 1)), Status::BodyTooLarge);
        assert_eq!(large(chunks("ffffffffffffffff\r\n", 1)), Status::BodyTooLarge);
        let all = format!("ffff\r\n{}\r\n", "x".repeat(0xffff));
        assert!(
            matches!(chunks(&format!("{all}1\r\ny\r\n0\r\n\r\n"), 7000), Ok(Some((body, _))) if body.len() == 65_536)
        );
        assert_eq!(large(chunks(&format!("{all}2\r\n"), 7000)), Status::BodyTooLarge);
    }

    proptest! {
        #[test]
        fn what_is_written_in_chunks_is_read_again(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..8),
            cut in 1..400_usize,
        ) {
            let mut text = Vec::new();
            for piece in &pieces {
                text.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                text.extend_from_slice(piece);
                text.extend_from_slice(b"\r\n");
            }
            text.extend_from_slice(b"0\r\n\r\nrest");
            prop_assert_eq!(read(Rest::ChunkSize, &text, cut), Ok(Some((pieces.concat(), b"rest".to_vec()))));
        }

        #[test]
        fn no_bytes_panic_it_and_no_cut_makes_a_difference(
            words in proptest::collection::vec(proptest::sample::select(vec![
                "0", "1", "a", "f", "ffff", "\r\n", "\n", "\r", ";x", " ", "A: b", "xyz", "\u{e9}",
            ]), 0..20),
            cut in 1..10_usize,
        ) {
            let text = words.concat();
            prop_assert_eq!(chunks(&text, cut), chunks(&text, text.len().max(1)));
        }
    }
}
