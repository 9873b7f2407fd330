//! The other half of a protocol: what a publisher or a viewer says, and what it makes of what it hears. The world knows
//! its peers by this trait alone.

use bytes::Bytes;
use shardcast_engine::media::{Frame, StreamName};

/// A peer's half of a conversation, without its socket.
pub trait Client {
    /// Asks to publish.
    fn publish(&mut self, name: &StreamName);
    /// Asks to play.
    fn play(&mut self, name: &StreamName);
    /// Sends a frame.
    fn frame(&mut self, frame: &Frame);
    /// Says a word. False when the protocol has none for it.
    fn say(&mut self, wish: Wish) -> bool;
    /// Takes bytes from the server.
    fn hear(&mut self, bytes: &[u8]);
    /// What it has understood, in order.
    fn heard(&mut self) -> Option<Heard>;
    /// Bytes for the server.
    fn outgoing(&mut self) -> Option<Bytes>;
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
    /// Anything else that is well formed.
    Other,
    /// The server says goodbye.
    Bye,
    /// The bytes make no sense.
    Broken(&'static str),
}
