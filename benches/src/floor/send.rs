//! The same bytes to the same sockets by a bare batched ring: what sending costs when nobody decides anything.
//!
//! Nothing is published. The floor has a [`Schedule`] of how many bytes a stream has made by when, and at each flush it
//! sends every viewer what it is owed, all of them the same memory, with as many sends per enter as a shard has. A viewer
//! whose last send has not ended is left out and gets the more at the next flush. What is sent is no FLV.
//!
//! Going through [`Ring`] costs nothing against an io_uring program written for this alone (the same flags, fixed files,
//! no table of sockets): 1000 viewers of 4.13 Mbit/s on loopback, 17.0 KB per send, 33 ms, 8 s each in turn, medians of five
//! and their spread, CPU seconds per GB: .287 (.259 to .301) here, .305 (.273 to .341, and one run of 2.3 that was
//! disturbed) there. Linux 6.18, two cores of a virtual Intel Xeon shared with other work, 2026-11-22.

use std::{
    collections::VecDeque,
    fs, io,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::Serialize;
use shardcast_io::{
    clock,
    ring::{Completion, Ring, RingConfig, SocketId},
};

use super::{RESPONSE_HEAD, SECOND, SENDS_PER_ENTER, Seconds, bind};
use crate::{clip::Clip, units};

/// How the floor is to send.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where viewers connect; whatever they ask for, they get the bytes
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: SocketAddr,
    /// What each viewer gets per second
    #[arg(long, value_name = "RATE", default_value = "4Mbit", value_parser = units::bitrate)]
    pub bitrate: u64,
    /// How often what is due is sent; "0ms" sends each frame by itself
    #[arg(long, value_name = "TIME", default_value = "40ms", value_parser = units::duration)]
    pub flush: Duration,
    /// An FLV file whose frames say how large each flush is, in place of the built-in clip's
    #[arg(long, value_name = "FILE")]
    pub clip: Option<PathBuf>,
    /// Send so many bytes each time, as often as the bit rate asks for it; flush and clip then mean nothing. 0 leaves it
    /// to them
    #[arg(long, value_name = "BYTES", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=SEND_BYTES_MAX))]
    pub bytes_per_send: u64,
    /// Seal what each viewer gets with AES-256-GCM, in records of 16 KiB as TLS has them: what TLS cannot do without
    #[arg(long)]
    pub seal: bool,
}

impl Options {
    fn schedule(&self) -> Result<Schedule, String> {
        if self.bytes_per_send > 0 {
            return Ok(Schedule::of_blocks(self.bytes_per_send, self.bitrate));
        }
        let clip = match &self.clip {
            None => Clip::built_in(),
            Some(path) => {
                let named = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
                Clip::read(&fs::read(path).map_err(|error| named(&error))?).map_err(|why| named(&why))?
            }
        };
        let flush = u64::try_from(self.flush.as_nanos()).unwrap_or(u64::MAX);
        Ok(Schedule::of_clip(&clip.at_bitrate(self.bitrate)?, flush))
    }
}

/// How many bytes a stream has made by when, and when that is sent.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The frames of one round: when each is there, nanoseconds from the round's beginning, and the bytes of all up to and
    /// with it.
    frames: Vec<(u64, u64)>,
    /// Length of a round in nanoseconds.
    period: u64,
    /// Nanoseconds between flushes; 0 sends each frame by itself.
    flush: u64,
}

impl Schedule {
    /// Blocks of one size, as often as the bit rate asks for.
    pub fn of_blocks(bytes: u64, bits_per_second: u64) -> Schedule {
        let period = u128::from(bytes) * 8 * u128::from(SECOND) / u128::from(bits_per_second.max(1));
        let period = u64::try_from(period).unwrap_or(u64::MAX);
        Schedule::of_frames([(0, bytes)], period, 0)
    }

    /// The frames of a clip as FLV tags, sent on a grid of `flush` nanoseconds.
    pub fn of_clip(clip: &Clip, flush: u64) -> Schedule {
        let nanos = |millis: i64| millis.unsigned_abs() * NANOS_PER_MILLI;
        let frames = clip.parts().iter().map(|part| {
            let body_head = if part.frame.is_video() { VIDEO_HEAD_BYTES } else { AUDIO_HEAD_BYTES };
            (nanos(part.frame.dts.as_millis()), part.bytes() as u64 + TAG_BYTES + body_head)
        });
        Schedule::of_frames(frames, nanos(clip.period_millis()), flush)
    }

