//! Packets to frames: the tracks of a sender, each in its payload format. (RFC 6184, 7798, 7741, 9628, 3640, 7587, 2250,
//! 3551; AOM "RTP Payload Format For AV1")
//!
//! No fault is fatal. What is broken is left out and counted ([`Counters`]). A picture of which a part is missing is left out
//! whole, and so are all that follow it until a decoder can begin anew: nobody is sent a group with a hole.

mod descriptor;
mod frames;
mod pictures;
mod sound;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use self::{
    frames::Frames,
    pictures::Assembly,
    sound::{Aac, Mp3, Opus, Voice},
};
use super::{
    Packet,
    format::{Coding, Format},
    rtcp::{Reception, SenderReport, sender_reports},
    timeline::Timeline,
};
use crate::{
    codec::{Parameters, syntax::Syntax},
    media::{Frame, Payload, TrackId},
    session::Event,
    slab,
    time::{MediaTime, Now},
};

/// Makes the frames of one sender's tracks.
///
/// ```
/// use shardcast_engine::{rtp::{Demuxer, format::Format}, time::Now};
///
/// let format = Format::read(97, Some("opus/48000/2"), "sprop-stereo=1").expect("it is Opus");
/// let mut demuxer = Demuxer::new([Some(format)]);
/// let mut frames = 0;
/// let packet = [0x80, 97, 0, 7, 0, 0, 0, 90, 1, 2, 3, 4, 0xfc, 0xff, 0xfe];
/// demuxer.packet(0, &packet, Now(0), &mut |_| frames += 1);
/// // The parameters of the track, and the packet.
/// assert_eq!(frames, 2);
/// ```
#[derive(Debug)]
pub struct Demuxer {
    /// In the order of the description; `None` for what is not carried.
    tracks: Vec<Option<Track>>,
    timeline: Timeline,
    /// Where frames are put. What is left of it takes the next.
    memory: BytesMut,
    counters: Counters,
}

/// What was left out, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that were read.
    pub packets: u64,
    /// Packets that are no RTP, or of another payload type than their track. Left out.
    pub strange_packets: u64,
    /// Packets that did not come, as far as their numbers tell.
    pub lost_packets: u64,
    /// Packets whose payload breaks a rule of its format. Left out.
    pub malformed_packets: u64,
    /// Frames of which a part is missing or too large, or that need one that was left out. Left out.
    pub broken_frames: u64,
    /// Pictures that came before the parameters of their track. Left out.
    pub early_frames: u64,
}

/// One track.
#[derive(Debug)]
struct Track {
    id: TrackId,
    payload_type: u8,
    rate: u32,
    /// The number that is due.
    due: Option<u16>,
    reception: Reception,
    media: Media,
}

#[derive(Debug)]
enum Media {
    Pictures(Box<Assembly>),
    Frames(Box<Frames>),
    Aac(Box<Aac>),
    Opus(Opus),
    Mp3(Mp3),
    Voice(Voice),
}

/// What everything that makes frames needs of the whole.
struct Context<'a> {
    /// Its place among the tracks, what it is to the stream, and its ticks per second.
    track: usize,
    id: TrackId,
    rate: u32,
    timeline: &'a mut Timeline,
    memory: &'a mut BytesMut,
    counters: &'a mut Counters,
    now: Now,
    emit: &'a mut dyn FnMut(Event),
}

impl Demuxer {
    /// For tracks with these formats, in the order in which packets will name them. The first of pictures and the first of
    /// sound are carried.
    pub fn new(formats: impl IntoIterator<Item = Option<Format>>) -> Self {
        let (mut pictures, mut sound) = (false, false);
        let mut rates = Vec::new();
        let track = |format: Option<Format>| {
            rates.push(format.as_ref().map_or(1, |format| format.clock_rate));
            let format = format?;
            let taken =
                std::mem::replace(if format.coding.is_video() { &mut pictures } else { &mut sound }, true);
            if taken { None } else { Track::new(format) }
        };
        let tracks: Vec<Option<Track>> = formats.into_iter().map(track).collect();
        Demuxer {
            tracks,
            timeline: Timeline::new(rates),
            memory: BytesMut::new(),
            counters: Counters::default(),
        }
    }

