//! A seed becomes a world: how many cores and streams, how kind the network and the lanes are, which bounds hold, and who
//! comes when and behaves how.

mod datagrams;

use std::{sync::Arc, time::Duration};

use shardcast_engine::{
    access::{self, Authenticator, Request},
    limits::StreamLimits,
    media::StreamName,
    segment,
    settings::{AppSettings, Settings},
    time::Now,
};

use super::{
    client::{Client, Wish},
    disk::Temper,
    http::{Container, Habits, Player, Sort, Stream},
    peer::{Act, Door, Pace, Peer, Publisher, ROOM, Role, Viewer},
    plain,
    random::{Random, mix},
    reel::{Reel, Shape},
    world::{Climate, World},
};

/// How a world ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It becomes calm, then everyone leaves.
    Leave,
    /// It becomes calm, then the node is drained.
    Drain,
    /// The node is drained while everything goes on.
    DrainInTheMiddle,
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A world and how long it is to run before it is made calm.
pub struct Scenario {
    /// The world, with everyone in it who will ever come.
    pub world: World,
    /// How long things may go wrong.
    pub rough: Duration,
    /// How it ends.
    pub end: End,
}

/// Has somebody else decide.
struct Elsewhere;

impl Authenticator for Elsewhere {
    fn allows(&self, _: &Request<'_>) -> access::Verdict {
        access::Verdict::Later
    }
}

/// The world of `seed`.
pub fn of_seed(seed: u64) -> Scenario {
    let mut random = Random::new(seed);
    let cores = u16::try_from(random.between(1, 4)).expect("it is at most 4");
    let tight = random.chance(20);
    let limits = limits(&mut random, tight);
    let climate = climate(&mut random);
    let mut settings =
        Settings { default: AppSettings { limits, record: random.chance(40) }, ..Settings::default() };
    settings.doors.idle = millis(5000);
    if seed.is_multiple_of(3) {
        settings.access = Arc::new(Elsewhere);
    }
    settings.segment = millis(random.pick(&[500, 3000, 3000, 600_000]));
    // Chance of their own, so that who comes by another door changes nothing of what the others are and want.
    let mut chance_of_http = Random::new(mix(seed));
    settings.packaging = packaging(&mut chance_of_http);
    let mut chance_of_datagrams = Random::new(mix(mix(seed)));
    let by_datagrams = chance_of_datagrams.chance(40);
    if by_datagrams {
        datagrams::choose(&mut settings, &mut chance_of_datagrams);
    }
    let mut chance_of_packets = Random::new(mix(mix(mix(seed))));
    let by_packets = chance_of_packets.chance(20);
    let end = random.pick(&[End::Leave, End::Drain, End::DrainInTheMiddle]);
    if random.chance(10) {
        settings.doors.streams = usize::try_from(random.between(1, 3)).expect("it is at most 3");
    }
    let mut world = World::new(random.fork(), cores, climate, settings);
    world.tight = tight;
    for core in &mut world.cores {
        let block = random.pick(&[1, 512, 4096]);
        // A core that sleeps for long wakes up to more than its recorders may have in flight.
        core.disk.has_struggled = world.climate.core_pause >= millis(500);
        core.disk.temper = Temper { block, ahead: random.pick(&[0, 65_536]), ..Temper::default() };
    }
    let rough = millis(random.between(5_000, 20_000));
    let streams = random.between(1, 3);
    let mut serial = 0;
    for number in 0..streams {
        let name = StreamName::new("live", &format!("cam{number}")).expect("it is a legal name");
        add_publishers(&mut world, &mut random, &name, rough, &mut serial);
    }
    for _ in 0..random.between(1, 10) {
        // One more than there are: somebody asks for what nobody publishes.
        let number = random.below(streams * 8 + 1) / 8;
        let name = StreamName::new("live", &format!("cam{number}")).expect("it is a legal name");
        add_viewer(&mut world, &mut random, name, rough);
    }
    let random = &mut chance_of_http;
    for _ in 0..random.below(4) {
        let number = random.below(streams * 8 + 1) / 8;
        let name = StreamName::new("live", &format!("cam{number}")).expect("it is a legal name");
        add_http_viewer(&mut world, random, name, rough);
    }
    if by_datagrams {
        datagrams::add_peers(&mut world, &mut chance_of_datagrams, streams, rough, &mut serial);
    }
    if by_packets {
        datagrams::add_peers_of_rtsp(&mut world, &mut chance_of_packets, streams, rough, &mut serial);
    }
    let mut chance_of_feeds = Random::new(mix(mix(mix(mix(seed)))));
    if chance_of_feeds.chance(15) {
        datagrams::add_feed(&mut world, &mut chance_of_feeds, streams, rough, &mut serial);
    }
    Scenario { world, rough, end }
}

