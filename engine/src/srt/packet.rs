//! Packets as they stand in a datagram: 16 bytes of header, then what the kind says. (draft-sharabayko-srt-01, 3)

use bytes::{BufMut, Bytes, BytesMut};

use super::sequence::Sequence;
use crate::{bits::Reader, error::Error};

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 16;
/// Bytes of payload in a packet of data: what an Ethernet frame of 1500 bytes has room for behind IP, UDP and this header.
pub const PAYLOAD_BYTES_MAX: usize = 1456;
/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Of the stream.
    Data(Data<'a>),
    /// Of the protocol.
    Control(Control<'a>),
}

/// A packet of the stream. (3.1)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data<'a> {
    pub sequence: Sequence,
    /// By which key the payload is encrypted.
    pub key: Option<Parity>,
    /// It has been sent before.
    pub again: bool,
    /// Microseconds since the sender's connection began; goes round.
    pub timestamp: u32,
    /// Which of the receiver's sockets it is for.
    pub to: u32,
    pub payload: &'a [u8],
}

/// Which of the two keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    Even,
    Odd,
}

impl Parity {
    /// As it stands in a packet and in a message of keys.
    pub const fn bits(self) -> u8 {
        match self {
            Parity::Even => 1,
            Parity::Odd => 2,
        }
    }

    /// The other one.
    pub const fn other(self) -> Parity {
        match self {
            Parity::Even => Parity::Odd,
            Parity::Odd => Parity::Even,
        }
    }
}

/// A packet of the protocol. (3.2)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control<'a> {
    pub kind: Kind<'a>,
    pub timestamp: u32,
    /// Which of the receiver's sockets it is for; 0 while the caller knows none.
    pub to: u32,
}

/// What it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// Of setting up; [`Handshake`](super::handshake::Handshake) reads it.
    Handshake(&'a [u8]),
    KeepAlive,
    /// Everything before this number has come.
    Acknowledge {
        /// The number of this word, to be said back; 0 for one that is not.
        number: u32,
        next: Sequence,
        report: Option<Report>,
    },
    /// These are missing.
    Missing(Ranges<'a>),
    Shutdown,
    /// The other side has heard the word with this number.
    Acknowledged(u32),
    /// The sender no longer has these.
    Drop {
        message: u32,
        first: Sequence,
        last: Sequence,
    },
    /// Keys, in the middle of a connection: a new one, or the answer to it.
    Keys {
        answer: bool,
        message: &'a [u8],
    },
    /// Something that may be passed over.
    Other,
}

/// What the receiver has measured. (3.2.4)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Microseconds there and back, and how far they vary.
    pub rtt: u32,
    pub rtt_variance: u32,
    /// Packets that it has room for.
    pub room: u32,
    /// Packets a second, the estimate of what the link could carry, bytes a second.
    pub rates: Option<[u32; 3]>,
}

/// Numbers that are missing: one after the other, or the first and last of a run. (Appendix A)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranges<'a>(&'a [u8]);

/// The bit before the first of a run.
const RUN: u32 = 1 << 31;

impl Iterator for Ranges<'_> {
    type Item = (Sequence, Sequence);

    /// `None` at the end, and at what is no number. A run that ends before it begins is what the caller makes of it.
    fn next(&mut self) -> Option<(Sequence, Sequence)> {
        let mut reader = Reader::new(self.0);
        let first = reader.u32("number").ok()?;
        let last = if first & RUN == 0 { first } else { reader.u32("end of a run").ok()? };
        self.0 = reader.rest();
        Some((Sequence::of(first), Sequence::of(last)))
    }
}

impl<'a> Packet<'a> {
    /// Reads a datagram.
    ///
    /// # Errors
    /// It is no packet of this protocol.
    pub fn read(datagram: &'a [u8]) -> Result<Packet<'a>, Error> {
        let mut reader = Reader::new(datagram);
        let first = reader.u32("packet's header")?;
        let second = reader.u32("packet's header")?;
        let timestamp = reader.u32("packet's header")?;
        let to = reader.u32("packet's header")?;
        let body = reader.rest();
        if first & CONTROL == 0 {
            return Data::read(first, second, timestamp, to, body).map(Packet::Data);
        }
        let kind = Kind::read((first >> 16) as u16 & 0x7fff, first as u16, second, body)?;
        Ok(Packet::Control(Control { kind, timestamp, to }))
    }
}

impl<'a> Data<'a> {
    fn read(first: u32, second: u32, timestamp: u32, to: u32, payload: &'a [u8]) -> Result<Self, Error> {
        if payload.is_empty() {
            return Err(Error::truncated("payload of a packet", HEADER_BYTES as u64));
        }
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(Error::too_large("payload of a packet", HEADER_BYTES as u64));
        }
        // Live streams have a message in each packet, and no message in two.
        if second >> 30 != SOLO {
            return Err(Error::unsupported("a message of several packets", 4));
        }
        let key = match second >> 27 & 3 {
            0 => None,
            1 => Some(Parity::Even),
            2 => Some(Parity::Odd),
            _ => return Err(Error::malformed("a packet by both keys", 4)),
        };
        let again = second & AGAIN != 0;
        Ok(Data { sequence: Sequence::of(first), key, again, timestamp, to, payload })
    }

