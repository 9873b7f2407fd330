//! The way to the disk: which files are open, which fragments wait or are being written, and what follows when one fails.

use std::{collections::VecDeque, time::Duration};

use super::{Fault, Fragment, Output, SegmentId};
use crate::{
    limits,
    time::{Now, Wall},
};

/// The files of one recorder that the driver has not yet closed.
pub(super) struct Sink {
    folder: String,
    /// Of its files.
    extension: &'static str,
    segments: Vec<Segment>,
    outbox: VecDeque<Output>,
    segment_next: u64,
    serial_next: u64,
    /// Fragments that wait or are being written, over all files.
    fragments: usize,
    /// Their bytes.
    bytes: usize,
    /// Not before this moment after a failure.
    retry_at: Option<Now>,
    /// The pause after the last failure; zero since the disk last worked.
    pause: Duration,
    /// The failure was told, and nothing was acknowledged since.
    alarmed: bool,
}

struct Segment {
    id: SegmentId,
    started: Wall,
    /// How often its name was taken already.
    names_tried: u32,
    state: State,
    /// No fragments are to come.
    ended: bool,
    /// Where the next fragment is written.
    offset: u64,
    /// Bytes that are acknowledged without a hole.
    length: u64,
    duration: Duration,
    /// Being written, in order.
    flying: VecDeque<Flight>,
}

enum State {
    /// The driver creates the file. The fragments wait, because its block size is not known yet.
    Opening(Vec<Fragment>),
    Open {
        block: usize,
    },
    /// A write failed. What is still being written is waited for and then cut off.
    Failed,
    Finishing,
}

/// A fragment that the driver has.
#[derive(Clone, Copy)]
struct Flight {
    len: u64,
    held_bytes: usize,
    frames: u64,
    serial: u64,
    from: Wall,
    end: Duration,
}

/// A fragment that the disk has acknowledged.
pub(super) struct Written {
    pub(super) len: u64,
    pub(super) frames: u64,
    pub(super) serial: u64,
}

/// A file that was given up, and the frames that were lost with it.
pub(super) struct Failure {
    pub(super) fault: Fault,
    pub(super) lost: u64,
    /// When the first of them came.
    pub(super) from: Wall,
}

impl Sink {
    pub(super) fn new(folder: &str, extension: &'static str) -> Self {
        Sink {
            folder: folder.to_owned(),
            extension,
            segments: Vec::new(),
            outbox: VecDeque::new(),
            segment_next: 0,
            serial_next: 0,
            fragments: 0,
            bytes: 0,
            retry_at: None,
            pause: Duration::ZERO,
            alarmed: false,
        }
    }

    pub(super) fn poll(&mut self) -> Option<Output> {
        self.outbox.pop_front()
    }
    pub(super) fn tell(&mut self, output: Output) {
        self.outbox.push_back(output);
    }
    /// True when every file is closed.
    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// True when one fragment more may be handed over.
    pub(super) fn has_room(&self, now: Now) -> bool {
        self.fragments < limits::FRAGMENTS_IN_FLIGHT_MAX
            && self.bytes < limits::FRAGMENT_BYTES_IN_FLIGHT_MAX
            // A driver that closes files slower than they are begun gets no more of them.
            && self.segments.len() <= limits::FRAGMENTS_IN_FLIGHT_MAX
            && self.retry_at.is_none_or(|retry_at| retry_at <= now)
    }

    /// Begins a file.
    pub(super) fn open(&mut self, started: Wall) -> SegmentId {
        let id = SegmentId(self.segment_next);
        self.segment_next += 1;
        let segment = Segment {
            id,
            started,
            names_tried: 0,
            state: State::Opening(Vec::new()),
            ended: false,
            offset: 0,
            length: 0,
            duration: Duration::ZERO,
            flying: VecDeque::new(),
        };
        self.outbox.push_back(segment.open(&self.folder, self.extension));
        self.segments.push(segment);
        id
    }

    /// Hands over the next fragment of a file. Returns its serial number.
    pub(super) fn append(&mut self, id: SegmentId, mut fragment: Fragment) -> u64 {
        let serial = self.serial_next;
        self.serial_next += 1;
        fragment.set_serial(serial);
        let Some(segment) = self.segments.iter_mut().find(|segment| segment.id == id) else { return serial };
        self.fragments += 1;
        self.bytes += fragment.held_bytes();
        match &mut segment.state {
            State::Opening(waiting) => waiting.push(fragment),
            State::Open { block } => {
                let block = *block;
                self.outbox.push_back(segment.append(fragment, block));
            }
            State::Failed | State::Finishing => {
                unreachable!("the recorder lets go of a file that failed or ended")
            }
        }
        serial
    }

