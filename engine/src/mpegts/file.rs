//! A file while it is written: which streams it has, and each frame as packets in the order in which it came.

use bytes::BytesMut;

use super::{
    clock::{Clock, DELAY},
    coding::Coding,
    packet::{self, Adaptation, PACKET_BYTES, PAYLOAD_BYTES, Packets},
    pes,
    tables::{self, Tables},
};
use crate::{
    container::{Container, Muxer, Pieces, Track},
    limits,
    media::{Frame, Payload, TrackId},
    time::Wall,
};

/// MPEG-TS. It carries H.264, HEVC, AAC, MP3 and Opus; tracks of other codecs are left out. A frame is copied once, since a
/// packet's head stands between each 184 bytes of it.
pub static CONTAINER: Container =
    Container { name: "ts", extension: "ts", open: || Box::new(File::default()) };

/// The first of the PIDs of streams; the next stream has the next. What ffmpeg takes.
const STREAM_PID: u16 = 0x100;
const _: () = assert!(tables::STREAMS_MAX >= limits::RECORDING_TRACKS_MAX);

#[derive(Default)]
struct File {
    tables: Tables,
    streams: Vec<Stream>,
    /// Which of the streams carries the clock: the first of pictures, or else the first.
    clocked: usize,
    clock: Clock,
    /// What stands before a frame's own bytes. Kept for its memory.
    head: Vec<u8>,
    /// One for each frame of a fragment. Kept for its memory.
    stamps: Vec<Option<Stamp>>,
}

/// A track in the file.
struct Stream {
    track: TrackId,
    coding: Coding,
    pid: u16,
    /// `stream_id` of its PES packets.
    id: u8,
    /// `continuity_counter` of its next packet.
    counter: u8,
    /// The time of its last frame. Times never fall below it.
    last: Option<i64>,
    /// How much earlier its frames are decoded than their track says.
    lead: i64,
}

/// When a frame is decoded, in ticks from the file's first frame.
struct Stamp {
    stream: usize,
    dts: i64,
}

impl Muxer for File {
    fn begin(&mut self, tracks: &[Track], _: Wall, out: &mut Pieces) {
        let codings = tracks.iter().filter_map(|track| Some((track.id, Coding::of(&track.parameters)?)));
        for (pid, (track, coding)) in (STREAM_PID..).zip(codings.take(tables::STREAMS_MAX)) {
            let id = match &coding {
                Coding::AnnexB(_) => pes::PICTURES,
                Coding::Adts(_) | Coding::Mp3 { .. } => pes::SOUND,
                Coding::Opus { .. } => pes::PRIVATE_STREAM_1,
            };
            self.streams.push(Stream { track, coding, pid, id, counter: 0, last: None, lead: 0 });
        }
        self.clocked = self.streams.iter().position(|stream| stream.coding.is_pictures()).unwrap_or(0);
        let clock_pid = self.streams.get(self.clocked).map(|stream| stream.pid);
        self.tables = Tables::new(clock_pid, self.streams.iter().map(|stream| (stream.pid, &stream.coding)));
        self.tables.write(out.bytes());
    }

    fn fragment(&mut self, frames: &[Frame], _: Option<&Frame>, out: &mut Pieces) {
        let out = out.bytes();
        out.reserve((tables::PACKETS + frames.iter().map(packets_about).sum::<usize>()) * PACKET_BYTES);
        self.tables.write(out);
        self.stamp(frames);
        let stamps = std::mem::take(&mut self.stamps);
        for (frame, stamp) in frames.iter().zip(&stamps) {
            if let Some(stamp) = stamp {
                self.write(frame, stamp, out);
            }
        }
        self.stamps = stamps;
    }
}

impl File {
    /// Finds the time of each frame of a fragment before any of them is written: what comes late in it says how far the clock
    /// must stay back from its beginning on.
    fn stamp(&mut self, frames: &[Frame]) {
        let of = |streams: &[Stream], frame: &Frame| {
            streams.iter().position(|stream| stream.track == frame.track).filter(|_| frame.is_media())
        };
        if self.clock.stands() {
            let known = frames.iter().filter(|frame| of(&self.streams, frame).is_some());
            if let Some(first) = known.map(|frame| frame.dts).min_by_key(|dts| dts.as_nanos()) {
                self.clock.start(first);
            }
        }
        // A picture may be shown before its track says that it is decoded (a negative composition time in FLV and MP4), which
        // cannot be said here: the whole track is decoded so much earlier, as long as the delay has room for it.
        for frame in frames {
            if let Some(stream) = of(&self.streams, frame).and_then(|stream| self.streams.get_mut(stream)) {
                let lead = self.clock.ticks(frame.dts) - self.clock.ticks(frame.pts);
                stream.lead = stream.lead.max(lead).min(DELAY);
            }
        }
        self.stamps.clear();
        for frame in frames {
            let stamp = of(&self.streams, frame).and_then(|place| {
                let stream = self.streams.get_mut(place)?;
                // Encoders step back by a tick now and then, and sound may be older than the picture that opened the file.
                // Times of a stream can only rise, so such a frame comes at the time of the one before it.
                let dts = self.clock.ticks(frame.dts).max(0) - stream.lead;
                let dts = stream.last.map_or(dts, |last| dts.max(last));
                stream.last = Some(dts);
                Some(Stamp { stream: place, dts })
            });
            self.stamps.push(stamp);
        }
        self.clock.foresee(self.stamps.iter().flatten().map(|stamp| stamp.dts));
    }

    /// Writes one frame; nothing when there is nothing whole in it, or when no PES packet has room for it.
    fn write(&mut self, frame: &Frame, stamp: &Stamp, out: &mut BytesMut) {
        let (data, key) = match &frame.payload {
            Payload::Video { data, key, .. } => (data, *key),
            Payload::Audio { data, .. } => (data, false),
            _ => return,
        };
        let Some(stream) = self.streams.get(stamp.stream) else { return };
        self.head.clear();
        let Some(body) = stream.coding.prepare(data, key, &mut self.head) else { return };

        let carries_clock = stamp.stream == self.clocked;
        let now = self.clock.advance(stamp.dts);
        if let Some(clocked) = self.streams.get(self.clocked) {
            while let Some(reading) = self.clock.due(now, carries_clock) {
                packet::write_reading(clocked.pid, clocked.counter, reading, out);
            }
        }
        let dts = stamp.dts.saturating_add(DELAY).max(now);
        let pts = self.clock.ticks(frame.pts).saturating_add(DELAY).max(dts);
        let payload_len = self.head.len() + body.len();
        let Some(header) = pes::Header::new(stream.id, pts, dts, payload_len) else { return };

        let adaptation = Adaptation {
            // Where there are no pictures, each packet of sound is an entrance.
            random_access: key || carries_clock && !stream.coding.is_pictures(),
            reading: carries_clock.then_some(now),
        };
        let Some(stream) = self.streams.get_mut(stamp.stream) else { return };
        let len = header.bytes().len() + payload_len;
        let mut packets = Packets::new(stream.pid, &mut stream.counter, len, &adaptation, out);
        packets.put(header.bytes());
        packets.put(&self.head);
        body.write(|bytes| packets.put(bytes));
        packets.finish();
        if carries_clock {
            self.clock.was_read(now);
        }
    }
}

/// About how many packets a frame takes: its own, one that is begun, and one more for what stands before it.
fn packets_about(frame: &Frame) -> usize {
    frame.payload_bytes() / PAYLOAD_BYTES + 2
}
