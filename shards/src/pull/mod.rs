//! Streams that other servers and cameras are asked for by RTSP: each is a task of the control thread, and comes into the node as
//! a host's frames do, by a lane to the core that owns it.
//!
//! The conversation is the crate retina's; what is in the packets is read by the engine, as of whoever publishes by RTSP.

mod conversation;
mod counters;
mod failure;
mod meter;
mod source;
mod valve;

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use shardcast_engine::{media::StreamName, observe::StreamEvent, relay::Backoff};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

pub use self::{
    counters::{Counters, PullState, PullStats},
    source::{Credentials, Pull},
};
use crate::{
    control::{
        Shards,
        log::{Log, LogLine},
    },
    host::{Events, Handle},
};

/// How often a pull says the same thing in the log, at most.
const SAY_INTERVAL: Duration = Duration::from_secs(60);
/// One that has gone well for so long is tried again soon when it ends.
const GOOD_TIME: Duration = Duration::from_secs(10);

/// All that is pulled. Dropping it ends all, and tells those who are pulled from.
pub struct Pulls {
    counters: Vec<Arc<Counters>>,
    /// Aborted when they are dropped.
    _tasks: JoinSet<()>,
}

impl Pulls {
    /// Begins to pull, on the runtime of the calling task.
    pub(crate) fn start(pulls: Vec<Pull>, node: &Handle, shards: &Arc<Shards>, log: &Log) -> Pulls {
        let mut tasks = JoinSet::new();
        let mut counters = Vec::new();
        let mut wanted = HashMap::new();
        // Before anybody can be missed.
        let events = node.listen(|event| {
            matches!(event, StreamEvent::FirstViewer { .. } | StreamEvent::LastViewer { .. })
        });
        for pull in pulls {
            let counts = Arc::new(Counters::new(pull.name.clone()));
            counters.push(counts.clone());
            let demand = pull.linger.map(|linger| {
                let (sender, receiver) = watch::channel(false);
                wanted.insert(pull.name.clone(), sender);
                Demand { wanted: receiver, linger }
            });
            let voice = Voice::new(&pull, log);
            tasks.spawn(Task { pull, node: node.clone(), counters: counts, voice, demand }.run());
        }
        if !wanted.is_empty() {
            tasks.spawn(hear(events, wanted, shards.clone()));
        }
        Pulls { counters, _tasks: tasks }
    }

    /// What each says of itself.
    pub fn counters(&self) -> Vec<Arc<Counters>> {
        self.counters.clone()
    }
}

/// Tells the pulls whether somebody wants their streams.
async fn hear(mut events: Events, wanted: HashMap<StreamName, watch::Sender<bool>>, shards: Arc<Shards>) {
    while let Some(event) = events.next().await {
        let (name, wants) = match &event {
            StreamEvent::FirstViewer { name } => (name, true),
            StreamEvent::LastViewer { name } => (name, false),
            _ => continue,
        };
        if let Some(pull) = wanted.get(name) {
            pull.send_replace(wants);
        }
        if events.take_missed() > 0 {
            // The shards know who is there.
            let streams = shards.snapshot().await.streams();
            for (name, pull) in &wanted {
                pull.send_replace(streams.get(name).is_some_and(|stream| stream.viewers > 0));
            }
        }
    }
}

/// Whether somebody wants the stream.
struct Demand {
    wanted: watch::Receiver<bool>,
    /// How long it goes on for nobody.
    linger: Duration,
}

impl Demand {
    /// Returns when somebody wants it; false when nobody ever will.
    async fn wait(&mut self) -> bool {
        self.wanted.wait_for(|wanted| *wanted).await.is_ok()
    }

    /// Returns when nobody has wanted it for so long.
    async fn over(&mut self) {
        loop {
            if self.wanted.wait_for(|wanted| !*wanted).await.is_err() {
                return;
            }
            if timeout(self.linger, self.wait()).await.is_err() {
                return;
            }
        }
    }
}

