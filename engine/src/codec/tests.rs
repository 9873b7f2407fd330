//! Parameters of every codec, from what real encoders wrote.

use super::*;
use proptest::{prelude::*, sample::select};
use samples::hex;

const CODECS: [Codec; 13] = [
    Codec::H264,
    Codec::H265,
    Codec::H266,
    Codec::Av1,
    Codec::Vp9,
    Codec::Aac,
    Codec::Opus,
    Codec::Mp3,
    Codec::Ac3,
    Codec::Vp8,
    Codec::PcmA,
    Codec::PcmU,
    Codec::G722,
];

const CONFIGURATIONS: [(Codec, &str); 14] = [
    (Codec::H264, samples::H264_HIGH_720),
    (Codec::H264, samples::H264_422_10_HDR),
    (Codec::H265, samples::H265_MAIN10_1080_HDR),
    (Codec::H265, samples::H265_444_SAR),
    (Codec::H266, samples::H266_MAIN10_242),
    (Codec::H266, samples::H266_MAIN10_1080_HDR),
    (Codec::Av1, samples::AV1_MAIN_180),
    (Codec::Av1, samples::AV1_HIGH_444),
    (Codec::Vp9, samples::VP9_180),
    (Codec::Vp9, samples::VP9_444_10_HDR),
    (Codec::Aac, samples::AAC_LC_48000_STEREO),
    (Codec::Aac, samples::AAC_LC_31_BY_ELEMENTS),
    (Codec::Opus, samples::OPUS_51),
    (Codec::Ac3, samples::AC3_48000_STEREO_DAC3),
];

#[test]
fn a_configuration_gives_shape_and_codec_string() {
    let video = Parameters::parse(Codec::H264, hex(samples::H264_HIGH_720).into()).unwrap();
    assert_eq!((video.width_height(), &*video.codec_string), (Some((1280, 720)), "avc1.64001f"));
    assert_eq!(video.nal_length_size(), LengthSize::Four);
    assert!(video.is_key(&hex(samples::H264_IDR)) && !video.is_key(&hex(samples::H264_P)));

    let audio = Parameters::parse(Codec::Aac, hex(samples::AAC_LC_48000_STEREO).into()).unwrap();
    let shape = Shape::Audio { sample_rate: 48000, channels: 2, packet_samples: 1024 };
    assert_eq!((audio.shape, audio.width_height()), (shape, None));
}

#[test]
fn each_video_codec_gives_the_size_that_ffprobe_says_and_its_codec_string() {
    for (codec, text, size, codec_string) in [
        (Codec::H264, samples::H264_BASELINE_1080, Some((1920, 1080)), "avc1.42c028"),
        (Codec::H265, samples::H265_MAIN_720, Some((1280, 720)), "hvc1.1.6.L93.90"),
        (Codec::H266, samples::H266_MAIN10_242, Some((322, 242)), "vvc1.1.L32.CQA"),
        (Codec::Av1, samples::AV1_MAIN_10_720, Some((1280, 720)), "av01.0.05M.10"),
        (Codec::Vp9, samples::VP9_180, None, "vp09.00.11.08"),
    ] {
        let parameters = Parameters::parse(codec, hex(text).into()).unwrap();
        assert_eq!((parameters.width_height(), &*parameters.codec_string), (size, codec_string));
        assert_eq!(parameters.configuration, hex(text));
    }
}

#[test]
fn a_key_frame_tells_the_size_that_the_configuration_left_out() {
    let mut record = hex(samples::VP9_444_10_HDR);
    record[5] = 0; // no level
    let vp9 = Parameters::parse(Codec::Vp9, record.into()).unwrap();
    let better = vp9.with_key_frame(&hex(samples::VP9_KEY_444_10)).unwrap();
    assert_eq!((vp9.width_height(), better.width_height()), (None, Some((640, 360))));
    assert_eq!(better.codec_string, "vp09.03.21.10.03.09.16.09.00");
    assert_eq!(better.with_key_frame(&hex(samples::VP9_KEY_444_10)), None);
    assert_eq!(vp9.with_key_frame(&hex(samples::VP9_INTER)), None);

    let whole = Parameters::parse(Codec::Av1, hex(samples::AV1_MAIN_180).into()).unwrap();
    let bare = Parameters::parse(Codec::Av1, whole.configuration.slice(..4)).unwrap();
    let better = bare.with_key_frame(&hex(samples::AV1_KEY)).unwrap();
    assert_eq!((bare.width_height(), better.width_height()), (None, Some((64, 64))));
    assert_eq!(whole.with_key_frame(&hex(samples::AV1_KEY)), None);
}

