//! The rules that receivers are measured by: ISO/IEC 13818-1, and the first and second priority of ETSI TR 101 290. A judge
//! of its own, which shares no code with what it judges, and finds each fault that is made on purpose.
//!
//! There is no clock on the wall here: a packet is there when the program's clock reads what it was read last.

use std::collections::BTreeMap;

use super::*;
use scenes::{Live, Scene, WRITERS};

/// A rule. [`RULES`] has the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    Sync,
    Associations,
    Continuity,
    Map,
    Pid,
    Damage,
    Crc,
    ReadingRepetition,
    ReadingDiscontinuity,
    ReadingAccuracy,
    TimeRepetition,
    TimeOrder,
    Marks,
}

/// Each rule, where it stands, and what it asks.
pub static RULES: [(Rule, &str, &str); 13] = [
    (Rule::Sync, "TR 101 290, 1.1 and 1.2; 13818-1, 2.4.3.3", "packets of 188 bytes, each begins with 0x47"),
    (
        Rule::Associations,
        "TR 101 290, 1.3; 13818-1, 2.4.4.3",
        "PID 0 has the PAT and nothing else, each 0.5 s",
    ),
    (Rule::Continuity, "TR 101 290, 1.4; 13818-1, 2.4.3.3", "counters count packets with payload"),
    (Rule::Map, "TR 101 290, 1.5; 13818-1, 2.4.4.8", "the PMT that the PAT names is there each 0.5 s"),
    (
        Rule::Pid,
        "TR 101 290, 1.6; 13818-1, 2.4.4.9",
        "PIDs that are there stand in the PMT, and the other way round",
    ),
    (Rule::Damage, "TR 101 290, 2.1; 13818-1, 2.4.3.3", "no transport_error_indicator, nothing scrambled"),
    (Rule::Crc, "TR 101 290, 2.2; 13818-1, annex A", "the CRC of each section is right"),
    (Rule::ReadingRepetition, "TR 101 290, 2.3a; 13818-1, 2.7.2", "a PCR at least each 40 ms"),
    (Rule::ReadingDiscontinuity, "TR 101 290, 2.3b; 13818-1, 2.4.3.5", "steps of 0 to 100 ms, or it says so"),
    (
        Rule::ReadingAccuracy,
        "TR 101 290, 2.4; 13818-1, 2.4.2.2 and 2.14.3.1",
        "what comes is decoded within ten seconds",
    ),
    (Rule::TimeRepetition, "TR 101 290, 2.5; 13818-1, 2.7.4", "a PTS at least each 700 ms"),
    (
        Rule::TimeOrder,
        "13818-1, 2.4.3.7",
        "times of decoding rise, and nothing is shown before it is decoded",
    ),
    (
        Rule::Marks,
        "13818-1, 2.4.3.5",
        "discontinuity_indicator: not three in a row, two PCRs from one to the next",
    ),
];

/// Where a rule is broken.
#[derive(Debug)]
pub struct Fault {
    pub rule: Rule,
    /// Its number.
    pub packet: usize,
    pub what: String,
}

const MILLISECOND: i64 = 90;

/// What is known of a PID.
#[derive(Default)]
struct Pid {
    counter: Option<u8>,
    /// Packets in a row that are marked.
    marked: u32,
    /// When its last PTS came, and when its last frame is decoded.
    pts_at: Option<i64>,
    dts: Option<i64>,
}

#[derive(Default)]
struct Judge {
    faults: Vec<Fault>,
    number: usize,
    pids: BTreeMap<u16, Pid>,
    map_pid: Option<u16>,
    clock_pid: Option<u16>,
    listed: Vec<u16>,
    /// What the clock reads, unwrapped, and how often it was read since it began anew.
    now: Option<i64>,
    readings: u32,
    associations_at: Option<i64>,
    map_at: Option<i64>,
}

/// Judges a stream. Whether each PID of the map is there at all is asked by `complete`.
pub fn judge(bytes: &[u8], complete: bool) -> Vec<Fault> {
    let mut judge = Judge::default();
    if !bytes.len().is_multiple_of(188) {
        judge.fault(Rule::Sync, "the last packet is not whole".into());
    }
    for (number, packet) in bytes.chunks_exact(188).enumerate() {
        judge.number = number;
        judge.packet(packet);
    }
    judge.interval(Rule::Associations, judge.associations_at, 500);
    judge.interval(Rule::Map, judge.map_at, 500);
    for pid in judge.listed.clone() {
        if complete && judge.pids.get(&pid).is_none_or(|pid| pid.dts.is_none()) {
            judge.fault(Rule::Pid, format!("{pid:#x} stands in the map and never comes"));
        }
    }
    judge.faults
}