    /// The file gets no more fragments.
    pub(super) fn end(&mut self, id: SegmentId) {
        if let Some(segment) = self.segments.iter_mut().find(|segment| segment.id == id) {
            segment.ended = true;
        }
        self.settle();
    }

    pub(super) fn opened(&mut self, id: SegmentId, result: Result<u32, Fault>) -> Option<Failure> {
        let place = self.segments.iter().position(|segment| segment.id == id)?;
        let segment = &mut self.segments[place];
        let State::Opening(waiting) = &mut segment.state else { return None };
        match result {
            Ok(block) => {
                let waiting = std::mem::take(waiting);
                let block = (block as usize).next_power_of_two();
                segment.state = State::Open { block };
                for fragment in waiting {
                    self.outbox.push_back(segment.append(fragment, block));
                }
                None
            }
            Err(Fault::Exists) if segment.names_tried + 1 < limits::RECORDING_NAMES_MAX => {
                segment.names_tried += 1;
                self.outbox.push_back(segment.open(&self.folder, self.extension));
                None
            }
            Err(fault) => {
                let lost = waiting.iter().map(Fragment::frames).sum();
                let from = waiting.first().map_or(segment.started, Fragment::from);
                self.fragments -= waiting.len();
                self.bytes -= waiting.iter().map(Fragment::held_bytes).sum::<usize>();
                // There is no file, so nothing is to be finished.
                self.segments.remove(place);
                Some(Failure { fault, lost, from })
            }
        }
    }

    pub(super) fn appended(
        &mut self,
        id: SegmentId,
        result: Result<(), Fault>,
    ) -> Result<Option<Written>, Failure> {
        let Some(segment) = self.segments.iter_mut().find(|segment| segment.id == id) else {
            return Ok(None);
        };
        let Some(flight) = segment.flying.pop_front() else { return Ok(None) };
        self.fragments -= 1;
        self.bytes -= flight.held_bytes;
        match (result, &segment.state) {
            (Ok(()), State::Open { .. }) => {
                segment.length += flight.len;
                segment.duration = flight.end;
                self.pause = Duration::ZERO;
                self.retry_at = None;
                self.alarmed = false;
                Ok(Some(Written { len: flight.len, frames: flight.frames, serial: flight.serial }))
            }
            (Err(fault), State::Open { .. }) => {
                segment.state = State::Failed;
                let behind: u64 = segment.flying.iter().map(|flight| flight.frames).sum();
                Err(Failure { fault, lost: flight.frames + behind, from: flight.from })
            }
            // Behind a fragment that failed: whatever became of it, it is cut off, and was counted as lost already.
            _ => Ok(None),
        }
    }

    pub(super) fn finished(&mut self, id: SegmentId) {
        self.segments.retain(|segment| segment.id != id || !matches!(segment.state, State::Finishing));
    }

    /// Tells the first failure since the disk last worked.
    pub(super) fn alarm(&mut self, segment: SegmentId, fault: Fault) {
        if !std::mem::replace(&mut self.alarmed, true) {
            self.outbox.push_back(Output::Alarm { segment, fault });
        }
    }

    /// The disk failed: nothing is tried for a while, longer each time.
    pub(super) fn back_off(&mut self, now: Now) {
        self.pause = (self.pause * 2).clamp(limits::RECORDING_RETRY_MIN, limits::RECORDING_RETRY_MAX);
        self.retry_at = Some(now.after(self.pause));
    }

    /// Finishes the files of which every fragment has been answered.
    pub(super) fn settle(&mut self) {
        for segment in &mut self.segments {
            let over = match segment.state {
                State::Open { .. } => segment.ended,
                State::Failed => true,
                State::Opening(_) | State::Finishing => false,
            };
            if over && segment.flying.is_empty() {
                segment.state = State::Finishing;
                let (length, duration) = (segment.length, segment.duration);
                self.outbox.push_back(Output::Finish { segment: segment.id, length, duration });
            }
        }
    }
}

impl Segment {
    fn open(&self, folder: &str, extension: &str) -> Output {
        // Colons are not for every file system.
        let utc = self.started.to_string().replace(':', "-");
        let path = match self.names_tried {
            0 => format!("{folder}/{utc}.{extension}"),
            tried => format!("{folder}/{utc}-{tried}.{extension}"),
        };
        Output::Open { segment: self.id, path, started: self.started }
    }

    fn append(&mut self, mut fragment: Fragment, block: usize) -> Output {
        fragment.pad(block);
        let offset = self.offset;
        self.flying.push_back(Flight {
            len: fragment.len() as u64,
            held_bytes: fragment.held_bytes(),
            frames: fragment.frames(),
            serial: fragment.serial(),
            from: fragment.from(),
            end: fragment.end(),
        });
        self.offset += fragment.len() as u64;
        Output::Append { segment: self.id, offset, fragment }
    }
}
