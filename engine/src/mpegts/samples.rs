//! Streams that tests send.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::FORM;
use crate::{
    codec::{Codec, Parameters},
    media::{Frame, Payload, TrackId},
    session::Opening,
    time::MediaTime,
};

/// Two pictures of which each byte says which it is, as MPEG-TS.
pub fn two_pictures() -> (Bytes, [Bytes; 2]) {
    let avcc: Vec<u8> =
        (0..AVCC.len()).step_by(2).map(|at| u8::from_str_radix(&AVCC[at..at + 2], 16).unwrap()).collect();
    let parameters = Arc::new(Parameters::parse(Codec::H264, avcc.into()).unwrap());
    let (mut wire, mut out) = ((FORM.open)(), BytesMut::new());
    let mut datas = Vec::new();
    for (millis, byte) in [(0, 0x11), (40, 0x22)] {
        let dts = MediaTime::from_millis(millis);
        let frame = |payload| Frame { track: TrackId::VIDEO, dts, pts: dts, payload };
        if datas.is_empty() {
            let opening = Opening {
                parameters: vec![frame(Payload::Parameters(parameters.clone()))],
                ..Opening::default()
            };
            wire.header(&opening, &frame(Payload::Discontinuity), &mut out);
        }
        // One slice of 6000 bytes: more than thirty packets.
        let data = Bytes::from([&6000_u32.to_be_bytes()[..], &[0x65], &[byte; 5999]].concat());
        wire.frame(&frame(Payload::Video { codec: Codec::H264, key: true, data: data.clone() }), &mut out);
        datas.push(data);
    }
    (out.freeze(), datas.try_into().unwrap())
}

const AVCC: &str =
    "0164001fffe1001a6764001facd9405005bb0110000003001000000303c0f183196001000668ebe3cb22c0fdf8f800";
