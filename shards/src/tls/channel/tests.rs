//! Two ends in memory: ours, and rustls as a client. No socket, so bytes can be cut anywhere.

use std::{
    io::{Read, Write},
    sync::Arc,
};

use proptest::prelude::*;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion,
    crypto::ring::default_provider,
    pki_types::ServerName,
    version::{TLS12, TLS13},
};

use super::*;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// A client and a channel that trust each other.
struct Pair {
    client: ClientConnection,
    channel: Channel,
    /// What the channel has heard.
    heard: BytesMut,
    /// What the client has heard.
    read: Vec<u8>,
    /// Bytes of the hub's that have gone, as the channel says.
    gone: usize,
}

/// How many bytes pass at once, again and again.
type Cuts = Vec<usize>;

impl Pair {
    fn new(version: &'static SupportedProtocolVersion) -> Pair {
        Pair::trusting(version, true)
    }

    fn trusting(version: &'static SupportedProtocolVersion, trusts: bool) -> Pair {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate can be made");
        let own = Certificate::from_pem(cert.pem().as_bytes(), signing_key.serialize_pem().as_bytes())
            .expect("what was just made");
        let mut roots = RootCertStore::empty();
        if trusts {
            roots.add(cert.der().clone()).expect("a certificate");
        }
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])
            .expect("a version that the provider has")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut config = config;
        config.enable_secret_extraction = true;
        let name = ServerName::try_from("localhost").expect("a name");
        Pair {
            client: ClientConnection::new(Arc::new(config), name).expect("a config for clients"),
            channel: Channel::new(&own).expect("a config for servers"),
            heard: BytesMut::new(),
            read: Vec::new(),
            gone: 0,
        }
    }

    /// Lets both ends talk until neither has anything to say. What the kernel takes of a send follows `cuts`, and so does what
    /// comes at once.
    fn talk(&mut self, cuts: &Cuts) -> Result<(), Fault> {
        let mut cuts = cuts.iter().copied().cycle();
        let mut cut = move |length: usize| cuts.next().unwrap_or(length).clamp(1, length);
        loop {
            let mut records = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut records).expect("a Vec takes all");
            }
            let said = !records.is_empty();
            let mut rest = records.as_slice();
            while !rest.is_empty() {
                let (piece, later) = rest.split_at(cut(rest.len()));
                rest = later;
                self.channel.receive(piece, &mut self.heard)?;
            }
            let answered = self.deliver(&mut cut);
            if !said && !answered {
                return Ok(());
            }
        }
    }

    /// Takes to the client what the channel has to send.
    fn deliver(&mut self, cut: &mut impl FnMut(usize) -> usize) -> bool {
        let mut any = false;
        while let Some(bytes) = self.channel.next_send() {
            any = true;
            assert!(self.channel.next_send().is_none(), "one send at a time");
            let taken = cut(bytes.len());
            let mut records = bytes.get(..taken).expect("it is no more than there is");
            while !records.is_empty() {
                self.client.read_tls(&mut records).expect("a slice can be read");
                if self.client.process_new_packets().is_err() {
                    break;
                }
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = self.client.reader().read(&mut buffer) {
                    self.read.extend(buffer.iter().take(count));
                }
            }
            self.gone += self.channel.sent(taken).unwrap_or(0);
        }
        any
    }

    fn open(version: &'static SupportedProtocolVersion) -> Pair {
        let mut pair = Pair::new(version);
        pair.talk(&vec![]).expect("both know the rules");
        assert!(!pair.client.is_handshaking());
        pair
    }

    /// Says something to the client as the hub does, a piece after the other.
    fn say(&mut self, mut bytes: &[u8], cuts: &Cuts) {
        while !bytes.is_empty() {
            let before = self.gone;
            assert!(self.channel.seal(bytes).expect("there are keys"), "the handshake is over");
            self.talk(cuts).expect("the client reads");
            let gone = self.gone - before;
            assert!((1..=PIECE_BYTES_MAX).contains(&gone), "{gone} bytes have gone");
            bytes = bytes.get(gone..).expect("no more has gone than there was");
        }
    }
}

