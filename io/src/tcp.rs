//! Listening sockets, socket options, and who is at the other end. Connections themselves are in [`crate::ring`].

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use crate::address::{self, ADDRESS_BYTES};
use crate::system::{checked, set_option};

/// What a connection's socket is told. Accepted sockets inherit all of it from their listener, which saves a system
/// call per option and connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// Bytes that may wait unsent in the kernel before it says the socket is full (TCP_NOTSENT_LOWAT), so that the
    /// kernel does not hide how far a viewer lags. `None` leaves the system's choice.
    pub notsent_bytes: Option<u32>,
    /// How long a peer may be silent before the kernel asks whether it is there at all.
    pub keepalive: Option<Duration>,
    /// How long sent bytes may stay unacknowledged before the connection counts as broken.
    pub user_timeout: Option<Duration>,
}

/// A listener for one shard. All shards bind the same address, and the kernel spreads connections over them
/// (SO_REUSEPORT); call [`ensure_free`] once before the first.
///
/// Nagle's algorithm is off and the congestion control is cubic, for all connections: bbr without the fq qdisc paces
/// inside TCP with timers, which can cost four times the CPU, and on an accepted socket the choice comes too late.
/// [`congestion`] says what the kernel agreed to.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    bind_with(address, &SocketOptions::default())
}

/// [`bind`], with options that every accepted connection inherits.
pub fn bind_with(address: SocketAddr, options: &SocketOptions) -> io::Result<TcpListener> {
    let socket = address::open(&address, libc::SOCK_STREAM)?;
    set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, ON)?;
    set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, ON)?;
    configure(socket.as_fd(), options)?;
    // A kernel without cubic, or a process that may not choose it, keeps the system's default.
    let _ = set_congestion(socket.as_fd(), CONGESTION_CONTROL);
    address::bind(&socket, &address)?;
    // SAFETY: the call takes no memory, and the descriptor is open.
    checked(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })?;
    Ok(TcpListener::from(socket))
}

/// Fails when another program listens on the address, even one that shares its port as we do: with SO_REUSEPORT the
/// kernel would hand half of our viewers to it, without a word. Port 0 is always free.
pub fn ensure_free(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let socket = address::open(&address, libc::SOCK_STREAM)?;
    // Without SO_REUSEPORT the bind fails next to any listener. With SO_REUSEADDR it passes over connections that a
    // former run of ours left in TIME_WAIT.
    set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, ON)?;
    address::bind(&socket, &address).map_err(|error| address::explain_taken(error, address))
}

/// Sets the options of a connection or of a listener, and turns Nagle's algorithm off.
pub fn configure(socket: BorrowedFd<'_>, options: &SocketOptions) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, ON)?;
    if let Some(bytes) = options.notsent_bytes {
        set_option(socket, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, bytes)?;
    }
    if let Some(silence) = options.keepalive {
        let seconds =
            i32::try_from(silence.as_secs()).unwrap_or(KEEPALIVE_SECONDS_MAX).clamp(1, KEEPALIVE_SECONDS_MAX);
        set_option(socket, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, seconds)?;
        set_option(socket, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, (seconds / 3).max(1))?;
        set_option(socket, libc::IPPROTO_TCP, libc::TCP_KEEPCNT, KEEPALIVE_PROBES)?;
        set_option(socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, ON)?;
    }
    if let Some(timeout) = options.user_timeout {
        let milliseconds = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        set_option(socket, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, milliseconds)?;
    }
    Ok(())
}

/// Takes up to `most` bytes that have come and throws them away, without copying them to user space (MSG_TRUNC, tcp(7)).
/// Never waits. 0 is the end of the stream.
///
/// # Errors
/// `WouldBlock` when nothing has come; anything else means that the connection broke.
pub fn discard(socket: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
    // SAFETY: with MSG_TRUNC on a TCP socket the kernel writes nothing, so that no memory need stand behind the length.
    let taken = unsafe {
        libc::recv(socket.as_raw_fd(), std::ptr::null_mut(), most, libc::MSG_TRUNC | libc::MSG_DONTWAIT)
    };
    usize::try_from(taken).map_err(|_| io::Error::last_os_error())
}

/// Bytes that TCP was given to send and has not sent once (SIOCOUTQNSD, tcp(7)).
///
/// # Errors
/// The descriptor is no socket of TCP.
pub fn unsent(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: the kernel writes one integer to where the pointer leads, which is a local that outlives the call.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCOUTQNSD, &raw mut count) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// How many bytes may wait in a connection's socket until they are read (SO_RCVBUF). The kernel doubles it for its own
/// needs, and caps it at net.core.rmem_max.
///
/// # Errors
/// The descriptor is no socket.
pub fn set_receive_buffer(socket: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes)
}

/// The congestion control in force on a socket.
pub fn congestion(socket: BorrowedFd<'_>) -> io::Result<String> {
    let mut name = [0u8; CONGESTION_NAME_BYTES];
    let mut length = name.len() as libc::socklen_t;
    // SAFETY: `name` and `length` are writable, and `length` says how much `name` holds; both outlive the call.
    checked(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            name.as_mut_ptr().cast(),
            &raw mut length,
        )
    })?;
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    Ok(String::from_utf8_lossy(&name[..end]).into_owned())
}

/// Who is at the other end of a connection.
pub fn peer_address(socket: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let mut storage = [0u8; ADDRESS_BYTES];
    let mut length = storage.len() as libc::socklen_t;
    // SAFETY: `length` says how much room `storage` has, the kernel copies no more than that into it, and both outlive the call.
    checked(unsafe { libc::getpeername(socket.as_raw_fd(), storage.as_mut_ptr().cast(), &raw mut length) })?;
    address::parse(&storage)
}

