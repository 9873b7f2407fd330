//! Media beside the connection, and proofs of passwords.

use super::*;
use crate::access::{Algorithm, Proof};

const OFFER: PortOffer = PortOffer { first: 8000, shard: 1, shards: 4, owner: |_, _| 3 };
const MINUTE: Duration = Duration::from_secs(60);

fn offered() -> Room {
    let mut room = Room::new();
    room.session.offer_ports(OFFER);
    room
}

fn by_ports(first: u16) -> String {
    format!("Transport: RTP/AVP;unicast;client_port={first}-{};destination=192.0.2.9\r\n", first + 1)
}

impl Room {
    fn set_up_beside(&mut self, track: u8, first: u16) -> String {
        self.ask("SETUP", &format!("{PLAY}/trackID={track}"), &by_ports(first), "")
    }
    fn datagram(&mut self, channel: u8, bytes: &[u8], now: Now) {
        self.give(Input::Datagram { channel, bytes }, now).unwrap();
    }
}

#[test]
fn a_player_is_sent_to_its_ports_for_as_long_as_it_gives_a_sign_of_life() {
    let mut room = offered();
    room.describe();
    let answer = room.set_up_beside(0, 5000);
    assert!(answer.contains("Transport: RTP/AVP;unicast;client_port=5000-5001;server_port=8002-8003;ssrc="));
    assert!(answer.contains(";timeout=60"), "{answer}");
    assert!(room.set_up(1).starts_with("RTSP/1.0 461"), "all tracks go one way");
    assert!(room.set_up_beside(1, 5000).starts_with("RTSP/1.0 400"), "these ports are the other track's");
    assert!(room.set_up_beside(1, 5002).contains("client_port=5002-5003;server_port=8002-8003"));
    room.ask("PLAY", PLAY, "", "");
    assert!(room.answer(Answer::Playing).contains("200 OK"));
    let ports = Ports(vec![(0, 5000), (1, 5001), (2, 5002), (3, 5003)]);
    assert_eq!(room.ports, [Some(ports)]);
    // What opens a way through routers is no sign of life, and neither is what comes to the port for media.
    let report = [0x80, 201, 0, 1, 1, 2, 3, 4];
    room.datagram(0, &report, Now(1));
    room.datagram(1, &[0; 12], Now(1));
    assert_eq!(room.session.deadline(), Some(Now(0).after(MINUTE)));
    room.datagram(3, &report, Now(5));
    assert_eq!(room.session.deadline(), Some(Now(5).after(MINUTE)));
    room.give(Input::Timeout, Now(0).after(MINUTE)).unwrap();
    let mut other = offered();
    other.describe();
    other.set_up_beside(1, 5000);
    other.ask("PLAY", PLAY, "", "");
    other.answer(Answer::Playing);
    let error = other.give(Input::Timeout, Now(0).after(MINUTE)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::TimedOut);

    assert!(room.ask("TEARDOWN", PLAY, "", "").contains("200 OK"));
    assert!(matches!(room.events.last(), Some(Event::Stop)) && room.ports.last() == Some(&None));
}

#[test]
fn a_viewer_by_ports_hears_goodbye_there() {
    let mut room = offered();
    room.describe();
    room.set_up_beside(1, 5000);
    room.ask("PLAY", PLAY, "", "");
    room.answer(Answer::Playing);
    room.said.clear();
    room.give(Input::Ended, Now(0)).unwrap();
    assert!(room.said.is_empty() && room.packets.starts_with(b"$\x03\0\x10"));
    // It may still say what it does at an end, and is closed if it does not go.
    assert!(
        room.ask("PLAY", PLAY, "", "").contains("455") && room.ask("PAUSE", PLAY, "", "").contains("200 OK")
    );
    let due = room.session.deadline().unwrap();
    assert!(!room.closed && due == Now(0).after(DoorLimits::default().handshake));
    room.give(Input::Timeout, due).unwrap();
    assert!(room.closed);
    let mut other = offered();
    other.describe();
    other.set_up_beside(1, 5000);
    other.ask("PLAY", PLAY, "", "");
    other.answer(Answer::Playing);
    other.give(Input::Shutdown, Now(0)).unwrap();
    assert!(other.closed && !other.packets.is_empty());
}

/// A publisher of sound whose packets come to the ports of its stream's owner.
fn publishing() -> Room {
    let mut room = offered();
    assert!(room.ask("ANNOUNCE", PLAY, "Content-Type: application/sdp\r\n", ANNOUNCED).contains("200 OK"));
    let answer = room.ask("SETUP", &format!("{PLAY}/streamid=1"), &by_ports(6000), "");
    assert!(answer.contains("client_port=6000-6001;server_port=8006-8007;mode=record"), "{answer}");
    room.ask("RECORD", PLAY, "", "");
    room.answer(Answer::Publishing);
    assert_eq!(room.ports, [Some(Ports(vec![(2, 6000), (3, 6001)]))]);
    room.events.clear();
    room
}

fn sound(sequence: u8) -> [u8; 15] {
    [0x80, 97, 0, sequence, 0, 0, sequence, 0, 1, 2, 3, 4, 0xfc, 0xff, sequence]
}

