//! A bare loop of str0m's sessions: what it costs to encrypt a stream for each viewer and send it, when nobody decides anything.
//!
//! The floor is the publisher, too: it plays the clip, stamped, so that viewers check and time what it sends like any stream. Viewers come
//! by WHEP. Each picture is cut into packets once. Then it goes to each session that is connected: all its packets are written, the
//! library is drained once, and what it gives is sent in runs of packets of one size, each by one call that the kernel cuts (UDP_SEGMENT).
//! Sessions keep for what is missing as much as the engine's do, and answer it. A viewer begins at the next key frame: none is kept.

use std::{
    collections::{HashMap, VecDeque},
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use shardcast_engine::{rtp::format::Coding, time::Now, webrtc::wire::FORM};
use shardcast_io::{
    clock,
    ring::{Completion, Datagram, Ring, RingConfig, SocketId},
    tcp, udp,
};
use str0m::{
    Candidate, Input, Output, Rtc,
    change::SdpOffer,
    format::{Codec, FormatParams},
    media::{Frequency, Mid, Pt},
    net::{Protocol, Receive},
};

use super::{SECOND, Seconds};
use crate::{
    clip::{Clip, Filling, Playback},
    units,
    webrtc::{Described, Lane, Packets, config, described, instant},
};

/// How the floor is to send.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where viewers bring their offers, by HTTP
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: SocketAddr,
    /// Where their media comes from
    #[arg(long, value_name = "ADDR:PORT")]
    pub media: SocketAddr,
    /// What each viewer gets per second
    #[arg(long, value_name = "RATE", default_value = "2Mbit", value_parser = units::bitrate)]
    pub bitrate: u64,
}

/// What the floor has done since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Packets of media that were encrypted.
    pub packets: u64,
    /// Sends that have ended.
    pub sends: u64,
    /// Bytes that the kernel took by them.
    pub bytes: u64,
    /// Enters of the ring.
    pub enters: u64,
    /// Viewers that are there.
    pub viewers: u64,
}

/// The floor, with its sockets.
pub struct Sessions {
    listener: TcpListener,
    socket: UdpSocket,
    bitrate: u64,
}

impl Sessions {
    /// Takes its ports; viewers are served once it runs.
    ///
    /// # Errors
    /// A port is taken, or the clip has a higher rate by itself.
    pub fn open(options: &Options) -> io::Result<Sessions> {
        clip(options.bitrate)?;
        tcp::ensure_free(options.listen)?;
        udp::ensure_free(options.media)?;
        let listener = TcpListener::bind(options.listen)?;
        listener.set_nonblocking(true)?;
        Ok(Sessions { listener, socket: udp::bind(options.media)?, bitrate: options.bitrate })
    }

    /// Where viewers bring their offers.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Sends until `stop` is set, which it looks at every few milliseconds.
    ///
    /// # Errors
    /// The ring failed.
    pub fn run(self, stop: &AtomicBool, mut report: impl FnMut(&Report)) -> io::Result<()> {
        let Sessions { listener, socket, bitrate } = self;
        let media = socket.local_addr()?;
        let mut ring = Ring::new(&RingConfig::default())?;
        ring.receive_datagrams(socket, VIEWERS)?;
        let mut playback = Playback::new(clip(bitrate)?);
        let (mut wire, mut muxed) = ((FORM.open)(), BytesMut::new());
        if let Some(first) = playback.clip().parts().first() {
            wire.header(playback.clip().opening(), &first.frame, &mut muxed);
        }
        let mut crowd =
            Crowd { media, sessions: Vec::new(), known: HashMap::new(), places: HashMap::new(), packets: 0 };
        let began = clock::monotonic();
        let (mut seconds, mut tick) = (Seconds::from(began), began);
        while !stop.load(Ordering::Relaxed) {
            let now = clock::monotonic();
            if now >= tick {
                while let Ok((asking, _)) = listener.accept() {
                    crowd.welcome(asking);
                }
                crowd.advance(Now(now), &mut ring);
                tick = now + TICK;
            }
            if began + playback.due() <= now {
                let frame = playback.take(clock::monotonic());
                wire.frame(&frame, &mut muxed);
                crowd.send(&Packets::take(&mut muxed), frame.is_key(), &mut ring);
            }
            crowd.pump(&mut ring)?;
            let now = clock::monotonic();
            if seconds.passed(now) {
                report(&crowd.report(&ring));
                ring.resume_datagrams(VIEWERS);
            }
            let next = tick.min(seconds.next).min(began + playback.due());
            ring.wait(1, Duration::from_nanos(next.saturating_sub(now).min(SECOND)))?;
        }
        Ok(())
    }
}

