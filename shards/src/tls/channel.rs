//! One connection's TLS, without its socket: records in, what the peer said out; what it is to be told in, records out.
//!
//! Records are numbered in the order in which they are sealed, so none may overtake another or be left out. Whatever is sealed
//! stays here until the kernel has taken all of it, and only then is the hub told that what is in it has gone. A block of a
//! stream is sealed a piece at a time, which bounds what a viewer that reads slowly makes us hold.
//!
//! Once the handshake is done the kernel can go on by itself, where it has TLS. A channel says when its keys may go there: when
//! nothing is under way, no record has come in part, and no receive runs, which would take records that it cannot open.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::{Buf, Bytes, BytesMut};
use rustls::{
    AlertDescription, CipherSuite, ConnectionTrafficSecrets, Error, ServerConfig, SupportedCipherSuite,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic},
};

use shardcast_engine::error::ErrorKind;
use shardcast_io::ktls::{Cipher, Key};

use super::{Certificate, Keys, certificate::HTTP2};

/// One connection's TLS. A plain value that can move to another core between two calls.
pub struct Channel {
    connection: UnbufferedServerConnection,
    state: State,
    /// What has come and is no whole record yet.
    incoming: Vec<u8>,
    /// What was sealed and the kernel has not been given, in order.
    outgoing: Vec<u8>,
    /// What the kernel was given last and has not taken yet.
    given: Bytes,
    /// The kernel is at work on it.
    in_flight: bool,
    /// Bytes of the hub's that were sealed, and of which it does not know yet that they have gone.
    owed: usize,
    received: u64,
    /// How often a receive may still be ended for its keys to go to the kernel.
    leaves: u8,
    /// No receive runs, so that its keys can go as soon as nothing is under way.
    waits: bool,
}

/// How a channel answers when no receive runs any more and its keys could go to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// They can go now.
    Now,
    /// They can go when what is under way has gone. Nothing may be received before.
    Later,
    /// A record has come in part, and the rest of it must be received here first.
    NotYet,
}

/// What has been said so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing.
    Silent,
    /// A part of the handshake.
    Handshake,
    /// All of it: either side may speak.
    Open,
    /// The peer has said that it says no more; it may still be spoken to.
    Ended,
    /// Something was wrong, or we have said that we say no more.
    Over,
}

/// What is to be said as soon as it may be.
enum Word<'a> {
    Nothing,
    Seal(&'a [u8]),
    Goodbye,
}

/// Why a channel cannot go on.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    why: Why,
    /// At which byte of what has come.
    pub at: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum Why {
    Tls(Error),
    PlainHttp,
    TooMuch,
    Exhausted,
    Panicked,
}

impl Channel {
    /// The channel of a peer that has just connected.
    ///
    /// # Errors
    /// The certificate's configuration is not one that rustls works with.
    pub fn new(certificate: &Certificate) -> Result<Channel, Error> {
        Channel::of(certificate.config())
    }

    /// The same at a door of HTTP, where the peer may choose the version (ALPN; RFC 7301).
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn for_http(certificate: &Certificate) -> Result<Channel, Error> {
        Channel::of(certificate.http_config())
    }

    fn of(config: Arc<ServerConfig>) -> Result<Channel, Error> {
        Ok(Channel {
            connection: UnbufferedServerConnection::new(config)?,
            state: State::Silent,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            given: Bytes::new(),
            in_flight: false,
            owed: 0,
            received: 0,
            leaves: LEAVES_MAX,
            waits: false,
        })
    }

    /// Takes what has come, cut anywhere, and appends what the peer says to `heard`. There may be something to send afterwards,
    /// whatever comes of it. After a fault, and after the peer's goodbye, nothing more is heard.
    ///
    /// # Errors
    /// The peer broke TLS, speaks something else, or has met an alert of its own.
    pub fn receive(&mut self, bytes: &[u8], heard: &mut BytesMut) -> Result<(), Fault> {
        self.received += bytes.len() as u64;
        match self.state {
            State::Ended | State::Over => return Ok(()),
            // A record begins with its type, 20 to 24 (RFC 8446, 5.1). A capital letter begins a method of HTTP, by somebody who
            // wrote http:// and would make nothing of an alert.
            State::Silent if bytes.first().is_some_and(u8::is_ascii_uppercase) => {
                self.state = State::Over;
                self.outgoing.extend_from_slice(PLAIN_HTTP_ANSWER);
                return Err(self.fault(Why::PlainHttp));
            }
            State::Silent => self.state = State::Handshake,
            State::Handshake | State::Open => {}
        }
        self.incoming.extend_from_slice(bytes);
        self.advance(heard, &Word::Nothing)?;
        if self.incoming.len() > INCOMING_BYTES_MAX || self.outgoing.len() > OUTGOING_BYTES_MAX {
            self.state = State::Over;
            return Err(self.fault(Why::TooMuch));
        }
        Ok(())
    }

