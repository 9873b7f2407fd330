//! A viewer by RTSP: it asks what there is, sets all of it up, inside its connection or by UDP beside it, and takes packets apart.
//! (RFC 2326)

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsFd,
};

use bytes::{Buf as _, Bytes, BytesMut};
use shardcast_engine::{
    media::Frame,
    rtp::{Demuxer, format::Format},
    session::Event,
    time::Now,
};

use shardcast_io::{tcp, udp};

use crate::url::Url;

/// Bytes of an answer. No server says so much.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// What may wait in a socket for media. The kernel caps it.
const RECEIVE_BUFFER_BYTES: u32 = 1 << 20;
/// How often two ports are looked for that follow on each other.
const PAIRS_TRIED: usize = 100;

/// What has been asked for last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Describe,
    /// The track of this place.
    SetUp(usize),
    Play,
    Playing,
}

/// The conversation of a viewer.
pub struct Rtsp {
    url: String,
    step: Step,
    number: u32,
    session: String,
    tracks: Vec<Track>,
    demuxer: Demuxer,
    held: BytesMut,
    /// Where the ports of media by UDP are; `None` where it goes inside the connection.
    beside: Option<IpAddr>,
}

/// A track of the description.
#[derive(Debug, Default)]
struct Track {
    control: String,
    mapping: Option<String>,
    parameters: String,
    payload_type: u8,
    /// The channel that the server says.
    channel: Option<u8>,
    /// Its ports, for media and for control information.
    ports: Option<[UdpSocket; 2]>,
}

