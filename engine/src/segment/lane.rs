//! One track while it is packaged: its frames as samples, samples as parts, parts as segments.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};

use super::{Cut, Init, Part, Rendition, Terms, clock::Boundary};
use crate::{
    codec::{Parameters, Shape},
    fmp4::{
        file::usual_duration,
        mux::{self, Run, Sample},
    },
    media::{Frame, Payload, TrackId},
    time::{MediaTime, Wall},
};

/// Times of a track begin here, so that what is a little older than the first frame, or is shown before it is decoded, has a
/// time too.
const LEAD: Duration = Duration::from_secs(1);
/// How far a packet of sound may be from where the one before it ended and still follow it without a gap: times that were
/// rounded to milliseconds, and a little jitter.
const SNAP: Duration = Duration::from_millis(8);
/// A longer step to the next frame is a pause, and not how long the frame lasts.
const STEP_MAX: Duration = Duration::from_secs(10);
/// Only the last part of a segment may be shorter than this share of the longest, in percent. (RFC 8216bis, 4.4.3.7)
const PART_SHARE_MIN: u64 = 85;

/// Where the stream's times stand on the wall.
#[derive(Clone, Copy, Debug)]
pub(super) struct Anchor {
    /// Nanoseconds of the stream.
    pub at: i64,
    /// When that was.
    pub wall: Wall,
}

impl Anchor {
    fn wall(self, at: i64) -> Wall {
        let nanos = i128::from(self.wall.0) + i128::from(at) - i128::from(self.at);
        Wall(u64::try_from(nanos).unwrap_or(0))
    }
}

/// One track.
#[derive(Debug)]
pub(super) struct Lane {
    pub track: TrackId,
    pub rendition: Rendition,
    parameters: Arc<Parameters>,
    /// The initialisation segment of the open segment, and of what comes after it.
    init: u32,
    next_init: u32,
    rate: u32,
    /// The stream's time that stands for zero, ticks.
    zero: i64,
    /// Samples in a packet of sound, where all have as many.
    packet: Option<u64>,
    /// The open segment, and parts of it that were cut.
    segment: Boundary,
    discontinuity: bool,
    index: u32,
    /// Where segments begin that this track has not come to.
    ahead: VecDeque<Boundary>,
    /// The open part: samples whose length is known, when the first of them is decoded, and how long they last.
    samples: Vec<Sample>,
    start: u64,
    length: u64,
    /// The newest frame: how long it lasts is known when the next is there.
    newest: Option<(u64, Sample)>,
    /// How long the frame before it lasted.
    usual: u64,
    /// The last time that was given. Times rise.
    last: Option<u64>,
    /// When what was cut without knowing what follows ends. Nothing that comes late begins before it.
    floor: u64,
    /// Parts so far, from 1.
    sequence: u32,
}

impl Lane {
    /// A track that begins in the segment that is open at `segment`. `zero` is the stream's first time.
    pub(super) fn new(
        track: TrackId,
        rendition: Rendition,
        parameters: Arc<Parameters>,
        rate: u32,
        zero: MediaTime,
        segment: Boundary,
    ) -> Self {
        let mut lane = Lane {
            track,
            rendition,
            parameters: parameters.clone(),
            init: 0,
            next_init: 0,
            rate: 1,
            zero: 0,
            packet: None,
            segment,
            discontinuity: false,
            index: 0,
            ahead: VecDeque::new(),
            samples: Vec::new(),
            start: 0,
            length: 0,
            newest: None,
            usual: 0,
            last: None,
            floor: 0,
            sequence: 0,
        };
        lane.set_clock(parameters, rate, zero);
        lane
    }

    fn set_clock(&mut self, parameters: Arc<Parameters>, rate: u32, zero: MediaTime) {
        let (rate, packet) = match parameters.shape {
            Shape::Audio { sample_rate, packet_samples, .. } if sample_rate > 0 => {
                (sample_rate, (packet_samples > 0).then_some(u64::from(packet_samples)))
            }
            _ => (rate.max(1), None),
        };
        self.rate = rate;
        self.packet = packet;
        self.zero = zero.ticks_at(rate).saturating_sub(i64::from(rate) * LEAD.as_secs() as i64);
        self.usual = self.of(usual_duration(&parameters)).max(1);
        self.last = None;
        self.floor = 0;
        self.parameters = parameters;
    }

    /// What the track's decoder needs.
    pub(super) fn parameters(&self) -> &Arc<Parameters> {
        &self.parameters
    }

