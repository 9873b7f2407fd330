//! MPEG transport streams (ISO/IEC 13818-1), as far as a judge of pictures must read them: the tables, the PES packets of the
//! first program's pictures and sound, and H.264 as Annex B has it. Tables of more than one packet are not read.

use bytes::{BufMut, Bytes, BytesMut};
use shardcast_engine::{
    bits,
    codec::Codec,
    media::{Frame, Payload, TrackId},
    time::{MediaTime, Now, Unwrapper},
};

use super::media::Found;

/// What each packet begins with.
pub const SYNC_BYTE: u8 = 0x47;
const PACKET_BYTES: usize = 188;
const PAT_PID: u16 = 0;
const PAT_TABLE_ID: u8 = 0;
const PMT_TABLE_ID: u8 = 2;
/// Ticks per second of PTS and DTS, and their bits.
const CLOCK_RATE: u32 = 90_000;
const CLOCK_BITS: u32 = 33;
/// `stream_type`s (ISO/IEC 13818-1, table 2-34): MPEG-1 and MPEG-2 audio, private data (Opus), ADTS, LATM, H.264.
const SOUNDS: [u8; 5] = [0x03, 0x04, 0x06, 0x0f, 0x11];
const H264: u8 = 0x1b;
/// Where a PES packet says how long it is.
const LENGTH_AT: usize = 4;
/// More than any picture of a stream takes.
const UNIT_BYTES_MAX: usize = 16 << 20;
const NAL_IDR: u8 = 5;

/// Is given each frame, and when the last packet of it came.
pub type Emit<'a> = dyn FnMut(&Frame, Now) + 'a;

/// Reads a transport stream.
#[derive(Debug, Default)]
pub struct Reader {
    /// The beginning of a packet that is not whole.
    rest: Vec<u8>,
    map_pid: Option<u16>,
    /// Pictures and sound.
    streams: [Option<Stream>; 2],
    /// When the first picture (or, without pictures, sound) since the last [`finish`](Self::finish) is decoded, in ticks.
    begins: [Option<i64>; 2],
}

#[derive(Debug)]
struct Stream {
    pid: u16,
    /// The PES packet so far. Nothing before the first one begins.
    unit: Option<Vec<u8>>,
    /// When its last transport packet came.
    at: Now,
    clock: Unwrapper,
}

const PICTURES: usize = 0;
const SOUND: usize = 1;

impl Reader {
    /// Bytes of the stream, which came at `now`. Gives each frame that is known to be whole: when the next one begins, or when
    /// it has the length that it says.
    ///
    /// # Errors
    /// They are not packets of a transport stream.
    pub fn push(&mut self, mut bytes: &[u8], now: Now, emit: &mut Emit<'_>) -> Result<(), String> {
        if !self.rest.is_empty() {
            let missing = (PACKET_BYTES - self.rest.len()).min(bytes.len());
            let (first, others) = bytes.split_at(missing);
            self.rest.extend_from_slice(first);
            bytes = others;
            if self.rest.len() < PACKET_BYTES {
                return Ok(());
            }
            let packet = std::mem::take(&mut self.rest);
            self.packet(&packet, now, emit)?;
        }
        let mut packets = bytes.chunks_exact(PACKET_BYTES);
        for packet in &mut packets {
            self.packet(packet, now, emit)?;
        }
        self.rest.extend_from_slice(packets.remainder());
        Ok(())
    }

    /// Nothing follows what came. Gives the last frames, and when the first picture since the last time was; `None` when there
    /// was nothing.
    ///
    /// # Errors
    /// It ended in the middle of a packet.
    pub fn finish(&mut self, emit: &mut Emit<'_>) -> Result<Option<Found>, String> {
        if !self.rest.is_empty() {
            self.rest.clear();
            return Err("it ends in the middle of a transport packet".to_owned());
        }
        for index in [PICTURES, SOUND] {
            self.close(index, emit)?;
        }
        let [pictures, sound] = std::mem::take(&mut self.begins);
        let tick = 1.0 / f64::from(CLOCK_RATE);
        Ok(pictures.or(sound).map(|begins| Found { begins: begins as f64 * tick, lasts: None, tick }))
    }

