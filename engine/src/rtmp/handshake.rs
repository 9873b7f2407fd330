//! The handshake, both halves: simple (Adobe RTMP 1.0, section 5.2) and complex.
//!
//! The complex one is not in the specification. Flash Player 9 and later, librtmp and ffmpeg prove with an HMAC-SHA256 of
//! a well-known key that they are what they are: 32 of the random bytes of C1 and S1 are a digest of the others, at a
//! place that four more bytes name, which stand at one of two places ("schemes"). The proof is worth nothing as
//! security, but ffmpeg refuses a server that answers its digest with a wrong one. A client whose digest does not
//! validate gets the simple handshake.

use bytes::{BufMut, BytesMut};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::{bits::Reader, error::Error};

/// Bytes of C1, C2, S1 and S2.
const PACKET_BYTES: usize = 1536;
/// The version of the unencrypted protocol, in C0 and S0.
const VERSION: u8 = 3;
const DIGEST_BYTES: usize = 32;
type Digest = [u8; DIGEST_BYTES];

/// What a client signs with: the first 30 bytes sign C1, the whole signs C2.
const CLIENT_KEY: [u8; 62] = key(b"Genuine Adobe Flash Player 001");
/// What a server signs with: the first 36 bytes sign S1, the whole signs S2.
const SERVER_KEY: [u8; 68] = key(b"Genuine Adobe Flash Media Server 001");
/// The part of both keys that follows the words.
const KEY_TAIL: [u8; 32] = [
    0xf0, 0xee, 0xc2, 0x4a, 0x80, 0x68, 0xbe, 0xe8, 0x2e, 0x00, 0xd0, 0xd1, 0x02, 0x9e, 0x7e, 0x57, 0x6e,
    0xec, 0x5d, 0x2d, 0x29, 0x80, 0x6f, 0xab, 0x93, 0xb8, 0xe6, 0x36, 0xcf, 0xeb, 0x31, 0xae,
];
/// A version number in bytes 4 to 7 of C1 and S1 says that a digest may be there; the simple handshake has zeros.
const DIGEST_VERSION: [u8; 4] = [0x0a, 0x00, 0x00, 0x01];

const fn key<const N: usize>(words: &[u8]) -> [u8; N] {
    let mut key = [0; N];
    let mut at = 0;
    while at < N {
        key[at] = if at < words.len() { words[at] } else { KEY_TAIL[at - words.len()] };
        at += 1;
    }
    key
}

/// Where the four bytes stand that name the digest's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// At byte 772, in the second half (what most clients do).
    Second,
    /// At byte 8, in the first half.
    First,
}

impl Scheme {
    const fn base(self) -> usize {
        match self {
            Scheme::Second => 772,
            Scheme::First => 8,
        }
    }
}

/// The server's half.
#[derive(Debug)]
pub struct Server {
    seed: u64,
    state: ServerState,
}

#[derive(Debug)]
enum ServerState {
    /// C0 and C1, as far as they have come.
    Greeting(Vec<u8>),
    /// C2, of which this many bytes are missing.
    Finishing(usize),
}

impl Server {
    /// A server that fills its random bytes from `seed`. They need to be no secret.
    pub const fn new(seed: u64) -> Self {
        Server { seed, state: ServerState::Greeting(Vec::new()) }
    }

    /// Takes what belongs to the handshake from the front of `input` and appends the answer to `out`. True when the
    /// handshake is over and the chunks begin.
    ///
    /// # Errors
    /// The version is not 3. `at` counts from the start of the connection.
    pub fn receive(&mut self, input: &mut &[u8], out: &mut BytesMut) -> Result<bool, Error> {
        if let ServerState::Greeting(greeting) = &mut self.state {
            take(input, greeting, 1 + PACKET_BYTES);
            let mut reader = Reader::new(greeting);
            if reader.is_empty() {
                return Ok(false);
            }
            check_version(reader.u8("C0")?)?;
            if reader.remaining() < PACKET_BYTES {
                return Ok(false);
            }
            let client = reader.array::<PACKET_BYTES>("C1")?;
            answer(&client, self.seed, out);
            self.state = ServerState::Finishing(PACKET_BYTES);
        }
        let ServerState::Finishing(missing) = &mut self.state else { return Ok(false) };
        // C2 proves nothing that matters, and real clients fill it with what they like.
        let taken = input.len().min(*missing);
        *input = input.split_at(taken).1;
        *missing -= taken;
        Ok(*missing == 0)
    }
}

/// 5.2.2: 3 is the only version in use; 6 is RTMPE, whose cipher is broken and whose users are gone.
fn check_version(version: u8) -> Result<(), Error> {
    match version {
        VERSION => Ok(()),
        6 | 8 | 9 => Err(Error::unsupported("RTMPE", 0)),
        0..=31 => Err(Error::unsupported("an RTMP version other than 3", 0)),
        _ => Err(Error::malformed("not an RTMP handshake", 0)),
    }
}

