//! What real senders do beside what we write: other framings, several frames in a PES packet, tables over several packets,
//! programs that change, and all kinds of damage.

use bytes::BufMut;

use super::{
    demux::{Out, framed, read, read_in_pieces, words},
    *,
};
use crate::mpegts::demux::Counters;
use scenes::{Writer, solid};

/// Packets as somebody else would write them, each PID with its counter.
#[derive(Default)]
struct Sender {
    bytes: Vec<u8>,
    counters: std::collections::BTreeMap<u16, u8>,
}

impl Sender {
    /// A packet with this payload behind stuffing.
    fn packet(&mut self, pid: u16, start: bool, payload: &[u8]) {
        let counter = self.counters.entry(pid).or_default();
        let field = 184 - payload.len();
        let control = if field > 0 { 0x30 } else { 0x10 };
        self.bytes.push(0x47);
        self.bytes.put_u16(pid | if start { 0x4000 } else { 0 });
        self.bytes.push(control | *counter);
        *counter = (*counter + 1) % 16;
        if field > 0 {
            self.bytes.push(field as u8 - 1);
            self.bytes.extend([0].iter().chain(&[0xff; 183]).take(field - 1));
        }
        self.bytes.extend(payload);
    }

    /// Something in as many packets as it needs, at most `room` bytes in each.
    fn spread(&mut self, pid: u16, bytes: &[u8], room: usize) {
        for (number, payload) in bytes.chunks(room).enumerate() {
            self.packet(pid, number == 0, payload);
        }
    }

    /// A table in packets of `room` bytes.
    fn table(&mut self, pid: u16, section: &[u8], room: usize) {
        self.spread(pid, &[&[0][..], section].concat(), room);
    }

    /// The usual tables: a program of these streams.
    fn tables(&mut self, version: u8, streams: &[(u8, u16, &[u8])]) {
        self.table(0, &section(0, 1, version, &[0, 1, 0xf0, 0]), 184);
        self.table(0x1000, &map(1, version, streams), 184);
    }

    fn pes(&mut self, pid: u16, pes: &[u8]) {
        self.spread(pid, pes, 184);
    }
}

fn section(table_id: u8, id: u16, version: u8, content: &[u8]) -> Vec<u8> {
    let mut section = vec![table_id];
    section.put_u16(0xb000 | (content.len() as u16 + 9));
    section.put_u16(id);
    section.extend([0xc1 | version << 1, 0, 0]);
    section.extend(content);
    let crc = crc::crc(&section);
    section.put_u32(crc);
    section
}

fn map(number: u16, version: u8, streams: &[(u8, u16, &[u8])]) -> Vec<u8> {
    let mut content = vec![0xe1, 0, 0xf0, 0];
    for (kind, pid, descriptors) in streams {
        content.push(*kind);
        content.put_u16(0xe000 | pid);
        content.put_u16(0xf000 | descriptors.len() as u16);
        content.extend(*descriptors);
    }
    section(2, number, version, &content)
}

/// A PES packet of this time. Its length is said if it can be.
fn pes(stream_id: u8, ticks: Option<u64>, payload: &[u8]) -> Vec<u8> {
    let mut times = Vec::new();
    if let Some(ticks) = ticks {
        let [a, b, c] = [ticks >> 30 & 7, ticks >> 15 & 0x7fff, ticks & 0x7fff];
        times.push(0x21 | (a as u8) << 1);
        times.put_u16((b as u16) << 1 | 1);
        times.put_u16((c as u16) << 1 | 1);
    }
    let mut pes = vec![0, 0, 1, stream_id];
    pes.put_u16(u16::try_from(3 + times.len() + payload.len()).unwrap_or(0));
    pes.extend([0x80, if ticks.is_some() { 0x80 } else { 0 }, times.len() as u8]);
    pes.extend(times);
    pes.extend(payload);
    pes
}

