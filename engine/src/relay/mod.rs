//! Streams that go on to another machine, or come from one, without anybody asking at a door: an operator has said so.
//!
//! Here is what was said: a [`Target`] is where a stream is pushed to, a [`Remote`] a stream on another server, and [`Relays`] all of
//! them. How soon one that failed is tried again, and how often that is told, is in [`Backoff`]. The conversations themselves are those
//! of their protocols.

mod backoff;
mod remote;
mod rtsp_remote;

use std::{collections::BTreeMap, fmt};

pub use backoff::Backoff;
pub use remote::Remote;
pub use rtsp_remote::RtspRemote;

#[cfg(feature = "srt")]
use crate::srt;
use crate::{error::Error, limits, media::StreamName, udp::Outlet};

/// Where a stream is pushed to.
///
/// ```
/// use shardcast_engine::{media::StreamName, relay::Target};
///
/// let target = Target::parse("rtmp://live.example.net/app/{stream}?key=secret")?;
/// let Target::Rtmp(remote) = target.for_stream(&StreamName::parse("live/cam")?) else { panic!("it is RTMP") };
/// assert_eq!((remote.host.as_str(), remote.port, remote.stream.as_str()), ("live.example.net", 1935, "cam?key=secret"));
/// // What is behind the application is often a secret, and not shown.
/// assert_eq!(target.to_string(), "rtmp://live.example.net/app");
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// MPEG-TS in datagrams, `udp://` or `rtp://`.
    Datagrams(Outlet),
    /// A stream on another server, `rtmp://`.
    Rtmp(Remote),
    /// A stream on another server, `rtsp://`.
    Rtsp(RtspRemote),
    /// A stream on another server, `srt://`.
    #[cfg(feature = "srt")]
    Srt(srt::Target),
}

/// Where a stream comes from that is pulled.
///
/// ```
/// use shardcast_engine::relay::Origin;
///
/// let origin = Origin::parse("rtmp://origin.example.net/live/cam?key=secret")?;
/// assert_eq!(origin.to_string(), "rtmp://origin.example.net/live");
/// assert!(Origin::parse("http://origin.example.net/live/cam.flv").is_err());
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// `rtmp://`.
    Rtmp(Remote),
    /// `srt://`.
    #[cfg(feature = "srt")]
    Srt(srt::Target),
}

impl Origin {
    /// Reads the URL of one.
    ///
    /// # Errors
    /// What is wrong with it; `at` counts from the beginning of `url`.
    pub fn parse(url: &str) -> Result<Self, Error> {
        check_length(url)?;
        #[cfg(feature = "srt")]
        if url.starts_with("srt://") {
            return srt::Target::parse(url).map(Origin::Srt);
        }
        Remote::parse(url).map(Origin::Rtmp)
    }

    /// The origin for the stream that it is for: `{app}` and `{stream}` stand for the parts of its name.
    #[must_use]
    pub fn for_stream(&self, name: &StreamName) -> Self {
        match self {
            Origin::Rtmp(remote) => Origin::Rtmp(remote.for_stream(name)),
            #[cfg(feature = "srt")]
            Origin::Srt(target) => Origin::Srt(target.for_stream(name)),
        }
    }
}

impl fmt::Display for Origin {
    /// Without what may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Rtmp(remote) => remote.fmt(f),
            #[cfg(feature = "srt")]
            Origin::Srt(target) => target.fmt(f),
        }
    }
}

fn check_length(url: &str) -> Result<(), Error> {
    if url.len() > limits::RELAY_URL_BYTES_MAX {
        let most = limits::RELAY_URL_BYTES_MAX as u64;
        return Err(Error::too_large("a URL of more than 1024 bytes", most));
    }
    Ok(())
}

impl Target {
    /// Reads the URL of one.
    ///
    /// # Errors
    /// What is wrong with it; `at` counts from the beginning of `url`.
    pub fn parse(url: &str) -> Result<Self, Error> {
        check_length(url)?;
        match url.split_once("://").map(|(scheme, _)| scheme) {
            Some("udp" | "rtp") => Outlet::parse(url).map(Target::Datagrams),
            Some("rtmp") => Remote::parse(url).map(Target::Rtmp),
            Some("rtsp") => RtspRemote::parse(url).map(Target::Rtsp),
            #[cfg(feature = "srt")]
            Some("srt") => srt::Target::parse(url).map(Target::Srt),
            _ => Err(Error::unsupported(
                "udp://, rtp://, rtmp://, rtsp:// or srt:// is what can be pushed to",
                0,
            )),
        }
    }

    /// The target for one of the streams that it is for: `{app}` and `{stream}` stand for the parts of its name.
    #[must_use]
    pub fn for_stream(&self, name: &StreamName) -> Self {
        match self {
            Target::Datagrams(outlet) => Target::Datagrams(outlet.clone()),
            Target::Rtmp(remote) => Target::Rtmp(remote.for_stream(name)),
            Target::Rtsp(remote) => Target::Rtsp(remote.for_stream(name)),
            #[cfg(feature = "srt")]
            Target::Srt(target) => Target::Srt(target.for_stream(name)),
        }
    }

