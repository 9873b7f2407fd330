//! The whole conversion, with signals whose beginnings, strengths and pitches are known.

use proptest::prelude::*;

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

/// 4 s of [`Signal::beeps`], 44.1 kHz and two channels, as ffmpeg's encoder makes AAC-LC of them at 64 kbit/s, in ADTS.
const BEEPS: &[u8] = include_bytes!("beeps.aac");
const LOW_COMPLEXITY: &[u8] = &[0x12, 0x10];
/// The same as the core of HE-AAC of 88.2 kHz.
const HIGH_EFFICIENCY: &[u8] = &[0x2a, 0x10, 0x88, 0x00];

/// The beeps as a publisher sends them by RTMP: times are whole milliseconds. What a decoder makes of each packet begins at its time.
fn aac(configuration: &[u8], from_millis: i64) -> Vec<Frame> {
    let parameters = Parameters::parse(Codec::Aac, configuration.to_vec().into()).unwrap();
    let mut frames = vec![at(from_millis, 1000, Payload::Parameters(Arc::new(parameters)))];
    let (mut rest, mut index) = (BEEPS, -1);
    while let Some(head) = rest.first_chunk::<7>() {
        let bytes = usize::from(head[3] & 3) << 11 | usize::from(head[4]) << 3 | usize::from(head[5] >> 5);
        let (packet, after) = rest.split_at(bytes);
        let payload = Payload::Audio { codec: Codec::Aac, data: packet[7..].to_vec().into() };
        frames.push(at(from_millis + index * 1_024_000 / 44_100, 1000, payload));
        (rest, index) = (after, index + 1);
    }
    frames
}

/// A telephone: G.711, by table: the nearest of all values.
fn voice(signal: &Signal) -> Vec<Frame> {
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
    frames
}

/// As a browser sends it, but for the encoder's delay, which is taken off.
fn opus(signal: &Signal, from: i64) -> Vec<Frame> {
    assert_eq!(signal.sample_rate, SAMPLE_RATE);
    let mut encoder = Encoder::new(signal.channels).unwrap();
    let parameters = Arc::new(encoder.parameters());
    let mut frames = vec![at(from, SAMPLE_RATE, Payload::Parameters(parameters))];
    encoder.begin_run(from);
    let sink = &mut |time, data| frames.push(sound(TrackId::AUDIO, time, data));
    encoder.push(&signal.samples, sink).unwrap();
    encoder.drain(sink).unwrap();
    frames
}

fn convert(frames: &[Frame]) -> Vec<Frame> {
    let mut converter = Converter::new();
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
                let decoder: &mut Decoder = decoder.as_mut().unwrap();
                assert!(!decoder.decode(data, &mut samples).damaged && decoder.sample_rate() == SAMPLE_RATE);
                played.channels = decoder.channels();
                let start = frame.pts.ticks_at(SAMPLE_RATE) * played.channels as i64;
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
fn assert_without_gap(frames: &[Frame]) {
    let times: Vec<i64> =
        frames.iter().filter(|frame| frame.is_audio()).map(|frame| frame.pts.ticks).collect();
    assert!(times.len() > 10);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 960), "{times:?}");
}

#[test]
fn a_beep_of_aac_is_heard_at_its_time() {
    let out = convert(&aac(LOW_COMPLEXITY, 7_000));
    assert_without_gap(&out);
    let played = played(&out);
    assert_eq!(played.channels, 2);
    assert_beeps(&played, 7.0, 4);
}

#[test]
fn the_core_of_he_aac_is_heard_when_band_replication_would_let_it_out() {
    let out = convert(&aac(HIGH_EFFICIENCY, 7_000));
    assert_without_gap(&out);
    assert_beeps(&played(&out), 7.0 + 481.0 / 44_100.0, 4);
}

#[test]
fn a_beep_of_opus_is_heard_at_its_time() {
    for channels in [1, 2] {
        let out = convert(&opus(&Signal::beeps(48_000, channels, 4.0), 96_000));
        assert_without_gap(&out);
        let played = played(&out);
        assert_eq!(played.channels, channels);
        assert_beeps(&played, 2.0, 4);
    }
}

#[test]
fn a_telephone_is_heard() {
    let out = convert(&voice(&Signal::beeps(8_000, 1, 3.0)));
    assert_without_gap(&out);
    assert_beeps(&played(&out), 0.0, 3);
}

#[test]
fn a_tone_keeps_its_pitch_and_its_strength() {
    let from_voice = |hertz| (hertz, voice(&Signal::sine(8_000, 1, 2.0, hertz)));
    let from_opus = |hertz| (hertz, opus(&Signal::sine(48_000, 2, 2.0, hertz), 0));
    for (hertz, frames) in
        [from_voice(200.0), from_voice(1000.0), from_opus(200.0), from_opus(4000.0), from_opus(9000.0)]
    {
        let played = played(&convert(&frames));
        for channel in 0..played.channels {
            let (pitch, rest) = strengths(&played.channel(channel)[24_000..72_000], hertz);
            assert!((pitch + 6.0).abs() < 0.5, "{hertz} Hz at {pitch:.1} dB");
            assert!(pitch - rest > 20.0, "{hertz} Hz: {:.1} dB above the rest", pitch - rest);
        }
    }
}