impl Judge {
    fn fault(&mut self, rule: Rule, what: String) {
        self.faults.push(Fault { rule, packet: self.number, what });
    }

    fn interval(&mut self, rule: Rule, last: Option<i64>, millis: i64) {
        if let (Some(last), Some(now)) = (last, self.now)
            && now - last > millis * MILLISECOND
        {
            self.fault(rule, format!("{} ms", (now - last) / MILLISECOND));
        }
    }

    fn packet(&mut self, packet: &[u8]) {
        if packet[0] != 0x47 {
            return self.fault(Rule::Sync, format!("{:#x}", packet[0]));
        }
        let pid = u16::from(packet[1] & 0x1f) << 8 | u16::from(packet[2]);
        if packet[1] & 0x80 != 0 || packet[3] & 0xc0 != 0 {
            return self.fault(Rule::Damage, format!("{pid:#x}"));
        }
        let (has_field, has_payload) = (packet[3] & 0x20 != 0, packet[3] & 0x10 != 0);
        let field = if has_field { &packet[5..5 + usize::from(packet[4])] } else { &[] };
        let flags = field.first().copied().unwrap_or(0);
        let (marked, has_reading) = (flags & 0x80 != 0, flags & 0x10 != 0);

        self.continuity(pid, packet[3] & 15, has_payload, marked, has_reading);
        if has_reading {
            self.reading(pid, &field[1..7], marked);
        }
        if !has_payload {
            return;
        }
        let payload = &packet[if has_field { 5 + field.len() } else { 4 }..];
        let start = packet[1] & 0x40 != 0;
        if pid == 0 || Some(pid) == self.map_pid {
            self.section(pid, start, payload);
        } else if !self.listed.contains(&pid) {
            self.fault(Rule::Pid, format!("{pid:#x} stands in no map"));
        } else if start {
            self.times(pid, payload);
        }
    }

    fn continuity(&mut self, pid: u16, counter: u8, has_payload: bool, marked: bool, has_reading: bool) {
        let carries_clock = self.clock_pid == Some(pid);
        let known = self.pids.entry(pid).or_default();
        let last = known.counter.replace(counter);
        known.marked = if marked { known.marked + 1 } else { 0 };
        let in_a_row = known.marked;
        let expected = last.map(|last| if has_payload { (last + 1) % 16 } else { last });
        let excused = marked && (!carries_clock || has_reading);
        if expected.is_some_and(|expected| expected != counter) && !excused {
            self.fault(Rule::Continuity, format!("{pid:#x}: {counter} follows {last:?}"));
        }
        if in_a_row > 2 && !carries_clock {
            self.fault(Rule::Marks, format!("{pid:#x}: {in_a_row} in a row"));
        }
    }

    fn reading(&mut self, pid: u16, bytes: &[u8], marked: bool) {
        if self.clock_pid.is_some_and(|clock| clock != pid) {
            return self.fault(Rule::ReadingAccuracy, format!("a PCR on {pid:#x}"));
        }
        let bits = bytes.iter().fold(0i64, |bits, byte| bits << 8 | i64::from(*byte));
        if bits & 0x1ff >= 300 {
            self.fault(Rule::ReadingAccuracy, format!("an extension of {}", bits & 0x1ff));
        }
        let raw = bits >> 15;
        let Some(last) = self.now else {
            (self.now, self.readings) = (Some(raw), 1);
            // Tables that stand before the first reading are there with it.
            self.associations_at = self.map_pid.and(self.now);
            self.map_at = self.clock_pid.and(self.now);
            return;
        };
        let now = reader::unwrap(raw, last);
        let step = now - last;
        if marked {
            // What was before is no measure for what comes.
            if self.readings < 2 {
                self.fault(Rule::Marks, "the clock begins anew too soon".into());
            }
            self.readings = 0;
            self.pids.values_mut().for_each(|pid| (pid.pts_at, pid.dts) = (None, None));
            (self.associations_at, self.map_at) =
                (self.associations_at.and(Some(now)), self.map_at.and(Some(now)));
        } else if !(0..=100 * MILLISECOND).contains(&step) {
            self.fault(Rule::ReadingDiscontinuity, format!("a step of {} ms", step / MILLISECOND));
        } else if step > 40 * MILLISECOND {
            self.fault(Rule::ReadingRepetition, format!("{step} ticks"));
        }
        self.readings += 1;
        self.now = Some(now);
        self.interval(Rule::Associations, self.associations_at, 500);
        self.interval(Rule::Map, self.map_at, 500);
        let late: Vec<(u16, i64)> =
            self.pids.iter().filter_map(|(pid, known)| Some((*pid, now - known.pts_at?))).collect();
        for (pid, since) in late {
            if since > 700 * MILLISECOND {
                self.fault(Rule::TimeRepetition, format!("{pid:#x}: {} ms", since / MILLISECOND));
            }
        }
    }

