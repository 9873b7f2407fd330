//! Peers of the RTSP door whose media goes by UDP, beside their connections: one announces a film and sends its packets from ports of its
//! own, the other asks for a stream and has it sent to such. (RFC 2326)
//!
//! What goes beside the connection stands behind the first half of UDP's head, the ports that it comes from and goes to.

use std::{collections::VecDeque, time::Duration};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use shardcast_engine::{
    media::{Frame, Payload, StreamName, TrackId},
    rtp::{Demuxer, Order, Packet, mux},
    rtsp::sdp,
    session::{Event, Opening},
    time::{Now, Wall},
};

use super::client::{self, Heard, Wish};

/// The even port of the first track.
const FIRST_PORT: u16 = 6000;
/// Bytes before a packet: where it comes from, and where it goes.
pub const HEAD_BYTES: usize = 4;
/// How often a viewer tells what it has had, and a publisher which of its times is which.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// How long a viewer that hears goodbye listens on: what was sent before may come after it.
const LAST_PACKETS: Duration = Duration::from_millis(200);
/// When the films begin by the clock on the wall.
const BEGINNING: u64 = 1_795_333_500_000_000_000;

/// A publisher or a viewer.
pub struct Client {
    /// What a publisher announces.
    film: Opening,
    url: String,
    step: Step,
    number: u32,
    session: String,
    held: BytesMut,
    outgoing: BytesMut,
    packets: VecDeque<Bytes>,
    heard: VecDeque<Heard>,
    tracks: Vec<Track>,
    demuxer: Demuxer,
    /// What has come before the word that it would.
    early: VecDeque<Bytes>,
    report_at: Option<Now>,
    ends_at: Option<Now>,
    over: bool,
}

/// What has been asked for last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    Announce,
    Describe,
    /// The track of this place.
    SetUp(usize),
    Record,
    Play,
    /// The stream goes.
    Goes,
    Leave,
}

/// A track that was announced or described.
struct Track {
    id: TrackId,
    control: String,
    /// The server's ports, as it has said them.
    server: [u16; 2],
    /// Makes a film's packets.
    mux: Option<mux::Track>,
    reported: Option<i64>,
    /// Puts those of a stream in order, as a player's buffer does.
    order: Order,
}

impl Client {
    /// One that has not called yet. A publisher announces what is in `film`.
    pub fn new(film: Opening) -> Self {
        Client {
            film,
            url: String::new(),
            step: Step::Nothing,
            number: 0,
            session: String::new(),
            held: BytesMut::new(),
            outgoing: BytesMut::new(),
            packets: VecDeque::new(),
            heard: VecDeque::new(),
            tracks: Vec::new(),
            demuxer: Demuxer::new([]),
            early: VecDeque::new(),
            report_at: None,
            ends_at: None,
            over: false,
        }
    }

    fn begin(&mut self, name: &StreamName) {
        *self = Client::new(std::mem::take(&mut self.film));
        self.url = format!("rtsp://192.0.2.7:8554/{name}");
    }

    fn ask(&mut self, step: Step, method: &str, url: &str, headers: &str, body: &str) {
        self.step = step;
        self.number += 1;
        let mut text = format!("{method} {url} RTSP/1.0\r\nCSeq: {}\r\n{headers}", self.number);
        if !self.session.is_empty() {
            text.push_str(&format!("Session: {}\r\n", self.session));
        }
        if !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        self.outgoing.put_slice(format!("{text}\r\n{body}").as_bytes());
    }

    fn set_up(&mut self, place: usize, mode: &str) {
        let Some(track) = self.tracks.get(place) else { return };
        let control = &track.control;
        let url = if control.contains("://") { control.clone() } else { format!("{}/{control}", self.url) };
        let port = port_of(place);
        let transport = format!("Transport: RTP/AVP;unicast;client_port={port}-{}{mode}\r\n", port + 1);
        self.ask(Step::SetUp(place), "SETUP", &url, &transport, "");
    }

    fn publishes(&self) -> bool {
        !self.film.parameters.is_empty()
    }

