//! The system's libsrt: a listener, callers, sockets that never wait, and its epoll.
//!
//! By the crate `srt-rs` where that does what it says; by the library's own functions where it has nothing (the listener's hook, reasons of
//! refusals, statistics, some options), or keeps it to itself (its epoll). The library brings threads of its own, and asks the hook
//! on one of them. (srt/srt.h of libsrt 1.5)

mod call;

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use libsrt_sys as srt;
use srt_rs::{SrtSocket, error::SrtError};

pub use call::{Call, Standing};

/// A socket's number. None is used twice while the process lives long enough to notice.
pub type Number = i32;

/// Bytes of a message at most: what fits into a datagram of Ethernet.
pub const MESSAGE_BYTES_MAX: usize = 1456;
/// Callers that may wait to be accepted.
const BACKLOG: i32 = 512;
/// Bytes per second that a viewer's socket may send at least, so that it can be given what is kept of its stream at once: two thirds of
/// what it then sends at most.
const INPUT_BYTES_MIN: i64 = 8_000_000;
/// What may be sent beside the stream, in percent of it: what was lost, and what is kept.
const OVERHEAD_PERCENT: i32 = 50;
/// Faults alone, on standard error: what a peer gets wrong is told elsewhere.
const LOG_CRIT: c_int = 2;
/// `SRT_EPOLL_ENABLE_EMPTY`.
const MAY_BE_EMPTY: i32 = 1;

/// Somebody who has said in a handshake what he wants, and has not been answered.
#[derive(Debug)]
pub struct Caller<'a> {
    /// The number that its socket will have.
    pub socket: Number,
    /// Where it is.
    pub peer: SocketAddr,
    /// What it wants.
    pub stream_id: &'a [u8],
    /// It will be one link of a group: the first of them is accepted as that group, and the others join it without a word.
    pub in_group: bool,
}

impl Caller<'_> {
    /// Has its packets held back for so long at least, both ways.
    ///
    /// # Errors
    /// The library takes no such time.
    pub fn set_latency(&self, latency: Duration) -> io::Result<()> {
        let millis = i32::try_from(latency.as_millis()).unwrap_or(i32::MAX);
        let socket = SrtSocket { id: self.socket };
        socket.set_receive_latency(millis)?;
        Ok(socket.set_peer_latency(millis)?)
    }

    /// Demands that it knows these words, and encrypts both ways with them.
    ///
    /// # Errors
    /// They are too short or too long.
    pub fn set_passphrase(&self, words: &str) -> io::Result<()> {
        Ok(SrtSocket { id: self.socket }.set_passphrase(words)?)
    }
}

