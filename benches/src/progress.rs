//! How a run comes along, on standard error: one line that is rewritten on a terminal, a plain line each few seconds
//! elsewhere. What a line says is decided by [`line()`], which neither writes nor looks at a clock.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

/// Shows how far a run is.
pub struct Progress {
    total: Duration,
    terminal: bool,
    began: Instant,
    shown: Option<Instant>,
    state: State,
}

/// What a line tells, beside the time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// What is being done, a word or two.
    pub phase: String,
    /// Viewers that are there.
    pub viewers: u64,
    /// Delivered now, 10^9 bits per second.
    pub gbit: f64,
    /// The server's CPU share: 1 is one core.
    pub cpu: f64,
}

impl Progress {
    /// Begins now; the whole of it should take `total`. A `terminal` gets one line that is rewritten.
    pub fn new(total: Duration, terminal: bool) -> Self {
        Progress { total, terminal, began: Instant::now(), shown: None, state: State::default() }
    }

    /// Says what is done from now on.
    pub fn phase(&mut self, phase: &str) {
        self.state.phase = phase.to_owned();
        self.show();
    }

    /// Says how it stands. May be called often: it is shown only as often as somebody can read it.
    pub fn tick(&mut self, viewers: u64, gbit: f64, cpu: f64) {
        self.state = State { viewers, gbit, cpu, phase: std::mem::take(&mut self.state.phase) };
        let pause = if self.terminal { TERMINAL_PAUSE } else { PLAIN_PAUSE };
        if self.shown.is_none_or(|shown| shown.elapsed() >= pause) {
            self.show();
        }
    }

    /// Takes the line away, so that what comes next stands where it stood.
    pub fn finish(self) {}

    fn show(&mut self) {
        self.shown = Some(Instant::now());
        let line = line(&self.state, self.began.elapsed(), self.total, self.terminal);
        // A closed standard error is no reason to end a run.
        let _ = if self.terminal {
            write!(io::stderr(), "\r{line}{ERASE_REST}").and_then(|()| io::stderr().flush())
        } else {
            writeln!(io::stderr(), "{line}")
        };
    }
}

impl Drop for Progress {
    /// Also when a run ends by an error: its message must not stand behind half a line.
    fn drop(&mut self) {
        if self.terminal && self.shown.is_some() {
            let _ = write!(io::stderr(), "\r{ERASE_REST}").and_then(|()| io::stderr().flush());
        }
    }
}

/// How often a line is rewritten.
const TERMINAL_PAUSE: Duration = Duration::from_millis(200);
/// How often a new line comes off a terminal.
const PLAIN_PAUSE: Duration = Duration::from_secs(5);
/// Erases what the last, longer line left.
const ERASE_REST: &str = "\x1b[K";
/// Columns of the bar.
const BAR: usize = 14;
/// Columns for the phase.
const PHASE: usize = 10;

/// The line for `state` after `elapsed` of `total`. At most 79 columns, as one that breaks cannot be rewritten; with a
/// `bar` for a terminal.
pub fn line(state: &State, elapsed: Duration, total: Duration, bar: bool) -> String {
    let phase: String = state.phase.chars().filter(|character| !character.is_control()).take(PHASE).collect();
    let share = if total.is_zero() { 1.0 } else { (elapsed.as_secs_f64() / total.as_secs_f64()).min(1.0) };
    let full = (share * BAR as f64) as usize;
    let drawn =
        if bar { format!("{}{} ", "━".repeat(full), "╌".repeat(BAR - full)) } else { String::new() };
    let viewers = crate::report::whole(state.viewers as f64);
    let time = format!("{}/{} s", elapsed.as_secs(), total.as_secs_f64().ceil());
    format!(
        "{phase:<PHASE$} {drawn}{time:>9} {viewers:>7} viewers {:>6.2} Gbit/s  CPU {:.2}",
        state.gbit, state.cpu
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State { phase: "measuring".into(), viewers: 1_000, gbit: 4.017, cpu: 0.181 }
    }

    #[test]
    fn a_line_says_phase_time_viewers_rate_and_cost() {
        let plain = line(&state(), Duration::from_millis(12_900), Duration::from_secs(30), false);
        assert_eq!(plain, "measuring    12/30 s   1,000 viewers   4.02 Gbit/s  CPU 0.18");
        let drawn = line(&state(), Duration::from_secs(15), Duration::from_secs(30), true);
        assert_eq!(drawn, "measuring  ━━━━━━━╌╌╌╌╌╌╌   15/30 s   1,000 viewers   4.02 Gbit/s  CPU 0.18");
    }

    #[test]
    fn no_line_breaks_on_a_terminal_of_80_columns() {
        let many = State {
            phase: "waiting\x1b[2J for everything".into(),
            viewers: 100_000,
            gbit: 123.456,
            cpu: 63.9,
        };
        for (elapsed, total) in [(0, 0), (0, 1800), (1799, 1800), (9_999, 1_800)] {
            let line = line(&many, Duration::from_secs(elapsed), Duration::from_secs(total), true);
            assert!(line.chars().count() <= 79, "{} columns: {line}", line.chars().count());
            assert!(!line.contains('\x1b'));
        }
    }

    #[test]
    fn a_run_without_an_end_in_sight_has_a_full_bar() {
        for elapsed in [0, 5] {
            let line = line(&State::default(), Duration::from_secs(elapsed), Duration::ZERO, true);
            assert!(line.contains(&"━".repeat(BAR)), "{line}");
        }
    }

    #[test]
    fn ticks_between_two_showings_are_kept_and_not_shown() {
        let mut progress = Progress::new(Duration::from_secs(1), false);
        progress.phase("joining");
        let shown = progress.shown;
        progress.tick(7, 0.5, 0.1);
        assert_eq!(progress.shown, shown);
        assert_eq!((progress.state.viewers, progress.state.phase.as_str()), (7, "joining"));
        progress.finish();
    }
}