/// S0, S1 and S2.
fn answer(client: &[u8; PACKET_BYTES], seed: u64, out: &mut BytesMut) {
    out.put_u8(VERSION);
    let signed = [Scheme::Second, Scheme::First]
        .into_iter()
        .find_map(|scheme| Some((scheme, valid_digest(client, scheme, client_key_words())?)));
    match signed {
        Some((scheme, digest)) => {
            out.put_slice(&signed_packet(seed, scheme, server_key_words()));
            out.put_slice(&proof(seed.wrapping_add(1), &SERVER_KEY, &digest));
        }
        None => {
            out.put_slice(&plain_packet(seed));
            out.put_slice(client);
        }
    }
}

/// The client's half.
#[derive(Debug)]
pub struct Client {
    kind: ClientKind,
    greeting: Vec<u8>,
}

/// Which handshake a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientKind {
    /// Without digests.
    Simple,
    /// With a digest in this scheme. The server's answer must prove itself, or be simple.
    Complex(Scheme),
}

impl Client {
    /// A client, and C0 and C1 appended to `out`.
    pub fn new(kind: ClientKind, seed: u64, out: &mut BytesMut) -> Self {
        out.put_u8(VERSION);
        match kind {
            ClientKind::Simple => out.put_slice(&plain_packet(seed)),
            ClientKind::Complex(scheme) => out.put_slice(&signed_packet(seed, scheme, client_key_words())),
        }
        Client { kind, greeting: Vec::new() }
    }

    /// Takes S0, S1 and S2 from the front of `input` and appends C2 to `out`. True when the handshake is over.
    ///
    /// # Errors
    /// The version is not 3.
    pub fn receive(&mut self, input: &mut &[u8], out: &mut BytesMut) -> Result<bool, Error> {
        take(input, &mut self.greeting, 1 + 2 * PACKET_BYTES);
        let mut reader = Reader::new(&self.greeting);
        if reader.is_empty() {
            return Ok(false);
        }
        check_version(reader.u8("S0")?)?;
        if reader.remaining() < 2 * PACKET_BYTES {
            return Ok(false);
        }
        let server = reader.array::<PACKET_BYTES>("S1")?;
        let digest = match self.kind {
            ClientKind::Simple => None,
            ClientKind::Complex(scheme) => valid_digest(&server, scheme, server_key_words()),
        };
        match digest {
            Some(digest) => out.put_slice(&proof(2, &CLIENT_KEY, &digest)),
            None => out.put_slice(&server),
        }
        Ok(true)
    }
}

/// Moves bytes from `input` to `to` until that has `len`.
fn take(input: &mut &[u8], to: &mut Vec<u8>, len: usize) {
    let (taken, rest) = input.split_at(input.len().min(len.saturating_sub(to.len())));
    to.extend_from_slice(taken);
    *input = rest;
}

fn client_key_words() -> &'static [u8] {
    CLIENT_KEY.split_at(30).0
}

fn server_key_words() -> &'static [u8] {
    SERVER_KEY.split_at(36).0
}

/// 5.2.3: a time, zeros, and random bytes.
fn plain_packet(seed: u64) -> [u8; PACKET_BYTES] {
    let mut packet = [0; PACKET_BYTES];
    fill(packet.split_at_mut(8).1, seed);
    packet
}

fn signed_packet(seed: u64, scheme: Scheme, key: &[u8]) -> [u8; PACKET_BYTES] {
    let mut packet = plain_packet(seed);
    packet.split_at_mut(4).1.split_at_mut(4).0.copy_from_slice(&DIGEST_VERSION);
    let (before, _, after) = around_digest(&packet, scheme);
    let digest = hmac(key, &[before, after]);
    let at = before.len();
    packet.split_at_mut(at).1.split_at_mut(DIGEST_BYTES).0.copy_from_slice(&digest);
    packet
}

/// C2 and S2 of the complex handshake: random bytes, and a signature of them whose key is a signature of the digest
/// that they answer.
fn proof(seed: u64, key: &[u8], digest: &Digest) -> [u8; PACKET_BYTES] {
    let mut packet = [0; PACKET_BYTES];
    let (random, signature) = packet.split_at_mut(PACKET_BYTES - DIGEST_BYTES);
    fill(random, seed);
    signature.copy_from_slice(&hmac(&hmac(key, &[digest]), &[random]));
    packet
}

/// The digest of C1 or S1, if it is one.
fn valid_digest(packet: &[u8; PACKET_BYTES], scheme: Scheme, key: &[u8]) -> Option<Digest> {
    let (before, digest, after) = around_digest(packet, scheme);
    (hmac(key, &[before, after]) == digest).then_some(digest)
}

