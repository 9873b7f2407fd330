//! Files to record into: opening one for O_DIRECT, ending it at its true length, and the helper thread that does both
//! for a shard, because they block. The writes between are the ring's ([`crate::ring::Ring::write`]).

use std::collections::VecDeque;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};

use crate::buffer::{BUFFER_ALIGNMENT, WritePool};
use crate::cpu;
use crate::lane::{Doorbell, Receiver, Sender, lane};
use crate::system::checked;

/// A file that was made to be recorded into.
#[derive(Debug)]
pub struct Created {
    /// The file, open for writing; it belongs into a ring.
    pub file: OwnedFd,
    /// What each write's offset and length are a multiple of.
    pub block: u32,
    /// Whether writes go past the page cache. Where the file system offers no O_DIRECT they go through it.
    pub direct: bool,
}

/// Makes a file for recording, and the directories above it. Never opens one that exists. Blocks.
pub fn create(path: &Path) -> io::Result<Created> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    // Opened without O_DIRECT first: where that is refused, an open with both flags may leave an empty file behind and
    // then find its own work in the way.
    let file = OpenOptions::new().write(true).create_new(true).open(path)?;
    mark_as_written(&file);
    match direct_block(&file).and_then(|block| block.map(|block| make_direct(&file, block)).transpose()) {
        Ok(Some(block)) => Ok(Created { file: file.into(), block, direct: true }),
        Ok(None) => Ok(Created { file: file.into(), block: BUFFER_ALIGNMENT as u32, direct: false }),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            set_direct(&file, false)?;
            Ok(Created { file: file.into(), block: BUFFER_ALIGNMENT as u32, direct: false })
        }
        Err(error) => {
            // For instance a full disk. An empty file that nobody asked for should not stay.
            let _ = fs::remove_file(path);
            Err(error)
        }
    }
}

/// Ends a recorded file: cuts what was allocated ahead, and with `sync` makes it durable, its name included. With a
/// length of 0 nothing of it is worth keeping, and it is removed. Blocks.
pub fn close(file: OwnedFd, path: &Path, length: u64, sync: bool) -> io::Result<()> {
    if length == 0 {
        drop(file);
        return fs::remove_file(path);
    }
    let file = File::from(file);
    file.set_len(length)?;
    if sync {
        file.sync_all()?;
        // The name is the directory's data.
        if let Some(directory) = path.parent() {
            File::open(directory)?.sync_all()?;
        }
    }
    Ok(())
}

/// What room a file system has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this process may still take.
    pub available: u64,
    /// Bytes it has in all.
    pub total: u64,
}

/// The room on the file system that holds a path. Blocks, as a network's file system may.
pub fn space(path: &Path) -> io::Result<Space> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut status = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends with a NUL and the other pointer is to writable memory of the right type; both outlive the
    // call.
    checked(unsafe { libc::statvfs(path.as_ptr(), status.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it has filled the structure.
    let status = unsafe { status.assume_init() };
    let bytes = |blocks: u64| blocks.saturating_mul(status.f_frsize);
    Ok(Space { available: bytes(status.f_bavail), total: bytes(status.f_blocks) })
}

/// The block for O_DIRECT on a file: what its file system says, or what most use where it cannot say. `None` where there
/// is no O_DIRECT, or none that our buffers' alignment satisfies.
fn direct_block(file: &File) -> io::Result<Option<u32>> {
    let mut status = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is an empty C string, which with AT_EMPTY_PATH names the descriptor itself, and the other pointer
    // is to writable memory of the right type; both outlive the call.
    checked(unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            status.as_mut_ptr(),
        )
    })?;
    // SAFETY: the structure is plain integers, zeroed above and then filled by the kernel as far as it can.
    let status = unsafe { status.assume_init() };
    if status.stx_mask & libc::STATX_DIOALIGN == 0 {
        return Ok(Some(BUFFER_ALIGNMENT as u32));
    }
    let (memory, offset) = (status.stx_dio_mem_align, status.stx_dio_offset_align);
    if memory == 0 || offset == 0 || memory as usize > BUFFER_ALIGNMENT || offset > BLOCK_BYTES_MAX {
        return Ok(None);
    }
    // Where a disk takes less, the file system's own blocks do not: a part of one makes it read the rest first.
    Ok(Some(offset.max(BUFFER_ALIGNMENT as u32)))
}

/// Locks the file for as long as its descriptor is open, for whoever looks at it from another process: a file that is
/// still written has a tail like one that a crash left. A file system without locks keeps its files unmarked.
fn mark_as_written(file: &File) {
    let _ = file.try_lock();
}

/// Switches to O_DIRECT and tries it, for a file system may promise more than it does. The block of zeros that this
/// writes is overwritten by the first real one.
fn make_direct(file: &File, block: u32) -> io::Result<u32> {
    set_direct(file, true)?;
    let pool = WritePool::new(block as usize, 0);
    let zeros = pool.take(block as usize).expect("the pool was made for this one");
    file.write_all_at(&zeros[..block as usize], 0)?;
    Ok(block)
}

fn set_direct(file: &File, direct: bool) -> io::Result<()> {
    // SAFETY: the call takes no memory.
    let flags = checked(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) })?;
    let flags = if direct { flags | libc::O_DIRECT } else { flags & !libc::O_DIRECT };
    // SAFETY: the call takes no memory.
    checked(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags) }).map(drop)
}

/// Beyond this a fragment's padding would outweigh it.
const BLOCK_BYTES_MAX: u32 = 64 << 10;

