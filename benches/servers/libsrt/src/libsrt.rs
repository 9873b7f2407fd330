//! What is used of libsrt: a listener, sockets that never wait, and its epoll. (srt/srt.h of libsrt 1.5)

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::net::SocketAddrV4;

/// A socket's number.
pub type Number = i32;

/// What an epoll says of a socket: `SRT_EPOLL_EVENT`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Event {
    pub socket: Number,
    pub events: c_int,
}

/// `sockaddr_in`.
#[repr(C)]
struct Address {
    family: u16,
    port: [u8; 2],
    ip: [u8; 4],
    zero: [u8; 8],
}

#[link(name = "srt")]
unsafe extern "C" {
    fn srt_startup() -> c_int;
    fn srt_setloglevel(level: c_int);
    fn srt_create_socket() -> Number;
    fn srt_bind(socket: Number, name: *const Address, length: c_int) -> c_int;
    fn srt_listen(socket: Number, backlog: c_int) -> c_int;
    fn srt_accept(socket: Number, address: *mut c_void, length: *mut c_int) -> Number;
    fn srt_close(socket: Number) -> c_int;
    fn srt_setsockflag(socket: Number, option: c_int, value: *const c_void, length: c_int) -> c_int;
    fn srt_recvmsg(socket: Number, buffer: *mut c_char, length: c_int) -> c_int;
    fn srt_sendmsg(
        socket: Number,
        buffer: *const c_char,
        length: c_int,
        ttl: c_int,
        in_order: c_int,
    ) -> c_int;
    fn srt_epoll_create() -> c_int;
    fn srt_epoll_add_usock(epoll: c_int, socket: Number, events: *const c_int) -> c_int;
    fn srt_epoll_uwait(epoll: c_int, events: *mut Event, size: c_int, milliseconds: i64) -> c_int;
    fn srt_getlasterror(errno: *mut c_int) -> c_int;
    fn srt_getlasterror_str() -> *const c_char;
}

const AF_INET: u16 = 2;
const LOG_CRIT: c_int = 2;
const SRTO_SNDSYN: c_int = 1;
const SRTO_RCVSYN: c_int = 2;
const SRT_EPOLL_IN: c_int = 0x1;
const SRT_EPOLL_ERR: c_int = 0x8;
/// `SRT_EASYNCSND` and `SRT_EASYNCRCV`: there is no room, or nothing, now.
const WOULD_BLOCK: [c_int; 2] = [6001, 6002];
/// Callers that may wait to be accepted.
const BACKLOG: c_int = 512;

/// A socket, closed when it is dropped.
pub struct Socket(Number);

impl Socket {
    /// Listens; it and what it accepts never wait, and have the library's defaults otherwise: live mode.
    pub fn listen(address: SocketAddrV4) -> io::Result<Socket> {
        // SAFETY: the calls take no memory.
        let number = unsafe {
            srt_startup();
            srt_setloglevel(LOG_CRIT);
            srt_create_socket()
        };
        let socket = Socket(checked(number)?);
        let no: c_int = 0;
        for option in [SRTO_SNDSYN, SRTO_RCVSYN] {
            // SAFETY: pointer and length describe `no`, which outlives the call; the library only reads it.
            checked(unsafe {
                srt_setsockflag(number, option, (&raw const no).cast(), size_of::<c_int>() as c_int)
            })?;
        }
        let name = Address {
            family: AF_INET,
            port: address.port().to_be_bytes(),
            ip: address.ip().octets(),
            zero: [0; 8],
        };
        // SAFETY: pointer and length describe `name`, which outlives the call; the library only reads it.
        checked(unsafe { srt_bind(number, &raw const name, size_of::<Address>() as c_int) })?;
        // SAFETY: the call takes no memory.
        checked(unsafe { srt_listen(number, BACKLOG) })?;
        Ok(socket)
    }

    /// Its number.
    pub fn number(&self) -> Number {
        self.0
    }

    /// The next caller who waits.
    pub fn accept(&self) -> Option<Socket> {
        // SAFETY: the library leaves out the address where there is no room for one.
        checked(unsafe { srt_accept(self.0, std::ptr::null_mut(), std::ptr::null_mut()) }).ok().map(Socket)
    }

    /// The next message's length; `None` when there is none now.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        // SAFETY: pointer and length describe `buffer`, which outlives the call.
        let length = unsafe { srt_recvmsg(self.0, buffer.as_mut_ptr().cast(), buffer.len() as c_int) };
        unless_it_would_block(length)
    }

    /// Sends a message; false when there is no room for it now.
    pub fn send(&self, message: &[u8]) -> io::Result<bool> {
        // SAFETY: pointer and length describe `message`, which outlives the call; the library only reads it.
        let length = unsafe { srt_sendmsg(self.0, message.as_ptr().cast(), message.len() as c_int, -1, 1) };
        unless_it_would_block(length).map(|sent| sent.is_some())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: the call takes no memory.
        unsafe { srt_close(self.0) };
    }
}

/// The library's own epoll.
pub struct Epoll(c_int);

impl Epoll {
    /// Of no socket yet.
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: the call takes no memory.
        checked(unsafe { srt_epoll_create() }).map(Epoll)
    }

    /// Looks at a socket for what can be received or accepted, from now on.
    pub fn add(&self, socket: &Socket) -> io::Result<()> {
        let events = SRT_EPOLL_IN | SRT_EPOLL_ERR;
        // SAFETY: the pointer leads to `events`, which outlives the call; the library only reads it.
        checked(unsafe { srt_epoll_add_usock(self.0, socket.0, &raw const events) }).map(drop)
    }

    /// Waits until something can be received, or for a second.
    pub fn wait<'a>(&self, events: &'a mut [Event]) -> &'a [Event] {
        // SAFETY: pointer and length describe `events`, which outlive the call.
        let count = unsafe { srt_epoll_uwait(self.0, events.as_mut_ptr(), events.len() as c_int, 1000) };
        &events[..usize::try_from(count).unwrap_or(0).min(events.len())]
    }
}

fn checked(value: c_int) -> io::Result<c_int> {
    if value >= 0 {
        return Ok(value);
    }
    // SAFETY: the library gives a string that ends in a zero and stays until the thread's next call.
    let text = unsafe { CStr::from_ptr(srt_getlasterror_str()) };
    Err(io::Error::other(text.to_string_lossy().into_owned()))
}

fn unless_it_would_block(value: c_int) -> io::Result<Option<usize>> {
    // SAFETY: the library leaves out the system's error where there is no room for it.
    if value < 0 && WOULD_BLOCK.contains(&unsafe { srt_getlasterror(std::ptr::null_mut()) }) {
        return Ok(None);
    }
    checked(value).map(|length| usize::try_from(length).ok())
}