fn adts(number: u32) -> Vec<u8> {
    let data = framed(Codec::Aac, number);
    let len = data.len() + 7;
    let head = [0xff, 0xf1, 0x4c, 0x80 | (len >> 11) as u8, (len >> 3) as u8, (len << 5) as u8 | 0x1f, 0xfc];
    [&head[..], &data].concat()
}

const AAC: (u8, u16, &[u8]) = (0x0f, SECOND, &[]);
const H264: (u8, u16, &[u8]) = (0x1b, FIRST, &[]);

fn sounds(out: &Out) -> Vec<(i64, Bytes)> {
    out.media(AUDIO)
        .into_iter()
        .map(|frame| match &frame.payload {
            Payload::Audio { data, .. } => (frame.dts.ticks, data.clone()),
            _ => panic!("{frame:?}"),
        })
        .collect()
}

fn pictures(out: &Out) -> Vec<(i64, bool, Vec<u8>)> {
    out.media(VIDEO)
        .into_iter()
        .map(|frame| match &frame.payload {
            Payload::Video { key, data, .. } => (frame.dts.ticks, *key, data.to_vec()),
            _ => panic!("{frame:?}"),
        })
        .collect()
}

/// An access unit of a key frame with its parameter sets, and of another.
fn units() -> [Vec<u8>; 2] {
    let config = hex(samples::H264_HIGH_720);
    let (sps, pps) = (&config[8..8 + 0x1a], &config[8 + 0x1a + 3..][..6]);
    [annex_b(&[&[9, 0xf0], sps, pps, &hex(samples::H264_IDR)[4..]]), annex_b(&[&hex(samples::H264_P)[4..]])]
}

#[test]
fn several_frames_in_a_pes_packet_play_one_after_the_other() {
    let mut sender = Sender::default();
    sender.tables(0, &[AAC]);
    let frames: Vec<Vec<u8>> = (0..7).map(adts).collect();
    sender.pes(SECOND, &pes(0xc0, Some(9000), &frames[..4].concat()));
    // What a PES packet says counts for the first frame in it.
    sender.pes(SECOND, &pes(0xc0, Some(16_700), &frames[4..].concat()));
    let out = read(&sender.bytes);
    // 1024 samples at 48 kHz are 1920 ticks.
    let expected: Vec<(i64, Bytes)> = [9000, 10_920, 12_840, 14_760, 16_700, 18_620, 20_540]
        .into_iter()
        .zip(0..)
        .map(|(time, number)| (time, framed(Codec::Aac, number).into()))
        .collect();
    assert_eq!(sounds(&out), expected);
    assert_eq!(out.counters.broken_frames, 0);
}

#[test]
fn frames_that_go_on_in_the_next_pes_packet_are_put_together() {
    for (stream_type, codec, cut) in
        [(0x0f, Codec::Aac, 333), (0x03, Codec::Mp3, 500), (0x81, Codec::Ac3, 1000), (0x0f, Codec::Aac, 3)]
    {
        let mut sender = Sender::default();
        sender.tables(0, &[(stream_type, SECOND, &[])]);
        let frames: Vec<Vec<u8>> = (0..12)
            .map(|number| if codec == Codec::Aac { adts(number) } else { framed(codec, number) })
            .collect();
        let stream = frames.concat();
        let samples = match codec {
            Codec::Mp3 => 1152,
            Codec::Ac3 => 1536,
            _ => 1024,
        };
        // Each PES packet has the time of the first frame that begins in it, if one does.
        let mut starts = frames.iter().scan(0, |at, frame| Some(std::mem::replace(at, *at + frame.len())));
        let starts: Vec<usize> = starts.by_ref().collect();
        for (number, payload) in stream.chunks(cut).enumerate() {
            let range = number * cut..number * cut + payload.len();
            let first = starts.iter().position(|start| range.contains(start));
            let time = first.map(|first| 90_000 + first as u64 * samples * 90_000 / 48_000);
            sender.pes(SECOND, &pes(0xc0, time, payload));
        }
        let out = read(&sender.bytes);
        let expected: Vec<(i64, Bytes)> = (0..12)
            .map(|number| {
                let time = 90_000 + i64::from(number) * samples as i64 * 90_000 / 48_000;
                (time, framed(codec, number).into())
            })
            .collect();
        assert_eq!(sounds(&out), expected, "{codec:?}");
        assert_eq!(out.counters.broken_frames, 0);
    }
}