    /// Each stream has a place of its own there, because the URL has `{stream}`.
    pub fn tells_streams_apart(&self) -> bool {
        match self {
            Target::Datagrams(_) => false,
            Target::Rtmp(remote) => remote.names_stream(),
            Target::Rtsp(remote) => remote.names_stream(),
            #[cfg(feature = "srt")]
            Target::Srt(target) => target.names_stream(),
        }
    }
}

impl fmt::Display for Target {
    /// Without what may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Datagrams(outlet) => {
                write!(f, "{}://{}", if outlet.wrapped { "rtp" } else { "udp" }, outlet.address)
            }
            Target::Rtmp(remote) => remote.fmt(f),
            Target::Rtsp(remote) => remote.fmt(f),
            #[cfg(feature = "srt")]
            Target::Srt(target) => target.fmt(f),
        }
    }
}

/// All that is pushed and pulled.
///
/// ```
/// use shardcast_engine::{media::StreamName, relay::{Relays, Target}};
///
/// let live = vec![Target::parse("rtmp://backup/live/{stream}")?];
/// let relays = Relays { apps: [("live".to_owned(), live)].into(), ..Relays::default() };
/// assert_eq!(relays.pushes_of(&StreamName::parse("live/cam")?), [Target::parse("rtmp://backup/live/cam")?]);
/// assert!(relays.pushes_of(&StreamName::parse("talk/cam")?).is_empty());
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relays {
    /// Where the streams of apps go that are not named in `apps`.
    pub default: Vec<Target>,
    /// Where the streams of an app go.
    pub apps: BTreeMap<String, Vec<Target>>,
    /// Where single streams go, beside that.
    pub streams: BTreeMap<StreamName, Vec<Target>>,
    /// Where streams of here come from.
    pub pulls: BTreeMap<StreamName, Origin>,
}

impl Relays {
    /// Where this stream is pushed to, each target once: what is said of it alone first, and at most
    /// [`PUSHES_PER_STREAM_MAX`](limits::PUSHES_PER_STREAM_MAX).
    pub fn pushes_of(&self, name: &StreamName) -> Vec<Target> {
        let own = self.streams.get(name).into_iter().flatten();
        let of_app = self.apps.get(name.app()).unwrap_or(&self.default);
        let mut targets = Vec::new();
        for target in own.chain(of_app) {
            let target = target.for_stream(name);
            if targets.len() < limits::PUSHES_PER_STREAM_MAX && !targets.contains(&target) {
                targets.push(target);
            }
        }
        targets
    }

    /// Nothing is pushed and nothing is pulled.
    pub fn is_empty(&self) -> bool {
        self.default.is_empty()
            && self.pulls.is_empty()
            && self.apps.values().chain(self.streams.values()).all(Vec::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_cannot_be_pushed_to_is_refused_with_its_place() {
        let why = |url: &str| Target::parse(url).unwrap_err();
        assert_eq!(why("ftp://host/live/cam").at, 0);
        assert!(why("live/cam").why.contains("udp://, rtp://, rtmp://, rtsp:// or srt://"));
        assert_eq!(why("udp://127.0.0.1").at, 6);
        assert_eq!(why(&format!("rtmp://host/live/{}", "x".repeat(1024))).at, 1024);
    }

    #[test]
    fn a_stream_goes_where_it_and_its_app_are_said_to_go_and_to_each_place_once() {
        let targets =
            |urls: &[&str]| -> Vec<Target> { urls.iter().map(|url| Target::parse(url).unwrap()).collect() };
        let cam = StreamName::parse("live/cam").unwrap();
        let many: Vec<Target> =
            (1..40).map(|port| Target::parse(&format!("udp://127.0.0.1:{port}")).unwrap()).collect();
        let relays = Relays {
            default: targets(&["rtmp://c/{app}/{stream}"]),
            apps: [("live".to_owned(), targets(&["rtmp://a/x/{stream}", "rtmp://b/x/{stream}"]))].into(),
            streams: [
                (cam.clone(), targets(&["udp://127.0.0.1:1", "rtmp://a/x/cam"])),
                (StreamName::parse("live/many").unwrap(), many),
            ]
            .into(),
            ..Relays::default()
        };
        assert_eq!(
            relays.pushes_of(&cam),
            targets(&["udp://127.0.0.1:1", "rtmp://a/x/cam", "rtmp://b/x/cam"])
        );
        assert_eq!(
            relays.pushes_of(&StreamName::parse("talk/one").unwrap()),
            targets(&["rtmp://c/talk/one"])
        );
        assert_eq!(relays.pushes_of(&StreamName::parse("live/many").unwrap()).len(), 16);
        assert!(!relays.is_empty() && Relays::default().is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_a_target_or_says_why_not(text in "(udp|rtp|rtmp|rtsp|srt)://.{0,80}") {
            match Target::parse(&text) {
                Ok(target) => {
                    let target = target.for_stream(&StreamName::parse("live/cam").unwrap());
                    prop_assert!(!target.to_string().is_empty());
                }
                Err(error) => prop_assert!(error.at <= text.len() as u64 + 1),
            }
        }
    }
}
