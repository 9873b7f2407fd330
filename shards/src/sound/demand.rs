//! Renditions of streams with another sound or other pictures, each while somebody watches it: who wants one is told by the node, and
//! threads of its own make it of the stream.

use std::{
    collections::BTreeMap,
    io,
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
    host::{Attached, Events, Ffmpeg, Handle, HostError, Stop, Transcoder as _},
};

/// How long one goes on for nobody: who comes back finds it.
const LINGER: Duration = Duration::from_secs(5);
/// How often it is looked for such.
const LOOK: Duration = Duration::from_secs(1);
/// Renditions at the same time. Whoever wants another one waits in vain, and is refused.
const RENDITIONS_MAX: usize = 1000;

/// What ffmpeg does to pictures that are sent in another order than they are shown in: it codes them anew without B-frames, a key frame
/// where the stream has one. The sound is left as it is.
const PLAIN: &str = "-c:v libx264 -preset veryfast -tune zerolatency -bf 0 -pix_fmt yuv420p -force_key_frames source -c:a copy";
/// What stands between two steps is called.
const BETWEEN: &str = "pictures";

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
    /// What it is made by; the last publishes it.
    threads: Vec<Attached>,
    /// Since when nobody has watched it.
    unwatched: Option<Instant>,
}

impl Running {
    /// Whether one of them has ended by itself.
    fn is_over(&self) -> bool {
        self.threads.iter().any(Attached::is_finished)
    }
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
            && !running.is_over()
        {
            running.unwatched = None;
            return;
        }
        if self.running.len() >= RENDITIONS_MAX {
            let line = LogLine::warn("as many renditions as there may be: another one is not made");
            return self.log.write(LogLine { stream: Some(name), ..line });
        }
        match self.begin(&name) {
            Ok(threads) => drop(self.running.insert(name, Running { threads, unwatched: None })),
            Err(error) => {
                let line = LogLine::warn("a rendition is not made").detail(error.to_string());
                self.log.write(LogLine { stream: Some(name), ..line });
            }
        }
    }

    /// Starts what makes a rendition.
    fn begin(&self, name: &StreamName) -> io::Result<Vec<Attached>> {
        match name.origin() {
            Some((origin, StreamName::OPUS)) => Ok(vec![self.convert(origin, name)?]),
            Some((origin, StreamName::PLAIN)) => Ok(vec![self.transcode(origin, name.clone())?]),
            Some((origin, StreamName::PLAIN_OPUS)) => {
                let between = name.rendition(BETWEEN);
                Ok(vec![self.transcode(origin, between.clone())?, self.convert(between, name)?])
            }
            _ => Err(io::Error::other("nobody knows how")),
        }
    }

    fn convert(&self, from: StreamName, to: &StreamName) -> io::Result<Attached> {
        let (node, name) = (self.node.clone(), to.clone());
        Attached::start(&self.node, to, "converter", move |stop| convert(&node, &from, &name, stop))
    }

    fn transcode(&self, from: StreamName, to: StreamName) -> io::Result<Attached> {
        let (node, name) = (self.node.clone(), to.clone());
        Attached::start(&self.node, &to, "transcoder", move |stop| {
            Ffmpeg::new(PLAIN.split(' ')).run(&node, &from, &name, stop)
        })
    }

    fn sweep(&mut self) {
        self.running.retain(|_, running| {
            let over = running.unwatched.is_some_and(|since| since.elapsed() > LINGER);
            !over && !running.is_over()
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
