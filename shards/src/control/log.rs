//! Log lines and the status line: from any thread to standard error, without any thread ever waiting for it.
//!
//! Whoever has something to say pushes it into a bounded queue. One thread of its own takes it out and writes, so that
//! a reader of standard error that has stopped reading stops nothing else. What the queue cannot hold is counted and
//! said later. What a line holds stands in [`mod@line`], how repetition is held back in [`limiter`].

use std::{
    io::Write,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    thread::{JoinHandle, Thread},
    time::{Duration, Instant},
};

use crossbeam_queue::ArrayQueue;
use shardcast_engine::time::Wall;
use shardcast_io::clock;

use self::limiter::{Limiter, Verdict};
pub use self::line::LogLine;
use crate::config::{LogFormat, LogLevel};

pub mod limiter;
pub mod line;

/// Lines that may wait to be written. One more is lost, and counted.
pub const LOG_LINES_MAX: usize = 4096;
/// How long the end of the process waits for the reader of standard error to take the last lines.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Where lines go. Cheap to clone; one per thread that has something to say.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

/// The thread that writes. Dropping it writes what waits, but not for ever.
pub struct Writer {
    log: Log,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    queue: ArrayQueue<Entry>,
    lost: AtomicU64,
    closed: AtomicBool,
    level: AtomicU8,
    json: AtomicBool,
    writer: OnceLock<Thread>,
}

enum Entry {
    Line(Wall, LogLine),
    Text(String),
    Status(String),
}