    /// Frames in the order of their times (nanoseconds and bytes), again and again with a period, sent on a grid of
    /// `flush` nanoseconds as a shard does.
    pub fn of_frames(frames: impl IntoIterator<Item = (u64, u64)>, period: u64, flush: u64) -> Schedule {
        let mut sum = 0;
        let frames: Vec<_> = frames
            .into_iter()
            .map(|(at, bytes)| {
                sum += bytes;
                (at, sum)
            })
            .collect();
        assert!(sum > 0, "a stream has bytes");
        assert!(frames.is_sorted_by_key(|(at, _)| at), "frames come in the order of their times");
        let period = period.max(1);
        assert!(frames.last().is_some_and(|(at, _)| *at < period), "a round holds its frames");
        Schedule { frames, period, flush }
    }

    /// Bytes that the stream has made, this long after its beginning.
    pub fn due(&self, elapsed: u64) -> u64 {
        let (rounds, into) = (elapsed / self.period, elapsed % self.period);
        let here = self.frames.partition_point(|(at, _)| *at <= into);
        let before = here.checked_sub(1).map_or(0, |last| self.frames[last].1);
        rounds * self.round_bytes() + before
    }

    /// The first moment after `elapsed` at which more is sent.
    pub fn next(&self, elapsed: u64) -> u64 {
        let (rounds, into) = (elapsed / self.period, elapsed % self.period);
        let frame = match self.frames.get(self.frames.partition_point(|(at, _)| *at <= into)) {
            Some((at, _)) => rounds * self.period + at,
            None => (rounds + 1) * self.period + self.frames.first().map_or(0, |(at, _)| *at),
        };
        match self.flush {
            0 => frame,
            flush => frame.div_ceil(flush) * flush,
        }
    }

    fn round_bytes(&self) -> u64 {
        self.frames.last().map_or(0, |(_, sum)| *sum)
    }
}

/// What the floor has done since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Sends that have ended.
    pub sends: u64,
    /// Bytes that sockets took.
    pub bytes: u64,
    /// Sends that took only a part.
    pub sends_short: u64,
    /// Enters of the ring.
    pub enters: u64,
    /// Viewers who are there now.
    pub viewers: u64,
    /// Viewers who were left out of a flush because their last send had not ended.
    pub left_out: u64,
}

/// The floor, listening.
pub struct Sender {
    listener: TcpListener,
    schedule: Schedule,
    seal: bool,
}

impl Sender {
    /// Listens; viewers are answered once it runs.
    ///
    /// # Errors
    /// The port is taken, or the clip cannot be read or has a higher rate by itself.
    pub fn open(options: &Options) -> io::Result<Sender> {
        let schedule = options.schedule().map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
        Ok(Sender { listener: bind(options.listen)?, schedule, seal: options.seal })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Sends until `stop` is set, which it looks at once a second at least.
    ///
    /// # Errors
    /// The ring failed.
    pub fn run(self, stop: &AtomicBool, mut report: impl FnMut(&Report)) -> io::Result<()> {
        let Sender { listener, schedule, seal } = self;
        let mut ring = Ring::new(&RingConfig::default())?;
        ring.listen(listener, VIEWERS);
        let mut crowd = Crowd::new(seal);
        let began = clock::monotonic();
        let (mut seconds, mut next) = (Seconds::from(0), 0);
        while !stop.load(Ordering::Relaxed) {
            let elapsed = clock::monotonic() - began;
            if elapsed >= next {
                crowd.flush(schedule.due(elapsed));
                next = schedule.next(elapsed);
            }
            crowd.pump(&mut ring)?;
            let elapsed = clock::monotonic() - began;
            if seconds.passed(elapsed) {
                report(&crowd.report(&ring));
                // In case descriptors had run out.
                ring.resume_accept(VIEWERS);
            }
            ring.wait(1, Duration::from_nanos(next.min(seconds.next).saturating_sub(elapsed)))?;
        }
        Ok(())
    }
}

/// Everyone who watches.
struct Crowd {
    /// By place in the ring.
    viewers: Vec<Option<Viewer>>,
    /// Places of those who get a send next.
    ready: VecDeque<usize>,
    /// Bytes that the stream had made at the last flush.
    head: u64,
    /// What is sent: its beginning, as long as the send is.
    content: Bytes,
    count: u64,
    left_out: u64,
    seal: Option<Seal>,
}

struct Viewer {
    id: SocketId,
    /// How much of the stream it has.
    cursor: u64,
    sending: Sending,
}

#[derive(Clone, Copy, PartialEq)]
enum Sending {
    Nothing,
    /// The response's head, which is no part of the stream.
    Greeting,
    /// So many bytes of the stream, which are so many on the wire.
    Stream(u64, u64),
}

/// What TLS 1.3 does to every byte, and nothing else of it. (RFC 8446, 5.2)
struct Seal {
    key: LessSafeKey,
    /// Counts records, for nonces.
    records: u64,
    /// Memory of sends, the oldest first, to be used again once the kernel has taken what is in it: new memory would cost more
    /// than sealing does.
    memory: VecDeque<Bytes>,
}

impl Seal {
    fn new() -> Self {
        let key = UnboundKey::new(&AES_256_GCM, &[0x5a; 32]).expect("a key of AES-256 has 32 bytes");
        Seal { key: LessSafeKey::new(key), records: 0, memory: VecDeque::new() }
    }

