//! What may not stand together in a config. One function per group of keys; each breach names the key and the remedy.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use shardcast_engine::{
    limits,
    media::StreamName,
    protocol::{Protocol, Transport, built_in},
    srt::PASSPHRASE_BYTES,
    udp::Intake,
};

use super::{Config, Passphrase, Source, Stream, Tls, library, relays, units::show_duration};
use crate::{
    node::{SHARDS_MAX, meet},
    pull::Pull,
    tls::certificate::Part,
};

/// A rule that a config breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// The dotted key that is to be changed.
    pub key: String,
    /// What is wrong, and what to write instead.
    pub why: String,
}

/// A program with a node inside, as far as its config is concerned.
#[derive(Clone, Copy, Debug, Default)]
pub struct Host<'a> {
    /// The protocols that it brings along, whose doors the config may place.
    pub rows: &'a [Protocol],
    /// It says itself who may publish and play, so that nobody needs a key.
    pub authenticates: bool,
}

/// The longest time a key may say, where a longer one is surely a slip.
pub const DURATION_MAX: Duration = Duration::from_secs(30 * 86_400);
/// The longest flush: beyond it, viewers see the stream in jerks.
pub const FLUSH_MAX: Duration = Duration::from_secs(1);
/// Bounds of `[hls]`. A shorter segment or part is more requests than media, a longer one no longer live.
pub const SEGMENT_MIN: Duration = Duration::from_millis(500);
/// The longest segment that may be asked for; a longer group makes no longer one.
pub const SEGMENT_MAX: Duration = Duration::from_secs(10);
/// The shortest part.
pub const PART_MIN: Duration = Duration::from_millis(50);
/// The longest part.
pub const PART_MAX: Duration = Duration::from_secs(1);
/// The longest window: what it lists is kept in memory.
pub const WINDOW_MAX: Duration = Duration::from_secs(600);
/// The shortest time that a stream is pulled for nobody: viewers that change from one form to another are none for a moment.
pub const PULL_LINGER_MIN: Duration = Duration::from_secs(1);
/// The longest time that a stream is cut for nobody, or pulled.
pub const LINGER_MAX: Duration = Duration::from_secs(3600);
/// The longest that packets by SRT may be held back: the field that says it counts milliseconds up to a minute.
pub const SRT_LATENCY_MAX: Duration = Duration::from_secs(60);
/// The fewest bytes a kept group may have. A key frame that does not fit is never kept, and then nobody can join.
pub const GROUP_BYTES_MIN: usize = 1 << 20;

/// Every rule that `config` breaks, for the binary or for a `host`.
pub fn check(config: &Config, host: Option<Host<'_>>) -> Vec<Breach> {
    let mut breaches = Breaches::default();
    check_doors(config, host, &mut breaches);
    check_tls(config, &mut breaches);
    check_access(config, host, &mut breaches);
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
    check_hls(config, &mut breaches);
    check_passphrase("srt.passphrase", &config.srt.passphrase, &mut breaches);
    breaches.unless(config.srt.latency <= SRT_LATENCY_MAX, "srt.latency", || {
        format!("at most \"{}\"", show_duration(SRT_LATENCY_MAX))
    });
    library::check(config, host.is_some(), &mut breaches);
    check_streams(config, host, &mut breaches);
    relays::check(config, &mut breaches);
    breaches.unless(!config.record.dir.as_os_str().is_empty(), "record.dir", || "needs a directory".into());
    breaches.0
}

fn check_hls(config: &Config, breaches: &mut Breaches) {
    let hls = &config.hls;
    for (key, length, least, most) in [
        ("hls.segment", hls.segment, SEGMENT_MIN, SEGMENT_MAX),
        ("hls.part", hls.part, PART_MIN, hls.segment.min(PART_MAX)),
        ("hls.window", hls.window, hls.segment * 3, WINDOW_MAX),
        ("hls.linger", hls.linger, hls.segment * 3, LINGER_MAX),
    ] {
        breaches.unless((least..=most).contains(&length), key, || {
            format!("between \"{}\" and \"{}\"", show_duration(least), show_duration(most))
        });
    }
}

