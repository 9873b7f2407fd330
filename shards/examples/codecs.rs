//! Looks into an FLV file with the parsers alone: no node, no thread, no network.
//!
//! `cargo run --release -p shardcast-shards --example codecs -- FILE.flv`

use std::{collections::BTreeMap, env, error::Error, fs, sync::Arc};

use shardcast_engine::{
    codec::{Codec, Parameters, Shape, aac, h264, h265},
    flv::{Demuxer, TagReader},
    media::{Frame, Payload, TrackId},
    session::Event,
    time::Unwrapper,
};

/// What was found of one track.
#[derive(Default)]
struct Found {
    parameters: Option<Arc<Parameters>>,
    frames: usize,
    keys: usize,
    bytes: usize,
    first: Option<i64>,
    last: i64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let file = fs::read(env::args().nth(1).ok_or("usage: codecs FILE.flv")?)?;
    let (mut tags, mut demuxer, mut clock) = (TagReader::default(), Demuxer::default(), Unwrapper::new(32));
    let mut tracks = BTreeMap::<TrackId, Found>::new();
    let mut input = &file[..];
    while let Some(tag) = tags.read(&mut input)? {
        demuxer.tag(&tag, &mut clock, &mut |event| {
            if let Event::Frame(frame) = event {
                note(tracks.entry(frame.track).or_default(), &frame);
            }
        })?;
    }
    for (track, found) in &tracks {
        let Some(parameters) = &found.parameters else { continue };
        println!("track {}: {}, {}", track.0, parameters.codec.name(), parameters.codec_string);
        println!("  {}", describe(parameters)?);
        let seconds = (found.last - found.first.unwrap_or(0)) as f64 / 1e9;
        println!(
            "  {} frames, {} key frames, {} bytes, {seconds:.2} s",
            found.frames, found.keys, found.bytes
        );
    }
    Ok(())
}

fn note(found: &mut Found, frame: &Frame) {
    if let Payload::Parameters(parameters) = &frame.payload {
        found.parameters = Some(parameters.clone());
    }
    if !frame.is_media() {
        return;
    }
    // Judged by the frame's own bits, and not by what the container says.
    let key = match (&frame.payload, &found.parameters) {
        (Payload::Video { data, .. }, Some(parameters)) => parameters.is_key(data),
        _ => false,
    };
    found.frames += 1;
    found.keys += usize::from(key);
    found.bytes += frame.payload_bytes();
    found.first.get_or_insert(frame.dts.as_nanos());
    found.last = frame.dts.as_nanos();
}

/// What the decoder configuration says: each codec's parser can be had alone.
fn describe(parameters: &Parameters) -> Result<String, Box<dyn Error>> {
    let configuration = &parameters.configuration;
    let text = match parameters.codec {
        Codec::H264 => {
            let sps = h264::Configuration::parse(configuration)?.sps;
            format!("{} x {}, profile {}, level {}", sps.width, sps.height, sps.profile, sps.level)
        }
        Codec::H265 => {
            let sps = h265::Configuration::parse(configuration)?.sps;
            format!("{} x {}, {} bits", sps.width, sps.height, sps.bit_depth_luma)
        }
        Codec::Aac => {
            let config = aac::AudioSpecificConfig::parse(configuration)?;
            format!(
                "{} Hz, {} channels, object type {}",
                config.sample_rate, config.channels, config.object_type
            )
        }
        _ => match parameters.shape {
            Shape::Video { width, height } => format!("{width} x {height}"),
            Shape::Audio { sample_rate, channels, .. } => format!("{sample_rate} Hz, {channels} channels"),
        },
    };
    Ok(text)
}
