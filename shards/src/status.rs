//! What `serve` shows on a terminal: the doors as URLs to paste, and one status line that is rewritten each second.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Instant,
};

use shardcast_engine::stats::ShardStats;

use crate::{config::Config, control::link::Snapshot};

/// The doors as URLs that can be pasted into ffmpeg, OBS and a browser.
///
/// `demo` is a stream that is there already.
pub fn doors(config: &Config, demo: Option<&str>) -> String {
    let mut out = String::new();
    let shown = demo.unwrap_or("live/cam");
    let (publish_key, play_key) = (key_hint(&config.auth.publish), key_hint(&config.auth.play));
    let mut line = |purpose: &str, url: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  {purpose:<12} {url}");
    };
    for (name, address) in config.doors() {
        let host = host(address);
        // The door's name is the scheme of its URLs.
        if name.starts_with("rtmp") {
            line(
                "ffmpeg",
                format!("ffmpeg -re -i FILE -c copy -f flv \"{name}://{host}/live/cam{publish_key}\""),
            );
            line("OBS", format!("server {name}://{host}/live   stream key cam{publish_key}"));
            line("play", format!("ffplay \"{name}://{host}/{shown}{play_key}\""));
        } else if name.starts_with("rtsp") {
            line(
                "ffmpeg",
                format!(
                    "ffmpeg -re -i FILE -c copy -f rtsp -rtsp_transport tcp \"{name}://{host}/live/cam{publish_key}\""
                ),
            );
            line("play", format!("ffplay -rtsp_transport tcp \"{name}://{host}/{shown}{play_key}\""));
        } else if name == "srt" {
            line(
                "ffmpeg",
                format!(
                    "ffmpeg -re -i FILE -c copy -f mpegts \"srt://{host}?streamid=publish:live/cam{}\"",
                    user(publish_key)
                ),
            );
            line("play", format!("ffplay \"srt://{host}?streamid=read:{shown}{}\"", user(play_key)));
        } else if name == "webrtc" {
            // Asked for at the door of HTTP, whose lines say how.
        } else {
            if config.webrtc.port != 0 {
                line("OBS (WHIP)", format!("server {name}://{host}/live/cam/whip{publish_key}"));
            }
            line("browser", format!("{name}://{host}/{shown}/{play_key}"));
            line("play", format!("ffplay \"{name}://{host}/{shown}.flv{play_key}\""));
        }
    }
    for (name, intake) in config.intakes() {
        let scheme = if intake.wrapped { "rtp" } else { "udp" };
        line("takes in", format!("{name} from {scheme}://{}", intake.address));
    }
    config.relay_lines().into_iter().for_each(|(verb, text)| line(verb, text));
    if let Some(address) = config.control_door() {
        line("metrics", format!("http://{}/metrics", host(address)));
    }
    out
}

/// The key itself stays out of what a terminal remembers.
fn key_hint(keys: &[String]) -> &'static str {
    if keys.is_empty() { "" } else { "?key=KEY" }
}

/// A key where SRT has it, behind a user of any name.
fn user(key_hint: &str) -> &'static str {
    if key_hint.is_empty() { "" } else { ":USER:KEY" }
}

/// An address a person on this machine can use. Nobody can connect to "every address"; this machine can to loopback.
fn host(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if ip.is_unspecified() => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()),
        ip => SocketAddr::new(ip, address.port()),
    }
}

/// Makes rates of two snapshots.
#[derive(Debug, Default)]
pub struct Meter {
    last: Option<(Instant, ShardStats, Vec<u64>)>,
}

/// Shards whose CPU is shown one by one. A line that is longer than the terminal is wide cannot be rewritten.
const SHARDS_SHOWN_MAX: usize = 4;

