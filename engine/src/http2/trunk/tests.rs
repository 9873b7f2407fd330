//! Two ends in memory: a trunk, and `h2` as a client. No socket, so bytes can be cut anywhere, and held back.

#[cfg(feature = "webrtc")]
mod bodies;

use std::future::Future;

use crate::session::{self, Answer as HubAnswer, Session as _};
use h2::client::{self, ResponseFuture, SendRequest};
use http::{HeaderMap, Request, StatusCode};
use proptest::prelude::*;

use super::{super::PREFACE, *};

const START: Now = Now(1_000_000_000);
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A client and a trunk across from it.
struct Pair {
    trunk: Trunk,
    pipe: Pipe,
    client: client::Connection<Pipe>,
    requests: SendRequest<Bytes>,
    outputs: Vec<Output>,
    /// All that the trunk has sent.
    sent: Vec<u8>,
    /// How the client's end of the connection has ended.
    ended: Option<Result<(), Error>>,
    now: Now,
}

/// What a client has got of an answer.
struct Got {
    head: ResponseFuture,
    body: Option<RecvStream>,
    status: Option<StatusCode>,
    fields: HeaderMap,
    bytes: Vec<u8>,
    /// It is whole, or was cut off for this reason.
    end: Option<Result<(), Option<Reason>>>,
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn trunk() -> Trunk {
    Trunk::new(&DoorLimits::default(), START.after(HANDSHAKE), START)
}

impl Pair {
    fn new() -> Self {
        Self::with(&client::Builder::new())
    }

    fn with(rules: &client::Builder) -> Self {
        let pipe = Pipe::default();
        let mut handshake = Box::pin(rules.handshake::<_, Bytes>(pipe.clone()));
        let Poll::Ready(Ok((requests, client))) = handshake.as_mut().poll(&mut context()) else {
            panic!("a client does not wait before it speaks");
        };
        let mut pair = Pair {
            trunk: trunk(),
            pipe,
            client,
            requests,
            outputs: Vec::new(),
            sent: Vec::new(),
            ended: None,
            now: START,
        };
        pair.talk();
        pair
    }

    /// Lets both ends talk until neither has anything to say.
    fn talk(&mut self) {
        loop {
            let said = self.hear_client();
            let mut answered = false;
            while let Some(bytes) = self.trunk.next_send() {
                assert!(self.trunk.next_send().is_none(), "one send at a time");
                answered = true;
                self.pipe.put(&bytes);
                self.sent.extend_from_slice(&bytes);
                self.trunk.sent(bytes.len());
                self.trunk.work(self.now);
            }
            self.drain();
            if !said && !answered {
                return;
            }
        }
    }

    /// Takes what the client says to the trunk, and nothing back; whether it was something.
    fn hear_client(&mut self) -> bool {
        if self.ended.is_none()
            && let Poll::Ready(end) = Pin::new(&mut self.client).poll(&mut context())
        {
            self.ended = Some(end);
        }
        let said = self.pipe.take();
        self.trunk.receive(&said, self.now);
        self.trunk.work(self.now);
        self.drain();
        !said.is_empty()
    }

    fn drain(&mut self) {
        self.outputs.extend(std::iter::from_fn(|| self.trunk.poll()));
    }

    fn ask(&mut self, path: &str) -> Got {
        let request = Request::get(format!("http://door{path}")).body(()).unwrap();
        assert!(self.requests.poll_ready(&mut context()).is_ready(), "there is room for one more");
        let (head, _) = self.requests.send_request(request, true).unwrap();
        Got { head, body: None, status: None, fields: HeaderMap::new(), bytes: Vec::new(), end: None }
    }

    /// The branch whose request came last.
    fn asked(&self) -> BranchId {
        let asked = |output: &Output| match output {
            Output::Asked { branch, .. } => Some(*branch),
            _ => None,
        };
        self.outputs.iter().rev().find_map(asked).expect("a request has come")
    }

