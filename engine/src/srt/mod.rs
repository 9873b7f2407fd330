//! SRT: MPEG-TS over UDP, with what is lost sent again in time. (draft-sharabayko-srt-01; libsrt 1.5 where the draft is silent)
//!
//! A door over UDP like any other, so a caller is an address. Whoever comes first is [greeted](greet) without a session: only who
//! shows the cookie that was sent to its address has one. The stream id says what it wants (`access`); the answer to the wish is
//! the answer to its handshake. Then a publisher's packets are put in order and handed on at their time, as MPEG-TS; and a
//! viewer's session carries the stream itself: each packet has a number and a time of its own, and is kept until it has arrived.
//!
//! | file | what it knows |
//! | --- | --- |
//! | `sequence`, `packet`, `handshake` | what stands in a datagram |
//! | `secret` | keys, and payloads that they hide |
//! | `access` | stream ids |
//! | `receive`, `send` | one direction each |
//! | `link` | a connection: both, and time |
//! | `course` | what comes by it is published, or what goes by it is played |
//! | `session`, `caller` | the hub's contract: handshake, wish, goodbye |

mod access;
mod caller;
mod course;
mod greeting;
mod handshake;
mod link;
mod packet;
mod receive;
mod secret;
mod send;
mod sequence;
mod session;
mod stats;
#[cfg(test)]
mod tests;

pub use access::{Fault, Wish};
pub use caller::{Caller, Target};
pub use greeting::greet;
pub use secret::PASSPHRASE_BYTES;
pub use session::{Session, reason_of};

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// What is made of a secret and of what is known to everybody: cookies, numbers of sockets, keys.
fn derived(secret: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// The first four bytes as a number.
fn number_of(bytes: [u8; 32]) -> u32 {
    let [first, second, third, fourth, ..] = bytes;
    u32::from_be_bytes([first, second, third, fourth])
}

/// Undoes percent-encoding; what is no valid escape stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = match (first, after) {
            (b'%', [high, low, ..]) => {
                let digit = |digit: &u8| char::from(*digit).to_digit(16);
                digit(high).zip(digit(low)).map(|(high, low)| (high << 4 | low) as u8)
            }
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = rest.get(if escaped.is_some() { 3 } else { 1 }..).unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
