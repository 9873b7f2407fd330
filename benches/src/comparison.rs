//! Several servers under one scenario in one sitting: what each costs, how far its runs are apart, and its ratio to one of
//! them. A ratio is always of two runs that were made one after the other, because a machine's speed drifts during a
//! sitting more than servers differ; that is why they are run in turn.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    outcome::{Outcome, Quantiles},
    verdict::{Verdict, faults},
};

/// What several servers have shown under one scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Comparison {
    /// The scenario's name.
    pub scenario: String,
    /// The server that the ratios are relative to.
    pub base: String,
    /// What speaks against comparing these runs, one sentence each. Empty when nothing does.
    pub caveats: Vec<String>,
    /// The servers, in the order in which they came first.
    pub servers: Vec<Standing>,
    /// For each figure that applies, the servers that have it, in the same order.
    pub rows: Vec<Row>,
    /// The runs in the order in which they were made, void ones among them.
    pub outcomes: Vec<Outcome>,
}

/// How many of a server's runs count.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Standing {
    /// The server's name.
    pub server: String,
    /// Runs that were made.
    pub runs: usize,
    /// Those of them that are void and in no row.
    pub void: usize,
    /// Those of them that count and in which the server did something wrong.
    pub failed: usize,
    /// Those of them that count and in which nobody looked at what was delivered.
    pub unchecked: usize,
    /// Why runs are void, each reason once.
    pub void_reasons: Vec<String>,
    /// What was wrong in those that failed, each run's on its own.
    pub faults: Vec<String>,
}

/// One figure of one server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Row {
    /// Which figure.
    pub figure: Figure,
    /// Whose.
    pub server: String,
    /// How many runs it is of.
    pub runs: usize,
    /// The figure itself.
    pub value: Spread,
    /// How many pairs of runs the ratio is of.
    pub pairs: usize,
    /// Each run's figure divided by that of the base's run of the same round. None for the base itself, when no pair is
    /// left, and when the base's figure is 0.
    pub ratio: Option<Spread>,
}

/// The middle of several values and how far they reach. Few runs tell no deviation, so the extremes stand here as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Spread {
    /// Half of them are at most this; the mean of the middle two when their number is even.
    pub median: f64,
    /// The lowest.
    pub lowest: f64,
    /// The highest.
    pub highest: f64,
}

/// What servers are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Figure {
    /// CPU seconds per 10^9 bytes delivered.
    CpuPerDeliveredGb,
    /// CPU seconds per 10^9 bytes published, where nobody watches.
    CpuPerPublishedGb,
    /// CPU seconds per 10^9 bytes recorded.
    CpuPerWrittenGb,
    /// Cores in use.
    CpuShare,
    /// Resident memory at the end.
    Memory,
    /// Memory per viewer.
    MemoryPerViewer,
    /// Median latency.
    LatencyP50,
    /// 99th percentile of latency.
    LatencyP99,
    /// 99.9th percentile of latency.
    LatencyP999,
    /// Median time to the first key frame.
    FirstKeyP50,
    /// 99th percentile of the time to the first key frame.
    FirstKeyP99,
    /// Delivered per second.
    Delivered,
    /// Answers per second to viewers that ask.
    Requests,
    /// Bytes of playlists per second.
    Playlists,
    /// Bytes that viewers got less than they should have.
    MissingBytes,
    /// Holes between pictures.
    Gaps,
    /// Viewers that the server closed.
    Disconnects,
}

