//! Transport streams to frames, as they come by SRT and UDP: bytes cut anywhere, packets lost, doubled and damaged.
//!
//! No fault is fatal. What is broken is left out and counted ([`Counters`]), and what comes next is read.
//!
//! Of one program, the first or the one that is asked for, one stream of pictures and one of sound are carried: what frames go
//! out by has room for no more.
//! Each PES packet with pictures is taken as an access unit. NAL units become length-prefixed, delimiters, filler and
//! parameter sets are taken out, and parameter sets make the track's configuration. Sound is cut into frames wherever PES
//! packets begin. Frames keep the times of their PES packets, on a clock of 90 kHz that does not wrap; the program's clock is
//! not read, for a frame that arrives live is placed by its own time.

mod packet;
mod pes;
mod pictures;
mod section;
mod sound;
mod sync;

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use self::{
    packet::{Continuity, Packet, Step},
    pes::{Gathered, Pes, Times},
    pictures::Pictures,
    section::{Kind, Section, Sections},
    sound::Sound,
    sync::Sync,
};
use super::{
    packet::PACKET_BYTES,
    tables::{PAT_PID, PAT_TABLE_ID, PMT_TABLE_ID},
};
use crate::{
    codec::Parameters,
    media::{Frame, Payload, TrackId},
    session::Event,
    slab,
    time::{MediaTime, Unwrapper},
};

/// Ticks per second of all times. (ISO/IEC 13818-1, 2.4.3.7)
const RATE: u32 = 90_000;
/// Bits of a time.
const TIME_BITS: u32 = 33;

/// Makes the frames of one publisher.
///
/// ```
/// use shardcast_engine::mpegts::{Demuxer, demux::Counters};
///
/// let mut demuxer = Demuxer::default();
/// // A packet of no stream that is known, and the beginning of another.
/// let bytes = [&[0x47, 0x1f, 0xff, 0x10][..], &[0xff; 184], &[0x47]].concat();
/// demuxer.push(&bytes, &mut |event| panic!("{event:?}"));
/// // The one byte waits for the rest of its packet, which does not come.
/// assert!(demuxer.held_bytes() > 0);
/// demuxer.finish(&mut |event| panic!("{event:?}"));
/// let Counters { packets, skipped_bytes, gaps, .. } = demuxer.counters();
/// assert_eq!((packets, skipped_bytes, gaps), (1, 1, 0));
/// ```
#[derive(Debug, Default)]
pub struct Demuxer {
    sync: Sync,
    transport: Transport,
}

/// What was left out, and why. All counts go from the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that were found.
    pub packets: u64,
    /// Times that no packet began where one should.
    pub lost_syncs: u64,
    /// Bytes left out while the next packet was looked for.
    pub skipped_bytes: u64,
    /// Packets whose head breaks a rule. Left out.
    pub malformed_packets: u64,
    /// Packets that somebody before us marked as damaged (`transport_error_indicator`). Left out.
    pub damaged_packets: u64,
    /// Packets and PES packets that are scrambled. Left out.
    pub scrambled: u64,
    /// Packets that came twice, as they may. Taken once.
    pub repeated_packets: u64,
    /// Times that packets of a stream were missing, as far as their counters tell.
    pub gaps: u64,
    /// Sections of tables that are not whole, or whose CRC is wrong. Left out.
    pub broken_sections: u64,
    /// PES packets of which a part is missing, or whose head breaks a rule. Left out.
    pub broken_units: u64,
    /// PES packets that are longer than their bound. Left out.
    pub oversized_units: u64,
    /// Frames that are cut off, that have no time, or that begin in another way than frames of their codec do. Left out.
    pub broken_frames: u64,
    /// Frames that came before the parameters of their track. Left out.
    pub early_frames: u64,
}

impl Demuxer {
    /// For the program of this number (`program_number`), or the first that is listed.
    ///
    /// ```
    /// use shardcast_engine::mpegts::Demuxer;
    ///
    /// let demuxer = Demuxer::of_program(Some(2));
    /// assert_eq!(demuxer.held_bytes(), 0);
    /// ```
    pub fn of_program(number: Option<u16>) -> Self {
        let mut demuxer = Demuxer::default();
        demuxer.transport.wanted = number;
        demuxer
    }

    /// Takes bytes, cut anywhere, and emits what is in them as [`Event::Frame`] or [`Event::Remark`].
    pub fn push(&mut self, bytes: &[u8], emit: &mut dyn FnMut(Event)) {
        let Demuxer { sync, transport } = self;
        sync.push(bytes, &mut |packet| transport.packet(packet, emit));
    }