    /// Seals as much of `bytes` as may be under way at once, from their beginning; [`sent`](Self::sent) says how much that was,
    /// when it has gone. One call at a time. False, and nothing is sealed, while the handshake goes on and after the end: the
    /// peer could not read it.
    ///
    /// # Errors
    /// So much was sealed that the keys are used up and cannot be renewed.
    pub fn seal(&mut self, bytes: &[u8]) -> Result<bool, Fault> {
        assert!(self.owed == 0, "one send at a time");
        if !matches!(self.state, State::Open | State::Ended) {
            return Ok(false);
        }
        let piece = bytes.get(..PIECE_BYTES_MAX).unwrap_or(bytes);
        let mut heard = BytesMut::new();
        let sealed = self.advance(&mut heard, &Word::Seal(piece))?;
        debug_assert!(heard.is_empty(), "whole records are taken out when they come");
        self.owed = if sealed { piece.len() } else { 0 };
        Ok(sealed)
    }

    /// Says goodbye (close_notify; RFC 8446, 6.1), if the peer would understand it. Nothing is taken or sealed after this.
    pub fn finish(&mut self) {
        if matches!(self.state, State::Open | State::Ended) {
            // Whoever closes has no use for a fault.
            let _ = self.advance(&mut BytesMut::new(), &Word::Goodbye);
        }
        self.state = State::Over;
        self.incoming = Vec::new();
        self.owed = 0;
    }

    /// What to give the kernel now, to be answered by [`sent`](Self::sent). `None` while it is at work, and when there is
    /// nothing.
    pub fn next_send(&mut self) -> Option<Bytes> {
        if self.in_flight {
            return None;
        }
        if self.given.is_empty() {
            self.given = Bytes::from(std::mem::take(&mut self.outgoing));
        }
        self.in_flight = !self.given.is_empty();
        self.in_flight.then(|| self.given.clone())
    }

    /// The kernel has taken so many bytes of what it was given. Says how many bytes of the hub's have gone with them, once all
    /// that was sealed has.
    pub fn sent(&mut self, count: usize) -> Option<usize> {
        self.in_flight = false;
        self.given.advance(count.min(self.given.len()));
        if self.given.is_empty() {
            // An empty slice would hold on to the memory.
            self.given = Bytes::new();
        }
        let gone = if self.is_idle() { std::mem::take(&mut self.owed) } else { 0 };
        (gone > 0).then_some(gone)
    }

    /// Nothing is with the kernel, and nothing waits to be given to it.
    pub fn is_idle(&self) -> bool {
        self.given.is_empty() && self.outgoing.is_empty()
    }

    /// Whether it was agreed that HTTP/2 is spoken inside; `None` while the handshake goes on.
    pub fn speaks_http2(&self) -> Option<bool> {
        let open = matches!(self.state, State::Open | State::Ended);
        open.then(|| self.connection.alpn_protocol() == Some(HTTP2))
    }

    /// The peer has said goodbye.
    pub fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Whether it is worth ending the receive, so that the kernel goes on with this connection's keys: both sides may speak,
    /// they do so by TLS 1.3, and the kernel `takes` their cipher. (Of 1.2 see [`shardcast_io::ktls`].)
    pub fn may_leave(&self, takes: impl FnOnce(Cipher) -> bool) -> bool {
        self.state == State::Open && self.leaves > 0 && self.cipher().is_some_and(|(cipher, _)| takes(cipher))
    }

    /// No receive runs any more: says whether the keys can go.
    pub fn leave(&mut self) -> Leave {
        self.waits = false;
        if !self.incoming.is_empty() || self.state != State::Open {
            self.leaves = self.leaves.saturating_sub(1);
            return Leave::NotYet;
        }
        self.waits = !self.is_idle() || self.owed > 0;
        if self.waits { Leave::Later } else { Leave::Now }
    }

    /// Whether it has answered that its keys can go later.
    pub fn waits_to_leave(&self) -> bool {
        self.waits
    }

    /// Something else is done about the connection first.
    pub fn put_off_leaving(&mut self) {
        self.waits = false;
    }

    /// The kernel does not take this connection's keys after all.
    pub fn stay(&mut self) {
        (self.leaves, self.waits) = (0, false);
    }

