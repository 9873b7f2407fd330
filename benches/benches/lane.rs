//! What a message between two cores costs: pushed and popped on one thread (the price of the ring itself), and streamed
//! to another thread that is awake.

use bytes::Bytes;
use shardcast_io::lane::lane;

fn main() {
    divan::main();
}

const BATCH: usize = 512;

#[divan::bench]
fn push_and_pop_a_refcounted_buffer(bencher: divan::Bencher<'_, '_>) {
    let (mut sender, mut receiver) = lane::<Bytes>(1024);
    let payload = Bytes::from(vec![0x5a; 16 << 10]);
    bencher.counter(divan::counter::ItemsCount::new(BATCH)).bench_local(|| {
        for _ in 0..BATCH {
            assert!(sender.push(payload.clone()).is_ok());
        }
        let mut popped = 0;
        while let Some(message) = receiver.pop() {
            popped += usize::from(message.len() == 16 << 10);
        }
        assert_eq!(popped, BATCH);
    });
}

#[divan::bench]
fn stream_to_another_thread(bencher: divan::Bencher<'_, '_>) {
    const MESSAGES: usize = 100_000;
    let payload = Bytes::from(vec![0x5a; 16 << 10]);
    bencher.counter(divan::counter::ItemsCount::new(MESSAGES)).bench_local(|| {
        let (mut sender, mut receiver) = lane::<Bytes>(1024);
        let consumer = std::thread::spawn(move || {
            let mut popped = 0;
            while popped < MESSAGES {
                match receiver.pop() {
                    Some(_) => popped += 1,
                    None => std::hint::spin_loop(),
                }
            }
        });
        for _ in 0..MESSAGES {
            while sender.push(payload.clone()).is_err() {
                std::hint::spin_loop();
            }
        }
        consumer.join().expect("the consumer counts to the end");
    });
}
