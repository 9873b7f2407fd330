//! The wire log: what all viewers of one wire form are sent, muxed once, in blocks.
//!
//! A block is all that was muxed since the last flush: contiguous, frozen, refcounted. A viewer is a cursor into it. An
//! entrance always opens a block, and carries the header bytes that a viewer wants before it.

use std::{collections::VecDeque, rc::Rc};

use bytes::{Bytes, BytesMut};

use super::group::{Group, Numbered};
use crate::{
    canary::{self, Canary},
    limits::StreamLimits,
    media::{Frame, Payload, TrackId},
    session::{Form, Opening, Start, Wire},
    slab,
    time::Now,
};

/// Bytes after which a block is closed before its flush is due. Sends above this size gain nothing more, and a viewer
/// who must leave a block early should not find it endless.
const BLOCK_BYTES_TARGET: usize = 256 << 10;

/// More than any wire form puts around a frame. One that does costs a larger buffer, and is as right.
const FRAMING_BYTES: usize = 256;

/// A run of whole frames, muxed, contiguous.
#[derive(Debug)]
pub struct Block {
    /// Its number in the log; numbers have no gap.
    pub number: u64,
    /// The bytes.
    pub bytes: Bytes,
    /// Where each frame ends, ascending; the last is the block's length.
    ends: Box<[u32]>,
    /// When it was closed.
    pub sealed: Now,
    /// Which opening holds after it; two blocks with the same number need no refresh between them.
    pub opening: u64,
    /// What a viewer needs that enters here; only where one may.
    entrance: Option<Entrance>,
}

#[derive(Clone, Debug)]
struct Entrance {
    header: Bytes,
    refresh: Bytes,
    /// The opening that header and refresh tell of.
    opening: u64,
    /// The form says of every jump that it is one.
    marks_jumps: bool,
    /// The numbers of the first packets from here on, of a form that tells them.
    starts: Vec<Start>,
}

impl Block {
    /// True when `offset` is between two frames.
    pub fn is_boundary(&self, offset: usize) -> bool {
        offset == 0 || self.ends.binary_search_by(|end| (*end as usize).cmp(&offset)).is_ok()
    }
    /// The end of as many whole frames from `offset` on as `most` bytes hold, and of the one that it is in at least.
    pub fn end_of(&self, offset: usize, most: usize) -> usize {
        let index = self.ends.partition_point(|end| *end as usize <= offset.saturating_add(most));
        let within = index.checked_sub(1).and_then(|index| self.ends.get(index));
        within.map_or(0, |end| *end as usize).max(self.frame_end(offset))
    }
    /// The end of the frame that `offset` is in.
    pub fn frame_end(&self, offset: usize) -> usize {
        let index = self.ends.partition_point(|end| (*end as usize) <= offset);
        self.ends.get(index).map_or(self.bytes.len(), |end| *end as usize)
    }
    /// What a viewer is sent before this block when it joins here.
    pub fn header(&self) -> Option<Bytes> {
        self.entrance.as_ref().map(|entrance| entrance.header.clone())
    }
    /// The opening that [`header`](Self::header) and [`refresh`](Self::refresh) tell of.
    pub fn opening_at_entrance(&self) -> u64 {
        self.entrance.as_ref().map_or(self.opening, |entrance| entrance.opening)
    }
    /// The numbers of the first packets of a viewer that joins here, of a form that tells them.
    pub fn starts(&self) -> &[Start] {
        self.entrance.as_ref().map_or(&[], |entrance| &entrance.starts)
    }
    /// What a viewer is sent before this block when it jumps here and knows only the opening numbered `known`. `None` when
    /// there is nothing that it must be told.
    pub fn refresh(&self, known: u64) -> Option<Bytes> {
        let tells = |entrance: &&Entrance| entrance.marks_jumps || entrance.opening != known;
        let entrance = self.entrance.as_ref().filter(tells)?;
        Some(entrance.refresh.clone())
    }
}

/// The wire log of one stream in one form on one core.
pub struct Log {
    form: &'static Form,
    wire: Box<dyn Wire>,
    pending: BytesMut,
    pending_ends: Vec<u32>,
    pending_entrance: Option<Entrance>,
    /// Grows with each frame that changed the opening.
    opening: u64,
    blocks: VecDeque<Rc<Block>>,
    /// The number that the next block gets.
    next: u64,
    /// The first number that viewers may not see yet. A completion may chase only this far: frames that arrive between
    /// two flushes would else go out one by one.
    shown: u64,
    /// The newest block with an entrance, unless its group was let go.
    entrance: Option<u64>,
    /// The blocks held that have an entrance, and when each was closed.
    entrances: VecDeque<(u64, Now)>,
    bytes: usize,
    /// Viewers that have their place in it; whoever gives out places counts them.
    pub readers: usize,
}

