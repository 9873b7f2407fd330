//! Driving any session by arbitrary bytes, for whoever fuzzes a protocol: bytes cut anywhere or whole datagrams, memory that
//! is lent and comes back with more in it, wishes that are granted, refused or answered late, deadlines, and each way in which
//! a conversation ends.
//!
//! Hub and kernel do to a session what the [contract](crate::session) lets them; this does the same, only less kindly. What
//! a session owes in return is asserted here, so that a fuzzer finds it: it counts no byte that it was not given, an error
//! stands inside what has come, there is room in memory that it lends, it wishes for one thing at a time, and at some point
//! it has said all that it has to say.
//!
//! ```
//! use shardcast_engine::protocol::{Protocol, RTMP, fuzz};
//!
//! const OWN: Protocol = Protocol { name: "own", ..RTMP };
//! // With libFuzzer: fuzz_target!(|input: &[u8]| { fuzz::drive(&OWN, input); });
//! let course = fuzz::drive(&OWN, b"\x01\x02\x00no handshake begins like this");
//! assert!(course.end.is_some_and(|end| end.is_err()) && course.events.is_empty());
//! ```

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;

use super::{Protocol, Transport};
use crate::{
    codec::Parameters,
    error::Error,
    limits::{self, DoorLimits},
    media::{Frame, Payload, TrackId},
    session::{Answer, Event, Input, Opening, Output, PortOffer, Ports, Refusal, Session},
    time::{MediaTime, Now},
};

/// What a session did with its peer's bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Course {
    /// What it told the hub, in the words of `Debug`.
    pub events: Vec<String>,
    /// How it ended: by its own wish, by an error, or not at all.
    pub end: Option<Result<(), Error>>,
}

/// What hub and kernel do besides bringing bytes.
///
/// ```
/// use shardcast_engine::protocol::fuzz::{Last, Plan};
///
/// let plan = Plan::of([7, 0x21, 0]);
/// assert_eq!((plan.piece, plan.grants, plan.last), (7, 1, Last::Timeout));
/// assert!(plan.lends && !plan.late && plan.step.is_zero());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Bytes that come at once, at least 1; over UDP the bytes of a datagram.
    pub piece: usize,
    /// So many wishes are granted, all that follow are refused.
    pub grants: u8,
    /// A wish is answered only after the session's next deadline, if it has one.
    pub late: bool,
    /// A publisher's bytes are received into memory that its session lends, if it does.
    pub lends: bool,
    /// From one piece to the next.
    pub step: Duration,
    /// What happens after the last byte.
    pub last: Last,
}

/// What happens after the last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// Nothing.
    Silence,
    /// The stream that it plays ends.
    Ended,
    /// A viewer of the stream that it publishes waits for a key frame.
    KeyframeWanted,
    /// Its deadline comes, and the one after it, and so on.
    Timeout,
    /// The node goes down.
    Shutdown,
}

impl Plan {
    /// Bytes that a plan is made of.
    pub const BYTES: usize = 3;

    /// From bytes of fuzz: the size of pieces (0 for all at once), what is granted and what comes last, time and memory.
    pub const fn of([piece, hub, manner]: [u8; Self::BYTES]) -> Self {
        let piece = match piece {
            0 => usize::MAX,
            small @ 1..=127 => small as usize,
            large => (large as usize - 127) * 128,
        };
        let last = match hub >> 4 & 7 {
            0 => Last::Ended,
            1 => Last::KeyframeWanted,
            2 => Last::Timeout,
            3 => Last::Shutdown,
            _ => Last::Silence,
        };
        let step = match manner >> 2 & 3 {
            0 => Duration::ZERO,
            1 => Duration::from_millis(40),
            2 => Duration::from_secs(5),
            _ => Duration::from_secs(60),
        };
        Plan { piece, grants: hub & 15, late: manner & 1 == 1, lends: manner & 2 == 0, step, last }
    }
}

