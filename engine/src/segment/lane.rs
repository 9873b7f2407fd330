//! One track while it is packaged: its frames as samples, samples as parts, parts as segments.
//!
//! Within a period the parts of a track follow each other without a hole, and so add up to the time that has passed. A
//! picture is shown until the next one comes, however long that takes. For sound that is not there stand parts without media
//! (RFC 8216bis, 6.2.1), and whoever plays the media finds it silent by its times. To say of a packet that it lasts until the
//! next one would do for those who go by times. But browsers play packets end to end as long as they are said to follow each
//! other, and would be early by the silence from then on.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};

use super::{Cut, Init, Origin, Part, Rendition, Terms, clock::PATIENCE, pace::PART_SHARE_MIN, ticks};
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
/// A sample is not said to last longer, whatever follows it.
const STEP_MAX: Duration = Duration::from_secs(10);
/// Tracks need not begin and end together, where a period does: less than this is nothing that is missing.
pub(super) const APART: Duration = Duration::from_millis(250);
/// A segment's length is rounded to seconds before it is held against the target.
const HALF_A_SECOND: Duration = Duration::from_millis(500);

/// Where the stream's times stand on the wall.
#[derive(Clone, Copy, Debug)]
pub(super) struct Anchor {
    /// Nanoseconds of the stream.
    pub at: i64,
    /// When that was.
    pub wall: Wall,
}

impl Anchor {
    /// When a time of the stream was.
    pub(super) fn wall(self, at: i64) -> Wall {
        let nanos = i128::from(self.wall.0) + i128::from(at) - i128::from(self.at);
        Wall(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
    }
}

/// Where one segment ends and the next begins, for all tracks. Times are nanoseconds of the stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Border {
    /// The number of the next.
    pub number: u64,
    /// When it begins.
    pub at: i64,
    /// When the one before it ends. Between the two is nothing, and that only where it `breaks`.
    pub ends: i64,
    /// The next does not continue what was before.
    pub breaks: bool,
    /// The next one's period, and the beginning of that.
    pub period: u64,
    pub anchor: Anchor,
}

/// One track.
#[derive(Debug)]
pub(super) struct Lane {
    pub track: TrackId,
    pub rendition: Rendition,
    terms: Arc<Terms>,
    parameters: Arc<Parameters>,
    /// The initialisation segment of the open segment, and of what comes after it.
    init: u32,
    next_init: u32,
    rate: u32,
    /// The stream's time that stands for zero, ticks.
    zero: i64,
    /// Samples in a packet of sound, where all have as many.
    packet: Option<u64>,
    /// The open segment, when it began, and parts of it that were cut.
    segment: Border,
    began: u64,
    index: u32,
    /// One of them has what stands at a segment's beginning.
    headed: bool,
    /// Nothing has been cut of its period.
    fresh: bool,
    /// Where segments begin that this track has not come to.
    ahead: VecDeque<Border>,
    /// The open part: samples whose length is known, when the first of them is decoded, and how long they last.
    samples: Vec<Sample>,
    start: u64,
    length: u64,
    /// The newest frame: how long it lasts is known when the next is there.
    newest: Option<(u64, Sample)>,
    /// How long frames usually last.
    usual: u64,
    /// The last time that was given. Times rise.
    last: Option<u64>,
    /// When the last part ends. Nothing that comes late begins before it.
    end: u64,
    /// Parts so far, from 1.
    sequence: u32,
}

