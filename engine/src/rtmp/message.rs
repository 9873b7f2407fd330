//! RTMP messages (Adobe RTMP 1.0, sections 5.4, 6 and 7.1): their types, and those of the protocol itself.

use bytes::{BufMut, Bytes, BytesMut};

use super::chunk::{Route, write_message};
use crate::{bits::Reader, error::Error};

/// One message, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its type, see [`kind`].
    pub kind: u8,
    /// Its time in milliseconds, modulo 2^32.
    pub time: u32,
    /// Its message stream.
    pub stream: u32,
    /// What it carries.
    pub payload: Bytes,
    /// Bytes of the connection before its first chunk, for errors.
    pub at: u64,
}

impl Message {
    /// The number that most control messages consist of.
    pub(crate) fn u32(&self, what: &'static str) -> Result<u32, Error> {
        Reader::new(&self.payload).u32(what).map_err(|error| error.after(self.at))
    }
}

/// Message types.
#[expect(missing_docs, reason = "the names are those of the specification")]
pub mod kind {
    pub const SET_CHUNK_SIZE: u8 = 1;
    pub const ABORT: u8 = 2;
    pub const ACKNOWLEDGEMENT: u8 = 3;
    pub const USER_CONTROL: u8 = 4;
    pub const WINDOW_ACKNOWLEDGEMENT_SIZE: u8 = 5;
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    pub const AUDIO: u8 = 8;
    pub const VIDEO: u8 = 9;
    pub const DATA_AMF3: u8 = 15;
    pub const SHARED_OBJECT_AMF3: u8 = 16;
    pub const COMMAND_AMF3: u8 = 17;
    pub const DATA_AMF0: u8 = 18;
    pub const SHARED_OBJECT_AMF0: u8 = 19;
    pub const COMMAND_AMF0: u8 = 20;
    pub const AGGREGATE: u8 = 22;
}

/// The message stream of the one stream that a connection publishes or plays. Always the same, because the bytes that
/// all viewers share name it.
pub const MEDIA_STREAM: u32 = 1;

/// The routes of all that we send. Fixed, so that the shared bytes of a stream and a connection's own messages never
/// meet on one chunk stream.
pub mod route {
    use super::{MEDIA_STREAM, Route, kind};

    /// A control message of type `kind`: always on chunk stream 2 and message stream 0 (5.4).
    pub const fn control(kind: u8) -> Route {
        Route { chunk_stream: 2, kind, message_stream: 0 }
    }
    /// A command about the connection.
    pub const COMMAND: Route = Route { chunk_stream: 3, kind: kind::COMMAND_AMF0, message_stream: 0 };
    /// A command about the stream.
    pub const STREAM_COMMAND: Route =
        Route { chunk_stream: 3, kind: kind::COMMAND_AMF0, message_stream: MEDIA_STREAM };
    /// Sound.
    pub const AUDIO: Route = Route { chunk_stream: 4, kind: kind::AUDIO, message_stream: MEDIA_STREAM };
    /// Metadata.
    pub const DATA: Route = Route { chunk_stream: 5, kind: kind::DATA_AMF0, message_stream: MEDIA_STREAM };
    /// Pictures.
    pub const VIDEO: Route = Route { chunk_stream: 6, kind: kind::VIDEO, message_stream: MEDIA_STREAM };
}

/// A message of the protocol itself that we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// 5.4.1: from here on our chunks have this many bytes.
    SetChunkSize(u32),
    /// 5.4.3: bytes received so far, modulo 2^32.
    Acknowledgement(u32),
    /// 5.4.4: we want to be told each time this many bytes have arrived.
    WindowAcknowledgementSize(u32),
    /// 5.4.5, with the limit type "dynamic".
    SetPeerBandwidth(u32),
    /// 6.2 and 7.1.7.
    User(UserEvent),
}