    /// Writes the header of a packet of data whose payload follows.
    pub fn write_header(&self, message: u32, out: &mut BytesMut) {
        let key = self.key.map_or(0, Parity::bits);
        let again = if self.again { AGAIN } else { 0 };
        out.put_u32(self.sequence.bits());
        out.put_u32(SOLO << 30 | u32::from(key) << 27 | again | message & MESSAGE_MASK);
        out.put_u32(self.timestamp);
        out.put_u32(self.to);
    }
}

impl<'a> Kind<'a> {
    fn read(kind: u16, subtype: u16, information: u32, body: &'a [u8]) -> Result<Self, Error> {
        let at = HEADER_BYTES as u64;
        Ok(match kind {
            kind::HANDSHAKE => Kind::Handshake(body),
            kind::KEEP_ALIVE => Kind::KeepAlive,
            kind::ACKNOWLEDGE => {
                let mut reader = Reader::new(body);
                let next = Sequence::of(reader.u32("acknowledged number").map_err(|error| error.after(at))?);
                let report = match Report::read(&mut reader) {
                    Ok(report) => Some(report),
                    // A light one says only how far.
                    Err(_) if body.len() == 4 => None,
                    Err(error) => return Err(error.after(at)),
                };
                Kind::Acknowledge { number: information, next, report }
            }
            kind::MISSING => Kind::Missing(Ranges(body)),
            kind::SHUTDOWN => Kind::Shutdown,
            kind::ACKNOWLEDGED => Kind::Acknowledged(information),
            kind::DROP => {
                let mut reader = Reader::new(body);
                let mut number = || reader.u32("dropped number").map_err(|error| error.after(at));
                let (first, last) = (number()?, number()?);
                Kind::Drop { message: information, first: Sequence::of(first), last: Sequence::of(last) }
            }
            kind::EXTENSION if subtype == block::KEYS || subtype == block::KEYS_ANSWER => {
                Kind::Keys { answer: subtype == block::KEYS_ANSWER, message: body }
            }
            _ => Kind::Other,
        })
    }
}

impl Report {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let mut next = || reader.u32("receiver's report");
        let (rtt, rtt_variance, room) = (next()?, next()?, next()?);
        let rates = (|| Some([next().ok()?, next().ok()?, next().ok()?]))();
        Ok(Report { rtt, rtt_variance, room, rates })
    }
}

impl Control<'_> {
    /// Writes the whole packet.
    pub fn write(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADER_BYTES + 64);
        let (kind, subtype, information) = match &self.kind {
            Kind::Handshake(_) => (kind::HANDSHAKE, 0, 0),
            Kind::KeepAlive => (kind::KEEP_ALIVE, 0, 0),
            Kind::Acknowledge { number, .. } => (kind::ACKNOWLEDGE, 0, *number),
            Kind::Missing(_) => (kind::MISSING, 0, 0),
            Kind::Shutdown => (kind::SHUTDOWN, 0, 0),
            Kind::Acknowledged(number) => (kind::ACKNOWLEDGED, 0, *number),
            Kind::Drop { message, .. } => (kind::DROP, 0, *message),
            Kind::Keys { answer, .. } => {
                (kind::EXTENSION, if *answer { block::KEYS_ANSWER } else { block::KEYS }, 0)
            }
            Kind::Other => (kind::KEEP_ALIVE, 0, 0),
        };
        out.put_u32(CONTROL | u32::from(kind) << 16 | u32::from(subtype));
        out.put_u32(information);
        out.put_u32(self.timestamp);
        out.put_u32(self.to);
        match &self.kind {
            Kind::Handshake(body) | Kind::Keys { message: body, .. } => out.put_slice(body),
            Kind::Missing(ranges) => out.put_slice(ranges.0),
            Kind::Acknowledge { next, report, .. } => {
                out.put_u32(next.bits());
                if let Some(report) = report {
                    out.put_u32(report.rtt);
                    out.put_u32(report.rtt_variance);
                    out.put_u32(report.room);
                    report.rates.iter().flatten().for_each(|rate| out.put_u32(*rate));
                }
            }
            Kind::Drop { first, last, .. } => {
                out.put_u32(first.bits());
                out.put_u32(last.bits());
            }
            // Some readers want a word behind each header.
            Kind::KeepAlive | Kind::Shutdown | Kind::Acknowledged(_) | Kind::Other => out.put_u32(0),
        }
        out.freeze()
    }
}

/// A packet that is said again, with what the clock shows by now.
pub fn stamped(packet: &[u8], timestamp: u32) -> Bytes {
    let mut packet = BytesMut::from(packet);
    if let Some(place) = packet.get_mut(TIMESTAMP) {
        place.copy_from_slice(&timestamp.to_be_bytes());
    }
    packet.freeze()
}