    fn packet(&mut self, packet: &[u8], now: Now, emit: &mut Emit<'_>) -> Result<(), String> {
        let mut reader = bits::Reader::new(packet);
        let word = |error: shardcast_engine::error::Error| error.to_string();
        if reader.u8("sync byte").map_err(word)? != SYNC_BYTE {
            return Err("a transport packet does not begin with its sync byte".to_owned());
        }
        let head = reader.u16("PID").map_err(word)?;
        let (starts, pid) = (head & 0x4000 != 0, head & 0x1fff);
        let control = reader.u8("adaptation field control").map_err(word)?;
        if control & 0x20 != 0 {
            let length = reader.u8("adaptation field length").map_err(word)?;
            reader.skip(usize::from(length), "adaptation field").map_err(word)?;
        }
        if control & 0x10 == 0 {
            return Ok(());
        }
        let payload = reader.rest();
        if pid == PAT_PID {
            self.map_pid = section(payload, starts, PAT_TABLE_ID).and_then(first_program).or(self.map_pid);
        } else if Some(pid) == self.map_pid {
            if let Some(map) = section(payload, starts, PMT_TABLE_ID) {
                self.map(map);
            }
        } else if let Some(index) =
            self.streams.iter().position(|stream| stream.as_ref().is_some_and(|stream| stream.pid == pid))
        {
            if starts {
                self.close(index, emit)?;
            }
            self.continue_unit(index, payload, starts, now, emit)?;
        }
        Ok(())
    }

    fn continue_unit(
        &mut self,
        index: usize,
        payload: &[u8],
        starts: bool,
        now: Now,
        emit: &mut Emit<'_>,
    ) -> Result<(), String> {
        let Some(stream) = &mut self.streams[index] else { return Ok(()) };
        stream.at = now;
        if starts {
            stream.unit = Some(payload.to_vec());
        } else if let Some(unit) = &mut stream.unit {
            unit.extend_from_slice(payload);
        }
        let Some(unit) = &stream.unit else { return Ok(()) };
        if unit.len() > UNIT_BYTES_MAX {
            return Err("a PES packet without an end".to_owned());
        }
        // Sound says how long it is, and pictures may.
        let length =
            unit.get(LENGTH_AT..).and_then(<[u8]>::first_chunk).map(|length| u16::from_be_bytes(*length));
        let length = length.filter(|length| *length > 0);
        let is_whole = length.is_some_and(|length| unit.len() >= LENGTH_AT + 2 + usize::from(length));
        if is_whole { self.close(index, emit) } else { Ok(()) }
    }

    /// A frame is whole, if there is one.
    fn close(&mut self, index: usize, emit: &mut Emit<'_>) -> Result<(), String> {
        let Some(stream) = &mut self.streams[index] else { return Ok(()) };
        let Some(unit) = stream.unit.take() else { return Ok(()) };
        let (pts, dts, payload) = read_pes(&unit).map_err(|error| format!("a PES packet: {error}"))?;
        let Some(dts) = dts else { return Ok(()) };
        // Both on one line: a PTS may be before the DTS of the frame before it, and is never far from its own.
        let ticks = stream.clock.unwrap(dts);
        let shown = ticks + i64::try_from(pts.wrapping_sub(dts) & ((1 << CLOCK_BITS) - 1)).unwrap_or(0);
        self.begins[index].get_or_insert(ticks);
        let time = |ticks| MediaTime { ticks, rate: CLOCK_RATE };
        let (track, payload) = if index == PICTURES {
            let (data, key) = with_lengths(payload);
            (TrackId::VIDEO, Payload::Video { codec: Codec::H264, key, data })
        } else {
            (TrackId::AUDIO, Payload::Audio { codec: Codec::Aac, data: Bytes::copy_from_slice(payload) })
        };
        let at = stream.at;
        emit(&Frame { track, dts: time(ticks), pts: time(shown), payload }, at);
        Ok(())
    }