    /// Whoever carries the bytes knows that some are missing before the next: what has begun is not whole. Counters of packets say
    /// so, too, but of sixteen that are missing they say nothing.
    ///
    /// ```
    /// use shardcast_engine::mpegts::Demuxer;
    ///
    /// let mut demuxer = Demuxer::default();
    /// demuxer.push(&[0x47, 0x01], &mut |event| panic!("{event:?}"));
    /// demuxer.lose();
    /// // What comes next begins with a packet.
    /// assert_eq!(demuxer.counters().skipped_bytes, 2);
    /// ```
    pub fn lose(&mut self) {
        self.sync.finish();
        self.transport.lose();
    }

    /// Nothing more comes: emits what ends only where something else begins, the last picture.
    pub fn finish(&mut self, emit: &mut dyn FnMut(Event)) {
        self.sync.finish();
        self.transport.finish(emit);
    }

    /// What was left out so far.
    pub fn counters(&self) -> Counters {
        Counters {
            lost_syncs: self.sync.lost,
            skipped_bytes: self.sync.skipped_bytes,
            ..self.transport.counters
        }
    }

    /// Bytes of memory that wait for what belongs to them. Bounded, whatever comes.
    pub fn held_bytes(&self) -> usize {
        self.sync.held_bytes() + self.transport.held_bytes()
    }
}

/// What comes behind the search for packets.
#[derive(Debug)]
struct Transport {
    associations: Table,
    /// The number of the program that is carried; the first is where there is none.
    wanted: Option<u16>,
    program: Option<Program>,
    tracks: Vec<Track>,
    /// One for all streams of the program, so that all pass the wrap alike.
    clock: Unwrapper,
    /// Where frames are put. What is left of it takes the next.
    memory: BytesMut,
    counters: Counters,
    remarked: Remarked,
}

impl Default for Transport {
    fn default() -> Self {
        Transport {
            associations: Table::default(),
            wanted: None,
            program: None,
            tracks: Vec::new(),
            clock: Unwrapper::new(TIME_BITS),
            memory: BytesMut::new(),
            counters: Counters::default(),
            remarked: Remarked::default(),
        }
    }
}

/// Packets that carry one kind of table.
#[derive(Debug, Default)]
struct Table {
    continuity: Continuity,
    sections: Sections,
}

/// The program that is carried.
#[derive(Debug)]
struct Program {
    number: u16,
    map_pid: u16,
    map: Table,
    /// The section that holds.
    section: Vec<u8>,
}

/// A stream that is carried.
#[derive(Debug)]
struct Track {
    pid: u16,
    kind: Kind,
    continuity: Continuity,
    pes: Pes,
    media: Media,
}

#[derive(Debug)]
enum Media {
    Pictures(Box<Pictures>),
    Sound(Sound),
}

/// What was said once.
#[derive(Debug, Default)]
struct Remarked {
    kind: bool,
    number: bool,
}

/// What the reading of a stream needs of the whole.
struct Context<'a> {
    clock: &'a mut Unwrapper,
    memory: &'a mut BytesMut,
    counters: &'a mut Counters,
    emit: &'a mut dyn FnMut(Event),
}

impl Transport {
    fn packet(&mut self, packet: &[u8; PACKET_BYTES], emit: &mut dyn FnMut(Event)) {
        self.counters.packets += 1;
        let Some(packet) = Packet::parse(packet) else {
            self.counters.malformed_packets += 1;
            return;
        };
        // Not even its PID can be believed.
        if packet.damaged {
            self.counters.damaged_packets += 1;
            return;
        }
        if packet.pid == PAT_PID {
            for section in self.associations.take(&packet, &mut self.counters) {
                self.associate(&section);
            }
        } else if let Some(program) = self.program.as_mut().filter(|program| program.map_pid == packet.pid) {
            let number = program.number;
            for section in program.map.take(&packet, &mut self.counters) {
                self.map(number, section, emit);
            }
        } else if let Some(track) = self.tracks.iter_mut().find(|track| track.pid == packet.pid) {
            let (clock, memory) = (&mut self.clock, &mut self.memory);
            track.packet(&packet, &mut Context { clock, memory, counters: &mut self.counters, emit });
        }
    }

