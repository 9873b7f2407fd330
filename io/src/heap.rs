//! The heap of the binaries: mimalloc, told to keep what it has.
//!
//! Groups of frames and blocks come and go each second or two. A heap that gives their memory back to the kernel in
//! between has it cleared and mapped again at once, which took a sixth of the CPU of a shard with 100 streams.

pub use mimalloc::MiMalloc as Heap;

/// How long freed memory is kept before the kernel gets it back, milliseconds: longer than most groups live.
const PURGE_DELAY_MS: libc::c_long = 10_000;

/// Tells the heap so. Call it first in `main`, in a program whose global allocator is [`Heap`].
pub fn keep_freed_memory() {
    // SAFETY: the call sets a number inside the allocator, which reads it before each purge; it takes no memory.
    unsafe { libmimalloc_sys::mi_option_set(OPTION_PURGE_DELAY, PURGE_DELAY_MS) };
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
}
