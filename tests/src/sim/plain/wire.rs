//! The wire forms of the plain protocol.

use bytes::BytesMut;
use shardcast_engine::{
    media::{Frame, Payload},
    session::{Form, Opening, Wire},
};

use super::{put, put_frame, word};

/// Says everything.
pub static FORM: Form =
    Form { name: "plain", datagram: None, prompt: false, open: || Box::new(Muxer { terse: false }) };
/// Cannot say script data, colour and discontinuities, like most real forms.
pub static TERSE: Form =
    Form { name: "terse", datagram: None, prompt: false, open: || Box::new(Muxer { terse: true }) };

struct Muxer {
    terse: bool,
}

impl Muxer {
    fn opening(&mut self, opening: &Opening, out: &mut BytesMut) {
        for frame in opening.frames() {
            self.frame(frame, out);
        }
    }
}

impl Wire for Muxer {
    fn header(&mut self, opening: &Opening, _: &Frame, out: &mut BytesMut) {
        put(out, word::HEADER, &[]);
        self.opening(opening, out);
    }

    fn refresh(&mut self, opening: &Opening, _: &Frame, out: &mut BytesMut) {
        put(out, word::REFRESH, &[]);
        self.opening(opening, out);
    }

    fn frame(&mut self, frame: &Frame, out: &mut BytesMut) {
        let unsaid =
            matches!(frame.payload, Payload::Script(_) | Payload::ColorInfo { .. } | Payload::Discontinuity);
        if !(self.terse && unsaid) {
            put_frame(out, word::STREAM, frame);
        }
    }
}
