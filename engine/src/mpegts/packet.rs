//! Packets of 188 bytes: a head, an adaptation field where one is needed, and payload. (ISO/IEC 13818-1, 2.4.3.2 to 2.4.3.5)

use bytes::{BufMut, BytesMut};

/// Bytes of a packet.
pub(super) const PACKET_BYTES: usize = 188;
/// Bytes of a packet after its head.
pub(super) const PAYLOAD_BYTES: usize = PACKET_BYTES - 4;
/// What each packet begins with.
pub(super) const SYNC_BYTE: u8 = 0x47;

/// The bit of a packet's second byte in which a PES packet or a table begins.
pub(super) const UNIT_START: u16 = 0x4000;
/// `adaptation_field_control`.
pub(super) const PAYLOAD: u8 = 0x10;
const ADAPTATION: u8 = 0x20;
/// Flags of an adaptation field.
const RANDOM_ACCESS: u8 = 0x40;
const READING: u8 = 0x10;
/// Bytes of an adaptation field's own length and flags, and of a reading.
const FIELD_HEAD_BYTES: usize = 2;
const READING_BYTES: usize = 6;

/// What the first packet of a unit says beside its payload.
#[derive(Default)]
pub(super) struct Adaptation {
    /// A decoder can begin here.
    pub(super) random_access: bool,
    /// What the clock reads.
    pub(super) reading: Option<i64>,
}

/// A unit of known length that is being written as the packets it takes.
pub(super) struct Packets<'a> {
    out: &'a mut BytesMut,
    pid: u16,
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
        let count = (adaptation.len() + len).div_ceil(PAYLOAD_BYTES);
        out.reserve(count * PACKET_BYTES);
        let mut packets = Packets { out, pid, counter, left: len, room: 0 };
        packets.open(UNIT_START, adaptation);
        packets
    }

    /// Writes the next bytes of the unit.
    pub(super) fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.room == 0 {
                self.open(0, &Adaptation::default());
            }
            let (now, later) = bytes.split_at(bytes.len().min(self.room));
            self.out.put_slice(now);
            self.room -= now.len();
            bytes = later;
        }
    }

    /// Ends the unit.
    pub(super) fn finish(self) {
        assert_eq!((self.left, self.room), (0, 0), "a unit is as long as was said when it began");
    }

    fn open(&mut self, start: u16, adaptation: &Adaptation) {
        assert!(self.left > 0, "a unit is no longer than was said when it began");
        // Only an adaptation field can make up for payload that does not fill its packet: it holds as many bytes of stuffing.
        self.room = self.left.min(PAYLOAD_BYTES - adaptation.len());
        self.left -= self.room;
        let field = PAYLOAD_BYTES - self.room;
        let control = if field > 0 { PAYLOAD | ADAPTATION } else { PAYLOAD };
        self.out.put_u8(SYNC_BYTE);
        self.out.put_u16(start | self.pid);
        self.out.put_u8(control | *self.counter);
        *self.counter = (*self.counter + 1) & 0x0f;
        if field > 0 {
            adaptation.write(field, self.out);
        }
    }
}

/// Writes a packet that has no payload and only says what the clock reads. `counter` is that of the next packet of `pid`,
/// which stays what it is: a packet without payload has the counter of the one before it.
pub(super) fn write_reading(pid: u16, counter: u8, reading: i64, out: &mut BytesMut) {
    out.reserve(PACKET_BYTES);
    out.put_u8(SYNC_BYTE);
    out.put_u16(pid);
    out.put_u8(ADAPTATION | (counter.wrapping_sub(1) & 0x0f));
    Adaptation { random_access: false, reading: Some(reading) }.write(PAYLOAD_BYTES, out);
}

impl Adaptation {
    /// Bytes that it takes without stuffing.
    fn len(&self) -> usize {
        match (self.reading, self.random_access) {
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
        let random_access = if self.random_access { RANDOM_ACCESS } else { 0 };
        out.put_u8(random_access | if self.reading.is_some() { READING } else { 0 });
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
