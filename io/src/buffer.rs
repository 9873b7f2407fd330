//! Memory that the kernel reads and writes while we do other things: the provided buffers that receives land in, and
//! the aligned buffers that O_DIRECT writes leave from. Both are pools made once per ring; a buffer that is dropped
//! goes back to its pool. A pool's memory lives until the ring and the last of its buffers are gone.
//!
//! What is sent to viewers is not here: that is `Bytes`, written once by the engine and shared.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::{fmt, io, slice};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// What every buffer's address is a multiple of. The page size, which satisfies each file system's O_DIRECT.
pub const BUFFER_ALIGNMENT: usize = 4096;

/// Bytes a peer sent, in the kernel's own provided buffer. Dropping it gives the buffer back to the kernel, so copy
/// what is to be kept and drop it soon: while all are held, no socket of this shard receives.
pub struct ReceiveBuffer {
    pool: Rc<ReceivePool>,
    id: u16,
    length: usize,
}

impl Deref for ReceiveBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let start = self.pool.address(self.id);
        // SAFETY: `start` begins a buffer of `buffer_bytes` initialised bytes inside the pool's memory, which `pool`
        // keeps; `take` has checked `length` against `buffer_bytes`. The kernel took the buffer off its ring when it
        // filled it and does not touch it before `give`, which only our drop calls.
        unsafe { slice::from_raw_parts(start.as_ptr(), self.length) }
    }
}

impl fmt::Debug for ReceiveBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReceiveBuffer({} bytes)", self.length)
    }
}

impl Drop for ReceiveBuffer {
    fn drop(&mut self) {
        self.pool.held.set(self.pool.held.get() - 1);
        self.pool.give(self.id);
    }
}

/// The provided buffers of one ring: memory for the bytes, and the ring of entries by which the kernel finds it.
pub(crate) struct ReceivePool {
    entries: Region,
    memory: Region,
    count: u16,
    buffer_bytes: u32,
    /// Where the next entry goes. The kernel's own position is not visible to us and need not be: there are as many
    /// entries as buffers, so the ring cannot overflow.
    tail: Cell<u16>,
    /// Buffers that are out in a [`ReceiveBuffer`].
    held: Cell<u16>,
}

impl ReceivePool {
    /// `count` buffers, all ready for the kernel. `count` is a power of two, as the kernel demands.
    pub fn new(count: u16, buffer_bytes: u32) -> io::Result<Rc<ReceivePool>> {
        if !count.is_power_of_two() || count > RECEIVE_BUFFERS_MAX || buffer_bytes == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "receive buffers: the count is a power of two up to 32768 and the size is not zero",
            ));
        }
        let pool = ReceivePool {
            entries: Region::new(usize::from(count) * size_of::<BufRingEntry>()),
            memory: Region::new(usize::from(count) * buffer_bytes as usize),
            count,
            buffer_bytes,
            tail: Cell::new(0),
            held: Cell::new(0),
        };
        (0..count).for_each(|id| pool.give(id));
        Ok(Rc::new(pool))
    }

    /// Has them all in memory from the start.
    pub fn touch(&self) {
        self.memory.touch();
    }

    /// Tells the kernel where the ring of entries is.
    pub fn register(&self, submitter: &Submitter<'_>, group: u16) -> io::Result<()> {
        let address = self.entries.start.as_ptr() as u64;
        // SAFETY: `address` is page-aligned and holds `count` entries. The ring that is registered here keeps an `Rc`
        // of this pool and lets it go only after all its operations have ended and it is closed (or never).
        unsafe { submitter.register_buf_ring_with_flags(address, self.count, group, 0) }
    }

    /// The buffer that a completion named, with the length it said.
    pub fn take(self: &Rc<Self>, id: u16, length: usize) -> ReceiveBuffer {
        assert!(id < self.count, "the kernel names buffers that it was given");
        assert!(length <= self.buffer_bytes as usize, "the kernel writes no more than a buffer holds");
        self.held.set(self.held.get() + 1);
        ReceiveBuffer { pool: Rc::clone(self), id, length }
    }

    /// Buffers that no [`ReceiveBuffer`] holds.
    pub fn free(&self) -> usize {
        usize::from(self.count - self.held.get())
    }

    /// Puts a buffer at the ring's tail, where the kernel may take it.
    fn give(&self, id: u16) {
        let tail = self.tail.get();
        let position = usize::from(tail & (self.count - 1));
        let first = self.entries.start.cast::<BufRingEntry>();
        // SAFETY: `position` is below `count`, and the region holds `count` entries.
        let entry = unsafe { first.add(position) };
        // SAFETY: the entry is inside the region and aligned; `BufRingEntry` is plain integers, so the zeroed memory
        // is a valid one. The kernel only reads entries, and not this one before the tail moves past it; we are its
        // only writer, since the pool belongs to one thread.
        let entry = unsafe { &mut *entry.as_ptr() };
        entry.set_addr(self.address(id).as_ptr() as u64);
        entry.set_len(self.buffer_bytes);
        entry.set_bid(id);
        let tail = tail.wrapping_add(1);
        self.tail.set(tail);
        // SAFETY: `first` is the first entry of the ring, whose reserved field is the tail by the kernel's definition.
        let shared = unsafe { BufRingEntry::tail(first.as_ptr()) };
        // SAFETY: the field is 2 bytes, aligned and alive as long as the region; from here on we touch it only as an
        // atomic, and the kernel only reads it.
        let shared = unsafe { AtomicU16::from_ptr(shared.cast_mut()) };
        // Release, so that the kernel which sees this tail sees the entry too.
        shared.store(tail, Ordering::Release);
    }

    fn address(&self, id: u16) -> NonNull<u8> {
        // SAFETY: `id` is below `count` (from our own counting in `new`, or checked in `take`), so the offset stays
        // inside the memory of `count * buffer_bytes`.
        unsafe { self.memory.start.add(usize::from(id) * self.buffer_bytes as usize) }
    }
}

