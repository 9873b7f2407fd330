//! A stream that goes out: packets that all viewers of a core share, to each with a head and a seal of its own.

use std::time::Duration;

use bytes::Bytes;
use str0m::rtp::{RtpWrite, SeqNo};

use super::{
    epoch::instant,
    peer::{Negotiated, Peer},
    wire::{Kind, Packets},
};
use crate::{rtp::Packet, session::Shelf, time::Now};

/// Bytes that a viewer may be sent at once: what the socket of a browser holds.
const BURST_BYTES: usize = 48 << 10;
/// Bytes per second that a viewer is sent at least while it is behind. A stream that is faster is sent twice as fast as it has been.
const RATE_MIN: u64 = 2_500_000;
/// How often its rate is looked at.
const RATE_INTERVAL: Duration = Duration::from_secs(1);
/// The number of a lane's first packet.
const FIRST: u64 = 1;
/// Bytes before each packet.
const PIECE_BYTES: usize = 4;
/// Packets that are written between two looks at what the library makes of them.
pub const PACKETS_PER_DRAIN: usize = 10;

/// A stream that goes out.
#[derive(Debug)]
pub struct Viewer {
    video: Option<Lane>,
    audio: Option<Lane>,
    /// What it may be sent now, and when that was reckoned.
    left: usize,
    at: Now,
    rate: u64,
    /// What it was sent since.
    sent: u64,
    since: Now,
    /// It was asked for room, and had none.
    starved: bool,
    /// A time of the stream in milliseconds, and when that was sent: what both tracks are dated by.
    anchor: Option<(u32, Now)>,
}

/// One kind of media.
#[derive(Debug)]
struct Lane {
    negotiated: Negotiated,
    /// The number of the next packet, counted on. Small, because its peer begins to count at 0. (RFC 3711, 3.3.1)
    next: u64,
}

impl Viewer {
    /// For what was negotiated of pictures and of sound.
    pub fn new(video: Option<Negotiated>, audio: Option<Negotiated>, now: Now) -> Self {
        let lane = |negotiated| Lane { negotiated, next: FIRST };
        Viewer {
            video: video.map(lane),
            audio: audio.map(lane),
            left: BURST_BYTES,
            at: now,
            rate: RATE_MIN,
            sent: 0,
            since: now,
            starved: false,
            anchor: None,
        }
    }

    /// Bytes that it may be sent now.
    pub fn room(&mut self, now: Now) -> usize {
        if now.since(self.since) >= RATE_INTERVAL {
            self.rate = self.sent.saturating_mul(2).max(RATE_MIN);
            (self.sent, self.since) = (0, now);
        }
        let passed = now.since(self.at).as_micros() as u64;
        let grown = usize::try_from(passed.saturating_mul(self.rate) / 1_000_000).unwrap_or(usize::MAX);
        if grown > 0 {
            let most = BURST_BYTES.max((self.rate / 50) as usize);
            self.left = self.left.saturating_add(grown).min(most);
            self.at = now;
        }
        self.starved = self.left == 0;
        self.left
    }

    /// Packets that it was sent, each counted once.
    pub fn packets(&self) -> u64 {
        [&self.video, &self.audio].into_iter().flatten().map(|lane| lane.next - FIRST).sum()
    }

    /// What is left of that.
    pub fn left(&self) -> usize {
        self.left
    }

    /// When it may be sent more, where it may be sent nothing.
    pub fn deadline(&self) -> Option<Now> {
        self.starved.then(|| self.at.after(Duration::from_millis(5)))
    }

    /// Writes packets of `bytes`, from `from` on, at most as many as are looked at together. Says where the next begins, and whether
    /// pictures have come that it cannot be shown.
    pub fn write(
        &mut self,
        peer: &mut Peer,
        bytes: &Bytes,
        from: usize,
        shelf: &mut Shelf,
        now: Now,
    ) -> (usize, bool) {
        let (mut next, mut unshown) = (bytes.len(), false);
        let Some(rest) = bytes.get(from..) else { return (next, false) };
        let mut api = peer.rtc().direct_api();
        for (count, (kind, range)) in Packets::new(rest).enumerate() {
            if count == PACKETS_PER_DRAIN {
                next = from + range.start - PIECE_BYTES;
                break;
            }
            let (start, end) = (from + range.start, from + range.end);
            let lane = match kind {
                Kind::OutOfOrder => {
                    unshown = true;
                    continue;
                }
                Kind::Video => &mut self.video,
                Kind::Audio => &mut self.audio,
            };
            let Some(lane) = lane else { continue };
            let Some(stream) = api.stream_tx_by_mid(lane.negotiated.mid, None) else { continue };
            let Ok(packet) = Packet::parse(&bytes[start..end]) else { continue };
            let number = SeqNo::from(lane.next);
            lane.next += 1;
            let payload = shelf.piece(bytes, end - packet.payload.len()..end);
            self.left = self.left.saturating_sub(payload.len());
            self.sent += payload.len() as u64;
            let (at, sent) = *self.anchor.get_or_insert((packet.ssrc, now));
            let shown = instant(dated(at, sent, packet.ssrc));
            let write = RtpWrite::new(lane.negotiated.number, number, packet.timestamp, shown, payload);
            stream.write_rtp(write.marker(packet.marker).nackable(kind == Kind::Video));
        }
        (next, unshown)
    }
}

/// When a time of the stream was, by when another one was.
fn dated(at: u32, sent: Now, millis: u32) -> Now {
    let (after, before) = (millis.wrapping_sub(at), at.wrapping_sub(millis));
    if after <= before {
        sent.after(Duration::from_millis(after.into()))
    } else {
        Now(sent.0.saturating_sub(u64::from(before) * 1_000_000))
    }
}
