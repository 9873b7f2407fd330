//! A viewer by WHEP: it offers to receive, puts the packets that come in order, asks for what is missing, and makes frames of them.

use std::{collections::BTreeMap, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use shardcast_engine::{media::Frame, rtp::Demuxer, session, time::Now};
use str0m::{
    Event,
    media::{Direction, KeyframeRequestKind, MediaKind, Mid},
    rtp::RtpPacket,
};

use super::{
    Peer, described,
    offer::{self, Answer, Described},
};
use crate::url::Url;

/// How long what is missing is waited for, as the buffer of a browser would.
const PATIENCE: Duration = Duration::from_millis(500);
/// How far the latest packet may be ahead of one that is missing: the library asks again for the latest hundred only, and takes no others.
/// A browser would, so what is further ahead waits until it has come.
const AHEAD_MAX: u64 = 90;
/// How often a key frame is asked for, at most.
const ASKING_INTERVAL: Duration = Duration::from_millis(500);
/// Bytes of a packet's head. (RFC 3550, 5.1)
const HEAD_BYTES: usize = 12;

/// A viewer.
pub struct Whep {
    peer: Peer,
    answer: Answer,
    /// Once it is answered.
    media: Option<Media>,
}

impl Whep {
    /// A viewer of `url`, and what it says first.
    ///
    /// # Errors
    /// There is no way to the server.
    pub fn call(url: &Url, loss: f64, seed: u64, now: Now) -> Result<(Whep, Bytes), String> {
        let kinds = [MediaKind::Video, MediaKind::Audio];
        let (mut peer, offer, _) = Peer::offer(&url.address, Direction::RecvOnly, &kinds, now)?;
        peer.lose(loss, seed);
        Ok((Whep { peer, answer: Answer::default(), media: None }, offer::request(url, &offer)))
    }

    /// The server has said something by HTTP. True once it has answered.
    ///
    /// # Errors
    /// It refuses, or its answer makes no sense.
    pub fn answered(&mut self, bytes: &[u8]) -> Result<bool, String> {
        let Some(sdp) = self.answer.received(bytes)? else { return Ok(false) };
        self.peer.answered(&sdp)?;
        let described = described(&sdp, |_, _| true);
        described.iter().filter_map(|media| media.again).for_each(|again| self.peer.knows_again(again));
        self.media = Some(Media::new(described));
        Ok(true)
    }

    /// Takes what has come and does what is due, and gives each frame that is whole. Gives the bytes that packets of media carried.
    /// `buffer` has room for a datagram.
    ///
    /// # Errors
    /// The server has ended the stream, or a socket failed.
    pub fn work(
        &mut self,
        buffer: &mut [u8],
        now: Now,
        emit: &mut dyn FnMut(&Frame, Now),
    ) -> Result<u64, String> {
        let Whep { peer, media: Some(media), .. } = self else { return Ok(0) };
        let mut bytes = 0;
        peer.work(buffer, now, &mut |event| {
            if let Event::RtpPacket(packet) = event {
                bytes += packet.payload.len() as u64;
                media.packet(&packet, now, emit);
            }
            media.is_far_behind()
        })?;
        media.expire(now, emit);
        peer.hold_back(media.is_far_behind());
        if let Some(mid) = media.asks(now)
            && let Some(stream) = peer.rtc().direct_api().stream_rx_by_mid(mid, None)
        {
            stream.request_keyframe(KeyframeRequestKind::Pli);
            peer.flush(now, &mut |_| false)?;
        }
        Ok(bytes)
    }

    /// From here on nobody looks into what comes: it is taken, acknowledged and counted.
    pub fn look_no_more(&mut self) {
        if let Some(media) = &mut self.media {
            media.looks = false;
            media.tracks.iter_mut().for_each(|track| track.held.clear());
        }
    }

    /// Hangs up.
    pub fn part(&mut self, now: Now) {
        self.peer.part(now);
    }
}

/// What it receives.
struct Media {
    tracks: Vec<Track>,
    demuxer: Demuxer,
    looks: bool,
    /// A packet of pictures was given up: a decoder would need a key frame.
    broken: bool,
    asked: Option<Now>,
}

struct Track {
    described: Described,
    /// The number that is due; `None` before the first.
    due: Option<u64>,
    /// What came before its turn, and when.
    held: BTreeMap<u64, (Now, BytesMut)>,
}

impl Media {
    fn new(described: Vec<Described>) -> Media {
        let demuxer = Demuxer::new(described.iter().map(|media| Some(media.format.clone())));
        let track = |described| Track { described, due: None, held: BTreeMap::new() };
        let tracks = described.into_iter().map(track).collect();
        Media { tracks, demuxer, looks: true, broken: false, asked: None }
    }

    fn packet(&mut self, packet: &RtpPacket, now: Now, emit: &mut dyn FnMut(&Frame, Now)) {
        let number = *packet.header.payload_type;
        let is_it = |track: &Track| track.described.number == number;
        let Some(place) = self.tracks.iter().position(is_it).filter(|_| self.looks) else { return };
        let track = &mut self.tracks[place];
        let (turn, bytes) = (*packet.seq_no, whole(packet));
        // What comes again, or too late, is nothing new.
        if turn >= *track.due.get_or_insert(turn) {
            track.held.entry(turn).or_insert((now, bytes));
        }
        self.give(place, now, emit);
    }

    /// Gives all whose turn it is.
    fn give(&mut self, place: usize, now: Now, emit: &mut dyn FnMut(&Frame, Now)) {
        let Media { tracks, demuxer, .. } = self;
        let track = &mut tracks[place];
        let mut take = |event| {
            if let session::Event::Frame(frame) = event {
                emit(&frame, now);
            }
        };
        while let Some(due) = track.due
            && let Some((_, bytes)) = track.held.remove(&due)
        {
            track.due = Some(due + 1);
            demuxer.packet(place, &bytes, now, &mut take);
        }
    }

    /// Gives up what has been waited for too long.
    fn expire(&mut self, now: Now, emit: &mut dyn FnMut(&Frame, Now)) {
        for place in 0..self.tracks.len() {
            let track = &mut self.tracks[place];
            let waited = track.held.first_key_value().filter(|(_, (came, _))| came.after(PATIENCE) <= now);
            if let Some((next, _)) = waited {
                track.due = Some(*next);
                self.broken |= track.described.format.coding.is_video();
                self.give(place, now, emit);
            }
        }
    }

    /// The latest packet is as far ahead of one that is missing as may be.
    fn is_far_behind(&self) -> bool {
        let ahead = |track: &Track| Some(track.held.last_key_value()?.0.saturating_sub(track.due?));
        self.tracks.iter().filter_map(ahead).any(|ahead| ahead >= AHEAD_MAX)
    }

    /// Pictures for which a key frame is to be asked now.
    fn asks(&mut self, now: Now) -> Option<Mid> {
        if !self.broken || self.asked.is_some_and(|asked| now < asked.after(ASKING_INTERVAL)) {
            return None;
        }
        (self.broken, self.asked) = (false, Some(now));
        let pictures = self.tracks.iter().find(|track| track.described.format.coding.is_video());
        pictures.map(|track| Mid::from(&track.described.mid[..]))
    }
}

/// A packet as it would lie in a datagram.
fn whole(packet: &RtpPacket) -> BytesMut {
    let mut whole = BytesMut::with_capacity(HEAD_BYTES + packet.payload.len());
    whole.put_u8(0x80);
    whole.put_u8(u8::from(packet.header.marker) << 7 | *packet.header.payload_type);
    whole.put_u16(packet.header.sequence_number);
    whole.put_u32(packet.header.timestamp);
    whole.put_u32(*packet.header.ssrc);
    whole.put_slice(&packet.payload);
    whole
}
