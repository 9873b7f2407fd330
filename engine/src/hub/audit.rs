//! A hub's own books, and whether they agree: what it holds, that each bound holds, that nothing waits which nobody will
//! ever wake. For tests and for whoever doubts; no path of a frame comes through here.

use super::{
    ConnectionId, Hub,
    connection::{Connection, Role},
    streams::{Source, Stream, StreamId},
    timers::Timer,
};
use crate::limits;

/// What a hub holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Peers.
    pub connections: usize,
    /// Streams: live, waited for, copied, or watched to their end.
    pub streams: usize,
    /// Words that wait for room in a lane.
    pub backlog: usize,
    /// Recorders, until their last file is closed.
    pub recorders: usize,
    /// Packaged streams: made or followed, or over and still asked for.
    pub packages: usize,
}

type Verdict = Result<(), String>;

fn verdict(holds: bool, broken: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(broken()) }
}

impl Hub {
    /// What it holds.
    pub fn census(&self) -> Census {
        #[cfg(feature = "record")]
        let recorders = self.recordings.len();
        #[cfg(not(feature = "record"))]
        let recorders = 0;
        #[cfg(feature = "segment")]
        let packages = self.packages.len();
        #[cfg(not(feature = "segment"))]
        let packages = 0;
        Census {
            recorders,
            packages,
            connections: self.connections.iter().flatten().count(),
            streams: self.streams.len(),
            backlog: self.backlog.values().map(super::neighbour::Backlog::len).sum(),
        }
    }

    /// Checks its books. To be asked once [`poll`](Self::poll) has nothing left.
    ///
    /// # Errors
    /// A sentence about the first thing that does not hold.
    pub fn audit(&self) -> Result<(), String> {
        verdict(self.outputs.is_empty() && self.ready.is_empty() && self.batches.is_empty(), || {
            "there is something left to do".to_owned()
        })?;
        for connection in self.connections.iter().flatten() {
            self.audit_connection(connection)?;
        }
        for (id, stream) in self.streams.iter() {
            self.audit_stream(id, stream)?;
        }
        #[cfg(feature = "segment")]
        self.audit_packages()?;
        let owned = self.streams.owned();
        verdict(owned <= self.streams_max(), || format!("{owned} streams are live"))?;
        for (core, waiting) in &self.backlog {
            verdict(self.timers.is_set(Timer::Backlog), || format!("words for {core:?} wait for nothing"))?;
            // One beginning and one end of each.
            let words = waiting.words_but_cuts();
            verdict(words <= 2 * limits::BACKLOG_MESSAGES_MAX, || {
                format!("{words} words wait for {core:?}")
            })?;
        }
        Ok(())
    }

    fn audit_connection(&self, connection: &Connection) -> Verdict {
        let id = connection.id;
        connection.audit().map_err(|broken| format!("{id:?} {broken}"))?;
        match connection.role {
            Role::Talking | Role::Moving { .. } | Role::Judged { .. } => Ok(()),
            #[cfg(feature = "segment")]
            Role::Held { package, .. } => verdict(self.packages.holds(package, id), || {
                format!("{id:?} waits for what nobody will give it")
            }),
            // Its stream was ended by a drain, and it is still sent its farewell.
            Role::Publishing { .. } if connection.is_closing() => Ok(()),
            Role::Publishing { stream, epoch } => {
                let publication = match self.streams.look(stream).map(|stream| &stream.source) {
                    Some(Source::Owned(publication)) => publication,
                    _ => return Err(format!("{id:?} publishes what is not owned here")),
                };
                verdict(publication.publisher == Some(id) && publication.epoch == epoch, || {
                    format!("{id:?} publishes epoch {epoch}, the stream is at {}", publication.epoch)
                })
            }
            Role::Waiting { stream, .. } | Role::Viewing { stream, .. } => {
                let Some(held) = self.streams.look(stream) else {
                    return Err(format!("{id:?} watches a stream that is gone"));
                };
                verdict(held.viewers.contains(&id), || format!("{id:?} is not on the list of its stream"))?;
                match connection.role {
                    Role::Viewing { form, .. } => {
                        verdict(held.logs.iter().any(|log| log.form() == form), || {
                            format!("{id:?} reads a log that is gone")
                        })
                    }
                    _ => verdict(!held.ended, || format!("{id:?} waits for a stream that has ended")),
                }
            }
        }
    }

    #[cfg(feature = "segment")]
    fn audit_packages(&self) -> Verdict {
        let watched = self.packages.len() == 0 || self.timers.is_set(Timer::Packages);
        verdict(watched, || "there are packaged streams that nobody will let go of".to_owned())?;
        for (package, id) in self.packages.waiting() {
            let waits = self.look(id).is_some_and(
                |connection| matches!(connection.role, Role::Held { package: held, .. } if held == package),
            );
            verdict(waits, || format!("{id:?} is waited for and waits for nothing"))?;
        }
        Ok(())
    }

    fn audit_stream(&self, id: StreamId, stream: &Stream) -> Verdict {
        let name = &stream.name;
        let watched = |viewer: &ConnectionId| {
            self.connections.get(viewer.slot as usize).and_then(Option::as_ref).is_some_and(|connection| {
                let same = connection.id == *viewer;
                same && matches!(connection.role, Role::Waiting { stream, .. } | Role::Viewing { stream, .. }
                    if stream == id)
            })
        };
        verdict(stream.viewers.iter().all(watched), || format!("{name} lists a viewer that does not watch"))?;
        let lonely = stream.viewers.is_empty();
        let wanted = match &stream.source {
            _ if stream.ended => !lonely,
            Source::Owned(publication) => {
                let waits = publication.gone.is_none() || self.timers.is_set(Timer::Stream(id));
                verdict(waits, || format!("{name} has lost its publisher and will never end"))?;
                publication.is_live() || !lonely || !publication.subscribers.is_empty()
            }
            Source::Replica { .. } => {
                !lonely || (stream.lonely.is_some() && self.timers.is_set(Timer::Stream(id)))
            }
        };
        verdict(wanted, || format!("{name} is here for nobody"))?;

        let limits = &stream.limits;
        let frames = stream.group.frames().len();
        verdict(frames <= limits.group_frames, || format!("{name} keeps {frames} frames"))?;
        let bytes = stream.group.bytes();
        verdict(bytes <= limits.group_bytes, || format!("{name} keeps {bytes} bytes"))?;
        for log in &stream.logs {
            let reads = |viewer: &&ConnectionId| {
                let connection = self.connections.get(viewer.slot as usize).and_then(Option::as_ref);
                connection.is_some_and(
                    |connection| matches!(connection.role, Role::Viewing { form, .. } if form == log.form()),
                )
            };
            let readers = stream.viewers.iter().filter(reads).count();
            verdict(readers == log.readers && readers > 0, || {
                format!("{name} has a log with {readers} viewers that counts {}", log.readers)
            })?;
            let shown = !log.is_dirty() || stream.ended || self.timers.is_set(Timer::Flush(id));
            verdict(shown, || format!("{name} has muxed what no flush will show"))?;
        }
        Ok(())
    }
}
