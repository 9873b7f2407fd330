//! Runs as they might have been, made up from a seed: what the reports are tested with.

use shardcast_bench::{
    comparison::Comparison,
    outcome::{Asked, Machine, Outcome, Quantiles, Recording, Requests, Second, Trace},
};

/// What distinguishes one made-up server from another.
#[derive(Clone, Copy)]
pub struct Kind {
    pub name: &'static str,
    /// What its file says of it.
    pub about: &'static str,
    /// CPU seconds per GB.
    pub cost: f64,
    /// Median latency in milliseconds, and how far its tail reaches.
    pub latency: f64,
    pub tail: f64,
    /// KiB of memory per viewer.
    pub per_viewer: f64,
}

pub const FLOOR: Kind = Kind {
    name: "floor-send",
    about: "the same bytes to the same sockets by a bare batched ring: no server logic",
    cost: 0.312,
    latency: 0.0,
    tail: 0.0,
    per_viewer: 0.1,
};
pub const SHARDCAST: Kind = Kind {
    name: "shardcast",
    about: "shardcast, flush 33ms, 1 shard(s)",
    cost: 0.357,
    latency: 17.2,
    tail: 1.9,
    per_viewer: 1.1,
};
pub const NGINX: Kind = Kind {
    name: "nginx-rtmp",
    about: "nginx 1.22 with libnginx-mod-rtmp 1.2.2, Debian 12, one worker",
    cost: 1.02,
    latency: 3.1,
    tail: 3.0,
    per_viewer: 12.4,
};
pub const ARCLY: Kind = Kind {
    name: "arcly-stream 0.8",
    about: "arcly-stream 0.8.3, 1 thread(s)",
    cost: 1.11,
    latency: 6.4,
    tail: 5.5,
    per_viewer: 6.2,
};

/// Chance that is the same each time.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Chance(seed)
    }

    /// About 1, at most `reach` away from it. (SplitMix64.)
    pub fn about(&mut self, reach: f64) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        1.0 + ((mixed >> 33) as f64 / f64::from(1 << 30) - 1.0) * reach
    }
}