    fn section(&mut self, pid: u16, start: bool, payload: &[u8]) {
        let rule = if pid == 0 { Rule::Associations } else { Rule::Map };
        let wanted = if pid == 0 { 0 } else { 2 };
        if !start || payload[0] != 0 || payload[1] != wanted {
            return self.fault(rule, "another section".into());
        }
        let len = 3 + (usize::from(payload[2] & 15) << 8 | usize::from(payload[3]));
        let section = &payload[1..1 + len];
        if reader::remainder(section) != 0 {
            return self.fault(Rule::Crc, format!("{pid:#x}"));
        }
        let number = |bytes: &[u8]| u16::from(bytes[0] & 0x1f) << 8 | u16::from(bytes[1]);
        let content = &section[8..len - 4];
        if pid == 0 {
            self.interval(rule, self.associations_at, 500);
            self.associations_at = self.now;
            self.map_pid = Some(number(&content[2..]));
            return;
        }
        self.interval(rule, self.map_at, 500);
        self.map_at = self.now;
        self.clock_pid = Some(number(content));
        self.listed.clear();
        let mut rest = &content[4..];
        while let [_, high, low, len_high, len_low, after @ ..] = rest {
            self.listed.push(number(&[*high, *low]));
            rest = &after[usize::from(*len_high & 15) << 8 | usize::from(*len_low)..];
        }
    }

    fn times(&mut self, pid: u16, pes: &[u8]) {
        let Some(now) = self.now else {
            return self.fault(Rule::ReadingAccuracy, "nobody has read the clock yet".into());
        };
        let time = |bytes: &[u8]| {
            let bits = [bytes[0] >> 1 & 7, bytes[1], bytes[2] >> 1, bytes[3], bytes[4] >> 1].map(i64::from);
            reader::unwrap(bits[0] << 30 | bits[1] << 22 | bits[2] << 15 | bits[3] << 7 | bits[4], now)
        };
        if pes[7] & 0x80 == 0 {
            return;
        }
        let pts = time(&pes[9..14]);
        let dts = if pes[7] & 0x40 != 0 { time(&pes[14..19]) } else { pts };
        if !(now..=now + 10_000 * MILLISECOND).contains(&dts) {
            let late = (dts - now) / MILLISECOND;
            self.fault(Rule::ReadingAccuracy, format!("{pid:#x} is decoded {late} ms later"));
        }
        let known = self.pids.entry(pid).or_default();
        known.pts_at = Some(now);
        let before = known.dts.replace(dts);
        if before.is_some_and(|before| before > dts) || pts < dts {
            self.fault(Rule::TimeOrder, format!("{pid:#x}: {dts} after {before:?}, shown at {pts}"));
        }
    }
}

#[track_caller]
pub fn assert_lawful(bytes: &[u8], complete: bool, what: &str) {
    assert!(bytes.len() > 50 * 188, "{what}: nothing was judged");
    let faults = judge(bytes, complete);
    let words =
        |rule| RULES.iter().find(|(listed, ..)| *listed == rule).map(|(_, place, text)| (place, text));
    if let Some(first) = faults.first() {
        let words = words(first.rule);
        panic!(
            "{what}: {} faults, the first in packet {}: {} {words:?}",
            faults.len(),
            first.packet,
            first.what
        );
    }
}

#[test]
fn whatever_is_written_keeps_all_the_rules() {
    for scene in scenes::all() {
        for writer in WRITERS {
            let bytes = scene.written_by(writer);
            assert_lawful(&bytes, true, &format!("{} by {writer:?}", scene.name));
        }
    }
}

