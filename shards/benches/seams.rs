//! What each seam between a program and its node costs: CPU of all threads per frame of one live stream, as the difference
//! to the same run without it. A stream of 4 Mbit/s comes thirty times as fast as it is live, in bursts of a second's worth
//! each 33 ms, so that each burst is one flush.
//!
//! A publisher and a source are compared with a run whose frames are made and thrown away, everything else with a run that
//! has a publisher alone. Runs take turns, and each difference is one of two runs that followed each other closely.
//! `cargo bench -p shardcast-shards --bench seams` runs it, for some four minutes.

use std::{
    fs, io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use shardcast_engine::{
    codec::{Codec, Parameters},
    flv::FORM,
    media::{Frame, Payload, StreamName, TrackId},
    time::MediaTime,
};
use shardcast_io::clock;
use shardcast_shards::{
    host::{Attached, AuditLog, HostError, MediaSink, MediaSource, Node, Observer, StreamEvent},
    storage::{Memory, RecordingSink},
};

/// Pictures and packets of sound of a live stream: 30 and 43 a second.
const FRAMES_PER_SECOND: u64 = 73;
/// A second's worth comes at once.
const BURST: u64 = FRAMES_PER_SECOND;
/// From one burst to the next: a flush.
const PERIOD: Duration = Duration::from_millis(33);
const WARM_UP: u64 = 15 * BURST;
const MEASURED: u64 = 90 * BURST;
const ROUNDS: usize = 5;
/// From the last burst until all of it has gone everywhere.
const SETTLING: Duration = Duration::from_millis(200);
/// How long the last frames may be on their way.
const PATIENCE: Duration = Duration::from_secs(10);

/// How frames come in.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// Not at all: they are made and thrown away.
    Nowhere,
    Publisher,
    Source,
}

/// What takes them.
#[derive(Clone, Copy, PartialEq)]
enum Seam {
    Nothing,
    Sink,
    Wire,
    Observer,
    AuditLog,
    Recording,
}

/// What is measured, and what it is compared with.
const ROWS: [(&str, Way, Seam, Way); 7] = [
    ("Publisher (push)", Way::Publisher, Seam::Nothing, Way::Nowhere),
    ("MediaSource", Way::Source, Seam::Nothing, Way::Nowhere),
    ("MediaSink", Way::Publisher, Seam::Sink, Way::Publisher),
    ("bytes of a form (FLV)", Way::Publisher, Seam::Wire, Way::Publisher),
    ("Observer", Way::Publisher, Seam::Observer, Way::Publisher),
    ("AuditLog", Way::Publisher, Seam::AuditLog, Way::Publisher),
    ("RecordingSink on Memory", Way::Publisher, Seam::Recording, Way::Publisher),
];

fn main() {
    let mut added = ROWS.map(|_| Vec::new());
    for round in 1..=ROUNDS {
        eprint!("\rround {round} of {ROUNDS} ");
        let nowhere = run(Way::Nowhere, Seam::Nothing);
        for ((_, way, seam, compared), added) in ROWS.iter().zip(&mut added) {
            let without = if *compared == Way::Nowhere { nowhere } else { run(*compared, Seam::Nothing) };
            added.push(run(*way, *seam) - without);
        }
    }
    eprint!("\r{:40}\r", "");
    println!("CPU of the process that a seam adds to a frame, us (median of {ROUNDS}; lowest - highest)");
    for ((name, ..), mut added) in ROWS.into_iter().zip(added) {
        added.sort_by(f64::total_cmp);
        println!("{name:>24}  {:6.2} ({:.2} - {:.2})", added[ROUNDS / 2], added[0], added[ROUNDS - 1]);
    }
}

/// Microseconds of CPU per frame.
fn run(way: Way, seam: Seam) -> f64 {
    let node = Node::builder().start().expect("a node starts");
    let name = StreamName::new("live", "bench").expect("a legal name");
    let seen = Arc::new(AtomicU64::new(0));
    let attached = attach(&node, &name, seam, &seen);
    let before = Arc::new(AtomicU64::new(0));
    let mut stream = Stream { began: Instant::now(), number: None, before: before.clone() };
    // What publishes stays until the end: its leaving is no part of the figure.
    let mut publisher = None;
    let mut source = None;
    match way {
        Way::Nowhere => while stream.take().is_some() {},
        Way::Publisher => {
            let publisher = publisher.insert(node.publish(&name));
            while let Some(frame) = stream.take() {
                publisher.send_blocking(frame).expect("it is live");
            }
        }
        Way::Source => {
            let pull = node.pull(&name, stream).expect("a thread starts");
            let whole = PERIOD * u32::try_from((WARM_UP + MEASURED) / BURST).expect("a small number");
            thread::sleep(whole);
            source = Some(pull);
        }
    }
    thread::sleep(SETTLING);
    let cost = clock::process_cpu() - before.load(Ordering::SeqCst);
    wait_for(seam, &seen);
    for attached in source.into_iter().chain(attached) {
        attached.stop().expect("it has not failed");
    }
    drop(publisher);
    node.stop().expect("the node ends");
    cost as f64 / 1e3 / MEASURED as f64
}

