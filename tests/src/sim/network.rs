//! The way of datagrams: some are lost, one by one or in a row, some come twice, some overtake others, and a few are of nobody
//! who is known.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use shardcast_engine::time::Now;

use super::random::Random;

/// How a network treats what goes by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Of a thousand datagrams, those that are lost.
    pub lost: u64,
    /// Of a thousand, those after which nothing comes through for a while.
    pub outages: u64,
    /// The longest such while.
    pub outage: Duration,
    /// Of a thousand, those that come twice.
    pub doubled: u64,
    /// The least time on the way.
    pub delay: Duration,
    /// And what comes on top of it, other for each: who has less of it overtakes.
    pub jitter: Duration,
}

impl Weather {
    /// The same way, and nothing is lost on it any more.
    pub const fn calm(self) -> Weather {
        Weather { lost: 0, outages: 0, ..self }
    }

    /// The longest time there and back.
    pub fn round_trip(&self) -> Duration {
        (self.delay + self.jitter) * 2
    }

    /// What is lost is back within `latency`, as far as a seed will ever see: the same packet has to be lost six times and more.
    pub fn is_mended_within(&self, latency: Duration) -> bool {
        // A word about what is missing goes each round trip, and no more often than each 20 ms.
        let again = self.round_trip() + Duration::from_millis(40);
        self.lost <= 50 && self.outages == 0 && again * 6 <= latency
    }
}

/// What is on its way in one direction.
#[derive(Debug, Default)]
pub struct Flight {
    under_way: BTreeMap<(Now, u64), Bytes>,
    /// Datagrams so far.
    number: u64,
    /// Those that were lost.
    pub lost: u64,
    /// Nothing comes through before.
    out_until: Option<Now>,
}

impl Flight {
    /// A datagram sets out. True when it will arrive.
    pub fn send(&mut self, datagram: &Bytes, weather: &Weather, random: &mut Random, now: Now) -> bool {
        if random.below(1000) < weather.outages {
            let longest = u64::try_from(weather.outage.as_nanos()).unwrap_or(u64::MAX);
            self.out_until = Some(now.after(Duration::from_nanos(random.between(0, longest))));
        }
        let out = self.out_until.is_some_and(|until| now < until);
        if out && weather.outages > 0 || random.below(1000) < weather.lost {
            self.lost += 1;
            return false;
        }
        let copies = if random.below(1000) < weather.doubled { 2 } else { 1 };
        let jitter = u64::try_from(weather.jitter.as_nanos()).unwrap_or(u64::MAX);
        for _ in 0..copies {
            let takes = weather.delay + Duration::from_nanos(random.between(0, jitter));
            self.number += 1;
            self.under_way.insert((now.after(takes), self.number), datagram.clone());
        }
        true
    }

    /// When the next arrives.
    pub fn ready(&self) -> Option<Now> {
        self.under_way.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next that has arrived.
    pub fn take(&mut self, now: Now) -> Option<Bytes> {
        let first = self.under_way.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }

    /// Nobody is there any more who could take it.
    pub fn clear(&mut self) {
        self.under_way.clear();
    }
}

/// An address that datagrams come from, and where they go back to.
#[derive(Debug)]
pub struct Way {
    /// To the server.
    pub up: Flight,
    /// To the peer.
    pub down: Flight,
    /// How the network treats both.
    pub weather: Weather,
    /// How long each side holds back what it receives.
    pub latency: Duration,
    /// The core that the kernel gives its datagrams to.
    pub home: usize,
    /// Into datagrams of how many bytes the send under way is cut.
    pub size: usize,
    /// What is done against all this.
    pub repair: Repair,
}

/// What a protocol does about a bad network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// What is lost is sent again.
    Resent,
    /// What overtakes waits for the others, and what comes twice is taken once.
    Ordered,
    /// Nothing.
    Nothing,
}

impl Way {
    /// One on which nothing is yet.
    pub fn new(weather: Weather, latency: Duration, home: usize) -> Self {
        Way {
            up: Flight::default(),
            down: Flight::default(),
            weather,
            latency,
            home,
            size: usize::MAX,
            repair: Repair::Resent,
        }
    }

    /// Nothing that is sent by it is ever missing.
    pub fn is_mended(&self) -> bool {
        let clear = self.weather.lost == 0 && self.weather.outages == 0;
        match self.repair {
            Repair::Resent => self.weather.is_mended_within(self.latency),
            Repair::Ordered => clear && self.weather.jitter * 4 <= self.latency,
            Repair::Nothing => clear && self.weather.jitter.is_zero() && self.weather.doubled == 0,
        }
    }
}

/// What somebody sends who is nobody: noise, or words that look like the protocol's.
pub fn noise(random: &mut Random) -> Bytes {
    let most = random.pick(&[1, 16, 64, 1400]);
    let length = 1 + random.index(most);
    let mut datagram: Vec<u8> = (0..length).map(|_| random.any() as u8).collect();
    // A control packet of some kind, or a handshake that shows no cookie or a wrong one.
    match random.below(4) {
        0 => {
            let kind = random.pick(&[0_u8, 1, 2, 3, 5, 6, 7, 8]);
            datagram.splice(0..datagram.len().min(4), [0x80, kind, 0, 0]);
        }
        1 => {
            datagram.resize(64, 0);
            datagram[..4].copy_from_slice(&[0x80, 0, 0, 0]);
            datagram[12..16].fill(0);
            // The first round, the second, or one that nobody knows.
            let round: u32 = random.pick(&[1, u32::MAX, 7]);
            datagram[36..40].copy_from_slice(&round.to_be_bytes());
        }
        _ => {}
    }
    datagram.into()
}