#[test]
fn whoever_watches_live_from_anywhere_or_jumps_sees_all_the_rules_kept() {
    let mut jumps = 0;
    for scene in scenes::all() {
        let live = Live::of(&scene);
        let entrances = live.entrances();
        for &entrance in &entrances[..entrances.len() - 1] {
            let what = format!("{} from {entrance}", scene.name);
            assert_lawful(&live.watched_from(entrance), true, &what);
        }
        for &returns in &entrances[2..] {
            for leaves in (entrances[1]..returns).step_by(7) {
                let what = format!("{} left at {leaves}, entered at {returns}", scene.name);
                assert_lawful(&live.watched_with_a_jump(leaves, returns), true, &what);
                jumps += 1;
            }
        }
    }
    assert!(jumps > 100, "{jumps}");
}

#[test]
fn each_rule_finds_the_fault_that_is_made_for_it() {
    let Some(scene) = scenes::all().into_iter().find(|scene: &Scene| scene.name == "both") else { panic!() };
    let sound = scene.written_by(scenes::Writer::Wire);
    let packets: Vec<&[u8]> = sound.chunks(188).collect();
    let pid = |packet: &[u8]| u16::from(packet[1] & 0x1f) << 8 | u16::from(packet[2]);
    let reads = |packet: &[u8]| packet[3] & 0x20 != 0 && packet[4] > 0 && packet[5] & 0x10 != 0;
    let starts = |packet: &[u8]| packet[1] & 0x40 != 0;
    let without = |gone: &dyn Fn(&[u8]) -> bool| {
        packets.iter().filter(|packet| !gone(packet)).copied().collect::<Vec<_>>().concat()
    };
    let changed = |place: &dyn Fn(&[u8]) -> bool, change: &dyn Fn(&mut [u8])| {
        let mut bytes = sound.clone();
        let middle = packets.len() / 2;
        let at = middle + packets[middle..].iter().position(|packet| place(packet)).expect("there is one");
        change(&mut bytes[at * 188..][..188]);
        bytes
    };
    let video = |packet: &[u8]| pid(packet) == FIRST && starts(packet);
    let gap = packets.len() / 4..packets.len() / 2;
    let interrupted: Vec<&[u8]> = (0..)
        .zip(&packets)
        .filter(|(number, packet)| !gap.contains(number) || pid(packet) != SECOND)
        .map(|(_, packet)| *packet)
        .collect();
    let faulty = [
        (Rule::Sync, changed(&video, &|packet| packet[0] = 0x48)),
        (Rule::Associations, without(&|packet| pid(packet) == 0 && packet[3] & 15 > 2)),
        (Rule::Continuity, changed(&video, &|packet| packet[3] ^= 1)),
        (Rule::Map, without(&|packet| pid(packet) == 0x1000 && packet[3] & 15 > 2)),
        (Rule::Pid, without(&|packet| pid(packet) == SECOND)),
        (Rule::Pid, changed(&video, &|packet| packet[2] ^= 0x80)),
        (Rule::Damage, changed(&video, &|packet| packet[1] |= 0x80)),
        (Rule::Crc, changed(&|packet| pid(packet) == 0x1000, &|packet| packet[12] ^= 1)),
        (Rule::ReadingRepetition, changed(&reads, &|packet| packet[5] = 0)),
        // A bit of 2^9 ticks of 90 kHz, and one of 2^22.
        (Rule::ReadingAccuracy, changed(&reads, &|packet| (packet[10], packet[11]) = (packet[10] | 1, 0xff))),
        (Rule::ReadingDiscontinuity, changed(&reads, &|packet| packet[7] ^= 0x80)),
        (Rule::TimeRepetition, interrupted.concat()),
        (
            Rule::TimeOrder,
            changed(&video, &|packet| {
                let pes = 5 + usize::from(packet[4]);
                packet[pes + 11] ^= 0x10;
            }),
        ),
        (Rule::Marks, changed(&reads, &|packet| packet[5] |= 0x80)),
    ];
    for (rule, bytes) in faulty {
        let bytes = match rule {
            // A second time in the next packet that brings a reading.
            Rule::Marks => {
                let mut twice = bytes.clone();
                let marked = twice.chunks(188).position(|packet| reads(packet) && packet[5] & 0x80 != 0);
                let next = marked.expect("it was marked") + 1;
                let more = twice.chunks(188).skip(next).position(reads).expect("there is another");
                twice[(next + more) * 188 + 5] |= 0x80;
                twice
            }
            _ => bytes,
        };
        let faults = judge(&bytes, true);
        assert!(faults.iter().any(|fault| fault.rule == rule), "{rule:?} is not among {faults:?}");
    }
    let listed: Vec<Rule> = RULES.iter().map(|(rule, ..)| *rule).collect();
    assert!(listed.is_sorted() && RULES.iter().all(|(_, place, what)| !place.is_empty() && !what.is_empty()));
}