impl Meter {
    /// The status line, with rates since the line before.
    pub fn line(&mut self, snapshot: &Snapshot, at: Instant) -> String {
        let total = snapshot.total();
        let cpus: Vec<u64> = snapshot
            .reports
            .iter()
            .map(|report| report.as_ref().map_or(0, |report| report.stats.cpu_nanoseconds))
            .collect();
        let mut out = format!(
            "{} {}  {} {}",
            total.streams,
            if total.streams == 1 { "stream" } else { "streams" },
            total.viewers,
            if total.viewers == 1 { "viewer" } else { "viewers" },
        );
        if let Some((then, before, cpus_before)) = &self.last {
            let nanos = at.duration_since(*then).as_nanos().max(1) as f64;
            let megabits = |now: u64, then: u64| now.saturating_sub(then) as f64 * 8.0 * 1e3 / nanos;
            let _ = write!(
                out,
                "  in {:.1}  out {:.1} Mbit/s  cpu",
                megabits(total.received_bytes, before.received_bytes),
                megabits(total.sent_bytes, before.sent_bytes)
            );
            let shares: Vec<f64> = cpus
                .iter()
                .zip(cpus_before)
                .map(|(now, then)| now.saturating_sub(*then) as f64 * 100.0 / nanos)
                .collect();
            if shares.len() <= SHARDS_SHOWN_MAX {
                shares.iter().for_each(|share| {
                    let _ = write!(out, " {share:.0}%");
                });
            } else {
                let most = shares.iter().copied().fold(0.0, f64::max);
                let mean = shares.iter().sum::<f64>() / shares.len() as f64;
                let _ = write!(out, " {mean:.0}% of {} shards, at most {most:.0}%", shares.len());
            }
        }
        let silent = snapshot.reports.iter().filter(|report| report.is_none()).count();
        if silent > 0 {
            let _ = write!(out, "  {silent} silent!");
        }
        self.last = Some((at, total, cpus));
        out
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::control::link::Report;

    fn report(stats: ShardStats) -> Option<Report> {
        Some(Report { stats, ..Report::default() })
    }

    #[test]
    fn rates_are_what_happened_between_two_lines() {
        let mut meter = Meter::default();
        let start = Instant::now();
        let first = ShardStats { streams: 1, viewers: 2, ..ShardStats::default() };
        let mut second = first.clone();
        second.received_bytes = 250_000;
        second.sent_bytes = 500_000;
        second.cpu_nanoseconds = 500_000_000;
        let idle = ShardStats::default();
        let before = Snapshot { reports: vec![report(first), report(idle.clone())] };
        assert_eq!(meter.line(&before, start), "1 stream  2 viewers");
        let after = Snapshot { reports: vec![report(second), report(idle)] };
        assert_eq!(
            meter.line(&after, start + Duration::from_secs(2)),
            "1 stream  2 viewers  in 1.0  out 2.0 Mbit/s  cpu 25% 0%"
        );
        let silent = Snapshot { reports: vec![None, report(ShardStats::default())] };
        assert!(meter.line(&silent, start + Duration::from_secs(3)).ends_with("1 silent!"));
    }

    #[test]
    fn the_line_stays_short_on_many_cores() {
        let mut meter = Meter::default();
        let start = Instant::now();
        let snapshot = Snapshot { reports: vec![report(ShardStats::default()); 64] };
        meter.line(&snapshot, start);
        let line = meter.line(&snapshot, start + Duration::from_secs(1));
        assert!(line.contains("0% of 64 shards") && line.len() < 80, "{line}");
    }

    #[test]
    fn doors_are_shown_as_urls_that_work_here_and_hold_no_key() {
        let mut config = Config { bind: "0.0.0.0".parse().unwrap(), ..Config::default() };
        config.auth.publish.push("s3cret".into());
        let text = doors(&config, None);
        for part in [
            "\"rtmp://127.0.0.1:1935/live/cam?key=KEY\"",
            "server rtmp://127.0.0.1:1935/live   stream key cam?key=KEY",
            "ffplay \"rtmp://127.0.0.1:1935/live/cam\"",
            "-f rtsp -rtsp_transport tcp \"rtsp://127.0.0.1:8554/live/cam?key=KEY\"",
            "http://127.0.0.1:8080/live/cam/",
            "http://127.0.0.1:9090/metrics",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("s3cret"));
        assert!(doors(&config, Some("live/demo")).contains("http://127.0.0.1:8080/live/demo/"));
        config.tls.certificate = "certificate.pem".into();
        let text = doors(&config, None);
        for part in [
            "server rtmps://127.0.0.1:1936/live ",
            "https://127.0.0.1:8080/live/cam/",
            "rtmp://127.0.0.1:1935/",
            "ffplay -rtsp_transport tcp \"rtsps://127.0.0.1:8322/live/cam\"",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        config.tls.certificate.clear();
        config.bind = "::1".parse().unwrap();
        assert!(doors(&config, None).contains("http://[::1]:8080/"));
    }
}
