//! The control thread: everything that is not on the frame path. It asks the shards for their counters, serves metrics
//! and health, shows the status line, and turns signals into what the shards are told.
//!
//! It runs a tokio executor of its own and meets the shards only through the lanes of [`link`]. It may be slow; nothing
//! on a shard ever waits for it.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::{
    http::Door,
    link::{Ended, Phase, Request, Started},
    log::{Log, LogLine},
    shards::Shards,
    signals::{Command, Signals},
};
#[cfg(feature = "libsrt")]
use crate::libsrt::Libsrt;
#[cfg(feature = "sound")]
use crate::sound::demand::Renditions;
use crate::{
    chance,
    config::{Fault, parse::Document, reload::Changes},
    host::Beside,
    pull::Pulls,
    status::Meter,
};
use shardcast_io::ktls;

/// How often the status line is rewritten.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// How a node that was controlled came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As asked.
    Asked,
    /// Something failed; the log says what.
    Failed,
}

/// What the control thread works with.
pub struct Control<'a> {
    /// The shards.
    pub node: Started,
    /// The config that they run with.
    pub document: Document,
    /// Reads the config anew, as it was read at the start, flags included.
    pub read_again: &'a dyn Fn() -> Result<Document, Vec<Fault>>,
    /// Called once every door is open.
    pub opened: &'a dyn Fn(&Document),
    /// Where lines go.
    pub log: Log,
    /// Whether to show the status line.
    pub status: bool,
}

impl Control<'_> {
    /// Controls the node until it ends: takes signals, answers on the control door, rewrites the status line.
    ///
    /// # Errors
    /// The control door or the signals could not be opened.
    pub async fn run(mut self) -> std::io::Result<End> {
        let mut signals = Signals::open()?;
        let shards = Arc::new(Shards::new(std::mem::take(&mut self.node.links)));
        let settings = Arc::new(self.document.config.settings());
        let beside =
            self.node.host.take().map(|(mesh, doors)| Beside::start(mesh, doors, settings)).transpose()?;
        let mut pulls = beside
            .as_ref()
            .map(|beside| Pulls::start(self.document.config.pulls(), beside.handle(), &shards, &self.log));
        #[cfg(feature = "sound")]
        let _renditions = beside
            .as_ref()
            .filter(|_| self.document.config.webrtc.makes_renditions())
            .map(|beside| Renditions::start(beside.handle(), &self.log));
        #[cfg(feature = "libsrt")]
        let libsrt = match (self.document.config.libsrt_door(), &beside) {
            (Some(address), Some(beside)) => Some(
                Libsrt::open(address, beside.handle(), &self.log)
                    .map_err(|error| std::io::Error::new(error.kind(), format!("srt door: {error}")))?,
            ),
            _ => None,
        };
        let _door = match self.document.config.control_door() {
            Some(address) => {
                let pulls = pulls.as_ref().map(Pulls::counters).unwrap_or_default();
                Some(Door::open(address, shards.clone(), self.log.clone(), pulls).await?)
            }
            None => None,
        };
        (self.opened)(&self.document);
        let starting = shards.clone();
        tokio::spawn(async move { starting.wait_until_up().await });

        let mut status = interval(STATUS_INTERVAL);
        status.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut meter = Meter::default();
        let mut drained_by = None;
        let mut left = shards.count();
        loop {
            tokio::select! {
                command = signals.next() => match command {
                    Command::Drain => {
                        drained_by = Some(Instant::now() + self.document.config.drain_timeout);
                        shards.set_phase(Phase::Draining);
                        // Who is pulled from is told while there is time.
                        drop(pulls.take());
                        #[cfg(feature = "libsrt")]
                        libsrt.iter().for_each(Libsrt::drain);
                        self.tell(&shards, || Request::Drain).await;
                        self.log.write(LogLine::info("draining: no new peers, players are told, recordings are closed"));
                    }
                    Command::Stop => {
                        self.log.write(LogLine::warn("stopped at once by a second signal"));
                        return Ok(End::Failed);
                    }
                    Command::Reload => self.reload(&shards, beside.as_ref()).await,
                },
                ended = self.node.ended.recv() => match ended {
                    Some(Ended { result: Ok(()), .. }) if drained_by.is_some() => {
                        left -= 1;
                        if left == 0 {
                            self.log.write(LogLine::info("drained"));
                            return Ok(End::Asked);
                        }
                    }
                    ended => {
                        self.log.write(shard_lost(ended));
                        return Ok(End::Failed);
                    }
                },
                () = sleep_until(drained_by.unwrap_or_else(Instant::now)), if drained_by.is_some() => {
                    self.log.write(LogLine::warn("drain_timeout is over, what was left is cut off"));
                    return Ok(End::Asked);
                }
                // Shards that have drained are silent, which is no news worth a line.
                _ = status.tick(), if self.status && drained_by.is_none() => {
                    let snapshot = shards.snapshot().await;
                    self.log.status(meter.line(&snapshot, Instant::now().into_std()));
                }
            }
        }
    }

    async fn tell(&self, shards: &Shards, request: impl Fn() -> Request) {
        let missed = shards.tell(request).await;
        if missed > 0 {
            self.log.write(
                LogLine::error("some shards cannot be told").detail(format!("{missed} are stuck or gone")),
            );
        }
    }

    /// Reads the config again and gives the shards what can change while they run. A config that is wrong changes
    /// nothing.
    async fn reload(&mut self, shards: &Shards, beside: Option<&Beside>) {
        let read = match (self.read_again)() {
            Ok(read) => read,
            Err(faults) => {
                for fault in faults {
                    self.log.write(
                        LogLine::error("reload refused, the old config stays").detail(fault.to_string()),
                    );
                }
                return;
            }
        };
        let changes = Changes::between(&self.document.config, &read.config);
        if !changes.restart.is_empty() {
            let keys = changes.restart.join(", ");
            self.log.write(LogLine::warn("reload: these keys need a restart").detail(keys));
        }
        let keys = if changes.now.is_empty() { "nothing".to_owned() } else { changes.now.join(", ") };
        self.log.write(LogLine::info("reload: changed").detail(keys));
        self.document.config = self.document.config.reloaded(&read.config);
        let config = &self.document.config;
        self.log.set(config.log.format, config.log.level);
        let settings = chance::with_secret(Arc::new(config.settings()));
        if let Some(beside) = beside {
            beside.set_settings(settings.clone());
        }
        self.tell(shards, || Request::Settings(settings.clone())).await;
        // The files may have changed though their names have not; that is what renewing a certificate looks like.
        match config.secured() {
            Ok(Some(secured)) => {
                self.tell(shards, || Request::Certificate(secured.certificate.clone())).await;
                self.log.write(LogLine::info("reload: the certificate was read again"));
            }
            Ok(None) => {}
            Err(refused) => self
                .log
                .write(LogLine::error("reload: the old certificate stays").detail(refused.to_string())),
        }
    }
}

