//! What a server takes, read from `/proc`: all its threads and children, by pid.

use std::{collections::BTreeMap, fs, time::Duration};

/// Watches a process and its children.
#[derive(Debug)]
pub struct Watched {
    root: u32,
    /// CPU nanoseconds of every thread that was ever seen. One that has ended keeps its last value.
    threads: BTreeMap<(u32, u32), u64>,
    peak: u64,
}

/// What was seen at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// CPU time of all threads since they began.
    pub cpu: Duration,
    /// Resident bytes of all processes.
    pub resident: u64,
    /// Threads alive.
    pub threads: usize,
}

impl Watched {
    /// Watches the process `root`.
    pub fn new(root: u32) -> Watched {
        Watched { root, threads: BTreeMap::new(), peak: 0 }
    }

    /// Looks now. A thread's CPU after the last look at it is lost with the thread.
    pub fn sample(&mut self) -> Sample {
        let (mut resident, mut alive) = (0, 0);
        let mut processes = vec![self.root];
        while let Some(pid) = processes.pop() {
            resident += resident_bytes(pid);
            let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
            for task in tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse::<u32>().ok()) {
                alive += 1;
                if let Some(cpu) = run_time(pid, task) {
                    self.threads.insert((pid, task), cpu);
                }
                let children = fs::read_to_string(format!("/proc/{pid}/task/{task}/children"));
                processes.extend(
                    children.unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()),
                );
            }
        }
        self.peak = self.peak.max(resident);
        Sample { cpu: Duration::from_nanos(self.threads.values().sum()), resident, threads: alive }
    }

    /// The most resident memory of all samples.
    pub fn peak(&self) -> u64 {
        self.peak
    }
}

/// Nanoseconds that a thread has run (the first number of its schedstat).
fn run_time(pid: u32, task: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{task}/schedstat")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn resident_bytes(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages: u64 = text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// CPU time that some cores have been busy since the machine started, for whoever it was.
pub fn busy(cores: &[usize]) -> Duration {
    // proc(5): user, nice, system, idle, iowait, irq, softirq, steal; in ticks.
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let of_core = |core: &usize| {
        let numbers = text.lines().find_map(|line| line.strip_prefix(&format!("cpu{core} ")))?;
        let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let at = |index: usize| numbers.get(index).copied().unwrap_or(0);
        Some(at(0) + at(1) + at(2) + at(5) + at(6) + at(7))
    };
    let ticks: u64 = cores.iter().filter_map(of_core).sum();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// CPU time that the kernel's own threads for network work (`ksoftirqd`) of some cores have run since the machine started.
/// They take over from whoever sends when there is much to do, so their time belongs to the traffic and to no other program.
pub fn softirq(cores: &[usize]) -> Duration {
    let names: Vec<String> = cores.iter().map(|core| format!("ksoftirqd/{core}")).collect();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_one = |pid: &u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        names.iter().any(|one| one == name.trim_end())
    };
    let nanoseconds: u64 = pids.filter(is_one).filter_map(|pid| run_time(pid, pid)).sum();
    Duration::from_nanos(nanoseconds)
}

/// Bytes of the page cache of the whole machine.
pub fn page_cache_bytes() -> u64 {
    let text = fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let pages = text.lines().find_map(|line| line.strip_prefix("nr_file_pages ")?.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{process::Command, thread};

    #[test]
    fn the_cpu_and_memory_of_a_child_and_its_children_are_seen() {
        // A shell whose child burns a bounded amount of CPU.
        let mut child = Command::new("sh")
            .args(["-c", "sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; sleep 2' & wait"])
            .spawn()
            .unwrap();
        let mut watched = Watched::new(child.id());
        let mut last = Sample::default();
        for _ in 0..40 {
            thread::sleep(Duration::from_millis(50));
            let sample = watched.sample();
            assert!(sample.cpu >= last.cpu, "CPU time never falls");
            last = sample;
            if last.threads >= 2 && last.cpu > Duration::from_millis(50) {
                break;
            }
        }
        assert!(last.cpu > Duration::from_millis(20), "{last:?}");
        assert!(last.resident > 100_000 && watched.peak() >= last.resident);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(page_cache_bytes() > 1 << 20);
    }

    #[test]
    fn a_process_that_is_gone_keeps_what_it_has_used() {
        let mut watched = Watched::new(std::process::id());
        let before = watched.sample().cpu;
        thread::spawn(|| (0..5_000_000u64).fold(0, |sum: u64, i| sum.wrapping_mul(31).wrapping_add(i)))
            .join()
            .unwrap();
        assert!(watched.sample().cpu >= before);
    }
}
