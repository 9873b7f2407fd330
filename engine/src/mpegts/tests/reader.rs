//! A reader of transport streams that shares no code with the writer: it holds what ISO/IEC 13818-1 demands of every packet,
//! and gives back what the file carries.

use std::collections::BTreeMap;

/// What a file holds.
#[derive(Debug, Default)]
pub struct File {
    /// Of the map, in its order.
    pub streams: Vec<Stream>,
    /// Which of them carries the clock.
    pub clock_pid: u16,
    /// How often the tables stood.
    pub tables: usize,
    /// In the order in which they begin.
    pub units: Vec<Unit>,
    /// What the clock read, unwrapped, and before which unit.
    pub readings: Vec<(usize, i64)>,
    /// Which of the readings do not continue those before them.
    pub leaps: Vec<usize>,
    /// Versions of the map, each once.
    pub versions: Vec<u8>,
}

/// A stream in the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    pub kind: u8,
    pub pid: u16,
    pub descriptors: Vec<u8>,
}

/// A PES packet.
#[derive(Debug, PartialEq, Eq)]
pub struct Unit {
    pub pid: u16,
    pub stream_id: u8,
    /// As they stand there: modulo 2^33.
    pub pts: i64,
    pub dts: i64,
    pub random_access: bool,
    /// `PES_packet_length` was left open.
    pub open_end: bool,
    pub payload: Vec<u8>,
}

pub const CLOCK_RANGE: i64 = 1 << 33;
/// 40 ms, the longest step from one reading to the next.
const READING_STEP_MAX: i64 = 3_600;

#[derive(Default)]
struct Reading {
    file: File,
    pat: Vec<u8>,
    pmt: Vec<u8>,
    /// The last counter of each PID.
    counters: BTreeMap<u16, u8>,
    /// Bytes of the PES packet that is not complete, by PID, and which unit it is.
    open: BTreeMap<u16, (usize, Vec<u8>)>,
}

/// Reads a whole file.
pub fn read(file: &[u8]) -> File {
    let mut reading = Reading::default();
    assert_eq!(file.len() % 188, 0, "a file is whole packets");
    for (number, packet) in file.chunks(188).enumerate() {
        reading.packet(number, packet);
    }
    for pid in reading.open.keys().copied().collect::<Vec<_>>() {
        reading.close(pid);
    }
    reading.file.check_clock();
    reading.file
}

impl Reading {
    fn packet(&mut self, number: usize, packet: &[u8]) {
        assert_eq!(packet[0], 0x47, "packet {number}: sync byte");
        assert_eq!(packet[1] & 0xa0, 0, "packet {number}: neither an error nor a priority");
        let start = packet[1] & 0x40 != 0;
        let pid = u16::from(packet[1] & 0x1f) << 8 | u16::from(packet[2]);
        assert_eq!(packet[3] & 0xc0, 0, "packet {number}: not scrambled");
        let (has_field, has_payload) = (packet[3] & 0x20 != 0, packet[3] & 0x10 != 0);
        assert!(has_field || has_payload, "packet {number}: one of both");
        let counter = packet[3] & 15;
        let mut payload = &packet[4..];
        let (mut random_access, mut discontinuity) = (false, false);
        if has_field {
            let len = usize::from(payload[0]);
            let bound = if has_payload { 0..=182 } else { 183..=183 };
            assert!(bound.contains(&len), "packet {number}: an adaptation field of {len}");
            (random_access, discontinuity) = self.field(number, pid, &payload[1..=len]);
            payload = &payload[1 + len..];
        }
        if let Some(&last) = self.counters.get(&pid).filter(|_| !discontinuity) {
            let expected = if has_payload { (last + 1) % 16 } else { last };
            assert_eq!(counter, expected, "packet {number}: continuity of {pid:#x}");
        }
        self.counters.insert(pid, counter);
        if !has_payload {
            assert!(payload.is_empty() && !start);
            return;
        }
        assert!(!payload.is_empty());
        match pid {
            0 => self.table(start, payload, true),
            0x1000 => self.table(start, payload, false),
            _ => {
                let known = self.file.streams.iter().any(|stream| stream.pid == pid);
                assert!(known, "packet {number}: {pid:#x} stands in no map");
                self.payload(number, pid, start, random_access, payload);
            }
        }
    }

