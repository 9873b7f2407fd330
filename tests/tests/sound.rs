//! Sound that is made Opus, judged by ffmpeg: it encodes what comes in and decodes what comes out, and beeps are where they were.

use std::{fs, path::Path, process::Command, sync::Arc, time::Duration};

use shardcast_engine::{
    codec::{Codec, Parameters, opus},
    media::{Frame, Payload, TrackId},
    time::MediaTime,
};
use shardcast_shards::sound::{Converter, SAMPLE_RATE, SoundError};
use shardcast_tests::clients::{Folder, process::run, program};

/// How far a beep may be from its place, seconds.
const APART_MAX: f64 = 0.002;
/// Rates by their index. (ISO/IEC 14496-3, table 1.18)
const RATES: [i64; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
/// A beep of 1 kHz and 50 ms in each second. It begins at .25 s.
const BEEPS: &str = "0.5*sin(2*PI*1000*(mod(t,1)-0.25))*between(mod(t,1),0.25,0.3)";

#[test]
fn a_minute_of_beeps_in_ffmpegs_aac_is_at_its_times_in_opus() {
    let folder = Folder::new("sound-aac");
    for (rate, layout, seconds) in [
        (44_100, "stereo", 60),
        (48_000, "mono", 5),
        (22_050, "mono", 5),
        (96_000, "stereo", 5),
        (8_000, "mono", 5),
    ] {
        let adts = made(
            &folder,
            "beeps.aac",
            &expression(BEEPS, layout, rate, seconds),
            &["-c:a", "aac", "-b:a", "128k"],
        );
        let channels = if layout == "mono" { 1 } else { 2 };
        let expected = onsets(&decoded(&folder, "beeps.aac", rate, channels), channels, rate);
        assert_eq!(expected.len(), seconds as usize);

        let out = converted(&aac_frames(&adts, 0));
        assert_without_gap(&out);
        assert_near(&heard(&folder, &out, channels), &expected);
    }
}

#[test]
fn a_tone_of_each_side_keeps_its_pitch_its_strength_and_its_side() {
    let folder = Folder::new("sound-tones");
    let pitches = [700.0, 1900.0];
    for rate in [44_100, 48_000] {
        let tone = pitches.map(|pitch| format!("0.4*sin(2*PI*{pitch}*t)")).join("|");
        let adts = made(
            &folder,
            "tones.aac",
            &format!("aevalsrc=exprs='{tone}':c=stereo:s={rate}:d=3"),
            &["-c:a", "aac", "-b:a", "160k"],
        );
        let samples = played(&folder, &converted(&aac_frames(&adts, 0)), 2);
        for side in 0..2 {
            let samples = side_of(&samples, side);
            let (own, other) = (strength(&samples, pitches[side]), strength(&samples, pitches[1 - side]));
            assert!((own + 8.0).abs() < 0.5 && other < -45.0, "side {side}: {own:.1} and {other:.1} dB");
        }
    }
}

#[test]
fn a_telephone_is_at_its_times() {
    let folder = Folder::new("sound-g711");
    for (codec, format) in [(Codec::PcmA, "alaw"), (Codec::PcmU, "mulaw")] {
        let bytes = made(&folder, "beeps.raw", &expression(BEEPS, "mono", 8_000, 10), &["-f", format]);
        let parameters = Parameters::of_voice(codec).expect("it is G.711");
        let mut frames = vec![frame(0, 8_000, Payload::Parameters(Arc::new(parameters)))];
        frames.extend(
            bytes
                .chunks(160)
                .enumerate()
                .map(|(index, packet)| sound(index as i64 * 160, 8_000, codec, packet)),
        );
        let expected: Vec<f64> = (0..10).map(|beep| f64::from(beep) + 0.25).collect();
        assert_near(&heard(&folder, &converted(&frames), 1), &expected);
    }
}

#[test]
fn each_channel_of_five_and_one_is_on_its_side() {
    let folder = Folder::new("sound-surround");
    // In ffmpeg's order: left, right, centre, low, back left, back right.
    let pitches = [500.0, 800.0, 1100.0, 60.0, 1700.0, 2300.0];
    let channels: Vec<String> = pitches.iter().map(|pitch| format!("0.3*sin(2*PI*{pitch}*t)")).collect();
    let signal = format!("aevalsrc=exprs={}:c=5.1:s=48000:d=3", channels.join("|"));
    let ogg = made(&folder, "surround.ogg", &signal, &["-c:a", "libopus", "-b:a", "450k"]);
    let packets = ogg_packets(&ogg);
    let parameters = Parameters::parse(Codec::Opus, packets[0].clone().into()).expect("ffmpeg's OpusHead");
    let mut frames = vec![frame(0, 48_000, Payload::Parameters(Arc::new(parameters)))];
    let packets = packets[2..].iter().enumerate();
    frames.extend(packets.map(|(index, packet)| sound(index as i64 * 960, 48_000, Codec::Opus, packet)));
    let samples = played(&folder, &converted(&frames), 2);
    for side in 0..2 {
        let side_samples = side_of(&samples, side);
        let strength = |pitch: usize| strength(&side_samples, pitches[pitch]);
        let front = strength(side);
        assert!((front + 18.1).abs() < 1.0, "its own front at {front:.1} dB");
        for softer in [2, 4 + side] {
            assert!(
                (strength(softer) - front + 3.0).abs() < 1.0,
                "{} Hz: {:.1} dB",
                pitches[softer],
                strength(softer)
            );
        }
        for silent in [1 - side, 3, 5 - side] {
            assert!(strength(silent) < front - 25.0, "{} Hz at {:.1} dB", pitches[silent], strength(silent));
        }
    }
}

#[test]
fn damaged_packets_of_ffmpegs_aac_cost_their_own_sound() {
    let folder = Folder::new("sound-damage");
    let adts = made(
        &folder,
        "beeps.aac",
        &expression(BEEPS, "stereo", 44_100, 20),
        &["-c:a", "aac", "-b:a", "128k"],
    );
    let expected = onsets(&decoded(&folder, "beeps.aac", 44_100, 2), 2, 44_100);
    // In the second half of every third second, where nothing is to be heard, and all that could be made of it is wrong.
    let mut frames = aac_frames(&adts, 0);
    let mut damaged = 0;
    for (index, frame) in frames.iter_mut().enumerate() {
        let millis = frame.pts.as_millis();
        if let Payload::Audio { data, .. } = &mut frame.payload
            && (millis / 1000) % 3 == 0
            && (600..800).contains(&(millis % 1000))
        {
            let mix = |(place, byte): (usize, &u8)| byte ^ (index * 31 + place * 17 + 1) as u8;
            *data = data.iter().enumerate().map(mix).collect::<Vec<u8>>().into();
            damaged += 1;
        }
    }
    assert!(damaged > 40, "{damaged}");
    let mut converter = Converter::new();
    let mut out = Vec::new();
    for frame in &frames {
        converter.convert(frame, &mut out).expect("damage is no error");
    }
    converter.finish(&mut out).expect("nothing is left to fail");
    // Some noise decodes.
    assert!(converter.damaged() > damaged / 2, "{} of {damaged}", converter.damaged());
    assert_without_gap(&out);
    let heard = heard(&folder, &out, 2);
    let found = |expected: &&f64| heard.iter().any(|onset| (onset - **expected).abs() < APART_MAX);
    assert_eq!(expected.iter().filter(found).count(), expected.len(), "{heard:?}");
}

#[test]
fn aac_of_more_than_two_channels_is_refused_in_words() {
    let folder = Folder::new("sound-refused");
    let signal = expression(BEEPS, "stereo", 48_000, 1);
    let adts = made(&folder, "surround.aac", &signal, &["-ac", "6", "-c:a", "aac"]);
    let refused = Converter::new().convert(&aac_frames(&adts, 0)[0], &mut Vec::new());
    assert!(matches!(refused, Err(SoundError::Unsupported(_))), "{refused:?}");
}

/// ffmpeg's source of a signal that is the same in all channels.
fn expression(signal: &str, layout: &str, rate: u32, seconds: u32) -> String {
    let channels = if layout == "mono" { signal.to_owned() } else { format!("{signal}|{signal}") };
    format!("aevalsrc=exprs='{channels}':c={layout}:s={rate}:d={seconds}")
}

/// What ffmpeg encodes of a signal, into a file of the folder.
fn made(folder: &Folder, name: &str, signal: &str, coder: &[&str]) -> Vec<u8> {
    let path = folder.path().join(name);
    let mut command = Command::new(program("ffmpeg"));
    command.args(["-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", signal]).args(coder).arg(&path);
    run("ffmpeg-encoder", &mut command, Duration::from_secs(60));
    fs::read(path).expect("ffmpeg has written it")
}

/// What ffmpeg decodes of a file of the folder: interleaved.
fn decoded(folder: &Folder, name: &str, rate: u32, channels: usize) -> Vec<f64> {
    let path = folder.path().join("decoded.f32");
    let mut command = Command::new(program("ffmpeg"));
    command.args(["-nostdin", "-v", "error", "-y", "-i"]).arg(folder.path().join(name));
    command.args(["-f", "f32le", "-ar", &rate.to_string(), "-ac", &channels.to_string()]).arg(&path);
    run("ffmpeg-decoder", &mut command, Duration::from_secs(60));
    let bytes = fs::read(path).expect("ffmpeg has written it");
    bytes
        .chunks_exact(4)
        .map(|sample| f32::from_le_bytes(sample.try_into().expect("four bytes")).into())
        .collect()
}

fn frame(ticks: i64, rate: u32, payload: Payload) -> Frame {
    let time = MediaTime { ticks, rate };
    Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }
}

