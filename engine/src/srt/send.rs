//! The sending half of a connection: a stream is cut into packets, which are kept until they are acknowledged, sent again when they
//! are missed, and given up when they could only come too late. (draft-sharabayko-srt-01, 4.6 and 4.8)

use std::{collections::VecDeque, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    packet::{Data, HEADER_BYTES, MESSAGE_MASK, Parity, Report},
    receive::Rtt,
    secret::Keys,
    sequence::Sequence,
};
use crate::{limits, time::Now};

/// Bytes of payload in a packet: seven packets of MPEG-TS.
pub const PAYLOAD_BYTES: usize = 1316;
/// Bytes of a packet.
pub const PACKET_BYTES: usize = HEADER_BYTES + PAYLOAD_BYTES;
/// Bytes that may go at once. A receiver's socket has room for about 90 packets where nobody has set it up.
const BURST_BYTES: i64 = 64 * PACKET_BYTES as i64;
/// Bytes a second that go at least: a group that somebody joins in is there at once, and receivers keep up.
const RATE_MIN: u64 = 12_000_000;
/// Over how long the stream's own rate is measured.
const RATE_WINDOW: Duration = Duration::from_secs(1);
/// The least time that a packet is kept for, however short the latency. (4.6)
const KEPT_MIN: Duration = Duration::from_secs(1);
/// How long the last packets of a burst may stay unacknowledged, beyond what the way takes, until they are sent again.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_millis(40);
/// Packets that are sent again at once, for want of an acknowledgement.
const UNASKED_MAX: usize = 32;

/// The packets of one direction, from the first that is not acknowledged.
#[derive(Debug)]
pub struct Sender {
    base: Sequence,
    sent: VecDeque<Sent>,
    /// The number of the next packet's message.
    message: u32,
    /// The other side's socket.
    to: u32,
    /// How long a packet is of use.
    kept: Duration,
    /// Packets that the other side has room for, from `base` on, as it said last.
    room: usize,
    /// Missing packets that are to go again.
    wanted: VecDeque<Sequence>,
    pace: Pace,
    rtt: Rtt,
    pub packets: u64,
    pub again: u64,
    pub dropped: u64,
}

#[derive(Debug)]
struct Sent {
    /// The whole packet.
    packet: Bytes,
    made: Now,
    /// When it went last.
    went: Now,
    wanted: bool,
}

/// How fast packets may go.
#[derive(Debug)]
struct Pace {
    credit: i64,
    rate: u64,
    at: Now,
    /// Bytes since then, by which the rate is set.
    counted: u64,
    since: Now,
}

/// Packets of one size, but for the last: what goes out by one send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub bytes: Bytes,
    pub packet: usize,
}

impl Sender {
    /// For packets from `first` on to the other side's socket `to`, which hands each on `latency` after it was sent and has room
    /// for `window` of them.
    pub fn new(first: Sequence, to: u32, latency: Duration, window: u32, now: Now) -> Self {
        Sender {
            base: first,
            sent: VecDeque::new(),
            message: 1,
            to,
            kept: (latency + latency / 4).max(KEPT_MIN),
            room: (window as usize).clamp(2, limits::SRT_WINDOW_PACKETS),
            wanted: VecDeque::new(),
            pace: Pace { credit: BURST_BYTES, rate: RATE_MIN, at: now, counted: 0, since: now },
            rtt: Rtt::default(),
            packets: 0,
            again: 0,
            dropped: 0,
        }
    }

    /// Bytes of the stream that may be sent now.
    pub fn room(&mut self, now: Now) -> usize {
        self.pace.refill(now);
        let places = self.room.min(limits::SRT_WINDOW_PACKETS).saturating_sub(self.sent.len());
        let credit = usize::try_from(self.pace.credit).unwrap_or(0).div_ceil(PACKET_BYTES);
        places.min(credit) * PAYLOAD_BYTES
    }

    /// Cuts up what [`room`](Self::room) has room for. `timestamp` is the time on the connection's clock, in microseconds.
    pub fn send(
        &mut self,
        stream: &[u8],
        timestamp: u32,
        keys: Option<(&Keys, Parity)>,
        now: Now,
    ) -> Option<Batch> {
        let count = stream.len().div_ceil(PAYLOAD_BYTES);
        let mut out = BytesMut::with_capacity(stream.len() + count * HEADER_BYTES);
        let first = self.base.plus(self.sent.len() as u32);
        let key = keys.map(|(_, parity)| parity);
        for (sequence, payload) in (0..).map(|step| first.plus(step)).zip(stream.chunks(PAYLOAD_BYTES)) {
            let data = Data { sequence, key, again: false, timestamp, to: self.to, payload };
            data.write_header(self.message, &mut out);
            self.message = (self.message + 1) & MESSAGE_MASK;
            let start = out.len();
            out.put_slice(payload);
            if let (Some((keys, parity)), Some(payload)) = (keys, out.get_mut(start..)) {
                keys.apply(parity, sequence, payload);
            }
        }
        let bytes = out.freeze();
        self.pace.spend(bytes.len());
        self.packets += count as u64;
        for start in (0..bytes.len()).step_by(PACKET_BYTES) {
            let packet = bytes.slice(start..bytes.len().min(start + PACKET_BYTES));
            self.sent.push_back(Sent { packet, made: now, went: now, wanted: false });
        }
        (!bytes.is_empty()).then_some(Batch { bytes, packet: PACKET_BYTES })
    }

