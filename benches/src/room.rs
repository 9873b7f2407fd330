//! A hub with a publisher and viewers, without sockets: what the micro benches share.

use std::{net::SocketAddr, sync::Arc};

use bytes::{Bytes, BytesMut};
use shardcast_engine::{
    codec::Codec,
    error::Error,
    hub::{ConnectionId, Hub, Input, Output},
    media::{Frame, Payload, StreamName, TrackId},
    message::CoreId,
    session::{self, Event, Form, Opening, Session, Wire},
    settings::Settings,
    time::{MediaTime, Now},
};

/// A conversation that wants one thing and then only receives frames from the bench.
struct Guest {
    wish: Option<Event>,
    frame: Option<Frame>,
}

impl Session for Guest {
    fn handle(&mut self, input: session::Input<'_>, _: Now) -> Result<(), Error> {
        // The bench sends the frame's number; the guest makes the frame of it, as a demuxer would.
        if let session::Input::Received(&[a, b, c, d]) = input {
            self.frame = Some(frame(u32::from_be_bytes([a, b, c, d])));
        }
        Ok(())
    }
    fn poll(&mut self) -> Option<session::Output> {
        let event = self.wish.take().or_else(|| self.frame.take().map(Event::Frame))?;
        Some(session::Output::Event(event))
    }
    fn deadline(&self) -> Option<Now> {
        None
    }
    fn received(&self) -> u64 {
        0
    }
}

/// 30 frames per second of 4 Mbit/s, a key frame every two seconds.
fn frame(number: u32) -> Frame {
    static PICTURE: &[u8] = &[0x5a; 80_000];
    let key = number.is_multiple_of(60);
    let dts = MediaTime::from_millis(i64::from(number) * 1000 / 30);
    let data = Bytes::from_static(&PICTURE[..if key { 80_000 } else { 15_600 }]);
    Frame { track: TrackId::VIDEO, dts, pts: dts, payload: Payload::Video { codec: Codec::H264, key, data } }
}

/// The plainest form: a length, a time, the payload.
static PLAIN: Form = Form { name: "plain", datagram: None, prompt: false, open: || Box::new(Plain) };

struct Plain;

impl Wire for Plain {
    fn header(&mut self, _: &Opening, _: &Frame, out: &mut BytesMut) {
        out.extend_from_slice(b"PLAIN");
    }
    fn refresh(&mut self, _: &Opening, _: &Frame, _: &mut BytesMut) {}
    fn frame(&mut self, frame: &Frame, out: &mut BytesMut) {
        if let Payload::Video { data, .. } = &frame.payload {
            out.extend_from_slice(&(data.len() as u32).to_be_bytes());
            out.extend_from_slice(&(frame.dts.as_millis() as u32).to_be_bytes());
            out.extend_from_slice(data);
        }
    }
}

/// A hub with one publisher and `viewers` viewers whose sockets take everything at once.
pub struct Room {
    hub: Hub,
    now: Now,
    frames: u32,
    /// Bytes that the viewers were sent.
    pub sent_bytes: u64,
    /// Sends that it took.
    pub sends: u64,
}

impl Room {
    /// Opens the room; the first frame has been sent to nobody yet.
    pub fn new(viewers: u32) -> Self {
        let hub = Hub::new(CoreId(0), 1, Arc::new(Settings::default()));
        let mut room = Room { hub, now: Now(1), frames: 0, sent_bytes: 0, sends: 0 };
        let name = StreamName::new("live", "bench").expect("a legal name");
        room.enter(0, Event::Publish { name: name.clone(), query: String::new() });
        for slot in 1..=viewers {
            room.enter(slot, Event::Play { name: name.clone(), query: String::new(), form: &PLAIN });
        }
        room
    }

    fn enter(&mut self, slot: u32, wish: Event) {
        let connection = ConnectionId { slot, generation: 0 };
        let session = Box::new(Guest { wish: Some(wish), frame: None });
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        self.hub.handle(Input::Connected { connection, door: "bench", peer, session }, self.now);
        self.hub.handle(Input::Received { connection, bytes: &[] }, self.now);
        self.drain();
    }

    /// The publisher's next frame, and all that follows from it up to the next flush.
    pub fn frame(&mut self) {
        let connection = ConnectionId { slot: 0, generation: 0 };
        let bytes = self.frames.to_be_bytes();
        self.frames += 1;
        self.hub.handle(Input::Received { connection, bytes: &bytes }, self.now);
        self.now = Now(self.now.0 + 1_000_000_000 / 30);
        self.hub.handle(Input::Timeout, self.now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.hub.poll(self.now) {
            if let Output::Send { connection, bytes } = output {
                self.sends += 1;
                self.sent_bytes += bytes.len() as u64;
                self.hub.handle(Input::Sent { connection, result: Ok(bytes.len()) }, self.now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_viewer_of_the_room_gets_every_byte() {
        let mut room = Room::new(3);
        for _ in 0..90 {
            room.frame();
        }
        let frames: u64 = 88 * 15_608 + 2 * 80_008;
        // The last frame may still wait for its flush.
        assert!(room.sent_bytes >= 3 * (frames - 15_608 + 5) && room.sent_bytes <= 3 * (frames + 5));
    }
}
