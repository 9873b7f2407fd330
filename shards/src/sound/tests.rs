//! The whole conversion, with signals whose beginnings, strengths and pitches are known.

use proptest::prelude::*;
use rusty_aac::{AacEncoder, AacEncoderConfig, audio_specific_config_bytes};

use super::*;

/// Interleaved samples.
struct Signal {
    sample_rate: u32,
    channels: usize,
    samples: Vec<f32>,
}

impl Signal {
    fn new(sample_rate: u32, channels: usize, seconds: f64, value: impl Fn(f64, usize) -> f64) -> Self {
        let frames = (seconds * f64::from(sample_rate)) as usize;
        let at = |frame: usize| frame as f64 / f64::from(sample_rate);
        let samples = (0..frames).flat_map(|frame| (0..channels).map(move |channel| (frame, channel)));
        let samples = samples.map(|(frame, channel)| value(at(frame), channel) as f32).collect();
        Signal { sample_rate, channels, samples }
    }

    /// A beep of 1 kHz and 50 ms at .25 s of every second.
    fn beeps(sample_rate: u32, channels: usize, seconds: f64) -> Self {
        Self::new(sample_rate, channels, seconds, |time, _| {
            let since = (time - 0.25).rem_euclid(1.0);
            if since < 0.05 { 0.5 * (std::f64::consts::TAU * 1000.0 * since).sin() } else { 0.0 }
        })
    }

    fn sine(sample_rate: u32, channels: usize, seconds: f64, hertz: f64) -> Self {
        Self::new(sample_rate, channels, seconds, |time, _| {
            0.5 * (std::f64::consts::TAU * hertz * time).sin()
        })
    }

    fn channel(&self, channel: usize) -> Vec<f64> {
        self.samples.chunks_exact(self.channels).map(|frame| f64::from(frame[channel])).collect()
    }
}

fn at(ticks: i64, rate: u32, payload: Payload) -> Frame {
    let time = MediaTime { ticks, rate };
    Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }
}

/// As a publisher sends it by RTMP: times are whole milliseconds. What a decoder makes of each packet begins at its time.
fn aac(signal: &Signal, from_millis: i64) -> Vec<Frame> {
    let mut encoder =
        AacEncoder::new(AacEncoderConfig { bitrate_bps: 192_000, ..AacEncoderConfig::default() });
    encoder.push_pcm(&signal.samples, signal.channels as u16, signal.sample_rate).unwrap();
    encoder.finish();
    let configuration = audio_specific_config_bytes(signal.sample_rate, signal.channels as u16);
    let parameters = Parameters::parse(Codec::Aac, configuration.into()).unwrap();
    let mut frames = vec![at(from_millis, 1000, Payload::Parameters(Arc::new(parameters)))];
    let packets = std::iter::from_fn(|| encoder.next_packet().ok());
    frames.extend(packets.enumerate().map(|(index, packet)| {
        let millis = (index as i64 - 1) * 1_024_000 / i64::from(signal.sample_rate);
        at(from_millis + millis, 1000, Payload::Audio { codec: Codec::Aac, data: packet.data.into() })
    }));
    frames
}

/// As a browser sends it, but for the encoder's delay, which is taken off.
fn opus(signal: &Signal, from: i64) -> Vec<Frame> {
    assert_eq!(signal.sample_rate, SAMPLE_RATE);
    let mut encoder = Encoder::new(Target::Opus, signal.channels).unwrap();
    let parameters = Arc::new(encoder.parameters().unwrap());
    let mut frames = vec![at(from, SAMPLE_RATE, Payload::Parameters(parameters))];
    encoder.begin_run(from);
    let sink = &mut |time, data| frames.push(sound(Target::Opus, TrackId::AUDIO, time, data));
    encoder.push(&signal.samples, sink).unwrap();
    encoder.drain(sink).unwrap();
    frames
}

fn convert(to: Target, frames: &[Frame]) -> Vec<Frame> {
    let mut converter = Converter::new(to);
    let mut out = Vec::new();
    for frame in frames {
        converter.convert(frame, &mut out).unwrap();
    }
    converter.finish(&mut out).unwrap();
    assert_eq!(converter.damaged(), 0);
    out
}