    fn answer(&mut self, branch: BranchId, text: &str) -> usize {
        self.trunk.answer(branch, &Bytes::copy_from_slice(text.as_bytes()), self.now)
    }

    /// Says that an answer is whole, in the one way there is.
    fn end(&mut self, branch: BranchId) {
        let taken = self.trunk.answer(branch, &end(), self.now);
        assert!(taken > 0, "there is always room for an end");
        self.trunk.leave(branch, self.now);
        self.trunk.work(self.now);
    }

    fn faults(&self) -> Vec<&Fault> {
        let fault = |output: &'_ Output| matches!(output, Output::Broken(_));
        let broken = self.outputs.iter().filter(|output| fault(output));
        broken.map(|output| if let Output::Broken(fault) = output { fault } else { unreachable!() }).collect()
    }

    /// Which branches the trunk has reset, and why.
    fn resets(&self) -> Vec<(u32, Reason)> {
        let (mut resets, mut rest) = (Vec::new(), self.sent.as_slice());
        while let [high, middle, low, kind, _, s3, s2, s1, s0, after @ ..] = rest {
            let (payload, next) = after.split_at(u32::from_be_bytes([0, *high, *middle, *low]) as usize);
            if *kind == RST_STREAM {
                let reason = u32::from_be_bytes(payload.try_into().unwrap());
                resets.push((u32::from_be_bytes([*s3, *s2, *s1, *s0]), Reason::from(reason)));
            }
            rest = next;
        }
        resets
    }

    fn is_closed(&self) -> bool {
        matches!(self.outputs.last(), Some(Output::Close))
    }

    /// Why the client was sent away.
    fn sent_away(&self) -> Option<Reason> {
        match &self.ended {
            Some(Ok(())) => Some(Reason::NO_ERROR),
            Some(Err(error)) => error.reason(),
            None => None,
        }
    }
}

impl Got {
    /// Reads what is there, and tells the trunk that there is room again if `releases`.
    fn read(&mut self, releases: bool) {
        if self.body.is_none() && self.end.is_none() {
            match Pin::new(&mut self.head).poll(&mut context()) {
                Poll::Ready(Ok(response)) => {
                    self.status = Some(response.status());
                    self.fields = response.headers().clone();
                    self.body = Some(response.into_body());
                }
                Poll::Ready(Err(error)) => self.end = Some(Err(error.reason())),
                Poll::Pending => {}
            }
        }
        let Some(body) = &mut self.body else { return };
        while let (None, Poll::Ready(data)) = (&self.end, body.poll_data(&mut context())) {
            match data {
                Some(Ok(data)) => {
                    self.bytes.extend_from_slice(&data);
                    if releases {
                        body.flow_control().release_capacity(data.len()).unwrap();
                    }
                }
                Some(Err(error)) => self.end = Some(Err(error.reason())),
                None => self.end = Some(Ok(())),
            }
        }
    }
}

/// The end of an answer, as a session says it.
fn end() -> Bytes {
    let mut session = crate::http::Session::carried(&DoorLimits::default(), START);
    let head = b"GET /nothing/is/here HTTP/1.1\r\nhost: door\r\n\r\n";
    session.handle(session::Input::Received(head), START).unwrap();
    let mut last = None;
    while let Some(output) = session.poll() {
        if let session::Output::Send(bytes) = output {
            last = Some(bytes);
        }
    }
    last.filter(|bytes| is_end(bytes)).expect("the last that is sent is the end")
}

const OK: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n";

/// A frame of its kind, on the trunk itself (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[high, middle, low, kind, flags, 0, 0, 0, 0], payload].concat()
}

const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;

