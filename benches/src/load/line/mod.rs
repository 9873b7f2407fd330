//! A line to an SRT door: who calls there, and how a stream goes by it. The callers are sockets of the system's libsrt (`library`) or the
//! engine's own machines (`own`).

#[cfg(feature = "libsrt")]
mod library;
mod own;

use bytes::BytesMut;
use shardcast_engine::{media::Frame, srt::Target, time::Now};

#[cfg(feature = "libsrt")]
use self::library::Library;
use self::own::Own;
use crate::{scenario::SrtPeer, url::Url};

/// What a packet of data carries when it is full: seven packets of MPEG-TS, as every sender of it does.
const MESSAGE_BYTES: usize = 1316;
const ENDED: &str = "the server has ended the stream";

/// What a line brings.
pub enum Heard<'a> {
    /// The server has granted what was asked for.
    Granted,
    /// A frame of the stream.
    Frame(&'a Frame),
}

/// A line.
pub enum Line {
    /// By the engine's machine.
    Own(Box<Own>),
    /// By libsrt.
    #[cfg(feature = "libsrt")]
    Library(Box<Library>),
}

impl Line {
    /// Calls `url`, to publish or to play.
    ///
    /// # Errors
    /// The URL is none of SRT, there is no way to its host, or this build has no such caller.
    pub fn call(url: &Url, publishes: bool, by: SrtPeer, now: Now) -> Result<Line, String> {
        let text = format!("{}://{}{}", url.scheme, url.address, url.path);
        let target = Target::parse(&text).map_err(|error| format!("{text}: {error}"))?;
        match by {
            SrtPeer::Own => Ok(Line::Own(Box::new(Own::call(&url.address, target, publishes, now)?))),
            #[cfg(feature = "libsrt")]
            SrtPeer::Libsrt => Ok(Line::Library(Box::new(Library::call(&url.address, &target)?))),
            #[cfg(not(feature = "libsrt"))]
            SrtPeer::Libsrt => Err(crate::scenario::WITHOUT_LIBSRT.to_owned()),
        }
    }

    /// Takes what has come and does what is due, and tells what that brings. Gives the bytes of the stream that came. `buffer`
    /// has room for a datagram.
    ///
    /// # Errors
    /// The server refuses, is gone or has ended the stream, or what it says makes no sense.
    pub fn work(
        &mut self,
        buffer: &mut [u8],
        now: Now,
        tell: &mut dyn FnMut(Heard<'_>),
    ) -> Result<u64, String> {
        match self {
            Line::Own(line) => line.work(buffer, now, tell),
            #[cfg(feature = "libsrt")]
            Line::Library(line) => line.work(buffer, now, tell),
        }
    }

    /// From here on nobody looks into what comes: it is taken and counted. Our own machine looks into it all the same.
    pub fn look_no_more(&mut self) {
        match self {
            Line::Own(_) => {}
            #[cfg(feature = "libsrt")]
            Line::Library(line) => line.look_no_more(),
        }
    }

    /// Sends as much of the stream as may go now, and gives how much that was: whole messages, but for the end of the stream.
    ///
    /// # Errors
    /// The server has ended the stream.
    pub fn carry(&mut self, waiting: &mut BytesMut, ends: bool, now: Now) -> Result<usize, String> {
        match self {
            Line::Own(line) => line.carry(waiting, ends, now),
            #[cfg(feature = "libsrt")]
            Line::Library(line) => line.carry(waiting, ends),
        }
    }

    /// Whether all that was sent has left. By libsrt that is when it has arrived: what its socket still has is dropped with it.
    pub fn is_sent(&self) -> bool {
        match self {
            Line::Own(_) => true,
            #[cfg(feature = "libsrt")]
            Line::Library(line) => line.is_sent(),
        }
    }

    /// Hangs up.
    pub fn part(&mut self, now: Now) {
        match self {
            Line::Own(line) => line.part(now),
            // It says goodbye when it is dropped.
            #[cfg(feature = "libsrt")]
            Line::Library(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_is_none_is_refused_before_it_is_made() {
        for url in ["srt://127.0.0.1:0/?streamid=read:live/x", "srt://127.0.0.1:9/?colour=red"] {
            let url = Url::parse(url).unwrap();
            for by in [SrtPeer::Own, SrtPeer::Libsrt] {
                assert!(Line::call(&url, false, by, Now(0)).is_err(), "{url:?}");
            }
        }
    }
}
