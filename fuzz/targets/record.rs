//! Recording, from both ends. With an even first byte the input is a file that some crash or some stranger left, and is
//! looked at and repaired. With an odd one it is an FLV, whose frames are recorded to a disk that fails now and then:
//! what is kept must be sound.
#![no_main]

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use libfuzzer_sys::fuzz_target;
use shardcast_engine::{
    flv::{Demuxer, TagReader},
    media::Frame,
    record::{
        Fault, Output, Recorder, SegmentId, Settings,
        scan::{self, Depth, FINDINGS_MAX, Repair, Report},
    },
    session::Event,
    time::{Now, Unwrapper, Wall},
};

fuzz_target!(|input: &[u8]| {
    match input.split_first() {
        Some((mode, file)) if mode % 2 == 0 => look(file),
        Some((mode, [disk, flv @ ..])) => record(*mode, *disk, flv),
        _ => {}
    }
});

fn look(file: &[u8]) {
    let heads = scan_of(file, Depth::Heads);
    let content = scan_of(file, Depth::Content);
    assert!(content.valid <= heads.valid, "a closer look finds no more that is valid");
    for report in [heads, content] {
        if let Repair::Truncate(length) = report.repair() {
            let repaired = file.get(..length as usize).expect("a repair only cuts");
            let again = scan_of(repaired, Depth::Heads);
            assert_eq!(again.repair(), Repair::None, "what was repaired is whole");
        }
    }
}

fn scan_of(file: &[u8], depth: Depth) -> Report {
    let Ok(report) = scan::scan(file, depth);
    assert!(report.valid <= report.size && report.size == file.len() as u64);
    assert!(report.findings.len() <= FINDINGS_MAX);
    report
}

fn record(mode: u8, disk: u8, flv: &[u8]) {
    let segment = Duration::from_millis(u64::from(mode) * 50);
    let mut recorder = Recorder::new("live/cam", &Settings { segment, ..Settings::default() });
    let mut disk = Disk { faults: disk, ..Disk::default() };
    let mut now = Now(0);
    for frame in frames(flv) {
        now = Now(now.0 + 10_000_000);
        recorder.frame(&frame, now, Wall(now.0));
        disk.serve(&mut recorder, now);
        while let Some(deadline) = recorder.deadline().filter(|deadline| *deadline <= now) {
            recorder.timeout(deadline);
            disk.serve(&mut recorder, now);
        }
    }
    recorder.finish(now);
    disk.serve(&mut recorder, now);
    // A recorder may still wait for its disk to work again.
    for _ in 0..64 {
        if recorder.is_done() {
            break;
        }
        now = recorder.deadline().expect("a recorder that is not done waits for something").max(now);
        recorder.timeout(now);
        disk.serve(&mut recorder, now);
    }
    assert!(recorder.is_done());
    assert!(disk.files.is_empty(), "every file was closed");
    assert_eq!(disk.kept_frames, recorder.counters().frames, "what the disk acknowledged is what was kept");
}

fn frames(flv: &[u8]) -> Vec<Frame> {
    let (mut reader, mut demuxer, mut clock) = (TagReader::default(), Demuxer::default(), Unwrapper::new(32));
    let (mut rest, mut frames) = (flv, Vec::new());
    while let Ok(Some(tag)) = reader.read(&mut rest) {
        let mut emit = |event| {
            if let Event::Frame(frame) = event {
                frames.push(frame);
            }
        };
        if demuxer.tag(&tag, &mut clock, &mut emit).is_err() {
            break;
        }
    }
    frames
}

/// A disk in memory, which fails as its bits say, over and over.
#[derive(Default)]
struct Disk {
    files: BTreeMap<SegmentId, Vec<u8>>,
    faults: u8,
    calls: u32,
    kept_frames: u64,
}

impl Disk {
    fn fault(&mut self) -> Option<Fault> {
        self.calls += 1;
        // A disk that never works again is somebody else's test.
        let failing = self.calls < 64 && self.faults >> (self.calls % 8) & 1 == 1;
        failing.then_some(if self.calls.is_multiple_of(3) { Fault::Full } else { Fault::Failed })
    }

    fn serve(&mut self, recorder: &mut Recorder, now: Now) {
        const BLOCK: u32 = 512;
        let mut todo = VecDeque::new();
        loop {
            while let Some(output) = recorder.poll() {
                todo.push_back(output);
            }
            let Some(output) = todo.pop_front() else { return };
            match output {
                Output::Open { segment, path, .. } => {
                    assert!(path.starts_with("live/cam/"));
                    let fault = self.fault();
                    if fault.is_none() {
                        assert!(self.files.insert(segment, Vec::new()).is_none(), "a file is opened once");
                    }
                    recorder.opened(segment, fault.map_or(Ok(BLOCK), Err), now);
                }
                Output::Append { segment, offset, fragment } => {
                    let fault = self.fault();
                    let file = self.files.get_mut(&segment).expect("a file is open while it is written");
                    if fault.is_none() {
                        assert_eq!((file.len() as u64, offset % u64::from(BLOCK)), (offset, 0));
                        file.resize(file.len() + fragment.len(), 0xff);
                        fragment.write_into(file.split_at_mut(offset as usize).1);
                    }
                    recorder.appended(segment, fault.map_or(Ok(()), Err), now);
                }
                Output::Finish { segment, length, .. } => {
                    let mut file = self.files.remove(&segment).expect("a file is closed once");
                    assert!(length <= file.len() as u64);
                    file.truncate(length as usize);
                    if length > 0 {
                        let report = scan_of(&file, Depth::Heads);
                        assert!(report.is_sound(), "{:?} {:?}", report.tail, report.findings);
                        self.kept_frames += report.tracks.iter().map(|track| track.frames).sum::<u64>();
                    }
                    recorder.finished(segment, Ok(()));
                }
                Output::Alarm { .. } | Output::Gap { .. } => {}
            }
        }
    }
}
