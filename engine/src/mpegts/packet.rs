//! Packets of 188 bytes: a head, an adaptation field where one is needed, and payload. (ISO/IEC 13818-1, 2.4.3.2 to 2.4.3.5)

use bytes::{BufMut, BytesMut};

/// Bytes of a packet.
pub(crate) const PACKET_BYTES: usize = 188;
/// Bytes of a packet after its head.
pub(super) const PAYLOAD_BYTES: usize = PACKET_BYTES - 4;
/// What each packet begins with.
pub(crate) const SYNC_BYTE: u8 = 0x47;

/// The bit of a packet's second byte in which a PES packet or a table begins.
pub(super) const UNIT_START: u16 = 0x4000;
/// `adaptation_field_control`.
pub(super) const PAYLOAD: u8 = 0x10;
pub(super) const ADAPTATION: u8 = 0x20;
/// Flags of an adaptation field.
pub(super) const DISCONTINUITY: u8 = 0x80;
const RANDOM_ACCESS: u8 = 0x40;
const READING: u8 = 0x10;
/// Bytes of an adaptation field's own length and flags, and of a reading.
const FIELD_HEAD_BYTES: usize = 2;
const READING_BYTES: usize = 6;

/// What a packet says beside its payload.
#[derive(Clone, Copy, Default)]
pub(super) struct Adaptation {
    /// The clock leaps here, or the counter may.
    pub(super) discontinuity: bool,
    /// A decoder can begin here.
    pub(super) random_access: bool,
    /// What the clock reads.
    pub(super) reading: Option<i64>,
}

/// How many packets a unit of `len` bytes takes.
pub(super) fn count(len: usize, adaptation: &Adaptation) -> usize {
    (adaptation.len() + len).div_ceil(PAYLOAD_BYTES)
}

/// A unit of known length that is being written as the packets it takes.
pub(super) struct Packets<'a> {
    out: &'a mut BytesMut,
    /// The head of a packet that has nothing but payload, but for its counter.
    plain: u32,
    counter: &'a mut u8,
    /// Bytes for which no packet has been begun.
    left: usize,
    /// Bytes that the packet which was begun still takes.
    room: usize,
}

impl<'a> Packets<'a> {
    /// Begins a unit of `len` bytes. `counter` is the continuity counter of the next packet of `pid`.
    pub(super) fn new(
        pid: u16,
        counter: &'a mut u8,
        len: usize,
        adaptation: &Adaptation,
        out: &'a mut BytesMut,
    ) -> Self {
        let mut packets = Packets { out, plain: head(pid, PAYLOAD), counter, left: len, room: 0 };
        packets.open(u32::from(UNIT_START) << 8, adaptation);
        packets
    }

    /// Writes the next bytes of the unit.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        let (now, mut later) = bytes.split_at(bytes.len().min(self.room));
        self.out.put_slice(now);
        self.room -= now.len();
        // Most bytes of a picture go by here: as many as a whole packet takes, of a length that the compiler knows.
        while let Some((whole, rest)) = later.split_first_chunk::<PAYLOAD_BYTES>() {
            self.out.put_u32(self.plain | u32::from(*self.counter));
            self.out.put_slice(whole);
            *self.counter = (*self.counter + 1) & 0x0f;
            self.left -= PAYLOAD_BYTES;
            later = rest;
        }
        if !later.is_empty() {
            self.open(0, &Adaptation::default());
            self.out.put_slice(later);
            self.room -= later.len();
        }
    }

    /// Ends the unit.
    pub(super) fn finish(self) {
        assert_eq!((self.left, self.room), (0, 0), "a unit is as long as was said when it began");
    }

    fn open(&mut self, start: u32, adaptation: &Adaptation) {
        assert!(self.left > 0, "a unit is no longer than was said when it began");
        // Only an adaptation field can make up for payload that does not fill its packet: it holds as many bytes of stuffing.
        self.room = self.left.min(PAYLOAD_BYTES - adaptation.len());
        self.left -= self.room;
        let field = PAYLOAD_BYTES - self.room;
        let control = if field > 0 { u32::from(ADAPTATION) } else { 0 };
        self.out.put_u32(self.plain | start | control | u32::from(*self.counter));
        *self.counter = (*self.counter + 1) & 0x0f;
        if field > 0 {
            adaptation.write(field, self.out);
        }
    }
}

/// Writes a packet that has no payload. `counter` is that of the next packet of `pid`, which stays what it is: a packet
/// without payload has the counter of the one before it. (2.4.3.3)
pub(super) fn write_field(pid: u16, counter: u8, adaptation: &Adaptation, out: &mut BytesMut) {
    out.put_u32(head(pid, ADAPTATION) | u32::from(counter.wrapping_sub(1) & 0x0f));
    adaptation.write(PAYLOAD_BYTES, out);
}

fn head(pid: u16, control: u8) -> u32 {
    u32::from(SYNC_BYTE) << 24 | u32::from(pid) << 8 | u32::from(control)
}

impl Adaptation {
    /// Bytes that it takes without stuffing.
    fn len(&self) -> usize {
        match (self.reading, self.random_access || self.discontinuity) {
            (Some(_), _) => FIELD_HEAD_BYTES + READING_BYTES,
            (None, true) => FIELD_HEAD_BYTES,
            (None, false) => 0,
        }
    }

    /// Writes it as `field` bytes, at least one.
    fn write(&self, field: usize, out: &mut BytesMut) {
        out.put_u8(u8::try_from(field - 1).expect("a field is shorter than a packet"));
        // A field of one byte is its length alone.
        if field < FIELD_HEAD_BYTES {
            return;
        }
        let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        out.put_u8(
            flag(self.discontinuity, DISCONTINUITY)
                | flag(self.random_access, RANDOM_ACCESS)
                | flag(self.reading.is_some(), READING),
        );
        let mut written = FIELD_HEAD_BYTES;
        if let Some(reading) = self.reading {
            // The base, 33 bits of 90 kHz; six bits of ones; the extension, 9 bits of 27 MHz, which is 0.
            let base = reading as u64 & 0x1_ffff_ffff;
            out.put_u32((base >> 1) as u32);
            out.put_u16((base as u16 & 1) << 15 | 0x7e00);
            written += READING_BYTES;
        }
        out.put_bytes(0xff, field - written);
    }
}
