//! The processor's cache: what is about to be looked at is fetched while something else is being done.

/// Asks for a value's memory, and waits for nothing. Where the processor has no such instruction, or none that is known
/// here, nothing happens.
#[inline]
pub fn fetch<T>(value: &T) {
    let start = std::ptr::from_ref(value).cast::<i8>();
    for offset in (0..size_of::<T>()).step_by(LINE_BYTES) {
        fetch_line(start.wrapping_add(offset));
    }
    // It may begin within a line, and then ends within one more.
    fetch_line(start.wrapping_add(size_of::<T>().saturating_sub(1)));
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn fetch_line(address: *const i8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: the instruction is part of every x86-64 processor (SSE), reads nothing and faults at no address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address) };
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn fetch_line(_address: *const i8) {}

/// What a processor fetches at a time.
const LINE_BYTES: usize = 64;