#[test]
fn sound_that_begins_in_mid_frame_or_is_damaged_is_found_again() {
    let mut sender = Sender::default();
    sender.tables(0, &[AAC]);
    let frames: Vec<Vec<u8>> = (0..9).map(adts).collect();
    sender.pes(SECOND, &pes(0xc0, Some(9000), &[&frames[0][50..], &frames[1], &frames[2]].concat()));
    let mut damaged = [&frames[3][..], &frames[4], &frames[5]].concat();
    damaged[frames[3].len()] = 0;
    sender.pes(SECOND, &pes(0xc0, Some(20_000), &damaged));
    sender.pes(SECOND, &pes(0xc0, Some(30_000), &frames[6]));
    let out = read(&sender.bytes);
    let data = |number| Bytes::from(framed(Codec::Aac, number));
    let got = sounds(&out);
    for number in [1, 2, 3, 5, 6] {
        assert!(got.iter().any(|(_, found)| *found == data(number)), "frame {number}");
    }
    assert_eq!((got.len(), out.counters.broken_frames), (5, 2));
}

#[test]
fn parameters_of_sound_that_change_are_told_before_the_frame() {
    let mut sender = Sender::default();
    sender.tables(0, &[AAC]);
    let mut mono = adts(1);
    // One channel in place of two.
    mono[3] = mono[3] & 0x3f | 0x40;
    sender.pes(SECOND, &pes(0xc0, Some(9000), &[adts(0), mono, adts(2)].concat()));
    let out = read(&sender.bytes);
    let channels: Vec<&str> = out
        .parameters(AUDIO)
        .iter()
        .map(|parameters| if parameters.configuration[1] & 0x78 == 0x10 { "stereo" } else { "mono" })
        .collect();
    assert_eq!(channels, ["stereo", "mono", "stereo"]);
    assert_eq!(
        out.frames.iter().map(Frame::is_media).collect::<Vec<_>>(),
        [false, true, false, true, false, true]
    );
}

#[test]
fn an_opus_head_with_trims_and_an_extension_is_passed_over() {
    let opus: (u8, u16, &[u8]) = (0x06, SECOND, b"\x05\x04Opus\x7f\x02\x80\x02");
    let mut sender = Sender::default();
    sender.tables(0, &[opus]);
    let packet = framed(Codec::Opus, 7);
    let mut len = vec![255; packet.len() / 255];
    len.push((packet.len() % 255) as u8);
    let trimmed = [&[0x7f, 0xfc][..], &len, &[0x01, 0x38, 0, 9, 2, 1, 1], &packet].concat();
    let plain = [&[0x7f, 0xe0][..], &len, &packet].concat();
    sender.pes(SECOND, &pes(0xbd, Some(9000), &[trimmed, plain].concat()));
    let out = read(&sender.bytes);
    // 20 ms are 1800 ticks.
    assert_eq!(sounds(&out), [(9000, packet.clone().into()), (10_800, packet.into())]);
    let [parameters] = out.parameters(AUDIO)[..] else { panic!() };
    assert_eq!(*parameters, Parameters::of_opus(2));
}

