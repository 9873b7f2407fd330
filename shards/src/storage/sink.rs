//! The sink: frames in, segments into a storage.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use shardcast_engine::{
    container::Container,
    media::Frame,
    record::{Counters, Fault, Fragment, Output, Recorder, SegmentId, Settings},
    storage::{StorageBackend, StorageError, check_key},
    time::{Now, Wall},
};
use shardcast_io::clock;

use super::{
    carrier::{Carrier, Listener, RecordingEvent},
    spool::Spool,
};
use crate::{disk::fault_of, host::MediaSink};

/// Records a stream as segments, each an object of a storage that plays by itself.
///
/// A segment begins with a key frame, or with any sound where there are no pictures, and ends at the first key frame at or
/// past its length. It grows as a file of the spool, a fragment of at most a second at a time: this is all that is kept in
/// memory, and all that a crash can lose. When it is whole it is handed to the storage by a thread of the sink's own, as
/// `PREFIX/2026-11-22T07-45-00.123Z.mp4`, after the time of its first frame; a name that is taken gets a number.
///
/// A storage that fails is tried again, later each time, and the segment stays in the spool. When more waits than the
/// builder allows, new frames are left out, counted, and told as a [`RecordingEvent::Gap`].
///
/// Dropping it writes the tail and returns at once; what is in the spool is still stored, as long as the process lives.
///
/// ```
/// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
/// use std::sync::Arc;
/// use shardcast_shards::{host::Node, storage::{Memory, RecordingSink}};
///
/// # fn main() -> Result<(), shardcast_shards::host::HostError> {
/// # let node = Node::builder().start()?;
/// # let name = StreamName::parse("live/cam1")?;
/// # let spool = std::env::temp_dir().join(format!("shardcast-doc-sink-{}", std::process::id()));
/// let sink = RecordingSink::builder(Arc::new(Memory::new()), "rec/live/cam1").spool(&spool).start()?;
/// let recording = node.feed(&name, sink)?;
/// // Dropping it does so, too, and waits for nothing.
/// recording.stop()?;
/// # std::fs::remove_dir_all(spool)?;
/// # node.stop()?;
/// # Ok(())
/// # }
/// ```
pub struct RecordingSink {
    recorder: Recorder,
    spool: Arc<Spool>,
    carrier: Arc<Carrier>,
    files: BTreeMap<SegmentId, Part>,
    waiting_max: (usize, u64),
}

/// A segment that is being written.
struct Part {
    name: String,
    file: File,
}

/// How a [`RecordingSink`] is made.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use shardcast_engine::mpegts;
/// use shardcast_shards::storage::{Memory, RecordingEvent, RecordingSink, RecordingSinkBuilder};
///
/// /// What all recordings of this program have.
/// fn usual(builder: RecordingSinkBuilder) -> RecordingSinkBuilder {
///     builder
///         .segment(Duration::from_secs(6))
///         .container(&mpegts::CONTAINER)
///         .waiting_max(100, 256 << 20)
///         .on_event(|event| if let RecordingEvent::Gap { .. } = event { eprintln!("{event}") })
/// }
///
/// # let spool = std::env::temp_dir().join(format!("shardcast-doc-builder-{}", std::process::id()));
/// let sink = usual(RecordingSink::builder(Arc::new(Memory::new()), "rec/live/cam1")).spool(&spool).start()?;
/// # drop(sink);
/// # std::fs::remove_dir_all(spool)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct RecordingSinkBuilder {
    storage: Arc<dyn StorageBackend>,
    prefix: String,
    settings: Settings,
    spool: PathBuf,
    waiting_max: (usize, u64),
    listener: Listener,
}

/// Not everything is in the storage yet. It stays in the spool, and goes on being tried.
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// # use shardcast_shards::storage::{Memory, NotStored, RecordingSink};
/// # let spool = std::env::temp_dir().join(format!("shardcast-doc-flush-{}", std::process::id()));
/// # let mut sink = RecordingSink::builder(Arc::new(Memory::new()), "rec/a").spool(&spool).start()?;
/// if let Err(NotStored { segments }) = sink.flush(Duration::from_secs(10)) {
///     eprintln!("{segments} segments wait for the storage, in the spool");
/// }
/// # drop(sink);
/// # std::fs::remove_dir_all(spool)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotStored {
    /// So many segments are not.
    pub segments: usize,
}

impl fmt::Display for NotStored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} segments are not stored yet", self.segments)
    }
}

impl std::error::Error for NotStored {}

impl RecordingSinkBuilder {
    /// A new segment begins at the first key frame after this much media. Default 10 minutes.
    #[must_use]
    pub fn segment(mut self, segment: Duration) -> Self {
        self.settings.segment = segment;
        self
    }

    /// What the segments are: [`fmp4`](shardcast_engine::fmp4::CONTAINER) (the default),
    /// [`mpegts`](shardcast_engine::mpegts::CONTAINER), [`flv`](shardcast_engine::flv::CONTAINER),
    /// [`raw`](shardcast_engine::container::raw::CONTAINER), or one of your own.
    #[must_use]
    pub fn container(mut self, container: &'static Container) -> Self {
        self.settings.container = container;
        self
    }

    /// Where segments grow. Default: `shardcast-spool` in the system's folder for temporary files, which many systems
    /// clear at a restart. On the file system of a [`Folder`](super::Folder) nothing is copied.
    #[must_use]
    pub fn spool(mut self, folder: impl AsRef<Path>) -> Self {
        folder.as_ref().clone_into(&mut self.spool);
        self
    }

    /// How many segments, and bytes of them, may wait for the storage. Default 1,000 and 1 GiB.
    #[must_use]
    pub fn waiting_max(mut self, segments: usize, bytes: u64) -> Self {
        self.waiting_max = (segments, bytes);
        self
    }

