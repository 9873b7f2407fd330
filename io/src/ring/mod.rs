//! The hot path: one raw io_uring per shard, owned by one driver task inside the shard's executor.
//!
//! The driver queues operations (`listen`, `receive`, `receive_datagrams`, `send`, `write`), calls [`Ring::submit`] once per round, and
//! takes what happened from [`Ring::next`]. It sleeps in [`Ring::ready`], and only while operations are in flight.
//! Nothing else here waits, with one exception: dropping a ring waits until the kernel has let go of all memory.
//!
//! Everything that the kernel may still read or write (payloads, buffers, descriptors) is owned by the ring until the
//! completion of its operation. The memory of provided and aligned buffers is in [`crate::buffer`].

mod completion;
mod datagram;
mod file;
mod listener;
mod message;
mod packets;
mod socket;
mod wait;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use io_uring::{IoUring, Submitter, cqueue, opcode, squeue, types};

use crate::buffer::{AlignedBuffer, ReceivePool, WritePool};
use crate::probe;
use crate::slots::{Key, Slots};
pub use completion::{Completion, End};
use completion::{Kind, Operation};
pub use datagram::Datagram;
use datagram::{DATAGRAM_SOCKETS_MAX, DatagramSocket};
pub use file::FileId;
use file::{FileOperation, OpenFile};
use listener::Listening;
use socket::Socket;
pub use socket::SocketId;
use wait::Wakeup;
pub use wait::readable;

/// How large a ring's tables and buffers are.
#[derive(Clone, Debug)]
pub struct RingConfig {
    /// Operations that may be queued between two enters; more make an enter of their own. 256 was as good as 1024 for
    /// fan-out, and 64 cost 15 %.
    pub entries: u32,
    /// Completions that wait in shared memory; more wait in the kernel, which is slower but loses none.
    pub completions: u32,
    /// Sockets of this ring, 8 bytes of kernel memory each. Bounded by RLIMIT_NOFILE too; one more is refused.
    pub sockets: u32,
    /// Files of this ring. One more is refused.
    pub files: u32,
    /// Buffers that receives of all sockets share; a power of two.
    pub receive_buffers: u16,
    /// Size of one of them.
    pub receive_buffer_bytes: u32,
    /// Buffers that sockets for datagrams share, each for the largest; a power of two. Made with the first such socket, and in
    /// memory as far as datagrams have filled them: a page each for those of a usual MTU.
    pub datagram_buffers: u16,
    /// Registered memory for file writes. It counts against RLIMIT_MEMLOCK.
    pub write_buffer_bytes: usize,
    /// How much more than that file writes may take from the heap.
    pub write_heap_bytes: usize,
}

impl Default for RingConfig {
    fn default() -> Self {
        RingConfig {
            entries: 256,
            completions: 8192,
            sockets: 1 << 16,
            files: 1 << 12,
            receive_buffers: 256,
            receive_buffer_bytes: 16 << 10,
            datagram_buffers: 256,
            write_buffer_bytes: 2 << 20,
            write_heap_bytes: 256 << 20,
        }
    }
}

/// What a ring has done since it was made.
#[derive(Clone, Copy, Default, Debug)]
pub struct RingStats {
    /// System calls into the ring.
    pub enters: u64,
    /// Connections accepted.
    pub accepts: u64,
    /// Completions with bytes from a peer.
    pub receives: u64,
    /// Bytes from peers.
    pub receive_bytes: u64,
    /// Times a socket found no free receive buffer and had to be armed again.
    pub receives_starved: u64,
    /// Completed sends.
    pub sends: u64,
    /// Bytes taken by peers' sockets.
    pub send_bytes: u64,
    /// Sends that took only a part.
    pub sends_short: u64,
    /// Completed file writes.
    pub writes: u64,
    /// Bytes written to files.
    pub write_bytes: u64,
}

