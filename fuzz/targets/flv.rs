//! An FLV file as somebody's encoder wrote it: tags, bodies, frames, and back to bodies. The first byte says in what
//! pieces it comes.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use shardcast_engine::{
    error::Error,
    flv::{Demuxer, Tag, TagReader, mux},
    media::{Frame, Payload},
    session::Event,
    time::Unwrapper,
};

fuzz_target!(|input: &[u8]| {
    let Some((piece, bytes)) = input.split_first() else { return };
    let (tags, end) = read(bytes, bytes.len());
    let (cut_tags, cut_end) = read(bytes, usize::from(*piece));
    assert_eq!((format!("{tags:?}"), end), (format!("{cut_tags:?}"), cut_end));

    let mut demuxer = Demuxer::default();
    let mut clock = Unwrapper::new(32);
    let mut frames = Vec::new();
    for tag in &tags {
        let mut emit = |event| {
            if let Event::Frame(frame) = event {
                frames.push(frame);
            }
        };
        if let Err(error) = demuxer.tag(tag, &mut clock, &mut emit) {
            assert!(error.at <= bytes.len() as u64, "{error}");
            break;
        }
    }
    back(&frames);
});

fn read(bytes: &[u8], piece: usize) -> (Vec<Tag>, Option<Error>) {
    let mut reader = TagReader::default();
    let mut tags = Vec::new();
    for mut piece in bytes.chunks(piece.max(1)) {
        while !piece.is_empty() {
            match reader.read(&mut piece) {
                Ok(tag) => tags.extend(tag),
                Err(error) => {
                    assert!(error.at <= bytes.len() as u64, "{error}");
                    return (tags, Some(error));
                }
            }
        }
    }
    (tags, None)
}

/// Frames that are written and read again are the same frames.
fn back(frames: &[Frame]) {
    let mut demuxer = Demuxer::default();
    let mut again = Vec::new();
    for frame in frames {
        let Some(body) = mux::Body::of(frame) else { continue };
        let bytes = Bytes::from(body.parts().concat());
        assert_eq!(bytes.len(), body.len() as usize);
        let mut emit = |event| {
            if let Event::Frame(frame) = event {
                again.push(frame);
            }
        };
        demuxer.body(body.kind, frame.dts.as_millis(), &bytes, &mut emit).expect("we wrote it");
    }
    assert_eq!(words(frames), words(&again));
}

/// The frames in words, without parameters that say again what their track knows: those are not passed on twice.
fn words(frames: &[Frame]) -> Vec<String> {
    let mut known = [None, None];
    let mut words = Vec::new();
    for frame in frames {
        if let Payload::Parameters(parameters) = &frame.payload
            && let Some(known) = known.get_mut(usize::from(frame.track.0))
            && known.replace(parameters) == Some(parameters)
        {
            continue;
        }
        words.push(format!("{frame:?}"));
    }
    words
}