#[test]
fn ac3_is_known_by_each_of_its_three_names() {
    let names: [(u8, &[u8]); 3] = [(0x81, b"\x05\x04AC-3"), (0x06, b"\x05\x04AC-3"), (0x06, b"\x6a\x01\x00")];
    for (stream_type, descriptors) in names {
        let mut sender = Sender::default();
        sender.tables(0, &[(stream_type, SECOND, descriptors)]);
        sender.pes(SECOND, &pes(0xbd, Some(9000), &framed(Codec::Ac3, 1)));
        assert_eq!(sounds(&read(&sender.bytes)), [(9000, framed(Codec::Ac3, 1).into())]);
    }
}

#[test]
fn pictures_with_and_without_a_length_end_where_they_should() {
    let [key, other] = units();
    let open = |payload: &[u8], time| {
        let mut pes = pes(0xe0, Some(time), payload);
        (pes[4], pes[5]) = (0, 0);
        pes
    };
    let mut sender = Sender::default();
    sender.tables(0, &[H264]);
    sender.pes(FIRST, &open(&key, 9000));
    sender.pes(FIRST, &open(&other, 12_600));
    sender.pes(FIRST, &pes(0xe0, Some(16_200), &other));
    let before_the_end = {
        let mut demuxer = crate::mpegts::Demuxer::default();
        let mut frames = 0;
        demuxer.push(&sender.bytes, &mut |_| frames += 1);
        frames
    };
    // Parameters and all three: the last says its length.
    assert_eq!(before_the_end, 4);
    sender.pes(FIRST, &open(&other, 19_800));
    let got = pictures(&read(&sender.bytes));
    let times: Vec<(i64, bool)> = got.iter().map(|(time, key, _)| (*time, *key)).collect();
    assert_eq!(times, [(9000, true), (12_600, false), (16_200, false), (19_800, false)]);
    assert_eq!(got[0].2, hex(samples::H264_IDR));
    assert_eq!(got[3].2, hex(samples::H264_P));
}

#[test]
fn pictures_without_times_follow_at_the_pace_of_the_last() {
    let [key, other] = units();
    let mut sender = Sender::default();
    sender.tables(0, &[H264]);
    for (number, payload) in [&key, &other, &other, &other, &key].into_iter().enumerate() {
        let time = (number != 2 && number != 3).then_some(9000 + number as u64 * 3600);
        sender.pes(FIRST, &pes(0xe0, time, payload));
    }
    let times: Vec<i64> = pictures(&read(&sender.bytes)).iter().map(|(time, ..)| *time).collect();
    assert_eq!(times, [9000, 12_600, 16_200, 19_800, 23_400]);
    // Without any there is nothing to go by.
    let mut sender = Sender::default();
    sender.tables(0, &[H264]);
    sender.pes(FIRST, &pes(0xe0, None, &key));
    let out = read(&sender.bytes);
    assert_eq!((out.frames.len(), out.counters.broken_frames), (0, 1));
}

#[test]
fn parameter_sets_that_change_or_come_alone_make_new_parameters() {
    let config = hex(samples::H264_BASELINE_1080);
    let (sps, pps) = (&config[8..8 + 0x17], &config[8 + 0x17 + 3..][..4]);
    let [key, other] = units();
    let mut sender = Sender::default();
    sender.tables(0, &[H264]);
    sender.pes(FIRST, &pes(0xe0, Some(9000), &other));
    sender.pes(FIRST, &pes(0xe0, Some(12_600), &key));
    sender.pes(FIRST, &pes(0xe0, Some(16_200), &key));
    sender.pes(FIRST, &pes(0xe0, Some(19_800), &annex_b(&[sps, pps])));
    sender.pes(FIRST, &pes(0xe0, Some(19_800), &other));
    let out = read(&sender.bytes);
    let strings: Vec<&str> =
        out.parameters(VIDEO).iter().map(|parameters| &*parameters.codec_string).collect();
    assert_eq!(strings, ["avc1.64001f", "avc1.42c028"]);
    assert_eq!(out.parameters(VIDEO)[1].configuration, config);
    assert_eq!((pictures(&out).len(), out.counters.early_frames), (3, 1));
}