/// The ring. It belongs to the thread that made it, as the kernel demands, and cannot leave it.
pub struct Ring {
    // Declared first, so that the kernel's side is closed before the memory below is freed.
    uring: IoUring,
    wakeup: Wakeup,
    /// Taken from the completion queue, not yet looked at.
    reaped: VecDeque<cqueue::Entry>,
    /// What the caller is to hear next without the kernel having said it just now.
    ready: VecDeque<Completion>,
    /// Entries that found the submission queue full while the kernel refused to take any.
    backlog: VecDeque<squeue::Entry>,
    listeners: Slots<Listening>,
    datagrams: Slots<DatagramSocket>,
    sockets: Slots<Socket>,
    files: Slots<OpenFile>,
    file_operations: Slots<FileOperation>,
    /// Sockets whose receive ended for want of a buffer, first come first served.
    starved: VecDeque<Key>,
    /// Sockets for datagrams in the same state.
    datagrams_starved: usize,
    receive_buffers: Rc<ReceivePool>,
    datagram_buffers: Option<Rc<ReceivePool>>,
    datagram_buffer_count: u16,
    write_buffers: Rc<WritePool>,
    /// Where in the registered table files begin (sockets come first); none when descriptors are passed plainly.
    registered_files_from: Option<u32>,
    /// Operations that the kernel has, or will get, and has not completed for good.
    operations: usize,
    /// Those of them that are receives into memory of the caller's.
    receiving_once: usize,
    /// Entries in the submission queue.
    queued: usize,
    stats: RingStats,
}

impl Ring {
    /// Makes the ring of the calling thread.
    pub fn new(config: &RingConfig) -> io::Result<Ring> {
        let uring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            // Without this flag the crate's `submit` never asks the kernel to run deferred work, and nothing completes.
            .setup_taskrun_flag()
            // One bad entry completes with its error instead of holding up those behind it.
            .setup_submit_all()
            .setup_cqsize(config.completions)
            .build(config.entries)
            .map_err(probe::explain)?;
        probe::require_operations(&uring.submitter())?;
        let wakeup = Wakeup::new()?;
        let receive_buffers = ReceivePool::new(config.receive_buffers, config.receive_buffer_bytes)?;
        receive_buffers.touch();
        receive_buffers.register(&uring.submitter(), RECEIVE_GROUP)?;
        let write_buffers = WritePool::new(config.write_buffer_bytes, config.write_heap_bytes);
        if config.write_buffer_bytes > 0 {
            // A small RLIMIT_MEMLOCK refuses this; the probe tells the operator, and writes work without.
            let _ = write_buffers.register(&uring.submitter());
        }
        let descriptors = u32::try_from(probe::nofile_limit()?).unwrap_or(u32::MAX);
        // No more can be open, and the kernel refuses a table larger than that.
        let files = config.files.min(descriptors / 4);
        let sockets = config.sockets.min(descriptors - files);
        let registered = register_table(&uring.submitter(), sockets + files);
        Ok(Ring {
            uring,
            wakeup,
            reaped: VecDeque::new(),
            ready: VecDeque::new(),
            backlog: VecDeque::new(),
            listeners: Slots::new(LISTENERS_MAX),
            datagrams: Slots::new(DATAGRAM_SOCKETS_MAX),
            sockets: Slots::new(sockets),
            files: Slots::new(files),
            file_operations: Slots::new(u32::MAX),
            starved: VecDeque::new(),
            datagrams_starved: 0,
            receive_buffers,
            datagram_buffers: None,
            datagram_buffer_count: config.datagram_buffers,
            write_buffers,
            registered_files_from: registered.then_some(sockets),
            operations: 0,
            receiving_once: 0,
            queued: 0,
            stats: RingStats::default(),
        })
    }

