//! The driver of recordings: what the recorders of a shard want, done with files.
//!
//! A fragment writes itself into an aligned buffer and goes to the disk by the shard's ring. What would block (making a
//! directory, opening, cutting to length, removing) is done by a helper thread. Answers go back to each recorder in the order
//! of its fragments, whatever order the disk took.

use std::{
    collections::{HashMap, VecDeque},
    fs, io,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::Arc,
};

use shardcast_engine::{
    hub::{Level, Notice, RecordAnswer, RecordingId},
    record::{Fault, Fragment, Output, SegmentId, scan::ReadAt},
};
use shardcast_io::{
    file::{Created, Helper, Reply},
    lane::Doorbell,
    ring::{Completion, FileId, Ring},
};

/// Room is made ahead of the writer in steps of this size: an O_DIRECT write into room that is there completes without a
/// kernel thread. What is left of it is cut off when the file is closed.
const ALLOCATION_BYTES: u64 = 16 << 20;

/// Where recordings go.
#[derive(Clone, Debug)]
pub struct Recordings {
    /// The directory above `APP/STREAM/`.
    pub directory: PathBuf,
    /// When written data is forced to the disk.
    pub sync: Sync,
}

/// When recorded data is forced to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Never.
    None,
    /// At the end of each file.
    Segment,
    /// After each fragment, before it counts as written.
    Fragment,
}

/// The recordings of one shard.
pub struct Disk {
    recordings: Recordings,
    helper: Helper,
    files: HashMap<Token, File>,
    tokens: HashMap<(RecordingId, SegmentId), Token>,
    last_token: u64,
    /// Fragments for which there was no buffer; tried again when one comes back.
    starved: VecDeque<Token>,
    answers: VecDeque<(RecordingId, RecordAnswer)>,
    told_buffered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Token(u64);

struct File {
    recording: RecordingId,
    segment: SegmentId,
    path: PathBuf,
    /// `None` while it is being opened.
    id: Option<FileId>,
    /// Room that was asked for, from the start of the file.
    allocated: u64,
    /// Fragments that have no answer yet, oldest first.
    fragments: VecDeque<Pending>,
    /// The number of the next fragment.
    next: u64,
    /// The length to cut it to, once everything under way is done.
    closing: Option<u64>,
}

struct Pending {
    number: u64,
    offset: u64,
    state: Writing,
}

enum Writing {
    /// No buffer was free.
    Waiting(Fragment),
    /// With the kernel.
    Submitted,
    /// Written, and being forced to the disk.
    Syncing,
    /// Answered by the kernel; told to the recorder when those before it are.
    Done(Result<(), Fault>),
}

/// A token of a ring's operation: which file, which fragment (or none: an allocation).
const ALLOCATION: u64 = u64::MAX;

impl Disk {
    /// The disk of a shard whose doorbell is `bell`.
    ///
    /// # Errors
    /// The helper thread could not be started.
    pub fn new(recordings: Recordings, bell: Arc<Doorbell>) -> io::Result<Disk> {
        Ok(Disk {
            recordings,
            helper: Helper::start(bell)?,
            files: HashMap::new(),
            tokens: HashMap::new(),
            last_token: 0,
            starved: VecDeque::new(),
            answers: VecDeque::new(),
            told_buffered: false,
        })
    }

    /// Does what a recorder wants.
    pub fn task(&mut self, recording: RecordingId, task: Output, ring: &mut Ring) {
        match task {
            Output::Open { segment, path, .. } => self.open(recording, segment, &path),
            Output::Append { segment, offset, fragment } => {
                self.append(recording, segment, offset, fragment, ring)
            }
            Output::Finish { segment, length, .. } => self.finish(recording, segment, length, ring),
            // Said to people, by the hub.
            Output::Alarm { .. } | Output::Gap { .. } => {}
        }
    }

    /// The next answer for a recorder.
    pub fn answer(&mut self) -> Option<(RecordingId, RecordAnswer)> {
        self.answers.pop_front()
    }

    /// True when the helper has something to say.
    pub fn has_replies(&self) -> bool {
        self.helper.has_replies()
    }