fn check_passphrase(key: &str, passphrase: &Passphrase, breaches: &mut Breaches) {
    let length = passphrase.0.len();
    breaches.unless(length == 0 || PASSPHRASE_BYTES.contains(&length), key, || {
        format!("{} to {} bytes, as libsrt has it", PASSPHRASE_BYTES.start(), PASSPHRASE_BYTES.end())
    });
}

fn check_streams(config: &Config, host: Option<Host<'_>>, breaches: &mut Breaches) {
    let mut taken: Vec<(&str, Intake)> = Vec::new();
    for (name, source) in &config.streams {
        let key = format!("streams.{name}");
        if let Err(error) = StreamName::parse(name) {
            breaches.unless(false, &key, || format!("{name:?} cannot be a stream: {}", error.why));
        }
        check_passphrase(&format!("{key}.passphrase"), &source.passphrase, breaches);
        if source.pull.starts_with("rtsp") {
            check_pull(name, source, host, breaches);
            continue;
        }
        breaches.unless(!source.on_demand, &format!("{key}.on_demand"), || "of rtsp:// alone".into());
        let key = format!("{key}.pull");
        // A stream may be named for the sake of where it goes, or of its passphrase.
        let named = !source.push.is_empty() || !source.passphrase.0.is_empty();
        if source.is_pulled() || source.pull.is_empty() && named {
            continue;
        }
        let intake = match Intake::parse(&source.pull) {
            Ok(intake) => intake,
            Err(error) => {
                breaches.unless(false, &key, || {
                    format!("{:?}, at character {}: {}", source.pull, error.at, error.why)
                });
                continue;
            }
        };
        let address = intake.address;
        // Whoever reaches it could send something in the stream's name; no key is asked for here.
        let guarded = is_loopback(address.ip()) || intake.source.is_some() || config.allow_anonymous;
        breaches.unless(guarded, &key, || {
            format!(
                "{address} can be reached by others, and anyone could send there: say from which address it comes (?source=...), or \
                 say allow_anonymous = true"
            )
        });
        match taken.iter().find(|(_, other)| !intake.is_multicast() && meet(other.address, address)) {
            Some((other, _)) => {
                breaches.unless(false, &key, || format!("{address} is what {other} takes already"));
            }
            None => taken.push((name, intake)),
        }
    }
}

fn check_pull(name: &str, source: &Source, host: Option<Host<'_>>, breaches: &mut Breaches) {
    let key = |key: &str| format!("streams.{name}.{key}");
    // Not what it is: there may be a password in it.
    if let Err(why) = Pull::parse(name, source) {
        breaches.unless(false, &key("pull"), || why.into());
    }
    breaches.unless(host.is_none(), &key("pull"), || {
        "rtsp:// is the binary's alone: a program with a node inside has sources of its own".into()
    });
    breaches.unless((PULL_LINGER_MIN..=LINGER_MAX).contains(&source.linger), &key("linger"), || {
        format!("between \"{}\" and \"{}\"", show_duration(PULL_LINGER_MIN), show_duration(LINGER_MAX))
    });
}

#[derive(Default)]
pub(super) struct Breaches(pub(super) Vec<Breach>);

impl Breaches {
    pub(super) fn unless(&mut self, holds: bool, key: &str, why: impl FnOnce() -> String) {
        if !holds {
            self.0.push(Breach { key: key.to_owned(), why: format!("{key}: {}", why()) });
        }
    }
}

