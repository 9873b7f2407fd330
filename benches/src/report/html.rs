//! A run and a comparison as one HTML file: it asks nobody for anything and opens from a disk without a network, years
//! later, too. Plain HTML, CSS and JavaScript without a build step, in `page/`; the figures stand in it as JSON.
//!
//! `uplot/` is uPlot 1.6.32 as its author distributes it (MIT; the licence beside it, and in each page).

use serde::Serialize;

use crate::{
    comparison::{Comparison, Figure},
    outcome::Outcome,
    report::text,
    verdict::{Check, Verdict, checks},
};

/// One run.
pub fn run(outcome: &Outcome) -> String {
    let title = format!("{} on {}", outcome.scenario, outcome.server);
    page(&title, &text::run(outcome, false), &Data::of(None, Some(outcome), std::slice::from_ref(outcome)))
}

/// Several servers.
pub fn comparison(comparison: &Comparison) -> String {
    let title = format!("{}, compared", comparison.scenario);
    let data = Data::of(Some(comparison), None, &comparison.outcomes);
    page(&title, &text::comparison(comparison, false), &data)
}

/// What the page's scripts are given. Whatever is decided is decided here, so that the scripts only draw.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Data<'a> {
    comparison: Option<&'a Comparison>,
    /// The run, where there is only one.
    outcome: Option<&'a Outcome>,
    /// What is known of each run beside its outcome, in the same order.
    runs: Vec<Run>,
    /// Every figure, in its order.
    figures: Vec<Words>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Run {
    verdict: Verdict,
    checks: Vec<Check>,
    /// One for each figure; null where it was not measured.
    values: Vec<Option<f64>>,
}

/// How a figure is shown.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Words {
    figure: Figure,
    label: &'static str,
    meaning: &'static str,
    unit: &'static str,
    scale: f64,
    count: bool,
    more_is_better: bool,
}

impl<'a> Data<'a> {
    fn of(comparison: Option<&'a Comparison>, outcome: Option<&'a Outcome>, outcomes: &[Outcome]) -> Self {
        let run = |outcome: &Outcome| Run {
            verdict: Verdict::of(outcome),
            checks: checks(outcome),
            values: Figure::ALL.map(|figure| figure.value(outcome)).into(),
        };
        let words = |figure: Figure| Words {
            figure,
            label: figure.label(),
            meaning: figure.meaning(),
            unit: figure.unit(),
            scale: figure.scale(),
            count: figure.is_count(),
            more_is_better: figure.more_is_better(),
        };
        Data {
            comparison,
            outcome,
            runs: outcomes.iter().map(run).collect(),
            figures: Figure::ALL.map(words).into(),
        }
    }
}

/// Fills the template. Each mark is replaced once, from left to right, so that a mark inside what is filled in stays.
fn page(title: &str, text: &str, data: &Data<'_>) -> String {
    let data = serde_json::to_string(data).expect("maps with names as keys, and numbers");
    let mut out = String::with_capacity(TEMPLATE.len() + UPLOT.len() + data.len() * 2 + text.len() + 32_768);
    for (place, piece) in TEMPLATE.split("{{").enumerate() {
        let (mark, rest) = if place == 0 {
            ("", piece)
        } else {
            piece.split_once("}}").expect("every mark of the template is closed")
        };
        match mark {
            "" => {}
            "title" => escape_markup(title, &mut out),
            "text" => escape_markup(text, &mut out),
            "data" => escape_json(&data, &mut out),
            "style" => [UPLOT_STYLE, STYLE].iter().for_each(|style| out.push_str(style)),
            "uplot" => {
                [UPLOT_LICENCE_OPEN, UPLOT_LICENCE, "*/\n", UPLOT].iter().for_each(|part| out.push_str(part))
            }
            "script" => SCRIPTS.iter().for_each(|script| out.push_str(script)),
            other => unreachable!("the template names {other}"),
        }
        out.push_str(rest);
    }
    out
}

