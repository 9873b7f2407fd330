//! What a frame costs that goes to subscribers in the same process, beside `tokio::sync::broadcast` in the same run: CPU
//! of all threads per delivered frame, for one live stream at its own pace.
//!
//! Every subscriber is a task of the same kind of runtime and really receives: it looks at each frame. With none, the
//! figure is per published frame. `cargo bench -p shardcast-shards --bench local` runs it, for some minutes.

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
const WARM_UP: u32 = FRAMES_PER_SECOND;
const MEASURED: u32 = 8 * FRAMES_PER_SECOND;
const ROUNDS: usize = 3;
/// How long the last frames may be on their way.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() {
    println!("CPU of the process per delivered frame, us (median of {ROUNDS}; lowest - highest)");
    println!("{:>12}  {:>28}  {:>28}  {:>6}", "subscribers", "shardcast", "tokio broadcast", "ratio");
    for subscribers in [0, 1, 16, 256, 4096] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            eprint!("\r{subscribers} subscribers, round {} of {ROUNDS} ", round + 1);
            ours.push(shardcast(subscribers));
            theirs.push(tokio_broadcast(subscribers));
        }
        eprint!("\r{:40}\r", "");
        ours.sort_by(f64::total_cmp);
        theirs.sort_by(f64::total_cmp);
        let told = |all: &[f64]| format!("{:.3} ({:.3} - {:.3})", all[ROUNDS / 2], all[0], all[ROUNDS - 1]);
        let ratio = ours[ROUNDS / 2] / theirs[ROUNDS / 2];
        println!("{subscribers:>12}  {:>28}  {:>28}  {ratio:>6.2}", told(&ours), told(&theirs));
    }
}

fn shardcast(subscribers: u64) -> f64 {
    let node = Node::builder().start().expect("a node starts");
    let name = StreamName::new("live", "bench").expect("a legal name");
    let received = Arc::new(AtomicU64::new(0));
    let listeners: Vec<_> = (0..subscribers).map(|_| node.subscribe(&name)).collect();
    let counts = received.clone();
    let listening = listen(move || {
        for mut listener in listeners {
            let received = counts.clone();
            tokio::spawn(async move {
                while let Ok(frame) = listener.next().await {
                    received.fetch_add(u64::from(frame.is_media()), Ordering::Relaxed);
                }
            });
        }
    });
    let mut publisher = node.publish(&name);
    let cost = measure(subscribers, &received, |frame| publisher.send_blocking(frame).expect("it is live"));
    drop(publisher);
    node.stop().expect("the node ends");
    drop(listening);
    cost
}

fn tokio_broadcast(subscribers: u64) -> f64 {
    let (sender, _) = broadcast::channel::<Frame>(1024);
    let received = Arc::new(AtomicU64::new(0));
    let listeners: Vec<_> = (0..subscribers).map(|_| sender.subscribe()).collect();
    let counts = received.clone();
    let listening = listen(move || {
        for mut listener in listeners {
            let received = counts.clone();
            tokio::spawn(async move {
                while let Ok(frame) = listener.recv().await {
                    received.fetch_add(u64::from(frame.is_media()), Ordering::Relaxed);
                }
            });
        }
    });
    let cost = measure(subscribers, &received, |frame| {
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

/// Sends at the stream's pace and says what each delivery took.
fn measure(subscribers: u64, received: &AtomicU64, mut send: impl FnMut(Frame)) -> f64 {
    let began = Instant::now();
    let mut before = 0.0;
    for number in 0..WARM_UP + MEASURED {
        let due = Duration::from_secs(1) * number / FRAMES_PER_SECOND;
        thread::sleep(due.saturating_sub(began.elapsed()));
        if number == WARM_UP {
            before = cpu();
        }
        send(frame(number));
    }
    let all = u64::from(WARM_UP + MEASURED) * subscribers;
    let sent = Instant::now();
    while received.load(Ordering::Relaxed) < all {
        assert!(sent.elapsed() < PATIENCE, "all frames are delivered");
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(received.load(Ordering::Relaxed), all, "each once");
    let deliveries = u64::from(MEASURED) * subscribers.max(1);
    (cpu() - before) * 1e6 / deliveries as f64
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