#[test]
fn a_vp9_record_without_its_version_is_given_one() {
    let whole = hex(samples::VP9_180);
    let from_record = Parameters::parse(Codec::Vp9, Bytes::copy_from_slice(&whole[4..])).unwrap();
    assert_eq!(from_record, Parameters::parse(Codec::Vp9, whole.into()).unwrap());
}

#[test]
fn a_vvc_record_in_its_full_box_loses_the_version_and_a_fault_keeps_its_place() {
    let record = hex(samples::H266_MAIN10_242);
    let boxed = [&[0; 4], &record[..]].concat();
    let parameters = Parameters::parse(Codec::H266, boxed.clone().into()).unwrap();
    assert_eq!(
        (&parameters.configuration[..], parameters.nal_length_size()),
        (&record[..], LengthSize::Four)
    );
    assert_eq!(Parameters::parse(Codec::H266, record.clone().into()), Ok(parameters));
    let at = |bytes: &[u8]| Parameters::parse(Codec::H266, Bytes::copy_from_slice(bytes)).unwrap_err().at;
    assert_eq!(at(&boxed[..44]), at(&record[..40]) + 4);
}

#[test]
fn the_size_of_lengths_stands_where_each_record_has_it() {
    let change = |codec, text, place: usize, value| {
        let mut record = hex(text);
        record[place] = value;
        nal_length_size(codec, &record)
    };
    assert_eq!(change(Codec::H264, samples::H264_HIGH_720, 4, 0xfd), Some(LengthSize::Two));
    assert_eq!(change(Codec::H265, samples::H265_MAIN_720, 21, 0x0c), Some(LengthSize::One));
    assert_eq!(change(Codec::H266, samples::H266_MAIN10_242, 0, 0xfb), Some(LengthSize::Two));
    assert_eq!(change(Codec::H266, samples::H266_MAIN10_242, 0, 0xfd), Some(LengthSize::Four));
    assert_eq!(nal_length_size(Codec::H265, &[]), Some(LengthSize::Four));
    assert_eq!(nal_length_size(Codec::Av1, &hex(samples::AV1_MAIN_180)), None);
}

#[test]
fn each_video_codec_tells_its_key_frames_from_others() {
    for (codec, key, other) in [
        (Codec::H264, samples::H264_IDR, samples::H264_P),
        (Codec::H265, samples::H265_IDR, samples::H265_TRAIL),
        (Codec::H265, samples::H265_CRA, samples::H265_RASL),
        (Codec::H266, samples::H266_IDR, samples::H266_RADL),
        (Codec::H266, samples::H266_CRA, samples::H266_RASL),
        (Codec::H266, samples::H266_IDR_N_LP, samples::H266_TRAIL),
        (Codec::Av1, samples::AV1_KEY, samples::AV1_INTER),
        (Codec::Vp8, samples::VP8_KEY, samples::VP8_INTER),
        (Codec::Vp9, samples::VP9_KEY, samples::VP9_INTER),
    ] {
        assert!(is_key(codec, LengthSize::Four, &hex(key)), "{codec:?}");
        assert!(!is_key(codec, LengthSize::Four, &hex(other)), "{codec:?}");
        assert!(!is_key(codec, LengthSize::Four, &[]), "{codec:?}");
    }
}