    /// Takes what the helper has done. What an operator should know is put into `notices`.
    pub fn take_replies(&mut self, ring: &mut Ring, notices: &mut Vec<Notice>) {
        while let Some(reply) = self.helper.next_reply() {
            match reply {
                Reply::Created { token, result } => self.created(Token(token), result, ring, notices),
                Reply::Closed { token, result } => self.closed(Token(token), result, notices),
            }
        }
    }

    /// Takes what the ring says about a file.
    pub fn complete(&mut self, completion: Completion, ring: &mut Ring) {
        let (token, number, result, synced) = match completion {
            Completion::Written { token, result, .. } => (token, Some(()), result, false),
            Completion::Synced { token, result, .. } => (token, Some(()), result, true),
            Completion::Allocated { token, result, .. } => (token, None, result, false),
            _ => return,
        };
        let (token, fragment) = split(token);
        if number.is_some() {
            self.wrote(token, fragment, result, synced, ring);
        }
        // Room that could not be made is no fault yet: the write itself will say whether there is space.
        self.close_when_idle(token, ring);
        self.feed_starved(ring);
    }

    fn open(&mut self, recording: RecordingId, segment: SegmentId, path: &str) {
        let path = self.recordings.directory.join(path);
        // Asked again with another name after a collision, the file keeps its token.
        let token = *self.tokens.entry((recording, segment)).or_insert_with(|| {
            self.last_token += 1;
            Token(self.last_token)
        });
        let file = File {
            recording,
            segment,
            path: path.clone(),
            id: None,
            allocated: 0,
            fragments: VecDeque::new(),
            next: 0,
            closing: None,
        };
        self.files.insert(token, file);
        self.helper.create(token.0, path);
    }

    fn created(
        &mut self,
        token: Token,
        result: io::Result<Created>,
        ring: &mut Ring,
        notices: &mut Vec<Notice>,
    ) {
        let Some(file) = self.files.get_mut(&token) else { return };
        let result = result.and_then(|created| {
            let Created { file: descriptor, block, direct } = created;
            let id = ring.add_file(descriptor).map_err(|(_, error)| error)?;
            Ok((id, block, direct))
        });
        let answer = match result {
            Ok((id, block, direct)) => {
                file.id = Some(id);
                file.allocated = ALLOCATION_BYTES;
                ring.allocate(id, 0, ALLOCATION_BYTES, join(token, ALLOCATION));
                if !direct && !std::mem::replace(&mut self.told_buffered, true) {
                    let text =
                        "this file system takes no O_DIRECT; recordings go through the page cache".to_owned();
                    notices.push(about(Level::Warning, text));
                }
                Ok(block)
            }
            Err(error) => {
                let fault = fault_of(&error);
                if fault != Fault::Exists {
                    let text = format!("cannot create {}: {error}", file.path.display());
                    notices.push(about(Level::Alarm, text));
                }
                Err(fault)
            }
        };
        let (recording, segment) = (file.recording, file.segment);
        if answer.is_err() {
            self.files.remove(&token);
            if answer != Err(Fault::Exists) {
                self.tokens.remove(&(recording, segment));
            }
        }
        self.answers.push_back((recording, RecordAnswer::Opened(segment, answer)));
    }

    fn append(
        &mut self,
        recording: RecordingId,
        segment: SegmentId,
        offset: u64,
        fragment: Fragment,
        ring: &mut Ring,
    ) {
        let token = self.tokens.get(&(recording, segment)).copied();
        let Some((token, file)) = token.and_then(|token| Some((token, self.files.get_mut(&token)?))) else {
            self.answers.push_back((recording, RecordAnswer::Appended(segment, Err(Fault::Failed))));
            return;
        };
        let number = file.next;
        file.next += 1;
        file.fragments.push_back(Pending { number, offset, state: Writing::Waiting(fragment) });
        if self.starved.contains(&token) || !self.submit(token, ring) {
            self.starved.push_back(token);
        }
    }

