//! WebSocket (RFC 6455), the server's side of a viewer that has nothing to say: the key check, the frames it sends, and
//! the few that answer them. What the viewer is sent is the stream's [`wire`](super::wire) form.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use sha1::{Digest, Sha1};

use crate::{bits::Reader, limits};

/// The answer to a client's `Sec-WebSocket-Key`, or `None` when that is not 16 bytes in base64 (RFC 6455, 4.2.2).
pub fn accept(key: &str) -> Option<String> {
    if STANDARD.decode(key).ok()?.len() != 16 {
        return None;
    }
    let digest =
        Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    Some(STANDARD.encode(digest))
}

/// Why a connection closes (RFC 6455, 7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Code {
    /// The stream has ended.
    Normal = 1000,
    /// The server goes down.
    GoingAway = 1001,
    /// The peer broke the rules of framing.
    ProtocolError = 1002,
    /// The peer sent more than a viewer has to say.
    TooBig = 1009,
}

/// What a viewer said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A ping, to be answered with the same bytes.
    Ping(Bytes),
    /// The end, with the code to answer with (`None` when it gave none).
    Close(Option<u16>),
}

/// What is wrong with a frame, and the code that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What to close with.
    pub code: Code,
    /// For the log.
    pub why: &'static str,
}

const fn violation(why: &'static str) -> Violation {
    Violation { code: Code::ProtocolError, why }
}

/// Reads the frames of a client. Data is passed over as it comes, so that nothing is held but a control frame of at
/// most 125 bytes.
#[derive(Debug, Default)]
pub struct Frames {
    /// Bytes of a data frame that are still to come.
    left: usize,
    /// Bytes of the data message so far, while its last frame has not come.
    message: Option<usize>,
}

impl Frames {
    /// The next thing said, taken from the front of `unread`; `None` when more bytes must come.
    ///
    /// # Errors
    /// The frame breaks the protocol or a bound. Close with the code.
    pub fn next(&mut self, unread: &mut BytesMut) -> Result<Option<Heard>, Violation> {
        loop {
            let here = self.left.min(unread.len());
            unread.advance(here);
            self.left -= here;
            let Some(frame) = FrameHead::read(unread)? else { return Ok(None) };
            if frame.control {
                let whole = frame.bytes + frame.length;
                if unread.len() < whole {
                    return Ok(None);
                }
                let mut payload = unread.split_to(whole);
                payload.advance(frame.bytes);
                for (byte, mask) in payload.iter_mut().zip(frame.mask.iter().cycle()) {
                    *byte ^= mask;
                }
                match frame.opcode {
                    PING => return Ok(Some(Heard::Ping(payload.freeze()))),
                    CLOSE => return close_code(&payload).map(|code| Some(Heard::Close(code))),
                    _ => {} // A pong. We send no pings, but a client may pong unasked. (RFC 6455, 5.5.3)
                }
                continue;
            }
            let before = match (frame.opcode, self.message) {
                (CONTINUATION, Some(before)) => before,
                (CONTINUATION, None) => return Err(violation("a continuation of nothing")),
                (_, None) => 0,
                (_, Some(_)) => return Err(violation("a message inside another")),
            };
            let message = before.saturating_add(frame.length);
            if message > limits::WEBSOCKET_MESSAGE_BYTES_MAX {
                return Err(Violation { code: Code::TooBig, why: "a viewer's message is too long" });
            }
            self.message = (!frame.last).then_some(message);
            unread.advance(frame.bytes);
            self.left = frame.length;
        }
    }
}

/// A frame's head (RFC 6455, 5.2), checked.
struct FrameHead {
    /// Its own size.
    bytes: usize,
    last: bool,
    opcode: u8,
    control: bool,
    length: usize,
    mask: [u8; 4],
}

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
const LAST: u8 = 0x80;

/// Bytes a control frame may carry (RFC 6455, 5.5).
const CONTROL_BYTES_MAX: usize = 125;

impl FrameHead {
    fn read(bytes: &[u8]) -> Result<Option<Self>, Violation> {
        let mut reader = Reader::new(bytes);
        let Ok(first) = reader.u16("frame head") else { return Ok(None) };
        let [first, second] = first.to_be_bytes();
        let (last, reserved, opcode) = (first & LAST != 0, first & 0x70, first & 0x0f);
        if reserved != 0 {
            return Err(violation("a reserved bit is set, and no extension was agreed"));
        }
        if second & 0x80 == 0 {
            return Err(violation("a client's frame is not masked"));
        }
        let control = match opcode {
            CONTINUATION | TEXT | BINARY => false,
            CLOSE | PING | PONG => true,
            _ => return Err(violation("an opcode that does not exist")),
        };
        let length = match second & 0x7f {
            126 => reader.u16("length").map(u64::from),
            127 => reader.u64("length"),
            short => Ok(u64::from(short)),
        };
        let Ok(length) = length else { return Ok(None) };
        if control && (!last || length > CONTROL_BYTES_MAX as u64) {
            return Err(violation("a control frame is cut or too long"));
        }
        let Ok(mask) = reader.array("mask") else { return Ok(None) };
        // A length that no machine can hold is past any bound all the same.
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        Ok(Some(FrameHead { bytes: reader.position(), last, opcode, control, length, mask }))
    }
}

/// The code of a close frame's payload, checked (RFC 6455, 7.4).
fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    if payload.is_empty() {
        return Ok(None);
    }
    match Reader::new(payload).u16("close code") {
        Ok(code @ (1000..=1003 | 1007..=1014 | 3000..=4999)) => Ok(Some(code)),
        _ => Err(violation("a close frame without a legal code")),
    }
}