#[test]
fn an_entrance_of_an_open_group_is_one() {
    let config = hex(samples::H264_HIGH_720);
    let (sps, pps) = (&config[8..8 + 0x1a], &config[8 + 0x1a + 3..][..6]);
    let refresh = hex(samples::H264_REFRESH);
    let units: Vec<&[u8]> =
        crate::codec::nal::LengthPrefixed::new(&refresh, crate::codec::nal::LengthSize::Four)
            .map(Result::unwrap)
            .skip(2)
            .collect();
    let mut sender = Sender::default();
    sender.tables(0, &[H264]);
    sender.pes(FIRST, &pes(0xe0, Some(9000), &annex_b(&[&[sps, pps], &units[..]].concat())));
    let got = pictures(&read(&sender.bytes));
    assert_eq!((got.len(), got[0].1), (1, true));
}

#[test]
fn a_table_over_several_packets_and_two_in_one_are_read() {
    let [key, _] = units();
    for room in [9, 13, 50, 184] {
        let mut sender = Sender::default();
        sender.table(0, &section(0, 1, 0, &[0, 0, 0xe0, 0x10, 0, 1, 0xf0, 0]), room);
        // Another stream with descriptors of 200 bytes in front, so that a packet is not enough.
        let filler: Vec<u8> = [&[0x80, 200][..], &[7; 200]].concat();
        sender.table(0x1000, &map(1, 0, &[(0x86, 0x123, &filler), H264]), room);
        sender.pes(FIRST, &pes(0xe0, Some(9000), &key));
        let out = read(&sender.bytes);
        assert_eq!((pictures(&out).len(), out.counters.broken_sections), (1, 0), "{room} bytes to a packet");
        assert_eq!(out.remarks.len(), 1);
    }
    // The end of one stands before the beginning of the next, which has a third behind it.
    let other = map(2, 0, &[AAC]);
    let own = map(1, 0, &[H264]);
    let mut sender = Sender::default();
    sender.table(0, &section(0, 1, 0, &[0, 1, 0xf0, 0]), 184);
    sender.packet(0x1000, true, &[&[0][..], &other[..12]].concat());
    sender.packet(0x1000, true, &[&[(other.len() - 12) as u8][..], &other[12..], &own, &other].concat());
    sender.pes(FIRST, &pes(0xe0, Some(9000), &key));
    let out = read(&sender.bytes);
    assert_eq!(
        (pictures(&out).len(), out.counters),
        (1, Counters { packets: out.counters.packets, ..Counters::default() })
    );
}

#[test]
fn a_section_whose_crc_is_wrong_or_that_holds_later_is_left_out() {
    let [key, _] = units();
    let mut sender = Sender::default();
    let mut later = section(0, 1, 0, &[0, 1, 0xf0, 0]);
    later[5] &= 0xfe;
    let end = later.len() - 4;
    let crc = crc::crc(&later[..end]);
    later[end..].copy_from_slice(&crc.to_be_bytes());
    sender.table(0, &later, 184);
    let mut wrong = section(0, 1, 0, &[0, 1, 0xf0, 0]);
    wrong[9] ^= 4;
    sender.table(0, &wrong, 184);
    sender.table(0x1000, &map(1, 0, &[H264]), 184);
    sender.pes(FIRST, &pes(0xe0, Some(9000), &key));
    let out = read(&sender.bytes);
    assert_eq!((out.frames.len(), out.counters.broken_sections), (0, 1));
}

