//! A peer, as the library knows it: its addresses, its keys, what is negotiated. Everything that goes to it or comes from it passes
//! through here.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use str0m::{
    Candidate, CandidateKind, Event, IceCreds, Input, Rtc, RtcConfig,
    change::SdpOffer,
    config::{CryptoProvider, DtlsCert},
    format::{Codec, FormatParams},
    media::{Frequency, Mid, Pt},
    net::{Protocol, Receive},
};

use super::{
    epoch::{instant, time_of},
    greeting::fragment_of,
    offer::{Choice, Offered, codec_of},
    runs::Runs,
};
use crate::{
    codec,
    session::{
        Output,
        signal::{Fault, Key, Venue},
    },
    time::Now,
};

/// Packets of a track that a viewer may be sent again, and for how long. The packets are there once for all viewers of a core; each
/// costs a viewer what the library notes of it.
const AGAIN_PACKETS: usize = 256;
const AGAIN_TIME: Duration = Duration::from_secs(2);
/// Of all that is sent, what may be sent again: a peer that asks for more has a network that more would not help.
const AGAIN_SHARE: f32 = 0.25;
/// Bytes of data channels that wait to be sent.
const CHANNEL_BYTES_MAX: usize = 16 << 10;
/// How often what has gone well and what has not is counted.
const STATS_INTERVAL: Duration = Duration::from_secs(2);
/// How often the sender of pictures and of sound says which of their times is which by the clock.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// What it is that was negotiated for a kind of media.
#[derive(Clone, Debug)]
pub struct Negotiated {
    /// What the description calls it.
    pub mid: Mid,
    /// The number that its packets bear.
    pub number: Pt,
}

/// A peer.
pub struct Peer {
    rtc: Rtc,
    /// Where it meets us.
    addresses: Arc<[SocketAddr]>,
    /// Where it is, once it has shown that.
    address: Option<SocketAddr>,
    /// Where the library has it, with or without media.
    place: Option<SocketAddr>,
    /// Where it was when it began anew, until it is met somewhere else.
    left: Option<SocketAddr>,
    wake: Option<Now>,
    key: Key,
    tag: String,
    /// Its user fragment.
    theirs: String,
    /// What the first of its media is called.
    first: String,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Peer({:?} at {:?})", self.key, self.address)
    }
}

/// One certificate for all sessions: a browser does not look at whose it is, and making one takes longer than all else here.
fn certificate() -> Option<DtlsCert> {
    static CERTIFICATE: OnceLock<Option<DtlsCert>> = OnceLock::new();
    CERTIFICATE.get_or_init(|| provider().dtls_provider.generate_certificate()).clone()
}

fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(str0m::crypto::from_feature_flags()))
}