impl Rtsp {
    /// A viewer of `url`, inside its connection or by UDP, and what it says first.
    pub fn new(url: &Url, by_udp: bool) -> (Self, Bytes) {
        let six = url.address.parse().is_ok_and(|address: SocketAddr| address.is_ipv6());
        let any: IpAddr = if six { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let mut viewer = Rtsp {
            url: format!("{}://{}{}", url.scheme, url.address, url.path),
            step: Step::Describe,
            number: 0,
            session: String::new(),
            tracks: Vec::new(),
            demuxer: Demuxer::new([]),
            held: BytesMut::new(),
            beside: by_udp.then_some(any),
        };
        let url = viewer.url.clone();
        let first = viewer.ask("DESCRIBE", &url, "Accept: application/sdp\r\n");
        (viewer, first)
    }

    /// Takes what the server has sent, gives each frame that is whole, and returns what is to be said.
    ///
    /// # Errors
    /// The server refuses, or what it sends is none of this.
    pub fn received(
        &mut self,
        bytes: &[u8],
        now: Now,
        emit: &mut dyn FnMut(&Frame, Now),
    ) -> Result<Bytes, String> {
        self.held.extend_from_slice(bytes);
        let mut out = BytesMut::new();
        loop {
            let used = match &self.held[..] {
                [b'$', channel, high, low, rest @ ..] => {
                    let len = usize::from(u16::from_be_bytes([*high, *low]));
                    let Some(packet) = rest.get(..len) else { break };
                    let track = |offset| {
                        let is_it = |track: &Track| track.channel == channel.checked_sub(offset);
                        self.tracks.iter().position(is_it)
                    };
                    if let Some(track) = track(0) {
                        let mut take = |event| {
                            if let Event::Frame(frame) = event {
                                emit(&frame, now);
                            }
                        };
                        self.demuxer.packet(track, packet, now, &mut take);
                    } else if let Some(track) = track(1) {
                        self.demuxer.control(track, packet, now);
                    }
                    4 + len
                }
                [b'$', ..] | [] => break,
                _ => {
                    let Some(answer) = Answer::read(&self.held)? else { break };
                    let used = answer.bytes;
                    out.extend_from_slice(&self.answer(&answer)?);
                    used
                }
            };
            self.held.advance(used);
        }
        Ok(out.freeze())
    }

    /// Takes what has come by UDP, and gives each frame that is whole. Gives the bytes of the packets of media. `buffer` has
    /// room for a datagram.
    ///
    /// # Errors
    /// A socket failed.
    pub fn take_datagrams(
        &mut self,
        buffer: &mut [u8],
        now: Now,
        emit: &mut dyn FnMut(&Frame, Now),
    ) -> Result<u64, String> {
        let mut bytes = 0;
        for (place, track) in self.tracks.iter().enumerate() {
            let Some([media, control]) = &track.ports else { continue };
            while let Some(length) = received(media.recv(buffer))? {
                bytes += length as u64;
                let mut take = |event| {
                    if let Event::Frame(frame) = event {
                        emit(&frame, now);
                    }
                };
                self.demuxer.packet(place, &buffer[..length], now, &mut take);
            }
            while let Some(length) = received(control.recv(buffer))? {
                self.demuxer.control(place, &buffer[..length], now);
            }
        }
        Ok(bytes)
    }

    /// Throws away what has come by UDP; gives the bytes of the packets of media.
    ///
    /// # Errors
    /// A socket failed.
    pub fn discard_datagrams(&self) -> Result<u64, String> {
        let mut bytes = 0;
        for [media, control] in self.tracks.iter().filter_map(|track| track.ports.as_ref()) {
            while let Some((count, taken)) = received(udp::discard(media.as_fd()))? {
                bytes += taken as u64;
                // Fewer than it could have taken are all that there were.
                if count < udp::DISCARDED_MAX {
                    break;
                }
            }
            // Few reports come, and they are forgotten with the rest.
            received(udp::discard(control.as_fd()))?;
        }
        Ok(bytes)
    }

    /// What is to be said now and then while media goes by UDP, for the server to know that somebody is there.
    pub fn still_here(&mut self) -> Bytes {
        let url = self.url.clone();
        if self.step == Step::Playing { self.ask("OPTIONS", &url, "") } else { Bytes::new() }
    }

    fn answer(&mut self, answer: &Answer) -> Result<Bytes, String> {
        if answer.status != 200 {
            return Err(format!("the server answers {}", answer.line));
        }
        let next = match self.step {
            Step::Describe => {
                self.describe(&answer.body)?;
                Step::SetUp(0)
            }
            Step::SetUp(place) => {
                if let Some(session) = answer.header("session") {
                    self.session = session.split(';').next().unwrap_or_default().to_owned();
                }
                if self.beside.is_none() {
                    let channel = answer.header("transport").and_then(|transport| {
                        let (_, rest) = transport.split_once("interleaved=")?;
                        rest.split(['-', ';', ',']).next()?.parse().ok()
                    });
                    let channel = channel.ok_or("the server names no channel")?;
                    if let Some(track) = self.tracks.get_mut(place) {
                        track.channel = Some(channel);
                    }
                } else if !answer.header("transport").is_some_and(|text| text.contains("client_port=")) {
                    return Err("the server names no ports".to_owned());
                }
                if place + 1 < self.tracks.len() { Step::SetUp(place + 1) } else { Step::Play }
            }
            Step::Play | Step::Playing => Step::Playing,
        };
        self.step = next;
        let url = self.url.clone();
        Ok(match next {
            Step::SetUp(place) => {
                let control = self.tracks.get(place).map_or("", |track| track.control.as_str());
                let url =
                    if control.contains("://") { control.to_owned() } else { format!("{url}/{control}") };
                let transport = match self.beside {
                    None => format!("RTP/AVP/TCP;unicast;interleaved={}-{}", 2 * place, 2 * place + 1),
                    Some(any) => {
                        let (ports, first) = pair(any).map_err(|error| format!("two ports: {error}"))?;
                        if let Some(track) = self.tracks.get_mut(place) {
                            track.ports = Some(ports);
                        }
                        format!("RTP/AVP;unicast;client_port={first}-{}", first + 1)
                    }
                };
                self.ask("SETUP", &url, &format!("Transport: {transport}\r\n"))
            }
            Step::Play => self.ask("PLAY", &url, "Range: npt=now-\r\n"),
            Step::Describe | Step::Playing => Bytes::new(),
        })
    }

    fn describe(&mut self, text: &str) -> Result<(), String> {
        for line in text.lines() {
            if let Some(media) = line.strip_prefix("m=") {
                let payload_type = media.split(' ').nth(3).and_then(|number| number.parse().ok());
                let payload_type = payload_type.ok_or_else(|| format!("no payload type in {line}"))?;
                self.tracks.push(Track { payload_type, ..Track::default() });
            }
            let Some(track) = self.tracks.last_mut() else { continue };
            let behind_number = |value: &str| value.split_once(' ').map(|(_, rest)| rest.to_owned());
            if let Some(control) = line.strip_prefix("a=control:") {
                control.clone_into(&mut track.control);
            } else if let Some(mapping) = line.strip_prefix("a=rtpmap:") {
                track.mapping = behind_number(mapping);
            } else if let Some(parameters) = line.strip_prefix("a=fmtp:") {
                track.parameters = behind_number(parameters).unwrap_or_default();
            }
        }
        if self.tracks.is_empty() {
            return Err("the server describes no tracks".to_owned());
        }
        let format =
            |track: &Track| Format::read(track.payload_type, track.mapping.as_deref(), &track.parameters);
        self.demuxer = Demuxer::new(self.tracks.iter().map(format));
        Ok(())
    }

    fn ask(&mut self, method: &str, url: &str, headers: &str) -> Bytes {
        self.number += 1;
        let session =
            if self.session.is_empty() { String::new() } else { format!("Session: {}\r\n", self.session) };
        format!("{method} {url} RTSP/1.0\r\nCSeq: {}\r\n{headers}{session}\r\n", self.number).into()
    }
}

/// What has come; `None` when there is no more. What the other side refused of what nobody sent is no matter.
fn received<T>(result: io::Result<T>) -> Result<Option<T>, String> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(format!("a socket failed: {error}")),
    }
}

