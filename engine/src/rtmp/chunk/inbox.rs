//! Messages taken out of the memory that they were received into.
//!
//! A publisher's bytes are received behind each other into one slab after the other. A message that stands there whole, in
//! chunks that follow each other, is cut out as it is: only the headers between its chunks have to be closed up, in
//! memory that is still in the cache. Whatever else a peer may do (chunks of two messages in turn, a message taken back)
//! goes the common way, and is copied.

use bytes::{Buf, Bytes, BytesMut};

use super::{ChunkReader, Header, MessageHeader, State, check_length};
use crate::{
    error::Error,
    limits::{RECEIVE_BYTES_MIN, SLAB_BYTES},
    rtmp::message::{Message, kind},
    slab::Slab,
};

/// How much memory a length is believed for, as a multiple of what has come of it. What was not filled is given back with
/// the message, and a slab is taken whatever the length.
pub(super) const BELIEVED: usize = 4;

/// What stands at the front of the inbox.
enum Front {
    /// The first chunk of a message that is all here.
    Whole(Header, Shape),
    /// Less than a message, in so many bytes as far as its first header says.
    Part { whole: usize },
    /// Something that has to be put together.
    Mixed,
}

/// How a message lies in its chunks.
#[derive(Clone, Copy)]
struct Shape {
    kind: u8,
    /// Bytes of the first header, of the message, and of it all.
    head: usize,
    len: usize,
    total: usize,
    /// Bytes of the basic header, which stands before each further chunk.
    basic: usize,
    /// What may stand behind that.
    extended: Option<u32>,
}

impl ChunkReader {
    /// Memory for the next bytes of the connection, behind those that wait here. To be given back by
    /// [`give_back`](Self::give_back) before anything else is read.
    pub fn lend(&mut self) -> BytesMut {
        let have = self.inbox.len();
        let believed = self.wanted.min(BELIEVED * have.max(RECEIVE_BYTES_MIN));
        let room = believed.saturating_sub(have).max(RECEIVE_BYTES_MIN);
        if self.inbox.capacity() - have < room {
            let mut larger = BytesMut::with_capacity(SLAB_BYTES.max(have + room));
            larger.extend_from_slice(&self.inbox);
            self.inbox = larger;
            // The other way to memory is hardly used from here on.
            self.slab = Slab::default();
        }
        std::mem::take(&mut self.inbox)
    }

    /// Takes back what [`lend`](Self::lend) gave, with the bytes that have come.
    pub fn give_back(&mut self, inbox: BytesMut) {
        self.inbox = inbox;
    }

    /// Puts bytes that were received elsewhere behind those that wait here.
    pub fn append(&mut self, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
    }

    /// Whether bytes wait here for those that make them a message.
    pub fn has_inbox(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Takes out what waits here, for whoever may read it now.
    pub fn take_inbox(&mut self) -> BytesMut {
        self.wanted = 0;
        self.inbox.split()
    }

    /// Reads from the inbox until a message is whole; `None` when none is.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_inbox(&mut self) -> Result<Option<Message>, Error> {
        while !self.inbox.is_empty() {
            let whole = match self.front()? {
                Front::Part { whole } => {
                    self.wanted = whole;
                    return Ok(None);
                }
                Front::Whole(header, shape) => {
                    let message = self.cut(&header, shape)?;
                    self.obey(message)?
                }
                Front::Mixed => {
                    let mut inbox = std::mem::take(&mut self.inbox);
                    let mut rest = &inbox[..];
                    let whole = self.read(&mut rest);
                    let read = inbox.len() - rest.len();
                    inbox.advance(read);
                    self.inbox = inbox;
                    whole?
                }
            };
            if whole.is_some() {
                return Ok(whole);
            }
        }
        self.wanted = 0;
        Ok(None)
    }