/// Opens a conversation of `protocol` and drives it by `input`: [`Plan::BYTES`] bytes of a [`Plan`], and then what the peer
/// says.
///
/// # Panics
/// When the session does, or owes what the [module](self) says.
pub fn drive(protocol: &Protocol, input: &[u8]) -> Course {
    let (plan, bytes) = input.split_at(input.len().min(Plan::BYTES));
    let mut padded = [0; Plan::BYTES];
    padded.iter_mut().zip(plan).for_each(|(to, from)| *to = *from);
    let mut plan = Plan::of(padded);
    if protocol.transport == Transport::Udp {
        plan.piece = plan.piece.min(limits::DATAGRAM_BYTES_MAX);
    }
    let mut session = protocol.begin(&DoorLimits::default(), START);
    session.offer_ports(PortOffer { first: 8000, shard: 0, shards: 2, owner: |_, _| 1 });
    converse(&mut *session, bytes, &plan)
}

/// Gives `bytes` to a session, as `plan` says. It may have been talked to before.
///
/// # Panics
/// As [`drive`].
pub fn converse(session: &mut dyn Session, bytes: &[u8], plan: &Plan) -> Course {
    let counted = session.received();
    let mut driver = Driver {
        session,
        plan: *plan,
        now: START,
        role: Role::Talking,
        asked: None,
        lent: None,
        ports: Ports::default(),
        pieces: 0,
        wishes: 0,
        given: counted,
        counted,
        course: Course::default(),
    };
    driver.run(bytes);
    driver.course
}

/// What is in the streams that are described: sound of a codec that needs no configuration of its publisher.
fn opening() -> Opening {
    let time = MediaTime::from_millis(0);
    let payload = Payload::Parameters(Arc::new(Parameters::of_opus(2)));
    let frame = Frame { track: TrackId::AUDIO, dts: time, pts: time, payload };
    Opening { parameters: vec![frame], ..Opening::default() }
}

/// When a conversation begins.
const START: Now = Now(1_000_000_000);
/// Outputs that follow one input, at most. A session that says more never stops.
const OUTPUTS_MAX: usize = 1 << 20;
/// Wishes beside those that bytes of the peer may have brought about. A session that has more asks again whenever it is
/// refused, and keeps its shard from everybody else.
const WISHES_MAX: u64 = 1000;
/// Deadlines that come after the last byte. A peer that is silent is asked for a sign of life before it is closed.
const DEADLINES: usize = 4;

/// What the peer is to the hub.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Talking,
    Publishing,
    Playing,
}

/// A wish without an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Publish,
    Play,
    Describe,
    #[cfg(feature = "segment")]
    Fetch,
}

struct Driver<'s> {
    session: &'s mut dyn Session,
    plan: Plan,
    now: Now,
    role: Role,
    asked: Option<Asked>,
    /// Memory of the session that the next bytes go into.
    lent: Option<BytesMut>,
    /// Where its datagrams come from.
    ports: Ports,
    /// Pieces that have come.
    pieces: usize,
    wishes: u64,
    given: u64,
    /// What the session said last that it was given.
    counted: u64,
    course: Course,
}

