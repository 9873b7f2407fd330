//! What both halves of a connection do alike once they have shaken hands: chunks in and out, acknowledgements, answers to
//! pings, and a sign of life when nothing else is to be said.

use std::{collections::VecDeque, time::Duration};

use bytes::BytesMut;

use super::{
    chunk::{CHUNK_SIZE_DEFAULT, ChunkReader, Route, write_message},
    command::{Command, Status},
    message::{Control, MEDIA_STREAM, Message, UserEvent, kind, route},
    wire::CHUNK_SIZE,
};
use crate::{
    error::Error,
    flv::amf0::Value,
    limits,
    session::{Event, Output},
    time::Now,
};

/// Bytes after which a peer acknowledges what it got, until it says otherwise. What Flash Media Server says.
pub(crate) const WINDOW: u32 = 2_500_000;
/// How often a peer is asked whether it is there. A peer that neither answers nor sends anything else for the idle time
/// is gone, though its connection may stand for hours (a laptop that was closed, a NAT that forgot).
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// One connection after its handshake.
#[derive(Debug)]
pub(crate) struct Link {
    chunks: ChunkReader,
    /// What waits to be taken by `poll`.
    outbox: Outbox,
    chunk_size: u32,
    /// The peer wants to be told each time this many bytes have come.
    window: u32,
    acknowledged: u64,
    /// The bandwidth window the peer asked for last, so that it is answered once.
    answered_bandwidth: u32,
    opened: Now,
    ping_at: Now,
}

/// Bytes and events in the order in which they were said. Bytes that follow each other are sent as one.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: VecDeque<Output>,
    bytes: BytesMut,
}

impl Outbox {
    /// Where bytes for the peer are written.
    pub(crate) const fn bytes(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }
    /// Says something to the hub, after what was written for the peer.
    pub(crate) fn event(&mut self, event: Event) {
        self.push(Output::Event(event));
    }
    /// Closes after all that was said.
    pub(crate) fn close(&mut self) {
        self.push(Output::Close);
    }
    fn push(&mut self, output: Output) {
        self.flush();
        self.queue.push_back(output);
    }
    fn flush(&mut self) {
        if !self.bytes.is_empty() {
            // All of the memory goes along: what is split off keeps the whole of it for as long as the connection lasts.
            self.queue.push_back(Output::Send(std::mem::take(&mut self.bytes).freeze()));
        }
    }
    /// Gives back the memory of a queue that is empty. For a peer that only listens now: there are thousands of them.
    pub(crate) fn rest(&mut self) {
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
    }
    /// The next thing to do.
    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.queue.pop_front().or_else(|| {
            self.flush();
            self.queue.pop_front()
        })
    }
}

impl Link {
    /// A link on a new connection.
    pub(crate) fn new(now: Now) -> Self {
        Link {
            chunks: ChunkReader::default(),
            outbox: Outbox::default(),
            chunk_size: CHUNK_SIZE_DEFAULT,
            window: WINDOW,
            acknowledged: 0,
            answered_bandwidth: WINDOW,
            opened: now,
            ping_at: now.after(PING_INTERVAL),
        }
    }

    /// Bytes of the connection read so far.
    pub(crate) const fn position(&self) -> u64 {
        self.chunks.position()
    }

    /// Counts bytes that the handshake has read.
    pub(crate) const fn passed(&mut self, bytes: usize) {
        self.chunks.passed(bytes);
    }

    /// What waits to be taken.
    pub(crate) const fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// The next message that is not the protocol's own, from the front of `input`.
    ///
    /// # Errors
    /// The peer broke the chunk format or a bound.
    pub(crate) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Message>, Error> {
        self.next_by(|chunks| chunks.read(input))
    }