fn check_doors(config: &Config, host: Option<Host<'_>>, breaches: &mut Breaches) {
    let rows = host.map_or(&[][..], |host| host.rows);
    breaches.unless(config.shards <= SHARDS_MAX.into(), "shards", || format!("at most {SHARDS_MAX}"));
    // A host may want no frames but its own.
    breaches.unless(host.is_some() || !config.doors().is_empty(), "rtmp.port", || {
        "every media door is shut (port 0), so there is nothing to serve".into()
    });
    for name in config.host_doors.keys() {
        let known = rows.iter().any(|row| row.name == name);
        breaches.unless(known, &format!("doors.{name}"), || unknown_door(name, rows));
    }
    // RTP has the even one of two ports. (RFC 3550, 11)
    let (first, shards) = (usize::from(config.rtsp.udp_port), config.shard_count());
    let fits = first.is_multiple_of(2) && first + 2 * shards <= 1 + usize::from(u16::MAX);
    breaches.unless(config.media_ports().is_none() || fits, "rtsp.udp_port", || {
        format!("an even port, with room behind it for two of each shard ({})", 2 * shards)
    });
    breaches.unless(config.webrtc.fits(shards), "webrtc.port", || {
        format!("a port with room behind it for one of each shard ({shards})")
    });
    let keyed = |table: &'static str| {
        move |(row, address): (Protocol, SocketAddr)| {
            let key = match (table, row.name) {
                ("", "rtmps") => "rtmp.tls_port".to_owned(),
                ("", "rtsps") => "rtsp.tls_port".to_owned(),
                ("", "https") => "http.port".to_owned(),
                (_, name) => format!("{table}{name}.port"),
            };
            (key, row.name, row.transport, address)
        }
    };
    // What a host does about the control door is its own business: the node inside it has none.
    let control = config.control_door().filter(|_| host.is_none());
    let control = control.map(|address| ("control.bind".to_owned(), "control", Transport::Tcp, address));
    let doors = config.open_doors(&[]).into_iter().map(keyed(""));
    let doors = doors.chain(config.doors_of(rows).into_iter().map(keyed("doors.")));
    let mut taken: Vec<(&str, Transport, SocketAddr)> = Vec::new();
    for (key, name, transport, address) in doors.chain(control) {
        match taken.iter().find(|(_, other, there)| *other == transport && meet(*there, address)) {
            Some((other, ..)) => breaches
                .unless(false, &key, || format!("port {} is the {other} door's already", address.port())),
            None => taken.push((name, transport, address)),
        }
    }
}

/// Reads the files too: whoever asks wants to know whether it would start.
fn check_tls(config: &Config, breaches: &mut Breaches) {
    let Tls { certificate, key } = &config.tls;
    let (with_certificate, with_key) = (!certificate.as_os_str().is_empty(), !key.as_os_str().is_empty());
    breaches.unless(with_certificate || !with_key, "tls.certificate", || {
        "a key alone proves nothing: say where its certificate is, or leave out the key".into()
    });
    breaches.unless(with_key || !with_certificate, "tls.key", || {
        "a certificate needs its key: say where it is (`shardcast cert` makes a pair)".into()
    });
    if with_certificate
        && with_key
        && let Err(refused) = config.secured()
    {
        let key = if refused.part == Part::Certificate { "tls.certificate" } else { "tls.key" };
        breaches.unless(false, key, || refused.why);
    }
}

/// Why there is no such door, and what there is instead.
fn unknown_door(name: &str, rows: &[Protocol]) -> String {
    if built_in().iter().any(|row| row.name == name) {
        return format!("this door is a built-in one and has a table of its own, [{name}]");
    }
    if rows.is_empty() {
        return "[doors.NAME] is for protocols that a program with a node inside brings along, and this one brings none"
            .into();
    }
    let names: Vec<&str> = rows.iter().map(|row| row.name).collect();
    format!("no protocol of this program has that name: there are {}", names.join(", "))
}

fn check_access(config: &Config, host: Option<Host<'_>>, breaches: &mut Breaches) {
    let open = |address: IpAddr| !is_loopback(address) && !config.allow_anonymous;
    let sides = [("publish", config.auth.publish.is_empty()), ("play", config.auth.play.is_empty())];
    let sides: Vec<&str> = sides.into_iter().filter_map(|(side, keyless)| keyless.then_some(side)).collect();
    let guarded = sides.is_empty() || host.is_some_and(|host| host.authenticates);
    let own = config.host_doors.iter().filter(|(_, door)| door.port != Some(0));
    let own = own.filter_map(|(name, door)| Some((format!("doors.{name}.bind"), door.bind?)));
    for (key, address) in std::iter::once(("bind".to_owned(), config.bind)).chain(own) {
        breaches.unless(guarded || !open(address), &key, || {
            format!(
                "{address} can be reached by others, and anyone could {}: give keys in [auth] ({}), or say allow_anonymous = true",
                sides.join(" and "),
                sides.iter().map(|side| format!("{side} = [\"...\"]")).collect::<Vec<_>>().join(", "),
            )
        });
    }
    if let Some(address) = config.control_door().filter(|_| host.is_none()) {
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
