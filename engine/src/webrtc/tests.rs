//! The session beside the library as a peer: the whole way without sockets.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use str0m::{
    Candidate, Event as Told, IceCreds, Input as In, Rtc,
    change::{SdpAnswer, SdpPendingOffer},
    media::{Direction, MediaKind, Mid},
    net::{Protocol, Receive},
    rtp::{RtpPacket, RtpWrite, SeqNo},
};

use super::{Session, epoch::instant, greet};
use crate::{
    codec::{
        Codec, Parameters, h264,
        samples::{self, hex},
    },
    datagram::Greeting,
    limits::DoorLimits,
    media::{Frame, Payload, StreamName, TrackId},
    session::{
        Answer, Event, Form, Input, Opening, Output, Refusal, Session as _, Shelf,
        signal::{Fault, Key, Reply, Request, Signal, Venue},
    },
    time::{MediaTime, Now},
};

const OURS: &str = "192.0.2.1:8189";
const THEIRS: &str = "198.51.100.7:4000";

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A session, its peer, and a network between them that loses what it is told to.
struct Pair {
    session: Session,
    peer: Rtc,
    now: Now,
    from: SocketAddr,
    /// Where the session sends media to.
    met: SocketAddr,
    opening: Opening,
    events: Vec<Event>,
    replies: Vec<Reply>,
    packets: Vec<RtpPacket>,
    told: Vec<Told>,
    /// What the session sends, each a datagram.
    back: VecDeque<Bytes>,
    refuse: Option<Refusal>,
    form: Option<&'static Form>,
    closed: bool,
    /// One in so many of the datagrams to the peer is lost.
    lose: Option<usize>,
    count: usize,
}

impl Pair {
    fn new() -> Pair {
        let now = Now(1_000_000_000);
        let mut session = Session::new(&DoorLimits::default(), now);
        session.meets_at(Venue { core: 0, number: 7, addresses: Arc::from([address(OURS)]) });
        let mut peer = Rtc::builder().set_rtp_mode(true).build(instant(now));
        peer.add_local_candidate(Candidate::host(address(THEIRS), "udp").expect("a candidate"));
        Pair {
            session,
            peer,
            now,
            from: address(THEIRS),
            met: address(THEIRS),
            opening: Opening::default(),
            events: Vec::new(),
            replies: Vec::new(),
            packets: Vec::new(),
            told: Vec::new(),
            back: VecDeque::new(),
            refuse: None,
            form: None,
            closed: false,
            lose: None,
            count: 0,
        }
    }

    /// Offers pictures and sound.
    fn offer(&mut self, publish: bool) -> (SdpPendingOffer, [Mid; 2]) {
        let direction = if publish { Direction::SendOnly } else { Direction::RecvOnly };
        let mut api = self.peer.sdp_api();
        let mids =
            [MediaKind::Video, MediaKind::Audio].map(|kind| api.add_media(kind, direction, None, None, None));
        let (offer, pending) = api.apply().expect("something is offered");
        let name = StreamName::parse("live/cam").expect("a name");
        let request =
            Request::Offer { publish, query: String::new(), proof: None, sdp: offer.to_sdp_string() };
        self.give(Input::Signal(&Signal { name, request }));
        (pending, mids)
    }

