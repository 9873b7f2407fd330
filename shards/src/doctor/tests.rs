//! Machines that lack something.

use super::*;

/// A machine made of files, gone when dropped.
struct Fake {
    root: PathBuf,
}

impl Fake {
    /// One that lacks nothing.
    fn new(name: &str) -> Fake {
        let root = std::env::temp_dir().join(format!("shardcast-doctor-{}-{name}", std::process::id()));
        let fake = Fake { root };
        for (path, text) in [
            ("proc/sys/kernel/osrelease", "6.1.0-28-amd64\n"),
            (
                "proc/self/limits",
                "Limit                     Soft Limit           Hard Limit           Units\n\
                 Max open files            1024                 1048576              files\n\
                 Max locked memory         67108864             67108864             bytes\n",
            ),
            ("proc/self/status", "Name:\tx\nCapEff:\t0000000000000000\n"),
            ("sys/fs/cgroup/cpu.max", "max 100000\n"),
            ("proc/sys/net/core/somaxconn", "4096\n"),
            ("proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t4194304\n"),
            ("proc/sys/net/ipv4/tcp_congestion_control", "cubic\n"),
            ("proc/sys/net/ipv4/tcp_available_congestion_control", "reno cubic\n"),
            ("proc/sys/net/core/default_qdisc", "fq_codel\n"),
            ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n"),
            ("sys/class/net/eth0/device/vendor", "x\n"),
            ("sys/class/net/eth0/queues/rx-0/rps_cpus", "00000000\n"),
            ("sys/class/net/eth0/queues/rx-1/rps_cpus", "00000000\n"),
            ("sys/class/net/lo/queues/rx-0/rps_cpus", "0\n"),
        ] {
            fake.put(path, text);
        }
        fake
    }
    fn put(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    /// The findings that are not good, of a machine for two shards.
    fn complaints(&self) -> Vec<Finding> {
        self.complaints_with(&Ok(()))
    }
    fn complaints_with(&self, ring: &io::Result<()>) -> Vec<Finding> {
        let mut findings = Machine::below(&self.root).examine(2, ring);
        findings.retain(|finding| finding.weight != Weight::Good);
        findings
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

#[test]
fn a_machine_that_lacks_nothing_gets_no_complaint() {
    assert_eq!(Fake::new("good").complaints(), []);
}

#[test]
fn each_lack_is_found_alone_and_comes_with_its_remedy() {
    let cases = [
        ("proc/sys/kernel/osrelease", "5.15.0-91-generic", "kernel", Weight::Stop, "6.1"),
        (
            "proc/self/limits",
            "Max open files 1024 1048576 files\nMax locked memory 65536 65536 bytes",
            "memlock",
            Weight::Stop,
            "LimitMEMLOCK",
        ),
        (
            "proc/self/limits",
            "Max open files 1024 1048576 files\nMax locked memory 2097152 2097152 bytes",
            "memlock",
            Weight::Advice,
            "LimitMEMLOCK",
        ),
        (
            "proc/self/limits",
            "Max open files 1024 4096 files\nMax locked memory unlimited unlimited bytes",
            "nofile",
            Weight::Advice,
            "LimitNOFILE",
        ),
        ("sys/fs/cgroup/cpu.max", "150000 100000", "cpu quota", Weight::Advice, "--shards 1"),
        (
            "proc/sys/net/core/somaxconn",
            "128",
            "somaxconn",
            Weight::Advice,
            "sysctl -w net.core.somaxconn=4096",
        ),
        (
            "proc/sys/net/ipv4/tcp_wmem",
            "4096 16384 65536",
            "tcp_wmem",
            Weight::Advice,
            "sysctl -w net.ipv4.tcp_wmem",
        ),
        (
            "sys/devices/system/clocksource/clocksource0/current_clocksource",
            "hpet",
            "clock",
            Weight::Advice,
            "clocksource=tsc",
        ),
        (
            "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
            "powersave",
            "governor",
            Weight::Advice,
            "performance",
        ),
    ];
    for (index, (path, text, topic, weight, remedy)) in cases.into_iter().enumerate() {
        let fake = Fake::new(&format!("lack{index}"));
        fake.put(path, text);
        let complaints = fake.complaints();
        let [complaint] = complaints.as_slice() else { panic!("{path} {text}: {complaints:?}") };
        assert_eq!((complaint.topic, complaint.weight), (topic, weight), "{path} {text}");
        assert!(complaint.remedy.contains(remedy), "{complaint}");
    }
}

#[test]
fn bbr_without_fq_is_only_a_matter_where_the_doors_cannot_choose_cubic() {
    let fake = Fake::new("bbr");
    fake.put("proc/sys/net/ipv4/tcp_congestion_control", "bbr");
    assert_eq!(fake.complaints(), []);
    fake.put("proc/sys/net/ipv4/tcp_available_congestion_control", "reno bbr");
    assert_eq!(fake.complaints().first().map(|finding| finding.topic), Some("congestion"));
    fake.put("proc/sys/net/core/default_qdisc", "fq");
    assert_eq!(fake.complaints(), []);
}

#[test]
fn a_ring_that_cannot_be_made_stops_and_says_what_forbids_it() {
    let fake = Fake::new("ring");
    let refused = || Err(io::Error::from(io::ErrorKind::PermissionDenied));
    let remedy = |fake: &Fake| {
        let complaints = fake.complaints_with(&refused());
        let [complaint] = complaints.as_slice() else { panic!("{complaints:?}") };
        assert_eq!((complaint.topic, complaint.weight), ("io_uring", Weight::Stop));
        complaint.remedy.clone()
    };
    assert!(remedy(&fake).contains("seccomp"));
    fake.put("proc/sys/kernel/io_uring_disabled", "2\n");
    assert!(remedy(&fake).contains("kernel.io_uring_disabled=0"));
}

#[test]
fn the_limit_on_locked_memory_does_not_bind_who_may_lock() {
    let fake = Fake::new("root");
    fake.put("proc/self/limits", "Max open files 1048576 1048576 files\nMax locked memory 65536 65536 bytes");
    fake.put("proc/self/status", "CapEff:\t000001ffffffffff\n");
    assert_eq!(fake.complaints(), []);
}

#[test]
fn one_queue_for_many_shards_is_a_complaint_unless_it_is_steered() {
    let fake = Fake::new("queue");
    fs::remove_dir_all(fake.root.join("sys/class/net/eth0/queues/rx-1")).unwrap();
    let complaints = fake.complaints();
    assert_eq!(complaints.first().map(|finding| finding.topic), Some("interrupts"), "{complaints:?}");
    fake.put("sys/class/net/eth0/queues/rx-0/rps_cpus", "00000003\n");
    assert_eq!(fake.complaints(), []);
}

#[test]
fn a_kernel_without_tls_is_advice_and_says_how_to_get_it() {
    assert_eq!(judge_kernel_tls(None).weight, Weight::Good);
    let finding = judge_kernel_tls(Some(&io::ErrorKind::NotFound.into()));
    assert_eq!(finding.weight, Weight::Advice);
    assert!(finding.remedy.contains("modprobe tls"), "{finding}");
}

#[test]
fn a_disk_is_judged_by_what_a_trial_has_shown() {
    let weights = |disk: &io::Result<Disk>| -> Vec<Weight> {
        judge_disk(Path::new("/srv/rec"), disk).iter().map(|finding| finding.weight).collect()
    };
    assert_eq!(weights(&Ok(Disk { direct: true, available: 1 << 40 })), [Weight::Good, Weight::Good]);
    assert_eq!(weights(&Ok(Disk { direct: false, available: 1 << 40 })), [Weight::Advice, Weight::Good]);
    assert_eq!(weights(&Ok(Disk { direct: true, available: 1 << 30 })), [Weight::Good, Weight::Advice]);
    assert_eq!(weights(&Err(io::ErrorKind::NotFound.into())), [Weight::Stop]);
}
