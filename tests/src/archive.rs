//! A hub that records, a publisher, and a disk under a seed: writes that take their time, tear, fail or find the disk full,
//! publishers that come and go, and a crash at any moment. What the hub was told is on the disk must be read back, by the
//! reader that `shardcast recordings` uses.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use shardcast_engine::{
    demo::{CLIP, Demo},
    error::Error,
    fmp4::demux,
    hub::{ConnectionId, Hub, Input, Lost, Output, RecordAnswer, RecordingId},
    media::{Frame, Payload, StreamName},
    message::CoreId,
    record::{
        self, Fault, SegmentId,
        scan::{self, Depth},
    },
    session::{self, Answer, Event, Session},
    settings::{AppSettings, Settings},
    time::{Now, Wall},
};

use crate::sim::random::Random;

/// The disk's grain: what a write tears into, and what a file's tail is made of.
const BLOCK: usize = 4096;
/// Room that is made ahead of the writer; it reads as zeros until it is written.
const AHEAD: usize = 64 * BLOCK;

/// What one run showed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// The run ended in a crash.
    pub crashed: bool,
    /// Frames that the publishers sent.
    pub sent: u64,
    /// Frames that were read back.
    pub read: u64,
    /// Fragments that the disk had acknowledged.
    pub acknowledged: u64,
    /// Writes that were torn by the crash.
    pub torn: u64,
    /// Writes and openings that failed.
    pub failures: u64,
    /// The disk acknowledged something that it had not written.
    pub lied: bool,
}

/// The frames of all publishers, as they were sent. The only thing that a session and the judge share.
type Reel = Arc<Mutex<Vec<Bytes>>>;

/// A publisher that plays the clip of the demo.
struct Camera {
    demo: Demo,
    outbox: VecDeque<session::Output>,
    publishing: bool,
    reel: Reel,
}

impl Camera {
    fn new(reel: &Reel) -> Self {
        let name = StreamName::new("live", "archive").expect("a legal name");
        let wish = session::Output::Event(Event::Publish { name, query: String::new() });
        let demo = Demo::new(CLIP).expect("the built-in clip can be read");
        Camera { demo, outbox: VecDeque::from([wish]), publishing: false, reel: reel.clone() }
    }
}

impl Session for Camera {
    fn handle(&mut self, input: session::Input<'_>, now: Now) -> Result<(), Error> {
        self.publishing |= matches!(input, session::Input::Answer(Answer::Publishing));
        while let Some(frame) = self.publishing.then(|| self.demo.poll(now)).flatten() {
            if let Some(data) = data_of(&frame) {
                self.reel.lock().expect("nobody panics while it is held").push(data.clone());
            }
            self.outbox.push_back(session::Output::Event(Event::Frame(frame)));
        }
        Ok(())
    }
    fn poll(&mut self) -> Option<session::Output> {
        self.outbox.pop_front()
    }
    fn deadline(&self) -> Option<Now> {
        self.publishing.then(|| self.demo.deadline()).flatten()
    }
    fn received(&self) -> u64 {
        0
    }
}

fn data_of(frame: &Frame) -> Option<&Bytes> {
    match &frame.payload {
        Payload::Video { data, .. } | Payload::Audio { data, .. } => Some(data),
        _ => None,
    }
}

/// How the disk is just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Well,
    Full,
    Broken,
}

#[derive(Default)]
struct File {
    bytes: Vec<u8>,
    /// Frames in fragments that were acknowledged, and where the last of those ends.
    frames: u64,
    end: usize,
    fragments: u64,
    /// A write has failed: what is acknowledged behind the hole counts for nothing, and its recorder knows.
    failed: bool,
    closed: bool,
}

/// Something that the disk was asked for and has not done.
struct Job {
    done_at: Now,
    recording: RecordingId,
    task: Task,
}

enum Task {
    Open { segment: SegmentId, path: String },
    Append { segment: SegmentId, offset: usize, content: Vec<u8>, frames: u64 },
    Finish { segment: SegmentId, length: usize },
}

struct Disk {
    mood: Mood,
    mood_until: Now,
    slowest: Duration,
    faults: bool,
    lies: bool,
    files: BTreeMap<String, File>,
    paths: BTreeMap<(RecordingId, SegmentId), String>,
    jobs: VecDeque<Job>,
    report: Report,
}

