//! The forms that this door's viewers are sent: FLV and MPEG-TS, each as it is, as the chunks of an HTTP/1.1 body, and as
//! WebSocket messages. Each frame has a chunk or a message of its own, so that a viewer can enter, jump and leave between any
//! two.

use std::fmt::Write;

use bytes::BytesMut;

use super::websocket;
#[cfg(feature = "mpegts")]
use crate::mpegts::{self, TsWire};
use crate::{
    flv::{self, mux::FlvWire},
    session::{Envelope, Form},
};

/// A container that is streamed without an end.
pub struct Streamed {
    /// What a path to it ends with.
    pub suffix: &'static str,
    /// Its media type.
    pub content_type: &'static str,
    /// In a body that ends when the connection does.
    pub plain: &'static Form,
    /// In a body of chunks.
    pub chunked: &'static Form,
    /// In messages.
    pub websocket: &'static Form,
}

impl PartialEq for Streamed {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Streamed {}

impl std::fmt::Debug for Streamed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Streamed({})", self.suffix)
    }
}

/// All that this build has.
pub static STREAMED: &[&Streamed] = &[
    &FLV,
    #[cfg(feature = "mpegts")]
    &TS,
];

/// FLV, at `/APP/STREAM.flv`.
pub static FLV: Streamed = Streamed {
    suffix: ".flv",
    content_type: "video/x-flv",
    plain: &flv::FORM,
    chunked: &FLV_CHUNKED,
    websocket: &FLV_WEBSOCKET,
};

/// MPEG-TS, at `/APP/STREAM.ts`.
#[cfg(feature = "mpegts")]
pub static TS: Streamed = Streamed {
    suffix: ".ts",
    content_type: "video/mp2t",
    plain: &mpegts::FORM,
    chunked: &TS_CHUNKED,
    websocket: &TS_WEBSOCKET,
};

/// MPEG-TS in an HTTP/1.1 body with `Transfer-Encoding: chunked`.
#[cfg(feature = "mpegts")]
pub static TS_CHUNKED: Form =
    Form { name: "ts-chunked", datagram: None, prompt: false, open: || Box::new(TsWire::<Chunk>::default()) };

/// MPEG-TS in a WebSocket: each message is the packets of a frame.
#[cfg(feature = "mpegts")]
pub static TS_WEBSOCKET: Form = Form {
    name: "ts-websocket",
    datagram: None,
    prompt: false,
    open: || Box::new(TsWire::<Message>::default()),
};

/// FLV in an HTTP/1.1 body with `Transfer-Encoding: chunked`.
pub static FLV_CHUNKED: Form = Form {
    name: "flv-chunked",
    datagram: None,
    prompt: false,
    open: || Box::new(FlvWire::<Chunk>::default()),
};

/// FLV in a WebSocket: the file's head is the first message, each tag is one more.
pub static FLV_WEBSOCKET: Form = Form {
    name: "flv-websocket",
    datagram: None,
    prompt: false,
    open: || Box::new(FlvWire::<Message>::default()),
};

/// A chunk of HTTP/1.1 (RFC 9112, 7.1).
#[derive(Debug)]
struct Chunk;

impl Envelope for Chunk {
    fn open(len: usize, out: &mut BytesMut) {
        debug_assert!(len > 0, "an empty chunk ends the body");
        write!(out, "{len:x}\r\n").expect("a buffer that grows takes any text");
    }
    fn close(out: &mut BytesMut) {
        out.extend_from_slice(b"\r\n");
    }
}

/// A binary message of WebSocket.
#[derive(Debug)]
struct Message;