    fn answer(&mut self, answer: &Answer, now: Now) -> Result<(), &'static str> {
        if self.step == Step::Leave {
            return Ok(());
        }
        if answer.status != 200 {
            self.heard.push_back(Heard::Refused(format!("RTSP {}", answer.status)));
            self.over = true;
            return Ok(());
        }
        if let Some(session) = answer.header("session") {
            self.session = session.split(';').next().unwrap_or_default().to_owned();
        }
        let mode = if self.publishes() { ";mode=record" } else { "" };
        let url = self.url.clone();
        match self.step {
            Step::Nothing => return Err("an answer to nothing"),
            Step::Announce => self.set_up(0, mode),
            Step::Describe => {
                self.described(&answer.body)?;
                self.set_up(0, mode);
            }
            Step::SetUp(place) => {
                let transport = answer.header("transport").ok_or("nothing is said of the transport")?;
                let ports = transport.split(';').find_map(|part| part.strip_prefix("server_port="));
                let (media, control) =
                    ports.and_then(|ports| ports.split_once('-')).ok_or("no ports of the server")?;
                let port = |text: &str| text.parse().map_err(|_| "a port that is none");
                let track = self.tracks.get_mut(place).ok_or("a track that is none")?;
                track.server = [port(media)?, port(control)?];
                if place + 1 < self.tracks.len() {
                    self.set_up(place + 1, mode);
                } else if self.publishes() {
                    self.ask(Step::Record, "RECORD", &url, "Range: npt=0.000-\r\n", "");
                } else {
                    self.ask(Step::Play, "PLAY", &url, "Range: npt=now-\r\n", "");
                }
            }
            Step::Record => {
                self.step = Step::Goes;
                self.heard.push_back(Heard::Publishing);
            }
            Step::Play => {
                self.step = Step::Goes;
                self.report_at = Some(now.after(REPORT_INTERVAL));
                self.heard.push_back(Heard::Playing);
                self.begins_at(answer.header("rtp-info").unwrap_or_default(), now)?;
                for packet in std::mem::take(&mut self.early) {
                    self.take(&packet, now);
                }
            }
            Step::Goes | Step::Leave => {}
        }
        Ok(())
    }

    fn described(&mut self, text: &str) -> Result<(), &'static str> {
        let medias = sdp::read(text.as_bytes())?;
        let track = |media: &sdp::Announced| {
            let id = if media.kind == "video" { TrackId::VIDEO } else { TrackId::AUDIO };
            Track::new(id, media.control.clone())
        };
        self.tracks = medias.iter().map(track).collect();
        self.demuxer = Demuxer::new(medias.into_iter().map(|media| media.format));
        Ok(())
    }

    /// Counting begins at the numbers that were said, not at the packet that comes first: it may have overtaken others, and without
    /// those the first picture is none. (RFC 2326, 12.33)
    fn begins_at(&mut self, places: &str, now: Now) -> Result<(), &'static str> {
        for place in places.split(',').filter(|place| !place.is_empty()) {
            let of = |key: &str| place.split(';').find_map(|part| part.strip_prefix(key)?.strip_prefix('='));
            let sequence: Option<u16> = of("seq").and_then(|sequence| sequence.parse().ok());
            let track = self.tracks.iter_mut().find(|track| of("url") == Some(&track.control));
            let (track, sequence) = track.zip(sequence).ok_or("the beginning of a track that is none")?;
            track.order.push(sequence.wrapping_sub(1), &[], now, &mut |_| ());
        }
        Ok(())
    }

    /// A packet has come to one of our ports.
    fn take(&mut self, datagram: &[u8], now: Now) {
        let Some((from, to, packet)) = parts(datagram) else { return };
        let (place, side) = (usize::from(to - FIRST_PORT) / 2, usize::from(to % 2));
        let Some(track) = self.tracks.get_mut(place) else {
            return self.heard.push_back(Heard::Broken("a packet to a port that nobody named"));
        };
        if track.server[side] != from {
            return self.heard.push_back(Heard::Broken("a packet from a port that nobody named"));
        }
        if self.publishes() {
            // What has come of its packets.
            let known = side == 1 && shardcast_engine::rtp::rtcp::is_report(packet);
            let heard = if known { Heard::Other } else { Heard::Broken("what is no report of a receiver") };
            return self.heard.push_back(heard);
        }
        if side == 1 {
            if says_goodbye(packet) {
                self.ends_at.get_or_insert(now.after(LAST_PACKETS));
            }
            return self.demuxer.control(place, packet, now);
        }
        let Ok(Packet { sequence, .. }) = Packet::parse(packet) else {
            return self.heard.push_back(Heard::Broken("a packet that is none"));
        };
        let Client { tracks, demuxer, heard, .. } = self;
        let Some(Track { order, .. }) = tracks.get_mut(place) else { return };
        order.push(sequence, packet, now, &mut |packet| give(demuxer, heard, place, packet, now));
    }

    /// Goes on without what has not come.
    fn expire(&mut self, now: Now) {
        let Client { tracks, demuxer, heard, .. } = self;
        for (place, track) in tracks.iter_mut().enumerate() {
            track.order.expire(now, &mut |packet| give(demuxer, heard, place, packet, now));
        }
    }

    fn report(&mut self, now: Now) {
        if self.report_at.is_none_or(|at| at > now) {
            return;
        }
        self.report_at = Some(now.after(REPORT_INTERVAL));
        for (place, track) in self.tracks.iter().enumerate() {
            let mut packet = head(port_of(place) + 1, track.server[1]);
            self.demuxer.report(place, 7, now, &mut packet);
            if packet.len() > HEAD_BYTES {
                self.packets.push_back(packet.freeze());
            }
        }
    }
}

