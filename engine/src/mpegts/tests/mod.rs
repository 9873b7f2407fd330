//! What is written against a reader of its own, against the rules of the standards, against bytes that a person has looked
//! at, and against our own reading.

mod clock;
mod demux;
mod faults;
mod frames;
pub(crate) mod reader;
mod rules;
mod scenes;
mod segment;
mod wire;

use std::sync::Arc;

use bytes::Bytes;

use super::{CONTAINER, crc};
use crate::{
    codec::{
        Codec, Parameters,
        samples::{self, hex},
    },
    container::{Pieces, Track},
    media::{Frame, Payload, TrackId},
    time::{MediaTime, Wall},
};
use reader::{File, Stream};

const VIDEO: TrackId = TrackId::VIDEO;
const AUDIO: TrackId = TrackId::AUDIO;
/// What stands before the first frame's time in a file.
const DELAY: i64 = 63_000;
/// The PIDs of the first two streams.
const FIRST: u16 = 0x100;
const SECOND: u16 = 0x101;

fn parameters(codec: Codec, configuration: &str) -> Arc<Parameters> {
    Arc::new(Parameters::parse(codec, hex(configuration).into()).unwrap())
}

fn track(id: TrackId, parameters: Arc<Parameters>) -> Track {
    Track { id, parameters, rate: 1000 }
}

fn h264() -> Track {
    track(VIDEO, parameters(Codec::H264, samples::H264_HIGH_720))
}

fn h265() -> Track {
    track(VIDEO, parameters(Codec::H265, samples::H265_MAIN_720))
}

fn aac() -> Track {
    track(AUDIO, parameters(Codec::Aac, samples::AAC_LC_48000_STEREO))
}

fn h266() -> Track {
    track(VIDEO, parameters(Codec::H266, samples::H266_MAIN10_242))
}

fn ac3() -> Track {
    track(AUDIO, Arc::new(Parameters::from_ac3_frame(&hex(samples::AC3_48000_STEREO)).unwrap()))
}

fn opus(channels: u8) -> Track {
    track(AUDIO, Arc::new(Parameters::of_opus(channels)))
}

fn mp3() -> Track {
    track(AUDIO, Arc::new(Parameters::from_mp3_frame(&hex(samples::MP3_48000_STEREO)).unwrap()))
}

fn picture(millis: i64, offset: i64, key: bool, data: impl Into<Bytes>) -> Frame {
    Frame {
        track: VIDEO,
        dts: MediaTime::from_millis(millis),
        pts: MediaTime::from_millis(millis + offset),
        // The codec of a frame is its track's; nothing here asks the frame.
        payload: Payload::Video { codec: Codec::H264, key, data: data.into() },
    }
}

fn sound(millis: i64, data: impl Into<Bytes>) -> Frame {
    let time = MediaTime::from_millis(millis);
    Frame {
        track: AUDIO,
        dts: time,
        pts: time,
        payload: Payload::Audio { codec: Codec::Aac, data: data.into() },
    }
}

/// The access unit of these NAL units, each behind a length of four bytes.
fn prefixed(units: &[&[u8]]) -> Vec<u8> {
    units.iter().flat_map(|unit| [&(unit.len() as u32).to_be_bytes()[..], unit].concat()).collect()
}

/// The same behind start codes.
fn annex_b(units: &[&[u8]]) -> Vec<u8> {
    units.iter().flat_map(|unit| [&[0, 0, 0, 1][..], unit].concat()).collect()
}

