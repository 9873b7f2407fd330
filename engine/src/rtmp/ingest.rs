//! Messages to frames: what a publisher sends us, and what a server sends a client that plays.

use bytes::{Bytes, BytesMut};

use super::{
    amf3,
    link::Outbox,
    message::{Message, kind},
};
use crate::{
    bits::Reader,
    error::Error,
    flv::{self, TagKind},
    session::Event,
    time::Unwrapper,
};

/// One stream that comes in.
#[derive(Debug)]
pub(crate) struct Ingest {
    demuxer: flv::Demuxer,
    /// The 32-bit millisecond clock, one for sound and pictures, so that both pass its wrap alike.
    clock: Unwrapper,
}

impl Default for Ingest {
    fn default() -> Self {
        Ingest { demuxer: flv::Demuxer::default(), clock: Unwrapper::new(32) }
    }
}

impl Ingest {
    /// Takes a message; one that carries no media is ignored.
    ///
    /// # Errors
    /// As [`flv::Demuxer::body`]; `at` counts from the start of the connection.
    pub(crate) fn message(&mut self, message: &Message, outbox: &mut Outbox) -> Result<(), Error> {
        let result = match message.kind {
            kind::AUDIO => self.body(TagKind::Audio, message.time, &message.payload, outbox),
            kind::VIDEO => self.body(TagKind::Video, message.time, &message.payload, outbox),
            kind::DATA_AMF0 => self.body(TagKind::Script, message.time, &message.payload, outbox),
            kind::DATA_AMF3 => match script_as_amf0(&message.payload) {
                Ok(body) => self.body(TagKind::Script, message.time, &body, outbox),
                Err(why) => {
                    outbox.event(Event::Remark(why));
                    Ok(())
                }
            },
            kind::AGGREGATE => self.aggregate(message, outbox),
            _ => Ok(()),
        };
        result.map_err(|error| error.after(message.at))
    }

    fn body(&mut self, kind: TagKind, time: u32, body: &Bytes, outbox: &mut Outbox) -> Result<(), Error> {
        let dts = match kind {
            // Encoders send metadata with a time of 0 in the middle of a stream. It must not move the clock.
            TagKind::Script => self.clock.clone().unwrap(time.into()),
            TagKind::Audio | TagKind::Video => self.clock.unwrap(time.into()),
        };
        self.demuxer.body(kind, dts, body, &mut |event| outbox.event(event))
    }

    /// 7.1.6: FLV tags in one message. Their times count from the first tag's, which is the message's.
    fn aggregate(&mut self, message: &Message, outbox: &mut Outbox) -> Result<(), Error> {
        let mut reader = Reader::new(&message.payload);
        let mut first = None;
        while !reader.is_empty() {
            let kind = reader.u8("type in an aggregate")?;
            let len = reader.u24("length in an aggregate")? as usize;
            let time =
                reader.u24("time in an aggregate")? | u32::from(reader.u8("time in an aggregate")?) << 24;
            reader.skip(3, "stream in an aggregate")?;
            let start = reader.position();
            reader.skip(len, "message in an aggregate")?;
            let body = message.payload.slice(start..reader.position());
            reader.skip(flv::tag::TAIL_BYTES, "back pointer in an aggregate")?;
            let since_first = time.wrapping_sub(*first.get_or_insert(time));
            if let Some(kind) = TagKind::of(kind) {
                self.body(kind, message.time.wrapping_add(since_first), &body, outbox)
                    .map_err(|error| error.after(start as u64))?;
            }
        }
        Ok(())
    }
}

/// A data message of the AMF3 kind says the same in AMF0, which is what viewers get.
fn script_as_amf0(payload: &[u8]) -> Result<Bytes, &'static str> {
    let values = amf3::message_values(payload).map_err(|_| "script data is not AMF; left out")?;
    let mut out = BytesMut::with_capacity(payload.len());
    values.iter().for_each(|value| value.encode(&mut out));
    Ok(out.freeze())
}