fn clip(bitrate: u64) -> io::Result<Clip> {
    let clip = Clip::built_in().in_order().filled(bitrate, Filling::Reserved);
    clip.map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))
}

/// Everyone who watches.
struct Crowd {
    media: SocketAddr,
    /// By the order in which they came; places of those who left stay empty.
    sessions: Vec<Option<Session>>,
    /// Who is where.
    known: HashMap<SocketAddr, usize>,
    /// Sessions by their place in the ring.
    places: HashMap<SocketId, usize>,
    packets: u64,
}

/// A viewer.
struct Session {
    rtc: Rtc,
    lane: Lane,
    /// It has been sent a key frame.
    begun: bool,
    wake: Option<Instant>,
    id: Option<SocketId>,
    address: Option<SocketAddr>,
    /// Runs, each with the size of its packets.
    waiting: VecDeque<(Bytes, usize)>,
    is_sending: bool,
}

impl Crowd {
    /// Answers an offer. Whoever brings none has asked whether somebody is there.
    fn welcome(&mut self, mut asking: TcpStream) {
        let _ = asking.set_nonblocking(false).and_then(|()| asking.set_read_timeout(Some(OFFER_MAX)));
        let Some(offer) = read_offer(&mut asking) else { return };
        let said = match answer(&offer, self.media) {
            Ok((session, sdp)) => {
                self.sessions.push(Some(session));
                format!(
                    "HTTP/1.1 201 Created\r\nContent-Type: application/sdp\r\nLocation: /whep/{}\r\nConnection: close\r\n\
                     Content-Length: {}\r\n\r\n{sdp}",
                    self.sessions.len(),
                    sdp.len()
                )
            }
            Err(why) => {
                format!(
                    "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{why}",
                    why.len()
                )
            }
        };
        let _ = asking.write_all(said.as_bytes());
    }

    /// Lets time go on for those who wait for it.
    fn advance(&mut self, now: Now, ring: &mut Ring) {
        let moment = instant(now);
        for place in 0..self.sessions.len() {
            let Some(session) = &mut self.sessions[place] else { continue };
            if session.wake.is_none_or(|wake| wake <= moment) {
                let _ = session.rtc.handle_input(Input::Timeout(moment));
                self.drain(place, ring);
            }
        }
    }

    /// A picture goes to everybody.
    fn send(&mut self, packets: &Packets, is_key: bool, ring: &mut Ring) {
        for place in 0..self.sessions.len() {
            let Some(session) = &mut self.sessions[place] else { continue };
            session.begun |= is_key && session.rtc.is_connected();
            if session.begun {
                let moment = instant(Now(clock::monotonic()));
                session.lane.write(&mut session.rtc, packets, moment);
                let _ = session.rtc.handle_input(Input::Timeout(moment));
                self.drain(place, ring);
            }
        }
    }

    /// Takes what the library wants sent.
    fn drain(&mut self, place: usize, ring: &mut Ring) {
        let Some(session) = &mut self.sessions[place] else { return };
        let mut run = Run::default();
        loop {
            match session.rtc.poll_output() {
                Ok(Output::Transmit(transmit)) => {
                    let (to, bytes) = (transmit.destination, &transmit.contents[..]);
                    if !is_media(bytes) {
                        self.known.insert(to, place);
                        ring.answer(VIEWERS, to, bytes);
                        continue;
                    }
                    self.packets += 1;
                    if session.address != Some(to) {
                        session.address = Some(to);
                        match session.id {
                            Some(id) => ring.move_peer(id, to),
                            None => session.id = ring.add_peer(VIEWERS, to).ok(),
                        }
                        self.places.extend(session.id.map(|id| (id, place)));
                    }
                    run.push(bytes, &mut session.waiting);
                }
                Ok(Output::Event(_)) => {}
                Ok(Output::Timeout(at)) => {
                    session.wake = Some(at);
                    break;
                }
                Err(_) => {
                    session.rtc.disconnect();
                    break;
                }
            }
        }
        run.finish(&mut session.waiting);
        session.go_on(ring);
        if !session.rtc.is_alive() {
            self.forget(place, ring);
        }
    }

