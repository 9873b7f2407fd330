//! Ours against bytes that a person has looked at, against another's reader, and against itself.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use mp4_atom::{Decode, Encode};
use proptest::prelude::*;

use super::{
    BOX_HEAD_BYTES,
    demux::{self, BoxHead},
    entry,
    mux::{self, Run, Sample, Track},
};
use crate::{
    codec::{
        Codec, Parameters,
        samples::{self, hex},
    },
    time::Wall,
};

fn parameters(codec: Codec, configuration: &str) -> Arc<Parameters> {
    Arc::new(Parameters::parse(codec, hex(configuration).into()).unwrap())
}

fn tracks(parameters: &[Arc<Parameters>]) -> Vec<Track> {
    (1..)
        .zip(parameters)
        .map(|(id, parameters)| Track { id, timescale: 1000, parameters: parameters.clone() })
        .collect()
}

fn init(tracks: &[Track]) -> BytesMut {
    let mut out = BytesMut::new();
    mux::init(tracks, Wall(1_795_333_500_123_000_000), &mut out);
    out
}

/// The content of the `moov` behind the `ftyp`.
fn moov(init: &[u8]) -> &[u8] {
    let ftyp = BoxHead::parse(init).unwrap().len.unwrap() as usize;
    let head = BoxHead::parse(&init[ftyp..]).unwrap();
    assert_eq!((&head.kind.0, head.len), (b"moov", Some((init.len() - ftyp) as u64)));
    &init[ftyp + BOX_HEAD_BYTES..]
}

fn all_codecs() -> Vec<Arc<Parameters>> {
    vec![
        parameters(Codec::H264, samples::H264_HIGH_720),
        parameters(Codec::H265, samples::H265_MAIN_720),
        parameters(Codec::H266, samples::H266_MAIN10_242),
        parameters(Codec::Av1, samples::AV1_MAIN_10_720),
        parameters(Codec::Vp9, samples::VP9_180),
        parameters(Codec::Aac, samples::AAC_LC_48000_STEREO),
        parameters(Codec::Opus, samples::OPUS_51),
        Arc::new(Parameters::from_mp3_frame(&hex(samples::MP3_48000_STEREO)).unwrap()),
    ]
}

