//! The chunk stream (Adobe RTMP 1.0, section 5.3): bytes to messages and back.
//!
//! Set Chunk Size and Abort Message belong to this layer and are obeyed here; every other message goes up. A payload is
//! written once, into the message it becomes part of, and is shared from then on: by the kernel, where the bytes of a
//! publisher are received into memory of this reader (`inbox.rs`), else by a copy.

mod inbox;

use bytes::{BufMut, BytesMut};

use super::message::{Message, kind};
use crate::{
    bits::Reader,
    error::{Error, ErrorKind},
    flv::Gather,
    limits,
    slab::Slab,
};

/// Bytes of payload in a chunk until the peer says otherwise (5.4.1).
pub const CHUNK_SIZE_DEFAULT: u32 = 128;
/// Longest chunk header: 3 bytes of basic header, 11 of message header, 4 of extended timestamp.
const HEADER_BYTES_MAX: usize = 3 + 11 + 4;
/// A 24-bit time of this value says that the time is in the extended field.
const EXTENDED: u32 = 0xff_ffff;
/// Bytes of a message of the protocol itself (types 1 to 6); the longest that is defined has 10.
const CONTROL_BYTES_MAX: usize = 64;

/// Puts messages together from chunks, cut anywhere.
#[derive(Debug)]
pub struct ChunkReader {
    chunk_size: usize,
    streams: Vec<ChunkStream>,
    /// Bytes of unfinished messages over all chunk streams.
    partial_bytes: usize,
    /// Where sound and pictures are put together, unless they are large.
    slab: Slab,
    /// What was received into memory of this reader and is not read yet: less than a message.
    inbox: BytesMut,
    /// Bytes that the message at the front of the inbox takes there, where that is known.
    wanted: usize,
    state: State,
    /// Bytes of the connection before the next byte that is read.
    position: u64,
}

#[derive(Debug)]
enum State {
    /// Part of a header that was cut by the end of a buffer.
    Header { staged: [u8; HEADER_BYTES_MAX], len: usize },
    /// Inside the payload of a chunk.
    Payload { stream: usize, left: usize },
}

const BETWEEN_CHUNKS: State = State::Header { staged: [0; HEADER_BYTES_MAX], len: 0 };

/// What headers of type 1 to 3 leave out is taken from the chunk before on the same chunk stream.
#[derive(Debug)]
struct ChunkStream {
    id: u32,
    time: u32,
    delta: u32,
    /// The time field as it was sent, when it stood in the extended field: headers of type 3 repeat it.
    extended: Option<u32>,
    len: usize,
    kind: u8,
    message_stream: u32,
    partial: Option<Partial>,
}

/// A message that has begun and is not whole.
#[derive(Debug)]
struct Partial {
    at: u64,
    payload: Gather,
}

/// A chunk's header, parsed.
struct Header {
    len: usize,
    id: u32,
    message: MessageHeader,
}

enum MessageHeader {
    /// Type 0: absolute time.
    Full { time: Time, len: usize, kind: u8, message_stream: u32 },
    /// Type 1: the message stream stays.
    SameStream { delta: Time, len: usize, kind: u8 },
    /// Type 2: only the time differs.
    SameLength { delta: Time },
    /// Type 3: the next part of a message, or one that is like the last in all.
    Nothing,
}

struct Time {
    millis: u32,
    extended: bool,
}

impl Default for ChunkReader {
    fn default() -> Self {
        ChunkReader {
            chunk_size: CHUNK_SIZE_DEFAULT as usize,
            streams: Vec::new(),
            partial_bytes: 0,
            slab: Slab::default(),
            inbox: BytesMut::new(),
            wanted: 0,
            state: BETWEEN_CHUNKS,
            position: 0,
        }
    }
}

impl ChunkReader {
    /// Bytes of the connection read so far.
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Counts bytes that were read before the first chunk (the handshake).
    pub const fn passed(&mut self, bytes: usize) {
        self.position += bytes as u64;
    }

