//! The ring against real sockets on loopback.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::tcp;

/// A ring that fits beside the others of a test run.
pub(super) fn small() -> RingConfig {
    RingConfig {
        entries: 8,
        completions: 64,
        sockets: 1024,
        receive_buffers: 16,
        receive_buffer_bytes: 4096,
        write_buffer_bytes: 64 << 10,
        ..RingConfig::default()
    }
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = tcp::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A connected pair: the server's side as a descriptor, the client's as std's stream.
fn pair() -> (OwnedFd, TcpStream) {
    let (listener, address) = listener();
    let client = TcpStream::connect(address).unwrap();
    (listener.accept().unwrap().0.into(), client)
}

/// The next completion, within ten seconds.
pub(super) fn wait(ring: &mut Ring) -> Completion {
    wait_for(ring, Duration::from_secs(10)).expect("a completion in time")
}

pub(super) fn wait_for(ring: &mut Ring, time: Duration) -> Option<Completion> {
    let deadline = Instant::now() + time;
    loop {
        ring.submit().unwrap();
        if let Some(completion) = ring.next() {
            return Some(completion);
        }
        if Instant::now() > deadline {
            return None;
        }
        thread::sleep(Duration::from_micros(200));
    }
}

/// Runs the ring until a condition holds, for at most ten seconds, expecting nothing to be reported.
pub(super) fn settle(ring: &mut Ring, mut done: impl FnMut(&Ring) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done(ring) {
        assert!(Instant::now() < deadline, "in time");
        ring.submit().unwrap();
        assert!(ring.next().is_none());
        thread::sleep(Duration::from_micros(200));
    }
}

/// Bytes that say where they stand, so that a loss, a copy or a swap shows.
pub(super) fn pattern(length: usize, seed: u32) -> Vec<u8> {
    (0..length as u32).map(|at| (at.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 24) as u8).collect()
}

/// A payload that tells when its memory is let go.
struct Watched {
    bytes: Vec<u8>,
    dropped: Arc<AtomicBool>,
}

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::SeqCst);
    }
}

pub(super) fn watched(length: usize) -> (Bytes, Arc<AtomicBool>) {
    let dropped = Arc::new(AtomicBool::new(false));
    (Bytes::from_owner(Watched { bytes: vec![5; length], dropped: Arc::clone(&dropped) }), dropped)
}

#[test]
fn a_blocking_wait_ends_with_a_completion_or_with_the_pause() {
    let mut ring = Ring::new(&small()).unwrap();
    let began = Instant::now();
    ring.wait(1, Duration::from_millis(30)).unwrap();
    assert!(began.elapsed() >= Duration::from_millis(29), "nothing came, so it slept all of it");
    assert!(ring.next().is_none());
    let (socket, mut client) = pair();
    let id = ring.add(socket).unwrap();
    ring.receive(id);
    let writer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        client.write_all(b"now").unwrap();
        client
    });
    ring.wait(1, Duration::from_secs(10)).unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "the bytes ended it");
    assert!(matches!(ring.next(), Some(Completion::Received { bytes, .. }) if &bytes[..] == b"now"));
    drop(writer.join().unwrap());
}

/// Echoes what each connection sends until `connections` have come and gone; returns the ring's counters.
async fn echo(listener: TcpListener, connections: usize, config: RingConfig) -> RingStats {
    #[derive(Default)]
    struct Peer {
        unsent: Vec<u8>,
        in_flight: Bytes,
        ended: bool,
    }
    let mut ring = Ring::new(&config).unwrap();
    let mut peers: HashMap<SocketId, Peer> = HashMap::new();
    let mut gone = 0;
    ring.listen(listener, 1);
    while gone < connections {
        ring.submit().unwrap();
        let mut idle = true;
        while let Some(completion) = ring.next() {
            idle = false;
            let touched = match completion {
                Completion::Accepted { socket, .. } => {
                    let id = ring.add(socket).unwrap();
                    ring.receive(id);
                    peers.insert(id, Peer::default());
                    continue;
                }
                Completion::Received { socket, bytes } => {
                    peers.get_mut(&socket).unwrap().unsent.extend_from_slice(&bytes);
                    socket
                }
                Completion::ReceiveEnded { socket, how: End::Eof } => {
                    peers.get_mut(&socket).unwrap().ended = true;
                    socket
                }
                Completion::Sent { socket, result } => {
                    let peer = peers.get_mut(&socket).unwrap();
                    let taken = result.unwrap();
                    peer.in_flight = peer.in_flight.slice(taken..);
                    socket
                }
                other => panic!("{other:?}"),
            };
            let peer = peers.get_mut(&touched).unwrap();
            // `in_flight` is empty once all of it was taken; a partial send goes on where it stopped.
            let sending = ring.is_sending(touched);
            if sending {
                continue;
            }
            if peer.in_flight.is_empty() {
                peer.in_flight = std::mem::take(&mut peer.unsent).into();
            }
            if !peer.in_flight.is_empty() {
                ring.send(touched, peer.in_flight.clone());
            } else if peer.ended {
                peers.remove(&touched);
                ring.close(touched);
                gone += 1;
            }
        }
        if idle && ring.pending() == 0 {
            ring.ready().await;
        }
    }
    assert_eq!(ring.sockets(), 0);
    ring.stats()
}

