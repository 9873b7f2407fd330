//! What a peer and the hub tell each other beside the stream. It has memory only while there is something.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Connection;
#[cfg(feature = "segment")]
use crate::segment::Found;
use crate::{
    access::Proof,
    message::Unread,
    session::{Answer, Event, Input, Opening},
};

/// The answer to a wish.
pub enum Reply {
    Answer(Answer),
    Described(Box<Opening>),
    #[cfg(feature = "segment")]
    Found(Box<Found>),
}

impl From<Reply> for Input<'_> {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Answer(answer) => Input::Answer(answer),
            Reply::Described(opening) => Input::Described(opening),
            #[cfg(feature = "segment")]
            Reply::Found(found) => Input::Fetched(*found),
        }
    }
}

/// Something to be sent.
#[derive(Clone, Debug)]
pub struct Piece {
    pub bytes: Bytes,
    /// Others keep it too: it is not this peer's memory.
    pub shared: bool,
    /// Over UDP: bytes of each datagram, where it is several.
    pub size: Option<u16>,
    /// It goes to the peer's ports, beside the connection.
    pub packets: bool,
}

impl Piece {
    /// Of this peer alone; over UDP one datagram.
    pub fn own(bytes: Bytes) -> Self {
        Piece { bytes, shared: false, size: None, packets: false }
    }

    /// Of the house.
    pub fn shared(bytes: Bytes) -> Self {
        Piece { bytes, shared: true, size: None, packets: false }
    }

    /// Several datagrams of `size` bytes.
    pub fn datagrams(bytes: Bytes, size: u16) -> Self {
        Piece { bytes, shared: false, size: Some(size), packets: false }
    }

    /// What counts as this peer's memory.
    fn weight(&self) -> usize {
        if self.shared { 0 } else { self.bytes.len() }
    }
}

/// What a peer and the hub have to tell each other.
#[derive(Default)]
pub(super) struct Talk {
    /// What its session wants to say.
    pub outbox: VecDeque<Piece>,
    pub outbox_bytes: usize,
    /// What came while its wish had no answer yet.
    pub unread: Unread,
    /// The answer to its wish, to be told before anything else.
    pub answer: Option<Reply>,
    /// What it wants next, while it still finishes the frame that it was in when it wanted no more of that stream.
    pub next_wish: Option<Event>,
    /// What it proves for its next wish.
    pub proof: Option<Box<Proof>>,
}

impl Talk {
    pub fn is_over(&self) -> bool {
        let wishes = self.next_wish.is_some() || self.proof.is_some();
        self.outbox.is_empty() && self.unread.is_empty() && self.answer.is_none() && !wishes
    }
}

impl Connection {
    pub(super) fn talk(&mut self) -> &mut Talk {
        self.talk.get_or_insert_default()
    }

    /// Takes something out of what is to be told; the memory goes once there is nothing left.
    fn take_from_talk<T>(&mut self, take: impl FnOnce(&mut Talk) -> T) -> Option<T> {
        let talk = self.talk.as_mut()?;
        let taken = take(talk);
        if talk.is_over() {
            self.talk = None;
        }
        Some(taken)
    }

    /// Bytes of what its session wants to say.
    pub(super) fn outbox_bytes(&self) -> usize {
        self.talk.as_ref().map_or(0, |talk| talk.outbox_bytes)
    }

    pub(super) fn has_said_all(&self) -> bool {
        self.talk.as_ref().is_none_or(|talk| talk.outbox.is_empty())
    }

    pub(super) fn push(&mut self, piece: Piece) {
        if !piece.bytes.is_empty() {
            let talk = self.talk();
            talk.outbox_bytes += piece.weight();
            talk.outbox.push_back(piece);
        }
    }

    pub(super) fn push_front(&mut self, piece: Piece) {
        if !piece.bytes.is_empty() {
            let talk = self.talk();
            talk.outbox_bytes += piece.weight();
            talk.outbox.push_front(piece);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Piece> {
        self.take_from_talk(|talk| {
            let piece = talk.outbox.pop_front()?;
            talk.outbox_bytes -= piece.weight();
            Some(piece)
        })?
    }

    pub(super) fn say_nothing_more(&mut self) {
        self.take_from_talk(|talk| {
            talk.outbox.clear();
            talk.outbox_bytes = 0;
        });
    }

    pub(super) fn take_answer(&mut self) -> Option<Reply> {
        self.take_from_talk(|talk| talk.answer.take())?
    }

    /// The next piece of what came before its wish was answered.
    pub(super) fn take_unread(&mut self) -> Option<Bytes> {
        self.take_from_talk(|talk| talk.unread.pop())?
    }

    /// What it proves for the wish that is looked at now.
    pub(in crate::hub) fn take_proof(&mut self) -> Option<Box<Proof>> {
        self.take_from_talk(|talk| talk.proof.take())?
    }

    /// What it wanted next, when it is done with what it had.
    pub(in crate::hub) fn take_next_wish(&mut self) -> Option<Event> {
        self.take_from_talk(|talk| talk.next_wish.take())?
    }
}