    /// Everything before `next` has arrived. False for a number that was never sent.
    pub fn acknowledged(&mut self, next: Sequence, report: Option<&Report>) -> bool {
        let arrived = next.since(self.base);
        if arrived > self.sent.len() as i32 {
            return false;
        }
        if let Ok(arrived) = usize::try_from(arrived) {
            self.sent.drain(..arrived);
            self.base = next;
        }
        if let Some(report) = report {
            self.rtt.hear(report);
            self.room = (report.room as usize).max(2);
        }
        true
    }

    /// These are missing at the other side. What is no longer kept comes back, for it to be told; false for numbers that were
    /// never sent.
    pub fn missed(
        &mut self,
        first: Sequence,
        last: Sequence,
        now: Now,
    ) -> (bool, Option<(Sequence, Sequence)>) {
        let (from, to) = (first.since(self.base), last.since(self.base));
        if to < from || to >= self.sent.len() as i32 {
            return (false, None);
        }
        let gone = (from < 0).then(|| (first, self.base.plus(to.min(-1).cast_unsigned())));
        let interval = Duration::from_micros(u64::from(self.rtt.mean) / 2);
        for place in from.max(0)..=to {
            let Some(sent) = self.sent.get_mut(place as usize) else { break };
            // The word may have been under way when it went again.
            if !sent.wanted && (sent.went == sent.made || now.since(sent.went) >= interval) {
                sent.wanted = true;
                self.wanted.push_back(self.base.plus(place as u32));
            }
        }
        (true, gone)
    }

    /// The next packet that is to go again.
    pub fn again(&mut self, now: Now) -> Option<Bytes> {
        self.pace.refill(now);
        while self.pace.credit > 0 {
            let sequence = self.wanted.pop_front()?;
            let place = usize::try_from(sequence.since(self.base)).ok();
            let Some(sent) = place.and_then(|place| self.sent.get_mut(place)) else { continue };
            (sent.wanted, sent.went) = (false, now);
            let mut packet = BytesMut::from(&sent.packet[..]);
            mark_again(&mut packet);
            self.pace.spend(packet.len());
            self.again += 1;
            return Some(packet.freeze());
        }
        None
    }

    /// Gives up what could only come too late, and looks for what nobody acknowledges.
    pub fn tick(&mut self, now: Now) {
        while self.sent.front().is_some_and(|sent| now.since(sent.made) >= self.kept) {
            self.sent.pop_front();
            self.base = self.base.plus(1);
            self.dropped += 1;
        }
        let patience = self.rtt.patience() + ACKNOWLEDGED_WITHIN;
        let silent = self.sent.iter().take_while(|sent| now.since(sent.went) >= patience);
        let silent = if self.wanted.is_empty() { silent.count().min(UNASKED_MAX) } else { 0 };
        for (place, sent) in self.sent.iter_mut().take(silent).enumerate() {
            sent.wanted = true;
            self.wanted.push_back(self.base.plus(place as u32));
        }
    }

    /// When [`tick`](Self::tick) or [`again`](Self::again) has something to do.
    pub fn deadline(&self, now: Now) -> Option<Now> {
        let oldest = self.sent.front()?;
        if !self.wanted.is_empty() {
            return Some(now.after(self.pace.wait()));
        }
        Some(oldest.went.after(self.rtt.patience() + ACKNOWLEDGED_WITHIN).min(oldest.made.after(self.kept)))
    }

    /// How long until there is [`room`](Self::room) for the stream again as far as the pace goes; `None` where it has room.
    pub fn pause(&self) -> Option<Duration> {
        (self.pace.credit <= 0).then(|| self.pace.wait())
    }

    /// How long there and back, as the other side has measured it.
    pub const fn rtt(&self) -> Rtt {
        self.rtt
    }

    /// Packets that are not acknowledged.
    pub fn held(&self) -> usize {
        self.sent.len()
    }
}

/// Says in a packet that it has been sent before.
fn mark_again(packet: &mut [u8]) {
    if let Some(byte) = packet.get_mut(4) {
        *byte |= 1 << 2;
    }
}

impl Pace {
    fn refill(&mut self, now: Now) {
        let passed = now.since(self.at);
        let earned = passed.as_nanos().min(1_000_000_000) as u64 * (self.rate / 1000) / 1_000_000;
        if earned > 0 {
            self.credit = (self.credit + earned as i64).min(BURST_BYTES);
            self.at = now;
        }
        let window = now.since(self.since);
        if window >= RATE_WINDOW {
            let measured = self.counted as f64 / window.as_secs_f64();
            self.rate = RATE_MIN.max((measured * 1.5) as u64);
            (self.counted, self.since) = (0, now);
        }
    }

    fn spend(&mut self, bytes: usize) {
        self.credit -= bytes as i64;
        self.counted += bytes as u64;
    }

    /// Until half a burst may go.
    fn wait(&self) -> Duration {
        let missing = (BURST_BYTES / 2 - self.credit).max(0) as u64;
        Duration::from_nanos(missing * 1_000_000 / (self.rate / 1000).max(1))
    }
}
