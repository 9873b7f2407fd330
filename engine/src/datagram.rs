//! What makes any session one of datagrams. Each [`Input::Received`] is one, and so is each [`Output::Send`]; empty ones are
//! left out both ways. What a viewer is sent is cut into datagrams of its [`Form`]'s size, and so is what its session says
//! while it plays.
//!
//! A machine around another, so that neither the hub nor the session need know what carries them. It holds the two rules
//! that a session could break: no datagram is larger than UDP carries, and nothing is played that is not cut into
//! datagrams.
//!
//! [`Form`]: crate::session::Form

use std::{collections::VecDeque, net::SocketAddr};

use bytes::Bytes;

use crate::{
    error::Error,
    limits::{self, DoorLimits},
    session::{Answer, Event, Input, Output, Refusal, Session, Shelf},
    stats::PathStats,
    time::Now,
};

/// A session whose peer is reached by datagrams.
pub struct Datagrams {
    session: Box<dyn Session>,
    outbox: VecDeque<Output>,
}

impl Datagrams {
    /// Around a session that has just been opened.
    pub fn new(session: Box<dyn Session>) -> Self {
        Datagrams { session, outbox: VecDeque::new() }
    }

    /// Takes what the session wants. True when it wants to play what cannot be sent to it.
    fn take_outputs(&mut self) -> Result<bool, Error> {
        let mut unsuited = false;
        while let Some(output) = self.session.poll() {
            match output {
                Output::Send(bytes) | Output::Share(bytes) if bytes.len() > limits::DATAGRAM_BYTES_MAX => {
                    let at = self.session.received();
                    return Err(Error::too_large("its session sent more than a datagram carries", at));
                }
                Output::Datagrams { size: 0, .. } => {
                    return Err(Error::malformed(
                        "its session sent datagrams of no length",
                        self.session.received(),
                    ));
                }
                Output::Event(Event::Play { form, .. }) if form.datagram.is_none() => {
                    unsuited = true;
                    self.outbox.push_back(Output::Event(Event::Remark(UNSUITED)));
                }
                output => self.outbox.push_back(output),
            }
        }
        Ok(unsuited)
    }
}

impl Session for Datagrams {
    fn handle(&mut self, input: Input<'_>, now: Now) -> Result<(), Error> {
        let mut result = self.session.handle(input, now);
        while self.take_outputs()? && result.is_ok() {
            result = self.session.handle(Input::Answer(Answer::Refused(Refusal::Unsupported)), now);
        }
        result
    }

    fn poll(&mut self) -> Option<Output> {
        self.outbox.pop_front()
    }

    fn deadline(&self) -> Option<Now> {
        self.session.deadline()
    }

    fn received(&self) -> u64 {
        self.session.received()
    }

    fn carries(&self) -> bool {
        self.session.carries()
    }

    fn room(&mut self, now: Now) -> usize {
        self.session.room(now)
    }

    fn carry(&mut self, bytes: &Bytes, shelf: &mut Shelf, now: Now) -> usize {
        let taken = self.session.carry(bytes, shelf, now);
        // A fault of the session's own is left for its next input to say.
        let _ = self.take_outputs();
        taken
    }

    fn path(&self) -> Option<PathStats> {
        self.session.path()
    }
}

/// What looks at a datagram before anybody else: the bytes, where they come from, the door's limits and the time.
///
/// ```
/// use shardcast_engine::datagram::{Greet, Greeting};
///
/// /// Lets in whoever knows the word.
/// const GREET: Greet = |datagram, _, _, _| {
///     if datagram.starts_with(b"sesame") { Greeting::Begin } else { Greeting::Known }
/// };
/// # let _ = GREET;
/// ```
pub type Greet = fn(&[u8], SocketAddr, &DoorLimits, Now) -> Greeting;

/// What becomes of a datagram that a door looks at.
///
/// ```
/// use shardcast_engine::{datagram::Greeting, limits::DoorLimits, protocol::SRT, time::Now};
///
/// let greet = SRT.greet.expect("it asks callers for a cookie");
/// let stranger = greet(b"hello", ([192, 0, 2, 1], 9000).into(), &DoorLimits::default(), Now(0));
/// assert_eq!(stranger, Greeting::Known);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// It is answered, and nobody else hears of it.
    Answer(Bytes),
    /// It is for the session of its address, which is opened where there is none.
    Begin,
    /// It is for the session of its address, if there is one.
    Known,
    /// It is for the session with this number, whatever address it comes from.
    For(u64),
    /// Nobody hears of it.
    Ignore,
}

/// What the log says when a viewer is refused for the form that it wants.
const UNSUITED: &str = "refused: its form is not cut into datagrams, so it cannot be played over UDP";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{media::StreamName, session::Form};

    static WHOLE: Form =
        Form { name: "whole", datagram: None, prompt: false, open: || unreachable!("nothing is muxed here") };
    static CUT: Form =
        Form { name: "cut", datagram: Some(100), prompt: false, open: || unreachable!("nor here") };

    /// Plays, or sends as many bytes as it is told; says what it was refused for.
    #[derive(Default)]
    struct Told {
        outbox: VecDeque<Output>,
    }

    impl Session for Told {
        fn handle(&mut self, input: Input<'_>, _: Now) -> Result<(), Error> {
            let output = match input {
                Input::Received(form @ (b"whole" | b"cut")) => Output::Event(Event::Play {
                    name: StreamName::new("live", "cam").expect("a legal name"),
                    query: String::new(),
                    form: if form == b"cut" { &CUT } else { &WHOLE },
                }),
                Input::Received(length) => {
                    let length = String::from_utf8_lossy(length).parse().expect("a length");
                    Output::Send(Bytes::from(vec![7; length]))
                }
                Input::Answer(Answer::Refused(why)) => Output::Send(Bytes::from_static(why.why().as_bytes())),
                other => panic!("{other:?}"),
            };
            self.outbox.push_back(output);
            Ok(())
        }
        fn poll(&mut self) -> Option<Output> {
            self.outbox.pop_front()
        }
        fn deadline(&self) -> Option<Now> {
            None
        }
        fn received(&self) -> u64 {
            9
        }
    }

    fn told(what: &[u8]) -> (Result<(), Error>, Vec<Output>) {
        let mut session = Datagrams::new(Box::<Told>::default());
        let result = session.handle(Input::Received(what), Now(0));
        (result, std::iter::from_fn(|| session.poll()).collect())
    }

    #[test]
    fn a_form_that_is_not_cut_into_datagrams_is_refused_and_one_that_is_goes_on_to_the_hub() {
        let (result, outputs) = told(b"whole");
        assert_eq!(result, Ok(()));
        let [Output::Event(Event::Remark(UNSUITED)), Output::Send(why)] = &outputs[..] else {
            panic!("{outputs:?}")
        };
        assert_eq!(why, Refusal::Unsupported.why());
        let (_, outputs) = told(b"cut");
        assert!(matches!(&outputs[..], [Output::Event(Event::Play { .. })]), "{outputs:?}");
    }

    #[test]
    fn more_than_a_datagram_carries_is_an_error() {
        let (result, outputs) = told(b"65507");
        assert!(matches!(&outputs[..], [Output::Send(bytes)] if bytes.len() == 65_507), "{result:?}");
        let (result, outputs) = told(b"65508");
        assert!(result.is_err_and(|error| error.at == 9) && outputs.is_empty());
    }
}