impl Peer {
    /// Answers an offer, of which `chosen` are taken. The answer, and what each of them is now.
    ///
    /// # Errors
    /// The offer lacks what a peer needs to be met.
    pub fn answer(
        venue: &Venue,
        sdp: &str,
        chosen: &[(&Offered, &Choice)],
        now: Now,
    ) -> Result<(Peer, String, Vec<Negotiated>), (Fault, String)> {
        let offer = SdpOffer::from_sdp_string(sdp).map_err(|error| (Fault::Malformed, error.to_string()))?;
        let (tag, credentials) = credentials(venue.number);
        let key = Key { core: venue.core, number: venue.number, secret: secret() };
        let mut config = RtcConfig::new()
            .set_crypto_provider(provider().clone())
            .set_local_ice_credentials(credentials)
            .set_ice_lite(true)
            .set_rtp_mode(true)
            .set_rtcp_report_interval_audio(REPORT_INTERVAL)
            .set_rtcp_report_interval_video(REPORT_INTERVAL)
            .set_stats_interval(Some(STATS_INTERVAL))
            .set_sctp_max_buffered_amount(CHANNEL_BYTES_MAX)
            .clear_codecs();
        if let Some(certificate) = certificate() {
            config = config.set_dtls_cert(certificate);
        }
        let mut negotiated = Vec::new();
        for (media, choice) in chosen {
            let (codec, rate) = name_of(choice).ok_or((Fault::Unsuited, "an unknown codec".to_owned()))?;
            let number = Pt::new_with_value(choice.format.payload_type);
            let channels = if codec == Codec::Opus { Some(2) } else { None };
            let parameters = FormatParams::parse_line(&choice.parameters);
            let again = choice.again.map(Pt::new_with_value);
            config.codec_config().add_config(number, again, codec, rate, channels, parameters);
            let mid = Mid::from(&media.mid[..]);
            negotiated.push(Negotiated { mid, number });
        }
        let mut rtc = config.build(instant(now));
        for address in venue.addresses.iter() {
            let candidate = Candidate::host(*address, "udp");
            rtc.add_local_candidate(candidate.map_err(|error| (Fault::Unavailable, error.to_string()))?);
        }
        let answer =
            rtc.sdp_api().accept_offer(offer).map_err(|error| (Fault::Malformed, error.to_string()))?;
        let answer = answer.to_sdp_string();
        for negotiated in &negotiated {
            if let Some(stream) = rtc.direct_api().stream_tx_by_mid(negotiated.mid, None) {
                stream.set_rtx_cache(AGAIN_PACKETS, AGAIN_TIME, Some(AGAIN_SHARE));
            }
        }
        let addresses = venue.addresses.clone();
        let theirs = sdp.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).unwrap_or_default();
        let theirs = theirs.trim().to_owned();
        let first = chosen.first().map(|(media, _)| media.mid.clone()).unwrap_or_default();
        let peer = Peer {
            rtc,
            addresses,
            address: None,
            place: None,
            left: None,
            wake: Some(now),
            key,
            tag,
            theirs,
            first,
        };
        Ok((peer, answer, negotiated))
    }

    /// What the conversation is called.
    pub fn key(&self) -> Key {
        self.key
    }

    /// What its present credentials are called.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The library's own.
    pub fn rtc(&mut self) -> &mut Rtc {
        &mut self.rtc
    }

    /// When the library wants to be woken.
    pub fn deadline(&self) -> Option<Now> {
        self.wake
    }

    /// True until it is over, whoever has ended it.
    pub fn is_alive(&self) -> bool {
        self.rtc.is_alive()
    }

    /// A datagram from somewhere. One that cannot be read, or is not the peer's, is passed over.
    pub fn receive(&mut self, from: SocketAddr, bytes: &[u8], now: Now) {
        let Ok(contents) = bytes.try_into() else { return };
        let family = |address: &&SocketAddr| address.is_ipv4() == from.is_ipv4();
        let met = self.addresses.iter().find(family).or(self.addresses.first());
        let Some(destination) = met.copied() else { return };
        let receive = Receive { proto: Protocol::Udp, source: from, destination, contents };
        // A fault of whoever sends it; what follows from it, the library's state says.
        let _ = self.rtc.handle_input(Input::Receive(instant(now), receive));
    }

    /// Lets time go on.
    pub fn advance(&mut self, now: Now) {
        let _ = self.rtc.handle_input(Input::Timeout(instant(now)));
    }

    /// Takes what the library wants sent, packets of media behind one another, and what it tells.
    pub fn drain(&mut self, out: &mut VecDeque<Output>, tell: &mut dyn FnMut(Event)) {
        let mut runs = Runs::default();
        loop {
            match self.rtc.poll_output() {
                Ok(str0m::Output::Transmit(transmit)) => {
                    let (to, bytes) = (transmit.destination, Vec::from(transmit.contents));
                    let is_media = is_media(&bytes);
                    if !is_binding(&bytes) {
                        self.place = Some(to);
                    }
                    if is_media && self.address != Some(to) {
                        runs.finish(out);
                        self.address = Some(to);
                        out.push_back(Output::Address(to));
                    }
                    if is_media {
                        runs.push(&bytes, out);
                    } else {
                        if self.left.is_some_and(|left| left != to) && is_consent(&bytes) {
                            self.leave();
                        }
                        out.push_back(Output::Datagram { to, bytes: Bytes::from(bytes) });
                    }
                }
                Ok(str0m::Output::Event(event)) => tell(event),
                Ok(str0m::Output::Timeout(at)) => {
                    self.wake = time_of(at);
                    break;
                }
                Err(_) => {
                    self.rtc.disconnect();
                    self.wake = None;
                    break;
                }
            }
        }
        runs.finish(out);
    }

    /// Whether these are the credentials that it has.
    pub fn is_known(&self, fragment: &str) -> bool {
        self.theirs == fragment
    }

    /// Begins anew with other credentials: the peer's, and new ones of ours, which are said in a fragment of a description. What flows
    /// goes on meanwhile. (RFC 8445, 9; RFC 9725, 4.3.3)
    pub fn restart(&mut self, fragment: &str, password: &str) -> String {
        let (tag, ours) = credentials(self.key.number);
        let IceCreds { ufrag, pass } = ours.clone();
        self.tag = tag;
        self.theirs = fragment.to_owned();
        self.left = self.place;
        let mut direct = self.rtc.direct_api();
        direct.set_remote_ice_credentials(IceCreds { ufrag: fragment.to_owned(), pass: password.to_owned() });
        direct.set_local_ice_credentials(ours);
        let mut answer = format!(
            "a=ice-lite\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:{}\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{pass}\r\n",
            self.first
        );
        for address in self.addresses.iter() {
            if let Ok(candidate) = Candidate::host(*address, "udp") {
                answer.push_str(&format!("a={}\r\n", candidate.to_sdp_string()));
            }
        }
        answer.push_str("a=end-of-candidates\r\n");
        answer
    }

    /// It has shown that it is somewhere else than where it was when it began anew. Of two ways that are as good as each other the
    /// library would stay on the first for as long as its consent holds.
    fn leave(&mut self) {
        let Some(left) = self.left.take() else { return };
        for kind in [CandidateKind::Host, CandidateKind::PeerReflexive] {
            let candidate =
                Candidate::from_parts(String::new(), 1, Protocol::Udp, 0, left, kind, None, None, None);
            self.rtc.direct_api().invalidate_candidate(&candidate);
        }
    }

    /// Says goodbye.
    pub fn close(&mut self, now: Now, out: &mut VecDeque<Output>) {
        let _ = self.rtc.close();
        self.advance(now);
        self.drain(out, &mut |_| {});
    }
}

