//! `shardcast check`: what a config would run and what it may cost, without running it.

use std::{fmt::Write, process::ExitCode, time::Duration};

use super::{EXIT_DONE, refuse, say};
use crate::{
    cli::CheckArgs,
    config::{
        Config, Record, Sync, Tls,
        memory::{Memory, WIRE_FORMS, ordinary, segments},
        parse::Document,
        units::{about_size, show_duration},
    },
    tls::channel,
};

/// Prints the report, or what is wrong with the config.
pub fn run(args: &CheckArgs) -> ExitCode {
    let document = match Document::load(args.config.as_deref()) {
        Ok(document) => document,
        Err(fault) => return refuse(&[fault]),
    };
    let faults = document.check();
    if !faults.is_empty() {
        return refuse(&faults);
    }
    say(format_args!("{}", report(&document.config)));
    ExitCode::from(EXIT_DONE)
}

/// What would run, for a person.
pub fn report(config: &Config) -> String {
    let mut out = String::new();
    let mut line = |topic: &str, text: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{topic:<10} {text}");
    };
    for (name, address) in config.doors() {
        let last = usize::from(address.port()) + config.shard_count() - 1;
        line(
            "door",
            match name {
                "srt" => format!("{name} on udp {address}"),
                "webrtc" if config.shard_count() > 1 => format!("{name}'s media on udp {address} to {last}"),
                "webrtc" => format!("{name}'s media on udp {address}"),
                _ => format!("{name} on tcp {address}"),
            },
        );
    }
    if let Some(first) = config.media_ports() {
        let last = usize::from(first.port()) + 2 * config.shard_count() - 1;
        line("door", format!("rtsp's media on udp {first} to {last}"));
    }
    if let Some(address) = config.control_door() {
        line("door", format!("control on tcp {address}"));
    }
    for (name, source) in config.streams.iter().filter(|(_, source)| source.is_sent_here()) {
        line("takes in", format!("{name} from {}", source.pull));
    }
    for pull in config.pulls() {
        // Without its password.
        line("takes in", format!("{} from {pull}", pull.name));
    }
    config.relay_lines().into_iter().for_each(|(verb, text)| line(verb, text));
    if config.tls.is_set() {
        let Tls { certificate, key } = &config.tls;
        line("tls", format!("certificate {}, key {}", certificate.display(), key.display()));
    }
    let every = if config.shards == 0 { ", one for every core" } else { "" };
    line("shards", format!("{}{every}", config.shard_count()));
    for (verb, keys) in [("publish", &config.auth.publish), ("play", &config.auth.play)] {
        let who = match keys.len() {
            0 if config.bind.to_canonical().is_loopback() => "anyone on this machine".to_owned(),
            0 => "anyone who can reach it (allow_anonymous)".to_owned(),
            1 => "who has the key".to_owned(),
            count => format!("who has one of {count} keys"),
        };
        line(verb, who);
    }
    line("recording", recording(config));
    describe_memory(config, &mut line);
    out
}

fn recording(config: &Config) -> String {
    if !config.records() {
        return "none".to_owned();
    }
    let mut which: Vec<&str> =
        config.apps.iter().filter(|(_, app)| app.record).map(|(name, _)| name.as_str()).collect();
    let but: Vec<&str> =
        config.apps.iter().filter(|(_, app)| !app.record).map(|(name, _)| name.as_str()).collect();
    let but = if but.is_empty() { String::new() } else { format!(" but of app {}", but.join(", ")) };
    let streams = if config.stream.record {
        format!("every stream{but}")
    } else {
        which.sort_unstable();
        format!("streams of app {}", which.join(", "))
    };
    let Record { dir, segment, sync } = &config.record;
    let sync = match sync {
        Sync::None => "left to the kernel to write",
        Sync::Segment => "forced to the disk at the end of each file",
        Sync::Fragment => "forced to the disk each second",
    };
    format!("{streams} to {}, files of {}, {sync}", dir.display(), show_duration(*segment))
}