/// One pull.
struct Task {
    pull: Pull,
    node: Handle,
    counters: Arc<Counters>,
    voice: Voice,
    /// `None` for one that always goes on.
    demand: Option<Demand>,
}

impl Task {
    async fn run(self) {
        let Task { pull, node, counters, mut voice, mut demand } = self;
        let mut backoff = Backoff::default();
        loop {
            if let Some(demand) = &mut demand {
                counters.set(PullState::Idle);
                if !demand.wait().await {
                    return;
                }
            }
            counters.set(PullState::Connecting);
            let began = Instant::now();
            let failure = tokio::select! {
                // Its turn is counted from the beginning.
                biased;
                failure = conversation::run(&pull, &node, &counters, &mut voice) => failure,
                () = over(&mut demand) => {
                    backoff = Backoff::default();
                    voice.say(Kind::Unwanted, LogLine::info("nobody watches what was pulled on demand"));
                    continue;
                }
            };
            if counters.state() == PullState::Playing && began.elapsed() > GOOD_TIME {
                backoff = Backoff::default();
            }
            counters.set(PullState::Waiting);
            voice.say(Kind::Failed(failure.kind()), failure.line());
            if failure.is_slow() {
                backoff.give_up_hope();
            }
            // Many cameras of one switch must not all come at once.
            let pause = backoff.failed(Duration::ZERO, RandomState::new().hash_one(0));
            tokio::select! {
                () = sleep(pause) => counters.reconnect(),
                () = over(&mut demand) => backoff = Backoff::default(),
            }
        }
    }
}

/// Returns when nobody wants the stream any more; never for one that always goes on.
async fn over(demand: &mut Option<Demand>) {
    match demand {
        Some(demand) => demand.over().await,
        None => std::future::pending().await,
    }
}

/// What a line of a pull is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Playing,
    LeftOut,
    Unwanted,
    Failed(failure::Kind),
}

/// Speaks for one pull in the log: of each thing once in a while.
struct Voice {
    log: Log,
    name: StreamName,
    /// When each was said last. As many as there are kinds.
    said: Vec<(Kind, Instant)>,
    /// What is never written, whoever says it.
    secrets: Vec<String>,
}

impl Voice {
    fn new(pull: &Pull, log: &Log) -> Voice {
        Voice { log: log.clone(), name: pull.name.clone(), said: Vec::new(), secrets: pull.secrets() }
    }

    fn say(&mut self, kind: Kind, line: LogLine) {
        let now = Instant::now();
        match self.said.iter_mut().find(|(said, _)| *said == kind) {
            Some((_, at)) if now.duration_since(*at) < SAY_INTERVAL => return,
            Some((_, at)) => *at = now,
            None => self.said.push((kind, now)),
        }
        let detail = line.detail.as_deref().map(|detail| without(detail, &self.secrets).into());
        self.log.write(LogLine { protocol: Some("rtsp"), stream: Some(self.name.clone()), detail, ..line });
    }
}

/// The text with a star for each secret.
fn without(text: &str, secrets: &[String]) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "*"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_viewer_that_comes_back_in_time_keeps_what_is_pulled_on_demand() {
        let (sender, wanted) = watch::channel(true);
        let mut demand = Demand { wanted, linger: Duration::from_millis(500) };
        let began = Instant::now();
        let viewers = async {
            for (pause, wants) in [(50, false), (100, true), (500, false)] {
                sleep(Duration::from_millis(pause)).await;
                sender.send_replace(wants);
            }
        };
        tokio::join!(viewers, demand.over());
        assert!(began.elapsed() >= Duration::from_millis(1_150), "{:?}", began.elapsed());
    }

    #[test]
    fn secrets_are_not_written() {
        let secrets = ["hunter2".to_owned(), "key=see".to_owned()];
        let text = without("401 to rtsp://h/cam?key=see of admin:hunter2", &secrets);
        assert_eq!(text, "401 to rtsp://h/cam?* of admin:*");
    }
}
