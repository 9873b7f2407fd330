//! Tries seeds of the simulated world, in bounded time, and shows that the judge would notice if something were wrong.
//!
//! `SHARDCAST_SIM_SEEDS` says how many seeds are tried (300), `SHARDCAST_SIM_FIRST` which is the first (1), and
//! `SHARDCAST_SIM_SEED` replays one alone, step by step on standard error with `SHARDCAST_SIM_TRACE=1`.

use std::{
    ops::Range,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use shardcast_tests::sim::{self, Failure, Report, canary::Canary, judge::Tally, library::Count};

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// Runs the worlds of `seeds` on every core; stops at the first failure if `stop`. Failures come in order of their seeds.
fn try_seeds(seeds: Range<u64>, canary: Option<Canary>, stop: bool) -> (Vec<Report>, Vec<Failure>) {
    let next = AtomicU64::new(seeds.start);
    let failed = AtomicBool::new(false);
    let work = || {
        let mut results = Vec::new();
        while !(stop && failed.load(Ordering::Relaxed)) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let result = sim::run(seed, canary, false);
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            results.push(result);
        }
        results
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let results: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| world().spawn_scoped(scope, work).expect("there is room for a thread"))
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a world's panic is caught")).collect()
    });
    let (reports, failures): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    let mut failures: Vec<_> = failures.into_iter().filter_map(Result::err).collect();
    failures.sort_by_key(|failure| failure.seed);
    (reports.into_iter().flatten().collect(), failures)
}

/// A thread whose name tells that its panics are part of the play.
fn world() -> thread::Builder {
    thread::Builder::new().name("world".to_owned())
}

fn run_alone(seed: u64, trace: bool) -> Result<Report, Failure> {
    thread::scope(|scope| {
        let world = world().spawn_scoped(scope, || sim::run(seed, None, trace));
        world.expect("there is room for a thread").join().expect("a world's panic is caught")
    })
}

#[test]
fn every_seed_keeps_every_promise() {
    let first = setting("SHARDCAST_SIM_FIRST").unwrap_or(1);
    let count = setting("SHARDCAST_SIM_SEEDS").unwrap_or(300);
    if let Some(seed) = setting("SHARDCAST_SIM_SEED") {
        match run_alone(seed, setting("SHARDCAST_SIM_TRACE") == Some(1)) {
            Ok(report) => return eprintln!("seed {seed}: {report:?}"),
            Err(failure) => panic!("{failure}"),
        }
    }
    let seeds = first..first + count;
    let (reports, failures) = try_seeds(seeds, None, false);
    let (mut tally, mut packaged) = (Tally::default(), Count::default());
    reports.iter().for_each(|report| tally.add(&report.tally));
    reports.iter().for_each(|report| packaged.add(&report.packaged));
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    eprintln!(
        "{} seeds, {} steps: {tally:?}, {} moves, {} jumps, {} late copies, {} groups let go, {} stalls, {} frames \
         from disks, {} gaps, {} datagrams lost, packets of them {} mended, {} doubled, {} given up, {packaged:?}",
        reports.len(),
        sum(|report| report.steps),
        sum(|report| report.moves),
        sum(|report| report.viewer_jumps),
        sum(|report| report.replicas_late),
        sum(|report| report.groups_let_go),
        sum(|report| report.stalls),
        sum(|report| report.frames_read),
        sum(|report| report.gaps),
        sum(|report| report.datagrams_lost),
        sum(|report| report.packets_mended),
        sum(|report| report.packets_doubled),
        sum(|report| report.packets_given_up),
    );
    for failure in failures.iter().take(10) {
        eprintln!("{failure}");
    }
    assert!(failures.is_empty(), "{} of {count} seeds failed", failures.len());
    // A world in which nothing happens keeps every promise.
    if count >= 100 {
        for (what, number) in [
            ("frames received", tally.received),
            ("entries", tally.entries),
            ("jumps", tally.jumps),
            ("resumes", tally.resumes),
            ("refusals", tally.refused),
            ("ends", tally.ends),
            ("moves", sum(|report| report.moves)),
            ("jumps of viewers", sum(|report| report.viewer_jumps)),
            ("late copies", sum(|report| report.replicas_late)),
            ("groups let go", sum(|report| report.groups_let_go)),
            ("frames read from disks", sum(|report| report.frames_read)),
            ("gaps in recordings", sum(|report| report.gaps)),
            ("stalls", sum(|report| report.stalls)),
            ("datagrams lost", sum(|report| report.datagrams_lost)),
            ("packets mended", sum(|report| report.packets_mended)),
            ("packets that came twice", sum(|report| report.packets_doubled)),
            ("packets given up", sum(|report| report.packets_given_up)),
            ("frames that had to come by datagrams", tally.kept),
            ("frames taken by RTP", tally.taken_by_rtp),
            ("frames that had to come by RTP", tally.kept_by_rtp),
            ("frames that had to come of those sent unasked", tally.kept_unasked),
            ("frames received by RTP", tally.received_by_rtp),
            ("playlists", packaged.playlists),
            ("updates of playlists", packaged.updates),
            ("segments and parts", packaged.pieces),
            ("frames in them", packaged.frames),
        ] {
            assert!(number > 0, "in {count} worlds there were no {what}");
        }
    }
}

#[test]
fn every_canary_is_found() {
    let mut silent = Vec::new();
    for canary in Canary::all() {
        let (reports, failures) = try_seeds(1..CANARY_SEEDS + 1, Some(canary), true);
        let sung = reports.iter().filter(|report| report.sung).count();
        match failures.first() {
            Some(failure) => eprintln!("{canary:?}: {failure}"),
            None => silent.push((canary, sung)),
        }
    }
    assert!(
        silent.is_empty(),
        "in {CANARY_SEEDS} worlds nobody noticed these, which were at work so often: {silent:?}"
    );
}

/// A policy that is broken must be seen within so many worlds. Each is seen within thirty today.
const CANARY_SEEDS: u64 = 150;

#[test]
fn seeds_that_have_shown_a_fault_show_none() {
    for seed in FAULTS {
        if let Err(failure) = run_alone(seed, false) {
            panic!("{failure}");
        }
    }
}

/// Worlds beyond those that are always tried, each of which was the first to show a fault of the engine: a list that was asked for
/// in the same breath in which its stream ended.
const FAULTS: [u64; 1] = [20_018];

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in [3, 17] {
        let (once, twice) = (run_alone(seed, false), run_alone(seed, false));
        assert_eq!(format!("{once:?}"), format!("{twice:?}"));
    }
}
