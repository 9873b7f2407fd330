//! What a reload may change while the node runs, and what waits for a restart.

use std::collections::BTreeMap;

use toml::Table;

use super::{Config, Source, Srt};

/// Keys that follow a reload, with everything below them. The others decide what was bound, pinned and allocated at
/// the start.
const RELOADABLE: [&str; 5] = ["stream", "apps", "auth", "log", "tls"];

/// The difference between the config that runs and the one that was read anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Dotted keys that take effect now.
    pub now: Vec<String>,
    /// Dotted keys that take effect at the next start.
    pub restart: Vec<String>,
}

impl Changes {
    /// Finds them. Only keys are named, never values: some of them are secrets.
    pub fn between(running: &Config, read: &Config) -> Changes {
        let mut keys = Vec::new();
        compare(&table(running), &table(read), "", &mut keys);
        let (now, restart) = keys.into_iter().partition(|key: &String| {
            let (table, rest) = key.split_once('.').unwrap_or((key, ""));
            match table {
                "streams" => return follows(rest, running, read),
                // The door stays where it is; how it meets those who come is up to the next one.
                "srt" => return !matches!(rest, "port" | "library"),
                _ => {}
            }
            RELOADABLE.contains(&table) && (table != "tls" || running.keeps_doors(read))
        });
        Changes { now, restart }
    }
    /// True when nothing differs.
    pub fn is_empty(&self) -> bool {
        self.now.is_empty() && self.restart.is_empty()
    }
}

impl Config {
    /// This config with everything from `read` that a reload may change.
    #[must_use]
    pub fn reloaded(&self, read: &Config) -> Config {
        Config {
            stream: read.stream.clone(),
            apps: read.apps.clone(),
            auth: read.auth.clone(),
            log: read.log.clone(),
            srt: Srt { port: self.srt.port, library: self.srt.library, ..read.srt.clone() },
            streams: self.with_streams_of(read),
            tls: if self.keeps_doors(read) { read.tls.clone() } else { self.tls.clone() },
            ..self.clone()
        }
    }

    /// The streams that run, with the pushes and passphrases that were read. Where a stream comes from waits for a restart, and with it
    /// a stream that is new and comes from somewhere, or is gone and came from somewhere.
    fn with_streams_of(&self, read: &Config) -> BTreeMap<String, Source> {
        let mut streams = self.streams.clone();
        streams.retain(|name, running| !running.pull.is_empty() || read.streams.contains_key(name));
        for (name, source) in &read.streams {
            match streams.get_mut(name) {
                Some(running) => {
                    running.push.clone_from(&source.push);
                    running.passphrase.clone_from(&source.passphrase);
                }
                None if source.pull.is_empty() => drop(streams.insert(name.clone(), source.clone())),
                None => {}
            }
        }
        streams
    }

    /// True when both have a certificate, or neither: which of the doors speak TLS was decided at the start.
    fn keeps_doors(&self, read: &Config) -> bool {
        self.tls.is_set() == read.tls.is_set()
    }
}

/// Whether what has changed of `[streams]`, a key of one or a whole one, has nothing to do with where it comes from.
fn follows(changed: &str, running: &Config, read: &Config) -> bool {
    match (running.streams.get(changed), read.streams.get(changed)) {
        (Some(source), None) | (None, Some(source)) => source.pull.is_empty(),
        _ => changed.ends_with(".push") || changed.ends_with(".passphrase"),
    }
}

fn table(config: &Config) -> Table {
    Table::try_from(config).expect("a config is a tree of tables with string keys, numbers and strings")
}