    /// Takes the first stream of pictures and the first of sound out of a program map. (2.4.4.9)
    fn map(&mut self, map: &[u8]) {
        let mut reader = bits::Reader::new(map);
        let Ok(program) = reader.skip(2, "PCR_PID").and_then(|()| reader.u16("program_info_length")) else {
            return;
        };
        if reader.skip(usize::from(program & 0x0fff), "program descriptors").is_err() {
            return;
        }
        let mut entry = || {
            let kind = reader.u8("stream_type").ok()?;
            let pid = reader.u16("elementary_PID").ok()? & 0x1fff;
            let length = reader.u16("ES_info_length").ok()? & 0x0fff;
            reader.skip(usize::from(length), "descriptors").ok()?;
            Some((kind, pid))
        };
        let mut found: [Option<u16>; 2] = [None; 2];
        while let Some((kind, pid)) = entry() {
            let index = match kind {
                H264 => PICTURES,
                kind if SOUNDS.contains(&kind) => SOUND,
                _ => continue,
            };
            found[index].get_or_insert(pid);
        }
        for (stream, pid) in self.streams.iter_mut().zip(found) {
            if stream.as_ref().map(|stream| stream.pid) != pid {
                let clock = Unwrapper::new(CLOCK_BITS);
                *stream = pid.map(|pid| Stream { pid, unit: None, at: Now(0), clock });
            }
        }
    }
}

/// The content of a section that begins in this payload, between its head and its checksum. (2.4.4.10)
fn section(payload: &[u8], starts: bool, table_id: u8) -> Option<&[u8]> {
    const CHECKSUM_BYTES: usize = 4;
    const HEAD_REST_BYTES: usize = 5;
    let mut reader = bits::Reader::new(payload);
    let pointer = reader.u8("pointer_field").ok().filter(|_| starts)?;
    reader.skip(usize::from(pointer), "pointer").ok()?;
    if reader.u8("table_id").ok()? != table_id {
        return None;
    }
    let length = usize::from(reader.u16("section_length").ok()? & 0x0fff);
    let body = reader.take(length, "section").ok()?;
    body.get(HEAD_REST_BYTES..length.checked_sub(CHECKSUM_BYTES)?)
}

/// The PID of the map of the first program in a program association table.
fn first_program(table: &[u8]) -> Option<u16> {
    let program = |entry: &[u8]| {
        let mut reader = bits::Reader::new(entry);
        let number = reader.u16("program_number").ok()?;
        let pid = reader.u16("program_map_PID").ok()? & 0x1fff;
        (number != 0).then_some(pid)
    };
    table.chunks_exact(4).find_map(program)
}

/// PTS, DTS and payload of a PES packet (2.4.3.6). Times are the clock's 33 bits, `None` where it says none.
fn read_pes(unit: &[u8]) -> Result<(u64, Option<u64>, &[u8]), shardcast_engine::error::Error> {
    use shardcast_engine::error::Error;
    let mut reader = bits::Reader::new(unit);
    if reader.u24("start code")? != 1 {
        return Err(Error::malformed("no start code", 0));
    }
    reader.u8("stream_id")?;
    let length = usize::from(reader.u16("PES_packet_length")?);
    let mut reader =
        bits::Reader::new(if length == 0 { reader.rest() } else { reader.take(length, "PES packet")? });
    reader.u8("PES flags")?;
    let flags = reader.u8("PES flags")? >> 6;
    let header = usize::from(reader.u8("PES_header_data_length")?);
    let mut fields = bits::Reader::new(reader.take(header, "PES header")?);
    let pts = if flags & 2 != 0 { Some(timestamp(fields.array("PTS")?)) } else { None };
    let dts = if flags == 3 { Some(timestamp(fields.array("DTS")?)) } else { pts };
    Ok((pts.unwrap_or_default(), dts, reader.rest()))
}

