//! The conversation with whoever sends to an intake: it is heard, and nothing is said to it.

use std::{collections::VecDeque, time::Duration};

use super::{Datagram, Intake};
use crate::{
    error::Error,
    limits::DoorLimits,
    media::StreamName,
    mpegts::Demuxer,
    rtp::Order,
    session::{self, Answer, Event, Input, Output},
    time::Now,
};

/// How long a session that was refused waits before it asks again. What comes until then is passed over: nobody can tell its
/// sender to stop, and a line in the log for each datagram would help nobody.
const RETRY: Duration = Duration::from_secs(5);
/// How long nothing comes until the picture that came last is taken for whole: it ends where another begins, and none may follow.
const QUIET: Duration = Duration::from_secs(1);

/// A stream on its way in, from its first datagram to the silence that ends it.
#[derive(Debug)]
pub struct Session {
    name: StreamName,
    wrapped: bool,
    state: State,
    order: Order,
    demuxer: Demuxer,
    outbox: VecDeque<Output>,
    received: u64,
    /// When the last datagram came, unless what it left open has been ended.
    heard: Option<Now>,
    /// Datagrams that hold no transport stream were remarked on.
    remarked: bool,
}

#[derive(Debug)]
enum State {
    /// Nothing has come that is a transport stream. It has until then.
    Silent(Now),
    /// The hub has not answered. The first datagram waits: tables and the parameters of a track may be in it.
    Asking(Box<[u8]>),
    Publishing,
    /// It was refused, and asks again with what comes then.
    Refused(Now),
    Over,
}

impl Session {
    /// For what comes to `intake` from now on and is the stream `name`.
    pub fn new(name: StreamName, intake: &Intake, limits: &DoorLimits, now: Now) -> Self {
        Session {
            name,
            wrapped: intake.wrapped,
            state: State::Silent(now.after(limits.handshake)),
            order: Order::default(),
            demuxer: Demuxer::of_program(intake.program),
            outbox: VecDeque::new(),
            received: 0,
            heard: None,
            remarked: false,
        }
    }

    fn datagram(&mut self, bytes: &[u8], now: Now) {
        let Some(datagram) = Datagram::read(bytes, self.wrapped) else {
            if !std::mem::replace(&mut self.remarked, true) {
                let why = "a datagram without a transport stream; left out, and so are others of its kind";
                self.outbox.push_back(Output::Event(Event::Remark(why)));
            }
            return;
        };
        match self.state {
            State::Publishing => self.publish(datagram, now),
            State::Refused(until) if now < until => {}
            State::Silent(_) | State::Refused(_) => {
                self.state = State::Asking(bytes.into());
                let (name, query) = (self.name.clone(), String::new());
                self.outbox.push_back(Output::Event(Event::Publish { name, query }));
            }
            State::Asking(_) | State::Over => {}
        }
    }

    fn publish(&mut self, datagram: Datagram<'_>, now: Now) {
        self.heard = Some(now);
        let Session { order, demuxer, outbox, .. } = self;
        match datagram {
            Datagram::Plain(packets) => take(demuxer, outbox, Some(packets)),
            Datagram::Numbered(sequence, packets) => {
                order.push(sequence, packets, now, &mut |packets| take(demuxer, outbox, packets));
            }
        }
    }

    fn answer(&mut self, answer: Answer, now: Now) {
        let State::Asking(first) = std::mem::replace(&mut self.state, State::Over) else { return };
        match answer {
            Answer::Publishing => {
                self.state = State::Publishing;
                self.datagram(&first, now);
            }
            Answer::Playing | Answer::Refused(_) => self.state = State::Refused(now.after(RETRY)),
        }
    }

    /// What was waited for too long is given up, and after a silence what is open is ended.
    fn expire(&mut self, now: Now) {
        let Session { order, demuxer, outbox, .. } = self;
        order.expire(now, &mut |packets| take(demuxer, outbox, packets));
        if self.heard.is_some_and(|heard| heard.after(QUIET) <= now) {
            self.finish();
        }
    }

    fn finish(&mut self) {
        self.heard = None;
        let Session { demuxer, outbox, .. } = self;
        demuxer.finish(&mut |event| outbox.push_back(Output::Event(event)));
    }

    fn close(&mut self) {
        if matches!(self.state, State::Publishing) {
            self.finish();
        }
        self.state = State::Over;
        self.outbox.push_back(Output::Close);
    }
}

