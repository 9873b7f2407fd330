//! A disk: files in memory, with the delays and faults of a real one. Writes are done in any order and answered in theirs,
//! tear when power fails in the middle of one, and fail when there is no room or no will.

use std::{collections::BTreeMap, time::Duration};

use shardcast_engine::{
    hub::{RecordAnswer, RecordingId},
    record::{self, Fault, Fragment, SegmentId},
    time::Now,
};

use super::{canary::Canary, random::Random};

/// The disk of one core.
#[derive(Default)]
pub struct Disk {
    /// Every file that is there, by its path.
    pub files: BTreeMap<String, File>,
    /// Which file a recorder's segment is.
    paths: BTreeMap<(RecordingId, SegmentId), String>,
    tasks: Vec<Task>,
    /// What it does to those who ask.
    pub temper: Temper,
    /// It has failed at some time, or was so slow that a recorder may have lost frames.
    pub has_struggled: bool,
    last: u64,
}

/// A file.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// What a reader would find, space that was only taken included.
    pub bytes: Vec<u8>,
    /// The recorder was told that everything up to here is kept.
    pub acknowledged: u64,
    /// It was closed.
    pub closed: bool,
    /// A write has failed; what was written behind it does not count.
    failed: bool,
}

/// How a disk behaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Temper {
    /// Longest time that a task takes.
    pub delay: Duration,
    /// What a share of the tasks fails with, in percent.
    pub fault: Option<(Fault, u64)>,
    /// Bytes that a write is a multiple of.
    pub block: u32,
    /// Bytes that are taken ahead of the writer.
    pub ahead: usize,
}

/// Something that the disk has been asked for and has not answered yet.
struct Task {
    /// Tasks of one segment are answered in this order.
    number: u64,
    recording: RecordingId,
    segment: SegmentId,
    ready: Now,
    what: What,
}

enum What {
    Open(String),
    Append(u64, Fragment),
    Finish(u64),
}

/// Slower than this, and fragments may be cut faster than they are written.
const SLOW: Duration = Duration::from_millis(200);
/// The unit in which a write that power cut off is there or not.
const PAGE: usize = 4096;

impl Disk {
    /// Takes a task of a recorder.
    pub fn ask(&mut self, recording: RecordingId, output: record::Output, random: &mut Random, now: Now) {
        let delay = u64::try_from(self.temper.delay.as_nanos()).unwrap_or(u64::MAX);
        self.has_struggled |= self.temper.delay >= SLOW;
        let mut ready = now.after(Duration::from_nanos(random.between(0, delay)));
        let (segment, what) = match output {
            record::Output::Open { segment, path, .. } => (segment, What::Open(path)),
            record::Output::Append { segment, offset, fragment } => (segment, What::Append(offset, fragment)),
            record::Output::Finish { segment, length, .. } => (segment, What::Finish(length)),
            record::Output::Alarm { .. } | record::Output::Gap { .. } => return,
        };
        // Answers of one segment come in the order of its tasks.
        for task in self.tasks.iter().filter(|task| (task.recording, task.segment) == (recording, segment)) {
            ready = ready.max(task.ready);
        }
        self.last += 1;
        self.tasks.push(Task { number: self.last, recording, segment, ready, what });
    }

    /// When the next answer is there.
    pub fn ready(&self) -> Option<Now> {
        self.tasks.iter().map(|task| task.ready).min()
    }

    /// The next answer, once it is there. `sung` is set when the canary made it a lie.
    pub fn answer(
        &mut self,
        now: Now,
        random: &mut Random,
        canary: Option<Canary>,
        sung: &mut bool,
    ) -> Option<(RecordingId, RecordAnswer)> {
        let first = self.tasks.iter().enumerate().min_by_key(|(_, task)| (task.ready, task.number))?;
        let place = first.0;
        if first.1.ready > now {
            return None;
        }
        let Task { recording, segment, what, .. } = self.tasks.remove(place);
        let fault = self.temper.fault.filter(|(_, percent)| random.chance(*percent)).map(|(fault, _)| fault);
        self.has_struggled |= fault.is_some();
        let answer = match what {
            What::Open(path) => RecordAnswer::Opened(segment, self.open(recording, segment, path, fault)),
            What::Append(offset, fragment) => {
                let lies = canary == Some(Canary::DiskLies) && random.chance(10);
                *sung |= lies;
                let result = self.append((recording, segment), offset, &fragment, fault, lies, random);
                RecordAnswer::Appended(segment, result)
            }
            What::Finish(length) => {
                RecordAnswer::Finished(segment, self.finish((recording, segment), length, fault))
            }
        };
        Some((recording, answer))
    }

