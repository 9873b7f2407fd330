//! Whose machine serves the SRT door.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Config, check::Breaches};

/// Whose machine serves the SRT door.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Library {
    /// The one of this server, on the shards.
    #[default]
    Own,
    /// The system's libsrt, on threads of its own: it speaks packet filters and groups, too. In builds with the feature `libsrt`.
    Libsrt,
}

impl Config {
    /// Where libsrt listens, if it is to.
    pub fn libsrt_door(&self) -> Option<SocketAddr> {
        let open = self.srt.library == Library::Libsrt && self.srt.port != 0;
        open.then(|| SocketAddr::new(self.bind, self.srt.port))
    }

    /// Whether no shard opens the door of this name.
    pub(super) fn is_of_libsrt(&self, door: &str) -> bool {
        door == "srt" && self.libsrt_door().is_some()
    }
}

/// What stands against the library; `hosted` says that the config is of a program with a node inside.
pub(super) fn check(config: &Config, hosted: bool, breaches: &mut Breaches) {
    let theirs = config.srt.library == Library::Libsrt;
    breaches.unless(!theirs || cfg!(feature = "libsrt"), "srt.library", || {
        "this program was built without libsrt (the cargo feature `libsrt`)".into()
    });
    breaches.unless(!theirs || !hosted, "srt.library", || {
        "libsrt is the binary's alone: a program with a node inside has the machine of ours".into()
    });
}

#[cfg(test)]
mod tests {
    use shardcast_engine::protocol::built_in;

    use super::*;

    #[test]
    fn the_door_is_opened_by_a_shard_or_by_libsrt_and_not_by_both() {
        let mut config = Config::default();
        let opened = |config: &Config| config.open_doors(&[]).iter().any(|(row, _)| row.name == "srt");
        assert!(opened(&config) && config.libsrt_door().is_none());
        config.srt.library = Library::Libsrt;
        assert!(!opened(&config));
        assert_eq!(config.libsrt_door().map(|address| address.port()), Some(8890));
        assert_eq!(config.open_doors(&[]).len() + 1, Config::default().open_doors(&[]).len());
        assert!(built_in().iter().any(|row| row.name == "srt"));
        config.srt.port = 0;
        assert_eq!(config.libsrt_door(), None);
    }

    #[test]
    fn it_is_refused_where_it_is_not_there() {
        let mut config = Config::default();
        config.srt.library = Library::Libsrt;
        let breaches = |hosted| {
            let mut breaches = Breaches::default();
            check(&config, hosted, &mut breaches);
            breaches.0.len()
        };
        let missing = usize::from(!cfg!(feature = "libsrt"));
        assert_eq!((breaches(false), breaches(true)), (missing, missing + 1));
    }
}
