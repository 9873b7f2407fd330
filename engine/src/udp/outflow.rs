//! How fast and in which form a stream goes out by datagrams.
//!
//! Nobody says when it is too much, and the buffer of a receiver's socket holds some ninety datagrams as a rule. So a key frame,
//! and the group that somebody is sent who begins in its middle, go out a few datagrams each millisecond: [`Outflow`] says how
//! much of what waits goes now, and when the next may.
//!
//! Inside RTP each datagram has a number of its own and the time at which it was sent, which is what RFC 2250 wants there. They
//! are one receiver's, and so they are put before the shared packets as they go, and stand in no wire log.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::Outlet;
use crate::{mpegts::PACKET_BYTES, time::Now};

/// Bytes of packets in a datagram: as many as fit nearly everywhere.
const DATAGRAM_BYTES: usize = 7 * PACKET_BYTES;
/// What goes at once, and how long that is paid for: 84 Mbit/s.
const PORTION_BYTES: usize = 8 * DATAGRAM_BYTES;
const INTERVAL: Duration = Duration::from_millis(1);
/// A sixteenth of what waits goes at once where that is more, so that a stream of any rate is out in time.
const PORTIONS_MAX: usize = 16;
/// What is to be paid for may add up to this before anybody waits for it: a timer is dear.
const DEBT_MAX: Duration = Duration::from_micros(500);

/// Bytes before the packets: version 2, no padding, extension or other sources.
const RTP_HEAD_BYTES: usize = 12;
/// MPEG-2 transport streams (RFC 3551, 6).
const PAYLOAD_TYPE: u8 = 33;

/// The pace and the form of what one receiver is sent.
///
/// ```
/// use bytes::Bytes;
/// use shardcast_engine::{time::Now, udp::{Outflow, Outlet}};
///
/// let mut outflow = Outflow::new(&Outlet::parse("rtp://127.0.0.1:5000")?, 7);
/// let waiting = Bytes::from(vec![0x47; 20 * 188]);
/// let portion = outflow.next(&waiting, Now(0));
/// // Two datagrams of seven packets and one of six, each behind a head of RTP.
/// assert_eq!((portion.taken, portion.most, portion.bytes.len()), (20 * 188, 12 + 1316, 20 * 188 + 3 * 12));
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
#[derive(Debug)]
pub struct Outflow {
    numbers: Option<Numbers>,
    /// What has gone is paid for then.
    free: Now,
}

/// What RTP counts.
#[derive(Debug)]
struct Numbers {
    source: u32,
    next: u16,
}

/// What goes now.
#[derive(Debug, PartialEq, Eq)]
pub struct Portion {
    /// The datagrams, one behind the other.
    pub bytes: Bytes,
    /// Bytes of each, but for the last.
    pub most: usize,
    /// How much of what waits they are.
    pub taken: usize,
}

impl Outflow {
    /// For a receiver that nothing has been sent to. `random` decides where the numbers of RTP begin.
    pub fn new(outlet: &Outlet, random: u64) -> Self {
        let numbers = || Numbers { source: random as u32, next: (random >> 32) as u16 };
        Outflow { numbers: outlet.wrapped.then(numbers), free: Now(0) }
    }

    /// What of `waiting` goes now, which is not empty.
    pub fn next(&mut self, waiting: &Bytes, now: Now) -> Portion {
        let datagrams = (waiting.len() / PORTIONS_MAX).div_ceil(DATAGRAM_BYTES);
        let portion = PORTION_BYTES.max(datagrams * DATAGRAM_BYTES);
        let taken = waiting.len().min(portion);
        self.free = self.free.max(now).after(INTERVAL.mul_f64(taken as f64 / portion as f64));
        let packets = waiting.slice(..taken);
        match &mut self.numbers {
            None => Portion { bytes: packets, most: DATAGRAM_BYTES, taken },
            Some(numbers) => {
                Portion { bytes: numbers.wrap(&packets, now), most: RTP_HEAD_BYTES + DATAGRAM_BYTES, taken }
            }
        }
    }

    /// When the next may go, if not at once.
    pub fn rests_until(&self, now: Now) -> Option<Now> {
        (self.free > now.after(DEBT_MAX)).then_some(self.free)
    }
}