#[test]
fn a_program_that_changes_takes_its_streams_along_and_keeps_those_that_stay() {
    let [key, other] = units();
    let mut sender = Sender::default();
    sender.tables(0, &[H264, AAC]);
    sender.pes(FIRST, &pes(0xe0, Some(9000), &key));
    // In the middle of a picture another sound comes; the picture goes on.
    let long = pes(0xe0, Some(12_600), &annex_b(&[&[&[0x41][..], &solid(400, 1)].concat()]));
    sender.packet(FIRST, true, &long[..184]);
    sender.tables(1, &[H264, (0x81, 0x102, b"\x05\x04AC-3")]);
    sender.packet(FIRST, false, &long[184..368]);
    sender.packet(FIRST, false, &long[368..]);
    sender.pes(SECOND, &pes(0xc0, Some(9000), &adts(1)));
    sender.pes(0x102, &pes(0xbd, Some(9000), &framed(Codec::Ac3, 1)));
    let out = read(&sender.bytes);
    assert_eq!((pictures(&out).len(), sounds(&out).len()), (2, 1));
    assert_eq!(out.parameters(AUDIO)[0].codec, Codec::Ac3);
    assert_eq!(out.counters, Counters { packets: out.counters.packets, ..Counters::default() });

    // Another program takes its place, with its map elsewhere.
    sender.table(0, &section(0, 1, 1, &[0, 2, 0xf1, 0]), 184);
    sender.pes(FIRST, &pes(0xe0, Some(20_000), &other));
    sender.table(0x1100, &map(2, 0, &[(0x1b, 0x200, &[])]), 184);
    sender.pes(0x200, &pes(0xe0, Some(30_000), &key));
    let times: Vec<i64> = pictures(&read(&sender.bytes)).iter().map(|(time, ..)| *time).collect();
    assert_eq!(times, [9000, 12_600, 30_000]);
}

#[test]
fn of_several_programs_and_streams_the_first_are_carried() {
    let [key, _] = units();
    let mut sender = Sender::default();
    sender.table(0, &section(0, 1, 0, &[0, 1, 0xf0, 0, 0, 2, 0xf1, 0]), 184);
    sender.table(0x1100, &map(2, 0, &[(0x1b, 0x200, &[])]), 184);
    sender.table(0x1000, &map(1, 0, &[H264, AAC, (0x0f, 0x103, &[]), (0x1b, 0x104, &[])]), 184);
    for pid in [0x200, FIRST, 0x104] {
        sender.pes(pid, &pes(0xe0, Some(u64::from(pid)), &key));
    }
    for pid in [SECOND, 0x103] {
        sender.pes(pid, &pes(0xc0, Some(u64::from(pid)), &adts(1)));
    }
    let out = read(&sender.bytes);
    assert_eq!(pictures(&out).iter().map(|(time, ..)| *time).collect::<Vec<_>>(), [i64::from(FIRST)]);
    assert_eq!(sounds(&out).iter().map(|(time, _)| *time).collect::<Vec<_>>(), [i64::from(SECOND)]);
    assert_eq!(out.remarks, ["more than one stream of pictures or of sound; the first is carried"]);
}

#[test]
fn times_that_wrap_go_on_rising() {
    let [key, other] = units();
    let mut sender = Sender::default();
    sender.tables(0, &[H264, AAC]);
    let wrap = 1u64 << 33;
    for (number, ticks) in (0..).zip([wrap - 3600, wrap - 1, 3599, 7200]) {
        sender.pes(FIRST, &pes(0xe0, Some(ticks), if number == 0 { &key } else { &other }));
        sender.pes(SECOND, &pes(0xc0, Some((ticks + wrap - 500) % wrap), &adts(number)));
    }
    let out = read(&sender.bytes);
    let wrap = 1i64 << 33;
    let times = [wrap - 3600, wrap - 1, wrap + 3599, wrap + 7200];
    assert_eq!(pictures(&out).iter().map(|(time, ..)| *time).collect::<Vec<_>>(), times);
    assert_eq!(sounds(&out).iter().map(|(time, _)| *time).collect::<Vec<_>>(), times.map(|time| time - 500));
}

/// A stream that can be damaged, and how many of its frames are pictures and sound.
fn sample() -> Vec<u8> {
    let Some(scene) = scenes::all().into_iter().find(|scene| scene.name == "both") else { panic!() };
    scene.written_by(Writer::Wire)
}

