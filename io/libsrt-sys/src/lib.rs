//! What is called of the system's libsrt 1.5, as `srt/srt.h` declares it, with the names by which the crate `srt-rs` calls for it.
//!
//! Declarations alone. Written by hand, so that a build needs the library and neither its headers nor a C compiler's parser.
#![no_std]
// The library's own names, which srt-rs asks for.
#![allow(non_camel_case_types)]

use core::ffi::{c_char, c_double, c_int, c_uint, c_void};

/// The system's address of a socket, which is only pointed to here.
#[repr(C)]
pub struct sockaddr {
    _opaque: [u8; 0],
}

/// A socket's number.
pub type SRTSOCKET = i32;

/// An enum of C: any number may come, and some have names.
macro_rules! numbers {
    ($(#[doc = $doc:literal])+ $name:ident: $kind:ty { $($item:ident = $value:expr,)+ }) => {
        $(#[doc = $doc])+
        #[repr(transparent)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub $kind);

        impl $name {
            $(
                /// As its name says.
                pub const $item: $name = $name($value);
            )+
        }
    };
}

numbers! {
    /// An option of a socket.
    SRT_SOCKOPT: c_uint {
        SRTO_MSS = 0,
        SRTO_SNDSYN = 1,
        SRTO_RCVSYN = 2,
        SRTO_ISN = 3,
        SRTO_FC = 4,
        SRTO_SNDBUF = 5,
        SRTO_RCVBUF = 6,
        SRTO_LINGER = 7,
        SRTO_UDP_SNDBUF = 8,
        SRTO_UDP_RCVBUF = 9,
        SRTO_RENDEZVOUS = 12,
        SRTO_SNDTIMEO = 13,
        SRTO_RCVTIMEO = 14,
        SRTO_REUSEADDR = 15,
        SRTO_MAXBW = 16,
        SRTO_STATE = 17,
        SRTO_EVENT = 18,
        SRTO_SNDDATA = 19,
        SRTO_RCVDATA = 20,
        SRTO_TSBPDMODE = 22,
        SRTO_INPUTBW = 24,
        SRTO_OHEADBW = 25,
        SRTO_PASSPHRASE = 26,
        SRTO_PBKEYLEN = 27,
        SRTO_IPTTL = 29,
        SRTO_IPTOS = 30,
        SRTO_TLPKTDROP = 31,
        SRTO_SNDDROPDELAY = 32,
        SRTO_NAKREPORT = 33,
        SRTO_VERSION = 34,
        SRTO_PEERVERSION = 35,
        SRTO_CONNTIMEO = 36,
        SRTO_DRIFTTRACER = 37,
        SRTO_MININPUTBW = 38,
        SRTO_SNDKMSTATE = 40,
        SRTO_RCVKMSTATE = 41,
        SRTO_LOSSMAXTTL = 42,
        SRTO_RCVLATENCY = 43,
        SRTO_PEERLATENCY = 44,
        SRTO_MINVERSION = 45,
        SRTO_STREAMID = 46,
        SRTO_CONGESTION = 47,
        SRTO_MESSAGEAPI = 48,
        SRTO_PAYLOADSIZE = 49,
        SRTO_TRANSTYPE = 50,
        SRTO_KMREFRESHRATE = 51,
        SRTO_KMPREANNOUNCE = 52,
        SRTO_ENFORCEDENCRYPTION = 53,
        SRTO_IPV6ONLY = 54,
        SRTO_PEERIDLETIMEO = 55,
        SRTO_BINDTODEVICE = 56,
        SRTO_GROUPCONNECT = 57,
        SRTO_GROUPTYPE = 59,
        SRTO_PACKETFILTER = 60,
        SRTO_RETRANSMITALGO = 61,
    }
}

numbers! {
    /// What went wrong.
    SRT_ERRNO: c_int {
        SRT_EUNKNOWN = -1,
        SRT_SUCCESS = 0,
        SRT_ECONNSETUP = 1000,
        SRT_ENOSERVER = 1001,
        SRT_ECONNREJ = 1002,
        SRT_ESOCKFAIL = 1003,
        SRT_ESECFAIL = 1004,
        SRT_ESCLOSED = 1005,
        SRT_ECONNFAIL = 2000,
        SRT_ECONNLOST = 2001,
        SRT_ENOCONN = 2002,
        SRT_ERESOURCE = 3000,
        SRT_ETHREAD = 3001,
        SRT_ENOBUF = 3002,
        SRT_ESYSOBJ = 3003,
        SRT_EFILE = 4000,
        SRT_EINVRDOFF = 4001,
        SRT_ERDPERM = 4002,
        SRT_EINVWROFF = 4003,
        SRT_EWRPERM = 4004,
        SRT_EINVOP = 5000,
        SRT_EBOUNDSOCK = 5001,
        SRT_ECONNSOCK = 5002,
        SRT_EINVPARAM = 5003,
        SRT_EINVSOCK = 5004,
        SRT_EUNBOUNDSOCK = 5005,
        SRT_ENOLISTEN = 5006,
        SRT_ERDVNOSERV = 5007,
        SRT_ERDVUNBOUND = 5008,
        SRT_EINVALMSGAPI = 5009,
        SRT_EINVALBUFFERAPI = 5010,
        SRT_EDUPLISTEN = 5011,
        SRT_ELARGEMSG = 5012,
        SRT_EINVPOLLID = 5013,
        SRT_EPOLLEMPTY = 5014,
        SRT_EBINDCONFLICT = 5015,
        SRT_EASYNCFAIL = 6000,
        SRT_EASYNCSND = 6001,
        SRT_EASYNCRCV = 6002,
        SRT_ETIMEOUT = 6003,
        SRT_ECONGEST = 6004,
        SRT_EPEERERR = 7000,
    }
}

numbers! {
    /// Why a caller was refused.
    SRT_REJECT_REASON: c_uint {
        SRT_REJ_UNKNOWN = 0,
        SRT_REJ_SYSTEM = 1,
        SRT_REJ_PEER = 2,
        SRT_REJ_RESOURCE = 3,
        SRT_REJ_ROGUE = 4,
        SRT_REJ_BACKLOG = 5,
        SRT_REJ_IPE = 6,
        SRT_REJ_CLOSE = 7,
        SRT_REJ_VERSION = 8,
        SRT_REJ_RDVCOOKIE = 9,
        SRT_REJ_BADSECRET = 10,
        SRT_REJ_UNSECURE = 11,
        SRT_REJ_MESSAGEAPI = 12,
        SRT_REJ_CONGESTION = 13,
        SRT_REJ_FILTER = 14,
        SRT_REJ_GROUP = 15,
        SRT_REJ_TIMEOUT = 16,
    }
}

numbers! {
    /// What a socket is at.
    SRT_SOCKSTATUS: c_uint {
        SRTS_INIT = 1,
        SRTS_OPENED = 2,
        SRTS_LISTENING = 3,
        SRTS_CONNECTING = 4,
        SRTS_CONNECTED = 5,
        SRTS_BROKEN = 6,
        SRTS_CLOSING = 7,
        SRTS_CLOSED = 8,
        SRTS_NONEXIST = 9,
    }
}

numbers! {
    /// Live or file.
    SRT_TRANSTYPE: c_uint {
        SRTT_LIVE = 0,
        SRTT_FILE = 1,
        SRTT_INVALID = 2,
    }
}

numbers! {
    /// What an epoll looks for.
    SRT_EPOLL_OPT: c_uint {
        SRT_EPOLL_IN = 0x1,
        SRT_EPOLL_OUT = 0x4,
        SRT_EPOLL_ERR = 0x8,
    }
}

impl core::ops::BitOr for SRT_EPOLL_OPT {
    type Output = SRT_EPOLL_OPT;
    fn bitor(self, other: SRT_EPOLL_OPT) -> SRT_EPOLL_OPT {
        SRT_EPOLL_OPT(self.0 | other.0)
    }
}

/// What an epoll says of a socket.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SRT_EPOLL_EVENT {
    /// The socket.
    pub fd: SRTSOCKET,
    /// Bits of [`SRT_EPOLL_OPT`].
    pub events: c_int,
}

/// A link of a group that is to be called.
#[repr(C)]
pub struct SRT_SOCKGROUPCONFIG {
    /// The socket, once there is one.
    pub id: SRTSOCKET,
    /// Two of the system's `sockaddr_storage`: from where, and to where.
    pub addresses: [[u64; 16]; 2],
    /// How much it is preferred.
    pub weight: u16,
    /// Options of its own.
    pub config: *mut c_void,
    /// What went wrong.
    pub errorcode: c_int,
    /// The caller's own word for it.
    pub token: c_int,
}

/// A group each link of which carries all.
pub const SRT_GTYPE_BROADCAST: c_uint = 1;
/// The bit by which the number of a group is told from that of a socket.
pub const SRTGROUP_MASK: SRTSOCKET = 1 << 30;

/// What a socket has counted.
#[repr(C)]
// The library's own names.
#[allow(non_snake_case)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SRT_TRACEBSTATS {
    /// Time since the UDT entity is started, in milliseconds.
    pub msTimeStamp: i64,
    /// Total number of sent data packets, including retransmissions.
    pub pktSentTotal: i64,
    /// Total number of received packets.
    pub pktRecvTotal: i64,
    /// Total number of lost packets (sender side).
    pub pktSndLossTotal: c_int,
    /// Total number of lost packets (receiver side).
    pub pktRcvLossTotal: c_int,
    /// Total number of retransmitted packets.
    pub pktRetransTotal: c_int,
    /// Total number of sent ACK packets.
    pub pktSentACKTotal: c_int,
    /// Total number of received ACK packets.
    pub pktRecvACKTotal: c_int,
    /// Total number of sent NAK packets.
    pub pktSentNAKTotal: c_int,
    /// Total number of received NAK packets.
    pub pktRecvNAKTotal: c_int,
    /// Total time duration when UDT is sending data (idle time exclusive).
    pub usSndDurationTotal: i64,
    /// Number of too-late-to-send dropped packets.
    pub pktSndDropTotal: c_int,
    /// Number of too-late-to play missing packets.
    pub pktRcvDropTotal: c_int,
    /// Number of undecrypted packets.
    pub pktRcvUndecryptTotal: c_int,
    /// Total number of sent data bytes, including retransmissions.
    pub byteSentTotal: u64,
    /// Total number of received bytes.
    pub byteRecvTotal: u64,
    /// Total number of lost bytes.
    pub byteRcvLossTotal: u64,
    /// Total number of retransmitted bytes.
    pub byteRetransTotal: u64,
    /// Number of too-late-to-send dropped bytes.
    pub byteSndDropTotal: u64,
    /// Number of too-late-to play missing bytes (estimate based on average packet size).
    pub byteRcvDropTotal: u64,
    /// Number of undecrypted bytes.
    pub byteRcvUndecryptTotal: u64,
    /// Number of sent data packets, including retransmissions.
    pub pktSent: i64,
    /// Number of received packets.
    pub pktRecv: i64,
    /// Number of lost packets (sender side).
    pub pktSndLoss: c_int,
    /// Number of lost packets (receiver side).
    pub pktRcvLoss: c_int,
    /// Number of retransmitted packets.
    pub pktRetrans: c_int,
    /// Number of retransmitted packets received.
    pub pktRcvRetrans: c_int,
    /// Number of sent ACK packets.
    pub pktSentACK: c_int,
    /// Number of received ACK packets.
    pub pktRecvACK: c_int,
    /// Number of sent NAK packets.
    pub pktSentNAK: c_int,
    /// Number of received NAK packets.
    pub pktRecvNAK: c_int,
    /// Sending rate in Mb/s.
    pub mbpsSendRate: c_double,
    /// Receiving rate in Mb/s.
    pub mbpsRecvRate: c_double,
    /// Busy sending time (i.e., idle time exclusive).
    pub usSndDuration: i64,
    /// Size of order discrepancy in received sequences.
    pub pktReorderDistance: c_int,
    /// Average time of packet delay for belated packets (packets with sequence past the ACK).
    pub pktRcvAvgBelatedTime: c_double,
    /// Number of received AND IGNORED packets due to having come too late.
    pub pktRcvBelated: i64,
    /// Number of too-late-to-send dropped packets.
    pub pktSndDrop: c_int,
    /// Number of too-late-to play missing packets.
    pub pktRcvDrop: c_int,
    /// Number of undecrypted packets.
    pub pktRcvUndecrypt: c_int,
    /// Number of sent data bytes, including retransmissions.
    pub byteSent: u64,
    /// Number of received bytes.
    pub byteRecv: u64,
    /// Number of retransmitted bytes.
    pub byteRcvLoss: u64,
    /// Number of retransmitted bytes.
    pub byteRetrans: u64,
    /// Number of too-late-to-send dropped bytes.
    pub byteSndDrop: u64,
    /// Number of too-late-to play missing bytes (estimate based on average packet size).
    pub byteRcvDrop: u64,
    /// Number of undecrypted bytes.
    pub byteRcvUndecrypt: u64,
    /// Packet sending period, in microseconds.
    pub usPktSndPeriod: c_double,
    /// Flow window size, in number of packets.
    pub pktFlowWindow: c_int,
    /// Congestion window size, in number of packets.
    pub pktCongestionWindow: c_int,
    /// Number of packets on flight.
    pub pktFlightSize: c_int,
    /// RTT, in milliseconds.
    pub msRTT: c_double,
    /// Estimated bandwidth, in Mb/s.
    pub mbpsBandwidth: c_double,
    /// Available UDT sender buffer size.
    pub byteAvailSndBuf: c_int,
    /// Available UDT receiver buffer size.
    pub byteAvailRcvBuf: c_int,
    /// Transmit Bandwidth ceiling (Mbps).
    pub mbpsMaxBW: c_double,
    /// MTU.
    pub byteMSS: c_int,
    /// UnACKed packets in UDT sender.
    pub pktSndBuf: c_int,
    /// UnACKed bytes in UDT sender.
    pub byteSndBuf: c_int,
    /// UnACKed timespan (msec) of UDT sender.
    pub msSndBuf: c_int,
    /// Timestamp-based Packet Delivery Delay.
    pub msSndTsbPdDelay: c_int,
    /// Undelivered packets in UDT receiver.
    pub pktRcvBuf: c_int,
    /// Undelivered bytes of UDT receiver.
    pub byteRcvBuf: c_int,
    /// Undelivered timespan (msec) of UDT receiver.
    pub msRcvBuf: c_int,
    /// Timestamp-based Packet Delivery Delay.
    pub msRcvTsbPdDelay: c_int,
    /// Number of control packets supplied by packet filter.
    pub pktSndFilterExtraTotal: c_int,
    /// Number of control packets received and not supplied back.
    pub pktRcvFilterExtraTotal: c_int,
    /// Number of packets that the filter supplied extra (e.g. FEC rebuilt).
    pub pktRcvFilterSupplyTotal: c_int,
    /// Number of packet loss not coverable by filter.
    pub pktRcvFilterLossTotal: c_int,
    /// Number of control packets supplied by packet filter.
    pub pktSndFilterExtra: c_int,
    /// Number of control packets received and not supplied back.
    pub pktRcvFilterExtra: c_int,
    /// Number of packets that the filter supplied extra (e.g. FEC rebuilt).
    pub pktRcvFilterSupply: c_int,
    /// Number of packet loss not coverable by filter.
    pub pktRcvFilterLoss: c_int,
    /// Packet reorder tolerance value.
    pub pktReorderTolerance: c_int,
    /// Total number of data packets sent by the application.
    pub pktSentUniqueTotal: i64,
    /// Total number of packets to be received by the application.
    pub pktRecvUniqueTotal: i64,
    /// Total number of data bytes, sent by the application.
    pub byteSentUniqueTotal: u64,
    /// Total number of data bytes to be received by the application.
    pub byteRecvUniqueTotal: u64,
    /// Number of data packets sent by the application.
    pub pktSentUnique: i64,
    /// Number of packets to be received by the application.
    pub pktRecvUnique: i64,
    /// Number of data bytes, sent by the application.
    pub byteSentUnique: u64,
    /// Number of data bytes to be received by the application.
    pub byteRecvUnique: u64,
}