/// Packets of the stream, or that some of them are missing.
fn take(demuxer: &mut Demuxer, outbox: &mut VecDeque<Output>, packets: Option<&[u8]>) {
    match packets {
        Some(packets) => demuxer.push(packets, &mut |event| outbox.push_back(Output::Event(event))),
        None => demuxer.lose(),
    }
}

impl session::Session for Session {
    fn handle(&mut self, input: Input<'_>, now: Now) -> Result<(), Error> {
        match input {
            Input::Received(bytes) => {
                self.received += bytes.len() as u64;
                self.datagram(bytes, now);
            }
            Input::Answer(answer) if matches!(self.state, State::Asking(_)) => self.answer(answer, now),
            Input::Timeout => match self.state {
                State::Silent(until) if until <= now => {
                    return Err(Error::timed_out("nothing that is a transport stream came", self.received));
                }
                State::Publishing => self.expire(now),
                _ => {}
            },
            Input::Ended | Input::Shutdown => self.close(),
            _ => {}
        }
        Ok(())
    }

    fn poll(&mut self) -> Option<Output> {
        self.outbox.pop_front()
    }

    fn deadline(&self) -> Option<Now> {
        match self.state {
            State::Silent(until) => Some(until),
            State::Publishing => {
                self.order.deadline().into_iter().chain(self.heard.map(|heard| heard.after(QUIET))).min()
            }
            State::Asking(_) | State::Refused(_) | State::Over => None,
        }
    }

    fn received(&self) -> u64 {
        self.received
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::{Bytes, BytesMut};

    use super::*;
    use crate::{
        codec::{Codec, Parameters},
        container::Track,
        error::ErrorKind,
        media::{Frame, Payload, TrackId},
        mpegts::{Segmenter, samples::two_pictures},
        session::{Refusal, Session as _},
        time::MediaTime,
    };

    /// A packet of sound each, behind the tables.
    fn datagrams(count: u8) -> Vec<Vec<u8>> {
        let track = Track { id: TrackId::AUDIO, parameters: Arc::new(Parameters::of_opus(2)), rate: 48_000 };
        let mut segmenter = Segmenter::new(&[track], MediaTime::from_millis(0));
        let datagram = |number: u8| {
            let time = MediaTime { ticks: i64::from(number) * 960, rate: 48_000 };
            let data = Bytes::from(vec![0xfc, number]);
            let payload = Payload::Audio { codec: Codec::Opus, data };
            let mut out = BytesMut::new();
            segmenter.write(&[Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }], &mut out);
            out.to_vec()
        };
        (0..count).map(datagram).collect()
    }

    fn wrapped(sequence: u16, packets: &[u8]) -> Vec<u8> {
        let [high, low] = sequence.to_be_bytes();
        [&[0x80, 33, high, low, 0, 0, 0, 0, 0, 0, 0, 0], packets].concat()
    }

    struct Room {
        session: Session,
        answer: Option<Answer>,
        /// What it was heard to say: the numbers of packets, and events as they are printed.
        heard: Vec<u8>,
        wishes: usize,
        remarks: usize,
        closed: bool,
    }

    impl Room {
        fn new(url: &str, answer: Answer) -> Self {
            let name = StreamName::parse("live/cam").unwrap();
            let intake = Intake::parse(url).unwrap();
            let session = Session::new(name, &intake, &DoorLimits::default(), Now(0));
            Room { session, answer: Some(answer), heard: Vec::new(), wishes: 0, remarks: 0, closed: false }
        }

        fn give(&mut self, input: Input<'_>, now: Now) -> Result<(), Error> {
            self.session.handle(input, now)?;
            let mut asked = false;
            while let Some(output) = self.session.poll() {
                match output {
                    Output::Event(Event::Publish { name, .. }) => {
                        assert_eq!(name.as_str(), "live/cam");
                        (asked, self.wishes) = (true, self.wishes + 1);
                    }
                    Output::Event(Event::Frame(frame)) => match &frame.payload {
                        Payload::Audio { data, .. } => self.heard.push(data[1]),
                        Payload::Parameters(_) => assert!(self.heard.is_empty(), "they come first"),
                        other => panic!("{other:?}"),
                    },
                    Output::Event(Event::Remark(_)) => self.remarks += 1,
                    Output::Close => self.closed = true,
                    other => panic!("{other:?}"),
                }
            }
            match self.answer.filter(|_| asked) {
                Some(answer) => self.give(Input::Answer(answer), now),
                None => Ok(()),
            }
        }