/// Where the timestamp stands.
const TIMESTAMP: std::ops::Range<usize> = 8..12;

/// Writes a list of what is missing, as far as a packet has room; `runs` are first and last.
pub fn write_missing(runs: impl IntoIterator<Item = (Sequence, Sequence)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (first, last) in runs {
        if out.len() + 8 > PAYLOAD_BYTES_MAX {
            break;
        }
        if first == last {
            out.extend(first.bits().to_be_bytes());
        } else {
            out.extend((RUN | first.bits()).to_be_bytes());
            out.extend(last.bits().to_be_bytes());
        }
    }
    out
}

/// The list in a packet.
pub const fn ranges(list: &[u8]) -> Ranges<'_> {
    Ranges(list)
}

/// The first bit of a packet of the protocol.
const CONTROL: u32 = 1 << 31;
/// A message that is whole in this packet.
const SOLO: u32 = 3;
/// It has been sent before.
const AGAIN: u32 = 1 << 26;
/// The number of the message.
pub const MESSAGE_MASK: u32 = AGAIN - 1;

/// The kinds of control packets. (3.2, table 1)
mod kind {
    pub const HANDSHAKE: u16 = 0;
    pub const KEEP_ALIVE: u16 = 1;
    pub const ACKNOWLEDGE: u16 = 2;
    pub const MISSING: u16 = 3;
    pub const SHUTDOWN: u16 = 5;
    pub const ACKNOWLEDGED: u16 = 6;
    pub const DROP: u16 = 7;
    pub const EXTENSION: u16 = 0x7fff;
}

/// What extensions are called, in a handshake and alone. (3.2.1, table 5)
pub mod block {
    pub const HELLO: u16 = 1;
    pub const HELLO_ANSWER: u16 = 2;
    pub const KEYS: u16 = 3;
    pub const KEYS_ANSWER: u16 = 4;
    pub const STREAM_ID: u16 = 5;
    pub const CONGESTION: u16 = 6;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn control(kind: Kind<'_>) -> Control<'_> {
        Control { kind, timestamp: 7, to: 9 }
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let missing =
            write_missing([(Sequence::of(5), Sequence::of(5)), (Sequence::of(0x7fff_fffe), Sequence::of(3))]);
        assert_eq!(missing.len(), 12);
        let report = Report { rtt: 1, rtt_variance: 2, room: 3, rates: Some([4, 5, 6]) };
        let next = Sequence::of(77);
        for kind in [
            Kind::Handshake(b"hello"),
            Kind::KeepAlive,
            Kind::Acknowledge { number: 4, next, report: Some(report) },
            Kind::Acknowledge { number: 0, next, report: None },
            Kind::Acknowledge { number: 9, next, report: Some(Report { rates: None, ..report }) },
            Kind::Missing(ranges(&missing)),
            Kind::Shutdown,
            Kind::Acknowledged(12),
            Kind::Drop { message: 1, first: next, last: next.plus(3) },
            Kind::Keys { answer: true, message: b"keys" },
            Kind::Keys { answer: false, message: b"keys" },
        ] {
            let written = control(kind).write();
            assert_eq!(Packet::read(&written), Ok(Packet::Control(control(kind))));
        }
        let runs: Vec<_> = ranges(&missing).map(|(first, last)| (first.bits(), last.bits())).collect();
        assert_eq!(runs, [(5, 5), (0x7fff_fffe, 3)]);
    }

    #[test]
    fn a_packet_of_data_reads_as_it_was_written() {
        let data = Data {
            sequence: Sequence::of(0x7fff_ffff),
            key: Some(Parity::Odd),
            again: true,
            timestamp: u32::MAX,
            to: 3,
            payload: b"seven packets",
        };
        let mut out = BytesMut::new();
        data.write_header(0xffff_ffff, &mut out);
        out.put_slice(data.payload);
        assert_eq!(Packet::read(&out), Ok(Packet::Data(data)));
    }

    #[test]
    fn what_is_too_long_or_too_short_is_refused() {
        let solo = [&[0, 0, 0, 1, 0xc0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1][..], &[7; 1457]].concat();
        assert!(Packet::read(&solo[..16]).is_err() && Packet::read(&solo).is_err());
        assert!(Packet::read(&solo[..1472]).is_ok() && Packet::read(&solo[..15]).is_err());
        // An acknowledgement of each length but those that there are.
        for length in 0..40 {
            let acknowledge =
                [&[0x80, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1][..], &[0; 64][..length]].concat();
            assert_eq!(Packet::read(&acknowledge).is_ok(), length == 4 || length >= 16, "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_datagram_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1600)) {
            if let Ok(Packet::Control(Control { kind: Kind::Missing(ranges), .. })) = Packet::read(&bytes) {
                prop_assert!(ranges.count() <= bytes.len() / 4);
            }
        }
    }
}
