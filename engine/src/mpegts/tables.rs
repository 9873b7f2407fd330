//! The two tables that say what a program holds: the program association table (PAT) and the one program's map table (PMT),
//! each in a packet of its own. (ISO/IEC 13818-1, 2.4.4)

use bytes::{BufMut, BytesMut};

use super::{
    coding::Coding,
    crc::crc,
    packet::{self, Adaptation, PACKET_BYTES, PAYLOAD, PAYLOAD_BYTES, SYNC_BYTE, UNIT_START},
};

/// Of the program association table.
pub(super) const PAT_PID: u16 = 0;
/// What ffmpeg takes.
const PMT_PID: u16 = 0x1000;
/// `PCR_PID` of a program without a clock.
const NO_PID: u16 = 0x1fff;
/// `table_id`s.
pub(super) const PAT_TABLE_ID: u8 = 0;
pub(super) const PMT_TABLE_ID: u8 = 2;
/// `transport_stream_id` and `program_number`.
const ONLY: u16 = 1;
/// `version_number` has five bits.
const VERSIONS: u8 = 32;

/// Bytes of a table's packet that are the same for any number of streams: the pointer field, a section's head and its CRC,
/// and the clock and the (absent) descriptors of the program.
const FIXED_BYTES: usize = 1 + SECTION_HEAD_BYTES + CRC_BYTES + 4;
pub(super) const SECTION_HEAD_BYTES: usize = 8;
pub(super) const CRC_BYTES: usize = 4;
/// Bytes of a stream in the map: the longest descriptors are those of Opus.
const ENTRY_BYTES_MAX: usize = 5 + 10;
/// Streams of a program. The map stays in one packet; tracks after these are left out.
pub(super) const STREAMS_MAX: usize = (PAYLOAD_BYTES - FIXED_BYTES) / ENTRY_BYTES_MAX;

/// Packets of both tables.
pub(super) const PACKETS: usize = 2;

/// Both tables as packets, ready but for their continuity counters.
#[derive(Default)]
pub(super) struct Tables {
    packets: Vec<u8>,
    counter: u8,
    /// `version_number` of the map.
    version: u8,
    /// The map of this version stands somewhere.
    written: bool,
}

impl Tables {
    /// Says what the program holds from here on: these streams, each with its PID, and the PID that carries the clock. What
    /// was written before has another version.
    pub(super) fn set<'a>(
        &mut self,
        clock_pid: Option<u16>,
        streams: impl Iterator<Item = (u16, &'a Coding)>,
    ) {
        self.version = (self.version + u8::from(self.written)) % VERSIONS;
        self.written = false;
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

        self.packets.clear();
        write_packet(PAT_PID, PAT_TABLE_ID, 0, &programs, &mut self.packets);
        write_packet(PMT_PID, PMT_TABLE_ID, self.version, &map, &mut self.packets);
        assert_eq!(self.packets.len(), PACKETS * PACKET_BYTES, "each table fits into one packet");
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
        self.written = true;
    }

    /// Writes packets of both PIDs without payload, after which any counter may follow.
    pub(super) fn write_marks(&self, out: &mut BytesMut) {
        let mark = Adaptation { discontinuity: true, ..Adaptation::default() };
        for pid in [PAT_PID, PMT_PID] {
            packet::write_field(pid, self.counter, &mark, out);
        }
    }
}

/// A packet with one section of `content`. (2.4.4.1, 2.4.4.11)
fn write_packet(pid: u16, table_id: u8, version: u8, content: &[u8], out: &mut Vec<u8>) {
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
    out.put_u8(0xc1 | version << 1); // which holds now
    out.put_u16(0); // the first section of one
    out.put_slice(content);
    let crc = crc(out.split_at(start).1);
    out.put_u32(crc);
    // What follows the last section of a packet is stuffing. (2.4.4)
    out.resize(end.max(out.len()), 0xff);
}
