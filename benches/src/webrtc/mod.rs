//! WHIP and WHEP from the other side, with str0m: publishers, viewers, and the sessions of a floor.
//!
//! `peer.rs` is the library with a socket; `offer.rs` is what is said by HTTP; `viewer.rs` and `publisher.rs` are the load's; `packets.rs` makes
//! packets of frames, for publishers and for the floor.

mod offer;
mod packets;
mod peer;
mod publisher;
mod viewer;

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use shardcast_engine::time::Now;
use shardcast_io::clock;
use str0m::{
    RtcConfig,
    config::{CryptoProvider, DtlsCert},
};

pub use offer::{Described, described};
pub use packets::{Lane, Packets, Piece};
pub use peer::Peer;
pub use publisher::Whip;
pub use viewer::Whep;

/// `now` as the library counts.
pub fn instant(now: Now) -> Instant {
    static ZERO: OnceLock<(Instant, u64)> = OnceLock::new();
    let (at, nanos) = *ZERO.get_or_init(|| (Instant::now(), clock::monotonic()));
    match now.0.checked_sub(nanos) {
        Some(later) => at + Duration::from_nanos(later),
        None => at.checked_sub(Duration::from_nanos(nanos - now.0)).unwrap_or(at),
    }
}

/// What all peers of this process share: packets are ours, one certificate for everybody, as making one takes longer than all else.
pub fn config() -> RtcConfig {
    static CERTIFICATE: OnceLock<Option<DtlsCert>> = OnceLock::new();
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let provider = PROVIDER.get_or_init(|| Arc::new(str0m::crypto::from_feature_flags()));
    let certificate = CERTIFICATE.get_or_init(|| provider.dtls_provider.generate_certificate());
    let config = RtcConfig::new().set_crypto_provider(provider.clone()).set_rtp_mode(true);
    match certificate {
        Some(certificate) => config.set_dtls_cert(certificate.clone()),
        None => config,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_library_are_as_far_apart_as_ours() {
        let now = Now(clock::monotonic());
        assert_eq!(instant(now.after(Duration::from_millis(7))) - instant(now), Duration::from_millis(7));
        assert_eq!(instant(now) - instant(Now(now.0 - 1_000_000)), Duration::from_millis(1));
    }
}
