//! Senders of MPEG-TS in datagrams that nobody announces, plain or inside RTP: they send, and hear nothing. (RFC 2250, 2)

use std::collections::VecDeque;

use bytes::{BufMut as _, Bytes, BytesMut};
use shardcast_engine::{
    media::{Frame, StreamName},
    time::Now,
};

use super::{
    client::{self, Heard, Wish},
    srt::Film,
};

/// Bytes of packets in a datagram.
const DATAGRAM_BYTES: usize = 7 * 188;
/// MPEG-2 transport streams. (RFC 3551, 6)
const PAYLOAD_TYPE: u8 = 33;

/// A sender.
pub struct Client {
    film: Film,
    /// The number of the next datagram, if it is inside RTP.
    number: Option<u16>,
    heard: VecDeque<Heard>,
    outgoing: VecDeque<Bytes>,
}

impl Client {
    /// One whose datagrams are numbered from here on, or bare.
    pub fn new(number: Option<u16>) -> Self {
        Client { film: Film::new(), number, heard: VecDeque::new(), outgoing: VecDeque::new() }
    }

    fn datagram(&mut self, packets: &[u8]) -> Bytes {
        let mut out = BytesMut::new();
        if let Some(number) = &mut self.number {
            out.put_slice(&[0x80, PAYLOAD_TYPE]);
            out.put_u16(*number);
            // No clock of anybody's counts here.
            out.put_slice(&[0; 8]);
            *number = number.wrapping_add(1);
        }
        out.put_slice(packets);
        out.freeze()
    }
}

impl client::Client for Client {
    fn publish(&mut self, _: &StreamName, _: Now) {
        // Nobody says so: it just begins.
        self.heard.push_back(Heard::Publishing);
    }

    fn play(&mut self, _: &StreamName, _: Now) {}

    fn frame(&mut self, frame: &Frame, _: Now) {
        self.film.take(frame);
        let waiting = self.film.waiting.split();
        for packets in waiting.chunks(DATAGRAM_BYTES) {
            let datagram = self.datagram(packets);
            self.outgoing.push_back(datagram);
        }
    }

    fn say(&mut self, wish: Wish) -> bool {
        if wish == Wish::Nonsense {
            self.outgoing.push_back(Bytes::from_static(b"neither packets nor numbers"));
        }
        wish == Wish::Nonsense
    }

    fn hear(&mut self, _: &[u8], _: Now) {
        self.heard.push_back(Heard::Broken("an answer to somebody who is only heard"));
    }

    fn heard(&mut self) -> Option<Heard> {
        self.heard.pop_front()
    }

    fn outgoing(&mut self) -> Option<Bytes> {
        self.outgoing.pop_front()
    }
}