fn limits(random: &mut Random, tight: bool) -> StreamLimits {
    let mut limits = StreamLimits {
        flush: millis(random.pick(&[0, 10, 33, 33, 33, 100])),
        viewer_lag: millis(random.pick(&[1000, 3000, 10_000])),
        viewer_stall: millis(random.pick(&[2000, 5000, 30_000])),
        reconnect_window: millis(random.pick(&[0, 1000, 5000, 10_000])),
        publisher_idle: millis(random.pick(&[6000, 30_000])),
        wait_for_publisher: millis(random.pick(&[0, 0, 1000, 5000])),
        takeover: random.chance(30),
        ..StreamLimits::default()
    };
    if tight {
        match random.below(4) {
            0 => limits.group_frames = 10,
            1 => limits.group_bytes = 6000,
            2 => limits.group_duration = millis(300),
            _ => limits.viewers = usize::try_from(random.below(2)).expect("it is at most 1"),
        }
    }
    limits
}

/// Short enough that segments come and go within the life of a world.
fn packaging(random: &mut Random) -> segment::Settings {
    segment::Settings {
        segment: millis(random.pick(&[500, 1000, 2000])),
        part: millis(random.pick(&[100, 200, 333])),
        window: millis(random.pick(&[4000, 8000, 16_000])),
        linger: millis(random.pick(&[5000, 10_000])),
    }
}

fn climate(random: &mut Random) -> Climate {
    Climate {
        lane_slots: random.pick(&[1, 2, 8, 64, 1024, 1024]),
        lane_delay: millis(random.pick(&[0, 0, 1, 20])),
        network_delay: millis(random.pick(&[0, 1, 30, 200])),
        core_pause: millis(random.pick(&[0, 0, 20, 300, 2000])),
        core_pause_every: millis(random.between(200, 4000)),
        quiet_delay: millis(random.pick(&[0, 3, 3, 1500])),
        tick: millis(random.pick(&[0, 0, 5])),
        halting: random.chance(40),
        receive_bytes: random.pick(&[60, 1000, 65_536, 65_536]),
        partial_sends: random.chance(60),
    }
}

fn add_publishers(
    world: &mut World,
    random: &mut Random,
    name: &StreamName,
    rough: Duration,
    serial: &mut u32,
) {
    let begin = world.now;
    let rough = u64::try_from(rough.as_millis()).unwrap_or(u64::MAX);
    let mut at = random.between(0, 2000);
    while at < rough + 2000 {
        *serial += 1;
        let lasts = random.between(500, rough);
        let shape = shape(random);
        let mut script = vec![(begin.after(millis(at)), Act::Call)];
        let mut when = |after: u64, act: Act| script.push((begin.after(millis(after)), act));
        if random.chance(15) && lasts > 2000 {
            let off = at + random.between(500, lasts - 1000);
            when(off, Act::Say(Wish::Unpublish));
            when(off + random.between(0, 600), Act::Wish);
        }
        let last = at + lasts + rough >= 2 * rough;
        let exit = if last && random.chance(60) {
            None
        } else {
            Some(random.pick(&[
                Act::HangUp,
                Act::HangUp,
                Act::Reset,
                Act::Reset,
                Act::Vanish,
                Act::Idle,
                Act::Say(Wish::Nonsense),
                Act::Say(Wish::Break),
            ]))
        };
        if let Some(exit) = exit {
            when(at + lasts, exit);
        }
        let role = Role::Publisher(Publisher {
            serial: *serial,
            name: name.clone(),
            reel: Reel::new(*serial, shape),
            eager: random.chance(50),
            stubborn: random.chance(50),
            ahead: millis(random.pick(&[0, 0, 500])),
            began: None,
        });
        world.peers.push(Peer::new(Box::new(plain::Client::new(false)), role, script));
        // The next one comes before this one leaves, right after, or after a pause.
        at = match random.below(4) {
            0 => at + random.between(0, lasts),
            1 => at + lasts + random.between(0, 300),
            _ => at + lasts + random.between(0, 6000),
        };
    }
}

fn shape(random: &mut Random) -> Shape {
    let sound = random.chance(70);
    let pictures = !sound || random.chance(85);
    Shape {
        group_pictures: if pictures {
            u32::try_from(random.between(1, 30)).expect("it is at most 30")
        } else {
            0
        },
        sound,
        begins_with_key: random.chance(80),
        sound_first_millis: random.pick(&[0, 0, 0, 100, 1500]),
        interval_millis: random.pick(&[20, 40, 66]),
        picture_bytes: random.pick(&[50, 300, 300, 2000]),
        clock_millis: random.pick(&[0, 0, 1_000_000, 4_294_960_000]),
        jump: random
            .chance(15)
            .then(|| (random.between(500, 5000), random.pick(&[-3_600_000, 3_600_000, -500]))),
        change_groups: random.pick(&[0, 0, 1, 3]),
    }
}