impl Comparison {
    /// Compares `outcomes`, which stand in the order in which they were made. The k-th run of a server is paired with the
    /// k-th run of `base`, void runs counted, so that one void run does not shift all later pairs. When `base` is the
    /// name of none of them there are no ratios, and a caveat says so.
    pub fn of(outcomes: Vec<Outcome>, base: &str) -> Self {
        let names = distinct(outcomes.iter().map(|outcome| outcome.server.clone()));
        let servers: Vec<_> = names.iter().map(|name| standing(name, &outcomes)).collect();
        let rows = Figure::ALL
            .into_iter()
            .flat_map(|figure| {
                let rows: Vec<_> =
                    names.iter().filter_map(|server| row(figure, server, base, &outcomes)).collect();
                // A figure that is 0 throughout says nothing: nobody recorded, or nothing went wrong.
                let applies = rows.iter().any(|row| row.value.lowest != 0.0 || row.value.highest != 0.0);
                if applies { rows } else { Vec::new() }
            })
            .collect();
        Comparison {
            scenario: distinct(outcomes.iter().map(|outcome| outcome.scenario.clone())).join(" and "),
            base: base.to_owned(),
            caveats: caveats(&outcomes, &servers, base),
            servers,
            rows,
            outcomes,
        }
    }

    /// What is known of each server that says something of itself, in their order.
    pub fn legend(&self) -> Vec<(&str, &str)> {
        let about = |standing: &Standing| {
            let run = self.outcomes.iter().find(|outcome| outcome.server == standing.server)?;
            (!run.about.is_empty()).then_some((run.server.as_str(), run.about.as_str()))
        };
        self.servers.iter().filter_map(about).collect()
    }

    /// The figures that apply, in their order.
    pub fn figures(&self) -> Vec<Figure> {
        Figure::ALL.into_iter().filter(|figure| self.rows.iter().any(|row| row.figure == *figure)).collect()
    }
}

impl Spread {
    /// The spread of `values`; None when there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted: Vec<_> = values.iter().copied().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (lowest, highest) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 0 { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] };
        Some(Spread { median, lowest, highest })
    }
}

impl Figure {
    /// All of them, what matters most first.
    pub const ALL: [Figure; 17] = [
        Figure::CpuPerDeliveredGb,
        Figure::CpuPerPublishedGb,
        Figure::CpuPerWrittenGb,
        Figure::CpuShare,
        Figure::LatencyP50,
        Figure::LatencyP99,
        Figure::LatencyP999,
        Figure::FirstKeyP50,
        Figure::FirstKeyP99,
        Figure::Memory,
        Figure::MemoryPerViewer,
        Figure::Delivered,
        Figure::Requests,
        Figure::Playlists,
        Figure::MissingBytes,
        Figure::Gaps,
        Figure::Disconnects,
    ];

    /// The figure in `outcome`, in its base unit; None where it was not measured.
    pub fn value(self, outcome: &Outcome) -> Option<f64> {
        let cpu = &outcome.cpu;
        let measured = |quantiles: &Quantiles, value: f64| (quantiles.count > 0).then_some(value);
        match self {
            Figure::CpuPerDeliveredGb => {
                (outcome.traffic.delivered_bytes > 0).then_some(cpu.per_delivered_gb)
            }
            // Where viewers are served, nearly all of the cost is theirs.
            Figure::CpuPerPublishedGb => (outcome.traffic.published_bytes > 0
                && outcome.traffic.delivered_bytes == 0)
                .then_some(cpu.per_published_gb),
            Figure::CpuPerWrittenGb => outcome
                .recording
                .filter(|recording| recording.written_bytes > 0)
                .map(|recording| recording.cpu_per_written_gb),
            Figure::CpuShare => Some(cpu.share),
            Figure::Memory => Some(outcome.memory.last as f64),
            Figure::MemoryPerViewer => (outcome.viewers.asked > 0).then_some(outcome.memory.per_viewer),
            Figure::LatencyP50 => measured(&outcome.latency, outcome.latency.p50),
            Figure::LatencyP99 => measured(&outcome.latency, outcome.latency.p99),
            Figure::LatencyP999 => measured(&outcome.latency, outcome.latency.p999),
            Figure::FirstKeyP50 => measured(&outcome.first_key, outcome.first_key.p50),
            Figure::FirstKeyP99 => measured(&outcome.first_key, outcome.first_key.p99),
            Figure::Delivered => Some(outcome.traffic.delivered_gbit_per_second),
            Figure::Requests => outcome.requests.as_ref().map(|requests| requests.per_second),
            Figure::Playlists => {
                let bytes = outcome.requests.as_ref()?.playlist_bytes as f64;
                (outcome.seconds > 0.0).then(|| bytes * 8.0 / outcome.seconds)
            }
            Figure::MissingBytes => Some(outcome.traffic.missing_bytes as f64),
            Figure::Gaps => Some(outcome.checks.gaps as f64),
            Figure::Disconnects => Some(outcome.viewers.disconnected as f64),
        }
    }

