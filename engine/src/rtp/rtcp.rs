//! RTCP (RFC 3550, 6): which time of a track is which on its sender's clock, and what has come of what was sent.

use bytes::{BufMut, BytesMut};

use crate::{
    bits::Reader,
    error::Error,
    time::{Now, Wall},
};

/// A time as NTP writes it: seconds since 1900 in the upper half, their fraction in the lower. (RFC 5905, 6)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NtpTime(pub u64);

/// Seconds from 1900 to 1970.
const SECONDS_TO_1970: u64 = 2_208_988_800;
const NANOS: u64 = 1_000_000_000;

impl NtpTime {
    /// Nanoseconds since 1900.
    pub const fn as_nanos(self) -> i64 {
        let (seconds, fraction) = (self.0 >> 32, self.0 & 0xffff_ffff);
        (seconds * NANOS + ((fraction * NANOS) >> 32)) as i64
    }

    /// The 32 bits in the middle, which receivers send back.
    pub const fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

impl From<Wall> for NtpTime {
    fn from(wall: Wall) -> Self {
        let (seconds, nanos) = (wall.0 / NANOS, wall.0 % NANOS);
        // It wraps in 2036, as its readers know. (RFC 3550, 4)
        NtpTime((seconds.wrapping_add(SECONDS_TO_1970) << 32) | ((nanos << 32) / NANOS))
    }
}

/// What a sender says of a track. (RFC 3550, 6.4.1)
///
/// ```
/// use bytes::BytesMut;
/// use shardcast_engine::{rtp::rtcp::{NtpTime, SenderReport, sender_reports}, time::Wall};
///
/// let report = SenderReport { ssrc: 7, ntp: Wall(1_500_000_000).into(), timestamp: 90_000, packets: 3, octets: 900 };
/// let mut bytes = BytesMut::new();
/// report.write(&mut bytes);
/// assert_eq!(bytes.len(), SenderReport::BYTES);
/// assert_eq!(sender_reports(&bytes).collect::<Vec<_>>(), [report]);
/// assert_eq!(report.ntp, NtpTime(2_208_988_801 << 32 | 1 << 31));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderReport {
    /// Whose packets.
    pub ssrc: u32,
    /// A time of the sender's clock.
    pub ntp: NtpTime,
    /// The same time, as the packets have it.
    pub timestamp: u32,
    /// Packets sent so far.
    pub packets: u32,
    /// Bytes of payload sent so far.
    pub octets: u32,
}

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
/// What stands for this server in a report.
const NAME: &[u8; 9] = b"shardcast";

impl SenderReport {
    /// Bytes that [`write`](Self::write) appends.
    pub const BYTES: usize = 28 + DESCRIPTION_BYTES;

    /// Appends it, with the name of the source that must stand behind it.
    pub fn write(&self, out: &mut BytesMut) {
        out.put_slice(&[0x80, SENDER_REPORT, 0, 6]);
        out.put_u32(self.ssrc);
        out.put_u64(self.ntp.0);
        out.put_u32(self.timestamp);
        out.put_u32(self.packets);
        out.put_u32(self.octets);
        write_description(self.ssrc, out);
    }
}

/// Bytes of the source's description: head, source, one item and the end.
const DESCRIPTION_BYTES: usize = 20;

/// The source's name. (RFC 3550, 6.5.1)
fn write_description(ssrc: u32, out: &mut BytesMut) {
    out.put_slice(&[0x81, SOURCE_DESCRIPTION, 0, 4]);
    out.put_u32(ssrc);
    out.put_slice(&[1, NAME.len() as u8]);
    out.put_slice(NAME);
    out.put_u8(0);
}

/// Says that a source has gone, behind the report that must stand first. (RFC 3550, 6.1 and 6.6)
pub fn goodbye(ssrc: u32) -> [u8; 16] {
    let [a, b, c, d] = ssrc.to_be_bytes();
    [0x80, RECEIVER_REPORT, 0, 1, a, b, c, d, 0x81, GOODBYE, 0, 1, a, b, c, d]
}