/// Another's reader finds in our `moov` what we were given, and writes the same configuration from it.
#[test]
fn another_reader_finds_each_codec_in_our_initialisation_segment() {
    let all = all_codecs();
    let init = init(&tracks(&all));
    let mut rest = &init[..];
    let ftyp = mp4_atom::Ftyp::decode(&mut rest).unwrap();
    assert_eq!(ftyp.major_brand, b"iso6".into());
    let moov = mp4_atom::Moov::decode(&mut rest).unwrap();
    assert!(rest.is_empty());
    assert_eq!(moov.mvex.as_ref().unwrap().trex.len(), all.len());
    assert_eq!(moov.trak.len(), all.len());
    let bytes = |config: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        config(&mut out);
        out.split_off(BOX_HEAD_BYTES)
    };
    for (trak, wanted) in moov.trak.iter().zip(&all) {
        assert_eq!(trak.mdia.mdhd.timescale, 1000);
        let [codec] = &trak.mdia.minf.stbl.stsd.codecs[..] else { panic!("one sample entry") };
        let found = match codec {
            mp4_atom::Codec::Avc1(entry) => {
                assert_eq!((entry.visual.width, entry.visual.height), (1280, 720));
                bytes(&|out| entry.avcc.encode(out).unwrap())
            }
            mp4_atom::Codec::Hvc1(entry) => bytes(&|out| entry.hvcc.encode(out).unwrap()),
            // It does not know VVC: the kind, and what is behind the numbers of every picture's entry.
            mp4_atom::Codec::Unknown(kind, body) => {
                assert_eq!(*kind, b"vvc1".into());
                let (head, record) = body[78..].split_at(BOX_HEAD_BYTES + 4);
                assert_eq!(head[..4], (head.len() as u32 + record.len() as u32).to_be_bytes());
                assert_eq!(&head[4..], b"vvcC\0\0\0\0");
                record.to_vec()
            }
            mp4_atom::Codec::Av01(entry) => bytes(&|out| entry.av1c.encode(out).unwrap()),
            mp4_atom::Codec::Vp09(entry) => bytes(&|out| entry.vpcc.encode(out).unwrap()),
            mp4_atom::Codec::Mp4a(entry) => {
                assert_eq!((entry.audio.channel_count, entry.audio.sample_rate.integer()), (2, 48_000));
                let decoder = &entry.esds.es_desc.dec_config;
                let object = if wanted.codec == Codec::Aac { 0x40 } else { 0x6b };
                assert_eq!((decoder.object_type_indication, decoder.stream_type), (object, 5));
                match &decoder.dec_specific {
                    Some(specific) => specific.raw.clone(),
                    None => Vec::new(),
                }
            }
            mp4_atom::Codec::Opus(entry) => {
                assert_eq!((entry.dops.output_channel_count, entry.dops.pre_skip), (6, 0x138));
                assert_eq!(entry.dops.channel_mapping.as_ref().unwrap().stream_count, 4);
                wanted.configuration.to_vec()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(found, wanted.configuration, "{}", wanted.codec.name());
    }
}

#[test]
fn vp8_has_an_entry_of_its_own_and_what_mp4_has_no_form_for_has_none() {
    let vp8 = Parameters::of_key_frame(Codec::Vp8, &hex(samples::VP8_KEY)).unwrap();
    let bytes = init(&tracks(&[Arc::new(vp8.clone())]));
    let movie = demux::Movie::parse(moov(&bytes)).unwrap();
    let entry::SampleEntry { kind, codec, configuration, shape } = &movie.tracks[0].entry;
    assert_eq!((&kind.0, *codec, *shape), (b"vp08", Some(Codec::Vp8), Some(vp8.shape)));
    assert_eq!(*configuration, vp8.configuration);
    // Another's reader.
    let mut rest = &bytes[..];
    mp4_atom::Ftyp::decode(&mut rest).unwrap();
    let moov = mp4_atom::Moov::decode(&mut rest).unwrap();
    let [mp4_atom::Codec::Vp08(entry)] = &moov.trak[0].mdia.minf.stbl.stsd.codecs[..] else {
        panic!("{:?}", moov.trak[0].mdia.minf.stbl.stsd)
    };
    assert_eq!((entry.visual.width, entry.visual.height, entry.vpcc.bit_depth), (64, 64, 8));

    let voice = Arc::new(Parameters::of_voice(Codec::PcmA).unwrap());
    let bytes = init(&tracks(&[voice, Arc::new(vp8)]));
    assert_eq!(mp4_atom::Moov::decode(&mut &bytes[bytes.len() - moov_len(&bytes)..]).unwrap().trak.len(), 1);
}

/// Bytes of the `moov`, with its head.
fn moov_len(init: &[u8]) -> usize {
    moov(init).len() + BOX_HEAD_BYTES
}

#[test]
fn our_reader_finds_what_our_writer_wrote() {
    let all = all_codecs();
    let init = init(&tracks(&all));
    let movie = demux::Movie::parse(moov(&init)).unwrap();
    assert!(movie.fragmented);
    assert_eq!(movie.tracks.len(), all.len());
    for (track, wanted) in movie.tracks.iter().zip(&all) {
        assert_eq!(track.entry.codec, Some(wanted.codec));
        assert_eq!(track.entry.configuration, wanted.configuration);
        assert_eq!(track.timescale, 1000);
        assert_eq!(&track.handler.0, if wanted.codec.is_video() { b"vide" } else { b"soun" });
    }
}

#[test]
fn the_vvc_entry_that_ffmpeg_writes_is_read_and_its_configuration_box_is_written_alike() {
    // stsd of the file that holds the record.
    let head = "\
                0000015c7374736400000000000000010000014c767663310000000000000001000000000000000000000000\
                00000000014200f20048000000480000000000000001154c61766336332e312e313032206c69627676656e63\
                000000000000000000000018ffff";
    let configuration_box = ["000000c8", "76766343", "00000000", samples::H266_MAIN10_242].concat();
    let tail = "\
                0000000a6669656c010000000010706173700000000100000001000000146274727400000000000108480001\
                0848";
    let stsd = hex(&[head, &configuration_box, tail].concat());
    let wanted = parameters(Codec::H266, samples::H266_MAIN10_242);
    let entry = entry::read(&stsd[BOX_HEAD_BYTES..]).unwrap();
    assert_eq!((&entry.kind.0, entry.codec), (b"vvc1", Some(Codec::H266)));
    assert_eq!((&entry.configuration, entry.shape), (&wanted.configuration, Some(wanted.shape)));

    let mut out = BytesMut::new();
    entry::write(&mut out, &wanted);
    assert_eq!(out[..8], hex(&format!("{:08x}76766331", out.len()))[..]);
    assert!(out.ends_with(&hex(&configuration_box)));
}

#[test]
fn an_opus_track_without_its_head_is_described_by_its_shape() {
    let mut head = (*parameters(Codec::Opus, samples::OPUS_STEREO)).clone();
    head.configuration = Bytes::from_static(b"OpusHead\x01");
    let init = init(&tracks(&[Arc::new(head)]));
    let movie = demux::Movie::parse(moov(&init)).unwrap();
    assert_eq!(&movie.tracks[0].entry.configuration[..], b"OpusHead\x01\x02\0\0\x80\xbb\0\0\0\0\0");
}

#[test]
fn the_head_of_a_fragment_is_the_one_of_the_standard() {
    let picture = |duration, composition_offset, key, data: &'static [u8]| Sample {
        duration,
        composition_offset,
        key,
        data: Bytes::from_static(data),
    };
    let video = [picture(40, 80, true, b"key"), picture(41, -1, false, b"delta")];
    let audio = [picture(21, 0, true, b"s")];
    let runs = [
        Run { track: 1, base_decode_time: 0x1_0000_0002, all_key: false, samples: &video },
        Run { track: 2, base_decode_time: 7, all_key: true, samples: &audio },
    ];
    let mut out = BytesMut::new();
    mux::head(3, &runs, &mut out);
    let expected = [
        "000000c46d6f6f66",                 // moof
        "000000106d6668640000000000000003", // mfhd: the third fragment
        "0000006074726166",                 // traf
        "00000010746668640002000000000001", // tfhd: default-base-is-moof, track 1
        "00000014746664740100000000000001", // tfdt, version 1
        "00000002",
        "000000347472756e01000f01", // trun, version 1: offset, durations, sizes, flags, composition offsets
        "00000002000000cc",         // two samples, 204 bytes from the start of moof: behind the head of mdat
        "00000028000000030200000000000050", // 40 long, 3 bytes, key, shown 80 later
        "000000290000000501010000ffffffff", // 41 long, 5 bytes, not a key, shown 1 earlier
        "0000004c74726166",         // traf
        "000000147466686400020020", // tfhd: also default flags
        "0000000202000000",         // track 2, all keys
        "00000014746664740100000000000000", // tfdt
        "00000007",
        "0000001c7472756e01000301", // trun: offset, durations, sizes
        "00000001000000d4",         // one sample behind those of the first run
        "0000001500000001",
        "000000116d646174", // mdat of 9 bytes
    ];
    assert_eq!(out[..], hex(&expected.concat()));
    assert_eq!(out.len(), mux::head_len(&runs));
}

