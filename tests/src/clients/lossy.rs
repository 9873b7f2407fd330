//! A network that loses, repeats and delays: a proxy of RTSP by UDP. It stands between a publisher and the server, puts ports of
//! its own into what they tell each other, and does to the media what its seed says. Connections pass as they are.

use std::{
    collections::VecDeque,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// What happens to packets of media, each in so many of a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// It is lost.
    pub lost: u64,
    /// It comes twice.
    pub twice: u64,
    /// Others overtake it for 30 ms.
    pub late: u64,
}

/// The proxy.
pub struct Lossy {
    address: SocketAddr,
    lost: Arc<AtomicU64>,
}

/// How long a proxy waits for more. Then its threads end.
const SILENCE: Duration = Duration::from_secs(20);

impl Lossy {
    /// Between whoever comes, once, and the server at `to`.
    ///
    /// # Panics
    /// Where there are no ports.
    pub fn before(to: SocketAddr, weather: Weather, seed: u64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let lost = Arc::new(AtomicU64::new(0));
        let count = lost.clone();
        thread::spawn(move || {
            let (client, _) = listener.accept().expect("somebody comes");
            let server = TcpStream::connect(to).expect("the door is open");
            converse(client, server, weather, seed, &count);
        });
        Lossy { address, lost }
    }

    /// Where the stream `name` is published through it.
    pub fn url(&self, name: &str) -> String {
        format!("rtsp://{}/{name}", self.address)
    }

    /// Packets that it has lost so far.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// A pair of ports that stands for the client's: theirs, ours, and our sockets.
type Pair = (u16, u16, [UdpSocket; 2]);

fn converse(client: TcpStream, server: TcpStream, weather: Weather, mut seed: u64, lost: &Arc<AtomicU64>) {
    for socket in [&client, &server] {
        socket.set_read_timeout(Some(SILENCE)).expect("a legal time");
        socket.set_nodelay(true).expect("an option of TCP");
    }
    let (asked, pairs) = mpsc::channel::<Pair>();
    let [mut from_client, mut to_client] =
        [&client, &client].map(|socket| socket.try_clone().expect("a descriptor"));
    let [mut from_server, mut to_server] =
        [&server, &server].map(|socket| socket.try_clone().expect("a descriptor"));
    thread::spawn(move || {
        // A request that names ports comes in one piece: it is small.
        let _ = pass(&mut from_client, &mut to_server, |text| {
            let Some(theirs) = numbers(&text, "client_port=") else { return text };
            let (first, sockets) = bind_pair();
            let _ = asked.send((theirs, first, sockets));
            replace(&text, "client_port=", first)
        });
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let _ = pass(&mut from_server, &mut to_client, |text| {
        let Some(servers) = numbers(&text, "server_port=") else { return text };
        let Ok((theirs, first, sockets)) = pairs.try_recv() else { return text };
        for (place, socket) in sockets.into_iter().enumerate() {
            seed = seed.wrapping_add(1);
            let weather = if place == 0 { weather } else { Weather::default() };
            let ports = [theirs + place as u16, servers + place as u16];
            let (lost, seed) = (lost.clone(), seed);
            thread::spawn(move || relay(&socket, ports, weather, seed, &lost));
        }
        replace(&replace(&text, "client_port=", theirs), "server_port=", first)
    });
    let _ = client.shutdown(Shutdown::Both);
}

/// Passes what comes on, in the words that `change` makes of it.
fn pass(
    from: &mut TcpStream,
    to: &mut TcpStream,
    mut change: impl FnMut(String) -> String,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = from.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        to.write_all(change(text).as_bytes())?;
    }
}

/// The first of the two ports behind `key`.
fn numbers(text: &str, key: &str) -> Option<u16> {
    text.split(key).nth(1)?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn replace(text: &str, key: &str, first: u16) -> String {
    let Some((before, behind)) = text.split_once(key) else { return text.to_owned() };
    let end = behind.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(behind.len());
    format!("{before}{key}{first}-{}{}", first + 1, &behind[end..])
}

fn bind_pair() -> (u16, [UdpSocket; 2]) {
    let bind = |port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).ok();
    (0..100)
        .find_map(|_| {
            let first = bind(0)?;
            let port = first.local_addr().ok()?.port();
            Some((port, [first, bind(port.checked_add(1)?)?]))
        })
        .expect("two ports are free in a row")
}

/// How long a packet is late.
const LATE: Duration = Duration::from_millis(30);

/// Passes datagrams between the two ports, those of the first through the weather.
fn relay(socket: &UdpSocket, [theirs, servers]: [u16; 2], weather: Weather, seed: u64, lost: &AtomicU64) {
    socket.set_read_timeout(Some(LATE / 6)).expect("a legal time");
    let send = |packet: &[u8], port| drop(socket.send_to(packet, (Ipv4Addr::LOCALHOST, port)));
    let (mut random, mut late) = (seed, VecDeque::<(Instant, Vec<u8>)>::new());
    let (mut buffer, mut heard) = (vec![0; 1 << 16], Instant::now());
    while heard.elapsed() < SILENCE {
        let came = socket.recv_from(&mut buffer).ok();
        while let Some((_, packet)) = late.pop_front_if(|(since, _)| since.elapsed() >= LATE) {
            send(&packet, servers);
        }
        let Some((length, from)) = came else { continue };
        heard = Instant::now();
        let packet = &buffer[..length];
        if from.port() != theirs {
            send(packet, theirs);
            continue;
        }
        let chance = draw(&mut random) % 1000;
        if chance < weather.lost {
            lost.fetch_add(1, Ordering::Relaxed);
        } else if chance < weather.lost + weather.twice {
            send(packet, servers);
            send(packet, servers);
        } else if chance < weather.lost + weather.twice + weather.late {
            late.push_back((Instant::now(), packet.to_vec()));
        } else {
            send(packet, servers);
        }
    }
}

/// The next of a row of numbers. (SplitMix64)
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33
}