    fn give(&mut self, input: Input<'_>) {
        let _ = self.session.handle(input, self.now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.session.poll() {
            match output {
                Output::Datagram { to, bytes } if to == self.from => self.back.push_back(bytes),
                Output::Address(to) => self.met = to,
                // What goes to where it was before is lost.
                Output::Datagram { to, .. } => assert_eq!(to, address(THEIRS)),
                Output::Datagrams { .. } if self.met != self.from => assert_eq!(self.met, address(THEIRS)),
                Output::Datagrams { bytes, size } => {
                    let starts = (0..bytes.len()).step_by(usize::from(size));
                    let cut = starts.map(|at| bytes.slice(at..bytes.len().min(at + usize::from(size))));
                    self.back.extend(cut);
                }
                Output::Event(Event::Describe { .. }) if self.refuse.is_none() => {
                    let opening = Box::new(self.opening.clone());
                    self.give(Input::Described(opening));
                }
                Output::Event(
                    event @ (Event::Describe { .. } | Event::Play { .. } | Event::Publish { .. }),
                ) => {
                    let answer = match (self.refuse, &event) {
                        (Some(refusal), _) => Answer::Refused(refusal),
                        (None, Event::Publish { .. }) => Answer::Publishing,
                        (None, _) => Answer::Playing,
                    };
                    if let Event::Play { form, .. } = event {
                        self.form = Some(form);
                    }
                    self.give(Input::Answer(answer));
                }
                Output::Event(Event::Reply(reply)) => self.replies.push(*reply),
                Output::Event(event) => self.events.push(event),
                Output::Close => self.closed = true,
                other => panic!("{other:?}"),
            }
        }
    }

    /// Takes the answer.
    fn accept(&mut self, pending: SdpPendingOffer) -> (Key, String, String) {
        let Some(Reply::Accepted { key, tag, sdp }) = self.replies.pop() else {
            panic!("{:?}", self.replies)
        };
        let answer = SdpAnswer::from_sdp_string(&sdp).expect("an answer");
        self.peer.sdp_api().accept_answer(pending, answer).expect("an answer to this offer");
        (key, tag, sdp)
    }

    /// Five milliseconds pass.
    fn step(&mut self) {
        self.now = self.now.after(Duration::from_millis(5));
        self.peer.handle_input(In::Timeout(instant(self.now))).expect("time goes on");
        for datagram in self.spoken() {
            if matches!(datagram[0], 0..=3) {
                let greeting = greet(&datagram, self.from, &DoorLimits::default(), self.now);
                assert!(matches!(greeting, Greeting::For(7) | Greeting::Known), "{greeting:?}");
            }
            let address = self.from;
            self.give(Input::From { address, bytes: &datagram });
        }
        if self.session.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.give(Input::Timeout);
        }
        while let Some(datagram) = self.back.pop_front() {
            self.count += 1;
            if self.lose.is_some_and(|lose| self.count.is_multiple_of(lose)) {
                continue;
            }
            let receive = Receive {
                proto: Protocol::Udp,
                source: address(OURS),
                destination: self.from,
                contents: (&datagram[..]).try_into().expect("a datagram"),
            };
            self.peer.handle_input(In::Receive(instant(self.now), receive)).expect("the peer takes it");
            for datagram in self.spoken() {
                let address = self.from;
                self.give(Input::From { address, bytes: &datagram });
            }
        }
    }

    /// What the peer sends.
    fn spoken(&mut self) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        loop {
            match self.peer.poll_output().expect("the peer goes on") {
                str0m::Output::Transmit(transmit) => out.push(transmit.contents.into()),
                str0m::Output::Event(Told::RtpPacket(packet)) => self.packets.push(packet),
                str0m::Output::Event(event) => self.told.push(event),
                str0m::Output::Timeout(_) => return out,
            }
        }
    }

    fn connect(&mut self) {
        for _ in 0..400 {
            if self.peer.is_connected() && self.session.room(self.now) > 0 {
                return;
            }
            self.step();
        }
        assert!(self.peer.is_connected(), "{:?}", self.told);
    }

    /// Gives the session a piece of its form, as much as it takes at a time.
    fn carry(&mut self, mut bytes: Bytes, shelf: &mut Shelf) {
        for _ in 0..10_000 {
            if bytes.is_empty() {
                return;
            }
            if self.session.room(self.now) == 0 {
                self.step();
                continue;
            }
            let taken = self.session.carry(&bytes, shelf, self.now);
            bytes = bytes.slice(taken..);
            self.drain();
        }
        panic!("a session that takes no more");
    }
}

