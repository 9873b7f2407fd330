//! What may not stand together in a config. One function per group of keys; each breach names the key and the remedy.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use shardcast_engine::{limits, media::StreamName};

use super::{Config, Stream, units::show_duration};

/// A rule that a config breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// The dotted key that is to be changed.
    pub key: String,
    /// What is wrong, and what to write instead.
    pub why: String,
}

/// Shards at most. Lanes go from every shard to every other, so their memory grows with the square of this.
pub const SHARDS_MAX: usize = 256;
/// The longest time a key may say, where a longer one is surely a slip.
pub const DURATION_MAX: Duration = Duration::from_secs(30 * 86_400);
/// The longest flush: beyond it, viewers see the stream in jerks.
pub const FLUSH_MAX: Duration = Duration::from_secs(1);
/// The fewest bytes a kept group may have. A key frame that does not fit is never kept, and then nobody can join.
pub const GROUP_BYTES_MIN: usize = 1 << 20;

/// Every rule that `config` breaks.
pub fn check(config: &Config) -> Vec<Breach> {
    let mut breaches = Breaches::default();
    check_doors(config, &mut breaches);
    check_access(config, &mut breaches);
    check_limits(config, &mut breaches);
    check_stream("stream", &config.stream, config, &mut breaches);
    for (app, stream) in &config.apps {
        let table = format!("apps.{app}");
        breaches.unless(StreamName::parse(&format!("{app}/stream")).is_ok(), &table, || {
            format!(
                "{app:?} cannot be an app: 1 to {} characters of A-Z a-z 0-9 . _ -",
                limits::NAME_PART_BYTES_MAX
            )
        });
        check_stream(&table, stream, config, &mut breaches);
    }
    breaches.unless(config.record.segment >= limits::FRAGMENT_DURATION_MAX, "record.segment", || {
        format!(
            "a segment holds at least one fragment, so it is \"{}\" or more",
            show_duration(limits::FRAGMENT_DURATION_MAX)
        )
    });
    breaches.unless(!config.record.dir.as_os_str().is_empty(), "record.dir", || "needs a directory".into());
    breaches.0
}

#[derive(Default)]
struct Breaches(Vec<Breach>);

impl Breaches {
    fn unless(&mut self, holds: bool, key: &str, why: impl FnOnce() -> String) {
        if !holds {
            self.0.push(Breach { key: key.to_owned(), why: format!("{key}: {}", why()) });
        }
    }
}

fn check_doors(config: &Config, breaches: &mut Breaches) {
    breaches.unless(config.shards <= SHARDS_MAX, "shards", || format!("at most {SHARDS_MAX}"));
    breaches.unless(!config.doors().is_empty(), "rtmp.port", || {
        "every media door is shut (port 0), so there is nothing to serve".into()
    });
    let mut taken: BTreeMap<u16, (&str, SocketAddr)> = BTreeMap::new();
    let control = config.control_door().map(|address| ("control", address));
    for (name, address) in config.doors().into_iter().chain(control) {
        match taken.get(&address.port()) {
            Some((other, there)) if overlap(address.ip(), there.ip()) => {
                let key = if name == "control" { "control.bind".to_owned() } else { format!("{name}.port") };
                breaches
                    .unless(false, &key, || format!("port {} is the {other} door's already", address.port()));
            }
            _ => {
                taken.insert(address.port(), (name, address));
            }
        }
    }
}

/// Two listeners on one port meet when they share the address, or one of them has them all.
fn overlap(a: IpAddr, b: IpAddr) -> bool {
    a == b || a.is_unspecified() || b.is_unspecified()
}