    /// Room for a send of this length.
    fn room(&mut self, len: usize) -> BytesMut {
        match self.memory.pop_front().map(Bytes::try_into_mut) {
            Some(Ok(mut memory)) => {
                memory.clear();
                memory.reserve(len);
                memory
            }
            Some(Err(under_way)) => {
                self.memory.push_front(under_way);
                BytesMut::with_capacity(len)
            }
            None => BytesMut::with_capacity(len),
        }
    }

    fn seal(&mut self, mut content: &[u8]) -> Bytes {
        let records = content.len().div_ceil(RECORD_BYTES_MAX);
        let mut out = self.room(content.len() + records * RECORD_MORE_BYTES);
        while !content.is_empty() {
            let (record, rest) = content.split_at(content.len().min(RECORD_BYTES_MAX));
            content = rest;
            self.records += 1;
            let mut nonce = [0; NONCE_LEN];
            nonce[NONCE_LEN - 8..].copy_from_slice(&self.records.to_be_bytes());
            let sealed = record.len() + 1 + AES_256_GCM.tag_len();
            let head = [23, 3, 3, (sealed >> 8) as u8, sealed as u8];
            out.extend_from_slice(&head);
            let begin = out.len();
            out.extend_from_slice(record);
            out.extend_from_slice(&[23]);
            let nonce = Nonce::assume_unique_for_key(nonce);
            let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(head), &mut out[begin..]);
            out.extend_from_slice(tag.expect("a record is not too long").as_ref());
        }
        let sealed = out.freeze();
        self.memory.push_back(sealed.clone());
        sealed
    }
}

impl Crowd {
    fn new(seal: bool) -> Crowd {
        let content = Bytes::from(vec![0x5a; SEND_BYTES_MAX as usize]);
        let seal = seal.then(Seal::new);
        Crowd { viewers: Vec::new(), ready: VecDeque::new(), head: 0, content, count: 0, left_out: 0, seal }
    }

    /// The stream has made `head` bytes: everyone who has less and waits for nothing gets a send.
    fn flush(&mut self, head: u64) {
        self.head = head;
        for (place, viewer) in self.viewers.iter().enumerate() {
            match viewer {
                Some(viewer) if viewer.sending == Sending::Nothing && viewer.cursor < head => {
                    self.ready.push_back(place);
                }
                Some(viewer) => self.left_out += u64::from(viewer.sending != Sending::Nothing),
                None => {}
            }
        }
    }

    /// Sends to all who are ready, and takes what the ring says, until neither has more.
    fn pump(&mut self, ring: &mut Ring) -> io::Result<()> {
        loop {
            let mut sends = 0;
            while sends < SENDS_PER_ENTER
                && let Some(place) = self.ready.pop_front()
            {
                self.send(place, ring);
                sends += 1;
            }
            ring.submit()?;
            let mut completions = 0;
            while let Some(completion) = ring.next() {
                completions += 1;
                self.complete(completion, ring);
            }
            if sends == 0 && completions == 0 && ring.pending() == 0 {
                return Ok(());
            }
        }
    }

    fn send(&mut self, place: usize, ring: &mut Ring) {
        let Some(Some(viewer)) = self.viewers.get_mut(place) else { return };
        let owed = (self.head - viewer.cursor).min(SEND_BYTES_MAX);
        let content = self.content.slice(..owed as usize);
        let content = self.seal.as_mut().map_or(content.clone(), |seal| seal.seal(&content));
        viewer.sending = Sending::Stream(owed, content.len() as u64);
        ring.send(viewer.id, content);
    }

