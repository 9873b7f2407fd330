//! Who did what: for those who must be able to say so later.

use std::{
    fmt,
    io::{self, Write},
    panic::{AssertUnwindSafe, catch_unwind},
};

use serde_json::{Value, json};
use shardcast_engine::{access::Action, observe::StreamEvent, time::Wall};

use super::events::Events;

/// Something for the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// When.
    pub at: Wall,
    /// What: a wish and its answer, a stream's beginning or end, an alarm.
    pub event: StreamEvent,
}

/// Keeps the books. It has a thread of its own, and may take its time: at most [`EVENTS_MAX`](super::EVENTS_MAX) records wait
/// for it, and what it misses beyond that is counted.
///
/// ```
/// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
/// use std::sync::mpsc;
/// use shardcast_shards::host::{AuditRecord, AuditSink, Node};
///
/// struct Books(mpsc::Sender<String>);
///
/// impl AuditSink for Books {
///     fn record(&mut self, record: &AuditRecord) {
///         let _ = self.0.send(format!("{} {}", record.at, record.event));
///     }
///     fn dropped(&mut self, records: u64) {
///         let _ = self.0.send(format!("{records} records are missing here"));
///     }
/// }
/// # fn main() -> Result<(), shardcast_shards::host::HostError> {
/// # let node = Node::builder().start()?;
/// # let name = StreamName::parse("live/cam1")?;
/// # let (told, books) = mpsc::channel();
/// # node.audit(Books(told))?;
/// # let publisher = node.publish(&name);
/// # assert!(books.recv()?.contains("live/cam1"));
/// # drop(publisher);
/// # node.stop()?;
/// # Ok(())
/// # }
/// ```
pub trait AuditSink: Send {
    /// Something happened. Records come in order.
    fn record(&mut self, record: &AuditRecord);

    /// So many records were dropped before the next one, because this sink was too slow.
    fn dropped(&mut self, records: u64);
}

/// Writes a line of JSON for each record, to a file or whatever takes bytes.
///
/// ```
/// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
/// use std::fs::File;
/// use shardcast_shards::host::{AuditLog, Node};
///
/// # fn main() -> Result<(), shardcast_shards::host::HostError> {
/// # let node = Node::builder().start()?;
/// # let name = StreamName::parse("live/cam1")?;
/// # let path = std::env::temp_dir().join(format!("shardcast-doc-{}.jsonl", std::process::id()));
/// // {"at":"2026-11-22T07:45:00.123Z","door":"rtmp","granted":false,"peer":"192.0.2.7:50000",...}
/// node.audit(AuditLog::new(File::create(&path)?))?;
/// # std::fs::remove_file(path)?;
/// # node.stop()?;
/// # Ok(())
/// # }
/// ```
pub struct AuditLog<W> {
    out: W,
    failures: u64,
}

impl<W: Write + Send> AuditLog<W> {
    /// Lines to `out`.
    pub fn new(out: W) -> Self {
        AuditLog { out, failures: 0 }
    }

    fn write(&mut self, line: &Value) {
        let written = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
        match written {
            Ok(()) => self.failures = 0,
            Err(_) => self.failures += 1,
        }
    }

    /// A line that could not be written is owned up to before the next that can.
    fn own_up(&mut self) {
        if self.failures > 0 {
            let failures = self.failures;
            self.write(&json!({ "what": "not written", "records": failures }));
        }
    }
}

impl<W: Write + Send> AuditSink for AuditLog<W> {
    fn record(&mut self, record: &AuditRecord) {
        self.own_up();
        let mut line = match &record.event {
            StreamEvent::Answered { name, action, peer, door, refused } => json!({
                "what": match action { Action::Publish => "publish", Action::Play => "play" },
                "stream": name.as_str(), "peer": peer.to_string(), "door": door,
                "granted": refused.is_none(), "why": refused,
            }),
            StreamEvent::Published { name, resumed } => {
                json!({ "what": "published", "stream": name.as_str(), "resumed": resumed })
            }
            StreamEvent::Unpublished { name } => json!({ "what": "unpublished", "stream": name.as_str() }),
            StreamEvent::Ended { name } => json!({ "what": "ended", "stream": name.as_str() }),
            StreamEvent::Alarm { name, text } => {
                json!({ "what": "alarm", "stream": name.as_ref().map(|name| name.as_str()), "text": text })
            }
            _ => return,
        };
        line["at"] = record.at.to_string().into();
        self.write(&line);
    }

    fn dropped(&mut self, records: u64) {
        self.write(&json!({ "what": "dropped", "records": records }));
    }
}

impl<W> fmt::Debug for AuditLog<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuditLog({} failures)", self.failures)
    }
}

/// Whether this is for the books.
pub(super) fn is_for_the_books(event: &StreamEvent) -> bool {
    matches!(
        event,
        StreamEvent::Answered { .. }
            | StreamEvent::Published { .. }
            | StreamEvent::Unpublished { .. }
            | StreamEvent::Ended { .. }
            | StreamEvent::Alarm { .. }
    )
}

/// Gives a sink what is for the books, on a thread of its own, until the node stops.
pub(super) fn start(mut events: Events, mut sink: impl AuditSink + 'static) -> io::Result<()> {
    // Nobody waits for its end: a sink that hangs would hold up the node's.
    std::thread::Builder::new().name("audit".into()).spawn(move || {
        while let Some((event, at)) = events.next_stamped() {
            let missed = events.take_missed();
            // The host's code; a record that it fails on is not given again.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                if missed > 0 {
                    sink.dropped(missed);
                }
                sink.record(&AuditRecord { at, event });
            }));
        }
    })?;
    Ok(())
}