/// The places of packets of a PID that begin something.
fn starts(bytes: &[u8], pid: u16) -> Vec<usize> {
    let of_pid = |packet: &[u8]| packet[1] & 0x1f == (pid >> 8) as u8 && packet[2] == pid as u8;
    let is_start = |packet: &[u8]| of_pid(packet) && packet[1] & 0x40 != 0;
    (0..bytes.len()).step_by(188).filter(|place| is_start(&bytes[*place..])).collect()
}

#[test]
fn a_lost_packet_costs_its_frame_and_nothing_else() {
    let bytes = sample();
    let whole = read(&bytes);
    for pid in [FIRST, SECOND] {
        let place = starts(&bytes, pid)[60] + 188;
        let out = read_in_pieces([&bytes[..place], &bytes[place + 188..]]);
        assert_eq!(out.frames.len(), whole.frames.len() - 1);
        assert_eq!((out.counters.gaps, out.counters.broken_units), (1, 1));
    }
}

#[test]
fn what_is_damaged_or_scrambled_is_left_out_and_counted() {
    let bytes = sample();
    let whole = read(&bytes);
    let place = starts(&bytes, FIRST)[60] + 188;
    let changed = |at: usize, bits: u8| {
        let mut bytes = bytes.clone();
        bytes[place + at] |= bits;
        read(&bytes)
    };
    let damaged = changed(1, 0x80);
    assert_eq!(damaged.frames.len(), whole.frames.len() - 1);
    assert_eq!((damaged.counters.damaged_packets, damaged.counters.gaps), (1, 1));
    let scrambled = changed(3, 0x80);
    assert_eq!(scrambled.frames.len(), whole.frames.len() - 1);
    assert_eq!(
        (scrambled.counters.scrambled, scrambled.counters.gaps, scrambled.counters.broken_units),
        (1, 0, 1)
    );
    // A PES packet says so in its own head.
    let mut bytes = bytes.clone();
    let start = starts(&bytes, FIRST)[60];
    let pes = start + 5 + usize::from(bytes[start + 4]);
    bytes[pes + 6] |= 0x10;
    let out = read(&bytes);
    assert_eq!((out.frames.len(), out.counters.scrambled), (whole.frames.len() - 1, 1));
}

#[test]
fn a_packet_that_comes_twice_is_taken_once() {
    let bytes = sample();
    let whole = read(&bytes);
    let twice: Vec<&[u8]> = bytes.chunks(188).flat_map(|packet| [packet, packet]).collect();
    let out = read_in_pieces(twice);
    assert_eq!(words(&out.frames), words(&whole.frames));
    assert_eq!((out.counters.gaps, out.counters.broken_units), (0, 0));
    assert!(out.counters.repeated_packets > 1000);
}

#[test]
fn packets_with_something_between_them_are_found() {
    let bytes = sample();
    let whole = words(&read(&bytes).frames);
    let timed: Vec<u8> = bytes
        .chunks(188)
        .zip(0u32..)
        .flat_map(|(packet, time)| [&time.to_be_bytes()[..], packet].concat())
        .collect();
    let corrected: Vec<u8> = bytes.chunks(188).flat_map(|packet| [packet, &[0x55; 16]].concat()).collect();
    for bytes in [timed, corrected] {
        for piece in [1, 100, 188, bytes.len()] {
            let out = read_in_pieces(bytes.chunks(piece));
            assert_eq!(words(&out.frames), whole);
            assert!(out.counters.lost_syncs <= 1 && out.counters.skipped_bytes < 204);
        }
    }
}

