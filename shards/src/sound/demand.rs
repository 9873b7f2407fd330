//! Renditions of streams with another sound, each while somebody watches it: who wants one is told by the node, and a thread of its
//! own makes it of the stream.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use shardcast_engine::{
    media::{Frame, Payload, StreamName, TrackId},
    observe::StreamEvent,
};
use tokio::{task::JoinHandle, time::interval};

use super::{Converter, SoundError};
use crate::{
    control::log::{Log, LogLine},
    host::{Attached, Events, Handle, HostError, Stop},
};

/// How long one goes on for nobody: who comes back finds it.
const LINGER: Duration = Duration::from_secs(5);
/// How often it is looked for such.
const LOOK: Duration = Duration::from_secs(1);
/// Renditions at the same time. Whoever wants another one waits in vain, and is refused.
const RENDITIONS_MAX: usize = 1000;

/// Makes the renditions that are wanted. Dropping it ends all.
pub struct Renditions(JoinHandle<()>);

impl Drop for Renditions {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Renditions {
    /// Begins to listen, on the runtime of the calling task.
    pub fn start(node: &Handle, log: &Log) -> Renditions {
        // Before anybody can be missed.
        let events = node.listen(|event| match event {
            StreamEvent::FirstViewer { name } | StreamEvent::LastViewer { name } => name.is_rendition(),
            _ => false,
        });
        let all = All { node: node.clone(), log: log.clone(), running: BTreeMap::new() };
        Renditions(tokio::spawn(all.run(events)))
    }
}

struct All {
    node: Handle,
    log: Log,
    running: BTreeMap<StreamName, Running>,
}

struct Running {
    thread: Attached,
    /// Since when nobody has watched it.
    unwatched: Option<Instant>,
}

impl All {
    async fn run(mut self, mut events: Events) {
        let mut look = interval(LOOK);
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(StreamEvent::FirstViewer { name }) => self.wanted(name),
                    Some(StreamEvent::LastViewer { name }) => {
                        if let Some(running) = self.running.get_mut(&name) {
                            running.unwatched = Some(Instant::now());
                        }
                    }
                    Some(_) => {}
                    None => return,
                },
                _ = look.tick() => self.sweep(),
            }
        }
    }

    fn wanted(&mut self, name: StreamName) {
        if let Some(running) = self.running.get_mut(&name)
            && !running.thread.is_finished()
        {
            running.unwatched = None;
            return;
        }
        let Some((origin, StreamName::OPUS)) = name.origin() else { return };
        if self.running.len() >= RENDITIONS_MAX {
            let line = LogLine::warn("as many renditions as there may be: another one is not made");
            return self.log.write(LogLine { stream: Some(name), ..line });
        }
        let (node, to) = (self.node.clone(), name.clone());
        let work = move |stop: &Stop| convert(&node, &origin, &to, stop);
        match Attached::start(&self.node, &name, "converter", work) {
            Ok(thread) => drop(self.running.insert(name, Running { thread, unwatched: None })),
            Err(error) => {
                let line = LogLine::warn("a rendition is not made").detail(error.to_string());
                self.log.write(LogLine { stream: Some(name), ..line });
            }
        }
    }

    fn sweep(&mut self) {
        self.running.retain(|_, running| {
            let over = running.unwatched.is_some_and(|since| since.elapsed() > LINGER);
            !over && !running.thread.is_finished()
        });
    }
}

/// Publishes `to`, which is `from` with another sound, until that ends or nobody wants it any more.
fn convert(node: &Handle, from: &StreamName, to: &StreamName, stop: &Stop) -> Result<(), HostError> {
    let (mut source, mut publisher) = (node.subscribe(from), node.publish_trusted(to));
    let (mut converter, mut made) = (Converter::new(), Vec::new());
    while let Some(Ok(frame)) = stop.until(source.next()) {
        if is_sound(&frame) {
            match converter.convert(&frame, &mut made) {
                // Sound of which nothing can be made is left out, and the picture goes on.
                Ok(()) | Err(SoundError::NoParameters | SoundError::Unsupported(_)) => {}
                Err(error) => return Err(error.into()),
            }
        } else {
            made.push(frame);
        }
        for frame in made.drain(..) {
            match stop.until(publisher.send(frame)) {
                Some(sent) => sent?,
                None => return Ok(()),
            }
        }
    }
    Ok(())
}

/// Sound, or what a decoder has to know of it.
fn is_sound(frame: &Frame) -> bool {
    frame.track == TrackId::AUDIO && matches!(frame.payload, Payload::Audio { .. } | Payload::Parameters(_))
}
