//! Conversations of players and publishers, request by request.

mod beside;

use std::sync::Arc;

use super::*;
use crate::{
    codec::{Codec, Parameters, samples},
    error::ErrorKind,
    media::{Frame, Payload},
    session::{Ports, Session as _},
    time::MediaTime,
};

const PLAY: &str = "rtsp://127.0.0.1:8554/live/cam";

/// A session and what it has said.
struct Room {
    session: Session,
    said: String,
    events: Vec<Event>,
    closed: bool,
    number: u32,
    ports: Vec<Option<Ports>>,
    packets: Vec<u8>,
}

impl Room {
    fn new() -> Self {
        let session = Session::new(&DoorLimits::default(), Now(0));
        let (ports, packets) = (Vec::new(), Vec::new());
        Room { session, said: String::new(), events: Vec::new(), closed: false, number: 0, ports, packets }
    }

    fn give(&mut self, input: Input<'_>, now: Now) -> Result<(), Error> {
        let result = self.session.handle(input, now);
        while let Some(output) = self.session.poll() {
            match output {
                Output::Send(bytes) => self.said.push_str(&String::from_utf8_lossy(&bytes)),
                Output::Event(event) => self.events.push(event),
                Output::Close => self.closed = true,
                Output::Ports(ports) => self.ports.push(ports),
                Output::Packets(bytes) => self.packets.extend_from_slice(&bytes),
                Output::Share(_)
                | Output::Datagrams { .. }
                | Output::Datagram { .. }
                | Output::Address(_) => {
                    panic!("nothing is shared, or its own datagram")
                }
            }
        }
        result
    }

    /// Asks, and returns the answer, which may be none yet.
    fn ask(&mut self, method: &str, url: &str, headers: &str, body: &str) -> String {
        self.number += 1;
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let text = format!("{method} {url} RTSP/1.0\r\nCSeq: {}\r\n{headers}{length}\r\n{body}", self.number);
        self.said.clear();
        self.give(Input::Received(text.as_bytes()), Now(0)).unwrap();
        self.said.clone()
    }

    fn answer(&mut self, answer: Answer) -> String {
        self.said.clear();
        self.give(Input::Answer(answer), Now(0)).unwrap();
        self.said.clone()
    }

    fn describe(&mut self) -> String {
        assert_eq!(self.ask("DESCRIBE", PLAY, "Accept: application/sdp\r\n", ""), "");
        assert!(
            matches!(self.events.pop(), Some(Event::Describe { name, .. }) if name.as_str() == "live/cam")
        );
        self.said.clear();
        self.give(Input::Described(Box::new(opening())), Now(0)).unwrap();
        self.said.clone()
    }

    fn set_up(&mut self, track: u8) -> String {
        let url = format!("{PLAY}/trackID={track}");
        self.ask("SETUP", &url, "Transport: RTP/AVP/TCP;unicast;interleaved=8-9\r\n", "")
    }
}

fn opening() -> Opening {
    let avcc = samples::hex(samples::H264_HIGH_720).into();
    let frame = |track, parameters| {
        let time = MediaTime::from_millis(0);
        Frame { track, dts: time, pts: time, payload: Payload::Parameters(Arc::new(parameters)) }
    };
    Opening {
        parameters: vec![
            frame(TrackId::VIDEO, Parameters::parse(Codec::H264, avcc).unwrap()),
            frame(TrackId::AUDIO, Parameters::of_opus(2)),
        ],
        ..Opening::default()
    }
}

/// What ffmpeg announces.
const ANNOUNCED: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=No Name\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\na=tool:libavformat\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 theora/90000\r\na=control:streamid=0\r\nm=audio 0 RTP/AVP 97\r\na=rtpmap:97 opus/48000/2\r\na=fmtp:97 sprop-stereo=1\r\na=control:streamid=1\r\n";

#[test]
fn a_player_is_told_where_its_tracks_begin() {
    let starts = [(TrackId::VIDEO, 65_535, 7), (TrackId::AUDIO, 9, 4_000_000_000)];
    let starts = starts.map(|(track, sequence, timestamp)| Start { track, sequence, timestamp });
    let playing = |tracks: &[u8], query: &str, starts: &[Start]| {
        let mut room = Room::new();
        room.describe();
        for track in tracks {
            let url = format!("{PLAY}/trackID={track}{query}");
            let said = room.ask("SETUP", &url, "Transport: RTP/AVP/TCP;unicast\r\n", "");
            assert!(said.contains("200 OK"), "{said}");
        }
        room.ask("PLAY", PLAY, "", "");
        room.session.begins_at(starts);
        let said = room.answer(Answer::Playing);
        said.lines().find_map(|line| line.strip_prefix("RTP-Info: ").map(str::to_owned))
    };
    assert_eq!(
        playing(&[1, 0], "", &starts).as_deref(),
        Some(
            "url=rtsp://127.0.0.1:8554/live/cam/trackID=1;seq=9;rtptime=4000000000,\
             url=rtsp://127.0.0.1:8554/live/cam/trackID=0;seq=65535;rtptime=7"
        )
    );
    assert_eq!(
        playing(&[1], "?key=x", &starts).as_deref(),
        Some("url=rtsp://127.0.0.1:8554/live/cam/trackID=1?key=x;seq=9;rtptime=4000000000")
    );
    // What is not known, or could be misread, is not said.
    assert_eq!(playing(&[0, 1], "", &starts[..1]), None);
    assert_eq!(playing(&[0, 1], "", &[]), None);
    assert_eq!(playing(&[0], "?key=x,y", &starts), None);
}