fn parameters(codec: Codec, configuration: &str) -> Frame {
    let parameters = Parameters::parse(codec, hex(configuration).into()).expect("parameters");
    of(TrackId::VIDEO, 0, Payload::Parameters(Arc::new(parameters)))
}

fn of(track: TrackId, millis: i64, payload: Payload) -> Frame {
    let time = MediaTime { ticks: millis, rate: 1000 };
    Frame { track, dts: time, pts: time, payload }
}

/// A film of H.264 and Opus: a key frame each half second, whose pictures take several packets.
fn film() -> (Opening, Vec<Frame>) {
    let sound = of(TrackId::AUDIO, 0, Payload::Parameters(Arc::new(Parameters::of_opus(2))));
    let opening = Opening {
        parameters: vec![parameters(Codec::H264, samples::H264_HIGH_720), sound],
        ..Opening::default()
    };
    let mut frames = Vec::new();
    for number in 0..50_i64 {
        let key = number % 15 == 0;
        let len = if key { 9_000 } else { 2_500 };
        let mut data = BytesMut::new();
        data.extend_from_slice(&(len as u32).to_be_bytes());
        data.extend_from_slice(&[if key { 0x65 } else { 0x41 }]);
        data.resize(4 + len, number as u8);
        let data = data.freeze();
        frames.push(of(TrackId::VIDEO, number * 33, Payload::Video { codec: Codec::H264, key, data }));
        let data = Bytes::from(vec![0xfc, number as u8, 1, 2]);
        frames.push(of(TrackId::AUDIO, number * 33, Payload::Audio { codec: Codec::Opus, data }));
    }
    (opening, frames)
}

/// The film as the form has it.
fn muxed(form: &Form, opening: &Opening, frames: &[Frame]) -> Bytes {
    let (mut wire, mut out) = ((form.open)(), BytesMut::new());
    wire.header(opening, &frames[0], &mut out);
    frames.iter().for_each(|frame| wire.frame(frame, &mut out));
    out.freeze()
}

#[test]
fn a_viewer_gets_every_packet_of_the_stream_through_a_network_that_loses_some() {
    let mut pair = Pair::new();
    let (opening, frames) = film();
    pair.opening = opening.clone();
    let (pending, mids) = pair.offer(false);
    let (_, _, sdp) = pair.accept(pending);
    assert!(sdp.contains("a=ice-lite") && sdp.contains("192.0.2.1 8189 typ host"), "{sdp}");
    pair.connect();
    assert!(matches!(pair.events[..], [Event::Pause(true), Event::Pause(false)]), "{:?}", pair.events);
    let bytes = muxed(pair.form.expect("it plays"), &opening, &frames);
    // The last of what is lost is missed once more has come.
    for lose in [None, Some(20), None] {
        pair.lose = lose;
        let ends: Vec<usize> = super::wire::Packets::new(&bytes).map(|(_, range)| range.end).collect();
        let mut from = 0;
        for end in ends.chunks(6).filter_map(|ends| ends.last()) {
            pair.carry(bytes.slice(from..*end), &mut Shelf::default());
            from = *end;
            (0..4).for_each(|_| pair.step());
        }
    }
    (0..600).for_each(|_| pair.step());
    let film: Vec<_> = super::wire::Packets::new(&bytes).collect();
    let expected = [&film[..], &film[..], &film[..]].concat();
    let path = pair.session.path().expect("media flows");
    assert_eq!((path.connections, path.sent_packets), (1, expected.len() as u64));
    assert!(path.sent_again_packets > 0, "{path:?}");
    for (kind, mid) in [(super::wire::Kind::Video, mids[0]), (super::wire::Kind::Audio, mids[1])] {
        let sent: Vec<&[u8]> = expected
            .iter()
            .filter(|(found, _)| *found == kind)
            .map(|(_, range)| &bytes[range.start + 12..range.end])
            .collect();
        let mut came: Vec<_> = pair
            .packets
            .iter()
            .filter(|packet| {
                pair.peer.media(mid).is_some_and(|media| media.mid() == mid) && of_mid(packet, kind)
            })
            .collect();
        came.sort_by_key(|packet| packet.seq_no);
        let came: Vec<&[u8]> = came.iter().map(|packet| &packet.payload[..]).collect();
        // What of the sound was lost is not sent again.
        if kind == super::wire::Kind::Video {
            assert_eq!(came.len(), sent.len());
            assert!(came == sent);
        } else {
            assert!(came.len() * 10 >= sent.len() * 8, "{} of {}", came.len(), sent.len());
        }
    }
}

