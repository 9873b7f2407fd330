//! What a reload may change while the node runs, and what waits for a restart.

use toml::Table;

use super::Config;

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
            let table = key.split_once('.').map_or(key.as_str(), |(first, _)| first);
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
            tls: if self.keeps_doors(read) { read.tls.clone() } else { self.tls.clone() },
            ..self.clone()
        }
    }

    /// True when both have a certificate, or neither: which of the doors speak TLS was decided at the start.
    fn keeps_doors(&self, read: &Config) -> bool {
        self.tls.is_set() == read.tls.is_set()
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
    use super::*;
    use crate::config::Source;

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
    fn what_an_app_is_pushed_to_changes_now_and_what_a_stream_is_at_the_next_start() {
        let running = Config::default();
        let mut read = running.clone();
        read.stream.push.push("rtmp://a.example/live/{stream}".into());
        let source = Source { push: vec!["udp://127.0.0.1:5000".into()], ..Source::default() };
        read.streams.insert("live/cam".into(), source);
        let changes = Changes::between(&running, &read);
        assert_eq!(
            (changes.now, changes.restart),
            (vec!["stream.push".into()], vec!["streams.live/cam".into()])
        );
        let relays = running.reloaded(&read).relays();
        assert_eq!((relays.default.len(), relays.streams.len()), (1, 0));
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
