//! What is pushed and pulled, as the config says it, and what of that could never work.

use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
};

use shardcast_engine::{
    limits::PUSHES_PER_STREAM_MAX,
    media::StreamName,
    relay::{Origin, Relays, Remote, RtspRemote, Target},
    srt,
    udp::Intake,
};

use super::{Config, Source, check::Breaches};
use crate::node::meet;

/// How the URL of a stream begins that is pulled from another server.
const PULLED: [&str; 2] = ["rtmp://", "srt://"];

impl Source {
    /// It comes from another server.
    pub(super) fn is_pulled(&self) -> bool {
        PULLED.iter().any(|scheme| self.pull.starts_with(scheme))
    }

    /// It is sent to this node unasked.
    pub(crate) fn is_sent_here(&self) -> bool {
        Intake::parse(&self.pull).is_ok()
    }
}

impl Config {
    /// What is pushed and pulled. What [`check`](super::check) finds wrong is left out.
    pub fn relays(&self) -> Relays {
        let targets =
            |urls: &[String]| urls.iter().filter_map(|url| Target::parse(url).ok()).collect::<Vec<_>>();
        let mut relays = Relays { default: targets(&self.stream.push), ..Relays::default() };
        relays.apps = self.apps.iter().map(|(name, app)| (name.clone(), targets(&app.push))).collect();
        for (name, source) in &self.streams {
            let Ok(name) = StreamName::parse(name) else { continue };
            if !source.push.is_empty() {
                relays.streams.insert(name.clone(), targets(&source.push));
            }
            if let Ok(origin) = Origin::parse(&source.pull) {
                let origin = origin.for_stream(&name);
                relays.pulls.insert(name, origin);
            }
        }
        relays
    }

    /// What is pushed and pulled, for people: `pulls` or `pushes`, and what.
    pub(crate) fn relay_lines(&self) -> Vec<(&'static str, String)> {
        let relays = self.relays();
        let pulls = relays.pulls.iter().map(|(name, remote)| ("pulls", format!("{name} from {remote}")));
        let mut lines: Vec<_> = pulls.collect();
        let mut push = |whose: &str, targets: &[Target]| {
            lines.extend(targets.iter().map(|target| ("pushes", format!("{whose} to {target}"))));
        };
        relays.streams.iter().for_each(|(name, targets)| push(name.as_str(), targets));
        for (app, targets) in relays.apps.iter().filter(|(_, targets)| **targets != relays.default) {
            push(&format!("each stream of {app}"), targets);
        }
        push("each stream", &relays.default);
        lines
    }

    /// Whether this is certain to be the RTMP door of this node. A name may be, and is seen when it is reached.
    fn is_own_door(&self, remote: &Remote) -> bool {
        self.is_own_port(&remote.host, remote.port, self.rtmp.port)
    }

    /// The same of the RTSP door.
    fn is_own_rtsp(&self, remote: &RtspRemote) -> bool {
        self.is_own_port(&remote.host, remote.port, self.rtsp.port)
    }

    /// The same of the SRT door.
    fn is_own_srt(&self, target: &srt::Target) -> bool {
        self.is_own_port(&target.host, target.port, self.srt.port)
    }

    fn is_own_port(&self, host: &str, port: u16, own_port: u16) -> bool {
        let loopback = host == "localhost";
        let address = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        let (own, everywhere) = (self.bind.to_canonical(), self.bind.is_unspecified());
        let here = loopback && (everywhere || own.is_loopback())
            || address.is_some_and(|ip| ip == own || everywhere && ip.is_loopback());
        here && own_port != 0 && port == own_port
    }
}

