//! All shards, as the control thread speaks with them.

use std::{
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use tokio::{
    sync::{Mutex, oneshot},
    time::{Instant, timeout_at},
};

use super::link::{Link, Phase, Report, Request, Snapshot};

/// How long a shard may take to answer before it counts as stuck.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a shard that is still starting is asked whether it is up.
const START_POLL: Duration = Duration::from_millis(20);

/// All shards, as the control thread sees them.
pub struct Shards {
    links: Mutex<Vec<Link>>,
    count: usize,
    phase: AtomicU8,
}

impl Shards {
    /// The shards at the other ends of `links`.
    pub fn new(links: Vec<Link>) -> Self {
        let count = links.len();
        Shards { links: Mutex::new(links), count, phase: AtomicU8::new(Phase::Starting as u8) }
    }
    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }
    /// Where the node is in its life.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            phase if phase == Phase::Starting as u8 => Phase::Starting,
            phase if phase == Phase::Serving as u8 => Phase::Serving,
            _ => Phase::Draining,
        }
    }
    /// The node moves on.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }
    /// Tells every shard, and says how many were stuck or gone.
    pub async fn tell(&self, request: impl Fn() -> Request) -> usize {
        self.links.lock().await.iter_mut().map(|link| usize::from(!link.send(request()))).sum()
    }
    /// Asks every shard how it stands, for at most a second.
    pub async fn snapshot(&self) -> Snapshot {
        let answers: Vec<Option<oneshot::Receiver<Report>>> = self
            .links
            .lock()
            .await
            .iter_mut()
            .map(|link| {
                let (answer, waiting) = oneshot::channel();
                link.send(Request::Report(answer)).then_some(waiting)
            })
            .collect();
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let mut reports = Vec::with_capacity(answers.len());
        for answer in answers {
            reports.push(match answer {
                Some(answer) => timeout_at(deadline, answer).await.ok().and_then(Result::ok),
                None => None,
            });
        }
        Snapshot { reports }
    }
    /// Returns when every shard has answered once, and the node serves (unless it drains already). A shard that fails to
    /// start says so by its [`Ended`](super::link::Ended).
    pub async fn wait_until_up(&self) {
        while !self.snapshot().await.is_whole() {
            tokio::time::sleep(START_POLL).await;
        }
        let (starting, serving) = (Phase::Starting as u8, Phase::Serving as u8);
        // A failed exchange means that the node drains; so it stays.
        let _ = self.phase.compare_exchange(starting, serving, Ordering::Relaxed, Ordering::Relaxed);
    }
}