impl Log {
    /// A log that `write` will be given the bytes of, by a thread of its own. `terminal` says that a status line can be
    /// rewritten there.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(
        format: LogFormat,
        level: LogLevel,
        terminal: bool,
        out: impl Write + Send + 'static,
    ) -> std::io::Result<(Log, Writer)> {
        let log = Log {
            shared: Arc::new(Shared {
                queue: ArrayQueue::new(LOG_LINES_MAX),
                lost: AtomicU64::new(0),
                closed: AtomicBool::new(false),
                level: AtomicU8::new(level as u8),
                json: AtomicBool::new(format == LogFormat::Json),
                writer: OnceLock::new(),
            }),
        };
        let shared = log.shared.clone();
        let thread = std::thread::Builder::new()
            .name("shardcast-log".into())
            .spawn(move || write_all(&shared, Sink::new(terminal), out))?;
        log.shared.writer.get_or_init(|| thread.thread().clone());
        let writer = Writer { log: log.clone(), thread: Some(thread) };
        Ok((log, writer))
    }

    /// Says `line`, now. Never waits: when the queue is full, the line is lost and counted.
    pub fn write(&self, line: LogLine) {
        if line.level as u8 >= self.shared.level.load(Ordering::Relaxed) {
            self.push(Entry::Line(Wall(clock::wall()), line));
        }
    }

    /// Writes `text` as it is, for a person at a terminal.
    pub fn text(&self, text: String) {
        self.push(Entry::Text(text));
    }

    /// Shows `text` as the status line, where there is a terminal.
    pub fn status(&self, text: String) {
        self.push(Entry::Status(text));
    }

    /// Changes how lines are written from here on.
    pub fn set(&self, format: LogFormat, level: LogLevel) {
        self.shared.json.store(format == LogFormat::Json, Ordering::Relaxed);
        self.shared.level.store(level as u8, Ordering::Relaxed);
    }

    /// Lines that were lost because nobody read standard error fast enough.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    fn push(&self, entry: Entry) {
        if self.shared.queue.push(entry).is_err() {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
        // Costs a system call only when the writer sleeps. Its token stays if the writer is just about to.
        if let Some(writer) = self.shared.writer.get() {
            writer.unpark();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.log.shared.closed.store(true, Ordering::Release);
        let Some(thread) = self.thread.take() else { return };
        thread.thread().unpark();
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn write_all(shared: &Shared, mut sink: Sink, mut out: impl Write) {
    let mut bytes = Vec::new();
    let mut lost_said = 0;
    loop {
        // Read before the queue is: what was pushed before the close is written.
        let closed = shared.closed.load(Ordering::Acquire);
        let format = if shared.json.load(Ordering::Relaxed) { LogFormat::Json } else { LogFormat::Text };
        while let Some(entry) = shared.queue.pop() {
            match entry {
                Entry::Line(at, line) => sink.line(at, &line, format, &mut bytes),
                Entry::Text(text) => {
                    sink.above_status(&mut bytes, |out| out.extend_from_slice(text.as_bytes()))
                }
                Entry::Status(text) => sink.status(text, &mut bytes),
            }
            if bytes.len() >= WRITE_BYTES {
                write(&mut out, &mut bytes);
            }
        }
        let now = Wall(clock::wall());
        let lost = shared.lost.load(Ordering::Relaxed);
        if lost > lost_said {
            let line =
                LogLine::warn("log lines were lost, their reader is too slow").repeated(lost - lost_said);
            sink.line(now, &line, format, &mut bytes);
            lost_said = lost;
        }
        sink.settle(now, closed, format, &mut bytes);
        if closed {
            sink.status(String::new(), &mut bytes);
        }
        write(&mut out, &mut bytes);
        if closed {
            return;
        }
        // What was pushed since the last look left a token that makes `park` return at once, but `out` may have slept too
        // and taken it. So look again; whatever comes after this look leaves its token.
        if !shared.queue.is_empty() || shared.closed.load(Ordering::Acquire) {
            continue;
        }
        if sink.holds_back() {
            std::thread::park_timeout(HOLD_BACK);
        } else {
            std::thread::park();
        }
    }
}

/// Bytes that are worth a write of their own.
const WRITE_BYTES: usize = 64 << 10;
/// How long after a flood the count of what was held back is said at the latest.
const HOLD_BACK: Duration = Duration::from_millis(1100);

fn write(out: &mut impl Write, bytes: &mut Vec<u8>) {
    // There is nowhere to complain to when standard error is gone.
    let _ = out.write_all(bytes).and_then(|()| out.flush());
    bytes.clear();
}

/// From entries to the bytes that go out. Without a thread and a clock, so that it can be tried.
struct Sink {
    limiter: Limiter,
    terminal: bool,
    status: String,
}

impl Sink {
    fn new(terminal: bool) -> Self {
        Sink { limiter: Limiter::default(), terminal, status: String::new() }
    }

    fn line(&mut self, at: Wall, line: &LogLine, format: LogFormat, out: &mut Vec<u8>) {
        self.settle(at, false, format, out);
        if self.limiter.judge(line) == Verdict::Write {
            self.above_status(out, |out| line.write(at, format, out));
        }
    }

    fn settle(&mut self, now: Wall, all: bool, format: LogFormat, out: &mut Vec<u8>) {
        for line in self.limiter.settle(now, all) {
            self.above_status(out, |out| line.write(now, format, out));
        }
    }

    fn holds_back(&self) -> bool {
        self.limiter.holds_back()
    }

    fn status(&mut self, text: String, out: &mut Vec<u8>) {
        if self.terminal && text != self.status {
            self.status = text;
            self.above_status(out, |_| {});
        }
    }

    /// Clears the status line, writes, and puts the status line back below.
    fn above_status(&self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        const CLEAR_LINE: &[u8] = b"\r\x1b[K";
        if self.terminal {
            out.extend_from_slice(CLEAR_LINE);
        }
        write(out);
        if self.terminal {
            out.extend_from_slice(self.status.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    /// A writer whose bytes can be looked at.
    #[derive(Clone, Default)]
    struct Shown(Arc<Mutex<Vec<u8>>>);

    impl Write for Shown {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Shown {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn what_was_said_before_the_end_is_written() {
        let shown = Shown::default();
        let (log, writer) = Log::start(LogFormat::Text, LogLevel::Warn, false, shown.clone()).unwrap();
        log.write(LogLine::info("too small to be written"));
        log.write(LogLine::warn("first"));
        log.write(LogLine::error("second"));
        drop(writer);
        let text = shown.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].ends_with("WARN  first") && lines[1].ends_with("ERROR second"), "{text}");
    }

    #[test]
    fn a_writer_that_hangs_stops_nobody_and_loses_only_what_the_queue_cannot_hold() {
        /// Says when it begins to write, and does not return before it is let go.
        struct Stuck(mpsc::Sender<()>, mpsc::Receiver<()>, Shown);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                let _ = self.0.send(());
                let _ = self.1.recv();
                self.2.write(bytes)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let shown = Shown::default();
        let (begins, begun) = mpsc::channel();
        let (release, released) = mpsc::channel();
        let stuck = Stuck(begins, released, shown.clone());
        let (log, writer) = Log::start(LogFormat::Text, LogLevel::Info, false, stuck).unwrap();
        log.write(LogLine::info("first"));
        begun.recv().unwrap();
        for _ in 0..LOG_LINES_MAX + 100 {
            log.write(LogLine::info("flood"));
        }
        assert_eq!(log.lost(), 100);
        drop(release);
        drop(writer);
        let text = shown.text();
        assert!(text.contains("log lines were lost, their reader is too slow repeated=100"), "{text}");
    }

    #[test]
    fn a_flood_of_one_cause_is_written_a_few_times_and_then_counted() {
        let mut sink = Sink::new(false);
        let mut out = Vec::new();
        let second = 1_000_000_000;
        for i in 0..1000 {
            let line = LogLine::warn("bad handshake");
            sink.line(Wall(5 * second + i), &line, LogFormat::Text, &mut out);
        }
        sink.line(Wall(5 * second), &LogLine::info("something else"), LogFormat::Text, &mut out);
        assert!(sink.holds_back());
        sink.settle(Wall(6 * second), false, LogFormat::Text, &mut out);
        assert!(!sink.holds_back());
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), limiter::REPEATS_PER_SECOND as usize + 2, "{text}");
        assert!(text.contains("something else"));
        let held_back = 1000 - limiter::REPEATS_PER_SECOND;
        assert!(text.ends_with(&format!("bad handshake repeated={held_back}\n")), "{text}");
    }

    #[test]
    fn the_status_line_stays_below_the_log() {
        let mut sink = Sink::new(true);
        let mut out = Vec::new();
        sink.status("one".into(), &mut out);
        sink.status("one".into(), &mut out);
        sink.line(Wall(0), &LogLine::info("hello"), LogFormat::Text, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "\r\x1b[Kone\r\x1b[K1970-01-01T00:00:00.000Z INFO  hello\none");
        let mut out = Vec::new();
        Sink::new(false).status("one".into(), &mut out);
        assert!(out.is_empty());
    }
}
