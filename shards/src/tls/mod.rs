//! TLS for doors over TCP: what they prove who they are with ([`certificate`]), and what one connection is to TLS, without its
//! socket ([`channel`]). The bytes' way between ring, channel and hub is the shard's (`shards/src/shard/secure.rs`).
//!
//! A session knows nothing of it: it is given what the peer said, and what it says is sealed on the way to the ring. The shared
//! blocks of a stream are sealed for each viewer: by the kernel where it has TLS ([`seal`]), else a piece at a time.

pub mod certificate;
pub mod channel;
pub mod seal;

use shardcast_engine::protocol::Protocol;

pub use self::{
    certificate::{Certificate, Refused},
    channel::{Channel, Fault, Leave},
    seal::{Ending, Kernel, Keys, Seal},
};

/// The doors of a node that speak TLS.
#[derive(Clone, Debug)]
pub struct Secured {
    /// Their names, which are those of their rows.
    pub doors: Vec<&'static str>,
    /// What they prove who they are with, until a shard is told otherwise.
    pub certificate: Certificate,
}

/// The doors that a built-in protocol has with TLS: their names, and that of the row.
pub const DOORS: [(&str, &str); 3] = [("rtmps", "rtmp"), ("rtsps", "rtsp"), ("https", "http")];

/// The row of the door `name` among `rows`: the row itself, or the one that is spoken inside TLS there, by the door's name.
pub fn row_of(name: &str, rows: &[Protocol]) -> Option<Protocol> {
    let find = |name: &str| rows.iter().find(|row| row.name == name).copied();
    let inside = |(door, row): &(&'static str, &str)| Some(Protocol { name: door, ..find(row)? });
    find(name).or_else(|| DOORS.iter().find(|(door, _)| *door == name).and_then(inside))
}

#[cfg(test)]
mod tests {
    use shardcast_engine::protocol::{Transport, built_in};

    use super::*;

    #[test]
    fn every_door_with_tls_is_a_row_by_another_name() {
        let rows = built_in();
        for (door, row) in DOORS {
            let Some(found) = row_of(door, &rows) else {
                assert!(rows.iter().all(|built_in| built_in.name != row), "{row} has no door {door}");
                continue;
            };
            assert_eq!((found.name, found.transport), (door, Transport::Tcp));
        }
        for row in &rows {
            assert_eq!(row_of(row.name, &rows).map(|row| row.name), Some(row.name));
        }
        assert!(row_of("ftps", &rows).is_none());
    }
}