#[test]
fn a_player_is_told_what_there_is_and_gets_what_it_has_set_up() {
    let mut room = Room::new();
    assert!(room.ask("OPTIONS", "*", "", "").contains("Public: OPTIONS, DESCRIBE, ANNOUNCE"));
    let description = room.describe();
    assert!(description.starts_with("RTSP/1.0 200 OK\r\n"), "{description}");
    for line in [
        "CSeq: 2",
        "Content-Base: rtsp://127.0.0.1:8554/live/cam/",
        "m=video 0 RTP/AVP 96",
        "a=control:rtsp://127.0.0.1:8554/live/cam/trackID=1",
    ] {
        assert!(description.contains(line), "{line} in {description}");
    }
    // Whatever channels it asks for, those of the stream are its answer.
    assert!(room.set_up(0).contains("Transport: RTP/AVP/TCP;unicast;interleaved=0-1"));
    let session = room.set_up(1);
    assert!(session.contains("interleaved=2-3"), "{session}");
    assert_eq!(room.ask("PLAY", PLAY, "", ""), "");
    assert!(matches!(&room.events[..], [Event::Play { form, .. }] if form.name == "rtsp"));
    let playing = room.answer(Answer::Playing);
    assert!(playing.contains("200 OK") && playing.contains("Range: npt=now-"), "{playing}");

    room.events.clear();
    assert!(room.ask("GET_PARAMETER", PLAY, "", "").contains("200 OK"));
    assert!(room.ask("PAUSE", PLAY, "", "").contains("200 OK"));
    assert!(room.ask("PLAY", PLAY, "", "").contains("200 OK"));
    assert!(room.ask("PLAY", PLAY, "", "").contains("200 OK"));
    assert!(matches!(room.events[..], [Event::Pause(true), Event::Pause(false)]));
    assert!(room.session.deadline().is_none());
    assert!(room.ask("TEARDOWN", PLAY, "", "").contains("200 OK"));
    assert!(matches!(room.events.last(), Some(Event::Stop)));
    // Another stream may follow on the same connection.
    room.describe();
    assert!(room.set_up(1).contains("200 OK"));
    room.ask("PLAY", PLAY, "", "");
    assert!(matches!(room.events.last(), Some(Event::Play { form, .. }) if form.name == "rtsp-audio"));
    room.answer(Answer::Playing);
    room.said.clear();
    room.give(Input::Ended, Now(0)).unwrap();
    assert!(!room.closed && room.said.starts_with("$\x03\0\x10"), "a goodbye for the one track");
    // What it says at the end has an answer, and then it goes or is closed.
    assert!(room.ask("PAUSE", PLAY, "", "").contains("200 OK"));
    let due = room.session.deadline().unwrap();
    assert_eq!(due, Now(0).after(super::FAREWELL));
    room.give(Input::Timeout, due).unwrap();
    assert!(room.closed);
}

#[test]
fn a_publisher_is_heard_on_the_channels_that_it_chose() {
    let mut room = Room::new();
    assert!(room.ask("ANNOUNCE", PLAY, "Content-Type: application/sdp\r\n", ANNOUNCED).contains("200 OK"));
    let transport = "Transport: RTP/AVP/UDP;unicast;client_port=5000-5001;mode=record,RTP/AVP/TCP;unicast;interleaved=6-7;mode=record\r\n";
    let answer = room.ask("SETUP", &format!("{PLAY}/streamid=1"), transport, "");
    assert!(answer.contains("Transport: RTP/AVP/TCP;unicast;interleaved=6-7;mode=record"), "{answer}");
    assert_eq!(room.ask("RECORD", PLAY, "Range: npt=0.000-\r\n", ""), "");
    assert!(matches!(&room.events[..], [Event::Publish { name, .. }] if name.as_str() == "live/cam"));
    room.events.clear();
    assert!(room.answer(Answer::Publishing).contains("200 OK"));
    // What the description says is told at once.
    let [Event::Frame(parameters)] = &room.events[..] else { panic!("{:?}", room.events) };
    assert!(matches!(&parameters.payload, Payload::Parameters(found) if found.codec == Codec::Opus));
    room.events.clear();
    let packet = [0x80, 97, 0, 7, 0, 0, 0, 90, 1, 2, 3, 4, 0xfc, 0xff, 0xfe];
    let inside = |channel| [&[b'$', channel, 0, packet.len() as u8][..], &packet].concat();
    // On its own channel, on that of reports, and on one that nobody knows; cut in the middle.
    let bytes = [inside(6), inside(7), inside(9)].concat();
    for piece in bytes.chunks(7) {
        room.give(Input::Received(piece), Now(1)).unwrap();
    }
    let [Event::Frame(frame)] = &room.events[..] else { panic!("{:?}", room.events) };
    assert!(frame.is_audio() && frame.payload_bytes() == 3);

    let due = room.session.deadline().unwrap();
    room.said.clear();
    room.give(Input::Timeout, due).unwrap();
    assert!(room.said.starts_with("$\x07"), "a report");
    room.events.clear();
    assert!(room.ask("TEARDOWN", PLAY, "", "").contains("200 OK"));
    assert!(matches!(room.events[..], [Event::Unpublish]));
}