#[test]
fn a_request_comes_as_text_and_its_answer_goes_as_frames() {
    let mut pair = Pair::new();
    let mut got = pair.ask("/live/cam/index.m3u8?token=a");
    pair.talk();
    let Some(Output::Asked { branch, head }) = pair.outputs.pop() else { panic!("{:?}", pair.outputs) };
    assert_eq!(head, b"GET /live/cam/index.m3u8?token=a HTTP/1.1\r\nhost: door\r\n\r\n");
    let text = format!("{OK}#EXTM3U\n");
    assert_eq!(pair.answer(branch, &text), text.len());
    pair.end(branch);
    pair.talk();
    got.read(true);
    assert_eq!(
        (got.status, got.bytes.as_slice(), got.end),
        (Some(StatusCode::OK), &b"#EXTM3U\n"[..], Some(Ok(())))
    );
    assert_eq!(got.fields.len(), 1, "{:?}", got.fields);
    assert_eq!(got.fields["content-type"], "text/plain");
    assert!(pair.outputs.is_empty() && pair.trunk.deadline() == Some(START.after(pair.trunk.idle)));
}

#[test]
fn no_more_of_an_answer_is_taken_than_its_window_has_room_for_and_the_rest_when_it_has() {
    let mut rules = client::Builder::new();
    rules.initial_window_size(1000);
    let mut pair = Pair::with(&rules);
    let (mut slow, mut quick) = (pair.ask("/slow"), pair.ask("/quick"));
    pair.talk();
    let (slow_id, quick_id) = (BranchId(1), BranchId(3));
    let body: Vec<u8> = (0..20_000_u32).map(|at| (at % 251) as u8).collect();
    let all = Bytes::from([OK.as_bytes(), &body].concat());
    let mut at = pair.trunk.answer(slow_id, &all, pair.now);
    assert_eq!(at, OK.len() + 1000, "the window of the branch is full");
    assert_eq!(pair.trunk.answer(slow_id, &all.slice(at..), pair.now), 0);
    pair.talk();
    slow.read(false);
    assert!(pair.outputs.iter().all(|output| !matches!(output, Output::Taken { .. })));
    // The other is not held up by that.
    assert_eq!(pair.answer(quick_id, &format!("{OK}quick")), OK.len() + 5);
    pair.end(quick_id);
    pair.talk();
    quick.read(true);
    assert_eq!((quick.bytes.as_slice(), quick.end), (&b"quick"[..], Some(Ok(()))));
    // The client reads on.
    slow.body.as_mut().unwrap().flow_control().release_capacity(1000).unwrap();
    while at < all.len() {
        pair.outputs.clear();
        pair.talk();
        slow.read(true);
        let taken = pair.outputs.iter().find_map(|output| match output {
            Output::Taken { branch, bytes } if *branch == slow_id => Some(*bytes),
            _ => None,
        });
        at += taken.expect("there is room again");
        if at < all.len() {
            at += pair.trunk.answer(slow_id, &all.slice(at..), pair.now);
        }
    }
    pair.end(slow_id);
    for _ in 0..2 {
        pair.talk();
        slow.read(true);
    }
    assert!(slow.bytes == body && slow.end == Some(Ok(())));
}

#[test]
fn what_is_kept_for_a_client_that_takes_nothing_is_bounded() {
    let mut rules = client::Builder::new();
    rules.initial_window_size(1 << 30).initial_connection_window_size(1 << 30);
    let mut pair = Pair::with(&rules);
    let count = BRANCHES_MAX as usize;
    let answers: Vec<Got> = (0..count).map(|number| pair.ask(&format!("/{number}"))).collect();
    pair.talk();
    let block = Bytes::from([OK.as_bytes(), &vec![7; 1 << 20]].concat());
    let mut given = 0;
    for number in 0..count {
        let branch = BranchId(u32::try_from(2 * number + 1).unwrap());
        let mut at = 0;
        loop {
            let taken = pair.trunk.answer(branch, &block.slice(at..), pair.now);
            pair.trunk.work(pair.now);
            if taken == 0 {
                break;
            }
            at += taken;
        }
        given += at;
    }
    // Each has what is kept for it, and one trunk for all what waits for the kernel.
    let most =
        count * (OK.len() + BRANCH_BYTES_MAX) + 2 * (super::super::pipe::OUTGOING_BYTES_MAX + (32 << 10));
    assert!(given > count * OK.len() && given <= most, "{given} of {most}");
    assert!(pair.trunk.next_send().unwrap().len() <= super::super::pipe::OUTGOING_BYTES_MAX + (32 << 10));
    drop(answers);
}