/// A line for each door that is open, for logs that no person watches.
pub fn announce(log: &Log, document: &Document, file: Option<&Path>) {
    let config = &document.config;
    let file = file.map_or("none".into(), |file| file.display().to_string());
    log.write(LogLine::info("starting").detail(format!(
        "version {}, {} shards, config {file}",
        env!("CARGO_PKG_VERSION"),
        config.shard_count()
    )));
    for (door, address) in
        config.doors().into_iter().chain(config.control_door().map(|address| ("control", address)))
    {
        log.write(LogLine { protocol: Some(door), ..LogLine::info("listening").detail(address.to_string()) });
    }
    for (name, intake) in config.intakes() {
        let line = LogLine::info("listening").detail(format!("{}, for {name}", intake.address));
        log.write(LogLine { protocol: Some("udp"), ..line });
    }
    for (verb, text) in config.relay_lines() {
        log.write(LogLine::info(verb).detail(text));
    }
    for pull in config.pulls() {
        let line = LogLine::info("pulling").detail(pull.to_string());
        log.write(LogLine { protocol: Some("rtsp"), stream: Some(pull.name), ..line });
    }
    if config.tls.is_set() {
        log.write(match ktls::refusal() {
            None => LogLine::info("the kernel seals what TLS 1.3 sends"),
            Some(error) => {
                LogLine::info("the kernel has no TLS, it is sealed here").detail(error.to_string())
            }
        });
    }
}

fn shard_lost(ended: Option<Ended>) -> LogLine {
    match ended {
        Some(Ended { core, result }) => {
            let why = result.err().unwrap_or_else(|| "it ended by itself".to_owned());
            LogLine { shard: Some(core.0), ..LogLine::error("a shard failed, the node ends").detail(why) }
        }
        None => LogLine::error("every shard is gone, the node ends"),
    }
}

#[cfg(test)]
mod tests;
