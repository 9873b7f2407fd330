//! A run and a comparison as text for a terminal of 100 columns: what they are worth first, then the figures that matter,
//! each with its unit. Escape sequences stand in it only when the caller says that it goes to a terminal.

use std::fmt::Write;

use crate::{
    comparison::{Comparison, Figure, Row, Standing},
    outcome::{Outcome, Quantiles},
    report::{bytes, number, ratio, volume, whole},
    verdict::{Verdict, faults},
};

/// One run.
pub fn run(outcome: &Outcome, terminal: bool) -> String {
    let paint = Paint { terminal };
    let mut page = Page::default();
    page.line(&format!(
        "{}{}",
        paint.bold(&plain(&format!("{} on {}", outcome.scenario, outcome.server))),
        paint.soft(&plain(&format!("   {}, {} s measured", outcome.began, number(outcome.seconds))))
    ));
    if !outcome.about.is_empty() {
        page.wrapped("  ", "  ", &outcome.about, |line| paint.soft(line));
    }
    page.gap();
    for (words, paints) in verdict(outcome) {
        page.wrapped("  ", "    ", &words, |line| paint.with(paints, line));
    }
    page.gap();
    for (name, cells) in figures(outcome) {
        page.line(&row_of_cells(name, &cells, paint));
    }
    page.gap();
    let settings: Vec<_> = outcome.settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
    if !settings.is_empty() {
        page.wrapped("  Settings    ", "              ", &settings.join(", "), |line| paint.soft(line));
    }
    page.wrapped("  Machine     ", "              ", &machine(outcome), |line| paint.soft(line));
    page.text
}

/// Several servers.
pub fn comparison(comparison: &Comparison, terminal: bool) -> String {
    let paint = Paint { terminal };
    let mut page = Page::default();
    let heading = format!(
        "{}: {} in turn, {}",
        comparison.scenario,
        counted(comparison.servers.len(), "server"),
        counted(comparison.outcomes.len(), "run")
    );
    page.line(&paint.bold(&plain(&heading)));
    let how = format!("Ratios are to {}, run by run. Less is better unless said.", comparison.base);
    page.wrapped("", "", &how, |line| paint.soft(line));
    for (server, about) in comparison.legend() {
        page.wrapped("  ", "    ", &format!("{server}: {about}"), |line| paint.soft(line));
    }
    page.gap();
    for caveat in &comparison.caveats {
        page.wrapped("  ! ", "    ", caveat, |line| paint.with(WARN, line));
    }
    for standing in &comparison.servers {
        for (words, paints) in standing_words(standing) {
            page.wrapped("  ", "    ", &words, |line| paint.with(paints, line));
        }
    }
    for figure in comparison.figures() {
        page.gap();
        let unit = if figure.unit().is_empty() { String::new() } else { format!(", {}", figure.unit()) };
        let label = format!("{}{unit}", figure.label());
        let rest = TABLE_NAME.saturating_sub(label.chars().count());
        let note = if figure.more_is_better() { "  more is better" } else { "" };
        page.line(&format!(
            "  {}{}{}",
            paint.bold(&label),
            paint.soft(&format!("{note:<rest$}")),
            paint.soft(&format!("{:>11}{REACH:>21}{:>10}{REACH:>18}", "median", "ratio"))
        ));
        for row in comparison.rows.iter().filter(|row| row.figure == figure) {
            page.line(&table_row(row, &comparison.base));
        }
    }
    page.text
}

/// Columns that a server's name has in a table.
const TABLE_NAME: usize = 38;
/// What stands over how far values reach.
const REACH: &str = "lowest - highest";
/// Columns of the page.
const WIDTH: usize = 100;

fn table_row(row: &Row, base: &str) -> String {
    let show = |value: f64| figure_number(row.figure, value);
    let value = show(row.value.median);
    let reach = if row.runs > 1 {
        format!("{} - {}", show(row.value.lowest), show(row.value.highest))
    } else {
        "one run".to_owned()
    };
    let (middle, range) = match &row.ratio {
        Some(spread) if row.pairs > 1 => {
            (ratio(spread.median), format!("{} - {}", ratio(spread.lowest), ratio(spread.highest)))
        }
        Some(spread) => (ratio(spread.median), "one pair".to_owned()),
        None if row.server == base => ("base".to_owned(), String::new()),
        None => ("-".to_owned(), String::new()),
    };
    let name = shortened(&plain(&row.server), TABLE_NAME - 2);
    format!("    {name:<width$}{value:>11}{reach:>21}{middle:>10}{range:>18}", width = TABLE_NAME - 2)
}

fn figure_number(figure: Figure, value: f64) -> String {
    if figure.is_count() { whole(value) } else { number(value / figure.scale()) }
}