    fn forget(&mut self, place: usize, ring: &mut Ring) {
        self.known.retain(|_, found| *found != place);
        if let Some(id) = self.sessions[place].take().and_then(|session| session.id) {
            self.places.remove(&id);
            ring.close(id);
        }
    }

    /// Gives the ring what is to be sent, and takes what it says, until neither has more.
    fn pump(&mut self, ring: &mut Ring) -> io::Result<()> {
        loop {
            ring.submit()?;
            let mut completions = 0;
            while let Some(completion) = ring.next() {
                completions += 1;
                match completion {
                    Completion::Datagram { datagram, .. } => self.came(&datagram, ring),
                    // What did not go is lost, as any datagram may be.
                    Completion::Sent { socket, .. } => {
                        let place = self.places.get(&socket).copied();
                        if let Some(session) = place.and_then(|place| self.sessions[place].as_mut()) {
                            session.is_sending = false;
                            session.go_on(ring);
                        }
                    }
                    _ => {}
                }
            }
            if completions == 0 && ring.pending() == 0 {
                return Ok(());
            }
        }
    }

    fn came(&mut self, datagram: &Datagram, ring: &mut Ring) {
        let source = datagram.from;
        let Ok(contents) = datagram[..].try_into() else { return };
        let receive = Receive { proto: Protocol::Udp, source, destination: self.media, contents };
        let input = Input::Receive(instant(Now(clock::monotonic())), receive);
        let accepts = |session: &Option<Session>| session.as_ref().is_some_and(|one| one.rtc.accepts(&input));
        // The latest is the likeliest to be new.
        let place = self.known.get(&source).copied().or_else(|| self.sessions.iter().rposition(accepts));
        if let Some(place) = place
            && let Some(session) = &mut self.sessions[place]
        {
            let _ = session.rtc.handle_input(input);
            self.drain(place, ring);
        }
    }

    fn report(&self, ring: &Ring) -> Report {
        let stats = ring.stats();
        Report {
            packets: self.packets,
            sends: stats.sends,
            bytes: stats.send_bytes,
            enters: stats.enters,
            viewers: self.sessions.iter().flatten().count() as u64,
        }
    }
}

impl Session {
    /// Sends the next run, unless one is under way.
    fn go_on(&mut self, ring: &mut Ring) {
        if let Some(id) = self.id.filter(|_| !self.is_sending)
            && let Some((bytes, size)) = self.waiting.pop_front()
        {
            self.is_sending = true;
            ring.send_datagrams(id, bytes, size);
        }
    }
}

/// Packets that go with one call: each as long as the first, but for the last, which may be shorter.
#[derive(Default)]
struct Run {
    bytes: BytesMut,
    size: usize,
    count: usize,
    ended: bool,
}

impl Run {
    fn push(&mut self, packet: &[u8], out: &mut VecDeque<(Bytes, usize)>) {
        let room = self.count < SEGMENTS_MAX && self.bytes.len() + packet.len() <= SEND_BYTES_MAX;
        if self.ended || packet.len() > self.size || !room {
            self.finish(out);
            self.size = packet.len();
        }
        self.ended = packet.len() < self.size;
        self.bytes.extend_from_slice(packet);
        self.count += 1;
    }

    fn finish(&mut self, out: &mut VecDeque<(Bytes, usize)>) {
        if !self.bytes.is_empty() {
            out.push_back((self.bytes.split().freeze(), self.size));
        }
        *self = Run { bytes: std::mem::take(&mut self.bytes), ..Run::default() };
    }
}

/// RTP; control information (RTCP) is none. (RFC 7983, 7; RFC 5761, 4)
fn is_media(datagram: &[u8]) -> bool {
    matches!(datagram, [128..=191, second, ..] if !(192..=223).contains(second))
}

