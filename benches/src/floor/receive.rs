//! What publishers send, received and dropped: what taking it costs when nobody looks at it.
//!
//! One multishot receive per publisher into the buffers that all share, as in a shard. While more than a few receives
//! come they are harvested on a tick instead of one by one, by the rule that a shard has: a wake costs more than a receive.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde::Serialize;
use shardcast_io::{
    clock,
    ring::{Completion, Ring, RingConfig},
};

use super::{Seconds, bind};
use crate::units;

/// How the floor is to receive.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where publishers connect by plain TCP
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: SocketAddr,
    /// How often receives are harvested while many come; "0ms" takes each as it comes
    #[arg(long, value_name = "TIME", default_value = "4ms", value_parser = units::duration)]
    pub tick: Duration,
}

/// What the floor has done since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Completions with bytes.
    pub receives: u64,
    /// Bytes that came.
    pub bytes: u64,
    /// Times a publisher found no free buffer.
    pub starved: u64,
    /// Enters of the ring.
    pub enters: u64,
    /// Publishers who are there now.
    pub publishers: u64,
    /// Whether receives are harvested on the tick now.
    pub ticking: bool,
}

/// Decides whether receives are taken as they come or on a tick.
///
/// In a window of 80 ms: on the tick, once the ring has woken the loop as often as the tick would have; as they come again,
/// when fewer come than that.
#[derive(Clone, Copy, Debug)]
pub struct Harvest {
    tick: Duration,
    ticking: bool,
    window_began: u64,
    wakes: u64,
    receives: u64,
}

impl Harvest {
    /// Takes them as they come, at first. With a tick of nothing it stays so.
    pub fn new(tick: Duration, now: u64) -> Harvest {
        Harvest { tick, ticking: false, window_began: now, wakes: 0, receives: 0 }
    }

    /// The pause before the next harvest, or none when each receive is to wake the loop.
    pub fn pause(&self) -> Option<Duration> {
        self.ticking.then_some(self.tick)
    }

    /// Takes note that the loop was awake, with so many receives since the beginning.
    pub fn note(&mut self, receives: u64, now: u64) {
        self.wakes += 1;
        if now - self.window_began < WINDOW || self.tick.is_zero() {
            return;
        }
        // A window may have lasted longer, when nothing came.
        let ticks = (now - self.window_began) / WINDOW * WINDOW_TICKS;
        let often = if self.ticking { receives - self.receives } else { self.wakes };
        self.ticking = often >= ticks;
        (self.window_began, self.wakes, self.receives) = (now, 0, receives);
    }
}

/// The floor, listening.
pub struct Receiver {
    listener: TcpListener,
    tick: Duration,
}

impl Receiver {
    /// Listens; publishers are taken once it runs.
    ///
    /// # Errors
    /// The port is taken.
    pub fn open(options: &Options) -> io::Result<Receiver> {
        Ok(Receiver { listener: bind(options.listen)?, tick: options.tick })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Receives until `stop` is set, which it looks at once a second at least.
    ///
    /// # Errors
    /// The ring failed.
    pub fn run(self, stop: &AtomicBool, mut report: impl FnMut(&Report)) -> io::Result<()> {
        let mut ring = Ring::new(&RingConfig { receive_buffers: BUFFERS, ..RingConfig::default() })?;
        ring.listen(self.listener, PUBLISHERS);
        let mut harvest = Harvest::new(self.tick, clock::monotonic());
        let mut seconds = Seconds::from(clock::monotonic());
        while !stop.load(Ordering::Relaxed) {
            // Newer kernels do twenty pieces of deferred work with each enter. A tick takes all that has come, or the floor
            // would be measured at another tick than it was told.
            let mut came = true;
            while std::mem::take(&mut came) {
                ring.submit()?;
                while let Some(completion) = ring.next() {
                    came = true;
                    match completion {
                        // Dropping the descriptor of one too many closes it.
                        Completion::Accepted { socket, .. } => {
                            if let Ok(id) = ring.add(socket) {
                                ring.receive(id);
                            }
                        }
                        Completion::ReceiveEnded { socket, .. } => ring.close(socket),
                        // What was received goes back to the kernel unread; a listener that stopped is resumed each second.
                        _ => {}
                    }
                }
            }
            let now = clock::monotonic();
            harvest.note(ring.stats().receives, now);
            if seconds.passed(now) {
                let stats = ring.stats();
                report(&Report {
                    receives: stats.receives,
                    bytes: stats.receive_bytes,
                    starved: stats.receives_starved,
                    enters: stats.enters,
                    publishers: ring.sockets() as u64,
                    ticking: harvest.ticking,
                });
                ring.resume_accept(PUBLISHERS);
            }
            if ring.pending() > 0 {
                continue;
            }
            match harvest.pause() {
                // The kernel keeps what comes until the next enter, and wakes nobody for it.
                Some(pause) => std::thread::sleep(pause),
                None => ring.wait(1, Duration::from_nanos(seconds.next.saturating_sub(now)))?,
            }
        }
        Ok(())
    }
}

/// Enough that hundreds of publishers are harvested on a long tick and none finds them used up.
const BUFFERS: u16 = 2048;
/// The listener's token.
const PUBLISHERS: u64 = 0;
/// How long wakes and receives are counted before the next decision, as in a shard.
const WINDOW: u64 = 80_000_000;
/// Ticks of a shard in one window: at this rate of wakes both ways cost the same.
const WINDOW_TICKS: u64 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    fn harvest() -> Harvest {
        Harvest::new(Duration::from_millis(4), 0)
    }

    #[test]
    fn a_trickle_is_taken_as_it_comes() {
        let mut harvest = harvest();
        for wake in 1..=100 {
            harvest.note(wake, wake * 10 * MILLI);
            assert_eq!(harvest.pause(), None, "ten milliseconds apart is no crowd");
        }
    }

    #[test]
    fn a_crowd_is_harvested_on_the_tick_until_it_has_gone() {
        let mut harvest = harvest();
        for wake in 1..=80 {
            harvest.note(wake, wake * MILLI);
        }
        assert_eq!(harvest.pause(), Some(Duration::from_millis(4)));
        // On the tick each wake brings several.
        for wake in 1..=20 {
            harvest.note(80 + wake * 5, (80 + wake * 4) * MILLI);
        }
        assert!(harvest.pause().is_some());
        for wake in 1..=20 {
            harvest.note(180, (160 + wake * 4) * MILLI);
        }
        assert_eq!(harvest.pause(), None, "wakes by the tick alone do not keep it");
    }

    #[test]
    fn one_long_silence_is_not_a_short_window() {
        let mut harvest = harvest();
        for wake in 1..=30 {
            harvest.note(wake, wake * 100);
        }
        harvest.note(31, 10_000 * MILLI);
        assert_eq!(harvest.pause(), None);
    }

    #[test]
    fn without_a_tick_each_receive_is_taken_as_it_comes() {
        let mut harvest = Harvest::new(Duration::ZERO, 0);
        for wake in 1..=1000 {
            harvest.note(wake, wake * MILLI);
        }
        assert_eq!(harvest.pause(), None);
    }
}
