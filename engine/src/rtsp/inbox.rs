//! What a peer sends, in whole pieces: packets inside the connection (RFC 2326, 10.12), requests (6) and answers (7).

use bytes::{Buf as _, BytesMut};
use rtsp_types::{Message, ParseError, Request, Response};

use crate::{
    bits::Reader,
    error::Error,
    limits::{RTSP_BODY_BYTES_MAX, RTSP_HEAD_BYTES_MAX},
};

/// What stands at the front of what has come.
#[derive(Debug)]
pub enum Item<'a> {
    /// A packet on a channel.
    Packet {
        /// The channel.
        channel: u8,
        /// The packet.
        bytes: &'a [u8],
    },
    /// A request.
    Request(Box<Request<Vec<u8>>>),
    /// The answer to a request.
    Response(Box<Response<Vec<u8>>>),
    /// Nothing to be answered: an empty line.
    Other,
}

/// What begins a packet.
const DOLLAR: u8 = b'$';
/// Bytes before a packet.
const PACKET_HEAD_BYTES: usize = 4;

/// The next item at the front of `bytes`, and how many of them it takes; `None` while it is not whole. `at` is their place in
/// the connection.
///
/// # Errors
/// It is neither a packet nor a message, or larger than its bound.
pub fn next(bytes: &[u8], at: u64) -> Result<Option<(Item<'_>, usize)>, Error> {
    match bytes {
        [] => Ok(None),
        [DOLLAR, rest @ ..] => {
            let mut reader = Reader::new(rest);
            let mut packet = || {
                let channel = reader.u8("channel")?;
                let len = reader.u16("length of a packet")?;
                Ok::<_, Error>((channel, reader.take(len.into(), "packet")?))
            };
            // What is missing comes yet.
            let Ok((channel, packet)) = packet() else { return Ok(None) };
            Ok(Some((Item::Packet { channel, bytes: packet }, PACKET_HEAD_BYTES + packet.len())))
        }
        [b'\r', b'\n', ..] => Ok(Some((Item::Other, 2))),
        [b'\r'] => Ok(None),
        [b'A'..=b'Z', ..] => message(bytes, at),
        _ => Err(Error::malformed("neither a message nor a packet begins like this", at)),
    }
}

fn message(bytes: &[u8], at: u64) -> Result<Option<(Item<'_>, usize)>, Error> {
    let head = bytes.windows(4).take(RTSP_HEAD_BYTES_MAX).position(|end| end == b"\r\n\r\n");
    if head.is_none() {
        if bytes.len() >= RTSP_HEAD_BYTES_MAX {
            return Err(Error::too_large("head of a message", at));
        }
        return Ok(None);
    }
    match Message::<Vec<u8>>::parse(bytes) {
        Ok((Message::Request(request), used)) => Ok(Some((Item::Request(Box::new(request)), used))),
        Ok((Message::Response(response), used)) => Ok(Some((Item::Response(Box::new(response)), used))),
        Ok((Message::Data(_), used)) => Ok(Some((Item::Other, used))),
        Err(ParseError::Incomplete(_)) if bytes.len() >= RTSP_HEAD_BYTES_MAX + RTSP_BODY_BYTES_MAX => {
            Err(Error::too_large("body of a message", at))
        }
        Err(ParseError::Incomplete(_)) => Ok(None),
        Err(ParseError::Error) => Err(Error::malformed("a message that cannot be read", at)),
    }
}

/// What has come and is not whole.
#[derive(Debug, Default)]
pub struct Inbox {
    held: BytesMut,
}

impl Inbox {
    /// Bytes that wait for the rest.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Takes as much of `bytes` as may make its first item whole: of a packet only what is missing, so that the next one is
    /// read where it lies.
    pub fn fill(&mut self, bytes: &mut &[u8]) {
        let missing = match &self.held[..] {
            [DOLLAR, _, high, low, ..] => {
                let whole = PACKET_HEAD_BYTES + usize::from(u16::from_be_bytes([*high, *low]));
                whole.saturating_sub(self.held.len())
            }
            [DOLLAR, ..] => PACKET_HEAD_BYTES - self.held.len(),
            _ => bytes.len(),
        };
        let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
        self.held.extend_from_slice(taken);
        *bytes = rest;
    }

    /// Everything, to be read; what is left of it comes back by [`keep`](Self::keep).
    pub fn take(&mut self) -> BytesMut {
        std::mem::take(&mut self.held)
    }

    /// Puts what was not read behind what waits.
    pub fn append(&mut self, rest: &[u8]) {
        self.held.extend_from_slice(rest);
    }

    /// Keeps what is left of `held` behind its first `used` bytes.
    pub fn keep(&mut self, mut held: BytesMut, used: usize) {
        held.advance(used);
        if !held.is_empty() {
            self.held = held;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut bytes: &[u8]) -> Result<Vec<String>, Error> {
        let (mut found, mut at) = (Vec::new(), 0);
        while let Some((item, used)) = next(bytes, at)? {
            found.push(match item {
                Item::Packet { channel, bytes } => format!("{channel}:{}", bytes.len()),
                Item::Request(request) => format!("{:?}+{}", request.method(), request.body().len()),
                Item::Response(response) => u16::from(response.status()).to_string(),
                Item::Other => "-".into(),
            });
            (bytes, at) = (bytes.split_at(used).1, at + used as u64);
        }
        Ok(found)
    }

    #[test]
    fn packets_and_requests_follow_each_other() {
        let bytes = b"$\x01\0\x03abc\r\nOPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n$\x02\0\0ANNOUNCE rtsp://h/a/b RTSP/1.0\r\nCSeq: 2\r\nContent-Length: 3\r\n\r\nv=0RTSP/1.0 200 OK\r\nCSeq: 9\r\n\r\nPLAY rtsp";
        assert_eq!(all(bytes).unwrap(), ["1:3", "-", "Options+0", "2:0", "Announce+3", "200"]);
    }

    #[test]
    fn what_is_no_message_or_too_large_is_refused() {
        assert!(all(b"\x16\x03\x01").unwrap_err().why.contains("begins like this"));
        assert!(all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap_err().why.contains("cannot be read"));
        let endless = [&b"OPTIONS * RTSP/1.0\r\n"[..], &b"X: y\r\n".repeat(RTSP_HEAD_BYTES_MAX)].concat();
        assert!(all(&endless).unwrap_err().why.contains("head"));
        let huge = [
            &b"ANNOUNCE * RTSP/1.0\r\nContent-Length: 99999999\r\n\r\n"[..],
            &vec![b'x'; RTSP_BODY_BYTES_MAX + RTSP_HEAD_BYTES_MAX],
        ]
        .concat();
        assert!(all(&huge).unwrap_err().why.contains("body"));
    }

    #[test]
    fn a_packet_that_is_cut_takes_only_what_it_misses() {
        let (mut inbox, packet) = (Inbox::default(), b"$\x01\0\x05hello");
        for cut in 1..packet.len() {
            let (first, second) = packet.split_at(cut);
            inbox.fill(&mut &first[..]);
            let rest = [second, b"$next"].concat();
            let mut rest = &rest[..];
            while next(&inbox.held, 0).unwrap().is_none() {
                inbox.fill(&mut rest);
            }
            assert_eq!((&inbox.take()[..], rest), (&packet[..], &b"$next"[..]), "{cut}");
        }
    }
}
