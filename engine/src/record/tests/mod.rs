//! The recorder against a disk in memory that can be slow, full and torn: here the disk and what is sent to it, in
//! `streams.rs` what is recorded, in `trouble.rs` what fails, in `scans.rs` the look at what was left behind.

mod scans;
mod streams;
mod trouble;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    Counters, Fault, Output, Recorder, SegmentId, Settings,
    scan::{self, Depth, Finding, Repair, Tail},
};
use crate::{
    codec::{Codec, Parameters, Shape},
    fmp4::demux::{BoxHead, Fragment as Moof, Movie, Sample},
    limits,
    media::{Frame, Payload, TrackId},
    time::{MediaTime, Now, Wall},
};

/// 2026-11-22T07:45:00.123Z.
const BEGIN: Wall = Wall(1_795_333_500_123_000_000);

/// A recorder, its disk, and the clock.
struct World {
    recorder: Recorder,
    disk: Disk,
    now: Now,
    told: Vec<Output>,
}

#[derive(Default)]
struct Disk {
    files: BTreeMap<String, Vec<u8>>,
    open: BTreeMap<SegmentId, String>,
    finished: Vec<(String, Duration)>,
    /// What each fragment was: its file, its offset, its length, whether it began with a key frame.
    fragments: Vec<(SegmentId, u64, usize, bool)>,
    /// Fails what is asked of it.
    fault: Option<Fault>,
    /// Keeps what is asked of it, and answers later.
    slow: Option<Vec<SegmentId>>,
    block: u32,
}

impl World {
    fn new(segment: Duration) -> Self {
        World {
            recorder: Recorder::new("live/cam", &Settings { segment, ..Settings::default() }),
            disk: Disk { block: 4096, ..Disk::default() },
            now: Now(0),
            told: Vec::new(),
        }
    }

    fn parameters(&mut self, track: TrackId, parameters: Parameters) {
        let zero = MediaTime::from_millis(0);
        let payload = Payload::Parameters(Arc::new(parameters));
        self.frame(&Frame { track, dts: zero, pts: zero, payload });
    }

    fn frame(&mut self, frame: &Frame) {
        self.recorder.frame(frame, self.now, Wall(BEGIN.0 + self.now.0));
        self.drain();
    }

    /// A frame that comes at its own time.
    fn live(&mut self, frame: &Frame) {
        let at = Now(u64::try_from(frame.dts.as_nanos()).unwrap_or(0));
        self.advance(at.max(self.now));
        self.frame(frame);
    }

    /// Waits, keeping the deadlines.
    fn advance(&mut self, until: Now) {
        while let Some(deadline) = self.recorder.deadline().filter(|deadline| *deadline <= until) {
            self.now = deadline.max(self.now);
            self.recorder.timeout(self.now);
            self.drain();
            assert!(
                self.recorder.deadline().is_none_or(|next| next > deadline),
                "a deadline that is kept is over"
            );
        }
        self.now = until;
    }

    fn finish(&mut self) {
        self.recorder.finish(self.now);
        self.drain();
        assert!(self.recorder.is_done());
    }

    fn drain(&mut self) {
        while let Some(output) = self.recorder.poll() {
            match output {
                Output::Open { segment, path, .. } => {
                    let answer = match self.disk.fault {
                        _ if self.disk.files.contains_key(&path) => Err(Fault::Exists),
                        Some(fault) => Err(fault),
                        None => {
                            self.disk.files.insert(path.clone(), Vec::new());
                            self.disk.open.insert(segment, path);
                            Ok(self.disk.block)
                        }
                    };
                    self.recorder.opened(segment, answer, self.now);
                }
                Output::Append { segment, offset, fragment } => {
                    let file = self.disk.files.get_mut(&self.disk.open[&segment]).unwrap();
                    assert_eq!(offset % u64::from(self.disk.block), 0);
                    self.disk.fragments.push((segment, offset, fragment.len(), fragment.is_key()));
                    if let Some(fault) = self.disk.fault {
                        self.recorder.appended(segment, Err(fault), self.now);
                        continue;
                    }
                    assert_eq!(offset, file.len() as u64);
                    let start = file.len();
                    file.resize(start + fragment.len(), 0xee);
                    fragment.write_into(&mut file[start..]);
                    match &mut self.disk.slow {
                        Some(waiting) => waiting.push(segment),
                        None => self.recorder.appended(segment, Ok(()), self.now),
                    }
                }
                Output::Finish { segment, length, duration } => {
                    let path = self.disk.open.remove(&segment).unwrap();
                    match length {
                        0 => drop(self.disk.files.remove(&path)),
                        length => self.disk.files.get_mut(&path).unwrap().truncate(length as usize),
                    }
                    self.disk.finished.push((path, duration));
                    self.recorder.finished(segment, Ok(()));
                }
                told => self.told.push(told),
            }
        }
    }

    /// The disk answers what it kept waiting.
    fn catch_up(&mut self) {
        for segment in self.disk.slow.take().unwrap_or_default() {
            self.recorder.appended(segment, Ok(()), self.now);
        }
        self.drain();
    }

