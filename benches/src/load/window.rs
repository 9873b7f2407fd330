//! The time in which is measured: what stood where when it began, and what it gave.

use std::time::Duration;

use shardcast_engine::time::Now;
use shardcast_io::clock;

use super::{Kind, Load, Publisher, State, Viewer, now};
use crate::{
    clip::Part,
    histogram::Histogram,
    outcome::{Checks, LoadSide, Requests, Traffic, Viewers},
};

/// What a viewer may have been delivered less than the luckiest one of its stream because of when the window began and
/// ended for it, beside the largest picture at either end: a window lasts a whole number of groups, so it may begin and end with
/// key frames that some have taken and others have not.
const SKEW: Duration = Duration::from_millis(500);

/// What stood where when the window began.
pub(super) struct Window {
    began: Now,
    delivered: u64,
    published_frames: u64,
    published_bytes: u64,
    due_bytes: u64,
    held: u64,
    cpu: u64,
    disconnected: u64,
    closed_for_slowness: u64,
}

/// What one run's load has to say.
#[derive(Clone, Debug)]
pub struct Report {
    /// Length of the window.
    pub seconds: f64,
    /// Bytes that publishers would have sent to a server that takes all at once.
    pub due_bytes: u64,
    /// What was published and delivered.
    pub traffic: Traffic,
    /// Who watched.
    pub viewers: Viewers,
    /// From connecting to the first key frame.
    pub first_key: Histogram,
    /// From connecting to the first byte of the first key frame.
    pub first_byte: Histogram,
    /// From publisher to viewer.
    pub latency: Histogram,
    /// What viewers that parse found.
    pub checks: Checks,
    /// What viewers asked for.
    pub requests: Option<Requests>,
    /// How well time was kept.
    pub load: LoadSide,
    /// The first few things that went wrong, in words.
    pub trouble: Vec<String>,
}

impl Load {
    /// What is measured begins.
    pub fn begin_window(&mut self) {
        self.drain_all();
        for viewer in &mut self.viewers {
            viewer.bytes_at_window = Some(viewer.bytes);
        }
        self.findings.latency = Histogram::default();
        self.findings.second = Histogram::default();
        self.lateness = Histogram::default();
        self.rounds = Histogram::default();
        self.churned = Some(now());
        let asks = |viewer: &Viewer| {
            viewer.kind == Kind::Drain && matches!(viewer.state, State::Asking(_)) && viewer.is_playing()
        };
        self.books.begin(now(), self.viewers.iter().position(asks));
        self.window = Some(Window {
            began: now(),
            delivered: self.delivered,
            published_frames: self.published(|publisher| publisher.frames),
            published_bytes: self.published(|publisher| publisher.bytes),
            due_bytes: self.published(|publisher| publisher.bytes + publisher.waiting()),
            held: self.published(|publisher| publisher.held),
            cpu: clock::process_cpu(),
            disconnected: self.disconnected,
            closed_for_slowness: self.closed_for_slowness,
        });
    }

    /// What is measured ends.
    ///
    /// # Panics
    /// When it has not begun.
    pub fn end_window(&mut self) -> Report {
        self.drain_all();
        let window = self.window.take().expect("a window that ends has begun");
        let seconds = now().since(window.began).as_secs_f64();
        let delivered = self.delivered - window.delivered;
        self.look_at_stalled();
        let count = |kind: Kind| self.viewers.iter().filter(|viewer| viewer.kind == kind).count() as u64;
        let mut checks = self.findings.checks.clone();
        checks.viewers = count(Kind::Parse);
        self.books.add_to(&mut checks);
        let requests = self.books.end(seconds);
        Report {
            seconds,
            due_bytes: self.published(|publisher| publisher.bytes + publisher.waiting()) - window.due_bytes,
            traffic: Traffic {
                publishers: self.publishers.iter().filter(|(publisher, _)| publisher.is_publishing()).count()
                    as u64,
                published_frames: self.published(|publisher| publisher.frames) - window.published_frames,
                published_bytes: self.published(|publisher| publisher.bytes) - window.published_bytes,
                delivered_bytes: delivered,
                delivered_gbit_per_second: delivered as f64 * 8.0 / 1e9 / seconds,
                missing_bytes: self.missing_bytes(),
            },
            viewers: Viewers {
                asked: self.plan.watch.viewers as u64,
                joined: self.viewers.len() as u64,
                playing: self.playing(),
                parsing: count(Kind::Parse),
                stalling: count(Kind::Stall),
                slow: count(Kind::Slow),
                refused: self.refused,
                disconnected: self.disconnected - window.disconnected,
                closed_for_slowness: self.closed_for_slowness - window.closed_for_slowness,
            },
            first_key: self.first_keys.clone(),
            first_byte: self.first_bytes.clone(),
            latency: self.findings.latency.clone(),
            checks,
            requests,
            load: LoadSide {
                cpu_share: (clock::process_cpu() - window.cpu) as f64 / 1e9 / seconds,
                publisher_lateness: self.lateness.quantiles(),
                publisher_held: self.published(|publisher| publisher.held) - window.held,
                round: self.rounds.quantiles(),
                others_share: 0.0,
                softirq_share: 0.0,
            },
            trouble: self.trouble.clone(),
        }
    }

    fn published(&self, number: impl Fn(&Publisher) -> u64) -> u64 {
        self.publishers.iter().map(|(publisher, _)| number(publisher)).sum()
    }

    /// What healthy viewers that were there for the whole window are short of, against the one of their stream that was
    /// delivered most.
    fn missing_bytes(&self) -> u64 {
        let healthy = |viewer: &&Viewer| {
            matches!(viewer.kind, Kind::Parse | Kind::Drain) && !matches!(viewer.state, State::Gone)
        };
        let mut most = vec![0; self.streams.len()];
        let delivered = |viewer: &Viewer| Some(viewer.bytes - viewer.bytes_at_window?);
        for viewer in self.viewers.iter().filter(healthy) {
            most[viewer.stream] = delivered(viewer).unwrap_or(0).max(most[viewer.stream]);
        }
        let skew = (self.plan.publish.bitrate as f64 / 8.0 * SKEW.as_secs_f64()) as u64;
        let largest = self.clip.parts().iter().map(Part::bytes).max().unwrap_or(0) as u64;
        // Who asks has a piece whole or not at all, of pictures and of sound.
        let skew = skew + 2 * largest + 2 * self.books.largest();
        let short = |viewer: &Viewer| {
            let short = most[viewer.stream].saturating_sub(delivered(viewer)?);
            (short > skew).then_some(short)
        };
        // When they join within the window the first of them would be the measure of all others.
        if self.plan.time.join_within {
            return 0;
        }
        self.viewers.iter().filter(healthy).filter_map(short).sum()
    }
}
