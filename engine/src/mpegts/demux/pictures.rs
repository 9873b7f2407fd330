//! Access units: from a byte stream to length-prefixed NAL units, and the configuration that decoders want apart from them.

use bytes::BufMut;

use super::{Context, pes::Times};
use crate::{
    codec::{self, nal::AnnexB, pictures::Fate, syntax::Syntax},
    media::{Payload, TrackId},
    slab,
};

/// The pictures of a program.
#[derive(Debug)]
pub(super) struct Pictures {
    track: codec::pictures::Pictures,
    /// The times of the last picture, and how long it was decoded after the one before it.
    last: Option<Times>,
    step: i64,
}

/// A byte stream has three bytes or four before each unit, a frame always four.
const ROOM_FOR_LENGTHS_BYTES: usize = 64;

impl Pictures {
    pub(super) fn new(syntax: Syntax) -> Self {
        Pictures { track: codec::pictures::Pictures::new(syntax), last: None, step: 0 }
    }

    /// Takes an access unit.
    pub(super) fn unit(&mut self, payload: &[u8], times: Option<Times>, context: &mut Context<'_>) {
        slab::grow(context.memory, payload.len() + ROOM_FOR_LENGTHS_BYTES);
        let mut has_slice = false;
        for unit in AnnexB::new(payload) {
            if let Fate::Kept { slice } = self.track.unit(unit) {
                has_slice |= slice;
                let len = u32::try_from(unit.len()).expect("a PES packet is far below 4 GiB");
                context.memory.put_u32(len);
                context.memory.put_slice(unit);
            }
        }
        let data = context.memory.split().freeze();
        // Parameter sets may come in a PES packet of their own.
        if !has_slice {
            return;
        }
        let Some(times) = times.or_else(|| self.next_times()) else {
            context.counters.broken_frames += 1;
            return;
        };
        self.remember(times);
        if let Some(parameters) = self.track.changed_parameters() {
            context.parameters(TrackId::VIDEO, times.dts, parameters);
        }
        let Some(parameters) = self.track.parameters() else {
            context.counters.early_frames += 1;
            return;
        };
        let (codec, key) = (parameters.codec, self.track.is_key(&data));
        context.frame(TrackId::VIDEO, times, Payload::Video { codec, key, data });
    }

    /// Of a picture without times (2.7.5 lets some be without): as long after the last as that was after the one before it.
    fn next_times(&self) -> Option<Times> {
        let last = self.last?;
        Some(Times { pts: last.pts.saturating_add(self.step), dts: last.dts.saturating_add(self.step) })
    }

    fn remember(&mut self, times: Times) {
        if let Some(last) = self.last {
            self.step = times.dts.saturating_sub(last.dts);
        }
        self.last = Some(times);
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.track.held_bytes()
    }
}