#[test]
fn a_request_that_is_called_off_is_gone_and_others_go_on() {
    let mut pair = Pair::new();
    let (gone, mut kept) = (pair.ask("/gone"), pair.ask("/kept"));
    pair.talk();
    drop(gone);
    pair.outputs.clear();
    pair.talk();
    assert!(matches!(pair.outputs.as_slice(), [Output::Gone { branch: BranchId(1) }]), "{:?}", pair.outputs);
    assert_eq!(pair.answer(BranchId(1), OK), 0, "there is nobody to answer");
    pair.trunk.leave(BranchId(1), pair.now);
    assert_eq!(pair.answer(BranchId(3), OK), OK.len());
    pair.end(BranchId(3));
    pair.talk();
    kept.read(true);
    assert_eq!((kept.status, kept.end), (Some(StatusCode::OK), Some(Ok(()))));
}

#[test]
fn an_answer_that_is_left_before_its_end_is_seen_to_be_cut_off() {
    let mut pair = Pair::new();
    let (mut begun, mut silent) = (pair.ask("/begun"), pair.ask("/silent"));
    pair.talk();
    pair.answer(BranchId(1), &format!("{OK}half"));
    pair.talk();
    begun.read(true);
    pair.trunk.leave(BranchId(1), pair.now);
    pair.trunk.leave(BranchId(3), pair.now);
    pair.trunk.work(pair.now);
    pair.talk();
    begun.read(true);
    silent.read(true);
    assert_eq!((begun.bytes.as_slice(), begun.end), (&b"half"[..], Some(Err(Some(Reason::INTERNAL_ERROR)))));
    assert_eq!(silent.end, Some(Err(Some(Reason::REFUSED_STREAM))));
    assert!(!pair.is_closed());
}

#[test]
fn the_body_of_a_request_is_dropped_up_to_a_bound_before_and_after_the_answer() {
    let mut pair = Pair::new();
    let post = |pair: &mut Pair| {
        let request = Request::post("http://door/").body(()).unwrap();
        let (head, stream) = pair.requests.send_request(request, false).unwrap();
        let got =
            Got { head, body: None, status: None, fields: HeaderMap::new(), bytes: Vec::new(), end: None };
        pair.talk();
        (got, stream)
    };
    let (mut got, mut stream) = post(&mut pair);
    stream.send_data(Bytes::from(vec![1; 1000]), false).unwrap();
    pair.talk();
    pair.answer(BranchId(1), &format!("{OK}no"));
    pair.end(BranchId(1));
    pair.talk();
    got.read(true);
    assert_eq!((got.bytes.as_slice(), got.end), (&b"no"[..], Some(Ok(()))));
    assert!(stream.poll_reset(&mut context()).is_pending(), "it may be heard to its end");
    stream.send_data(Bytes::from(vec![1; 1000]), true).unwrap();
    pair.talk();
    assert!(pair.trunk.bodies.is_empty() && pair.trunk.branches.is_empty());

    let (mut got, mut stream) = post(&mut pair);
    let most = limits::HTTP_BODY_BYTES_MAX;
    stream.send_data(Bytes::from(vec![1; 10 * most]), true).unwrap();
    pair.talk();
    assert!(stream.poll_reset(&mut context()).is_pending());
    pair.answer(BranchId(3), &format!("{OK}no"));
    pair.end(BranchId(3));
    pair.talk();
    got.read(true);
    assert_eq!((got.bytes.as_slice(), got.end), (&b"no"[..], Some(Ok(()))));
    assert!(pair.resets().contains(&(3, Reason::NO_ERROR)), "{:?}", pair.resets());
    assert!(pair.trunk.received < 3 * most as u64, "{} bytes were taken", pair.trunk.received);
    assert!(!pair.is_closed());
}