impl Envelope for Message {
    fn open(len: usize, out: &mut BytesMut) {
        websocket::binary_head(len, out);
    }
    fn close(_: &mut BytesMut) {}
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        bits::Reader,
        codec::Codec,
        flv,
        media::{Frame, Payload, TrackId},
        session::Opening,
        time::MediaTime,
    };

    fn frame(millis: i64, payload: Payload) -> Frame {
        let time = MediaTime::from_millis(millis);
        Frame { track: TrackId::VIDEO, dts: time, pts: time, payload }
    }

    fn picture(millis: i64, bytes: usize) -> Frame {
        let data = Bytes::from(vec![(bytes % 251) as u8; bytes]);
        frame(millis, Payload::Video { codec: Codec::H264, key: millis % 2 == 0, data })
    }

    /// What a form says, call by call: the header, a refresh, then each frame.
    fn mux(form: &Form, opening: &Opening, frames: &[Frame]) -> Vec<BytesMut> {
        let mut wire = (form.open)();
        let at = frames.first().expect("a viewer enters at a frame");
        let mut calls = vec![BytesMut::new(), BytesMut::new()];
        wire.header(opening, at, &mut calls[0]);
        wire.refresh(opening, at, &mut calls[1]);
        for frame in frames {
            let mut out = BytesMut::new();
            wire.frame(frame, &mut out);
            calls.push(out);
        }
        calls
    }

    /// The pieces of a chunked body that has not ended.
    fn chunks(body: &[u8]) -> Vec<Vec<u8>> {
        let (mut pieces, mut rest) = (Vec::new(), body);
        while !rest.is_empty() {
            let line = rest.windows(2).position(|pair| pair == b"\r\n").expect("a size ends its line");
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
            assert!(size > 0, "an empty chunk would end the body");
            let piece = &rest[line + 2..line + 2 + size];
            assert_eq!(&rest[line + 2 + size..][..2], b"\r\n");
            pieces.push(piece.to_vec());
            rest = &rest[line + 4 + size..];
        }
        pieces
    }

    /// The messages of a server's WebSocket.
    fn messages(bytes: &[u8]) -> Vec<Vec<u8>> {
        let (mut pieces, mut reader) = (Vec::new(), Reader::new(bytes));
        while !reader.is_empty() {
            assert_eq!(reader.u8("first").unwrap(), 0x82, "binary, whole");
            let length = match reader.u8("length").unwrap() {
                126 => usize::from(reader.u16("length").unwrap()),
                127 => usize::try_from(reader.u64("length").unwrap()).unwrap(),
                short => usize::from(short),
            };
            pieces.push(reader.take(length, "payload").unwrap().to_vec());
        }
        pieces
    }

    /// The pieces of plain FLV: a file's head, or a tag with its tail.
    fn tags(bytes: &[u8]) -> Vec<Vec<u8>> {
        let (mut pieces, mut reader) = (Vec::new(), Reader::new(bytes));
        while !reader.is_empty() {
            let length = if reader.peek().starts_with(b"FLV") {
                13
            } else {
                let mut ahead = reader.clone();
                ahead.skip(1, "kind").unwrap();
                11 + ahead.u24("size").unwrap() as usize + 4
            };
            pieces.push(reader.take(length, "piece").unwrap().to_vec());
        }
        pieces
    }

    proptest! {
        #[test]
        fn every_form_decodes_to_exactly_the_tags(
            // Sizes around the places where a length takes another digit or another byte.
            sizes in proptest::collection::vec(prop_oneof![0usize..300, 65_500usize..65_600, 4070usize..4110], 1..8),
            metadata in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
        ) {
            let frames: Vec<_> =
                sizes.iter().zip(0..).map(|(&bytes, number)| picture(number * 33, bytes)).collect();
            let metadata = metadata.map(|data| frame(0, Payload::Metadata(data.into())));
            let opening = Opening { metadata, ..Opening::default() };
            let plain = mux(&flv::FORM, &opening, &frames);
            let chunked = mux(&FLV_CHUNKED, &opening, &frames);
            let socket = mux(&FLV_WEBSOCKET, &opening, &frames);
            prop_assert_eq!(plain.len(), frames.len() + 2);
            for ((plain, chunked), socket) in plain.iter().zip(&chunked).zip(&socket) {
                let tags = tags(plain);
                prop_assert_eq!(&chunks(chunked), &tags);
                prop_assert_eq!(&messages(socket), &tags);
            }
            prop_assert!(plain.iter().skip(2).all(|call| tags(call).len() == 1), "one frame is one tag");
        }
    }
}
