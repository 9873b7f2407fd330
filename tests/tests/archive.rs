//! Seeds of the recording world: whatever the disk does and whenever the power goes, what was acknowledged is read back.
//!
//! `SHARDCAST_ARCHIVE_SEED` replays one seed alone.

use shardcast_tests::archive::{self, Report};

const SEEDS: u64 = 600;

fn try_seeds(lies: bool) -> (Vec<Report>, Vec<String>) {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let results: Vec<_> = std::thread::scope(|scope| {
        let run = |first| {
            (first..=SEEDS).step_by(threads as usize).map(move |seed| (seed, archive::run(seed, lies)))
        };
        let workers: Vec<_> =
            (1..=threads).map(|first| scope.spawn(move || run(first).collect::<Vec<_>>())).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("the world does not panic")).collect()
    });
    let (mut reports, mut failures) = (Vec::new(), Vec::new());
    for (seed, result) in results {
        match result {
            Ok(report) => reports.push(report),
            Err(broken) => failures.push(format!("SHARDCAST_ARCHIVE_SEED={seed}: {broken}")),
        }
    }
    failures.sort();
    (reports, failures)
}

#[test]
fn what_the_disk_acknowledged_is_read_back_after_any_crash() {
    if let Ok(seed) = std::env::var("SHARDCAST_ARCHIVE_SEED") {
        let report = archive::run(seed.parse().expect("a seed is a number"), false);
        println!("{report:?}");
        report.expect("the promises hold");
        return;
    }
    let (reports, failures) = try_seeds(false);
    assert!(failures.is_empty(), "{} of {SEEDS} seeds failed:\n{}", failures.len(), failures.join("\n"));
    // The seeds must have shown what they are for.
    let sum = |count: fn(&Report) -> u64| reports.iter().map(count).sum::<u64>();
    assert!(sum(|report| u64::from(report.crashed)) > SEEDS / 4, "too few crashes");
    assert!(sum(|report| report.torn) > 20, "too few writes were torn");
    assert!(sum(|report| report.failures) > 100, "too few writes failed");
    assert!(sum(|report| report.acknowledged) > 1000, "too little was recorded");
    assert!(sum(|report| report.read) > sum(|report| report.sent) / 4, "too little was read");
}

#[test]
fn a_disk_that_lies_is_found_out() {
    let (reports, failures) = try_seeds(true);
    let missed = reports.iter().filter(|report| report.lied).count();
    assert!(failures.len() > 50, "the lie was told too seldom: {}", failures.len());
    assert_eq!(missed, 0, "a disk acknowledged what it had not written, and nobody noticed");
}

#[test]
fn a_seed_shows_the_same_each_time() {
    for seed in 1..5 {
        assert_eq!(format!("{:?}", archive::run(seed, false)), format!("{:?}", archive::run(seed, false)));
    }
}
