//! What an operator chose, as the hubs read it. Shared by all cores, replaced whole when the config is read again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

#[cfg(feature = "mpegts")]
use crate::relay::Relays;
#[cfg(feature = "segment")]
use crate::segment;
use crate::{
    access::{Authenticator, Everyone},
    limits::{self, DoorLimits, StreamLimits},
    media::StreamName,
};

/// What an operator chose.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use shardcast_engine::{access::Keys, limits::StreamLimits, settings::{AppSettings, Settings}};
///
/// let limits = StreamLimits { flush: Duration::ZERO, takeover: true, ..StreamLimits::default() };
/// let settings = Settings {
///     apps: [("talk".to_owned(), AppSettings { limits, ..AppSettings::default() })].into(),
///     access: Arc::new(Keys { publish: vec!["secret".into()], play: vec![] }),
///     ..Settings::default()
/// };
/// assert!(settings.of("talk").limits.takeover && !settings.of("live").limits.takeover);
/// ```
#[derive(Clone)]
pub struct Settings {
    /// For apps that are not named in `apps`.
    pub default: AppSettings,
    /// Per application.
    pub apps: BTreeMap<String, AppSettings>,
    /// What the doors let in.
    pub doors: DoorLimits,
    /// Who may publish and play.
    pub access: Arc<dyn Authenticator>,
    /// Shortest length of a recording's segment.
    pub segment: Duration,
    /// How streams are packaged that somebody asks for by segments.
    #[cfg(feature = "segment")]
    pub packaging: segment::Settings,
    /// Where streams are pushed to, and pulled from.
    #[cfg(feature = "mpegts")]
    pub relays: Relays,
    /// Streams that somebody fetches when they are wanted, as [`FirstViewer`](crate::observe::StreamEvent::FirstViewer) tells:
    /// their viewers wait at least [`ON_DEMAND_TIME_MAX`](limits::ON_DEMAND_TIME_MAX) for them, whatever their app says.
    pub on_demand: BTreeSet<StreamName>,
}

/// What an operator chose for one application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppSettings {
    /// Bounds and policies of its streams.
    pub limits: StreamLimits,
    /// Its streams are recorded.
    pub record: bool,
}

impl Settings {
    /// What holds for the streams of `app`.
    pub fn of(&self, app: &str) -> &AppSettings {
        self.apps.get(app).unwrap_or(&self.default)
    }

    /// The bounds and policies of this stream. A rendition ends with what it is made of, and waits for nobody to come back.
    pub(crate) fn limits_of(&self, name: &StreamName) -> StreamLimits {
        let mut limits = self.of(name.app()).limits.clone();
        if name.is_rendition() {
            limits.reconnect_window = Duration::ZERO;
        }
        limits
    }

    /// Whether this stream is recorded. A rendition is not: what it is made of may be.
    #[cfg(feature = "record")]
    pub(crate) fn records(&self, name: &StreamName) -> bool {
        self.of(name.app()).record && !name.is_rendition()
    }

    /// How long a viewer waits for this stream when it is not here.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shardcast_engine::{media::StreamName, settings::Settings};
    ///
    /// let (door, yard) = (StreamName::parse("cam/door")?, StreamName::parse("cam/yard")?);
    /// let settings = Settings { on_demand: [door.clone()].into(), ..Settings::default() };
    /// assert_eq!(settings.patience(&door), Duration::from_secs(10));
    /// assert_eq!(settings.patience(&yard), Duration::ZERO);
    /// # Ok::<(), shardcast_engine::error::Error>(())
    /// ```
    pub fn patience(&self, name: &StreamName) -> Duration {
        let patience = self.of(name.app()).limits.wait_for_publisher;
        if self.on_demand.contains(name) || name.is_rendition() {
            patience.max(limits::ON_DEMAND_TIME_MAX)
        } else {
            patience
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            default: AppSettings::default(),
            apps: BTreeMap::new(),
            doors: DoorLimits::default(),
            access: Arc::new(Everyone),
            segment: Duration::from_secs(600),
            #[cfg(feature = "segment")]
            packaging: segment::Settings::default(),
            #[cfg(feature = "mpegts")]
            relays: Relays::default(),
            on_demand: BTreeSet::new(),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("default", &self.default)
            .field("apps", &self.apps)
            .finish_non_exhaustive()
    }
}
