//! A transport stream as somebody's sender wrote it, and what the network made of it: packets, tables, frames; and what is
//! written of those frames read again. The first byte says in what pieces it comes.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use shardcast_engine::{
    container::Track,
    media::{Frame, Payload, TrackId},
    mpegts::{Demuxer, Segmenter, demux::Counters},
    session::Event,
    time::MediaTime,
};

/// More than the largest PES packet of each kind, the sets of a track and what is between.
const HELD_BYTES_MAX: usize = 40 << 20;
/// Frames that are longer may have no room behind what is written before them.
const FRAME_BYTES: usize = 60_000;

fuzz_target!(|input: &[u8]| {
    let Some((piece, bytes)) = input.split_first() else { return };
    let (frames, counters) = read(bytes, bytes.len());
    let (cut_frames, cut_counters) = read(bytes, usize::from(*piece));
    assert_eq!((words(&frames), counters), (words(&cut_frames), cut_counters));
    assert!(counters.packets <= (bytes.len() / 188) as u64);
    back(&frames);
});

fn read(bytes: &[u8], piece: usize) -> (Vec<Frame>, Counters) {
    let mut demuxer = Demuxer::default();
    let mut frames = Vec::new();
    let mut take = |event| match event {
        Event::Frame(frame) => frames.push(frame),
        Event::Remark(remark) => assert!(!remark.is_empty()),
        other => panic!("{other:?}"),
    };
    for piece in bytes.chunks(piece.max(1)) {
        demuxer.push(piece, &mut take);
        assert!(demuxer.held_bytes() <= HELD_BYTES_MAX);
    }
    demuxer.finish(&mut take);
    let counters = demuxer.counters();
    (frames, counters)
}

fn words(frames: &[Frame]) -> Vec<String> {
    frames.iter().map(|frame| format!("{frame:?}")).collect()
}

/// Frames that are written and read again are the same frames, as long as their parameters stay what they are.
fn back(frames: &[Frame]) {
    for id in [TrackId::VIDEO, TrackId::AUDIO] {
        let mut of_track = frames.iter().filter(|frame| frame.track == id).peekable();
        let Some(Frame { payload: Payload::Parameters(parameters), .. }) = of_track.next() else { continue };
        let tracks = [Track { id, parameters: parameters.clone(), rate: 90_000 }];
        let sent: Vec<Frame> = of_track.take_while(|frame| frame.is_media()).cloned().collect();
        // The parameter sets stand before key frames alone.
        let sent = if id == TrackId::VIDEO {
            let first = sent.iter().position(Frame::is_key).unwrap_or(sent.len());
            sent.split_at(first).1
        } else {
            &sent[..]
        };
        if sent.is_empty() || sent.iter().any(|frame| frame.payload_bytes() > FRAME_BYTES) {
            continue;
        }
        let mut out = BytesMut::new();
        Segmenter::new(&tracks, MediaTime::from_millis(0)).write(sent, &mut out);
        assert_eq!(out.len() % 188, 0);
        let (again, counters) = read(&out, out.len());
        // What the headers of a codec cannot say is left out, all of it or nothing.
        if out.is_empty() {
            continue;
        }
        let data = |frame: &Frame| match &frame.payload {
            Payload::Video { data, .. } | Payload::Audio { data, .. } => Some(data.clone()),
            _ => None,
        };
        let [sent, again] = [sent, &again].map(|frames| frames.iter().filter_map(data).collect::<Vec<_>>());
        assert_eq!(sent, again, "{counters:?}");
    }
}
