//! The heap of the binaries: mimalloc, told to keep what it has.
//!
//! Groups of frames and blocks come and go each second or two. A heap that gives their memory back to the kernel in
//! between has it cleared and mapped again at once, which took a sixth of the CPU of a shard with 100 streams.

use std::{fs, io, ops::Range};

pub use mimalloc::MiMalloc as Heap;

use crate::{probe, system::checked};

/// How much of the program is in memory before its heap gets pages of 2 MiB. Below it a step of 2 MiB is worth a thousand
/// viewers, and there is little that larger pages could speed up.
const LARGE_FROM_BYTES: u64 = 32 << 20;

/// How long freed memory is kept before the kernel gets it back, milliseconds: longer than most groups live.
const PURGE_DELAY_MS: libc::c_long = 10_000;

/// Tells the heap so. Call it first in `main`, in a program whose global allocator is [`Heap`].
pub fn keep_freed_memory() {
    // SAFETY: the call sets a number inside the allocator, which reads it before each purge; it takes no memory.
    unsafe { libmimalloc_sys::mi_option_set(OPTION_PURGE_DELAY, PURGE_DELAY_MS) };
}

/// The size of the pages that the heap is made of: 4 KiB while the program is small, then 2 MiB, where the system gives them
/// to those who ask (mimalloc does). They cost memory, for the heap grows by whole ones, and save a twentieth of the CPU of
/// taking in.
#[derive(Debug)]
pub struct Pages {
    /// How much of the program is in memory when they become large, bytes; `None` once nothing is left to decide.
    from: Option<u64>,
}

impl Pages {
    /// Begins with small pages. For the whole process; who starts it can have forbidden large ones already, by
    /// `MIMALLOC_ALLOW_THP=0` too, and that stays so.
    ///
    /// # Errors
    /// The kernel does not know the setting; then pages are as the system has them.
    pub fn begin() -> io::Result<Pages> {
        if large_pages_forbidden()? {
            return Ok(Pages { from: None });
        }
        forbid_large_pages(true)?;
        Ok(Pages { from: Some(LARGE_FROM_BYTES) })
    }

    /// Looks at the program's size and has large pages when it is time, in place of the small ones that there are, too. Call it
    /// each second or so, for as long as it says true.
    ///
    /// # Errors
    /// Those of reading the program's size.
    pub fn look(&mut self) -> io::Result<bool> {
        let Some(from) = self.from else { return Ok(false) };
        if probe::resident_bytes()? < from {
            return Ok(true);
        }
        self.from = None;
        forbid_large_pages(false)?;
        // What a system that never gives any would be asked for in vain.
        if !fs::read_to_string(SYSTEM_SETTING).is_ok_and(|setting| setting.contains("[never]")) {
            collapse()?;
        }
        Ok(false)
    }
}

/// What the system gives to those who ask: `always [madvise] never`.
const SYSTEM_SETTING: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
const LARGE_PAGE_BYTES: usize = 2 << 20;

/// Puts a large page in place of the small ones wherever somebody has asked for large ones (`hg` in the flags of a mapping).
/// What the kernel cannot move at the moment stays as it is.
fn collapse() -> io::Result<()> {
    let mappings = fs::read_to_string("/proc/self/smaps")?;
    let mut mapping = None;
    for line in mappings.lines() {
        mapping = range_of(line).or(mapping);
        let flags = line.strip_prefix("VmFlags:").unwrap_or_default();
        if let Some(range) = mapping.as_ref().filter(|_| flags.split_whitespace().any(|flag| flag == "hg")) {
            let first = range.start.next_multiple_of(LARGE_PAGE_BYTES);
            for block in (first..range.end).step_by(LARGE_PAGE_BYTES) {
                if block + LARGE_PAGE_BYTES <= range.end {
                    let address = std::ptr::without_provenance_mut(block);
                    // SAFETY: the call changes what the memory is made of and nothing of what is in it. A range that is no
                    // longer mapped is an error.
                    unsafe { libc::madvise(address, LARGE_PAGE_BYTES, libc::MADV_COLLAPSE) };
                }
            }
        }
    }
    Ok(())
}

