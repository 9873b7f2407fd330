//! A viewer by RTSP, inside its connection: it asks what there is, sets all of it up, and takes packets apart. (RFC 2326)

use bytes::{Buf as _, Bytes, BytesMut};
use shardcast_engine::{
    media::Frame,
    rtp::{Demuxer, format::Format},
    session::Event,
    time::Now,
};

use crate::server::Url;

/// Bytes of an answer. No server says so much.
const ANSWER_BYTES_MAX: usize = 256 << 10;

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
}

impl Rtsp {
    /// A viewer of `url`, and what it says first.
    pub fn new(url: &Url) -> (Self, Bytes) {
        let mut viewer = Rtsp {
            url: format!("{}://{}{}", url.scheme, url.address, url.path),
            step: Step::Describe,
            number: 0,
            session: String::new(),
            tracks: Vec::new(),
            demuxer: Demuxer::new([]),
            held: BytesMut::new(),
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
                let channel = answer.header("transport").and_then(|transport| {
                    let (_, rest) = transport.split_once("interleaved=")?;
                    rest.split(['-', ';', ',']).next()?.parse().ok()
                });
                let channel = channel.ok_or("the server names no channel")?;
                if let Some(track) = self.tracks.get_mut(place) {
                    track.channel = Some(channel);
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
                let channel = 2 * place;
                let transport =
                    format!("Transport: RTP/AVP/TCP;unicast;interleaved={channel}-{}\r\n", channel + 1);
                self.ask("SETUP", &url, &transport)
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
            let (mut viewer, mut asked) = Rtsp::new(&url);
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
        let said = |bytes: &[u8]| Rtsp::new(&url).0.received(bytes, Now(0), &mut |_, _| {});
        assert!(said(b"RTSP/1.0 404 Not Found\r\nCSeq: 1\r\n\r\n").unwrap_err().contains("404"));
        assert!(said(b"SSH-2.0-x\r\n\r\n").is_err());
        assert!(said(b"RTSP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nv=0").unwrap_err().contains("no tracks"));
    }
}
