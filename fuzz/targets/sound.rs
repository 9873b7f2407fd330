//! Packets of AAC, Opus and G.711 at any times, of any bytes, and configurations of any. The first byte says which.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use shardcast_engine::{
    codec::{Codec, Parameters},
    media::{Frame, Payload, TrackId},
    time::MediaTime,
};
use shardcast_shards::sound::Converter;

/// AudioSpecificConfigs: LC of two, one and six channels, 96 kHz, with band replication, with parametric stereo. A door keeps its
/// place when others are added.
const AAC: [&[u8]; 6] = [
    &[0x12, 0x10],
    &[0x11, 0x88],
    &[0x11, 0xb0],
    &[0x10, 0x10],
    &[0x2b, 0x92, 0x08, 0x00],
    &[0xeb, 0x8a, 0x08, 0x00],
];
/// Packets of one input: an hour of them shows no more than these.
const PACKETS_MAX: usize = 64;

fuzz_target!(|input: &[u8]| {
    let Some((selector, rest)) = input.split_first() else { return };
    let (parameters, packets) = match usize::from(*selector) {
        door @ 0..6 => (Parameters::parse(Codec::Aac, AAC[door].into()).ok(), rest),
        door @ 6..9 => (Some(Parameters::of_opus([1, 2, 6][door - 6])), rest),
        9 => (Parameters::of_voice(Codec::PcmA), rest),
        10 => (Parameters::of_voice(Codec::PcmU), rest),
        door @ 11..13 => {
            let codec = if door == 11 { Codec::Aac } else { Codec::Opus };
            let Some((configuration, packets)) = counted(rest) else { return };
            (Parameters::parse(codec, configuration.to_vec().into()).ok(), packets)
        }
        _ => return,
    };
    let Some(parameters) = parameters else { return };
    let made = convert(parameters, packets);
    // What is made decodes, whatever it was made of.
    let mut judge = Converter::new();
    for frame in &made {
        judge.convert(frame, &mut Vec::new()).expect("Opus is converted");
    }
    assert_eq!(judge.damaged(), 0);
});

/// Each packet has a byte of time before it, milliseconds since the last or, from 128 on, seconds back.
fn convert(parameters: Parameters, mut packets: &[u8]) -> Vec<Frame> {
    let codec = parameters.codec;
    let mut converter = Converter::new();
    let mut made = Vec::new();
    let mut millis = 0;
    if converter.convert(&frame(millis, Payload::Parameters(Arc::new(parameters))), &mut made).is_err() {
        assert!(made.is_empty());
        return made;
    }
    for _ in 0..PACKETS_MAX {
        let Some((&step, rest)) = packets.split_first() else { break };
        let Some((packet, rest)) = counted(rest) else { break };
        packets = rest;
        millis += if step < 128 { i64::from(step) } else { -1000 * i64::from(step - 128) };
        let frame = frame(millis, Payload::Audio { codec, data: packet.to_vec().into() });
        let before = made.len();
        converter.convert(&frame, &mut made).expect("damage is no error");
        // 200 ms of G.711 or 120 ms of Opus, the end of a run before it, and parameters.
        assert!(made.len() - before <= 24, "{} frames of one", made.len() - before);
    }
    converter.finish(&mut made).expect("nothing is left to fail");
    made
}

fn frame(millis: i64, payload: Payload) -> Frame {
    let time = MediaTime::from_millis(millis);
    Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }
}

/// So many bytes as the first two say, or as there are.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (count, rest) = bytes.split_first_chunk::<2>()?;
    Some(rest.split_at(rest.len().min(usize::from(u16::from_be_bytes(*count)))))
}