    /// Reads an adaptation field after its length; whether it says an entrance and a discontinuity.
    fn field(&mut self, number: usize, pid: u16, field: &[u8]) -> (bool, bool) {
        let Some((&flags, mut rest)) = field.split_first() else { return (false, false) };
        assert_eq!(flags & !0xd0, 0, "packet {number}: only entrances, leaps and readings are said");
        let discontinuity = flags & 0x80 != 0;
        if flags & 0x10 != 0 {
            assert_eq!(
                pid, self.file.clock_pid,
                "packet {number}: a reading on another PID than the map says"
            );
            let bits = rest[..6].iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
            assert_eq!(bits >> 9 & 0x3f, 0x3f, "packet {number}: reserved bits");
            assert_eq!(bits & 0x1ff, 0, "packet {number}: extension");
            let raw = (bits >> 15) as i64;
            let last = self.file.readings.last().map_or(raw, |&(_, last)| last);
            if discontinuity {
                self.file.leaps.push(self.file.readings.len());
            }
            self.file.readings.push((self.file.units.len(), unwrap(raw, last)));
            rest = &rest[6..];
        }
        assert!(rest.iter().all(|byte| *byte == 0xff), "packet {number}: stuffing");
        (flags & 0x40 != 0, discontinuity)
    }

    fn table(&mut self, start: bool, payload: &[u8], is_pat: bool) {
        assert!(start && payload[0] == 0, "a table begins in its packet");
        let section = &payload[1..];
        assert_eq!(section[0], if is_pat { 0 } else { 2 });
        assert_eq!(section[1] & 0xf0, 0xb0);
        let len = 3 + (usize::from(section[1] & 15) << 8 | usize::from(section[2]));
        let (section, stuffing) = section.split_at(len);
        assert!(stuffing.iter().all(|byte| *byte == 0xff));
        assert_eq!(remainder(section), 0, "CRC of a table");
        let known = if is_pat { &mut self.pat } else { &mut self.pmt };
        let version = section[5] >> 1 & 31;
        if !known.is_empty() && known != section {
            // Five bits: it wraps. (ISO/IEC 13818-1, 2.4.4.5)
            let next = ((known[5] >> 1 & 31) + 1) % 32;
            assert_eq!(version, next, "a table that changes has the next version");
        }
        *known = section.to_vec();
        assert_eq!(section[3..8], [0, 1, 0xc1 | version << 1, 0, 0]);
        if !is_pat && self.file.versions.last() != Some(&version) {
            self.file.versions.push(version);
        }
        let content = &section[8..len - 4];
        if is_pat {
            assert_eq!(content, [0, 1, 0xf0, 0]);
            self.file.tables += 1;
            return;
        }
        let number = |bytes: &[u8]| u16::from(bytes[0]) << 8 | u16::from(bytes[1]);
        self.file.clock_pid = number(content) & 0x1fff;
        assert_eq!(number(&content[2..]), 0xf000);
        self.file.streams.clear();
        let mut rest = &content[4..];
        while let [kind, entry @ ..] = rest {
            let len = usize::from(number(&entry[2..]) & 0xfff);
            let (descriptors, after) = entry[4..].split_at(len);
            let pid = number(entry) & 0x1fff;
            assert!((0x10..0x1fff).contains(&pid) && pid != 0x1000);
            self.file.streams.push(Stream { kind: *kind, pid, descriptors: descriptors.to_vec() });
            rest = after;
        }
    }

    fn payload(&mut self, number: usize, pid: u16, start: bool, random_access: bool, payload: &[u8]) {
        if start {
            self.close(pid);
            let unit = Unit {
                pid,
                stream_id: 0,
                pts: 0,
                dts: 0,
                random_access,
                open_end: false,
                payload: Vec::new(),
            };
            self.open.insert(pid, (self.file.units.len(), payload.to_vec()));
            self.file.units.push(unit);
        } else {
            assert!(!random_access, "packet {number}: an entrance in mid-unit");
            let (_, bytes) = self.open.get_mut(&pid).expect("a unit begins before it goes on");
            bytes.extend(payload);
        }
    }