#[test]
fn a_reader_refuses_what_would_make_it_take_memory_or_lead_outside() {
    let init = init(&tracks(&[parameters(Codec::H264, samples::H264_HIGH_720)]));
    let movie = demux::Movie::parse(moov(&init)).unwrap();
    let tfhd = "00000010746668640002000000000001";
    let tfdt = "00000014746664740100000000000000";
    let fragment = |trun: &str, tfdt_low: &str, track: &str| {
        let traf = format!("{}{track}{tfdt}{tfdt_low}{trun}", &tfhd[..24]);
        let moof = format!("{:08x}74726166{traf}", traf.len() / 2 + 8);
        demux::Fragment::parse(&movie, &hex(&moof), 0)
    };
    // Four thousand million samples without a field between them.
    let countless = "000000107472756e00000000ffffffff";
    assert!(fragment(countless, "00000000", "00000001").is_err());
    // An offset before the file.
    let before = "000000147472756e0000000100000001ffffff00";
    assert!(fragment(before, "00000000", "00000001").is_err());
    // A track that moov does not have.
    let one = "000000147472756e000000010000000100000100";
    assert!(fragment(one, "00000000", "00000009").is_err());
    assert_eq!(fragment(one, "00000000", "00000001").unwrap().samples.len(), 1);
}