#[test]
fn requests_that_are_called_off_again_and_again_end_the_trunk() {
    let mut pair = Pair::new();
    // All at once: `h2` sees it.
    for number in 0..30 {
        let request = Request::get(format!("http://door/{number}")).body(()).unwrap();
        let (_, mut stream) = pair.requests.send_request(request, false).unwrap();
        let _ = Pin::new(&mut pair.client).poll(&mut context());
        stream.send_reset(Reason::CANCEL);
        let _ = Pin::new(&mut pair.client).poll(&mut context());
    }
    pair.talk();
    assert_eq!(pair.sent_away(), Some(Reason::ENHANCE_YOUR_CALM));
    assert!(pair.is_closed() && pair.faults().len() == 1, "{:?}", pair.outputs);

    // One after the other, each after a look at the one before.
    let mut pair = Pair::new();
    let mut count = 0;
    while pair.ended.is_none() && count < 1000 {
        count += 1;
        let got = pair.ask("/again");
        pair.talk();
        let branch = pair.asked();
        drop(got);
        pair.talk();
        pair.trunk.leave(branch, pair.now);
    }
    assert!((100..400).contains(&count), "{count}");
    assert_eq!(pair.sent_away(), Some(Reason::ENHANCE_YOUR_CALM));
    assert!(pair.is_closed() && pair.faults().len() == 1, "{:?}", pair.faults());
}

#[test]
fn a_flood_of_frames_that_ask_for_nothing_ends_the_trunk() {
    for flood in [frame(PING, 0, &[7; 8]), frame(SETTINGS, 0, &[])] {
        let mut trunk = trunk();
        trunk.receive(&[PREFACE.as_slice(), &frame(SETTINGS, 0, &[])].concat(), START);
        let (mut outputs, mut said) = (Vec::new(), 0);
        while !outputs.iter().any(|output| matches!(output, Output::Close)) && said < 10 << 20 {
            let bytes = flood.repeat(500);
            said += bytes.len();
            trunk.receive(&bytes, START);
            while let Some(sent) = trunk.next_send() {
                trunk.sent(sent.len());
                trunk.work(START);
            }
            outputs.extend(std::iter::from_fn(|| trunk.poll()));
        }
        assert!((1 << 20..2 << 20).contains(&said), "{said} bytes were taken");
        assert!(
            matches!(outputs.as_slice(), [Output::Broken(fault), Output::Close]
            if fault.kind() == ErrorKind::TooLarge),
            "{outputs:?}"
        );
    }
}

#[test]
fn whoever_goes_on_asking_and_takes_nothing_is_sent_away() {
    let mut trunk = trunk();
    trunk.receive(&[PREFACE.as_slice(), &frame(SETTINGS, 0, &[])].concat(), START);
    let mut outputs = Vec::new();
    let mut now = START;
    while outputs.is_empty() {
        // Slowly, so that it is not a flood.
        now = now.after(Duration::from_secs(1));
        trunk.receive(&frame(PING, 0, &[7; 8]).repeat(200), now);
        outputs.extend(std::iter::from_fn(|| trunk.poll()));
        assert!(trunk.pipe.unread() <= UNREAD_BYTES_MAX + 4000);
        assert!(now < START.after(Duration::from_secs(600)), "it goes on for ever");
    }
    assert!(
        matches!(&outputs[0], Output::Broken(fault) if fault.to_string().contains("does not take")),
        "{outputs:?}"
    );
    // The last word finds no room, and is not waited for.
    trunk.time_out(trunk.deadline().expect("it is on its way out"));
    assert!(matches!(trunk.poll(), Some(Output::Close)) && trunk.deadline().is_none());
}

