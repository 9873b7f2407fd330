//! Addresses of sockets as the kernel writes them (`sockaddr_in`, `sockaddr_in6`), and what every socket that is bound to one
//! needs.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::system::checked;

/// Room for an address of either family.
pub(crate) const ADDRESS_BYTES: usize = size_of::<libc::sockaddr_in6>();
const IPV4_BYTES: usize = size_of::<libc::sockaddr_in>();

/// An address as the kernel reads it.
#[derive(Clone, Copy)]
pub(crate) struct RawAddress {
    bytes: [u8; ADDRESS_BYTES],
    length: usize,
}

impl RawAddress {
    pub fn new(address: &SocketAddr) -> RawAddress {
        let mut bytes = [0; ADDRESS_BYTES];
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        bytes[..2].copy_from_slice(&(family as libc::sa_family_t).to_ne_bytes());
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        match address {
            SocketAddr::V4(v4) => bytes[4..8].copy_from_slice(&v4.ip().octets()),
            SocketAddr::V6(v6) => {
                bytes[4..8].copy_from_slice(&v6.flowinfo().to_ne_bytes());
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
            }
        }
        RawAddress { bytes, length: if address.is_ipv4() { IPV4_BYTES } else { ADDRESS_BYTES } }
    }

    /// As a socket names it that is bound to an address of the family of `bound`: one for both families has IPv4 peers, too.
    pub fn for_socket(address: &SocketAddr, bound: &SocketAddr) -> RawAddress {
        match (address, bound) {
            (SocketAddr::V4(v4), SocketAddr::V6(_)) => {
                RawAddress::new(&SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port())))
            }
            _ => RawAddress::new(address),
        }
    }

    /// The address, for the kernel.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The addresses of this machine's interfaces, without those of loopback unless there are no others; of IPv6 too where `both`,
/// those that hold on one link alone left out.
pub fn of_this_machine(both: bool) -> Vec<IpAddr> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: the call writes a pointer to a list of its own there, and nothing else.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    }
    let mut found = Vec::new();
    let mut next = list;
    while !next.is_null() {
        // SAFETY: `next` is a node of the list, which is whole until it is freed below.
        let node = unsafe { &*next };
        next = node.ifa_next;
        let up = node.ifa_flags & libc::IFF_UP as u32 != 0;
        if node.ifa_addr.is_null() || !up {
            continue;
        }
        // SAFETY: every address begins with its family.
        let family = unsafe { (*node.ifa_addr).sa_family };
        let length = match i32::from(family) {
            libc::AF_INET => IPV4_BYTES,
            libc::AF_INET6 => ADDRESS_BYTES,
            _ => continue,
        };
        // SAFETY: an address of this family is so long, and lives as long as the list.
        let bytes = unsafe { std::slice::from_raw_parts(node.ifa_addr.cast::<u8>(), length) };
        found.extend(parse_known(bytes).map(|address| address.ip()));
    }
    // SAFETY: the list is the one that was made above, and nothing of it is used any more.
    unsafe { libc::freeifaddrs(list) };
    let usable = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
        IpAddr::V6(ip) => both && !ip.is_loopback() && !ip.is_unicast_link_local(),
    };
    found.retain(usable);
    found.sort_by_key(IpAddr::is_ipv6);
    if found.is_empty() { vec![IpAddr::V4(Ipv4Addr::LOCALHOST)] } else { found }
}

/// The address that the kernel wrote. An IPv4 peer of a socket for both families is shown as what it is.
pub(crate) fn parse(bytes: &[u8]) -> io::Result<SocketAddr> {
    parse_known(bytes).ok_or_else(|| {
        io::Error::new(io::ErrorKind::Unsupported, "the peer's address is neither IPv4 nor IPv6")
    })
}

fn parse_known(bytes: &[u8]) -> Option<SocketAddr> {
    let family = libc::sa_family_t::from_ne_bytes(field(bytes, 0)?);
    let port = u16::from_be_bytes(field(bytes, 2)?);
    match i32::from(family) {
        libc::AF_INET => Some(SocketAddr::from((Ipv4Addr::from(field::<4>(bytes, 4)?), port))),
        libc::AF_INET6 => {
            let flowinfo = u32::from_ne_bytes(field(bytes, 4)?);
            let address = Ipv6Addr::from(field::<16>(bytes, 8)?);
            let scope = u32::from_ne_bytes(field(bytes, 24)?);
            Some(match address.to_ipv4_mapped() {
                Some(v4) => SocketAddr::from((v4, port)),
                None => SocketAddrV6::new(address, port, flowinfo, scope).into(),
            })
        }
        _ => None,
    }
}

pub(crate) fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// A socket of the address's family, of the kind SOCK_STREAM or SOCK_DGRAM.
pub(crate) fn open(address: &SocketAddr, kind: libc::c_int) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: the call takes no memory.
    let socket = checked(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the kernel has just opened this descriptor for us, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

pub(crate) fn bind(socket: &OwnedFd, address: &SocketAddr) -> io::Result<()> {
    let raw = RawAddress::new(address);
    let bytes = raw.as_bytes();
    // SAFETY: pointer and length describe `bytes`, which outlive the call; the kernel only reads them, and copies them before
    // it looks, so that they need no alignment.
    let result =
        unsafe { libc::bind(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len() as libc::socklen_t) };
    checked(result).map(drop)
}

/// Sends a datagram, or loses it: where there is no room for it now it is not waited for.
pub(crate) fn send_now(socket: BorrowedFd<'_>, to: &RawAddress, datagram: &[u8]) {
    let bytes = to.as_bytes();
    // SAFETY: pointers and lengths describe `datagram` and `bytes`, which outlive the call; the kernel only reads them, and copies
    // the address before it looks, so that it needs no alignment.
    unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            datagram.as_ptr().cast(),
            datagram.len(),
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            bytes.as_ptr().cast(),
            bytes.len() as libc::socklen_t,
        )
    };
}

/// The sentence for an address that is taken.
pub(crate) fn explain_taken(error: io::Error, address: SocketAddr) -> io::Error {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            io::Error::new(io::ErrorKind::AddrInUse, format!("another program already listens on {address}"))
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_their_way_through_the_kernels_form() {
        for text in ["127.0.0.1:1", "255.1.2.3:65535", "[::1]:80", "[2001:db8::7]:1234"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(parse(RawAddress::new(&address).as_bytes()).unwrap(), address);
        }
        let scoped = SocketAddr::from(SocketAddrV6::new("fe80::1".parse().unwrap(), 9, 5, 3));
        assert_eq!(parse(RawAddress::new(&scoped).as_bytes()).unwrap(), scoped);
    }

    #[test]
    fn an_ipv4_peer_of_a_socket_for_both_families_is_shown_as_what_it_is() {
        let (peer, both): (SocketAddr, SocketAddr) =
            ("1.2.3.4:5".parse().unwrap(), "[::]:0".parse().unwrap());
        let raw = RawAddress::for_socket(&peer, &both);
        assert_eq!(raw.as_bytes().len(), ADDRESS_BYTES);
        assert_eq!(parse(raw.as_bytes()).unwrap(), peer);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        assert!(parse(&[]).is_err());
        assert!(parse(&[libc::AF_UNIX as u8, 0, 0, 0, 0, 0, 0, 0]).is_err());
        let whole = RawAddress::new(&"[::1]:80".parse().unwrap());
        assert!(parse(&whole.as_bytes()[..20]).is_err());
    }
}