    fn complete(&mut self, completion: Completion, ring: &mut Ring) {
        match completion {
            Completion::Accepted { socket, .. } => self.enter(socket, ring),
            Completion::Sent { socket, result } => match result {
                Ok(taken) => self.sent(socket, taken as u64, ring),
                Err(_) => self.leave(socket, ring),
            },
            // Nothing is received and no file is written; a listener that stopped is resumed each second.
            _ => {}
        }
    }

    fn enter(&mut self, socket: OwnedFd, ring: &mut Ring) {
        // Dropping the descriptor of one too many closes it.
        let Ok(id) = ring.add(socket) else { return };
        if self.viewers.len() <= id.index() {
            self.viewers.resize_with(id.index() + 1, || None);
        }
        self.viewers[id.index()] = Some(Viewer { id, cursor: self.head, sending: Sending::Greeting });
        self.count += 1;
        ring.send(id, Bytes::from_static(RESPONSE_HEAD));
    }

    fn sent(&mut self, id: SocketId, taken: u64, ring: &mut Ring) {
        let Some(Some(viewer)) = self.viewers.get_mut(id.index()) else { return };
        match viewer.sending {
            // Of a sealed send that was cut short as much of the stream as of the wire.
            Sending::Stream(owed, wire) => viewer.cursor += owed * taken / wire.max(1),
            // A new socket has room for a head, or something is wrong with it.
            Sending::Greeting if taken < RESPONSE_HEAD.len() as u64 => return self.leave(id, ring),
            Sending::Greeting | Sending::Nothing => {}
        }
        let short = matches!(viewer.sending, Sending::Stream(_, wire) if taken < wire);
        viewer.sending = Sending::Nothing;
        if short {
            self.ready.push_back(id.index());
        }
    }

    fn leave(&mut self, id: SocketId, ring: &mut Ring) {
        if self.viewers.get_mut(id.index()).and_then(Option::take).is_some() {
            self.count -= 1;
            ring.close(id);
        }
    }

    fn report(&self, ring: &Ring) -> Report {
        let stats = ring.stats();
        Report {
            sends: stats.sends,
            bytes: stats.send_bytes,
            sends_short: stats.sends_short,
            enters: stats.enters,
            viewers: self.count,
            left_out: self.left_out,
        }
    }
}

