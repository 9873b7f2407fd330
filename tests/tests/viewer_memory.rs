//! What a viewer takes of the heap, to the byte: a hub, the built-in clip, and a thousand sessions that listen.
//!
//! Tables of the ring and sizes of heap classes come on top; what the whole process takes is measured by
//! `shardcast-bench run memory`.

use std::{alloc::System, collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use shardcast_engine::{
    hub::{ConnectionId, Hub, Input, Output},
    limits::DoorLimits,
    media::StreamName,
    message::CoreId,
    protocol::{DEMO, HTTP, Protocol, RTMP},
    rtmp::{Client, client::Target},
    session::{self, Session},
    settings::Settings,
    time::Now,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const VIEWERS: u32 = 1000;
/// Long enough for a group of the clip to go by.
const WATCHED: Duration = Duration::from_secs(5);

fn live_bytes() -> isize {
    let stats = HEAP.stats();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

/// A hub whose peers take everything at once. What it says to the newcomer is kept, to be answered.
struct Room {
    hub: Hub,
    now: Now,
    heard: Vec<Bytes>,
    bytes: BTreeMap<u32, u64>,
}

impl Room {
    fn open() -> Room {
        let hub = Hub::new(CoreId(0), 1, Arc::new(Settings::default()));
        let mut room =
            Room { hub, now: Now(1_000_000_000), heard: Vec::with_capacity(4096), bytes: BTreeMap::new() };
        room.enter(0, &DEMO);
        room.pass(WATCHED);
        room
    }

    fn enter(&mut self, slot: u32, door: &Protocol) -> ConnectionId {
        self.heard.clear();
        let connection = ConnectionId { slot, generation: 0 };
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        let session = (door.open)(&DoorLimits::default(), self.now);
        self.hub.handle(Input::Connected { connection, door: door.name, peer, session }, self.now);
        self.drain();
        connection
    }

    fn drain(&mut self) {
        while let Some(output) = self.hub.poll(self.now) {
            let Output::Send { connection, bytes } = output else { continue };
            let length = bytes.len();
            *self.bytes.entry(connection.slot).or_default() += length as u64;
            self.heard.push(bytes);
            self.hub.handle(Input::Sent { connection, result: Ok(length) }, self.now);
        }
    }

    fn say(&mut self, connection: ConnectionId, bytes: &[u8]) {
        self.hub.handle(Input::Received { connection, bytes }, self.now);
        self.drain();
    }

    /// Time goes by, and what is due is done. The least that lived on the heap meanwhile: a log grows and shrinks with its
    /// groups.
    fn pass(&mut self, time: Duration) -> isize {
        let until = self.now.after(time);
        let mut least = isize::MAX;
        while let Some(due) = self.hub.deadline().filter(|due| *due <= until) {
            self.now = due;
            self.hub.handle(Input::Timeout, due);
            self.drain();
            self.heard.clear();
            least = least.min(live_bytes());
        }
        self.now = until;
        least
    }
}

fn watch_by_http(room: &mut Room, slot: u32) {
    let id = room.enter(slot, &HTTP);
    room.say(id, b"GET /live/demo.flv HTTP/1.1\r\nHost: here\r\nUser-Agent: a player with a name\r\n\r\n");
}

fn watch_by_rtmp(room: &mut Room, slot: u32) {
    let id = room.enter(slot, &RTMP);
    let target = Target { tc_url: "rtmp://here/live".into(), app: "live".into(), stream: "demo".into() };
    let name = StreamName::new("live", "demo").expect("a legal name");
    let mut client = Client::pull(target, name, &DoorLimits::default(), room.now);
    // A handshake and four commands; then it plays and says nothing more.
    for _ in 0..8 {
        while let Some(output) = client.poll() {
            if let session::Output::Send(bytes) = output {
                room.say(id, &bytes);
            }
        }
        for bytes in std::mem::take(&mut room.heard) {
            client
                .handle(session::Input::Received(&bytes), room.now)
                .expect("the server keeps to the protocol");
        }
    }
}

/// Bytes of heap that one more viewer takes.
fn heap_of_a_viewer(watch: fn(&mut Room, u32)) -> usize {
    let mut room = Room::open();
    // The log of this wire form is everybody's, and the tables have their size.
    (1..=VIEWERS).for_each(|slot| watch(&mut room, slot));
    let before = room.pass(WATCHED);
    (VIEWERS + 1..=2 * VIEWERS).for_each(|slot| watch(&mut room, slot));
    let taken = room.pass(WATCHED) - before;
    assert_eq!(room.bytes.len(), 2 * VIEWERS as usize, "all were sent something");
    assert!(room.bytes.values().all(|bytes| *bytes > 100_000), "all watch: {:?}", room.bytes.values().min());
    usize::try_from(taken).expect("viewers take memory") / VIEWERS as usize
}

/// One test, for it counts what the whole process takes.
#[test]
fn a_viewer_takes_no_more_of_the_heap_than_it_did() {
    let (http, rtmp) = (heap_of_a_viewer(watch_by_http), heap_of_a_viewer(watch_by_rtmp));
    assert!((200..530).contains(&http), "a viewer by HTTP-FLV takes {http} bytes");
    assert!((200..1200).contains(&rtmp), "a viewer by RTMP takes {rtmp} bytes");
}