impl Log {
    /// A log that begins with what `group` kept, all of it shown at once.
    pub fn new(form: &'static Form, group: &Group, limits: &StreamLimits, now: Now) -> Self {
        let mut log = Log {
            form,
            wire: (form.open)(),
            pending: BytesMut::new(),
            pending_ends: Vec::new(),
            pending_entrance: None,
            opening: 0,
            blocks: VecDeque::new(),
            next: 0,
            shown: 0,
            entrance: None,
            entrances: VecDeque::new(),
            bytes: 0,
            readers: 0,
        };
        let mut opening = group.opening().clone();
        let mut frames = group.frames();
        if let ([kept @ .., _], true) = (frames, canary::is_broken(Canary::SeamLoses)) {
            frames = kept;
        }
        for numbered in frames {
            log.push(numbered, &opening, now);
            opening.note(&numbered.frame);
        }
        if let (Some(last), true) = (frames.last(), canary::is_broken(Canary::SeamDoubles)) {
            log.push(last, &opening, now);
        }
        log.flush(limits, now);
        log
    }

    /// The form it is muxed in.
    pub fn form(&self) -> &'static Form {
        self.form
    }

    /// Muxes one frame. `opening` is what held before it.
    pub fn push(&mut self, numbered: &Numbered, opening: &Opening, now: Now) {
        if numbered.is_entrance() {
            self.seal(now);
            let (mut header, mut refresh) = (BytesMut::new(), BytesMut::new());
            self.wire.header(opening, &numbered.frame, &mut header);
            self.wire.refresh(opening, &numbered.frame, &mut refresh);
            self.pending_entrance = Some(Entrance {
                header: header.freeze(),
                refresh: refresh.freeze(),
                opening: self.opening,
                marks_jumps: self.wire.marks_jumps(),
                starts: self.wire.starts(&numbered.frame),
            });
        }
        let before = self.pending.len();
        self.mux(&numbered.frame);
        // A form that cannot say the key frame has none of these pictures: one enters with the next of its sound. Where it goes on with
        // a picture nobody does.
        let later = numbered.frame.is_video() && !numbered.is_entrance();
        if before == 0 && later && !self.pending.is_empty() {
            self.pending_entrance = None;
        }
        if self.pending.len() >= BLOCK_BYTES_TARGET {
            self.seal(now);
        }
    }

    /// Lets no viewer enter until the next entrance: the group that the last one began was let go.
    pub fn close_entrance(&mut self) {
        self.entrance = None;
        self.pending_entrance = None;
    }

    /// Frames are missing before the entrance `next`: says so where the form can, and says anew what `opening` holds, which
    /// may have changed in the gap.
    pub fn reopen(&mut self, opening: &Opening, next: &Frame) {
        let notice =
            Frame { track: TrackId::DATA, dts: next.dts, pts: next.dts, payload: Payload::Discontinuity };
        self.mux(&notice);
        for frame in opening.frames() {
            self.mux(frame);
        }
    }

    fn mux(&mut self, frame: &Frame) {
        let before = self.pending.len();
        slab::grow(&mut self.pending, frame.payload_bytes() + FRAMING_BYTES);
        self.wire.frame(frame, &mut self.pending);
        if !frame.is_media() {
            self.opening += 1;
        }
        if self.pending.len() > before {
            let end = u32::try_from(self.pending.len()).expect("a block is sealed long before 4 GiB");
            self.pending_ends.push(end);
        }
    }

    fn seal(&mut self, now: Now) {
        if self.pending.is_empty() {
            return;
        }
        let length = self.pending.len();
        let entrance = self.pending_entrance.take();
        if entrance.is_some() {
            self.entrance = Some(self.next);
            self.entrances.push_back((self.next, now));
        }
        let block = Block {
            number: self.next,
            bytes: self.pending.split().freeze(),
            ends: std::mem::take(&mut self.pending_ends).into_boxed_slice(),
            sealed: now,
            opening: self.opening,
            entrance,
        };
        self.blocks.push_back(Rc::new(block));
        self.bytes += length;
        self.next += 1;
    }

    /// True when something waits for a flush.
    pub fn is_dirty(&self) -> bool {
        !self.pending.is_empty() || self.shown < self.next
    }

    /// Shows all that was muxed to the viewers, and lets go of what no viewer may need any more.
    pub fn flush(&mut self, limits: &StreamLimits, now: Now) {
        self.seal(now);
        self.shown = self.next;
        // Kept: the newest group, for joiners; and what a viewer still wants that lags or has just joined. One that joined
        // at the end of a long group is sent all of it, so a block's time begins when the next group does. A viewer holds
        // on to the block where it stands, so that nothing before the first block that is held is wanted by anybody. The
        // group's own bound holds for the wire form too, give or take the framing.
        let bytes_max = limits.group_bytes.saturating_mul(2);
        while let Some(oldest) = self.blocks.front() {
            let in_group = self.entrance.is_some_and(|entrance| oldest.number >= entrance);
            while self.entrances.front().is_some_and(|(number, _)| *number <= oldest.number) {
                self.entrances.pop_front();
            }
            let superseded = self.entrances.front().map_or(oldest.sealed, |(_, sealed)| *sealed);
            let young = now.since(superseded) < limits.viewer_lag && self.bytes <= bytes_max;
            let wanted = young && Rc::strong_count(oldest) > 1;
            if in_group || wanted {
                break;
            }
            self.bytes -= oldest.bytes.len();
            self.blocks.pop_front();
        }
    }

    /// The newest block at which a viewer may enter, if it is shown.
    pub fn entrance(&self) -> Option<&Rc<Block>> {
        self.block(self.entrance?)
    }

    /// The block with this number, if it is shown and still held.
    pub fn block(&self, number: u64) -> Option<&Rc<Block>> {
        if number >= self.shown {
            return None;
        }
        let first = self.blocks.front()?.number;
        self.blocks.get(usize::try_from(number.checked_sub(first)?).ok()?)
    }

    /// Bytes of the newest block that is shown: about what comes between two flushes.
    pub fn newest_bytes(&self) -> usize {
        self.shown.checked_sub(1).and_then(|newest| self.block(newest)).map_or(0, |block| block.bytes.len())
    }

    /// The first number not shown yet: a cursor that stands here has seen everything.
    pub fn shown(&self) -> u64 {
        self.shown
    }

    /// Bytes held in blocks and in what waits for a flush.
    pub fn bytes(&self) -> usize {
        self.bytes + self.pending.len()
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut as _;

    use super::*;
    use crate::{codec::Codec, stream::Place, time::MediaTime};

    /// Says sound, and pictures that are no key frames where it is told to.
    struct Part {
        pictures: bool,
    }

    impl Wire for Part {
        fn header(&mut self, _: &Opening, _: &Frame, out: &mut BytesMut) {
            out.put_slice(b"head");
        }
        fn refresh(&mut self, _: &Opening, _: &Frame, _: &mut BytesMut) {}
        fn frame(&mut self, frame: &Frame, out: &mut BytesMut) {
            match &frame.payload {
                Payload::Audio { data, .. } => out.put_slice(data),
                Payload::Video { key: false, data, .. } if self.pictures => out.put_slice(data),
                _ => {}
            }
        }
    }

    static SOUND: Form =
        Form { name: "sound", datagram: None, prompt: false, open: || Box::new(Part { pictures: false }) };
    static PART: Form =
        Form { name: "part", datagram: None, prompt: false, open: || Box::new(Part { pictures: true }) };

    fn numbered(place: Place, payload: Payload) -> Numbered {
        let track = if matches!(payload, Payload::Audio { .. }) { TrackId::AUDIO } else { TrackId::VIDEO };
        let time = MediaTime { ticks: i64::from(place.index), rate: 1000 };
        Numbered { place, frame: Frame { track, dts: time, pts: time, payload } }
    }

    fn picture(key: bool) -> Payload {
        Payload::Video { codec: Codec::H264, key, data: Bytes::from_static(b"picture") }
    }

    fn sound() -> Payload {
        Payload::Audio { codec: Codec::Aac, data: Bytes::from_static(b"sound") }
    }

    fn log(form: &'static Form, payloads: Vec<Payload>) -> Log {
        let (limits, now) = (StreamLimits::default(), Now(0));
        let mut log = Log::new(form, &Group::default(), &limits, now);
        let mut place = Place::FIRST;
        for payload in payloads {
            if matches!(payload, Payload::Video { key: true, .. }) {
                place = Place { group: place.group + 1, index: 0 };
            }
            log.push(&numbered(place, payload), &Opening::default(), now);
            place.index += 1;
        }
        log.flush(&limits, now);
        log
    }

    #[test]
    fn one_enters_with_the_sound_behind_a_key_frame_that_the_form_does_not_say() {
        let log = log(&SOUND, vec![sound(), picture(true), picture(false), sound(), sound()]);
        let entrance = log.entrance().expect("there is one");
        assert_eq!(
            (&entrance.bytes[..], entrance.header().as_deref()),
            (&b"soundsound"[..], Some(&b"head"[..]))
        );
    }

    #[test]
    fn nobody_enters_in_the_middle_of_pictures() {
        let log = log(&PART, vec![sound(), picture(true), picture(false), sound()]);
        assert!(log.entrance().is_none_or(|entrance| !entrance.bytes.starts_with(b"picture")));
        let log = self::log(&PART, vec![picture(true), picture(false), sound()]);
        assert!(log.entrance().is_none());
    }
}