/// The addresses of a mapping, from its first line in `/proc/self/smaps`: `7f00-7f80 rw-p 00000000 00:00 0`.
fn range_of(line: &str) -> Option<Range<usize>> {
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

fn large_pages_forbidden() -> io::Result<bool> {
    // SAFETY: the call reads a setting of the process; it takes no memory.
    checked(unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, 0, 0, 0, 0) }).map(|set| set != 0)
}

fn forbid_large_pages(forbidden: bool) -> io::Result<()> {
    // SAFETY: the call changes a setting of the process, about pages that are not there yet; it takes no memory.
    checked(unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, libc::c_ulong::from(forbidden), 0, 0, 0) })
        .map(drop)
}

/// `mi_option_purge_delay` of mimalloc.h 2.x, which the binding leaves out. Its version is pinned for this.
const OPTION_PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_the_one_that_is_meant() {
        // SAFETY: the call reads a number inside the allocator.
        let before = unsafe { libmimalloc_sys::mi_option_get(OPTION_PURGE_DELAY) };
        assert_eq!(before, 10, "mimalloc's own default of this option, which no other has at this place");
        keep_freed_memory();
        // SAFETY: as above.
        assert_eq!(unsafe { libmimalloc_sys::mi_option_get(OPTION_PURGE_DELAY) }, PURGE_DELAY_MS);
    }

    /// One test, for the setting is that of the whole process.
    #[test]
    fn pages_are_small_until_the_program_is_large_and_all_of_them_large_then() {
        let mut pages = Pages::begin().unwrap();
        assert!(large_pages_forbidden().unwrap());
        assert!(!Pages::begin().unwrap().look().unwrap(), "what somebody else has forbidden stays forbidden");
        pages.from = Some(u64::MAX);
        assert!(pages.look().unwrap(), "the program is small");

        let memory = Asking::for_large_pages(4 * LARGE_PAGE_BYTES);
        assert_eq!(memory.in_large_pages(), 0);
        pages.from = Some(0);
        assert!(!pages.look().unwrap());
        assert!(!large_pages_forbidden().unwrap());
        if !fs::read_to_string(SYSTEM_SETTING).unwrap().contains("[never]") {
            assert!(memory.in_large_pages() > 0, "the kernel has put large pages in place of the small ones");
        }
        assert!(memory.bytes().iter().all(|byte| *byte == 0x5a));
        assert!(!pages.look().unwrap());
    }

    /// Memory of its own that large pages were asked for, full of one byte.
    struct Asking(*mut u8, usize);

    impl Asking {
        fn for_large_pages(bytes: usize) -> Asking {
            let (rights, kind) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            // SAFETY: a new mapping, wherever the kernel likes.
            let address = unsafe { libc::mmap(std::ptr::null_mut(), bytes, rights, kind, -1, 0) };
            assert_ne!(address, libc::MAP_FAILED);
            // SAFETY: the mapping is ours and so long.
            unsafe { libc::madvise(address, bytes, libc::MADV_HUGEPAGE) };
            // SAFETY: and may be written.
            unsafe { address.cast::<u8>().write_bytes(0x5a, bytes) };
            Asking(address.cast(), bytes)
        }
        fn bytes(&self) -> &[u8] {
            // SAFETY: the mapping is so long, was written, and lives as long as `self`.
            unsafe { std::slice::from_raw_parts(self.0, self.1) }
        }
        /// How much of it is, KiB.
        fn in_large_pages(&self) -> u64 {
            let (mut here, mut found) = (false, 0);
            for line in fs::read_to_string("/proc/self/smaps").unwrap().lines() {
                here = range_of(line).map_or(here, |range| range.contains(&self.0.addr()));
                if let Some(size) = line.strip_prefix("AnonHugePages:").filter(|_| here) {
                    found = size.trim().trim_end_matches(" kB").parse().unwrap();
                }
            }
            found
        }
    }

    impl Drop for Asking {
        fn drop(&mut self) {
            // SAFETY: the mapping is ours, and nothing refers to it any more.
            unsafe { libc::munmap(self.0.cast(), self.1) };
        }
    }
}
