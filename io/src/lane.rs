//! What leads from one core to another: a lane of messages, and the doorbell that wakes who sleeps at its end.
//!
//! A lane is one producer and one consumer, never waits and never locks. A full lane gives the message back; what
//! then happens is the producer's to say. A consumer has one doorbell for all its lanes. The producer rings it once
//! per batch, which costs a system call only while the consumer sleeps.

use std::task::{Context, Poll, Waker};

use sync::{AtomicBool, Mutex, Ordering, fence};

/// A lane that holds up to `slots` messages.
pub fn lane<T>(slots: usize) -> (Sender<T>, Receiver<T>) {
    let (producer, consumer) = rtrb::RingBuffer::new(slots);
    (Sender { producer }, Receiver { consumer })
}

/// The producer's end of a lane.
pub struct Sender<T> {
    producer: rtrb::Producer<T>,
}

impl<T> Sender<T> {
    /// Appends a message, or gives it back when the lane is full. Ring the consumer's doorbell after the batch.
    pub fn push(&mut self, message: T) -> Result<(), T> {
        self.producer.push(message).map_err(|rtrb::PushError::Full(message)| message)
    }

    /// How many messages surely fit now.
    pub fn room(&self) -> usize {
        self.producer.slots()
    }

    /// Whether the receiver is gone, so that nobody will ever read what is pushed.
    pub fn is_abandoned(&self) -> bool {
        self.producer.is_abandoned()
    }
}

/// The consumer's end of a lane.
pub struct Receiver<T> {
    consumer: rtrb::Consumer<T>,
}

impl<T> Receiver<T> {
    /// The oldest message, if there is one.
    pub fn pop(&mut self) -> Option<T> {
        self.consumer.pop().ok()
    }

    /// How many messages surely wait now.
    pub fn len(&self) -> usize {
        self.consumer.slots()
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.consumer.is_empty()
    }

    /// Whether the sender is gone; what it had pushed can still be popped.
    pub fn is_abandoned(&self) -> bool {
        self.consumer.is_abandoned()
    }
}

/// Wakes the one task that consumes some lanes, when it sleeps.
///
/// The order that makes it safe is Dekker's: the producer pushes, *then* looks whether the consumer is parked; the
/// consumer says it is parked, *then* looks whether there is something. A sequentially consistent fence between
/// the two steps on each side forbids that both miss. The tests under loom try the orders.
#[derive(Default)]
pub struct Doorbell {
    /// Written by the consumer alone, so that the producers' look costs them a shared cache line and no more.
    parked: AtomicBool,
    /// Taken by the first producer that finds the consumer parked; those who come before it has woken find nothing
    /// and need not wake it again. The lock is held for a few instructions, and only around a sleep.
    waker: Mutex<Option<Waker>>,
}

impl Doorbell {
    /// A doorbell at which nobody sleeps yet.
    pub fn new() -> Doorbell {
        Doorbell::default()
    }

