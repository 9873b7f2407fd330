//! The recorder of an owned stream: fed like a viewer of another kind, its files are the driver's.

use std::collections::BTreeMap;

use super::{Hub, Level, Notice, Output, RecordingId, streams::StreamId, timers::Timer};
use crate::{
    media::{Frame, StreamName},
    record::{self, Fault, Recorder, SegmentId},
    stats::ShardStats,
    time::Now,
};

/// What the driver says to a recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordAnswer {
    /// The file is open and aligned to this many bytes, or is not.
    Opened(SegmentId, Result<u32, Fault>),
    /// The fragment is with the disk, or is not.
    Appended(SegmentId, Result<(), Fault>),
    /// The file is closed, or what was wrong.
    Finished(SegmentId, Result<(), Fault>),
}

/// The recorders of a core.
#[derive(Default)]
pub struct Recordings {
    last: u64,
    by_id: BTreeMap<RecordingId, (StreamName, Recorder)>,
}

impl Recordings {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub fn count(&self, stats: &mut ShardStats) {
        stats.recordings += self.by_id.len() as u64;
    }
}

impl Hub {
    /// Begins to record a stream that has just begun, if its app says so.
    pub(super) fn start_recording(&mut self, stream_id: StreamId) {
        let Some(stream) = self.streams.get(stream_id) else { return };
        if stream.recording.is_some() || !self.settings.records(&stream.name) {
            return;
        }
        self.recordings.last += 1;
        let id = RecordingId(self.recordings.last);
        stream.recording = Some(id);
        let settings = record::Settings { segment: self.settings.segment, ..record::Settings::default() };
        let recorder = Recorder::new(stream.name.as_str(), &settings);
        self.recordings.by_id.insert(id, (stream.name.clone(), recorder));
    }

    /// Gives a frame of an owned stream to its recorder.
    pub(super) fn record(&mut self, stream_id: StreamId, frame: &Frame, now: Now) {
        let Some(id) = self.streams.get(stream_id).and_then(|stream| stream.recording) else { return };
        let wall = self.wall(now);
        self.with_recorder(id, |recorder| recorder.frame(frame, now, wall));
    }

    /// The stream is over: what is open is written and closed.
    pub(super) fn finish_recording(&mut self, stream_id: StreamId, now: Now) {
        let Some(id) = self.streams.get(stream_id).and_then(|stream| stream.recording.take()) else { return };
        self.with_recorder(id, |recorder| recorder.finish(now));
    }

    pub(super) fn recorded(&mut self, id: RecordingId, answer: RecordAnswer, now: Now) {
        self.with_recorder(id, |recorder| match answer {
            RecordAnswer::Opened(segment, result) => recorder.opened(segment, result, now),
            RecordAnswer::Appended(segment, result) => recorder.appended(segment, result, now),
            RecordAnswer::Finished(segment, result) => recorder.finished(segment, result),
        });
    }

    pub(super) fn recording_timeout(&mut self, id: RecordingId, now: Now) {
        self.with_recorder(id, |recorder| recorder.timeout(now));
    }

    /// Lets a recorder do something, then carries out what it wants.
    fn with_recorder(&mut self, id: RecordingId, work: impl FnOnce(&mut Recorder)) {
        let Some((name, recorder)) = self.recordings.by_id.get_mut(&id) else { return };
        let before = recorder.counters();
        work(recorder);
        let after = recorder.counters();
        self.stats.recorded_fragments += after.fragments - before.fragments;
        self.stats.recorded_bytes += after.bytes - before.bytes;
        self.stats.recording_gaps += after.gaps - before.gaps;
        while let Some(task) = recorder.poll() {
            let (level, text) = match task {
                record::Output::Alarm { fault, .. } => {
                    let what = match fault {
                        Fault::Full => "the disk is full",
                        Fault::Exists => "a file of this name exists",
                        Fault::Failed => "the disk failed",
                    };
                    (Level::Alarm, format!("recording pauses: {what}; the stream goes on"))
                }
                record::Output::Gap { from, to, frames } => {
                    let text =
                        format!("a gap in the recording: {frames} frames from {from} to {to} were lost");
                    (Level::Alarm, text)
                }
                record::Output::Open { .. }
                | record::Output::Append { .. }
                | record::Output::Finish { .. } => {
                    self.outputs.push_back(Output::Record { recording: id, task });
                    continue;
                }
            };
            let stream = Some(name.clone());
            self.outputs.push_back(Output::Notice(Notice {
                level,
                peer: None,
                door: "record",
                stream,
                text,
                at: None,
            }));
        }
        let timer = Timer::Recording(id);
        if recorder.is_done() {
            self.recordings.by_id.remove(&id);
            self.timers.set(timer, None);
        } else {
            self.timers.set(timer, recorder.deadline());
        }
    }
}