impl Track {
    fn new(id: TrackId, control: String) -> Self {
        Track { id, control, server: [0; 2], mux: None, reported: None, order: Order::default() }
    }

    /// Sends a frame of the film, and now and then which time it is of.
    fn send(&mut self, place: usize, frame: &Frame, packets: &mut VecDeque<Bytes>) {
        let Some(mux) = &mut self.mux else { return };
        // Pictures bring their new parameters with them; what is sound has been said for good.
        if let Payload::Parameters(parameters) = &frame.payload {
            if frame.track == TrackId::VIDEO {
                mux.change(parameters);
            }
            return;
        }
        let mut out = Datagrams { place, server: self.server, all: Vec::new() };
        let nanos = frame.dts.as_nanos();
        let since = self.reported.map(|reported| nanos.saturating_sub(reported));
        if since.is_none_or(|since| since.unsigned_abs() >= REPORT_INTERVAL.as_nanos() as u64) {
            self.reported = Some(nanos);
            mux.report(frame.dts, Wall(BEGINNING.saturating_add_signed(nanos)).into(), &mut out);
        }
        mux.frame(frame, &mut out);
        packets.extend(out.all.into_iter().map(BytesMut::freeze));
    }
}

/// Puts each packet into a datagram.
struct Datagrams {
    place: usize,
    server: [u16; 2],
    all: Vec<BytesMut>,
}

impl mux::Sink for Datagrams {
    fn packet(&mut self, control: bool, _: usize) -> &mut BytesMut {
        let side = usize::from(control);
        self.all.push(head(port_of(self.place) + u16::from(control), self.server[side]));
        self.all.last_mut().expect("it was put there just now")
    }
}

/// What becomes of a packet whose turn it is; what is missing is seen by the numbers once more.
fn give(demuxer: &mut Demuxer, heard: &mut VecDeque<Heard>, place: usize, packet: Option<&[u8]>, now: Now) {
    let mut take = |event| {
        if let Event::Frame(frame) = event {
            heard.push_back(Heard::Frame(frame));
        }
    };
    if let Some(packet) = packet {
        demuxer.packet(place, packet, now, &mut take);
    }
}

fn port_of(place: usize) -> u16 {
    FIRST_PORT + 2 * u16::try_from(place).expect("a stream of this world has two tracks")
}

/// The head of a datagram.
pub fn head(from: u16, to: u16) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u16(from);
    out.put_u16(to);
    out
}

/// The ports that a datagram comes from and goes to, and what is in it.
pub fn parts(datagram: &[u8]) -> Option<(u16, u16, &[u8])> {
    let (&[a, b, c, d], packet) = datagram.split_first_chunk::<HEAD_BYTES>()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]), packet))
}

/// Somewhere in what is said of a track stands that its source has gone. (RFC 3550, 6.6)
fn says_goodbye(mut compound: &[u8]) -> bool {
    while let [_, kind, high, low, ..] = compound {
        if *kind == 203 {
            return true;
        }
        let length = 4 * (usize::from(u16::from_be_bytes([*high, *low])) + 1);
        compound = compound.get(length..).unwrap_or_default();
    }
    false
}

impl client::Client for Client {
    fn publish(&mut self, name: &StreamName, _: Now) {
        self.begin(name);
        let (text, ids) = sdp::announce(name, &self.film);
        let payload_type = |id: TrackId| {
            let medias = sdp::read(text.as_bytes()).ok()?;
            let place = ids.iter().position(|track| *track == id)?;
            Some(medias.get(place)?.format.as_ref()?.payload_type)
        };
        let track = |id: &TrackId| {
            let parameters = self.film.parameters.iter().find_map(|frame| match &frame.payload {
                Payload::Parameters(parameters) if frame.track == *id => Some(parameters),
                _ => None,
            });
            let source = 0x0c1f_0000 + u32::from(id.0);
            let mux = mux::Track::new(parameters?, payload_type(*id)?, source);
            Some(Track { mux, ..Track::new(*id, sdp::control_of(*id)) })
        };
        self.tracks = ids.iter().filter_map(track).collect();
        let url = self.url.clone();
        self.ask(Step::Announce, "ANNOUNCE", &url, "Content-Type: application/sdp\r\n", &text);
    }