/// What is heard of `frames`, from the time 0 on.
fn played(frames: &[Frame]) -> Signal {
    let mut decoder = None;
    let mut played = Signal { sample_rate: SAMPLE_RATE, channels: 0, samples: Vec::new() };
    for frame in frames {
        match &frame.payload {
            Payload::Parameters(parameters) => decoder = Some(Decoder::new(parameters).unwrap()),
            Payload::Audio { data, .. } => {
                let mut samples = Vec::new();
                let decoded = decoder.as_mut().unwrap().decode(data, &mut samples).unwrap();
                assert!(!decoded.damaged && decoded.sample_rate == SAMPLE_RATE);
                played.channels = decoded.channels;
                let start = frame.pts.ticks_at(SAMPLE_RATE) * decoded.channels as i64;
                let early = start.min(0).unsigned_abs() as usize;
                let start = start.max(0) as usize;
                let samples = &samples[early.min(samples.len())..];
                let end = start + samples.len();
                played.samples.resize(played.samples.len().max(end), 0.0);
                played.samples[start..end].copy_from_slice(samples);
            }
            _ => panic!("{frame:?}"),
        }
    }
    played
}

/// Seconds at which a beep is there, after 100 ms of quiet: more than half of its strength, as lossy codecs smear what is before.
fn onsets(samples: &[f64]) -> Vec<f64> {
    let mut onsets = Vec::new();
    let mut last = -4800;
    for (index, sample) in samples.iter().enumerate().filter(|(_, sample)| sample.abs() > 0.3) {
        if index as i64 - last >= 4800 {
            onsets.push(index as f64 / 48_000.0);
        }
        assert!(sample.abs() < 0.8);
        last = index as i64;
    }
    onsets
}

/// Strength of one pitch, and of all else, in decibels of a full sine.
fn strengths(samples: &[f64], hertz: f64) -> (f64, f64) {
    let (mut sine, mut cosine, mut all) = (0.0, 0.0, 0.0);
    for (index, sample) in samples.iter().enumerate() {
        let angle = std::f64::consts::TAU * hertz * index as f64 / 48_000.0;
        sine += sample * angle.sin();
        cosine += sample * angle.cos();
        all += sample * sample;
    }
    let half = samples.len() as f64 / 2.0;
    let pitch = (sine * sine + cosine * cosine) / half;
    let decibels = |energy: f64| 10.0 * (energy / half).max(1e-12).log10();
    (decibels(pitch), decibels(all - pitch))
}

fn assert_beeps(played: &Signal, from: f64, count: usize) {
    for channel in 0..played.channels {
        let onsets = onsets(&played.channel(channel));
        assert_eq!(onsets.len(), count, "{onsets:?}");
        for (beep, onset) in onsets.iter().enumerate() {
            let off = onset - (from + beep as f64 + 0.25);
            assert!(off.abs() < 0.002, "beep {beep} is {:.2} ms off", off * 1000.0);
        }
    }
}

/// Each packet begins where the one before it ended.
fn assert_without_gap(frames: &[Frame], packet: i64) {
    let times: Vec<i64> =
        frames.iter().filter(|frame| frame.is_audio()).map(|frame| frame.pts.ticks).collect();
    assert!(times.len() > 10);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == packet), "{times:?}");
}

#[test]
fn a_beep_of_aac_is_heard_at_its_time_in_opus_at_every_rate() {
    for (sample_rate, channels) in
        [(48_000, 2), (44_100, 2), (44_100, 1), (96_000, 2), (22_050, 1), (8_000, 1)]
    {
        let out = convert(Target::Opus, &aac(&Signal::beeps(sample_rate, channels, 4.0), 7_000));
        assert_without_gap(&out, 960);
        let played = played(&out);
        assert_eq!(played.channels, channels);
        assert_beeps(&played, 7.0, 4);
    }
}

#[test]
fn a_beep_of_opus_is_heard_at_its_time_in_aac() {
    for channels in [1, 2] {
        let out = convert(Target::Aac, &opus(&Signal::beeps(48_000, channels, 4.0), 96_000));
        assert_without_gap(&out, 1024);
        let Payload::Parameters(parameters) = &out[0].payload else { panic!("{:?}", out[0]) };
        assert_eq!(parameters.codec_string, "mp4a.40.2");
        let played = played(&out);
        assert_eq!(played.channels, channels);
        assert_beeps(&played, 2.0, 4);
    }
}