/// Whether a datagram is a report of somebody who sends or receives, which stands first in whatever is said by RTCP. (RFC 3550, 6.1)
pub fn is_report(bytes: &[u8]) -> bool {
    matches!(bytes, [first, SENDER_REPORT | RECEIVER_REPORT, _, _, ..] if first >> 6 == 2)
}

/// The sender reports in a compound packet; whatever else is in it, and what follows the first thing that is broken, is passed
/// over.
pub fn sender_reports(bytes: &[u8]) -> impl Iterator<Item = SenderReport> {
    let mut reader = Reader::new(bytes);
    std::iter::from_fn(move || {
        while !reader.is_empty() {
            if let Some(report) = next(&mut reader).ok()? {
                return Some(report);
            }
        }
        None
    })
}

fn next(reader: &mut Reader<'_>) -> Result<Option<SenderReport>, Error> {
    let (at, first) = (reader.position() as u64, reader.u8("head of an RTCP packet")?);
    if first >> 6 != 2 {
        return Err(Error::malformed("not RTCP of version 2", at));
    }
    let kind = reader.u8("type of an RTCP packet")?;
    let words = reader.u16("length of an RTCP packet")?;
    let mut body = Reader::new(reader.take(4 * usize::from(words), "RTCP packet")?);
    if kind != SENDER_REPORT {
        return Ok(None);
    }
    Ok(Some(SenderReport {
        ssrc: body.u32("source")?,
        ntp: NtpTime(body.u64("NTP timestamp")?),
        timestamp: body.u32("RTP timestamp")?,
        packets: body.u32("count of packets")?,
        octets: body.u32("count of bytes")?,
    }))
}

/// What has come of a sender's packets, for reports to it. (RFC 3550, 6.4.2 and appendix A)
#[derive(Clone, Copy, Debug, Default)]
pub struct Reception {
    ssrc: Option<u32>,
    /// The first number, the highest one, and how often numbers wrapped.
    first: u32,
    highest: u32,
    received: u32,
    /// What was expected and received when the last report was made.
    reported: (u32, u32),
    /// In ticks, sixteen times.
    jitter: u32,
    transit: Option<i64>,
    /// When the sender last said which time it is, and what it said.
    heard: Option<(NtpTime, Now)>,
}

/// A number that lies further behind begins the count anew.
const BEHIND_MAX: u16 = 100;

impl Reception {
    /// Takes note of a packet.
    pub fn packet(&mut self, packet: &super::Packet<'_>, clock_rate: u32, now: Now) {
        let sequence = packet.sequence;
        if self.ssrc != Some(packet.ssrc) {
            let first = u32::from(sequence);
            *self = Reception { ssrc: Some(packet.ssrc), first, highest: first, ..Reception::default() };
        }
        self.received = self.received.wrapping_add(1);
        let ahead = sequence.wrapping_sub(self.highest as u16);
        if ahead < u16::MAX - BEHIND_MAX {
            self.highest = self.highest.wrapping_add(ahead.into());
        }
        let arrival = i128::from(now.0) * i128::from(clock_rate) / i128::from(NANOS);
        let transit: i64 = (arrival as u32).wrapping_sub(packet.timestamp).into();
        if let Some(before) = self.transit.replace(transit) {
            let difference = (transit.wrapping_sub(before) as i32).unsigned_abs();
            // A clock that jumps is no jitter.
            if difference < clock_rate {
                self.jitter =
                    self.jitter.saturating_add(difference).saturating_sub(self.jitter.saturating_add(8) >> 4);
            }
        }
    }

    /// Takes note of what the sender says.
    pub fn report(&mut self, report: &SenderReport, now: Now) {
        self.heard = Some((report.ntp, now));
    }