    /// Producer: call once after a batch of pushes.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if !self.parked.load(Ordering::Relaxed) {
            return;
        }
        let waker = lock(&self.waker).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Consumer: call where a task's poll has found nothing to do. `Ready` when `has_more` says there is something
    /// after all; `Pending` when the task is parked and the next ring will wake it. Call it at every poll of the sleep.
    pub fn arm(&self, context: &Context<'_>, has_more: impl FnOnce() -> bool) -> Poll<()> {
        *lock(&self.waker) = Some(context.waker().clone());
        self.parked.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if has_more() {
            self.disarm();
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Consumer: call when something else ended the sleep, so that producers save themselves the ring.
    pub fn disarm(&self) {
        self.parked.store(false, Ordering::Relaxed);
    }
}

#[cfg(not(loom))]
mod sync {
    pub use std::sync::Mutex;
    pub use std::sync::atomic::{AtomicBool, Ordering, fence};
}

#[cfg(loom)]
mod sync {
    pub use loom::sync::Mutex;
    pub use loom::sync::atomic::{AtomicBool, Ordering, fence};
}

#[cfg(not(loom))]
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing under this lock can panic half-way, so what a poisoned one holds is whole.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(loom)]
fn lock<T>(mutex: &Mutex<T>) -> loom::sync::MutexGuard<'_, T> {
    mutex.lock().expect("loom's mutex is never poisoned")
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::Arc;

    #[test]
    fn a_full_lane_gives_the_message_back_and_keeps_the_order() {
        let (mut sender, mut receiver) = lane(2);
        assert_eq!(sender.push(1), Ok(()));
        assert_eq!(sender.push(2), Ok(()));
        assert_eq!(sender.room(), 0);
        assert_eq!(sender.push(3), Err(3));
        assert_eq!(receiver.len(), 2);
        assert_eq!((receiver.pop(), receiver.pop(), receiver.pop()), (Some(1), Some(2), None));
        assert!(!sender.is_abandoned());
        drop(sender);
        assert!(receiver.is_abandoned() && receiver.is_empty());
    }

    #[test]
    fn a_sleeping_executor_on_another_core_gets_every_message_in_order() {
        const MESSAGES: u32 = 20_000;
        let (mut sender, mut receiver) = lane(64);
        let bell = Arc::new(Doorbell::new());
        let rung = Arc::clone(&bell);
        let consumer = glommio::LocalExecutorBuilder::new(glommio::Placement::Unbound)
            .io_memory(64 << 10)
            .ring_depth(128)
            .spawn(move || async move {
                let mut expected = 0;
                while expected < MESSAGES {
                    while let Some(message) = receiver.pop() {
                        assert_eq!(message, expected);
                        expected += 1;
                    }
                    if expected < MESSAGES {
                        poll_fn(|context| rung.arm(context, || !receiver.is_empty())).await;
                    }
                }
                expected
            })
            .unwrap();
        for message in 0..MESSAGES {
            // Now and then a pause, so that the consumer really sleeps.
            if message % 1000 == 0 {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            while sender.push(message).is_err() {
                bell.ring();
                std::thread::yield_now();
            }
            bell.ring();
        }
        assert_eq!(consumer.join().unwrap(), MESSAGES);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::future::block_on;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicUsize;
    use loom::thread;
    use std::future::poll_fn;

    /// Stands for a lane, which loom cannot look into: how many messages were pushed, with the orders that rtrb uses
    /// (the tail is stored with Release, and read with Acquire).
    #[derive(Default)]
    struct Lane {
        pushed: AtomicUsize,
    }

    impl Lane {
        fn push(&self) {
            // One producer per lane, so a load and a store are enough, as in rtrb.
            let pushed = self.pushed.load(Ordering::Relaxed);
            self.pushed.store(pushed + 1, Ordering::Release);
        }

        fn pushed(&self) -> usize {
            self.pushed.load(Ordering::Acquire)
        }
    }

    /// Sleeps at the bell until all messages of all lanes have come. A lost wake-up is a deadlock, which loom reports.
    fn consume(bell: &Doorbell, lanes: &[Arc<Lane>], messages: usize) {
        let mut seen = 0;
        while seen < messages {
            let count = || lanes.iter().map(|lane| lane.pushed()).sum::<usize>();
            block_on(poll_fn(|context| bell.arm(context, || count() > seen)));
            seen = count();
        }
    }

    /// All orders with up to three preemptions. Without the bound it takes many minutes, and no bug of this kind that
    /// is known needs more.
    fn check(model: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(model);
    }

    #[test]
    fn loom_no_wake_up_is_lost_with_one_producer() {
        check(|| {
            let (bell, lane) = (Arc::new(Doorbell::new()), Arc::new(Lane::default()));
            let producer = {
                let (bell, lane) = (Arc::clone(&bell), Arc::clone(&lane));
                thread::spawn(move || {
                    for _ in 0..2 {
                        lane.push();
                        bell.ring();
                    }
                })
            };
            consume(&bell, &[lane], 2);
            producer.join().unwrap();
        });
    }

    #[test]
    fn loom_no_wake_up_is_lost_with_two_producers_at_one_bell() {
        check(|| {
            let bell = Arc::new(Doorbell::new());
            let lanes = [Arc::new(Lane::default()), Arc::new(Lane::default())];
            let producers = lanes.clone().map(|lane| {
                let bell = Arc::clone(&bell);
                thread::spawn(move || {
                    lane.push();
                    bell.ring();
                })
            });
            consume(&bell, &lanes, 2);
            producers.into_iter().for_each(|producer| producer.join().unwrap());
        });
    }

    #[test]
    fn loom_a_disarmed_bell_can_be_armed_again() {
        check(|| {
            let (bell, lane) = (Arc::new(Doorbell::new()), Arc::new(Lane::default()));
            let producer = {
                let (bell, lane) = (Arc::clone(&bell), Arc::clone(&lane));
                thread::spawn(move || {
                    lane.push();
                    bell.ring();
                })
            };
            // Something else wakes the task after it has parked: it disarms, works, and sleeps again.
            let mut first = true;
            block_on(poll_fn(|context| {
                let armed = bell.arm(context, || lane.pushed() == 1);
                if std::mem::take(&mut first) { Poll::Ready(()) } else { armed }
            }));
            bell.disarm();
            consume(&bell, &[lane], 1);
            producer.join().unwrap();
        });
    }
}