#[test]
fn a_telephone_is_heard_in_both() {
    let signal = Signal::beeps(8_000, 1, 3.0);
    // By table: the nearest of all values.
    let byte = |sample: &f32| {
        let far = |byte: &u8| (f32::from(voice::mu_law(*byte)) / 32_768.0 - sample).abs();
        (0..=255).min_by(|one, other| far(one).total_cmp(&far(other))).unwrap()
    };
    let bytes: Vec<u8> = signal.samples.iter().map(byte).collect();
    let parameters = Parameters::of_voice(Codec::PcmU).unwrap();
    let mut frames = vec![at(0, 8_000, Payload::Parameters(Arc::new(parameters)))];
    frames.extend(bytes.chunks(160).enumerate().map(|(index, packet)| {
        at(index as i64 * 160, 8_000, Payload::Audio { codec: Codec::PcmU, data: packet.to_vec().into() })
    }));
    for (to, packet) in [(Target::Opus, 960), (Target::Aac, 1024)] {
        let out = convert(to, &frames);
        assert_without_gap(&out, packet);
        assert_beeps(&played(&out), 0.0, 3);
    }
}

#[test]
fn a_tone_keeps_its_pitch_and_its_strength() {
    for hertz in [200.0, 1000.0, 4000.0, 9000.0] {
        let from_aac = played(&convert(Target::Opus, &aac(&Signal::sine(44_100, 2, 2.0, hertz), 0)));
        let from_opus = played(&convert(Target::Aac, &opus(&Signal::sine(48_000, 2, 2.0, hertz), 0)));
        for played in [from_aac, from_opus] {
            for channel in 0..2 {
                let (pitch, rest) = strengths(&played.channel(channel)[24_000..72_000], hertz);
                assert!((pitch + 6.0).abs() < 0.5, "{hertz} Hz at {pitch:.1} dB");
                assert!(pitch - rest > 20.0, "{hertz} Hz: {:.1} dB above the rest", pitch - rest);
            }
        }
    }
}

#[test]
fn left_stays_left() {
    let pitch = |channel: usize| if channel == 0 { 700.0 } else { 1900.0 };
    let stereo = |rate| {
        Signal::new(rate, 2, 2.0, |time, channel| 0.4 * (std::f64::consts::TAU * pitch(channel) * time).sin())
    };
    let from_aac = played(&convert(Target::Opus, &aac(&stereo(44_100), 0)));
    let from_opus = played(&convert(Target::Aac, &opus(&stereo(48_000), 0)));
    for played in [from_aac, from_opus] {
        for channel in 0..2 {
            let samples = &played.channel(channel)[24_000..72_000];
            let (own, other) =
                (strengths(samples, pitch(channel)).0, strengths(samples, pitch(1 - channel)).0);
            assert!(own > -9.0 && other < -45.0, "channel {channel}: {own:.1} and {other:.1} dB");
        }
    }
}

#[test]
fn six_channels_are_mixed_to_two_by_their_places() {
    // In the order of WAV: left, right, centre, low, back left, back right.
    let pitches = [500.0, 800.0, 1100.0, 60.0, 1700.0, 2300.0];
    let surround = Signal::new(48_000, 6, 2.0, |time, channel| {
        0.3 * (std::f64::consts::TAU * pitches[channel] * time).sin()
    });
    let played = played(&convert(Target::Opus, &aac(&surround, 0)));
    assert_eq!(played.channels, 2);
    let strength =
        |channel: usize, pitch: usize| strengths(&played.channel(channel)[24_000..72_000], pitches[pitch]).0;
    for side in 0..2 {
        let (own, other) = (side, 1 - side);
        // Of .3, 10.5 dB below a full sine, 7.7 dB are taken for the sum of three, and 3 for who is not in front.
        assert!((strength(side, own) + 18.1).abs() < 1.0);
        assert!((strength(side, 2) + 21.1).abs() < 1.0);
        assert!((strength(side, 4 + own) + 21.1).abs() < 1.0);
        for silent in [other, 3, 4 + other] {
            assert!(strength(side, silent) < -45.0, "{} at {side}", pitches[silent]);
        }
    }
}

