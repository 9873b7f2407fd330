//! Packets beside a connection, against real sockets on loopback.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use crate::ring::tests::{pattern, settle, small, wait, watched};
use crate::ring::{Completion, Ring, RingConfig, SocketId};
use crate::system::set_option;
use crate::udp;

/// A ring with two sockets for datagrams and a connection, whose other end has two ports.
struct Room {
    ring: Ring,
    id: SocketId,
    far: TcpStream,
    /// Our two addresses, and the sockets of the other end.
    ours: [SocketAddr; 2],
    theirs: [UdpSocket; 2],
}

fn port() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

fn room() -> Room {
    room_of(|_| {})
}

/// The same, of sockets that were prepared.
fn room_of(prepare: impl Fn(&UdpSocket)) -> Room {
    let mut ring = Ring::new(&RingConfig { datagram_buffers: 4, ..small() }).unwrap();
    let ours = [1, 2].map(|token| {
        let socket = udp::bind_feed((Ipv4Addr::LOCALHOST, 0).into(), None, None).unwrap();
        let address = socket.local_addr().unwrap();
        prepare(&socket);
        ring.receive_datagrams(socket, token).unwrap();
        address
    });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let id = ring.add(listener.accept().unwrap().0.into()).unwrap();
    let theirs = [port(), port()];
    let ports: Vec<(u8, SocketAddr)> =
        theirs.iter().zip(4..).map(|(socket, channel)| (channel, socket.local_addr().unwrap())).collect();
    ring.set_ports(id, [1, 2], &ports).unwrap();
    Room { ring, id, far, ours, theirs }
}

fn framed(packets: &[(u8, usize)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, (channel, length)) in packets.iter().enumerate() {
        bytes.extend_from_slice(&[b'$', *channel]);
        bytes.extend_from_slice(&(*length as u16).to_be_bytes());
        bytes.extend_from_slice(&pattern(*length, number as u32));
    }
    bytes
}

impl Room {
    fn sent(&mut self, bytes: Vec<u8>) {
        let length = bytes.len();
        self.ring.send_packets(self.id, Bytes::from(bytes));
        let Completion::Sent { result, .. } = wait(&mut self.ring) else { panic!("it is sent") };
        assert_eq!(result.unwrap(), length);
    }

    /// What comes next to a port, and from which of ours.
    fn heard(&self, side: usize) -> Vec<u8> {
        let mut buffer = vec![0; 1 << 16];
        let (length, from) = self.theirs[side].recv_from(&mut buffer).unwrap();
        assert_eq!(from, self.ours[side]);
        buffer.truncate(length);
        buffer
    }
}

#[test]
fn runs_of_one_size_go_together_and_each_packet_arrives_whole_and_in_order() {
    let mut room = room();
    // Two runs with a last one that is shorter, one that is larger than what came before, what nobody asked for, an empty one,
    // more than one message holds, and control information in between.
    let mut packets =
        vec![(4, 1400), (4, 1400), (4, 300), (4, 1400), (5, 28), (5, 28), (7, 99), (4, 0), (4, 17)];
    packets.extend([(4, 70); 70]);
    packets.extend([(5, 1), (9, 3)]);
    let enters = room.ring.stats().sends;
    room.sent(framed(&packets));
    assert_eq!(room.ring.stats().sends - enters, 1, "one send to its owner");
    for (number, (channel, length)) in packets.iter().enumerate() {
        if matches!(channel, 4 | 5) && *length > 0 {
            assert_eq!(room.heard(usize::from(*channel - 4)), pattern(*length, number as u32), "{number}");
        }
    }
}

#[test]
fn the_connection_goes_on_beside_its_packets() {
    let mut room = room();
    for _ in 0..3 {
        room.sent(framed(&[(4, 100), (4, 100)]));
        room.ring.send(room.id, Bytes::from_static(b"answer"));
        assert!(matches!(wait(&mut room.ring), Completion::Sent { result: Ok(6), .. }));
    }
    let mut answers = [0; 18];
    room.far.read_exact(&mut answers).unwrap();
    assert_eq!(&answers, b"answeransweranswer");
    (0..6).for_each(|number| assert_eq!(room.heard(0), pattern(100, number % 2)));
    room.ring.receive(room.id);
    room.far.write_all(b"next").unwrap();
    assert!(matches!(wait(&mut room.ring), Completion::Received { bytes, .. } if &bytes[..] == b"next"));
}

#[test]
fn without_ports_packets_have_gone_at_once() {
    let mut room = room();
    room.ring.forget_ports(room.id);
    room.sent(framed(&[(4, 100)]));
    room.sent(b"$\x04\xff\xffcut".to_vec());
    room.ring.set_ports(room.id, [1, 2], &[]).unwrap();
    room.sent(framed(&[(4, 100)]));
    assert!(room.ring.set_ports(room.id, [1, 3], &[]).is_err(), "there is no such socket");
}

#[test]
fn what_is_forgotten_or_closed_on_the_way_is_kept_until_the_kernel_lets_go() {
    let mut room = room();
    let ports = [(4, room.theirs[0].local_addr().unwrap())];
    room.ring.send_packets(room.id, Bytes::from(framed(&[(4, 100); 300])));
    room.ring.forget_ports(room.id);
    assert!(room.ring.set_ports(room.id, [1, 2], &ports).is_err(), "packets are under way");
    assert!(matches!(wait(&mut room.ring), Completion::Sent { result: Ok(_), .. }));
    room.ring.set_ports(room.id, [1, 2], &ports).unwrap();
    let (payload, dropped) = watched(50_000);
    // A head whose packet is all that follows it.
    let mut bytes = payload.to_vec();
    bytes[..4].copy_from_slice(&[b'$', 4, 0xc3, 0x4c]);
    drop(payload);
    assert!(dropped.load(Ordering::SeqCst));
    room.ring.send_packets(room.id, Bytes::from(bytes));
    room.ring.close(room.id);
    settle(&mut room.ring, |ring| ring.sockets() == 0);
    // Of a socket that is gone, nothing is said.
    room.ring.send_packets(room.id, Bytes::from_static(b"$\x04\0\x01x"));
    room.ring.forget_ports(room.id);
    assert!(room.ring.next().is_none());
}

#[test]
fn where_the_kernel_does_not_cut_datagrams_go_one_by_one() {
    // Without checksums it refuses to.
    let mut room = room_of(|socket| {
        set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, 1 as libc::c_int).unwrap();
    });
    let packets = [(4, 500), (4, 500), (4, 20), (5, 28), (4, 300), (4, 300)];
    for _ in 0..2 {
        room.sent(framed(&packets));
        for (number, (channel, length)) in packets.iter().enumerate() {
            assert_eq!(room.heard(usize::from(*channel - 4)), pattern(*length, number as u32), "{number}");
        }
    }
    let peer = room.ring.add_peer(1, room.theirs[0].local_addr().unwrap()).unwrap();
    let sent = pattern(3 * 1316 + 188, 9);
    room.ring.send_datagrams(peer, Bytes::from(sent.clone()), 1316);
    assert!(matches!(wait(&mut room.ring), Completion::Sent { result: Ok(4136), .. }));
    let came: Vec<Vec<u8>> = (0..4).map(|_| room.heard(0)).collect();
    assert!(came.iter().map(Vec::len).eq([1316, 1316, 1316, 188]) && came.concat() == sent);
}
