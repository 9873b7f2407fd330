//! The conversation of a stream that goes out by datagrams: nobody answers.

use std::collections::VecDeque;

use crate::{
    error::Error,
    media::StreamName,
    mpegts::FORM,
    session::{self, Answer, Event, Input, Output},
    time::Now,
};

/// Plays a stream for whoever is at the other end. What they are sent are the shared packets of MPEG-TS, like any viewer of
/// that form; how it is cut and when it goes is the business of an [`Outflow`](super::Outflow).
///
/// ```
/// use shardcast_engine::{media::StreamName, session::{Answer, Event, Input, Output, Session as _}, time::Now, udp::Sender};
///
/// let mut sender = Sender::new(StreamName::parse("live/cam")?);
/// assert!(matches!(sender.poll(), Some(Output::Event(Event::Play { .. }))));
/// sender.handle(Input::Answer(Answer::Playing), Now(0))?;
/// sender.handle(Input::Ended, Now(0))?;
/// assert!(matches!(sender.poll(), Some(Output::Close)));
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
#[derive(Debug)]
pub struct Sender {
    outbox: VecDeque<Output>,
}

impl Sender {
    /// For the stream `name`, which should be live: one that is not is refused, and the sender is over.
    pub fn new(name: StreamName) -> Self {
        let wish = Event::Play { name, query: String::new(), form: &FORM };
        Sender { outbox: [Output::Event(wish)].into() }
    }
}

impl session::Session for Sender {
    fn handle(&mut self, input: Input<'_>, _: Now) -> Result<(), Error> {
        if matches!(input, Input::Answer(Answer::Refused(_)) | Input::Ended | Input::Shutdown) {
            self.outbox.push_back(Output::Close);
        }
        Ok(())
    }

    fn poll(&mut self) -> Option<Output> {
        self.outbox.pop_front()
    }

    fn deadline(&self) -> Option<Now> {
        None
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
    fn a_sender_asks_once_and_is_over_when_it_is_refused_or_its_stream_is() {
        for end in [Input::Answer(Answer::Refused(Refusal::NotFound)), Input::Ended, Input::Shutdown] {
            let mut sender = Sender::new(StreamName::parse("live/cam").unwrap());
            let Some(Output::Event(Event::Play { name, form, .. })) = sender.poll() else {
                panic!("it asks")
            };
            assert_eq!((name.as_str(), form.datagram), ("live/cam", Some(1316)));
            sender.handle(Input::Received(b"who is there?"), Now(0)).unwrap();
            assert!(sender.poll().is_none());
            sender.handle(end, Now(0)).unwrap();
            assert!(matches!(sender.poll(), Some(Output::Close)) && sender.poll().is_none());
        }
    }
}