    /// Reads from the front of `input` until a message is whole or nothing is left.
    ///
    /// # Errors
    /// The peer broke the chunk format, or a bound on chunk streams, message lengths or unfinished bytes.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Message>, Error> {
        while !input.is_empty() {
            let whole = match self.state {
                State::Header { .. } => self.read_header(input)?,
                State::Payload { stream, left } => self.read_payload(stream, left, input)?,
            };
            if let Some(message) = whole.and_then(|stream| self.finish(stream)) {
                let message = self.obey(message)?;
                if message.is_some() {
                    return Ok(message);
                }
            }
        }
        Ok(None)
    }

    /// Obeys a message of this layer; any other comes back.
    fn obey(&mut self, message: Message) -> Result<Option<Message>, Error> {
        match message.kind {
            kind::SET_CHUNK_SIZE => self.set_chunk_size(&message)?,
            kind::ABORT => self.abort(&message)?,
            _ => return Ok(Some(message)),
        }
        Ok(None)
    }

    /// Takes what is missing of a header. The index of the chunk stream comes back when its message is whole at once,
    /// which only an empty one is.
    fn read_header(&mut self, input: &mut &[u8]) -> Result<Option<usize>, Error> {
        let State::Header { mut staged, len } = self.state else { return Ok(None) };
        let start = self.position - len as u64;
        let more = input.len().min(HEADER_BYTES_MAX - len);
        for (place, byte) in staged.iter_mut().skip(len).zip(input.iter()) {
            *place = *byte;
        }
        let header = match self.parse_header(staged.get(..len + more).unwrap_or_default()) {
            Ok(Some(header)) => header,
            Ok(None) => {
                self.consume(input, more);
                self.state = State::Header { staged, len: len + more };
                return Ok(None);
            }
            Err(error) => return Err(error.after(start)),
        };
        let read = header.len;
        self.state = BETWEEN_CHUNKS;
        if read >= len {
            self.consume(input, read - len);
            return self.begin_chunk(header, start, input.len());
        }
        // Only a type 3 header that was held back to see whether an extended timestamp follows ends before what was
        // staged. The rest is payload, and perhaps the beginning of the next header.
        let mut excess = staged.get(read..len).unwrap_or_default();
        self.position = start + read as u64;
        let mut whole = self.begin_chunk(header, start, excess.len())?;
        if let State::Payload { stream, left } = self.state {
            whole = self.read_payload(stream, left, &mut excess)?;
        }
        if !excess.is_empty() {
            let mut staged = [0; HEADER_BYTES_MAX];
            staged.iter_mut().zip(excess).for_each(|(place, byte)| *place = *byte);
            self.state = State::Header { staged, len: excess.len() };
            self.position += excess.len() as u64;
        }
        Ok(whole)
    }

    /// The header at the start of `bytes`, or `None` when it does not end there.
    fn parse_header(&self, bytes: &[u8]) -> Result<Option<Header>, Error> {
        match self.parse_whole_header(bytes) {
            Ok(header) => Ok(Some(header)),
            Err(error) if error.kind == ErrorKind::Truncated => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn parse_whole_header(&self, bytes: &[u8]) -> Result<Header, Error> {
        let mut reader = Reader::new(bytes);
        let first = reader.u8("chunk basic header")?;
        // 5.3.1.1: ids of 64 and more take one or two bytes more.
        let id = match u32::from(first & 0x3f) {
            0 => u32::from(reader.u8("chunk stream id")?) + 64,
            1 => {
                let [low, high] = reader.array("chunk stream id")?;
                u32::from(u16::from_le_bytes([low, high])) + 64
            }
            id => id,
        };
        let message = match first >> 6 {
            0 => {
                let field = reader.u24("chunk timestamp")?;
                let len = reader.u24("message length")? as usize;
                let kind = reader.u8("message type")?;
                let message_stream = reader.u32_le("message stream id")?;
                MessageHeader::Full { time: time(field, &mut reader)?, len, kind, message_stream }
            }
            1 => {
                let field = reader.u24("chunk timestamp delta")?;
                let len = reader.u24("message length")? as usize;
                let kind = reader.u8("message type")?;
                MessageHeader::SameStream { delta: time(field, &mut reader)?, len, kind }
            }
            2 => {
                let field = reader.u24("chunk timestamp delta")?;
                MessageHeader::SameLength { delta: time(field, &mut reader)? }
            }
            _ => {
                let stream = self.streams.iter().find(|stream| stream.id == id);
                if let Some((stream, extended)) = stream.and_then(|stream| Some((stream, stream.extended?))) {
                    // 5.3.1.3: type 3 repeats the extended field. Some encoders leave it out in the middle of a
                    // message, so there it is taken only if it is the repetition.
                    let differs =
                        |ahead: &[u8]| ahead.iter().zip(extended.to_be_bytes()).any(|(a, b)| *a != b);
                    if stream.partial.is_none() || !differs(reader.peek()) {
                        reader.skip(4, "extended timestamp")?;
                    }
                }
                MessageHeader::Nothing
            }
        };
        Ok(Header { len: reader.position(), id, message })
    }

    /// Applies a header to its chunk stream.
    fn begin_chunk(&mut self, header: Header, at: u64, arrived: usize) -> Result<Option<usize>, Error> {
        let index = self.stream_of(&header, at)?;
        let chunk_size = self.chunk_size;
        let stream = self.streams.get_mut(index).expect("the index was found or made above");
        if stream.partial.is_none() {
            stream.begin_message(&header.message);
            check_length(stream.kind, stream.len, at)?;
            let arrived = arrived.min(chunk_size);
            let payload = match stream.kind {
                kind::AUDIO | kind::VIDEO => Gather::in_slab(&mut self.slab, stream.len, arrived),
                _ => Gather::new(stream.len, arrived),
            };
            stream.partial = Some(Partial { at, payload });
        } else if !stream.go_on(&header.message) {
            return Err(Error::malformed("a message begins inside another of its chunk stream", at));
        }
        match stream.partial.as_ref().map_or(0, |partial| partial.payload.missing()) {
            0 => Ok(Some(index)),
            left => {
                self.state = State::Payload { stream: index, left: left.min(chunk_size) };
                Ok(None)
            }
        }
    }

    /// The index of the chunk stream that a header names.
    fn stream_of(&mut self, header: &Header, at: u64) -> Result<usize, Error> {
        match self.streams.iter().position(|stream| stream.id == header.id) {
            Some(index) => Ok(index),
            None => self.open_stream(header.id, &header.message, at),
        }
    }

    fn open_stream(&mut self, id: u32, message: &MessageHeader, at: u64) -> Result<usize, Error> {
        // librtmp begins a chunk stream with type 1; message stream 0 is what it means. The other types leave out the
        // length, which nobody can guess.
        if matches!(message, MessageHeader::SameLength { .. } | MessageHeader::Nothing) {
            return Err(Error::malformed("a chunk stream begins with a header that names no length", at));
        }
        if self.streams.len() == limits::RTMP_CHUNK_STREAMS_MAX {
            return Err(Error::too_large("too many chunk streams", at));
        }
        // One by one: a viewer uses two, and there are thousands of viewers.
        self.streams.reserve_exact(1);
        self.streams.push(ChunkStream {
            id,
            time: 0,
            delta: 0,
            extended: None,
            len: 0,
            kind: 0,
            message_stream: 0,
            partial: None,
        });
        Ok(self.streams.len() - 1)
    }

    /// Takes payload of the chunk at hand. The index comes back when the message is whole.
    fn read_payload(&mut self, index: usize, left: usize, input: &mut &[u8]) -> Result<Option<usize>, Error> {
        let stream = self.streams.get_mut(index).expect("the state names a stream that was opened");
        let partial = stream.partial.as_mut().expect("a chunk's payload belongs to a message that has begun");
        if self.partial_bytes + left.min(input.len()) > limits::RTMP_PARTIAL_BYTES_MAX {
            return Err(Error::too_large("too many bytes in unfinished messages", self.position));
        }
        let taken = partial.payload.take(input, left);
        let whole = partial.payload.missing() == 0;
        self.position += taken as u64;
        self.partial_bytes += taken;
        self.state =
            if taken == left { BETWEEN_CHUNKS } else { State::Payload { stream: index, left: left - taken } };
        Ok(whole.then_some(index))
    }

    fn finish(&mut self, index: usize) -> Option<Message> {
        let stream = self.streams.get_mut(index)?;
        let Partial { at, payload } = stream.partial.take()?;
        self.partial_bytes -= payload.gathered();
        Some(Message {
            kind: stream.kind,
            time: stream.time,
            stream: stream.message_stream,
            payload: payload.finish(),
            at,
        })
    }

    /// 5.4.1. The first bit must be zero; a size above the longest message is the same as that.
    fn set_chunk_size(&mut self, message: &Message) -> Result<(), Error> {
        match message.u32("chunk size")? {
            0 => Err(Error::malformed("a chunk size of 0", message.at)),
            size if size > i32::MAX as u32 => {
                Err(Error::malformed("a chunk size above 2^31 - 1", message.at))
            }
            size => {
                self.chunk_size = size as usize;
                Ok(())
            }
        }
    }

    /// 5.4.2: what was received of the message is dropped; the next chunk begins another.
    fn abort(&mut self, message: &Message) -> Result<(), Error> {
        let id = message.u32("chunk stream of an abort")?;
        if let Some(partial) =
            self.streams.iter_mut().find(|stream| stream.id == id).and_then(|stream| stream.partial.take())
        {
            self.partial_bytes -= partial.payload.gathered();
        }
        Ok(())
    }

    fn consume(&mut self, input: &mut &[u8], len: usize) {
        *input = input.split_at(len).1;
        self.position += len as u64;
    }
}

impl ChunkStream {
    fn begin_message(&mut self, header: &MessageHeader) {
        match header {
            MessageHeader::Full { time, len, kind, message_stream } => {
                self.time = time.millis;
                // 5.3.1.2.4: a type 3 header after a type 0 header has the time of that as its delta.
                self.delta = time.millis;
                self.extended = time.extended.then_some(time.millis);
                (self.len, self.kind, self.message_stream) = (*len, *kind, *message_stream);
            }
            MessageHeader::SameStream { delta, len, kind } => {
                self.step(delta);
                (self.len, self.kind) = (*len, *kind);
            }
            MessageHeader::SameLength { delta } => self.step(delta),
            MessageHeader::Nothing => self.time = self.time.wrapping_add(self.delta),
        }
    }

    /// 5.3.1.2.4 wants headers of type 3 inside a message. Some encoders write full ones there, which say the same again;
    /// false for one that says anything else. The message keeps its time.
    fn go_on(&mut self, header: &MessageHeader) -> bool {
        let (time, same) = match header {
            MessageHeader::Full { time, len, kind, message_stream } => {
                (time, (self.len, self.kind, self.message_stream) == (*len, *kind, *message_stream))
            }
            MessageHeader::SameStream { delta, len, kind } => (delta, (self.len, self.kind) == (*len, *kind)),
            MessageHeader::SameLength { delta } => (delta, true),
            MessageHeader::Nothing => return true,
        };
        self.delta = time.millis;
        self.extended = time.extended.then_some(time.millis);
        same
    }

    fn step(&mut self, delta: &Time) {
        self.time = self.time.wrapping_add(delta.millis);
        self.delta = delta.millis;
        self.extended = delta.extended.then_some(delta.millis);
    }
}

fn time(field: u32, reader: &mut Reader<'_>) -> Result<Time, Error> {
    if field == EXTENDED {
        Ok(Time { millis: reader.u32("extended timestamp")?, extended: true })
    } else {
        Ok(Time { millis: field, extended: false })
    }
}

fn check_length(kind: u8, len: usize, at: u64) -> Result<(), Error> {
    match kind {
        kind::SET_CHUNK_SIZE..=kind::SET_PEER_BANDWIDTH if len > CONTROL_BYTES_MAX => {
            Err(Error::too_large("a protocol control message is too long", at))
        }
        kind::DATA_AMF3..=kind::COMMAND_AMF0 if len > limits::RTMP_COMMAND_BYTES_MAX => {
            Err(Error::too_large("a command or data message is too long", at))
        }
        _ => Ok(()),
    }
}

const _: () = assert!(limits::RTMP_MESSAGE_BYTES_MAX == 0xff_ffff, "a length field cannot say more");

/// Where a message that we send goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The chunk stream, 2 to 63.
    pub chunk_stream: u8,
    /// The message's type.
    pub kind: u8,
    /// The message stream.
    pub message_stream: u32,
}