    fn paths(&self) -> Vec<&str> {
        self.disk.files.keys().map(String::as_str).collect()
    }
    fn file(&self, index: usize) -> &[u8] {
        self.disk.files.values().nth(index).unwrap()
    }
    fn counters(&self) -> Counters {
        self.recorder.counters()
    }
}

fn h264() -> Parameters {
    Parameters {
        codec: Codec::H264,
        configuration: Bytes::from_static(&[
            1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, 4, 0x67, 0x64, 0, 0x1f, 1, 0, 1, 0x68,
        ]),
        shape: Shape::Video { width: 1280, height: 720 },
        codec_string: "avc1.64001f".to_owned(),
    }
}

fn aac() -> Parameters {
    Parameters {
        codec: Codec::Aac,
        configuration: Bytes::from_static(&[0x11, 0x90]),
        shape: Shape::Audio { sample_rate: 48_000, channels: 2, packet_samples: 1024 },
        codec_string: "mp4a.40.2".to_owned(),
    }
}

/// Bytes that differ from frame to frame, as one NAL unit.
fn unit(seed: i64, len: usize) -> Bytes {
    let mut data = vec![0; 4 + len];
    data[..4].copy_from_slice(&(len as u32).to_be_bytes());
    for (byte, place) in data[4..].iter_mut().zip(0i64..) {
        *byte = (seed.wrapping_mul(31).wrapping_add(place * 7) % 251 + 1) as u8;
    }
    data.into()
}

fn picture(dts: i64, pts: i64, key: bool) -> Frame {
    let data = unit(dts, if key { 3000 } else { 500 });
    Frame {
        track: TrackId::VIDEO,
        dts: MediaTime::from_millis(dts),
        pts: MediaTime::from_millis(pts),
        payload: Payload::Video { codec: Codec::H264, key, data },
    }
}

fn sound(dts: i64) -> Frame {
    let time = MediaTime::from_millis(dts);
    let data = unit(dts + 1_000_000, 180);
    Frame { track: TrackId::AUDIO, dts: time, pts: time, payload: Payload::Audio { codec: Codec::Aac, data } }
}

/// Pictures at 25 a second with a key frame each `group`, and sound each 21 or 22 ms, in the order of their times.
fn stream(millis: std::ops::Range<i64>, group: i64) -> Vec<Frame> {
    let mut frames: Vec<_> = (0..)
        .map(|n| n * 40)
        .take_while(|dts| *dts < millis.end)
        .collect::<Vec<_>>()
        .into_iter()
        .map(|dts| picture(dts, dts + 80, dts % group == 0))
        .chain((0..).map(|n| n * 1024 / 48).take_while(|dts| *dts < millis.end).map(sound))
        .filter(|frame| frame.dts.ticks >= millis.start)
        .collect();
    frames.sort_by_key(|frame| frame.dts.ticks);
    frames
}

/// What a reader finds in a file.
fn read(file: &[u8]) -> (Movie, Vec<Sample>) {
    let (mut at, mut movie, mut samples) = (0, Movie::default(), Vec::new());
    while at < file.len() {
        let head = BoxHead::parse(&file[at..]).unwrap();
        let end = at + head.len.unwrap() as usize;
        let content = &file[at + head.head_len as usize..end];
        match &head.kind.0 {
            b"moov" => movie = Movie::parse(content).unwrap(),
            b"moof" => samples.extend(Moof::parse(&movie, content, at as u64).unwrap().samples),
            _ => {}
        }
        at = end;
    }
    (movie, samples)
}

/// One frame as it stands in a file: dts, pts, key, payload.
type Read = (u64, i64, bool, Vec<u8>);

fn read_track(file: &[u8], track: u32) -> Vec<Read> {
    let (_, samples) = read(file);
    samples
        .into_iter()
        .filter(|sample| sample.track == track)
        .map(|sample| {
            let start = sample.offset as usize;
            (sample.dts, sample.pts, sample.key, file[start..start + sample.size as usize].to_vec())
        })
        .collect()
}

/// The same of the frames that were sent, with times from `origin`.
fn sent_track<'a>(frames: impl IntoIterator<Item = &'a Frame>, track: TrackId, origin: i64) -> Vec<Read> {
    let of_track = frames.into_iter().filter(|frame| frame.track == track);
    of_track
        .map(|frame| match &frame.payload {
            Payload::Video { data, .. } | Payload::Audio { data, .. } => (
                (frame.dts.ticks - origin) as u64,
                frame.pts.ticks - origin,
                frame.is_key() || frame.is_audio(),
                data.to_vec(),
            ),
            _ => unreachable!(),
        })
        .collect()
}

fn recorded(frames: &[Frame], segment: Duration) -> World {
    let mut world = World::new(segment);
    world.parameters(TrackId::VIDEO, h264());
    world.parameters(TrackId::AUDIO, aac());
    for frame in frames {
        world.live(frame);
    }
    world.finish();
    world
}
