//! A client and a server, ours or one that only reads from a sheet.

use std::sync::Arc;

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::{
    access::Proof,
    codec::{Codec, Parameters, samples},
    error::ErrorKind,
    media::{Frame, Payload},
    rtsp::Session,
    session::{Form, Refusal, Session as _},
    time::MediaTime,
};

const URL: &str = "rtsp://127.0.0.1:8554/copies/cam?token=x";

fn name() -> StreamName {
    StreamName::parse("live/cam").unwrap()
}

fn frame(track: TrackId, millis: i64, payload: Payload) -> Frame {
    let time = MediaTime::from_millis(millis);
    Frame { track, dts: time, pts: time, payload }
}

fn opening() -> Opening {
    let avcc = samples::hex(samples::H264_HIGH_720).into();
    let parameters = |track, parameters| frame(track, 0, Payload::Parameters(Arc::new(parameters)));
    Opening {
        parameters: vec![
            parameters(TrackId::VIDEO, Parameters::parse(Codec::H264, avcc).unwrap()),
            parameters(TrackId::AUDIO, Parameters::of_opus(2)),
        ],
        ..Opening::default()
    }
}

fn sound_alone() -> Opening {
    let mut opening = opening();
    opening.parameters.remove(0);
    opening
}

/// Packets of sound, of growing length.
fn sounds(count: i64) -> Vec<Frame> {
    let packet =
        |number: i64| Payload::Audio { codec: Codec::Opus, data: vec![0xfc; 3 + number as usize].into() };
    (0..count).map(|number| frame(TrackId::AUDIO, number * 20, packet(number))).collect()
}

/// What all viewers of these frames are sent.
fn shared(form: &Form, opening: &Opening, frames: &[Frame]) -> BytesMut {
    let mut wire = (form.open)();
    let mut out = BytesMut::new();
    wire.header(opening, &frames[0], &mut out);
    frames.iter().for_each(|frame| wire.frame(frame, &mut out));
    out
}

fn client(credentials: Option<(&str, &str)>) -> Client {
    let credentials =
        credentials.map(|(user, password)| Credentials { user: user.into(), password: password.into() });
    Client::push(Target { url: URL.into(), credentials }, name(), &DoorLimits::default(), Now(0))
}

/// One end, and what it has said to its hub.
struct End<S> {
    session: S,
    events: Vec<Event>,
    closed: bool,
    error: Option<Error>,
}

impl<S: session::Session> End<S> {
    fn new(session: S) -> Self {
        End { session, events: Vec::new(), closed: false, error: None }
    }

    /// Gives one input, and returns what is said to the peer.
    fn give(&mut self, input: Input<'_>, now: Now) -> Vec<u8> {
        if self.closed {
            return Vec::new();
        }
        if let Err(error) = self.session.handle(input, now) {
            (self.error, self.closed) = (Some(error), true);
        }
        let mut sent = Vec::new();
        while let Some(output) = self.session.poll() {
            match output {
                Output::Send(bytes) => sent.extend_from_slice(&bytes),
                Output::Event(event) => self.events.push(event),
                Output::Close => self.closed = true,
                other => panic!("{other:?}"),
            }
        }
        sent
    }
}

/// A client that pushes to a server, with their hubs. What goes over the wire is cut each `piece` bytes.
struct Pair {
    client: End<Client>,
    server: End<Session>,
    piece: usize,
    /// What the server wants proved, as the password of whoever it is.
    password: Option<&'static str>,
    opening: Opening,
    form: Option<&'static Form>,
    proved: Vec<Proof>,
    queries: Vec<String>,
    frames: Vec<Frame>,
}

impl Pair {
    fn new(credentials: Option<(&str, &str)>, password: Option<&'static str>, piece: usize) -> Self {
        Pair {
            client: End::new(client(credentials)),
            server: End::new(Session::new(&DoorLimits::default(), Now(0))),
            piece,
            password,
            opening: opening(),
            form: None,
            proved: Vec::new(),
            queries: Vec::new(),
            frames: Vec::new(),
        }
    }

