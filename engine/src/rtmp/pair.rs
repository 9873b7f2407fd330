//! For tests: a server and a client with a wire between them that cuts bytes anywhere.

use std::collections::VecDeque;

use bytes::BytesMut;

use super::{Client, FORM, Session, client::Target, handshake::ClientKind};
use crate::{
    error::Error,
    limits::DoorLimits,
    media::{Frame, StreamName},
    session::{Answer, Event, Input, Opening, Output, input_of},
    time::Now,
};

/// One end: a session, what it said to its hub, and how it ended.
pub(crate) struct End<S> {
    pub(crate) session: S,
    pub(crate) events: Vec<Event>,
    pub(crate) closed: bool,
    pub(crate) error: Option<Error>,
    /// Bytes on their way to it.
    pub(crate) inbox: VecDeque<u8>,
}

impl<S: crate::session::Session> End<S> {
    pub(crate) fn new(session: S) -> Self {
        End { session, events: Vec::new(), closed: false, error: None, inbox: VecDeque::new() }
    }

    /// Gives one input; what the session sends is returned.
    pub(crate) fn handle(&mut self, input: Input<'_>, now: Now) -> Vec<u8> {
        if self.closed {
            return Vec::new();
        }
        if let Err(error) = self.session.handle(input, now) {
            (self.error, self.closed) = (Some(error), true);
        }
        self.drain()
    }

    pub(crate) fn drain(&mut self) -> Vec<u8> {
        let mut sent = Vec::new();
        while let Some(output) = self.session.poll() {
            match output {
                Output::Send(bytes) | Output::Share(bytes) | Output::Datagrams { bytes, .. } => {
                    sent.extend_from_slice(&bytes)
                }
                Output::Event(event) => self.events.push(event),
                Output::Ports(_) | Output::Packets(_) | Output::Datagram { .. } | Output::Address(_) => {
                    panic!("nothing goes beside this connection")
                }
                Output::Close => self.closed = true,
            }
        }
        sent
    }

    pub(crate) fn frames(&self) -> Vec<&Frame> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Frame(frame) => Some(frame),
                _ => None,
            })
            .collect()
    }
}

pub(crate) struct Pair {
    pub(crate) server: End<Session>,
    pub(crate) client: End<Client>,
    pub(crate) now: Now,
    /// Bytes that arrive at once.
    pub(crate) piece: usize,
}

pub(crate) fn target() -> Target {
    Target { tc_url: "rtmp://host/live".into(), app: "live".into(), stream: "cam1?token=x".into() }
}

pub(crate) fn name() -> StreamName {
    StreamName::parse("live/cam1").unwrap()
}

impl Pair {
    pub(crate) fn pull() -> Self {
        Self::of(Client::pull(target(), name(), &DoorLimits::default(), Now(1)))
    }

    pub(crate) fn push() -> Self {
        Self::of(Client::push(target(), name(), &DoorLimits::default(), Now(1)))
    }

    pub(crate) fn of(client: Client) -> Self {
        let server = Session::new(&DoorLimits::default(), Now(2));
        Pair { server: End::new(server), client: End::new(client), now: Now(3), piece: 1000 }
    }

    pub(crate) fn handshake(self, kind: ClientKind) -> Self {
        let client = self.client.session.with_handshake(kind, &DoorLimits::default(), Now(1));
        Pair { client: End::new(client), ..self }
    }

    /// Moves bytes until both ends are silent.
    pub(crate) fn run(&mut self) {
        self.server.inbox.extend(self.client.drain());
        self.client.inbox.extend(self.server.drain());
        while !self.server.inbox.is_empty() || !self.client.inbox.is_empty() {
            let piece = take(&mut self.server.inbox, self.piece);
            let input = input_of(&mut self.server.session, &piece);
            self.client.inbox.extend(self.server.handle(input, self.now));
            let piece = take(&mut self.client.inbox, self.piece);
            self.server.inbox.extend(self.client.handle(Input::Received(&piece), self.now));
        }
    }

    pub(crate) fn tell_server(&mut self, input: Input<'_>) {
        self.client.inbox.extend(self.server.handle(input, self.now));
        self.run();
    }

    pub(crate) fn tell_client(&mut self, input: Input<'_>) {
        self.server.inbox.extend(self.client.handle(input, self.now));
        self.run();
    }

    /// Runs until the stream is granted on both ends.
    pub(crate) fn start(&mut self) {
        self.run();
        match self.server.events.pop() {
            Some(Event::Publish { .. }) => {
                self.tell_server(Input::Answer(Answer::Publishing));
                self.tell_client(Input::Answer(Answer::Playing));
            }
            Some(Event::Play { .. }) => {
                self.tell_server(Input::Answer(Answer::Playing));
                self.tell_client(Input::Answer(Answer::Publishing));
            }
            other => panic!("no wish but {other:?}"),
        }
    }

    /// The shared bytes of `frames`, to whichever end takes them.
    pub(crate) fn wire(opening: &Opening, frames: &[Frame]) -> BytesMut {
        let mut wire = (FORM.open)();
        let mut out = BytesMut::new();
        if let Some(first) = frames.first() {
            wire.header(opening, first, &mut out);
        }
        frames.iter().for_each(|frame| wire.frame(frame, &mut out));
        out
    }
}

fn take(inbox: &mut VecDeque<u8>, piece: usize) -> Vec<u8> {
    let len = inbox.len().min(piece);
    inbox.drain(..len).collect()
}