    fn play(&mut self, name: &StreamName, _: Now) {
        self.begin(name);
        let url = self.url.clone();
        self.ask(Step::Describe, "DESCRIBE", &url, "Accept: application/sdp\r\n", "");
    }

    fn frame(&mut self, frame: &Frame, _: Now) {
        if self.step != Step::Goes {
            return;
        }
        let Client { tracks, packets, .. } = self;
        let found = tracks.iter_mut().enumerate().find(|(_, track)| track.id == frame.track);
        if let Some((place, track)) = found {
            track.send(place, frame, packets);
        }
    }

    fn say(&mut self, wish: Wish) -> bool {
        if wish == Wish::Nonsense {
            self.outgoing.put_slice(b"\0 makes no sense\r\n\r\n");
        }
        wish == Wish::Nonsense
    }

    fn hear(&mut self, bytes: &[u8], now: Now) {
        self.held.extend_from_slice(bytes);
        loop {
            match Answer::read(&self.held) {
                Ok(None) => return,
                Ok(Some(answer)) => {
                    self.held.advance(answer.bytes);
                    if let Err(why) = self.answer(&answer, now) {
                        self.heard.push_back(Heard::Broken(why));
                    }
                }
                // Whoever said what makes no sense is told so, with no number.
                Err(why) => return self.heard.push_back(Heard::Broken(why)),
            }
        }
    }

    fn hear_packet(&mut self, datagram: &[u8], now: Now) {
        match self.step {
            Step::Goes => self.take(datagram, now),
            Step::Play => self.early.push_back(Bytes::copy_from_slice(datagram)),
            _ => {}
        }
    }

    fn act(&mut self, now: Now) {
        self.expire(now);
        self.report(now);
        if self.ends_at.is_some_and(|at| at <= now) && !self.over {
            self.heard.push_back(Heard::Ended);
            self.over = true;
        }
    }

    fn deadline(&self) -> Option<Now> {
        let waiting = self.tracks.iter().filter_map(|track| track.order.deadline());
        waiting.chain(self.report_at).chain(self.ends_at).min().filter(|_| !self.over)
    }

    fn leave(&mut self, _: Now) {
        if !self.session.is_empty() && self.step != Step::Leave {
            let url = self.url.clone();
            self.ask(Step::Leave, "TEARDOWN", &url, "", "");
        }
    }

    fn is_over(&self) -> bool {
        self.over
    }

    fn end(&mut self, _: Now) -> Option<&'static str> {
        *self = Client::new(std::mem::take(&mut self.film));
        None
    }

    fn tracks(&self) -> Option<[bool; 2]> {
        Some([TrackId::VIDEO, TrackId::AUDIO].map(|id| self.tracks.iter().any(|track| track.id == id)))
    }

    fn heard(&mut self) -> Option<Heard> {
        self.heard.pop_front()
    }

    fn outgoing(&mut self) -> Option<Bytes> {
        (!self.outgoing.is_empty()).then(|| self.outgoing.split().freeze())
    }

    fn packet(&mut self) -> Option<Bytes> {
        self.packets.pop_front()
    }
}

/// An answer.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
    bytes: usize,
}

impl Answer {
    /// The answer at the front of `held`, once it is whole.
    fn read(held: &[u8]) -> Result<Option<Answer>, &'static str> {
        let Some(end) = held.windows(4).position(|end| end == b"\r\n\r\n") else { return Ok(None) };
        let (head, rest) = held.split_at(end + 4);
        let head = std::str::from_utf8(head).map_err(|_| "an answer that is no text")?;
        let mut lines = head.lines();
        let line = lines.next().and_then(|line| line.strip_prefix("RTSP/1.0 ")).ok_or("what is no RTSP")?;
        let status =
            line.get(..3).and_then(|status| status.parse().ok()).ok_or("an answer without a status")?;
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        let mut answer = Answer {
            status,
            headers: lines.filter_map(header).collect(),
            body: String::new(),
            bytes: end + 4,
        };
        let length = answer.header("content-length").map_or(Ok(0), str::parse::<usize>);
        let length = length.map_err(|_| "an answer without a length")?;
        let Some(body) = rest.get(..length) else { return Ok(None) };
        answer.body = String::from_utf8_lossy(body).into_owned();
        answer.bytes += length;
        Ok(Some(answer))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}