    /// Is told what becomes of the recording. Called on the sink's threads.
    #[must_use]
    pub fn on_event(mut self, listener: impl FnMut(&RecordingEvent) + Send + 'static) -> Self {
        self.listener = Box::new(listener);
        self
    }

    /// Makes the sink. What an earlier one of this prefix has left in the spool is stored first.
    ///
    /// # Errors
    /// The prefix is no legal key, or the spool cannot be used.
    pub fn start(self) -> io::Result<RecordingSink> {
        let illegal = |error: StorageError| io::Error::new(io::ErrorKind::InvalidInput, error);
        check_key(&self.prefix).map_err(illegal)?;
        let (spool, left) = Spool::open(&self.spool, &self.prefix)?;
        let spool = Arc::new(spool);
        let carrier = Carrier::start(self.storage, self.prefix, self.listener, left, spool.clone())?;
        Ok(RecordingSink {
            recorder: Recorder::new("", &self.settings),
            spool,
            carrier,
            files: BTreeMap::new(),
            waiting_max: self.waiting_max,
        })
    }
}

impl RecordingSink {
    /// A sink whose objects are `PREFIX/...` in `storage`.
    pub fn builder(storage: Arc<dyn StorageBackend>, prefix: &str) -> RecordingSinkBuilder {
        RecordingSinkBuilder {
            storage,
            prefix: prefix.to_owned(),
            settings: Settings::default(),
            spool: std::env::temp_dir().join("shardcast-spool"),
            waiting_max: (1000, 1 << 30),
            listener: Box::new(|_| {}),
        }
    }

    /// Takes the next frame of the stream. The parameters of a track must come before its frames, as a node gives them;
    /// what comes before the first key frame is left out. Writes to the spool; never waits for the storage.
    pub fn frame(&mut self, frame: &Frame) {
        let now = now();
        // A fragment whose time is over is written, whether it is this frame's or not.
        self.recorder.timeout(now);
        self.recorder.frame(frame, now, Wall(clock::wall()));
        self.act();
    }

    /// Ends the segment that is being written, and waits until all are stored. What comes after begins another, at its next
    /// key frame. When nothing has come since the last call, there is nothing to be ended.
    ///
    /// # Errors
    /// `patience` was over before.
    pub fn flush(&mut self, patience: Duration) -> Result<(), NotStored> {
        self.recorder.flush(now());
        self.act();
        self.wait(patience)
    }

    /// Waits until every segment that is whole is stored.
    ///
    /// # Errors
    /// `patience` was over before.
    pub fn wait(&self, patience: Duration) -> Result<(), NotStored> {
        match self.carrier.wait(patience) {
            0 => Ok(()),
            segments => Err(NotStored { segments }),
        }
    }

    /// What has been recorded so far: frames left out before the first key frame, frames lost, bytes, gaps.
    pub fn counters(&self) -> Counters {
        self.recorder.counters()
    }

    /// Does what the recorder wants.
    fn act(&mut self) {
        while let Some(output) = self.recorder.poll() {
            match output {
                Output::Open { segment, path, .. } => {
                    let opened = self.open(segment, path.trim_start_matches('/'));
                    self.recorder.opened(segment, opened.map(|()| 1), now());
                }
                Output::Append { segment, fragment, .. } => {
                    let appended = self.append(segment, &fragment);
                    self.recorder.appended(segment, appended, now());
                }
                Output::Finish { segment, length, duration } => {
                    let finished = self.finish(segment, length, duration);
                    self.recorder.finished(segment, finished);
                }
                Output::Gap { from, to, frames } => {
                    self.carrier.tell(&RecordingEvent::Gap { from, to, frames });
                }
                // The gap that follows says what it cost.
                Output::Alarm { .. } => {}
            }
        }
    }

    fn open(&mut self, segment: SegmentId, name: &str) -> Result<(), Fault> {
        let (segments, bytes) = self.carrier.waiting();
        if segments >= self.waiting_max.0 || bytes >= self.waiting_max.1 {
            return Err(Fault::Full);
        }
        let file = self.spool.create(name).map_err(|error| fault_of(&error))?;
        self.files.insert(segment, Part { name: name.to_owned(), file });
        Ok(())
    }

    fn append(&mut self, segment: SegmentId, fragment: &Fragment) -> Result<(), Fault> {
        let part = self.files.get_mut(&segment).ok_or(Fault::Failed)?;
        Spool::append(&mut part.file, fragment).map_err(|error| fault_of(&error))
    }

    fn finish(&mut self, segment: SegmentId, length: u64, duration: Duration) -> Result<(), Fault> {
        let part = self.files.remove(&segment).ok_or(Fault::Failed)?;
        let whole = self.spool.finish(&part.name, &part.file, length, duration);
        let whole = whole.map_err(|error| fault_of(&error))?;
        if let Some(whole) = whole {
            self.carrier.take(whole);
        }
        Ok(())
    }
}

impl MediaSink for RecordingSink {
    fn frame(&mut self, frame: &Frame) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        RecordingSink::frame(self, frame);
        Ok(())
    }
    fn jumped(&mut self) {
        self.carrier.tell(&RecordingEvent::Jumped);
    }
}

impl Drop for RecordingSink {
    fn drop(&mut self) {
        self.recorder.finish(now());
        self.act();
        self.carrier.end();
    }
}

impl fmt::Debug for RecordingSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (segments, bytes) = self.carrier.waiting();
        write!(f, "RecordingSink({:?}, {segments} segments wait, {bytes} bytes)", self.counters())
    }
}

impl fmt::Debug for RecordingSinkBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordingSinkBuilder({}, {:?})", self.prefix, self.settings)
    }
}

fn now() -> Now {
    Now(clock::monotonic())
}
