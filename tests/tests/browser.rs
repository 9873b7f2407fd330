//! Players in a real browser: the server's own page, and those that people embed in pages of another origin.

use std::{
    fs,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use shardcast_tests::clients::{
    browser::{LATE, LOOKS, publish_clock, script, watch_seconds},
    process::Process,
    server::{Server, Setup},
    target, wait_for,
    web::{get, get_when_there},
};

#[test]
fn the_page_plays_low_latency_hls_and_on_a_key_flv() {
    let scene = Scene::new("page");
    let keys = ["--key", "l", "--then", ".flv"];
    scene.own_page("", &[&["--asks", ".#.m4s", "--latency", LATENCY][..], &keys].concat());
}

#[test]
fn the_page_plays_flv_where_its_address_says_so() {
    let scene = Scene::new("page-flv");
    scene.own_page("?form=flv", &["--asks", ".flv", "--latency", LATENCY]);
}

#[test]
fn the_page_plays_by_webrtc_where_its_address_says_so_and_on_a_key_hls() {
    let scene = Scene::publishing("page-webrtc", Setup::new(), 0);
    let keys = ["--key", "l", "--then", ".#.m4s"];
    scene.own_page("?form=webrtc", &[&["--asks", "whep", "--latency", LATENCY_WEBRTC][..], &keys].concat());
}

#[test]
fn the_page_plays_by_http2_inside_tls() {
    let scene = Scene::of("page-http2", Setup::new().secure());
    let keys = ["--protocol", "h2", "--key", "l", "--then", ".flv"];
    scene.own_page("", &[&["--asks", ".#.m4s", "--latency", LATENCY][..], &keys].concat());
}

#[test]
fn hls_js_plays_low_latency_hls_in_a_page_of_another_origin() {
    Scene::new("hls").foreign_page("hls", "/index.m3u8", &["--asks", ".#.m4s", "--latency", LATENCY]);
}

#[test]
fn shaka_player_plays_dash_in_a_page_of_another_origin() {
    Scene::new("shaka-dash").when_grown().foreign_page(
        "shaka",
        "/manifest.mpd",
        &["--latency", LATENCY_OTHERS],
    );
}

#[test]
fn shaka_player_plays_hls_in_a_page_of_another_origin() {
    Scene::new("shaka-hls").when_grown().foreign_page("shaka", "/index.m3u8", &["--latency", LATENCY_OTHERS]);
}

#[test]
fn dash_js_plays_low_latency_dash_in_a_page_of_another_origin() {
    Scene::new("dash").foreign_page("dash", "/manifest.mpd", &["--latency", LATENCY_OTHERS]);
}

#[test]
fn video_js_plays_hls_in_a_page_of_another_origin() {
    Scene::new("videojs").when_grown().foreign_page("videojs", "/index.m3u8", &["--latency", LATENCY_OTHERS]);
}

#[test]
fn mpegts_js_plays_flv_in_a_page_of_another_origin() {
    Scene::new("mpegts").foreign_page("mpegts", ".flv", &["--asks", ".flv", "--latency", LATENCY]);
}

#[test]
fn mpegts_js_plays_mpegts_in_a_page_of_another_origin() {
    Scene::new("mpegts-ts").foreign_page("mpegts", ".ts", &["--asks", ".ts", "--latency", LATENCY]);
}

/// Seconds from a picture's making to its showing, encoder included, in the median: parts of 200 ms, groups of two seconds.
const LATENCY: &str = "2.5";
/// Where nothing is gathered before it is sent.
const LATENCY_WEBRTC: &str = "1";
/// For players that go by segments, three of two seconds.
const LATENCY_OTHERS: &str = "10";

/// Segments that a player has before it who wants to find a few.
const SEGMENTS_FIRST: usize = 4;

/// A server, a publisher, and the only browser at the time: decoding in software takes a core.
struct Scene {
    name: &'static str,
    secure: bool,
    _publisher: Process,
    server: Server,
    _alone: MutexGuard<'static, ()>,
}

impl Scene {
    fn new(name: &'static str) -> Self {
        Self::of(name, Setup::new())
    }

    fn of(name: &'static str, setup: Setup) -> Self {
        Self::publishing(name, setup, 2)
    }

    /// With so many B-frames between references.
    fn publishing(name: &'static str, setup: Setup, between: u32) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let secure = setup.secure;
        let server = setup.start();
        let publisher = publish_clock(&server.rtmp_url("live/page"), between, "");
        Scene { name, secure, _publisher: publisher, server, _alone: alone }
    }

    /// Once there is so much that a player finds all the segments it wants to be behind by: Shaka Player and video.js begin nearer to
    /// the end of what a young stream has, and wait once or twice.
    fn when_grown(self) -> Self {
        get_when_there(&self.server, "/live/page/index.m3u8");
        let list = || get(&self.server, "/live/page/video.m3u8");
        let grown = || (list().text().matches("#EXTINF").count() >= SEGMENTS_FIRST).then_some(());
        wait_for(Duration::from_secs(20), grown).expect("the list grows");
        self
    }

    fn own_page(&self, query: &str, arguments: &[&str]) {
        let page =
            if self.secure { self.server.https_url("live/page/") } else { self.server.page_url("live/page") };
        let url = page + query;
        self.judge("player.mjs", &[&url], 6, arguments);
    }

    fn foreign_page(&self, player: &str, suffix: &str, arguments: &[&str]) {
        let url = self.server.page_url("live/page");
        let url = format!("{}{suffix}", url.trim_end_matches('/'));
        self.judge("foreign.mjs", &[player, &url], 12, arguments);
    }

    /// The scripts are the judges: time advances at its pace, nothing waits, nothing is black, nothing is still, nobody
    /// complains.
    fn judge(&self, name: &str, subject: &[&str], seconds: u64, arguments: &[&str]) {
        let seconds = watch_seconds().unwrap_or(seconds);
        let screenshot = target().join("interop").join(format!("{}.png", self.name));
        let look = || {
            drop(fs::remove_file(&screenshot));
            let mut command = script(name);
            command.args(subject).args(["--seconds", &seconds.to_string()]).args(arguments);
            command.arg("--screenshot").arg(&screenshot);
            let ended = Process::start(name, &mut command).finish(Duration::from_secs(90 + seconds));
            println!("{}: {}", self.name, ended.output);
            ended
        };
        let mut ended = look();
        for _ in 1..LOOKS {
            if ended.status.code() == Some(LATE) {
                ended = look();
            }
        }
        assert!(ended.status.success(), "{}: {}\n{}", self.name, ended.output, ended.errors);
        assert!(fs::metadata(&screenshot).is_ok_and(|file| file.len() > 10_000), "a screenshot was taken");
    }
}
