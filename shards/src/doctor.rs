//! What this machine offers, what it lacks, and what to do about it. `shardcast doctor` prints the findings.
//!
//! A [`Machine`] is looked at through the files by which the kernel describes it, so that a test can stand up another
//! one. What only a try can tell (a ring, a file with O_DIRECT) is tried by the command and handed in.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use crate::config::units::about_size;

/// The oldest kernel that is supported: Debian 12's.
pub const KERNEL_MIN: (u32, u32) = (6, 1);
/// Locked memory without which a shard does not start: its executor asks for so much, and the ring's queues take some.
pub const SHARD_LOCKED_BYTES_MIN: u64 = 512 << 10;
/// Locked memory with which a shard can also register its write buffers.
pub const SHARD_LOCKED_BYTES_ADVISED: u64 = SHARD_LOCKED_BYTES_MIN + (2 << 20);
/// Descriptors below which a server for many viewers will soon refuse them.
const NOFILE_ADVISED: u64 = 65_536;
/// Connections that may wait for accept; fewer drop some of a crowd that comes at once.
const SOMAXCONN_ADVISED: u64 = 4096;
/// Bytes that the kernel may hold for one slow viewer; fewer throttle viewers far away.
const TCP_WMEM_MAX_ADVISED: u64 = 1 << 20;

/// Free bytes below which recordings will soon stop.
const RECORDING_SPACE_ADVISED: u64 = 10 << 30;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// As it should be.
    Good,
    /// It runs, but less well than it could.
    Advice,
    /// It will not run, or will not do what was asked.
    Stop,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub weight: Weight,
    /// What was looked at.
    pub topic: &'static str,
    /// What was found.
    pub found: String,
    /// What to do about it; empty when nothing is to be done.
    pub remedy: String,
}