    fn front(&self) -> Result<Front, Error> {
        let between = matches!(self.state, State::Header { len: 0, .. });
        if !between || self.partial_bytes > 0 {
            return Ok(Front::Mixed);
        }
        let staged = self.inbox.get(..super::HEADER_BYTES_MAX).unwrap_or(&self.inbox);
        let Some(header) = self.parse_header(staged).map_err(|error| error.after(self.position))? else {
            return Ok(Front::Part { whole: 0 });
        };
        let stream = self.streams.iter().find(|stream| stream.id == header.id);
        let time = |time: &super::Time| time.extended.then_some(time.millis);
        let (kind, len, extended) = match (&header.message, stream) {
            (MessageHeader::Full { len, kind, time: at, .. }, _) => (*kind, *len, time(at)),
            (MessageHeader::SameStream { len, kind, delta }, _) => (*kind, *len, time(delta)),
            (MessageHeader::SameLength { delta }, Some(stream)) => (stream.kind, stream.len, time(delta)),
            (MessageHeader::Nothing, Some(stream)) => (stream.kind, stream.len, stream.extended),
            // It leaves out what was never said: the common way has the words for that.
            (_, None) => return Ok(Front::Mixed),
        };
        check_length(kind, len, self.position)?;
        let basic = match header.id {
            0..=63 => 1,
            64..=319 if staged.first().is_some_and(|first| first & 0x3f == 0) => 2,
            _ => 3,
        };
        let further = len.saturating_sub(1) / self.chunk_size;
        let total = header.len + len + further * basic;
        // However it is cut, it has at least these bytes: only then is it looked through.
        if self.inbox.len() < header.len + len {
            return Ok(Front::Part { whole: total });
        }
        let mut shape = Shape { kind, head: header.len, len, total, basic, extended };
        if further == 0 {
            return Ok(Front::Whole(header, shape));
        }
        let mut parts = Parts::of(shape, self.chunk_size);
        while let Some(step) = parts.next(&self.inbox) {
            match step {
                Step::Chunk { end, .. } => shape.total = end,
                Step::Missing => {
                    let whole = total + further * size_of::<u32>();
                    return Ok(Front::Part { whole });
                }
                Step::Strange => return Ok(Front::Mixed),
            }
        }
        Ok(Front::Whole(header, shape))
    }

    /// Cuts the message at the front out of the inbox.
    fn cut(&mut self, header: &Header, shape: Shape) -> Result<Message, Error> {
        let at = self.position;
        let index = self.stream_of(header, at)?;
        let stream = self.streams.get_mut(index).expect("the index was found or made above");
        stream.begin_message(&header.message);
        let (time, message_stream) = (stream.time, stream.message_stream);
        let mut parts = Parts::of(shape, self.chunk_size);
        let mut closed_up = shape.head;
        // Before it is cut: whether its last bytes are the first of a repeated time is told by those behind it.
        while let Some(Step::Chunk { start, end }) = parts.next(&self.inbox) {
            if start != closed_up {
                self.inbox.copy_within(start..end, closed_up);
            }
            closed_up += end - start;
        }
        let mut bytes = self.inbox.split_to(shape.total);
        self.position += shape.total as u64;
        bytes.truncate(closed_up);
        bytes.advance(shape.head);
        let payload = match shape.kind {
            kind::AUDIO | kind::VIDEO => bytes.freeze(),
            // These may be kept for longer than their neighbours, and would keep the slab.
            _ => Bytes::copy_from_slice(&bytes),
        };
        Ok(Message { kind: shape.kind, time, stream: message_stream, payload, at })
    }
}

/// Goes through the chunks of a message.
struct Parts {
    shape: Shape,
    chunk_size: usize,
    place: usize,
    left: usize,
}

enum Step {
    /// A chunk's payload is here.
    Chunk { start: usize, end: usize },
    /// The inbox ends before it.
    Missing,
    /// What stands here is no further chunk of the message.
    Strange,
}

impl Parts {
    fn of(shape: Shape, chunk_size: usize) -> Self {
        Parts { shape, chunk_size, place: 0, left: shape.len }
    }

    fn next(&mut self, bytes: &[u8]) -> Option<Step> {
        if self.left == 0 {
            return None;
        }
        let start = match self.place {
            0 => self.shape.head,
            place => match self.further(bytes, place) {
                Ok(start) => start,
                Err(step) => return Some(step),
            },
        };
        let end = start + self.left.min(self.chunk_size);
        if bytes.len() < end {
            return Some(Step::Missing);
        }
        self.left -= end - start;
        self.place = end;
        Some(Step::Chunk { start, end })
    }

    /// Where the payload begins behind a header of type 3 at `place`.
    fn further(&self, bytes: &[u8], place: usize) -> Result<usize, Step> {
        let basic = self.shape.basic;
        let (first, here) = (bytes.get(..basic), bytes.get(place..place + basic));
        let (Some([first, id @ ..]), Some([here, id_here @ ..])) = (first, here) else {
            return Err(Step::Missing);
        };
        if *here != first | 0xc0 || id != id_here {
            return Err(Step::Strange);
        }
        let start = place + basic;
        let Some(extended) = self.shape.extended else { return Ok(start) };
        // 5.3.1.3: the extended time is repeated, and some encoders leave it out.
        let extended = extended.to_be_bytes();
        let ahead = bytes.get(start..).unwrap_or_default();
        if ahead.iter().zip(extended).any(|(ahead, repeated)| *ahead != repeated) {
            return Ok(start);
        }
        if ahead.len() < extended.len() { Err(Step::Missing) } else { Ok(start + extended.len()) }
    }
}