fn sound(ticks: i64, rate: u32, codec: Codec, packet: &[u8]) -> Frame {
    frame(ticks, rate, Payload::Audio { codec, data: packet.to_vec().into() })
}

/// Frames as a publisher sends them by RTMP, in whole milliseconds, of a stream of ADTS. (ISO/IEC 14496-3, 1.A.2.2)
fn aac_frames(adts: &[u8], from_millis: i64) -> Vec<Frame> {
    let mut frames = Vec::new();
    let (mut rest, mut count) = (adts, 0);
    while let Some(head) = rest.first_chunk::<7>() {
        assert!(head[0] == 0xff && head[1] & 0xf6 == 0xf0, "a header of ADTS");
        let index = head[2] >> 2 & 15;
        let channels = (head[2] & 1) << 2 | head[3] >> 6;
        let bytes = usize::from(head[3] & 3) << 11 | usize::from(head[4]) << 3 | usize::from(head[5] >> 5);
        let header = if head[1] & 1 == 0 { 9 } else { 7 };
        if frames.is_empty() {
            let configuration = vec![2 << 3 | index >> 1, (index & 1) << 7 | channels << 3];
            let parameters = Parameters::parse(Codec::Aac, configuration.into()).expect("ffmpeg's AAC");
            frames.push(frame(from_millis, 1000, Payload::Parameters(Arc::new(parameters))));
        }
        let rate = RATES[usize::from(index)];
        let millis = from_millis + count * 1_024_000 / rate;
        frames.push(sound(millis, 1000, Codec::Aac, &rest[header..bytes]));
        rest = &rest[bytes..];
        count += 1;
    }
    frames
}