impl Room {
    fn heard(&mut self) -> Vec<u8> {
        let last = |event: Event| match event {
            Event::Frame(Frame { payload: Payload::Audio { data, .. }, .. }) => data.last().copied(),
            _ => None,
        };
        std::mem::take(&mut self.events).into_iter().filter_map(last).collect()
    }
}

#[test]
fn a_publishers_packets_come_in_any_order_and_what_is_lost_is_not_waited_for_for_ever() {
    let mut room = publishing();
    for sequence in [1, 3, 2, 2, 4, 6, 7] {
        room.datagram(2, &sound(sequence), Now(10));
    }
    assert_eq!(room.heard(), [1, 2, 3, 4]);
    // Of another payload type, of another channel, and inside the connection: none of them is its track's next.
    let mut strange = sound(5);
    strange[1] = 0;
    room.datagram(2, &strange, Now(11));
    room.datagram(4, &sound(5), Now(11));
    room.give(Input::Received(&[&b"$\x02\0\x0f"[..], &sound(5)].concat()), Now(11)).unwrap();
    assert_eq!(room.heard(), [0; 0]);
    let due = room.session.deadline().unwrap();
    assert!(due < Now(10).after(Duration::from_secs(1)));
    room.give(Input::Timeout, due).unwrap();
    assert_eq!(room.heard(), [6, 7]);
    // What waits when it ends is given.
    room.datagram(2, &sound(9), due);
    room.ask("TEARDOWN", PLAY, "", "");
    assert_eq!(room.ports.last(), Some(&None));
    assert_eq!(room.heard(), [9]);
}

#[test]
fn a_publisher_is_told_at_its_port_what_has_come() {
    let mut room = publishing();
    room.datagram(2, &sound(1), Now(10));
    let due = room.session.deadline().unwrap();
    room.give(Input::Timeout, due).unwrap();
    assert!(room.packets.starts_with(b"$\x03") && room.packets[5] == 201, "{:?}", room.packets);
    // Only datagrams keep it, and its silence ends it.
    room.datagram(2, &sound(2), due.after(MINUTE / 2));
    assert_eq!(room.give(Input::Timeout, due.after(2 * MINUTE)).unwrap_err().kind, ErrorKind::TimedOut);
}

/// What a client answers to a challenge.
fn authorization(challenge: &str, method: &str, key: &str) -> String {
    let nonce = challenge.split("nonce=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a number");
    let find = |algorithm: Algorithm| {
        // The proof's own reckoning finds the one of these that proves the key.
        let proof = Proof {
            algorithm,
            user: "cam".into(),
            realm: "shardcast".into(),
            method: method.into(),
            uri: PLAY.into(),
            nonce: nonce.into(),
            counted: None,
            response: String::new(),
        };
        proof.response_for(key)
    };
    format!(
        "Authorization: Digest username=\"cam\", realm=\"shardcast\", nonce=\"{nonce}\", uri=\"{PLAY}\", response=\"{}\"\r\n",
        find(Algorithm::Md5)
    )
}

#[test]
fn a_peer_may_prove_that_it_knows_a_key() {
    let mut room = Room::new();
    room.ask("DESCRIBE", PLAY, "", "");
    let refused = room.answer(Answer::Refused(Refusal::Forbidden));
    let challenges: Vec<&str> =
        refused.lines().filter_map(|line| line.strip_prefix("WWW-Authenticate: ")).collect();
    let [sha256, md5, basic] = &challenges[..] else { panic!("{refused}") };
    assert!(
        sha256.contains("algorithm=SHA-256") && md5.contains("algorithm=MD5") && basic.starts_with("Basic")
    );
    room.events.clear();
    let header = authorization(&refused, "DESCRIBE", "secret");
    room.ask("DESCRIBE", PLAY, &header, "");
    let [Event::Prove(proof), Event::Describe { query, .. }] = &room.events[..] else {
        panic!("{:?}", room.events)
    };
    assert!(query.is_empty() && proof.proves("secret") && !proof.proves("guess"));
    room.said.clear();
    room.give(Input::Described(Box::new(opening())), Now(0)).unwrap();
    room.set_up(0);
    // Of one method it is none of another, and without one nothing is proved.
    room.events.clear();
    room.ask("PLAY", PLAY, &header, "");
    assert!(matches!(&room.events[..], [Event::Prove(proof), _] if !proof.proves("secret")));
}

#[test]
fn a_number_that_was_given_to_another_is_stale() {
    let mut other = Room::new();
    other.ask("DESCRIBE", PLAY, "", "");
    let challenge = other.answer(Answer::Refused(Refusal::Forbidden));
    let header = authorization(&challenge, "DESCRIBE", "secret");
    let mut room = Room::new();
    let refused = room.ask("DESCRIBE", PLAY, &header, "");
    assert!(refused.starts_with("RTSP/1.0 401") && refused.contains("stale=true"), "{refused}");
    assert!(room.events.is_empty() && !room.closed);
    let header = authorization(&refused, "DESCRIBE", "secret");
    room.ask("DESCRIBE", PLAY, &header, "");
    assert!(matches!(&room.events[..], [Event::Prove(_), Event::Describe { .. }]));
}