#[test]
fn a_minute_of_44_100_hz_does_not_drift() {
    let out = convert(Target::Opus, &aac(&Signal::beeps(44_100, 1, 60.0), 0));
    assert_without_gap(&out, 960);
    assert_beeps(&played(&out), 0.0, 60);
}

#[test]
fn a_source_that_pauses_goes_on_at_its_new_time() {
    for (to, packet) in [(Target::Opus, 960), (Target::Aac, 1024)] {
        let mut frames = aac(&Signal::beeps(44_100, 2, 2.0), 0);
        frames.extend(aac(&Signal::beeps(44_100, 2, 2.0), 5_500));
        let out = convert(to, &frames);
        // The same parameters again are nothing new.
        assert_eq!(out.iter().filter(|frame| !frame.is_audio()).count(), 1);
        let times: Vec<i64> = out[1..].iter().map(|frame| frame.pts.ticks).collect();
        let gaps: Vec<i64> =
            times.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap != packet).collect();
        assert!(gaps.len() == 1 && gaps[0] > 3 * 48_000, "{gaps:?}");
        let samples = played(&out).channel(0);
        let expected = [0.25, 1.25, 5.75, 6.75];
        let onsets = onsets(&samples);
        assert_eq!(onsets.len(), 4);
        assert!(
            onsets.iter().zip(expected).all(|(onset, expected)| (onset - expected).abs() < 0.002),
            "{onsets:?}"
        );
    }
}

#[test]
fn a_source_that_becomes_stereo_has_new_parameters() {
    let mut frames = aac(&Signal::beeps(44_100, 1, 2.0), 0);
    frames.extend(aac(&Signal::beeps(48_000, 2, 2.0), 2_200));
    for to in [Target::Opus, Target::Aac] {
        let out = convert(to, &frames);
        let channels = out.iter().filter_map(|frame| match &frame.payload {
            Payload::Parameters(parameters) => Some(parameters.shape),
            _ => None,
        });
        let channels: Vec<u8> = channels
            .map(|shape| match shape {
                shardcast_engine::codec::Shape::Audio { channels, .. } => channels,
                shape @ shardcast_engine::codec::Shape::Video { .. } => panic!("{shape:?}"),
            })
            .collect();
        assert_eq!(channels, [1, 2]);
        let rising = out.windows(2).all(|pair| pair[0].pts.ticks <= pair[1].pts.ticks || !pair[0].is_audio());
        assert!(rising, "{to:?}");
    }
}

#[test]
fn a_damaged_packet_costs_its_own_sound() {
    for (to, packet) in [(Target::Opus, 960), (Target::Aac, 1024)] {
        let mut frames = aac(&Signal::beeps(44_100, 2, 4.0), 0);
        // Around 1 s nothing is to be heard.
        // One is noise, one a layout of no channels, and one says that it ends at once, which is no fault.
        for (frame, byte) in frames[40..43].iter_mut().zip([0x2d, 0xa0, 0xff]) {
            let Payload::Audio { data, .. } = &mut frame.payload else { panic!("{frame:?}") };
            *data = vec![byte; data.len()].into();
        }
        let mut converter = Converter::new(to);
        let mut out = Vec::new();
        for frame in &frames {
            converter.convert(frame, &mut out).unwrap();
        }
        converter.finish(&mut out).unwrap();
        assert_eq!(converter.damaged(), 2);
        assert_without_gap(&out, packet);
        assert_beeps(&played(&out), 0.0, 4);
    }
}