    /// Appends a report from `ssrc`. (RFC 3550, 6.4.2 and A.3) Nothing before the first packet.
    pub fn write(&mut self, ssrc: u32, now: Now, out: &mut BytesMut) {
        let Some(source) = self.ssrc else { return };
        let expected = self.highest.wrapping_sub(self.first).wrapping_add(1);
        let lost = i64::from(expected) - i64::from(self.received);
        let (expected_before, received_before) =
            std::mem::replace(&mut self.reported, (expected, self.received));
        let expected_since = expected.wrapping_sub(expected_before);
        let lost_since = i64::from(expected_since) - i64::from(self.received.wrapping_sub(received_before));
        let fraction = (lost_since.max(0) << 8).checked_div(expected_since.into()).unwrap_or(0).min(255);
        out.put_slice(&[0x81, RECEIVER_REPORT, 0, 7]);
        out.put_u32(ssrc);
        out.put_u32(source);
        out.put_u8(fraction as u8);
        out.put_slice(&(lost.clamp(-0x80_0000, 0x7f_ffff) as i32).to_be_bytes()[1..]);
        out.put_u32(self.highest);
        out.put_u32(self.jitter >> 4);
        let (last, delay) = self.heard.map_or((0, 0), |(ntp, heard)| {
            (ntp.middle(), now.since(heard).as_nanos() * 65_536 / u128::from(NANOS))
        });
        out.put_u32(last);
        out.put_u32(delay as u32);
        write_description(ssrc, out);
    }

    /// Bytes that [`write`](Self::write) appends.
    pub const BYTES: usize = 32 + DESCRIPTION_BYTES;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rtp::Packet;

    #[test]
    fn a_report_is_found_among_others_and_what_is_broken_ends_the_search() {
        let report = SenderReport { ssrc: 9, ntp: NtpTime(5 << 32), timestamp: 7, packets: 1, octets: 2 };
        let mut bytes = BytesMut::new();
        bytes.put_slice(&[0x80, RECEIVER_REPORT, 0, 1, 0, 0, 0, 1]);
        report.write(&mut bytes);
        report.write(&mut bytes);
        bytes.put_slice(&[0x80, SENDER_REPORT, 0, 1, 0, 0, 0, 1]);
        report.write(&mut bytes);
        assert_eq!(sender_reports(&bytes).collect::<Vec<_>>(), [report, report]);
        assert_eq!(report.ntp.as_nanos(), 5_000_000_000);
    }

    #[test]
    fn what_was_lost_and_how_late_packets_come_is_reported() {
        let mut reception = Reception::default();
        let mut out = BytesMut::new();
        reception.write(1, Now(0), &mut out);
        assert!(out.is_empty());
        let packet = |sequence, timestamp| Packet {
            payload_type: 96,
            marker: false,
            sequence,
            timestamp,
            ssrc: 0xabcd,
            payload: b"",
        };
        // The third of five is lost; the last comes 16 ms late.
        for (sequence, millis, late) in [(65_534, 0, 0), (65_535, 40, 0), (1, 120, 0), (2, 160, 16)] {
            reception.packet(
                &packet(sequence, millis * 90),
                90_000,
                Now(u64::from(millis + late) * 1_000_000),
            );
        }
        reception
            .report(&SenderReport { ntp: NtpTime(0x1122_3344_5566_7788), ..SenderReport::default() }, Now(0));
        reception.write(1, Now(500_000_000), &mut out);
        assert_eq!(out.len(), Reception::BYTES);
        assert_eq!(out[..8], [0x81, 201, 0, 7, 0, 0, 0, 1]);
        assert_eq!(out[8..16], [0, 0, 0xab, 0xcd, 51, 0, 0, 1], "one of five is 51 of 256");
        assert_eq!(out[16..20], [0, 1, 0, 2]);
        assert_eq!(u32::from_be_bytes(out[20..24].try_into().unwrap()), 1440 / 16);
        assert_eq!(out[24..32], [0x33, 0x44, 0x55, 0x66, 0, 0, 0x80, 0]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            prop_assert!(sender_reports(&bytes).count() <= bytes.len() / 28);
        }
    }
}