fn add_viewer(world: &mut World, random: &mut Random, name: StreamName, rough: Duration) {
    let begin = world.now;
    let rough = u64::try_from(rough.as_millis()).unwrap_or(u64::MAX);
    let came = random.between(0, rough);
    let mut at = came;
    let mut script: Vec<(Now, Act)> = vec![(begin.after(millis(at)), Act::Call)];
    let mut pace = Pace::Prompt;
    let mut room = ROOM;
    let mut left = false;
    match random.below(10) {
        0..=3 => {}
        4 => {
            (pace, room) = slow(random);
        }
        5 => {
            room = random.pick(&[1000, 8000, 60_000]);
            at += random.between(100, 3000);
            script.push((begin.after(millis(at)), Act::Stall(millis(random.between(500, 12_000)))));
        }
        6 => {
            for _ in 0..random.between(1, 4) {
                at += random.between(0, 2000);
                script.push((begin.after(millis(at)), Act::Say(Wish::Pause)));
                at += random.between(0, 3000);
                script.push((begin.after(millis(at)), Act::Say(Wish::Resume)));
            }
        }
        7 => {
            for _ in 0..random.between(1, 3) {
                at += random.between(0, 2500);
                script.push((begin.after(millis(at)), Act::Say(Wish::Stop)));
                at += random.pick(&[0, 0, 1000]);
                script.push((begin.after(millis(at)), Act::Wish));
            }
        }
        8 => {
            at += random.between(0, 2500);
            let act = random.pick(&[
                Act::Flood,
                Act::Vanish,
                Act::Reset,
                Act::HangUp,
                Act::Say(Wish::Nonsense),
                Act::Say(Wish::Break),
            ]);
            if act == Act::Vanish {
                room = 60_000;
            }
            script.push((begin.after(millis(at)), act));
            left = true;
        }
        _ => {
            script = vec![(begin.after(millis(at)), random.pick(&[Act::CallMutely, Act::Call]))];
            for _ in 0..random.below(20) {
                at += random.between(0, 500);
                script.push((begin.after(millis(at)), Act::Say(Wish::Ping)));
            }
        }
    }
    if !left && random.chance(20) {
        script.push((begin.after(millis(at + random.between(0, 8000))), Act::HangUp));
    }
    let again = random.chance(70).then(|| millis(random.between(1, 900)));
    let role = Role::Viewer(Viewer { name, again, playing: false, holding: false });
    let terse = random.chance(25);
    let mut peer = Peer::new(Box::new(plain::Client::new(terse)), role, script);
    peer.pace = pace;
    peer.room = room;
    peer.plain = !terse;
    world.peers.push(peer);
}

/// One that reads slowly, with little room between.
fn slow(random: &mut Random) -> (Pace, usize) {
    let pace = Pace::Slow(random.pick(&[200, 2000, 6000]), millis(random.pick(&[10, 100, 400])));
    (pace, random.pick(&[1000, 8000, 60_000]))
}

fn add_http_viewer(world: &mut World, random: &mut Random, name: StreamName, rough: Duration) {
    let begin = world.now;
    let rough = u64::try_from(rough.as_millis()).unwrap_or(u64::MAX);
    let mut at = random.between(0, rough);
    let mut script: Vec<(Now, Act)> = vec![(begin.after(millis(at)), Act::Call)];
    let mut pace = Pace::Prompt;
    let mut room = ROOM;
    match random.below(12) {
        0..=6 => {}
        7 => {
            (pace, room) = slow(random);
        }
        8 => {
            // Some never read again.
            room = random.pick(&[1000, 8000, 60_000]);
            at += random.between(100, 3000);
            script.push((begin.after(millis(at)), Act::Stall(millis(random.pick(&[500, 4000, 120_000])))));
        }
        9 => {
            script[0].1 = Act::CallMutely;
        }
        _ => {
            at += random.between(0, 5000);
            let act =
                random.pick(&[Act::HangUp, Act::HangUp, Act::Reset, Act::Vanish, Act::Say(Wish::Nonsense)]);
            room = if act == Act::Vanish { 60_000 } else { room };
            script.push((begin.after(millis(at)), act));
        }
    }
    if random.chance(20) {
        script.push((begin.after(millis(at + random.between(0, 8000))), Act::HangUp));
    }
    let again = random.chance(70).then(|| millis(random.between(100, 900)));
    let role = Role::Viewer(Viewer { name, again, playing: false, holding: false });
    let (client, knows): (Box<dyn Client>, bool) = match random.below(7) {
        0 => (Box::new(Stream::new(Container::Flv)), true),
        1 => (Box::new(Stream::new(Container::Ts)), false),
        _ => (Box::new(Player::new(habits(random))), true),
    };
    let mut peer = Peer::new(client, role, script);
    peer.pace = pace;
    peer.room = room;
    peer.door = Door::Http;
    peer.plain = false;
    peer.knows = knows;
    world.peers.push(peer);
}

fn habits(random: &mut Random) -> Habits {
    let sort = random.pick(&[Sort::Whole, Sort::LowLatency, Sort::LowLatency, Sort::Transport]);
    Habits {
        sort,
        every: millis(random.pick(&[200, 500, 1000, 2000])),
        at_once: random.pick(&[1, 1, 3]),
        updates: sort != Sort::Transport && random.chance(50),
        compares: sort != Sort::Transport && random.chance(40),
        hints: sort == Sort::LowLatency && random.chance(50),
        absurd: random.chance(30),
    }
}