fn check_access(config: &Config, breaches: &mut Breaches) {
    let open = |address: IpAddr| !is_loopback(address) && !config.allow_anonymous;
    if open(config.bind) {
        let sides: Vec<&str> =
            [("publish", config.auth.publish.is_empty()), ("play", config.auth.play.is_empty())]
                .into_iter()
                .filter_map(|(side, without)| without.then_some(side))
                .collect();
        breaches.unless(sides.is_empty(), "bind", || {
            format!(
                "{} can be reached by others, and anyone could {}: give keys in [auth] ({}), or say allow_anonymous = true",
                config.bind,
                sides.join(" and "),
                sides.iter().map(|side| format!("{side} = [\"...\"]")).collect::<Vec<_>>().join(", "),
            )
        });
    }
    if let Some(address) = config.control_door() {
        breaches.unless(!open(address.ip()), "control.bind", || {
            format!(
                "{address} can be reached by others and the control door asks for no key: bind it to loopback, or say \
                 allow_anonymous = true"
            )
        });
    }
    for (key, keys) in [("auth.publish", &config.auth.publish), ("auth.play", &config.auth.play)] {
        breaches.unless(keys.iter().all(|key| !key.is_empty()), key, || {
            "an empty key would let in everyone who writes ?key= (is a variable of the environment empty?)".into()
        });
    }
}

/// True for addresses that only this machine reaches. An IPv4 address may come wrapped in an IPv6 one.
fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn check_limits(config: &Config, breaches: &mut Breaches) {
    let limits = &config.limits;
    breaches.unless(config.drain_timeout <= DURATION_MAX, "drain_timeout", too_long);
    breaches.unless(limits.connections > 0, "limits.connections", || "at least 1".into());
    breaches.unless(
        (1..=limits.connections).contains(&limits.connections_per_address),
        "limits.connections_per_address",
        || format!("at least 1, and at most limits.connections ({})", limits.connections),
    );
    breaches.unless(limits.streams > 0, "limits.streams", || "at least 1".into());
    for (key, duration) in [("limits.handshake", limits.handshake), ("limits.idle", limits.idle)] {
        breaches.unless(!duration.is_zero(), key, || {
            "must be longer than nothing, or no peer could say a word".into()
        });
        breaches.unless(duration <= DURATION_MAX, key, too_long);
    }
}

fn check_stream(table: &str, stream: &Stream, config: &Config, breaches: &mut Breaches) {
    let key = |name: &str| format!("{table}.{name}");
    breaches.unless(stream.group_frames > 0, &key("group_frames"), || "at least 1".into());
    breaches.unless(stream.group_bytes >= GROUP_BYTES_MIN, &key("group_bytes"), || {
        "at least \"1MiB\": a key frame that does not fit is never kept, and nobody could join".into()
    });
    breaches.unless(stream.viewers > 0, &key("viewers"), || "at least 1".into());
    breaches.unless(stream.streams > 0, &key("streams"), || "at least 1".into());
    breaches.unless(stream.flush <= FLUSH_MAX, &key("flush"), || {
        format!("at most \"{}\": beyond it viewers see the stream in jerks", show_duration(FLUSH_MAX))
    });
    breaches.unless(stream.viewer_lag > stream.flush, &key("viewer_lag"), || {
        format!("must be longer than flush ({}), or every viewer lags", show_duration(stream.flush))
    });
    breaches.unless(stream.viewer_stall > stream.viewer_lag, &key("viewer_stall"), || {
        format!(
            "must be longer than viewer_lag ({}), or a slow viewer is closed before it may jump",
            show_duration(stream.viewer_lag)
        )
    });
    breaches.unless(stream.wait_for_publisher < config.limits.idle, &key("wait_for_publisher"), || {
        format!(
            "must be shorter than limits.idle ({}), which closes whoever waits",
            show_duration(config.limits.idle)
        )
    });
    for (name, duration) in
        [("group_duration", stream.group_duration), ("publisher_idle", stream.publisher_idle)]
    {
        breaches.unless(!duration.is_zero(), &key(name), || "must be longer than nothing".into());
    }
    for (name, duration) in [
        ("group_duration", stream.group_duration),
        ("viewer_stall", stream.viewer_stall),
        ("reconnect_window", stream.reconnect_window),
        ("publisher_idle", stream.publisher_idle),
    ] {
        breaches.unless(duration <= DURATION_MAX, &key(name), too_long);
    }
}

fn too_long() -> String {
    format!("at most \"{}\"", show_duration(DURATION_MAX))
}
