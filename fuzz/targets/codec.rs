//! Decoder configurations, parameter sets and access units of every codec. The first byte says which.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use shardcast_engine::{
    codec::{Codec, Parameters, Shape, ac3, av1, h264, h265, h266, is_key, nal, nal::LengthSize, opus},
    error::Error,
    limits,
};

/// A codec keeps its place when others are added, and so does a door: the corpus names them by number.
const CODECS: [Codec; 8] =
    [Codec::H264, Codec::H265, Codec::Av1, Codec::Vp9, Codec::Aac, Codec::Opus, Codec::Mp3, Codec::H266];

fuzz_target!(|input: &[u8]| {
    let Some((selector, bytes)) = input.split_first() else { return };
    match usize::from(*selector) {
        codec @ 0..6 => configuration(CODECS[codec], bytes),
        6 => check(&Parameters::from_mp3_frame(bytes), bytes),
        7 => check_place(h264::Sps::parse(bytes), bytes),
        8 => check_place(h265::Sps::parse(bytes), bytes),
        9 => check_place(av1::SequenceHeader::parse(bytes), bytes),
        10 => framing(bytes),
        11 => {
            opus::packet_samples(bytes);
        }
        12 => configuration(Codec::H266, bytes),
        13 => check_place(h266::Sps::parse(bytes), bytes),
        // The last places, so that no other moves.
        252 => configuration(Codec::Vp8, bytes),
        253 => {
            for codec in [Codec::Vp8, Codec::Vp9, Codec::Av1] {
                if let Some(parameters) = Parameters::of_key_frame(codec, bytes) {
                    assert!(parameters.width_height().is_some());
                    check(&Parameters::parse(codec, parameters.configuration), bytes);
                }
            }
        }
        254 => configuration(Codec::Ac3, bytes),
        255 => match ac3::Header::parse(bytes) {
            Ok(header) => assert!((1..=ac3::FRAME_BYTES_MAX).contains(&header.frame_bytes)),
            Err(error) => assert!(error.at <= bytes.len() as u64, "{error}"),
        },
        access_unit => {
            let codec = CODECS[(access_unit - 14) % CODECS.len()];
            for length_size in [LengthSize::One, LengthSize::Two, LengthSize::Four] {
                is_key(codec, length_size, bytes);
                h264::recovery_point(bytes, length_size);
            }
        }
    }
});

/// A configuration, and behind it (its length in the first two bytes) an access unit of the same track.
fn configuration(codec: Codec, bytes: &[u8]) {
    let (configuration, access_unit) = match bytes {
        [high, low, rest @ ..] => {
            rest.split_at(usize::from(u16::from_be_bytes([*high, *low])).min(rest.len()))
        }
        short => (short, &[][..]),
    };
    let parsed = Parameters::parse(codec, Bytes::copy_from_slice(configuration));
    check(&parsed, configuration);
    let Ok(parameters) = parsed else { return };
    parameters.is_key(access_unit);
    if let Some(better) = parameters.with_key_frame(access_unit) {
        assert!(better.width_height().is_some());
    }
    // What was taken once is taken again: containers hand configurations on.
    assert_eq!(Parameters::parse(codec, parameters.configuration.clone()), Ok(parameters));
}

fn check(parsed: &Result<Parameters, Error>, bytes: &[u8]) {
    match parsed {
        Err(error) => assert!(error.at <= bytes.len() as u64, "{error}"),
        Ok(parameters) => {
            assert!(parameters.codec_string.is_ascii() && parameters.codec_string.len() < 128);
            match parameters.shape {
                Shape::Video { width, height } => {
                    assert!(width <= limits::PICTURE_SIDE_MAX && height <= limits::PICTURE_SIDE_MAX);
                }
                Shape::Audio { sample_rate, channels, .. } => assert!(sample_rate > 0 && channels > 0),
            }
        }
    }
}

fn check_place<T>(parsed: Result<T, Error>, bytes: &[u8]) {
    if let Err(error) = parsed {
        assert!(error.at <= bytes.len() as u64, "{error}");
    }
}

/// Both framings of NAL units, and the way from one to the other and back.
fn framing(bytes: &[u8]) {
    let (mut prefixed, mut annex_b, mut again) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
    nal::annex_b_to_length_prefixed(bytes, &mut prefixed).expect("no unit is longer than the input");
    nal::length_prefixed_to_annex_b(&prefixed, LengthSize::Four, &mut annex_b).expect("we wrote it");
    nal::annex_b_to_length_prefixed(&annex_b, &mut again).expect("we wrote it");
    assert_eq!(prefixed, again);
    for length_size in [LengthSize::One, LengthSize::Two, LengthSize::Four] {
        for unit in nal::LengthPrefixed::new(bytes, length_size) {
            check_place(unit, bytes);
        }
    }
    nal::without_emulation_prevention(bytes);
}
