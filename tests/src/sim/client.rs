//! The other half of a protocol: what a publisher or a viewer says, and what it makes of what it hears. The world knows
//! its peers by this trait alone.

use bytes::Bytes;
use shardcast_engine::{
    media::{Frame, StreamName},
    time::Now,
};

/// A peer's half of a conversation, without its socket.
pub trait Client {
    /// Asks to publish. Those who cannot pass over it.
    fn publish(&mut self, _: &StreamName, _: Now) {}
    /// Asks to play.
    fn play(&mut self, name: &StreamName, now: Now);
    /// Sends a frame.
    fn frame(&mut self, _: &Frame, _: Now) {}
    /// Says a word. False when the protocol has none for it.
    fn say(&mut self, wish: Wish) -> bool;
    /// Takes bytes from the server; by datagrams, one of them.
    fn hear(&mut self, bytes: &[u8], now: Now);
    /// Takes a datagram that came beside the connection.
    fn hear_packet(&mut self, _: &[u8], _: Now) {}
    /// Does by itself what is due.
    fn act(&mut self, _: Now) {}
    /// When it does something by itself.
    fn deadline(&self) -> Option<Now> {
        None
    }
    /// Says goodbye, where that takes a word.
    fn leave(&mut self, _: Now) {}
    /// Its connection has come to its end by a word of the protocol, or for want of one.
    fn is_over(&self) -> bool {
        false
    }
    /// Takes the end of the connection; says what the server should have said before, if anything.
    fn end(&mut self, _: Now) -> Option<&'static str> {
        None
    }
    /// Whether it hears pictures, and sound, where each comes by packets of its own.
    fn tracks(&self) -> Option<[bool; 2]> {
        None
    }
    /// Whether the server sent it media before it had heard that it may have any, so long ago that what was lost of that cannot come in
    /// time any more.
    fn began_late(&self) -> bool {
        false
    }
    /// What it has understood, in order.
    fn heard(&mut self) -> Option<Heard>;
    /// Bytes for the server; by datagrams, one of them.
    fn outgoing(&mut self) -> Option<Bytes>;
    /// A datagram for the server beside the connection.
    fn packet(&mut self) -> Option<Bytes> {
        None
    }
}

/// What a peer may say beside frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// It publishes no more.
    Unpublish,
    /// It watches no more.
    Stop,
    /// Hold the stream.
    Pause,
    /// Go on.
    Resume,
    /// Answer me.
    Ping,
    /// Bytes that break the protocol.
    Nonsense,
    /// Bytes that bring out a bug in the session's own code.
    Break,
}

/// What a peer was told.
#[derive(Clone, Debug)]
pub enum Heard {
    /// Its stream may begin.
    Publishing,
    /// The stream comes.
    Playing,
    /// No, and the reason.
    Refused(String),
    /// The stream begins here, and this is all there is to know.
    Header,
    /// The stream goes on here, and this is all there is to know.
    Refresh,
    /// A frame of it.
    Frame(Frame),
    /// It has ended.
    Ended,
    /// The viewer's stop was heard: nothing more comes.
    Stopped,
    /// The viewer's pause was heard: nothing more comes.
    Paused,
    /// It goes on.
    Resumed,
    /// A key frame would be welcome.
    KeyframeWanted,
    /// Something of a packaged stream was fetched.
    Fetched(Fetched),
    /// Anything else that is well formed.
    Other,
    /// The server says goodbye.
    Bye,
    /// The bytes make no sense.
    Broken(&'static str),
}

/// Something of a packaged stream.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Of which.
    pub name: StreamName,
    /// Where it was asked for, as it stands in a playlist.
    pub uri: String,
    /// What was there.
    pub found: Found,
}

/// What was found at an address.
#[derive(Clone, Debug)]
pub enum Found {
    /// A media playlist, whole, and an update of it that was answered right after it.
    Playlist {
        /// The playlist.
        text: String,
        /// The update.
        update: Option<String>,
    },
    /// A segment, a part or what a decoder needs before them.
    Media(Bytes),
    /// Nothing, and a playlist has it.
    Missing,
}
