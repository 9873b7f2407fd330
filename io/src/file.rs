//! Files that are only appended to, and the helper thread that does with them what would block a shard: making their
//! directories, opening, cutting to length, forcing to the disk, removing.
//!
//! Writing itself is [`crate::ring`]'s.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;

use crossbeam_queue::SegQueue;

use crate::lane::Doorbell;
use crate::system::checked;

/// A file that was created.
#[derive(Debug)]
pub struct Created {
    /// The descriptor, for the ring.
    pub file: OwnedFd,
    /// Offsets, lengths and memory of its writes are multiples of this; a power of two.
    pub block: u32,
    /// Writes pass by the page cache. False where the file system has no O_DIRECT.
    pub direct: bool,
}

/// What the helper has done.
#[derive(Debug)]
pub enum Reply {
    /// The answer to [`Helper::create`].
    Created {
        /// The caller's.
        token: u64,
        /// The file, or why there is none.
        result: io::Result<Created>,
    },
    /// The answer to [`Helper::close`].
    Closed {
        /// The caller's.
        token: u64,
        /// What came of it.
        result: io::Result<()>,
    },
}

enum Request {
    Create { token: u64, path: PathBuf },
    Close { token: u64, file: OwnedFd, path: PathBuf, length: u64, sync: bool },
}

/// The helper thread of one shard. It ends when this is dropped and what was asked before is done.
pub struct Helper {
    requests: mpsc::Sender<Request>,
    /// Never holds more than one reply per request that is open.
    replies: Arc<SegQueue<Reply>>,
}

impl Helper {
    /// Starts the thread; it rings `bell` after each reply.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(bell: Arc<Doorbell>) -> io::Result<Helper> {
        let (requests, asked) = mpsc::channel();
        let replies = Arc::new(SegQueue::new());
        let answered = Arc::clone(&replies);
        thread::Builder::new().name("shardcast-files".into()).spawn(move || {
            for request in asked {
                answered.push(carry_out(request));
                bell.ring();
            }
        })?;
        Ok(Helper { requests, replies })
    }

    /// Creates a file and the directories above it. Never opens one that exists: that is an error of the kind
    /// `AlreadyExists`.
    pub fn create(&self, token: u64, path: PathBuf) {
        self.ask(Request::Create { token, path });
    }

    /// Cuts a file to its length, forces it to the disk if `sync` says so, and closes it. With a length of 0 nothing of it
    /// is worth keeping, and it is removed.
    pub fn close(&self, token: u64, file: OwnedFd, path: PathBuf, length: u64, sync: bool) {
        self.ask(Request::Close { token, file, path, length, sync });
    }

    /// Whether there is a reply to take.
    pub fn has_replies(&self) -> bool {
        !self.replies.is_empty()
    }

    /// The next reply.
    pub fn next_reply(&self) -> Option<Reply> {
        self.replies.pop()
    }

    fn ask(&self, request: Request) {
        if let Err(mpsc::SendError(request)) = self.requests.send(request) {
            // The thread is gone, which only a panic of its own explains. Whoever asked must still hear something.
            let lost = || io::Error::other("the thread that opens and closes files has ended");
            self.replies.push(match request {
                Request::Create { token, .. } => Reply::Created { token, result: Err(lost()) },
                Request::Close { token, .. } => Reply::Closed { token, result: Err(lost()) },
            });
        }
    }
}

fn carry_out(request: Request) -> Reply {
    match request {
        Request::Create { token, path } => Reply::Created { token, result: create(&path) },
        Request::Close { token, file, path, length, sync } => {
            Reply::Closed { token, result: close(File::from(file), &path, length, sync) }
        }
    }
}

fn create(path: &Path) -> io::Result<Created> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    match options.clone().custom_flags(libc::O_DIRECT).open(path) {
        Ok(file) => match direct_alignment(&file) {
            Some(block) => {
                mark_as_written(&file);
                return Ok(Created { file: file.into(), block, direct: true });
            }
            // It took the flag and says that it does not mean it.
            None => drop(file),
        },
        // A file system without O_DIRECT refuses the flag, some of them after having made the file.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
        Err(error) => return Err(error),
    }
    match fs::metadata(path) {
        Ok(left) if left.len() == 0 => fs::remove_file(path)?,
        _ => {}
    }
    let file = options.open(path)?;
    mark_as_written(&file);
    Ok(Created { file: file.into(), block: BUFFERED_BLOCK, direct: false })
}

