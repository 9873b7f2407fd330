//! What whoever comes first is told, without a session: a cookie that only its own address can show again.
//! (draft-sharabayko-srt-01, 4.3.1.1)

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::{
    derived,
    handshake::{Handshake, MAGIC, kind},
    number_of,
    packet::{Control, Kind, Packet},
};
use crate::{
    datagram::Greeting,
    limits::{self, DoorLimits, Secret},
    time::Now,
};

/// How long a cookie is good for at least; at most twice as long.
const COOKIE_NANOS: u64 = 30_000_000_000;

/// What becomes of a datagram, whether or not its sender has a session.
pub fn greet(datagram: &[u8], from: SocketAddr, limits: &DoorLimits, now: Now) -> Greeting {
    // Most are of the stream, and this is looked at before each.
    if datagram.first().is_some_and(|byte| byte & 0x80 == 0) {
        return Greeting::Known;
    }
    let Ok(Packet::Control(Control { kind: Kind::Handshake(body), to: 0, .. })) = Packet::read(datagram)
    else {
        return Greeting::Known;
    };
    let Ok(handshake) = Handshake::read(body) else { return Greeting::Ignore };
    match handshake.kind {
        kind::INDUCTION => Greeting::Answer(induction(&handshake, cookie(&limits.secret, from, now))),
        kind::CONCLUSION if is_ours(handshake.cookie, &limits.secret, from, now) => Greeting::Begin,
        _ => Greeting::Ignore,
    }
}

/// The answer to a caller's first word. It is no longer than the word was, so that nobody can be flooded by way of us.
fn induction(asked: &Handshake, cookie: u32) -> Bytes {
    let answer = Handshake {
        version: 5,
        key_length: 0,
        extension: MAGIC,
        first: asked.first,
        mtu: asked.mtu.min(limits::SRT_MTU),
        window: limits::SRT_WINDOW_PACKETS as u32,
        kind: kind::INDUCTION,
        socket: number_of(derived(&[0; 32], &[&cookie.to_be_bytes()])) | 1,
        cookie,
        address: asked.address,
        ..Handshake::default()
    };
    let body = answer.write(true);
    Control { kind: Kind::Handshake(&body), timestamp: 0, to: asked.socket }.write()
}

fn cookie(secret: &Secret, from: SocketAddr, now: Now) -> u32 {
    cookie_of(secret, from, now.0 / COOKIE_NANOS)
}

/// Of this period, or of the one before.
fn is_ours(shown: u32, secret: &Secret, from: SocketAddr, now: Now) -> bool {
    let period = now.0 / COOKIE_NANOS;
    [Some(period), period.checked_sub(1)]
        .into_iter()
        .flatten()
        .any(|period| cookie_of(secret, from, period) == shown)
}

fn cookie_of(secret: &Secret, from: SocketAddr, period: u64) -> u32 {
    let address = match from.ip() {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    number_of(derived(&secret.0, &[b"cookie", &address, &from.port().to_be_bytes(), &period.to_be_bytes()]))
}
