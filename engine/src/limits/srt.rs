//! What an operator has chosen for SRT.

use std::{collections::BTreeMap, fmt, time::Duration};

/// What an operator has chosen for SRT.
///
/// ```
/// use std::time::Duration;
/// use shardcast_engine::limits::SrtSettings;
///
/// let settings = SrtSettings {
///     latency: Duration::from_millis(200),
///     passphrases: [("live/cam".to_owned(), "a passphrase".to_owned())].into(),
///     ..SrtSettings::default()
/// };
/// assert_eq!(settings.passphrase_of("live/cam"), Some("a passphrase"));
/// assert_eq!(settings.passphrase_of("live/other"), None);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct SrtSettings {
    /// How long a packet is held back at least, so that what was lost can be sent again; the other side may want more.
    pub latency: Duration,
    /// What encrypts each stream that has none of its own. Who has another passphrase, or none, is refused; where there is none,
    /// who has one is.
    pub passphrase: Option<String>,
    /// Passphrases of single streams, by `APP/STREAM`.
    pub passphrases: BTreeMap<String, String>,
}

impl SrtSettings {
    /// What encrypts this stream.
    pub fn passphrase_of(&self, name: &str) -> Option<&str> {
        self.passphrases.get(name).or(self.passphrase.as_ref()).map(String::as_str)
    }
}

impl Default for SrtSettings {
    fn default() -> Self {
        SrtSettings { latency: Duration::from_millis(120), passphrase: None, passphrases: BTreeMap::new() }
    }
}

impl fmt::Debug for SrtSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SrtSettings").field("latency", &self.latency).finish_non_exhaustive()
    }
}