#[test]
fn a_key_frame_alone_makes_the_parameters_of_codecs_that_say_all_in_it() {
    for (codec, key, other, codec_string) in [
        (Codec::Vp8, samples::VP8_KEY, samples::VP8_INTER, "vp08.00.10.08"),
        (Codec::Vp9, samples::VP9_KEY, samples::VP9_INTER, "vp09.00.10.08"),
        (Codec::Av1, samples::AV1_KEY, samples::AV1_INTER, "av01.0.00M.08"),
    ] {
        let parameters = Parameters::of_key_frame(codec, &hex(key)).unwrap();
        assert_eq!((parameters.width_height(), &*parameters.codec_string), (Some((64, 64)), codec_string));
        // What a container hands on says the same, but for the size where it has no place.
        let again = Parameters::parse(codec, parameters.configuration.clone()).unwrap();
        assert_eq!(again.with_key_frame(&hex(key)).unwrap_or(again), parameters);
        assert!(Parameters::of_key_frame(codec, &hex(other)).is_none());
        assert!(Parameters::of_key_frame(Codec::H264, &hex(key)).is_none());
    }
    // What the encoder writes of it, without the colours that stand in the box alone.
    let written = hex(samples::AV1_MAIN_180);
    assert_eq!(av1::configuration_of(&written[4..]), Some(written.clone()));
    let written = hex(samples::AV1_HIGH_444);
    assert_eq!(av1::configuration_of(&written[4..]), Some(written.clone()));
}

#[test]
fn tracks_without_a_configuration_get_their_parameters_all_the_same() {
    let opus = Parameters::of_opus(2);
    assert_eq!(Parameters::parse(Codec::Opus, opus.configuration.clone()), Ok(opus));
    let mp3 = Parameters::from_mp3_frame(&hex(samples::MP3_48000_STEREO)).unwrap();
    assert_eq!(mp3.shape, Shape::Audio { sample_rate: 48000, channels: 2, packet_samples: 1152 });
    let ac3 = Parameters::from_ac3_frame(&hex(samples::AC3_44100_51)).unwrap();
    assert_eq!(ac3.shape, Shape::Audio { sample_rate: 44100, channels: 6, packet_samples: 1536 });
    assert_eq!(Parameters::parse(Codec::Ac3, ac3.configuration.clone()), Ok(ac3));
}

#[test]
fn a_configuration_past_its_bound_is_refused_unread() {
    let huge = Bytes::from(vec![1; limits::CONFIGURATION_BYTES_MAX + 1]);
    for codec in CODECS {
        let error = Parameters::parse(codec, huge.clone()).unwrap_err();
        assert_eq!(error.kind, crate::error::ErrorKind::TooLarge);
    }
}

#[test]
fn a_frame_rate_is_in_lowest_terms_or_is_none() {
    let rate = |numerator, denominator| Some(FrameRate { numerator, denominator });
    assert_eq!(FrameRate::new(60000, 2002), rate(30000, 1001));
    assert_eq!(FrameRate::new(1 << 40, 1 << 41), rate(1, 2));
    assert_eq!([FrameRate::new(0, 1), FrameRate::new(1, 0), FrameRate::new(0, 0)], [None; 3]);
    assert_eq!(FrameRate::new(1 << 40, 1), None);
}

/// Parses and judges; whatever fails must name a place inside what it was given.
fn probe(codec: Codec, bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Err(error) = Parameters::parse(codec, Bytes::copy_from_slice(bytes)) {
        prop_assert!(error.at <= bytes.len() as u64, "{error}");
    }
    for error in [Parameters::from_mp3_frame(bytes).err(), Parameters::from_ac3_frame(bytes).err()] {
        prop_assert!(error.is_none_or(|error| error.at <= bytes.len() as u64), "{error:?}");
    }
    for length_size in [LengthSize::One, LengthSize::Two, LengthSize::Four] {
        is_key(codec, length_size, bytes);
        h264::recovery_point(bytes, length_size);
    }
    for error in [h265::Sps::parse(bytes).err(), h266::Sps::parse(bytes).err()].into_iter().flatten() {
        prop_assert!(error.at <= bytes.len() as u64, "{error}");
    }
    let _ = Parameters::of_key_frame(codec, bytes);
    let _ = av1::SequenceHeader::parse(bytes);
    opus::packet_samples(bytes);
    Ok(())
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(codec in select(&CODECS[..]), bytes: Vec<u8>) {
        probe(codec, &bytes)?;
    }

    #[test]
    fn no_change_of_real_bytes_makes_a_parser_panic(
        (codec, text) in select(&CONFIGURATIONS[..]),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        keep in any::<proptest::sample::Index>(),
        cut: bool,
    ) {
        let mut bytes = hex(text);
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if cut {
            bytes.truncate(keep.index(bytes.len()));
        }
        probe(codec, &bytes)?;
    }
}
