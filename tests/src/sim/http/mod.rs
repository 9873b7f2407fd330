//! Peers of the HTTP door, without their sockets: who has a stream sent ([`Stream`]) and who fetches one by names
//! ([`Player`]). Both read answers as their bytes come (`answers.rs`); `list.rs` puts an update of a playlist together with
//! the one before it.

mod answers;
mod list;
mod player;
mod stream;

use bytes::BytesMut;
use shardcast_engine::media::StreamName;

pub use player::{Habits, Player, Sort};
pub use stream::{Container, Stream};

/// No request.
const NONSENSE: &[u8] = b"\x03GET\r\n\r\n";

/// Asks for `path` behind a stream's name.
fn get(name: &StreamName, path: &str, out: &mut BytesMut) {
    out.extend_from_slice(format!("GET /{name}{path} HTTP/1.1\r\nHost: sim\r\n\r\n").as_bytes());
}
