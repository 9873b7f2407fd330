//! The way of one connection between the thread that speaks with libsrt and the shard: a lane of bytes, and what its two ends must know
//! of each other.
//!
//! The shard's end is a [`Session`] like any other, so that whoever comes by libsrt is named, asked for his right, limited, sent the
//! stream and counted like one of the door of our own. It never waits for the library, and the library's thread never for it.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
    },
    thread::Thread,
    time::Duration,
};

use bytes::Bytes;
use shardcast_engine::{
    error::Error,
    mpegts::{Demuxer, FORM},
    session::{Answer, Event, Input, Output, Session, Shelf},
    srt::{Wish, reason_of},
    stats::PathStats,
    time::Now,
};
use shardcast_io::lane::{self, Receiver, Sender};

/// Pieces of what is published that may wait for the shard; each is of at most [`PIECE_BYTES`].
const PIECES_IN_MAX: usize = 128;
/// Bytes of such a piece, about.
pub const PIECE_BYTES: usize = 16 << 10;
/// Pieces of a stream that may wait to be sent.
const PIECES_OUT_MAX: usize = 512;
/// Their bytes. What is further behind than this and libsrt's own buffer lags, and jumps to the newest key frame.
const BYTES_OUT_MAX: usize = 1 << 20;
/// Bytes of a datagram of the stream, whole packets of MPEG-TS.
pub const DATAGRAM_BYTES: usize = 1316;
/// How long nothing comes until the picture that came last is taken for whole: it ends where another begins, and none may follow.
const QUIET: Duration = Duration::from_secs(1);
/// What a caller is told whose session ended before it had an answer: the service is not to be had.
const UNAVAILABLE: u32 = 1503;

/// How a caller stands with the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is no answer yet.
    Asking,
    /// What it wanted is its own.
    Granted,
    /// It is not, for the reason of this number.
    Refused(u32),
    /// It was, and is no more.
    Over,
}

/// What both ends know.
pub struct Between {
    /// 0, 1 or 2, or the reason of a refusal.
    standing: AtomicU32,
    /// Who waits for the answer, on a thread of libsrt.
    waits: Option<Thread>,
    /// The shard has been told that there is something, and has not looked yet.
    told: AtomicBool,
    /// The shard has found no room.
    wants_room: AtomicBool,
    /// Bytes of the stream in the lane.
    bytes: AtomicUsize,
    counts: Counts,
}

impl Between {
    fn new(waits: Option<Thread>) -> Between {
        Between {
            standing: AtomicU32::new(0),
            waits,
            told: AtomicBool::new(false),
            wants_room: AtomicBool::new(false),
            bytes: AtomicUsize::new(0),
            counts: Counts::default(),
        }
    }

    /// How the caller stands.
    pub fn standing(&self) -> Standing {
        match self.standing.load(Ordering::Acquire) {
            0 => Standing::Asking,
            1 => Standing::Granted,
            2 => Standing::Over,
            reason => Standing::Refused(reason),
        }
    }

    fn stand(&self, standing: Standing) {
        let number = match standing {
            Standing::Asking => 0,
            Standing::Granted => 1,
            Standing::Over => 2,
            Standing::Refused(reason) => reason.max(3),
        };
        self.standing.store(number, Ordering::Release);
        if let Some(thread) = &self.waits {
            thread.unpark();
        }
    }

    /// The shard's session is gone. A refusal is the last word; one without an answer is told that there will be none.
    fn end(&self) {
        match self.standing() {
            Standing::Asking => self.stand(Standing::Refused(UNAVAILABLE)),
            Standing::Granted => self.stand(Standing::Over),
            Standing::Refused(_) | Standing::Over => {}
        }
    }

    /// True when the shard must be told that there is something; it was not since it looked last.
    pub fn must_tell(&self) -> bool {
        !self.told.swap(true, Ordering::SeqCst)
    }

    /// Bytes of the stream were taken. True when the shard waits to hear of that.
    pub fn took(&self, bytes: usize) -> bool {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        self.wants_room.load(Ordering::Relaxed) && self.wants_room.swap(false, Ordering::AcqRel)
    }

