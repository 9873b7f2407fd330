//! The HTML reports in a real browser, where there is one: they draw, offline, without a word of complaint.

mod sample;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use shardcast_bench::{comparison::Comparison, report::html};

/// Writes `page` where `cargo` keeps what tests leave, so that a person can open it.
fn keep(name: &str, page: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, page).expect("the folder for what tests leave can be written");
    path
}

/// The page as it stands once its scripts have run; None without a browser.
fn opened(path: &Path, fragment: &str) -> Option<String> {
    let Some(browser) = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|out| out.status.success()))
    else {
        assert!(std::env::var_os("CI").is_none(), "no chromium here: tests/setup.sh installs it");
        eprintln!("no chromium here: {} was not opened", path.display());
        return None;
    };
    let profile = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("profile-{}", path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("page")));
    let out = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--virtual-time-budget=3000",
            "--enable-logging=stderr",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg("--dump-dom")
        .arg(format!("file://{}{fragment}", path.display()))
        .output()
        .expect("it answered to --version");
    let said = String::from_utf8_lossy(&out.stderr);
    let complaints: Vec<_> = said.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    let page = String::from_utf8(out.stdout).expect("a page is UTF-8");
    assert!(!visible(&page).contains("[object"), "something was shown that is no text");
    Some(page)
}

/// What people see: the page without its data and scripts.
fn visible(page: &str) -> &str {
    page.rsplit_once("</script>").map_or(page, |(_, visible)| visible)
}

#[test]
fn a_run_draws_its_figures_over_time_and_its_latency() {
    let path = keep("run.html", &html::run(&sample::run(sample::SHARDCAST, 1)));
    let Some(page) = opened(&path, "") else { return };
    let visible = visible(&page);
    assert_eq!(visible.matches("<canvas").count(), 7, "five over time, two of latency");
    for words in [
        "hot-stream on shardcast",
        "PASSED",
        "shardcast, flush 33ms",
        "CPU per GB delivered",
        "holes between pictures",
        "EPYC",
    ] {
        assert!(visible.contains(words), "{words}");
    }
}

#[test]
fn a_run_whose_viewers_ask_shows_their_requests() {
    let path = keep("asked.html", &html::run(&sample::asked(5)));
    let Some(page) = opened(&path, "") else { return };
    let visible = visible(&page);
    assert_eq!(visible.matches("<canvas").count(), 8, "six over time, two of latency");
    for words in
        ["Requests answered", "126 MB", "187 ms median", "held playlists without news", "20,003 a second"]
    {
        assert!(visible.contains(words), "{words}");
    }
}

#[test]
fn a_run_without_viewers_leaves_out_what_it_cannot_know() {
    let path = keep("recorded.html", &html::run(&sample::recorded(4)));
    let Some(page) = opened(&path, "") else { return };
    let visible = visible(&page);
    assert_eq!(visible.matches("<canvas").count(), 2, "CPU and memory");
    assert!(visible.contains("pictures missing in recordings") && visible.contains("CPU per GB written"));
    assert!(!visible.contains("NaN") && !visible.contains("undefined"));
}

#[test]
fn a_run_in_which_nothing_happened_is_a_page_too() {
    let path = keep("empty.html", &html::run(&Default::default()));
    let Some(page) = opened(&path, "") else { return };
    let visible = visible(&page);
    assert!(visible.contains("COUNTS") && !visible.contains("NaN") && !visible.contains("undefined"));
}

#[test]
fn a_comparison_shows_servers_side_by_side_and_one_run_on_demand() {
    let path = keep("comparison.html", &html::comparison(&sample::in_turn(5)));
    let Some(page) = opened(&path, "") else { return };
    let overview = visible(&page);
    assert_eq!(overview.matches("<canvas").count(), 1, "latency alone");
    assert_eq!(overview.matches("<option").count(), 21);
    for words in [
        "floor-send",
        "nginx 1.22 with",
        "arcly-stream 0.8, void: Publishers were",
        "holes between pictures: 3",
        "× ",
    ] {
        assert!(overview.contains(words), "{words}");
    }
    let page = opened(&path, "#run=8").expect("the browser was there a moment ago");
    let chosen = visible(&page);
    assert_eq!(chosen.matches("<canvas").count(), 8);
    assert!(chosen.contains("VOID"));
}

#[test]
fn names_that_look_like_markup_stay_text() {
    let mut outcome = sample::run(sample::SHARDCAST, 1);
    outcome.server = "<img src=x onerror=\"document.title='owned'\"></script>".into();
    outcome.settings.insert("<b>".into(), "<i>".into());
    let path = keep("names.html", &html::comparison(&Comparison::of(vec![outcome], "x")));
    let Some(page) = opened(&path, "#run=1") else { return };
    let visible = visible(&page);
    assert!(!page.contains("<title>owned") && !visible.contains("<img") && !visible.contains("<b>"));
    assert!(visible.contains("&lt;img"));
}