impl Finding {
    fn good(topic: &'static str, found: impl Into<String>) -> Self {
        Finding { weight: Weight::Good, topic, found: found.into(), remedy: String::new() }
    }
    fn advice(topic: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding { weight: Weight::Advice, topic, found: found.into(), remedy: remedy.into() }
    }
    fn stop(topic: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding { weight: Weight::Stop, topic, found: found.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.weight {
            Weight::Good => "ok    ",
            Weight::Advice => "advice",
            Weight::Stop => "STOP  ",
        };
        write!(f, "{mark} {:<12} {}", self.topic, self.found)?;
        if !self.remedy.is_empty() {
            write!(f, "\n       {:<12} -> {}", "", self.remedy)?;
        }
        Ok(())
    }
}

/// A machine, as its `/proc` and `/sys` describe it.
#[derive(Clone, Debug)]
pub struct Machine {
    root: PathBuf,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        Machine { root: PathBuf::from("/") }
    }
    /// One whose files stand below `root`.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Machine { root: root.into() }
    }

    /// Everything that can be found by reading. `shards` is how many are to run; `ring` is how a try to make one ended.
    pub fn examine(&self, shards: usize, ring: &io::Result<()>) -> Vec<Finding> {
        let mut findings =
            vec![self.kernel(), self.io_uring(ring), self.locked_memory(shards), self.descriptors()];
        findings.extend([
            self.cpu_quota(shards),
            self.queue_of_accept(),
            self.send_memory(),
            self.congestion_control(),
            self.clock_source(),
            self.governor(),
        ]);
        findings.extend(self.interrupts(shards));
        findings
    }

    fn kernel(&self) -> Finding {
        let release = self.read("proc/sys/kernel/osrelease").unwrap_or_default();
        let mut numbers = release
            .split(|character: char| !character.is_ascii_digit())
            .map_while(|number| number.parse().ok());
        let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if version >= KERNEL_MIN {
            return Finding::good("kernel", release);
        }
        let (major, minor) = KERNEL_MIN;
        Finding::stop(
            "kernel",
            format!("{release} is older than {major}.{minor}"),
            format!("boot a kernel of {major}.{minor} or later (Debian 12, Ubuntu 24.04)"),
        )
    }

    fn io_uring(&self, ring: &io::Result<()>) -> Finding {
        let Err(error) = ring else {
            return Finding::good("io_uring", "a ring with every feature that is needed can be made");
        };
        let remedy = match self.read("proc/sys/kernel/io_uring_disabled").as_deref() {
            Some("2") => "it is switched off for everyone: sysctl -w kernel.io_uring_disabled=0",
            Some("1") => {
                "it is switched off without CAP_SYS_ADMIN: sysctl -w kernel.io_uring_disabled=0, or run in the group of \
                 kernel.io_uring_group"
            }
            _ if error.kind() == io::ErrorKind::PermissionDenied => {
                "in a container the seccomp profile may forbid it: allow io_uring_setup, io_uring_enter and \
                 io_uring_register (docker: --security-opt seccomp=PROFILE)"
            }
            _ if error.kind() == io::ErrorKind::OutOfMemory => {
                "raise the limit on locked memory: ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit"
            }
            _ => "look for what forbids io_uring_setup: seccomp, gVisor, a kernel without CONFIG_IO_URING",
        };
        Finding::stop("io_uring", format!("no ring can be made: {error}"), remedy)
    }

    fn locked_memory(&self, shards: usize) -> Finding {
        const TOPIC: &str = "memlock";
        const REMEDY: &str = "ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit, or run fewer shards";
        let (needed, advised) =
            (shards as u64 * SHARD_LOCKED_BYTES_MIN, shards as u64 * SHARD_LOCKED_BYTES_ADVISED);
        match self.limit("Max locked memory") {
            None => Finding::good(TOPIC, "unlimited"),
            Some(_) if self.may_lock_without_limit() => {
                Finding::good(TOPIC, "limited, but not for this user")
            }
            Some(limit) if limit >= advised => Finding::good(TOPIC, about_size(limit)),
            Some(limit) if limit >= needed => Finding::advice(
                TOPIC,
                format!(
                    "{} may be locked; with {} recordings would be written from registered memory, which is cheaper",
                    about_size(limit),
                    about_size(advised)
                ),
                REMEDY,
            ),
            Some(limit) => Finding::stop(
                TOPIC,
                format!("{} may be locked, {shards} shards need {}", about_size(limit), about_size(needed)),
                REMEDY,
            ),
        }
    }

    fn descriptors(&self) -> Finding {
        const TOPIC: &str = "nofile";
        // The soft limit is raised to the hard one at the start.
        match self.limit_column("Max open files", HARD) {
            Some(limit) if limit < NOFILE_ADVISED => Finding::advice(
                TOPIC,
                format!("{limit} descriptors at most, and each connection takes one"),
                "ulimit -Hn 1048576, or LimitNOFILE=1048576 in the unit",
            ),
            Some(limit) => Finding::good(TOPIC, format!("{limit} descriptors")),
            None => Finding::good(TOPIC, "unlimited"),
        }
    }

    fn cpu_quota(&self, shards: usize) -> Finding {
        const TOPIC: &str = "cpu quota";
        let quota = self.read("sys/fs/cgroup/cpu.max").and_then(|text| {
            let (quota, period) = text.split_once(' ')?;
            Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
        });
        match quota {
            Some(cores) if cores < shards as f64 => Finding::advice(
                TOPIC,
                format!(
                    "the control group gives {cores:.1} cores to {shards} shards: all of them will be stopped together"
                ),
                format!("raise the quota, or run --shards {}", (cores as usize).max(1)),
            ),
            Some(cores) => Finding::good(TOPIC, format!("{cores:.1} cores")),
            None => Finding::good(TOPIC, "none"),
        }
    }

    fn queue_of_accept(&self) -> Finding {
        const TOPIC: &str = "somaxconn";
        match self.number("proc/sys/net/core/somaxconn") {
            Some(length) if length < SOMAXCONN_ADVISED => Finding::advice(
                TOPIC,
                format!("{length}: a crowd that comes at once is turned away"),
                format!("sysctl -w net.core.somaxconn={SOMAXCONN_ADVISED}"),
            ),
            Some(length) => Finding::good(TOPIC, length.to_string()),
            None => unreadable(TOPIC),
        }
    }

    fn send_memory(&self) -> Finding {
        const TOPIC: &str = "tcp_wmem";
        let memory = self.read("proc/sys/net/ipv4/tcp_wmem").unwrap_or_default();
        let numbers: Vec<u64> = memory.split_whitespace().map_while(|number| number.parse().ok()).collect();
        match numbers.as_slice() {
            [_, _, most] if *most < TCP_WMEM_MAX_ADVISED => Finding::advice(
                TOPIC,
                format!("at most {} KiB for each viewer: those far away cannot be filled", most >> 10),
                "sysctl -w net.ipv4.tcp_wmem=\"4096 16384 4194304\"",
            ),
            [_, _, most] => Finding::good(TOPIC, format!("at most {} KiB for each viewer", most >> 10)),
            _ => unreadable(TOPIC),
        }
    }

    fn congestion_control(&self) -> Finding {
        const TOPIC: &str = "congestion";
        let Some(control) = self.read("proc/sys/net/ipv4/tcp_congestion_control") else {
            return unreadable(TOPIC);
        };
        let available = self.read("proc/sys/net/ipv4/tcp_available_congestion_control").unwrap_or_default();
        let discipline = self.read("proc/sys/net/core/default_qdisc").unwrap_or_default();
        let has_cubic = available.split_whitespace().any(|name| name == "cubic");
        if control != "bbr" {
            return Finding::good(TOPIC, control);
        }
        if has_cubic {
            return Finding::good(TOPIC, "bbr is the system's choice; the doors choose cubic for themselves");
        }
        if discipline == "fq" {
            return Finding::good(TOPIC, "bbr with fq");
        }
        Finding::advice(
            TOPIC,
            format!(
                "bbr with {discipline}: without fq it paces by timers inside TCP, which can cost four times the CPU"
            ),
            "modprobe tcp_cubic, or sysctl -w net.core.default_qdisc=fq",
        )
    }

    fn clock_source(&self) -> Finding {
        const TOPIC: &str = "clock";
        match self.read("sys/devices/system/clocksource/clocksource0/current_clocksource") {
            // These are read without a system call.
            Some(source)
                if ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"]
                    .contains(&source.as_str()) =>
            {
                Finding::good(TOPIC, source)
            }
            Some(source) => Finding::advice(
                TOPIC,
                format!("{source}: each look at the clock is a system call"),
                "boot with clocksource=tsc where the hardware allows it",
            ),
            None => unreadable(TOPIC),
        }
    }

    fn governor(&self) -> Finding {
        const TOPIC: &str = "governor";
        let governors: Vec<String> = self
            .list("sys/devices/system/cpu")
            .iter()
            .filter_map(|cpu| self.read(&format!("sys/devices/system/cpu/{cpu}/cpufreq/scaling_governor")))
            .collect();
        let slow = governors
            .iter()
            .filter(|governor| *governor == "powersave" || *governor == "conservative")
            .count();
        match (governors.first(), slow) {
            (None, _) => Finding::good(TOPIC, "the cores' speed is not this system's to choose"),
            (Some(governor), 0) => Finding::good(TOPIC, governor.clone()),
            (Some(_), slow) => Finding::advice(
                TOPIC,
                format!("{slow} of {} cores save power: they wake slowly when frames come", governors.len()),
                "cpupower frequency-set -g performance",
            ),
        }
    }

    /// One finding for each network interface whose packets all arrive on fewer cores than there are shards.
    fn interrupts(&self, shards: usize) -> Vec<Finding> {
        const TOPIC: &str = "interrupts";
        let mut findings = Vec::new();
        for interface in self.list("sys/class/net") {
            // Loopback and bridges have no hardware behind them.
            if !self.root.join(format!("sys/class/net/{interface}/device")).exists() {
                continue;
            }
            let queues_dir = format!("sys/class/net/{interface}/queues");
            let queues: Vec<String> =
                self.list(&queues_dir).into_iter().filter(|queue| queue.starts_with("rx-")).collect();
            let steered = queues.iter().any(|queue| {
                let cpus = self.read(&format!("{queues_dir}/{queue}/rps_cpus")).unwrap_or_default();
                cpus.chars().any(|digit| digit != '0' && digit != ',')
            });
            let count = queues.len();
            findings.push(if count == 0 || count >= shards || steered {
                Finding::good(TOPIC, format!("{interface} has {count} receive queues"))
            } else {
                Finding::advice(
                    TOPIC,
                    format!("{interface} has {count} receive queues for {shards} shards: few cores do all the network's work"),
                    format!("ethtool -L {interface} combined {shards}, or echo f... > /{queues_dir}/rx-0/rps_cpus"),
                )
            });
        }
        findings
    }

    /// CAP_IPC_LOCK lifts the limit on locked memory.
    fn may_lock_without_limit(&self) -> bool {
        const CAP_IPC_LOCK: u32 = 14;
        let status = self.read("proc/self/status").unwrap_or_default();
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        effective
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .is_some_and(|mask| mask >> CAP_IPC_LOCK & 1 == 1)
    }

    /// A soft limit of this process; nothing when it is unlimited.
    fn limit(&self, name: &str) -> Option<u64> {
        self.limit_column(name, SOFT)
    }

    fn limit_column(&self, name: &str, column: usize) -> Option<u64> {
        let limits = self.read("proc/self/limits")?;
        let row = limits.lines().find_map(|line| line.strip_prefix(name))?;
        row.split_whitespace().nth(column)?.parse().ok()
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.read(path)?.parse().ok()
    }

    fn read(&self, path: &str) -> Option<String> {
        Some(fs::read_to_string(self.root.join(path)).ok()?.trim().to_owned())
    }

    fn list(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }
}