/// Appends one message whose payload is `parts` joined, with a type 0 header, so that it can follow anything.
pub fn write_message(route: Route, time: u32, parts: [&[u8]; 2], chunk_size: u32, out: &mut BytesMut) {
    assert!((2..=63).contains(&route.chunk_stream), "our chunk streams have one-byte ids");
    assert!(chunk_size > 0);
    let chunk_size = chunk_size as usize;
    let len = parts.iter().map(|part| part.len()).sum::<usize>();
    assert!(len <= limits::RTMP_MESSAGE_BYTES_MAX, "a message's length has 24 bits");
    out.reserve(HEADER_BYTES_MAX + len + len / chunk_size * 5);
    let extended = time >= EXTENDED;
    out.put_u8(route.chunk_stream);
    out.put_uint(u64::from(if extended { EXTENDED } else { time }), 3);
    out.put_uint(len as u64, 3);
    out.put_u8(route.kind);
    out.put_u32_le(route.message_stream);
    if extended {
        out.put_u32(time);
    }
    let mut room = chunk_size;
    for mut part in parts {
        while !part.is_empty() {
            if room == 0 {
                out.put_u8(0xc0 | route.chunk_stream);
                if extended {
                    out.put_u32(time);
                }
                room = chunk_size;
            }
            let (chunk, rest) = part.split_at(part.len().min(room));
            out.put_slice(chunk);
            room -= chunk.len();
            part = rest;
        }
    }
}

#[cfg(test)]
mod tests;
