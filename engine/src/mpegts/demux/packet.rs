//! The head of a packet, and whether it continues the one before it. (ISO/IEC 13818-1, 2.4.3.2 to 2.4.3.5)

use super::super::packet::{ADAPTATION, DISCONTINUITY, PACKET_BYTES, PAYLOAD};
use crate::bits::Reader;

/// What a packet says.
#[derive(Debug)]
pub(super) struct Packet<'a> {
    pub(super) pid: u16,
    /// `transport_error_indicator`.
    pub(super) damaged: bool,
    /// A PES packet or a section begins in it.
    pub(super) start: bool,
    pub(super) scrambled: bool,
    pub(super) counter: u8,
    /// `discontinuity_indicator`.
    pub(super) discontinuity: bool,
    /// `None` in a packet that has an adaptation field alone.
    pub(super) payload: Option<&'a [u8]>,
}

impl<'a> Packet<'a> {
    /// Reads a packet behind its sync byte; `None` when it breaks a rule.
    pub(super) fn parse(packet: &'a [u8; PACKET_BYTES]) -> Option<Self> {
        let [_, high, low, control, rest @ ..] = packet;
        let mut reader = Reader::new(rest);
        let mut discontinuity = false;
        if control & ADAPTATION != 0 {
            let len = reader.u8("length of an adaptation field").ok()?;
            let field = reader.take(len.into(), "adaptation field").ok()?;
            discontinuity = field.first().is_some_and(|flags| flags & DISCONTINUITY != 0);
        }
        let payload = match control & (ADAPTATION | PAYLOAD) {
            0 => return None,
            ADAPTATION => None,
            _ => Some(reader.rest()).filter(|payload| !payload.is_empty()),
        };
        Some(Packet {
            pid: u16::from_be_bytes([high & 0x1f, *low]),
            damaged: high & 0x80 != 0,
            start: high & 0x40 != 0,
            scrambled: control & 0xc0 != 0,
            counter: control & 0x0f,
            discontinuity,
            payload,
        })
    }
}

/// The counter of a PID.
#[derive(Debug, Default)]
pub(super) struct Continuity {
    last: Option<u8>,
    repeated: bool,
}

/// What a counter says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It continues the one before it, or is the first.
    Next,
    /// It has the counter of the one before it, as it may once if it is the same packet.
    Repeated,
    /// Packets are missing before it.
    Gap,
    /// Likewise, and it says so itself: they were left out.
    Marked,
}

impl Continuity {
    pub(super) fn step(&mut self, packet: &Packet<'_>) -> Step {
        let Some(last) = self.last.replace(packet.counter) else { return Step::Next };
        let counts = packet.payload.is_some();
        let expected = if counts { (last + 1) & 0x0f } else { last };
        let repeated = std::mem::take(&mut self.repeated);
        if packet.counter == expected {
            self.repeated = repeated && !counts;
            Step::Next
        } else if packet.discontinuity {
            Step::Marked
        } else if packet.counter == last && !repeated {
            self.repeated = true;
            Step::Repeated
        } else {
            Step::Gap
        }
    }
}