/// The packets of an Ogg file of one stream. (RFC 3533, 6)
fn ogg_packets(ogg: &[u8]) -> Vec<Vec<u8>> {
    let mut packets = vec![Vec::new()];
    let mut rest = ogg;
    while rest.starts_with(b"OggS") {
        let segments = usize::from(rest[26]);
        let (lacing, mut body) = rest[27..].split_at(segments);
        for &bytes in lacing {
            let (segment, after) = body.split_at(bytes.into());
            packets.last_mut().expect("there is always one").extend_from_slice(segment);
            body = after;
            if bytes < 255 {
                packets.push(Vec::new());
            }
        }
        rest = body;
    }
    packets.pop();
    packets
}

fn converted(frames: &[Frame]) -> Vec<Frame> {
    let mut converter = Converter::new();
    let mut out = Vec::new();
    for frame in frames {
        converter.convert(frame, &mut out).expect("it is a kind that is converted");
    }
    converter.finish(&mut out).expect("it is a kind that is converted");
    assert_eq!(converter.damaged(), 0);
    out
}

/// Each packet begins where the one before it ended.
fn assert_without_gap(frames: &[Frame]) {
    let times: Vec<i64> =
        frames.iter().filter(|frame| frame.is_audio()).map(|frame| frame.pts.ticks).collect();
    assert!(times.len() > 100 && times.windows(2).all(|pair| pair[1] - pair[0] == 960));
}

