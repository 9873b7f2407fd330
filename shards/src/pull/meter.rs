//! Bounds what a conversation may cost that nothing comes of. Retina believes any length that it is told, and reads for as long as
//! there is something to read: by a fast network that took three gigabytes in six seconds, and the thread with them. What it has
//! taken in cannot be seen from here, but the time that this takes can.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll},
};

use shardcast_io::clock;
use tokio::task::coop::poll_proceed;

/// Nanoseconds of CPU until something has come of it: a conversation's beginning, or a packet. The kernel copies some 100 MB in
/// that time; a beginning takes a tenth of it at most.
const CPU_NANOS_MAX: u64 = 30_000_000;
/// Of the 128 times that tokio lets a task read in one turn, as many as are left out: what a turn takes is looked at after a few
/// reads.
const READS_LEFT_OUT: u32 = 120;

/// It takes in and takes in, and nothing comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flooded;

/// How much is taken in before the cost is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turns {
    /// What one turn of a task takes.
    Whole,
    /// A few reads.
    Short,
}

/// Runs `future`, of which something comes when it is ready.
///
/// # Errors
/// It has cost too much by then.
pub(super) async fn metered<F: Future>(turns: Turns, future: F) -> Result<F::Output, Flooded> {
    let mut future = pin!(future);
    let mut spent = 0;
    poll_fn(|context| {
        if turns == Turns::Short {
            shorten(context);
        }
        let before = clock::thread_cpu();
        let polled = future.as_mut().poll(context);
        spent += clock::thread_cpu().saturating_sub(before);
        match polled {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending if spent > CPU_NANOS_MAX => Poll::Ready(Err(Flooded)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Leaves little of the turn.
fn shorten(context: &mut Context<'_>) {
    for _ in 0..READS_LEFT_OUT {
        match poll_proceed(context) {
            Poll::Ready(proceed) => proceed.made_progress(),
            // All is gone already; the next turn comes by itself.
            Poll::Pending => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_costs_without_end_is_left_and_what_waits_is_not() {
        let burn = poll_fn(|context| {
            let began = clock::thread_cpu();
            while clock::thread_cpu() - began < CPU_NANOS_MAX / 10 {}
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert_eq!(metered(Turns::Whole, burn).await, Err(Flooded));
        for turns in [Turns::Whole, Turns::Short] {
            let wait = tokio::time::sleep(std::time::Duration::from_millis(60));
            assert_eq!(metered(turns, wait).await, Ok(()));
        }
    }
}