/// What `outcome` is worth, in sentences, each with its colour.
fn verdict(outcome: &Outcome) -> Vec<(String, &'static str)> {
    let looked = format!(
        "{} read {} pictures",
        counted(outcome.checks.viewers as usize, "viewer"),
        whole(outcome.checks.pictures as f64)
    );
    match Verdict::of(outcome) {
        Verdict::Void => {
            let mut lines = vec![("VOID: these figures mean nothing.".to_owned(), BAD)];
            lines.extend(outcome.void.iter().map(|reason| (format!("- {reason}"), BAD)));
            lines
        }
        Verdict::Failed => {
            let mut lines = vec![(format!("FAILED: the run counts, but not all was well; {looked}."), BAD)];
            lines.extend(faults(outcome).into_iter().map(|fault| (format!("- {fault}"), BAD)));
            lines
        }
        Verdict::Unchecked => {
            vec![("COUNTS: nobody looked at what was delivered; figures only.".to_owned(), WARN)]
        }
        Verdict::Passed => {
            let mut words = String::from("PASSED: ");
            if outcome.checks.pictures > 0 {
                let _ = write!(words, "{looked}, whole, in order, from a key frame on");
            }
            if let Some(recording) = outcome.recording {
                let joint = if outcome.checks.pictures > 0 { "; " } else { "" };
                let _ = write!(
                    words,
                    "{joint}{} pictures are in the recordings, none missing",
                    whole(recording.pictures as f64)
                );
            }
            words.push('.');
            vec![(words, GOOD)]
        }
    }
}

/// The figures that matter, a line each: its name, and cells of a number with its words.
fn figures(outcome: &Outcome) -> Vec<(&'static str, Vec<String>)> {
    let Outcome { traffic, viewers, cpu, memory, load, .. } = outcome;
    let mut lines = Vec::new();
    let mut costs = Vec::new();
    if traffic.delivered_bytes > 0 {
        costs.push(format!("{} s per GB delivered", number(cpu.per_delivered_gb)));
    } else if traffic.published_bytes > 0 {
        costs.push(format!("{} s per GB published", number(cpu.per_published_gb)));
    }
    if let Some(recording) = outcome.recording.filter(|recording| recording.written_bytes > 0) {
        costs.push(format!("{} s per GB written", number(recording.cpu_per_written_gb)));
    }
    costs.push(format!("{} cores in use", number(cpu.share)));
    lines.push(("CPU", costs));
    lines.push((
        "Published",
        vec![
            counted(traffic.publishers as usize, "publisher"),
            volume(traffic.published_bytes as f64),
            format!("{} frames", whole(traffic.published_frames as f64)),
        ],
    ));
    if viewers.asked > 0 {
        lines.push((
            "Delivered",
            vec![
                format!("{} Gbit/s", number(traffic.delivered_gbit_per_second)),
                volume(traffic.delivered_bytes as f64),
                format!("{} bytes missing", whole(traffic.missing_bytes as f64)),
            ],
        ));
        let watching = vec![
            format!("{} of {} playing", whole(viewers.playing as f64), whole(viewers.asked as f64)),
            format!("{} refused", whole(viewers.refused as f64)),
            format!("{} disconnected", whole(viewers.disconnected as f64)),
        ];
        lines.push(("Viewers", watching));
        if viewers.joined > viewers.asked {
            lines.push(("Churn", vec![format!("{} came in all", whole(viewers.joined as f64))]));
        }
        if viewers.stalling + viewers.slow > 0 {
            lines.push((
                "On purpose",
                vec![
                    format!("{} stalling", whole(viewers.stalling as f64)),
                    format!("{} slow", whole(viewers.slow as f64)),
                    format!("{} of them closed", whole(viewers.closed_for_slowness as f64)),
                ],
            ));
        }
    }
    if let Some(requests) = &outcome.requests {
        lines.push((
            "Requests",
            vec![
                format!("{} answered a second", whole(requests.per_second.round())),
                format!("{} of playlists", volume(requests.playlist_bytes as f64)),
                format!("{} reconnects", whole(requests.reconnects as f64)),
            ],
        ));
        if requests.hold.count > 0 {
            lines.push(("Held back", quantiles(&requests.hold)));
        }
    }
    if outcome.first_byte.count > 0 {
        lines.push(("First byte", quantiles(&outcome.first_byte)));
    }
    if outcome.first_key.count > 0 {
        lines.push(("First key", quantiles(&outcome.first_key)));
    }
    if outcome.latency.count > 0 {
        lines.push(("Latency", quantiles(&outcome.latency)));
    }
    let mut resident = vec![format!("{} resident", bytes(memory.last as f64))];
    if viewers.asked > 0 {
        resident.push(format!("{} per viewer", bytes(memory.per_viewer)));
    }
    let growth = memory.last as f64 - memory.first as f64;
    resident.push(format!("{}{} meanwhile", if growth >= 0.0 { "+" } else { "" }, bytes(growth)));
    lines.push(("Memory", resident));
    if let Some(recording) = &outcome.recording {
        lines.push((
            "Recording",
            vec![
                format!("{} written", volume(recording.written_bytes as f64)),
                counted(recording.files as usize, "file"),
                format!("{} pictures missing", whole(recording.missing_pictures as f64)),
                format!("{} cached", bytes(recording.page_cache_growth as f64)),
            ],
        ));
    }
    lines.push((
        "Load side",
        vec![
            format!("{} cores in use", number(load.cpu_share)),
            format!("{} ms late at p99", number(load.publisher_lateness.p99)),
            format!("{} frames held", whole(load.publisher_held as f64)),
        ],
    ));
    lines
}