#[test]
fn what_is_no_http2_is_told_so_and_closed() {
    for bytes in [&b"GET / HTTP/1.1\r\nHost: door\r\n\r\n"[..], &[0; 400]] {
        let mut trunk = trunk();
        trunk.receive(bytes, START);
        let mut outputs: Vec<_> = std::iter::from_fn(|| trunk.poll()).collect();
        while let Some(sent) = trunk.next_send() {
            trunk.sent(sent.len());
            trunk.work(START);
        }
        outputs.extend(std::iter::from_fn(|| trunk.poll()));
        assert!(
            matches!(outputs.as_slice(), [Output::Broken(fault), Output::Close]
            if fault.kind() == ErrorKind::Malformed),
            "{outputs:?}"
        );
    }
    // The preface, and then nonsense: a client is told what it did.
    let mut pair = Pair::new();
    pair.trunk.receive(&frame(PING, 0, &[1, 2, 3]), pair.now);
    pair.talk();
    assert_eq!(pair.sent_away(), Some(Reason::PROTOCOL_ERROR));
    assert!(pair.is_closed() && pair.faults().len() == 1, "{:?}", pair.outputs);
}

#[test]
fn a_head_that_is_too_large_is_refused_before_anybody_is_asked() {
    let mut pair = Pair::new();
    let mut request = Request::get("http://door/").body(()).unwrap();
    for number in 0..60 {
        let name: http::HeaderName = format!("x-{number}").parse().unwrap();
        request.headers_mut().insert(name, "v".repeat(400).parse().unwrap());
    }
    let (head, _) = pair.requests.send_request(request, true).unwrap();
    let mut got =
        Got { head, body: None, status: None, fields: HeaderMap::new(), bytes: Vec::new(), end: None };
    for _ in 0..2 {
        pair.talk();
        got.read(true);
    }
    assert_eq!(got.status.map(|status| status.as_u16()), Some(431), "{:?}", got.end);
    assert!(pair.outputs.is_empty(), "{:?}", pair.outputs);
}

#[test]
fn whoever_asks_for_nothing_has_its_time_and_a_branch_has_no_end_of_it() {
    let mut pair = Pair::new();
    assert_eq!(pair.trunk.deadline(), Some(START.after(HANDSHAKE)), "from accept, whatever it has said");
    pair.trunk.time_out(START.after(HANDSHAKE));
    pair.talk();
    assert!(pair.is_closed() && pair.faults()[0].kind() == ErrorKind::TimedOut, "{:?}", pair.outputs);
    assert_eq!(pair.sent_away(), Some(Reason::NO_ERROR));

    let mut pair = Pair::new();
    let _got = pair.ask("/held");
    pair.talk();
    assert_eq!(pair.trunk.deadline(), None);
    pair.now = START.after(Duration::from_secs(100));
    assert_eq!(pair.answer(BranchId(1), OK), OK.len());
    pair.end(BranchId(1));
    pair.talk();
    let idle = pair.now.after(pair.trunk.idle);
    assert_eq!(pair.trunk.deadline(), Some(idle));
    pair.trunk.time_out(idle);
    pair.talk();
    assert!(pair.is_closed() && pair.faults().is_empty(), "{:?}", pair.outputs);
}

#[test]
fn a_trunk_that_is_shut_down_tells_its_client_and_ends_with_its_last_answer() {
    let mut pair = Pair::new();
    let mut got = pair.ask("/last");
    pair.talk();
    pair.trunk.shut_down(pair.now);
    pair.talk();
    assert!(!pair.is_closed());
    assert!(pair.requests.poll_ready(&mut context()).map_ok(drop).is_ready());
    assert_eq!(pair.answer(BranchId(1), &format!("{OK}all of it")), OK.len() + 9);
    pair.end(BranchId(1));
    pair.talk();
    got.read(true);
    assert_eq!((got.bytes.as_slice(), got.end), (&b"all of it"[..], Some(Ok(()))));
    assert!(pair.is_closed() && pair.faults().is_empty(), "{:?}", pair.outputs);

    // A client that does not answer is not waited for.
    let mut trunk = trunk();
    trunk.receive(&[PREFACE.as_slice(), &frame(SETTINGS, 0, &[])].concat(), START);
    trunk.shut_down(START);
    trunk.time_out(trunk.deadline().expect("it is on its way out"));
    assert!(matches!(std::iter::from_fn(|| trunk.poll()).last(), Some(Output::Close)));
}

