//! The text reports against files that a person has looked at. After a change that is meant, run once with
//! `GOLDEN=write` in the environment and look at the difference.

mod sample;

use std::{env, fs, path::Path};

use shardcast_bench::{comparison::Comparison, report::text};

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "wider than 100 columns: {line}");
        assert_eq!(line, line.trim_end());
    }
    if env::var_os("GOLDEN").is_some() {
        fs::write(&path, text).expect("the folder of golden files can be written");
    }
    let expected = fs::read_to_string(&path).expect("there is a golden file");
    assert_eq!(text, expected, "{} differs", path.display());
}

#[test]
fn a_run_that_passed_says_so_and_gives_its_figures() {
    golden("run-passed.txt", &text::run(&sample::run(sample::SHARDCAST, 1), false));
}

#[test]
fn a_run_that_failed_says_what_was_wrong_first() {
    let mut outcome = sample::run(sample::NGINX, 2);
    outcome.viewers.playing = 988;
    outcome.viewers.disconnected = 12;
    outcome.viewers.joined = 4_200;
    outcome.viewers.asked = 1_050;
    outcome.viewers.stalling = 50;
    outcome.viewers.closed_for_slowness = 48;
    outcome.checks.gaps = 31;
    outcome.checks.missing_pictures = 1_204;
    golden("run-failed.txt", &text::run(&outcome, false));
}

#[test]
fn a_void_run_says_why_before_any_figure() {
    let mut outcome = sample::run(sample::SHARDCAST, 3);
    outcome.void = vec![
        "Publishers were 48.1 ms late at p99, more than the 10 ms that are allowed.".into(),
        "The load's thread used 0.99 of its core, so that viewers may have waited for it and not for the server.".into(),
    ];
    golden("run-void.txt", &text::run(&outcome, false));
}

#[test]
fn a_run_that_recorded_without_viewers_speaks_of_files() {
    golden("run-recorded.txt", &text::run(&sample::recorded(4), false));
}

#[test]
fn a_run_whose_viewers_ask_says_how_often_and_how_long_they_were_kept() {
    golden("run-asked.txt", &text::run(&sample::asked(5), false));
}

#[test]
fn a_comparison_gives_ratios_with_their_spread_and_hides_no_void_run() {
    golden("comparison.txt", &text::comparison(&sample::in_turn(5), false));
}

#[test]
fn a_comparison_of_single_runs_claims_no_spread() {
    let mut long = sample::run(sample::ARCLY, 31);
    long.server = "a server whose name somebody made much too long for any table".into();
    let outcomes = vec![sample::run(sample::SHARDCAST, 30), long];
    golden("comparison-single.txt", &text::comparison(&Comparison::of(outcomes, "shardcast"), false));
}

#[test]
fn escape_sequences_stand_only_in_what_goes_to_a_terminal_and_never_come_from_a_name() {
    let mut outcome = sample::run(sample::SHARDCAST, 1);
    let terminal = text::run(&outcome, true);
    assert!(terminal.contains("\x1b[32m"));
    outcome.server = "shard\x1b]0;owned\x07cast".into();
    outcome.void.push("so \x1b[2J it is".into());
    for text in [text::run(&outcome, false), text::comparison(&Comparison::of(vec![outcome], "x\x1b"), false)]
    {
        assert!(!text.contains(['\x1b', '\x07']), "{text}");
    }
}