#[test]
fn what_stands_between_packets_is_passed_over() {
    let bytes = sample();
    let whole = read(&bytes);
    let (before, after) = bytes.split_at(starts(&bytes, FIRST)[60]);
    let garbage = noise(5000, 3);
    for piece in [7, 188, 1 << 20] {
        let bytes = [before, &garbage, after].concat();
        let out = read_in_pieces(bytes.chunks(piece));
        // Some of the garbage may look like a packet, and then like one of a stream.
        assert!(out.frames.len() + 2 >= whole.frames.len(), "{:?}", out.counters);
        assert!(out.counters.lost_syncs >= 1 && out.counters.skipped_bytes > 4000);
    }
}

#[test]
fn whoever_jumps_in_our_live_form_loses_no_frame_to_it() {
    let Some(scene) = scenes::all().into_iter().find(|scene| scene.name == "both") else { panic!() };
    let live = scenes::Live::of(&scene);
    let entrances = live.entrances();
    let leaves = entrances[1] + 31;
    let out = read(&live.watched_with_a_jump(leaves, entrances[3]));
    let media = out.frames.iter().filter(|frame| frame.is_media()).count();
    assert_eq!(media, leaves - entrances[0] + scene.frames.len() - entrances[3]);
    assert_eq!((out.counters.gaps, out.counters.broken_units), (0, 0));
}

#[test]
fn a_pes_packet_that_never_ends_is_dropped_at_its_bound() {
    let mut sender = Sender::default();
    sender.tables(0, &[H264, AAC]);
    let [key, _] = units();
    let mut endless = pes(0xe0, Some(9000), &[&key[..], &solid(170, 1)].concat());
    (endless[4], endless[5]) = (0, 0);
    let mut demuxer = crate::mpegts::Demuxer::default();
    let mut frames = 0;
    let mut held = 0;
    for (pid, start) in [(FIRST, &endless[..]), (SECOND, &endless[..])] {
        sender.pes(pid, start);
        for _ in 0..100_000 {
            sender.packet(pid, false, &[7; 184]);
            demuxer.push(&std::mem::take(&mut sender.bytes), &mut |_| frames += 1);
            held = held.max(demuxer.held_bytes());
        }
    }
    assert_eq!((demuxer.counters().oversized_units, frames), (2, 0));
    // Memory doubles as bytes come.
    assert!((16 << 20..34 << 20).contains(&held), "{held} bytes");
    // And it is let go.
    assert!(demuxer.held_bytes() < 2 << 20, "{} bytes", demuxer.held_bytes());
    sender.pes(FIRST, &pes(0xe0, Some(9000), &key));
    demuxer.push(&sender.bytes, &mut |_| frames += 1);
    assert_eq!(frames, 2);
}

#[test]
fn heads_that_break_rules_are_counted() {
    let [key, _] = units();
    let whole = pes(0xe0, Some(9000), &key);
    let changed = |at: usize, byte: u8| {
        let mut pes = whole.clone();
        pes[at] = byte;
        let mut sender = Sender::default();
        sender.tables(0, &[H264]);
        sender.pes(FIRST, &pes);
        sender.pes(FIRST, &whole);
        let out = read(&sender.bytes);
        (pictures(&out).len(), out.counters.broken_units)
    };
    assert_eq!(changed(6, 0x84), (2, 0));
    // No start code, padding, flags of MPEG-1, a header that is longer than the packet, one that ends in its time.
    for (at, byte) in [(2, 2), (3, 0xbe), (6, 0x40), (8, 0xff), (8, 3)] {
        assert_eq!(changed(at, byte), (1, 1), "byte {at}");
    }
    // An adaptation field that is longer than its packet, and a packet with neither of both.
    for (at, byte) in [(4, 200), (3, 0x00)] {
        let mut sender = Sender::default();
        sender.tables(0, &[H264]);
        sender.packet(FIRST, true, &[0; 100]);
        let packet = sender.bytes.len() - 188;
        sender.bytes[packet + at] = byte;
        assert_eq!(read(&sender.bytes).counters.malformed_packets, 1);
    }
}