    /// What people call it.
    pub const fn label(self) -> &'static str {
        match self {
            Figure::CpuPerDeliveredGb => "CPU per GB delivered",
            Figure::CpuPerPublishedGb => "CPU per GB published",
            Figure::CpuPerWrittenGb => "CPU per GB written",
            Figure::CpuShare => "CPU in use",
            Figure::Memory => "Memory",
            Figure::MemoryPerViewer => "Memory per viewer",
            Figure::LatencyP50 => "Latency, median",
            Figure::LatencyP99 => "Latency, p99",
            Figure::LatencyP999 => "Latency, p99.9",
            Figure::FirstKeyP50 => "First key, median",
            Figure::FirstKeyP99 => "First key, p99",
            Figure::Delivered => "Delivered",
            Figure::Requests => "Requests answered",
            Figure::Playlists => "Playlists",
            Figure::MissingBytes => "Bytes missing",
            Figure::Gaps => "Holes between pictures",
            Figure::Disconnects => "Viewers disconnected",
        }
    }

    /// One sentence for who meets it for the first time.
    pub const fn meaning(self) -> &'static str {
        match self {
            Figure::CpuPerDeliveredGb => {
                "CPU seconds of the server, all its threads, for each 10⁹ bytes that viewers got."
            }
            Figure::CpuPerPublishedGb => "CPU seconds of the server for each 10⁹ bytes that publishers sent.",
            Figure::CpuPerWrittenGb => {
                "CPU seconds of the server for each 10⁹ bytes it wrote to recordings; with viewers it holds their cost, too."
            }
            Figure::CpuShare => "CPU seconds of the server per second: 1 is one core busy all the time.",
            Figure::Memory => {
                "Resident memory of the server, all its processes, at the end of the measurement."
            }
            Figure::MemoryPerViewer => {
                "How much resident memory grew from the first viewer to the last, divided by their number."
            }
            Figure::LatencyP50 => {
                "From a picture leaving its publisher until a viewer has it whole: half are at most this."
            }
            Figure::LatencyP99 => {
                "From a picture leaving its publisher until a viewer has it whole: 99 of 100 are at most this."
            }
            Figure::LatencyP999 => {
                "From a picture leaving its publisher until a viewer has it whole: 999 of 1,000 are at most this."
            }
            Figure::FirstKeyP50 => {
                "From connecting until the first key frame is there whole: half are at most this."
            }
            Figure::FirstKeyP99 => {
                "From connecting until the first key frame is there whole: 99 of 100 are at most this."
            }
            Figure::Delivered => "What all viewers together got per second.",
            Figure::Requests => {
                "Answers to viewers that ask for one piece after the other. Servers with different numbers did different work."
            }
            Figure::Playlists => {
                "Playlists and manifests that all viewers got, which count as delivered nowhere else."
            }
            Figure::MissingBytes => {
                "What viewers got less than a viewer of the same stream that was checked."
            }
            Figure::Gaps => "Places where a viewer did not get the next picture.",
            Figure::Disconnects => "Viewers that kept up and that the server closed.",
        }
    }

    /// The unit that people read it in.
    pub const fn unit(self) -> &'static str {
        match self {
            Figure::CpuPerDeliveredGb | Figure::CpuPerPublishedGb | Figure::CpuPerWrittenGb => "s/GB",
            Figure::CpuShare => "cores",
            Figure::Memory => "MiB",
            Figure::MemoryPerViewer => "KiB",
            Figure::LatencyP50
            | Figure::LatencyP99
            | Figure::LatencyP999
            | Figure::FirstKeyP50
            | Figure::FirstKeyP99 => "ms",
            Figure::Delivered => "Gbit/s",
            Figure::Requests => "1/s",
            Figure::Playlists => "Mbit/s",
            Figure::MissingBytes => "bytes",
            Figure::Gaps | Figure::Disconnects => "",
        }
    }

    /// How many base units one [`unit`](Self::unit) is.
    pub const fn scale(self) -> f64 {
        match self {
            Figure::Memory => 1024.0 * 1024.0,
            Figure::MemoryPerViewer => 1024.0,
            Figure::Playlists => 1e6,
            _ => 1.0,
        }
    }

    /// True for what is counted one by one.
    pub const fn is_count(self) -> bool {
        matches!(self, Figure::MissingBytes | Figure::Gaps | Figure::Disconnects)
    }

    /// True where more is better.
    pub const fn more_is_better(self) -> bool {
        matches!(self, Figure::Delivered | Figure::Requests)
    }
}

