//! A protocol made for this world: every message stands in a frame of its own with a magic byte, so that one byte too many
//! or too few, or a word in the middle of a frame, is seen at once. It can say everything that a session can.
//!
//! It stands beside the real protocols so that the hub is judged by itself: what goes wrong here is not theirs.

mod client;
mod session;
mod wire;

use bytes::{BufMut, Bytes, BytesMut};
use shardcast_engine::{
    codec::{Codec, Parameters},
    media::{Frame, Payload, TrackId},
    time::MediaTime,
};

pub use client::Client;
pub use session::Session;
pub use wire::{FORM, TERSE};

const MAGIC: u8 = 0xa7;
const HEAD_BYTES: usize = 6;
/// A longer message is a fault of the peer.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// What a message says. Small letters come from the peer, capitals from the server.
mod word {
    pub const PUBLISH: u8 = b'p';
    pub const PLAY: u8 = b'l';
    pub const PLAY_TERSE: u8 = b't';
    pub const FRAME: u8 = b'f';
    pub const UNPUBLISH: u8 = b'u';
    pub const STOP: u8 = b's';
    pub const PAUSE: u8 = b'z';
    pub const RESUME: u8 = b'r';
    pub const PING: u8 = b'g';
    pub const BREAK: u8 = b'!';
    pub const PUBLISHING: u8 = b'P';
    pub const PLAYING: u8 = b'L';
    pub const REFUSED: u8 = b'N';
    pub const ENDED: u8 = b'E';
    pub const STOPPED: u8 = b'S';
    pub const PAUSED: u8 = b'Z';
    pub const RESUMED: u8 = b'R';
    pub const PONG: u8 = b'G';
    pub const KEYFRAME: u8 = b'K';
    pub const ALIVE: u8 = b'A';
    pub const BYE: u8 = b'B';
    pub const HEADER: u8 = b'H';
    pub const REFRESH: u8 = b'I';
    pub const STREAM: u8 = b'F';
}

fn put(out: &mut BytesMut, word: u8, body: &[u8]) {
    out.put_u8(MAGIC);
    out.put_u8(word);
    out.put_u32(u32::try_from(body.len()).expect("a message of this world is small"));
    out.put_slice(body);
}

fn message(word: u8, body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD_BYTES + body.len());
    put(&mut out, word, body);
    out.freeze()
}

/// Cuts a stream of bytes into messages.
#[derive(Debug, Default)]
struct Messages {
    buffer: BytesMut,
}

impl Messages {
    fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message; an error where the bytes are none.
    fn next(&mut self) -> Result<Option<(u8, Bytes)>, &'static str> {
        let Some(head) = self.buffer.first_chunk::<HEAD_BYTES>() else {
            return if self.buffer.first().is_some_and(|byte| *byte != MAGIC) {
                Err("not the beginning of a message")
            } else {
                Ok(None)
            };
        };
        let [magic, word, length @ ..] = *head;
        if magic != MAGIC {
            return Err("not the beginning of a message");
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err("a message that is too long");
        }
        if self.buffer.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        let mut whole = self.buffer.split_to(HEAD_BYTES + length);
        Ok(Some((word, whole.split_off(HEAD_BYTES).freeze())))
    }
}

const FRAME_HEAD_BYTES: usize = 1 + 1 + 4 + 8 + 8;

fn put_frame(out: &mut BytesMut, word: u8, frame: &Frame) {
    let (kind, data): (u8, &[u8]) = match &frame.payload {
        Payload::Video { key: true, data, .. } => (b'k', data),
        Payload::Video { data, .. } => (b'v', data),
        Payload::Audio { data, .. } => (b'a', data),
        Payload::Parameters(parameters) => (b'p', &parameters.configuration),
        Payload::Metadata(data) => (b'm', data),
        Payload::ColorInfo { data, .. } => (b'c', data),
        Payload::Script(data) => (b's', data),
        Payload::Discontinuity => (b'd', &[]),
    };
    let length = FRAME_HEAD_BYTES + data.len();
    out.put_u8(MAGIC);
    out.put_u8(word);
    out.put_u32(u32::try_from(length).expect("a frame of this world is small"));
    out.put_u8(kind);
    out.put_u8(frame.track.0);
    out.put_u32(frame.dts.rate);
    out.put_i64(frame.dts.ticks);
    out.put_i64(frame.pts.ticks);
    out.put_slice(data);
}

/// The frame in the body of a message.
fn frame_of(body: &Bytes) -> Option<Frame> {
    let head = body.first_chunk::<FRAME_HEAD_BYTES>()?;
    let [kind, track, rate @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *head;
    let ticks = |at: usize| Some(i64::from_be_bytes(head.get(at..at + 8)?.try_into().ok()?));
    let rate = u32::from_be_bytes(rate);
    let data = body.slice(FRAME_HEAD_BYTES..);
    let track = TrackId(track);
    let codec = if track == TrackId::VIDEO { Codec::H264 } else { Codec::Aac };
    let payload = match kind {
        b'k' | b'v' => Payload::Video { codec, key: kind == b'k', data },
        b'a' => Payload::Audio { codec, data },
        b'p' => Payload::Parameters(Parameters::parse(codec, data).ok()?.into()),
        b'm' => Payload::Metadata(data),
        b'c' => Payload::ColorInfo { codec, data },
        b's' => Payload::Script(data),
        b'd' => Payload::Discontinuity,
        _ => return None,
    };
    let dts = MediaTime { ticks: ticks(6)?, rate };
    (rate > 0).then_some(Frame { track, dts, pts: MediaTime { ticks: ticks(14)?, rate }, payload })
}