/// What this end of a connected socket is bound to.
///
/// # Errors
/// The kernel does not say, or the address is of a family that we did not open.
pub fn local_address(socket: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let mut storage = [0u8; ADDRESS_BYTES];
    let mut length = storage.len() as libc::socklen_t;
    // SAFETY: `length` says how much room `storage` has, the kernel copies no more than that into it, and both outlive the call.
    checked(unsafe { libc::getsockname(socket.as_raw_fd(), storage.as_mut_ptr().cast(), &raw mut length) })?;
    address::parse(&storage)
}

fn set_congestion(socket: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    // SAFETY: pointer and length describe `name`, which outlives the call; the kernel copies it and needs no NUL.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            name.as_ptr().cast(),
            name.len() as libc::socklen_t,
        )
    };
    checked(result).map(drop)
}

const ON: libc::c_int = 1;
/// Of linux/sockios.h, which the C library does not pass on.
const SIOCOUTQNSD: libc::Ioctl = 0x894B;
/// Connections that wait to be accepted, per shard. The kernel caps it at net.core.somaxconn (4096 by default).
const BACKLOG: libc::c_int = 4096;
const CONGESTION_CONTROL: &str = "cubic";
/// The kernel's TCP_CA_NAME_MAX.
const CONGESTION_NAME_BYTES: usize = 16;
/// The kernel's own limit for TCP_KEEPIDLE and TCP_KEEPINTVL.
const KEEPALIVE_SECONDS_MAX: i32 = 32767;
/// Unanswered questions, a third of the silence apart, after which a peer counts as gone.
const KEEPALIVE_PROBES: libc::c_int = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};

    fn loopback() -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
    }

    fn read_option(socket: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int) -> i32 {
        let mut value = 0i32;
        let mut length = 4;
        // SAFETY: both pointers are to writable locals, and `length` says how much `value` holds.
        let result = unsafe {
            libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut length)
        };
        checked(result).unwrap();
        value
    }

    #[test]
    fn two_shards_share_a_port_and_accepted_sockets_inherit_the_options() {
        let options = SocketOptions {
            notsent_bytes: Some(128 << 10),
            keepalive: Some(Duration::from_secs(30)),
            user_timeout: Some(Duration::from_secs(20)),
        };
        let first = bind_with(loopback(), &options).unwrap();
        let address = first.local_addr().unwrap();
        let second = bind(address).unwrap();
        drop(second);
        let client = TcpStream::connect(address).unwrap();
        let (accepted, _) = first.accept().unwrap();
        let accepted = accepted.as_fd();
        assert_eq!(peer_address(accepted).unwrap(), client.local_addr().unwrap());
        assert_eq!(local_address(accepted).unwrap(), address);
        assert_eq!(read_option(accepted, libc::IPPROTO_TCP, libc::TCP_NODELAY), 1);
        assert_eq!(read_option(accepted, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT), 128 << 10);
        assert_eq!(read_option(accepted, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE), 30);
        assert_eq!(read_option(accepted, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT), 20_000);
        assert_eq!(read_option(accepted, libc::SOL_SOCKET, libc::SO_KEEPALIVE), 1);
        assert_eq!(congestion(accepted).unwrap(), congestion(first.as_fd()).unwrap());
    }

    #[test]
    fn discarded_bytes_are_counted_and_gone() {
        use std::io::{Read, Write};
        let listener = bind(loopback()).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        assert_eq!(discard(client.as_fd(), 1 << 20).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        accepted.write_all(&[7; 1000]).unwrap();
        accepted.write_all(b"rest").unwrap();
        assert_eq!(discard(client.as_fd(), 1000).unwrap(), 1000);
        let mut rest = [0; 4];
        client.read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"rest");
        drop(accepted);
        assert_eq!(discard(client.as_fd(), 1000).unwrap(), 0);
    }

    #[test]
    fn what_a_peer_has_no_room_for_is_unsent() {
        use std::io::Write;
        let listener = bind(loopback()).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_accepted, _) = listener.accept().unwrap();
        assert_eq!(unsent(client.as_fd()).unwrap(), 0);
        client.set_nonblocking(true).unwrap();
        while client.write(&[7; 1 << 16]).is_ok() {}
        assert!(unsent(client.as_fd()).unwrap() > 0);
    }

    #[test]
    fn a_port_that_another_program_listens_on_is_not_free() {
        let plain = TcpListener::bind(loopback()).unwrap();
        let error = ensure_free(plain.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&plain.local_addr().unwrap().to_string()));
    }

    #[test]
    fn a_port_that_another_program_shares_is_not_free_either() {
        let sharing = bind(loopback()).unwrap();
        let port = sharing.local_addr().unwrap().port();
        assert!(ensure_free(sharing.local_addr().unwrap()).is_err());
        let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        assert!(ensure_free(everywhere).is_err());
    }

    #[test]
    fn a_port_with_connections_in_time_wait_is_free() {
        let listener = bind(loopback()).unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        // The side that closes first keeps the port in TIME_WAIT.
        drop(accepted);
        drop(client);
        drop(listener);
        ensure_free(address).unwrap();
        ensure_free(loopback()).unwrap();
    }

    #[test]
    fn an_ipv6_peer_is_named() {
        let listener = bind(SocketAddr::from((Ipv6Addr::LOCALHOST, 0))).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert_eq!(peer_address(accepted.as_fd()).unwrap(), client.local_addr().unwrap());
    }
}