#[test]
fn a_key_may_stand_in_the_url_or_be_a_password() {
    let mut room = Room::new();
    room.ask("DESCRIBE", &format!("{PLAY}?key=guess"), "", "");
    let Some(Event::Describe { query, .. }) = room.events.pop() else { panic!("it asks") };
    assert_eq!(query, "key=guess");
    let refused = room.answer(Answer::Refused(Refusal::Forbidden));
    assert!(refused.starts_with("RTSP/1.0 401 not allowed"), "{refused}");
    assert!(refused.contains("WWW-Authenticate: Basic realm=\"shardcast\"") && !room.closed);
    room.ask("DESCRIBE", PLAY, "Authorization: Basic dXNlcjpzZWNyZXQ=\r\n", "");
    let Some(Event::Describe { query, .. }) = room.events.pop() else { panic!("it asks again") };
    assert_eq!(query, "user=user&key=secret");
    room.answer(Answer::Refused(Refusal::Forbidden));
    assert!(!room.closed);
    room.ask("DESCRIBE", PLAY, "", "");
    room.answer(Answer::Refused(Refusal::Forbidden));
    assert!(room.closed, "nobody guesses for ever");
}

#[test]
fn refusals_have_words_of_their_own() {
    for (refusal, status) in [
        (Refusal::NotFound, "404 no such stream"),
        (Refusal::Full, "503"),
        (Refusal::ShuttingDown, "503"),
        (Refusal::TooLate, "504"),
    ] {
        let mut room = Room::new();
        room.ask("DESCRIBE", PLAY, "", "");
        assert!(room.answer(Answer::Refused(refusal)).starts_with(&format!("RTSP/1.0 {status}")));
        assert!(room.closed);
    }
}

#[test]
fn what_cannot_be_done_is_said_and_the_conversation_goes_on() {
    let mut room = Room::new();
    for (method, url, headers, body, status) in [
        ("SETUP", PLAY, "Transport: RTP/AVP/TCP;interleaved=0-1\r\n", "", "455"),
        ("SETUP", PLAY, "Transport: RTP/AVP;unicast;client_port=1-2\r\n", "", "461"),
        ("SETUP", PLAY, "", "", "461"),
        ("PLAY", PLAY, "", "", "455"),
        ("RECORD", PLAY, "", "", "455"),
        ("PAUSE", PLAY, "", "", "455"),
        ("REDIRECT", PLAY, "", "", "501"),
        ("DESCRIBE", "rtsp://h/live", "", "", "400"),
        ("DESCRIBE", "rtsp://h/live/%2e%2e/x", "", "", "400"),
        ("DESCRIBE", PLAY, "Require: implicit-play\r\n", "", "551"),
        ("OPTIONS", "*", "Session: 12345\r\n", "", "454"),
        ("ANNOUNCE", PLAY, "", "v=0\r\n", "400"),
        (
            "ANNOUNCE",
            PLAY,
            "",
            "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 theora/90000\r\n",
            "415",
        ),
    ] {
        let said = room.ask(method, url, headers, body);
        assert!(said.starts_with(&format!("RTSP/1.0 {status}")), "{method} {url} {headers}: {said}");
    }
    room.describe();
    let other = "rtsp://127.0.0.1:8554/live/other/trackID=0";
    assert!(
        room.ask("SETUP", other, "Transport: RTP/AVP/TCP;interleaved=0-1\r\n", "")
            .starts_with("RTSP/1.0 404")
    );
    assert!(room.set_up(7).starts_with("RTSP/1.0 404"));
    assert!(room.set_up(0).contains("200 OK"));
    assert!(!room.closed);
}

#[test]
fn who_breaks_the_protocol_is_told_and_closed() {
    for (bytes, status, kind) in [
        (&b"\x16\x03\x01\x02\0"[..], "400", ErrorKind::Malformed),
        (b"OPTIONS * RTSP/1.0\r\n\r\n", "400", ErrorKind::Malformed),
        (&[b'A'; 20_000], "413", ErrorKind::TooLarge),
    ] {
        let mut room = Room::new();
        let error = room.give(Input::Received(bytes), Now(0)).unwrap_err();
        assert_eq!(error.kind, kind);
        assert!(room.said.starts_with(&format!("RTSP/1.0 {status}")), "{}", room.said);
    }
    let mut room = Room::new();
    let due = room.session.deadline().unwrap();
    assert_eq!(room.give(Input::Timeout, due).unwrap_err().kind, ErrorKind::TimedOut);
    assert!(room.said.starts_with("RTSP/1.0 408"));
}