        fn datagram(&mut self, bytes: &[u8], millis: u64) {
            self.give(Input::Received(bytes), Now(millis * 1_000_000)).unwrap();
        }
    }

    #[test]
    fn a_stream_is_asked_for_with_its_first_datagram_and_nothing_of_it_is_lost() {
        let mut room = Room::new("udp://127.0.0.1:5000", Answer::Publishing);
        datagrams(9).iter().for_each(|datagram| room.datagram(datagram, 0));
        assert!(room.heard.iter().copied().eq(0..9) && room.wishes == 1, "{:?}", room.heard);
        room.give(Input::Shutdown, Now(0)).unwrap();
        assert!(room.closed);
    }

    #[test]
    fn inside_rtp_what_comes_late_is_waited_for() {
        let mut room = Room::new("rtp://127.0.0.1:5000", Answer::Publishing);
        let packets = datagrams(9);
        for (number, millis) in [(0, 0), (2, 1), (1, 2), (3, 3), (5, 4), (6, 5)] {
            room.datagram(&wrapped(65_533_u16.wrapping_add(number), &packets[usize::from(number)]), millis);
        }
        // Without RTP nobody can tell whether it is in its place.
        room.datagram(&packets[8], 6);
        assert_eq!((&room.heard[..], room.remarks), (&[0, 1, 2, 3][..], 1));
        let due = room.session.deadline().unwrap();
        assert_eq!(due, Now(104_000_000));
        room.give(Input::Timeout, due).unwrap();
        assert_eq!(room.heard, [0, 1, 2, 3, 5, 6]);
    }

    #[test]
    fn inside_rtp_what_is_missing_is_known_whatever_the_packets_count() {
        let (stream, sent) = two_pictures();
        let packets: Vec<&[u8]> = stream.chunks(188).collect();
        // Sixteen of the pictures' packets: the counter of those goes on as if nothing were missing.
        let is_of_pictures = |packet: &&[u8]| packet[1] & 0x1f == 1 && packet[2] == 0;
        for begin in 8..30 {
            let gone: Vec<usize> =
                (begin..packets.len()).filter(|at| is_of_pictures(&packets[*at])).take(16).collect();
            let missing = gone[0]..=gone[15];
            let intake = Intake::parse("rtp://127.0.0.1:5000").unwrap();
            let name = StreamName::parse("live/cam").unwrap();
            let mut session = Session::new(name, &intake, &DoorLimits::default(), Now(0));
            for (number, packet) in packets.iter().enumerate().filter(|(at, _)| !missing.contains(at)) {
                session.handle(Input::Received(&wrapped(number as u16, packet)), Now(0)).unwrap();
                session.handle(Input::Answer(Answer::Publishing), Now(0)).unwrap();
            }
            session.handle(Input::Timeout, Now(200_000_000)).unwrap();
            session.handle(Input::Shutdown, Now(200_000_000)).unwrap();
            while let Some(output) = session.poll() {
                if let Output::Event(Event::Frame(Frame { payload: Payload::Video { data, .. }, .. })) =
                    output
                {
                    assert!(
                        sent.contains(&data),
                        "{begin}: a picture of {} bytes that nobody sent",
                        data.len()
                    );
                }
            }
        }
    }

    #[test]
    fn who_is_refused_asks_again_later_and_not_with_each_datagram() {
        let mut room = Room::new("udp://127.0.0.1:5000", Answer::Refused(Refusal::AlreadyLive));
        for (datagram, millis) in datagrams(200).iter().zip((0..).step_by(100)) {
            room.datagram(datagram, millis);
        }
        assert_eq!((room.wishes, room.heard.len()), (4, 0), "in twenty seconds");
        room.answer = Some(Answer::Publishing);
        room.datagram(&datagrams(1)[0], 30_000);
        assert_eq!(room.heard, [0]);
    }

    #[test]
    fn what_is_no_transport_stream_is_passed_over_with_one_remark_and_opens_nothing() {
        let mut room = Room::new("udp://127.0.0.1:5000", Answer::Publishing);
        for datagram in [&b"hello"[..], &[0x47; 187], &[0; 1316], &wrapped(1, b"GET /")[..]] {
            room.datagram(datagram, 0);
        }
        assert_eq!((room.wishes, room.remarks), (0, 1));
        let due = room.session.deadline().unwrap();
        let error = room.give(Input::Timeout, due).unwrap_err();
        assert_eq!(error.kind, ErrorKind::TimedOut);
    }
}
