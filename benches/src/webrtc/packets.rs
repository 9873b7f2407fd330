//! Frames to packets, as the engine cuts them for browsers, and packets into a session.

use std::{sync::Arc, time::Instant};

use bytes::BytesMut;
use shardcast_engine::{
    rtp,
    webrtc::wire::{self, Kind},
};
use str0m::{
    Rtc,
    media::{Mid, Pt},
    rtp::{RtpWrite, SeqNo},
};

/// A packet before it is anybody's.
#[derive(Clone, Debug)]
pub struct Piece {
    marker: bool,
    timestamp: u32,
    /// What it carries; all sessions share it.
    pub payload: Arc<[u8]>,
}

/// The packets of pictures in what the engine's form has written.
#[derive(Debug)]
pub struct Packets(Vec<Piece>);

impl Packets {
    /// Takes whole frames out of `muxed`.
    pub fn take(muxed: &mut BytesMut) -> Packets {
        let bytes = muxed.split();
        let packets = wire::Packets::new(&bytes).filter(|(kind, _)| *kind == Kind::Video);
        let packets = packets.filter_map(|(_, range)| rtp::Packet::parse(bytes.get(range)?).ok());
        let piece = |packet: rtp::Packet<'_>| Piece {
            marker: packet.marker,
            timestamp: packet.timestamp,
            payload: packet.payload.into(),
        };
        Packets(packets.map(piece).collect())
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &Piece> {
        self.0.iter()
    }

    /// Bytes that they carry.
    pub fn bytes(&self) -> usize {
        self.iter().map(|piece| piece.payload.len()).sum()
    }
}

/// A session's pictures, on their way out.
#[derive(Debug)]
pub struct Lane {
    mid: Mid,
    number: Pt,
    /// The number of the next packet, counted on. Small, because the other side begins to count at 0. (RFC 3711, 3.3.1)
    next: u64,
}

impl Lane {
    /// Of the media with this name, whose packets bear this number.
    pub fn new(mid: Mid, number: Pt) -> Lane {
        Lane { mid, number, next: 1 }
    }

    /// Writes packets of a frame that is sent at `moment`.
    pub fn write(&mut self, rtc: &mut Rtc, packets: &Packets, moment: Instant) {
        let mut api = rtc.direct_api();
        let Some(stream) = api.stream_tx_by_mid(self.mid, None) else { return };
        for Piece { marker, timestamp, payload } in packets.iter() {
            let number = SeqNo::from(self.next);
            self.next += 1;
            let write = RtpWrite::new(self.number, number, *timestamp, moment, payload.clone());
            stream.write_rtp(write.marker(*marker).nackable(true));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::{Clip, Filling, Playback};

    #[test]
    fn every_picture_of_the_clip_becomes_packets_of_its_own() {
        let clip = Clip::built_in().in_order().filled(2_000_000, Filling::Reserved).unwrap();
        let mut playback = Playback::new(clip.clone());
        let (mut wire, mut muxed) = ((wire::FORM.open)(), BytesMut::new());
        wire.header(clip.opening(), &clip.parts()[0].frame, &mut muxed);
        let (mut bytes, mut marks) = (0, 0);
        for _ in 0..clip.parts().len() {
            wire.frame(&playback.take(1), &mut muxed);
            let packets = Packets::take(&mut muxed);
            bytes += packets.bytes() as u64;
            marks += packets.iter().filter(|piece| piece.marker).count();
        }
        assert_eq!(marks, clip.parts().len(), "none is left out, and each ends once");
        assert!((clip.bytes()..clip.bytes() * 102 / 100).contains(&bytes), "{bytes} of {}", clip.bytes());
    }
}
