//! The simulated world: hubs, sessions, peers, lanes and a virtual clock in one thread, driven by a seed.
//!
//! The engine has no clock, no socket and no thread, so a second driver can stand where the shards stand, and do to it
//! whatever a kernel, a network or a neighbour core could do: deliver bytes in any pieces, take a send in parts or not at
//! all, fill a lane, sleep, lose a peer without a word. A [`judge`] compares what arrives with what was sent.
//!
//! `scenario.rs` makes a world of a seed, `world.rs` runs it, `driver.rs` stands for one core's shard, `socket.rs` for the
//! network, `peer.rs` for publishers and viewers. `plain/` is a protocol of this world's own, and `http/` the peers of a real
//! one; `srt.rs` has those that come by datagrams, by the ways of `network.rs` and the door of
//! `door.rs`, and `rtsp.rs` those whose media goes by such, by the ports of `beside.rs`; `udp.rs`
//! has those who send unasked. What is fetched of packaged streams is kept and judged in `library.rs`. `canary.rs` breaks what the judge must find.

mod archive;
mod beside;
pub mod canary;
pub mod client;
mod disk;
mod door;
mod driver;
mod due;
pub mod http;
pub mod judge;
pub mod library;
pub mod network;
pub mod peer;
pub mod plain;
pub mod random;
pub mod reel;
pub mod rtsp;
pub mod scenario;
mod socket;
pub mod srt;
pub mod tap;
pub mod udp;
mod world;

use std::{
    cell::RefCell,
    fmt,
    panic::{self, AssertUnwindSafe},
    sync::Once,
    time::Duration,
};

use canary::Canary;
use judge::{Tally, Verdict};
use library::Count;
use scenario::{End, Scenario};
use socket::Socket;

/// The panic of a session that was asked to panic.
pub const EXPECTED_PANIC: &str = "a session's own bug, brought out by its peer";

/// What a seed showed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// What was compared.
    pub tally: Tally,
    /// What was compared of packaged streams.
    pub packaged: Count,
    /// Things that were done.
    pub steps: u64,
    /// Publishers that were moved, viewers that lagged, lanes that were full, groups that were let go: how much of the
    /// engine was seen.
    pub moves: u64,
    /// Jumps of viewers that lagged.
    pub viewer_jumps: u64,
    /// Copies that became late.
    pub replicas_late: u64,
    /// Groups that were let go.
    pub groups_let_go: u64,
    /// Frames that were read from disks after a crash or at the end.
    pub frames_read: u64,
    /// Gaps in recordings.
    pub gaps: u64,
    /// Peers that were closed because they took nothing.
    pub stalls: u64,
    /// Datagrams that were lost on the way.
    pub datagrams_lost: u64,
    /// Packets that had been lost and came when they were asked for.
    pub packets_mended: u64,
    /// Packets that came twice, and were taken once.
    pub packets_doubled: u64,
    /// Packets that came too late or never.
    pub packets_given_up: u64,
    /// The canary did its work.
    pub sung: bool,
}

/// A seed that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What was promised and does not hold.
    pub broken: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}: {}\n  replay: SHARDCAST_SIM_SEED={} SHARDCAST_SIM_TRACE=1 cargo test -p shardcast-tests --test sim",
            self.seed, self.broken, self.seed
        )
    }
}

/// How long a calm world is watched. Longer than any wait of the engine that a peer may see: a lingering copy, a play that
/// is asked again, the longest group.
const CALM: Duration = Duration::from_secs(6);
/// What a viewer may lack in a calm world: what was not flushed, and what is on its way.
const CALM_AGE: Duration = Duration::from_millis(1500);
/// What a peer that reads slowly gets to read its last frame, before it is closed by force.
const DRAIN: Duration = Duration::from_secs(20);
/// After that long without a peer a hub has nothing to wait for: the longest reconnect window, the longest wait for a peer
/// that says nothing, a copy that lingers.
const SILENCE: Duration = Duration::from_secs(60);

/// Runs the world of `seed`, whole or with a broken policy.
///
/// # Errors
/// The first promise that does not hold.
pub fn run(seed: u64, canary: Option<Canary>, trace: bool) -> Result<Report, Failure> {
    expect_panics();
    let engine = match canary {
        Some(Canary::Engine(canary)) => Some(canary),
        _ => None,
    };
    shardcast_engine::canary::set(engine);
    let result = panic::catch_unwind(AssertUnwindSafe(|| {
        let mut scenario = scenario::of_seed(seed);
        scenario.world.canary = canary;
        scenario.world.trace = trace;
        if trace {
            eprintln!("{:?}\n{:?}", scenario.world.climate, scenario.world.settings.default.limits);
        }
        play(&mut scenario).map(|()| report(&scenario))
    }));
    shardcast_engine::canary::set(None);
    let broken = match result {
        Ok(Ok(report)) => return Ok(report),
        Ok(Err(broken)) => broken,
        Err(_) => PANIC.take().unwrap_or_else(|| "a panic without a word".to_owned()),
    };
    Err(Failure { seed, broken })
}

fn play(scenario: &mut Scenario) -> Verdict {
    let world = &mut scenario.world;
    world.run(scenario.rough)?;
    if scenario.end != End::DrainInTheMiddle {
        world.calm = true;
        world.run(CALM)?;
        world.check_calm(CALM_AGE)?;
    }
    if scenario.end != End::Leave {
        world.drain()?;
        world.run(DRAIN)?;
    }
    world.dismiss();
    world.mend_disks();
    world.run(SILENCE)?;
    world.close_intakes()?;
    world.run(Duration::from_secs(1))?;
    world.check_silence()?;
    world.library.check(&world.judge)?;
    world.check_archive()
}

fn report(scenario: &Scenario) -> Report {
    let world = &scenario.world;
    let mut report = Report {
        tally: world.judge.tally,
        packaged: world.library.count,
        steps: world.steps,
        sung: world.sung,
        frames_read: world.frames_read,
        ..Report::default()
    };
    for way in world.sockets.iter().filter_map(Socket::datagrams) {
        report.datagrams_lost += way.up.lost + way.down.lost;
    }
    for core in &world.cores {
        let stats = core.hub.stats();
        report.moves += stats.moves;
        report.viewer_jumps += stats.viewer_jumps;
        report.replicas_late += stats.replicas_late;
        report.groups_let_go += stats.groups_let_go;
        report.stalls += stats.stalls;
        report.gaps += stats.recording_gaps;
        report.packets_mended += stats.srt_recovered_packets;
        report.packets_doubled += stats.srt_duplicate_packets;
        report.packets_given_up += stats.srt_lost_packets;
    }
    report
}

thread_local! {
    /// The last panic of this thread, with its place.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panics are part of the play: a hub's broken promise is a failure of its seed, a session's is caught by its hub. Neither
/// should fill the screen.
fn expect_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let inside = std::thread::current().name().is_some_and(|name| name.starts_with("world"));
            if inside {
                PANIC.set(Some(info.to_string()));
            } else {
                usual(info);
            }
        }));
    });
}