/// What ffmpeg makes of `frames`, which have no gap: interleaved, from the first packet's time on.
fn played(folder: &Folder, frames: &[Frame], channels: usize) -> Vec<f64> {
    assert!(matches!(&frames[0].payload, Payload::Parameters(parameters) if parameters.codec == Codec::Opus));
    let packets = frames[1..].iter().map(|frame| match &frame.payload {
        Payload::Audio { data, .. } => &data[..],
        _ => panic!("{frame:?}"),
    });
    write_ogg(&folder.path().join("played"), packets, channels);
    decoded(folder, "played", SAMPLE_RATE, channels)
}

/// A second of one side of `samples`, which have two, from the second second on.
fn side_of(samples: &[f64], side: usize) -> Vec<f64> {
    samples.iter().skip(side + 2 * 48_000).step_by(2).take(48_000).copied().collect()
}

/// A page for each packet. The head says that nothing is left out at the start, so that all is heard. (RFC 7845, 5.1)
fn write_ogg<'a>(path: &Path, packets: impl Iterator<Item = &'a [u8]>, channels: usize) {
    let mut head = opus::head_of(channels as u8);
    head[10..12].copy_from_slice(&[0, 0]);
    let mut ogg = page(0, 2, 0, &head);
    ogg.extend(page(1, 0, 0, b"OpusTags\0\0\0\0\0\0\0\0"));
    for (index, packet) in packets.enumerate() {
        ogg.extend(page(index as u32 + 2, 0, 960 * (index as u64 + 1), packet));
    }
    fs::write(path, ogg).expect("the folder is ours");
}

fn page(number: u32, kind: u8, granule: u64, packet: &[u8]) -> Vec<u8> {
    let mut page = b"OggS\0".to_vec();
    page.push(kind);
    page.extend(granule.to_le_bytes());
    page.extend(7u32.to_le_bytes());
    page.extend(number.to_le_bytes());
    page.extend([0; 4]);
    let full = packet.len() / 255;
    page.push(full as u8 + 1);
    page.extend(std::iter::repeat_n(255, full));
    page.push((packet.len() % 255) as u8);
    page.extend_from_slice(packet);
    let checksum = page.iter().fold(0u32, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte) << 24, |sum, _| {
            sum << 1 ^ if sum >> 31 == 1 { 0x04c1_1db7 } else { 0 }
        })
    });
    page[22..26].copy_from_slice(&checksum.to_le_bytes());
    page
}

/// When beeps begin in what ffmpeg makes of `frames`, seconds of media time.
fn heard(folder: &Folder, frames: &[Frame], channels: usize) -> Vec<f64> {
    let first = frames.iter().find(|frame| frame.is_audio()).expect("something was made").pts;
    let begin = first.ticks_at(SAMPLE_RATE) as f64 / f64::from(SAMPLE_RATE);
    let samples = played(folder, frames, channels);
    onsets(&samples, channels, SAMPLE_RATE).iter().map(|onset| begin + onset).collect()
}

/// Where the first channel has more than half of a beep's strength after 100 ms without, seconds.
fn onsets(samples: &[f64], channels: usize, rate: u32) -> Vec<f64> {
    let quiet = f64::from(rate) / 10.0;
    let mut onsets = Vec::new();
    let mut last = -quiet;
    for (index, sample) in samples.iter().step_by(channels).enumerate() {
        if sample.abs() > 0.28 {
            if index as f64 - last >= quiet {
                onsets.push(index as f64 / f64::from(rate));
            }
            last = index as f64;
        }
    }
    onsets
}

fn assert_near(heard: &[f64], expected: &[f64]) {
    let apart: Vec<f64> = heard.iter().zip(expected).map(|(heard, expected)| heard - expected).collect();
    let most = apart.iter().fold(0.0_f64, |most, apart| most.max(apart.abs()));
    println!("{} beeps, at most {:.2} ms from their times", heard.len(), most * 1000.0);
    assert_eq!(heard.len(), expected.len(), "{heard:?}");
    assert!(most < APART_MAX, "{apart:?}");
}

/// Strength of a pitch, in decibels of a full sine.
fn strength(samples: &[f64], hertz: f64) -> f64 {
    let (mut sine, mut cosine) = (0.0, 0.0);
    for (index, sample) in samples.iter().enumerate() {
        let angle = std::f64::consts::TAU * hertz * index as f64 / f64::from(SAMPLE_RATE);
        sine += sample * angle.sin();
        cosine += sample * angle.cos();
    }
    20.0 * (2.0 * f64::hypot(sine, cosine) / samples.len() as f64).max(1e-9).log10()
}
