//! Sockets for datagrams: one per door and shard. What comes and goes by them is in [`crate::ring`].

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use crate::address;
use crate::system::set_option;

/// A socket for one shard. All shards bind the same address, and the kernel spreads peers over them by their address and port
/// (SO_REUSEPORT), the same for as long as the set of sockets is; call [`ensure_free`] once before the first.
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = address::open(&address, libc::SOCK_DGRAM)?;
    set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, ON)?;
    // Each datagram says how many were lost before it.
    set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RXQ_OVFL, ON)?;
    // With the privilege for it, past net.core.rmem_max; without, as far as that goes.
    if set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES).is_err() {
        set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER_BYTES)?;
    }
    address::bind(&socket, &address)?;
    Ok(UdpSocket::from(socket))
}

/// Fails when another program has the address, even one that shares its port as we do: with SO_REUSEPORT the kernel would
/// hand half of our peers to it, without a word. Port 0 is always free.
pub fn ensure_free(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let socket = address::open(&address, libc::SOCK_DGRAM)?;
    address::bind(&socket, &address).map_err(|error| address::explain_taken(error, address))
}

const ON: libc::c_int = 1;
/// What may wait in a socket while its shard does something else. The kernel doubles it and takes some 2.3 KB of that for each
/// datagram of a usual MTU: 3,600 of them, which is what comes within a tick of 33 ms at 1.1 Gbit/s.
const RECEIVE_BUFFER_BYTES: libc::c_int = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn two_shards_share_a_port_and_a_peer_stays_with_one_of_them() {
        let first = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = first.local_addr().unwrap();
        let second = bind(address).unwrap();
        let mut met = [0; 2];
        for _ in 0..32 {
            let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            for _ in 0..3 {
                peer.send_to(b"here", address).unwrap();
            }
            let mut came = [0; 2];
            for (count, socket) in came.iter_mut().zip([&first, &second]) {
                socket.set_nonblocking(true).unwrap();
                while socket.recv_from(&mut [0; 8]).is_ok() {
                    *count += 1;
                }
            }
            assert!(came == [3, 0] || came == [0, 3], "{came:?}");
            met[usize::from(came[0] == 0)] += 1;
        }
        assert!(met[0] > 0 && met[1] > 0, "{met:?}");
    }

    #[test]
    fn a_port_that_somebody_has_is_not_free_and_names_itself() {
        let sharing = bind(SocketAddr::from((Ipv6Addr::LOCALHOST, 0))).unwrap();
        let address = sharing.local_addr().unwrap();
        let error = ensure_free(address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&address.to_string()));
        drop(sharing);
        ensure_free(address).unwrap();
    }
}