/// Puts a seam at the stream. What it takes is counted in `seen`.
fn attach(node: &Node, name: &StreamName, seam: Seam, seen: &Arc<AtomicU64>) -> Option<Attached> {
    let seen = seen.clone();
    match seam {
        Seam::Nothing => None,
        Seam::Sink => Some(node.feed(name, Counting(seen)).expect("a thread starts")),
        Seam::Wire => {
            let mut wire = node.subscribe_wire(name, &FORM);
            thread::spawn(move || {
                while let Ok(bytes) = wire.next_blocking() {
                    seen.fetch_add(bytes.len() as u64, Ordering::SeqCst);
                }
            });
            None
        }
        Seam::Observer => {
            node.observe(Counting(seen)).expect("a thread starts");
            None
        }
        Seam::AuditLog => {
            node.audit(AuditLog::new(Lines(seen))).expect("a thread starts");
            None
        }
        Seam::Recording => {
            // On a disk: where there is none the spool would be memory, too.
            let spool = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("seams-spool");
            drop(fs::remove_dir_all(&spool));
            let sink = RecordingSink::builder(Arc::new(Memory::new()), "rec/bench")
                .segment(Duration::from_secs(10))
                .spool(spool)
                .start()
                .expect("the spool can be used");
            Some(node.feed(name, Recorded(sink, seen)).expect("a thread starts"))
        }
    }
}

/// A seam that has seen nothing was not measured.
fn wait_for(seam: Seam, seen: &AtomicU64) {
    let expected = match seam {
        Seam::Nothing => return,
        // All frames, each once.
        Seam::Sink | Seam::Recording => WARM_UP + MEASURED,
        // Bytes, and more of them than there are in the frames.
        Seam::Wire => (0..WARM_UP + MEASURED).map(|number| size(number) as u64).sum(),
        Seam::Observer | Seam::AuditLog => 1,
    };
    let began = Instant::now();
    while seen.load(Ordering::SeqCst) < expected {
        assert!(began.elapsed() < PATIENCE, "all frames have come");
        thread::sleep(Duration::from_millis(1));
    }
    if matches!(seam, Seam::Sink | Seam::Recording) {
        assert_eq!(seen.load(Ordering::SeqCst), expected, "each once");
    }
}

/// Counts frames, or events.
struct Counting(Arc<AtomicU64>);

impl MediaSink for Counting {
    fn frame(&mut self, frame: &Frame) -> Result<(), HostError> {
        self.0.fetch_add(u64::from(frame.is_media()), Ordering::SeqCst);
        Ok(())
    }
}

impl Observer for Counting {
    fn happened(&mut self, _: &StreamEvent) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Counts what is written, and throws it away.
struct Lines(Arc<AtomicU64>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Records, and counts the frames.
struct Recorded(RecordingSink, Arc<AtomicU64>);

impl MediaSink for Recorded {
    fn frame(&mut self, frame: &Frame) -> Result<(), HostError> {
        self.0.frame(frame);
        self.1.fetch_add(u64::from(frame.is_media()), Ordering::SeqCst);
        Ok(())
    }
    fn ended(&mut self) {
        let counters = self.0.counters();
        assert_eq!((counters.skipped, counters.lost), (0, 0), "all of it is kept");
    }
}

/// The frames of the stream, each when its burst is due.
struct Stream {
    began: Instant,
    /// Of the next frame; `None` before the parameters.
    number: Option<u64>,
    /// The CPU that was used before the first frame that is measured, nanoseconds.
    before: Arc<AtomicU64>,
}

impl Stream {
    fn take(&mut self) -> Option<Frame> {
        let Some(number) = self.number else {
            self.number = Some(0);
            return Some(parameters());
        };
        if number == WARM_UP + MEASURED {
            return None;
        }
        if number.is_multiple_of(BURST) {
            let due = PERIOD * u32::try_from(number / BURST).expect("a small number");
            thread::sleep(due.saturating_sub(self.began.elapsed()));
        }
        if number == WARM_UP {
            self.before.store(clock::process_cpu(), Ordering::SeqCst);
        }
        self.number = Some(number + 1);
        Some(picture(number))
    }
}

impl MediaSource for Stream {
    fn next(&mut self) -> Result<Option<Frame>, HostError> {
        let frame = self.take();
        if frame.is_none() {
            // Its leaving is no part of the figure.
            thread::sleep(SETTLING * 2);
        }
        Ok(frame)
    }
}

/// Bytes of a frame: 4 Mbit/s with a key frame every two seconds.
fn size(number: u64) -> usize {
    if number.is_multiple_of(2 * FRAMES_PER_SECOND) { 80_000 } else { 6_000 }
}

fn picture(number: u64) -> Frame {
    static PICTURE: &[u8] = &[0x5a; 80_000];
    let millis = number * 1000 / FRAMES_PER_SECOND;
    let dts = MediaTime::from_millis(i64::try_from(millis).expect("a short stream"));
    let key = number.is_multiple_of(2 * FRAMES_PER_SECOND);
    let data = Bytes::from_static(&PICTURE[..size(number)]);
    Frame { track: TrackId::VIDEO, dts, pts: dts, payload: Payload::Video { codec: Codec::H264, key, data } }
}

/// Of `x264` at 1280 x 720.
fn parameters() -> Frame {
    const AVCC: &[u8] = &[
        0x01, 0x64, 0x00, 0x1f, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05,
        0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x19, 0x60,
        0x01, 0x00, 0x06, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8, 0x00,
    ];
    let parameters = Parameters::parse(Codec::H264, Bytes::from_static(AVCC)).expect("a sound configuration");
    let dts = MediaTime::from_millis(0);
    Frame { track: TrackId::VIDEO, dts, pts: dts, payload: Payload::Parameters(Arc::new(parameters)) }
}