#[test]
fn what_is_not_converted_says_so_until_something_is() {
    let mut converter = Converter::new(Target::Opus);
    let mut out = Vec::new();
    let good = aac(&Signal::beeps(48_000, 1, 0.3), 0);
    assert_eq!(converter.convert(&good[1], &mut out), Err(SoundError::NoParameters));
    let mp3 = Parameters::from_mp3_frame(&[0xff, 0xfb, 0x94, 0x00]).unwrap();
    let refused = converter.convert(&at(0, 1000, Payload::Parameters(Arc::new(mp3))), &mut out);
    assert_eq!(refused, Err(SoundError::Unsupported("MP3")));
    assert_eq!(refused.unwrap_err().to_string(), "not converted: MP3");
    // 12345 Hz, by the escape of the table.
    let odd = Parameters::parse(Codec::Aac, vec![0x17, 0x80, 0x18, 0x1c, 0x88].into()).unwrap();
    assert!(converter.convert(&at(0, 1000, Payload::Parameters(Arc::new(odd))), &mut out).is_err());
    assert!(out.is_empty());
    for frame in &good {
        converter.convert(frame, &mut out).unwrap();
    }
    assert!(out.len() > 5);
}

#[test]
fn every_codec_makes_parameters_that_the_engine_reads() {
    for to in [Target::Opus, Target::Aac] {
        for channels in [1, 2] {
            let parameters = Encoder::new(to, channels).unwrap().parameters().unwrap();
            assert_eq!(parameters.codec, to.codec());
            assert_eq!(Parameters::parse(to.codec(), parameters.configuration.clone()).unwrap(), parameters);
        }
    }
}

/// A conversation with whatever bytes: nothing panics, and what comes out decodes.
fn anything(parameters: Parameters, packets: &[(i64, Vec<u8>)], to: Target) {
    let codec = parameters.codec;
    let mut converter = Converter::new(to);
    let mut out = Vec::new();
    if converter.convert(&at(0, 1000, Payload::Parameters(Arc::new(parameters))), &mut out).is_err() {
        return;
    }
    for (time, packet) in packets {
        let frame = at(*time, 1000, Payload::Audio { codec, data: packet.clone().into() });
        converter.convert(&frame, &mut out).unwrap();
    }
    converter.finish(&mut out).unwrap();
    let mut decoder = None;
    for frame in &out {
        match &frame.payload {
            Payload::Parameters(parameters) => decoder = Some(Decoder::new(parameters).unwrap()),
            Payload::Audio { data, .. } => {
                assert!(!decoder.as_mut().unwrap().decode(data, &mut Vec::new()).unwrap().damaged);
            }
            _ => panic!("{frame:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn packets_of_any_bytes_at_any_time_do_no_harm(
        packets in proptest::collection::vec(
            (prop_oneof![0..400i64, any::<i64>()], proptest::collection::vec(any::<u8>(), 0..200)), 1..24),
        codec in 0..4,
        opus in any::<bool>(),
    ) {
        let parameters = match codec {
            0 => Parameters::parse(Codec::Aac, vec![0x12, 0x10].into()).unwrap(),
            1 => Parameters::parse(Codec::Aac, vec![0x2b, 0x92, 0x08, 0x00].into()).unwrap(),
            2 => Parameters::of_opus(2),
            _ => Parameters::of_voice(Codec::PcmA).unwrap(),
        };
        anything(parameters, &packets, if opus { Target::Opus } else { Target::Aac });
    }

    #[test]
    fn packets_with_flipped_bits_do_no_harm(
        flips in proptest::collection::vec((0usize..40, 0usize..400, 1u8..=255), 1..40),
        surround in any::<bool>(),
    ) {
        let channels = if surround { 6 } else { 2 };
        let signal = Signal::new(48_000, channels, 0.8, |time, channel| {
            0.5 * (time * 3000.0 * (channel + 1) as f64).sin() * (time * 40.0).sin().signum()
        });
        let mut packets = Vec::new();
        let frames = aac(&signal, 0);
        for frame in &frames[1..] {
            let Payload::Audio { data, .. } = &frame.payload else { panic!("{frame:?}") };
            packets.push((frame.pts.ticks, data.to_vec()));
        }
        for (packet, place, bits) in flips {
            let packets_len = packets.len();
            let packet = &mut packets[packet % packets_len].1;
            let len = packet.len();
            packet[place % len] ^= bits;
        }
        let Payload::Parameters(parameters) = &frames[0].payload else { panic!("no parameters") };
        anything((**parameters).clone(), &packets, Target::Opus);
    }
}