/// A User Control message, 7.1.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserEvent {
    /// The stream can be used.
    StreamBegin(u32),
    /// The stream is over.
    StreamEof(u32),
    /// How many milliseconds the peer buffers of a stream.
    SetBufferLength(u32, u32),
    /// Answer with the same time.
    PingRequest(u32),
    /// The answer.
    PingResponse(u32),
    /// One that asks for nothing (a dry stream, a recorded stream, an unknown one).
    Other(u16),
}

impl Control {
    /// Appends the message. None is longer than a chunk of the default size.
    pub fn write(self, out: &mut BytesMut) {
        let mut payload = [0; 10];
        let mut rest = payload.as_mut_slice();
        let kind = match self {
            Control::SetChunkSize(size) => {
                rest.put_u32(size);
                kind::SET_CHUNK_SIZE
            }
            Control::Acknowledgement(bytes) => {
                rest.put_u32(bytes);
                kind::ACKNOWLEDGEMENT
            }
            Control::WindowAcknowledgementSize(size) => {
                rest.put_u32(size);
                kind::WINDOW_ACKNOWLEDGEMENT_SIZE
            }
            Control::SetPeerBandwidth(size) => {
                rest.put_u32(size);
                rest.put_u8(2);
                kind::SET_PEER_BANDWIDTH
            }
            Control::User(event) => {
                event.put(&mut rest);
                kind::USER_CONTROL
            }
        };
        let left = rest.len();
        let (payload, _) = payload.split_at(payload.len() - left);
        write_message(route::control(kind), 0, [payload, &[]], super::chunk::CHUNK_SIZE_DEFAULT, out);
    }
}

impl UserEvent {
    fn put(self, out: &mut impl BufMut) {
        let (event, first, second) = match self {
            UserEvent::StreamBegin(stream) => (0, Some(stream), None),
            UserEvent::StreamEof(stream) => (1, Some(stream), None),
            UserEvent::SetBufferLength(stream, millis) => (3, Some(stream), Some(millis)),
            UserEvent::PingRequest(time) => (6, Some(time), None),
            UserEvent::PingResponse(time) => (7, Some(time), None),
            UserEvent::Other(event) => (event, None, None),
        };
        out.put_u16(event);
        first.into_iter().chain(second).for_each(|number| out.put_u32(number));
    }

    /// Parses the payload of a User Control message.
    ///
    /// # Errors
    /// It is shorter than its event asks for.
    pub fn parse(payload: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(payload);
        Ok(match reader.u16("user control event")? {
            0 => UserEvent::StreamBegin(reader.u32("stream of a user control event")?),
            1 => UserEvent::StreamEof(reader.u32("stream of a user control event")?),
            3 => UserEvent::SetBufferLength(
                reader.u32("stream of a user control event")?,
                reader.u32("buffer length")?,
            ),
            6 => UserEvent::PingRequest(reader.u32("time of a ping")?),
            7 => UserEvent::PingResponse(reader.u32("time of a ping")?),
            event => UserEvent::Other(event),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_messages_are_the_bytes_of_the_specification() {
        let written = |control: Control| {
            let mut out = BytesMut::new();
            control.write(&mut out);
            out.to_vec()
        };
        assert_eq!(written(Control::SetChunkSize(4096)), [2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0x10, 0]);
        assert_eq!(
            written(Control::SetPeerBandwidth(0x0026_25a0)),
            [2, 0, 0, 0, 0, 0, 5, 6, 0, 0, 0, 0, 0, 0x26, 0x25, 0xa0, 2]
        );
        assert_eq!(
            written(Control::User(UserEvent::StreamBegin(1))),
            [2, 0, 0, 0, 0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
        );
    }

    #[test]
    fn user_control_events_are_read_as_they_are_written() {
        for event in [
            UserEvent::StreamBegin(1),
            UserEvent::StreamEof(7),
            UserEvent::SetBufferLength(1, 3000),
            UserEvent::PingRequest(5),
            UserEvent::PingResponse(u32::MAX),
            UserEvent::Other(31),
        ] {
            let mut out = BytesMut::new();
            event.put(&mut out);
            assert_eq!(UserEvent::parse(&out), Ok(event));
            assert!(UserEvent::parse(out.split_at(1).0).is_err());
        }
    }
}