fn describe_memory(config: &Config, line: &mut dyn FnMut(&str, String)) {
    let apps = config.apps.iter().map(|(name, app)| (format!("of app {name} "), app));
    for (which, stream) in std::iter::once((String::new(), &config.stream)).chain(apps) {
        let memory = Memory::of(config, stream);
        line(
            "memory",
            format!(
                "a stream {which}at most {}: {} where it is owned, {} for each of {WIRE_FORMS} wire forms on each core \
                 with viewers of it",
                about_size(memory.stream),
                about_size(memory.stream_owner),
                about_size(memory.stream_log),
            ),
        );
    }
    let memory = Memory::of(config, &config.stream);
    // What an encoder sends when nobody has tuned it.
    let (owner, log) = ordinary(4_000_000, Duration::from_secs(2));
    line(
        "memory",
        format!(
            "one of 4 Mbit/s with a key frame each 2 s takes {} where it is owned and {} per wire form and core",
            about_size(owner),
            about_size(log)
        ),
    );
    line(
        "memory",
        format!(
            "it takes {} more on each core that is asked for it by HLS or DASH, its payload shared by all",
            about_size(segments(4_000_000, &config.hls))
        ),
    );
    if config.records() {
        line(
            "memory",
            format!("a recorded stream holds at most {} more for a slow disk", about_size(memory.recording)),
        );
    }
    line("memory", format!("a viewer {} beside the kernel's socket buffers", about_size(memory.viewer)));
    if config.tls.is_set() {
        line(
            "memory",
            format!(
                "one by TLS {} more, and at most {} while it is sent to",
                about_size(channel::OPEN_BYTES as u64),
                about_size(channel::PIECE_BYTES_MAX as u64)
            ),
        );
    }
    line("memory", format!("a peer that sends no message to its end at most {}", about_size(memory.peer)));
    line("memory", format!("a shard {} of buffers", about_size(memory.shard)));
    line(
        "limits",
        format!(
            "{} connections per door, {} per address, {} streams",
            config.limits.connections, config.limits.connections_per_address, config.limits.streams
        ),
    );
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::Source;

    #[test]
    fn the_report_names_every_door_and_who_may_use_it() {
        let text = report(&Config { shards: 2, ..Config::default() });
        for part in [
            "rtmp on tcp 127.0.0.1:1935",
            "http on tcp 127.0.0.1:8080",
            "srt on udp 127.0.0.1:8890",
            "webrtc's media on udp 127.0.0.1:8189 to 8190",
            "rtsp's media on udp 127.0.0.1:8000 to 8003",
            "control on tcp 127.0.0.1:9090",
            "anyone on this machine",
            "a stream at most ",
            "recording  none",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn the_report_says_which_doors_speak_tls_and_with_which_certificate() {
        let mut config = Config::default();
        assert!(!report(&config).contains("TLS"));
        (config.tls.certificate, config.tls.key) = ("/etc/live/chain.pem".into(), "/etc/live/key.pem".into());
        let text = report(&config);
        for part in [
            "rtmp on tcp 127.0.0.1:1935",
            "rtmps on tcp 127.0.0.1:1936",
            "rtsp on tcp 127.0.0.1:8554",
            "rtsps on tcp 127.0.0.1:8322",
            "https on tcp 127.0.0.1:8080",
            "tls        certificate /etc/live/chain.pem, key /etc/live/key.pem",
            "one by TLS ",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn the_report_says_what_is_pushed_and_pulled_and_keeps_what_may_be_secret() {
        let mut config = Config::default();
        let source = |pull: &str, push: &[&str]| {
            let mut source = Source { pull: pull.into(), ..Source::default() };
            source.push = push.iter().map(|url| (*url).to_owned()).collect();
            source
        };
        let targets = ["udp://239.1.1.1:5000", "rtmp://a.example/live2/secret"];
        config.streams.insert("live/cam".into(), source("rtmp://b.example/live/cam?key=secret", &targets));
        config.streams.insert("live/news".into(), source("udp://127.0.0.1:5000", &[]));
        config.apps.insert("live".into(), config.stream.clone());
        config.apps.insert("talk".into(), config.stream.clone());
        config.apps.get_mut("talk").unwrap().push = vec!["rtmp://c.example/talk/{stream}".into()];
        let text = report(&config);
        for part in [
            "takes in   live/news from udp://127.0.0.1:5000",
            "pulls      live/cam from rtmp://b.example/live",
            "pushes     live/cam to udp://239.1.1.1:5000",
            "pushes     live/cam to rtmp://a.example/live2",
            "pushes     each stream of talk to rtmp://c.example/talk",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(text.matches("pushes").count(), 3, "{text}");
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn the_report_says_what_is_pulled_without_its_password() {
        let mut config = Config::default();
        let pull = "rtsp://me:hunter2@10.0.0.9/main?key=see".to_owned();
        config.streams.insert("cam/yard".into(), Source { pull, on_demand: true, ..Source::default() });
        let text = report(&config);
        assert!(text.contains("takes in   cam/yard from rtsp://10.0.0.9/main, on demand\n"), "{text}");
        assert!(!text.contains("hunter2") && !text.contains("see"), "{text}");
    }

    #[test]
    fn the_report_says_what_is_recorded() {
        let mut config = Config::default();
        config.apps.insert("live".into(), config.stream.clone());
        config.record_all(PathBuf::from("/srv/rec"));
        config.apps.insert("quiet".into(), Config::default().stream);
        assert_eq!(
            recording(&config),
            "every stream but of app quiet to /srv/rec, files of 10m, forced to the disk at the end of each file"
        );
        config.stream.record = false;
        assert!(recording(&config).starts_with("streams of app live to"));
    }
}