/// Columns of `/proc/self/limits` after a limit's name.
const SOFT: usize = 0;
const HARD: usize = 1;

fn unreadable(topic: &'static str) -> Finding {
    Finding::good(topic, "this system does not say")
}

/// What a try to make a recording in a directory has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Files take O_DIRECT writes; otherwise they go through the page cache.
    pub direct: bool,
    /// Bytes that this process may still take.
    pub available: u64,
}

/// Judges whether the kernel seals what doors with TLS send, or why it does not.
pub fn judge_kernel_tls(refusal: Option<&io::Error>) -> Finding {
    const TOPIC: &str = "kernel TLS";
    let Some(error) = refusal else {
        return Finding::good(TOPIC, "the kernel seals what doors with TLS send");
    };
    Finding::advice(
        TOPIC,
        format!(
            "none ({error}): with [tls] each viewer's bytes are copied and sealed here, which costs more"
        ),
        "modprobe tls, and tls in /etc/modules-load.d; or a kernel with CONFIG_TLS",
    )
}

/// Judges the directory of recordings.
pub fn judge_disk(dir: &Path, disk: &io::Result<Disk>) -> Vec<Finding> {
    const TOPIC: &str = "recordings";
    let dir = dir.display();
    let disk = match disk {
        Ok(disk) => disk,
        Err(error) => {
            return vec![Finding::stop(
                TOPIC,
                format!("no file can be made in {dir}: {error}"),
                "make the directory, and let this user write to it",
            )];
        }
    };
    let direct = if disk.direct {
        Finding::good(TOPIC, format!("{dir} takes O_DIRECT"))
    } else {
        Finding::advice(
            TOPIC,
            format!("{dir} does not take O_DIRECT: recording works, at three to five times the CPU"),
            "use a directory on ext4 or xfs",
        )
    };
    let room = about_size(disk.available);
    let room = if disk.available < RECORDING_SPACE_ADVISED {
        Finding::advice(
            TOPIC,
            format!("{room} are free in {dir}: an hour of one stream of 4 Mbit/s takes 1.7 GiB"),
            "make room, or record elsewhere",
        )
    } else {
        Finding::good(TOPIC, format!("{room} are free"))
    };
    vec![direct, room]
}

#[cfg(test)]
mod tests;