/// The packet split at the digest's place: the sum of the four bytes at `base`, modulo 728, after them.
fn around_digest(packet: &[u8; PACKET_BYTES], scheme: Scheme) -> (&[u8], Digest, &[u8]) {
    let base = scheme.base();
    let (_, from_base) = packet.split_at(base);
    let sum = from_base.iter().take(4).map(|byte| usize::from(*byte)).sum::<usize>();
    let (before, rest) = packet.split_at(base + 4 + sum % 728);
    let (digest, after) =
        rest.split_first_chunk().expect("776 + 727 + 32 is less than the packet, whatever the bytes are");
    (before, *digest, after)
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Digest {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// SplitMix64 (Steele, Lea and Flood, 2014): random enough for bytes that only have to differ, and the same for the
/// same seed.
fn fill(bytes: &mut [u8], seed: u64) {
    let mut state = seed;
    for chunk in bytes.chunks_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        chunk.iter_mut().zip(mixed.to_le_bytes()).for_each(|(place, byte)| *place = byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// Both halves against each other, the bytes cut into pieces of `piece`; what the server sent, and C1.
    fn shake(kind: ClientKind, piece: usize) -> (Vec<u8>, Vec<u8>) {
        let mut to_server = BytesMut::new();
        let mut client = Client::new(kind, 7, &mut to_server);
        let hello = to_server.to_vec();
        let mut server = Server::new(9);
        let mut to_client = BytesMut::new();
        for mut part in hello.chunks(piece) {
            assert!(!server.receive(&mut part, &mut to_client).unwrap());
            assert!(part.is_empty());
        }
        let answer = to_client.to_vec();
        to_server.clear();
        let parts = answer.chunks(piece).count();
        for (index, mut part) in answer.chunks(piece).enumerate() {
            assert_eq!(client.receive(&mut part, &mut to_server).unwrap(), index + 1 == parts);
        }
        let farewell = to_server.to_vec();
        let parts = farewell.chunks(piece).count();
        for (index, mut part) in farewell.chunks(piece).enumerate() {
            assert_eq!(server.receive(&mut part, &mut to_client).unwrap(), index + 1 == parts);
        }
        (answer, hello)
    }

    #[test]
    fn a_simple_client_gets_its_own_bytes_back_at_any_split() {
        for piece in [1, 2, 7, 1000, 1535, 1536, 1537, 4000] {
            let (answer, hello) = shake(ClientKind::Simple, piece);
            assert_eq!(answer.len(), 1 + 2 * PACKET_BYTES);
            assert_eq!(answer[1 + PACKET_BYTES..], hello[1..]);
            assert_eq!(answer[5..9], [0; 4]);
        }
    }

    #[test]
    fn a_complex_client_gets_a_digest_and_a_proof_in_its_own_scheme() {
        for scheme in [Scheme::First, Scheme::Second] {
            let (answer, hello) = shake(ClientKind::Complex(scheme), 1537);
            let first = answer[1..=PACKET_BYTES].try_into().unwrap();
            assert!(valid_digest(first, scheme, server_key_words()).is_some());
            let ours = hello[1..].try_into().unwrap();
            let digest = valid_digest(ours, scheme, client_key_words()).unwrap();
            let second = &answer[1 + PACKET_BYTES..];
            let (random, signature) = second.split_at(1504);
            assert_eq!(hmac(&hmac(&SERVER_KEY, &[&digest]), &[random]), signature);
        }
    }

    #[test]
    fn a_digest_that_does_not_validate_is_answered_with_the_simple_handshake() {
        let mut hello = BytesMut::new();
        Client::new(ClientKind::Complex(Scheme::Second), 7, &mut hello);
        hello[1000] ^= 1;
        let mut out = BytesMut::new();
        assert!(!Server::new(1).receive(&mut &hello[..], &mut out).unwrap());
        assert_eq!(out[1 + PACKET_BYTES..], hello[1..]);
    }

    #[test]
    fn other_versions_are_refused_at_the_first_byte() {
        for (byte, kind) in [
            (6, ErrorKind::Unsupported),
            (0, ErrorKind::Unsupported),
            (b'G', ErrorKind::Malformed),
            (0x16, ErrorKind::Unsupported),
        ] {
            let error = Server::new(1).receive(&mut &[byte][..], &mut BytesMut::new()).unwrap_err();
            assert_eq!((error.kind, error.at), (kind, 0));
        }
    }

    #[test]
    fn bytes_after_the_handshake_are_left_alone() {
        let mut hello = BytesMut::new();
        Client::new(ClientKind::Simple, 7, &mut hello);
        hello.extend_from_slice(&[0; PACKET_BYTES]);
        hello.extend_from_slice(b"chunks");
        let mut input = &hello[..];
        assert!(Server::new(1).receive(&mut input, &mut BytesMut::new()).unwrap());
        assert_eq!(input, b"chunks");
    }
}
