//! The wire form: packets that are the same for all viewers of a stream.
//!
//! Counters count for all of them alike, so whoever watches without a break sees them go on. Whoever jumps does not, and is
//! told so by bytes of its own (see [`Wire::refresh`]): packets that say that the clock begins anew and that any counter may
//! follow. The shared bytes have no such mark. They could: a mark before each key frame would make every entrance legal for
//! whoever jumps there. But it would tell all the others, at each key frame, that their clock begins anew, and receivers
//! that believe it flush and lock on again. Counters that cannot be wrong would be the third way; but a viewer may leave
//! after any frame, so each frame would have to take a multiple of 16 packets.
//! (ISO/IEC 13818-1, 2.4.3.3 and 2.4.3.5)

use std::marker::PhantomData;

use bytes::{BufMut, BytesMut};

use super::{clock::Clock, packet::PACKET_BYTES, program::Program};
use crate::{
    media::{Frame, Payload},
    session::{Envelope, Form, Opening, Plain, Wire},
    slab,
    time::MediaTime,
};

/// Packets as they are: the bytes of an HTTP body that ends when the connection does, and of datagrams of seven packets.
pub static FORM: Form = Form {
    name: "ts",
    datagram: Some(7 * PACKET_BYTES as u16),
    prompt: false,
    open: || Box::new(TsWire::<Plain>::default()),
};

/// More than an envelope takes.
const ENVELOPE_BYTES: usize = 32;

/// The muxer of MPEG-TS in envelopes of one kind. What must not be torn is a frame's packets, with those that stand before
/// them.
///
/// Times are those of the stream, 0.7 s later: the same for all who play it, on whichever core and since whenever.
///
/// ```
/// # use std::sync::Arc;
/// use bytes::BytesMut;
/// # use shardcast_engine::{codec::{Codec, Parameters}, media::{Frame, Payload, TrackId}, time::MediaTime};
/// use shardcast_engine::{mpegts::TsWire, session::{Opening, Plain, Wire as _}};
///
/// # let frame = |millis, payload| {
/// #     let time = MediaTime::from_millis(millis);
/// #     Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }
/// # };
/// # let data = bytes::Bytes::from_static(&[0xfc, 1, 2]);
/// # let packet = frame(1000, Payload::Audio { codec: Codec::Opus, data });
/// # let parameters = vec![frame(0, Payload::Parameters(Arc::new(Parameters::of_opus(2))))];
/// let (mut wire, mut out) = (TsWire::<Plain>::default(), BytesMut::new());
/// // Nothing is for one viewer alone: what it needs stands before the frame that it enters at, for everybody.
/// wire.header(&Opening { parameters, ..Opening::default() }, &packet, &mut out);
/// assert!(out.is_empty());
/// wire.frame(&packet, &mut out);
/// // Two tables and the frame.
/// assert_eq!((out.len(), out[0]), (3 * 188, 0x47));
/// ```
pub struct TsWire<E> {
    program: Program,
    /// A viewer may enter at the next frame.
    entrance: bool,
    envelope: PhantomData<E>,
}

impl<E> Default for TsWire<E> {
    fn default() -> Self {
        let program = Program::new(Clock::from(MediaTime::from_millis(0)));
        TsWire { program, entrance: false, envelope: PhantomData }
    }
}

impl<E: Envelope> Wire for TsWire<E> {
    /// Writes nothing: what a viewer needs stands before each entrance, for everybody.
    fn header(&mut self, opening: &Opening, _: &Frame, _: &mut BytesMut) {
        self.enter(opening);
    }

    /// Writes what makes the jump legal, whether or not the opening has changed.
    fn refresh(&mut self, opening: &Opening, at: &Frame, out: &mut BytesMut) {
        self.enter(opening);
        let mut marks = BytesMut::new();
        self.program.write_marks(at, &mut marks);
        write_piece::<E>(&marks, out);
    }

    fn marks_jumps(&self) -> bool {
        true
    }

    fn frame(&mut self, frame: &Frame, out: &mut BytesMut) {
        if !frame.is_media() {
            return self.program.heed(frame);
        }
        let entrance = std::mem::take(&mut self.entrance);
        if let Some(unit) = self.program.prepare_next(frame) {
            let len = self.program.len(&unit);
            slab::grow(out, len + ENVELOPE_BYTES);
            E::open(len, out);
            self.program.write(&unit, out);
            E::close(out);
        } else if entrance && self.program.prepare_entrance(frame) {
            // Pictures that cannot be said must not keep anybody from the sound.
            write_piece::<E>(self.program.ahead(), out);
        }
    }
}

impl<E> TsWire<E> {
    /// A viewer may enter at the next frame, knowing what `opening` holds.
    fn enter(&mut self, opening: &Opening) {
        for frame in &opening.parameters {
            if let Payload::Parameters(parameters) = &frame.payload {
                self.program.learn(frame.track, parameters);
            }
        }
        self.program.enter();
        self.entrance = true;
    }
}

fn write_piece<E: Envelope>(piece: &[u8], out: &mut BytesMut) {
    if !piece.is_empty() {
        E::open(piece.len(), out);
        out.put_slice(piece);
        E::close(out);
    }
}