    /// The initialisation segment of what comes.
    pub(super) fn init(&self, created: Wall) -> Cut {
        let mut bytes = BytesMut::new();
        let track = mux::Track { id: 1, timescale: self.rate, parameters: self.parameters.clone() };
        mux::init(&[track], created, &mut bytes);
        Cut::Init(Arc::new(Init {
            rendition: self.rendition,
            version: self.next_init,
            parameters: self.parameters.clone(),
            rate: self.rate,
            bytes: bytes.freeze(),
        }))
    }

    /// Whether it has not come to the discontinuity yet that the segment of this boundary begins with or follows.
    pub(super) fn is_before(&self, open: Boundary) -> bool {
        self.segment.period < open.period
    }

    /// Other parameters hold from the next segment on: the one that begins at `to`, or the last that it expects. What is open
    /// is cut first, while its clock holds.
    pub(super) fn change(
        &mut self,
        parameters: Arc<Parameters>,
        rate: u32,
        zero: MediaTime,
        to: Option<Boundary>,
        anchor: Anchor,
        out: &mut VecDeque<Cut>,
    ) {
        let Some(to) = to.or_else(|| self.ahead.pop_back()) else { return };
        while let Some(next) = self.ahead.pop_front() {
            self.roll(next, None, anchor, out);
        }
        self.roll(to, None, anchor, out);
        self.set_clock(parameters, rate, zero);
        self.next_init += 1;
        self.init = self.next_init;
    }

    /// A segment begins at `boundary`, for this track as soon as it is there.
    pub(super) fn expect(&mut self, boundary: Boundary) {
        self.ahead.push_back(boundary);
    }

    /// The next frame of the track.
    pub(super) fn push(&mut self, frame: &Frame, terms: &Terms, anchor: Anchor, out: &mut VecDeque<Cut>) {
        let (data, key) = match &frame.payload {
            Payload::Video { data, key, .. } => (data, *key),
            Payload::Audio { data, .. } => (data, true),
            _ => return,
        };
        let at = frame.dts.as_nanos();
        let dts = self.time(frame.dts);
        while self.ahead.front().is_some_and(|boundary| boundary.at <= at) {
            let Some(boundary) = self.ahead.pop_front() else { break };
            // Only the last of them begins where this frame does.
            let follows = self.ahead.front().is_none_or(|next| next.at > at);
            self.roll(boundary, follows.then_some(dts), anchor, out);
        }
        if let Some((newest, sample)) = self.newest.take() {
            let step = dts - newest;
            let lasts = if step <= self.of(STEP_MAX) { step } else { self.usual };
            self.usual = lasts;
            let most = self.of(terms.part);
            if !self.samples.is_empty() && self.length + lasts > most {
                self.cut(false, anchor, out);
            }
            self.add(newest, sample, lasts);
            // The next is most likely as long. If there is no room for it the part need not wait until it is there.
            if self.length + lasts > most && self.length * 100 >= most * PART_SHARE_MIN {
                self.cut(false, anchor, out);
            }
        }
        // Where the decoding time was moved the time of showing stays, unless that would be before it.
        let pts = frame.pts.ticks_at(self.rate).saturating_sub(self.zero);
        let moved = frame.dts.ticks_at(self.rate).saturating_sub(self.zero) != dts as i64;
        let offset = pts.saturating_sub_unsigned(dts);
        let offset = if self.packet.is_some() {
            0
        } else if moved {
            offset.max(0)
        } else {
            offset
        };
        let sample = Sample {
            duration: 0,
            composition_offset: offset.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32,
            key,
            data: data.clone(),
        };
        self.newest = Some((dts, sample));
    }

    /// The track has been silent for a whole segment: what is open ends, so that nobody waits for it.
    pub(super) fn catch_up(&mut self, anchor: Anchor, out: &mut VecDeque<Cut>) {
        while self.ahead.len() > 1 {
            let Some(boundary) = self.ahead.pop_front() else { break };
            self.roll(boundary, None, anchor, out);
        }
    }

    /// The stream is over: the open part is the last.
    pub(super) fn finish(&mut self, anchor: Anchor, out: &mut VecDeque<Cut>) {
        if self.newest.is_some() || !self.samples.is_empty() {
            let to = Boundary { number: self.segment.number + 1, at: i64::MAX, ..self.segment };
            self.roll(to, None, anchor, out);
        }
    }

