//! The other half: we call, with sockets that never wait. Each has a port of its own, and the library's options but for what is said.

use std::{ffi::c_int, io, net::SocketAddr, time::Duration};

use libsrt_sys as srt;
use srt_rs::SrtSocket;

use super::{Number, Socket, begin, checked};
use crate::address::RawAddress;

/// What is said to a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// What is wanted, 512 bytes at most; nothing is said where it is empty.
    pub stream_id: String,
    /// How long packets are held back at least, both ways.
    pub latency: Duration,
    /// How long it may take to be answered.
    pub patience: Duration,
    /// What encrypts both ways: 10 to 79 bytes.
    pub passphrase: Option<String>,
    /// Bytes of the key that is made of it: 16, 24 or 32.
    pub key_length: usize,
}

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has not been answered.
    Calling,
    /// It stands.
    Connected,
    /// It was not answered, or refused, or what stood is over. What came before is still to be had.
    Over,
}

impl Socket {
    /// Calls a listener. How that goes on, [`standing`](Socket::standing) says.
    ///
    /// # Errors
    /// The library takes no such stream id or passphrase, or there is no way to the address.
    pub fn call(address: SocketAddr, call: &Call) -> io::Result<Socket> {
        begin()?;
        let number = SrtSocket::new()?;
        let socket = Socket(number);
        number.set_receive_blocking(false)?;
        number.set_send_blocking(false)?;
        let millis = |time: Duration| i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        number.set_receive_latency(millis(call.latency))?;
        number.set_peer_latency(millis(call.latency))?;
        number.set_connection_timeout(millis(call.patience))?;
        if !call.stream_id.is_empty() {
            // The crate takes ids of 512 bytes alone.
            say(number.id, &call.stream_id)?;
        }
        if let Some(words) = &call.passphrase {
            number.set_passphrase(words)?;
            number.set_encryption_key_length(i32::try_from(call.key_length).unwrap_or(i32::MAX))?;
        }
        // The crate calls addresses of IPv6 by a socket that it forgets.
        let raw = RawAddress::new(&address);
        let length = c_int::try_from(raw.as_bytes().len()).unwrap_or(0);
        // SAFETY: pointer and length describe `raw`, which outlives the call; the library only reads it.
        checked(unsafe { srt::srt_connect(number.id, raw.as_bytes().as_ptr().cast(), length) })?;
        Ok(socket)
    }

    /// How far its call has come.
    pub fn standing(&self) -> Standing {
        // SAFETY: the call takes no memory.
        match unsafe { srt::srt_getsockstate(self.number()) } {
            srt::SRT_SOCKSTATUS::SRTS_INIT
            | srt::SRT_SOCKSTATUS::SRTS_OPENED
            | srt::SRT_SOCKSTATUS::SRTS_CONNECTING => Standing::Calling,
            srt::SRT_SOCKSTATUS::SRTS_CONNECTED => Standing::Connected,
            // Between calling and standing, for a moment that is long on a busy machine, the library calls it broken. One that is has a
            // reason, or says so among its events.
            srt::SRT_SOCKSTATUS::SRTS_BROKEN if self.reason() == 0 && !self.has_failed() => Standing::Calling,
            _ => Standing::Over,
        }
    }

    fn has_failed(&self) -> bool {
        let failed = srt::SRT_EPOLL_OPT::SRT_EPOLL_ERR;
        self.0.get_events().map_or(true, |events| events.0 & failed.0 != 0)
    }

    /// Why its call came to nothing, by the library's number: 1000 and more are the listener's own.
    pub fn reason(&self) -> u32 {
        // SAFETY: the call takes no memory.
        let reason = unsafe { srt::srt_getrejectreason(self.number()) };
        u32::try_from(reason).unwrap_or(0)
    }

    /// Whether there is something to be received: a message whose time has come, or that there will be none. Asking costs less than
    /// receiving nothing, for which the library throws and catches.
    pub fn has_something(&self) -> bool {
        let wanted = srt::SRT_EPOLL_OPT::SRT_EPOLL_IN | srt::SRT_EPOLL_OPT::SRT_EPOLL_ERR;
        // One that is gone says so when it is received from.
        self.0.get_events().map_or(true, |events| events.0 & wanted.0 != 0)
    }