    /// Shows what the connection has counted.
    pub fn show(&self, path: &PathStats) {
        self.counts.write(path);
    }
}

/// The numbers of a connection, written by one thread and read by another, none of which waits.
#[derive(Default)]
struct Counts([AtomicU64; 13]);

impl Counts {
    fn write(&self, path: &PathStats) {
        let numbers = [
            path.rtt_microseconds,
            path.received_packets,
            path.missing_packets,
            path.recovered_packets,
            path.lost_packets,
            path.late_packets,
            path.unreadable_packets,
            path.sent_packets,
            path.sent_again_packets,
            path.given_up_packets,
            path.receive_buffer_packets,
            path.send_buffer_packets,
            1,
        ];
        for (counter, number) in self.0.iter().zip(numbers) {
            counter.store(number, Ordering::Relaxed);
        }
    }

    /// `None` before they were written first.
    fn read(&self) -> Option<PathStats> {
        let numbers = self.0.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        let [rtt, received, missing, recovered, lost, late, unreadable, rest @ ..] = numbers;
        let [sent, sent_again, given_up, receive_buffer, send_buffer, written] = rest;
        (written > 0).then_some(PathStats {
            connections: 1,
            rtt_microseconds: rtt,
            received_packets: received,
            missing_packets: missing,
            recovered_packets: recovered,
            lost_packets: lost,
            late_packets: late,
            unreadable_packets: unreadable,
            sent_packets: sent,
            sent_again_packets: sent_again,
            given_up_packets: given_up,
            receive_buffer_packets: receive_buffer,
            send_buffer_packets: send_buffer,
            ..PathStats::default()
        })
    }
}

/// libsrt's end of the lane.
pub enum Outside {
    /// What a publisher sends goes to the shard.
    Publisher(Sender<Bytes>),
    /// What a viewer is sent comes from there.
    Viewer(Receiver<Bytes>),
}

/// The shard's.
enum Inside {
    Publisher { pieces: Receiver<Bytes>, demuxer: Box<Demuxer>, heard: Option<Now> },
    Viewer(Sender<Bytes>),
}

/// The shard's end of a connection.
pub struct Crossing {
    between: Arc<Between>,
    wish: Wish,
    inside: Inside,
    state: State,
    outbox: VecDeque<Output>,
    received: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Entered,
    Asking,
    Granted,
    Over,
}

/// Both ends of the way of a caller who wishes this. `waits` is woken when there is an answer.
pub fn crossing(wish: Wish, waits: Option<Thread>) -> (Crossing, Outside, Arc<Between>) {
    let between = Arc::new(Between::new(waits));
    let (inside, outside) = if wish.publish {
        let (sender, pieces) = lane::lane(PIECES_IN_MAX);
        (Inside::Publisher { pieces, demuxer: Box::default(), heard: None }, Outside::Publisher(sender))
    } else {
        let (sender, receiver) = lane::lane(PIECES_OUT_MAX);
        (Inside::Viewer(sender), Outside::Viewer(receiver))
    };
    let crossing = Crossing {
        between: between.clone(),
        wish,
        inside,
        state: State::Entered,
        outbox: VecDeque::new(),
        received: 0,
    };
    (crossing, outside, between)
}

impl Crossing {
    fn ask(&mut self) {
        self.state = State::Asking;
        let Wish { name, publish, query } = self.wish.clone();
        self.outbox.push_back(Output::Event(if publish {
            Event::Publish { name, query }
        } else {
            Event::Play { name, query, form: &FORM }
        }));
    }

    fn end(&mut self) {
        self.state = State::Over;
        self.outbox.push_back(Output::Close);
    }