proptest! {
    #[test]
    fn another_reader_and_ours_find_the_same_samples(
        base in 0u64..1 << 60,
        samples in prop::collection::vec((0u32..100_000, any::<i32>(), any::<bool>(), 0usize..50), 1..40),
        sounds in prop::collection::vec((0u32..5000, 0usize..50), 0..40),
        sequence in 1u32..,
    ) {
        let sample = |duration, composition_offset, key, len: usize| Sample {
            duration,
            composition_offset,
            key,
            data: vec![7; len].into(),
        };
        let video: Vec<_> = samples.iter().map(|&(duration, offset, key, len)| sample(duration, offset, key, len)).collect();
        let audio: Vec<_> = sounds.iter().map(|&(duration, len)| sample(duration, 0, true, len)).collect();
        let mut runs = vec![Run { track: 1, base_decode_time: base, all_key: false, samples: &video }];
        if !audio.is_empty() {
            runs.push(Run { track: 2, base_decode_time: base / 2, all_key: true, samples: &audio });
        }
        let mut out = BytesMut::new();
        mux::head(sequence, &runs, &mut out);
        let head = out.len() as u64;
        prop_assert!(out.len() <= mux::head_len_max(runs.len(), video.len() + audio.len()));

        let init = init(&tracks(&[
            parameters(Codec::H264, samples::H264_HIGH_720),
            parameters(Codec::Aac, samples::AAC_LC_48000_STEREO),
        ]));
        let movie = demux::Movie::parse(moov(&init)).unwrap();
        let moof_len = out.len() - BOX_HEAD_BYTES;
        let at = 1 << 33;
        let ours = demux::Fragment::parse(&movie, &out[BOX_HEAD_BYTES..moof_len], at).unwrap();
        prop_assert_eq!(ours.sequence, sequence);

        let theirs = mp4_atom::Moof::decode(&mut &out[..moof_len]).unwrap();
        prop_assert_eq!(theirs.mfhd.sequence_number, sequence);
        prop_assert_eq!(theirs.traf.len(), runs.len());
        let mut found = ours.samples.iter();
        let mut offset = at + head;
        for (traf, run) in theirs.traf.iter().zip(&runs) {
            prop_assert_eq!(traf.tfhd.track_id, run.track);
            prop_assert!(traf.tfhd.default_base_is_moof);
            let mut dts = run.base_decode_time;
            prop_assert_eq!(traf.tfdt.as_ref().unwrap().base_media_decode_time, dts);
            let [trun] = &traf.trun[..] else { panic!("one run") };
            prop_assert_eq!(trun.samples.len(), run.samples.len());
            for (their, sent) in trun.samples.iter().zip(run.samples) {
                let our = found.next().unwrap();
                prop_assert_eq!(their.size, Some(sent.data.len() as u32));
                prop_assert_eq!(their.duration, Some(sent.duration));
                prop_assert_eq!(their.cts.unwrap_or(0), i64::from(sent.composition_offset));
                let expected = demux::Sample {
                    track: run.track,
                    dts,
                    pts: dts as i64 + i64::from(sent.composition_offset),
                    duration: sent.duration,
                    key: sent.key,
                    offset,
                    size: sent.data.len() as u32,
                };
                prop_assert_eq!(*our, expected);
                dts += u64::from(sent.duration);
                offset += sent.data.len() as u64;
            }
            prop_assert!(ours.ends.contains(&(run.track, dts)));
        }
        prop_assert!(found.next().is_none());
    }

    #[test]
    fn no_bytes_make_a_reader_panic(
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cut in any::<prop::sample::Index>(),
        noise: Vec<u8>,
    ) {
        let init = init(&tracks(&all_codecs()));
        let mut moov = moov(&init).to_vec();
        let sample = Sample { duration: 1, composition_offset: 1, key: true, data: Bytes::from_static(b"x") };
        let run = Run { track: 1, base_decode_time: 1, all_key: false, samples: &[sample] };
        let mut moof = BytesMut::new();
        mux::head(1, &[run], &mut moof);
        let mut moof = moof[BOX_HEAD_BYTES..].to_vec();
        let whole = demux::Movie::parse(&moov).unwrap();
        for (place, byte) in &places {
            let (in_moov, in_moof) = (place.index(moov.len()), place.index(moof.len()));
            moov[in_moov] = *byte;
            moof[in_moof] = *byte;
        }
        let _ = demux::Movie::parse(&moov);
        let _ = demux::Movie::parse(&moov[..cut.index(moov.len())]);
        let _ = demux::Movie::parse(&noise);
        let _ = demux::Fragment::parse(&whole, &moof, u64::MAX);
        let _ = demux::Fragment::parse(&whole, &moof[..cut.index(moof.len())], 0);
        let _ = demux::Fragment::parse(&whole, &noise, 0);
        let _ = BoxHead::parse(&noise);
    }
}