fn quantiles(quantiles: &Quantiles) -> Vec<String> {
    vec![
        format!("{} ms median", number(quantiles.p50)),
        format!("{} ms p99", number(quantiles.p99)),
        format!("{} ms p99.9", number(quantiles.p999)),
        format!("{} ms worst", number(quantiles.max)),
    ]
}

fn row_of_cells(name: &str, cells: &[String], paint: Paint) -> String {
    let mut line = format!("  {}", paint.bold(&format!("{name:<12}")));
    for (place, cell) in cells.iter().enumerate() {
        // The first cell is the widest; one that overflows its column keeps two spaces to the next.
        let width = if place == 0 { 26 } else { 22 }.max(cell.chars().count() + 2);
        let _ = write!(line, "{cell:<width$}");
    }
    line
}

fn machine(outcome: &Outcome) -> String {
    let machine = &outcome.machine;
    let mut parts = vec![machine.processor.clone()];
    if machine.cores > 0 {
        parts.push(counted(machine.cores, "core"));
    }
    if machine.memory_bytes > 0 {
        parts.push(bytes(machine.memory_bytes as f64));
    }
    if !machine.kernel.is_empty() {
        parts.push(format!("Linux {}", machine.kernel));
    }
    parts.push(machine.network.clone());
    parts.retain(|part| !part.is_empty());
    parts.join(", ")
}

/// How `standing` fares, in sentences; one short one when all is well.
fn standing_words(standing: &Standing) -> Vec<(String, &'static str)> {
    let Standing { server, runs, void, failed, unchecked, .. } = standing;
    let counting = runs - void;
    let mut lines = Vec::new();
    if *void > 0 {
        let reasons = standing.void_reasons.join(" ");
        lines.push((
            format!("{server}: {void} of {} void and left out: {reasons}", counted(*runs, "run")),
            WARN,
        ));
    }
    if *failed > 0 {
        let faults = standing.faults.join("; ");
        lines.push((format!("{server}: {failed} of {counting} that count FAILED: {faults}."), BAD));
    }
    if *unchecked > 0 {
        lines.push((
            format!("{server}: {} count, nobody looked at what was delivered.", counted(*unchecked, "run")),
            "",
        ));
    }
    let passed = counting - failed - unchecked;
    if passed > 0 {
        lines.push((format!("{server}: {} passed all checks.", counted(passed, "run")), GOOD));
    }
    lines
}

fn counted(count: usize, noun: &str) -> String {
    format!("{} {noun}{}", whole(count as f64), if count == 1 { "" } else { "s" })
}

fn shortened(name: &str, width: usize) -> String {
    if name.chars().count() <= width {
        return name.to_owned();
    }
    name.chars().take(width - 1).chain(['…']).collect()
}

/// `text` without control characters: names and reasons may come out of somebody's file, and a terminal obeys them.
fn plain(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).collect()
}

const GOOD: &str = "\x1b[32m";
const WARN: &str = "\x1b[33m";
const BAD: &str = "\x1b[31m";

/// Colours, or none.
#[derive(Clone, Copy)]
struct Paint {
    terminal: bool,
}

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.terminal && !code.is_empty() && !text.is_empty() {
            format!("{code}{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn bold(self, text: &str) -> String {
        self.with("\x1b[1m", text)
    }

    fn soft(self, text: &str) -> String {
        self.with("\x1b[2m", text)
    }
}

/// Lines so far.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    /// An empty line, unless there is one.
    fn gap(&mut self) {
        if !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    /// `words` broken at spaces; the first line begins with `first`, the others with `next`.
    fn wrapped(&mut self, first: &str, next: &str, words: &str, paint: impl Fn(&str) -> String) {
        let mut line = String::new();
        let mut indent = first;
        for word in plain(words).split_whitespace() {
            let width = indent.chars().count() + line.chars().count() + 1 + word.chars().count();
            if !line.is_empty() && width > WIDTH {
                self.line(&format!("{indent}{}", paint(&line)));
                line.clear();
                indent = next;
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.line(&format!("{indent}{}", paint(&line)));
    }
}