/// Bytes that are not the same anywhere near.
fn noise(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

fn mux(tracks: &[Track], fragments: &[&[Frame]]) -> Vec<u8> {
    let mut muxer = (CONTAINER.open)();
    let mut out = Pieces::new();
    muxer.begin(tracks, Wall(0), &mut out);
    for fragment in fragments {
        muxer.fragment(fragment, None, &mut out);
    }
    out.finish().concat()
}

fn read(tracks: &[Track], fragments: &[&[Frame]]) -> File {
    reader::read(&mux(tracks, fragments))
}

/// What one frame becomes on the first stream of a file.
fn payload(track: &Track, frame: Frame) -> Option<Vec<u8>> {
    let file = read(std::slice::from_ref(track), &[&[frame]]);
    file.of(FIRST).first().map(|unit| unit.payload.clone())
}

#[test]
fn the_tables_are_those_that_ffmpeg_writes() {
    let tables = mux(&[h264(), aac()], &[]);
    let packet = |text| {
        let mut packet = hex(text);
        packet.resize(188, 0xff);
        packet
    };
    let pat = packet("474000100000b00d0001c100000001f0002ab104b2");
    let pmt = packet("475000100002b0170001c10000e100f0001be100f0000fe101f0002f44b99b");
    assert_eq!(tables, [&pat[..], &pmt].concat());
    let pmt = packet("475000100002b01c0001c10000e100f00006e100f00a05044f7075737f028002a5e2bd28");
    assert_eq!(mux(&[opus(2)], &[]), [pat, pmt].concat());
}

#[test]
fn the_check_value_of_crc_32_mpeg_2_is_right() {
    assert_eq!(crc::crc(b"123456789"), 0x0376_e6e7);
}

#[test]
fn each_fragment_begins_with_the_tables() {
    let frames = [picture(0, 0, true, hex(samples::H264_IDR)), sound(0, noise(300, 1))];
    let later = [picture(40, 0, false, hex(samples::H264_P))];
    let bytes = mux(&[h264(), aac()], &[&frames, &later, &later]);
    let starts: Vec<usize> =
        (0..bytes.len() / 188).filter(|packet| bytes[packet * 188 + 1..][..2] == [0x40, 0]).collect();
    // And so does the file itself.
    assert_eq!(starts.len(), 1 + 3);
    // A player that enters at any of them finds all it needs.
    for start in starts {
        let file = reader::read(&bytes[start * 188..]);
        assert_eq!(file.streams.len(), 2);
    }
}

#[test]
fn each_codec_has_the_type_and_descriptors_that_ffmpeg_knows() {
    let stream = |track: Track| {
        let File { streams, clock_pid, .. } = read(&[track], &[]);
        assert_eq!(clock_pid, FIRST);
        let [Stream { kind, pid: FIRST, descriptors }] = &streams[..] else { panic!("{streams:?}") };
        (*kind, descriptors.clone())
    };
    assert_eq!(stream(h264()), (0x1b, Vec::new()));
    assert_eq!(stream(h265()), (0x24, Vec::new()));
    assert_eq!(stream(h266()), (0x33, Vec::new()));
    assert_eq!(stream(aac()), (0x0f, Vec::new()));
    assert_eq!(stream(mp3()), (0x03, Vec::new()));
    let half = Parameters::from_mp3_frame(&hex(samples::MP3_22050_MONO)).unwrap();
    assert_eq!(stream(track(AUDIO, Arc::new(half))), (0x04, Vec::new()));
    assert_eq!(stream(ac3()), (0x81, b"\x05\x04AC-3".to_vec()));
    for channels in 1..=8 {
        assert_eq!(stream(opus(channels)), (0x06, [b"\x05\x04Opus\x7f\x02\x80", &[channels][..]].concat()));
    }
}

#[test]
fn a_track_that_cannot_be_said_is_left_out_with_its_frames() {
    let av1 = track(VIDEO, parameters(Codec::Av1, samples::AV1_MAIN_180));
    let vp9 = track(VIDEO, parameters(Codec::Vp9, samples::VP9_180));
    for video in [av1, vp9] {
        let file = read(&[video, opus(2)], &[&[picture(0, 0, true, noise(900, 1)), sound(0, noise(90, 2))]]);
        assert_eq!(file.streams.len(), 1);
        assert_eq!((file.clock_pid, file.units.len(), file.units[0].pid), (FIRST, 1, FIRST));
    }
    let unsaid = |track: Track| {
        let file = read(&[track], &[&[sound(0, noise(300, 1)), sound(20, noise(300, 2))]]);
        assert_eq!((file.streams.len(), file.units.len(), file.readings.len()), (0, 0, 0));
        assert_eq!((file.clock_pid, file.tables), (0x1fff, 1));
    };
    // Channels by elements, 960 samples, low delay, a rate of its own.
    for config in [samples::AAC_LC_31_BY_ELEMENTS, "1194", "f8e64000", "1780181c88"] {
        unsaid(track(AUDIO, parameters(Codec::Aac, config)));
    }
    unsaid(opus(9));
    // 5.1 in another order, and one stream without a meaning.
    for head in [
        "4f707573486561640106380180bb00000000010402000102030405",
        "4f707573486561640101380180bb00000000ff010000",
    ] {
        unsaid(track(AUDIO, parameters(Codec::Opus, head)));
    }
}

#[test]
fn a_stereo_stream_of_family_1_is_told_as_what_it_is() {
    let head = "4f707573486561640102380180bb000000000101010001";
    let file = read(&[track(AUDIO, parameters(Codec::Opus, head))], &[]);
    assert_eq!(file.streams[0].descriptors[9], 2);
}

#[test]
fn a_key_frame_stands_behind_a_delimiter_and_its_parameter_sets() {
    let config = hex(samples::H264_HIGH_720);
    let (sps, pps) = (&config[8..8 + 0x1a], &config[8 + 0x1a + 3..][..6]);
    let delimiter: &[u8] = &[0x09, 0xf0];
    let (idr, p) = (hex(samples::H264_IDR), hex(samples::H264_P));
    assert_eq!(
        payload(&h264(), picture(0, 0, true, idr.clone())),
        Some(annex_b(&[delimiter, sps, pps, &idr[4..]]))
    );
    assert_eq!(payload(&h264(), picture(0, 0, false, p.clone())), Some(annex_b(&[delimiter, &p[4..]])));

    let hevc = hex(samples::H265_IDR);
    let written = payload(&h265(), picture(0, 0, true, hevc.clone())).unwrap();
    let starts: Vec<usize> =
        (0..written.len() - 4).filter(|at| written[*at..].starts_with(&[0, 0, 0, 1])).collect();
    let kinds: Vec<u8> = starts.iter().map(|at| written[at + 4] >> 1).collect();
    assert_eq!(kinds, [35, 32, 33, 34, 20]);
    assert!(written.starts_with(&[0, 0, 0, 1, 0x46, 0x01, 0x50, 0, 0, 0, 1, 0x40]));
    assert!(written.ends_with(&hevc[4..]));
}

#[test]
fn the_delimiter_of_vvc_says_whether_a_decoder_can_begin_there() {
    let config = hex(samples::H266_MAIN10_242);
    let sets = crate::codec::h266::Configuration::parse(&config).unwrap().parameter_sets;
    let [sps, pps] = sets[..] else { panic!("{} sets", sets.len()) };
    for (unit, key, delimiter) in [
        (samples::H266_IDR, true, [0, 0xa1, 0xa8]),
        (samples::H266_CRA, true, [0, 0xa1, 0xa8]),
        (samples::H266_TRAIL, false, [0, 0xa3, 0x28]),
    ] {
        // Each has a delimiter of its own, of three bytes behind four of length.
        let unit = hex(unit);
        let slice = &unit[4 + 3 + 4..];
        let mut expected = vec![&delimiter[..]];
        if key {
            expected.extend([sps, pps]);
        }
        expected.push(slice);
        assert_eq!(payload(&h266(), picture(0, 0, key, unit.clone())), Some(annex_b(&expected)));
    }
    // Parts of both kinds are no entrance.
    let mixed = prefixed(&[&[0, 0x39, 7], &[0, 0x01, 7]]);
    let written = payload(&h266(), picture(0, 0, false, mixed)).unwrap();
    assert!(written.starts_with(&annex_b(&[&[0, 0xa1, 0x28]])));
}

#[test]
fn parameter_sets_and_a_delimiter_that_are_in_band_already_are_not_doubled() {
    let [delimiter, sps, pps, sei, idr]: [&[u8]; 5] =
        [&[9, 0x10], &[0x67, 100, 1], &[0x68, 2], &[6, 5, 1], &[0x65, 3, 4]];
    let data = prefixed(&[delimiter, sps, pps, sei, idr]);
    let written = payload(&h264(), picture(0, 0, true, data)).unwrap();
    assert_eq!(written, annex_b(&[&[9, 0xf0], sps, pps, sei, idr]));
    // With one kind alone in band, all of the configuration stand before it.
    let written = payload(&h264(), picture(0, 0, true, prefixed(&[pps, idr]))).unwrap();
    let config = hex(samples::H264_HIGH_720);
    let (own_sps, own_pps) = (&config[8..8 + 0x1a], &config[8 + 0x1a + 3..][..6]);
    assert_eq!(written, annex_b(&[&[9, 0xf0], own_sps, own_pps, pps, idr]));
}

#[test]
fn what_a_configuration_says_of_every_picture_stands_before_each_key_frame() {
    let mut config = hex(samples::H265_MAIN_720);
    // The count of arrays, and one more array before the others: a user's data, the light level of an HDR master.
    let (user, light): (&[u8], &[u8]) = (&[0x4e, 1, 5, 1, 7, 0x80], &[0x4e, 1, 144, 4, 3, 232, 1, 144, 0x80]);
    config[22] += 1;
    let array = [&[0x27, 0, 2, 0, 6][..], user, &[0, 9], light].concat();
    config.splice(23..23, array);
    let track = track(VIDEO, Arc::new(Parameters::parse(Codec::H265, config.into()).unwrap()));
    let (plain, own) = (hex(samples::H265_IDR), annex_b(&[light]));
    let expected = payload(&h265(), picture(0, 0, true, plain.clone())).unwrap();
    let (sets, idr) = expected.split_at(expected.len() - plain.len());
    assert_eq!(payload(&track, picture(0, 0, true, plain)), Some([sets, &own, idr].concat()));
}

#[test]
fn the_delimiter_of_hevc_is_in_the_sub_layer_of_its_picture() {
    let written = payload(&h265(), picture(0, 0, false, prefixed(&[&[0x02, 0x03, 9]]))).unwrap();
    assert_eq!(written, annex_b(&[&[0x46, 0x03, 0x50], &[0x02, 0x03, 9]]));
}

#[test]
fn each_length_size_is_read_as_its_configuration_says() {
    for (bits, lengths) in [(0xfc, &[2u8][..]), (0xfd, &[0, 2]), (0xff, &[0, 0, 0, 2])] {
        let mut config = hex(samples::H264_HIGH_720);
        config[4] = bits;
        let track = track(VIDEO, Arc::new(Parameters::parse(Codec::H264, config.into()).unwrap()));
        let data = [lengths, &[0x41, 7], lengths, &[0x41, 8]].concat();
        let written = payload(&track, picture(0, 0, false, data)).unwrap();
        assert_eq!(written, annex_b(&[&[9, 0xf0], &[0x41, 7], &[0x41, 8]]));
    }
}

#[test]
fn what_is_whole_of_a_broken_picture_is_written_and_nothing_of_one_that_has_nothing_whole() {
    let mut data = prefixed(&[&[0x41, 7], &[], &[0x41, 8]]);
    data.extend([0, 0, 0, 9, 0x41]);
    let written = payload(&h264(), picture(0, 0, false, data)).unwrap();
    assert_eq!(written, annex_b(&[&[9, 0xf0], &[0x41, 7], &[0x41, 8]]));
    for broken in [&[][..], &[0], &[0, 0, 0, 0], &[0, 0, 0, 5, 1, 2], &[0, 0, 0, 2, 9, 0xf0], &[0xff; 9]] {
        assert_eq!(payload(&h264(), picture(0, 0, true, broken.to_vec())), None);
        assert_eq!(
            payload(&h265(), picture(0, 0, true, broken.to_vec())).is_some(),
            broken.len() == 6 && broken[3] == 2
        );
    }
    for track in [aac(), mp3(), opus(2), ac3()] {
        assert_eq!(payload(&track, sound(0, Bytes::new())), None);
    }
}

#[test]
fn aac_stands_behind_the_header_that_ffmpeg_writes() {
    let header = |config: &str, len: usize| {
        let track = track(AUDIO, parameters(Codec::Aac, config));
        payload(&track, sound(0, noise(len, 1))).map(|payload| {
            assert_eq!(payload[7..], noise(len, 1));
            payload[..7].to_vec()
        })
    };
    // Type 2, index 3, two channels; 7 + 364 bytes are 0x173.
    assert_eq!(header(samples::AAC_LC_48000_STEREO, 364), Some(hex("fff14c802e7ffc")));
    assert_eq!(header(samples::AAC_LC_44100_MONO, 1), Some(hex("fff15040011ffc")));
    assert_eq!(header(samples::AAC_LC_71, 8184), Some(hex("fff14dc3fffffc")));
    assert_eq!(header(samples::AAC_LTP_48000_STEREO, 1), Some(hex("fff1cc80011ffc")));
    // What band replication doubles is said at the rate of the core.
    for config in ["2b920800", "139056e5a0", "eb8a0800"] {
        let Some(header) = header(config, 1) else { panic!("{config}") };
        assert_eq!(header[2] & 0xfc, 1 << 6 | 7 << 2, "{config}");
    }
    // 13 bits of length.
    assert_eq!(header(samples::AAC_LC_48000_STEREO, 8185), None);
}

#[test]
fn an_opus_packet_stands_behind_its_length() {
    let control = |len: usize| {
        let payload = payload(&opus(2), sound(0, noise(len, 3))).unwrap();
        let (control, data) = payload.split_at(payload.len() - len);
        assert_eq!(data, noise(len, 3));
        control.to_vec()
    };
    assert_eq!(control(1), [0x7f, 0xe0, 1]);
    assert_eq!(control(254), [0x7f, 0xe0, 254]);
    assert_eq!(control(255), [0x7f, 0xe0, 255, 0]);
    assert_eq!(control(256), [0x7f, 0xe0, 255, 1]);
    assert_eq!(control(510), [0x7f, 0xe0, 255, 255, 0]);
    assert_eq!(control(1275), [0x7f, 0xe0, 255, 255, 255, 255, 255, 0]);
}

#[test]
fn a_unit_of_any_length_fills_its_packets() {
    // Sound with and without the clock, pictures with it and with an entrance; lengths around every border of the first
    // three packets.
    let sets = 4 + 0x1a + 4 + 6;
    for len in 1..600 {
        let data = noise(len, len as u32);
        let alone = read(&[mp3()], &[&[sound(0, data.clone())]]);
        assert_eq!(alone.of(FIRST)[0].payload, data);
        let unit = [&[0x41][..], &data].concat();
        for key in [true, false] {
            let frames = [
                picture(0, 0, key, prefixed(&[&unit])),
                sound(0, data.clone()),
                picture(1, 40, key, prefixed(&[&unit])),
            ];
            let both = read(&[h264(), mp3()], &[&frames]);
            assert_eq!(both.of(SECOND)[0].payload, data);
            for unit in both.of(FIRST) {
                let sets = if key { sets } else { 0 };
                let head = 6 + sets + 5;
                assert_eq!((unit.payload.len(), unit.random_access), (head + len, key));
                assert_eq!(unit.payload[head..], data);
            }
        }
    }
}

#[test]
fn the_length_of_a_unit_is_said_as_long_as_it_can_be() {
    let unit = |len: usize| {
        let mut file = read(&[h264()], &[&[picture(0, 0, false, prefixed(&[&noise(len, 1)]))]]);
        let unit = file.units.remove(0);
        assert_eq!(unit.payload[10..], noise(len, 1));
        unit.open_end
    };
    // Three bytes of header, five of time, a delimiter of six, a start code.
    let longest = 0xffff - 3 - 5 - 6 - 4;
    assert_eq!([unit(longest), unit(longest + 1), unit(200_000)], [false, true, true]);
    let longest = 0xffff - 3 - 5;
    assert_eq!(payload(&mp3(), sound(0, noise(longest, 1))), Some(noise(longest, 1)));
    assert_eq!(payload(&mp3(), sound(0, noise(longest + 1, 1))), None);
}

#[test]
fn a_file_has_no_more_streams_than_its_map_has_room_for() {
    let tracks: Vec<Track> = (0..40)
        .map(|id| Track { id: TrackId(id), parameters: Arc::new(Parameters::of_opus(2)), rate: 1000 })
        .collect();
    let frames: Vec<Frame> =
        (0..40).map(|id| Frame { track: TrackId(id), ..sound(0, noise(99, 1)) }).collect();
    let file = read(&tracks, &[&frames]);
    assert_eq!((file.streams.len(), file.units.len()), (11, 11));
}

#[test]
fn each_packet_of_sound_is_an_entrance_where_there_are_no_pictures() {
    let frames = [sound(0, noise(9, 1)), sound(20, noise(9, 2))];
    let entrances = |tracks: &[Track]| {
        read(tracks, &[&frames]).units.iter().map(|unit| unit.random_access).collect::<Vec<_>>()
    };
    assert_eq!(entrances(&[aac()]), [true, true]);
    assert_eq!(entrances(&[h264(), aac()]), [false, false]);
}