fn of_mid(packet: &RtpPacket, kind: super::wire::Kind) -> bool {
    (*packet.header.payload_type == 111) == (kind == super::wire::Kind::Audio)
}

#[test]
fn a_publisher_becomes_a_stream_and_is_asked_for_key_frames() {
    let mut pair = Pair::new();
    let (pending, mids) = pair.offer(true);
    let (key, tag, _) = pair.accept(pending);
    pair.connect();
    let number = pair.peer.media(mids[0]).expect("pictures").remote_pts()[0];
    // A key frame of two parameter sets and a picture, each a packet of its own.
    let text = hex(samples::H264_HIGH_720);
    let config = h264::Configuration::parse(&text).expect("a configuration");
    let units: [&[u8]; 3] =
        [config.sequence_parameter_sets[0], config.picture_parameter_sets[0], &[0x65, 0x88, 1, 2, 3]];
    for (place, unit) in units.iter().enumerate() {
        let wallclock = instant(pair.now);
        let write = RtpWrite::new(number, SeqNo::from(100 + place as u64), 9_000, wallclock, unit.to_vec());
        let mut api = pair.peer.direct_api();
        api.stream_tx_by_mid(mids[0], None)
            .expect("it sends")
            .write_rtp(write.marker(place == 2).nackable(true));
        pair.step();
    }
    (0..20).for_each(|_| pair.step());
    let keys = pair.events.iter().filter(|event| matches!(event, Event::Frame(frame) if frame.is_key()));
    assert_eq!(keys.count(), 1, "{:?}", pair.events);
    pair.give(Input::KeyframeWanted);
    (0..20).for_each(|_| pair.step());
    assert!(pair.told.iter().any(|told| matches!(told, Told::KeyframeRequest(_))), "{:?}", pair.told);
    // Whoever has not been told the secret cannot end it.
    let name = StreamName::parse("live/cam").expect("a name");
    let end = |key| Signal { name: name.clone(), request: Request::End { key } };
    pair.give(Input::Signal(&end(Key { secret: key.secret ^ 1, ..key })));
    assert!(
        matches!(pair.replies.pop(), Some(Reply::Refused { fault: Fault::NotFound, .. })) && !pair.closed
    );
    let _ = tag;
    pair.give(Input::Signal(&end(key)));
    assert!(matches!(pair.replies.pop(), Some(Reply::Ended)) && pair.closed);
    assert!(pair.events.iter().any(|event| matches!(event, Event::Unpublish)));
    (0..5).for_each(|_| pair.step());
    assert!(
        !pair.peer.is_alive() || pair.told.iter().any(|told| matches!(told, Told::Closed)),
        "{:?}",
        pair.told
    );
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    for (refusal, fault) in [
        (Refusal::NotFound, Fault::NotFound),
        (Refusal::Forbidden, Fault::Forbidden),
        (Refusal::AlreadyLive, Fault::Conflict),
        (Refusal::Full, Fault::Unavailable),
    ] {
        for publish in [true, false] {
            let mut pair = Pair::new();
            pair.refuse = Some(refusal);
            pair.offer(publish);
            let [Reply::Refused { fault: found, .. }] = &pair.replies[..] else {
                panic!("{:?}", pair.replies)
            };
            assert_eq!(*found, fault);
        }
    }
    // A stream of which a browser takes nothing.
    let mut pair = Pair::new();
    let aac = Parameters::parse(Codec::Aac, hex("1210").into()).expect("AAC");
    pair.opening.parameters = vec![of(TrackId::AUDIO, 0, Payload::Parameters(Arc::new(aac)))];
    pair.offer(false);
    let [Reply::Refused { fault: Fault::Unsuited, why }] = &pair.replies[..] else {
        panic!("{:?}", pair.replies)
    };
    assert!(why.contains("aac"), "{why}");
    for sdp in ["", "hello", "v=0\r\n", "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"] {
        let mut pair = Pair::new();
        let name = StreamName::parse("live/cam").expect("a name");
        let request =
            Request::Offer { publish: true, query: String::new(), proof: None, sdp: sdp.to_owned() };
        pair.give(Input::Signal(&Signal { name, request }));
        assert!(matches!(pair.replies[..], [Reply::Refused { .. }]), "{sdp}: {:?}", pair.replies);
    }
}