impl Disk {
    fn ask(&mut self, recording: RecordingId, task: record::Output, random: &mut Random, now: Now) {
        let task = match task {
            record::Output::Open { segment, path, .. } => Task::Open { segment, path },
            record::Output::Append { segment, offset, fragment } => {
                let mut content = vec![0xee; fragment.len()];
                fragment.write_into(&mut content);
                let offset = usize::try_from(offset).expect("a small world");
                Task::Append { segment, offset, content, frames: fragment.frames() }
            }
            record::Output::Finish { segment, length, .. } => {
                Task::Finish { segment, length: usize::try_from(length).expect("a small world") }
            }
            record::Output::Alarm { .. } | record::Output::Gap { .. } => return,
        };
        let slowest = u64::try_from(self.slowest.as_nanos()).expect("a short time");
        let pause = Duration::from_nanos(random.between(0, slowest));
        // What is asked of one file is answered in the order in which it was asked.
        let earliest = self.jobs.iter().map(|job| job.done_at).max().unwrap_or(now);
        self.jobs.push_back(Job { done_at: now.after(pause).max(earliest), recording, task });
    }

    fn next(&self) -> Option<Now> {
        self.jobs.front().map(|job| job.done_at)
    }

    /// Does the first job, well or badly.
    fn work(&mut self, random: &mut Random, now: Now) -> Option<(RecordingId, RecordAnswer)> {
        let Job { recording, task, .. } = self.jobs.pop_front()?;
        if self.faults && now >= self.mood_until {
            self.mood =
                if self.mood == Mood::Well { random.pick(&[Mood::Full, Mood::Broken]) } else { Mood::Well };
            self.mood_until = now.after(Duration::from_millis(random.between(200, 9_000)));
        }
        let fault = match self.mood {
            Mood::Well => None,
            Mood::Full => Some(Fault::Full),
            Mood::Broken => Some(Fault::Failed),
        };
        self.report.failures += u64::from(fault.is_some());
        let answer = match task {
            Task::Open { segment, path } => {
                let result = match fault {
                    _ if self.files.contains_key(&path) => Err(Fault::Exists),
                    Some(fault) => Err(fault),
                    None => {
                        self.files.insert(path.clone(), File::default());
                        self.paths.insert((recording, segment), path);
                        Ok(u32::try_from(BLOCK).expect("a small number"))
                    }
                };
                RecordAnswer::Opened(segment, result)
            }
            Task::Append { segment, offset, content, frames } => {
                let lie = self.lies && fault.is_none() && random.chance(10);
                let written = match fault {
                    // A disk that fills up takes a part first.
                    Some(_) => random.index(content.len() / BLOCK + 1) * BLOCK,
                    None if lie => 0,
                    None => content.len(),
                };
                let file = self.file(recording, segment);
                file.write(offset, &content[..written]);
                file.failed |= fault.is_some();
                if !file.failed {
                    assert_eq!(offset, file.end, "a fragment goes behind the last one that was acknowledged");
                    (file.end, file.frames, file.fragments) =
                        (offset + content.len(), file.frames + frames, file.fragments + 1);
                    self.report.acknowledged += 1;
                    self.report.lied |= lie;
                }
                RecordAnswer::Appended(segment, fault.map_or(Ok(()), Err))
            }
            Task::Finish { segment, length } => {
                let file = self.file(recording, segment);
                if fault.is_none() {
                    file.bytes.truncate(length);
                    file.closed = true;
                    if length == 0 {
                        let path = self.paths[&(recording, segment)].clone();
                        self.files.remove(&path);
                    }
                }
                RecordAnswer::Finished(segment, fault.map_or(Ok(()), Err))
            }
        };
        Some((recording, answer))
    }

    fn file(&mut self, recording: RecordingId, segment: SegmentId) -> &mut File {
        let path = &self.paths[&(recording, segment)];
        self.files.get_mut(path).expect("a file that was opened is there")
    }

