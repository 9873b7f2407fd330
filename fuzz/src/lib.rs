//! What the targets share: a driver without a socket, which talks to a session as a shard would and writes down what the
//! session told its hub.

use shardcast_engine::{
    error::Error,
    session::{Answer, Event, Input, Output, Refusal, Session},
    time::Now,
};

/// What a session did with its peer's bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Transcript {
    /// What it told the hub, in its words.
    pub events: Vec<String>,
    /// How it ended: by its own wish, by an error, or not at all.
    pub end: Option<Result<(), Error>>,
}

/// What the hub does besides listening.
#[derive(Clone, Copy, Debug)]
pub struct Hub {
    /// It refuses every wish but the first few.
    pub grants: u8,
    /// What happens to the stream after the last byte.
    pub last: Last,
}

/// What happens to the stream after the last byte.
#[derive(Clone, Copy, Debug)]
pub enum Last {
    /// Nothing.
    Silence,
    /// It ends.
    Ended,
    /// A viewer waits for a key frame.
    KeyframeWanted,
    /// The peer's deadline comes.
    Timeout,
    /// The node goes down.
    Shutdown,
}

impl Hub {
    /// From one byte of fuzz.
    pub const fn of(byte: u8) -> Self {
        let last = match byte >> 4 & 7 {
            0 => Last::Ended,
            1 => Last::KeyframeWanted,
            2 => Last::Timeout,
            3 => Last::Shutdown,
            _ => Last::Silence,
        };
        Hub { grants: byte & 15, last }
    }
}

/// Gives `bytes` to the session in pieces of at most `piece`, answers its wishes, and drains it after each.
pub fn converse(session: &mut dyn Session, bytes: &[u8], piece: usize, hub: Hub) -> Transcript {
    let mut transcript = Transcript::default();
    let mut grants = hub.grants;
    let before = session.received();
    for piece in bytes.chunks(piece.max(1)) {
        step(session, Input::Received(piece), &mut grants, &mut transcript);
        if transcript.end.is_some() {
            return transcript;
        }
    }
    assert_eq!(session.received() - before, bytes.len() as u64, "a session counts what it was given");
    match hub.last {
        Last::Silence => {}
        Last::Ended => step(session, Input::Ended, &mut grants, &mut transcript),
        Last::KeyframeWanted => step(session, Input::KeyframeWanted, &mut grants, &mut transcript),
        Last::Timeout => step(session, Input::Timeout, &mut grants, &mut transcript),
        Last::Shutdown => step(session, Input::Shutdown, &mut grants, &mut transcript),
    }
    transcript
}

fn step(session: &mut dyn Session, input: Input<'_>, grants: &mut u8, transcript: &mut Transcript) {
    const NOW: Now = Now(1_000_000_000);
    let mut result = session.handle(input, NOW);
    // An answer may free bytes that hold the next wish.
    while let Some(output) = session.poll() {
        match output {
            Output::Send(bytes) => assert!(!bytes.is_empty()),
            Output::Event(event) => {
                let answer = match &event {
                    Event::Publish { .. } => Some(Answer::Publishing),
                    Event::Play { .. } => Some(Answer::Playing),
                    _ => None,
                };
                transcript.events.push(format!("{event:?}"));
                if let (Some(granted), Ok(())) = (answer, result) {
                    let refused = Answer::Refused(Refusal::NotFound);
                    let answer = if *grants > 0 { granted } else { refused };
                    *grants = grants.saturating_sub(1);
                    result = session.handle(Input::Answer(answer), NOW);
                }
            }
            Output::Close => {
                transcript.end = Some(Ok(()));
                return;
            }
        }
    }
    if let Err(error) = result {
        transcript.end = Some(Err(error));
    }
}