impl Lane {
    /// A track that begins in the segment that is open. `zero` is the stream's first time.
    pub(super) fn new(
        track: TrackId,
        rendition: Rendition,
        terms: Arc<Terms>,
        parameters: Arc<Parameters>,
        rate: u32,
        zero: MediaTime,
        segment: Border,
    ) -> Self {
        let mut lane = Lane {
            track,
            rendition,
            terms,
            parameters: parameters.clone(),
            init: 0,
            next_init: 0,
            rate: 1,
            zero: 0,
            packet: None,
            segment,
            began: 0,
            index: 0,
            headed: false,
            fresh: true,
            ahead: VecDeque::new(),
            samples: Vec::new(),
            start: 0,
            length: 0,
            newest: None,
            usual: 0,
            last: None,
            end: 0,
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
        self.usual = packet.unwrap_or_else(|| self.of(usual_duration(&parameters))).max(1);
        self.parameters = parameters;
        self.end = 0;
        self.begin_period();
    }

    /// Nothing has come of the period that the open segment begins with. What is a little older than that keeps its time.
    fn begin_period(&mut self) {
        self.last = None;
        self.fresh = true;
        self.began = self.ticks(self.segment.at);
        self.end = self.end.max(self.began.saturating_sub(self.of(APART)));
    }

    /// What the track's decoder needs.
    pub(super) fn parameters(&self) -> &Arc<Parameters> {
        &self.parameters
    }

    /// Ticks per second of its times.
    pub(super) const fn rate(&self) -> u32 {
        self.rate
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

    /// Whether it has not come to the discontinuity yet that the segment of this period begins with or follows.
    pub(super) fn is_before(&self, period: u64) -> bool {
        self.segment.period < period
    }

    /// When the last of its frames ends most likely, nanoseconds of the stream.
    pub(super) fn until(&self) -> i64 {
        let newest = self.newest.as_ref().map_or(0, |(dts, _)| dts.saturating_add(self.usual));
        self.nanos(newest.max(self.reached()))
    }

    /// How far one frame may be from the next, at most, where it follows it: one between them may have been lost.
    pub(super) fn bridge(&self) -> Duration {
        bridge(ticks(self.usual, self.rate))
    }

    /// Other parameters hold: from the segment on that begins at `to`, or from the discontinuity that it expects already.
    /// What is open is cut first, while its clock holds.
    pub(super) fn change(
        &mut self,
        parameters: Arc<Parameters>,
        rate: u32,
        zero: MediaTime,
        to: Option<Border>,
        out: &mut VecDeque<Cut>,
    ) {
        self.ahead.extend(to);
        while let Some(next) = self.ahead.pop_front() {
            self.roll(next, None, out);
            if to.is_none() && next.breaks {
                break;
            }
        }
        let end = self.nanos(self.end);
        self.set_clock(parameters, rate, zero);
        self.end = self.end.max(self.ticks(end));
        self.next_init += 1;
        self.init = self.next_init;
    }

    /// A segment begins at `border`, for this track as soon as it is there.
    pub(super) fn expect(&mut self, border: Border) {
        self.ahead.push_back(border);
    }

    /// The track is where the last segment begins that it expects.
    pub(super) fn arrive(&mut self, out: &mut VecDeque<Cut>) {
        while let Some(border) = self.ahead.pop_front() {
            self.roll(border, None, out);
        }
    }

    /// The next frame of the track.
    pub(super) fn push(&mut self, frame: &Frame, out: &mut VecDeque<Cut>) {
        let (data, key) = match &frame.payload {
            Payload::Video { data, key, .. } => (data, *key),
            Payload::Audio { data, .. } => (data, true),
            _ => return,
        };
        let at = frame.dts.as_nanos();
        // What is behind a break says nothing of what was before it.
        let breaks = self.ahead.iter().any(|border| border.breaks && border.at <= at);
        let next = (!breaks).then(|| self.place(frame.dts));
        while let Some(border) = self.pass(at) {
            self.roll(border, next, out);
        }
        let dts = self.place(frame.dts);
        self.last = Some(dts);
        if let Some((newest, sample)) = self.newest.take() {
            self.continue_to(dts, newest, sample, out);
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

    /// The next border, if a frame at `at` is behind it.
    fn pass(&mut self, at: i64) -> Option<Border> {
        let border = self.ahead.front()?;
        // The track that did not break first may have a frame that is a little older than the break: it is nearer to what is
        // new than to its own past.
        let nearer = border.at.abs_diff(at) < self.until().abs_diff(at);
        let has_room = self.ticks(at).saturating_add(self.usual).saturating_sub(self.began) <= self.most();
        let behind = border.at <= at || border.breaks && (nearer || !has_room);
        if behind { self.ahead.pop_front() } else { None }
    }

    /// The newest sample lasts until the frame at `dts`, in the same segment.
    fn continue_to(&mut self, dts: u64, newest: u64, sample: Sample, out: &mut VecDeque<Cut>) {
        let step = dts.saturating_sub(newest);
        if !self.is_joined(step) {
            self.add(newest, sample, self.usual, self.usual, out);
            return self.cut(false, out);
        }
        self.add(newest, sample, step, step, out);
        if self.packet.is_none() {
            // One long step says nothing of the next.
            self.usual = step.clamp(1, self.usual.saturating_mul(2));
        }
        // The next is most likely as long. If there is no room for it the part need not wait until it is there.
        if !self.fits(self.length.saturating_add(self.usual)) && self.is_enough(self.length) {
            self.cut(false, out);
        }
    }

    /// Where the track has been silent for a whole segment, and not only comes a little later than the other, what is open
    /// ends, so that nobody waits for it.
    pub(super) fn catch_up(&mut self, out: &mut VecDeque<Cut>) {
        while let (Some(&border), Some(last)) = (self.ahead.front(), self.ahead.back())
            && last.at.saturating_sub(border.at) >= PATIENCE
        {
            self.ahead.pop_front();
            self.roll(border, None, out);
        }
    }

    /// The stream is over, and ends at `end`: the open part is the last.
    pub(super) fn finish(&mut self, end: i64, out: &mut VecDeque<Cut>) {
        self.arrive(out);
        if self.newest.is_some() || !self.samples.is_empty() || self.index > 0 {
            let number = self.segment.number + 1;
            self.roll(Border { number, at: end, ends: end, breaks: true, ..self.segment }, None, out);
        }
    }

    /// Ends the open segment and begins the next. `next` is when the next frame of the period is decoded, if it is there.
    fn roll(&mut self, to: Border, mut next: Option<u64>, out: &mut VecDeque<Cut>) {
        let newest = self.newest.as_ref().map_or(self.ticks(self.segment.at), |(dts, _)| *dts);
        self.begin(if self.samples.is_empty() { newest } else { self.start });
        let mut end = self.ticks(to.ends);
        let mut kept = None;
        if to.breaks {
            // A frame that is older than the break, and behind it.
            end = end.min(next.take().unwrap_or(u64::MAX));
        } else if let Some(next) = next.filter(|next| next.abs_diff(end) <= self.of(self.bridge())) {
            // The segment ends with a frame, for one ends near.
            (end, kept) = self.end_near(end, next);
        }
        if let Some((newest, sample)) = self.newest.take() {
            let step = next.map(|next| next.saturating_sub(newest));
            let lasts = self.lasts(newest, step, end, &to);
            // A picture lasts until the next one for whoever plays it, though what is listed of it ends here. Behind a hole
            // browsers take no picture before a key frame.
            let alone = end.saturating_sub(newest.saturating_add(lasts)) > self.of(APART);
            let until = step.or(alone.then(|| end - newest)).filter(|_| self.is_pictures());
            let shown = until.map_or(lasts, |until| until.min(self.of(STEP_MAX)).max(lasts));
            self.add(newest, sample, shown, lasts, out);
        }
        let missing = end.saturating_sub(self.reached());
        let hole = missing > if to.breaks { self.of(APART) } else { 0 };
        if !self.samples.is_empty() {
            self.cut(!hole, out);
        }
        if hole || self.index == 0 {
            self.gap(end.max(self.end + 1), true, out);
        }
        self.segment = to;
        self.began = self.end;
        self.index = 0;
        self.headed = false;
        self.init = self.next_init;
        if to.breaks {
            self.begin_period();
        }
        self.newest = kept;
    }

    /// The end of a segment near `end`, where the next frame is decoded, unless that makes it too long; and a packet of sound
    /// that it has no room for.
    fn end_near(&mut self, end: u64, next: u64) -> (u64, Option<(u64, Sample)>) {
        if next.saturating_sub(self.began) <= self.most() {
            return (next, None);
        }
        let newest = self.newest.as_ref().map_or(0, |(dts, _)| *dts);
        let follows = newest > self.began && next.saturating_sub(newest) <= self.of(self.bridge());
        if follows && !self.is_pictures() { (newest, self.newest.take()) } else { (end, None) }
    }

    /// How long the last frame of a segment lasts that ends at `end`. `step` is how far the next of its period is.
    fn lasts(&self, newest: u64, step: Option<u64>, end: u64, to: &Border) -> u64 {
        let room = end.saturating_sub(newest).max(1);
        let most = self.began.saturating_add(self.most()).saturating_sub(newest).max(1);
        let lasts = match step {
            // Not into the next period, where another frame may begin.
            _ if to.breaks => self.usual.min(self.ticks(to.at).saturating_sub(newest).max(1)),
            _ if self.is_pictures() => room,
            Some(step) if self.is_joined(step) => step,
            _ => self.usual,
        };
        lasts.min(most)
    }

    /// Whether a frame is followed without a hole by the next, which is so much later.
    fn is_joined(&self, step: u64) -> bool {
        self.is_pictures() || step <= self.of(self.bridge())
    }

    const fn is_pictures(&self) -> bool {
        matches!(self.rendition, Rendition::Video)
    }

    /// Takes a sample into the open part. It says that it lasts for `shown`, and has `lasts` of the part's time.
    fn add(&mut self, dts: u64, sample: Sample, shown: u64, lasts: u64, out: &mut VecDeque<Cut>) {
        let full = !self.fits(self.length.saturating_add(lasts)) && self.is_enough(self.length);
        if !self.samples.is_empty() && full {
            self.cut(false, out);
        }
        if self.samples.is_empty() {
            self.start = dts;
            self.length = 0;
        }
        self.length = self.length.saturating_add(lasts);
        self.samples.push(Sample { duration: u32::try_from(shown).unwrap_or(u32::MAX), ..sample });
    }

    /// Whether a part may be so long.
    fn fits(&self, length: u64) -> bool {
        ticks(length, self.rate) <= self.terms.part
    }

    /// Whether it may be so short.
    fn is_enough(&self, length: u64) -> bool {
        ticks(length, self.rate) * 100 >= self.terms.part * PART_SHARE_MIN
    }

    /// Makes a part of the samples.
    fn cut(&mut self, last: bool, out: &mut VecDeque<Cut>) {
        self.begin(self.start);
        if self.start > self.end {
            self.gap(self.start, false, out);
        }
        let independent = self.samples.first().is_some_and(|sample| sample.key);
        let bytes = self.fragment(self.start);
        self.samples.clear();
        self.put(self.length, independent, last, false, bytes, out);
    }

    /// The samples as they are sent, the first of them decoded at `start`.
    fn fragment(&mut self, start: u64) -> Bytes {
        self.sequence = self.sequence.wrapping_add(1);
        let run = Run {
            track: 1,
            base_decode_time: start,
            all_key: self.rendition == Rendition::Audio,
            samples: &self.samples,
        };
        let media: usize = self.samples.iter().map(|sample| sample.data.len()).sum();
        let mut bytes = BytesMut::with_capacity(
            mux::SEGMENT_HEAD_BYTES + mux::head_len(std::slice::from_ref(&run)) + media,
        );
        if !std::mem::replace(&mut self.headed, true) {
            mux::segment_head(1, self.wall(start), start, &mut bytes);
        }
        mux::head(self.sequence, &[run], &mut bytes);
        for sample in &self.samples {
            bytes.extend_from_slice(&sample.data);
        }
        bytes.freeze()
    }

    /// The first part of a period begins with its first frame, at `start`, unless that is so much later than the period that
    /// something is missing. A part without media costs players the segment that it is in: hls.js passes over all of that.
    fn begin(&mut self, start: u64) {
        if !std::mem::take(&mut self.fresh) {
            return;
        }
        let at = self.ticks(self.segment.at).max(self.end);
        let near = start <= at.saturating_add(self.of(APART));
        self.end = if near { start.max(self.end) } else { at };
        self.began = self.end;
    }

    /// The track has nothing until `until`. A whole segment of nothing is one part, and no list names it: it may be longer
    /// than parts are. It has bytes all the same, a fragment without samples: a manifest of DASH counts segments, and has no
    /// word for one that is not there.
    fn gap(&mut self, until: u64, last: bool, out: &mut VecDeque<Cut>) {
        let (start, length) = (self.end, until.saturating_sub(self.end));
        if self.index == 0 && last {
            let bytes = self.fragment(start);
            return self.put(length, false, true, true, bytes, out);
        }
        let count = length.div_ceil(self.of(self.terms.part).max(1)).max(1);
        for number in 1..=count {
            let end = start + (u128::from(length) * u128::from(number) / u128::from(count)) as u64;
            self.put(end - self.end, false, last && number == count, true, Bytes::new(), out);
        }
    }

    /// What follows the last part, for so long.
    fn put(
        &mut self,
        duration: u64,
        independent: bool,
        last: bool,
        gap: bool,
        bytes: Bytes,
        out: &mut VecDeque<Cut>,
    ) {
        let start = self.end;
        let anchor = self.segment.anchor;
        out.push_back(Cut::Part(Arc::new(Part {
            rendition: self.rendition,
            segment: self.segment.number,
            index: self.index,
            init: self.init,
            discontinuity: self.segment.breaks && self.index == 0,
            period: self.segment.period,
            origin: Origin { time: self.ticks(anchor.at), wall: anchor.wall },
            start,
            duration,
            rate: self.rate,
            independent,
            last,
            gap,
            wall: self.wall(start),
            bytes,
        })));
        self.index += 1;
        self.end = start.saturating_add(duration);
    }

    /// How far the parts and the open one go.
    fn reached(&self) -> u64 {
        if self.samples.is_empty() { self.end } else { self.start.saturating_add(self.length) }
    }

    /// A frame's time on the track's clock, after that of the frame before it.
    fn place(&self, dts: MediaTime) -> u64 {
        let given = u64::try_from(dts.ticks_at(self.rate).saturating_sub(self.zero)).unwrap_or(0);
        let time = match (self.last, self.packet) {
            (None, _) => given,
            (Some(last), Some(packet)) if given.abs_diff(last + packet) <= self.of(SNAP) => last + packet,
            (Some(last), _) => given.max(last + 1),
        };
        time.max(self.end)
    }

    /// The longest that a segment may be, in ticks.
    fn most(&self) -> u64 {
        self.of(Duration::from_secs(self.terms.target.into()) + HALF_A_SECOND).saturating_sub(1)
    }

    /// A time of the stream, in nanoseconds, on the track's clock.
    fn ticks(&self, at: i64) -> u64 {
        let ticks = MediaTime { ticks: at, rate: 1_000_000_000 }.ticks_at(self.rate);
        u64::try_from(ticks.saturating_sub(self.zero)).unwrap_or(0)
    }

    /// A time of the track on the stream's clock, in nanoseconds.
    fn nanos(&self, time: u64) -> i64 {
        let ticks = i64::try_from(time).unwrap_or(i64::MAX).saturating_add(self.zero);
        MediaTime { ticks, rate: self.rate }.as_nanos()
    }

    /// When a time of the track was.
    fn wall(&self, time: u64) -> Wall {
        self.segment.anchor.wall(self.nanos(time))
    }

    fn of(&self, duration: Duration) -> u64 {
        let ticks = duration.as_nanos() * u128::from(self.rate) / 1_000_000_000;
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }
}

/// How far frames that last so long may be from each other and still follow each other.
pub(super) fn bridge(frame: Duration) -> Duration {
    frame * 2 + SNAP
}
