//! Sockets for datagrams: one per door and shard, and one for each address that something is sent to unasked. What comes and goes
//! by them is in [`crate::ring`].

use std::ffi::CString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::address::{self, RawAddress};
use crate::system::{checked, set_option};

/// A socket for one shard. All shards bind the same address, and the kernel spreads peers over them by their address and port
/// (SO_REUSEPORT), the same for as long as the set of sockets is; call [`ensure_free`] once before the first.
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = open(address)?;
    set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, ON)?;
    address::bind(&socket, &address)?;
    Ok(UdpSocket::from(socket))
}

/// A socket for all that is sent to `address`, by whomever. Of a multicast group, that is joined on `interface` (on the one that
/// the kernel chooses where there is none), for what `source` sends or for everybody's; others on this machine may take the
/// same. An address of one machine is taken alone.
///
/// # Errors
/// The address is taken, or there is no such interface, or the group cannot be joined there.
pub fn bind_feed(
    address: SocketAddr,
    interface: Option<&str>,
    source: Option<IpAddr>,
) -> io::Result<UdpSocket> {
    let socket = open(address)?;
    let multicast = address.ip().is_multicast();
    if multicast {
        set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, ON)?;
    }
    // The address of a group, and not any: what is sent to the port in another way is none of ours.
    address::bind(&socket, &address).map_err(|error| address::explain_taken(error, address))?;
    if multicast {
        let level = if address.is_ipv4() { libc::IPPROTO_IP } else { libc::IPPROTO_IPV6 };
        let gr_interface = interface.map_or(Ok(0), index_of)?;
        match source {
            Some(source) => {
                let source = SocketAddr::new(source, 0);
                let wish = libc::group_source_req {
                    gsr_interface: gr_interface,
                    gsr_group: storage(&address),
                    gsr_source: storage(&source),
                };
                set_option(socket.as_fd(), level, libc::MCAST_JOIN_SOURCE_GROUP, wish)?;
            }
            None => {
                let wish = libc::group_req { gr_interface, gr_group: storage(&address) };
                set_option(socket.as_fd(), level, libc::MCAST_JOIN_GROUP, wish)?;
            }
        }
    }
    Ok(UdpSocket::from(socket))
}

/// A socket that sends to `address` and is not received from, at a port that the kernel chooses. Datagrams to a group leave by
/// `interface` (by its name; the kernel chooses where there is none), and are heard on this machine, too; `ttl` is how many
/// routers a datagram may pass, by default none (1) to a group and as many as the system says to a machine.
///
/// # Errors
/// There is no such interface, or the kernel refuses the socket.
pub fn open_sender(address: SocketAddr, interface: Option<&str>, ttl: Option<u8>) -> io::Result<UdpSocket> {
    let socket = address::open(&address, libc::SOCK_DGRAM)?;
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    address::bind(&socket, &SocketAddr::new(any, 0))?;
    // Nobody reads what strangers send here.
    set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, UNREAD_BUFFER_BYTES)?;
    let index = interface.map(index_of).transpose()?;
    match (address.is_ipv4(), index) {
        (true, Some(index)) => {
            let none = libc::in_addr { s_addr: 0 };
            let index = libc::c_int::try_from(index).map_err(io::Error::other)?;
            let wish = libc::ip_mreqn { imr_multiaddr: none, imr_address: none, imr_ifindex: index };
            set_option(socket.as_fd(), libc::IPPROTO_IP, libc::IP_MULTICAST_IF, wish)?;
        }
        (false, Some(index)) => {
            set_option(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF, index)?;
        }
        (_, None) => {}
    }
    if let Some(ttl) = ttl.map(libc::c_int::from) {
        let (level, option) = match (address.is_ipv4(), address.ip().is_multicast()) {
            (true, true) => (libc::IPPROTO_IP, libc::IP_MULTICAST_TTL),
            (true, false) => (libc::IPPROTO_IP, libc::IP_TTL),
            (false, true) => (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS),
            (false, false) => (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
        };
        set_option(socket.as_fd(), level, option, ttl)?;
    }
    Ok(UdpSocket::from(socket))
}