    fn finish(&mut self, emit: &mut dyn FnMut(Event)) {
        for track in &mut self.tracks {
            let (clock, memory) = (&mut self.clock, &mut self.memory);
            let counters = &mut self.counters;
            track.end_unit(&mut Context { clock, memory, counters, emit: &mut *emit });
        }
    }

    fn lose(&mut self) {
        self.associations.sections.lose();
        if let Some(program) = &mut self.program {
            program.map.sections.lose();
        }
        for track in &mut self.tracks {
            track.lose(&mut self.counters);
        }
    }

    fn held_bytes(&self) -> usize {
        let map = self
            .program
            .as_ref()
            .map_or(0, |program| program.map.sections.held_bytes() + program.section.capacity());
        let tracks = self.tracks.iter().map(Track::held_bytes).sum::<usize>();
        self.associations.sections.held_bytes() + map + tracks
    }

    /// Takes a section of the program association table: the program that is carried stays the same as long as it is listed.
    /// (2.4.4.3)
    fn associate(&mut self, section: &[u8]) {
        let Some(section) = Section::parse(section).filter(|section| section.table_id == PAT_TABLE_ID) else {
            self.counters.broken_sections += 1;
            return;
        };
        let current = self.wanted.or(self.program.as_ref().map(|program| program.number));
        let mut listed = section.programs();
        let chosen = match current {
            Some(number) => {
                let same = section.programs().find(|(listed, _)| *listed == number);
                // A table may have several sections, of which another lists it.
                if same.is_none() && section.last_number > 0 {
                    return;
                }
                same.or_else(|| listed.next().filter(|_| self.wanted.is_none()))
            }
            None => listed.next(),
        };
        match (chosen, &mut self.program) {
            (Some((number, map_pid)), Some(program)) if program.number == number => {
                if program.map_pid != map_pid {
                    (program.map_pid, program.map) = (map_pid, Table::default());
                }
            }
            (Some((number, map_pid)), program) => {
                self.tracks.clear();
                *program = Some(Program { number, map_pid, map: Table::default(), section: Vec::new() });
            }
            (None, program) => {
                self.tracks.clear();
                *program = None;
            }
        }
    }

    /// Takes a section of the map of program `number`: streams that are in it as before go on. (2.4.4.8)
    fn map(&mut self, number: u16, bytes: Vec<u8>, emit: &mut dyn FnMut(Event)) {
        let Some(section) = Section::parse(&bytes).filter(|section| section.table_id == PMT_TABLE_ID) else {
            self.counters.broken_sections += 1;
            return;
        };
        let Some(program) = self.program.as_mut() else { return };
        // A PID may carry the maps of several programs.
        if section.id != number || program.section == bytes {
            return;
        }
        let Some(streams) = section.streams() else {
            self.counters.broken_sections += 1;
            return;
        };
        let mut before = std::mem::take(&mut self.tracks);
        for (pid, kind) in streams {
            let Some(kind) = kind else {
                self.remarked.kind(emit);
                continue;
            };
            if self.tracks.iter().any(|track| track.kind.is_pictures() == kind.is_pictures()) {
                self.remarked.number(emit);
                continue;
            }
            let same = before.iter().position(|track| (track.pid, track.kind) == (pid, kind));
            self.tracks.push(same.map_or_else(|| Track::new(pid, kind), |place| before.swap_remove(place)));
        }
        // What has come of a stream that is no more is not whole, or would have been emitted.
        self.counters.broken_units += before.iter().filter(|track| track.pes.is_open()).count() as u64;
        program.section = bytes;
    }
}

impl Remarked {
    fn kind(&mut self, emit: &mut dyn FnMut(Event)) {
        if !std::mem::replace(&mut self.kind, true) {
            emit(Event::Remark("a stream of a type that is not carried; left out"));
        }
    }

    fn number(&mut self, emit: &mut dyn FnMut(Event)) {
        if !std::mem::replace(&mut self.number, true) {
            emit(Event::Remark("more than one stream of pictures or of sound; the first is carried"));
        }
    }
}

