//! A program while it is written: which streams it has, its clock, and each frame as packets in the order in which it came.
//! Files, segments and the live form are made of it.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use super::{
    clock::{Clock, DELAY, STEP},
    coding::{Body, Coding},
    packet::{self, Adaptation, PACKET_BYTES, PAYLOAD_BYTES, Packets},
    pes,
    tables::{self, Tables},
};
use crate::{
    codec::Parameters,
    limits,
    media::{Frame, Payload, TrackId},
};

/// The first of the PIDs of streams; the next stream has the next. What ffmpeg takes.
const STREAM_PID: u16 = 0x100;
const _: () = assert!(tables::STREAMS_MAX >= limits::RECORDING_TRACKS_MAX);
/// The longest step of the clock from one pair of tables to the next. The bound is 500 ms (ETSI TR 101 290, 5.2.1, 1.3 and
/// 1.5), and what comes next may be as late as the clock's next reading.
const TABLES_STEP: i64 = 45_000 - STEP;

pub(super) struct Program {
    tables: Tables,
    /// In the order in which their tracks could be said first. One whose codec changed to what cannot be said keeps its place.
    streams: Vec<Stream>,
    /// Which of the streams carries the clock: the first of pictures, or else the first.
    clocked: usize,
    clock: Clock,
    /// What the clock read when the tables were written; `None` when they must stand before the next frame.
    tables_at: Option<i64>,
    /// A reader may enter at the next frame.
    entrance: bool,
    /// What follows does not continue what came before.
    broken: bool,
    /// The packets before those of the frame that is being written. Kept for its memory.
    ahead: BytesMut,
    /// What stands before a frame's own bytes. Kept for its memory.
    head: Vec<u8>,
    /// One for each frame of a run. Kept for its memory.
    stamps: Vec<Option<Stamp>>,
}

/// A track in the program.
struct Stream {
    track: TrackId,
    parameters: Arc<Parameters>,
    /// `None` while it cannot be said.
    coding: Option<Coding>,
    pid: u16,
    /// `continuity_counter` of its next packet.
    counter: u8,
    /// The time of its last frame. Times never fall below it.
    last: Option<i64>,
    /// How much earlier its frames are decoded than their track says.
    lead: i64,
}

/// When a frame is decoded, in ticks of the clock.
#[derive(Clone, Copy)]
pub(super) struct Stamp {
    stream: usize,
    dts: i64,
}

/// A frame that is ready to be written.
pub(super) struct Unit<'a> {
    stream: usize,
    header: pes::Header,
    body: Body<'a>,
    /// Bytes of the PES packet.
    len: usize,
    adaptation: Adaptation,
}

impl Program {
    /// One without streams.
    pub(super) fn new(clock: Clock) -> Self {
        let mut tables = Tables::default();
        tables.set(None, std::iter::empty());
        Program {
            tables,
            streams: Vec::new(),
            clocked: 0,
            clock,
            tables_at: None,
            entrance: false,
            broken: false,
            ahead: BytesMut::new(),
            head: Vec::new(),
            stamps: Vec::new(),
        }
    }

    /// Hears what holds for the frames of a track from here on.
    pub(super) fn learn(&mut self, track: TrackId, parameters: &Arc<Parameters>) {
        match self.streams.iter_mut().find(|stream| stream.track == track) {
            Some(stream) => {
                if Arc::ptr_eq(&stream.parameters, parameters) || stream.parameters == *parameters {
                    return;
                }
                stream.parameters = parameters.clone();
                stream.coding = Coding::of(parameters);
            }
            None => {
                let Some(coding) = Coding::of(parameters) else { return };
                if self.streams.len() == tables::STREAMS_MAX {
                    return;
                }
                self.streams.push(Stream {
                    track,
                    parameters: parameters.clone(),
                    coding: Some(coding),
                    pid: STREAM_PID + self.streams.len() as u16,
                    counter: 0,
                    last: None,
                    lead: 0,
                });
            }
        }
        self.set_tables();
    }

    fn set_tables(&mut self) {
        let place = |wanted: fn(&Coding) -> bool| {
            self.streams.iter().position(|stream| stream.coding.as_ref().is_some_and(wanted))
        };
        let clocked = place(Coding::is_pictures).or_else(|| place(|_| true));
        self.clocked = clocked.unwrap_or(0);
        let clock_pid = clocked.and_then(|place| self.streams.get(place)).map(|stream| stream.pid);
        let said = self.streams.iter().filter_map(|stream| Some((stream.pid, stream.coding.as_ref()?)));
        self.tables.set(clock_pid, said);
        // Perhaps another stream carries the clock now.
        self.enter();
    }

    /// Hears what a frame that is neither picture nor sound says.
    pub(super) fn heed(&mut self, frame: &Frame) {
        match &frame.payload {
            Payload::Parameters(parameters) => self.learn(frame.track, parameters),
            // Before the first reading there is nothing that could be continued.
            Payload::Discontinuity if self.clock.last().is_some() => {
                self.clock.restart();
                self.broken = true;
            }
            _ => {}
        }
    }

