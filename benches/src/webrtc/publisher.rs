//! A publisher by WHIP: it offers to send pictures, is answered, and sends what is written, again where it is missed.

use std::{
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use shardcast_engine::{rtp::format::Coding, time::Now};
use str0m::media::{Direction, MediaKind, Pt};

use super::{
    Lane, Packets, Peer, described, instant,
    offer::{self, Answer},
};
use crate::url::Url;

/// How long a server may take for its answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// A publisher.
pub struct Whip {
    peer: Peer,
    lane: Lane,
    granted: bool,
}

impl Whip {
    /// Brings an offer to `url`, and waits for the answer.
    ///
    /// # Errors
    /// The server refuses, or takes no H.264.
    pub fn call(url: &Url, now: Now) -> Result<Whip, String> {
        let (mut peer, offer, mids) =
            Peer::offer(&url.address, Direction::SendOnly, &[MediaKind::Video], now)?;
        let sdp = ask(url, &offer)?;
        peer.answered(&sdp)?;
        let is_h264 = |coding: &Coding| matches!(coding, Coding::H264(_));
        let taken =
            described(&sdp, |format, text| is_h264(&format.coding) && text.contains("packetization-mode=1"));
        let (Some(taken), Some(mid)) = (taken.first(), mids.first()) else {
            return Err("the server takes no H.264".to_owned());
        };
        let lane = Lane::new(*mid, Pt::new_with_value(taken.number));
        Ok(Whip { peer, lane, granted: false })
    }

    /// Takes what has come and does what is due. True once media can flow, and only once.
    ///
    /// # Errors
    /// The server has ended it, or a socket failed.
    pub fn work(&mut self, buffer: &mut [u8], now: Now) -> Result<bool, String> {
        self.peer.work(buffer, now, &mut |_| false)?;
        let connected = self.peer.rtc().is_connected();
        Ok(connected && !std::mem::replace(&mut self.granted, connected))
    }

    /// Sends what was muxed; gives the bytes that the packets carry.
    ///
    /// # Errors
    /// It is over.
    pub fn carry(&mut self, muxed: &mut BytesMut, now: Now) -> Result<usize, String> {
        if muxed.is_empty() {
            return Ok(0);
        }
        let packets = Packets::take(muxed);
        self.lane.write(self.peer.rtc(), &packets, instant(now));
        self.peer.flush(now, &mut |_| false)?;
        Ok(packets.bytes())
    }
}

/// The answer to an offer.
fn ask(url: &Url, offer: &str) -> Result<String, String> {
    let began = Instant::now();
    let failed = |error: std::io::Error| format!("{}: {error}", url.address);
    let address = url.address.to_socket_addrs().map_err(failed)?.next();
    let address = address.ok_or_else(|| format!("{} has no address", url.address))?;
    let mut socket = TcpStream::connect_timeout(&address, ANSWER_MAX).map_err(failed)?;
    socket.set_read_timeout(Some(ANSWER_MAX)).map_err(failed)?;
    socket.write_all(&offer::request(url, offer)).map_err(failed)?;
    let (mut answer, mut buffer) = (Answer::default(), [0; 4096]);
    while began.elapsed() < ANSWER_MAX {
        let length = socket.read(&mut buffer).map_err(failed)?;
        if length == 0 {
            break;
        }
        if let Some(sdp) = answer.received(&buffer[..length])? {
            return Ok(sdp);
        }
    }
    Err(format!("{} does not answer", url.address))
}
