//! The head of a PES packet, which holds one frame. (ISO/IEC 13818-1, 2.4.3.6 and 2.4.3.7)

/// `stream_id` of pictures. Streams are told apart by their PIDs, so that all of a kind may have the same.
pub(super) const PICTURES: u8 = 0xe0;
/// `stream_id` of sound.
pub(super) const SOUND: u8 = 0xc0;
/// `stream_id` of Opus and AC-3.
pub(super) const PRIVATE_STREAM_1: u8 = 0xbd;

/// Bytes up to and with the length.
const LENGTH_END: usize = 6;
/// Bytes up to the times.
const TIMES_START: usize = 9;
const TIME_BYTES: usize = 5;
const HEADER_BYTES_MAX: usize = TIMES_START + 2 * TIME_BYTES;

/// The marker of MPEG-2, and that an access unit begins where the payload does.
const MARKER_AND_ALIGNMENT: u8 = 0x84;
/// `PTS_DTS_flags`.
const PTS_ALONE: u8 = 0x80;
const PTS_AND_DTS: u8 = 0xc0;

/// A header with its times.
pub(super) struct Header {
    bytes: [u8; HEADER_BYTES_MAX],
    len: usize,
}

impl Header {
    /// Before a frame of `payload_len` bytes. `None` when that is longer than its length can say: only that of pictures may
    /// be left open.
    pub(super) fn new(stream_id: u8, pts: i64, dts: i64, payload_len: usize) -> Option<Self> {
        let both = pts != dts;
        let times_len = if both { 2 * TIME_BYTES } else { TIME_BYTES };
        let length = match u16::try_from(TIMES_START - LENGTH_END + times_len + payload_len) {
            Ok(length) => length,
            Err(_) if stream_id == PICTURES => 0,
            Err(_) => return None,
        };
        let [high, low] = length.to_be_bytes();
        let flags = if both { PTS_AND_DTS } else { PTS_ALONE };
        let fixed = [0, 0, 1, stream_id, high, low, MARKER_AND_ALIGNMENT, flags, times_len as u8];

        let mut bytes = [0; HEADER_BYTES_MAX];
        let (head, times) = bytes.split_at_mut(TIMES_START);
        let (first, second) = times.split_at_mut(TIME_BYTES);
        head.copy_from_slice(&fixed);
        first.copy_from_slice(&time(if both { 3 } else { 2 }, pts));
        second.copy_from_slice(&time(1, dts));
        Some(Header { bytes, len: TIMES_START + times_len })
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.split_at(self.len).0
    }
}

/// A time modulo 2^33 in parts of 3, 15 and 15 bits, each before a bit of 1, after four bits that say which time it is.
const fn time(which: u8, ticks: i64) -> [u8; TIME_BYTES] {
    let high = (ticks >> 30) as u8 & 0x07;
    let [a, b] = ((ticks >> 15) as u16 & 0x7fff).rotate_left(1).to_be_bytes();
    let [c, d] = (ticks as u16 & 0x7fff).rotate_left(1).to_be_bytes();
    [which << 4 | high << 1 | 1, a, b | 1, c, d | 1]
}