/// A thread of its own for a shard's blocking work on files. Requests are done in order; each is answered by a reply
/// with its token, and the shard's doorbell is rung. Dropping the helper waits until all requests are done.
pub struct Helper {
    /// `None` only while being dropped.
    requests: Option<Sender<Request>>,
    /// Requests that found the lane full. There are no more than the caller has files.
    waiting: VecDeque<Request>,
    replies: Receiver<Reply>,
    bell: Arc<Doorbell>,
    thread: Option<JoinHandle<()>>,
}

/// What came of a request.
#[derive(Debug)]
pub enum Reply {
    /// Of [`Helper::create`].
    Created {
        /// The caller's.
        token: u64,
        /// The file, or why there is none.
        result: io::Result<Created>,
    },
    /// Of [`Helper::close`].
    Closed {
        /// The caller's.
        token: u64,
        /// Whether the file has its true length and, if asked, is durable.
        result: io::Result<()>,
    },
}

struct Request {
    token: u64,
    what: What,
}

enum What {
    Create { path: PathBuf },
    Close { file: OwnedFd, path: PathBuf, length: u64, sync: bool },
}

impl Helper {
    /// Starts the thread. `bell` is the doorbell of the shard that takes the replies.
    pub fn start(bell: Arc<Doorbell>) -> io::Result<Helper> {
        let (requests, taken) = lane(REQUESTS_MAX);
        let (answered, replies) = lane(REQUESTS_MAX);
        let own_bell = Arc::new(Doorbell::new());
        let work =
            Work { requests: taken, replies: answered, own_bell: Arc::clone(&own_bell), shard_bell: bell };
        let thread = thread::Builder::new().name("files".into()).spawn(move || work.run())?;
        Ok(Helper {
            requests: Some(requests),
            waiting: VecDeque::new(),
            replies,
            bell: own_bell,
            thread: Some(thread),
        })
    }

    /// Asks for [`create`].
    pub fn create(&mut self, token: u64, path: PathBuf) {
        self.ask(Request { token, what: What::Create { path } });
    }

    /// Asks for [`close`].
    pub fn close(&mut self, token: u64, file: OwnedFd, path: PathBuf, length: u64, sync: bool) {
        self.ask(Request { token, what: What::Close { file, path, length, sync } });
    }

    /// Whether a reply waits. What the doorbell's `has_more` asks.
    pub fn has_replies(&self) -> bool {
        !self.replies.is_empty()
    }

    /// The next reply.
    pub fn next_reply(&mut self) -> Option<Reply> {
        let reply = self.replies.pop();
        if reply.is_some() {
            self.hand_over();
        }
        reply
    }

    fn ask(&mut self, request: Request) {
        self.waiting.push_back(request);
        self.hand_over();
    }

    fn hand_over(&mut self) {
        let Some(requests) = &mut self.requests else { return };
        let waited = self.waiting.len();
        while let Some(request) = self.waiting.pop_front() {
            if let Err(request) = requests.push(request) {
                self.waiting.push_front(request);
                break;
            }
        }
        if self.waiting.len() < waited {
            self.bell.ring();
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // The lane gives room as the thread works, and it needs no room for replies any more once we take them.
        while !self.waiting.is_empty() {
            while self.replies.pop().is_some() {}
            self.hand_over();
            thread::sleep(REPLY_RETRY);
        }
        self.requests = None;
        self.bell.ring();
        if let Some(thread) = self.thread.take() {
            while !thread.is_finished() {
                while self.replies.pop().is_some() {}
                thread::sleep(REPLY_RETRY);
            }
            // A panic there has been reported by the panic hook, and there is nobody to tell.
            let _ = thread.join();
        }
    }
}

/// What the helper's thread has.
struct Work {
    requests: Receiver<Request>,
    replies: Sender<Reply>,
    own_bell: Arc<Doorbell>,
    shard_bell: Arc<Doorbell>,
}

impl Work {
    fn run(mut self) {
        // Beside its shard on one core it would take the time that it is to save. Where setting it free fails, the
        // scheduler shares the core between the two.
        let _ = cpu::unpin_current();
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        loop {
            while let Some(request) = self.requests.pop() {
                let reply = request.perform();
                self.reply(reply);
            }
            // Abandoned first, empty second: what was pushed before the lane was abandoned is visible then.
            if self.requests.is_abandoned() && self.requests.is_empty() {
                return;
            }
            let more = || !self.requests.is_empty() || self.requests.is_abandoned();
            if self.own_bell.arm(&Context::from_waker(&waker), more) == Poll::Pending {
                thread::park();
            }
        }
    }

    fn reply(&mut self, mut reply: Reply) {
        while let Err(refused) = self.replies.push(reply) {
            // The shard takes replies whenever it is awake, and this rings it awake.
            reply = refused;
            self.shard_bell.ring();
            thread::sleep(REPLY_RETRY);
        }
        self.shard_bell.ring();
    }
}

impl Request {
    fn perform(self) -> Reply {
        let token = self.token;
        match self.what {
            What::Create { path } => Reply::Created { token, result: create(&path) },
            What::Close { file, path, length, sync } => {
                Reply::Closed { token, result: close(file, &path, length, sync) }
            }
        }
    }
}

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Requests, and replies, in the lanes between a shard and its helper. More wait with the shard.
const REQUESTS_MAX: usize = 256;
/// How long the helper waits for a shard that does not take its replies, and a shard that ends for its helper.
const REPLY_RETRY: std::time::Duration = std::time::Duration::from_millis(1);

#[cfg(test)]
mod tests;