#[test]
fn a_source_that_pauses_goes_on_at_its_new_time() {
    let mut frames = aac(LOW_COMPLEXITY, 0);
    frames.extend(aac(LOW_COMPLEXITY, 7_500));
    let out = convert(&frames);
    // The same parameters again are nothing new.
    assert_eq!(out.iter().filter(|frame| !frame.is_audio()).count(), 1);
    let times: Vec<i64> = out[1..].iter().map(|frame| frame.pts.ticks).collect();
    let gaps: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap != 960).collect();
    assert!(gaps.len() == 1 && gaps[0] > 3 * 48_000, "{gaps:?}");
    let onsets = onsets(&played(&out).channel(0));
    let expected = [0.25, 1.25, 2.25, 3.25, 7.75, 8.75, 9.75, 10.75];
    assert_eq!(onsets.len(), expected.len());
    assert!(
        onsets.iter().zip(expected).all(|(onset, expected)| (onset - expected).abs() < 0.002),
        "{onsets:?}"
    );
}

#[test]
fn a_source_that_becomes_stereo_has_new_parameters() {
    let mut frames = voice(&Signal::beeps(8_000, 1, 2.0));
    frames.extend(aac(LOW_COMPLEXITY, 2_200));
    let out = convert(&frames);
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
    assert!(out.windows(2).all(|pair| pair[0].pts.ticks <= pair[1].pts.ticks || !pair[0].is_audio()));
}

#[test]
fn a_damaged_packet_costs_its_own_sound() {
    let mut frames = aac(LOW_COMPLEXITY, 0);
    // Around 1 s nothing is to be heard. One is noise, one a layout of no channels, one ends at once, and one is all filling.
    for (frame, byte) in frames[40..44].iter_mut().zip([0x2d, 0xa0, 0xff, 0xdb]) {
        let Payload::Audio { data, .. } = &mut frame.payload else { panic!("{frame:?}") };
        *data = vec![byte; data.len()].into();
    }
    // One has a single channel, whose sound is good, where there should be two.
    let Payload::Audio { data, .. } = &mut frames[44].payload else { panic!("no sound") };
    *data = vec![0x00, 0xc8, 0x00, 0x80, 0x23, 0x80].into();
    let mut converter = Converter::new();
    let mut out = Vec::new();
    for frame in &frames {
        converter.convert(frame, &mut out).unwrap();
    }
    converter.finish(&mut out).unwrap();
    assert_eq!(converter.damaged(), 5);
    assert_without_gap(&out);
    assert_beeps(&played(&out), 0.0, 4);
}

#[test]
fn data_and_filling_may_come_first() {
    let mut frames = aac(LOW_COMPLEXITY, 0);
    for frame in &mut frames[1..] {
        let Payload::Audio { data, .. } = &mut frame.payload else { panic!("{frame:?}") };
        // Element 4, tag 0, aligned, two bytes, which stand behind it; that it ends with a whole byte keeps what follows in its place.
        let mut with_data = vec![0b1000_0001, 2, 0xaa, 0x55];
        with_data.extend_from_slice(data);
        *data = with_data.into();
    }
    let out = convert(&frames);
    assert_beeps(&played(&out), 0.0, 4);
}

#[test]
fn what_is_not_converted_says_so_until_something_is() {
    let mut converter = Converter::new();
    let mut out = Vec::new();
    let good = aac(LOW_COMPLEXITY, 0);
    assert_eq!(converter.convert(&good[1], &mut out), Err(SoundError::NoParameters));
    let mp3 = Parameters::from_mp3_frame(&[0xff, 0xfb, 0x94, 0x00]).unwrap();
    let refused = converter.convert(&at(0, 1000, Payload::Parameters(Arc::new(mp3))), &mut out);
    assert_eq!(refused, Err(SoundError::Unsupported("MP3")));
    assert_eq!(refused.unwrap_err().to_string(), "not converted: MP3");
    // 12345 Hz, by the escape of the table; six channels; AAC Main; 960 samples to a packet.
    for odd in [&[0x17, 0x80, 0x18, 0x1c, 0x88][..], &[0x11, 0xb0], &[0x0a, 0x10], &[0x12, 0x14]] {
        let odd = Parameters::parse(Codec::Aac, odd.to_vec().into()).unwrap();
        let refused = converter.convert(&at(0, 1000, Payload::Parameters(Arc::new(odd))), &mut out);
        assert!(matches!(refused, Err(SoundError::Unsupported(_))), "{refused:?}");
    }
    assert!(out.is_empty());
    for frame in &good {
        converter.convert(frame, &mut out).unwrap();
    }
    assert!(out.len() > 5);
}

/// A conversation with whatever bytes: nothing panics, and what comes out decodes.
fn anything(parameters: Parameters, packets: &[(i64, Vec<u8>)]) {
    let codec = parameters.codec;
    let mut converter = Converter::new();
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
                assert!(!decoder.as_mut().unwrap().decode(data, &mut Vec::new()).damaged);
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
    ) {
        let parameters = match codec {
            0 => Parameters::parse(Codec::Aac, LOW_COMPLEXITY.to_vec().into()).unwrap(),
            1 => Parameters::parse(Codec::Aac, vec![0x2b, 0x92, 0x08, 0x00].into()).unwrap(),
            2 => Parameters::of_opus(2),
            _ => Parameters::of_voice(Codec::PcmA).unwrap(),
        };
        anything(parameters, &packets);
    }

    #[test]
    fn packets_with_flipped_bits_do_no_harm(
        flips in proptest::collection::vec((0usize..160, 0usize..400, 1u8..=255), 1..160),
        efficient in any::<bool>(),
    ) {
        let frames = aac(if efficient { HIGH_EFFICIENCY } else { LOW_COMPLEXITY }, 0);
        let mut packets = Vec::new();
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
        anything((**parameters).clone(), &packets);
    }
}