/// The body of a request, whatever it asks for.
fn read_offer(asking: &mut TcpStream) -> Option<String> {
    let (mut held, mut buffer) = (Vec::new(), [0; 4096]);
    while held.len() < OFFER_BYTES_MAX {
        let length = asking.read(&mut buffer).ok().filter(|length| *length > 0)?;
        held.extend_from_slice(&buffer[..length]);
        let Some(end) = held.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&held[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        if let Some(body) = held.get(end + 4..end + 4 + length.unwrap_or(0)) {
            return Some(String::from_utf8_lossy(body).into_owned());
        }
    }
    None
}

/// A session for an offer, and its answer: H.264 in one coding, as the engine's answers have it.
fn answer(offer: &str, media: SocketAddr) -> Result<(Session, String), String> {
    let is_h264 = |coding: &Coding, text: &str| {
        matches!(coding, Coding::H264(_))
            && text.contains("packetization-mode=1")
            && text.contains("profile-level-id=64")
    };
    let found = described(offer, |format, text| is_h264(&format.coding, text));
    let Some(Described { mid, number, again, parameters, .. }) = found.first() else {
        return Err("no H.264 of profile High is offered".to_owned());
    };
    let mut config = config()
        .set_ice_lite(true)
        .set_rtcp_report_interval_audio(REPORT_INTERVAL)
        .set_rtcp_report_interval_video(REPORT_INTERVAL)
        .clear_codecs();
    let number = Pt::new_with_value(*number);
    let again = again.map(Pt::new_with_value);
    let parameters = FormatParams::parse_line(parameters);
    config.codec_config().add_config(number, again, Codec::H264, Frequency::NINETY_KHZ, None, parameters);
    let mut rtc = config.build(instant(Now(clock::monotonic())));
    rtc.add_local_candidate(Candidate::host(media, "udp").map_err(|error| error.to_string())?);
    let offer = SdpOffer::from_sdp_string(offer).map_err(|error| error.to_string())?;
    let answer = rtc.sdp_api().accept_offer(offer).map_err(|error| error.to_string())?.to_sdp_string();
    let mid = Mid::from(&mid[..]);
    if let Some(stream) = rtc.direct_api().stream_tx_by_mid(mid, None) {
        stream.set_rtx_cache(AGAIN_PACKETS, AGAIN_TIME, Some(AGAIN_SHARE));
    }
    let session = Session {
        rtc,
        lane: Lane::new(mid, number),
        begun: false,
        wake: None,
        id: None,
        address: None,
        waiting: VecDeque::new(),
        is_sending: false,
    };
    Ok((session, answer))
}

/// The socket's token.
const VIEWERS: u64 = 0;
/// How often offers and timers are looked for, nanoseconds.
const TICK: u64 = 5_000_000;
/// How long an offer may take to come, and its bytes.
const OFFER_MAX: Duration = Duration::from_millis(500);
const OFFER_BYTES_MAX: usize = 256 << 10;
/// Packets in one send, and its bytes, as a ring sends them.
const SEGMENTS_MAX: usize = 64;
const SEND_BYTES_MAX: usize = 65_000;
/// What is kept to be sent again, for how long, and how much of all that is sent it may be; and how often a sender reports: all as the
/// engine's sessions have it.
const AGAIN_PACKETS: usize = 256;
const AGAIN_TIME: Duration = Duration::from_secs(2);
const AGAIN_SHARE: f32 = 0.25;
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_one_size_and_a_shorter_one_go_with_one_call() {
        let runs = |sizes: &[usize]| -> Vec<(usize, usize)> {
            let (mut run, mut out) = (Run::default(), VecDeque::new());
            sizes.iter().for_each(|size| run.push(&vec![7; *size], &mut out));
            run.finish(&mut out);
            out.iter().map(|(bytes, size)| (bytes.len(), *size)).collect()
        };
        assert_eq!(runs(&[100, 100, 40, 40]), [(240, 100), (40, 40)]);
        assert_eq!(runs(&[40, 100]), [(40, 40), (100, 100)]);
        assert_eq!(runs(&[10; 65]), [(640, 10), (10, 10)]);
        assert_eq!(runs(&[1240; 53]), [(52 * 1240, 1240), (1240, 1240)]);
        assert_eq!(runs(&[]), []);
    }

    #[test]
    fn only_packets_of_media_are_media() {
        assert!(is_media(&[0x80, 96, 0]) && is_media(&[0x90, 0x80 | 96, 0]));
        assert!(!is_media(&[0x80, 200, 0]) && !is_media(&[0, 1]) && !is_media(&[22, 254]) && !is_media(&[]));
    }
}