/// One run of 30 s: 1,000 viewers of one stream of 4 Mbit/s.
pub fn run(kind: Kind, seed: u64) -> Outcome {
    let mut chance = Chance::new(seed);
    let gbit = 4.0 * chance.about(0.01);
    let cost = kind.cost * chance.about(0.04);
    let delivered = (gbit * 30.0 / 8.0 * 1e9) as u64;
    let memory = 18.0e6 + kind.per_viewer * 1024.0 * 1000.0;
    let parsing = if kind.latency > 0.0 { 20 } else { 0 };
    let mut outcome = Outcome {
        scenario: "hot-stream".into(),
        server: kind.name.into(),
        about: kind.about.into(),
        began: format!("2026-11-22T07:{:02}:00Z", seed % 60),
        machine: Machine {
            kernel: "6.18.5".into(),
            processor: "AMD EPYC 7B13".into(),
            cores: 2,
            memory_bytes: 8 << 30,
            network: "127.0.0.1, MTU 65536".into(),
        },
        settings: [
            ("bitrate", "4 Mbit/s"),
            ("viewers", "1000"),
            ("protocol", "http-flv"),
            ("flush", "33ms"),
            ("server-cores", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
        seconds: 30.0,
        latency: latency(kind, &mut chance, 36_000 * u64::from(parsing > 0)),
        ..Outcome::default()
    };
    outcome.traffic.publishers = 1;
    outcome.traffic.published_frames = 2_310;
    outcome.traffic.published_bytes = 15_000_000;
    outcome.traffic.delivered_bytes = delivered;
    outcome.traffic.delivered_gbit_per_second = gbit;
    outcome.viewers.asked = 1000;
    outcome.viewers.joined = 1000;
    outcome.viewers.playing = 1000;
    outcome.viewers.parsing = parsing;
    outcome.first_key = Quantiles {
        count: 1000,
        p50: 2.1 * chance.about(0.2),
        p99: 7.9 * chance.about(0.2),
        p999: 9.7,
        max: 12.2,
    };
    outcome.latency_histogram = histogram(kind);
    outcome.checks.viewers = parsing;
    outcome.checks.pictures = parsing * 900;
    outcome.cpu.seconds = cost * delivered as f64 / 1e9;
    outcome.cpu.share = outcome.cpu.seconds / 30.0;
    outcome.cpu.per_delivered_gb = cost;
    outcome.cpu.per_published_gb = outcome.cpu.seconds / 0.015;
    outcome.memory.idle = 16_000_000;
    outcome.memory.published = 18_000_000;
    outcome.memory.first = memory as u64;
    outcome.memory.last = (memory * chance.about(0.004)) as u64;
    outcome.memory.peak = (memory * 1.01) as u64;
    outcome.memory.per_viewer = kind.per_viewer * 1024.0;
    outcome.metrics = [("sends".to_owned(), 898_211.0), ("enters".to_owned(), 14_022.0)].into();
    outcome.load.cpu_share = 0.61 * chance.about(0.05);
    outcome.load.publisher_lateness = Quantiles { count: 2_310, p50: 0.03, p99: 0.41, p999: 1.2, max: 2.2 };
    outcome.load.round = Quantiles { count: 15_000, p50: 0.9, p99: 2.4, p999: 4.1, max: 6.0 };
    for second in 1..=30 {
        outcome.series.push(Second {
            at: f64::from(second),
            gbit: gbit * chance.about(0.03),
            cpu: outcome.cpu.share * chance.about(0.06),
            memory: (memory * chance.about(0.003)) as u64,
            viewers: 1000,
            requests: 0.0,
            latency_p50: kind.latency * chance.about(0.05),
            latency_p99: kind.latency * kind.tail * chance.about(0.15),
        });
    }
    outcome
}

/// A run that recorded and was watched by nobody.
pub fn recorded(seed: u64) -> Outcome {
    let mut outcome = run(FLOOR, seed);
    outcome.scenario = "record".into();
    outcome.server = "shardcast".into();
    outcome.about = SHARDCAST.about.into();
    outcome.viewers = Default::default();
    outcome.first_key = Default::default();
    outcome.latency = Default::default();
    outcome.latency_histogram.clear();
    for second in &mut outcome.series {
        *second =
            Second { at: second.at, cpu: second.cpu * 0.08, memory: second.memory, ..Second::default() };
    }
    outcome.traffic.publishers = 128;
    outcome.traffic.published_bytes = 960_000_000;
    outcome.traffic.delivered_bytes = 0;
    outcome.traffic.delivered_gbit_per_second = 0.0;
    outcome.memory.per_viewer = 0.0;
    outcome.cpu.per_published_gb = 0.392;
    outcome.cpu.seconds = 0.376;
    outcome.cpu.share = 0.376 / 30.0;
    outcome.recording = Some(Recording {
        files: 128,
        bytes: 1_400_000_000,
        written_bytes: 957_000_000,
        cpu_per_written_gb: 0.394,
        page_cache_growth: 12_000_000,
        pictures: 115_200,
        missing_pictures: 0,
    });
    outcome
}

/// A run whose viewers asked for parts: 200 ms each, of pictures and sound.
pub fn asked(seed: u64) -> Outcome {
    let mut outcome = run(SHARDCAST, seed);
    outcome.scenario = "ll-hls".into();
    outcome.settings.insert("protocol".into(), "ll-hls".into());
    let asked = |number: u32| Asked {
        at: f64::from(number / 2) * 0.1,
        connection: u8::from(number % 4 > 1),
        playlist: number.is_multiple_of(2),
        bytes: u64::from(if number.is_multiple_of(2) { 420 } else { 50_000 + number }),
    };
    outcome.requests = Some(Requests {
        answered: 600_000,
        per_second: 20_003.4,
        playlists: 300_000,
        playlist_bytes: 126_000_000,
        pieces: 300_000,
        reconnects: 3,
        hold: Quantiles { count: 300_000, p50: 187.2, p99: 203.0, p999: 207.4, max: 231.9 },
        trace: Trace { seconds: 30.0, asked: (0..600).map(asked).collect() },
    });
    for second in &mut outcome.series {
        second.requests = 20_003.4;
    }
    outcome
}

fn latency(kind: Kind, chance: &mut Chance, count: u64) -> Quantiles {
    if count == 0 {
        return Quantiles::default();
    }
    let p50 = kind.latency * chance.about(0.04);
    let p99 = p50 * kind.tail * chance.about(0.08);
    Quantiles { count, p50, p99, p999: p99 * 1.2, max: p99 * 1.6 }
}

/// Buckets a tenth apart from each other, around the median.
fn histogram(kind: Kind) -> Vec<(f64, u64)> {
    if kind.latency == 0.0 {
        return Vec::new();
    }
    let mut bound = 0.5_f64;
    let mut buckets = Vec::new();
    while bound < kind.latency * kind.tail * 1.6 {
        let wide = kind.tail.ln().max(0.3) / 2.3;
        let off = (bound / kind.latency).ln() / wide;
        let pictures = (4_000.0 * (-off * off / 2.0).exp()) as u64;
        if pictures > 0 {
            buckets.push((bound, pictures));
        }
        bound *= 1.1;
    }
    buckets
}

/// Four servers in turn, `rounds` times; one run is void, and one found faults.
pub fn in_turn(rounds: u64) -> Comparison {
    let mut outcomes = Vec::new();
    for round in 0..rounds {
        for (place, kind) in [FLOOR, SHARDCAST, NGINX, ARCLY].into_iter().enumerate() {
            outcomes.push(run(kind, 10 + round * 4 + place as u64));
        }
    }
    outcomes[7]
        .void
        .push("Publishers were 48.1 ms late at p99, more than the 10 ms that are allowed.".into());
    outcomes[10].checks.gaps = 3;
    outcomes[10].viewers.disconnected = 1;
    Comparison::of(outcomes, FLOOR.name)
}
