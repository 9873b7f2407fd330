//! What one publisher sends, passed on at once to every viewer: the least latency that a server could have.
//!
//! The publisher connects by plain TCP and sends FLV. Each piece that one receive brought goes to each viewer in one send;
//! nothing is merged and nothing waits. Viewers ask by HTTP. Those who come before the publisher's first key frame get all
//! of it. One who comes later gets what stood before that key frame (header, metadata, configurations; of sound before it,
//! too) and enters at the next one, for which `Tags` follows the lengths of tags and looks at nothing else. One relay
//! serves one stream: a second publisher is refused while the first is there.

use std::{
    collections::VecDeque,
    io,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::Bytes;
use serde::Serialize;
use shardcast_io::{
    clock,
    ring::{Completion, Ring, RingConfig, SocketId},
};

use super::{RESPONSE_HEAD, SENDS_PER_ENTER, Seconds, bind};

/// How the floor is to relay.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where the publisher connects by plain TCP and sends FLV
    #[arg(long, value_name = "ADDR:PORT")]
    pub publish: SocketAddr,
    /// Where viewers ask by HTTP, for any path
    #[arg(long, value_name = "ADDR:PORT")]
    pub play: SocketAddr,
}

/// What the floor has done since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Bytes from publishers.
    pub received_bytes: u64,
    /// Sends that have ended.
    pub sends: u64,
    /// Bytes that viewers' sockets took.
    pub bytes: u64,
    /// Enters of the ring.
    pub enters: u64,
    /// Viewers who are there now.
    pub viewers: u64,
    /// Viewers who were closed because they were too far behind.
    pub lagged: u64,
}

/// The floor, listening.
pub struct Relay {
    publish: TcpListener,
    play: TcpListener,
}

impl Relay {
    /// Listens; peers are answered once it runs.
    ///
    /// # Errors
    /// A port is taken.
    pub fn open(options: &Options) -> io::Result<Relay> {
        Ok(Relay { publish: bind(options.publish)?, play: bind(options.play)? })
    }

    /// Where the publisher connects.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn publish_address(&self) -> io::Result<SocketAddr> {
        self.publish.local_addr()
    }

    /// Where viewers connect.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn play_address(&self) -> io::Result<SocketAddr> {
        self.play.local_addr()
    }

    /// Relays until `stop` is set, which it looks at once a second at least.
    ///
    /// # Errors
    /// The ring failed.
    pub fn run(self, stop: &AtomicBool, mut report: impl FnMut(&Report)) -> io::Result<()> {
        let mut ring = Ring::new(&RingConfig::default())?;
        ring.listen(self.publish, PUBLISHERS);
        ring.listen(self.play, VIEWERS);
        let mut room = Room::default();
        let mut seconds = Seconds::from(clock::monotonic());
        while !stop.load(Ordering::Relaxed) {
            room.pump(&mut ring)?;
            let now = clock::monotonic();
            if seconds.passed(now) {
                report(&room.report(&ring));
                // In case descriptors had run out.
                ring.resume_accept(PUBLISHERS);
                ring.resume_accept(VIEWERS);
            }
            ring.wait(1, Duration::from_nanos(seconds.next.saturating_sub(now)))?;
        }
        Ok(())
    }
}

/// The publisher, its viewers, and what is between them.
#[derive(Default)]
struct Room {
    publisher: Option<SocketId>,
    /// By place in the ring.
    viewers: Vec<Option<Viewer>>,
    /// Places of those who may get a send.
    ready: VecDeque<usize>,
    pieces: Pieces,
    /// The number of this publisher's first byte.
    start: u64,
    /// What a viewer who comes late is told first; complete once a key frame was seen.
    head: Vec<u8>,
    tags: Tags,
    /// Whether this publisher has sent a key frame.
    began: bool,
    count: u64,
    lagged: u64,
}

struct Viewer {
    id: SocketId,
    sending: bool,
    /// What goes out before any piece.
    first: Bytes,
    place: Place,
    /// The publisher has gone; this one follows with the last byte.
    ending: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// It has not asked yet.
    Silent,
    /// It waits for a key frame.
    Waiting,
    /// It gets the byte with this number next.
    At(u64),
}