/// Looks at every push, and at pulls by RTMP.
pub(super) fn check(config: &Config, breaches: &mut Breaches) {
    let mut taken: Vec<(String, SocketAddr)> = Vec::new();
    for (table, name, push) in config.apps.iter().map(|(name, app)| (format!("apps.{name}"), name, &app.push))
    {
        // One that it has not said itself stands in [stream], and is told there.
        if *push != config.stream.push {
            check_app(&format!("{table}.push"), Some(name), push, config, breaches);
        }
    }
    check_app("stream.push", None, &config.stream.push, config, breaches);
    for (name, source) in &config.streams {
        let Ok(name) = StreamName::parse(name) else { continue };
        let key = format!("streams.{name}.push");
        for url in &source.push {
            let Some(target) = read(&key, url, breaches) else { continue };
            match target.for_stream(&name) {
                Target::Datagrams(outlet) => {
                    let address = outlet.address;
                    let intakes = config.intakes();
                    let intake = intakes.iter().find(|(_, intake)| meet(intake.address, address));
                    breaches.unless(intake.is_none(), &key, || {
                        format!("{url:?}: what is sent there comes in here again")
                    });
                    match taken.iter().find(|(_, there)| *there == address) {
                        Some((other, _)) => breaches
                            .unless(false, &key, || format!("{address} is what {other} is sent to already")),
                        None => taken.push((name.to_string(), address)),
                    }
                }
                Target::Rtmp(remote) => {
                    check_loop(&key, &name, config.is_own_door(&remote), remote.name(), &remote, breaches);
                }
                Target::Rtsp(remote) => {
                    check_loop(&key, &name, config.is_own_rtsp(&remote), remote.name(), &remote, breaches);
                }
                Target::Srt(target) => {
                    check_loop(&key, &name, config.is_own_srt(&target), target.name(), &target, breaches);
                }
            }
        }
        let of_app = config.stream_of(name.app()).push.len();
        breaches.unless(source.push.len() + of_app <= PUSHES_PER_STREAM_MAX, &key, || {
            format!(
                "a stream is pushed to {PUSHES_PER_STREAM_MAX} targets at most, those of its app among them"
            )
        });
        if source.is_pulled() {
            let key = format!("streams.{name}.pull");
            match Origin::parse(&source.pull) {
                Ok(origin) => {
                    let origin = origin.for_stream(&name);
                    let (own, named) = match &origin {
                        Origin::Rtmp(remote) => (config.is_own_door(remote), remote.name()),
                        Origin::Srt(target) => (config.is_own_srt(target), target.name()),
                    };
                    check_loop(&key, &name, own, named, &origin, breaches);
                }
                Err(error) => {
                    let shown = without_secrets(&source.pull);
                    breaches.unless(false, &key, || {
                        format!("{shown:?}, at character {}: {}", error.at, error.why)
                    });
                }
            }
        }
    }
}

/// What the streams of an app have in common must tell them apart.
fn check_app(key: &str, app: Option<&str>, push: &[String], config: &Config, breaches: &mut Breaches) {
    breaches.unless(push.len() <= PUSHES_PER_STREAM_MAX, key, || {
        format!("a stream is pushed to {PUSHES_PER_STREAM_MAX} targets at most")
    });
    for url in push {
        let Some(target) = read(key, url, breaches) else { continue };
        breaches.unless(target.tells_streams_apart(), key, || {
            let shown = without_secrets(url);
            format!(
                "{shown:?}: all streams would go to one place; write {{stream}} where the stream's name stands in the path of an \
                 rtmp:// or rtsp:// URL, or in the stream id of an srt:// one, or push single streams in \
                 [streams.\"APP/STREAM\"]"
            )
        });
        let own = match &target {
            Target::Rtmp(remote) => config.is_own_door(remote),
            Target::Rtsp(remote) => config.is_own_rtsp(remote),
            Target::Srt(target) => config.is_own_srt(target),
            Target::Datagrams(_) => false,
        };
        breaches.unless(!own, key, || {
            let whose = app.map_or_else(|| "streams".to_owned(), |app| format!("the streams of {app}"));
            format!("{target} is this server: {whose} would make others without end")
        });
    }
}

/// What is relayed to or from a door of this node must not be the same stream there.
fn check_loop(
    key: &str,
    name: &StreamName,
    own: bool,
    named: Option<StreamName>,
    there: &impl Display,
    breaches: &mut Breaches,
) {
    let leads_back = own && named.as_ref() == Some(name);
    breaches.unless(!leads_back, key, || format!("{there} is this server, and {name} this stream"));
}

/// A URL for people; what may be secret stands in its query, and before the host.
fn without_secrets(url: &str) -> String {
    let url = url.split('?').next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    format!("{scheme}://{place}{path}")
}

fn read(key: &str, url: &str, breaches: &mut Breaches) -> Option<Target> {
    match Target::parse(url) {
        Ok(target) => Some(target),
        Err(error) => {
            let shown = without_secrets(url);
            breaches.unless(false, key, || format!("{shown:?}, at character {}: {}", error.at, error.why));
            None
        }
    }
}
