//! What a frame costs that goes to subscribers in the same process, beside `tokio::sync::broadcast` in the same run: CPU
//! of all threads per delivered frame. Twice: for one live stream at its own pace, and for frames that come as fast as they
//! are taken, of which each side may have a second's worth on its way.
//!
//! Every subscriber is a task of the same kind of runtime and really receives: it looks at each frame, as each side gives
//! them best: a channel one by one, a node in batches. With none, the figure is per published frame. `cargo bench -p shardcast-shards --bench local` runs it, for some minutes; numbers behind it (`-- 256 4096`) choose how many
//! subscribers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use shardcast_engine::{
    codec::Codec,
    media::{Frame, Payload, StreamName, TrackId},
    time::MediaTime,
};
use shardcast_io::clock;
use shardcast_shards::host::Node;
use tokio::sync::broadcast;

/// Pictures and packets of sound of a live stream: 30 and 43 a second.
const FRAMES_PER_SECOND: u32 = 73;
/// Frames that are sent at once when they come as fast as they are taken; the next follow when all have been received.
const BURST: u32 = FRAMES_PER_SECOND;
const WARM_UP: u32 = BURST;
const MEASURED: u32 = 8 * FRAMES_PER_SECOND;
const MEASURED_FAST: u32 = 40 * BURST;
const ROUNDS: usize = 3;
/// How long the last frames may be on their way.
const PATIENCE: Duration = Duration::from_secs(10);

/// How fast frames come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    Live,
    Fast,
}

fn main() {
    for (pace, what) in [(Pace::Live, "a live stream"), (Pace::Fast, "as fast as they are taken")] {
        println!("{what}: CPU of the process per delivered frame, us (median of {ROUNDS}; lowest - highest)");
        println!("{:>12}  {:>28}  {:>28}  {:>6}", "subscribers", "shardcast", "tokio broadcast", "ratio");
        compare(pace);
    }
}

fn compare(pace: Pace) {
    let chosen: Vec<u64> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let usual = [0, 1, 16, 256, 4096];
    for &subscribers in if chosen.is_empty() { &usual[..] } else { &chosen } {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            eprint!("\r{subscribers} subscribers, round {} of {ROUNDS} ", round + 1);
            ours.push(shardcast(subscribers, pace));
            theirs.push(tokio_broadcast(subscribers, pace));
        }
        eprint!("\r{:40}\r", "");
        ours.sort_by(f64::total_cmp);
        theirs.sort_by(f64::total_cmp);
        let told = |all: &[f64]| format!("{:.3} ({:.3} - {:.3})", all[ROUNDS / 2], all[0], all[ROUNDS - 1]);
        let ratio = ours[ROUNDS / 2] / theirs[ROUNDS / 2];
        println!("{subscribers:>12}  {:>28}  {:>28}  {ratio:>6.2}", told(&ours), told(&theirs));
    }
}

fn shardcast(subscribers: u64, pace: Pace) -> f64 {
    let node = Node::builder().start().expect("a node starts");
    let name = StreamName::new("live", "bench").expect("a legal name");
    let received = Received::new();
    let listeners: Vec<_> = (0..subscribers).map(|_| node.subscribe(&name)).collect();
    let counts = received.clone();
    let listening = listen(move || {
        for mut listener in listeners {
            let received = counts.clone();
            tokio::spawn(async move {
                while let Ok(batch) = listener.next_batch().await {
                    received.count(batch.iter().filter(|frame| frame.is_media()).count());
                }
            });
        }
    });
    let mut publisher = node.publish(&name);
    let cost =
        measure(subscribers, pace, &received, |frame| publisher.send_blocking(frame).expect("it is live"));
    drop(publisher);
    node.stop().expect("the node ends");
    drop(listening);
    cost
}