/// The kernel's own limit on the entries of one ring of provided buffers.
const RECEIVE_BUFFERS_MAX: u16 = 1 << 15;

/// A page-aligned buffer for writing files. All of it is initialised; a used one still holds what was last written.
pub struct AlignedBuffer {
    start: NonNull<u8>,
    capacity: usize,
    home: Home,
    pool: Rc<WritePool>,
}

/// Where an [`AlignedBuffer`]'s memory came from and returns to.
enum Home {
    /// So many units of the pool's registered region, from the first.
    Pool { first: usize, units: usize },
    /// An allocation of its own, because it was larger than the pool or the pool was empty.
    Heap { region: Option<Region> },
}

impl AlignedBuffer {
    /// Whether the kernel has this memory registered, so that it need not pin its pages for each write.
    pub(crate) fn is_registered(&self) -> bool {
        self.pool.registered.get() && matches!(self.home, Home::Pool { .. })
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` begins `capacity` initialised bytes that belong to this buffer alone until it is dropped.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.capacity) }
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` makes this the only reference. While a write is in flight the ring owns
        // the buffer and hands out none.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.capacity) }
    }
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuffer({} bytes)", self.capacity)
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        match &mut self.home {
            Home::Pool { first, units } => self.pool.used.borrow_mut()[*first..*first + *units].fill(false),
            Home::Heap { region } => {
                self.pool.heap_bytes.set(self.pool.heap_bytes.get() - self.capacity);
                self.pool.spare.borrow_mut().extend(region.take());
                self.pool.keep_spare(SPARE_BYTES_MAX);
            }
        }
    }
}

/// One region, registered with the kernel as one fixed buffer, cut into units; a buffer is a run of them.
pub(crate) struct WritePool {
    region: Region,
    registered: Cell<bool>,
    used: RefCell<Vec<bool>>,
    /// What is lent from the heap.
    heap_bytes: Cell<usize>,
    heap_bytes_max: usize,
    /// Memory of the heap that came back, for the next that find the pool used up: fresh memory would have to be cleared
    /// first, which took a sixth of what recording costs. The latest to come back is the last.
    spare: RefCell<VecDeque<Region>>,
}

impl WritePool {
    /// A pool of `bytes` (rounded up to whole units) that lends up to `heap_bytes_max` more from the heap.
    pub fn new(bytes: usize, heap_bytes_max: usize) -> Rc<WritePool> {
        let units = bytes.div_ceil(WRITE_UNIT_BYTES);
        Rc::new(WritePool {
            region: Region::new((units * WRITE_UNIT_BYTES).max(1)),
            registered: Cell::new(false),
            used: RefCell::new(vec![false; units]),
            heap_bytes: Cell::new(0),
            heap_bytes_max,
            spare: RefCell::default(),
        })
    }