/// Bytes of the largest frame head that a server writes.
pub const FRAME_HEAD_BYTES_MAX: usize = 10;

/// The head of an unmasked binary message of `length` bytes, in one frame.
pub fn binary_head(length: usize, out: &mut BytesMut) {
    head(BINARY, length, out);
}

/// A close frame with `code`, or with none.
pub fn close(code: Option<u16>) -> Bytes {
    let mut out = BytesMut::with_capacity(4);
    match code {
        Some(code) => {
            head(CLOSE, 2, &mut out);
            out.put_u16(code);
        }
        None => head(CLOSE, 0, &mut out),
    }
    out.freeze()
}

/// The answer to a ping.
pub fn pong(payload: &[u8]) -> Bytes {
    debug_assert!(payload.len() <= CONTROL_BYTES_MAX, "a ping is a control frame");
    let mut out = BytesMut::with_capacity(2 + payload.len());
    head(PONG, payload.len(), &mut out);
    out.extend_from_slice(payload);
    out.freeze()
}

fn head(opcode: u8, length: usize, out: &mut BytesMut) {
    out.put_u8(LAST | opcode);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ 0..=125), _) => out.put_u8(length),
        (_, Ok(length)) => {
            out.put_u8(126);
            out.put_u16(length);
        }
        _ => {
            out.put_u8(127);
            out.put_u64(length as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A client's frame.
    fn client(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = BytesMut::new();
        head(first & 0x0f, payload.len(), &mut frame);
        let mut frame = frame.to_vec();
        frame[0] = first;
        frame[1] |= 0x80;
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    fn hear(bytes: &[u8]) -> Result<Vec<Heard>, Violation> {
        let (mut frames, mut unread, mut heard) = (Frames::default(), BytesMut::from(bytes), Vec::new());
        while let Some(word) = frames.next(&mut unread)? {
            heard.push(word);
        }
        Ok(heard)
    }

    #[test]
    fn the_key_of_the_standard_gets_the_answer_of_the_standard() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ==").unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for bad in ["", "dGhlIHNhbXBsZSBub25jZQ", "c2hvcnQ=", "not base64 at all", "AAAAAAAAAAAAAAAAAAAAAAAA"]
        {
            assert_eq!(accept(bad), None, "{bad}");
        }
    }

    #[test]
    fn pings_and_closes_are_heard_between_and_inside_messages() {
        let mut bytes = client(0x01, b"Hel");
        bytes.extend(client(0x89, b"ping"));
        bytes.extend(client(0x80, b"lo"));
        bytes.extend(client(0x8a, b"unasked pong"));
        bytes.extend(client(0x82, &[0; 300]));
        bytes.extend(client(0x88, &[0x03, 0xe8, b'o', b'k']));
        assert_eq!(
            hear(&bytes).unwrap(),
            [Heard::Ping(Bytes::from_static(b"ping")), Heard::Close(Some(1000))]
        );
        assert_eq!(hear(&client(0x88, b"")).unwrap(), [Heard::Close(None)]);
    }

    #[test]
    fn frames_that_break_the_rules_are_refused_with_the_code_that_says_so() {
        let unmasked = vec![0x81, 0x00];
        let huge = vec![0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        let mut nested = client(0x01, b"a");
        nested.extend(client(0x01, b"b"));
        let mut endless = Vec::new();
        for part in 0..5 {
            endless.extend(client(if part == 0 { 0x02 } else { 0x00 }, &[0; 1000]));
        }
        for (bytes, code) in [
            (unmasked, Code::ProtocolError),
            (client(0xc1, b"a"), Code::ProtocolError),
            (client(0x83, b"a"), Code::ProtocolError),
            (client(0x09, b"a"), Code::ProtocolError),
            (client(0x89, &[0; 126]), Code::ProtocolError),
            (client(0x80, b"a"), Code::ProtocolError),
            (client(0x88, b"a"), Code::ProtocolError),
            (client(0x88, &[0x03, 0xed]), Code::ProtocolError),
            (nested, Code::ProtocolError),
            (huge, Code::TooBig),
            (endless, Code::TooBig),
            (client(0x82, &[0; 4097]), Code::TooBig),
        ] {
            assert_eq!(hear(&bytes).unwrap_err().code, code, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_reader_or_make_it_hold_more_than_a_control_frame(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..10),
        ) {
            let (mut frames, mut unread) = (Frames::default(), BytesMut::new());
            'pieces: for piece in pieces {
                unread.extend_from_slice(&piece);
                loop {
                    match frames.next(&mut unread) {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => break 'pieces,
                    }
                }
                prop_assert!(unread.len() < 14 + CONTROL_BYTES_MAX);
            }
        }

        #[test]
        fn what_is_heard_does_not_depend_on_where_the_bytes_are_cut(
            pings in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..126), 0..6),
            data in proptest::collection::vec(any::<u8>(), 0..400),
            cut in 1usize..40,
        ) {
            let mut bytes = client(0x82, &data);
            for ping in &pings {
                bytes.extend(client(0x89, ping));
            }
            let (mut frames, mut unread, mut heard) = (Frames::default(), BytesMut::new(), Vec::new());
            for piece in bytes.chunks(cut) {
                unread.extend_from_slice(piece);
                while let Some(word) = frames.next(&mut unread).unwrap() {
                    heard.push(word);
                }
            }
            let expected: Vec<_> = pings.into_iter().map(|ping| Heard::Ping(ping.into())).collect();
            prop_assert_eq!(heard, expected);
        }
    }
}