/// Three, fifteen and fifteen bits, with a marker behind each.
fn timestamp([a, b, c, d, e]: [u8; 5]) -> u64 {
    u64::from(a & 0x0e) << 29
        | u64::from(b) << 22
        | u64::from(c & 0xfe) << 14
        | u64::from(d) << 7
        | u64::from(e & 0xfe) >> 1
}

/// An access unit with start codes (ITU-T H.264, annex B) as one whose NAL units have their length before them, and whether it
/// is one that a decoder can begin at.
pub fn with_lengths(unit: &[u8]) -> (Bytes, bool) {
    let mut out = BytesMut::with_capacity(unit.len() + 16);
    let mut key = false;
    let mut starts = start_codes(unit).peekable();
    while let Some(start) = starts.next() {
        let end = starts.peek().map_or(unit.len(), |next| next - START_CODE_BYTES);
        let nal = unit.get(start..end).unwrap_or_default();
        // What stands between NAL units are zeros, and none ends with one.
        let length = nal.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        if let Some(nal) = nal.get(..length).filter(|nal| !nal.is_empty()) {
            key |= nal[0] & 0x1f == NAL_IDR;
            out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
            out.put_slice(nal);
        }
    }
    (out.freeze(), key)
}

const START_CODE_BYTES: usize = 3;