#[test]
fn a_peer_that_changes_its_network_says_so_and_goes_on() {
    let mut pair = Pair::new();
    let (opening, frames) = film();
    pair.opening = opening.clone();
    let (pending, _) = pair.offer(false);
    let (key, tag, _) = pair.accept(pending);
    pair.connect();
    let name = StreamName::parse("live/cam").expect("a name");
    let trickle = |tag: Option<&str>, fragment: &str| Signal {
        name: name.clone(),
        request: Request::Trickle { key, tag: tag.map(str::to_owned), fragment: fragment.to_owned() },
    };
    for (tag, fragment, fault) in [
        (None, "a=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n", Fault::Untagged),
        (Some("other"), "a=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n", Fault::Outdated),
        (Some(&tag[..]), "nothing", Fault::Malformed),
        (Some("*"), "a=ice-ufrag:a b\r\na=ice-pwd:short\r\n", Fault::Malformed),
    ] {
        pair.give(Input::Signal(&trickle(tag, fragment)));
        let Some(Reply::Refused { fault: found, .. }) = pair.replies.pop() else { panic!("{fragment}") };
        assert_eq!(found, fault, "{fragment}");
    }
    pair.give(Input::Signal(&trickle(Some(&tag), "a=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n")));
    assert!(matches!(pair.replies.pop(), Some(Reply::Trickled { fragment: None, .. })));
    let begun = "a=ice-ufrag:newfragment\r\na=ice-pwd:a-new-password-is-not-legal\r\n".replace('-', "+");
    let begun = begun.replace("a=ice+", "a=ice-");
    pair.give(Input::Signal(&trickle(Some("*"), &begun)));
    let Some(Reply::Trickled { tag: new, fragment: Some(fragment) }) = pair.replies.pop() else { panic!() };
    assert!(
        new != tag && fragment.contains("a=ice-ufrag:") && fragment.contains("192.0.2.1 8189"),
        "{fragment}"
    );
    // It is somewhere else from here on, and media comes there at once, though consent for the old place holds.
    let found = |name: &str| {
        fragment.lines().find_map(|line| line.strip_prefix(name)).expect("it is said").to_owned()
    };
    let theirs = IceCreds { ufrag: found("a=ice-ufrag:"), pass: found("a=ice-pwd:") };
    let own = IceCreds { ufrag: "newfragment".to_owned(), pass: "a+new+password+is+not+legal".to_owned() };
    let moved = "203.0.113.9:5000";
    pair.from = address(moved);
    let mut api = pair.peer.direct_api();
    api.invalidate_candidate(&Candidate::host(address(THEIRS), "udp").expect("a candidate"));
    api.set_local_ice_credentials(own);
    api.set_remote_ice_credentials(theirs);
    pair.peer.add_local_candidate(Candidate::host(address(moved), "udp").expect("a candidate"));
    pair.peer.add_remote_candidate(Candidate::host(address(OURS), "udp").expect("a candidate"));
    let bytes = muxed(pair.form.expect("a form"), &opening, &frames);
    (0..400).for_each(|_| pair.step());
    pair.carry(bytes, &mut Shelf::default());
    (0..20).for_each(|_| pair.step());
    assert_eq!(pair.met, address(moved));
    assert!(pair.packets.len() >= frames.len(), "{} packets", pair.packets.len());
}