fn escape_markup(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
}

/// `json` so that it can stand inside a `script` element: no `</script>` and no `<!--` can end or twist it. In JSON these
/// characters occur only within strings, where their escape means the same. (HTML, 4.12.1.3)
fn escape_json(json: &str, out: &mut String) {
    for character in json.chars() {
        match character {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            other => out.push(other),
        }
    }
}

const TEMPLATE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/style.css");
/// In the order in which they use each other.
const SCRIPTS: [&str; 4] = [
    include_str!("page/common.js"),
    include_str!("page/plots.js"),
    include_str!("page/run.js"),
    include_str!("page/comparison.js"),
];
const UPLOT: &str = include_str!("uplot/uPlot.iife.min.js");
const UPLOT_STYLE: &str = include_str!("uplot/uPlot.min.css");
const UPLOT_LICENCE: &str = include_str!("uplot/LICENSE");
const UPLOT_LICENCE_OPEN: &str = "/*! uPlot 1.6.32\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        Outcome { scenario: "hot".into(), server: "one".into(), ..Outcome::default() }
    }

    /// What stands between the tags of the element that holds the data.
    fn embedded(page: &str) -> serde_json::Value {
        let (_, rest) = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
        serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
    }

    #[test]
    fn a_page_holds_what_it_was_made_of() {
        let mut outcome = outcome();
        outcome.cpu.share = 0.1 + 0.2;
        let data = embedded(&run(&outcome));
        assert_eq!(serde_json::from_value::<Outcome>(data["outcome"].clone()).unwrap(), outcome);
        assert_eq!(data["runs"][0]["verdict"], "unchecked");
        assert_eq!(
            data["figures"].as_array().unwrap().len(),
            data["runs"][0]["values"].as_array().unwrap().len()
        );

        let compared = Comparison::of(vec![outcome.clone(), outcome], "one");
        let data = embedded(&comparison(&compared));
        assert_eq!(serde_json::from_value::<Comparison>(data["comparison"].clone()).unwrap(), compared);
        assert_eq!(data["runs"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn no_name_can_leave_its_place() {
        let mut bad = outcome();
        bad.server = "</script><script>alert(1)</script><!--{{data}}".into();
        bad.scenario = "\"><img src=x onerror=alert(1)> & </title>".into();
        bad.void.push("</pre></noscript><b>\u{2028}".into());
        let page = run(&bad);
        let data = embedded(&page);
        assert_eq!(data["outcome"]["server"], bad.server);
        assert_eq!(data["outcome"]["scenario"], bad.scenario);
        for forbidden in ["<script>alert", "<img", "</pre></noscript><b>"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        let plain = run(&outcome());
        for tag in ["<script", "</script>", "<!--", "</title>", "</noscript>"] {
            assert_eq!(page.matches(tag).count(), plain.matches(tag).count(), "{tag}");
        }
    }

    #[test]
    fn a_page_asks_nobody_for_anything() {
        let page = run(&outcome());
        assert!(page.contains(
            "content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
        ));
        for loading in
            ["src=", "<link", "@import", "url(", "fetch(", "import(", "XMLHttpRequest", "WebSocket("]
        {
            assert!(!page.contains(loading), "{loading}");
        }
        // Where an address stands, it stands in a comment that names an author.
        for (place, _) in page.match_indices("http") {
            let address = page[place..].split(['"', '\'', ' ', '\n', ')']).next().unwrap();
            assert!(!address.contains("://") || address == "https://github.com/leeoniya/uPlot", "{address}");
        }
    }

    #[test]
    fn every_mark_of_the_template_is_filled() {
        let page = run(&outcome());
        assert!(!page.contains("{{"), "{:?}", page.split_once("{{").map(|(_, rest)| &rest[..20]));
        assert!(page.contains("Copyright (c) 2022 Leon Sorokin"), "the licence of uPlot goes with it");
    }
}