/// Bytes that are all different from their neighbours.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn both_sides_hear_what_was_said_however_it_is_cut(
        version in 0..2_usize,
        asked in 0..70_000_usize,
        answered in 1..200_000_usize,
        cuts in prop::collection::vec(prop_oneof![1..40_usize, 1..20_000_usize], 1..12),
    ) {
        let mut pair = Pair::new(VERSIONS[version]);
        let (question, answer) = (pattern(asked), pattern(answered));
        // rustls keeps what is said before the handshake has ended, and says it then.
        let mut rest = question.as_slice();
        pair.talk(&cuts).unwrap();
        while !rest.is_empty() {
            let count = pair.client.writer().write(rest).unwrap();
            rest = rest.get(count..).unwrap();
            pair.talk(&cuts).unwrap();
        }
        prop_assert_eq!(&pair.heard[..], &question[..]);
        pair.say(&answer, &cuts);
        prop_assert_eq!(&pair.read, &answer);
        prop_assert_eq!(pair.gone, answered);
        prop_assert!(pair.channel.is_idle());
    }

    #[test]
    fn bytes_of_any_kind_end_in_a_fault_or_wait_for_more(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 1..40),
        begins_well in any::<bool>(),
    ) {
        let mut pair = Pair::new(&TLS13);
        if begins_well {
            let mut hello = Vec::new();
            pair.client.write_tls(&mut hello).unwrap();
            pair.channel.receive(&hello, &mut pair.heard).unwrap();
        }
        let mut faults = 0;
        for piece in &pieces {
            faults += usize::from(pair.channel.receive(piece, &mut pair.heard).is_err());
            prop_assert!(pair.channel.incoming.len() <= INCOMING_BYTES_MAX);
        }
        prop_assert!(faults <= 1, "a fault is told once");
        prop_assert!(pair.heard.is_empty());
        while let Some(bytes) = pair.channel.next_send() {
            prop_assert_eq!(pair.channel.sent(bytes.len()), None);
        }
    }
}

#[test]
fn nothing_is_told_to_have_gone_before_its_last_record_has() {
    let mut pair = Pair::open(&TLS13);
    let block = pattern(3 * PIECE_BYTES_MAX);
    assert!(pair.channel.seal(&block).unwrap());
    let sealed = pair.channel.next_send().unwrap();
    assert!(sealed.len() > PIECE_BYTES_MAX && sealed.len() < PIECE_BYTES_MAX + 256, "{}", sealed.len());
    assert_eq!(pair.channel.sent(1000), None);
    assert!(!pair.channel.is_idle());
    let rest = pair.channel.next_send().unwrap();
    assert_eq!(rest, sealed.slice(1000..), "the rest of a record goes before anything else");
    assert_eq!(pair.channel.sent(rest.len() - 1), None);
    assert_eq!(pair.channel.next_send().unwrap().len(), 1);
    assert_eq!(pair.channel.sent(1), Some(PIECE_BYTES_MAX));
    assert!(pair.channel.next_send().is_none() && pair.channel.is_idle());
}

#[test]
fn an_idle_peer_holds_no_buffer() {
    for version in VERSIONS {
        let mut pair = Pair::open(version);
        pair.client.writer().write_all(b"GET /live/cam.flv").unwrap();
        pair.talk(&vec![]).unwrap();
        pair.say(&pattern(100_000), &vec![30_000]);
        let Channel { incoming, outgoing, given, .. } = &pair.channel;
        assert_eq!((incoming.capacity(), outgoing.capacity(), given.len()), (0, 0, 0));
    }
}

#[test]
fn nobody_is_told_anything_before_the_handshake_has_ended() {
    let mut pair = Pair::new(&TLS13);
    assert!(!pair.channel.seal(b"408").unwrap());
    let mut hello = Vec::new();
    pair.client.write_tls(&mut hello).unwrap();
    pair.channel.receive(&hello, &mut pair.heard).unwrap();
    assert!(!pair.channel.seal(b"408").unwrap());
    pair.channel.finish();
    assert!(!pair.channel.seal(b"408").unwrap());
}