    /// Brings bytes to the server, and everything that follows from it back and forth, until both are silent.
    fn run(&mut self, mut to_server: Vec<u8>) {
        let mut to_client = Vec::new();
        loop {
            for piece in std::mem::take(&mut to_server).chunks(self.piece) {
                to_client.extend(self.server.give(Input::Received(piece), Now(0)));
                to_client.extend(self.hub_of_server());
            }
            for piece in std::mem::take(&mut to_client).chunks(self.piece) {
                to_server.extend(self.client.give(Input::Received(piece), Now(0)));
                to_server.extend(self.hub_of_client());
            }
            if to_server.is_empty() {
                return;
            }
        }
    }

    fn begin(&mut self) {
        let said = self.client.give(Input::Received(b""), Now(0));
        self.run(said);
    }

    fn hub_of_client(&mut self) -> Vec<u8> {
        let mut said = Vec::new();
        for event in std::mem::take(&mut self.client.events) {
            let input = match event {
                Event::Describe { name: wanted, .. } => {
                    assert_eq!(wanted, name());
                    Input::Described(Box::new(self.opening.clone()))
                }
                Event::Play { name: wanted, form, .. } => {
                    assert_eq!(wanted, name());
                    self.form = Some(form);
                    Input::Answer(Answer::Playing)
                }
                other => panic!("{other:?}"),
            };
            said.extend(self.client.give(input, Now(0)));
        }
        said
    }

    fn hub_of_server(&mut self) -> Vec<u8> {
        let mut said = Vec::new();
        for event in std::mem::take(&mut self.server.events) {
            match event {
                Event::Prove(proof) => self.proved.push(*proof),
                Event::Publish { name, query } => {
                    assert_eq!(name.as_str(), "copies/cam");
                    self.queries.push(query);
                    let proved = |password| self.proved.last().is_some_and(|proof| proof.proves(password));
                    let answer = match self.password {
                        Some(password) if !proved(password) => Answer::Refused(Refusal::Forbidden),
                        _ => Answer::Publishing,
                    };
                    said.extend(self.server.give(Input::Answer(answer), Now(0)));
                }
                Event::Frame(frame) => self.frames.push(frame),
                other => self.client.events.extend((!matches!(other, Event::Unpublish)).then_some(other)),
            }
        }
        said
    }
}

#[test]
fn what_is_pushed_comes_out_there_however_it_is_cut() {
    for piece in [1, 7, 100_000] {
        let mut pair = Pair::new(None, None, piece);
        pair.begin();
        let form = pair.form.expect("it plays");
        assert_eq!((form.name, pair.queries.as_slice()), ("rtsp", &["token=x".to_owned()][..]));
        let frames = sounds(40);
        pair.run(shared(form, &opening(), &frames).to_vec());
        let said = pair.client.give(Input::Ended, Now(0));
        assert!(
            String::from_utf8_lossy(&said)
                .contains("TEARDOWN rtsp://127.0.0.1:8554/copies/cam?token=x RTSP/1.0")
        );
        pair.run(said);
        assert!(pair.client.closed && pair.client.error.is_none());
        let data = |frames: &[Frame]| -> Vec<_> {
            let sound = frames.iter().filter_map(|frame| match &frame.payload {
                Payload::Audio { data, .. } => Some((data.clone(), frame.pts.as_nanos())),
                _ => None,
            });
            sound.collect()
        };
        let (got, sent) = (data(&pair.frames), data(&frames));
        let shift = got[0].1 - sent[0].1;
        assert_eq!(got.len(), 40);
        assert!(got.iter().zip(&sent).all(|(got, sent)| got.0 == sent.0 && got.1 == sent.1 + shift));
    }
}

#[test]
fn sound_alone_is_set_up_on_the_channels_that_it_has_for_all() {
    let mut pair = Pair::new(None, None, 1000);
    pair.opening = sound_alone();
    pair.begin();
    assert_eq!(pair.form.map(|form| form.name), Some("rtsp-audio"));
}