impl Driver<'_> {
    fn run(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_over() {
            self.now = self.now.after(self.plan.step);
            self.time_out();
            self.answer_late();
            if !self.is_over() {
                bytes = self.receive(bytes);
            }
        }
        // A node that goes down does not wait for anybody's verdict.
        if self.plan.last != Last::Shutdown {
            self.answer_late();
        }
        match self.plan.last {
            Last::Silence => {}
            Last::Ended if self.role == Role::Playing => {
                self.role = Role::Talking;
                self.tell(Input::Ended);
            }
            Last::KeyframeWanted if self.role == Role::Publishing => self.tell(Input::KeyframeWanted),
            Last::Ended | Last::KeyframeWanted => {}
            Last::Timeout => (0..DEADLINES).for_each(|_| self.wait()),
            Last::Shutdown => self.tell(Input::Shutdown),
        }
        // The kernel gives memory back when the peer has gone, with nothing new in it.
        if let Some(memory) = self.lent.take() {
            self.tell(Input::Filled { memory, received: 0 });
        }
    }

    fn is_over(&self) -> bool {
        self.course.end.is_some()
    }

    /// Brings the next piece, and returns what is left.
    fn receive<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let piece = self.plan.piece.clamp(1, bytes.len());
        let Some(mut memory) = self.lent.take() else {
            let (piece, rest) = bytes.split_at(piece);
            self.pieces += 1;
            // Beside its connection comes every other piece, by one port after the other.
            let port = self.pieces / 2 % self.ports.0.len().max(1);
            if let (Some((channel, _)), true) =
                (self.ports.0.get(port), self.pieces.is_multiple_of(2) && self.asked.is_none())
            {
                self.tell(Input::Datagram { channel: *channel, bytes: piece });
                return rest;
            }
            self.given += piece.len() as u64;
            self.tell(Input::Received(piece));
            return rest;
        };
        let (piece, rest) = bytes.split_at(piece.min(memory.capacity() - memory.len()));
        memory.extend_from_slice(piece);
        self.given += piece.len() as u64;
        self.tell(Input::Filled { memory, received: piece.len() });
        rest
    }

    /// Brings the deadline if it has come.
    fn time_out(&mut self) {
        if self.session.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.tell(Input::Timeout);
        }
    }

    /// Nothing happens until the deadline.
    fn wait(&mut self) {
        if let Some(deadline) = self.session.deadline() {
            self.now = self.now.max(deadline);
            self.time_out();
        }
    }

    /// Answers what was left for later: bytes come only after that.
    fn answer_late(&mut self) {
        while self.asked.is_some() && !self.is_over() {
            self.wait();
            self.answer();
        }
    }

    /// Answers the wish, if there is one.
    fn answer(&mut self) {
        let Some(asked) = self.asked.take().filter(|_| !self.is_over()) else { return };
        let granted = self.role == Role::Talking && self.plan.grants > 0;
        if asked == Asked::Describe && granted {
            self.plan.grants -= 1;
            return self.step(Input::Described(Box::new(opening())));
        }
        let answer = match asked {
            Asked::Publish if granted => Answer::Publishing,
            Asked::Publish => Answer::Refused(Refusal::AlreadyLive),
            Asked::Play if granted => Answer::Playing,
            Asked::Play | Asked::Describe => Answer::Refused(Refusal::NotFound),
            #[cfg(feature = "segment")]
            Asked::Fetch => Answer::Refused(Refusal::NotFound),
        };
        match answer {
            Answer::Publishing => self.role = Role::Publishing,
            Answer::Playing => self.role = Role::Playing,
            Answer::Refused(_) => {}
        }
        self.plan.grants -= u8::from(!matches!(answer, Answer::Refused(_)));
        self.step(Input::Answer(answer));
    }

    /// Tells the session something, and answers at once what it wishes then, unless that is for later.
    fn tell(&mut self, input: Input<'_>) {
        if self.is_over() {
            return;
        }
        self.step(input);
        while self.asked.is_some() && !self.plan.late && !self.is_over() {
            self.answer();
        }
        let receives = self.role == Role::Publishing && self.lent.is_none() && !self.is_over();
        if receives && self.plan.lends && self.session.lends() {
            let memory = self.session.lend();
            assert!(
                memory.len() < memory.capacity(),
                "there is no room in the memory that the session lends"
            );
            self.lent = Some(memory);
        }
    }

    /// One input and what the session makes of it.
    fn step(&mut self, input: Input<'_>) {
        let result = self.session.handle(input, self.now);
        let counted = self.session.received();
        assert!(counted >= self.counted, "the session counts its peer's bytes backwards");
        assert!(counted <= self.given, "the session counts bytes that it was not given");
        self.counted = counted;
        let (mut outputs, mut waiting) = (0, 0);
        while let Some(output) = self.session.poll() {
            outputs += 1;
            assert!(outputs <= OUTPUTS_MAX, "the session does not come to an end of what it says");
            match output {
                Output::Send(bytes)
                | Output::Packets(bytes)
                | Output::Datagrams { bytes, .. }
                | Output::Datagram { bytes, .. } => {
                    waiting += bytes.len();
                }
                Output::Share(_) | Output::Address(_) => {}
                Output::Ports(ports) => self.ports = ports.unwrap_or_default(),
                Output::Event(event) => self.hear(&event),
                Output::Close => {
                    self.course.end = Some(Ok(()));
                    return;
                }
            }
        }
        if let Err(error) = result {
            assert!(error.at <= counted, "an error behind the last byte that came: {error}");
            self.course.end = Some(Err(error));
        } else if waiting > limits::OUTBOX_BYTES_MAX {
            // So the hub does.
            self.course.end = Some(Err(Error::too_large("asks for more answers than it reads", counted)));
        }
    }

    fn hear(&mut self, event: &Event) {
        self.course.events.push(format!("{event:?}"));
        let asked = match event {
            Event::Publish { .. } => Asked::Publish,
            Event::Play { .. } => Asked::Play,
            Event::Describe { .. } => Asked::Describe,
            #[cfg(feature = "segment")]
            Event::Fetch { .. } => Asked::Fetch,
            Event::Unpublish | Event::Stop => return self.leave(event),
            _ => return,
        };
        assert!(self.asked.is_none(), "the session wishes for something while an earlier wish has no answer");
        self.asked = Some(asked);
        self.wishes += 1;
        assert!(self.wishes <= WISHES_MAX + self.given, "the session does not take no for an answer");
    }

    /// It wants no more of what it had, or of what it has asked for.
    fn leave(&mut self, event: &Event) {
        match (event, self.role) {
            (Event::Unpublish, Role::Publishing) | (Event::Stop, Role::Playing) => self.role = Role::Talking,
            (Event::Stop, _) if self.asked == Some(Asked::Play) => self.asked = None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::media::StreamName;

    /// Wishes for what its peer's bytes say, and writes down what it is told. A byte each: `P` and `V` are wishes, `U` and `S`
    /// end what was granted, `Q` closes, `!` is a fault.
    struct Told {
        until: Now,
        received: u64,
        memory: BytesMut,
        publishing: bool,
        asking: bool,
        outbox: VecDeque<Output>,
        fault: Broken,
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Broken {
        No,
        Counts,
        Forgets,
        Place,
        NoRoom,
        TwoWishes,
        Insists,
        Endless,
    }

    impl Told {
        fn new(fault: Broken) -> Self {
            Told {
                until: START.after(Duration::from_secs(10)),
                received: 0,
                memory: BytesMut::new(),
                publishing: false,
                asking: false,
                outbox: VecDeque::new(),
                fault,
            }
        }

        fn event(&mut self, event: Event) {
            self.outbox.push_back(Output::Event(event));
        }

        fn wish(&mut self, word: u8) {
            static FORM: crate::session::Form = crate::session::Form {
                name: "none",
                datagram: None,
                prompt: false,
                open: || unreachable!("nobody muxes"),
            };
            self.asking = true;
            let name = StreamName::new("live", "cam").expect("a legal name");
            let query = String::new();
            self.event(match word {
                b'P' => Event::Publish { name, query },
                _ => Event::Play { name, query, form: &FORM },
            });
        }

        fn read(&mut self, bytes: &[u8]) -> Result<(), Error> {
            self.received += bytes.len() as u64;
            for byte in bytes {
                match byte {
                    b'P' | b'V' => self.wish(*byte),
                    b'U' => self.event(Event::Unpublish),
                    b'S' => self.event(Event::Stop),
                    b'Q' => self.outbox.push_back(Output::Close),
                    b'!' => return Err(Error::malformed("a fault", self.received)),
                    _ => self.event(Event::Remark("a byte")),
                }
            }
            Ok(())
        }
    }

    impl Session for Told {
        fn handle(&mut self, input: Input<'_>, now: Now) -> Result<(), Error> {
            match input {
                Input::Received(bytes) => {
                    assert!(!self.asking, "bytes while the wish has no answer");
                    self.event(Event::Remark("received"));
                    self.read(bytes)?;
                }
                Input::Filled { memory, received } => {
                    assert!(!self.asking, "bytes while the wish has no answer");
                    self.event(Event::Remark("filled"));
                    let (_, new) = memory.split_at(memory.len() - received);
                    self.read(new)?;
                    self.memory = memory;
                }
                Input::Answer(answer) => {
                    assert!(std::mem::take(&mut self.asking), "an answer to nothing");
                    self.publishing = answer == Answer::Publishing;
                    self.event(Event::Remark(match answer {
                        Answer::Publishing => "publishing",
                        Answer::Playing => "playing",
                        Answer::Refused(_) => "refused",
                    }));
                    if self.fault == Broken::Insists {
                        self.wish(b'V');
                    }
                }
                Input::Timeout => {
                    assert!(self.until <= now, "a deadline that has not come");
                    self.until = now.after(Duration::from_secs(10));
                    self.event(Event::Remark("timeout"));
                }
                Input::Ended => self.event(Event::Remark("ended")),
                Input::KeyframeWanted => self.event(Event::Remark("key frame wanted")),
                Input::Shutdown => self.event(Event::Remark("shutdown")),
                Input::Described(_)
                | Input::Datagram { .. }
                | Input::From { .. }
                | Input::Signal(_)
                | Input::Signalled(_) => unreachable!("it asks for none"),
                #[cfg(feature = "segment")]
                Input::Fetched(_) => unreachable!("it asks for none"),
            }
            match self.fault {
                Broken::Counts => self.received += 100,
                Broken::Forgets if self.received > 2 => self.received = 0,
                Broken::Place => return Err(Error::malformed("somewhere", self.received + 1)),
                Broken::TwoWishes => (0..2).for_each(|_| self.wish(b'P')),
                _ => {}
            }
            Ok(())
        }
        fn poll(&mut self) -> Option<Output> {
            if self.fault == Broken::Endless {
                return Some(Output::Send(Bytes::from_static(b"and")));
            }
            self.outbox.pop_front()
        }
        fn deadline(&self) -> Option<Now> {
            Some(self.until)
        }
        fn received(&self) -> u64 {
            self.received
        }
        fn lends(&self) -> bool {
            self.publishing
        }
        fn lend(&mut self) -> BytesMut {
            let mut memory = std::mem::take(&mut self.memory);
            if self.fault != Broken::NoRoom {
                memory.reserve(3);
            }
            memory
        }
    }

    fn words(course: &Course) -> Vec<&str> {
        let words = course.events.iter().map(|event| event.split(['"', ' ']).nth(1).unwrap_or("?"));
        words.filter(|word| *word != "a").collect()
    }

    fn told(bytes: &[u8], plan: Plan) -> Course {
        converse(&mut Told::new(Broken::No), bytes, &plan)
    }

    const PLAN: Plan =
        Plan { piece: 1, grants: 15, late: false, lends: true, step: Duration::ZERO, last: Last::Silence };

    #[test]
    fn wishes_are_granted_as_often_as_the_plan_says_and_answered_before_the_next_byte() {
        let course = told(b"PUVS.", Plan { lends: false, ..PLAN });
        let expected = ["received", "{", "publishing", "received", "?", "received", "{", "playing"];
        assert_eq!(words(&course).get(..8), Some(&expected[..]), "{course:?}");
        let course = told(b"PUP", Plan { grants: 1, ..PLAN });
        assert_eq!(words(&course).last(), Some(&"refused"), "{course:?}");
        // A publisher that wants to play at the same time is refused, as by a hub.
        assert_eq!(words(&told(b"PV", Plan { lends: false, ..PLAN })).last(), Some(&"refused"));
    }

    #[test]
    fn a_publishers_bytes_go_into_memory_that_it_lends_as_far_as_there_is_room() {
        let bytes = [&b"P"[..], &[b'.'; 40]].concat();
        let course = told(&bytes, Plan { piece: 20, ..PLAN });
        let count =
            |course: &Course, said: &str| course.events.iter().filter(|word| word.contains(said)).count();
        assert_eq!((count(&course, "a byte"), course.end), (40, None), "{course:?}");
        // Twice at least, and what was lent last comes back when the peer goes.
        assert!(count(&course, "filled") >= 3, "{course:?}");
        assert_eq!(count(&told(&bytes, Plan { lends: false, ..PLAN }), "filled"), 0);
    }

    #[test]
    fn deadlines_come_when_their_time_has_come_also_while_a_wish_waits() {
        let course = told(b"....", Plan { step: Duration::from_secs(5), ..PLAN });
        assert_eq!(words(&course).iter().filter(|word| **word == "timeout").count(), 2, "{course:?}");
        let course = told(b"P.", Plan { late: true, lends: false, ..PLAN });
        assert_eq!(words(&course), ["received", "{", "timeout", "publishing", "received"], "{course:?}");
    }

    #[test]
    fn the_last_word_comes_to_those_whom_it_concerns() {
        let last = |bytes: &[u8], last| {
            let course = told(bytes, Plan { lends: false, last, ..PLAN });
            words(&course).last().copied().unwrap_or_default().to_owned()
        };
        assert_eq!([last(b"V", Last::Ended), last(b".", Last::Ended)], ["ended", "received"]);
        assert_eq!([last(b"P", Last::KeyframeWanted), last(b"V", Last::KeyframeWanted)], ["key", "playing"]);
        assert_eq!([last(b".", Last::Timeout), last(b".", Last::Shutdown)], ["timeout", "shutdown"]);
        let course = told(b"P", Plan { late: true, last: Last::Shutdown, ..PLAN });
        assert_eq!(words(&course), ["received", "{", "shutdown"], "nobody waits for the verdict");
    }

    #[test]
    fn nothing_comes_after_the_end() {
        assert_eq!(told(b"Q..", PLAN), told(b"Q", PLAN));
        assert_eq!(told(b"Q", PLAN).end, Some(Ok(())));
        let course = told(b".!..", Plan { last: Last::Shutdown, ..PLAN });
        assert_eq!(course.end, Some(Err(Error::malformed("a fault", 2))));
        assert!(!words(&course).contains(&"shutdown"));
    }

    #[test]
    fn a_session_that_owes_something_is_noticed() {
        for (fault, bytes, what) in [
            (Broken::Counts, "...", "that it was not given"),
            (Broken::Forgets, "...", "backwards"),
            (Broken::Place, ".", "behind the last byte"),
            (Broken::NoRoom, "P.", "no room"),
            (Broken::TwoWishes, ".", "earlier wish"),
            (Broken::Insists, "V", "no for an answer"),
            (Broken::Endless, ".", "come to an end"),
        ] {
            let plan = Plan { grants: 1, ..PLAN };
            let driven =
                std::panic::catch_unwind(|| converse(&mut Told::new(fault), bytes.as_bytes(), &plan));
            let panic = driven.expect_err(what);
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or(panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            assert!(text.contains(what), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_bring_a_built_in_session_to_owe_anything(input: Vec<u8>, plan: [u8; Plan::BYTES]) {
            for protocol in crate::protocol::built_in() {
                drive(&protocol, &[&plan[..], &input].concat());
                let over_udp = Protocol { transport: Transport::Udp, ..protocol };
                drive(&over_udp, &[&plan[..], &input].concat());
            }
        }
    }
}
