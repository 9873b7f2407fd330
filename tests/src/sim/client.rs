//! The other half of a protocol: what a publisher or a viewer says, and what it makes of what it hears. The world knows
//! its peers by this trait alone.

use bytes::Bytes;
use shardcast_engine::{
    limits::DoorLimits,
    media::{Frame, StreamName},
    session::Session,
    time::Now,
};

use super::http::Exchange;

/// A peer's half of a conversation, without its socket.
pub trait Client {
    /// The door that it calls at.
    fn door(&self) -> &'static str;
    /// The server's half.
    fn session(&self, limits: &DoorLimits, now: Now) -> Box<dyn Session>;
    /// It has called, perhaps not for the first time: what was said before on another connection is said in vain.
    fn called(&mut self) {}
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
    /// Its time has come.
    fn wake(&mut self, _: Now) {}
    /// When it wants to say something of its own accord.
    fn deadline(&self) -> Option<Now> {
        None
    }
    /// It has asked for the last thing on its connection.
    fn is_done(&self) -> bool {
        false
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
    /// The answer to a request.
    Answered(Box<Exchange>),
    /// Anything else that is well formed.
    Other,
    /// The server says goodbye.
    Bye,
    /// The bytes make no sense.
    Broken(&'static str),
}
