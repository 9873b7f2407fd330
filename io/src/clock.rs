//! The only reader of the clock. The engine gets its time as an argument; whoever drives it reads it here, once per
//! round, and passes it on.

use std::mem::MaybeUninit;

/// Nanoseconds of a clock that only goes forward and starts at an unspecified moment (CLOCK_MONOTONIC). Comparable
/// between all threads of this process.
pub fn monotonic() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds since 1970-01-01 UTC. May jump when somebody sets the clock: for names and logs, never for deadlines.
pub fn wall() -> u64 {
    read(libc::CLOCK_REALTIME)
}

/// Nanoseconds of CPU time that the calling thread has used.
pub fn thread_cpu() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Nanoseconds of CPU time that all threads of this process have used.
pub fn process_cpu() -> u64 {
    read(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the pointer is to writable memory of the right type, which outlives the call.
    let result = unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) };
    assert!(result == 0, "these four clocks exist on every Linux");
    // SAFETY: clock_gettime returned success, so it has filled the whole structure.
    let time = unsafe { time.assume_init() };
    // Neither field is negative for these clocks (the wall clock cannot be set before 1970), and u64 holds 584 years.
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    #[test]
    fn the_monotonic_clock_advances_with_time() {
        let (before, started) = (monotonic(), Instant::now());
        std::thread::sleep(Duration::from_millis(20));
        let advanced = monotonic() - before;
        assert!(advanced >= 20_000_000 && advanced <= started.elapsed().as_nanos() as u64 + 1_000_000);
    }

    #[test]
    fn the_wall_clock_counts_from_1970() {
        let other = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        assert!(wall().abs_diff(other) < 1_000_000_000);
    }

    #[test]
    fn a_sleeping_thread_uses_no_cpu_time() {
        let before = thread_cpu();
        std::thread::sleep(Duration::from_millis(50));
        assert!(thread_cpu() - before < 20_000_000);
        assert!(process_cpu() > 0);
    }
}