impl Room {
    /// Sends to all who are behind, and takes what the ring says, until neither has more.
    fn pump(&mut self, ring: &mut Ring) -> io::Result<()> {
        loop {
            let mut sends = 0;
            while sends < SENDS_PER_ENTER
                && let Some(place) = self.ready.pop_front()
            {
                sends += usize::from(self.send(place, ring));
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

    fn complete(&mut self, completion: Completion, ring: &mut Ring) {
        match completion {
            Completion::Accepted { token: PUBLISHERS, socket } => self.publisher_came(socket, ring),
            Completion::Accepted { socket, .. } => self.viewer_came(socket, ring),
            Completion::Received { socket, bytes } if self.publisher == Some(socket) => self.pass_on(&bytes),
            Completion::Received { socket, .. } => self.asked(socket),
            Completion::ReceiveEnded { socket, .. } if self.publisher == Some(socket) => {
                self.publisher_went(socket, ring);
            }
            Completion::ReceiveEnded { socket, .. } => self.leave(socket, ring),
            Completion::Sent { socket, result } => match result {
                Ok(taken) => self.sent(socket, taken),
                Err(_) => self.leave(socket, ring),
            },
            // No file is written; a listener that stopped is resumed each second.
            _ => {}
        }
    }

    fn publisher_came(&mut self, socket: OwnedFd, ring: &mut Ring) {
        if self.publisher.is_some() {
            return;
        }
        let Ok(id) = ring.add(socket) else { return };
        self.publisher = Some(id);
        (self.tags, self.began, self.start) = (Tags::default(), false, self.pieces.end());
        self.head.clear();
        ring.receive(id);
    }

    /// A piece came from the publisher: everyone who is not sending gets it now, the others when their send has ended.
    fn pass_on(&mut self, piece: &[u8]) {
        let from = self.pieces.end();
        let key = self.tags.follow(piece);
        self.pieces.push(Bytes::copy_from_slice(piece));
        // A tag's first bytes may have come with an earlier piece.
        let key = key.map(|place| from.saturating_add_signed(place));
        if !self.began {
            // What stands before the first key frame. Where none comes it is bounded, and cut at a random place.
            self.head.extend_from_slice(piece);
            let length = key.map_or(usize::MAX, |key| (key - self.start) as usize);
            self.head.truncate(length.min(HEAD_BYTES_MAX));
            self.began = key.is_some();
        }
        for (place, viewer) in self.viewers.iter_mut().enumerate() {
            let Some(viewer) = viewer else { continue };
            if viewer.place == Place::Waiting
                && let Some(key) = key
            {
                viewer.place = Place::At(key);
            }
            if !viewer.sending {
                self.ready.push_back(place);
            }
        }
    }

    fn publisher_went(&mut self, id: SocketId, ring: &mut Ring) {
        self.publisher = None;
        ring.close(id);
        for (place, viewer) in self.viewers.iter_mut().enumerate() {
            let Some(viewer) = viewer else { continue };
            viewer.ending = viewer.place != Place::Silent;
            if !viewer.sending {
                self.ready.push_back(place);
            }
        }
    }

    fn viewer_came(&mut self, socket: OwnedFd, ring: &mut Ring) {
        // Dropping the descriptor of one too many closes it.
        let Ok(id) = ring.add(socket) else { return };
        if self.viewers.len() <= id.index() {
            self.viewers.resize_with(id.index() + 1, || None);
        }
        let viewer = Viewer { id, sending: false, first: Bytes::new(), place: Place::Silent, ending: false };
        self.viewers[id.index()] = Some(viewer);
        self.count += 1;
        ring.receive(id);
    }

    /// A viewer has said something, and it can only be that it wants the stream.
    fn asked(&mut self, id: SocketId) {
        let Some(Some(viewer)) = self.viewers.get_mut(id.index()) else { return };
        if viewer.place != Place::Silent {
            return;
        }
        let whole = self.pieces.end() - self.start <= HEAD_BYTES_MAX as u64;
        (viewer.place, viewer.first) = match (self.publisher, self.began) {
            (Some(_), true) => (Place::Waiting, Bytes::from([RESPONSE_HEAD, &self.head].concat())),
            (Some(_), false) if whole => (Place::At(self.start), Bytes::from_static(RESPONSE_HEAD)),
            // A stream that has no key frames has no place to enter at, either.
            (Some(_), false) => {
                (Place::At(self.pieces.end()), Bytes::from([RESPONSE_HEAD, &self.head].concat()))
            }
            (None, _) => (Place::At(self.pieces.end()), Bytes::from_static(RESPONSE_HEAD)),
        };
        self.ready.push_back(id.index());
    }

    /// Begins a viewer's next send, if there is anything for it. True when it did.
    fn send(&mut self, place: usize, ring: &mut Ring) -> bool {
        let Some(Some(viewer)) = self.viewers.get_mut(place) else { return false };
        // It may stand in the queue twice.
        if viewer.sending || viewer.place == Place::Silent {
            return false;
        }
        let next = match viewer.place {
            _ if !viewer.first.is_empty() => Ok(Some(viewer.first.clone())),
            Place::At(cursor) => self.pieces.from(cursor),
            Place::Silent | Place::Waiting => Ok(None),
        };
        match next {
            Ok(Some(bytes)) => {
                viewer.sending = true;
                ring.send(viewer.id, bytes);
                return true;
            }
            Ok(None) if viewer.ending => {}
            Ok(None) => return false,
            Err(Gone) => self.lagged += 1,
        }
        let id = viewer.id;
        self.leave(id, ring);
        false
    }

    fn sent(&mut self, id: SocketId, taken: usize) {
        let Some(Some(viewer)) = self.viewers.get_mut(id.index()) else { return };
        viewer.sending = false;
        match &mut viewer.place {
            _ if !viewer.first.is_empty() => viewer.first = viewer.first.slice(taken..),
            Place::At(cursor) => *cursor += taken as u64,
            Place::Silent | Place::Waiting => {}
        }
        self.ready.push_back(id.index());
    }

    fn leave(&mut self, id: SocketId, ring: &mut Ring) {
        if self.viewers.get_mut(id.index()).and_then(Option::take).is_some() {
            self.count -= 1;
        }
        ring.close(id);
    }

    fn report(&self, ring: &Ring) -> Report {
        let stats = ring.stats();
        Report {
            received_bytes: self.pieces.end(),
            sends: stats.sends,
            bytes: stats.send_bytes,
            enters: stats.enters,
            viewers: self.count,
            lagged: self.lagged,
        }
    }
}

/// The newest pieces, each as one receive brought it. Bytes are numbered from the first publisher's first one on.
#[derive(Default)]
struct Pieces {
    /// The number of each piece's first byte, and the piece.
    pieces: VecDeque<(u64, Bytes)>,
    end: u64,
}

/// The bytes that were asked for are not kept any more.
#[derive(Debug, PartialEq)]
struct Gone;

impl Pieces {
    /// The number of the next byte to come.
    fn end(&self) -> u64 {
        self.end
    }

    fn push(&mut self, piece: Bytes) {
        self.pieces.push_back((self.end, piece.clone()));
        self.end += piece.len() as u64;
        while self.pieces.front().is_some_and(|(begins, _)| self.end - begins > PIECES_BYTES_MAX) {
            self.pieces.pop_front();
        }
    }

    /// The rest of the piece that holds byte number `cursor`, or none when that is still to come.
    fn from(&self, cursor: u64) -> Result<Option<Bytes>, Gone> {
        if cursor >= self.end {
            return Ok(None);
        }
        let after = self.pieces.partition_point(|(begins, _)| *begins <= cursor);
        let (begins, piece) = after.checked_sub(1).and_then(|place| self.pieces.get(place)).ok_or(Gone)?;
        Ok(Some(piece.slice((cursor - begins) as usize..)))
    }
}

/// Follows the tags of an FLV stream from piece to piece, to find where key frames begin (Adobe FLV 10.1, annex E.4).
#[derive(Debug)]
struct Tags {
    /// Bytes still to pass over.
    skip: u64,
    /// The first bytes of a tag, as far as they have come.
    begun: [u8; TAG_BEGIN_BYTES],
    have: usize,
}

impl Default for Tags {
    fn default() -> Tags {
        Tags { skip: FILE_HEADER_BYTES, begun: [0; TAG_BEGIN_BYTES], have: 0 }
    }
}

impl Tags {
    /// Where the first key frame's tag in this piece begins, counted from the piece's start: less than nothing when the
    /// tag's first bytes came before.
    fn follow(&mut self, piece: &[u8]) -> Option<i64> {
        let mut found = None;
        let mut at = 0;
        while at < piece.len() {
            if self.skip > 0 {
                let skipped = self.skip.min((piece.len() - at) as u64);
                self.skip -= skipped;
                at += skipped as usize;
                continue;
            }
            let taken = (TAG_BEGIN_BYTES - self.have).min(piece.len() - at);
            self.begun[self.have..self.have + taken].copy_from_slice(&piece[at..at + taken]);
            self.have += taken;
            at += taken;
            if self.have < TAG_BEGIN_BYTES {
                break;
            }
            self.have = 0;
            let [kind, high, middle, low, .., picture, packet] = self.begun;
            // A tag has 11 bytes before its body and 4 behind it. Of the body we have taken 2 bytes; where it is shorter
            // than that they belonged to the 4 behind.
            self.skip =
                u64::from(u32::from_be_bytes([0, high, middle, low])) + 11 + 4 - TAG_BEGIN_BYTES as u64;
            if kind == TAG_VIDEO && is_key(picture, packet) {
                found.get_or_insert(at as i64 - TAG_BEGIN_BYTES as i64);
            }
        }
        found
    }
}

/// Whether a picture tag's first two bytes are those of a key frame and of no configuration, in the old form and in the
/// enhanced one (Enhanced RTMP v2, "ExVideoTagHeader").
fn is_key(picture: u8, packet: u8) -> bool {
    match picture & 0x80 {
        0 => picture >> 4 == 1 && packet != 0,
        _ => picture >> 4 & 7 == 1 && matches!(picture & 0x0f, 1 | 3),
    }
}

/// The tokens of the two listeners.
const PUBLISHERS: u64 = 0;
const VIEWERS: u64 = 1;
/// What is kept of a stream's beginning where no key frame comes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// What is kept for viewers who are behind; one who is further is closed.
const PIECES_BYTES_MAX: u64 = 4 << 20;
const _: () = assert!(PIECES_BYTES_MAX > HEAD_BYTES_MAX as u64);
/// The file's header, and the size of the tag before the first, which is none.
const FILE_HEADER_BYTES: u64 = 9 + 4;
/// What must have come of a tag to know it: its 11 bytes and two of its body. An empty body is followed by 4 bytes, so
/// that there are always so many.
const TAG_BEGIN_BYTES: usize = 11 + 2;
const TAG_VIDEO: u8 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut tag = vec![kind];
        tag.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
        tag.extend_from_slice(&[0; 7]);
        tag.extend_from_slice(body);
        tag.extend_from_slice(&(body.len() as u32 + 11).to_be_bytes());
        tag
    }

    /// A header, a configuration, sound, an empty tag; a key frame, a picture, a key frame. And where the two begin.
    fn stream() -> (Vec<u8>, [usize; 2]) {
        let mut bytes = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
        for (kind, body) in [(9, &[0x17, 0, 0, 0, 0, 1][..]), (8, &[0xaf, 1, 9]), (18, &[]), (8, &[1])] {
            bytes.extend(tag(kind, body));
        }
        let first = bytes.len();
        bytes.extend(tag(9, &[&[0x17, 1, 0, 0, 0][..], &[7; 300]].concat()));
        bytes.extend(tag(9, &[0x27, 1, 0, 0, 0, 5]));
        let second = bytes.len();
        bytes.extend(tag(9, &[&[0x91][..], b"hvc1", &[7; 30]].concat()));
        (bytes, [first, second])
    }

    #[test]
    fn key_frames_are_found_wherever_pieces_are_cut() {
        let (bytes, keys) = stream();
        for size in 1..bytes.len() {
            let mut tags = Tags::default();
            let mut found: Vec<usize> = Vec::new();
            for (number, piece) in bytes.chunks(size).enumerate() {
                let key = tags.follow(piece);
                found.extend(key.map(|place| ((number * size) as i64 + place) as usize));
            }
            if size < 300 {
                assert_eq!(found, keys, "in pieces of {size}");
            } else {
                assert_eq!(found.first(), Some(&keys[0]), "a piece with two gives the first");
            }
        }
    }

    #[test]
    fn the_head_that_is_kept_ends_before_the_first_key_frame() {
        let (bytes, [key, _]) = stream();
        for size in [1, 7, 100, 1000] {
            // A publisher before this one has left its bytes behind.
            let mut room = Room::default();
            room.pieces.push(Bytes::from_static(b"of another"));
            room.start = room.pieces.end();
            for piece in bytes.chunks(size) {
                room.pass_on(piece);
            }
            assert!(room.began);
            assert_eq!(room.head, bytes[..key], "in pieces of {size}");
        }
    }

    #[test]
    fn of_a_stream_without_key_frames_no_more_than_a_bound_is_kept() {
        let mut room = Room::default();
        for _ in 0..100 {
            room.pass_on(&[0; 60_000]);
        }
        assert_eq!(room.head.len(), HEAD_BYTES_MAX);
        assert!(!room.began);
        let kept: usize = room.pieces.pieces.iter().map(|(_, piece)| piece.len()).sum();
        assert!(kept as u64 <= PIECES_BYTES_MAX);
    }

    #[test]
    fn pieces_are_given_whole_or_from_where_a_short_send_ended() {
        let mut pieces = Pieces::default();
        pieces.push(Bytes::from_static(b"one"));
        pieces.push(Bytes::from_static(b"three"));
        assert_eq!(pieces.from(0), Ok(Some(Bytes::from_static(b"one"))));
        assert_eq!(pieces.from(3), Ok(Some(Bytes::from_static(b"three"))));
        assert_eq!(pieces.from(5), Ok(Some(Bytes::from_static(b"ree"))));
        assert_eq!(pieces.from(8), Ok(None));
        pieces.push(Bytes::from(vec![0; PIECES_BYTES_MAX as usize]));
        assert_eq!(pieces.from(5), Err(Gone));
        assert!(pieces.from(8).is_ok_and(|piece| piece.is_some()));
    }
}