    /// Emits what the description has told of the tracks already.
    pub fn begin(&mut self, emit: &mut dyn FnMut(Event)) {
        for track in self.tracks.iter_mut().flatten() {
            let known = match &mut track.media {
                Media::Pictures(assembly) => assembly.known_parameters(),
                Media::Aac(aac) => aac.known_parameters(),
                Media::Opus(opus) => opus.known_parameters(),
                Media::Voice(voice) => voice.known_parameters(),
                // The first frame says it.
                Media::Frames(_) | Media::Mp3(_) => None,
            };
            if let Some(parameters) = known {
                let (time, payload) =
                    (MediaTime { ticks: 0, rate: track.rate }, Payload::Parameters(parameters));
                emit(Event::Frame(Frame { track: track.id, dts: time, pts: time, payload }));
            }
        }
    }

    /// True when packets of this track become frames.
    pub fn carries(&self, track: usize) -> bool {
        self.tracks.get(track).is_some_and(Option::is_some)
    }

    /// True when packets of this payload type are the track's.
    pub fn takes(&self, track: usize, payload_type: u8) -> bool {
        matches!(self.tracks.get(track), Some(Some(found)) if found.payload_type == payload_type)
    }

    /// Takes a packet of media, and emits what it makes whole as [`Event::Frame`].
    pub fn packet(&mut self, track: usize, bytes: &[u8], now: Now, emit: &mut dyn FnMut(Event)) {
        let Demuxer { tracks, timeline, memory, counters } = self;
        let Some(Some(found)) = tracks.get_mut(track) else { return };
        counters.packets += 1;
        let packet = Packet::parse(bytes).ok().filter(|packet| packet.payload_type == found.payload_type);
        let Some(packet) = packet else {
            counters.strange_packets += 1;
            return;
        };
        found.reception.packet(&packet, found.rate, now);
        let due = found.due.replace(packet.sequence.wrapping_add(1)).unwrap_or(packet.sequence);
        if due != packet.sequence {
            counters.lost_packets += u64::from(packet.sequence.wrapping_sub(due));
            found.media.lose();
        }
        let (id, rate) = (found.id, found.rate);
        found.media.packet(&packet, &mut Context { track, id, rate, timeline, memory, counters, now, emit });
    }

    /// Takes a packet of control information.
    pub fn control(&mut self, track: usize, bytes: &[u8], now: Now) {
        for report in sender_reports(bytes) {
            self.reported(track, &report, now);
        }
    }

    /// Takes a report of the sender on its packets of a track, from whoever has read the control information.
    pub fn reported(&mut self, track: usize, report: &SenderReport, now: Now) {
        let Some(Some(found)) = self.tracks.get_mut(track) else { return };
        found.reception.report(report, now);
        self.timeline.report(track, report);
    }

    /// Nothing more comes: emits what ends only where something else begins. A frame of VP8, VP9 or AV1 that nobody has marked as whole is
    /// left out.
    pub fn finish(&mut self, now: Now, emit: &mut dyn FnMut(Event)) {
        for (track, found) in self.tracks.iter_mut().enumerate() {
            let Some(Track { id, rate, media: Media::Pictures(assembly), .. }) = found else { continue };
            let (timeline, memory, counters) = (&mut self.timeline, &mut self.memory, &mut self.counters);
            let (id, rate, emit) = (*id, *rate, &mut *emit);
            assembly.end(&mut Context { track, id, rate, timeline, memory, counters, now, emit });
        }
    }

    /// Appends a report on what has come of a track, from `ssrc`; nothing before its first packet.
    pub fn report(&mut self, track: usize, ssrc: u32, now: Now, out: &mut BytesMut) {
        if let Some(Some(track)) = self.tracks.get_mut(track) {
            track.reception.write(ssrc, now, out);
        }
    }

