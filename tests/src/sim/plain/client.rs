//! The peer's half of the plain protocol.

use bytes::{Bytes, BytesMut};
use shardcast_engine::{
    media::{Frame, StreamName},
    time::Now,
};

use super::{Messages, frame_of, message, put, put_frame, word};
use crate::sim::client::{self, Heard, Wish};

/// A publisher or a viewer.
#[derive(Debug, Default)]
pub struct Client {
    messages: Messages,
    outgoing: BytesMut,
    /// Plays the form that cannot say everything.
    terse: bool,
}

impl Client {
    /// A peer; a viewer asks for the form that cannot say everything if `terse`.
    pub fn new(terse: bool) -> Self {
        Client { terse, ..Client::default() }
    }
}

impl client::Client for Client {
    fn publish(&mut self, name: &StreamName, _: Now) {
        put(&mut self.outgoing, word::PUBLISH, name.as_str().as_bytes());
    }

    fn play(&mut self, name: &StreamName, _: Now) {
        let word = if self.terse { word::PLAY_TERSE } else { word::PLAY };
        put(&mut self.outgoing, word, name.as_str().as_bytes());
    }

    fn frame(&mut self, frame: &Frame, _: Now) {
        put_frame(&mut self.outgoing, word::FRAME, frame);
    }

    fn say(&mut self, wish: Wish) -> bool {
        let word = match wish {
            Wish::Unpublish => word::UNPUBLISH,
            Wish::Stop => word::STOP,
            Wish::Pause => word::PAUSE,
            Wish::Resume => word::RESUME,
            Wish::Ping => word::PING,
            Wish::Nonsense => b'?',
            Wish::Break => word::BREAK,
        };
        self.outgoing.extend_from_slice(&message(word, &[]));
        true
    }

    fn hear(&mut self, bytes: &[u8], _: Now) {
        self.messages.push(bytes);
    }

    fn heard(&mut self) -> Option<Heard> {
        let (said, body) = match self.messages.next() {
            Ok(next) => next?,
            Err(why) => return Some(Heard::Broken(why)),
        };
        Some(match said {
            word::PUBLISHING => Heard::Publishing,
            word::PLAYING => Heard::Playing,
            word::REFUSED => Heard::Refused(String::from_utf8_lossy(&body).into_owned()),
            word::HEADER => Heard::Header,
            word::REFRESH => Heard::Refresh,
            word::STREAM => frame_of(&body).map_or(Heard::Broken("a frame that is none"), Heard::Frame),
            word::ENDED => Heard::Ended,
            word::STOPPED => Heard::Stopped,
            word::PAUSED => Heard::Paused,
            word::RESUMED => Heard::Resumed,
            word::KEYFRAME => Heard::KeyframeWanted,
            word::BYE => Heard::Bye,
            word::PONG | word::ALIVE => Heard::Other,
            _ => Heard::Broken("a message that makes no sense"),
        })
    }

    fn outgoing(&mut self) -> Option<Bytes> {
        (!self.outgoing.is_empty()).then(|| self.outgoing.split().freeze())
    }
}
