//! Who comes by datagrams, and what the network does to them.

use std::{sync::Arc, time::Duration};

use shardcast_engine::{
    limits::SrtSettings, media::StreamName, rtp::order::WAIT_MAX, session::Opening, settings::Settings,
    time::Now,
};

use super::{Publisher, Role, Viewer, millis, shape};
use crate::sim::{
    client::Wish,
    network::{Repair, Weather},
    peer::{Act, Door, Peer},
    plain,
    random::Random,
    reel::{Reel, Shape},
    rtsp, srt, udp,
    world::World,
};

/// What an operator has chosen for the door.
pub fn choose(settings: &mut Settings, random: &mut Random) {
    let passphrase = random.chance(25).then(|| "a passphrase of ours".to_owned());
    let latency = millis(random.pick(&[120, 120, 400]));
    settings.doors.srt = Arc::new(SrtSettings { latency, passphrase, ..SrtSettings::default() });
}

/// Publishers and viewers by SRT of one of `streams` streams each.
pub fn add_peers(world: &mut World, random: &mut Random, streams: u64, rough: Duration, serial: &mut u32) {
    let publishers = random.pick(&[0, 1, 1, 2]);
    let viewers = random.pick(&[0, 1, 2, 3]);
    if publishers + viewers > 0 {
        world.next_noise = Some(world.now);
    }
    for _ in 0..publishers {
        *serial += 1;
        let number = random.below(streams);
        let (role, script) = publisher(world, random, name_of(number), rough, *serial);
        let peer = peer(world, random, role, script);
        world.peers.push(peer);
    }
    for _ in 0..viewers {
        // Somebody asks for what nobody publishes.
        let number = random.below(streams * 8 + 1) / 8;
        let (role, script) = viewer(world, random, name_of(number), rough);
        let peer = peer(world, random, role, script);
        world.peers.push(peer);
    }
}

/// The same by RTSP, their media beside their connections.
pub fn add_peers_of_rtsp(
    world: &mut World,
    random: &mut Random,
    streams: u64,
    rough: Duration,
    serial: &mut u32,
) {
    world.next_noise = Some(world.now);
    let (publishers, viewers) = random.pick(&[(1, 0), (1, 1), (1, 2), (2, 1), (0, 2)]);
    for _ in 0..publishers {
        *serial += 1;
        // Most have a stream of their own, or they would be refused.
        let number = if random.chance(60) { streams } else { random.below(streams) };
        let (role, script) = publisher(world, random, name_of(number), rough, *serial);
        let peer = peer_of_rtsp(random, role, script);
        world.peers.push(peer);
    }
    for _ in 0..viewers {
        let number = random.below(streams + 1);
        let (role, script) = viewer(world, random, name_of(number), rough);
        let peer = peer_of_rtsp(random, role, script);
        world.peers.push(peer);
    }
}

/// One who sends MPEG-TS unasked, plain or inside RTP.
pub fn add_feed(world: &mut World, random: &mut Random, streams: u64, rough: Duration, serial: &mut u32) {
    world.next_noise = Some(world.now);
    *serial += 1;
    let number = if random.chance(60) { streams + 1 } else { random.below(streams) };
    let (role, mut script) = publisher(world, random, name_of(number), rough, *serial);
    // Nobody can ask it to be quiet for a while.
    script.truncate(if random.chance(50) { 1 } else { 2 });
    let wrapped = random.chance(60);
    let (weather, _) = weather(random);
    let (weather, repair) = if wrapped {
        (weather, Repair::Ordered)
    } else {
        // Without numbers nobody can tell what has overtaken, nor how much is missing of what counts to sixteen.
        let lost = weather.lost.min(5);
        (Weather { lost, delay: weather.delay, ..Weather::default() }, Repair::Nothing)
    };
    let first = wrapped.then(|| random.any() as u16);
    let mut peer = Peer::new(Box::new(udp::Client::new(first)), role, script);
    peer.way = Some((weather, WAIT_MAX));
    peer.repair = repair;
    peer.door = Door::Udp;
    peer.plain = false;
    peer.knows = false;
    world.peers.push(peer);
    if random.chance(70) {
        let (role, script) = viewer(world, random, name_of(number), rough);
        world.peers.push(Peer::new(Box::new(plain::Client::new(false)), role, script));
    }
}