/// Numbers that look like chance.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most.max(1) as u64) as usize
    }

    /// A datagram with a few bytes of it others, or cut short.
    fn damage(&mut self, datagram: &[u8]) -> Vec<u8> {
        let mut damaged = datagram.to_vec();
        if self.below(4) == 0 {
            damaged.truncate(1 + self.below(damaged.len()));
        }
        for _ in 0..=self.below(3) {
            let place = self.below(damaged.len());
            damaged[place] ^= 1 << self.below(8);
        }
        damaged
    }
}

#[test]
fn what_others_say_in_a_peers_name_and_what_it_has_said_before_changes_nothing() {
    for seed in 1..=30 {
        let mut chance = Chance(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15));
        let mut pair = Pair::new();
        let (opening, frames) = film();
        pair.opening = opening.clone();
        let (pending, _) = pair.offer(false);
        pair.accept(pending);
        // The handshake has no keys yet: a forged word of it may end it, and the peer would begin anew.
        pair.connect();
        let bytes = muxed(pair.form.expect("it plays"), &opening, &frames);
        let ends: Vec<usize> = super::wire::Packets::new(&bytes).map(|(_, range)| range.end).collect();
        let (mut from, mut said) = (0, Vec::<Vec<u8>>::new());
        for end in ends.chunks(6).filter_map(|ends| ends.last()) {
            pair.carry(bytes.slice(from..*end), &mut Shelf::default());
            from = *end;
            said.extend(pair.spoken());
            for _ in 0..4 {
                if !said.is_empty() {
                    let datagram = said[chance.below(said.len())].clone();
                    // Requests for a binding that are damaged, and anything else again and damaged.
                    let forged = chance.damage(&datagram);
                    let address = pair.from;
                    pair.give(Input::From { address, bytes: &forged });
                    pair.give(Input::From { address, bytes: &datagram });
                }
                pair.step();
            }
        }
        (0..100).for_each(|_| pair.step());
        assert!(!pair.closed && pair.peer.is_alive(), "seed {seed}: {:?}", pair.told);
        assert!(pair.packets.len() >= ends.len(), "seed {seed}: {} of {}", pair.packets.len(), ends.len());
    }
}

#[test]
fn garbage_before_the_handshake_costs_nobody_but_its_session() {
    for seed in 1..=100 {
        let mut chance = Chance(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15));
        let mut pair = Pair::new();
        pair.opening = film().0;
        let (pending, _) = pair.offer(seed % 2 == 0);
        pair.accept(pending);
        for _ in 0..100 {
            for datagram in pair.spoken() {
                let bytes = if chance.below(2) == 0 { chance.damage(&datagram) } else { datagram };
                let address = pair.from;
                pair.give(Input::From { address, bytes: &bytes });
            }
            let noise: Vec<u8> = (0..1 + chance.below(60)).map(|_| chance.below(256) as u8).collect();
            let address = pair.from;
            pair.give(Input::From { address, bytes: &noise });
            pair.back.clear();
            pair.now = pair.now.after(Duration::from_millis(20));
            pair.peer.handle_input(In::Timeout(instant(pair.now))).expect("time goes on");
            if !pair.closed && pair.session.deadline().is_some_and(|deadline| deadline <= pair.now) {
                pair.give(Input::Timeout);
            }
        }
        assert!(pair.session.received() > 0);
    }
}