impl Numbers {
    /// Puts a head before each datagram. (RFC 3550, 5.1; RFC 2250, 2.1)
    fn wrap(&mut self, packets: &[u8], now: Now) -> Bytes {
        let time = (u128::from(now.0) * 9 / 100_000) as u32;
        let datagrams = packets.len().div_ceil(DATAGRAM_BYTES);
        let mut out = BytesMut::with_capacity(packets.len() + datagrams * RTP_HEAD_BYTES);
        for datagram in packets.chunks(DATAGRAM_BYTES) {
            out.put_u8(0x80);
            out.put_u8(PAYLOAD_TYPE);
            out.put_u16(self.next);
            out.put_u32(time);
            out.put_u32(self.source);
            out.put_slice(datagram);
            self.next = self.next.wrapping_add(1);
        }
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{mpegts::SYNC_BYTE, rtp::Packet};

    fn outflow(url: &str, random: u64) -> Outflow {
        Outflow::new(&Outlet::parse(url).unwrap(), random)
    }

    fn packets(count: usize) -> Bytes {
        let mut bytes = BytesMut::new();
        for number in 0..count {
            bytes.put_u8(SYNC_BYTE);
            bytes.put_bytes(number as u8, PACKET_BYTES - 1);
        }
        bytes.freeze()
    }

    /// Sends it all; gives the datagrams and how long it took.
    fn send(outflow: &mut Outflow, mut waiting: Bytes) -> (Vec<(Now, Bytes)>, Duration) {
        let (mut now, mut sent) = (Now(5_000_000_000), Vec::new());
        let begun = now;
        while !waiting.is_empty() {
            let portion = outflow.next(&waiting, now);
            let _ = waiting.split_to(portion.taken);
            sent.extend(portion.bytes.chunks(portion.most).map(|one| (now, Bytes::copy_from_slice(one))));
            now = outflow.rests_until(now).unwrap_or(now);
        }
        (sent, now.since(begun))
    }

    #[test]
    fn plain_datagrams_are_seven_packets_and_the_shared_bytes_themselves() {
        let waiting = packets(9);
        let portion = outflow("udp://127.0.0.1:1", 0).next(&waiting, Now(0));
        assert_eq!((portion.most, portion.taken), (1316, waiting.len()));
        assert_eq!(portion.bytes.as_ptr(), waiting.as_ptr());
    }

    #[test]
    fn inside_rtp_datagrams_are_numbered_and_dated_and_hold_the_same_packets() {
        let waiting = packets(200);
        // The number wraps on the way.
        let (sent, _) = send(&mut outflow("rtp://127.0.0.1:1", 65_530 << 32 | 0xabcd), waiting.clone());
        let mut joined = Vec::new();
        for ((at, datagram), number) in
            sent.iter().zip(65_530_u16..=65_535).chain(sent.iter().skip(6).zip(0..))
        {
            let packet = Packet::parse(datagram).unwrap();
            assert_eq!((packet.payload_type, packet.marker, packet.ssrc), (33, false, 0xabcd));
            assert_eq!((packet.sequence, packet.timestamp), (number, (at.0 / 100_000 * 9) as u32));
            assert!(packet.payload.len() <= 1316);
            joined.extend_from_slice(packet.payload);
        }
        assert_eq!(joined, waiting);
        assert_eq!(sent.len(), 200_usize.div_ceil(7));
    }

    #[test]
    fn a_burst_is_spread_and_what_is_little_goes_at_once() {
        let mut outflow = outflow("udp://127.0.0.1:1", 0);
        let (_, took) = send(&mut outflow, packets(14));
        assert_eq!(took, Duration::ZERO);
        // A key frame of 150 kB.
        let (sent, took) = send(&mut outflow, packets(800));
        assert!((10..20).contains(&took.as_millis()), "{took:?}");
        for window in sent.windows(24) {
            assert!(window[23].0.since(window[0].0) >= INTERVAL, "a socket holds what comes in a moment");
        }
        // A group of many small flushes is one burst, too.
        let mut now = Now(9_000_000_000);
        let begun = now;
        for _ in 0..400 {
            outflow.next(&packets(20), now);
            now = outflow.rests_until(now).unwrap_or(now);
        }
        let rate = 400.0 * 20.0 * 188.0 * 8.0 / now.since(begun).as_secs_f64();
        assert!((60e6..90e6).contains(&rate), "{rate}");
    }

    #[test]
    fn a_stream_of_any_rate_is_out_in_time() {
        // 40 ms of 800 Mbit/s.
        let (_, took) = send(&mut outflow("udp://127.0.0.1:1", 0), packets(4_000_000 / 188));
        assert!(took < Duration::from_millis(80), "{took:?}");
    }
}