fn tokio_broadcast(subscribers: u64, pace: Pace) -> f64 {
    let (sender, _) = broadcast::channel::<Frame>(1024);
    let received = Received::new();
    let listeners: Vec<_> = (0..subscribers).map(|_| sender.subscribe()).collect();
    let counts = received.clone();
    let listening = listen(move || {
        for mut listener in listeners {
            let received = counts.clone();
            tokio::spawn(async move {
                while let Ok(frame) = listener.recv().await {
                    received.count(usize::from(frame.is_media()));
                }
            });
        }
    });
    let cost = measure(subscribers, pace, &received, |frame| {
        // With nobody to receive, broadcast gives the frame back.
        drop(sender.send(frame));
    });
    drop(sender);
    drop(listening);
    cost
}

/// A runtime on a thread of its own, whose tasks `spawn` makes. Dropping it ends both.
fn listen(spawn: impl FnOnce() + Send + 'static) -> impl Drop {
    struct Listening(Option<(tokio::sync::oneshot::Sender<()>, thread::JoinHandle<()>)>);
    impl Drop for Listening {
        fn drop(&mut self) {
            if let Some((stop, thread)) = self.0.take() {
                drop(stop);
                thread.join().expect("the runtime ends");
            }
        }
    }
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let thread = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async move {
            spawn();
            let _ = stopped.await;
        });
    });
    Listening(Some((stop, thread)))
}

/// Sends at that pace and says what each delivery took.
fn measure(subscribers: u64, pace: Pace, received: &Received, mut send: impl FnMut(Frame)) -> f64 {
    let measured = if pace == Pace::Live { MEASURED } else { MEASURED_FAST };
    let began = Instant::now();
    let mut before = 0.0;
    for number in 0..WARM_UP + measured {
        match pace {
            Pace::Live => {
                let due = Duration::from_secs(1) * number / FRAMES_PER_SECOND;
                thread::sleep(due.saturating_sub(began.elapsed()));
            }
            Pace::Fast if number.is_multiple_of(BURST) => received.wait(u64::from(number) * subscribers),
            Pace::Fast => {}
        }
        if number == WARM_UP {
            before = cpu();
        }
        send(frame(number));
    }
    received.wait(u64::from(WARM_UP + measured) * subscribers);
    let deliveries = u64::from(measured) * subscribers.max(1);
    (cpu() - before) * 1e6 / deliveries as f64
}

/// Counts what is received, and wakes whoever waits for the last of it: looking again and again would cost more than what is
/// measured.
struct Received {
    frames: AtomicU64,
    wanted: AtomicU64,
    waits: thread::Thread,
}

impl Received {
    fn new() -> Arc<Received> {
        let (frames, wanted) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Received { frames, wanted, waits: thread::current() })
    }

    fn count(&self, more: usize) {
        let frames = self.frames.fetch_add(more as u64, Ordering::SeqCst) + more as u64;
        if frames == self.wanted.load(Ordering::SeqCst) {
            self.waits.unpark();
        }
    }

    /// Until so many frames have been received, each once.
    fn wait(&self, all: u64) {
        self.wanted.store(all, Ordering::SeqCst);
        let began = Instant::now();
        while self.frames.load(Ordering::SeqCst) < all {
            assert!(began.elapsed() < PATIENCE, "all frames are delivered");
            thread::park_timeout(PATIENCE);
        }
        assert_eq!(self.frames.load(Ordering::SeqCst), all, "each once");
    }
}

/// One of a stream of 4 Mbit/s: a key frame every two seconds.
fn frame(number: u32) -> Frame {
    static PICTURE: &[u8] = &[0x5a; 80_000];
    let dts = MediaTime::from_millis(i64::from(number) * 1000 / i64::from(FRAMES_PER_SECOND));
    let key = number.is_multiple_of(2 * FRAMES_PER_SECOND);
    let data = Bytes::from_static(&PICTURE[..if key { 80_000 } else { 6_000 }]);
    Frame { track: TrackId::VIDEO, dts, pts: dts, payload: Payload::Video { codec: Codec::H264, key, data } }
}

/// CPU seconds of this process.
fn cpu() -> f64 {
    clock::process_cpu() as f64 / 1e9
}