    /// The power goes: of each write under way any blocks may have reached the disk.
    fn crash(&mut self, random: &mut Random) {
        for Job { recording, task, .. } in std::mem::take(&mut self.jobs) {
            let Task::Append { segment, offset, content, .. } = task else { continue };
            if !self.paths.contains_key(&(recording, segment)) {
                continue;
            }
            self.report.torn += 1;
            let in_order = random.chance(50);
            let most = random.index(content.len() / BLOCK + 1);
            for (index, block) in content.chunks(BLOCK).enumerate() {
                if if in_order { index < most } else { random.chance(50) } {
                    self.file(recording, segment).write(offset + index * BLOCK, block);
                }
            }
        }
    }
}

impl File {
    fn write(&mut self, offset: usize, content: &[u8]) {
        let end = offset + content.len();
        if self.bytes.len() < end {
            self.bytes.resize(end.next_multiple_of(AHEAD) + AHEAD, 0);
        }
        self.bytes[offset..end].copy_from_slice(content);
    }
}

/// Runs the world of `seed`. With `lies` the disk acknowledges some fragments that it has not written: the canary.
///
/// # Errors
/// What was promised and does not hold.
pub fn run(seed: u64, lies: bool) -> Result<Report, String> {
    let mut random = Random::new(seed);
    let mut now = Now(random.between(1 << 40, 1 << 50));
    let mut settings =
        Settings { segment: Duration::from_secs(random.between(2, 20)), ..Settings::default() };
    let mut app = AppSettings { record: true, ..AppSettings::default() };
    app.limits.reconnect_window = Duration::from_secs(random.between(0, 6));
    settings.default = app;
    let mut hub = Hub::new(CoreId(0), 1, Arc::new(settings));
    let wall_at_zero = 1_795_333_500_000_000_000 - now.0;
    let faults = random.chance(50);
    let mut disk = Disk {
        mood: Mood::Well,
        mood_until: now.after(Duration::from_secs(random.between(1, 8))),
        slowest: Duration::from_millis(random.pick(&[0, 5, 200, 900, 3_000])),
        faults,
        lies,
        files: BTreeMap::new(),
        paths: BTreeMap::new(),
        jobs: VecDeque::new(),
        report: Report::default(),
    };
    let reel = Reel::default();
    let end = now.after(Duration::from_millis(random.between(500, 30_000)));
    let crash = random.chance(60);
    // Publishers come and go; each comes back while its stream still waits, or after it has ended.
    let (mut publisher, mut generation) = (None, 0);
    let mut next_turn = now;
    loop {
        hub.set_wall(Wall(wall_at_zero + now.0), now);
        if now >= next_turn {
            match publisher.take() {
                Some(connection) => {
                    hub.handle(Input::Closed { connection, how: Lost::Eof }, now);
                    next_turn = now.after(Duration::from_millis(random.between(10, 8_000)));
                }
                None => {
                    generation += 1;
                    let connection = ConnectionId { slot: 0, generation };
                    let peer = SocketAddr::from(([192, 0, 2, 1], 1935));
                    let session = Box::new(Camera::new(&reel));
                    hub.handle(Input::Connected { connection, door: "archive", peer, session }, now);
                    hub.handle(Input::Received { connection, bytes: b"!" }, now);
                    publisher = Some(connection);
                    next_turn = now.after(Duration::from_millis(random.between(500, 20_000)));
                }
            }
        }
        if hub.deadline().is_some_and(|deadline| deadline <= now) {
            hub.handle(Input::Timeout, now);
        }
        carry_out(&mut hub, &mut disk, &mut random, now);
        while disk.next().is_some_and(|at| at <= now) {
            if let Some((recording, answer)) = disk.work(&mut random, now) {
                hub.handle(Input::Recorded { recording, answer }, now);
                carry_out(&mut hub, &mut disk, &mut random, now);
            }
        }
        if now >= end {
            break;
        }
        let next = [hub.deadline(), disk.next(), Some(next_turn), Some(end)].into_iter().flatten().min();
        now = next.unwrap_or(end).max(Now(now.0 + 1));
    }
    if crash {
        disk.report.crashed = true;
        disk.crash(&mut random);
    } else {
        // A disk that is never well again would keep a file open for ever, in this world as in any other.
        (disk.faults, disk.mood) = (false, Mood::Well);
        hub.handle(Input::Drain, now);
        let patience = now.after(Duration::from_secs(120));
        while !hub.is_drained() {
            carry_out(&mut hub, &mut disk, &mut random, now);
            if let Some((recording, answer)) = disk.work(&mut random, now) {
                hub.handle(Input::Recorded { recording, answer }, now);
            } else if let Some(deadline) = hub.deadline().filter(|deadline| *deadline <= patience) {
                now = deadline.max(now);
                hub.handle(Input::Timeout, now);
            } else if !hub.is_drained() {
                return Err("a hub that drains waits for nothing and is not done".to_owned());
            }
        }
    }
    let reel = reel.lock().expect("no camera is left");
    disk.report.sent = reel.len() as u64;
    for (path, file) in &disk.files {
        disk.report.read +=
            judge(file, &reel, disk.report.crashed).map_err(|broken| format!("{path}: {broken}"))?;
    }
    let kept: u64 = disk.files.values().map(|file| file.frames).sum();
    if !crash && !faults && !lies && disk.slowest < Duration::from_millis(900) && disk.report.read != kept {
        return Err(format!("{kept} frames were acknowledged, {} were read", disk.report.read));
    }
    Ok(disk.report)
}

