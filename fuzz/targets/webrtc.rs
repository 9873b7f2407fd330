//! Offers of any shape, what is said of addresses afterwards, and datagrams to a session that has been offered something. The first
//! byte says which.
#![no_main]

use std::sync::Arc;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use shardcast_engine::{
    codec::Parameters,
    limits::DoorLimits,
    media::{Frame, Payload, StreamName, TrackId},
    session::{
        Answer, Event, Input, Opening, Output, Session as _, Shelf,
        signal::{Key, Reply, Request, Signal, Venue},
    },
    time::{MediaTime, Now},
    webrtc::{Session, greet, wire},
};

/// What a browser offers, in short.
const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=rtcp-mux\r\na=mid:0\r\na=sendrecv\r\n\
    a=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdef01234567\r\n\
    a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n\
    a=setup:actpass\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=rtcp-mux\r\na=mid:1\r\na=sendrecv\r\n\
    a=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdef01234567\r\na=setup:actpass\r\n\
    a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n\
    a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n";

fuzz_target!(|input: &[u8]| {
    let Some((how, rest)) = input.split_first() else { return };
    let publish = how & 1 == 0;
    match how >> 1 & 3 {
        0 => offered(publish, &String::from_utf8_lossy(rest)),
        1 => edited(publish, rest),
        2 => spoken(publish, rest),
        _ => {
            for (kind, range) in wire::Packets::new(rest) {
                assert!(range.end <= rest.len(), "{kind:?}");
            }
        }
    }
});

/// Each offer has one answer, whatever it says.
fn offered(publish: bool, sdp: &str) {
    let mut peer = Peer::new();
    peer.offer(publish, sdp);
    assert_eq!(peer.replies.len(), 1);
}

/// The offer of a browser with lines left out, doubled, moved and damaged.
fn edited(publish: bool, edits: &[u8]) {
    let mut lines: Vec<Vec<u8>> = OFFER.lines().map(|line| line.as_bytes().to_vec()).collect();
    for edit in edits.chunks_exact(3) {
        let (place, other) = (usize::from(edit[1]) % lines.len(), usize::from(edit[2]));
        match edit[0] & 3 {
            0 if lines.len() > 1 => drop(lines.remove(place)),
            1 if lines.len() < 200 => lines.insert(other % lines.len(), lines[place].clone()),
            2 => {
                let other = other % lines.len();
                lines.swap(place, other);
            }
            _ => {
                let line = &mut lines[place];
                if let Some(at) = other.checked_rem(line.len()) {
                    line[at] ^= edit[0] >> 2;
                }
            }
        }
    }
    let sdp: Vec<u8> = lines.join(&b"\r\n"[..]);
    offered(publish, &String::from_utf8_lossy(&sdp));
}

/// A session that stands, and what is said to it: datagrams behind their lengths, and fragments of descriptions.
fn spoken(publish: bool, mut rest: &[u8]) {
    let mut peer = Peer::new();
    peer.offer(publish, OFFER);
    let [Reply::Accepted { key, tag, .. }] = &peer.replies[..] else { panic!("{:?}", peer.replies) };
    let (key, tag) = (*key, tag.clone());
    let mut shelf = Shelf::default();
    while let Some(([what, length], more)) = rest.split_first_chunk() {
        let (piece, more) = more.split_at(usize::from(*length).min(more.len()));
        rest = more;
        let replies = peer.replies.len();
        match what & 3 {
            0 => {
                let fragment = String::from_utf8_lossy(piece).into_owned();
                let request = Request::Trickle { key, tag: Some(tag.clone()), fragment };
                peer.signal(request);
                assert!(peer.closed || peer.replies.len() == replies + 1);
            }
            1 if piece.is_empty() => peer.give(Input::Timeout),
            1 => peer.signal(Request::End { key: Key { secret: key.secret ^ 1, ..key } }),
            2 => {
                let taken = peer.session.room(peer.now);
                if taken > 0 && !piece.is_empty() {
                    let taken = peer.session.carry(&Bytes::copy_from_slice(piece), &mut shelf, peer.now);
                    assert!(taken <= piece.len());
                    peer.drain();
                }
            }
            _ if piece.is_empty() => {}
            _ => {
                let address = ([192, 0, 2, what >> 2], 4000).into();
                let _ = greet(piece, address, &DoorLimits::default(), peer.now);
                peer.give(Input::From { address, bytes: piece });
            }
        }
        peer.now.0 += u64::from(*what) * 1_000_000;
    }
}

struct Peer {
    session: Session,
    now: Now,
    replies: Vec<Reply>,
    closed: bool,
}

impl Peer {
    fn new() -> Peer {
        let now = Now(1_000_000_000);
        let mut session = Session::new(&DoorLimits::default(), now);
        let addresses = Arc::from([([192, 0, 2, 1], 8189).into()]);
        session.meets_at(Venue { core: 0, number: 1, addresses });
        Peer { session, now, replies: Vec::new(), closed: false }
    }

    fn offer(&mut self, publish: bool, sdp: &str) {
        let (query, sdp) = (String::new(), sdp.to_owned());
        self.signal(Request::Offer { publish, query, proof: None, sdp });
    }

    fn signal(&mut self, request: Request) {
        let name = StreamName::parse("live/cam").expect("a legal name");
        self.give(Input::Signal(&Signal { name, request }));
    }

    fn give(&mut self, input: Input<'_>) {
        if self.closed {
            return;
        }
        self.closed |= self.session.handle(input, self.now).is_err();
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.session.poll() {
            match output {
                Output::Event(Event::Describe { .. }) => {
                    let time = MediaTime { ticks: 0, rate: 1000 };
                    let payload = Payload::Parameters(Arc::new(Parameters::of_opus(2)));
                    let frame = Frame { track: TrackId::AUDIO, dts: time, pts: time, payload };
                    let opening = Opening { parameters: vec![frame], ..Opening::default() };
                    self.give(Input::Described(Box::new(opening)));
                }
                Output::Event(Event::Publish { .. }) => self.give(Input::Answer(Answer::Publishing)),
                Output::Event(Event::Play { .. }) => self.give(Input::Answer(Answer::Playing)),
                Output::Event(Event::Reply(reply)) => self.replies.push(*reply),
                Output::Datagrams { bytes, size } => assert!(!bytes.is_empty() && size > 0),
                Output::Datagram { bytes, .. } => assert!(!bytes.is_empty()),
                Output::Close => self.closed = true,
                Output::Event(_) | Output::Address(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}