fn compare(old: &Table, new: &Table, prefix: &str, keys: &mut Vec<String>) {
    let dotted = |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
    for (key, value) in new {
        match (old.get(key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => compare(old, new, &dotted(key), keys),
            (Some(old), new) if old == new => {}
            _ => keys.push(dotted(key)),
        }
    }
    keys.extend(old.keys().filter(|key| !new.contains_key(*key)).map(|key| dotted(key)));
}

#[cfg(test)]
mod tests {
    use super::{super::Passphrase, *};

    #[test]
    fn limits_of_streams_and_keys_change_now_and_doors_at_the_next_start() {
        let running = Config::default();
        let mut read = running.clone();
        read.stream.takeover = true;
        read.auth.play.push("secret".into());
        read.rtmp.port = 1936;
        read.apps.insert("live".into(), read.stream.clone());
        let changes = Changes::between(&running, &read);
        assert_eq!(changes.now, ["apps.live", "auth.play", "stream.takeover"]);
        assert_eq!(changes.restart, ["rtmp.port"]);

        let reloaded = running.reloaded(&read);
        assert_eq!(Changes::between(&reloaded, &read).restart, ["rtmp.port"]);
        assert!(Changes::between(&reloaded, &read).now.is_empty());
    }

    #[test]
    fn another_certificate_is_taken_now_and_the_first_one_at_the_next_start() {
        let plain = Config::default();
        let mut secure = plain.clone();
        secure.tls.certificate = "one.pem".into();
        let changes = Changes::between(&plain, &secure);
        assert_eq!((changes.now.len(), changes.restart), (0, vec!["tls.certificate".to_owned()]));
        assert_eq!(plain.reloaded(&secure), plain);
        let mut renewed = secure.clone();
        renewed.tls.certificate = "two.pem".into();
        assert_eq!(Changes::between(&secure, &renewed).now, ["tls.certificate"]);
        assert_eq!(secure.reloaded(&renewed), renewed);
        assert_eq!(Changes::between(&renewed, &plain).restart, ["tls.certificate"]);
    }

    #[test]
    fn what_is_pushed_changes_now_and_where_a_stream_comes_from_at_the_next_start() {
        let source = |pull: &str, push: &[&str]| {
            let mut source = Source { pull: pull.into(), ..Source::default() };
            source.push = push.iter().map(|url| (*url).to_owned()).collect();
            source
        };
        let (here, there) = ("udp://127.0.0.1:5000", "udp://127.0.0.1:6000");
        let mut running = Config::default();
        running.streams.insert("live/a".into(), source(here, &[]));
        running.streams.insert("live/b.push".into(), source("", &[there]));
        running.streams.insert("live/c".into(), source(there, &[]));
        let mut read = Config::default();
        read.stream.push.push("rtmp://a.example/live/{stream}".into());
        read.streams.insert("live/a".into(), source("", &[there]));
        read.streams.insert("live/d".into(), source("", &[there]));
        read.streams.insert("live/e.push".into(), source(here, &[there]));
        let changes = Changes::between(&running, &read);
        assert_eq!(
            changes.now,
            ["stream.push", "streams.live/a.push", "streams.live/d", "streams.live/b.push"],
            "{changes:?}"
        );
        assert_eq!(changes.restart, ["streams.live/a.pull", "streams.live/e.push", "streams.live/c"]);
        let reloaded = running.reloaded(&read);
        let again = Changes::between(&reloaded, &read);
        assert!(again.now.is_empty() && again.restart == changes.restart, "{again:?}");
        let relays = reloaded.relays();
        assert_eq!((relays.default.len(), relays.streams.len()), (1, 2));
        assert_eq!(reloaded.intakes(), running.intakes());
    }

    #[test]
    fn passphrases_change_now_and_the_port_at_the_next_start() {
        let secret = |words: &str| Passphrase(words.into());
        let mut running = Config::default();
        let camera = Source { pull: "udp://127.0.0.1:5000".into(), ..Source::default() };
        running.streams.insert("live/a".into(), camera.clone());
        let mut read = running.clone();
        read.srt = Srt { port: 9000, passphrase: secret("what the door wants"), ..running.srt.clone() };
        read.streams.insert("live/a".into(), Source { passphrase: secret("what it wants"), ..camera });
        let changes = Changes::between(&running, &read);
        assert_eq!(changes.now, ["srt.passphrase", "streams.live/a.passphrase"]);
        assert_eq!(changes.restart, ["srt.port"]);
        let settings = running.reloaded(&read).settings();
        assert_eq!(settings.doors.srt.passphrase_of("live/a"), Some("what it wants"));
        assert_eq!(settings.doors.srt.passphrase_of("live/b"), Some("what the door wants"));
        assert_eq!(Changes::between(&running.reloaded(&read), &read).restart, ["srt.port"]);
    }

    #[test]
    fn an_app_that_is_gone_is_a_change() {
        let mut running = Config::default();
        running.apps.insert("live".into(), running.stream.clone());
        let changes = Changes::between(&running, &Config::default());
        assert_eq!(changes.now, ["apps.live"]);
        assert!(Changes::between(&running, &running).is_empty());
    }
}
