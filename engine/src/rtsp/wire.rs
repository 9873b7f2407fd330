//! What viewers inside connections are sent: packets of RTP behind a head each, the same for all of a stream. (RFC 2326, 10.12)

use bytes::{BufMut as _, Bytes, BytesMut};

use super::sdp::payload_type;
use crate::{
    media::{Frame, Payload, TrackId},
    rtp::{
        mux::{Framed, Track},
        rtcp::{self, NtpTime},
    },
    session::{Form, Opening, Start, Wire},
    time::{MediaTime, Wall},
};

/// The forms, by the tracks that a viewer has set up: pictures, sound, both.
pub static FORMS: [Form; 3] = [
    Form {
        name: "rtsp-video",
        datagram: None,
        prompt: false,
        open: || Box::new(Interleaved::of([true, false])),
    },
    Form {
        name: "rtsp-audio",
        datagram: None,
        prompt: false,
        open: || Box::new(Interleaved::of([false, true])),
    },
    Form { name: "rtsp", datagram: None, prompt: false, open: || Box::new(Interleaved::of([true, true])) },
];

/// The form of these tracks; `None` when there are none.
pub fn form_of(video: bool, audio: bool) -> Option<&'static Form> {
    let place = (usize::from(video) + 2 * usize::from(audio)).checked_sub(1)?;
    FORMS.get(place)
}

/// The channel of a track's media; the next one is of its control information.
pub fn channel_of(track: TrackId) -> u8 {
    2 * track.0
}

/// The source of a track's packets. One server is one source of each track, whoever looks.
pub fn ssrc_of(track: TrackId) -> u32 {
    0x5348_4300 + u32::from(track.0)
}

/// A packet behind its head.
pub fn put_packet(channel: u8, packet: &[u8], out: &mut BytesMut) {
    let Ok(len) = u16::try_from(packet.len()) else { return };
    out.put_slice(&[b'$', channel]);
    out.put_u16(len);
    out.put_slice(packet);
}

/// That the sources of these tracks have gone. (RFC 3550, 6.6)
pub fn goodbyes(tracks: impl IntoIterator<Item = TrackId>) -> Bytes {
    let mut bytes = BytesMut::new();
    for track in tracks {
        put_packet(channel_of(track) + 1, &rtcp::goodbye(ssrc_of(track)), &mut bytes);
    }
    bytes.freeze()
}

/// Between two reports. (RFC 3550, 6.2: five seconds at least, for those who are many)
const REPORT_INTERVAL: i64 = 5;

struct Interleaved {
    lines: [Line; 2],
    /// When the last reports were written.
    reported: Option<MediaTime>,
    /// A time of the stream, and when that was.
    clock: (MediaTime, Wall),
}

struct Line {
    id: TrackId,
    wanted: bool,
    track: Option<Track>,
}

impl Interleaved {
    fn of(wanted: [bool; 2]) -> Self {
        let [video, audio] = wanted;
        let line = |id, wanted| Line { id, wanted, track: None };
        Interleaved {
            lines: [line(TrackId::VIDEO, video), line(TrackId::AUDIO, audio)],
            reported: None,
            // Of a stream whose clock is not known: that it has no other than its own.
            clock: (MediaTime::from_millis(0), Wall(0)),
        }
    }

    /// True when a track begins with these parameters.
    fn learn(&mut self, frame: &Frame) -> bool {
        let Payload::Parameters(parameters) = &frame.payload else { return false };
        let is_it = |line: &&mut Line| line.id == frame.track && line.wanted;
        let Some(line) = self.lines.iter_mut().find(is_it) else { return false };
        let begins = line.track.as_mut().is_none_or(|track| !track.change(parameters));
        if begins {
            let track = Track::new(parameters, payload_type(line.id), ssrc_of(line.id));
            line.track = track.map(|track| track.following(line.track.as_ref()));
        }
        begins
    }

    /// When `at` is, by the clock on the wall.
    fn ntp_of(&self, at: MediaTime) -> NtpTime {
        let (then, wall) = self.clock;
        let passed = at.as_nanos().saturating_sub(then.as_nanos());
        Wall(wall.0.saturating_add_signed(passed)).into()
    }

    fn report(&self, lines: impl Fn(&Line) -> bool, at: MediaTime, out: &mut BytesMut) {
        for line in self.lines.iter().filter(|line| lines(line)) {
            let Some(track) = &line.track else { continue };
            track.report(at, self.ntp_of(at), &mut Framed { channel: channel_of(line.id), out });
        }
    }
}

impl Wire for Interleaved {
    fn header(&mut self, opening: &Opening, at: &Frame, out: &mut BytesMut) {
        for frame in &opening.parameters {
            self.learn(frame);
        }
        self.clock = opening.clock.unwrap_or(self.clock);
        self.report(|_| true, at.dts, out);
    }

    fn refresh(&mut self, opening: &Opening, at: &Frame, out: &mut BytesMut) {
        self.header(opening, at, out);
    }

    fn starts(&self, at: &Frame) -> Vec<Start> {
        let starts = self.lines.iter().filter_map(|line| {
            let (sequence, timestamp) = line.track.as_ref()?.start(at.pts);
            Some(Start { track: line.id, sequence, timestamp })
        });
        starts.collect()
    }

    fn frame(&mut self, frame: &Frame, out: &mut BytesMut) {
        if !frame.is_media() {
            // Whoever has entered knows nothing of its times.
            if self.learn(frame) {
                self.report(|line| line.id == frame.track, frame.dts, out);
            }
            return;
        }
        let since = self.reported.map(|reported| frame.dts.as_nanos().saturating_sub(reported.as_nanos()));
        if since.is_none_or(|since| since >= REPORT_INTERVAL * 1_000_000_000) {
            // Whoever enters has been told.
            if self.reported.replace(frame.dts).is_some() {
                self.report(|_| true, frame.dts, out);
            }
        }
        let Some(line) = self.lines.iter_mut().find(|line| line.id == frame.track) else { return };
        if let Some(track) = &mut line.track {
            track.frame(frame, &mut Framed { channel: channel_of(line.id), out });
        }
    }
}

#[cfg(test)]
mod tests;