/// One figure of one server; None when no run that counts has it.
fn row(figure: Figure, server: &str, base: &str, outcomes: &[Outcome]) -> Option<Row> {
    let runs = values(figure, server, outcomes);
    let counted: Vec<_> = runs.iter().copied().flatten().collect();
    let value = Spread::of(&counted)?;
    let ratios: Vec<_> = if server == base {
        Vec::new()
    } else {
        let pairs = runs.into_iter().zip(values(figure, base, outcomes));
        let both = pairs.filter_map(|(own, base)| Some((own?, base?)));
        both.filter(|(_, base)| *base != 0.0).map(|(own, base)| own / base).collect()
    };
    Some(Row {
        figure,
        server: server.to_owned(),
        runs: counted.len(),
        value,
        pairs: ratios.len(),
        ratio: Spread::of(&ratios),
    })
}

/// The figure in each run of `server`, in order; None stands for a void run and for one without it.
fn values(figure: Figure, server: &str, outcomes: &[Outcome]) -> Vec<Option<f64>> {
    let runs = outcomes.iter().filter(|outcome| outcome.server == server);
    runs.map(|outcome| if outcome.void.is_empty() { figure.value(outcome) } else { None }).collect()
}

fn standing(server: &str, outcomes: &[Outcome]) -> Standing {
    let mut standing = Standing { server: server.to_owned(), ..Standing::default() };
    let mut reasons = Vec::new();
    for outcome in outcomes.iter().filter(|outcome| outcome.server == server) {
        standing.runs += 1;
        match Verdict::of(outcome) {
            Verdict::Void => {
                standing.void += 1;
                reasons.extend(outcome.void.iter().cloned());
            }
            Verdict::Failed => {
                standing.failed += 1;
                standing.faults.push(faults(outcome).join(", "));
            }
            Verdict::Unchecked => standing.unchecked += 1,
            Verdict::Passed => {}
        }
    }
    standing.void_reasons = distinct(reasons.into_iter());
    standing
}

fn caveats(outcomes: &[Outcome], servers: &[Standing], base: &str) -> Vec<String> {
    let mut caveats = Vec::new();
    if distinct(outcomes.iter().map(|outcome| outcome.scenario.clone())).len() > 1 {
        caveats.push("The runs are of different scenarios: their ratios mean nothing.".to_owned());
    }
    let mut machines = outcomes.iter().map(|outcome| &outcome.machine);
    if let Some(first) = machines.next() {
        let same = |machine: &crate::outcome::Machine| {
            // The network is left out: each server may have an address of its own.
            machine.processor == first.processor
                && machine.cores == first.cores
                && machine.kernel == first.kernel
        };
        if !machines.all(same) {
            caveats.push("The runs were made on different machines or kernels.".to_owned());
        }
    }
    match servers.iter().find(|standing| standing.server == base) {
        None => caveats.push(format!("There is no run of {base}, so there are no ratios.")),
        Some(standing) if standing.void == standing.runs => {
            caveats.push(format!("Every run of {base} is void, so there are no ratios."));
        }
        Some(_) => {}
    }
    let runs: BTreeSet<_> = servers.iter().map(|standing| standing.runs).collect();
    if runs.len() > 1 {
        caveats.push("Not every server was run equally often: some runs have no pair.".to_owned());
    }
    if servers.iter().any(|standing| standing.runs - standing.void < 3) {
        caveats.push("Fewer than three runs of a server count: its spread says little.".to_owned());
    }
    caveats
}