/// The listener's token.
const VIEWERS: u64 = 0;
const NANOS_PER_MILLI: u64 = 1_000_000;
/// What FLV has around a frame: a tag's head and the size behind it, and what a body begins with for H.264 and for AAC
/// (Adobe FLV 10.1, annex E.4).
const TAG_BYTES: u64 = 11 + 4;
const VIDEO_HEAD_BYTES: u64 = 5;
const AUDIO_HEAD_BYTES: u64 = 2;
/// The longest send. A viewer who is owed more gets the rest with the next flush.
const SEND_BYTES_MAX: u64 = 1 << 20;
/// What a record of TLS 1.3 holds, and what it has beside that: its head, its content's type and the tag. (RFC 8446, 5.2)
const RECORD_BYTES_MAX: usize = 1 << 14;
const RECORD_MORE_BYTES: usize = 5 + 1 + 16;

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60 * SECOND;

    /// The bytes of every flush within a time.
    fn flushes(schedule: &Schedule, until: u64) -> Vec<(u64, u64)> {
        let (mut at, mut before, mut found) = (0, 0, Vec::new());
        while at < until {
            let due = schedule.due(at);
            found.push((at, due - before));
            before = due;
            at = schedule.next(at);
        }
        found
    }

    #[test]
    fn blocks_of_one_size_are_exact_over_a_minute() {
        for (bytes, bits) in [(16_500, 4_000_000), (16_500, 4_130_000), (1, 8), (999, 500_000)] {
            let found = flushes(&Schedule::of_blocks(bytes, bits), MINUTE);
            assert!(found.iter().all(|(_, each)| *each == bytes), "each flush is one block");
            let sum: u64 = found.iter().map(|(_, each)| each).sum();
            assert!((sum - 60 * bits / 8) <= bytes, "{sum} bytes at {bits} bit/s");
        }
    }

    #[test]
    fn what_is_flushed_in_a_minute_is_what_the_clip_has() {
        // Thirty frames a second, every thirtieth large, and sound at 47 per second.
        let pictures = (0..60).map(|n| (n * 2 * SECOND / 60, if n == 0 { 80_000 } else { 15_600 }));
        let sound = (0..94).map(|n| (n * 2 * SECOND / 94, 340));
        let mut frames: Vec<(u64, u64)> = pictures.chain(sound).collect();
        frames.sort_unstable();
        let clip: u64 = frames.iter().map(|(_, bytes)| bytes).sum();
        for flush in [0, 10, 33, 100, 350] {
            let schedule = Schedule::of_frames(frames.clone(), 2 * SECOND, flush * 1_000_000);
            let found = flushes(&schedule, MINUTE + flush * 1_000_000);
            let exact = schedule.due(MINUTE - 1);
            assert_eq!(exact, 30 * clip);
            let sum: u64 = found.iter().map(|(_, bytes)| bytes).sum();
            assert_eq!(sum, schedule.due(found.last().unwrap().0));
            assert!(sum >= exact, "by one flush later all of the minute has been sent");
            assert!(found.iter().all(|(_, bytes)| *bytes > 0), "no flush sends nothing");
            if flush > 0 {
                assert!(found.iter().all(|(at, _)| at % (flush * 1_000_000) == 0), "flushes are on the grid");
            }
        }
    }

    #[test]
    fn the_built_in_clip_at_a_bit_rate_is_exact_over_a_minute() {
        let clip = Clip::built_in().at_bitrate(4_000_000).unwrap();
        let tags: u64 = clip.parts().iter().map(|part| if part.frame.is_video() { 20 } else { 17 }).sum();
        let schedule = Schedule::of_clip(&clip, 33 * NANOS_PER_MILLI);
        let round = u64::try_from(clip.period_millis()).unwrap() * NANOS_PER_MILLI;
        assert_eq!(schedule.due(4 * round - 1), 4 * (clip.bytes() + tags));
        let found = flushes(&schedule, MINUTE);
        let sum: u64 = found.iter().map(|(_, bytes)| bytes).sum();
        assert!(sum.abs_diff(30_000_000) < 600_000, "{sum} bytes in a minute");
        // A flush holds what its frames have: sometimes a key frame, sometimes sound alone.
        let largest = found.iter().map(|(_, bytes)| *bytes).max().unwrap();
        assert!(largest > 3 * sum / found.len() as u64, "{largest}");
    }

    #[test]
    fn with_no_flush_each_moment_with_frames_is_a_send() {
        let schedule = Schedule::of_frames([(0, 10), (5, 20), (5, 30), (9, 1)], 10, 0);
        assert_eq!(flushes(&schedule, 20), [(0, 10), (5, 50), (9, 1), (10, 10), (15, 50), (19, 1)]);
    }

    #[test]
    fn what_is_sealed_is_records_that_can_be_opened() {
        let content: Vec<u8> = (0..40_000_u32).map(|number| number as u8).collect();
        let (mut seal, mut plain, mut number) = (Seal::new(), Vec::new(), 0_u64);
        let mut sealed = seal.seal(&content).to_vec();
        assert_eq!(sealed.len(), content.len() + 3 * RECORD_MORE_BYTES);
        let mut rest = &mut sealed[..];
        while !rest.is_empty() {
            number += 1;
            let (head, more) = rest.split_at_mut(5);
            let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
            let (record, more) = more.split_at_mut(length);
            let mut nonce = [0; NONCE_LEN];
            nonce[4..].copy_from_slice(&number.to_be_bytes());
            let head: [u8; 5] = (&*head).try_into().unwrap();
            let nonce = Nonce::assume_unique_for_key(nonce);
            let opened = seal.key.open_in_place(nonce, Aad::from(head), record).unwrap();
            assert_eq!(opened.last(), Some(&23), "application data");
            plain.extend_from_slice(&opened[..opened.len() - 1]);
            rest = more;
        }
        assert_eq!(plain, content);
    }

    #[test]
    fn a_late_flush_sends_all_that_came_meanwhile() {
        let schedule = Schedule::of_blocks(100, 800_000);
        assert_eq!(schedule.due(0), 100);
        assert_eq!(schedule.next(0), 1_000_000);
        assert_eq!(schedule.due(7_500_000), 800);
        assert_eq!(schedule.next(7_500_000), 8_000_000);
    }
}