/// A socket with the options of all of ours.
fn open(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = address::open(&address, libc::SOCK_DGRAM)?;
    // Each datagram says how many were lost before it.
    set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RXQ_OVFL, ON)?;
    // With the privilege for it, past net.core.rmem_max; without, as far as that goes.
    if set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES).is_err() {
        set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER_BYTES)?;
    }
    // All peers of a door share it; with what there is by default three runs of datagrams fill it.
    if set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SEND_BUFFER_BYTES).is_err() {
        set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, SEND_BUFFER_BYTES)?;
    }
    Ok(socket)
}

/// The number of the interface with this name.
fn index_of(name: &str) -> io::Result<u32> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("there is no interface {name}"));
    let text = CString::new(name).map_err(|_| missing())?;
    // SAFETY: the pointer is of a string that ends in a zero and outlives the call; the kernel only reads it.
    match unsafe { libc::if_nametoindex(text.as_ptr()) } {
        0 => Err(missing()),
        index => Ok(index),
    }
}

/// The address, in the room that the kernel has for one of any family.
fn storage(address: &SocketAddr) -> libc::sockaddr_storage {
    let raw = RawAddress::new(address);
    let bytes = raw.as_bytes();
    // SAFETY: it is made of numbers, for which all bits zero are a value.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    const { assert!(address::ADDRESS_BYTES <= size_of::<libc::sockaddr_storage>()) };
    // SAFETY: the bytes lie apart from the storage, which is larger than any address, as was asserted.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), (&raw mut storage).cast::<u8>(), bytes.len());
    }
    storage
}