/// Where NAL units begin: behind each `00 00 01`.
fn start_codes(unit: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(window) = unit.get(at..at + START_CODE_BYTES) {
            match window {
                [0, 0, 1] => {
                    at += START_CODE_BYTES;
                    return Some(at);
                }
                // A code cannot begin before a byte that is in none.
                [_, _, third] if *third > 1 => at += START_CODE_BYTES,
                _ => at += 1,
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shardcast_engine::{
        container::{Pieces, Track},
        mpegts,
        time::Wall,
    };

    use crate::{
        clip::{Clip, Playback},
        stamp::Stamp,
    };

    /// The first frames of the clip, and the same as a transport stream.
    fn stream(count: usize) -> (Vec<Frame>, Vec<u8>) {
        stream_of(Clip::built_in(), count)
    }

    fn stream_of(clip: Clip, count: usize) -> (Vec<Frame>, Vec<u8>) {
        let mut playback = Playback::new(clip);
        let frames: Vec<Frame> = (0..count).map(|_| playback.take(7)).collect();
        let tracks = tracks();
        let mut muxer = (mpegts::CONTAINER.open)();
        let mut pieces = Pieces::new();
        muxer.begin(&tracks, Wall(0), &mut pieces);
        for frames in frames.chunks(20) {
            muxer.fragment(frames, None, &mut pieces);
        }
        (frames, pieces.finish().concat())
    }

    fn tracks() -> Vec<Track> {
        let clip = Clip::built_in();
        let track = |frame: &Frame| match &frame.payload {
            Payload::Parameters(parameters) => {
                Some(Track { id: frame.track, parameters: parameters.clone(), rate: frame.dts.rate })
            }
            _ => None,
        };
        clip.opening().parameters.iter().filter_map(track).collect()
    }

    #[test]
    fn pictures_come_back_as_they_were_however_the_stream_is_cut() {
        let (frames, bytes) = stream(200);
        assert_eq!(bytes.len() % PACKET_BYTES, 0);
        for piece in [1, 187, 188, 189, 5000, bytes.len()] {
            let (mut reader, mut found) = (Reader::default(), Vec::new());
            for (index, bytes) in bytes.chunks(piece).enumerate() {
                reader
                    .push(bytes, Now(index as u64), &mut |frame, at| found.push((frame.clone(), at)))
                    .unwrap();
            }
            let last = reader.finish(&mut |frame, at| found.push((frame.clone(), at))).unwrap();
            assert!(last.is_some_and(|last| last.lasts.is_none()));
            let of = |wanted: &Frame| wanted.is_video();
            let sent: Vec<_> = frames.iter().filter(|frame| of(frame)).collect();
            let got: Vec<_> = found.iter().map(|(frame, _)| frame).filter(|frame| of(frame)).collect();
            assert_eq!(got.len(), sent.len(), "cut each {piece}");
            for (number, (got, sent)) in got.iter().zip(&sent).enumerate() {
                let Payload::Video { data, .. } = &got.payload else { panic!("a picture") };
                let (stamp, whole) = Stamp::read(data).unwrap();
                assert_eq!((stamp.number, stamp.sent, whole), (number as u64, 7, true));
                assert_eq!(got.is_key(), sent.is_key());
                let between = |frame: &Frame| frame.pts.ticks_at(1000) - frame.dts.ticks_at(1000);
                assert!(between(got).abs_diff(between(sent)) <= 1, "{got:?} {sent:?}");
            }
            assert!(found.iter().filter(|(frame, _)| frame.is_audio()).count() > 50);
        }
    }

    #[test]
    fn a_picture_came_with_its_last_packet_and_not_with_the_next_ones_first() {
        let (_, bytes) = stream_of(Clip::built_in().at_bitrate(8_000_000).unwrap(), 30);
        let (mut reader, mut found) = (Reader::default(), Vec::new());
        for (index, packet) in bytes.chunks(PACKET_BYTES).enumerate() {
            let mut take = |frame: &Frame, at: Now| {
                if frame.is_video() {
                    found.push((at.0, index as u64));
                }
            };
            reader.push(packet, Now(index as u64), &mut take).unwrap();
        }
        assert!(found.len() > 5 && found.iter().all(|(at, told)| at <= told), "{found:?}");
        // The first is a key frame, which is too long to say how long it is.
        assert!(found[0].0 < found[0].1, "{found:?}");
    }

    #[test]
    fn start_codes_of_three_and_four_bytes_are_found_and_zeros_between_units_are_not_theirs() {
        let (data, key) = with_lengths(b"\0\0\0\x01\x09\xf0\0\0\x01\x65ab\0\0\0\0\x01\x06\x01\0\0\x03\x80\0");
        assert_eq!(&data[..], b"\0\0\0\x02\x09\xf0\0\0\0\x03\x65ab\0\0\0\x06\x06\x01\0\0\x03\x80");
        assert!(key);
        assert_eq!(with_lengths(b"abc"), (Bytes::new(), false));
        assert_eq!(with_lengths(b"\0\0\x01"), (Bytes::new(), false));
    }

    #[test]
    fn what_is_no_transport_stream_is_told() {
        let none = |reader: &mut Reader, bytes: &[u8]| reader.push(bytes, Now(0), &mut |_, _| {});
        assert!(none(&mut Reader::default(), &[0; 188]).is_err());
        let mut reader = Reader::default();
        none(&mut reader, &[SYNC_BYTE; 100]).unwrap();
        assert!(reader.finish(&mut |_, _| {}).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), places in prop::collection::vec((0usize..4000, any::<u8>()), 0..20)) {
            let mut reader = Reader::default();
            let _ = reader.push(&bytes, Now(0), &mut |_, _| {});
            let _ = reader.finish(&mut |_, _| {});
            let (_, mut stream) = stream(4);
            for (place, byte) in places {
                if let Some(there) = stream.get_mut(place) {
                    *there = byte;
                }
            }
            let mut reader = Reader::default();
            let _ = reader.push(&stream, Now(0), &mut |_, _| {});
            let _ = reader.finish(&mut |_, _| {});
            let _ = with_lengths(&bytes);
        }
    }
}