    /// Reads a PES packet that is complete.
    fn close(&mut self, pid: u16) {
        let Some((place, bytes)) = self.open.remove(&pid) else { return };
        let unit = &mut self.file.units[place];
        assert_eq!(bytes[..3], [0, 0, 1]);
        unit.stream_id = bytes[3];
        let length = usize::from(bytes[4]) << 8 | usize::from(bytes[5]);
        unit.open_end = length == 0;
        if unit.open_end {
            assert_eq!(unit.stream_id, 0xe0, "only pictures may be as long as they like");
            assert!(bytes.len() - 6 > 0xffff, "a length that could be said is said");
        } else {
            assert_eq!(bytes.len() - 6, length);
        }
        assert_eq!(bytes[6], 0x84);
        let end = 9 + usize::from(bytes[8]);
        match bytes[7] {
            0x80 => {
                assert_eq!(bytes[8], 5);
                unit.pts = time(2, &bytes[9..14]);
                unit.dts = unit.pts;
            }
            0xc0 => {
                assert_eq!(bytes[8], 10);
                unit.pts = time(3, &bytes[9..14]);
                unit.dts = time(1, &bytes[14..19]);
                assert_ne!(unit.pts, unit.dts);
            }
            flags => panic!("flags {flags:#x} of a PES packet"),
        }
        unit.payload = bytes[end..].to_vec();
        assert!(!unit.payload.is_empty());
    }
}

impl File {
    /// The units of one stream.
    pub fn of(&self, pid: u16) -> Vec<&Unit> {
        self.units.iter().filter(|unit| unit.pid == pid).collect()
    }

    /// Holds that readings rise in small steps and that all that follows one is decoded after it, and that times of a stream
    /// do not fall.
    fn check_clock(&self) {
        for (place, pair) in (1..).zip(self.readings.windows(2)) {
            let step = pair[1].1 - pair[0].1;
            let leaps = self.leaps.contains(&place);
            assert!(leaps || (0..=READING_STEP_MAX).contains(&step), "{step} ticks between two readings");
        }
        let mut readings = self.readings.iter().peekable();
        let mut now = None;
        let mut last = BTreeMap::new();
        for (place, unit) in self.units.iter().enumerate() {
            while let Some((_, reading)) = readings.next_if(|(before, _)| *before <= place) {
                now = Some(*reading);
            }
            let now = now.expect("the clock is read before the first unit");
            let dts = unwrap(unit.dts, now);
            assert!(dts >= now, "unit {place} is decoded at {dts}, but it is {now} when it comes");
            assert!(unwrap(unit.pts, dts) >= dts, "unit {place} is shown before it is decoded");
            let before = last.insert(unit.pid, dts).unwrap_or(dts);
            assert!(dts >= before, "unit {place}: times of {:#x} fall from {before} to {dts}", unit.pid);
        }
    }
}

/// The value near `near` that is `raw` modulo 2^33.
pub fn unwrap(raw: i64, near: i64) -> i64 {
    let step = (raw - near).rem_euclid(CLOCK_RANGE);
    near + if step >= CLOCK_RANGE / 2 { step - CLOCK_RANGE } else { step }
}

fn time(which: u8, bytes: &[u8]) -> i64 {
    assert_eq!((bytes[0] >> 4, bytes[0] & 1, bytes[2] & 1, bytes[4] & 1), (which, 1, 1, 1));
    let bits = [bytes[0] >> 1 & 7, bytes[1], bytes[2] >> 1, bytes[3], bytes[4] >> 1].map(i64::from);
    bits[0] << 30 | bits[1] << 22 | bits[2] << 15 | bits[3] << 7 | bits[4]
}

/// What is left when a section is divided by the polynomial of annex A, bit by bit, with 32 ones before it: nothing, if its
/// last four bytes are its CRC.
pub fn remainder(section: &[u8]) -> u32 {
    let bits = section.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1));
    let mut register = u32::MAX;
    for bit in bits {
        let out = register >> 31 == 1;
        register <<= 1;
        if out != bit {
            register ^= 1 << 26 | 1 << 23 | 1 << 22 | 1 << 16 | 1 << 12 | 1 << 11 | 1 << 10 | 0b1_1011_0111;
        }
    }
    register
}