/// Asked by a listener about each caller, on a thread of the library: its opaque word, the new socket, the version of the handshake,
/// where the caller is, and its stream id, which ends in a zero. -1 refuses it.
pub type srt_listen_callback_fn =
    unsafe extern "C" fn(*mut c_void, SRTSOCKET, c_int, *const sockaddr, *const c_char) -> c_int;

#[link(name = "srt")]
unsafe extern "C" {
    /// As `srt/srt.h` says.
    pub fn srt_startup() -> c_int;
    /// As `srt/srt.h` says.
    pub fn srt_cleanup() -> c_int;
    /// As `srt/srt.h` says.
    pub fn srt_create_socket() -> SRTSOCKET;
    /// As `srt/srt.h` says.
    pub fn srt_bind(socket: SRTSOCKET, name: *const sockaddr, length: c_int) -> c_int;
    /// As `srt/srt.h` says.
    pub fn srt_listen(socket: SRTSOCKET, backlog: c_int) -> c_int;
    /// As `srt/srt.h` says.
    pub fn srt_accept(socket: SRTSOCKET, name: *mut sockaddr, length: *mut c_int) -> SRTSOCKET;
    /// As `srt/srt.h` says.
    pub fn srt_listen_callback(socket: SRTSOCKET, hook: srt_listen_callback_fn, opaque: *mut c_void)
    -> c_int;
    /// As `srt/srt.h` says.
    pub fn srt_connect(socket: SRTSOCKET, name: *const sockaddr, length: c_int) -> c_int;
    /// As `srt/srt.h` says.
    pub fn srt_rendezvous(
        socket: SRTSOCKET,
        local: *const sockaddr,
        local_length: c_int,
        remote: *const sockaddr,
        remote_length: c_int,
    ) -> c_int;
    /// As `srt/srt.h` says.
    pub fn srt_close(socket: SRTSOCKET) -> c_int;
    /// As `srt/srt.h` says.
    pub fn srt_getpeername(socket: SRTSOCKET, name: *mut sockaddr, length: *mut c_int) -> c_int;
    /// As `srt/srt.h` says.
    pub fn srt_getsockname(socket: SRTSOCKET, name: *mut sockaddr, length: *mut c_int) -> c_int;
    /// As `srt/srt.h` says.
    pub fn srt_getsockflag(
        socket: SRTSOCKET,
        option: SRT_SOCKOPT,
        value: *mut c_void,
        length: *mut c_int,
    ) -> c_int;
    /// As `srt/srt.h` says.
    pub fn srt_setsockflag(
        socket: SRTSOCKET,
        option: SRT_SOCKOPT,
        value: *const c_void,
        length: c_int,
    ) -> c_int;
    /// As `srt/srt.h` says.
    pub fn srt_send(socket: SRTSOCKET, bytes: *const c_char, length: c_int) -> c_int;
    /// As `srt/srt.h` says.
    pub fn srt_recv(socket: SRTSOCKET, bytes: *mut c_char, length: c_int) -> c_int;
    /// As `srt/srt.h` says.
    pub fn srt_getlasterror(errno: *mut c_int) -> c_int;
    /// As `srt/srt.h` says.
    pub fn srt_getlasterror_str() -> *const c_char;
    /// As `srt/srt.h` says.
    pub fn srt_bstats(socket: SRTSOCKET, stats: *mut SRT_TRACEBSTATS, clear: c_int) -> c_int;
    /// As `srt/srt.h` says.
    pub fn srt_getsockstate(socket: SRTSOCKET) -> SRT_SOCKSTATUS;
    /// As `srt/srt.h` says.
    pub fn srt_getsndbuffer(socket: SRTSOCKET, blocks: *mut usize, bytes: *mut usize) -> c_int;
    /// As `srt/srt.h` says.
    pub fn srt_getrejectreason(socket: SRTSOCKET) -> c_int;
    /// As `srt/srt.h` says.
    pub fn srt_setrejectreason(socket: SRTSOCKET, reason: c_int) -> c_int;
    /// As `srt/srt.h` says.
    pub fn srt_epoll_create() -> c_int;
    /// As `srt/srt.h` says.
    pub fn srt_epoll_clear_usocks(epoll: c_int) -> c_int;
    /// As `srt/srt.h` says.
    pub fn srt_epoll_add_usock(epoll: c_int, socket: SRTSOCKET, events: *const c_int) -> c_int;
    /// As `srt/srt.h` says.
    pub fn srt_epoll_remove_usock(epoll: c_int, socket: SRTSOCKET) -> c_int;
    /// As `srt/srt.h` says.
    pub fn srt_epoll_update_usock(epoll: c_int, socket: SRTSOCKET, events: *const c_int) -> c_int;
    /// As `srt/srt.h` says.
    pub fn srt_epoll_uwait(
        epoll: c_int,
        events: *mut SRT_EPOLL_EVENT,
        size: c_int,
        milliseconds: i64,
    ) -> c_int;
    /// As `srt/srt.h` says.
    pub fn srt_epoll_set(epoll: c_int, flags: i32) -> i32;
    /// As `srt/srt.h` says.
    pub fn srt_epoll_release(epoll: c_int) -> c_int;
    /// As `srt/srt.h` says.
    pub fn srt_groupof(socket: SRTSOCKET) -> SRTSOCKET;
    /// As `srt/srt.h` says.
    pub fn srt_create_group(kind: c_uint) -> SRTSOCKET;
    /// As `srt/srt.h` says.
    pub fn srt_prepare_endpoint(
        source: *const sockaddr,
        address: *const sockaddr,
        length: c_int,
    ) -> SRT_SOCKGROUPCONFIG;
    /// As `srt/srt.h` says.
    pub fn srt_connect_group(group: SRTSOCKET, links: *mut SRT_SOCKGROUPCONFIG, count: c_int) -> c_int;
    /// As `srt/srt.h` says.
    pub fn srt_setloglevel(level: c_int);
}

// What the library of 1.5 writes. Later ones may write more behind it: leave them room.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<SRT_TRACEBSTATS>() == 496);