    /// Ends the open segment and begins the next. `follows` is when the next frame is decoded, if it continues the last.
    fn roll(&mut self, to: Boundary, follows: Option<u64>, anchor: Anchor, out: &mut VecDeque<Cut>) {
        let breaks = to.period != self.segment.period;
        if let Some((newest, sample)) = self.newest.take() {
            let step = follows.filter(|_| !breaks).map(|next| next - newest);
            let step = step.filter(|step| *step <= self.of(STEP_MAX));
            // Not into the next segment, where another frame may begin.
            let room = self.ticks(to.at).saturating_sub(newest).max(1);
            let lasts = step.unwrap_or_else(|| self.usual.min(room));
            self.add(newest, sample, lasts);
            self.floor = newest + lasts;
        }
        if !self.samples.is_empty() {
            self.cut(true, anchor, out);
        } else if self.index == 0 {
            self.gap(to, anchor, out);
        }
        self.discontinuity = breaks;
        self.segment = to;
        self.index = 0;
        self.init = self.next_init;
    }

    fn add(&mut self, dts: u64, sample: Sample, lasts: u64) {
        if self.samples.is_empty() {
            self.start = dts;
            self.length = 0;
        }
        self.length += lasts;
        self.samples.push(Sample { duration: u32::try_from(lasts).unwrap_or(u32::MAX), ..sample });
    }

    /// Makes a part of the samples.
    fn cut(&mut self, last: bool, anchor: Anchor, out: &mut VecDeque<Cut>) {
        let wall = self.wall(self.start, anchor);
        self.sequence = self.sequence.wrapping_add(1);
        let run = Run {
            track: 1,
            base_decode_time: self.start,
            all_key: self.rendition == Rendition::Audio,
            samples: &self.samples,
        };
        let media: usize = self.samples.iter().map(|sample| sample.data.len()).sum();
        let mut bytes = BytesMut::with_capacity(
            mux::SEGMENT_HEAD_BYTES + mux::head_len(std::slice::from_ref(&run)) + media,
        );
        if self.index == 0 {
            mux::segment_head(1, wall, self.start, &mut bytes);
        }
        mux::head(self.sequence, &[run], &mut bytes);
        for sample in &self.samples {
            bytes.extend_from_slice(&sample.data);
        }
        let independent = self.samples.first().is_some_and(|sample| sample.key);
        self.samples.clear();
        self.put(self.start, self.length, independent, last, Some(bytes.freeze()), wall, out);
    }

    /// The track had nothing for a whole segment.
    fn gap(&mut self, to: Boundary, anchor: Anchor, out: &mut VecDeque<Cut>) {
        let start = self.ticks(self.segment.at);
        let length = self.ticks(to.at).saturating_sub(start);
        let wall = self.wall(start, anchor);
        self.put(start, length, false, true, None, wall, out);
    }

    #[expect(clippy::too_many_arguments, reason = "each is a field of the part")]
    fn put(
        &mut self,
        start: u64,
        duration: u64,
        independent: bool,
        last: bool,
        bytes: Option<Bytes>,
        wall: Wall,
        out: &mut VecDeque<Cut>,
    ) {
        out.push_back(Cut::Part(Arc::new(Part {
            rendition: self.rendition,
            segment: self.segment.number,
            index: self.index,
            init: self.init,
            discontinuity: self.discontinuity && self.index == 0,
            period: self.segment.period,
            start,
            duration,
            rate: self.rate,
            independent,
            last,
            gap: bytes.is_none(),
            wall,
            bytes: bytes.unwrap_or_default(),
        })));
        self.index += 1;
    }

    /// A frame's time on the track's clock, after that of the frame before it.
    fn time(&mut self, dts: MediaTime) -> u64 {
        let given = u64::try_from(dts.ticks_at(self.rate).saturating_sub(self.zero)).unwrap_or(0);
        let time = match (self.last, self.packet) {
            (None, _) => given,
            (Some(last), Some(packet)) if given.abs_diff(last + packet) <= self.of(SNAP) => last + packet,
            (Some(last), _) => given.max(last + 1),
        }
        .max(self.floor);
        self.last = Some(time);
        time
    }

    /// A time of the stream, in nanoseconds, on the track's clock.
    fn ticks(&self, at: i64) -> u64 {
        let ticks = MediaTime { ticks: at, rate: 1_000_000_000 }.ticks_at(self.rate);
        u64::try_from(ticks.saturating_sub(self.zero)).unwrap_or(0)
    }

    /// When a time of the track was.
    fn wall(&self, time: u64, anchor: Anchor) -> Wall {
        let ticks = i64::try_from(time).unwrap_or(i64::MAX).saturating_add(self.zero);
        anchor.wall(MediaTime { ticks, rate: self.rate }.as_nanos())
    }

    fn of(&self, duration: Duration) -> u64 {
        let ticks = duration.as_nanos() * u128::from(self.rate) / 1_000_000_000;
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }
}