#[test]
fn a_password_is_proved_and_a_wrong_one_is_given_up() {
    let mut pair = Pair::new(Some(("ann", "s3 cret")), Some("s3 cret"), 1000);
    pair.begin();
    assert!(pair.form.is_some(), "{:?}", pair.client.error);
    assert_eq!(pair.proved.last().map(|proof| proof.user.as_str()), Some("ann"));
    let mut pair = Pair::new(Some(("ann", "wrong")), Some("s3 cret"), 1000);
    pair.begin();
    let error = pair.client.error.expect("it is refused");
    assert!(error.why.contains("does not take our user"), "{error}");
    assert!(pair.form.is_none() && pair.queries.len() <= 3);
    let mut pair = Pair::new(None, Some("s3 cret"), 1000);
    pair.begin();
    let error = pair.client.error.expect("it is refused");
    assert!(error.why.contains("wants a user and a password"), "{error}");
}

/// A client, and what it says of each answer on a sheet.
struct Sheet(End<Client>);

impl Sheet {
    fn new() -> Self {
        let mut client = End::new(client(Some(("ann", "s3cret"))));
        let said = text(client.give(Input::Received(b""), Now(0)));
        assert!(
            said.starts_with("OPTIONS rtsp://127.0.0.1:8554/copies/cam?token=x RTSP/1.0\r\nCSeq: 1\r\n"),
            "{said}"
        );
        Sheet(client)
    }

    /// Answers the last request, and returns what is said to that.
    fn answer(&mut self, status: &str, headers: &str, now: Now) -> String {
        let number = self.0.session.number;
        let answer = format!("RTSP/1.0 {status}\r\nCSeq: {number}\r\n{headers}\r\n");
        self.hear(&answer, now)
    }

    fn hear(&mut self, words: &str, now: Now) -> String {
        text(self.0.give(Input::Received(words.as_bytes()), now))
    }

    /// Up to the announcement, which is returned.
    fn announced(public: &str, opening: Opening) -> (Self, String) {
        let mut sheet = Sheet::new();
        assert_eq!(sheet.answer("200 OK", public, Now(0)), "");
        assert!(matches!(sheet.0.events.pop(), Some(Event::Describe { .. })));
        assert!(sheet.0.session.deadline().is_none(), "the hub keeps its own time");
        let said = text(sheet.0.give(Input::Described(Box::new(opening)), Now(0)));
        (sheet, said)
    }

    /// Up to where it pushes.
    fn pushing(public: &str, session: &str) -> Self {
        let (mut sheet, said) = Sheet::announced(public, sound_alone());
        assert!(said.starts_with("ANNOUNCE rtsp://127.0.0.1:8554/copies/cam?token=x RTSP/1.0"), "{said}");
        assert!(said.contains("a=control:trackID=1\r\n") && !said.contains("m=video"), "{said}");
        let said = sheet.answer("200 OK", "", Now(0));
        assert!(
            said.starts_with("SETUP rtsp://127.0.0.1:8554/copies/cam?token=x/trackID=1 RTSP/1.0"),
            "{said}"
        );
        assert!(said.contains("Transport: RTP/AVP/TCP;unicast;interleaved=2-3;mode=record\r\n"), "{said}");
        let agreed = format!("Session: {session}\r\nTransport: RTP/AVP/TCP;unicast;interleaved=2-3\r\n");
        let said = sheet.answer("200 OK", &agreed, Now(0));
        assert!(said.starts_with("RECORD ") && said.contains("Session: 1f\r\n"), "{said}");
        assert_eq!(sheet.answer("200 OK", "Session: 1f\r\n", Now(0)), "");
        assert!(matches!(sheet.0.events.pop(), Some(Event::Play { form, .. }) if form.name == "rtsp-audio"));
        assert_eq!(sheet.0.give(Input::Answer(Answer::Playing), Now(0)), b"");
        sheet
    }