/// Locks the file for as long as its descriptor is open, for whoever looks at it from another process: a file that is
/// still written has a tail like one that a crash left. A file system without locks keeps its files unmarked.
fn mark_as_written(file: &File) {
    let _ = file.try_lock();
}

/// Without O_DIRECT any length goes; whole pages keep files alike everywhere.
const BUFFERED_BLOCK: u32 = 4096;

/// The alignment that direct writes to `file` want, `None` where it has none to give. Kernels since 6.1 tell (statx with
/// DIOALIGN); where a file system does not, a page is right for every disk there is.
fn direct_alignment(file: &File) -> Option<u32> {
    let mut status = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the descriptor is open, the path is an empty C string, and `status` is memory for one statx that the kernel
    // fills.
    let result = checked(unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            status.as_mut_ptr(),
        )
    });
    if result.is_err() {
        return Some(PAGE);
    }
    // SAFETY: all zeros is a valid statx, and the kernel has written over it.
    let status = unsafe { status.assume_init() };
    if status.stx_mask & libc::STATX_DIOALIGN == 0 {
        return Some(PAGE);
    }
    let alignment = status.stx_dio_offset_align.max(status.stx_dio_mem_align);
    // At least a page: blocks of 512 bytes would save little and make files differ between disks.
    (status.stx_dio_offset_align > 0).then(|| alignment.next_power_of_two().max(PAGE))
}

const PAGE: u32 = 4096;

fn close(file: File, path: &Path, length: u64, sync: bool) -> io::Result<()> {
    if length == 0 {
        drop(file);
        return fs::remove_file(path);
    }
    file.set_len(length)?;
    if sync { file.sync_data() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Directory {
            let path = std::env::temp_dir().join(format!("shardcast-file-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Directory(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn wait(helper: &Helper) -> Reply {
        loop {
            match helper.next_reply() {
                Some(reply) => return reply,
                None => thread::sleep(std::time::Duration::from_millis(1)),
            }
        }
    }

    #[test]
    fn a_file_is_made_with_its_directories_and_never_over_another() {
        let directory = Directory::new("create");
        let path = directory.0.join("live/cam/one.mp4");
        let helper = Helper::start(Arc::new(Doorbell::new())).unwrap();
        helper.create(1, path.clone());
        let Reply::Created { token: 1, result: Ok(created) } = wait(&helper) else { panic!("not created") };
        assert!(created.block.is_power_of_two() && created.block >= 4096);
        helper.create(2, path.clone());
        let Reply::Created { token: 2, result: Err(error) } = wait(&helper) else { panic!("created twice") };
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(path.exists());
    }

    #[test]
    fn closing_cuts_to_length_or_removes() {
        let directory = Directory::new("close");
        let helper = Helper::start(Arc::new(Doorbell::new())).unwrap();
        for (token, length) in [(1, 5u64), (2, 0)] {
            let path = directory.0.join(format!("{token}.mp4"));
            helper.create(token, path.clone());
            let Reply::Created { result: Ok(created), .. } = wait(&helper) else { panic!("not created") };
            assert!(File::open(&path).unwrap().try_lock().is_err(), "a file that is written is locked");
            let file = File::from(created.file);
            file.set_len(100_000).unwrap();
            helper.close(token, file.into(), path.clone(), length, true);
            let Reply::Closed { token: closed, result: Ok(()) } = wait(&helper) else { panic!("not closed") };
            assert_eq!(closed, token);
            assert_eq!(
                fs::metadata(&path).ok().map(|metadata| metadata.len()),
                (length > 0).then_some(length)
            );
        }
    }

    #[test]
    fn a_file_system_that_is_memory_is_written_all_the_same() {
        let path = PathBuf::from(format!("/dev/shm/shardcast-file-{}/a.mp4", std::process::id()));
        let created = create(&path).unwrap();
        assert!(created.block >= 4096);
        drop(created);
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
