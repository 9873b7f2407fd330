//! An FLV file, as recordings and HTTP bodies have it: the framing of its tags, and the bodies in them.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use shardcast_engine::{
    error::Error,
    flv::{
        Demuxer, Tag, TagReader,
        mux::{self, Plain},
        tag::write_file_head,
    },
    media::Frame,
    session::Event,
    time::Unwrapper,
};

fuzz_target!(|input: &[u8]| {
    let Some((first, bytes)) = input.split_first() else { return };
    let (tags, error) = read(bytes, bytes.len());
    // The same tags come out, however the bytes are cut.
    assert_eq!((tags.clone(), error), read(bytes, usize::from(*first) + 1));
    let frames = demux(&tags, bytes.len());
    // What was read is written, and read again as it was.
    let mut out = BytesMut::new();
    write_file_head(true, true, &mut out);
    frames.iter().for_each(|frame| mux::write_tag::<Plain>(frame, &mut out));
    let (tags, error) = read(&out, out.len());
    assert_eq!(error, None);
    let again = demux(&tags, out.len());
    let said = |frames: &[Frame]| frames.iter().map(|frame| format!("{:?}", frame.payload)).collect::<Vec<_>>();
    let (said, again) = (said(&frames), said(&again));
    if let Some((one, other)) = said.iter().zip(&again).find(|(one, other)| one != other) {
        panic!("{one}\n{other}");
    }
    assert_eq!(said.len(), again.len());
});

fn read(bytes: &[u8], piece: usize) -> (Vec<Tag>, Option<Error>) {
    let mut reader = TagReader::default();
    let mut tags = Vec::new();
    for mut part in bytes.chunks(piece.max(1)) {
        loop {
            match reader.read(&mut part) {
                Ok(Some(tag)) => tags.push(tag),
                Ok(None) => break,
                Err(error) => return (tags, Some(error)),
            }
        }
    }
    (tags, None)
}

fn demux(tags: &[Tag], len: usize) -> Vec<Frame> {
    let mut demuxer = Demuxer::default();
    let mut clock = Unwrapper::new(32);
    let mut frames = Vec::new();
    for tag in tags {
        let result = demuxer.tag(tag, &mut clock, &mut |event| match event {
            Event::Frame(frame) => frames.push(frame),
            event => assert!(matches!(event, Event::Remark(_))),
        });
        if let Err(error) = result {
            assert!(error.at <= len as u64, "the place of an error lies in the file");
        }
    }
    frames
}