fn carry_out(hub: &mut Hub, disk: &mut Disk, random: &mut Random, now: Now) {
    while let Some(output) = hub.poll(now) {
        if let Output::Record { recording, task } = output {
            disk.ask(recording, task, random, now);
        }
    }
}

/// Reads a file as it was found. Every acknowledged frame is there, whole and in the order in which it was sent.
fn judge(file: &File, reel: &[Bytes], crashed: bool) -> Result<u64, String> {
    let report = scan::scan(&file.bytes[..], Depth::Content).map_err(|error| format!("{error:?}"))?;
    let valid = usize::try_from(report.valid).map_err(|error| error.to_string())?;
    if valid < file.end {
        return Err(format!("{} bytes were acknowledged, {valid} can be read: {report:?}", file.end));
    }
    if report.fragments < file.fragments {
        return Err(format!(
            "{} fragments were acknowledged, {} can be read",
            file.fragments, report.fragments
        ));
    }
    if file.closed && !report.is_sound() {
        return Err(format!("a file that was closed is not sound: {report:?}"));
    }
    if !crashed && file.closed && valid != file.bytes.len() {
        return Err("a closed file has a tail".to_owned());
    }
    let mut frames = 0;
    let mut movie = None;
    let mut at = 0;
    // Frames of one kind come in the order in which they were sent; where each track has come to.
    let mut reached: BTreeMap<u32, usize> = BTreeMap::new();
    while at < valid {
        let head = demux::BoxHead::parse(&file.bytes[at..valid]).map_err(|error| error.to_string())?;
        let len =
            usize::try_from(head.len.ok_or("a box without an end")?).map_err(|error| error.to_string())?;
        let start = at + usize::try_from(head.head_len).map_err(|error| error.to_string())?;
        let content = file.bytes.get(start..at + len).ok_or("a box that ends outside the valid part")?;
        match (&head.kind.0, &movie) {
            (b"moov", _) => movie = Some(demux::Movie::parse(content).map_err(|error| error.to_string())?),
            (b"moof", Some(movie)) => {
                let fragment =
                    demux::Fragment::parse(movie, content, at as u64).map_err(|error| error.to_string())?;
                for sample in fragment.samples {
                    let from = usize::try_from(sample.offset).map_err(|error| error.to_string())?;
                    let data = file
                        .bytes
                        .get(from..from + sample.size as usize)
                        .ok_or("a sample outside the file")?;
                    let reached = reached.entry(sample.track).or_default();
                    let found = reel.iter().skip(*reached).position(|sent| sent == data);
                    *reached += 1 + found
                        .ok_or_else(|| format!("frame {frames} was never sent, or not after the last"))?;
                    frames += 1;
                }
            }
            _ => {}
        }
        at += len;
    }
    if frames < file.frames {
        return Err(format!("{} frames were acknowledged, {frames} were read", file.frames));
    }
    Ok(frames)
}