/// What a listener asks about each caller: the number of the reason why it is refused, 1000 or more.
type Judge = dyn Fn(&Caller<'_>) -> Result<(), u32> + Send + Sync;

/// Listens.
pub struct Listener {
    socket: Socket,
    groups: bool,
}

impl Listener {
    /// Listens at `address`; `epoll` tells when somebody has come. `judge` is asked about each caller, on a thread of the library
    /// that does nothing else meanwhile for any of this listener's sockets: it must be quick.
    ///
    /// # Errors
    /// The address is taken, or the library cannot begin.
    pub fn open(
        address: SocketAddr,
        epoll: &Epoll,
        judge: impl Fn(&Caller<'_>) -> Result<(), u32> + Send + Sync + 'static,
    ) -> io::Result<Listener> {
        begin()?;
        let number = SrtSocket::new()?;
        let socket = Socket(number);
        number.set_receive_blocking(false)?;
        number.set_send_blocking(false)?;
        // What is sent sets the pace.
        number.set_max_bandwith(0)?;
        number.set_recovery_bandwidth_overhead(OVERHEAD_PERCENT)?;
        set(number.id, srt::SRT_SOCKOPT::SRTO_MININPUTBW, &INPUT_BYTES_MIN)?;
        if address.is_ipv6() {
            // As for all doors: `[::]` has the addresses of IPv4, too.
            number.set_ipv6_only(0)?;
        }
        // A library that was built without groups knows no such option.
        let groups = set(number.id, srt::SRT_SOCKOPT::SRTO_GROUPCONNECT, &1_i32).is_ok();
        let number = number.bind(address)?;
        // Never freed: the library does not say when its threads have asked for the last time.
        let judge: Box<Judge> = Box::new(judge);
        let opaque = std::ptr::from_mut(Box::leak(Box::new(judge))).cast::<c_void>();
        // SAFETY: `ask` takes `opaque` for what it is, a shared reference that is good for ever.
        checked(unsafe { srt::srt_listen_callback(number.id, ask, opaque) })?;
        // Before anybody can come: the library tells of those who come, and not of those who have.
        epoll.add(&socket)?;
        number.listen(BACKLOG)?;
        Ok(Listener { socket, groups })
    }

    /// The socket, for an epoll.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Whether it takes groups of links: the library was built with them.
    pub fn takes_groups(&self) -> bool {
        self.groups
    }

    /// The next caller whose handshake is done.
    pub fn accept(&self) -> Option<(Socket, SocketAddr)> {
        self.socket.0.accept().ok().map(|(socket, peer)| (Socket(socket), peer))
    }
}

/// What the library calls. -1 refuses.
unsafe extern "C" fn ask(
    opaque: *mut c_void,
    socket: srt::SRTSOCKET,
    _version: c_int,
    peer: *const srt::sockaddr,
    stream_id: *const c_char,
) -> c_int {
    // SAFETY: it is what `Listener::open` has leaked, and only ever read.
    let judge = unsafe { &*opaque.cast_const().cast::<Box<Judge>>() };
    // SAFETY: the library gives an address that lives until this returns, of one of the two families.
    let peer = unsafe { address_of(peer) };
    let stream_id = if stream_id.is_null() {
        c""
    } else {
        // SAFETY: the library gives a string that ends in a zero and lives until this returns.
        unsafe { CStr::from_ptr(stream_id) }
    };
    let caller = Caller { socket, peer, stream_id: stream_id.to_bytes(), in_group: wants_group(socket) };
    // A panic must not go on into C++.
    let judged = catch_unwind(AssertUnwindSafe(|| judge(&caller)));
    let reason = match judged {
        Ok(Ok(())) => return 0,
        Ok(Err(reason)) => reason,
        Err(_) => return -1,
    };
    // SAFETY: the call takes no memory.
    unsafe { srt::srt_setrejectreason(socket, c_int::try_from(reason).unwrap_or(0)) };
    -1
}

/// Whether a caller in its handshake says that it is a link of a group.
fn wants_group(socket: Number) -> bool {
    let (mut kind, mut length): (c_int, c_int) = (0, size_of::<c_int>() as c_int);
    let option = srt::SRT_SOCKOPT::SRTO_GROUPTYPE;
    // SAFETY: pointer and length describe `kind`, and both outlive the call.
    let result = unsafe { srt::srt_getsockflag(socket, option, (&raw mut kind).cast(), &raw mut length) };
    result == 0 && kind != 0
}

/// The group that a socket is a link of.
pub fn group_of(socket: Number) -> Option<Number> {
    // SAFETY: the call takes no memory.
    let group = unsafe { srt::srt_groupof(socket) };
    (group > 0).then_some(group)
}

/// Whether this is the number of a group of links.
pub fn is_group(number: Number) -> bool {
    number > 0 && number & srt::SRTGROUP_MASK != 0
}

/// Ends one link of a group, which goes on by the others.
pub fn close_link(socket: Number) {
    // One that is closed already is no news.
    let _ = SrtSocket { id: socket }.close();
}

/// An address of IPv4 or IPv6.
///
/// # Safety
/// `name` leads to a `sockaddr_in` or a `sockaddr_in6`, as its family says.
unsafe fn address_of(name: *const srt::sockaddr) -> SocketAddr {
    // SAFETY: both have their family at the beginning.
    let family = unsafe { name.cast::<libc::sa_family_t>().read_unaligned() };
    if c_int::from(family) == libc::AF_INET6 {
        // SAFETY: its family says that it is one.
        let name = unsafe { name.cast::<libc::sockaddr_in6>().read_unaligned() };
        let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
        return SocketAddr::new(IpAddr::V6(ip).to_canonical(), u16::from_be(name.sin6_port));
    }
    // SAFETY: its family says that it is one.
    let name = unsafe { name.cast::<libc::sockaddr_in>().read_unaligned() };
    let ip = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
    SocketAddr::new(ip.into(), u16::from_be(name.sin_port))
}

/// A socket, closed when it is dropped: the other side is told.
#[derive(Debug)]
pub struct Socket(SrtSocket);

impl Socket {
    /// Its number.
    pub fn number(&self) -> Number {
        self.0.id
    }

    /// The next message's length; `None` when there is none now. `buffer` has room for
    /// [`MESSAGE_BYTES_MAX`].
    ///
    /// # Errors
    /// The connection is over.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.0.recv(buffer) {
            Ok(length) => Ok(Some(length)),
            Err(SrtError::AsyncRcv) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a message of at most 1316 bytes; false when there is no room for it now.
    ///
    /// # Errors
    /// The connection is over.
    pub fn send(&self, message: &[u8]) -> io::Result<bool> {
        match self.0.send(message) {
            Ok(_) => Ok(true),
            Err(SrtError::AsyncSnd) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Where it is, here.
    ///
    /// # Errors
    /// It is nowhere.
    pub fn address(&self) -> io::Result<SocketAddr> {
        Ok(self.0.local_addr()?)
    }

    /// How long the packets that come are held back, and those that go.
    ///
    /// # Errors
    /// The connection is over.
    pub fn latencies(&self) -> io::Result<[Duration; 2]> {
        let latencies = [self.0.get_receive_latency()?, self.0.get_peer_latency()?];
        Ok(latencies.map(|millis| Duration::from_millis(u64::try_from(millis).unwrap_or(0))))
    }

    /// What it has counted since it began; `None` once the library has forgotten it.
    pub fn stats(&self) -> Option<Stats> {
        let mut all = Roomy::default();
        // SAFETY: the pointer leads to the library's struct, with room behind it for those of later versions. It only writes there.
        let result = unsafe { srt::srt_bstats(self.0.id, (&raw mut all).cast(), 0) };
        (result == 0).then(|| Stats::of(&all.stats))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // One that the library has closed already says so, which is no news.
        let _ = self.0.close();
    }
}

/// The library's struct with room for what later versions write behind it.
#[repr(C)]
#[derive(Default)]
struct Roomy {
    stats: srt::SRT_TRACEBSTATS,
    rest: [u64; 32],
}

/// What a socket has counted since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// There and back.
    pub rtt: Duration,
    /// Packets that came, with those that came again.
    pub received: u64,
    /// Packets that were seen to be missing.
    pub missing: u64,
    /// Missing packets that were sent once more and came.
    pub came_again: u64,
    /// Missing packets that the packet filter has made of others.
    pub rebuilt: u64,
    /// Packets that had not come when their time was there.
    pub lost: u64,
    /// Packets that came after their time.
    pub late: u64,
    /// Packets that no key opens.
    pub unreadable: u64,
    /// Packets that were sent, each counted once.
    pub sent: u64,
    /// Packets that were sent once more.
    pub sent_again: u64,
    /// Packets that were given up before they had arrived.
    pub given_up: u64,
    /// Packets that wait for their time.
    pub receive_buffer: u64,
    /// Packets that are kept until they have arrived.
    pub send_buffer: u64,
}

impl Stats {
    fn of(all: &srt::SRT_TRACEBSTATS) -> Stats {
        let count = |count: i64| u64::try_from(count).unwrap_or(0);
        // What is counted since the last look is counted since the beginning: nobody clears it.
        Stats {
            rtt: Duration::try_from_secs_f64(all.msRTT / 1000.0).unwrap_or_default(),
            // Of a group the library counts the first of these alone.
            received: count(all.pktRecvUniqueTotal.max(all.pktRecvTotal)),
            missing: count(all.pktRcvLossTotal.into()),
            came_again: count(all.pktRcvRetrans.into()),
            rebuilt: count(all.pktRcvFilterSupplyTotal.into()),
            lost: count(all.pktRcvDropTotal.into()),
            late: count(all.pktRcvBelated),
            unreadable: count(all.pktRcvUndecryptTotal.into()),
            sent: count(all.pktSentUniqueTotal),
            sent_again: count(all.pktRetransTotal.into()),
            given_up: count(all.pktSndDropTotal.into()),
            receive_buffer: count(all.pktRcvBuf.into()),
            send_buffer: count(all.pktSndBuf.into()),
        }
    }
}

/// Whether there is a socket of this number whose connection begins or stands.
pub fn is_there(number: Number) -> bool {
    // SAFETY: the call takes no memory.
    let state = unsafe { srt::srt_getsockstate(number) };
    (srt::SRT_SOCKSTATUS::SRTS_INIT.0..=srt::SRT_SOCKSTATUS::SRTS_CONNECTED.0).contains(&state.0)
}

/// The library's epoll: who can be received from, or accepted, or is gone.
pub struct Epoll {
    number: c_int,
    events: Vec<srt::SRT_EPOLL_EVENT>,
}

impl Epoll {
    /// Of no socket yet; it tells of so many at a time.
    ///
    /// # Errors
    /// The library cannot make one.
    pub fn new(events: usize) -> io::Result<Epoll> {
        begin()?;
        // SAFETY: the call takes no memory.
        let number = checked(unsafe { srt::srt_epoll_create() })?;
        let events = vec![srt::SRT_EPOLL_EVENT { fd: 0, events: 0 }; events];
        let epoll = Epoll { number, events };
        // SAFETY: the call takes no memory.
        checked(unsafe { srt::srt_epoll_set(number, MAY_BE_EMPTY) })?;
        Ok(epoll)
    }

    /// Looks at a socket from now on, for as long as it has something to be taken.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn add(&self, socket: &Socket) -> io::Result<()> {
        let events = srt::SRT_EPOLL_OPT::SRT_EPOLL_IN | srt::SRT_EPOLL_OPT::SRT_EPOLL_ERR;
        let events = events.0.cast_signed();
        // SAFETY: the pointer leads to `events`, which outlives the call; the library only reads it.
        checked(unsafe { srt::srt_epoll_add_usock(self.number, socket.number(), &raw const events) })
            .map(drop)
    }

    /// Looks at it no more.
    pub fn remove(&self, socket: &Socket) {
        // SAFETY: the call takes no memory. One that is gone is not in there.
        unsafe { srt::srt_epoll_remove_usock(self.number, socket.number()) };
    }

    /// Waits until something has come for a socket, or for so long. The numbers of those sockets.
    pub fn wait(&mut self, patience: Duration) -> impl Iterator<Item = Number> {
        let millis = i64::try_from(patience.as_millis()).unwrap_or(i64::MAX);
        let size = c_int::try_from(self.events.len()).unwrap_or(c_int::MAX);
        let events = self.events.as_mut_ptr();
        // SAFETY: pointer and length describe `events`, which outlive the call.
        let count = unsafe { srt::srt_epoll_uwait(self.number, events, size, millis) };
        // It tells how many there are, which may be more than there is room for.
        let count = usize::try_from(count).unwrap_or(0).min(self.events.len());
        self.events[..count].iter().map(|event| event.fd)
    }
}

/// Begins to use the library, once; what it has is given back when the process ends. Left to itself it frees it while threads of its
/// own go on, and now and then something twice.
fn begin() -> io::Result<()> {
    static BEGUN: Mutex<bool> = Mutex::new(false);
    let mut begun = BEGUN.lock().unwrap_or_else(PoisonError::into_inner);
    if !*begun {
        srt_rs::startup()?;
        // SAFETY: the call takes no memory.
        unsafe { srt::srt_setloglevel(LOG_CRIT) };
        // SAFETY: the function lives as long as the program. The library was loaded before this, so that what it does at the end
        // follows it.
        checked(unsafe { libc::atexit(end) })?;
        *begun = true;
    }
    Ok(())
}

/// Waits for the library's threads.
extern "C" fn end() {
    // SAFETY: the call takes no memory. Whoever still has a socket is told that there is none.
    unsafe { srt::srt_cleanup() };
}

impl Drop for Epoll {
    fn drop(&mut self) {
        // SAFETY: the call takes no memory.
        unsafe { srt::srt_epoll_release(self.number) };
    }
}

fn set<T: Copy>(socket: Number, option: srt::SRT_SOCKOPT, value: &T) -> io::Result<()> {
    let length = c_int::try_from(size_of::<T>()).unwrap_or(0);
    // SAFETY: pointer and length describe `value`, which outlives the call; the library only reads it.
    let result = unsafe { srt::srt_setsockflag(socket, option, std::ptr::from_ref(value).cast(), length) };
    checked(result).map(drop)
}

fn checked(value: c_int) -> io::Result<c_int> {
    if value >= 0 {
        return Ok(value);
    }
    // SAFETY: the call takes no memory.
    let text = unsafe { srt::srt_getlasterror_str() };
    // SAFETY: the library gives a string that ends in a zero and stays until the thread's next call.
    let text = unsafe { CStr::from_ptr(text) };
    Err(io::Error::other(text.to_string_lossy().into_owned()))
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, AtomicUsize, Ordering},
        },
        time::Instant,
    };

    use super::*;

    /// Looks until there is something, for a while that no machine needs.
    pub(super) fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "it does not come");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn callers_are_judged_by_what_they_say_and_messages_go_both_ways() {
        let asked = Arc::new(AtomicBool::new(false));
        let told = asked.clone();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut epoll = Epoll::new(4).unwrap();
        let listener = Listener::open(address, &epoll, move |caller| {
            told.store(true, Ordering::SeqCst);
            caller.set_latency(Duration::from_millis(333)).map_err(|_| 1500_u32)?;
            caller.set_passphrase("open sesame please").map_err(|_| 1500_u32)?;
            if caller.stream_id == b"read:live/cam" { Ok(()) } else { Err(1403) }
        })
        .unwrap();
        let port = listener.socket().address().unwrap().port();
        let call = |stream_id: &str, words: &str| {
            let caller = SrtSocket::new().unwrap();
            let (id, length) = (stream_id.as_ptr().cast(), stream_id.len() as c_int);
            // SAFETY: pointer and length describe the text, which outlives the call.
            let set = unsafe { srt::srt_setsockflag(caller.id, srt::SRT_SOCKOPT::SRTO_STREAMID, id, length) };
            checked(set).unwrap();
            caller.set_passphrase(words).unwrap();
            let connected = caller.connect((Ipv4Addr::LOCALHOST, port)).is_ok();
            // SAFETY: the call takes no memory.
            let reason = unsafe { srt::srt_getrejectreason(caller.id) };
            (Socket(caller), connected, reason)
        };
        assert!(matches!(call("publish:live/cam", "open sesame please"), (_, false, 1403)));
        assert!(asked.load(Ordering::SeqCst));
        let bad_secret = srt::SRT_REJECT_REASON::SRT_REJ_BADSECRET.0.cast_signed();
        let (_, connected, reason) = call("read:live/cam", "open something else");
        assert!(!connected && reason == bad_secret, "{reason}");
        let (caller, connected, _) = call("read:live/cam", "open sesame please");
        assert!(connected);
        let number = wait_for(|| epoll.wait(Duration::from_millis(100)).next());
        assert_eq!(number, listener.socket().number());
        let (socket, peer) = listener.accept().expect("the epoll says so");
        assert!(peer.ip().is_loopback() && is_there(socket.number()));
        epoll.add(&socket).unwrap();
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        assert!(matches!(socket.receive(&mut buffer), Ok(None)));
        caller.send(b"hello").unwrap();
        assert_eq!(wait_for(|| epoll.wait(Duration::from_millis(100)).next()), socket.number());
        assert_eq!(socket.receive(&mut buffer).unwrap(), Some(5));
        assert!(buffer.starts_with(b"hello"));
        assert!(socket.send(b"good day").unwrap());
        assert_eq!(wait_for(|| caller.receive(&mut buffer).unwrap()), 8);
        let stats = socket.stats().expect("it is there");
        assert_eq!((stats.received, stats.sent, stats.lost), (1, 1, 0));
        assert!(socket.latencies().unwrap() == [Duration::from_millis(333); 2]);
        drop(caller);
        wait_for(|| socket.receive(&mut buffer).is_err().then_some(()));
        wait_for(|| (!is_there(socket.number())).then_some(()));
    }

    #[test]
    fn links_of_a_group_are_accepted_as_one_where_the_library_has_groups() {
        let asked = Arc::new(AtomicUsize::new(0));
        let told = asked.clone();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = Listener::open(address, &Epoll::new(4).unwrap(), move |caller| {
            assert!(caller.in_group);
            told.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
        .unwrap();
        let mut name = listener.socket().address().map(|address| address.port()).map(|port| {
            let mut name = [0_u8; 16];
            name[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            name[2..4].copy_from_slice(&port.to_be_bytes());
            name[4..8].copy_from_slice(&[127, 0, 0, 1]);
            name
        });
        // SAFETY: the call takes no memory.
        let group = unsafe { srt::srt_create_group(srt::SRT_GTYPE_BROADCAST) };
        assert_eq!(listener.takes_groups(), group > 0);
        if group <= 0 {
            return;
        }
        let group = Socket(SrtSocket { id: group });
        let name = name.as_mut().unwrap().as_mut_ptr().cast();
        let mut links = [(); 2].map(|()| {
            // SAFETY: pointer and length describe `name`, which outlives the call; the library copies it.
            unsafe { srt::srt_prepare_endpoint(std::ptr::null(), name, 16) }
        });
        // SAFETY: pointer and length describe `links`, which outlive the call.
        let connected = unsafe { srt::srt_connect_group(group.number(), links.as_mut_ptr(), 2) };
        checked(connected).unwrap();
        wait_for(|| (asked.load(Ordering::SeqCst) == 2).then_some(()));
        let (accepted, _) = wait_for(|| listener.accept());
        assert!(is_group(accepted.number()) && !is_group(listener.socket().number()));
        wait_for(|| group.send(b"hello").unwrap().then_some(()));
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        assert_eq!(wait_for(|| accepted.receive(&mut buffer).unwrap()), 5);
        assert!(listener.accept().is_none() && group_of(links[0].id) == Some(group.number()));
        close_link(links[0].id);
        assert!(group.send(b"again").unwrap());
        assert_eq!(wait_for(|| accepted.receive(&mut buffer).unwrap()), 5);
        assert!(buffer.starts_with(b"again"));
    }
}