    /// Submits the fragments of a file that wait for a buffer. False when there was none for one of them.
    fn submit(&mut self, token: Token, ring: &mut Ring) -> bool {
        let Some(file) = self.files.get_mut(&token) else { return true };
        let Some(id) = file.id else { return true };
        for pending in &mut file.fragments {
            let Writing::Waiting(fragment) = &pending.state else { continue };
            let length = fragment.len();
            let Some(mut buffer) = ring.buffer(length) else { return false };
            fragment.write_into(&mut buffer[..length]);
            let end = pending.offset + length as u64;
            if end + ALLOCATION_BYTES / 2 > file.allocated {
                let from = file.allocated;
                file.allocated = end.next_multiple_of(ALLOCATION_BYTES) + ALLOCATION_BYTES;
                ring.allocate(id, from, file.allocated - from, join(token, ALLOCATION));
            }
            ring.write(id, buffer, length, pending.offset, join(token, pending.number));
            pending.state = Writing::Submitted;
        }
        true
    }

    fn feed_starved(&mut self, ring: &mut Ring) {
        while let Some(token) = self.starved.front().copied() {
            if !self.submit(token, ring) {
                return;
            }
            self.starved.pop_front();
        }
    }

    fn wrote(&mut self, token: Token, number: u64, result: io::Result<()>, synced: bool, ring: &mut Ring) {
        let Some(file) = self.files.get_mut(&token) else { return };
        let Some(pending) = file.fragments.iter_mut().find(|pending| pending.number & NUMBER_MASK == number)
        else {
            return;
        };
        match (result, file.id) {
            (Ok(()), Some(id)) if !synced && self.recordings.sync == Sync::Fragment => {
                pending.state = Writing::Syncing;
                ring.sync(id, join(token, pending.number));
            }
            (result, _) => pending.state = Writing::Done(result.map_err(|error| fault_of(&error))),
        }
        while let Some(Pending { state: Writing::Done(result), .. }) = file.fragments.front() {
            self.answers.push_back((file.recording, RecordAnswer::Appended(file.segment, *result)));
            file.fragments.pop_front();
        }
    }

    fn finish(&mut self, recording: RecordingId, segment: SegmentId, length: u64, ring: &mut Ring) {
        let token = self.tokens.get(&(recording, segment)).copied();
        let Some((token, file)) = token.and_then(|token| Some((token, self.files.get_mut(&token)?))) else {
            self.answers.push_back((recording, RecordAnswer::Finished(segment, Ok(()))));
            return;
        };
        file.closing = Some(length);
        self.close_when_idle(token, ring);
    }

    /// Gives the file to the helper once the kernel has let go of it.
    fn close_when_idle(&mut self, token: Token, ring: &mut Ring) {
        let Some(file) = self.files.get_mut(&token) else { return };
        let (Some(length), Some(id)) = (file.closing, file.id) else { return };
        if ring.file_operations(id) > 0 || !file.fragments.is_empty() {
            return;
        }
        file.id = None;
        if let Some(descriptor) = ring.take_file(id) {
            let sync = self.recordings.sync != Sync::None;
            self.helper.close(token.0, descriptor, file.path.clone(), length, sync);
        }
    }

    fn closed(&mut self, token: Token, result: io::Result<()>, notices: &mut Vec<Notice>) {
        let Some(file) = self.files.remove(&token) else { return };
        self.tokens.remove(&(file.recording, file.segment));
        let result = result.map_err(|error| {
            notices.push(about(Level::Alarm, format!("closing {}: {error}", file.path.display())));
            fault_of(&error)
        });
        self.answers.push_back((file.recording, RecordAnswer::Finished(file.segment, result)));
    }
}

/// The low bits of a ring token number the fragment, the high bits the file. A file has a handful of fragments under way,
/// so that the number may wrap.
const NUMBER_BITS: u32 = 24;
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;

fn join(token: Token, number: u64) -> u64 {
    token.0 << NUMBER_BITS | number & NUMBER_MASK
}

fn split(token: u64) -> (Token, u64) {
    (Token(token >> NUMBER_BITS), token & NUMBER_MASK)
}

pub(crate) fn fault_of(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::AlreadyExists => Fault::Exists,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Fault::Full,
        _ => Fault::Failed,
    }
}

fn about(level: Level, text: String) -> Notice {
    Notice { level, peer: None, door: "record", stream: None, text, at: None }
}

/// A file as [`scan`](shardcast_engine::record::scan::scan) reads it.
pub struct OnDisk<'a>(pub &'a fs::File);

impl ReadAt for OnDisk<'_> {
    type Error = io::Error;

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let (_, rest) = buffer.split_at_mut(filled);
            match self.0.read_at(rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}
