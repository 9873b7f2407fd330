//! A bad network for datagrams: a proxy on loopback that loses, doubles, delays and shuffles what goes through it, the same in each
//! run of a seed.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// What it does to datagrams, each way.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// What chance begins with.
    pub seed: u64,
    /// Of a thousand datagrams, how many are lost, and how many come twice.
    pub lost: u64,
    /// See [`lost`](Self::lost).
    pub doubled: u64,
    /// How long each takes at least.
    pub delay: Duration,
    /// How much longer it may take: what is sent first may come last.
    pub jitter: Duration,
}

/// A proxy between one peer at a time and a server.
pub struct Network {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    dropped: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

/// What is under way, by when it arrives and in which order it came; and whether it goes to the server.
type UnderWay = BTreeMap<(Instant, u64), (bool, Vec<u8>)>;

impl Network {
    /// Between whoever sends to [`port`](Self::port) and `server`, which is a port on loopback.
    ///
    /// # Panics
    /// When loopback has no more ports.
    pub fn new(server: u16, weather: Weather) -> Network {
        let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
        let (near, far) = (bind(), bind());
        far.connect((Ipv4Addr::LOCALHOST, server)).expect("a port on loopback");
        for socket in [&near, &far] {
            socket.set_nonblocking(true).expect("a socket");
        }
        let address = near.local_addr().expect("it is bound");
        let (over, dropped) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (ends, drops) = (over.clone(), dropped.clone());
        let thread = thread::spawn(move || carry(&near, &far, weather, &ends, &drops));
        Network { address, over, dropped, thread: Some(thread) }
    }

    /// Where peers send to.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Datagrams that were lost so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it carries what it is given");
        }
    }
}

fn carry(near: &UdpSocket, far: &UdpSocket, weather: Weather, over: &AtomicBool, dropped: &AtomicU64) {
    let mut chance = weather.seed;
    let mut below = |bound: u64| {
        // SplitMix64.
        chance = chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = chance;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    };
    let (mut under_way, mut number, mut peer) = (UnderWay::new(), 0, None);
    let mut buffer = [0; 65_536];
    while !over.load(Ordering::Relaxed) {
        let mut idle = true;
        for (socket, to_server) in [(near, true), (far, false)] {
            let (length, from) = match socket.recv_from(&mut buffer) {
                Ok(came) => came,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                // The other side has closed its port: it is told so by what comes.
                Err(_) => continue,
            };
            idle = false;
            if to_server {
                peer = Some(from);
            }
            if below(1000) < weather.lost {
                dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            for _ in 0..1 + u64::from(below(1000) < weather.doubled) {
                number += 1;
                let jitter = Duration::from_micros(below(weather.jitter.as_micros() as u64 + 1));
                let arrives = Instant::now() + weather.delay + jitter;
                under_way.insert((arrives, number), (to_server, buffer[..length].to_vec()));
            }
        }
        while let Some(first) = under_way.first_entry().filter(|first| first.key().0 <= Instant::now()) {
            let (to_server, datagram) = first.remove();
            // A port that is closed by now is no fault of the network's.
            if to_server {
                drop(far.send(&datagram));
            } else if let Some(peer) = peer {
                drop(near.send_to(&datagram, peer));
            }
        }
        if idle {
            thread::sleep(Duration::from_micros(500));
        }
    }
}