    /// Registers the region as fixed buffer 0. It fails where RLIMIT_MEMLOCK is small; then writes pin their pages
    /// one by one, which costs more and works as well.
    pub fn register(&self, submitter: &Submitter<'_>) -> io::Result<()> {
        let region = libc::iovec {
            iov_base: self.region.start.as_ptr().cast(),
            iov_len: self.used.borrow().len() * WRITE_UNIT_BYTES,
        };
        // SAFETY: the region is allocated and stays so for as long as the ring, which holds an `Rc` of this pool and
        // lets it go only after its last operation has ended and it is closed (or never).
        unsafe { submitter.register_buffers(&[region]) }?;
        self.registered.set(true);
        Ok(())
    }

    /// A buffer of at least `bytes`, or none when both the pool and its allowance on the heap are used up.
    pub fn take(self: &Rc<Self>, bytes: usize) -> Option<AlignedBuffer> {
        assert!(bytes > 0);
        let units = bytes.div_ceil(WRITE_UNIT_BYTES);
        let capacity = units * WRITE_UNIT_BYTES;
        if let Some(first) = self.free_run(units) {
            self.used.borrow_mut()[first..first + units].fill(true);
            // SAFETY: the run lies inside the region, which has a unit for each entry of `used`.
            let start = unsafe { self.region.start.add(first * WRITE_UNIT_BYTES) };
            let home = Home::Pool { first, units };
            return Some(AlignedBuffer { start, capacity, home, pool: Rc::clone(self) });
        }
        if !self.allows(capacity) {
            return None;
        }
        let region = self.take_spare(capacity);
        let capacity = region.layout.size();
        self.heap_bytes.set(self.heap_bytes.get() + capacity);
        // What is spare stands in the allowance, too.
        self.keep_spare(SPARE_BYTES_MAX.min(self.heap_bytes_max.saturating_sub(self.heap_bytes.get())));
        let start = region.start;
        Some(AlignedBuffer {
            start,
            capacity,
            home: Home::Heap { region: Some(region) },
            pool: Rc::clone(self),
        })
    }

    /// Spare memory of at least `capacity` and not twice that, or fresh memory.
    fn take_spare(&self, capacity: usize) -> Region {
        let mut spare = self.spare.borrow_mut();
        let fits = |region: &Region| (capacity..2 * capacity).contains(&region.layout.size());
        let found = spare.iter().rposition(|region| fits(region) && self.allows(region.layout.size()));
        found.and_then(|index| spare.remove(index)).unwrap_or_else(|| Region::new(capacity))
    }

    /// Whether so much more may be lent from the heap.
    fn allows(&self, bytes: usize) -> bool {
        self.heap_bytes.get() + bytes <= self.heap_bytes_max
    }

    /// Gives the oldest spare memory back to the heap until no more than `most` bytes are spare.
    fn keep_spare(&self, most: usize) {
        let mut spare = self.spare.borrow_mut();
        while spare.iter().map(|region| region.layout.size()).sum::<usize>() > most {
            spare.pop_front();
        }
    }

    /// The first place with so many free units in a row. First fit keeps the low end dense, and the pool is small.
    fn free_run(&self, units: usize) -> Option<usize> {
        let used = self.used.borrow();
        let mut length = 0;
        for (unit, used) in used.iter().enumerate() {
            length = if *used { 0 } else { length + 1 };
            if length == units {
                return Some(unit + 1 - units);
            }
        }
        None
    }
}

/// What a write buffer's size is rounded up to: small enough for a second of audio, large enough that the search for
/// a run is short.
const WRITE_UNIT_BYTES: usize = 32 << 10;
const _: () = assert!(WRITE_UNIT_BYTES.is_multiple_of(BUFFER_ALIGNMENT));
/// Memory of the heap that is kept for the next writes, at most: as much as a hundred recordings write in half a second.
const SPARE_BYTES_MAX: usize = 16 << 20;

/// Page-aligned, zeroed memory that frees itself.
struct Region {
    start: NonNull<u8>,
    layout: Layout,
}

impl Region {
    fn new(bytes: usize) -> Region {
        assert!(bytes > 0);
        let layout =
            Layout::from_size_align(bytes, BUFFER_ALIGNMENT).expect("sizes come from our config, below 2^63");
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        match NonNull::new(start) {
            Some(start) => Region { start, layout },
            None => handle_alloc_error(layout),
        }
    }