    /// The keys, where they [can go](Leave::Now).
    ///
    /// # Errors
    /// There are none: rustls is not where it was taken to be.
    pub fn into_keys(self) -> Result<Keys, Fault> {
        let at = self.received;
        let fault = |why| Fault { why, at };
        let (cipher, records) = self.cipher().ok_or(fault(Why::Exhausted))?;
        let secrets = self.connection.dangerous_into_kernel_connection();
        // What else comes with them is for renewing keys, which the kernel is not asked to do.
        let (secrets, _) = secrets.map_err(|error| fault(Why::Tls(error)))?;
        let (sealed, opened) = (secrets.tx.0, secrets.rx.0);
        let key = |secret: &ConnectionTrafficSecrets, record| {
            let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
            | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
            | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = secret
            else {
                return None;
            };
            Key::new(cipher, key.as_ref(), iv.as_ref().try_into().ok()?, record)
        };
        let keys = key(&secrets.tx.1, sealed).zip(key(&secrets.rx.1, opened));
        let (send, receive) = keys.ok_or(fault(Why::Exhausted))?;
        Ok(Keys { send, receive, records: records.saturating_sub(sealed) })
    }

    /// What records are sealed with, and how many may be with one key. `None` where the kernel could not go on.
    fn cipher(&self) -> Option<(Cipher, u64)> {
        let SupportedCipherSuite::Tls13(suite) = self.connection.negotiated_cipher_suite()? else {
            return None;
        };
        let cipher = match suite.common.suite {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => Cipher::Aes128Gcm,
            CipherSuite::TLS13_AES_256_GCM_SHA384 => Cipher::Aes256Gcm,
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Cipher::Chacha20Poly1305,
            _ => return None,
        };
        Some((cipher, suite.common.confidentiality_limit))
    }

    /// Lets rustls work through what has come, and say `word` when it may; false when it may not.
    fn advance(&mut self, heard: &mut BytesMut, word: &Word<'_>) -> Result<bool, Fault> {
        // A panic here is a bug that this peer's bytes have brought out. It must cost this peer and nobody else.
        let result = catch_unwind(AssertUnwindSafe(|| self.work(heard, word))).unwrap_or(Err(Why::Panicked));
        result.map_err(|why| {
            self.state = State::Over;
            self.incoming = Vec::new();
            self.fault(why)
        })
    }

    fn work(&mut self, heard: &mut BytesMut, word: &Word<'_>) -> Result<bool, Why> {
        let mut used = 0;
        let result = loop {
            let rest = self.incoming.get_mut(used..).unwrap_or_default();
            let UnbufferedStatus { mut discard, state, .. } = self.connection.process_tls_records(rest);
            let mut done = None;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        match record {
                            Ok(record) => {
                                discard += record.discard;
                                heard.extend_from_slice(record.payload);
                            }
                            Err(error) => {
                                done = Some(Err(Why::Tls(error)));
                                break;
                            }
                        }
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, &mut self.outgoing),
                // What was encoded is in `outgoing`, and goes from there in its order.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::WriteTraffic(traffic)) => {
                    if self.state == State::Handshake {
                        self.state = State::Open;
                    }
                    done = Some(say(traffic, word, &mut self.outgoing));
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.state = State::Ended;
                    done = Some(Ok(false));
                }
                Err(error) => done = Some(Err(Why::Tls(error))),
                // The handshake waits for the peer, or both sides are done.
                Ok(_) => done = Some(Ok(false)),
            }
            used += discard;
            if let Some(done) = done {
                break done;
            }
        };
        if result.is_err() {
            self.encode_alert(used);
        }
        if used >= self.incoming.len() {
            // Most of the time nothing is left, and an idle peer should take no memory for it.
            self.incoming = Vec::new();
        } else {
            self.incoming.drain(..used);
        }
        result
    }

    /// What rustls still has to say after a fault: the alert that tells the peer.
    fn encode_alert(&mut self, used: usize) {
        let rest = self.incoming.get_mut(used..).unwrap_or_default();
        if let Ok(ConnectionState::EncodeTlsData(mut data)) = self.connection.process_tls_records(rest).state
        {
            encode(&mut data, &mut self.outgoing);
        }
    }

    fn fault(&self, why: Why) -> Fault {
        Fault { why, at: self.received }
    }
}