    /// Hands what was queued to the kernel and lets it run what it deferred: at most a few system calls, and none when
    /// there is nothing to do. Never waits.
    pub fn submit(&mut self) -> io::Result<()> {
        self.receive_again_where_starved();
        loop {
            self.push_backlog();
            if self.queued == 0 && !self.has_deferred_work() {
                return Ok(());
            }
            let before = self.queued;
            match self.enter() {
                // It took some but not all, and there is more to come.
                Ok(()) if !self.backlog.is_empty() && self.queued < before => {}
                Ok(()) => return Ok(()),
                // The kernel is short of something for the moment. What is queued stays queued.
                Err(error) if is_transient(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// The next thing that happened, or `None` when nothing more has by now.
    // Not an iterator: between two calls the caller queues more on the same ring.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Completion> {
        loop {
            if let Some(completion) = self.ready.pop_front() {
                return Some(completion);
            }
            if self.reaped.is_empty() {
                self.reaped.extend(self.uring.completion());
            }
            let entry = self.reaped.pop_front()?;
            if let Some(completion) = self.complete(&entry) {
                return Some(completion);
            }
        }
    }

    /// Whose send or receive will be reported so many after the next that [`Ring::next`] reports, so that what is kept of
    /// it elsewhere can be fetched meanwhile. `None` where the kernel's next report is something else, or not known yet.
    pub fn upcoming(&self, after: usize) -> Option<SocketId> {
        let Operation { kind, key } = Operation::from_bits(self.reaped.get(after)?.user_data());
        matches!(kind, Kind::Send | Kind::Receive).then_some(SocketId(key))
    }

    /// Whether the kernel has something that it will complete one day, so that sleeping on the descriptor makes sense.
    pub fn in_flight(&self) -> bool {
        self.operations > 0
    }

    /// Receives into memory of the caller's that the kernel has not completed.
    pub fn receiving_once(&self) -> usize {
        self.receiving_once
    }

    /// Operations that wait for the next [`Ring::submit`]. Do not sleep while there are some.
    pub fn pending(&self) -> usize {
        let receives = self.starved.len().min(self.receive_buffers.free());
        let datagrams = usize::from(self.datagrams_starved > 0 && self.has_datagram_buffers());
        self.queued + self.backlog.len() + self.ready.len() + receives + datagrams
    }

    /// Sleeps until the kernel has something to report; then call [`Ring::submit`] and [`Ring::next`]. Returns at once
    /// when there is something already. Must be polled inside a glommio executor and may be dropped at any time, for
    /// instance because a timer or the doorbell was first. It costs about ten system calls, so it is for when there
    /// is nothing else to do.
    ///
    /// The ring's own descriptor is no help here: with DEFER_TASKRUN newer kernels (seen on 6.18) report work that
    /// waits for us when they are asked, but wake no poll that sleeps already. An eventfd is signalled by all of them.
    pub async fn ready(&mut self) {
        // First lower the flag, then look, then sleep: what comes after the look raises the flag again.
        if self.wakeup.register(&self.uring.submitter()).is_err() {
            return glommio::timer::sleep(READY_RETRY).await;
        }
        self.wakeup.clear();
        if self.pending() == 0 && !self.has_deferred_work() && self.uring.completion().is_empty() {
            readable(self.wakeup.as_fd()).await;
        }
    }

    /// Submits what was queued and sleeps until the kernel has `completions` things to report or `pause` has passed: one
    /// system call, where [`ready`](Self::ready) takes ten. It blocks the thread, and so every other task of its
    /// executor: for pauses that those can bear.
    ///
    /// # Errors
    /// The kernel refuses the ring.
    pub fn wait(&mut self, completions: usize, pause: Duration) -> io::Result<()> {
        self.receive_again_where_starved();
        self.push_backlog();
        let idle = self.backlog.is_empty() && self.ready.is_empty() && self.reaped.is_empty();
        if !idle || !self.uring.completion().is_empty() {
            return self.submit();
        }
        // Whoever blocks here needs no flag, and raising it would cost the kernel something for each completion.
        self.wakeup.unregister(&self.uring.submitter())?;
        let pause = types::Timespec::from(pause);
        self.stats.enters += 1;
        let result =
            self.uring.submitter().submit_with_args(completions, &types::SubmitArgs::new().timespec(&pause));
        self.queued = self.uring.submission().len();
        match result {
            Err(error) if error.raw_os_error() == Some(libc::ETIME) || is_transient(&error) => Ok(()),
            result => result.map(drop),
        }
    }

    /// What this ring has done so far.
    pub fn stats(&self) -> RingStats {
        self.stats
    }

    /// A page-aligned buffer of at least `bytes` for [`Ring::write`], or none when the pool and its allowance on the
    /// heap are used up by writes that the disk has not taken yet.
    pub fn buffer(&mut self, bytes: usize) -> Option<AlignedBuffer> {
        self.write_buffers.take(bytes)
    }

    fn complete(&mut self, entry: &cqueue::Entry) -> Option<Completion> {
        let more = cqueue::more(entry.flags());
        if !more {
            self.operations -= 1;
        }
        let result = match entry.result() {
            error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
            value => Ok(value as usize),
        };
        let Operation { kind, key } = Operation::from_bits(entry.user_data());
        match kind {
            Kind::Accept => self.accepted(key, result, more),
            Kind::Receive => self.received(key, result, cqueue::buffer_select(entry.flags()), more),
            Kind::Send => self.sent(key, result),
            Kind::File => self.file_done(key, result),
            Kind::Datagram => self.datagram(key, result, cqueue::buffer_select(entry.flags()), more),
            // What was cancelled says so itself; that it had already ended is no news either.
            Kind::Cancel => None,
        }
    }

    fn push(&mut self, entry: squeue::Entry, operation: Operation) {
        let entry = entry.user_data(operation.to_bits());
        self.operations += 1;
        // Behind a backlog everything queues up, or a cancellation could overtake what it is to cancel.
        if self.backlog.is_empty()
            && (self.push_now(&entry) || (self.enter().is_ok() && self.push_now(&entry)))
        {
            return;
        }
        self.backlog.push_back(entry);
    }

    fn push_now(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: whatever the entry points to (payload, buffer, address, descriptor) is owned by a table of this ring that
        // keeps it until the operation's last completion; see `send`, `write` and `add`. The tables, in turn, live
        // until `drop` has seen all operations end, or are leaked.
        let pushed = unsafe { self.uring.submission().push(entry) }.is_ok();
        self.queued += usize::from(pushed);
        pushed
    }

    fn push_backlog(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.push_now(&entry) {
                self.backlog.push_front(entry);
                return;
            }
        }
    }

    fn cancel(&mut self, target: Operation) {
        let entry = opcode::AsyncCancel::new(target.to_bits()).build();
        self.push(entry, Operation { kind: Kind::Cancel, key: target.key });
    }

    fn enter(&mut self) -> io::Result<()> {
        self.stats.enters += 1;
        let result = self.uring.submit();
        self.queued = self.uring.submission().len();
        result.map(drop)
    }

    fn has_deferred_work(&mut self) -> bool {
        let submission = self.uring.submission();
        submission.taskrun() || submission.cq_overflow()
    }

    /// How an entry names a descriptor: by its place in the registered table, or plainly.
    fn address(&self, place: u32, descriptor: BorrowedFd<'_>) -> (types::Fd, squeue::Flags) {
        match self.registered_files_from {
            Some(_) => (types::Fd(place as RawFd), squeue::Flags::FIXED_FILE),
            None => (types::Fd(descriptor.as_raw_fd()), squeue::Flags::empty()),
        }
    }

    fn register(&self, place: u32, descriptor: RawFd) -> io::Result<()> {
        if self.registered_files_from.is_none() {
            return Ok(());
        }
        self.uring.submitter().register_files_update(place, &[descriptor]).map(drop)
    }

    fn unregister(&self, place: u32) {
        let result = self.register(place, EMPTY_PLACE);
        debug_assert!(result.is_ok(), "emptying a place of our own table: {result:?}");
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let entry = opcode::AsyncCancel2::new(types::CancelBuilder::any()).build();
        let everything = Operation { kind: Kind::Cancel, key: Key { index: 0, generation: 0 } };
        self.listeners.values_mut().for_each(Listening::abandon);
        self.datagrams.values_mut().for_each(DatagramSocket::abandon);
        self.sockets.values_mut().for_each(Socket::abandon);
        self.push(entry, everything);
        let deadline = Instant::now() + DROP_WAIT_MAX;
        while self.operations > 0 && Instant::now() < deadline {
            let step = types::Timespec::from(Duration::from_millis(20));
            let _ = self.uring.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&step));
            self.queued = self.uring.submission().len();
            self.push_backlog();
            while self.next().is_some() {}
        }
        if self.operations > 0 {
            // A disk that does not answer holds its write for ever, and the kernel may still read that memory. Losing
            // it for the rest of the process is the smaller evil.
            std::mem::forget(std::mem::replace(&mut self.datagrams, Slots::new(0)));
            std::mem::forget(std::mem::replace(&mut self.sockets, Slots::new(0)));
            std::mem::forget(std::mem::replace(&mut self.file_operations, Slots::new(0)));
            std::mem::forget(Rc::clone(&self.receive_buffers));
            std::mem::forget(self.datagram_buffers.take());
            std::mem::forget(Rc::clone(&self.write_buffers));
        }
    }
}

/// The registered table of descriptors, where it pays; true when it is there.
///
/// Before 6.13 the kernel lets go of an unregistered file only after every operation that was started before, on any
/// file, has ended. One publisher's receive lasts for hours, and for so long no closed viewer's socket would really
/// close. There, descriptors are passed plainly; the difference in cost is too small to measure.
fn register_table(submitter: &Submitter<'_>, places: u32) -> bool {
    probe::kernel_version() >= (6, 13) && submitter.register_files_sparse(places).is_ok()
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ENOMEM))
}

/// How long the sleep is when the kernel does not take the flag, for want of memory.
const READY_RETRY: Duration = Duration::from_millis(5);
/// Listening sockets of one ring: a door each, with a few addresses.
const LISTENERS_MAX: u32 = 64;
/// The group of provided buffers for connections.
const RECEIVE_GROUP: u16 = 0;
/// The same for datagrams.
const DATAGRAM_GROUP: u16 = 1;
/// What the kernel takes for "no file here" in the registered table.
const EMPTY_PLACE: RawFd = -1;
/// How long dropping a ring waits for the kernel. A healthy one lets go at once.
const DROP_WAIT_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