fn peer_of_rtsp(random: &mut Random, role: Role, script: Vec<(Now, Act)>) -> Peer {
    let (weather, _) = weather(random);
    let film = match &role {
        Role::Publisher(publisher) => publisher.reel.opening(),
        Role::Viewer(_) => Opening::default(),
    };
    let mut peer = Peer::new(Box::new(rtsp::Client::new(film)), role, script);
    peer.beside = Some(weather);
    peer.repair = Repair::Ordered;
    peer.door = Door::Rtsp;
    peer.plain = false;
    peer.knows = false;
    peer
}

fn name_of(number: u64) -> StreamName {
    StreamName::new("live", &format!("cam{number}")).expect("it is a legal name")
}

/// A clear day, one on which what is lost can be mended, or one on which it cannot; and how long each side waits.
fn weather(random: &mut Random) -> (Weather, Duration) {
    let delay = millis(random.pick(&[0, 5, 20]));
    let jitter = millis(random.pick(&[0, 3, 15]));
    let doubled = random.pick(&[0, 20, 200]);
    let clear = Weather { delay, jitter, doubled, ..Weather::default() };
    match random.below(6) {
        0 | 1 => (clear, millis(120)),
        2..=4 => (Weather { lost: random.pick(&[5, 20, 50]), ..clear }, millis(700)),
        _ => {
            let lost = random.pick(&[20, 100, 300]);
            let outage = millis(random.pick(&[20, 200, 2000, 6000]));
            (Weather { lost, outages: 5, outage, ..clear }, millis(random.pick(&[120, 700])))
        }
    }
}

fn peer(world: &World, random: &mut Random, role: Role, script: Vec<(Now, Act)>) -> Peer {
    let srt = &world.settings.doors.srt;
    let (weather, latency) = weather(random);
    // Now and then somebody has another passphrase, or none.
    let mistaken = random.chance(4);
    let other = "something else".to_owned();
    let passphrase = if mistaken { Some(other) } else { srt.passphrase.clone() };
    let mut peer = Peer::new(Box::new(srt::Client::new(latency, passphrase)), role, script);
    peer.way = Some((weather, latency.max(srt.latency)));
    peer.door = Door::Srt;
    if mistaken {
        peer.blame();
    }
    peer.plain = false;
    peer.knows = false;
    peer
}

fn publisher(
    world: &World,
    random: &mut Random,
    name: StreamName,
    rough: Duration,
    serial: u32,
) -> (Role, Vec<(Now, Act)>) {
    let rough = u64::try_from(rough.as_millis()).unwrap_or(u64::MAX);
    let at = random.between(0, rough);
    let mut script = vec![(world.now.after(millis(at)), Act::Call)];
    if random.chance(50) {
        let exit = random.pick(&[Act::HangUp, Act::HangUp, Act::Vanish, Act::Idle, Act::Say(Wish::Nonsense)]);
        script.push((world.now.after(millis(at + random.between(500, rough))), exit));
    }
    // What comes before the first key frame has no parameters yet, and nobody can read it.
    let shape = Shape { begins_with_key: true, sound_first_millis: 0, jump: None, ..shape(random) };
    let role = Role::Publisher(Publisher {
        serial,
        name,
        reel: Reel::new(serial, shape),
        eager: false,
        stubborn: random.chance(30),
        ahead: Duration::ZERO,
        began: None,
    });
    (role, script)
}

fn viewer(world: &World, random: &mut Random, name: StreamName, rough: Duration) -> (Role, Vec<(Now, Act)>) {
    let rough = u64::try_from(rough.as_millis()).unwrap_or(u64::MAX);
    let mut at = random.between(0, rough);
    let mut script = vec![(world.now.after(millis(at)), Act::Call)];
    if random.chance(40) {
        at += random.between(0, 6000);
        let stall = Act::Stall(millis(random.pick(&[300, 3000, 12_000])));
        let act = random.pick(&[Act::HangUp, Act::HangUp, Act::Vanish, stall, Act::Say(Wish::Nonsense)]);
        script.push((world.now.after(millis(at)), act));
    }
    let again = random.chance(70).then(|| millis(random.between(100, 900)));
    let role = Role::Viewer(Viewer { name, again, playing: false, holding: false });
    (role, script)
}
