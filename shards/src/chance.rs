//! What cannot be guessed from outside: the engine has no chance of its own.

use std::sync::{Arc, OnceLock};

use rustls::crypto::ring::default_provider;
use shardcast_engine::{limits::Secret, settings::Settings};

/// `settings` with a secret, if they had none: the process's own, the same for as long as it lives, so that what a peer was told
/// before a reload holds after it.
pub fn with_secret(settings: Arc<Settings>) -> Arc<Settings> {
    static SECRET: OnceLock<Secret> = OnceLock::new();
    if settings.doors.secret != Secret::default() {
        return settings;
    }
    let secret = SECRET.get_or_init(|| {
        let mut bytes = [0; 32];
        default_provider().secure_random.fill(&mut bytes).expect("the kernel gives out random bytes");
        Secret(bytes)
    });
    let mut settings = settings;
    Arc::make_mut(&mut settings).doors.secret = *secret;
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_made_once_and_one_that_is_there_is_kept() {
        let made = with_secret(Arc::default()).doors.secret;
        assert!(made != Secret::default() && made == with_secret(Arc::default()).doors.secret);
        let mut own = Settings::default();
        own.doors.secret = Secret([7; 32]);
        assert_eq!(with_secret(Arc::new(own)).doors.secret, Secret([7; 32]));
    }
}