impl Table {
    /// Takes a packet of the table's PID, and gives the sections that are whole with it and hold now.
    fn take(&mut self, packet: &Packet<'_>, counters: &mut Counters) -> Vec<Vec<u8>> {
        match self.continuity.step(packet) {
            Step::Next | Step::Marked => {}
            // A table that comes again says nothing new.
            Step::Repeated => {
                counters.repeated_packets += 1;
                return Vec::new();
            }
            Step::Gap => {
                counters.gaps += 1;
                self.sections.lose();
            }
        }
        let Some(payload) = packet.payload else { return Vec::new() };
        if packet.scrambled {
            counters.scrambled += 1;
            return Vec::new();
        }
        let mut whole = Vec::new();
        let broken = self.sections.push(packet.start, payload, &mut |section| {
            if super::crc::crc(section) != 0 {
                counters.broken_sections += 1;
            } else if section::holds_now(section) {
                whole.push(section.to_vec());
            }
        });
        counters.broken_sections += u64::from(broken);
        whole
    }
}

impl Track {
    fn new(pid: u16, kind: Kind) -> Self {
        let media = match kind {
            Kind::Pictures(syntax) => Media::Pictures(Box::new(Pictures::new(syntax))),
            Kind::Sound(coding) => Media::Sound(Sound::new(coding)),
        };
        Track { pid, kind, continuity: Continuity::default(), pes: Pes::new(kind.is_pictures()), media }
    }

    fn packet(&mut self, packet: &Packet<'_>, context: &mut Context<'_>) {
        match self.continuity.step(packet) {
            Step::Next => {}
            // After so many lost packets the counter is the same, too.
            Step::Repeated if self.pes.may_repeat(packet) => {
                context.counters.repeated_packets += 1;
                return;
            }
            Step::Repeated | Step::Gap => {
                context.counters.gaps += 1;
                self.lose(context.counters);
            }
            // Somebody left out packets on purpose. What stands before them ends there, as far as it may.
            Step::Marked => {
                self.end_unit(context);
                self.lose(context.counters);
            }
        }
        let Some(payload) = packet.payload else { return };
        if packet.scrambled {
            context.counters.scrambled += 1;
            return self.lose(context.counters);
        }
        if packet.start {
            self.end_unit(context);
        }
        match self.pes.push(packet.start, payload) {
            Gathered::Part => {}
            Gathered::Whole => self.unit(context),
            Gathered::Broken => context.counters.broken_units += 1,
            Gathered::Oversized => context.counters.oversized_units += 1,
        }
    }

    /// Ends the PES packet that has come so far: it is whole if its length was left open.
    fn end_unit(&mut self, context: &mut Context<'_>) {
        match self.pes.end() {
            Gathered::Whole => self.unit(context),
            Gathered::Part => {}
            Gathered::Broken | Gathered::Oversized => context.counters.broken_units += 1,
        }
    }

    /// Reads a whole PES packet.
    fn unit(&mut self, context: &mut Context<'_>) {
        let Track { pes, media, .. } = self;
        match pes.read() {
            Some(unit) if unit.scrambled => context.counters.scrambled += 1,
            Some(unit) => {
                let times = unit.times.map(|raw| Times::unwrap(raw, context.clock));
                match media {
                    Media::Pictures(pictures) => pictures.unit(unit.payload, times, context),
                    Media::Sound(sound) => sound.unit(unit.payload, times, context),
                }
            }
            None => context.counters.broken_units += 1,
        }
        pes.clear();
    }

    /// Forgets what has begun: part of it is missing.
    fn lose(&mut self, counters: &mut Counters) {
        counters.broken_units += u64::from(self.pes.is_open());
        self.pes.clear();
        if let Media::Sound(sound) = &mut self.media {
            counters.broken_frames += u64::from(sound.lose());
        }
    }

    fn held_bytes(&self) -> usize {
        let media = match &self.media {
            Media::Pictures(pictures) => pictures.held_bytes(),
            Media::Sound(sound) => sound.held_bytes(),
        };
        self.pes.held_bytes() + media
    }
}

impl Context<'_> {
    fn frame(&mut self, track: TrackId, times: Times, payload: Payload) {
        let time = |ticks| MediaTime { ticks, rate: RATE };
        (self.emit)(Event::Frame(Frame { track, dts: time(times.dts), pts: time(times.pts), payload }));
    }

    /// New parameters of a track, as of a frame's decoding.
    fn parameters(&mut self, track: TrackId, dts: i64, parameters: Arc<Parameters>) {
        self.frame(track, Times { pts: dts, dts }, Payload::Parameters(parameters));
    }

    /// `bytes` in memory of their own, which is shared with the frames around them.
    fn keep(&mut self, bytes: &[u8]) -> Bytes {
        slab::grow(self.memory, bytes.len());
        self.memory.put_slice(bytes);
        self.memory.split().freeze()
    }
}
