//! The wire form of RTMP: the bytes that all who play a stream by RTMP are sent.
//!
//! They can be the same for all because nothing in them belongs to one viewer: the message stream is always 1, the chunk
//! size is the one each session announces before it lets its viewer play, the chunk streams are none that a session
//! uses for itself, and each message has a type 0 header, so that it can follow any other.

use bytes::BytesMut;

use super::{
    chunk::{Route, write_message},
    message::route,
};
use crate::{
    flv::{
        TagKind,
        mux::{Body, millis, opening_frames},
    },
    media::Frame,
    session::{Form, Opening, Wire},
};

/// RTMP messages in chunks of [`CHUNK_SIZE`].
pub static FORM: Form = Form { name: "rtmp", datagram: None, prompt: false, open: || Box::new(ChunkWire) };

/// Bytes of payload in a chunk that we send. Large enough that most frames are one chunk; a viewer must hold no more
/// than it does for the frame.
pub const CHUNK_SIZE: u32 = 65_536;

/// The muxer. It has no state: a message says all of itself.
#[derive(Debug)]
struct ChunkWire;

impl Wire for ChunkWire {
    /// RTMP has no head: what precedes a stream was said by the session.
    fn header(&mut self, opening: &Opening, at: &Frame, out: &mut BytesMut) {
        self.refresh(opening, at, out);
    }
    fn refresh(&mut self, opening: &Opening, at: &Frame, out: &mut BytesMut) {
        for frame in opening_frames(opening) {
            write_frame(frame, millis(at), out);
        }
    }
    fn frame(&mut self, frame: &Frame, out: &mut BytesMut) {
        write_frame(frame, millis(frame), out);
    }
}

fn write_frame(frame: &Frame, time: u32, out: &mut BytesMut) {
    if let Some(body) = Body::of(frame) {
        write_message(route_of(body.kind), time, body.parts(), CHUNK_SIZE, out);
    }
}

const fn route_of(kind: TagKind) -> Route {
    match kind {
        TagKind::Audio => route::AUDIO,
        TagKind::Video => route::VIDEO,
        TagKind::Script => route::DATA,
    }
}
