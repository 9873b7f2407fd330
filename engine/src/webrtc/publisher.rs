//! A stream that comes in: its packets in their order, their frames, and what its sender is asked for.

use std::{collections::VecDeque, time::Duration};

use bytes::{BufMut as _, BytesMut};
use str0m::{
    media::{KeyframeRequestKind, SenderFeedback},
    rtp::RtpPacket,
};

use super::{
    offer::Choice,
    peer::{Negotiated, Peer},
};
use crate::{
    rtp::{
        Demuxer, Order,
        rtcp::{NtpTime, SenderReport},
    },
    session::{Event, Output},
    time::{Now, Wall},
};

/// How often at most a publisher is asked for a key frame, whoever wants one.
const KEYFRAME_INTERVAL: Duration = Duration::from_millis(500);
/// Bytes of a packet's head. (RFC 3550, 5.1)
const HEAD_BYTES: usize = 12;

/// A stream that comes in.
#[derive(Debug)]
pub struct Publisher {
    tracks: Vec<Track>,
    demuxer: Demuxer,
    /// A packet as it would lie in a datagram.
    packet: BytesMut,
    /// Frames that were left out so far.
    broken: u64,
    asked: Option<Now>,
    /// A key frame is wanted, and it was too soon to ask.
    wanted: bool,
}

#[derive(Debug)]
struct Track {
    negotiated: Negotiated,
    video: bool,
    order: Order,
}

impl Publisher {
    /// For media in these codings.
    pub fn new(chosen: &[(bool, Choice)], negotiated: Vec<Negotiated>) -> Self {
        let tracks = chosen.iter().zip(negotiated);
        let tracks = tracks.map(|((video, _), negotiated)| Track {
            negotiated,
            video: *video,
            order: Order::default(),
        });
        Publisher {
            tracks: tracks.collect(),
            demuxer: Demuxer::new(chosen.iter().map(|(_, choice)| Some(choice.format.clone()))),
            packet: BytesMut::new(),
            broken: 0,
            asked: None,
            wanted: false,
        }
    }

    /// Says what the description has told.
    pub fn begin(&mut self, out: &mut VecDeque<Output>) {
        self.demuxer.begin(&mut emit(out));
    }

    /// A packet has come.
    pub fn packet(&mut self, packet: &RtpPacket, now: Now, out: &mut VecDeque<Output>) {
        let Publisher { tracks, demuxer, packet: whole, .. } = self;
        let number = packet.header.payload_type;
        let Some(place) = tracks.iter().position(|track| track.negotiated.number == number) else { return };
        let order = &mut tracks[place].order;
        whole.clear();
        whole.reserve(HEAD_BYTES + packet.payload.len());
        whole.put_u8(0x80);
        whole.put_u8(u8::from(packet.header.marker) << 7 | *number);
        whole.put_u16(packet.header.sequence_number);
        whole.put_u32(packet.header.timestamp);
        whole.put_u32(*packet.header.ssrc);
        whole.put_slice(&packet.payload);
        let mut give = |bytes: Option<&[u8]>| {
            if let Some(bytes) = bytes {
                demuxer.packet(place, bytes, now, &mut emit(out));
            }
        };
        order.expire(now, &mut give);
        order.push(packet.header.sequence_number, whole, now, &mut give);
        self.look();
    }

    /// The sender says which of its times is which.
    pub fn report(&mut self, feedback: &SenderFeedback, now: Now) {
        let found = self.tracks.iter().position(|track| track.negotiated.mid == feedback.mid);
        let since_1970 = feedback.sender_info.ntp_time.duration_since(std::time::UNIX_EPOCH);
        let (Some(place), Ok(since_1970)) = (found, since_1970) else { return };
        let info = &feedback.sender_info;
        let report = SenderReport {
            ssrc: *info.ssrc,
            ntp: NtpTime::from(Wall(since_1970.as_nanos() as u64)),
            timestamp: info.rtp_time.numer() as u32,
            packets: info.sender_packet_count,
            octets: info.sender_octet_count,
        };
        self.demuxer.reported(place, &report, now);
    }

    /// When there is something to be done.
    pub fn deadline(&self) -> Option<Now> {
        let asks = self.asked.filter(|_| self.wanted).map(|asked| asked.after(KEYFRAME_INTERVAL));
        self.tracks.iter().filter_map(|track| track.order.deadline()).chain(asks).min()
    }

    /// Gives up what has been waited for too long.
    pub fn expire(&mut self, now: Now, out: &mut VecDeque<Output>) {
        let Publisher { tracks, demuxer, .. } = self;
        for (place, track) in tracks.iter_mut().enumerate() {
            track.order.expire(now, &mut |bytes| {
                if let Some(bytes) = bytes {
                    demuxer.packet(place, bytes, now, &mut emit(out));
                }
            });
        }
        self.look();
    }

    /// A picture that was left out is followed by others that need it, up to the next key frame.
    fn look(&mut self) {
        let broken = self.demuxer.counters().broken_frames;
        self.wanted |= broken > std::mem::replace(&mut self.broken, broken);
    }

    /// Packets that were given up.
    pub fn lost(&self) -> u64 {
        self.tracks.iter().map(|track| track.order.counters().lost).sum()
    }

    /// A viewer waits for a key frame.
    pub fn want_keyframe(&mut self) {
        self.wanted = true;
    }

    /// Asks for a key frame if one is wanted and it is time to. False when nothing was asked for. (RFC 4585, 6.3.1)
    pub fn ask(&mut self, peer: &mut Peer, now: Now) -> bool {
        if !self.wanted || self.asked.is_some_and(|asked| now < asked.after(KEYFRAME_INTERVAL)) {
            return false;
        }
        let Some(video) = self.tracks.iter().find(|track| track.video) else { return false };
        let mut api = peer.rtc().direct_api();
        let Some(stream) = api.stream_rx_by_mid(video.negotiated.mid, None) else { return false };
        stream.request_keyframe(KeyframeRequestKind::Pli);
        (self.wanted, self.asked) = (false, Some(now));
        true
    }

    /// Gives what is left: nothing more comes.
    pub fn finish(&mut self, now: Now, out: &mut VecDeque<Output>) {
        self.expire(Now(u64::MAX), out);
        self.demuxer.finish(now, &mut emit(out));
    }
}

fn emit(out: &mut VecDeque<Output>) -> impl FnMut(Event) {
    |event| out.push_back(Output::Event(event))
}