    fn open(
        &mut self,
        recording: RecordingId,
        segment: SegmentId,
        path: String,
        fault: Option<Fault>,
    ) -> Result<u32, Fault> {
        if self.files.contains_key(&path) {
            return Err(Fault::Exists);
        }
        if let Some(fault) = fault {
            return Err(fault);
        }
        self.files.insert(path.clone(), File { bytes: vec![0; self.temper.ahead], ..File::default() });
        self.paths.insert((recording, segment), path);
        Ok(self.temper.block)
    }

    fn append(
        &mut self,
        who: (RecordingId, SegmentId),
        offset: u64,
        fragment: &Fragment,
        fault: Option<Fault>,
        lies: bool,
        random: &mut Random,
    ) -> Result<(), Fault> {
        let ahead = self.temper.ahead;
        let file = self.paths.get(&who).and_then(|path| self.files.get_mut(path)).ok_or(Fault::Failed)?;
        if fault.is_some() || lies {
            file.write_torn(offset, fragment, random);
        } else {
            file.write(offset, fragment, ahead);
        }
        file.failed |= fault.is_some();
        if !file.failed {
            file.acknowledged = offset + fragment.len() as u64;
        }
        fault.map_or(Ok(()), Err)
    }

    fn finish(
        &mut self,
        who: (RecordingId, SegmentId),
        length: u64,
        fault: Option<Fault>,
    ) -> Result<(), Fault> {
        let path = self.paths.remove(&who).ok_or(Fault::Failed)?;
        let file = self.files.get_mut(&path).ok_or(Fault::Failed)?;
        file.closed = true;
        if length == 0 {
            self.files.remove(&path);
        } else if let (None, Ok(length)) = (fault, usize::try_from(length)) {
            file.bytes.truncate(length);
        }
        fault.map_or(Ok(()), Err)
    }

    /// What a reader would find if power failed now: of the writes under way any pages may have arrived.
    pub fn crash(&self, random: &mut Random) -> BTreeMap<String, File> {
        if self.temper.block < 512 {
            return self.crash_of_pages(random);
        }
        let mut files = self.files.clone();
        for task in &self.tasks {
            if let What::Append(offset, fragment) = &task.what
                && let Some(file) =
                    self.paths.get(&(task.recording, task.segment)).and_then(|path| files.get_mut(path))
            {
                file.write_torn(*offset, fragment, random);
            }
        }
        files
    }

    /// Likewise where writes go through a cache of pages: a page that arrives holds all that was written to it.
    fn crash_of_pages(&self, random: &mut Random) -> BTreeMap<String, File> {
        let mut files = self.files.clone();
        for task in &self.tasks {
            if let What::Append(offset, fragment) = &task.what
                && let Some(file) =
                    self.paths.get(&(task.recording, task.segment)).and_then(|path| files.get_mut(path))
            {
                file.write(*offset, fragment, 0);
            }
        }
        for (path, file) in &mut files {
            let before = &self.files[path].bytes;
            for at in (0..file.bytes.len()).step_by(PAGE) {
                let end = file.bytes.len().min(at + PAGE);
                let was = before.get(at..end.min(before.len())).unwrap_or(&[]);
                let changed = file.bytes[at..end] != *was;
                if changed && random.chance(50) {
                    let kept = was.len();
                    file.bytes[at..at + kept].copy_from_slice(was);
                    file.bytes[at + kept..end].fill(0);
                }
            }
        }
        files
    }
}

impl File {
    fn write(&mut self, offset: u64, fragment: &Fragment, ahead: usize) {
        let offset = usize::try_from(offset).expect("a file of this world fits into memory");
        let end = offset + fragment.len();
        if self.bytes.len() < end {
            self.bytes.resize(end + ahead, 0);
        }
        fragment.write_into(&mut self.bytes[offset..end]);
    }

    /// Writes some of the pages of `fragment`, or none.
    fn write_torn(&mut self, offset: u64, fragment: &Fragment, random: &mut Random) {
        let offset = usize::try_from(offset).expect("a file of this world fits into memory");
        let mut whole = vec![0; fragment.len()];
        fragment.write_into(&mut whole);
        // The file grows to the end of the last page that arrived, and what did not arrive before it reads as zeros.
        let mut rest = &whole[..];
        let mut at = offset;
        while !rest.is_empty() {
            let (page, behind) = rest.split_at(rest.len().min(PAGE - at % PAGE));
            if random.chance(50) {
                if self.bytes.len() < at + page.len() {
                    self.bytes.resize(at + page.len(), 0);
                }
                self.bytes[at..at + page.len()].copy_from_slice(page);
            }
            (rest, at) = (behind, at + page.len());
        }
    }
}