    /// Looks what has come, and whether the other end is there.
    fn look(&mut self, now: Now) {
        // Cleared first: what is pushed from here on tells again, and what was pushed before is seen below.
        self.between.told.store(false, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let mut emit = |event| self.outbox.push_back(Output::Event(event));
        let gone = match &mut self.inside {
            Inside::Viewer(sender) => sender.is_abandoned(),
            Inside::Publisher { pieces, demuxer, heard } => {
                // Looked at before the lane: what was pushed before the publisher went is taken.
                let gone = pieces.is_abandoned();
                while let Some(piece) = pieces.pop() {
                    self.received += piece.len() as u64;
                    *heard = Some(now);
                    demuxer.push(&piece, &mut emit);
                }
                if gone || heard.is_some_and(|heard| heard.after(QUIET) <= now) {
                    *heard = None;
                    demuxer.finish(&mut emit);
                }
                if gone {
                    emit(Event::Unpublish);
                }
                gone
            }
        };
        if gone {
            self.end();
        }
    }
}

impl Session for Crossing {
    fn handle(&mut self, input: Input<'_>, now: Now) -> Result<(), Error> {
        match input {
            Input::Received(_) | Input::Filled { .. } | Input::Timeout if self.state == State::Entered => {
                self.ask();
            }
            Input::Answer(Answer::Refused(refusal)) => {
                self.between.stand(Standing::Refused(reason_of(refusal)));
                self.state = State::Over;
                return Err(Error::refused(refusal.why(), self.received));
            }
            Input::Answer(_) => {
                self.state = State::Granted;
                self.between.stand(Standing::Granted);
            }
            Input::Ended | Input::Shutdown => self.end(),
            _ => {}
        }
        if self.state == State::Granted {
            self.look(now);
        }
        Ok(())
    }

    fn poll(&mut self) -> Option<Output> {
        self.outbox.pop_front()
    }

    fn deadline(&self) -> Option<Now> {
        match &self.inside {
            Inside::Publisher { heard: Some(heard), .. } if self.state == State::Granted => {
                Some(heard.after(QUIET))
            }
            _ => None,
        }
    }

    fn received(&self) -> u64 {
        self.received
    }

    fn carries(&self) -> bool {
        true
    }

    fn room(&mut self, _: Now) -> usize {
        let room = self.free();
        if room > 0 {
            return room;
        }
        self.between.wants_room.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.free()
    }

    fn carry(&mut self, bytes: &Bytes, _: &mut Shelf, _: Now) -> usize {
        let free = self.free();
        let Inside::Viewer(sender) = &mut self.inside else { return 0 };
        let most = free.max(shardcast_engine::limits::CARRIED_HEADER_BYTES_MAX);
        let piece = bytes.slice(..bytes.len().min(most));
        let taken = piece.len();
        self.between.bytes.fetch_add(taken, Ordering::AcqRel);
        if sender.push(piece).is_err() {
            self.between.bytes.fetch_sub(taken, Ordering::AcqRel);
            return 0;
        }
        taken
    }

    fn path(&self) -> Option<PathStats> {
        self.between.counts.read()
    }
}

impl Crossing {
    /// Bytes of the stream that there is room for, in whole datagrams.
    fn free(&self) -> usize {
        match &self.inside {
            Inside::Viewer(sender) if self.state == State::Granted && sender.room() > 0 => {
                let free = BYTES_OUT_MAX.saturating_sub(self.between.bytes.load(Ordering::Acquire));
                free - free % DATAGRAM_BYTES
            }
            _ => 0,
        }
    }
}

impl Drop for Crossing {
    fn drop(&mut self) {
        self.between.end();
    }
}

#[cfg(test)]
mod tests {
    use shardcast_engine::session::Refusal;

    use super::*;

    fn wish(stream_id: &str) -> Wish {
        Wish::read(stream_id.as_bytes()).unwrap()
    }

    /// What the session wants after an input, in words.
    fn told(session: &mut Crossing, input: Input<'_>) -> Vec<String> {
        let result = session.handle(input, Now(0));
        let mut said: Vec<String> = std::iter::from_fn(|| session.poll())
            .map(|output| match output {
                Output::Event(Event::Play { form, .. }) => format!("play {}", form.name),
                Output::Event(Event::Publish { name, query }) => format!("publish {name} {query}"),
                Output::Event(Event::Unpublish) => "unpublish".into(),
                Output::Close => "close".into(),
                other => panic!("{other:?}"),
            })
            .collect();
        said.extend(result.err().map(|error| error.why.to_owned()));
        said
    }