    /// Writes the tables alone.
    pub(super) fn write_tables(&mut self, out: &mut BytesMut) {
        self.tables.write(out);
    }

    /// A reader may enter at the next frame: before it stand the tables and a reading.
    pub(super) fn enter(&mut self) {
        self.entrance = true;
        self.tables_at = None;
    }

    /// Writes frames that come together. A reader may enter at the first of them.
    pub(super) fn run(&mut self, frames: &[Frame], out: &mut BytesMut) {
        out.reserve((2 * tables::PACKETS + frames.iter().map(packets_about).sum::<usize>()) * PACKET_BYTES);
        self.enter();
        for part in frames.split_inclusive(|frame| !frame.is_media()) {
            self.stamp(part);
            let stamps = std::mem::take(&mut self.stamps);
            for (frame, stamp) in part.iter().zip(&stamps) {
                if let Some(unit) = stamp.and_then(|stamp| self.prepare(frame, stamp)) {
                    self.write(&unit, out);
                }
            }
            self.stamps = stamps;
            part.last().into_iter().for_each(|frame| self.heed(frame));
        }
    }

    /// Gets a frame of a live stream ready: nothing is known of what comes after it. `None` when it cannot be said.
    pub(super) fn prepare_next<'a>(&mut self, frame: &'a Frame) -> Option<Unit<'a>> {
        self.stamp(std::slice::from_ref(frame));
        let stamp = self.stamps.first().copied().flatten()?;
        self.prepare(frame, stamp)
    }

    /// Gets what a reader needs that enters at a frame which cannot be said; false when nothing can be said at all.
    pub(super) fn prepare_entrance(&mut self, frame: &Frame) -> bool {
        if self.streams.iter().all(|stream| stream.coding.is_none()) {
            return false;
        }
        let now = self.clock.advance(self.clock.ticks(frame.dts));
        self.lead_in(now, false);
        true
    }

    /// Finds the time of each frame of a run before any of them is written: what comes late in it says how far the clock
    /// must stay back from its beginning on.
    fn stamp(&mut self, frames: &[Frame]) {
        if self.clock.stands() {
            let known = frames.iter().filter(|frame| self.place_of(frame).is_some());
            if let Some(first) = known.map(|frame| frame.dts).min_by_key(|dts| dts.as_nanos()) {
                self.clock.start(first);
            }
        }
        for frame in frames {
            let lead = self.clock.ticks(frame.dts) - self.clock.ticks(frame.pts);
            if let Some(stream) = self.place_of(frame).and_then(|place| self.streams.get_mut(place)) {
                stream.lead = stream.lead_with(lead);
            }
        }
        self.stamps.clear();
        for frame in frames {
            let dts = self.clock.ticks(frame.dts).max(self.clock.floor());
            let stamp = self.place_of(frame).and_then(|place| {
                let stream = self.streams.get_mut(place)?;
                let dts = stream.time(dts, stream.lead);
                stream.last = Some(dts);
                Some(Stamp { stream: place, dts })
            });
            self.stamps.push(stamp);
        }
        self.clock.foresee(self.stamps.iter().flatten().map(|stamp| stamp.dts));
    }

    /// Which stream a picture or packet of sound is of, if it can be said.
    fn place_of(&self, frame: &Frame) -> Option<usize> {
        if !frame.is_media() {
            return None;
        }
        self.streams.iter().position(|stream| stream.track == frame.track && stream.coding.is_some())
    }

    /// Gets a frame ready, and what must stand before it. `None` when there is nothing whole in it, or when no PES packet has
    /// room for it.
    fn prepare<'a>(&mut self, frame: &'a Frame, stamp: Stamp) -> Option<Unit<'a>> {
        let (data, key) = match &frame.payload {
            Payload::Video { data, key, .. } => (data, *key),
            Payload::Audio { data, .. } => (data, false),
            _ => return None,
        };
        let coding = self.streams.get(stamp.stream)?.coding.as_ref()?;
        self.head.clear();
        let body = coding.prepare(data, key, &mut self.head)?;
        let (stream_id, is_pictures) = (coding.stream_id(), coding.is_pictures());

        let carries_clock = stamp.stream == self.clocked;
        let now = self.clock.advance(stamp.dts);
        let dts = stamp.dts.saturating_add(DELAY).max(now);
        let pts = self.clock.ticks(frame.pts).saturating_add(DELAY).max(dts);
        let payload_len = self.head.len() + body.len();
        let header = pes::Header::new(stream_id, pts, dts, payload_len)?;

        if key {
            self.tables_at = None;
        }
        self.lead_in(now, carries_clock);
        if carries_clock {
            self.clock.was_read(now);
        }
        let adaptation = Adaptation {
            discontinuity: false,
            // Where there are no pictures, each packet of sound is an entrance.
            random_access: key || carries_clock && !is_pictures,
            reading: carries_clock.then_some(now),
        };
        let len = header.bytes().len() + payload_len;
        Some(Unit { stream: stamp.stream, header, body, len, adaptation })
    }

    /// Makes the packets that stand before a frame for which the clock reads `now`. The tables come first, then readings that
    /// are made up for the time since the last one.
    fn lead_in(&mut self, now: i64, carries_clock: bool) {
        let mut ahead = std::mem::take(&mut self.ahead);
        ahead.clear();
        let mut read = None;
        if std::mem::take(&mut self.broken) || self.clock.leaps(now) {
            self.tables_at = None;
            self.keep_tables(now, &mut ahead);
            self.write_marks_of_streams(now, &mut ahead);
            self.clock.was_read(now);
            read = Some(now);
        }
        self.keep_tables(self.clock.first_on_the_way(now), &mut ahead);
        while let Some(reading) = self.clock.due(now, carries_clock) {
            self.keep_tables(reading, &mut ahead);
            self.write_reading(reading, &mut ahead);
            read = Some(reading);
        }
        self.keep_tables(now, &mut ahead);
        if std::mem::take(&mut self.entrance) && !carries_clock && read != Some(now) {
            self.write_reading(now, &mut ahead);
            self.clock.was_read(now);
        }
        self.ahead = ahead;
    }

    /// Writes the tables if they are due when the clock reads `now`.
    fn keep_tables(&mut self, now: i64, out: &mut BytesMut) {
        if self.tables_at.is_none_or(|at| now - at > TABLES_STEP) {
            self.tables.write(out);
            self.tables_at = Some(now);
        }
    }

    fn write_reading(&self, reading: i64, out: &mut BytesMut) {
        if let Some(stream) = self.streams.get(self.clocked) {
            let adaptation = Adaptation { reading: Some(reading), ..Adaptation::default() };
            packet::write_field(stream.pid, stream.counter, &adaptation, out);
        }
    }

    /// Writes what makes it legal to leave out all that came before `at`, which is the next frame. (2.4.3.5)
    ///
    /// Whatever counter a PID had, one without the clock may have any other in a packet with `discontinuity_indicator`. The
    /// PID with the clock may only where the clock begins anew, so its packet brings a reading, and stands first: no time
    /// that counts by the new clock may come before that.
    pub(super) fn write_marks(&self, at: &Frame, out: &mut BytesMut) {
        let (mut clock, ticks) = (self.clock, self.clock.ticks(at.dts));
        let stream = self.place_of(at).and_then(|place| self.streams.get(place));
        let dts = stream
            .map_or(ticks, |stream| stream.time(ticks, stream.lead_with(ticks - self.clock.ticks(at.pts))));
        clock.foresee(std::iter::once(dts));
        let now = clock.advance(dts);
        // Else the frame itself brings such packets, for everybody.
        if !self.broken && !clock.leaps(now) {
            self.write_marks_of_streams(clock.first_on_the_way(now), out);
        }
        self.tables.write_marks(out);
    }

    fn write_marks_of_streams(&self, reading: i64, out: &mut BytesMut) {
        let said = |place: &usize| self.streams.get(*place).is_some_and(|stream| stream.coding.is_some());
        let others = (0..self.streams.len()).filter(|place| *place != self.clocked);
        for place in std::iter::once(self.clocked).chain(others).filter(said) {
            let Some(stream) = self.streams.get(place) else { continue };
            let reading = (place == self.clocked).then_some(reading);
            let mark = Adaptation { discontinuity: true, random_access: false, reading };
            packet::write_field(stream.pid, stream.counter, &mark, out);
        }
    }

    /// What stands before the frame that was prepared last.
    pub(super) fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Bytes that [`write`](Self::write) will append.
    pub(super) fn len(&self, unit: &Unit<'_>) -> usize {
        self.ahead.len() + packet::count(unit.len, &unit.adaptation) * PACKET_BYTES
    }

    /// Writes the frame that was prepared last, and what stands before it.
    pub(super) fn write(&mut self, unit: &Unit<'_>, out: &mut BytesMut) {
        out.reserve(self.len(unit));
        out.put_slice(&self.ahead);
        let Some(stream) = self.streams.get_mut(unit.stream) else { return };
        let mut packets = Packets::new(stream.pid, &mut stream.counter, unit.len, &unit.adaptation, out);
        packets.put(unit.header.bytes());
        packets.put(&self.head);
        unit.body.write(|bytes| packets.put(bytes));
        packets.finish();
    }
}

impl Stream {
    /// A picture may be shown before its track says that it is decoded (a negative composition time in FLV and MP4), which
    /// cannot be said here: the whole track is decoded so much earlier, as long as the delay has room for it.
    fn lead_with(&self, lead: i64) -> i64 {
        self.lead.max(lead).min(DELAY)
    }

    /// When a frame is decoded. Encoders step back by a tick now and then, and sound may be older than the picture that
    /// opened a file. Times of a stream can only rise, so such a frame comes at the time of the one before it.
    fn time(&self, dts: i64, lead: i64) -> i64 {
        let dts = dts - lead;
        self.last.map_or(dts, |last| dts.max(last))
    }
}

/// About how many packets a frame takes: its own, one that is begun, and one more for what stands before it.
fn packets_about(frame: &Frame) -> usize {
    frame.payload_bytes() / PAYLOAD_BYTES + 2
}