fn echo_on_an_executor(connections: usize, bytes_each: usize, config: RingConfig) -> RingStats {
    let (listener, address) = listener();
    let server = glommio::LocalExecutorBuilder::new(glommio::Placement::Unbound)
        .io_memory(64 << 10)
        .ring_depth(128)
        .spawn(move || echo(listener, connections, config))
        .unwrap();
    let clients: Vec<_> = (0..connections)
        .map(|number| {
            thread::spawn(move || {
                let mut client = TcpStream::connect(address).unwrap();
                client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
                let sent = pattern(bytes_each, number as u32);
                let mut writer = client.try_clone().unwrap();
                let to_send = sent.clone();
                let writing = thread::spawn(move || {
                    writer.write_all(&to_send).unwrap();
                    writer.shutdown(Shutdown::Write).unwrap();
                });
                let mut received = Vec::new();
                client.read_to_end(&mut received).unwrap();
                writing.join().unwrap();
                assert!(received == sent, "every byte comes back, in order");
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    server.join().unwrap()
}

#[test]
fn three_hundred_peers_get_back_what_they_send() {
    let stats = echo_on_an_executor(300, 20_000, small());
    assert_eq!(stats.accepts, 300);
    assert_eq!((stats.receive_bytes, stats.send_bytes), (6_000_000, 6_000_000));
}

#[test]
fn a_few_peers_with_much_to_say_are_echoed_through_partial_sends() {
    let stats = echo_on_an_executor(3, 8 << 20, RingConfig::default());
    assert_eq!((stats.receive_bytes, stats.send_bytes), (24 << 20, 24 << 20));
}

#[test]
fn plain_descriptors_work_where_the_kernel_has_no_good_table() {
    let mut ring = Ring::new(&small()).unwrap();
    ring.registered_files_from = None;
    let (server, mut client) = pair();
    let id = ring.add(server).unwrap();
    ring.receive(id);
    client.write_all(b"plain").unwrap();
    let Completion::Received { bytes, .. } = wait(&mut ring) else { panic!("bytes come first") };
    assert_eq!(&*bytes, b"plain");
    ring.close(id);
    settle(&mut ring, |ring| ring.sockets() == 0);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

#[test]
fn sockets_recover_when_receive_buffers_run_out() {
    let config = RingConfig { receive_buffers: 2, receive_buffer_bytes: 512, ..small() };
    let mut ring = Ring::new(&config).unwrap();
    let mut received: HashMap<SocketId, Vec<u8>> = HashMap::new();
    let clients: Vec<_> = (0..40u32)
        .map(|number| {
            let (server, mut client) = pair();
            let id = ring.add(server).unwrap();
            ring.receive(id);
            received.insert(id, Vec::new());
            client.write_all(&pattern(5000, number)).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            (id, client)
        })
        .collect();
    let mut held = Vec::new();
    let mut open = clients.len();
    while open > 0 {
        // A caller that is slow to give buffers back: both are out before one returns.
        if held.len() == 2 {
            ring.submit().unwrap();
            held.clear();
        }
        match wait_for(&mut ring, Duration::from_millis(50)) {
            Some(Completion::Received { socket, bytes }) => {
                received.get_mut(&socket).unwrap().extend_from_slice(&bytes);
                held.push(bytes);
            }
            Some(Completion::ReceiveEnded { how: End::Eof, .. }) => open -= 1,
            Some(other) => panic!("{other:?}"),
            None => held.clear(),
        }
    }
    assert!(ring.stats().receives_starved > 0, "the buffers did run out");
    for (number, (id, _)) in clients.iter().enumerate() {
        assert!(received[id] == pattern(5000, number as u32));
    }
}

#[test]
fn a_socket_that_moves_between_two_rings_keeps_every_byte() {
    const BYTES: usize = 4 << 20;
    for rounds in [1, 3, 8] {
        let (mut server, mut client) = pair();
        let writing = thread::spawn(move || {
            client.write_all(&pattern(BYTES, 9)).unwrap();
        });
        let mut received = Vec::new();
        // Each hop is a ring of its own on a thread of its own, as between shards.
        for hop in 0..=rounds {
            let last = hop == rounds;
            (server, received) = thread::spawn(move || {
                let mut ring = Ring::new(&small()).unwrap();
                let id = ring.add(server).unwrap();
                ring.receive(id);
                let mut stopped = false;
                loop {
                    match wait(&mut ring) {
                        Completion::Received { bytes, .. } => {
                            received.extend_from_slice(&bytes);
                            if !last && !stopped {
                                stopped = true;
                                ring.stop_receive(id);
                            }
                        }
                        Completion::ReceiveEnded { how: End::Cancelled, .. } if !last => break,
                        Completion::ReceiveEnded { how: End::Eof, .. } if last || received.len() == BYTES => {
                            break;
                        }
                        other => panic!("{other:?}"),
                    }
                }
                (ring.take(id).unwrap(), received)
            })
            .join()
            .unwrap();
        }
        writing.join().unwrap();
        assert!(received == pattern(BYTES, 9), "every byte, in order, once");
    }
}

#[test]
fn a_receive_that_is_stopped_while_starved_ends_and_leaves_the_bytes_in_the_socket() {
    let config = RingConfig { receive_buffers: 1, receive_buffer_bytes: 4, ..small() };
    let mut ring = Ring::new(&config).unwrap();
    let (server, mut client) = pair();
    let id = ring.add(server).unwrap();
    ring.receive(id);
    client.write_all(b"0123456789").unwrap();
    let Completion::Received { bytes: held, .. } = wait(&mut ring) else { panic!("bytes come first") };
    assert_eq!(&*held, b"0123");
    settle(&mut ring, |ring| ring.stats().receives_starved == 1);
    ring.stop_receive(id);
    assert!(matches!(wait(&mut ring), Completion::ReceiveEnded { how: End::Cancelled, .. }));
    drop(held);
    let mut rest = TcpStream::from(ring.take(id).unwrap());
    let mut bytes = [0; 6];
    rest.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"456789");
}

#[test]
fn a_send_says_how_much_the_socket_took_and_keeps_its_payload_until_then() {
    let mut ring = Ring::new(&small()).unwrap();
    let (server, mut client) = pair();
    let id = ring.add(server).unwrap();
    let (payload, dropped) = watched(64 << 20);
    let mut left = payload.clone();
    drop(payload);
    ring.send(id, left.clone());
    let reading = thread::spawn(move || {
        // Nobody reads for a while, so the socket fills up.
        thread::sleep(Duration::from_millis(50));
        std::io::copy(&mut client, &mut std::io::sink()).unwrap()
    });
    loop {
        let Completion::Sent { result, .. } = wait(&mut ring) else { panic!("nothing else is going on") };
        left = left.slice(result.unwrap()..);
        if left.is_empty() {
            break;
        }
        ring.send(id, left.clone());
    }
    drop(left);
    assert!(dropped.load(Ordering::SeqCst));
    assert!(ring.stats().sends_short > 0);
    ring.close(id);
    assert_eq!(reading.join().unwrap(), 64 << 20);
}

#[test]
fn closing_a_socket_with_a_send_and_a_receive_in_flight_frees_all_and_reports_nothing() {
    let mut ring = Ring::new(&small()).unwrap();
    let (server, mut client) = pair();
    let id = ring.add(server).unwrap();
    let (payload, dropped) = watched(64 << 20);
    ring.receive(id);
    ring.send(id, payload);
    ring.submit().unwrap();
    // The client does not read, so the send must be waiting by now with a part taken, or entirely.
    thread::sleep(Duration::from_millis(20));
    ring.close(id);
    assert!(ring.socket(id).is_none(), "for the caller it is gone at once");
    settle(&mut ring, |ring| ring.sockets() == 0);
    assert!(dropped.load(Ordering::SeqCst));
    assert!(!ring.in_flight());
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let end = std::io::copy(&mut client, &mut std::io::sink());
    assert!(end.is_ok() || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
}

#[test]
fn an_id_of_a_closed_socket_reaches_no_later_one_in_its_slot() {
    let mut ring = Ring::new(&small()).unwrap();
    let (first, _first_client) = pair();
    let old = ring.add(first).unwrap();
    ring.close(old);
    let (second, mut client) = pair();
    let new = ring.add(second).unwrap();
    assert_eq!(old.index(), new.index());
    ring.send(old, Bytes::from_static(b"stray"));
    ring.receive(old);
    ring.stop_receive(old);
    ring.close(old);
    assert!(ring.take(old).is_none());
    ring.send(new, Bytes::from_static(b"meant"));
    assert!(matches!(wait(&mut ring), Completion::Sent { result: Ok(5), .. }));
    drop(ring);
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"meant");
}

#[test]
fn a_full_table_gives_the_socket_back() {
    let mut ring = Ring::new(&RingConfig { sockets: 1, ..small() }).unwrap();
    let (first, _client) = pair();
    let (second, mut refused) = pair();
    ring.add(first).unwrap();
    let (socket, error) = ring.add(second).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    drop(socket);
    assert_eq!(refused.read(&mut [0]).unwrap(), 0);
}

#[test]
fn finishing_shows_the_peer_the_end_and_still_hears_it() {
    let mut ring = Ring::new(&small()).unwrap();
    let (server, mut client) = pair();
    let id = ring.add(server).unwrap();
    ring.receive(id);
    ring.finish(id).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    client.write_all(b"bye").unwrap();
    assert!(matches!(wait(&mut ring), Completion::Received { bytes, .. } if &*bytes == b"bye"));
}

#[test]
fn a_reset_connection_fails_its_receive_and_its_send() {
    let mut ring = Ring::new(&small()).unwrap();
    let (server, client) = pair();
    let id = ring.add(server).unwrap();
    ring.receive(id);
    ring.submit().unwrap();
    // Closing with unread bytes resets the connection.
    ring.send(id, Bytes::from_static(b"unread"));
    assert!(matches!(wait(&mut ring), Completion::Sent { .. }));
    drop(client);
    let Completion::ReceiveEnded { how: End::Failed(error), .. } = wait(&mut ring) else { panic!("a reset") };
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    ring.send(id, Bytes::from_static(b"more"));
    assert!(matches!(wait(&mut ring), Completion::Sent { result: Err(_), .. }));
}

#[test]
fn a_stopped_listener_says_so_and_closes() {
    let mut ring = Ring::new(&small()).unwrap();
    let (listener, address) = listener();
    ring.listen(listener, 42);
    ring.submit().unwrap();
    let _client = TcpStream::connect(address).unwrap();
    assert!(matches!(wait(&mut ring), Completion::Accepted { token: 42, .. }));
    ring.stop_listening(42);
    ring.stop_listening(42);
    assert!(matches!(wait(&mut ring), Completion::AcceptStopped { token: 42, error: None }));
    assert!(TcpStream::connect(address).is_err());
    ring.resume_accept(42);
    settle(&mut ring, |ring| !ring.in_flight());
}

#[test]
fn dropping_a_ring_with_everything_in_flight_frees_it_all_at_once() {
    let mut ring = Ring::new(&small()).unwrap();
    let (listener, address) = listener();
    ring.listen(listener, 1);
    let (payload, dropped) = watched(64 << 20);
    let mut clients = Vec::new();
    for _ in 0..20 {
        let (server, client) = pair();
        let id = ring.add(server).unwrap();
        ring.receive(id);
        ring.send(id, payload.clone());
        clients.push(client);
    }
    ring.submit().unwrap();
    drop(payload);
    let started = Instant::now();
    drop(ring);
    assert!(started.elapsed() < Duration::from_secs(2));
    assert!(dropped.load(Ordering::SeqCst));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_received_buffer_outlives_its_ring() {
    let mut ring = Ring::new(&small()).unwrap();
    let (server, mut client) = pair();
    let id = ring.add(server).unwrap();
    ring.receive(id);
    client.write_all(b"kept").unwrap();
    let Completion::Received { bytes, .. } = wait(&mut ring) else { panic!("bytes come first") };
    drop(ring);
    assert_eq!(&*bytes, b"kept");
}

#[test]
fn a_ring_with_nothing_to_do_makes_no_system_call() {
    let mut ring = Ring::new(&small()).unwrap();
    let (server, _client) = pair();
    let id = ring.add(server).unwrap();
    ring.receive(id);
    ring.submit().unwrap();
    let enters = ring.stats().enters;
    for _ in 0..100 {
        ring.submit().unwrap();
        assert!(ring.next().is_none());
    }
    assert_eq!(ring.stats().enters, enters);
}

fn filled(ring: &mut Ring) -> (BytesMut, usize) {
    match wait(ring) {
        Completion::Filled { memory, received, .. } => (memory, received),
        other => panic!("{other:?}"),
    }
}

#[test]
fn bytes_are_received_behind_what_stands_in_the_callers_memory() {
    let mut ring = Ring::new(&small()).unwrap();
    let (socket, mut client) = pair();
    let id = ring.add(socket).unwrap();
    let sent = pattern(100_000, 7);
    client.write_all(&sent[..10]).unwrap();
    let mut memory = BytesMut::with_capacity(64 << 10);
    memory.extend_from_slice(b"head");
    let place = memory.as_ptr();
    ring.receive_into(id, memory).unwrap();
    assert!(ring.receive_into(id, BytesMut::with_capacity(8)).is_err(), "one receive at a time");
    assert_eq!(ring.receiving_once(), 1);
    let (memory, received) = filled(&mut ring);
    assert_eq!((received, &memory[..4], &memory[4..]), (10, &b"head"[..], &sent[..10]));
    assert_eq!((memory.as_ptr(), ring.receiving_once()), (place, 0));

    // As much as there is room for, and the rest with the next one.
    let rest = sent[10..].to_vec();
    let writer = thread::spawn(move || client.write_all(&rest).map(|()| client).unwrap());
    let mut got = memory[4..].to_vec();
    while got.len() < sent.len() {
        ring.receive_into(id, BytesMut::with_capacity(7000)).unwrap();
        let (memory, received) = filled(&mut ring);
        assert_eq!(memory.len(), received);
        got.extend_from_slice(&memory);
    }
    assert_eq!(got, sent);
    drop(writer.join().unwrap());
    ring.receive_into(id, memory).unwrap();
    let (memory, received) = filled(&mut ring);
    assert_eq!((received, memory.len()), (0, 14), "the end brings the memory back");
    assert!(matches!(wait(&mut ring), Completion::ReceiveEnded { how: End::Eof, .. }));
}

#[test]
fn a_receive_into_memory_is_stopped_and_closed_like_any_other() {
    let mut ring = Ring::new(&small()).unwrap();
    let (socket, mut client) = pair();
    let id = ring.add(socket).unwrap();
    ring.receive_into(id, BytesMut::with_capacity(100)).unwrap();
    ring.submit().unwrap();
    assert!(ring.is_receiving(id));
    ring.stop_receive(id);
    assert_eq!(filled(&mut ring).1, 0);
    assert!(matches!(wait(&mut ring), Completion::ReceiveEnded { how: End::Cancelled, .. }));
    // What comes afterwards is received by whichever way is next.
    client.write_all(b"later").unwrap();
    ring.receive(id);
    assert!(matches!(wait(&mut ring), Completion::Received { bytes, .. } if &*bytes == b"later"));
    ring.stop_receive(id);
    assert!(matches!(wait(&mut ring), Completion::ReceiveEnded { how: End::Cancelled, .. }));
    ring.receive_into(id, BytesMut::with_capacity(100)).unwrap();
    ring.submit().unwrap();
    ring.close(id);
    settle(&mut ring, |ring| ring.sockets() == 0);
    assert_eq!(ring.receiving_once(), 0);
    // And a ring that is dropped waits until the kernel has let go of the memory.
    let (socket, _client) = pair();
    let id = ring.add(socket).unwrap();
    ring.receive_into(id, BytesMut::with_capacity(100)).unwrap();
    ring.submit().unwrap();
}