    #[test]
    fn a_viewer_is_given_as_much_as_there_is_room_for_and_asked_again_when_some_was_taken() {
        let (mut session, outside, between) = crossing(wish("read:live/cam"), None);
        let Outside::Viewer(mut lane) = outside else { panic!("it plays") };
        assert_eq!(told(&mut session, Input::Received(&[])), [format!("play {}", FORM.name)]);
        assert_eq!((session.room(Now(0)), between.standing()), (0, Standing::Asking));
        assert!(told(&mut session, Input::Answer(Answer::Playing)).is_empty());
        assert_eq!(between.standing(), Standing::Granted);
        let bytes = Bytes::from(vec![7; BYTES_OUT_MAX / 3 * 2]);
        assert_eq!(session.carry(&bytes, &mut Shelf::default(), Now(0)), bytes.len());
        let rest = session.room(Now(0));
        assert!(rest > 0 && rest % DATAGRAM_BYTES == 0 && rest < BYTES_OUT_MAX / 2);
        assert_eq!(session.carry(&bytes, &mut Shelf::default(), Now(0)), rest);
        assert_eq!(session.room(Now(0)), 0);
        let first = lane.pop().expect("it waits");
        assert!(between.took(first.len()), "the shard waits to hear of it");
        let second = lane.pop().expect("it waits");
        assert!(!between.took(second.len()), "it has heard of it");
        assert_eq!(first.len() + second.len(), bytes.len() + rest);
        assert!(session.room(Now(0)) > BYTES_OUT_MAX - DATAGRAM_BYTES);
        assert_eq!(told(&mut session, Input::Ended), ["close"]);
        drop(session);
        assert!(lane.is_abandoned() && between.standing() == Standing::Over);
    }

    #[test]
    fn a_publisher_that_goes_ends_its_stream_when_all_of_it_was_taken() {
        let (mut session, outside, between) = crossing(wish("publish:live/cam:ann:secret"), None);
        let Outside::Publisher(mut lane) = outside else { panic!("it publishes") };
        assert_eq!(told(&mut session, Input::Received(&[])), ["publish live/cam u=ann&key=secret"]);
        assert!(told(&mut session, Input::Answer(Answer::Publishing)).is_empty());
        assert!(lane.push(Bytes::from(vec![0; 1316])).is_ok());
        assert!(between.must_tell() && !between.must_tell());
        assert!(told(&mut session, Input::Received(&[])).is_empty());
        assert_eq!((session.received(), session.deadline()), (1316, Some(Now(0).after(QUIET))));
        assert!(between.must_tell(), "it has looked");
        assert!(lane.push(Bytes::from(vec![0; 1316])).is_ok());
        drop(lane);
        assert_eq!(told(&mut session, Input::Received(&[])), ["unpublish", "close"]);
        assert_eq!(session.received(), 2 * 1316);
    }

    #[test]
    fn a_refusal_is_the_last_word_and_an_end_without_an_answer_is_one() {
        let (mut session, _outside, between) = crossing(wish("live/cam"), None);
        told(&mut session, Input::Received(&[]));
        let why = told(&mut session, Input::Answer(Answer::Refused(Refusal::NotFound)));
        assert_eq!(why, ["no such stream"]);
        drop(session);
        assert_eq!(between.standing(), Standing::Refused(1404));
        let (session, _outside, between) = crossing(wish("live/cam"), None);
        drop(session);
        assert_eq!(between.standing(), Standing::Refused(UNAVAILABLE));
    }

    #[test]
    fn what_is_counted_is_read_as_it_was_written() {
        let counts = Counts::default();
        assert_eq!(counts.read(), None);
        let path = PathStats {
            connections: 1,
            rtt_microseconds: 2,
            received_packets: 3,
            missing_packets: 4,
            recovered_packets: 5,
            lost_packets: 6,
            late_packets: 7,
            unreadable_packets: 8,
            sent_packets: 9,
            sent_again_packets: 10,
            given_up_packets: 11,
            receive_buffer_packets: 12,
            send_buffer_packets: 13,
            ..PathStats::default()
        };
        counts.write(&path);
        assert_eq!(counts.read(), Some(path));
    }
}
