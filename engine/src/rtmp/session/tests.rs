//! A server and a client against each other, and a server against hand-made bytes.

use bytes::Bytes;

use super::*;
use crate::{
    codec::Codec,
    flv::demux::tests::{frame, parameters},
    media::{Frame, Payload, TrackId},
    rtmp::{
        handshake::{ClientKind, Scheme},
        pair::Pair,
    },
    session::Opening,
    time::MediaTime,
};

/// Ten pictures with B-frame offsets and ten packets of sound, 20 ms apart, from `start`.
fn media(start: i64) -> Vec<Frame> {
    (0..20)
        .map(|index| {
            let dts = start + index * 20;
            let data = Bytes::from(vec![index as u8 + 1; 1 + 17_000 * (index as usize % 3)]);
            if index % 2 == 1 {
                return frame(TrackId::AUDIO, dts, Payload::Audio { codec: Codec::Aac, data });
            }
            let payload = Payload::Video { codec: Codec::H264, key: index == 0, data };
            let mut picture = frame(TrackId::VIDEO, dts, payload);
            picture.pts = MediaTime::from_millis(dts + index % 4 * 40);
            picture
        })
        .collect()
}

fn opening() -> Opening {
    Opening {
        metadata: Some(frame(
            TrackId::DATA,
            0,
            Payload::Metadata(Bytes::from_static(b"\x08\0\0\0\0\0\0\x09")),
        )),
        parameters: vec![parameters(Codec::H264), parameters(Codec::Aac)],
        color: None,
    }
}

/// What should come out: the opening as of the first frame's time, then the frames.
fn expected(frames: &[Frame]) -> Vec<Frame> {
    let opening = opening();
    let first = frames.first().unwrap();
    let opened = opening.metadata.into_iter().chain(opening.parameters);
    let opened = opened.map(|frame| Frame { dts: first.dts, pts: first.dts, ..frame });
    opened.chain(frames.iter().cloned()).collect()
}

fn assert_same(got: &[&Frame], want: &[Frame]) {
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        assert_eq!(format!("{got:?}"), format!("{want:?}"));
    }
}

#[test]
fn a_publisher_and_a_player_get_every_frame_at_any_split() {
    for piece in [1, 2, 3, 5, 11, 12, 13, 128, 1000, 1537, 4096, 65_536, 1 << 20] {
        let frames = media(1000);
        let bytes = Pair::wire(&opening(), &frames);
        let mut pair = Pair::push();
        pair.piece = piece;
        pair.start();
        pair.server.inbox.extend(&bytes);
        pair.run();
        assert_same(&pair.server.frames(), &expected(&frames));

        let mut pair = Pair::pull();
        pair.piece = piece;
        pair.start();
        pair.client.inbox.extend(&bytes);
        pair.run();
        assert_same(&pair.client.frames(), &expected(&frames));
    }
}

#[test]
fn every_kind_of_handshake_leads_to_a_stream() {
    for kind in [ClientKind::Simple, ClientKind::Complex(Scheme::First), ClientKind::Complex(Scheme::Second)]
    {
        let mut pair = Pair::pull().handshake(kind);
        pair.run();
        assert!(matches!(
            pair.server.events.as_slice(),
            [Event::Play { name, query, form }]
                if name.as_str() == "live/cam1" && query == "token=x" && *form == &FORM
        ));
    }
}
