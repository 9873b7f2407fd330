//! What an operator has chosen for SRT.

use std::{collections::BTreeMap, fmt, time::Duration};

use crate::media::StreamName;

/// What an operator has chosen for SRT.
///
/// ```
/// use std::time::Duration;
/// use shardcast_engine::{media::StreamName, srt::Settings};
///
/// let settings = Settings {
///     latency: Duration::from_millis(200),
///     passphrases: [(StreamName::parse("live/cam")?, "a passphrase".to_owned())].into(),
///     ..Settings::default()
/// };
/// assert_eq!(settings.passphrase_of(&StreamName::parse("live/cam")?), Some("a passphrase"));
/// assert_eq!(settings.passphrase_of(&StreamName::parse("live/other")?), None);
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long a packet is held back at least, so that what was lost can be sent again; the other side may want more.
    pub latency: Duration,
    /// What encrypts each stream that has none of its own. Who has another passphrase, or none, is refused; where there is none,
    /// who has one is.
    pub passphrase: Option<String>,
    /// Passphrases of single streams.
    pub passphrases: BTreeMap<StreamName, String>,
}

impl Settings {
    /// What encrypts this stream.
    pub fn passphrase_of(&self, name: &StreamName) -> Option<&str> {
        self.passphrases.get(name).or(self.passphrase.as_ref()).map(String::as_str)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings { latency: Duration::from_millis(120), passphrase: None, passphrases: BTreeMap::new() }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("latency", &self.latency).finish_non_exhaustive()
    }
}
