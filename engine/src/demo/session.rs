//! The demo as a conversation: it wants to publish, and then says what its clip says. It has no peer and hears nothing.

use std::collections::VecDeque;

use super::{CLIP, Demo};
use crate::{
    error::Error,
    media::StreamName,
    session::{self, Answer, Event, Input, Output},
    time::Now,
};

/// How long a refused demo waits before it asks again: somebody else has its name.
const RETRY: std::time::Duration = std::time::Duration::from_secs(5);

/// A conversation that publishes the built-in clip.
#[derive(Debug)]
pub struct Session {
    name: StreamName,
    demo: Demo,
    state: State,
    outbox: VecDeque<Event>,
}

#[derive(Debug)]
enum State {
    /// It asks for its name when this time comes.
    Silent(Now),
    Asking,
    Publishing,
}

impl Session {
    /// A conversation that will publish the clip as `live/demo`.
    pub fn new(now: Now) -> Self {
        Session {
            name: StreamName::new("live", "demo").expect("a legal name"),
            demo: Demo::new(CLIP).expect("a test reads the built-in clip"),
            state: State::Silent(now),
            outbox: VecDeque::new(),
        }
    }
}

impl session::Session for Session {
    fn handle(&mut self, input: Input<'_>, now: Now) -> Result<(), Error> {
        match (input, &self.state) {
            (Input::Answer(Answer::Publishing), State::Asking) => self.state = State::Publishing,
            (Input::Answer(_), State::Asking) => self.state = State::Silent(now.after(RETRY)),
            (Input::Timeout, State::Silent(until)) if *until <= now => {
                self.state = State::Asking;
                self.outbox.push_back(Event::Publish { name: self.name.clone(), query: String::new() });
            }
            _ => {}
        }
        if matches!(self.state, State::Publishing) {
            while let Some(frame) = self.demo.poll(now) {
                self.outbox.push_back(Event::Frame(frame));
            }
        }
        Ok(())
    }

    fn poll(&mut self) -> Option<Output> {
        self.outbox.pop_front().map(Output::Event)
    }

    fn deadline(&self) -> Option<Now> {
        match self.state {
            State::Silent(until) => Some(until),
            State::Asking => None,
            State::Publishing => self.demo.deadline(),
        }
    }

    fn received(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Refusal, Session as _};

    #[test]
    fn it_asks_until_it_may_and_then_sends_frames_at_their_time() {
        let mut session = Session::new(Now(1));
        session.handle(Input::Timeout, Now(1)).unwrap();
        assert!(matches!(session.poll(), Some(Output::Event(Event::Publish { .. }))));
        session.handle(Input::Answer(Answer::Refused(Refusal::AlreadyLive)), Now(1)).unwrap();
        let again = session.deadline().unwrap();
        session.handle(Input::Timeout, again).unwrap();
        assert!(matches!(session.poll(), Some(Output::Event(Event::Publish { .. }))));
        session.handle(Input::Answer(Answer::Publishing), again).unwrap();
        let mut key_frames = 0;
        let mut now = again;
        while now.since(again) < std::time::Duration::from_secs(5) {
            while let Some(output) = session.poll() {
                key_frames +=
                    usize::from(matches!(output, Output::Event(Event::Frame(frame)) if frame.is_key()));
            }
            now = session.deadline().unwrap();
            session.handle(Input::Timeout, now).unwrap();
        }
        assert_eq!(key_frames, 3, "a key frame every two seconds");
    }
}
