//! Datagrams against real sockets on loopback.

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::ring::tests::{pattern, settle, small, wait, wait_for, watched};
use crate::ring::{Completion, Ring, RingConfig, SocketId};
use crate::{tcp, udp};

const TOKEN: u64 = 7;

/// A ring with a few buffers for datagrams, and where it hears them.
fn listening(address: SocketAddr) -> (Ring, SocketAddr) {
    let mut ring = Ring::new(&RingConfig { datagram_buffers: 4, ..small() }).unwrap();
    let socket = udp::bind(address).unwrap();
    let address = socket.local_addr().unwrap();
    ring.receive_datagrams(socket, TOKEN).unwrap();
    ring.submit().unwrap();
    (ring, address)
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn client(to: SocketAddr) -> UdpSocket {
    let from: SocketAddr = if to.is_ipv4() { loopback() } else { (Ipv6Addr::LOCALHOST, 0).into() };
    let socket = UdpSocket::bind(from).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.connect(to).unwrap();
    socket
}

/// The next datagram's bytes and sender.
fn heard(ring: &mut Ring) -> (Vec<u8>, SocketAddr) {
    match wait(ring) {
        Completion::Datagram { token: TOKEN, datagram, lost: 0 } => (datagram.to_vec(), datagram.from),
        other => panic!("{other:?}"),
    }
}

/// Sends back what comes, to each peer in order, until so many datagrams have gone.
fn echo(ring: &mut Ring, datagrams: usize) {
    let mut peers: HashMap<SocketAddr, SocketId> = HashMap::new();
    let mut waiting: HashMap<SocketId, VecDeque<Bytes>> = HashMap::new();
    let mut gone = 0;
    let deadline = Instant::now() + Duration::from_secs(20);
    while gone < datagrams {
        assert!(Instant::now() < deadline, "{gone} of {datagrams} in time");
        ring.submit().unwrap();
        while let Some(completion) = ring.next() {
            let touched = match completion {
                Completion::Datagram { token: TOKEN, datagram, lost: 0 } => {
                    let from = datagram.from;
                    let id = *peers.entry(from).or_insert_with(|| ring.add_peer(TOKEN, from).unwrap());
                    waiting.entry(id).or_default().push_back(Bytes::copy_from_slice(&datagram));
                    id
                }
                Completion::Sent { socket, result } => {
                    result.unwrap();
                    gone += 1;
                    socket
                }
                other => panic!("{other:?}"),
            };
            if !ring.is_sending(touched)
                && let Some(next) = waiting.get_mut(&touched).and_then(VecDeque::pop_front)
            {
                ring.send_datagrams(touched, next, usize::MAX);
            }
        }
    }
    for (address, id) in peers {
        assert_eq!(ring.peer_address(id), Some(address));
        ring.close(id);
        assert_eq!(ring.peer_address(id), None);
    }
}

/// So many clients that send so many datagrams each and want them back, a few at a time.
fn converse(to: SocketAddr, clients: u32, datagrams: u32) -> Vec<thread::JoinHandle<()>> {
    let one = move |seed: u32| {
        let socket = client(to);
        let mut buffer = [0; 4096];
        for first in (0..datagrams).step_by(4) {
            let few = first..(first + 4).min(datagrams);
            for number in few.clone() {
                socket.send(&pattern(1 + (number as usize * 37) % 1400, seed + number)).unwrap();
            }
            for number in few {
                let length = socket.recv(&mut buffer).unwrap();
                assert_eq!(buffer[..length], pattern(1 + (number as usize * 37) % 1400, seed + number));
            }
        }
    };
    (0..clients).map(|number| thread::spawn(move || one(number * 1000))).collect()
}

#[test]
fn many_peers_are_heard_and_answered_by_one_socket() {
    for address in [loopback(), (Ipv6Addr::LOCALHOST, 0).into()] {
        let (mut ring, address) = listening(address);
        let clients = converse(address, 40, 30);
        echo(&mut ring, 40 * 30);
        clients.into_iter().for_each(|client| client.join().unwrap());
        settle(&mut ring, |ring| ring.sockets() == 0);
        assert!(ring.stats().receives >= 1200);
    }
}

#[test]
fn an_ipv4_peer_of_a_socket_for_both_families_is_answered() {
    let (mut ring, address) = listening((Ipv6Addr::UNSPECIFIED, 0).into());
    let peer = client((Ipv4Addr::LOCALHOST, address.port()).into());
    peer.send(b"four").unwrap();
    let (bytes, from) = heard(&mut ring);
    assert_eq!((&bytes[..], from), (&b"four"[..], peer.local_addr().unwrap()));
    let id = ring.add_peer(TOKEN, from).unwrap();
    ring.send_datagrams(id, Bytes::from_static(b"back"), 100);
    assert!(matches!(wait(&mut ring), Completion::Sent { result: Ok(4), .. }));
    let mut buffer = [0; 8];
    assert_eq!(peer.recv(&mut buffer).unwrap(), 4);
}

#[test]
fn the_largest_datagram_comes_and_goes_whole_and_a_larger_one_fails() {
    let (mut ring, address) = listening(loopback());
    let peer = client(address);
    let largest = pattern(65_507, 3);
    peer.send(&largest).unwrap();
    let (bytes, from) = heard(&mut ring);
    assert!(bytes == largest);
    let id = ring.add_peer(TOKEN, from).unwrap();
    ring.send_datagrams(id, Bytes::from(bytes), 65_507);
    assert!(matches!(wait(&mut ring), Completion::Sent { result: Ok(65_507), .. }));
    let mut buffer = vec![0; 1 << 16];
    assert_eq!(peer.recv(&mut buffer).unwrap(), 65_507);
    assert!(buffer[..65_507] == largest);
    ring.send_datagrams(id, Bytes::from(vec![0; 65_508]), usize::MAX);
    let Completion::Sent { result: Err(error), .. } = wait(&mut ring) else { panic!("too large") };
    assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
}

#[test]
fn a_send_is_cut_into_datagrams_in_order_and_is_done_when_the_last_is() {
    let (mut ring, address) = listening(loopback());
    let peer = client(address);
    let id = ring.add_peer(TOKEN, peer.local_addr().unwrap()).unwrap();
    let sent = pattern(10 * 1316 + 188, 5);
    ring.send_datagrams(id, Bytes::from(sent.clone()), 1316);
    assert!(matches!(wait(&mut ring), Completion::Sent { result: Ok(13_348), .. }));
    assert!(!ring.is_sending(id));
    let mut buffer = [0; 2000];
    let mut got = Vec::new();
    for piece in 0..11 {
        let length = peer.recv(&mut buffer).unwrap();
        assert_eq!(length, if piece < 10 { 1316 } else { 188 });
        got.extend_from_slice(&buffer[..length]);
    }
    assert_eq!(got, sent);
}

#[test]
fn more_datagrams_than_buffers_and_empty_ones_all_come() {
    let (mut ring, address) = listening(loopback());
    let peer = client(address);
    for number in 0..200_u32 {
        peer.send(&number.to_be_bytes()[..(number % 5) as usize]).unwrap();
    }
    for number in 0..200_u32 {
        let (bytes, from) = heard(&mut ring);
        assert_eq!(
            (&bytes[..], from),
            (&number.to_be_bytes()[..(number % 5) as usize], peer.local_addr().unwrap())
        );
    }
    assert!(ring.stats().receives_starved > 0, "so few buffers were used up");
}

#[test]
fn what_the_kernel_drops_is_counted() {
    let mut ring = Ring::new(&small()).unwrap();
    let socket = udp::bind(loopback()).unwrap();
    tcp::set_receive_buffer(socket.as_fd(), 8 << 10).unwrap();
    let peer = client(socket.local_addr().unwrap());
    for _ in 0..100 {
        peer.send(&[1; 1000]).unwrap();
    }
    ring.receive_datagrams(socket, TOKEN).unwrap();
    let (mut came, mut dropped) = (0, 0);
    while let Some(completion) = wait_for(&mut ring, Duration::from_millis(100)) {
        let Completion::Datagram { lost, .. } = completion else { panic!("{completion:?}") };
        came += 1;
        dropped += lost;
    }
    assert!((1..100).contains(&came), "{came} came");
    // The next one tells of those that were lost behind the last.
    peer.send(b"next").unwrap();
    let Completion::Datagram { lost, .. } = wait(&mut ring) else { panic!("it comes") };
    assert_eq!(came + dropped + lost, 100);
}

#[test]
fn a_peer_that_is_closed_while_it_is_sent_to_lets_go_of_the_payload_and_is_not_heard_of_again() {
    let (mut ring, address) = listening(loopback());
    let peer = client(address);
    let id = ring.add_peer(TOKEN, peer.local_addr().unwrap()).unwrap();
    let (payload, dropped) = watched(50_000);
    ring.send_datagrams(id, payload, 1000);
    ring.close(id);
    assert!(!dropped.load(Ordering::SeqCst), "the kernel may still read it");
    assert_eq!(ring.peer_address(id), Some(peer.local_addr().unwrap()));
    settle(&mut ring, |ring| ring.sockets() == 0);
    assert!(dropped.load(Ordering::SeqCst));
    // A stale id names nothing, and the place is free for the next.
    ring.send_datagrams(id, Bytes::from_static(b"stray"), 10);
    let next = ring.add_peer(TOKEN, peer.local_addr().unwrap()).unwrap();
    assert_eq!(next.index(), id.index());
    ring.send_datagrams(next, Bytes::from_static(b"meant"), 10);
    assert!(matches!(wait(&mut ring), Completion::Sent { result: Ok(5), .. }));
}

#[test]
fn what_is_for_connections_alone_does_nothing_to_a_peer() {
    let (mut ring, address) = listening(loopback());
    let peer = client(address);
    let id = ring.add_peer(TOKEN, peer.local_addr().unwrap()).unwrap();
    ring.receive(id);
    ring.stop_receive(id);
    ring.finish(id).unwrap();
    assert!(!ring.is_receiving(id));
    assert!(ring.receive_into(id, bytes::BytesMut::with_capacity(10)).is_err());
    peer.send(b"still here").unwrap();
    assert_eq!(heard(&mut ring).0, b"still here");
    assert!(ring.take(id).is_none());
    assert_eq!(ring.sockets(), 0);
}

#[test]
fn a_stopped_socket_is_closed_with_its_last_peer() {
    let (mut ring, address) = listening(loopback());
    let peer = client(address);
    let id = ring.add_peer(TOKEN, peer.local_addr().unwrap()).unwrap();
    ring.stop_datagrams(TOKEN);
    ring.stop_datagrams(TOKEN);
    assert!(matches!(wait(&mut ring), Completion::DatagramsStopped { token: TOKEN, error: None }));
    peer.send(b"nobody hears this").unwrap();
    assert!(ring.add_peer(TOKEN, loopback()).is_err());
    ring.resume_datagrams(TOKEN);
    // The last word still goes.
    ring.send_datagrams(id, Bytes::from_static(b"over"), 10);
    assert!(matches!(wait(&mut ring), Completion::Sent { result: Ok(4), .. }));
    assert_eq!(peer.recv(&mut [0; 8]).unwrap(), 4);
    assert!(udp::ensure_free(address).is_err());
    ring.close(id);
    settle(&mut ring, |ring| !ring.in_flight());
    udp::ensure_free(address).unwrap();
}

#[test]
fn dropping_a_ring_with_datagrams_in_flight_frees_it_all() {
    let (mut ring, address) = listening(loopback());
    let (payload, dropped) = watched(60_000);
    let peers: Vec<UdpSocket> = (0..10).map(|_| client(address)).collect();
    for peer in &peers {
        let id = ring.add_peer(TOKEN, peer.local_addr().unwrap()).unwrap();
        ring.send_datagrams(id, payload.clone(), 1000);
        peer.send(b"unread").unwrap();
    }
    drop(payload);
    let began = Instant::now();
    drop(ring);
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(dropped.load(Ordering::SeqCst));
    udp::ensure_free(address).unwrap();
}

#[test]
fn a_full_table_takes_no_peer() {
    let mut ring = Ring::new(&RingConfig { sockets: 1, datagram_buffers: 4, ..small() }).unwrap();
    ring.receive_datagrams(udp::bind(loopback()).unwrap(), TOKEN).unwrap();
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    ring.add_peer(TOKEN, peer).unwrap();
    assert!(ring.add_peer(TOKEN, peer).is_err());
}

#[test]
fn an_outlet_sends_by_a_socket_of_its_own_which_goes_with_it() {
    let mut ring = Ring::new(&small()).unwrap();
    let receiver = UdpSocket::bind(loopback()).unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let address = receiver.local_addr().unwrap();
    let id = ring.add_outlet(udp::open_sender(address, None, None).unwrap(), address).unwrap();
    assert!(!ring.is_receiving(id) && ring.peer_address(id) == Some(address));
    ring.send_datagrams(id, pattern(250, 5).into(), 100);
    assert!(matches!(wait(&mut ring), Completion::Sent { socket, result: Ok(250) } if socket == id));
    let mut buffer = [0; 200];
    for length in [100, 100, 50] {
        assert_eq!(receiver.recv(&mut buffer).unwrap(), length);
    }
    ring.close(id);
    assert_eq!(ring.sockets(), 0);
}