    /// As [`next`](Self::next), from the inbox.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub(crate) fn next_in_inbox(&mut self) -> Result<Option<Message>, Error> {
        self.next_by(ChunkReader::read_inbox)
    }

    /// Memory that the peer's next bytes are received into, and what waits in it.
    pub(crate) const fn inbox(&mut self) -> &mut ChunkReader {
        &mut self.chunks
    }

    fn next_by(
        &mut self,
        mut read: impl FnMut(&mut ChunkReader) -> Result<Option<Message>, Error>,
    ) -> Result<Option<Message>, Error> {
        loop {
            let message = read(&mut self.chunks)?;
            self.acknowledge();
            let Some(message) = message else { return Ok(None) };
            match message.kind {
                kind::ACKNOWLEDGEMENT => {}
                kind::WINDOW_ACKNOWLEDGEMENT_SIZE => self.window = message.u32("window size")?,
                kind::SET_PEER_BANDWIDTH => self.answer_bandwidth(message.u32("peer bandwidth")?),
                kind::USER_CONTROL => {
                    let event =
                        UserEvent::parse(&message.payload).map_err(|error| error.after(message.at))?;
                    if let UserEvent::PingRequest(time) = event {
                        self.control(Control::User(UserEvent::PingResponse(time)));
                    }
                }
                _ => return Ok(Some(message)),
            }
            self.check_outbox()?;
        }
    }

    /// 5.4.3. A peer that asks for a window of 0 wants no acknowledgements.
    fn acknowledge(&mut self) {
        let position = self.position();
        if self.window > 0 && position - self.acknowledged >= u64::from(self.window) {
            self.acknowledged = position;
            self.control(Control::Acknowledgement(position as u32));
        }
    }

    /// 5.4.5: the answer is the window, unless it was the same before.
    fn answer_bandwidth(&mut self, window: u32) {
        if window != self.answered_bandwidth {
            self.answered_bandwidth = window;
            self.control(Control::WindowAcknowledgementSize(window));
        }
    }

    /// A peer may make us answer, but not without end within one buffer.
    ///
    /// # Errors
    /// More waits to be sent than the limit.
    pub(crate) fn check_outbox(&self) -> Result<(), Error> {
        if self.outbox.bytes.len() > limits::OUTBOX_BYTES_MAX {
            return Err(Error::too_large("the peer asks for more answers than are kept", self.position()));
        }
        Ok(())
    }

    /// Says a message of the protocol itself.
    pub(crate) fn control(&mut self, control: Control) {
        control.write(self.outbox.bytes());
    }

    /// Announces [`CHUNK_SIZE`] and uses it from here on.
    pub(crate) fn announce_chunk_size(&mut self) {
        self.control(Control::SetChunkSize(CHUNK_SIZE));
        self.chunk_size = CHUNK_SIZE;
    }

    /// Says a command about the connection.
    pub(crate) fn command(&mut self, name: &str, transaction: f64, values: &[Value]) {
        self.send(route::COMMAND, name, transaction, values);
    }

    /// Says a command about the stream.
    pub(crate) fn stream_command(&mut self, name: &str, transaction: f64, values: &[Value]) {
        self.send(route::STREAM_COMMAND, name, transaction, values);
    }

    /// Says `onStatus` about the stream.
    pub(crate) fn status(&mut self, status: Status, description: &str) {
        self.stream_command("onStatus", 0.0, &[Value::Null, status.info(description)]);
    }

    /// Says that the stream begins or is over.
    pub(crate) fn stream_event(&mut self, event: fn(u32) -> UserEvent) {
        self.control(Control::User(event(MEDIA_STREAM)));
    }

    fn send(&mut self, route: Route, name: &str, transaction: f64, values: &[Value]) {
        let mut payload = BytesMut::new();
        Command::encode(name, transaction, values, &mut payload);
        write_message(route, 0, [&payload, &[]], self.chunk_size, self.outbox.bytes());
    }

    /// When the next ping is due.
    pub(crate) const fn ping_at(&self) -> Now {
        self.ping_at
    }

    /// Pings the peer if it is time.
    pub(crate) fn ping(&mut self, now: Now) {
        if now >= self.ping_at {
            self.ping_at = now.after(PING_INTERVAL);
            let millis = now.since(self.opened).as_millis() as u32;
            self.control(Control::User(UserEvent::PingRequest(millis)));
        }
    }
}

/// What a peer sends while the hub has not answered its wish: kept, and read when it has.
#[derive(Debug, Default)]
pub(crate) struct Held(BytesMut);

impl Held {
    /// Keeps all of `input`.
    ///
    /// # Errors
    /// More came than is kept.
    pub(crate) fn hold(&mut self, input: &mut &[u8], position: u64) -> Result<(), Error> {
        if self.0.len() + input.len() > limits::UNREAD_BYTES_MAX {
            return Err(Error::too_large("the peer sends without waiting for an answer", position));
        }
        self.0.extend_from_slice(input);
        *input = &[];
        Ok(())
    }
    /// What was kept.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