#[test]
fn plain_http_is_answered_in_plain_http() {
    let mut pair = Pair::new(&TLS13);
    let fault = pair.channel.receive(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", &mut pair.heard).unwrap_err();
    assert_eq!((fault.kind(), fault.at), (ErrorKind::Unsupported, 27));
    let answer = pair.channel.next_send().unwrap();
    let text = std::str::from_utf8(&answer).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 400 ") && head.contains(&format!("Content-Length: {}", body.len())));
    assert!(body.contains("https"));
}

#[test]
fn what_is_no_tls_is_told_so_by_an_alert_and_not_listened_to() {
    // RTMP's version 3, a record of SSL 2, a record that is too long.
    for bytes in [&[3; 1537][..], &[0x80, 0x2e, 1, 0, 2, 0], &[22, 3, 1, 0x49, 0]] {
        let mut pair = Pair::new(&TLS13);
        let fault = pair.channel.receive(bytes, &mut pair.heard).unwrap_err();
        assert_eq!((fault.kind(), fault.at), (ErrorKind::Malformed, bytes.len() as u64), "{fault}");
        assert!(fault.to_string().starts_with("TLS: "), "{fault}");
        let alert = pair.channel.next_send().unwrap_or_else(|| panic!("no alert after {fault}"));
        assert_eq!(alert.first(), Some(&21), "{fault}: {alert:?}");
        pair.channel.receive(bytes, &mut pair.heard).unwrap();
        assert!(pair.heard.is_empty());
        pair.channel.sent(alert.len());
        pair.channel.finish();
        assert!(pair.channel.is_idle(), "nothing is said after an alert");
    }
}

#[test]
fn a_handshake_message_that_is_too_long_is_not_waited_for() {
    let mut pair = Pair::new(&TLS13);
    let beginning = [22, 3, 1, 0, 5, 1, 0xff, 0xff, 0xff, 0];
    let fault = pair.channel.receive(&beginning, &mut pair.heard).unwrap_err();
    assert_eq!(fault.kind(), ErrorKind::Malformed, "{fault}");
}

#[test]
fn a_peer_that_does_not_trust_the_certificate_is_told_apart() {
    for version in VERSIONS {
        let mut pair = Pair::trusting(version, false);
        let fault = pair.talk(&vec![]).unwrap_err();
        assert_eq!(fault.kind(), ErrorKind::Refused);
        assert!(fault.to_string().contains("does not trust the certificate"), "{fault}");
    }
}

#[test]
fn goodbyes_are_heard_on_both_sides() {
    for version in VERSIONS {
        let mut pair = Pair::open(version);
        pair.client.writer().write_all(b"last").unwrap();
        pair.client.send_close_notify();
        pair.talk(&vec![]).unwrap();
        assert_eq!(&pair.heard[..], b"last");
        assert!(pair.channel.has_ended());
        // Whoever has said all it wants to say may still listen.
        if version.version == TLS13.version {
            pair.say(b"the answer", &vec![7]);
            assert_eq!(pair.read, b"the answer");
        }
        pair.channel.finish();
        pair.talk(&vec![]).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(pair.client.reader().read(&mut buffer).unwrap(), 0, "a clean end, and no truncation");
    }
}

#[test]
fn a_peer_that_renews_its_keys_is_followed() {
    let mut pair = Pair::open(&TLS13);
    for round in 0..8 {
        pair.client.refresh_traffic_keys().unwrap();
        pair.client.writer().write_all(&[round]).unwrap();
        pair.talk(&vec![11]).unwrap();
        pair.say(&pattern(40_000), &vec![9000]);
    }
    assert_eq!(&pair.heard[..], [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(pair.read.len(), 8 * 40_000);
}

#[test]
fn a_record_that_was_changed_on_its_way_ends_it() {
    let mut pair = Pair::open(&TLS13);
    pair.client.writer().write_all(b"true").unwrap();
    let mut records = Vec::new();
    pair.client.write_tls(&mut records).unwrap();
    *records.last_mut().unwrap() ^= 1;
    let fault = pair.channel.receive(&records, &mut pair.heard).unwrap_err();
    assert_eq!(fault.kind(), ErrorKind::Malformed);
    assert!(pair.heard.is_empty() && !pair.channel.seal(b"x").unwrap());
}

#[test]
fn a_channel_moves_to_another_thread_in_mid_record() {
    let mut pair = Pair::open(&TLS12);
    pair.client.writer().write_all(&pattern(5000)).unwrap();
    let mut records = Vec::new();
    pair.client.write_tls(&mut records).unwrap();
    let (first, second) = records.split_at(777);
    pair.channel.receive(first, &mut pair.heard).unwrap();
    let Pair { mut channel, mut heard, .. } = pair;
    let second = second.to_vec();
    let heard = std::thread::spawn(move || {
        channel.receive(&second, &mut heard).unwrap();
        heard
    });
    assert_eq!(&heard.join().unwrap()[..], pattern(5000));
}

#[test]
fn a_channel_may_go_to_the_kernel_once_the_handshake_is_done_and_only_by_tls_1_3() {
    let mut pair = Pair::new(&TLS13);
    assert!(!pair.channel.may_leave(|_| true), "nothing has been said");
    pair.talk(&vec![]).unwrap();
    assert!(pair.channel.may_leave(|_| true));
    assert!(!pair.channel.may_leave(|_| false), "the kernel does not take the cipher");
    assert_eq!(pair.channel.leave(), Leave::Now);
    pair.channel.stay();
    assert!(!pair.channel.may_leave(|_| true), "the kernel did not take the connection");
    assert!(!Pair::open(&TLS12).channel.may_leave(|_| true));
    let mut pair = Pair::open(&TLS13);
    pair.client.send_close_notify();
    pair.talk(&vec![]).unwrap();
    assert!(!pair.channel.may_leave(|_| true), "the kernel would not hear the goodbye");
}

#[test]
fn a_channel_waits_until_what_it_has_sealed_has_gone() {
    let mut pair = Pair::open(&TLS13);
    assert!(pair.channel.seal(b"under way").unwrap());
    assert_eq!(pair.channel.leave(), Leave::Later);
    assert!(pair.channel.waits_to_leave());
    let records = pair.channel.next_send().unwrap();
    assert_eq!(pair.channel.leave(), Leave::Later);
    pair.channel.sent(records.len() - 1);
    assert_eq!(pair.channel.leave(), Leave::Later);
    pair.channel.next_send().unwrap();
    assert_eq!(pair.channel.sent(1), Some(9));
    assert_eq!(pair.channel.leave(), Leave::Now);
    assert!(!pair.channel.waits_to_leave());
}

#[test]
fn a_channel_with_a_part_of_a_record_stays_and_is_not_asked_for_ever() {
    let mut pair = Pair::open(&TLS13);
    let mut asked = 0;
    while pair.channel.may_leave(|_| true) {
        pair.client.writer().write_all(b"a record").unwrap();
        let mut records = Vec::new();
        pair.client.write_tls(&mut records).unwrap();
        let (first, second) = records.split_at(6);
        pair.channel.receive(first, &mut pair.heard).unwrap();
        assert_eq!(pair.channel.leave(), Leave::NotYet);
        pair.channel.receive(second, &mut pair.heard).unwrap();
        asked += 1;
    }
    assert_eq!(asked, LEAVES_MAX);
    assert_eq!(pair.heard.len(), 8 * usize::from(asked));
}

#[test]
fn the_kernel_goes_on_with_the_keys_of_both_sides_where_the_channel_stopped() {
    let mut pair = Pair::open(&TLS13);
    for word in [b"one", b"two"] {
        pair.client.writer().write_all(word).unwrap();
        pair.talk(&vec![]).unwrap();
    }
    pair.say(b"heard", &vec![]);
    assert_eq!(pair.channel.leave(), Leave::Now);
    let keys = pair.channel.into_keys().unwrap();
    // The other side's own, told as its own library tells them.
    let client = pair.client.dangerous_extract_secrets().unwrap();
    let key = |(record, secret): &(u64, ConnectionTrafficSecrets)| match secret {
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => {
            Key::new(Cipher::Aes256Gcm, key.as_ref(), iv.as_ref().try_into().unwrap(), *record).unwrap()
        }
        _ => panic!("both prefer another cipher"),
    };
    assert_eq!((client.tx.0, client.rx.0), (2, 1));
    assert!(keys.receive == key(&client.tx) && keys.send == key(&client.rx));
    assert_eq!(keys.records, (1 << 24) - 1, "one of those that AES-GCM is good for (RFC 8446, 5.5)");
}