    /// Messages that were sent and that the other side has not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        let (mut messages, mut bytes) = (0, 0);
        // The crate takes the result, which is a length of time, for a fault.
        // SAFETY: both pointers lead to what outlives the call.
        unsafe { srt::srt_getsndbuffer(self.number(), &raw mut messages, &raw mut bytes) };
        messages
    }
}

fn say(socket: Number, stream_id: &str) -> io::Result<()> {
    let length = c_int::try_from(stream_id.len()).unwrap_or(c_int::MAX);
    let option = srt::SRT_SOCKOPT::SRTO_STREAMID;
    // SAFETY: pointer and length describe the text, which outlives the call; the library only reads it.
    let result = unsafe { srt::srt_setsockflag(socket, option, stream_id.as_ptr().cast(), length) };
    checked(result).map(drop)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::{
        super::{Epoll, Listener, MESSAGE_BYTES_MAX, tests::wait_for},
        *,
    };

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn a_call_is_answered_or_refused_with_a_reason_and_never_waits() {
        let epoll = Epoll::new(4).unwrap();
        let listener = Listener::open((Ipv4Addr::LOCALHOST, 0).into(), &epoll, |caller| {
            caller.set_passphrase("open sesame please").map_err(|_| 1500_u32)?;
            if caller.stream_id == b"read:live/cam" { Ok(()) } else { Err(1404) }
        })
        .unwrap();
        let address = listener.socket().address().unwrap();
        let call = |stream_id: &str, words: &str| {
            let (stream_id, passphrase) = (stream_id.to_owned(), Some(words.to_owned()));
            let latency = Duration::from_millis(250);
            let call = Call { stream_id, latency, patience: PATIENCE, passphrase, key_length: 24 };
            Socket::call(address, &call).unwrap()
        };
        for (stream_id, words, reason) in [
            ("read:live/other", "open sesame please", 1404),
            ("", "open sesame please", 1404),
            ("read:live/cam", "open something else", srt::SRT_REJECT_REASON::SRT_REJ_BADSECRET.0),
        ] {
            let refused = call(stream_id, words);
            wait_for(|| (refused.standing() == Standing::Over).then_some(()));
            assert_eq!(refused.reason(), reason, "{stream_id} {words}");
        }
        let caller = call("read:live/cam", "open sesame please");
        let (accepted, _) = wait_for(|| listener.accept());
        wait_for(|| (caller.standing() == Standing::Connected).then_some(()));
        assert_eq!(accepted.latencies().unwrap(), [Duration::from_millis(250); 2]);
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        assert!(!caller.has_something());
        assert!(accepted.send(b"hello").unwrap());
        wait_for(|| caller.has_something().then_some(()));
        assert_eq!(caller.receive(&mut buffer).unwrap(), Some(5));
        assert!(!caller.has_something());
        assert!(caller.send(b"good day").unwrap());
        wait_for(|| (caller.unacknowledged() == 0).then_some(()));
        drop(accepted);
        wait_for(|| (caller.standing() == Standing::Over).then_some(()));
        assert!(caller.has_something() && caller.receive(&mut buffer).is_err());
        assert!(Socket::call(address, &Call { stream_id: "x".repeat(513), ..Call::default() }).is_err());
    }

    #[test]
    fn who_does_not_answer_is_waited_for_so_long() {
        let silent = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let call = Call { patience: Duration::from_millis(50), ..Call::default() };
        let caller = Socket::call(silent.local_addr().unwrap(), &call).unwrap();
        wait_for(|| (caller.standing() == Standing::Over).then_some(()));
        assert_eq!(caller.reason(), srt::SRT_REJECT_REASON::SRT_REJ_TIMEOUT.0);
    }

    #[test]
    fn a_listener_is_called_by_ipv6_too() {
        let any = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
        // A machine without IPv6 has nothing to call.
        let Ok(listener) = Listener::open(any, &Epoll::new(4).unwrap(), |_| Ok(())) else { return };
        let address = listener.socket().address().unwrap();
        let caller = Socket::call(address, &Call { patience: PATIENCE, ..Call::default() }).unwrap();
        let (_accepted, peer) = wait_for(|| listener.accept());
        assert!(peer.is_ipv6());
        wait_for(|| (caller.standing() == Standing::Connected).then_some(()));
    }
}