    /// What was left out so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Bytes of memory that wait for what belongs to them. Bounded, whatever comes.
    pub fn held_bytes(&self) -> usize {
        let tracks = self.tracks.iter().flatten().map(|track| match &track.media {
            Media::Pictures(assembly) => assembly.held_bytes(),
            Media::Frames(frames) => frames.held_bytes(),
            Media::Aac(aac) => aac.held_bytes(),
            Media::Mp3(mp3) => mp3.held_bytes(),
            Media::Opus(_) | Media::Voice(_) => 0,
        });
        tracks.sum()
    }
}

impl Track {
    fn new(format: Format) -> Option<Self> {
        let Format { payload_type, clock_rate: rate, coding } = format;
        let pictures = |syntax, sets: &[Vec<u8>]| Media::Pictures(Box::new(Assembly::new(syntax, sets)));
        let (id, media) = match coding {
            Coding::H264(sets) => (TrackId::VIDEO, pictures(Syntax::H264, &sets)),
            Coding::H265(sets) => (TrackId::VIDEO, pictures(Syntax::H265, &sets)),
            Coding::Frames(codec) => (TrackId::VIDEO, Media::Frames(Box::new(Frames::new(codec)))),
            Coding::Aac { configuration, size_bits, index_bits, delta_bits } => {
                let widths = [size_bits, index_bits, delta_bits].map(u32::from);
                (TrackId::AUDIO, Media::Aac(Box::new(Aac::new(configuration, rate, widths)?)))
            }
            Coding::Latm { configuration } => {
                (TrackId::AUDIO, Media::Aac(Box::new(Aac::new(configuration, rate, sound::LATM)?)))
            }
            Coding::Opus { stereo } => (TrackId::AUDIO, Media::Opus(Opus::new(stereo))),
            Coding::Mp3 => (TrackId::AUDIO, Media::Mp3(Mp3::default())),
            Coding::Voice(codec) => (TrackId::AUDIO, Media::Voice(Voice::new(codec)?)),
        };
        Some(Track { id, payload_type, rate, due: None, reception: Reception::default(), media })
    }
}

impl Media {
    fn packet(&mut self, packet: &Packet<'_>, context: &mut Context<'_>) {
        let result = match self {
            Media::Pictures(assembly) => assembly.packet(packet, context),
            Media::Frames(frames) => frames.packet(packet, context),
            Media::Aac(aac) => aac.packet(packet, context),
            Media::Opus(opus) => opus.packet(packet, context),
            Media::Mp3(mp3) => mp3.packet(packet, context),
            Media::Voice(voice) => voice.packet(packet, context),
        };
        if result.is_none() {
            context.counters.malformed_packets += 1;
        }
    }

    /// Packets are missing before the next one.
    fn lose(&mut self) {
        match self {
            Media::Pictures(assembly) => assembly.lose(),
            Media::Frames(frames) => frames.lose(),
            Media::Aac(aac) => aac.lose(),
            Media::Mp3(mp3) => mp3.lose(),
            Media::Opus(_) | Media::Voice(_) => {}
        }
    }
}

impl Context<'_> {
    fn frame(&mut self, dts: MediaTime, pts: MediaTime, payload: Payload) {
        (self.emit)(Event::Frame(Frame { track: self.id, dts, pts, payload }));
    }

    /// A packet of sound so many ticks after `timestamp`, behind the parameters of its track when they are new.
    fn sound(&mut self, timestamp: u32, after: i64, parameters: Option<Arc<Parameters>>, payload: Payload) {
        let ticks = self.timeline.ticks(self.track, timestamp).saturating_add(after);
        let ticks = ticks.saturating_add(self.timeline.offset(self.track, ticks, self.now));
        let time = MediaTime { ticks, rate: self.rate };
        if let Some(parameters) = parameters {
            self.frame(time, time, Payload::Parameters(parameters));
        }
        self.frame(time, time, payload);
    }

    /// The bytes as a payload of their own.
    fn copy(&mut self, bytes: &[u8]) -> Bytes {
        slab::grow(self.memory, bytes.len());
        self.memory.extend_from_slice(bytes);
        self.memory.split().freeze()
    }
}
