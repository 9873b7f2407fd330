//! The server's half of the plain protocol.

use std::{collections::VecDeque, time::Duration};

use bytes::{Bytes, BytesMut};
use shardcast_engine::{
    error::Error,
    media::StreamName,
    session::{self, Answer, Event, Input, Output, newest},
    time::Now,
};

use super::{FORM, Messages, TERSE, frame_of, put, word};

/// How often a peer hears that the server is alive.
const ALIVE_INTERVAL: Duration = Duration::from_millis(700);
/// How long a peer may take to say what it wants.
const GREETING_MAX: Duration = Duration::from_secs(5);
/// A pong is larger than its ping, so that a peer that only asks fills its outbox.
const PONG_BYTES: usize = 4096;

/// One peer's conversation.
#[derive(Debug)]
pub struct Session {
    messages: Messages,
    state: State,
    outputs: VecDeque<Output>,
    deadline: Now,
    received: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Greeting,
    Idle,
    Asking,
    Publishing,
    Playing,
    Closed,
}

impl Session {
    /// A conversation that begins now.
    pub fn new(now: Now) -> Self {
        Session {
            messages: Messages::default(),
            state: State::Greeting,
            outputs: VecDeque::new(),
            deadline: now.after(GREETING_MAX),
            received: 0,
        }
    }

    fn say(&mut self, word: u8, body: &[u8]) {
        let mut out = BytesMut::new();
        put(&mut out, word, body);
        self.outputs.push_back(Output::Send(out.freeze()));
    }

    fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.outputs.push_back(Output::Close);
    }

    /// Works through what came, up to a wish: what follows it waits for the answer.
    fn read(&mut self, now: Now) -> Result<(), Error> {
        while !matches!(self.state, State::Asking | State::Closed) {
            let next = self.messages.next().map_err(|why| Error::malformed(why, self.received))?;
            let Some((said, body)) = next else { break };
            if self.state == State::Greeting {
                self.state = State::Idle;
                self.deadline = now.after(ALIVE_INTERVAL);
            }
            self.hear(said, &body)?;
        }
        Ok(())
    }

    fn hear(&mut self, said: u8, body: &Bytes) -> Result<(), Error> {
        let at = self.received;
        let broken = Error::malformed("a message that makes no sense", at);
        match said {
            word::PUBLISH | word::PLAY | word::PLAY_TERSE => {
                let name = std::str::from_utf8(body).map_err(|_| broken)?;
                let name = StreamName::parse(name).map_err(|error| error.after(at))?;
                self.state = State::Asking;
                self.tell(match said {
                    word::PUBLISH => Event::Publish { name, query: String::new() },
                    word::PLAY => Event::Play { name, query: String::new(), form: &FORM },
                    _ => Event::Play { name, query: String::new(), form: &TERSE },
                });
            }
            // A frame is passed on whatever the state is: it is the hub that must not take it from just anyone.
            word::FRAME => self.tell(Event::Frame(frame_of(body).ok_or(broken)?)),
            word::UNPUBLISH => {
                self.state = State::Idle;
                self.tell(Event::Unpublish);
            }
            word::STOP => {
                self.state = State::Idle;
                self.tell(Event::Stop);
                self.say(word::STOPPED, &[]);
            }
            word::PAUSE => {
                self.tell(Event::Pause(true));
                self.say(word::PAUSED, &[]);
            }
            word::RESUME => {
                self.say(word::RESUMED, &[]);
                self.tell(Event::Pause(false));
            }
            word::PING => self.say(word::PONG, &[0; PONG_BYTES]),
            word::BREAK => panic!("{}", super::super::EXPECTED_PANIC),
            _ => return Err(broken),
        }
        Ok(())
    }
}

impl session::Session for Session {
    fn handle(&mut self, input: Input<'_>, now: Now) -> Result<(), Error> {
        match input {
            Input::Received(bytes) => {
                self.received += bytes.len() as u64;
                self.messages.push(bytes);
                self.read(now)?;
            }
            Input::Filled { memory, received } => {
                self.received += received as u64;
                self.messages.push(newest(&memory, received));
                self.read(now)?;
            }
            Input::Answer(answer) => {
                match answer {
                    Answer::Publishing => {
                        self.state = State::Publishing;
                        self.say(word::PUBLISHING, &[]);
                    }
                    Answer::Playing => {
                        self.state = State::Playing;
                        self.say(word::PLAYING, &[]);
                    }
                    Answer::Refused(refusal) => {
                        self.state = State::Idle;
                        self.say(word::REFUSED, refusal.why().as_bytes());
                    }
                }
                self.read(now)?;
            }
            Input::Ended => {
                self.state = State::Idle;
                self.say(word::ENDED, &[]);
            }
            Input::KeyframeWanted => self.say(word::KEYFRAME, &[]),
            // It asks for none.
            Input::Described(_) | Input::Fetched(_) | Input::Datagram { .. } => {}
            Input::From { .. } | Input::Signal(_) | Input::Signalled(_) => {}
            Input::Timeout => {
                if self.state == State::Greeting {
                    return Err(Error::timed_out("said nothing", self.received));
                }
                self.deadline = now.after(ALIVE_INTERVAL);
                self.say(word::ALIVE, &[]);
            }
            Input::Shutdown => {
                self.say(word::BYE, &[]);
                self.close();
            }
        }
        Ok(())
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Now> {
        (self.state != State::Closed).then_some(self.deadline)
    }

    fn received(&self) -> u64 {
        self.received
    }

    fn lends(&self) -> bool {
        self.state == State::Publishing
    }

    fn lend(&mut self) -> BytesMut {
        BytesMut::with_capacity(LENT_BYTES)
    }
}

/// Memory that is lent at a time: less than many a frame.
const LENT_BYTES: usize = 64;