/// A socket that speaks with one peer alone: the first address of a name for which there is a way. Nothing is sent yet.
///
/// # Errors
/// The name is not known, or there is no way to where it leads.
pub fn connect_first(name: impl ToSocketAddrs) -> io::Result<UdpSocket> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in name.to_socket_addrs()? {
        let any: IpAddr =
            if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let reached = UdpSocket::bind((any, 0)).and_then(|socket| {
            socket.connect(address)?;
            set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER_BYTES)?;
            Ok(socket)
        });
        match reached {
            Ok(socket) => return Ok(socket),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Has the kernel cut what is sent by this socket into datagrams of `bytes`, the last of which may have less (UDP_SEGMENT, udp(7)). One
/// send holds 64 of them, and 65,000 bytes.
///
/// # Errors
/// The kernel cannot cut.
pub fn cut(socket: BorrowedFd<'_>, bytes: u16) -> io::Result<()> {
    set_option(socket, libc::SOL_UDP, libc::UDP_SEGMENT, libc::c_int::from(bytes))
}

/// Takes datagrams that have come and throws them away, without copying them to user space (MSG_TRUNC, udp(7)): how many, [`DISCARDED_MAX`]
/// at most, and their bytes. Never waits.
///
/// # Errors
/// `WouldBlock` when nothing has come; anything else means that the socket failed.
pub fn discard(socket: BorrowedFd<'_>) -> io::Result<(usize, usize)> {
    // SAFETY: the structures are integers and raw pointers, for which zeros are valid: no room for an address, none for bytes.
    let mut messages: [libc::mmsghdr; DISCARDED_MAX] = unsafe { std::mem::zeroed() };
    // SAFETY: pointer and count describe `messages`, which outlive the call; none of them has room that the kernel could write to.
    let count = checked(unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            DISCARDED_MAX as _,
            (libc::MSG_TRUNC | libc::MSG_DONTWAIT) as _,
            std::ptr::null_mut(),
        )
    })?;
    let count = usize::try_from(count).unwrap_or(0).min(DISCARDED_MAX);
    Ok((count, messages[..count].iter().map(|message| message.msg_len as usize).sum()))
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
/// datagram of a usual MTU: 3,600 of them, which is what comes within a tick of 40 ms at .9 Gbit/s.
const RECEIVE_BUFFER_BYTES: libc::c_int = 4 << 20;
/// What a socket holds that nobody reads: the kernel makes it the least that it allows.
const UNREAD_BUFFER_BYTES: libc::c_int = 0;
/// What may wait for the device. The kernel doubles it and takes as much of it as of the other.
const SEND_BUFFER_BYTES: libc::c_int = 4 << 20;
/// Datagrams that one call of [`discard`] throws away at most.
pub const DISCARDED_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

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

    /// What has come, at once or within a second.
    fn heard(socket: &UdpSocket) -> Option<Vec<u8>> {
        socket.set_read_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
        let mut buffer = [0; 64];
        let (length, _) = socket.recv_from(&mut buffer).ok()?;
        Some(buffer[..length].to_vec())
    }

    #[test]
    fn what_is_sent_at_once_is_cut_and_what_is_discarded_is_counted() {
        let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert_eq!(discard(receiver.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let sender = connect_first(receiver.local_addr().unwrap()).unwrap();
        cut(sender.as_fd(), 1000).unwrap();
        sender.send(&[7; 3500]).unwrap();
        sender.send(b"alone").unwrap();
        assert_eq!(heard(&receiver).unwrap(), [7; 64], "the first of them, as far as there was room");
        assert_eq!(discard(receiver.as_fd()).unwrap(), (4, 2505));
        for _ in 0..70 {
            sender.send(&[]).unwrap();
        }
        assert_eq!(
            [discard(receiver.as_fd()).unwrap(), discard(receiver.as_fd()).unwrap()],
            [(64, 0), (6, 0)]
        );
    }

    #[test]
    fn a_group_is_heard_by_all_who_joined_it_and_only_from_the_source_that_was_asked_for() {
        let group = SocketAddr::from((Ipv4Addr::new(239, 255, 77, 1), 0));
        let all = bind_feed(group, Some("lo"), None).unwrap();
        let address = all.local_addr().unwrap();
        let from_us = bind_feed(address, Some("lo"), Some(Ipv4Addr::LOCALHOST.into())).unwrap();
        let from_others = bind_feed(address, Some("lo"), Some(Ipv4Addr::new(127, 0, 0, 9).into())).unwrap();
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        set_option(sender.as_fd(), libc::IPPROTO_IP, libc::IP_MULTICAST_IF, Ipv4Addr::LOCALHOST.octets())
            .unwrap();
        sender.send_to(b"all", address).unwrap();
        assert_eq!([heard(&all), heard(&from_us)], [Some(b"all".to_vec()), Some(b"all".to_vec())]);
        assert_eq!(heard(&from_others), None);
        let error = bind_feed(address, Some("nosuch0"), None).unwrap_err();
        assert_eq!(error.to_string(), "there is no interface nosuch0");
    }

    #[test]
    fn a_sender_reaches_a_group_by_the_interface_it_was_told_and_a_machine_by_itself() {
        let group = SocketAddr::from((Ipv4Addr::new(239, 255, 77, 2), 0));
        let receiver = bind_feed(group, Some("lo"), None).unwrap();
        let address = receiver.local_addr().unwrap();
        let sender = open_sender(address, Some("lo"), Some(0)).unwrap();
        sender.send_to(b"group", address).unwrap();
        assert_eq!(heard(&receiver), Some(b"group".to_vec()));
        for loopback in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            let receiver = UdpSocket::bind((loopback, 0)).unwrap();
            let address: SocketAddr = receiver.local_addr().unwrap();
            open_sender(address, None, Some(9)).unwrap().send_to(b"machine", address).unwrap();
            assert_eq!(heard(&receiver), Some(b"machine".to_vec()));
        }
        let six: SocketAddr = "[ff02::77:2]:5000".parse().unwrap();
        open_sender(six, Some("lo"), Some(1)).unwrap();
        let error = open_sender(six, Some("nosuch0"), None).unwrap_err();
        assert_eq!(error.to_string(), "there is no interface nosuch0");
    }

    #[test]
    fn an_address_of_one_machine_is_taken_alone() {
        let feed = bind_feed(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), None, None).unwrap();
        let address = feed.local_addr().unwrap();
        let error = bind_feed(address, None, None).unwrap_err();
        assert!(error.to_string().contains("another program already listens on 127.0.0.1"), "{error}");
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().send_to(b"here", address).unwrap();
        assert_eq!(heard(&feed), Some(b"here".to_vec()));
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