/// RTP; control information (RTCP) is none. (RFC 7983, 7; RFC 5761, 4)
fn is_media(datagram: &[u8]) -> bool {
    matches!(datagram, [128..=191, second, ..] if !(192..=223).contains(second))
}

/// A message about a binding, which goes wherever one came from; all else goes to where the peer is. (RFC 7983, 7)
fn is_binding(datagram: &[u8]) -> bool {
    matches!(datagram, [0..=3, ..])
}

/// A response to a request for a binding whose integrity was right. (RFC 8489, 5)
fn is_consent(datagram: &[u8]) -> bool {
    datagram.starts_with(&[1, 1])
}

/// Credentials of the session with this number, and what they are called.
fn credentials(number: u64) -> (String, IceCreds) {
    let random = IceCreds::new();
    let ufrag = fragment_of(number, &random.ufrag);
    (random.ufrag, IceCreds { ufrag, pass: random.pass })
}

/// What nobody guesses: the library's own randomness, of which a password has more than enough.
fn secret() -> u128 {
    let letters =
        |text: String| text.bytes().fold(0_u128, |all, letter| all.wrapping_mul(67) ^ u128::from(letter));
    letters(IceCreds::new().pass).rotate_left(61) ^ letters(IceCreds::new().pass)
}

/// What the library calls a coding, and its clock.
fn name_of(choice: &Choice) -> Option<(Codec, Frequency)> {
    let codec = match codec_of(&choice.format.coding)? {
        codec::Codec::H264 => Codec::H264,
        codec::Codec::H265 => Codec::H265,
        codec::Codec::Vp8 => Codec::Vp8,
        codec::Codec::Vp9 => Codec::Vp9,
        codec::Codec::Av1 => Codec::Av1,
        codec::Codec::Opus => Codec::Opus,
        codec::Codec::PcmU => Codec::PCMU,
        codec::Codec::PcmA => Codec::PCMA,
        codec::Codec::G722 => Codec::G722,
        _ => return None,
    };
    Some((codec, Frequency::new(choice.format.clock_rate)?))
}