    fn error(&self) -> Error {
        self.0.error.expect("it is over")
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

fn seconds(seconds: u64) -> Now {
    Now(0).after(Duration::from_secs(seconds))
}

#[test]
fn a_server_hears_of_us_within_its_time_and_may_ask_too() {
    let mut sheet = Sheet::pushing("Public: OPTIONS, ANNOUNCE, get_parameter\r\n", "1f;timeout=8");
    assert_eq!(sheet.0.session.deadline(), Some(seconds(4)));
    assert_eq!(sheet.0.give(Input::Timeout, seconds(3)), b"");
    let said = text(sheet.0.give(Input::Timeout, seconds(4)));
    assert!(said.starts_with("GET_PARAMETER ") && said.contains("Session: 1f\r\n"), "{said}");
    assert_eq!(sheet.answer("451 Whatever", "", seconds(5)), "");
    // One that does not answer is asked again, and reports of what it has are no answers.
    assert!(!sheet.0.give(Input::Timeout, seconds(8)).is_empty());
    assert_eq!(sheet.hear("$\x03\0\x02..", seconds(9)), "");
    assert!(!sheet.0.give(Input::Timeout, seconds(12)).is_empty());
    // A number that has grown old is no reason to stop.
    let said = sheet.answer(
        "401 Unauthorized",
        "WWW-Authenticate: Digest realm=\"a\", nonce=\"b\"\r\n",
        seconds(13),
    );
    assert!(
        said.starts_with("GET_PARAMETER ") && said.contains("Authorization: Digest username=\"ann\""),
        "{said}"
    );
    let said =
        sheet.hear("OPTIONS * RTSP/1.0\r\nCSeq: 70\r\n\r\nFOO * RTSP/1.0\r\nCSeq: 71\r\n\r\n", seconds(13));
    assert!(said.starts_with("RTSP/1.0 200 OK\r\nPublic: ") && said.contains("CSeq: 70"), "{said}");
    assert!(said.contains("RTSP/1.0 501 Not Implemented\r\nCSeq: 71"), "{said}");
    assert!(!sheet.0.closed);
    let said = sheet.hear("TEARDOWN * RTSP/1.0\r\nCSeq: 72\r\n\r\n", seconds(13));
    assert!(said.contains("CSeq: 72") && sheet.0.closed && sheet.0.error.is_none(), "{said}");
    assert!(matches!(sheet.0.events[..], [Event::Stop]));

    let mut sheet = Sheet::pushing("", "1f");
    assert_eq!(sheet.0.session.deadline(), Some(seconds(30)));
    assert!(text(sheet.0.give(Input::Timeout, seconds(30))).starts_with("OPTIONS "));
    sheet.answer("454 Session Not Found", "", seconds(31));
    assert!(sheet.error().why.contains("knows our session no more"));
}

#[test]
fn a_server_that_says_no_is_left_with_its_reason() {
    for (status, why) in [
        ("302 Moved", "elsewhere"),
        ("403 Forbidden", "taken (403)"),
        ("404 Not Found", "(404)"),
        ("405 Method Not Allowed", "takes no streams"),
        ("501 Not Implemented", "takes no streams"),
        ("599 What", "has failed"),
        ("499 What", "does not understand"),
    ] {
        let (mut sheet, _) = Sheet::announced("", opening());
        assert_eq!(sheet.answer(status, "Location: rtsp://h/\r\n", Now(0)), "");
        assert!(sheet.error().why.contains(why), "{status}: {}", sheet.error());
    }
    for (transport, why) in [
        ("RTP/AVP;unicast;server_port=5000-5001", "no packets inside"),
        ("", "no packets inside"),
        ("RTP/AVP/TCP;interleaved=0-1", "other channels"),
    ] {
        let (mut sheet, _) = Sheet::announced("", sound_alone());
        sheet.answer("200 OK", "", Now(0));
        sheet.answer("200 OK", &format!("Session: 1f\r\nTransport: {transport}\r\n"), Now(0));
        assert!(sheet.error().why.contains(why), "{transport}: {}", sheet.error());
    }
    let (mut sheet, _) = Sheet::announced("", sound_alone());
    sheet.answer("200 OK", &format!("Session: {}\r\n", "x".repeat(257)), Now(0));
    assert_eq!(sheet.error().kind, ErrorKind::Malformed);
    let (sheet, said) = Sheet::announced("", Opening::default());
    assert_eq!((sheet.error().kind, said.as_str()), (ErrorKind::Unsupported, ""));
    let mut sheet = Sheet::new();
    assert_eq!(sheet.0.session.deadline(), Some(seconds(10)));
    sheet.0.give(Input::Timeout, seconds(10));
    assert_eq!(sheet.error().kind, ErrorKind::TimedOut);
}

#[test]
fn answers_to_what_was_not_asked_change_nothing() {
    let mut sheet = Sheet::new();
    assert_eq!(sheet.hear("RTSP/1.0 200 OK\r\nCSeq: 7\r\n\r\nRTSP/1.0 404 No\r\n\r\nRTSP/1.0 100 Continue\r\nCSeq: 1\r\n\r\n", Now(0)), "");
    assert!(sheet.0.events.is_empty() && !sheet.0.closed);
    // A server need not know the first question.
    sheet.answer("404 Not Found", "", Now(0));
    assert!(matches!(sheet.0.events[..], [Event::Describe { .. }]));
    sheet.answer("200 OK", "", Now(0));
    assert_eq!(sheet.0.events.len(), 1);
}

#[test]
fn the_stream_may_end_at_any_time() {
    let mut sheet = Sheet::new();
    assert_eq!(sheet.0.give(Input::Ended, Now(0)), b"");
    assert!(sheet.0.closed && sheet.0.error.is_none());
    let mut sheet = Sheet::pushing("", "1f");
    let said = sheet.0.give(Input::Shutdown, Now(0));
    let goodbye = inbox::next(&said, 0).unwrap();
    assert!(
        matches!(goodbye, Some((Item::Packet { channel: 3, bytes: [.., 0x81, 203, 0, 1, _, _, _, _] }, _))),
        "{goodbye:?}"
    );
    assert!(String::from_utf8_lossy(&said).contains("TEARDOWN ") && sheet.0.closed);
    let (mut sheet, _) = Sheet::announced("", sound_alone());
    sheet.0.give(Input::Answer(Answer::Playing), Now(0));
    assert!(!sheet.0.closed, "nobody has asked");
}

proptest! {
    #[test]
    fn whatever_a_server_says_is_read_without_a_panic(
        words in proptest::collection::vec((
            "(RTSP/1.0 (200|401|404|100) [A-Z]{0,3}|OPTIONS \\* RTSP/1.0|\\$..)\r\n",
            0..6_u32,
            "((Session: [a-z;=0-9]{0,9}|Transport: RTP/AVP/TCP;interleaved=[0-9]-[0-9]|WWW-Authenticate: Digest .{0,9}|Content-Length: [0-9])\r\n){0,3}",
        ), 0..12),
        piece in 1..40_usize,
    ) {
        let mut end = End::new(client(Some(("ann", "s3cret"))));
        let bytes: String = words.iter().map(|(line, number, more)| format!("{line}CSeq: {number}\r\n{more}\r\n")).collect();
        let mut said = end.give(Input::Received(b""), Now(0)).len();
        for piece in bytes.as_bytes().chunks(piece) {
            said += end.give(Input::Received(piece), Now(0)).len();
            for event in std::mem::take(&mut end.events) {
                let input = match event {
                    Event::Describe { .. } => Input::Described(Box::new(opening())),
                    Event::Play { .. } => Input::Answer(Answer::Playing),
                    _ => continue,
                };
                said += end.give(input, Now(0)).len();
            }
        }
        prop_assert!(said < 64 << 10);
        prop_assert_eq!(end.session.received() >= end.session.passed, true);
    }
}
