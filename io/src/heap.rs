//! The heap of the binaries: mimalloc, told to keep what it has.
//!
//! Groups of frames and blocks come and go each second or two. A heap that gives their memory back to the kernel in
//! between has it cleared and mapped again at once, which took a sixth of the CPU of a shard with 100 streams.

use std::io;

pub use mimalloc::MiMalloc as Heap;

use crate::{probe, system::checked};

/// How much of the program is in memory before its heap gets pages of 2 MiB. Below it a step of 2 MiB is worth a thousand
/// viewers, and there is little that larger pages could speed up.
const LARGE_FROM_BYTES: u64 = 64 << 20;

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
    /// False once nothing is left to decide.
    waiting: bool,
}

impl Pages {
    /// Begins with small pages. For the whole process; who starts it can have forbidden large ones already, by
    /// `MIMALLOC_ALLOW_THP=0` too, and that stays so.
    ///
    /// # Errors
    /// The kernel does not know the setting; then pages are as the system has them.
    pub fn begin() -> io::Result<Pages> {
        if large_pages_forbidden()? {
            return Ok(Pages { waiting: false });
        }
        forbid_large_pages(true)?;
        Ok(Pages { waiting: true })
    }

    /// Looks at the program's size and allows large pages when it is time. Call it each second or so, for as long as it
    /// says true.
    ///
    /// # Errors
    /// Those of reading the program's size.
    pub fn look(&mut self) -> io::Result<bool> {
        if self.waiting && probe::resident_bytes()? >= LARGE_FROM_BYTES {
            forbid_large_pages(false)?;
            self.waiting = false;
        }
        Ok(self.waiting)
    }
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

    #[test]
    fn pages_are_small_until_the_program_is_large() {
        let mut pages = Pages::begin().unwrap();
        assert!(large_pages_forbidden().unwrap());
        assert!(pages.look().unwrap(), "a program of tests is small");
        assert!(!Pages::begin().unwrap().look().unwrap(), "what somebody else has forbidden stays forbidden");
        let much = vec![1_u8; usize::try_from(LARGE_FROM_BYTES).unwrap()];
        assert!(!pages.look().unwrap());
        assert!(!large_pages_forbidden().unwrap());
        drop(much);
    }
}