#[test]
fn a_session_says_through_a_trunk_what_it_says_without() {
    let mut pair = Pair::new();
    let mut got = pair.ask("/live/cam.flv?token=x");
    pair.talk();
    let Some(Output::Asked { branch, head }) = pair.outputs.pop() else { panic!("{:?}", pair.outputs) };
    let mut session = crate::http::Session::carried(&DoorLimits::default(), START);
    session.handle(session::Input::Received(&head), START).unwrap();
    assert!(
        matches!(session.poll(), Some(session::Output::Event(session::Event::Play { name, query, form }))
        if name.as_str() == "live/cam" && query == "token=x" && form.name == "flv")
    );
    session.handle(session::Input::Answer(HubAnswer::Playing), START).unwrap();
    // The hub's part: the stream between the head and the end.
    let mut said: VecDeque<Bytes> = VecDeque::new();
    let sends = |session: &mut crate::http::Session, said: &mut VecDeque<Bytes>| {
        while let Some(output) = session.poll() {
            if let session::Output::Send(bytes) = output {
                said.push_back(bytes);
            }
        }
    };
    sends(&mut session, &mut said);
    said.push_back(Bytes::from_static(b"FLV and so on"));
    session.handle(session::Input::Ended, START).unwrap();
    sends(&mut session, &mut said);
    for bytes in &said {
        assert_eq!(pair.trunk.answer(branch, bytes, START), bytes.len());
    }
    pair.trunk.leave(branch, START);
    pair.trunk.work(START);
    pair.talk();
    got.read(true);
    assert_eq!((got.bytes.as_slice(), got.end), (&b"FLV and so on"[..], Some(Ok(()))));
    assert_eq!(got.fields["content-type"], "video/x-flv");
    for name in ["connection", "transfer-encoding"] {
        assert!(!got.fields.contains_key(name), "{:?}", got.fields);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn requests_are_the_same_however_their_bytes_are_cut(cuts in prop::collection::vec(1..60_usize, 1..10)) {
        let pipe = Pipe::default();
        let mut handshake = Box::pin(client::Builder::new().handshake::<_, Bytes>(pipe.clone()));
        let Poll::Ready(Ok((mut requests, mut client))) = handshake.as_mut().poll(&mut context()) else {
            panic!("a client does not wait before it speaks");
        };
        let mut answers = Vec::new();
        for path in ["/", "/live/cam/index.m3u8", "/live/cam.flv?a=b"] {
            let request = Request::get(format!("https://door{path}")).header("accept", "*/*").body(()).unwrap();
            answers.push(requests.send_request(request, true).unwrap());
            let _ = Pin::new(&mut client).poll(&mut context());
        }
        let said = pipe.take();
        let heads = |cuts: &mut dyn Iterator<Item = usize>| {
            let mut trunk = trunk();
            let mut rest = said.as_slice();
            while !rest.is_empty() {
                let (piece, later) = rest.split_at(cuts.next().unwrap_or(rest.len()).min(rest.len()));
                trunk.receive(piece, START);
                rest = later;
            }
            let outputs = std::iter::from_fn(move || trunk.poll());
            outputs.map(|output| format!("{output:?}")).collect::<Vec<_>>()
        };
        let whole = heads(&mut std::iter::empty());
        prop_assert_eq!(whole.len(), 3);
        prop_assert_eq!(heads(&mut cuts.iter().copied().cycle()), whole);
    }

    #[test]
    fn no_bytes_panic_a_trunk(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8)) {
        let mut trunk = trunk();
        trunk.receive(PREFACE, START);
        for piece in &pieces {
            trunk.receive(piece, START);
        }
        while let Some(output) = trunk.poll() {
            let panicked = matches!(&output, Output::Broken(fault) if fault.kind() == ErrorKind::Panicked);
            prop_assert!(!panicked, "{:?}", output);
        }
    }
}