/// Each value once, in the order of its first time.
fn distinct(values: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    values.filter(|value| seen.insert(value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Requests;

    fn run(server: &str, cpu: f64) -> Outcome {
        let mut outcome = Outcome { scenario: "hot".into(), server: server.into(), ..Outcome::default() };
        outcome.traffic.delivered_bytes = 1;
        outcome.cpu.per_delivered_gb = cpu;
        outcome.checks.viewers = 1;
        outcome.checks.pictures = 1;
        outcome
    }

    fn void(server: &str, cpu: f64) -> Outcome {
        Outcome { void: vec!["The publisher was late.".into()], ..run(server, cpu) }
    }

    fn cpu_row<'a>(comparison: &'a Comparison, server: &str) -> &'a Row {
        let is = |row: &&Row| row.figure == Figure::CpuPerDeliveredGb && row.server == server;
        comparison.rows.iter().find(is).unwrap()
    }

    fn spread(median: f64, lowest: f64, highest: f64) -> Spread {
        Spread { median, lowest, highest }
    }

    #[test]
    fn a_median_is_the_middle_one_or_the_mean_of_the_middle_two() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[f64::NAN]), None);
        assert_eq!(Spread::of(&[4.0]), Some(spread(4.0, 4.0, 4.0)));
        assert_eq!(Spread::of(&[9.0, 1.0, 4.0]), Some(spread(4.0, 1.0, 9.0)));
        assert_eq!(Spread::of(&[9.0, 1.0, 4.0, 6.0]), Some(spread(5.0, 1.0, 9.0)));
    }

    #[test]
    fn a_ratio_is_of_runs_of_the_same_round() {
        // The machine becomes slower during the sitting; b stays twice a all the while.
        let runs = [("a", 1.0), ("b", 2.0), ("a", 2.0), ("b", 4.0), ("a", 4.0), ("b", 8.0)];
        let comparison = Comparison::of(runs.map(|(server, cpu)| run(server, cpu)).into(), "a");
        assert_eq!(cpu_row(&comparison, "a").ratio, None);
        assert_eq!(cpu_row(&comparison, "b").ratio, Some(spread(2.0, 2.0, 2.0)));
        assert_eq!(cpu_row(&comparison, "b").value, spread(4.0, 2.0, 8.0));
        assert_eq!(comparison.figures(), [Figure::CpuPerDeliveredGb]);
        assert_eq!(comparison.caveats, [""; 0]);
        assert_eq!(comparison.scenario, "hot");
    }

    #[test]
    fn a_void_run_is_counted_left_out_and_shifts_no_pair() {
        let outcomes =
            vec![run("a", 1.0), run("b", 3.0), void("a", 50.0), run("b", 6.0), run("a", 3.0), run("b", 6.0)];
        let comparison = Comparison::of(outcomes, "a");
        let (a, b) = (cpu_row(&comparison, "a"), cpu_row(&comparison, "b"));
        assert_eq!((a.runs, a.value), (2, spread(2.0, 1.0, 3.0)));
        assert_eq!((b.runs, b.pairs, b.ratio), (3, 2, Some(spread(2.5, 2.0, 3.0))));
        assert_eq!((comparison.servers[0].runs, comparison.servers[0].void), (3, 1));
        assert_eq!(comparison.servers[0].void_reasons, ["The publisher was late."]);
        assert_eq!(comparison.outcomes.len(), 6);
        assert!(comparison.caveats[0].starts_with("Fewer than three"), "{:?}", comparison.caveats);
    }

    #[test]
    fn runs_without_a_pair_have_a_value_and_no_ratio() {
        let comparison = Comparison::of(vec![run("a", 1.0), run("b", 2.0), run("b", 4.0)], "a");
        let b = cpu_row(&comparison, "b");
        assert_eq!((b.runs, b.pairs, b.ratio), (2, 1, Some(spread(2.0, 2.0, 2.0))));
        assert!(comparison.caveats.iter().any(|caveat| caveat.starts_with("Not every server")));

        let nobody = Comparison::of(vec![run("a", 1.0), run("b", 2.0)], "c");
        assert!(nobody.rows.iter().all(|row| row.ratio.is_none()) && !nobody.rows.is_empty());
        assert_eq!(nobody.caveats[0], "There is no run of c, so there are no ratios.");

        let voided = Comparison::of(vec![void("a", 1.0), run("b", 2.0)], "a");
        assert_eq!(voided.caveats[0], "Every run of a is void, so there are no ratios.");
        assert!(voided.rows.iter().all(|row| row.server == "b" && row.ratio.is_none()));
    }

    #[test]
    fn a_figure_of_zero_is_shown_only_beside_one_that_is_not() {
        let mut bad = run("b", 2.0);
        bad.checks.gaps = 3;
        let comparison = Comparison::of(vec![run("a", 1.0), bad], "a");
        let gaps: Vec<_> = comparison.rows.iter().filter(|row| row.figure == Figure::Gaps).collect();
        assert_eq!(gaps.len(), 2);
        assert_eq!((gaps[0].value.median, gaps[1].value.median, gaps[1].ratio), (0.0, 3.0, None));
        assert_eq!(comparison.servers[1].faults, ["holes between pictures: 3"]);
        assert!(!comparison.figures().contains(&Figure::Disconnects));
    }

    #[test]
    fn requests_are_compared_where_viewers_ask() {
        let asked = |server: &str, per_second: f64| {
            let mut outcome = Outcome { seconds: 2.0, ..run(server, 1.0) };
            let requests = Requests { per_second, playlist_bytes: 500_000, ..Requests::default() };
            outcome.requests = Some(requests);
            outcome
        };
        let comparison = Comparison::of(vec![asked("a", 100.0), asked("b", 101.0)], "a");
        let row = |figure: Figure| {
            let is = |row: &&Row| row.figure == figure && row.server == "b";
            comparison.rows.iter().find(is).unwrap()
        };
        assert_eq!(row(Figure::Requests).ratio, Some(spread(1.01, 1.01, 1.01)));
        assert_eq!(row(Figure::Playlists).value.median / Figure::Playlists.scale(), 2.0);
        let plain = Comparison::of(vec![run("a", 1.0)], "a");
        assert!(!plain.figures().contains(&Figure::Requests));
    }

    #[test]
    fn what_must_not_be_compared_is_said() {
        let mut other = run("b", 2.0);
        other.scenario = "cold".into();
        other.machine.cores = 64;
        let comparison = Comparison::of(vec![run("a", 1.0), other], "a");
        assert_eq!(comparison.scenario, "hot and cold");
        assert_eq!(comparison.caveats.len(), 3);
    }

    #[test]
    fn it_survives_json_and_nothing_at_all() {
        let comparison = Comparison::of(vec![run("a", 1.0), run("b", 0.1 + 0.2)], "a");
        let text = serde_json::to_string(&comparison).unwrap();
        assert!(text.contains("\"figure\":\"cpu-per-delivered-gb\""));
        assert_eq!(serde_json::from_str::<Comparison>(&text).unwrap(), comparison);
        assert!(Comparison::of(Vec::new(), "a").rows.is_empty());
    }
}