    /// Has the kernel put memory behind each page now, rather than in the middle of whatever first fills it.
    fn touch(&self) {
        for page in (0..self.layout.size()).step_by(BUFFER_ALIGNMENT) {
            // SAFETY: the page is inside the region.
            let first = unsafe { self.start.add(page) };
            // SAFETY: nobody else reads or writes the region before it is handed out. Volatile, as the compiler knows that
            // the memory holds zeros.
            unsafe { first.write_volatile(0) };
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: `start` came from `alloc_zeroed` with this layout, and is freed nowhere else.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_buffers_are_aligned_disjoint_and_come_back() {
        let pool = WritePool::new(4 * WRITE_UNIT_BYTES, 0);
        let mut small = pool.take(1).unwrap();
        let mut large = pool.take(3 * WRITE_UNIT_BYTES).unwrap();
        assert!(pool.take(1).is_none(), "the pool is used up and the heap allows nothing");
        small.fill(1);
        large.fill(2);
        assert!(small.iter().all(|byte| *byte == 1));
        assert_eq!(small.as_ptr() as usize % BUFFER_ALIGNMENT, 0);
        assert_eq!(large.as_ptr() as usize % BUFFER_ALIGNMENT, 0);
        drop(large);
        let again = pool.take(2 * WRITE_UNIT_BYTES).unwrap();
        assert_eq!(again.len(), 2 * WRITE_UNIT_BYTES);
    }

    #[test]
    fn a_write_buffer_larger_than_the_pool_comes_from_the_heap_within_its_bound() {
        let pool = WritePool::new(WRITE_UNIT_BYTES, 4 * WRITE_UNIT_BYTES);
        let mut heap = pool.take(3 * WRITE_UNIT_BYTES).unwrap();
        assert!(!heap.is_registered());
        heap.fill(7);
        let pooled = pool.take(WRITE_UNIT_BYTES).unwrap();
        let last = pool.take(WRITE_UNIT_BYTES).unwrap();
        assert!(pool.take(1).is_none());
        drop(heap);
        assert!(pool.take(3 * WRITE_UNIT_BYTES).is_some());
        drop((pooled, last));
    }

    #[test]
    fn memory_of_the_heap_is_used_again_within_its_bound() {
        let pool = WritePool::new(WRITE_UNIT_BYTES, 4 * WRITE_UNIT_BYTES);
        let first = pool.take(3 * WRITE_UNIT_BYTES).unwrap();
        let address = first.as_ptr();
        drop(first);
        let again = pool.take(2 * WRITE_UNIT_BYTES).unwrap();
        assert_eq!((again.as_ptr(), again.len()), (address, 3 * WRITE_UNIT_BYTES));
        assert!(pool.take(2 * WRITE_UNIT_BYTES).is_none(), "what is lent counts whole");
        drop(again);
        // Too large for what is spare, which makes room for it.
        let whole = pool.take(4 * WRITE_UNIT_BYTES).unwrap();
        assert!(pool.spare.borrow().is_empty());
        assert_eq!(whole.len(), 4 * WRITE_UNIT_BYTES);
        drop(whole);
        let small = [pool.take(1), pool.take(1)];
        assert!(
            small.iter().all(|buffer| buffer.as_ref().is_some_and(|buffer| buffer.len() == WRITE_UNIT_BYTES))
        );
        assert_eq!(pool.spare.borrow().len(), 0, "both are lent, and what was spare is more than is left");
    }

    #[test]
    fn a_write_buffer_outlives_its_pool() {
        let pool = WritePool::new(WRITE_UNIT_BYTES, 0);
        let mut buffer = pool.take(10).unwrap();
        drop(pool);
        buffer.fill(3);
        assert_eq!(buffer[WRITE_UNIT_BYTES - 1], 3);
    }

    #[test]
    fn receive_buffers_go_round_the_ring_many_times() {
        let pool = ReceivePool::new(4, 512).unwrap();
        for round in 0..70_000u32 {
            let id = (round % 4) as u16;
            let buffer = pool.take(id, 512);
            assert_eq!(pool.free(), 3);
            assert_eq!(buffer.len(), 512);
        }
        assert_eq!(pool.free(), 4);
        // 4 at first and one per round, in 16 bits.
        assert_eq!(pool.tail.get(), (70_004u32 & 0xffff) as u16);
    }

    #[test]
    fn a_count_the_kernel_would_refuse_is_refused() {
        assert!(ReceivePool::new(3, 512).is_err());
        assert!(ReceivePool::new(0, 512).is_err());
        assert!(ReceivePool::new(4, 0).is_err());
    }
}
