//! Where packets begin, in bytes that are cut anywhere and may begin or go on with anything.

use super::super::packet::{PACKET_BYTES, SYNC_BYTE};

/// From one packet to the next: nothing stands between them, or a time code of four bytes before each (files of cameras
/// and discs), or 16 bytes of error correction behind each (ISO/IEC 13818-1 leaves both to others).
const STRIDES: [usize; 3] = [PACKET_BYTES, 192, 204];
/// A packet that is found by its first byte alone may be none. It is one if another begins where it should.
const LOOK_AHEAD_BYTES: usize = 204 + 1;

/// Finds packets.
#[derive(Debug)]
pub(super) struct Sync {
    /// Bytes that are too few to tell.
    held: Vec<u8>,
    stride: usize,
    /// Bytes that stand before the next packet and belong to none.
    between: usize,
    /// The next packet begins behind those.
    found: bool,
    /// How often it did not.
    pub(super) lost: u64,
    /// Bytes passed over in search of the next.
    pub(super) skipped_bytes: u64,
}

impl Default for Sync {
    /// A stream begins with a packet, unless it turns out otherwise.
    fn default() -> Self {
        Sync { held: Vec::new(), stride: PACKET_BYTES, between: 0, found: true, lost: 0, skipped_bytes: 0 }
    }
}

impl Sync {
    /// Takes bytes and gives the packets that are whole with them.
    pub(super) fn push(&mut self, mut bytes: &[u8], take: &mut dyn FnMut(&[u8; PACKET_BYTES])) {
        if !self.held.is_empty() {
            let mut held = std::mem::take(&mut self.held);
            let before = held.len();
            // With so many more bytes one step is done at least.
            held.extend_from_slice(bytes.split_at(bytes.len().min(2 * LOOK_AHEAD_BYTES)).0);
            let used = self.read(&held, take);
            let Some(of_bytes) = used.checked_sub(before) else {
                held.drain(..used);
                self.held = held;
                return;
            };
            bytes = bytes.split_at(of_bytes).1;
            held.clear();
            self.held = held;
        }
        let used = self.read(bytes, take);
        self.held.extend_from_slice(bytes.split_at(used).1);
    }

    /// What waits belongs to nothing that is whole.
    pub(super) fn finish(&mut self) {
        self.skipped_bytes += self.held.len() as u64;
        self.held.clear();
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held.capacity()
    }

    /// Goes on as far as can be told, and says how many bytes that were.
    fn read(&mut self, bytes: &[u8], take: &mut dyn FnMut(&[u8; PACKET_BYTES])) -> usize {
        let mut rest = bytes;
        loop {
            let between = self.between.min(rest.len());
            rest = rest.split_at(between).1;
            self.between -= between;
            let Some(first) = rest.first() else { break };
            if !self.found {
                let Some(behind) = self.search(rest) else { break };
                rest = behind;
            } else if *first != SYNC_BYTE {
                self.found = false;
                self.lost += 1;
            } else {
                let Some((packet, behind)) = rest.split_first_chunk() else { break };
                take(packet);
                rest = behind;
                self.between = self.stride - PACKET_BYTES;
            }
        }
        bytes.len() - rest.len()
    }

    /// Passes over what begins no packet. `None` when more bytes are needed to tell.
    fn search<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let place = bytes.iter().position(|byte| *byte == SYNC_BYTE).unwrap_or(bytes.len());
        self.skipped_bytes += place as u64;
        let rest = bytes.split_at(place).1;
        if rest.is_empty() {
            return Some(rest);
        }
        if rest.len() < LOOK_AHEAD_BYTES {
            // What was passed over must not be counted again.
            return if place > 0 { Some(rest) } else { None };
        }
        match STRIDES.into_iter().find(|stride| rest.get(*stride) == Some(&SYNC_BYTE)) {
            Some(stride) => {
                (self.found, self.stride) = (true, stride);
                Some(rest)
            }
            None => {
                self.skipped_bytes += 1;
                Some(rest.split_at(1).1)
            }
        }
    }
}