impl Fault {
    /// A few words for the log, where there is room for no more.
    pub fn word(&self) -> &'static str {
        match self.why {
            Why::Tls(Error::AlertReceived(_)) => "the peer ended it by an alert",
            Why::Tls(_) => "the peer broke it",
            Why::PlainHttp => "the peer speaks HTTP without it",
            Why::TooMuch => "the peer passed a bound of it",
            Why::Exhausted => "its keys are used up",
            Why::Panicked => "a bug in this server",
        }
    }

    /// What kind of fault it is.
    pub fn kind(&self) -> ErrorKind {
        match self.why {
            Why::Tls(Error::AlertReceived(_)) => ErrorKind::Refused,
            Why::Tls(_) => ErrorKind::Malformed,
            Why::PlainHttp | Why::Exhausted => ErrorKind::Unsupported,
            Why::TooMuch => ErrorKind::TooLarge,
            Why::Panicked => ErrorKind::Panicked,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            // What an operator sees first, with a certificate that `shardcast cert` has made.
            Why::Tls(Error::AlertReceived(
                alert @ (AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA),
            )) => write!(f, "TLS: the peer does not trust the certificate ({alert:?})"),
            Why::Tls(error) => write!(f, "TLS: {error}"),
            _ => write!(f, "TLS: {}", self.word()),
        }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Channel({:?}, {} bytes received)", self.state, self.received)
    }
}

fn encode(data: &mut EncodeTlsData<'_, ServerConnectionData>, out: &mut Vec<u8>) {
    let encoded = append(out, 0, |room| {
        data.encode(room).map_err(|error| match error {
            EncodeError::InsufficientSize(error) => Some(error.required_size),
            EncodeError::AlreadyEncoded => None,
        })
    });
    debug_assert!(encoded, "a handshake record is encoded once, into as much room as it asks for");
}

/// Says `word`; false when there was nothing to say.
fn say(
    mut traffic: WriteTraffic<'_, ServerConnectionData>,
    word: &Word<'_>,
    out: &mut Vec<u8>,
) -> Result<bool, Why> {
    let required = |error| match error {
        EncryptError::InsufficientSize(error) => Some(error.required_size),
        EncryptError::EncryptExhausted => None,
    };
    let said = match word {
        Word::Nothing => return Ok(false),
        Word::Seal(bytes) => {
            let records = bytes.len().div_ceil(RECORD_BYTES_MAX);
            append(out, bytes.len() + records * RECORD_OVERHEAD, |room| {
                traffic.encrypt(bytes, room).map_err(required)
            })
        }
        Word::Goodbye => {
            append(out, RECORD_OVERHEAD, |room| traffic.queue_close_notify(room).map_err(required))
        }
    };
    if said { Ok(true) } else { Err(Why::Exhausted) }
}

/// Lets `write` append something to `out` that takes about `room` bytes. It says how many it took, or how many it needs, or
/// that it never will.
fn append(
    out: &mut Vec<u8>,
    room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> bool {
    let start = out.len();
    let mut room = room;
    for _ in 0..2 {
        out.resize(start + room, 0);
        match write(out.get_mut(start..).unwrap_or_default()) {
            Ok(taken) => {
                out.truncate(start + taken);
                return true;
            }
            Err(Some(required)) => room = required,
            Err(None) => break,
        }
    }
    out.truncate(start);
    false
}

/// Bytes that one record may carry (RFC 8446, 5.1).
const RECORD_BYTES_MAX: usize = 1 << 14;
/// What a record takes beside what it carries: 5 bytes of head, 16 of tag, the type or 8 bytes of nonce. A guess that is too
/// small costs a second try.
const RECORD_OVERHEAD: usize = 32;
/// Bytes that are sealed at once, and so what a viewer makes us hold that has stopped reading. Four whole records: at 40 ms
/// that is 13 Mbit/s in one send, and a faster stream takes two.
pub const PIECE_BYTES_MAX: usize = 4 * RECORD_BYTES_MAX;
/// How often a receive is ended for the keys to go to the kernel. A peer whose records come in many parts may have each time
/// sent the beginning of one.
const LEAVES_MAX: u8 = 8;
/// What a peer with nothing under way takes beside what it would take without TLS: what rustls keeps of it. Thousands of them
/// were measured at 4.0 KiB each.
pub const OPEN_BYTES: usize = 5 << 10;
/// Bytes that may wait for the rest of their record or of their handshake message, of which rustls takes 64 KiB at most.
/// What has more is closed.
const INCOMING_BYTES_MAX: usize = 96 << 10;
/// Bytes that may wait for the kernel beside what it has: a piece, and what TLS itself has to say, of which a long chain of
/// certificates is the most. Whoever makes us say more than it reads is closed.
const OUTGOING_BYTES_MAX: usize = PIECE_BYTES_MAX + (64 << 10);
const _: () = assert!(PIECE_BYTES_MAX.is_multiple_of(RECORD_BYTES_MAX));

/// For whoever wrote http:// where https:// was meant.
const PLAIN_HTTP_ANSWER: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 43\r\n\
    Connection: close\r\n\r\nThis port speaks TLS: write https instead.\n";

#[cfg(test)]
mod tests;