/// Sockets at two ports that follow on each other, and the first of them, which is even. (RFC 3550, 11)
fn pair(address: IpAddr) -> io::Result<([UdpSocket; 2], u16)> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..PAIRS_TRIED {
        let one = UdpSocket::bind((address, 0))?;
        let port = one.local_addr()?.port();
        let sockets = match UdpSocket::bind((address, port ^ 1)) {
            Ok(other) if port.is_multiple_of(2) => [one, other],
            Ok(other) => [other, one],
            Err(error) => {
                last = error;
                continue;
            }
        };
        for socket in &sockets {
            socket.set_nonblocking(true)?;
        }
        tcp::set_receive_buffer(sockets[0].as_fd(), RECEIVE_BUFFER_BYTES)?;
        return Ok((sockets, port & !1));
    }
    Err(last)
}

/// An answer.
struct Answer {
    status: u16,
    /// What follows the version.
    line: String,
    headers: Vec<(String, String)>,
    body: String,
    bytes: usize,
}

impl Answer {
    fn read(bytes: &[u8]) -> Result<Option<Answer>, String> {
        let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else {
            return if bytes.len() > ANSWER_BYTES_MAX {
                Err("an endless answer".to_owned())
            } else {
                Ok(None)
            };
        };
        let (head, rest) = bytes.split_at(end + 4);
        let head = String::from_utf8_lossy(head);
        let mut lines = head.lines();
        let line = lines.next().and_then(|line| line.strip_prefix("RTSP/1.0 "));
        let line = line.ok_or("what the server says is no RTSP")?.to_owned();
        let status = line.split(' ').next().and_then(|status| status.parse().ok());
        let status = status.ok_or("an answer without a status")?;
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        };
        let headers = lines.filter_map(header).collect();
        let mut answer = Answer { status, line, headers, body: String::new(), bytes: end + 4 };
        let length = answer.header("content-length").map_or(Ok(0), str::parse::<usize>);
        let length = length.map_err(|_| "an answer without a length")?;
        if length > ANSWER_BYTES_MAX {
            return Err("an endless answer".to_owned());
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        answer.body = String::from_utf8_lossy(body).into_owned();
        answer.bytes += length;
        Ok(Some(answer))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use shardcast_engine::{
        limits::DoorLimits,
        media::{Payload, TrackId},
        rtsp::{self, FORMS},
        session::{self, Input, Output, Session as _},
    };

    use super::*;
    use crate::clip::{Clip, Playback};

    /// What the server says to `asked`, and then the stream.
    fn say(server: &mut rtsp::Session, asked: &[u8], clip: &Clip, stream: &mut bool) -> Vec<u8> {
        let mut said = Vec::new();
        server.handle(Input::Received(asked), Now(0)).unwrap();
        while let Some(output) = server.poll() {
            match output {
                Output::Send(bytes) => said.extend_from_slice(&bytes),
                Output::Event(session::Event::Describe { .. }) => {
                    server.handle(Input::Described(Box::new(clip.opening().clone())), Now(0)).unwrap();
                }
                Output::Event(session::Event::Play { .. }) => {
                    server.handle(Input::Answer(session::Answer::Playing), Now(0)).unwrap();
                    *stream = true;
                }
                other => panic!("{other:?}"),
            }
        }
        said
    }

    #[test]
    fn all_of_a_stream_is_read_however_it_is_cut() {
        let url = Url::parse("rtsp://127.0.0.1:8554/live/bench").unwrap();
        for piece in [1, 777, usize::MAX] {
            // Filled up to a rate, which goes along.
            let clip = Clip::built_in().at_bitrate(1_000_000).unwrap();
            let mut server = rtsp::Session::new(&DoorLimits::default(), Now(0));
            let (mut viewer, mut asked) = Rtsp::new(&url, false);
            let mut streaming = false;
            while !streaming {
                let said = say(&mut server, &asked, &clip, &mut streaming);
                asked = viewer.received(&said, Now(0), &mut |_, _| panic!("no stream yet")).unwrap();
            }
            let mut playback = Playback::new(clip);
            let frames: Vec<Frame> = (0..200).map(|_| playback.take(1)).collect();
            let (mut wire, mut bytes) = ((FORMS[2].open)(), BytesMut::new());
            wire.header(playback.clip().opening(), &frames[0], &mut bytes);
            frames.iter().for_each(|frame| wire.frame(frame, &mut bytes));
            let mut read: [Vec<Bytes>; 2] = Default::default();
            for bytes in bytes.chunks(piece.min(bytes.len())) {
                let mut take = |frame: &Frame, _: Now| {
                    if let Payload::Video { data, .. } | Payload::Audio { data, .. } = &frame.payload {
                        read[usize::from(frame.track == TrackId::AUDIO)].push(data.clone());
                    }
                };
                viewer.received(bytes, Now(0), &mut take).unwrap();
            }
            for (read, track) in read.iter().zip([TrackId::VIDEO, TrackId::AUDIO]) {
                let sent =
                    frames.iter().filter(|frame| frame.track == track).map(|frame| match &frame.payload {
                        Payload::Video { data, .. } | Payload::Audio { data, .. } => data,
                        other => panic!("{other:?}"),
                    });
                assert!(read.iter().eq(sent), "{} of {track:?} in pieces of {piece}", read.len());
            }
        }
    }

    #[test]
    fn a_refusal_and_nonsense_are_told() {
        let url = Url::parse("rtsp://127.0.0.1:8554/live/bench").unwrap();
        let said = |bytes: &[u8]| Rtsp::new(&url, false).0.received(bytes, Now(0), &mut |_, _| {});
        assert!(said(b"RTSP/1.0 404 Not Found\r\nCSeq: 1\r\n\r\n").unwrap_err().contains("404"));
        assert!(said(b"SSH-2.0-x\r\n\r\n").is_err());
        assert!(said(b"RTSP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nv=0").unwrap_err().contains("no tracks"));
    }

    #[test]
    fn ports_are_two_that_follow_on_each_other() {
        for _ in 0..8 {
            let ([media, control], first) = pair(Ipv4Addr::LOCALHOST.into()).unwrap();
            let ports = [&media, &control].map(|socket| socket.local_addr().unwrap().port());
            assert_eq!((ports, first % 2), ([first, first + 1], 0));
        }
    }

    #[test]
    fn by_udp_it_names_its_ports_and_reads_what_comes_there() {
        let url = Url::parse("rtsp://127.0.0.1:8554/live/bench").unwrap();
        let clip = Clip::built_in().at_bitrate(1_000_000).unwrap();
        let mut server = rtsp::Session::new(&DoorLimits::default(), Now(0));
        let (mut inside, mut asked) = Rtsp::new(&url, false);
        let (mut viewer, first) = Rtsp::new(&url, true);
        assert_eq!(asked, first);
        let described = say(&mut server, &asked, &clip, &mut false);
        drop(inside.received(&described, Now(0), &mut |_, _| {}).unwrap());
        let mut ports = Vec::new();
        asked = viewer.received(&described, Now(0), &mut |_, _| {}).unwrap();
        while asked.starts_with(b"SETUP") {
            let text = String::from_utf8(asked.to_vec()).unwrap();
            let (_, rest) = text.split_once("Transport: RTP/AVP;unicast;client_port=").unwrap();
            let (first, rest) = rest.split_once('-').unwrap();
            ports.push(first.parse::<u16>().unwrap());
            let answer = format!(
                "RTSP/1.0 200 OK\r\nSession: 7\r\nTransport: RTP/AVP;unicast;client_port={first}-{}\r\n\r\n",
                rest.split("\r\n").next().unwrap()
            );
            asked = viewer.received(answer.as_bytes(), Now(0), &mut |_, _| {}).unwrap();
        }
        assert!(asked.starts_with(b"PLAY") && ports.len() == 2);
        assert!(viewer.still_here().is_empty());
        viewer.received(b"RTSP/1.0 200 OK\r\n\r\n", Now(0), &mut |_, _| {}).unwrap();
        assert!(viewer.still_here().starts_with(b"OPTIONS"));

        let mut playback = Playback::new(clip);
        let frames: Vec<Frame> = (0..30).map(|_| playback.take(1)).collect();
        let (mut wire, mut bytes) = ((FORMS[2].open)(), BytesMut::new());
        wire.header(playback.clip().opening(), &frames[0], &mut bytes);
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (mut sent, mut came, mut read, mut buffer) = (0, 0, 0, [0; 2048]);
        for frame in &frames {
            wire.frame(frame, &mut bytes);
            while let [b'$', channel, high, low, ..] = bytes[..] {
                let packet = bytes.split_to(4 + usize::from(u16::from_be_bytes([high, low])));
                let port = ports[usize::from(channel / 2)] + u16::from(channel % 2);
                sent += sender.send_to(&packet[4..], ("127.0.0.1", port)).unwrap() as u64
                    * u64::from(channel % 2 == 0);
            }
            let mut take = |frame: &Frame, _: Now| read += usize::from(frame.is_media());
            came += viewer.take_datagrams(&mut buffer, Now(0), &mut take).unwrap();
        }
        assert_eq!(came, sent);
        assert!((frames.len() - 2..=frames.len()).contains(&read), "{read} frames");
        sender.send_to(&[7; 100], ("127.0.0.1", ports[0])).unwrap();
        sender.send_to(&[7; 100], ("127.0.0.1", ports[1] + 1)).unwrap();
        assert_eq!(viewer.discard_datagrams().unwrap(), 100);
    }
}
