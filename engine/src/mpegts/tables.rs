//! The two tables that say what a file holds: the program association table (PAT) and the one program's map table (PMT),
//! each in a packet of its own. (ISO/IEC 13818-1, 2.4.4)

use bytes::{BufMut, BytesMut};

use super::{
    coding::Coding,
    packet::{PACKET_BYTES, PAYLOAD, PAYLOAD_BYTES, SYNC_BYTE, UNIT_START},
};

const PAT_PID: u16 = 0;
/// What ffmpeg takes.
const PMT_PID: u16 = 0x1000;
/// `PCR_PID` of a program without a clock.
const NO_PID: u16 = 0x1fff;
const PAT_TABLE_ID: u8 = 0;
const PMT_TABLE_ID: u8 = 2;
/// `transport_stream_id` and `program_number`.
const ONLY: u16 = 1;

/// Bytes of a table's packet that are the same for any number of streams: the pointer field, a section's head and its CRC,
/// and the clock and the (absent) descriptors of the program.
const FIXED_BYTES: usize = 1 + SECTION_HEAD_BYTES + CRC_BYTES + 4;
const SECTION_HEAD_BYTES: usize = 8;
const CRC_BYTES: usize = 4;
/// Bytes of a stream in the map: the longest descriptors are those of Opus.
const ENTRY_BYTES_MAX: usize = 5 + 10;
/// Streams of a file. The map stays in one packet; tracks after these are left out.
pub(super) const STREAMS_MAX: usize = (PAYLOAD_BYTES - FIXED_BYTES) / ENTRY_BYTES_MAX;

/// Packets of both tables.
pub(super) const PACKETS: usize = 2;

/// Both tables as packets, ready but for their continuity counters.
#[derive(Default)]
pub(super) struct Tables {
    packets: Vec<u8>,
    counter: u8,
}

impl Tables {
    /// Of these streams, each with its PID, and the PID that carries the clock.
    pub(super) fn new<'a>(clock_pid: Option<u16>, streams: impl Iterator<Item = (u16, &'a Coding)>) -> Self {
        let mut programs = Vec::new();
        programs.put_u16(ONLY);
        programs.put_u16(0xe000 | PMT_PID);

        let mut map = Vec::new();
        map.put_u16(0xe000 | clock_pid.unwrap_or(NO_PID));
        map.put_u16(0xf000); // no descriptors of the program
        for (pid, coding) in streams {
            let descriptors = coding.descriptors();
            map.put_u8(coding.stream_type());
            map.put_u16(0xe000 | pid);
            map.put_u16(0xf000 | descriptors.len() as u16);
            map.put_slice(&descriptors);
        }

        let mut packets = Vec::with_capacity(PACKETS * PACKET_BYTES);
        write_packet(PAT_PID, PAT_TABLE_ID, &programs, &mut packets);
        write_packet(PMT_PID, PMT_TABLE_ID, &map, &mut packets);
        assert_eq!(packets.len(), PACKETS * PACKET_BYTES, "each table fits into one packet");
        Tables { packets, counter: 0 }
    }

    /// Writes both.
    pub(super) fn write(&mut self, out: &mut BytesMut) {
        for packet in self.packets.chunks_exact_mut(PACKET_BYTES) {
            if let Some(control) = packet.get_mut(3) {
                *control = PAYLOAD | self.counter;
            }
            out.put_slice(packet);
        }
        self.counter = (self.counter + 1) & 0x0f;
    }
}

/// A packet with one section of `content`. (2.4.4.1, 2.4.4.11)
fn write_packet(pid: u16, table_id: u8, content: &[u8], out: &mut Vec<u8>) {
    let end = out.len() + PACKET_BYTES;
    out.put_u8(SYNC_BYTE);
    out.put_u16(UNIT_START | pid);
    out.put_u8(PAYLOAD);
    out.put_u8(0); // pointer_field: the section begins right here

    let start = out.len();
    out.put_u8(table_id);
    // What is counted begins after the length itself.
    let len = SECTION_HEAD_BYTES - 3 + content.len() + CRC_BYTES;
    out.put_u16(0xb000 | len as u16);
    out.put_u16(ONLY);
    out.put_u8(0xc1); // version 0, which holds now
    out.put_u16(0); // the first section of one
    out.put_slice(content);
    let crc = crc(out.split_at(start).1);
    out.put_u32(crc);
    // What follows the last section of a packet is stuffing. (2.4.4)
    out.resize(end.max(out.len()), 0xff);
}

/// CRC-32/MPEG-2: the polynomial of annex A, from all ones, neither mirrored nor inverted at the end.
pub(super) fn crc(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x04c1_1db7;
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte) << 24, |crc, _| {
            crc << 1 ^ if crc >> 31 == 1 { POLYNOMIAL } else { 0 }
        })
    })
}
