//! Which cores this process may use, which of them shards take, and setting a thread free of its core.
//!
//! A shard's executor pins its own thread; nobody else here is pinned. CPU time is read in [`crate::clock`].

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::path::Path;

use crate::system::checked;

/// The cores that the calling thread may run on, in order. Ask before any thread is pinned: a pinned one sees its own.
pub fn allowed() -> Vec<usize> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let mut cores: Vec<usize> = cores.into_iter().map(|core| core.id).collect();
    cores.sort_unstable();
    cores
}

/// A core for each of so many shards, best first: whole cores before their second hardware threads. Shards beyond the
/// number of cores share them in turn; where the system does not say which there are, a shard is left to the scheduler.
pub fn choose(shards: usize) -> Vec<Option<usize>> {
    let order = spread(&allowed(), |core| siblings(Path::new(CPU_DIRECTORY), core));
    (0..shards).map(|shard| order.get(shard % order.len().max(1)).copied()).collect()
}

/// Lets the calling thread run wherever the process's first thread may. A thread inherits the pin of the one that
/// starts it, so whoever helps a shard without being one calls this first.
pub fn unpin_current() -> io::Result<()> {
    let mut cores = MaybeUninit::<libc::cpu_set_t>::zeroed();
    let process = libc::pid_t::try_from(std::process::id()).expect("process ids are pid_t");
    // SAFETY: the pointer is to writable memory of the size that is said, which outlives the call. The first thread's
    // id is that of the process.
    checked(unsafe { libc::sched_getaffinity(process, size_of::<libc::cpu_set_t>(), cores.as_mut_ptr()) })?;
    // SAFETY: the set is a plain bit field, zeroed above and then filled by the kernel.
    let cores = unsafe { cores.assume_init() };
    // SAFETY: the pointer is to an initialised set of the size that is said; the kernel only reads it. 0 means the
    // calling thread.
    checked(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const cores) }).map(drop)
}

/// First one hardware thread of each core, then the second of each, and so on; `siblings` names the core.
fn spread(cores: &[usize], siblings: impl Fn(usize) -> String) -> Vec<usize> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut order: Vec<(usize, usize)> = cores
        .iter()
        .map(|core| {
            let turn = seen.entry(siblings(*core)).or_default();
            *turn += 1;
            (*turn, *core)
        })
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, core)| core).collect()
}

/// The hardware threads that share a core with this one, as the kernel writes them. Where it does not say, each counts
/// as a core.
fn siblings(directory: &Path, core: usize) -> String {
    std::fs::read_to_string(directory.join(format!("cpu{core}/topology/thread_siblings_list")))
        .unwrap_or_else(|_| core.to_string())
}

const CPU_DIRECTORY: &str = "/sys/devices/system/cpu";

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn whole_cores_come_before_second_hardware_threads() {
        let pairs = |core: usize| format!("{}", core % 4);
        assert_eq!(spread(&[0, 1, 2, 3, 4, 5, 6, 7], pairs), [0, 1, 2, 3, 4, 5, 6, 7]);
        let neighbours = |core: usize| format!("{}", core / 2);
        assert_eq!(spread(&[0, 1, 2, 3, 4, 5], neighbours), [0, 2, 4, 1, 3, 5]);
        assert_eq!(spread(&[3, 5], neighbours), [3, 5]);
    }

    #[test]
    fn shards_take_different_cores_until_there_are_no_more() {
        let cores = allowed();
        let chosen = choose(cores.len() + 1);
        let own: HashSet<_> = chosen[..cores.len()].iter().flatten().copied().collect();
        assert_eq!(own, cores.iter().copied().collect());
        assert_eq!(chosen[cores.len()], chosen[0]);
    }

    #[test]
    fn a_thread_that_was_pinned_can_be_set_free() {
        let all = allowed();
        let first = all[0];
        std::thread::spawn(move || {
            assert!(core_affinity::set_for_current(core_affinity::CoreId { id: first }));
            assert_eq!(allowed(), [first]);
            std::thread::spawn(move || {
                unpin_current().unwrap();
                assert_eq!(allowed(), all);
            })
            .join()
            .unwrap();
        })
        .join()
        .unwrap();
    }
}
